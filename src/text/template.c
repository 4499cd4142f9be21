/* The chat template of a model: found beside its weights, compiled, rendered.
 *
 *     chat_template.jinja                        the template; packs carry it too
 *     additional_chat_templates/tool_use.jinja   takes its place where there are tools
 *     tokenizer_config.json: "chat_template"     a string, or a list of {name, template}
 *                            "bos_token", …      what templates may name; a string, or {content}
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "text/guard.h"
#include "text/jinja.h"
#include "text/template.h"

#define CONFIG_MAX ((uint64_t)64 << 20)

struct sl_template {
    sl__jinja *plain;
    sl__jinja *tools; /* for conversations with tools; NULL: plain does for both */
    json_t *tokens;   /* variables where the caller gives none; NULL: none */
};

sl_status sl_template_parse(sl_template **out, const char *text, size_t size, const char *name,
                            sl_error *err)
{
    *out = NULL;
    sl_template *tmpl = calloc(1, sizeof *tmpl);
    if (!tmpl) return SL_FAIL_NOMEM(err, "template");
    sl_status status = sl__jinja_parse(&tmpl->plain, text, size, name ? name : "template", err);
    if (status == SL_OK)
        *out = tmpl;
    else
        sl_template_close(tmpl);
    return status;
}

sl_status sl__template_add_tools(sl_template *tmpl, const char *text, size_t size, const char *name,
                                 sl_error *err)
{
    return sl__jinja_parse(&tmpl->tools, text, size, name, err);
}

void sl_template_close(sl_template *tmpl)
{
    if (!tmpl) return;
    sl__jinja_free(tmpl->plain);
    sl__jinja_free(tmpl->tools);
    json_decref(tmpl->tokens);
    free(tmpl);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

/* Adds the tokens of a tokenizer_config.json to an object, as texts. */
static sl_status copy_tokens(json_t *to, const json_t *config, sl_error *err)
{
    static const char *const names[] = {"bos_token", "eos_token", "unk_token", "pad_token"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *value = json_object_get(config, names[i]);
        if (json_is_object(value)) value = json_object_get(value, "content");
        if (!json_is_string(value)) continue;
        if (json_object_set(to, names[i], value) != 0) return SL_FAIL_NOMEM(err, names[i]);
    }
    return SL_OK;
}

sl_status sl__template_add_tokens(sl_template *tmpl, const json_t *config, sl_error *err)
{
    if (!tmpl->tokens) tmpl->tokens = json_object();
    return tmpl->tokens ? copy_tokens(tmpl->tokens, config, err) : SL_FAIL_NOMEM(err, "tokens");
}

/* ---- finding --------------------------------------------------------------------------------- */

static sl_status parse_file(sl__jinja **out, const char *path, sl_error *err)
{
    char *text;
    size_t size;
    SL_TRY(sl__file_read(path, SL_JINJA_TEXT_MAX, &text, &size, err));
    sl_status status = sl__jinja_parse(out, text, size, path, err);
    free(text);
    return status;
}

static sl_status parse_text(sl__jinja **out, const json_t *text, const char *path, sl_error *err)
{
    if (!json_is_string(text))
        return SL_FAIL(err, SL_EFORMAT, "%s: chat_template: expected a string", path);
    return sl__jinja_parse(out, json_string_value(text), json_string_length(text), path, err);
}

/* A list of templates with names: "default", and "tool_use" where it is there. */
static sl_status parse_named(sl_template *tmpl, const json_t *list, const char *path, sl_error *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *name;
        SL_TRY(sl__json_str(entry, "name", path, &name, err));
        sl__jinja **slot = strcmp(name, "default") == 0    ? &tmpl->plain
                           : strcmp(name, "tool_use") == 0 ? &tmpl->tools
                                                           : NULL;
        if (slot && *slot)
            return SL_FAIL(err, SL_EFORMAT, "%s: chat_template: two are named %s", path, name);
        if (slot) SL_TRY(parse_text(slot, json_object_get(entry, "template"), path, err));
    }
    if (!tmpl->plain)
        return SL_FAIL(err, SL_EFORMAT, "%s: chat_template: none is named default", path);
    return SL_OK;
}

/* From what a tokenizer_config.json holds, or a description of its form. */
static sl_status parse_root(sl_template *tmpl, const json_t *root, const char *path, sl_error *err)
{
    const json_t *value = json_object_get(root, "chat_template");
    sl_status status = sl__template_add_tokens(tmpl, root, err);
    if (status != SL_OK) return status;
    if (!value || json_is_null(value))
        status = SL_FAIL(err, SL_EIO,
                         "%s: chat_template is missing: this model has no chat "
                         "template",
                         path);
    else if (json_is_array(value))
        status = parse_named(tmpl, value, path, err);
    else
        status = parse_text(&tmpl->plain, value, path, err);
    return status;
}

static sl_status parse_config(sl_template *tmpl, const char *path, sl_error *err)
{
    json_t *root;
    SL_TRY(sl__json_load(path, CONFIG_MAX, &root, err));
    sl_status status = parse_root(tmpl, root, path, err);
    json_decref(root);
    return status;
}

/* ---- a folder -------------------------------------------------------------------------------- */

/* A file's text; NULL where there is no such file. */
static sl_status read_text(json_t **out, const char *dir, const char *name, sl_error *err)
{
    char path[SL_PATH_MAX], *text;
    size_t size;
    *out = NULL;
    SL_TRY(sl__path_join(path, sizeof path, dir, name, err));
    if (!sl__file_exists(path)) return SL_OK;
    SL_TRY(sl__file_read(path, SL_JINJA_TEXT_MAX, &text, &size, err));
    *out = json_stringn(text, size);
    free(text);
    return *out ? SL_OK : SL_FAIL(err, SL_EFORMAT, "%s: is not UTF-8", path);
}

/* The template of that name in a list; NULL where there is none. Borrowed. */
static json_t *named(const json_t *list, const char *name)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *entry = json_array_get(list, i);
        const char *known = json_string_value(json_object_get(entry, "name"));
        if (known && strcmp(known, name) == 0) return json_object_get(entry, "template");
    }
    return NULL;
}

/* A file of a template goes before that of the configuration; one for tools may be in either. */
static sl_status add_files(json_t *to, const json_t *config, json_t *plain, json_t *tools,
                           sl_error *err)
{
    json_t *value = json_object_get(config, "chat_template"), *made;
    if (!tools && plain) tools = named(value, "tool_use");
    if (plain && tools) {
        made = json_pack("[{s:s, s:O}, {s:s, s:O}]", "name", "default", "template", plain, "name",
                         "tool_use", "template", tools);
    } else {
        made = json_incref(plain ? plain : value);
    }
    bool none = !plain && !value;
    bool added = none || json_object_set_new(to, "chat_template", made) == 0;
    return added ? SL_OK : SL_FAIL_NOMEM(err, "chat_template");
}

static sl_status describe(json_t *to, const char *dir, const json_t *config, sl_error *err)
{
    json_t *plain, *tools = NULL;
    SL_TRY(copy_tokens(to, config, err));
    SL_TRY(read_text(&plain, dir, "chat_template.jinja", err));
    sl_status status = SL_OK;
    if (plain) status = read_text(&tools, dir, "additional_chat_templates/tool_use.jinja", err);
    if (status == SL_OK) status = add_files(to, config, plain, tools, err);
    json_decref(plain);
    json_decref(tools);
    return status;
}

sl_status sl__template_describe(json_t **out, const char *dir, sl_error *err)
{
    char path[SL_PATH_MAX];
    json_t *config = NULL;
    *out = NULL;
    SL_TRY(sl__path_join(path, sizeof path, dir, "tokenizer_config.json", err));
    if (sl__file_exists(path)) SL_TRY(sl__json_load(path, CONFIG_MAX, &config, err));
    json_t *to = json_object();
    sl_status status = to ? describe(to, dir, config, err) : SL_FAIL_NOMEM(err, "template");
    json_decref(config);
    if (status == SL_OK)
        *out = to;
    else
        json_decref(to);
    return status;
}

static sl_status open_folder(sl_template *tmpl, const char *dir, sl_error *err)
{
    char file[SL_PATH_MAX];
    json_t *root;
    SL_TRY(sl__path_join(file, sizeof file, dir, "chat_template.jinja", err));
    if (!sl__file_exists(file)) {
        SL_TRY(sl__path_join(file, sizeof file, dir, "tokenizer_config.json", err));
        if (!sl__file_exists(file)) {
            return SL_FAIL(err, SL_EIO,
                           "%s: no chat template here: expected chat_template.jinja or "
                           "tokenizer_config.json",
                           dir);
        }
    }
    SL_TRY(sl__template_describe(&root, dir, err));
    sl_status status = parse_root(tmpl, root, file, err);
    json_decref(root);
    return status;
}

static bool has_ending(const char *path, const char *ending)
{
    size_t size = strlen(path), tail = strlen(ending);
    return size > tail && strcmp(path + size - tail, ending) == 0;
}

static sl_status open_path(sl_template *tmpl, const char *path, sl_error *err)
{
    char dir[SL_PATH_MAX];
    if (has_ending(path, ".safetensors")) { /* a model named by its one file of weights */
        sl__path_parent(dir, path);
        path = dir;
    }
    if (!sl__file_is_dir(path))
        return has_ending(path, ".json") ? parse_config(tmpl, path, err)
                                         : parse_file(&tmpl->plain, path, err);
    return open_folder(tmpl, path, err);
}

sl_status sl__template_open_files(sl_template **out, const char *path, sl_error *err)
{
    *out = NULL;
    sl_template *tmpl = calloc(1, sizeof *tmpl);
    if (!tmpl) return SL_FAIL_NOMEM(err, "template");
    sl_status status = open_path(tmpl, path, err);
    if (status == SL_OK)
        *out = tmpl;
    else
        sl_template_close(tmpl);
    return status;
}

/* ---- rendering ------------------------------------------------------------------------------- */

static bool has_tools(const json_t *vars)
{
    const json_t *tools = json_object_get(vars, "tools");
    return tools && !json_is_null(tools);
}

static sl_status render(const sl_template *tmpl, json_t *vars, sl__buffer *out, sl_error *err)
{
    sl__buffer_init(out, SIZE_MAX / 2);
    if (json_is_object(vars) && tmpl->tokens &&
        json_object_update_missing(vars, tmpl->tokens) != 0) {
        return SL_FAIL_NOMEM(err, "variables");
    }
    const sl__jinja *use = tmpl->tools && has_tools(vars) ? tmpl->tools : tmpl->plain;
    return sl__jinja_render(use, vars, NULL, out, err);
}

sl_status sl_template_render(const sl_template *tmpl, const char *json, size_t json_size,
                             char **text, size_t *size, sl_error *err)
{
    json_t *vars;
    sl__buffer out;
    *text = NULL;
    *size = 0;
    SL_TRY(sl__json_parse(json, json_size, "variables", &vars, err));
    sl_status status = render(tmpl, vars, &out, err);
    json_decref(vars);
    if (status == SL_OK && !sl__buffer_reserve(&out, 0)) status = SL_FAIL_NOMEM(err, "text");
    if (status != SL_OK) {
        sl__buffer_free(&out);
        return status;
    }
    *text = out.data;
    *size = out.size;
    return SL_OK;
}

/* Whether the text leaves the model inside of its reasoning. */
static bool ends_thinking(const char *text, size_t size)
{
    static const char tag[] = "<think>";
    const size_t n = sizeof tag - 1;
    while (size > 0 && strchr(" \n\r\t", text[size - 1]))
        size--;
    return size >= n && memcmp(text + size - n, tag, n) == 0;
}

sl_status sl_template_prompt(const sl_template *tmpl, const sl_tokenizer *tok, const char *json,
                             size_t json_size, sl_prompt *prompt, sl_error *err)
{
    json_t *vars, *guarded;
    sl__buffer out;
    *prompt = (sl_prompt){0};
    SL_TRY(sl__json_parse(json, json_size, "variables", &vars, err));
    sl_status status = sl__guard_json(tok, vars, &guarded, err);
    json_decref(vars);
    if (status != SL_OK) return status;
    status = render(tmpl, guarded, &out, err);
    json_decref(guarded);
    if (status == SL_OK) {
        prompt->thinking = ends_thinking(out.data, out.size);
        status = sl__tokenizer_encode_guarded(tok, out.data, out.size, &prompt->ids, &prompt->count,
                                              err);
    }
    sl__buffer_free(&out);
    return status;
}
