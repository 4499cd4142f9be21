/* Tools of a chat: their file, the command of a call, how it is shown, and how it runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "cli/chat_tools.h"
#include "cli/tool_process.h"

#define SECOND UINT64_C(1000000000)

/* ---- the file -------------------------------------------------------------------------------- */

#define HEAD   "[{\"name\": \"t\", \"description\": \"d\", "
#define SCHEMA "\"parameters\": {\"properties\": {\"a\": {}}}, "

static void test_bad_files(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{}", "f: expected an array of at most 256 tools"},
        {"[3]", "f: tool 1: expected an object"},
        {"[{}]", "f: tool 1: name: expected 1 to 64 letters, digits, '_' and '-'"},
        {"[{\"name\": \"a b\"}]", "f: tool 1: name: expected 1 to 64 letters, digits, '_' and '-'"},
        {"[{\"name\": \"t\"}]", "f: tool t: description: expected text"},
        {HEAD "\"command\": [\"x\"]}]",
         "f: tool t: parameters: expected a JSON schema with properties"},
        {HEAD "\"parameters\": {\"properties\": {}, \"required\": [1]}}]",
         "f: tool t: parameters.required[0]: expected text"},
        {HEAD SCHEMA "\"command\": []}]",
         "f: tool t: command: expected an array of 1 to 256 words"},
        {HEAD SCHEMA "\"command\": \"ls\"}]",
         "f: tool t: command: expected an array of 1 to 256 words"},
        {HEAD SCHEMA "\"command\": [\"ls\", 3]}]", "f: tool t: command[1]: expected text"},
        {HEAD SCHEMA "\"command\": [\"\"]}]", "f: tool t: command[0]: the program has no name"},
        {HEAD SCHEMA "\"command\": [\"{a}\"]}]",
         "f: tool t: command[0]: the program cannot be filled in"},
        {HEAD SCHEMA "\"command\": [\"x\", \"{b}\"]}]",
         "f: tool t: command[1]: {b} is none of parameters.properties"},
        {HEAD SCHEMA "\"command\": [\"x\", \"{a\"]}]",
         "f: tool t: command[1]: a brace is not one of {name}, {{ and }}"},
        {HEAD SCHEMA "\"command\": [\"x\", \"a}\"]}]",
         "f: tool t: command[1]: a brace is not one of {name}, {{ and }}"},
        {HEAD SCHEMA "\"command\": [\"x\"]}, {\"name\": \"t\", \"description\": \"d\", " SCHEMA
                     "\"command\": [\"x\"]}]",
         "f: tool t is there twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        chat_tools tools = {NULL, NULL};
        sl_error err = {0};
        const char *text = cases[i].text;
        assert_int_equal(chat_tools_parse(&tools, text, strlen(text), "f", &err), SL_EFORMAT);
        assert_string_equal(err.message, cases[i].message);
        assert_null(tools.file);
    }
}

/* ---- commands -------------------------------------------------------------------------------- */

static const char sample[] =
    "[{\"name\": \"say\", \"description\": \"says\", \"parameters\": {\"type\": \"object\","
    "  \"properties\": {\"what\": {}, \"how\": {}, \"n\": {}}, \"required\": [\"what\"]},"
    "  \"command\": [\"say\", \"--\", \"{what}\", \"--how={how}\", \"{n}x\", \"{{}}\"]}]";

static void parse_sample(chat_tools *tools)
{
    sl_error err = {0};
    if (chat_tools_parse(tools, sample, strlen(sample), "f", &err) != SL_OK)
        fail_msg("%s", err.message);
}

/* The words of a call of "say", joined by '|'; or "error: …". The caller frees it. */
static char *expand(const chat_tools *tools, const char *name, const char *arguments)
{
    json_t *object = json_loads(arguments, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    char **argv = NULL;
    sl_error err = {0};
    sl__buffer out;
    sl__buffer_init(&out, 1 << 20);
    if (chat_tools_command(tools, name, object, &argv, &err) != SL_OK)
        sl__buffer_printf(&out, "error: %s", err.message);
    for (size_t i = 0; argv && argv[i]; i++)
        sl__buffer_printf(&out, "%s%s", i ? "|" : "", argv[i]);
    free(argv);
    json_decref(object);
    return out.data;
}

static void test_commands(void **state)
{
    (void)state;
    static const struct {
        const char *arguments, *words;
    } cases[] = {
        {"{\"what\": \"hi\"}", "say|--|hi|{}"},
        {"{\"what\": \"a b; rm *\", \"how\": \"$HOME\"}", "say|--|a b; rm *|--how=$HOME|{}"},
        {"{\"what\": \"\", \"how\": \"\", \"n\": 3}", "say|--||--how=|3x|{}"},
        {"{\"what\": [1, {\"b\": null}], \"n\": true}", "say|--|[1,{\"b\":null}]|truex|{}"},
        {"{\"what\": \"{how}\", \"how\": null}", "say|--|{how}|{}"},
        {"{\"what\": \"x\", \"other\": 1}", "say|--|x|{}"},
        {"{\"how\": \"x\"}", "error: argument what is missing"},
        {"{\"what\": null}", "error: argument what is missing"},
        {"{\"what\": \"a\\u0000b\"}", "error: argument what holds a NUL"},
        {"[]", "error: the arguments are no JSON object"},
    };
    chat_tools tools = {NULL, NULL};
    parse_sample(&tools);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char *words = expand(&tools, "say", cases[i].arguments);
        assert_string_equal(words, cases[i].words);
        free(words);
    }
    char *words = expand(&tools, "sing", "{}");
    assert_string_equal(words, "error: there is no tool sing");
    free(words);
    chat_tools_free(&tools);
}

static void test_too_long(void **state)
{
    (void)state;
    chat_tools tools = {NULL, NULL};
    parse_sample(&tools);
    for (size_t size = (size_t)100 << 10; size <= (size_t)2 << 20; size *= 4) {
        char *text = malloc(size + 16), **argv;
        assert_non_null(text);
        memset(text, 'x', size);
        text[size] = '\0';
        json_t *object = json_pack("{s:s}", "what", text);
        sl_error err = {0};
        sl_status status = chat_tools_command(&tools, "say", object, &argv, &err);
        if (size < (size_t)128 << 10) {
            assert_int_equal(status, SL_OK);
            assert_int_equal(strlen(argv[2]), size);
            free(argv);
        } else {
            assert_int_equal(status, SL_EINVAL);
            assert_string_equal(err.message, "argument what is too long");
        }
        json_decref(object);
        free(text);
    }
    chat_tools_free(&tools);
}

/* What the model sees has everything but the command. */
static void test_templates(void **state)
{
    (void)state;
    chat_tools tools = {NULL, NULL};
    parse_sample(&tools);
    const json_t *tool = json_array_get(tools.templates, 0);
    const json_t *function = json_object_get(tool, "function");
    assert_string_equal(json_string_value(json_object_get(tool, "type")), "function");
    assert_string_equal(json_string_value(json_object_get(function, "name")), "say");
    assert_non_null(json_object_get(function, "parameters"));
    assert_null(json_object_get(function, "command"));
    assert_non_null(json_object_get(json_array_get(tools.file, 0), "command"));
    chat_tools_free(&tools);
}

static void test_show(void **state)
{
    (void)state;
    static char *const words[][3] = {
        {"ls", "-l"},
        {"echo", "a b"},
        {"x", ""},
        {"x", "\"q\" \\"},
        {"x", "a\nb\t\r\033[2J"},
        {"x", "\xc2\x9b"
              "1m"},
        {"x", "\xe2\x80\xae"
              "exe"},
        {"x", "\xff\xfe"},
        {"x", "caf\xc3\xa9"},
        {"x", "a\xe2\x80\x8b"
              "b\xc2\xa0"},
    };
    static const char *const lines[] = {
        "ls -l",
        "echo \"a b\"",
        "x \"\"",
        "x \"\\\"q\\\" \\\\\"",
        "x \"a\\nb\\t\\u{d}\\u{1b}[2J\"",
        "x \"\\u{9b}1m\"",
        "x \"\\u{202e}exe\"",
        "x \"\\xff\\xfe\"",
        "x \"caf\xc3\xa9\"",
        "x \"a\\u{200b}b\\u{a0}\"",
    };
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        sl__buffer line;
        sl__buffer_init(&line, 1 << 16);
        assert_true(chat_tools_show(&line, words[i]));
        assert_string_equal(line.data, lines[i]);
        sl__buffer_free(&line);
    }
}

/* ---- running --------------------------------------------------------------------------------- */

static tool_result run(const char *script, const tool_limits *limits, sl__buffer *output)
{
    char text[512];
    snprintf(text, sizeof text, "%s", script);
    char *const argv[] = {"sh", "-c", text, NULL};
    sl__buffer_init(output, 1 << 20);
    tool_result result = tool_process_run(argv, limits, output);
    return result;
}

static bool always(void)
{
    return true;
}

static void test_runs(void **state)
{
    (void)state;
    const tool_limits limits = {.time_ns = 600 * SECOND, .output_bytes = 1000};
    sl__buffer output;
    tool_result r = run("echo out; echo err >&2; cat; exit 3", &limits, &output);
    assert_int_equal(r.end, TOOL_EXITED);
    assert_int_equal(r.code, 3);
    assert_false(r.cut);
    assert_string_equal(output.data, "out\nerr\n");
    sl__buffer_free(&output);

    r = run("kill -9 $$", &limits, &output);
    assert_int_equal(r.end, TOOL_KILLED);
    assert_int_equal(r.code, SIGKILL);
    assert_int_equal(output.size, 0);
    sl__buffer_free(&output);
}

static void test_not_begun(void **state)
{
    (void)state;
    const tool_limits limits = {.time_ns = 600 * SECOND, .output_bytes = 1000};
    char *const argv[] = {"/nowhere/at/all", NULL};
    sl__buffer output;
    sl__buffer_init(&output, 1000);
    tool_result r = tool_process_run(argv, &limits, &output);
    assert_int_equal(r.end, TOOL_NOT_BEGUN);
    assert_int_equal(r.code, ENOENT);
    sl__buffer_free(&output);
}

static void test_output_is_cut(void **state)
{
    (void)state;
    const tool_limits limits = {.time_ns = 600 * SECOND, .output_bytes = 1000};
    sl__buffer output;
    tool_result r = run("i=0; while [ $i -lt 3000 ]; do echo 12345678; i=$((i+1)); done; exit 7",
                        &limits, &output);
    assert_int_equal(r.end, TOOL_EXITED);
    assert_int_equal(r.code, 7);
    assert_true(r.cut);
    assert_int_equal(output.size, 1000);
    sl__buffer_free(&output);
}

/* What a program leaves behind does not keep us, and is gone. */
static void test_group_ends(void **state)
{
    (void)state;
    const tool_limits limits = {.time_ns = 600 * SECOND, .output_bytes = 1000};
    sl__buffer output;
    tool_result r = run("sleep 1000 & echo $!", &limits, &output);
    assert_int_equal(r.end, TOOL_EXITED);
    pid_t left = (pid_t)strtol(output.data, NULL, 10);
    assert_true(left > 1);
    sl__buffer_free(&output);
}

static void test_stops(void **state)
{
    (void)state;
    sl__buffer output;
    const tool_limits brief = {.time_ns = SECOND / 10, .output_bytes = 1000};
    tool_result r = run("trap '' TERM INT; while :; do sleep 1; done", &brief, &output);
    assert_int_equal(r.end, TOOL_TOO_LONG);
    sl__buffer_free(&output);
    const tool_limits stopped = {.time_ns = 600 * SECOND, .output_bytes = 1000, .stop = always};
    r = run("sleep 1000", &stopped, &output);
    assert_int_equal(r.end, TOOL_STOPPED);
    sl__buffer_free(&output);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),  cmocka_unit_test(test_commands),
        cmocka_unit_test(test_too_long),   cmocka_unit_test(test_templates),
        cmocka_unit_test(test_show),       cmocka_unit_test(test_runs),
        cmocka_unit_test(test_not_begun),  cmocka_unit_test(test_output_is_cut),
        cmocka_unit_test(test_group_ends), cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
