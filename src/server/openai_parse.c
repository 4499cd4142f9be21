/* OpenAI's requests: /v1/chat/completions and /v1/completions. Members that are not known are not
 * looked at; those that are known and cannot be done are errors. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "server/api.h"

#define MESSAGES_MAX 100000u

/* ---- messages -------------------------------------------------------------------------------- */

/* {"id", "type", "function": {"name", "arguments"}}: arguments come as the text of a JSON object,
 * and templates want the object. */
static sl_status parse_call(const json_t *call, const char *where, json_t **out, sl_error *err)
{
    const json_t *function = json_object_get(call, "function");
    const json_t *name = json_object_get(function, "name");
    json_t *given = json_object_get(function, "arguments"), *arguments = NULL;
    if (!json_is_string(name)) {
        return SL_FAIL(err, SL_EINVAL, "%s.function.name: expected a string", where);
    }
    if (json_is_string(given)) {
        arguments = json_loadb(json_string_value(given), json_string_length(given),
                               JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(arguments)) { /* what a model wrote wrongly stays as it is */
            json_decref(arguments);
            arguments = json_incref(given);
        }
    } else {
        arguments = given ? json_incref(given) : json_object();
    }
    const json_t *id = json_object_get(call, "id");
    *out = json_pack("{s:s, s:s, s:{s:O, s:o}}", "id", id ? json_string_value(id) : "", "type",
                     "function", "function", "name", name, "arguments", arguments);
    return *out ? SL_OK : SL_FAIL_NOMEM(err, where);
}

static sl_status parse_calls(const json_t *calls, const char *where, json_t *message, sl_error *err)
{
    json_t *list = json_array();
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
static bool copy_members(const json_t *from, json_t *to)
{
    static const char *const keys[] = {"name", "tool_call_id", "reasoning_content"};
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        json_t *value = json_object_get(from, keys[i]);
        if (json_is_string(value) && json_object_set(to, keys[i], value) != 0) return false;
    }
    return true;
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
        json_object_set_new(message, "role", json_string(known)) != 0 ||
        !copy_members(given, message)) {
        return SL_FAIL_NOMEM(err, where);
    }
    const json_t *calls = json_object_get(given, "tool_calls");
    return json_array_size(calls) > 0 ? parse_calls(calls, where, message, err) : SL_OK;
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

static sl_status parse_tools(const json_t *body, api_request *r, sl_error *err)
{
    json_t *tools = json_object_get(body, "tools");
    const json_t *choice = json_object_get(body, "tool_choice");
    if (!tools || json_is_null(tools)) return SL_OK;
    SL_TRY(check_tools(tools, err));
    const char *word = json_string_value(choice);
    if (word && strcmp(word, "none") == 0) return SL_OK;
    if (json_array_size(tools) > 0) r->tools = json_incref(tools);
    return SL_OK;
}

/* ---- options --------------------------------------------------------------------------------- */

static sl_status parse_common(const api_model *model, const json_t *body, api_request *r,
                              sl_error *err)
{
    uint64_t n = 1, limit = 0, newer = 0;
    bool given;
    if (!json_is_object(body)) return SL_FAIL(err, SL_EINVAL, "the body is no JSON object");
    sl_generation_options_default(&r->options);
    r->options.sampler = model->defaults.sampler;
    SL_TRY(api_sampling(body, &r->options.sampler, err));
    SL_TRY(api_stops(body, "stop", r, err));
    SL_TRY(api_whole(body, "n", 1, 1, &n, NULL, err));
    SL_TRY(api_whole(body, "max_tokens", 1, UINT32_MAX, &limit, NULL, err));
    SL_TRY(api_whole(body, "max_completion_tokens", 1, UINT32_MAX, &newer, &given, err));
    r->options.max_tokens = (uint32_t)(given ? newer : limit);
    SL_TRY(api_flag(body, "stream", &r->stream, err));
    const json_t *options = json_object_get(body, "stream_options");
    if (options && !json_is_null(options))
        SL_TRY(api_flag(options, "include_usage", &r->usage, err));
    return SL_OK;
}

sl_status openai_chat_parse(const api_model *model, const json_t *body, api_request *r,
                            sl_error *err)
{
    uint64_t top = 0;
    SL_TRY(parse_common(model, body, r, err));
    SL_TRY(parse_messages(body, r, err));
    SL_TRY(parse_tools(body, r, err));
    SL_TRY(api_flag(body, "logprobs", &r->options.logprobs, err));
    SL_TRY(api_whole(body, "top_logprobs", 0, SL_TOP_LOGPROBS_MAX, &top, NULL, err));
    if (top > 0 && !r->options.logprobs) {
        return SL_FAIL(err, SL_EINVAL, "top_logprobs: logprobs is needed with it");
    }
    r->options.top_logprobs = (uint32_t)top;
    r->options.chat = true;
    json_t *kwargs = json_object_get(body, "chat_template_kwargs");
    if (!kwargs || json_is_null(kwargs)) return SL_OK;
    if (!json_is_object(kwargs)) {
        return SL_FAIL(err, SL_EINVAL, "chat_template_kwargs: expected an object");
    }
    r->kwargs = json_incref(kwargs);
    return SL_OK;
}

/* The prompt is text, or ids; one of a list of one. */
static sl_status parse_prompt(const json_t *body, api_request *r, sl_error *err)
{
    json_t *prompt = json_object_get(body, "prompt");
    if (json_is_array(prompt) && json_array_size(prompt) == 1 &&
        !json_is_integer(json_array_get(prompt, 0))) {
        prompt = json_array_get(prompt, 0);
    }
    if (json_is_array(prompt) && json_is_integer(json_array_get(prompt, 0))) {
        r->ids = json_incref(prompt);
        return SL_OK;
    }
    if (!json_is_string(prompt)) {
        return SL_FAIL(err, SL_EINVAL, "prompt: expected text, or an array of token ids");
    }
    r->prompt = strdup(json_string_value(prompt));
    return r->prompt ? SL_OK : SL_FAIL_NOMEM(err, "prompt");
}

sl_status openai_completion_parse(const api_model *model, const json_t *body, api_request *r,
                                  sl_error *err)
{
    uint64_t top = 0;
    bool echo = false;
    SL_TRY(parse_common(model, body, r, err));
    SL_TRY(parse_prompt(body, r, err));
    SL_TRY(api_flag(body, "echo", &echo, err));
    if (echo) return SL_FAIL(err, SL_EINVAL, "echo: is not supported");
    SL_TRY(api_whole(body, "logprobs", 0, SL_TOP_LOGPROBS_MAX, &top, &r->options.logprobs, err));
    r->options.top_logprobs = (uint32_t)top;
    if (r->options.max_tokens == 0) r->options.max_tokens = 16; /* as the API has it */
    return SL_OK;
}
