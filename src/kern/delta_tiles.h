/* The register tiles of Gated DeltaNet: small products of matrices that lie whole in the caller's
 * tmp, padded with zeros to whole tiles. Private to body_delta.h.
 *
 *                  SL_DELTA_COLS columns of b, from L1
 *                        ┌──┬──┬──┬──┐
 *     a, one number      │  │  │  │  │ depth
 *     at a time          └──┴──┴──┴──┘
 *     ┌──────┐           ┌──┬──┐
 *     │      │ R rows    │s  s │  R × V vectors in registers
 *     └──────┘           └──┴──┘
 *
 * A level that has fused multiply-add says so by defining SL_VFMA(a, b, c) before this file.
 * Every number is its start and then its products in increasing depth, whatever the tile.
 */
#ifndef SL_KERN_DELTA_TILES_H
#define SL_KERN_DELTA_TILES_H

#include "kern/lanes.h"
#include "kern/levels.h"

#ifndef SL_VFMA
#define SL_VFMA(a, b, c) ((a) * (b) + (c))
#endif

#if SL_VW == 16
#define TILE_ROWS 8u
#else
#define TILE_ROWS 4u
#endif
#define TILE_VECS 2u

/* What becomes of the sums of a tile; c may hold something before. */
typedef enum tile_end {
    TILE_SET,   /* c = sum */
    TILE_ADD,   /* c = c + products, begun with c */
    TILE_FADE,  /* c = f·c + products, begun with f·c: f one number */
    TILE_SCALE, /* c = f[i]·sum */
    TILE_WRITE, /* c = g[i]·(c − f[i]·sum) */
} tile_end;

/* Σ_k a[k][i] b[k][j] for TILE_ROWS rows and TILE_VECS vectors of columns: a lies transposed, so
 * that the numbers of a step lie side by side. Strides in floats; `end` is a constant at every
 * call. */
SL_INLINE void delta_tile(const float *a, size_t a_stride, const float *b, size_t b_stride,
                          uint32_t depth, float *c, size_t c_stride, tile_end end, const float *f,
                          const float *g)
{
    vec s[TILE_ROWS][TILE_VECS];
#pragma GCC unroll 16
    for (uint32_t r = 0; r < TILE_ROWS; r++) {
#pragma GCC unroll 16
        for (uint32_t v = 0; v < TILE_VECS; v++) {
            s[r][v] = vec_set1(0);
            if (end == TILE_ADD || end == TILE_FADE)
                s[r][v] = vec_load(c + r * c_stride + v * SL_VW);
            if (end == TILE_FADE) s[r][v] *= vec_set1(*f);
        }
    }
    for (uint32_t k = 0; k < depth; k++) {
        vec bv[TILE_VECS];
#pragma GCC unroll 16
        for (uint32_t v = 0; v < TILE_VECS; v++)
            bv[v] = vec_load(b + k * b_stride + v * SL_VW);
#pragma GCC unroll 16
        for (uint32_t r = 0; r < TILE_ROWS; r++) {
            vec av = vec_set1(a[k * a_stride + r]);
#pragma GCC unroll 16
            for (uint32_t v = 0; v < TILE_VECS; v++)
                s[r][v] = SL_VFMA(av, bv[v], s[r][v]);
        }
    }
#pragma GCC unroll 16
    for (uint32_t r = 0; r < TILE_ROWS; r++) {
#pragma GCC unroll 16
        for (uint32_t v = 0; v < TILE_VECS; v++) {
            float *at = c + r * c_stride + v * SL_VW;
            if (end == TILE_SCALE || end == TILE_WRITE) s[r][v] *= vec_set1(f[r]);
            if (end == TILE_WRITE) s[r][v] = vec_set1(g[r]) * (vec_load(at) - s[r][v]);
            vec_store(at, s[r][v]);
        }
    }
}

/* The same for `rows` rows (a multiple of SL_DELTA_ROWS) and SL_DELTA_COLS columns. */
SL_INLINE void delta_product(const float *a, size_t a_stride, const float *b, size_t b_stride,
                             uint32_t depth, float *c, size_t c_stride, uint32_t rows,
                             tile_end end, const float *f, const float *g)
{
    for (uint32_t j = 0; j < SL_DELTA_COLS; j += TILE_VECS * SL_VW) {
        for (uint32_t i = 0; i < rows; i += TILE_ROWS) {
            bool each = end == TILE_SCALE || end == TILE_WRITE;
            delta_tile(a + i, a_stride, b + j, b_stride, depth, c + i * c_stride + j, c_stride,
                       end, each ? f + i : f, end == TILE_WRITE ? g + i : g);
        }
    }
}

/* Within SL_DELTA_ROWS rows of one vector of columns, in registers: d[i] += Σ_{j<i} l[j][i] d[j]
 * in increasing i, then o[i] += Σ_{j<=i} p[j][i] d[j]. l, p: rows of SL_DELTA_CHUNK floats; d, o:
 * rows of SL_DELTA_COLS. */
SL_INLINE void delta_corner(const float *l, const float *p, float *d, float *o)
{
    vec s[SL_DELTA_ROWS];
#pragma GCC unroll 16
    for (uint32_t i = 0; i < SL_DELTA_ROWS; i++)
        s[i] = vec_load(d + i * SL_DELTA_COLS);
#pragma GCC unroll 16
    for (uint32_t i = 1; i < SL_DELTA_ROWS; i++) {
#pragma GCC unroll 16
        for (uint32_t j = 0; j < i; j++)
            s[i] = SL_VFMA(vec_set1(l[j * SL_DELTA_CHUNK + i]), s[j], s[i]);
    }
#pragma GCC unroll 16
    for (uint32_t i = 0; i < SL_DELTA_ROWS; i++) {
        vec_store(d + i * SL_DELTA_COLS, s[i]);
        vec sum = vec_load(o + i * SL_DELTA_COLS);
#pragma GCC unroll 16
        for (uint32_t j = 0; j <= i; j++)
            sum = SL_VFMA(vec_set1(p[j * SL_DELTA_CHUNK + i]), s[j], sum);
        vec_store(o + i * SL_DELTA_COLS, sum);
    }
}

#endif
