/* Reading a tokenizer.json: the vocabulary, the merges and the added tokens. The stages around them
 * are read in tokenizer_pipeline.c.
 *
 * Vocabulary and merges are written in the byte alphabet (byte_alphabet.c). Here tokens are kept as
 * the bytes that they mean. An entry with other characters (a control token) cannot come out of
 * merging; it is kept as it is written.
 *
 * Where the pre_tokenizer is not byte-level, all entries are text, and are kept as it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_draft.h"

typedef struct parser {
    sl__tok_draft draft;
    sl__byte_alphabet alphabet;
    sl__buffer key, bytes; /* working memory of a look-up */
    const json_t *vocab;
    const char *path;
    sl_error *err;
} parser;

/* The bytes of a vocabulary entry into p->bytes; *flag says how it was written. */
static sl_status bytes_of_key(parser *p, const char *key, size_t size, uint32_t *flag)
{
    sl__buffer_clear(&p->bytes);
    if (!sl__buffer_reserve(&p->bytes, size)) return SL_FAIL_NOMEM(p->err, "vocabulary");
    size_t n = 0;
    *flag = p->draft.head.flags & SL__TOK_CHARS ? SL__TOK_LITERAL : SL__TOK_BYTES;
    if (*flag == SL__TOK_BYTES && !sl__alphabet_read(&p->alphabet, key, size, p->bytes.data, &n)) {
        *flag = SL__TOK_LITERAL;
    }
    if (*flag == SL__TOK_LITERAL) {
        memcpy(p->bytes.data, key, size);
        n = size;
    }
    p->bytes.size = n;
    p->bytes.data[n] = '\0';
    return SL_OK;
}

/* ---- vocabulary ------------------------------------------------------------------------------ */

static sl_status token_id(parser *p, const char *key, const json_t *value, uint32_t *id)
{
    json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;
    if (n < 0 || n >= SL__TOK_IDS_MAX) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: vocab: token \"%.200s\" has no id from 0 to %u",
                       p->path, key, SL__TOK_IDS_MAX - 1);
    }
    *id = (uint32_t)n;
    return SL_OK;
}

/* The highest id + 1. */
static sl_status vocab_end(parser *p, const json_t *added, uint32_t *end)
{
    const char *key;
    json_t *value;
    size_t i;
    uint32_t id = 0;
    *end = 0;
    json_object_foreach((json_t *)p->vocab, key, value)
    {
        SL_TRY(token_id(p, key, value, &id));
        if (id >= *end) *end = id + 1;
    }
    json_array_foreach(added, i, value)
    {
        SL_TRY(sl__json_u32(value, "id", p->path, 0, SL__TOK_IDS_MAX - 1, &id, p->err));
        if (id >= *end) *end = id + 1;
    }
    return SL_OK;
}

static sl_status parse_vocab(parser *p)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)p->vocab, key, value)
    {
        uint32_t id = 0, flag = 0;
        SL_TRY(token_id(p, key, value, &id));
        if (p->draft.tokens[id].size_flags != 0) {
            return SL_FAIL(p->err, SL_EFORMAT, "%s: vocab: two tokens have the id %u", p->path, id);
        }
        SL_TRY(bytes_of_key(p, key, strlen(key), &flag));
        SL_TRY(sl__draft_token(&p->draft, id, p->bytes.data, p->bytes.size, flag, p->err));
        if (flag == SL__TOK_BYTES && p->bytes.size == 1) {
            p->draft.head.byte_ids[(unsigned char)p->bytes.data[0]] = id;
        }
    }
    return SL_OK;
}

static sl_status find_key(parser *p, const char *key, size_t size, size_t rank, uint32_t *id)
{
    uint32_t flag = 0;
    SL_TRY(bytes_of_key(p, key, size, &flag));
    *id = sl__token_find(p->draft.tokens, p->draft.slots, p->draft.head.token_slots,
                         p->draft.strings.data ? p->draft.strings.data : "", p->bytes.data,
                         p->bytes.size, flag);
    if (*id == SL__TOK_NONE) {
        return SL_FAIL(p->err, SL_EFORMAT,
                       "%s: merges: number %zu needs \"%.*s\", which is not in the vocab", p->path,
                       rank, (int)(size < 200 ? size : 200), key);
    }
    return SL_OK;
}

/* ---- merges ---------------------------------------------------------------------------------- */

/* The two sides of a merge, ["a", "b"] or "a b". */
static bool merge_sides(const json_t *item, const char *side[2], size_t size[2])
{
    if (json_is_string(item)) {
        const char *text = json_string_value(item);
        size_t n = json_string_length(item);
        const char *space = memchr(text, ' ', n);
        if (!space) return false;
        side[0] = text;
        size[0] = (size_t)(space - text);
        side[1] = space + 1;
        size[1] = n - size[0] - 1;
        return memchr(side[1], ' ', size[1]) == NULL;
    }
    if (json_array_size(item) != 2) return false;
    for (unsigned i = 0; i < 2; i++) {
        const json_t *part = json_array_get(item, i);
        if (!json_is_string(part)) return false;
        side[i] = json_string_value(part);
        size[i] = json_string_length(part);
    }
    return true;
}

static sl_status parse_merges(parser *p, const json_t *merges)
{
    size_t rank;
    json_t *item;
    json_array_foreach(merges, rank, item)
    {
        const char *side[2];
        size_t size[2];
        uint32_t left = 0, right = 0, result = 0;
        if (!merge_sides(item, side, size) || size[0] == 0 || size[1] == 0) {
            return SL_FAIL(p->err, SL_EFORMAT, "%s: merges: number %zu is not a pair of tokens",
                           p->path, rank);
        }
        SL_TRY(find_key(p, side[0], size[0], rank, &left));
        SL_TRY(find_key(p, side[1], size[1], rank, &right));
        sl__buffer_clear(&p->key);
        if (!sl__buffer_append(&p->key, side[0], size[0]) ||
            !sl__buffer_append(&p->key, side[1], size[1])) {
            return SL_FAIL_NOMEM(p->err, "merges");
        }
        SL_TRY(find_key(p, p->key.data, p->key.size, rank, &result));
        sl__draft_merge(&p->draft, left, right, (uint32_t)rank, result);
    }
    return SL_OK;
}

/* ---- model ----------------------------------------------------------------------------------- */

/* Options that change the result and are not run here must be off. */
static sl_status refuse_options(parser *p, const json_t *model)
{
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < 2; i++) {
        const char *affix = "";
        if (!sl__json_has(model, affixes[i])) continue;
        SL_TRY(sl__json_str(model, affixes[i], p->path, &affix, p->err));
        if (affix[0] != '\0') {
            return SL_FAIL(p->err, SL_EUNSUPPORTED, "%s: model with %s is not supported", p->path,
                           affixes[i]);
        }
    }
    double dropout = 0;
    if (sl__json_has(model, "dropout")) {
        SL_TRY(sl__json_f64(model, "dropout", p->path, 0, 1, &dropout, p->err));
    }
    if (dropout > 0) {
        return SL_FAIL(p->err, SL_EUNSUPPORTED, "%s: model with dropout is not supported", p->path);
    }
    return SL_OK;
}

/* A character without a token becomes the tokens of its bytes. In the byte alphabet that is only
 * left to itself if it cannot happen. */
static sl_status parse_byte_fallback(parser *p)
{
    sl__tok_header *h = &p->draft.head;
    if (h->flags & SL__TOK_CHARS) h->flags |= SL__TOK_BYTE_FALLBACK;
    for (unsigned byte = 0; byte < 256; byte++) {
        if (h->flags & SL__TOK_CHARS) {
            char name[8];
            snprintf(name, sizeof name, "<0x%02X>", byte);
            const json_t *id = json_object_get(p->vocab, name);
            if (id) SL_TRY(token_id(p, name, id, &h->byte_ids[byte]));
        } else if (h->byte_ids[byte] == SL__TOK_NONE) {
            return SL_FAIL(
                p->err, SL_EUNSUPPORTED,
                "%s: model with byte_fallback and no token of byte %02x is not supported", p->path,
                byte);
        }
    }
    return SL_OK;
}

static sl_status parse_options(parser *p, const json_t *model)
{
    bool ignore_merges, fuse_unk, fallback;
    SL_TRY(sl__draft_optional_bool(model, "byte_fallback", p->path, false, &fallback, p->err));
    SL_TRY(sl__draft_optional_bool(model, "ignore_merges", p->path, false, &ignore_merges, p->err));
    SL_TRY(sl__draft_optional_bool(model, "fuse_unk", p->path, false, &fuse_unk, p->err));
    if (ignore_merges) p->draft.head.flags |= SL__TOK_IGNORE_MERGES;
    if (fuse_unk) p->draft.head.flags |= SL__TOK_FUSE_UNK;
    if (fallback) SL_TRY(parse_byte_fallback(p));
    if (!sl__json_has(model, "unk_token")) return SL_OK;
    const char *unk;
    SL_TRY(sl__json_str(model, "unk_token", p->path, &unk, p->err));
    const json_t *id = json_object_get(p->vocab, unk);
    if (!id) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: unk_token \"%.200s\" is not in the vocab", p->path,
                       unk);
    }
    return token_id(p, unk, id, &p->draft.head.unk_id);
}

static sl_status check_model(parser *p, const json_t *model)
{
    const char *type = "BPE"; /* old files do not say */
    if (!json_is_object(model)) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: there is no model", p->path);
    }
    if (sl__json_has(model, "type")) SL_TRY(sl__json_str(model, "type", p->path, &type, p->err));
    if (strcmp(type, "BPE") != 0) {
        return SL_FAIL(p->err, SL_EUNSUPPORTED, "%s: model type %.100s is not supported", p->path,
                       type);
    }
    p->vocab = json_object_get(model, "vocab");
    if (!json_is_object(p->vocab) || !json_is_array(json_object_get(model, "merges"))) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: model: vocab or merges are missing", p->path);
    }
    return refuse_options(p, model);
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static sl_status check_added_id(const parser *p, uint32_t id, const char *content)
{
    uint32_t flags = p->draft.tokens[id].size_flags & 0xff;
    const json_t *listed = json_object_get(p->vocab, content);
    bool other = listed ? json_integer_value(listed) != (json_int_t)id : flags != 0;
    if (!other && !(flags & SL__TOK_ADDED)) return SL_OK;
    return SL_FAIL(p->err, SL_EFORMAT,
                   "%s: added token \"%.200s\": its id %u and the vocab disagree", p->path, content,
                   id);
}

static sl_status parse_added_token(parser *p, const json_t *item)
{
    static const char *const names[] = {"lstrip", "rstrip", "single_word", "special", "normalized"};
    static const uint32_t flags[] = {SL__ADDED_LSTRIP, SL__ADDED_RSTRIP, SL__ADDED_SINGLE_WORD};
    bool on[5];
    sl__new_added added = {.flags = 0};
    SL_TRY(sl__json_u32(item, "id", p->path, 0, SL__TOK_IDS_MAX - 1, &added.id, p->err));
    SL_TRY(sl__json_str(item, "content", p->path, &added.content, p->err));
    for (unsigned i = 0; i < 5; i++) {
        SL_TRY(sl__draft_optional_bool(item, names[i], p->path, false, &on[i], p->err));
        if (i < 3 && on[i]) added.flags |= flags[i];
    }
    added.special = on[3];
    added.normalized = on[4];
    SL_TRY(check_added_id(p, added.id, added.content));
    return sl__draft_added(&p->draft, &added, p->err);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static sl_status check_wrap(const parser *p, const uint32_t *ids, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] < p->draft.head.vocab_size) continue;
        return SL_FAIL(p->err, SL_EFORMAT, "%s: post_processor: id %u is not in the vocab", p->path,
                       ids[i]);
    }
    return SL_OK;
}

static sl_status parse_root(parser *p, const json_t *root)
{
    const json_t *model = json_object_get(root, "model");
    const json_t *added = json_object_get(root, "added_tokens"), *item;
    uint32_t vocab_size = 0;
    size_t i;
    if (!json_is_object(root)) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: expected an object", p->path);
    }
    SL_TRY(check_model(p, model));
    if (sl__json_has(root, "added_tokens") && !json_is_array(added)) {
        return SL_FAIL(p->err, SL_EFORMAT, "%s: added_tokens: expected a list", p->path);
    }
    const json_t *merges = json_object_get(model, "merges");
    SL_TRY(sl__draft_pipeline(&p->draft, root, p->err));
    SL_TRY(vocab_end(p, added, &vocab_size));
    SL_TRY(sl__draft_size(&p->draft, vocab_size, json_object_size(p->vocab),
                          json_array_size(merges), json_array_size(added), p->err));
    SL_TRY(parse_vocab(p));
    SL_TRY(parse_merges(p, merges));
    SL_TRY(parse_options(p, model));
    sl__draft_word_mark(&p->draft);
    json_array_foreach(added, i, item) SL_TRY(parse_added_token(p, item));
    SL_TRY(check_wrap(p, p->draft.prefix, p->draft.head.prefix_count));
    return check_wrap(p, p->draft.suffix, p->draft.head.suffix_count);
}

sl_status sl__tokenizer_parse_json(sl_tokenizer **out, const char *text, size_t size,
                                   const char *path, sl_error *err)
{
    json_t *root;
    *out = NULL;
    SL_TRY(sl__json_parse(text, size, path, &root, err));
    parser p = {.path = path, .err = err};
    sl__alphabet_init(&p.alphabet);
    sl__draft_init(&p.draft, path);
    sl__buffer_init(&p.key, SL__TOK_STRINGS_MAX);
    sl__buffer_init(&p.bytes, SL__TOK_STRINGS_MAX);
    sl_status status = parse_root(&p, root);
    if (status == SL_OK) status = sl__draft_open(&p.draft, out, err);
    sl__buffer_free(&p.key);
    sl__buffer_free(&p.bytes);
    sl__draft_free(&p.draft);
    json_decref(root);
    return status;
}
