/* Chat templates. What jinja2 renders of many fragments is in data/jinja/cases.json (written by
 * tools/make_jinja_cases.py); a path on the command line names another such file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "test_env.h"
#include "text/jinja.h"

/* ---- reference cases ------------------------------------------------------------------------- */

static json_t *load(const char *path)
{
    sl_error err = {0};
    json_t *root = NULL;
    if (sl__json_load(path, 64 << 20, &root, &err) != SL_OK) fail_msg("%s", err.message);
    return root;
}

/* Renders text with vars; NULL and err on failure. The caller frees it. */
static char *render(const char *text, size_t size, json_t *vars, const sl__jinja_limits *limits,
                    size_t *out_size, sl_error *err)
{
    sl__jinja *tmpl;
    sl__buffer out;
    sl__buffer_init(&out, SIZE_MAX / 2);
    if (sl__jinja_parse(&tmpl, text, size, "t", err) != SL_OK) return NULL;
    sl_status status = sl__jinja_render(tmpl, vars, limits, &out, err);
    sl__jinja_free(tmpl);
    assert_int_equal(status, err->status);
    if (status == SL_OK && sl__buffer_reserve(&out, 0)) {
        *out_size = out.size;
        return out.data;
    }
    assert_true(strncmp(err->message, "t: ", 3) == 0);
    sl__buffer_free(&out);
    return NULL;
}

/* Whether a template gives the expected text; a JSON null: whether it fails. */
static bool agrees(const json_t *text, const json_t *expected, json_t *vars)
{
    size_t size = 0;
    sl_error err = {0};
    char *got = render(json_string_value(text), json_string_length(text), vars, NULL, &size, &err);
    bool same = json_is_null(expected)
                    ? got == NULL
                    : got && size == json_string_length(expected) &&
                          memcmp(got, json_string_value(expected), size) == 0;
    if (!same) {
        printf("template: %s\nexpected: %s\ngot:      %s\n\n", json_string_value(text),
               json_is_null(expected) ? "(a failure)" : json_string_value(expected),
               got ? got : err.message);
    }
    free(got);
    return same;
}

static int check_cases(const char *path)
{
    json_t *root = load(path), *vars = json_object_get(root, "variables"), *one;
    size_t i;
    int bad = 0;
    json_array_foreach(json_object_get(root, "cases"), i, one)
        bad += !agrees(json_array_get(one, 0), json_array_get(one, 1), vars);
    printf("%zu cases, %d disagree\n", json_array_size(json_object_get(root, "cases")), bad);
    assert_true(json_array_size(json_object_get(root, "cases")) > 0);
    json_decref(root);
    return bad;
}

static void reference_cases(void **state)
{
    (void)state;
    assert_int_equal(check_cases("data/jinja/cases.json"), 0);
}

/* ---- templates of real models ---------------------------------------------------------------- */

static int check_model(const char *path)
{
    json_t *root = load(path), *one;
    size_t i;
    int bad = 0;
    json_array_foreach(json_object_get(root, "cases"), i, one)
    {
        json_t *vars = json_deep_copy(json_object_get(one, "kwargs"));
        json_object_set(vars, "messages", json_object_get(one, "messages"));
        json_object_set(vars, "tools", json_object_get(one, "tools"));
        static const char *const shared[] = {"bos_token", "eos_token", "now"};
        for (int k = 0; k < 3; k++)
            json_object_set(vars, shared[k], json_object_get(root, shared[k]));
        json_t *expected = json_object_get(one, "expected"), *none = json_null();
        bad += !agrees(json_object_get(root, "template"), expected ? expected : none, vars);
        json_decref(vars);
    }
    json_decref(root);
    return bad;
}

static void models(void **state)
{
    (void)state;
    char path[600], file[900];
    if (!test_shared_path(path, sizeof path, "golden/chat")) skip();
    DIR *dir = opendir(path);
    int bad = 0, count = 0;
    assert_non_null(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        if (!strstr(e->d_name, ".json")) continue;
        snprintf(file, sizeof file, "%s/%s", path, e->d_name);
        bad += check_model(file);
        count++;
    }
    closedir(dir);
    assert_true(count > 0);
    assert_int_equal(bad, 0);
}

/* ---- failures -------------------------------------------------------------------------------- */

typedef struct failure {
    const char *text;
    sl_status status;
    const char *message; /* all of it, without "t: " */
} failure;

static const failure failures[] = {
    {"{% if x %}", SL_EFORMAT,
     "line 1, column 4: the block is not closed: {% endif %} is missing"},
    {"a\n\n  {% for x in y %}{% if z %}{% endif %}", SL_EFORMAT,
     "line 3, column 6: the block is not closed: {% endfor %} is missing"},
    {"{% endif %}", SL_EFORMAT, "line 1, column 4: unknown tag 'endif'"},
    {"{% if %}", SL_EFORMAT, "line 1, column 7: expected an expression, got the end of the tag"},
    {"{{ 1 +", SL_EFORMAT, "line 1, column 1: the tag is not closed: }} is missing"},
    {"\xc3\xa9\xc3\xa9 {{ 'abc }}", SL_EFORMAT, "line 1, column 7: the string is not closed"},
    {"{# x", SL_EFORMAT, "line 1, column 1: the comment is not closed: #} is missing"},
    {"{% raw %} {{ x }}", SL_EFORMAT,
     "line 1, column 1: raw is not closed: {% endraw %} is missing"},
    {"{{ (1] }}", SL_EFORMAT, "line 1, column 6: unexpected ']', expected ')'"},
    {"{{ 1) }}", SL_EFORMAT, "line 1, column 5: unexpected ')'"},
    {"{{ a ? b }}", SL_EFORMAT, "line 1, column 6: unexpected character '?'"},
    {"{{ a b }}", SL_EFORMAT, "line 1, column 6: expected '}}', got 'b'"},
    {"{{ a[1 }}", SL_EFORMAT, "line 1, column 8: unexpected '}', expected ']'"},
    {"{{ '\\ud800' }}", SL_EFORMAT, "line 1, column 5: no character is meant by this escape"},
    {"{{ 99999999999999999999 }}", SL_EFORMAT, "line 1, column 4: a whole number beyond 64 bits"},
    {"{{ x|nope }}", SL_EFORMAT, "line 1, column 6: there is no filter 'nope'"},
    {"{{ x is nope }}", SL_EFORMAT, "line 1, column 9: there is no test 'nope'"},
    {"{% set none = 1 %}", SL_EFORMAT, "line 1, column 8: a constant cannot be set"},
    {"{% break %}", SL_EFORMAT, "line 1, column 4: there is no loop to leave here"},
    {"{% for x in y %}{% macro f() %}{% continue %}{% endmacro %}{% endfor %}", SL_EFORMAT,
     "line 1, column 35: there is no loop to leave here"},
    {"{% macro f(a=1, b) %}{% endmacro %}", SL_EFORMAT,
     "line 1, column 17: a parameter without a default follows one with"},
    {"{{ f(a=1, 2) }}", SL_EFORMAT,
     "line 1, column 11: this argument cannot come after those before it"},
    {"\xff", SL_EFORMAT, "line 1, column 1: a byte that is not UTF-8"},
    {"{% include 'x' %}", SL_EUNSUPPORTED,
     "line 1, column 4: {% include %} is not supported in a chat template"},
    {"{%- import 'x' as y %}", SL_EUNSUPPORTED,
     "line 1, column 5: {% import %} is not supported in a chat template"},
    {"a\r\nb\r{{ no.way }}", SL_EINVAL, "line 3, column 7: 'no' is undefined"},
    {"{{ d.x.y }}", SL_EINVAL, "line 1, column 8: 'dict object' has no attribute 'x'"},
    {"{{ l[7].x }}", SL_EINVAL, "line 1, column 9: a list object has no item 7"},
    {"{{ l.append(1) }}", SL_EINVAL,
     "line 1, column 6: 'append' of a list object cannot be used here: values do not change"},
    {"{{ 'a' + 1 }}", SL_EINVAL, "line 1, column 8: '+' is not supported between 'str' and 'int'"},
    {"{{ 1 // 0 }}", SL_EINVAL, "line 1, column 6: division by zero"},
    {"{{ 9223372036854775807 + 1 }}", SL_EINVAL,
     "line 1, column 24: a whole number beyond 64 bits"},
    {"{{ raise_exception('a\nb') }}", SL_EINVAL, "line 1, column 4: the template refuses: a?b"},
    {"{% for x in 3 %}{% endfor %}", SL_EINVAL,
     "line 1, column 13: 'int' object is not iterable"},
    {"{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", SL_EINVAL,
     "line 1, column 34: macro 'f' takes at most 1 arguments, not 2"},
    {"{{ 'x'|replace('a') }}", SL_EINVAL, "line 1, column 8: replace needs 2 arguments"},
    {"{{ 'x'|trim(a=1) }}", SL_EINVAL, "line 1, column 8: trim takes no argument 'a'"},
    {"{{ {}|tojson(indent=[]) }}", SL_EINVAL,
     "line 1, column 7: tojson: indent must be a whole number, not 'list'"},
    {"{{ range|tojson }}", SL_EINVAL,
     "line 1, column 10: object of type 'function' is not JSON serializable"},
    {"{% set d.x = 1 %}", SL_EINVAL,
     "line 1, column 8: 'd' is no namespace, and nothing else has attributes to set"},
    {"{{ range(100001) }}", SL_EINVAL, "line 1, column 4: a range of more than 100000 numbers"},
};

static json_t *few_variables(void)
{
    json_t *vars = json_pack("{s:{s:i}, s:[i,i]}", "d", "a", 1, "l", 1, 2);
    assert_non_null(vars);
    return vars;
}

static void failing(void **state)
{
    (void)state;
    json_t *vars = few_variables();
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        const failure *f = &failures[i];
        sl_error err = {0};
        size_t size;
        char *got = render(f->text, strlen(f->text), vars, NULL, &size, &err);
        if (got) fail_msg("'%s' gives '%s'", f->text, got);
        if (strcmp(err.message + 3, f->message) != 0 || err.status != f->status)
            fail_msg("'%s' says '%s' (%d)", f->text, err.message, err.status);
    }
    json_decref(vars);
}

/* ---- limits ---------------------------------------------------------------------------------- */

/* A text of `count` times a, then b. */
static char *repeated(size_t count, const char *before, const char *a, const char *after)
{
    size_t n = strlen(a), head = strlen(before);
    char *text = malloc(head + count * n + strlen(after) + 1);
    assert_non_null(text);
    memcpy(text, before, head);
    for (size_t i = 0; i < count; i++)
        memcpy(text + head + i * n, a, n);
    strcpy(text + head + count * n, after);
    return text;
}

static void expect_limit(const char *text, sl_status status, const char *part)
{
    json_t *vars = few_variables();
    sl_error err = {0};
    size_t size;
    const sl__jinja_limits limits = {200000, 4 << 20, 1 << 20, 1000};
    char *got = render(text, strlen(text), vars, &limits, &size, &err);
    if (got) fail_msg("'%.80s' is rendered", text);
    if (err.status != status || !strstr(err.message, part))
        fail_msg("'%.80s' says '%s' (%d)", text, err.message, err.status);
    json_decref(vars);
}

static void limits(void **state)
{
    (void)state;
    static const char *const steps = "more steps", *const memory = "more memory";
    static const char *const output = "more text", *const levels = "more levels";
    expect_limit("{% for a in range(1000) %}{% for b in range(1000) %}{% endfor %}{% endfor %}",
                 SL_EBUDGET, steps);
    expect_limit("{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}", SL_EBUDGET, levels);
    expect_limit("{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}", SL_EBUDGET, levels);
    expect_limit("{% set n = namespace(s='x') %}{% for i in range(99) %}{% set n.s = n.s + n.s %}"
                 "{% endfor %}", SL_EBUDGET, output);
    expect_limit("{% set n = namespace(s='x' * 99999) %}{% for i in range(99) %}"
                 "{% set n.s = n.s ~ 'y' %}{% endfor %}", SL_EBUDGET, memory);
    expect_limit("{% set n = namespace(l=[1]) %}{% for i in range(99) %}{% set n.l = n.l + n.l %}"
                 "{% endfor %}", SL_EBUDGET, memory);
    expect_limit("{{ 'x' * 9999999999 }}", SL_EBUDGET, "more");
    expect_limit("{{ [1] * 9999999999 }}", SL_EBUDGET, memory);
    expect_limit("{{ '%99999999999d' % 1 }}", SL_EINVAL, "a width that is too large");
    expect_limit("{{ 'a'.center(99999999) }}", SL_EBUDGET, "more");
    /* A value that holds itself over and over is compared and printed no further than allowed. */
    expect_limit("{% set n = namespace(a=[1], b=[1]) %}{% for i in range(99) %}"
                 "{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}"
                 "{{ n.a == n.b }}", SL_EBUDGET, steps);
    /* Long strings: looking for one from the right, in one, comparing and finding them. */
    expect_limit("{{ ('a' * 60000).rfind('a' * 30000 ~ 'b') }}", SL_EBUDGET, steps);
    expect_limit("{{ ('a' * 60000).rsplit('a' * 30000 ~ 'b') }}", SL_EBUDGET, steps);
    expect_limit("{{ ('a' * 60000).strip('b' * 60000 ~ 'a') }}", SL_EBUDGET, steps);
    expect_limit("{{ (['a' * 60000] * 1000)|sort }}", SL_EBUDGET, steps);
    expect_limit("{{ (['a' * 60000] * 1000)|unique|list }}", SL_EBUDGET, steps);
    expect_limit("{% set k = 'a' * 60000 %}{% set d = {k: 1} %}{% for i in range(1000) %}{{ d[k] }}"
                 "{{ d.get(k) }}{{ k in d }}{% endfor %}", SL_EBUDGET, steps);
    expect_limit("{% set n = namespace(a=[1]) %}{% for i in range(99) %}{% set n.a = [n.a, n.a] %}"
                 "{% endfor %}{{ n.a|tojson }}", SL_EBUDGET, "more");
    expect_limit("{% set n = namespace(a=[1]) %}{% for i in range(2000) %}{% set n.a = [n.a] %}"
                 "{% endfor %}{{ n.a }}", SL_EBUDGET, levels);
    expect_limit("{% set n = namespace(a=1) %}{% for i in range(99) %}{% set n.a = (n.a,) %}"
                 "{% endfor %}{{ {n.a: 1} }}", SL_EINVAL, "unhashable");
}

static void deep_texts(void **state)
{
    (void)state;
    static const struct {
        const char *before, *a, *after;
    } texts[] = {
        {"{{ ", "(", ""},           {"{{ ", "[", ""},  {"{{ ", "- ", "1 }}"},
        {"{{ ", "not ", "1 }}"},    {"{{ ", "a[", ""}, {"{{ 1", " if 1 else 1", " }}"},
        {"", "{% if 1 %}", ""},     {"{{ ", "f(", ""}, {"{{ ", "{1:", ""},
        {"", "{% for a in b %}", ""}, {"{% set ", "(", "a"},
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        char *text = repeated(50000, texts[i].before, texts[i].a, texts[i].after);
        json_t *vars = few_variables();
        sl_error err = {0};
        size_t size;
        char *got = render(text, strlen(text), vars, NULL, &size, &err);
        assert_null(got);
        assert_int_equal(err.status, SL_EFORMAT);
        json_decref(vars);
        free(text);
    }
    /* Long, but not deep in the text: too deep to evaluate, or not. */
    char *sum = repeated(5000, "{{ 1", "+1", " }}");
    expect_limit(sum, SL_EBUDGET, "more levels");
    free(sum);
    char *concat = repeated(5000, "{{ 1", "~1", " }}");
    json_t *vars = few_variables();
    sl_error err = {0};
    size_t size;
    char *got = render(concat, strlen(concat), vars, NULL, &size, &err);
    assert_non_null(got);
    assert_int_equal(size, 5001);
    free(got);
    free(concat);
    json_decref(vars);
}

/* ---- the public calls ------------------------------------------------------------------------ */

static char dir[256];

static const char *put(const char *name, const char *text)
{
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    if (text)
        test_write_file(path, text, strlen(text));
    else
        remove(path);
    return path;
}

static void expect_open(const char *path, const char *vars, const char *expected)
{
    sl_template *tmpl;
    sl_error err = {0};
    char *text = NULL;
    size_t size = 0;
    sl_status status = sl_template_open(&tmpl, path, &err);
    if (status == SL_OK) {
        status = sl_template_render(tmpl, vars, strlen(vars), &text, &size, &err);
        sl_template_close(tmpl);
    }
    const char *got = status == SL_OK ? text : err.message;
    if (status == SL_OK ? strcmp(got, expected) != 0 : !strstr(got, expected))
        fail_msg("%s gives '%s', not '%s'", path, got, expected);
    if (status == SL_OK) assert_int_equal(size, strlen(expected));
    free(text);
}

static void opening(void **state)
{
    (void)state;
    test_temp_dir(dir, sizeof dir);
    expect_open(dir, "{}", "no chat template here");
    put("tokenizer_config.json", "{}");
    expect_open(dir, "{}", "chat_template is missing");
    put("tokenizer_config.json", "{\"chat_template\": 3}");
    expect_open(dir, "{}", "chat_template: expected a string");
    put("tokenizer_config.json", "{\"chat_template\": \"a{{ x }}\\n\"}");
    expect_open(dir, "{\"x\": 1}", "a1");
    put("tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"T{{ tools|length }}\"},"
        "{\"name\": \"rag\", \"template\": \"{{\"}, {\"name\": \"default\","
        "\"template\": \"D\"}]}");
    expect_open(dir, "{}", "D");
    expect_open(dir, "{\"tools\": null}", "D");
    expect_open(dir, "{\"tools\": [1]}", "T1");
    put("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"x\", \"template\": \"\"}]}");
    expect_open(dir, "{}", "none is named default");
    put("tokenizer_config.json", "{\"chat_template\": [{\"template\": \"\"}]}");
    expect_open(dir, "{}", "name: expected a string");
    put("chat_template.jinja", "J{{ x }}");
    expect_open(dir, "{\"x\": null}", "JNone");
    expect_open(put("model.safetensors", ""), "{}", "J");
    expect_open(put("chat_template.jinja", "{{ strftime_now('%Y') }}"),
                "{\"now\": \"1999-01-02T03:04:05\"}", "1999");
    expect_open(dir, "{\"now\": \"1999-13-02\"}", "the variable now");
    expect_open(dir, "{\"now\": 5}", "the variable now");
    expect_open(dir, "[]", "not a JSON object");
    expect_open(dir, "{", "variables: line 1");
    put("chat_template.jinja", "\n{{");
    expect_open(dir, "{}", "chat_template.jinja: line 2, column 1: the tag is not closed");
    test_remove_tree(dir);
}

/* What tokenizer_config.json says of tokens is known to templates, until the caller says more. */
static void tokens(void **state)
{
    (void)state;
    test_temp_dir(dir, sizeof dir);
    put("tokenizer_config.json", "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"},"
                                 "\"pad_token\": null, \"chat_template\": [{\"name\": \"tool_use\","
                                 "\"template\": \"T{{ bos_token }}\"}, {\"name\": \"default\","
                                 "\"template\": \"{{ bos_token }}{{ eos_token }}\"}]}");
    expect_open(dir, "{}", "<s></s>");
    expect_open(dir, "{\"tools\": [1]}", "T<s>");
    expect_open(dir, "{\"bos_token\": \"X\", \"eos_token\": null}", "XNone");
    put("chat_template.jinja", "J{{ bos_token }}{{ pad_token is defined }}");
    expect_open(dir, "{}", "J<s>False");
    expect_open(dir, "{\"tools\": [1]}", "T<s>");
    put("chat_template.jinja", "\xff{{ x }}");
    expect_open(dir, "{}", "chat_template.jinja: is not UTF-8");
    put("chat_template.jinja", "J{{ bos_token }}");
    put("tokenizer_config.json", "{");
    expect_open(dir, "{}", "tokenizer_config.json: line 1");
    put("tokenizer_config.json", NULL);
    expect_open(dir, "{\"bos_token\": \"X\"}", "JX");
    test_remove_tree(dir);
}

static void nothing_shared(void **state)
{
    (void)state;
    sl_template *tmpl;
    sl_error err = {0};
    char *text;
    size_t size;
    const char source[] = "{% set n = namespace(x=x) %}{% set n.x = n.x + 1 %}{{ n.x }}\0{{ x }}";
    assert_int_equal(sl_template_parse(&tmpl, source, sizeof source - 1, NULL, &err), SL_OK);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_template_render(tmpl, "{\"x\": 1}", 8, &text, &size, &err), SL_OK);
        assert_int_equal(size, 3);
        assert_memory_equal(text, "2\0001", 4);
        free(text);
    }
    assert_int_equal(sl_template_render(tmpl, "{}", 2, &text, &size, &err), SL_EINVAL);
    assert_null(text);
    assert_string_equal(err.message, "template: line 1, column 46: 'x' is undefined");
    sl_template_close(tmpl);
    sl_template_close(NULL);
}

int main(int argc, char **argv)
{
    if (argc > 1) return check_cases(argv[1]) != 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_cases), cmocka_unit_test(models),
        cmocka_unit_test(failing),         cmocka_unit_test(limits),
        cmocka_unit_test(deep_texts),      cmocka_unit_test(opening),
        cmocka_unit_test(tokens),          cmocka_unit_test(nothing_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
