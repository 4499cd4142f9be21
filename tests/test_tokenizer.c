/* The tokenizer: reference rows, merging, added tokens, refused input. Regexes are in
 * test_pretokenize.c, the compiled form in test_tokenizer_compiled.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/hash.h"
#include "base/json.h"
#include "test_env.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"
#include "tokenizer_text.h"

typedef struct ids {
    int32_t *data;
    size_t count;
} ids;

static ids encode(const sl_tokenizer *tok, const char *text, size_t size, bool parse_added)
{
    unsigned flags = (parse_added ? SL_ENCODE_ADDED : 0u) | SL_ENCODE_BOS;
    ids out;
    sl_error err = {0};
    if (sl_tokenizer_encode(tok, text, size, flags, &out.data, &out.count, &err) != SL_OK) {
        fail_msg("%s", err.message);
    }
    assert_true((out.count == 0) == (out.data == NULL));
    return out;
}

/* "1 2 3"; static. */
static const char *show(const ids *list)
{
    static char text[16384];
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < list->count && n + 16 < sizeof text; i++)
        n += (size_t)sprintf(text + n, "%s%d", i ? " " : "", list->data[i]);
    return text;
}

static void expect_ids(const sl_tokenizer *tok, const char *text, bool parse_added,
                       const char *expected)
{
    ids got = encode(tok, text, strlen(text), parse_added);
    if (strcmp(show(&got), expected) != 0) {
        fail_msg("\"%s\": got %s, expected %s", text, show(&got), expected);
    }
    free(got.data);
}

static void expect_decoded(const sl_tokenizer *tok, const ids *list, bool skip_special,
                           const char *text, size_t size)
{
    sl_error err = {0};
    char *whole;
    size_t n;
    assert_int_equal(
        sl_tokenizer_decode(tok, list->data, list->count, skip_special, &whole, &n, &err), SL_OK);
    assert_int_equal(n, size);
    assert_memory_equal(whole, text, size + 1);
    free(whole);

    /* The streaming decoder gives the same bytes, and whole characters every time. */
    sl_detokenizer *detok;
    assert_int_equal(sl_detokenizer_create(&detok, tok, skip_special, &err), SL_OK);
    size_t at = 0;
    for (size_t i = 0; i <= list->count; i++) {
        const char *part = i < list->count ? sl_detokenizer_push(detok, list->data[i], &n)
                                           : sl_detokenizer_finish(detok, &n);
        assert_int_equal(strlen(part) <= n, true);
        assert_int_equal(part[n], '\0');
        assert_int_equal(sl__utf8_valid(part, n), n);
        assert_true(at + n <= size);
        assert_memory_equal(part, text + at, n);
        at += n;
    }
    assert_int_equal(at, size);
    sl_detokenizer_destroy(detok);
}

static json_t *load_json(const char *path)
{
    json_error_t where;
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, &where);
    if (!root) fail_msg("%s: %s", path, where.text);
    return root;
}

static sl_tokenizer *open_demo(void)
{
    sl_error err = {0};
    sl_tokenizer *tok;
    if (sl_tokenizer_open(&tok, "data/tokenizer/demo.json", &err)) fail_msg("%s", err.message);
    return tok;
}

/* ---- reference rows -------------------------------------------------------------------------- */

static void check_row(const sl_tokenizer *tok, const json_t *row)
{
    const json_t *text = json_object_get(row, "text"), *want = json_object_get(row, "ids");
    const json_t *decoded = json_object_get(row, "decoded");
    ids got = encode(tok, json_string_value(text), json_string_length(text), true);
    bool same = got.count == json_array_size(want);
    for (size_t i = 0; same && i < got.count; i++)
        same = got.data[i] == json_integer_value(json_array_get(want, i));
    if (!same) fail_msg("\"%s\": got %s", json_string_value(text), show(&got));
    if (decoded) {
        expect_decoded(tok, &got, false, json_string_value(decoded), json_string_length(decoded));
    }
    free(got.data);
}

static void check_rows(const char *path, size_t at_least)
{
    sl_tokenizer *tok = open_demo(), *again = tokenizer_recompiled(tok);
    json_t *rows = load_json(path), *row;
    size_t i;
    assert_true(json_array_size(rows) >= at_least);
    json_array_foreach(rows, i, row)
    {
        check_row(tok, row);
        check_row(again, row);
    }
    json_decref(rows);
    sl_tokenizer_close(tok);
    sl_tokenizer_close(again);
}

static void demo_rows(void **state)
{
    (void)state;
    check_rows("data/tokenizer/demo_rows.json", 200);
}

static void random_rows(void **state)
{
    (void)state;
    check_rows("data/tokenizer/random_rows.json", 300);
}

static void check_pieces_row(const sl_tokenizer *tok, const json_t *pre, const json_t *row)
{
    const char *text = json_string_value(json_object_get(row, "text"));
    const json_t *pieces = json_object_get(row, "pieces"), *piece;
    char want[1024] = "";
    size_t i;
    json_array_foreach(pieces, i, piece)
        sprintf(want + strlen(want), "[%s]", json_string_value(piece));
    char *got = tokenizer_pieces(tok, text, strlen(text));
    if (strcmp(got, want) != 0) {
        fail_msg("%s \"%s\": got %s, expected %s", json_dumps(pre, JSON_COMPACT), text, got, want);
    }
    free(got);
}

static void check_stage_case(const json_t *item)
{
    static const char *const keys[] = {"added_tokens", "normalizer", "pre_tokenizer",
                                       "post_processor"};
    json_t *root = tokenizer_base(), *value, *row;
    size_t i;
    for (i = 0; i < 4; i++) {
        value = json_object_get(item, keys[i]);
        if (value) json_object_set(root, keys[i], value);
    }
    value = json_object_get(item, "ignore_merges");
    if (value) json_object_set(json_object_get(root, "model"), "ignore_merges", value);
    json_array_foreach(json_object_get(item, "extra"), i, value)
        tokenizer_add_token(root, json_string_value(value), 256 + (int)i);
    json_array_foreach(json_object_get(item, "merges"), i, value)
        tokenizer_add_merge(root, json_string_value(json_array_get(value, 0)),
                            json_string_value(json_array_get(value, 1)));
    sl_tokenizer *tok = tokenizer_take(root), *again = tokenizer_recompiled(tok);
    json_array_foreach(json_object_get(item, "rows"), i, row)
    {
        if (json_object_get(row, "pieces")) {
            check_pieces_row(again, json_object_get(item, "pre_tokenizer"), row);
        } else {
            check_row(tok, row);
            check_row(again, row);
        }
    }
    sl_tokenizer_close(tok);
    sl_tokenizer_close(again);
}

static void stages_match_the_reference(void **state)
{
    (void)state;
    json_t *root = load_json("data/tokenizer/stage_rows.json"), *item;
    size_t i;
    json_array_foreach(json_object_get(root, "cases"), i, item) check_stage_case(item);
    assert_true(i > 90);
    json_decref(root);
}

static void broken_utf8_decodes_as_python_does(void **state)
{
    (void)state;
    json_t *root = load_json("data/tokenizer/stage_rows.json"), *row;
    sl_tokenizer *tok = tokenizer_take(tokenizer_base());
    size_t i;
    json_array_foreach(json_object_get(root, "decode"), i, row)
    {
        int32_t list[64];
        const json_t *bytes = json_object_get(row, "bytes"), *text = json_object_get(row, "text");
        ids all = {list, json_array_size(bytes)};
        assert_true(all.count <= 64);
        for (size_t k = 0; k < all.count; k++)
            list[k] = (int32_t)json_integer_value(json_array_get(bytes, k));
        expect_decoded(tok, &all, false, json_string_value(text), json_string_length(text));
    }
    assert_true(i > 100);
    json_decref(root);
    sl_tokenizer_close(tok);
}

/* ---- merging --------------------------------------------------------------------------------- */

static void lowest_rank_then_leftmost(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    tokenizer_add_merge(root, "b", "c");  /* 256 */
    tokenizer_add_merge(root, "a", "b");  /* 257 */
    tokenizer_add_merge(root, "a", "a");  /* 258 */
    tokenizer_add_merge(root, "aa", "a"); /* 259 */
    tokenizer_add_merge(root, "a", "bc"); /* 260 */
    sl_tokenizer *tok = tokenizer_take(root);
    expect_ids(tok, "abc", true, "260");
    expect_ids(tok, "ab", true, "257");
    expect_ids(tok, "aaa", true, "259");
    expect_ids(tok, "aaaa", true, "258 258");
    expect_ids(tok, "aaaaa", true, "258 259");
    expect_ids(tok, "aab", true, "97 257");
    expect_ids(tok, "cba", true, "99 98 97");
    expect_ids(tok, "", true, "");
    sl_tokenizer_close(tok);
}

/* Whether a later merge is of the same pair: the last one counts. */
static bool is_listed_again(const json_t *merges, size_t rank)
{
    for (size_t i = rank + 1; i < json_array_size(merges); i++)
        if (json_equal(json_array_get(merges, i), json_array_get(merges, rank))) return true;
    return false;
}

/* The definition, as plainly as it can be said. */
static void merge_naively(const json_t *root, const char *text, ids *out)
{
    const json_t *model = json_object_get(root, "model");
    const json_t *merges = json_object_get(model, "merges"), *item;
    char parts[400][64];
    size_t count = strlen(text), rank;
    for (size_t i = 0; i < count; i++)
        sprintf(parts[i], "%s", tokenizer_spell(text + i, 1));
    for (bool merged = true; merged;) {
        merged = false;
        json_array_foreach(merges, rank, item)
        {
            if (is_listed_again(merges, rank)) continue;
            for (size_t i = 0; !merged && i + 1 < count; i++) {
                if (strcmp(parts[i], json_string_value(json_array_get(item, 0))) != 0 ||
                    strcmp(parts[i + 1], json_string_value(json_array_get(item, 1))) != 0) {
                    continue;
                }
                strcat(parts[i], parts[i + 1]);
                memmove(parts[i + 1], parts[i + 2], (count - i - 2) * sizeof parts[0]);
                count--;
                merged = true;
            }
            if (merged) break;
        }
    }
    out->count = count;
    for (size_t i = 0; i < count; i++)
        out->data[i] =
            (int32_t)json_integer_value(json_object_get(json_object_get(model, "vocab"), parts[i]));
}

static void short_and_long_pieces_merge_by_the_definition(void **state)
{
    (void)state;
    test_rng rng = {7};
    int vocabularies = test_fast() ? 4 : 12;
    for (int v = 0; v < vocabularies; v++) {
        json_t *root = tokenizer_base();
        char known[40][16] = {"a", "b", "c"};
        size_t count = 3;
        while (count < 40) {
            char both[40];
            unsigned x = test_rng_below(&rng, (unsigned)count);
            unsigned y = test_rng_below(&rng, (unsigned)count);
            sprintf(both, "%s%s", known[x], known[y]);
            if (strlen(both) > 9) continue;
            tokenizer_add_merge(root, known[x], known[y]); /* results and pairs come twice */
            strcpy(known[count++], both);
        }
        sl_tokenizer *tok = tokenizer_of(root);
        for (int k = 0; k < 60; k++) {
            char text[400];
            unsigned n = test_rng_below(&rng, 8) == 0 ? 50 + test_rng_below(&rng, 250)
                                                      : test_rng_below(&rng, 80);
            for (unsigned i = 0; i < n; i++)
                text[i] = (char)('a' + test_rng_below(&rng, 3));
            text[n] = '\0';
            int32_t list[400];
            ids want = {list, 0}, got = encode(tok, text, n, true);
            merge_naively(root, text, &want);
            assert_int_equal(got.count, want.count);
            if (n > 0) assert_memory_equal(got.data, want.data, n ? got.count * 4 : 0);
            free(got.data);
        }
        sl_tokenizer_close(tok);
        json_decref(root);
    }
}

/* The same text alone and far into a long one, where pieces come out of the table. */
static void repeated_pieces_give_the_same_ids(void **state)
{
    (void)state;
    sl_tokenizer *tok = open_demo();
    const char *words[] = {" the",   " quick",        "\n\n", " it's",
                           " foxes", " \xe4\xb8\xad", " 17",  " antidisestablishmentarianistically",
                           "  "};
    test_rng rng = {3};
    char text[20000];
    int32_t want[20000];
    size_t size = 0, count = 0;
    while (size < sizeof text - 64) {
        const char *word = words[test_rng_below(&rng, 9)];
        /* Between a letter and a digit, a word of the list falls into the same pieces anywhere. */
        char both[64];
        sprintf(both, "%sx", word);
        ids one = encode(tok, both, strlen(both), true);
        memcpy(text + size, both, strlen(both));
        size += strlen(both);
        memcpy(want + count, one.data, one.count * sizeof *want);
        count += one.count;
        free(one.data);
        text[size++] = '7';
        ids x = encode(tok, "7", 1, true);
        want[count++] = x.data[0];
        free(x.data);
    }
    ids got = encode(tok, text, size, true);
    assert_int_equal(got.count, count);
    assert_memory_equal(got.data, want, count * sizeof *want);
    free(got.data);
    sl_tokenizer_close(tok);
}

static void merges_as_strings_and_pairs(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    tokenizer_add_token(root, "ab", 256);
    tokenizer_add_token(root, " ab", 257);
    char merges[64];
    snprintf(merges, sizeof merges, "['a b',['%s','ab']]", tokenizer_spell(" ", 1));
    tokenizer_set_model(root, "merges", merges);
    sl_tokenizer *tok = tokenizer_take(root);
    expect_ids(tok, "ab ab", true, "256 257");
    sl_tokenizer_close(tok);
}

static void whole_pieces_where_merges_are_ignored(void **state)
{
    (void)state;
    for (int on = 0; on < 2; on++) {
        json_t *root = tokenizer_base();
        tokenizer_add_merge(root, "a", "b");
        tokenizer_add_token(root, "abcd", 300); /* no merge leads here */
        tokenizer_set_split(root, " ", "Isolated", false);
        tokenizer_set_model(root, "ignore_merges", on ? "true" : "false");
        sl_tokenizer *tok = tokenizer_take(root);
        expect_ids(tok, "abcd abcde", true,
                   on ? "300 32 256 99 100 101" : "256 99 100 32 256 99 100 101");
        sl_tokenizer_close(tok);
    }
}

static void bytes_without_a_token(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        json_t *root = tokenizer_base();
        json_t *vocab = json_object_get(json_object_get(root, "model"), "vocab");
        json_object_del(vocab, "x");
        json_object_del(vocab, tokenizer_spell("\xff", 1));
        tokenizer_add_merge(root, "a", "b");
        tokenizer_add_token(root, "?!", 400);
        if (way > 0) tokenizer_set_model(root, "unk_token", "'?!'");
        if (way == 2) tokenizer_set_model(root, "fuse_unk", "true");
        sl_tokenizer *tok = tokenizer_take(root);
        static const char *const want[] = {"256", "97 400 400 98 400", "97 400 98 400"};
        /* With no unknown token they vanish, and what is left and right of them meets. */
        expect_ids(tok, "axxbx", true, want[way]);
        ids got = encode(tok, "a\xff", 2, true);
        assert_string_equal(show(&got), way == 0 ? "97" : "97 400");
        free(got.data);
        sl_tokenizer_close(tok);
    }
}

static void long_pieces_end(void **state)
{
    (void)state;
    size_t size = test_fast() ? 100000 : 1000000;
    char *text = calloc(1, size + 1);
    assert_non_null(text);
    sl_tokenizer *tok = open_demo();
    for (int k = 0; k < 4; k++) {
        const char *unit[] = {"a", " ", "\n", "ab"};
        for (size_t i = 0; i < size; i++)
            text[i] = unit[k][i % strlen(unit[k])];
        ids got = encode(tok, text, size, true);
        expect_decoded(tok, &got, false, text, size);
        free(got.data);
    }
    sl_tokenizer_close(tok);
    free(text);
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static void leftmost_longest_and_overlapping(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    tokenizer_add_added(root, 300, "<a>", "");
    tokenizer_add_added(root, 301, "<a><b>", "special");
    tokenizer_add_added(root, 302, "a><", "");
    tokenizer_add_added(root, 303, ">>", "");
    tokenizer_add_added(root, 310, "<a", "");
    sl_tokenizer *tok = tokenizer_take(root);
    assert_int_equal(sl_tokenizer_vocab_size(tok), 311);
    expect_ids(tok, "<a>", true, "300");
    expect_ids(tok, "<a><b>", true, "301");
    expect_ids(tok, "<a><b", true, "300 60 98");
    expect_ids(tok, "<a><a>", true, "300 300");
    expect_ids(tok, "xa><a>", true, "120 302 97 62");
    expect_ids(tok, "<a>>>", true, "300 303");
    expect_ids(tok, "<a<", true, "310 60");
    expect_ids(tok, "<a><b>", false, "60 97 62 60 98 62");
    int32_t list[] = {97, 301, 305, -1, 400, 300, 98};
    ids all = {list, 7};
    expect_decoded(tok, &all, false, "a<a><b><a>b", 11);
    expect_decoded(tok, &all, true, "a<a>b", 5);
    assert_int_equal(sl_tokenizer_token_id(tok, "<a><b>"), 301);
    assert_int_equal(sl_tokenizer_token_id(tok, "a"), 97);
    assert_int_equal(sl_tokenizer_token_id(tok, " "), 32);
    assert_int_equal(sl_tokenizer_token_id(tok, "nothing"), -1);
    assert_int_equal(sl_tokenizer_token_id(tok, ""), -1);
    sl_tokenizer_close(tok);
}

/* Added tokens decode to their text, not through the byte alphabet. */
static void added_tokens_are_literal(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    const char *bar = "<\xef\xbd\x9c"
                      "begin\xe2\x96\x81of\xef\xbd\x9c>";
    char merged[64];
    snprintf(merged, sizeof merged, "%s", bar);
    /* It is in the vocabulary as it is written, and a merge may even lead to it. */
    json_object_set_new(json_object_get(json_object_get(root, "model"), "vocab"), bar,
                        json_integer(256));
    tokenizer_add_added(root, 256, bar, "special");
    tokenizer_add_added(root, 0xe9, "\xc3\xa9", ""); /* the byte E9 in the alphabet */
    sl_tokenizer *tok = tokenizer_take(root), *again = tokenizer_recompiled(tok);
    expect_ids(again, merged, true, "256");
    int32_t list[] = {256, 0xe9};
    ids all = {list, 2};
    char want[64];
    snprintf(want, sizeof want, "%s\xc3\xa9", bar);
    expect_decoded(again, &all, false, want, strlen(want));
    expect_decoded(again, &all, true, "\xc3\xa9", 2);
    assert_int_equal(sl_tokenizer_token_id(again, bar), 256);
    sl_tokenizer_close(tok);
    sl_tokenizer_close(again);
}

static void many_added_tokens(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    for (int i = 0; i < 600; i++) {
        char content[32];
        snprintf(content, sizeof content, "<|r%d|>", i);
        tokenizer_add_added(root, 1000 + i, content, "special");
    }
    sl_tokenizer *tok = tokenizer_take(root);
    for (int i = 0; i < 600; i++) {
        char text[64], want[64];
        snprintf(text, sizeof text, "-<|r%d|><|r%d", i, i);
        snprintf(want, sizeof want, "45 %d 60 124 114", 1000 + i);
        ids got = encode(tok, text, strlen(text), true);
        assert_int_equal(strncmp(show(&got), want, strlen(want)), 0);
        free(got.data);
    }
    sl_tokenizer_close(tok);
}

/* ---- awkward texts --------------------------------------------------------------------------- */

static void bytes_that_are_not_utf8(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    tokenizer_set(root, "normalizer", "{'type':'NFC'}");
    tokenizer_add_merge(root, "a", "b");
    tokenizer_add_merge(root, "\xe2", "\x82");
    tokenizer_add_added(root, 300, "<a>", "single_word");
    sl_tokenizer *tok = tokenizer_take(root);
    static const struct {
        const char *text;
        size_t size;
        const char *ids;
    } rows[] = {
        {"\xff", 1, "255"},
        {"a\xff"
         "b",
         3, "97 255 98"},               /* nothing merges across */
        {"\xe2\x82", 2, "226 130"},     /* nor within */
        {"\xe2\x82\xac", 3, "257 172"}, /* whole, it is text and merges */
        {"ab\xe2\x82"
         "ab",
         6, "256 226 130 256"},
        {"\xc3<a>\x80", 5, "195 300 128"},
        {"e\xff\xcc\x81", 4, "101 255 204 129"}, /* the accent finds no letter */
        {"e\xcc\x81", 3, "195 169"},
        {"\0a\0", 3, "0 97 0"},
        {"\xed\xa0\x80", 3, "237 160 128"},
        {"\xf0\x9f\x98", 3, "240 159 152"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ids got = encode(tok, rows[i].text, rows[i].size, true);
        assert_string_equal(show(&got), rows[i].ids);
        free(got.data);
    }
    ids none = encode(tok, NULL, 0, true);
    assert_int_equal(none.count, 0);
    expect_decoded(tok, &none, false, "", 0);
    sl_tokenizer_close(tok);
}

static size_t random_text(test_rng *rng, char *text, size_t room)
{
    static const uint32_t bases[] = {
        0x20,   0x20,   0x41,   0x61,   0xc0,   0x300,  0x370,  0x5d0,  0x915,   0xe01,   0x1100,
        0x1161, 0x11a8, 0x1e00, 0x2000, 0x3040, 0x4e00, 0xac00, 0xf900, 0x1d15e, 0x1f600, 0x2f800};
    size_t n = 0;
    unsigned chars = test_rng_below(rng, 40);
    for (unsigned i = 0; i < chars && n + 4 <= room; i++) {
        uint32_t cp = bases[test_rng_below(rng, sizeof bases / sizeof bases[0])];
        n += sl__utf8_put(cp + test_rng_below(rng, 26), text + n);
    }
    return n;
}

static void decoding_gives_back_the_normalised_text(void **state)
{
    (void)state;
    sl_tokenizer *tok = open_demo();
    test_rng rng = {11};
    int rounds = test_fast() ? 1000 : 10000;
    for (int k = 0; k < rounds; k++) {
        char text[256];
        size_t n = random_text(&rng, text, sizeof text - 1);
        text[n] = '\0';
        utf8proc_uint8_t *nfc = utf8proc_NFC((const utf8proc_uint8_t *)text);
        assert_non_null(nfc);
        ids got = encode(tok, text, n, true);
        expect_decoded(tok, &got, false, (const char *)nfc, strlen((const char *)nfc));
        free(got.data);
        free(nfc);
    }
    sl_tokenizer_close(tok);
}

/* Marks without end, in the wrong order: sorting them must not take the square of their number. */
static void many_combining_marks(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    tokenizer_set(root, "normalizer", "{'type':'NFC'}");
    sl_tokenizer *tok = tokenizer_take(root);
    size_t pairs = 300000, size = pairs * 4 + 1;
    char *text = malloc(size);
    assert_non_null(text);
    text[0] = 'x';
    for (size_t i = 0; i < pairs; i++)
        memcpy(text + 1 + i * 4, "\xcc\x81\xcc\xa7", 4); /* acute 230, cedilla 202 */
    ids got = encode(tok, text, size, true);
    assert_int_equal(got.count, size);
    for (size_t i = 0; i < pairs * 2; i++)
        assert_int_equal(got.data[2 + i * 2], i < pairs ? 0xa7 : 0x81);
    free(got.data);
    free(text);
    sl_tokenizer_close(tok);
}

static void ids_wrapped_around_a_text(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    tokenizer_add_added(root, 300, "<s>", "special");
    tokenizer_add_added(root, 301, "</s>", "special");
    tokenizer_set(root, "post_processor",
                  "{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'<s>','type_id':0}}"
                  ",{'Sequence':{'id':'A','type_id':0}},{'SpecialToken':{'id':'</s>'}}],"
                  "'special_tokens':{'<s>':{'id':'<s>','ids':[300]},'</s>':{'ids':[301,301]}}}");
    sl_tokenizer *tok = tokenizer_take(root);
    expect_ids(tok, "ab", false, "300 97 98 301 301");
    expect_ids(tok, "", true, "300 301 301");
    /* Without them: what the text itself says stays. */
    static const struct {
        unsigned flags;
        const char *ids;
    } rows[] = {{0, "60 115 62 97"}, {SL_ENCODE_ADDED, "300 97"}, {3, "300 300 97 301 301"}};
    sl_error err = {0};
    for (size_t i = 0; i < 3; i++) {
        ids got;
        assert_int_equal(
            sl_tokenizer_encode(tok, "<s>a", 4, rows[i].flags, &got.data, &got.count, &err), SL_OK);
        assert_string_equal(show(&got), rows[i].ids);
        free(got.data);
    }
    ids none;
    assert_int_equal(sl_tokenizer_encode(tok, "a", 1, 4, &none.data, &none.count, &err), SL_EINVAL);
    assert_string_equal(err.message, "encoding with unknown flags 0x4");
    assert_null(none.data);
    sl_tokenizer_close(tok);
}

/* ---- what a tokenizer.json may not say ------------------------------------------------------- */

static void unknown_stages_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *key, *json, *message;
        sl_status status;
    } cases[] = {
        {"normalizer", "{'type':'BertNormalizer'}",
         "normalizer type BertNormalizer is not supported", SL_EUNSUPPORTED},
        {"normalizer", "{'type':'Sequence','normalizers':[{'type':'NFC'},{'type':'Nmt'}]}",
         "normalizer type Nmt is not supported", SL_EUNSUPPORTED},
        {"normalizer", "{'type':'Sequence'}", "normalizer: normalizers: expected a list",
         SL_EFORMAT},
        {"normalizer", "7", "normalizer: expected an object", SL_EFORMAT},
        {"normalizer", "{}", "type: expected a string, got nothing", SL_EFORMAT},
        {"pre_tokenizer", "null",
         "decoder type ByteLevel without a ByteLevel pre_tokenizer is not supported",
         SL_EUNSUPPORTED},
        {"pre_tokenizer", "{'type':'BertPreTokenizer'}",
         "pre_tokenizer type BertPreTokenizer is not supported", SL_EUNSUPPORTED},
        {"pre_tokenizer", "{'type':'ByteLevel'}",
         "add_prefix_space: expected true or false, got nothing", SL_EFORMAT},
        {"pre_tokenizer",
         "{'type':'Sequence','pretokenizers':[{'type':'ByteLevel','add_prefix_space':false},"
         "{'type':'Digits'}]}",
         "pre_tokenizer type Digits after ByteLevel is not supported", SL_EUNSUPPORTED},
        {"pre_tokenizer", "{'type':'Split','pattern':{},'behavior':'Isolated'}",
         "String: expected a string, got nothing", SL_EFORMAT},
        {"pre_tokenizer", "{'type':'Split','pattern':{'String':'a'},'behavior':'Sideways'}",
         "Split behavior Sideways is not supported", SL_EUNSUPPORTED},
        {"post_processor", "{'type':'RobertaProcessing'}",
         "post_processor type RobertaProcessing is not supported", SL_EUNSUPPORTED},
        {"post_processor", "{'type':'TemplateProcessing','single':[]}",
         "post_processor: a template that does not hold the text once", SL_EUNSUPPORTED},
        {"post_processor", "{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'<s>'}}]}",
         "post_processor: no ids of \"<s>\"", SL_EFORMAT},
        {"post_processor",
         "{'type':'TemplateProcessing','single':[{'SpecialToken':{'id':'s'}},{'Sequence':{}}],"
         "'special_tokens':{'s':{'ids':[999]}}}",
         "post_processor: id 999 is not in the vocab", SL_EFORMAT},
        {"decoder", "{'type':'WordPiece'}", "decoder type WordPiece is not supported",
         SL_EUNSUPPORTED},
        {"decoder", "{'type':'Sequence','decoders':[{'type':'ByteFallback'}]}",
         "decoder type ByteFallback with a ByteLevel pre_tokenizer is not supported",
         SL_EUNSUPPORTED},
        {"model", "null", "there is no model", SL_EFORMAT},
        {"model", "{'type':'Unigram'}", "model type Unigram is not supported", SL_EUNSUPPORTED},
        {"model", "{'type':'BPE','vocab':{}}", "model: vocab or merges are missing", SL_EFORMAT},
        {"added_tokens", "7", "added_tokens: expected a list", SL_EFORMAT},
        {"added_tokens", "[{'id':-1}]", "id: expected a whole number from 0 to 4194303, got -1",
         SL_EFORMAT},
        {"added_tokens", "[{'id':300}]", "content: expected a string, got nothing", SL_EFORMAT},
        {"added_tokens", "[{'id':97,'content':'<s>'}]",
         "added token \"<s>\": its id 97 and the vocab disagree", SL_EFORMAT},
        {"added_tokens", "[{'id':300,'content':'a'}]",
         "added token \"a\": its id 300 and the vocab disagree", SL_EFORMAT},
        {"added_tokens", "[{'id':300,'content':'x1'},{'id':300,'content':'x2'}]",
         "added token \"x2\": its id 300 and the vocab disagree", SL_EFORMAT},
        {"added_tokens", "[{'id':300,'content':'x','special':1}]",
         "special: expected true or false, got 1", SL_EFORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[256];
        json_t *root = tokenizer_base();
        tokenizer_set(root, cases[i].key, cases[i].json);
        snprintf(message, sizeof message, "t.json: %s", cases[i].message);
        tokenizer_expect_error(root, cases[i].status, message);
    }
}

static void bad_models_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *key, *json, *message;
        sl_status status;
    } cases[] = {
        {"byte_fallback", "1", "byte_fallback: expected true or false, got 1", SL_EFORMAT},
        {"dropout", "0.1", "model with dropout is not supported", SL_EUNSUPPORTED},
        {"dropout", "'x'", "dropout: expected a number from 0 to 1, got \"x\"", SL_EFORMAT},
        {"continuing_subword_prefix", "'##'",
         "model with continuing_subword_prefix is not supported", SL_EUNSUPPORTED},
        {"end_of_word_suffix", "'</w>'", "model with end_of_word_suffix is not supported",
         SL_EUNSUPPORTED},
        {"unk_token", "'<unk>'", "unk_token \"<unk>\" is not in the vocab", SL_EFORMAT},
        {"ignore_merges", "1", "ignore_merges: expected true or false, got 1", SL_EFORMAT},
        {"merges", "['ab']", "merges: number 0 is not a pair of tokens", SL_EFORMAT},
        {"merges", "['a b c']", "merges: number 0 is not a pair of tokens", SL_EFORMAT},
        {"merges", "[['a']]", "merges: number 0 is not a pair of tokens", SL_EFORMAT},
        {"merges", "[['a','']]", "merges: number 0 is not a pair of tokens", SL_EFORMAT},
        {"merges", "[7]", "merges: number 0 is not a pair of tokens", SL_EFORMAT},
        {"merges", "['a b']", "merges: number 0 needs \"ab\", which is not in the vocab",
         SL_EFORMAT},
        {"merges", "[['a','zz']]", "merges: number 0 needs \"zz\", which is not in the vocab",
         SL_EFORMAT},
        {"vocab", "{'a':0,'b':0}", "vocab: two tokens have the id 0", SL_EFORMAT},
        {"vocab", "{'a':-1}", "vocab: token \"a\" has no id from 0 to 4194303", SL_EFORMAT},
        {"vocab", "{'a':4194304}", "vocab: token \"a\" has no id from 0 to 4194303", SL_EFORMAT},
        {"vocab", "{'a':'b'}", "vocab: token \"a\" has no id from 0 to 4194303", SL_EFORMAT},
        {"vocab", "[]", "model: vocab or merges are missing", SL_EFORMAT},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char message[256];
        json_t *root = tokenizer_base();
        tokenizer_set_model(root, cases[i].key, cases[i].json);
        snprintf(message, sizeof message, "t.json: %s", cases[i].message);
        tokenizer_expect_error(root, cases[i].status, message);
    }
    sl_error err = {0};
    sl_tokenizer *tok;
    assert_int_equal(sl__tokenizer_parse_json(&tok, "[1,", 3, "t.json", &err), SL_EFORMAT);
    sl_error_clear(&err);
    assert_int_equal(sl__tokenizer_parse_json(&tok, "[1]", 3, "t.json", &err), SL_EFORMAT);
}

static void small_allowances(void **state)
{
    (void)state;
    json_t *root = tokenizer_base();
    json_object_del(root, "normalizer");
    json_object_del(root, "added_tokens");
    json_object_del(root, "post_processor");
    json_object_del(root, "decoder");
    json_object_del(json_object_get(root, "model"), "type");
    tokenizer_set_model(root, "dropout", "0");
    tokenizer_set_model(root, "end_of_word_suffix", "''");
    sl_tokenizer *tok = tokenizer_take(root);
    expect_ids(tok, "ab", true, "97 98");
    sl_tokenizer_close(tok);
    /* An added token without text is an id that nothing becomes. */
    root = tokenizer_base();
    tokenizer_add_added(root, 300, "", "special");
    tokenizer_set(root, "decoder", "{'type':'Sequence','decoders':[{'type':'ByteLevel'}]}");
    tok = tokenizer_take(root);
    expect_ids(tok, "ab", true, "97 98");
    int32_t id = 300;
    ids all = {&id, 1};
    expect_decoded(tok, &all, false, "", 0);
    sl_tokenizer_close(tok);
    /* No vocabulary at all: nothing has a token. */
    root = tokenizer_base();
    tokenizer_set_model(root, "vocab", "{}");
    tok = tokenizer_take(root);
    assert_int_equal(sl_tokenizer_vocab_size(tok), 0);
    expect_ids(tok, "ab", true, "");
    sl_tokenizer_close(tok);
}

/* ---- sharing ------------------------------------------------------------------------------- */

static void *encode_often(void *arg)
{
    static const char text[] = "It's <think>shared</think> by  threads \xe4\xb8\xad e\xcc\x81";
    char *seen = calloc(1, 4096);
    for (int k = 0; seen && k < 50; k++) {
        int32_t *list;
        size_t count;
        if (sl_tokenizer_encode(arg, text, sizeof text - 1, SL_ENCODE_ADDED, &list, &count, NULL))
            break;
        if (k == 0)
            memcpy(seen, list, count * sizeof *list);
        else if (memcmp(seen, list, count * sizeof *list) != 0)
            seen[0] = 0;
        free(list);
    }
    return seen;
}

static void one_tokenizer_for_many_threads(void **state)
{
    (void)state;
    sl_tokenizer *tok = open_demo();
    pthread_t threads[4];
    void *seen[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, encode_often, tok), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], &seen[i]);
    for (int i = 0; i < 4; i++) {
        assert_non_null(seen[i]);
        assert_memory_equal(seen[i], seen[0], 4096);
    }
    for (int i = 0; i < 4; i++)
        free(seen[i]);
    sl_tokenizer_close(tok);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demo_rows),
        cmocka_unit_test(random_rows),
        cmocka_unit_test(stages_match_the_reference),
        cmocka_unit_test(broken_utf8_decodes_as_python_does),
        cmocka_unit_test(lowest_rank_then_leftmost),
        cmocka_unit_test(short_and_long_pieces_merge_by_the_definition),
        cmocka_unit_test(repeated_pieces_give_the_same_ids),
        cmocka_unit_test(merges_as_strings_and_pairs),
        cmocka_unit_test(whole_pieces_where_merges_are_ignored),
        cmocka_unit_test(bytes_without_a_token),
        cmocka_unit_test(long_pieces_end),
        cmocka_unit_test(leftmost_longest_and_overlapping),
        cmocka_unit_test(added_tokens_are_literal),
        cmocka_unit_test(many_added_tokens),
        cmocka_unit_test(bytes_that_are_not_utf8),
        cmocka_unit_test(decoding_gives_back_the_normalised_text),
        cmocka_unit_test(many_combining_marks),
        cmocka_unit_test(ids_wrapped_around_a_text),
        cmocka_unit_test(unknown_stages_are_named),
        cmocka_unit_test(bad_models_are_named),
        cmocka_unit_test(small_allowances),
        cmocka_unit_test(one_tokenizer_for_many_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
