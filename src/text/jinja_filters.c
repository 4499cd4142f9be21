/* Filters of single values: text, numbers, JSON. Those of sequences are in jinja_filters_seq.c. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_chars.h"
#include "text/jinja_eval.h"
#include "text/utf8.h"

/* ---- text ------------------------------------------------------------------------------------ */

static bool filter_string(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    return sl__jto_str(c, call->self, out);
}

static bool filter_safe(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    if (!sl__jto_str(c, call->self, out)) return false;
    out->flag = 1;
    return true;
}

enum { ESCAPES_UNMARKED, ESCAPES_ALL };

static bool filter_escape(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval text;
    size_t mark = c->out->size;
    if (!sl__jto_str(c, call->self, &text)) return false;
    if (text.flag && call->builtin->op == ESCAPES_UNMARKED) {
        *out = text;
        return true;
    }
    if (!sl__jput_escaped(c, text.u.str->text, text.u.str->size) || !sl__jtake(c, mark, out))
        return false;
    out->flag = 1;
    return true;
}

static bool filter_recase(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval text;
    return sl__jto_str(c, call->self, &text) &&
           sl__jrecase_all(c, text, (sl__jrecasing)call->builtin->op, out);
}

/* Words begin after white space and opening brackets; an apostrophe does not begin one. */
static bool filter_title(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval text;
    size_t mark = c->out->size;
    bool begins = true;
    if (!sl__jto_str(c, call->self, &text)) return false;
    const sl__jstr *s = text.u.str;
    for (size_t at = 0, length; at < s->size; at += length) {
        char cased[12];
        uint32_t cp = sl__jchar(s->text, at, &length);
        size_t size = sl__jrecase(cp, begins ? SL_J_UPPER : SL_J_LOWER, cased);
        if (!sl__jput(c, cased, size)) return false;
        begins = (cp < 0x80 && strchr("-({[<", (int)cp) && cp) || sl__jis_space(cp);
    }
    return sl__jtake(c, mark, out);
}

static bool filter_trim(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval text;
    return sl__jto_str(c, call->self, &text) &&
           sl__jstrip(c, text, call->arg[0], SL_J_LEFT | SL_J_RIGHT, out);
}

static bool filter_replace(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval text, old, with;
    int64_t count = -1;
    if (call->arg[2].kind != SL_J_NONE && !sl__jarg_int(c, call->arg[2], -1, "count", &count))
        return false;
    return sl__jto_str(c, call->self, &text) && sl__jto_str(c, call->arg[0], &old) &&
           sl__jto_str(c, call->arg[1], &with) &&
           sl__jreplace(c, text.u.str, old.u.str, with.u.str, count, out);
}

static bool filter_indent(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval text, lines, unit = call->arg[0];
    const sl__jstr *self;
    int64_t width = 4;
    size_t mark = c->out->size;
    if (!sl__jarg_str(c, call->self, "what is indented", &self)) return false;
    bool first = sl__jtrue(call->arg[1]), blank = sl__jtrue(call->arg[2]);
    if (unit.kind != SL_J_STRING) {
        if (!sl__jarg_int(c, unit, 4, "indent", &width)) return false;
        for (int64_t i = 0; i < width; i++)
            if (!sl__jput(c, " ", 1)) return false;
        if (!sl__jtake(c, mark, &unit)) return false;
    }
    /* A last line break gives one more line, of nothing. */
    if (!sl__jput(c, self->text, self->size) || !sl__jput(c, "\n", 1) ||
        !sl__jtake(c, mark, &text) || !sl__jsplit_lines(c, text.u.str, false, &lines))
        return false;
    const sl__jseq *seq = lines.u.seq;
    for (size_t i = 0; i < seq->count; i++) {
        const sl__jstr *line = seq->items[i].u.str;
        bool indented = i == 0 ? first : blank || line->size > 0;
        if ((i && !sl__jput(c, "\n", 1)) ||
            (indented && !sl__jput(c, unit.u.str->text, unit.u.str->size)) ||
            !sl__jput(c, line->text, line->size))
            return false;
    }
    return sl__jtake(c, mark, out);
}

static bool filter_wordcount(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval text;
    int64_t count = 0;
    bool inside = false;
    if (!sl__jto_str(c, call->self, &text)) return false;
    const sl__jstr *s = text.u.str;
    for (size_t at = 0, length; at < s->size; at += length) {
        uint32_t cp = sl__jchar(s->text, at, &length);
        bool word = cp == '_' || sl__jis_alpha(cp) || sl__jis_numeric(cp);
        count += word && !inside;
        inside = word;
    }
    *out = sl__jint(count);
    return sl__jwork(c, s->size / 16);
}

static bool filter_center(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    static const sl__jstr name = {"center", 6, 6};
    const sl__jval width = call->arg[0].kind == SL_J_MISSING ? sl__jint(80) : call->arg[0];
    const sl__jargs args = {.items = &width, .count = 1};
    sl__jval text;
    return sl__jto_str(c, call->self, &text) &&
           sl__jcall_builtin(c, sl__jfind_str_method(&name), text, &args, out);
}

static bool filter_truncate(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    static const sl__jstr dots = {"...", 3, 3};
    const sl__jstr *end = &dots;
    sl__jval text;
    int64_t length, leeway;
    size_t mark = c->out->size;
    int64_t self_length;
    if (!sl__jlength(c, call->self, &self_length) ||
        !sl__jarg_int(c, call->arg[0], 255, "truncate", &length) ||
        !sl__jarg_int(c, call->arg[3], 5, "truncate", &leeway))
        return false;
    if (call->self.kind != SL_J_STRING) { /* what is short enough stays, whatever it is */
        *out = call->self;
        return self_length <= length + leeway || sl__jfail(c, "truncate needs a string");
    }
    text = call->self;
    if (call->arg[2].kind != SL_J_MISSING && !sl__jarg_str(c, call->arg[2], "truncate", &end))
        return false;
    const sl__jstr *s = text.u.str;
    if (length < end->chars || leeway < 0) return sl__jfail(c, "truncate: the length is too short");
    *out = text;
    if ((int64_t)s->chars <= length || (int64_t)s->chars - length <= leeway) return true;
    size_t stop = sl__jstr_offset(s, (size_t)(length - end->chars));
    if (!sl__jtrue(call->arg[1])) { /* the last word, which may be half, goes */
        size_t space = stop;
        while (space > 0 && s->text[space - 1] != ' ')
            space--;
        if (space > 0) stop = space - 1;
    }
    return sl__jput(c, s->text, stop) && sl__jput(c, end->text, end->size) &&
           sl__jtake(c, mark, out);
}

static bool filter_format(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jargs *args = call->args;
    sl__jval text, values;
    if (args->count && args->keyword_count)
        return sl__jfail(c, "format takes values or names, not both");
    if (args->keyword_count) {
        sl__jdict *dict = sl__jdict_new(&c->mem, args->keyword_count);
        if (!dict) return sl__jnomem(c);
        for (size_t i = 0; i < args->keyword_count; i++)
            if (!sl__jdict_set(&c->mem, dict, sl__jof_str(args->keywords[i].name),
                               args->keywords[i].value))
                return sl__jnomem(c);
        values = sl__jof_dict(dict);
    } else {
        if (!sl__jmake_seq(c, SL_J_TUPLE, args->count, &values)) return false;
        if (args->count) memcpy(values.u.seq->items, args->items, args->count * sizeof values);
    }
    return sl__jto_str(c, call->self, &text) && sl__jpercent(c, text, values, out);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* The text of a number as Python reads it: white space around, underscores between digits. */
static size_t number_text(const sl__jstr *s, char *out, size_t room)
{
    size_t from = sl__jspace_prefix(s->text, s->size), used = 0;
    size_t to = s->size - sl__jspace_suffix(s->text + from, s->size - from);
    for (size_t i = from; i < to; i++) {
        bool between = i > from && i + 1 < to && s->text[i - 1] != '_' && s->text[i + 1] != '_';
        if (s->text[i] == '_' && between) continue;
        if (used + 1 >= room || !s->text[i] || s->text[i] == ' ') return 0;
        out[used++] = s->text[i];
    }
    out[used] = '\0';
    return used;
}

static bool read_whole(const sl__jstr *s, int64_t base, int64_t *out)
{
    char text[100], *end, *digits = text;
    if (!number_text(s, text, sizeof text)) return false;
    bool minus = *digits == '-';
    digits += *digits == '-' || *digits == '+';
    char prefix = *digits == '0' ? (char)(digits[1] | 0x20) : 0;
    int64_t means = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
    if (means && (base == means || base == 0)) {
        digits += 2;
        base = means;
    }
    if (base == 0) base = 10;
    if (base < 2 || base > 36 || *digits == '-' || *digits == '+' || *digits == '\0') return false;
    if (base == 16 && (digits[1] | 0x20) == 'x') return false;
    errno = 0;
    long long value = strtoll(digits, &end, (int)base);
    *out = minus ? -value : value;
    return errno == 0 && *end == '\0';
}

static bool read_real(const sl__jstr *s, double *out)
{
    char text[400], *end;
    if (!number_text(s, text, sizeof text) || strpbrk(text, "xXpP(")) return false;
    *out = strtod(text, &end);
    return *end == '\0';
}

static bool whole_of(double x, sl__jval *out)
{
    if (!(x > -9223372036854775808.0 && x < 9223372036854775808.0)) return false;
    *out = sl__jint((int64_t)x);
    return true;
}

static bool filter_int(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    int64_t whole, base;
    double real;
    sl__jval v = call->self;
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (!sl__jarg_int(c, call->arg[1], 10, "base", &base)) return false;
    if (sl__jis_int(v, &whole) || (v.kind == SL_J_STRING && read_whole(v.u.str, base, &whole))) {
        *out = sl__jint(whole);
        return true;
    }
    if (v.kind == SL_J_FLOAT && whole_of(v.u.real, out)) return true;
    if (v.kind == SL_J_STRING && read_real(v.u.str, &real) && whole_of(real, out)) return true;
    *out = call->arg[0].kind == SL_J_MISSING ? sl__jint(0) : call->arg[0];
    return true;
}

static bool filter_float(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    double real;
    sl__jval v = call->self;
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (sl__jis_number(v, &real) || (v.kind == SL_J_STRING && read_real(v.u.str, &real)))
        *out = sl__jfloat(real);
    else
        *out = call->arg[0].kind == SL_J_MISSING ? sl__jfloat(0.0) : call->arg[0];
    return true;
}

static bool filter_abs(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    double real;
    sl__jval v = call->self;
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (!sl__jis_number(v, &real)) return sl__jfail(c, "abs of a '%s'", sl__jtype_name(v));
    return sl__jnegate(c, v, signbit(real), out);
}

/* Python's round: to the nearest, and from the middle to the even digit, of the exact value. */
static double round_real(double x, int64_t digits)
{
    char text[700];
    if (!isfinite(x) || digits > 300) return x;
    if (digits < 0) {
        double unit = pow(10.0, (double)-digits);
        return isinf(unit) ? copysign(0.0, x) : nearbyint(x / unit) * unit;
    }
    snprintf(text, sizeof text, "%.*f", (int)digits, x);
    return strtod(text, NULL);
}

static int64_t round_whole(int64_t x, int64_t digits)
{
    int64_t unit = 1;
    for (; digits < 0; digits++)
        if (__builtin_mul_overflow(unit, 10, &unit)) return 0;
    int64_t rest = x % unit, down = x - rest, half = unit / 2;
    if (rest < 0) {
        rest += unit;
        if (__builtin_sub_overflow(down, unit, &down)) return x;
    }
    bool up = unit > 1 && (rest > half || (rest == half && (down / unit) % 2 != 0));
    return up && __builtin_add_overflow(down, unit, &down) ? x : down;
}

static bool filter_round(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    int64_t digits, whole;
    double real;
    sl__jval v = call->self, method = call->arg[1];
    bool common = method.kind == SL_J_MISSING;
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (!sl__jarg_int(c, call->arg[0], 0, "precision", &digits)) return false;
    if (!sl__jis_number(v, &real)) return sl__jfail(c, "round of a '%s'", sl__jtype_name(v));
    if (!common && method.kind == SL_J_STRING) common = sl__jstr_is(method.u.str, "common");
    if (common) {
        bool is_whole = sl__jis_int(v, &whole);
        *out = is_whole ? sl__jint(digits < 0 ? round_whole(whole, digits) : whole)
                        : sl__jfloat(round_real(real, digits));
        return true;
    }
    bool ceiling = method.kind == SL_J_STRING && sl__jstr_is(method.u.str, "ceil");
    if (!ceiling && !(method.kind == SL_J_STRING && sl__jstr_is(method.u.str, "floor")))
        return sl__jfail(c, "round: the method must be common, ceil or floor");
    double unit = pow(10.0, (double)digits), scaled = real * unit;
    *out = sl__jfloat((ceiling ? ceil(scaled) : floor(scaled)) / unit);
    return true;
}

/* ---- others ---------------------------------------------------------------------------------- */

static bool filter_default(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    bool absent = call->self.kind == SL_J_UNDEFINED;
    if (sl__jtrue(call->arg[1])) absent = !sl__jtrue(call->self);
    *out = absent ? call->arg[0] : call->self;
    if (out->kind == SL_J_MISSING) return sl__jmake(c, "", 0, out);
    return true;
}

static bool filter_length(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    int64_t length;
    if (!sl__jlength(c, call->self, &length)) return false;
    *out = sl__jint(length);
    return true;
}

static bool filter_attr(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *name;
    return sl__jarg_str(c, call->arg[0], "attr", &name) &&
           (call->self.kind == SL_J_DICT ? sl__jfail(c, "attr does not find keys of a dict")
                                         : sl__jattribute(c, call->self, name, out));
}

/* The pair of what stands between items and after keys. */
static bool json_separators(sl__jctx *c, sl__jval v, sl__jjson_style *style)
{
    static const sl__jstr wide = {", ", 2, 2}, narrow = {",", 1, 1}, colon = {": ", 2, 2};
    style->between = style->indent ? &narrow : &wide;
    style->colon = &colon;
    if (v.kind == SL_J_MISSING || v.kind == SL_J_NONE) return true;
    if (v.kind != SL_J_SEQ || v.u.seq->count != 2)
        return sl__jfail(c, "tojson: separators must be two strings");
    return sl__jarg_str(c, v.u.seq->items[0], "tojson: a separator", &style->between) &&
           sl__jarg_str(c, v.u.seq->items[1], "tojson: a separator", &style->colon);
}

enum { ASCII, INDENT, SEPARATORS, SORTED };

static bool filter_tojson(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jjson_style style = {.ascii = sl__jtrue(call->arg[ASCII]),
                             .sorted = sl__jtrue(call->arg[SORTED])};
    sl__jval indent = call->arg[INDENT];
    int64_t width;
    size_t mark = c->out->size;
    if (indent.kind == SL_J_STRING) {
        style.indent = indent.u.str;
    } else if (indent.kind != SL_J_MISSING && indent.kind != SL_J_NONE) {
        if (!sl__jarg_int(c, indent, 0, "tojson: indent", &width)) return false;
        for (int64_t i = 0; i < width; i++)
            if (!sl__jput(c, " ", 1)) return false;
        if (!sl__jtake(c, mark, &indent)) return false;
        style.indent = indent.u.str;
    }
    return json_separators(c, call->arg[SEPARATORS], &style) &&
           sl__jput_json(c, call->self, &style) && sl__jtake(c, mark, out);
}

static const sl__jbuiltin filters[] = {
    {"string", filter_string, "", 0, 0},
    {"safe", filter_safe, "", 0, 0},
    {"escape", filter_escape, "", 0, ESCAPES_UNMARKED},
    {"e", filter_escape, "", 0, ESCAPES_UNMARKED},
    {"forceescape", filter_escape, "", 0, ESCAPES_ALL},
    {"lower", filter_recase, "", 0, SL_J_ALL_LOWER},
    {"upper", filter_recase, "", 0, SL_J_ALL_UPPER},
    {"capitalize", filter_recase, "", 0, SL_J_CAPITAL},
    {"title", filter_title, "", 0, 0},
    {"trim", filter_trim, "chars", 0, 0},
    {"replace", filter_replace, "old new count", 2, 0},
    {"indent", filter_indent, "width first blank", 0, 0},
    {"wordcount", filter_wordcount, "", 0, 0},
    {"center", filter_center, "width", 0, 0},
    {"truncate", filter_truncate, "length killwords end leeway", 0, 0},
    {"format", filter_format, NULL, 0, 0},
    {"int", filter_int, "default base", 0, 0},
    {"float", filter_float, "default", 0, 0},
    {"abs", filter_abs, "", 0, 0},
    {"round", filter_round, "precision method", 0, 0},
    {"default", filter_default, "default_value boolean", 0, 0},
    {"d", filter_default, "default_value boolean", 0, 0},
    {"length", filter_length, "", 0, 0},
    {"count", filter_length, "", 0, 0},
    {"attr", filter_attr, "name", 1, 0},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0, 0},
};

const sl__jbuiltin *sl__jfind_filter(const sl__jstr *name)
{
    const sl__jbuiltin *found = sl__jfind(filters, sizeof filters / sizeof filters[0], name);
    return found ? found : sl__jfind_filter_of_lists(name);
}
