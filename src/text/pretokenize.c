/* Pre-tokenising: a text is cut into the pieces that are then merged each on its own.
 *
 * The steps nest: each step hands every piece it makes to the next step, the last to the caller. So
 * nothing is stored but one match block a step, and a regex sees only the piece it was given (its
 * lookaheads end there). A split turns its text into an alternation of matches and gaps; the
 * behaviour says which neighbours of that sequence join and which are dropped.
 */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

/* Backtracking is bounded so that a hostile pattern ends: this many steps a match, and more for a
 * long text, whose runs a match may have to walk back over. */
#define MATCH_STEPS_MIN      10000000u
#define MATCH_STEPS_PER_BYTE 16u
#define MATCH_HEAP_KIB       (1u << 20)

sl_status sl__step_compile(pcre2_code **out, const sl__tok_step *step, const char *strings,
                           const char *path, sl_error *err)
{
    sl__buffer text;
    sl__buffer_init(&text, SL__TOK_STRINGS_MAX);
    const char *pattern = strings + step->offset;
    size_t size = step->size;
    uint32_t options = PCRE2_UTF | PCRE2_LITERAL;
    if (step->kind == SL__STEP_SPLIT_REGEX) {
        sl_status status = sl__regex_translate(&text, pattern, size, path, err);
        if (status != SL_OK) {
            sl__buffer_free(&text);
            return status;
        }
        options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
        pattern = text.data ? text.data : "";
        size = text.size;
    }
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) {
        sl__buffer_free(&text);
        return SL_FAIL_NOMEM(err, "regex");
    }
    int code = 0;
    PCRE2_SIZE where = 0;
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    *out = pcre2_compile((PCRE2_SPTR)pattern, size, options, &code, &where, context);
    pcre2_compile_context_free(context);
    sl__buffer_free(&text);
    if (*out) {
        /* Without a JIT compiler the interpreter gives the same matches. */
        (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
        return SL_OK;
    }
    if (code == PCRE2_ERROR_HEAP_FAILED) return SL_FAIL_NOMEM(err, "regex");
    PCRE2_UCHAR why[128] = "";
    pcre2_get_error_message(code, why, sizeof why);
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: pre_tokenizer regex: %s: %.*s", path,
                   (const char *)why, (int)(step->size < 500 ? step->size : 500),
                   strings + step->offset);
}

sl_status sl__pretok_init(sl__pretok *pretok, const sl_tokenizer *tok, sl__piece_fn fn, void *ctx,
                          sl_error *err)
{
    uint32_t count = tok->header->step_count;
    memset(pretok, 0, sizeof *pretok);
    pretok->tok = tok;
    pretok->fn = fn;
    pretok->ctx = ctx;
    sl__buffer_init(&pretok->spaced, SIZE_MAX - 1);
    pretok->match = calloc(count ? count : 1, sizeof *pretok->match);
    pretok->limits = pcre2_match_context_create(NULL);
    if (!pretok->match || !pretok->limits) return SL_FAIL_NOMEM(err, "pre-tokeniser");
    for (uint32_t i = 0; i < count; i++) {
        if (!tok->codes[i]) continue;
        pretok->match[i] = pcre2_match_data_create(1, NULL);
        if (!pretok->match[i]) return SL_FAIL_NOMEM(err, "pre-tokeniser");
    }
    pcre2_set_heap_limit(pretok->limits, MATCH_HEAP_KIB);
    return SL_OK;
}

void sl__pretok_free(sl__pretok *pretok)
{
    for (uint32_t i = 0; pretok->match && i < pretok->tok->header->step_count; i++)
        pcre2_match_data_free(pretok->match[i]);
    free(pretok->match);
    pcre2_match_context_free(pretok->limits);
    sl__buffer_free(&pretok->spaced);
}

static sl_status run_step(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                          sl_error *err);

/* A split under way: the span that the next one may still join. */
typedef struct splitter {
    sl__pretok *pretok;
    uint32_t next_step;
    sl__step_behavior behavior;
    const char *text;
    size_t begin, end; /* the pending span */
    bool pending, pending_is_match;
    bool last_is_match; /* of the span before the one that comes */
} splitter;

static sl_status flush(splitter *s, sl_error *err)
{
    if (!s->pending || s->begin == s->end) return SL_OK;
    return run_step(s->pretok, s->next_step, s->text + s->begin, s->end - s->begin, err);
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
        return run_step(s->pretok, s->next_step, s->text + begin, end - begin, err);
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

/* One search from `from`. *found false: there is no further match. */
static sl_status search(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                        size_t from, size_t *begin, size_t *end, bool *found, sl_error *err)
{
    const pcre2_code *code = pretok->tok->codes[index];
    pcre2_match_data *match = pretok->match[index];
    int rc =
        pcre2_match(code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK, match, pretok->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(code, (PCRE2_SPTR)text, size, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         match, pretok->limits);
    }
    *found = rc > 0;
    if (rc > 0) {
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(match);
        *begin = span[0];
        *end = span[1];
        assert(from <= *begin && *begin <= *end && *end <= size);
        return SL_OK;
    }
    if (rc == PCRE2_ERROR_NOMATCH) return SL_OK;
    if (rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAPLIMIT) {
        return SL_FAIL_NOMEM(err, "pre-tokeniser regex");
    }
    PCRE2_UCHAR why[128] = "";
    pcre2_get_error_message(rc, why, sizeof why);
    return SL_FAIL(err, SL_EUNSUPPORTED, "pre_tokenizer regex gave up on a text of %zu bytes: %s",
                   size, (const char *)why);
}

static size_t char_length(const char *text, size_t size)
{
    size_t n = 1;
    while (n < size && ((unsigned char)text[n] & 0xc0) == 0x80)
        n++;
    return n;
}

static sl_status split(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                       sl_error *err)
{
    const sl__tok_step *step = &pretok->tok->steps[index];
    splitter s = {.pretok = pretok,
                  .next_step = index + 1,
                  .behavior = (sl__step_behavior)step->behavior,
                  .text = text};
    bool matches = !step->invert, found = true, any = false;
    size_t from = 0, done = 0, begin, end;
    while (from <= size) {
        SL_TRY(search(pretok, index, text, size, from, &begin, &end, &found, err));
        if (!found) break;
        if (begin == end && any && end == done) {
            /* An empty match right behind the last one does not count. */
            if (from == size) break;
            from += char_length(text + from, size - from);
            continue;
        }
        if (done < begin) SL_TRY(take_span(&s, done, begin, !matches, err));
        SL_TRY(take_span(&s, begin, end, matches, err));
        any = true;
        from = done = end;
    }
    if (done < size) SL_TRY(take_span(&s, done, size, !matches, err));
    return flush(&s, err);
}

static sl_status add_space(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                           sl_error *err)
{
    if (text[0] == ' ') return run_step(pretok, index + 1, text, size, err);
    sl__buffer_clear(&pretok->spaced);
    sl__buffer_append(&pretok->spaced, " ", 1);
    if (!sl__buffer_append(&pretok->spaced, text, size)) {
        return SL_FAIL_NOMEM(err, "pre-tokeniser");
    }
    return run_step(pretok, index + 1, pretok->spaced.data, pretok->spaced.size, err);
}

static sl_status run_step(sl__pretok *pretok, uint32_t index, const char *text, size_t size,
                          sl_error *err)
{
    assert(size > 0);
    if (index == pretok->tok->header->step_count) return pretok->fn(pretok->ctx, text, size, err);
    if (pretok->tok->steps[index].kind == SL__STEP_ADD_SPACE) {
        return add_space(pretok, index, text, size, err);
    }
    return split(pretok, index, text, size, err);
}

sl_status sl__pretokenize(sl__pretok *pretok, const char *text, size_t size, sl_error *err)
{
    if (size == 0) return SL_OK;
    uint64_t steps = MATCH_STEPS_MIN + (uint64_t)size * MATCH_STEPS_PER_BYTE;
    pcre2_set_match_limit(pretok->limits, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    return run_step(pretok, 0, text, size, err);
}
