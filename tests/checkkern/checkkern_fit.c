/* Fits of groups to codes: fit_range, fit_measure, fit_starts, fit_codes. All exact. */
#include <math.h>
#include <string.h>

#include "checkkern.h"

#define LANES SL_FIT_LANES

static const float values[SL_FIT_VALUES] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};

/* A case: groups, a pair for each, and what makes codes of them. */
typedef struct fit_case {
    sl__fit fit;
    float *scale, *minimum, *base, *span;
} fit_case;

static fit_case make_case(ck *k, uint32_t round)
{
    static const float lows[] = {0, 0, -4, -127, -32}, highs[] = {3, 31, 3, 127, 31};
    static const uint32_t lengths[] = {32, 64, 16, 1, 7};
    const unsigned kind = round % 6;
    fit_case c;
    c.fit.n = lengths[round / 6 % 5];
    c.fit.lanes = round % 4 == 0 ? LANES : 1 + ck_below(k, LANES);
    c.fit.values = kind == 5 ? values : NULL;
    c.fit.low = kind == 5 ? 0 : lows[kind];
    c.fit.high = kind == 5 ? 0 : highs[kind];
    c.fit.has_minimum = kind < 2;
    ck_case(k, "%u groups of %u, codes %g … %g", c.fit.lanes, c.fit.n, (double)c.fit.low,
            (double)c.fit.high);
    float *x = ck_random(k, (size_t)c.fit.n * LANES, -1, 1);
    c.fit.x = x;
    c.scale = ck_random(k, LANES, -0.2f, 0.2f);
    c.minimum = ck_random(k, LANES, -1, 0);
    c.base = ck_random(k, LANES, -1, -0.5f);
    c.span = ck_random(k, LANES, 0.5f, 2);
    for (uint32_t l = 0; l < LANES; l++) {
        if (!c.fit.has_minimum) c.minimum[l] = c.base[l] = 0;
        if (ck_below(k, 5) == 0) c.scale[l] = c.span[l] = 0;
        if (ck_below(k, 9) == 0) c.scale[l] = 1e-31f;
        for (uint32_t i = 0; i < c.fit.n && l % 5 == 4; i++) /* all one, and on a boundary */
            x[i * LANES + l] = c.scale[l] * 0.5f;
    }
    ck_seal(k);
    return c;
}
#define EACH_CASE(k, round) (uint32_t round = 0; round < ((k)->fast ? 60u : 600u); round++)

/* ---- the contract once more ------------------------------------------------------------------ */

static float inverse_of(float scale)
{
    return fabsf(scale) > 0x1p-100f ? 1.0f / scale : 0;
}

static float plain_code(const sl__fit *fit, float u)
{
    if (fit->values) {
        uint32_t best = 0;
        for (uint32_t i = 1; i < SL_FIT_VALUES; i++) {
            if (fabsf(u - fit->values[i]) < fabsf(u - fit->values[best])) best = i;
        }
        return fit->values[best];
    }
    return nearbyintf(fminf(fmaxf(u, fit->low), fit->high));
}

static float plain_ratio(float a, float b)
{
    return b > 0.5f ? a / b : 0;
}

static void plain_measure(const fit_case *c, sl__fit_sums *s, sl__fit_next *next)
{
    const sl__fit *fit = &c->fit;
    const float part = fit->has_minimum ? 1.0f / (float)fit->n : 0;
    memset(s, 0, sizeof *s);
    for (uint32_t l = 0; l < fit->lanes; l++) {
        const float scale = c->scale[l], minimum = c->minimum[l];
        for (uint32_t i = 0; i < fit->n; i++) {
            float x = fit->x[i * LANES + l];
            float code = plain_code(fit, (x - minimum) * inverse_of(scale));
            float decoded = scale * code, square, product;
            decoded += minimum;
            float e = x - decoded;
            square = e * e;
            product = code * e;
            s->e[l] += e;
            s->ee[l] += square;
            s->c[l] += code;
            s->cc[l] += code * code;
            s->ce[l] += product;
        }
        float mean = s->c[l] * part, em = s->e[l] * mean, cm = s->c[l] * mean;
        float by = plain_ratio(s->ce[l] - em, s->cc[l] - cm), bc = by * s->c[l];
        float rise = (s->e[l] - bc) * part;
        next->scale[l] = scale + by;
        next->minimum[l] = minimum + rise;
        next->mean_code[l] = mean;
    }
}

/* What is taken by one start; next's lane l is set to what least squares make of it. */
static float plain_start(const fit_case *c, uint32_t l, const sl__fit_start *start, float *slope,
                         float *minimum, float *mean)
{
    const sl__fit *fit = &c->fit;
    const float part = fit->has_minimum ? 1.0f / (float)fit->n : 0;
    float scale = c->span[l] * start->scale, lift = c->span[l] * start->minimum;
    float from = c->base[l] + lift, inverse = inverse_of(scale), above = 0;
    float sum = 0, squares = 0, products = 0;
    for (uint32_t i = 0; i < fit->n; i++) {
        float x = fit->x[i * LANES + l], u = (x - from) * inverse, code = plain_code(fit, u);
        float product = code * u;
        above += x - c->base[l];
        sum += code;
        squares += code * code;
        products += product;
    }
    above *= part;
    *mean = sum * part;
    float middle = (above - lift) * inverse, less = sum * middle, sm = sum * *mean;
    float shared = products - less;
    *slope = plain_ratio(shared, squares - sm) * scale;
    float back = *slope * *mean, rest = above - back;
    *minimum = fit->has_minimum ? c->base[l] + rest : 0;
    return *slope * (shared * scale);
}

/* ---- cases ----------------------------------------------------------------------------------- */

static float *whole(float *out, uint32_t n) /* zeros without a sign */
{
    for (uint32_t i = 0; i < n; i++)
        out[i] += 0.0f;
    return out;
}

static void same_next(ck *k, uint32_t lanes, sl__fit_next *got, sl__fit_next *want)
{
    ck_same(k, "the scale", whole(got->scale, lanes), whole(want->scale, lanes), lanes);
    ck_same(k, "the minimum", whole(got->minimum, lanes), whole(want->minimum, lanes), lanes);
    ck_same(k, "the mean", got->mean_code, want->mean_code, lanes);
}

static void check_range(ck *k)
{
    for
        EACH_CASE(k, round)
        {
            fit_case c = make_case(k, round);
            float lowest[LANES], highest[LANES];
            float *got = ck_output(k, 2 * sizeof lowest, 4);
            for (uint32_t l = 0; l < LANES; l++) {
                lowest[l] = highest[l] = c.fit.x[l];
                for (uint32_t i = 1; i < c.fit.n; i++) {
                    lowest[l] = fminf(lowest[l], c.fit.x[i * LANES + l]);
                    highest[l] = fmaxf(highest[l], c.fit.x[i * LANES + l]);
                }
            }
            k->kern->fit_range(&c.fit, got, got + LANES);
            ck_same(k, "the lowest", got, lowest, LANES);
            ck_same(k, "the highest", got + LANES, highest, LANES);
        }
}

static void check_measure(ck *k)
{
    for
        EACH_CASE(k, round)
        {
            fit_case c = make_case(k, round);
            sl__fit_sums *got = ck_output(k, sizeof *got, 4), want;
            sl__fit_next *next = ck_output(k, sizeof *next, 4), want_next;
            if (k->is_ref)
                plain_measure(&c, &want, &want_next);
            else
                k->ref->fit_measure(&c.fit, c.scale, c.minimum, &want, &want_next);
            k->kern->fit_measure(&c.fit, c.scale, c.minimum, got, next);
            const float *sums = got->e, *wanted = want.e;
            for (uint32_t i = 0; i < 5; i++)
                ck_same(k, "a sum", sums + i * LANES, wanted + i * LANES, c.fit.lanes);
            same_next(k, c.fit.lanes, next, &want_next);
        }
}

static void check_starts(ck *k)
{
    for
        EACH_CASE(k, round)
        {
            fit_case c = make_case(k, round);
            const float top = c.fit.values ? 113 : c.fit.high;
            sl__fit_start starts[9];
            uint32_t count = 1 + ck_below(k, 9);
            sl__fit_next *got = ck_output(k, sizeof *got, 4), want;
            for (uint32_t i = 0; i < count; i++)
                starts[i] = (sl__fit_start){ck_float(k, 0.5f, 1.2f) / top, ck_float(k, 0, 0.2f)};
            if (!c.fit.has_minimum) {
                for (uint32_t i = 0; i < count; i++)
                    starts[i].minimum = 0;
            }
            for (uint32_t l = 0; l < c.fit.lanes && k->is_ref; l++) {
                float most = -1, slope, minimum, mean;
                for (uint32_t i = 0; i < count; i++) {
                    float taken = plain_start(&c, l, &starts[i], &slope, &minimum, &mean);
                    if (!(taken > most)) continue;
                    most = taken;
                    want.scale[l] = slope;
                    want.minimum[l] = minimum;
                    want.mean_code[l] = mean;
                }
            }
            if (!k->is_ref) k->ref->fit_starts(&c.fit, c.base, c.span, starts, count, &want);
            k->kern->fit_starts(&c.fit, c.base, c.span, starts, count, got);
            same_next(k, c.fit.lanes, got, &want);
        }
}

static void check_codes(ck *k)
{
    for
        EACH_CASE(k, round)
        {
            fit_case c = make_case(k, round);
            int8_t *got = ck_output(k, (size_t)c.fit.n * LANES, 1);
            k->kern->fit_codes(&c.fit, c.scale, c.minimum, got);
            for (uint32_t i = 0; i < c.fit.n * LANES; i++) {
                uint32_t l = i % LANES;
                if (l >= c.fit.lanes) continue;
                float u = (c.fit.x[i] - c.minimum[l]) * inverse_of(c.scale[l]);
                if ((float)got[i] != plain_code(&c.fit, u)) ck_fail(k, "code %u is %d", i, got[i]);
            }
        }
}

/* ---- bench ----------------------------------------------------------------------------------- */

static void run_starts(const sl__kern *kern, void *ctx)
{
    static const sl__fit_start starts[16] = {{0.066f, 0}};
    static const float base[LANES], span[LANES] = {1};
    sl__fit_next next;
    kern->fit_starts(ctx, base, span, starts, 16, &next);
}

static void bench_starts(void)
{
    sl__fit fit = {ck_bench_floats((size_t)SL_GROUP * LANES), SL_GROUP, LANES, .high = 15,
                   .has_minimum = true};
    ck_time("fit_starts", "16 starts of 16 groups of 64", CK_FLOAT, 16 * 16 * 64, run_starts, &fit);
}

const ck_kernel ck_fit[] = {
    CK_KERNEL(fit_range, check_range, NULL),
    CK_KERNEL(fit_measure, check_measure, NULL),
    CK_KERNEL(fit_starts, check_starts, bench_starts),
    CK_KERNEL(fit_codes, check_codes, NULL),
    {NULL, 0, NULL, NULL},
};
