/* A tokenizer from the vocabulary of a GGUF file, which comes in two kinds.
 *
 * "gpt2": tokens and merges in the byte alphabet, and the name of a pre-tokenizer.
 *
 * "llama" (SentencePiece): tokens of text, in which U+2581 stands for a space, with scores and no
 * merges. Of two adjacent symbols that together are a token, the pair whose token has the highest
 * score is merged, the leftmost on ties. That is merging by rank, with every way to cut a token
 * into two tokens as a merge, and the place of its score among all scores as the rank:
 *
 *     "▁the"  −3.0     ▁ + the, ▁t + he, ▁th + e     rank: how many scores are above −3.0
 *
 * The text of control and user-defined tokens is looked for in what is encoded; they are kept as
 * they are written, and in a byte-level vocabulary never take part in merging.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/tokenizer.h"
#include "text/tokenizer_draft.h"
#include "text/utf8.h"

#define TEXT_TOKEN_MAX 1024u /* bytes of a token that is cut in every way */

typedef struct gguf_parser {
    sl__tok_draft draft;
    sl__byte_alphabet alphabet;
    sl__buffer bytes;
    const sl__gguf_vocab *vocab;
    bool chars; /* tokens are text */
    sl_error *err;
} gguf_parser;

static int64_t type_of(const gguf_parser *p, size_t id)
{
    return p->vocab->types ? p->vocab->types[id] : SL__TOKEN_NORMAL;
}

static bool is_added(const gguf_parser *p, size_t id)
{
    int64_t type = type_of(p, id);
    return type == SL__TOKEN_CONTROL || type == SL__TOKEN_USER_DEFINED;
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* The bytes of a token as written into p->bytes; *flag says how it was written. */
static sl_status bytes_of(gguf_parser *p, const char *text, size_t size, uint32_t *flag)
{
    sl__buffer_clear(&p->bytes);
    if (!sl__buffer_reserve(&p->bytes, size)) return SL_FAIL_NOMEM(p->err, "vocabulary");
    *flag = SL__TOK_BYTES;
    if (p->chars || !sl__alphabet_read(&p->alphabet, text, size, p->bytes.data, &p->bytes.size)) {
        *flag = SL__TOK_LITERAL;
        sl__buffer_append(&p->bytes, text, size);
    }
    return SL_OK;
}

/* The value of "<0xE4>", or -1. */
static int byte_value(sl__tok_text text)
{
    char name[8];
    for (int byte = 0; text.size == 6 && byte < 256; byte++) {
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        if (memcmp(text.data, name, 6) == 0) return byte;
    }
    return -1;
}

static sl_status add_token(gguf_parser *p, uint32_t id)
{
    const sl__tok_text text = p->vocab->tokens[id];
    uint32_t flag = 0, *byte_ids = p->draft.head.byte_ids;
    int byte = -1;
    if (sl__utf8_valid(text.data, text.size) != text.size) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: tokens: token %u is not UTF-8", p->draft.path, id);
    }
    if (is_added(p, id) && !p->chars) return SL_OK;
    SL_TRY(bytes_of(p, text.data, text.size, &flag));
    SL_TRY(sl__draft_token(&p->draft, id, p->bytes.data, p->bytes.size, flag, p->err));
    if (p->chars && type_of(p, id) == SL__TOKEN_BYTE) {
        byte = byte_value(text);
        if (byte < 0) {
            return SL_FAIL(p->err, SL_EFORMAT, "%s: tokens: token %u, \"%.*s\", is not of a byte",
                           p->draft.path, id, (int)(text.size < 100 ? text.size : 100), text.data);
        }
    } else if (flag == SL__TOK_BYTES && p->bytes.size == 1) {
        byte = (unsigned char)p->bytes.data[0];
    }
    if (byte >= 0 && byte_ids[byte] == SL__TOK_NONE) byte_ids[byte] = id;
    return SL_OK;
}

static sl_status add_added(gguf_parser *p, uint32_t id)
{
    const sl__tok_text text = p->vocab->tokens[id];
    if (memchr(text.data, '\0', text.size)) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: tokens: added token %u holds a NUL", p->draft.path,
                       id);
    }
    sl__buffer_clear(&p->bytes);
    if (!sl__buffer_append(&p->bytes, text.data, text.size)) {
        return SL_FAIL_NOMEM(p->err, "added tokens");
    }
    const sl__new_added added = {
        .id = id, .content = p->bytes.data, .special = type_of(p, id) == SL__TOKEN_CONTROL};
    return sl__draft_added(&p->draft, &added, p->err);
}

static sl_status check_types(const gguf_parser *p, size_t *added)
{
    *added = 0;
    for (size_t i = 0; i < p->vocab->token_count; i++) {
        int64_t type = type_of(p, i);
        if (type < SL__TOKEN_NORMAL || type > SL__TOKEN_BYTE) {
            return SL_FAIL(p->err, SL_EUNSUPPORTED, "%s: token_type: %lld of token %zu",
                           p->draft.path, (long long)type, i);
        }
        *added += is_added(p, i);
    }
    return SL_OK;
}

static sl_status add_tokens(gguf_parser *p, size_t merge_count, size_t added)
{
    uint32_t count = (uint32_t)p->vocab->token_count;
    SL_TRY(sl__draft_size(&p->draft, count, count, merge_count, added, p->err));
    for (uint32_t id = 0; id < count; id++)
        SL_TRY(add_token(p, id));
    return SL_OK;
}

/* ---- merges that are written ----------------------------------------------------------------- */

static sl_status find_side(gguf_parser *p, const char *text, size_t size, size_t rank, uint32_t *id)
{
    uint32_t flag = 0;
    SL_TRY(bytes_of(p, text, size, &flag));
    *id = sl__token_find(p->draft.tokens, p->draft.slots, p->draft.head.token_slots,
                         p->draft.strings.data ? p->draft.strings.data : "", p->bytes.data,
                         p->bytes.size, flag);
    if (*id != SL__TOK_NONE) return SL_OK;
    return SL_FAIL(p->err, SL_EFORMAT,
                   "%s: merges: number %zu needs \"%.*s\", which is not in the vocabulary",
                   p->draft.path, rank, (int)(size < 200 ? size : 200), text);
}

static sl_status add_merge(gguf_parser *p, size_t rank, sl__buffer *whole)
{
    const sl__tok_text merge = p->vocab->merges[rank];
    uint32_t left = 0, right = 0, result = 0;
    const char *space = memchr(merge.data, ' ', merge.size);
    size_t first = space ? (size_t)(space - merge.data) : 0;
    size_t second = merge.size - first - (space ? 1 : 0);
    if (first == 0 || second == 0 || memchr(space + 1, ' ', second)) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: merges: number %zu is not a pair of tokens",
                       p->draft.path, rank);
    }
    sl__buffer_clear(whole);
    if (!sl__buffer_append(whole, merge.data, first) ||
        !sl__buffer_append(whole, space + 1, second)) {
        return SL_FAIL_NOMEM(p->err, "merges");
    }
    SL_TRY(find_side(p, merge.data, first, rank, &left));
    SL_TRY(find_side(p, space + 1, second, rank, &right));
    SL_TRY(find_side(p, whole->data, whole->size, rank, &result));
    sl__draft_merge(&p->draft, left, right, (uint32_t)rank, result);
    return SL_OK;
}

static sl_status parse_bytes(gguf_parser *p, size_t added)
{
    const sl__gguf_vocab *v = p->vocab;
    sl_status status = SL_OK;
    sl__buffer whole;
    if (!v->pre) {
        return SL_FAIL(p->err, SL_EUNSUPPORTED,
                       "%s: tokenizer.ggml.pre: is missing, so how text is split is not known",
                       p->draft.path);
    }
    SL_TRY(sl__draft_pretokenizer(&p->draft, v->pre, p->err));
    SL_TRY(add_tokens(p, v->merge_count, added));
    sl__buffer_init(&whole, SL__TOK_STRINGS_MAX);
    for (size_t i = 0; i < v->merge_count && status == SL_OK; i++)
        status = add_merge(p, i, &whole);
    sl__buffer_free(&whole);
    return status;
}

/* ---- merges that follow from scores ---------------------------------------------------------- */

typedef struct scored {
    double score;
    uint32_t id;
} scored;

static int by_score(const void *a, const void *b)
{
    const scored *x = a, *y = b;
    if (x->score != y->score) return x->score > y->score ? -1 : 1;
    return x->id < y->id ? -1 : x->id > y->id;
}

static uint32_t find_text(const gguf_parser *p, const char *text, size_t size)
{
    const sl__tok_draft *d = &p->draft;
    uint32_t id = sl__token_find(d->tokens, d->slots, d->head.token_slots, d->strings.data, text,
                                 size, SL__TOK_LITERAL);
    if (id == SL__TOK_NONE) return id;
    int64_t type = type_of(p, id);
    return type == SL__TOKEN_NORMAL || type == SL__TOKEN_USER_DEFINED ? id : SL__TOK_NONE;
}

/* Calls the merges of a token of this rank into being; with rank SL__TOK_NONE only counts them. */
static size_t cut_token(gguf_parser *p, uint32_t id, uint32_t rank)
{
    const sl__tok_text text = p->vocab->tokens[id];
    size_t count = 0;
    for (size_t at = 1; at < text.size; at++) {
        if (((unsigned char)text.data[at] & 0xc0) == 0x80) continue; /* inside a character */
        uint32_t left = find_text(p, text.data, at);
        uint32_t right =
            left == SL__TOK_NONE ? SL__TOK_NONE : find_text(p, text.data + at, text.size - at);
        if (right == SL__TOK_NONE) continue;
        count++;
        if (rank != SL__TOK_NONE) sl__draft_merge(&p->draft, left, right, rank, id);
    }
    return count;
}

/* The tokens that merging can make, the highest score first; malloc'ed. */
static sl_status sort_scores(gguf_parser *p, scored **out, size_t *count)
{
    const sl__gguf_vocab *v = p->vocab;
    scored *list = malloc((v->token_count ? v->token_count : 1) * sizeof *list);
    if (!list) return SL_FAIL_NOMEM(p->err, "scores");
    *out = list;
    *count = 0;
    for (uint32_t id = 0; id < v->token_count; id++) {
        if (find_text(p, v->tokens[id].data, v->tokens[id].size) != id) continue;
        if (isnan(v->scores[id]) || v->tokens[id].size > TEXT_TOKEN_MAX) {
            return SL_FAIL(p->err, SL_EFORMAT, "%s: tokens: token %u %s", p->draft.path, id,
                           isnan(v->scores[id]) ? "has no number as its score" : "is too long");
        }
        list[(*count)++] = (scored){.score = v->scores[id], .id = id};
    }
    qsort(list, *count, sizeof *list, by_score);
    return SL_OK;
}

static sl_status merges_of(gguf_parser *p, const scored *list, size_t count)
{
    size_t total = 0;
    uint32_t rank = 0;
    for (size_t i = 0; i < count; i++)
        total += cut_token(p, list[i].id, SL__TOK_NONE);
    SL_TRY(sl__draft_merge_room(&p->draft, total, p->err));
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && list[i].score != list[i - 1].score) rank = (uint32_t)i;
        cut_token(p, list[i].id, rank);
    }
    return SL_OK;
}

static sl_status add_text_steps(gguf_parser *p)
{
    sl__tok_draft *d = &p->draft;
    bool prefix = p->vocab->add_space_prefix != 0;
    const sl__tok_step prepend = {.kind = SL__STEP_PREPEND};
    const sl__tok_step mark = {.kind = SL__STEP_REPLACE_LITERAL};
    const sl__tok_step unmark = {.kind = SL__STEP_DECODE_REPLACE};
    const sl__tok_step bytes = {.kind = SL__STEP_DECODE_BYTES};
    const sl__tok_step fuse = {.kind = SL__STEP_DECODE_FUSE};
    const sl__tok_step strip = {.kind = SL__STEP_DECODE_STRIP, .behavior = 1};
    if (prefix) SL_TRY(sl__draft_step(d, SL__NORMALIZE, &prepend, SL__WORD_MARK, "", p->err));
    SL_TRY(sl__draft_step(d, SL__NORMALIZE, &mark, " ", SL__WORD_MARK, p->err));
    SL_TRY(sl__draft_step(d, SL__DECODE, &unmark, SL__WORD_MARK, " ", p->err));
    SL_TRY(sl__draft_step(d, SL__DECODE, &bytes, "", "", p->err));
    SL_TRY(sl__draft_step(d, SL__DECODE, &fuse, "", "", p->err));
    return prefix ? sl__draft_step(d, SL__DECODE, &strip, " ", "", p->err) : SL_OK;
}

static sl_status parse_text(gguf_parser *p, size_t added)
{
    const sl__gguf_vocab *v = p->vocab;
    scored *list = NULL;
    size_t count = 0;
    if (!v->scores) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: tokenizer.ggml.scores: is missing", p->draft.path);
    }
    if (v->remove_extra_whitespaces) {
        return SL_FAIL(p->err, SL_EUNSUPPORTED,
                       "%s: tokenizer.ggml.remove_extra_whitespaces is not supported",
                       p->draft.path);
    }
    p->draft.head.flags |= SL__TOK_CHARS | SL__TOK_BYTE_FALLBACK | SL__TOK_FUSE_UNK;
    if (v->unknown >= 0) p->draft.head.unk_id = (uint32_t)v->unknown;
    SL_TRY(add_text_steps(p));
    SL_TRY(add_tokens(p, 0, added));
    sl_status status = sort_scores(p, &list, &count);
    if (status == SL_OK) status = merges_of(p, list, count);
    free(list);
    if (status == SL_OK) sl__draft_word_mark(&p->draft);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static sl_status check_id(const gguf_parser *p, const char *name, int64_t id)
{
    if (id >= -1 && id < (int64_t)p->vocab->token_count) return SL_OK;
    return SL_FAIL(p->err, SL_EFORMAT, "%s: tokenizer.ggml.%s: %lld is not a token", p->draft.path,
                   name, (long long)id);
}

/* What goes around a text. Where the file does not say, a vocabulary of text gets its BOS. */
static sl_status wrap(gguf_parser *p)
{
    const sl__gguf_vocab *v = p->vocab;
    bool bos = v->add_bos < 0 ? p->chars && v->bos >= 0 : v->add_bos;
    if ((bos && v->bos < 0) || (v->add_eos > 0 && v->eos < 0)) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: tokenizer.ggml: %s is put to texts, and has no id",
                       p->draft.path, bos && v->bos < 0 ? "a BOS" : "an EOS");
    }
    if (bos) p->draft.prefix[p->draft.head.prefix_count++] = (uint32_t)v->bos;
    if (v->add_eos > 0) p->draft.suffix[p->draft.head.suffix_count++] = (uint32_t)v->eos;
    return SL_OK;
}

static sl_status parse_vocab(gguf_parser *p)
{
    const sl__gguf_vocab *v = p->vocab;
    size_t added = 0;
    p->chars = strcmp(v->model, "llama") == 0;
    if (!p->chars && strcmp(v->model, "gpt2") != 0) {
        return SL_FAIL(p->err, SL_EUNSUPPORTED, "%s: tokenizer.ggml.model %.100s is not supported",
                       p->draft.path, v->model);
    }
    if (v->token_count > SL__TOK_IDS_MAX) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: too many tokens", p->draft.path);
    }
    SL_TRY(check_types(p, &added));
    SL_TRY(check_id(p, "bos_token_id", v->bos));
    SL_TRY(check_id(p, "eos_token_id", v->eos));
    SL_TRY(check_id(p, "unknown_token_id", v->unknown));
    SL_TRY(p->chars ? parse_text(p, added) : parse_bytes(p, added));
    for (uint32_t id = 0; id < v->token_count; id++)
        if (is_added(p, id)) SL_TRY(add_added(p, id));
    return wrap(p);
}

sl_status sl__tokenizer_parse_gguf(sl_tokenizer **out, const sl__gguf_vocab *vocab,
                                   const char *path, sl_error *err)
{
    gguf_parser p = {.vocab = vocab, .err = err};
    *out = NULL;
    sl__alphabet_init(&p.alphabet);
    sl__draft_init(&p.draft, path);
    sl__buffer_init(&p.bytes, SL__TOK_STRINGS_MAX);
    sl_status status = parse_vocab(&p);
    if (status == SL_OK) status = sl__draft_open(&p.draft, out, err);
    sl__buffer_free(&p.bytes);
    sl__draft_free(&p.draft);
    return status;
}
