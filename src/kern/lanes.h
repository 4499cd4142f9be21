/* The sixteen lanes of the dot product as vectors of SL_VW floats (4 in ref/, 8 with AVX2, 16 with
 * AVX-512), and the
 * register tiles that everything with a sum is made of. Private to the files under kern/, each of
 * which defines SL_VW first and is compiled with the flags of its level: the source is one, so the
 * order of every sum is one.
 *
 *     columns   0 … 15 | 16 … 31 | 32 …          lane i of a sum takes columns i, i + 16, i + 32 …
 *     vectors   v v v v  v v v v                  (SL_VW 4: four vectors are the sixteen lanes)
 */
#ifndef SL_KERN_LANES_H
#define SL_KERN_LANES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SL_LANES   16u
#define SL_VN      (SL_LANES / SL_VW) /* vectors that make the lanes */
#define SL_VPAIR  (SL_VN < 2 ? SL_VN : 2u)
#define SL_INLINE  static inline __attribute__((always_inline))
#define SL_PERHAPS static inline __attribute__((unused)) /* not every file uses all */

typedef float vec __attribute__((vector_size(SL_VW * 4)));

SL_INLINE vec vec_load(const void *p) /* no alignment needed */
{
    vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

SL_INLINE void vec_store(float *p, vec v)
{
    memcpy(p, &v, sizeof v);
}

SL_INLINE vec vec_set1(float a)
{
#if SL_VW == 4
    return (vec){a, a, a, a};
#elif SL_VW == 8
    return (vec){a, a, a, a, a, a, a, a};
#else
    return (vec){a, a, a, a, a, a, a, a, a, a, a, a, a, a, a, a};
#endif
}

/* The fold that ends a dot product. */
SL_INLINE float lanes_fold(const float acc[SL_LANES])
{
    typedef float vec4 __attribute__((vector_size(16)));
    vec4 s[4];
    memcpy(s, acc, sizeof s);
    s[0] += s[2];
    s[1] += s[3];
    s[0] += s[1];
    return (s[0][0] + s[0][2]) + (s[0][1] + s[0][3]);
}

/* acc[t][r][16] += the products of w's rows and x's rows over `cols` (a multiple of 16) columns.
 * acc has room for `ar` rows a token. R, T, P are constants at every call: R rows by T tokens are
 * kept in registers for P of the lanes' vectors at a time. */
SL_INLINE void tile_dot(const unsigned char *w, size_t w_bytes, const float *x, size_t x_stride,
                        uint32_t cols, float *acc, uint32_t ar, uint32_t R, uint32_t T, uint32_t P)
{
    for (uint32_t p = 0; p < SL_VN; p += P) {
        vec s[16];
        for (uint32_t i = 0; i < R * T * P; i++) {
            uint32_t t = i / (R * P), r = i / P % R, q = i % P;
            s[i] = vec_load(acc + ((size_t)t * ar + r) * SL_LANES + (p + q) * SL_VW);
        }
        for (uint32_t c = p * SL_VW; c < cols; c += SL_LANES) {
            for (uint32_t q = 0; q < P; q++) {
                vec xv[4];
                for (uint32_t t = 0; t < T; t++)
                    xv[t] = vec_load(x + t * x_stride + c + q * SL_VW);
                for (uint32_t r = 0; r < R; r++) {
                    vec wv = vec_load(w + r * w_bytes + (c + q * SL_VW) * sizeof(float));
                    for (uint32_t t = 0; t < T; t++)
                        s[(t * R + r) * P + q] += wv * xv[t];
                }
            }
        }
        for (uint32_t i = 0; i < R * T * P; i++) {
            uint32_t t = i / (R * P), r = i / P % R, q = i % P;
            vec_store(acc + ((size_t)t * ar + r) * SL_LANES + (p + q) * SL_VW, s[i]);
        }
    }
}

/* The columns after the last multiple of 16: `n` < 16 of them. */
SL_INLINE void tail_dot(const unsigned char *w, const float *x, uint32_t n, float acc[SL_LANES])
{
    for (uint32_t c = 0; c < n; c++) {
        float wc;
        memcpy(&wc, w + c * sizeof(float), sizeof wc);
        acc[c] += wc * x[c];
    }
}

/* y[r] = row r · x for rows of floats at any address: the dot product, four rows at a time. */
SL_PERHAPS void dot_rows(const void *rows, size_t row_bytes, uint32_t count, uint32_t n,
                         const float *x, float *y)
{
    const unsigned char *w = rows;
    uint32_t whole = n & ~(SL_LANES - 1u);
    for (uint32_t r = 0; r < count;) {
        float acc[4][SL_LANES] = {{0}};
        uint32_t step = count - r >= 4 ? 4 : 1;
        if (step == 4)
            tile_dot(w, row_bytes, x, 0, whole, acc[0], 4, 4, 1, SL_VPAIR);
        else
            tile_dot(w, row_bytes, x, 0, whole, acc[0], 1, 1, 1, SL_VN);
        for (uint32_t i = 0; i < step; i++) {
            tail_dot(w + i * row_bytes + whole * sizeof(float), x + whole, n - whole, acc[i]);
            y[r + i] = lanes_fold(acc[i]);
        }
        w += step * row_bytes;
        r += step;
    }
}

/* c[i][j] = (begin from c, or from 0) + Σ_k a[i][k] b[k][j], in increasing k, for R rows and V
 * vectors of columns kept in registers. Strides in floats. */
SL_INLINE void tile_sum(const float *a, size_t a_row, size_t a_col, const float *b, size_t b_stride,
                        uint32_t depth, float *c, size_t c_stride, uint32_t R, uint32_t V)
{
    vec s[12];
    for (uint32_t i = 0; i < R * V; i++)
        s[i] = vec_load(c + i / V * c_stride + i % V * SL_VW);
    for (uint32_t k = 0; k < depth; k++) {
        vec bv[8];
        for (uint32_t v = 0; v < V; v++)
            bv[v] = vec_load(b + k * b_stride + v * SL_VW);
        for (uint32_t r = 0; r < R; r++) {
            vec av = vec_set1(a[r * a_row + k * a_col]);
            for (uint32_t v = 0; v < V; v++)
                s[r * V + v] += av * bv[v];
        }
    }
    for (uint32_t i = 0; i < R * V; i++)
        vec_store(c + i / V * c_stride + i % V * SL_VW, s[i]);
}

/* C[rows][cols] += A·B with A[i][k] = a[i*a_row + k*a_col], summed in increasing k, product
 * rounded, then sum rounded: the same bits however it is tiled. */
SL_PERHAPS void sum_rows(const float *a, size_t a_row, size_t a_col, const float *b,
                         size_t b_stride, uint32_t depth, float *c, size_t c_stride, uint32_t rows,
                         uint32_t cols)
{
    for (uint32_t i = 0; i < rows;) {
        uint32_t step = rows - i >= 4 ? 4 : 1;
        const float *ai = a + i * a_row;
        float *ci = c + i * c_stride;
        uint32_t j = 0;
        for (; step == 4 && cols - j >= 2 * SL_VW; j += 2 * SL_VW)
            tile_sum(ai, a_row, a_col, b + j, b_stride, depth, ci + j, c_stride, 4, 2);
        for (; step == 1 && cols - j >= 8 * SL_VW; j += 8 * SL_VW)
            tile_sum(ai, a_row, a_col, b + j, b_stride, depth, ci + j, c_stride, 1, 8);
        for (; cols - j >= SL_VW; j += SL_VW) {
            for (uint32_t r = 0; r < step; r++)
                tile_sum(ai + r * a_row, a_row, a_col, b + j, b_stride, depth,
                         ci + r * c_stride + j, c_stride, 1, 1);
        }
        for (; j < cols; j++) {
            for (uint32_t r = 0; r < step; r++) {
                float s = ci[r * c_stride + j];
                for (uint32_t k = 0; k < depth; k++)
                    s += ai[r * a_row + k * a_col] * b[k * b_stride + j];
                ci[r * c_stride + j] = s;
            }
        }
        i += step;
    }
}

#endif
