/* Weights in bf16 by activations in bf16, over vectors of pairs: two adjacent columns are the
 * halves of a number of 32 bits, and each half becomes a float where it stands.
 *
 *     columns     0 1   2 3   4 5  …           a step: 32 columns, 64 bytes of a row
 *     pairs      [lo hi|lo hi|lo hi …]
 *     lane i     += lo·lo, then += hi·hi       of pairs i, i + SL_VW, i + 2·SL_VW …
 *
 * Rows × tokens have a vector of sums each, in registers for all columns; the lanes of four sums
 * are folded together. Where the columns end within a step, the rest of each row is copied beside
 * zeros, which the activations have there already.
 *
 * A file that includes this defines SL_VW, SL_BF16_TOKENS (of a tile, with four rows), and, before
 * the include,
 *
 *     opened bf16_open(pairs p)                        what is done once an operand
 *     vec bf16_add(vec s, opened w, opened x)          the products of all pairs, added
 *     void bf16_fold(const vec s[4], float out[4])     four sums of all lanes
 *
 * of which bf16_floats.h has the first two as multiply-adds of floats.
 */
#ifndef SL_KERN_BODY_BF16_H
#define SL_KERN_BODY_BF16_H

#include "kern/bf16_pairs.h"
#include "kern/kern.h"

#define STEP_BYTES  64u
#define STEP_VECS   (STEP_BYTES / (4 * SL_VW))
#define AHEAD_STEPS 8u /* a row's bytes are asked for so many steps before they are used */
#define TILE_ROWS   4u
#define FEW_ROWS    8u                  /* of a tile of one token */
#define CHUNK_BYTES ((size_t)256 << 10) /* of rows that all tokens pass before the next */

SL_INLINE pairs load_pairs(const unsigned char *p)
{
    pairs v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* R rows, each where w says, by T tokens: s[t·R + r] += the products of a step. R and T are
 * constants at every call. */
SL_INLINE void add_step(vec *s, const unsigned char *const *w, size_t at, const unsigned char *x,
                        size_t x_bytes, uint32_t R, uint32_t T)
{
    for (uint32_t v = 0; v < STEP_VECS; v++) {
        opened token[SL_BF16_TOKENS]; /* fewer than rows, which are opened one at a time */
        const size_t part = v * sizeof(pairs);
        for (uint32_t t = 0; t < T; t++)
            token[t] = bf16_open(load_pairs(x + t * x_bytes + part));
        for (uint32_t r = 0; r < R; r++) {
            const opened row = bf16_open(load_pairs(w[r] + at + part));
            for (uint32_t t = 0; t < T; t++)
                s[t * R + r] = bf16_add(s[t * R + r], row, token[t]);
        }
    }
}

typedef struct bf16_rows {
    const unsigned char *w;
    size_t row_bytes;
    uint32_t rows, cols;
    bool fetch; /* they are not in a cache yet */
} bf16_rows;

/* The rows from `first` on, R of them or as many as there are, by T tokens. */
SL_INLINE void tile_bf16(const bf16_rows *m, uint32_t first, const unsigned char *x, size_t x_bytes,
                         float *y, size_t y_stride, uint32_t R, uint32_t T)
{
    const uint32_t left = m->rows - first, count = left < R ? left : R;
    const size_t whole = m->cols / 32 * STEP_BYTES, rest = m->cols % 32 * sizeof(uint16_t);
    /* The next tile's rows, where there are some, are asked for when this one's all have been. */
    const size_t next = left > R ? R * m->row_bytes - whole : 0;
    const unsigned char *w[FEW_ROWS];
    vec s[FEW_ROWS * SL_BF16_TOKENS];
    for (uint32_t r = 0; r < R; r++) /* a row that is not there is the last again */
        w[r] = m->w + (first + (r < count ? r : count - 1)) * m->row_bytes;
    for (uint32_t i = 0; i < R * T; i++)
        s[i] = vec_set1(0);
    for (size_t at = 0; at < whole; at += STEP_BYTES) {
        size_t ahead = at + AHEAD_STEPS * STEP_BYTES;
        if (ahead >= whole) ahead += next;
        for (uint32_t r = 0; r < R && m->fetch; r++)
            __builtin_prefetch((const void *)((uintptr_t)w[r] + ahead));
        add_step(s, w, at, x + at, x_bytes, R, T);
    }
    if (rest > 0) {
        unsigned char last[FEW_ROWS][STEP_BYTES] = {{0}};
        for (uint32_t r = 0; r < R; r++) {
            memcpy(last[r], w[r] + whole, rest);
            w[r] = last[r];
        }
        add_step(s, w, 0, x + whole, x_bytes, R, T);
    }
    for (uint32_t i = 0; i < R * T; i += TILE_ROWS) {
        float sums[TILE_ROWS];
        const uint32_t r = i % R, more = r < count ? count - r : 0;
        bf16_fold(s + i, sums);
        memcpy(y + i / R * y_stride + first + r, sums,
               (more < TILE_ROWS ? more : TILE_ROWS) * sizeof *sums);
    }
}

/* Up to SL_BF16_TOKENS tokens with all rows. */
SL_INLINE void strip_bf16(const bf16_rows *m, const unsigned char *x, size_t x_bytes, float *y,
                          size_t y_stride, uint32_t T)
{
    const uint32_t R = T == 1 ? FEW_ROWS : TILE_ROWS;
    for (uint32_t r = 0; r < m->rows; r += R)
        tile_bf16(m, r, x, x_bytes, y, y_stride, R, T);
}

static void matmul_bf16(const void *w, size_t row_bytes, uint32_t rows, uint32_t cols,
                        const void *x, uint32_t tokens, float *y, size_t y_stride)
{
    const size_t x_bytes = sl__bf16_row(cols) * sizeof(uint16_t);
    const size_t fit = CHUNK_BYTES / (row_bytes + 1) / FEW_ROWS * FEW_ROWS;
    const uint32_t chunk = fit > FEW_ROWS ? (uint32_t)fit : FEW_ROWS;
    for (uint32_t r = 0; r < rows; r += chunk) {
        const uint32_t count = rows - r < chunk ? rows - r : chunk;
        bf16_rows m = {(const unsigned char *)w + r * row_bytes, row_bytes, count, cols, true};
        const unsigned char *token = x;
        float *out = y + r;
        uint32_t left = tokens;
        for (; left >= SL_BF16_TOKENS; left -= SL_BF16_TOKENS) {
            strip_bf16(&m, token, x_bytes, out, y_stride, SL_BF16_TOKENS);
            token += SL_BF16_TOKENS * x_bytes;
            out += SL_BF16_TOKENS * y_stride;
            m.fetch = false;
        }
        if (left % 4 >= 2) {
            strip_bf16(&m, token, x_bytes, out, y_stride, 2);
            token += 2 * x_bytes;
            out += 2 * y_stride;
            m.fetch = false;
        }
        if (left % 2) strip_bf16(&m, token, x_bytes, out, y_stride, 1);
    }
}

#endif
