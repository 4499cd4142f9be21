/* Methods of dicts, lists, loops and cyclers. What would change a value is there only to be
 * refused, as in the sandbox. */
#include <string.h>

#include "text/jinja_eval.h"

/* ---- dicts ----------------------------------------------------------------------------------- */

static bool run_get(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval key = call->arg[0];
    if (!sl__jhashable(key)) return sl__jfail(c, "unhashable type: '%s'", sl__jtype_name(key));
    const sl__jval *value = sl__jdict_find(call->self.u.dict, key);
    *out = value ? *value : call->arg[1].kind == SL_J_MISSING ? sl__jnone() : call->arg[1];
    return sl__jwork_key(c, key);
}

static bool run_view(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jdict *dict = call->self.u.dict;
    sl__jseq_kind kind = (sl__jseq_kind)call->builtin->op;
    sl__jval pair;
    if (!sl__jmake_seq(c, kind, dict->count, out)) return false;
    for (size_t i = 0; i < dict->count; i++) {
        const sl__jentry *entry = &dict->entries[i];
        sl__jval *item = &out->u.seq->items[i];
        *item = kind == SL_J_KEYS ? entry->key : entry->value;
        if (kind != SL_J_ITEMS) continue;
        if (!sl__jwork(c, 1) || !sl__jmake_seq(c, SL_J_TUPLE, 2, &pair)) return false;
        pair.u.seq->items[0] = entry->key;
        pair.u.seq->items[1] = entry->value;
        *item = pair;
    }
    return true;
}

static bool run_copy(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    (void)c; /* nothing changes: the copy may be the same */
    *out = call->self;
    return true;
}

static const sl__jbuiltin dict_methods[] = {
    {"get", run_get, "key default", 1, 0}, {"items", run_view, "", 0, SL_J_ITEMS},
    {"keys", run_view, "", 0, SL_J_KEYS},  {"values", run_view, "", 0, SL_J_VALUES},
    {"copy", run_copy, "", 0, 0},
};

/* ---- lists and tuples ------------------------------------------------------------------------ */

static bool run_count(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jseq *seq = call->self.u.seq;
    int64_t count = 0;
    bool equal;
    for (size_t i = 0; i < seq->count; i++) {
        if (!sl__jequal(c, seq->items[i], call->arg[0], &equal)) return false;
        count += equal;
    }
    *out = sl__jint(count);
    return true;
}

static bool run_index(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jseq *seq = call->self.u.seq;
    int64_t count = (int64_t)seq->count, from, to;
    bool equal;
    if (!sl__jarg_int(c, call->arg[1], 0, "index()", &from) ||
        !sl__jarg_int(c, call->arg[2], count, "index()", &to))
        return false;
    if (from < 0) from = from + count < 0 ? 0 : from + count;
    if (to < 0) to += count;
    for (int64_t i = from; i < to && i < count; i++) {
        if (!sl__jequal(c, seq->items[i], call->arg[0], &equal)) return false;
        if (!equal) continue;
        *out = sl__jint(i);
        return true;
    }
    return sl__jfail(c, "index(): the value is not there");
}

static const sl__jbuiltin seq_methods[] = {
    {"count", run_count, "value", 1, 0},
    {"index", run_index, "value start stop", 1, 0},
    {"copy", run_copy, "", 0, 0},
};

/* ---- loops and cyclers ----------------------------------------------------------------------- */

static bool run_cycle(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    if (call->args->count == 0) return sl__jfail(c, "cycle() needs at least one value");
    *out = call->args->items[call->self.u.loop->index0 % call->args->count];
    return true;
}

static bool run_changed(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jloop *loop = call->self.u.loop;
    sl__jval now, before = {.kind = SL_J_NONE};
    bool equal = false;
    if (!sl__jmake_seq(c, SL_J_TUPLE, call->args->count, &now)) return false;
    if (call->args->count)
        memcpy(now.u.seq->items, call->args->items, call->args->count * sizeof now);
    if (loop->changed) before = sl__jof_seq(loop->changed);
    if (!sl__jequal(c, before, now, &equal)) return false;
    loop->changed = now.u.seq;
    *out = sl__jbool(!equal);
    return true;
}

static const sl__jbuiltin loop_methods[] = {
    {"cycle", run_cycle, NULL, 0, 0},
    {"changed", run_changed, NULL, 0, 0},
};

static bool run_next(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jcycler *cycler = call->self.u.cycler;
    (void)c;
    *out = cycler->items[cycler->at];
    cycler->at = (cycler->at + 1) % cycler->count;
    return true;
}

static bool run_reset(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    (void)c;
    call->self.u.cycler->at = 0;
    *out = sl__jnone();
    return true;
}

static const sl__jbuiltin cycler_methods[] = {
    {"next", run_next, "", 0, 0},
    {"reset", run_reset, "", 0, 0},
};

/* ---- finding --------------------------------------------------------------------------------- */

#define COUNT(table) (sizeof table / sizeof table[0])

static bool is_one_of(const sl__jstr *name, const char *const *names)
{
    for (; *names; names++)
        if (sl__jstr_is(name, *names)) return true;
    return false;
}

static bool is_forbidden(sl__jval v, const sl__jstr *name)
{
    static const char *const of_dicts[] = {"clear",  "pop",      "popitem", "setdefault",
                                           "update", "fromkeys", NULL};
    static const char *const of_lists[] = {"append", "clear",   "extend", "insert", "pop",
                                           "remove", "reverse", "sort",   NULL};
    if (v.kind == SL_J_DICT) return is_one_of(name, of_dicts);
    return sl__jis_seq(v, SL_J_LIST) && is_one_of(name, of_lists);
}

static const sl__jbuiltin *find(sl__jval v, const sl__jstr *name)
{
    switch ((sl__jkind)v.kind) {
    case SL_J_STRING:
        return sl__jfind_str_method(name);
    case SL_J_DICT:
        return sl__jfind(dict_methods, COUNT(dict_methods), name);
    case SL_J_LOOP:
        return sl__jfind(loop_methods, COUNT(loop_methods), name);
    case SL_J_CYCLER:
        return sl__jfind(cycler_methods, COUNT(cycler_methods), name);
    case SL_J_SEQ:
        if (v.u.seq->kind > SL_J_RANGE) return NULL;
        return sl__jfind(seq_methods, COUNT(seq_methods), name);
    default:
        return NULL;
    }
}

bool sl__jfind_method(sl__jctx *c, sl__jval v, const sl__jstr *name, sl__jval *out, bool *found)
{
    *found = true;
    if (is_forbidden(v, name)) {
        *out = sl__jundefined(name);
        out->flag = SL_J_FORBIDDEN;
        out->aux = v.kind;
        return true;
    }
    const sl__jbuiltin *builtin = find(v, name);
    *found = builtin != NULL;
    if (!builtin) return true;
    sl__jmethod *method = sl__jmem_alloc(&c->mem, sizeof *method);
    if (!method) return sl__jnomem(c);
    *method = (sl__jmethod){builtin, v};
    *out = (sl__jval){.kind = SL_J_METHOD, .u.method = method};
    return true;
}
