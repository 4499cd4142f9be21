/* Decoding. A token is bytes; bytes become text as they come, and a character that is not yet
 * complete is held back. The whole decode is the streaming one run to its end, so the two agree. */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

/* The bytes that an id stands for. Ids outside the vocabulary (a model's padding) and holes have
 * none. */
static const char *bytes_of(const sl_tokenizer *tok, int32_t id, bool skip_special, uint32_t *size)
{
    *size = 0;
    if (id < 0 || (uint32_t)id >= tok->header->vocab_size) return "";
    if (skip_special && (tok->tokens[id].size_flags & SL__TOK_SPECIAL)) return "";
    return sl__token_bytes(tok, (uint32_t)id, size);
}

sl_status sl_tokenizer_decode(const sl_tokenizer *tok, const int32_t *ids, size_t count,
                              bool skip_special, char **text, size_t *size, sl_error *err)
{
    sl__buffer out;
    sl__utf8_mender mender = {.held_size = 0};
    sl__buffer_init(&out, SIZE_MAX - 1);
    bool ok = sl__buffer_reserve(&out, 0);
    for (size_t i = 0; ok && i < count; i++) {
        uint32_t n;
        const char *bytes = bytes_of(tok, ids[i], skip_special, &n);
        ok = sl__utf8_mend(&mender, bytes, n, &out);
    }
    ok = ok && sl__utf8_mend_end(&mender, &out);
    if (!ok) {
        sl__buffer_free(&out);
        return SL_FAIL_NOMEM(err, "decoded text");
    }
    *text = out.data;
    *size = out.size;
    return SL_OK;
}

struct sl_detokenizer {
    const sl_tokenizer *tok; /* borrowed */
    bool skip_special;
    sl__utf8_mender mender;
    sl__buffer out; /* has room for the longest token: a push allocates nothing */
};

sl_status sl_detokenizer_create(sl_detokenizer **out, const sl_tokenizer *tok, bool skip_special,
                                sl_error *err)
{
    uint64_t room;
    *out = NULL;
    sl_detokenizer *detok = calloc(1, sizeof *detok);
    if (!detok) return SL_FAIL_NOMEM(err, "detokenizer");
    detok->tok = tok;
    detok->skip_special = skip_special;
    sl__buffer_init(&detok->out, SIZE_MAX - 1);
    /* At worst every byte, and those held back, becomes a U+FFFD of three bytes. */
    if (!sl__mul_u64(&room, (uint64_t)tok->token_bytes_max + 4, 3) || room > SIZE_MAX / 2 ||
        !sl__buffer_reserve(&detok->out, (size_t)room)) {
        free(detok);
        return SL_FAIL_NOMEM(err, "detokenizer");
    }
    *out = detok;
    return SL_OK;
}

void sl_detokenizer_destroy(sl_detokenizer *detok)
{
    if (!detok) return;
    sl__buffer_free(&detok->out);
    free(detok);
}

static const char *given_out(sl_detokenizer *detok, bool ok, size_t *size)
{
    assert(ok);
    *size = detok->out.size;
    return detok->out.data;
}

const char *sl_detokenizer_push(sl_detokenizer *detok, int32_t id, size_t *size)
{
    uint32_t n;
    const char *bytes = bytes_of(detok->tok, id, detok->skip_special, &n);
    sl__buffer_clear(&detok->out);
    return given_out(detok, sl__utf8_mend(&detok->mender, bytes, n, &detok->out), size);
}

const char *sl_detokenizer_finish(sl_detokenizer *detok, size_t *size)
{
    sl__buffer_clear(&detok->out);
    return given_out(detok, sl__utf8_mend_end(&detok->mender, &detok->out), size);
}
