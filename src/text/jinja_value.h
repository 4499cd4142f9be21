/* Values of a template: Python's, as far as a chat template can see them.
 *
 *     value   kind | flag | payload       16 bytes, passed by value
 *     string  text, size, chars           text may lie inside another string: nothing changes
 *     seq     list, tuple, range, views   items in a row
 *     dict    entries in order of coming  and a table of slots once there are more than a few
 *
 * All lie in one arena and live as long as the render. Nothing changes once it was built, but for
 * namespaces, the position of iterators and the state of loops: as in the sandbox that transformers
 * runs templates in, a list has no append.
 */
#ifndef SL_TEXT_JINJA_VALUE_H
#define SL_TEXT_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "text/jinja.h"

typedef enum sl__jkind {
    SL_J_MISSING = 0, /* an argument that was not given; no template ever holds it */
    SL_J_UNDEFINED,   /* string: the name that led to it, or NULL; aux: the kind it was sought in;
                       * flag: why it is not there */
    SL_J_NONE,
    SL_J_BOOL,
    SL_J_INT,
    SL_J_FLOAT,
    SL_J_STRING, /* flag: marked safe */
    SL_J_SEQ,
    SL_J_DICT,
    SL_J_NAMESPACE,
    SL_J_FUNCTION, /* built in */
    SL_J_METHOD,
    SL_J_MACRO,
    SL_J_LOOP,
    SL_J_CYCLER,
    SL_J_JOINER,
} sl__jkind;

/* Why a value is undefined, for the message; 0: the name is not there. */
enum { SL_J_FORBIDDEN = 1, SL_J_NO_ITEM = 2 };

typedef struct sl__jstr {
    const char *text;     /* UTF-8, not NUL-terminated */
    uint32_t size, chars; /* bytes, code points; equal: ASCII */
} sl__jstr;

typedef struct sl__jval {
    uint8_t kind;
    uint8_t flag;
    uint16_t aux;
    union {
        bool truth;
        int64_t whole;
        double real;
        const sl__jstr *str;
        struct sl__jseq *seq;
        struct sl__jdict *dict;
        const struct sl__jbuiltin *builtin;
        struct sl__jmethod *method;
        struct sl__jmacro *macro;
        struct sl__jloop *loop;
        struct sl__jcycler *cycler;
    } u;
} sl__jval;

typedef enum sl__jseq_kind {
    SL_J_LIST = 0,
    SL_J_TUPLE,
    SL_J_RANGE,
    SL_J_KEYS, /* views of a dict */
    SL_J_VALUES,
    SL_J_ITEMS,
    SL_J_ITERATOR, /* what filters such as map give: always true, without length, walked once */
} sl__jseq_kind;

typedef struct sl__jseq {
    sl__jseq_kind kind;
    size_t count;
    sl__jval *items;
    size_t next;                /* ITERATOR: what comes next */
    int64_t first, after, step; /* RANGE, as it was asked for */
    bool group;                 /* a TUPLE of groupby: its items are `grouper` and `list` */
} sl__jseq;

typedef struct sl__jentry {
    sl__jval key, value;
} sl__jentry;

typedef struct sl__jdict {
    size_t count, room;
    sl__jentry *entries;
    uint32_t *slots;   /* index + 1, 0: free; NULL while few */
    size_t slot_count; /* a power of two */
} sl__jdict;

/* ---- memory ---------------------------------------------------------------------------------- */

/* An arena for small things: 16-byte alignment, not zeroed, and a limit. */
typedef struct sl__jmem {
    sl__arena arena;
    char *next, *end;
    uint64_t used, limit;
    bool over; /* the limit, not the system, said no */
} sl__jmem;

void sl__jmem_init(sl__jmem *mem, uint64_t limit);
void sl__jmem_free(sl__jmem *mem);
void *sl__jmem_alloc(sl__jmem *mem, uint64_t bytes); /* NULL: out of memory, or over the limit */

/* ---- making values --------------------------------------------------------------------------- */

static inline sl__jval sl__jnone(void)
{
    return (sl__jval){.kind = SL_J_NONE};
}
static inline sl__jval sl__jbool(bool truth)
{
    return (sl__jval){.kind = SL_J_BOOL, .u.truth = truth};
}
static inline sl__jval sl__jint(int64_t whole)
{
    return (sl__jval){.kind = SL_J_INT, .u.whole = whole};
}
static inline sl__jval sl__jfloat(double real)
{
    return (sl__jval){.kind = SL_J_FLOAT, .u.real = real};
}
static inline sl__jval sl__jundefined(const sl__jstr *name)
{
    return (sl__jval){.kind = SL_J_UNDEFINED, .u.str = name};
}
static inline sl__jval sl__jof_str(const sl__jstr *str)
{
    return (sl__jval){.kind = SL_J_STRING, .u.str = str};
}
static inline sl__jval sl__jof_seq(sl__jseq *seq)
{
    return (sl__jval){.kind = SL_J_SEQ, .u.seq = seq};
}
static inline sl__jval sl__jof_dict(sl__jdict *dict)
{
    return (sl__jval){.kind = SL_J_DICT, .u.dict = dict};
}

/* Borrows text, which must be well-formed UTF-8 and outlive the string. NULL: no memory. */
const sl__jstr *sl__jstr_borrow(sl__jmem *mem, const char *text, size_t size);
const sl__jstr *sl__jstr_copy(sl__jmem *mem, const char *text, size_t size);
/* A sequence with room for `count` items, all MISSING, count set. NULL: no memory. */
sl__jseq *sl__jseq_new(sl__jmem *mem, sl__jseq_kind kind, size_t count);
sl__jdict *sl__jdict_new(sl__jmem *mem, size_t room);

/* ---- asking ---------------------------------------------------------------------------------- */

static inline bool sl__jis(sl__jval v, sl__jkind kind)
{
    return v.kind == (uint8_t)kind;
}
static inline bool sl__jis_seq(sl__jval v, sl__jseq_kind kind)
{
    return v.kind == SL_J_SEQ && v.u.seq->kind == kind;
}
/* Numbers: bool is one of them, as in Python. */
bool sl__jis_int(sl__jval v, int64_t *whole);
bool sl__jis_number(sl__jval v, double *real);
bool sl__jtrue(sl__jval v);
const char *sl__jtype_name(sl__jval v); /* Python's: "str", "NoneType"; static */
bool sl__jstr_is(const sl__jstr *a, const char *text);
bool sl__jstr_equal(const sl__jstr *a, const sl__jstr *b);

/* The byte where code point `index` (at most chars) begins. */
size_t sl__jstr_offset(const sl__jstr *s, size_t index);

/* ---- dicts ----------------------------------------------------------------------------------- */

/* Keys are compared as Python does: 1, 1.0 and True are one key. A key must be hashable. */
bool sl__jhashable(sl__jval key);
sl__jval *sl__jdict_find(const sl__jdict *dict, sl__jval key); /* NULL: not there */
sl__jval *sl__jdict_find_str(const sl__jdict *dict, const sl__jstr *key);
bool sl__jdict_set(sl__jmem *mem, sl__jdict *dict, sl__jval key, sl__jval value); /* no memory */

#endif
