/* What a request says of the form of its answer, as the grammar that holds it. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "server/api.h"

static sl_status need_words(const api_model *model, const char *what, sl_error *err)
{
    if (model->words) return SL_OK;
    return SL_FAIL(err, SL_EINVAL,
                   "%s: this model's tokenizer is of a kind that cannot be held to "
                   "a form",
                   what);
}

/* The schema of a JSON answer; without one, any object. Owned by the caller; NULL: no memory. */
static char *schema_of(const api_request *r)
{
    return r->schema ? json_dumps(r->schema, JSON_COMPACT | JSON_ENCODE_ANY)
                     : strdup("{\"type\":\"object\"}");
}

static sl_status json_grammar(const api_model *model, const api_request *r, job *j, sl_error *err)
{
    SL_TRY(need_words(model, "response_format", err));
    j->options.whole = true;
    if (!r->schema) return sl_grammar_json(&j->grammar, err);
    char *text = schema_of(r);
    if (!text) return SL_FAIL_NOMEM(err, "schema");
    sl_status status = sl_grammar_json_schema(&j->grammar, text, strlen(text), err);
    free(text);
    return status;
}

static const char *name_of(const json_t *tool)
{
    return json_string_value(json_object_get(json_object_get(tool, "function"), "name"));
}

/* The tools that may be called: all, or the one that was asked for. New reference. */
static sl_status callable(const api_request *r, json_t **out, sl_error *err)
{
    if (!r->call_name) {
        *out = json_incref(r->tools);
        return SL_OK;
    }
    for (size_t i = 0; i < json_array_size(r->tools); i++) {
        json_t *tool = json_array_get(r->tools, i);
        const char *name = name_of(tool);
        if (!name || strcmp(name, r->call_name) != 0) continue;
        *out = json_pack("[O]", tool);
        return *out ? SL_OK : SL_FAIL_NOMEM(err, "tools");
    }
    return SL_FAIL(err, SL_EINVAL, "tool_choice: no tool is named %.100s", r->call_name);
}

static bool some_are_strict(const json_t *tools)
{
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *function = json_object_get(json_array_get(tools, i), "function");
        if (json_is_true(json_object_get(function, "strict"))) return true;
    }
    return false;
}

/* Calls; where the answer must be JSON and need not be a call, calls or that. */
static sl_status call_grammar(const api_model *model, const api_request *r, job *j, sl_error *err)
{
    json_t *tools;
    bool json = r->json && !r->must_call;
    SL_TRY(need_words(model, json ? "response_format" : "tool_choice", err));
    SL_TRY(callable(r, &tools, err));
    char *text = json_dumps(tools, JSON_COMPACT), *answer = json ? schema_of(r) : NULL;
    json_decref(tools);
    sl_tool_options opt = {
        .form = model->tool_form, .required = r->must_call, .single = r->one_call};
    opt.answer = answer;
    opt.answer_size = answer ? strlen(answer) : 0;
    sl_status status = SL_OK;
    if (!text || (json && !answer)) status = SL_FAIL_NOMEM(err, "tools");
    if (status == SL_OK)
        status = sl_grammar_tool_calls(&j->grammar, text, strlen(text), &opt, err);
    free(text);
    free(answer);
    return status;
}

sl_status api_grammar(const api_model *model, const api_request *r, job *j, sl_error *err)
{
    if (r->must_call && !r->tools) {
        return SL_FAIL(err, SL_EINVAL, "tool_choice: there are no tools to choose from");
    }
    if (r->json && !r->tools) {
        SL_TRY(json_grammar(model, r, j, err));
    } else if (r->json || r->must_call || some_are_strict(r->tools)) {
        SL_TRY(call_grammar(model, r, j, err));
    }
    j->options.grammar = j->grammar;
    j->options.vocabulary = model->words;
    return SL_OK;
}

/* The form in which this model's template asks for calls. */
sl_tool_form api_tool_form(const sl_template *tmpl)
{
    static const char example[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"?\"}],\"add_generation_prompt\":true,"
        "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"\","
        "\"parameters\":{\"type\":\"object\",\"properties\":{}}}}]}";
    sl_error ignored = {0};
    char *text;
    size_t size;
    sl_tool_form form = SL_TOOL_FORM_JSON;
    if (!tmpl) return form;
    if (sl_template_render(tmpl, example, sizeof example - 1, &text, &size, &ignored) != SL_OK) {
        return form;
    }
    if (strstr(text, "<function=")) form = SL_TOOL_FORM_PARAMETERS;
    free(text);
    return form;
}
