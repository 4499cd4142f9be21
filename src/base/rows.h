/* A matrix W[rows, cols] in memory as kernels see it: rows of codes, and beside them, for some
 * types, planes of scales and of biases.
 *
 *     codes    row 0 | row 1 | …                      row_bytes apart
 *     scales   one for `group` columns of `group_rows` rows, scale_row_bytes apart
 *     biases   as the scales, where there are any
 *
 *     weight[r][c] = scale[r / group_rows][c / group] · code[r][c] + bias[likewise]
 *
 * Types with planes: mxfp4, affine2 … affine8, f8_e4m3 (base/dtype.h).
 */
#ifndef SL_BASE_ROWS_H
#define SL_BASE_ROWS_H

#include "base/dtype.h"

/* How the planes lie. Zero: there are none. */
typedef struct sl__scaling {
    sl__dtype type;      /* of scales and biases: f32, f16, bf16, or f8_e8m0 (as in mxfp4) */
    uint32_t group;      /* columns that share one: a power of two from 16 on; 0: no planes */
    uint32_t group_rows; /* rows that do: a power of two */
    bool biases;         /* there are two planes */
} sl__scaling;

typedef struct sl__rows {
    sl__dtype dtype;
    const void *data;
    size_t row_bytes;
    sl__scaling scaling;
    const void *scales, *biases; /* of the group of rows that the first row is in; else NULL */
    size_t scale_row_bytes;      /* of the biases, too */
    uint32_t first;              /* the first row's number in that group of rows */
} sl__rows;

/* What the type alone says: mxfp4's planes; for all others none. */
static inline sl__scaling sl__dtype_scaling(sl__dtype type)
{
    if (type != SL_MXFP4) return (sl__scaling){.group = 0};
    return (sl__scaling){.type = SL_F8_E8M0, .group = SL_MX_GROUP, .group_rows = 1};
}

static inline bool sl__has_planes(const sl__scaling *scaling)
{
    return scaling->group > 0;
}

static inline bool sl__scaling_equal(const sl__scaling *a, const sl__scaling *b)
{
    return a->group == b->group &&
           (a->group == 0 ||
            (a->type == b->type && a->group_rows == b->group_rows && a->biases == b->biases));
}

/* Numbers in a row of a plane, and rows of it. */
static inline uint64_t sl__scaling_cols(const sl__scaling *scaling, uint64_t cols)
{
    return (cols + scaling->group - 1) / scaling->group;
}
static inline uint64_t sl__scaling_rows(const sl__scaling *scaling, uint64_t rows)
{
    return (rows + scaling->group_rows - 1) / scaling->group_rows;
}

/* The bytes of a row of a plane; 0 where there is none. */
static inline uint64_t sl__scaling_row_bytes(const sl__scaling *scaling, uint64_t cols)
{
    if (!sl__has_planes(scaling)) return 0;
    return sl__scaling_cols(scaling, cols) * sl__dtype_block_bytes(scaling->type);
}

/* The same matrix without its first n rows. */
static inline sl__rows sl__rows_from(const sl__rows *w, uint32_t n)
{
    sl__rows rest = *w;
    rest.data = (const char *)w->data + n * w->row_bytes;
    if (!sl__has_planes(&w->scaling)) return rest;
    uint32_t row = w->first + n;
    size_t skip = row / w->scaling.group_rows * w->scale_row_bytes;
    rest.first = row % w->scaling.group_rows;
    rest.scales = (const char *)w->scales + skip;
    if (w->biases) rest.biases = (const char *)w->biases + skip;
    return rest;
}

#endif
