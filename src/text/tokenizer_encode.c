/* Encoding: the stages in a row. The picture is in tokenizer_parts.h. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/guard.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

typedef struct encoder {
    const sl_tokenizer *tok;
    unsigned flags;      /* SL_ENCODE_… */
    bool guarded;        /* marks are taken out (guard.h) */
    sl__buffer clean;    /* the stretch without them */
    const char *text;    /* all of it */
    const char *stretch; /* the text whose beginning is that of all of it, or NULL */
    sl__normalizer normalizer;
    sl__pretok pretok;
    sl__bpe bpe;
    sl_error *err;
} encoder;

static sl_status take_piece(void *ctx, const char *piece, size_t size, sl_error *err)
{
    encoder *e = ctx;
    return sl__bpe_piece(&e->bpe, piece, size, err);
}

/* Cuts the added tokens of a set out of text; what lies between them goes to `plain`. */
static sl_status cut_added(encoder *e, unsigned set, const char *text, size_t size,
                           sl_status (*plain)(encoder *e, const char *text, size_t size))
{
    const sl__tok_header *h = e->tok->header;
    bool any = set == 0 ? h->added_raw > 0 : h->added_count > h->added_raw;
    size_t from = 0;
    sl__added_match match;
    while ((e->flags & SL_ENCODE_ADDED) && any &&
           sl__added_next(e->tok, set, text, size, from, &match)) {
        if (match.begin > from) SL_TRY(plain(e, text + from, match.begin - from));
        SL_TRY(sl__id_push(&e->bpe.ids, match.id, e->err));
        from = match.end;
    }
    return from < size ? plain(e, text + from, size - from) : SL_OK;
}

static sl_status encode_normalized(encoder *e, const char *text, size_t size)
{
    bool first = text == e->stretch;
    if (e->guarded && sl__guard_marked(text, size)) {
        sl__buffer_clear(&e->clean);
        if (!sl__guard_take_out(text, size, &e->clean)) return SL_FAIL_NOMEM(e->err, "messages");
        text = e->clean.data;
        size = e->clean.size;
    }
    return sl__pretokenize(&e->pretok, text, size, first, e->err);
}

static sl_status encode_raw(encoder *e, const char *text, size_t size)
{
    bool first = text == e->text, moved = false;
    if (e->normalizer.count > 0) {
        SL_TRY(sl__normalizer_run(&e->normalizer, &text, &size, &moved, e->err));
    }
    e->stretch = first && !moved ? text : NULL;
    return cut_added(e, 1, text, size, encode_normalized);
}

/* Stretches of valid UTF-8, and the bytes between them. */
static sl_status encode_bytes(encoder *e, const char *text, size_t size)
{
    while (size > 0) {
        size_t good = sl__utf8_valid(text, size);
        if (good > 0) SL_TRY(cut_added(e, 0, text, good, encode_raw));
        text += good;
        size -= good;
        if (size == 0) break;
        uint32_t cp;
        int step = sl__utf8_step((const unsigned char *)text, size, &cp);
        size_t bad = step == 0 ? size : (size_t)-step;
        for (size_t i = 0; i < bad; i++)
            SL_TRY(sl__bpe_byte(&e->bpe, (unsigned char)text[i], e->err));
        text += bad;
        size -= bad;
    }
    return SL_OK;
}

static sl_status encode_wrapped(encoder *e, const char *text, size_t size)
{
    const sl__tok_header *h = e->tok->header;
    bool wrap = e->flags & SL_ENCODE_BOS;
    for (uint32_t i = 0; wrap && i < h->prefix_count; i++)
        SL_TRY(sl__id_push(&e->bpe.ids, e->tok->wrap[i], e->err));
    SL_TRY(encode_bytes(e, text, size));
    for (uint32_t i = 0; wrap && i < h->suffix_count; i++)
        SL_TRY(sl__id_push(&e->bpe.ids, e->tok->wrap[h->prefix_count + i], e->err));
    return SL_OK;
}

static sl_status encode(encoder *e, const char *text, size_t size)
{
    const sl_tokenizer *tok = e->tok;
    SL_TRY(sl__normalizer_init(&e->normalizer, tok->steps, tok->header->normalize_count,
                               tok->strings, tok->codes, e->err));
    SL_TRY(sl__bpe_init(&e->bpe, tok, size, e->err));
    SL_TRY(sl__pretok_init(&e->pretok, tok, take_piece, e, e->err));
    return encode_wrapped(e, text, size);
}

static sl_status encode_text(const sl_tokenizer *tok, const char *text, size_t size, unsigned flags,
                             bool guarded, int32_t **ids, size_t *count, sl_error *err)
{
    *ids = NULL;
    *count = 0;
    if (size > INT32_MAX) {
        return SL_FAIL(err, SL_EINVAL, "a text of %zu bytes is too long to encode at once", size);
    }
    encoder e = {.tok = tok, .flags = flags, .guarded = guarded, .text = text, .err = err};
    sl__buffer_init(&e.clean, SIZE_MAX / 2);
    e.pretok.tok = tok; /* freed below, also where it was not reached */
    sl_status status = encode(&e, text, size);
    if (status == SL_OK) {
        *ids = e.bpe.ids.data;
        *count = e.bpe.ids.count;
        e.bpe.ids.data = NULL;
    }
    sl__pretok_free(&e.pretok);
    sl__bpe_free(&e.bpe);
    sl__normalizer_free(&e.normalizer);
    sl__buffer_free(&e.clean);
    return status;
}

sl_status sl_tokenizer_encode(const sl_tokenizer *tok, const char *text, size_t size,
                              unsigned flags, int32_t **ids, size_t *count, sl_error *err)
{
    if (flags & ~(unsigned)(SL_ENCODE_ADDED | SL_ENCODE_BOS)) {
        *ids = NULL;
        *count = 0;
        return SL_FAIL(err, SL_EINVAL, "encoding with unknown flags %#x", flags);
    }
    return encode_text(tok, text, size, flags, false, ids, count, err);
}

sl_status sl__tokenizer_encode_guarded(const sl_tokenizer *tok, const char *text, size_t size,
                                       int32_t **ids, size_t *count, sl_error *err)
{
    return encode_text(tok, text, size, SL_ENCODE_ADDED, true, ids, count, err);
}
