/* From absent to ready: the reads of a record.
 *
 *     start ──> submit queue ──> io engine ──> collect: all extents in ──> READY, or forgotten
 *                   ^                │
 *                   └── room again ──┘         at most io->max_reads are in flight
 *
 * A record is a few extents. Where one of them fails, those not yet submitted are dropped; the slot
 * is given up when those submitted have come back, because until then they write to it.
 */
#include <assert.h>
#include <string.h>

#include "base/fail.h"
#include "cache/cache_private.h"

#define REAP_MAX 32u

/* Tag of a read: [ generation 28 | extent 4 | slot 32 ]. The generation catches a completion that
 * belongs to an earlier load of the slot. */
#define GENERATION_MASK 0x0fffffffu
_Static_assert(SL_EXPERT_EXTENTS_MAX <= 16, "an extent's number has 4 bits in a tag");

uint64_t sl__read_tag(const sl__cache *cache, uint32_t slot, uint32_t extent)
{
    return (uint64_t)cache->slots[slot].generation << 36 | (uint64_t)extent << 32 | slot;
}

/* ---- slots ----------------------------------------------------------------------------------- */

uint32_t sl__slot_take_free(sl__cache *cache)
{
    if (cache->usable_count > cache->target_count) sl__slots_shrink(cache);
    uint32_t s = cache->free_head;
    if (s != SL_SLOT_NONE) cache->free_head = cache->slots[s].next;
    return s;
}

/* Makes FREE what the policy held: it is out of the policy already. */
static void give_up(sl__cache *cache, uint32_t s)
{
    assert(cache->slots[s].state == SL_SLOT_READY && cache->slots[s].item == SL_ITEM_NONE);
    cache->stats.evictions++;
    sl__slot_forget(cache, s);
    assert(s == cache->free_head);
}

static uint32_t take_over(sl__cache *cache, uint32_t s)
{
    give_up(cache, s);
    cache->free_head = cache->slots[s].next;
    return s;
}

bool sl__slot_evict_coldest(sl__cache *cache)
{
    uint32_t s = sl__policy_victim(&cache->policy, cache->ticket.layer);
    if (s != SL_SLOT_NONE) give_up(cache, s);
    return s != SL_SLOT_NONE;
}

uint32_t sl__slot_evict(sl__cache *cache, uint32_t s)
{
    sl__policy_remove(&cache->policy, s);
    return take_over(cache, s);
}

uint32_t sl__slot_acquire(sl__cache *cache)
{
    uint32_t s = sl__slot_take_free(cache);
    if (s != SL_SLOT_NONE) return s;
    s = sl__policy_victim(&cache->policy, cache->ticket.layer);
    if (s != SL_SLOT_NONE) return take_over(cache, s);
    return sl__prefetch_yield(cache) ? sl__slot_take_free(cache) : SL_SLOT_NONE;
}

void sl__slot_rest(sl__cache *cache, uint32_t s)
{
    sl__policy_add(&cache->policy, s);
    if (cache->slots[s].ringed) sl__ring_link(cache, s);
}

void sl__slot_forget(sl__cache *cache, uint32_t s)
{
    sl__slot *slot = &cache->slots[s];
    if (slot->ahead) sl__prefetch_dropped(cache, s);
    if (slot->ringed) sl__ring_leave(cache, s);
    if (!slot->doomed) {
        uint32_t *index = sl__cache_index_at(cache, slot->layer, slot->expert);
        assert(*index == s);
        *index = SL_SLOT_NONE;
    }
    slot->doomed = false;
    slot->state = SL_SLOT_FREE;
    slot->item = SL_ITEM_NONE;
    slot->next = cache->free_head;
    cache->free_head = s;
}

uint64_t sl__record_disk_bytes(const sl__cache *cache, uint32_t layer, uint32_t expert)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t n = sl__store_expert_extents(cache->store, layer, expert, extents);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += extents[i].bytes;
    return sum;
}

/* ---- the submit queue ------------------------------------------------------------------------ */

static void submit_push(sl__cache *cache, uint32_t s)
{
    cache->slots[s].next = SL_SLOT_NONE;
    if (cache->submit_tail != SL_SLOT_NONE)
        cache->slots[cache->submit_tail].next = s;
    else
        cache->submit_head = s;
    cache->submit_tail = s;
}

static void submit_pop(sl__cache *cache)
{
    cache->submit_head = cache->slots[cache->submit_head].next;
    if (cache->submit_head == SL_SLOT_NONE) cache->submit_tail = SL_SLOT_NONE;
}

/* ---- the end of a load ----------------------------------------------------------------------- */

static void report_failure(sl__cache *cache, uint32_t s)
{
    const sl__slot *slot = &cache->slots[s];
    sl_error *err = &cache->ticket.failure;
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t n = sl__store_expert_extents(cache->store, slot->layer, slot->expert, extents);
    assert(slot->failed_extent < n);
    const char *path = sl__store_file_path(cache->store, extents[slot->failed_extent].file);
    switch (slot->status) {
    case SL_EIO:
        (void)SL_FAIL(err, SL_EIO, "%s: layer %u expert %u: read failed: %s", path, slot->layer,
                      slot->expert, strerror(slot->sys_errno));
        break;
    case SL_EFORMAT:
        (void)SL_FAIL(err, SL_EFORMAT, "%s: layer %u expert %u: the file ends early", path,
                      slot->layer, slot->expert);
        break;
    default:
        (void)SL_FAIL(err, slot->status, "%s: layer %u expert %u: the read was given up (%s)", path,
                      slot->layer, slot->expert, sl_status_name(slot->status));
        break;
    }
}

static void load_finish(sl__cache *cache, uint32_t s)
{
    sl__slot *slot = &cache->slots[s];
    uint32_t item = slot->item;
    if (slot->early) sl__prefetch_load_ended(cache, s);
    if (slot->status != SL_OK || slot->doomed) {
        if (item != SL_ITEM_NONE) {
            report_failure(cache, s);
            sl__ticket_item_gone(cache, item);
        }
        sl__slot_forget(cache, s);
        return;
    }
    slot->state = SL_SLOT_READY;
    slot->unverified = true;
    if (item != SL_ITEM_NONE)
        sl__ticket_item_ready(cache, item);
    else
        sl__slot_rest(cache, s);
}

/* Of several failures the one at the lowest extent is kept, whichever came first. */
static void load_fail(sl__cache *cache, uint32_t s, uint32_t extent, sl_status status,
                      int sys_errno)
{
    sl__slot *slot = &cache->slots[s];
    if (slot->status == SL_OK || extent < slot->failed_extent) {
        slot->status = status;
        slot->sys_errno = sys_errno;
        slot->failed_extent = (uint8_t)extent;
    }
    if (slot->submitted < slot->extent_count) {
        /* Only the head of the queue is ever partly submitted, refused or aborted; what is read
         * ahead is not in the queue. */
        assert(slot->early || cache->submit_head == s);
        if (!slot->early) submit_pop(cache);
        slot->extent_count = slot->submitted;
    }
}

/* ---- loads ----------------------------------------------------------------------------------- */

static void load_begin(sl__cache *cache, uint32_t s, uint32_t layer, uint32_t expert,
                       uint32_t item)
{
    sl__slot *slot = &cache->slots[s];
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t n = sl__store_expert_extents(cache->store, layer, expert, extents);
    assert(slot->state == SL_SLOT_FREE && n > 0 && n <= SL_EXPERT_EXTENTS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        assert(extents[i].bytes <= cache->plan.slot_bytes &&
               extents[i].dst <= cache->plan.slot_bytes - extents[i].bytes);
    }
    *slot = (sl__slot){.layer = layer,
                       .expert = expert,
                       .item = item,
                       .generation = (slot->generation + 1) & GENERATION_MASK,
                       .status = SL_OK,
                       .state = SL_SLOT_LOADING,
                       .extent_count = (uint8_t)n};
    *sl__cache_index_at(cache, layer, expert) = s;
    sl__policy_load(&cache->policy, s, layer, expert);
}

void sl__load_start(sl__cache *cache, uint32_t s, uint32_t layer, uint32_t expert, uint32_t item)
{
    load_begin(cache, s, layer, expert, item);
    submit_push(cache, s);
}

/* Submits what there is room for of one load. */
static void load_submit(sl__cache *cache, uint32_t s, uint32_t room)
{
    sl__slot *slot = &cache->slots[s];
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    sl__io_read reads[SL_EXPERT_EXTENTS_MAX];
    sl__store_expert_extents(cache->store, slot->layer, slot->expert, extents);
    uint32_t first = slot->submitted, n = 0;
    while (n < room && first + n < slot->extent_count) {
        const sl__extent *extent = &extents[first + n];
        int direct_fd = cache->direct ? sl__store_direct_fd(cache->store, extent->file) : -1;
        reads[n] = (sl__io_read){
            .fd = direct_fd >= 0 ? direct_fd : sl__store_fd(cache->store, extent->file),
            .direct = direct_fd >= 0,
            .offset = extent->offset,
            .bytes = extent->bytes,
            .dst = cache->slab + (uint64_t)s * cache->plan.slot_bytes + extent->dst,
            .tag = sl__read_tag(cache, s, first + n),
            .priority = slot->early ? SL_IO_PREFETCH : SL_IO_DEMAND,
        };
        n++;
    }
    sl_status status = sl__io_submit(cache->io, reads, n, NULL);
    if (status != SL_OK) {
        load_fail(cache, s, first, status, 0); /* takes it out of the queue, where it is in it */
        if (slot->completed == slot->submitted) load_finish(cache, s);
        return;
    }
    cache->reads_in_flight += n;
    slot->submitted = (uint8_t)(first + n);
    if (slot->early)
        cache->early_reads_in_flight += n;
    else if (slot->submitted == slot->extent_count)
        submit_pop(cache);
}

void sl__load_ahead(sl__cache *cache, uint32_t s, uint32_t layer, uint32_t expert, bool scan)
{
    load_begin(cache, s, layer, expert, SL_ITEM_NONE);
    sl__slot *slot = &cache->slots[s];
    slot->early = slot->ahead = true;
    slot->ahead_scan = scan;
    assert(cache->ahead_count < SL_AHEAD_MAX);
    cache->ahead[cache->ahead_count++] = s;
    load_submit(cache, s, slot->extent_count);
}

void sl__loads_submit(sl__cache *cache)
{
    while (cache->submit_head != SL_SLOT_NONE) {
        uint32_t room = cache->io->max_reads - cache->reads_in_flight;
        if (room == 0) break;
        load_submit(cache, cache->submit_head, room);
    }
}

static void take_in(sl__cache *cache, const sl__io_done *done)
{
    uint32_t s = (uint32_t)done->tag;
    uint32_t extent = (uint32_t)(done->tag >> 32) & 15u;
    assert(s < cache->slot_count && done->tag == sl__read_tag(cache, s, extent));
    sl__slot *slot = &cache->slots[s];
    assert(slot->state == SL_SLOT_LOADING && slot->completed < slot->submitted);
    cache->reads_in_flight--;
    if (slot->early) cache->early_reads_in_flight--;
    cache->stats.bytes_read += done->bytes;
    slot->got_bytes += done->bytes;
    slot->completed++;
    if (done->status != SL_OK) load_fail(cache, s, extent, done->status, done->sys_errno);
    if (slot->completed == slot->extent_count) load_finish(cache, s);
}

void sl__loads_collect(sl__cache *cache, bool wait)
{
    sl__io_done done[REAP_MAX];
    uint32_t n = REAP_MAX;
    while (n == REAP_MAX && cache->reads_in_flight > 0) {
        n = sl__io_reap(cache->io, done, REAP_MAX, wait);
        for (uint32_t i = 0; i < n; i++)
            take_in(cache, &done[i]);
        wait = false;
    }
}

void sl__loads_abort(sl__cache *cache)
{
    while (cache->submit_head != SL_SLOT_NONE) {
        uint32_t s = cache->submit_head;
        sl__slot *slot = &cache->slots[s];
        load_fail(cache, s, slot->submitted, SL_ECANCELLED, 0);
        if (slot->completed == slot->submitted) load_finish(cache, s);
    }
    for (uint32_t s = 0; s < cache->slot_count; s++) {
        if (cache->slots[s].state != SL_SLOT_LOADING) continue;
        for (uint32_t e = 0; e < cache->slots[s].submitted; e++) {
            sl__io_cancel(cache->io, sl__read_tag(cache, s, e));
        }
    }
    while (cache->reads_in_flight > 0)
        sl__loads_collect(cache, true);
}
