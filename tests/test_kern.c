/* Around the kernels: the types of weights, halves, the k largest. What the kernels themselves
 * compute is checkkern's matter (tests/checkkern). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
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
    SL_AFFINE2, SL_AFFINE3, SL_AFFINE4, SL_AFFINE5, SL_AFFINE6, SL_AFFINE8, SL_F8_E4M3,
};
#define WEIGHT_TYPES (sizeof weight_types / sizeof weight_types[0])
_Static_assert(WEIGHT_TYPES == SL_DTYPE_COUNT, "all of them");

/* ---- types ----------------------------------------------------------------------------------- */

static size_t row_bytes_of(sl__dtype type, uint32_t cols)
{
    uint64_t bytes = 0;
    assert_true(sl__dtype_row_bytes(type, cols, &bytes));
    return (size_t)bytes;
}

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
                                     210, 36,  136, 66,  74, 82,  34,  110, 98,
                                     16,  24,  32,  40,  48, 64,  64};
    for (unsigned i = 0; i < WEIGHT_TYPES; i++) {
        assert_int_equal(row_bytes_of(weight_types[i], 64), bytes[i]);
        assert_int_equal(row_bytes_of(weight_types[i], 0), 0);
    }
    assert_int_equal(row_bytes_of(SL_MXFP4, 33), 32);
    for (unsigned i = 0; i < WEIGHT_TYPES; i++)
        assert_int_equal(sl__dtype_has_planes(weight_types[i]),
                         weight_types[i] == SL_MXFP4 || weight_types[i] >= SL_AFFINE2);
    const sl__scaling none = sl__dtype_scaling(SL_Q4), mx = sl__dtype_scaling(SL_MXFP4);
    assert_int_equal(sl__scaling_row_bytes(&mx, 0), 0);
    assert_int_equal(sl__scaling_row_bytes(&mx, 32), 1);
    assert_int_equal(sl__scaling_row_bytes(&mx, 33), 2);
    assert_int_equal(sl__scaling_row_bytes(&none, 64), 0);
    assert_int_equal(row_bytes_of(SL_Q4, 1), 36);
    assert_int_equal(row_bytes_of(SL_Q4, 65), 72);
    assert_int_equal(row_bytes_of(SL_Q8_0, 65), 102);
    assert_int_equal(row_bytes_of(SL_Q6_K, 257), 420);
    uint64_t size = 7;
    assert_false(sl__dtype_row_bytes(SL_F32, UINT64_MAX / 2, &size));
    assert_false(sl__dtype_row_bytes(SL_F64, UINT64_MAX, &size));
    assert_true(sl__dtype_row_bytes(SL_Q8, UINT64_MAX / 128, &size));
}

/* All 65536 halves. */
static void test_halves(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        const uint32_t bits = i << 16;
        float want16 = plain_half((uint16_t)i), want_b;
        memcpy(&want_b, &bits, 4);
        float got = sl__f16_to_f32((uint16_t)i), back = sl__bf16_to_f32((uint16_t)i);
        assert_bits(&got, &want16, 1, "f16");
        assert_bits(&back, &want_b, 1, "bf16");
        if (isnan(back))
            assert_true(isnan(sl__bf16_to_f32(sl__f32_to_bf16(back))));
        else
            assert_int_equal(sl__f32_to_bf16(back), i);
    }
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

/* ---- top k ----------------------------------------------------------------------------------- */

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
        cmocka_unit_test(test_top_k),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
