/* Rendering: expressions. */
#include <assert.h>
#include <string.h>

#include "text/jinja_eval.h"

static bool eval_name(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    for (const sl__jscope *s = c->scope; s; s = s->outer) {
        for (uint32_t i = 0; i < s->count; i++) {
            if (s->vars[i].name == node->name) {
                *out = s->vars[i].value;
                return true;
            }
        }
        if (!sl__jwork(c, 1 + s->count / 16)) return false;
    }
    const sl__jval *given = sl__jdict_find_str(c->vars, node->name);
    if (given) {
        *out = *given;
        return true;
    }
    const sl__jbuiltin *builtin = sl__jfind_function(node->name);
    *out = builtin ? (sl__jval){.kind = SL_J_FUNCTION, .u.builtin = builtin}
                   : sl__jundefined(node->name);
    return true;
}

static size_t count_list(const sl__jnode *list)
{
    size_t count = 0;
    for (; list; list = list->next)
        count++;
    return count;
}

static bool eval_items(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    sl__jseq_kind kind = node->kind == SL_JN_LIST ? SL_J_LIST : SL_J_TUPLE;
    sl__jval seq;
    if (!sl__jmake_seq(c, kind, count_list(node->list), &seq)) return false;
    sl__jval *item = seq.u.seq->items;
    for (const sl__jnode *n = node->list; n; n = n->next)
        if (!sl__jeval(c, n->a, item++)) return false;
    *out = seq;
    return true;
}

static bool eval_dict(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    sl__jdict *dict = sl__jdict_new(&c->mem, count_list(node->list));
    if (!dict) return sl__jnomem(c);
    for (const sl__jnode *n = node->list; n; n = n->next) {
        sl__jval key, value;
        if (!sl__jeval(c, n->a, &key) || !sl__jeval(c, n->b, &value)) return false;
        c->at = n->at;
        if (!sl__jhashable(key)) return sl__jfail(c, "unhashable type: '%s'", sl__jtype_name(key));
        if (!sl__jdict_set(&c->mem, dict, key, value)) return sl__jnomem(c);
    }
    *out = sl__jof_dict(dict);
    return true;
}

static bool eval_concat(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    size_t mark = c->out->size;
    for (const sl__jnode *n = node->list; n; n = n->next) {
        sl__jval part;
        if (!sl__jeval(c, n->a, &part) || !sl__jput_value(c, part)) return false;
    }
    return sl__jtake(c, mark, out);
}

static bool eval_compare(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    sl__jval left, right;
    bool truth = true;
    if (!sl__jeval(c, node->a, &left)) return false;
    for (const sl__jnode *n = node->list; n && truth; n = n->next) {
        if (!sl__jeval(c, n->a, &right)) return false;
        c->at = n->at;
        if (!sl__jcompare(c, n->op, left, right, &truth)) return false;
        left = right;
    }
    *out = sl__jbool(truth);
    return true;
}

static bool eval_cond(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    sl__jval test;
    if (!sl__jeval(c, node->a, &test)) return false;
    if (sl__jtrue(test)) return sl__jeval(c, node->b, out);
    if (node->c) return sl__jeval(c, node->c, out);
    *out = sl__jundefined(NULL);
    return true;
}

static bool eval_item(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    sl__jval v, part[3];
    if (!sl__jeval(c, node->a, &v)) return false;
    if (node->b->kind != SL_JN_SLICE) {
        if (!sl__jeval(c, node->b, &part[0])) return false;
        c->at = node->at;
        return sl__jitem(c, v, part[0], out);
    }
    const sl__jnode *ends[3] = {node->b->a, node->b->b, node->b->c};
    for (int i = 0; i < 3; i++) {
        part[i] = sl__jnone();
        if (ends[i] && !sl__jeval(c, ends[i], &part[i])) return false;
    }
    c->at = node->at;
    return sl__jslice(c, v, part[0], part[1], part[2], out);
}

/* ---- calls ----------------------------------------------------------------------------------- */

/* The values of *x and **x are counted as they are met: room is grown by doubling. */
typedef struct gathered {
    sl__jval *items;
    sl__jkeyword *keywords;
    size_t count, room, keyword_count, keyword_room;
} gathered;

static bool add_item(sl__jctx *c, gathered *g, sl__jval v)
{
    if (g->count == g->room) {
        size_t room = g->room ? g->room * 2 : 4;
        sl__jval *items = sl__jmem_alloc(&c->mem, room * sizeof *items);
        if (!items) return sl__jnomem(c);
        if (g->count) memcpy(items, g->items, g->count * sizeof *items);
        g->items = items;
        g->room = room;
    }
    g->items[g->count++] = v;
    return true;
}

static bool add_keyword(sl__jctx *c, gathered *g, const sl__jstr *name, sl__jval v)
{
    for (size_t i = 0; i < g->keyword_count; i++) {
        if (sl__jstr_equal(g->keywords[i].name, name))
            return sl__jfail(c, "the argument '%.*s' is given twice", (int)name->size, name->text);
    }
    if (!sl__jwork(c, g->keyword_count)) return false;
    if (g->keyword_count == g->keyword_room) {
        size_t room = g->keyword_room ? g->keyword_room * 2 : 4;
        sl__jkeyword *keywords = sl__jmem_alloc(&c->mem, room * sizeof *keywords);
        if (!keywords) return sl__jnomem(c);
        if (g->keyword_count) memcpy(keywords, g->keywords, g->keyword_count * sizeof *keywords);
        g->keywords = keywords;
        g->keyword_room = room;
    }
    g->keywords[g->keyword_count++] = (sl__jkeyword){name, v};
    return true;
}

static bool add_spread(sl__jctx *c, gathered *g, uint16_t op, sl__jval v)
{
    sl__jval item;
    if (op == '*') {
        sl__jwalk walk;
        bool more = true;
        if (!sl__jwalk_begin(c, v, &walk)) return false;
        while (sl__jwalk_next(c, &walk, &item, &more) && more)
            if (!add_item(c, g, item)) return false;
        return !more;
    }
    if (v.kind != SL_J_DICT) return sl__jfail(c, "what follows ** is no dict");
    for (size_t i = 0; i < v.u.dict->count; i++) {
        const sl__jentry *entry = &v.u.dict->entries[i];
        if (entry->key.kind != SL_J_STRING) return sl__jfail(c, "a keyword that is no string");
        if (!add_keyword(c, g, entry->key.u.str, entry->value)) return false;
    }
    return true;
}

static bool eval_args(sl__jctx *c, const sl__jnode *list, const sl__jkeyword *more, sl__jargs *out)
{
    gathered g = {0};
    for (const sl__jnode *n = list; n; n = n->next) {
        sl__jval v;
        if (!sl__jeval(c, n->a, &v)) return false;
        c->at = n->at;
        bool ok = n->op     ? add_spread(c, &g, n->op, v)
                  : n->name ? add_keyword(c, &g, n->name, v)
                            : add_item(c, &g, v);
        if (!ok) return false;
    }
    if (more && !add_keyword(c, &g, more->name, more->value)) return false;
    *out = (sl__jargs){g.items, g.count, g.keywords, g.keyword_count};
    return true;
}

bool sl__jcall_node(sl__jctx *c, const sl__jnode *node, const sl__jkeyword *more, sl__jval *out)
{
    sl__jval callee;
    sl__jargs args;
    if (!sl__jeval(c, node->a, &callee) || !eval_args(c, node->list, more, &args)) return false;
    c->at = node->a->at;
    return sl__jcall_value(c, callee, &args, out);
}

static bool eval_filter(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    sl__jval v;
    sl__jargs args;
    if (!sl__jeval(c, node->a, &v) || !eval_args(c, node->list, NULL, &args)) return false;
    c->at = node->at;
    if (!node->builtin) {
        return sl__jfail(c, "there is no %s '%.*s'", node->kind == SL_JN_FILTER ? "filter" : "test",
                         (int)node->name->size, node->name->text);
    }
    if (!sl__jcall_builtin(c, node->builtin, v, &args, out)) return false;
    if (node->kind == SL_JN_TEST) *out = sl__jbool(sl__jtrue(*out) != (node->flag != 0));
    return true;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static bool eval_logic(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    if (!sl__jeval(c, node->a, out)) return false;
    if (node->kind == SL_JN_NOT)
        *out = sl__jbool(!sl__jtrue(*out));
    else if (sl__jtrue(*out) == (node->kind == SL_JN_AND))
        return sl__jeval(c, node->b, out);
    return true;
}

static bool eval_binary(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    sl__jval a, b;
    if (!sl__jeval(c, node->a, &a) || !sl__jeval(c, node->b, &b)) return false;
    c->at = node->at;
    return sl__jbinary(c, node->op, a, b, out);
}

static bool eval_attr(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    sl__jval v;
    if (!sl__jeval(c, node->a, &v)) return false;
    c->at = node->at;
    return sl__jattribute(c, v, node->name, out);
}

static bool eval_sign(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    sl__jval v;
    if (!sl__jeval(c, node->a, &v)) return false;
    c->at = node->at;
    return sl__jnegate(c, v, node->kind == SL_JN_NEGATE, out);
}

static bool eval_one(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    switch ((sl__jnode_kind)node->kind) {
    case SL_JN_CONST:
        *out = node->value;
        return true;
    case SL_JN_HOLE:
        *out = c->hole;
        return true;
    case SL_JN_NAME:
        return eval_name(c, node, out);
    case SL_JN_LIST:
    case SL_JN_TUPLE:
        return eval_items(c, node, out);
    case SL_JN_DICT:
        return eval_dict(c, node, out);
    case SL_JN_NEGATE:
    case SL_JN_PLUS:
        return eval_sign(c, node, out);
    case SL_JN_NOT:
    case SL_JN_AND:
    case SL_JN_OR:
        return eval_logic(c, node, out);
    case SL_JN_BINARY:
        return eval_binary(c, node, out);
    case SL_JN_CONCAT:
        return eval_concat(c, node, out);
    case SL_JN_COMPARE:
        return eval_compare(c, node, out);
    case SL_JN_COND:
        return eval_cond(c, node, out);
    case SL_JN_ATTR:
        return eval_attr(c, node, out);
    case SL_JN_ITEM:
        return eval_item(c, node, out);
    case SL_JN_CALL:
        return sl__jcall_node(c, node, NULL, out);
    case SL_JN_FILTER:
    case SL_JN_TEST:
        return eval_filter(c, node, out);
    case SL_JN_SLICE:
        return sl__jfail(c, "a slice beside other indices");
    default:
        assert(false && "an expression");
        return false;
    }
}

bool sl__jeval(sl__jctx *c, const sl__jnode *node, sl__jval *out)
{
    if (!sl__jenter(c)) return false;
    c->at = node->at;
    bool ok = eval_one(c, node, out);
    sl__jleave(c);
    return ok;
}
