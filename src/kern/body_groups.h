/* Weights opened a group of 64 at a time, and the product with one token, the weights never leaving
 * the registers: what the levels above ref share. The file that includes this has defined
 * SL_VW and
 *
 *     opened       a group, opened; value i of it is weights SL_VW·i … SL_VW·(i + 1) - 1
 *     open_group   (type, bytes, scales that lie apart) -> opened
 *     group_value  (type, &opened, i) -> vec; i is a constant at every call
 *     code_value   (&block_codes, i) -> vec, likewise, of GGUF's blocks (block_codes.h)
 */
#ifndef SL_KERN_BODY_GROUPS_H
#define SL_KERN_BODY_GROUPS_H

#include <assert.h>

#include "kern/group_types.h"

SL_INLINE void store_weights(const block_codes *o, float out[SL_GROUP])
{
    for (unsigned i = 0; i < SL_GROUP / SL_VW; i++)
        vec_store(out + SL_VW * i, code_value(o, i));
}

SL_INLINE void dequant_groups(sl__dtype type, const unsigned char *p, const unsigned char *s,
                              uint32_t count, float *out)
{
    uint32_t i = 0;
    for (; count - i >= SL_GROUP; i += SL_GROUP, p += group_bytes(type)) {
        opened o = open_group(type, p, scales_at(type, s, i / SL_GROUP));
        for (unsigned j = 0; j < SL_GROUP / SL_VW; j++)
            vec_store(out + i + SL_VW * j, group_value(type, &o, j));
    }
    if (i == count) return;
    /* The last block of a grouped type is whole; other types end with the row, or with a block that
     * is half a group. */
    unsigned char last[256] = {0}, last_scales[2] = {0};
    float value[SL_GROUP];
    bool cut = type <= SL_BF16 || type == SL_MXFP4;
    if (type <= SL_BF16) {
        memcpy(last, p, (size_t)(count - i) * (group_bytes(type) / SL_GROUP));
    } else if (type == SL_MXFP4) {
        uint32_t blocks = (count - i + SL_MX_GROUP - 1) / SL_MX_GROUP;
        memcpy(last, p, blocks * (SL_MX_GROUP / 2));
        memcpy(last_scales, scales_at(type, s, i / SL_GROUP), blocks);
    }
    opened o = open_group(type, cut ? last : p, last_scales);
    for (unsigned j = 0; j < SL_GROUP / SL_VW; j++)
        vec_store(value + SL_VW * j, group_value(type, &o, j));
    memcpy(out + i, value, (count - i) * sizeof(float));
}

static void dequant_span(const sl__rows *w, uint32_t r, uint32_t first, uint32_t count, float *out)
{
    const unsigned char *row = row_at(w, r);
    const size_t group = first / SL_GROUP;
    switch (w->dtype) {
    case SL_F32: dequant_groups(SL_F32, row + group * 256, NULL, count, out); break;
    case SL_F16: dequant_groups(SL_F16, row + group * 128, NULL, count, out); break;
    case SL_BF16: dequant_groups(SL_BF16, row + group * 128, NULL, count, out); break;
    case SL_Q8: dequant_groups(SL_Q8, row + group * 68, NULL, count, out); break;
    case SL_Q4: dequant_groups(SL_Q4, row + group * 36, NULL, count, out); break;
    case SL_Q3: dequant_groups(SL_Q3, row + group * 28, NULL, count, out); break;
    case SL_Q2: dequant_groups(SL_Q2, row + group * 20, NULL, count, out); break;
    case SL_MXFP4:
        dequant_groups(SL_MXFP4, row + group * 32,
                       scales_at(SL_MXFP4, scale_row(w->scales, w->scale_row_bytes, r), group),
                       count, out);
        break;
    default:
        if (sl__dtype_is_block(w->dtype))
            dequant_blocks(w->dtype, row, first, count, out);
        else
            dequant_planes(w, r, first, count, out);
    }
}

/* Whether to ask for the rows below at this group: about once a cache line. Rows end long before a
 * hardware prefetcher has learnt them, since it stops at every page. Types that are not packed keep
 * it busy enough by themselves. */
SL_INLINE bool fetches(sl__dtype type, uint32_t column)
{
    if (type <= SL_BF16) return false;
    return group_bytes(type) > 48 || column % (2 * SL_GROUP) == 0;
}

/* R (a constant) rows with one token, the weights never leaving the registers. */
SL_INLINE void rows_dot(sl__dtype type, const unsigned char *w, size_t row_bytes,
                        const unsigned char *scales, size_t scale_row_bytes, uint32_t cols,
                        const float *x, float *y, uint32_t R)
{
    const uint32_t whole = cols & ~(SL_GROUP - 1u);
    vec s[4][SL_VN];
    memset(s, 0, sizeof s);
    const unsigned char *p = w;
    for (uint32_t c = 0; c < whole; c += SL_GROUP, p += group_bytes(type)) {
        for (uint32_t r = 0; r < R; r++) {
            const unsigned char *apart = scale_row(scales, scale_row_bytes, r);
            if (fetches(type, c)) __builtin_prefetch(p + (r + R) * row_bytes);
            opened o = open_group(type, p + r * row_bytes, scales_at(type, apart, c / SL_GROUP));
            for (unsigned i = 0; i < SL_GROUP / SL_VW; i++)
                s[r][i % SL_VN] += group_value(type, &o, i) * vec_load(x + c + SL_VW * i);
        }
    }
    for (uint32_t r = 0; r < R; r++) {
        float acc[SL_LANES], rest[SL_GROUP];
        memcpy(acc, s[r], sizeof acc);
        if (whole < cols) {
            uint32_t lanes = (cols - whole) & ~(SL_LANES - 1u);
            const unsigned char *apart = scale_row(scales, scale_row_bytes, r);
            dequant_groups(type, p + r * row_bytes, scales_at(type, apart, whole / SL_GROUP),
                           cols - whole, rest);
            tile_dot((const unsigned char *)rest, 0, x + whole, 0, lanes, acc, 1, 1, 1, SL_VN);
            tail_dot((const unsigned char *)(rest + lanes), x + whole + lanes, cols - whole - lanes,
                     acc);
        }
        y[r] = lanes_fold(acc);
    }
}

SL_INLINE void matvec(sl__dtype type, const void *w, size_t row_bytes, const void *scales,
                      size_t scale_row_bytes, uint32_t rows, uint32_t cols, const float *x,
                      float *y)
{
    const unsigned char *row = w;
    uint32_t r = 0;
    for (; rows - r >= 4; r += 4, row += 4 * row_bytes)
        rows_dot(type, row, row_bytes, scale_row(scales, scale_row_bytes, r), scale_row_bytes, cols,
                 x, y + r, 4);
    for (; r < rows; r++, row += row_bytes)
        rows_dot(type, row, row_bytes, scale_row(scales, scale_row_bytes, r), scale_row_bytes, cols,
                 x, y + r, 1);
}

/* One group of R rows, added to their lanes. A group's codes go through memory, sixteen at a time,
 * where the next loads find them on their way. in_line: type is a constant. */
SL_INLINE void add_block_group(sl__dtype type, bool in_line, const unsigned char *w,
                               size_t row_bytes, size_t group, const float *x, vec s[2][SL_VN],
                               uint32_t R)
{
    for (uint32_t r = 0; r < R; r++) {
        block_codes o;
        if (in_line)
            open_codes(type, block_bytes(type), w + r * row_bytes, group, SL_GROUP, &o);
        else
            open_any(type, sl__dtype_block_bytes(type), w + r * row_bytes, group, SL_GROUP, &o);
        for (unsigned i = 0; i < SL_GROUP / SL_VW; i++)
            s[r][i % SL_VN] += code_value(&o, i) * vec_load(x + SL_VW * i);
    }
}

/* The same as rows_dot for the block types. */
SL_INLINE void block_rows_dot(sl__dtype type, bool in_line, const unsigned char *w,
                              size_t row_bytes, uint32_t cols, const float *x, float *y, uint32_t R)
{
    const uint32_t whole = cols & ~(SL_GROUP - 1u);
    vec s[2][SL_VN];
    uint32_t c = 0;
    memset(s, 0, sizeof s);
    for (; in_line && whole - c >= 4 * SL_GROUP; c += 4 * SL_GROUP) {
        const size_t block = c / SL_GROUP / 4 * 4; /* so that the quarters are constants */
        add_block_group(type, true, w, row_bytes, block, x + c, s, R);
        add_block_group(type, true, w, row_bytes, block + 1, x + c + SL_GROUP, s, R);
        add_block_group(type, true, w, row_bytes, block + 2, x + c + 2 * SL_GROUP, s, R);
        add_block_group(type, true, w, row_bytes, block + 3, x + c + 3 * SL_GROUP, s, R);
    }
    for (; c < whole; c += SL_GROUP)
        add_block_group(type, false, w, row_bytes, c / SL_GROUP, x + c, s, R);
    for (uint32_t r = 0; r < R; r++) {
        float acc[SL_LANES], rest[SL_GROUP];
        uint32_t lanes = (cols - whole) & ~(SL_LANES - 1u);
        memcpy(acc, s[r], sizeof acc);
        if (whole < cols) {
            dequant_blocks(type, w + r * row_bytes, whole, cols - whole, rest);
            tile_dot((const unsigned char *)rest, 0, x + whole, 0, lanes, acc, 1, 1, 1, SL_VN);
            tail_dot((const unsigned char *)(rest + lanes), x + whole + lanes, cols - whole - lanes,
                     acc);
        }
        y[r] = lanes_fold(acc);
    }
}

SL_INLINE void block_matvec(sl__dtype type, bool in_line, const void *w, size_t row_bytes,
                            uint32_t rows, uint32_t cols, const float *x, float *y)
{
    const unsigned char *row = w;
    uint32_t r = 0;
    for (; rows - r >= 2; r += 2, row += 2 * row_bytes)
        block_rows_dot(type, in_line, row, row_bytes, cols, x, y + r, 2);
    if (r < rows) block_rows_dot(type, in_line, row, row_bytes, cols, x, y + r, 1);
}

/* What most files hold most of is opened in line. */
static void blocks_matvec(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                          uint32_t cols, const float *x, float *y)
{
    switch (type) {
    case SL_Q4_0: block_matvec(SL_Q4_0, true, w, row_bytes, rows, cols, x, y); break;
    case SL_Q8_0: block_matvec(SL_Q8_0, true, w, row_bytes, rows, cols, x, y); break;
    case SL_Q4_K: block_matvec(SL_Q4_K, true, w, row_bytes, rows, cols, x, y); break;
    case SL_Q5_K: block_matvec(SL_Q5_K, true, w, row_bytes, rows, cols, x, y); break;
    case SL_Q6_K: block_matvec(SL_Q6_K, true, w, row_bytes, rows, cols, x, y); break;
    default: block_matvec(type, false, w, row_bytes, rows, cols, x, y);
    }
}

static void matmul_one(const sl__rows *w, uint32_t rows, uint32_t cols, const float *x,
                       size_t x_stride, uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    const void *data = w->data;
    const size_t bytes = w->row_bytes;
    if (tokens != 1 || (sl__has_planes(&w->scaling) && w->dtype != SL_MXFP4)) {
        matmul(w, rows, cols, x, x_stride, tokens, y, y_stride, tmp);
        return;
    }
    switch (w->dtype) {
    case SL_F32: matvec(SL_F32, data, bytes, NULL, 0, rows, cols, x, y); break;
    case SL_F16: matvec(SL_F16, data, bytes, NULL, 0, rows, cols, x, y); break;
    case SL_BF16: matvec(SL_BF16, data, bytes, NULL, 0, rows, cols, x, y); break;
    case SL_Q8: matvec(SL_Q8, data, bytes, NULL, 0, rows, cols, x, y); break;
    case SL_Q4: matvec(SL_Q4, data, bytes, NULL, 0, rows, cols, x, y); break;
    case SL_Q3: matvec(SL_Q3, data, bytes, NULL, 0, rows, cols, x, y); break;
    case SL_Q2: matvec(SL_Q2, data, bytes, NULL, 0, rows, cols, x, y); break;
    case SL_MXFP4:
        matvec(SL_MXFP4, data, bytes, w->scales, w->scale_row_bytes, rows, cols, x, y);
        break;
    default: blocks_matvec(w->dtype, data, bytes, rows, cols, x, y);
    }
}

SL_INLINE void fill_matmul(sl__kern *kern)
{
    kern->dequant_row = dequant_row;
    kern->matmul = matmul_one;
    kern->matmul_t = matmul_t;
    kern->dot = dot;
}

#endif
