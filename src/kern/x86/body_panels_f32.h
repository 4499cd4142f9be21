/* The product of panels with activations as floats, and rounding activations to 8 bits.
 *
 * The weights of a group are made floats once, column by column, and added to the four lanes of
 * every token and row, which wait in tmp between the groups:
 *
 *     tmp, from its first multiple of 64 bytes:
 *     weights [64 columns][16 rows]   lanes [tokens][4][16 rows]
 */
#ifndef SL_KERN_X86_BODY_PANELS_F32_H
#define SL_KERN_X86_BODY_PANELS_F32_H

#include <assert.h>
#include <math.h>

#include "kern/x86/panel_codes.h"

#define LANES           4u
#define F32_TILE_TOKENS (SL_VW == 16 ? 6u : 3u) /* whose lanes fit in registers */

/* ---- products -------------------------------------------------------------------------------- */

SL_INLINE void open_floats(sl__dtype type, const unsigned char *block, float *out)
{
    const unsigned fields = codes_per_byte(type), vectors = QUADS / fields;
    for (unsigned p = 0; p < PARTS; p++) {
        vec scale = block_scale(block, p), minimum = block_minimum(block, p);
        for (unsigned i = 0; i < vectors; i++) {
            ivec v = block_vector(block, p, i), thirds = v;
            if (type == SL_Q3) thirds = third_bits(block, p, i);
            for (unsigned f = 0; f < fields; f++) {
                ivec quad = field(type, v, thirds, f);
                float *to = out + (f * vectors + i) * 4 * ROWS + p * SL_VW;
                for (unsigned c = 0; c < 4; c++) {
                    ivec code = quad >> (int)(8 * c) & ivec_set1(0xff);
                    vec_store(to + c * ROWS, scale * __builtin_convertvector(code, vec) + minimum);
                }
            }
        }
    }
}

/* Adds `cols` columns of T tokens to their lanes, for the rows of a part. */
SL_INLINE void lanes_add(const float *w, const float *x, size_t x_stride, uint32_t cols,
                         float *lanes, unsigned T)
{
    vec s[6 * LANES];
    for (unsigned i = 0; i < T * LANES; i++)
        s[i] = vec_load(lanes + i * ROWS);
    uint32_t c = 0;
    for (; c + LANES <= cols; c += LANES) {
        for (unsigned i = 0; i < LANES; i++) {
            vec wv = vec_load(w + (c + i) * ROWS);
            for (unsigned t = 0; t < T; t++)
                s[t * LANES + i] += wv * vec_set1(x[t * x_stride + c + i]);
        }
    }
    for (unsigned i = 0; i < LANES - 1; i++) {
        if (c + i >= cols) break;
        vec wv = vec_load(w + (c + i) * ROWS);
        for (unsigned t = 0; t < T; t++)
            s[t * LANES + i] += wv * vec_set1(x[t * x_stride + c + i]);
    }
    for (unsigned i = 0; i < T * LANES; i++)
        vec_store(lanes + i * ROWS, s[i]);
}

static void tokens_add(const float *w, const float *x, size_t x_stride, uint32_t cols,
                       uint32_t tokens, float *lanes)
{
    for (unsigned p = 0; p < PARTS; p++) {
        const float *xt = x;
        float *s = lanes + p * SL_VW;
        uint32_t t = 0;
        for (; t + F32_TILE_TOKENS <= tokens; t += F32_TILE_TOKENS) {
            lanes_add(w + p * SL_VW, xt, x_stride, cols, s, F32_TILE_TOKENS);
            xt += F32_TILE_TOKENS * x_stride;
            s += F32_TILE_TOKENS * LANES * ROWS;
        }
        for (; t < tokens; t++) {
            lanes_add(w + p * SL_VW, xt, x_stride, cols, s, 1);
            xt += x_stride;
            s += LANES * ROWS;
        }
    }
}

SL_INLINE void matmul_f32(sl__dtype type, const unsigned char *panel, size_t row_bytes,
                          uint32_t rows, uint32_t cols, const float *x, size_t x_stride,
                          uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    float *weights = (float *)(((uintptr_t)tmp + 63) / 64 * 64);
    float *lanes = weights + SL_GROUP * ROWS;
    for (uint32_t r0 = 0; r0 < rows; r0 += ROWS, panel += ROWS * row_bytes) {
        const unsigned char *block = panel;
        const size_t count = rows - r0 < ROWS ? rows - r0 : ROWS;
        memset(lanes, 0, (size_t)tokens * LANES * ROWS * sizeof *lanes);
        for (uint32_t c = 0; c < cols; c += SL_GROUP, block += panel_block_bytes(type)) {
            open_floats(type, block, weights);
            tokens_add(weights, x + c, x_stride, cols - c < SL_GROUP ? cols - c : SL_GROUP, tokens,
                       lanes);
        }
        for (uint32_t t = 0; t < tokens; t++) {
            float sum[ROWS];
            const float *s = lanes + (size_t)t * LANES * ROWS;
            for (unsigned r = 0; r < ROWS; r += SL_VW)
                vec_store(sum + r, (vec_load(s + r) + vec_load(s + 2 * ROWS + r)) +
                                       (vec_load(s + ROWS + r) + vec_load(s + 3 * ROWS + r)));
            memcpy(y + t * y_stride + r0, sum, count * sizeof *sum);
        }
    }
}

static void panel_matmul(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                         uint32_t cols, const float *x, size_t x_stride, uint32_t tokens, float *y,
                         size_t y_stride, float *tmp)
{
    _Static_assert(15 + SL_GROUP * ROWS <= SL_MM_ROWS * SL_MM_COLS &&
                       LANES * ROWS <= SL_MM_ROWS * SL_LANES,
                   "tmp holds the weights of a group and the lanes");
    assert(sl__dtype_has_panels(type));
#define MATMUL(t) matmul_f32(t, w, row_bytes, rows, cols, x, x_stride, tokens, y, y_stride, tmp)
    switch (type) {
    case SL_Q8: MATMUL(SL_Q8); break;
    case SL_Q4: MATMUL(SL_Q4); break;
    case SL_Q3: MATMUL(SL_Q3); break;
    default: MATMUL(SL_Q2);
    }
#undef MATMUL
}

/* ---- activations of 8 bits ------------------------------------------------------------------- */

/* To the nearest, ties to even. */
SL_INLINE ivec round_ints(vec v)
{
#if SL_VW == 16
    return (ivec)_mm512_cvtps_epi32((__m512)v);
#else
    return (ivec)_mm256_cvtps_epi32((__m256)v);
#endif
}

/* A whole group; zeros stand for what is after a row's last number. */
static void quantise_group(const float x[SL_GROUP], int8_t code[SL_GROUP], sl__q8_group *group)
{
    uint32_t bits[SL_GROUP], most = 0; /* magnitudes compare as their bits do, NaN above them all */
    memcpy(bits, x, sizeof bits);
    for (unsigned i = 0; i < SL_GROUP; i++) {
        bits[i] &= 0x7fffffffu;
        most = bits[i] > most ? bits[i] : most;
    }
    float largest;
    memcpy(&largest, &most, sizeof largest);
    memset(group, 0, sizeof *group);
    if (most >= 0x7f800000u || largest < 0x1p-100f) {
        memset(code, 0, SL_GROUP);
        if (most >= 0x7f800000u) group->step = group->total = NAN;
        return;
    }
    int32_t codes[SL_GROUP], all = 0;
    const vec inverse = vec_set1(127.0f / largest);
    for (unsigned i = 0; i < SL_GROUP; i += SL_VW) {
        ivec rounded = round_ints(vec_load(x + i) * inverse);
        memcpy(codes + i, &rounded, sizeof rounded);
    }
    for (unsigned i = 0; i < SL_GROUP; i++)
        code[i] = (int8_t)codes[i];
    for (unsigned q = 0; q < 4; q++) {
        int32_t sum = 0;
        for (unsigned i = 0; i < 16; i++)
            sum += codes[16 * q + i];
        group->sums[q] = (int16_t)sum;
        all += sum;
    }
    group->step = largest / 127.0f;
    group->total = group->step * (float)all;
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
            float padded[SL_GROUP] = {0};
            sl__q8_group group;
            if (c1 - c < SL_GROUP) {
                memcpy(padded, from, (c1 - c) * sizeof *from);
                from = padded;
            }
            quantise_group(from, codes + c, &group);
            memcpy(groups + c / SL_GROUP * sizeof group, &group, sizeof group);
        }
    }
}

#endif
