/* Weights in rows: dequant_row, matmul, matmul_t, for all types. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkkern.h"
#include "plain_blocks.h"

/* ---- the types, plainly ---------------------------------------------------------------------- */

static uint16_t u16_at(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static float f32_at(const unsigned char *p)
{
    float value;
    memcpy(&value, p, sizeof value);
    return value;
}

static unsigned plain_code(sl__dtype type, const unsigned char *codes, uint32_t i)
{
    unsigned low = (unsigned)codes[i % 16] >> (i / 16 * 2) & 3u;
    switch (type) {
    case SL_Q8: return codes[i];
    case SL_Q4: return i < 32 ? codes[i] & 15u : (unsigned)codes[i - 32] >> 4;
    case SL_Q3: return low | ((unsigned)codes[16 + i / 8] >> (i % 8) & 1u) << 2;
    default: return low;
    }
}

static float plain_mxfp4(const unsigned char *row, const unsigned char *scales, uint32_t c)
{
    static const double values[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    unsigned code = c % 2 == 0 ? row[c / 2] & 15u : (unsigned)row[c / 2] >> 4;
    int s = scales[c / SL_MX_GROUP];
    double value = s == 255 ? (double)NAN : ldexp(values[code & 7u], s - 127);
    return (float)((code & 8u) != 0 ? -value : value); /* beyond float's range: infinity */
}

static unsigned plain_affine_code(unsigned bits, const unsigned char *row, uint32_t c)
{
    unsigned code = 0;
    for (unsigned b = 0; b < bits; b++) {
        size_t at = (size_t)c * bits + b;
        code |= ((unsigned)row[at / 8] >> at % 8 & 1u) << b;
    }
    return code;
}

static float plain_f8(unsigned char b)
{
    int exponent = b >> 3 & 15, fraction = b & 7;
    double value = exponent == 0 ? ldexp(fraction, -9) : ldexp(8 + fraction, exponent - 10);
    if ((b & 127) == 127) return NAN;
    return (float)(b >> 7 ? -value : value);
}

static float plain_plane(const ck_matrix *m, const unsigned char *plane, uint32_t r, uint32_t c)
{
    const unsigned char *row =
        plane + (m->first + r) / m->scaling.group_rows * m->scale_row_bytes;
    size_t at = c / m->scaling.group;
    switch (m->scaling.type) {
    case SL_F32: return f32_at(row + 4 * at);
    case SL_F16: return plain_half(u16_at(row + 2 * at));
    case SL_BF16: return sl__bf16_to_f32(u16_at(row + 2 * at));
    default: return row[at] == 255 ? NAN : (float)ldexp(1, row[at] - 127);
    }
}

/* Affine codes and floats of eight bits, whose scales lie in planes. */
static float plain_scaled(const ck_matrix *m, const unsigned char *row, uint32_t r, uint32_t c)
{
    float scale = plain_plane(m, m->scales, r, c);
    unsigned bits = sl__dtype_affine_bits(m->type);
    if (bits == 0) return scale * plain_f8(row[c]);
    int code = (int)plain_affine_code(bits, row, c);
    if (!m->biases) return scale * (float)(code - (1 << (bits - 1)));
    float product = scale * (float)code;
    return product + plain_plane(m, m->biases, r, c);
}

float ck_weight(const ck_matrix *m, uint32_t r, uint32_t c)
{
    const unsigned char *row = m->data + r * m->row_bytes;
    if (m->type == SL_MXFP4) return plain_mxfp4(row, m->scales + r * m->scale_row_bytes, c);
    if (m->scales) return plain_scaled(m, row, r, c);
    if (sl__dtype_is_block(m->type)) return plain_block_weight(m->type, row, c);
    if (m->type == SL_F32) return f32_at(row + (size_t)c * 4);
    if (m->type == SL_F16) return plain_half(u16_at(row + (size_t)c * 2));
    if (m->type == SL_BF16) return sl__bf16_to_f32(u16_at(row + (size_t)c * 2));
    const unsigned char *block = row + (size_t)(c / SL_GROUP) * sl__dtype_block_bytes(m->type);
    float scale = sl__bf16_to_f32(u16_at(block)), minimum = sl__bf16_to_f32(u16_at(block + 2));
    float product = scale * (float)plain_code(m->type, block + 4, c % SL_GROUP);
    return product + minimum;
}

float ck_plain_dot(const float *a, const float *b, uint32_t n)
{
    float s[16] = {0};
    for (uint32_t c = 0; c < n; c++) {
        float product = a[c] * b[c];
        s[c % 16] += product;
    }
    for (unsigned width = 8; width > 0; width /= 2) {
        for (unsigned i = 0; i < width; i++)
            s[i] += s[i + width];
    }
    return s[0];
}

/* ---- random matrices ------------------------------------------------------------------------- */

size_t ck_row_bytes(sl__dtype type, uint32_t cols)
{
    uint64_t bytes = 0;
    return sl__dtype_row_bytes(type, cols, &bytes) ? (size_t)bytes : 0;
}

void ck_fill_rows(ck *k, sl__dtype type, unsigned char *rows, size_t row_bytes, uint32_t count)
{
    const size_t unit = type == SL_F32 ? 4 : type < SL_Q8 ? 2 : sl__dtype_block_bytes(type);
    for (size_t i = 0; i < row_bytes * count; i++) {
        rows[i] = (unsigned char)ck_u32(k);
        if (type == SL_F8_E4M3) rows[i] &= 0xbfu; /* below 2, and no NaN */
    }
    if (sl__dtype_has_planes(type)) return;
    for (size_t i = 0; i + unit <= row_bytes * count; i += unit) {
        float f = ck_float(k, -2, 2);
        uint16_t h[2] = {sl__f32_to_bf16(ck_float(k, 0, 0.1f)), sl__f32_to_bf16(f)};
        unsigned char *at = rows + i;
        if (sl__dtype_is_block(type)) tame_block(type, at);
        else if (type == SL_F32) memcpy(at, &f, 4);
        else if (type == SL_F16) at[1] = (unsigned char)((at[1] & 0x87u) | ck_below(k, 16) << 3);
        else if (type == SL_BF16) memcpy(at, &h[1], 2);
        else memcpy(at, h, 4);
    }
}

/* mxfp4's own; of other types one of all that files have. */
static sl__scaling some_scaling(ck *k, sl__dtype type)
{
    static const sl__dtype planes[] = {SL_BF16, SL_F16, SL_F32};
    if (sl__dtype_affine_bits(type) == 0 && type != SL_F8_E4M3) return sl__dtype_scaling(type);
    bool f8 = type == SL_F8_E4M3, alone = ck_below(k, 8) == 0; /* one for the whole row */
    return (sl__scaling){.type = planes[ck_below(k, 3)],
                         .group = alone ? 1u << 20 : 16u << (f8 ? 3 : ck_below(k, 4)),
                         .group_rows = f8 ? 4u << ck_below(k, 3) : 1,
                         .biases = !f8 && ck_below(k, 2)};
}

/* A plane's numbers, positive and small, or any bytes. */
static unsigned char *some_plane(ck *k, const ck_matrix *m, size_t row_bytes, bool wild)
{
    size_t rows = (size_t)sl__scaling_rows(&m->scaling, m->first + m->rows);
    size_t bytes = m->scale_row_bytes * (rows - 1) + row_bytes;
    unsigned char *plane = ck_input(k, bytes, 1);
    for (size_t i = 0; i < bytes; i++)
        plane[i] = (unsigned char)(wild || m->type != SL_MXFP4 ? ck_u32(k) : 120 + ck_below(k, 8));
    if (wild || m->type == SL_MXFP4) return plane;
    for (size_t r = 0; r < rows; r++) {
        unsigned char *row = plane + r * m->scale_row_bytes;
        for (size_t i = 0; i < row_bytes; i += sl__dtype_block_bytes(m->scaling.type)) {
            float f = ck_float(k, 0.001f, 0.1f);
            uint16_t bf16 = sl__f32_to_bf16(f), f16 = (uint16_t)(0x2000 + ck_below(k, 0xc00));
            if (m->scaling.type == SL_F32) memcpy(row + i, &f, 4);
            else memcpy(row + i, m->scaling.type == SL_BF16 ? &bf16 : &f16, 2);
        }
    }
    return plane;
}

ck_matrix ck_weights_random(ck *k, sl__dtype type, uint32_t rows, uint32_t cols, bool wild)
{
    const size_t bytes = ck_row_bytes(type, cols);
    const sl__scaling scaling = some_scaling(k, type);
    const size_t scale_bytes = (size_t)sl__scaling_row_bytes(&scaling, cols);
    ck_matrix m = {.type = type, .rows = rows, .cols = cols, .row_bytes = bytes,
                   .scaling = scaling, .scale_row_bytes = scale_bytes};
    if (ck_below(k, 2)) m.row_bytes += ck_below(k, 9);
    m.data = ck_input(k, m.row_bytes * (rows - 1) + bytes, 1);
    for (uint32_t r = 0; r < rows; r++) {
        unsigned char *row = m.data + r * m.row_bytes;
        ck_fill_rows(k, type, row, bytes, 1);
        for (size_t i = 0; wild && i < bytes; i++)
            row[i] = (unsigned char)ck_u32(k);
    }
    if (!sl__has_planes(&scaling)) return m;
    m.scale_row_bytes += ck_below(k, 3);
    m.first = ck_below(k, scaling.group_rows);
    m.scales = some_plane(k, &m, scale_bytes, wild);
    if (scaling.biases) m.biases = some_plane(k, &m, scale_bytes, wild);
    return m;
}

/* The cases of one type: every count of columns after a whole group, sometimes beyond the columns
 * that are opened at a time; fewer of them where it is to be fast. */
static uint32_t some_cols(ck *k, unsigned i)
{
    return 1 + i % SL_GROUP + SL_GROUP * ck_below(k, 3) + (i % 4 == 3 ? 512 : 0);
}

static unsigned step_of(const ck *k)
{
    return k->fast ? 13 : 1; /* has no factor in common with a group */
}

/* ---- dequant_row ----------------------------------------------------------------------------- */

static void check_row(ck *k, const ck_matrix *m)
{
    float *want = ck_floats(k, m->cols), *got = ck_floats(k, m->cols);
    const sl__rows rows = ck_rows(m);
    ck_seal(k);
    if (k->is_ref) {
        for (uint32_t c = 0; c < m->cols; c++)
            want[c] = ck_weight(m, 0, c);
    } else {
        k->ref->dequant_row(&rows, 0, want, m->cols);
    }
    k->kern->dequant_row(&rows, 0, got, m->cols);
    ck_same(k, "the row", got, want, m->cols);
}

/* All 65536 bits of a half; a NaN's payload is kept, and it is quiet. */
static void check_halves(ck *k)
{
    const uint32_t n = 65536;
    for (unsigned type = SL_F16; type <= SL_BF16; type++) {
        ck_case(k, "every %s", sl__dtype_name((sl__dtype)type));
        unsigned char *row = ck_input(k, n * 2, 1);
        float *got = ck_floats(k, n), *want = ck_floats(k, n);
        for (uint32_t i = 0; i < n; i++) {
            row[2 * i] = (unsigned char)i;
            row[2 * i + 1] = (unsigned char)(i >> 8);
            want[i] = type == SL_F16 ? sl__f16_to_f32((uint16_t)i) : sl__bf16_to_f32((uint16_t)i);
        }
        ck_seal(k);
        k->kern->dequant_row(&(sl__rows){.dtype = (sl__dtype)type, .data = row}, 0, got, n);
        ck_same_bytes(k, "the row", got, want, n * sizeof(float));
    }
}

/* Every scale with every code: exact down to the subnormal ones, infinity where float ends, NaN for
 * the scale that says so. */
static void check_mxfp4_values(ck *k)
{
    for (unsigned s = 0; s < 256; s++) {
        const uint32_t cols = s % 3 ? 64 : 32;
        ck_case(k, "mxfp4, scale %u", s);
        ck_matrix m = ck_weights_random(k, SL_MXFP4, 1, cols, false);
        for (unsigned i = 0; i < cols / 2; i++)
            m.data[i] = (unsigned char)(i * 37 + s);
        for (unsigned i = 0; i < cols / SL_MX_GROUP; i++)
            m.scales[i] = (unsigned char)(i ? 255 - s : s);
        check_row(k, &m);
    }
}

static void check_dequant(ck *k)
{
    for (unsigned t = 0; t < CK_DTYPES; t++) {
        for (unsigned i = t % step_of(k); i < SL_GROUP; i += step_of(k)) {
            for (unsigned wild = 0; wild < 2; wild++) {
                const uint32_t cols = some_cols(k, i);
                ck_case(k, "%s, %u columns%s", sl__dtype_name((sl__dtype)t), cols,
                        wild ? ", any bytes" : "");
                ck_matrix m = ck_weights_random(k, (sl__dtype)t, 1, cols, wild);
                check_row(k, &m);
            }
        }
    }
    check_halves(k);
    check_mxfp4_values(k);
}

/* ---- matmul ---------------------------------------------------------------------------------- */

typedef struct product {
    ck_matrix m;
    uint32_t skip;           /* rows that are left out at the beginning */
    uint32_t tokens, c0, c1; /* columns of matmul_t; the result's width is c1 - c0 */
    size_t x_stride, y_stride, x_size, y_size;
    float *x;
    bool transposed;
} product;

static uint32_t x_width(const product *p)
{
    return p->transposed ? p->m.rows : p->m.cols;
}

static uint32_t y_width(const product *p)
{
    return p->transposed ? p->c1 - p->c0 : p->m.rows;
}

static product random_product(ck *k, sl__dtype type, uint32_t rows, uint32_t cols, uint32_t tokens,
                              bool transposed)
{
    product p = {.tokens = tokens, .transposed = transposed, .c1 = cols};
    p.m = ck_weights_random(k, type, rows, cols, false);
    p.x_stride = x_width(&p) + ck_below(k, 5);
    p.y_stride = y_width(&p) + ck_below(k, 5);
    p.x_size = (tokens - 1) * p.x_stride + x_width(&p);
    p.y_size = (tokens - 1) * p.y_stride + y_width(&p);
    p.x = ck_input(k, p.x_size * sizeof(float), sizeof(float));
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t i = 0; i < x_width(&p); i++)
            p.x[t * p.x_stride + i] = ck_float(k, -1, 1);
    }
    return p;
}

/* Tokens [t, t + count) of the product into their rows of y. */
static void multiply(const sl__kern *kern, const product *p, uint32_t t, uint32_t count, float *y,
                     float *tmp)
{
    const ck_matrix *m = &p->m;
    const sl__rows all = ck_rows(m), rows = sl__rows_from(&all, p->skip);
    const float *x = p->x + t * p->x_stride;
    y += t * p->y_stride;
    if (p->transposed)
        kern->matmul_t(&rows, m->rows, p->c0, p->c1, x, p->x_stride, count, y, p->y_stride, tmp);
    else
        kern->matmul(&rows, m->rows, m->cols, x, p->x_stride, count, y, p->y_stride, tmp);
}

static float *scratch(ck *k, const product *p, uint32_t tokens)
{
    return ck_floats(k, sl__kern_matmul_tmp(p->m.cols, tokens));
}

static void plain_product(ck *k, const product *p, float *y)
{
    const ck_matrix *m = &p->m;
    float *line = ck_floats(k, m->cols);
    for (uint32_t r = 0; !p->transposed && r < m->rows; r++) {
        for (uint32_t c = 0; c < m->cols; c++)
            line[c] = ck_weight(m, r, c);
        for (uint32_t t = 0; t < p->tokens; t++)
            y[t * p->y_stride + r] = ck_plain_dot(line, p->x + t * p->x_stride, m->cols);
    }
    for (uint32_t c = p->c0; p->transposed && c < p->c1; c++) {
        for (uint32_t t = 0; t < p->tokens; t++) {
            float sum = 0;
            for (uint32_t r = 0; r < m->rows; r++) {
                float term = p->x[t * p->x_stride + r] * ck_weight(m, r, c);
                sum += term;
            }
            y[t * p->y_stride + c - p->c0] = sum;
        }
    }
}

/* What lies between the rows of y is still poison in `want`, and must be in `got`. */
static void check_product(ck *k, const product *p)
{
    float *want = ck_floats(k, p->y_size), *got = ck_floats(k, p->y_size);
    float *tmp = scratch(k, p, p->tokens);
    ck_seal(k);
    if (k->is_ref) plain_product(k, p, want);
    else multiply(k->ref, p, 0, p->tokens, want, tmp);
    multiply(k->kern, p, 0, p->tokens, got, scratch(k, p, p->tokens));
    ck_same(k, "the product", got, want, p->y_size);
}

static void check_shapes(ck *k, bool transposed)
{
    static const uint32_t some_tokens[] = {1, 2, 1, 3, 4, 1, 5, 7, 8, 17};
    for (unsigned t = 0; t < CK_DTYPES; t++) {
        for (unsigned i = t % step_of(k); i < SL_GROUP; i += step_of(k)) {
            const uint32_t cols = some_cols(k, i), tokens = some_tokens[ck_below(k, 10)];
            const uint32_t rows = 1 + ck_below(k, transposed ? 35 : 11);
            ck_case(k, "%s [%u x %u], tokens: %u", sl__dtype_name((sl__dtype)t), rows, cols,
                    tokens);
            product p = random_product(k, (sl__dtype)t, rows, cols, tokens, transposed);
            check_product(k, &p);
        }
    }
}

/* A token alone, and in batches of 2, 8 and all: the same bits. */
static void check_batches(ck *k, bool transposed)
{
    static const uint32_t batches[] = {1, 2, 8};
    for (unsigned t = 0; t < CK_DTYPES; t++) {
        const uint32_t cols = some_cols(k, t + 3), rows = 1 + ck_below(k, 19);
        ck_case(k, "%s [%u x %u], tokens in batches", sl__dtype_name((sl__dtype)t), rows, cols);
        product p = random_product(k, (sl__dtype)t, rows, cols, k->fast ? 16 : 64, transposed);
        float *whole = ck_floats(k, p.y_size);
        ck_seal(k);
        multiply(k->kern, &p, 0, p.tokens, whole, scratch(k, &p, p.tokens));
        for (unsigned b = 0; b < 3; b++) {
            float *got = ck_floats(k, p.y_size), *tmp = scratch(k, &p, batches[b]);
            for (uint32_t i = 0; i < p.tokens; i += batches[b])
                multiply(k->kern, &p, i, batches[b], got, tmp);
            ck_same(k, "a batch", got, whole, p.y_size);
        }
    }
}

/* Rows on their own are the rows of all. */
static void check_row_ranges(ck *k)
{
    for (unsigned t = 0; t < CK_DTYPES; t++) {
        const uint32_t cols = some_cols(k, t + 40), rows = 2 + ck_below(k, 20);
        ck_case(k, "%s [%u x %u], rows apart", sl__dtype_name((sl__dtype)t), rows, cols);
        product p = random_product(k, (sl__dtype)t, rows, cols, 1 + ck_below(k, 9), false), part;
        float *whole = ck_floats(k, p.y_size), *got = ck_floats(k, p.y_size);
        float *tmp = scratch(k, &p, p.tokens);
        uint32_t cut = 1 + ck_below(k, rows - 1);
        ck_seal(k);
        multiply(k->kern, &p, 0, p.tokens, whole, tmp);
        part = p;
        part.m.rows = cut;
        multiply(k->kern, &part, 0, p.tokens, got, tmp);
        part.m.rows = rows - cut;
        part.skip = cut;
        multiply(k->kern, &part, 0, p.tokens, got + cut, tmp);
        ck_same(k, "rows apart", got, whole, p.y_size);
    }
}

/* Weights of any bytes, infinities and NaN among them, and an x that has some, too. */
static void check_wild(ck *k)
{
    for (unsigned t = 0; t < CK_DTYPES; t++) {
        for (unsigned i = 0; i < (k->fast ? 2 : 8); i++) {
            const uint32_t cols = 1184 - SL_GROUP * ck_below(k, 4) - i;
            ck_case(k, "%s, any bytes, %u columns", sl__dtype_name((sl__dtype)t), cols);
            product p = random_product(k, (sl__dtype)t, 5, cols, 1 + i % 3, false);
            p.m = ck_weights_random(k, (sl__dtype)t, 5, cols, true);
            p.x[ck_below(k, cols)] = i % 2 ? INFINITY : 0;
            check_product(k, &p);
        }
    }
}

/* An infinity or a NaN in one token or one row stays there. */
static void check_contained(ck *k)
{
    const uint32_t rows = 6, cols = 80, tokens = 7;
    ck_case(k, "NaN in row 2 and an infinity in token 4");
    product p = random_product(k, SL_F32, rows, cols, tokens, false);
    const float nan_value = NAN;
    memcpy(p.m.data + 2 * p.m.row_bytes + 79 * sizeof(float), &nan_value, sizeof nan_value);
    p.x[4 * p.x_stride + 64] = INFINITY;
    float *y = ck_floats(k, p.y_size);
    ck_seal(k);
    multiply(k->kern, &p, 0, tokens, y, scratch(k, &p, tokens));
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t r = 0; r < rows; r++) {
            if ((isfinite(y[t * p.y_stride + r]) == 0) != (r == 2 || t == 4))
                ck_fail(k, "row %u of token %u is %g", r, t, (double)y[t * p.y_stride + r]);
        }
    }
}

static void check_matmul(ck *k)
{
    check_shapes(k, false);
    check_batches(k, false);
    check_row_ranges(k);
    check_wild(k);
    check_contained(k);
}

/* Ranges of columns on their own are the columns of all. */
static void check_column_ranges(ck *k)
{
    for (unsigned t = 0; t < CK_DTYPES; t++) {
        const uint32_t cols = some_cols(k, t + 3) + 2 * SL_GROUP, rows = 1 + ck_below(k, 40);
        ck_case(k, "%s [%u x %u], columns apart", sl__dtype_name((sl__dtype)t), rows, cols);
        product p = random_product(k, (sl__dtype)t, rows, cols, 1 + ck_below(k, 9), true), part;
        float *whole = ck_floats(k, p.y_size), *got = ck_floats(k, p.y_size);
        float *tmp = scratch(k, &p, p.tokens);
        ck_seal(k);
        multiply(k->kern, &p, 0, p.tokens, whole, tmp);
        part = p;
        part.c1 = SL_GROUP * (1 + ck_below(k, cols / SL_GROUP));
        multiply(k->kern, &part, 0, p.tokens, got, tmp);
        part.c0 = part.c1;
        part.c1 = cols;
        if (part.c0 < cols) multiply(k->kern, &part, 0, p.tokens, got + part.c0, tmp);
        ck_same(k, "columns apart", got, whole, p.y_size);
    }
}

static void check_matmul_t(ck *k)
{
    check_shapes(k, true);
    check_batches(k, true);
    check_column_ranges(k);
}

/* ---- bench ----------------------------------------------------------------------------------- */

#define BENCH_BYTES ((size_t)256 << 20) /* more than a share of any last cache */
#define BENCH_COLS  2048u
#define BENCH_ROWS  256u

typedef struct bench_case {
    sl__dtype type;
    const unsigned char *data;
    size_t row_bytes;
    uint32_t tokens, block, blocks; /* of BENCH_ROWS rows; the next one to be multiplied */
    const float *x;
    float *y, *tmp;
} bench_case;

static void run_matmul(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    const sl__rows w = {.dtype = b->type, .row_bytes = b->row_bytes,
                        .data = b->data + b->block * BENCH_ROWS * b->row_bytes};
    kern->matmul(&w, BENCH_ROWS, BENCH_COLS, b->x, BENCH_COLS, b->tokens, b->y, BENCH_ROWS, b->tmp);
    b->block = (b->block + 1) % b->blocks;
}

static void bench_matmul(void)
{
    static const sl__dtype types[] = {SL_BF16, SL_Q8, SL_Q4, SL_Q3, SL_Q2, SL_Q4_K, SL_Q6_K};
    unsigned char *memory = ck_bench_memory(BENCH_BYTES);
    for (unsigned i = 0; i < sizeof types / sizeof types[0]; i++) {
        char what[64];
        bench_case b = {.type = types[i], .data = memory, .tokens = 1, .blocks = 1};
        ck k = {.random = 1};
        b.row_bytes = ck_row_bytes(b.type, BENCH_COLS);
        b.x = ck_bench_floats(BENCH_COLS * 64);
        b.y = ck_bench_floats(BENCH_ROWS * 64);
        b.tmp = ck_bench_floats(sl__kern_matmul_tmp(BENCH_COLS, 64));
        const double bytes = (double)BENCH_ROWS * (double)b.row_bytes;
        for (size_t at = 0; at + b.row_bytes <= BENCH_BYTES; at += b.row_bytes)
            ck_fill_rows(&k, b.type, memory + at, b.row_bytes, 1);
        snprintf(what, sizeof what, "%s, 1 token, from L2", sl__dtype_name(b.type));
        ck_time("matmul", what, CK_L2, bytes, run_matmul, &b);
        snprintf(what, sizeof what, "%s, 1 token, from memory", sl__dtype_name(b.type));
        b.blocks = (uint32_t)(BENCH_BYTES / (BENCH_ROWS * b.row_bytes));
        ck_time("matmul", what, CK_MEMORY, bytes, run_matmul, &b);
        snprintf(what, sizeof what, "%s, 64 tokens", sl__dtype_name(b.type));
        b.tokens = 64;
        b.block = 0;
        b.blocks = 1;
        ck_time("matmul", what, CK_FLOAT, (double)BENCH_ROWS * BENCH_COLS * 64, run_matmul, &b);
    }
}

const ck_kernel ck_weights[] = {
    CK_KERNEL(dequant_row, check_dequant, NULL),
    CK_KERNEL(matmul, check_matmul, bench_matmul),
    CK_KERNEL(matmul_t, check_matmul_t, NULL),
    {NULL, 0, NULL, NULL},
};
