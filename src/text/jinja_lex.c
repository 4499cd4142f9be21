/* From a template's text to tokens, with white space taken away where tags ask for it.
 *
 *     text {%- if x -%}   text        DATA BLOCK_BEGIN NAME NAME BLOCK_END DATA
 *          └ strips before   └ strips after
 *
 * As with trim_blocks and lstrip_blocks: the line break after a block or comment goes, and so do
 * the spaces before one at the beginning of a line; a "+" keeps them.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "text/jinja_ast.h"
#include "text/jinja_chars.h"
#include "text/utf8.h"

enum { BRACES_MAX = 256 };

typedef struct lexer {
    const sl__jinja *tmpl;
    const char *s;
    size_t size, at;
    bool line_start;         /* what was taken last ended with a line break */
    char braces[BRACES_MAX]; /* what will close those that are open */
    size_t open;
    sl__buffer *tokens;
    sl_error *err;
} lexer;

/* ---- messages -------------------------------------------------------------------------------- */

void sl__jplace(char out[SL_J_PLACE], const sl__jinja *tmpl, size_t at)
{
    size_t line = 1, column = 1;
    for (size_t i = 0; i < at && i < tmpl->size; i++) {
        if (tmpl->source[i] == '\n') {
            line++;
            column = 1;
        } else {
            column += ((unsigned char)tmpl->source[i] & 0xc0u) != 0x80u;
        }
    }
    snprintf(out, SL_J_PLACE, "line %zu, column %zu", line, column);
}

sl_status sl__jfail_at(sl_error *err, sl_status status, const sl__jinja *tmpl, size_t at,
                       const char *fmt, ...)
{
    char place[SL_J_PLACE], message[800];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    sl__jplace(place, tmpl, at);
    return SL_FAIL(err, status, "%s: %s: %s", tmpl->name, place, message);
}

static sl_status refuse(const lexer *l, size_t at, const char *what)
{
    return sl__jfail_at(l->err, SL_EFORMAT, l->tmpl, at, "%s", what);
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static bool here(const lexer *l, size_t at, const char *text)
{
    size_t n = strlen(text);
    return l->size - at >= n && memcmp(l->s + at, text, n) == 0;
}

static size_t skip_space(const lexer *l, size_t at)
{
    return at + sl__jspace_prefix(l->s + at, l->size - at);
}

static sl_status add(lexer *l, sl__jtoken_kind kind, uint16_t op, size_t from, size_t to)
{
    const sl__jtoken token = {(uint8_t)kind, op, (uint32_t)from, (uint32_t)(to - from)};
    if (!sl__buffer_append(l->tokens, &token, sizeof token)) return SL_FAIL_NOMEM(l->err, "tokens");
    return SL_OK;
}

/* Text up to a tag with this sign. */
static sl_status add_data(lexer *l, size_t from, size_t to, char sign, bool variable)
{
    if (sign == '-') {
        to -= sl__jspace_suffix(l->s + from, to - from);
    } else if (sign != '+' && !variable) {
        size_t line = to;
        while (line > from && l->s[line - 1] != '\n')
            line--;
        if ((line > from || l->line_start) && line < to &&
            sl__jspace_prefix(l->s + line, to - line) == to - line)
            to = line;
    }
    return to > from ? add(l, SL_JT_DATA, 0, from, to) : SL_OK;
}

static char sign_at(const lexer *l, size_t at)
{
    return at < l->size && (l->s[at] == '-' || l->s[at] == '+') ? l->s[at] : 0;
}

/* The end of a tag at `at`: "%}", "-%}" and the space behind, "+%}"; 0: none is here. A block's or
 * comment's takes a line break along. */
static size_t tag_end(const lexer *l, size_t at, const char *end, bool block)
{
    if (l->s[at] == '-' && here(l, at + 1, end)) return skip_space(l, at + 3);
    if (block && l->s[at] == '+' && here(l, at + 1, end)) return at + 3;
    if (!here(l, at, end)) return 0;
    at += 2;
    return block && at < l->size && l->s[at] == '\n' ? at + 1 : at;
}

static void move_to(lexer *l, size_t at)
{
    l->at = at;
    l->line_start = at > 0 && l->s[at - 1] == '\n';
}

/* ---- raw and comments ------------------------------------------------------------------------ */

/* Whether a tag of one word begins at `at` (at its brace); then where its end begins. */
static size_t word_tag(const lexer *l, size_t at, const char *word)
{
    at += 2;
    if (sign_at(l, at)) at++;
    at = skip_space(l, at);
    if (!here(l, at, word)) return 0;
    at = skip_space(l, at + strlen(word));
    return at < l->size ? at : 0;
}

/* Behind "{% raw %}": 0 where that is not what stands at `at`. */
static size_t raw_begin(const lexer *l, size_t at)
{
    size_t end = word_tag(l, at, "raw");
    if (end && here(l, end, "-%}")) return skip_space(l, end + 3);
    return end && here(l, end, "%}") ? end + 2 : 0;
}

static sl_status lex_raw(lexer *l, size_t begin, size_t body)
{
    move_to(l, body);
    for (size_t at = body; at + 1 < l->size; at++) {
        if (!here(l, at, "{%")) continue;
        size_t end = word_tag(l, at, "endraw");
        end = end ? tag_end(l, end, "%}", true) : 0;
        if (!end) continue;
        sl_status status = add_data(l, body, at, sign_at(l, at + 2), false);
        move_to(l, end);
        return status;
    }
    return refuse(l, begin, "raw is not closed: {% endraw %} is missing");
}

static sl_status lex_comment(lexer *l, size_t begin)
{
    size_t at = begin + 2;
    if (sign_at(l, at)) at++;
    for (; at + 1 < l->size; at++) {
        size_t end = tag_end(l, at, "#}", true);
        if (!end) continue;
        move_to(l, end);
        return SL_OK;
    }
    return refuse(l, begin, "the comment is not closed: #} is missing");
}

/* ---- inside of a tag ------------------------------------------------------------------------- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Behind digits, single underscores between them. */
static size_t digits(const lexer *l, size_t at, const char *set)
{
    while (at < l->size) {
        if (strchr(set, l->s[at]) && l->s[at])
            at++;
        else if (l->s[at] == '_' && at + 1 < l->size && l->s[at + 1] && strchr(set, l->s[at + 1]))
            at += 2;
        else
            break;
    }
    return at;
}

static sl_status lex_number(lexer *l)
{
    static const char decimal[] = "0123456789";
    size_t from = l->at, at = digits(l, from, decimal), end = at;
    bool real = false;
    if (from == 0 || l->s[from - 1] != '.') {
        if (at + 1 < l->size && l->s[at] == '.' && is_digit(l->s[at + 1])) {
            end = at = digits(l, at + 1, decimal);
            real = true;
        }
        if (at < l->size && (l->s[at] | 0x20) == 'e') {
            size_t sign = at + 1 < l->size && (l->s[at + 1] == '+' || l->s[at + 1] == '-');
            if (at + 1 + sign < l->size && is_digit(l->s[at + 1 + sign])) {
                end = digits(l, at + 1 + sign, decimal);
                real = true;
            }
        }
    }
    if (!real && l->s[from] == '0' && from + 1 < l->size) {
        char base = (char)(l->s[from + 1] | 0x20);
        const char *set = base == 'x'   ? "0123456789abcdefABCDEF"
                          : base == 'o' ? "01234567"
                          : base == 'b' ? "01"
                                        : NULL;
        size_t behind = set ? digits(l, from + 2, set) : 0;
        end = behind > from + 2 ? behind : digits(l, from, "0");
    }
    l->at = end;
    return add(l, real ? SL_JT_FLOAT : SL_JT_INT, 0, from, end);
}

static sl_status lex_string(lexer *l)
{
    size_t from = l->at, at = from + 1;
    for (; at < l->size && l->s[at] != l->s[from]; at++)
        at += l->s[at] == '\\';
    if (at >= l->size) return refuse(l, from, "the string is not closed");
    l->at = at + 1;
    return add(l, SL_JT_STRING, 0, from, at + 1);
}

static sl_status balance(lexer *l, char c)
{
    char closing = c == '(' ? ')' : c == '[' ? ']' : c == '{' ? '}' : 0;
    if (closing) {
        if (l->open == BRACES_MAX) return refuse(l, l->at, "brackets are nested too deeply");
        l->braces[l->open++] = closing;
        return SL_OK;
    }
    if (c != ')' && c != ']' && c != '}') return SL_OK;
    if (l->open == 0) return sl__jfail_at(l->err, SL_EFORMAT, l->tmpl, l->at, "unexpected '%c'", c);
    char expected = l->braces[--l->open];
    if (expected == c) return SL_OK;
    return sl__jfail_at(l->err, SL_EFORMAT, l->tmpl, l->at, "unexpected '%c', expected '%c'", c,
                        expected);
}

static sl_status lex_operator(lexer *l)
{
    static const char *const twos[] = {"==", "!=", ">=", "<=", "//", "**"};
    size_t at = l->at;
    for (size_t i = 0; i < sizeof twos / sizeof twos[0]; i++) {
        if (!here(l, at, twos[i])) continue;
        l->at += 2;
        return add(l, SL_JT_OP, SL_J2(twos[i][0], twos[i][1]), at, at + 2);
    }
    char c = l->s[at];
    if (!c || !strchr("+-*/%~[](){}><=.:|,;", c)) {
        uint32_t cp = 0;
        int n = sl__utf8_step((const unsigned char *)l->s + at, l->size - at, &cp);
        return sl__jfail_at(l->err, SL_EFORMAT, l->tmpl, at, "unexpected character '%.*s'",
                            n > 0 ? n : 1, l->s + at);
    }
    SL_TRY(balance(l, c));
    l->at++;
    return add(l, SL_JT_OP, (uint8_t)c, at, at + 1);
}

static sl_status lex_word(lexer *l, bool *found)
{
    size_t from = l->at, at = from;
    while (at < l->size) {
        uint32_t cp;
        int n = sl__utf8_step((const unsigned char *)l->s + at, l->size - at, &cp);
        if (n <= 0 || !(cp == '_' || sl__utf8_is_word(cp))) break;
        at += (size_t)n;
    }
    *found = at > from;
    l->at = at;
    return *found ? add(l, SL_JT_NAME, 0, from, at) : SL_OK;
}

/* What stands between the beginning of a tag, at `begin`, and its end. */
static sl_status lex_tag(lexer *l, size_t begin, bool block)
{
    const char *end = block ? "%}" : "}}";
    SL_TRY(add(l, block ? SL_JT_BLOCK_BEGIN : SL_JT_VAR_BEGIN, 0, begin, begin + 2));
    l->at = begin + 2;
    if (sign_at(l, l->at)) l->at++;
    l->open = 0;
    for (;;) {
        l->at = skip_space(l, l->at);
        if (l->at == l->size) {
            return sl__jfail_at(l->err, SL_EFORMAT, l->tmpl, begin,
                                "the tag is not closed: %s is missing", end);
        }
        size_t behind = l->open ? 0 : tag_end(l, l->at, end, block);
        if (behind) {
            SL_TRY(add(l, block ? SL_JT_BLOCK_END : SL_JT_VAR_END, 0, l->at, l->at + 2));
            move_to(l, behind);
            return SL_OK;
        }
        char c = l->s[l->at];
        bool word = false;
        if (is_digit(c))
            SL_TRY(lex_number(l));
        else if (c == '"' || c == '\'')
            SL_TRY(lex_string(l));
        else {
            SL_TRY(lex_word(l, &word));
            if (!word) SL_TRY(lex_operator(l));
        }
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* Where the next tag begins; the size where none does. */
static size_t next_tag(const lexer *l)
{
    size_t at = l->at;
    while (at < l->size) {
        const char *brace = memchr(l->s + at, '{', l->size - at);
        if (!brace) break;
        at = (size_t)(brace - l->s);
        if (at + 1 < l->size && strchr("{%#", l->s[at + 1]) && l->s[at + 1]) return at;
        at++;
    }
    return l->size;
}

sl_status sl__jlex(const sl__jinja *tmpl, sl__buffer *tokens, sl_error *err)
{
    lexer state = {.tmpl = tmpl,
                   .s = tmpl->source,
                   .size = tmpl->size,
                   .line_start = true,
                   .tokens = tokens,
                   .err = err};
    lexer *l = &state;
    while (l->at < l->size) {
        size_t from = l->at, tag = next_tag(l);
        if (tag == l->size) {
            SL_TRY(add(l, SL_JT_DATA, 0, from, tag));
            break;
        }
        char kind = l->s[tag + 1];
        SL_TRY(add_data(l, from, tag, sign_at(l, tag + 2), kind == '{'));
        size_t raw = kind == '%' ? raw_begin(l, tag) : 0;
        if (raw)
            SL_TRY(lex_raw(l, tag, raw));
        else if (kind == '#')
            SL_TRY(lex_comment(l, tag));
        else
            SL_TRY(lex_tag(l, tag, kind == '%'));
    }
    return add(l, SL_JT_END, 0, l->size, l->size);
}
