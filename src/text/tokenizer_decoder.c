/* The decoder of a tokenizer.json: what makes text of tokens. Its stages become decoding steps of
 * the image; which of them go together is decided here, how they work is in detokenizer.c. */
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "text/tokenizer_draft.h"

typedef struct reader {
    sl__tok_draft *draft;
    bool byte_level; /* tokens are bytes: a ByteLevel decoder must be the first */
    bool any;        /* it, or another one, was there */
    bool fused;      /* what comes now sees all tokens as one */
    bool bytes;      /* ByteFallback was there */
    sl_error *err;
} reader;

static sl_status add_step(reader *r, sl__tok_step step, const char *pattern, const char *extra)
{
    return sl__draft_step(r->draft, SL__DECODE, &step, pattern, extra, r->err);
}

static sl_status metaspace(reader *r, const json_t *stage)
{
    const char *mark;
    sl__prepend_scheme scheme = SL__PREPEND_NEVER;
    bool splits;
    SL_TRY(sl__stage_metaspace(r->draft, stage, "decoder", &mark, &scheme, &splits, r->err));
    const sl__tok_step step = {.kind = SL__STEP_DECODE_METASPACE,
                               .behavior = scheme != SL__PREPEND_NEVER};
    return add_step(r, step, mark, "");
}

static sl_status replace(reader *r, const json_t *stage)
{
    const char *pattern, *content;
    bool regex;
    SL_TRY(sl__stage_pattern(r->draft, stage, &pattern, &regex, r->err));
    SL_TRY(sl__json_str(stage, "content", r->draft->path, &content, r->err));
    const char *what = regex                                   ? "of a Regex"
                       : pattern[0] == '\0'                    ? "of an empty text"
                       : r->fused && !sl__is_one_char(pattern) ? "of several characters behind Fuse"
                                                               : NULL;
    if (what) {
        return SL_FAIL(r->err, SL_EUNSUPPORTED, "%s: decoder Replace %s is not supported",
                       r->draft->path, what);
    }
    return add_step(r, (sl__tok_step){.kind = SL__STEP_DECODE_REPLACE}, pattern, content);
}

static sl_status strip(reader *r, const json_t *stage)
{
    const char *content, *path = r->draft->path;
    uint32_t start = 0, stop = 0;
    SL_TRY(sl__json_str(stage, "content", path, &content, r->err));
    if (!sl__is_one_char(content)) {
        return SL_FAIL(r->err, SL_EFORMAT, "%s: decoder: Strip content is not one character", path);
    }
    SL_TRY(sl__json_u32(stage, "start", path, 0, SL__STRIP_MAX, &start, r->err));
    SL_TRY(sl__json_u32(stage, "stop", path, 0, SL__STRIP_MAX, &stop, r->err));
    const sl__tok_step step = {.kind = SL__STEP_DECODE_STRIP, .behavior = start, .invert = stop};
    return add_step(r, step, content, "");
}

static sl_status byte_fallback(reader *r)
{
    if (r->fused || r->bytes) {
        return SL_FAIL(r->err, SL_EUNSUPPORTED, "%s: decoder ByteFallback %s is not supported",
                       r->draft->path, r->bytes ? "twice" : "behind Fuse");
    }
    r->bytes = true;
    return add_step(r, (sl__tok_step){.kind = SL__STEP_DECODE_BYTES}, "", "");
}

static sl_status byte_level(reader *r)
{
    if (!r->byte_level || r->any) {
        return SL_FAIL(r->err, SL_EUNSUPPORTED, "%s: decoder type ByteLevel %s is not supported",
                       r->draft->path,
                       r->byte_level ? "behind another one" : "without a ByteLevel pre_tokenizer");
    }
    r->fused = true;
    return SL_OK; /* tokens are kept as bytes */
}

static sl_status fuse(reader *r)
{
    if (r->fused) return SL_OK;
    r->fused = true;
    return add_step(r, (sl__tok_step){.kind = SL__STEP_DECODE_FUSE}, "", "");
}

static sl_status decoder(reader *r, const json_t *stage)
{
    static const char *const known[] = {"Metaspace", "Replace", "Strip", "ByteFallback", "Fuse"};
    const char *type;
    SL_TRY(sl__stage_type(r->draft, stage, "decoder", &type, r->err));
    if (strcmp(type, "Sequence") == 0) {
        const json_t *list = json_object_get(stage, "decoders"), *item;
        size_t i;
        if (!json_is_array(list)) {
            return SL_FAIL(r->err, SL_EFORMAT, "%s: decoder: decoders: expected a list",
                           r->draft->path);
        }
        json_array_foreach(list, i, item) SL_TRY(decoder(r, item));
        return SL_OK;
    }
    if (strcmp(type, "ByteLevel") == 0) {
        SL_TRY(byte_level(r));
        r->any = true;
        return SL_OK;
    }
    unsigned i = 0;
    while (i < 5 && strcmp(type, known[i]) != 0)
        i++;
    if (i == 5) return sl__stage_unsupported(r->draft, "decoder", type, r->err);
    if (r->byte_level && !r->any) {
        return SL_FAIL(r->err, SL_EUNSUPPORTED,
                       "%s: decoder type %.100s with a ByteLevel pre_tokenizer is not supported",
                       r->draft->path, type);
    }
    r->any = true;
    switch (i) {
    case 0:
        return metaspace(r, stage);
    case 1:
        return replace(r, stage);
    case 2:
        return strip(r, stage);
    case 3:
        return byte_fallback(r);
    default:
        return fuse(r);
    }
}

sl_status sl__draft_decoder(sl__tok_draft *draft, const json_t *stage, sl_error *err)
{
    reader r = {.draft = draft, .byte_level = !(draft->head.flags & SL__TOK_CHARS), .err = err};
    return decoder(&r, stage);
}
