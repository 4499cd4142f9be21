/* Rendering: what statements, expressions, filters, tests and methods share.
 *
 *     scope ── scope ── … ── the outermost, then the variables given, then the built-in functions
 *
 * Every function that can fail gives a bool; after false the cause is in c->status and c->err, and
 * all return at once. Text is made at the end of c->out: what is written there after a mark can be
 * taken away again as a string, so that macros, filters and output share one buffer.
 */
#ifndef SL_TEXT_JINJA_EVAL_H
#define SL_TEXT_JINJA_EVAL_H

#include "text/jinja_ast.h"

typedef struct sl__jvar {
    const sl__jstr *name; /* interned */
    sl__jval value;
} sl__jvar;

/* Names set in a block. */
typedef struct sl__jscope {
    struct sl__jscope *outer;
    sl__jvar *vars;
    uint32_t count, room;
    bool held; /* by a macro made in it, which may outlive the block */
} sl__jscope;

/* A calendar day and time, as Python's datetime. */
typedef struct sl__jclock {
    int year, month, day, hour, minute, second, micro;
} sl__jclock;

typedef enum sl__jflow { SL_J_ON = 0, SL_J_BREAK, SL_J_CONTINUE } sl__jflow;

typedef struct sl__jctx {
    const sl__jinja *tmpl;
    const sl__jinja_limits *limits;
    sl__jmem mem;
    sl__buffer *out;
    sl__jdict *vars;
    sl__jscope *scope;
    sl__jval hole;
    sl__jclock now;
    uint64_t steps;
    uint32_t depth;
    uint32_t at; /* of what is being evaluated, in the source */
    sl__jflow flow;
    sl_status status;
    sl_error *err;
} sl__jctx;

/* ---- failing, limits ------------------------------------------------------------------------- */

/* Always false. */
bool sl__jfail(sl__jctx *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool sl__jfail_limit(sl__jctx *c, const char *what);
bool sl__jnomem(sl__jctx *c); /* after an allocation that gave NULL */
bool sl__jfail_undefined(sl__jctx *c, sl__jval undefined);
bool sl__jwork(sl__jctx *c, uint64_t steps);
/* Finding a key: a long one is read to its end. */
static inline bool sl__jwork_key(sl__jctx *c, sl__jval key)
{
    return key.kind != SL_J_STRING || sl__jwork(c, key.u.str->size / 64);
}
/* One level deeper; leave only after a true. */
bool sl__jenter(sl__jctx *c);
static inline void sl__jleave(sl__jctx *c)
{
    c->depth--;
}

/* ---- text ------------------------------------------------------------------------------------ */

bool sl__jput(sl__jctx *c, const char *text, size_t size);
bool sl__jput_str(sl__jctx *c, const char *text);
bool sl__jput_value(sl__jctx *c, sl__jval v);                      /* str(v) */
bool sl__jput_repr(sl__jctx *c, sl__jval v);                       /* repr(v) */
bool sl__jput_escaped(sl__jctx *c, const char *text, size_t size); /* for HTML */
/* What was put since out->size was `mark`, taken away again. */
bool sl__jtake(sl__jctx *c, size_t mark, sl__jval *out);
bool sl__jmake(sl__jctx *c, const char *text, size_t size, sl__jval *out); /* borrows text */
bool sl__jmake_seq(sl__jctx *c, sl__jseq_kind kind, size_t count, sl__jval *out);
bool sl__jto_str(sl__jctx *c, sl__jval v, sl__jval *out); /* strings stay what they are */
size_t sl__jformat_float(char out[40], double x);         /* repr of a float */

/* ---- operations ------------------------------------------------------------------------------ */

bool sl__jequal(sl__jctx *c, sl__jval a, sl__jval b, bool *out);
/* *out: below, at or above 0. Fails where Python cannot order the two; op is for the message. */
bool sl__jorder(sl__jctx *c, sl__jval a, sl__jval b, const char *op, int *out);
bool sl__jcompare(sl__jctx *c, uint16_t op, sl__jval a, sl__jval b, bool *out);
bool sl__jcontains(sl__jctx *c, sl__jval in, sl__jval item, bool *out);
bool sl__jbinary(sl__jctx *c, uint16_t op, sl__jval a, sl__jval b, sl__jval *out);
bool sl__jnegate(sl__jctx *c, sl__jval a, bool minus, sl__jval *out);
bool sl__jpercent(sl__jctx *c, sl__jval format, sl__jval args, sl__jval *out); /* "%s" % x */

/* v.name and v[key]; what is not there is undefined. */
bool sl__jattribute(sl__jctx *c, sl__jval v, const sl__jstr *name, sl__jval *out);
bool sl__jitem(sl__jctx *c, sl__jval v, sl__jval key, sl__jval *out);
bool sl__jslice(sl__jctx *c, sl__jval v, sl__jval first, sl__jval after, sl__jval step,
                sl__jval *out);

/* Walking a value: strings give characters, dicts keys. */
typedef struct sl__jwalk {
    sl__jval over;
    size_t next;
} sl__jwalk;
bool sl__jwalk_begin(sl__jctx *c, sl__jval v, sl__jwalk *walk);
bool sl__jwalk_next(sl__jctx *c, sl__jwalk *walk, sl__jval *item, bool *more);
/* All at once; a new sequence unless v is a list or tuple and `kind` a list. */
bool sl__jto_seq(sl__jctx *c, sl__jval v, sl__jseq_kind kind, sl__jval *out);
bool sl__jlength(sl__jctx *c, sl__jval v, int64_t *out);

/* ---- calls ----------------------------------------------------------------------------------- */

enum { SL_J_PARAMS_MAX = 8 };

typedef struct sl__jkeyword {
    const sl__jstr *name;
    sl__jval value;
} sl__jkeyword;

typedef struct sl__jargs {
    const sl__jval *items;
    size_t count;
    const sl__jkeyword *keywords;
    size_t keyword_count;
} sl__jargs;

typedef struct sl__jbuiltin sl__jbuiltin;

/* What a built-in function sees: what it was applied to, and the arguments in the order of its
 * parameters, MISSING where not given. */
typedef struct sl__jcall {
    const sl__jbuiltin *builtin;
    sl__jval self;
    sl__jval arg[SL_J_PARAMS_MAX];
    const sl__jargs *args; /* as they came */
} sl__jcall;

struct sl__jbuiltin {
    const char *name;
    bool (*run)(sl__jctx *c, const sl__jcall *call, sl__jval *out);
    const char *params; /* "old new count"; NULL: takes what comes, in call->args */
    uint8_t required;
    uint8_t op; /* where one function serves several names */
};

typedef struct sl__jmethod {
    const sl__jbuiltin *builtin;
    sl__jval self;
} sl__jmethod;

typedef struct sl__jmacro {
    const sl__jnode *node; /* MACRO or CALL_BLOCK */
    sl__jscope *scope;     /* where it was made */
} sl__jmacro;

typedef struct sl__jloop {
    const sl__jnode *node; /* FOR */
    sl__jscope *outer;     /* where it stands */
    const sl__jseq *over;  /* what is walked */
    sl__jseq *items;       /* those of it that passed the loop's test, so far */
    size_t seen;           /* of over */
    size_t index0, depth0;
    bool recursive;
    sl__jseq *changed; /* what `changed` saw last */
} sl__jloop;

typedef struct sl__jcycler {
    const sl__jval *items;
    size_t count, at;
} sl__jcycler;

bool sl__jcall_value(sl__jctx *c, sl__jval callee, const sl__jargs *args, sl__jval *out);
bool sl__jcall_builtin(sl__jctx *c, const sl__jbuiltin *builtin, sl__jval self,
                       const sl__jargs *args, sl__jval *out);
bool sl__jcall_macro(sl__jctx *c, const sl__jmacro *macro, const sl__jargs *args, sl__jval *out);
bool sl__jcall_loop(sl__jctx *c, sl__jloop *loop, const sl__jargs *args, sl__jval *out);

/* The built-in things; NULL: there is none of this name. */
const sl__jbuiltin *sl__jfind(const sl__jbuiltin *table, size_t count, const sl__jstr *name);
const sl__jbuiltin *sl__jfind_filter(const sl__jstr *name);
const sl__jbuiltin *sl__jfind_filter_of_lists(const sl__jstr *name);
const sl__jbuiltin *sl__jfind_str_method(const sl__jstr *name);
const sl__jbuiltin *sl__jfind_test(const sl__jstr *name);
const sl__jbuiltin *sl__jfind_function(const sl__jstr *name);
/* The method of a value's type: true and *out, which is undefined where the sandbox forbids it. */
bool sl__jfind_method(sl__jctx *c, sl__jval v, const sl__jstr *name, sl__jval *out, bool *found);

/* ---- arguments ------------------------------------------------------------------------------- */

/* Each reads a parameter, or the default where it was not given; name is for the message. */
bool sl__jarg_int(sl__jctx *c, sl__jval v, int64_t otherwise, const char *name, int64_t *out);
bool sl__jarg_str(sl__jctx *c, sl__jval v, const char *name, const sl__jstr **out); /* a must */

/* ---- evaluation ------------------------------------------------------------------------------ */

bool sl__jeval(sl__jctx *c, const sl__jnode *node, sl__jval *out);
bool sl__jexec(sl__jctx *c, const sl__jnode *list);
/* Tests what is walked until `count` items have passed, or all were seen: no sooner than anybody
 * asks, since the loop's body may change what the test says. */
bool sl__jloop_pull(sl__jctx *c, sl__jloop *loop, size_t count);
bool sl__jexec_for(sl__jctx *c, const sl__jnode *node, sl__jval over, size_t depth0);
sl__jscope *sl__jscope_push(sl__jctx *c, sl__jscope *outer); /* NULL: failed */
bool sl__jscope_set(sl__jctx *c, sl__jscope *scope, const sl__jstr *name, sl__jval value);
bool sl__jcall_node(sl__jctx *c, const sl__jnode *node, const sl__jkeyword *more, sl__jval *out);

/* ---- strings, sorting ------------------------------------------------------------------------ */

enum { SL_J_LEFT = 1, SL_J_RIGHT = 2 };
typedef enum sl__jrecasing {
    SL_J_ALL_LOWER,
    SL_J_ALL_UPPER,
    SL_J_CAPITAL, /* the first character in title case, the others lower */
    SL_J_WORDS,   /* the first letter of every run of letters */
    SL_J_SWAPPED,
} sl__jrecasing;

/* v is a string; what comes out is marked safe where v is. chars: MISSING or none: white space. */
bool sl__jstrip(sl__jctx *c, sl__jval v, sl__jval chars, unsigned sides, sl__jval *out);
bool sl__jrecase_all(sl__jctx *c, sl__jval v, sl__jrecasing how, sl__jval *out);
bool sl__jreplace(sl__jctx *c, const sl__jstr *s, const sl__jstr *old, const sl__jstr *with,
                  int64_t count, sl__jval *out); /* count below 0: all */
bool sl__jsplit_lines(sl__jctx *c, const sl__jstr *s, bool keep_ends, sl__jval *out);

/* Items paired with what they are sorted by; stable. */
typedef struct sl__jsortable {
    sl__jval item, key;
} sl__jsortable;
bool sl__jsort(sl__jctx *c, sl__jsortable *items, size_t count, bool reverse);
/* By key; NULL: failed. */
const sl__jentry *sl__jsorted_entries(sl__jctx *c, const sl__jdict *dict);
/* Of a string its lower case, of anything else itself. */
bool sl__jfold(sl__jctx *c, sl__jval v, sl__jval *out);

/* ---- JSON, formats, time --------------------------------------------------------------------- */

typedef struct sl__jjson_style {
    bool ascii, sorted;
    const sl__jstr *indent; /* NULL: one line */
    const sl__jstr *between, *colon;
} sl__jjson_style;
bool sl__jput_json(sl__jctx *c, sl__jval v, const sl__jjson_style *style);

/* Python's format(v, spec). */
bool sl__jput_format(sl__jctx *c, sl__jval v, const char *spec, size_t size);
bool sl__jput_fields(sl__jctx *c, const sl__jstr *format, const sl__jargs *args); /* str.format */

bool sl__jclock_parse(const char *text, size_t size, sl__jclock *out); /* ISO 8601 */
void sl__jclock_now(sl__jclock *out);                                  /* local time */
bool sl__jput_time(sl__jctx *c, const sl__jclock *clock, const sl__jstr *format);

#endif
