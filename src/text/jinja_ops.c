/* Operators: Python's, on 64-bit whole numbers and doubles. A whole number that does not fit is an
 * error, never a wrong one. */
#include <math.h>
#include <string.h>

#include "text/jinja_eval.h"

/* ---- equality and order ---------------------------------------------------------------------- */

/* A whole number against a double, exactly. */
static int order_mixed(int64_t whole, double real)
{
    if (real >= 9223372036854775808.0) return -1;
    if (real < -9223372036854775808.0) return 1;
    double floored = floor(real);
    int64_t other = (int64_t)floored;
    if (whole != other) return whole < other ? -1 : 1;
    return real > floored ? -1 : 0;
}

/* Of two numbers; false where one is NaN. */
static bool order_numbers(sl__jval a, sl__jval b, int *out)
{
    int64_t i = 0, j = 0;
    bool whole_a = sl__jis_int(a, &i), whole_b = sl__jis_int(b, &j);
    if ((!whole_a && isnan(a.u.real)) || (!whole_b && isnan(b.u.real))) return false;
    if (whole_a && whole_b)
        *out = (i > j) - (i < j);
    else if (whole_a)
        *out = order_mixed(i, b.u.real);
    else if (whole_b)
        *out = -order_mixed(j, a.u.real);
    else
        *out = (a.u.real > b.u.real) - (a.u.real < b.u.real);
    return true;
}

static bool is_numeric(sl__jval v)
{
    return v.kind == SL_J_BOOL || v.kind == SL_J_INT || v.kind == SL_J_FLOAT;
}

static int order_text(const sl__jstr *a, const sl__jstr *b)
{
    size_t least = a->size < b->size ? a->size : b->size;
    int order = least ? memcmp(a->text, b->text, least) : 0;
    return order ? order : (a->size > b->size) - (a->size < b->size);
}

static bool equal_dicts(sl__jctx *c, const sl__jdict *a, const sl__jdict *b, bool *out)
{
    *out = a->count == b->count;
    for (size_t i = 0; *out && i < a->count; i++) {
        const sl__jval *other = sl__jdict_find(b, a->entries[i].key);
        *out = other != NULL;
        if (other && !sl__jequal(c, a->entries[i].value, *other, out)) return false;
    }
    return true;
}

static bool equal_seqs(sl__jctx *c, const sl__jseq *a, const sl__jseq *b, bool *out)
{
    bool plain = a->kind == SL_J_LIST || a->kind == SL_J_TUPLE || a->kind == SL_J_RANGE ||
                 a->kind == SL_J_KEYS || a->kind == SL_J_ITEMS;
    *out = a == b || (plain && a->kind == b->kind && a->count == b->count);
    for (size_t i = 0; *out && a != b && i < a->count; i++)
        if (!sl__jequal(c, a->items[i], b->items[i], out)) return false;
    return true;
}

bool sl__jequal(sl__jctx *c, sl__jval a, sl__jval b, bool *out)
{
    int order = 0;
    if (is_numeric(a) && is_numeric(b)) {
        *out = order_numbers(a, b, &order) && order == 0;
        return sl__jwork(c, 1);
    }
    *out = false;
    if (a.kind != b.kind) return sl__jwork(c, 1);
    switch ((sl__jkind)a.kind) {
    case SL_J_UNDEFINED:
    case SL_J_NONE:
        *out = true;
        return true;
    case SL_J_STRING:
        *out = sl__jstr_equal(a.u.str, b.u.str);
        return sl__jwork(c, 1 + a.u.str->size / 64);
    case SL_J_SEQ:
    case SL_J_DICT:
        break;
    default:
        *out = a.u.seq == b.u.seq;
        return true;
    }
    if (!sl__jenter(c)) return false;
    bool ok = a.kind == SL_J_SEQ ? equal_seqs(c, a.u.seq, b.u.seq, out)
                                 : equal_dicts(c, a.u.dict, b.u.dict, out);
    sl__jleave(c);
    return ok;
}

static bool order_seqs(sl__jctx *c, const sl__jseq *a, const sl__jseq *b, const char *op, int *out)
{
    size_t least = a->count < b->count ? a->count : b->count;
    for (size_t i = 0; i < least; i++) {
        bool equal;
        if (!sl__jequal(c, a->items[i], b->items[i], &equal)) return false;
        if (!equal) return sl__jorder(c, a->items[i], b->items[i], op, out);
    }
    *out = (a->count > b->count) - (a->count < b->count);
    return true;
}

enum { UNORDERED = 2 }; /* a NaN: every comparison is false */

bool sl__jorder(sl__jctx *c, sl__jval a, sl__jval b, const char *op, int *out)
{
    if (!sl__jwork(c, 1)) return false;
    if (a.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, a);
    if (b.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, b);
    if (is_numeric(a) && is_numeric(b)) {
        if (!order_numbers(a, b, out)) *out = UNORDERED;
        return true;
    }
    if (a.kind == SL_J_STRING && b.kind == SL_J_STRING) {
        int order = order_text(a.u.str, b.u.str);
        *out = (order > 0) - (order < 0);
        return sl__jwork(c, a.u.str->size / 64);
    }
    if (a.kind == SL_J_SEQ && b.kind == SL_J_SEQ && a.u.seq->kind == b.u.seq->kind &&
        (a.u.seq->kind == SL_J_LIST || a.u.seq->kind == SL_J_TUPLE)) {
        if (!sl__jenter(c)) return false;
        bool ok = order_seqs(c, a.u.seq, b.u.seq, op, out);
        sl__jleave(c);
        return ok;
    }
    return sl__jfail(c, "'%s' is not supported between '%s' and '%s'", op, sl__jtype_name(a),
                     sl__jtype_name(b));
}

bool sl__jcompare(sl__jctx *c, uint16_t op, sl__jval a, sl__jval b, bool *out)
{
    const char name[] = {(char)(op & 0xff), (char)(op >> 8), '\0'};
    int order = 0;
    bool truth;
    switch (op) {
    case SL_J2('=', '='):
        return sl__jequal(c, a, b, out);
    case SL_J2('!', '='):
        if (!sl__jequal(c, a, b, &truth)) return false;
        *out = !truth;
        return true;
    case SL_JOP_IN:
        return sl__jcontains(c, b, a, out);
    case SL_JOP_NOT_IN:
        if (!sl__jcontains(c, b, a, &truth)) return false;
        *out = !truth;
        return true;
    default:
        break;
    }
    if (!sl__jorder(c, a, b, name, &order)) return false;
    if (order == UNORDERED)
        *out = false;
    else if (op == '<')
        *out = order < 0;
    else if (op == '>')
        *out = order > 0;
    else
        *out = (op & 0xff) == '<' ? order <= 0 : order >= 0;
    return true;
}

bool sl__jcontains(sl__jctx *c, sl__jval in, sl__jval item, bool *out)
{
    if (in.kind == SL_J_STRING) {
        if (item.kind != SL_J_STRING)
            return sl__jfail(c, "'in <string>' requires a string on the left, not '%s'",
                             sl__jtype_name(item));
        const sl__jstr *s = in.u.str, *part = item.u.str;
        *out = part->size == 0 || memmem(s->text, s->size, part->text, part->size) != NULL;
        return sl__jwork(c, 1 + s->size / 64);
    }
    if (in.kind == SL_J_DICT) {
        if (!sl__jhashable(item))
            return sl__jfail(c, "unhashable type: '%s'", sl__jtype_name(item));
        *out = sl__jdict_find(in.u.dict, item) != NULL;
        return sl__jwork_key(c, item);
    }
    sl__jwalk walk;
    sl__jval other;
    bool more = true;
    if (in.kind != SL_J_SEQ && in.kind != SL_J_UNDEFINED)
        return sl__jfail(c, "'%s' holds nothing that 'in' could find", sl__jtype_name(in));
    if (!sl__jwalk_begin(c, in, &walk)) return false;
    for (*out = false; !*out;) {
        if (!sl__jwalk_next(c, &walk, &other, &more)) return false;
        if (!more) break;
        if (!sl__jequal(c, other, item, out)) return false;
    }
    return true;
}

/* ---- arithmetic ------------------------------------------------------------------------------ */

static bool fail_operands(sl__jctx *c, uint16_t op, sl__jval a, sl__jval b)
{
    const char name[] = {(char)(op & 0xff), (char)(op >> 8), '\0'};
    if (a.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, a);
    if (b.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, b);
    return sl__jfail(c, "'%s' is not supported between '%s' and '%s'", name, sl__jtype_name(a),
                     sl__jtype_name(b));
}

static bool fail_overflow(sl__jctx *c)
{
    return sl__jfail(c, "a whole number beyond 64 bits");
}

static bool power_whole(sl__jctx *c, int64_t base, int64_t exponent, sl__jval *out)
{
    int64_t result = 1;
    if (exponent < 0) {
        if (base == 0) return sl__jfail(c, "0 cannot be raised to a negative power");
        *out = sl__jfloat(pow((double)base, (double)exponent));
        return true;
    }
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return fail_overflow(c);
        exponent >>= 1;
        if (exponent && __builtin_mul_overflow(base, base, &base)) return fail_overflow(c);
    }
    *out = sl__jint(result);
    return true;
}

static bool divide_whole(sl__jctx *c, uint16_t op, int64_t a, int64_t b, sl__jval *out)
{
    if (b == 0) return sl__jfail(c, "division by zero");
    if (op == '/') {
        *out = sl__jfloat((double)a / (double)b);
        return true;
    }
    if (b == -1) { /* the one division that overflows, and its remainder */
        *out = sl__jint(0);
        if (op == '%') return true;
        return a == INT64_MIN ? fail_overflow(c) : (*out = sl__jint(-a), true);
    }
    int64_t quotient = a / b, rest = a % b;
    if (rest != 0 && (rest < 0) != (b < 0)) { /* towards minus infinity */
        quotient--;
        rest += b;
    }
    *out = sl__jint(op == '%' ? rest : quotient);
    return true;
}

static bool whole_op(sl__jctx *c, uint16_t op, int64_t a, int64_t b, sl__jval *out)
{
    int64_t r = 0;
    bool over;
    switch (op) {
    case '+':
        over = __builtin_add_overflow(a, b, &r);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case '*':
        over = __builtin_mul_overflow(a, b, &r);
        break;
    case SL_J2('*', '*'):
        return power_whole(c, a, b, out);
    default:
        return divide_whole(c, op, a, b, out);
    }
    *out = sl__jint(r);
    return !over || fail_overflow(c);
}

static bool real_op(sl__jctx *c, uint16_t op, double a, double b, sl__jval *out)
{
    double rest = 0;
    switch (op) {
    case '+':
        *out = sl__jfloat(a + b);
        return true;
    case '-':
        *out = sl__jfloat(a - b);
        return true;
    case '*':
        *out = sl__jfloat(a * b);
        return true;
    case SL_J2('*', '*'):
        if (a == 0.0 && b < 0.0) return sl__jfail(c, "0.0 cannot be raised to a negative power");
        if (a < 0.0 && isfinite(a) && isfinite(b) && b != floor(b))
            return sl__jfail(c, "a root of a negative number");
        *out = sl__jfloat(pow(a, b));
        return (isfinite(out->u.real) || !isfinite(a) || !isfinite(b)) ||
               sl__jfail(c, "the result is too large");
    default:
        break;
    }
    if (b == 0.0) return sl__jfail(c, "division by zero");
    *out = sl__jfloat(a / b);
    if (op == '/') return true;
    rest = fmod(a, b);
    double quotient = (a - rest) / b;
    if (rest != 0.0) {
        if ((b < 0.0) != (rest < 0.0)) {
            rest += b;
            quotient -= 1.0;
        }
    } else {
        rest = copysign(0.0, b);
    }
    *out = sl__jfloat(rest);
    if (op == '%') return true;
    double floored = quotient != 0.0 ? floor(quotient) : copysign(0.0, a / b);
    if (quotient - floored > 0.5) floored += 1.0;
    *out = sl__jfloat(floored);
    return true;
}

/* ---- strings and sequences ------------------------------------------------------------------- */

/* Beside a marked string, an unmarked one is escaped. */
static bool put_joined(sl__jctx *c, sl__jval v, bool marked)
{
    const sl__jstr *s = v.u.str;
    if (marked && !v.flag) return sl__jput_escaped(c, s->text, s->size);
    return sl__jput(c, s->text, s->size);
}

static bool add_strings(sl__jctx *c, sl__jval a, sl__jval b, sl__jval *out)
{
    size_t mark = c->out->size;
    bool marked = a.flag || b.flag;
    if (!put_joined(c, a, marked) || !put_joined(c, b, marked) || !sl__jtake(c, mark, out))
        return false;
    out->flag = marked;
    return true;
}

static bool add_seqs(sl__jctx *c, const sl__jseq *a, const sl__jseq *b, sl__jval *out)
{
    if (!sl__jmake_seq(c, a->kind, a->count + b->count, out)) return false;
    sl__jval *items = out->u.seq->items;
    if (a->count) memcpy(items, a->items, a->count * sizeof *items);
    if (b->count) memcpy(items + a->count, b->items, b->count * sizeof *items);
    return true;
}

static bool is_plain_seq(sl__jval v)
{
    return v.kind == SL_J_SEQ && (v.u.seq->kind == SL_J_LIST || v.u.seq->kind == SL_J_TUPLE);
}

static bool repeat(sl__jctx *c, sl__jval v, int64_t times, sl__jval *out)
{
    size_t mark = c->out->size;
    if (times < 0) times = 0;
    if (v.kind == SL_J_STRING) {
        const sl__jstr *s = v.u.str;
        for (int64_t i = 0; s->size && i < times; i++)
            if (!sl__jput(c, s->text, s->size)) return false;
        if (!sl__jtake(c, mark, out)) return false;
        out->flag = v.flag;
        return true;
    }
    size_t count = v.u.seq->count;
    if (count && (uint64_t)times > UINT32_MAX / count)
        return sl__jfail_limit(c, "more memory than a render may");
    if (!sl__jmake_seq(c, v.u.seq->kind, count * (size_t)times, out)) return false;
    for (size_t i = 0; count && i < (size_t)times; i++)
        memcpy(out->u.seq->items + i * count, v.u.seq->items, count * sizeof *v.u.seq->items);
    return sl__jwork(c, out->u.seq->count / 16);
}

bool sl__jbinary(sl__jctx *c, uint16_t op, sl__jval a, sl__jval b, sl__jval *out)
{
    int64_t i, j;
    double x, y;
    bool whole_a = sl__jis_int(a, &i), whole_b = sl__jis_int(b, &j);
    if (whole_a && whole_b) return whole_op(c, op, i, j, out);
    if (sl__jis_number(a, &x) && sl__jis_number(b, &y)) return real_op(c, op, x, y, out);
    if (op == '%' && a.kind == SL_J_STRING) return sl__jpercent(c, a, b, out);
    if (op == '+' && a.kind == SL_J_STRING && b.kind == SL_J_STRING)
        return add_strings(c, a, b, out);
    if (op == '+' && is_plain_seq(a) && is_plain_seq(b) && a.u.seq->kind == b.u.seq->kind)
        return add_seqs(c, a.u.seq, b.u.seq, out);
    if (op == '*' && (a.kind == SL_J_STRING || is_plain_seq(a)) && whole_b)
        return repeat(c, a, j, out);
    if (op == '*' && (b.kind == SL_J_STRING || is_plain_seq(b)) && whole_a)
        return repeat(c, b, i, out);
    return fail_operands(c, op, a, b);
}

bool sl__jnegate(sl__jctx *c, sl__jval a, bool minus, sl__jval *out)
{
    int64_t whole;
    if (sl__jis_int(a, &whole)) {
        if (minus && whole == INT64_MIN) return fail_overflow(c);
        *out = sl__jint(minus ? -whole : whole);
        return true;
    }
    if (a.kind == SL_J_FLOAT) {
        *out = sl__jfloat(minus ? -a.u.real : a.u.real);
        return true;
    }
    if (a.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, a);
    return sl__jfail(c, "a sign before '%s'", sl__jtype_name(a));
}
