/* From the body of a request to the text of its prompt, through templates that differ in what they
 * take. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "server/api.h"

#define TOKENIZER "data/tokenizer/demo.json"

/* Each call as "name(arguments)", in the three ways that templates have. */
#define TEMPLATE(arguments)                                                                        \
    "{% for m in messages %}{{ m.role }}:{{ m.content }}"                                          \
    "{% for c in m.tool_calls or [] %}{{ c.function.name + '(' + " arguments                       \
    " + ')' }}{% endfor %};{% endfor %}"
#define AS_ITEMS "(c.function.arguments.items() | list | tojson)"
#define AS_TEXT  "c.function.arguments"
#define AS_JSON  "(c.function.arguments | tojson)"

static sl_tokenizer *tok;

static int set_up(void **state)
{
    (void)state;
    sl_error err = {0};
    assert_int_equal(sl_tokenizer_open(&tok, TOKENIZER, &err), SL_OK);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_tokenizer_close(tok);
    return 0;
}

/* The prompt of the body of a chat request; the caller frees it. */
static char *prompt_of(const char *source, const char *body)
{
    char *text;
    size_t size;
    sl_error err = {0};
    sl_template *tmpl;
    json_t *root;
    assert_int_equal(sl_template_parse(&tmpl, source, strlen(source), NULL, &err), SL_OK);
    const api_model model = {.name = "test", .tok = tok, .tmpl = tmpl, .context_tokens = 4096};
    api_request r = {0};
    job *j = job_create(NULL, NULL);
    assert_int_equal(sl__json_parse(body, strlen(body), "body", &root, &err), SL_OK);
    assert_int_equal(openai_chat_parse(&model, root, &r, &err), SL_OK);
    if (api_prompt(&model, &r, j, &err) != SL_OK) fail_msg("%s", err.message);
    assert_int_equal(sl_tokenizer_decode(tok, j->ids, j->count, false, &text, &size, &err), SL_OK);
    json_decref(root);
    api_request_free(&r);
    job_release(j);
    sl_template_close(tmpl);
    return text;
}

#define BODY(arguments)                                                                            \
    "{\"messages\": [{\"role\": \"user\", \"content\": \"?\"}, {\"role\": \"assistant\", "         \
    "\"content\": null, \"tool_calls\": [{\"id\": \"a\", \"function\": {\"name\": \"f\", "         \
    "\"arguments\": " arguments "}}, {\"id\": \"b\", \"function\": {\"name\": \"g\", "             \
    "\"arguments\": \"{\\\"n\\\": [1, 2]}\"}}]}, {\"role\": \"tool\", \"tool_call_id\": \"a\", "   \
    "\"content\": \"!\"}]}"

/* Whatever a model wrote as arguments, and whatever its template takes, the conversation goes on.
 */
static void arguments_fit_the_template(void **state)
{
    (void)state;
    static const struct {
        const char *template, *body, *calls;
    } cases[] = {
        {TEMPLATE(AS_ITEMS), BODY("\"{\\\"x\\\": 1}\""), "f([[\"x\", 1]])g([[\"n\", [1, 2]]])"},
        {TEMPLATE(AS_ITEMS), BODY("\"\""), "f([])g([[\"n\", [1, 2]]])"},
        {TEMPLATE(AS_ITEMS), BODY("null"), "f([])g([[\"n\", [1, 2]]])"},
        {TEMPLATE(AS_ITEMS), BODY("\"{\\\"x\\\":\""), "f([])g([[\"n\", [1, 2]]])"},
        {TEMPLATE(AS_TEXT), BODY("\"{\\\"x\\\": 1}\""), "f({\"x\": 1})g({\"n\": [1, 2]})"},
        {TEMPLATE(AS_TEXT), BODY("\" \""), "f({})g({\"n\": [1, 2]})"},
        {TEMPLATE(AS_TEXT), BODY("\"{\\\"x\\\":\""), "f({\"x\":)g({\"n\": [1, 2]})"},
        {TEMPLATE(AS_JSON), BODY("\"{\\\"x\\\": 1}\""), "f({\"x\": 1})g({\"n\": [1, 2]})"},
        {TEMPLATE(AS_JSON), BODY("\"[]\""), "f(\"[]\")g({\"n\": [1, 2]})"},
        {TEMPLATE(AS_JSON), BODY("{\"x\": 1}"), "f({\"x\": 1})g({\"n\": [1, 2]})"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[256], *text = prompt_of(cases[i].template, cases[i].body);
        snprintf(expected, sizeof expected, "user:?;assistant:%s;tool:!;", cases[i].calls);
        assert_string_equal(text, expected);
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_fit_the_template),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
