/* JSON in and out: the variables of a render, and `tojson`, which writes as Python's json.dumps. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/jinja_eval.h"
#include "text/jinja_from_json.h"

/* ---- in -------------------------------------------------------------------------------------- */

static bool object_from(sl__jctx *c, json_t *json, sl__jval *out)
{
    sl__jdict *dict = sl__jdict_new(&c->mem, json_object_size(json));
    if (!dict) return sl__jnomem(c);
    for (void *it = json_object_iter(json); it; it = json_object_iter_next(json, it)) {
        sl__jval key, value;
        if (!sl__jmake(c, json_object_iter_key(it), json_object_iter_key_len(it), &key) ||
            !sl__jfrom_json(c, json_object_iter_value(it), &value))
            return false;
        if (!sl__jdict_set(&c->mem, dict, key, value)) return sl__jnomem(c);
    }
    *out = sl__jof_dict(dict);
    return true;
}

static bool array_from(sl__jctx *c, const json_t *json, sl__jval *out)
{
    size_t count = json_array_size(json);
    sl__jval seq;
    if (!sl__jmake_seq(c, SL_J_LIST, count, &seq)) return false;
    for (size_t i = 0; i < count; i++)
        if (!sl__jfrom_json(c, json_array_get(json, i), &seq.u.seq->items[i])) return false;
    *out = seq;
    return true;
}

bool sl__jfrom_json(sl__jctx *c, json_t *json, sl__jval *out)
{
    bool ok = true;
    if (!sl__jenter(c)) return false;
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        ok = object_from(c, json, out);
        break;
    case JSON_ARRAY:
        ok = array_from(c, json, out);
        break;
    case JSON_STRING:
        ok = sl__jmake(c, json_string_value(json), json_string_length(json), out);
        break;
    case JSON_INTEGER:
        *out = sl__jint(json_integer_value(json));
        break;
    case JSON_REAL:
        *out = sl__jfloat(json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = sl__jbool(json_is_true(json));
        break;
    case JSON_NULL:
        *out = sl__jnone();
        break;
    }
    sl__jleave(c);
    return ok;
}

/* ---- out ------------------------------------------------------------------------------------- */

static bool put_newline(sl__jctx *c, const sl__jjson_style *style, unsigned level)
{
    if (!style->indent) return true;
    if (!sl__jput(c, "\n", 1)) return false;
    for (unsigned i = 0; i < level; i++)
        if (!sl__jput(c, style->indent->text, style->indent->size)) return false;
    return true;
}

/* The escape of one character; 0: it stands for itself. */
static size_t escape(const char *s, bool ascii, size_t *length, char out[16])
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    unsigned char byte = (unsigned char)s[0];
    const char *found = byte ? strchr(plain, s[0]) : NULL;
    *length = 1;
    if (found) return (size_t)snprintf(out, 16, "\\%c", letters[found - plain]);
    if (byte < 0x20) return (size_t)snprintf(out, 16, "\\u%04x", byte);
    if (byte < 0x7f || !ascii) return 0;
    uint32_t cp = sl__jchar(s, 0, length);
    if (cp < 0x10000) return (size_t)snprintf(out, 16, "\\u%04x", cp);
    cp -= 0x10000;
    return (size_t)snprintf(out, 16, "\\u%04x\\u%04x", 0xd800 + (cp >> 10), 0xdc00 + (cp & 0x3ff));
}

static bool put_json_string(sl__jctx *c, const sl__jstr *s, bool ascii)
{
    char escaped[16];
    size_t from = 0, length;
    if (!sl__jput(c, "\"", 1)) return false;
    for (size_t at = 0; at < s->size; at += length) {
        size_t size = escape(s->text + at, ascii, &length, escaped);
        if (size == 0) continue;
        if (!sl__jput(c, s->text + from, at - from) || !sl__jput(c, escaped, size)) return false;
        from = at + length;
    }
    return sl__jput(c, s->text + from, s->size - from) && sl__jput(c, "\"", 1);
}

static bool put_json_float(sl__jctx *c, double x)
{
    char text[40];
    if (isnan(x)) return sl__jput_str(c, "NaN");
    if (isinf(x)) return sl__jput_str(c, x > 0 ? "Infinity" : "-Infinity");
    return sl__jput(c, text, sl__jformat_float(text, x));
}

static bool put_json(sl__jctx *c, sl__jval v, const sl__jjson_style *style, unsigned level);

static bool put_key(sl__jctx *c, sl__jval key, const sl__jjson_style *style)
{
    if (key.kind == SL_J_STRING) return put_json_string(c, key.u.str, style->ascii);
    if (key.kind < SL_J_NONE || key.kind > SL_J_FLOAT)
        return sl__jfail(c, "a key of JSON cannot be a '%s'", sl__jtype_name(key));
    return sl__jput(c, "\"", 1) && put_json(c, key, style, 0) && sl__jput(c, "\"", 1);
}

static bool put_object(sl__jctx *c, const sl__jdict *dict, const sl__jjson_style *style,
                       unsigned level)
{
    if (dict->count == 0) return sl__jput(c, "{}", 2);
    if (!sl__jput(c, "{", 1)) return false;
    const sl__jentry *entries = dict->entries;
    if (style->sorted && !(entries = sl__jsorted_entries(c, dict))) return false;
    for (size_t i = 0; i < dict->count; i++) {
        if ((i && !sl__jput(c, style->between->text, style->between->size)) ||
            !put_newline(c, style, level + 1) || !put_key(c, entries[i].key, style) ||
            !sl__jput(c, style->colon->text, style->colon->size) ||
            !put_json(c, entries[i].value, style, level + 1))
            return false;
    }
    return put_newline(c, style, level) && sl__jput(c, "}", 1);
}

static bool put_array(sl__jctx *c, const sl__jseq *seq, const sl__jjson_style *style,
                      unsigned level)
{
    if (seq->count == 0) return sl__jput(c, "[]", 2);
    if (!sl__jput(c, "[", 1)) return false;
    for (size_t i = 0; i < seq->count; i++) {
        if ((i && !sl__jput(c, style->between->text, style->between->size)) ||
            !put_newline(c, style, level + 1) || !put_json(c, seq->items[i], style, level + 1))
            return false;
    }
    return put_newline(c, style, level) && sl__jput(c, "]", 1);
}

static bool put_json_value(sl__jctx *c, sl__jval v, const sl__jjson_style *style, unsigned level)
{
    switch ((sl__jkind)v.kind) {
    case SL_J_NONE:
        return sl__jput(c, "null", 4);
    case SL_J_BOOL:
        return sl__jput_str(c, v.u.truth ? "true" : "false");
    case SL_J_INT:
        return sl__jput_value(c, v);
    case SL_J_FLOAT:
        return put_json_float(c, v.u.real);
    case SL_J_STRING:
        return put_json_string(c, v.u.str, style->ascii);
    case SL_J_DICT:
        return put_object(c, v.u.dict, style, level);
    case SL_J_SEQ:
        if (v.u.seq->kind <= SL_J_TUPLE) return put_array(c, v.u.seq, style, level);
        break;
    case SL_J_UNDEFINED:
        return sl__jfail_undefined(c, v);
    default:
        break;
    }
    return sl__jfail(c, "object of type '%s' is not JSON serializable", sl__jtype_name(v));
}

static bool put_json(sl__jctx *c, sl__jval v, const sl__jjson_style *style, unsigned level)
{
    if (!sl__jenter(c)) return false;
    bool ok = put_json_value(c, v, style, level);
    sl__jleave(c);
    return ok;
}

bool sl__jput_json(sl__jctx *c, sl__jval v, const sl__jjson_style *style)
{
    return put_json(c, v, style, 0);
}
