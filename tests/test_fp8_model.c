/* Checkpoints of floats of 8 bits in blocks, and of integers as compressed-tensors packs them, run
 * as they are: the logits of a checkpoint of the very weights that their codes stand for, streamed,
 * packed; and what they are. What is wrong with one is the matter of test_robust_planes.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "plane_case.h"
#include "test_env.h"

#define QWEN3      "data/families/qwen3_moe"
#define QWEN3_NEXT "data/families/qwen3_next"
#define QWEN3_5    "data/qwen3_5_moe_text"

static const char *const families[] = {
    QWEN3, QWEN3_NEXT, QWEN3_5, "data/families/minimax_m2", "data/families/deepseek_v3",
    "data/families/glm4_moe",
};

static void floats_of_8_bits(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        plane_recipe r = {.format = PLANE_FP8, .scales = i % 2 ? "BF16" : "F32"};
        plane_case_expect_same(families[i], &r);
    }
    /* Rows of up begin in the middle of a block: 32 rows of gate lie before them. */
    plane_recipe r = {.format = PLANE_FP8, .scales = "F32", .fused = true};
    plane_case_expect_same(QWEN3_5, &r);
}

/* The same floats under other names, with a scale a row or for a block. */
static void floats_of_compressed_tensors(void **state)
{
    (void)state;
    static const char *const scales[] = {"BF16", "F32", "F16"};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        plane_recipe r = {.format = PLANE_FP8, .compressed = true, .scales = scales[i % 3]};
        plane_case_expect_same(families[i], &r);
        r.group = 128;
        plane_case_expect_same(families[i], &r);
    }
    plane_recipe r = {.format = PLANE_FP8, .compressed = true};
    plane_case_expect_pack(QWEN3, &r, NULL, true);
    plane_case_expect_pack(QWEN3_NEXT, &r, NULL, true);
    const sl_model_info info = plane_case_inspect(QWEN3, &r);
    assert_string_equal(info.format, "compressed-tensors");
    assert_string_equal(info.expert_types, "f8_e4m3");
}

static void floats_are_packed(void **state)
{
    (void)state;
    plane_recipe r = {.format = PLANE_FP8, .scales = "F32"};
    for (size_t i = 0; i < 3; i++)
        plane_case_expect_pack(families[i], &r, NULL, true);
    r.fused = true;
    plane_case_expect_pack(QWEN3_5, &r, NULL, true);
}

static void packed_integers(void **state)
{
    (void)state;
    static const unsigned groups[] = {32, 64, 128, 0};
    static const char *const scales[] = {"BF16", "F16", "F32"};
    for (unsigned i = 0; i < 8; i++) {
        plane_recipe r = {.format = PLANE_PACKED, .bits = i < 4 ? 4 : 8, .group = groups[i % 4],
                          .scales = scales[i % 3]};
        plane_case_expect_same(families[i % 6], &r);
    }
}

static void integers_are_packed(void **state)
{
    (void)state;
    plane_recipe r = {.format = PLANE_PACKED, .bits = 4, .group = 32};
    plane_case_expect_pack(QWEN3, &r, NULL, true); /* with planes */
    r.group = 64;                                  /* as panels, the minimum being −8 scales */
    plane_case_expect_pack(QWEN3_5, &r, NULL, false);
    r.bits = 8;
    r.group = 0;
    plane_case_expect_pack(QWEN3_NEXT, &r, NULL, false);
    r.scales = "F16";
    plane_case_expect_pack(QWEN3, &r, NULL, true);
}

static void what_they_are(void **state)
{
    (void)state;
    plane_recipe r = {.format = PLANE_FP8, .scales = "F32"};
    sl_model_info info = plane_case_inspect(QWEN3_5, &r);
    assert_string_equal(info.format, "fp8");
    assert_string_equal(info.expert_types, "f8_e4m3");
    assert_int_equal(info.expert_extents, 3); /* scales follow their codes here */
    assert_int_equal(info.ignored_bytes, 0);
    r = (plane_recipe){.format = PLANE_PACKED, .bits = 4, .group = 32};
    info = plane_case_inspect(QWEN3, &r);
    assert_string_equal(info.format, "compressed-tensors");
    assert_string_equal(info.expert_types, "affine4");
    assert_int_equal(info.expert_extents, 3); /* scales follow their codes here */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(floats_of_8_bits),
        cmocka_unit_test(floats_of_compressed_tensors),
        cmocka_unit_test(floats_are_packed),
        cmocka_unit_test(packed_integers),
        cmocka_unit_test(integers_are_packed),
        cmocka_unit_test(what_they_are),
    };
    plane_case_begin();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    plane_case_end();
    return failed;
}
