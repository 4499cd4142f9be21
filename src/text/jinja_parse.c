/* From tokens to a tree: statements. Expressions are in jinja_parse_expr.c.
 *
 * Recursive descent over an array of tokens; nesting is bounded, so that no text can use up the
 * stack.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "text/jinja_ast.h"
#include "text/jinja_eval.h"
#include "text/utf8.h"

/* Bytes of a tree: far more than the longest text becomes. */
#define COMPILED_MAX ((uint64_t)1 << 30)

/* ---- failing --------------------------------------------------------------------------------- */

void *sl__jparse_fail(sl__jparser *p, size_t at, const char *fmt, ...)
{
    char message[600];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    if (p->status == SL_OK)
        p->status = sl__jfail_at(p->err, SL_EFORMAT, p->tmpl, at, "%s", message);
    return NULL;
}

void *sl__jparse_nomem(sl__jparser *p)
{
    if (p->status == SL_OK) p->status = SL_FAIL_NOMEM(p->err, "template");
    return NULL;
}

void *sl__jparse_unexpected(sl__jparser *p, const char *expected)
{
    const sl__jtoken *t = p->token;
    int size = (int)(t->size < 60 ? t->size : 60);
    if (t->kind == SL_JT_END)
        return sl__jparse_fail(p, t->at, "expected %s, got the end of the template", expected);
    if (t->kind == SL_JT_BLOCK_END || t->kind == SL_JT_VAR_END)
        return sl__jparse_fail(p, t->at, "expected %s, got the end of the tag", expected);
    return sl__jparse_fail(p, t->at, "expected %s, got '%.*s'", expected, size,
                           p->tmpl->source + t->at);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

bool sl__jat_op(const sl__jparser *p, uint16_t op)
{
    return p->token->kind == SL_JT_OP && p->token->op == op;
}

bool sl__jat_name(const sl__jparser *p, const char *name)
{
    const sl__jtoken *t = p->token;
    return t->kind == SL_JT_NAME && t->size == strlen(name) &&
           memcmp(p->tmpl->source + t->at, name, t->size) == 0;
}

bool sl__jtake_op(sl__jparser *p, uint16_t op)
{
    bool there = sl__jat_op(p, op);
    p->token += there;
    return there;
}

bool sl__jtake_name(sl__jparser *p, const char *name)
{
    bool there = sl__jat_name(p, name);
    p->token += there;
    return there;
}

bool sl__jexpect_op(sl__jparser *p, uint16_t op)
{
    const char shown[] = {'\'', (char)(op & 0xff), op >> 8 ? (char)(op >> 8) : '\'',
                          op >> 8 ? '\'' : '\0', '\0'};
    if (sl__jtake_op(p, op)) return true;
    sl__jparse_unexpected(p, shown);
    return false;
}

static bool expect_kind(sl__jparser *p, sl__jtoken_kind kind, const char *what)
{
    if (p->token->kind == (uint8_t)kind) {
        p->token++;
        return true;
    }
    sl__jparse_unexpected(p, what);
    return false;
}

static const sl__jstr *intern(sl__jparser *p, const char *text, size_t size)
{
    const sl__jstr key = {text, (uint32_t)size, 0};
    const sl__jval *known = sl__jdict_find_str(p->names, &key);
    if (known) return known->u.str;
    const sl__jstr *name = sl__jstr_borrow(&p->tmpl->mem, text, size);
    if (!name || !sl__jdict_set(&p->tmpl->mem, p->names, sl__jof_str(name), sl__jof_str(name)))
        return sl__jparse_nomem(p);
    return name;
}

const sl__jstr *sl__jparse_name(sl__jparser *p, const char *what)
{
    const sl__jtoken *t = p->token;
    if (t->kind != SL_JT_NAME) return sl__jparse_unexpected(p, what);
    p->token++;
    return intern(p, p->tmpl->source + t->at, t->size);
}

bool sl__jparse_enter(sl__jparser *p)
{
    if (p->depth == SL_J_NESTING_MAX) {
        sl__jparse_fail(p, p->token->at, "nested more than %d deep", SL_J_NESTING_MAX);
        return false;
    }
    p->depth++;
    return true;
}

sl__jnode *sl__jnode_new(sl__jparser *p, sl__jnode_kind kind, size_t at)
{
    sl__jnode *node = sl__jmem_alloc(&p->tmpl->mem, sizeof *node);
    if (!node) return sl__jparse_nomem(p);
    memset(node, 0, sizeof *node);
    node->kind = (uint8_t)kind;
    node->at = (uint32_t)at;
    return node;
}

/* ---- statements ------------------------------------------------------------------------------ */

static sl__jnode *parse_statement(sl__jparser *p);

/* The current token is a name out of "elif|else|endif". */
static bool at_one_of(const sl__jparser *p, const char *words)
{
    while (*words) {
        size_t n = strcspn(words, "|");
        if (p->token->kind == SL_JT_NAME && p->token->size == n &&
            memcmp(p->tmpl->source + p->token->at, words, n) == 0)
            return true;
        words += n + (words[n] == '|');
    }
    return false;
}

static sl__jnode *parse_output(sl__jparser *p)
{
    sl__jnode *node = sl__jnode_new(p, SL_JN_OUTPUT, p->token->at);
    p->token++;
    if (!node || !(node->a = sl__jparse_tuple(p, SL_J_COND))) return NULL;
    return expect_kind(p, SL_JT_VAR_END, "'}}'") ? node : NULL;
}

static sl__jnode *parse_text(sl__jparser *p)
{
    const sl__jtoken *t = p->token++;
    sl__jnode *node = sl__jnode_new(p, SL_JN_TEXT, t->at);
    if (!node) return NULL;
    const sl__jstr *text = sl__jstr_borrow(&p->tmpl->mem, p->tmpl->source + t->at, t->size);
    if (!text) return sl__jparse_nomem(p);
    node->value = sl__jof_str(text);
    return node;
}

/* An unknown filter or test is an error at once, unless the template may never come to it. */
static bool check_known(sl__jparser *p)
{
    const sl__jnode *node = p->unknown;
    p->unknown = NULL;
    if (!node || p->soft > 0) return true;
    sl__jparse_fail(p, node->at, "there is no %s '%.*s'",
                    node->kind == SL_JN_FILTER ? "filter" : "test", (int)node->name->size,
                    node->name->text);
    return false;
}

/* Statements up to a tag that begins with one of `ends`, whose name is then the current token;
 * NULL: up to the end of the template. opened: where what they belong to began. */
static bool parse_body(sl__jparser *p, const char *ends, size_t opened, sl__jnode **out)
{
    sl__jnode **tail = out;
    *out = NULL;
    if (!sl__jparse_enter(p)) return false;
    while (p->token->kind != SL_JT_END) {
        sl__jnode *node;
        if (p->token->kind == SL_JT_DATA) {
            node = parse_text(p);
        } else if (p->token->kind == SL_JT_VAR_BEGIN) {
            node = parse_output(p);
        } else {
            assert(p->token->kind == SL_JT_BLOCK_BEGIN);
            p->token++;
            if (ends && at_one_of(p, ends)) {
                sl__jparse_leave(p);
                return true;
            }
            node = parse_statement(p);
            if (node && !expect_kind(p, SL_JT_BLOCK_END, "the end of the tag")) return false;
        }
        if (!node || !check_known(p)) return false;
        *tail = node;
        while (*tail)
            tail = &(*tail)->next;
    }
    sl__jparse_leave(p);
    if (!ends) return true;
    const char *last = strrchr(ends, '|');
    sl__jparse_fail(p, opened, "the block is not closed: {%% %s %%} is missing",
                    last ? last + 1 : ends);
    return false;
}

/* What stands behind a tag's own words, then a body; takes the name of the tag that ended it. */
static bool parse_block(sl__jparser *p, const char *ends, size_t opened, sl__jnode **out)
{
    sl__jtake_op(p, ':');
    return expect_kind(p, SL_JT_BLOCK_END, "the end of the tag") &&
           parse_body(p, ends, opened, out);
}

static sl__jnode *parse_if(sl__jparser *p, sl__jnode *node)
{
    sl__jnode **tail = &node->list;
    bool last = false;
    p->soft++;
    while (!last) {
        sl__jnode *branch = sl__jnode_new(p, SL_JN_BRANCH, p->token->at);
        if (!branch) return NULL;
        if (sl__jtake_name(p, "else")) {
            if (!parse_block(p, "endif", node->at, &branch->body)) return NULL;
        } else {
            p->token++; /* if, elif */
            branch->a = sl__jparse_tuple(p, SL_J_NO_COND);
            if (!branch->a || !parse_block(p, "elif|else|endif", node->at, &branch->body))
                return NULL;
        }
        *tail = branch;
        tail = &branch->next;
        last = sl__jtake_name(p, "endif");
    }
    p->soft--;
    p->unknown = NULL;
    return node;
}

static sl__jnode *parse_for(sl__jparser *p, sl__jnode *node)
{
    p->token++;
    if (!(node->a = sl__jparse_target(p, false))) return NULL;
    if (!sl__jtake_name(p, "in")) return sl__jparse_unexpected(p, "'in'");
    if (!(node->b = sl__jparse_tuple(p, SL_J_NO_COND))) return NULL;
    if (sl__jtake_name(p, "if") && !(node->c = sl__jparse_expression(p))) return NULL;
    node->flag = sl__jtake_name(p, "recursive");
    p->loops++;
    if (!parse_block(p, "else|endfor", node->at, &node->body)) return NULL;
    p->loops--;
    if (sl__jtake_name(p, "else") && !parse_block(p, "endfor", node->at, &node->list)) return NULL;
    p->token++; /* endfor */
    return node;
}

static sl__jnode *parse_set(sl__jparser *p, sl__jnode *node)
{
    p->token++;
    if (!(node->a = sl__jparse_target(p, true))) return NULL;
    if (sl__jtake_op(p, '=')) {
        node->b = sl__jparse_tuple(p, SL_J_COND);
        return node->b ? node : NULL;
    }
    node->kind = SL_JN_SET_BLOCK;
    if (sl__jat_op(p, '|')) {
        sl__jnode *hole = sl__jnode_new(p, SL_JN_HOLE, node->at);
        if (!hole || !(node->b = sl__jparse_filters(p, hole, false))) return NULL;
    }
    if (!parse_block(p, "endset", node->at, &node->body)) return NULL;
    p->token++;
    return node;
}

static sl__jnode *parse_filter_block(sl__jparser *p, sl__jnode *node)
{
    sl__jnode *hole = sl__jnode_new(p, SL_JN_HOLE, node->at);
    p->token++;
    if (!hole || !(node->b = sl__jparse_filters(p, hole, true))) return NULL;
    if (!parse_block(p, "endfilter", node->at, &node->body)) return NULL;
    p->token++;
    return node;
}

/* "(a, b=1)" */
static bool parse_params(sl__jparser *p, sl__jnode **out)
{
    bool defaults = false;
    if (!sl__jexpect_op(p, '(')) return false;
    for (sl__jnode **tail = out; !sl__jtake_op(p, ')'); tail = &(*tail)->next) {
        if (*out && !sl__jexpect_op(p, ',')) return false;
        sl__jnode *param = sl__jnode_new(p, SL_JN_PARAM, p->token->at);
        if (!param || !(param->name = sl__jparse_name(p, "the name of a parameter"))) return false;
        if (sl__jtake_op(p, '=')) {
            defaults = true;
            if (!(param->a = sl__jparse_expression(p))) return false;
        } else if (defaults) {
            sl__jparse_fail(p, param->at, "a parameter without a default follows one with");
            return false;
        }
        *tail = param;
    }
    return true;
}

/* The body of a macro or of a call block, which stands alone: no loop of the outside is its. */
static sl__jnode *parse_macro_body(sl__jparser *p, sl__jnode *node, const char *end)
{
    uint8_t asked = p->asked;
    unsigned loops = p->loops;
    p->asked = 0;
    p->loops = 0;
    if (!parse_block(p, end, node->at, &node->body)) return NULL;
    node->flag = p->asked;
    p->asked = asked | node->flag; /* what a macro inside asks for, this one has to have too */
    p->loops = loops;
    p->token++;
    return node;
}

static sl__jnode *parse_macro(sl__jparser *p, sl__jnode *node)
{
    p->token++;
    if (!(node->name = sl__jparse_name(p, "the macro's name"))) return NULL;
    return parse_params(p, &node->list) ? parse_macro_body(p, node, "endmacro") : NULL;
}

static sl__jnode *parse_call(sl__jparser *p, sl__jnode *node)
{
    p->token++;
    if (sl__jat_op(p, '(') && !parse_params(p, &node->list)) return NULL;
    if (!(node->a = sl__jparse_expression(p))) return NULL;
    if (node->a->kind != SL_JN_CALL) return sl__jparse_fail(p, node->a->at, "expected a call");
    return parse_macro_body(p, node, "endcall");
}

static sl__jnode *parse_with(sl__jparser *p, sl__jnode *node)
{
    p->token++;
    for (sl__jnode **tail = &node->list; p->token->kind != SL_JT_BLOCK_END; tail = &(*tail)->next) {
        if (node->list && !sl__jexpect_op(p, ',')) return NULL;
        sl__jnode *pair = sl__jnode_new(p, SL_JN_PAIR, p->token->at);
        if (!pair || !(pair->a = sl__jparse_target(p, false)) || !sl__jexpect_op(p, '=') ||
            !(pair->b = sl__jparse_expression(p)))
            return NULL;
        *tail = pair;
    }
    if (!parse_block(p, "endwith", node->at, &node->body)) return NULL;
    p->token++;
    return node;
}

static sl__jnode *parse_scope(sl__jparser *p, sl__jnode *node)
{
    p->token++;
    if (!parse_block(p, "endgeneration", node->at, &node->body)) return NULL;
    p->token++;
    return node;
}

/* {% print a, b %}: an output each. */
static sl__jnode *parse_print(sl__jparser *p, sl__jnode *node)
{
    sl__jnode *first = node;
    p->token++;
    if (!(node->a = sl__jparse_expression(p))) return NULL;
    while (sl__jtake_op(p, ',')) {
        node = node->next = sl__jnode_new(p, SL_JN_OUTPUT, p->token->at);
        if (!node || !(node->a = sl__jparse_expression(p))) return NULL;
    }
    return first;
}

static sl__jnode *parse_jump(sl__jparser *p, sl__jnode *node)
{
    p->token++;
    if (p->loops > 0) return node;
    return sl__jparse_fail(p, node->at, "there is no loop to leave here");
}

static sl__jnode *refuse(sl__jparser *p, size_t at)
{
    static const char *const refused[] = {"include",    "import", "from",  "extends", "block",
                                          "autoescape", "do",     "trans", "debug"};
    const sl__jtoken *t = p->token;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (!sl__jat_name(p, refused[i])) continue;
        p->status = sl__jfail_at(p->err, SL_EUNSUPPORTED, p->tmpl, at,
                                 "{%% %s %%} is not supported in a chat template", refused[i]);
        return NULL;
    }
    if (t->kind != SL_JT_NAME) return sl__jparse_unexpected(p, "the name of a tag");
    return sl__jparse_fail(p, at, "unknown tag '%.*s'", (int)(t->size < 60 ? t->size : 60),
                           p->tmpl->source + t->at);
}

static sl__jnode *parse_statement(sl__jparser *p)
{
    static const struct {
        const char *name;
        sl__jnode_kind kind;
        sl__jnode *(*parse)(sl__jparser *p, sl__jnode *node);
    } table[] = {
        {"if", SL_JN_IF, parse_if},
        {"for", SL_JN_FOR, parse_for},
        {"set", SL_JN_SET, parse_set},
        {"macro", SL_JN_MACRO, parse_macro},
        {"with", SL_JN_WITH, parse_with},
        {"call", SL_JN_CALL_BLOCK, parse_call},
        {"break", SL_JN_BREAK, parse_jump},
        {"filter", SL_JN_FILTER_BLOCK, parse_filter_block},
        {"print", SL_JN_OUTPUT, parse_print},
        {"continue", SL_JN_CONTINUE, parse_jump},
        {"generation", SL_JN_SCOPE, parse_scope},
    };
    size_t at = p->token->at;
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        if (!sl__jat_name(p, table[i].name)) continue;
        sl__jnode *node = sl__jnode_new(p, table[i].kind, at);
        return node ? table[i].parse(p, node) : NULL;
    }
    return refuse(p, at);
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The text with "\n" for every line break, and without the last one. */
static sl_status take_source(sl__jinja *tmpl, const char *text, size_t size, sl_error *err)
{
    if (size > SL_JINJA_TEXT_MAX) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: a template of more than %zu bytes", tmpl->name,
                       SL_JINJA_TEXT_MAX);
    }
    char *source = sl__jmem_alloc(&tmpl->mem, size);
    if (!source) return SL_FAIL_NOMEM(err, "template");
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        bool cr = text[i] == '\r';
        source[used++] = cr ? '\n' : text[i];
        i += cr && i + 1 < size && text[i + 1] == '\n';
    }
    tmpl->source = source;
    tmpl->size = used - (used > 0 && source[used - 1] == '\n');
    size_t valid = sl__utf8_valid(source, used);
    if (valid < used) return sl__jfail_at(err, SL_EFORMAT, tmpl, valid, "a byte that is not UTF-8");
    return SL_OK;
}

static sl_status parse_source(sl__jinja *tmpl, sl_error *err)
{
    sl__buffer tokens;
    sl__buffer_init(&tokens, SIZE_MAX / 2);
    sl_status status = sl__jlex(tmpl, &tokens, err);
    sl__jparser parser = {.tmpl = tmpl,
                          .token = (const sl__jtoken *)(void *)tokens.data,
                          .err = err,
                          .status = status};
    sl__jparser *p = &parser;
    if (status == SL_OK) {
        p->names = sl__jdict_new(&tmpl->mem, 64);
        if (!p->names) sl__jparse_nomem(p);
        if (p->names && (tmpl->loop = intern(p, "loop", 4)) &&
            (tmpl->caller = intern(p, "caller", 6)) && (tmpl->varargs = intern(p, "varargs", 7)) &&
            (tmpl->kwargs = intern(p, "kwargs", 6)))
            parse_body(p, NULL, 0, &tmpl->root);
    }
    sl__buffer_free(&tokens);
    return p->status;
}

sl_status sl__jinja_parse(sl__jinja **out, const char *text, size_t size, const char *name,
                          sl_error *err)
{
    *out = NULL;
    sl__jinja *tmpl = calloc(1, sizeof *tmpl);
    if (!tmpl) return SL_FAIL_NOMEM(err, "template");
    sl__jmem_init(&tmpl->mem, COMPILED_MAX);
    const sl__jstr *own = sl__jstr_copy(&tmpl->mem, name, strlen(name) + 1);
    sl_status status = SL_OK;
    if (own)
        tmpl->name = own->text;
    else
        status = SL_FAIL_NOMEM(err, "template");
    if (status == SL_OK) status = take_source(tmpl, text, size, err);
    if (status == SL_OK) status = parse_source(tmpl, err);
    if (status == SL_OK)
        *out = tmpl;
    else
        sl__jinja_free(tmpl);
    return status;
}

void sl__jinja_free(sl__jinja *tmpl)
{
    if (!tmpl) return;
    sl__jmem_free(&tmpl->mem);
    free(tmpl);
}
