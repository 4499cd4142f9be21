/* Weights in rows with activations of 8 bits: matmul_q8. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkkern.h"
#include "plain_blocks.h"

#define FIRST SL_Q8
#define LAST  SL_AFFINE8

typedef struct product {
    ck_matrix m;
    uint32_t skip; /* rows that are left out at the beginning */
    uint32_t rows, tokens;
    size_t y_stride, y_size;
    unsigned char *x8;
} product;

static void fill(ck *k, float *x, uint32_t cols, bool odd)
{
    for (uint32_t c = 0; c < cols; c++) {
        const uint32_t kind = odd ? c / SL_GROUP % 5 : 0;
        x[c] = ck_float(k, -1, 1) * (kind == 1 ? 1e-20f : kind == 2 ? 3e38f : 1);
        if (kind == 3) x[c] = 0;
    }
    if (odd && ck_below(k, 4) == 0) x[ck_below(k, cols)] = ck_below(k, 2) ? NAN : INFINITY;
}

static product random_product(ck *k, sl__dtype type, uint32_t rows, uint32_t cols, uint32_t tokens,
                              bool odd)
{
    product p = {.rows = rows, .tokens = tokens};
    p.m = ck_weights_random(k, type, rows, cols, odd);
    p.y_stride = rows + ck_below(k, 5);
    p.y_size = (tokens - 1) * p.y_stride + rows;
    float *x = ck_input(k, (size_t)tokens * cols * sizeof(float), sizeof(float));
    for (uint32_t t = 0; t < tokens; t++)
        fill(k, x + (size_t)t * cols, cols, odd);
    p.x8 = ck_input(k, tokens * sl__q8_row_bytes(cols), 4);
    k->ref->quantise_rows(x, cols, 0, cols, cols, tokens, p.x8);
    return p;
}

/* Tokens [t, t + count) of the product into their rows of y. */
static void multiply(const sl__kern *kern, const product *p, uint32_t t, uint32_t count, float *y,
                     float *tmp)
{
    const sl__rows all = ck_rows(&p->m), rows = sl__rows_from(&all, p->skip);
    kern->matmul_q8(&rows, p->rows, p->m.cols, p->x8 + t * sl__q8_row_bytes(p->m.cols), count,
                    y + t * p->y_stride, p->y_stride, tmp);
}

static float *scratch(ck *k, const product *p, uint32_t tokens)
{
    return ck_floats(k, sl__kern_q8_rows_tmp(p->m.cols, tokens));
}

static sl__q8_group group_at(const product *p, uint32_t t, uint32_t g)
{
    const unsigned char *row = p->x8 + t * sl__q8_row_bytes(p->m.cols);
    sl__q8_group group;
    memcpy(&group, row + sl__q8_groups(p->m.cols) * SL_GROUP + g * sizeof group, sizeof group);
    return group;
}

static int x_code(const product *p, uint32_t t, uint32_t c)
{
    return (int8_t)p->x8[t * sl__q8_row_bytes(p->m.cols) + c];
}

/* ---- the contract, plainly ------------------------------------------------------------------- */

/* A weight of three simple types as code, scale and addend; false: the type has no addends. */
static bool plain_parts(const ck_matrix *m, uint32_t r, uint32_t c, int *code, float *scale,
                        float *addend)
{
    const unsigned char *row = m->data + r * m->row_bytes;
    uint16_t h[2];
    if (m->type == SL_Q8_0) {
        const unsigned char *block = row + c / 32 * 34;
        memcpy(h, block, 2);
        *scale = plain_half(h[0]);
        *code = (int8_t)block[2 + c % 32];
        return false;
    }
    if (m->type == SL_Q4_1) {
        const unsigned char *block = row + c / 32 * 20;
        memcpy(h, block, 4);
        *scale = plain_half(h[0]);
        *addend = plain_half(h[1]);
        *code = c % 32 < 16 ? block[4 + c % 16] & 15 : block[4 + c % 16] >> 4;
        return true;
    }
    const unsigned char *block = row + c / 64 * 68; /* q8 */
    memcpy(h, block, 4);
    *scale = sl__bf16_to_f32(h[0]);
    *code = block[4 + c % 64] - 128;
    *addend = 128 * *scale;
    *addend += sl__bf16_to_f32(h[1]);
    return true;
}

static float plain_exact(const product *p, uint32_t r, uint32_t t)
{
    float s[16] = {0};
    for (uint32_t run = 0; 16 * run < p->m.cols; run++) {
        const uint32_t g = run / 4, lane = run % 4 * 4 + g % 4;
        const sl__q8_group group = group_at(p, t, g);
        float scale = 0, addend = 0;
        bool adds = false;
        int dot = 0, sum = 0;
        for (uint32_t c = 16 * run; c < 16 * (run + 1) && c < p->m.cols; c++) {
            int code;
            adds = plain_parts(&p->m, r, c, &code, &scale, &addend);
            dot += code * x_code(p, t, c);
            sum += x_code(p, t, c);
        }
        float weight = scale * group.step, total = group.step * (float)sum;
        float term = weight * (float)dot, offset = addend * total;
        s[lane] += term;
        if (adds) s[lane] += offset;
    }
    for (unsigned width = 8; width > 0; width /= 2) {
        for (unsigned i = 0; i < width; i++)
            s[i] += s[i + width];
    }
    return s[0];
}

/* Any type, from its weights as floats: near. */
static void check_near_weights(ck *k, const product *p, const float *got)
{
    double size = 0, *want = ck_doubles(k, p->y_size);
    for (uint32_t i = 0; i < p->tokens * p->rows; i++) {
        const uint32_t t = i / p->rows, r = i % p->rows;
        double sum = 0, sizes = 0;
        for (uint32_t c = 0; c < p->m.cols; c++) {
            double x = (double)group_at(p, t, c / SL_GROUP).step * x_code(p, t, c);
            double term = (double)ck_weight(&p->m, r, c) * x;
            sum += term;
            sizes += fabs(term);
        }
        want[t * p->y_stride + r] = sum;
        size += sizes;
    }
    /* What 128 · scale is rounded by is more than what a weight is. */
    ck_within(k, "the sum of weights", got, want, p->y_size, 4e-6, size);
}

static bool has_plain_parts(sl__dtype type)
{
    return type == SL_Q8_0 || type == SL_Q4_1 || type == SL_Q8;
}

static void check_product(ck *k, const product *p, bool odd)
{
    float *want = ck_floats(k, p->y_size), *got = ck_floats(k, p->y_size);
    ck_seal(k);
    multiply(k->kern, p, 0, p->tokens, got, scratch(k, p, p->tokens));
    if (!k->is_ref) {
        multiply(k->ref, p, 0, p->tokens, want, scratch(k, p, p->tokens));
        ck_same(k, "the product", got, want, p->y_size);
        return;
    }
    if (!odd) check_near_weights(k, p, got);
    if (!has_plain_parts(p->m.type)) return;
    for (uint32_t i = 0; i < p->tokens * p->rows; i++) {
        const uint32_t t = i / p->rows, r = i % p->rows;
        want[t * p->y_stride + r] = plain_exact(p, r, t);
    }
    ck_same(k, "the product", got, want, p->y_size);
}

/* ---- cases ----------------------------------------------------------------------------------- */

static void check_shapes(ck *k, sl__dtype type)
{
    static const uint32_t some_tokens[] = {1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 1, 33};
    for (unsigned i = k->fast ? type % 13 : 0; i < SL_GROUP; i += k->fast ? 13 : 1) {
        const uint32_t tokens = some_tokens[ck_below(k, 14)], rows = 1 + ck_below(k, 40);
        const uint32_t cols = (i % 4 == 3   ? SL_GROUP * (1 + ck_below(k, 20))
                               : i % 4 == 2 ? 32 * (1 + ck_below(k, 40))
                                            : 1 + i + SL_GROUP * ck_below(k, 9)) +
                              (i % 16 == 7 ? 2048 : 0);
        const bool odd = i % 8 >= 6;
        ck_case(k, "%s [%u x %u], tokens: %u%s", sl__dtype_name(type), rows, cols, tokens,
                odd ? ", any bytes" : "");
        product p = random_product(k, type, rows, cols, tokens, odd);
        check_product(k, &p, odd);
    }
}

/* A token alone, batches of 2, 7 and all; rows on their own. */
static void check_parts(ck *k, sl__dtype type)
{
    static const uint32_t batches[] = {1, 2, 7};
    const uint32_t rows = 18 + ck_below(k, 20), cols = 64 * (1 + ck_below(k, 40));
    ck_case(k, "%s [%u x %u] in parts", sl__dtype_name(type), rows, cols);
    product p = random_product(k, type, rows, cols, k->fast ? 14 : 70, false), part = p;
    float *whole = ck_floats(k, p.y_size), *apart = ck_floats(k, p.y_size);
    float *tmp = scratch(k, &p, p.tokens);
    ck_seal(k);
    multiply(k->kern, &p, 0, p.tokens, whole, tmp);
    for (unsigned b = 0; b < 3; b++) {
        float *got = ck_floats(k, p.y_size), *few = scratch(k, &p, batches[b]);
        for (uint32_t t = 0; t < p.tokens; t += batches[b])
            multiply(k->kern, &p, t, batches[b], got, few);
        ck_same(k, "a batch", got, whole, p.y_size);
    }
    for (uint32_t r = 0; r < rows; r += part.rows) {
        const uint32_t n = 1 + ck_below(k, 9);
        part.skip = r;
        part.rows = n < rows - r ? n : rows - r;
        multiply(k->kern, &part, 0, p.tokens, apart + r, tmp);
    }
    ck_same(k, "rows apart", apart, whole, p.y_size);
}

/* The largest integers that a run can come to. */
static void check_extremes(ck *k, sl__dtype type)
{
    static const unsigned char bytes[] = {0x00, 0x80, 0x7f, 0xff};
    for (unsigned i = 0; i < 4; i++) {
        for (unsigned sign = 0; sign < 3; sign++) { /* x: 127, -127, both */
            ck_case(k, "%s, all bytes %u", sl__dtype_name(type), bytes[i]);
            product p = random_product(k, type, 17, 512, i % 2 ? 1 : 9, false);
            const sl__rows w = ck_rows(&p.m);
            for (uint32_t r = 0; r < p.rows; r++)
                memset(p.m.data + r * w.row_bytes, bytes[i], ck_row_bytes(type, 512));
            float x[512];
            for (unsigned c = 0; c < 512; c++)
                x[c] = sign == 0 || (sign == 2 && c % 2) ? 3.0f : -3.0f;
            for (uint32_t t = 0; t < p.tokens; t++)
                k->ref->quantise_rows(x, 512, 0, 512, 512, 1, p.x8 + t * sl__q8_row_bytes(512));
            check_product(k, &p, true);
        }
    }
}

static void check_matmul_q8(ck *k)
{
    for (sl__dtype type = FIRST; type <= LAST; type++) {
        check_shapes(k, type);
        for (unsigned round = 0; round < (k->fast ? 1 : 4); round++)
            check_parts(k, type);
        check_extremes(k, type);
    }
}

/* ---- bench ----------------------------------------------------------------------------------- */

#define BENCH_BYTES ((size_t)256 << 20)
#define BENCH_COLS  2048u
#define BENCH_ROWS  256u
#define MOST_TOKENS 64u

typedef struct bench_case {
    sl__rows w;
    unsigned char *memory, *planes;
    uint32_t tokens, block, blocks;
    float *x, *y, *tmp;
    void *x8;
} bench_case;

static void run_rows(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    sl__rows w = b->w;
    w.data = b->memory + b->block * BENCH_ROWS * w.row_bytes;
    if (w.scales) {
        w.scales = b->planes + b->block * BENCH_ROWS * w.scale_row_bytes;
        w.biases = w.scales;
    }
    kern->matmul_q8(&w, BENCH_ROWS, BENCH_COLS, b->x8, b->tokens, b->y, BENCH_ROWS, b->tmp);
    b->block = (b->block + 1) % b->blocks;
}

static void bench_type(sl__dtype type, bench_case *b)
{
    static const uint32_t some_tokens[] = {4, 16, 64};
    char what[64];
    ck k = {.random = 1};
    b->w = (sl__rows){.dtype = type, .row_bytes = ck_row_bytes(type, BENCH_COLS)};
    if (sl__dtype_affine_bits(type) > 0) {
        b->w.scaling = (sl__scaling){.type = SL_BF16, .group = 64, .group_rows = 1, .biases = true};
        b->w.scale_row_bytes = (size_t)sl__scaling_row_bytes(&b->w.scaling, BENCH_COLS);
        b->w.scales = b->w.biases = b->planes;
    }
    const double bytes = (double)BENCH_ROWS * (double)(b->w.row_bytes + 2 * b->w.scale_row_bytes);
    for (size_t at = 0; at + b->w.row_bytes <= BENCH_BYTES; at += b->w.row_bytes)
        ck_fill_rows(&k, type, b->memory + at, b->w.row_bytes, 1);
    b->tokens = b->blocks = 1;
    b->block = 0;
    snprintf(what, sizeof what, "%s, 1 token, from L2", sl__dtype_name(type));
    ck_time("matmul_q8", what, CK_L2, bytes, run_rows, b);
    b->blocks = (uint32_t)(BENCH_BYTES / (BENCH_ROWS * b->w.row_bytes));
    snprintf(what, sizeof what, "%s, 1 token, from memory", sl__dtype_name(type));
    ck_time("matmul_q8", what, CK_MEMORY, bytes, run_rows, b);
    b->block = 0;
    b->blocks = 1;
    for (unsigned t = 0; t < 3; t++) {
        b->tokens = some_tokens[t];
        snprintf(what, sizeof what, "%s, %u tokens", sl__dtype_name(type), b->tokens);
        ck_time("matmul_q8", what, CK_BYTES, (double)BENCH_ROWS * BENCH_COLS * b->tokens, run_rows,
                b);
    }
}

static void bench_matmul_q8(void)
{
    static const sl__dtype types[] = {SL_Q8_0,        SL_Q4_0,    SL_Q4_K, SL_Q5_K,
                                      SL_Q6_K,        SL_Q3_K,    SL_Q2_K, SL_IQ4_XS,
                                      SL_MXFP4_BLOCK, SL_AFFINE4, SL_IQ3_S};
    bench_case b = {
        .memory = ck_bench_memory(BENCH_BYTES),
        .planes = ck_bench_memory(BENCH_BYTES / 8),
        .x = ck_bench_floats(BENCH_COLS * MOST_TOKENS),
        .y = ck_bench_floats(BENCH_ROWS * MOST_TOKENS),
        .tmp = ck_bench_floats(sl__kern_q8_rows_tmp(BENCH_COLS, MOST_TOKENS)),
        .x8 = ck_bench_memory(MOST_TOKENS * sl__q8_row_bytes(BENCH_COLS)),
    };
    ck_levels[0].quantise_rows(b.x, BENCH_COLS, 0, BENCH_COLS, BENCH_COLS, MOST_TOKENS, b.x8);
    for (size_t i = 0; i + 2 <= BENCH_BYTES / 8; i += 2) { /* scales that are numbers */
        b.planes[i] &= 0x7fu;
        b.planes[i + 1] = 0x3c;
    }
    for (unsigned i = 0; i < sizeof types / sizeof types[0]; i++)
        bench_type(types[i], &b);
}

const ck_kernel ck_rows_q8[] = {
    CK_KERNEL(matmul_q8, check_matmul_q8, bench_matmul_q8),
    {NULL, 0, NULL, NULL},
};
