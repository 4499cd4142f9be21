/* Configurations as somebody else may have written them: keys missing, of the wrong kind, absurd or
 * contradictory. Each family either takes what is left, by a default that it documents, or fails
 * with one line that names the file and the key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "model/family.h"
#include "model/run.h"

static const char *const configs[] = {
    "data/qwen3_5_moe_text/config.json",     "data/families/qwen3_next/config.json",
    "data/families/qwen3_moe/config.json",   "data/families/deepseek_v3/config.json",
    "data/families/glm4_moe/config.json",    "data/families/gpt_oss/config.json",
    "data/families/mixtral/config.json",     "data/families/olmoe/config.json",
    "data/families/minimax_m2/config.json",
};
#define CONFIG_COUNT (sizeof configs / sizeof configs[0])

/* Describes the model of a configuration, without any file of weights. */
static sl_status describe(const json_t *root, sl__model_desc *desc, sl__arena *arena, sl_error *err)
{
    char *text = json_dumps(root, 0);
    sl__config config = {0};
    const sl__family *family;
    assert_non_null(text);
    sl_status status = sl__config_parse(&config, text, strlen(text), "some/config.json", err);
    memset(desc, 0, sizeof *desc);
    if (status == SL_OK) status = sl__family_find(&family, &config, err);
    if (status == SL_OK) status = family->describe(desc, &config, false, arena, err);
    if (status == SL_OK) {
        /* What was taken must be usable: every list of tensors fits and has sizes. */
        sl__tensor_spec specs[SL_SPECS_MAX];
        snprintf(desc->prefix, sizeof desc->prefix, "model.");
        for (uint32_t i = 0; i < desc->layer_count && i < 8; i++) {
            size_t n = family->layer_tensors(desc, i, specs);
            for (size_t j = 0; j < n; j++)
                assert_true(specs[j].rows > 0 && specs[j].cols > 0);
        }
        sl__scratch scratch;
        const sl__scratch_needs needs = {64, 64, 1, true, true, true, true, true, true};
        assert_true(sl__scratch_layout(&scratch, desc, &needs, NULL) > 0);
    }
    sl__config_free(&config);
    free(text);
    return status;
}

/* The status of a changed configuration; a failure must name the file, and `key` or a key that it
 * contradicts. Returns true where it was taken. */
static bool try_config(const json_t *root, const char *key, const char *what)
{
    sl__model_desc desc;
    sl__arena arena;
    sl_error err = {0};
    sl__arena_init(&arena, 0);
    sl_status status = describe(root, &desc, &arena, &err);
    sl__arena_free(&arena);
    if (status == SL_OK) return true;
    if (strncmp(err.message, "some/config.json: ", 18) != 0) fail_msg("%s", err.message);
    if (!strstr(err.message, key)) fail_msg("%s %s: %s", key, what, err.message);
    return false;
}

static const char *const absurd[] = {
    "-1", "0", "1.5", "1e30", "999999999999", "\"7\"", "[]", "{}", "true", "false",
};

/* Keys that another key's error may name: the number of layers decides about lists, and so on. */
static bool names_another(const char *key)
{
    static const char *const deciding[] = {
        "num_hidden_layers",   "num_experts",          "num_local_experts",
        "n_routed_experts",    "num_attention_heads",  "num_key_value_heads",
        "hidden_size",         "linear_num_key_heads", "linear_num_value_heads",
        "n_group",             "topk_group",           "num_experts_per_tok",
        "head_dim",            "rope_parameters",
    };
    for (size_t i = 0; i < sizeof deciding / sizeof deciding[0]; i++) {
        if (strcmp(deciding[i], key) == 0) return true;
    }
    return false;
}

/* Every key of obj (a part of root) in turn: removed, and set to each absurd value. */
static void damage_each(json_t *root, json_t *obj, size_t *refused, size_t *taken)
{
    const char *key;
    json_t *value;
    json_t *keys = json_array();
    json_object_foreach(obj, key, value) json_array_append_new(keys, json_string(key));
    for (size_t i = 0; i < json_array_size(keys); i++) {
        key = json_string_value(json_array_get(keys, i));
        json_t *kept = json_incref(json_object_get(obj, key));
        const char *named = names_another(key) ? "" : key;
        json_object_del(obj, key);
        *(try_config(root, named, "removed") ? taken : refused) += 1;
        for (size_t a = 0; a < sizeof absurd / sizeof absurd[0]; a++) {
            json_object_set_new(obj, key, json_loads(absurd[a], JSON_DECODE_ANY, NULL));
            *(try_config(root, named, absurd[a]) ? taken : refused) += 1;
        }
        json_object_set_new(obj, key, kept);
    }
    json_decref(keys);
}

static void every_key_damaged(void **state)
{
    (void)state;
    for (size_t i = 0; i < CONFIG_COUNT; i++) {
        size_t refused = 0, taken = 0;
        json_t *root = golden_json(configs[i]);
        sl__model_desc desc;
        sl__arena arena;
        sl_error err = {0};
        sl__arena_init(&arena, 0);
        if (describe(root, &desc, &arena, &err) != SL_OK) fail_msg("%s", err.message);
        sl__arena_free(&arena);
        damage_each(root, root, &refused, &taken);
        damage_each(root, json_object_get(root, "rope_parameters"), &refused, &taken);
        printf("%s: %zu refused, %zu taken\n", configs[i], refused, taken);
        assert_true(refused > 100);
        json_decref(root);
    }
}

static void set(json_t *root, const char *key, const char *value)
{
    assert_int_equal(json_object_set_new(root, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
}

/* A change to a configuration and what the error must say. */
static void contradictions(void **state)
{
    (void)state;
    static const struct {
        size_t config;
        const char *key, *value, *message;
    } rows[] = {
        {0, "num_experts_per_tok", "9", "num_experts_per_tok: expected a whole number from 1 to 8"},
        {0, "num_attention_heads", "3", "is not a multiple of num_key_value_heads"},
        {0, "linear_num_value_heads", "3", "is not a multiple of linear_num_key_heads"},
        {0, "layer_types", "[\"full_attention\"]", "layer_types: expected 4 names, one a layer"},
        {0, "layer_types", "[1,2,3,4]", "layer_types[0]: not a string"},
        {0, "hidden_act", "\"gelu\"", "hidden_act gelu is not supported"},
        {0, "attn_output_gate", "false", "attn_output_gate false is not supported"},
        {0, "model_type", "\"llama\"", "model_type llama is not supported"},
        {1, "mlp_only_layers", "[7]", "mlp_only_layers[0]"},
        {2, "use_sliding_window", "true", "use_sliding_window true is not supported"},
        {3, "n_group", "5", "n_group"},
        {3, "topk_group", "9", "topk_group: expected a whole number from 1 to 4"},
        {3, "first_k_dense_replace", "5", "first_k_dense_replace"},
        {3, "intermediate_size", "null", "intermediate_size: expected a whole number"},
        {5, "layer_types", "[\"a\",\"b\",\"c\",\"d\"]", "layer_types[0]: a is not full_attention"},
        {3, "scoring_func", "\"softmax\"", "scoring_func softmax is not supported"},
        {3, "topk_method", "\"greedy\"", "topk_method greedy is not supported"},
        {3, "moe_layer_freq", "2", "moe_layer_freq 2 is not supported"},
        {8, "scoring_func", "\"softmax\"", "scoring_func softmax is not supported"},
        {8, "rotary_dim", "3", "rotary_dim 3 is not an even number of channels"},
        {8, "qk_norm_type", "\"per_head\"", "qk_norm_type per_head is not supported"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *root = golden_json(configs[rows[i].config]);
        set(root, rows[i].key, rows[i].value);
        sl__model_desc desc;
        sl__arena arena;
        sl_error err = {0};
        sl__arena_init(&arena, 0);
        assert_int_not_equal(describe(root, &desc, &arena, &err), SL_OK);
        sl__arena_free(&arena);
        if (!strstr(err.message, rows[i].message)) fail_msg("%s", err.message);
        json_decref(root);
    }
}

/* What published configurations say and the tiny ones do not. */
static void published_values(void **state)
{
    (void)state;
    json_t *root = golden_json(configs[3]);
    set(root, "q_lora_rank", "null");
    set(root, "scoring_func", "\"sigmoid\"");
    set(root, "topk_method", "\"noaux_tc\"");
    set(root, "moe_layer_freq", "1");
    sl__model_desc desc;
    sl__arena arena;
    sl_error err = {0};
    sl__arena_init(&arena, 0);
    if (describe(root, &desc, &arena, &err) != SL_OK) fail_msg("%s", err.message);
    assert_int_equal(desc.layers[0].mla.q_rank, 0);
    sl__arena_free(&arena);
    json_decref(root);
}

static void rope_types(void **state)
{
    (void)state;
    json_t *root = golden_json(configs[2]);
    json_t *rope = json_object_get(root, "rope_parameters");
    set(rope, "rope_type", "\"linear\"");
    assert_false(try_config(root, "linear", "rope type"));
    set(rope, "rope_type", "\"yarn\"");
    assert_false(try_config(root, "factor", "without a factor"));
    set(rope, "factor", "4.0");
    sl__model_desc desc;
    sl__arena arena;
    sl_error err = {0};
    sl__arena_init(&arena, 0);
    assert_int_equal(describe(root, &desc, &arena, &err), SL_OK);
    assert_true(desc.layers[0].attention.rope.factor == 4.0f);
    assert_true(desc.layers[0].attention.rope.amplitude > 1.1f);
    sl__arena_free(&arena);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_key_damaged),
        cmocka_unit_test(contradictions),
        cmocka_unit_test(published_values),
        cmocka_unit_test(rope_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
