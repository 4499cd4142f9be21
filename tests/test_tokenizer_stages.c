/* What normalises, pre-tokenises and decodes, where the reference rows do not reach: ends of texts,
 * long runs, forms of the same stage, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test_env.h"
#include "text/tokenizer.h"
#include "text/utf8.h"
#include "tokenizer_text.h"

/* Letters, marks and a few byte tokens; no merges, no stages. */
static json_t *text_base(void)
{
    json_t *root = tokenizer_base();
    tokenizer_set(root, "pre_tokenizer", "null");
    tokenizer_set(root, "decoder", "null");
    tokenizer_set(root, "model",
                  "{'type':'BPE','vocab':{'a':0,'b':1,'c':2,' ':3,'_':4,'<0xE4>':5,'<0xB8>':6,"
                  "'<0xAD>':7,'<0x41>':8,'<0xzz>':9,'x y':10,'  ':11,'<0xe4>':12,'__a':13},"
                  "'merges':[]}");
    return root;
}

static sl_tokenizer *decoding(const char *decoder)
{
    json_t *root = text_base();
    tokenizer_set(root, "decoder", decoder);
    sl_tokenizer *tok = tokenizer_take(root), *again = tokenizer_recompiled(tok);
    sl_tokenizer_close(tok);
    return again;
}

/* ids as digits and capital letters: 'A' is 10. */
static size_t ids_of(const char *digits, int32_t *ids)
{
    size_t n = 0;
    for (; digits[n]; n++)
        ids[n] = digits[n] <= '9' ? digits[n] - '0' : digits[n] - 'A' + 10;
    return n;
}

/* Decodes whole and as a stream, whose parts are joined by |, its end by ||. */
static void expect_stream(const sl_tokenizer *tok, const char *digits, const char *want)
{
    int32_t ids[64];
    size_t count = ids_of(digits, ids), size, n;
    char got[512] = "", joined[512] = "", *whole;
    sl_error err = {0};
    sl_detokenizer *detok;
    assert_int_equal(sl_detokenizer_create(&detok, tok, false, &err), SL_OK);
    for (size_t i = 0; i < count; i++) {
        const char *part = sl_detokenizer_push(detok, ids[i], &n);
        sprintf(got + strlen(got), "%s%s", i ? "|" : "", part);
        strcat(joined, part);
    }
    const char *rest = sl_detokenizer_finish(detok, &n);
    sprintf(got + strlen(got), "||%s", rest);
    strcat(joined, rest);
    assert_string_equal(got, want);
    assert_int_equal(sl_tokenizer_decode(tok, ids, count, false, &whole, &size, &err), SL_OK);
    assert_string_equal(whole, joined);
    free(whole);
    sl_detokenizer_destroy(detok);
}

static void no_decoder_puts_spaces_between_tokens(void **state)
{
    (void)state;
    sl_tokenizer *tok = decoding("null");
    expect_stream(tok, "015", "a| b| <0xE4>||");
    expect_stream(tok, "", "||");
    sl_tokenizer_close(tok);
    tok = decoding("{'type':'Sequence','decoders':[]}");
    expect_stream(tok, "015", "a|b|<0xE4>||");
    sl_tokenizer_close(tok);
}

#define BAD "\xef\xbf\xbd"

static void runs_of_byte_tokens(void **state)
{
    (void)state;
    sl_tokenizer *tok = decoding("{'type':'ByteFallback'}");
    expect_stream(tok, "05670",
                  "a||||\xe4\xb8\xad"
                  "a||");
    expect_stream(tok, "567", "||||\xe4\xb8\xad");
    expect_stream(tok, "C67", "||||\xe4\xb8\xad");
    expect_stream(tok, "9", "<0xzz>||");
    /* A run that ends early; one with a wrong byte, known as soon as it is there. */
    expect_stream(tok, "560", "||" BAD BAD "a||");
    expect_stream(tok, "56", "|||" BAD BAD);
    expect_stream(tok, "5675", "|||||" BAD BAD BAD BAD);
    expect_stream(tok, "85680", "|||" BAD BAD BAD BAD "|a||");
    expect_stream(tok, "780", BAD "|" BAD "|a||");
    expect_stream(tok, "70567", BAD "|a|||||\xe4\xb8\xad");
    sl_tokenizer_close(tok);
}

/* A run without end goes out in pieces of whole characters. */
static void a_run_without_end(void **state)
{
    (void)state;
    sl_tokenizer *tok = decoding("{'type':'ByteFallback'}");
    enum { CHARS = 5000 };
    int32_t *ids = malloc(CHARS * 3 * sizeof *ids);
    sl_detokenizer *detok;
    sl_error err = {0};
    size_t n, total = 0, largest = 0;
    assert_non_null(ids);
    assert_int_equal(sl_detokenizer_create(&detok, tok, false, &err), SL_OK);
    for (int i = 0; i < CHARS * 3; i++) {
        ids[i] = 5 + i % 3;
        const char *part = sl_detokenizer_push(detok, ids[i], &n);
        assert_int_equal(sl__utf8_valid(part, n), n);
        assert_int_equal(n % 3, 0);
        total += n;
        if (n > largest) largest = n;
    }
    sl_detokenizer_finish(detok, &n);
    assert_int_equal(total + n, CHARS * 3);
    assert_int_equal(largest, 4095);
    char *whole;
    assert_int_equal(sl_tokenizer_decode(tok, ids, CHARS * 3, false, &whole, &n, &err), SL_OK);
    assert_int_equal(n, CHARS * 3);
    assert_int_equal(sl__utf8_valid(whole, n), n);
    free(whole);
    free(ids);
    sl_detokenizer_destroy(detok);
    sl_tokenizer_close(tok);
}

static void strip_at_the_ends(void **state)
{
    (void)state;
    sl_tokenizer *tok = decoding("{'type':'Sequence','decoders':[{'type':'Fuse'},"
                                 "{'type':'Strip','content':' ','start':1,'stop':2}]}");
    expect_stream(tok, "30", "|a||");
    expect_stream(tok, "330", "|| a||"); /* the second is held, then goes out with a */
    expect_stream(tok, "B0", "| a||");
    expect_stream(tok, "030333", "a|| a||| ||"); /* of three at the end two are dropped */
    expect_stream(tok, "0B", "a|||");
    expect_stream(tok, "0BB", "a||  ||");
    expect_stream(tok, "3", "||");
    expect_stream(tok, "0A", "a|x y||");
    sl_tokenizer_close(tok);
    /* Before tokens are joined, of each token. */
    tok = decoding("{'type':'Strip','content':'_','start':1,'stop':1}");
    expect_stream(tok, "D4D", "_a||_a||");
    sl_tokenizer_close(tok);
}

static void marks_to_spaces(void **state)
{
    (void)state;
    sl_tokenizer *tok = decoding("{'type':'Metaspace','replacement':'_'}");
    expect_stream(tok, "D4D", "a| |  a||");
    sl_tokenizer_close(tok);
    tok = decoding("{'type':'Metaspace','replacement':'_','prepend_scheme':'never'}");
    expect_stream(tok, "D4D", "  a| |  a||");
    sl_tokenizer_close(tok);
    tok = decoding("{'type':'Sequence','decoders':[{'type':'Replace','pattern':{'String':'_a'},"
                   "'content':'--b--'},{'type':'Fuse'},{'type':'Replace','pattern':{'String':'b'},"
                   "'content':''}]}");
    expect_stream(tok, "D14D", "_----||_|_----||");
    sl_tokenizer_close(tok);
}

/* What follows a prompt keeps its first space. */
static void text_goes_on_after_an_end(void **state)
{
    (void)state;
    static const char *const decoders[] = {
        "{'type':'Metaspace','replacement':'_'}",
        "{'type':'Sequence','decoders':[{'type':'Replace','pattern':{'String':'_'},'content':' '},"
        "{'type':'ByteFallback'},{'type':'Fuse'},{'type':'Strip','content':' ','start':1,"
        "'stop':0}]}"};
    for (size_t k = 0; k < 2; k++) {
        sl_tokenizer *tok = decoding(decoders[k]);
        sl_detokenizer *detok;
        sl_error err = {0};
        size_t n;
        assert_int_equal(sl_detokenizer_create(&detok, tok, true, &err), SL_OK);
        assert_string_equal(sl_detokenizer_push(detok, 4, &n), "");
        assert_string_equal(sl_detokenizer_push(detok, 0, &n), "a");
        sl_detokenizer_push(detok, 5, &n); /* half a character of the prompt is forgotten */
        sl_detokenizer_finish(detok, &n);
        assert_string_equal(sl_detokenizer_push(detok, 4, &n), " ");
        assert_string_equal(sl_detokenizer_push(detok, 0, &n), "a");
        assert_string_equal(sl_detokenizer_finish(detok, &n), "");
        sl_detokenizer_destroy(detok);
        sl_tokenizer_close(tok);
    }
}

/* Bytes that are joined first, then stripped. */
static void steps_behind_byte_level(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    tokenizer_set(root, "decoder",
                  "{'type':'Sequence','decoders':[{'type':'ByteLevel'},{'type':'Fuse'},{'type':"
                  "'Replace','pattern':{'String':'x'},'content':'yy'},"
                  "{'type':'Strip','content':' ','start':1,'stop':1}]}");
    sl_tokenizer *tok = tokenizer_take(root);
    static const char text[] = "  x\xe4\xb8\xad \xe4 ";
    int32_t *ids;
    size_t count, size;
    char *back;
    sl_error err = {0};
    assert_int_equal(sl_tokenizer_encode(tok, text, sizeof text - 1, 0, &ids, &count, &err), SL_OK);
    assert_int_equal(sl_tokenizer_decode(tok, ids, count, false, &back, &size, &err), SL_OK);
    assert_string_equal(back, " yy\xe4\xb8\xad " BAD);
    free(back);
    assert_int_equal(sl_tokenizer_decode(tok, ids, count - 1, false, &back, &size, &err), SL_OK);
    assert_string_equal(back, " yy\xe4\xb8\xad " BAD);
    free(back);
    free(ids);
    sl_tokenizer_close(tok);
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* Bytes that are not UTF-8 have tokens where characters fall back to them. */
static void bytes_that_are_not_utf8(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        json_t *root = text_base();
        tokenizer_set_model(root, "byte_fallback", on ? "true" : "false");
        sl_tokenizer *tok = tokenizer_take(root);
        int32_t *ids;
        size_t count;
        sl_error err = {0};
        assert_int_equal(sl_tokenizer_encode(tok,
                                             "a\xe4\xb8"
                                             "b\xff",
                                             5, 0, &ids, &count, &err),
                         SL_OK);
        static const int32_t want[2][4] = {{0, 1}, {0, 5, 6, 1}};
        assert_int_equal(count, on ? 4 : 2);
        assert_memory_equal(ids, want[on], count * sizeof *ids);
        free(ids);
        sl_tokenizer_close(tok);
    }
}

/* A text in one piece gives the same ids whether or not it may be cut at its marks. */
static void cutting_at_marks_changes_nothing(void **state)
{
    (void)state;
    static const char *const parts[] = {
        "\xe2\x96\x81", "\xe2\x96\x81\xe2\x96\x81", "a", "b", "ab", "\xe4\xb8\xad", "?"};
    test_rng rng = {17};
    sl_tokenizer *tok[2];
    for (int k = 0; k < 2; k++) {
        json_t *root = text_base();
        tokenizer_set(root, "model",
                      "{'type':'BPE','unk_token':'?','fuse_unk':true,'byte_fallback':true,'vocab':"
                      "{'?':0,'\xe2\x96\x81':1,'a':2,'b':3,'\xe2\x96\x81"
                      "a':4,'ab':5,"
                      "'\xe2\x96\x81"
                      "ab':6,'\xe2\x96\x81\xe2\x96\x81':7,'<0x62>':8,"
                      "'b\xe2\x96\x81':9,'z':10,'z\xe2\x96\x81':11,'<0xE4>':12},'merges':"
                      "['\xe2\x96\x81 a','a b','\xe2\x96\x81"
                      "a b','\xe2\x96\x81 \xe2\x96\x81']}");
        /* A merge that no text here uses keeps the second one from being cut. */
        json_t *merges = json_object_get(json_object_get(root, "model"), "merges");
        if (k == 1) json_array_append_new(merges, json_string("z \xe2\x96\x81"));
        tok[k] = tokenizer_take(root);
    }
    for (int round = 0; round < 2000; round++) {
        char text[400] = "";
        unsigned n = test_rng_below(&rng, 40);
        for (unsigned i = 0; i < n; i++)
            strcat(text, parts[test_rng_below(&rng, 7)]);
        int32_t *ids[2];
        size_t count[2];
        for (int k = 0; k < 2; k++)
            assert_int_equal(
                sl_tokenizer_encode(tok[k], text, strlen(text), 0, &ids[k], &count[k], NULL),
                SL_OK);
        assert_int_equal(count[0], count[1]);
        if (count[0]) assert_memory_equal(ids[0], ids[1], count[0] * sizeof **ids);
        free(ids[0]);
        free(ids[1]);
    }
    sl_tokenizer_close(tok[0]);
    sl_tokenizer_close(tok[1]);
}

/* Ways to say the same, and prefixes. */
static void forms_of_metaspace(void **state)
{
    (void)state;
    static const struct {
        const char *json, *pieces;
    } rows[] = {
        {"{'type':'Metaspace','replacement':'_'}", "[_a][_b][_][_c]"},
        {"{'type':'Metaspace','replacement':'_','add_prefix_space':true}", "[_a][_b][_][_c]"},
        {"{'type':'Metaspace','replacement':'_','add_prefix_space':false}", "[a][_b][_][_c]"},
        {"{'type':'Metaspace','replacement':'_','prepend_scheme':'never','split':false}",
         "[a_b__c]"},
        {"{'type':'Metaspace','replacement':'_','prepend_scheme':'first','str_rep':'_'}",
         "[_a][_b][_][_c]"},
        {"{'type':'Sequence','pretokenizers':[{'type':'WhitespaceSplit'},{'type':'Metaspace',"
         "'replacement':'_','prepend_scheme':'first'}]}",
         "[_a][b][c]"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        json_t *root = text_base();
        tokenizer_set(root, "pre_tokenizer", rows[i].json);
        sl_tokenizer *tok = tokenizer_take(root);
        char *got = tokenizer_pieces(tok, "a b  c", 6);
        assert_string_equal(got, rows[i].pieces);
        free(got);
        sl_tokenizer_close(tok);
    }
}

/* ---- refused --------------------------------------------------------------------------------- */

typedef struct refused {
    const char *key, *json, *message;
    sl_status status;
} refused;

static void expect_refused(const refused *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char message[256];
        json_t *root = text_base();
        tokenizer_set(root, cases[i].key, cases[i].json);
        snprintf(message, sizeof message, "t.json: %s", cases[i].message);
        tokenizer_expect_error(root, cases[i].status, message);
    }
}

static void stages_that_are_refused(void **state)
{
    (void)state;
    static const refused cases[] = {
        {"normalizer", "{'type':'Prepend'}", "prepend: expected a string, got nothing", SL_EFORMAT},
        {"normalizer", "{'type':'Replace','pattern':{'String':''},'content':'x'}",
         "normalizer Replace of an empty text is not supported", SL_EUNSUPPORTED},
        {"normalizer", "{'type':'Replace','pattern':{'String':'a'}}",
         "content: expected a string, got nothing", SL_EFORMAT},
        {"normalizer", "{'type':'Replace','pattern':{'Regex':'\\\\R'},'content':''}",
         "normalizer regex: an escape is not supported: \\R", SL_EUNSUPPORTED},
        {"normalizer", "{'type':'Strip','strip_left':true}",
         "strip_right: expected true or false, got nothing", SL_EFORMAT},
        {"normalizer", "{'type':'Precompiled'}", "normalizer type Precompiled is not supported",
         SL_EUNSUPPORTED},
        {"pre_tokenizer", "{'type':'Metaspace'}", "replacement: expected a string, got nothing",
         SL_EFORMAT},
        {"pre_tokenizer", "{'type':'Metaspace','replacement':'__'}",
         "pre_tokenizer: Metaspace replacement is not one character", SL_EFORMAT},
        {"pre_tokenizer", "{'type':'Metaspace','replacement':'_','prepend_scheme':'last'}",
         "pre_tokenizer: Metaspace prepend_scheme last is not supported", SL_EUNSUPPORTED},
        {"pre_tokenizer",
         "{'type':'Metaspace','replacement':'_','prepend_scheme':'first','add_prefix_space':false}",
         "pre_tokenizer: Metaspace prepend_scheme first and add_prefix_space false disagree",
         SL_EFORMAT},
        {"pre_tokenizer", "{'type':'Punctuation','behavior':'Up'}",
         "Punctuation behavior Up is not supported", SL_EUNSUPPORTED},
        {"pre_tokenizer", "{'type':'UnicodeScripts'}",
         "pre_tokenizer type UnicodeScripts is not supported", SL_EUNSUPPORTED},
        {"decoder", "{'type':'WordPiece'}", "decoder type WordPiece is not supported",
         SL_EUNSUPPORTED},
        {"decoder", "{'type':'Sequence'}", "decoder: decoders: expected a list", SL_EFORMAT},
        {"decoder", "{'type':'ByteLevel'}",
         "decoder type ByteLevel without a ByteLevel pre_tokenizer is not supported",
         SL_EUNSUPPORTED},
        {"decoder", "{'type':'Sequence','decoders':[{'type':'Fuse'},{'type':'ByteFallback'}]}",
         "decoder ByteFallback behind Fuse is not supported", SL_EUNSUPPORTED},
        {"decoder",
         "{'type':'Sequence','decoders':[{'type':'ByteFallback'},{'type':'ByteFallback'}]}",
         "decoder ByteFallback twice is not supported", SL_EUNSUPPORTED},
        {"decoder", "{'type':'Replace','pattern':{'Regex':'a'},'content':''}",
         "decoder Replace of a Regex is not supported", SL_EUNSUPPORTED},
        {"decoder", "{'type':'Replace','pattern':{'String':''},'content':''}",
         "decoder Replace of an empty text is not supported", SL_EUNSUPPORTED},
        {"decoder",
         "{'type':'Sequence','decoders':[{'type':'Fuse'},{'type':'Replace','pattern':{'String':"
         "'ab'},'content':''}]}",
         "decoder Replace of several characters behind Fuse is not supported", SL_EUNSUPPORTED},
        {"decoder", "{'type':'Strip','content':'ab','start':0,'stop':0}",
         "decoder: Strip content is not one character", SL_EFORMAT},
        {"decoder", "{'type':'Strip','content':'a','start':0,'stop':65}",
         "stop: expected a whole number from 0 to 64, got 65", SL_EFORMAT},
        {"decoder", "{'type':'Strip','content':'a','start':0}",
         "stop: expected a whole number from 0 to 64, got nothing", SL_EFORMAT},
    };
    expect_refused(cases, sizeof cases / sizeof cases[0]);
}

/* A token must not become longer than can be kept ready for it. */
static void a_decoder_that_grows_without_bounds(void **state)
{
    (void)state;
    char content[2001], decoder[8400];
    memset(content, 'a', sizeof content - 1);
    content[sizeof content - 1] = '\0';
    snprintf(decoder, sizeof decoder, "{'type':'Sequence','decoders':[");
    for (int i = 0; i < 3; i++)
        snprintf(decoder + strlen(decoder), sizeof decoder - strlen(decoder),
                 "%s{'type':'Replace','pattern':{'String':'a'},'content':'%s'}", i ? "," : "",
                 content);
    strcat(decoder, "]}");
    const refused one = {"decoder", decoder, "the decoder makes tokens too long", SL_EUNSUPPORTED};
    expect_refused(&one, 1);
    json_t *root = text_base();
    tokenizer_set(root, "pre_tokenizer", "{'type':'ByteLevel','add_prefix_space':false}");
    tokenizer_set_model(root, "byte_fallback", "true");
    tokenizer_expect_error(root, SL_EUNSUPPORTED,
                           "t.json: model with byte_fallback and no token of byte 00 is not "
                           "supported");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_decoder_puts_spaces_between_tokens),
        cmocka_unit_test(runs_of_byte_tokens),
        cmocka_unit_test(a_run_without_end),
        cmocka_unit_test(strip_at_the_ends),
        cmocka_unit_test(marks_to_spaces),
        cmocka_unit_test(text_goes_on_after_an_end),
        cmocka_unit_test(steps_behind_byte_level),
        cmocka_unit_test(bytes_that_are_not_utf8),
        cmocka_unit_test(cutting_at_marks_changes_nothing),
        cmocka_unit_test(forms_of_metaspace),
        cmocka_unit_test(stages_that_are_refused),
        cmocka_unit_test(a_decoder_that_grows_without_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
