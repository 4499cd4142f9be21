/* The loop of a download. One thread; libcurl moves the bytes.
 *
 *     files   waiting ─ open ──────────────────────── done
 *                        │  pieces: missing ─ asked ─ there
 *     lanes   ┌ lane 0 ──┤ file, [at, end) ── request ── bytes are written where they belong
 *             ├ lane 1 ──┤
 *             └ …        └ checksum runs behind the pieces that are there, in order
 *
 * A lane is one connection's work. The first request for a file asks the hub where it lies; once
 * that is known, the other lanes ask there at once, and the hub is not asked again while it holds.
 * The checksum follows while the bytes are still in the page cache, and takes no pass of its own.
 */
#include "hub/hub_download.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "hub/hub_digest.h"
#include "hub/hub_partial.h"

#define HASH_STEP_BYTES (4u << 20)
#define PROGRESS_BYTES  (1u << 20) /* so much more makes up for failures before */
#define TICK_MS         100u

typedef struct item {
    const sl__hub_file *file;
    enum { ITEM_WAITING, ITEM_OPEN, ITEM_DONE } state;
    sl__hub_partial partial;
    int lock;
    char *url;      /* where it lies; owned; NULL: not known */
    bool locating;  /* a lane is asking the hub */
    bool streaming; /* a lane takes all of it: the server has no ranges */
    bool ranged;    /* the server has ranges */
    uint32_t next;  /* no piece before it is missing */
    uint32_t solid; /* all pieces before it are there */
    sl__hub_digest *sum;
    uint64_t summed; /* bytes */
    uint32_t spoilt; /* times that the checksum was wrong */
} item;

typedef struct lane {
    struct work *work;
    sl__hub_request request;
    item *item;       /* NULL: idle */
    bool running;     /* its transfer is under way; else it waits for begin_ns */
    uint32_t piece;   /* the one that at lies in */
    uint64_t at, end; /* of the file: the next byte to come, and where to stop */
    uint64_t came;    /* bytes since the last failure */
    bool begun;       /* the answer's head has been looked at */
} lane;

typedef struct work {
    sl__hub_download *download;
    sl_error *err;
    sl_status status; /* of what failed inside a callback */
    item *items;
    size_t item_count, done_count, first_open;
    lane *lanes;
    char *buffer; /* HASH_STEP_BYTES */
} work;

/* ---- bytes that come ------------------------------------------------------------------------- */

static bool stop(lane *l, const char *why)
{
    snprintf(l->request.transfer.reason, sizeof l->request.transfer.reason, "%s", why);
    return false;
}

/* (Re)starts the sum, and what is known of the pieces' order. */
static sl_status begin_sum(item *it, sl_error *err)
{
    sl__hub_digest_destroy(it->sum);
    it->sum = NULL;
    it->summed = 0;
    it->next = it->solid = 0;
    return sl__hub_digest_create(&it->sum, it->file->digest, it->file->size, err);
}

/* The lane takes all of the file from the front. Nothing that was there counts any more: it is
 * about to be written over, and the sum must be of what is on the disk in the end. */
static bool begin_stream(lane *l)
{
    item *it = l->item;
    work *w = l->work;
    it->streaming = true;
    l->piece = 0;
    l->at = 0;
    l->end = it->file->size;
    w->status = sl__hub_partial_reset(&it->partial, w->err);
    if (w->status == SL_OK) w->status = begin_sum(it, w->err);
    return w->status == SL_OK;
}

/* The head of an answer: whether what follows is what was asked for. A server without ranges sends
 * the whole file, and is taken at its word. */
static bool begin_body(lane *l)
{
    sl__http_transfer *t = &l->request.transfer;
    item *it = l->item;
    l->begun = true;
    if (t->status == 206) {
        if (!t->has_range || t->range_first != l->at)
            return stop(l, "another range than asked for");
        if (t->range_total != UINT64_MAX && t->range_total != it->file->size)
            return stop(l, "another size than the hub lists");
        it->ranged = true;
    } else if (t->bytes > 0 && it->ranged) {
        return stop(l, "the whole file instead of a range");
    }
    bool whole = t->status == 200 && t->bytes > 0;
    if ((whole || it->streaming) && !begin_stream(l)) return false;
    it->locating = false;
    if (it->url) return true;
    it->url = strdup(l->request.url);
    if (!it->url) l->work->status = SL_FAIL_NOMEM(l->work->err, "request");
    return it->url != NULL;
}

static bool take(sl__http_transfer *t, const char *data, size_t size)
{
    lane *l = t->ctx;
    work *w = l->work;
    sl__hub_partial *p = &l->item->partial;
    if (!l->begun && !begin_body(l)) return false;
    if (size > l->end - l->at) return stop(l, "more bytes than asked for");
    w->status = sl__file_pwrite_all(p->fd, p->path, data, size, l->at, w->err);
    if (w->status != SL_OK) return stop(l, "the disk");
    l->at += size;
    l->came += size;
    if (l->came >= PROGRESS_BYTES && !l->item->streaming) l->request.failures = 0;
    while (l->piece < p->piece_count && l->at >= sl__hub_piece_end(p, l->piece) &&
           w->status == SL_OK)
        w->status = sl__hub_partial_mark(p, l->piece++, w->err);
    return w->status == SL_OK;
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static sl_status start_url(sl__buffer *url, const sl__hub_download *d, const sl__hub_file *file,
                           sl_error *err)
{
    sl__buffer_init(url, 4 * SL_HTTP_URL_MAX);
    if (sl__buffer_printf(url, "/%s/resolve/%s/", d->client->repo, d->list->commit) &&
        sl__hub_url_append(url, file->path, true))
        return SL_OK;
    sl__buffer_free(url);
    return SL_FAIL_NOMEM(err, "request");
}

/* Asks for what is left of the lane's piece. */
static sl_status begin_lane(lane *l)
{
    work *w = l->work;
    sl__http_transfer *t = &l->request.transfer;
    /* A file of one piece is asked for without a range, unless some of it is there. */
    bool ranged = l->item->partial.piece_count > 1 || l->at > 0;
    if (l->item->streaming) {
        ranged = false;
        l->at = 0;
        l->piece = 0;
    }
    t->first = ranged ? l->at : 0;
    t->bytes = ranged ? l->end - l->at : 0;
    t->take = take;
    t->ctx = l;
    l->begun = false;
    l->running = true;
    sl_status status = sl__hub_request_begin(&l->request, w->download->client, w->err);
    if (status != SL_OK) l->running = false;
    return status;
}

static sl_status assign(lane *l, item *it, uint32_t piece)
{
    work *w = l->work;
    sl__buffer url;
    SL_TRY(start_url(&url, w->download, it->file, w->err));
    sl_status status = sl__hub_request_init(&l->request, w->download->client, url.data, it->url,
                                            it->file->path, w->err);
    sl__buffer_free(&url);
    if (status != SL_OK) return status;
    it->partial.pieces[piece] = SL_PIECE_ASKED;
    if (!it->url) it->locating = true;
    l->item = it;
    l->piece = piece;
    l->at = (uint64_t)piece * SL_HUB_PIECE_BYTES;
    l->end = sl__hub_piece_end(&it->partial, piece);
    l->came = 0;
    return begin_lane(l);
}

static void free_lane(lane *l)
{
    if (l->running) sl__http_cancel(l->work->download->client->http, &l->request.transfer);
    sl__hub_request_free(&l->request);
    l->item = NULL;
    l->running = false;
}

/* A transfer is over: the piece is there, or the lane goes on with the rest of it. */
static sl_status end_transfer(lane *l)
{
    work *w = l->work;
    sl__http_transfer *t = &l->request.transfer;
    l->running = false;
    if (w->status != SL_OK) return w->status;
    if (t->status == 200 || t->status == 206) {
        if (t->complete && l->at < l->end) stop(l, "fewer bytes than asked for");
        t->complete = l->at == l->end; /* whatever else the server meant to send */
    }
    sl__hub_verdict verdict = sl__hub_request_judge(&l->request, w->download->client, w->err);
    if (verdict == SL_HUB_FAILED) return SL_EIO;
    if (verdict == SL_HUB_DONE) {
        free_lane(l);
        return SL_OK;
    }
    l->came = 0;
    if (l->request.note[0]) w->download->at.note = l->request.note;
    /* An address that holds no longer is not given to other lanes. */
    if (strcmp(l->request.url, l->request.start) == 0 && l->item->url &&
        strcmp(l->item->url, l->request.start) != 0) {
        free(l->item->url);
        l->item->url = NULL;
        l->item->locating = true;
    }
    return SL_OK;
}

/* ---- files ----------------------------------------------------------------------------------- */

static void close_item(item *it)
{
    sl__hub_partial_close(&it->partial);
    sl__hub_digest_destroy(it->sum);
    it->sum = NULL;
    free(it->url);
    it->url = NULL;
    if (it->lock >= 0) close(it->lock);
    it->lock = -1;
}

static sl_status end_item(work *w, item *it)
{
    close_item(it);
    it->state = ITEM_DONE;
    w->done_count++;
    w->download->at.done_files++;
    return sl__hub_cache_link(w->download->cache, w->download->list->commit, it->file, w->err);
}

static sl_status open_item(work *w, item *it)
{
    const sl__hub_download *d = w->download;
    SL_TRY(sl__hub_lock(d->cache, it->file->digest, &it->lock, w->err));
    if (it->lock < 0)
        return SL_FAIL(w->err, SL_EIO, "%s: %s: another program is downloading this file",
                       d->client->repo, it->file->path);
    /* Two names of one content, or another program was faster. */
    if (sl__hub_cache_has(d->cache, d->list->commit, it->file)) return end_item(w, it);
    SL_TRY(sl__hub_partial_open(&it->partial, d->cache, it->file, w->err));
    it->state = ITEM_OPEN;
    return begin_sum(it, w->err);
}

/* Whether the same content is on its way under another name, whose lock this would wait for. */
static bool comes_already(const work *w, size_t index)
{
    const char *digest = w->items[index].file->digest;
    for (size_t i = w->first_open; i < index; i++) {
        const item *it = &w->items[i];
        if (it->state == ITEM_OPEN && strcmp(it->file->digest, digest) == 0) return true;
    }
    return false;
}

/* The next piece that is missing, of an open file or of one that is opened for it. False: all have
 * been asked for, or have to wait. */
static bool find_piece(work *w, item **found, uint32_t *piece)
{
    size_t open = 0;
    for (size_t i = w->first_open; i < w->item_count; i++) {
        item *it = &w->items[i];
        if (it->state == ITEM_WAITING) {
            if (open >= w->download->connections || w->status != SL_OK) return false;
            if (comes_already(w, i)) continue;
            w->status = open_item(w, it);
            if (w->status != SL_OK) return false;
        }
        if (it->state != ITEM_OPEN) continue;
        open++;
        if (it->streaming || (it->locating && !it->url)) continue;
        while (it->next < it->partial.piece_count &&
               it->partial.pieces[it->next] != SL_PIECE_MISSING)
            it->next++;
        if (it->next == it->partial.piece_count) continue;
        *found = it;
        *piece = it->next;
        return true;
    }
    return false;
}

/* The whole file is there. Where the sum is wrong it is fetched once more from the start. */
static sl_status verify(work *w, item *it)
{
    if (sl__hub_digest_matches(it->sum)) {
        SL_TRY(sl__hub_partial_finish(&it->partial, w->err));
        return end_item(w, it);
    }
    sl__hub_download *d = w->download;
    if (it->spoilt++ > 0) {
        sl__hub_partial_discard(&it->partial);
        return SL_FAIL(w->err, SL_ECORRUPT,
                       "%s: %s: what the hub sends differs from its checksum, twice; removed",
                       d->client->repo, it->file->path);
    }
    d->at.note = "a file differs from its checksum and is fetched again";
    free(it->url);
    it->url = NULL;
    it->locating = it->streaming = it->ranged = false;
    SL_TRY(sl__hub_partial_reset(&it->partial, w->err));
    return begin_sum(it, w->err);
}

/* Sums up a step of what is there. *more: there is more to sum up at once. */
static sl_status advance_sum(work *w, item *it, bool *more)
{
    const sl__hub_partial *p = &it->partial;
    while (it->solid < p->piece_count && p->pieces[it->solid] == SL_PIECE_THERE)
        it->solid++;
    uint64_t ready = it->solid == 0 ? 0 : sl__hub_piece_end(p, it->solid - 1);
    uint64_t step = ready - it->summed < HASH_STEP_BYTES ? ready - it->summed : HASH_STEP_BYTES;
    if (step > 0) {
        SL_TRY(sl__file_pread_all(p->fd, p->path, w->buffer, step, it->summed, w->err));
        sl__hub_digest_update(it->sum, w->buffer, (size_t)step);
        it->summed += step;
    }
    if (it->summed < ready) *more = true;
    return it->summed == p->size ? verify(w, it) : SL_OK;
}

/* ---- the loop -------------------------------------------------------------------------------- */

static uint64_t count_bytes(const work *w)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < w->item_count; i++) {
        const item *it = &w->items[i];
        if (it->state == ITEM_DONE) bytes += it->file->size;
        if (it->state == ITEM_OPEN) bytes += it->partial.there_bytes;
    }
    for (uint32_t i = 0; i < w->download->connections; i++) {
        const lane *l = &w->lanes[i];
        if (!l->item || l->piece >= l->item->partial.piece_count) continue;
        uint64_t first = (uint64_t)l->piece * SL_HUB_PIECE_BYTES;
        bool there = l->item->partial.pieces[l->piece] == SL_PIECE_THERE;
        if (!there && l->at > first) bytes += l->at - first;
    }
    return bytes;
}

static sl_status report(work *w, uint64_t before)
{
    sl__hub_download *d = w->download;
    d->at.done_bytes = before + count_bytes(w);
    sl_status status = d->progress ? d->progress(d->ctx, &d->at) : SL_OK;
    d->at.note = NULL;
    return status;
}

static sl_status feed_lanes(work *w)
{
    uint64_t now_ns = sl__now_ns();
    for (uint32_t i = 0; i < w->download->connections; i++) {
        lane *l = &w->lanes[i];
        item *it;
        uint32_t piece;
        if (l->item && !l->running && l->request.begin_ns <= now_ns) SL_TRY(begin_lane(l));
        if (!l->item && find_piece(w, &it, &piece)) SL_TRY(assign(l, it, piece));
        SL_TRY(w->status);
    }
    return SL_OK;
}

static sl_status advance_sums(work *w, bool *more)
{
    while (w->first_open < w->item_count && w->items[w->first_open].state == ITEM_DONE)
        w->first_open++;
    for (size_t i = w->first_open; i < w->item_count; i++) {
        if (w->items[i].state == ITEM_WAITING) break;
        if (w->items[i].state == ITEM_OPEN) SL_TRY(advance_sum(w, &w->items[i], more));
    }
    return SL_OK;
}

static sl_status run(work *w)
{
    sl__hub_download *d = w->download;
    uint64_t before = d->at.done_bytes;
    while (w->done_count < w->item_count) {
        bool more = false;
        SL_TRY(feed_lanes(w));
        SL_TRY(advance_sums(w, &more));
        SL_TRY(report(w, before));
        if (w->done_count == w->item_count) break;
        sl__http_transfer *t = sl__http_next(d->client->http, more ? 0 : TICK_MS);
        SL_TRY(w->status);
        while (t) {
            SL_TRY(end_transfer(t->ctx));
            t = sl__http_next(d->client->http, 0);
            SL_TRY(w->status);
        }
    }
    return report(w, before);
}

/* Files that are there get their names at once; the others are listed. */
static sl_status list_items(work *w)
{
    const sl__hub_download *d = w->download;
    for (size_t i = 0; i < d->list->count; i++) {
        const sl__hub_file *file = &d->list->files[i];
        if (!file->chosen) continue;
        if (sl__hub_cache_has(d->cache, d->list->commit, file))
            SL_TRY(sl__hub_cache_link(d->cache, d->list->commit, file, w->err));
        else
            w->items[w->item_count++] = (item){.file = file, .lock = -1};
    }
    return SL_OK;
}

sl_status sl__hub_download_run(sl__hub_download *download, sl_error *err)
{
    assert(download->connections >= 1 && download->connections <= SL_HUB_CONNECTIONS_MAX);
    work w = {.download = download, .err = err};
    w.items = calloc(download->list->count + 1, sizeof *w.items);
    w.lanes = calloc(download->connections, sizeof *w.lanes);
    w.buffer = malloc(HASH_STEP_BYTES);
    sl_status status;
    if (!w.items || !w.lanes || !w.buffer)
        status = SL_FAIL_NOMEM(err, "download");
    else
        status = list_items(&w);
    for (uint32_t i = 0; w.lanes && i < download->connections; i++)
        w.lanes[i].work = &w;
    if (status == SL_OK) status = run(&w);
    for (uint32_t i = 0; w.lanes && i < download->connections; i++)
        free_lane(&w.lanes[i]);
    for (size_t i = 0; w.items && i < w.item_count; i++)
        close_item(&w.items[i]);
    free(w.items);
    free(w.lanes);
    free(w.buffer);
    return status;
}
