/* From a request to the tokens of a prompt. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "server/api.h"

/* The variables that the template sees. New reference; NULL: no memory. */
static json_t *variables(const api_request *r, bool answer)
{
    json_t *vars = r->kwargs ? json_copy(r->kwargs) : json_object();
    if (!vars) return NULL;
    bool made = json_object_set(vars, "messages", r->messages) == 0 &&
                json_object_set_new(vars, "add_generation_prompt", json_boolean(answer)) == 0;
    if (made && r->tools) made = json_object_set(vars, "tools", r->tools) == 0;
    if (made) return vars;
    json_decref(vars);
    return NULL;
}

static sl_status render(const api_model *model, const api_request *r, bool answer,
                        sl_prompt *prompt, sl_error *err)
{
    json_t *vars = variables(r, answer);
    char *json = vars ? json_dumps(vars, JSON_COMPACT) : NULL;
    json_decref(vars);
    if (!json) return SL_FAIL_NOMEM(err, "messages");
    sl_status status = sl_template_prompt(model->tmpl, model->tok, json, strlen(json), prompt, err);
    free(json);
    return status;
}

/* ---- arguments of calls ---------------------------------------------------------------------- */

/* The arguments of a call as text, or as an object: an empty one where the text is of none. New
 * reference; NULL: no memory. */
static json_t *arguments_as(json_t *arguments, bool text)
{
    if (json_is_string(arguments) == text) return json_incref(arguments);
    if (!text) {
        json_t *object = json_loadb(json_string_value(arguments), json_string_length(arguments),
                                    JSON_ALLOW_NUL, NULL);
        if (json_is_object(object)) return object;
        json_decref(object);
        return json_object();
    }
    char *dump = json_dumps(arguments, 0);
    json_t *value = dump ? json_string(dump) : NULL;
    free(dump);
    return value;
}

/* Of all calls; *count: how many there are. */
static sl_status set_arguments(const json_t *messages, bool text, size_t *count, sl_error *err)
{
    *count = 0;
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *calls = json_object_get(json_array_get(messages, i), "tool_calls");
        for (size_t k = 0; k < json_array_size(calls); k++) {
            json_t *function = json_object_get(json_array_get(calls, k), "function");
            json_t *value = arguments_as(json_object_get(function, "arguments"), text);
            if (json_object_set_new(function, "arguments", value) != 0) {
                return SL_FAIL_NOMEM(err, "messages");
            }
            ++*count;
        }
    }
    return SL_OK;
}

/* Most templates take the arguments of a call as an object, some as its text, and what is no object
 * fails in the middle of many. A conversation that has such a call in it can go on all the same. */
static sl_status render_prompt(const api_model *model, const api_request *r, sl_prompt *prompt,
                               sl_error *err)
{
    static const bool as_text[] = {true, false};
    sl_status status = render(model, r, true, prompt, err);
    for (size_t i = 0; status != SL_OK && i < sizeof as_text / sizeof as_text[0]; i++) {
        size_t count;
        sl_error ignored = {0};
        if (set_arguments(r->messages, as_text[i], &count, &ignored) != SL_OK || count == 0) break;
        if (render(model, r, true, prompt, &ignored) == SL_OK) return SL_OK;
    }
    return status;
}

/* Where the conversation ends and the answer's own opening begins: what a next turn begins with,
 * too. A template that does not render without it has no such place. */
static sl_status find_turn(const api_model *model, const api_request *r, job *j, sl_error *err)
{
    size_t same = 0;
    sl_prompt shorter;
    sl_error ignored = {0};
    if (render(model, r, false, &shorter, &ignored) != SL_OK) return SL_OK;
    while (same < shorter.count && same < j->count && shorter.ids[same] == j->ids[same])
        same++;
    free(shorter.ids);
    j->turns = malloc(sizeof *j->turns);
    if (!j->turns) return SL_FAIL_NOMEM(err, "prompt");
    j->turns[0] = same;
    j->turn_count = same > 0;
    return SL_OK;
}

static sl_status prepare_chat(const api_model *model, api_request *r, job *j, sl_error *err)
{
    sl_prompt prompt;
    if (!model->tmpl) return SL_FAIL(err, SL_EINVAL, "this model has no chat template");
    SL_TRY(render_prompt(model, r, &prompt, err));
    r->options.thinking = prompt.thinking;
    j->ids = prompt.ids;
    j->count = prompt.count;
    return find_turn(model, r, j, err);
}

static sl_status take_ids(const api_model *model, const json_t *list, job *j, sl_error *err)
{
    j->count = json_array_size(list);
    j->ids = malloc((j->count + 1) * sizeof *j->ids);
    if (!j->ids) return SL_FAIL_NOMEM(err, "prompt");
    for (size_t i = 0; i < j->count; i++) {
        const json_t *id = json_array_get(list, i);
        json_int_t value = json_integer_value(id);
        if (!json_is_integer(id) || value < 0 || value >= (json_int_t)model->vocab_size) {
            return SL_FAIL(err, SL_EINVAL, "prompt[%zu]: expected the id of a token, 0 to %u", i,
                           model->vocab_size - 1);
        }
        j->ids[i] = (int32_t)value;
    }
    return SL_OK;
}

sl_status api_prompt(const api_model *model, api_request *r, job *j, sl_error *err)
{
    if (r->messages) return prepare_chat(model, r, j, err);
    if (json_is_array(r->prompt)) return take_ids(model, r->prompt, j, err);
    return sl_tokenizer_encode(model->tok, json_string_value(r->prompt),
                               json_string_length(r->prompt), SL_ENCODE_ADDED | SL_ENCODE_BOS,
                               &j->ids, &j->count, err);
}

sl_status api_prepare(const api_model *model, api_request *r, job *j, sl_error *err)
{
    SL_TRY(api_prompt(model, r, j, err));
    if (j->count == 0) return SL_FAIL(err, SL_EINVAL, "prompt: it has no tokens");
    r->too_long = j->count >= model->context_tokens;
    if (r->too_long) { /* the words that clients of either API look for */
        return SL_FAIL(err, SL_EINVAL,
                       "prompt is too long: %zu tokens > %u maximum (this model's maximum context "
                       "length is %u tokens, the answer among them)",
                       j->count, model->context_tokens - 1, model->context_tokens);
    }
    j->stops = r->stops;
    r->stops = NULL;
    j->options = r->options;
    j->options.stops = (const char *const *)j->stops;
    j->options.end_ids = model->defaults.eos_ids;
    j->options.end_count = model->defaults.eos_count;
    if (j->options.max_tokens == 0) j->options.max_tokens = model->max_tokens;
    if (j->options.chat) { /* who has no tools is not told of calls: they are text */
        j->tools = r->tools ? json_dumps(r->tools, JSON_COMPACT) : strdup("[]");
        if (!j->tools) return SL_FAIL_NOMEM(err, "tools");
        j->options.tools = j->tools;
        j->options.tools_size = strlen(j->tools);
    }
    return api_grammar(model, r, j, err);
}
