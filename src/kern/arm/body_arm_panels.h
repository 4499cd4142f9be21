/* Products of weights in panels (base/panels.h) with activations of 8 bits, on registers of sixteen
 * bytes: a quad, four rows side by side, four columns of each. Four quads are the sixteen rows of a
 * vector; four vectors are a unit, 16 columns, which is a register of activations.
 *
 *     quad     r0 c0 … c3 | r1 c0 … c3 | r2 c0 … c3 | r3 c0 … c3
 *     group    4 units × 4 quads × 4 vectors: [unit][quad][vector] where it lies opened
 *
 * One token's weights never leave the registers. With more of them a group of a panel is opened
 * once, a byte a code, and multiplied with up to SL_Q8_TOKENS tokens, a tile of TILE at a time:
 *
 *     tmp:  sums [SL_Q8_TOKENS][16] · codes, opened [1024 bytes]
 *
 * The file that includes this is a level's and has defined
 *
 *     TILE          tokens of a tile
 *     FLIP          bit that is flipped in q8's codes, 0x80 where they have to be signed
 *     store_opened  four vectors of a quad, as tile_dots wants them
 *     group_dots    (type, codes in the panel, 64 codes of x, Σ of these, dots of the 16 rows)
 *     tile_dots     (type, opened codes, codes of TILE tokens, Σ of each, dots of 16 rows of each)
 */
#ifndef SL_KERN_ARM_BODY_ARM_PANELS_H
#define SL_KERN_ARM_BODY_ARM_PANELS_H

#include "kern/arm/arm_panel_codes.h"

#define SL_Q8_TOKENS 32u
_Static_assert(SL_Q8_TOKENS * SL_PANEL_ROWS + SL_PANEL_ROWS * SL_GROUP / 4 <= SL_Q8_TMP, "tmp");
_Static_assert(SL_Q8_TOKENS % TILE == 0, "tiles fill it");

SL_INLINE void store_opened(uint8_t out[64], const uint8x16_t four[4]);
SL_INLINE void group_dots(sl__dtype type, const unsigned char *p, const int8_t *x, int total,
                          int32x4_t dot[4]);
SL_INLINE void tile_dots(sl__dtype type, const uint8_t *codes, const int8_t *const x[TILE],
                         const int total[TILE], int32x4_t dot[TILE][4]);

/* Where the codes of a token's group are, and what goes with them. */
SL_INLINE sl__q8_group read_group(const int8_t *row, size_t groups, size_t g)
{
    sl__q8_group group;
    memcpy(&group, row + groups * SL_GROUP + g * sizeof group, sizeof group);
    return group;
}

SL_INLINE int sum_of_codes(const sl__q8_group *group)
{
    return group->sums[0] + group->sums[1] + group->sums[2] + group->sums[3];
}

/* A group's share of the sums of four rows: each product and each sum rounded. */
SL_INLINE float32x4_t add_dots(float32x4_t s, float32x4_t scale, float32x4_t minimum,
                               int32x4_t dot, const sl__q8_group *group)
{
    float32x4_t step = vmulq_f32(scale, vdupq_n_f32(group->step));
    s = vaddq_f32(s, vmulq_f32(step, vcvtq_f32_s32(dot)));
    return vaddq_f32(s, vmulq_f32(minimum, vdupq_n_f32(group->total)));
}

SL_INLINE void one_token(sl__dtype type, const unsigned char *panel, size_t groups, const int8_t *x,
                         uint32_t count, float *y)
{
    float32x4_t s[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};
    for (size_t g = 0; g < groups; g++, panel += panel_block_bytes(type)) {
        const sl__q8_group group = read_group(x, groups, g);
        int32x4_t dot[4];
        group_dots(type, panel + PANEL_HEAD, x + g * SL_GROUP, sum_of_codes(&group), dot);
        for (unsigned k = 0; k < 4; k++)
            s[k] = add_dots(s[k], panel_scale(panel, k), panel_minimum(panel, k), dot[k], &group);
    }
    float out[SL_PANEL_ROWS];
    for (unsigned k = 0; k < 4; k++)
        vst1q_f32(out + 4 * k, s[k]);
    memcpy(y, out, count * sizeof *y);
}

SL_INLINE void open_group(sl__dtype type, const unsigned char *p, uint8_t *codes)
{
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned u = 0; u < 4; u++) {
            uint8x16_t four[4];
            for (unsigned i = 0; i < 4; i++)
                four[i] = panel_codes(type, p, u, k, i, FLIP);
            store_opened(codes + 64 * (4 * u + k), four);
        }
    }
}

/* Group g of TILE tokens. Those from `tokens` on are the last once more: there is room for their
 * sums, and nobody reads them. */
SL_INLINE void add_tile(sl__dtype type, const unsigned char *panel, const uint8_t *codes,
                        const int8_t *x, size_t row_bytes, size_t groups, size_t g,
                        uint32_t tokens, float *sums)
{
    sl__q8_group group[TILE];
    const int8_t *at[TILE];
    int total[TILE];
    int32x4_t dot[TILE][4];
    for (uint32_t t = 0; t < TILE; t++) {
        const int8_t *row = x + (t < tokens ? t : tokens - 1) * row_bytes;
        group[t] = read_group(row, groups, g);
        total[t] = sum_of_codes(&group[t]);
        at[t] = row + g * SL_GROUP;
    }
    tile_dots(type, codes, at, total, dot);
    for (unsigned k = 0; k < 4; k++) {
        float32x4_t scale = panel_scale(panel, k), minimum = panel_minimum(panel, k);
        for (unsigned t = 0; t < TILE; t++) {
            float *s = sums + t * SL_PANEL_ROWS + 4 * k;
            vst1q_f32(s, add_dots(vld1q_f32(s), scale, minimum, dot[t][k], &group[t]));
        }
    }
}

/* A panel with 2 … SL_Q8_TOKENS tokens. */
SL_INLINE void many_tokens(sl__dtype type, const unsigned char *panel, size_t groups,
                           const int8_t *x, size_t row_bytes, uint32_t tokens, uint32_t count,
                           float *y, size_t y_stride, float *tmp)
{
    float *sums = tmp;
    uint8_t *codes = (uint8_t *)(tmp + SL_Q8_TOKENS * SL_PANEL_ROWS);
    memset(sums, 0, SL_Q8_TOKENS * SL_PANEL_ROWS * sizeof *sums);
    for (size_t g = 0; g < groups; g++, panel += panel_block_bytes(type)) {
        open_group(type, panel + PANEL_HEAD, codes);
        for (uint32_t t = 0; t < tokens; t += TILE)
            add_tile(type, panel, codes, x + t * row_bytes, row_bytes, groups, g, tokens - t,
                     sums + t * SL_PANEL_ROWS);
    }
    for (uint32_t t = 0; t < tokens; t++)
        memcpy(y + t * y_stride, sums + t * SL_PANEL_ROWS, count * sizeof *y);
}

/* All panels with some tokens before the next tokens: it is x that has to stay near. */
SL_INLINE void all_panels(sl__dtype type, const unsigned char *w, size_t panel_bytes, uint32_t rows,
                          uint32_t cols, const int8_t *x, uint32_t tokens, float *y,
                          size_t y_stride, float *tmp)
{
    const size_t groups = sl__q8_groups(cols), row_bytes = sl__q8_row_bytes(cols);
    for (uint32_t t = 0; t < tokens; t += SL_Q8_TOKENS) {
        const uint32_t some = tokens - t < SL_Q8_TOKENS ? tokens - t : SL_Q8_TOKENS;
        const int8_t *from = x + t * row_bytes;
        for (uint32_t r = 0; r < rows; r += SL_PANEL_ROWS) {
            const unsigned char *panel = w + r / SL_PANEL_ROWS * panel_bytes;
            const uint32_t count = rows - r < SL_PANEL_ROWS ? rows - r : SL_PANEL_ROWS;
            float *to = y + t * y_stride + r;
            if (some == 1)
                one_token(type, panel, groups, from, count, to);
            else
                many_tokens(type, panel, groups, from, row_bytes, some, count, to, y_stride, tmp);
        }
    }
}

static void panel_matmul_q8(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                            uint32_t cols, const void *x, uint32_t tokens, float *y,
                            size_t y_stride, float *tmp)
{
    const size_t bytes = row_bytes * SL_PANEL_ROWS;
    assert(sl__dtype_has_panels(type));
    switch (type) {
    case SL_Q8: all_panels(SL_Q8, w, bytes, rows, cols, x, tokens, y, y_stride, tmp); break;
    case SL_Q4: all_panels(SL_Q4, w, bytes, rows, cols, x, tokens, y, y_stride, tmp); break;
    case SL_Q3: all_panels(SL_Q3, w, bytes, rows, cols, x, tokens, y, y_stride, tmp); break;
    default: all_panels(SL_Q2, w, bytes, rows, cols, x, tokens, y, y_stride, tmp);
    }
}

#endif
