/* The kernel checker: every entry of every level that this machine has against the contract in
 * kern.h, written here once more in the plainest way. Inputs are random (fixed seeds), lie at odd
 * addresses and with strides wider than a row; outputs and scratch are poisoned with NaN and lie
 * between canaries. The mixers have a program of their own, test_kern_mixers.c.
 *
 * Entries that the contract calls near are also held to ref's bits: all levels are compiled from
 * one source, and a result that depends on the CPU would be hard to find later. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kern/kern.h"
#include "kern_check.h"
#include "plain_blocks.h"

static const sl__dtype weight_types[] = {
    SL_F32,     SL_F16,    SL_BF16,   SL_Q8,          SL_Q4,    SL_Q3,   SL_Q2,
    SL_MXFP4,   SL_Q4_0,   SL_Q4_1,   SL_Q5_0,        SL_Q5_1,  SL_Q8_0, SL_IQ4_NL,
    SL_Q2_K,    SL_Q3_K,   SL_Q4_K,   SL_Q5_K,        SL_Q6_K,  SL_NVFP4, SL_IQ4_XS,
    SL_IQ2_XXS, SL_IQ2_XS, SL_IQ2_S,  SL_MXFP4_BLOCK, SL_IQ3_S, SL_IQ3_XXS,
};
#define WEIGHT_TYPES (sizeof weight_types / sizeof weight_types[0])
_Static_assert(WEIGHT_TYPES == SL_DTYPE_COUNT, "all of them");

/* ---- the contract, plainly ------------------------------------------------------------------- */

static uint16_t u16_at(const unsigned char *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
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
    int s = scales[c / 32];
    double value = s == 255 ? (double)NAN : ldexp(values[code & 7u], s - 127);
    return (float)((code & 8u) != 0 ? -value : value); /* beyond float's range: infinity */
}

/* scales: of the row, where the type has a plane of them. */
static float plain_weight(sl__dtype type, const unsigned char *row, const unsigned char *scales,
                          uint32_t c)
{
    float value;
    if (type == SL_MXFP4) return plain_mxfp4(row, scales, c);
    if (sl__dtype_is_block(type)) return plain_block_weight(type, row, c);
    if (type == SL_F32) {
        memcpy(&value, row + (size_t)c * 4, 4);
        return value;
    }
    if (type == SL_F16) return plain_half(u16_at(row + (size_t)c * 2));
    if (type == SL_BF16) return sl__bf16_to_f32(u16_at(row + (size_t)c * 2));
    const unsigned char *block = row + (size_t)(c / 64) * sl__dtype_block_bytes(type);
    float scale = sl__bf16_to_f32(u16_at(block)), minimum = sl__bf16_to_f32(u16_at(block + 2));
    float product = scale * (float)plain_code(type, block + 4, c % 64);
    return product + minimum;
}

static float plain_fold(float s[16])
{
    for (unsigned n = 8; n > 0; n /= 2) {
        for (unsigned i = 0; i < n; i++)
            s[i] += s[i + n];
    }
    return s[0];
}

static float plain_dot(const float *a, const float *b, uint32_t n)
{
    float s[16] = {0};
    for (uint32_t c = 0; c < n; c++) {
        float product = a[c] * b[c];
        s[c % 16] += product;
    }
    return plain_fold(s);
}

/* Random rows of a type, finite values about 1 in size. */
static void fill_weights(sl__dtype type, unsigned char *p, size_t row_bytes, uint32_t rows)
{
    size_t unit = type == SL_F32 ? 4 : type < SL_Q8 ? 2 : sl__dtype_block_bytes(type);
    for (size_t i = 0; i < row_bytes * rows; i++)
        p[i] = (unsigned char)random_u32();
    if (type == SL_MXFP4) return;
    for (uint32_t r = 0; r < rows; r++) {
        unsigned char *row = p + r * row_bytes;
        for (size_t i = 0; i + unit <= row_bytes; i += unit) {
            float f = random_float(-2, 2);
            uint16_t h[2] = {sl__f32_to_bf16(random_float(0, 0.1f)), sl__f32_to_bf16(f)};
            if (sl__dtype_is_block(type))
                tame_block(type, row + i);
            else if (type == SL_F32)
                memcpy(row + i, &f, 4);
            else if (type == SL_F16)
                row[i + 1] = (unsigned char)((row[i + 1] & 0x87u) | (random_u32() % 16 << 3));
            else if (type == SL_BF16)
                memcpy(row + i, &h[1], 2);
            else
                memcpy(row + i, h, 4);
        }
    }
}

/* Random scales of `rows` rows, about 1 in size; NULL for types without. */
static unsigned char *random_scales(sl__dtype type, size_t row_bytes, uint32_t rows)
{
    if (!sl__dtype_has_scales(type)) return NULL;
    unsigned char *p = guarded(row_bytes * rows, random_u32() % 8);
    for (size_t i = 0; i < row_bytes * rows; i++)
        p[i] = (unsigned char)(120 + random_u32() % 8);
    return p;
}

static size_t row_bytes_of(sl__dtype type, uint32_t cols)
{
    uint64_t bytes = 0;
    assert_true(sl__dtype_row_bytes(type, cols, &bytes));
    return (size_t)bytes;
}

/* ---- types ----------------------------------------------------------------------------------- */

static void test_dtype_table(void **state)
{
    (void)state;
    for (unsigned i = 0; i < (unsigned)SL_DTYPE_ALL; i++) {
        sl__dtype parsed = SL_DTYPE_ALL;
        assert_true(sl__dtype_parse(sl__dtype_name((sl__dtype)i), &parsed));
        assert_int_equal(parsed, i);
        assert_true(sl__dtype_block_bytes((sl__dtype)i) > 0);
    }
    sl__dtype untouched = SL_Q3;
    assert_false(sl__dtype_parse("Q4", &untouched));
    assert_false(sl__dtype_parse("", &untouched));
    assert_false(sl__dtype_parse("?", &untouched));
    assert_int_equal(untouched, SL_Q3);
    assert_string_equal(sl__dtype_name(SL_DTYPE_ALL), "?");
    assert_int_equal(sl__dtype_block_bytes(SL_DTYPE_ALL), 0);

    static const uint32_t bytes[] = {256, 128, 128, 68,  36, 28,  20,  32,  36,
                                     40,  44,  48,  68,  36, 84,  110, 144, 176,
                                     210, 36,  136, 66,  74, 82,  34,  110, 98};
    for (unsigned i = 0; i < WEIGHT_TYPES; i++) {
        assert_int_equal(row_bytes_of(weight_types[i], 64), bytes[i]);
        assert_int_equal(row_bytes_of(weight_types[i], 0), 0);
    }
    assert_int_equal(row_bytes_of(SL_MXFP4, 33), 32);
    for (unsigned i = 0; i < WEIGHT_TYPES; i++)
        assert_int_equal(sl__dtype_has_scales(weight_types[i]), weight_types[i] == SL_MXFP4);
    assert_int_equal(sl__dtype_scale_row_bytes(SL_MXFP4, 0), 0);
    assert_int_equal(sl__dtype_scale_row_bytes(SL_MXFP4, 32), 1);
    assert_int_equal(sl__dtype_scale_row_bytes(SL_MXFP4, 33), 2);
    assert_int_equal(sl__dtype_scale_row_bytes(SL_Q4, 64), 0);
    assert_int_equal(row_bytes_of(SL_Q4, 1), 36);
    assert_int_equal(row_bytes_of(SL_Q4, 65), 72);
    assert_int_equal(row_bytes_of(SL_Q8_0, 65), 102);
    assert_int_equal(row_bytes_of(SL_Q6_K, 257), 420);
    uint64_t size = 7;
    assert_false(sl__dtype_row_bytes(SL_F32, UINT64_MAX / 2, &size));
    assert_false(sl__dtype_row_bytes(SL_F64, UINT64_MAX, &size));
    assert_true(sl__dtype_row_bytes(SL_Q8, UINT64_MAX / 128, &size));
}

/* All 65536 halves, through the function and through every level's rows. */
static void test_halves(void **state)
{
    (void)state;
    const uint32_t n = 65536;
    unsigned char *row = guarded(n * 2, 1);
    float *want16 = floats(n), *want_b = floats(n);
    for (uint32_t i = 0; i < n; i++) {
        row[2 * i] = (unsigned char)i;
        row[2 * i + 1] = (unsigned char)(i >> 8);
        want16[i] = plain_half((uint16_t)i);
        uint32_t bits = i << 16;
        memcpy(&want_b[i], &bits, 4);
        float got = sl__f16_to_f32((uint16_t)i), back = sl__bf16_to_f32((uint16_t)i);
        assert_bits(&got, &want16[i], 1, "f16");
        assert_bits(&back, &want_b[i], 1, "bf16");
        if (isnan(back))
            assert_true(isnan(sl__bf16_to_f32(sl__f32_to_bf16(back))));
        else
            assert_int_equal(sl__f32_to_bf16(back), i);
    }
    for EACH_LEVEL(kern) {
        float *out = floats(n);
        kern->dequant_row(SL_F16, row, NULL, out, n);
        assert_bits(out, want16, n, "f16 row");
        kern->dequant_row(SL_BF16, row, NULL, out, n);
        assert_bits(out, want_b, n, "bf16 row");
        /* A NaN's bits agree too: quiet, its payload kept. */
        kern->dequant_row(SL_F16, row, NULL, out, n);
        for (uint32_t i = 0; i < n; i++) {
            float one = sl__f16_to_f32((uint16_t)i);
            assert_memory_equal(&one, &out[i], 4);
        }
    }
    check_buffers();
}

static void test_bf16_rounding(void **state)
{
    (void)state;
    check_seed(11);
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t bits = random_u32();
        if (i % 4 == 0) bits = (bits & 0xffff0000u) | 0x8000u; /* ties */
        float f;
        memcpy(&f, &bits, 4);
        uint16_t h = sl__f32_to_bf16(f);
        if (isnan(f)) {
            assert_true(isnan(sl__bf16_to_f32(h)));
            continue;
        }
        uint32_t low = bits & 0xffffu, up = low > 0x8000u || (low == 0x8000u && (bits >> 16 & 1u));
        assert_int_equal(h, (bits >> 16) + up);
    }
}

/* ---- matrices -------------------------------------------------------------------------------- */

static const uint32_t some_cols[] = {1,   2,   7,   15,  16,  17,  31,  48,   63,   64,  65,
                                     100, 127, 128, 192, 320, 511, 512, 513,  577,  704, 1100};
#define SOME_COLS (sizeof some_cols / sizeof some_cols[0])

static void test_dequant_row(void **state)
{
    (void)state;
    check_seed(1);
    for (unsigned i = 0; i < WEIGHT_TYPES; i++) {
        for (unsigned j = 0; j < SOME_COLS; j++) {
            sl__dtype type = weight_types[i];
            uint32_t cols = some_cols[j];
            size_t bytes = row_bytes_of(type, cols);
            unsigned char *row = guarded(bytes, random_u32() % 8);
            fill_weights(type, row, bytes, 1);
            unsigned char *scales =
                random_scales(type, (size_t)sl__dtype_scale_row_bytes(type, cols), 1);
            float *want = floats(cols);
            for (uint32_t c = 0; c < cols; c++)
                want[c] = plain_weight(type, row, scales, c);
            for EACH_LEVEL(kern) {
                float *out = floats(cols);
                kern->dequant_row(type, row, scales, out, cols);
                assert_bits(out, want, cols, sl__dtype_name(type));
            }
            check_buffers();
        }
    }
}

/* Every scale with every code: exact down to the subnormal ones, infinity where float ends, NaN for
 * the scale that says so. */
static void test_mxfp4_values(void **state)
{
    (void)state;
    for (unsigned s = 0; s < 256; s++) {
        unsigned char row[32], scales[2] = {(unsigned char)s, (unsigned char)(255 - s)};
        float want[64];
        for (unsigned i = 0; i < 32; i++)
            row[i] = (unsigned char)(i * 37 + s);
        for (uint32_t c = 0; c < 64; c++)
            want[c] = plain_mxfp4(row, scales, c);
        for EACH_LEVEL(kern) {
            float out[64];
            kern->dequant_row(SL_MXFP4, row, scales, out, 64);
            assert_bits(out, want, 64, "mxfp4");
            kern->dequant_row(SL_MXFP4, row, scales, out, 32);
            assert_bits(out, want, 32, "half a group of mxfp4");
        }
    }
    const unsigned char low[16] = {0x10}, one = 0, most = 254, row[16] = {0xf7};
    float out[32];
    levels[0].dequant_row(SL_MXFP4, low, &one, out, 32);
    assert_true(out[0] == 0 && out[1] == 0x1p-128f);
    levels[0].dequant_row(SL_MXFP4, row, &most, out, 32);
    assert_true(out[0] == INFINITY && out[1] == -INFINITY);
}

typedef struct shape {
    sl__dtype type;
    uint32_t rows, cols, tokens;
    size_t row_bytes, x_stride, y_stride;
} shape;

static size_t scale_row_bytes_of(const shape *s)
{
    return (size_t)sl__dtype_scale_row_bytes(s->type, s->cols) + s->x_stride % 3; /* spare */
}

static const unsigned char *row_of(const unsigned char *scales, size_t row_bytes, uint32_t r)
{
    return scales ? scales + r * row_bytes : NULL;
}

static void check_matmul(const shape *s)
{
    unsigned char *w = guarded(s->row_bytes * s->rows, random_u32() % 8);
    fill_weights(s->type, w, s->row_bytes, s->rows);
    size_t scale_bytes = scale_row_bytes_of(s);
    unsigned char *scales = random_scales(s->type, scale_bytes, s->rows);
    size_t x_size = (s->tokens - 1) * s->x_stride + s->cols;
    size_t y_size = (s->tokens - 1) * s->y_stride + s->rows;
    float *x = floats(x_size), *want = floats(y_size), *row = floats(s->cols);
    for (uint32_t t = 0; t < s->tokens; t++) {
        for (uint32_t c = 0; c < s->cols; c++)
            x[t * s->x_stride + c] = random_float(-1, 1);
    }
    for (uint32_t r = 0; r < s->rows; r++) {
        for (uint32_t c = 0; c < s->cols; c++)
            row[c] = plain_weight(s->type, w + r * s->row_bytes, row_of(scales, scale_bytes, r), c);
        for (uint32_t t = 0; t < s->tokens; t++)
            want[t * s->y_stride + r] = plain_dot(row, x + t * s->x_stride, s->cols);
    }
    for EACH_LEVEL(kern) {
        char what[96];
        snprintf(what, sizeof what, "%s %s [%u x %u] %u tokens", kern->level,
                 sl__dtype_name(s->type), s->rows, s->cols, s->tokens);
        float *y = floats(y_size), *tmp = floats(sl__kern_matmul_tmp(s->cols, s->tokens));
        kern->matmul(s->type, w, s->row_bytes, scales, scale_bytes, s->rows, s->cols, x,
                     s->x_stride, s->tokens, y, s->y_stride, tmp);
        assert_bits(y, want, y_size, what); /* what lies between rows is still NaN */
        /* The same a token and a row at a time. */
        float *alone = floats(y_size), *tmp1 = floats(sl__kern_matmul_tmp(s->cols, 1));
        for (uint32_t t = 0; t < s->tokens; t++) {
            for (uint32_t r = 0; r < s->rows; r++)
                kern->matmul(s->type, w + r * s->row_bytes, s->row_bytes,
                             row_of(scales, scale_bytes, r), scale_bytes, 1, s->cols,
                             x + t * s->x_stride, 0, 1, alone + t * s->y_stride + r, 0, tmp1);
        }
        assert_bits(alone, want, y_size, what);
    }
    check_buffers();
}

static void test_matmul(void **state)
{
    (void)state;
    static const uint32_t some_tokens[] = {1, 2, 3, 4, 5, 8, 17};
    check_seed(2);
    for (unsigned i = 0; i < WEIGHT_TYPES; i++) {
        for (unsigned j = 0; j < SOME_COLS; j++) {
            for (unsigned k = 0; k < 7; k++) {
                sl__dtype type = weight_types[i];
                uint32_t cols = some_cols[j];
                shape s = {type, 1 + random_u32() % 9, cols, some_tokens[k], 0, 0, 0};
                s.row_bytes = row_bytes_of(type, cols) + random_u32() % 2 * (random_u32() % 9);
                s.x_stride = cols + random_u32() % 5;
                s.y_stride = s.rows + random_u32() % 5;
                check_matmul(&s);
            }
        }
    }
}

static void check_matmul_t(const shape *s)
{
    unsigned char *w = guarded(s->row_bytes * s->rows, random_u32() % 8);
    fill_weights(s->type, w, s->row_bytes, s->rows);
    size_t scale_bytes = scale_row_bytes_of(s);
    unsigned char *scales = random_scales(s->type, scale_bytes, s->rows);
    size_t x_size = (s->tokens - 1) * s->x_stride + s->rows;
    size_t y_size = (s->tokens - 1) * s->y_stride + s->cols;
    float *x = random_floats(x_size), *want = floats(y_size);
    for (uint32_t t = 0; t < s->tokens; t++) {
        for (uint32_t c = 0; c < s->cols; c++) {
            float sum = 0;
            for (uint32_t r = 0; r < s->rows; r++) {
                float product = x[t * s->x_stride + r] *
                                plain_weight(s->type, w + r * s->row_bytes,
                                             row_of(scales, scale_bytes, r), c);
                sum += product;
            }
            want[t * s->y_stride + c] = sum;
        }
    }
    uint32_t groups = (s->cols + SL_GROUP - 1) / SL_GROUP;
    for EACH_LEVEL(kern) {
        char what[96];
        snprintf(what, sizeof what, "%s %s transposed [%u x %u] %u tokens", kern->level,
                 sl__dtype_name(s->type), s->rows, s->cols, s->tokens);
        float *y = floats(y_size), *tmp = floats(sl__kern_matmul_tmp(s->cols, s->tokens));
        kern->matmul_t(s->type, w, s->row_bytes, scales, scale_bytes, s->rows, 0, s->cols, x,
                       s->x_stride, s->tokens, y, s->y_stride, tmp);
        assert_bits(y, want, y_size, what);
        /* The same a token and a range of columns at a time. */
        float *alone = floats(y_size), *tmp1 = floats(sl__kern_matmul_tmp(s->cols, 1));
        uint32_t cut = random_u32() % (groups + 1) * SL_GROUP;
        if (cut > s->cols) cut = s->cols;
        for (uint32_t t = 0; t < s->tokens; t++) {
            float *to = alone + t * s->y_stride;
            kern->matmul_t(s->type, w, s->row_bytes, scales, scale_bytes, s->rows, 0, cut,
                           x + t * s->x_stride, 0, 1, to, 0, tmp1);
            if (cut == s->cols) continue;
            kern->matmul_t(s->type, w, s->row_bytes, scales, scale_bytes, s->rows, cut, s->cols,
                           x + t * s->x_stride, 0, 1, to + cut, 0, tmp1);
        }
        assert_bits(alone, want, y_size, what);
    }
    check_buffers();
}

static void test_matmul_t(void **state)
{
    (void)state;
    static const uint32_t some_tokens[] = {1, 2, 4, 7}, some_rows[] = {1, 5, 16, 33};
    check_seed(15);
    for (unsigned i = 0; i < WEIGHT_TYPES; i++) {
        for (unsigned j = 0; j < SOME_COLS; j++) {
            for (unsigned k = 0; k < 4; k++) {
                sl__dtype type = weight_types[i];
                uint32_t cols = some_cols[j];
                shape s = {type, some_rows[(j + k) % 4], cols, some_tokens[k], 0, 0, 0};
                s.row_bytes = row_bytes_of(type, cols) + random_u32() % 2 * (random_u32() % 9);
                s.x_stride = s.rows + random_u32() % 5;
                s.y_stride = cols + random_u32() % 5;
                check_matmul_t(&s);
            }
        }
    }
}

/* Blocks whose scales are any bytes, infinities and NaN among them, and x that has some, too. */
static void test_wild_blocks(void **state)
{
    (void)state;
    check_seed(17);
    const uint32_t rows = 5, cols = 1184;
    for (unsigned i = 0; i < WEIGHT_TYPES; i++) {
        sl__dtype type = weight_types[i];
        if (!sl__dtype_is_block(type)) continue;
        size_t bytes = row_bytes_of(type, cols);
        for (unsigned round = 0; round < 8; round++) {
            unsigned char *w = guarded(rows * bytes, random_u32() % 8);
            for (size_t b = 0; b < rows * bytes; b++)
                w[b] = (unsigned char)random_u32();
            float *x = random_floats(cols), *row = floats(cols), *want = floats(rows);
            x[random_u32() % cols] = round % 2 ? INFINITY : 0;
            for (uint32_t r = 0; r < rows; r++) {
                for (uint32_t c = 0; c < cols; c++)
                    row[c] = plain_block_weight(type, w + r * bytes, c);
                want[r] = plain_dot(row, x, cols);
            }
            for EACH_LEVEL(kern) {
                float *y = floats(rows), *out = floats(cols);
                float *tmp = floats(sl__kern_matmul_tmp(cols, 1));
                kern->matmul(type, w, bytes, NULL, 0, rows, cols, x, cols, 1, y, rows, tmp);
                assert_bits(y, want, rows, sl__dtype_name(type));
                kern->dequant_row(type, w + (rows - 1) * bytes, NULL, out, cols);
                assert_bits(out, row, cols, sl__dtype_name(type));
            }
            check_buffers();
        }
    }
}

/* An infinity or a NaN in one token or one row stays there. */
static void test_matmul_contains_nan(void **state)
{
    (void)state;
    check_seed(3);
    const uint32_t rows = 6, cols = 80, tokens = 7;
    for EACH_LEVEL(kern) {
        float *w = random_floats(rows * cols), *x = random_floats(tokens * cols);
        float *y = floats(tokens * rows), *tmp = floats(sl__kern_matmul_tmp(cols, tokens));
        w[2 * cols + 79] = NAN;
        x[4 * cols + 64] = INFINITY;
        kern->matmul(SL_F32, w, cols * 4, NULL, 0, rows, cols, x, cols, tokens, y, rows, tmp);
        for (uint32_t t = 0; t < tokens; t++) {
            for (uint32_t r = 0; r < rows; r++)
                assert_int_equal(isfinite(y[t * rows + r]) == 0, r == 2 || t == 4);
        }
        check_buffers();
    }
}

static void test_dot_axpy(void **state)
{
    (void)state;
    check_seed(4);
    for EACH_LEVEL(kern) {
        for (uint32_t n = 0; n < 150; n++) {
            float *a = random_floats(n), *b = random_floats(n), *y = random_floats(n);
            float want = plain_dot(a, b, n), got = kern->dot(a, b, n), factor = a[0];
            assert_bits(&got, &want, 1, "dot");
            if (n == 0) factor = 1;
            float *sum = copy_of(y, n);
            for (uint32_t i = 0; i < n; i++) {
                float product = factor * b[i];
                sum[i] = y[i] + product;
            }
            kern->axpy(y, factor, b, n);
            assert_bits(y, sum, n, "axpy");
            check_buffers();
        }
    }
}

static void test_norms(void **state)
{
    (void)state;
    check_seed(5);
    for EACH_LEVEL(kern) {
        for (uint32_t n = 1; n < 300; n += 1 + n / 7) {
            float *x = random_floats(n), *w = random_floats(n), *y = floats(n);
            float *ref = floats(n), *in_place = copy_of(x, n);
            double *want = guarded(n * sizeof(double), 0), sum = 0;
            for (uint32_t i = 0; i < n; i++)
                sum += (double)x[i] * (double)x[i];
            for (uint32_t i = 0; i < n; i++)
                want[i] = (double)x[i] / sqrt(sum / n + 1e-6) * (double)w[i];
            kern->rms_norm(y, x, w, n, 1e-6f);
            assert_near(y, want, n, 1e-6, "rms_norm");
            levels[0].rms_norm(ref, x, w, n, 1e-6f);
            assert_bits(y, ref, n, "rms_norm");
            kern->rms_norm(in_place, in_place, w, n, 1e-6f);
            assert_bits(in_place, ref, n, "rms_norm in place");

            for (uint32_t i = 0; i < n; i++)
                want[i] = (double)x[i] / sqrt(sum + 1e-6) * 0.25;
            memcpy(y, x, n * sizeof(float));
            memcpy(ref, x, n * sizeof(float));
            kern->l2_norm(y, n, 1e-6f, 0.25f);
            assert_near(y, want, n, 1e-6, "l2_norm");
            levels[0].l2_norm(ref, n, 1e-6f, 0.25f);
            assert_bits(y, ref, n, "l2_norm");
            check_buffers();
        }
        float zero[20] = {0};
        kern->l2_norm(zero, 20, 1e-6f, 1);
        for (unsigned i = 0; i < 20; i++)
            assert_true(zero[i] == 0);
    }
}

static void test_rope(void **state)
{
    (void)state;
    check_seed(6);
    for EACH_LEVEL(kern) {
        for (uint32_t half = 1; half < 70; half += 3) {
            float *x = random_floats(2 * half), *cosine = random_floats(half);
            float *sine = random_floats(half), *want = floats(2 * half);
            for (uint32_t i = 0; i < half; i++) {
                float ac = x[i] * cosine[i], bs = x[i + half] * sine[i];
                float bc = x[i + half] * cosine[i], as = x[i] * sine[i];
                want[i] = ac - bs;
                want[i + half] = bc + as;
            }
            kern->rope(x, cosine, sine, half);
            assert_bits(x, want, 2 * half, "rope");
            check_buffers();
        }
    }
}

static void test_rope_adjacent(void **state)
{
    (void)state;
    check_seed(16);
    for EACH_LEVEL(kern) {
        for (uint32_t half = 0; half < 70; half += 3) {
            float *x = random_floats(2 * half), *cosine = random_floats(half);
            float *sine = random_floats(half), *want = floats(2 * half);
            for (uint32_t i = 0; i < half; i++) {
                float ac = x[2 * i] * cosine[i], bs = x[2 * i + 1] * sine[i];
                float bc = x[2 * i + 1] * cosine[i], as = x[2 * i] * sine[i];
                want[2 * i] = ac - bs;
                want[2 * i + 1] = bc + as;
            }
            kern->rope_adjacent(x, cosine, sine, half);
            assert_bits(x, want, 2 * half, "rope_adjacent");
            check_buffers();
        }
    }
}

/* ---- activations ----------------------------------------------------------------------------- */

static void test_activations(void **state)
{
    (void)state;
    check_seed(7);
    for EACH_LEVEL(kern) {
        for (uint32_t n = 1; n < 200; n += 1 + n / 5) {
            float *x = floats(n), *up = random_floats(n), *y = floats(n), *ref = floats(n);
            double *want = guarded(n * sizeof(double), 0);
            for (uint32_t i = 0; i < n; i++) {
                x[i] = random_float(-20, 20);
                want[i] = exact_silu((double)x[i]) * (double)up[i];
            }
            kern->swiglu(y, x, up, n);
            assert_near(y, want, n, 1e-6, "swiglu");
            levels[0].swiglu(ref, x, up, n);
            assert_bits(y, ref, n, "swiglu");
            float *in_place = copy_of(x, n);
            kern->swiglu(in_place, in_place, up, n);
            assert_bits(in_place, ref, n, "swiglu in place");

            for (uint32_t i = 0; i < n; i++)
                want[i] = exact_silu((double)x[i]);
            memcpy(y, x, n * sizeof(float));
            memcpy(ref, x, n * sizeof(float));
            kern->silu(y, n);
            levels[0].silu(ref, n);
            assert_near(y, want, n, 1e-6, "silu");
            assert_bits(y, ref, n, "silu");

            for (uint32_t i = 0; i < n; i++)
                want[i] = 1 / (1 + exp(-(double)x[i]));
            memcpy(y, x, n * sizeof(float));
            memcpy(ref, x, n * sizeof(float));
            kern->sigmoid(y, n);
            levels[0].sigmoid(ref, n);
            assert_near(y, want, n, 1e-6, "sigmoid");
            assert_bits(y, ref, n, "sigmoid");
            check_buffers();
        }
    }
}

/* Over the whole range each value is right on its own, and the ends are what they should be. */
/* As gpt-oss has it: alpha 1.702, limit 7; apart and interleaved, in place, and with values that
 * the limits cut. */
static void test_swiglu_clamped(void **state)
{
    (void)state;
    check_seed(16);
    for EACH_LEVEL(kern) {
        for (uint32_t n = 1; n < 300; n += 1 + n / 5) {
            float *both = floats(2 * n), *gate = floats(n), *up = floats(n), *y = floats(n);
            float *ref = floats(n);
            double *want = guarded(n * sizeof(double), 0);
            for (uint32_t i = 0; i < n; i++) {
                gate[i] = both[2 * i] = random_float(-12, 12);
                up[i] = both[2 * i + 1] = random_float(-12, 12);
                double g = fmin((double)gate[i], 7), u = fmax(-7, fmin((double)up[i], 7));
                want[i] = g / (1 + exp(-1.702 * g)) * (u + 1);
            }
            kern->swiglu_clamped(y, gate, up, 1, n, 1.702f, 7);
            assert_near(y, want, n, 1e-6, "swiglu_clamped");
            levels[0].swiglu_clamped(ref, gate, up, 1, n, 1.702f, 7);
            assert_bits(y, ref, n, "swiglu_clamped");
            kern->swiglu_clamped(y, both, both + 1, 2, n, 1.702f, 7);
            assert_bits(y, ref, n, "swiglu_clamped, interleaved");
            kern->swiglu_clamped(both, both, both + 1, 2, n, 1.702f, 7);
            assert_bits(both, ref, n, "swiglu_clamped, interleaved, in place");
            kern->swiglu_clamped(gate, gate, up, 1, n, 1.702f, 7);
            assert_bits(gate, ref, n, "swiglu_clamped in place");
            check_buffers();
        }
        const float odd[] = {NAN, 0, 0, NAN, INFINITY, -INFINITY, -INFINITY, INFINITY};
        float y[4];
        kern->swiglu_clamped(y, odd, odd + 1, 2, 4, 1, 7);
        assert_true(isnan(y[0]) && isnan(y[1]) && isfinite(y[2]));
    }
}

static void test_sigmoid_range(void **state)
{
    (void)state;
    for EACH_LEVEL(kern) {
        for (double x = -110; x < 110; x += 0.0137) {
            float value = (float)x, wide = value;
            double exact = 1 / (1 + exp(-(double)value));
            kern->sigmoid(&value, 1);
            if (exact > 0x1p-126) assert_true(fabs((double)value - exact) <= 4e-7 * exact);
            kern->silu(&wide, 1);
            assert_true(isfinite(wide));
        }
        float ends[6] = {-1e30f, 1e30f, -INFINITY, INFINITY, NAN, -0.0f};
        kern->sigmoid(ends, 6);
        assert_true(ends[0] == 0 && ends[1] == 1 && ends[2] == 0 && ends[3] == 1);
        assert_true(isnan(ends[4]) && ends[5] == 0.5f);
        float far[3] = {-1e30f, 1e30f, NAN};
        kern->silu(far, 3);
        assert_true(far[0] == 0 && far[1] == 1e30f && isnan(far[2]));
    }
}

static void test_softmax(void **state)
{
    (void)state;
    check_seed(8);
    for EACH_LEVEL(kern) {
        for (uint32_t n = 1; n < 700; n += 1 + n / 6) {
            float *x = floats(n), *ref;
            double *want = guarded(n * sizeof(double), 0), sum = 0, largest = -1e300;
            float offset = n % 3 == 0 ? 5000 : n % 3 == 1 ? -5000 : 0;
            for (uint32_t i = 0; i < n; i++) {
                x[i] = offset + random_float(-10, 10);
                if (i % 13 == 5) x[i] = -INFINITY; /* masked */
                largest = fmax(largest, (double)x[i]);
            }
            for (uint32_t i = 0; i < n; i++)
                sum += want[i] = exp((double)x[i] - largest);
            for (uint32_t i = 0; i < n; i++)
                want[i] /= sum;
            ref = copy_of(x, n);
            kern->softmax(x, n);
            assert_near(x, want, n, 1e-6, "softmax");
            levels[0].softmax(ref, n);
            assert_bits(x, ref, n, "softmax");
            check_buffers();
        }
    }
}

/* ---- the table, top k ------------------------------------------------------------------------ */

static void test_init(void **state)
{
    (void)state;
    static const char *const names[] = {"ref", "no such level", "", NULL};
    for (unsigned i = 0; i < 4; i++) {
        sl__kern kern;
        sl__kern_init(&kern, names[i]);
        if (i < 3) assert_string_equal(kern.level, "ref");
        if (i == 3) assert_string_equal(kern.level, levels[level_count - 1].level);
        assert_true(kern.dequant_row && kern.matmul && kern.matmul_t && kern.dot);
        assert_true(kern.axpy && kern.rms_norm && kern.l2_norm);
        assert_true(kern.swiglu && kern.swiglu_clamped && kern.silu && kern.sigmoid);
        assert_true(kern.softmax && kern.rope && kern.rope_adjacent && kern.attend);
        assert_true(kern.attend_fold && kern.attend_end);
        assert_true(kern.causal_conv_silu && kern.delta_gate && kern.delta_step);
        assert_true(kern.delta_step && kern.delta_chunk);
    }
}

static void check_top_k(const float *x, uint32_t n, uint32_t k)
{
    uint32_t *ids = guarded(k * sizeof(uint32_t), 0);
    bool *taken = calloc(n + 1, sizeof *taken);
    assert_non_null(taken);
    assert_true(sl__top_k(x, n, k, ids));
    for (uint32_t i = 0; i < k; i++) {
        uint32_t best = n;
        for (uint32_t j = 0; j < n; j++) {
            if (!taken[j] && (best == n || x[j] > x[best])) best = j;
        }
        taken[best] = true;
        assert_int_equal(ids[i], best);
    }
    free(taken);
}

static void test_top_k(void **state)
{
    (void)state;
    check_seed(14);
    for (uint32_t n = 1; n < 260; n += 1 + n / 4) {
        float *x = random_floats(n), *few = floats(n), *same = floats(n);
        for (uint32_t i = 0; i < n; i++) {
            few[i] = (float)(random_u32() % 4); /* many ties */
            same[i] = i % 2 == 0 ? 0.0f : -0.0f;
        }
        for (uint32_t k = 0; k <= n; k += 1 + k / 3) {
            check_top_k(x, n, k);
            check_top_k(few, n, k);
            check_top_k(same, n, k);
        }
        check_top_k(few, n, n);
        uint32_t ids[260], at = random_u32() % n;
        static const float bad[] = {NAN, INFINITY, -INFINITY};
        for (unsigned i = 0; i < 3; i++) {
            float kept = x[at];
            x[at] = bad[i];
            assert_false(sl__top_k(x, n, n / 2, ids));
            x[at] = kept;
        }
        check_buffers();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dtype_table),
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_bf16_rounding),
        cmocka_unit_test(test_dequant_row),
        cmocka_unit_test(test_mxfp4_values),
        cmocka_unit_test(test_matmul),
        cmocka_unit_test(test_matmul_t),
        cmocka_unit_test(test_wild_blocks),
        cmocka_unit_test(test_matmul_contains_nan),
        cmocka_unit_test(test_dot_axpy),
        cmocka_unit_test(test_norms),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_rope_adjacent),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_swiglu_clamped),
        cmocka_unit_test(test_sigmoid_range),
        cmocka_unit_test(test_softmax),
        cmocka_unit_test(test_init),
        cmocka_unit_test(test_top_k),
    };
    return cmocka_run_group_tests(tests, find_levels, NULL);
}
