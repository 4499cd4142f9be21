/* The demo checkpoint (bf16, fused experts, two shards) against the reference: hidden states,
 * router outputs, logits, greedy continuations, NLL windows, chunks. The checkpoint is part of the
 * reference data; the bounds are those of the design. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysmem.h"
#include "golden.h"
#include "test_env.h"

#define BOUND 1e-4

static char model[1024], golden[1024];
static sl_engine *engine;
static sl_session *session;

static int open_demo(void **state)
{
    (void)state;
    engine = golden_open(model, NULL);
    session = golden_session(engine);
    return 0;
}

static int close_demo(void **state)
{
    (void)state;
    sl_session_destroy(session);
    sl_engine_close(engine);
    return 0;
}

/* Where the reference's margin between the k-th and the next router output is beyond the bound, the
 * set of chosen experts must be the reference's. Returns how many tokens were that clear. */
static size_t same_choices(const float *got, const float *want, size_t tokens, uint32_t experts,
                           uint32_t k)
{
    size_t clear = 0;
    for (size_t t = 0; t < tokens; t++) {
        uint32_t a[64], b[64];
        assert_true(sl__top_k(got + t * experts, experts, k, a));
        assert_true(sl__top_k(want + t * experts, experts, k + 1, b));
        if (want[t * experts + b[k - 1]] - want[t * experts + b[k]] <= 1e-4f) continue;
        clear++;
        for (uint32_t i = 0; i < k; i++) {
            bool found = false;
            for (uint32_t j = 0; j < k; j++)
                found |= a[i] == b[j];
            assert_true(found);
        }
    }
    return clear;
}

static void hidden_states_and_routers(void **state)
{
    (void)state;
    size_t count, rows, cols, clear = 0;
    int32_t *ids = golden_ids(golden, "p0.ids", &count);
    golden_watch *watch = golden_watch_start(session, count);
    free(golden_run(session, ids, count));
    sl__session_observe(session, NULL, NULL);
    char name[32];
    for (uint32_t j = 0; j <= watch->layers; j++) {
        snprintf(name, sizeof name, "p0.hidden.%u", j);
        float *want = golden_floats(golden, name, &rows, &cols);
        double error = golden_relative(watch->hidden[j], want, rows * cols);
        printf("%s: %.2g\n", name, error);
        assert_true(error <= BOUND);
        free(want);
    }
    for (uint32_t j = 0; j < watch->layers; j++) {
        snprintf(name, sizeof name, "p0.router.%u", j);
        float *want = golden_floats(golden, name, &rows, &cols);
        double error = golden_relative(watch->router[j], want, rows * cols);
        printf("%s: %.2g\n", name, error);
        assert_true(error <= BOUND);
        clear += same_choices(watch->router[j], want, rows, (uint32_t)cols,
                              engine->desc.trained_top_k);
        free(want);
    }
    printf("choices compared: %zu of %zu\n", clear, count * watch->layers);
    golden_watch_free(watch);
    free(ids);
}

static void logits_of_three_prompts(void **state)
{
    (void)state;
    for (int p = 0; p < 3; p++) {
        char name[32];
        size_t count, rows, vocab;
        snprintf(name, sizeof name, "p%d.ids", p);
        int32_t *ids = golden_ids(golden, name, &count);
        snprintf(name, sizeof name, "p%d.logits_last16", p);
        float *want = golden_floats(golden, name, &rows, &vocab);
        float *got = golden_run(session, ids, count);
        double error = golden_relative(got + (count - rows) * vocab, want, rows * vocab);
        printf("%s: %.2g\n", name, error);
        assert_true(error <= BOUND);
        free(got);
        free(want);
        free(ids);
    }
}

static int32_t best(const float *logits, uint32_t vocab)
{
    uint32_t top;
    assert_true(sl__top_k(logits, vocab, 1, &top));
    return (int32_t)top;
}

static void greedy_continuations(void **state)
{
    (void)state;
    json_t *root = golden_json("data/demo/golden.json");
    const json_t *list = json_object_get(root, "greedy");
    uint32_t vocab = engine->desc.vocab;
    float *logits = malloc(vocab * sizeof *logits);
    assert_non_null(logits);
    assert_int_equal(json_array_size(list), 12);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *row = json_array_get(list, i);
        size_t prompt_count, count;
        sl_error err = {0};
        int32_t *prompt = golden_json_ids(json_object_get(row, "prompt_ids"), &prompt_count);
        int32_t *want = golden_json_ids(json_object_get(row, "ids"), &count);
        sl_session_reset(session);
        assert_int_equal(
            sl_session_eval(session, prompt, prompt_count, logits, NULL, NULL, &err), SL_OK);
        for (size_t t = 0; t < count; t++) {
            int32_t id = best(logits, vocab);
            assert_int_equal(id, want[t]);
            assert_int_equal(sl_session_eval(session, &id, 1, logits, NULL, NULL, &err), SL_OK);
        }
        free(prompt);
        free(want);
    }
    free(logits);
    json_decref(root);
}

static void nll_windows(void **state)
{
    (void)state;
    json_t *root = golden_json("data/demo/golden.json");
    double worst, reference;
    double mean = golden_nll(session, root, test_fast() ? 2 : 24, &worst, &reference);
    printf("NLL %.6f, reference %.6f, worst token %.2g\n", mean, reference, worst);
    assert_true(fabs(mean - reference) <= 1e-4);
    assert_true(worst <= 1e-2);
    json_decref(root);
}

static void chunks_agree_with_one_pass(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 7, 64, 512};
    json_t *root = golden_json("data/demo/golden.json");
    const json_t *window = json_array_get(json_object_get(root, "nll_windows"), 0);
    size_t count;
    int32_t *ids = golden_json_ids(json_object_get(window, "tokens"), &count);
    if (test_fast()) count = 130;
    const sl_engine_options one = {.chunk_tokens = 4096};
    uint32_t vocab;
    float *whole = golden_run_with(model, &one, ids, count, &vocab);
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        const sl_engine_options opt = {.chunk_tokens = chunks[i]};
        float *logits = golden_run_with(model, &opt, ids, count, NULL);
        double error = golden_relative(logits, whole, count * vocab);
        printf("chunks of %u: %.2g\n", chunks[i], error);
        assert_true(error <= BOUND);
        /* Inner chunks are the same: then so is every bit. */
        if (chunks[i] % SL_DELTA_CHUNK == 0) {
            assert_memory_equal(logits, whole, count * vocab * sizeof(float));
        }
        free(logits);
    }
    free(whole);
    free(ids);
    json_decref(root);
}

static void placement_does_not_change_a_bit(void **state)
{
    (void)state;
    size_t count;
    uint32_t vocab;
    int32_t *ids = golden_ids(golden, "p2.ids", &count);
    const sl_engine_options first = {.threads = 1};
    float *want = golden_run_with(model, &first, ids, count, &vocab);
    const sl_engine_options others[] = {
        {.threads = 2},
        {.threads = 1, .cache_bytes = 4u << 20},
        {.threads = 2, .cache_bytes = 4u << 20},
        {.threads = 2, .cache_bytes = 300000, .io_depth = 2},
        {.threads = 2, .memory_bytes = 40u << 20, .context_tokens = 256},
    };
    size_t tried = sizeof others / sizeof others[0];
    if (test_fast()) tried = 3;
    for (size_t i = 0; i < tried; i++) {
        sl_engine_options opt = others[i];
        /* A promise about the whole process cannot hold for one that has used more already. */
        if (opt.memory_bytes) opt.memory_bytes += sl__mem_rss();
        sl_engine *other = golden_open(model, &opt);
        sl_session *s = golden_session(other);
        for (int warm = 0; warm < 2; warm++) {
            float *logits = golden_run(s, ids, count);
            assert_memory_equal(logits, want, count * vocab * sizeof(float));
            free(logits);
        }
        sl_stats stats;
        sl_engine_stats_get(other, &stats);
        printf("cache %llu bytes: %llu hits of %llu\n", (unsigned long long)other->plan.cache,
               (unsigned long long)stats.expert_hits, (unsigned long long)stats.expert_requests);
        sl_session_destroy(s);
        sl_engine_close(other);
    }
    free(want);
    free(ids);
}

int main(void)
{
    if (!golden_demo_checkpoint(model, sizeof model) ||
        !test_shared_path(golden, sizeof golden, "golden/demo/golden.safetensors")) {
        return TEST_SKIPPED;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_states_and_routers),
        cmocka_unit_test(logits_of_three_prompts),
        cmocka_unit_test(greedy_continuations),
        cmocka_unit_test(nll_windows),
        cmocka_unit_test(chunks_agree_with_one_pass),
        cmocka_unit_test(placement_does_not_change_a_bit),
    };
    return cmocka_run_group_tests(tests, open_demo, close_demo);
}
