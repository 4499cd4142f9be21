/* The normalising steps of a tokenizer, one after the other over a whole text. A step that changes
 * nothing leaves the text where it is; one that does writes it into the scratch buffer that the
 * text does not stand in. */
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "base/fail.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

sl_status sl__normalizer_init(sl__normalizer *n, const sl__tok_step *steps, uint32_t count,
                              const char *strings, pcre2_code *const *codes, sl_error *err)
{
    bool regex = false;
    *n = (sl__normalizer){.steps = steps, .count = count, .strings = strings, .codes = codes};
    sl__buffer_init(&n->scratch[0], SIZE_MAX - 1);
    sl__buffer_init(&n->scratch[1], SIZE_MAX - 1);
    for (uint32_t i = 0; i < count; i++)
        regex = regex || codes[i];
    if (!regex) return SL_OK;
    n->match = pcre2_match_data_create(1, NULL);
    n->limits = pcre2_match_context_create(NULL);
    return n->match && n->limits ? SL_OK : SL_FAIL_NOMEM(err, "normaliser");
}

void sl__normalizer_free(sl__normalizer *n)
{
    pcre2_match_data_free(n->match);
    pcre2_match_context_free(n->limits);
    sl__buffer_free(&n->scratch[0]);
    sl__buffer_free(&n->scratch[1]);
}

size_t sl__find_bytes(const char *text, size_t size, size_t from, const char *what, size_t n)
{
    while (from < size) {
        const char *at = memchr(text + from, (unsigned char)what[0], size - from);
        if (!at) return size;
        from = (size_t)(at - text);
        if (sl__begins_with(at, size - from, what, n)) return from;
        from++;
    }
    return size;
}

/* A text on its way through the steps. */
typedef struct passage {
    sl__normalizer *n;
    const sl__tok_step *step;
    pcre2_code *code;
    const char *pattern, *extra;
    const char *text;
    size_t size;
    sl__buffer *out; /* empty */
    bool moved;      /* what stood at the beginning is gone */
    sl_error *err;
} passage;

static void take_out(passage *p)
{
    p->text = p->out->data;
    p->size = p->out->size;
}

static sl_status prepend(passage *p)
{
    if (p->size == 0 || p->step->size == 0) return SL_OK;
    sl__buffer_append(p->out, p->pattern, p->step->size);
    sl__buffer_append(p->out, p->text, p->size);
    take_out(p);
    return SL_OK;
}

static sl_status replace_literal(passage *p)
{
    size_t done = 0, at = sl__find_bytes(p->text, p->size, 0, p->pattern, p->step->size);
    if (at == p->size) return SL_OK;
    if (at == 0 && p->step->extra_size == 0) p->moved = true;
    while (at < p->size) {
        sl__buffer_append(p->out, p->text + done, at - done);
        if (!sl__buffer_append(p->out, p->extra, p->step->extra_size)) return SL_OK;
        done = at + p->step->size;
        at = sl__find_bytes(p->text, p->size, done, p->pattern, p->step->size);
    }
    sl__buffer_append(p->out, p->text + done, p->size - done);
    take_out(p);
    return SL_OK;
}

static sl_status replace_regex(passage *p)
{
    sl__matches m = {.code = p->code,
                     .data = p->n->match,
                     .limits = p->n->limits,
                     .what = "normalizer",
                     .text = p->text,
                     .size = p->size};
    size_t done = 0, begin = 0, end = 0;
    bool found = true;
    if (p->size == 0) return SL_OK; /* not even an empty match is looked for */
    sl__matches_bound(m.limits, p->size);
    for (;;) {
        SL_TRY(sl__matches_next(&m, &begin, &end, &found, p->err));
        if (!found) break;
        if (begin == 0 && end > 0 && p->step->extra_size == 0) p->moved = true;
        sl__buffer_append(p->out, p->text + done, begin - done);
        if (!sl__buffer_append(p->out, p->extra, p->step->extra_size)) return SL_OK;
        done = end;
    }
    if (!m.any) return SL_OK;
    sl__buffer_append(p->out, p->text + done, p->size - done);
    take_out(p);
    return SL_OK;
}

static sl_status trim(passage *p)
{
    uint32_t cp = 0;
    while ((p->step->behavior & 1) && p->size > 0) {
        int n = sl__utf8_step((const unsigned char *)p->text, p->size, &cp);
        if (!sl__utf8_is_space(cp)) break;
        p->text += n;
        p->size -= (size_t)n;
        p->moved = true;
    }
    while ((p->step->behavior & 2) && p->size > 0) {
        size_t at = p->size - 1;
        while (at > 0 && ((unsigned char)p->text[at] & 0xc0) == 0x80)
            at--;
        sl__utf8_step((const unsigned char *)p->text + at, p->size - at, &cp);
        if (!sl__utf8_is_space(cp)) break;
        p->size = at;
    }
    return SL_OK;
}

static bool is_mark(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_MN || c == UTF8PROC_CATEGORY_MC || c == UTF8PROC_CATEGORY_ME;
}

/* Character by character: marks dropped, or letters made small. */
static sl_status map_chars(passage *p)
{
    bool lowercase = p->step->kind == SL__STEP_LOWERCASE;
    for (size_t i = 0; i < p->size && !p->out->failed;) {
        uint32_t cp = 0;
        char bytes[4];
        int n = sl__utf8_step((const unsigned char *)p->text + i, p->size - i, &cp);
        if (lowercase && cp == 0x130) {
            /* The one letter that becomes two: i and a dot above. */
            sl__buffer_append(p->out, "i\xcc\x87", 3);
        } else if (lowercase) {
            uint32_t lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
            sl__buffer_append(p->out, bytes, sl__utf8_put(lower, bytes));
        } else if (is_mark(cp)) {
            if (i == 0) p->moved = true;
        } else {
            sl__buffer_append(p->out, p->text + i, (size_t)n);
        }
        i += (size_t)n;
    }
    take_out(p);
    return SL_OK;
}

static sl_status run_one(passage *p)
{
    switch (p->step->kind) {
    case SL__STEP_FORM:
        return sl__normalize_form((sl__normal_form)p->step->behavior, &p->text, &p->size, p->out,
                                  p->err);
    case SL__STEP_PREPEND:
        return prepend(p);
    case SL__STEP_REPLACE_LITERAL:
        return replace_literal(p);
    case SL__STEP_REPLACE_REGEX:
        return replace_regex(p);
    case SL__STEP_TRIM:
        return trim(p);
    default:
        return map_chars(p);
    }
}

sl_status sl__normalizer_run(sl__normalizer *n, const char **text, size_t *size, bool *moved,
                             sl_error *err)
{
    passage p = {.n = n, .text = *text, .size = *size, .err = err};
    unsigned next = 0;
    for (uint32_t i = 0; i < n->count && p.size > 0; i++) {
        const char *before = p.text;
        p.step = &n->steps[i];
        p.code = n->codes[i];
        p.pattern = n->strings + p.step->offset;
        p.extra = n->strings + p.step->extra_offset;
        p.out = &n->scratch[next];
        sl__buffer_clear(p.out);
        SL_TRY(run_one(&p));
        if (p.out->failed) return SL_FAIL_NOMEM(err, "normaliser");
        if (p.text != before && p.text == p.out->data) next = !next;
    }
    *text = p.size > 0 ? p.text : *text;
    *size = p.size;
    *moved = p.moved;
    return SL_OK;
}
