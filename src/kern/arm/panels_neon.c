/* Products of weights in panels with floats, and activations rounded to 8 bits.
 *
 * Four bytes of a row that lie together in a panel become, as floats, one register, and its lanes
 * are the four lanes of the row's sum: sixteen registers hold a panel's sums of one token. Columns
 * come in their order, a unit of 16 after the other (body_arm_panels.h).
 *
 *     quad     r0 c0 … c3 | r1 … | r2 … | r3 …    ->    r0: c0 c1 c2 c3   r1: c0 c1 c2 c3   …
 *
 * More tokens, and a group that the row's end cuts, take weights made floats once:
 *
 *     tmp:  weights [16 registers of columns][16 rows][4] · sums [tokens][16 rows][4]
 */
#include <math.h>

#include "kern/arm/arm_panel_codes.h"

#define ROWS      SL_PANEL_ROWS
#define ROW_LANES (4 * ROWS) /* floats of a register of every row */
_Static_assert(ROWS * SL_GROUP <= SL_MM_ROWS * SL_MM_COLS && ROW_LANES <= SL_MM_ROWS * 16, "tmp");

/* ---- weights as floats ----------------------------------------------------------------------- */

/* Bytes 4r … 4r + 3 as four numbers. */
SL_INLINE float32x4_t row_codes(uint8x16_t codes, unsigned r)
{
    const bytes16 first = {0, 255, 255, 255, 1, 255, 255, 255, 2, 255, 255, 255, 3, 255, 255, 255};
    const uint8x16_t at = (uint8x16_t)(first | (uint8_t)(4 * r)); /* beyond the end: 0 */
    return vcvtq_f32_u32(vreinterpretq_u32_u8(vqtbl1q_u8(codes, at)));
}

/* Vector i of unit u: out[r] = columns 16u + 4i … of row 4k + r. */
SL_INLINE void quad_weights(sl__dtype type, const unsigned char *block, unsigned u, unsigned k,
                            unsigned i, const float minimum[ROWS], float32x4_t out[4])
{
    const uint8x16_t codes = panel_codes(type, block + PANEL_HEAD, u, k, i, 0);
    const float32x4_t scale = panel_scale(block, k);
    out[0] = vmulq_laneq_f32(row_codes(codes, 0), scale, 0);
    out[1] = vmulq_laneq_f32(row_codes(codes, 1), scale, 1);
    out[2] = vmulq_laneq_f32(row_codes(codes, 2), scale, 2);
    out[3] = vmulq_laneq_f32(row_codes(codes, 3), scale, 3);
    for (unsigned r = 0; r < 4; r++)
        out[r] = vaddq_f32(out[r], vdupq_n_f32(minimum[4 * k + r]));
}

SL_INLINE void load_minima(const unsigned char *block, float minimum[ROWS])
{
    for (unsigned k = 0; k < 4; k++)
        vst1q_f32(minimum + 4 * k, panel_minimum(block, k));
}

SL_INLINE void open_unit(sl__dtype type, const unsigned char *block, unsigned u,
                         const float minimum[ROWS], float *weights)
{
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned k = 0; k < 4; k++) {
            float32x4_t w[4];
            quad_weights(type, block, u, k, i, minimum, w);
            for (unsigned r = 0; r < 4; r++)
                vst1q_f32(weights + (4 * u + i) * ROW_LANES + 4 * (4 * k + r), w[r]);
        }
    }
}

SL_INLINE void open_floats(sl__dtype type, const unsigned char *block, float *weights)
{
    float minimum[ROWS];
    load_minima(block, minimum);
    open_unit(type, block, 0, minimum, weights);
    open_unit(type, block, 1, minimum, weights);
    open_unit(type, block, 2, minimum, weights);
    open_unit(type, block, 3, minimum, weights);
}

/* ---- products with floats -------------------------------------------------------------------- */

/* Unit u of the eight rows of quads k and k + 1, for one token. */
SL_INLINE void unit_rows(sl__dtype type, const unsigned char *block, unsigned u, unsigned k,
                         const float minimum[ROWS], const float *x, float32x4_t s[8])
{
    for (unsigned i = 0; i < 4; i++) {
        const float32x4_t xs = vld1q_f32(x + 16 * u + 4 * i);
        for (unsigned half = 0; half < 2; half++) {
            float32x4_t w[4];
            quad_weights(type, block, u, k + half, i, minimum, w);
            for (unsigned r = 0; r < 4; r++)
                s[4 * half + r] = vaddq_f32(s[4 * half + r], vmulq_f32(w[r], xs));
        }
    }
}

/* A whole group of one token; eight rows at a time, so that sums and minima stay in registers. */
SL_INLINE void add_group(sl__dtype type, const unsigned char *block, const float *x, float *sums)
{
    float minimum[ROWS];
    load_minima(block, minimum);
    for (unsigned k = 0; k < 4; k += 2) {
        float32x4_t s[8];
        for (unsigned r = 0; r < 8; r++)
            s[r] = vld1q_f32(sums + 16 * k + 4 * r);
        unit_rows(type, block, 0, k, minimum, x, s);
        unit_rows(type, block, 1, k, minimum, x, s);
        unit_rows(type, block, 2, k, minimum, x, s);
        unit_rows(type, block, 3, k, minimum, x, s);
        for (unsigned r = 0; r < 8; r++)
            vst1q_f32(sums + 16 * k + 4 * r, s[r]);
    }
}

/* `registers` of four columns; R rows by T tokens in registers, both constants. */
SL_INLINE void float_tile(const float *weights, const float *x, size_t x_stride, uint32_t registers,
                          float *sums, uint32_t R, uint32_t T)
{
    float32x4_t s[16];
    for (uint32_t i = 0; i < R * T; i++)
        s[i] = vld1q_f32(sums + i / R * ROW_LANES + 4 * (i % R));
    for (uint32_t j = 0; j < registers; j++) {
        float32x4_t xs[4];
        for (uint32_t t = 0; t < T; t++)
            xs[t] = vld1q_f32(x + t * x_stride + 4 * j);
        for (uint32_t r = 0; r < R; r++) {
            const float32x4_t w = vld1q_f32(weights + j * ROW_LANES + 4 * r);
            for (uint32_t t = 0; t < T; t++)
                s[t * R + r] = vaddq_f32(s[t * R + r], vmulq_f32(w, xs[t]));
        }
    }
    for (uint32_t i = 0; i < R * T; i++)
        vst1q_f32(sums + i / R * ROW_LANES + 4 * (i % R), s[i]);
}

/* `count` columns of a group, opened, with all tokens. */
static void add_opened(const float *weights, const float *x, size_t x_stride, uint32_t count,
                       uint32_t tokens, float *sums)
{
    const uint32_t registers = count / 4;
    uint32_t t = 0;
    for (; tokens - t >= 4; t += 4) {
        for (uint32_t r = 0; r < ROWS; r += 4)
            float_tile(weights + 4 * r, x + t * x_stride, x_stride, registers,
                       sums + t * ROW_LANES + 4 * r, 4, 4);
    }
    for (; t < tokens; t++)
        float_tile(weights, x + t * x_stride, 0, registers, sums + t * ROW_LANES, ROWS, 1);
    for (t = 0; count % 4 != 0 && t < tokens; t++) {
        for (uint32_t i = 0; i < count % 4 * ROWS; i++) { /* the last lanes get nothing */
            const uint32_t lane = i / ROWS, at = 4 * (i % ROWS) + lane;
            sums[t * ROW_LANES + at] +=
                weights[registers * ROW_LANES + at] * x[t * x_stride + 4 * registers + lane];
        }
    }
}

static void fold_rows(const float *sums, uint32_t count, float *y)
{
    for (uint32_t r = 0; r < count; r++) {
        const float *s = sums + 4 * r;
        y[r] = (s[0] + s[2]) + (s[1] + s[3]);
    }
}

SL_INLINE void float_panels(sl__dtype type, const unsigned char *w, size_t panel_bytes,
                            uint32_t rows, uint32_t cols, const float *x, size_t x_stride,
                            uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    float *weights = tmp, *sums = tmp + ROWS * SL_GROUP;
    for (uint32_t r = 0; r < rows; r += ROWS, w += panel_bytes) {
        const unsigned char *block = w;
        memset(sums, 0, (size_t)tokens * ROW_LANES * sizeof *sums);
        for (uint32_t c = 0; c < cols; c += SL_GROUP, block += panel_block_bytes(type)) {
            const uint32_t count = cols - c < SL_GROUP ? cols - c : SL_GROUP;
            if (tokens == 1 && count == SL_GROUP) {
                add_group(type, block, x + c, sums);
            } else {
                open_floats(type, block, weights);
                add_opened(weights, x + c, x_stride, count, tokens, sums);
            }
        }
        for (uint32_t t = 0; t < tokens; t++)
            fold_rows(sums + t * ROW_LANES, rows - r < ROWS ? rows - r : ROWS,
                      y + t * y_stride + r);
    }
}

static void panel_matmul(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                         uint32_t cols, const float *x, size_t x_stride, uint32_t tokens, float *y,
                         size_t y_stride, float *tmp)
{
    const size_t n = row_bytes * ROWS;
    assert(sl__dtype_has_panels(type));
    switch (type) {
    case SL_Q8:
        float_panels(SL_Q8, w, n, rows, cols, x, x_stride, tokens, y, y_stride, tmp);
        break;
    case SL_Q4:
        float_panels(SL_Q4, w, n, rows, cols, x, x_stride, tokens, y, y_stride, tmp);
        break;
    case SL_Q3:
        float_panels(SL_Q3, w, n, rows, cols, x, x_stride, tokens, y, y_stride, tmp);
        break;
    default: float_panels(SL_Q2, w, n, rows, cols, x, x_stride, tokens, y, y_stride, tmp);
    }
}

/* ---- activations of 8 bits ------------------------------------------------------------------- */

/* The largest magnitude's bits, which compare as numbers do; NaN is above them all. */
SL_INLINE uint32_t largest_bits(const float x[SL_GROUP])
{
    const uint32x4_t magnitude = vdupq_n_u32(0x7fffffffu);
    uint32x4_t most = vdupq_n_u32(0);
    for (unsigned i = 0; i < SL_GROUP; i += 4)
        most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x + i)), magnitude));
    return vmaxvq_u32(most);
}

SL_INLINE int16x4_t four_rounded(const float *x, float inverse) /* ties to even */
{
    return vmovn_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), inverse)));
}

static void quantise_group(const float x[SL_GROUP], int8_t code[SL_GROUP], sl__q8_group *group)
{
    const uint32_t most = largest_bits(x);
    float largest;
    memcpy(&largest, &most, sizeof largest);
    *group = (sl__q8_group){0};
    if (most >= 0x7f800000u || largest < 0x1p-100f) {
        memset(code, 0, SL_GROUP);
        if (most >= 0x7f800000u) group->step = group->total = NAN;
        return;
    }
    const float inverse = 127.0f / largest;
    int sum = 0;
    for (unsigned k = 0; k < 4; k++, x += 16) {
        const int16x8_t low = vcombine_s16(four_rounded(x, inverse), four_rounded(x + 4, inverse));
        const int16x8_t high =
            vcombine_s16(four_rounded(x + 8, inverse), four_rounded(x + 12, inverse));
        const int8x16_t codes = vcombine_s8(vmovn_s16(low), vmovn_s16(high));
        vst1q_s8(code + 16 * k, codes);
        group->sums[k] = vaddlvq_s8(codes);
        sum += group->sums[k];
    }
    group->step = largest / 127.0f;
    group->total = group->step * (float)sum;
}

static void quantise_rows(const float *x, size_t x_stride, uint32_t c0, uint32_t c1, uint32_t cols,
                          uint32_t tokens, void *out)
{
    assert(c0 % SL_GROUP == 0 && c1 <= cols && (c1 == cols || c1 % SL_GROUP == 0));
    for (uint32_t t = 0; t < tokens; t++, x += x_stride) {
        int8_t *codes = (int8_t *)out + t * sl__q8_row_bytes(cols);
        int8_t *groups = codes + sl__q8_groups(cols) * SL_GROUP;
        for (uint32_t c = c0; c < c1; c += SL_GROUP) {
            const float *from = x + (c - c0);
            float last[SL_GROUP] = {0};
            sl__q8_group group;
            if (c1 - c < SL_GROUP) from = memcpy(last, from, (c1 - c) * sizeof *last);
            quantise_group(from, codes + c, &group);
            memcpy(groups + c / SL_GROUP * sizeof group, &group, sizeof group);
        }
    }
}

void sl__kern_neon_panels(sl__kern *kern)
{
    kern->panel_matmul = panel_matmul;
    kern->quantise_rows = quantise_rows;
}
