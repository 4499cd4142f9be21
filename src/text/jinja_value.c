/* Values: memory, strings, sequences, dicts. */
#include "text/jinja_value.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/hash.h"

#define CHUNK_BYTES ((size_t)64 << 10)
#define ALIGN       ((uint64_t)16)

/* ---- memory ---------------------------------------------------------------------------------- */

void sl__jmem_init(sl__jmem *mem, uint64_t limit)
{
    memset(mem, 0, sizeof *mem);
    sl__arena_init(&mem->arena, CHUNK_BYTES);
    mem->limit = limit;
}

void sl__jmem_free(sl__jmem *mem)
{
    sl__arena_free(&mem->arena);
    mem->next = mem->end = NULL;
    mem->used = 0;
}

void *sl__jmem_alloc(sl__jmem *mem, uint64_t bytes)
{
    if (bytes > mem->limit || mem->used > mem->limit - bytes) {
        mem->over = true;
        return NULL;
    }
    bytes = (bytes + ALIGN - 1) & ~(ALIGN - 1);
    if (bytes == 0) bytes = ALIGN;
    if ((uint64_t)(mem->end - mem->next) < bytes) {
        if (bytes > CHUNK_BYTES / 4) { /* on its own; the chunk stays in use */
            void *own = sl__arena_alloc(&mem->arena, 1, (size_t)bytes);
            if (own) mem->used += bytes;
            return own;
        }
        char *chunk = sl__arena_alloc(&mem->arena, 1, CHUNK_BYTES);
        if (!chunk) return NULL;
        mem->next = chunk;
        mem->end = chunk + CHUNK_BYTES;
    }
    void *out = mem->next;
    mem->next += bytes;
    mem->used += bytes;
    return out;
}

/* ---- strings --------------------------------------------------------------------------------- */

static uint32_t count_chars(const char *text, size_t size)
{
    size_t chars = 0;
    for (size_t i = 0; i < size; i++)
        chars += ((unsigned char)text[i] & 0xc0u) != 0x80u;
    return (uint32_t)chars;
}

const sl__jstr *sl__jstr_borrow(sl__jmem *mem, const char *text, size_t size)
{
    if (size > INT32_MAX) {
        mem->over = true;
        return NULL;
    }
    sl__jstr *s = sl__jmem_alloc(mem, sizeof *s);
    if (!s) return NULL;
    s->text = text;
    s->size = (uint32_t)size;
    s->chars = count_chars(text, size);
    return s;
}

const sl__jstr *sl__jstr_copy(sl__jmem *mem, const char *text, size_t size)
{
    char *own = sl__jmem_alloc(mem, size);
    if (!own) return NULL;
    if (size) memcpy(own, text, size);
    return sl__jstr_borrow(mem, own, size);
}

bool sl__jstr_is(const sl__jstr *a, const char *text)
{
    return a->size == strlen(text) && memcmp(a->text, text, a->size) == 0;
}

bool sl__jstr_equal(const sl__jstr *a, const sl__jstr *b)
{
    return a == b || (a->size == b->size && memcmp(a->text, b->text, a->size) == 0);
}

size_t sl__jstr_offset(const sl__jstr *s, size_t index)
{
    assert(index <= s->chars);
    if (s->size == s->chars) return index;
    if (index == s->chars) return s->size;
    size_t at = 0;
    for (size_t seen = 0;; at++) {
        if (((unsigned char)s->text[at] & 0xc0u) == 0x80u) continue;
        if (seen++ == index) return at;
    }
}

/* ---- sequences ------------------------------------------------------------------------------- */

sl__jseq *sl__jseq_new(sl__jmem *mem, sl__jseq_kind kind, size_t count)
{
    if (count > UINT32_MAX) {
        mem->over = true;
        return NULL;
    }
    sl__jseq *seq = sl__jmem_alloc(mem, sizeof *seq);
    sl__jval *items = seq ? sl__jmem_alloc(mem, count * sizeof *items) : NULL;
    if (!items) return NULL;
    memset(seq, 0, sizeof *seq);
    memset(items, 0, count * sizeof *items);
    seq->kind = kind;
    seq->count = count;
    seq->items = items;
    return seq;
}

/* ---- asking ---------------------------------------------------------------------------------- */

bool sl__jis_int(sl__jval v, int64_t *whole)
{
    if (v.kind != SL_J_INT && v.kind != SL_J_BOOL) return false;
    *whole = v.kind == SL_J_INT ? v.u.whole : v.u.truth;
    return true;
}

bool sl__jis_number(sl__jval v, double *real)
{
    int64_t whole;
    if (sl__jis_int(v, &whole))
        *real = (double)whole;
    else if (v.kind == SL_J_FLOAT)
        *real = v.u.real;
    else
        return false;
    return true;
}

bool sl__jtrue(sl__jval v)
{
    switch ((sl__jkind)v.kind) {
    case SL_J_MISSING:
    case SL_J_UNDEFINED:
    case SL_J_NONE:
        return false;
    case SL_J_BOOL:
        return v.u.truth;
    case SL_J_INT:
        return v.u.whole != 0;
    case SL_J_FLOAT:
        return v.u.real != 0.0;
    case SL_J_STRING:
        return v.u.str->size > 0;
    case SL_J_SEQ:
        return v.u.seq->kind == SL_J_ITERATOR || v.u.seq->count > 0;
    case SL_J_DICT:
        return v.u.dict->count > 0;
    default:
        return true;
    }
}

static const char *seq_name(const sl__jseq *seq)
{
    static const char *const names[] = {"list",        "tuple",      "range",    "dict_keys",
                                        "dict_values", "dict_items", "generator"};
    return names[seq->kind];
}

const char *sl__jtype_name(sl__jval v)
{
    switch ((sl__jkind)v.kind) {
    case SL_J_MISSING:
    case SL_J_UNDEFINED:
        return "Undefined";
    case SL_J_NONE:
        return "NoneType";
    case SL_J_BOOL:
        return "bool";
    case SL_J_INT:
        return "int";
    case SL_J_FLOAT:
        return "float";
    case SL_J_STRING:
        return v.flag ? "Markup" : "str";
    case SL_J_SEQ:
        return seq_name(v.u.seq);
    case SL_J_DICT:
        return "dict";
    case SL_J_NAMESPACE:
        return "Namespace";
    case SL_J_FUNCTION:
        return "function";
    case SL_J_METHOD:
        return "method";
    case SL_J_MACRO:
        return "Macro";
    case SL_J_LOOP:
        return "LoopContext";
    case SL_J_CYCLER:
        return "Cycler";
    case SL_J_JOINER:
        return "Joiner";
    }
    return "object";
}

/* ---- dicts ----------------------------------------------------------------------------------- */

enum { FEW = 8, KEY_DEPTH = 32 };

static bool hashable_at(sl__jval key, unsigned depth)
{
    if (key.kind == SL_J_DICT) return false;
    if (key.kind != SL_J_SEQ) return true;
    if (key.u.seq->kind == SL_J_RANGE || key.u.seq->kind == SL_J_ITERATOR) return true;
    if (key.u.seq->kind != SL_J_TUPLE) return false;
    if (depth == KEY_DEPTH) return false;
    for (size_t i = 0; i < key.u.seq->count; i++)
        if (!hashable_at(key.u.seq->items[i], depth + 1)) return false;
    return true;
}

bool sl__jhashable(sl__jval key)
{
    return hashable_at(key, 0);
}

/* A key that is made of others. */
static bool is_compound(sl__jval v)
{
    return v.kind == SL_J_SEQ && (v.u.seq->kind == SL_J_TUPLE || v.u.seq->kind == SL_J_RANGE);
}

/* Whether two hashable values are one key. */
static bool same_key(sl__jval a, sl__jval b)
{
    int64_t i, j;
    double x, y;
    if (a.kind == SL_J_STRING || b.kind == SL_J_STRING)
        return a.kind == b.kind && sl__jstr_equal(a.u.str, b.u.str);
    if (sl__jis_int(a, &i) && sl__jis_int(b, &j)) return i == j;
    if (sl__jis_number(a, &x) && sl__jis_number(b, &y)) return x == y;
    if (a.kind != b.kind) return false;
    if (a.kind == SL_J_NONE || a.kind == SL_J_UNDEFINED) return true;
    if (a.kind != SL_J_SEQ || !is_compound(a) || !is_compound(b)) return a.u.seq == b.u.seq;
    if (a.u.seq->kind != b.u.seq->kind || a.u.seq->count != b.u.seq->count) return false;
    for (size_t k = 0; k < a.u.seq->count; k++)
        if (!same_key(a.u.seq->items[k], b.u.seq->items[k])) return false;
    return true;
}

static uint64_t hash_key(sl__jval key)
{
    double x;
    if (key.kind == SL_J_STRING) return sl__hash64(key.u.str->text, key.u.str->size);
    if (sl__jis_number(key, &x)) {
        if (x == 0.0) x = 0.0; /* one zero */
        return sl__hash64(&x, sizeof x);
    }
    if (is_compound(key)) {
        uint64_t sum = key.u.seq->count;
        for (size_t i = 0; i < key.u.seq->count; i++)
            sum = sum * 0x9e3779b97f4a7c15u + hash_key(key.u.seq->items[i]);
        return sum;
    }
    return key.kind;
}

sl__jdict *sl__jdict_new(sl__jmem *mem, size_t room)
{
    sl__jdict *dict = sl__jmem_alloc(mem, sizeof *dict);
    if (!dict) return NULL;
    memset(dict, 0, sizeof *dict);
    dict->room = room < 4 ? 4 : room;
    if (dict->room > UINT32_MAX / 4) {
        mem->over = true;
        return NULL;
    }
    dict->entries = sl__jmem_alloc(mem, dict->room * sizeof *dict->entries);
    return dict->entries ? dict : NULL;
}

sl__jval *sl__jdict_find(const sl__jdict *dict, sl__jval key)
{
    if (!dict->slots) {
        for (size_t i = 0; i < dict->count; i++)
            if (same_key(dict->entries[i].key, key)) return &dict->entries[i].value;
        return NULL;
    }
    size_t mask = dict->slot_count - 1;
    for (size_t at = hash_key(key) & mask; dict->slots[at]; at = (at + 1) & mask) {
        sl__jentry *entry = &dict->entries[dict->slots[at] - 1];
        if (same_key(entry->key, key)) return &entry->value;
    }
    return NULL;
}

sl__jval *sl__jdict_find_str(const sl__jdict *dict, const sl__jstr *key)
{
    return sl__jdict_find(dict, sl__jof_str(key));
}

static void fill_slot(sl__jdict *dict, size_t index)
{
    size_t mask = dict->slot_count - 1;
    size_t at = hash_key(dict->entries[index].key) & mask;
    while (dict->slots[at])
        at = (at + 1) & mask;
    dict->slots[at] = (uint32_t)index + 1;
}

/* Makes room for one more entry, and keeps the table at most half full. */
static bool grow(sl__jmem *mem, sl__jdict *dict)
{
    if (dict->count == dict->room) {
        if (dict->room > UINT32_MAX / 4) {
            mem->over = true;
            return false;
        }
        sl__jentry *entries = sl__jmem_alloc(mem, dict->room * 2 * sizeof *entries);
        if (!entries) return false;
        memcpy(entries, dict->entries, dict->count * sizeof *entries);
        dict->entries = entries;
        dict->room *= 2;
    }
    if (dict->count < FEW || dict->count * 2 < dict->slot_count) return true;
    size_t slot_count = dict->room * 4, power = 32;
    while (power < slot_count)
        power *= 2;
    uint32_t *slots = sl__jmem_alloc(mem, power * sizeof *slots);
    if (!slots) return false;
    memset(slots, 0, power * sizeof *slots);
    dict->slots = slots;
    dict->slot_count = power;
    for (size_t i = 0; i < dict->count; i++)
        fill_slot(dict, i);
    return true;
}

bool sl__jdict_set(sl__jmem *mem, sl__jdict *dict, sl__jval key, sl__jval value)
{
    sl__jval *old = sl__jdict_find(dict, key);
    if (old) {
        *old = value;
        return true;
    }
    if (!grow(mem, dict)) return false;
    dict->entries[dict->count] = (sl__jentry){key, value};
    dict->count++;
    if (dict->slots) fill_slot(dict, dict->count - 1);
    return true;
}
