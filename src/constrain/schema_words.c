/* Reading one schema: keywords, types, references. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "constrain/schema.h"

static const char *const keywords[SL__KEYWORDS] = {
    [SL__KEY_TYPE] = "type",
    [SL__KEY_PROPERTIES] = "properties",
    [SL__KEY_REQUIRED] = "required",
    [SL__KEY_ADDITIONAL] = "additionalProperties",
    [SL__KEY_ITEMS] = "items",
    [SL__KEY_MIN_ITEMS] = "minItems",
    [SL__KEY_MAX_ITEMS] = "maxItems",
    [SL__KEY_MIN_LENGTH] = "minLength",
    [SL__KEY_MAX_LENGTH] = "maxLength",
    [SL__KEY_MINIMUM] = "minimum",
    [SL__KEY_MAXIMUM] = "maximum",
    [SL__KEY_ABOVE] = "exclusiveMinimum",
    [SL__KEY_BELOW] = "exclusiveMaximum",
    [SL__KEY_ENUM] = "enum",
    [SL__KEY_CONST] = "const",
    [SL__KEY_ANY_OF] = "anyOf",
    [SL__KEY_ONE_OF] = "oneOf",
    [SL__KEY_ALL_OF] = "allOf",
    [SL__KEY_REF] = "$ref",
};

/* Said for readers: they hold for nothing. */
static const char *const remarks[] = {
    "title",     "description", "default", "examples", "example", "deprecated",  "readOnly",
    "writeOnly", "$comment",    "$schema", "$id",      "$defs",   "definitions", "discriminator",
};

static const char *const type_names[] = {"null",   "boolean", "integer", "number",
                                         "string", "array",   "object"};

const char *sl__schema_keyword(sl__keyword keyword)
{
    return keywords[keyword];
}

sl_status sl__schema_fail(sl_error *err, sl_status status, const sl__schema_place *at,
                          const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return SL_FAIL(err, status, "%s: %.300s: %s", at->name, at->path, text);
}

/* ---- places ---------------------------------------------------------------------------------- */

sl_status sl__schema_below(sl__arena *arena, const sl__schema_place *at, const json_t *json,
                           const char *word, const char *key, size_t index, sl__schema_place *out,
                           sl_error *err)
{
    sl__schema_place place = *at;
    size_t room = strlen(at->path) + strlen(word) + (key ? strlen(key) : 0) + 32;
    char *path = sl__arena_alloc(arena, room, 1);
    if (!path) return SL_FAIL_NOMEM(err, "schema");
    if (key)
        snprintf(path, room, "%s/%s/%s", at->path, word, key);
    else if (index != SIZE_MAX)
        snprintf(path, room, "%s/%s/%zu", at->path, word, index);
    else
        snprintf(path, room, "%s/%s", at->path, word);
    place.path = path;
    place.json = json;
    place.nesting++;
    *out = place;
    if (place.nesting > SL__SCHEMA_NESTING)
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: nested more than %u deep", at->name,
                       SL__SCHEMA_NESTING);
    return SL_OK;
}

/* ---- types ----------------------------------------------------------------------------------- */

unsigned sl__type_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_NULL:
        return SL__TYPE_NULL;
    case JSON_TRUE:
    case JSON_FALSE:
        return SL__TYPE_BOOLEAN;
    case JSON_INTEGER:
        return SL__TYPE_INTEGER;
    case JSON_REAL:
        return json_real_value(value) == floor(json_real_value(value)) ? SL__TYPE_INTEGER
                                                                       : SL__TYPE_NUMBER;
    case JSON_STRING:
        return SL__TYPE_STRING;
    case JSON_ARRAY:
        return SL__TYPE_ARRAY;
    default:
        return SL__TYPE_OBJECT;
    }
}

static sl_status read_type(const sl__schema_place *at, const json_t *type, unsigned *types,
                           sl_error *err)
{
    const char *text = json_string_value(type);
    for (unsigned i = 0; text && i < sizeof type_names / sizeof type_names[0]; i++) {
        if (strcmp(text, type_names[i]) != 0) continue;
        *types |= 1u << i;
        return SL_OK;
    }
    return sl__schema_fail(err, SL_EINVAL, at, "type %s is none of JSON's",
                           text ? text : "is no string and");
}

static sl_status read_types(const sl__schema_place *at, const json_t *type, unsigned *types,
                            sl_error *err)
{
    size_t i;
    const json_t *one;
    *types = 0;
    if (!json_is_array(type)) return read_type(at, type, types, err);
    json_array_foreach(type, i, one) SL_TRY(read_type(at, one, types, err));
    if (*types == 0) return sl__schema_fail(err, SL_EINVAL, at, "type has no types");
    return SL_OK;
}

/* Without a type, that which the other keywords are about. */
static unsigned guess_types(const sl__schema_words *w)
{
    static const struct {
        sl__keyword first, last;
        unsigned type;
    } about[] = {
        {SL__KEY_PROPERTIES, SL__KEY_ADDITIONAL, SL__TYPE_OBJECT},
        {SL__KEY_ITEMS, SL__KEY_MAX_ITEMS, SL__TYPE_ARRAY},
        {SL__KEY_MIN_LENGTH, SL__KEY_MAX_LENGTH, SL__TYPE_STRING},
        {SL__KEY_MINIMUM, SL__KEY_BELOW, SL__TYPE_NUMBER},
    };
    unsigned types = 0;
    for (size_t i = 0; i < sizeof about / sizeof about[0]; i++)
        for (int k = (int)about[i].first; k <= (int)about[i].last; k++)
            if (w->found[k]) types |= about[i].type;
    return types ? types : SL__TYPE_ANY;
}

/* ---- keywords -------------------------------------------------------------------------------- */

static bool is_remark(const char *key)
{
    for (size_t i = 0; i < sizeof remarks / sizeof remarks[0]; i++)
        if (strcmp(key, remarks[i]) == 0) return true;
    return strncmp(key, "x-", 2) == 0;
}

static bool is_about_nothing(const char *key, const json_t *value)
{
    return strcmp(key, "uniqueItems") == 0 && json_is_false(value);
}

/* Those that say all of a schema by themselves: what else may stand beside them. */
static sl_status check_alone(const sl__schema_place *at, const sl__schema_words *w, sl_error *err)
{
    for (int k = SL__KEY_ENUM; k < SL__KEYWORDS; k++) {
        if (!w->found[k]) continue;
        bool values = k == SL__KEY_ENUM || k == SL__KEY_CONST;
        for (int other = 0; other < SL__KEYWORDS; other++) {
            if (!w->found[other] || other == k || (values && other == SL__KEY_TYPE)) continue;
            return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                                   "the keyword \"%s\" beside \"%s\" is not supported",
                                   keywords[other], keywords[k]);
        }
    }
    return SL_OK;
}

sl_status sl__schema_read(const sl__schema_place *at, sl__schema_words *w, sl_error *err)
{
    const char *key;
    json_t *value;
    memset(w, 0, sizeof *w);
    json_object_foreach((json_t *)at->json, key, value)
    {
        int k = 0;
        while (k < SL__KEYWORDS && strcmp(key, keywords[k]) != 0)
            k++;
        if (k < SL__KEYWORDS)
            w->found[k] = value;
        else if (!is_remark(key) && !is_about_nothing(key, value))
            return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                                   "the keyword \"%.100s\" is not supported", key);
    }
    SL_TRY(check_alone(at, w, err));
    if (w->found[SL__KEY_TYPE]) return read_types(at, w->found[SL__KEY_TYPE], &w->types, err);
    w->types = guess_types(w);
    return SL_OK;
}

sl_status sl__schema_count(const sl__schema_place *at, const sl__schema_words *w,
                           sl__keyword keyword, uint32_t *out, sl_error *err)
{
    const json_t *value = w->found[keyword];
    if (!value) return SL_OK;
    double x = json_number_value(value);
    if (!json_is_number(value) || x < 0 || x != floor(x))
        return sl__schema_fail(err, SL_EINVAL, at, "%s is no whole number of at least 0",
                               keywords[keyword]);
    *out = x < 1e9 ? (uint32_t)x : (uint32_t)1000000000;
    return SL_OK;
}

/* ---- references ------------------------------------------------------------------------------ */

static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One part of a JSON pointer in a URI: %XX, then ~0 and ~1. Writes at most its size. */
static void unescape(const char *text, size_t size, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (c == '%' && i + 2 < size && hex_value(text[i + 1]) >= 0 &&
            hex_value(text[i + 2]) >= 0) {
            c = (char)(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
            i += 2;
        } else if (c == '~' && i + 1 < size && (text[i + 1] == '0' || text[i + 1] == '1')) {
            c = text[++i] == '0' ? '~' : '/';
        }
        out[n++] = c;
    }
    out[n] = '\0';
}

static json_t *member(const json_t *json, const char *key)
{
    if (json_is_object(json)) return json_object_get(json, key);
    char *end;
    unsigned long index = strtoul(key, &end, 10);
    return json_is_array(json) && *key && !*end ? json_array_get(json, index) : NULL;
}

static json_t *find(json_t *root, const char *ref, char *part)
{
    json_t *json = root;
    for (ref++; json && *ref == '/';) {
        const char *end = strchr(++ref, '/');
        size_t size = end ? (size_t)(end - ref) : strlen(ref);
        unescape(ref, size, part);
        json = member(json, part);
        ref += size;
    }
    return *ref ? NULL : json;
}

sl_status sl__schema_follow(sl__arena *arena, sl__schema_place *at, sl_error *err)
{
    for (unsigned i = 0; i < SL__SCHEMA_REFS_MAX; i++) {
        const json_t *ref = json_object_get(at->json, "$ref");
        if (!ref) return SL_OK;
        const char *text = json_string_value(ref);
        if (!text || text[0] != '#' || strlen(text) != json_string_length(ref))
            return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                                   "$ref to something else than a part of this schema (\"#/…\")");
        char *part = sl__arena_strdup(arena, text);
        if (!part) return SL_FAIL_NOMEM(err, "schema");
        const json_t *target = find(at->root, text, part);
        if (!target)
            return sl__schema_fail(err, SL_EINVAL, at, "$ref \"%.200s\" is not there", text);
        at->json = target;
        at->path = sl__arena_strdup(arena, text);
        at->nesting = 0;
        if (!at->path) return SL_FAIL_NOMEM(err, "schema");
    }
    return sl__schema_fail(err, SL_EUNSUPPORTED, at, "$ref leads on and on");
}

/* ---- whether two overlap --------------------------------------------------------------------- */

static bool equal(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static const json_t *resolve(json_t *root, const json_t *schema)
{
    char part[512];
    for (unsigned i = 0; i < SL__SCHEMA_REFS_MAX; i++) {
        const char *ref = json_string_value(json_object_get(schema, "$ref"));
        if (!ref) return schema;
        schema = ref[0] == '#' && strlen(ref) < sizeof part ? find(root, ref, part) : NULL;
    }
    return NULL;
}

#define COMPARED_MAX ((size_t)100000) /* pairs of listed values */

/* What is known of a schema's values: their types, and all of them where they are listed. */
typedef struct known {
    unsigned types;
    const json_t *list, *one;
} known;

static known look_at(const json_t *schema)
{
    const sl__schema_place at = {"", NULL, schema, "", 0};
    known k = {SL__TYPE_ANY, json_object_get(schema, "enum"), json_object_get(schema, "const")};
    sl__schema_words w;
    if (!json_is_object(schema) || sl__schema_read(&at, &w, NULL) != SL_OK) return k;
    k.types = w.types;
    unsigned listed = 0;
    size_t i;
    const json_t *value;
    json_array_foreach(k.list, i, value) listed |= sl__type_of(value);
    if (k.one) listed |= sl__type_of(k.one);
    if (k.list || k.one) k.types = listed;
    if (k.types & (SL__TYPE_NUMBER | SL__TYPE_INTEGER))
        k.types |= SL__TYPE_NUMBER | SL__TYPE_INTEGER;
    return k;
}

static size_t value_count(const known *k)
{
    return k->one ? 1 : json_array_size(k->list);
}

static const json_t *value_at(const known *k, size_t i)
{
    return k->one ? k->one : json_array_get(k->list, i);
}

static bool requires(const json_t *schema, const char *key)
{
    size_t i;
    const json_t *name;
    json_array_foreach(json_object_get(schema, "required"), i, name)
    {
        if (json_is_string(name) && strcmp(json_string_value(name), key) == 0) return true;
    }
    return false;
}

/* Both are of objects: a property that both require and cannot agree on tells them apart. */
static bool objects_overlap(json_t *root, const json_t *a, const json_t *b, unsigned depth)
{
    const char *key;
    json_t *of_a;
    json_object_foreach(json_object_get(a, "properties"), key, of_a)
    {
        const json_t *of_b = json_object_get(json_object_get(b, "properties"), key);
        if (of_b && requires(a, key) && requires(b, key) &&
            !sl__schema_overlap(root, of_a, of_b, depth - 1))
            return false;
    }
    return true;
}

bool sl__schema_overlap(json_t *root, const json_t *a, const json_t *b, unsigned depth)
{
    a = resolve(root, a);
    b = resolve(root, b);
    if (!a || !b || depth == 0) return true;
    known x = look_at(a), y = look_at(b);
    unsigned both = x.types & y.types;
    if (both == 0) return false;
    if (value_count(&x) && value_count(&y)) {
        if (value_count(&x) > COMPARED_MAX / value_count(&y)) return true;
        for (size_t i = 0; i < value_count(&x); i++)
            for (size_t k = 0; k < value_count(&y); k++)
                if (equal(value_at(&x, i), value_at(&y, k))) return true;
        return false;
    }
    return both != SL__TYPE_OBJECT || value_count(&x) || value_count(&y) ||
           objects_overlap(root, a, b, depth);
}
