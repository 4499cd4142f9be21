/* The chat template of a model: found beside its weights, compiled, rendered.
 *
 *     chat_template.jinja                        the template; packs carry it too
 *     additional_chat_templates/tool_use.jinja   takes its place where there are tools
 *     tokenizer_config.json: "chat_template"     a string, or a list of {name, template}
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "text/jinja.h"
#include "text/template.h"

#define CONFIG_MAX ((uint64_t)64 << 20)

struct sl_template {
    sl__jinja *plain;
    sl__jinja *tools; /* for conversations with tools; NULL: plain does for both */
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

sl_status sl__template_add_tools(sl_template *tmpl, const char *text, size_t size,
                                 const char *name, sl_error *err)
{
    return sl__jinja_parse(&tmpl->tools, text, size, name, err);
}

void sl_template_close(sl_template *tmpl)
{
    if (!tmpl) return;
    sl__jinja_free(tmpl->plain);
    sl__jinja_free(tmpl->tools);
    free(tmpl);
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

static sl_status parse_folder(sl_template *tmpl, const char *dir, const char *file, sl_error *err)
{
    char more[SL_PATH_MAX];
    SL_TRY(parse_file(&tmpl->plain, file, err));
    SL_TRY(sl__path_join(more, sizeof more, dir, "additional_chat_templates/tool_use.jinja", err));
    return sl__file_exists(more) ? parse_file(&tmpl->tools, more, err) : SL_OK;
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

static sl_status parse_config(sl_template *tmpl, const char *path, sl_error *err)
{
    json_t *root;
    SL_TRY(sl__json_load(path, CONFIG_MAX, &root, err));
    const json_t *value = json_object_get(root, "chat_template");
    sl_status status;
    if (!value || json_is_null(value))
        status = SL_FAIL(err, SL_EIO,
                         "%s: chat_template is missing: this model has no chat "
                         "template",
                         path);
    else if (json_is_array(value))
        status = parse_named(tmpl, value, path, err);
    else
        status = parse_text(&tmpl->plain, value, path, err);
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
    char dir[SL_PATH_MAX], file[SL_PATH_MAX];
    if (has_ending(path, ".safetensors")) { /* a model named by its one file of weights */
        sl__path_parent(dir, path);
        path = dir;
    }
    if (!sl__file_is_dir(path))
        return has_ending(path, ".json") ? parse_config(tmpl, path, err)
                                         : parse_file(&tmpl->plain, path, err);
    SL_TRY(sl__path_join(file, sizeof file, path, "chat_template.jinja", err));
    if (sl__file_exists(file)) return parse_folder(tmpl, path, file, err);
    SL_TRY(sl__path_join(file, sizeof file, path, "tokenizer_config.json", err));
    if (sl__file_exists(file)) return parse_config(tmpl, file, err);
    return SL_FAIL(err, SL_EIO,
                   "%s: no chat template here: expected chat_template.jinja or "
                   "tokenizer_config.json",
                   path);
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

sl_status sl_template_render(const sl_template *tmpl, const char *json, size_t json_size,
                             char **text, size_t *size, sl_error *err)
{
    json_t *vars;
    sl__buffer out;
    *text = NULL;
    *size = 0;
    SL_TRY(sl__json_parse(json, json_size, "variables", &vars, err));
    sl__buffer_init(&out, SIZE_MAX / 2);
    const sl__jinja *use = tmpl->tools && has_tools(vars) ? tmpl->tools : tmpl->plain;
    sl_status status = sl__jinja_render(use, vars, NULL, &out, err);
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
