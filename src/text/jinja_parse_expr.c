/* From tokens to a tree: expressions, from the loosest binding to the tightest.
 *
 *     x if y else z     or   and   not   == in   + -   ~   * / // %   **   -x +x   x|f  x is t
 *     x.y  x[y]  x(y)
 *
 * Filters and tests bind to the operand beside them, and to a sign before it: -1|abs is (-1)|abs.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/jinja_ast.h"
#include "text/jinja_eval.h"
#include "text/utf8.h"

static sl__jnode *parse_unary(sl__jparser *p, bool with_filter);

static sl__jnode *binary(sl__jparser *p, sl__jnode_kind kind, uint16_t op, size_t at, sl__jnode *a,
                         sl__jnode *b)
{
    if (!a || !b) return NULL;
    sl__jnode *node = sl__jnode_new(p, kind, at);
    if (!node) return NULL;
    node->op = op;
    node->a = a;
    node->b = b;
    return node;
}

/* ---- literals -------------------------------------------------------------------------------- */

/* The value of `count` hex digits, or -1. */
static int64_t hex(const char *text, size_t size, size_t count)
{
    int64_t value = 0;
    if (size < count) return -1;
    for (size_t i = 0; i < count; i++) {
        char c = text[i], low = (char)(c | 0x20);
        bool letter = low >= 'a' && low <= 'f';
        if (!letter && !(c >= '0' && c <= '9')) return -1;
        value = value * 16 + (letter ? low - 'a' + 10 : c - '0');
    }
    return value;
}

/* What stands behind a backslash, of s[0..size): writes its bytes, gives how many were read; 0: not
 * an escape of Python's, or one without a character. */
static size_t unescape(const char *s, size_t size, char *out, size_t *written)
{
    static const char plain[] = "\\'\"abfnrtv", means[] = "\\'\"\a\b\f\n\r\t\v";
    const char *found = strchr(plain, s[0]);
    if (s[0] && found) {
        *out = means[found - plain];
        *written = 1;
        return 1;
    }
    *written = 0;
    if (s[0] == '\n') return 1;
    size_t count = s[0] == 'x' ? 2 : s[0] == 'u' ? 4 : s[0] == 'U' ? 8 : 0, read = count + 1;
    int64_t cp = count ? hex(s + 1, size - 1, count) : -1;
    if (s[0] >= '0' && s[0] <= '7') {
        for (read = 0, cp = 0; read < 3 && read < size && s[read] >= '0' && s[read] <= '7'; read++)
            cp = cp * 8 + (s[read] - '0');
    } else if (count == 0 && s[0] != 'N') { /* both stay */
        out[0] = '\\';
        *written = 1;
        return SIZE_MAX;
    }
    if (cp < 0 || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff)) return 0;
    *written = sl__utf8_put((uint32_t)cp, out);
    return read;
}

/* Appends the meaning of a string token to out, which has room for it. */
static bool put_string(sl__jparser *p, const sl__jtoken *t, char *out, size_t *used)
{
    const char *s = p->tmpl->source + t->at + 1;
    size_t size = t->size - 2;
    for (size_t i = 0; i < size;) {
        if (s[i] != '\\') {
            out[(*used)++] = s[i++];
            continue;
        }
        size_t written, read = unescape(s + i + 1, size - i - 1, out + *used, &written);
        if (read == 0) {
            sl__jparse_fail(p, t->at + 1 + i, "no character is meant by this escape");
            return false;
        }
        *used += written;
        i += read == SIZE_MAX ? 1 : 1 + read;
    }
    return true;
}

/* Strings side by side are one. */
static sl__jnode *parse_string(sl__jparser *p)
{
    const sl__jtoken *first = p->token;
    size_t room = 0, used = 0;
    for (const sl__jtoken *t = first; t->kind == SL_JT_STRING; t++)
        room += t->size;
    sl__jnode *node = sl__jnode_new(p, SL_JN_CONST, first->at);
    char *text = node ? sl__jmem_alloc(&p->tmpl->mem, room) : NULL;
    if (!text) return sl__jparse_nomem(p);
    for (; p->token->kind == SL_JT_STRING; p->token++)
        if (!put_string(p, p->token, text, &used)) return NULL;
    const sl__jstr *str = sl__jstr_borrow(&p->tmpl->mem, text, used);
    if (!str) return sl__jparse_nomem(p);
    node->value = sl__jof_str(str);
    return node;
}

static sl__jnode *parse_number(sl__jparser *p)
{
    const sl__jtoken *t = p->token++;
    const char *s = p->tmpl->source + t->at;
    char digits[400];
    size_t used = 0;
    for (size_t i = 0; i < t->size && used < sizeof digits - 1; i++)
        if (s[i] != '_') digits[used++] = s[i];
    digits[used] = '\0';
    sl__jnode *node = sl__jnode_new(p, SL_JN_CONST, t->at);
    if (!node) return NULL;
    if (used == sizeof digits - 1) return sl__jparse_fail(p, t->at, "a number of too many digits");
    if (t->kind == SL_JT_FLOAT) {
        node->value = sl__jfloat(strtod(digits, NULL));
        return node;
    }
    char kind = used > 2 ? (char)(digits[1] | 0x20) : 0;
    int base = kind == 'x' ? 16 : kind == 'o' ? 8 : kind == 'b' ? 2 : 10;
    errno = 0;
    long long whole = strtoll(digits + (base == 10 ? 0 : 2), NULL, base);
    if (errno) return sl__jparse_fail(p, t->at, "a whole number beyond 64 bits");
    node->value = sl__jint(whole);
    return node;
}

/* Items up to `end`, apart by commas, the last of which may be followed by nothing. */
static sl__jnode *parse_items(sl__jparser *p, sl__jnode_kind kind, uint16_t end)
{
    sl__jnode *node = sl__jnode_new(p, kind, p->token->at);
    if (!node) return NULL;
    p->token++;
    for (sl__jnode **tail = &node->list; !sl__jtake_op(p, end);) {
        if (node->list && !sl__jexpect_op(p, ',')) return NULL;
        if (sl__jtake_op(p, end)) break;
        size_t at = p->token->at;
        sl__jnode *item = sl__jparse_expression(p);
        if (!item) return NULL;
        sl__jnode *pair = sl__jnode_new(p, kind == SL_JN_DICT ? SL_JN_PAIR : SL_JN_ARG, at);
        if (!pair) return NULL;
        pair->a = item;
        if (kind == SL_JN_DICT &&
            (!sl__jexpect_op(p, ':') || !(pair->b = sl__jparse_expression(p))))
            return NULL;
        *tail = pair;
        tail = &pair->next;
    }
    return node;
}

/* ---- primaries ------------------------------------------------------------------------------- */

static bool take_const_name(sl__jparser *p, sl__jval *out)
{
    if (sl__jtake_name(p, "true") || sl__jtake_name(p, "True"))
        *out = sl__jbool(true);
    else if (sl__jtake_name(p, "false") || sl__jtake_name(p, "False"))
        *out = sl__jbool(false);
    else if (sl__jtake_name(p, "none") || sl__jtake_name(p, "None"))
        *out = sl__jnone();
    else
        return false;
    return true;
}

static sl__jnode *parse_name(sl__jparser *p)
{
    sl__jnode *node = sl__jnode_new(p, SL_JN_NAME, p->token->at);
    if (!node) return NULL;
    if (take_const_name(p, &node->value)) {
        node->kind = SL_JN_CONST;
        return node;
    }
    if (!(node->name = sl__jparse_name(p, "a name"))) return NULL;
    if (node->name == p->tmpl->varargs) p->asked |= SL_J_VARARGS;
    if (node->name == p->tmpl->kwargs) p->asked |= SL_J_KWARGS;
    if (node->name == p->tmpl->caller) p->asked |= SL_J_CALLER;
    return node;
}

static sl__jnode *parse_tuple(sl__jparser *p, sl__jtuple_rule rule, bool parentheses);

static sl__jnode *parse_primary(sl__jparser *p)
{
    switch (p->token->kind) {
    case SL_JT_NAME:
        return parse_name(p);
    case SL_JT_STRING:
        return parse_string(p);
    case SL_JT_INT:
    case SL_JT_FLOAT:
        return parse_number(p);
    default:
        break;
    }
    if (sl__jat_op(p, '[')) return parse_items(p, SL_JN_LIST, ']');
    if (sl__jat_op(p, '{')) return parse_items(p, SL_JN_DICT, '}');
    if (!sl__jtake_op(p, '(')) return sl__jparse_unexpected(p, "an expression");
    sl__jnode *node = parse_tuple(p, SL_J_COND, true);
    return node && sl__jexpect_op(p, ')') ? node : NULL;
}

/* ---- what follows a primary ------------------------------------------------------------------ */

static bool at_slice_end(const sl__jparser *p)
{
    return sl__jat_op(p, ']') || sl__jat_op(p, ',');
}

/* An index or a slice. */
static sl__jnode *parse_subscript(sl__jparser *p)
{
    size_t at = p->token->at;
    sl__jnode *first = NULL;
    if (!sl__jat_op(p, ':')) {
        if (!(first = sl__jparse_expression(p)) || !sl__jat_op(p, ':')) return first;
    }
    p->token++;
    sl__jnode *slice = sl__jnode_new(p, SL_JN_SLICE, at);
    if (!slice) return NULL;
    slice->a = first;
    if (!sl__jat_op(p, ':') && !at_slice_end(p) && !(slice->b = sl__jparse_expression(p)))
        return NULL;
    if (sl__jtake_op(p, ':') && !at_slice_end(p) && !(slice->c = sl__jparse_expression(p)))
        return NULL;
    return slice;
}

static sl__jnode *parse_item(sl__jparser *p, sl__jnode *a)
{
    size_t at = p->token->at;
    p->token++;
    sl__jnode *index = parse_subscript(p);
    if (!index) return NULL;
    if (sl__jat_op(p, ',')) {
        sl__jnode *tuple = sl__jnode_new(p, SL_JN_TUPLE, at);
        sl__jnode **tail = tuple ? &tuple->list : NULL;
        while (tuple && index) {
            sl__jnode *arg = sl__jnode_new(p, SL_JN_ARG, index->at);
            if (!arg) return NULL;
            arg->a = index;
            *tail = arg;
            tail = &arg->next;
            if (!sl__jtake_op(p, ',') || sl__jat_op(p, ']')) break;
            index = sl__jparse_expression(p);
        }
        index = index ? tuple : NULL;
    }
    sl__jnode *node = binary(p, SL_JN_ITEM, 0, at, a, index);
    return node && sl__jexpect_op(p, ']') ? node : NULL;
}

static sl__jnode *parse_attribute(sl__jparser *p, sl__jnode *a)
{
    p->token++;
    size_t at = p->token->at;
    if (p->token->kind == SL_JT_INT) return binary(p, SL_JN_ITEM, 0, at, a, parse_number(p));
    sl__jnode *node = sl__jnode_new(p, SL_JN_ATTR, at);
    if (!node) return NULL;
    node->a = a;
    node->name = sl__jparse_name(p, "a name or a number after '.'");
    return node->name ? node : NULL;
}

/* One argument; *stage grows: positional, keywords, '*', '**'. */
static sl__jnode *parse_argument(sl__jparser *p, uint16_t *stage)
{
    sl__jnode *arg = sl__jnode_new(p, SL_JN_ARG, p->token->at);
    if (!arg) return NULL;
    uint16_t kind = 0;
    if (sl__jtake_op(p, SL_J2('*', '*'))) {
        arg->op = SL_J2('*', '*');
        kind = 3;
    } else if (sl__jtake_op(p, '*')) {
        arg->op = '*';
        kind = 2;
    } else if (p->token->kind == SL_JT_NAME && p->token[1].kind == SL_JT_OP &&
               p->token[1].op == '=') {
        arg->name = sl__jparse_name(p, "a name");
        p->token++;
        kind = 1;
    }
    bool wrong = kind == 0 ? *stage > 0 : kind == 1 ? *stage > 2 : *stage >= kind;
    if (wrong)
        return sl__jparse_fail(p, arg->at, "this argument cannot come after those before it");
    if (kind > *stage) *stage = kind;
    arg->a = sl__jparse_expression(p);
    return arg->a ? arg : NULL;
}

static bool parse_arguments(sl__jparser *p, sl__jnode **out)
{
    uint16_t stage = 0;
    if (!sl__jexpect_op(p, '(')) return false;
    for (sl__jnode **tail = out; !sl__jtake_op(p, ')'); tail = &(*tail)->next) {
        if (*out && !sl__jexpect_op(p, ',')) return false;
        if (*out && sl__jtake_op(p, ')')) break;
        if (!(*tail = parse_argument(p, &stage))) return false;
    }
    return true;
}

static sl__jnode *parse_call(sl__jparser *p, sl__jnode *a)
{
    sl__jnode *node = sl__jnode_new(p, SL_JN_CALL, p->token->at);
    if (!node) return NULL;
    node->a = a;
    return parse_arguments(p, &node->list) ? node : NULL;
}

static sl__jnode *parse_postfix(sl__jparser *p, sl__jnode *node)
{
    while (node) {
        if (sl__jat_op(p, '.'))
            node = parse_attribute(p, node);
        else if (sl__jat_op(p, '['))
            node = parse_item(p, node);
        else if (sl__jat_op(p, '('))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

/* ---- filters and tests ----------------------------------------------------------------------- */

/* A filter's or test's name, which may have dots; looks it up. */
static sl__jnode *named(sl__jparser *p, sl__jnode_kind kind, sl__jnode *a)
{
    sl__jnode *node = sl__jnode_new(p, kind, p->token->at);
    bool filter = kind == SL_JN_FILTER;
    if (!node || !(node->name = sl__jparse_name(p, filter ? "a filter's name" : "a test's name")))
        return NULL;
    node->a = a;
    node->builtin = filter ? sl__jfind_filter(node->name) : sl__jfind_test(node->name);
    if (!node->builtin && !p->unknown) p->unknown = node;
    return node;
}

sl__jnode *sl__jparse_filters(sl__jparser *p, sl__jnode *a, bool inline_name)
{
    while (a && (inline_name || sl__jtake_op(p, '|'))) {
        inline_name = false;
        a = named(p, SL_JN_FILTER, a);
        if (a && sl__jat_op(p, '(') && !parse_arguments(p, &a->list)) return NULL;
    }
    return a;
}

/* What may follow a test's name as its one argument, without parentheses. */
static bool at_test_argument(const sl__jparser *p)
{
    switch (p->token->kind) {
    case SL_JT_STRING:
    case SL_JT_INT:
    case SL_JT_FLOAT:
        return true;
    case SL_JT_NAME:
        return !sl__jat_name(p, "else") && !sl__jat_name(p, "or") && !sl__jat_name(p, "and");
    default:
        return sl__jat_op(p, '[') || sl__jat_op(p, '{');
    }
}

static sl__jnode *parse_test(sl__jparser *p, sl__jnode *a)
{
    p->token++; /* is */
    bool negated = sl__jtake_name(p, "not");
    sl__jnode *node = named(p, SL_JN_TEST, a);
    if (!node) return NULL;
    node->flag = negated;
    if (sl__jat_op(p, '(')) return parse_arguments(p, &node->list) ? node : NULL;
    if (!at_test_argument(p)) return node;
    if (sl__jat_name(p, "is"))
        return sl__jparse_fail(p, p->token->at, "tests cannot be chained with 'is'");
    sl__jnode *arg = sl__jnode_new(p, SL_JN_ARG, p->token->at);
    if (!arg || !(arg->a = parse_postfix(p, parse_primary(p)))) return NULL;
    node->list = arg;
    return node;
}

static sl__jnode *parse_filtered(sl__jparser *p, sl__jnode *node)
{
    while (node) {
        if (sl__jat_op(p, '|'))
            node = sl__jparse_filters(p, node, false);
        else if (sl__jat_name(p, "is"))
            node = parse_test(p, node);
        else if (sl__jat_op(p, '('))
            node = parse_call(p, node);
        else
            break;
    }
    return node;
}

/* ---- operators ------------------------------------------------------------------------------- */

static sl__jnode *parse_unary(sl__jparser *p, bool with_filter)
{
    if (!sl__jparse_enter(p)) return NULL;
    sl__jnode *node;
    size_t at = p->token->at;
    bool minus = sl__jtake_op(p, '-');
    if (minus || sl__jtake_op(p, '+')) {
        node = sl__jnode_new(p, minus ? SL_JN_NEGATE : SL_JN_PLUS, at);
        if (node && !(node->a = parse_unary(p, false))) node = NULL;
    } else {
        node = parse_primary(p);
    }
    node = parse_postfix(p, node);
    if (with_filter) node = parse_filtered(p, node);
    sl__jparse_leave(p);
    return node;
}

/* Operands of one level of binding, apart by one of ops, from the left. */
static sl__jnode *parse_level(sl__jparser *p, const uint16_t *ops,
                              sl__jnode *(*operand)(sl__jparser *p))
{
    sl__jnode *node = operand(p);
    while (node) {
        size_t i = 0, at = p->token->at;
        while (ops[i] && !sl__jtake_op(p, ops[i]))
            i++;
        if (!ops[i]) break;
        node = binary(p, SL_JN_BINARY, ops[i], at, node, operand(p));
    }
    return node;
}

static sl__jnode *parse_operand(sl__jparser *p)
{
    return parse_unary(p, true);
}

static sl__jnode *parse_power(sl__jparser *p)
{
    static const uint16_t ops[] = {SL_J2('*', '*'), 0};
    return parse_level(p, ops, parse_operand);
}

static sl__jnode *parse_product(sl__jparser *p)
{
    static const uint16_t ops[] = {'*', '/', SL_J2('/', '/'), '%', 0};
    return parse_level(p, ops, parse_power);
}

static sl__jnode *parse_concat(sl__jparser *p)
{
    sl__jnode *first = parse_product(p);
    if (!first || !sl__jat_op(p, '~')) return first;
    sl__jnode *node = sl__jnode_new(p, SL_JN_CONCAT, p->token->at);
    sl__jnode **tail = node ? &node->list : NULL;
    while (node) {
        sl__jnode *arg = sl__jnode_new(p, SL_JN_ARG, first->at);
        if (!arg) return NULL;
        arg->a = first;
        *tail = arg;
        tail = &arg->next;
        if (!sl__jtake_op(p, '~')) break;
        if (!(first = parse_product(p))) return NULL;
    }
    return node;
}

static sl__jnode *parse_sum(sl__jparser *p)
{
    static const uint16_t ops[] = {'+', '-', 0};
    return parse_level(p, ops, parse_concat);
}

/* The comparison that stands here: its operator, or 0. */
static uint16_t take_comparison(sl__jparser *p)
{
    static const uint16_t ops[] = {SL_J2('=', '='), SL_J2('!', '='), '<', SL_J2('<', '='), '>',
                                   SL_J2('>', '=')};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (sl__jtake_op(p, ops[i])) return ops[i];
    if (sl__jtake_name(p, "in")) return SL_JOP_IN;
    if (!sl__jtake_name(p, "not")) return 0;
    if (sl__jtake_name(p, "in")) return SL_JOP_NOT_IN;
    p->token--;
    return 0;
}

static sl__jnode *parse_comparison(sl__jparser *p)
{
    sl__jnode *first = parse_sum(p), *node = NULL, **tail = NULL;
    while (first) {
        size_t at = p->token->at;
        uint16_t op = take_comparison(p);
        if (!op) return node ? node : first;
        if (!node) {
            if (!(node = sl__jnode_new(p, SL_JN_COMPARE, at))) return NULL;
            node->a = first;
            tail = &node->list;
        }
        sl__jnode *operand = sl__jnode_new(p, SL_JN_OPERAND, at);
        if (!operand || !(operand->a = parse_sum(p))) return NULL;
        operand->op = op;
        *tail = operand;
        tail = &operand->next;
    }
    return NULL;
}

static sl__jnode *parse_not(sl__jparser *p)
{
    size_t at = p->token->at;
    if (!sl__jtake_name(p, "not")) return parse_comparison(p);
    if (!sl__jparse_enter(p)) return NULL;
    sl__jnode *node = sl__jnode_new(p, SL_JN_NOT, at);
    if (node && !(node->a = parse_not(p))) node = NULL;
    sl__jparse_leave(p);
    return node;
}

static sl__jnode *parse_and(sl__jparser *p)
{
    sl__jnode *node = parse_not(p);
    while (node && sl__jat_name(p, "and")) {
        size_t at = p->token++->at;
        node = binary(p, SL_JN_AND, 0, at, node, parse_not(p));
    }
    return node;
}

static sl__jnode *parse_or(sl__jparser *p)
{
    sl__jnode *node = parse_and(p);
    while (node && sl__jat_name(p, "or")) {
        size_t at = p->token++->at;
        node = binary(p, SL_JN_OR, 0, at, node, parse_and(p));
    }
    return node;
}

static sl__jnode *parse_expression(sl__jparser *p, sl__jtuple_rule rule)
{
    if (!sl__jparse_enter(p)) return NULL;
    const sl__jnode *unknown = p->unknown;
    sl__jnode *node = parse_or(p);
    while (node && rule == SL_J_COND && sl__jat_name(p, "if")) {
        sl__jnode *cond = sl__jnode_new(p, SL_JN_COND, p->token++->at);
        if (!cond) return NULL;
        cond->b = node;
        cond->a = parse_or(p);
        if (!cond->a) return NULL;
        if (sl__jtake_name(p, "else") && !(cond->c = sl__jparse_expression(p))) return NULL;
        p->unknown = unknown;
        node = cond;
    }
    sl__jparse_leave(p);
    return node;
}

sl__jnode *sl__jparse_expression(sl__jparser *p)
{
    return parse_expression(p, SL_J_COND);
}

static sl__jnode *parse_tuple(sl__jparser *p, sl__jtuple_rule rule, bool parentheses)
{
    sl__jnode *tuple = NULL, **tail = NULL;
    size_t at = p->token->at;
    if (parentheses && sl__jat_op(p, ')')) return sl__jnode_new(p, SL_JN_TUPLE, at);
    for (;;) {
        if (tuple && (p->token->kind == SL_JT_VAR_END || p->token->kind == SL_JT_BLOCK_END ||
                      sl__jat_op(p, ')') || sl__jat_name(p, "recursive")))
            return tuple;
        sl__jnode *item = parse_expression(p, rule);
        if (!item || (!tuple && !sl__jat_op(p, ','))) return item;
        if (!tuple) {
            if (!(tuple = sl__jnode_new(p, SL_JN_TUPLE, at))) return NULL;
            tail = &tuple->list;
        }
        sl__jnode *arg = sl__jnode_new(p, SL_JN_ARG, item->at);
        if (!arg) return NULL;
        arg->a = item;
        *tail = arg;
        tail = &arg->next;
        if (!sl__jtake_op(p, ',')) return tuple;
    }
}

sl__jnode *sl__jparse_tuple(sl__jparser *p, sl__jtuple_rule rule)
{
    return parse_tuple(p, rule, false);
}

/* ---- targets --------------------------------------------------------------------------------- */

static sl__jnode *parse_one_target(sl__jparser *p, bool with_namespace)
{
    sl__jval constant;
    size_t at = p->token->at;
    if (sl__jtake_op(p, '(')) {
        if (!sl__jparse_enter(p)) return NULL;
        sl__jnode *inner = sl__jparse_target(p, with_namespace);
        sl__jparse_leave(p);
        return inner && sl__jexpect_op(p, ')') ? inner : NULL;
    }
    if (take_const_name(p, &constant)) return sl__jparse_fail(p, at, "a constant cannot be set");
    sl__jnode *node = sl__jnode_new(p, SL_JN_NAME, at);
    if (!node || !(node->name = sl__jparse_name(p, "a name to set"))) return NULL;
    if (with_namespace && sl__jtake_op(p, '.')) {
        const sl__jstr *attribute = sl__jparse_name(p, "the name of an attribute");
        if (!attribute) return NULL;
        node->kind = SL_JN_NS_REF;
        node->value = sl__jof_str(attribute);
    }
    return node;
}

sl__jnode *sl__jparse_target(sl__jparser *p, bool with_namespace)
{
    sl__jnode *tuple = NULL, **tail = NULL;
    size_t at = p->token->at;
    for (;;) {
        if (tuple && (p->token->kind == SL_JT_BLOCK_END || sl__jat_op(p, ')') ||
                      sl__jat_op(p, '=') || sl__jat_name(p, "in")))
            return tuple;
        sl__jnode *item = parse_one_target(p, with_namespace);
        if (!item || (!tuple && !sl__jat_op(p, ','))) return item;
        if (!tuple) {
            if (!(tuple = sl__jnode_new(p, SL_JN_TUPLE, at))) return NULL;
            tail = &tuple->list;
        }
        *tail = item;
        tail = &item->next;
        if (!sl__jtake_op(p, ',')) return tuple;
    }
}
