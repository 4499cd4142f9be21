/* Activations rounded to bf16, and weights in bf16: round_bf16, matmul_bf16. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkkern.h"

/* ---- rounding -------------------------------------------------------------------------------- */

/* What the contract says of one number. */
static uint16_t plain_round(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (fpclassify(x) == FP_SUBNORMAL) return (uint16_t)(bits >> 16 & 0x8000u);
    return sl__f32_to_bf16(x);
}

/* Where the number of token t, column c lies; tokens are all of the call. */
static size_t place_of(uint64_t block, uint32_t cols, uint32_t tokens, uint32_t t, uint32_t c)
{
    const size_t first = t / block * block, left = tokens - first, n = left < block ? left : block;
    return first * sl__bf16_row(cols) + (c / 2 * n + (t - first)) * 2 + c % 2;
}

/* Of any size, with the odd one that is none, too small or between two. */
static float some_number(ck *k)
{
    uint32_t bits = ck_u32(k);
    float x;
    switch (ck_below(k, 6)) {
    case 0:
        break; /* any bits */
    case 1:
        bits &= 0x807fffffu;
        break; /* subnormal */
    case 2:
        bits = (bits & 0xffff0000u) | 0x8000u;
        break; /* ties */
    case 3:
        bits = 0x7f800000u | (bits & 0x80010001u);
        break; /* infinities, NaN */
    case 4:
        bits = (bits & 0x80000000u) | 0x7f7fffffu;
        break; /* rounds to infinity */
    default:
        bits = (bits & 0x8fffffffu) | 0x30000000u;
    }
    memcpy(&x, &bits, sizeof x);
    return x;
}

static void check_round(ck *k)
{
    static const uint32_t some_tokens[] = {1, 2, 3, 15, 16, 17, 31, 33, 40};
    for (unsigned i = k->fast ? 3 : 0; i < 100; i += k->fast ? 13 : 1) {
        const uint32_t cols = 1 + i + 32 * ck_below(k, 3), tokens = some_tokens[ck_below(k, 9)];
        const size_t stride = cols + ck_below(k, 5), numbers = tokens * sl__bf16_row(cols);
        ck_case(k, "%u columns, tokens: %u", cols, tokens);
        float *x = ck_input(k, ((tokens - 1) * stride + cols) * sizeof *x, sizeof *x);
        uint16_t *got = ck_output(k, sl__bf16_bytes(cols, tokens), 2);
        uint16_t *want = ck_output(k, sl__bf16_bytes(cols, tokens), 2);
        memset(want, 0, numbers * sizeof *want);
        for (uint32_t t = 0; t < tokens; t++) {
            for (uint32_t c = 0; c < cols; c++) {
                x[t * stride + c] = some_number(k);
                want[place_of(k->kern->bf16_tokens, cols, tokens, t, c)] =
                    plain_round(x[t * stride + c]);
            }
        }
        ck_seal(k);
        k->kern->round_bf16(x, stride, cols, tokens, got);
        ck_same_bytes(k, "the numbers", got, want, numbers * sizeof *want);
    }
}

/* ---- products -------------------------------------------------------------------------------- */

typedef struct product {
    ck_matrix m;
    uint32_t tokens;
    size_t x_stride, y_stride, y_size;
    float *x;
    unsigned char *rounded_end; /* of room for all tokens */
} product;

/* lowest >= 0: sums that do not cancel. */
static product random_product(ck *k, uint32_t rows, uint32_t cols, uint32_t tokens, float lowest)
{
    product p = {.tokens = tokens, .x_stride = cols + ck_below(k, 5)};
    const size_t room = sl__bf16_bytes(cols, tokens);
    p.m = ck_weights_random(k, SL_BF16, rows, cols, false);
    p.y_stride = rows + ck_below(k, 5);
    p.y_size = (tokens - 1) * p.y_stride + rows;
    p.x = ck_random(k, (tokens - 1) * p.x_stride + cols, lowest, 1);
    p.rounded_end = (unsigned char *)ck_output(k, room, 2) + room;
    for (uint32_t r = 0; r < rows && lowest >= 0; r++) {
        for (uint32_t c = 0; c < cols; c++)
            p.m.data[r * p.m.row_bytes + c * 2 + 1] &= 0x7f;
    }
    return p;
}

/* Tokens [t, t + count) and rows [r, end), the tokens rounded for this call alone. */
static void multiply(const sl__kern *kern, const product *p, uint32_t t, uint32_t count, uint32_t r,
                     uint32_t end, float *y)
{
    unsigned char *x = p->rounded_end - sl__bf16_bytes(p->m.cols, count);
    kern->round_bf16(p->x + t * p->x_stride, p->x_stride, p->m.cols, count, x);
    kern->matmul_bf16(p->m.data + r * p->m.row_bytes, p->m.row_bytes, end - r, p->m.cols, x, count,
                      y + t * p->y_stride + r, p->y_stride);
}

/* ref's result, or, of ref itself, the contract in double; the size of what is summed is returned.
 */
static double expected(ck *k, const product *p, double *want)
{
    float *ref = ck_floats(k, p->y_size);
    double size = 0;
    for (size_t i = 0; i < p->y_size; i++)
        want[i] = NAN;
    multiply(k->ref, p, 0, p->tokens, 0, p->m.rows, ref);
    for (uint32_t i = 0; i < p->tokens * p->m.rows; i++) {
        const uint32_t t = i / p->m.rows, r = i % p->m.rows;
        double sum = 0, all = 0;
        for (uint32_t c = 0; c < p->m.cols; c++) {
            const float x = sl__bf16_to_f32(plain_round(p->x[t * p->x_stride + c]));
            const double term = (double)ck_weight(&p->m, r, c) * (double)x;
            sum += term;
            all += fabs(term);
        }
        size += all * all;
        want[t * p->y_stride + r] = k->is_ref ? sum : (double)ref[t * p->y_stride + r];
    }
    return sqrt(size);
}

static void check_product(ck *k, const product *p)
{
    double *want = ck_doubles(k, p->y_size);
    float *got = ck_floats(k, p->y_size);
    ck_seal(k);
    const double size = expected(k, p, want);
    multiply(k->kern, p, 0, p->tokens, 0, p->m.rows, got);
    ck_within(k, "the product", got, want, p->y_size, 1e-5, size);
}

/* Tokens alone, in batches, whole blocks of what was rounded together; rows cut anywhere. */
static void check_parts(ck *k, uint32_t rows, uint32_t cols)
{
    static const uint32_t batches[] = {1, 2, 3, 5, 16, 33};
    ck_case(k, "[%u x %u] in parts", rows, cols);
    product p = random_product(k, rows, cols, k->fast ? 35 : 67, -1);
    float *whole = ck_floats(k, p.y_size), *apart = ck_floats(k, p.y_size);
    ck_seal(k);
    multiply(k->kern, &p, 0, p.tokens, 0, rows, whole);
    for (unsigned b = 0; b < sizeof batches / sizeof batches[0]; b++) {
        float *got = ck_floats(k, p.y_size);
        for (uint32_t t = 0, n = batches[b]; t < p.tokens; t += n)
            multiply(k->kern, &p, t, p.tokens - t < n ? p.tokens - t : n, 0, rows, got);
        ck_same(k, "a batch", got, whole, p.y_size);
    }
    for (uint32_t r = 0, end; r < rows; r = end) {
        end = r + 1 + ck_below(k, 40);
        if (end > rows) end = rows;
        multiply(k->kern, &p, 0, p.tokens, r, end, apart);
    }
    ck_same(k, "rows apart", apart, whole, p.y_size);

    float *blocks = ck_floats(k, p.y_size);
    const uint32_t block = (uint32_t)k->kern->bf16_tokens;
    unsigned char *x = p.rounded_end - sl__bf16_bytes(cols, p.tokens);
    k->kern->round_bf16(p.x, p.x_stride, cols, p.tokens, x);
    for (uint32_t t = 0; t < p.tokens; t += block)
        k->kern->matmul_bf16(p.m.data, p.m.row_bytes, rows, cols, x + sl__bf16_bytes(cols, t),
                             p.tokens - t < block ? p.tokens - t : block, blocks + t * p.y_stride,
                             p.y_stride);
    ck_same(k, "a block", blocks, whole, p.y_size);
}

/* What is not a number is seen in its row, or its token, and nowhere else. */
static void check_not_numbers(ck *k)
{
    static const uint16_t odd[] = {0x7f80, 0xff80, 0x7fc0, 0xffff, 0x7f81};
    for (unsigned i = 0; i < 5; i++) {
        const uint32_t rows = 1 + ck_below(k, 40), cols = 1 + ck_below(k, 100), tokens = 1 + i * 5;
        const uint32_t row = ck_below(k, rows), token = ck_below(k, tokens);
        ck_case(k, "[%u x %u], tokens: %u, with %04x", rows, cols, tokens, odd[i]);
        product p = random_product(k, rows, cols, tokens, 0.5f);
        const uint32_t at = ck_below(k, cols);
        p.x[token * p.x_stride + ck_below(k, cols)] = sl__bf16_to_f32(odd[(i + 2) % 5]);
        memcpy(p.m.data + row * p.m.row_bytes + 2 * (size_t)at, &odd[i], 2);
        float *got = ck_floats(k, p.y_size);
        ck_seal(k);
        multiply(k->kern, &p, 0, tokens, 0, rows, got);
        for (uint32_t t = 0; t < tokens; t++) {
            for (uint32_t r = 0; r < rows; r++) {
                const float y = got[t * p.y_stride + r];
                if ((isfinite(y) != 0) != (t != token && r != row))
                    ck_fail(k, "token %u, row %u: %a", t, r, (double)y);
            }
        }
    }
}

static void check_matmul_bf16(ck *k)
{
    static const uint32_t some_tokens[] = {1, 1, 2, 3, 4, 5, 6, 7, 8, 15, 16, 17, 31, 32, 33, 49};
    for (unsigned i = k->fast ? 3 : 0; i < 130; i += k->fast ? 13 : 1) {
        const uint32_t tokens = some_tokens[ck_below(k, 16)], rows = 1 + ck_below(k, 70);
        const uint32_t cols = 1 + i + (i % 5 == 0 ? 512 : 0);
        ck_case(k, "[%u x %u], tokens: %u", rows, cols, tokens);
        product p = random_product(k, rows, cols, tokens, i % 2 ? -1 : 0);
        check_product(k, &p);
    }
    for (unsigned round = 0; round < (k->fast ? 2 : 8); round++)
        check_parts(k, 1 + ck_below(k, 80), 1 + ck_below(k, 300));
    check_parts(k, 48, 96);
    check_not_numbers(k);
    if (k->fast) return;
    check_parts(k, 200, 1000); /* rows beyond those that stay in a cache */
    ck_case(k, "[20 x 20000], tokens: 3");
    product p = random_product(k, 20, 20000, 3, 0);
    check_product(k, &p);
}

/* ---- bench ----------------------------------------------------------------------------------- */

#define BENCH_BYTES ((size_t)256 << 20)
#define BENCH_COLS  2048u
#define BENCH_ROWS  256u
#define MOST_TOKENS 64u

typedef struct bench_case {
    unsigned char *data;
    uint32_t tokens, block, blocks;
    float *x, *y, *tmp;
    void *rounded;
} bench_case;

static const unsigned char *next_block(bench_case *b)
{
    b->block = (b->block + 1) % b->blocks;
    return b->data + (size_t)b->block * BENCH_ROWS * BENCH_COLS * 2;
}

/* What the layout of the activations holds does not matter to the time. */
static void run_bf16(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    kern->matmul_bf16(next_block(b), BENCH_COLS * 2, BENCH_ROWS, BENCH_COLS, b->rounded, b->tokens,
                      b->y, BENCH_ROWS);
}

static void run_floats(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    const sl__rows w = {.dtype = SL_BF16, .data = next_block(b), .row_bytes = BENCH_COLS * 2};
    kern->matmul(&w, BENCH_ROWS, BENCH_COLS, b->x, BENCH_COLS, b->tokens, b->y, BENCH_ROWS, b->tmp);
}

static void run_round(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    kern->round_bf16(b->x, BENCH_COLS, BENCH_COLS, b->tokens, b->rounded);
}

static bench_case bench_memory(void)
{
    bench_case b = {
        .data = ck_bench_memory(BENCH_BYTES),
        .tokens = MOST_TOKENS,
        .x = ck_bench_floats(BENCH_COLS * MOST_TOKENS),
        .y = ck_bench_floats(BENCH_ROWS * MOST_TOKENS),
        .tmp = ck_bench_floats(sl__kern_matmul_tmp(BENCH_COLS, MOST_TOKENS)),
        .rounded = ck_bench_memory(sl__bf16_bytes(BENCH_COLS, MOST_TOKENS)),
    };
    for (size_t i = 0; i < BENCH_BYTES / 2; i++) { /* numbers from 1 to 2 and -1 to -2 */
        b.data[2 * i + 1] = (unsigned char)((b.data[2 * i + 1] & 0x80) | 0x3f);
        b.data[2 * i] |= 0x80;
    }
    ck_levels[0].round_bf16(b.x, BENCH_COLS, BENCH_COLS, MOST_TOKENS, b.rounded);
    return b;
}

/* Each beside the product that takes its inputs as floats. */
static void bench_one(bench_case *b, const char *what, ck_bound bound, double amount)
{
    char floats[64];
    snprintf(floats, sizeof floats, "%s, f32", what);
    ck_time("matmul_bf16", what, bound, amount, run_bf16, b);
    ck_time("matmul, bf16", floats, bound, amount, run_floats, b);
}

static void bench_matmul_bf16(void)
{
    static const uint32_t some_tokens[] = {4, 16, 64};
    bench_case b = bench_memory();
    const double bytes = BENCH_ROWS * BENCH_COLS * 2.0;
    b.tokens = b.blocks = 1;
    bench_one(&b, "1 token, from L2", CK_L2, bytes);
    b.blocks = (uint32_t)(BENCH_BYTES / (BENCH_ROWS * BENCH_COLS * 2));
    bench_one(&b, "1 token, from memory", CK_MEMORY, bytes);
    b.block = 0;
    b.blocks = 1;
    for (unsigned t = 0; t < sizeof some_tokens / sizeof some_tokens[0]; t++) {
        char what[32];
        b.tokens = some_tokens[t];
        snprintf(what, sizeof what, "%u tokens", b.tokens);
        bench_one(&b, what, CK_FLOAT, (double)BENCH_ROWS * BENCH_COLS * b.tokens);
    }
}

static void bench_round_bf16(void)
{
    bench_case b = bench_memory();
    ck_time("round_bf16", "64 tokens", CK_L2, (double)BENCH_COLS * MOST_TOKENS * sizeof(float),
            run_round, &b);
}

const ck_kernel ck_bf16[] = {
    CK_KERNEL(round_bf16, check_round, bench_round_bf16),
    CK_KERNEL(matmul_bf16, check_matmul_bf16, bench_matmul_bf16),
    {NULL, 0, NULL, NULL},
};
