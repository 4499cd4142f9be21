/* Values as text: what Python's str() and repr() make of them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text/jinja_chars.h"
#include "text/jinja_eval.h"

/* ---- putting and taking ---------------------------------------------------------------------- */

bool sl__jput(sl__jctx *c, const char *text, size_t size)
{
    if (size > c->limits->output_bytes || c->out->size > c->limits->output_bytes - size)
        return sl__jfail_limit(c, "more text than a render may");
    if (!sl__jwork(c, 1 + size / 64)) return false;
    return sl__buffer_append(c->out, text, size) || sl__jnomem(c);
}

bool sl__jput_str(sl__jctx *c, const char *text)
{
    return sl__jput(c, text, strlen(text));
}

bool sl__jtake(sl__jctx *c, size_t mark, sl__jval *out)
{
    size_t size = c->out->size - mark;
    const sl__jstr *s = sl__jstr_copy(&c->mem, size ? c->out->data + mark : "", size);
    if (!s) return sl__jnomem(c);
    c->out->size = mark;
    if (c->out->data) c->out->data[mark] = '\0';
    *out = sl__jof_str(s);
    return true;
}

bool sl__jmake(sl__jctx *c, const char *text, size_t size, sl__jval *out)
{
    const sl__jstr *s = sl__jstr_borrow(&c->mem, text, size);
    if (!s) return sl__jnomem(c);
    *out = sl__jof_str(s);
    return true;
}

bool sl__jmake_seq(sl__jctx *c, sl__jseq_kind kind, size_t count, sl__jval *out)
{
    sl__jseq *seq = sl__jseq_new(&c->mem, kind, count);
    if (!seq) return sl__jnomem(c);
    *out = sl__jof_seq(seq);
    return sl__jwork(c, count / 16);
}

bool sl__jto_str(sl__jctx *c, sl__jval v, sl__jval *out)
{
    size_t mark = c->out->size;
    if (v.kind == SL_J_STRING) {
        *out = v;
        return true;
    }
    return sl__jput_value(c, v) && sl__jtake(c, mark, out);
}

bool sl__jput_escaped(sl__jctx *c, const char *text, size_t size)
{
    size_t from = 0;
    for (size_t i = 0; i < size; i++) {
        const char *as = text[i] == '&'    ? "&amp;"
                         : text[i] == '<'  ? "&lt;"
                         : text[i] == '>'  ? "&gt;"
                         : text[i] == '\'' ? "&#39;"
                         : text[i] == '"'  ? "&#34;"
                                           : NULL;
        if (!as) continue;
        if (!sl__jput(c, text + from, i - from) || !sl__jput_str(c, as)) return false;
        from = i + 1;
    }
    return sl__jput(c, text + from, size - from);
}

/* ---- numbers --------------------------------------------------------------------------------- */

/* The fewest digits that read back as x; scientific below 1e-4 and from 1e16 on. */
size_t sl__jformat_float(char out[40], double x)
{
    char digits[40];
    if (isnan(x) || isinf(x))
        return (size_t)snprintf(out, 40, "%s", isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
    int precision = 0;
    do {
        snprintf(digits, sizeof digits, "%.*e", precision, x);
    } while (strtod(digits, NULL) != x && ++precision < 17);
    int exponent = atoi(strchr(digits, 'e') + 1);
    if (exponent < -4 || exponent >= 16) return (size_t)snprintf(out, 40, "%s", digits);
    int decimals = precision - exponent;
    return (size_t)snprintf(out, 40, "%.*f", decimals > 0 ? decimals : 1, x);
}

static bool put_number(sl__jctx *c, sl__jval v)
{
    char text[40];
    size_t size = v.kind == SL_J_INT
                      ? (size_t)snprintf(text, sizeof text, "%lld", (long long)v.u.whole)
                      : sl__jformat_float(text, v.u.real);
    return sl__jput(c, text, size);
}

/* ---- repr ------------------------------------------------------------------------------------ */

static size_t escape_char(uint32_t cp, char quote, char out[12])
{
    if (cp == '\\' || cp == (uint32_t)quote) return (size_t)snprintf(out, 12, "\\%c", (int)cp);
    if (cp == '\n' || cp == '\r' || cp == '\t')
        return (size_t)snprintf(out, 12, "\\%c", cp == '\n' ? 'n' : cp == '\r' ? 'r' : 't');
    if (sl__jis_printable(cp)) return 0;
    return (size_t)snprintf(out, 12,
                            cp < 0x100     ? "\\x%02x"
                            : cp < 0x10000 ? "\\u%04x"
                                           : "\\U%08x",
                            cp);
}

static bool put_quoted(sl__jctx *c, const sl__jstr *s)
{
    char quote = '\'', escaped[12];
    if (memchr(s->text, '\'', s->size) && !memchr(s->text, '"', s->size)) quote = '"';
    if (!sl__jput(c, &quote, 1)) return false;
    for (size_t at = 0, from = 0, length; at <= s->size; at += length) {
        length = 1;
        uint32_t cp = at < s->size ? sl__jchar(s->text, at, &length) : 0;
        size_t size = at < s->size ? escape_char(cp, quote, escaped) : 0;
        if (at < s->size && size == 0) continue;
        if (!sl__jput(c, s->text + from, at - from) || !sl__jput(c, escaped, size)) return false;
        from = at + length;
    }
    return sl__jput(c, &quote, 1);
}

static bool put_items(sl__jctx *c, const sl__jval *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if ((i && !sl__jput(c, ", ", 2)) || !sl__jput_repr(c, items[i])) return false;
    return true;
}

static bool put_dict(sl__jctx *c, const sl__jdict *dict)
{
    if (!sl__jput(c, "{", 1)) return false;
    for (size_t i = 0; i < dict->count; i++) {
        const sl__jentry *entry = &dict->entries[i];
        if ((i && !sl__jput(c, ", ", 2)) || !sl__jput_repr(c, entry->key) ||
            !sl__jput(c, ": ", 2) || !sl__jput_repr(c, entry->value))
            return false;
    }
    return sl__jput(c, "}", 1);
}

static bool put_seq(sl__jctx *c, const sl__jseq *seq)
{
    static const char *const before[] = {
        "[", "(", "", "dict_keys([", "dict_values([", "dict_items([", ""};
    static const char *const behind[] = {"]", ")", "", "])", "])", "])", ""};
    char text[100];
    if (seq->kind == SL_J_RANGE) {
        int n = snprintf(text, sizeof text, "range(%lld, %lld", (long long)seq->first,
                         (long long)seq->after);
        if (seq->step != 1)
            n += snprintf(text + n, sizeof text - (size_t)n, ", %lld", (long long)seq->step);
        return sl__jput(c, text, (size_t)n) && sl__jput(c, ")", 1);
    }
    if (seq->kind == SL_J_ITERATOR) return sl__jput_str(c, "<generator object>");
    return sl__jput_str(c, before[seq->kind]) && put_items(c, seq->items, seq->count) &&
           (seq->kind != SL_J_TUPLE || seq->count != 1 || sl__jput(c, ",", 1)) &&
           sl__jput_str(c, behind[seq->kind]);
}

static bool put_object(sl__jctx *c, sl__jval v)
{
    char text[60];
    if (v.kind == SL_J_NAMESPACE)
        return sl__jput_str(c, "<Namespace ") && put_dict(c, v.u.dict) && sl__jput(c, ">", 1);
    if (v.kind == SL_J_LOOP)
        snprintf(text, sizeof text, "<LoopContext %zu/%zu>", v.u.loop->index0 + 1,
                 v.u.loop->items->count);
    else
        snprintf(text, sizeof text, "<%s>", sl__jtype_name(v));
    return sl__jput_str(c, text);
}

static bool put_value(sl__jctx *c, sl__jval v, bool repr)
{
    const sl__jstr *s = v.u.str;
    switch ((sl__jkind)v.kind) {
    case SL_J_MISSING:
    case SL_J_UNDEFINED:
        return !repr || sl__jput_str(c, "Undefined");
    case SL_J_NONE:
        return sl__jput(c, "None", 4);
    case SL_J_BOOL:
        return sl__jput_str(c, v.u.truth ? "True" : "False");
    case SL_J_INT:
    case SL_J_FLOAT:
        return put_number(c, v);
    case SL_J_STRING:
        if (!repr) return sl__jput(c, s->text, s->size);
        return (!v.flag || sl__jput_str(c, "Markup(")) && put_quoted(c, s) &&
               (!v.flag || sl__jput(c, ")", 1));
    case SL_J_SEQ:
        return put_seq(c, v.u.seq);
    case SL_J_DICT:
        return put_dict(c, v.u.dict);
    default:
        return put_object(c, v);
    }
}

static bool put_nested(sl__jctx *c, sl__jval v, bool repr)
{
    if (!sl__jenter(c)) return false;
    bool ok = put_value(c, v, repr);
    sl__jleave(c);
    return ok;
}

bool sl__jput_value(sl__jctx *c, sl__jval v)
{
    return put_nested(c, v, false);
}
bool sl__jput_repr(sl__jctx *c, sl__jval v)
{
    return put_nested(c, v, true);
}
