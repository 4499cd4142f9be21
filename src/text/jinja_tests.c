/* Tests: what stands behind `is`. */
#include <string.h>

#include "text/jinja_chars.h"
#include "text/jinja_eval.h"

enum { EVEN, ODD, DIVISIBLE };

static bool test_divisible(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    unsigned op = call->builtin->op;
    sl__jval by = op == DIVISIBLE ? call->arg[0] : sl__jint(2), rest;
    bool equal;
    if (!sl__jbinary(c, '%', call->self, by, &rest) ||
        !sl__jequal(c, rest, sl__jint(op == ODD), &equal))
        return false;
    *out = sl__jbool(equal);
    return true;
}

static bool test_defined(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    (void)c;
    *out = sl__jbool((call->self.kind == SL_J_UNDEFINED) == (call->builtin->op != 0));
    return true;
}

enum {
    IS_NONE,
    IS_BOOLEAN,
    IS_FALSE,
    IS_TRUE,
    IS_INTEGER,
    IS_FLOAT,
    IS_NUMBER,
    IS_STRING,
    IS_MAPPING,
    IS_SEQUENCE,
    IS_ITERABLE,
    IS_CALLABLE,
    IS_ESCAPED
};

static bool is_type(sl__jval v, unsigned type)
{
    bool number = v.kind == SL_J_INT || v.kind == SL_J_FLOAT || v.kind == SL_J_BOOL;
    bool several = v.kind == SL_J_STRING || v.kind == SL_J_DICT || v.kind == SL_J_UNDEFINED;
    switch (type) {
    case IS_NONE:
        return v.kind == SL_J_NONE;
    case IS_BOOLEAN:
        return v.kind == SL_J_BOOL;
    case IS_FALSE:
        return v.kind == SL_J_BOOL && !v.u.truth;
    case IS_TRUE:
        return v.kind == SL_J_BOOL && v.u.truth;
    case IS_INTEGER:
        return v.kind == SL_J_INT;
    case IS_FLOAT:
        return v.kind == SL_J_FLOAT;
    case IS_NUMBER:
        return number;
    case IS_STRING:
        return v.kind == SL_J_STRING;
    case IS_MAPPING:
        return v.kind == SL_J_DICT;
    case IS_SEQUENCE:
        return several || (v.kind == SL_J_SEQ && v.u.seq->kind <= SL_J_RANGE);
    case IS_ITERABLE:
        return several || v.kind == SL_J_SEQ || v.kind == SL_J_LOOP;
    case IS_ESCAPED:
        return v.kind == SL_J_STRING && v.flag;
    default: /* as Python has it, an undefined value can be called: it then fails */
        return v.kind == SL_J_UNDEFINED || (v.kind >= SL_J_FUNCTION && v.kind != SL_J_CYCLER);
    }
}

static bool test_type(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    (void)c;
    *out = sl__jbool(is_type(call->self, call->builtin->op));
    return true;
}

static bool test_case(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval text;
    bool wanted = false, other = false, upper = call->builtin->op;
    if (!sl__jto_str(c, call->self, &text)) return false;
    const sl__jstr *s = text.u.str;
    if (!sl__jwork(c, s->size / 16)) return false;
    for (size_t at = 0, length; at < s->size; at += length) {
        uint32_t cp = sl__jchar(s->text, at, &length);
        bool up = sl__jis_upper(cp), low = sl__jis_lower(cp);
        wanted = wanted || (upper ? up : low);
        other = other || (upper ? low : up) || sl__jis_title(cp);
    }
    *out = sl__jbool(wanted && !other);
    return true;
}

static const uint16_t comparisons[] = {SL_J2('=', '='), SL_J2('!', '='), '>', SL_J2('>', '='), '<',
                                       SL_J2('<', '='), SL_JOP_IN};
enum { EQ, NE, GT, GE, LT, LE, IN };

static bool test_compare(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    bool truth;
    if (!sl__jcompare(c, comparisons[call->builtin->op], call->self, call->arg[0], &truth))
        return false;
    *out = sl__jbool(truth);
    return true;
}

/* One and the same: of scalars, equal and of one kind. */
static bool test_same(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval a = call->self, b = call->arg[0];
    bool same = a.kind == b.kind;
    if (same && a.kind >= SL_J_NONE && a.kind <= SL_J_STRING) {
        if (!sl__jequal(c, a, b, &same)) return false;
    } else {
        same = same && a.u.seq == b.u.seq;
    }
    *out = sl__jbool(same);
    return true;
}

enum { NAMES_FILTER, NAMES_TEST };

static bool test_names(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jval v = call->self;
    if (!sl__jhashable(v)) return sl__jfail(c, "unhashable type: '%s'", sl__jtype_name(v));
    const bool text = v.kind == SL_J_STRING;
    *out = sl__jbool(text && (call->builtin->op == NAMES_FILTER ? sl__jfind_filter(v.u.str) != NULL
                                                                : sl__jfind_test(v.u.str) != NULL));
    return true;
}

static const sl__jbuiltin tests[] = {
    {"defined", test_defined, "", 0, 0},
    {"undefined", test_defined, "", 0, 1},
    {"none", test_type, "", 0, IS_NONE},
    {"boolean", test_type, "", 0, IS_BOOLEAN},
    {"false", test_type, "", 0, IS_FALSE},
    {"true", test_type, "", 0, IS_TRUE},
    {"integer", test_type, "", 0, IS_INTEGER},
    {"float", test_type, "", 0, IS_FLOAT},
    {"number", test_type, "", 0, IS_NUMBER},
    {"string", test_type, "", 0, IS_STRING},
    {"mapping", test_type, "", 0, IS_MAPPING},
    {"sequence", test_type, "", 0, IS_SEQUENCE},
    {"iterable", test_type, "", 0, IS_ITERABLE},
    {"callable", test_type, "", 0, IS_CALLABLE},
    {"escaped", test_type, "", 0, IS_ESCAPED},
    {"even", test_divisible, "", 0, EVEN},
    {"odd", test_divisible, "", 0, ODD},
    {"divisibleby", test_divisible, "num", 1, DIVISIBLE},
    {"lower", test_case, "", 0, 0},
    {"upper", test_case, "", 0, 1},
    {"in", test_compare, "seq", 1, IN},
    {"==", test_compare, "b", 1, EQ},
    {"eq", test_compare, "b", 1, EQ},
    {"equalto", test_compare, "b", 1, EQ},
    {"!=", test_compare, "b", 1, NE},
    {"ne", test_compare, "b", 1, NE},
    {">", test_compare, "b", 1, GT},
    {"gt", test_compare, "b", 1, GT},
    {"greaterthan", test_compare, "b", 1, GT},
    {">=", test_compare, "b", 1, GE},
    {"ge", test_compare, "b", 1, GE},
    {"<", test_compare, "b", 1, LT},
    {"lt", test_compare, "b", 1, LT},
    {"lessthan", test_compare, "b", 1, LT},
    {"<=", test_compare, "b", 1, LE},
    {"le", test_compare, "b", 1, LE},
    {"sameas", test_same, "other", 1, 0},
    {"filter", test_names, "", 0, NAMES_FILTER},
    {"test", test_names, "", 0, NAMES_TEST},
};

const sl__jbuiltin *sl__jfind_test(const sl__jstr *name)
{
    return sl__jfind(tests, sizeof tests / sizeof tests[0], name);
}
