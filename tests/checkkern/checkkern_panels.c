/* Weights in panels, and activations of 8 bits: panel_matmul, quantise_rows, panel_matmul_q8. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/panels.h"
#include "checkkern.h"

static const sl__dtype types[] = {SL_Q8, SL_Q4, SL_Q3, SL_Q2};
#define TYPES (sizeof types / sizeof types[0])

/* ---- panels ---------------------------------------------------------------------------------- */

typedef struct panels {
    ck_matrix m;           /* the same weights as rows */
    unsigned char *data;   /* as panels, of rows of m.row_bytes */
} panels;

static panels random_panels(ck *k, sl__dtype type, uint32_t rows, uint32_t cols, bool wild)
{
    panels p = {.m = ck_weights_random(k, type, rows, cols, wild)};
    const size_t row_bytes = ck_row_bytes(type, cols), all = (size_t)sl__panels_rows(rows);
    p.data = ck_input(k, all * row_bytes, 1);
    memset(p.data, 0, all * row_bytes);
    for (uint32_t r = 0; r < rows; r++) {
        unsigned char *panel = p.data + r / SL_PANEL_ROWS * SL_PANEL_ROWS * row_bytes;
        sl__panel_put_row(type, p.m.data + r * p.m.row_bytes, cols, panel, r % SL_PANEL_ROWS);
    }
    return p;
}

/* ---- activations of 8 bits ------------------------------------------------------------------- */

static void plain_group(const float *x, uint32_t count, unsigned char *codes, sl__q8_group *group)
{
    float largest = 0;
    bool finite = true;
    int sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        finite = finite && isfinite(x[i]);
        largest = fmaxf(largest, fabsf(x[i]));
    }
    memset(codes, 0, SL_GROUP);
    *group = (sl__q8_group){.step = finite ? 0 : NAN, .total = finite ? 0 : NAN};
    if (!finite || largest < 0x1p-100f) return;
    const float inverse = 127.0f / largest;
    for (uint32_t i = 0; i < count; i++) {
        const int8_t code = (int8_t)nearbyintf(x[i] * inverse);
        codes[i] = (unsigned char)code;
        group->sums[i / 16] = (int16_t)(group->sums[i / 16] + code);
        sum += code;
    }
    group->step = largest / 127.0f;
    group->total = group->step * (float)sum;
}

static void plain_quantise(const float *x, size_t x_stride, uint32_t c0, uint32_t c1,
                           uint32_t cols, uint32_t tokens, unsigned char *out)
{
    for (uint32_t t = 0; t < tokens; t++) {
        unsigned char *row = out + t * sl__q8_row_bytes(cols);
        for (uint32_t c = c0; c < c1; c += SL_GROUP) {
            sl__q8_group group;
            plain_group(x + t * x_stride + c - c0, c1 - c < SL_GROUP ? c1 - c : SL_GROUP, row + c,
                        &group);
            memcpy(row + sl__q8_groups(cols) * SL_GROUP + c / SL_GROUP * sizeof group, &group,
                   sizeof group);
        }
    }
}

/* All bytes of rows, any two NaN being the same; what was not written must be poison still. */
static void same_rows(ck *k, const char *what, const unsigned char *got, const unsigned char *want,
                      uint32_t cols, uint32_t tokens)
{
    const size_t codes = sl__q8_groups(cols) * SL_GROUP, row_bytes = sl__q8_row_bytes(cols);
    for (uint32_t t = 0; t < tokens; t++, got += row_bytes, want += row_bytes) {
        ck_same_bytes(k, what, got, want, codes);
        for (size_t g = 0; g < sl__q8_groups(cols); g++) {
            sl__q8_group a, b;
            memcpy(&a, got + codes + g * sizeof a, sizeof a);
            memcpy(&b, want + codes + g * sizeof b, sizeof b);
            ck_same(k, what, &a.step, &b.step, 1);
            ck_same(k, what, &a.total, &b.total, 1);
            ck_same_bytes(k, what, a.sums, b.sums, sizeof a.sums);
        }
        const size_t end = codes + sl__q8_groups(cols) * sizeof(sl__q8_group);
        ck_same_bytes(k, what, got + end, want + end, row_bytes - end);
    }
}

/* x of groups that differ in size; odd ones are tiny, zero, of ties, infinite or NaN. */
static void fill_groups(ck *k, float *x, uint32_t count, bool odd)
{
    for (uint32_t c = 0; c < count; c += SL_GROUP) {
        const float size = ldexpf(1, (int)ck_below(k, 40) - 20);
        const uint32_t end = count - c < SL_GROUP ? count : c + SL_GROUP, kind = ck_below(k, 8);
        for (uint32_t i = c; i < end; i++) {
            x[i] = ck_float(k, -size, size);
            if (odd && kind == 0) x[i] = 0;
            if (odd && kind == 1) x[i] = ck_float(k, -0x1p-100f, 0x1p-100f);
            if (odd && kind == 2) x[i] = (float)ck_below(k, 255) / 2 - 63.5f; /* ties */
        }
        if (odd && kind == 2) x[c] = 127;
        if (odd && kind == 3) x[c + ck_below(k, end - c)] = ck_below(k, 2) ? NAN : -INFINITY;
        if (odd && kind == 4) x[c + ck_below(k, end - c)] = ck_below(k, 2) ? 3e38f : 0x1p-100f;
    }
}

static void check_quantise(ck *k)
{
    for (unsigned i = k->fast ? 5 : 0; i < 3 * SL_GROUP; i += k->fast ? 13 : 1) {
        const uint32_t cols = 1 + i + SL_GROUP * ck_below(k, 3), tokens = 1 + ck_below(k, 5);
        const uint32_t groups = (uint32_t)sl__q8_groups(cols);
        uint32_t c0 = SL_GROUP * ck_below(k, groups);
        uint32_t c1 = i % 3 == 0 ? cols : c0 + SL_GROUP * (1 + ck_below(k, groups - c0 / SL_GROUP));
        if (i % 3 == 1) c0 = 0;
        if (c1 > cols) c1 = cols;
        ck_case(k, "columns %u to %u of %u, tokens: %u", c0, c1, cols, tokens);
        const size_t stride = c1 - c0 + ck_below(k, 5), size = (tokens - 1) * stride + c1 - c0;
        float *x = ck_input(k, size * sizeof(float), sizeof(float));
        for (uint32_t t = 0; t < tokens; t++)
            fill_groups(k, x + t * stride, c1 - c0, i % 2);
        unsigned char *got = ck_output(k, tokens * sl__q8_row_bytes(cols), 4);
        unsigned char *want = ck_output(k, tokens * sl__q8_row_bytes(cols), 4);
        ck_seal(k);
        if (k->is_ref) plain_quantise(x, stride, c0, c1, cols, tokens, want);
        else k->ref->quantise_rows(x, stride, c0, c1, cols, tokens, want);
        k->kern->quantise_rows(x, stride, c0, c1, cols, tokens, got);
        same_rows(k, "the rows", got, want, cols, tokens);
    }
}

/* ---- products -------------------------------------------------------------------------------- */

typedef struct product {
    panels w;
    uint32_t rows, cols, tokens;
    bool rounded; /* x in 8 bits */
    size_t row_bytes, x_stride, y_stride, y_size;
    float *x;
    unsigned char *x8;
} product;

static product random_product(ck *k, sl__dtype type, uint32_t rows, uint32_t cols, uint32_t tokens,
                              bool rounded, bool odd)
{
    product p = {.rows = rows, .cols = cols, .tokens = tokens, .rounded = rounded};
    p.w = random_panels(k, type, rows, cols, odd);
    p.row_bytes = ck_row_bytes(type, cols);
    p.x_stride = cols + ck_below(k, 5);
    p.y_stride = rows + ck_below(k, 5);
    p.y_size = (tokens - 1) * p.y_stride + rows;
    const size_t size = (tokens - 1) * p.x_stride + cols;
    p.x = ck_input(k, size * sizeof(float), sizeof(float));
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t c = 0; c < cols; c++)
            p.x[t * p.x_stride + c] = ck_float(k, -1, 1);
        if (odd) fill_groups(k, p.x + t * p.x_stride, cols, true);
    }
    if (!rounded) return p;
    p.x8 = ck_input(k, tokens * sl__q8_row_bytes(cols), 4);
    k->ref->quantise_rows(p.x, p.x_stride, 0, cols, cols, tokens, p.x8);
    return p;
}

/* Tokens [t, t + count) and rows [r, end) of the product; r is the first row of a panel. */
static void multiply(const sl__kern *kern, const product *p, uint32_t t, uint32_t count, uint32_t r,
                     uint32_t end, float *y, float *tmp)
{
    const unsigned char *w = p->w.data + r * p->row_bytes;
    y += t * p->y_stride + r;
    if (p->rounded)
        kern->panel_matmul_q8(p->w.m.type, w, p->row_bytes, end - r, p->cols,
                              p->x8 + t * sl__q8_row_bytes(p->cols), count, y, p->y_stride, tmp);
    else
        kern->panel_matmul(p->w.m.type, w, p->row_bytes, end - r, p->cols, p->x + t * p->x_stride,
                           p->x_stride, count, y, p->y_stride, tmp);
}

static float *scratch(ck *k, const product *p, uint32_t tokens)
{
    return ck_floats(k, p->rounded ? sl__kern_q8_tmp(p->cols, tokens)
                                   : sl__kern_matmul_tmp(p->cols, tokens));
}

/* The contract of panel_matmul, a weight at a time. */
static float plain_product(const product *p, uint32_t r, uint32_t t)
{
    const float *x = p->x + t * p->x_stride;
    float s[4] = {0};
    for (uint32_t c = 0; c < p->cols; c++) {
        float term = ck_weight(&p->w.m, r, c) * x[c];
        s[c % 4] += term;
    }
    s[0] += s[2];
    s[1] += s[3];
    return s[0] + s[1];
}

/* The contract of panel_matmul_q8. A code of w is what its weight is where scale and minimum are 1
 * and 0, which any row can be copied to be. */
static float plain_product_q8(const product *p, uint32_t r, uint32_t t)
{
    const size_t block_bytes = sl__dtype_block_bytes(p->w.m.type);
    const unsigned char *row = p->x8 + t * sl__q8_row_bytes(p->cols);
    float s = 0;
    for (uint32_t c = 0; c < p->cols; c += SL_GROUP) {
        unsigned char block[68];
        uint16_t head[2], unit[2] = {sl__f32_to_bf16(1), 0};
        const ck_matrix one = {.type = p->w.m.type, .data = block};
        sl__q8_group group;
        memcpy(block, p->w.m.data + r * p->w.m.row_bytes + c / SL_GROUP * block_bytes, block_bytes);
        memcpy(head, block, sizeof head);
        memcpy(block, unit, sizeof unit);
        memcpy(&group, row + sl__q8_groups(p->cols) * SL_GROUP + c / SL_GROUP * sizeof group,
               sizeof group);
        int dot = 0;
        for (uint32_t i = 0; i < SL_GROUP; i++)
            dot += (int)ck_weight(&one, 0, i) * (int8_t)row[c + i];
        float scale = sl__bf16_to_f32(head[0]) * group.step;
        float term = scale * (float)dot, offset = sl__bf16_to_f32(head[1]) * group.total;
        s += term;
        s += offset;
    }
    return s;
}

static void check_product(ck *k, const product *p)
{
    float *want = ck_floats(k, p->y_size), *got = ck_floats(k, p->y_size);
    ck_seal(k);
    if (k->is_ref) {
        for (uint32_t i = 0; i < p->tokens * p->rows; i++) {
            const uint32_t t = i / p->rows, r = i % p->rows;
            want[t * p->y_stride + r] =
                p->rounded ? plain_product_q8(p, r, t) : plain_product(p, r, t);
        }
    } else {
        multiply(k->ref, p, 0, p->tokens, 0, p->rows, want, scratch(k, p, p->tokens));
    }
    multiply(k->kern, p, 0, p->tokens, 0, p->rows, got, scratch(k, p, p->tokens));
    ck_same(k, "the product", got, want, p->y_size);
}

/* A token alone, batches of 2, 8 and all; panels of rows on their own. */
static void check_parts(ck *k, sl__dtype type, uint32_t rows, uint32_t cols, bool rounded)
{
    static const uint32_t batches[] = {1, 2, 8};
    ck_case(k, "%s [%u x %u] in parts", sl__dtype_name(type), rows, cols);
    product p = random_product(k, type, rows, cols, k->fast ? 16 : 64, rounded, false);
    float *whole = ck_floats(k, p.y_size), *apart = ck_floats(k, p.y_size);
    float *tmp = scratch(k, &p, p.tokens);
    ck_seal(k);
    multiply(k->kern, &p, 0, p.tokens, 0, rows, whole, tmp);
    for (unsigned b = 0; b < 3; b++) {
        float *got = ck_floats(k, p.y_size), *few = scratch(k, &p, batches[b]);
        for (uint32_t t = 0; t < p.tokens; t += batches[b])
            multiply(k->kern, &p, t, batches[b], 0, rows, got, few);
        ck_same(k, "a batch", got, whole, p.y_size);
    }
    for (uint32_t r = 0; r < rows;) {
        uint32_t end = r + SL_PANEL_ROWS * (1 + ck_below(k, 3));
        if (end > rows) end = rows;
        multiply(k->kern, &p, 0, p.tokens, r, end, apart, tmp);
        r = end;
    }
    ck_same(k, "panels apart", apart, whole, p.y_size);
}

static void check_products(ck *k, bool rounded)
{
    static const uint32_t some_tokens[] = {1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 31, 33};
    for (unsigned i = 0; i < TYPES; i++) {
        for (unsigned c = k->fast ? i : 0; c < 2 * SL_GROUP; c += k->fast ? 13 : 1) {
            const uint32_t tokens = some_tokens[ck_below(k, 14)], rows = 1 + ck_below(k, 50);
            const uint32_t cols = 1 + c + (c % 5 == 0 ? 256 : 0);
            const bool odd = c % 8 == 7;
            ck_case(k, "%s [%u x %u], tokens: %u%s", sl__dtype_name(types[i]), rows, cols, tokens,
                    odd ? ", any bytes" : "");
            product p = random_product(k, types[i], rows, cols, tokens, rounded, odd);
            check_product(k, &p);
        }
        for (unsigned round = 0; round < (k->fast ? 1 : 4); round++)
            check_parts(k, types[i], 17 + ck_below(k, 60), 1 + ck_below(k, 400), rounded);
        if (!k->fast) check_parts(k, types[i], 600, 704, rounded); /* more than in one go */
    }
}

static void check_panel_matmul(ck *k)
{
    check_products(k, false);
}

/* The largest integers that a group can come to; codes of 0 are that where they are made signed. */
static void check_extremes(ck *k)
{
    for (unsigned i = 0; i < TYPES; i++) {
        for (unsigned end = 0; end < 6; end++) { /* codes: the largest, 0; x: 127, -127, both */
            const unsigned sign = end % 3;
            ck_case(k, "%s, all codes the %s", sl__dtype_name(types[i]),
                    end / 3 ? "least" : "largest");
            product p = random_product(k, types[i], 33, 256, 5, true, false);
            for (size_t b = 0; b < sl__panels_rows(33) * p.row_bytes; b++)
                p.w.data[b] = end / 3 ? 0 : 0xff;
            const unsigned block = SL_PANEL_ROWS * (unsigned)sl__dtype_block_bytes(types[i]);
            for (size_t at = 0; at < sl__panels_rows(33) * p.row_bytes; at += block) {
                for (unsigned j = 0; j < 32; j++) { /* scales 1, minima -1 */
                    uint16_t h = sl__f32_to_bf16(j < 16 ? 1.0f : -1.0f);
                    memcpy(p.w.data + at + 2 * (size_t)j, &h, sizeof h);
                }
            }
            for (uint32_t r = 0; r < 33; r++) {
                const size_t row_bytes = p.row_bytes;
                sl__panel_get_row(types[i], p.w.data + r / 16 * 16 * row_bytes, r % 16, 256,
                                  p.w.m.data + r * p.w.m.row_bytes);
            }
            for (size_t c = 0; c < 4 * p.x_stride + 256; c++)
                p.x[c] = sign == 0 || (sign == 2 && c % 2) ? 3.0f : -3.0f;
            k->ref->quantise_rows(p.x, p.x_stride, 0, 256, 256, 5, p.x8);
            check_product(k, &p);
        }
    }
}

static void check_panel_matmul_q8(ck *k)
{
    check_products(k, true);
    check_extremes(k);
}

/* ---- bench ----------------------------------------------------------------------------------- */

#define BENCH_BYTES ((size_t)256 << 20)
#define BENCH_COLS  2048u
#define BENCH_ROWS  256u
#define MOST_TOKENS 64u

typedef struct bench_case {
    sl__dtype type;
    const unsigned char *data;
    size_t row_bytes;
    uint32_t tokens, block, blocks;
    float *x, *y, *tmp;
    void *x8;
} bench_case;

static void next_block(bench_case *b)
{
    b->block = (b->block + 1) % b->blocks;
}

static void run_floats(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    kern->panel_matmul(b->type, b->data + b->block * BENCH_ROWS * b->row_bytes, b->row_bytes,
                       BENCH_ROWS, BENCH_COLS, b->x, BENCH_COLS, b->tokens, b->y, BENCH_ROWS,
                       b->tmp);
    next_block(b);
}

static void run_bytes(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    kern->panel_matmul_q8(b->type, b->data + b->block * BENCH_ROWS * b->row_bytes, b->row_bytes,
                          BENCH_ROWS, BENCH_COLS, b->x8, b->tokens, b->y, BENCH_ROWS, b->tmp);
    next_block(b);
}

static void run_quantise(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    kern->quantise_rows(b->x, BENCH_COLS, 0, BENCH_COLS, BENCH_COLS, MOST_TOKENS, b->x8);
}

static bench_case bench_memory(void)
{
    return (bench_case){
        .data = ck_bench_memory(BENCH_BYTES),
        .x = ck_bench_floats(BENCH_COLS * MOST_TOKENS),
        .y = ck_bench_floats(BENCH_ROWS * MOST_TOKENS),
        .tmp = ck_bench_floats(sl__kern_matmul_tmp(BENCH_COLS, MOST_TOKENS) +
                               sl__kern_q8_tmp(BENCH_COLS, MOST_TOKENS)),
        .x8 = ck_bench_memory(MOST_TOKENS * sl__q8_row_bytes(BENCH_COLS)),
    };
}

/* Codes may be any bytes; of scales and minima only some are numbers. */
static void tame_heads(bench_case *b)
{
    unsigned char *data = (unsigned char *)(uintptr_t)b->data;
    const size_t block = SL_PANEL_ROWS * sl__dtype_block_bytes(b->type);
    for (size_t at = 0; at + block <= BENCH_BYTES; at += block) {
        for (unsigned i = 0; i < 32; i++) {
            uint16_t h = sl__f32_to_bf16(0.01f * (float)(i % 7) - 0.02f);
            memcpy(data + at + 2 * (size_t)i, &h, sizeof h);
        }
    }
}

static void bench_products(const char *kernel, ck_bound compute,
                           void (*run)(const sl__kern *kern, void *ctx))
{
    bench_case b = bench_memory();
    run_quantise(&ck_levels[0], &b);
    for (unsigned i = 0; i < TYPES; i++) {
        static const uint32_t some_tokens[] = {8, 64};
        char what[64];
        b.type = types[i];
        b.row_bytes = ck_row_bytes(b.type, BENCH_COLS);
        tame_heads(&b);
        const double bytes = (double)BENCH_ROWS * (double)b.row_bytes;
        b.tokens = b.blocks = 1;
        b.block = 0;
        snprintf(what, sizeof what, "%s, 1 token, from L2", sl__dtype_name(b.type));
        ck_time(kernel, what, CK_L2, bytes, run, &b);
        b.blocks = (uint32_t)(BENCH_BYTES / (BENCH_ROWS * b.row_bytes));
        snprintf(what, sizeof what, "%s, 1 token, from memory", sl__dtype_name(b.type));
        ck_time(kernel, what, CK_MEMORY, bytes, run, &b);
        b.block = 0;
        b.blocks = 1;
        for (unsigned t = 0; t < 2; t++) {
            b.tokens = some_tokens[t];
            snprintf(what, sizeof what, "%s, %u tokens", sl__dtype_name(b.type), b.tokens);
            ck_time(kernel, what, compute, (double)BENCH_ROWS * BENCH_COLS * b.tokens, run, &b);
        }
    }
}

static void bench_panel_matmul(void)
{
    bench_products("panel_matmul", CK_FLOAT, run_floats);
}

static void bench_panel_matmul_q8(void)
{
    bench_products("panel_matmul_q8", CK_BYTES, run_bytes);
}

static void bench_quantise(void)
{
    bench_case b = bench_memory();
    ck_time("quantise_rows", "64 tokens", CK_L2, (double)BENCH_COLS * MOST_TOKENS * sizeof(float),
            run_quantise, &b);
}

const ck_kernel ck_panels[] = {
    CK_KERNEL(panel_matmul, check_panel_matmul, bench_panel_matmul),
    CK_KERNEL(quantise_rows, check_quantise, bench_quantise),
    CK_KERNEL(panel_matmul_q8, check_panel_matmul_q8, bench_panel_matmul_q8),
    {NULL, 0, NULL, NULL},
};
