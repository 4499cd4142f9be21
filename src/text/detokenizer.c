/* Decoding: from tokens to text, a token at a time. The whole decode is the streaming one run to
 * its end, so the two agree.
 *
 *     byte-level   token ─ bytes ─ mender (holds an incomplete character) ─┐
 *                                                                          ├─ steps ─ out
 *     characters   token ─ text ───────────────────────────────────────────┘
 *
 * Each step hands what it makes to the next. Before SL__STEP_DECODE_FUSE, and where tokens are
 * text, a step is given one token after the other; behind it, pieces of the one long token that
 * they all became. So a strip there works at the ends of the text, and holds back what may be its
 * end.
 *
 * SL__STEP_DECODE_BYTES joins a run of byte tokens ("<0xE4>") into one token of text. If any byte
 * of a run is wrong, the reference gives a U+FFFD for each of its bytes, right ones too: so a run
 * is held back until its end, or until it is known to be wrong. A run of RUN_MAX bytes ends there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

#define REPLACEMENT "\xef\xbf\xbd"
#define RUN_MAX     4096u
#define ROOM_MAX    ((uint64_t)1 << 26)

typedef struct step_state {
    sl__buffer text; /* what it made of a token */
    bool begun;      /* metaspace: a token was there; strip: the beginning is over */
    uint32_t taken;  /* strip: characters dropped at the beginning */
    uint32_t held;   /* strip: characters that may be dropped at the end */
} step_state;

typedef struct decoder {
    const sl_tokenizer *tok; /* borrowed */
    bool skip_special;
    bool begun; /* a token was there */
    sl__utf8_mender mender;
    sl__buffer mended; /* what came out of it, where steps follow */
    unsigned char run[RUN_MAX];
    size_t run_size, run_good; /* run_good: bytes of whole characters */
    bool run_bad;              /* the run is wrong; what was held of it is out */
    uint32_t fused;            /* steps from here on see one token */
    step_state *states;        /* [decode_count] */
    sl__buffer out;
} decoder;

/* ---- room ------------------------------------------------------------------------------------ */

size_t sl__decode_room(const sl_tokenizer *tok)
{
    const sl__tok_header *h = tok->header;
    bool chars = h->flags & SL__TOK_CHARS;
    /* At worst every byte, and those held back, becomes a U+FFFD of three bytes. */
    uint64_t room = chars ? (uint64_t)tok->token_bytes_max + 1
                          : ((uint64_t)tok->token_bytes_max + sizeof(sl__utf8_mender)) * 3;
    for (uint32_t i = 0; i < h->decode_count && room <= ROOM_MAX; i++) {
        const sl__tok_step *s = &tok->decodes[i];
        if (s->kind == SL__STEP_DECODE_BYTES) room += RUN_MAX * 3;
        if (s->kind == SL__STEP_DECODE_STRIP) room += (uint64_t)s->invert * s->size;
        if (s->kind == SL__STEP_DECODE_REPLACE && s->extra_size > s->size) {
            /* Both factors are below 2^31. */
            room *= ((uint64_t)s->extra_size + s->size - 1) / s->size;
        }
    }
    return room <= ROOM_MAX ? (size_t)room : 0;
}

static void decoder_free(decoder *d)
{
    for (uint32_t i = 0; d->states && i < d->tok->header->decode_count; i++)
        sl__buffer_free(&d->states[i].text);
    free(d->states);
    sl__buffer_free(&d->mended);
    sl__buffer_free(&d->out);
}

static bool decoder_init(decoder *d, const sl_tokenizer *tok, bool skip_special)
{
    const sl__tok_header *h = tok->header;
    bool ok = true;
    memset(d, 0, sizeof *d);
    d->tok = tok;
    d->skip_special = skip_special;
    sl__buffer_init(&d->mended, SIZE_MAX - 1);
    sl__buffer_init(&d->out, SIZE_MAX - 1);
    d->states = calloc(h->decode_count ? h->decode_count : 1, sizeof *d->states);
    if (!d->states) return false;
    d->fused = h->flags & SL__TOK_CHARS ? h->decode_count : 0;
    for (uint32_t i = 0; i < h->decode_count; i++) {
        uint32_t kind = tok->decodes[i].kind;
        bool makes = kind == SL__STEP_DECODE_METASPACE || kind == SL__STEP_DECODE_REPLACE;
        sl__buffer_init(&d->states[i].text, SIZE_MAX - 1);
        if (makes) ok = ok && sl__buffer_reserve(&d->states[i].text, tok->decode_room);
        if (kind == SL__STEP_DECODE_FUSE && i < d->fused) d->fused = i;
    }
    /* Without steps only what is left at the end goes there. */
    size_t room = h->decode_count > 0 ? tok->decode_room : sizeof REPLACEMENT;
    return ok && sl__buffer_reserve(&d->mended, room) &&
           sl__buffer_reserve(&d->out, tok->decode_room);
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void give(decoder *d, uint32_t index, const char *text, size_t size);

/* Every `pattern` in text by `extra`. */
static void replace(decoder *d, uint32_t index, const char *text, size_t size, const char *extra,
                    size_t extra_size)
{
    const sl__tok_step *step = &d->tok->decodes[index];
    const char *pattern = d->tok->strings + step->offset;
    sl__buffer *made = &d->states[index].text;
    sl__buffer_clear(made);
    for (size_t done = 0; done < size;) {
        size_t at = sl__find_bytes(text, size, done, pattern, step->size);
        sl__buffer_append(made, text + done, at - done);
        if (at < size) sl__buffer_append(made, extra, extra_size);
        done = at + step->size;
    }
    if (made->failed) d->out.failed = true;
    give(d, index + 1, made->data, made->size);
}

static void metaspace(decoder *d, uint32_t index, const char *text, size_t size)
{
    step_state *state = &d->states[index];
    bool drop = d->tok->decodes[index].behavior && !state->begun;
    if (index < d->fused) state->begun = true;
    replace(d, index, text, size, " ", drop ? 0 : 1);
}

/* The value of "<0xE4>", or -1. */
static int byte_token(const char *text, size_t size)
{
    int value = 0;
    if (size != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') return -1;
    for (int i = 3; i < 5; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static void give_replacements(decoder *d, uint32_t index, size_t count)
{
    for (size_t i = 0; i < count; i++)
        give(d, index, REPLACEMENT, sizeof REPLACEMENT - 1);
}

/* A run is over. */
static void end_run(decoder *d, uint32_t index)
{
    size_t size = d->run_size;
    bool good = d->run_good == size;
    d->run_size = d->run_good = 0;
    d->run_bad = false;
    if (size == 0) return;
    if (good)
        give(d, index + 1, (const char *)d->run, size);
    else
        give_replacements(d, index + 1, size);
}

static void take_byte(decoder *d, uint32_t index, unsigned char byte)
{
    uint32_t cp;
    if (d->run_bad) {
        give_replacements(d, index + 1, 1);
        return;
    }
    d->run[d->run_size++] = byte;
    int step = sl__utf8_step(d->run + d->run_good, d->run_size - d->run_good, &cp);
    if (step < 0) {
        end_run(d, index);
        d->run_bad = true;
        return;
    }
    if (step > 0) d->run_good = d->run_size;
    if (d->run_size < RUN_MAX) return;
    /* What is complete goes out, the beginning of a character starts the next run. */
    unsigned char tail[4];
    size_t left = d->run_size - d->run_good;
    memcpy(tail, d->run + d->run_good, left);
    d->run_size = d->run_good;
    end_run(d, index);
    memcpy(d->run, tail, left);
    d->run_size = left;
}

static void bytes(decoder *d, uint32_t index, const char *text, size_t size)
{
    int byte = byte_token(text, size);
    if (byte >= 0) {
        take_byte(d, index, (unsigned char)byte);
        return;
    }
    end_run(d, index);
    give(d, index + 1, text, size);
}

/* How many of mark text begins with, at most max. */
static uint32_t leading(const char *text, size_t size, const char *mark, uint32_t n, uint32_t max)
{
    uint32_t count = 0;
    while (count < max && sl__begins_with(text + count * n, size - count * n, mark, n))
        count++;
    return count;
}

static uint32_t trailing(const char *text, size_t size, const char *mark, uint32_t n, uint32_t max)
{
    uint32_t count = 0;
    while (count < max && size - count * n >= n &&
           memcmp(text + size - (count + 1) * n, mark, n) == 0) {
        count++;
    }
    return count;
}

static void strip(decoder *d, uint32_t index, const char *text, size_t size)
{
    const sl__tok_step *step = &d->tok->decodes[index];
    step_state *state = &d->states[index];
    const char *mark = d->tok->strings + step->offset;
    uint32_t n = step->size;
    if (index < d->fused) {
        uint32_t cut = leading(text, size, mark, n, step->behavior) * n;
        text += cut;
        size -= cut;
        give(d, index + 1, text, size - trailing(text, size, mark, n, step->invert) * n);
        return;
    }
    if (!state->begun) {
        uint32_t cut = leading(text, size, mark, n, step->behavior - state->taken);
        state->taken += cut;
        text += cut * n;
        size -= cut * n;
        state->begun = size > 0 || state->taken == step->behavior;
    }
    if (size == 0) return;
    uint32_t end = trailing(text, size, mark, n, step->invert);
    bool all = end * n == size;
    /* Of what was held and is at the end now, no more than the limit stays held. */
    uint32_t keep = all ? step->invert - end : 0;
    for (; state->held > keep; state->held--)
        give(d, index + 1, mark, n);
    if (!all) give(d, index + 1, text, size - end * n);
    state->held += end;
}

static void give(decoder *d, uint32_t index, const char *text, size_t size)
{
    if (index == d->tok->header->decode_count) {
        sl__buffer_append(&d->out, text, size);
        return;
    }
    const sl__tok_step *step = &d->tok->decodes[index];
    switch (step->kind) {
    case SL__STEP_DECODE_METASPACE:
        metaspace(d, index, text, size);
        break;
    case SL__STEP_DECODE_REPLACE:
        replace(d, index, text, size, d->tok->strings + step->extra_offset, step->extra_size);
        break;
    case SL__STEP_DECODE_BYTES:
        bytes(d, index, text, size);
        break;
    case SL__STEP_DECODE_STRIP:
        strip(d, index, text, size);
        break;
    default:
        give(d, index + 1, text, size);
    }
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static void push(decoder *d, int32_t id)
{
    const sl__tok_header *h = d->tok->header;
    /* Ids outside the vocabulary (a model's padding) and holes are no tokens. */
    if (id < 0 || (uint32_t)id >= h->vocab_size || d->tok->tokens[id].size_flags == 0) return;
    if (d->skip_special && (d->tok->tokens[id].size_flags & SL__TOK_SPECIAL)) return;
    uint32_t size;
    const char *text = sl__token_bytes(d->tok, (uint32_t)id, &size);
    if (h->flags & SL__TOK_CHARS) {
        if (d->begun && (h->flags & SL__TOK_APART)) sl__buffer_append(&d->out, " ", 1);
        d->begun = true;
        give(d, 0, text, size);
    } else if (h->decode_count == 0) {
        sl__utf8_mend(&d->mender, text, size, &d->out);
    } else {
        sl__buffer_clear(&d->mended);
        if (!sl__utf8_mend(&d->mender, text, size, &d->mended)) d->out.failed = true;
        give(d, 0, d->mended.data, d->mended.size);
    }
}

/* What was held back. That the text has begun is not forgotten. */
static void finish(decoder *d)
{
    const sl__tok_header *h = d->tok->header;
    if (!(h->flags & SL__TOK_CHARS)) {
        sl__buffer_clear(&d->mended);
        if (!sl__utf8_mend_end(&d->mender, &d->mended)) d->out.failed = true;
        if (d->mended.size > 0) give(d, 0, d->mended.data, d->mended.size);
    }
    for (uint32_t i = 0; i < h->decode_count; i++) {
        if (d->tok->decodes[i].kind == SL__STEP_DECODE_BYTES) end_run(d, i);
        d->states[i].held = 0;
    }
}

sl_status sl_tokenizer_decode(const sl_tokenizer *tok, const int32_t *ids, size_t count,
                              bool skip_special, char **text, size_t *size, sl_error *err)
{
    decoder d;
    bool ok = decoder_init(&d, tok, skip_special);
    for (size_t i = 0; ok && i < count; i++) {
        push(&d, ids[i]);
        ok = !d.out.failed;
    }
    if (ok) finish(&d);
    ok = ok && !d.out.failed;
    if (ok) {
        *text = d.out.data;
        *size = d.out.size;
        d.out.data = NULL;
    }
    decoder_free(&d);
    return ok ? SL_OK : SL_FAIL_NOMEM(err, "decoded text");
}

struct sl_detokenizer {
    decoder decoder; /* its buffers have room for the longest token: a push allocates nothing */
};

sl_status sl_detokenizer_create(sl_detokenizer **out, const sl_tokenizer *tok, bool skip_special,
                                sl_error *err)
{
    *out = NULL;
    sl_detokenizer *detok = malloc(sizeof *detok);
    if (!detok) return SL_FAIL_NOMEM(err, "detokenizer");
    if (!decoder_init(&detok->decoder, tok, skip_special)) {
        sl_detokenizer_destroy(detok);
        return SL_FAIL_NOMEM(err, "detokenizer");
    }
    *out = detok;
    return SL_OK;
}

void sl_detokenizer_destroy(sl_detokenizer *detok)
{
    if (!detok) return;
    decoder_free(&detok->decoder);
    free(detok);
}

static const char *given_out(const decoder *d, size_t *size)
{
    assert(!d->out.failed);
    *size = d->out.size;
    return d->out.data;
}

const char *sl_detokenizer_push(sl_detokenizer *detok, int32_t id, size_t *size)
{
    sl__buffer_clear(&detok->decoder.out);
    push(&detok->decoder, id);
    return given_out(&detok->decoder, size);
}

const char *sl_detokenizer_finish(sl_detokenizer *detok, size_t *size)
{
    sl__buffer_clear(&detok->decoder.out);
    finish(&detok->decoder);
    return given_out(&detok->decoder, size);
}
