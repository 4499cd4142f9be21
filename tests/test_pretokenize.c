/* Pre-tokenising: the regexes of real models, \s over all of Unicode, regexes that are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"
#include "text/utf8.h"
#include "tokenizer_text.h"

#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACE_RULES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER       "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER       "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"

static const char qwen35[] = CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
                                         "?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" SPACE_RULES;
static const char qwen2[] =
    CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACE_RULES;
static const char glm[] = CONTRACTION
    "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACE_RULES;
static const char o200k[] =
    "[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" CONTRACTION "?|[^\\r\\n\\p{L}\\p{N}]?[" UPPER
    "]+[" LOWER "]*" CONTRACTION "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACE_RULES;
static const char kimi[] =
    "[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "&&[^\\p{Han}]]*[" LOWER
    "&&[^\\p{Han}]]+" CONTRACTION "?|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "&&[^\\p{Han}]]+[" LOWER
    "&&[^\\p{Han}]]*" CONTRACTION "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" SPACE_RULES;
static const char *const deepseek[] = {
    "\\p{N}{1,3}",
    "[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+",
    "[!\"#$%&'()*+,\\-./"
    ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]"
    "+| ?[\\p{P}\\p{S}]+[\\r\\n]*" SPACE_RULES,
};

static sl_tokenizer *splitting(const char *const *regex, size_t count)
{
    json_t *root = tokenizer_base();
    json_t *list = json_object_get(json_object_get(root, "pre_tokenizer"), "pretokenizers");
    for (size_t i = 0; i < count; i++) {
        json_t *split = json_pack("{s:s,s:{s:s},s:s,s:b}", "type", "Split", "pattern", "Regex",
                                  regex[i], "behavior", "Isolated", "invert", 0);
        json_array_insert_new(list, i, split);
    }
    return tokenizer_take(root);
}

static void expect_pieces(const sl_tokenizer *tok, const char *text, const char *want)
{
    char *got = tokenizer_pieces(tok, text, strlen(text));
    assert_string_equal(got, want);
    free(got);
}

/* Inputs with what the five regexes of real models make of them. */
static void regexes_of_real_models(void **state)
{
    (void)state;
    static const char *const rows[][6] = {
        {"Hello,  world!\n\n  x=1234 don't DON'T",
         "[Hello][,][ ][ world][!\n\n][ ][ x][=][1][2][3][4][ don]['t][ DON]['T]",
         "[Hello][,][ ][ world][!\n\n][ ][ x][=][1][2][3][4][ don]['t][ DON]['T]",
         "[Hello][,][ ][ world][!\n\n][ ][ x][=][123][4][ don]['t][ DON]['T]",
         "[Hello][,][ ][ world][!\n\n][ ][ x][=][123][4][ don't][ DON'T]",
         "[Hello][,][ ][ world][!\n\n][ ][ x][=][123][4][ don]['t][ DON]['T]"},
        {"  \t\n  foo\n", "[  \t\n][ ][ foo][\n]", "[  \t\n][ ][ foo][\n]", "[  \t\n][ ][ foo][\n]",
         "[  \t\n][ ][ foo][\n]", "[  \t\n][ ][ foo][\n]"},
        {" e\xcc\x81te\xcc\x81", "[ e\xcc\x81te\xcc\x81]", "[ e][\xcc\x81te][\xcc\x81]",
         "[ e][\xcc\x81te][\xcc\x81]", "[ e\xcc\x81te\xcc\x81]", "[ e\xcc\x81te\xcc\x81]"},
        {" \xe4\xb8\xad\xe6\x96\x87"
         "ab 12",
         "[ \xe4\xb8\xad\xe6\x96\x87"
         "ab][ ][1][2]",
         "[ \xe4\xb8\xad\xe6\x96\x87"
         "ab][ ][1][2]",
         "[ \xe4\xb8\xad\xe6\x96\x87"
         "ab][ ][12]",
         "[ \xe4\xb8\xad\xe6\x96\x87"
         "ab][ ][12]",
         "[ ][\xe4\xb8\xad\xe6\x96\x87][ab][ ][12]"},
        {"a  b   ", "[a][ ][ b][   ]", "[a][ ][ b][   ]", "[a][ ][ b][   ]", "[a][ ][ b][   ]",
         "[a][ ][ b][   ]"},
        {"(\"x\")\r\n//path/to", "[(\"][x][\")\r\n][//][path][/to]",
         "[(\"][x][\")\r\n][//][path][/to]", "[(\"][x][\")\r\n][//][path][/to]",
         "[(\"][x][\")\r\n//][path][/to]", "[(\"][x][\")\r\n][//][path][/to]"},
        {"HTTPServer iPhone's", "[HTTPServer][ iPhone]['s]", "[HTTPServer][ iPhone]['s]",
         "[HTTPServer][ iPhone]['s]", "[HTTPServer][ i][Phone's]", "[HTTPServer][ iPhone]['s]"},
    };
    const char *one[] = {qwen35, qwen2, glm, o200k};
    for (size_t k = 0; k < 5; k++) {
        sl_tokenizer *tok = k < 4 ? splitting(&one[k], 1) : splitting(deepseek, 3);
        for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
            expect_pieces(tok, rows[i][0], rows[i][k + 1]);
        sl_tokenizer_close(tok);
    }
}

static void class_intersection(void **state)
{
    (void)state;
    const char *one = kimi;
    sl_tokenizer *tok = splitting(&one, 1);
    expect_pieces(tok,
                  " \xe4\xb8\xad\xe6\x96\x87"
                  "ab 1234 HTTPServer iPhone's\n",
                  "[ ][\xe4\xb8\xad\xe6\x96\x87][ab][ ][123][4][ HTTPServer][ i][Phone's][\n]");
    /* A run that is longer than the stack of compiled code goes on in the interpreter. */
    size_t size = 200000;
    char *text = malloc(size);
    assert_non_null(text);
    memset(text, 'a', size);
    char *got = tokenizer_pieces(tok, text, size);
    assert_int_equal(strlen(got), size + 2);
    free(got);
    free(text);
    sl_tokenizer_close(tok);
}

static bool white_space(uint32_t cp)
{
    static const uint32_t all[] = {9,      10,     11,     12,     13,     0x20,   0x85,
                                   0xa0,   0x1680, 0x2000, 0x2001, 0x2002, 0x2003, 0x2004,
                                   0x2005, 0x2006, 0x2007, 0x2008, 0x2009, 0x200a, 0x2028,
                                   0x2029, 0x202f, 0x205f, 0x3000};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++)
        if (all[i] == cp) return true;
    return false;
}

/* \s, \S and their places in classes are White_Space exactly, over all of Unicode. */
static void space_is_white_space(void **state)
{
    (void)state;
    static const struct {
        const char *regex;
        bool space;
    } ways[] = {{"\\s", true},     {"\\S", false},   {"[\\sz]", true},
                {"[^\\s]", false}, {"[\\S]", false}, {"[^\\S]", true}};
    for (size_t k = 0; k < sizeof ways / sizeof ways[0]; k++) {
        json_t *root = tokenizer_base();
        tokenizer_set_split(root, ways[k].regex, "Removed", false);
        sl_tokenizer *tok = tokenizer_take(root);
        for (uint32_t cp = 0; cp < 0x110000; cp += cp < 0x3100 ? 1 : 97) {
            char text[4];
            if ((cp >= 0xd800 && cp < 0xe000) || cp == 'z') continue;
            unsigned n = sl__utf8_put(cp, text);
            char *got = tokenizer_pieces(tok, text, n);
            bool removed = got[0] != '[';
            if (removed != (white_space(cp) == ways[k].space)) {
                fail_msg("%s and U+%04X", ways[k].regex, cp);
            }
            assert_int_equal(sl__utf8_is_space(cp), white_space(cp));
            free(got);
        }
        sl_tokenizer_close(tok);
    }
}

static void regexes_that_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *regex, *why;
    } cases[] = {
        {"[[:alpha:]]", "[:name:]"},
        {"(a", "a group without an end"},
        {"a)", "a ) without its ("},
        {"[a", "a class without an end"},
        {"[]a]", "a class that starts with ]"},
        {"[a&&]", "an empty class"},
        {"[\\w-.]", "a range from a class"},
        {"[a-[b]]", "a range to a class"},
        {"[a-\\d]", "an escape in a class"},
        {"[b-a]", "a range that runs backwards"},
        {"a**", "a quantifier of a quantifier"},
        {"*a", "a quantifier of nothing"},
        {"^*", "a quantifier of an assertion"},
        {"\\b+", "a quantifier of an assertion"},
        {"\\R", "an escape"},
        {"\\1", "an escape"},
        {"\\K", "an escape"},
        {"\\xe4", "an escape"},
        {"\\x{d800}", "an escape"},
        {"\\", "an escape"},
        {"\\pL", "\\p without {"},
        {"\\p{}", "\\p without a name"},
        {"\\p{Script=Han}", "the name of a property"},
        {"a(?i)b", "an option in the middle"},
        {"(?x:a)", "this kind of group"},
        {"(?<n>a)", "this kind of group"},
        {"(*UTF)", "(*"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[512];
        json_t *root = tokenizer_base();
        tokenizer_set_split(root, cases[i].regex, "Isolated", false);
        snprintf(message, sizeof message, "t.json: pre_tokenizer regex: %s is not supported: %s",
                 cases[i].why, cases[i].regex);
        tokenizer_expect_error(root, SL_EUNSUPPORTED, message);
    }
    /* What PCRE2 refuses is named with its reason. */
    json_t *root = tokenizer_base();
    tokenizer_set_split(root, "\\p{Klingon}", "Isolated", false);
    sl_error err = {0};
    sl_tokenizer *tok = NULL;
    char *text = json_dumps(root, 0);
    assert_int_equal(sl__tokenizer_parse_json(&tok, text, strlen(text), "t.json", &err),
                     SL_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "t.json: pre_tokenizer regex: "));
    assert_non_null(strstr(err.message, "\\p{Klingon}"));
    free(text);
    json_decref(root);
    /* Deep nesting ends. */
    char deep[401];
    memset(deep, '(', 200);
    memset(deep + 200, ')', 200);
    deep[400] = '\0';
    root = tokenizer_base();
    tokenizer_set_split(root, deep, "Isolated", false);
    char message[600];
    snprintf(message, sizeof message,
             "t.json: pre_tokenizer regex: nesting this deep is not supported: %s", deep);
    tokenizer_expect_error(root, SL_EUNSUPPORTED, message);
}

static void a_regex_that_would_not_end_gives_up(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    tokenizer_set_split(root, "(?:a|aa)+\\d", "Isolated", false);
    sl_tokenizer *tok = tokenizer_take(root);
    char text[60];
    memset(text, 'a', sizeof text);
    int32_t *list;
    size_t count;
    sl_error err = {0};
    assert_int_equal(sl_tokenizer_encode(tok, text, sizeof text, 0, &list, &count, &err),
                     SL_EUNSUPPORTED);
    assert_string_equal(err.message,
                        "pre_tokenizer regex gave up on a text of 60 bytes: match limit exceeded");
    assert_null(list);
    sl_tokenizer_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regexes_of_real_models),
        cmocka_unit_test(class_intersection),
        cmocka_unit_test(space_is_white_space),
        cmocka_unit_test(regexes_that_are_refused),
        cmocka_unit_test(a_regex_that_would_not_end_gives_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
