/* Several sessions in one pass: every answer is, to the bit, what the session alone gives, whoever
 * shares its passes; what concerns one session does not hurt the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "damage.h"
#include "golden.h"
#include "test_env.h"
#include "tiny.h"

#define SESSIONS 5u
#define CALLS 12u /* of a session */
#define TOKENS 560u /* of a session at most: beyond a span of attention */

static char dir[256];

/* What a session is asked: the tokens of each call, and the logits after each. */
struct story {
    int32_t ids[TOKENS];
    uint32_t count[CALLS];
    float *logits; /* [CALLS, TINY_VOCAB] */
};

/* Prompts of many lengths, with cuts on DeltaNet's grid and beside it, and single tokens. */
static void tell_story(struct story *s, unsigned number)
{
    static const uint32_t sizes[] = {1, 1, 1, 2, 31, 33, 64, 65, 100};
    test_rng rng = {1000 + number};
    uint32_t used = 0;
    tiny_ids(number, s->ids, TOKENS);
    s->logits = malloc(CALLS * TINY_VOCAB * sizeof(float));
    assert_non_null(s->logits);
    for (uint32_t i = 0; i < CALLS; i++) {
        uint32_t n = sizes[test_rng_below(&rng, sizeof sizes / sizeof sizes[0])];
        if (number == 0 && i == 0) n = 500;
        if (number == 1 && i > 0) n = 1; /* a prompt, then decoding */
        if (n > TOKENS - used - (CALLS - 1 - i)) n = TOKENS - used - (CALLS - 1 - i);
        s->count[i] = n;
        used += n;
    }
}

static void run_alone(sl_engine *engine, struct story *s)
{
    sl_error err = {0};
    sl_session *session = golden_session(engine);
    const int32_t *ids = s->ids;
    for (uint32_t i = 0; i < CALLS; i++) {
        sl_status status = sl_session_eval(session, ids, s->count[i],
                                           s->logits + (size_t)i * TINY_VOCAB, NULL, NULL, &err);
        if (status != SL_OK) fail_msg("%s", err.message);
        ids += s->count[i];
    }
    sl_session_destroy(session);
}

/* Random sessions of those that are not through, in random order, a call of each at a time. */
static void run_together(sl_engine *engine, const struct story *stories, unsigned seed,
                         const char *what)
{
    test_rng rng = {seed};
    sl_error err = {0};
    sl_session *sessions[SESSIONS];
    uint32_t at[SESSIONS] = {0}, call[SESSIONS] = {0}, left = SESSIONS;
    float *got = malloc(SESSIONS * TINY_VOCAB * sizeof(float));
    assert_non_null(got);
    for (uint32_t i = 0; i < SESSIONS; i++)
        sessions[i] = golden_session(engine);
    while (left > 0) {
        sl_batch_item items[SESSIONS];
        uint32_t who[SESSIONS], n = 0, first = test_rng_below(&rng, SESSIONS);
        for (uint32_t j = 0; j < SESSIONS; j++) {
            uint32_t i = (first + 2 * j) % SESSIONS;
            if (call[i] == CALLS || test_rng_below(&rng, 4) == 0) continue;
            who[n] = i;
            items[n] = (sl_batch_item){.session = sessions[i], .ids = stories[i].ids + at[i],
                                       .count = stories[i].count[call[i]],
                                       .logits = got + (size_t)n * TINY_VOCAB};
            n++;
        }
        if (n == 0) continue;
        if (sl_engine_eval_batch(engine, items, n, &err) != SL_OK) fail_msg("%s", err.message);
        for (uint32_t k = 0; k < n; k++) {
            const struct story *s = &stories[who[k]];
            uint32_t c = call[who[k]];
            if (items[k].status != SL_OK) fail_msg("%s: %s", what, items[k].error.message);
            if (memcmp(items[k].logits, s->logits + (size_t)c * TINY_VOCAB,
                       TINY_VOCAB * sizeof(float)) != 0) {
                fail_msg("%s: session %u, call %u: not what it gives alone", what, who[k], c);
            }
            at[who[k]] += s->count[c];
            if (++call[who[k]] == CALLS) left--;
        }
    }
    for (uint32_t i = 0; i < SESSIONS; i++) {
        assert_int_equal(sl_session_position(sessions[i]), at[i]);
        sl_session_destroy(sessions[i]);
    }
    free(got);
}

/* The stories alone on one thread with all experts in memory; together otherwise. */
static void compare(const char *model, sl_kv_type kv, sl_activations activations, unsigned number)
{
    static const uint32_t chunks[] = {512, 64, 100, 128, 24}, threads[] = {1, 3};
    struct story stories[SESSIONS];
    char what[300];
    sl_engine_options opt = {.kv = kv, .activations = activations, .threads = 1,
                             .context_tokens = TOKENS, .sessions = 1, .chunk_tokens = 512,
                             .follow_memory = SL_OFF};
    sl_engine *engine = golden_open(model, &opt);
    bool delta = sl__model_has_delta(&engine->desc);
    uint64_t least = sl__cache_minimum(engine->store, engine->desc.layer_count);
    for (unsigned i = 0; i < SESSIONS; i++) {
        tell_story(&stories[i], i);
        run_alone(engine, &stories[i]);
    }
    sl_engine_close(engine);
    for (unsigned i = 0; i < (test_fast() ? 2u : 5u); i++) {
        opt.chunk_tokens = chunks[(number + i) % 5];
        if (delta && opt.chunk_tokens < SL_DELTA_CHUNK) continue; /* has another grid */
        opt.threads = threads[(number + i) % 2];
        opt.cache_bytes = i % 2 ? 0 : least;
        opt.sessions = SESSIONS;
        opt.prefetch = i % 3 ? SL_ON : SL_OFF;
        engine = golden_open(model, &opt);
        snprintf(what, sizeof what, "%s, kv %s, activations %d, chunk %u, threads %u, cache %d",
                 model, sl_kv_type_name(kv), (int)activations, opt.chunk_tokens, opt.threads,
                 (int)i % 2);
        run_together(engine, stories, 77 * i + number, what);
        sl_engine_close(engine);
    }
    for (unsigned i = 0; i < SESSIONS; i++)
        free(stories[i].logits);
}

static void together_as_alone(void **state)
{
    (void)state;
    unsigned number = 0;
    for (size_t m = 0; m < TINY_MODELS; m++) {
        char plain[300], pack[300];
        snprintf(plain, sizeof plain, "%s/plain-%zu", dir, m);
        snprintf(pack, sizeof pack, "%s/pack-%zu", dir, m);
        tiny_copy(tiny_models[m], plain);
        tiny_pack(tiny_models[m], pack);
        for (int kv = SL_KV_F32; kv <= SL_KV_Q8; kv++) {
            compare(plain, (sl_kv_type)kv, SL_ACTIVATIONS_F32, number++);
            compare(pack, (sl_kv_type)kv, SL_ACTIVATIONS_Q8, number++);
        }
    }
}

/* Where chunks are smaller than DeltaNet's runs, the grid is theirs. */
static void a_grid_of_small_chunks(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 5, 40};
    struct story stories[SESSIONS];
    for (size_t i = 0; i < 3; i++) {
        const sl_engine_options opt = {.chunk_tokens = sizes[i], .context_tokens = 512,
                                       .sessions = SESSIONS};
        sl_engine *engine = golden_open(tiny_models[0], &opt);
        for (unsigned j = 0; j < SESSIONS; j++) {
            tell_story(&stories[j], j + 1);
            for (uint32_t c = 0; c < CALLS; c++)
                stories[j].count[c] = stories[j].count[c] % 40 + 1;
            run_alone(engine, &stories[j]);
        }
        run_together(engine, stories, 5, "small chunks");
        sl_engine_close(engine);
        for (unsigned j = 0; j < SESSIONS; j++)
            free(stories[j].logits);
    }
}

/* A call may be cut on the grid of 64 positions without a trace. */
static void cuts_on_the_grid(void **state)
{
    (void)state;
    int32_t ids[300];
    tiny_ids(9, ids, 300);
    for (size_t m = 0; m < TINY_MODELS; m++) {
        const sl_engine_options opt = {.context_tokens = 512};
        sl_engine *engine = golden_open(tiny_models[m], &opt);
        sl_session *session = golden_session(engine);
        sl_error err = {0};
        float want[TINY_VOCAB], got[TINY_VOCAB];
        assert_int_equal(sl_session_eval(session, ids, 300, want, NULL, NULL, &err), SL_OK);
        for (uint32_t cut = 64; cut < 300; cut += 64) {
            sl_session_reset(session);
            sl_session_eval(session, ids, cut, NULL, NULL, NULL, &err);
            assert_int_equal(
                sl_session_eval(session, ids + cut, 300 - cut, got, NULL, NULL, &err), SL_OK);
            assert_memory_equal(got, want, sizeof got);
        }
        sl_session_destroy(session);
        sl_engine_close(engine);
    }
}

/* ---- what concerns one ----------------------------------------------------------------------- */

static sl_status stop_at_once(void *ctx, double done, size_t count)
{
    (void)done;
    (void)count;
    ++*(int *)ctx;
    return SL_ECANCELLED;
}

static sl_status go_on(void *ctx, double done, size_t count)
{
    (void)count;
    *(double *)ctx = done;
    return SL_OK;
}

static void one_does_not_hurt_the_others(void **state)
{
    (void)state;
    const sl_engine_options opt = {.context_tokens = 96, .sessions = 5, .chunk_tokens = 64};
    sl_engine *engine = golden_open(tiny_models[0], &opt);
    sl_session *s[5];
    sl_error err = {0};
    int32_t ids[97], bad[] = {1, 2, (int32_t)TINY_VOCAB};
    float want[TINY_VOCAB], got[TINY_VOCAB];
    int calls = 0;
    double done = 0;
    tiny_ids(3, ids, 97);
    for (int i = 0; i < 5; i++)
        s[i] = golden_session(engine);
    assert_int_equal(sl_session_eval(s[0], ids, 80, want, NULL, NULL, &err), SL_OK);
    sl_session_reset(s[0]);
    sl_session_set_progress(s[3], stop_at_once, &calls);
    sl_session_set_progress(s[0], go_on, &done);
    sl_batch_item items[] = {
        {.session = s[1], .ids = ids, .count = 97},
        {.session = s[2], .ids = bad, .count = 3},
        {.session = s[0], .ids = ids, .count = 80, .logits = got},
        {.session = s[3], .ids = ids, .count = 90},
        {.session = s[4], .ids = ids, .count = 0},
    };
    assert_int_equal(sl_engine_eval_batch(engine, items, 5, &err), SL_OK);
    damage_check("context", items[0].status, &items[0].error, SL_EINVAL, "",
                 "the context of 96 tokens is full");
    damage_check("id", items[1].status, &items[1].error, SL_EINVAL, "", "token 2: id 512");
    assert_int_equal(items[2].status, SL_OK);
    assert_memory_equal(got, want, sizeof got);
    assert_true(done > 79.9);
    damage_check("stopped", items[3].status, &items[3].error, SL_ECANCELLED, "",
                 "stopped by the caller");
    assert_int_equal(calls, 1);
    damage_check("empty", items[4].status, &items[4].error, SL_EINVAL, "", "no tokens");
    assert_int_equal(sl_session_position(s[1]), 0);
    /* What was refused can go on; what was stopped must be reset. */
    for (int i = 0; i < 5; i++)
        items[i] = (sl_batch_item){.session = s[i], .ids = ids, .count = i == 0 ? 1 : 80,
                                   .logits = i == 1 ? got : NULL};
    assert_int_equal(sl_engine_eval_batch(engine, items, 5, &err), SL_OK);
    assert_memory_equal(got, want, sizeof got);
    damage_check("failed before", items[3].status, &items[3].error, SL_EINVAL, "",
                 "must be reset");
    assert_true(items[1].status == SL_OK && items[2].status == SL_OK && items[4].status == SL_OK);
    for (int i = 0; i < 5; i++)
        sl_session_destroy(s[i]);
    sl_engine_close(engine);
}

/* An embedding of which one row is a NaN: whoever says that token fails, in its pass alone. */
static void a_nan_is_its_own_sessions(void **state)
{
    (void)state;
    const sl_engine_options opt = {.context_tokens = 96, .sessions = 3};
    char model[300];
    damage_model m;
    snprintf(model, sizeof model, "%s/nan", dir);
    damage_copy(tiny_models[3], model);
    damage_model_load(&m, model);
    damage_tensor *t = damage_model_find(&m, "model.embed_tokens.weight");
    damage_set(t, 7 * 128 + 5, (float)(0.0 / 0.0));
    damage_model_save(&m, model);
    damage_model_free(&m);
    sl_engine *engine = golden_open(model, &opt);
    sl_session *s[3] = {golden_session(engine), golden_session(engine), golden_session(engine)};
    const int32_t sound[] = {1, 2, 3, 4}, ill[] = {1, 7, 3};
    float want[TINY_VOCAB], got[2][TINY_VOCAB];
    sl_error err = {0};
    assert_int_equal(sl_session_eval(s[0], sound, 4, want, NULL, NULL, &err), SL_OK);
    sl_session_reset(s[0]);
    sl_batch_item items[] = {{.session = s[0], .ids = sound, .count = 4, .logits = got[0]},
                             {.session = s[1], .ids = ill, .count = 3},
                             {.session = s[2], .ids = sound, .count = 4, .logits = got[1]}};
    assert_int_equal(sl_engine_eval_batch(engine, items, 3, &err), SL_OK);
    damage_check("nan", items[1].status, &items[1].error, SL_ENUMERIC, model,
                 "the router's output is not finite");
    for (int i = 0; i < 2; i++)
        assert_memory_equal(got[i], want, sizeof want);
    sl_batch_item alone = {.session = s[1], .ids = ill, .count = 3};
    sl_session_reset(s[1]);
    assert_int_equal(sl_engine_eval_batch(engine, &alone, 1, &err), SL_OK);
    damage_check("nan", alone.status, &alone.error, SL_ENUMERIC, model, "layer ");
    for (int i = 0; i < 3; i++)
        sl_session_destroy(s[i]);
    sl_engine_close(engine);
}

/* A record that cannot be trusted fails the pass, and all that were in it. */
static void a_failure_of_the_pass(void **state)
{
    (void)state;
    char pack[300], file[400];
    snprintf(pack, sizeof pack, "%s/damaged", dir);
    tiny_pack(tiny_models[2], pack);
    snprintf(file, sizeof file, "%s/experts-002.bin", pack);
    const sl_engine_options opt = {.context_tokens = 96, .sessions = 2};
    int32_t ids[40];
    tiny_ids(1, ids, 40);
    for (uint64_t at = 0; at < damage_size(file); at += 4096)
        damage_flip(file, at, 1);
    sl_engine *engine = golden_open(pack, &opt);
    sl_session *s[2] = {golden_session(engine), golden_session(engine)};
    sl_batch_item items[] = {{.session = s[0], .ids = ids, .count = 40},
                             {.session = s[1], .ids = ids, .count = 1}};
    sl_error err = {0};
    assert_int_equal(sl_engine_eval_batch(engine, items, 2, &err), SL_OK);
    for (int i = 0; i < 2; i++) {
        damage_check("pass", items[i].status, &items[i].error, SL_ECORRUPT, file, "layer 2");
        sl_session_destroy(s[i]);
    }
    sl_engine_close(engine);
}

static void wrong_calls(void **state)
{
    (void)state;
    const sl_engine_options opt = {.context_tokens = 64, .sessions = 2};
    sl_engine *engine = golden_open(tiny_models[2], &opt);
    sl_engine *other = golden_open(tiny_models[2], &opt);
    sl_session *a = golden_session(engine), *b = golden_session(other);
    const int32_t ids[] = {1, 2};
    sl_error err = {0};
    sl_batch_item twice[] = {{.session = a, .ids = ids, .count = 1, .status = SL_EIO},
                             {.session = a, .ids = ids, .count = 1}};
    sl_batch_item foreign[] = {{.session = a, .ids = ids, .count = 1},
                               {.session = b, .ids = ids, .count = 1}};
    sl_batch_item none[] = {{.session = a, .ids = ids, .count = 1}, {.ids = ids, .count = 1}};
    damage_check("twice", sl_engine_eval_batch(engine, twice, 2, &err), &err, SL_EINVAL, "",
                 "item 1 of the batch has a session that is in it already");
    assert_int_equal(twice[0].status, SL_EIO);
    sl_error_clear(&err);
    damage_check("foreign", sl_engine_eval_batch(engine, foreign, 2, &err), &err, SL_EINVAL, "",
                 "item 1 of the batch is a session of another engine");
    sl_error_clear(&err);
    damage_check("none", sl_engine_eval_batch(engine, none, 2, &err), &err, SL_EINVAL, "",
                 "item 1 of the batch has no session");
    sl_error_clear(&err);
    damage_check("empty", sl_engine_eval_batch(engine, none, 0, &err), &err, SL_EINVAL, "",
                 "the batch is empty");
    sl_error_clear(&err);
    assert_int_equal(sl_session_position(a), 0);
    assert_int_equal(sl_engine_eval_batch(engine, none, 1, &err), SL_OK);
    assert_int_equal(none[0].status, SL_OK);
    sl_session_destroy(a);
    sl_session_destroy(b);
    sl_engine_close(engine);
    sl_engine_close(other);
}

/* More sessions than a pass takes stretches, and fewer rows than sessions. */
static void very_many(void **state)
{
    (void)state;
    enum { MANY = SL_STRETCHES_MAX + 9 };
    static const uint32_t chunks[] = {512, 7};
    static sl_session *s[MANY];
    static sl_batch_item items[MANY];
    static float logits[MANY][TINY_VOCAB];
    int32_t ids[4];
    sl_error err = {0};
    tiny_ids(6, ids, 4);
    for (size_t c = 0; c < 2; c++) {
        const sl_engine_options opt = {.context_tokens = 64, .sessions = MANY,
                                       .chunk_tokens = chunks[c]};
        sl_engine *engine = golden_open(tiny_models[1], &opt);
        for (int i = 0; i < MANY; i++) {
            s[i] = golden_session(engine);
            items[i] = (sl_batch_item){.session = s[i], .ids = ids, .count = 1 + (size_t)i % 4,
                                       .logits = logits[i]};
        }
        assert_int_equal(sl_engine_eval_batch(engine, items, MANY, &err), SL_OK);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(items[i].status, SL_OK);
            assert_int_equal(sl_session_position(s[i]), 1 + i % 4);
            assert_memory_equal(logits[i], logits[i % 4], sizeof logits[i]);
            sl_session_destroy(s[i]);
        }
        sl_engine_close(engine);
    }
}

/* ---- the plan -------------------------------------------------------------------------------- */

static void room_for_sessions(void **state)
{
    (void)state;
    sl_engine_options opt = {.context_tokens = 256, .sessions = 3};
    sl_engine *engine = golden_open(tiny_models[0], &opt);
    sl_engine_info info;
    sl_engine_info_get(engine, &info);
    assert_int_equal(info.sessions, 3);
    const sl__plan *plan = &engine->plan;
    assert_true(sl__plan_used(plan) >= 3 * info.state_bytes);
    engine->plan.budget = sl__plan_used(plan) + plan->cache; /* nothing is left over */
    sl_session *s[3] = {golden_session(engine), golden_session(engine), golden_session(engine)};
    sl_session *more;
    sl_error err = {0};
    damage_check("a fourth", sl_session_create(&more, engine, &err), &err, SL_EBUDGET,
                 tiny_models[0], "another session");
    for (int i = 0; i < 3; i++)
        sl_session_destroy(s[i]);
    sl_engine_close(engine);
    opt.sessions = SL_SESSIONS_MAX + 1;
    sl_error_clear(&err);
    damage_check("too many", sl_engine_open(&engine, tiny_models[0], &opt, &err), &err, SL_EINVAL,
                 tiny_models[0], "sessions: 4097 is not from 1 to 4096");
    sl_error_clear(&err);
    opt = (sl_engine_options){.sessions = 4, .memory_bytes = 1 << 20};
    damage_check("too little", sl_engine_open(&engine, tiny_models[0], &opt, &err), &err,
                 SL_EBUDGET, tiny_models[0], "fewer sessions");
}

int main(void)
{
    test_temp_dir(dir, sizeof dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(together_as_alone),
        cmocka_unit_test(a_grid_of_small_chunks),
        cmocka_unit_test(cuts_on_the_grid),
        cmocka_unit_test(one_does_not_hurt_the_others),
        cmocka_unit_test(a_nan_is_its_own_sessions),
        cmocka_unit_test(a_failure_of_the_pass),
        cmocka_unit_test(wrong_calls),
        cmocka_unit_test(very_many),
        cmocka_unit_test(room_for_sessions),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_tree(dir);
    return bad;
}
