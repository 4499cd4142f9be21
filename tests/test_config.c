/* config.json and generation_config.json: typed look-ups, and the message of each wrong value. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/json.h"
#include "format/config.h"
#include "test_env.h"

static void parse(sl__config *config, const char *text)
{
    sl_error err = {0};
    if (sl__config_parse(config, text, strlen(text), "dir/config.json", &err) != SL_OK)
        fail_msg("%s", err.message);
}

/* status is SL_EFORMAT and the message is exactly text. */
static void expect_message(sl_status status, sl_error *err, const char *text)
{
    assert_int_equal(status, SL_EFORMAT);
    assert_string_equal(err->message, text);
    sl_error_clear(err);
}

/* ---- look-ups -------------------------------------------------------------------------------- */

static const char NESTED[] =
    "{\"model_type\":\"outer\",\"num_experts\":4,\"only_top\":7,\"half\":{\"top\":1,\"both\":10},"
    " \"deep\":{\"a\":{\"b\":{\"c\":42}}},"
    " \"text_config\":{\"model_type\":\"inner\",\"num_experts\":512,\"nothing\":null,"
    "   \"only_top\":null,\"eps\":1e-6,\"half\":{\"both\":20},\"yes\":true,\"count\":8.0}}";

static void test_find(void **state)
{
    (void)state;
    sl__config c;
    parse(&c, NESTED);
    assert_string_equal(json_string_value(sl__config_find(&c, "model_type")), "inner");
    assert_int_equal(json_integer_value(sl__config_find(&c, "num_experts")), 512);
    /* A null in text_config hides nothing. */
    assert_int_equal(json_integer_value(sl__config_find(&c, "only_top")), 7);
    assert_null(sl__config_find(&c, "nothing"));
    assert_null(sl__config_find(&c, "absent"));
    assert_null(sl__config_find(&c, ""));
    assert_null(sl__config_find(&c, "."));
    /* The whole path is looked for in one place, then in the other. */
    assert_int_equal(json_integer_value(sl__config_find(&c, "half.both")), 20);
    assert_int_equal(json_integer_value(sl__config_find(&c, "half.top")), 1);
    assert_int_equal(json_integer_value(sl__config_find(&c, "deep.a.b.c")), 42);
    assert_null(sl__config_find(&c, "deep.a.b.d"));
    assert_null(sl__config_find(&c, "deep.x.b.c"));
    assert_null(sl__config_find(&c, "deep.a.b.c.d"));
    assert_null(sl__config_find(&c, "model_type.x"));
    assert_true(json_is_object(sl__config_find(&c, "text_config")));
    assert_int_equal(json_integer_value(sl__config_find(&c, "text_config.num_experts")), 512);
    sl__config_free(&c);
    sl__config_free(&c); /* a freed one may be freed */
    parse(&c, "{\"text_config\":[],\"a\":1}"); /* not an object: flat */
    assert_null(c.text);
    assert_int_equal(json_integer_value(sl__config_find(&c, "a")), 1);
    sl__config_free(&c);
}

static void test_values(void **state)
{
    (void)state;
    sl__config c;
    sl_error err = {0};
    parse(&c, NESTED);
    uint32_t u = 0;
    float f = 0;
    bool b = false;
    const char *s = NULL;
    assert_int_equal(sl__config_u32(&c, "num_experts", 512, 512, &u, &err), SL_OK);
    assert_int_equal(u, 512);
    assert_int_equal(sl__config_u32(&c, "count", 1, 100, &u, &err), SL_OK);
    assert_int_equal(u, 8);
    assert_int_equal(sl__config_u32(&c, "half.both", 0, UINT32_MAX, &u, &err), SL_OK);
    assert_int_equal(u, 20);
    assert_int_equal(sl__config_f32(&c, "eps", 0, 1, &f, &err), SL_OK);
    assert_true(f == 1e-6f);
    assert_int_equal(sl__config_f32(&c, "num_experts", 0, 1000, &f, &err), SL_OK);
    assert_true(f == 512.0f);
    assert_int_equal(sl__config_str(&c, "model_type", &s, &err), SL_OK);
    assert_string_equal(s, "inner");
    assert_int_equal(sl__config_u32_or(&c, "nothing", 1, 5, 99, &u, &err), SL_OK);
    assert_int_equal(u, 99);
    assert_int_equal(sl__config_u32_or(&c, "only_top", 1, 9, 99, &u, &err), SL_OK);
    assert_int_equal(u, 7);
    assert_int_equal(sl__config_f32_or(&c, "deep.x", 0, 1, 2.5f, &f, &err), SL_OK);
    assert_true(f == 2.5f);
    assert_int_equal(sl__config_f32_or(&c, "eps", 0, 1, 2.5f, &f, &err), SL_OK);
    assert_true(f == 1e-6f);
    assert_int_equal(sl__config_bool_or(&c, "yes", false, &b, &err), SL_OK);
    assert_true(b);
    assert_int_equal(sl__config_bool_or(&c, "no", true, &b, &err), SL_OK);
    assert_true(b);
    assert_int_equal(err.status, SL_OK);
    sl__config_free(&c);
}

static void test_wrong_u32(void **state)
{
    (void)state;
    static const struct {
        const char *value, *got;
    } wrong[] = {
        {"-3", "-3"},         {"0", "0"},       {"65537", "65537"}, {"1.5", "1.5"},
        {"4294967300", "4294967300"},           {"9223372036854775807", "9223372036854775807"},
        {"\"8\"", "\"8\""},   {"true", "true"}, {"[8]", "[8]"},     {"{}", "{}"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char text[256], message[256];
        sl__config c;
        sl_error err = {0};
        uint32_t u = 77;
        snprintf(text, sizeof text, "{\"text_config\":{\"num_experts\":%s}}", wrong[i].value);
        parse(&c, text);
        snprintf(message, sizeof message,
                 "dir/config.json: num_experts: expected a whole number from 1 to 65536, got %s",
                 wrong[i].got);
        expect_message(sl__config_u32(&c, "num_experts", 1, 65536, &u, &err), &err, message);
        expect_message(sl__config_u32_or(&c, "num_experts", 1, 65536, 5, &u, &err), &err, message);
        assert_int_equal(u, 77);
        sl__config_free(&c);
    }
}

static void test_wrong_others(void **state)
{
    (void)state;
    sl__config c;
    sl_error err = {0};
    uint32_t u = 0;
    float f = 0;
    bool b = false;
    const char *s = NULL;
    parse(&c, "{\"f\":1.5,\"s\":\"x\\u0000y\",\"n\":1,\"z\":null,\"o\":{\"f\":-2,\"b\":\"no\"}}");
    expect_message(sl__config_u32(&c, "gone", 1, 2, &u, &err), &err,
                   "dir/config.json: gone: expected a whole number from 1 to 2, got nothing");
    expect_message(sl__config_u32(&c, "o.gone", 1, 2, &u, &err), &err,
                   "dir/config.json: o.gone: expected a whole number from 1 to 2, got nothing");
    expect_message(sl__config_u32(&c, "z", 1, 2, &u, &err), &err,
                   "dir/config.json: z: expected a whole number from 1 to 2, got nothing");
    expect_message(sl__config_f32(&c, "f", 0, 1, &f, &err), &err,
                   "dir/config.json: f: expected a number from 0 to 1, got 1.5");
    expect_message(sl__config_f32_or(&c, "o.f", 0, 1, 0.5f, &f, &err), &err,
                   "dir/config.json: o: f: expected a number from 0 to 1, got -2");
    expect_message(sl__config_f32(&c, "o", 0, 1, &f, &err), &err,
                   "dir/config.json: o: expected a number from 0 to 1, got "
                   "{\"f\":-2,\"b\":\"no\"}");
    expect_message(sl__config_bool_or(&c, "n", true, &b, &err), &err,
                   "dir/config.json: n: expected true or false, got 1");
    expect_message(sl__config_bool_or(&c, "o.b", true, &b, &err), &err,
                   "dir/config.json: o: b: expected true or false, got \"no\"");
    expect_message(sl__config_str(&c, "n", &s, &err), &err,
                   "dir/config.json: n: expected a string, got 1");
    expect_message(sl__config_str(&c, "s", &s, &err), &err,
                   "dir/config.json: s: expected a string, got \"x\\u0000y\"");
    /* What a path leads through must be an object, even where there is a default. */
    expect_message(sl__config_f32_or(&c, "n.f", 0, 1, 0.5f, &f, &err), &err,
                   "dir/config.json: n: expected an object");
    expect_message(sl__config_f32_or(&c, "o.b.c", 0, 1, 0.5f, &f, &err), &err,
                   "dir/config.json: o.b: expected an object");
    assert_int_equal(sl__config_f32_or(&c, "z.f", 0, 1, 0.5f, &f, &err), SL_OK);
    sl__config_free(&c);
}

static void expect_unreadable(const char *text, const char *part)
{
    sl__config c;
    sl_error err = {0};
    memset(&c, 0x5a, sizeof c);
    assert_int_equal(sl__config_parse(&c, text, strlen(text), "dir/config.json", &err), SL_EFORMAT);
    assert_ptr_equal(strstr(err.message, "dir/config.json: "), err.message);
    if (!strstr(err.message, part)) fail_msg("'%s' is not in: %s", part, err.message);
    assert_null(c.root);
    sl__config_free(&c);
}

static void test_unreadable(void **state)
{
    (void)state;
    expect_unreadable("", "line 1");
    expect_unreadable("{", "line 1");
    expect_unreadable("{\"a\":1,}", "line 1");
    expect_unreadable("{\"a\":1}}", "line 1");
    expect_unreadable("{\"a\":1}\n\nx", "line 3");
    expect_unreadable("{\"a\":1,\"a\":2}", "duplicate");
    expect_unreadable("{\"text_config\":{\"a\":1,\"a\":1}}", "duplicate");
    expect_unreadable("{\"a\":\"\xc3\"}", "line 1");
    expect_unreadable("{\"a\":1e400}", "line 1");
    expect_unreadable("{\"a\":NaN}", "line 1");
    expect_unreadable("{\"a\":99999999999999999999}", "line 1");
    expect_unreadable("[]", "expected an object");
    enum { DEEP = 5000 };
    char deep[DEEP + 6];
    memcpy(deep, "{\"a\":", 5);
    memset(deep + 5, '[', DEEP);
    deep[5 + DEEP] = '\0';
    expect_unreadable(deep, "depth");
}

static void test_load(void **state)
{
    (void)state;
    char dir[1024], path[2048];
    sl__config c;
    sl_error err = {0};
    test_temp_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/config.json", dir);
    assert_int_equal(sl__config_load(&c, path, &err), SL_EIO);
    assert_non_null(strstr(err.message, path));
    assert_null(c.root);
    sl_error_clear(&err);
    test_write_file(path, NESTED, strlen(NESTED));
    assert_int_equal(sl__config_load(&c, path, &err), SL_OK);
    assert_string_equal(c.path, path);
    assert_non_null(c.text);
    sl__config_free(&c);
    test_remove_tree(dir);

    /* A path longer than what is kept for messages is cut, not refused. */
    char longer[3000];
    memset(longer, 'p', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    uint32_t u;
    assert_int_equal(sl__config_parse(&c, "{\"o\":{\"k\":0}}", 13, longer, &err), SL_OK);
    assert_int_equal(strlen(c.path), sizeof c.path - 1);
    assert_int_equal(sl__config_u32(&c, "o.k", 1, 2, &u, &err), SL_EFORMAT);
    sl__config_free(&c);
}

/* ---- generation ------------------------------------------------------------------------------ */

/* Reads generation (NULL: absent) beside config (NULL: none). */
static sl_status read_generation(const char *generation, const char *config,
                                 sl_generation_defaults *out, sl_error *err)
{
    sl__config c = {0};
    json_t *root = NULL;
    sl_error_clear(err);
    memset(out, 0x5a, sizeof *out);
    if (config) parse(&c, config);
    if (generation)
        assert_int_equal(sl__json_parse(generation, strlen(generation), "g.json", &root, err),
                         SL_OK);
    sl_status status = sl__generation_config_read(root, "g.json", config ? &c : NULL, out, err);
    json_decref(root);
    sl__config_free(&c);
    return status;
}

static void expect_sampler(const char *generation, sl_sampler_options want)
{
    sl_generation_defaults d;
    sl_error err = {0};
    if (read_generation(generation, NULL, &d, &err) != SL_OK) fail_msg("%s", err.message);
    assert_true(d.sampler.temperature == want.temperature);
    assert_int_equal(d.sampler.top_k, want.top_k);
    assert_true(d.sampler.top_p == want.top_p);
    assert_true(d.sampler.min_p == want.min_p);
    assert_true(d.sampler.repetition_penalty == want.repetition_penalty);
    assert_true(d.sampler.presence_penalty == 0.0f);
    assert_int_equal(d.sampler.seed, 0);
}

static void test_sampling_defaults(void **state)
{
    (void)state;
    const sl_sampler_options greedy = {.top_p = 1, .repetition_penalty = 1};
    expect_sampler(NULL, greedy);
    expect_sampler("{}", greedy);
    expect_sampler("{\"do_sample\":false}", greedy);
    expect_sampler("{\"do_sample\":null,\"top_k\":null,\"top_p\":null}", greedy);
    /* Greedy whatever the temperature; the rest is kept for a caller who raises it. */
    expect_sampler("{\"temperature\":0.7,\"top_k\":20,\"top_p\":0.5}",
                   (sl_sampler_options){.top_k = 20, .top_p = 0.5f, .repetition_penalty = 1});
    expect_sampler("{\"repetition_penalty\":1.25}",
                   (sl_sampler_options){.top_p = 1, .repetition_penalty = 1.25f});
    expect_sampler("{\"do_sample\":true}",
                   (sl_sampler_options){
                       .temperature = 1, .top_k = 50, .top_p = 1, .repetition_penalty = 1});
    expect_sampler("{\"do_sample\":true,\"top_k\":0,\"temperature\":0}", greedy);
    expect_sampler("{\"do_sample\":true,\"temperature\":0.5,\"top_k\":20,\"top_p\":0.25,"
                   "\"min_p\":0.125,\"repetition_penalty\":2,\"extra\":[]}",
                   (sl_sampler_options){.temperature = 0.5f,
                                        .top_k = 20,
                                        .top_p = 0.25f,
                                        .min_p = 0.125f,
                                        .repetition_penalty = 2});
}

static void test_wrong_sampling(void **state)
{
    (void)state;
    static const struct {
        const char *json, *message;
    } wrong[] = {
        {"[]", "g.json: expected an object"},
        {"{\"do_sample\":1}", "g.json: do_sample: expected true or false, got 1"},
        {"{\"temperature\":-1}", "g.json: temperature: expected a number from 0 to 100, got -1"},
        {"{\"temperature\":\"1\"}",
         "g.json: temperature: expected a number from 0 to 100, got \"1\""},
        {"{\"top_p\":0}", "g.json: top_p: expected a number from 1e-06 to 1, got 0"},
        {"{\"top_p\":1.5}", "g.json: top_p: expected a number from 1e-06 to 1, got 1.5"},
        {"{\"min_p\":-0.5}", "g.json: min_p: expected a number from 0 to 1, got -0.5"},
        {"{\"top_k\":-1}", "g.json: top_k: expected a whole number from 0 to 2147483647, got -1"},
        {"{\"repetition_penalty\":0}",
         "g.json: repetition_penalty: expected a number from 0.01 to 100, got 0"},
        {"{\"eos_token_id\":-1}",
         "g.json: eos_token_id: expected token ids from 0 to 2147483647, got -1"},
        {"{\"eos_token_id\":2147483648}",
         "g.json: eos_token_id: expected token ids from 0 to 2147483647, got 2147483648"},
        {"{\"eos_token_id\":[1,-2]}",
         "g.json: eos_token_id: expected token ids from 0 to 2147483647, got -2"},
        {"{\"eos_token_id\":1.5}", "g.json: eos_token_id: expected token ids from 0 to 2147483647"},
        {"{\"eos_token_id\":\"1\"}",
         "g.json: eos_token_id: expected token ids from 0 to 2147483647"},
        {"{\"eos_token_id\":[[1]]}",
         "g.json: eos_token_id: expected token ids from 0 to 2147483647"},
        {"{\"eos_token_id\":[null]}",
         "g.json: eos_token_id: expected token ids from 0 to 2147483647"},
        {"{\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}",
         "g.json: eos_token_id: more than 16 ids"},
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        sl_generation_defaults d;
        sl_error err = {0};
        assert_int_equal(read_generation(wrong[i].json, NULL, &d, &err), SL_EFORMAT);
        assert_string_equal(err.message, wrong[i].message);
    }
}

static void expect_eos(const char *generation, const char *config, uint32_t count,
                       const int32_t *ids)
{
    sl_generation_defaults d;
    sl_error err = {0};
    if (read_generation(generation, config, &d, &err) != SL_OK) fail_msg("%s", err.message);
    assert_int_equal(d.eos_count, count);
    for (uint32_t i = 0; i < count; i++) assert_int_equal(d.eos_ids[i], ids[i]);
}

static void test_eos(void **state)
{
    (void)state;
    const int32_t all[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 2147483647};
    expect_eos(NULL, NULL, 0, NULL);
    expect_eos("{}", NULL, 0, NULL);
    expect_eos("{\"eos_token_id\":null}", NULL, 0, NULL);
    expect_eos("{\"eos_token_id\":7}", NULL, 1, (int32_t[]){7});
    expect_eos("{\"eos_token_id\":[9,7,9]}", NULL, 2, (int32_t[]){9, 7});
    expect_eos("{\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,2147483647,0]}", NULL, 16,
               all);
    /* The configuration counts only where the generation file says nothing. */
    const char *config = "{\"eos_token_id\":1,\"text_config\":{\"eos_token_id\":[2,3]}}";
    expect_eos(NULL, config, 2, (int32_t[]){2, 3});
    expect_eos("{}", config, 2, (int32_t[]){2, 3});
    expect_eos("{\"eos_token_id\":[]}", config, 2, (int32_t[]){2, 3});
    expect_eos("{\"eos_token_id\":5}", config, 1, (int32_t[]){5});
    expect_eos(NULL, "{\"eos_token_id\":1,\"text_config\":{\"eos_token_id\":null}}", 1,
               (int32_t[]){1});
    sl_generation_defaults d;
    sl_error err = {0};
    assert_int_equal(read_generation(NULL, "{\"eos_token_id\":-4}", &d, &err), SL_EFORMAT);
    assert_string_equal(err.message, "dir/config.json: eos_token_id: expected token ids from 0 to "
                                     "2147483647, got -4");
}

static void test_load_generation(void **state)
{
    (void)state;
    char dir[1024], path[2048];
    sl__config c;
    sl_generation_defaults d;
    sl_error err = {0};
    test_temp_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/generation_config.json", dir);
    parse(&c, "{\"eos_token_id\":3}");
    assert_int_equal(sl__generation_config_load(path, &c, &d, &err), SL_OK); /* absent */
    assert_int_equal(d.eos_count, 1);
    assert_int_equal(d.eos_ids[0], 3);
    assert_true(d.sampler.temperature == 0.0f);
    test_write_file(path, "{\"do_sample\":true,\"eos_token_id\":4}", 35);
    assert_int_equal(sl__generation_config_load(path, &c, &d, &err), SL_OK);
    assert_int_equal(d.eos_ids[0], 4);
    assert_true(d.sampler.temperature == 1.0f);
    test_write_file(path, "{\"do_sample\":", 13);
    assert_int_equal(sl__generation_config_load(path, &c, &d, &err), SL_EFORMAT);
    assert_ptr_equal(strstr(err.message, path), err.message);
    sl_error_clear(&err);
    /* A folder in its place is not an absent file. */
    assert_int_equal(sl__generation_config_load(dir, &c, &d, &err), SL_EIO);
    sl__config_free(&c);
    test_remove_tree(dir);
}

/* ---- reference files ------------------------------------------------------------------------- */

static void test_reference_configs(void **state)
{
    (void)state;
    static const char *const folders[] = {
        "models/demo",
        "golden/families/deepseek_v3",
        "golden/families/glm4_moe",
        "golden/families/gpt_oss",
        "golden/families/minimax_m2",
        "golden/families/mixtral",
        "golden/families/olmoe",
        "golden/families/qwen3_5_moe_text",
        "golden/families/qwen3_moe",
        "golden/families/qwen3_next",
    };
    char path[2048], name[256];
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(name, sizeof name, "%s/config.json", folders[i]);
        if (!test_shared_path(path, sizeof path, name)) skip();
        sl__config c;
        sl_error err = {0};
        if (sl__config_load(&c, path, &err) != SL_OK) fail_msg("%s", err.message);
        uint32_t hidden, layers;
        const char *type;
        assert_int_equal(sl__config_u32(&c, "hidden_size", 1, 1u << 20, &hidden, &err), SL_OK);
        assert_int_equal(sl__config_u32(&c, "num_hidden_layers", 1, 1024, &layers, &err), SL_OK);
        assert_int_equal(sl__config_str(&c, "model_type", &type, &err), SL_OK);
        assert_int_equal(hidden, i == 0 ? 256 : 128);
        snprintf(name, sizeof name, "%s/generation_config.json", folders[i]);
        assert_true(test_shared_path(path, sizeof path, name));
        sl_generation_defaults d;
        if (sl__generation_config_load(path, &c, &d, &err) != SL_OK) fail_msg("%s", err.message);
        assert_true(d.eos_count >= 1);
        sl__config_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_find),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_wrong_u32),
        cmocka_unit_test(test_wrong_others),
        cmocka_unit_test(test_unreadable),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_sampling_defaults),
        cmocka_unit_test(test_wrong_sampling),
        cmocka_unit_test(test_eos),
        cmocka_unit_test(test_load_generation),
        cmocka_unit_test(test_reference_configs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
