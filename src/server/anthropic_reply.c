/* Anthropic's answers, whole and as server-sent events: blocks of thinking, text and calls, one
 * after the other, each with its beginning and its end. */
#include <string.h>

#include "server/api.h"

static const char *stop_word(const reply *r)
{
    switch (r->finish) {
    case SL_FINISH_LENGTH:
        return "max_tokens";
    case SL_FINISH_CALLS:
        return "tool_use";
    default:
        return r->stop >= 0 ? "stop_sequence" : "end_turn";
    }
}

static json_t *stop_text(const reply *r)
{
    return r->stop >= 0 && r->stops ? json_string(r->stops[r->stop]) : json_null();
}

static json_t *text_of(const sl__buffer *text)
{
    return json_stringn(text->data ? text->data : "", text->size);
}

static json_t *usage_of(const reply *r)
{
    const job_usage *u = &r->usage;
    return json_pack("{s:i, s:i, s:i, s:i}", "input_tokens",
                     (int)(u->prompt_tokens - u->cached_tokens), "cache_read_input_tokens",
                     (int)u->cached_tokens, "cache_creation_input_tokens", 0, "output_tokens",
                     (int)u->answer_tokens);
}

/* A message without its content; steals content and stop. */
static json_t *message_of(const reply *r, json_t *content, const char *reason, json_t *stop)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:s?, s:o, s:o}", "id", r->id, "type", "message",
                     "role", "assistant", "model", r->model->name, "content", content,
                     "stop_reason", reason, "stop_sequence", stop, "usage", usage_of(r));
}

/* ---- streamed -------------------------------------------------------------------------------- */

static void begin(reply *r)
{
    reply_sse(r, "message_start",
              json_pack("{s:s, s:o}", "type", "message_start", "message",
                        message_of(r, json_array(), NULL, json_null())));
}

static void end_block(reply *r)
{
    if (r->block < 0 || !r->block_open) return;
    r->block_open = false;
    reply_sse(r, "content_block_stop",
              json_pack("{s:s, s:i}", "type", "content_block_stop", "index", r->block));
}

/* Steals what the block begins as. */
static void begin_block(reply *r, sl_event_kind kind, json_t *block)
{
    end_block(r);
    r->block++;
    r->block_open = true;
    r->block_kind = kind;
    reply_sse(r, "content_block_start",
              json_pack("{s:s, s:i, s:o}", "type", "content_block_start", "index", r->block,
                        "content_block", block));
}

/* Steals the delta. */
static void write_delta(reply *r, json_t *delta)
{
    reply_sse(r, "content_block_delta",
              json_pack("{s:s, s:i, s:o}", "type", "content_block_delta", "index", r->block,
                        "delta", delta));
}

static void say(reply *r, const sl_event *event, const char *block, const char *delta)
{
    const char *key = event->kind == SL_EVENT_TEXT ? "text" : "thinking";
    if (!r->block_open || r->block_kind != event->kind) {
        begin_block(r, event->kind, json_pack("{s:s, s:s}", "type", block, key, ""));
    }
    write_delta(r, json_pack("{s:s, s:s%}", "type", delta, key, event->text, event->size));
}

static void on_event(reply *r, const sl_event *event)
{
    if (!r->streaming) return;
    switch (event->kind) {
    case SL_EVENT_TEXT:
        say(r, event, "text", "text_delta");
        break;
    case SL_EVENT_REASONING:
        say(r, event, "thinking", "thinking_delta");
        break;
    case SL_EVENT_CALL:
        begin_block(r, event->kind,
                    json_pack("{s:s, s:s, s:s%, s:{}}", "type", "tool_use", "id",
                              r->calls[r->call_count - 1].id, "name", event->text, event->size,
                              "input"));
        break;
    case SL_EVENT_ARGUMENTS:
        write_delta(r, json_pack("{s:s, s:s%}", "type", "input_json_delta", "partial_json",
                                 event->text, event->size));
        break;
    case SL_EVENT_CALL_END:
        end_block(r);
        break;
    default:
        break;
    }
}

static void alive(reply *r)
{
    reply_sse(r, "ping", json_pack("{s:s}", "type", "ping"));
}

static void end(reply *r)
{
    end_block(r);
    reply_sse(r, "message_delta",
              json_pack("{s:s, s:{s:s, s:o}, s:o}", "type", "message_delta", "delta", "stop_reason",
                        stop_word(r), "stop_sequence", stop_text(r), "usage", usage_of(r)));
    reply_sse(r, "message_stop", json_pack("{s:s}", "type", "message_stop"));
}

/* ---- whole ----------------------------------------------------------------------------------- */

static json_t *call_block(const reply_call *call)
{
    json_t *input =
        json_loadb(call->arguments.data ? call->arguments.data : "", call->arguments.size, 0, NULL);
    if (!json_is_object(input)) { /* it broke off */
        json_decref(input);
        input = json_object();
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "type", "tool_use", "id", call->id, "name",
                     text_of(&call->name), "input", input);
}

static void whole(reply *r)
{
    json_t *content = json_array();
    if (r->reasoning.size > 0) {
        json_array_append_new(content, json_pack("{s:s, s:o, s:s}", "type", "thinking", "thinking",
                                                 text_of(&r->reasoning), "signature", ""));
    }
    if (r->text.size > 0 || r->call_count == 0) {
        json_array_append_new(content,
                              json_pack("{s:s, s:o}", "type", "text", "text", text_of(&r->text)));
    }
    for (size_t i = 0; i < r->call_count; i++)
        json_array_append_new(content, call_block(&r->calls[i]));
    reply_json(r, message_of(r, content, stop_word(r), stop_text(r)));
}

static void error(reply *r, unsigned status, const char *message, bool streaming)
{
    json_t *value = json_pack("{s:s, s:{s:s, s:s}}", "type", "error", "error", "type",
                              status == MHD_HTTP_SERVICE_UNAVAILABLE ? "overloaded_error"
                              : status < 500                         ? "invalid_request_error"
                                                                     : "api_error",
                              "message", message);
    if (streaming)
        reply_sse(r, "error", value);
    else
        reply_json(r, value);
}

const reply_form anthropic_form = {
    .begin = begin,
    .event = on_event,
    .alive = alive,
    .end = end,
    .whole = whole,
    .error = error,
};
