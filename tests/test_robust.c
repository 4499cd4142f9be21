/* A checkpoint as a hostile or unlucky user has it: cut short, altered, incomplete, with a
 * configuration that lies. Each case is opened and run as a program would; it ends with an error
 * that names the file and the thing, and never with a crash or other numbers. */
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

#include "damage.h"
#include "golden.h"
#include "test_env.h"

#define MODEL   "data/qwen3_5_moe_text"
#define SHARD_1 "model-00001-of-00002.safetensors"
#define SHARD_2 "model-00002-of-00002.safetensors"
#define INDEX   "model.safetensors.index.json"
#define VOCAB   512u

static const sl_engine_options small = {.threads = 1, .context_tokens = 64, .io_depth = 1};
static const int32_t probe[] = {3, 1, 4, 1, 5, 9, 2, 6};
static float sound[VOCAB]; /* logits after probe, of the undamaged checkpoint */
static char root[256], copy[300];

static void expect(sl_status status, const char *file, const char *thing)
{
    damage_expect(copy, &small, status, file, thing);
}

static void restore(const char *name)
{
    damage_restore(MODEL, copy, name);
}

/* An error, or the same numbers: nothing else. Returns whether it was an error. */
static bool fails_or_is_the_same(const char *what, const char *file)
{
    float got[VOCAB];
    sl_error err = {0};
    sl_status status = damage_try(copy, &small, probe, 8, got, &err);
    if (status == SL_OK) {
        if (memcmp(got, sound, sizeof sound) != 0) fail_msg("%s: other numbers", what);
        return false;
    }
    damage_check(what, status, &err, status, file, "");
    return true;
}

static void the_copy_is_sound(void **state)
{
    (void)state;
    assert_false(fails_or_is_the_same("an undamaged copy", ""));
}

/* ---- shards ---------------------------------------------------------------------------------- */

static void truncated_shards(void **state)
{
    (void)state;
    static const char *const shards[] = {SHARD_1, SHARD_2};
    for (int i = 0; i < 2; i++) {
        uint64_t size = damage_size(damage_path(copy, shards[i]));
        const uint64_t ends[] = {0, 1, 7, 8, 9, 100, 4096, size / 2, size - 1};
        for (size_t k = 0; k < sizeof ends / sizeof ends[0]; k++) {
            damage_truncate(damage_own(copy, shards[i]), ends[k]);
            expect(SL_EFORMAT, shards[i], "");
            restore(shards[i]);
        }
    }
}

static void headers_that_lie_about_their_length(void **state)
{
    (void)state;
    uint64_t size = damage_size(damage_path(copy, SHARD_1));
    const uint64_t lies[] = {0,        1,          2,         7487,           7489,
                             size - 8, size - 7,   size,      100u << 20,     UINT32_MAX,
                             1u << 31, UINT64_MAX, INT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 32};
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        damage_patch(damage_own(copy, SHARD_1), 0, &lies[i], 8);
        expect(SL_EFORMAT, SHARD_1, "");
    }
    restore(SHARD_1);
}

static void flipped_bits_in_headers(void **state)
{
    (void)state;
    static const char *const shards[] = {SHARD_1, SHARD_2};
    const uint64_t headers[] = {8 + 7488, 8 + 10160};
    uint64_t step = test_fast() ? 4001 : 211;
    unsigned refused = 0, same = 0;
    for (int i = 0; i < 2; i++) {
        const char *path = damage_own(copy, shards[i]);
        for (uint64_t bit = (uint64_t)i; bit < headers[i] * 8; bit += step) {
            char what[64];
            snprintf(what, sizeof what, "%s: bit %llu", shards[i], (unsigned long long)bit);
            damage_flip(path, bit / 8, (uint8_t)(1u << bit % 8));
            /* A name that changes is missed under the old one, by the index or by the model. */
            if (fails_or_is_the_same(what, ""))
                refused++;
            else
                same++;
            damage_flip(path, bit / 8, (uint8_t)(1u << bit % 8));
        }
        restore(shards[i]);
    }
    printf("%u flips are refused, %u change nothing\n", refused, same);
    assert_true(refused > 10 * same);
}

static void shards_that_are_not_there(void **state)
{
    (void)state;
    assert_int_equal(unlink(damage_path(copy, SHARD_2)), 0);
    expect(SL_EIO, SHARD_2, "missing");
    assert_int_equal(mkdir(damage_path(copy, SHARD_2), 0777), 0);
    expect(SL_EIO, SHARD_2, "not a regular file");
    assert_int_equal(rmdir(damage_path(copy, SHARD_2)), 0);
    assert_int_equal(symlink(SHARD_2, damage_path(copy, SHARD_2)), 0); /* to itself */
    expect(SL_EIO, SHARD_2, "");
    assert_int_equal(unlink(damage_path(copy, SHARD_2)), 0);
    assert_int_equal(mkfifo(damage_path(copy, SHARD_2), 0666), 0);
    expect(SL_EIO, SHARD_2, "not a regular file");
    assert_int_equal(unlink(damage_path(copy, SHARD_2)), 0);
    assert_int_equal(symlink("/dev/zero", damage_path(copy, SHARD_2)), 0);
    expect(SL_EIO, SHARD_2, "not a regular file");
    restore(SHARD_2);
}

static void an_index_that_lies(void **state)
{
    (void)state;
    static const char *const wrong[][2] = {
        {"", "line"},
        {"[]", "weight_map"},
        {"{}", "weight_map"},
        {"{\"weight_map\": {}}", "weight_map"},
        {"{\"weight_map\": {\"a\": 1}}", "tensor a"},
        {"{\"weight_map\": {\"a\": \"../../etc/passwd\"}}", "leads out"},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "leads out"},
        {"{\"weight_map\": {\"model.none\": \"" SHARD_1 "\"}}", "model.none is not in"},
        {"{\"weight_map\": {\"lm_head.weight\": \"" SHARD_2 "\"}}", "lm_head.weight is not in"},
        {"{\"weight_map\": {\"lm_head.weight\": \"" SHARD_2 "\", \"model.norm.weight\": \"" SHARD_1
         "\"}}",
         "is not in"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        damage_text(damage_path(copy, INDEX), wrong[i][0]);
        expect(SL_EFORMAT, INDEX, wrong[i][1]);
    }
    /* It names the first shard only: the other one's tensors are nowhere. */
    damage_text(damage_path(copy, INDEX),
                "{\"weight_map\": {\"lm_head.weight\": \"" SHARD_1 "\"}}");
    expect(SL_EFORMAT, "copy", "is missing");
    restore(INDEX);
}

/* ---- tensors --------------------------------------------------------------------------------- */

static const char *const roles[] = {
    "lm_head.weight",
    "model.embed_tokens.weight",
    "model.norm.weight",
    "model.layers.0.input_layernorm.weight",
    "model.layers.0.linear_attn.A_log",
    "model.layers.0.linear_attn.conv1d.weight",
    "model.layers.0.linear_attn.dt_bias",
    "model.layers.0.linear_attn.in_proj_a.weight",
    "model.layers.0.linear_attn.in_proj_b.weight",
    "model.layers.0.linear_attn.in_proj_qkv.weight",
    "model.layers.1.linear_attn.in_proj_z.weight",
    "model.layers.1.linear_attn.norm.weight",
    "model.layers.2.linear_attn.out_proj.weight",
    "model.layers.2.post_attention_layernorm.weight",
    "model.layers.3.self_attn.k_norm.weight",
    "model.layers.3.self_attn.k_proj.weight",
    "model.layers.3.self_attn.o_proj.weight",
    "model.layers.3.self_attn.q_norm.weight",
    "model.layers.3.self_attn.q_proj.weight",
    "model.layers.3.self_attn.v_proj.weight",
    "model.layers.1.mlp.gate.weight",
    "model.layers.1.mlp.shared_expert.down_proj.weight",
    "model.layers.1.mlp.shared_expert.gate_proj.weight",
    "model.layers.1.mlp.shared_expert.up_proj.weight",
    "model.layers.1.mlp.shared_expert_gate.weight",
    "model.layers.3.mlp.experts.0.down_proj.weight",
    "model.layers.2.mlp.experts.7.gate_proj.weight",
    "model.layers.0.mlp.experts.4.up_proj.weight",
};
#define ROLES (sizeof roles / sizeof roles[0])

static void missing_tensors(void **state)
{
    (void)state;
    damage_model m;
    damage_model_load(&m, MODEL);
    for (size_t i = 0; i < ROLES; i++) {
        char thing[200];
        damage_tensor *t = damage_model_find(&m, roles[i]);
        t->left_out = true;
        damage_model_save(&m, copy);
        snprintf(thing, sizeof thing, "tensor %s is missing", roles[i]);
        /* Without the embedding the reader cannot know which prefix the names have. */
        if (strstr(roles[i], "embed_tokens")) strcpy(thing, "embed_tokens.weight is missing");
        expect(SL_EFORMAT, "copy", thing);
        t->left_out = false;
    }
    damage_model_free(&m);
}

/* Half the experts of a layer are not there, or of another type than the rest. */
static void experts_that_are_partly_there(void **state)
{
    (void)state;
    damage_model m;
    damage_model_load(&m, MODEL);
    for (size_t i = 0; i < m.count; i++) {
        unsigned expert;
        if (sscanf(m.tensors[i].name, "model.layers.1.mlp.experts.%u.", &expert) == 1)
            m.tensors[i].left_out = expert >= 4;
    }
    damage_model_save(&m, copy);
    expect(SL_EFORMAT, "copy", "tensor model.layers.1.mlp.experts.4.gate_proj.weight is missing");
    for (size_t i = 0; i < m.count; i++)
        m.tensors[i].left_out = false;
    strcpy(damage_model_find(&m, "model.layers.1.mlp.experts.5.up_proj.weight")->dtype, "F16");
    damage_model_save(&m, copy);
    expect(SL_EFORMAT, SHARD_2, "tensor model.layers.1.mlp.experts.5.up_proj.weight: f16 where");
    damage_model_free(&m);
}

static void wrong_shapes(void **state)
{
    (void)state;
    damage_model m;
    damage_model_load(&m, MODEL);
    for (size_t i = 0; i < ROLES; i++) {
        damage_tensor *t = damage_model_find(&m, roles[i]);
        const damage_tensor before = *t;
        bool square = t->dims == 2 && t->shape[0] == t->shape[1];
        bool vector = t->dims == 1 || t->shape[0] == 1 || strstr(t->name, "conv1d");
        if (!square && !vector) { /* transposed */
            t->shape[0] = before.shape[1];
            t->shape[1] = before.shape[0];
            damage_model_save(&m, copy);
            expect(SL_EFORMAT, "copy", t->name);
            *t = before;
        }
        t->shape[0]--; /* one row less; of a vector, one number */
        t->bytes = before.bytes / before.shape[0] * (size_t)t->shape[0];
        damage_model_save(&m, copy);
        expect(SL_EFORMAT, "copy", t->name);
        t->shape[0] += 2; /* one more */
        t->bytes = before.bytes / before.shape[0] * (size_t)t->shape[0];
        t->data = calloc(1, t->bytes);
        assert_non_null(t->data);
        damage_model_save(&m, copy);
        free(t->data);
        *t = before;
        expect(SL_EFORMAT, "copy", t->name);
    }
    damage_model_free(&m);
}

static void wrong_types(void **state)
{
    (void)state;
    static const struct {
        const char *dtype;
        unsigned width;
    } types[] = {{"I32", 4}, {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"BOOL", 1}, {"F64", 8},
                 {"U16", 2}, {"F4", 1},      {"bf16", 2},    {"", 2}};
    damage_model m;
    damage_model_load(&m, MODEL);
    for (size_t i = 0; i < ROLES; i += test_fast() ? 5 : 1) {
        damage_tensor *t = damage_model_find(&m, roles[i]);
        const damage_tensor before = *t;
        for (size_t k = i % 2; k < sizeof types / sizeof types[0]; k += 2) {
            t->bytes = before.bytes / 2 * types[k].width;
            t->data = calloc(1, t->bytes);
            assert_non_null(t->data);
            strcpy(t->dtype, types[k].dtype);
            damage_model_save(&m, copy);
            free(t->data);
            *t = before;
            /* A matrix of eight-bit floats has scales beside it. */
            bool scaled = strcmp(types[k].dtype, "F8_E4M3") == 0 && t->dims == 2;
            expect(scaled ? SL_EFORMAT : SL_EUNSUPPORTED, "", t->name);
        }
    }
    damage_model_free(&m);
}

static void a_tensor_in_two_shards(void **state)
{
    (void)state;
    damage_model m;
    damage_model_load(&m, MODEL);
    damage_tensor *t = damage_model_find(&m, "model.layers.3.self_attn.k_norm.weight");
    damage_tensor *twin = damage_model_find(&m, "model.layers.0.input_layernorm.weight");
    const damage_tensor before = *twin;
    *twin = *t;
    twin->shard = 0;
    damage_model_save(&m, copy);
    expect(SL_EFORMAT, INDEX, "duplicate");
    /* The index names it once. */
    damage_restore(MODEL, copy, INDEX);
    expect(SL_EFORMAT, SHARD_1, "tensor model.layers.3.self_attn.k_norm.weight occurs in");
    *twin = before;
    damage_model_free(&m);
}

/* Rewrites one "data_offsets" in a header without changing its length. */
static void set_offsets(const char *shard, const char *from, const char *to)
{
    const char *path = damage_own(copy, shard);
    size_t size;
    char *data = test_read_file(path, &size);
    char *at = memmem(data, size, from, strlen(from));
    assert_non_null(at);
    assert_int_equal(strlen(from), strlen(to));
    damage_patch(path, (uint64_t)(at - data), to, strlen(to));
    free(data);
    expect(SL_EFORMAT, shard, "tensor model.layers.0.");
    restore(shard);
}

static void overlapping_tensors(void **state)
{
    (void)state;
    set_offsets(SHARD_1, "[262400,262408]", "[262392,262400]"); /* over the one before it */
    set_offsets(SHARD_1, "[262400,262408]", "[262408,262400]"); /* ends before it begins */
    set_offsets(SHARD_1, "[262400,262408]", "[262400,262416]"); /* more than its shape */
    set_offsets(SHARD_1, "[262400,262408]", "[999992,999999]");
    set_offsets(SHARD_1, "[262400,262408]", "[-62400,-62392]");
    set_offsets(SHARD_1, "[262400,262408]", "[262400,2.6e60]");
}

/* ---- numbers that are none ------------------------------------------------------------------- */

static const float odd_numbers[] = {NAN, INFINITY, -INFINITY};

/* One odd number in a tensor, and what the model says of it. */
static void poison(const char *tensor, size_t element, sl_status status, const char *file,
                   const char *thing)
{
    damage_model m;
    damage_model_load(&m, MODEL);
    for (size_t i = 0; i < 3; i++) {
        damage_set(damage_model_find(&m, tensor), element, odd_numbers[i]);
        damage_model_save(&m, copy);
        sl_error err = {0};
        sl_status got = damage_try(copy, &small, probe, 8, NULL, &err);
        damage_check(tensor, got, &err, status, file, thing);
    }
    damage_model_free(&m);
}

static void odd_numbers_in_routers(void **state)
{
    (void)state;
    poison("model.layers.0.mlp.gate.weight", 5, SL_ENUMERIC, "copy", "layer 0: the router");
    poison("model.layers.2.mlp.gate.weight", 1000, SL_ENUMERIC, "copy", "layer 2: the router");
    poison("model.layers.3.mlp.gate.weight", 1023, SL_ENUMERIC, "copy", "layer 3: the router");
}

static void odd_numbers_elsewhere(void **state)
{
    (void)state;
    /* What the embedding of a token holds reaches the first router. */
    poison("model.embed_tokens.weight", 4 * 128 + 7, SL_ENUMERIC, "copy", "layer 0: the router");
    poison("model.layers.1.input_layernorm.weight", 3, SL_ENUMERIC, "copy", "layer 1: the router");
    poison("model.layers.0.linear_attn.in_proj_qkv.weight", 1, SL_ENUMERIC, "copy",
           "layer 0: the router");
    poison("model.layers.3.self_attn.k_norm.weight", 1, SL_ENUMERIC, "copy", "layer 3: the router");
    /* Behind the last router only the sampler is left to see it. */
    poison("model.norm.weight", 9, SL_ENUMERIC, "", "sampler: the logit of token ");
    damage_model m;
    damage_model_load(&m, MODEL);
    damage_set(damage_model_find(&m, "lm_head.weight"), 130 * 128, NAN);
    damage_model_save(&m, copy);
    expect(SL_ENUMERIC, "", "sampler: the logit of token 130 is NaN");
    damage_model_free(&m);
}

/* The embedding of a token that does not occur is never touched. */
static void an_odd_number_that_is_not_read(void **state)
{
    (void)state;
    damage_model m;
    damage_model_load(&m, MODEL);
    damage_set(damage_model_find(&m, "model.embed_tokens.weight"), 300 * 128, NAN);
    damage_model_save(&m, copy);
    assert_false(fails_or_is_the_same("the embedding of another token", ""));
    damage_model_free(&m);
}

/* In an expert: found by the next router, or by the sampler behind the last layer. */
static void odd_numbers_in_experts(void **state)
{
    (void)state;
    for (unsigned layer = 0; layer < 4; layer += 3) {
        damage_model m;
        damage_model_load(&m, MODEL);
        for (unsigned expert = 0; expert < 8; expert++) {
            char name[128];
            snprintf(name, sizeof name, "model.layers.%u.mlp.experts.%u.down_proj.weight", layer,
                     expert);
            damage_set(damage_model_find(&m, name), 77, odd_numbers[expert % 3]);
        }
        damage_model_save(&m, copy);
        expect(SL_ENUMERIC, layer ? "" : "copy", layer ? "sampler: " : "layer 1: the router");
        damage_model_free(&m);
    }
}

/* A session that failed says so until it is reset, and is as good as new then. */
static void a_session_after_a_failure(void **state)
{
    (void)state;
    damage_model m;
    damage_model_load(&m, MODEL);
    damage_set(damage_model_find(&m, "model.embed_tokens.weight"), 300 * 128, NAN);
    damage_model_save(&m, copy);
    damage_model_free(&m);
    const int32_t bad[] = {3, 300};
    float logits[VOCAB], nll[8];
    sl_error err = {0};
    sl_engine *engine = golden_open(copy, &small);
    sl_session *session = golden_session(engine);
    assert_int_equal(sl_session_eval(session, bad, 2, logits, NULL, NULL, &err), SL_ENUMERIC);
    sl_error_clear(&err);
    assert_int_equal(sl_session_eval(session, probe, 8, logits, NULL, NULL, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "must be reset"));
    sl_error_clear(&err);
    assert_int_equal(sl_eval_nll(session, bad, 2, nll, &err), SL_ENUMERIC);
    damage_check("nll", SL_ENUMERIC, &err, SL_ENUMERIC, "copy", "layer 0: the router");
    sl_session_reset(session);
    sl_error_clear(&err);
    assert_int_equal(sl_session_eval(session, probe, 8, logits, NULL, NULL, &err), SL_OK);
    assert_memory_equal(logits, sound, sizeof sound);
    sl_session_destroy(session);
    sl_engine_close(engine);
}

/* ---- main ------------------------------------------------------------------------------------ */

static int each_copy(void **state)
{
    (void)state;
    snprintf(copy, sizeof copy, "%s/copy", root);
    damage_copy(MODEL, copy);
    return 0;
}

static int no_copy(void **state)
{
    (void)state;
    test_remove_tree(copy);
    return 0;
}

static int setup(void **state)
{
    (void)state;
    sl_error err = {0};
    test_temp_dir(root, sizeof root);
    return damage_try(MODEL, &small, probe, 8, sound, &err) == SL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    test_remove_tree(root);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, each_copy, no_copy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_copy_is_sound),
        TEST(truncated_shards),
        TEST(headers_that_lie_about_their_length),
        TEST(flipped_bits_in_headers),
        TEST(shards_that_are_not_there),
        TEST(an_index_that_lies),
        TEST(missing_tensors),
        TEST(experts_that_are_partly_there),
        TEST(wrong_shapes),
        TEST(wrong_types),
        TEST(a_tensor_in_two_shards),
        TEST(overlapping_tensors),
        TEST(odd_numbers_in_routers),
        TEST(odd_numbers_elsewhere),
        TEST(an_odd_number_that_is_not_read),
        TEST(odd_numbers_in_experts),
        TEST(a_session_after_a_failure),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
