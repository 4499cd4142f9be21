/* Anthropic's requests, /v1/messages, turned into the messages that templates take:
 *
 *     system             → a message with the role system
 *     text, thinking     → content, reasoning_content
 *     tool_use           → tool_calls of the assistant's message
 *     tool_result        → a message with the role tool, before what else the user says
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "server/api.h"

#define MESSAGES_MAX 100000u

static bool is_type(const json_t *block, const char *type)
{
    const char *word = json_string_value(json_object_get(block, "type"));
    return word && strcmp(word, type) == 0;
}

/* Appends a message; steals content. NULL: no memory. */
static json_t *add_message(json_t *messages, const char *role, json_t *content)
{
    json_t *message = json_pack("{s:s, s:o}", "role", role, "content", content);
    return json_array_append_new(messages, message) == 0 ? message : NULL;
}

/* The text of an array's blocks of text, those of other types left out. */
static json_t *texts_of(const json_t *blocks, const char *type, const char *key)
{
    sl__buffer text;
    sl__buffer_init(&text, (size_t)256 << 20);
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const json_t *block = json_array_get(blocks, i), *said = json_object_get(block, key);
        if (is_type(block, type) && json_is_string(said))
            sl__buffer_append(&text, json_string_value(said), json_string_length(said));
    }
    json_t *value = text.failed ? NULL : json_stringn(text.data ? text.data : "", text.size);
    sl__buffer_free(&text);
    return value;
}

/* A text, or a call that the model made earlier. */
static sl_status check_block(const json_t *block, const char *where, size_t i, sl_error *err)
{
    static const char *const keys[] = {"id", "name"};
    if (is_type(block, "text") && !json_is_string(json_object_get(block, "text"))) {
        return SL_FAIL(err, SL_EINVAL, "%s[%zu].text: expected a string", where, i);
    }
    if (!is_type(block, "tool_use")) return SL_OK;
    for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
        if (json_is_string(json_object_get(block, keys[k]))) continue;
        return SL_FAIL(err, SL_EINVAL, "%s[%zu].%s: expected a string", where, i, keys[k]);
    }
    if (json_is_object(json_object_get(block, "input"))) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%s[%zu].input: expected an object", where, i);
}

static sl_status check_blocks(const json_t *blocks, bool user, const char *where, sl_error *err)
{
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const json_t *block = json_array_get(blocks, i);
        bool known = is_type(block, "text") ||
                     (user ? is_type(block, "tool_result")
                           : is_type(block, "tool_use") || is_type(block, "thinking") ||
                                 is_type(block, "redacted_thinking"));
        if (known) SL_TRY(check_block(block, where, i, err));
        if (known) continue;
        const char *type = json_string_value(json_object_get(block, "type"));
        return SL_FAIL(err, SL_EINVAL, "%s[%zu]: blocks of type %.40s are not supported here",
                       where, i, type ? type : "(none)");
    }
    return SL_OK;
}

static sl_status add_results(json_t *messages, const json_t *blocks, const char *where,
                             sl_error *err)
{
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const json_t *block = json_array_get(blocks, i);
        char at[96];
        json_t *text;
        if (!is_type(block, "tool_result")) continue;
        snprintf(at, sizeof at, "%s[%zu].content", where, i);
        SL_TRY(api_text(json_object_get(block, "content"), at, &text, err));
        json_t *message = add_message(messages, "tool", text);
        json_t *id = json_object_get(block, "tool_use_id");
        if (!json_is_string(id)) {
            return SL_FAIL(err, SL_EINVAL, "%s[%zu].tool_use_id: expected a string", where, i);
        }
        if (!message || json_object_set(message, "tool_call_id", id) != 0) {
            return SL_FAIL_NOMEM(err, where);
        }
    }
    return SL_OK;
}

static sl_status add_user(json_t *messages, const json_t *content, const char *where, sl_error *err)
{
    json_t *text;
    if (!json_is_array(content)) {
        SL_TRY(api_text(content, where, &text, err));
        return add_message(messages, "user", text) ? SL_OK : SL_FAIL_NOMEM(err, where);
    }
    SL_TRY(check_blocks(content, true, where, err));
    const size_t before = json_array_size(messages);
    SL_TRY(add_results(messages, content, where, err));
    text = texts_of(content, "text", "text");
    if (text && json_string_length(text) == 0 && json_array_size(messages) > before) {
        json_decref(text); /* results alone */
        return SL_OK;
    }
    return add_message(messages, "user", text) ? SL_OK : SL_FAIL_NOMEM(err, where);
}

static json_t *calls_of(const json_t *blocks)
{
    json_t *calls = json_array();
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        const json_t *block = json_array_get(blocks, i);
        if (!is_type(block, "tool_use")) continue;
        json_array_append_new(calls, json_pack("{s:O, s:s, s:{s:O, s:O}}", "id",
                                               json_object_get(block, "id"), "type", "function",
                                               "function", "name", json_object_get(block, "name"),
                                               "arguments", json_object_get(block, "input")));
    }
    return calls;
}

static sl_status add_assistant(json_t *messages, const json_t *content, const char *where,
                               sl_error *err)
{
    json_t *text;
    if (!json_is_array(content)) {
        SL_TRY(api_text(content, where, &text, err));
        return add_message(messages, "assistant", text) ? SL_OK : SL_FAIL_NOMEM(err, where);
    }
    SL_TRY(check_blocks(content, false, where, err));
    json_t *message = add_message(messages, "assistant", texts_of(content, "text", "text"));
    json_t *thinking = texts_of(content, "thinking", "thinking"), *calls = calls_of(content);
    bool made = message && thinking && calls;
    if (made && json_string_length(thinking) > 0)
        made = json_object_set(message, "reasoning_content", thinking) == 0;
    if (made && json_array_size(calls) > 0)
        made = json_object_set(message, "tool_calls", calls) == 0;
    json_decref(thinking);
    json_decref(calls);
    return made ? SL_OK : SL_FAIL_NOMEM(err, where);
}

/* What Claude Code tells Anthropic in front of the system's text. It is another in each request: no
 * prompt would begin like the one before, and all of it would be read again. */
static bool is_for_billing(const json_t *block)
{
    static const char front[] = "x-anthropic-billing-header:";
    const char *text = json_string_value(json_object_get(block, "text"));
    return text && strncmp(text, front, sizeof front - 1) == 0;
}

static sl_status add_system(json_t *messages, const json_t *system, sl_error *err)
{
    json_t *text, *read = json_copy((json_t *)system);
    bool billing = is_for_billing(json_array_get(system, 0));
    if (!read || (billing && json_array_remove(read, 0) != 0)) {
        json_decref(read);
        return SL_FAIL_NOMEM(err, "system");
    }
    bool none = json_is_array(read) && json_array_size(read) == 0;
    sl_status status = none ? SL_OK : api_text(read, "system", &text, err);
    json_decref(read);
    if (none || status != SL_OK) return status;
    return add_message(messages, "system", text) ? SL_OK : SL_FAIL_NOMEM(err, "system");
}

static sl_status parse_messages(const json_t *body, api_request *r, sl_error *err)
{
    const json_t *given = json_object_get(body, "messages");
    const json_t *system = json_object_get(body, "system");
    size_t count = json_array_size(given);
    if (!json_is_array(given) || count == 0 || count > MESSAGES_MAX) {
        return SL_FAIL(err, SL_EINVAL, "messages: expected an array of 1 to %u messages",
                       MESSAGES_MAX);
    }
    r->messages = json_array();
    if (!r->messages) return SL_FAIL_NOMEM(err, "messages");
    if (system && !json_is_null(system)) SL_TRY(add_system(r->messages, system, err));
    for (size_t i = 0; i < count; i++) {
        const json_t *message = json_array_get(given, i);
        const json_t *content = json_object_get(message, "content");
        const char *role = json_string_value(json_object_get(message, "role"));
        char where[64];
        snprintf(where, sizeof where, "messages[%zu].content", i);
        if (role && strcmp(role, "user") == 0) {
            SL_TRY(add_user(r->messages, content, where, err));
        } else if (role && strcmp(role, "assistant") == 0) {
            SL_TRY(add_assistant(r->messages, content, where, err));
        } else {
            return SL_FAIL(err, SL_EINVAL, "messages[%zu].role: expected user or assistant", i);
        }
    }
    return SL_OK;
}

/* {"type": "auto", "any", "none", or "tool" with a name}. */
static sl_status parse_choice(const json_t *body, api_request *r, sl_error *err)
{
    const json_t *choice = api_member(body, "tool_choice");
    const char *name = json_string_value(json_object_get(choice, "name"));
    bool one = false;
    if (!choice) return SL_OK;
    if (json_is_object(choice)) SL_TRY(api_flag(choice, "disable_parallel_tool_use", &one, err));
    r->one_call = one;
    if (is_type(choice, "auto") || is_type(choice, "none")) return SL_OK;
    r->must_call = true;
    if (is_type(choice, "any")) return SL_OK;
    if (!is_type(choice, "tool") || !name) {
        return SL_FAIL(err, SL_EINVAL,
                       "tool_choice: expected the type auto, any, none, or tool "
                       "with a name");
    }
    r->one_call = true;
    r->call_name = strdup(name);
    return r->call_name ? SL_OK : SL_FAIL_NOMEM(err, "tool_choice");
}

/* "output_config": {"format": {"type": "json_schema", "schema": …}}. */
static sl_status parse_format(const json_t *body, api_request *r, sl_error *err)
{
    const json_t *format = api_member(api_member(body, "output_config"), "format");
    json_t *schema = json_object_get(format, "schema");
    if (!format) return SL_OK;
    if (!is_type(format, "json_schema") || !schema) {
        return SL_FAIL(err, SL_EINVAL,
                       "output_config.format: expected the type json_schema and a "
                       "schema");
    }
    r->json = true;
    r->schema = json_incref(schema);
    return SL_OK;
}

/* {name, description, input_schema} as {"type": "function", "function": {…}}. */
static sl_status parse_tools(const json_t *body, api_request *r, sl_error *err)
{
    const json_t *tools = api_member(body, "tools");
    SL_TRY(parse_choice(body, r, err));
    if (tools && !json_is_array(tools)) return SL_FAIL(err, SL_EINVAL, "tools: expected an array");
    if (json_array_size(tools) == 0 || is_type(api_member(body, "tool_choice"), "none"))
        return SL_OK;
    r->tools = json_array();
    if (!r->tools) return SL_FAIL_NOMEM(err, "tools");
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *tool = json_array_get(tools, i);
        json_t *schema = json_object_get(tool, "input_schema");
        const char *name = json_string_value(json_object_get(tool, "name"));
        const char *text = json_string_value(json_object_get(tool, "description"));
        const char *type = json_string_value(json_object_get(tool, "type"));
        if (!name) return SL_FAIL(err, SL_EINVAL, "tools[%zu].name: expected a string", i);
        if (!schema && type && strcmp(type, "custom") != 0) {
            return SL_FAIL(err, SL_EINVAL,
                           "tools[%zu].type: %.60s is not supported: there are tools with an "
                           "input_schema alone",
                           i, type);
        }
        if (!json_is_object(schema)) {
            return SL_FAIL(err, SL_EINVAL, "tools[%zu].input_schema: expected an object", i);
        }
        bool strict = json_is_true(json_object_get(tool, "strict"));
        json_t *function = json_pack("{s:s, s:s, s:O}", "name", name, "description",
                                     text ? text : "", "parameters", schema);
        if (strict) json_object_set_new(function, "strict", json_true());
        json_t *made = json_pack("{s:s, s:o}", "type", "function", "function", function);
        if (json_array_append_new(r->tools, made) != 0) return SL_FAIL_NOMEM(err, "tools");
    }
    return SL_OK;
}

/* "thinking": {"type": "enabled" or "disabled"}: what templates call enable_thinking. */
static sl_status parse_thinking(const json_t *body, api_request *r, sl_error *err)
{
    const json_t *thinking = json_object_get(body, "thinking");
    if (!thinking || json_is_null(thinking)) return SL_OK;
    bool on = is_type(thinking, "enabled") || is_type(thinking, "adaptive");
    if (!on && !is_type(thinking, "disabled")) {
        return SL_FAIL(err, SL_EINVAL, "thinking.type: expected enabled or disabled");
    }
    return api_kwarg(r, "enable_thinking", json_boolean(on), err);
}

sl_status anthropic_parse_prompt(const json_t *body, api_request *r, sl_error *err)
{
    const char *model;
    if (!json_is_object(body)) return SL_FAIL(err, SL_EINVAL, "the body is no JSON object");
    SL_TRY(api_string(body, "model", &model, err));
    SL_TRY(parse_messages(body, r, err));
    SL_TRY(parse_tools(body, r, err));
    return parse_thinking(body, r, err);
}

/* An answer begins anew: it cannot go on with what the request puts into its mouth. */
static sl_status check_last(const json_t *body, sl_error *err)
{
    const json_t *given = json_object_get(body, "messages");
    const size_t last = json_array_size(given) - 1;
    const char *role = json_string_value(json_object_get(json_array_get(given, last), "role"));
    if (strcmp(role, "user") == 0) return SL_OK;
    return SL_FAIL(err, SL_EINVAL,
                   "messages[%zu]: the last message must be the user's: going on with a given "
                   "answer is not supported",
                   last);
}

sl_status anthropic_parse(const api_model *model, const json_t *body, api_request *r, sl_error *err)
{
    static const char *const refused[] = {"output_format", "mcp_servers", NULL};
    uint64_t limit = 0;
    bool given;
    SL_TRY(anthropic_parse_prompt(body, r, err));
    SL_TRY(check_last(body, err));
    SL_TRY(api_refuse(body, refused, err));
    SL_TRY(parse_format(body, r, err));
    sl_generation_options_default(&r->options);
    r->options.sampler = model->defaults.sampler;
    SL_TRY(api_sampling(body, &r->options.sampler, err));
    SL_TRY(api_stops(body, "stop_sequences", r, err));
    SL_TRY(api_whole(body, "max_tokens", 1, UINT32_MAX, &limit, &given, err));
    if (!given) return SL_FAIL(err, SL_EINVAL, "max_tokens: is needed");
    r->options.max_tokens = (uint32_t)limit;
    SL_TRY(api_flag(body, "stream", &r->stream, err));
    r->options.chat = true;
    return SL_OK;
}
