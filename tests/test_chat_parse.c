/* What a model writes back: reasoning, content and calls. An event list is compared as text:
 * R(reasoning) C(content) call:NAME args end or broken, pieces of one kind joined. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/fail.h"
#include "test_env.h"
#include "text/chat_parse.h"

static const char tools_text[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"go\",\"parameters\":{\"type\":\"object\","
    "\"properties\":{\"s\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},"
    "\"b\":{\"type\":\"boolean\"},\"o\":{\"type\":\"object\"},\"either\":{\"type\":[\"null\","
    "\"string\"]},\"any\":{},\"maybe\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]},"
    "\"size\":{\"anyOf\":[{\"type\":\"number\"},{\"enum\":[\"7\",\"big\"]}]},"
    "\"pick\":{\"enum\":[\"1\",\"2\",3]}}}}},{\"name\":\"stop\"}]";

typedef struct gathered {
    sl__buffer raw, said;
    int last; /* kind of the event before, -1: none */
} gathered;

static sl_status gather(void *ctx, const sl__chat_event *e)
{
    gathered *g = ctx;
    sl__buffer_append(&g->raw, e->raw, e->raw_size);
    if (e->kind == SL_CHAT_SYNTAX || (e->text_size == 0 && e->kind != SL_CHAT_CALL_END))
        return SL_OK;
    static const char *const names[] = {"|C:", "|R:", "|call:", "|args:", "|end"};
    if (g->last != (int)e->kind || e->kind == SL_CHAT_CALL_END)
        sl__buffer_append_str(&g->said, names[e->kind]);
    if (e->kind == SL_CHAT_CALL_END && !e->complete) sl__buffer_append_str(&g->said, " broken");
    sl__buffer_append(&g->said, e->text, e->text_size);
    g->last = (int)e->kind;
    return SL_OK;
}

/* Feeds pieces of 1 to `most` bytes; the caller frees both buffers. */
static void parse(gathered *g, const char *text, size_t size, bool thinking, bool tools,
                  unsigned most, test_rng *rng)
{
    sl__chat_parser *parser;
    sl_error err = {0};
    json_t *list = tools ? json_loads(tools_text, 0, NULL) : NULL;
    sl__buffer_init(&g->raw, SIZE_MAX / 2);
    sl__buffer_init(&g->said, SIZE_MAX / 2);
    g->last = -1;
    assert_int_equal(sl__chat_parser_create(&parser, list, thinking, gather, g, &err), SL_OK);
    json_decref(list);
    for (size_t at = 0, n; at < size; at += n) {
        n = most == 1 ? 1 : 1 + test_rng_below(rng, most);
        if (n > size - at) n = size - at;
        assert_int_equal(sl__chat_feed(parser, text + at, n, &err), SL_OK);
    }
    assert_int_equal(sl__chat_finish(parser, &err), SL_OK);
    sl__chat_parser_destroy(parser);
    sl__buffer_reserve(&g->said, 0);
    sl__buffer_reserve(&g->raw, 0);
}

static void free_gathered(gathered *g)
{
    sl__buffer_free(&g->raw);
    sl__buffer_free(&g->said);
}

typedef struct row {
    const char *text, *said;
} row;

#define XML(body)     "<tool_call>\n<function=go>\n" body "</function>\n</tool_call>"
#define P(key, value) "<parameter=" key ">\n" value "\n</parameter>\n"

static const row rows[] = {
    {"", ""},
    {"Hi\nthere\n", "|C:Hi\nthere\n"},
    {"<think>\nhm\nhm\n</think>\n\nAnswer", "|R:hm\nhm|C:Answer"},
    {"<think>\n\n</think>\n\nAnswer", "|C:Answer"},
    {"<think>never closed\n", "|R:never closed\n"},
    {"a <think> b </think>", "|C:a <think> b </think>"},
    {"</think>x", "|C:</think>x"},
    {"<think>a<b></thin></think>c</think>", "|R:a<b></thin>|C:c</think>"},
    {"Look.\n\n" XML(P("s", "x y") P("n", "2")),
     "|C:Look.|call:go|args:{\"s\": \"x y\", \"n\": 2}|end"},
    {XML(""), "|call:go|args:{}|end"},
    {XML(P("s", "\na \"q\"\\\n<b>\n</parameter\n")),
     "|call:go|args:{\"s\": \"\\na \\\"q\\\"\\\\\\n<b>\\n</parameter\\n\"}|end"},
    {XML(P("s", "")), "|call:go|args:{\"s\": \"\"}|end"},
    {XML("<parameter=s>inline</parameter>"), "|call:go|args:{\"s\": \"inline\"}|end"},
    {XML(P("n", "x") P("b", "True") P("o", "{\"a\": [1]}") P("either", "5") P("any", "None")
             P("other", "7")),
     "|call:go|args:{\"n\": \"x\", \"b\": true, \"o\": {\"a\": [1]}, \"either\": \"5\", "
     "\"any\": null, \"other\": \"7\"}|end"},
    /* A schema of alternatives: what is JSON of none of them is a string. */
    {XML(P("maybe", "12") P("maybe", "null") P("maybe", "\"12\"") P("maybe", "[]") P("maybe", "x")),
     "|call:go|args:{\"maybe\": \"12\", \"maybe\": null, \"maybe\": \"12\", \"maybe\": \"[]\", "
     "\"maybe\": \"x\"}|end"},
    {XML(P("size", "12") P("size", "7") P("size", "true") P("pick", "1") P("pick", "3")
             P("pick", "4")),
     "|call:go|args:{\"size\": 12, \"size\": 7, \"size\": true, \"pick\": \"1\", \"pick\": 3, "
     "\"pick\": 4}|end"},
    {XML(P("n", "1")) "\n" XML(P("n", "2")) "\n",
     "|call:go|args:{\"n\": 1}|end|call:go|args:{\"n\": 2}|end"},
    {"<think>\nI call.\n" XML(P("n", "1")) "done", "|R:I call.|call:go|args:{\"n\": 1}|end|C:done"},
    {"<tool_call>\n{\"name\": \"go\", \"arguments\": {\"s\": \"}\\\"]\", \"n\": [1, {}]}}\n"
     "</tool_call>",
     "|call:go|args:{\"s\": \"}\\\"]\", \"n\": [1, {}]}|end"},
    {"<tool_call>{\"arguments\": {\"n\": 1}, \"name\": \"stop\"}</tool_call>x",
     "|call:stop|args:{\"n\": 1}|end|C:x"},
    {"<tool_call>{\"name\": \"go\", \"arguments\": \"{\\\"n\\\": 1}\"}</tool_call>",
     "|call:go|args:{\"n\": 1}|end"},
    /* What is no call is text, to the last character. */
    {"<tool_call>", "|C:<tool_call>"},
    {"a\n\n<tool_call>\nb", "|C:a\n\n<tool_call>\nb"},
    {"<tool_call>\n<function=nobody>\n</function>\n</tool_call>",
     "|C:<tool_call>\n<function=nobody>\n</function>\n</tool_call>"},
    {"<tool_call>\n<function=>x", "|C:<tool_call>\n<function=>x"},
    {"<tool_call>{\"name\": \"nobody\", \"arguments\": {}}</tool_call>",
     "|C:<tool_call>{\"name\": \"nobody\", \"arguments\": {}}</tool_call>"},
    {"<tool_call>{\"name\": 5}</tool_call>", "|C:<tool_call>{\"name\": 5}</tool_call>"},
    {"<tool_call>{\"x\": 5", "|C:<tool_call>{\"x\": 5"},
    {"<tool_call><tool_call>\n<function=stop></function></tool_call>",
     "|C:<tool_call>|call:stop|args:{}|end"},
    /* Calls that break off. */
    {"<tool_call>\n<function=go>\n" P("s", "a") "<parameter=s>\nhalf\n</para",
     "|call:go|args:{\"s\": \"a\", \"s\": \"half\\n</para\"}|end broken"},
    {"<tool_call>\n<function=go>\nodd", "|call:go|args:{}|end broken|C:odd"},
    {"<tool_call>\n<function=go>\n<parameter=n>\n12", "|call:go|args:{\"n\": 12}|end broken"},
    {"<tool_call>\n<function=go>\n</function>\nand so on",
     "|call:go|args:{}|end broken|C:and so on"},
    {"<tool_call>{\"name\": \"go\", \"arguments\": {\"n\": [1",
     "|call:go|args:{\"n\": [1|end broken"},
    {"<tool_call>{\"name\": \"go\", \"arguments\": {}, \"id\": 1}</tool_call>",
     "|call:go|args:{}|end broken|C:, \"id\": 1}</tool_call>"},
};

static void known(void **state)
{
    (void)state;
    test_rng rng = {1};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        for (unsigned most = 1; most < 100; most += 49) {
            gathered g;
            size_t size = strlen(rows[i].text);
            parse(&g, rows[i].text, size, false, true, most, &rng);
            if (strcmp(g.said.data, rows[i].said) != 0)
                fail_msg("'%s' says\n%s, not\n%s", rows[i].text, g.said.data, rows[i].said);
            assert_string_equal(g.raw.data, rows[i].text);
            free_gathered(&g);
        }
    }
}

static void thinking_and_any_tool(void **state)
{
    (void)state;
    test_rng rng = {1};
    gathered g;
    const char *text = "\nhm\n</think>\n\n<tool_call><function=f><parameter=n>5</parameter>"
                       "</function></tool_call>";
    parse(&g, text, strlen(text), true, false, 3, &rng);
    assert_string_equal(g.said.data, "|R:hm|call:f|args:{\"n\": \"5\"}|end");
    free_gathered(&g);
}

/* Text put together from what tags are made of, and cut into pieces at random. */
static void pieces(void **state)
{
    (void)state;
    static const char *const parts[] = {"<think>",
                                        "</think>",
                                        "<tool_call>",
                                        "</tool_call>",
                                        "<function=go>",
                                        "</function>",
                                        "<parameter=s>",
                                        "<parameter=n>",
                                        "</parameter>",
                                        "\n",
                                        "\n\n",
                                        "a",
                                        "<",
                                        ">",
                                        "/",
                                        " ",
                                        "{\"name\": \"go\", \"arguments\": ",
                                        "{",
                                        "}",
                                        "\"",
                                        "\\",
                                        "[",
                                        "]",
                                        "12",
                                        "\xc3\xa9",
                                        "<tool_call>\n<function=go>\n",
                                        "</function>\n</tool_call>",
                                        "<tool",
                                        "{}}",
                                        "True"};
    const unsigned count = sizeof parts / sizeof parts[0];
    test_rng rng = {7};
    for (int round = test_fast() ? 2000 : 20000; round > 0; round--) {
        sl__buffer text;
        gathered whole, cut, bytes;
        sl__buffer_init(&text, SIZE_MAX / 2);
        sl__buffer_reserve(&text, 0);
        for (unsigned n = test_rng_below(&rng, 24); n > 0; n--)
            sl__buffer_append_str(&text, parts[test_rng_below(&rng, count)]);
        bool thinking = test_rng_below(&rng, 2), tools = test_rng_below(&rng, 2);
        parse(&whole, text.data, text.size, thinking, tools, 1 << 30, &rng);
        parse(&cut, text.data, text.size, thinking, tools, 9, &rng);
        parse(&bytes, text.data, text.size, thinking, tools, 1, &rng);
        if (strcmp(whole.said.data, bytes.said.data) != 0)
            fail_msg("%s\nis %s\nor %s", text.data, whole.said.data, bytes.said.data);
        assert_string_equal(whole.said.data, cut.said.data);
        assert_string_equal(whole.raw.data, text.data);
        assert_string_equal(cut.raw.data, text.data);
        assert_string_equal(bytes.raw.data, text.data);
        free_gathered(&whole);
        free_gathered(&cut);
        free_gathered(&bytes);
        sl__buffer_free(&text);
    }
}

static sl_status stop(void *ctx, const sl__chat_event *e)
{
    int *left = ctx;
    (void)e;
    return --*left < 0 ? SL_ECANCELLED : SL_OK;
}

static void stopping(void **state)
{
    (void)state;
    const char *text = "<think>x</think>" XML(P("n", "1"));
    int left = 3;
    sl_error err = {0};
    sl__chat_parser *parser;
    assert_int_equal(sl__chat_parser_create(&parser, NULL, false, stop, &left, &err), SL_OK);
    assert_int_equal(sl__chat_feed(parser, text, strlen(text), &err), SL_ECANCELLED);
    assert_int_equal(left, -1);
    assert_int_equal(sl__chat_feed(parser, "x", 1, &err), SL_ECANCELLED);
    assert_int_equal(sl__chat_finish(parser, &err), SL_ECANCELLED);
    assert_int_equal(left, -1);
    sl__chat_parser_destroy(parser);
    sl__chat_parser_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known),
        cmocka_unit_test(thinking_and_any_tool),
        cmocka_unit_test(pieces),
        cmocka_unit_test(stopping),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
