/* Encoders of the grouped types: q8, q4, q3, q2.
 *
 * A candidate is a pair (scale, minimum) of bf16 values; its codes are the nearest ones against the
 * pair as stored, and its error is what the decoder would make. Rounding to bf16 therefore happens
 * before the codes are chosen, never after.
 *
 *     x ──┬─ lowest and highest, rounded apart (covers the range)      ─┐
 *         ├─ the same, rounded to nearest                               ├─ the least error wins
 *         └─ the search of fit.h                                       ─┘
 *
 * For the search a group's values are multiplied by a power of two that brings the largest
 * magnitude into [0.5, 1), which changes no digit of them and keeps squares in range. Where scale
 * and minimum may be subnormal that would not be exact: such a group is covered, as all of q8 are,
 * which with 256 steps has nothing to gain from leaving values outside.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "quant/encoders.h"
#include "quant/fit.h"

typedef struct pair {
    float scale, minimum; /* bf16 values; scale >= 0 */
} pair;

/* ---- rounding -------------------------------------------------------------------------------- */

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float nearest_bf16(float x)
{
    return sl__fit_round(SL_FIT_BF16, x);
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

static bool is_finite(float f)
{
    return (bits_of(f) & 0x7f800000u) != 0x7f800000u;
}

/* ---- candidates ------------------------------------------------------------------------------ */

/* Covers the range: the minimum rounded down, the scale up. */
static pair covering(float lowest, float highest, float top)
{
    float minimum = floor_bf16(lowest);
    double range = (double)highest - (double)minimum;
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

/* Whether every code of the pair decodes to a finite value. */
static bool decodable(pair p, float top)
{
    return is_finite(p.minimum) && is_finite(p.scale * top) && is_finite(p.scale * top + p.minimum);
}

/* x · 2^exponent, exactly where the result is normal; in two steps: a factor has its own range. */
static float shifted(float x, int exponent)
{
    int half = exponent / 2;
    return x * ldexpf(1.0f, half) * ldexpf(1.0f, exponent - half);
}

/* ---- a batch: up to sixteen groups ----------------------------------------------------------- */

typedef struct batch {
    sl__fit_groups groups;
    float top;
    uint32_t n, count; /* values of a group, groups */
    pair chosen[SL_FIT_LANES];
    bool searched[SL_FIT_LANES]; /* else chosen before the search, and the lane's values are 0 */
    int exponent[SL_FIT_LANES];  /* a searched lane's values are x · 2^−exponent */
    sl__lanes factor;            /* 2^−exponent, or 0 */
} batch;

/* Loads groups, and chooses for those that are not to be searched. True where any are. */
static bool open_batch(batch *b, const float *x)
{
    sl__fit_groups *g = &b->groups;
    bool any = false;
    sl__fit_load(g, x, b->n, b->count);
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        float lowest = g->lowest.of[l], highest = g->highest.of[l];
        pair cover = covering(lowest, highest, b->top);
        frexpf(fmaxf(-lowest, highest), &b->exponent[l]);
        b->searched[l] =
            b->top < 100 && lowest < highest && b->exponent[l] >= -90 && decodable(cover, b->top);
        b->chosen[l] = lowest == highest ? single(lowest, b->top) : cover;
        b->factor.of[l] = b->searched[l] ? ldexpf(1.0f, -b->exponent[l]) : 0;
        g->lowest.of[l] *= b->factor.of[l];
        g->highest.of[l] *= b->factor.of[l];
        any |= b->searched[l];
    }
    for (size_t i = 0; i < b->n && any; i++) {
        for (unsigned l = 0; l < SL_FIT_LANES; l++)
            g->x[i * SL_FIT_LANES + l] *= b->factor.of[l];
    }
    return any;
}

static void consider(const batch *b, const pair pairs[SL_FIT_LANES], sl__fitted *best)
{
    sl__lanes scale, minimum;
    sl__fitted trial;
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        scale.of[l] = pairs[l].scale;
        minimum.of[l] = pairs[l].minimum;
    }
    sl__fit_measure(&b->groups, &scale, &minimum, &trial);
    sl__fit_keep(best, &trial);
}

/* Pairs for groups that are nearly of one value. */
static void consider_single(const batch *b, sl__fitted *best)
{
    const sl__fit_groups *g = &b->groups;
    pair pairs[SL_FIT_LANES] = {{0, 0}};
    bool any = false;
    for (unsigned l = 0; l < b->count; l++) {
        if (!b->searched[l] || g->highest.of[l] - g->lowest.of[l] >= 0x1p-6f) continue;
        float sum = 0;
        for (size_t i = 0; i < b->n; i++)
            sum += g->x[i * SL_FIT_LANES + l];
        pairs[l] = single(sum / (float)b->n, b->top);
        any = true;
    }
    if (any) consider(b, pairs, best);
}

static void search_batch(batch *b, sl__fitted *best)
{
    const sl__fit_groups *g = &b->groups;
    pair cover[SL_FIT_LANES], nearest[SL_FIT_LANES];
    memset(best, 0, sizeof *best);
    for (unsigned l = 0; l < SL_FIT_LANES; l++) {
        float lowest = g->lowest.of[l], range = g->highest.of[l] - lowest;
        best->error.of[l] = INFINITY;
        cover[l].scale = b->chosen[l].scale * b->factor.of[l];
        cover[l].minimum = b->chosen[l].minimum * b->factor.of[l];
        nearest[l] = (pair){nearest_bf16(range / b->top), nearest_bf16(lowest)};
    }
    consider(b, cover, best);
    consider(b, nearest, best);
    consider_single(b, best);
    sl__fit_search(g, best);
    for (unsigned l = 0; l < b->count; l++) {
        pair p = {shifted(best->scale.of[l], b->exponent[l]),
                  shifted(best->minimum.of[l], b->exponent[l])};
        b->searched[l] = b->searched[l] && decodable(p, b->top);
        if (b->searched[l]) b->chosen[l] = p;
    }
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* The codes of sixteen groups side by side, as they come from the search; beyond the end of shorter
 * groups they are 0. */
typedef uint8_t lanes8[SL_FIT_LANES];

/* One byte of each group: bits of its codes i, i + apart, …, `bits` of each, from bit `low` on. */
static void put_byte(lanes8 *code, unsigned i, unsigned apart, unsigned bits, unsigned low,
                     lanes8 *out)
{
    const unsigned count = 8 / bits, mask = (1u << bits) - 1;
    lanes8 sum = {0};
    for (unsigned k = 0; k < count; k++) {
        for (unsigned l = 0; l < SL_FIT_LANES; l++)
            sum[l] |= (uint8_t)(((unsigned)code[i + k * apart][l] >> low & mask) << k * bits);
    }
    memcpy(*out, sum, sizeof sum);
}

/* The codes' bytes of all groups, byte by byte; how many a group has. */
static unsigned pack_codes(sl__dtype type, lanes8 code[SL_GROUP], lanes8 out[SL_GROUP])
{
    if (type == SL_Q8) {
        memcpy(out, code, SL_GROUP * sizeof *out);
        return SL_GROUP;
    }
    if (type == SL_Q4) {
        for (unsigned i = 0; i < 32; i++)
            put_byte(code, i, 32, 4, 0, &out[i]);
        return 32;
    }
    for (unsigned i = 0; i < 16; i++)
        put_byte(code, i, 16, 2, 0, &out[i]);
    if (type == SL_Q2) return 16;
    for (unsigned i = 0; i < 8; i++)
        put_byte(code, 8 * i, 1, 1, 2, &out[16 + i]);
    return 24;
}

/* The codes of one group against a pair that no search has found. */
static void codes_of_pair(const float *x, uint32_t n, pair p, float top, lanes8 *code,
                          unsigned lane)
{
    for (uint32_t i = 0; i < n; i++) {
        float c = p.scale > 0 ? (x[i] - p.minimum) / p.scale : 0;
        c = c > 0 ? c : 0;
        c = c < top ? c : top;
        code[i][lane] = (uint8_t)(int32_t)(c + 0.5f);
    }
}

/* The index of the value of the largest magnitude, the first of them. */
static uint32_t largest(const float *x, uint32_t n)
{
    uint32_t at = 0;
    for (uint32_t i = 1; i < n; i++)
        at = fabsf(x[i]) > fabsf(x[at]) ? i : at;
    return at;
}

/* Encodes a batch's groups; *at is the index in x of what cannot be where that is false. */
static bool encode_batch(batch *b, sl__dtype type, const float *x, uint8_t *row, uint32_t *at)
{
    lanes8 code[SL_GROUP], bytes[SL_GROUP];
    sl__fitted best;
    memset(code + b->n, 0, (SL_GROUP - b->n) * sizeof *code);
    if (open_batch(b, x)) {
        search_batch(b, &best);
        b->groups.kern->fit_codes(&b->groups.fit, best.scale.of, best.minimum.of,
                                  (int8_t *)code[0]);
    }
    for (unsigned l = 0; l < b->count; l++) {
        const float *group = x + (size_t)l * b->n;
        if (!decodable(b->chosen[l], b->top)) {
            *at = l * b->n + largest(group, b->n);
            return false;
        }
        if (!b->searched[l]) codes_of_pair(group, b->n, b->chosen[l], b->top, code, l);
    }
    const unsigned size = pack_codes(type, code, bytes);
    for (unsigned l = 0; l < b->count; l++) {
        const pair p = b->chosen[l];
        const uint16_t half[2] = {sl__f32_to_bf16(p.scale), sl__f32_to_bf16(p.minimum)};
        memcpy(row, half, sizeof half);
        row += sizeof half;
        for (unsigned i = 0; i < size; i++)
            *row++ = bytes[i][l];
    }
    return true;
}

bool sl__encode_grouped(const sl__kern *kern, sl__dtype type, const float *x, uint32_t cols,
                        uint8_t *row, uint32_t *at)
{
    const float top = type == SL_Q8 ? 255 : type == SL_Q4 ? 15 : type == SL_Q3 ? 7 : 3;
    batch b;
    b.top = top;
    b.groups.kern = kern;
    b.groups.form = SL_FIT_BF16;
    b.groups.fit = (sl__fit){.high = top, .has_minimum = true};
    for (uint32_t c = 0; c < cols; c += b.n * b.count) {
        uint32_t whole = (cols - c) / SL_GROUP; /* the rest of a row is a batch of its own */
        b.n = whole > 0 ? SL_GROUP : cols - c;
        b.count = whole > SL_FIT_LANES ? SL_FIT_LANES : whole > 0 ? whole : 1;
        if (!encode_batch(&b, type, x + c, row, at)) {
            *at += c;
            return false;
        }
        row += (size_t)b.count * sl__dtype_block_bytes(type);
    }
    return true;
}
