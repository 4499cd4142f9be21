/* Taking an image into use: every count, offset and id in it is checked here once, so that the
 * stages need not. The layout is drawn in tokenizer_parts.h. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/hash.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the image is used in place");
_Static_assert(sizeof(sl__tok_header) == 80 + 1024 && sizeof(sl__tok_merge) == 16 &&
                   sizeof(sl__tok_token) == 8 && sizeof(sl__tok_added) == 16 &&
                   sizeof(sl__tok_step) == 32,
               "no padding in the image");

uint32_t sl__token_find(const sl__tok_token *tokens, const uint32_t *slots, uint32_t slot_count,
                        const char *strings, const void *bytes, size_t size, uint32_t flag)
{
    uint32_t slot = (uint32_t)sl__hash64(bytes, size) & (slot_count - 1);
    for (; slots[slot] != SL__TOK_NONE; slot = (slot + 1) & (slot_count - 1)) {
        const sl__tok_token *token = &tokens[slots[slot]];
        if (token->size_flags >> 8 == size && (token->size_flags & flag) &&
            memcmp(strings + token->offset, bytes, size) == 0) {
            return slots[slot];
        }
    }
    return SL__TOK_NONE;
}

/* ---- checks ---------------------------------------------------------------------------------- */

static sl_status damaged(const char *path, const char *what, sl_error *err)
{
    return SL_FAIL(err, SL_EFORMAT, "%s: compiled tokenizer: %s", path, what);
}

static bool good_slots(uint32_t slots, uint64_t max)
{
    return slots > 0 && (slots & (slots - 1)) == 0 && slots <= max;
}

static sl_status check_header(const sl__tok_header *h, const char *path, sl_error *err)
{
    const uint32_t flags = SL__TOK_CHARS | SL__TOK_IGNORE_MERGES | SL__TOK_FUSE_UNK |
                           SL__TOK_BYTE_FALLBACK | SL__TOK_APART;
    if ((h->flags & ~flags) || h->word_mark > 1 || h->zero != 0)
        return damaged(path, "unknown flags", err);
    if (h->vocab_size > SL__TOK_IDS_MAX) return damaged(path, "too many ids", err);
    if (!good_slots(h->merge_slots, 1u << 26) || !good_slots(h->token_slots, 1u << 26)) {
        return damaged(path, "the size of a table", err);
    }
    if (h->added_count > SL__TOK_ADDED_MAX || h->added_raw > h->added_count ||
        h->normalize_count > SL__TOK_STEPS_MAX || h->step_count > SL__TOK_STEPS_MAX ||
        h->decode_count > SL__TOK_STEPS_MAX || h->prefix_count > SL__TOK_WRAP_MAX ||
        h->suffix_count > SL__TOK_WRAP_MAX || h->strings_bytes > SL__TOK_STRINGS_MAX) {
        return damaged(path, "a count is too large", err);
    }
    for (unsigned i = 0; i < 256; i++) {
        if (h->byte_ids[i] >= h->vocab_size && h->byte_ids[i] != SL__TOK_NONE) {
            return damaged(path, "the id of a byte", err);
        }
    }
    if (h->unk_id >= h->vocab_size && h->unk_id != SL__TOK_NONE) {
        return damaged(path, "the id of the unknown token", err);
    }
    return SL_OK;
}

/* Points at the sections; their sizes follow from the header's counts. */
static sl_status find_sections(sl_tokenizer *tok, size_t size, const char *path, sl_error *err)
{
    const sl__tok_header *h = tok->header;
    const uint64_t bytes[] = {
        (uint64_t)h->merge_slots * sizeof(sl__tok_merge),
        (uint64_t)h->vocab_size * sizeof(sl__tok_token),
        (uint64_t)h->token_slots * sizeof(uint32_t),
        (uint64_t)h->added_count * sizeof(sl__tok_added),
        (uint64_t)sl__step_total(h) * sizeof(sl__tok_step),
        ((uint64_t)h->prefix_count + h->suffix_count) * sizeof(uint32_t),
        h->strings_bytes,
    };
    const void *section[7];
    uint64_t at = sizeof *h;
    for (unsigned i = 0; i < 7; i++) {
        /* The counts are bounded: none of these sums can wrap. */
        section[i] = tok->image + (at <= size ? at : 0);
        at = (at + bytes[i] + 7) & ~(uint64_t)7;
    }
    if (at + sizeof(uint64_t) != size || h->image_bytes != size) {
        return damaged(path, "its length is not what its header says", err);
    }
    tok->merges = section[0];
    tok->tokens = section[1];
    tok->slots = section[2];
    tok->added = section[3];
    tok->steps = section[4];
    tok->cuts = tok->steps + h->normalize_count;
    tok->decodes = tok->cuts + h->step_count;
    tok->wrap = section[5];
    tok->strings = section[6];
    return SL_OK;
}

static bool string_fits(const sl_tokenizer *tok, uint32_t offset, uint32_t size)
{
    return offset <= tok->header->strings_bytes && size <= tok->header->strings_bytes - offset;
}

static sl_status check_tables(sl_tokenizer *tok, const char *path, sl_error *err)
{
    const sl__tok_header *h = tok->header;
    const uint32_t flags = SL__TOK_BYTES | SL__TOK_LITERAL | SL__TOK_ADDED | SL__TOK_SPECIAL;
    for (uint32_t i = 0; i < h->vocab_size; i++) {
        uint32_t size = tok->tokens[i].size_flags >> 8;
        if ((tok->tokens[i].size_flags & 0xff & ~flags) ||
            !string_fits(tok, tok->tokens[i].offset, size)) {
            return damaged(path, "the text of a token", err);
        }
        if ((h->flags & SL__TOK_CHARS) &&
            sl__utf8_valid(tok->strings + tok->tokens[i].offset, size) != size) {
            return damaged(path, "a token that is not UTF-8", err);
        }
        if (size > tok->token_bytes_max) tok->token_bytes_max = size;
    }
    uint32_t empty = 0;
    for (uint32_t i = 0; i < h->token_slots; i++) {
        if (tok->slots[i] == SL__TOK_NONE)
            empty++;
        else if (tok->slots[i] >= h->vocab_size)
            return damaged(path, "the table of tokens", err);
    }
    if (empty == 0) return damaged(path, "the table of tokens is full", err);
    empty = 0;
    for (uint32_t i = 0; i < h->merge_slots; i++) {
        const sl__tok_merge *m = &tok->merges[i];
        if (m->rank == SL__TOK_NONE)
            empty++;
        else if (m->left >= h->vocab_size || m->right >= h->vocab_size ||
                 m->result >= h->vocab_size) {
            return damaged(path, "the table of merges", err);
        }
    }
    if (empty == 0) return damaged(path, "the table of merges is full", err);
    for (uint32_t i = 0; i < h->prefix_count + h->suffix_count; i++) {
        if (tok->wrap[i] >= h->vocab_size) return damaged(path, "an id of the template", err);
    }
    return SL_OK;
}

/* Whether the text of a comes before that of b, or is the same. */
static bool in_order(const sl_tokenizer *tok, const sl__tok_added *a, const sl__tok_added *b)
{
    uint32_t n = a->size < b->size ? a->size : b->size;
    int order = memcmp(tok->strings + a->offset, tok->strings + b->offset, n);
    return order < 0 || (order == 0 && a->size <= b->size);
}

static sl_status check_added(sl_tokenizer *tok, const char *path, sl_error *err)
{
    const sl__tok_header *h = tok->header;
    const uint32_t flags = SL__ADDED_LSTRIP | SL__ADDED_RSTRIP | SL__ADDED_SINGLE_WORD;
    for (uint32_t i = 0; i < h->added_count; i++) {
        const sl__tok_added *a = &tok->added[i];
        if (a->id >= h->vocab_size || (a->flags & ~flags) || a->size == 0 ||
            !string_fits(tok, a->offset, a->size) ||
            sl__utf8_valid(tok->strings + a->offset, a->size) != a->size) {
            return damaged(path, "an added token", err);
        }
        if (i > 0 && i != h->added_raw && !in_order(tok, a - 1, a)) {
            return damaged(path, "the order of the added tokens", err);
        }
    }
    for (unsigned set = 0; set < 2; set++) {
        uint32_t i = set == 0 ? 0 : h->added_raw, end = set == 0 ? h->added_raw : h->added_count;
        for (unsigned byte = 0; byte < 257; byte++) {
            while (i < end && (unsigned char)tok->strings[tok->added[i].offset] < byte)
                i++;
            tok->added_first[set][byte] = i;
        }
    }
    return SL_OK;
}

/* Whether what the step says is something that its list and kind have. */
static bool good_step(const sl__tok_step *s, unsigned list)
{
    static const uint32_t kinds[3][2] = {
        {SL__STEP_FORM, SL__STEP_LOWERCASE},
        {SL__STEP_SPLIT_REGEX, SL__STEP_METASPACE},
        {SL__STEP_DECODE_METASPACE, SL__STEP_DECODE_STRIP},
    };
    if (s->kind < kinds[list][0] || s->kind > kinds[list][1] || s->zero != 0) return false;
    switch (s->kind) {
    case SL__STEP_SPLIT_REGEX:
    case SL__STEP_SPLIT_LITERAL:
        return s->behavior <= SL__CONTIGUOUS && s->invert <= 1;
    case SL__STEP_METASPACE:
        return s->behavior <= SL__PREPEND_FIRST && s->size > 0;
    case SL__STEP_FORM:
        return s->behavior <= SL__NFKD;
    case SL__STEP_TRIM:
        return s->behavior <= 3;
    case SL__STEP_REPLACE_LITERAL:
    case SL__STEP_DECODE_REPLACE:
        return s->size > 0;
    case SL__STEP_DECODE_METASPACE:
        return s->behavior <= 1 && s->size > 0;
    case SL__STEP_DECODE_STRIP:
        return s->behavior <= SL__STRIP_MAX && s->invert <= SL__STRIP_MAX && s->size > 0 &&
               s->size <= 4;
    default:
        return true;
    }
}

static bool good_text(const sl_tokenizer *tok, uint32_t offset, uint32_t size)
{
    return string_fits(tok, offset, size) && sl__utf8_valid(tok->strings + offset, size) == size;
}

/* Runs of byte tokens are of one step, and before tokens are joined. */
static bool good_decoder(const sl_tokenizer *tok)
{
    bool taken = !(tok->header->flags & SL__TOK_CHARS);
    for (uint32_t i = 0; i < tok->header->decode_count; i++) {
        uint32_t kind = tok->decodes[i].kind;
        if (kind == SL__STEP_DECODE_BYTES && taken) return false;
        if (kind == SL__STEP_DECODE_BYTES || kind == SL__STEP_DECODE_FUSE) taken = true;
    }
    return true;
}

static sl_status compile_steps(sl_tokenizer *tok, const char *path, sl_error *err)
{
    const sl__tok_header *h = tok->header;
    static const char *const names[] = {"a normaliser step", "a pre-tokeniser step",
                                        "a decoder step"};
    uint32_t count = sl__step_total(h);
    tok->codes = calloc(count ? count : 1, sizeof *tok->codes);
    if (!tok->codes) return SL_FAIL_NOMEM(err, "pre-tokeniser");
    tok->cut_codes = tok->codes + h->normalize_count;
    for (uint32_t i = 0; i < count; i++) {
        const sl__tok_step *s = &tok->steps[i];
        unsigned list = i < h->normalize_count ? 0 : i < h->normalize_count + h->step_count ? 1 : 2;
        if (!good_step(s, list) || !good_text(tok, s->offset, s->size) ||
            !good_text(tok, s->extra_offset, s->extra_size)) {
            return damaged(path, names[list], err);
        }
        SL_TRY(sl__step_compile(&tok->codes[i], s, tok->strings, path, err));
    }
    if (!good_decoder(tok)) return damaged(path, names[2], err);
    tok->decode_room = sl__decode_room(tok);
    if (tok->decode_room > 0) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: the decoder makes tokens too long", path);
}

static sl_status check_whole(const unsigned char *image, size_t size, const char *path,
                             sl_error *err)
{
    sl__tok_header head;
    uint64_t sum;
    if (size < sizeof head + sizeof sum) return damaged(path, "it ends early", err);
    memcpy(&head, image, sizeof head);
    if (memcmp(head.magic, SL__TOK_MAGIC, sizeof head.magic) != 0) {
        return damaged(path, "it does not begin as one", err);
    }
    if (head.version != SL__TOK_VERSION) {
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "%s: compiled tokenizer of version %u; this program reads version %u", path,
                       head.version, SL__TOK_VERSION);
    }
    memcpy(&sum, image + size - sizeof sum, sizeof sum);
    if (sum != sl__hash64(image, size - sizeof sum)) {
        return SL_FAIL(err, SL_ECORRUPT, "%s: compiled tokenizer: the checksum differs", path);
    }
    return SL_OK;
}

static sl_status attach(sl_tokenizer *tok, size_t size, const char *path, sl_error *err)
{
    SL_TRY(check_whole(tok->image, size, path, err));
    tok->header = (const void *)tok->image;
    SL_TRY(check_header(tok->header, path, err));
    SL_TRY(find_sections(tok, size, path, err));
    SL_TRY(check_tables(tok, path, err));
    SL_TRY(check_added(tok, path, err));
    return compile_steps(tok, path, err);
}

sl_status sl__tokenizer_attach(sl_tokenizer **out, unsigned char *image, size_t size,
                               const char *path, sl_error *err)
{
    sl_tokenizer *tok = calloc(1, sizeof *tok);
    if (!tok) {
        free(image);
        return SL_FAIL_NOMEM(err, "tokenizer");
    }
    tok->image = image;
    sl_status status = attach(tok, size, path, err);
    if (status != SL_OK) {
        sl_tokenizer_close(tok);
        return status;
    }
    *out = tok;
    return SL_OK;
}

sl_status sl__tokenizer_parse_compiled(sl_tokenizer **out, const void *data, size_t size,
                                       const char *path, sl_error *err)
{
    unsigned char *image = malloc(size ? size : 1);
    if (!image) return SL_FAIL_NOMEM(err, "tokenizer");
    if (size) memcpy(image, data, size);
    return sl__tokenizer_attach(out, image, size, path, err);
}

sl_status sl__tokenizer_compile(const sl_tokenizer *tok, void **data, size_t *size, sl_error *err)
{
    size_t bytes = (size_t)tok->header->image_bytes;
    void *copy = malloc(bytes);
    if (!copy) return SL_FAIL_NOMEM(err, "compiled tokenizer");
    memcpy(copy, tok->image, bytes);
    *data = copy;
    *size = bytes;
    return SL_OK;
}
