/* Configurations with absurd values, damaged packs, things that are no files, files that change
 * while a model runs, budgets that are too small: each an error that names the file and the thing,
 * and never a crash, a wait without end, or other numbers. test_robust.c does the same to the
 * weights of a checkpoint. */
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

#include "damage.h"
#include "golden.h"
#include "test_env.h"

#define MODEL "data/qwen3_5_moe_text"
#define VOCAB 512u

static const sl_engine_options small = {.threads = 1, .context_tokens = 64, .io_depth = 1};
static const int32_t probe[] = {3, 1, 4, 1, 5, 9, 2, 6};
static float sound[VOCAB]; /* logits after probe, of the undamaged checkpoint */
static char root[256], copy[300], demo[1024];
static const char *origin; /* what copy is a copy of */

static void expect(sl_status status, const char *file, const char *thing)
{
    damage_expect(copy, &small, status, file, thing);
}

static void restore(const char *name)
{
    damage_restore(origin, copy, name);
}

/* ---- config.json ----------------------------------------------------------------------------- */

static json_t *load_config(void)
{
    return golden_json(MODEL "/config.json");
}

static void save_json(const json_t *value, const char *name)
{
    char *text = json_dumps(value, JSON_INDENT(1));
    assert_non_null(text);
    damage_text(damage_path(copy, name), text);
    free(text);
}

static json_t *value_of(const char *text)
{
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    assert_non_null(value);
    return value;
}

static void configurations_that_are_none(void **state)
{
    (void)state;
    static const char *const texts[] = {"",
                                        " ",
                                        "{",
                                        "[]",
                                        "3",
                                        "null",
                                        "\"config\"",
                                        "{\"model_type\": }",
                                        "{} {}",
                                        "\xff\xfe",
                                        "{\"a\": 1, \"a\": 1}",
                                        "{\"hidden_size\": 1e999}",
                                        "{\"hidden_size\": 18446744073709551616}",
                                        "{\"a\": \"\\ud800\"}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        damage_text(damage_path(copy, "config.json"), texts[i]);
        expect(SL_EFORMAT, "config.json", "");
    }
    damage_text(damage_path(copy, "config.json"), "{}");
    expect(SL_EFORMAT, "config.json", "model_type");
    char *deep = calloc(1, 100001);
    assert_non_null(deep);
    memset(deep, '[', 100000);
    damage_text(damage_path(copy, "config.json"), deep);
    free(deep);
    expect(SL_EFORMAT, "config.json", "depth");
    assert_int_equal(unlink(damage_path(copy, "config.json")), 0);
    expect(SL_EFORMAT, "config.json", "needed");
}

/* One key set to something that no model has, and what is said of it (NULL: the key). */
static const struct absurd {
    const char *key, *value, *thing;
    sl_status status;
} absurd[] = {
    {"hidden_size", "0", NULL, SL_EFORMAT},
    {"hidden_size", "-1", NULL, SL_EFORMAT},
    {"hidden_size", "1000000000", NULL, SL_EFORMAT},
    {"hidden_size", "1e300", NULL, SL_EFORMAT},
    {"hidden_size", "3.5", NULL, SL_EFORMAT},
    {"hidden_size", "\"256\"", NULL, SL_EFORMAT},
    {"hidden_size", "[128]", NULL, SL_EFORMAT},
    {"hidden_size", "null", NULL, SL_EFORMAT},
    {"hidden_size", "true", NULL, SL_EFORMAT},
    {"hidden_size", "64", "shape [32, 128], but the configuration asks", SL_EFORMAT},
    {"hidden_size", "1048576", "[32, 1048576]", SL_EFORMAT},
    {"vocab_size", "0", NULL, SL_EFORMAT},
    {"vocab_size", "511", "embed_tokens.weight: shape", SL_EFORMAT},
    {"vocab_size", "4294967808", NULL, SL_EFORMAT},
    {"num_hidden_layers", "0", NULL, SL_EFORMAT},
    {"num_hidden_layers", "3", "layer_types", SL_EFORMAT},
    {"num_hidden_layers", "5", "layer_types", SL_EFORMAT},
    {"num_hidden_layers", "1000000", NULL, SL_EFORMAT},
    {"layer_types", "[]", NULL, SL_EFORMAT},
    {"layer_types", "\"full_attention\"", NULL, SL_EFORMAT},
    {"layer_types", "[\"linear_attention\"]", NULL, SL_EFORMAT},
    {"layer_types", "[1, 2, 3, 4]", "layer_types[0]", SL_EFORMAT},
    {"layer_types", "[\"full_attention\", \"linear_attention\", \"linear_attention\", \"x\"]",
     "layer_types[3]: x", SL_EFORMAT},
    {"layer_types",
     "[\"full_attention\", \"linear_attention\", \"linear_attention\", \"full_attention\"]",
     "layers.0.self_attn.q_proj.weight is missing", SL_EFORMAT},
    {"num_experts", "0", NULL, SL_EFORMAT},
    {"num_experts", "1000000", NULL, SL_EFORMAT},
    {"num_experts", "65535", "", SL_EFORMAT},
    {"num_experts", "9", "", SL_EFORMAT},
    {"num_experts", "7", "mlp.gate.weight: shape", SL_EFORMAT},
    {"num_experts_per_tok", "0", NULL, SL_EFORMAT},
    {"num_experts_per_tok", "9", NULL, SL_EFORMAT},
    {"moe_intermediate_size", "0", NULL, SL_EFORMAT},
    {"moe_intermediate_size", "31", "experts.0.gate_proj", SL_EFORMAT},
    {"moe_intermediate_size", "1048577", NULL, SL_EFORMAT},
    {"shared_expert_intermediate_size", "-32", NULL, SL_EFORMAT},
    {"shared_expert_intermediate_size", "33", "shared_expert.", SL_EFORMAT},
    {"num_attention_heads", "0", NULL, SL_EFORMAT},
    {"num_attention_heads", "5", NULL, SL_EFORMAT},
    {"num_attention_heads", "2", "q_proj.weight: shape", SL_EFORMAT},
    {"num_key_value_heads", "3", NULL, SL_EFORMAT},
    {"num_key_value_heads", "100000", NULL, SL_EFORMAT},
    {"head_dim", "1", NULL, SL_EFORMAT},
    {"head_dim", "4096", "q_proj.weight: shape", SL_EFORMAT},
    {"head_dim", "5000", NULL, SL_EFORMAT},
    {"linear_num_value_heads", "3", NULL, SL_EFORMAT},
    {"linear_num_key_heads", "0", NULL, SL_EFORMAT},
    {"linear_key_head_dim", "2000", NULL, SL_EFORMAT},
    {"linear_value_head_dim", "0", NULL, SL_EFORMAT},
    {"linear_conv_kernel_dim", "1", NULL, SL_EFORMAT},
    {"linear_conv_kernel_dim", "5", "conv1d.weight: shape", SL_EFORMAT},
    {"max_position_embeddings", "0", NULL, SL_EFORMAT},
    {"max_position_embeddings", "\"512\"", NULL, SL_EFORMAT},
    {"max_position_embeddings", "63", "a context of 64 tokens is beyond", SL_EINVAL},
    {"rms_norm_eps", "-1e-6", NULL, SL_EFORMAT},
    {"rms_norm_eps", "2", NULL, SL_EFORMAT},
    {"rms_norm_eps", "\"1e-6\"", NULL, SL_EFORMAT},
    {"rope_parameters", "{}", "rope_theta", SL_EFORMAT},
    {"rope_parameters", "7", "rope_theta", SL_EFORMAT},
    {"rope_parameters", "{\"rope_theta\": 0}", NULL, SL_EFORMAT},
    {"rope_parameters", "{\"rope_theta\": 1e5, \"partial_rotary_factor\": 1.5}", NULL, SL_EFORMAT},
    {"rope_parameters", "{\"rope_theta\": 1e5, \"partial_rotary_factor\": 0.1}", NULL, SL_EFORMAT},
    {"rope_parameters", "{\"rope_theta\": 1e5, \"rope_type\": \"yarn\"}", "factor", SL_EFORMAT},
    {"rope_parameters", "{\"rope_theta\": 1e5, \"rope_type\": \"linear\"}", "rope_type linear",
     SL_EUNSUPPORTED},
    {"rope_scaling", "{\"type\": \"linear\", \"factor\": 4}", "type linear", SL_EUNSUPPORTED},
    {"quantization_config", "{\"quant_method\": \"gptq\"}", "quant_method gptq is not supported",
     SL_EUNSUPPORTED},
    {"tie_word_embeddings", "1", NULL, SL_EFORMAT},
    {"attention_bias", "true", NULL, SL_EUNSUPPORTED},
    {"hidden_act", "\"gelu\"", NULL, SL_EUNSUPPORTED},
    {"model_type", "\"llama\"", "model_type llama", SL_EUNSUPPORTED},
    {"model_type", "7", NULL, SL_EFORMAT},
    {"model_type", "\"qwen3_5_moe\\u0000x\"", NULL, SL_EFORMAT},
    {"model_type", "\"a\\nb\"", "model_type a?b", SL_EUNSUPPORTED},
    {"eos_token_id", "-5", NULL, SL_EFORMAT},
    {"eos_token_id", "[1, \"2\"]", NULL, SL_EFORMAT},
};

/* What does not agree with the weights is told of a tensor, in the folder or in a shard. */
static void absurd_values(void **state)
{
    (void)state;
    /* Sets no end tokens of its own, so that those of config.json are looked at. */
    damage_text(damage_path(copy, "generation_config.json"), "{}");
    for (size_t i = 0; i < sizeof absurd / sizeof absurd[0]; i++) {
        const struct absurd *a = &absurd[i];
        json_t *config = load_config();
        json_object_set_new(config, a->key, value_of(a->value));
        save_json(config, "config.json");
        json_decref(config);
        expect(a->status, "", a->thing ? a->thing : a->key);
    }
}

/* Each key in turn is not there: an error that names it, or a default that gives the same answer,
 * because the checkpoint has the default's value. */
static void keys_that_are_missing(void **state)
{
    (void)state;
    static const char *const needed[] = {"hidden_size",
                                         "linear_conv_kernel_dim",
                                         "linear_key_head_dim",
                                         "linear_num_key_heads",
                                         "linear_num_value_heads",
                                         "linear_value_head_dim",
                                         "model_type",
                                         "moe_intermediate_size",
                                         "num_attention_heads",
                                         "num_experts",
                                         "num_experts_per_tok",
                                         "num_hidden_layers",
                                         "num_key_value_heads",
                                         "rms_norm_eps",
                                         "rope_parameters",
                                         "shared_expert_intermediate_size",
                                         "vocab_size"};
    unsigned refused = 0;
    json_t *whole = load_config();
    const char *key;
    json_t *value;
    json_object_foreach(whole, key, value)
    {
        json_t *config = json_copy(whole);
        json_object_del(config, key);
        save_json(config, "config.json");
        json_decref(config);
        bool is_needed = false;
        for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
            is_needed = is_needed || strcmp(key, needed[i]) == 0;
        refused += is_needed;
        if (is_needed) {
            expect(SL_EFORMAT, "config.json", strcmp(key, "rope_parameters") ? key : "rope_theta");
            continue;
        }
        float got[VOCAB];
        sl_error err = {0};
        if (damage_try(copy, &small, probe, 8, got, &err) != SL_OK)
            fail_msg("without %s: %s", key, err.message);
        if (memcmp(got, sound, sizeof sound) != 0) fail_msg("without %s: other numbers", key);
    }
    assert_int_equal(refused, sizeof needed / sizeof needed[0]);
    json_decref(whole);
}

static void generation_configs_that_are_damaged(void **state)
{
    (void)state;
    static const char *const texts[][2] = {
        {"", ""},
        {"{\"temperature\": ", ""},
        {"[1]", "expected an object"},
        {"{\"temperature\": -1}", "temperature"},
        {"{\"temperature\": \"hot\"}", "temperature"},
        {"{\"top_p\": 1.5}", "top_p"},
        {"{\"top_k\": 0.5}", "top_k"},
        {"{\"do_sample\": 1}", "do_sample"},
        {"{\"eos_token_id\": [1, -1]}", "eos_token_id"},
        {"{\"eos_token_id\": 4294967296}", "eos_token_id"},
        {"{\"eos_token_id\": [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", "eos_token_id"},
        {"{\"repetition_penalty\": 0}", "repetition_penalty"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        damage_text(damage_path(copy, "generation_config.json"), texts[i][0]);
        expect(SL_EFORMAT, "generation_config.json", texts[i][1]);
    }
    /* A link to itself, or to nowhere, is not "no generation_config.json". */
    unlink(damage_path(copy, "generation_config.json"));
    assert_int_equal(symlink("generation_config.json", damage_path(copy, "generation_config.json")),
                     0);
    expect(SL_EIO, "generation_config.json", "");
    unlink(damage_path(copy, "generation_config.json"));
    assert_int_equal(symlink("nowhere", damage_path(copy, "generation_config.json")), 0);
    expect(SL_EIO, "generation_config.json", "No such file");
}

static void tokenizers_that_are_damaged(void **state)
{
    (void)state;
    const char *path = damage_path(copy, "tokenizer.json");
    static const char *const texts[] = {"", "{", "[]", "{}", "{\"model\": {\"type\": \"BPE\"}}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        damage_text(path, texts[i]);
        expect(SL_EFORMAT, "tokenizer.json", "");
    }
    damage_text(path, "{\"model\": {\"type\": \"Unigram\", \"vocab\": []}}");
    expect(SL_EUNSUPPORTED, "tokenizer.json", "Unigram");
    size_t size;
    char *demo_text = test_read_file("data/tokenizer/demo.json", &size);
    damage_text(path, demo_text);
    expect(SL_EFORMAT, "copy", "the tokenizer has 8192 tokens, the model 512");
    for (int i = 1; i < 20; i++) {
        test_write_file(path, demo_text, size * (size_t)i / 20);
        expect(SL_EFORMAT, "tokenizer.json", "");
    }
    free(demo_text);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkfifo(path, 0666), 0);
    expect(SL_EIO, "tokenizer.json", "not a regular file");
}

/* ---- paths that are no model ----------------------------------------------------------------- */

static void refuse_path(const char *path, sl_status status, const char *thing)
{
    sl_error err = {0};
    sl_tokenizer *tok = NULL;
    sl_model_info info;
    damage_expect(path, &small, status, "", thing);
    sl_status got = sl_model_inspect(path, &info, &err);
    damage_check("inspect", got, &err, status, "", thing);
    sl_error_clear(&err);
    got = sl_pack(path, damage_path(root, "packed"), NULL, &err);
    damage_check("pack", got, &err, status, "", thing);
    sl_error_clear(&err);
    got = sl_tokenizer_open(&tok, path, &err);
    assert_true(got != SL_OK && err.message[0]);
    assert_null(tok);
    assert_int_not_equal(access(damage_path(root, "packed"), F_OK), 0);
    assert_int_not_equal(access(damage_path(root, "packed.partial"), F_OK), 0);
}

static void paths_that_are_no_model(void **state)
{
    (void)state;
    char path[512], *longest = malloc(20001);
    assert_non_null(longest);
    refuse_path("", SL_EINVAL, "\"\" is no path");
    snprintf(path, sizeof path, "%s/none", root);
    refuse_path(path, SL_EIO, path);
    snprintf(path, sizeof path, "%s/empty", root);
    assert_int_equal(mkdir(path, 0777), 0);
    refuse_path(path, SL_EFORMAT, "no model here");
    snprintf(path, sizeof path, "%s/pipe", root);
    assert_int_equal(mkfifo(path, 0666), 0);
    refuse_path(path, SL_EIO, path);
    refuse_path("/dev/null", SL_EIO, "/dev/null");
    refuse_path("/dev/zero", SL_EIO, "/dev/zero");
    snprintf(path, sizeof path, "%s/loop", root);
    assert_int_equal(symlink("loop", path), 0);
    refuse_path(path, SL_EIO, path);
    snprintf(path, sizeof path, "%s/file.safetensors", root);
    test_write_file(path, "", 0);
    refuse_path(path, SL_EFORMAT, "config.json");
    for (size_t i = 0; i < 10000; i++)
        memcpy(longest + 2 * i, "a/", 3);
    refuse_path(longest, SL_EINVAL, "no path");
    longest[4000] = '\0'; /* fits, but not with a file's name behind it on every system */
    damage_expect(longest, &small, SL_EIO, "", "a/a/");
    free(longest);
}

/* ---- budgets and ids ------------------------------------------------------------------------- */

static void budgets_and_contexts(void **state)
{
    (void)state;
    sl_engine_options opt = small;
    opt.memory_bytes = 1u << 20;
    damage_expect(MODEL, &opt, SL_EBUDGET, MODEL, "MiB are needed");
    opt = small;
    opt.cache_bytes = 1024;
    damage_expect(MODEL, &opt, SL_EBUDGET, MODEL, "1024 bytes is too small");
    opt = small;
    opt.context_tokens = 513;
    damage_expect(MODEL, &opt, SL_EINVAL, MODEL, "513 tokens is beyond the model's 512");
    opt.context_tokens = UINT32_MAX;
    damage_expect(MODEL, &opt, SL_EINVAL, MODEL, "is beyond the model's 512");
    opt = small;
    opt.experts_per_token = 3;
    damage_expect(MODEL, &opt, SL_EINVAL, MODEL, "trained with 2");
    opt = small;
    opt.chunk_tokens = UINT32_MAX;
    damage_expect(MODEL, &opt, SL_EINVAL, MODEL, "chunks of");
    opt = small;
    opt.threads = UINT32_MAX;
    damage_expect(MODEL, &opt, SL_EINVAL, MODEL, "threads: 4294967295 is not from 1 to 1024");
    opt = small;
    opt.context_tokens = 7; /* 8 are run */
    damage_expect(MODEL, &opt, SL_EINVAL, "", "the context of 7 tokens is full");
    static const int32_t outside[] = {-1, 512, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < 4; i++) {
        const int32_t ids[] = {1, 2, outside[i]};
        sl_error err = {0};
        sl_status got = damage_try(MODEL, &small, ids, 3, NULL, &err);
        damage_check("ids", got, &err, SL_EINVAL, "", "token 2: id ");
    }
}

/* The budget has room for one session; what it has left decides about others. */
static void a_second_session(void **state)
{
    (void)state;
    sl_session *one, *two = NULL, *three = NULL;
    sl_error err = {0};
    sl_engine *engine = golden_open(MODEL, &small);
    sl__plan *plan = &engine->plan;
    plan->budget = plan->process + plan->resident + plan->state + plan->scratch + plan->io +
                   plan->cache;
    one = golden_session(engine);
    damage_check("second session", sl_session_create(&two, engine, &err), &err, SL_EBUDGET, MODEL,
                 "another session");
    plan->budget += plan->state;
    two = golden_session(engine);
    assert_int_equal(sl_session_create(&three, engine, &err), SL_EBUDGET);
    sl_session_destroy(one); /* its room is free again */
    three = golden_session(engine);
    sl_session_destroy(two);
    sl_session_destroy(three);
    sl_engine_close(engine);
}

/* What no machine has is not taken for what every machine has. */
static void a_state_beyond_all_memory(void **state)
{
    (void)state;
    sl_engine *engine = golden_open(MODEL, &small);
    sl__model_desc desc = engine->desc;
    sl__layer_desc *layers = calloc(SL_LAYERS_MAX, sizeof *layers);
    assert_non_null(layers);
    desc.layers = layers;
    uint64_t before = 0;
    for (desc.layer_count = 1; desc.layer_count <= SL_LAYERS_MAX; desc.layer_count++) {
        sl__layer_desc *l = &layers[desc.layer_count - 1];
        *l = engine->desc.layers[3];
        l->attention.kv_heads = l->attention.head_dim = 4096;
        uint64_t bytes = sl__state_bytes(&desc, SL_KV_F32, 1u << 30, 64);
        assert_true(bytes >= before && bytes >= (uint64_t)1 << 57);
        assert_true(bytes <= UINT64_MAX / 4); /* so that a few such sizes can be added */
        before = bytes;
    }
    free(layers);
    sl_engine_close(engine);
}

/* ---- packs ----------------------------------------------------------------------------------- */

#define PACK_FILES 12
static const char *const pack_files[PACK_FILES] = {
    "resident.bin",    "tokenizer.bin",   "chat_template.jinja", "experts-000.bin",
    "experts-001.bin", "experts-002.bin", "experts-003.bin",     "experts-004.bin",
    "experts-005.bin", "experts-006.bin", "experts-007.bin",     "experts-008.bin"};

/* A context that reaches many experts. */
enum { RUN = 48 };
static const sl_engine_options demo_options = {
    .threads = 1, .context_tokens = 64, .chunk_tokens = 64, .io_depth = 1};
static int32_t run_ids[RUN];

static sl_status try_demo(sl_verify_rule verify, float *logits, sl_error *err)
{
    sl_engine_options opt = demo_options;
    opt.verify = verify;
    return damage_try(copy, &opt, run_ids, RUN, logits, err);
}

static void expect_demo(sl_status status, const char *file, const char *thing)
{
    sl_error err = {0};
    damage_check(file, try_demo(SL_VERIFY_FIRST, NULL, &err), &err, status, file, thing);
}

static bool no_demo(void)
{
    if (origin == demo) return false;
    skip();
    return true;
}

static void manifests_that_are_damaged(void **state)
{
    (void)state;
    if (no_demo()) return;
    static const char *const texts[] = {"", "{", "[]", "null", "{}"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        damage_text(damage_path(copy, "manifest.json"), texts[i]);
        expect_demo(SL_EFORMAT, "manifest.json", "");
    }
    json_t *manifest = golden_json(damage_path(demo, "manifest.json"));
    json_object_set_new(manifest, "version", json_integer(99));
    save_json(manifest, "manifest.json");
    json_decref(manifest);
    expect_demo(SL_EUNSUPPORTED, "manifest.json", "version 99");
    restore("manifest.json");
    uint64_t size = damage_size(damage_path(copy, "manifest.json"));
    for (uint64_t end = 1; end < size - 1; end += size / (test_fast() ? 5 : 25)) {
        damage_truncate(damage_own(copy, "manifest.json"), end);
        expect_demo(SL_EFORMAT, "manifest.json", "");
        restore("manifest.json");
    }
    const char *path = damage_own(copy, "manifest.json");
    unsigned refused = 0;
    for (uint64_t bit = 3; bit < size * 8; bit += test_fast() ? 40009 : 2003) {
        sl_model_info info;
        sl_error err = {0};
        damage_flip(path, bit / 8, (uint8_t)(1u << bit % 8));
        sl_status status = sl_model_inspect(copy, &info, &err);
        /* A blank between members may become another one. */
        if (status != SL_OK) damage_check("flip", status, &err, status, "manifest.json", "");
        refused += status != SL_OK;
        damage_flip(path, bit / 8, (uint8_t)(1u << bit % 8));
    }
    printf("%u flips are refused\n", refused);
    assert_true(refused > 8);
}

static void files_of_a_pack_that_are_missing_or_short(void **state)
{
    (void)state;
    if (no_demo()) return;
    for (int i = 0; i < PACK_FILES; i++) {
        assert_int_equal(unlink(damage_path(copy, pack_files[i])), 0);
        expect_demo(SL_EIO, pack_files[i], "No such file");
        assert_int_equal(mkfifo(damage_path(copy, pack_files[i]), 0666), 0);
        expect_demo(SL_EIO, pack_files[i], "not a regular file");
        restore(pack_files[i]);
        const char *path = damage_own(copy, pack_files[i]);
        uint64_t size = damage_size(path);
        damage_truncate(path, size - 1);
        expect_demo(SL_EFORMAT, pack_files[i], "bytes; expected");
        damage_truncate(path, size + 1);
        expect_demo(SL_EFORMAT, pack_files[i], "bytes; expected");
        restore(pack_files[i]);
    }
}

static void bytes_of_a_pack_that_are_flipped(void **state)
{
    (void)state;
    if (no_demo()) return;
    damage_flip(damage_own(copy, "tokenizer.bin"), 5000, 0x10);
    expect_demo(SL_ECORRUPT, "tokenizer.bin", "checksum");
    sl_error err = {0};
    sl_tokenizer *tok = NULL;
    /* Alone it has no manifest to go by, but a checksum of its own. */
    assert_int_not_equal(sl_tokenizer_open(&tok, copy, &err), SL_OK);
    damage_check("tokenizer", err.status, &err, err.status, "tokenizer.bin", "");
    restore("tokenizer.bin");
    damage_flip(damage_own(copy, "chat_template.jinja"), 100, 1);
    expect_demo(SL_ECORRUPT, "chat_template.jinja", "checksum");
    restore("chat_template.jinja");
    json_t *manifest = golden_json(damage_path(demo, "manifest.json"));
    const json_t *tensors = json_object_get(manifest, "tensors");
    for (size_t i = 0; i < json_array_size(tensors); i += test_fast() ? 20 : 4) {
        const json_t *t = json_array_get(tensors, i);
        const char *name = json_string_value(json_object_get(t, "name"));
        json_int_t bytes = json_integer_value(json_object_get(t, "bytes"));
        uint64_t at = (uint64_t)(json_integer_value(json_object_get(t, "offset")) + bytes - 1);
        if (strncmp(name, "mtp.", 4) == 0) continue; /* not read */
        damage_flip(damage_own(copy, "resident.bin"), at, 0x80);
        expect_demo(SL_ECORRUPT, "resident.bin", name);
        damage_flip(damage_own(copy, "resident.bin"), at, 0x80);
    }
    json_decref(manifest);
}

/* The first expert of a layer that the run needs and whose record is damaged. */
static void damaged_experts(void **state)
{
    (void)state;
    if (no_demo()) return;
    static const unsigned layers[] = {0, 4, 7}; /* 8 drafts, which is not run */
    for (size_t i = 0; i < sizeof layers / sizeof layers[0]; i++) {
        unsigned layer = layers[i];
        char file[32], thing[64];
        snprintf(file, sizeof file, "experts-%03u.bin", layer);
        const char *path = damage_own(copy, file);
        for (uint64_t at = 100, size = damage_size(path); at < size; at += 4096)
            damage_flip(path, at, 2);
        snprintf(thing, sizeof thing, "layer %u, expert ", layer);
        expect_demo(SL_ECORRUPT, file, thing);
        sl_error err = {0};
        sl_engine_options opt = demo_options;
        sl_engine *engine = golden_open(copy, &opt); /* no expert is read at opening */
        sl_session *session = golden_session(engine);
        assert_int_equal(sl_session_eval(session, run_ids, RUN, NULL, NULL, NULL, &err),
                         SL_ECORRUPT);
        sl_session_destroy(session);
        sl_engine_close(engine);
        restore(file);
    }
}

/* Without checksums damage is not seen, but it does no more than change numbers. */
static void damaged_experts_without_checksums(void **state)
{
    (void)state;
    if (no_demo()) return;
    test_rng rng = {7};
    for (unsigned layer = 0; layer < 9; layer++) {
        char file[32];
        snprintf(file, sizeof file, "experts-%03u.bin", layer);
        const char *path = damage_own(copy, file);
        size_t size;
        char *data = test_read_file(path, &size);
        for (size_t i = 0; i < size; i++)
            data[i] = (char)test_rng_next(&rng);
        test_write_file(path, data, size);
        free(data);
        sl_error err = {0};
        sl_status status = try_demo(SL_VERIFY_NONE, NULL, &err);
        assert_true(status == SL_OK || status == SL_ENUMERIC);
    }
    expect_demo(SL_ECORRUPT, "experts-000.bin", "layer 0, expert ");
}

/* ---- files that change while a model runs ---------------------------------------------------- */

struct running {
    sl_engine *engine;
    sl_session *session;
    float *logits, *want;
    uint32_t vocab;
};

static void start(struct running *r, sl_verify_rule verify)
{
    sl_engine *first = golden_open(copy, &demo_options);
    sl_engine_options opt = demo_options;
    sl_engine_info info;
    sl_error err = {0};
    opt.verify = verify;
    opt.cache_bytes = sl__cache_minimum(first->store, first->desc.layer_count);
    opt.chunk_tokens = 1; /* so that experts are read again and again */
    sl_engine_close(first);
    r->engine = golden_open(copy, &opt);
    sl_engine_info_get(r->engine, &info);
    r->vocab = info.vocab_size;
    r->session = golden_session(r->engine);
    r->logits = malloc(r->vocab * sizeof *r->logits);
    r->want = malloc(r->vocab * sizeof *r->want);
    assert_true(r->logits && r->want);
    if (sl_session_eval(r->session, run_ids, RUN, r->want, NULL, NULL, &err) != SL_OK)
        fail_msg("%s", err.message);
}

static void rerun(struct running *r, sl_status status, const char *file, const char *thing)
{
    sl_error err = {0};
    sl_session_reset(r->session);
    sl_status got = sl_session_eval(r->session, run_ids, RUN, r->logits, NULL, NULL, &err);
    if (status == SL_OK) {
        if (got != SL_OK) fail_msg("%s", err.message);
        assert_memory_equal(r->logits, r->want, r->vocab * sizeof *r->want);
    } else {
        damage_check("run again", got, &err, status, file, thing);
    }
}

static void stop(struct running *r)
{
    sl_session_destroy(r->session);
    sl_engine_close(r->engine);
    free(r->logits);
    free(r->want);
}

static void a_pack_that_changes_under_way(void **state)
{
    (void)state;
    if (no_demo()) return;
    const char *path = damage_own(copy, "experts-003.bin");
    size_t size;
    char *data = test_read_file(path, &size);
    struct running r;
    start(&r, SL_VERIFY_ALL);
    rerun(&r, SL_OK, "", "");
    damage_truncate(path, 0);
    rerun(&r, SL_EFORMAT, "experts-003.bin", "the file ends early");
    damage_patch(path, 0, data, size); /* the same file again: the engine goes on */
    rerun(&r, SL_OK, "", "");
    damage_truncate(path, size / 2);
    rerun(&r, SL_EFORMAT, "experts-003.bin", "the file ends early");
    damage_truncate(path, size); /* zeros where records were */
    rerun(&r, SL_ECORRUPT, "experts-003.bin", "layer 3, expert ");
    damage_patch(path, 0, data, size);
    rerun(&r, SL_OK, "", "");
    unlink(path); /* what is open stays readable */
    rerun(&r, SL_OK, "", "");
    stop(&r);
    free(data);
}

static void a_checkpoint_that_changes_under_way(void **state)
{
    (void)state;
    if (no_demo()) return; /* the copy is of the pack: take another one */
    char tiny[300];
    snprintf(tiny, sizeof tiny, "%s/tiny", root);
    damage_copy(MODEL, tiny);
    const char *path = damage_own(tiny, "model-00002-of-00002.safetensors");
    sl_engine *probe_engine = golden_open(MODEL, &small);
    sl_engine_options opt = small;
    opt.cache_bytes = sl__cache_minimum(probe_engine->store, probe_engine->desc.layer_count);
    opt.chunk_tokens = 1;
    sl_engine_close(probe_engine);
    sl_engine *engine = golden_open(tiny, &opt);
    sl_session *session = golden_session(engine);
    sl_error err = {0};
    assert_int_equal(sl_session_eval(session, probe, 8, NULL, NULL, NULL, &err), SL_OK);
    damage_truncate(path, 20000);
    sl_session_reset(session);
    sl_status got = sl_session_eval(session, probe, 8, NULL, NULL, NULL, &err);
    damage_check("shard", got, &err, SL_EFORMAT, "model-00002-of-00002.safetensors",
                 "the file ends early");
    sl_session_destroy(session);
    sl_engine_close(engine);
    test_remove_tree(tiny);
}

/* An embedding that stays on the disk is read a row at a time. */
static void an_embedding_that_goes_away(void **state)
{
    (void)state;
    if (no_demo()) return;
    sl_engine_options opt = {.threads = 1, .io_depth = 1, .context_tokens = 16};
    sl_model_info info;
    sl_engine_info running;
    sl_error err = {0};
    assert_int_equal(sl_model_inspect(copy, &info, &err), SL_OK);
    const char *path = damage_own(copy, "resident.bin");
    sl_engine *engine = NULL;
    /* The least that opens: by then the embedding has left memory. */
    for (opt.memory_bytes = 4u << 20; !engine; opt.memory_bytes += 256u << 10) {
        sl_error_clear(&err);
        sl_status status = sl_engine_open(&engine, copy, &opt, &err);
        assert_true(status == SL_OK || status == SL_EBUDGET);
    }
    sl_engine_info_get(engine, &running);
    if (running.embedding_resident) {
        /* What a process holds jumps where an allocator keeps what was freed. */
        printf("not checked: no budget leaves just the embedding out\n");
        sl_engine_close(engine);
        return;
    }
    sl_session *session = golden_session(engine);
    sl_error_clear(&err);
    assert_int_equal(sl_session_eval(session, run_ids, 4, NULL, NULL, NULL, &err), SL_OK);
    damage_truncate(path, 0);
    sl_status got = sl_session_eval(session, run_ids, 4, NULL, NULL, NULL, &err);
    damage_check("embedding", got, &err, SL_EFORMAT, "resident.bin", "the file ends early");
    sl_session_destroy(session);
    sl_engine_close(engine);
}

/* ---- main ------------------------------------------------------------------------------------ */

static int copy_of(const char *src)
{
    origin = src;
    snprintf(copy, sizeof copy, "%s/copy", root);
    damage_copy(src, copy);
    return 0;
}

static int copy_model(void **state)
{
    (void)state;
    return copy_of(MODEL);
}

static int copy_demo(void **state)
{
    (void)state;
    return demo[0] ? copy_of(demo) : copy_model(state);
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
    if (!golden_demo_pack(demo, sizeof demo)) demo[0] = '\0';
    for (int i = 0; i < RUN; i++)
        run_ids[i] = 300 + i * 131 % 7000;
    return damage_try(MODEL, &small, probe, 8, sound, &err) == SL_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    test_remove_tree(root);
    return 0;
}

#define OF_MODEL(name) cmocka_unit_test_setup_teardown(name, copy_model, no_copy)
#define OF_DEMO(name)  cmocka_unit_test_setup_teardown(name, copy_demo, no_copy)

int main(void)
{
    const struct CMUnitTest tests[] = {
        OF_MODEL(configurations_that_are_none),
        OF_MODEL(absurd_values),
        OF_MODEL(keys_that_are_missing),
        OF_MODEL(generation_configs_that_are_damaged),
        OF_MODEL(tokenizers_that_are_damaged),
        cmocka_unit_test(paths_that_are_no_model),
        cmocka_unit_test(budgets_and_contexts),
        cmocka_unit_test(a_second_session),
        cmocka_unit_test(a_state_beyond_all_memory),
        OF_DEMO(manifests_that_are_damaged),
        OF_DEMO(files_of_a_pack_that_are_missing_or_short),
        OF_DEMO(bytes_of_a_pack_that_are_flipped),
        OF_DEMO(damaged_experts),
        OF_DEMO(damaged_experts_without_checksums),
        OF_DEMO(a_pack_that_changes_under_way),
        OF_DEMO(a_checkpoint_that_changes_under_way),
        OF_DEMO(an_embedding_that_goes_away),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
