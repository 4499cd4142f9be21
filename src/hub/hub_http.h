/* HTTP: several requests under way at once, in one thread. What an answer means (redirects,
 * waiting, trying again) is decided above, in hub_request.h. hub_http_curl.c does it by libcurl;
 * hub_http_none.c says that this build has no downloads. Private to this room. */
#ifndef SL_HUB_HUB_HTTP_H
#define SL_HUB_HUB_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice.h"

#define SL_HTTP_URL_MAX  8192u
#define SL_HTTP_NOT_SAID UINT32_MAX

typedef struct sl__http_transfer sl__http_transfer;
struct sl__http_transfer {
    /* The question. The text is borrowed until the transfer is over. */
    const char *url;
    const char *token;     /* goes out as Authorization; NULL: nothing does */
    bool no_proxy;         /* it is for this machine */
    uint64_t first, bytes; /* of the resource; bytes 0: all of it is asked for, without a range */
    /* Takes what comes of the body of a 200 or 206, when the head has been read; false stops the
     * transfer. */
    bool (*take)(sl__http_transfer *transfer, const char *data, size_t size);
    void *ctx;

    /* The answer. */
    uint32_t status;                   /* 0: none came */
    bool complete;                     /* it came whole, as far as its own head says */
    bool unreachable;                  /* no connection came about */
    bool hopeless;                     /* asking again would change nothing: a bad certificate */
    bool has_range;                    /* the head said Content-Range, with: */
    uint64_t range_first, range_total; /* total UINT64_MAX: not said */
    uint32_t retry_after_s;            /* or SL_HTTP_NOT_SAID */
    char redirect[SL_HTTP_URL_MAX];    /* of a 3xx, made absolute; "" */
    char error_code[48];               /* X-Error-Code: what the hub calls its refusal; "" */
    char reason[200];                  /* why there is no whole answer; "" */

    void *handle; /* the implementation's; NULL: not under way */
};

typedef struct sl__http sl__http;

/* At most `connections` at a time. SL_EUNSUPPORTED in a build without downloads. The first two
 * calls in a process must not be at the same time. */
sl_status sl__http_create(sl__http **out, uint32_t connections, sl_error *err);
void sl__http_destroy(sl__http *http); /* NULL is allowed; all transfers must be over */

/* Sends a request; the answer's fields are reset. transfer must stay where it is. */
sl_status sl__http_begin(sl__http *http, sl__http_transfer *transfer, sl_error *err);
/* Moves bytes, waiting for some up to wait_ms; a transfer that is over, or NULL. */
sl__http_transfer *sl__http_next(sl__http *http, uint32_t wait_ms);
void sl__http_cancel(sl__http *http, sl__http_transfer *transfer); /* not under way: nothing */

#endif
