#include "hub/hub_request.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"

enum { REDIRECTS_MAX = 10, WAIT_MAX_S = 300, BACKOFF_MAX_S = 16, TICK_MS = 100 };

sl_status sl__hub_request_init(sl__hub_request *request, const sl__hub_client *client,
                               const char *start, const char *known_url, const char *what,
                               sl_error *err)
{
    *request = (sl__hub_request){.what = what};
    size_t front = strlen(client->settings.endpoint), size = strlen(start);
    request->start = malloc(front + size + 1);
    if (request->start) {
        memcpy(request->start, client->settings.endpoint, front);
        memcpy(request->start + front, start, size + 1);
        request->url = strdup(known_url ? known_url : request->start);
    }
    if (request->url) return SL_OK;
    sl__hub_request_free(request);
    return SL_FAIL_NOMEM(err, "request");
}

void sl__hub_request_free(sl__hub_request *request)
{
    free(request->start);
    free(request->url);
    request->start = request->url = NULL;
}

sl_status sl__hub_request_begin(sl__hub_request *request, sl__hub_client *client, sl_error *err)
{
    sl__http_transfer *t = &request->transfer;
    sl__hub_origin origin;
    bool read = sl__hub_origin_of(&origin, request->url);
    assert(read && sl__hub_origin_safe(&origin)); /* the endpoint, or judged below */
    bool hub = sl__hub_origin_same(&origin, &client->settings.origin);
    t->url = request->url;
    t->token = hub && client->settings.token[0] ? client->settings.token : NULL;
    t->no_proxy = sl__hub_origin_local(&origin);
    request->note[0] = '\0';
    return sl__http_begin(client->http, t, err);
}

/* ---- judging --------------------------------------------------------------------------------- */

static bool set_url(sl__hub_request *request, const char *url, sl_error *err)
{
    char *copy = strdup(url);
    if (!copy) {
        (void)SL_FAIL_NOMEM(err, "request");
        return false;
    }
    free(request->url);
    request->url = copy;
    return true;
}

static sl__hub_verdict follow(sl__hub_request *request, const sl__hub_client *client, sl_error *err)
{
    const char *to = request->transfer.redirect;
    sl__hub_origin origin;
    if (++request->redirects > REDIRECTS_MAX) {
        sl__fail(err, SL_EIO, "%s: %s: redirected more than %d times", client->repo, request->what,
                 REDIRECTS_MAX);
        return SL_HUB_FAILED;
    }
    if (!to[0] || !sl__hub_origin_of(&origin, to) || !sl__hub_origin_safe(&origin)) {
        sl__fail(err, SL_EIO, "%s: %s: redirected to \"%.200s\", which is refused: not https",
                 client->repo, request->what, to);
        return SL_HUB_FAILED;
    }
    request->begin_ns = 0;
    return set_url(request, to, err) ? SL_HUB_AGAIN : SL_HUB_FAILED;
}

/* Tries again after a while: what the server asked for, else longer each time. */
static sl__hub_verdict try_again(sl__hub_request *request, const sl__hub_client *client,
                                 const char *why, sl_error *err)
{
    const sl__http_transfer *t = &request->transfer;
    uint32_t wait_s = request->failures < 1 ? 0 : 1u << (request->failures - 1);
    if (wait_s > BACKOFF_MAX_S) wait_s = BACKOFF_MAX_S;
    bool busy = t->status == 429;
    if (busy && wait_s == 0) wait_s = 1;
    if (t->retry_after_s != SL_HTTP_NOT_SAID && t->status >= 400) wait_s = t->retry_after_s;
    if (++request->failures >= client->tries || wait_s > WAIT_MAX_S) {
        if (wait_s > WAIT_MAX_S)
            sl__fail(err, SL_EIO, "%s: %s: the hub asks to come back in %u s; what is there stays",
                     client->repo, request->what, wait_s);
        else
            sl__fail(err, SL_EIO, "%s: %s: %s (tries: %u)", client->repo, request->what, why,
                     request->failures);
        return SL_HUB_FAILED;
    }
    request->begin_ns = sl__now_ns() + (uint64_t)wait_s * 1000000000u;
    if (wait_s > 0)
        snprintf(request->note, sizeof request->note, "%.100s: waiting %u s", why, wait_s);
    return SL_HUB_AGAIN;
}

/* The hub itself said no. */
static sl__hub_verdict refused(const sl__hub_request *request, const sl__hub_client *client,
                               sl_error *err)
{
    const sl__http_transfer *t = &request->transfer;
    const char *repo = client->repo;
    bool gated = strcmp(t->error_code, "GatedRepo") == 0, token = client->settings.token[0] != '\0';
    if (t->status == 401 && !token)
        sl__fail(err, SL_EIO,
                 "%s: the hub wants a token: the model is gated or private, or does not exist; set "
                 "HF_TOKEN (%s/settings/tokens)",
                 repo, client->settings.endpoint);
    else if (t->status == 403 || (t->status == 401 && gated))
        sl__fail(err, SL_EIO,
                 "%s: the hub refuses access: ask for it at %s/%s with the account of the token",
                 repo, client->settings.endpoint, repo);
    else if (t->status == 401)
        sl__fail(err, SL_EIO,
                 "%s: the hub does not take the token (HF_TOKEN), or has no such model", repo);
    else if (strcmp(t->error_code, "RepoNotFound") == 0)
        sl__fail(err, SL_EIO, "%s: the hub has no such model, or none that the token may see",
                 repo);
    else if (strcmp(t->error_code, "RevisionNotFound") == 0)
        sl__fail(err, SL_EIO, "%s: the hub has no such revision of it: %s", repo, request->what);
    else if (t->status == 404 || t->status == 410)
        sl__fail(err, SL_EIO, "%s: the hub has no such thing: %s", repo, request->what);
    else
        sl__fail(err, SL_EIO, "%s: %s: the server answers with status %u", repo, request->what,
                 t->status);
    return SL_HUB_FAILED;
}

sl__hub_verdict sl__hub_request_judge(sl__hub_request *request, const sl__hub_client *client,
                                      sl_error *err)
{
    const sl__http_transfer *t = &request->transfer;
    char why[240];
    if (t->hopeless || (t->unreachable && request->first_contact)) {
        sl__fail(err, SL_EIO, "%s: %s cannot be reached: %s", client->repo,
                 client->settings.endpoint, t->reason);
        return SL_HUB_FAILED;
    }
    if (t->status >= 300 && t->status < 400) return follow(request, client, err);
    if (t->status == 200 || t->status == 206 || t->status == 0) {
        if (t->status && t->complete) return SL_HUB_DONE;
        return try_again(request, client, t->reason[0] ? t->reason : "no answer", err);
    }
    request->redirects = 0;
    if (t->status == 408 || t->status == 429 || t->status >= 500) {
        snprintf(why, sizeof why,
                 t->status == 429 ? "the hub is asked too often (status %u)"
                                  : "the server is in trouble (status %u)",
                 t->status);
        return try_again(request, client, why, err);
    }
    /* An address elsewhere is good for a while only: the hub gives another. */
    if (strcmp(request->url, request->start) != 0) {
        if (!set_url(request, request->start, err)) return SL_HUB_FAILED;
        snprintf(why, sizeof why, "the server of the files answers with status %u", t->status);
        return try_again(request, client, why, err);
    }
    return refused(request, client, err);
}

/* ---- a whole answer -------------------------------------------------------------------------- */

static bool take_all(sl__http_transfer *transfer, const char *data, size_t size)
{
    return sl__buffer_append(transfer->ctx, data, size);
}

static sl_status wait_until(const sl__hub_client *client, const sl__hub_request *request)
{
    SL_TRY(client->tick(client->tick_ctx, request->note[0] ? request->note : NULL));
    while (sl__now_ns() < request->begin_ns) {
        sl__http_next(client->http, TICK_MS);
        SL_TRY(client->tick(client->tick_ctx, NULL));
    }
    return SL_OK;
}

static sl_status get(sl__hub_client *client, sl__hub_request *request, sl__buffer *out,
                     sl_error *err)
{
    for (;;) {
        SL_TRY(wait_until(client, request));
        sl__buffer_clear(out);
        SL_TRY(sl__hub_request_begin(request, client, err));
        while (!sl__http_next(client->http, TICK_MS)) {
            sl_status status = client->tick(client->tick_ctx, NULL);
            if (status != SL_OK) {
                sl__http_cancel(client->http, &request->transfer);
                return status;
            }
        }
        if (out->failed)
            return SL_FAIL(err, SL_EFORMAT,
                           "%s: %s: an answer of more than %zu bytes, or no memory", client->repo,
                           request->what, out->limit);
        sl__hub_verdict verdict = sl__hub_request_judge(request, client, err);
        if (verdict == SL_HUB_DONE) return SL_OK;
        if (verdict == SL_HUB_FAILED) return SL_EIO;
    }
}

sl_status sl__hub_get(sl__hub_client *client, const char *start, const char *what, sl__buffer *out,
                      sl_error *err)
{
    sl__hub_request *request = malloc(sizeof *request);
    if (!request) return SL_FAIL_NOMEM(err, "request");
    sl_status status = sl__hub_request_init(request, client, start, NULL, what, err);
    if (status == SL_OK) {
        request->first_contact = true;
        request->transfer.take = take_all;
        request->transfer.ctx = out;
        status = get(client, request, out, err);
        sl__hub_request_free(request);
    }
    free(request);
    return status;
}
