#include "constrain/vocabulary.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

/* ---- what tokens are ------------------------------------------------------------------------- */

static bool is_space(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r\n", bytes[i]) || !bytes[i]) return false;
    return true;
}

/* The text classes in which a token is not plain. */
static unsigned odd_in(const unsigned char *bytes, uint32_t size)
{
    unsigned odd = 0;
    if (sl__utf8_valid((const char *)bytes, size) != size)
        odd |= 1u << SL__TEXT_STRING | 1u << SL__TEXT_VALUE;
    for (uint32_t i = 0; i < size; i++) {
        unsigned char c = bytes[i];
        if (c < 0x20 || c == '"' || c == '\\' || c == '<') odd |= 1u << SL__TEXT_STRING;
        if (c == 0 || c == '\n' || c == '<') odd |= 1u << SL__TEXT_VALUE;
        if (c == '<') odd |= 1u << SL__TEXT_FREE;
    }
    return odd;
}

/* Reads the bytes of all tokens; what is added goes apart. */
static sl_status read_tokens(sl_vocabulary *v, sl__speller *speller, sl__buffer *bytes,
                             sl_error *err)
{
    for (uint32_t id = 0; id < v->size; id++) {
        const char *text;
        size_t size;
        sl__spelled kind = sl__speller_spell(speller, id, &text, &size);
        v->offsets[id] = (uint32_t)bytes->size;
        if (kind == SL__SPELLED_HOLE || size == 0) continue;
        if (!sl__buffer_append(bytes, text, size)) return SL_FAIL_NOMEM(err, "vocabulary");
        if (size > v->token_bytes_max) v->token_bytes_max = (uint32_t)size;
        bool is_text = kind == SL__SPELLED_TEXT ||
                       (kind == SL__SPELLED_ADDED && is_space((const unsigned char *)text, size));
        if (is_text)
            v->tokens[v->token_count++] = id;
        else
            v->added[v->added_count++] = id;
    }
    v->offsets[v->size] = (uint32_t)bytes->size;
    v->bytes = (unsigned char *)bytes->data;
    bytes->data = NULL; /* handed over */
    return SL_OK;
}

/* ---- sorting --------------------------------------------------------------------------------- */

typedef struct sort_key {
    uint64_t head; /* the first eight bytes */
    const unsigned char *bytes;
    uint32_t size, id;
} sort_key;

static int by_bytes(const void *x, const void *y)
{
    const sort_key *a = x, *b = y;
    if (a->head != b->head) return a->head < b->head ? -1 : 1;
    int order = memcmp(a->bytes, b->bytes, a->size < b->size ? a->size : b->size);
    if (order) return order;
    if (a->size != b->size) return a->size < b->size ? -1 : 1;
    return (a->id > b->id) - (a->id < b->id);
}

static bool sort_tokens(sl_vocabulary *v)
{
    sort_key *keys = calloc(v->token_count ? v->token_count : 1, sizeof *keys);
    if (!keys) return false;
    for (uint32_t i = 0; i < v->token_count; i++) {
        sort_key *key = &keys[i];
        key->id = v->tokens[i];
        key->bytes = sl__vocabulary_token(v, key->id, &key->size);
        for (uint32_t k = 0; k < 8; k++)
            key->head = key->head << 8 | (k < key->size ? key->bytes[k] : 0);
    }
    qsort(keys, v->token_count, sizeof *keys, by_bytes);
    for (uint32_t i = 0; i < v->token_count; i++)
        v->tokens[i] = keys[i].id;
    free(keys);
    return true;
}

/* ---- the trie -------------------------------------------------------------------------------- */

static uint32_t shared_bytes(const sl_vocabulary *v, uint32_t i)
{
    uint32_t a_size, b_size, n = 0;
    if (i == 0) return 0;
    const unsigned char *a = sl__vocabulary_token(v, v->tokens[i - 1], &a_size);
    const unsigned char *b = sl__vocabulary_token(v, v->tokens[i], &b_size);
    while (n < a_size && n < b_size && a[n] == b[n])
        n++;
    return n;
}

/* path: the nodes of the last token's bytes, [token_bytes_max + 1]. */
static void build_nodes(sl_vocabulary *v, uint32_t *path)
{
    uint32_t count = 1, depth = 0;
    path[0] = 0;
    for (uint32_t i = 0; i < v->token_count; i++) {
        uint32_t size, shared = shared_bytes(v, i);
        const unsigned char *bytes = sl__vocabulary_token(v, v->tokens[i], &size);
        for (; depth > shared; depth--)
            v->nodes[path[depth]].end = count;
        for (; depth < size; depth++) {
            v->nodes[count] = (sl__trie_node){.first = i, .byte = bytes[depth]};
            path[depth + 1] = count++;
        }
        unsigned odd = odd_in(bytes, size);
        for (uint32_t d = 0; d <= depth; d++)
            v->nodes[path[d]].odd |= (uint8_t)odd;
    }
    for (;; depth--) {
        v->nodes[path[depth]].end = count;
        if (depth == 0) break;
    }
    v->nodes[count].first = v->token_count;
}

static bool build_trie(sl_vocabulary *v)
{
    size_t count = 1;
    for (uint32_t i = 0; i < v->token_count; i++) {
        uint32_t size;
        sl__vocabulary_token(v, v->tokens[i], &size);
        count += size - shared_bytes(v, i);
    }
    v->node_count = (uint32_t)count; /* at most all bytes of all tokens */
    v->nodes = calloc(count + 1, sizeof *v->nodes);
    uint32_t *path = calloc((size_t)v->token_bytes_max + 1, sizeof *path);
    if (v->nodes && path) build_nodes(v, path);
    free(path);
    return v->nodes && path;
}

static bool find_plain(sl_vocabulary *v)
{
    v->words = (v->size + 63) / 64;
    uint64_t *strings = calloc((size_t)v->words + 1, sizeof *strings);
    uint64_t *values = calloc((size_t)v->words + 1, sizeof *values);
    v->plain[SL__TEXT_STRING] = strings;
    v->plain[SL__TEXT_VALUE] = values;
    v->characters = calloc((size_t)v->size + 1, sizeof *v->characters);
    if (!strings || !values || !v->characters) return false;
    for (uint32_t i = 0; i < v->token_count; i++) {
        uint32_t id = v->tokens[i], size, characters = 0;
        const unsigned char *bytes = sl__vocabulary_token(v, id, &size);
        unsigned odd = odd_in(bytes, size);
        uint64_t bit = (uint64_t)1 << id % 64;
        if (!(odd & 1u << SL__TEXT_STRING)) strings[id / 64] |= bit;
        if (!(odd & 1u << SL__TEXT_VALUE)) values[id / 64] |= bit;
        for (uint32_t k = 0; k < size; k++)
            characters += (bytes[k] & 0xc0u) != 0x80u;
        v->characters[id] = (uint16_t)(characters < UINT16_MAX ? characters : UINT16_MAX);
    }
    return true;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static sl_status build(sl_vocabulary *v, const sl_tokenizer *tok, sl_error *err)
{
    v->size = sl_tokenizer_vocab_size(tok);
    v->offsets = calloc((size_t)v->size + 1, sizeof *v->offsets);
    v->tokens = calloc((size_t)v->size + 1, sizeof *v->tokens);
    v->added = calloc((size_t)v->size + 1, sizeof *v->added);
    if (!v->offsets || !v->tokens || !v->added) return SL_FAIL_NOMEM(err, "vocabulary");
    sl__speller *speller;
    SL_TRY(sl__speller_create(&speller, tok, err));
    sl__buffer bytes;
    sl__buffer_init(&bytes, UINT32_MAX - 1);
    sl_status status = read_tokens(v, speller, &bytes, err);
    sl__buffer_free(&bytes);
    sl__speller_destroy(speller);
    SL_TRY(status);
    if (v->token_count == 0) return SL_FAIL(err, SL_EUNSUPPORTED, "vocabulary: no token is text");
    uint32_t *fewer = realloc(v->added, ((size_t)v->added_count + 1) * sizeof *fewer);
    if (fewer) v->added = fewer;
    if (!sort_tokens(v) || !build_trie(v) || !find_plain(v))
        return SL_FAIL_NOMEM(err, "vocabulary");
    return SL_OK;
}

sl_status sl_vocabulary_create(sl_vocabulary **out, const sl_tokenizer *tok, sl_error *err)
{
    *out = NULL;
    sl_vocabulary *v = calloc(1, sizeof *v);
    if (!v) return SL_FAIL_NOMEM(err, "vocabulary");
    sl_status status = build(v, tok, err);
    if (status == SL_OK)
        *out = v;
    else
        sl_vocabulary_destroy(v);
    return status;
}

void sl_vocabulary_destroy(sl_vocabulary *v)
{
    if (!v) return;
    free(v->offsets);
    free(v->bytes);
    free(v->tokens);
    free(v->nodes);
    free(v->added);
    for (int i = 0; i < SL__TEXT_CLASSES; i++)
        free(v->plain[i]);
    free(v->characters);
    free(v);
}

uint64_t sl_vocabulary_bytes(const sl_vocabulary *v)
{
    uint64_t ids = (uint64_t)v->size + 1;
    return sizeof *v + ids * (2 * sizeof *v->offsets + sizeof *v->characters) +
           v->offsets[v->size] + ((uint64_t)v->node_count + 1) * sizeof *v->nodes +
           (uint64_t)v->added_count * sizeof *v->added + 2 * ((uint64_t)v->words + 1) * 8;
}
