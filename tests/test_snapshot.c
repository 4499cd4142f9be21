/* Snapshots: a session that goes on from one gives the bits of the session that was saved, at every
 * position where something changes; a snapshot that is not right says what is wrong with it, and
 * leaves the session as it was, or reset. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "damage.h"
#include "engine/snapshot.h"
#include "golden.h"
#include "test_env.h"
#include "tiny.h"

#define TOKENS 700u
#define AFTER  100u /* tokens after a snapshot: 99 in one call, one in another */

static char dir[256], path[300];
static int32_t ids[TOKENS];

static void eval(sl_session *session, uint32_t from, uint32_t count, float *logits)
{
    sl_error err = {0};
    if (sl_session_eval(session, ids + from, count, logits, NULL, NULL, &err) != SL_OK) {
        fail_msg("%s", err.message);
    }
}

/* What follows position p, [2, TINY_VOCAB]. */
static void go_on(sl_session *session, uint32_t p, float *logits)
{
    eval(session, p, AFTER - 1, logits);
    eval(session, p + AFTER - 1, 1, logits + TINY_VOCAB);
}

static void must(sl_status status, const sl_error *err)
{
    if (status != SL_OK) fail_msg("%s", err->message);
}

/* Saved at `position` in one engine, gone on from in it and in another with other chunks. */
static void try_position(sl_session *saved, sl_session *copied, sl_session *loaded,
                         uint32_t position)
{
    float want[2 * TINY_VOCAB], got[2 * TINY_VOCAB];
    sl_error err = {0};
    sl_session_reset(saved);
    if (position > 1) eval(saved, 0, position - 1, NULL);
    if (position > 0) eval(saved, position - 1, 1, NULL);
    must(sl_session_save(saved, path, &err), &err);
    assert_int_equal(damage_size(path), sl__snapshot_bytes(saved));
    must(sl_session_copy(copied, saved, &err), &err);
    go_on(saved, position, want);
    go_on(copied, position, got);
    assert_memory_equal(got, want, sizeof got);
    for (int again = 0; again < 2; again++) { /* over an empty session, and over a full one */
        must(sl_session_load(loaded, path, &err), &err);
        assert_int_equal(sl_session_position(loaded), position);
        assert_memory_equal(sl_session_ids(loaded), ids, position * sizeof ids[0]);
        go_on(loaded, position, got);
        if (memcmp(got, want, sizeof got) != 0) fail_msg("position %u", position);
    }
    must(sl_session_load(loaded, path, &err), &err);
}

static void goes_on_everywhere(void **state)
{
    (void)state;
    static const uint32_t positions[] = {0,  1,  7,  8,   9,   31,  32,  33,  39, 40,
                                         63, 64, 65, 128, 300, 511, 512, 513, 600};
    for (size_t m = 0; m < TINY_MODELS; m++) {
        char model[300], pack[300];
        snprintf(model, sizeof model, "%s/model-%zu", dir, m);
        snprintf(pack, sizeof pack, "%s/pack-%zu", dir, m);
        tiny_copy(tiny_models[m], model);
        tiny_pack(tiny_models[m], pack);
        for (int kv = SL_KV_F32; kv <= SL_KV_Q8; kv++) {
            sl_engine_options opt = {.kv = (sl_kv_type)kv, .context_tokens = TOKENS,
                                     .chunk_tokens = 64, .threads = 1, .sessions = 2,
                                     .follow_memory = SL_OFF};
            if (kv == SL_KV_F16) opt.activations = SL_ACTIVATIONS_Q8;
            const char *use = kv == SL_KV_F16 ? pack : model;
            sl_engine *one = golden_open(use, &opt);
            opt.context_tokens = TOKENS + 50;
            opt.chunk_tokens = 256;
            opt.threads = 3;
            sl_engine *two = golden_open(use, &opt);
            sl_session *saved = golden_session(one), *copied = golden_session(one);
            sl_session *loaded = golden_session(two);
            for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
                if (test_fast() && i % 3 != (size_t)kv) continue;
                try_position(saved, copied, loaded, positions[i]);
            }
            sl_session_destroy(saved);
            sl_session_destroy(copied);
            sl_session_destroy(loaded);
            sl_engine_close(one);
            sl_engine_close(two);
        }
    }
}

/* The same bytes whatever was in the session before, and nothing of it. */
static void nothing_of_another_text(void **state)
{
    (void)state;
    for (size_t m = 0; m < TINY_MODELS; m++) {
        for (int kv = SL_KV_F32; kv <= SL_KV_Q8; kv++) {
            const sl_engine_options opt = {.kv = (sl_kv_type)kv, .context_tokens = 256,
                                           .sessions = 2};
            sl_engine *engine = golden_open(tiny_models[m], &opt);
            sl_session *fresh = golden_session(engine), *used = golden_session(engine);
            char other[320];
            size_t a, b;
            sl_error err = {0};
            snprintf(other, sizeof other, "%s.other", path);
            eval(used, 100, 200, NULL);
            sl_session_reset(used);
            eval(used, 0, 37, NULL);
            eval(fresh, 0, 37, NULL);
            must(sl_session_save(fresh, path, &err), &err);
            must(sl_session_save(used, other, &err), &err);
            char *x = test_read_file(path, &a), *y = test_read_file(other, &b);
            assert_int_equal(a, b);
            assert_memory_equal(x, y, a);
            free(x);
            free(y);
            sl_session_destroy(fresh);
            sl_session_destroy(used);
            sl_engine_close(engine);
        }
    }
}

/* ---- what is wrong --------------------------------------------------------------------------- */

static const sl_engine_options plain = {.context_tokens = 128, .sessions = 2, .threads = 1};

/* Loading fails so, and the session is as it was, or reset. */
static void expect(sl_session *session, sl_status status, const char *thing)
{
    float want[TINY_VOCAB], got[TINY_VOCAB];
    sl_error err = {0};
    sl_session_reset(session);
    eval(session, 50, 19, NULL);
    eval(session, 69, 1, want);
    sl_session_reset(session);
    eval(session, 50, 19, NULL);
    damage_check(thing, sl_session_load(session, path, &err), &err, status, path, thing);
    if (sl_session_position(session) == 0) eval(session, 50, 19, NULL);
    eval(session, 69, 1, got);
    assert_memory_equal(got, want, sizeof got);
}

/* Sets a number of the header and mends its hash. */
static void set_header(uint64_t at, uint32_t value)
{
    size_t size;
    char *data = test_read_file(path, &size);
    memcpy(data + at, &value, sizeof value);
    uint64_t hash = sl__hash64(data, 120);
    memcpy(data + 120, &hash, sizeof hash);
    test_write_file(path, data, size);
    free(data);
}

static void wrong_headers(void **state)
{
    (void)state;
    static const struct {
        uint64_t at;
        uint32_t value;
        sl_status status;
        const char *thing;
    } cases[] = {
        {0, 1, SL_EFORMAT, "not a snapshot"},
        {8, 2, SL_EUNSUPPORTED, "a snapshot of version 2; this is 1"},
        {16, 1, SL_EINVAL, "a snapshot of another model"},
        {24, SL_KV_F16, SL_EINVAL, "keys and values are kept as f16 in the snapshot, as f32 here"},
        {24, 9, SL_EINVAL, "kept as unknown"},
        {28, 1, SL_EINVAL, "made with activations of q8, here they are f32"},
        {32, 1, SL_EINVAL, "made with 1 experts a token"},
        {36, 7, SL_EINVAL, "DeltaNet in runs of 7 tokens, here they are 64"},
        {40, 'x', SL_EINVAL, "made with kernels of level x"},
        {52, 0x7f000000, SL_EFORMAT, "makes no sense"},
        {56, 36, SL_EFORMAT, "sizes are not those of 36 tokens"},
        {56, UINT32_MAX, SL_EFORMAT, "sizes are not those of"},
        {60, 2, SL_EFORMAT, "makes no sense"},
        {72, 4, SL_ECORRUPT, "table differs"},
        {72, 0, SL_EFORMAT, "makes no sense"},
        {72, UINT32_MAX, SL_EFORMAT, "makes no sense"},
        {80, 1000, SL_EFORMAT, "has something behind it"},
        {84, 1, SL_EFORMAT, "is cut short"},
        {88, 0, SL_ECORRUPT, "table differs"},
    };
    sl_engine *engine = golden_open(tiny_models[0], &plain);
    sl_session *saved = golden_session(engine), *session = golden_session(engine);
    eval(saved, 0, 37, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sl_error err = {0};
        must(sl_session_save(saved, path, &err), &err);
        set_header(cases[i].at, cases[i].value);
        expect(session, cases[i].status, cases[i].thing);
    }
    sl_session_destroy(saved);
    sl_session_destroy(session);
    sl_engine_close(engine);
}

static void damaged_bytes(void **state)
{
    (void)state;
    test_rng rng = {4};
    for (size_t m = 0; m < TINY_MODELS; m++) {
        sl_engine *engine = golden_open(tiny_models[m], &plain);
        sl_session *saved = golden_session(engine), *session = golden_session(engine);
        sl_error err = {0};
        eval(saved, 0, 37, NULL);
        must(sl_session_save(saved, path, &err), &err);
        uint64_t size = damage_size(path);
        uint64_t table = SL_SNAPSHOT_HEADER + 5 * SL_SNAPSHOT_SECTION, end = table + 37 * 4;
        const struct {
            uint64_t from, to;
            const char *thing;
        } ranges[] = {{16, 128, "header differs"},
                      {128, table, "table differs"},
                      {table, end, "tokens differ from their checksum"},
                      {end, end + 1, "layer 0 of the snapshot differs from its checksum"},
                      {size - 1, size, "layer 3 of the snapshot differs from its checksum"}};
        for (size_t i = 0; i < 5; i++) {
            uint64_t n = ranges[i].to - ranges[i].from;
            for (int times = 0; times < (n > 1 ? 6 : 1); times++) {
                uint64_t at = ranges[i].from + test_rng_below(&rng, (unsigned)n);
                uint8_t mask = (uint8_t)(1u << test_rng_below(&rng, 8));
                damage_flip(path, at, mask);
                expect(session, SL_ECORRUPT, ranges[i].thing);
                damage_flip(path, at, mask);
            }
        }
        const uint64_t cuts[] = {size - 1, size / 2, 200, 129, 128};
        for (size_t i = 0; i < 5; i++) {
            damage_truncate(path, cuts[i]);
            expect(session, SL_EFORMAT, "the snapshot is cut short");
        }
        damage_truncate(path, 127);
        expect(session, SL_EFORMAT, "not a snapshot");
        damage_truncate(path, 0);
        expect(session, SL_EFORMAT, "not a snapshot");
        sl_session_destroy(saved);
        sl_session_destroy(session);
        sl_engine_close(engine);
    }
}

/* A snapshot whose checksums are right and whose tokens are none. */
static void ids_outside_the_vocabulary(void **state)
{
    (void)state;
    sl_engine *engine = golden_open(tiny_models[1], &plain);
    sl_session *saved = golden_session(engine), *session = golden_session(engine);
    sl_error err = {0};
    eval(saved, 0, 10, NULL);
    saved->ids[3] = 512;
    must(sl_session_save(saved, path, &err), &err);
    expect(session, SL_EFORMAT, "token 3 of the snapshot: id 512 is outside the vocabulary");
    sl_session_destroy(saved);
    sl_session_destroy(session);
    sl_engine_close(engine);
}

static void of_something_else(void **state)
{
    (void)state;
    sl_engine *engine = golden_open(tiny_models[2], &plain), *other;
    sl_session *saved = golden_session(engine), *session;
    sl_error err = {0};
    eval(saved, 0, 100, NULL);
    must(sl_session_save(saved, path, &err), &err);
    sl_engine_options opt = plain;
    opt.context_tokens = 99;
    other = golden_open(tiny_models[2], &opt);
    session = golden_session(other);
    expect(session, SL_EINVAL, "the snapshot has 100 tokens, and the context is 99");
    damage_check("copy", sl_session_copy(session, saved, &err), &err, SL_EINVAL, "",
                 "another engine");
    sl_session_destroy(session);
    sl_engine_close(other);
    opt = plain;
    opt.experts_per_token = 1;
    other = golden_open(tiny_models[2], &opt);
    session = golden_session(other);
    expect(session, SL_EINVAL, "experts a token, here there are 1");
    sl_session_destroy(session);
    sl_engine_close(other);
    other = golden_open(tiny_models[3], &plain);
    session = golden_session(other);
    expect(session, SL_EINVAL, "another model");
    sl_session_destroy(session);
    sl_engine_close(other);
    sl_session_destroy(saved);
    sl_engine_close(engine);
}

/* A pack may lie elsewhere; one of other bits is another model. */
static void packs(void **state)
{
    (void)state;
    char one[300], moved[300], q2[300];
    sl_error err = {0};
    snprintf(one, sizeof one, "%s/one", dir);
    snprintf(moved, sizeof moved, "%s/moved", dir);
    snprintf(q2, sizeof q2, "%s/q2", dir);
    tiny_pack(tiny_models[2], one);
    const sl_pack_options opt = {.experts = "q2", .resident = "q8"};
    must(sl_pack(tiny_models[2], q2, &opt, &err), &err);
    sl_engine *engine = golden_open(one, &plain);
    sl_session *session = golden_session(engine);
    eval(session, 0, 20, NULL);
    must(sl_session_save(session, path, &err), &err);
    sl_session_destroy(session);
    sl_engine_close(engine);
    assert_int_equal(rename(one, moved), 0);
    engine = golden_open(moved, &plain);
    session = golden_session(engine);
    must(sl_session_load(session, path, &err), &err);
    sl_session_destroy(session);
    sl_engine_close(engine);
    engine = golden_open(q2, &plain);
    session = golden_session(engine);
    expect(session, SL_EINVAL, "another model");
    sl_session_destroy(session);
    sl_engine_close(engine);
}

static void saving_fails(void **state)
{
    (void)state;
    sl_engine *engine = golden_open(tiny_models[1], &plain);
    sl_session *session = golden_session(engine);
    sl_error err = {0};
    char nowhere[400], folder[400];
    struct stat st;
    eval(session, 0, 20, NULL);
    must(sl_session_save(session, path, &err), &err);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    snprintf(nowhere, sizeof nowhere, "%s/nowhere/x", dir);
    snprintf(folder, sizeof folder, "%s/folder", dir);
    damage_check("save", sl_session_save(session, nowhere, &err), &err, SL_EIO, "",
                 "No such file");
    sl_error_clear(&err);
    assert_int_equal(mkdir(folder, 0755), 0);
    damage_check("save", sl_session_save(session, folder, &err), &err, SL_EIO, folder,
                 "directory");
    strcat(folder, ".partial");
    assert_false(sl__file_exists(folder));
    sl_error_clear(&err);
    damage_check("save", sl_session_save(session, "", &err), &err, SL_EINVAL, "", "no path");
    sl_error_clear(&err);
    damage_check("load", sl_session_load(session, nowhere, &err), &err, SL_EIO, nowhere,
                 "No such file");
    sl_error_clear(&err);
    session->failed = true;
    damage_check("failed", sl_session_save(session, path, &err), &err, SL_EINVAL, path,
                 "must be reset");
    sl_error_clear(&err);
    must(sl_session_load(session, path, &err), &err); /* the one from before is still whole */
    eval(session, 20, 1, NULL);
    sl_session_destroy(session);
    sl_engine_close(engine);
}

int main(int argc, char **argv)
{
    test_temp_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/snapshot", dir);
    tiny_ids(5, ids, TOKENS);
    if (argc == 3 && strcmp(argv[1], "--corpus") == 0) { /* writes fuzz_snapshot's inputs */
        const sl_engine_options opt = {.kv = SL_KV_Q8, .context_tokens = 128};
        sl_engine *engine = golden_open(tiny_models[3], &opt);
        sl_session *session = golden_session(engine);
        sl_error err = {0};
        char name[512];
        for (uint32_t n = 0; n <= 3; n += 3) {
            if (n > 0) eval(session, 0, n, NULL);
            snprintf(name, sizeof name, "%s/tokens_%u", argv[2], n);
            must(sl_session_save(session, name, &err), &err);
        }
        sl_session_destroy(session);
        sl_engine_close(engine);
        test_remove_tree(dir);
        return 0;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(goes_on_everywhere),
        cmocka_unit_test(nothing_of_another_text),
        cmocka_unit_test(wrong_headers),
        cmocka_unit_test(damaged_bytes),
        cmocka_unit_test(ids_outside_the_vocabulary),
        cmocka_unit_test(of_something_else),
        cmocka_unit_test(packs),
        cmocka_unit_test(saving_fails),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_tree(dir);
    return bad;
}
