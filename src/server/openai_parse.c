/* OpenAI's requests: /v1/chat/completions and /v1/completions. Members that are not known are not
 * looked at; those that are known and cannot be done are errors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "server/api.h"

#define MESSAGES_MAX 100000u

/* ---- messages -------------------------------------------------------------------------------- */

/* Arguments come as the text of a JSON object, and templates want the object. No text is none; what
 * a model wrote wrongly stays as it is. New reference; NULL: no memory. */
static json_t *arguments_of(json_t *given)
{
    static const char blank[] = " \t\r\n";
    if (!given || json_is_null(given)) return json_object();
    if (json_is_object(given)) return json_incref(given);
    const char *text = json_string_value(given);
    const size_t size = json_string_length(given);
    if (strspn(text, blank) == size) return json_object();
    json_t *read = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (json_is_object(read)) return read;
    bool none = json_is_null(read);
    json_decref(read);
    return none ? json_object() : json_incref(given);
}

/* {"id", "type", "function": {"name", "arguments"}} */
static sl_status parse_call(const json_t *call, const char *where, json_t **out, sl_error *err)
{
    const json_t *function = json_object_get(call, "function");
    const json_t *name = json_object_get(function, "name");
    json_t *given = api_member(function, "arguments");
    const json_t *id = api_member(call, "id");
    if (!json_is_string(name)) {
        return SL_FAIL(err, SL_EINVAL, "%s.function.name: expected a string", where);
    }
    if (id && !json_is_string(id)) {
        return SL_FAIL(err, SL_EINVAL, "%s.id: expected a string", where);
    }
    if (given && !json_is_string(given) && !json_is_object(given)) {
        return SL_FAIL(err, SL_EINVAL, "%s.function.arguments: expected a string", where);
    }
    *out = json_pack("{s:s, s:s, s:{s:O, s:o}}", "id", id ? json_string_value(id) : "", "type",
                     "function", "function", "name", name, "arguments", arguments_of(given));
    return *out ? SL_OK : SL_FAIL_NOMEM(err, where);
}

static sl_status parse_calls(const json_t *calls, const char *where, json_t *message, sl_error *err)
{
    json_t *list = json_array();
    if (!json_is_array(calls)) {
        json_decref(list);
        return SL_FAIL(err, SL_EINVAL, "%s.tool_calls: expected an array", where);
    }
    if (!list || json_object_set_new(message, "tool_calls", list) != 0) {
        return SL_FAIL_NOMEM(err, where);
    }
    for (size_t i = 0; i < json_array_size(calls); i++) {
        char at[96];
        json_t *call = NULL;
        snprintf(at, sizeof at, "%s.tool_calls[%zu]", where, i);
        SL_TRY(parse_call(json_array_get(calls, i), at, &call, err));
        if (json_array_append_new(list, call) != 0) return SL_FAIL_NOMEM(err, where);
    }
    return SL_OK;
}

static const char *known_role(const char *role)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool", "function"};
    if (strcmp(role, "developer") == 0) return "system";
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) {
        if (strcmp(role, roles[i]) == 0) return strcmp(role, "function") == 0 ? "tool" : roles[i];
    }
    return NULL;
}

/* Members that templates may look at. */
static sl_status copy_members(const json_t *from, json_t *to, const char *where, sl_error *err)
{
    static const char *const keys[] = {"name", "tool_call_id", "reasoning_content"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = api_member(from, keys[i]);
        if (value && !json_is_string(value))
            return SL_FAIL(err, SL_EINVAL, "%s.%s: expected a string", where, keys[i]);
        if (value && json_object_set(to, keys[i], value) != 0) return SL_FAIL_NOMEM(err, where);
    }
    return SL_OK;
}

static sl_status parse_message(const json_t *given, size_t index, json_t *message, sl_error *err)
{
    char where[48], content[64];
    snprintf(where, sizeof where, "messages[%zu]", index);
    snprintf(content, sizeof content, "messages[%zu].content", index);
    const char *role = json_string_value(json_object_get(given, "role"));
    const char *known = role ? known_role(role) : NULL;
    json_t *text;
    if (!json_is_object(given)) return SL_FAIL(err, SL_EINVAL, "%s: expected an object", where);
    if (!known) {
        return SL_FAIL(err, SL_EINVAL,
                       "%s.role: expected system, developer, user, assistant or "
                       "tool",
                       where);
    }
    SL_TRY(api_text(json_object_get(given, "content"), content, &text, err));
    if (json_object_set_new(message, "content", text) != 0 ||
        json_object_set_new(message, "role", json_string(known)) != 0) {
        return SL_FAIL_NOMEM(err, where);
    }
    SL_TRY(copy_members(given, message, where, err));
    const json_t *calls = api_member(given, "tool_calls");
    bool none = !calls || (json_is_array(calls) && json_array_size(calls) == 0);
    return none ? SL_OK : parse_calls(calls, where, message, err);
}

static sl_status parse_messages(const json_t *body, api_request *r, sl_error *err)
{
    const json_t *given = json_object_get(body, "messages");
    size_t count = json_array_size(given);
    if (!json_is_array(given) || count == 0 || count > MESSAGES_MAX) {
        return SL_FAIL(err, SL_EINVAL, "messages: expected an array of 1 to %u messages",
                       MESSAGES_MAX);
    }
    r->messages = json_array();
    if (!r->messages) return SL_FAIL_NOMEM(err, "messages");
    for (size_t i = 0; i < count; i++) {
        json_t *message = json_object();
        if (json_array_append_new(r->messages, message) != 0) return SL_FAIL_NOMEM(err, "messages");
        SL_TRY(parse_message(json_array_get(given, i), i, message, err));
    }
    return SL_OK;
}

/* ---- tools ----------------------------------------------------------------------------------- */

static sl_status check_tools(const json_t *tools, sl_error *err)
{
    if (!json_is_array(tools)) return SL_FAIL(err, SL_EINVAL, "tools: expected an array");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i), *type = json_object_get(tool, "type");
        const json_t *function = json_object_get(tool, "function");
        if (!json_is_string(type) || strcmp(json_string_value(type), "function") != 0) {
            return SL_FAIL(err, SL_EINVAL, "tools[%zu].type: expected \"function\"", i);
        }
        if (!json_is_string(json_object_get(function, "name"))) {
            return SL_FAIL(err, SL_EINVAL, "tools[%zu].function.name: expected a string", i);
        }
    }
    return SL_OK;
}

/* "none", "auto", "required", or {"type": "function", "function": {"name": …}}. */
static sl_status parse_choice(const json_t *body, api_request *r, bool *none, sl_error *err)
{
    const json_t *choice = api_member(body, "tool_choice");
    const char *word = json_string_value(choice);
    const char *name =
        json_string_value(json_object_get(json_object_get(choice, "function"), "name"));
    bool parallel = true;
    SL_TRY(api_flag(body, "parallel_tool_calls", &parallel, err));
    r->one_call = !parallel;
    *none = word && strcmp(word, "none") == 0;
    if (!choice || *none || (word && strcmp(word, "auto") == 0)) return SL_OK;
    r->must_call = true;
    if (word && strcmp(word, "required") == 0) return SL_OK;
    if (!name) {
        return SL_FAIL(err, SL_EINVAL,
                       "tool_choice: expected \"none\", \"auto\", \"required\" or "
                       "{\"type\": \"function\", \"function\": {\"name\": …}}");
    }
    r->one_call = true;
    r->call_name = strdup(name);
    return r->call_name ? SL_OK : SL_FAIL_NOMEM(err, "tool_choice");
}

static sl_status parse_tools(const json_t *body, api_request *r, sl_error *err)
{
    json_t *tools = api_member(body, "tools");
    bool none;
    SL_TRY(parse_choice(body, r, &none, err));
    if (!tools) return SL_OK;
    SL_TRY(check_tools(tools, err));
    if (!none && json_array_size(tools) > 0) r->tools = json_incref(tools);
    return SL_OK;
}

/* {"type": "text"}, "json_object", or "json_schema" with {"json_schema": {"schema": …}}. */
static sl_status parse_format(const json_t *body, api_request *r, sl_error *err)
{
    const json_t *format = api_member(body, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (!format || (type && strcmp(type, "text") == 0)) return SL_OK;
    if (!type) return SL_FAIL(err, SL_EINVAL, "response_format.type: expected a string");
    r->json = true;
    if (strcmp(type, "json_object") == 0) return SL_OK;
    if (strcmp(type, "json_schema") != 0) {
        return SL_FAIL(err, SL_EINVAL, "response_format.type: %.40s is not supported", type);
    }
    json_t *schema = json_object_get(json_object_get(format, "json_schema"), "schema");
    if (!schema) {
        return SL_FAIL(err, SL_EINVAL, "response_format.json_schema.schema: expected a schema");
    }
    r->schema = json_incref(schema);
    return SL_OK;
}

/* ---- options --------------------------------------------------------------------------------- */

/* The number of answers, of which there is one. */
static sl_status parse_one(const json_t *body, const char *key, sl_error *err)
{
    const json_t *value = api_member(body, key);
    if (!value || (json_is_integer(value) && json_integer_value(value) == 1)) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%s: only 1 is supported", key);
}

static sl_status parse_common(const api_model *model, const json_t *body, api_request *r,
                              sl_error *err)
{
    static const char *const refused[] = {"logit_bias", NULL};
    uint64_t limit = 0, newer = 0;
    const char *name;
    bool given;
    if (!json_is_object(body)) return SL_FAIL(err, SL_EINVAL, "the body is no JSON object");
    sl_generation_options_default(&r->options);
    r->options.sampler = model->defaults.sampler;
    SL_TRY(api_string(body, "model", &name, err));
    SL_TRY(api_refuse(body, refused, err));
    SL_TRY(parse_format(body, r, err));
    SL_TRY(parse_one(body, "n", err));
    SL_TRY(api_sampling(body, &r->options.sampler, err));
    SL_TRY(api_stops(body, "stop", r, err));
    SL_TRY(api_whole(body, "max_tokens", 1, UINT32_MAX, &limit, NULL, err));
    SL_TRY(api_whole(body, "max_completion_tokens", 1, UINT32_MAX, &newer, &given, err));
    r->options.max_tokens = (uint32_t)(given ? newer : limit);
    SL_TRY(api_flag(body, "stream", &r->stream, err));
    const json_t *options = api_member(body, "stream_options");
    if (options && !json_is_object(options))
        return SL_FAIL(err, SL_EINVAL, "stream_options: expected an object");
    return options ? api_flag(options, "include_usage", &r->usage, err) : SL_OK;
}

/* Variables of the template: those that are given, and what reasoning_effort is called there. */
static sl_status parse_kwargs(const json_t *body, api_request *r, sl_error *err)
{
    json_t *kwargs = api_member(body, "chat_template_kwargs");
    const char *effort = NULL;
    SL_TRY(api_string(body, "reasoning_effort", &effort, err));
    if (kwargs && !json_is_object(kwargs))
        return SL_FAIL(err, SL_EINVAL, "chat_template_kwargs: expected an object");
    r->kwargs = kwargs ? json_copy(kwargs) : NULL;
    if (kwargs && !r->kwargs) return SL_FAIL_NOMEM(err, "chat_template_kwargs");
    if (!effort || json_object_get(kwargs, "reasoning_effort")) return SL_OK;
    SL_TRY(api_kwarg(r, "reasoning_effort", json_string(effort), err));
    bool none = strcmp(effort, "none") == 0 && !json_object_get(kwargs, "enable_thinking");
    return none ? api_kwarg(r, "enable_thinking", json_false(), err) : SL_OK;
}

sl_status openai_chat_parse(const api_model *model, const json_t *body, api_request *r,
                            sl_error *err)
{
    static const char *const refused[] = {"functions", "audio", "web_search_options", NULL};
    uint64_t top = 0;
    SL_TRY(parse_common(model, body, r, err));
    SL_TRY(api_refuse(body, refused, err));
    SL_TRY(parse_messages(body, r, err));
    SL_TRY(parse_tools(body, r, err));
    SL_TRY(api_flag(body, "logprobs", &r->options.logprobs, err));
    SL_TRY(api_whole(body, "top_logprobs", 0, SL_TOP_LOGPROBS_MAX, &top, NULL, err));
    if (top > 0 && !r->options.logprobs) {
        return SL_FAIL(err, SL_EINVAL, "top_logprobs: logprobs is needed with it");
    }
    r->options.top_logprobs = (uint32_t)top;
    r->options.chat = true;
    return parse_kwargs(body, r, err);
}

/* The prompt is text, or ids; one of a list of one. */
static sl_status parse_prompt(const json_t *body, api_request *r, sl_error *err)
{
    json_t *prompt = json_object_get(body, "prompt");
    if (json_is_array(prompt) && json_array_size(prompt) == 1 &&
        !json_is_integer(json_array_get(prompt, 0))) {
        prompt = json_array_get(prompt, 0);
    }
    bool ids = json_is_array(prompt) && json_is_integer(json_array_get(prompt, 0));
    if (!ids && !json_is_string(prompt)) {
        return SL_FAIL(err, SL_EINVAL, "prompt: expected one text, or an array of token ids");
    }
    r->prompt = json_incref(prompt);
    return SL_OK;
}

sl_status openai_completion_parse(const api_model *model, const json_t *body, api_request *r,
                                  sl_error *err)
{
    static const char *const refused[] = {"echo", "suffix", NULL};
    uint64_t top = 0;
    SL_TRY(parse_common(model, body, r, err));
    SL_TRY(api_refuse(body, refused, err));
    SL_TRY(parse_one(body, "best_of", err));
    SL_TRY(parse_prompt(body, r, err));
    SL_TRY(api_whole(body, "logprobs", 0, SL_TOP_LOGPROBS_MAX, &top, &r->options.logprobs, err));
    r->options.top_logprobs = (uint32_t)top;
    if (r->options.max_tokens == 0) r->options.max_tokens = 16; /* as the API has it */
    return SL_OK;
}
