/* The encoders: how close what is decoded comes, that no block is worse than plain rounding of its
 * ends, and the blocks that have no range, no size or too much of both. */
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
#include "quant/quant.h"
#include "test_env.h"

static sl__kern kern; /* the highest level: main fills it */

static const sl__dtype grouped[] = {SL_Q8, SL_Q4, SL_Q3, SL_Q2};

static float top_code(sl__dtype type)
{
    return type == SL_Q8 ? 255 : type == SL_Q4 ? 15 : type == SL_Q3 ? 7 : 3;
}

#define MAX_COLS 4096u

typedef struct coded {
    unsigned char row[MAX_COLS * 4 + 64];
    size_t bytes;
    float back[MAX_COLS];
} coded;

/* Encodes into poisoned memory twice, checks that both agree and stay inside, and decodes. */
static void encode(sl__dtype type, const float *x, uint32_t cols, coded *c)
{
    static unsigned char again[sizeof c->row];
    sl_error err = {0};
    uint64_t bytes = 0;
    assert_true(sl__dtype_row_bytes(type, cols, &bytes));
    c->bytes = (size_t)bytes;
    memset(c->row, 0x5a, sizeof c->row);
    memset(again, 0xc3, sizeof again);
    assert_int_equal(sl__quant_row(&kern, type, x, cols, c->row, NULL, &err), SL_OK);
    assert_int_equal(sl__quant_row(&kern, type, x, cols, again + 1, NULL, NULL), SL_OK);
    assert_memory_equal(c->row, again + 1, c->bytes);
    for (size_t i = 0; i < 32; i++)
        assert_true(c->row[c->bytes + i] == 0x5a && again[c->bytes + 1 + i] == 0xc3);
    kern.dequant_row(&(sl__rows){.dtype = type, .data = c->row}, 0, c->back, cols);
}

static float half_at(const coded *c, size_t at)
{
    uint16_t h;
    memcpy(&h, c->row + at, 2);
    return sl__bf16_to_f32(h);
}

static float scale_of(sl__dtype type, const coded *c, uint32_t column)
{
    return half_at(c, (size_t)(column / SL_GROUP) * sl__dtype_block_bytes(type));
}

static double squared_error(const float *x, const float *back, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += ((double)x[i] - (double)back[i]) * ((double)x[i] - (double)back[i]);
    return sum;
}

/* What rounding a block's own ends gives; down_up: minimum rounded down and scale up. */
static double plain_error(const float *x, uint32_t n, float top, bool down_up)
{
    float lowest = x[0], highest = x[0];
    for (uint32_t i = 1; i < n; i++) {
        lowest = fminf(lowest, x[i]);
        highest = fmaxf(highest, x[i]);
    }
    float minimum = sl__bf16_to_f32(sl__f32_to_bf16(lowest));
    if (down_up && minimum > lowest) {
        uint16_t h = sl__f32_to_bf16(lowest);
        minimum = sl__bf16_to_f32((uint16_t)(minimum > 0 ? h - 1 : h + 1));
    }
    float exact = (highest - (down_up ? minimum : lowest)) / top;
    uint16_t h = sl__f32_to_bf16(exact);
    if (down_up && sl__bf16_to_f32(h) < exact) h++;
    float scale = sl__bf16_to_f32(h);
    double sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        float code = scale > 0 ? roundf((x[i] - minimum) / scale) : 0;
        code = fminf(fmaxf(code, 0), top);
        float back = scale * code;
        back += minimum;
        sum += ((double)x[i] - (double)back) * ((double)x[i] - (double)back);
    }
    return sum;
}

/* q8's bound: half of a step, the rounding of float arithmetic itself, and where bf16 ends. */
static void check_q8_bound(const float *x, uint32_t cols, const coded *c)
{
    for (uint32_t i = 0; i < cols; i++) {
        double step = (double)scale_of(SL_Q8, c, i);
        double bound = 0.51 * step + 0x1p-23 * fabs((double)x[i]) + 0x1p-134;
        if (!(fabs((double)x[i] - (double)c->back[i]) <= bound))
            fail_msg("column %u: %a became %a at step %g", i, (double)x[i], (double)c->back[i],
                     step);
    }
}

/* ---- data ------------------------------------------------------------------------------------ */

typedef void (*fill_fn)(float *x, uint32_t n, test_rng *rng);

static void fill_normal(float *x, uint32_t n, test_rng *rng)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = 0.02f * test_rng_normal(rng);
}

static void fill_uniform(float *x, uint32_t n, test_rng *rng)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = (float)test_rng_below(rng, 1u << 20) * 0x1p-20f;
}

static void fill_heavy(float *x, uint32_t n, test_rng *rng) /* rare large values */
{
    for (uint32_t i = 0; i < n; i++) {
        float f = test_rng_normal(rng);
        x[i] = f * f * f * f * f;
    }
}

static void fill_few(float *x, uint32_t n, test_rng *rng) /* three values, one far off */
{
    static const float some[] = {-1, 0.25f, 1000};
    for (uint32_t i = 0; i < n; i++)
        x[i] = some[test_rng_below(rng, 3)];
}

static void fill_shifted(float *x, uint32_t n, test_rng *rng) /* far from zero, narrow */
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = -777.7f + 0.5f * test_rng_normal(rng);
}

static void fill_close(float *x, uint32_t n, test_rng *rng) /* a few units in the last place */
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = 1000.1f + 0x1p-14f * (float)test_rng_below(rng, 5);
}

static void fill_sparse(float *x, uint32_t n, test_rng *rng)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = test_rng_below(rng, 20) == 0 ? test_rng_normal(rng) : 0;
}

static void fill_tiny(float *x, uint32_t n, test_rng *rng) /* subnormal */
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = 1e-40f * test_rng_normal(rng);
}

static void fill_huge(float *x, uint32_t n, test_rng *rng)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = 1e37f * fmaxf(-4, fminf(4, test_rng_normal(rng)));
}

static const fill_fn fills[] = {fill_normal, fill_uniform, fill_heavy, fill_few, fill_shifted,
                                fill_close,  fill_sparse,  fill_tiny,  fill_huge};
#define FILLS (sizeof fills / sizeof fills[0])

/* ---- tests ----------------------------------------------------------------------------------- */

static void normal_data_comes_back_close(void **state)
{
    (void)state;
    static const struct {
        sl__dtype type;
        double most;
    } bounds[] = {{SL_F32, 0},      {SL_F16, 0.0004}, {SL_BF16, 0.0025}, {SL_Q8, 0.006},
                  {SL_Q4, 0.085},   {SL_Q3, 0.175},   {SL_Q2, 0.34}};
    static coded c;
    float x[MAX_COLS];
    for (unsigned b = 0; b < sizeof bounds / sizeof bounds[0]; b++) {
        test_rng rng = {1};
        double error = 0, total = 0;
        for (unsigned r = 0; r < 8; r++) {
            fill_normal(x, MAX_COLS, &rng);
            encode(bounds[b].type, x, MAX_COLS, &c);
            error += squared_error(x, c.back, MAX_COLS);
            for (uint32_t i = 0; i < MAX_COLS; i++)
                total += (double)x[i] * (double)x[i];
            if (bounds[b].type == SL_Q8) check_q8_bound(x, MAX_COLS, &c);
        }
        double relative = sqrt(error / total);
        printf("%s: relative error %.4f %%\n", sl__dtype_name(bounds[b].type), 100 * relative);
        assert_true(relative <= bounds[b].most);
    }
}

static void no_block_is_worse_than_plain_rounding(void **state)
{
    (void)state;
    static coded c;
    float x[SL_GROUP];
    unsigned blocks = test_fast() ? 40 : 400;
    for (unsigned f = 0; f < FILLS; f++) {
        test_rng rng = {100 + f};
        for (unsigned b = 0; b < blocks; b++) {
            uint32_t n = b % 3 == 0 ? 1 + test_rng_below(&rng, SL_GROUP) : SL_GROUP;
            fills[f](x, n, &rng);
            for (unsigned t = 0; t < 4; t++) {
                encode(grouped[t], x, n, &c);
                float top = top_code(grouped[t]);
                double got = squared_error(x, c.back, n), covering = plain_error(x, n, top, true);
                double nearest = plain_error(x, n, top, false);
                double allowed = grouped[t] == SL_Q8 || fills[f] == fill_tiny
                                     ? covering
                                     : fmin(covering, nearest);
                /* Sums in float choose between near-equals. */
                if (!(got <= allowed * 1.00001 + 1e-300))
                    fail_msg("%s, data %u, block %u: %g, plainly %g", sl__dtype_name(grouped[t]), f,
                             b, got, allowed);
                if (grouped[t] == SL_Q8) check_q8_bound(x, n, &c);
            }
        }
    }
}

static void search_gains_on_awkward_data(void **state)
{
    (void)state;
    static coded c;
    float x[MAX_COLS];
    for (unsigned t = 1; t < 4; t++) {
        test_rng rng = {9};
        double got = 0, plain = 0;
        fill_normal(x, MAX_COLS, &rng);
        encode(grouped[t], x, MAX_COLS, &c);
        for (uint32_t i = 0; i < MAX_COLS; i += SL_GROUP) {
            got += squared_error(x + i, c.back + i, SL_GROUP);
            plain += plain_error(x + i, SL_GROUP, top_code(grouped[t]), false);
        }
        assert_true(got < plain * (t == 1 ? 0.85 : t == 2 ? 0.75 : 0.6));
    }
}

/* Values that a block can hold exactly come back exactly. */
static void exact_values_stay(void **state)
{
    (void)state;
    static coded c;
    float x[SL_GROUP];
    test_rng rng = {5};
    for (unsigned t = 0; t < 4; t++) {
        unsigned codes = (unsigned)top_code(grouped[t]) + 1;
        for (unsigned round = 0; round < 50; round++) {
            float scale = ldexpf((float)(1 + test_rng_below(&rng, 127)), (int)round - 25);
            float minimum = -scale * (float)test_rng_below(&rng, 2) * 4;
            for (uint32_t i = 0; i < SL_GROUP; i++)
                x[i] = minimum + scale * (float)(i < 2 ? i * (codes - 1)
                                                       : test_rng_below(&rng, codes));
            encode(grouped[t], x, SL_GROUP, &c);
            for (uint32_t i = 0; i < SL_GROUP; i++)
                assert_true(c.back[i] == x[i]);
        }
    }
}

static void constant_blocks(void **state)
{
    (void)state;
    static const float values[] = {0,      -0.0f,    1,     -1,      1000.1f, -1000.1f, 3.14159f,
                                   1e-30f, 1.3e-39f, 1e-45f, -1e-45f, 3e38f,   -3e38f,   0.1f};
    static coded c;
    float x[SL_GROUP + 5];
    for (unsigned t = 0; t < 4; t++) {
        for (unsigned v = 0; v < sizeof values / sizeof values[0]; v++) {
            for (uint32_t i = 0; i < SL_GROUP + 5; i++)
                x[i] = values[v];
            encode(grouped[t], x, SL_GROUP + 5, &c);
            /* Far closer than bf16 alone; subnormals have fewer digits to be close with. */
            double bound = 0x1p-16 * fabs((double)values[v]) + 0x1p-134;
            for (uint32_t i = 0; i < SL_GROUP + 5; i++) {
                assert_true(fabs((double)c.back[i] - (double)values[v]) <= bound);
                assert_true(c.back[i] == c.back[0]);
            }
            if (values[v] == 0) {
                for (size_t i = 0; i < c.bytes; i++)
                    assert_true((c.row[i] & 0x7f) == 0);
            }
        }
    }
}

static unsigned code_at(sl__dtype type, const unsigned char *codes, uint32_t i)
{
    if (type == SL_Q8) return codes[i];
    if (type == SL_Q4) return i < 32 ? codes[i] & 15u : (unsigned)codes[i - 32] >> 4;
    unsigned low = (unsigned)codes[i % 16] >> (i / 16 * 2) & 3u;
    if (type == SL_Q2) return low;
    return low | ((unsigned)codes[16 + i / 8] >> (i % 8) & 1u) << 2;
}

static void tails_have_zero_codes_and_no_influence(void **state)
{
    (void)state;
    static coded c, longer;
    float x[3 * SL_GROUP];
    test_rng rng = {6};
    for (unsigned t = 0; t < 4; t++) {
        for (uint32_t n = 1; n < 2 * SL_GROUP; n++) {
            fill_normal(x, 3 * SL_GROUP, &rng);
            x[n] = 1e20f; /* just behind the end */
            encode(grouped[t], x, n, &c);
            size_t block = sl__dtype_block_bytes(grouped[t]);
            const unsigned char *last = c.row + c.bytes - block;
            for (uint32_t i = n % SL_GROUP; i != 0 && i < SL_GROUP; i++)
                assert_int_equal(code_at(grouped[t], last + 4, i), 0);
            fill_normal(x + n, 10, &rng); /* the first block depends on itself alone */
            encode(grouped[t], x, n < SL_GROUP ? n : n + 10, &longer);
            assert_memory_equal(c.row, longer.row, block);
        }
    }
}

static void halves_round_to_nearest_even(void **state)
{
    (void)state;
    static coded c;
    test_rng rng = {7};
    float x[64];
    for (uint32_t h = 0; h < 0x7c00; h++) {
        /* Each half, the middle to the next one, and just beside the middle, of both signs. */
        float low = sl__f16_to_f32((uint16_t)h);
        float high = h == 0x7bff ? 65536.0f : sl__f16_to_f32((uint16_t)(h + 1));
        float middle = (low + high) / 2;
        bool odd = (h & 1) != 0, last = h == 0x7bff;
        x[0] = low;
        x[1] = nextafterf(middle, 0);
        x[2] = last ? 0 : middle;
        x[3] = last ? 0 : nextafterf(middle, INFINITY);
        for (unsigned i = 0; i < 4; i++)
            x[4 + i] = -x[i];
        encode(SL_F16, x, 8, &c);
        for (unsigned s = 0; s < 8; s += 4) {
            float sign = s == 0 ? 1 : -1;
            assert_true(c.back[s] == sign * low && c.back[s + 1] == sign * low);
            if (last) continue;
            assert_true(c.back[s + 2] == sign * (odd ? high : low));
            assert_true(c.back[s + 3] == sign * high);
        }
    }
    for (unsigned round = 0; round < 1000; round++) {
        for (unsigned i = 0; i < 64; i++)
            x[i] = ldexpf(test_rng_normal(&rng), (int)test_rng_below(&rng, 200) - 140);
        encode(SL_F32, x, 64, &c);
        assert_memory_equal(c.back, x, sizeof x);
        encode(SL_BF16, x, 64, &c);
        for (unsigned i = 0; i < 64; i++)
            assert_true(c.back[i] == sl__bf16_to_f32(sl__f32_to_bf16(x[i])));
    }
}

static void what_cannot_be_stored_is_named(void **state)
{
    (void)state;
    static const struct {
        sl__dtype type;
        float value;
        bool stored;
    } cases[] = {
        {SL_F32, NAN, false},       {SL_F32, -INFINITY, false}, {SL_F32, 3e38f, true},
        {SL_F16, NAN, false},       {SL_F16, 65519.9f, true},   {SL_F16, 65520, false},
        {SL_F16, -1e6f, false},     {SL_F16, INFINITY, false},  {SL_BF16, NAN, false},
        {SL_BF16, 3.4e38f, false},  {SL_BF16, 3.38e38f, true},  {SL_Q8, NAN, false},
        {SL_Q8, INFINITY, false},   {SL_Q4, -INFINITY, false},  {SL_Q3, NAN, false},
        {SL_Q2, NAN, false},        {SL_Q4, -3.4e38f, false},   {SL_Q2, 1e38f, true},
        {SL_Q8, -3.3e38f, true},    {SL_Q3, 3.402e38f, false},
    };
    unsigned char row[4 * 200];
    float x[200];
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sl_error err = {0};
        char want[64];
        for (unsigned j = 0; j < 200; j++)
            x[j] = (float)j * 0.25f;
        x[150] = cases[i].value;
        sl_status status = sl__quant_row(&kern, cases[i].type, x, 200, row, NULL, &err);
        assert_int_equal(status, cases[i].stored ? SL_OK : SL_ENUMERIC);
        if (cases[i].stored) continue;
        snprintf(want, sizeof want, "column 150: %g cannot be stored as %s", (double)cases[i].value,
                 sl__dtype_name(cases[i].type));
        assert_string_equal(err.message, want);
        status = sl__quant_row(&kern, cases[i].type, x, 200, row, NULL, NULL);
        assert_int_equal(status, SL_ENUMERIC);
    }
    /* Both ends fit, but not the way between them. */
    sl_error err = {0};
    x[150] = 3e38f;
    x[151] = -3e38f;
    assert_int_equal(sl__quant_row(&kern, SL_Q4, x, 200, row, NULL, &err), SL_ENUMERIC);
    assert_int_equal(sl__quant_row(&kern, SL_Q4, x, 0, row, NULL, NULL), SL_OK);
}

/* Affine codes as rows of grouped types: every weight is the same number. */
static void regrouped_rows_are_the_same_numbers(void **state)
{
    (void)state;
    static const sl__dtype types[] = {SL_AFFINE2, SL_AFFINE3, SL_AFFINE4, SL_AFFINE8};
    static const uint32_t widths[] = {1, 8, 64, 72, 200, 256, 1000}, groups[] = {64, 128, 1024};
    static unsigned char codes[2048], row[2048];
    static float want[1024], got[1024];
    uint16_t scales[16], biases[16];
    test_rng rng = {77};
    for (unsigned n = 0; n < 4 * 7 * 3 * 2; n++) {
        const uint32_t cols = widths[n / 4 % 7];
        sl__rows w = {.dtype = types[n % 4], .data = codes, .scales = scales,
                      .biases = n / 84 ? biases : NULL};
        w.scaling = (sl__scaling){.type = SL_BF16, .group = groups[n / 28 % 3], .group_rows = 1,
                                  .biases = w.biases != NULL};
        for (size_t i = 0; i < sizeof codes; i++)
            codes[i] = (unsigned char)test_rng_below(&rng, 256);
        for (size_t i = 0; i < 16; i++) {
            scales[i] = sl__f32_to_bf16(test_rng_normal(&rng));
            biases[i] = sl__f32_to_bf16(test_rng_normal(&rng) * 9);
        }
        sl__dtype to = SL_F32;
        assert_true(sl__regroup_type(w.dtype, &w.scaling, &to));
        memset(row, 0xa5, sizeof row);
        sl__regroup_row(&w, 0, cols, row);
        const sl__rows grouped_rows = {.dtype = to, .data = row};
        kern.dequant_row(&w, 0, want, cols);
        kern.dequant_row(&grouped_rows, 0, got, cols);
        if (w.biases) assert_memory_equal(got, want, cols * sizeof *got);
        for (uint32_t i = 0; i < cols; i++) /* 0 may have the other sign */
            assert_true(got[i] == want[i]);
    }
    sl__scaling no = {.type = SL_F16, .group = 64, .group_rows = 1};
    sl__dtype unused;
    assert_false(sl__regroup_type(SL_AFFINE4, &no, &unused));
    no = (sl__scaling){.type = SL_BF16, .group = 32, .group_rows = 1};
    assert_false(sl__regroup_type(SL_AFFINE4, &no, &unused));
    no = (sl__scaling){.type = SL_BF16, .group = 64, .group_rows = 2};
    assert_false(sl__regroup_type(SL_AFFINE4, &no, &unused));
    no.group_rows = 1;
    assert_false(sl__regroup_type(SL_AFFINE5, &no, &unused));
    assert_false(sl__regroup_type(SL_F8_E4M3, &no, &unused));
}

static void types_without_an_encoder_are_refused(void **state)
{
    (void)state;
    float x[256] = {0};
    for (unsigned type = 0; type < (unsigned)SL_DTYPE_ALL; type++) {
        unsigned char row[1024] = {0}, scales[8];
        sl_error err = {0};
        char want[64];
        bool fits = sl__dtype_has_encoder((sl__dtype)type);
        sl_status status = sl__quant_row(&kern, (sl__dtype)type, x, 256, row, scales, &err);
        assert_int_equal(status, fits ? SL_OK : SL_EUNSUPPORTED);
        if (fits) continue;
        snprintf(want, sizeof want, "%s cannot be encoded", sl__dtype_name((sl__dtype)type));
        assert_string_equal(err.message, want);
    }
}

int main(void)
{
    sl__kern_init(&kern, NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_data_comes_back_close),
        cmocka_unit_test(no_block_is_worse_than_plain_rounding),
        cmocka_unit_test(search_gains_on_awkward_data),
        cmocka_unit_test(exact_values_stay),
        cmocka_unit_test(constant_blocks),
        cmocka_unit_test(tails_have_zero_codes_and_no_influence),
        cmocka_unit_test(halves_round_to_nearest_even),
        cmocka_unit_test(what_cannot_be_stored_is_named),
        cmocka_unit_test(regrouped_rows_are_the_same_numbers),
        cmocka_unit_test(types_without_an_encoder_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
