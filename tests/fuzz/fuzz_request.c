/* The body of a request, any bytes: each API takes it or says in one line what is wrong with it.
 * What is taken has a prompt of one kind, as templates and the tokenizer take it, and options
 * within their ranges. The first byte chooses the API. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "server/api.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) abort();
}

static void check_messages(const json_t *messages)
{
    require(json_is_array(messages) && json_array_size(messages) > 0);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *message = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(message, "role"));
        require(role && json_is_string(json_object_get(message, "content")));
        require(strcmp(role, "system") == 0 || strcmp(role, "user") == 0 ||
                strcmp(role, "assistant") == 0 || strcmp(role, "tool") == 0);
        const json_t *calls = json_object_get(message, "tool_calls");
        require(!calls || json_array_size(calls) > 0);
        for (size_t k = 0; k < json_array_size(calls); k++) {
            const json_t *call = json_array_get(calls, k), *f = json_object_get(call, "function");
            require(json_is_string(json_object_get(call, "id")));
            require(json_is_string(json_object_get(f, "name")));
            require(json_object_get(f, "arguments") != NULL);
        }
    }
}

static void check_request(const api_request *r)
{
    const sl_sampler_options *o = &r->options.sampler;
    require(!r->messages != !r->prompt);
    if (r->messages) check_messages(r->messages);
    if (r->prompt) require(json_is_string(r->prompt) || json_array_size(r->prompt) > 0);
    require(!r->tools || json_array_size(r->tools) > 0);
    for (size_t i = 0; i < json_array_size(r->tools); i++) {
        const json_t *f = json_object_get(json_array_get(r->tools, i), "function");
        require(json_is_string(json_object_get(f, "name")));
    }
    require(!r->kwargs || json_is_object(r->kwargs));
    require(o->temperature >= 0 && o->temperature <= 100);
    require(o->top_p > 0 && o->top_p <= 1 && o->min_p >= 0 && o->min_p <= 1);
    require(o->repetition_penalty > 0 && r->options.top_logprobs <= SL_TOP_LOGPROBS_MAX);
    for (size_t i = 0; i < r->options.stop_count; i++)
        require(r->stops[i][0] != '\0');
    require(!r->stops || r->stops[r->options.stop_count] == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    api_model model = {.name = "fuzz", .vocab_size = 1000, .context_tokens = 100};
    api_request r = {0};
    sl_error err = {0};
    json_t *body;
    sl_sampler_options_default(&model.defaults.sampler);
    if (size < 1) return 0;
    sl_status status = sl__json_parse((const char *)data + 1, size - 1, "body", &body, &err);
    if (status == SL_OK) {
        status = data[0] % 3 == 0   ? openai_chat_parse(&model, body, &r, &err)
                 : data[0] % 3 == 1 ? openai_completion_parse(&model, body, &r, &err)
                                    : anthropic_parse(&model, body, &r, &err);
        json_decref(body);
    }
    if (status == SL_OK) {
        check_request(&r);
    } else {
        json_t *line = api_line(err.message);
        require(err.status == status && err.message[0] && !strchr(err.message, '\n'));
        require(status == SL_EINVAL || status == SL_EFORMAT);
        require(json_is_string(line));
        json_decref(line);
    }
    api_request_free(&r);
    return 0;
}
