/* A compiled template: tokens, and the tree that they become.
 *
 * A node is one struct for all kinds; the table at sl__jnode_kind says which fields a kind uses.
 * Lists (of statements, items, arguments) are chained through `next`. Names are interned: two
 * equal names of a template are one pointer.
 */
#ifndef SL_TEXT_JINJA_AST_H
#define SL_TEXT_JINJA_AST_H

#include "text/jinja_value.h"

/* ---- tokens ---------------------------------------------------------------------------------- */

typedef enum sl__jtoken_kind {
    SL_JT_END = 0,
    SL_JT_DATA,
    SL_JT_VAR_BEGIN,
    SL_JT_VAR_END,
    SL_JT_BLOCK_BEGIN,
    SL_JT_BLOCK_END,
    SL_JT_NAME,
    SL_JT_STRING, /* with its quotes */
    SL_JT_INT,
    SL_JT_FLOAT,
    SL_JT_OP,
} sl__jtoken_kind;

/* An operator of one or two characters as a number: '+' or SL_J2('=', '='). */
#define SL_J2(a, b) ((uint16_t)((unsigned)(a) | (unsigned)(b) << 8))

typedef struct sl__jtoken {
    uint8_t kind;
    uint16_t op;
    uint32_t at, size; /* in the source */
} sl__jtoken;

/* ---- nodes ----------------------------------------------------------------------------------- */

typedef enum sl__jnode_kind {
    /* statements */
    SL_JN_TEXT,         /* value */
    SL_JN_OUTPUT,       /* a */
    SL_JN_IF,           /* list: BRANCHes, the last one perhaps without a test */
    SL_JN_BRANCH,       /* a: test or NULL, body */
    SL_JN_FOR,          /* a: target, b: what is walked, c: test or NULL, body, list: else; flag:
                         * recursive */
    SL_JN_SET,          /* a: target, b */
    SL_JN_SET_BLOCK,    /* a: target, b: filters around a HOLE, or NULL; body */
    SL_JN_MACRO,        /* name, list: PARAMs, body, flag: sl__jmacro_flags */
    SL_JN_PARAM,        /* name, a: default or NULL */
    SL_JN_CALL_BLOCK,   /* a: CALL, list: PARAMs, body, flag */
    SL_JN_FILTER_BLOCK, /* b: filters around a HOLE, body */
    SL_JN_WITH,         /* list: PAIRs, body */
    SL_JN_SCOPE,        /* body */
    SL_JN_BREAK,
    SL_JN_CONTINUE,
    /* expressions */
    SL_JN_CONST,   /* value */
    SL_JN_NAME,    /* name */
    SL_JN_NS_REF,  /* name, value: the attribute; only as a target */
    SL_JN_LIST,    /* list */
    SL_JN_TUPLE,   /* list */
    SL_JN_DICT,    /* list: PAIRs */
    SL_JN_PAIR,    /* a, b */
    SL_JN_NEGATE,  /* a */
    SL_JN_PLUS,    /* a */
    SL_JN_NOT,     /* a */
    SL_JN_AND,     /* a, b */
    SL_JN_OR,      /* a, b */
    SL_JN_BINARY,  /* op, a, b */
    SL_JN_CONCAT,  /* list */
    SL_JN_COMPARE, /* a, list: OPERANDs */
    SL_JN_OPERAND, /* op (SL_JOP_IN and SL_JOP_NOT_IN besides), a */
    SL_JN_COND,    /* a: test, b, c: else or NULL */
    SL_JN_ATTR,    /* a, name */
    SL_JN_ITEM,    /* a, b */
    SL_JN_SLICE,   /* a, b, c: each may be NULL; only as the b of an ITEM */
    SL_JN_CALL,    /* a, list: ARGs */
    SL_JN_ARG,     /* a, name: of a keyword, or NULL; op: 0, '*' or '**' */
    SL_JN_FILTER,  /* a, name, builtin, list: ARGs */
    SL_JN_TEST,    /* a, name, builtin, list: ARGs, flag: negated */
    SL_JN_HOLE,    /* what a filter block or a set block has gathered */
} sl__jnode_kind;

enum { SL_JOP_IN = 1, SL_JOP_NOT_IN = 2 };

/* What a macro's body asks for besides its parameters. */
typedef enum sl__jmacro_flags {
    SL_J_VARARGS = 1,
    SL_J_KWARGS = 2,
    SL_J_CALLER = 4,
} sl__jmacro_flags;

typedef struct sl__jnode sl__jnode;
struct sl__jnode {
    uint8_t kind, flag;
    uint16_t op;
    uint32_t at; /* in the source, for messages */
    const sl__jstr *name;
    const struct sl__jbuiltin *builtin; /* NULL: there is none of this name */
    sl__jval value;
    sl__jnode *a, *b, *c, *body, *list, *next;
};

struct sl__jinja {
    sl__jmem mem;
    const char *name;   /* for messages */
    const char *source; /* line breaks made "\n"; no last one */
    size_t size;
    sl__jnode *root;                                  /* a list of statements */
    const sl__jstr *loop, *caller, *varargs, *kwargs; /* interned */
};

/* ---- the steps ------------------------------------------------------------------------------- */

/* "line 3, column 5": of a byte of the source, columns in characters. */
enum { SL_J_PLACE = 48 };
void sl__jplace(char out[SL_J_PLACE], const sl__jinja *tmpl, size_t at);

/* Fails at a byte of the source: "NAME: line 3, column 5: MESSAGE". */
sl_status sl__jfail_at(sl_error *err, sl_status status, const sl__jinja *tmpl, size_t at,
                       const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* Appends the tokens of tmpl->source, an END last. */
sl_status sl__jlex(const sl__jinja *tmpl, sl__buffer *tokens, sl_error *err);

/* ---- parsing --------------------------------------------------------------------------------- */

enum { SL_J_NESTING_MAX = 150 }; /* of statements and expressions in the text */

typedef struct sl__jparser {
    sl__jinja *tmpl;
    const sl__jtoken *token; /* the current one; the last is END */
    sl__jdict *names;
    unsigned depth, loops;
    unsigned soft;            /* inside of an if: an unknown filter fails only when it is reached */
    const sl__jnode *unknown; /* the first unknown filter or test of this statement */
    uint8_t asked;            /* sl__jmacro_flags of the macro that is being read */
    sl_status status;
    sl_error *err;
} sl__jparser;

/* Each gives NULL after a failure, which is in p->status and p->err. */
sl__jnode *sl__jnode_new(sl__jparser *p, sl__jnode_kind kind, size_t at);
void *sl__jparse_fail(sl__jparser *p, size_t at, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void *sl__jparse_unexpected(sl__jparser *p, const char *expected); /* at the current token */
void *sl__jparse_nomem(sl__jparser *p);
const sl__jstr *sl__jparse_name(sl__jparser *p, const char *what); /* takes a NAME, interned */
bool sl__jparse_enter(sl__jparser *p);
static inline void sl__jparse_leave(sl__jparser *p)
{
    p->depth--;
}

bool sl__jat_op(const sl__jparser *p, uint16_t op);
bool sl__jat_name(const sl__jparser *p, const char *name);
bool sl__jtake_op(sl__jparser *p, uint16_t op); /* whether it was there */
bool sl__jtake_name(sl__jparser *p, const char *name);
bool sl__jexpect_op(sl__jparser *p, uint16_t op);

sl__jnode *sl__jparse_expression(sl__jparser *p);
typedef enum sl__jtuple_rule { SL_J_COND, SL_J_NO_COND } sl__jtuple_rule;
/* An expression, or several apart by commas, a tuple then. */
sl__jnode *sl__jparse_tuple(sl__jparser *p, sl__jtuple_rule rule);
sl__jnode *sl__jparse_target(sl__jparser *p, bool with_namespace);
/* Filters around `a`: "|x|y" or, where inline_name is set, "x|y". */
sl__jnode *sl__jparse_filters(sl__jparser *p, sl__jnode *a, bool inline_name);

#endif
