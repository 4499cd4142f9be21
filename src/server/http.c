/* HTTP, as libmicrohttpd speaks it: limits, keys, and who may ask. Answers are made by the routes.
 */
#include "server/http.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/sysmem.h"

#define BODY_BYTES       ((uint64_t)32 << 20)
#define BODIES           2u /* as large as they may be, that are held at a time; small ones apart */
#define SMALL_BYTES      ((uint64_t)1 << 20)
#define ANSWER_BYTES     ((size_t)64 << 20) /* that may wait for a client that does not read */
#define QUEUE            64u
#define CONNECTIONS      256u
#define CONNECTION_BYTES ((size_t)64 << 10) /* headers among them */
#define IDLE_SECONDS     120u
#define THREADS          4u                     /* so that a long prompt holds up few others */
#define SUNK_BYTES       ((uint64_t)256 << 20)  /* of a refused body, read so that it can be said */
#define WHY_BYTES        320u                   /* of a message */
#define FAREWELL_NS      ((uint64_t)2000000000) /* for the last bytes of answers, at the end */

/* ---- answers --------------------------------------------------------------------------------- */

void exchange_json(exchange *x, unsigned status, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT) : NULL;
    json_decref(value);
    x->status = text ? status : MHD_HTTP_INTERNAL_SERVER_ERROR;
    x->type = "application/json";
    sl__buffer_clear(&x->bytes);
    sl__buffer_append_str(&x->bytes, text ? text : "{\"error\":{\"message\":\"out of memory\"}}");
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
    if (x->anthropic) {
        exchange_json(x, status,
                      json_pack("{s:s, s:{s:s, s:o}}", "type", "error", "error", "type", type,
                                "message", api_line(message)));
    } else {
        exchange_json(x, status,
                      json_pack("{s:{s:o, s:s, s:n, s:s?}}", "error", "message", api_line(message),
                                "type", type, "param", "code", x->code));
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
    if (bearer && strncasecmp(bearer, "Bearer ", 7) == 0 && same_key(bearer + 7, key)) return true;
    return plain && same_key(plain, key);
}

/* Whether "name:port" is this machine's own name for itself. */
static bool names_loopback(const char *host)
{
    static const char *const names[] = {"localhost", "[::1]"};
    char number[16];
    struct in_addr v4;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        size_t n = strlen(names[i]);
        if (strncasecmp(host, names[i], n) == 0 && (host[n] == '\0' || host[n] == ':')) return true;
    }
    size_t n = strcspn(host, ":");
    if (n >= sizeof number) return false;
    snprintf(number, sizeof number, "%.*s", (int)n, host);
    return inet_pton(AF_INET, number, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

/* A page of another site must not use the server through its reader's browser: neither under a name
 * that was made to lead here, nor with requests that browsers send without asking. False: why not.
 */
static bool may_ask(const exchange *x, char why[WHY_BYTES])
{
    const sl__server *s = x->server;
    const char *host = header(x, "Host"), *origin = header(x, "Origin");
    if (s->loopback && !s->opt.api_key && host && !names_loopback(host)) {
        snprintf(why, WHY_BYTES,
                 "Host: %.100s: not a name of this machine's own; with --api-key any will do",
                 host);
        return false;
    }
    if (!origin) return true;
    if (s->opt.cors && (strcmp(s->opt.cors, "*") == 0 || strcmp(s->opt.cors, origin) == 0)) {
        return true;
    }
    const char *name = strcmp(origin, "null") == 0 ? NULL : strstr(origin, "://");
    if (name && host && strcasecmp(name + 3, host) == 0) return true;
    snprintf(why, WHY_BYTES, "pages of %.100s may not use this server; --cors %.100s lets them",
             origin, origin);
    return false;
}

/* ---- a request ------------------------------------------------------------------------------- */

static void no_route(exchange *x, const char *method, const char *path)
{
    char message[320];
    if (x->allow) {
        snprintf(message, sizeof message, "%.200s is for %s, not for %.40s", path, x->allow,
                 method);
        exchange_error(x, MHD_HTTP_METHOD_NOT_ALLOWED, message);
    } else {
        snprintf(message, sizeof message, "%.40s %.200s: no such path", method, path);
        exchange_error(x, MHD_HTTP_NOT_FOUND, message);
    }
}

/* What the headers alone tell: who is refused gets an answer, and no body of theirs is kept. */
static void admit(exchange *x, const char *method, const char *path)
{
    const char *length = header(x, "Content-Length");
    char why[WHY_BYTES];
    x->route = route_find(method, path, &x->allow);
    x->anthropic = strncmp(path, "/v1/messages", 12) == 0 || header(x, "anthropic-version");
    if (!may_ask(x, why)) {
        exchange_error(x, MHD_HTTP_FORBIDDEN, why);
    } else if (strcmp(method, "OPTIONS") == 0 && x->server->opt.cors) {
        x->status = MHD_HTTP_NO_CONTENT;
    } else if (!x->route) {
        no_route(x, method, path);
    } else if (!x->route->open && !has_key(x)) {
        exchange_error(x, MHD_HTTP_UNAUTHORIZED, "the API key is missing or wrong");
    } else if (length && strtoull(length, NULL, 10) > x->server->opt.body_bytes) {
        exchange_error(x, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
    }
}

static void free_body(exchange *x)
{
    sl__buffer_free(&x->body);
    atomic_fetch_sub(&x->server->body_bytes, x->held_bytes);
    x->held_bytes = 0;
}

/* Counts a piece of a body among those of all; false: there are too many. */
static bool hold_body(exchange *x, size_t size)
{
    sl__server *s = x->server;
    if (x->body_bytes <= SMALL_BYTES) return true;
    x->held_bytes += size;
    return atomic_fetch_add(&s->body_bytes, size) + size <= BODIES * s->opt.body_bytes;
}

/* A piece of the body; false: it is time to hang up. */
static bool take_body(exchange *x, const char *data, size_t size)
{
    x->body_bytes += size;
    if (x->status) return x->body_bytes <= x->server->opt.body_bytes + SUNK_BYTES;
    if (x->body_bytes > x->server->opt.body_bytes) {
        exchange_error(x, MHD_HTTP_CONTENT_TOO_LARGE, "the body is too large");
    } else if (!hold_body(x, size)) {
        exchange_error(x, MHD_HTTP_SERVICE_UNAVAILABLE, "too many large bodies come at once");
    } else if (!sl__buffer_append(&x->body, data, size)) {
        exchange_error(x, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory");
    }
    if (x->status) free_body(x);
    return true;
}

static void add_headers(const exchange *x, struct MHD_Response *response, const char *type)
{
    const sl__server_options *opt = &x->server->opt;
    if (type) MHD_add_response_header(response, "Content-Type", type);
    MHD_add_response_header(response, "Cache-Control", "no-store");
    MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
    if (x->streaming) MHD_add_response_header(response, "X-Accel-Buffering", "no");
    if (x->policy) {
        MHD_add_response_header(response, "Content-Security-Policy", x->policy);
        MHD_add_response_header(response, "Referrer-Policy", "no-referrer");
    }
    if (!opt->cors) return;
    const char *wanted = header(x, "Access-Control-Request-Headers");
    MHD_add_response_header(response, "Access-Control-Allow-Origin", opt->cors);
    MHD_add_response_header(response, "Access-Control-Allow-Headers",
                            wanted ? wanted : "authorization, content-type");
    MHD_add_response_header(response, "Access-Control-Allow-Methods", "GET, POST");
    MHD_add_response_header(response, "Access-Control-Max-Age", "600");
}

static void add_status_headers(const exchange *x, struct MHD_Response *response, unsigned status)
{
    if (status == MHD_HTTP_TOO_MANY_REQUESTS || status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, "Retry-After", "5");
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED && x->allow)
        MHD_add_response_header(response, "Allow", x->allow);
}

static enum MHD_Result send_response(exchange *x, unsigned status, const char *type,
                                     struct MHD_Response *response)
{
    if (!response) return MHD_NO;
    add_headers(x, response, type);
    add_status_headers(x, response, status);
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
    if (!x->streaming && stream_is_broken(x->out)) return MHD_NO; /* a part is no answer */
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
    atomic_fetch_add(&server->exchanges, 1);
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
        *state = x = exchange_create(server, connection);
        if (!x) return MHD_NO;
        admit(x, method, path);
        return x->status && header(x, "Expect") ? respond(x) : MHD_YES;
    }
    if (*data_size > 0) {
        bool goes_on = take_body(x, data, *data_size);
        *data_size = 0;
        return goes_on ? MHD_YES : MHD_NO;
    }
    if (!x->started) {
        x->started = true;
        x->path = path;
        if (!x->status) x->route->answer(x);
        free_body(x);
        if (x->body_bytes > SMALL_BYTES) sl__mem_trim(); /* what parsing took is many times that */
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
    free_body(x);
    sl__buffer_free(&x->bytes);
    atomic_fetch_sub(&x->server->exchanges, 1);
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
    /* Not epoll: by its edges the library may miss the end of what comes at once with its end. */
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ITC |
                     (where.any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    s->daemon = MHD_start_daemon(
        flags, 0, NULL, NULL, on_request, s, MHD_OPTION_SOCK_ADDR, &where.any,
        MHD_OPTION_NOTIFY_COMPLETED, on_end, NULL, MHD_OPTION_CONNECTION_LIMIT, CONNECTIONS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_BYTES, MHD_OPTION_CONNECTION_TIMEOUT,
        IDLE_SECONDS, MHD_OPTION_THREAD_POOL_SIZE, THREADS, MHD_OPTION_END);
    if (!s->daemon) {
        return SL_FAIL(err, SL_EIO, "%s port %u: cannot listen there; perhaps something else does",
                       host, s->opt.port);
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    s->port = info ? info->port : s->opt.port;
    return SL_OK;
}

static sl_status open_prefixes(sl__server *s, sl_error *err)
{
    const sl__server_options *opt = &s->opt;
    sl_prefix_cache_options prefixes = {.folder = opt->prefixes,
                                        .memory_bytes = opt->prefix_memory_bytes,
                                        .disk_bytes = opt->prefix_disk_bytes,
                                        .message = opt->log,
                                        .message_ctx = opt->log_ctx};
    if (!opt->prefix_memory_bytes && !(opt->prefixes && opt->prefix_disk_bytes)) return SL_OK;
    if (!opt->prefixes || opt->prefixes_asked) {
        return sl_prefix_cache_open(&s->prefixes, s->engine, &prefixes, err);
    }
    sl_error why = {0};
    if (sl_prefix_cache_open(&s->prefixes, s->engine, &prefixes, &why) == SL_OK) return SL_OK;
    sl_error line = {0}; /* another server of the model has it, or it cannot be written */
    sl__fail(&line, SL_EIO, "prompts are kept in memory alone: %s", why.message);
    if (opt->log) opt->log(opt->log_ctx, line.message);
    prefixes.folder = NULL;
    return sl_prefix_cache_open(&s->prefixes, s->engine, &prefixes, err);
}

/* It is in every answer. */
static sl_status check_name(const char *name, sl_error *err)
{
    json_t *text = json_string(name);
    json_decref(text);
    if (text) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%s: no name in UTF-8; --name gives the model another", name);
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
                           .words = opt->words,
                           .tool_form = api_tool_form(tmpl),
                           .vocab_size = info.vocab_size,
                           .context_tokens = info.context_tokens,
                           .max_tokens = opt->max_tokens,
                           .since = (int64_t)time(NULL)};
    sl_engine_generation_defaults(engine, &s->model.defaults);
    sl_status status = check_name(s->model.name, err);
    if (status == SL_OK) status = open_prefixes(s, err);
    if (status == SL_OK)
        status = scheduler_create(&s->scheduler, engine, s->prefixes, s->opt.queue, err);
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

/* The jobs first: their ends wake the connections that wait for them, which then have a moment to
 * say so to their clients. */
void sl__server_stop(sl__server *s)
{
    if (!s) return;
    MHD_socket listening = s->daemon ? MHD_quiesce_daemon(s->daemon) : MHD_INVALID_SOCKET;
    scheduler_stop(s->scheduler);
    uint64_t until = sl__now_ns() + FAREWELL_NS;
    while (atomic_load(&s->exchanges) > 0 && sl__now_ns() < until)
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    if (s->daemon) MHD_stop_daemon(s->daemon);
    if (listening != MHD_INVALID_SOCKET) close(listening);
    scheduler_destroy(s->scheduler);
    sl_prefix_cache_close(s->prefixes);
    free(s);
}
