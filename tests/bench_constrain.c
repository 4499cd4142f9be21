/* What holding a text to JSON costs a token: `bench_constrain TOKENIZER...` (a model, a GGUF file
 * or a tokenizer's own). Each token of a few answers is masked and accepted, by new constraints:
 * what one answer teaches, the next does not know. Then the same with a limit: one that is far,
 * where each token is asked for whether it fits, and one that has come, where each has a mask of
 * its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "sluice.h"

static const char *const answers[] = {
    "{\"artist\": \"Handel\", \"title\": \"Castle Village\"}",
    "{\"text\": \"the doctor and the garden \\\"quoted\\\" \xc3\xa9t\xc3\xa9\", \"n\": [1, 22.5, "
    "-3e5, true, null], \"deep\": {\"a\": {\"b\": []}}}",
    "{\n  \"names\": [\n    \"Anna\",\n    \"Bert\"\n  ],\n  \"count\": 2\n}",
};
static const char schema[] =
    "{\"type\":\"object\",\"properties\":{\"artist\":{\"type\":\"string\"},\"title\":{\"anyOf\":["
    "{\"type\":\"string\",\"maxLength\":40},{\"type\":\"null\"}]}},\"required\":[\"artist\"]}";

enum { TOKENS_MAX = 512, ROUNDS = 9 };

/* Of each token the shortest of several rounds: others use this machine too. */
typedef struct cost {
    uint64_t mask_ns[TOKENS_MAX], accept_ns[TOKENS_MAX], within_ns[TOKENS_MAX], watch_ns;
    size_t tokens;
} cost;

static void note(uint64_t *least, uint64_t ns, bool first)
{
    if (first || ns < *least) *least = ns;
}

static bool measure(const sl_tokenizer *tok, const sl_vocabulary *v, const sl_grammar *g,
                    const char *text, bool watch, cost *sum, bool first, sl_error *err)
{
    uint32_t size = sl_tokenizer_vocab_size(tok);
    float *logits = calloc(size, sizeof *logits);
    int32_t *ids = NULL;
    size_t count = 0;
    sl_constraint *c = NULL;
    bool bad = !logits || sl_tokenizer_encode(tok, text, strlen(text), 0, &ids, &count, err) ||
               sl_constraint_create(&c, g, v, size, NULL, 0, err);
    uint64_t begun = sl__now_ns();
    bad = bad || (watch && sl_constraint_watch(c, err) != SL_OK);
    note(&sum->watch_ns, sl__now_ns() - begun, first && sum->tokens == 0);
    for (size_t i = 0; i < count && !bad && sum->tokens < TOKENS_MAX; i++, sum->tokens++) {
        uint64_t at = sl__now_ns();
        bad = sl_constraint_mask(c, logits, err) != SL_OK;
        uint64_t masked = sl__now_ns();
        bad = bad || (watch && !sl_constraint_fits(c, ids[i], 1000000));
        uint64_t asked = sl__now_ns();
        uint32_t needs = sl_constraint_needs(c);
        bad = bad || (watch && sl_constraint_mask_within(c, needs, logits, err) != SL_OK);
        uint64_t narrow = sl__now_ns();
        bad = bad || sl_constraint_accept(c, ids[i], err) != SL_OK;
        note(&sum->mask_ns[sum->tokens], masked - at, first);
        note(&sum->accept_ns[sum->tokens], sl__now_ns() - narrow + (asked - masked), first);
        note(&sum->within_ns[sum->tokens], narrow - asked, first);
    }
    sl_constraint_destroy(c);
    free(ids);
    free(logits);
    return bad;
}

static void tell(const char *what, const cost *sum, bool watch)
{
    uint64_t mask = 0, worst = 0, accept = 0, within = 0, worst_within = 0;
    for (size_t i = 0; i < sum->tokens; i++) {
        mask += sum->mask_ns[i];
        accept += sum->accept_ns[i];
        within += sum->within_ns[i];
        if (sum->mask_ns[i] > worst) worst = sum->mask_ns[i];
        if (sum->within_ns[i] > worst_within) worst_within = sum->within_ns[i];
    }
    double n = (double)(sum->tokens ? sum->tokens : 1) * 1e3;
    printf("  %-15s mask %7.1f us a token (%7.1f at worst), accept %5.2f us\n", what,
           (double)mask / n, (double)worst / 1e3, (double)accept / n);
    if (watch)
        printf("  %-15s mask %7.1f us a token (%7.1f at worst), %.1f us to begin with\n",
               "  at end", (double)within / n, (double)worst_within / 1e3,
               (double)sum->watch_ns / 1e3);
}

static bool bench(const char *path)
{
    sl_tokenizer *tok = NULL;
    sl_vocabulary *v = NULL;
    sl_grammar *json = NULL, *fixed = NULL;
    sl_error err = {0};
    uint64_t at = sl__now_ns();
    bool bad = sl_tokenizer_open(&tok, path, &err) || sl_grammar_json(&json, &err) ||
               sl_grammar_json_schema(&fixed, schema, sizeof schema - 1, &err);
    uint64_t opened = sl__now_ns();
    bad = bad || sl_vocabulary_create(&v, tok, &err);
    if (!bad)
        printf("%s: %u tokens, vocabulary of %.1f MiB in %.1f ms (opened in %.1f)\n", path,
               sl_tokenizer_vocab_size(tok), (double)sl_vocabulary_bytes(v) / 1048576,
               (double)(sl__now_ns() - opened) / 1e6, (double)(opened - at) / 1e6);
    for (int watch = 0; watch < 2 && !bad; watch++) {
        cost any = {.tokens = 0}, one = {.tokens = 0};
        for (int round = 0; round < ROUNDS && !bad; round++) {
            any.tokens = one.tokens = 0;
            for (size_t i = 0; i < sizeof answers / sizeof answers[0] && !bad; i++)
                bad = measure(tok, v, json, answers[i], watch, &any, round == 0, &err);
            bad = bad || measure(tok, v, fixed, answers[0], watch, &one, round == 0, &err);
        }
        if (bad) break;
        tell(watch ? "json, limited" : "json", &any, watch);
        tell(watch ? "schema, limited" : "schema", &one, watch);
    }
    if (bad) printf("%s: %s\n", path, err.message);
    sl_vocabulary_destroy(v);
    sl_grammar_close(json);
    sl_grammar_close(fixed);
    sl_tokenizer_close(tok);
    return bad;
}

int main(int argc, char **argv)
{
    bool bad = argc < 2;
    for (int i = 1; i < argc; i++)
        bad = bench(argv[i]) || bad;
    return bad;
}
