/* Rendering: calls. Arguments are bound to parameters here, for built-in things and for macros. */
#include <assert.h>
#include <string.h>

#include "text/jinja_eval.h"

const sl__jbuiltin *sl__jfind(const sl__jbuiltin *table, size_t count, const sl__jstr *name)
{
    for (size_t i = 0; i < count; i++)
        if (sl__jstr_is(name, table[i].name)) return &table[i];
    return NULL;
}

/* The place of a parameter in "old new count"; -1: there is none of this name. */
static int param_index(const char *params, const sl__jstr *name)
{
    int index = 0;
    for (const char *at = params; *at; index++) {
        size_t size = strcspn(at, " ");
        if (size == name->size && memcmp(at, name->text, size) == 0) return index;
        at += size + (at[size] == ' ');
    }
    return -1;
}

static size_t param_count(const char *params)
{
    size_t count = *params != '\0';
    for (; *params; params++)
        count += *params == ' ';
    return count;
}

static bool bind(sl__jctx *c, sl__jcall *call, const sl__jargs *args)
{
    const sl__jbuiltin *b = call->builtin;
    size_t count = param_count(b->params);
    assert(count <= SL_J_PARAMS_MAX);
    if (args->count > count) {
        return sl__jfail(c, "%s takes at most %zu arguments, not %zu", b->name, count, args->count);
    }
    for (size_t i = 0; i < args->count; i++)
        call->arg[i] = args->items[i];
    for (size_t i = 0; i < args->keyword_count; i++) {
        const sl__jstr *name = args->keywords[i].name;
        int index = param_index(b->params, name);
        if (index < 0)
            return sl__jfail(c, "%s takes no argument '%.*s'", b->name, (int)name->size,
                             name->text);
        if (call->arg[index].kind != SL_J_MISSING)
            return sl__jfail(c, "%s: the argument '%.*s' is given twice", b->name, (int)name->size,
                             name->text);
        call->arg[index] = args->keywords[i].value;
    }
    for (size_t i = 0; i < b->required; i++)
        if (call->arg[i].kind == SL_J_MISSING)
            return sl__jfail(c, "%s needs %u arguments", b->name, b->required);
    return true;
}

bool sl__jcall_builtin(sl__jctx *c, const sl__jbuiltin *builtin, sl__jval self,
                       const sl__jargs *args, sl__jval *out)
{
    sl__jcall call = {.builtin = builtin, .self = self, .args = args};
    if (!sl__jenter(c)) return false;
    bool ok = (!builtin->params || bind(c, &call, args)) && builtin->run(c, &call, out);
    sl__jleave(c);
    return ok;
}

bool sl__jcall_value(sl__jctx *c, sl__jval callee, const sl__jargs *args, sl__jval *out)
{
    sl__jcycler *cycler = callee.u.cycler;
    switch ((sl__jkind)callee.kind) {
    case SL_J_UNDEFINED:
        return sl__jfail_undefined(c, callee);
    case SL_J_FUNCTION:
        return sl__jcall_builtin(c, callee.u.builtin, sl__jnone(), args, out);
    case SL_J_METHOD:
        return sl__jcall_builtin(c, callee.u.method->builtin, callee.u.method->self, args, out);
    case SL_J_MACRO:
        return sl__jcall_macro(c, callee.u.macro, args, out);
    case SL_J_LOOP:
        return sl__jcall_loop(c, callee.u.loop, args, out);
    case SL_J_JOINER: /* nothing the first time */
        if (cycler->at++ == 0) return sl__jmake(c, "", 0, out);
        *out = cycler->items[0];
        return true;
    default:
        return sl__jfail(c, "'%s' object is not callable", sl__jtype_name(callee));
    }
}

/* ---- macros ---------------------------------------------------------------------------------- */

static int name_size(const sl__jmacro *macro)
{
    return macro->node->name ? (int)macro->node->name->size : 6;
}

static const char *name_text(const sl__jmacro *macro)
{
    return macro->node->name ? macro->node->name->text : "caller";
}

static const sl__jval *keyword(const sl__jargs *args, const sl__jstr *name)
{
    for (size_t i = 0; i < args->keyword_count; i++)
        if (sl__jstr_equal(args->keywords[i].name, name)) return &args->keywords[i].value;
    return NULL;
}

/* The parameters, into the scope that the body will run in (c->scope). */
static bool bind_params(sl__jctx *c, const sl__jmacro *macro, const sl__jargs *args, size_t *bound,
                        size_t *used)
{
    size_t index = 0;
    for (const sl__jnode *p = macro->node->list; p; p = p->next, index++) {
        const sl__jval *named = keyword(args, p->name);
        sl__jval value = sl__jundefined(p->name);
        *used += named != NULL;
        if (index < args->count && named)
            return sl__jfail(c, "macro '%.*s': the argument '%.*s' is given twice",
                             name_size(macro), name_text(macro), (int)p->name->size, p->name->text);
        if (index < args->count)
            value = args->items[index];
        else if (named)
            value = *named;
        else if (p->a && !sl__jeval(c, p->a, &value))
            return false;
        if (!sl__jscope_set(c, c->scope, p->name, value)) return false;
    }
    *bound = index;
    return true;
}

static bool set_varargs(sl__jctx *c, const sl__jargs *args, size_t bound)
{
    size_t count = args->count > bound ? args->count - bound : 0;
    sl__jval rest;
    if (!sl__jmake_seq(c, SL_J_TUPLE, count, &rest)) return false;
    if (count) memcpy(rest.u.seq->items, args->items + bound, count * sizeof *args->items);
    return sl__jscope_set(c, c->scope, c->tmpl->varargs, rest);
}

static bool is_param(const sl__jmacro *macro, const sl__jstr *name)
{
    for (const sl__jnode *p = macro->node->list; p; p = p->next)
        if (sl__jstr_equal(p->name, name)) return true;
    return false;
}

static bool set_kwargs(sl__jctx *c, const sl__jmacro *macro, const sl__jargs *args)
{
    sl__jdict *rest = sl__jdict_new(&c->mem, 0);
    if (!rest) return sl__jnomem(c);
    for (size_t i = 0; i < args->keyword_count; i++) {
        const sl__jkeyword *k = &args->keywords[i];
        if (is_param(macro, k->name)) continue;
        if ((macro->node->flag & SL_J_CALLER) && sl__jstr_equal(k->name, c->tmpl->caller)) continue;
        if (!sl__jdict_set(&c->mem, rest, sl__jof_str(k->name), k->value)) return sl__jnomem(c);
    }
    return sl__jscope_set(c, c->scope, c->tmpl->kwargs, sl__jof_dict(rest));
}

static bool fail_keyword(sl__jctx *c, const sl__jmacro *macro, const sl__jargs *args)
{
    for (size_t i = 0; i < args->keyword_count; i++) {
        const sl__jstr *name = args->keywords[i].name;
        if (!is_param(macro, name))
            return sl__jfail(c, "macro '%.*s' takes no argument '%.*s'", name_size(macro),
                             name_text(macro), (int)name->size, name->text);
    }
    return false;
}

static bool bind_macro(sl__jctx *c, const sl__jmacro *macro, const sl__jargs *args)
{
    size_t bound = 0, used = 0;
    unsigned asked = macro->node->flag;
    if (!bind_params(c, macro, args, &bound, &used)) return false;
    const sl__jval *caller =
        is_param(macro, c->tmpl->caller) ? NULL : keyword(args, c->tmpl->caller);
    if (asked & SL_J_CALLER && !is_param(macro, c->tmpl->caller)) {
        used += caller != NULL;
        if (!sl__jscope_set(c, c->scope, c->tmpl->caller,
                            caller ? *caller : sl__jundefined(c->tmpl->caller)))
            return false;
    }
    if (asked & SL_J_VARARGS) {
        if (!set_varargs(c, args, bound)) return false;
    } else if (args->count > bound) {
        return sl__jfail(c, "macro '%.*s' takes at most %zu arguments, not %zu", name_size(macro),
                         name_text(macro), bound, args->count);
    }
    if (asked & SL_J_KWARGS) return set_kwargs(c, macro, args);
    return used == args->keyword_count || fail_keyword(c, macro, args);
}

bool sl__jcall_macro(sl__jctx *c, const sl__jmacro *macro, const sl__jargs *args, sl__jval *out)
{
    if (!sl__jenter(c)) return false;
    sl__jscope *before = c->scope, *scope = sl__jscope_push(c, macro->scope);
    if (!scope) return false;
    size_t mark = c->out->size;
    c->scope = scope;
    bool ok = bind_macro(c, macro, args) && sl__jexec(c, macro->node->body);
    c->scope = before;
    sl__jleave(c);
    return ok && sl__jtake(c, mark, out);
}

/* ---- arguments ------------------------------------------------------------------------------- */

bool sl__jarg_int(sl__jctx *c, sl__jval v, int64_t otherwise, const char *name, int64_t *out)
{
    if (v.kind == SL_J_MISSING) {
        *out = otherwise;
        return true;
    }
    if (sl__jis_int(v, out)) return true;
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    return sl__jfail(c, "%s must be a whole number, not '%s'", name, sl__jtype_name(v));
}

bool sl__jarg_str(sl__jctx *c, sl__jval v, const char *name, const sl__jstr **out)
{
    if (v.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, v);
    if (v.kind != SL_J_STRING)
        return sl__jfail(c, "%s must be a string, not '%s'", name, sl__jtype_name(v));
    *out = v.u.str;
    return true;
}
