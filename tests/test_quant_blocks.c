/* Encoders of GGUF's blocks and of mxfp4: how close they come to the best that a slow search finds
 * (support/strong_fit.h), the blocks that have no range, no size or too much of both, and that the
 * bytes say what the format has. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/safetensors.h"
#include "kern/kern.h"
#include "plain_blocks.h"
#include "quant/quant.h"
#include "strong_fit.h"
#include "test_env.h"

static const sl__dtype types[] = {SL_Q4_0,   SL_Q4_1,        SL_Q5_0,   SL_Q5_1, SL_Q8_0,
                                  SL_IQ4_NL, SL_MXFP4_BLOCK, SL_Q2_K,   SL_Q3_K, SL_Q4_K,
                                  SL_Q5_K,   SL_Q6_K,        SL_IQ4_XS, SL_MXFP4};
#define TYPES (sizeof types / sizeof types[0])

#define MAX_COLS 8192u

static sl__kern kern; /* the highest level: main fills it */
static sl__kern ref;

typedef struct coded {
    unsigned char row[MAX_COLS * 2], scales[MAX_COLS / SL_MX_GROUP];
    size_t bytes;
    float back[MAX_COLS];
} coded;

/* Encodes into poisoned memory, by the highest level and by ref, which agree; decodes. */
static void encode(sl__dtype type, const float *x, uint32_t cols, coded *c)
{
    static coded again;
    sl_error err = {0};
    uint64_t bytes = 0;
    assert_true(sl__dtype_row_bytes(type, cols, &bytes));
    c->bytes = (size_t)bytes;
    memset(c->row, 0x5a, sizeof c->row);
    memset(again.row, 0xc3, sizeof again.row);
    memset(c->scales, 0x5a, sizeof c->scales);
    memset(again.scales, 0xc3, sizeof again.scales);
    if (sl__quant_row(&kern, type, x, cols, c->row, c->scales, &err) != SL_OK)
        fail_msg("%s: %s", sl__dtype_name(type), err.message);
    assert_int_equal(sl__quant_row(&ref, type, x, cols, again.row + 1, again.scales, NULL), SL_OK);
    assert_memory_equal(c->row, again.row + 1, c->bytes);
    for (size_t i = 0; i < 32; i++)
        assert_true(c->row[c->bytes + i] == 0x5a && again.row[c->bytes + 1 + i] == 0xc3);
    if (type == SL_MXFP4) assert_memory_equal(c->scales, again.scales, cols / SL_MX_GROUP);
    const sl__rows rows = {
        .dtype = type, .data = c->row, .scales = c->scales, .scaling = sl__dtype_scaling(type)};
    kern.dequant_row(&rows, 0, c->back, cols);
    for (uint32_t i = 0; i < cols && sl__dtype_is_block(type); i++)
        assert_true(c->back[i] == plain_block_weight(type, c->row, i));
}

static double squared_error(const float *x, const float *back, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += ((double)x[i] - (double)back[i]) * ((double)x[i] - (double)back[i]);
    return sum;
}

static double size_of(const float *x, uint32_t n)
{
    static const float zeros[MAX_COLS];
    return squared_error(x, zeros, n);
}

/* ---- data ------------------------------------------------------------------------------------ */

static void fill_normal(float *x, uint32_t n, test_rng *rng)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = 0.02f * test_rng_normal(rng);
}

/* Weights of experts out of the demo checkpoint; false, with a message, where it is not there. */
static bool fill_demo(float *x, uint32_t n)
{
    char path[1024];
    sl__st_set set = {0};
    sl_error err = {0};
    uint16_t half;
    if (!test_shared_path(path, sizeof path, "models/demo")) return false;
    if (sl__st_open(&set, path, &err) != SL_OK) fail_msg("%s", err.message);
    const sl__st_tensor *t =
        sl__st_find(&set, "model.language_model.layers.3.mlp.experts.gate_up_proj");
    assert_true(t && t->dtype == SL_BF16 && t->bytes >= 202 * (uint64_t)n);
    FILE *f = fopen(set.files[t->file].path, "rb");
    assert_non_null(f);
    for (uint32_t i = 0; i < n; i += 256) { /* rows from here and there */
        assert_int_equal(fseek(f, (long)(t->offset + (uint64_t)i * 2 * 101), SEEK_SET), 0);
        for (uint32_t j = i; j < i + 256 && j < n; j++) {
            assert_int_equal(fread(&half, sizeof half, 1, f), 1);
            x[j] = sl__bf16_to_f32(half);
        }
    }
    fclose(f);
    sl__st_close(&set);
    return true;
}

/* ---- closeness ------------------------------------------------------------------------------- */

#define NEAR_BEST 1.02 /* of the best error found, as a root of squares */

static void compare_with_strong(const char *data, const float *x, uint32_t n)
{
    static coded c;
    for (unsigned t = 0; t < TYPES; t++) {
        const strong_shape *shape = strong_shape_of(types[t]);
        if (!shape) continue;
        const uint32_t block = shape->n * shape->groups, effort = 2;
        double got = 0, best = 0;
        encode(types[t], x, n, &c);
        for (uint32_t i = 0; i < n; i += block) {
            double error = squared_error(x + i, c.back + i, block);
            double strong = strong_error(shape, x + i, effort);
            got += error;
            best += fmin(error, strong);
        }
        double over = sqrt(got / best);
        printf("%s, %s: relative error %.4f %%, the best found %.4f %%\n", data,
               sl__dtype_name(types[t]), 100 * sqrt(got / size_of(x, n)),
               100 * sqrt(best / size_of(x, n)));
        assert_true(over <= NEAR_BEST);
    }
}

static void normal_data_is_within_2_percent_of_the_best(void **state)
{
    (void)state;
    static float x[MAX_COLS];
    test_rng rng = {21};
    fill_normal(x, MAX_COLS, &rng);
    compare_with_strong("normal", x, test_fast() ? 2048 : MAX_COLS);
}

static void demo_is_within_2_percent_of_the_best(void **state)
{
    (void)state;
    static float x[MAX_COLS];
    const uint32_t n = 4096;
    if (!fill_demo(x, n)) skip();
    compare_with_strong("demo", x, n);
}

/* Relative errors of normal data: docs/internals/quant.md has more of them. */
static void normal_data_comes_back_close(void **state)
{
    (void)state;
    static const double most[TYPES] = {0.0817, 0.0702, 0.0405, 0.0344, 0.0052, 0.0742, 0.113,
                                       0.261,  0.1446, 0.0705, 0.0349, 0.0173, 0.0746, 0.113};
    static float x[MAX_COLS];
    static coded c;
    for (unsigned t = 0; t < TYPES; t++) {
        test_rng rng = {22};
        double error = 0, total = 0;
        for (unsigned r = 0; r < 8; r++) {
            fill_normal(x, MAX_COLS, &rng);
            encode(types[t], x, MAX_COLS, &c);
            error += squared_error(x, c.back, MAX_COLS);
            total += size_of(x, MAX_COLS);
        }
        printf("%s: relative error %.4f %%\n", sl__dtype_name(types[t]), 100 * sqrt(error / total));
        assert_true(sqrt(error / total) <= most[t]);
    }
}

/* ---- awkward blocks -------------------------------------------------------------------------- */

static void zeros_are_zero_bytes(void **state)
{
    (void)state;
    static coded c;
    float x[768];
    for (unsigned t = 0; t < TYPES; t++) {
        for (uint32_t i = 0; i < 768; i++)
            x[i] = i % 3 == 0 ? -0.0f : 0.0f;
        encode(types[t], x, 768, &c);
        for (uint32_t i = 0; i < 768; i++)
            assert_true(c.back[i] == 0 && !(types[t] != SL_MXFP4 && signbit(c.back[i]) != 0 &&
                                            strong_shape_of(types[t]) == NULL));
        int at[2] = {-1, -1};
        if (strong_shape_of(types[t])) block_halves(types[t], at);
        for (unsigned k = 0; k < 2; k++) {
            for (size_t from = 0; at[k] >= 0 && from < c.bytes;
                 from += sl__dtype_block_bytes(types[t]))
                assert_true(c.row[from + (size_t)at[k]] == 0 &&
                            c.row[from + (size_t)at[k] + 1] == 0);
        }
    }
}

static void constants_come_back(void **state)
{
    (void)state;
    static const float values[] = {1, -1, 3.14159f, -3.14159f, 0.05f, -1000.1f, 60000, -60000};
    static coded c;
    float x[512];
    for (unsigned t = 0; t < TYPES; t++) {
        /* Half a step of a half and, for integers times it, of theirs. fp4 has powers of two. */
        double bound = strong_shape_of(types[t]) ? 0x1p-9 : 0.17;
        for (unsigned v = 0; v < sizeof values / sizeof values[0]; v++) {
            for (unsigned pattern = 0; pattern < 3; pattern++) {
                for (uint32_t i = 0; i < 512; i++) { /* signs by block of 32, by block of 256 */
                    unsigned turn = pattern == 1 ? i / 32 % 2 : pattern == 2 ? i / 256 % 2 : 0;
                    x[i] = turn ? -values[v] : values[v];
                }
                encode(types[t], x, 512, &c);
                for (uint32_t i = 0; i < 512; i++) {
                    double miss = fabs((double)c.back[i] - (double)x[i]);
                    if (!(miss <= bound * fabs((double)x[i])))
                        fail_msg("%s, pattern %u: %g became %g", sl__dtype_name(types[t]), pattern,
                                 (double)x[i], (double)c.back[i]);
                }
            }
        }
    }
}

/* One value far beyond the others is kept, and in other blocks nothing changes. */
static void an_outlier_stays_in_its_block(void **state)
{
    (void)state;
    static coded c, plain;
    float x[1024];
    test_rng rng = {23};
    for (unsigned t = 0; t < TYPES; t++) {
        const size_t bytes = sl__dtype_block_bytes(types[t]);
        const uint32_t block = sl__dtype_block_weights(types[t]);
        for (unsigned round = 0; round < 40; round++) {
            uint32_t at = test_rng_below(&rng, 1024);
            fill_normal(x, 1024, &rng);
            encode(types[t], x, 1024, &plain);
            x[at] = round % 2 ? 30 : -30;
            encode(types[t], x, 1024, &c);
            double miss = fabs((double)x[at] - (double)c.back[at]);
            if (!(miss <= 30 * (strong_shape_of(types[t]) ? 0.02 : 0.2)))
                fail_msg("%s: %g became %g", sl__dtype_name(types[t]), (double)x[at],
                         (double)c.back[at]);
            for (uint32_t b = 0; b < 1024 / block; b++) {
                if (b == at / block) continue;
                assert_memory_equal(c.row + b * bytes, plain.row + b * bytes, bytes);
            }
        }
    }
}

/* Where scales are too small for halves, or nearly: no worse than zeros, and nothing wild. */
static void small_values_fade(void **state)
{
    (void)state;
    static coded c;
    float x[512];
    test_rng rng = {24};
    for (unsigned t = 0; t < TYPES; t++) {
        double last = 1;
        for (int exponent = 0; exponent > -150; exponent -= 3) {
            for (uint32_t i = 0; i < 512; i++)
                x[i] = ldexpf(test_rng_normal(&rng), exponent);
            encode(types[t], x, 512, &c);
            double error = sqrt(squared_error(x, c.back, 512) / (size_of(x, 512) + 1e-300));
            if (exponent > -60) assert_true(error <= 1.0001);
            for (uint32_t i = 0; i < 512; i++)
                assert_true(fabsf(c.back[i]) <= ldexpf(8, exponent));
            if (exponent == -18) last = error; /* a normal value of 2^-18 */
        }
        printf("%s: at 2^-18 relative error %.3f %%\n", sl__dtype_name(types[t]), 100 * last);
        /* Scales have at least a digit or two there; those of 8 bits suffer first. */
        assert_true(last <= 0.5);
    }
}

/* Groups that lie apart from zero, on either side, and of very different size. */
static void shifted_groups(void **state)
{
    (void)state;
    static coded c;
    float x[512];
    test_rng rng = {25};
    for (unsigned t = 0; t < TYPES; t++) {
        for (unsigned round = 0; round < 60; round++) {
            for (uint32_t i = 0; i < 512; i++) {
                float middle = round % 3 == 0 ? 7 : round % 3 == 1 ? -7 : i / 16 % 3 == 0 ? 7 : -7;
                x[i] = middle + test_rng_normal(&rng);
                if (round % 5 == 4) x[i] *= ldexpf(1, -(int)(i / 32 % 8));
            }
            encode(types[t], x, 512, &c);
            double error = sqrt(squared_error(x, c.back, 512) / size_of(x, 512));
            if (!(error <= 0.21))
                fail_msg("%s, round %u: %g", sl__dtype_name(types[t]), round, error);
        }
    }
}

/* What a block holds exactly, with its scale in use at full length, comes back exactly. */
static void exact_values_stay(void **state)
{
    (void)state;
    static coded c;
    float x[32];
    test_rng rng = {26};
    for (unsigned t = 0; t < TYPES; t++) {
        const strong_shape *s = strong_shape_of(types[t]);
        if (!s || s->groups > 1 || s->values) continue;
        for (unsigned round = 0; round < 200; round++) {
            float scale = ldexpf((float)(1 + test_rng_below(&rng, 2047)), (int)(round % 20) - 20);
            float minimum = s->has_minimum ? -scale * 4 : 0;
            for (uint32_t i = 0; i < 32; i++) {
                int code =
                    i == 0   ? s->low
                    : i == 1 ? s->high
                             : s->low + (int)test_rng_below(&rng, (unsigned)(s->high - s->low + 1));
                x[i] = scale * (float)code + minimum;
            }
            encode(types[t], x, 32, &c);
            for (uint32_t i = 0; i < 32; i++) {
                if (c.back[i] != x[i])
                    fail_msg("%s: %a became %a", sl__dtype_name(types[t]), (double)x[i],
                             (double)c.back[i]);
            }
        }
    }
}

/* What GGUF's mxfp4 and the one with two planes hold is the same. */
static void both_mxfp4_agree(void **state)
{
    (void)state;
    static coded block, planes;
    static float x[MAX_COLS];
    test_rng rng = {27};
    for (unsigned round = 0; round < 20; round++) {
        for (uint32_t i = 0; i < MAX_COLS; i++)
            x[i] =
                ldexpf(test_rng_normal(&rng), (int)test_rng_below(&rng, 3) + (int)(i / 32) - 140);
        for (uint32_t i = 0; i < 32; i++)
            x[i] = round % 2 ? 3.4028234e38f : -3.4028234e38f / (float)(i + 1);
        encode(SL_MXFP4_BLOCK, x, MAX_COLS, &block);
        encode(SL_MXFP4, x, MAX_COLS, &planes);
        for (uint32_t i = 0; i < MAX_COLS; i++) {
            assert_true(isfinite(block.back[i]) && block.back[i] == planes.back[i]);
            assert_true(fabsf(block.back[i]) <= 2 * 3.4028234e38f);
        }
    }
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void what_cannot_be_stored_is_named(void **state)
{
    (void)state;
    static const float reach[TYPES] = {7, 1, 15, 1, 127, 113, 0, 15, 93, 63, 63, 3937, 3503, 0};
    unsigned char row[1024], scales[16];
    float x[512];
    for (unsigned t = 0; t < TYPES; t++) {
        const float most = 65504 * reach[t];
        const float bad[] = {NAN, INFINITY, -INFINITY, nextafterf(most, INFINITY), -1.01f * most};
        for (unsigned b = 0; b < (reach[t] > 0 ? 5u : 3u); b++) {
            sl_error err = {0};
            char want[96];
            memset(x, 0, sizeof x);
            x[301] = bad[b];
            sl_status status = sl__quant_row(&kern, types[t], x, 512, row, scales, &err);
            assert_int_equal(status, SL_ENUMERIC);
            snprintf(want, sizeof want, "column 301: %g cannot be stored as %s", (double)bad[b],
                     sl__dtype_name(types[t]));
            assert_string_equal(err.message, want);
        }
        for (int sign = -1; sign <= 1 && reach[t] > 0; sign += 2) { /* the last that can be */
            static coded c;
            memset(x, 0, sizeof x);
            x[301] = most * (float)sign;
            encode(types[t], x, 512, &c);
            assert_true(fabsf(c.back[301] - x[301]) <= most * 0.02f);
        }
    }
}

static void rows_are_whole_blocks(void **state)
{
    (void)state;
    unsigned char row[4096], scales[16];
    float x[300] = {0};
    for (unsigned t = 0; t < TYPES; t++) {
        const uint32_t block = sl__dtype_block_weights(types[t]);
        for (uint32_t cols = 0; cols < 300; cols += cols < 60 ? 1 : 47) {
            sl_error err = {0};
            char want[96];
            sl_status status = sl__quant_row(&kern, types[t], x, cols, row, scales, &err);
            assert_int_equal(status, cols % block == 0 ? SL_OK : SL_EUNSUPPORTED);
            if (status == SL_OK) continue;
            snprintf(want, sizeof want, "%u columns: %s needs a multiple of %u", cols,
                     sl__dtype_name(types[t]), block);
            assert_string_equal(err.message, want);
        }
    }
}

int main(void)
{
    sl__kern_init(&kern, NULL);
    sl__kern_init(&ref, "ref");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_data_is_within_2_percent_of_the_best),
        cmocka_unit_test(demo_is_within_2_percent_of_the_best),
        cmocka_unit_test(normal_data_comes_back_close),
        cmocka_unit_test(zeros_are_zero_bytes),
        cmocka_unit_test(constants_come_back),
        cmocka_unit_test(an_outlier_stays_in_its_block),
        cmocka_unit_test(small_values_fade),
        cmocka_unit_test(shifted_groups),
        cmocka_unit_test(exact_values_stay),
        cmocka_unit_test(both_mxfp4_agree),
        cmocka_unit_test(what_cannot_be_stored_is_named),
        cmocka_unit_test(rows_are_whole_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
