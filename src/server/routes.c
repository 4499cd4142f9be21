/* The paths that the server answers. */
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "server/http.h"
#include "server/metrics.h"

#define ANSWER_BYTES ((size_t)64 << 20)
#define TEXT_MAX     ((size_t)64 << 20)

/* ---- generating ------------------------------------------------------------------------------ */

typedef sl_status (*parse_fn)(const api_model *model, const json_t *body, api_request *out,
                              sl_error *err);

/* From the body to a job in the queue. */
static sl_status start_job(exchange *x, const json_t *body, parse_fn parse, const reply_form *form,
                           const char *prefix, api_request *request, sl_error *err)
{
    const api_model *model = &x->server->model;
    SL_TRY(parse(model, body, request, err));
    x->streaming = request->stream;
    x->out = stream_create(ANSWER_BYTES);
    reply *r = x->out ? reply_create(form, model, x->out, request->stream, prefix) : NULL;
    x->j = r ? job_create(&reply_sink, r) : NULL;
    if (!x->j) {
        reply_free(r);
        return SL_FAIL_NOMEM(err, "answer");
    }
    r->usage_wanted = request->usage;
    r->logprobs = request->options.logprobs;
    SL_TRY(api_prepare(model, request, x->j, err));
    r->stops = x->j->stops;
    if (!scheduler_submit(x->server->scheduler, x->j)) {
        return SL_FAIL(err, SL_ECANCELLED, "too many requests wait already");
    }
    return SL_OK;
}

static void generate(exchange *x, parse_fn parse, const reply_form *form, const char *prefix)
{
    json_t *body = NULL;
    sl_error err = {0};
    api_request request = {0};
    sl_status status =
        sl__json_parse(x->body.data ? x->body.data : "", x->body.size, "body", &body, &err);
    if (status == SL_OK) status = start_job(x, body, parse, form, prefix, &request, &err);
    json_decref(body);
    api_request_free(&request);
    if (status == SL_OK) return;
    job_release(x->j);
    stream_release(x->out);
    x->j = NULL;
    x->out = NULL;
    bool full = status == SL_ECANCELLED, wrong = status == SL_EFORMAT || status == SL_EINVAL;
    exchange_error(x,
                   full    ? MHD_HTTP_TOO_MANY_REQUESTS
                   : wrong ? MHD_HTTP_BAD_REQUEST
                           : reply_status(status),
                   err.message);
}

static void chat_completions(exchange *x)
{
    generate(x, openai_chat_parse, &openai_chat_form, "chatcmpl-");
}

static void completions(exchange *x)
{
    generate(x, openai_completion_parse, &openai_completion_form, "cmpl-");
}

static void messages(exchange *x)
{
    generate(x, anthropic_parse, &anthropic_form, "msg_");
}

/* ---- small ones ------------------------------------------------------------------------------ */

static void health(exchange *x)
{
    exchange_json(x, MHD_HTTP_OK, json_pack("{s:s}", "status", "ok"));
}

static void models(exchange *x)
{
    const api_model *m = &x->server->model;
    exchange_json(x, MHD_HTTP_OK,
                  json_pack("{s:s, s:[{s:s, s:s, s:I, s:s, s:i}]}", "object", "list", "data", "id",
                            m->name, "object", "model", "created", (json_int_t)m->since, "owned_by",
                            "sluice", "context_length", (int)m->context_tokens));
}

static void embeddings(exchange *x)
{
    exchange_error(x, MHD_HTTP_NOT_IMPLEMENTED, "this model makes no embeddings");
}

static void metrics(exchange *x)
{
    scheduler_figures figures;
    scheduler_figures_get(x->server->scheduler, &figures);
    metrics_write(&x->bytes, &figures);
    x->status = MHD_HTTP_OK;
    x->type = "text/plain; version=0.0.4; charset=utf-8";
}

static void engine_state(exchange *x)
{
    scheduler_figures figures;
    scheduler_figures_get(x->server->scheduler, &figures);
    exchange_json(x, MHD_HTTP_OK, metrics_json(&figures));
}

/* ---- tokens ---------------------------------------------------------------------------------- */

static sl_status tokenize_body(exchange *x, const json_t *body, sl_error *err)
{
    const json_t *text = json_object_get(body, "content");
    bool special = true, bos = false;
    int32_t *ids;
    size_t count;
    if (!text) text = json_object_get(body, "text");
    if (!text) text = json_object_get(body, "prompt");
    if (!json_is_string(text)) return SL_FAIL(err, SL_EINVAL, "content: expected a string");
    SL_TRY(api_flag(body, "parse_special", &special, err));
    SL_TRY(api_flag(body, "add_special", &bos, err));
    SL_TRY(sl_tokenizer_encode(
        x->server->model.tok, json_string_value(text), json_string_length(text),
        (special ? SL_ENCODE_ADDED : 0u) | (bos ? SL_ENCODE_BOS : 0u), &ids, &count, err));
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer(ids[i]));
    free(ids);
    exchange_json(x, MHD_HTTP_OK, json_pack("{s:o, s:i}", "tokens", list, "count", (int)count));
    return SL_OK;
}

static sl_status detokenize_body(exchange *x, const json_t *body, sl_error *err)
{
    const json_t *list = json_object_get(body, "tokens");
    size_t count = json_array_size(list), size;
    char *text;
    if (!json_is_array(list)) return SL_FAIL(err, SL_EINVAL, "tokens: expected an array of ids");
    int32_t *ids = malloc((count + 1) * sizeof *ids);
    if (!ids) return SL_FAIL_NOMEM(err, "tokens");
    for (size_t i = 0; i < count; i++) {
        json_int_t id = json_integer_value(json_array_get(list, i));
        ids[i] = id >= 0 && id <= INT32_MAX ? (int32_t)id : -1;
        if (json_is_integer(json_array_get(list, i)) && ids[i] >= 0) continue;
        free(ids);
        return SL_FAIL(err, SL_EINVAL, "tokens[%zu]: expected the id of a token", i);
    }
    sl_status status =
        sl_tokenizer_decode(x->server->model.tok, ids, count, false, &text, &size, err);
    free(ids);
    if (status != SL_OK) return status;
    exchange_json(x, MHD_HTTP_OK, json_pack("{s:o}", "content", json_stringn(text, size)));
    free(text);
    return SL_OK;
}

static void with_body(exchange *x, sl_status (*answer)(exchange *, const json_t *, sl_error *))
{
    json_t *body = NULL;
    sl_error err = {0};
    sl_status status =
        sl__json_parse(x->body.data ? x->body.data : "", x->body.size, "body", &body, &err);
    if (status == SL_OK) status = answer(x, body, &err);
    json_decref(body);
    if (status == SL_OK) return;
    exchange_error(x, status == SL_EFORMAT ? MHD_HTTP_BAD_REQUEST : reply_status(status),
                   err.message);
}

static void tokenize(exchange *x)
{
    with_body(x, tokenize_body);
}
static void detokenize(exchange *x)
{
    with_body(x, detokenize_body);
}

/* ---- table ----------------------------------------------------------------------------------- */

static const route routes[] = {
    {"POST", "/v1/chat/completions", chat_completions, false, false},
    {"POST", "/v1/completions", completions, false, false},
    {"POST", "/v1/messages", messages, false, true},
    {"POST", "/v1/embeddings", embeddings, false, false},
    {"GET", "/v1/models", models, false, false},
    {"GET", "/health", health, true, false},
    {"GET", "/metrics", metrics, false, false},
    {"GET", "/engine", engine_state, false, false},
    {"POST", "/tokenize", tokenize, false, false},
    {"POST", "/detokenize", detokenize, false, false},
};

const route *route_find(const char *method, const char *path, bool *other)
{
    *other = false;
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (strcmp(routes[i].path, path) != 0) continue;
        if (strcmp(routes[i].method, method) == 0) return &routes[i];
        *other = true;
    }
    return NULL;
}
