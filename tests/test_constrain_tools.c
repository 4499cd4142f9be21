/* Tool calls under a grammar, read back by the parser of calls; what is refused, with its message;
 * tokenizers of text; memory that runs out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "schema_check.h"
#include "text/chat_parse.h"
#include "text/tokenizer.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

static long calls, fail_at; /* fail_at 0: never */

static bool fails(void)
{
    return ++calls == fail_at;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}
void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : __real_calloc(count, size);
}
void *__wrap_realloc(void *old, size_t size)
{
    return fails() ? NULL : __real_realloc(old, size);
}

static sl_tokenizer *tok;
static sl_vocabulary *vocabulary;
static const int32_t eos = SCHEMA_END;

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"mail\",\"strict\":true,\"parameters\":{"
    "\"type\":\"object\",\"properties\":{\"to\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},"
    "\"tag\":{\"type\":\"string\",\"enum\":[\"a b\",\"c\"]},"
    "\"more\":{\"type\":\"object\",\"properties\":{\"</parameter>\":{\"type\":\"string\"}}},"
    "\"short\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":3}},"
    "\"required\":[\"to\",\"n\"]}}},{\"name\":\"map\",\"strict\":true,\"parameters\":{"
    "\"properties\":{\"x\":{\"type\":[\"string\",\"null\"]},\"free\":{},\"keys\":{"
    "\"type\":\"object\",\"properties\":{\"a<b\":{\"type\":\"null\"}},"
    "\"additionalProperties\":true}}}},"
    "{\"type\":\"function\",\"function\":{\"name\":\"go\"}},"
    "{\"name\":\"loose\",\"parameters\":{\"properties\":{\"p\":{\"type\":\"string\"},\"q\":{"
    "\"type\":\"string\",\"pattern\":\"x\"}}}}]";

/* ---- calls, read back ------------------------------------------------------------------------ */

typedef struct heard {
    json_t *list; /* of tools */
    sl__buffer name, arguments;
    int count;
} heard;

static void check_call(heard *h)
{
    size_t i;
    json_t *tool, *function;
    const char *why = "name";
    json_t *value = json_loads(h->arguments.data, 0, NULL);
    if (!json_is_object(value)) fail_msg("%s", h->arguments.data);
    bool good = false;
    json_array_foreach(h->list, i, tool)
    {
        function = json_object_get(tool, "function");
        if (!function) function = tool;
        if (strcmp(json_string_value(json_object_get(function, "name")), h->name.data)) continue;
        json_t *schema = json_object_get(function, "parameters");
        good = !schema || schema_valid(schema, schema, value, &why);
    }
    if (!good) fail_msg("%s %s: %s", h->name.data, h->arguments.data, why);
    json_decref(value);
}

static sl_status hear(void *ctx, const sl__chat_event *e)
{
    heard *h = ctx;
    if (e->kind == SL_CHAT_CALL) {
        sl__buffer_clear(&h->name);
        sl__buffer_clear(&h->arguments);
        sl__buffer_append(&h->name, e->text, e->text_size);
        h->count++;
    }
    if (e->kind == SL_CHAT_ARGUMENTS) sl__buffer_append(&h->arguments, e->text, e->text_size);
    if (e->kind == SL_CHAT_CALL_END) {
        assert_true(e->complete);
        check_call(h);
    }
    return SL_OK;
}

static int hear_calls(json_t *list, const sl__buffer *text)
{
    heard h = {.list = list};
    sl__chat_parser *parser;
    sl__buffer_init(&h.name, 1 << 16);
    sl__buffer_init(&h.arguments, 1 << 20);
    assert_int_equal(sl__chat_parser_create(&parser, list, false, hear, &h, NULL), SL_OK);
    assert_int_equal(sl__chat_feed(parser, text->data ? text->data : "", text->size, NULL), SL_OK);
    assert_int_equal(sl__chat_finish(parser, NULL), SL_OK);
    sl__chat_parser_destroy(parser);
    sl__buffer_free(&h.name);
    sl__buffer_free(&h.arguments);
    return h.count;
}

static sl_grammar *tools_grammar(const sl_tool_options *opt)
{
    sl_grammar *g;
    sl_error err = {0};
    if (sl_grammar_tool_calls(&g, tools, strlen(tools), opt, &err) != SL_OK)
        fail_msg("%s", err.message);
    return g;
}

static void calls_fit_their_tools(void **state)
{
    (void)state;
    test_rng rng = {11};
    json_t *list = json_loads(tools, 0, NULL);
    for (int kind = 0; kind < 4; kind++) {
        const sl_tool_options opt = {
            .form = (sl_tool_form)(kind & 1), .required = true, .single = kind & 2};
        sl_grammar *g = tools_grammar(&opt);
        int whole = 0;
        for (int i = 0; i < (test_fast() ? 20 : 400); i++) {
            sl__buffer text;
            sl__buffer_init(&text, 1 << 20);
            if (schema_generate(g, vocabulary, &rng, 600, &text)) {
                int count = hear_calls(list, &text);
                if (count < 1 || (opt.single && count != 1)) fail_msg("%s", text.data);
                whole++;
            }
            sl__buffer_free(&text);
        }
        assert_true(whole > 0);
        sl_grammar_close(g);
    }
    json_decref(list);
}

/* Feeds a text: byte by byte, but for the added tokens, which are one. Where the first byte is
 * refused, or -1. */
static long feed(const sl_tool_options *opt, const char *text)
{
    static const struct {
        const char *text;
        int32_t id;
    } added[] = {{"<tool_call>", SCHEMA_OPEN}, {"</tool_call>", SCHEMA_CLOSE}};
    sl_grammar *g = tools_grammar(opt);
    sl_constraint *c;
    float logits[SCHEMA_IDS];
    const char *at = text;
    assert_int_equal(sl_constraint_create(&c, g, vocabulary, SCHEMA_IDS, &eos, 1, NULL), SL_OK);
    for (;;) {
        int32_t id = *at ? (unsigned char)*at : SCHEMA_END;
        size_t n = 1;
        for (size_t i = 0; i < 2; i++)
            if (strncmp(at, added[i].text, strlen(added[i].text)) == 0)
                id = added[i].id, n = strlen(added[i].text);
        memset(logits, 0, sizeof logits);
        assert_int_equal(sl_constraint_mask(c, logits, NULL), SL_OK);
        sl_status status = sl_constraint_accept(c, id, NULL);
        assert_int_equal(status == SL_OK, logits[id] == 0);
        if (status != SL_OK || !*at) break;
        at += n;
    }
    bool ended = sl_constraint_done(c) && !*at;
    sl_constraint_destroy(c);
    sl_grammar_close(g);
    return ended ? -1 : at - text;
}

#define GO "<tool_call>\n<function=go>\n</function>\n</tool_call>"

static void free_text_until_a_call(void **state)
{
    (void)state;
    const sl_tool_options free_ = {.single = false}, one = {.single = true};
    const sl_tool_options only = {.required = true}, json = {.form = SL_TOOL_FORM_JSON};
    assert_int_equal(feed(&free_, ""), -1);
    assert_int_equal(feed(&free_, "any <b>text \xff </tool_call> <tool_cal> \n"), -1);
    assert_int_equal(feed(&free_, "so: " GO " and " GO "."), -1);
    assert_int_equal(feed(&free_, "<tool_call>x"), 11);
    assert_int_equal(feed(&free_, "<<tool_call>"), 12);
    assert_int_equal(feed(&one, "so: " GO), -1);
    assert_int_equal(feed(&one, GO "\n"), (long)strlen(GO));
    assert_int_equal(feed(&only, "\n" GO "\n" GO), -1);
    assert_int_equal(feed(&only, ""), 0);
    assert_int_equal(feed(&only, "so"), 0);
    assert_int_equal(feed(&only, "<tool_call>\n<function=gone"), 24);
    assert_int_equal(feed(&json, "<tool_call>\n{\"name\": \"go\", \"arguments\": {\"a\": 1}}\n"
                                 "</tool_call>"),
                     -1);
    assert_int_equal(feed(&json, "<tool_call>\n{\"name\": \"x"), 22);
}

/* Calls alone, or an answer alone. */
static void calls_or_an_answer(void **state)
{
    (void)state;
    static const char schema[] = "{\"properties\": {\"a\": {\"type\": \"string\"}},"
                                 "\"required\": [\"a\"]}";
    sl_grammar *g;
    sl_error err = {0};
    sl_tool_options opt = {.answer = schema, .answer_size = sizeof schema - 1};
    assert_int_equal(feed(&opt, " {\"a\": \"x\"}"), -1);
    assert_int_equal(feed(&opt, "\n" GO "\n" GO), -1);
    assert_int_equal(feed(&opt, ""), 0);
    assert_int_equal(feed(&opt, "so"), 0);
    assert_int_equal(feed(&opt, "{\"b"), 2);
    assert_int_equal(feed(&opt, "{\"a\": \"x\"}" GO), 10);
    assert_int_equal(feed(&opt, GO "{"), (long)strlen(GO));
    opt.single = true;
    assert_int_equal(feed(&opt, GO GO), (long)strlen(GO));
    opt.answer = "{\"pattern\": \"a\"}";
    opt.answer_size = strlen(opt.answer);
    assert_int_equal(sl_grammar_tool_calls(&g, tools, strlen(tools), &opt, &err), SL_EUNSUPPORTED);
    assert_null(g);
    assert_non_null(strstr(err.message, "json_schema: "));
    assert_non_null(strstr(err.message, "pattern"));
    opt.answer = "{";
    opt.answer_size = 1;
    assert_int_equal(sl_grammar_tool_calls(&g, tools, strlen(tools), &opt, &err), SL_EFORMAT);
    assert_non_null(strstr(err.message, "json_schema: "));
}

#define MAIL       "<tool_call>\n<function=mail>\n<parameter=to>\n"
#define MAIL_N     "\n</parameter>\n<parameter=n>\n5\n</parameter>\n"
#define MAIL_SHORT MAIL "x" MAIL_N "<parameter=short>\n"
#define MAIL_END   "\n</parameter>\n</function>\n</tool_call>"

static void values_are_as_their_schemas_say(void **state)
{
    (void)state;
    const sl_tool_options opt = {.single = true};
    assert_int_equal(
        feed(&opt, MAIL "a\n<b> </p\n\n</paramete\n" MAIL_N "</function>\n</tool_call>"), -1);
    assert_int_equal(feed(&opt, MAIL "</parameter>"), (long)strlen(MAIL "</parameter"));
    assert_int_equal(feed(&opt, MAIL MAIL_N "</function>\n</tool_call>"), -1);
    assert_int_equal(feed(&opt, MAIL "x\n</parameter>\n</"),
                     (long)strlen(MAIL "x\n</parameter>\n<"));
    assert_int_equal(feed(&opt, MAIL_SHORT "abc" MAIL_END), -1);
    assert_int_equal(feed(&opt, MAIL_SHORT "\xc3\xa9\n<" MAIL_END), -1);
    assert_int_equal(feed(&opt, MAIL_SHORT "abcd"), (long)strlen(MAIL_SHORT "abc"));
    assert_int_equal(feed(&opt, MAIL_SHORT "\n<"), (long)strlen(MAIL_SHORT "\n"));
    assert_int_equal(feed(&opt, MAIL_SHORT "a\n</x"), (long)strlen(MAIL_SHORT "a\n</"));
    assert_int_equal(feed(&opt, MAIL "x" MAIL_N "<parameter=tag>\na b" MAIL_END), -1);
    assert_int_equal(feed(&opt, MAIL "x" MAIL_N "<parameter=tag>\nb"),
                     (long)strlen(MAIL "x" MAIL_N "<parameter=tag>\n"));
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void refused(const char *schema, sl_status status, const char *message)
{
    sl_grammar *g;
    sl_error err = {0};
    assert_int_equal(sl_grammar_json_schema(&g, schema, strlen(schema), &err), status);
    assert_null(g);
    assert_string_equal(err.message, message);
}

static void schemas_are_refused_by_name_and_place(void **state)
{
    (void)state;
    refused("{\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"x\"}}}", SL_EUNSUPPORTED,
            "json_schema: #/properties/a: the keyword \"pattern\" is not supported");
    refused("{\"items\":{\"format\":\"date\"}}", SL_EUNSUPPORTED,
            "json_schema: #/items: the keyword \"format\" is not supported");
    refused("{\"anyOf\":[{}],\"minItems\":1}", SL_EUNSUPPORTED,
            "json_schema: #: the keyword \"minItems\" beside \"anyOf\" is not supported");
    refused("{\"oneOf\":[{\"type\":\"integer\"},{\"type\":\"number\"}]}", SL_EUNSUPPORTED,
            "json_schema: #: oneOf: its schemas 0 and 1 may both hold (anyOf allows that)");
    refused("{\"allOf\":[{},{}]}", SL_EUNSUPPORTED, "json_schema: #: allOf of more than 1 schemas");
    refused("{\"$ref\":\"#/x\"}", SL_EINVAL, "json_schema: #: $ref \"#/x\" is not there");
    refused("{\"$ref\":\"http://x\"}", SL_EUNSUPPORTED,
            "json_schema: #: $ref to something else than a part of this schema (\"#/…\")");
    refused("{\"$ref\":\"#\"}", SL_EUNSUPPORTED, "json_schema: #: $ref leads on and on");
    refused("{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}",
            SL_EUNSUPPORTED, "json_schema: no value fits it");
    refused("{\"anyOf\":[{\"$ref\":\"#/anyOf/1\"},{\"anyOf\":[{\"$ref\":\"#\"},{}]}]}",
            SL_EUNSUPPORTED, "json_schema: an alternative is the whole that it is part of");
    refused("{\"minItems\":3,\"maxItems\":2}", SL_EINVAL,
            "json_schema: #: minItems is above maxItems");
    refused("{\"minLength\":3,\"maxLength\":2}", SL_EINVAL,
            "json_schema: #: minLength is above maxLength");
    refused("{\"maxLength\":-1}", SL_EINVAL,
            "json_schema: #: maxLength is no whole number of at least 0");
    refused("{\"type\":\"integer\",\"minimum\":2,\"maximum\":1}", SL_EUNSUPPORTED,
            "json_schema: #: no number is so bounded");
    refused("{\"type\":\"number\",\"minimum\":0.5}", SL_EUNSUPPORTED,
            "json_schema: #: minimum of a number with a fraction is not supported but for whole "
            "ones");
    refused("{\"type\":\"integer\",\"minimum\":1e300}", SL_EUNSUPPORTED,
            "json_schema: #: minimum is too large a bound");
    refused("{\"type\":\"text\"}", SL_EINVAL, "json_schema: #: type text is none of JSON's");
    refused("{\"enum\":[]}", SL_EINVAL, "json_schema: #: enum is no list of values");
    refused("{\"type\":\"null\",\"enum\":[1]}", SL_EUNSUPPORTED, "json_schema: no value fits it");
    refused("{\"properties\":{\"a\":3}}", SL_EINVAL,
            "json_schema: #/properties/a: neither an object nor a boolean");
    refused("{\"required\":[\"b\"],\"properties\":{\"a\":{}}}", SL_EUNSUPPORTED,
            "json_schema: #: required: \"b\" is not among the properties");
    refused("{\"type\":\"array\",\"items\":false,\"minItems\":1}", SL_EUNSUPPORTED,
            "json_schema: no value fits it");
}

static void tools_refused(const char *list, const char *message)
{
    sl_grammar *g;
    sl_error err = {0};
    const sl_tool_options opt = {.strict = true};
    assert_true(sl_grammar_tool_calls(&g, list, strlen(list), &opt, &err) != SL_OK);
    assert_null(g);
    assert_string_equal(err.message, message);
}

static void tools_are_refused_by_name(void **state)
{
    (void)state;
    tools_refused("[]", "tools: no list of 1 to 1024 tools");
    tools_refused("[{}]", "tools[0]: no function with a name");
    tools_refused("[{\"name\":\"a<b\"}]", "tools[0] (a<b): the name \"a<b\" cannot be called");
    tools_refused("[{\"name\":\"a\",\"parameters\":{\"properties\":{\"b>\":{}}}}]",
                  "tools[0] (a): the parameter \"b>\" cannot be called");
    tools_refused("[{\"name\":\"a\",\"parameters\":{\"properties\":{\"b\":{\"type\":\"string\","
                  "\"pattern\":\"x\"}}}}]",
                  "tools[0] (a): #/properties/b: the keyword \"pattern\" is not supported");
    tools_refused("[{\"name\":\"a\",\"parameters\":{\"properties\":{\"b\":{\"items\":{"
                  "\"not\":{}}}}}}]",
                  "tools[0] (a): #/properties/b/items: the keyword \"not\" is not supported");
    tools_refused("[{\"name\":\"a\",\"parameters\":{\"required\":[\"c\"],\"properties\":{}}}]",
                  "tools[0] (a): #: required: \"c\" is not among the properties");
}

static void misuse_is_told(void **state)
{
    (void)state;
    sl_grammar *g;
    sl_constraint *c;
    sl_error err = {0};
    float logits[SCHEMA_IDS] = {0};
    int32_t many[SL_CONSTRAINT_EOS_MAX + 1] = {0};
    assert_int_equal(sl_grammar_json(&g, NULL), SL_OK);
    assert_int_equal(sl_constraint_create(&c, g, vocabulary, 0, &eos, 1, &err), SL_EINVAL);
    sl_error_clear(&err);
    assert_int_equal(
        sl_constraint_create(&c, g, vocabulary, 300, many, SL_CONSTRAINT_EOS_MAX + 1, &err),
        SL_EINVAL);
    sl_error_clear(&err);
    assert_int_equal(sl_constraint_create(&c, g, vocabulary, SCHEMA_IDS, &eos, 1, &err), SL_OK);
    assert_int_equal(sl_constraint_accept(c, eos, &err), SL_EINVAL);
    assert_string_equal(err.message, "constraint: token 302 cannot continue the text");
    sl_error_clear(&err);
    assert_int_equal(sl_constraint_mask(c, logits, &err), SL_EINVAL);
    assert_string_equal(err.message, "constraint: nothing follows a token that did not fit");
    sl_error_clear(&err);
    assert_int_equal(sl_constraint_mask_within(c, 9, logits, &err), SL_EINVAL);
    assert_string_equal(err.message, "constraint: nothing follows a token that did not fit");
    assert_false(sl_constraint_fits(c, '{', 9));
    sl_constraint_reset(c);
    assert_false(sl_constraint_fits(c, -1, 9) || sl_constraint_fits(c, eos, 9));
    assert_true(sl_constraint_fits(c, '{', 9));
    assert_int_equal(sl_constraint_accept(c, '{', NULL), SL_OK);
    assert_int_equal(sl_constraint_accept(c, '}', NULL), SL_OK);
    assert_true(sl_constraint_done(c));
    assert_int_equal(sl_constraint_accept(c, eos, NULL), SL_OK);
    sl_error_clear(&err);
    assert_int_equal(sl_constraint_mask(c, logits, &err), SL_EINVAL);
    assert_string_equal(err.message, "constraint: nothing follows an end token");
    sl_constraint_destroy(c);
    sl_grammar_close(g);
}

/* ---- tokenizers of text ---------------------------------------------------------------------- */

/* SentencePiece: a mark for a space, bytes as "<0xE4>". */
static sl_tokenizer *text_tokenizer(void)
{
    static const char *const words[] = {"\xe2\x96\x81",   "{",   "}", "\"", ":",  "a", "\xc3\xa9",
                                        "\xe2\x96\x81\"", "\":", "1", ",",  "\"}"};
    enum { WORDS = sizeof words / sizeof words[0], COUNT = WORDS + 258 };
    static char bytes[256][8];
    sl__tok_text tokens[COUNT];
    int64_t types[COUNT];
    double scores[COUNT];
    sl_tokenizer *out;
    sl_error err = {0};
    for (size_t i = 0; i < COUNT; i++) {
        const char *text = i == 0 ? "<unk>" : i == 1 ? "</s>" : NULL;
        if (i >= 258) text = words[i - 258];
        types[i] = i == 0 ? SL__TOKEN_UNKNOWN : i == 1 ? SL__TOKEN_CONTROL : SL__TOKEN_NORMAL;
        if (!text) {
            snprintf(bytes[i - 2], sizeof bytes[0], "<0x%02X>", (unsigned)(i - 2));
            text = bytes[i - 2];
            types[i] = SL__TOKEN_BYTE;
        }
        tokens[i] = (sl__tok_text){text, strlen(text)};
        scores[i] = -(double)i;
    }
    const sl__gguf_vocab vocab = {
        .model = "llama",
        .tokens = tokens,
        .token_count = COUNT,
        .types = types,
        .scores = scores,
        .bos = -1,
        .eos = 1,
        .unknown = 0,
        .add_bos = 0,
        .add_eos = 0,
        .add_space_prefix = 0,
    };
    if (sl__tokenizer_parse_gguf(&out, &vocab, "text", &err) != SL_OK) fail_msg("%s", err.message);
    return out;
}

static void tokens_of_text_are_what_they_decode_to(void **state)
{
    (void)state;
    static const int32_t fit[] = {259, 261, 2 + 0xc3, 2 + 0xa9, 264, 266, 258,
                                  267, 268, 265,      263,      262, 267, 260};
    static const char schema[] = "{\"additionalProperties\":{\"type\":\"integer\"}}";
    sl_tokenizer *text = text_tokenizer();
    sl_vocabulary *v;
    sl_grammar *g;
    sl_constraint *c;
    float logits[270];
    const int32_t end = 1;
    assert_int_equal(sl_vocabulary_create(&v, text, NULL), SL_OK);
    assert_int_equal(sl_grammar_json_schema(&g, schema, sizeof schema - 1, NULL), SL_OK);
    assert_int_equal(sl_constraint_create(&c, g, v, 270, &end, 1, NULL), SL_OK);
    for (size_t i = 0; i < sizeof fit / sizeof fit[0]; i++) {
        memset(logits, 0, sizeof logits);
        assert_int_equal(sl_constraint_mask(c, logits, NULL), SL_OK);
        assert_true(logits[0] == -INFINITY && logits[1] == -INFINITY);
        if (sl_constraint_accept(c, fit[i], NULL) != SL_OK) fail_msg("token %d", (int)fit[i]);
    }
    sl_constraint_destroy(c);
    sl_grammar_close(g);
    sl_vocabulary_destroy(v);
    sl_tokenizer_close(text);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static sl_status all_of_it(sl_error *err)
{
    static const char schema[] =
        "{\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"a\":{\"enum\":[1,\"x\"]},\"b\":{"
        "\"$ref\":\"#/$defs/n\"}},\"additionalProperties\":true}},\"$ref\":\"#/$defs/n\"}";
    const sl_tool_options opt = {.strict = false};
    sl_grammar *g = NULL, *t = NULL;
    sl_vocabulary *v = NULL;
    sl_constraint *c = NULL;
    sl_status status = sl_grammar_json_schema(&g, schema, sizeof schema - 1, err);
    if (status == SL_OK) status = sl_grammar_tool_calls(&t, tools, strlen(tools), &opt, err);
    if (status == SL_OK) status = sl_vocabulary_create(&v, tok, err);
    if (status == SL_OK) status = sl_constraint_create(&c, t, v, SCHEMA_IDS, &eos, 1, err);
    if (status == SL_OK) status = sl_constraint_watch(c, err);
    sl_constraint_destroy(c);
    sl_vocabulary_destroy(v);
    sl_grammar_close(t);
    sl_grammar_close(g);
    return status;
}

static void every_allocation_fails_in_turn(void **state)
{
    (void)state;
    calls = fail_at = 0;
    assert_int_equal(all_of_it(NULL), SL_OK);
    long count = calls;
    assert_true(count > 20);
    long step = test_fast() && count > 200 ? count / 200 : 1;
    for (long i = 1; i <= count; i += step) {
        sl_error err = {0};
        calls = 0;
        fail_at = i;
        sl_status status = all_of_it(&err);
        fail_at = 0;
        if (status == SL_OK) continue; /* it was for what may be larger than it need be */
        if (status != SL_ENOMEM) fail_msg("allocation %ld: %s", i, err.message);
    }
}

static void a_token_allocates_nothing(void **state)
{
    (void)state;
    const sl_tool_options opt = {.single = false};
    static const char text[] = "so " MAIL "x" MAIL_N "</function>\n</tool_call> and so on";
    sl_grammar *g = tools_grammar(&opt);
    sl_constraint *c;
    float logits[SCHEMA_IDS];
    assert_int_equal(sl_constraint_create(&c, g, vocabulary, SCHEMA_IDS, &eos, 1, NULL), SL_OK);
    assert_int_equal(sl_constraint_watch(c, NULL), SL_OK);
    long before = calls;
    for (const char *s = text; *s; s++) {
        sl_status masked = sl_constraint_mask(c, logits, NULL);
        bool fits = sl_constraint_fits(c, (unsigned char)*s, 1000);
        sl_status within = sl_constraint_mask_within(c, 1, logits, NULL);
        sl_status accepted = sl_constraint_accept(c, (unsigned char)*s, NULL);
        if (masked != SL_OK || within != SL_OK || !fits || accepted != SL_OK) fail_msg("%s", s);
    }
    assert_int_equal(calls, before);
    sl_constraint_destroy(c);
    sl_grammar_close(g);
}

int main(void)
{
    tok = schema_tokenizer();
    if (sl_vocabulary_create(&vocabulary, tok, NULL) != SL_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(calls_fit_their_tools),
        cmocka_unit_test(free_text_until_a_call),
        cmocka_unit_test(calls_or_an_answer),
        cmocka_unit_test(values_are_as_their_schemas_say),
        cmocka_unit_test(schemas_are_refused_by_name_and_place),
        cmocka_unit_test(tools_are_refused_by_name),
        cmocka_unit_test(misuse_is_told),
        cmocka_unit_test(tokens_of_text_are_what_they_decode_to),
        cmocka_unit_test(every_allocation_fails_in_turn),
        cmocka_unit_test(a_token_allocates_nothing),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sl_vocabulary_destroy(vocabulary);
    sl_tokenizer_close(tok);
    return failed;
}
