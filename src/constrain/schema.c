/* Compiling: a rule for each schema that is met, filled in one after the other.
 *
 *     jobs  │ root │ #/properties/a │ #/$defs/node │ …   the schemas met so far, in order
 *              └ asks for the rules of its parts, which are put at the end once
 *
 * So a schema may refer to itself, and how deep references nest costs no stack.
 */
#include "constrain/schema.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "constrain/rules.h"

#define ALTERNATIVES_MAX 256u
#define WHOLE_MAX        999999999999999999 /* SL__INTEGER_DIGITS nines */
#define BOUND_MAX        9e15               /* whole numbers up to here are exact as double */

typedef struct job {
    sl__schema_place at;
    uint32_t rule;
} job;

void sl__schema_init(sl__schema_compiler *c)
{
    memset(c, 0, sizeof *c);
    sl__builder_init(&c->builder);
    sl__arena_init(&c->arena, 0);
    sl__buffer_init(&c->jobs, (size_t)SL__GRAMMAR_STATES_MAX * sizeof(job));
}

void sl__schema_free(sl__schema_compiler *c)
{
    sl__builder_free(&c->builder);
    sl__arena_free(&c->arena);
    sl__buffer_free(&c->jobs);
    free(c->slots);
}

/* ---- which rule a schema has ----------------------------------------------------------------- */

static const job *jobs_of(const sl__schema_compiler *c)
{
    return (const job *)(const void *)c->jobs.data;
}

static uint32_t *slot_of(const sl__schema_compiler *c, const json_t *json)
{
    uint64_t h = (uint64_t)(uintptr_t)json * 0x9e3779b97f4a7c15u;
    uint32_t i = (uint32_t)(h >> 32) & (c->slot_count - 1);
    while (c->slots[i] && jobs_of(c)[c->slots[i] - 1].at.json != json)
        i = (i + 1) & (c->slot_count - 1);
    return &c->slots[i];
}

static sl_status make_room(sl__schema_compiler *c, sl_error *err)
{
    size_t count = c->jobs.size / sizeof(job);
    if (count * 2 < c->slot_count) return SL_OK;
    uint32_t *slots = calloc(c->slot_count ? (size_t)c->slot_count * 2 : 64, sizeof *slots);
    if (!slots) return SL_FAIL_NOMEM(err, "schema");
    free(c->slots);
    c->slots = slots;
    c->slot_count = c->slot_count ? c->slot_count * 2 : 64;
    for (size_t i = 0; i < count; i++)
        *slot_of(c, jobs_of(c)[i].at.json) = (uint32_t)i + 1;
    return SL_OK;
}

/* true and false are one value each in jansson, wherever they stand. */
static uint32_t boolean_rule(sl__schema_compiler *c, const json_t *json)
{
    return json_is_true(json) ? sl__rule_value(&c->builder) : sl__rule_new(&c->builder);
}

sl_status sl__schema_rule(sl__schema_compiler *c, const sl__schema_place *place, uint32_t *rule,
                          sl_error *err)
{
    sl__schema_place at = *place;
    if (json_is_object(at.json) && json_object_get(at.json, "$ref")) {
        sl__schema_words words;
        SL_TRY(sl__schema_read(&at, &words, err)); /* what may stand beside it */
        SL_TRY(sl__schema_follow(&c->arena, &at, err));
    }
    if (json_is_boolean(at.json)) {
        *rule = boolean_rule(c, at.json);
        return SL_OK;
    }
    if (!json_is_object(at.json))
        return sl__schema_fail(err, SL_EINVAL, &at, "neither an object nor a boolean");
    SL_TRY(make_room(c, err));
    uint32_t *slot = slot_of(c, at.json);
    if (*slot) {
        *rule = jobs_of(c)[*slot - 1].rule;
        return SL_OK;
    }
    const job added = {at, sl__rule_new(&c->builder)};
    if (!sl__buffer_append(&c->jobs, &added, sizeof added)) return SL_FAIL_NOMEM(err, "schema");
    *slot = (uint32_t)(c->jobs.size / sizeof added);
    *rule = added.rule;
    return SL_OK;
}

static sl_status part_rule(sl__schema_compiler *c, const sl__schema_place *at, const json_t *json,
                           const char *word, const char *key, size_t index, uint32_t *rule,
                           sl_error *err)
{
    sl__schema_place below;
    SL_TRY(sl__schema_below(&c->arena, at, json, word, key, index, &below, err));
    return sl__schema_rule(c, &below, rule, err);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* A number with a fraction as short as it can be. */
static char *dump(const json_t *value, size_t flags)
{
    flags |= JSON_ENCODE_ANY | JSON_COMPACT;
    for (unsigned digits = 15; digits < 17; digits++) {
        char *text = json_dumps(value, flags | JSON_REAL_PRECISION(digits));
        json_t *back = text ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
        bool same = back && json_equal(back, value);
        json_decref(back);
        if (same) return text;
        free(text);
    }
    return json_dumps(value, flags);
}

/* Text of a value as it is to be written, owned by the caller. guarded: without "</". */
static sl_status literal(const json_t *value, bool guarded, char **text, size_t *size,
                         sl_error *err)
{
    *text = dump(value, 0);
    if (*text && guarded && strstr(*text, "</")) {
        free(*text);
        *text = dump(value, JSON_ESCAPE_SLASH);
    }
    if (!*text) return SL_FAIL_NOMEM(err, "schema");
    *size = strlen(*text);
    return SL_OK;
}

/* The text of a value, or NULL where the type forbids it. */
static sl_status read_literal(const sl__schema_compiler *c, const json_t *value, unsigned types,
                              char **text, sl_error *err)
{
    size_t size;
    unsigned type = sl__type_of(value);
    *text = NULL;
    if (type == SL__TYPE_INTEGER && (types & SL__TYPE_NUMBER)) type = SL__TYPE_NUMBER;
    return types & type ? literal(value, c->builder.guarded, text, &size, err) : SL_OK;
}

/* Sorted texts, which share the states of their beginnings. */
static void add_literals(sl__builder *b, uint32_t rule, char *const *texts, size_t count)
{
    uint32_t *path = NULL; /* of the last text: the state behind each byte */
    size_t room = 0;
    for (size_t i = 0; i < count; i++) {
        size_t size = strlen(texts[i]), shared = 0;
        while (i > 0 && texts[i][shared] && texts[i][shared] == texts[i - 1][shared])
            shared++;
        if (size >= room) {
            room = (size + 1) * 2;
            uint32_t *grown = realloc(path, room * sizeof *path);
            if (!grown) b->states.failed = true;
            if (!grown) break;
            path = grown;
        }
        path[0] = sl__rule_start(b, rule);
        for (; shared < size; shared++)
            path[shared + 1] = sl__path(b, path[shared], texts[i] + shared, 1, 0);
        sl__state_mark(b, path[size], SL__STATE_ACCEPT, 0);
    }
    free(path);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static sl_status compile_values(sl__schema_compiler *c, const sl__schema_place *at,
                                const sl__schema_words *w, uint32_t rule, sl_error *err)
{
    const json_t *list = w->found[SL__KEY_ENUM], *one = w->found[SL__KEY_CONST];
    unsigned types = w->found[SL__KEY_TYPE] ? w->types : SL__TYPE_ANY;
    size_t count = one ? 1 : json_array_size(list), used = 0;
    if (count == 0) return sl__schema_fail(err, SL_EINVAL, at, "enum is no list of values");
    char **texts = calloc(count, sizeof *texts);
    sl_status status = texts ? SL_OK : SL_FAIL_NOMEM(err, "schema");
    for (size_t i = 0; i < count && status == SL_OK; i++) {
        status = read_literal(c, one ? one : json_array_get(list, i), types, &texts[used], err);
        used += texts[used] != NULL;
    }
    if (status == SL_OK && used > 0) {
        qsort(texts, used, sizeof *texts, by_text);
        add_literals(&c->builder, rule, texts, used);
    }
    for (size_t i = 0; i < used; i++)
        free(texts[i]);
    free(texts);
    return status;
}

/* ---- alternatives ---------------------------------------------------------------------------- */

static sl_status check_apart(const sl__schema_place *at, const json_t *list, sl_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        for (size_t k = i + 1; k < json_array_size(list); k++)
            if (sl__schema_overlap(at->root, json_array_get(list, i), json_array_get(list, k), 4))
                return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                                       "oneOf: its schemas %zu and %zu may both hold "
                                       "(anyOf allows that)",
                                       i, k);
    return SL_OK;
}

static sl_status compile_alternatives(sl__schema_compiler *c, const sl__schema_place *at,
                                      const sl__schema_words *w, sl__keyword keyword, uint32_t rule,
                                      sl_error *err)
{
    size_t i;
    const json_t *list = w->found[keyword], *one;
    const char *word = sl__schema_keyword(keyword);
    if (!json_is_array(list) || json_array_size(list) == 0)
        return sl__schema_fail(err, SL_EINVAL, at, "%s is no list of schemas", word);
    if (json_array_size(list) > (keyword == SL__KEY_ALL_OF ? 1 : ALTERNATIVES_MAX))
        return sl__schema_fail(err, SL_EUNSUPPORTED, at, "%s of more than %u schemas", word,
                               keyword == SL__KEY_ALL_OF ? 1 : ALTERNATIVES_MAX);
    if (keyword == SL__KEY_ONE_OF) SL_TRY(check_apart(at, list, err));
    sl__builder *b = &c->builder;
    uint32_t end = sl__state_new(b, rule), part = 0;
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    json_array_foreach(list, i, one)
    {
        SL_TRY(part_rule(c, at, one, word, NULL, i, &part, err));
        sl__call(b, sl__rule_start(b, rule), part, end);
    }
    return SL_OK;
}

/* ---- objects --------------------------------------------------------------------------------- */

typedef struct property_list {
    sl__property *items;
    size_t count;
} property_list;

static void free_properties(property_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free((char *)list->items[i].name);
    free(list->items);
}

static bool is_required(const json_t *required, const char *key)
{
    size_t i;
    const json_t *name;
    json_array_foreach(required, i, name)
    {
        if (strcmp(json_string_value(name), key) == 0) return true;
    }
    return false;
}

static sl_status add_property(property_list *list, const char *key, uint32_t rule, bool required,
                              bool guarded, sl_error *err)
{
    json_t *name = json_string(key);
    char *text = NULL;
    size_t size = 0;
    sl_status status =
        name ? literal(name, guarded, &text, &size, err) : SL_FAIL_NOMEM(err, "schema");
    json_decref(name);
    SL_TRY(status);
    list->items[list->count++] = (sl__property){text, size, rule, required};
    return SL_OK;
}

static sl_status check_required(const sl__schema_place *at, const json_t *required, sl_error *err)
{
    size_t i;
    const json_t *name;
    if (required && !json_is_array(required))
        return sl__schema_fail(err, SL_EINVAL, at, "required is no list of names");
    json_array_foreach(required, i, name)
    {
        if (!json_is_string(name) || strlen(json_string_value(name)) != json_string_length(name))
            return sl__schema_fail(err, SL_EINVAL, at, "required is no list of names");
    }
    return SL_OK;
}

/* Those of `properties` in their order, then what is only required. */
static sl_status list_properties(sl__schema_compiler *c, const sl__schema_place *at,
                                 const sl__schema_words *w, uint32_t others, property_list *list,
                                 sl_error *err)
{
    json_t *properties = w->found[SL__KEY_PROPERTIES], *required = w->found[SL__KEY_REQUIRED];
    const char *key;
    json_t *value;
    const json_t *name;
    size_t i;
    list->items =
        calloc(json_object_size(properties) + json_array_size(required) + 1, sizeof *list->items);
    if (!list->items) return SL_FAIL_NOMEM(err, "schema");
    json_object_foreach(properties, key, value)
    {
        uint32_t rule;
        SL_TRY(part_rule(c, at, value, "properties", key, 0, &rule, err));
        SL_TRY(add_property(list, key, rule, is_required(required, key), c->builder.guarded, err));
    }
    json_array_foreach(required, i, name)
    {
        key = json_string_value(name);
        bool seen = json_object_get(properties, key) != NULL;
        for (size_t k = 0; k < i && !seen; k++)
            seen = strcmp(json_string_value(json_array_get(required, k)), key) == 0;
        if (seen) continue;
        if (others == SL__NO_RULE)
            return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                                   "required: \"%.100s\" is not among the properties", key);
        SL_TRY(add_property(list, key, others, true, c->builder.guarded, err));
    }
    return SL_OK;
}

static sl_status compile_object(sl__schema_compiler *c, const sl__schema_place *at,
                                const sl__schema_words *w, uint32_t *rule, sl_error *err)
{
    const json_t *properties = w->found[SL__KEY_PROPERTIES], *more = w->found[SL__KEY_ADDITIONAL];
    uint32_t others = SL__NO_RULE;
    if (properties && !json_is_object(properties))
        return sl__schema_fail(err, SL_EINVAL, at, "properties is no object");
    SL_TRY(check_required(at, w->found[SL__KEY_REQUIRED], err));
    if (more && !json_is_false(more))
        SL_TRY(part_rule(c, at, more, "additionalProperties", NULL, SIZE_MAX, &others, err));
    if (!more && !properties) others = sl__rule_value(&c->builder);
    property_list list = {NULL, 0};
    sl_status status = list_properties(c, at, w, others, &list, err);
    if (status == SL_OK) *rule = sl__rule_properties(&c->builder, list.items, list.count, others);
    free_properties(&list);
    return status;
}

/* ---- the other types ------------------------------------------------------------------------- */

static sl_status compile_array(sl__schema_compiler *c, const sl__schema_place *at,
                               const sl__schema_words *w, uint32_t *rule, sl_error *err)
{
    uint32_t min = 0, max = SL__NO_LIMIT, item = sl__rule_value(&c->builder);
    SL_TRY(sl__schema_count(at, w, SL__KEY_MIN_ITEMS, &min, err));
    SL_TRY(sl__schema_count(at, w, SL__KEY_MAX_ITEMS, &max, err));
    if (min > max) return sl__schema_fail(err, SL_EINVAL, at, "minItems is above maxItems");
    if (w->found[SL__KEY_ITEMS])
        SL_TRY(part_rule(c, at, w->found[SL__KEY_ITEMS], "items", NULL, SIZE_MAX, &item, err));
    *rule = sl__rule_items(&c->builder, item, min, max);
    return SL_OK;
}

static sl_status compile_string(sl__schema_compiler *c, const sl__schema_place *at,
                                const sl__schema_words *w, uint32_t *rule, sl_error *err)
{
    uint32_t min = 0, max = SL__NO_LIMIT;
    SL_TRY(sl__schema_count(at, w, SL__KEY_MIN_LENGTH, &min, err));
    SL_TRY(sl__schema_count(at, w, SL__KEY_MAX_LENGTH, &max, err));
    if (min > max) return sl__schema_fail(err, SL_EINVAL, at, "minLength is above maxLength");
    *rule = sl__rule_string(&c->builder, min, max);
    return SL_OK;
}

/* The whole numbers that bounds leave: those of a number with a fraction must be whole, too. */
static sl_status read_bounds(const sl__schema_place *at, const sl__schema_words *w, bool whole,
                             int64_t *low, int64_t *high, sl_error *err)
{
    static const sl__keyword words[] = {SL__KEY_MINIMUM, SL__KEY_ABOVE, SL__KEY_MAXIMUM,
                                        SL__KEY_BELOW};
    for (size_t i = 0; i < 4; i++) {
        const json_t *value = w->found[words[i]];
        bool open = words[i] == SL__KEY_ABOVE || words[i] == SL__KEY_BELOW;
        if (!value) continue;
        if (!json_is_number(value))
            return sl__schema_fail(err, SL_EINVAL, at, "%s is no number",
                                   sl__schema_keyword(words[i]));
        double x = json_number_value(value);
        if (!whole && (open || x != floor(x)))
            return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                                   "%s of a number with a fraction is not supported%s",
                                   sl__schema_keyword(words[i]), open ? "" : " but for whole ones");
        if (i < 2)
            x = open ? floor(x) + 1 : ceil(x);
        else
            x = open ? ceil(x) - 1 : floor(x);
        if (!(fabs(x) <= BOUND_MAX))
            return sl__schema_fail(err, SL_EUNSUPPORTED, at, "%s is too large a bound",
                                   sl__schema_keyword(words[i]));
        int64_t bound = (int64_t)x;
        if (i < 2 && bound > *low) *low = bound;
        if (i >= 2 && bound < *high) *high = bound;
    }
    if (*low > *high) return sl__schema_fail(err, SL_EUNSUPPORTED, at, "no number is so bounded");
    return SL_OK;
}

static sl_status compile_number(sl__schema_compiler *c, const sl__schema_place *at,
                                const sl__schema_words *w, bool whole, uint32_t *rule,
                                sl_error *err)
{
    int64_t low = -WHOLE_MAX, high = WHOLE_MAX;
    sl__builder *b = &c->builder;
    bool bounded = false;
    for (int k = SL__KEY_MINIMUM; k <= SL__KEY_BELOW; k++)
        bounded = bounded || w->found[k];
    if (!bounded) {
        *rule = whole ? sl__rule_integer(b) : sl__rule_number(b);
        return SL_OK;
    }
    SL_TRY(read_bounds(at, w, whole, &low, &high, err));
    *rule = whole ? sl__rule_range(b, low, high) : sl__rule_number_range(b, low, high);
    return SL_OK;
}

static sl_status compile_type(sl__schema_compiler *c, const sl__schema_place *at,
                              const sl__schema_words *w, unsigned type, uint32_t *rule,
                              sl_error *err)
{
    switch (type) {
    case SL__TYPE_OBJECT:
        return compile_object(c, at, w, rule, err);
    case SL__TYPE_ARRAY:
        return compile_array(c, at, w, rule, err);
    case SL__TYPE_STRING:
        return compile_string(c, at, w, rule, err);
    case SL__TYPE_NULL:
        *rule = sl__rule_literal(&c->builder, "null", 4);
        return SL_OK;
    default:
        return compile_number(c, at, w, type == SL__TYPE_INTEGER, rule, err);
    }
}

static sl_status compile_types(sl__schema_compiler *c, const sl__schema_place *at,
                               const sl__schema_words *w, uint32_t rule, sl_error *err)
{
    sl__builder *b = &c->builder;
    uint32_t start = sl__rule_start(b, rule), end = sl__state_new(b, rule), part = 0;
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    unsigned types = w->types;
    if (types & SL__TYPE_NUMBER) types &= ~(unsigned)SL__TYPE_INTEGER;
    if (types == (SL__TYPE_ANY & ~(unsigned)SL__TYPE_INTEGER) && !w->found[SL__KEY_TYPE]) {
        sl__call(b, start, sl__rule_value(b), end);
        return SL_OK;
    }
    for (unsigned type = 1; type < SL__TYPE_ANY; type *= 2) {
        if (!(types & type)) continue;
        if (type == SL__TYPE_BOOLEAN) {
            sl__jump(b, sl__path(b, start, "true", 4, 0), end);
            sl__jump(b, sl__path(b, start, "false", 5, 0), end);
            continue;
        }
        SL_TRY(compile_type(c, at, w, type, &part, err));
        sl__call(b, start, part, end);
    }
    return SL_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static sl_status compile(sl__schema_compiler *c, const job *todo, sl_error *err)
{
    sl__schema_words w;
    SL_TRY(sl__schema_read(&todo->at, &w, err));
    if (w.found[SL__KEY_ENUM] || w.found[SL__KEY_CONST])
        return compile_values(c, &todo->at, &w, todo->rule, err);
    for (sl__keyword k = SL__KEY_ANY_OF; k <= SL__KEY_ALL_OF; k++)
        if (w.found[k]) return compile_alternatives(c, &todo->at, &w, k, todo->rule, err);
    return compile_types(c, &todo->at, &w, todo->rule, err);
}

sl_status sl__schema_run(sl__schema_compiler *c, sl_error *err)
{
    for (; c->done < c->jobs.size && !c->builder.full; c->done += sizeof(job)) {
        const job next = jobs_of(c)[c->done / sizeof next]; /* the list may move */
        SL_TRY(compile(c, &next, err));
    }
    return SL_OK;
}
