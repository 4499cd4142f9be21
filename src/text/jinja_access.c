/* Parts of values: attributes, items, slices, and walking through them. */
#include <string.h>

#include "text/jinja_chars.h"
#include "text/jinja_eval.h"

static sl__jval absent(sl__jval in, const sl__jstr *name)
{
    sl__jval v = sl__jundefined(name);
    v.aux = in.kind;
    return v;
}

/* ---- attributes ------------------------------------------------------------------------------ */

/* Whether one more item comes; what has to be tested for it is. */
static bool loop_peek(sl__jctx *c, sl__jloop *loop, bool *more)
{
    if (!sl__jloop_pull(c, loop, loop->index0 + 2)) return false;
    *more = loop->items->count > loop->index0 + 1;
    return true;
}

/* Attributes that know what is still to come. */
static bool loop_ahead(sl__jctx *c, sl__jloop *loop, const sl__jstr *name, sl__jval *out,
                       bool *found)
{
    bool more, last = sl__jstr_is(name, "last");
    *found = true;
    if (last || sl__jstr_is(name, "nextitem")) {
        if (!loop_peek(c, loop, &more)) return false;
        *out = more ? loop->items->items[loop->index0 + 1] : sl__jundefined(name);
        if (last) *out = sl__jbool(!more);
        return true;
    }
    bool length = sl__jstr_is(name, "length"), from_one = sl__jstr_is(name, "revindex");
    *found = length || from_one || sl__jstr_is(name, "revindex0");
    if (!*found) return true;
    if (!sl__jloop_pull(c, loop, SIZE_MAX)) return false;
    int64_t count = (int64_t)loop->items->count;
    *out = sl__jint(length ? count : count - (int64_t)loop->index0 - !from_one);
    return true;
}

static bool loop_attribute(sl__jctx *c, sl__jloop *loop, const sl__jstr *name, sl__jval *out,
                           bool *found)
{
    const int64_t index = (int64_t)loop->index0, depth = (int64_t)loop->depth0;
    const struct {
        const char *name;
        sl__jval value;
    } table[] = {
        {"index", sl__jint(index + 1)},
        {"index0", sl__jint(index)},
        {"first", sl__jbool(index == 0)},
        {"depth", sl__jint(depth + 1)},
        {"depth0", sl__jint(depth)},
        {"previtem", index > 0 ? loop->items->items[index - 1] : sl__jundefined(name)},
    };
    *found = true;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (!sl__jstr_is(name, table[i].name)) continue;
        *out = table[i].value;
        return true;
    }
    return loop_ahead(c, loop, name, out, found);
}

/* What a value's type gives; the keys of a dict come after. */
static bool type_attribute(sl__jctx *c, sl__jval v, const sl__jstr *name, sl__jval *out,
                           bool *found)
{
    if (v.kind == SL_J_LOOP) {
        if (!loop_attribute(c, v.u.loop, name, out, found)) return false;
        if (*found) return true;
    }
    *found = true;
    if (v.kind == SL_J_CYCLER && sl__jstr_is(name, "current")) {
        *out = v.u.cycler->items[v.u.cycler->at];
        return true;
    }
    if (v.kind == SL_J_MACRO && sl__jstr_is(name, "name") && v.u.macro->node->name) {
        *out = sl__jof_str(v.u.macro->node->name);
        return true;
    }
    if (v.kind == SL_J_SEQ && v.u.seq->group) {
        bool grouper = sl__jstr_is(name, "grouper");
        if (grouper || sl__jstr_is(name, "list")) {
            *out = v.u.seq->items[grouper ? 0 : 1];
            return true;
        }
    }
    if (v.kind == SL_J_NAMESPACE) {
        const sl__jval *value = sl__jdict_find_str(v.u.dict, name);
        *found = value != NULL;
        if (value) *out = *value;
        return true;
    }
    return sl__jfind_method(c, v, name, out, found);
}

bool sl__jattribute(sl__jctx *c, sl__jval v, const sl__jstr *name, sl__jval *out)
{
    bool found;
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (!type_attribute(c, v, name, out, &found)) return false;
    if (found) return true;
    const sl__jval *value = v.kind == SL_J_DICT ? sl__jdict_find_str(v.u.dict, name) : NULL;
    *out = value ? *value : absent(v, name);
    return true;
}

/* ---- items ----------------------------------------------------------------------------------- */

static bool char_at(sl__jctx *c, sl__jval v, size_t index, sl__jval *out)
{
    const sl__jstr *s = v.u.str;
    size_t at = sl__jstr_offset(s, index), length;
    sl__jchar(s->text, at, &length);
    if (!sl__jwork(c, s->size == s->chars ? 0 : at / 64)) return false;
    return sl__jmake(c, s->text + at, length, out);
}

static bool is_indexed(sl__jval v)
{
    return v.kind == SL_J_STRING || (v.kind == SL_J_SEQ && v.u.seq->kind <= SL_J_RANGE);
}

/* What an undefined item is called in a message. */
static bool absent_item(sl__jctx *c, sl__jval v, sl__jval key, sl__jval *out)
{
    sl__jval name;
    size_t mark = c->out->size;
    if (key.kind == SL_J_STRING)
        name = key;
    else if (!sl__jput_repr(c, key) || !sl__jtake(c, mark, &name))
        return false;
    *out = absent(v, name.u.str);
    out->flag = SL_J_NO_ITEM;
    return true;
}

bool sl__jitem(sl__jctx *c, sl__jval v, sl__jval key, sl__jval *out)
{
    int64_t index;
    bool found;
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (v.kind == SL_J_DICT && sl__jhashable(key)) {
        if (!sl__jwork_key(c, key)) return false;
        const sl__jval *value = sl__jdict_find(v.u.dict, key);
        if (value) {
            *out = *value;
            return true;
        }
    }
    if (is_indexed(v) && sl__jis_int(key, &index)) {
        int64_t count = v.kind == SL_J_STRING ? (int64_t)v.u.str->chars : (int64_t)v.u.seq->count;
        if (index < 0) index += count;
        if (index < 0 || index >= count) return absent_item(c, v, key, out);
        if (v.kind == SL_J_STRING) return char_at(c, v, (size_t)index, out);
        *out = v.u.seq->items[index];
        return true;
    }
    if (key.kind == SL_J_STRING) {
        if (!type_attribute(c, v, key.u.str, out, &found)) return false;
        if (found) return true;
    }
    return absent_item(c, v, key, out);
}

/* One end of a slice, as Python clips it; lowest and highest depend on the step's sign. */
static bool slice_end(sl__jctx *c, sl__jval v, int64_t otherwise, int64_t count, int64_t lowest,
                      int64_t highest, int64_t *out)
{
    if (v.kind == SL_J_NONE) {
        *out = otherwise;
        return true;
    }
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (!sl__jis_int(v, out)) return sl__jfail(c, "a slice must have whole numbers or nothing");
    if (*out < 0) *out += count;
    if (*out < lowest) *out = lowest;
    if (*out > highest) *out = highest;
    return true;
}

static bool slice_string(sl__jctx *c, const sl__jstr *s, int64_t from, int64_t step, int64_t count,
                         sl__jval *out)
{
    if (!sl__jwork(c, s->size / 64)) return false;
    if (count == 0) return sl__jmake(c, "", 0, out);
    if (step == 1) {
        size_t begin = sl__jstr_offset(s, (size_t)from);
        size_t end = sl__jstr_offset(s, (size_t)(from + count));
        return sl__jmake(c, s->text + begin, end - begin, out);
    }
    size_t mark = c->out->size, length;
    int64_t at = from;
    if (s->size != s->chars && !sl__jwork(c, (uint64_t)count * (1 + s->size / 64))) return false;
    for (int64_t i = 0; i < count; i++, at += step) {
        size_t offset = sl__jstr_offset(s, (size_t)at);
        sl__jchar(s->text, offset, &length);
        if (!sl__jput(c, s->text + offset, length)) return false;
    }
    return sl__jtake(c, mark, out);
}

/* A slice of a range is a range: [from, to) of its places, every step-th. */
static bool slice_range(const sl__jseq *seq, int64_t from, int64_t to, int64_t step, sl__jseq *out)
{
    int64_t begin, end;
    return !__builtin_mul_overflow(from, seq->step, &begin) &&
           !__builtin_mul_overflow(to, seq->step, &end) &&
           !__builtin_add_overflow(begin, seq->first, &out->first) &&
           !__builtin_add_overflow(end, seq->first, &out->after) &&
           !__builtin_mul_overflow(step, seq->step, &out->step);
}

bool sl__jslice(sl__jctx *c, sl__jval v, sl__jval first, sl__jval after, sl__jval step_value,
                sl__jval *out)
{
    int64_t step = 1, from, to;
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (!is_indexed(v)) return sl__jfail(c, "a '%s' cannot be sliced", sl__jtype_name(v));
    if (step_value.kind != SL_J_NONE && !sl__jarg_int(c, step_value, 1, "a slice's step", &step))
        return false;
    if (step == 0 || step == INT64_MIN) return sl__jfail(c, "a slice cannot have this step");
    int64_t count = v.kind == SL_J_STRING ? (int64_t)v.u.str->chars : (int64_t)v.u.seq->count;
    int64_t lowest = step < 0 ? -1 : 0, highest = step < 0 ? count - 1 : count;
    if (!slice_end(c, first, step < 0 ? highest : lowest, count, lowest, highest, &from) ||
        !slice_end(c, after, step < 0 ? lowest : highest, count, lowest, highest, &to))
        return false;
    int64_t span = step > 0 ? to - from : from - to, stride = step > 0 ? step : -step;
    int64_t taken = span > 0 ? (span - 1) / stride + 1 : 0;
    if (v.kind == SL_J_STRING)
        return slice_string(c, v.u.str, from, taken <= 1 ? 1 : step, taken, out);
    sl__jseq_kind kind = v.u.seq->kind;
    if (!sl__jmake_seq(c, kind, (size_t)taken, out)) return false;
    if (kind == SL_J_RANGE && !slice_range(v.u.seq, from, to, step, out->u.seq))
        return sl__jfail(c, "a whole number beyond 64 bits");
    if (taken <= 1) step = 1;
    for (int64_t i = 0; i < taken; i++)
        out->u.seq->items[i] = v.u.seq->items[from + i * step];
    return sl__jwork(c, (uint64_t)taken / 16);
}

/* ---- walking --------------------------------------------------------------------------------- */

bool sl__jwalk_begin(sl__jctx *c, sl__jval v, sl__jwalk *walk)
{
    *walk = (sl__jwalk){v, 0};
    if (v.kind == SL_J_STRING || v.kind == SL_J_SEQ || v.kind == SL_J_DICT ||
        v.kind == SL_J_UNDEFINED)
        return true;
    return sl__jfail(c, "'%s' object is not iterable", sl__jtype_name(v));
}

bool sl__jwalk_next(sl__jctx *c, sl__jwalk *walk, sl__jval *item, bool *more)
{
    sl__jval over = walk->over;
    *more = false;
    if (!sl__jwork(c, 1)) return false;
    if (over.kind == SL_J_STRING) {
        size_t length;
        if (walk->next >= over.u.str->size) return true;
        *more = true;
        sl__jchar(over.u.str->text, walk->next, &length);
        walk->next += length;
        return sl__jmake(c, over.u.str->text + walk->next - length, length, item);
    }
    if (over.kind == SL_J_DICT) {
        *more = walk->next < over.u.dict->count;
        if (*more) *item = over.u.dict->entries[walk->next++].key;
    } else if (over.kind == SL_J_SEQ) {
        sl__jseq *seq = over.u.seq;
        size_t *next = seq->kind == SL_J_ITERATOR ? &seq->next : &walk->next;
        *more = *next < seq->count;
        if (*more) *item = seq->items[(*next)++];
    }
    return true;
}

/* How many items are still to come. */
static size_t walk_left(sl__jval v)
{
    switch ((sl__jkind)v.kind) {
    case SL_J_STRING:
        return v.u.str->chars;
    case SL_J_DICT:
        return v.u.dict->count;
    case SL_J_SEQ:
        return v.u.seq->count - (v.u.seq->kind == SL_J_ITERATOR ? v.u.seq->next : 0);
    default:
        return 0;
    }
}

bool sl__jto_seq(sl__jctx *c, sl__jval v, sl__jseq_kind kind, sl__jval *out)
{
    sl__jwalk walk;
    bool more = true;
    if (kind == SL_J_LIST && v.kind == SL_J_SEQ && v.u.seq->kind == SL_J_LIST) {
        *out = v;
        return true;
    }
    if (!sl__jwalk_begin(c, v, &walk)) return false;
    size_t left = walk_left(v);
    sl__jval seq;
    if (!sl__jmake_seq(c, kind, left, &seq)) return false;
    for (size_t i = 0; i < left && more; i++)
        if (!sl__jwalk_next(c, &walk, &seq.u.seq->items[i], &more)) return false;
    *out = seq;
    return true;
}

bool sl__jlength(sl__jctx *c, sl__jval v, int64_t *out)
{
    switch ((sl__jkind)v.kind) {
    case SL_J_UNDEFINED:
        *out = 0;
        return true;
    case SL_J_STRING:
        *out = (int64_t)v.u.str->chars;
        return true;
    case SL_J_DICT:
        *out = (int64_t)v.u.dict->count;
        return true;
    case SL_J_LOOP:
        if (!sl__jloop_pull(c, v.u.loop, SIZE_MAX)) return false;
        *out = (int64_t)v.u.loop->items->count;
        return true;
    case SL_J_SEQ:
        if (v.u.seq->kind == SL_J_ITERATOR) break;
        *out = (int64_t)v.u.seq->count;
        return true;
    default:
        break;
    }
    return sl__jfail(c, "object of type '%s' has no length", sl__jtype_name(v));
}
