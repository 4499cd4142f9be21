/* Every family against the reference: a tiny random checkpoint each (random norms, biases, sinks
 * and corrections, so that a forgotten one shows), hidden states after every layer and logits;
 * the same in chunks; and packed, streamed with a quarter of the experts in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "damage.h"
#include "golden.h"
#include "store/pack_manifest.h"
#include "test_env.h"

#define BOUND 1e-4

static const char *const families[] = {
    "qwen3_5_moe_text", "qwen3_next", "qwen3_moe", "deepseek_v3", "glm4_moe",
    "gpt_oss",          "mixtral",    "olmoe",     "minimax_m2",
};
#define FAMILY_COUNT (sizeof families / sizeof families[0])

struct tiny {
    char model[256], golden[300];
    int32_t *ids;
    size_t count, vocab;
    float *logits; /* the reference's */
};

static struct tiny open_tiny(const char *name)
{
    struct tiny t;
    size_t rows;
    bool first = strcmp(name, families[0]) == 0;
    snprintf(t.model, sizeof t.model, "data/%s%s", first ? "" : "families/", name);
    snprintf(t.golden, sizeof t.golden, "%s/golden.safetensors", t.model);
    t.ids = golden_ids(t.golden, "ids", &t.count);
    t.logits = golden_floats(t.golden, "logits", &rows, &t.vocab);
    assert_int_equal(rows, t.count);
    return t;
}

static void close_tiny(struct tiny *t)
{
    free(t->ids);
    free(t->logits);
}

static void hidden_states_and_logits(void **state)
{
    (void)state;
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        struct tiny t = open_tiny(families[f]);
        sl_engine *engine = golden_open(t.model, NULL);
        sl_session *session = golden_session(engine);
        golden_watch *watch = golden_watch_start(session, t.count);
        float *got = golden_run(session, t.ids, t.count);
        double worst = 0;
        for (uint32_t j = 0; j <= watch->layers; j++) {
            char name[32];
            size_t rows, cols;
            snprintf(name, sizeof name, "hidden.%u", j);
            float *want = golden_floats(t.golden, name, &rows, &cols);
            double error = golden_relative(watch->hidden[j], want, rows * cols);
            if (!(error <= BOUND)) fail_msg("%s %s: %g", families[f], name, error);
            if (error > worst) worst = error;
            free(want);
        }
        double error = golden_relative(got, t.logits, t.count * t.vocab);
        printf("%-18s hidden states %.1e, logits %.1e\n", families[f], worst, error);
        if (!(error <= BOUND)) fail_msg("%s logits: %g", families[f], error);
        free(got);
        golden_watch_free(watch);
        sl_session_destroy(session);
        sl_engine_close(engine);
        close_tiny(&t);
    }
}

static bool has_delta(const char *model)
{
    sl_error err = {0};
    sl_model_info info;
    if (sl_model_inspect(model, &info, &err) != SL_OK) fail_msg("%s", err.message);
    return info.linear_layers > 0;
}

/* Only DeltaNet computes a run of tokens in another form than one: without it the size of the
 * chunks cannot be seen. */
static void chunks(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 5, 40};
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        struct tiny t = open_tiny(families[f]);
        bool exact = !has_delta(t.model);
        float *whole = golden_run_with(t.model, NULL, t.ids, t.count, NULL);
        for (size_t i = 0; i < 3; i++) {
            const sl_engine_options opt = {.chunk_tokens = sizes[i]};
            float *got = golden_run_with(t.model, &opt, t.ids, t.count, NULL);
            double error = golden_relative(got, t.logits, t.count * t.vocab);
            if (!(error <= BOUND)) {
                fail_msg("%s in chunks of %u: %g", families[f], sizes[i], error);
            }
            if (exact) assert_memory_equal(got, whole, t.count * t.vocab * sizeof(float));
            free(got);
        }
        free(whole);
        close_tiny(&t);
    }
}

/* The logits of a pack with every expert in memory, and with a quarter of them. */
static void compare_placements(const char *pack, const struct tiny *t)
{
    sl_engine *engine = golden_open(pack, NULL);
    sl_session *session = golden_session(engine);
    sl_engine_info info;
    sl_engine_info_get(engine, &info);
    float *want = golden_run(session, t->ids, t->count);
    sl_session_destroy(session);
    uint64_t least = sl__cache_minimum(engine->store, engine->desc.layer_count);
    sl_engine_close(engine);
    uint64_t quarter = info.experts_bytes / 4;
    const sl_engine_options few = {.cache_bytes = quarter > least ? quarter : least,
                                   .threads = 2};
    engine = golden_open(pack, &few);
    session = golden_session(engine);
    for (int warm = 0; warm < 2; warm++) {
        float *got = golden_run(session, t->ids, t->count);
        assert_memory_equal(got, want, t->count * t->vocab * sizeof(float));
        free(got);
    }
    sl_session_destroy(session);
    sl_engine_close(engine);
    free(want);
}

static void packed_and_streamed(void **state)
{
    (void)state;
    static const char *const types[] = {"keep", "q8", "q4"};
    char dir[256], pack[400];
    test_temp_dir(dir, sizeof dir);
    for (size_t f = 0; f < FAMILY_COUNT; f++) {
        struct tiny t = open_tiny(families[f]);
        double errors[3];
        for (size_t i = 0; i < 3; i++) {
            sl_error err = {0};
            const sl_pack_options opt = {.experts = types[i], .resident = types[i],
                                         .verify = true};
            snprintf(pack, sizeof pack, "%s/%s-%s", dir, families[f], types[i]);
            if (sl_pack(t.model, pack, &opt, &err) != SL_OK) fail_msg("%s", err.message);
            float *got = golden_run_with(pack, NULL, t.ids, t.count, NULL);
            errors[i] = golden_relative(got, t.logits, t.count * t.vocab);
            free(got);
            compare_placements(pack, &t);
        }
        printf("%-18s logits, kept %.1e, q8 %.1e, q4 %.1e\n", families[f], errors[0], errors[1],
               errors[2]);
        /* Random weights choose other experts at the least change: the figures are only shown. */
        assert_true(errors[0] <= BOUND);
        close_tiny(&t);
    }
    test_remove_tree(dir);
}

/* Puts an entry before the others of manifest[key]. */
static void put_first(json_t *manifest, const char *key, json_t *entry)
{
    assert_int_equal(json_array_insert_new(json_object_get(manifest, key), 0, entry), 0);
}

/* A pack whose manifest gives experts to a layer that its configuration makes a dense one. */
static void experts_in_a_dense_layer(void **state)
{
    (void)state;
    static const char model[] = "data/families/deepseek_v3";
    char dir[256], pack[300], from[400], to[400], text[17];
    const int32_t ids[] = {1, 2, 3};
    uint64_t self;
    sl_error err = {0};
    test_temp_dir(dir, sizeof dir);
    snprintf(pack, sizeof pack, "%s/pack", dir);
    if (sl_pack(model, pack, NULL, &err) != SL_OK) fail_msg("%s", err.message);
    snprintf(from, sizeof from, "%s/experts-001.bin", pack);
    snprintf(to, sizeof to, "%s/experts-000.bin", pack);
    assert_int_equal(link(from, to), 0);
    snprintf(from, sizeof from, "%s/manifest.json", pack);
    json_t *manifest = golden_json(from);
    const char *file = "experts-000.bin";
    json_t *entry = json_deep_copy(json_array_get(json_object_get(manifest, "layers"), 0));
    json_object_set_new(entry, "layer", json_integer(0));
    json_object_set_new(entry, "file", json_string(file));
    put_first(manifest, "layers", entry);
    json_t *files = json_object_get(manifest, "files");
    for (size_t i = 0; i < json_array_size(files); i++) {
        const json_t *one = json_array_get(files, i);
        const char *name = json_string_value(json_object_get(one, "name"));
        if (strcmp(name, "experts-001.bin") != 0) continue;
        entry = json_deep_copy(one);
        json_object_set_new(entry, "name", json_string(file));
        assert_int_equal(json_array_insert_new(files, i, entry), 0);
        break;
    }
    assert_int_equal(sl__pack_manifest_self(manifest, from, &self, &err), SL_OK);
    sl__hash_format(self, text);
    json_object_set_new(manifest, "self", json_string(text));
    assert_int_equal(unlink(from), 0);
    assert_int_equal(json_dump_file(manifest, from, 0), 0);
    json_decref(manifest);
    damage_check("dense", damage_try(pack, NULL, ids, 3, NULL, &err), &err, SL_EFORMAT, pack,
                 "layer 0: holds experts, and is a dense one by the configuration");
    test_remove_tree(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_states_and_logits),
        cmocka_unit_test(chunks),
        cmocka_unit_test(packed_and_streamed),
        cmocka_unit_test(experts_in_a_dense_layer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
