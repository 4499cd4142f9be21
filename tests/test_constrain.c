/* Constrained decoding on a small vocabulary whose tokens cross what JSON keeps apart: whatever is
 * chosen among the tokens that are allowed, the text is valid; and a token is allowed exactly where
 * its bytes are, one after the other. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constrain/vocabulary.h"
#include "schema_check.h"
#include "text/tokenizer.h"

static sl_tokenizer *tok;
static sl_vocabulary *vocabulary;
static const int32_t eos = SCHEMA_END;

static sl_grammar *grammar_of(const char *schema)
{
    sl_grammar *g;
    sl_error err = {0};
    if (sl_grammar_json_schema(&g, schema, strlen(schema), &err) != SL_OK)
        fail_msg("%s: %s", schema, err.message);
    return g;
}

static sl_constraint *constraint_of(const sl_grammar *g)
{
    sl_constraint *c;
    sl_error err = {0};
    if (sl_constraint_create(&c, g, vocabulary, SCHEMA_IDS, &eos, 1, &err) != SL_OK)
        fail_msg("%s", err.message);
    return c;
}

/* ---- which texts ----------------------------------------------------------------------------- */

static void mask(sl_constraint *c, float logits[SCHEMA_IDS])
{
    sl_error err = {0};
    memset(logits, 0, SCHEMA_IDS * sizeof *logits);
    if (sl_constraint_mask(c, logits, &err) != SL_OK) fail_msg("%s", err.message);
    for (int i = 0; sl_constraint_done(c) && i < SCHEMA_IDS; i++)
        assert_true(i == SCHEMA_END ? logits[i] == 0 : logits[i] == -INFINITY);
}

/* How far a text goes, byte by byte: -1 where all of it may stand and may end, else the place of
 * the byte that is refused, or its size where it may not end. */
static long reach(const sl_grammar *g, const char *text, size_t size)
{
    sl_constraint *c = constraint_of(g);
    float logits[SCHEMA_IDS];
    long at = 0;
    for (; (size_t)at <= size; at++) {
        mask(c, logits);
        int32_t id = (size_t)at == size ? SCHEMA_END : (unsigned char)text[at];
        sl_status status = sl_constraint_accept(c, id, NULL);
        assert_int_equal(status == SL_OK, logits[id] == 0);
        if (status != SL_OK) break;
    }
    sl_constraint_destroy(c);
    return (size_t)at > size ? -1 : at;
}

/* A text that is taken; or, with a '|', refused at the byte behind it. The grammar is closed. */
static void check_texts(sl_grammar *g, const char *const *texts)
{
    for (; *texts; texts++) {
        char plain[512];
        const char *text = *texts, *bar = strchr(text, '|');
        long wanted = bar ? bar - text : -1;
        snprintf(plain, sizeof plain, "%.*s%s", (int)(bar ? bar - text : 0), text,
                 bar ? bar + 1 : text);
        long at = reach(g, plain, strlen(plain));
        if (at != wanted) fail_msg("%s: %ld, not %ld", text, at, wanted);
    }
    sl_grammar_close(g);
}

static void any_object(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{}",
        "\n{ }",
        "{\"a\": 1}",
        "{\"a\":[true, null,2.5e-3,{},[]]}",
        "{\n  \"k\": \"\\u00e9\\ud83d\\ude00 \xf0\x9f\x98\x80\\n\",\n  \"b\": -0.5E+10\n}",
        "|[]",
        "{|,}",
        "{\"a\"| : 1}",
        "{\"a\": 0|1}",
        "{\"a\": \"|\n\"}",
        "{\"a\": \"\\|x\"}",
        "{\"a\": \"\\u000|0\"}",
        "{\"a\": \"\\ud83d|x\"}",
        "{\"a\": \"\\ud83d\\ud|8\"}",
        "{\"a\": \"\\ud|c\"}",
        "{\"a\": 1,|}",
        "{}|}",
        "{  |  }",
        "{\n|\n}",
        "{\"a\": \"|\xc0",
        "{\"a\": \"\xed|\xa0",
        "{\"a\": \"\xe2\x82|\"",
        "{\"a\": \"\xf4|\x90",
        "{\"a\": 1e|}",
        "{\"a\": 1e99|9}",
        "{\"a\": 123456789012345678|9}",
        "{\"a\": -|}",
        "{\"a\": |+1}",
        "{\"a\": |.5}",
        "{\"a\": tr|ie}",
        "{\"a\": 1|",
        NULL,
    };
    sl_grammar *g;
    assert_int_equal(sl_grammar_json(&g, NULL), SL_OK);
    check_texts(g, texts);
}

/* Each schema with texts, as above. ' stands for " in both. */
static const char *const schemas[][12] = {
    {"{'type':'object','properties':{'a':{'type':'integer'},'b':{'type':'string'}},"
     "'required':['a']}",
     "{'a': 1}", "{'a':-20, 'b': 'x'}", "{'|b'", "{|}", "{'a': 1, '|a'", "{'a': 1|.5",
     "{'a': 1, '|c'", NULL},
    {"{'type':'object','properties':{'a':{},'b':{},'c':{}},'additionalProperties':false}", "{}",
     "{'c': []}", "{'a': 1,'c': {}}", "{'b': 1, '|a'", NULL},
    {"{'properties':{'ab':{'type':'null'},'ab\xc3\xa9':{'type':'null'}},"
     "'additionalProperties':{'type':'integer'}}",
     "{'ab': null, 'x': 1}", "{'abc': 1, 'abc': 2}", "{'ab\xc3\xa8': 3}", "{'a': 1}", "{'': 1}",
     "{'x': 1, 'ab|'", "{'x': 1, 'ab\xc3\xa9|'", "{'x': 1, 'a|\\", NULL},
    {"{'type':'array','items':{'type':'boolean'},'minItems':2,'maxItems':3}", "[true,false]",
     "[true, true, true]", "[|]", "[true|]", "[true,true,true|,", NULL},
    {"{'type':'array','maxItems':0}", "[]", "[|1", NULL},
    {"{'type':'string','minLength':2,'maxLength':3}", "'ab'", "'\xc3\xa9\\n\\ud83d\\ude00'", "'a|'",
     "'abc|d", "'abc|\\", NULL},
    {"{'enum':['x','xy',1,null,{'a':[1.5]}]}", "'x'", "'xy'", "1", "null", "{'a':[1.5]}", "'|y",
     "|2", NULL},
    {"{'const':0.1}", "0.1", "0.|2", NULL},
    {"{'type':['string','null'],'enum':['a',null,3]}", "'a'", "null", "|3", NULL},
    {"{'anyOf':[{'type':'integer'},{'type':'array','items':{'$ref':'#'}}]}", "1", "[[[2],3],[]]",
     "[|true", "|{", NULL},
    {"{'$defs':{'node':{'type':'object','properties':{'v':{'type':'integer'},'next':{'anyOf':["
     "{'$ref':'#/$defs/node'},{'type':'null'}]}},'required':['v','next']}},'$ref':'#/$defs/node'}",
     "{'v': 1, 'next': null}", "{'v': 1, 'next': {'v': 2, 'next': null}}", "{'v': 1|}", NULL},
    {"{'oneOf':[{'type':'object','properties':{'kind':{'const':'a'},'x':{'type':'integer'}},"
     "'required':['kind','x']},{'type':'object','properties':{'kind':{'const':'b'}},"
     "'required':['kind']}]}",
     "{'kind': 'a', 'x': 1}", "{'kind': 'b'}", "{'kind': 'a'|}", "{'kind': 'b'|,", NULL},
    {"{'type':'integer','minimum':-12,'maximum':205}", "-12", "0", "205", "200", "99", "-1|3",
     "20|6", "-|0", NULL},
    {"{'type':'integer','exclusiveMinimum':0,'exclusiveMaximum':10}", "1", "9", "|0", "1|0", NULL},
    {"{'type':'integer','minimum':998,'maximum':1002}", "998", "1000", "1002", "99|7", "100|3",
     NULL},
    {"{'type':'number','minimum':0,'maximum':1}", "0.25", "0", "1", "|-", "1|.", NULL},
    {"{'type':'number','maximum':-2}", "-2", "-2.5", "-1|.", "|2", NULL},
    {"{'allOf':[{'type':'null'}],'title':'t','x-y':1}", "null", NULL},
    {"{'type':'object','required':['z']}", "{'z': 1}", "{'z': {}, 'y': 1}", "{|}", "{'|y'", NULL},
    {"{'type':'object','properties':{'a':false,'b':{'type':'null'}}}", "{'b': null}", "{'|a'",
     NULL},
};

/* The text with " for ', in one of a few buffers. */
static const char *quoted(const char *text)
{
    static char out[4][2048];
    static unsigned turn;
    char *to = out[turn++ % 4];
    snprintf(to, sizeof out[0], "%s", text);
    for (char *s = to; *s; s++)
        if (*s == '\'') *s = '"';
    return to;
}

static void schemas_take_what_they_should(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
        for (const char *const *text = schemas[i] + 1; *text; text++) {
            char copy[512];
            snprintf(copy, sizeof copy, "%s", quoted(*text));
            const char *const texts[] = {copy, NULL};
            check_texts(grammar_of(quoted(schemas[i][0])), texts);
        }
}

/* ---- what is chosen is valid ----------------------------------------------------------------- */

static void check_generated(const char *schema, test_rng *rng, int times)
{
    sl_grammar *g = grammar_of(schema);
    json_t *root = json_loads(schema, JSON_DECODE_ANY, NULL);
    int whole = 0;
    for (int i = 0; i < times; i++) {
        sl__buffer text;
        json_error_t where;
        const char *why = "";
        sl__buffer_init(&text, 1 << 20);
        if (schema_generate(g, vocabulary, rng, 400, &text)) {
            json_t *value = json_loadb(text.data, text.size, JSON_DECODE_ANY, &where);
            if (!value) fail_msg("%s\n%s\n%s", schema, text.data, where.text);
            if (!schema_valid(root, root, value, &why))
                fail_msg("%s\n%s\n%s", schema, text.data, why);
            json_decref(value);
            whole++;
        }
        sl__buffer_free(&text);
    }
    if (whole == 0) fail_msg("%s: no text came to an end", schema);
    json_decref(root);
    sl_grammar_close(g);
}

static void listed_schemas_give_valid_texts(void **state)
{
    (void)state;
    test_rng rng = {1};
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
        check_generated(quoted(schemas[i][0]), &rng, test_fast() ? 5 : 60);
}

static void random_schemas_give_valid_texts(void **state)
{
    (void)state;
    test_rng rng = {2};
    for (int i = 0; i < (test_fast() ? 20 : 400); i++) {
        sl__buffer schema;
        sl__buffer_init(&schema, 1 << 20);
        schema_random(&schema, &rng);
        check_generated(schema.data, &rng, test_fast() ? 3 : 8);
        sl__buffer_free(&schema);
    }
}

/* ---- tokens and their bytes ------------------------------------------------------------------ */

/* Whether the bytes behind those of a text may come one by one. */
static bool bytes_may_come(sl_constraint *c, const sl__buffer *text, uint32_t id)
{
    uint32_t size;
    const unsigned char *bytes = sl__vocabulary_token(vocabulary, id, &size);
    sl_constraint_reset(c);
    for (size_t i = 0; i < text->size; i++)
        assert_int_equal(sl_constraint_accept(c, (unsigned char)text->data[i], NULL), SL_OK);
    bool may = size > 0;
    for (uint32_t i = 0; i < size && may; i++)
        may = sl_constraint_accept(c, bytes[i], NULL) == SL_OK;
    return may;
}

static void check_tokens(sl_grammar *g, test_rng *rng, int steps)
{
    sl_constraint *c = constraint_of(g), *other = constraint_of(g);
    sl__buffer text;
    float logits[SCHEMA_IDS];
    sl__buffer_init(&text, 1 << 16);
    for (int i = 0; i < steps && !sl_constraint_done(c); i++) {
        uint32_t ids[SCHEMA_IDS], count = 0, size;
        mask(c, logits);
        for (uint32_t id = 0; id < SCHEMA_IDS; id++) {
            bool may = logits[id] == 0;
            sl__vocabulary_token(vocabulary, id, &size);
            if (size && id < SCHEMA_OPEN && may != bytes_may_come(other, &text, id))
                fail_msg("%s: token %u is %s", text.data, id, may ? "allowed" : "refused");
            if (may && size && id != SCHEMA_END) ids[count++] = id;
        }
        if (count == 0) break;
        uint32_t id = ids[test_rng_below(rng, count)];
        assert_int_equal(sl_constraint_accept(c, (int32_t)id, NULL), SL_OK);
        const unsigned char *bytes = sl__vocabulary_token(vocabulary, id, &size);
        sl__buffer_append(&text, bytes, size);
    }
    sl__buffer_free(&text);
    sl_constraint_destroy(c);
    sl_constraint_destroy(other);
    sl_grammar_close(g);
}

static const char tools[] =
    "[{\"type\":\"function\",\"function\":{\"name\":\"mail\",\"strict\":true,\"parameters\":{"
    "\"type\":\"object\",\"properties\":{\"to\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"},"
    "\"tag\":{\"type\":\"string\",\"enum\":[\"a b\",\"c\"]},\"more\":{\"type\":\"object\"},"
    "\"short\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":3}},"
    "\"required\":[\"to\",\"n\"]}}},{\"name\":\"map\",\"parameters\":{\"properties\":{"
    "\"x\":{\"type\":\"string\"}}}},{\"type\":\"function\",\"function\":{\"name\":\"go\"}}]";

static sl_grammar *tools_grammar(sl_tool_form form, bool required, bool single)
{
    sl_grammar *g;
    sl_error err = {0};
    const sl_tool_options opt = {.form = form, .required = required, .single = single};
    if (sl_grammar_tool_calls(&g, tools, strlen(tools), &opt, &err) != SL_OK)
        fail_msg("%s", err.message);
    return g;
}

static void tokens_are_their_bytes(void **state)
{
    (void)state;
    test_rng rng = {3};
    int times = test_fast() ? 1 : 3, steps = test_fast() ? 8 : 30;
    for (int t = 0; t < times; t++) {
        for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
            check_tokens(grammar_of(quoted(schemas[i][0])), &rng, steps);
        check_tokens(grammar_of("{}"), &rng, steps);
        for (int form = 0; form < 2; form++)
            for (int required = 0; required < 2; required++)
                check_tokens(tools_grammar((sl_tool_form)form, required, false), &rng, steps);
    }
}

int main(void)
{
    tok = schema_tokenizer();
    if (sl_vocabulary_create(&vocabulary, tok, NULL) != SL_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_object),
        cmocka_unit_test(schemas_take_what_they_should),
        cmocka_unit_test(listed_schemas_give_valid_texts),
        cmocka_unit_test(random_schemas_give_valid_texts),
        cmocka_unit_test(tokens_are_their_bytes),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sl_vocabulary_destroy(vocabulary);
    sl_tokenizer_close(tok);
    return failed;
}
