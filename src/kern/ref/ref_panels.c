/* Products with weights in panels, and activations of 8 bits: the definition. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "kern/levels.h"

#define ROWS   SL_PANEL_ROWS
#define TOKENS 32u /* whose sums wait while a block is opened for all of them */

/* A block of a panel, opened: column by column, its 16 rows side by side. */
struct block {
    float scale[ROWS], minimum[ROWS];
    uint8_t code[SL_GROUP][ROWS];
};

static inline unsigned code_of(sl__dtype type, const unsigned char *codes, unsigned c, unsigned r)
{
    const unsigned char *four = codes + 4 * r + c % 4; /* of vector 0 */
    switch (type) {
    case SL_Q8: return four[c / 4 * 64];
    case SL_Q4: return (unsigned)four[c % 32 / 4 * 64] >> (c / 32 * 4) & 15u;
    case SL_Q3: {
        const unsigned high = four[256 + c % 16 / 8 * 64], low = four[c % 16 / 4 * 64];
        return (low >> (c / 16 * 2) & 3u) | (high >> (c % 16 / 4 % 2 * 4 + c / 16) & 1u) << 2;
    }
    default: return (unsigned)four[c % 16 / 4 * 64] >> (c / 16 * 2) & 3u;
    }
}

static inline void open_codes(sl__dtype type, const unsigned char *codes,
                              uint8_t out[SL_GROUP][ROWS])
{
    for (unsigned c = 0; c < SL_GROUP; c++) {
        for (unsigned r = 0; r < ROWS; r++)
            out[c][r] = (uint8_t)code_of(type, codes, c, r);
    }
}

static void open_block(sl__dtype type, const unsigned char *p, struct block *out)
{
    uint16_t head[2][ROWS];
    memcpy(head, p, sizeof head);
    for (unsigned r = 0; r < ROWS; r++) {
        out->scale[r] = sl__bf16_to_f32(head[0][r]);
        out->minimum[r] = sl__bf16_to_f32(head[1][r]);
    }
    switch (type) { /* a constant where it is looked at */
    case SL_Q8: open_codes(SL_Q8, p + sizeof head, out->code); break;
    case SL_Q4: open_codes(SL_Q4, p + sizeof head, out->code); break;
    case SL_Q3: open_codes(SL_Q3, p + sizeof head, out->code); break;
    default: open_codes(SL_Q2, p + sizeof head, out->code);
    }
}

/* ---- float activations ----------------------------------------------------------------------- */

static void add_block(const struct block *b, const float *x, uint32_t count, float s[4][ROWS])
{
    for (uint32_t c = 0; c < count; c++) {
        float *lane = s[c % 4];
        for (unsigned r = 0; r < ROWS; r++)
            lane[r] += (b->scale[r] * (float)b->code[c][r] + b->minimum[r]) * x[c];
    }
}

static void panel_matmul(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                         uint32_t cols, const float *x, size_t x_stride, uint32_t tokens, float *y,
                         size_t y_stride, float *tmp)
{
    const size_t block_bytes = (size_t)ROWS * sl__dtype_block_bytes(type);
    (void)tmp;
    assert(sl__dtype_has_panels(type));
    for (uint32_t r0 = 0; r0 < rows; r0 += ROWS) {
        const unsigned char *panel = (const unsigned char *)w + r0 * row_bytes;
        uint32_t count = rows - r0 < ROWS ? rows - r0 : ROWS;
        for (uint32_t t0 = 0; t0 < tokens; t0 += TOKENS) {
            uint32_t n = tokens - t0 < TOKENS ? tokens - t0 : TOKENS;
            float s[TOKENS][4][ROWS];
            memset(s, 0, n * sizeof s[0]);
            for (uint32_t c = 0; c < cols; c += SL_GROUP) {
                struct block b;
                uint32_t columns = cols - c < SL_GROUP ? cols - c : SL_GROUP;
                open_block(type, panel + c / SL_GROUP * block_bytes, &b);
                for (uint32_t t = 0; t < n; t++)
                    add_block(&b, x + (t0 + t) * x_stride + c, columns, s[t]);
            }
            for (uint32_t t = 0; t < n; t++) {
                float *out = y + (t0 + t) * y_stride + r0;
                for (uint32_t r = 0; r < count; r++)
                    out[r] = (s[t][0][r] + s[t][2][r]) + (s[t][1][r] + s[t][3][r]);
            }
        }
    }
}

/* ---- activations of 8 bits ------------------------------------------------------------------- */

static void quantise_group(const float *x, uint32_t count, int8_t code[SL_GROUP],
                           sl__q8_group *group)
{
    uint32_t most = 0; /* magnitudes compare as their bits do, and NaN is above them all */
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bits &= 0x7fffffffu;
        if (bits > most) most = bits;
    }
    float largest;
    memcpy(&largest, &most, sizeof largest);
    memset(code, 0, SL_GROUP);
    *group = (sl__q8_group){0};
    if (most >= 0x7f800000u) {
        group->step = group->total = NAN;
    } else if (largest >= 0x1p-100f) {
        float inverse = 127.0f / largest;
        int sum = 0;
        for (uint32_t i = 0; i < count; i++) {
            code[i] = (int8_t)lrintf(x[i] * inverse);
            group->sums[i / 16] = (int16_t)(group->sums[i / 16] + code[i]);
            sum += code[i];
        }
        group->step = largest / 127.0f;
        group->total = group->step * (float)sum;
    }
}

static void quantise_rows(const float *x, size_t x_stride, uint32_t c0, uint32_t c1, uint32_t cols,
                          uint32_t tokens, void *out)
{
    assert(c0 % SL_GROUP == 0 && c1 <= cols && (c1 == cols || c1 % SL_GROUP == 0));
    for (uint32_t t = 0; t < tokens; t++) {
        int8_t *codes = (int8_t *)out + t * sl__q8_row_bytes(cols);
        int8_t *groups = codes + sl__q8_groups(cols) * SL_GROUP;
        for (uint32_t c = c0; c < c1; c += SL_GROUP) {
            sl__q8_group group;
            quantise_group(x + t * x_stride + (c - c0), c1 - c < SL_GROUP ? c1 - c : SL_GROUP,
                           codes + c, &group);
            memcpy(groups + c / SL_GROUP * sizeof group, &group, sizeof group);
        }
    }
}

static void add_block_q8(const struct block *b, const int8_t *code, const sl__q8_group *group,
                         float s[ROWS])
{
    int dot[ROWS] = {0};
    for (unsigned c = 0; c < SL_GROUP; c++) {
        for (unsigned r = 0; r < ROWS; r++)
            dot[r] += (short)b->code[c][r] * (short)code[c];
    }
    for (unsigned r = 0; r < ROWS; r++) {
        s[r] += b->scale[r] * group->step * (float)dot[r];
        s[r] += b->minimum[r] * group->total;
    }
}

static void panel_matmul_q8(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                            uint32_t cols, const void *x, uint32_t tokens, float *y,
                            size_t y_stride, float *tmp)
{
    const size_t block_bytes = (size_t)ROWS * sl__dtype_block_bytes(type);
    (void)tmp;
    assert(sl__dtype_has_panels(type));
    for (uint32_t r0 = 0; r0 < rows; r0 += ROWS) {
        const unsigned char *panel = (const unsigned char *)w + r0 * row_bytes;
        uint32_t count = rows - r0 < ROWS ? rows - r0 : ROWS;
        for (uint32_t t0 = 0; t0 < tokens; t0 += TOKENS) {
            uint32_t n = tokens - t0 < TOKENS ? tokens - t0 : TOKENS;
            float s[TOKENS][ROWS];
            memset(s, 0, n * sizeof s[0]);
            for (size_t g = 0; g < sl__q8_groups(cols); g++) {
                struct block b;
                open_block(type, panel + g * block_bytes, &b);
                for (uint32_t t = 0; t < n; t++) {
                    const int8_t *row = (const int8_t *)x + (t0 + t) * sl__q8_row_bytes(cols);
                    const int8_t *groups = row + sl__q8_groups(cols) * SL_GROUP;
                    sl__q8_group group;
                    memcpy(&group, groups + g * sizeof group, sizeof group);
                    add_block_q8(&b, row + g * SL_GROUP, &group, s[t]);
                }
            }
            for (uint32_t t = 0; t < n; t++)
                memcpy(y + (t0 + t) * y_stride + r0, s[t], count * sizeof **s);
        }
    }
}

void sl__kern_ref_panels(sl__kern *kern)
{
    kern->panel_matmul = panel_matmul;
    kern->quantise_rows = quantise_rows;
    kern->panel_matmul_q8 = panel_matmul_q8;
}
