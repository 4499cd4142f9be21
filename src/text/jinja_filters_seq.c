/* Filters of sequences. Those that Jinja makes generators of give an ITERATOR here: true even
 * where empty, without a length, and walked through once. */
#include <string.h>

#include "text/jinja_chars.h"
#include "text/jinja_eval.h"

/* ---- attributes ------------------------------------------------------------------------------ */

/* "address.0.city", or a whole number: what map, sort and others look at in an item. */
static bool get_path(sl__jctx *c, sl__jval path, sl__jval item, sl__jval otherwise, sl__jval *out)
{
    *out = item;
    if (path.kind != SL_J_STRING) return sl__jitem(c, item, path, out);
    const char *at = path.u.str->text, *end = at + path.u.str->size;
    for (;;) {
        const char *dot = memchr(at, '.', (size_t)(end - at)), *stop = dot ? dot : end;
        int64_t index = 0;
        bool number = stop > at && stop - at < 10;
        for (const char *p = at; number && p < stop; p++) {
            number = *p >= '0' && *p <= '9';
            index = index * 10 + (*p - '0');
        }
        sl__jval key;
        if (!sl__jmake(c, at, (size_t)(stop - at), &key)) return false;
        if (!sl__jitem(c, *out, number ? sl__jint(index) : key, out)) return false;
        if (out->kind == SL_J_UNDEFINED && otherwise.kind > SL_J_NONE) *out = otherwise;
        if (!dot) return true;
        at = dot + 1;
    }
}

bool sl__jfold(sl__jctx *c, sl__jval v, sl__jval *out)
{
    *out = v;
    return v.kind != SL_J_STRING || sl__jrecase_all(c, v, SL_J_ALL_LOWER, out);
}

/* What an item is compared by: itself, or what an attribute leads to; without case if asked. */
static bool get_key(sl__jctx *c, sl__jval path, sl__jval item, bool cased, sl__jval *out)
{
    sl__jval v = item;
    const sl__jval none = {.kind = SL_J_MISSING};
    if (path.kind > SL_J_NONE && !get_path(c, path, item, none, &v)) return false;
    if (!cased) return sl__jfold(c, v, out);
    *out = v;
    return true;
}

/* The items of a value for map, select and the like, to which all that is false has none. */
static bool take_chosen(sl__jctx *c, sl__jval v, sl__jval *out)
{
    if (!sl__jtrue(v)) return sl__jmake_seq(c, SL_J_ITERATOR, 0, out);
    return sl__jto_seq(c, v, SL_J_ITERATOR, out);
}

/* ---- sorting --------------------------------------------------------------------------------- */

static bool goes_before(sl__jctx *c, const sl__jsortable *a, const sl__jsortable *b, bool reverse,
                        bool *out)
{
    int order = 0;
    *out = false;
    if (a->key.kind == SL_J_UNDEFINED && b->key.kind == SL_J_UNDEFINED) return true; /* equal */
    if (!sl__jorder(c, reverse ? b->key : a->key, reverse ? a->key : b->key, "<", &order))
        return false;
    *out = order == -1 || order < -1;
    return true;
}

/* Merges [from, middle) and [middle, to) of one array into another. */
static bool merge(sl__jctx *c, const sl__jsortable *in, sl__jsortable *out, size_t from,
                  size_t middle, size_t to, bool reverse)
{
    size_t a = from, b = middle;
    for (size_t i = from; i < to; i++) {
        bool later = a == middle;
        if (!later && b < to && !goes_before(c, &in[b], &in[a], reverse, &later)) return false;
        out[i] = later ? in[b++] : in[a++];
    }
    return true;
}

bool sl__jsort(sl__jctx *c, sl__jsortable *items, size_t count, bool reverse)
{
    sl__jsortable *in = items, *out = sl__jmem_alloc(&c->mem, count * sizeof *out);
    if (!out) return sl__jnomem(c);
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t from = 0; from < count; from += 2 * width) {
            size_t middle = from + width < count ? from + width : count;
            size_t to = middle + width < count ? middle + width : count;
            if (!merge(c, in, out, from, middle, to, reverse)) return false;
        }
        sl__jsortable *swap = in;
        in = out;
        out = swap;
    }
    if (in != items && count) memcpy(items, in, count * sizeof *items);
    return true;
}

const sl__jentry *sl__jsorted_entries(sl__jctx *c, const sl__jdict *dict)
{
    size_t count = dict->count;
    sl__jsortable *order = sl__jmem_alloc(&c->mem, count * sizeof *order);
    sl__jentry *entries = sl__jmem_alloc(&c->mem, count * sizeof *entries);
    if (!order || !entries) {
        sl__jnomem(c);
        return NULL;
    }
    for (size_t i = 0; i < count; i++)
        order[i] = (sl__jsortable){dict->entries[i].value, dict->entries[i].key};
    if (!sl__jsort(c, order, count, false)) return NULL;
    for (size_t i = 0; i < count; i++)
        entries[i] = (sl__jentry){order[i].key, order[i].item};
    return entries;
}

/* The keys of "age,name": a list of what each leads to. */
static bool sort_key(sl__jctx *c, sl__jval path, sl__jval item, bool cased, sl__jval *out)
{
    if (path.kind != SL_J_STRING || !memchr(path.u.str->text, ',', path.u.str->size))
        return get_key(c, path, item, cased, out);
    const char *at = path.u.str->text, *end = at + path.u.str->size;
    size_t count = 1, i = 0;
    for (const char *p = at; p < end; p++)
        count += *p == ',';
    if (!sl__jmake_seq(c, SL_J_LIST, count, out)) return false;
    for (;; at++) {
        const char *comma = memchr(at, ',', (size_t)(end - at)), *stop = comma ? comma : end;
        sl__jval part;
        if (!sl__jmake(c, at, (size_t)(stop - at), &part) ||
            !get_key(c, part, item, cased, &out->u.seq->items[i++]))
            return false;
        if (!comma) return true;
        at = comma;
    }
}

static bool sort_items(sl__jctx *c, sl__jval v, sl__jval path, bool cased, bool reverse,
                       sl__jsortable **out, size_t *count)
{
    sl__jval seq;
    if (!sl__jto_seq(c, v, SL_J_LIST, &seq)) return false;
    *count = seq.u.seq->count;
    *out = sl__jmem_alloc(&c->mem, *count * sizeof **out);
    if (!*out) return sl__jnomem(c);
    for (size_t i = 0; i < *count; i++) {
        (*out)[i].item = seq.u.seq->items[i];
        if (!sort_key(c, path, (*out)[i].item, cased, &(*out)[i].key)) return false;
    }
    return sl__jsort(c, *out, *count, reverse);
}

static bool filter_sort(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jsortable *order;
    size_t count;
    if (!sort_items(c, call->self, call->arg[2], sl__jtrue(call->arg[1]), sl__jtrue(call->arg[0]),
                    &order, &count) ||
        !sl__jmake_seq(c, SL_J_LIST, count, out))
        return false;
    for (size_t i = 0; i < count; i++)
        out->u.seq->items[i] = order[i].item;
    return true;
}

static bool make_pair(sl__jctx *c, sl__jval a, sl__jval b, sl__jval *out)
{
    if (!sl__jmake_seq(c, SL_J_TUPLE, 2, out)) return false;
    out->u.seq->items[0] = a;
    out->u.seq->items[1] = b;
    return true;
}

static bool filter_dictsort(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    bool by_value = false, cased = sl__jtrue(call->arg[0]);
    if (call->self.kind == SL_J_UNDEFINED) return sl__jfail_undefined(c, call->self);
    if (call->self.kind != SL_J_DICT) return sl__jfail(c, "dictsort needs a dict");
    if (call->arg[1].kind != SL_J_MISSING) {
        const sl__jstr *by;
        if (!sl__jarg_str(c, call->arg[1], "dictsort", &by)) return false;
        by_value = sl__jstr_is(by, "value");
        if (!by_value && !sl__jstr_is(by, "key"))
            return sl__jfail(c, "dictsort sorts by 'key' or 'value'");
    }
    const sl__jdict *dict = call->self.u.dict;
    sl__jsortable *order = sl__jmem_alloc(&c->mem, dict->count * sizeof *order);
    if (!order) return sl__jnomem(c);
    for (size_t i = 0; i < dict->count; i++) {
        const sl__jentry *e = &dict->entries[i];
        const sl__jval none = {.kind = SL_J_MISSING};
        if (!make_pair(c, e->key, e->value, &order[i].item) ||
            !get_key(c, none, by_value ? e->value : e->key, cased, &order[i].key))
            return false;
    }
    if (!sl__jsort(c, order, dict->count, sl__jtrue(call->arg[2])) ||
        !sl__jmake_seq(c, SL_J_LIST, dict->count, out))
        return false;
    for (size_t i = 0; i < dict->count; i++)
        out->u.seq->items[i] = order[i].item;
    return true;
}

static bool filter_groupby(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jsortable *order;
    size_t count, groups = 0;
    bool cased = sl__jtrue(call->arg[2]);
    sl__jval path = call->arg[0], otherwise = call->arg[1], items;
    if (!sl__jto_seq(c, call->self, SL_J_LIST, &items)) return false;
    count = items.u.seq->count;
    order = sl__jmem_alloc(&c->mem, count * sizeof *order);
    if (!order) return sl__jnomem(c);
    for (size_t i = 0; i < count; i++) {
        order[i].item = items.u.seq->items[i];
        if (!get_path(c, path, order[i].item, otherwise, &order[i].key) ||
            (!cased && !sl__jfold(c, order[i].key, &order[i].key)))
            return false;
        if (order[i].key.kind == SL_J_UNDEFINED && count > 1) /* as Python has it, no order */
            return sl__jfail_undefined(c, order[i].key);
    }
    if (!sl__jsort(c, order, count, false) || !sl__jmake_seq(c, SL_J_LIST, count, out))
        return false;
    for (size_t i = 0, end; i < count; i = end) {
        sl__jval list, name;
        bool same = true;
        for (end = i + 1; end < count; end++) {
            if (!sl__jequal(c, order[i].key, order[end].key, &same)) return false;
            if (!same) break;
        }
        if (!sl__jmake_seq(c, SL_J_LIST, end - i, &list)) return false;
        for (size_t k = i; k < end; k++)
            list.u.seq->items[k - i] = order[k].item;
        sl__jval *group = &out->u.seq->items[groups++];
        if (!get_path(c, path, order[i].item, otherwise, &name) || !make_pair(c, name, list, group))
            return false;
        group->u.seq->group = true;
    }
    out->u.seq->count = groups;
    return true;
}

/* ---- choosing -------------------------------------------------------------------------------- */

enum { REJECTS = 1, BY_ATTRIBUTE = 2 };

/* The arguments behind the first `count`. */
static sl__jargs args_behind(const sl__jargs *args, size_t count)
{
    sl__jargs rest = *args;
    rest.items = args->count ? args->items + count : args->items;
    rest.count = args->count - count;
    return rest;
}

static bool filter_select(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jargs *args = call->args;
    unsigned op = call->builtin->op;
    size_t taken = (op & BY_ATTRIBUTE) ? 1 : 0, kept = 0;
    const sl__jbuiltin *test = NULL;
    const sl__jstr *name;
    sl__jval items, value, truth;
    if (args->count < taken) return sl__jfail(c, "%s needs an attribute", call->builtin->name);
    if (args->count > taken) {
        if (!sl__jarg_str(c, args->items[taken], "a test's name", &name)) return false;
        test = sl__jfind_test(name);
        if (!test) return sl__jfail(c, "there is no test '%.*s'", (int)name->size, name->text);
    }
    const sl__jargs rest = args_behind(args, taken + (test != NULL));
    const sl__jval none = {.kind = SL_J_MISSING};
    if (!take_chosen(c, call->self, &items)) return false;
    sl__jval *item = items.u.seq->items;
    for (size_t i = 0; i < items.u.seq->count; i++) {
        value = item[i];
        if (!sl__jwork(c, 1) || (taken && !get_path(c, args->items[0], item[i], none, &value)))
            return false;
        truth = value;
        if (test && !sl__jcall_builtin(c, test, value, &rest, &truth)) return false;
        if (sl__jtrue(truth) != ((op & REJECTS) != 0)) item[kept++] = item[i];
    }
    items.u.seq->count = kept;
    *out = items;
    return true;
}

static const sl__jval *keyword(const sl__jargs *args, const char *name)
{
    for (size_t i = 0; i < args->keyword_count; i++)
        if (sl__jstr_is(args->keywords[i].name, name)) return &args->keywords[i].value;
    return NULL;
}

static bool filter_map(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jargs *args = call->args;
    const sl__jval *path = keyword(args, "attribute"), *otherwise = keyword(args, "default");
    const sl__jbuiltin *filter = NULL;
    const sl__jstr *name;
    sl__jargs rest = {0};
    if (args->count > 0) {
        if (!sl__jarg_str(c, args->items[0], "a filter's name", &name)) return false;
        filter = sl__jfind_filter(name);
        if (!filter) return sl__jfail(c, "there is no filter '%.*s'", (int)name->size, name->text);
        rest = args_behind(args, 1);
    } else if (!path) {
        return sl__jfail(c, "map needs a filter or an attribute");
    }
    const sl__jval none = {.kind = SL_J_MISSING};
    if (!take_chosen(c, call->self, out)) return false;
    for (size_t i = 0; i < out->u.seq->count; i++) {
        sl__jval *item = &out->u.seq->items[i], before = *item;
        if (!sl__jwork(c, 1)) return false;
        if (filter ? !sl__jcall_builtin(c, filter, before, &rest, item)
                   : !get_path(c, *path, before, otherwise ? *otherwise : none, item))
            return false;
    }
    return true;
}

static bool filter_unique(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    size_t kept = 0;
    sl__jdict *seen = sl__jdict_new(&c->mem, 0);
    if (!seen) return sl__jnomem(c);
    if (!sl__jto_seq(c, call->self, SL_J_ITERATOR, out)) return false;
    sl__jval *item = out->u.seq->items, key;
    for (size_t i = 0; i < out->u.seq->count; i++) {
        if (!sl__jwork(c, 1) || !get_key(c, call->arg[1], item[i], sl__jtrue(call->arg[0]), &key))
            return false;
        if (!sl__jhashable(key)) return sl__jfail(c, "unhashable type: '%s'", sl__jtype_name(key));
        if (!sl__jwork_key(c, key)) return false;
        if (sl__jdict_find(seen, key)) continue;
        if (!sl__jdict_set(&c->mem, seen, key, sl__jnone())) return sl__jnomem(c);
        item[kept++] = item[i];
    }
    out->u.seq->count = kept;
    return true;
}

/* ---- one out of many ------------------------------------------------------------------------- */

enum { FIRST, LAST };

static bool filter_end(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    static const sl__jstr nothing = {"the first of an empty sequence", 30, 30};
    static const sl__jstr no_last = {"the last of an empty sequence", 29, 29};
    sl__jval v = call->self, items;
    bool more, last = call->builtin->op == LAST;
    sl__jwalk walk;
    if (!last) {
        if (!sl__jwalk_begin(c, v, &walk) || !sl__jwalk_next(c, &walk, out, &more)) return false;
        if (!more) *out = sl__jundefined(&nothing);
        return true;
    }
    if (sl__jis_seq(v, SL_J_ITERATOR)) return sl__jfail(c, "'generator' object is not reversible");
    if (!sl__jto_seq(c, v, SL_J_LIST, &items)) return false;
    size_t count = items.u.seq->count;
    *out = count ? items.u.seq->items[count - 1] : sl__jundefined(&no_last);
    return true;
}

enum { MIN, MAX };

static bool filter_extreme(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    static const sl__jstr nothing = {"the extreme of an empty sequence", 32, 32};
    sl__jval items, best_key = {.kind = SL_J_MISSING};
    bool max = call->builtin->op == MAX;
    if (!sl__jto_seq(c, call->self, SL_J_LIST, &items)) return false;
    *out = sl__jundefined(&nothing);
    for (size_t i = 0; i < items.u.seq->count; i++) {
        sl__jval key;
        int order = max ? 1 : -1;
        if (!get_key(c, call->arg[1], items.u.seq->items[i], sl__jtrue(call->arg[0]), &key) ||
            (i > 0 && !sl__jorder(c, key, best_key, max ? ">" : "<", &order)))
            return false;
        if (order != (max ? 1 : -1)) continue;
        best_key = key;
        *out = items.u.seq->items[i];
    }
    return true;
}

static bool filter_sum(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval items, value;
    sl__jval sum = call->arg[1].kind == SL_J_MISSING ? sl__jint(0) : call->arg[1];
    if (!sl__jto_seq(c, call->self, SL_J_LIST, &items)) return false;
    if (sum.kind == SL_J_STRING) return sl__jfail(c, "sum cannot add strings");
    for (size_t i = 0; i < items.u.seq->count; i++) {
        if (!get_key(c, call->arg[0], items.u.seq->items[i], true, &value) ||
            !sl__jbinary(c, '+', sum, value, &sum))
            return false;
    }
    *out = sum;
    return true;
}

static bool filter_join(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jwalk walk;
    sl__jval item, between = call->arg[0];
    bool more;
    if (between.kind == SL_J_MISSING) {
        if (!sl__jmake(c, "", 0, &between)) return false;
    } else if (!sl__jto_str(c, between, &between)) {
        return false;
    }
    if (!sl__jwalk_begin(c, call->self, &walk)) return false;
    size_t mark = c->out->size;
    for (bool first = true;; first = false) {
        if (!sl__jwalk_next(c, &walk, &item, &more)) return false;
        if (!more) break;
        if (!first && !sl__jput(c, between.u.str->text, between.u.str->size)) return false;
        if (!get_key(c, call->arg[1], item, true, &item) || !sl__jput_value(c, item)) return false;
    }
    return sl__jtake(c, mark, out);
}

/* ---- other shapes ---------------------------------------------------------------------------- */

static bool filter_list(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    return sl__jto_seq(c, call->self, SL_J_LIST, out);
}

static bool filter_items(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jval v = call->self;
    if (v.kind == SL_J_UNDEFINED) return sl__jmake_seq(c, SL_J_ITERATOR, 0, out);
    if (v.kind != SL_J_DICT) return sl__jfail(c, "items needs a dict, not '%s'", sl__jtype_name(v));
    if (!sl__jmake_seq(c, SL_J_ITERATOR, v.u.dict->count, out)) return false;
    for (size_t i = 0; i < v.u.dict->count; i++) {
        const sl__jentry *entry = &v.u.dict->entries[i];
        sl__jval pair;
        if (!sl__jwork(c, 1) || !make_pair(c, entry->key, entry->value, &pair)) return false;
        out->u.seq->items[i] = pair;
    }
    return true;
}

static bool filter_reverse(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    const sl__jval none = sl__jnone();
    sl__jval v = call->self;
    bool list = sl__jis_seq(v, SL_J_ITERATOR);
    if (v.kind == SL_J_STRING) return sl__jslice(c, v, none, none, sl__jint(-1), out);
    if (!sl__jto_seq(c, v, SL_J_ITERATOR, out)) return false;
    sl__jseq *seq = out->u.seq;
    for (size_t i = 0; i < seq->count / 2; i++) {
        sl__jval swap = seq->items[i];
        seq->items[i] = seq->items[seq->count - 1 - i];
        seq->items[seq->count - 1 - i] = swap;
    }
    if (list) seq->kind = SL_J_LIST;
    return true;
}

/* Rows of `width` items, the last one filled up where there is something to fill it with. */
static bool filter_batch(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval items, fill = call->arg[1];
    int64_t width;
    if (!sl__jarg_int(c, call->arg[0], 1, "batch", &width) ||
        !sl__jto_seq(c, call->self, SL_J_LIST, &items))
        return false;
    size_t count = items.u.seq->count, each = (size_t)width;
    if (width <= 0) return sl__jfail(c, "batch: rows of %lld items", (long long)width);
    size_t rows = count / each + (count % each > 0);
    if (!sl__jmake_seq(c, SL_J_ITERATOR, rows, out)) return false;
    for (size_t r = 0; r < rows; r++) {
        sl__jval row;
        size_t have = count - r * each < each ? count - r * each : each;
        size_t size = fill.kind > SL_J_NONE ? each : have;
        if (!sl__jmake_seq(c, SL_J_LIST, size, &row)) return false;
        for (size_t i = 0; i < size; i++)
            row.u.seq->items[i] = i < have ? items.u.seq->items[r * each + i] : fill;
        out->u.seq->items[r] = row;
    }
    return true;
}

/* So many columns of nearly equal length. */
static bool filter_slice(sl__jctx *c, const sl__jcall *call, sl__jval *out)
{
    sl__jval items, fill = call->arg[1];
    int64_t slices;
    if (!sl__jarg_int(c, call->arg[0], 1, "slice", &slices) ||
        !sl__jto_seq(c, call->self, SL_J_LIST, &items))
        return false;
    if (slices < 1 || slices > 100000) return sl__jfail(c, "slice into %lld", (long long)slices);
    size_t count = items.u.seq->count, columns = (size_t)slices, at = 0;
    size_t each = count / columns, longer = count % columns;
    if (!sl__jmake_seq(c, SL_J_ITERATOR, columns, out)) return false;
    for (size_t k = 0; k < columns; k++) {
        sl__jval column;
        size_t have = each + (k < longer);
        size_t size = have + (fill.kind > SL_J_NONE && k >= longer);
        if (!sl__jmake_seq(c, SL_J_LIST, size, &column)) return false;
        for (size_t i = 0; i < size; i++)
            column.u.seq->items[i] = i < have ? items.u.seq->items[at + i] : fill;
        at += have;
        out->u.seq->items[k] = column;
    }
    return true;
}

static const sl__jbuiltin filters[] = {
    {"sort", filter_sort, "reverse case_sensitive attribute", 0, 0},
    {"dictsort", filter_dictsort, "case_sensitive by reverse", 0, 0},
    {"groupby", filter_groupby, "attribute default case_sensitive", 1, 0},
    {"select", filter_select, NULL, 0, 0},
    {"reject", filter_select, NULL, 0, REJECTS},
    {"selectattr", filter_select, NULL, 0, BY_ATTRIBUTE},
    {"rejectattr", filter_select, NULL, 0, BY_ATTRIBUTE | REJECTS},
    {"map", filter_map, NULL, 0, 0},
    {"unique", filter_unique, "case_sensitive attribute", 0, 0},
    {"first", filter_end, "", 0, FIRST},
    {"last", filter_end, "", 0, LAST},
    {"min", filter_extreme, "case_sensitive attribute", 0, MIN},
    {"max", filter_extreme, "case_sensitive attribute", 0, MAX},
    {"sum", filter_sum, "attribute start", 0, 0},
    {"join", filter_join, "d attribute", 0, 0},
    {"list", filter_list, "", 0, 0},
    {"items", filter_items, "", 0, 0},
    {"reverse", filter_reverse, "", 0, 0},
    {"batch", filter_batch, "linecount fill_with", 1, 0},
    {"slice", filter_slice, "slices fill_with", 1, 0},
};

const sl__jbuiltin *sl__jfind_filter_of_lists(const sl__jstr *name)
{
    return sl__jfind(filters, sizeof filters / sizeof filters[0], name);
}
