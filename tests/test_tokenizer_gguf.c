/* Tokenizers of GGUF files: merging by score against its definition, what is refused, a whole file,
 * and the reference vocabularies, whose texts and ids stand beside them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf_writer.h"
#include "test_env.h"
#include "text/tokenizer.h"
#include "tokenizer_text.h"

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

/* ---- named pre-tokenizers -------------------------------------------------------------------- */

/* How the models' own patterns split a text, most of them worked out beside the code. */
static void names_split_as_their_models(void **state)
{
    (void)state;
    static const struct {
        const char *names, *text, *pieces;
    } cases[] = {
        {"qwen35 qwen2", "Hello,  world!\n\n  x=1234 don't DON'T",
         "[Hello][,][ ][ world][!\n\n][ ][ x][=][1][2][3][4][ don]['t][ DON]['T]"},
        {"glm4 chatglm-bpe llama-bpe", "x=1234 don't", "[x][=][123][4][ don]['t]"},
        {"gpt-4o minimax-m2 kimi-k2", "x=1234 don't DON'T", "[x][=][123][4][ don't][ DON'T]"},
        {"deepseek-v3", "x=1234 don't DON'T", "[x][=][123][4][ don]['t][ DON]['T]"},
        {"gpt-2 olmo", "x=1234 don't DON'T", "[x][=][1234][ don]['t][ DON]['][T]"},
        {"qwen35 qwen2 glm4 gpt-4o deepseek-v3", "  \t\n  foo\n", "[  \t\n][ ][ foo][\n]"},
        {"qwen35", " \344\270\255\346\226\207ab 12", "[ \344\270\255\346\226\207ab][ ][1][2]"},
        {"glm4 gpt-4o", " \344\270\255\346\226\207ab 12", "[ \344\270\255\346\226\207ab][ ][12]"},
        {"deepseek-v3", " \344\270\255\346\226\207ab 12",
         "[ ][\344\270\255\346\226\207][ab][ ][12]"},
        {"qwen35 qwen2 glm4 deepseek-v3", "a  b   ", "[a][ ][ b][   ]"},
        {"qwen35 qwen2 deepseek-v3", "(\"x\")\r\n//path/to", "[(\"][x][\")\r\n][//][path][/to]"},
        {"gpt-4o", "HTTPServer iPhone's", "[HTTPServer][ i][Phone's]"},
        {"qwen35 glm4", "HTTPServer iPhone's", "[HTTPServer][ iPhone]['s]"},
        {"qwen35", " \xe0\xb8\x81\xe0\xb8\xb1\xe0\xb8\x9a",
         "[ \xe0\xb8\x81\xe0\xb8\xb1\xe0\xb8\x9a]"},
        {"qwen2", " \xe0\xb8\x81\xe0\xb8\xb1\xe0\xb8\x9a",
         "[ \xe0\xb8\x81][\xe0\xb8\xb1\xe0\xb8\x9a]"},
    };
    const sl__tok_text tokens[] = {{"a", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char names[100];
        snprintf(names, sizeof names, "%s", cases[i].names);
        for (char *name = strtok(names, " "); name; name = strtok(NULL, " ")) {
            const sl__gguf_vocab v = {.model = "gpt2",
                                      .pre = name,
                                      .tokens = tokens,
                                      .token_count = 1,
                                      .bos = -1,
                                      .eos = -1,
                                      .unknown = -1,
                                      .add_bos = -1,
                                      .add_eos = -1,
                                      .add_space_prefix = -1};
            sl_tokenizer *tok;
            assert_int_equal(sl__tokenizer_parse_gguf(&tok, &v, "v", NULL), SL_OK);
            char *pieces = tokenizer_pieces(tok, cases[i].text, strlen(cases[i].text));
            if (strcmp(pieces, cases[i].pieces)) fail_msg("%s: %s", name, pieces);
            free(pieces);
            sl_tokenizer_close(tok);
        }
    }
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

/* ---- files ----------------------------------------------------------------------------------- */

/* A vocabulary of five tokens and the byte tokens, as the file of a model "llama" has it. */
static gguf_writer *text_vocabulary(void)
{
    static char bytes[256][8];
    static const char *tokens[261] = {"<s>", "</s>", MARK, MARK "ab", "<mine>"};
    int64_t types[261] = {3, 3, 1, 1, 4};
    float scores[261] = {0};
    gguf_writer *w = gguf_writer_create();
    for (unsigned i = 0; i < 256; i++) {
        snprintf(bytes[i], sizeof bytes[i], "<0x%02X>", i);
        tokens[5 + i] = bytes[i];
        types[5 + i] = 6;
    }
    gguf_writer_string(w, "tokenizer.ggml.model", "llama");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", tokens, 261);
    gguf_writer_ints(w, "tokenizer.ggml.token_type", SL_GGUF_I32, types, 261);
    gguf_writer_f32s(w, "tokenizer.ggml.scores", scores, 261);
    gguf_writer_int(w, "tokenizer.ggml.bos_token_id", SL_GGUF_U32, 0);
    gguf_writer_int(w, "tokenizer.ggml.eos_token_id", SL_GGUF_U16, 1);
    return w;
}

static void a_whole_file(void **state)
{
    (void)state;
    char dir[256], path[300];
    sl_tokenizer *tok;
    sl_error err = {0};
    test_temp_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/v.gguf", dir);
    gguf_writer *w = text_vocabulary();
    gguf_writer_save(w, path);
    if (sl_tokenizer_open(&tok, path, &err)) fail_msg("%s", err.message);
    const int32_t plain[] = {2, 5 + 'x', 2, 5 + 0xc3, 5 + 0xa4};
    expect_ids(tok, "x \xc3\xa4", 0, plain, 5);
    expect_text(tok, plain, 5, "x \xc3\xa4");
    const int32_t added[] = {0, 2, 5 + 'x', 4, 2, 5 + 'y', 1};
    expect_ids(tok, "x<mine>y</s>", SL_ENCODE_ADDED | SL_ENCODE_BOS, added, 7);
    expect_ids(tok, "", SL_ENCODE_BOS, added, 1);
    assert_int_equal(sl_tokenizer_token_id(tok, "<mine>"), 4);
    sl_tokenizer_close(tok);

    gguf_writer_int(w, "tokenizer.ggml.add_bos_token", SL_GGUF_U32, 1);
    gguf_writer_save(w, path);
    gguf_writer_destroy(w);
    assert_int_equal(sl_tokenizer_open(&tok, path, &err), SL_EFORMAT);
    assert_non_null(strstr(err.message, "v.gguf: tokenizer.ggml.add_bos_token: is not a boolean"));
    test_remove_tree(dir);
}

/* One of these keys is not what it should be. */
static void bad_keys(void **state)
{
    (void)state;
    static const struct {
        const char *model, *types, *message;
    } cases[] = {
        {NULL, NULL, "tokenizer.ggml.model: is missing"},
        {"llama", NULL, "tokenizer.ggml.token_type: is not a list of 2 integers"},
        {"gpt2", "", "tokenizer.ggml.merges: is missing"},
    };
    char dir[256], path[300];
    test_temp_dir(dir, sizeof dir);
    snprintf(path, sizeof path, "%s/v.gguf", dir);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        gguf_writer *w = gguf_writer_create();
        sl_tokenizer *tok;
        sl_error err = {0};
        gguf_writer_strings(w, "tokenizer.ggml.tokens", (const char *const[]){"a", "b"}, 2);
        if (cases[i].model) gguf_writer_string(w, "tokenizer.ggml.model", cases[i].model);
        if (!cases[i].types)
            gguf_writer_ints(w, "tokenizer.ggml.token_type", SL_GGUF_U8, (const int64_t[]){1}, 1);
        gguf_writer_save(w, path);
        gguf_writer_destroy(w);
        assert_int_equal(sl_tokenizer_open(&tok, path, &err), SL_EFORMAT);
        assert_null(tok);
        if (!strstr(err.message, cases[i].message)) fail_msg("%s", err.message);
    }
    test_remove_tree(dir);
}

/* Line `at` of a file of ids, apart by spaces; *at goes on to the next. */
static size_t read_ids(const char **at, int32_t *ids, size_t room)
{
    size_t count = 0;
    while (**at && **at != '\n') {
        char *end;
        long id = strtol(*at, &end, 10);
        if (end == *at) break;
        assert_true(count < room);
        ids[count++] = (int32_t)id;
        *at = end;
    }
    *at += strcspn(*at, "\n");
    if (**at) ++*at;
    return count;
}

/* Every text of NAME.inp has the ids of its line in NAME.out, and comes back from them. */
static void check_vocabulary(const char *path)
{
    static const char apart[] = "\n__ggml_vocab_test__\n";
    char file[600];
    sl_tokenizer *tok;
    sl_error err = {0};
    size_t size;
    unsigned texts = 0;
    snprintf(file, sizeof file, "%s.inp", path);
    char *input = test_read_file(file, &size);
    snprintf(file, sizeof file, "%s.out", path);
    char *output = test_read_file(file, &size);
    if (sl_tokenizer_open(&tok, path, &err)) fail_msg("%s", err.message);
    const char *line = output;
    for (char *text = input, *next; text; text = next, texts++) {
        int32_t ids[1000];
        size_t count = read_ids(&line, ids, 1000);
        next = strstr(text, apart);
        if (next) {
            *next = '\0';
            next += sizeof apart - 1;
        }
        expect_ids(tok, text, SL_ENCODE_ADDED, ids, count);
        expect_text(tok, ids, count, text);
    }
    assert_true(texts > 40);
    sl_tokenizer_close(tok);
    free(input);
    free(output);
}

static void reference_vocabularies(void **state)
{
    (void)state;
    static const char *const names[] = {"gpt-2", "llama-spm", "deepseek-llm"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char name[100], path[500];
        snprintf(name, sizeof name, "golden/gguf-vocab/ggml-vocab-%s.gguf", names[i]);
        if (!test_shared_path(path, sizeof path, name)) skip();
        check_vocabulary(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges_by_score), cmocka_unit_test(names_split_as_their_models),
        cmocka_unit_test(what_is_refused), cmocka_unit_test(a_whole_file),
        cmocka_unit_test(bad_keys),        cmocka_unit_test(reference_vocabularies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
