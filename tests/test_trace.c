/* Traces of routing: what is written comes back; every way a file can be wrong has its message; a
 * trace that could not be completed leaves nothing; recording changes no result. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "cache/trace.h"
#include "cache/trace_format.h"
#include "test_env.h"

static char dir[256];

static void path_in(char out[300], const char *name) { snprintf(out, 300, "%s/%s", dir, name); }

static int make_dir(void **state)
{
    (void)state;
    test_temp_dir(dir, sizeof dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    test_remove_tree(dir);
    return 0;
}

static void shuffle(test_rng *rng, uint32_t *ids, uint32_t experts, uint32_t n)
{
    for (uint32_t e = 0; e < experts; e++)
        ids[e] = e;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = i + test_rng_below(rng, experts - i), id = ids[j];
        ids[j] = ids[i];
        ids[i] = id;
    }
}

static void assert_no_file(const char *path)
{
    char tmp[310];
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    assert_false(sl__file_exists(path));
    assert_false(sl__file_exists(tmp));
}

/* ---- there and back -------------------------------------------------------------------------- */

/* Layers in chunks, one without records, ranks shorter and longer than the depth. */
static void there_and_back(const sl__trace_shape *shape, uint32_t tokens, unsigned seed)
{
    char path[300];
    sl_error err = {0};
    sl__trace_writer *w;
    test_rng rng = {seed};
    uint32_t dense = shape->layers > 1 ? test_rng_below(&rng, shape->layers) : UINT32_MAX;
    uint32_t *ids = calloc(shape->experts, sizeof *ids);
    uint32_t *more = calloc(shape->experts, sizeof *more);
    size_t lists = (size_t)tokens * shape->layers;
    uint16_t *want = malloc(lists * shape->depth * sizeof *want);
    uint16_t *predicted = malloc(lists * shape->k * sizeof *predicted);
    assert_true(ids && more && want && predicted);
    memset(want, 0xff, lists * shape->depth * sizeof *want);
    memset(predicted, 0xff, lists * shape->k * sizeof *predicted);
    path_in(path, "trace");
    assert_int_equal(sl__trace_create(&w, path, shape, &err), SL_OK);
    uint32_t chunk = 1 + test_rng_below(&rng, 5), rows = dense == UINT32_MAX ? shape->layers
                                                                            : shape->layers - 1;
    for (uint32_t first = 0; first < tokens; first += chunk) {
        uint32_t row = 0;
        for (uint32_t l = 0; l < shape->layers; l++) {
            if (l == dense) continue;
            for (uint32_t t = first; t < first + chunk && t < tokens; t++) {
                uint32_t n = shape->k + test_rng_below(&rng, shape->experts - shape->k + 1);
                bool ahead = test_rng_below(&rng, 2);
                shuffle(&rng, ids, shape->experts, n);
                shuffle(&rng, more, shape->experts, shape->k);
                size_t at = (size_t)t * rows + row;
                for (uint32_t i = 0; i < n && i < shape->depth; i++)
                    want[at * shape->depth + i] = (uint16_t)ids[i];
                for (uint32_t i = 0; ahead && i < shape->k; i++)
                    predicted[at * shape->k + i] = (uint16_t)more[i];
                sl__trace_token(w, l, ids, n, shape->k, more, ahead ? shape->k : shape->k - 1);
            }
            row++;
        }
    }
    assert_false(sl__file_exists(path));
    assert_int_equal(sl__trace_finish(w, &err), SL_OK);
    sl__trace trace;
    assert_int_equal(sl__trace_read(&trace, path, &err), SL_OK);
    assert_true(trace.tokens == tokens && trace.layers == rows && trace.k == shape->k);
    assert_true(trace.depth == shape->depth && trace.experts == shape->experts);
    assert_memory_equal(trace.ranked, want, (size_t)tokens * rows * shape->depth * 2);
    assert_memory_equal(trace.predicted, predicted, (size_t)tokens * rows * shape->k * 2);
    sl__trace_free(&trace);
    unlink(path);
    assert_no_file(path);
    free(ids);
    free(more);
    free(want);
    free(predicted);
}

static void test_there_and_back(void **state)
{
    (void)state;
    const sl__trace_shape shapes[] = {
        {1, 1, 1, 1}, {3, 8, 2, 8}, {4, 255, 8, 32}, {2, 256, 8, 9}, {5, 40, 40, 40},
        {2, 3000, 6, 24}};
    for (unsigned i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        there_and_back(&shapes[i], i == 2 ? 1500 : 17, i + 1);
}

/* ---- writing that fails ---------------------------------------------------------------------- */

static const sl__trace_shape plain = {2, 8, 2, 4};

static void test_refused(void **state)
{
    (void)state;
    char path[300], want[400];
    sl__trace_writer *w;
    path_in(path, "there");
    test_write_file(path, "x", 1);
    sl_error err = {0};
    assert_int_equal(sl__trace_create(&w, path, &plain, &err), SL_EINVAL);
    snprintf(want, sizeof want, "%s: already exists; a trace overwrites nothing", path);
    assert_string_equal(err.message, want);
    assert_null(w);
    unlink(path);
    sl_error_clear(&err);
    path_in(path, "none/there");
    assert_int_equal(sl__trace_create(&w, path, &plain, &err), SL_EIO);
    snprintf(want, sizeof want, "%s.tmp: No such file or directory", path);
    assert_string_equal(err.message, want);
    const sl__trace_shape bad[] = {{0, 8, 2, 4},     {2, 8, 0, 4},      {2, 8, 5, 4},
                                   {2, 8, 2, 9},     {5000, 8, 2, 4},   {1, 70000, 2, 4},
                                   {4096, 1000, 2, 4}};
    path_in(path, "bad");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sl_error_clear(&err);
        assert_int_equal(sl__trace_create(&w, path, &bad[i], &err), SL_EINVAL);
        assert_non_null(strstr(err.message, "no trace of"));
        assert_no_file(path);
    }
}

static void test_discarded(void **state)
{
    (void)state;
    char path[300];
    sl__trace_writer *w;
    path_in(path, "gone");
    assert_int_equal(sl__trace_create(&w, path, &plain, NULL), SL_OK);
    sl__trace_token(w, 0, (uint32_t[]){1, 2}, 2, 2, NULL, 0);
    sl__trace_discard(w);
    assert_no_file(path);
    sl__trace_discard(NULL);
}

/* The name comes into use while the trace is written. */
static void test_overtaken(void **state)
{
    (void)state;
    char path[300];
    size_t size;
    sl_error err = {0};
    sl__trace_writer *w;
    path_in(path, "overtaken");
    assert_int_equal(sl__trace_create(&w, path, &plain, NULL), SL_OK);
    test_write_file(path, "mine", 4);
    assert_int_equal(sl__trace_finish(w, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "already exists"));
    char *data = test_read_file(path, &size);
    assert_string_equal(data, "mine");
    free(data);
    unlink(path);
    assert_no_file(path);
}

/* A full disk is told at the end, and leaves nothing. */
static void test_full_disk(void **state)
{
    (void)state;
    char path[300], tmp[310];
    struct stat st;
    if (stat("/dev/full", &st) != 0) skip();
    path_in(path, "full");
    snprintf(tmp, sizeof tmp, "%s.tmp", path);
    assert_int_equal(symlink("/dev/full", tmp), 0); /* what is written goes there */
    sl_error err = {0};
    sl__trace_writer *w;
    assert_int_equal(sl__trace_create(&w, path, &plain, &err), SL_OK);
    for (int i = 0; i < 100000; i++)
        sl__trace_token(w, 0, (uint32_t[]){1, 2}, 2, 2, NULL, 0);
    assert_int_equal(sl__trace_finish(w, &err), SL_EIO);
    assert_non_null(strstr(err.message, "No space left on device"));
    assert_no_file(path);
}

/* ---- files that are none --------------------------------------------------------------------- */

/* Two tokens of both layers, depth 4, the second predicted. */
static size_t good_bytes(unsigned char *out)
{
    char path[300];
    size_t size;
    sl__trace_writer *w;
    path_in(path, "good");
    assert_int_equal(sl__trace_create(&w, path, &plain, NULL), SL_OK);
    for (uint32_t i = 0; i < 4; i++)
        sl__trace_token(w, i % 2, (uint32_t[]){i, 7, 5}, 3, 2, (uint32_t[]){1, 0}, i / 2 * 2);
    assert_int_equal(sl__trace_finish(w, NULL), SL_OK);
    char *data = test_read_file(path, &size);
    memcpy(out, data, size);
    free(data);
    unlink(path);
    return size;
}

typedef struct damage {
    size_t at;
    unsigned char value;
    sl_status status;
    const char *message;
} damage;

static void expect(const unsigned char *data, size_t size, sl_status status, const char *message)
{
    sl__trace trace;
    sl_error err = {0};
    unsigned char *copy = malloc(size ? size : 1); /* its end is watched in sanitizer builds */
    assert_non_null(copy);
    memcpy(copy, data, size);
    assert_int_equal(sl__trace_parse(&trace, copy, size, "t", &err), status);
    assert_string_equal(err.message, message);
    assert_null(trace.ranked);
    free(copy);
}

static void test_damage(void **state)
{
    (void)state;
    unsigned char data[200];
    size_t size = good_bytes(data);
    assert_int_equal(size, 40 + 2 * 6 + 2 * 8);
    const damage cases[] = {
        {0, 'S', SL_EFORMAT, "t: not a trace of routing"},
        {8, 2, SL_EUNSUPPORTED, "t: version 2 of the format; 1 is read"},
        {12, 0, SL_EFORMAT, "t: 0 layers, 8 experts, 2 of them a token, 4 ranks: no such trace is "
                            "written"},
        {20, 5, SL_EFORMAT, "t: 2 layers, 8 experts, 5 of them a token, 4 ranks: no such trace is "
                            "written"},
        {28, 1, SL_EFORMAT, "t: 2 layers, 8 experts, 2 of them a token, 4 ranks: no such trace is "
                            "written"},
        {32, 5, SL_EFORMAT, "t: ends in record 4 of 5"},
        {32, 3, SL_EFORMAT, "t: 8 bytes follow the last of 3 records"},
        {39, 0x80, SL_EFORMAT, "t: ends in record 4 of 9223372036854775812"},
        {32, 0, SL_EFORMAT, "t: 28 bytes follow the last of 0 records"},
        {40, 2, SL_EFORMAT, "t: record 0: layer 2 of 2"},
        {41, 0x40, SL_EFORMAT, "t: record 0: layer 16384 of 2"},
        {42, 8, SL_EFORMAT, "t: record 0: expert 8 at rank 0"},
        {42, 7, SL_EFORMAT, "t: record 0: expert 7 at rank 1"},
        {43, 0xff, SL_EFORMAT, "t: record 0: expert 255 at rank 1"},
        {44, 0, SL_EFORMAT, "t: record 0: expert 0 at rank 2"},
        {45, 9, SL_EFORMAT, "t: record 0: expert 9 at rank 3"},
        {59, 1, SL_EFORMAT, "t: record 2: expert 1 at rank 1"},
        {59, 0xff, SL_EFORMAT, "t: record 2: expert 255 at rank 1"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        unsigned char kept = data[cases[i].at];
        data[cases[i].at] = cases[i].value;
        expect(data, size, cases[i].status, cases[i].message);
        data[cases[i].at] = kept;
    }
    data[44] = 0xff; /* a rank that is not told, before one that is */
    data[45] = 5;
    expect(data, size, SL_EFORMAT, "t: record 0: expert 5 at rank 3");
    size = good_bytes(data);
    for (size_t cut = 0; cut < size; cut++) {
        sl__trace trace;
        assert_int_equal(sl__trace_parse(&trace, data, cut, "t", NULL), SL_EFORMAT);
    }
    data[32] = 0;
    expect(data, 40, SL_EFORMAT, "t: holds no token");
}

/* A pass that was interrupted: the last token is left out. */
static void test_uneven(void **state)
{
    (void)state;
    unsigned char data[200];
    size_t size = good_bytes(data);
    data[32] = 3;
    sl__trace trace;
    assert_int_equal(sl__trace_parse(&trace, data, size - 8, "t", NULL), SL_OK);
    assert_true(trace.tokens == 1 && trace.layers == 2);
    assert_int_equal(sl__trace_ranked(&trace, 0, 1)[0], 1);
    assert_int_equal(sl__trace_ranked(&trace, 0, 1)[3], SL_TRACE_NONE);
    assert_int_equal(sl__trace_predicted(&trace, 0, 1)[0], SL_TRACE_NONE);
    sl__trace_free(&trace);
}

/* ---- a model's ------------------------------------------------------------------------------- */

static const char demo[] = "../models/demo";

static void eval(sl_session *session, const int32_t *ids, size_t count, float *logits)
{
    sl_error err = {0};
    sl_session_reset(session);
    assert_int_equal(sl_session_eval(session, ids, count, logits, NULL, NULL, &err), SL_OK);
}

static void test_of_the_demo(void **state)
{
    (void)state;
    enum { TOKENS = 100, VOCAB = 8192 };
    char path[300], other[300];
    static float before[VOCAB], during[VOCAB];
    int32_t ids[TOKENS];
    sl_error err = {0};
    sl_engine *engine;
    sl_session *session;
    for (int i = 0; i < TOKENS; i++)
        ids[i] = 500 + i * 37 % 4000;
    if (!sl__file_exists(demo)) skip();
    const sl_engine_options opt = {.threads = 1, .context_tokens = 256};
    assert_int_equal(sl_engine_open(&engine, demo, &opt, &err), SL_OK);
    assert_int_equal(sl_session_create(&session, engine, &err), SL_OK);
    assert_int_equal(sl_engine_trace_end(engine, &err), SL_EINVAL);
    assert_string_equal(err.message, "no trace is being written");
    eval(session, ids, TOKENS, before);
    path_in(path, "demo.trace");
    path_in(other, "other.trace");
    assert_int_equal(sl_engine_trace_begin(engine, path, NULL), SL_OK);
    assert_int_equal(sl_engine_trace_begin(engine, other, NULL), SL_EINVAL);
    eval(session, ids, TOKENS, during);
    assert_int_equal(sl_engine_trace_end(engine, NULL), SL_OK);
    assert_memory_equal(before, during, sizeof before);
    sl_trace_info info;
    assert_int_equal(sl_trace_inspect(path, &info, NULL), SL_OK);
    assert_true(info.tokens == TOKENS && info.layers == 8 && info.experts == 64);
    assert_true(info.experts_per_token == 8 && info.overlap > 0.05 && info.overlap < 0.9);
    sl__trace trace;
    assert_int_equal(sl__trace_read(&trace, path, NULL), SL_OK);
    assert_int_equal(trace.depth, 32);
    sl__trace_free(&trace);

    assert_int_equal(sl_engine_trace_begin(engine, other, NULL), SL_OK);
    for (int i = 0; i < TOKENS; i++) /* a token at a time: the same trace */
        assert_int_equal(sl_session_eval(session, ids + i, 1, NULL, NULL, NULL, NULL), SL_OK);
    sl_session_destroy(session);
    sl_engine_close(engine); /* ends the trace */
    assert_int_equal(sl_trace_inspect(other, &info, NULL), SL_OK);
    assert_int_equal(info.tokens, TOKENS);
    uint64_t last = 0;
    for (const char *const *name = sl_trace_policies(); *name; name++) {
        sl_trace_result result;
        assert_int_equal(sl_trace_simulate(path, *name, 128, &result, NULL), SL_OK);
        assert_string_equal(result.policy, *name);
        assert_int_equal(result.requests, TOKENS * 64);
        assert_true(result.hits > last); /* from the worst to the best */
        last = result.hits;
    }
    sl_trace_result result;
    sl_error_clear(&err);
    assert_int_equal(sl_trace_simulate(path, "mru", 128, &result, &err), SL_EINVAL);
    assert_string_equal(err.message, "mru: no such policy; there are lru, sluice and belady");
    assert_int_equal(sl_trace_simulate(path, "lru", 7, &result, NULL), SL_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_discarded),      cmocka_unit_test(test_overtaken),
        cmocka_unit_test(test_full_disk),      cmocka_unit_test(test_damage),
        cmocka_unit_test(test_uneven),         cmocka_unit_test(test_of_the_demo),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
