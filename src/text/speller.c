/* What single tokens stand for, in a text that has begun.
 *
 * Tokens of bytes are those bytes. Tokens of text go through the decoder, behind one that has begun
 * the text; a byte token ("<0xE4>") gives nothing there on its own, and is its byte.
 */
#include <stdlib.h>

#include "base/fail.h"
#include "text/tokenizer.h"
#include "text/tokenizer_parts.h"

struct sl__speller {
    const sl_tokenizer *tok; /* borrowed */
    sl_detokenizer *detok;   /* NULL: tokens are bytes */
    char byte;               /* the text of a byte token */
};

/* Begins the decoder's text: with any token that it shows. */
static void begin(const sl__speller *s)
{
    size_t size = 0;
    for (uint32_t id = 0; id < s->tok->header->vocab_size && size == 0; id++)
        sl_detokenizer_push(s->detok, (int32_t)id, &size);
    sl_detokenizer_finish(s->detok, &size);
}

sl_status sl__speller_create(sl__speller **out, const sl_tokenizer *tok, sl_error *err)
{
    const sl__tok_header *h = tok->header;
    *out = NULL;
    if (!(h->flags & SL__TOK_CHARS) && h->decode_count > 0)
        return SL_FAIL(err, SL_EUNSUPPORTED,
                       "vocabulary: the tokenizer's decoder changes what its bytes have become");
    sl__speller *s = calloc(1, sizeof *s);
    if (!s) return SL_FAIL_NOMEM(err, "vocabulary");
    s->tok = tok;
    if (h->flags & SL__TOK_CHARS) {
        sl_status status = sl_detokenizer_create(&s->detok, tok, false, err);
        if (status != SL_OK) {
            free(s);
            return status;
        }
        begin(s);
    }
    *out = s;
    return SL_OK;
}

void sl__speller_destroy(sl__speller *s)
{
    if (!s) return;
    sl_detokenizer_destroy(s->detok);
    free(s);
}

static bool is_byte(sl__speller *s, uint32_t id)
{
    const sl__tok_header *h = s->tok->header;
    if (!(h->flags & SL__TOK_BYTE_FALLBACK)) return false;
    for (unsigned i = 0; i < 256; i++) {
        if (h->byte_ids[i] != id) continue;
        s->byte = (char)i;
        return true;
    }
    return false;
}

sl__spelled sl__speller_spell(sl__speller *s, uint32_t id, const char **text, size_t *size)
{
    unsigned flags = s->tok->tokens[id].size_flags & 0xffu;
    uint32_t bytes;
    *text = sl__token_bytes(s->tok, id, &bytes);
    *size = bytes;
    if (flags == 0) return SL__SPELLED_HOLE;
    if ((flags & SL__TOK_SPECIAL) || id == s->tok->header->unk_id) return SL__SPELLED_SPECIAL;
    if (flags & SL__TOK_ADDED) return SL__SPELLED_ADDED;
    if (!s->detok) return SL__SPELLED_TEXT;
    if (is_byte(s, id)) {
        *text = &s->byte;
        *size = 1;
        return SL__SPELLED_TEXT;
    }
    size_t held;
    *text = sl_detokenizer_push(s->detok, (int32_t)id, size);
    if (*size == 0) sl_detokenizer_finish(s->detok, &held);
    return SL__SPELLED_TEXT;
}
