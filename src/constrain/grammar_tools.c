/* Tool calls as a grammar, in the two forms of chat_parse.h:
 *
 *     <tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>
 *     <tool_call>\n{"name": "NAME", "arguments": {…}}\n</tool_call>
 *
 * Before a call, and behind it, is free text, in which the machine only waits for the tag:
 *
 *     free ⟲ text      free ─['<']→ … "tool_call>" ─( the call )→ free
 *
 * Where an answer must fit a schema, there is no free text: calls alone, or the answer alone.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "constrain/rules.h"
#include "constrain/schema.h"

#define TOOLS_MAX      1024u
#define NAME_BYTES_MAX 256u /* as the parser of calls takes them */

static const char open_tag[] = "<tool_call>", close_tag[] = "</tool_call>";

typedef struct tool {
    const char *name;
    json_t *parameters; /* NULL: there are none */
    bool strict;
    char place[NAME_BYTES_MAX + 64]; /* "tools[0] (NAME)", for messages */
} tool;

static sl_status check_name(const char *place, const char *what, const char *name, sl_error *err)
{
    if (*name && strlen(name) <= NAME_BYTES_MAX && !strpbrk(name, "<>\"\\\n\r\t")) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: the %s \"%.100s\" cannot be called", place, what,
                   name);
}

static sl_status read_tool(tool *t, const json_t *json, size_t index, bool strict, sl_error *err)
{
    const json_t *inner = json_object_get(json, "function");
    const json_t *function = json_is_object(inner) ? inner : json;
    t->name = json_string_value(json_object_get(function, "name"));
    t->parameters = json_object_get(function, "parameters");
    t->strict = strict || json_is_true(json_object_get(function, "strict"));
    snprintf(t->place, sizeof t->place, "tools[%zu]", index);
    if (!t->name) return SL_FAIL(err, SL_EINVAL, "%s: no function with a name", t->place);
    snprintf(t->place, sizeof t->place, "tools[%zu] (%.200s)", index, t->name);
    if (json_is_null(t->parameters)) t->parameters = NULL;
    if (t->parameters && !json_is_object(t->parameters))
        return SL_FAIL(err, SL_EINVAL, "%s: parameters is no object", t->place);
    return check_name(t->place, "name", t->name, err);
}

/* ---- the form of parameters ------------------------------------------------------------------ */

static const char parameter_close[] = "\n</parameter>";

static uint32_t path_text(sl__builder *b, uint32_t from, const char *text, unsigned flags)
{
    return sl__path(b, from, text, strlen(text), flags);
}

/* The parser of calls takes a value for a string where its schema's own type says so. */
static bool says_string(const json_t *schema)
{
    size_t i;
    const json_t *type = json_object_get(schema, "type"), *one;
    if (json_is_string(type)) return strcmp(json_string_value(type), "string") == 0;
    json_array_foreach(type, i, one)
    {
        if (json_is_string(one) && strcmp(json_string_value(one), "string") == 0) return true;
    }
    return false;
}

static sl_status add_word(sl__builder *b, uint32_t rule, const json_t *value,
                          const sl__schema_place *at, sl_error *err)
{
    const char *text = json_string_value(value);
    if (!text) return SL_OK; /* the type forbids it */
    if (strstr(text, "</parameter>") || strlen(text) != json_string_length(value))
        return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                               "a value that holds </parameter> or a zero byte");
    uint32_t end = path_text(b, path_text(b, sl__rule_start(b, rule), text, 0), parameter_close,
                             SL__STATE_TAG);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    return SL_OK;
}

/* A string, written as it is, with the tag behind it. */
static sl_status string_value(sl__schema_compiler *c, const sl__schema_place *at, uint32_t *rule,
                              sl_error *err)
{
    sl__schema_words w;
    size_t i;
    const json_t *value;
    uint32_t min = 0, max = SL__NO_LIMIT;
    SL_TRY(sl__schema_read(at, &w, err));
    if (w.found[SL__KEY_CONST] || w.found[SL__KEY_ENUM]) {
        *rule = sl__rule_new(&c->builder);
        if (w.found[SL__KEY_CONST])
            return add_word(&c->builder, *rule, w.found[SL__KEY_CONST], at, err);
        json_array_foreach(w.found[SL__KEY_ENUM], i, value)
            SL_TRY(add_word(&c->builder, *rule, value, at, err));
        return SL_OK;
    }
    for (int k = SL__KEY_ANY_OF; k < SL__KEYWORDS; k++)
        if (w.found[k])
            return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                                   "the keyword \"type\" beside \"%s\" is not supported",
                                   sl__schema_keyword((sl__keyword)k));
    SL_TRY(sl__schema_count(at, &w, SL__KEY_MIN_LENGTH, &min, err));
    SL_TRY(sl__schema_count(at, &w, SL__KEY_MAX_LENGTH, &max, err));
    if (min > max) return sl__schema_fail(err, SL_EINVAL, at, "minLength is above maxLength");
    *rule = sl__rule_parameter(&c->builder, min, max);
    return SL_OK;
}

/* "<parameter=KEY>\nVALUE\n</parameter>\n" between two states. at NULL: any text. */
static sl_status add_parameter(sl__schema_compiler *c, uint32_t from, const char *key,
                               const sl__schema_place *at, uint32_t to, sl_error *err)
{
    sl__builder *b = &c->builder;
    uint32_t rule;
    from = path_text(b, from, "<parameter=", SL__STATE_TAG);
    from = path_text(b, path_text(b, from, key, 0), ">\n", SL__STATE_TAG);
    if (!at || says_string(at->json)) {
        if (at)
            SL_TRY(string_value(c, at, &rule, err));
        else
            rule = sl__rule_parameter(b, 0, SL__NO_LIMIT);
        from = sl__path_call(b, from, rule);
    } else {
        SL_TRY(sl__schema_rule(c, at, &rule, err));
        from = path_text(b, sl__path_call(b, from, rule), parameter_close, SL__STATE_TAG);
    }
    sl__jump(b, path_text(b, from, "\n", SL__STATE_TAG), to);
    return SL_OK;
}

static bool is_required(const json_t *schema, const char *key)
{
    size_t i;
    const json_t *name;
    json_array_foreach(json_object_get(schema, "required"), i, name)
    {
        if (json_is_string(name) && strcmp(json_string_value(name), key) == 0) return true;
    }
    return false;
}

/* All that is required has to be a property. */
static sl_status check_parameters(const sl__schema_place *at, sl_error *err)
{
    sl__schema_words w;
    size_t i;
    const json_t *name;
    SL_TRY(sl__schema_read(at, &w, err));
    for (int k = SL__KEY_ENUM; k < SL__KEYWORDS; k++)
        if (w.found[k])
            return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                                   "the keyword \"%s\" of all parameters is not supported",
                                   sl__schema_keyword((sl__keyword)k));
    if (!(w.types & SL__TYPE_OBJECT))
        return sl__schema_fail(err, SL_EINVAL, at, "parameters are no object");
    const json_t *properties = w.found[SL__KEY_PROPERTIES], *required = w.found[SL__KEY_REQUIRED];
    if ((properties && !json_is_object(properties)) || (required && !json_is_array(required)))
        return sl__schema_fail(err, SL_EINVAL, at, "properties is no object, or required no list");
    json_array_foreach(required, i, name)
    {
        if (!json_is_string(name) || !json_object_get(properties, json_string_value(name)))
            return sl__schema_fail(err, SL_EUNSUPPORTED, at,
                                   "required: \"%.100s\" is not among the properties",
                                   json_is_string(name) ? json_string_value(name) : "?");
    }
    return SL_OK;
}

static sl_status add_strict(sl__schema_compiler *c, const tool *t, uint32_t from, uint32_t to,
                            sl_error *err)
{
    sl__builder *b = &c->builder;
    sl__schema_place at = {t->place, t->parameters, t->parameters, "#", 0}, below;
    const char *key;
    json_t *schema;
    SL_TRY(sl__schema_follow(&c->arena, &at, err));
    SL_TRY(check_parameters(&at, err));
    json_object_foreach(json_object_get(at.json, "properties"), key, schema)
    {
        uint32_t next = sl__state_new(b, sl__state_rule(b, from));
        SL_TRY(check_name(t->place, "parameter", key, err));
        SL_TRY(sl__schema_below(&c->arena, &at, schema, "properties", key, 0, &below, err));
        SL_TRY(add_parameter(c, from, key, &below, next, err));
        if (!is_required(at.json, key)) sl__jump(b, from, next);
        from = next;
    }
    sl__jump(b, from, to);
    return SL_OK;
}

/* Known parameters in any order. */
static sl_status add_loose(sl__schema_compiler *c, const tool *t, uint32_t from, uint32_t to,
                           sl_error *err)
{
    const char *key;
    json_t *schema, *properties = json_object_get(t->parameters, "properties");
    json_object_foreach(properties, key, schema)
    {
        SL_TRY(check_name(t->place, "parameter", key, err));
        SL_TRY(add_parameter(c, from, key, NULL, from, err));
    }
    sl__jump(&c->builder, from, to);
    return SL_OK;
}

static sl_status add_call(sl__schema_compiler *c, const tool *t, uint32_t from, uint32_t end,
                          sl_error *err)
{
    sl__builder *b = &c->builder;
    uint32_t body = sl__state_new(b, sl__state_rule(b, from));
    uint32_t tail = sl__state_new(b, sl__state_rule(b, from));
    sl__jump(b, path_text(b, path_text(b, from, t->name, 0), ">\n", SL__STATE_TAG), body);
    if (t->parameters)
        SL_TRY((t->strict ? add_strict : add_loose)(c, t, body, tail, err));
    else
        sl__jump(b, body, tail);
    tail = path_text(b, tail, "</function>\n", SL__STATE_TAG);
    sl__jump(b, path_text(b, tail, close_tag, SL__STATE_TAG), end);
    return SL_OK;
}

/* ---- the form of JSON ------------------------------------------------------------------------ */

static sl_status add_json_call(sl__schema_compiler *c, const tool *t, uint32_t from, uint32_t end,
                               sl_error *err)
{
    sl__builder *b = &c->builder;
    uint32_t arguments = sl__rule_object(b);
    char name[NAME_BYTES_MAX + 3];
    snprintf(name, sizeof name, "\"%s\"", t->name);
    if (t->strict && t->parameters) {
        const sl__schema_place at = {t->place, t->parameters, t->parameters, "#", 0};
        SL_TRY(sl__schema_rule(c, &at, &arguments, err));
    }
    const sl__property parts[] = {
        {"\"name\"", 6, sl__rule_literal(b, name, strlen(name)), true},
        {"\"arguments\"", 11, arguments, true},
    };
    uint32_t call = sl__rule_properties(b, parts, 2, SL__NO_RULE);
    uint32_t tail = sl__path_call(b, sl__path_call(b, from, call), sl__rule_space(b));
    sl__jump(b, path_text(b, tail, close_tag, SL__STATE_TAG), end);
    return SL_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* What follows <tool_call>. */
static sl_status call_rule(sl__schema_compiler *c, const tool *tools, size_t count,
                           sl_tool_form form, uint32_t *out, sl_error *err)
{
    sl__builder *b = &c->builder;
    uint32_t rule = sl__rule_new(b), end = sl__state_new(b, rule), from = sl__rule_start(b, rule);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    if (form == SL_TOOL_FORM_JSON)
        from = sl__path_call(b, from, sl__rule_space(b));
    else
        from = path_text(b, from, "\n<function=", SL__STATE_TAG);
    for (size_t i = 0; i < count; i++)
        SL_TRY(
            (form == SL_TOOL_FORM_JSON ? add_json_call : add_call)(c, &tools[i], from, end, err));
    *out = rule;
    return SL_OK;
}

static void add_free(sl__builder *b, uint32_t from, uint32_t rest, uint32_t first, char but)
{
    unsigned low = 0;
    const unsigned char stops[2] = {(unsigned char)(but < '<' ? but : '<'),
                                    (unsigned char)(but < '<' ? '<' : but)};
    for (int i = 0; i < 2; i++) {
        if (stops[i] > low) sl__edge_range(b, from, low, stops[i] - 1u, rest);
        low = stops[i] + 1u;
    }
    sl__edge_range(b, from, low, 0xff, rest);
    sl__edge_byte(b, from, '<', first);
}

/* Free text until the tag, then a call, and so on. */
static uint32_t free_rule(sl__builder *b, uint32_t call, bool single)
{
    uint32_t rule = sl__rule_new(b), rest = sl__rule_start(b, rule), end = rest;
    const unsigned flags = SL__STATE_ACCEPT | SL__STATE_TAG | SL__STATE_NEAR;
    uint32_t first = sl__state_new(b, rule), at = first;
    sl__state_mark(b, rest, flags | SL__STATE_REST, SL__TEXT_FREE);
    add_free(b, rest, rest, first, '<');
    for (size_t i = 1; open_tag[i]; i++) {
        uint32_t next = sl__state_new(b, rule);
        sl__state_mark(b, at, flags, SL__TEXT_FREE);
        add_free(b, at, rest, first, open_tag[i]);
        sl__edge_byte(b, at, open_tag[i], next);
        at = next;
    }
    if (single) {
        end = sl__state_new(b, rule);
        sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    }
    sl__call(b, at, call, end);
    return rule;
}

/* One call, or several, and nothing else. */
static uint32_t required_rule(sl__builder *b, uint32_t call, bool single)
{
    uint32_t rule = sl__rule_new(b), end = sl__state_new(b, rule);
    uint32_t tag = sl__path_call(b, sl__rule_start(b, rule), sl__rule_space(b));
    sl__call(b, path_text(b, tag, open_tag, SL__STATE_TAG), call, end);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    if (!single) sl__call(b, end, sl__rule_space(b), tag);
    return rule;
}

/* Calls, or JSON by a rule. */
static uint32_t either_rule(sl__builder *b, uint32_t calls, uint32_t answer)
{
    uint32_t rule = sl__rule_new(b), end = sl__state_new(b, rule), start = sl__rule_start(b, rule);
    sl__state_mark(b, end, SL__STATE_ACCEPT, 0);
    sl__call(b, start, calls, end);
    sl__call(b, sl__path_call(b, start, sl__rule_space(b)), answer, end);
    return rule;
}

/* schema NULL: calls, and free text unless they are required. */
static sl_status compile_tools(sl__schema_compiler *c, json_t *list, tool *tools, json_t *schema,
                               const sl_tool_options *opt, sl_grammar **out, sl_error *err)
{
    size_t count = json_array_size(list);
    uint32_t call, answer = SL__NO_RULE;
    for (size_t i = 0; i < count; i++)
        SL_TRY(read_tool(&tools[i], json_array_get(list, i), i, opt->strict, err));
    c->builder.guarded = opt->form == SL_TOOL_FORM_PARAMETERS;
    SL_TRY(call_rule(c, tools, count, opt->form, &call, err));
    const sl__schema_place at = {"json_schema", schema, schema, "#", 0};
    if (schema) SL_TRY(sl__schema_rule(c, &at, &answer, err));
    SL_TRY(sl__schema_run(c, err));
    uint32_t root = opt->required || schema ? required_rule(&c->builder, call, opt->single)
                                            : free_rule(&c->builder, call, opt->single);
    if (schema) root = either_rule(&c->builder, root, answer);
    return sl__builder_finish(&c->builder, root, "tools", out, err);
}

static sl_status parse(json_t **out, const char *text, size_t size, const char *name, sl_error *err)
{
    if (size <= SL__SCHEMA_BYTES_MAX) return sl__json_parse(text, size, name, out, err);
    return SL_FAIL(err, SL_EINVAL, "%s: %zu bytes (at most %zu)", name, size, SL__SCHEMA_BYTES_MAX);
}

sl_status sl_grammar_tool_calls(sl_grammar **out, const char *tools, size_t size,
                                const sl_tool_options *opt, sl_error *err)
{
    json_t *list, *schema = NULL;
    *out = NULL;
    if (opt->form != SL_TOOL_FORM_PARAMETERS && opt->form != SL_TOOL_FORM_JSON)
        return SL_FAIL(err, SL_EINVAL, "tools: there is no form %d", (int)opt->form);
    SL_TRY(parse(&list, tools, size, "tools", err));
    size_t count = json_array_size(list);
    sl_status status = SL_OK;
    if (count == 0 || count > TOOLS_MAX)
        status = SL_FAIL(err, SL_EINVAL, "tools: no list of 1 to %u tools", TOOLS_MAX);
    if (status == SL_OK && opt->answer)
        status = parse(&schema, opt->answer, opt->answer_size, "json_schema", err);
    tool *read = calloc(count ? count : 1, sizeof *read);
    if (!read && status == SL_OK) status = SL_FAIL_NOMEM(err, "tools");
    if (status == SL_OK) {
        sl__schema_compiler c;
        sl__schema_init(&c);
        status = compile_tools(&c, list, read, schema, opt, out, err);
        sl__schema_free(&c);
    }
    free(read);
    json_decref(list);
    json_decref(schema);
    return status;
}
