/* Functions that every template can call. */
#include <string.h>

#include "text/jinja_eval.h"

enum { RANGE_MAX = 100000 }; /* as the sandbox has it */

static bool run_range(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    int64_t first, after, step;
    bool one = call->arg[1].kind == SL_J_MISSING;
    if (!sl__jarg_int(c, call->arg[0], 0, "range()", &first) ||
        !sl__jarg_int(c, call->arg[1], first, "range()", &after) ||
        !sl__jarg_int(c, call->arg[2], 1, "range()", &step))
        return false;
    if (one) first = 0;
    if (step == 0) return sl__jfail(c, "range() cannot have a step of 0");
    uint64_t span = 0, stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 && after > first) span = (uint64_t)after - (uint64_t)first;
    if (step < 0 && after < first) span = (uint64_t)first - (uint64_t)after;
    uint64_t count = span ? (span - 1) / stride + 1 : 0;
    if (count > RANGE_MAX) return sl__jfail(c, "a range of more than %d numbers", RANGE_MAX);
    if (!sl__jmake_seq(c, SL_J_RANGE, (size_t)count, out)) return false;
    sl__jseq *seq = out->u.seq;
    seq->first = first;
    seq->after = after;
    seq->step = step;
    for (uint64_t i = 0; i < count; i++)
        seq->items[i] = sl__jint((int64_t)((uint64_t)first + i * (uint64_t)step));
    return true;
}

/* ---- dicts and namespaces -------------------------------------------------------------------- */

static bool set(sl__jctx *c, sl__jdict *dict, sl__jval key, sl__jval value)
{
    if (!sl__jhashable(key)) return sl__jfail(c, "unhashable type: '%s'", sl__jtype_name(key));
    return sl__jdict_set(&c->mem, dict, key, value) || sl__jnomem(c);
}

static bool set_pairs(sl__jctx *c, sl__jdict *dict, sl__jval pairs)
{
    sl__jwalk walk;
    sl__jval item, pair;
    bool more = true;
    if (!sl__jwalk_begin(c, pairs, &walk)) return false;
    for (;;) {
        if (!sl__jwalk_next(c, &walk, &item, &more)) return false;
        if (!more) return true;
        if (!sl__jto_seq(c, item, SL_J_LIST, &pair)) return false;
        if (pair.u.seq->count != 2) return sl__jfail(c, "a dict is made of pairs");
        if (!set(c, dict, pair.u.seq->items[0], pair.u.seq->items[1])) return false;
    }
}

enum { MAKES_DICT, MAKES_NAMESPACE };

static bool run_dict(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jargs *args = call->args;
    sl__jdict *dict = sl__jdict_new(&c->mem, args->keyword_count);
    if (!dict) return sl__jnomem(c);
    if (args->count > 1) return sl__jfail(c, "%s() takes one value at most", call->builtin->name);
    if (args->count == 1 && args->items[0].kind == SL_J_DICT) {
        const sl__jdict *from = args->items[0].u.dict;
        for (size_t i = 0; i < from->count; i++)
            if (!set(c, dict, from->entries[i].key, from->entries[i].value)) return false;
    } else if (args->count == 1 && !set_pairs(c, dict, args->items[0])) {
        return false;
    }
    for (size_t i = 0; i < args->keyword_count; i++)
        if (!set(c, dict, sl__jof_str(args->keywords[i].name), args->keywords[i].value))
            return false;
    *out = sl__jof_dict(dict);
    if (call->builtin->op == MAKES_NAMESPACE) out->kind = SL_J_NAMESPACE;
    return true;
}

/* ---- cyclers and joiners --------------------------------------------------------------------- */

static bool make_cycler(sl__jctx *c, const sl__jval *items, size_t count, sl__jkind kind,
                        sl__jval *out)
{
    sl__jcycler *cycler = sl__jmem_alloc(&c->mem, sizeof *cycler);
    if (!cycler) return sl__jnomem(c);
    *cycler = (sl__jcycler){items, count, 0};
    *out = (sl__jval){.kind = (uint8_t)kind, .u.cycler = cycler};
    return true;
}

static bool run_cycler(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    if (call->args->count == 0) return sl__jfail(c, "cycler() needs at least one value");
    return make_cycler(c, call->args->items, call->args->count, SL_J_CYCLER, out);
}

static bool run_joiner(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval *between = sl__jmem_alloc(&c->mem, sizeof *between);
    if (!between) return sl__jnomem(c);
    *between = call->arg[0];
    if (between->kind == SL_J_MISSING && !sl__jmake(c, ", ", 2, between)) return false;
    return make_cycler(c, between, 1, SL_J_JOINER, out);
}

/* ---- what transformers adds ------------------------------------------------------------------ */

static bool run_raise(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval text;
    (void)out;
    if (!sl__jto_str(c, call->arg[0], &text)) return false;
    int size = (int)(text.u.str->size < 600 ? text.u.str->size : 600);
    return sl__jfail(c, "the template refuses: %.*s", size, text.u.str->text);
}

static bool run_time(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jstr *format;
    size_t mark = c->out->size;
    return sl__jarg_str(c, call->arg[0], "strftime_now()", &format) &&
           sl__jput_time(c, &c->now, format) && sl__jtake(c, mark, out);
}

static const sl__jbuiltin functions[] = {
    {"range", run_range, "start stop step", 1, 0},
    {"dict", run_dict, NULL, 0, MAKES_DICT},
    {"namespace", run_dict, NULL, 0, MAKES_NAMESPACE},
    {"cycler", run_cycler, NULL, 0, 0},
    {"joiner", run_joiner, "sep", 0, 0},
    {"raise_exception", run_raise, "message", 1, 0},
    {"strftime_now", run_time, "format", 1, 0},
};

const sl__jbuiltin *sl__jfind_function(const sl__jstr *name)
{
    return sl__jfind(functions, sizeof functions / sizeof functions[0], name);
}
