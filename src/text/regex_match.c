/* Regexes at work: compiling the pattern of a step, and finding its matches in a text. The
 * translation that comes first is in regex_translate.c. */
#include <string.h>

#include "base/fail.h"
#include "text/tokenizer_parts.h"

/* Backtracking is bounded so that a hostile pattern ends: this many steps a match, and more for a
 * long text, whose runs a match may have to walk back over. */
#define MATCH_STEPS_MIN      10000000u
#define MATCH_STEPS_PER_BYTE 16u
#define MATCH_HEAP_KIB       (1u << 20)

static sl_status compile(pcre2_code **out, const char *pattern, size_t size, uint32_t options,
                         int *code, sl_error *err)
{
    PCRE2_SIZE where = 0;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    if (!context) return SL_FAIL_NOMEM(err, "regex");
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    *out = pcre2_compile((PCRE2_SPTR)pattern, size, options, code, &where, context);
    pcre2_compile_context_free(context);
    if (!*out && *code == PCRE2_ERROR_HEAP_FAILED) return SL_FAIL_NOMEM(err, "regex");
    /* Without a JIT compiler the interpreter gives the same matches. */
    if (*out) (void)pcre2_jit_compile(*out, PCRE2_JIT_COMPLETE);
    return SL_OK;
}

sl_status sl__step_compile(pcre2_code **out, const sl__tok_step *step, const char *strings,
                           const char *path, sl_error *err)
{
    const char *pattern = strings + step->offset;
    const char *what = step->kind == SL__STEP_REPLACE_REGEX ? "normalizer" : "pre_tokenizer";
    bool regex = step->kind == SL__STEP_SPLIT_REGEX || step->kind == SL__STEP_REPLACE_REGEX;
    int code = 0;
    *out = NULL;
    if (step->kind == SL__STEP_SPLIT_LITERAL) {
        SL_TRY(compile(out, pattern, step->size, PCRE2_UTF | PCRE2_LITERAL, &code, err));
    } else if (regex) {
        sl__buffer text;
        sl__buffer_init(&text, SL__TOK_STRINGS_MAX);
        sl_status status = sl__regex_translate(&text, pattern, step->size, what, path, err);
        if (status == SL_OK) {
            status = compile(out, text.data ? text.data : "", text.size,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                             &code, err);
        }
        sl__buffer_free(&text);
        if (status != SL_OK) return status;
    } else {
        return SL_OK;
    }
    if (*out) return SL_OK;
    PCRE2_UCHAR why[128] = "";
    pcre2_get_error_message(code, why, sizeof why);
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s regex: %s: %.*s", path, what, (const char *)why,
                   (int)(step->size < 500 ? step->size : 500), pattern);
}

void sl__matches_bound(pcre2_match_context *limits, size_t size)
{
    uint64_t steps = MATCH_STEPS_MIN + (uint64_t)size * MATCH_STEPS_PER_BYTE;
    pcre2_set_match_limit(limits, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    pcre2_set_heap_limit(limits, MATCH_HEAP_KIB);
}

/* One search from m->from. */
static sl_status search(sl__matches *m, size_t *begin, size_t *end, bool *found, sl_error *err)
{
    PCRE2_SPTR text = (PCRE2_SPTR)m->text;
    int rc = pcre2_match(m->code, text, m->size, m->from, PCRE2_NO_UTF_CHECK, m->data, m->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT) {
        rc = pcre2_match(m->code, text, m->size, m->from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                         m->data, m->limits);
    }
    *found = rc > 0;
    if (rc > 0) {
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(m->data);
        *begin = span[0];
        *end = span[1];
        assert(m->from <= *begin && *begin <= *end && *end <= m->size);
        return SL_OK;
    }
    if (rc == PCRE2_ERROR_NOMATCH) return SL_OK;
    if (rc == PCRE2_ERROR_NOMEMORY || rc == PCRE2_ERROR_HEAPLIMIT) {
        return SL_FAIL(err, SL_ENOMEM, "out of memory (%s regex)", m->what);
    }
    PCRE2_UCHAR why[128] = "";
    pcre2_get_error_message(rc, why, sizeof why);
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s regex gave up on a text of %zu bytes: %s", m->what,
                   m->size, (const char *)why);
}

static size_t char_length(const char *text, size_t size)
{
    size_t n = 1;
    while (n < size && ((unsigned char)text[n] & 0xc0) == 0x80)
        n++;
    return n;
}

sl_status sl__matches_next(sl__matches *m, size_t *begin, size_t *end, bool *found, sl_error *err)
{
    *found = false;
    while (m->from <= m->size) {
        SL_TRY(search(m, begin, end, found, err));
        if (!*found) return SL_OK;
        if (*begin != *end || !m->any || *end != m->done) {
            m->any = true;
            m->from = m->done = *end;
            return SL_OK;
        }
        *found = false;
        if (m->from == m->size) return SL_OK;
        m->from += char_length(m->text + m->from, m->size - m->from);
    }
    return SL_OK;
}
