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

int main(int argc, char **argv)
{
    if (argc > 1) return check_cases(argv[1]) != 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
