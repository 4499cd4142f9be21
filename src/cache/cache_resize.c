/* Another budget for a living cache: slots are retired, and taken up again.
 *
 *     slab   ┌───┬───┬───┬───┬───┬───┬───┬───┐    slot_count 8, usable_count 6, target_count 5:
 *            │ a │ - │ b │   │ - │ L │ c │ P │    - retired, its pages are the system's
 *            └───┴───┴───┴───┴───┴───┴───┴───┘    L loading, P pinned: one more goes when it can
 *
 * The slab stays reserved as a whole, and so do the tables: what is held is the tables and the
 * usable slots. Free slots are retired first, then the policy's victims; a slot that is held or
 * loading is left alone until it comes back, and until then the cache takes up no other.
 *
 * A slab may be made of huge pages, larger than a slot. While a slot is retired no new ones are
 * made, or one of them would fill its place again.
 */
#include <assert.h>
#include <unistd.h>

#include "base/pages.h"
#include "cache/cache_private.h"

static uint64_t held_bytes(const sl__cache *cache, uint32_t slots)
{
    uint64_t retired = (uint64_t)(cache->slot_count - slots) * cache->plan.slot_bytes;
    return sl__cache_plan_bytes(&cache->plan, cache->slot_count) - retired;
}

uint64_t sl__cache_held_bytes(const sl__cache *cache)
{
    return held_bytes(cache, cache->usable_count);
}

/* As many slots as the budget has room for beside the tables, which do not shrink. */
static uint32_t slots_within(const sl__cache *cache, uint64_t budget_bytes)
{
    uint64_t fixed = held_bytes(cache, 0);
    uint64_t slots = budget_bytes > fixed ? (budget_bytes - fixed) / cache->plan.slot_bytes : 0;
    if (slots < cache->plan.slot_min) return cache->plan.slot_min;
    return slots < cache->slot_count ? (uint32_t)slots : cache->slot_count;
}

static bool is_retired(const sl__cache *cache, uint32_t s)
{
    return cache->slots[s].state == SL_SLOT_RETIRED;
}

/* The bytes of a retired slot. A page that it shares with neighbours is among them when all of
 * those are retired, so the range goes on over such neighbours, a page's length at most; behind the
 * last slot the page is the slab's to its end. */
static unsigned char *range_of(const sl__cache *cache, uint32_t s, size_t *bytes)
{
    uint64_t size = cache->plan.slot_bytes, page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint32_t first = s, last = s;
    if (size % page != 0) {
        while (first > 0 && (s - first) * size < page && is_retired(cache, first - 1))
            first--;
        while (last + 1 < cache->slot_count && (last - s) * size < page &&
               is_retired(cache, last + 1)) {
            last++;
        }
    }
    uint64_t begin = first * size, end = (last + 1) * size;
    if (last + 1 == cache->slot_count) end = (end + page - 1) / page * page;
    *bytes = (size_t)(end - begin);
    return cache->slab + begin;
}

static void retire(sl__cache *cache, uint32_t s)
{
    size_t bytes;
    assert(cache->slots[s].state == SL_SLOT_FREE && cache->usable_count > 0);
    if (cache->usable_count == cache->slot_count)
        sl__pages_set_huge(cache->slab, (size_t)cache->slab_bytes, false);
    cache->slots[s].state = SL_SLOT_RETIRED;
    cache->slots[s].next = cache->retired_head;
    cache->retired_head = s;
    cache->usable_count--;
    unsigned char *range = range_of(cache, s, &bytes);
    sl__pages_release(range, bytes);
}

static void take_up(sl__cache *cache, uint32_t s)
{
    size_t bytes;
    assert(cache->retired_head == s);
    unsigned char *range = range_of(cache, s, &bytes);
    sl__pages_retake(range, bytes);
    cache->retired_head = cache->slots[s].next;
    cache->slots[s].state = SL_SLOT_FREE;
    cache->slots[s].next = cache->free_head;
    cache->free_head = s;
    cache->usable_count++;
    if (cache->usable_count == cache->slot_count)
        sl__pages_set_huge(cache->slab, (size_t)cache->slab_bytes, true);
}

void sl__slots_shrink(sl__cache *cache)
{
    while (cache->usable_count > cache->target_count) {
        if (cache->free_head == SL_SLOT_NONE && !sl__slot_evict_coldest(cache)) return;
        uint32_t s = cache->free_head;
        cache->free_head = cache->slots[s].next;
        retire(cache, s);
    }
}

void sl__cache_resize(sl__cache *cache, uint64_t budget_bytes)
{
    if (cache->slot_count == 0) return; /* no experts, or mapped: there is nothing to give */
    uint32_t target = slots_within(cache, budget_bytes);
    if (target == cache->target_count) return;
    cache->target_count = target;
    cache->stats.resizes++;
    cache->stats.budget_bytes = held_bytes(cache, target);
    sl__loads_collect(cache, false); /* what has come in can go */
    sl__slots_shrink(cache);
    while (cache->usable_count < target)
        take_up(cache, cache->retired_head);
}

uint32_t sl__cache_slots(const sl__cache *cache)
{
    return cache->mapped ? cache->plan.record_count : cache->target_count;
}
