/* The search for scales and minimums; fit.h has the picture. */
#include "quant/fit.h"

#include <math.h>
#include <string.h>

/* ---- rounding -------------------------------------------------------------------------------- */

#define F16_MOST 65504.0f

static float nearest_f16(float x)
{
    uint32_t u, sign;
    memcpy(&u, &x, sizeof u);
    sign = u & 0x80000000u;
    u &= 0x7fffffffu;
    float size, tiny;
    memcpy(&tiny, &u, sizeof tiny);
    tiny = (tiny + 0.5f) - 0.5f; /* a multiple of 2^-24 */
    u = (u + 0xfffu + (u >> 13 & 1u)) & ~0x1fffu;
    memcpy(&size, &u, sizeof size);
    size = size < 0x1p-14f ? tiny : size;
    size = size < F16_MOST ? size : F16_MOST;
    memcpy(&u, &size, sizeof u);
    u |= sign;
    memcpy(&size, &u, sizeof size);
    return size;
}

static float nearest_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    u = (u + 0x7fffu + (u >> 16 & 1u)) & 0xffff0000u;
    memcpy(&x, &u, sizeof x);
    return x;
}

float sl__fit_round(sl__fit_form form, float x)
{
    return form == SL_FIT_F16 ? nearest_f16(x) : form == SL_FIT_BF16 ? nearest_bf16(x) : x;
}

void sl__fit_round_lanes(sl__fit_form form, sl__lanes *v)
{
    if (form == SL_FIT_BF16) {
        for (unsigned l = 0; l < SL_FIT_LANES; l++)
            v->of[l] = nearest_bf16(v->of[l]);
    } else if (form == SL_FIT_F16) {
        for (unsigned l = 0; l < SL_FIT_LANES; l++)
            v->of[l] = nearest_f16(v->of[l]);
    }
}

/* The next number of the form away from zero (1) or towards it (−1). */
static void step_lanes(sl__fit_form form, float direction, sl__lanes *v)
{
    const float part = form == SL_FIT_BF16 ? 0x1.2p-8f : 0x1.2p-11f;
    const float least = form == SL_FIT_BF16 ? 0 : 0x1p-24f; /* the step of subnormal halves */
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        float step = fabsf(v->of[l]) * part;
        v->of[l] += copysignf(step > least ? step : least, v->of[l]) * direction;
    }
    sl__fit_round_lanes(form, v);
}

/* ---- layout ---------------------------------------------------------------------------------- */

typedef float vec4 __attribute__((vector_size(16)));

/* Four values of four groups, turned: to[i · SL_FIT_LANES + l] = from[l][i]. */
static void turn(const float *const from[4], uint32_t i, float *to)
{
    vec4 row[4], low[2], high[2];
    for (unsigned l = 0; l < 4; l++)
        memcpy(&row[l], from[l] + i, sizeof *row);
    for (unsigned k = 0; k < 2; k++) {
        low[k] = __builtin_shufflevector(row[2 * k], row[2 * k + 1], 0, 4, 1, 5);
        high[k] = __builtin_shufflevector(row[2 * k], row[2 * k + 1], 2, 6, 3, 7);
    }
    row[0] = __builtin_shufflevector(low[0], low[1], 0, 1, 4, 5);
    row[1] = __builtin_shufflevector(low[0], low[1], 2, 3, 6, 7);
    row[2] = __builtin_shufflevector(high[0], high[1], 0, 1, 4, 5);
    row[3] = __builtin_shufflevector(high[0], high[1], 2, 3, 6, 7);
    for (unsigned k = 0; k < 4; k++)
        memcpy(to + (size_t)(i + k) * SL_FIT_LANES, &row[k], sizeof *row);
}

void sl__fit_load(sl__fit_groups *g, const float *x, uint32_t n, uint32_t lanes)
{
    g->fit.x = g->x;
    g->fit.n = n;
    g->fit.lanes = lanes;
    const float *from[SL_FIT_LANES];
    for (uint32_t l = 0; l < SL_FIT_LANES; l++)
        from[l] = x + (size_t)(l < lanes ? l : 0) * n;
    for (uint32_t l = 0; l < SL_FIT_LANES; l += 4) {
        uint32_t i = 0;
        for (; i + 4 <= n; i += 4)
            turn(from + l, i, g->x + l);
        for (; i < n; i++) {
            for (uint32_t k = l; k < l + 4; k++)
                g->x[(size_t)i * SL_FIT_LANES + k] = from[k][i];
        }
    }
    g->kern->fit_range(&g->fit, g->lowest.of, g->highest.of);
}

/* ---- measuring ------------------------------------------------------------------------------- */

void sl__fit_measure(const sl__fit_groups *g, const sl__lanes *scale, const sl__lanes *minimum,
                     sl__fitted *out)
{
    if (g->fit.lanes < SL_FIT_LANES) memset(out, 0, sizeof *out);
    g->kern->fit_measure(&g->fit, scale->of, minimum->of, &out->sums, &out->next);
    out->scale = *scale;
    out->minimum = *minimum;
    memcpy(&out->error, out->sums.ee, sizeof out->error);
}

void sl__fit_keep(sl__fitted *best, const sl__fitted *from)
{
    uint32_t better[SL_FIT_LANES];
    float *to = (float *)(void *)best; /* every field is one number a lane */
    const float *other = (const float *)(const void *)from;
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        better[l] = from->error.of[l] < best->error.of[l] ? ~0u : 0;
    for (size_t i = 0; i < sizeof *best / sizeof *to; i += SL_FIT_LANES) {
        for (unsigned l = 0; l < SL_FIT_LANES; l++)
            to[i + l] = better[l] ? other[i + l] : to[i + l];
    }
}

/* ---- searching ------------------------------------------------------------------------------- */

#define STARTS_MOST 36u

/* What least squares made, as it is stored: the minimum suits the stored scale. */
static void stored_pair(const sl__fit_groups *g, const sl__fit_next *next, float step,
                        sl__lanes *scale, sl__lanes *minimum)
{
    memcpy(scale, next->scale, sizeof *scale);
    sl__fit_round_lanes(g->form, scale);
    if (step != 0) step_lanes(g->form, step, scale);
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        minimum->of[l] = next->minimum[l] + (next->scale[l] - scale->of[l]) * next->mean_code[l];
    sl__fit_round_lanes(g->form, minimum);
}

/* Refits the most promising start, and looks beside what it comes to. */
static void refine(const sl__fit_groups *g, const sl__fit_next *start, sl__fitted *best)
{
    sl__lanes scale, minimum;
    sl__fitted at;
    at.next = *start;
    const unsigned refits = g->form == SL_FIT_ANY ? 2 : 3; /* more change next to nothing */
    for (unsigned i = 0; i < refits; i++) {
        stored_pair(g, &at.next, 0, &scale, &minimum);
        sl__fit_measure(g, &scale, &minimum, &at);
        sl__fit_keep(best, &at);
    }
    if (g->form == SL_FIT_ANY) return;
    const sl__fit_next middle = best->next;
    for (int step = -1; step <= 1; step += 2) {
        stored_pair(g, &middle, (float)step, &scale, &minimum);
        sl__fit_measure(g, &scale, &minimum, &at);
        sl__fit_keep(best, &at);
    }
}

/* How much of the range is left out at each end. Below 0 it is more than covered: with many codes
 * a step that is a little longer costs little, and codes fall anew. */
typedef struct cuts {
    uint32_t count;
    float first, wide; /* to first + wide, somewhat more than is best for bell-shaped values */
} cuts;

static cuts cuts_for(float top)
{
    return top > 20  ? (cuts){6, -0.05f, 0.10f}
           : top > 8 ? (cuts){4, -0.02f, 0.07f}
           : top > 4 ? (cuts){4, 0, 0.12f}
                     : (cuts){5, 0, 0.30f};
}

static uint32_t affine_starts(const sl__fit_groups *g, sl__lanes *span, sl__fit_start *starts)
{
    const float top = g->fit.high;
    const cuts cut = cuts_for(top);
    const float step = cut.wide / (float)(cut.count - 1);
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        span->of[l] = g->highest.of[l] - g->lowest.of[l];
    for (uint32_t i = 0; i < cut.count * cut.count; i++) {
        float below = cut.first + step * (float)(i / cut.count);
        float above = cut.first + step * (float)(i % cut.count);
        starts[i] = (sl__fit_start){(1 - below - above) / top, below};
    }
    return cut.count * cut.count;
}

/* The largest value in size comes to lie at either end of the codes, short of it, or beyond. */
static uint32_t symmetric_starts(const sl__fit_groups *g, sl__lanes *span, sl__fit_start *starts)
{
    const float *values = g->fit.values;
    const float low = values ? values[0] : g->fit.low;
    const float high = values ? values[SL_FIT_VALUES - 1] : g->fit.high;
    const float width = values ? (high - low) / (float)(SL_FIT_VALUES - 1) : 1;
    const float codes = (high - low) / width, first = codes < 128 ? codes / 16 : 8;
    const uint32_t count = codes > 100 ? 12 : 8;
    const float step = (first + 0.8f) / (float)(count - 1);
    for (unsigned l = 0; l < SL_FIT_LANES; l++)
        span->of[l] = g->highest.of[l] > -g->lowest.of[l] ? g->highest.of[l] : g->lowest.of[l];
    for (uint32_t i = 0; i < count; i++) {
        float beyond = width * (step * (float)i - first);
        float end = low < 0 ? low - beyond : high + beyond; /* codes may begin at 0 */
        starts[2 * i] = (sl__fit_start){1 / end, 0};
        starts[2 * i + 1] = (sl__fit_start){1 / (high + beyond), 0};
    }
    return 2 * count;
}

void sl__fit_search(const sl__fit_groups *g, sl__fitted *best)
{
    static const sl__lanes zeros = {{0}};
    sl__fit_start starts[STARTS_MOST];
    sl__fit_next start = {.scale = {0}};
    sl__lanes span;
    uint32_t count =
        g->fit.has_minimum ? affine_starts(g, &span, starts) : symmetric_starts(g, &span, starts);
    const sl__lanes *base = g->fit.has_minimum ? &g->lowest : &zeros;
    g->kern->fit_starts(&g->fit, base->of, span.of, starts, count, &start);
    refine(g, &start, best);
}
