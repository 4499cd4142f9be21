/* Cached blocks: what is stored comes back, as exactly as its type says, and the rest of a block
 * stays what it was. What attention makes of them is checkkern's matter. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "kern/kv_blocks.h"
#include "kern_check.h"
#include "plain_kv.h"

static const sl_kv_type types[] = {SL_KV_F32, SL_KV_F16, SL_KV_Q8};

static void test_halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float x = sl__f16_to_f32((uint16_t)h);
        if (isnan(x)) {
            assert_true(isnan(sl__f16_to_f32(sl__kv_half(x))));
            continue;
        }
        assert_int_equal(sl__kv_half(x), isinf(x) ? h - 1 : h);
        if ((h & 0x7fff) >= 0x7bff) continue;
        /* Halfway to the next, which is exact in float: to the even one. */
        float next = sl__f16_to_f32((uint16_t)(h + 1)), middle = x + (next - x) / 2;
        assert_int_equal(sl__kv_half(middle), h % 2 == 0 ? h : h + 1);
        assert_int_equal(sl__kv_half(nextafterf(middle, x)), h);
        assert_int_equal(sl__kv_half(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(sl__kv_half(1e30f), 0x7bff);
    assert_int_equal(sl__kv_half(-65519.0f), 0xfbff);
}

static double error_allowed(sl_kv_type type, const float *x, uint32_t n, uint32_t i)
{
    double most = 0;
    for (uint32_t j = i / 64 * 64; j < n && j < i / 64 * 64 + 64; j++)
        most = fmax(most, fabs((double)x[j]));
    if (type == SL_KV_F32) return 0;
    if (type == SL_KV_F16) return fabs((double)x[i]) * 0x1p-11 + 0x1p-25;
    return most / 254 * 1.0001 + 1e-30;
}

/* Slots in any order; those that are not stored to keep their bytes. */
static void test_store(void **state)
{
    (void)state;
    check_seed(31);
    static const uint32_t dims[] = {1, 5, 31, 32, 33, 64, 65, 100, 128, 576};
    for (unsigned i = 0; i < 60; i++) {
        sl_kv_type type = types[i % 3];
        uint32_t dim = dims[i % 10];
        bool value = i / 3 % 2 == 1;
        size_t bytes = (size_t)(value ? sl__kv_value_bytes(type, dim)
                                      : sl__kv_key_bytes(type, dim));
        unsigned char *block = guarded(bytes, 0), *before = guarded(bytes, 0);
        memset(block, 0x5a, bytes);
        float *x = random_floats(32 * (size_t)dim);
        x[0] = 0;
        for (uint32_t j = 0; j < 32; j += 1 + i % 3) {
            uint32_t slot = (j * 7 + i) % 32;
            float *row = x + (size_t)slot * dim, scale = j % 4 == 1 ? 1e-5f : 8;
            for (uint32_t c = 0; c < dim; c++)
                row[c] *= scale;
            memcpy(before, block, bytes);
            if (value) sl__kv_store_value(type, block, slot, row, dim);
            else sl__kv_store_key(type, block, slot, row, dim);
            for (uint32_t c = 0; c < dim; c++) {
                double off = (double)plain_kv(type, block, slot, c, value) - (double)row[c];
                assert_true(fabs(off) <= error_allowed(type, row, dim, c));
                uint32_t other = (slot + 1 + c % 31) % 32;
                float a = plain_kv(type, block, other, c, value);
                float b = plain_kv(type, before, other, c, value);
                assert_memory_equal(&a, &b, sizeof a);
            }
            for (uint32_t c = dim; value && c % 32 > 0; c++)
                assert_true(plain_kv(type, block, slot, c, true) == 0);
        }
        check_buffers();
    }
}

/* A group of zeros, of numbers too small for a scale, and what is not finite. */
static void test_store_ends(void **state)
{
    (void)state;
    unsigned char *block = guarded((size_t)sl__kv_key_bytes(SL_KV_Q8, 2), 0);
    static const float small[][2] = {{0, -0.0f}, {1e-38f, -1e-40f}, {3, -3}};
    static const float wrong[][2] = {{NAN, 1}, {1, INFINITY}, {-INFINITY, 0}};
    for (unsigned i = 0; i < 3; i++) {
        sl__kv_store_key(SL_KV_Q8, block, 5, small[i], 2);
        assert_true(fabsf(plain_kv(SL_KV_Q8, block, 5, 0, false) - small[i][0]) <= 1e-30f);
        assert_true(fabsf(plain_kv(SL_KV_Q8, block, 5, 1, false) - small[i][1]) <= 1e-30f);
        sl__kv_store_key(SL_KV_Q8, block, 5, wrong[i], 2);
        assert_true(isnan(plain_kv(SL_KV_Q8, block, 5, 0, false)));
    }
    check_buffers();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_store_ends),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
