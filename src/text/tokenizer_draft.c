#include "text/tokenizer_draft.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/hash.h"

void sl__draft_init(sl__tok_draft *draft, const char *path)
{
    memset(draft, 0, sizeof *draft);
    sl__buffer_init(&draft->strings, SL__TOK_STRINGS_MAX);
    memcpy(draft->head.magic, SL__TOK_MAGIC, sizeof draft->head.magic);
    draft->head.version = SL__TOK_VERSION;
    draft->head.unk_id = SL__TOK_NONE;
    memset(draft->head.byte_ids, 0xff, sizeof draft->head.byte_ids);
    draft->path = path;
}

void sl__draft_free(sl__tok_draft *draft)
{
    sl__buffer_free(&draft->strings);
    free(draft->tokens);
    free(draft->slots);
    free(draft->merges);
    free(draft->added);
    free(draft->added_set);
}

/* A power of two that leaves at least a quarter of the slots empty. */
static uint32_t slots_for(size_t count)
{
    uint32_t slots = 4;
    while (slots - slots / 4 < count)
        slots *= 2;
    return slots;
}

sl_status sl__draft_size(sl__tok_draft *draft, uint32_t vocab_size, size_t token_count,
                         size_t merge_count, size_t added_count, sl_error *err)
{
    sl__tok_header *h = &draft->head;
    if (token_count > SL__TOK_IDS_MAX || merge_count > SL__TOK_IDS_MAX ||
        added_count > SL__TOK_ADDED_MAX) {
        return SL_FAIL(err, SL_EFORMAT, "%s: too many tokens, merges or added tokens", draft->path);
    }
    h->vocab_size = vocab_size;
    h->token_slots = slots_for(token_count);
    h->merge_slots = slots_for(merge_count);
    draft->added_room = (uint32_t)added_count;
    draft->tokens = calloc(vocab_size ? vocab_size : 1, sizeof *draft->tokens);
    draft->slots = malloc(h->token_slots * sizeof *draft->slots);
    draft->merges = malloc(h->merge_slots * sizeof *draft->merges);
    draft->added = calloc(added_count ? added_count : 1, sizeof *draft->added);
    draft->added_set = calloc(added_count ? added_count : 1, 1);
    if (!draft->tokens || !draft->slots || !draft->merges || !draft->added || !draft->added_set) {
        return SL_FAIL_NOMEM(err, "tokenizer tables");
    }
    memset(draft->slots, 0xff, h->token_slots * sizeof *draft->slots);
    memset(draft->merges, 0xff, h->merge_slots * sizeof *draft->merges);
    return SL_OK;
}

sl_status sl__draft_merge_room(sl__tok_draft *draft, size_t merge_count, sl_error *err)
{
    if (merge_count > SL__TOK_IDS_MAX) {
        return SL_FAIL(err, SL_EFORMAT, "%s: too many merges", draft->path);
    }
    uint32_t slots = slots_for(merge_count);
    sl__tok_merge *merges = malloc(slots * sizeof *merges);
    if (!merges) return SL_FAIL_NOMEM(err, "tokenizer tables");
    memset(merges, 0xff, slots * sizeof *merges);
    free(draft->merges);
    draft->merges = merges;
    draft->head.merge_slots = slots;
    return SL_OK;
}

sl_status sl__draft_string(sl__tok_draft *draft, const void *bytes, size_t size, uint32_t *offset,
                           sl_error *err)
{
    *offset = (uint32_t)draft->strings.size;
    if (!sl__buffer_append(&draft->strings, bytes, size)) {
        return SL_FAIL_NOMEM(err, "tokenizer strings");
    }
    return SL_OK;
}

sl_status sl__draft_token(sl__tok_draft *draft, uint32_t id, const void *bytes, size_t size,
                          uint32_t flag, sl_error *err)
{
    sl__tok_token *token = &draft->tokens[id];
    assert(id < draft->head.vocab_size && token->size_flags == 0);
    if (size >= 1u << 24) {
        return SL_FAIL(err, SL_EFORMAT, "%s: vocab: token %u is too long", draft->path, id);
    }
    SL_TRY(sl__draft_string(draft, bytes, size, &token->offset, err));
    token->size_flags = (uint32_t)size << 8 | flag;
    uint32_t mask = draft->head.token_slots - 1;
    uint32_t slot = (uint32_t)sl__hash64(bytes, size) & mask;
    while (draft->slots[slot] != SL__TOK_NONE)
        slot = (slot + 1) & mask;
    draft->slots[slot] = id;
    return SL_OK;
}

void sl__draft_merge(sl__tok_draft *draft, uint32_t left, uint32_t right, uint32_t rank,
                     uint32_t result)
{
    uint32_t mask = draft->head.merge_slots - 1;
    uint32_t slot = sl__merge_slot(left, right, draft->head.merge_slots);
    sl__tok_merge *m = &draft->merges[slot];
    while (m->rank != SL__TOK_NONE && (m->left != left || m->right != right)) {
        slot = (slot + 1) & mask;
        m = &draft->merges[slot];
    }
    *m = (sl__tok_merge){.left = left, .right = right, .rank = rank, .result = result};
}

sl_status sl__draft_step(sl__tok_draft *draft, sl__step_list list, const sl__tok_step *step,
                         const char *pattern, const char *extra, sl_error *err)
{
    static const char *const names[] = {"normalizer", "pre_tokenizer", "decoder"};
    uint32_t *counts[] = {&draft->head.normalize_count, &draft->head.step_count,
                          &draft->head.decode_count};
    if (*counts[list] == SL__TOK_STEPS_MAX) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: more than %u %s steps", draft->path,
                       SL__TOK_STEPS_MAX, names[list]);
    }
    sl__tok_step *s = &draft->steps[list][(*counts[list])++];
    *s = *step;
    s->size = (uint32_t)strlen(pattern);
    s->extra_size = (uint32_t)strlen(extra);
    SL_TRY(sl__draft_string(draft, pattern, s->size, &s->offset, err));
    return sl__draft_string(draft, extra, s->extra_size, &s->extra_offset, err);
}

/* Whether a token holds the mark behind another character. */
static bool has_inner_mark(const char *text, size_t size)
{
    const size_t n = sizeof SL__WORD_MARK - 1;
    size_t last = 0; /* where the mark before ended, or 0, the beginning */
    for (size_t at = 0; at < size; at += n) {
        at = sl__find_bytes(text, size, at, SL__WORD_MARK, n);
        if (at == size) break;
        if (at != last) return true;
        last = at + n;
    }
    return false;
}

void sl__draft_word_mark(sl__tok_draft *draft)
{
    sl__tok_header *h = &draft->head;
    const char *strings = draft->strings.data ? draft->strings.data : "";
    /* A piece that is a token as a whole must not be cut; the mark must be known, so that what is
     * held as unknown before it comes out before it. */
    if (!(h->flags & SL__TOK_CHARS) || (h->flags & SL__TOK_IGNORE_MERGES)) return;
    if (sl__token_find(draft->tokens, draft->slots, h->token_slots, strings, SL__WORD_MARK,
                       sizeof SL__WORD_MARK - 1, SL__TOK_LITERAL) == SL__TOK_NONE) {
        return;
    }
    for (uint32_t i = 0; i < h->merge_slots; i++) {
        if (draft->merges[i].rank == SL__TOK_NONE) continue;
        const sl__tok_token *token = &draft->tokens[draft->merges[i].result];
        if (has_inner_mark(strings + token->offset, token->size_flags >> 8)) return;
    }
    h->word_mark = 1;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

/* Marks the token, and makes its text what it decodes to. */
static sl_status place_added(sl__tok_draft *draft, const sl__new_added *added, uint32_t size,
                             sl_error *err)
{
    sl__tok_token *token = &draft->tokens[added->id];
    uint32_t kept = token->size_flags & 0xff;
    bool same = (kept & (SL__TOK_BYTES | SL__TOK_LITERAL)) && token->size_flags >> 8 == size &&
                memcmp(draft->strings.data + token->offset, added->content, size) == 0;
    if (!same) {
        SL_TRY(sl__draft_string(draft, added->content, size, &token->offset, err));
        kept = SL__TOK_LITERAL;
    }
    token->size_flags = size << 8 | kept | SL__TOK_ADDED | (added->special ? SL__TOK_SPECIAL : 0u);
    return SL_OK;
}

/* Puts text[size] through the normalising steps, into out. */
static sl_status normalize_with(sl__normalizer *n, const char *text, size_t size, sl__buffer *out,
                                sl_error *err)
{
    bool moved;
    SL_TRY(sl__normalizer_run(n, &text, &size, &moved, err));
    return sl__buffer_append(out, text, size) ? SL_OK : SL_FAIL_NOMEM(err, "added tokens");
}

/* What is searched for: the content, normalised as the text will be. Each token compiles the steps
 * anew: few are normalised, and fewer tokenizers have a regex there. */
static sl_status search_text(sl__tok_draft *draft, const char *content, size_t size,
                             sl__buffer *out, sl_error *err)
{
    const uint32_t count = draft->head.normalize_count;
    const char *strings = draft->strings.data ? draft->strings.data : "";
    pcre2_code *codes[SL__TOK_STEPS_MAX] = {NULL};
    sl__normalizer n = {.steps = NULL};
    sl_status status = SL_OK;
    for (uint32_t i = 0; i < count && status == SL_OK; i++)
        status =
            sl__step_compile(&codes[i], &draft->steps[SL__NORMALIZE][i], strings, draft->path, err);
    if (status == SL_OK) {
        status = sl__normalizer_init(&n, draft->steps[SL__NORMALIZE], count, strings, codes, err);
    }
    if (status == SL_OK) status = normalize_with(&n, content, size, out, err);
    sl__normalizer_free(&n);
    for (uint32_t i = 0; i < count; i++)
        pcre2_code_free(codes[i]);
    return status;
}

sl_status sl__draft_added(sl__tok_draft *draft, const sl__new_added *added, sl_error *err)
{
    size_t size = strlen(added->content);
    if (size >= 1u << 20) {
        return SL_FAIL(err, SL_EFORMAT, "%s: added token %u is too long", draft->path, added->id);
    }
    SL_TRY(place_added(draft, added, (uint32_t)size, err));
    if (size == 0) return SL_OK; /* cannot be found in a text */
    sl__tok_added found = {.id = added->id, .flags = added->flags};
    sl__buffer text;
    sl__buffer_init(&text, SL__TOK_STRINGS_MAX);
    sl_status status = SL_OK;
    if (!added->normalized) {
        if (!sl__buffer_append(&text, added->content, size)) {
            status = SL_FAIL_NOMEM(err, "added tokens");
        }
    } else {
        status = search_text(draft, added->content, size, &text, err);
    }
    if (status == SL_OK && text.size > 0) {
        status = sl__draft_string(draft, text.data, text.size, &found.offset, err);
        found.size = (uint32_t)text.size;
        uint32_t index = draft->head.added_count;
        assert(index < draft->added_room);
        draft->added[index] = found;
        draft->added_set[index] = added->normalized;
        if (status == SL_OK) draft->head.added_count++;
    }
    sl__buffer_free(&text);
    return status;
}

/* ---- assembling ------------------------------------------------------------------------------ */

typedef struct sortable {
    sl__tok_added added;
    const char *text;
    uint8_t set;
} sortable;

static int by_set_and_text(const void *a, const void *b)
{
    const sortable *x = a, *y = b;
    if (x->set != y->set) return x->set < y->set ? -1 : 1;
    uint32_t n = x->added.size < y->added.size ? x->added.size : y->added.size;
    int order = memcmp(x->text, y->text, n);
    if (order != 0) return order;
    if (x->added.size != y->added.size) return x->added.size < y->added.size ? -1 : 1;
    return x->added.id < y->added.id ? -1 : x->added.id > y->added.id;
}

static sl_status sort_added(sl__tok_draft *draft, sl_error *err)
{
    uint32_t count = draft->head.added_count;
    sortable *items = malloc((count ? count : 1) * sizeof *items);
    if (!items) return SL_FAIL_NOMEM(err, "added tokens");
    for (uint32_t i = 0; i < count; i++) {
        items[i].added = draft->added[i];
        items[i].text = draft->strings.data + draft->added[i].offset;
        items[i].set = draft->added_set[i];
    }
    qsort(items, count, sizeof *items, by_set_and_text);
    draft->head.added_raw = 0;
    for (uint32_t i = 0; i < count; i++) {
        draft->added[i] = items[i].added;
        draft->added_set[i] = items[i].set;
        if (items[i].set == 0) draft->head.added_raw++;
    }
    free(items);
    return SL_OK;
}

/* The image, malloc'ed, checksummed. */
static sl_status assemble(sl__tok_draft *draft, unsigned char **image, size_t *size, sl_error *err)
{
    sl__tok_header *h = &draft->head;
    SL_TRY(sort_added(draft, err));
    h->strings_bytes = (uint32_t)draft->strings.size;
    const struct {
        const void *data;
        uint64_t bytes;
    } part[] = {
        {draft->merges, (uint64_t)h->merge_slots * sizeof *draft->merges},
        {draft->tokens, (uint64_t)h->vocab_size * sizeof *draft->tokens},
        {draft->slots, (uint64_t)h->token_slots * sizeof *draft->slots},
        {draft->added, (uint64_t)h->added_count * sizeof *draft->added},
        {draft->steps[SL__NORMALIZE], (uint64_t)h->normalize_count * sizeof(sl__tok_step)},
        {draft->steps[SL__CUT], (uint64_t)h->step_count * sizeof(sl__tok_step)},
        {draft->steps[SL__DECODE], (uint64_t)h->decode_count * sizeof(sl__tok_step)},
        {draft->prefix, (uint64_t)h->prefix_count * sizeof *draft->prefix},
        {draft->suffix, (uint64_t)h->suffix_count * sizeof *draft->suffix},
        {draft->strings.data, h->strings_bytes},
    };
    const size_t parts = sizeof part / sizeof part[0];
    /* All counts are bounded: no sum can wrap. Prefix and suffix are one section: no gap there
     * (steps are 8-aligned as they are). */
    uint64_t end = sizeof *h, offset[sizeof part / sizeof part[0]];
    for (size_t i = 0; i < parts; i++) {
        offset[i] = end;
        end += part[i].bytes;
        if (i != 7) end = (end + 7) & ~(uint64_t)7;
    }
    h->image_bytes = end + sizeof(uint64_t);
    if (h->image_bytes > SIZE_MAX) return SL_FAIL_NOMEM(err, "tokenizer");
    unsigned char *bytes = calloc(1, (size_t)h->image_bytes);
    if (!bytes) return SL_FAIL_NOMEM(err, "tokenizer");
    memcpy(bytes, h, sizeof *h);
    for (size_t i = 0; i < parts; i++) {
        if (part[i].bytes > 0) memcpy(bytes + offset[i], part[i].data, (size_t)part[i].bytes);
    }
    uint64_t sum = sl__hash64(bytes, (size_t)(h->image_bytes - sizeof sum));
    memcpy(bytes + h->image_bytes - sizeof sum, &sum, sizeof sum);
    *image = bytes;
    *size = (size_t)h->image_bytes;
    return SL_OK;
}

sl_status sl__draft_open(sl__tok_draft *draft, sl_tokenizer **out, sl_error *err)
{
    unsigned char *image;
    size_t size;
    SL_TRY(assemble(draft, &image, &size, err));
    return sl__tokenizer_attach(out, image, size, draft->path, err);
}
