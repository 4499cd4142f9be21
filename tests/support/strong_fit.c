#include "strong_fit.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "plain_blocks.h"

static const float iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                              1,    13,   25,  38,  53,  69,  89,  113};

const strong_shape *strong_shape_of(sl__dtype type)
{
    static const strong_shape shapes[] = {
        {SL_Q4_0, 32, 1, -8, 7, NULL, 1, 1, 0, false},
        {SL_Q4_1, 32, 1, 0, 15, NULL, 1, 1, 0, true},
        {SL_Q5_0, 32, 1, -16, 15, NULL, 1, 1, 0, false},
        {SL_Q5_1, 32, 1, 0, 31, NULL, 1, 1, 0, true},
        {SL_Q8_0, 32, 1, -127, 127, NULL, 1, 1, 0, false},
        {SL_IQ4_NL, 32, 1, 0, 0, iq4, 1, 1, 0, false},
        {SL_Q2_K, 16, 16, 0, 3, NULL, 0, 15, 15, true},
        {SL_Q3_K, 16, 16, -4, 3, NULL, -32, 31, 0, false},
        {SL_Q4_K, 32, 8, 0, 15, NULL, 0, 63, 63, true},
        {SL_Q5_K, 32, 8, 0, 31, NULL, 0, 63, 63, true},
        {SL_Q6_K, 16, 16, -32, 31, NULL, -128, 127, 0, false},
        {SL_IQ4_XS, 32, 8, 0, 0, iq4, -32, 31, 0, false},
    };
    for (unsigned i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        if (shapes[i].type == type) return &shapes[i];
    }
    return NULL;
}

/* The nearest half, by looking for it. */
static double half_of(double x)
{
    uint16_t low = 0, high = 0x7bff;
    double size = fabs(x);
    while (low < high) { /* the largest half that is not above */
        uint16_t middle = (uint16_t)((low + high + 1) / 2);
        if ((double)plain_half(middle) <= size)
            low = middle;
        else
            high = (uint16_t)(middle - 1);
    }
    double below = (double)plain_half(low);
    double above = low < 0x7bff ? (double)plain_half((uint16_t)(low + 1)) : below;
    return copysign(size - below <= above - size ? below : above, x);
}

/* ---- one group ------------------------------------------------------------------------------- */

typedef struct group_fit {
    double scale, minimum, error;
    double c, cc, cx, x; /* sums: codes, their squares, their products with x; x */
} group_fit;

static double code_of(const strong_shape *s, double u)
{
    if (s->values) {
        double best = (double)s->values[0];
        for (unsigned i = 1; i < 16; i++) {
            if (fabs(u - (double)s->values[i]) < fabs(u - best)) best = (double)s->values[i];
        }
        return best;
    }
    double c = rint(u);
    return c < s->low ? s->low : c > s->high ? s->high : c;
}

static group_fit fit_pair(const strong_shape *s, const float *x, double scale, double minimum)
{
    group_fit f = {scale, minimum, 0, 0, 0, 0, 0};
    double inverse = scale != 0 ? 1 / scale : 0;
    for (uint32_t i = 0; i < s->n; i++) {
        double v = (double)x[i], c = code_of(s, (v - minimum) * inverse);
        double e = v - (scale * c + minimum);
        f.error += e * e;
        f.c += c;
        f.cc += c * c;
        f.cx += c * v;
        f.x += v;
    }
    return f;
}

/* Least squares for f's codes. */
static void better_pair(const strong_shape *s, const group_fit *f, double *scale, double *minimum)
{
    double n = s->n, mean = s->has_minimum ? f->c / n : 0;
    double spread = f->cc - f->c * mean;
    *scale = spread > 1e-9 ? (f->cx - f->x * mean) / spread : 0;
    *minimum = s->has_minimum ? (f->x - *scale * f->c) / n : 0;
}

static void take_if_better(group_fit *best, const group_fit *f)
{
    if (f->error < best->error) *best = *f;
}

static void refit_pair(const strong_shape *s, const float *x, group_fit f, group_fit *best)
{
    for (unsigned i = 0; i < 6; i++) {
        double scale, minimum;
        better_pair(s, &f, &scale, &minimum);
        f = fit_pair(s, x, scale, minimum);
        take_if_better(best, &f);
    }
}

/* The best pair of numbers that need not be stored. */
static group_fit fit_group(const strong_shape *s, const float *x, uint32_t effort)
{
    const uint32_t cuts = 6 + 4 * effort;
    double lowest = (double)x[0], highest = lowest;
    for (uint32_t i = 1; i < s->n; i++) {
        lowest = fmin(lowest, (double)x[i]);
        highest = fmax(highest, (double)x[i]);
    }
    group_fit best = fit_pair(s, x, 0, 0);
    double ends[2] = {s->values ? -127 : s->low, s->values ? 113 : s->high};
    double most = highest > -lowest ? highest : lowest, wide = s->values ? 16 : 1;
    double codes = (ends[1] - ends[0]) / wide; /* from short of an end to beyond it */
    for (uint32_t i = 0; i < cuts; i++) {
        for (uint32_t j = 0; j < cuts && s->has_minimum; j++) {
            double range = highest - lowest, cut = (s->high > 8 ? 0.16 : 0.4) / cuts * range;
            double first = s->high > 8 ? -0.05 * range : 0, from = lowest + first + cut * i;
            double scale = (highest - first - cut * j - from) / s->high;
            group_fit f = fit_pair(s, x, scale, from);
            refit_pair(s, x, f, &best);
        }
        for (uint32_t j = 0; j < 2 && !s->has_minimum; j++) {
            double beyond = wide * (2 - (2 + codes / 12) * i / cuts);
            group_fit f = fit_pair(s, x, most / (ends[j] + copysign(beyond, ends[j])), 0);
            refit_pair(s, x, f, &best);
        }
    }
    return best;
}

/* ---- a block of one group -------------------------------------------------------------------- */

/* The scales near to the best one, and minimums that suit them, as halves. */
static double one_group(const strong_shape *s, const float *x, uint32_t effort)
{
    group_fit ideal = fit_group(s, x, effort);
    double least = INFINITY, mean = s->has_minimum ? ideal.c / s->n : 0;
    for (int i = -8; i <= 8; i++) {
        double scale = half_of(ideal.scale * (1 + i * 0x1p-12));
        for (int j = -4; j <= 4; j++) {
            double minimum = ideal.minimum + (ideal.scale - scale) * mean;
            minimum = s->has_minimum ? half_of(minimum * (1 + j * 0x1p-12)) : 0;
            least = fmin(least, fit_pair(s, x, scale, minimum).error);
        }
    }
    return least;
}

/* ---- a block of several ---------------------------------------------------------------------- */

typedef struct block_fit {
    double d, dmin, error;
    int scale[16], min[16];
    group_fit group[16];
} block_fit;

static int within(double v, int low, int high)
{
    return v < low ? low : v > high ? high : (int)rint(v);
}

/* The integers of group g under b's d and dmin, near to those that are wanted. */
static void choose_integers(const strong_shape *s, const float *x, const group_fit *ideal,
                            uint32_t g, int reach, block_fit *b)
{
    const double mean = s->has_minimum ? ideal->c / s->n : 0;
    int wanted = within(b->d != 0 ? ideal->scale / b->d : 0, s->scale_low, s->scale_high);
    b->group[g].error = INFINITY;
    for (int scale = wanted - reach; scale <= wanted + reach; scale++) {
        if (scale < s->scale_low || scale > s->scale_high) continue;
        double off = ideal->scale - b->d * scale, minimum = ideal->minimum + off * mean;
        int near = within(b->dmin != 0 ? -minimum / b->dmin : 0, 0, s->min_high);
        for (int min = near - 1; min <= near + 1; min++) {
            if (min < 0 || min > s->min_high) continue;
            group_fit f = fit_pair(s, x + g * s->n, b->d * scale, -b->dmin * min);
            if (!(f.error < b->group[g].error)) continue;
            b->group[g] = f;
            b->scale[g] = scale;
            b->min[g] = min;
        }
    }
}

static void choose_all(const strong_shape *s, const float *x, const group_fit *ideal, int reach,
                       block_fit *b)
{
    b->error = 0;
    for (uint32_t g = 0; g < s->groups; g++) {
        choose_integers(s, x, &ideal[g], g, reach, b);
        b->error += b->group[g].error;
    }
}

/* d and dmin by least squares, everything else as it is. */
static void better_units(const strong_shape *s, block_fit *b)
{
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (uint32_t g = 0; g < s->groups; g++) {
        const group_fit *f = &b->group[g];
        double l = b->scale[g], m = -b->min[g];
        aa += l * l * f->cc;
        ab += l * m * f->c;
        bb += m * m * s->n;
        ax += l * f->cx;
        bx += m * f->x;
    }
    double det = aa * bb - ab * ab;
    if (det > 1e-9 * aa * bb) {
        b->d = half_of((ax * bb - bx * ab) / det);
        b->dmin = half_of((aa * bx - ab * ax) / det);
    } else if (aa > 0) {
        b->d = half_of(ax / aa);
    }
}

static double several_groups(const strong_shape *s, const float *x, uint32_t effort)
{
    const uint32_t tries = 8 + 8 * effort, min_tries = s->has_minimum ? tries : 1;
    group_fit ideal[16];
    double most = 0, least_minimum = 0;
    for (uint32_t g = 0; g < s->groups; g++) {
        ideal[g] = fit_group(s, x + g * s->n, effort);
        if (fabs(ideal[g].scale) > fabs(most)) most = ideal[g].scale;
        least_minimum = fmin(least_minimum, ideal[g].minimum);
    }
    block_fit best = {.error = INFINITY}, b;
    for (uint32_t i = 0; i < tries * (s->scale_low < 0 ? 2 : 1); i++) {
        double end = i < tries ? s->scale_high : s->scale_low;
        double part = 1.03 - 0.25 * (i % tries) / tries;
        for (uint32_t j = 0; j < min_tries; j++) {
            b.d = half_of(most / (end * part));
            b.dmin = s->has_minimum
                         ? half_of(-least_minimum / (s->min_high * (1.03 - 0.25 * j / tries)))
                         : 0;
            choose_all(s, x, ideal, 1, &b);
            if (b.error < best.error) best = b;
        }
    }
    b = best;
    for (unsigned r = 0; r < 8; r++) {
        better_units(s, &b);
        choose_all(s, x, ideal, 4, &b);
        if (b.error < best.error) best = b;
    }
    return best.error;
}

double strong_error(const strong_shape *s, const float *x, uint32_t effort)
{
    return s->groups == 1 ? one_group(s, x, effort) : several_groups(s, x, effort);
}
