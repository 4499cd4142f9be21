/* Encoders of weights.
 *
 * A block of a grouped type is found in the block's own scale: its 64 values are multiplied by a
 * power of two that brings the largest magnitude into [0.5, 1), which changes no digit of them and
 * keeps squares in range. A candidate is a pair (scale, minimum) of bf16 values; its codes are the
 * nearest ones against the pair as stored, and its error is the sum of squares that the decoder
 * would make. Rounding to bf16 therefore happens before the codes are chosen, never after.
 *
 *     x ──┬─ lowest and highest, rounded apart (covers the range)      ─┐
 *         ├─ the same, rounded to nearest                               ├─ the least error wins
 *         └─ shrunken ranges ─ codes ─ least squares ─ codes ─ …        ─┘
 *
 * q8 takes the first alone: with 256 steps there is nothing to gain from leaving values outside.
 */
#include "quant/quant.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/fail.h"

typedef struct pair {
    float scale, minimum; /* bf16 values; scale >= 0 */
} pair;

/* One block's values. What lies behind a row's end is there, but has no weight. */
typedef struct block {
    float x[SL_GROUP], weight[SL_GROUP]; /* weight: 1, or 0 behind the end */
    uint32_t count;
    float lowest, highest, sum;
} block;

/* ---- rounding -------------------------------------------------------------------------------- */

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float nearest_bf16(float x)
{
    return sl__bf16_to_f32(sl__f32_to_bf16(x));
}

/* The largest bf16 value <= x; −infinity where there is none. x is finite. */
static float floor_bf16(float x)
{
    uint32_t u = bits_of(x);
    if ((u >> 31) != 0) u += 0xffffu; /* a negative number grows in magnitude */
    return sl__bf16_to_f32((uint16_t)(u >> 16));
}

static float ceil_bf16(float x)
{
    return -floor_bf16(-x);
}

/* To nearest, ties to even; infinity where |x| rounds above 65504. x is finite. */
static uint16_t f16_bits(float x)
{
    uint32_t u = bits_of(x), sign = (u >> 16) & 0x8000u;
    u &= 0x7fffffffu;
    if (u >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u);
    if (u < 0x38800000u) { /* below 2^-14: a multiple of 2^-24, rounded by the addition */
        float magnitude;
        memcpy(&magnitude, &u, sizeof magnitude);
        return (uint16_t)(sign | (bits_of(magnitude + 0.5f) - 0x3f000000u));
    }
    u += 0xfffu + ((u >> 13) & 1u);
    return (uint16_t)(sign | ((u - 0x38000000u) >> 13));
}

static bool is_finite(float f)
{
    return (bits_of(f) & 0x7f800000u) != 0x7f800000u;
}

/* ---- candidates ------------------------------------------------------------------------------ */

/* What a candidate costs, and the sums that a better one is made from (c: codes). */
typedef struct measure {
    float error; /* Σ (x − decoded)² */
    float c, cc, cx;
} measure;

static float fold(const float lane[16])
{
    float s = 0;
    for (unsigned i = 0; i < 8; i++)
        s += lane[i] + lane[i + 8];
    return s;
}

static void measure_pair(const block *b, pair p, float top, measure *m)
{
    float inverse = p.scale > 0 ? 1.0f / p.scale : 0;
    float code[SL_GROUP], error[16] = {0}, c1[16] = {0}, cc[16] = {0}, cx[16] = {0};
    for (unsigned i = 0; i < SL_GROUP; i++) {
        float c = (b->x[i] - p.minimum) * inverse;
        c = c > 0 ? c : 0;
        c = c < top ? c : top;
        code[i] = (float)(int32_t)(c + 0.5f) * b->weight[i];
    }
    for (unsigned i = 0; i < SL_GROUP; i += 16) {
        for (unsigned j = 0; j < 16; j++) {
            float c = code[i + j], x = b->x[i + j];
            float d = (x - (p.scale * c + p.minimum)) * b->weight[i + j];
            error[j] += d * d;
            c1[j] += c;
            cc[j] += c * c;
            cx[j] += c * x;
        }
    }
    *m = (measure){fold(error), fold(c1), fold(cc), fold(cx)};
}

/* The pair that suits the codes of m best: the scale by least squares, then the minimum given the
 * scale as stored. False where the codes are all one. */
static bool refit(const block *b, const measure *m, pair *p)
{
    float n = (float)b->count, spread = m->cc - m->c * m->c / n;
    if (!(spread > 0.5f)) return false;
    float scale = nearest_bf16((m->cx - m->c * b->sum / n) / spread);
    if (!(scale > 0)) return false;
    *p = (pair){scale, nearest_bf16((b->sum - scale * m->c) / n)};
    return true;
}

typedef struct found {
    pair p;
    measure m;
} found;

static bool consider(const block *b, pair p, float top, found *best)
{
    measure m;
    measure_pair(b, p, top, &m);
    if (!(m.error < best->m.error)) return false;
    *best = (found){p, m};
    return true;
}

/* Covers the block's range: the minimum rounded down, the scale up. */
static pair covering(const block *b, float top)
{
    float minimum = floor_bf16(b->lowest);
    double range = (double)b->highest - (double)minimum;
    float scale = (float)(range / (double)top);
    if ((double)scale * (double)top < range) scale = nextafterf(scale, INFINITY);
    return (pair){ceil_bf16(scale), minimum};
}

/* For values that are all one, or nearly: one code for all, whichever lands nearest. */
static pair single(float value, float top)
{
    pair best = {0, floor_bf16(value)};
    float rest = value - best.minimum, least = rest;
    for (float c = 1; c <= top && least > 0; c++) {
        float scale = nearest_bf16(rest / c);
        float error = fabsf(value - (scale * c + best.minimum));
        if (error < least) {
            least = error;
            best.scale = scale;
        }
    }
    return best;
}

/* How much of the range is left out at an end, at most: half as much again as is best for
 * bell-shaped values. */
static float widest_cut(float top)
{
    return top > 8 ? 0.09f : top > 4 ? 0.15f : 0.30f;
}

#define CUTS   4u /* at an end, so 16 starts */
#define REFITS 8u /* of the best start, at most */

static pair search(const block *b, float top)
{
    float range = b->highest - b->lowest, step = widest_cut(top) / (float)(CUTS - 1) * range;
    found best = {{0, 0}, {.error = INFINITY}};
    consider(b, covering(b, top), top, &best);
    consider(b, (pair){nearest_bf16(range / top), nearest_bf16(b->lowest)}, top, &best);
    if (range < 0x1p-6f) consider(b, single(b->sum / (float)b->count, top), top, &best);
    for (unsigned i = 0; i < CUTS * CUTS; i++) {
        float from = b->lowest + (float)(i / CUTS) * step;
        float to = b->highest - (float)(i % CUTS) * step;
        pair next = {nearest_bf16((to - from) / top), nearest_bf16(from)};
        found start = {{0, 0}, {.error = INFINITY}};
        consider(b, next, top, &start);
        if (refit(b, &start.m, &next)) consider(b, next, top, &start);
        if (start.m.error < best.m.error) best = start;
    }
    for (unsigned i = 0; i < REFITS; i++) {
        pair next;
        if (!refit(b, &best.m, &next) || !consider(b, next, top, &best)) break;
    }
    return best.p;
}

/* x · 2^exponent, exactly where the result is normal; in two steps: a factor has its own range. */
static float shifted(float x, int exponent)
{
    int half = exponent / 2;
    return x * ldexpf(1.0f, half) * ldexpf(1.0f, exponent - half);
}

/* Whether every code of the pair decodes to a finite value. */
static bool decodable(pair p, float top)
{
    return is_finite(p.minimum) && is_finite(p.scale * top) &&
           is_finite(p.scale * top + p.minimum);
}

static pair choose_pair(const block *b, float top)
{
    float largest = fmaxf(-b->lowest, b->highest);
    if (b->lowest == b->highest) return single(b->lowest, top);
    int exponent;
    frexpf(largest, &exponent);
    pair cover = covering(b, top);
    /* Where scale and minimum may be subnormal, scaling would not be exact. */
    if (top > 100 || exponent < -90 || !decodable(cover, top)) return cover;
    block scaled = *b;
    float factor = ldexpf(1.0f, -exponent);
    scaled.lowest *= factor;
    scaled.highest *= factor;
    scaled.sum = 0;
    for (uint32_t i = 0; i < SL_GROUP; i++) {
        scaled.x[i] *= factor;
        scaled.sum += scaled.x[i] * scaled.weight[i];
    }
    pair p = search(&scaled, top);
    p = (pair){shifted(p.scale, exponent), shifted(p.minimum, exponent)};
    return decodable(p, top) ? p : cover;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

static sl_status refuse(sl__dtype type, const float *x, uint32_t column, sl_error *err)
{
    return SL_FAIL(err, SL_ENUMERIC, "column %u: %g cannot be stored as %s", column,
                   (double)x[column], sl__dtype_name(type));
}

/* False where a value is not finite; *at is its index. */
static bool load_block(const float *x, uint32_t count, block *b, uint32_t *at)
{
    b->count = count;
    b->lowest = b->highest = x[0];
    b->sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        *at = i;
        if (!is_finite(x[i])) return false;
        b->x[i] = x[i];
        b->weight[i] = 1;
        b->lowest = x[i] < b->lowest ? x[i] : b->lowest;
        b->highest = x[i] > b->highest ? x[i] : b->highest;
    }
    for (uint32_t i = count; i < SL_GROUP; i++) {
        b->x[i] = b->lowest;
        b->weight[i] = 0;
    }
    return true;
}

static void pack_low_bits(const uint8_t code[SL_GROUP], uint8_t *p)
{
    for (unsigned i = 0; i < 16; i++)
        p[i] = (uint8_t)((code[i] & 3u) | (code[i + 16] & 3u) << 2 | (code[i + 32] & 3u) << 4 |
                         (code[i + 48] & 3u) << 6);
}

static void pack_codes(sl__dtype type, const uint8_t code[SL_GROUP], uint8_t *p)
{
    if (type == SL_Q8) {
        memcpy(p, code, SL_GROUP);
    } else if (type == SL_Q4) {
        for (unsigned i = 0; i < 32; i++)
            p[i] = (uint8_t)(code[i] | code[i + 32] << 4);
    } else {
        pack_low_bits(code, p);
        for (unsigned i = 0; i < 8 && type == SL_Q3; i++) {
            unsigned third = 0;
            for (unsigned j = 0; j < 8; j++)
                third |= (code[8 * i + j] >> 2 & 1u) << j;
            p[16 + i] = (uint8_t)third;
        }
    }
}

/* Writes one block; false where the decoder would leave the range of float. */
static bool encode_block(sl__dtype type, const block *b, float top, uint8_t *p)
{
    pair chosen = choose_pair(b, top);
    if (!decodable(chosen, top)) return false;
    uint8_t code[SL_GROUP] = {0};
    for (unsigned i = 0; i < SL_GROUP && chosen.scale > 0; i++) {
        float c = (b->x[i] - chosen.minimum) / chosen.scale * b->weight[i];
        c = c > 0 ? c : 0;
        c = c < top ? c : top;
        code[i] = (uint8_t)(int32_t)(c + 0.5f);
    }
    uint16_t half[2] = {sl__f32_to_bf16(chosen.scale), sl__f32_to_bf16(chosen.minimum)};
    memcpy(p, half, sizeof half);
    pack_codes(type, code, p + sizeof half);
    return true;
}

static sl_status quant_grouped(sl__dtype type, const float *x, uint32_t cols, uint8_t *row,
                               sl_error *err)
{
    const uint32_t bytes = sl__dtype_block_bytes(type);
    const float top = type == SL_Q8 ? 255 : type == SL_Q4 ? 15 : type == SL_Q3 ? 7 : 3;
    block b;
    for (uint32_t c = 0; c < cols; row += bytes) {
        uint32_t count = cols - c < SL_GROUP ? cols - c : SL_GROUP, at;
        if (!load_block(x + c, count, &b, &at)) return refuse(type, x, c + at, err);
        if (!encode_block(type, &b, top, row)) {
            for (at = 0; fabsf(b.x[at]) < fmaxf(-b.lowest, b.highest);)
                at++;
            return refuse(type, x, c + at, err);
        }
        c += count;
    }
    return SL_OK;
}

sl_status sl__quant_row(sl__dtype type, const float *x, uint32_t cols, void *row, sl_error *err)
{
    uint8_t *p = row;
    if (type >= SL_Q8 && type <= SL_Q2) return quant_grouped(type, x, cols, row, err);
    if (!sl__dtype_has_encoder(type))
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s cannot be encoded", sl__dtype_name(type));
    for (uint32_t i = 0; i < cols; i++) {
        if (!is_finite(x[i])) return refuse(type, x, i, err);
        if (type == SL_F32) {
            memcpy(p + (size_t)i * 4, &x[i], 4);
            continue;
        }
        uint16_t h = type == SL_F16 ? f16_bits(x[i]) : sl__f32_to_bf16(x[i]);
        uint16_t infinity = type == SL_F16 ? 0x7c00u : 0x7f80u;
        if ((h & 0x7fffu) == infinity) return refuse(type, x, i, err);
        memcpy(p + (size_t)i * 2, &h, 2);
    }
    return SL_OK;
}
