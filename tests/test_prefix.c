/* Prompts that are kept: with the cache and without it, every logit is the same to the bit, for
 * texts that share beginnings of all lengths; what is kept outlives the process, goes in the order
 * of its last use, and is removed where it is damaged. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "damage.h"
#include "engine/prefix.h"
#include "golden.h"
#include "test_env.h"
#include "tiny.h"

#define TOKENS 400u

static char dir[256], folder[300], said[1100];
static int said_count;

static void listen(void *ctx, const char *line)
{
    (void)ctx;
    snprintf(said, sizeof said, "%s", line);
    said_count++;
}

static sl_prefix_cache *open_cache(sl_engine *engine, const char *where, uint64_t memory,
                                   uint64_t disk)
{
    sl_prefix_cache *cache;
    sl_error err = {0};
    const sl_prefix_cache_options opt = {.folder = where, .memory_bytes = memory,
                                         .disk_bytes = disk, .message = listen};
    if (sl_prefix_cache_open(&cache, engine, &opt, &err) != SL_OK) fail_msg("%s", err.message);
    return cache;
}

static void eval(sl_session *session, const int32_t *ids, size_t count, float *logits)
{
    sl_error err = {0};
    if (count == 0) return;
    if (sl_session_eval(session, ids, count, logits, NULL, NULL, &err) != SL_OK) {
        fail_msg("%s", err.message);
    }
}

/* A prompt as a server runs it: found, run to the boundary, kept, run to its end. */
static size_t prompt(sl_prefix_cache *cache, sl_session *session, const int32_t *ids, size_t count,
                     float *logits)
{
    size_t reused;
    sl_error err = {0};
    if (sl_prefix_cache_find(cache, session, ids, count, &reused, &err) != SL_OK) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(sl_session_position(session), reused);
    assert_true(reused < count);
    assert_memory_equal(sl_session_ids(session), ids, reused * sizeof *ids);
    size_t cut = sl_prefix_cache_boundary(cache, count - 1);
    if (cut > reused) {
        eval(session, ids + reused, cut - reused, NULL);
        assert_int_equal(sl_prefix_cache_keep(cache, session, &err), SL_OK);
    } else {
        cut = reused;
    }
    eval(session, ids + cut, count - cut, logits);
    return reused;
}

static const sl_engine_options plain = {.context_tokens = TOKENS, .sessions = 3, .threads = 1,
                                        .prefix_bytes = 64 << 20};

static uint64_t stat_of(const sl_prefix_cache *cache, size_t offset)
{
    sl_prefix_cache_stats stats;
    uint64_t value;
    sl_prefix_cache_stats_get(cache, &stats);
    memcpy(&value, (const char *)&stats + offset, sizeof value);
    return value;
}
#define STAT(cache, field) stat_of(cache, offsetof(sl_prefix_cache_stats, field))

/* Texts grow from each other's beginnings at random; two sessions take turns. */
static void same_answers(sl_engine *engine, sl_prefix_cache *cache, unsigned seed, bool decode)
{
    test_rng rng = {seed};
    int32_t ids[8][TOKENS];
    size_t counts[8] = {0};
    sl_error err = {0};
    sl_session *without = golden_session(engine);
    sl_session *with[2] = {golden_session(engine), golden_session(engine)};
    float want[TINY_VOCAB], got[TINY_VOCAB];
    for (unsigned turn = 0; turn < (test_fast() ? 20u : 60u); turn++) {
        unsigned to = test_rng_below(&rng, 8), from = test_rng_below(&rng, 8);
        size_t shared = counts[from] > 0 ? test_rng_below(&rng, (unsigned)counts[from] + 1) : 0;
        size_t count = shared + 1 + test_rng_below(&rng, 150);
        if (count > TOKENS - 4) count = TOKENS - 4;
        int32_t text[TOKENS];
        tiny_ids(seed * 1000 + turn, text, TOKENS);
        memcpy(text, ids[from], (shared < count ? shared : count) * sizeof text[0]);
        sl_session_reset(without);
        eval(without, text, count, want);
        sl_session *session = with[turn % 2];
        size_t reused = prompt(cache, session, text, count, got);
        if (memcmp(got, want, sizeof got) != 0) {
            fail_msg("seed %u, turn %u: %zu of %zu reused", seed, turn, reused, count);
        }
        for (size_t i = 0; decode && i < 3; i++) { /* an answer, which may be kept too */
            eval(without, text + count + i, 1, want);
            eval(session, text + count + i, 1, got);
            assert_memory_equal(got, want, sizeof got);
        }
        if (decode) {
            count += 3;
            assert_int_equal(sl_prefix_cache_keep(cache, session, &err), SL_OK);
        }
        memcpy(ids[to], text, sizeof text);
        counts[to] = count;
    }
    for (int i = 0; i < 2; i++)
        sl_session_destroy(with[i]);
    sl_session_destroy(without);
}

static void with_it_and_without(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (size_t m = 0; m < TINY_MODELS; m++) {
        for (int kv = SL_KV_F32; kv <= SL_KV_Q8; kv++) {
            sl_engine_options opt = plain;
            opt.kv = (sl_kv_type)kv;
            opt.threads = 1 + (uint32_t)kv;
            sl_engine *engine = golden_open(tiny_models[m], &opt);
            /* Large, too small for all, on a disk alone, and both. */
            static const uint64_t sizes[][2] = {{64 << 20, 0}, {1 << 20, 0}, {0, 4 << 20},
                                                {1 << 20, 64 << 20}};
            for (size_t i = 0; i < 4; i++) {
                sl_prefix_cache *cache =
                    open_cache(engine, sizes[i][1] ? folder : NULL, sizes[i][0], sizes[i][1]);
                said_count = 0;
                same_answers(engine, cache, seed++, i % 2 == 0);
                assert_int_equal(said_count, 0);
                printf("%s, kv %s, memory %llu, disk %llu: %llu of %llu found, %llu kept, %llu "
                       "went\n", tiny_models[m], sl_kv_type_name(opt.kv),
                       (unsigned long long)sizes[i][0], (unsigned long long)sizes[i][1],
                       (unsigned long long)STAT(cache, hits),
                       (unsigned long long)STAT(cache, finds),
                       (unsigned long long)STAT(cache, kept),
                       (unsigned long long)STAT(cache, evicted));
                assert_true(STAT(cache, kept) > 0);
                assert_true(i > 0 || test_fast() || STAT(cache, hits) > 0);
                assert_true(STAT(cache, memory_bytes) <= sizes[i][0]);
                assert_true(STAT(cache, disk_bytes) <= sizes[i][1]);
                sl_prefix_cache_close(cache);
            }
            sl_engine_close(engine);
            test_remove_tree(folder);
        }
    }
}

/* How much of a text is reused. */
static void what_is_reused(void **state)
{
    (void)state;
    int32_t a[TOKENS], b[TOKENS];
    float logits[TINY_VOCAB];
    for (size_t m = 0; m < TINY_MODELS; m++) {
        sl_engine *engine = golden_open(tiny_models[m], &plain);
        bool delta = sl__model_has_delta(&engine->desc);
        bool cuts = sl__snapshot_can_cut(&engine->desc);
        sl_prefix_cache *cache = open_cache(engine, NULL, 64 << 20, 0);
        sl_session *one = golden_session(engine), *two = golden_session(engine);
        sl_error err = {0};
        tiny_ids(1, a, TOKENS);
        assert_int_equal(sl_prefix_cache_boundary(cache, 200), delta ? 192 : 200);
        assert_int_equal(prompt(cache, one, a, 200, logits), 0);
        assert_int_equal(prompt(cache, two, a, 300, logits), delta ? 192 : 199);
        memcpy(b, a, sizeof b);
        b[150] ^= 1;
        assert_int_equal(prompt(cache, two, b, 300, logits), cuts ? 150 : 0);
        /* The same again: one token is left to be run. */
        assert_int_equal(prompt(cache, two, b, 300, logits), delta ? 256 : 299);
        /* A session that is where the text goes on copies nothing. */
        sl_session_reset(two);
        eval(two, b, 64, NULL);
        size_t reused;
        sl_session_reset(one);
        eval(one, a + 1, 64, NULL);
        assert_int_equal(sl_prefix_cache_find(cache, one, a + 1, 70, &reused, &err), SL_OK);
        assert_int_equal(reused, 64);
        eval(one, a + 65, 3, NULL); /* cuts DeltaNet's run */
        eval(one, a + 68, 1, NULL);
        uint64_t refused = STAT(cache, refused);
        assert_int_equal(sl_prefix_cache_keep(cache, one, &err), SL_OK);
        assert_int_equal(STAT(cache, refused) - refused, delta ? 1 : 0);
        assert_int_equal(sl_prefix_cache_find(cache, one, a + 1, 100, &reused, &err), SL_OK);
        assert_int_equal(reused, delta ? 0 : 68);
        sl_session_destroy(one);
        sl_session_destroy(two);
        sl_prefix_cache_close(cache);
        sl_engine_close(engine);
    }
}

/* With approximate answers an answer's end is kept too. */
static void approximate(void **state)
{
    (void)state;
    int32_t ids[TOKENS];
    float want[TINY_VOCAB], got[TINY_VOCAB];
    sl_engine *engine = golden_open(tiny_models[0], &plain);
    sl_prefix_cache *cache;
    sl_error err = {0};
    size_t reused;
    const sl_prefix_cache_options opt = {.memory_bytes = 1 << 20, .approximate = true};
    assert_int_equal(sl_prefix_cache_open(&cache, engine, &opt, &err), SL_OK);
    sl_session *session = golden_session(engine);
    tiny_ids(2, ids, TOKENS);
    eval(session, ids, 150, want);
    sl_session_reset(session);
    eval(session, ids, 100, NULL);
    for (size_t i = 100; i < 110; i++)
        eval(session, ids + i, 1, NULL);
    assert_int_equal(sl_prefix_cache_keep(cache, session, &err), SL_OK);
    sl_session_reset(session);
    assert_int_equal(sl_prefix_cache_find(cache, session, ids, 150, &reused, &err), SL_OK);
    assert_int_equal(reused, 110);
    eval(session, ids + 110, 40, got);
    assert_true(golden_relative(got, want, TINY_VOCAB) < 1e-4);
    sl_session_destroy(session);
    sl_prefix_cache_close(cache);
    sl_engine_close(engine);
}

/* ---- the folder ------------------------------------------------------------------------------ */

/* The one file whose name ends so. */
static void only_file(char out[600], const char *end)
{
    DIR *d = opendir(folder);
    assert_non_null(d);
    out[0] = '\0';
    for (struct dirent *e; (e = readdir(d));) {
        size_t n = strlen(e->d_name), m = strlen(end);
        if (n < m || strcmp(e->d_name + n - m, end) != 0) continue;
        assert_string_equal(out, "");
        snprintf(out, 600, "%s/%s", folder, e->d_name);
    }
    closedir(d);
}

static void outlives_the_process(void **state)
{
    (void)state;
    int32_t ids[TOKENS];
    float logits[TINY_VOCAB];
    char file[600], partial[700], other[700];
    tiny_ids(3, ids, TOKENS);
    for (size_t m = 0; m < TINY_MODELS; m++) {
        for (int damage = 0; damage < 5; damage++) {
            sl_engine *engine = golden_open(tiny_models[m], &plain);
            sl_prefix_cache *cache = open_cache(engine, folder, 0, 8 << 20), *second;
            sl_session *session = golden_session(engine);
            sl_error err = {0};
            assert_int_equal(prompt(cache, session, ids, 129, logits), 0);
            assert_int_equal(STAT(cache, disk_entries), 1);
            const sl_prefix_cache_options opt = {.folder = folder};
            damage_check("lock", sl_prefix_cache_open(&second, engine, &opt, &err), &err,
                         SL_EINVAL, folder, "another cache of this model has the folder");
            sl_session_destroy(session);
            sl_prefix_cache_close(cache);
            sl_engine_close(engine);
            only_file(file, ".snapshot");
            snprintf(partial, sizeof partial, "%s.partial", file);
            test_write_file(partial, "x", 1);
            snprintf(other, sizeof other, "%s/%s", folder, "0000000000000000-1-1.snapshot");
            test_write_file(other, "x", 1);
            if (damage == 1) damage_truncate(file, damage_size(file) - 1);
            if (damage == 2) damage_flip(file, 30, 4);
            if (damage == 3) damage_flip(file, damage_size(file) - 9, 4);
            if (damage == 4) test_write_file(file, "", 0);
            said_count = 0;
            said[0] = '\0';
            engine = golden_open(tiny_models[m], &plain);
            cache = open_cache(engine, folder, 8 << 20, 8 << 20);
            session = golden_session(engine);
            assert_int_equal(access(partial, F_OK), -1);
            assert_int_equal(access(other, F_OK), 0); /* another model's */
            assert_int_equal(prompt(cache, session, ids, 140, logits), damage ? 0 : 128);
            assert_int_equal(said_count, damage ? 1 : 0);
            assert_int_equal(STAT(cache, damaged), damage ? 1 : 0);
            if (damage) assert_non_null(strstr(said, file));
            if (!damage) assert_true(STAT(cache, memory_entries) >= 1); /* promoted */
            sl_session_destroy(session);
            sl_prefix_cache_close(cache);
            sl_engine_close(engine);
            test_remove_tree(folder);
        }
    }
}

/* What was used longest ago goes first. */
static void the_oldest_goes(void **state)
{
    (void)state;
    int32_t text[4][TOKENS];
    size_t reused;
    sl_error err = {0};
    sl_engine *engine = golden_open(tiny_models[0], &plain);
    sl_session *session = golden_session(engine);
    for (unsigned i = 0; i < 4; i++)
        tiny_ids(50 + i, text[i], TOKENS);
    eval(session, text[0], 64, NULL);
    uint64_t bytes = sl__snapshot_bytes(session);
    for (int disk = 0; disk < 2; disk++) {
        sl_prefix_cache *cache = open_cache(engine, disk ? folder : NULL, disk ? 0 : 3 * bytes,
                                            disk ? 3 * bytes : 0);
        for (unsigned i = 0; i < 4; i++) {
            sl_session_reset(session);
            eval(session, text[i], 64, NULL);
            assert_int_equal(sl_prefix_cache_keep(cache, session, &err), SL_OK);
            if (i != 2) continue;
            sl_session_reset(session);
            sl_prefix_cache_find(cache, session, text[0], 65, &reused, &err);
            assert_int_equal(reused, 64);
        }
        assert_int_equal(STAT(cache, evicted), 1);
        static const size_t want[] = {64, 0, 64, 64};
        for (unsigned i = 0; i < 4; i++) {
            sl_session_reset(session);
            assert_int_equal(sl_prefix_cache_find(cache, session, text[i], 65, &reused, &err),
                             SL_OK);
            assert_int_equal(reused, want[i]);
        }
        sl_prefix_cache_close(cache);
    }
    sl_session_destroy(session);
    sl_engine_close(engine);
    test_remove_tree(folder);
}

static void wrong_calls(void **state)
{
    (void)state;
    sl_engine_options opt = plain;
    opt.prefix_bytes = 1 << 20;
    sl_engine *engine = golden_open(tiny_models[2], &opt);
    sl_engine *other = golden_open(tiny_models[2], &plain);
    sl_session *session = golden_session(other);
    sl_prefix_cache *cache, *second;
    sl_prefix_cache_options large = {.memory_bytes = (1 << 20) + 1};
    sl_error err = {0};
    size_t reused;
    const int32_t ids[] = {1, 2};
    engine->plan.budget = sl__plan_used(&engine->plan) + engine->plan.cache;
    damage_check("room", sl_prefix_cache_open(&cache, engine, &large, &err), &err, SL_EBUDGET,
                 tiny_models[2], "1.0 MiB for kept prompts were asked for");
    sl_error_clear(&err);
    large.memory_bytes--;
    assert_int_equal(sl_prefix_cache_open(&cache, engine, &large, &err), SL_OK);
    large.memory_bytes = 1;
    assert_int_equal(sl_prefix_cache_open(&second, engine, &large, &err), SL_EBUDGET);
    sl_error_clear(&err);
    damage_check("find", sl_prefix_cache_find(cache, session, ids, 2, &reused, &err), &err,
                 SL_EINVAL, "", "another engine");
    sl_error_clear(&err);
    damage_check("keep", sl_prefix_cache_keep(cache, session, &err), &err, SL_EINVAL, "",
                 "another engine");
    sl_error_clear(&err);
    sl_prefix_cache_close(cache);
    cache = open_cache(other, NULL, 1 << 20, 0);
    damage_check("find", sl_prefix_cache_find(cache, session, ids, 0, &reused, &err), &err,
                 SL_EINVAL, "", "no tokens");
    sl_error_clear(&err);
    session->failed = true;
    damage_check("keep", sl_prefix_cache_keep(cache, session, &err), &err, SL_EINVAL, "",
                 "must be reset");
    sl_error_clear(&err);
    assert_int_equal(sl_prefix_cache_find(cache, session, ids, 2, &reused, &err), SL_OK);
    assert_int_equal(reused, 0);
    eval(session, ids, 2, NULL);
    sl_prefix_cache_close(cache);
    large = (sl_prefix_cache_options){.folder = "/dev/null/x"};
    damage_check("folder", sl_prefix_cache_open(&cache, other, &large, &err), &err, SL_EIO,
                 "/dev/null/x", "");
    sl_session_destroy(session);
    sl_engine_close(engine);
    sl_engine_close(other);
}

int main(void)
{
    test_temp_dir(dir, sizeof dir);
    snprintf(folder, sizeof folder, "%s/kept", dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_reused),     cmocka_unit_test(with_it_and_without),
        cmocka_unit_test(approximate),        cmocka_unit_test(outlives_the_process),
        cmocka_unit_test(the_oldest_goes),    cmocka_unit_test(wrong_calls),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_tree(dir);
    return bad;
}
