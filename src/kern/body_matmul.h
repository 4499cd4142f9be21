/* matmul, matmul_t and dot over the lanes (lanes.h); dequant_span is the level's.
 *
 * Tiles: SL_MM_ROWS rows × SL_MM_COLS columns of weights are made floats once and multiplied with
 * every token; the lanes of the row × token pairs wait in tmp between the column blocks.
 *
 *     tmp:  weights [SL_MM_ROWS][SL_MM_COLS] · lanes [tokens][SL_MM_ROWS][16]
 */
#ifndef SL_KERN_BODY_MATMUL_H
#define SL_KERN_BODY_MATMUL_H

#include "base/rows.h"
#include "kern/body_planes.h"
#include "kern/lanes.h"
#include "kern/levels.h"

/* out = weights [first, first + count) of row r; first % SL_GROUP == 0. */
static void dequant_span(const sl__rows *w, uint32_t r, uint32_t first, uint32_t count, float *out);

SL_INLINE const unsigned char *row_at(const sl__rows *w, uint32_t r)
{
    return (const unsigned char *)w->data + r * w->row_bytes;
}

/* Row r of a plane of scales that has one for every row; NULL where the type has none. */
SL_INLINE const unsigned char *scale_row(const void *scales, size_t scale_row_bytes, uint32_t r)
{
    return scales ? (const unsigned char *)scales + r * scale_row_bytes : NULL;
}

/* One block of columns, already floats, with all tokens. */
static void block_dot(const float *weights, const float *x, size_t x_stride, uint32_t cols,
                      uint32_t tokens, float *lanes)
{
    const unsigned char *w = (const unsigned char *)weights;
    const size_t w_bytes = SL_MM_COLS * sizeof(float), room = SL_MM_ROWS * SL_LANES;
    uint32_t whole = cols & ~(SL_LANES - 1u), t = 0;
    for (; t + 3 <= tokens; t += 3)
        tile_dot(w, w_bytes, x + t * x_stride, x_stride, whole, lanes + t * room, SL_MM_ROWS,
                 SL_MM_ROWS, SL_MM_TOKENS, 1);
    if (tokens - t == 2)
        tile_dot(w, w_bytes, x + t * x_stride, x_stride, whole, lanes + t * room, SL_MM_ROWS,
                 SL_MM_ROWS, 2, 1);
    if (tokens - t == 1)
        tile_dot(w, w_bytes, x + t * x_stride, x_stride, whole, lanes + t * room, SL_MM_ROWS,
                 SL_MM_ROWS, 1, SL_VPAIR);
    if (whole == cols) return;
    for (t = 0; t < tokens; t++) {
        for (uint32_t r = 0; r < SL_MM_ROWS; r++)
            tail_dot(w + r * w_bytes + whole * sizeof(float), x + t * x_stride + whole,
                     cols - whole, lanes + t * room + r * SL_LANES);
    }
}

static void matmul(const sl__rows *w, uint32_t rows, uint32_t cols, const float *x, size_t x_stride,
                   uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    float *weights = tmp, *lanes = tmp + SL_MM_ROWS * SL_MM_COLS;
    if (w->dtype == SL_F32 && tokens == 1) {
        dot_rows(w->data, w->row_bytes, rows, cols, x, y);
        return;
    }
    for (uint32_t r0 = 0; r0 < rows; r0 += SL_MM_ROWS) {
        uint32_t count = rows - r0 < SL_MM_ROWS ? rows - r0 : SL_MM_ROWS;
        memset(lanes, 0, (size_t)tokens * SL_MM_ROWS * SL_LANES * sizeof(float));
        for (uint32_t c = 0; c < cols; c += SL_MM_COLS) {
            uint32_t n = cols - c < SL_MM_COLS ? cols - c : SL_MM_COLS;
            for (uint32_t r = 0; r < SL_MM_ROWS; r++) {
                if (r < count)
                    dequant_span(w, r0 + r, c, n, weights + r * SL_MM_COLS);
                else /* a row that is not there: computed, and not stored */
                    memset(weights + r * SL_MM_COLS, 0, n * sizeof(float));
            }
            block_dot(weights, x + c, x_stride, n, tokens, lanes);
        }
        for (uint32_t t = 0; t < tokens; t++) {
            for (uint32_t r = 0; r < count; r++)
                y[t * y_stride + r0 + r] =
                    lanes_fold(lanes + ((size_t)t * SL_MM_ROWS + r) * SL_LANES);
        }
    }
}

/* A tile of SL_MM_T_ROWS × SL_MM_T_COLS weights is made floats once and added to every token. */
static void matmul_t(const sl__rows *w, uint32_t rows, uint32_t c0, uint32_t c1, const float *x,
                     size_t x_stride, uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    for (uint32_t t = 0; t < tokens; t++)
        memset(y + t * y_stride, 0, (c1 - c0) * sizeof(float));
    for (uint32_t c = c0; c < c1; c += SL_MM_T_COLS) {
        uint32_t n = c1 - c < SL_MM_T_COLS ? c1 - c : SL_MM_T_COLS;
        for (uint32_t r0 = 0; r0 < rows; r0 += SL_MM_T_ROWS) {
            uint32_t count = rows - r0 < SL_MM_T_ROWS ? rows - r0 : SL_MM_T_ROWS;
            for (uint32_t r = 0; r < count; r++)
                dequant_span(w, r0 + r, c, n, tmp + r * SL_MM_T_COLS);
            sum_rows(x + r0, x_stride, 1, tmp, SL_MM_T_COLS, count, y + (c - c0), y_stride, tokens,
                     n);
        }
    }
}

static float dot(const float *a, const float *b, uint32_t n)
{
    float y;
    dot_rows(a, 0, 1, n, b, &y);
    return y;
}

static void dequant_row(const sl__rows *w, uint32_t r, float *out, uint32_t cols)
{
    dequant_span(w, r, 0, cols, out);
}

#endif
