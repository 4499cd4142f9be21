/* A ticket: one request for experts of a layer.
 *
 *     request ── hits ────────────────────────────> ready queue ──next──> caller ──release──┐
 *        │  └─── joins ── LOADING ── read ─────────>     ^                                  │
 *        └────── misses ─> waiting queue ── a slot ──> LOADING ── read ┘   <── a slot ──────┘
 *
 * Every slot that the ticket counts on is held by its item from the request (hits, joins) or from
 * the start of its load (misses) until release, so no load of the same ticket evicts a hit that has
 * not been given out yet. That cannot deadlock: `next` gives out what is ready before it waits, and
 * it waits only while a read is in flight. Where neither is left and items still wait for a slot,
 * the caller has all slots in its hands, and is told so.
 */
#include <assert.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "cache/cache_private.h"

static void hold(sl__cache *cache, uint32_t item, uint32_t slot, sl__item_state state)
{
    cache->slots[slot].item = item;
    cache->ticket.items[item].slot = slot;
    cache->ticket.items[item].state = state;
}

static void push_ready(sl__ticket *ticket, uint32_t item)
{
    ticket->items[item].state = SL_ITEM_READY;
    ticket->ready[ticket->ready_tail++] = item;
}

void sl__ticket_item_ready(sl__cache *cache, uint32_t item)
{
    assert(cache->ticket.active && cache->ticket.items[item].state == SL_ITEM_LOADING);
    push_ready(&cache->ticket, item);
}

void sl__ticket_item_gone(sl__cache *cache, uint32_t item)
{
    sl__ticket_item *it = &cache->ticket.items[item];
    assert(cache->ticket.active && it->slot != SL_SLOT_NONE);
    it->slot = SL_SLOT_NONE;
    it->state = SL_ITEM_GONE;
}

/* Starts loads as far as there are slots, and reads as far as the io engine takes them; then those
 * that nobody waits for. */
static void pump(sl__cache *cache)
{
    sl__ticket *t = &cache->ticket;
    while (t->active && t->failure.status == SL_OK && t->waiting_head < t->waiting_tail) {
        bool join = false;
        uint32_t slot = t->scan ? sl__ring_acquire(cache, &join) : sl__slot_acquire(cache);
        if (slot == SL_SLOT_NONE) break;
        uint32_t item = t->waiting[t->waiting_head++];
        sl__load_start(cache, slot, t->layer, t->items[item].expert, item);
        if (join) sl__ring_join(cache, slot);
        hold(cache, item, slot, SL_ITEM_LOADING);
    }
    sl__loads_submit(cache);
    sl__prefetch_pump(cache);
}

/* ---- request --------------------------------------------------------------------------------- */

static sl_status check_request(sl__cache *cache, uint32_t layer, const uint32_t *ids, uint32_t n,
                               sl_error *err)
{
    bool *seen = cache->ticket.seen;
    if (cache->ticket.active) {
        return SL_FAIL(err, SL_EINVAL, "layer %u: the last request for experts has not ended",
                       layer);
    }
    if (layer >= cache->plan.layer_count) {
        return SL_FAIL(err, SL_EINVAL, "layer %u of %u", layer, cache->plan.layer_count);
    }
    uint32_t experts = cache->first[layer + 1] - cache->first[layer];
    if (n > experts) {
        return SL_FAIL(err, SL_EINVAL, "layer %u: %u experts asked for, there are %u", layer, n,
                       experts);
    }
    uint32_t good = 0;
    while (good < n && ids[good] < experts && !seen[ids[good]])
        seen[ids[good++]] = true;
    for (uint32_t i = 0; i < good; i++)
        seen[ids[i]] = false;
    if (good == n) return SL_OK;
    if (ids[good] >= experts) {
        return SL_FAIL(err, SL_EINVAL, "layer %u: expert %u of %u", layer, ids[good], experts);
    }
    return SL_FAIL(err, SL_EINVAL, "layer %u: expert %u is asked for twice", layer, ids[good]);
}

/* The record had to be read for the request, now or ahead of it. */
static void count_missing(sl__cache *cache, uint64_t bytes)
{
    cache->stats.bytes_missing += bytes;
    sl__predictor_missing(&cache->predictor, cache->ticket.scan, bytes);
}

static void add_item(sl__cache *cache, uint32_t item, uint32_t expert)
{
    sl__ticket *t = &cache->ticket;
    uint32_t s = *sl__cache_index_at(cache, t->layer, expert);
    uint64_t bytes = sl__record_disk_bytes(cache, t->layer, expert);
    cache->asked[cache->first[t->layer] + expert] = cache->requests;
    t->items[item] = (sl__ticket_item){.expert = expert, .slot = SL_SLOT_NONE};
    cache->stats.requests++;
    cache->stats.bytes_needed += bytes;
    if (cache->mapped) {
        cache->stats.hits++;
        sl__mapped_want(cache, t->layer, expert);
        push_ready(t, item);
        return;
    }
    if (s == SL_SLOT_NONE) {
        cache->stats.misses++;
        count_missing(cache, bytes);
        t->waiting[t->waiting_tail++] = item;
        return;
    }
    sl__slot *slot = &cache->slots[s];
    assert(slot->item == SL_ITEM_NONE);
    sl__policy_touch(&cache->policy, s);
    if (slot->ahead) {
        count_missing(cache, bytes);
        sl__prefetch_asked(cache, s);
    }
    if (slot->state == SL_SLOT_READY) {
        cache->stats.hits++;
        sl__policy_remove(&cache->policy, s);
        if (slot->ringed) sl__ring_unlink(cache, s);
        hold(cache, item, s, SL_ITEM_READY);
        push_ready(t, item);
    } else {
        cache->stats.joins++;
        hold(cache, item, s, SL_ITEM_LOADING);
    }
    /* What a token asks for is worth more than what a scan passes by. */
    if (slot->ringed && !t->scan) sl__ring_leave(cache, s);
}

sl_status sl__cache_request(sl__cache *cache, sl__ticket **out, uint32_t layer, const uint32_t *ids,
                            uint32_t n, bool scan, sl_error *err)
{
    *out = NULL;
    SL_TRY(check_request(cache, layer, ids, n, err));
    sl__loads_collect(cache, false); /* what came in since counts as a hit, not as a join */
    sl__ticket *t = &cache->ticket;
    cache->requests++;
    t->active = true;
    t->scan = scan;
    t->layer = layer;
    t->count = n;
    t->given = 0;
    t->ready_head = t->ready_tail = t->waiting_head = t->waiting_tail = 0;
    sl_error_clear(&t->failure);
    for (uint32_t i = 0; i < n; i++)
        add_item(cache, i, ids[i]);
    sl__prefetch_settle(cache, layer, ids, n, scan);
    pump(cache); /* after all hits are held */
    *out = t;
    return SL_OK;
}

/* ---- next ------------------------------------------------------------------------------------ */

/* A slot's record, compared with its checksum at the first time; one that is wrong is forgotten. */
static sl_status slot_record(sl__cache *cache, uint32_t item, const void **record)
{
    sl__ticket *t = &cache->ticket;
    uint32_t s = t->items[item].slot;
    sl__slot *slot = &cache->slots[s];
    assert(slot->state == SL_SLOT_READY && slot->item == item);
    *record = cache->slab + (uint64_t)s * cache->plan.slot_bytes;
    if (!slot->unverified) return SL_OK;
    sl_status status = sl__slot_verify(cache, s, &t->failure);
    if (status != SL_OK) {
        sl__ticket_item_gone(cache, item);
        sl__slot_forget(cache, s);
    }
    return status;
}

static sl_status give_out(sl__cache *cache, sl__expert_ref *ref)
{
    sl__ticket *t = &cache->ticket;
    uint32_t item = t->ready[t->ready_head++];
    sl__ticket_item *it = &t->items[item];
    uint32_t s = it->slot;
    const void *record;
    assert(it->state == SL_ITEM_READY);
    SL_TRY(cache->mapped ? sl__mapped_record(cache, t->layer, it->expert, &record, &t->failure)
                         : slot_record(cache, item, &record));
    it->state = SL_ITEM_GIVEN;
    t->given++;
    *ref = (sl__expert_ref){.index = item, .expert = it->expert, .record = record, .slot = s};
    return SL_OK;
}

static sl_status pass_on(const sl_error *failure, sl_error *err)
{
    return SL_FAIL(err, failure->status, "%s", failure->message);
}

sl_status sl__cache_next(sl__cache *cache, sl__ticket *t, bool wait, sl__expert_ref *ref, bool *got,
                         sl_error *err)
{
    assert(t == &cache->ticket && t->active);
    *got = false;
    for (;;) {
        sl__loads_collect(cache, false);
        pump(cache);
        if (t->failure.status != SL_OK) return pass_on(&t->failure, err);
        if (t->ready_head < t->ready_tail) {
            if (give_out(cache, ref) != SL_OK) return pass_on(&t->failure, err);
            *got = true;
            return SL_OK;
        }
        if (t->given == t->count || !wait) return SL_OK;
        if (cache->reads_in_flight == 0) {
            return SL_FAIL(err, SL_EINVAL,
                           "layer %u: all %u slots of the expert cache are in use by the caller",
                           t->layer, cache->usable_count);
        }
        uint64_t begin = sl__now_ns();
        sl__loads_collect(cache, true);
        cache->stats.wait_ns += sl__now_ns() - begin;
    }
}

/* ---- release and end ------------------------------------------------------------------------- */

static void let_go(sl__cache *cache, uint32_t item)
{
    uint32_t slot = cache->ticket.items[item].slot;
    sl__ticket_item_gone(cache, item);
    cache->slots[slot].item = SL_ITEM_NONE;
    if (cache->slots[slot].state == SL_SLOT_READY) sl__slot_rest(cache, slot);
}

void sl__cache_release(sl__cache *cache, sl__ticket *t, const sl__expert_ref *ref)
{
    assert(t == &cache->ticket && t->active && ref->index < t->count);
    assert(t->items[ref->index].state == SL_ITEM_GIVEN && t->items[ref->index].slot == ref->slot);
    if (cache->mapped) {
        t->items[ref->index].state = SL_ITEM_GONE;
        return;
    }
    let_go(cache, ref->index);
    pump(cache); /* the next read starts while the caller computes */
}

void sl__cache_end(sl__cache *cache, sl__ticket *t)
{
    assert(t == &cache->ticket && t->active);
    for (uint32_t i = 0; i < t->count; i++) {
        if (t->items[i].slot != SL_SLOT_NONE) let_go(cache, i);
    }
    t->active = false;
    if (cache->usable_count > cache->target_count) sl__slots_shrink(cache);
    pump(cache); /* what was to be read ahead waited for it */
}
