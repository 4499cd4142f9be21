/* HTTP, as libmicrohttpd speaks it: limits, keys, and who may ask. Answers are made by the routes.
 */
#include "server/http.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"

#define BODY_BYTES       ((uint64_t)32 << 20)
#define ANSWER_BYTES     ((size_t)64 << 20) /* that may wait for a client that does not read */
#define QUEUE            64u
#define CONNECTIONS      256u
#define CONNECTION_BYTES ((size_t)64 << 10) /* headers among them */
#define IDLE_SECONDS     120u

/* ---- answers --------------------------------------------------------------------------------- */

void exchange_json(exchange *x, unsigned status, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    x->status = text ? status : MHD_HTTP_INTERNAL_SERVER_ERROR;
    x->type = "application/json";
    sl__buffer_clear(&x->bytes);
    if (text) sl__buffer_append_str(&x->bytes, text);
    free(text);
}

static const char *error_type(unsigned status)
{
    switch (status) {
    case MHD_HTTP_UNAUTHORIZED:
        return "authentication_error";
    case MHD_HTTP_FORBIDDEN:
        return "permission_error";
    case MHD_HTTP_NOT_FOUND:
        return "not_found_error";
    case MHD_HTTP_CONTENT_TOO_LARGE:
        return "request_too_large";
    case MHD_HTTP_TOO_MANY_REQUESTS:
        return "rate_limit_error";
    default:
        return status < 500 ? "invalid_request_error" : "api_error";
    }
}

void exchange_error(exchange *x, unsigned status, const char *message)
{
    const char *type = error_type(status);
    x->retry_later = status == MHD_HTTP_TOO_MANY_REQUESTS;
    if (x->route && x->route->anthropic) {
        exchange_json(x, status,
                      json_pack("{s:s, s:{s:s, s:s}}", "type", "error", "error", "type", type,
                                "message", message));
    } else {
        exchange_json(x, status,
                      json_pack("{s:{s:s, s:s, s:n, s:n}}", "error", "message", message, "type",
                                type, "param", "code"));
    }
}

/* ---- who may ask ----------------------------------------------------------------------------- */

static const char *header(const exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

/* Takes as long whatever the first difference is. */
static bool same_key(const char *given, const char *key)
{
    size_t n = strlen(given), m = strlen(key);
    unsigned char different = n != m;
    for (size_t i = 0; i < n; i++)
        different |= (unsigned char)given[i] ^ (unsigned char)key[m > 0 ? i % m : 0];
    return !different;
}

static bool has_key(const exchange *x)
{
    const char *key = x->server->opt.api_key, *bearer = header(x, "Authorization");
    const char *plain = header(x, "x-api-key");
    if (!key) return true;
    if (bearer && strncmp(bearer, "Bearer ", 7) == 0 && same_key(bearer + 7, key)) return true;
    return plain && same_key(plain, key);
}

/* Whether "name:port" is this machine's own name for itself. */
static bool names_loopback(const char *host)
{
    static const char *const names[] = {"localhost", "127.0.0.1", "[::1]"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n = strlen(names[i]);
        if (strncasecmp(host, names[i], n) == 0 && (host[n] == '\0' || host[n] == ':')) return true;
    }
    return false;
}

/* A page of another site must not use the server through its reader's browser: neither under a name
 * that was made to lead here, nor with requests that browsers send without asking. */
static bool may_ask(const exchange *x)
{
    const sl__server *s = x->server;
    const char *host = header(x, "Host"), *origin = header(x, "Origin");
    if (s->loopback && !s->opt.api_key && host && !names_loopback(host)) return false;
    if (!origin || strcmp(origin, "null") == 0) return !origin;
    if (s->opt.cors && (strcmp(s->opt.cors, "*") == 0 || strcmp(s->opt.cors, origin) == 0)) {
        return true;
    }
    const char *name = strstr(origin, "://");
    return name && host && strcasecmp(name + 3, host) == 0;
}

/* ---- a request ------------------------------------------------------------------------------- */

static void dispatch(exchange *x, const char *method, const char *path)
{
    bool other = false;
    x->route = route_find(method, path, &other);
    if (!may_ask(x)) {
        exchange_error(x, MHD_HTTP_FORBIDDEN, "requests from this site are not allowed");
    } else if (strcmp(method, "OPTIONS") == 0 && x->server->opt.cors) {
        x->status = MHD_HTTP_NO_CONTENT;
    } else if (!x->route) {
        char message[320];
        snprintf(message, sizeof message,
                 other ? "%s is not for %.200s" : "%s %.200s: no such path", method, path);
        exchange_error(x, other ? MHD_HTTP_METHOD_NOT_ALLOWED : MHD_HTTP_NOT_FOUND, message);
    } else if (!x->route->open && !has_key(x)) {
        exchange_error(x, MHD_HTTP_UNAUTHORIZED, "the API key is missing or wrong");
    } else if (x->too_large) {
        exchange_error(x, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
    } else if (x->body.failed) {
        exchange_error(x, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory");
    } else {
        x->route->answer(x);
    }
}

static void add_headers(const exchange *x, struct MHD_Response *response, const char *type)
{
    const sl__server_options *opt = &x->server->opt;
    if (type) MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (x->retry_later) MHD_add_response_header(response, "Retry-After", "5");
    if (!opt->cors) return;
    MHD_add_response_header(response, "Access-Control-Allow-Origin", opt->cors);
    MHD_add_response_header(response, "Access-Control-Allow-Headers",
                            "authorization, content-type, x-api-key, anthropic-version");
    MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST");
}

static enum MHD_Result send_response(exchange *x, unsigned status, const char *type,
                                     struct MHD_Response *response)
{
    if (!response) return MHD_NO;
    add_headers(x, response, type);
    enum MHD_Result result = MHD_queue_response(x->connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result respond(exchange *x)
{
    unsigned status;
    const char *type;
    if (!x->out) {
        const void *bytes = x->fixed ? x->fixed : x->bytes.data ? x->bytes.data : "";
        size_t size = x->fixed ? x->fixed_size : x->bytes.size;
        return send_response(x, x->status, x->type,
                             MHD_create_response_from_buffer(size, (void *)(uintptr_t)bytes,
                                                             x->fixed ? MHD_RESPMEM_PERSISTENT
                                                                      : MHD_RESPMEM_MUST_COPY));
    }
    if (!stream_wait(x->out, x->connection, !x->streaming)) return MHD_YES;
    stream_head(x->out, &status, &type);
    return send_response(x, status, type, stream_respond(x->out, x->connection, !x->streaming));
}

static exchange *exchange_create(sl__server *server, struct MHD_Connection *connection)
{
    exchange *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    x->server = server;
    x->connection = connection;
    sl__buffer_init(&x->body, (size_t)server->opt.body_bytes + 1);
    sl__buffer_init(&x->bytes, ANSWER_BYTES);
    return x;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *path,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_size, void **state)
{
    sl__server *server = ctx;
    exchange *x = *state;
    (void)version;
    if (!x) { /* the headers are there */
        *state = exchange_create(server, connection);
        return *state ? MHD_YES : MHD_NO;
    }
    if (*data_size > 0) {
        if (*data_size > server->opt.body_bytes - x->body.size) x->too_large = true;
        if (!x->too_large) sl__buffer_append(&x->body, data, *data_size);
        *data_size = 0;
        return MHD_YES;
    }
    if (!x->started) {
        x->started = true;
        dispatch(x, method, path);
        sl__buffer_free(&x->body);
    }
    return respond(x);
}

static void on_end(void *ctx, struct MHD_Connection *connection, void **state,
                   enum MHD_RequestTerminationCode code)
{
    exchange *x = *state;
    (void)ctx;
    (void)connection;
    (void)code;
    if (!x) return;
    if (x->j) atomic_store(&x->j->cancelled, true); /* which an answer that is over does not mind */
    if (x->out) stream_break(x->out);
    job_release(x->j);
    stream_release(x->out);
    sl__buffer_free(&x->body);
    sl__buffer_free(&x->bytes);
    free(x);
    *state = NULL;
}

/* ---- the server ------------------------------------------------------------------------------ */

typedef union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
} address;

static sl_status parse_host(const char *host, uint16_t port, address *out, bool *loopback,
                            sl_error *err)
{
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, host, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        *loopback = ntohl(out->v4.sin_addr.s_addr) >> 24 == 127;
        return SL_OK;
    }
    if (inet_pton(AF_INET6, host, &out->v6.sin6_addr) == 1) {
        out->v6.sin6_family = AF_INET6;
        out->v6.sin6_port = htons(port);
        *loopback = IN6_IS_ADDR_LOOPBACK(&out->v6.sin6_addr);
        return SL_OK;
    }
    return SL_FAIL(err, SL_EINVAL, "%s: no numeric address, such as 127.0.0.1", host);
}

static sl_status listen_on(sl__server *s, sl_error *err)
{
    address where;
    const char *host = s->opt.host;
    SL_TRY(parse_host(host, s->opt.port, &where, &s->loopback, err));
    if (!s->loopback && (!s->opt.api_key || !s->opt.api_key[0])) {
        return SL_FAIL(err, SL_EINVAL,
                       "%s is no loopback address: others can reach it, so an API "
                       "key is needed",
                       host);
    }
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                     MHD_USE_AUTO | (where.any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_SOCK_ADDR, &where.any,
        MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        IDLE_SECONDS, MHD_OPTION_LISTENING_ADDRESS_REUSE, 1u, MHD_OPTION_END);
    if (!s->daemon) {
        return SL_FAIL(err, SL_EIO, "%s port %u: cannot listen there; perhaps something else does",
                       host, s->opt.port);
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    s->port = info ? info->port : s->opt.port;
    return SL_OK;
}

sl_status sl__server_start(sl__server **out, const sl__server_options *opt, sl_engine *engine,
                           const sl_template *tmpl, sl_error *err)
{
    *out = NULL;
    sl__server *s = calloc(1, sizeof *s);
    if (!s) return SL_FAIL_NOMEM(err, "server");
    sl_engine_info info;
    sl_engine_info_get(engine, &info);
    s->opt = *opt;
    s->engine = engine;
    if (!s->opt.host) s->opt.host = "127.0.0.1";
    if (!s->opt.queue) s->opt.queue = QUEUE;
    if (!s->opt.body_bytes) s->opt.body_bytes = BODY_BYTES;
    s->model = (api_model){.name = opt->model ? opt->model : "sluice",
                           .tok = sl_engine_tokenizer(engine),
                           .tmpl = tmpl,
                           .vocab_size = info.vocab_size,
                           .context_tokens = info.context_tokens,
                           .max_tokens = opt->max_tokens,
                           .since = (int64_t)time(NULL)};
    sl_engine_generation_defaults(engine, &s->model.defaults);
    sl_status status = scheduler_create(&s->scheduler, engine, s->opt.queue, err);
    if (status == SL_OK) status = listen_on(s, err);
    if (status != SL_OK) {
        sl__server_stop(s);
        return status;
    }
    *out = s;
    return SL_OK;
}

uint16_t sl__server_port(const sl__server *server)
{
    return server->port;
}

/* The jobs first: their ends wake the connections that wait for them. */
void sl__server_stop(sl__server *s)
{
    if (!s) return;
    if (s->daemon) MHD_quiesce_daemon(s->daemon);
    scheduler_stop(s->scheduler);
    if (s->daemon) MHD_stop_daemon(s->daemon);
    scheduler_destroy(s->scheduler);
    free(s);
}
