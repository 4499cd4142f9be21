/* Markdown as it streams.
 *
 *     text ─ a run of one marker character ("**") waits ─ the next character ─ a decision ─ styles
 *
 * Whether a run opens, closes or is text depends on the characters around it: "2 * 3" and
 * "snake_case" have no markers. What was opened and not closed ends with its line, so that a stray
 * asterisk costs a line and not the rest of the answer.
 */
#include <string.h>

#include "cli/markdown.h"

#define RUN_MAX 64u /* characters that wait at most; longer runs mark nothing */

void markdown_begin(markdown *m, markdown_fn fn, void *ctx)
{
    *m = (markdown){.fn = fn, .ctx = ctx, .indent = true, .before = '\n'};
}

static unsigned styles_now(const markdown *m)
{
    if (m->fence_line) return MARKDOWN_FENCE;
    if (m->fence) return MARKDOWN_BLOCK;
    unsigned styles = MARKDOWN_PLAIN;
    if (m->heading) styles |= MARKDOWN_HEADING;
    if (m->bold) styles |= MARKDOWN_BOLD;
    if (m->italic) styles |= MARKDOWN_ITALIC;
    if (m->ticks) styles |= MARKDOWN_CODE;
    return styles;
}

static void tell(const markdown *m, unsigned styles, const char *text, size_t size)
{
    if (size > 0) m->fn(m->ctx, styles, text, size);
}

static void tell_run(markdown *m, unsigned styles)
{
    char text[RUN_MAX];
    memset(text, m->run, m->run_size);
    tell(m, styles, text, m->run_size);
    m->before = (unsigned char)m->run;
    m->run = 0;
    m->run_size = 0;
}

static bool is_space(unsigned char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Bytes of characters beyond ASCII count as letters. */
static bool is_word(unsigned char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || c >= 0x80;
}

/* ---- what a run of markers is ---------------------------------------------------------------- */

/* At the beginning of a line; true: it was one of a code block. */
static bool take_fence(markdown *m, unsigned char next)
{
    if (!m->indent || m->run_size < 3 || (m->run != '`' && m->run != '~')) return false;
    if (m->fence) {
        if (m->run != m->fence || m->run_size < m->fence_size || !is_space(next)) return false;
        m->closing = true;
    } else {
        m->fence = m->run;
        m->fence_size = m->run_size;
        m->closing = false;
    }
    m->fence_line = true;
    tell_run(m, MARKDOWN_FENCE);
    return true;
}

static void take_ticks(markdown *m)
{
    if (m->ticks == 0) {
        m->ticks = m->run_size;
        tell_run(m, styles_now(m));
        return;
    }
    unsigned styles = styles_now(m);
    if (m->ticks == m->run_size) m->ticks = 0;
    tell_run(m, styles);
}

/* One or two asterisks or underscores; three are both. */
static void take_emphasis(markdown *m, unsigned char next)
{
    bool underscore = m->run == '_';
    bool opens = !is_space(next) && !(underscore && is_word(m->before));
    bool closes = !is_space(m->before) && !(underscore && is_word(next));
    bool one = m->run_size == 1 || m->run_size == 3, two = m->run_size >= 2;
    bool ends_italic = one && m->italic && m->italic_mark == m->run && closes;
    bool ends_bold = two && m->bold && closes;
    if (m->run_size > 3 || (!ends_italic && !ends_bold && !opens)) {
        tell_run(m, styles_now(m));
        return;
    }
    unsigned before = styles_now(m);
    if (ends_italic) {
        m->italic = false;
    } else if (one && !m->italic && opens) {
        m->italic = true;
        m->italic_mark = m->run;
    }
    if (ends_bold)
        m->bold = false;
    else if (two && !m->bold && opens)
        m->bold = true;
    tell_run(m, before | styles_now(m)); /* a marker looks like what it marks */
}

/* next: the character after the run. */
static void take_run(markdown *m, unsigned char next)
{
    if (m->run_size >= RUN_MAX) {
        tell_run(m, styles_now(m));
    } else if (take_fence(m, next)) {
        return;
    } else if (m->fence || m->fence_line) {
        tell_run(m, styles_now(m));
    } else if (m->run == '#') {
        m->heading = m->indent && m->run_size <= 6 && is_space(next);
        tell_run(m, styles_now(m));
    } else if (m->run == '`') {
        take_ticks(m);
    } else if (m->run == '~' || m->ticks) {
        tell_run(m, styles_now(m));
    } else {
        take_emphasis(m, next);
    }
    m->indent = false;
}

/* ---- the stream ------------------------------------------------------------------------------ */

static void end_line(markdown *m)
{
    if (m->fence_line && m->closing) m->fence = 0;
    m->fence_line = m->closing = m->heading = m->bold = m->italic = false;
    m->ticks = 0;
    m->indent = true;
}

/* Whether the character may be, or be part of, a marker here. */
static bool may_mark(const markdown *m, char c)
{
    if (c == '#' || c == '~') return m->indent;
    if (c != '`' && c != '*' && c != '_') return false;
    if (m->fence) return m->indent && c == m->fence;
    return m->before != '\\' || m->ticks;
}

/* "```code```" in one line is no beginning of a block: what follows its opening has no backtick. */
static void no_fence_after_all(markdown *m, const char *text, size_t *from, size_t at)
{
    if (!m->fence_line || m->closing || m->fence != '`') return;
    tell(m, styles_now(m), text + *from, at - *from);
    *from = at;
    m->ticks = m->fence_size;
    m->fence = 0;
    m->fence_line = false;
}

void markdown_push(markdown *m, const char *text, size_t size)
{
    size_t from = 0; /* text[from, i) is to be told, all with the styles of now */
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (m->run && (c != m->run || m->run_size == RUN_MAX)) {
            take_run(m, (unsigned char)c);
            from = i;
        }
        bool stays = m->run && c == m->run;
        if (!stays && c == '`') no_fence_after_all(m, text, &from, i);
        if (stays || may_mark(m, c)) {
            tell(m, styles_now(m), text + from, i - from);
            m->run = c;
            m->run_size++;
            from = i + 1;
            continue;
        }
        m->before = m->before == '\\' && c == '\\' ? 0 : (unsigned char)c;
        if (c == '\n') {
            tell(m, styles_now(m), text + from, i + 1 - from);
            from = i + 1;
            end_line(m);
        } else if (c != ' ' && c != '\t') {
            m->indent = false;
        }
    }
    tell(m, styles_now(m), text + from, size - from);
}

void markdown_end(markdown *m)
{
    if (m->run) take_run(m, '\n');
    markdown_begin(m, m->fn, m->ctx);
}
