/* A tiny random checkpoint of the family (one tensor an expert, two shards, flat configuration,
 * odd shapes) against the reference's hidden states and logits, all in the repository. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

#define MODEL "data/qwen3_5_moe_text"
#define GOLDEN MODEL "/golden.safetensors"
#define BOUND 1e-4

static void hidden_states_and_logits(void **state)
{
    (void)state;
    size_t count, rows, cols;
    int32_t *ids = golden_ids(GOLDEN, "ids", &count);
    sl_engine *engine = golden_open(MODEL, NULL);
    sl_session *session = golden_session(engine);
    golden_watch *watch = golden_watch_start(session, count);
    float *logits = golden_run(session, ids, count);
    for (uint32_t j = 0; j <= watch->layers; j++) {
        char name[32];
        snprintf(name, sizeof name, "hidden.%u", j);
        float *want = golden_floats(GOLDEN, name, &rows, &cols);
        assert_int_equal(rows, count);
        double error = golden_relative(watch->hidden[j], want, rows * cols);
        printf("%s: %.2g\n", name, error);
        assert_true(error <= BOUND);
        free(want);
    }
    float *want = golden_floats(GOLDEN, "logits", &rows, &cols);
    double error = golden_relative(logits, want, rows * cols);
    printf("logits: %.2g\n", error);
    assert_true(error <= BOUND);
    free(want);
    free(logits);
    golden_watch_free(watch);
    sl_session_destroy(session);
    sl_engine_close(engine);
    free(ids);
}

/* Levels of kernels differ in what they are near to, never from the reference. */
static void every_level_of_kernels(void **state)
{
    (void)state;
    size_t count, rows, cols;
    uint32_t vocab;
    int32_t *ids = golden_ids(GOLDEN, "ids", &count);
    float *want = golden_floats(GOLDEN, "logits", &rows, &cols);
    for (uint32_t i = 0; sl_cpu_level_name(i); i++) {
        const sl_engine_options opt = {.cpu_level = sl_cpu_level_name(i)};
        sl_engine *engine;
        if (sl_engine_open(&engine, MODEL, &opt, NULL) != SL_OK) continue; /* not here */
        sl_engine_close(engine);
        float *logits = golden_run_with(MODEL, &opt, ids, count, &vocab);
        double error = golden_relative(logits, want, rows * cols);
        printf("%s: %.2g\n", opt.cpu_level, error);
        assert_true(error <= BOUND);
        free(logits);
    }
    free(want);
    free(ids);
}

static void chunks_agree_with_one_pass(void **state)
{
    (void)state;
    static const uint32_t chunks[] = {1, 2, 3, 5, 7, 39};
    size_t count;
    uint32_t vocab;
    int32_t *ids = golden_ids(GOLDEN, "ids", &count);
    float *whole = golden_run_with(MODEL, NULL, ids, count, &vocab);
    for (size_t i = 0; i < sizeof chunks / sizeof chunks[0]; i++) {
        const sl_engine_options opt = {.chunk_tokens = chunks[i]};
        float *logits = golden_run_with(MODEL, &opt, ids, count, NULL);
        double error = golden_relative(logits, whole, count * vocab);
        printf("chunks of %u: %.2g\n", chunks[i], error);
        assert_true(error <= BOUND);
        free(logits);
    }
    free(whole);
    free(ids);
}

static void check_placement(sl_activations activations)
{
    size_t count;
    uint32_t vocab;
    int32_t *ids = golden_ids(GOLDEN, "ids", &count);
    const sl_engine_options first = {.threads = 1, .activations = activations};
    float *want = golden_run_with(MODEL, &first, ids, count, &vocab);
    sl_engine *probe = golden_open(MODEL, &first);
    uint64_t least = sl__cache_minimum(probe->store, probe->desc.layer_count);
    sl_engine_close(probe);
    sl_engine_options others[] = {
        {.threads = 2},
        {.threads = 3, .cache_bytes = least},
        {.threads = 1, .cache_bytes = least + 30000, .io_depth = 1},
        {.threads = 2, .cache_bytes = least + 100000, .context_tokens = 64},
        {.threads = 2, .context_tokens = 40},
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        others[i].activations = activations;
        sl_engine *engine = golden_open(MODEL, &others[i]);
        sl_session *session = golden_session(engine);
        for (int warm = 0; warm < 2; warm++) {
            float *logits = golden_run(session, ids, count);
            assert_memory_equal(logits, want, count * vocab * sizeof(float));
            free(logits);
        }
        sl_session_destroy(session);
        sl_engine_close(engine);
    }
    free(want);
    free(ids);
}

/* Where a weight lies decides speed, never the answer. */
static void placement_does_not_change_a_bit(void **state)
{
    (void)state;
    check_placement(SL_ACTIVATIONS_F32);
    check_placement(SL_ACTIVATIONS_Q8); /* to bf16, as the weights are */
}

/* One token at a time, then the rest at once: the session goes on where it was. */
static void a_session_continues(void **state)
{
    (void)state;
    size_t count;
    sl_error err = {0};
    int32_t *ids = golden_ids(GOLDEN, "ids", &count);
    sl_engine *engine = golden_open(MODEL, NULL);
    sl_session *session = golden_session(engine);
    uint32_t vocab = engine->desc.vocab;
    float *want = golden_run(session, ids, count);
    float *last = malloc(vocab * sizeof *last);
    assert_non_null(last);
    sl_session_reset(session);
    for (size_t i = 0; i < 10; i++)
        assert_int_equal(sl_session_eval(session, ids + i, 1, last, NULL, NULL, &err), SL_OK);
    assert_int_equal(sl_session_position(session), 10);
    assert_true(golden_relative(last, want + 9 * vocab, vocab) <= BOUND);
    assert_int_equal(
        sl_session_eval(session, ids + 10, count - 10, last, NULL, NULL, &err), SL_OK);
    assert_true(golden_relative(last, want + (count - 1) * vocab, vocab) <= BOUND);
    free(last);
    free(want);
    free(ids);
    sl_session_destroy(session);
    sl_engine_close(engine);
}

static void calls_are_checked(void **state)
{
    (void)state;
    const sl_engine_options opt = {.context_tokens = 8};
    sl_engine *engine = golden_open(MODEL, &opt);
    sl_session *session = golden_session(engine);
    const int32_t ids[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    const int32_t outside[] = {3, 512};
    const sl_engine_options much = {.cache_bytes = UINT64_MAX}; /* only what is of use */
    sl_engine_close(golden_open(MODEL, &much));
    sl_error err = {0};
    assert_int_equal(sl_session_eval(session, ids, 0, NULL, NULL, NULL, &err), SL_EINVAL);
    sl_error_clear(&err);
    assert_int_equal(sl_session_eval(session, outside, 2, NULL, NULL, NULL, &err), SL_EINVAL);
    assert_string_equal(err.message, "token 1: id 512 is outside the vocabulary of 512");
    sl_error_clear(&err);
    assert_int_equal(sl_session_eval(session, ids, 9, NULL, NULL, NULL, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "the context of 8 tokens is full"));
    assert_int_equal(sl_session_eval(session, ids, 8, NULL, NULL, NULL, NULL), SL_OK);
    assert_int_equal(sl_session_eval(session, ids, 1, NULL, NULL, NULL, NULL), SL_EINVAL);
    sl_session_destroy(session);
    sl_engine_close(engine);

    static const struct {
        sl_engine_options opt;
        sl_status status;
        const char *message;
    } bad[] = {
        {{.experts_per_token = 3}, SL_EINVAL, "the model was trained with 2"},
        {{.context_tokens = 513}, SL_EINVAL, "beyond the model's 512"},
        {{.memory_bytes = 100000}, SL_EBUDGET, "are needed"},
        {{.cache_bytes = 100}, SL_EBUDGET, "is too small"},
        {{.chunk_tokens = 1u << 20}, SL_EINVAL, "chunks of"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sl_error_clear(&err);
        engine = NULL;
        assert_int_equal(sl_engine_open(&engine, MODEL, &bad[i].opt, &err), bad[i].status);
        assert_null(engine);
        assert_non_null(strstr(err.message, bad[i].message));
        assert_non_null(strstr(err.message, MODEL));
    }
}

struct heard {
    double last;
    unsigned calls, stop_at; /* stop_at 0: never */
};

static sl_status hear(void *ctx, double done, size_t count)
{
    struct heard *heard = ctx;
    assert_true(done > heard->last && done <= (double)count && count == 20);
    heard->last = done;
    return ++heard->calls == heard->stop_at ? SL_ECANCELLED : SL_OK;
}

static void progress_is_heard_and_stops(void **state)
{
    (void)state;
    const sl_engine_options opt = {.chunk_tokens = 8};
    sl_engine *engine = golden_open(MODEL, &opt);
    sl_session *session = golden_session(engine);
    struct heard heard = {0};
    sl_error err = {0};
    int32_t ids[20];
    for (int32_t i = 0; i < 20; i++)
        ids[i] = i;
    sl_session_set_progress(session, hear, &heard);
    assert_int_equal(sl_session_eval(session, ids, 20, NULL, NULL, NULL, &err), SL_OK);
    assert_true(heard.last == 20.0);
    assert_int_equal(heard.calls, 3 * engine->desc.layer_count);
    assert_int_equal(sl_session_eval(session, ids, 1, NULL, NULL, NULL, &err), SL_OK);
    assert_int_equal(heard.calls, 3 * engine->desc.layer_count); /* one token is no wait */
    sl_session_reset(session);
    heard = (struct heard){.stop_at = engine->desc.layer_count + 1};
    assert_int_equal(sl_session_eval(session, ids, 20, NULL, NULL, NULL, &err), SL_ECANCELLED);
    assert_string_equal(err.message, "stopped by the caller");
    sl_error_clear(&err);
    assert_int_equal(sl_session_eval(session, ids, 1, NULL, NULL, NULL, &err), SL_EINVAL);
    sl_session_reset(session);
    sl_session_set_progress(session, NULL, NULL);
    sl_error_clear(&err);
    assert_int_equal(sl_session_eval(session, ids, 20, NULL, NULL, NULL, &err), SL_OK);
    sl_session_destroy(session);
    sl_engine_close(engine);
}

static void fewer_experts_is_another_answer(void **state)
{
    (void)state;
    size_t count;
    uint32_t vocab;
    int32_t *ids = golden_ids(GOLDEN, "ids", &count);
    const sl_engine_options lossy = {.experts_per_token = 1};
    float *whole = golden_run_with(MODEL, NULL, ids, count, &vocab);
    float *less = golden_run_with(MODEL, &lossy, ids, count, NULL);
    assert_true(golden_relative(less, whole, count * vocab) > 1e-3);
    free(whole);
    free(less);
    free(ids);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_states_and_logits),
        cmocka_unit_test(every_level_of_kernels),
        cmocka_unit_test(chunks_agree_with_one_pass),
        cmocka_unit_test(placement_does_not_change_a_bit),
        cmocka_unit_test(a_session_continues),
        cmocka_unit_test(calls_are_checked),
        cmocka_unit_test(progress_is_heard_and_stops),
        cmocka_unit_test(fewer_experts_is_another_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
