/* Tiktoken files: the rule of merging against its definition, the ways to open one, and what is
 * refused. Reference rows are in test_tokenizer_families.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "test_env.h"
#include "text/tokenizer.h"
#include "tokenizer_text.h"

static void put_line(sl__buffer *out, const char *bytes, size_t size, unsigned rank)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        unsigned bits = 0;
        for (size_t k = 0; k < 3; k++)
            bits = bits << 8 | (i + k < size ? (unsigned char)bytes[i + k] : 0u);
        for (size_t k = 0; k < 4; k++)
            sl__buffer_printf(out, "%c", i + k > size ? '=' : digits[bits >> (18 - 6 * k) & 63]);
    }
    sl__buffer_printf(out, " %u\n", rank);
}

/* The 256 bytes, each its own rank. */
static void put_bytes(sl__buffer *out)
{
    sl__buffer_init(out, 1u << 24);
    for (unsigned byte = 0; byte < 256; byte++) {
        char c = (char)byte;
        put_line(out, &c, 1, byte);
    }
}

static sl_tokenizer *take(sl__buffer *lines, sl__tiktoken_kind kind, const char *config)
{
    sl_tokenizer *tok = NULL;
    sl_error err = {0};
    assert_false(lines->failed);
    if (sl__tiktoken_parse(&tok, lines->data, lines->size, kind, config,
                           config ? strlen(config) : 0, "t.tiktoken", &err)) {
        fail_msg("%s", err.message);
    }
    sl__buffer_free(lines);
    return tok;
}

/* A vocabulary of tokens of a, b and c, whose ranks are in no order that training would give. */
typedef struct vocabulary {
    char token[60][16];
    unsigned rank[60];
    size_t count;
} vocabulary;

static int rank_of(const vocabulary *v, const char *text, size_t size)
{
    if (size == 1) return (unsigned char)text[0];
    for (size_t i = 0; i < v->count; i++)
        if (strlen(v->token[i]) == size && memcmp(v->token[i], text, size) == 0)
            return (int)v->rank[i];
    return -1;
}

static vocabulary random_vocabulary(test_rng *rng)
{
    vocabulary v = {.count = 0};
    while (v.count < 40) {
        char text[40] = "";
        /* Half of them joined from what is there, half at random: no merges may lead to those. */
        if (v.count > 4 && test_rng_below(rng, 2)) {
            const char *a = v.token[test_rng_below(rng, (unsigned)v.count)];
            const char *b = v.token[test_rng_below(rng, (unsigned)v.count)];
            if (strlen(a) + strlen(b) > 10) continue;
            sprintf(text, "%s%s", a, b);
        } else {
            unsigned n = 2 + test_rng_below(rng, 3);
            for (unsigned i = 0; i < n; i++)
                text[i] = (char)('a' + test_rng_below(rng, 3));
        }
        if (rank_of(&v, text, strlen(text)) >= 0) continue;
        strcpy(v.token[v.count], text);
        v.rank[v.count] = 300 + (unsigned)v.count;
        v.count++;
    }
    for (size_t i = v.count; i > 1; i--) {
        size_t k = test_rng_below(rng, (unsigned)i);
        unsigned old = v.rank[k];
        v.rank[k] = v.rank[i - 1];
        v.rank[i - 1] = old;
    }
    return v;
}

/* The definition, as plainly as it can be said. */
static size_t encode_plainly(const vocabulary *v, const char *text, int32_t *ids)
{
    size_t n = strlen(text), start[200], count = n;
    int whole = rank_of(v, text, n);
    if (whole >= 0) {
        ids[0] = whole;
        return 1;
    }
    for (size_t i = 0; i <= n; i++)
        start[i] = i;
    for (;;) {
        int best = -1;
        size_t at = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            int rank = rank_of(v, text + start[i], start[i + 2] - start[i]);
            if (rank >= 0 && (best < 0 || rank < best)) {
                best = rank;
                at = i;
            }
        }
        if (best < 0) break;
        memmove(start + at + 1, start + at + 2, (count - at - 1) * sizeof *start);
        count--;
    }
    for (size_t i = 0; i < count; i++)
        ids[i] = rank_of(v, text + start[i], start[i + 1] - start[i]);
    return count;
}

static void merges_by_the_definition(void **state)
{
    (void)state;
    test_rng rng = {23};
    int vocabularies = test_fast() ? 10 : 60;
    for (int k = 0; k < vocabularies; k++) {
        vocabulary v = random_vocabulary(&rng);
        sl__buffer lines;
        put_bytes(&lines);
        for (size_t i = 0; i < v.count; i++)
            put_line(&lines, v.token[i], strlen(v.token[i]), v.rank[i]);
        sl_tokenizer *tok = take(&lines, SL__TIKTOKEN_O200K, NULL);
        for (int row = 0; row < 200; row++) {
            char text[160];
            int32_t want[160], *ids;
            unsigned n = 1 + test_rng_below(&rng, row % 10 ? 12 : 150);
            size_t count;
            for (unsigned i = 0; i < n; i++)
                text[i] = (char)('a' + test_rng_below(&rng, 3));
            text[n] = '\0';
            assert_int_equal(sl_tokenizer_encode(tok, text, n, 0, &ids, &count, NULL), SL_OK);
            assert_int_equal(count, encode_plainly(&v, text, want));
            assert_memory_equal(ids, want, count * sizeof *ids);
            free(ids);
        }
        sl_tokenizer_close(tok);
    }
}

static void special_tokens_of_the_configuration(void **state)
{
    (void)state;
    sl__buffer lines;
    put_bytes(&lines);
    put_line(&lines, "ab", 2, 260);
    sl_tokenizer *tok = take(&lines, SL__TIKTOKEN_KIMI,
                             "{\"added_tokens_decoder\":{\"300\":{\"content\":\"[BOS]\","
                             "\"special\":true},\"302\":{\"content\":\"<x>\",\"special\":false}}}");
    int32_t *ids, want[] = {300, 260, 302};
    size_t count, size;
    char *text;
    assert_int_equal(sl_tokenizer_vocab_size(tok), 303);
    assert_int_equal(sl_tokenizer_token_id(tok, "<x>"), 302);
    assert_int_equal(
        sl_tokenizer_encode(tok, "[BOS]ab<x>", 10, SL_ENCODE_ADDED, &ids, &count, NULL), SL_OK);
    assert_int_equal(count, 3);
    assert_memory_equal(ids, want, sizeof want);
    assert_int_equal(sl_tokenizer_decode(tok, ids, count, true, &text, &size, NULL), SL_OK);
    assert_string_equal(text, "ab<x>");
    free(text);
    free(ids);
    sl_tokenizer_close(tok);
}

static void opening_paths(void **state)
{
    (void)state;
    char dir[256], path[512];
    sl__buffer lines;
    sl_error err = {0};
    sl_tokenizer *tok = NULL;
    put_bytes(&lines);
    test_temp_dir(dir, sizeof dir);

    /* Without special tokens, by the folder and by the file. */
    snprintf(path, sizeof path, "%s/tiktoken.model", dir);
    test_write_file(path, lines.data, lines.size);
    assert_int_equal(sl_tokenizer_open(&tok, dir, &err), SL_OK);
    assert_int_equal(sl_tokenizer_vocab_size(tok), 256);
    sl_tokenizer_close(tok);
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    test_write_file(path, "{}", 2);
    snprintf(path, sizeof path, "%s/tiktoken.model", dir);
    assert_int_equal(sl_tokenizer_open(&tok, path, &err), SL_OK);
    sl_tokenizer_close(tok);
    /* A configuration that is broken is no configuration that is not there. */
    snprintf(path, sizeof path, "%s/tokenizer_config.json", dir);
    test_write_file(path, "[", 1);
    assert_int_equal(sl_tokenizer_open(&tok, dir, &err), SL_EFORMAT);
    assert_null(tok);
    sl_error_clear(&err);
    /* A tokenizer.json comes first. */
    json_t *root = tokenizer_base();
    tokenizer_add_token(root, "ab", 256);
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    assert_int_equal(json_dump_file(root, path, 0), 0);
    json_decref(root);
    assert_int_equal(sl_tokenizer_open(&tok, dir, &err), SL_OK);
    assert_int_equal(sl_tokenizer_vocab_size(tok), 257);
    sl_tokenizer_close(tok);

    snprintf(path, sizeof path, "%s/o200k_base.tiktoken", dir);
    test_write_file(path, lines.data, lines.size);
    assert_int_equal(sl_tokenizer_open(&tok, path, &err), SL_OK);
    sl_tokenizer_close(tok);
    snprintf(path, sizeof path, "%s/cl100k_base.tiktoken", dir);
    test_write_file(path, lines.data, lines.size);
    assert_int_equal(sl_tokenizer_open(&tok, path, &err), SL_EUNSUPPORTED);
    assert_non_null(strstr(err.message, "/cl100k_base.tiktoken: a tiktoken file does not say how "
                                        "text is split; that is known of tiktoken.model (Kimi) and "
                                        "o200k*.tiktoken only"));
    sl__buffer_free(&lines);
    test_remove_tree(dir);
}

static void expect_error(const char *lines, const char *config, const char *message)
{
    sl_error err = {0};
    sl_tokenizer *tok;
    assert_int_equal(sl__tiktoken_parse(&tok, lines, strlen(lines), SL__TIKTOKEN_KIMI, config,
                                        config ? strlen(config) : 0, "t", &err),
                     SL_EFORMAT);
    assert_null(tok);
    assert_string_equal(err.message, message);
}

static void what_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"IQ== x",  "IQ==",   "IQ== ",        " 1",
                                      "IQ= 1",   "I=Q= 1", "IQ==  1",      "I*== 1",
                                      "IQ== -1", "==== 1", "IQ== 4194304", "IQ== 99999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[64];
        snprintf(text, sizeof text, "YQ== 0\r\n\n%s\n", bad[i]);
        expect_error(text, NULL, "t: line 3 is not a token in base64 and its rank");
    }
    expect_error("", NULL, "t: there is no token of byte 00");
    expect_error("AA== 0\nAQ== 0\n", NULL, "t: line 2: a second token of rank 0");
    expect_error("AA== 0\nAA== 1\n", NULL, "t: line 2: its token was there before");
    expect_error("AA== 0\nAQ== 1", NULL, "t: there is no token of byte 02");
    sl__buffer lines;
    put_bytes(&lines);
    expect_error(lines.data, "[]", "t: there is no object in the configuration");
    expect_error(lines.data, "{\"added_tokens_decoder\":[]}",
                 "t: added_tokens_decoder: expected an object");
    expect_error(lines.data, "{\"added_tokens_decoder\":{\"x\":{}}}",
                 "t: added_tokens_decoder: \"x\" is not an id");
    expect_error(lines.data, "{\"added_tokens_decoder\":{\"300\":{}}}",
                 "t: content: expected a string, got nothing");
    expect_error(lines.data, "{\"added_tokens_decoder\":{\"97\":{\"content\":\"<x>\"}}}",
                 "t: added token \"<x>\": its id 97 is another token's");
    sl__buffer_free(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_the_definition),
        cmocka_unit_test(special_tokens_of_the_configuration),
        cmocka_unit_test(opening_paths),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
