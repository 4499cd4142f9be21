/* Reading a tiktoken file: a line a token, its bytes in base64, a space, its rank, which is its id.
 *
 *     IQ== 0
 *     Ig== 1
 *     IHRoZQ== 262
 *
 * There are no merges: of a piece, the adjacent symbols whose bytes together are the token of the
 * lowest rank become it, again and again. Here that is turned into merges, one a token: which two
 * symbols a token is made of does not depend on where its bytes stand, because merges inside a span
 * that none has crossed do not know what is around it. So the rule is run on the bytes of the token
 * alone, until two symbols are left. A token that the rule does not lead to is found only where it
 * is a whole piece, as the flag SL__TOK_IGNORE_MERGES has it.
 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "text/tokenizer.h"
#include "text/tokenizer_draft.h"

#define TOKEN_MAX  1024u /* bytes */
#define CONFIG_MAX ((uint64_t)64 << 20)

/* ---- lines ----------------------------------------------------------------------------------- */

typedef struct lines {
    const char *at, *end;
    size_t number; /* of the line that was read last, from 1 */
    unsigned char bytes[TOKEN_MAX];
    size_t size;
    uint32_t rank;
    const char *path;
    sl_error *err;
} lines;

static int sextet(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Groups of four, the last one padded with =. False where the text is something else or too long.
 */
static bool decode_base64(lines *l, const char *text, size_t n)
{
    size_t pads = 0;
    l->size = 0;
    if (n == 0 || n % 4 != 0 || n / 4 * 3 > TOKEN_MAX) return false;
    while (pads < 2 && text[n - 1 - pads] == '=')
        pads++;
    for (size_t i = 0; i < n; i += 4) {
        size_t chars = i + 4 == n ? 4 - pads : 4;
        uint32_t bits = 0;
        for (size_t k = 0; k < 4; k++) {
            int value = k < chars ? sextet(text[i + k]) : 0;
            if (value < 0) return false;
            bits = bits << 6 | (uint32_t)value;
        }
        for (size_t k = 0; k + 1 < chars; k++)
            l->bytes[l->size++] = (unsigned char)(bits >> (16 - 8 * k));
    }
    return l->size > 0;
}

static bool read_rank(lines *l, const char *text, size_t n)
{
    uint32_t value = 0;
    if (n == 0 || n > 7) return false;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        value = value * 10 + (uint32_t)(text[i] - '0');
    }
    l->rank = value;
    return value < SL__TOK_IDS_MAX;
}

/* *found false: the file is over. Empty lines are passed over. */
static sl_status next_line(lines *l, bool *found)
{
    *found = false;
    while (l->at < l->end) {
        size_t left = (size_t)(l->end - l->at);
        const char *line = l->at, *stop = memchr(line, '\n', left);
        size_t n = stop ? (size_t)(stop - line) : left;
        l->at += stop ? n + 1 : n;
        l->number++;
        if (n > 0 && line[n - 1] == '\r') n--;
        if (n == 0) continue;
        const char *space = memchr(line, ' ', n);
        size_t first = space ? (size_t)(space - line) : n;
        if (!space || !decode_base64(l, line, first) || !read_rank(l, space + 1, n - first - 1)) {
            return SL_FAIL(l->err, SL_EFORMAT, "%s: line %zu is not a token in base64 and its rank",
                           l->path, l->number);
        }
        *found = true;
        return SL_OK;
    }
    return SL_OK;
}

/* ---- special tokens -------------------------------------------------------------------------- */

/* The key of an entry of added_tokens_decoder as an id. */
static sl_status added_id(const char *key, const char *path, uint32_t *id, sl_error *err)
{
    lines digits = {.rank = 0};
    if (!read_rank(&digits, key, strlen(key))) {
        return SL_FAIL(err, SL_EFORMAT, "%s: added_tokens_decoder: \"%.100s\" is not an id", path,
                       key);
    }
    *id = digits.rank;
    return SL_OK;
}

static sl_status add_special(sl__tok_draft *draft, const char *key, const json_t *item,
                             const char *path, sl_error *err)
{
    static const char *const names[] = {"lstrip", "rstrip", "single_word", "special"};
    static const uint32_t flags[] = {SL__ADDED_LSTRIP, SL__ADDED_RSTRIP, SL__ADDED_SINGLE_WORD};
    sl__new_added added = {.flags = 0};
    SL_TRY(added_id(key, path, &added.id, err));
    SL_TRY(sl__json_str(item, "content", path, &added.content, err));
    for (unsigned i = 0; i < 4; i++) {
        bool on;
        SL_TRY(sl__draft_optional_bool(item, names[i], path, false, &on, err));
        if (i < 3 && on) added.flags |= flags[i];
        if (i == 3) added.special = on;
    }
    if (draft->tokens[added.id].size_flags != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: added token \"%.200s\": its id %u is another token's",
                       path, added.content, added.id);
    }
    return sl__draft_added(draft, &added, err);
}

/* added_tokens_decoder, or NULL where there is none. */
static sl_status added_tokens(const json_t *config, const char *path, const json_t **out,
                              sl_error *err)
{
    *out = NULL;
    if (config && !json_is_object(config)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: there is no object in the configuration", path);
    }
    if (!config || !sl__json_has(config, "added_tokens_decoder")) return SL_OK;
    *out = json_object_get(config, "added_tokens_decoder");
    if (json_is_object(*out)) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: added_tokens_decoder: expected an object", path);
}

/* ---- merges ---------------------------------------------------------------------------------- */

static uint32_t find(const sl__tok_draft *draft, const unsigned char *bytes, size_t size)
{
    return sl__token_find(draft->tokens, draft->slots, draft->head.token_slots, draft->strings.data,
                          bytes, size, SL__TOK_BYTES);
}

/* Runs the rule on the bytes of a token until two symbols are left: *middle is where the second
 * begins. False where it does not come to that. */
static bool halves(const sl__tok_draft *draft, const unsigned char *bytes, size_t size,
                   size_t *middle)
{
    /* Symbol i is from start[i] to start[i + 1], rank[i] what it and the next one make. */
    uint32_t start[TOKEN_MAX + 1], rank[TOKEN_MAX];
    size_t count = size;
    for (size_t i = 0; i <= size; i++)
        start[i] = (uint32_t)i;
    for (size_t i = 0; size > 2 && i + 1 < size; i++)
        rank[i] = find(draft, bytes + i, 2);
    while (count > 2) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (rank[i] < rank[best]) best = i;
        if (rank[best] == SL__TOK_NONE) return false;
        count--;
        memmove(start + best + 1, start + best + 2, (count - best) * sizeof *start);
        if (count == 2) break;
        if (best + 1 < count) {
            memmove(rank + best, rank + best + 1, (count - best - 1) * sizeof *rank);
            rank[best] = find(draft, bytes + start[best], start[best + 2] - start[best]);
        }
        if (best > 0)
            rank[best - 1] =
                find(draft, bytes + start[best - 1], start[best + 1] - start[best - 1]);
    }
    *middle = start[1];
    return true;
}

static void add_merges(sl__tok_draft *draft)
{
    for (uint32_t id = 0; id < draft->head.vocab_size; id++) {
        const sl__tok_token *token = &draft->tokens[id];
        const unsigned char *bytes = (const unsigned char *)draft->strings.data + token->offset;
        size_t size = token->size_flags >> 8, middle;
        if (!(token->size_flags & SL__TOK_BYTES) || size < 2) continue;
        if (!halves(draft, bytes, size, &middle)) continue;
        sl__draft_merge(draft, find(draft, bytes, middle),
                        find(draft, bytes + middle, size - middle), id, id);
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The tables, large enough for the file and the special tokens. */
static sl_status make_room(sl__tok_draft *draft, lines l, const json_t *added, sl_error *err)
{
    uint32_t end = 0, id;
    size_t count = 0;
    bool found;
    for (;; count++) {
        SL_TRY(next_line(&l, &found));
        if (!found) break;
        if (l.rank >= end) end = l.rank + 1;
    }
    const char *key;
    json_t *item;
    json_object_foreach((json_t *)added, key, item)
    {
        SL_TRY(added_id(key, draft->path, &id, err));
        if (id >= end) end = id + 1;
    }
    return sl__draft_size(draft, end, count, count, json_object_size(added), err);
}

static sl_status add_tokens(sl__tok_draft *draft, lines l)
{
    bool found;
    for (;;) {
        SL_TRY(next_line(&l, &found));
        if (!found) break;
        if (draft->tokens[l.rank].size_flags != 0) {
            return SL_FAIL(l.err, SL_EFORMAT, "%s: line %zu: a second token of rank %u", l.path,
                           l.number, l.rank);
        }
        if (draft->strings.size > 0 && find(draft, l.bytes, l.size) != SL__TOK_NONE) {
            return SL_FAIL(l.err, SL_EFORMAT, "%s: line %zu: its token was there before", l.path,
                           l.number);
        }
        SL_TRY(sl__draft_token(draft, l.rank, l.bytes, l.size, SL__TOK_BYTES, l.err));
        if (l.size == 1) draft->head.byte_ids[l.bytes[0]] = l.rank;
    }
    for (unsigned byte = 0; byte < 256; byte++) {
        if (draft->head.byte_ids[byte] != SL__TOK_NONE) continue;
        return SL_FAIL(l.err, SL_EFORMAT, "%s: there is no token of byte %02x", l.path, byte);
    }
    return SL_OK;
}

static sl_status parse(sl__tok_draft *draft, const lines *l, sl__tiktoken_kind kind,
                       const json_t *config, sl_error *err)
{
    const json_t *added;
    const char *key;
    json_t *item;
    SL_TRY(added_tokens(config, draft->path, &added, err));
    SL_TRY(make_room(draft, *l, added, err));
    SL_TRY(add_tokens(draft, *l));
    add_merges(draft);
    json_object_foreach((json_t *)added, key, item)
        SL_TRY(add_special(draft, key, item, draft->path, err));
    return sl__draft_pretokenizer(draft, kind == SL__TIKTOKEN_KIMI ? "kimi-k2" : "gpt-4o", err);
}

sl_status sl__tiktoken_parse(sl_tokenizer **out, const char *text, size_t size,
                             sl__tiktoken_kind kind, const char *config, size_t config_size,
                             const char *path, sl_error *err)
{
    const lines l = {.at = text, .end = text + size, .path = path, .err = err};
    json_t *root = NULL;
    *out = NULL;
    if (config) SL_TRY(sl__json_parse(config, config_size, path, &root, err));
    sl__tok_draft draft;
    sl__draft_init(&draft, path);
    sl_status status = parse(&draft, &l, kind, root, err);
    if (status == SL_OK) status = sl__draft_open(&draft, out, err);
    sl__draft_free(&draft);
    json_decref(root);
    return status;
}

/* ---- files ----------------------------------------------------------------------------------- */

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool sl__tiktoken_is(const char *path)
{
    const char *name = base_name(path), *dot = strrchr(name, '.');
    return strcmp(name, "tiktoken.model") == 0 || (dot && strcmp(dot, ".tiktoken") == 0);
}

/* The bytes of the tokenizer_config.json beside path; NULL where there is none. */
static sl_status read_config(const char *path, char **data, size_t *size, sl_error *err)
{
    static const char name[] = "tokenizer_config.json";
    char file[SL_PATH_MAX];
    size_t dir = (size_t)(base_name(path) - path);
    *data = NULL;
    *size = 0;
    if (dir + sizeof name > sizeof file) {
        return SL_FAIL(err, SL_EINVAL, "%s: the path is too long", path);
    }
    memcpy(file, path, dir);
    memcpy(file + dir, name, sizeof name);
    return sl__file_exists(file) ? sl__file_read(file, CONFIG_MAX, data, size, err) : SL_OK;
}

sl_status sl__tiktoken_open(sl_tokenizer **out, const char *text, size_t size, const char *path,
                            sl_error *err)
{
    const char *name = base_name(path);
    char *config;
    size_t config_size;
    if (strncmp(name, "o200k", 5) == 0) {
        return sl__tiktoken_parse(out, text, size, SL__TIKTOKEN_O200K, NULL, 0, path, err);
    }
    if (strcmp(name, "tiktoken.model") != 0) {
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "%s: a tiktoken file does not say how text is split; that is known of "
                       "tiktoken.model (Kimi) and o200k*.tiktoken only",
                       path);
    }
    SL_TRY(read_config(path, &config, &config_size, err));
    sl_status status =
        sl__tiktoken_parse(out, text, size, SL__TIKTOKEN_KIMI, config, config_size, path, err);
    free(config);
    return status;
}
