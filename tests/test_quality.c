/* What packing costs, and a narrower cache of keys and values: the NLL of the reference's windows
 * with the demo packed at several widths, against the bounds of the reference's own table (round to
 * nearest, groups of 64). The packs are made here from the checkpoint; the pack in the repository
 * is held to the 4-bit bound as well. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "test_env.h"

static char model[1024];
static bool have_model;

static double nll_with(const char *path, size_t windows, const sl_engine_options *opt)
{
    json_t *root = golden_json("data/demo/golden.json");
    sl_engine *engine = golden_open(path, opt);
    sl_session *session = golden_session(engine);
    double reference, mean = golden_nll(session, root, windows, NULL, &reference);
    sl_session_destroy(session);
    sl_engine_close(engine);
    json_decref(root);
    return mean;
}

static double nll_of(const char *path, size_t windows, sl_activations activations)
{
    const sl_engine_options opt = {.activations = activations};
    double mean = nll_with(path, windows, &opt);
    printf("%s: NLL %.4f with activations %s\n", path, mean,
           activations == SL_ACTIVATIONS_Q8 ? "rounded" : "in f32");
    return mean;
}

/* Rounded activations cost this much at most. */
#define ACTIVATIONS_COST 0.003

/* Both ways of multiplying stay within the bound. */
static void check_nll(const char *path, double bound)
{
    double exact = nll_of(path, 24, SL_ACTIVATIONS_F32);
    double rounded = nll_of(path, 24, SL_ACTIVATIONS_Q8);
    assert_true(exact <= bound);
    assert_true(rounded <= exact + ACTIVATIONS_COST);
    assert_true(rounded <= bound);
}

/* Weights in bf16 meet activations in bf16, of the checkpoint itself; the router does not. */
static void the_checkpoint_rounds_to_bf16(void **state)
{
    (void)state;
    if (!have_model) {
        skip();
        return;
    }
    const sl_engine_options opt = {.activations = SL_ACTIVATIONS_Q8};
    sl_engine *engine = golden_open(model, &opt);
    sl_engine_info info;
    sl_engine_info_get(engine, &info);
    assert_int_equal(info.activations, SL_ACTIVATIONS_Q8);
    assert_string_equal(info.rounded_to, "bf16");
    sl_engine_close(engine);
    const size_t windows = test_fast() ? 2 : 24;
    double exact = nll_of(model, windows, SL_ACTIVATIONS_F32);
    double rounded = nll_of(model, windows, SL_ACTIVATIONS_Q8);
    printf("activations in bf16 cost %.6f\n", rounded - exact);
    assert_true(rounded != exact);
    assert_true(rounded <= exact + ACTIVATIONS_COST);
}

/* How keys and values are kept, of the checkpoint itself: bounds over those of f32. */
static void kv_costs_little(void **state)
{
    (void)state;
    if (!have_model) {
        skip();
        return;
    }
    static const struct {
        sl_kv_type kv;
        double bound;
    } rows[] = {{SL_KV_F16, 0.0005}, {SL_KV_Q8, 0.003}};
    json_t *root = golden_json("data/demo/golden.json");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const sl_engine_options opt = {.kv = rows[i].kv};
        sl_engine *engine = golden_open(model, &opt);
        sl_session *session = golden_session(engine);
        double reference, mean = golden_nll(session, root, test_fast() ? 2 : 24, NULL, &reference);
        sl_engine_info info;
        sl_engine_info_get(engine, &info);
        assert_int_equal(info.kv, rows[i].kv);
        printf("keys and values in %s: NLL %.6f, reference %.6f\n", sl_kv_type_name(info.kv), mean,
               reference);
        assert_true(mean != reference && mean - reference <= rows[i].bound);
        sl_session_destroy(session);
        sl_engine_close(engine);
    }
    json_decref(root);
}

static void pack_as(char *out, size_t out_size, const char *dir, const char *experts,
                    const char *resident)
{
    sl_error err = {0};
    const sl_pack_options opt = {.experts = experts, .resident = resident, .verify = true};
    snprintf(out, out_size, "%s/%s-%s", dir, experts, resident);
    if (sl_pack(model, out, &opt, &err) != SL_OK) fail_msg("%s", err.message);
}

static void bits_cost_what_the_table_says(void **state)
{
    (void)state;
    if (!have_model) {
        skip();
        return;
    }
    static const struct {
        const char *experts, *resident;
        double bound;
    } rows[] = {
        {"q4", "q8", 3.71}, {"q8", "q8", 3.696}, {"q3", "q8", 3.735}, {"q2", "q8", 3.875},
    };
    char dir[256], pack[512];
    test_temp_dir(dir, sizeof dir);
    size_t tried = test_fast() ? 0 : sizeof rows / sizeof rows[0];
    for (size_t i = 0; i < tried; i++) {
        pack_as(pack, sizeof pack, dir, rows[i].experts, rows[i].resident);
        check_nll(pack, rows[i].bound);
    }
    test_remove_tree(dir);
}

/* bf16 keeps what the checkpoint holds: then the pack's logits are the checkpoint's, to the bit. */
static void keeping_changes_nothing(void **state)
{
    (void)state;
    char dir[256], pack[512];
    const char *source = "data/qwen3_5_moe_text";
    sl_error err = {0};
    size_t count;
    uint32_t vocab;
    int32_t *ids = golden_ids("data/qwen3_5_moe_text/golden.safetensors", "ids", &count);
    float *want = golden_run_with(source, NULL, ids, count, &vocab);
    test_temp_dir(dir, sizeof dir);
    static const char *const types[] = {"bf16", "keep", "f32"};
    for (size_t i = 0; i < 3; i++) {
        const sl_pack_options opt = {.experts = types[i], .resident = types[i], .verify = true};
        snprintf(pack, sizeof pack, "%s/%s", dir, types[i]);
        if (sl_pack(source, pack, &opt, &err) != SL_OK) fail_msg("%s", err.message);
        float *got = golden_run_with(pack, NULL, ids, count, NULL);
        assert_memory_equal(got, want, count * vocab * sizeof(float));
        free(got);
    }
    test_remove_tree(dir);
    free(want);
    free(ids);
}

/* A pack of a pack: the same bits give the same bytes, and narrower ones can be made from it. */
static void a_pack_can_be_packed(void **state)
{
    (void)state;
    char dir[256], first[512], second[512], third[512];
    sl_error err = {0};
    size_t count;
    int32_t *ids = golden_ids("data/qwen3_5_moe_text/golden.safetensors", "ids", &count);
    test_temp_dir(dir, sizeof dir);
    snprintf(first, sizeof first, "%s/first", dir);
    snprintf(second, sizeof second, "%s/second", dir);
    snprintf(third, sizeof third, "%s/third", dir);
    sl_pack_options opt = {.experts = "q8", .resident = "q8"};
    if (sl_pack("data/qwen3_5_moe_text", first, &opt, &err) != SL_OK) fail_msg("%s", err.message);
    opt = (sl_pack_options){.experts = "keep", .resident = "keep", .threads = 3};
    if (sl_pack(first, second, &opt, &err) != SL_OK) fail_msg("%s", err.message);
    opt = (sl_pack_options){.experts = "q2", .resident = "q4"};
    if (sl_pack(second, third, &opt, &err) != SL_OK) fail_msg("%s", err.message);
    uint32_t vocab;
    float *a = golden_run_with(first, NULL, ids, count, &vocab);
    float *b = golden_run_with(second, NULL, ids, count, NULL);
    float *c = golden_run_with(third, NULL, ids, count, NULL);
    assert_memory_equal(a, b, count * vocab * sizeof(float));
    assert_true(golden_relative(c, a, count * vocab) > 1e-3);
    free(a);
    free(b);
    free(c);
    free(ids);
    test_remove_tree(dir);
}

/* The cost of rounding at every level of kernels, on some of the windows. */
static void every_level_of_kernels(const char *pack)
{
    for (uint32_t i = 0; sl_cpu_level_name(i); i++) {
        const sl_engine_options exact = {.cpu_level = sl_cpu_level_name(i)};
        const sl_engine_options rounded = {.cpu_level = exact.cpu_level,
                                           .activations = SL_ACTIVATIONS_Q8};
        sl_engine *engine;
        if (sl_engine_open(&engine, pack, &exact, NULL) != SL_OK) continue; /* not here */
        sl_engine_close(engine);
        double cost = nll_with(pack, 4, &rounded) - nll_with(pack, 4, &exact);
        printf("%s: rounded activations cost %.5f\n", exact.cpu_level, cost);
        assert_true(cost <= ACTIVATIONS_COST);
    }
}

static void the_pack_in_the_repository(void **state)
{
    (void)state;
    char pack[1024];
    if (!golden_demo_pack(pack, sizeof pack)) {
        skip();
        return;
    }
    if (test_fast()) return;
    check_nll(pack, 3.71);
    every_level_of_kernels(pack);
    if (have_model) every_level_of_kernels(model);
}

int main(void)
{
    have_model = golden_demo_checkpoint(model, sizeof model);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_cost_what_the_table_says),
        cmocka_unit_test(the_checkpoint_rounds_to_bf16),
        cmocka_unit_test(kv_costs_little),
        cmocka_unit_test(keeping_changes_nothing),
        cmocka_unit_test(a_pack_can_be_packed),
        cmocka_unit_test(the_pack_in_the_repository),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
