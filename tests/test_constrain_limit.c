/* Texts within a limit of tokens: whatever is liked best, a text that can be whole within it is;
 * and a limit that is far changes nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "constrain/least.h"
#include "schema_check.h"

static sl_tokenizer *tok;
static sl_vocabulary *vocabulary;
static const int32_t eos = SCHEMA_END;

static sl_grammar *grammar_of(const char *schema)
{
    sl_grammar *g;
    sl_error err = {0};
    sl_status status = schema ? sl_grammar_json_schema(&g, schema, strlen(schema), &err)
                              : sl_grammar_json(&g, &err);
    if (status != SL_OK) fail_msg("%s: %s", schema, err.message);
    return g;
}

static sl_constraint *constraint_of(const sl_grammar *g, uint32_t ids)
{
    sl_constraint *c;
    sl_error err = {0};
    if (sl_constraint_create(&c, g, vocabulary, ids, &eos, 1, &err) != SL_OK ||
        sl_constraint_watch(c, &err) != SL_OK)
        fail_msg("%s", err.message);
    return c;
}

/* ---- what a model likes ---------------------------------------------------------------------- */

/* Anything but an end; rather what opens something, or nothing but one token. */
typedef struct taste {
    test_rng rng;
    bool opens;
    int32_t loves; /* -1: none */
} taste;

static void like(taste *t, float logits[SCHEMA_IDS])
{
    for (uint32_t i = 0; i < SCHEMA_IDS; i++) {
        logits[i] = (float)test_rng_below(&t->rng, 1000) / 1000;
        if (t->opens && i < 256 && i && strchr("{[,\"\\", (int)i)) logits[i] += 0.5f;
    }
    if (t->loves >= 0) logits[t->loves] = 9;
    logits[SCHEMA_END] = -9;
}

static int32_t best_of(const float *logits)
{
    int32_t best = 0;
    for (int32_t i = 1; i < SCHEMA_IDS; i++)
        if (logits[i] > logits[best]) best = i;
    assert_true(logits[best] != -INFINITY);
    return best;
}

/* ---- texts ----------------------------------------------------------------------------------- */

typedef struct written {
    sl__buffer text;
    uint32_t tokens;
    bool whole, limited;
} written;

/* A token is left by mask_within exactly where it fits, unless none does. */
static void check_within(sl_constraint *c, const float *grammar, uint32_t left)
{
    float narrow[SCHEMA_IDS];
    memset(narrow, 0, sizeof narrow);
    assert_int_equal(sl_constraint_mask_within(c, left, narrow, NULL), SL_OK);
    for (int32_t i = 0; i < SCHEMA_IDS; i++) {
        bool fits = sl_constraint_fits(c, i, left);
        if (fits && grammar[i] == -INFINITY) fail_msg("token %d fits and may not come", (int)i);
        if (fits != (narrow[i] == 0)) fail_msg("token %d: fits %d", (int)i, fits);
    }
}

static void write_within(sl_constraint *c, taste *t, uint32_t limit, bool check, written *w)
{
    float logits[SCHEMA_IDS];
    sl_error err = {0};
    sl__buffer_init(&w->text, 1 << 20);
    sl__buffer_append_str(&w->text, "");
    w->limited = w->whole = false;
    for (w->tokens = 0; w->tokens < limit && !sl_constraint_done(c); w->tokens++) {
        uint32_t left = limit - w->tokens, size, needs = sl_constraint_needs(c);
        like(t, logits);
        if (sl_constraint_mask(c, logits, &err) != SL_OK) fail_msg("%s", err.message);
        if (check) check_within(c, logits, left);
        int32_t id = best_of(logits);
        if (!sl_constraint_fits(c, id, left)) {
            w->limited = true;
            assert_int_equal(sl_constraint_mask_within(c, left, logits, &err), SL_OK);
            id = best_of(logits);
            assert_true(sl_constraint_fits(c, id, left));
        }
        if (sl_constraint_accept(c, id, &err) != SL_OK) fail_msg("%s", err.message);
        if (id == SCHEMA_END) break;
        uint32_t most = (left > needs ? left : needs) - 1;
        assert_true(sl_constraint_needs(c) <= most);
        const unsigned char *bytes = sl__vocabulary_token(vocabulary, (uint32_t)id, &size);
        sl__buffer_append(&w->text, bytes, size);
    }
    w->whole = sl_constraint_needs(c) == 0;
}

static void check_valid(const char *schema, const sl__buffer *text)
{
    json_error_t where;
    const char *why = "";
    json_t *root = schema ? json_loads(schema, JSON_DECODE_ANY, NULL) : json_object();
    json_t *value = json_loadb(text->data, text->size, JSON_DECODE_ANY, &where);
    if (!value) fail_msg("%s\n%s\n%s", schema, text->data, where.text);
    if (!schema_valid(root, root, value, &why)) fail_msg("%s\n%s\n%s", schema, text->data, why);
    json_decref(value);
    json_decref(root);
}

/* At the limits of need, a little more and rather more; and below. */
static void check_limits(const char *schema, test_rng *rng, int times, bool check)
{
    sl_grammar *g = grammar_of(schema);
    sl_constraint *c = constraint_of(g, SCHEMA_IDS);
    const uint32_t needs = sl_constraint_needs(c);
    assert_true(needs > 0 && needs < 100000);
    for (int i = 0; i < times; i++) {
        taste t = {*rng, i & 1, i % 5 == 4 ? "[{\"a "[i % 4] : -1};
        written w;
        uint32_t limit = needs + (i % 3 ? test_rng_below(rng, i % 3 == 1 ? 4 : 60) : 0);
        sl_constraint_reset(c);
        write_within(c, &t, limit, check && i < 2, &w);
        if (!w.whole || w.tokens > limit)
            fail_msg("%s\nneeds %u of %u: %s", schema, needs, limit, w.text.data);
        check_valid(schema, &w.text);
        sl__buffer_free(&w.text);

        sl_constraint_reset(c);
        limit = 1 + test_rng_below(rng, needs);
        write_within(c, &t, limit, check && i < 2, &w);
        assert_true(w.tokens <= limit);
        if (w.whole) check_valid(schema, &w.text);
        sl__buffer_free(&w.text);
        test_rng_next(rng);
    }
    sl_constraint_destroy(c);
    sl_grammar_close(g);
}

static void random_schemas_end_within_their_limits(void **state)
{
    (void)state;
    test_rng rng = {21};
    for (int i = 0; i < (test_fast() ? 20 : 400); i++) {
        sl__buffer schema;
        sl__buffer_init(&schema, 1 << 20);
        schema_random(&schema, &rng);
        check_limits(schema.data, &rng, test_fast() ? 5 : 10, i % 8 == 0);
        sl__buffer_free(&schema);
    }
}

static void counts_and_depths_end_within_their_limits(void **state)
{
    (void)state;
    static const char *const schemas[] = {
        NULL,
        "{}",
        "{\"type\":\"string\",\"minLength\":37}",
        "{\"type\":\"string\",\"minLength\":5,\"maxLength\":90}",
        "{\"type\":\"array\",\"minItems\":12,\"items\":{\"type\":\"array\",\"minItems\":2,"
        "\"items\":{\"type\":\"object\",\"properties\":{\"abcabc\":{\"type\":\"string\","
        "\"minLength\":3}},\"required\":[\"abcabc\"]}}}",
        "{\"anyOf\":[{\"const\":\"a long text, much longer than a number\"},{\"type\":\"array\","
        "\"minItems\":1,\"items\":{\"$ref\":\"#\"}},{\"type\":\"number\",\"minimum\":-1}]}",
        "{\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"integer\"},"
        "\"next\":{\"anyOf\":[{\"$ref\":\"#/$defs/node\"},{\"type\":\"null\"}]}},\"required\":["
        "\"v\",\"next\"],\"additionalProperties\":true}},\"$ref\":\"#/$defs/node\"}",
    };
    test_rng rng = {22};
    for (size_t i = 0; i < sizeof schemas / sizeof schemas[0]; i++)
        check_limits(schemas[i], &rng, test_fast() ? 5 : 60, true);
}

/* Lists in lists as deep as they go: near the deepest, ways that are short but deep are none. */
static void the_deepest_text_ends(void **state)
{
    (void)state;
    static const char schema[] =
        "{\"anyOf\":[{\"type\":\"array\",\"minItems\":1,\"items\":{\"$ref\":\"#\"}},"
        "{\"const\":\"long, but "
        "flat\"},{\"type\":\"array\",\"items\":{\"type\":\"array\",\"items\":"
        "{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"minItems\":1},\"minItems\":1},"
        "\"minItems\":1}]}";
    static const uint32_t limits[] = {90, 127, 128, 129, 130, 140, 200, 260, 400};
    for (int kind = 0; kind < 2; kind++) {
        sl_grammar *g = grammar_of(kind ? schema : "{\"type\":\"array\"}");
        sl_constraint *c = constraint_of(g, SCHEMA_IDS);
        for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++) {
            taste t = {{23}, false, '['};
            written w;
            sl_constraint_reset(c);
            write_within(c, &t, limits[i], i == 8, &w);
            if (!w.whole) fail_msg("%u: %s", limits[i], w.text.data);
            check_valid(kind ? schema : NULL, &w.text);
            assert_true(strstr(w.text.data, "[[[[[[[[[[[[[[[[[[[["));
            sl__buffer_free(&w.text);
        }
        sl_constraint_destroy(c);
        sl_grammar_close(g);
    }
}

/* ---- how many tokens ------------------------------------------------------------------------- */

static void needs(const char *schema, const char *text, uint32_t ids, uint32_t wanted)
{
    sl_grammar *g = grammar_of(schema);
    sl_constraint *c = constraint_of(g, ids);
    for (; *text; text++)
        assert_int_equal(sl_constraint_accept(c, (unsigned char)*text, NULL), SL_OK);
    if (sl_constraint_needs(c) != wanted)
        fail_msg("%s: %u, not %u", schema, sl_constraint_needs(c), wanted);
    sl_constraint_destroy(c);
    sl_grammar_close(g);
}

/* The vocabulary has 'abc', 'true', '":' and '\u' in one token, and each byte below 256. */
static void what_a_text_needs(void **state)
{
    (void)state;
    static const char abc[] = "{\"properties\":{\"abc\":{\"type\":\"string\"}},\"required\":["
                              "\"abc\"]}";
    needs(NULL, "", SCHEMA_IDS, 2);
    needs(NULL, "{\"k\": [1, {\"x", SCHEMA_IDS, 6);
    needs(NULL, "{\"k\": \"\\ud83d", SCHEMA_IDS, 7); /* \u d c 0 0 " } */
    needs(abc, "", SCHEMA_IDS, 7);                   /* { " abc ": " " } */
    needs(abc, "", 256, 10);
    needs(abc, "{\"a", SCHEMA_IDS, 6); /* b c ": " " } */
    needs("{\"const\":true}", "", SCHEMA_IDS, 1);
    needs("{\"const\":true}", "", 256, 4);
    needs("{\"type\":\"string\",\"minLength\":7}", "", SCHEMA_IDS, 9);
    needs("{\"type\":\"string\",\"minLength\":7}", "\"ab", SCHEMA_IDS, 6);
    needs("{\"type\":\"array\",\"minItems\":3}", "", SCHEMA_IDS, 7);
    needs("{\"type\":\"array\",\"minItems\":3}", "[1,", SCHEMA_IDS, 4);
    needs("{\"type\":\"array\",\"minItems\":1e9,\"items\":{\"type\":\"string\",\"minLength\":7}}",
          "", SCHEMA_IDS, UINT32_MAX);
    needs("{\"type\":\"integer\"}", "-1", SCHEMA_IDS, 0);
    /* Digits, but no braces. */
    needs("{\"type\":\"integer\"}", "", 100, 1);
    needs(NULL, "", 100, UINT32_MAX);
}

/* ---- far away -------------------------------------------------------------------------------- */

/* With a limit that is far, one constraint is masked as another without any, and so is the same
 * text; all that may come fits. */
static void a_far_limit_changes_nothing(void **state)
{
    (void)state;
    test_rng rng = {24};
    for (int i = 0; i < (test_fast() ? 5 : 40); i++) {
        sl__buffer schema;
        sl__buffer_init(&schema, 1 << 20);
        schema_random(&schema, &rng);
        sl_grammar *g = grammar_of(schema.data);
        sl_constraint *c = constraint_of(g, SCHEMA_IDS), *plain;
        assert_int_equal(sl_constraint_create(&plain, g, vocabulary, SCHEMA_IDS, &eos, 1, NULL),
                         SL_OK);
        assert_int_equal(sl_constraint_needs(plain), 0);
        taste t = {rng, i & 1, -1};
        for (uint32_t n = 0; n < 60 && !sl_constraint_done(c); n++) {
            float a[SCHEMA_IDS], b[SCHEMA_IDS], far[SCHEMA_IDS];
            like(&t, a);
            memcpy(b, a, sizeof a);
            memcpy(far, a, sizeof a);
            assert_int_equal(sl_constraint_mask(c, a, NULL), SL_OK);
            assert_int_equal(sl_constraint_mask(plain, b, NULL), SL_OK);
            assert_int_equal(sl_constraint_mask_within(c, 1000000, far, NULL), SL_OK);
            assert_memory_equal(a, b, sizeof a);
            assert_memory_equal(a, far, sizeof a);
            int32_t id = best_of(a);
            assert_true(sl_constraint_fits(c, id, 1000000) && sl_constraint_fits(plain, id, 1));
            assert_int_equal(sl_constraint_accept(c, id, NULL), SL_OK);
            assert_int_equal(sl_constraint_accept(plain, id, NULL), SL_OK);
        }
        sl_constraint_destroy(c);
        sl_constraint_destroy(plain);
        sl_grammar_close(g);
        sl__buffer_free(&schema);
        test_rng_next(&rng);
    }
}

/* A text that comes to its end within a smaller limit by itself is the one without. */
static void a_limit_changes_only_what_it_must(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\":\"array\",\"items\":{\"enum\":[\"abc\",12,true]},"
                                 "\"minItems\":2,\"maxItems\":9}";
    sl_grammar *g = grammar_of(schema);
    sl_constraint *c = constraint_of(g, SCHEMA_IDS);
    int same = 0, limited = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        taste t = {{seed}, false, -1}, again = t;
        written far, near;
        sl_constraint_reset(c);
        write_within(c, &t, 1000, false, &far);
        assert_true(far.whole && !far.limited);
        sl_constraint_reset(c);
        write_within(c, &again, 14, false, &near);
        assert_true(near.whole);
        if (near.limited) limited++;
        if (!near.limited) assert_string_equal(near.text.data, far.text.data);
        same += !near.limited;
        sl__buffer_free(&far.text);
        sl__buffer_free(&near.text);
    }
    assert_true(same > 0 && limited > 0);
    sl_constraint_destroy(c);
    sl_grammar_close(g);
}

int main(void)
{
    tok = schema_tokenizer();
    if (sl_vocabulary_create(&vocabulary, tok, NULL) != SL_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_schemas_end_within_their_limits),
        cmocka_unit_test(counts_and_depths_end_within_their_limits),
        cmocka_unit_test(the_deepest_text_ends),
        cmocka_unit_test(what_a_text_needs),
        cmocka_unit_test(a_far_limit_changes_nothing),
        cmocka_unit_test(a_limit_changes_only_what_it_must),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    sl_vocabulary_destroy(vocabulary);
    sl_tokenizer_close(tok);
    return failed;
}
