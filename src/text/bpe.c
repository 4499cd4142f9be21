/* Byte-pair merging of one piece: of all adjacent pairs that have a rank, the one with the lowest
 * rank is merged, the leftmost on ties, until none is left.
 *
 * Short pieces keep the ranks of their pairs in an array and look for the least by running over it.
 * Long ones keep symbols in a linked list and the pairs in a heap:
 *
 *     symbols   [h] ⇄ [e] ⇄ [l] ⇄ [lo]        by position, dead ones skipped
 *     heap      (rank, position of the left symbol), least on top; an entry is stale, and is
 *               dropped, where the pair at its position now has another rank
 *
 * Where tokens are text, a whole text may be one piece, with U+2581 for its spaces. If no merge
 * joins a U+2581 to another character before it (word_mark), it is cut there first, into words:
 *
 *     ▁ O n c e ┊ ▁ u p o n ┊ ▁ ▁ a            no pair across a cut has a rank
 *
 * Pieces repeat, so a table of those seen, direct-mapped by a hash of their bytes, says where in
 * the result their ids stand already. Both ways give the same ids, and so does the table.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/hash.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

#define SHORT_MAX    64u /* symbols */
#define SEEN_KEY_MAX 24u /* bytes of a piece that is remembered */
#define SEEN_MAX     32768u

/* 32 bytes. size 0: empty. */
typedef struct sl__bpe_seen {
    uint64_t key[3];     /* the bytes, zero-padded */
    uint32_t first;      /* where in the result its ids stand */
    uint8_t size, count; /* of bytes, of ids */
    uint16_t unused;
} bpe_seen;

sl_status sl__id_push(sl__id_list *list, uint32_t id, sl_error *err)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        if (room > SIZE_MAX / sizeof *list->data) return SL_FAIL_NOMEM(err, "token ids");
        int32_t *grown = realloc(list->data, room * sizeof *grown);
        if (!grown) return SL_FAIL_NOMEM(err, "token ids");
        list->data = grown;
        list->room = room;
    }
    list->data[list->count++] = (int32_t)id;
    return SL_OK;
}

sl_status sl__bpe_init(sl__bpe *bpe, const sl_tokenizer *tok, size_t text_size, sl_error *err)
{
    memset(bpe, 0, sizeof *bpe);
    bpe->tok = tok;
    uint32_t slots = 64;
    while (slots < SEEN_MAX && slots < text_size / 8)
        slots *= 2;
    bpe->seen = calloc(slots, sizeof *bpe->seen);
    if (!bpe->seen) return SL_FAIL_NOMEM(err, "piece table");
    bpe->seen_mask = slots - 1;
    return SL_OK;
}

void sl__bpe_free(sl__bpe *bpe)
{
    free(bpe->ids.data);
    free(bpe->seen);
    free(bpe->scratch);
    memset(bpe, 0, sizeof *bpe);
}

/* The rank of a pair and what it becomes; SL__TOK_NONE where it does not merge. */
static inline uint32_t pair_rank(const sl_tokenizer *tok, uint32_t left, uint32_t right,
                                 uint32_t *result)
{
    uint32_t mask = tok->header->merge_slots - 1;
    uint32_t slot = sl__merge_slot(left, right, tok->header->merge_slots);
    for (;; slot = (slot + 1) & mask) {
        const sl__tok_merge *m = &tok->merges[slot];
        if (m->rank == SL__TOK_NONE) return SL__TOK_NONE;
        if (m->left == left && m->right == right) {
            *result = m->result;
            return m->rank;
        }
    }
}

/* What a character without a token of its own becomes: the tokens of its bytes. False where one of
 * them is missing. */
static bool fall_back(const sl__tok_header *h, const char *bytes, size_t size, uint32_t *ids)
{
    if (!(h->flags & SL__TOK_BYTE_FALLBACK)) return false;
    for (size_t i = 0; i < size; i++) {
        ids[i] = h->byte_ids[(unsigned char)bytes[i]];
        if (ids[i] == SL__TOK_NONE) return false;
    }
    return true;
}

/* The symbols of a piece of characters. An unknown one is held until one with a token comes, which
 * the bytes of one that fell back do not have: so the reference has it. */
static uint32_t char_symbols(const sl_tokenizer *tok, const char *piece, size_t size, uint32_t *ids)
{
    const sl__tok_header *h = tok->header;
    uint32_t count = 0;
    bool unknown = false;
    for (size_t i = 0, n; i < size; i += n) {
        uint32_t cp;
        n = (size_t)sl__utf8_step((const unsigned char *)piece + i, size - i, &cp);
        uint32_t id = sl__token_find(tok->tokens, tok->slots, h->token_slots, tok->strings,
                                     piece + i, n, SL__TOK_LITERAL);
        if (id != SL__TOK_NONE) {
            if (unknown) ids[count++] = h->unk_id;
            unknown = false;
            ids[count++] = id;
        } else if (fall_back(h, piece + i, n, ids + count)) {
            count += (uint32_t)n;
        } else if (h->unk_id != SL__TOK_NONE) {
            if (unknown && !(h->flags & SL__TOK_FUSE_UNK)) ids[count++] = h->unk_id;
            unknown = true;
        }
    }
    if (unknown) ids[count++] = h->unk_id;
    return count;
}

/* The symbols of a piece before any merge, at most one a byte; bytes without a token become unk, or
 * vanish. */
static uint32_t first_symbols(const sl_tokenizer *tok, const char *piece, size_t size,
                              uint32_t *ids)
{
    const sl__tok_header *h = tok->header;
    if (h->flags & SL__TOK_CHARS) return char_symbols(tok, piece, size, ids);
    uint32_t count = 0;
    bool after_unk = false;
    for (size_t i = 0; i < size; i++) {
        uint32_t id = h->byte_ids[(unsigned char)piece[i]];
        bool unknown = id == SL__TOK_NONE;
        if (unknown) {
            id = h->unk_id;
            if (id == SL__TOK_NONE || (after_unk && (h->flags & SL__TOK_FUSE_UNK))) continue;
        }
        after_unk = unknown;
        ids[count++] = id;
    }
    return count;
}

/* Merges ids[count] in place; returns how many are left. */
static uint32_t merge_short(const sl_tokenizer *tok, uint32_t *ids, uint32_t count)
{
    uint32_t ranks[SHORT_MAX], results[SHORT_MAX] = {0};
    for (uint32_t i = 0; i + 1 < count; i++)
        ranks[i] = pair_rank(tok, ids[i], ids[i + 1], &results[i]);
    while (count > 1) {
        uint32_t best = 0;
        for (uint32_t i = 1; i + 1 < count; i++) {
            if (ranks[i] < ranks[best]) best = i;
        }
        if (ranks[best] == SL__TOK_NONE) break;
        ids[best] = results[best];
        count--;
        for (uint32_t i = best + 1; i < count; i++)
            ids[i] = ids[i + 1];
        for (uint32_t i = best + 1; i + 1 < count; i++) {
            ranks[i] = ranks[i + 1];
            results[i] = results[i + 1];
        }
        if (best > 0) {
            ranks[best - 1] = pair_rank(tok, ids[best - 1], ids[best], &results[best - 1]);
        }
        if (best + 1 < count)
            ranks[best] = pair_rank(tok, ids[best], ids[best + 1], &results[best]);
    }
    return count;
}

/* ---- long pieces ----------------------------------------------------------------------------- */

/* The working memory of a long piece of n symbols, in one block. */
typedef struct long_piece {
    uint64_t *heap; /* [2n] rank << 32 | position; every merge takes one out and puts two in */
    uint32_t *ids, *next, *previous; /* [n]; next of a dead symbol is DEAD */
    size_t heap_count;
} long_piece;

#define END  UINT32_MAX
#define DEAD (UINT32_MAX - 1)

static void heap_push(long_piece *p, uint64_t entry)
{
    size_t i = p->heap_count++;
    while (i > 0 && p->heap[(i - 1) / 2] > entry) {
        p->heap[i] = p->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    p->heap[i] = entry;
}

static uint64_t heap_pop(long_piece *p)
{
    uint64_t top = p->heap[0], last = p->heap[--p->heap_count];
    size_t i = 0, n = p->heap_count;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= n) break;
        if (child + 1 < n && p->heap[child + 1] < p->heap[child]) child++;
        if (p->heap[child] >= last) break;
        p->heap[i] = p->heap[child];
        i = child;
    }
    p->heap[i] = last;
    return top;
}

static void push_pair(const sl_tokenizer *tok, long_piece *p, uint32_t left)
{
    if (left == END || p->next[left] == END) return;
    uint32_t result, rank = pair_rank(tok, p->ids[left], p->ids[p->next[left]], &result);
    if (rank != SL__TOK_NONE) heap_push(p, (uint64_t)rank << 32 | left);
}

static void merge_long(const sl_tokenizer *tok, long_piece *p, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        p->next[i] = i + 1 < count ? i + 1 : END;
        p->previous[i] = i > 0 ? i - 1 : END;
    }
    for (uint32_t i = 0; i < count; i++)
        push_pair(tok, p, i);
    while (p->heap_count > 0) {
        uint64_t entry = heap_pop(p);
        uint32_t left = (uint32_t)entry, right = p->next[left], result = 0;
        if (right == DEAD || right == END) continue;
        if (pair_rank(tok, p->ids[left], p->ids[right], &result) != entry >> 32) continue;
        p->ids[left] = result;
        p->next[left] = p->next[right];
        if (p->next[left] != END) p->previous[p->next[left]] = left;
        p->next[right] = DEAD;
        push_pair(tok, p, p->previous[left]);
        push_pair(tok, p, left);
    }
}

static sl_status long_piece_room(sl__bpe *bpe, size_t n, long_piece *p, sl_error *err)
{
    uint64_t bytes;
    const uint64_t each = 2 * sizeof(uint64_t) + 3 * sizeof(uint32_t);
    if (!sl__mul_u64(&bytes, n, each) || bytes > SIZE_MAX) return SL_FAIL_NOMEM(err, "long piece");
    if (bytes > bpe->scratch_bytes) {
        free(bpe->scratch);
        bpe->scratch_bytes = 0;
        bpe->scratch = malloc((size_t)bytes);
        if (!bpe->scratch) return SL_FAIL_NOMEM(err, "long piece");
        bpe->scratch_bytes = (size_t)bytes;
    }
    p->heap = bpe->scratch;
    p->heap_count = 0;
    p->ids = (uint32_t *)(p->heap + 2 * n);
    p->next = p->ids + n;
    p->previous = p->next + n;
    return SL_OK;
}

static sl_status merge_and_push_long(sl__bpe *bpe, const char *piece, size_t size, sl_error *err)
{
    long_piece p = {.heap = NULL};
    SL_TRY(long_piece_room(bpe, size, &p, err));
    uint32_t count = first_symbols(bpe->tok, piece, size, p.ids);
    if (count == 0) return SL_OK;
    merge_long(bpe->tok, &p, count);
    for (uint32_t i = 0; i != END; i = p.next[i])
        SL_TRY(sl__id_push(&bpe->ids, p.ids[i], err));
    return SL_OK;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

/* Merges a piece and appends its ids. */
static sl_status merge_and_push(sl__bpe *bpe, const char *piece, size_t size, sl_error *err)
{
    const sl_tokenizer *tok = bpe->tok;
    if (tok->header->flags & SL__TOK_IGNORE_MERGES) {
        bool chars = tok->header->flags & SL__TOK_CHARS;
        uint32_t id =
            sl__token_find(tok->tokens, tok->slots, tok->header->token_slots, tok->strings, piece,
                           size, chars ? SL__TOK_LITERAL : SL__TOK_BYTES);
        if (id != SL__TOK_NONE) return sl__id_push(&bpe->ids, id, err);
    }
    if (size > SHORT_MAX) return merge_and_push_long(bpe, piece, size, err);
    uint32_t ids[SHORT_MAX];
    uint32_t count = first_symbols(tok, piece, size, ids);
    count = merge_short(tok, ids, count);
    for (uint32_t i = 0; i < count; i++)
        SL_TRY(sl__id_push(&bpe->ids, ids[i], err));
    return SL_OK;
}

/* A piece of at most SEEN_KEY_MAX bytes: from the table, or into it. */
static sl_status seen_or_merge(sl__bpe *bpe, const char *piece, size_t size, sl_error *err)
{
    uint64_t key[3] = {0, 0, 0};
    memcpy(key, piece, size);
    uint64_t h = (key[0] ^ (key[1] * 0x9e3779b97f4a7c15u) ^ (key[2] * 0xc2b2ae3d27d4eb4fu)) + size;
    h = (h ^ h >> 32) * 0xd6e8feb86659fd93u;
    bpe_seen *seen = &bpe->seen[(h ^ h >> 32) & bpe->seen_mask];
    if (seen->size == size && memcmp(seen->key, key, sizeof key) == 0) {
        for (uint32_t i = 0; i < seen->count; i++)
            SL_TRY(sl__id_push(&bpe->ids, (uint32_t)bpe->ids.data[seen->first + i], err));
        return SL_OK;
    }
    size_t first = bpe->ids.count;
    SL_TRY(merge_and_push(bpe, piece, size, err));
    if (first > UINT32_MAX) return SL_OK;
    memcpy(seen->key, key, sizeof key);
    seen->first = (uint32_t)first;
    seen->size = (uint8_t)size;
    seen->count = (uint8_t)(bpe->ids.count - first);
    return SL_OK;
}

static sl_status word(sl__bpe *bpe, const char *piece, size_t size, sl_error *err)
{
    if (size <= SEEN_KEY_MAX) return seen_or_merge(bpe, piece, size, err);
    return merge_and_push(bpe, piece, size, err);
}

/* Cuts before every mark that another character stands before. */
static sl_status words(sl__bpe *bpe, const char *piece, size_t size, sl_error *err)
{
    const size_t n = sizeof SL__WORD_MARK - 1;
    size_t begin = 0, last = size; /* last: where the mark before this one ended */
    for (size_t at = 0; at < size; at += n) {
        at = sl__find_bytes(piece, size, at, SL__WORD_MARK, n);
        if (at == size) break;
        if (at > begin && at != last) {
            SL_TRY(word(bpe, piece + begin, at - begin, err));
            begin = at;
        }
        last = at + n;
    }
    return word(bpe, piece + begin, size - begin, err);
}

sl_status sl__bpe_piece(sl__bpe *bpe, const char *piece, size_t size, sl_error *err)
{
    return bpe->tok->header->word_mark ? words(bpe, piece, size, err) : word(bpe, piece, size, err);
}

sl_status sl__bpe_byte(sl__bpe *bpe, unsigned char byte, sl_error *err)
{
    uint32_t id = bpe->tok->header->byte_ids[byte];
    if (id == SL__TOK_NONE) id = bpe->tok->header->unk_id;
    return id == SL__TOK_NONE ? SL_OK : sl__id_push(&bpe->ids, id, err);
}
