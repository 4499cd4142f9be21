/* Fits of groups of weights to codes, sixteen groups side by side: a lane is a group, so nothing is
 * summed across a vector, and a lane's sums run in the order of its values on every level.
 *
 *     x    value 0 of groups 0 … 15 | value 1 of groups 0 … 15 | …
 *
 * The file that includes this is a level's, and defines what the level does in a way of its own:
 *     fit_most(a, b)           a > b ? a : b
 *     fit_least(a, b)          a < b ? a : b
 *     fit_step(s, a, b, step)  a > b ? s + step : s
 *     fit_choose(a, b, c, d)   a > b ? c : d
 */
#ifndef SL_KERN_BODY_FIT_H
#define SL_KERN_BODY_FIT_H

#include <math.h>

#include "kern/levels.h"

/* What is the same for all values of some lanes. */
typedef struct fit_lanes {
    vec scale, minimum, inverse, low, high;
} fit_lanes;

/* 1 / scale, or 0 where the scale is none to speak of: no product with it leaves float. */
SL_INLINE vec fit_inverse(vec scale)
{
    const vec one = vec_set1(1), least = vec_set1(0x1p-100f), zero = vec_set1(0);
    vec size = fit_most(scale, -scale), some = fit_step(zero, size, least, one);
    return some / (scale + (one - some));
}

SL_INLINE fit_lanes fit_open(const sl__fit *fit, vec scale, vec minimum)
{
    return (fit_lanes){scale, minimum, fit_inverse(scale), vec_set1(fit->low), vec_set1(fit->high)};
}

/* Adding and taking away 1.5 · 2^23 rounds to an integer, ties to even. */
SL_INLINE vec fit_code(const fit_lanes *l, vec u)
{
    const vec round = vec_set1(0x1.8p23f);
    vec c = fit_least(fit_most(u, l->low), l->high);
    return (c + round) - round;
}

/* Of values in increasing order the one that is nearest, the lower of two; all are integers. */
SL_INLINE vec fit_value(const float *values, vec u)
{
    vec c = vec_set1(values[0]);
    for (uint32_t k = 0; k + 1 < SL_FIT_VALUES; k++) {
        float middle = (values[k] + values[k + 1]) * 0.5f;
        c = fit_step(c, u, vec_set1(middle), vec_set1(values[k + 1] - values[k]));
    }
    return c;
}

SL_INLINE vec fit_load(const sl__fit *fit, uint32_t i, uint32_t at)
{
    return vec_load(fit->x + (size_t)i * SL_FIT_LANES + at);
}

SL_INLINE vec fit_choose_code(const sl__fit *fit, const fit_lanes *l, vec u)
{
    return fit->values ? fit_value(fit->values, u) : fit_code(l, u);
}

/* a / b, or 0 where b is not above a half: where codes are all one. */
SL_INLINE vec fit_ratio(vec a, vec b)
{
    const vec zero = vec_set1(0), one = vec_set1(1);
    vec some = fit_step(zero, b, vec_set1(0.5f), one);
    return some * a / (b + (one - some) * (one - b));
}

static void fit_range(const sl__fit *fit, float *lowest, float *highest)
{
    for (uint32_t at = 0; at < SL_FIT_LANES; at += SL_VW) {
        vec low = fit_load(fit, 0, at), high = low;
        for (uint32_t i = 1; i < fit->n; i++) {
            vec x = fit_load(fit, i, at);
            low = fit_least(x, low);
            high = fit_most(x, high);
        }
        vec_store(lowest + at, low);
        vec_store(highest + at, high);
    }
}

static void fit_measure(const sl__fit *fit, const float *scale, const float *minimum,
                        sl__fit_sums *sums, sl__fit_next *next)
{
    const vec part = vec_set1(fit->has_minimum ? 1.0f / (float)fit->n : 0);
    for (uint32_t at = 0; at < fit->lanes; at += SL_VW) {
        const fit_lanes l = fit_open(fit, vec_load(scale + at), vec_load(minimum + at));
        vec e = vec_set1(0), ee = e, c = e, cc = e, ce = e;
        for (uint32_t i = 0; i < fit->n; i++) {
            vec x = fit_load(fit, i, at);
            vec code = fit_choose_code(fit, &l, (x - l.minimum) * l.inverse);
            vec error = x - (l.scale * code + l.minimum);
            e += error;
            ee += error * error;
            c += code;
            cc += code * code;
            ce += code * error;
        }
        vec mean = c * part, by = fit_ratio(ce - e * mean, cc - c * mean);
        vec_store(sums->e + at, e);
        vec_store(sums->ee + at, ee);
        vec_store(sums->c + at, c);
        vec_store(sums->cc + at, cc);
        vec_store(sums->ce + at, ce);
        vec_store(next->scale + at, l.scale + by);
        vec_store(next->minimum + at, l.minimum + (e - by * c) * part);
        vec_store(next->mean_code + at, mean);
    }
}

/* Sums of codes c and of u, which is x under a start: what a choice among starts needs. */
typedef struct fit_sums {
    vec c, cc, cu;
} fit_sums;

SL_INLINE fit_sums fit_add_up(const sl__fit *fit, const fit_lanes *l, uint32_t at)
{
    const vec zero = vec_set1(0);
    fit_sums s = {zero, zero, zero};
    for (uint32_t i = 0; i < fit->n; i++) {
        vec u = (fit_load(fit, i, at) - l->minimum) * l->inverse;
        vec code = fit_choose_code(fit, l, u);
        s.c += code;
        s.cc += code * code;
        s.cu += code * u;
    }
    return s;
}

static void fit_starts(const sl__fit *fit, const float *base, const float *span,
                       const sl__fit_start *starts, uint32_t count, sl__fit_next *next)
{
    const vec zero = vec_set1(0), part = vec_set1(fit->has_minimum ? 1.0f / (float)fit->n : 0);
    for (uint32_t at = 0; at < fit->lanes; at += SL_VW) {
        const vec from = vec_load(base + at), range = vec_load(span + at);
        vec above = zero, most = vec_set1(-1), scale = zero, mean = zero;
        for (uint32_t i = 0; i < fit->n; i++)
            above += fit_load(fit, i, at) - from;
        above *= part;
        for (uint32_t i = 0; i < count; i++) {
            const vec lift = range * vec_set1(starts[i].minimum);
            const fit_lanes l = fit_open(fit, range * vec_set1(starts[i].scale), from + lift);
            const fit_sums s = fit_add_up(fit, &l, at);
            vec middle = s.c * part, shared = s.cu - s.c * ((above - lift) * l.inverse);
            vec slope = fit_ratio(shared, s.cc - s.c * middle) * l.scale;
            vec taken = slope * (shared * l.scale);
            scale = fit_choose(taken, most, slope, scale);
            mean = fit_choose(taken, most, middle, mean);
            most = fit_most(taken, most);
        }
        vec_store(next->scale + at, scale);
        vec_store(next->minimum + at, fit->has_minimum ? from + (above - scale * mean) : zero);
        vec_store(next->mean_code + at, mean);
    }
}

static void fit_codes(const sl__fit *fit, const float *scale, const float *minimum, int8_t *codes)
{
    for (uint32_t at = 0; at < fit->lanes; at += SL_VW) {
        const fit_lanes l = fit_open(fit, vec_load(scale + at), vec_load(minimum + at));
        for (uint32_t i = 0; i < fit->n; i++) {
            float code[SL_VW];
            vec u = (fit_load(fit, i, at) - l.minimum) * l.inverse;
            vec_store(code, fit_choose_code(fit, &l, u));
            for (uint32_t k = 0; k < SL_VW; k++)
                codes[(size_t)i * SL_FIT_LANES + at + k] = (int8_t)(int32_t)code[k];
        }
    }
}

static void fill_fit(sl__kern *kern)
{
    kern->fit_range = fit_range;
    kern->fit_starts = fit_starts;
    kern->fit_measure = fit_measure;
    kern->fit_codes = fit_codes;
}

#endif
