/* The paths that the server answers. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "base/json.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/page.h"

#define ANSWER_BYTES ((size_t)64 << 20)
#define TEXT_MAX     ((size_t)64 << 20)

/* ---- generating ------------------------------------------------------------------------------ */

typedef sl_status (*parse_fn)(const api_model *model, const json_t *body, api_request *out,
                              sl_error *err);

/* From the body to a job. */
static sl_status make_job(exchange *x, const json_t *body, parse_fn parse, const reply_form *form,
                          api_request *request, sl_error *err)
{
    const api_model *model = &x->server->model;
    SL_TRY(parse(model, body, request, err));
    x->out = stream_create(ANSWER_BYTES);
    reply *r = x->out ? reply_create(form, model, x->out, request->stream) : NULL;
    x->j = r ? job_create(&reply_sink, r) : NULL;
    if (!x->j) {
        reply_free(r);
        return SL_FAIL_NOMEM(err, "answer");
    }
    r->usage_wanted = request->usage;
    r->logprobs = request->options.logprobs;
    SL_TRY(api_prepare(model, request, x->j, err));
    r->stops = x->j->stops;
    r->usage.prompt_tokens = (uint32_t)x->j->count;
    return SL_OK;
}

static void drop_job(exchange *x)
{
    job_release(x->j);
    stream_release(x->out);
    x->j = NULL;
    x->out = NULL;
}

static sl_status parse_body(const exchange *x, json_t **body, sl_error *err)
{
    return sl__json_parse(x->body.data ? x->body.data : "", x->body.size, "body", body, err);
}

static void request_error(exchange *x, sl_status status, const sl_error *err)
{
    exchange_error(x,
                   status == SL_EFORMAT || status == SL_EUNSUPPORTED ? MHD_HTTP_BAD_REQUEST
                                                                     : reply_status(status),
                   err->message);
}

static void generate(exchange *x, parse_fn parse, const reply_form *form)
{
    json_t *body = NULL;
    sl_error err = {0};
    api_request request = {0};
    sl_status status = parse_body(x, &body, &err);
    if (status == SL_OK) status = make_job(x, body, parse, form, &request, &err);
    x->streaming = request.stream;
    if (request.too_long) x->code = "context_length_exceeded";
    json_decref(body);
    api_request_free(&request);
    scheduler_answer answer = SCHEDULER_TAKEN;
    if (status == SL_OK) answer = scheduler_submit(x->server->scheduler, x->j);
    if (status == SL_OK && answer == SCHEDULER_TAKEN) return;
    drop_job(x);
    x->streaming = false;
    if (status != SL_OK) {
        request_error(x, status, &err);
    } else if (answer == SCHEDULER_FULL) {
        exchange_error(x, MHD_HTTP_TOO_MANY_REQUESTS, "too many requests wait already");
    } else {
        exchange_error(x, MHD_HTTP_SERVICE_UNAVAILABLE, "the server is stopping");
    }
}

static void chat_completions(exchange *x)
{
    generate(x, openai_chat_parse, &openai_chat_form);
}

static void completions(exchange *x)
{
    generate(x, openai_completion_parse, &openai_completion_form);
}

static void messages(exchange *x)
{
    generate(x, anthropic_parse, &anthropic_form);
}

/* ---- small ones ------------------------------------------------------------------------------ */

static void health(exchange *x)
{
    exchange_json(x, MHD_HTTP_OK, json_pack("{s:s}", "status", "ok"));
}

/* As both APIs list models: each reads its own members. */
static json_t *model_entry(const api_model *m)
{
    char day[32] = "";
    struct tm utc;
    time_t since = (time_t)m->since;
    if (gmtime_r(&since, &utc)) strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s, s:I}", "id", m->name, "object", "model",
                     "created", (json_int_t)m->since, "owned_by", "sluice", "type", "model",
                     "display_name", m->name, "created_at", day, "context_length",
                     (json_int_t)m->context_tokens);
}

static void models(exchange *x)
{
    const api_model *m = &x->server->model;
    exchange_json(x, MHD_HTTP_OK,
                  json_pack("{s:s, s:[o], s:b, s:s, s:s}", "object", "list", "data", model_entry(m),
                            "has_more", 0, "first_id", m->name, "last_id", m->name));
}

static void one_model(exchange *x)
{
    const api_model *m = &x->server->model;
    const char *name = x->path + strlen(x->route->path);
    if (strcmp(name, m->name) == 0)
        exchange_json(x, MHD_HTTP_OK, model_entry(m));
    else
        exchange_error(x, MHD_HTTP_NOT_FOUND, "there is no model of this name here");
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

static void engine_experts(exchange *x)
{
    exchange_json(x, MHD_HTTP_OK, scheduler_experts_json(x->server->scheduler));
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

/* What Anthropic's API would count as a request's input. */
static sl_status count_tokens_body(exchange *x, const json_t *body, sl_error *err)
{
    api_request request = {0};
    job *j = job_create(NULL, NULL);
    sl_status status = j ? SL_OK : SL_FAIL_NOMEM(err, "prompt");
    if (status == SL_OK) status = anthropic_parse_prompt(body, &request, err);
    if (status == SL_OK) status = api_prompt(&x->server->model, &request, j, err);
    if (status == SL_OK)
        exchange_json(x, MHD_HTTP_OK, json_pack("{s:I}", "input_tokens", (json_int_t)j->count));
    api_request_free(&request);
    job_release(j);
    return status;
}

static void with_body(exchange *x, sl_status (*answer)(exchange *, const json_t *, sl_error *))
{
    json_t *body = NULL;
    sl_error err = {0};
    sl_status status = parse_body(x, &body, &err);
    if (status == SL_OK) status = answer(x, body, &err);
    json_decref(body);
    if (status != SL_OK) request_error(x, status, &err);
}

static void tokenize(exchange *x)
{
    with_body(x, tokenize_body);
}
static void detokenize(exchange *x)
{
    with_body(x, detokenize_body);
}
static void count_tokens(exchange *x)
{
    with_body(x, count_tokens_body);
}

/* ---- table ----------------------------------------------------------------------------------- */

static const route routes[] = {
    {"POST", "/v1/chat/completions", chat_completions, false},
    {"POST", "/v1/completions", completions, false},
    {"POST", "/v1/messages", messages, false},
    {"POST", "/v1/messages/count_tokens", count_tokens, false},
    {"POST", "/v1/embeddings", embeddings, false},
    {"GET", "/v1/models", models, false},
    {"GET", "/v1/models/", one_model, false},
    {"GET", "/health", health, true},
    {"GET", "/metrics", metrics, false},
    {"GET", "/engine", engine_state, false},
    {"GET", "/engine/experts", engine_experts, false},
    {"GET", "/", page_answer, true},
    {"GET", "/favicon.ico", page_icon, true},
    {"POST", "/tokenize", tokenize, false},
    {"POST", "/detokenize", detokenize, false},
};

static bool leads_to(const char *path, const char *routed)
{
    size_t n = strlen(routed);
    if (n > 1 && routed[n - 1] == '/') return strncmp(path, routed, n) == 0 && path[n] != '\0';
    return strcmp(path, routed) == 0;
}

const route *route_find(const char *method, const char *path, const char **other)
{
    *other = NULL;
    if (strcmp(method, "HEAD") == 0) method = "GET"; /* whose body is then not sent */
    for (size_t i = 0; i < sizeof routes / sizeof routes[0]; i++) {
        if (!leads_to(path, routes[i].path)) continue;
        if (strcmp(routes[i].method, method) == 0) return &routes[i];
        *other = routes[i].method;
    }
    return NULL;
}
