/* Python's two ways to format: "%5.2f" % x, and "{:>8}".format(x). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/utf8.h"

/* [[fill]align][sign][#][0][width][, or _][.precision][type] */
typedef struct spec {
    const char *fill; /* one character */
    size_t fill_size;
    char align; /* '<', '>', '^', '='; 0: as the type has it */
    char sign;  /* '+', ' ' or 0 */
    bool other;
    bool zeros;               /* a 0 before the width: of numbers, align is '=' then */
    char group;               /* ',' or '_' between groups of digits, or 0 */
    int64_t width, precision; /* precision -1: none */
    char type;
} spec;

enum { WIDTH_MAX = 100000, PRECISION_MAX = 300 };

/* ---- padding --------------------------------------------------------------------------------- */

static size_t count_chars(const char *text, size_t size)
{
    size_t chars = 0;
    for (size_t i = 0; i < size; i++)
        chars += ((unsigned char)text[i] & 0xc0u) != 0x80u;
    return chars;
}

static bool put_fill(sl__jctx *c, const spec *f, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        if (!sl__jput(c, f->fill, f->fill_size)) return false;
    return true;
}

/* head: a sign or a prefix, which "=" keeps in front of the filling. */
static bool put_padded(sl__jctx *c, const spec *f, const char *head, const char *text, size_t size,
                       char align)
{
    int64_t room = f->width - (int64_t)count_chars(text, size) - (int64_t)strlen(head);
    if (f->align) align = f->align;
    if (room < 0) room = 0;
    int64_t left = align == '>' ? room : align == '^' ? room / 2 : 0;
    int64_t middle = align == '=' ? room : 0;
    return put_fill(c, f, left) && sl__jput_str(c, head) && put_fill(c, f, middle) &&
           sl__jput(c, text, size) && put_fill(c, f, room - left - middle);
}

static bool put_text(sl__jctx *c, const spec *f, sl__jval v, char align)
{
    const sl__jstr *s = v.u.str;
    size_t size = s->size;
    if (f->precision >= 0 && f->precision < (int64_t)s->chars)
        size = sl__jstr_offset(s, (size_t)f->precision);
    return put_padded(c, f, "", s->text, size, align);
}

/* ---- numbers --------------------------------------------------------------------------------- */

static const char *sign_of(const spec *f, bool negative)
{
    return negative ? "-" : f->sign == '+' ? "+" : f->sign == ' ' ? " " : "";
}

/* The digits that text begins with in groups, `zeros` more before them; then the rest of it. */
static size_t put_groups(char *out, size_t room, const char *text, size_t zeros, char by,
                         size_t each)
{
    size_t digits = strspn(text, "0123456789abcdefABCDEF"), used = 0;
    if (each == 3) digits = strspn(text, "0123456789"); /* an exponent is no digit */
    const size_t whole = zeros + digits, all = zeros + strlen(text);
    for (size_t i = 0; i < all && used + 2 < room; i++) {
        if (by && i > 0 && i < whole && (whole - i) % each == 0) out[used++] = by;
        out[used++] = i < zeros ? '0' : text[i - zeros];
    }
    out[used] = '\0';
    return used;
}

static bool put_number(sl__jctx *c, const spec *f, const char *head, const char *digits)
{
    char grouped[1800];
    const bool powers = f->type && strchr("xXob", f->type);
    const size_t each = powers ? 4 : 3, room = sizeof grouped, before = strlen(head);
    size_t size = put_groups(grouped, room, digits, 0, f->group, each);
    if (f->group && f->align == '=' && f->fill[0] == '0') { /* the zeros are digits too */
        for (size_t zeros = 1; (int64_t)(before + size) < f->width; zeros++) {
            if (size + 8 > room) return sl__jfail(c, "a width that is too large");
            size = put_groups(grouped, room, digits, zeros, f->group, each);
        }
    }
    return put_padded(c, f, head, grouped, size, '>');
}

static bool put_whole(sl__jctx *c, const spec *f, int64_t whole)
{
    char digits[PRECISION_MAX + 80], head[8];
    uint64_t magnitude = whole < 0 ? 0 - (uint64_t)whole : (uint64_t)whole;
    size_t at = sizeof digits - 1;
    bool hex = f->type == 'x' || f->type == 'X';
    unsigned base = hex ? 16 : f->type == 'o' ? 8 : f->type == 'b' ? 2 : 10;
    const char *set = f->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    bool prefix = f->other && base != 10;
    digits[at] = '\0';
    do { /* zeros in front, where a precision asks for more digits */
        digits[--at] = set[magnitude % base];
        magnitude /= base;
    } while (magnitude > 0 || (int64_t)(sizeof digits - 1 - at) < f->precision);
    snprintf(head, sizeof head, "%s%s%c", sign_of(f, whole < 0), prefix ? "0" : "",
             prefix ? f->type : '\0');
    return put_number(c, f, head, digits + at);
}

/* What has a precision and no type: significant digits, of which one at least comes after the
 * point, or an exponent where there are too few. */
static void put_general(char *out, size_t room, int precision, double magnitude)
{
    if (precision == 0) precision = 1;
    snprintf(out, room, "%.*e", precision - 1, magnitude);
    char *e = strchr(out, 'e'), *end = e;
    const int exponent = atoi(e + 1);
    if (exponent >= -4 && exponent < precision - 1) {
        snprintf(out, room, "%.*f", precision - 1 - exponent, magnitude);
        e = end = out + strlen(out);
    }
    char *point = strchr(out, '.');
    while (point && end - 1 > point && end[-1] == '0')
        end--;
    if (point && end - 1 == point) end = *e ? point : end + 1; /* 1e+02, but 10.0 */
    memmove(end, e, strlen(e) + 1);
}

static const char *real_form(char type, bool other)
{
    switch (type) {
    case 'e':
        return other ? "%#.*e%s" : "%.*e%s";
    case 'E':
        return other ? "%#.*E%s" : "%.*E%s";
    case 'g':
        return other ? "%#.*g%s" : "%.*g%s";
    case 'G':
        return other ? "%#.*G%s" : "%.*G%s";
    default:
        return other ? "%#.*f%s" : "%.*f%s";
    }
}

static bool put_real(sl__jctx *c, const spec *f, double x)
{
    char digits[700], suffix[2] = "";
    double magnitude = fabs(x);
    int precision = f->precision < 0 ? 6 : (int)f->precision;
    bool negative = signbit(x) && !isnan(x);
    char type = f->type;
    if (type == '%') {
        magnitude *= 100.0;
        suffix[0] = '%';
        type = 'f';
    }
    if (!isfinite(magnitude)) {
        bool upper = type == 'F' || type == 'E' || type == 'G';
        snprintf(digits, sizeof digits, "%s%s",
                 isnan(x) ? (upper ? "NAN" : "nan") : (upper ? "INF" : "inf"), suffix);
        return put_padded(c, f, sign_of(f, negative), digits, strlen(digits), '>');
    }
    if (type == 0 && f->precision >= 0 && f->other)
        return sl__jfail(c, "'#' with a precision and no type is not supported");
    if (type == 0 && f->precision < 0) {
        sl__jformat_float(digits, magnitude);
    } else if (type == 0) {
        put_general(digits, sizeof digits, precision, magnitude);
    } else {
        snprintf(digits, sizeof digits, real_form(type, f->other), precision, magnitude, suffix);
    }
    return put_number(c, f, sign_of(f, negative), digits);
}

/* What %c shows: a character, or the one of this number. */
static bool character(sl__jctx *c, sl__jval v, sl__jval *out)
{
    char bytes[4];
    int64_t cp;
    size_t mark = c->out->size;
    *out = v;
    if (v.kind == SL_J_STRING && v.u.str->chars == 1) return true;
    if (!sl__jis_int(v, &cp) || cp < 0 || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        return sl__jfail(c, "%%c needs a character or its number");
    return sl__jput(c, bytes, sl__utf8_put((uint32_t)cp, bytes)) && sl__jtake(c, mark, out);
}

/* ---- format(v, spec) ------------------------------------------------------------------------- */

static bool is_align(char ch)
{
    return ch && strchr("<>^=", ch);
}

static size_t char_size(const char *s)
{
    unsigned char byte = (unsigned char)s[0];
    return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

static bool parse_digits(const char **at, const char *end, int64_t max, int64_t *out)
{
    int64_t value = 0;
    for (; *at < end && **at >= '0' && **at <= '9'; ++*at) {
        value = value * 10 + (**at - '0');
        if (value > max) return false;
    }
    *out = value;
    return true;
}

static bool parse_spec(const char *at, size_t size, spec *f)
{
    const char *end = at + size;
    *f = (spec){.fill = " ", .fill_size = 1, .precision = -1};
    size_t first = size ? char_size(at) : 0;
    const bool filled = first && at + first < end && is_align(at[first]);
    if (filled) {
        f->fill = at;
        f->fill_size = first;
        f->align = at[first];
        at += first + 1;
    } else if (at < end && is_align(*at)) {
        f->align = *at++;
    }
    if (at < end && (*at == '+' || *at == '-' || *at == ' ')) {
        f->sign = *at == '-' ? '\0' : *at;
        at++;
    }
    if (at < end && *at == '#') {
        f->other = true;
        at++;
    }
    if (at < end && *at == '0') {
        at++;
        f->zeros = !f->align;
        if (!filled) f->fill = "0";
    }
    if (!parse_digits(&at, end, WIDTH_MAX, &f->width)) return false;
    if (at < end && (*at == ',' || *at == '_')) f->group = *at++;
    if (at < end && *at == '.') {
        at++;
        if (!parse_digits(&at, end, PRECISION_MAX, &f->precision)) return false;
    }
    if (at < end) f->type = *at++;
    return at == end;
}

bool sl__jput_format(sl__jctx *c, sl__jval v, const char *text, size_t size)
{
    spec f;
    int64_t whole;
    double real;
    sl__jval shown;
    if (!parse_spec(text, size, &f))
        return sl__jfail(c, "a format that is not supported: '%.*s'", (int)(size < 60 ? size : 60),
                         text);
    const char type = f.type;
    const bool number = sl__jis_number(v, &real) && (v.kind != SL_J_BOOL || size > 0);
    if (number && f.zeros) f.align = '=';
    if (number && sl__jis_int(v, &whole) && f.precision < 0 && strchr("dxXobn", type) &&
        (!f.group || !strchr(f.group == ',' ? "xXobn" : "n", type) || !type))
        return put_whole(c, &f, whole);
    if (number && (v.kind == SL_J_FLOAT || type) && strchr("eEfFgG%", type))
        return put_real(c, &f, real);
    const bool plain = v.kind == SL_J_STRING || size == 0;
    const bool bare = !f.group && !f.other && !f.sign && f.align != '=';
    if ((type && type != 's') || !plain || !bare)
        return sl__jfail(c, "a '%s' cannot be formatted as '%.*s'", sl__jtype_name(v),
                         (int)(size < 60 ? size : 60), text);
    return sl__jto_str(c, v, &shown) && put_text(c, &f, shown, '<');
}

/* ---- "%s" % x -------------------------------------------------------------------------------- */

typedef struct percent {
    sl__jval args;
    size_t used, count; /* of a tuple */
    const char *at, *end;
} percent;

static bool next_arg(sl__jctx *c, percent *p, sl__jval *out)
{
    if (p->used >= p->count) return sl__jfail(c, "not enough values for the format");
    *out = sl__jis_seq(p->args, SL_J_TUPLE) ? p->args.u.seq->items[p->used] : p->args;
    p->used++;
    return true;
}

/* "(name)": the value under this key. */
static bool named_arg(sl__jctx *c, percent *p, sl__jval *out)
{
    const char *close = memchr(p->at, ')', (size_t)(p->end - p->at));
    if (!close || p->args.kind != SL_J_DICT) return sl__jfail(c, "the format needs a dict");
    const sl__jstr key = {p->at, (uint32_t)(close - p->at),
                          (uint32_t)count_chars(p->at, (size_t)(close - p->at))};
    const sl__jval *value = sl__jdict_find_str(p->args.u.dict, &key);
    if (!value) return sl__jfail(c, "the format needs '%.*s'", (int)key.size, key.text);
    *out = *value;
    p->at = close + 1;
    p->used = p->count;
    return true;
}

static bool size_or_star(sl__jctx *c, percent *p, int64_t max, int64_t *out)
{
    sl__jval v;
    if (p->at < p->end && *p->at == '*') {
        p->at++;
        if (!next_arg(c, p, &v) || !sl__jarg_int(c, v, 0, "'*' in a format", out)) return false;
        return (*out >= -max && *out <= max) || sl__jfail(c, "a width that is too large");
    }
    return parse_digits(&p->at, p->end, max, out) || sl__jfail(c, "a width that is too large");
}

static bool put_conversion(sl__jctx *c, spec *f, char type, sl__jval v)
{
    double real;
    int64_t whole;
    sl__jval shown;
    size_t mark = c->out->size;
    f->type = type;
    if (strchr("src", type)) {
        if (type == 'c'   ? !character(c, v, &shown)
            : type == 's' ? !sl__jto_str(c, v, &shown)
                          : !sl__jput_repr(c, v) || !sl__jtake(c, mark, &shown))
            return false;
        if (type == 'c') f->precision = -1;
        if (f->align == '=') f->align = '>', f->fill = " ";
        return put_text(c, f, shown, '>');
    }
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (!sl__jis_number(v, &real))
        return sl__jfail(c, "%%%c needs a number, not '%s'", type, sl__jtype_name(v));
    if (strchr("eEfFgG", type)) return put_real(c, f, real);
    if (!sl__jis_int(v, &whole)) {
        if (!strchr("diu", type) || !(fabs(real) < 9e18))
            return sl__jfail(c, "%%%c needs a whole number", type);
        whole = (int64_t)real;
    }
    if (strchr("diu", type)) f->type = 'd';
    return put_whole(c, f, whole);
}

static bool put_percent(sl__jctx *c, percent *p)
{
    spec f = {.fill = " ", .fill_size = 1, .precision = -1};
    sl__jval v;
    bool named = p->at < p->end && *p->at == '(';
    if (named && (p->at++, !named_arg(c, p, &v))) return false;
    for (; p->at < p->end && *p->at && strchr("-+ #0", *p->at); p->at++) {
        if (*p->at == '-') f.align = '<';
        if (*p->at == '+' || (*p->at == ' ' && !f.sign)) f.sign = *p->at;
        if (*p->at == '#') f.other = true;
        if (*p->at == '0' && f.align != '<') f.align = '=', f.fill = "0";
    }
    if (f.align == '<') f.fill = " ";
    if (!size_or_star(c, p, WIDTH_MAX, &f.width)) return false;
    if (f.width < 0) f.width = -f.width, f.align = '<', f.fill = " ";
    if (p->at < p->end && *p->at == '.') {
        p->at++;
        if (!size_or_star(c, p, PRECISION_MAX, &f.precision)) return false;
        if (f.precision < 0) f.precision = 0;
    }
    if (p->at == p->end) return sl__jfail(c, "the format ends in the middle");
    char type = *p->at++;
    if (type == '%') return sl__jput(c, "%", 1);
    if (!type || !strchr("srcdiuxXoeEfFgG", type))
        return sl__jfail(c, "a format character that is not supported: '%c'", type);
    if (!named && !next_arg(c, p, &v)) return false;
    return put_conversion(c, &f, type, v);
}

bool sl__jpercent(sl__jctx *c, sl__jval format, sl__jval args, sl__jval *out)
{
    const sl__jstr *s = format.u.str;
    percent p = {.args = args, .at = s->text, .end = s->text + s->size};
    bool tuple = sl__jis_seq(args, SL_J_TUPLE);
    p.count = tuple ? args.u.seq->count : 1;
    size_t mark = c->out->size;
    while (p.at < p.end) {
        const char *sign = memchr(p.at, '%', (size_t)(p.end - p.at)), *stop = sign ? sign : p.end;
        if (!sl__jput(c, p.at, (size_t)(stop - p.at))) return false;
        p.at = sign ? sign + 1 : p.end;
        if (sign && !put_percent(c, &p)) return false;
    }
    bool mapping = args.kind == SL_J_DICT || args.kind == SL_J_UNDEFINED || /* as Python sees it */
                   sl__jis_seq(args, SL_J_LIST) || sl__jis_seq(args, SL_J_RANGE);
    if (p.used < p.count && !mapping) return sl__jfail(c, "not all values are used by the format");
    if (!sl__jtake(c, mark, out)) return false;
    out->flag = format.flag;
    return true;
}

/* ---- str.format ------------------------------------------------------------------------------ */

typedef struct fields {
    const sl__jargs *args;
    size_t next; /* the argument that "{}" takes */
    const char *at, *end;
} fields;

static bool first_value(sl__jctx *c, fields *f, const char *name, size_t size, sl__jval *out)
{
    int64_t index = 0;
    const char *at = name;
    bool number = parse_digits(&at, name + size, INT32_MAX, &index) && at == name + size;
    if (size == 0) index = (int64_t)f->next++;
    if (number) {
        if ((uint64_t)index >= f->args->count)
            return sl__jfail(c, "format() has no value %lld", (long long)index);
        *out = f->args->items[index];
        return true;
    }
    for (size_t i = 0; i < f->args->keyword_count; i++) {
        const sl__jstr *keyword = f->args->keywords[i].name;
        if (keyword->size != size || memcmp(keyword->text, name, size) != 0) continue;
        *out = f->args->keywords[i].value;
        return true;
    }
    return sl__jfail(c, "format() has no value '%.*s'", (int)(size < 60 ? size : 60), name);
}

/* What follows the name: .attribute and [item]. */
static bool follow(sl__jctx *c, const char *at, const char *end, sl__jval *v)
{
    while (at < end) {
        bool item = *at++ == '[';
        const char *stop = at;
        while (stop < end && (item ? *stop != ']' : *stop != '.' && *stop != '['))
            stop++;
        if (item && stop == end) return sl__jfail(c, "format(): ']' is missing");
        sl__jval key;
        int64_t index;
        const char *digit = at;
        if (!sl__jmake(c, at, (size_t)(stop - at), &key)) return false;
        if (item && stop > at && parse_digits(&digit, stop, INT32_MAX, &index) && digit == stop)
            key = sl__jint(index);
        if (item ? !sl__jitem(c, *v, key, v) : !sl__jattribute(c, *v, key.u.str, v)) return false;
        at = stop + item;
    }
    return true;
}

static bool put_field(sl__jctx *c, fields *f)
{
    const char *name = f->at, *close = memchr(name, '}', (size_t)(f->end - name));
    if (!close) return sl__jfail(c, "format(): '}' is missing");
    const char *colon = memchr(name, ':', (size_t)(close - name)), *stop = colon ? colon : close;
    const char *mark = memchr(name, '!', (size_t)(stop - name));
    const char *name_end = mark ? mark : stop, *more = name;
    while (more < name_end && *more != '.' && *more != '[')
        more++;
    sl__jval v;
    if (memchr(name, '{', (size_t)(close - name)))
        return sl__jfail(c, "format(): fields inside of fields are not supported");
    if (!first_value(c, f, name, (size_t)(more - name), &v) || !follow(c, more, name_end, &v))
        return false;
    f->at = close + 1;
    if (mark) {
        size_t from = c->out->size;
        if (stop - mark != 2 || !strchr("sr", mark[1]))
            return sl__jfail(c, "format(): '!' takes s or r");
        if (mark[1] == 's' ? !sl__jto_str(c, v, &v)
                           : !sl__jput_repr(c, v) || !sl__jtake(c, from, &v))
            return false;
    }
    const char *spec_text = colon ? colon + 1 : close;
    return sl__jput_format(c, v, spec_text, (size_t)(close - spec_text));
}

bool sl__jput_fields(sl__jctx *c, const sl__jstr *format, const sl__jargs *args)
{
    fields f = {.args = args, .at = format->text, .end = format->text + format->size};
    while (f.at < f.end) {
        const char *stop = f.at;
        while (stop < f.end && *stop != '{' && *stop != '}')
            stop++;
        if (!sl__jput(c, f.at, (size_t)(stop - f.at))) return false;
        f.at = stop + 1;
        if (stop == f.end) break;
        if (f.at < f.end && *f.at == *stop) { /* doubled: itself */
            if (!sl__jput(c, f.at++, 1)) return false;
        } else if (*stop == '}') {
            return sl__jfail(c, "format(): a '}' by itself");
        } else if (!put_field(c, &f)) {
            return false;
        }
    }
    return true;
}
