/* A request until its answer is known: redirects, waiting, trying again, and what a refusal means
 * to a user. Private to this room.
 *
 *     begin ── http ── judge ─┬─ DONE     the answer came
 *       ▲                     ├─ AGAIN    redirected, cut off, busy: begin again at begin_ns
 *       └─────────────────────┘  FAILED   err says why
 */
#ifndef SL_HUB_HUB_REQUEST_H
#define SL_HUB_HUB_REQUEST_H

#include "hub/hub_http.h"
#include "hub/hub_settings.h"

#define SL_HUB_TRIES_DEFAULT 6u

/* Who asks. tick is called now and then while something is waited for, with a note for the user
 * (NULL: as before); anything but SL_OK stops. */
typedef struct sl__hub_client {
    sl__hub_settings settings;
    sl__http *http;
    const char *repo; /* for messages; borrowed */
    uint32_t tries;   /* of a request that comes no further */
    sl_status (*tick)(void *ctx, const char *note);
    void *tick_ctx;
} sl__hub_client;

typedef enum sl__hub_verdict { SL_HUB_DONE, SL_HUB_AGAIN, SL_HUB_FAILED } sl__hub_verdict;

typedef struct sl__hub_request {
    sl__http_transfer transfer;
    const char *what;   /* for messages: a file's path; borrowed */
    char *start;        /* URL on the hub; owned */
    char *url;          /* after redirects; owned */
    bool first_contact; /* a hub that cannot be reached at all is not tried again */
    uint32_t redirects, failures;
    uint64_t begin_ns; /* not before */
    char note[160];    /* why it waits; "" */
} sl__hub_request;

/* A request for endpoint + what follows it. known_url (may be NULL): where redirects led before.
 * transfer.take and .ctx are the caller's to set, first and bytes before each begin. */
sl_status sl__hub_request_init(sl__hub_request *request, const sl__hub_client *client,
                               const char *start, const char *known_url, const char *what,
                               sl_error *err);
void sl__hub_request_free(sl__hub_request *request); /* not under way; a zeroed one is allowed */

sl_status sl__hub_request_begin(sl__hub_request *request, sl__hub_client *client, sl_error *err);
/* Of a transfer that is over. The caller may have cleared transfer.complete, with a reason. */
sl__hub_verdict sl__hub_request_judge(sl__hub_request *request, const sl__hub_client *client,
                                      sl_error *err);

/* One answer, whole, in memory: at most out's limit. */
sl_status sl__hub_get(sl__hub_client *client, const char *start, const char *what, sl__buffer *out,
                      sl_error *err);

#endif
