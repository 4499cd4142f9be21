/* Pre-tokenising: a text is cut into the pieces that are then merged each on its own.
 *
 * The steps nest: each step hands every piece it makes to the next step, the last to the caller. So
 * nothing is stored but one match block a step, and a regex sees only the piece it was given (its
 * lookaheads end there). A split turns its text into an alternation of matches and gaps; the
 * behaviour says which neighbours of that sequence join and which are dropped. The steps that put
 * a mark before a text write their text into a buffer of their own.
 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/tokenizer_parts.h"

sl_status sl__pretok_init(sl__pretok *pretok, const sl_tokenizer *tok, sl__piece_fn fn, void *ctx,
                          sl_error *err)
{
    uint32_t count = tok->header->step_count;
    memset(pretok, 0, sizeof *pretok);
    pretok->tok = tok;
    pretok->fn = fn;
    pretok->ctx = ctx;
    pretok->match = calloc(count ? count : 1, sizeof *pretok->match);
    pretok->changed = calloc(count ? count : 1, sizeof *pretok->changed);
    pretok->limits = pcre2_match_context_create(NULL);
    if (!pretok->match || !pretok->changed || !pretok->limits) {
        return SL_FAIL_NOMEM(err, "pre-tokeniser");
    }
    for (uint32_t i = 0; i < count; i++) {
        sl__buffer_init(&pretok->changed[i], SIZE_MAX - 1);
        if (!tok->cut_codes[i]) continue;
        pretok->match[i] = pcre2_match_data_create(1, NULL);
        if (!pretok->match[i]) return SL_FAIL_NOMEM(err, "pre-tokeniser");
    }
    return SL_OK;
}

void sl__pretok_free(sl__pretok *pretok)
{
    for (uint32_t i = 0; i < pretok->tok->header->step_count; i++) {
        if (pretok->match) pcre2_match_data_free(pretok->match[i]);
        if (pretok->changed) sl__buffer_free(&pretok->changed[i]);
    }
    free(pretok->match);
    free(pretok->changed);
    pcre2_match_context_free(pretok->limits);
}

/* first: the text stands at the beginning of the whole text. */
static sl_status run_step(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                          bool first, sl_error *err);

/* A split under way: the span that the next one may still join. */
typedef struct splitter {
    sl__pretok *pretok;
    uint32_t next_step;
    sl__step_behavior behavior;
    const char *text;
    bool first;        /* of the text */
    size_t begin, end; /* the pending span */
    bool pending, pending_is_match;
    bool last_is_match; /* of the span before the one that comes */
} splitter;

static sl_status give_on(splitter *s, size_t begin, size_t end, sl_error *err)
{
    return run_step(s->pretok, s->next_step, s->text + begin, end - begin, s->first && begin == 0,
                    err);
}

static sl_status flush(splitter *s, sl_error *err)
{
    if (!s->pending || s->begin == s->end) return SL_OK;
    return give_on(s, s->begin, s->end, err);
}

static bool joins_pending(const splitter *s, bool is_match)
{
    if (!s->pending) return false;
    switch (s->behavior) {
    case SL__CONTIGUOUS:
        return is_match == s->last_is_match;
    case SL__MERGED_WITH_PREVIOUS:
        return is_match && !s->last_is_match;
    case SL__MERGED_WITH_NEXT:
        return !is_match && s->pending_is_match;
    default:
        return false;
    }
}

/* Takes the next span of the text, a match or a gap. A span may be empty: it still separates. */
static sl_status take_span(splitter *s, size_t begin, size_t end, bool is_match, sl_error *err)
{
    if (s->behavior == SL__ISOLATED || s->behavior == SL__REMOVED) {
        if (begin == end || (is_match && s->behavior == SL__REMOVED)) return SL_OK;
        return give_on(s, begin, end, err);
    }
    if (joins_pending(s, is_match)) {
        s->end = end;
        s->pending_is_match = false;
    } else {
        SL_TRY(flush(s, err));
        s->begin = begin;
        s->end = end;
        s->pending = true;
        s->pending_is_match = is_match;
    }
    s->last_is_match = is_match;
    return SL_OK;
}

static sl_status split(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                       bool first, sl_error *err)
{
    const sl__tok_step *step = &pretok->tok->cuts[index];
    splitter s = {.pretok = pretok,
                  .next_step = index + 1,
                  .behavior = (sl__step_behavior)step->behavior,
                  .text = text,
                  .first = first};
    sl__matches m = {.code = pretok->tok->cut_codes[index],
                     .data = pretok->match[index],
                     .limits = pretok->limits,
                     .what = "pre_tokenizer",
                     .text = text,
                     .size = size};
    bool matches = !step->invert, found = true;
    size_t done = 0, begin = 0, end = 0;
    for (;;) {
        SL_TRY(sl__matches_next(&m, &begin, &end, &found, err));
        if (!found) break;
        if (done < begin) SL_TRY(take_span(&s, done, begin, !matches, err));
        SL_TRY(take_span(&s, begin, end, matches, err));
        done = end;
    }
    if (done < size) SL_TRY(take_span(&s, done, size, !matches, err));
    return flush(&s, err);
}

static sl_status add_space(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                           bool first, sl_error *err)
{
    if (text[0] == ' ') return run_step(pretok, index + 1, text, size, first, err);
    sl__buffer *out = &pretok->changed[index];
    sl__buffer_clear(out);
    sl__buffer_append(out, " ", 1);
    if (!sl__buffer_append(out, text, size)) return SL_FAIL_NOMEM(err, "pre-tokeniser");
    return run_step(pretok, index + 1, out->data, out->size, first, err);
}

/* Every space becomes the mark, and one is put before the text where the scheme says so. */
static sl_status metaspace(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                           bool first, sl_error *err)
{
    const sl__tok_step *step = &pretok->tok->cuts[index];
    const char *mark = pretok->tok->strings + step->offset;
    bool has_mark = text[0] == ' ' || sl__begins_with(text, size, mark, step->size);
    bool wants =
        step->behavior == SL__PREPEND_ALWAYS || (step->behavior == SL__PREPEND_FIRST && first);
    sl__buffer *out = &pretok->changed[index];
    sl__buffer_clear(out);
    if (wants && !has_mark) sl__buffer_append(out, mark, step->size);
    for (size_t from = 0; from < size;) {
        const char *space = memchr(text + from, ' ', size - from);
        size_t end = space ? (size_t)(space - text) : size;
        sl__buffer_append(out, text + from, end - from);
        if (space) sl__buffer_append(out, mark, step->size);
        from = end + 1;
    }
    if (out->failed) return SL_FAIL_NOMEM(err, "pre-tokeniser");
    return run_step(pretok, index + 1, out->data, out->size, first, err);
}

static sl_status run_step(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                          bool first, sl_error *err)
{
    assert(size > 0);
    if (index == pretok->tok->header->step_count) return pretok->fn(pretok->ctx, text, size, err);
    switch (pretok->tok->cuts[index].kind) {
    case SL__STEP_ADD_SPACE:
        return add_space(pretok, index, text, size, first, err);
    case SL__STEP_METASPACE:
        return metaspace(pretok, index, text, size, first, err);
    default:
        return split(pretok, index, text, size, first, err);
    }
}

sl_status sl__pretokenize(sl__pretok *pretok, const char *text, size_t size, bool first,
                          sl_error *err)
{
    if (size == 0) return SL_OK;
    sl__matches_bound(pretok->limits, size);
    return run_step(pretok, 0, text, size, first, err);
}
