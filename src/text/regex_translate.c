/* The regexes of tokenizer.json are written for Oniguruma (Ruby syntax); PCRE2 runs them here. The
 * two read most text alike, and differ where it would show in token ids:
 *
 *   \s \S        PCRE2 counts U+180E as a space: written out as White_Space
 *   \w \b        PCRE2 leaves out marks: written out
 *   \v \h        vertical tab and hex digit, where PCRE2 has classes
 *   \p{Han}      the script, where PCRE2 10.40 takes the script extensions
 *   \p{Letter}   long names of categories
 *   [a[bc]&&d]   nested and intersected classes: alternatives and lookaheads
 *   a{1,3}+      a repeated group, where PCRE2 is possessive;  a{2}? optional;  a{,2} from zero
 *   ^ $ .        lines, always (PCRE2_MULTILINE, set where the result is compiled); (?m: is (?s:
 *
 * The translator reads the whole pattern and writes each construct anew, so that what it does not
 * know is an error and never something with another meaning. Captures become plain groups.
 */
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "text/tokenizer_parts.h"
#include "text/utf8.h"

#define NESTING_MAX 50

#define SPACES                                                                                     \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"    \
    "\\x{205f}\\x{3000}"
#define NOT_SPACES                                                                                 \
    "\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-"         \
    "\\x{1fff}\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}"        \
    "\\x{3001}-\\x{10ffff}"
#define WORDS                                                                                      \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"                    \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
/* Outside classes Oniguruma also counts superscript digits and fractions of Latin-1. */
#define WORDS_ALONE WORDS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define WORD        "[" WORDS_ALONE "]"
#define HEX         "0-9A-Fa-f"
#define ANY         "[\\x{0}-\\x{10ffff}]"

typedef struct reader {
    const char *pattern;
    size_t size, at;
    sl__buffer *out;
    unsigned depth;
    const char *what, *path;
    sl_error *err;
} reader;

static sl_status refuse(reader *r, const char *what)
{
    return SL_FAIL(r->err, SL_EUNSUPPORTED, "%s: %s regex: %s is not supported: %.*s", r->path,
                   r->what, what, (int)(r->size < 500 ? r->size : 500), r->pattern);
}

static bool more(const reader *r)
{
    return r->at < r->size;
}

static bool next_is(const reader *r, const char *text)
{
    size_t n = strlen(text);
    return r->size - r->at >= n && memcmp(r->pattern + r->at, text, n) == 0;
}

static bool take(reader *r, const char *text)
{
    if (!next_is(r, text)) return false;
    r->at += strlen(text);
    return true;
}

static bool is_alnum(uint32_t c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static void put(sl__buffer *out, const char *text)
{
    sl__buffer_append_str(out, text);
}

static void put_char(sl__buffer *out, uint32_t cp)
{
    sl__buffer_printf(out, "\\x{%x}", cp);
}

/* The code point at r->at; the pattern is valid UTF-8. */
static uint32_t take_char(reader *r)
{
    uint32_t cp = 0;
    int n = sl__utf8_step((const unsigned char *)r->pattern + r->at, r->size - r->at, &cp);
    assert(n > 0);
    r->at += (size_t)n;
    return cp;
}

/* ---- escapes --------------------------------------------------------------------------------- */

/* Hex digits, at least min and at most max, into *cp. */
static bool take_hex(reader *r, unsigned min, unsigned max, uint32_t *cp)
{
    uint32_t value = 0;
    unsigned n = 0;
    for (; n < max && more(r); n++) {
        char c = r->pattern[r->at];
        uint32_t digit;
        if (c >= '0' && c <= '9')
            digit = (uint32_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            digit = (uint32_t)(c - 'a') + 10;
        else if (c >= 'A' && c <= 'F')
            digit = (uint32_t)(c - 'A') + 10;
        else
            break;
        value = value << 4 | digit;
        r->at++;
    }
    *cp = value;
    return n >= min && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff);
}

/* An escape that stands for one character; r->at is behind the backslash. False, with nothing
 * taken, where it is none. */
static bool take_char_escape(reader *r, uint32_t *cp)
{
    size_t start = r->at;
    if (!more(r)) return false;
    uint32_t c = take_char(r);
    bool ok = true;
    switch (c) {
    case 'n':
        *cp = '\n';
        break;
    case 'r':
        *cp = '\r';
        break;
    case 't':
        *cp = '\t';
        break;
    case 'f':
        *cp = '\f';
        break;
    case 'v':
        *cp = '\v';
        break;
    case 'a':
        *cp = '\a';
        break;
    case 'e':
        *cp = 0x1b;
        break;
    case 'u':
        ok = take_hex(r, 4, 4, cp);
        break;
    case 'x':
        /* \xHH above 7F is a byte of an encoded character there, a code point here. */
        if (take(r, "{"))
            ok = take_hex(r, 1, 8, cp) && take(r, "}");
        else
            ok = take_hex(r, 1, 2, cp) && *cp < 0x80;
        break;
    default:
        *cp = c;
        ok = !is_alnum(c);
    }
    if (!ok) r->at = start;
    return ok;
}

static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        char x = *a >= 'A' && *a <= 'Z' ? (char)(*a + 32) : *a;
        char y = *b >= 'A' && *b <= 'Z' ? (char)(*b + 32) : *b;
        if (x != y) return false;
    }
    return *a == *b;
}

static const char *category_of_long_name(const char *name)
{
    static const struct {
        const char *name, *category;
    } known[] = {
        {"Letter", "L"},
        {"UppercaseLetter", "Lu"},
        {"LowercaseLetter", "Ll"},
        {"TitlecaseLetter", "Lt"},
        {"CasedLetter", "L&"},
        {"ModifierLetter", "Lm"},
        {"OtherLetter", "Lo"},
        {"Mark", "M"},
        {"NonspacingMark", "Mn"},
        {"SpacingMark", "Mc"},
        {"EnclosingMark", "Me"},
        {"Number", "N"},
        {"DecimalNumber", "Nd"},
        {"LetterNumber", "Nl"},
        {"OtherNumber", "No"},
        {"Punctuation", "P"},
        {"ConnectorPunctuation", "Pc"},
        {"DashPunctuation", "Pd"},
        {"OpenPunctuation", "Ps"},
        {"ClosePunctuation", "Pe"},
        {"InitialPunctuation", "Pi"},
        {"FinalPunctuation", "Pf"},
        {"OtherPunctuation", "Po"},
        {"Symbol", "S"},
        {"MathSymbol", "Sm"},
        {"CurrencySymbol", "Sc"},
        {"ModifierSymbol", "Sk"},
        {"OtherSymbol", "So"},
        {"Separator", "Z"},
        {"SpaceSeparator", "Zs"},
        {"LineSeparator", "Zl"},
        {"ParagraphSeparator", "Zp"},
        {"Other", "C"},
        {"Control", "Cc"},
        {"Format", "Cf"},
        {"Unassigned", "Cn"},
        {"PrivateUse", "Co"},
        {"Surrogate", "Cs"},
        {"LC", "L&"},
        {"Any", "Any"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        if (same_name(name, known[i].name)) return known[i].category;
    }
    return NULL;
}

/* Whether \p{NAME} of a script means the extensions, and \p{sc:NAME} is known. */
static bool has_script_prefix(void)
{
    char version[64] = "";
    unsigned major = 0, minor = 0;
    if (pcre2_config(PCRE2_CONFIG_VERSION, NULL) > (int)sizeof version) return true;
    pcre2_config(PCRE2_CONFIG_VERSION, version);
    if (sscanf(version, "%u.%u", &major, &minor) != 2) return true;
    return major > 10 || (major == 10 && minor >= 40);
}

/* {NAME} or {^NAME} behind \p or \P. */
static sl_status property(reader *r, bool negated, sl__buffer *out)
{
    if (!take(r, "{")) return refuse(r, "\\p without {");
    if (take(r, "^")) negated = !negated;
    char name[48];
    size_t n = 0;
    while (more(r) && r->pattern[r->at] != '}') {
        char c = r->pattern[r->at++];
        if (c == '_' || c == ' ' || c == '-') continue;
        if (!is_alnum((unsigned char)c) || n + 1 == sizeof name) {
            return refuse(r, "the name of a property");
        }
        name[n++] = c;
    }
    name[n] = '\0';
    if (!take(r, "}") || n == 0) return refuse(r, "\\p without a name");
    const char *category = category_of_long_name(name);
    const char *prefix = "";
    if (!category && n <= 2) {
        if (name[0] >= 'a') name[0] = (char)(name[0] - 32);
        if (n == 2 && name[1] >= 'A' && name[1] <= 'Z') name[1] = (char)(name[1] + 32);
    } else if (!category && has_script_prefix()) {
        prefix = "sc:";
    }
    sl__buffer_printf(out, "\\%c{%s%s}", negated ? 'P' : 'p', prefix, category ? category : name);
    return SL_OK;
}

/* ---- classes --------------------------------------------------------------------------------- */

static sl_status class_set(reader *r, sl__buffer *out);

/* One operand of && while it is read: plain items, and nested classes as alternatives. */
typedef struct operand {
    sl__buffer flat, nested;
} operand;

static void operand_init(operand *o)
{
    sl__buffer_init(&o->flat, SL__TOK_STRINGS_MAX);
    sl__buffer_init(&o->nested, SL__TOK_STRINGS_MAX);
}

static void operand_free(operand *o)
{
    sl__buffer_free(&o->flat);
    sl__buffer_free(&o->nested);
}

static void nested_separator(operand *o)
{
    if (o->nested.size > 0) put(&o->nested, "|");
}

/* A class escape such as \s or \p{L} into the operand. *found false: it is none. */
static sl_status class_escape(reader *r, operand *o, bool *found)
{
    *found = true;
    if (take(r, "s"))
        put(&o->flat, SPACES);
    else if (take(r, "S"))
        put(&o->flat, NOT_SPACES);
    else if (take(r, "d"))
        put(&o->flat, "\\p{Nd}");
    else if (take(r, "D"))
        put(&o->flat, "\\P{Nd}");
    else if (take(r, "w"))
        put(&o->flat, WORDS);
    else if (take(r, "h"))
        put(&o->flat, HEX);
    else if (take(r, "p"))
        return property(r, false, &o->flat);
    else if (take(r, "P"))
        return property(r, true, &o->flat);
    else if (next_is(r, "W") || next_is(r, "H")) {
        nested_separator(o);
        put(&o->nested, take(r, "W") ? "[^" WORDS "]" : (r->at++, "[^" HEX "]"));
    } else
        *found = false;
    return SL_OK;
}

/* One character of a class, escaped or not, into *cp. */
static sl_status class_char(reader *r, uint32_t *cp)
{
    if (!more(r)) return refuse(r, "a class without an end");
    if (!take(r, "\\")) {
        *cp = take_char(r);
        return SL_OK;
    }
    if (take(r, "b"))
        *cp = '\b';
    else if (!take_char_escape(r, cp))
        return refuse(r, "an escape in a class");
    return SL_OK;
}

static sl_status class_item(reader *r, operand *o)
{
    if (next_is(r, "[:")) return refuse(r, "[:name:]");
    if (take(r, "[")) {
        nested_separator(o);
        return class_set(r, &o->nested);
    }
    if (next_is(r, "\\")) {
        bool found;
        r->at++;
        SL_TRY(class_escape(r, o, &found));
        if (found) {
            if (next_is(r, "-") && !next_is(r, "-]")) return refuse(r, "a range from a class");
            return SL_OK;
        }
        r->at--;
    }
    uint32_t low, high;
    SL_TRY(class_char(r, &low));
    put_char(&o->flat, low);
    if (!next_is(r, "-") || next_is(r, "-]")) return SL_OK;
    if (next_is(r, "-[") || next_is(r, "-&&")) return refuse(r, "a range to a class");
    r->at++;
    SL_TRY(class_char(r, &high));
    if (high < low) return refuse(r, "a range that runs backwards");
    put(&o->flat, "-");
    put_char(&o->flat, high);
    return SL_OK;
}

/* The operand as one PCRE2 expression that takes one character. */
static sl_status put_operand(reader *r, const operand *o, sl__buffer *out)
{
    if (o->flat.failed || o->nested.failed) return SL_FAIL_NOMEM(r->err, "regex");
    if (o->flat.size == 0 && o->nested.size == 0) return refuse(r, "an empty class");
    if (o->nested.size == 0) {
        sl__buffer_printf(out, "[%s]", o->flat.data);
    } else if (o->flat.size == 0) {
        sl__buffer_printf(out, "(?:%s)", o->nested.data);
    } else {
        sl__buffer_printf(out, "(?:[%s]|%s)", o->flat.data, o->nested.data);
    }
    return SL_OK;
}

/* Reads items up to && or ]; appends them as a lookahead where && follows. */
static sl_status class_operand(reader *r, bool negated, bool *last, bool *first, sl__buffer *out)
{
    operand o;
    operand_init(&o);
    sl_status status = SL_OK;
    while (status == SL_OK && !next_is(r, "&&") && !next_is(r, "]")) {
        if (!more(r))
            status = refuse(r, "a class without an end");
        else
            status = class_item(r, &o);
    }
    if (status == SL_OK) {
        *last = !take(r, "&&");
        if (*last) take(r, "]");
        if (*first && *last && o.nested.size == 0 && o.flat.size > 0) {
            sl__buffer_printf(out, "[%s%s]", negated ? "^" : "", o.flat.data);
        } else {
            if (*first) put(out, negated ? "(?:(?!" : "(?:");
            if (!*last) put(out, "(?=");
            status = put_operand(r, &o, out);
            if (!*last)
                put(out, ")");
            else
                put(out, negated ? ")" ANY ")" : ")");
        }
        *first = false;
        if (o.flat.failed) status = SL_FAIL_NOMEM(r->err, "regex");
    }
    operand_free(&o);
    return status;
}

/* A class; r->at is behind its [. */
static sl_status class_set(reader *r, sl__buffer *out)
{
    if (++r->depth > NESTING_MAX) return refuse(r, "nesting this deep");
    bool negated = take(r, "^"), first = true, last = false;
    if (next_is(r, "]")) return refuse(r, "a class that starts with ]");
    while (!last)
        SL_TRY(class_operand(r, negated, &last, &first, out));
    r->depth--;
    return SL_OK;
}

/* ---- everything else ------------------------------------------------------------------------- */

static sl_status alternatives(reader *r);

/* An escape outside a class; r->at is behind the backslash. *quantifiable: an atom, no anchor. */
static sl_status escape(reader *r, bool *quantifiable)
{
    sl__buffer *out = r->out;
    uint32_t cp;
    if (take(r, "s"))
        put(out, "[" SPACES "]");
    else if (take(r, "S"))
        put(out, "[^" SPACES "]");
    else if (take(r, "d"))
        put(out, "\\p{Nd}");
    else if (take(r, "D"))
        put(out, "\\P{Nd}");
    else if (take(r, "w"))
        put(out, WORD);
    else if (take(r, "W"))
        put(out, "[^" WORDS_ALONE "]");
    else if (take(r, "h"))
        put(out, "[" HEX "]");
    else if (take(r, "H"))
        put(out, "[^" HEX "]");
    else if (take(r, "p"))
        return property(r, false, out);
    else if (take(r, "P"))
        return property(r, true, out);
    else if (next_is(r, "b") || next_is(r, "B") || next_is(r, "A") || next_is(r, "z") ||
             next_is(r, "Z")) {
        char c = r->pattern[r->at++];
        *quantifiable = false;
        if (c == 'b')
            put(out, "(?:(?<=" WORD ")(?!" WORD ")|(?<!" WORD ")(?=" WORD "))");
        else if (c == 'B')
            put(out, "(?:(?<=" WORD ")(?=" WORD ")|(?<!" WORD ")(?!" WORD "))");
        else
            sl__buffer_printf(out, "\\%c", c);
    } else if (take_char_escape(r, &cp))
        put_char(out, cp);
    else
        return refuse(r, "an escape");
    return SL_OK;
}

/* Option letters behind "(?", up to and with ':' or ')'. */
static sl_status group_options(reader *r, bool at_start, bool *isolated)
{
    char text[16];
    size_t n = 0;
    while (more(r) && n + 1 < sizeof text) {
        char c = r->pattern[r->at];
        if (c == 'i' || c == '-')
            text[n++] = c;
        else if (c == 'm')
            text[n++] = 's';
        else
            break;
        r->at++;
    }
    text[n] = '\0';
    *isolated = next_is(r, ")");
    if (n == 0 || (!*isolated && !next_is(r, ":"))) return refuse(r, "this kind of group");
    /* Elsewhere the scope of (?i) differs between the two. */
    if (*isolated && !at_start) return refuse(r, "an option in the middle");
    r->at++;
    sl__buffer_printf(r->out, "(?%s%c", text, *isolated ? ')' : ':');
    return SL_OK;
}

/* A group; r->at is behind its (. *quantifiable false after an isolated option. */
static sl_status group(reader *r, bool *quantifiable)
{
    static const char *const kinds[] = {"?:", "?=", "?!", "?<=", "?<!", "?>"};
    size_t kind = 0;
    bool at_start = r->at == 1, isolated = false;
    while (kind < 6 && !take(r, kinds[kind]))
        kind++;
    if (kind < 6) {
        sl__buffer_printf(r->out, "(%s", kinds[kind]);
        *quantifiable = kind == 0 || kind == 5;
    } else if (take(r, "?")) {
        SL_TRY(group_options(r, at_start, &isolated));
        *quantifiable = !isolated;
        if (isolated) return SL_OK;
    } else if (next_is(r, "*")) {
        return refuse(r, "(*");
    } else {
        put(r->out, "(?:");
    }
    if (++r->depth > NESTING_MAX) return refuse(r, "nesting this deep");
    SL_TRY(alternatives(r));
    r->depth--;
    if (!take(r, ")")) return refuse(r, "a group without an end");
    put(r->out, ")");
    return SL_OK;
}

/* {n}, {n,}, {n,m} or {,m} at r->at; false, with nothing taken, where it is none: then { is text.
 */
static bool take_interval(reader *r, char *text, size_t text_size, bool *exact)
{
    size_t start = r->at, digits[2] = {0, 0};
    unsigned value[2] = {0, 0};
    bool comma = false;
    r->at++;
    for (; more(r); r->at++) {
        char c = r->pattern[r->at];
        if (c == ',' && !comma)
            comma = true;
        else if (c >= '0' && c <= '9' && digits[comma] < 5) {
            value[comma] = value[comma] * 10 + (unsigned)(c - '0');
            digits[comma]++;
        } else
            break;
    }
    if (!take(r, "}") || (digits[0] == 0 && digits[1] == 0)) {
        r->at = start;
        return false;
    }
    *exact = !comma;
    if (!comma)
        snprintf(text, text_size, "{%u}", value[0]);
    else if (digits[1] == 0)
        snprintf(text, text_size, "{%u,}", value[0]);
    else
        snprintf(text, text_size, "{%u,%u}", value[0], value[1]);
    return true;
}

/* Puts "(?:" before the atom that begins at `atom` of the output, and `tail` behind it. */
static sl_status wrap_atom(reader *r, size_t atom, const char *tail)
{
    static const char open[] = "(?:";
    size_t n = sizeof open - 1, old = r->out->size;
    if (!sl__buffer_append(r->out, open, n)) return SL_FAIL_NOMEM(r->err, "regex");
    memmove(r->out->data + atom + n, r->out->data + atom, old - atom);
    memcpy(r->out->data + atom, open, n);
    put(r->out, tail);
    return SL_OK;
}

/* What may follow an atom that begins at `atom` of the output. */
static sl_status quantifier(reader *r, size_t atom)
{
    char text[32];
    bool exact = false, interval = false;
    if (next_is(r, "{")) {
        if (!take_interval(r, text, sizeof text, &exact)) return SL_OK;
        interval = true;
    } else if (next_is(r, "*") || next_is(r, "+") || next_is(r, "?")) {
        text[0] = r->pattern[r->at++];
        text[1] = '\0';
    } else {
        return SL_OK;
    }
    put(r->out, text);
    if (take(r, "?")) {
        if (exact)
            SL_TRY(wrap_atom(r, atom, ")?"));
        else
            put(r->out, "?");
    } else if (take(r, "+")) {
        if (interval)
            SL_TRY(wrap_atom(r, atom, ")+"));
        else
            put(r->out, "+");
    }
    if (next_is(r, "*") || next_is(r, "+") || next_is(r, "?")) {
        return refuse(r, "a quantifier of a quantifier");
    }
    return SL_OK;
}

static sl_status atom(reader *r)
{
    size_t start = r->out->size;
    bool quantifiable = true;
    if (take(r, "\\"))
        SL_TRY(escape(r, &quantifiable));
    else if (take(r, "("))
        SL_TRY(group(r, &quantifiable));
    else if (take(r, "["))
        SL_TRY(class_set(r, r->out));
    else if (take(r, "."))
        put(r->out, ".");
    else if (next_is(r, "^") || next_is(r, "$")) {
        quantifiable = false;
        put(r->out, take(r, "^") ? "^" : (r->at++, "$"));
    } else if (next_is(r, "*") || next_is(r, "+") || next_is(r, "?")) {
        return refuse(r, "a quantifier of nothing");
    } else {
        uint32_t cp = take_char(r);
        if (is_alnum(cp))
            sl__buffer_printf(r->out, "%c", (int)cp);
        else
            put_char(r->out, cp);
    }
    if (quantifiable) return quantifier(r, start);
    if (next_is(r, "*") || next_is(r, "+") || next_is(r, "?")) {
        return refuse(r, "a quantifier of an assertion");
    }
    return SL_OK;
}

static sl_status alternatives(reader *r)
{
    while (more(r) && !next_is(r, ")")) {
        if (take(r, "|"))
            put(r->out, "|");
        else
            SL_TRY(atom(r));
        if (r->out->failed) return SL_FAIL_NOMEM(r->err, "regex");
    }
    return SL_OK;
}

sl_status sl__regex_translate(sl__buffer *out, const char *pattern, size_t size, const char *what,
                              const char *path, sl_error *err)
{
    reader r = {
        .pattern = pattern, .size = size, .out = out, .what = what, .path = path, .err = err};
    if (sl__utf8_valid(pattern, size) != size) return refuse(&r, "text that is not UTF-8");
    SL_TRY(alternatives(&r));
    if (more(&r)) return refuse(&r, "a ) without its (");
    if (out->failed) return SL_FAIL_NOMEM(err, "regex");
    return SL_OK;
}
