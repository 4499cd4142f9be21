/* Tokenizers of GGUF files: merging by score against its definition, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test_env.h"
#include "text/tokenizer.h"

#define MARK "\342\226\201"

static void expect_ids(const sl_tokenizer *tok, const char *text, unsigned flags,
                       const int32_t *want, size_t want_count)
{
    int32_t *ids;
    size_t count;
    assert_int_equal(sl_tokenizer_encode(tok, text, strlen(text), flags, &ids, &count, NULL),
                     SL_OK);
    assert_int_equal(count, want_count);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(ids[i], want[i]);
    free(ids);
}

static void expect_text(const sl_tokenizer *tok, const int32_t *ids, size_t count, const char *want)
{
    char *text;
    size_t size;
    assert_int_equal(sl_tokenizer_decode(tok, ids, count, false, &text, &size, NULL), SL_OK);
    assert_string_equal(text, want);
    free(text);
}

/* ---- merging by score ------------------------------------------------------------------------ */

enum { WORDS = 40, TEXT = 24 };

/* Tokens 0 to 3 are ▁, a, b, c; the others words of these. */
typedef struct score_case {
    char words[WORDS][32];
    sl__tok_text tokens[WORDS];
    double scores[WORDS];
    size_t count;
} score_case;

static int32_t find_word(const score_case *c, const char *text, size_t size)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->tokens[i].size == size && memcmp(c->words[i], text, size) == 0) return (int32_t)i;
    return -1;
}

static void make_case(score_case *c, test_rng *rng)
{
    static const char *const letters[] = {MARK, "a", "b", "c"};
    c->count = 0;
    while (c->count < WORDS) {
        char *word = c->words[c->count];
        word[0] = '\0';
        unsigned n = c->count < 4 ? 1 : 2 + test_rng_below(rng, 5);
        for (unsigned i = 0; i < n; i++)
            strcat(word, letters[c->count < 4 ? c->count : test_rng_below(rng, 4)]);
        if (find_word(c, word, strlen(word)) >= 0) continue;
        c->tokens[c->count] = (sl__tok_text){word, strlen(word)};
        c->scores[c->count++] = -(double)test_rng_below(rng, 20);
    }
}

/* The definition: of all neighbours that make a token, the one with the highest score, the leftmost
 * on ties. */
static size_t merge_plainly(const score_case *c, const char *text, int32_t *ids)
{
    size_t start[TEXT * 3 + 2], count = 0, size = strlen(text);
    for (size_t i = 0; i < size; i++)
        if (((unsigned char)text[i] & 0xc0) != 0x80) start[count++] = i;
    start[count] = size;
    for (;;) {
        size_t best = count;
        double score = 0;
        for (size_t i = 0; i + 1 < count; i++) {
            int32_t id = find_word(c, text + start[i], start[i + 2] - start[i]);
            if (id < 0 || (best < count && c->scores[id] <= score)) continue;
            best = i;
            score = c->scores[id];
        }
        if (best == count) break;
        memmove(start + best + 1, start + best + 2, (count - best - 1) * sizeof *start);
        count--;
    }
    for (size_t i = 0; i < count; i++)
        ids[i] = find_word(c, text + start[i], start[i + 1] - start[i]);
    return count;
}

static void merges_by_score(void **state)
{
    (void)state;
    test_rng rng = {.state = 7};
    score_case *c = malloc(sizeof *c);
    for (unsigned round = 0; round < (test_fast() ? 20 : 100); round++) {
        make_case(c, &rng);
        const sl__gguf_vocab v = {.model = "llama",
                                  .tokens = c->tokens,
                                  .token_count = c->count,
                                  .scores = c->scores,
                                  .bos = -1,
                                  .eos = -1,
                                  .unknown = -1,
                                  .add_bos = -1,
                                  .add_eos = -1,
                                  .add_space_prefix = 1};
        sl_tokenizer *tok;
        sl_error err = {0};
        if (sl__tokenizer_parse_gguf(&tok, &v, "v", &err)) fail_msg("%s", err.message);
        for (unsigned k = 0; k < 30; k++) {
            char text[TEXT + 1], marked[TEXT * 3 + 4] = MARK;
            unsigned n = 1 + test_rng_below(&rng, TEXT);
            for (unsigned i = 0; i < n; i++) {
                text[i] = " abc"[test_rng_below(&rng, 4)];
                strcat(marked, text[i] == ' ' ? MARK : (char[]){text[i], '\0'});
            }
            text[n] = '\0';
            int32_t ids[TEXT * 3 + 2];
            size_t count = merge_plainly(c, marked, ids);
            expect_ids(tok, text, 0, ids, count);
            expect_text(tok, ids, count, text);
        }
        sl_tokenizer_close(tok);
    }
    free(c);
}

/* ---- what is refused ------------------------------------------------------------------------- */

static void expect_error(const sl__gguf_vocab *v, sl_status status, const char *message)
{
    sl_tokenizer *tok;
    sl_error err = {0};
    assert_int_equal(sl__tokenizer_parse_gguf(&tok, v, "v.gguf", &err), status);
    assert_null(tok);
    if (!strstr(err.message, message)) fail_msg("\"%s\" lacks \"%s\"", err.message, message);
}

static void what_is_refused(void **state)
{
    (void)state;
    const sl__tok_text tokens[] = {{"a", 1}, {"b", 1}, {"<0xZZ>", 6}}, bad[] = {{"\xff", 1}};
    const sl__tok_text merge[] = {{"a b", 3}}, odd[] = {{"a b c", 5}};
    const double scores[] = {0, 0, 0};
    const int64_t types[] = {1, 1, 7}, bytes[] = {1, 1, 6};
    const sl__gguf_vocab good = {.model = "gpt2",
                                 .pre = "qwen2",
                                 .tokens = tokens,
                                 .token_count = 3,
                                 .bos = -1,
                                 .eos = -1,
                                 .unknown = -1,
                                 .add_bos = -1,
                                 .add_eos = -1,
                                 .add_space_prefix = -1};
    sl__gguf_vocab v = good;
    v.model = "bert";
    expect_error(&v, SL_EUNSUPPORTED, "v.gguf: tokenizer.ggml.model bert is not supported");
    v = good, v.pre = "poro-chat";
    expect_error(&v, SL_EUNSUPPORTED, "pre-tokenizer \"poro-chat\" splits text");
    v = good, v.pre = NULL;
    expect_error(&v, SL_EUNSUPPORTED, "tokenizer.ggml.pre: is missing");
    v = good, v.merges = merge, v.merge_count = 1;
    expect_error(&v, SL_EFORMAT, "merges: number 0 needs \"ab\"");
    v.merges = odd;
    expect_error(&v, SL_EFORMAT, "merges: number 0 is not a pair of tokens");
    v = good, v.types = types;
    expect_error(&v, SL_EUNSUPPORTED, "token_type: 7 of token 2");
    v = good, v.bos = 3;
    expect_error(&v, SL_EFORMAT, "bos_token_id: 3 is not a token");
    v = good, v.add_bos = 1;
    expect_error(&v, SL_EFORMAT, "a BOS is put to texts, and has no id");
    v = good, v.add_eos = 1;
    expect_error(&v, SL_EFORMAT, "an EOS is put to texts, and has no id");
    v = good, v.tokens = bad, v.token_count = 1;
    expect_error(&v, SL_EFORMAT, "tokens: token 0 is not UTF-8");
    v = good, v.model = "llama";
    expect_error(&v, SL_EFORMAT, "tokenizer.ggml.scores: is missing");
    v.scores = scores, v.types = bytes;
    expect_error(&v, SL_EFORMAT, "token 2, \"<0xZZ>\", is not of a byte");
    v.types = NULL, v.remove_extra_whitespaces = true;
    expect_error(&v, SL_EUNSUPPORTED, "remove_extra_whitespaces is not supported");
    v.remove_extra_whitespaces = false, v.scores = (const double[]){0, (double)NAN, 0};
    expect_error(&v, SL_EFORMAT, "token 1 has no number as its score");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_score),
        cmocka_unit_test(what_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
