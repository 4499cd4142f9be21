/* Rendering: limits, scopes, statements. */
#include "text/jinja_eval.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"

const sl__jinja_limits sl__jinja_default_limits = {
    .steps = 100000000,
    .memory_bytes = (uint64_t)256 << 20,
    .output_bytes = (uint64_t)64 << 20,
    .depth = 1000,
};

/* ---- failing, limits ------------------------------------------------------------------------- */

static bool fail_as(sl__jctx *c, sl_status status, const char *message)
{
    if (c->status == SL_OK) c->status = sl__jfail_at(c->err, status, c->tmpl, c->at, "%s", message);
    return false;
}

bool sl__jfail(sl__jctx *c, const char *fmt, ...)
{
    char message[700];
    va_list args;
    va_start(args, fmt);
    vsnprintf(message, sizeof message, fmt, args);
    va_end(args);
    return fail_as(c, SL_EINVAL, message);
}

bool sl__jfail_limit(sl__jctx *c, const char *what)
{
    char message[120];
    snprintf(message, sizeof message, "the template takes %s", what);
    return fail_as(c, SL_EBUDGET, message);
}

bool sl__jnomem(sl__jctx *c)
{
    if (c->mem.over) return sl__jfail_limit(c, "more memory than a render may");
    return fail_as(c, SL_ENOMEM, "out of memory");
}

bool sl__jfail_undefined(sl__jctx *c, sl__jval v)
{
    static const char *const owners[] = {
        [SL_J_NONE] = "None",         [SL_J_BOOL] = "bool object",
        [SL_J_INT] = "int object",    [SL_J_FLOAT] = "float object",
        [SL_J_STRING] = "str object", [SL_J_SEQ] = "list object",
        [SL_J_DICT] = "dict object",  [SL_J_NAMESPACE] = "namespace object",
        [SL_J_LOOP] = "loop"};
    const sl__jstr *name = v.u.str;
    const char *owner = v.aux < sizeof owners / sizeof owners[0] ? owners[v.aux] : NULL;
    int size = name ? (int)(name->size < 200 ? name->size : 200) : 0;
    if (!name) return sl__jfail(c, "the value is undefined");
    if (v.flag == SL_J_NO_ITEM)
        return sl__jfail(c, "a %s has no item %.*s", owner ? owner : "value", size, name->text);
    if (v.flag == SL_J_FORBIDDEN)
        return sl__jfail(c, "'%.*s' of a %s cannot be used here: values do not change", size,
                         name->text, owner ? owner : "value");
    if (v.aux != 0)
        return sl__jfail(c, "'%s' has no attribute '%.*s'", owner ? owner : "object", size,
                         name->text);
    return sl__jfail(c, "'%.*s' is undefined", size, name->text);
}

bool sl__jwork(sl__jctx *c, uint64_t steps)
{
    if (steps > c->limits->steps - c->steps) {
        c->steps = c->limits->steps;
        return sl__jfail_limit(c, "more steps than a render may");
    }
    c->steps += steps;
    return true;
}

bool sl__jenter(sl__jctx *c)
{
    if (c->depth == c->limits->depth) return sl__jfail_limit(c, "more levels than a render may");
    if (!sl__jwork(c, 1)) return false;
    c->depth++;
    return true;
}

/* ---- scopes ---------------------------------------------------------------------------------- */

sl__jscope *sl__jscope_push(sl__jctx *c, sl__jscope *outer)
{
    sl__jscope *scope = sl__jmem_alloc(&c->mem, sizeof *scope);
    if (!scope) {
        sl__jnomem(c);
        return NULL;
    }
    memset(scope, 0, sizeof *scope);
    scope->outer = outer;
    return scope;
}

bool sl__jscope_set(sl__jctx *c, sl__jscope *scope, const sl__jstr *name, sl__jval value)
{
    for (uint32_t i = 0; i < scope->count; i++) {
        if (scope->vars[i].name == name) {
            scope->vars[i].value = value;
            return true;
        }
    }
    if (scope->count == scope->room) {
        uint32_t room = scope->room ? scope->room * 2 : 4;
        sl__jvar *vars = sl__jmem_alloc(&c->mem, (uint64_t)room * sizeof *vars);
        if (!vars) return sl__jnomem(c);
        if (scope->count) memcpy(vars, scope->vars, scope->count * sizeof *vars);
        scope->vars = vars;
        scope->room = room;
    }
    scope->vars[scope->count++] = (sl__jvar){name, value};
    return sl__jwork(c, scope->count / 16);
}

/* Statements in a scope of their own. */
static bool exec_in(sl__jctx *c, sl__jscope *scope, const sl__jnode *list)
{
    sl__jscope *before = c->scope;
    c->scope = scope;
    bool ok = sl__jexec(c, list);
    c->scope = before;
    return ok;
}

/* ---- setting --------------------------------------------------------------------------------- */

static bool assign(sl__jctx *c, const sl__jnode *target, sl__jval value);

static bool assign_each(sl__jctx *c, const sl__jnode *target, sl__jval value)
{
    sl__jval items;
    size_t wanted = 0;
    if (value.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, value);
    if (!sl__jto_seq(c, value, SL_J_LIST, &items)) return false;
    for (const sl__jnode *t = target->list; t; t = t->next)
        wanted++;
    if (items.u.seq->count != wanted) {
        return sl__jfail(c, "%zu names are set to %zu values", wanted, items.u.seq->count);
    }
    const sl__jval *item = items.u.seq->items;
    for (const sl__jnode *t = target->list; t; t = t->next)
        if (!assign(c, t, *item++)) return false;
    return true;
}

static bool assign(sl__jctx *c, const sl__jnode *target, sl__jval value)
{
    if (target->kind == SL_JN_NAME) return sl__jscope_set(c, c->scope, target->name, value);
    c->at = target->at;
    if (target->kind == SL_JN_TUPLE) {
        if (!sl__jenter(c)) return false;
        bool ok = assign_each(c, target, value);
        sl__jleave(c);
        return ok;
    }
    const sl__jnode name = {.kind = SL_JN_NAME, .at = target->at, .name = target->name};
    sl__jval space;
    if (!sl__jeval(c, &name, &space)) return false;
    if (space.kind != SL_J_NAMESPACE)
        return sl__jfail(c, "'%.*s' is no namespace, and nothing else has attributes to set",
                         (int)target->name->size, target->name->text);
    return sl__jdict_set(&c->mem, space.u.dict, target->value, value) || sl__jnomem(c);
}

/* ---- statements ------------------------------------------------------------------------------ */

/* What statements write, as a string, filtered by `filters` where there are any. */
static bool gather(sl__jctx *c, const sl__jnode *body, const sl__jnode *filters, sl__jval *out)
{
    sl__jscope *scope = sl__jscope_push(c, c->scope);
    size_t mark = c->out->size;
    if (!scope || !exec_in(c, scope, body) || !sl__jtake(c, mark, out)) return false;
    if (!filters) return true;
    sl__jval hole = c->hole;
    c->hole = *out;
    bool ok = sl__jeval(c, filters, out);
    c->hole = hole;
    return ok;
}

static bool exec_if(sl__jctx *c, const sl__jnode *node)
{
    for (const sl__jnode *branch = node->list; branch; branch = branch->next) {
        sl__jval test = sl__jbool(true);
        if (branch->a && !sl__jeval(c, branch->a, &test)) return false;
        if (sl__jtrue(test)) return sl__jexec(c, branch->body);
    }
    return true;
}

static bool exec_with(sl__jctx *c, const sl__jnode *node)
{
    sl__jscope *outer = c->scope, *scope = sl__jscope_push(c, outer);
    if (!scope) return false;
    bool ok = true;
    for (const sl__jnode *pair = node->list; ok && pair; pair = pair->next) {
        sl__jval value;
        ok = sl__jeval(c, pair->b, &value);
        c->scope = scope;
        ok = ok && assign(c, pair->a, value);
        c->scope = outer;
    }
    return ok && exec_in(c, scope, node->body);
}

static bool exec_macro(sl__jctx *c, const sl__jnode *node)
{
    sl__jmacro *macro = sl__jmem_alloc(&c->mem, sizeof *macro);
    if (!macro) return sl__jnomem(c);
    *macro = (sl__jmacro){node, c->scope};
    for (sl__jscope *s = c->scope; s && !s->held; s = s->outer)
        s->held = true;
    return sl__jscope_set(c, c->scope, node->name,
                          (sl__jval){.kind = SL_J_MACRO, .u.macro = macro});
}

static bool exec_call_block(sl__jctx *c, const sl__jnode *node)
{
    sl__jmacro *body = sl__jmem_alloc(&c->mem, sizeof *body);
    if (!body) return sl__jnomem(c);
    *body = (sl__jmacro){node, c->scope};
    const sl__jkeyword caller = {c->tmpl->caller, {.kind = SL_J_MACRO, .u.macro = body}};
    for (sl__jscope *s = c->scope; s && !s->held; s = s->outer)
        s->held = true;
    sl__jval text;
    return sl__jcall_node(c, node->a, &caller, &text) && sl__jput_value(c, text);
}

static bool exec_set(sl__jctx *c, const sl__jnode *node)
{
    sl__jval value;
    bool ok = node->kind == SL_JN_SET ? sl__jeval(c, node->b, &value)
                                      : gather(c, node->body, node->b, &value);
    return ok && assign(c, node->a, value);
}

static bool exec_for(sl__jctx *c, const sl__jnode *node)
{
    sl__jval over;
    return sl__jeval(c, node->b, &over) && sl__jexec_for(c, node, over, 0);
}

static bool exec_one(sl__jctx *c, const sl__jnode *node)
{
    sl__jval value;
    sl__jscope *scope;
    c->at = node->at;
    switch ((sl__jnode_kind)node->kind) {
    case SL_JN_TEXT:
        return sl__jput(c, node->value.u.str->text, node->value.u.str->size);
    case SL_JN_OUTPUT:
        return sl__jeval(c, node->a, &value) && sl__jput_value(c, value);
    case SL_JN_IF:
        return exec_if(c, node);
    case SL_JN_FOR:
        return exec_for(c, node);
    case SL_JN_SET:
    case SL_JN_SET_BLOCK:
        return exec_set(c, node);
    case SL_JN_MACRO:
        return exec_macro(c, node);
    case SL_JN_CALL_BLOCK:
        return exec_call_block(c, node);
    case SL_JN_FILTER_BLOCK:
        return gather(c, node->body, node->b, &value) && sl__jput_value(c, value);
    case SL_JN_WITH:
        return exec_with(c, node);
    case SL_JN_SCOPE:
        scope = sl__jscope_push(c, c->scope);
        return scope && exec_in(c, scope, node->body);
    case SL_JN_BREAK:
        c->flow = SL_J_BREAK;
        return true;
    case SL_JN_CONTINUE:
        c->flow = SL_J_CONTINUE;
        return true;
    default:
        assert(false && "a statement");
        return false;
    }
}

bool sl__jexec(sl__jctx *c, const sl__jnode *list)
{
    for (const sl__jnode *node = list; node && c->flow == SL_J_ON; node = node->next) {
        if (!sl__jenter(c)) return false;
        bool ok = exec_one(c, node);
        sl__jleave(c);
        if (!ok) return false;
    }
    return true;
}

/* ---- loops ----------------------------------------------------------------------------------- */

static bool pull_one(sl__jctx *c, sl__jloop *loop)
{
    const sl__jnode *node = loop->node;
    sl__jval item = loop->over->items[loop->seen++], test = sl__jbool(true);
    sl__jscope *before = c->scope;
    bool ok = sl__jwork(c, 1);
    if (ok && node->c) {
        ok = (c->scope = sl__jscope_push(c, loop->outer)) && assign(c, node->a, item) &&
             sl__jeval(c, node->c, &test);
        c->scope = before;
    }
    if (ok && sl__jtrue(test)) loop->items->items[loop->items->count++] = item;
    return ok;
}

bool sl__jloop_pull(sl__jctx *c, sl__jloop *loop, size_t count)
{
    while (loop->items->count < count && loop->seen < loop->over->count)
        if (!pull_one(c, loop)) return false;
    return true;
}

/* One round: in the scope of the round before, emptied, unless a macro holds on to it. */
static bool exec_round(sl__jctx *c, const sl__jnode *node, sl__jloop *loop, sl__jscope **scope)
{
    if (!*scope || (*scope)->held) {
        if (!(*scope = sl__jscope_push(c, loop->outer))) return false;
    }
    (*scope)->count = 0;
    c->scope = *scope;
    const sl__jval self = {.kind = SL_J_LOOP, .u.loop = loop};
    return sl__jwork(c, 1) && sl__jscope_set(c, *scope, c->tmpl->loop, self) &&
           assign(c, node->a, loop->items->items[loop->index0]) && sl__jexec(c, node->body);
}

static bool exec_rounds(sl__jctx *c, const sl__jnode *node, sl__jloop *loop, bool *finished)
{
    sl__jscope *scope = NULL;
    for (size_t i = 0; c->flow != SL_J_BREAK; i++) {
        if (!sl__jloop_pull(c, loop, i + 1)) return false;
        if (loop->items->count <= i) break;
        loop->index0 = i;
        if (!exec_round(c, node, loop, &scope)) return false;
        *finished = *finished || c->flow == SL_J_ON;
        if (c->flow == SL_J_CONTINUE) c->flow = SL_J_ON;
    }
    c->flow = SL_J_ON;
    return true;
}

bool sl__jexec_for(sl__jctx *c, const sl__jnode *node, sl__jval over, size_t depth0)
{
    sl__jval all, passed;
    c->at = node->b->at;
    if (!sl__jto_seq(c, over, SL_J_LIST, &all) ||
        !sl__jmake_seq(c, SL_J_LIST, all.u.seq->count, &passed))
        return false;
    sl__jloop *loop = sl__jmem_alloc(&c->mem, sizeof *loop);
    if (!loop) return sl__jnomem(c);
    passed.u.seq->count = 0;
    sl__jscope *outer = c->scope;
    *loop = (sl__jloop){.node = node,
                        .outer = outer,
                        .over = all.u.seq,
                        .items = passed.u.seq,
                        .depth0 = depth0,
                        .recursive = node->flag};
    bool finished = false; /* as in Jinja: a round that was broken off is none */
    bool ok = exec_rounds(c, node, loop, &finished);
    c->scope = outer;
    if (!ok || finished || !node->list) return ok;
    sl__jscope *scope = sl__jscope_push(c, outer);
    return scope && exec_in(c, scope, node->list);
}

bool sl__jcall_loop(sl__jctx *c, sl__jloop *loop, const sl__jargs *args, sl__jval *out)
{
    if (!loop->recursive) return sl__jfail(c, "the loop is not marked 'recursive'");
    if (args->count != 1 || args->keyword_count) return sl__jfail(c, "loop() takes one argument");
    if (!sl__jenter(c)) return false;
    sl__jscope *before = c->scope;
    size_t mark = c->out->size;
    c->scope = loop->outer;
    bool ok = sl__jexec_for(c, loop->node, args->items[0], loop->depth0 + 1);
    c->scope = before;
    sl__jleave(c);
    return ok && sl__jtake(c, mark, out);
}
