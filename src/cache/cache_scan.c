/* The ring of the scans: the slots that chunks load into once no slot is free.
 *
 *     at rest   oldest ─ … ─ newest        evictable, the policy knows them as it knows all others
 *                 │             ^
 *            next record     release       a record passes through and is forgotten for the next
 *                 v             │
 *     in use    LOADING ──> READY ──> given
 *
 * A chunk asks for nearly every expert of every layer, once. Were each to evict the coldest record,
 * one chunk would leave nothing of what decoding keeps. So scans have the free slots and a ring of
 * at most a quarter of the slots; what the ring holds is what the next record of a scan replaces,
 * also that of the next layer, of the next chunk. The policy has the last word: where it expects
 * the coldest record later than that of the ring, the coldest leaves and takes its place in the
 * ring.
 *
 * What was read ahead for a token and went astray comes into the ring too, as far as it has room. A
 * slot leaves the ring when a token asks for its record, or it is evicted as any other.
 */
#include <assert.h>

#include "cache/cache_private.h"

#define RING_LEAST 4u /* so that one is read while others are computed with */

uint32_t sl__ring_size(const sl__cache *cache)
{
    uint32_t share = sl__prefetch_share(cache);
    return share > RING_LEAST ? share : RING_LEAST;
}

/* ---- membership ------------------------------------------------------------------------------ */

void sl__ring_join(sl__cache *cache, uint32_t s)
{
    assert(!cache->slots[s].ringed);
    cache->slots[s].ringed = true;
    cache->ring_count++;
}

void sl__ring_unlink(sl__cache *cache, uint32_t s)
{
    sl__slot *slot = &cache->slots[s];
    if (!slot->ring_linked) return;
    slot->ring_linked = false;
    if (slot->prev != SL_SLOT_NONE)
        cache->slots[slot->prev].next = slot->next;
    else
        cache->ring_oldest = slot->next;
    if (slot->next != SL_SLOT_NONE)
        cache->slots[slot->next].prev = slot->prev;
    else
        cache->ring_newest = slot->prev;
}

void sl__ring_leave(sl__cache *cache, uint32_t s)
{
    assert(cache->slots[s].ringed && cache->ring_count > 0);
    sl__ring_unlink(cache, s);
    cache->slots[s].ringed = false;
    cache->ring_count--;
}

void sl__ring_link(sl__cache *cache, uint32_t s)
{
    sl__slot *slot = &cache->slots[s];
    assert(slot->ringed && !slot->ring_linked);
    if (cache->ring_count > sl__ring_size(cache)) {
        sl__ring_leave(cache, s); /* it had grown beyond its size while the caller held it */
        return;
    }
    slot->ring_linked = true;
    slot->next = SL_SLOT_NONE;
    slot->prev = cache->ring_newest;
    if (slot->prev != SL_SLOT_NONE)
        cache->slots[slot->prev].next = s;
    else
        cache->ring_oldest = s;
    cache->ring_newest = s;
}

void sl__ring_take_in(sl__cache *cache, uint32_t s)
{
    sl__slot *slot = &cache->slots[s];
    assert(slot->item == SL_ITEM_NONE);
    if (slot->ringed || cache->ring_count >= sl__ring_size(cache)) return;
    sl__ring_join(cache, s);
    if (slot->state == SL_SLOT_READY) sl__ring_link(cache, s);
}

/* ---- slots for a scan ------------------------------------------------------------------------ */

uint32_t sl__ring_spent(const sl__cache *cache)
{
    uint32_t s = cache->ring_oldest;
    while (s != SL_SLOT_NONE && sl__slot_is_promised(&cache->slots[s]))
        s = cache->slots[s].next;
    return s;
}

/* Whether the caller has all of the ring in its hands, so that it would wait for ever: nothing more
 * of the ticket is on its way to it, and no read will bring a slot back. */
static bool is_starved(const sl__cache *cache)
{
    const sl__ticket *t = &cache->ticket;
    uint32_t waiting = t->waiting_tail - t->waiting_head;
    return t->given + waiting == t->count && cache->reads_in_flight == 0;
}

uint32_t sl__ring_acquire(sl__cache *cache, bool *join)
{
    uint32_t work = cache->ticket.layer;
    uint32_t s = sl__slot_take_free(cache);
    *join = s == SL_SLOT_NONE;
    if (s != SL_SLOT_NONE) return s;

    uint32_t spent = sl__ring_spent(cache);
    if (spent == SL_SLOT_NONE) {
        bool full = cache->ring_count >= sl__ring_size(cache);
        return full && !is_starved(cache) ? SL_SLOT_NONE : sl__slot_acquire(cache);
    }
    const sl__slot *slot = &cache->slots[spent];
    float coldest_tokens = 0;
    uint32_t coldest = sl__policy_coldest(&cache->policy, work, &coldest_tokens);
    float tokens = sl__policy_expected(&cache->policy, work, slot->layer, slot->expert);
    if (cache->slots[coldest].ringed || coldest_tokens <= tokens) {
        return sl__slot_evict(cache, spent);
    }
    sl__ring_leave(cache, spent); /* worth more than the coldest, which goes in its place */
    return sl__slot_evict(cache, coldest);
}
