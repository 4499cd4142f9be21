/* A record is compared with its checksum before it is first given out, and is never computed with
 * where it differs.
 *
 *     read ──> right ──────────────────────────────────────> given out
 *        └───> wrong ──> read again, past the page cache ──> right: given out, counted
 *                                                      └───> wrong: SL_ECORRUPT, "twice"
 *
 * The second read is there because a wrong bit need not be on the disk: memory of the page cache,
 * a cable or a controller can make one. It goes through no engine and waits: this is rare, and the
 * simplest way to the disk is the one to trust.
 *
 * A read that fails is not tried again. The system and the drive have done that for seconds before
 * they say so; only EINTR and EAGAIN, which say nothing of the disk, are the engine's to repeat.
 */
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/pool.h"
#include "cache/cache_private.h"

/* Whether both are open on one file: another may have its name by now. */
static bool same_file(int a, int b)
{
    struct stat x, y;
    return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* Reads an extent past the page cache. False: its offset, its place in memory or the file do not
 * allow that. The slot has room for the last block as a whole. */
static bool read_direct(const sl__cache *cache, const sl__extent *x, unsigned char *record)
{
    uint64_t size = (x->bytes + SL_IO_ALIGN - 1) / SL_IO_ALIGN * SL_IO_ALIGN, got = 0;
    if (x->offset % SL_IO_ALIGN != 0 || (uintptr_t)(record + x->dst) % SL_IO_ALIGN != 0 ||
        size > cache->plan.slot_bytes - x->dst) {
        return false;
    }
    int fd = sl__store_direct_fd(cache->store, x->file);
    if (fd < 0 || !same_file(fd, sl__store_fd(cache->store, x->file))) return false;
    while (got < x->bytes) {
        ssize_t n = pread(fd, record + x->dst + got, (size_t)(size - got),
                          (off_t)(x->offset + got));
        if (n <= 0) return false; /* the other way says why */
        got += (uint64_t)n;
        if (got % SL_IO_ALIGN != 0 && got < x->bytes) return false;
    }
    return true;
}

static sl_status read_again(const sl__cache *cache, uint32_t layer, uint32_t expert,
                            unsigned char *record, sl_error *err)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t n = sl__store_expert_extents(cache->store, layer, expert, extents);
    for (uint32_t i = 0; i < n; i++) {
        const sl__extent *x = &extents[i];
        if (n == 1 && read_direct(cache, x, record)) continue;
        int fd = sl__store_fd(cache->store, x->file);
        sl__file_forget(fd, x->offset, x->bytes);
        SL_TRY(sl__file_pread_all(fd, sl__store_file_path(cache->store, x->file), record + x->dst,
                                  x->bytes, x->offset, err));
    }
    return SL_OK;
}

static sl_status try_again(sl__cache *cache, uint32_t layer, uint32_t expert,
                           unsigned char *record, sl_error *err)
{
    sl_error first = {0}, second = {0};
    if (sl__store_verify_record(cache->store, layer, expert, record, cache->verify, &first) ==
        SL_OK) {
        return SL_OK;
    }
    if (first.status != SL_ECORRUPT) return SL_FAIL(err, first.status, "%s", first.message);
    if (read_again(cache, layer, expert, record, &second) != SL_OK) {
        return SL_FAIL(err, SL_ECORRUPT, "%s, and reading it again failed: %s", first.message,
                       second.message);
    }
    if (sl__store_verify_record(cache->store, layer, expert, record, cache->verify, &second) !=
        SL_OK) {
        return SL_FAIL(err, second.status, "%s, read twice", second.message);
    }
    cache->stats.rereads++;
    return SL_OK;
}

static unsigned char *record_of(const sl__cache *cache, uint32_t s)
{
    return cache->slab + (uint64_t)s * cache->plan.slot_bytes;
}

/* ---- several at once ------------------------------------------------------------------------- */

#define BATCH_MAX 32u

struct batch {
    sl__cache *cache;
    uint32_t slots[BATCH_MAX], count;
};

/* One of the batch; what differs stays unverified, and is seen to when it is given out. */
static void look_at(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct batch *b = ctx;
    sl__slot *slot = &b->cache->slots[b->slots[index]];
    slot->unverified = sl__store_verify_record(b->cache->store, slot->layer, slot->expert,
                                               record_of(b->cache, b->slots[index]),
                                               b->cache->verify, NULL) != SL_OK;
}

/* The one that is about to be given out and all that wait behind it, where they were not compared
 * yet: several at once on the pool's threads. */
static void look_at_ready(sl__cache *cache)
{
    const sl__ticket *t = &cache->ticket;
    struct batch batch = {.cache = cache};
    for (uint32_t i = t->ready_head - 1; i < t->ready_tail && batch.count < BATCH_MAX; i++) {
        uint32_t s = t->items[t->ready[i]].slot;
        if (cache->slots[s].unverified) batch.slots[batch.count++] = s;
    }
    if (batch.count > 0) sl__pool_run(cache->pool, look_at, &batch, batch.count);
}

sl_status sl__slot_verify(sl__cache *cache, uint32_t s, sl_error *err)
{
    sl__slot *slot = &cache->slots[s];
    uint64_t begin = sl__now_ns();
    sl_status status = SL_OK;
    if (cache->pool) look_at_ready(cache);
    if (slot->unverified) {
        status = try_again(cache, slot->layer, slot->expert, record_of(cache, s), err);
    }
    cache->stats.verify_ns += sl__now_ns() - begin;
    if (status == SL_OK) slot->unverified = false;
    return status;
}
