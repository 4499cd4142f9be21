/* HTTP by libcurl: one multi handle, an easy handle a transfer.
 *
 * Redirects are not followed here: each is looked at above, and the token goes only where it is
 * meant to. Connections are kept apart, HTTP/1.1 on each: several ranges in one connection would be
 * no faster than one.
 */
#include <curl/curl.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/fail.h"
#include "hub/hub_http.h"

#define REFUSAL_BYTES_MAX (1u << 20) /* of a page that says why not; nobody reads it */
#define CONNECT_S         30L
#define STALL_S           60L

struct sl__http {
    CURLM *multi;
};

typedef struct exchange {
    CURL *easy;
    struct curl_slist *headers;
    uint64_t refused_bytes;
    char error[CURL_ERROR_SIZE];
} exchange;

sl_status sl__http_create(sl__http **out, uint32_t connections, sl_error *err)
{
    sl__http *http = calloc(1, sizeof *http);
    *out = NULL;
    if (!http) return SL_FAIL_NOMEM(err, "HTTP");
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        free(http);
        return SL_FAIL_NOMEM(err, "HTTP");
    }
    http->multi = curl_multi_init();
    if (!http->multi) {
        sl__http_destroy(http);
        return SL_FAIL_NOMEM(err, "HTTP");
    }
    curl_multi_setopt(http->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
    curl_multi_setopt(http->multi, CURLMOPT_MAXCONNECTS, (long)connections);
    *out = http;
    return SL_OK;
}

void sl__http_destroy(sl__http *http)
{
    if (!http) return;
    if (http->multi) curl_multi_cleanup(http->multi);
    curl_global_cleanup();
    free(http);
}

/* ---- the head of an answer ------------------------------------------------------------------- */

/* The value of the header line, where it has this name; its size, without white space around it. */
static const char *value_of(const char *line, size_t size, const char *name, size_t *value_size)
{
    size_t length = strlen(name);
    if (size <= length || line[length] != ':' || strncasecmp(line, name, length) != 0) return NULL;
    const char *value = line + length + 1, *end = line + size;
    while (value < end && (*value == ' ' || *value == '\t'))
        value++;
    while (end > value && (unsigned char)end[-1] <= ' ')
        end--;
    *value_size = (size_t)(end - value);
    return value;
}

/* Digits up to the end or another character; false where there are none or too many. */
static bool take_digits(const char **text, uint64_t *out)
{
    uint64_t value = 0;
    size_t digits = strspn(*text, "0123456789");
    if (digits == 0 || digits > 18) return false;
    for (size_t i = 0; i < digits; i++)
        value = value * 10 + (uint64_t)((*text)[i] - '0');
    *text += digits;
    *out = value;
    return true;
}

/* "bytes 0-99/1234" or ".../STAR" */
static void take_range(sl__http_transfer *t, const char *text)
{
    uint64_t last;
    if (strncasecmp(text, "bytes ", 6) != 0) return;
    text += 6;
    if (!take_digits(&text, &t->range_first) || *text++ != '-' || !take_digits(&text, &last) ||
        *text++ != '/')
        return;
    if (*text == '*')
        t->range_total = UINT64_MAX;
    else if (!take_digits(&text, &t->range_total))
        return;
    t->has_range = true;
}

static size_t on_header(char *line, size_t unit, size_t count, void *ctx)
{
    sl__http_transfer *t = ctx;
    size_t size = unit * count, value_size;
    char value[128];
    const char *names[] = {"content-range", "retry-after", "x-error-code"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *from = value_of(line, size, names[i], &value_size);
        if (!from || value_size >= sizeof value) continue;
        memcpy(value, from, value_size);
        value[value_size] = '\0';
        const char *at = value;
        uint64_t seconds;
        if (i == 0) take_range(t, value);
        if (i == 1 && take_digits(&at, &seconds) && *at == '\0')
            t->retry_after_s =
                seconds < SL_HTTP_NOT_SAID ? (uint32_t)seconds : SL_HTTP_NOT_SAID - 1;
        if (i == 2) snprintf(t->error_code, sizeof t->error_code, "%.47s", value);
    }
    return size;
}

static void read_status(sl__http_transfer *t)
{
    const exchange *x = t->handle;
    long code = 0;
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &code);
    t->status = code > 0 ? (uint32_t)code : 0;
}

static size_t on_body(char *data, size_t unit, size_t count, void *ctx)
{
    sl__http_transfer *t = ctx;
    exchange *x = t->handle;
    size_t size = unit * count;
    read_status(t);
    if (t->status == 200 || t->status == 206) return t->take(t, data, size) ? size : 0;
    x->refused_bytes += size;
    return x->refused_bytes <= REFUSAL_BYTES_MAX ? size : 0;
}

/* ---- a transfer ------------------------------------------------------------------------------ */

static void end_exchange(sl__http *http, sl__http_transfer *t)
{
    exchange *x = t->handle;
    if (!x) return;
    if (x->easy) {
        curl_multi_remove_handle(http->multi, x->easy);
        curl_easy_cleanup(x->easy);
    }
    curl_slist_free_all(x->headers);
    free(x);
    t->handle = NULL;
}

static CURLcode restrict_protocols(CURL *easy)
{
#if LIBCURL_VERSION_NUM >= 0x075500
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    return curl_easy_setopt(easy, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
}

static bool set_options(sl__http_transfer *t, exchange *x)
{
    CURL *easy = x->easy;
    bool ok = curl_easy_setopt(easy, CURLOPT_URL, t->url) == CURLE_OK &&
              restrict_protocols(easy) == CURLE_OK &&
              curl_easy_setopt(easy, CURLOPT_USERAGENT, "sluice/" SLUICE_VERSION) == CURLE_OK;
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, STALL_S);
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 256L << 10);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->error);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
    if (t->no_proxy) ok = ok && curl_easy_setopt(easy, CURLOPT_PROXY, "") == CURLE_OK;
    if (t->bytes) {
        char range[64];
        snprintf(range, sizeof range, "%" PRIu64 "-%" PRIu64, t->first, t->first + t->bytes - 1);
        ok = ok && curl_easy_setopt(easy, CURLOPT_RANGE, range) == CURLE_OK;
    }
    if (t->token) {
        char line[2048];
        int n = snprintf(line, sizeof line, "Authorization: Bearer %s", t->token);
        x->headers = n > 0 && (size_t)n < sizeof line ? curl_slist_append(NULL, line) : NULL;
        ok = ok && x->headers && curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->headers) == CURLE_OK;
    }
    return ok;
}

sl_status sl__http_begin(sl__http *http, sl__http_transfer *t, sl_error *err)
{
    t->status = 0;
    t->complete = t->unreachable = t->hopeless = t->has_range = false;
    t->retry_after_s = SL_HTTP_NOT_SAID;
    t->redirect[0] = t->error_code[0] = t->reason[0] = '\0';
    exchange *x = calloc(1, sizeof *x);
    if (!x) return SL_FAIL_NOMEM(err, "HTTP");
    t->handle = x;
    x->easy = curl_easy_init();
    if (!x->easy || !set_options(t, x) || curl_multi_add_handle(http->multi, x->easy) != CURLM_OK) {
        end_exchange(http, t);
        return SL_FAIL_NOMEM(err, "HTTP");
    }
    return SL_OK;
}

static void take_result(sl__http_transfer *t, CURLcode code)
{
    const exchange *x = t->handle;
    const char *redirect = NULL;
    read_status(t);
    curl_easy_getinfo(x->easy, CURLINFO_REDIRECT_URL, &redirect);
    if (redirect && strlen(redirect) < sizeof t->redirect)
        memcpy(t->redirect, redirect, strlen(redirect) + 1);
    /* A refusal whose page was too long has still been understood. */
    bool refused = code == CURLE_WRITE_ERROR && x->refused_bytes > REFUSAL_BYTES_MAX;
    t->complete = code == CURLE_OK || refused;
    t->unreachable = code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_CONNECT ||
                     code == CURLE_COULDNT_RESOLVE_PROXY;
    t->hopeless = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE ||
                  code == CURLE_UNSUPPORTED_PROTOCOL || code == CURLE_URL_MALFORMAT;
    if (!t->complete && !t->reason[0])
        snprintf(t->reason, sizeof t->reason, "%.190s",
                 x->error[0] ? x->error : curl_easy_strerror(code));
}

/* Where there is nothing to wait on (no transfer, a name being looked up), curl would not wait. */
static void wait_for_bytes(sl__http *http, int running, uint32_t wait_ms)
{
    int sockets = 0;
    curl_multi_wait(http->multi, NULL, 0, (int)wait_ms, &sockets);
    if (sockets > 0) return;
    if (running > 0 && wait_ms > 10) wait_ms = 10;
    struct timespec pause = {.tv_sec = wait_ms / 1000, .tv_nsec = (long)(wait_ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

sl__http_transfer *sl__http_next(sl__http *http, uint32_t wait_ms)
{
    for (int round = 0; round < 2; round++) {
        int running, left;
        curl_multi_perform(http->multi, &running);
        for (const CURLMsg *m; (m = curl_multi_info_read(http->multi, &left)) != NULL;) {
            sl__http_transfer *t = NULL;
            CURLcode code = m->data.result;
            if (m->msg != CURLMSG_DONE) continue;
            curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
            take_result(t, code);
            end_exchange(http, t);
            return t;
        }
        if (round == 0 && wait_ms > 0) wait_for_bytes(http, running, wait_ms);
    }
    return NULL;
}

void sl__http_cancel(sl__http *http, sl__http_transfer *t)
{
    end_exchange(http, t);
}
