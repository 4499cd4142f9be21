/* Answers on their way out: what all forms have in common. A reply is the sink of its job. */
#include "server/api.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#define ANSWER_MAX ((size_t)64 << 20) /* bytes */
#define CALLS_MAX  4096u

void reply_random_id(char *out, size_t size, const char *prefix)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char random[24] = {0};
    if (getentropy(random, sizeof random) != 0) random[0] = 1; /* an id is a name, no secret */
    int at = snprintf(out, size, "%s", prefix);
    for (size_t i = 0; i < sizeof random && (size_t)at + 1 < size; i++)
        out[at++] = letters[random[i] % (sizeof letters - 1)];
    out[at] = '\0';
}

reply *reply_create(const reply_form *form, const api_model *model, stream *out, bool streaming,
                    const char *prefix)
{
    reply *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    r->form = form;
    r->model = model;
    r->out = out;
    stream_hold(out);
    r->streaming = streaming;
    r->created = (int64_t)time(NULL);
    r->stop = -1;
    r->block = -1;
    reply_random_id(r->id, sizeof r->id, prefix);
    sl__buffer_init(&r->text, ANSWER_MAX);
    sl__buffer_init(&r->reasoning, ANSWER_MAX);
    return r;
}

void reply_free(reply *r)
{
    if (!r) return;
    stream_release(r->out);
    sl__buffer_free(&r->text);
    sl__buffer_free(&r->reasoning);
    for (size_t i = 0; i < r->call_count; i++) {
        sl__buffer_free(&r->calls[i].name);
        sl__buffer_free(&r->calls[i].arguments);
    }
    free(r->calls);
    json_decref(r->chances);
    free(r);
}

/* ---- writing --------------------------------------------------------------------------------- */

void reply_json(reply *r, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    if (text) stream_write(r->out, text, strlen(text));
    free(text);
}

void reply_sse(reply *r, const char *name, json_t *value)
{
    sl__buffer line;
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    if (!text) return;
    sl__buffer_init(&line, ANSWER_MAX);
    if (name) sl__buffer_printf(&line, "event: %s\n", name);
    sl__buffer_append_str(&line, "data: ");
    sl__buffer_append_str(&line, text);
    sl__buffer_append_str(&line, "\n\n");
    if (!line.failed) stream_write(r->out, line.data, line.size);
    sl__buffer_free(&line);
    free(text);
}

unsigned reply_status(sl_status status)
{
    switch (status) {
    case SL_EINVAL:
    case SL_EBUDGET:
        return MHD_HTTP_BAD_REQUEST;
    case SL_ENOMEM:
        return MHD_HTTP_SERVICE_UNAVAILABLE;
    default:
        return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

/* ---- the sink -------------------------------------------------------------------------------- */

static reply_call *new_call(reply *r)
{
    if (r->call_count == CALLS_MAX) return NULL;
    reply_call *grown = realloc(r->calls, (r->call_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    r->calls = grown;
    reply_call *call = &r->calls[r->call_count++];
    *call = (reply_call){.complete = false};
    sl__buffer_init(&call->name, ANSWER_MAX);
    sl__buffer_init(&call->arguments, ANSWER_MAX);
    reply_random_id(call->id, sizeof call->id, "call_");
    return call;
}

static bool remember(reply *r, const sl_event *event)
{
    reply_call *call = r->call_count ? &r->calls[r->call_count - 1] : NULL;
    switch (event->kind) {
    case SL_EVENT_TEXT:
        return sl__buffer_append(&r->text, event->text, event->size);
    case SL_EVENT_REASONING:
        return sl__buffer_append(&r->reasoning, event->text, event->size);
    case SL_EVENT_CALL:
        call = new_call(r);
        return call && sl__buffer_append(&call->name, event->text, event->size);
    case SL_EVENT_ARGUMENTS:
        return call && sl__buffer_append(&call->arguments, event->text, event->size);
    case SL_EVENT_CALL_END:
        if (call) call->complete = event->complete;
        return call != NULL;
    default:
        return true;
    }
}

static void begin(reply *r)
{
    if (r->begun) return;
    r->begun = true;
    stream_set_head(r->out, MHD_HTTP_OK, "text/event-stream");
    r->form->begin(r);
}

static sl_status on_event(void *ctx, const sl_event *event)
{
    reply *r = ctx;
    if (!remember(r, event)) return SL_ENOMEM;
    if (r->streaming) begin(r);
    r->form->event(r, event);
    return SL_OK;
}

static bool on_alive(void *ctx)
{
    reply *r = ctx;
    if (r->streaming) {
        begin(r);
        r->form->alive(r);
    }
    return stream_is_read(r->out);
}

static void on_done(void *ctx, sl_finish finish, int stop, const job_usage *usage,
                    const sl_error *err)
{
    reply *r = ctx;
    r->finish = finish;
    r->stop = stop;
    r->usage = *usage;
    if (err) {
        unsigned status = reply_status(err->status);
        bool late = !stream_set_head(r->out, status, "application/json");
        r->form->error(r, status, err->message, late);
    } else if (finish == SL_FINISH_NONE) {
        bool late = !stream_set_head(r->out, MHD_HTTP_SERVICE_UNAVAILABLE, "application/json");
        r->form->error(r, MHD_HTTP_SERVICE_UNAVAILABLE, "the server is stopping", late);
    } else if (r->streaming) {
        begin(r);
        r->form->end(r);
    } else {
        r->form->whole(r);
    }
    stream_end(r->out);
}

static void on_release(void *ctx)
{
    reply_free(ctx);
}

const job_sink reply_sink = {on_event, on_alive, on_done, on_release};
