/* OpenAI's answers, whole and as server-sent events. */
#include <stdlib.h>
#include <string.h>

#include "server/api.h"

static const char *finish_word(sl_finish finish)
{
    switch (finish) {
    case SL_FINISH_LENGTH:
        return "length";
    case SL_FINISH_CALLS:
        return "tool_calls";
    default:
        return "stop";
    }
}

/* Text of the model: jansson takes UTF-8 alone, which the decoder sees to. */
static json_t *text_of(const sl__buffer *text)
{
    return json_stringn(text->data ? text->data : "", text->size);
}

static json_t *usage_of(const reply *r)
{
    const job_usage *u = &r->usage;
    return json_pack("{s:i, s:i, s:i, s:{s:i}}", "prompt_tokens", (int)u->prompt_tokens,
                     "completion_tokens", (int)u->answer_tokens, "total_tokens",
                     (int)(u->prompt_tokens + u->answer_tokens), "prompt_tokens_details",
                     "cached_tokens", (int)u->cached_tokens);
}

/* ---- chances of tokens ----------------------------------------------------------------------- */

/* A token's own text; bytes of an incomplete character show as U+FFFD. */
static json_t *token_text(const reply *r, int32_t id)
{
    char *text;
    size_t size;
    if (sl_tokenizer_decode(r->model->tok, &id, 1, false, &text, &size, NULL) != SL_OK) return NULL;
    json_t *value = json_stringn(text, size);
    free(text);
    return value;
}

static json_t *chance_of(const reply *r, const sl_token_chance *token)
{
    json_t *text = token_text(r, token->id), *bytes = json_array();
    const char *said = text ? json_string_value(text) : "";
    for (size_t i = 0; bytes && i < strlen(said); i++)
        json_array_append_new(bytes, json_integer((unsigned char)said[i]));
    return json_pack("{s:o, s:f, s:o}", "token", text, "logprob", (double)token->logprob, "bytes",
                     bytes);
}

static json_t *chances_of(const reply *r, const sl_event *event)
{
    json_t *entry = chance_of(r, &event->token), *top = json_array();
    for (uint32_t i = 0; top && i < event->top_count; i++)
        json_array_append_new(top, chance_of(r, &event->top[i]));
    if (!entry || json_object_set_new(entry, "top_logprobs", top) != 0) {
        json_decref(entry);
        return NULL;
    }
    return entry;
}

static void keep_chances(reply *r, const sl_event *event)
{
    if (!r->logprobs) return;
    if (!r->chances) r->chances = json_array();
    json_array_append_new(r->chances, chances_of(r, event));
}

/* What was gathered since the last piece of a stream; null where nothing was asked for. */
static json_t *take_chances(reply *r)
{
    if (!r->logprobs) return json_null();
    json_t *gathered = r->chances ? r->chances : json_array();
    r->chances = NULL;
    return json_pack("{s:o}", "content", gathered);
}

/* ---- chat, streamed -------------------------------------------------------------------------- */

static json_t *chunk_of(const reply *r, json_t *choices)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:o}", "id", r->id, "object", "chat.completion.chunk",
                     "created", (json_int_t)r->created, "model", r->model->name, "choices",
                     choices);
}

/* Steals delta. finish NULL: it goes on. */
static void write_delta(reply *r, json_t *delta, const char *finish)
{
    reply_sse(r, NULL,
              chunk_of(r, json_pack("[{s:i, s:o, s:o, s:s?}]", "index", 0, "delta", delta,
                                    "logprobs", take_chances(r), "finish_reason", finish)));
}

static void chat_begin(reply *r)
{
    write_delta(r, json_pack("{s:s, s:s}", "role", "assistant", "content", ""), NULL);
}

static json_t *call_delta(const reply *r, const sl_event *event)
{
    size_t index = r->call_count - 1;
    const reply_call *call = &r->calls[index];
    if (event->kind == SL_EVENT_CALL) {
        return json_pack("{s:[{s:i, s:s, s:s, s:{s:s%, s:s}}]}", "tool_calls", "index", (int)index,
                         "id", call->id, "type", "function", "function", "name", event->text,
                         event->size, "arguments", "");
    }
    return json_pack("{s:[{s:i, s:{s:s%}}]}", "tool_calls", "index", (int)index, "function",
                     "arguments", event->text, event->size);
}

static void chat_event(reply *r, const sl_event *event)
{
    json_t *delta = NULL;
    if (event->kind == SL_EVENT_TOKEN) keep_chances(r, event);
    if (!r->streaming) return;
    switch (event->kind) {
    case SL_EVENT_TEXT:
        delta = json_pack("{s:s%}", "content", event->text, event->size);
        break;
    case SL_EVENT_REASONING:
        delta = json_pack("{s:s%}", "reasoning_content", event->text, event->size);
        break;
    case SL_EVENT_CALL:
    case SL_EVENT_ARGUMENTS:
        delta = call_delta(r, event);
        break;
    default:
        return;
    }
    write_delta(r, delta, NULL);
}

/* A comment: clients skip it. */
static void write_sign_of_life(reply *r)
{
    static const char comment[] = ": still here\n\n";
    stream_write(r->out, comment, sizeof comment - 1);
}

static void write_done(reply *r)
{
    static const char done[] = "data: [DONE]\n\n";
    stream_write(r->out, done, sizeof done - 1);
}

static void chat_end(reply *r)
{
    write_delta(r, json_object(), finish_word(r->finish));
    if (r->usage_wanted) {
        json_t *chunk = chunk_of(r, json_array());
        json_object_set_new(chunk, "usage", usage_of(r));
        reply_sse(r, NULL, chunk);
    }
    write_done(r);
}

/* ---- chat, whole ----------------------------------------------------------------------------- */

static json_t *calls_of(const reply *r)
{
    json_t *calls = json_array();
    for (size_t i = 0; i < r->call_count; i++) {
        const reply_call *c = &r->calls[i];
        json_array_append_new(calls, json_pack("{s:s, s:s, s:{s:o, s:o}}", "id", c->id, "type",
                                               "function", "function", "name", text_of(&c->name),
                                               "arguments", text_of(&c->arguments)));
    }
    return calls;
}

static void chat_whole(reply *r)
{
    bool silent = r->text.size == 0 && r->call_count > 0;
    json_t *message = json_pack("{s:s, s:o}", "role", "assistant", "content",
                                silent ? json_null() : text_of(&r->text));
    if (r->reasoning.size > 0) {
        json_object_set_new(message, "reasoning_content", text_of(&r->reasoning));
    }
    if (r->call_count > 0) json_object_set_new(message, "tool_calls", calls_of(r));
    reply_json(r, json_pack("{s:s, s:s, s:I, s:s, s:[{s:i, s:o, s:o, s:s}], s:o}", "id", r->id,
                            "object", "chat.completion", "created", (json_int_t)r->created, "model",
                            r->model->name, "choices", "index", 0, "message", message, "logprobs",
                            take_chances(r), "finish_reason", finish_word(r->finish), "usage",
                            usage_of(r)));
}

static void openai_error(reply *r, unsigned status, const char *message, bool streaming)
{
    const char *type = status == MHD_HTTP_UNAUTHORIZED        ? "authentication_error"
                       : status == MHD_HTTP_TOO_MANY_REQUESTS ? "rate_limit_error"
                       : status < 500                         ? "invalid_request_error"
                                                              : "server_error";
    json_t *error = json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message", message, "type", type,
                              "param", "code");
    if (streaming)
        reply_sse(r, NULL, error);
    else
        reply_json(r, error);
}

const reply_form openai_chat_form = {
    .begin = chat_begin,
    .event = chat_event,
    .alive = write_sign_of_life,
    .end = chat_end,
    .whole = chat_whole,
    .error = openai_error,
};

/* ---- completions ----------------------------------------------------------------------------- */

/* The older form of chances: lists side by side. */
static json_t *old_chances(reply *r)
{
    if (!r->logprobs) return json_null();
    json_t *tokens = json_array(), *values = json_array(), *tops = json_array();
    for (size_t i = 0; i < json_array_size(r->chances); i++) {
        const json_t *entry = json_array_get(r->chances, i), *list;
        json_array_append(tokens, json_object_get(entry, "token"));
        json_array_append(values, json_object_get(entry, "logprob"));
        list = json_object_get(entry, "top_logprobs");
        json_t *top = json_object();
        for (size_t k = 0; k < json_array_size(list); k++) {
            const json_t *t = json_array_get(list, k);
            json_object_set(top, json_string_value(json_object_get(t, "token")),
                            json_object_get(t, "logprob"));
        }
        json_array_append_new(tops, top);
    }
    json_decref(r->chances);
    r->chances = NULL;
    return json_pack("{s:o, s:o, s:o, s:[]}", "tokens", tokens, "token_logprobs", values,
                     "top_logprobs", tops, "text_offset");
}

/* Steals text. finish NULL: it goes on. */
static json_t *completion_of(reply *r, json_t *text, const char *finish)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:[{s:i, s:o, s:o, s:s?}]}", "id", r->id, "object",
                     "text_completion", "created", (json_int_t)r->created, "model", r->model->name,
                     "choices", "index", 0, "text", text, "logprobs", old_chances(r),
                     "finish_reason", finish);
}

static void completion_begin(reply *r)
{
    (void)r;
}

static void completion_event(reply *r, const sl_event *event)
{
    if (event->kind == SL_EVENT_TOKEN) keep_chances(r, event);
    if (!r->streaming || event->kind != SL_EVENT_TEXT) return;
    reply_sse(r, NULL, completion_of(r, json_stringn(event->text, event->size), NULL));
}

static void completion_end(reply *r)
{
    json_t *last = completion_of(r, json_string(""), finish_word(r->finish));
    if (r->usage_wanted) json_object_set_new(last, "usage", usage_of(r));
    reply_sse(r, NULL, last);
    write_done(r);
}

static void completion_whole(reply *r)
{
    json_t *answer = completion_of(r, text_of(&r->text), finish_word(r->finish));
    json_object_set_new(answer, "usage", usage_of(r));
    reply_json(r, answer);
}

const reply_form openai_completion_form = {
    .begin = completion_begin,
    .event = completion_event,
    .alive = write_sign_of_life,
    .end = completion_end,
    .whole = completion_whole,
    .error = openai_error,
};
