/* Creating and ending a cache. The data structure is drawn in cache_private.h. */
#include "cache/cache.h"

#include <assert.h>
#include <stddef.h>

#include "base/fail.h"
#include "base/pages.h"
#include "cache/cache_private.h"

/* The most slots that the budget has room for; what the plan takes grows with their number. */
static uint32_t slots_within(const sl__cache_plan *plan, uint64_t budget_bytes)
{
    uint32_t low = plan->slot_min, high = plan->slot_max;
    while (low < high) {
        uint32_t middle = low + (high - low + 1) / 2;
        if (sl__cache_plan_bytes(plan, middle) <= budget_bytes)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* In step with sl__cache_plan_table_bytes. */
static sl__cache *tables_alloc(const sl__cache_plan *plan, uint32_t slots)
{
    uint64_t bytes = sl__cache_plan_table_bytes(plan, slots);
    sl__arena arena;
    if (bytes > SIZE_MAX) return NULL;
    sl__arena_init(&arena, (size_t)bytes); /* so that it is one block */
    sl__cache *cache = SL_ARENA_NEW(&arena, sl__cache, 1);
    uint32_t *first = SL_ARENA_NEW(&arena, uint32_t, (size_t)plan->layer_count + 1);
    uint32_t *index = SL_ARENA_NEW(&arena, uint32_t, plan->record_count);
    sl__slot *slot_table = SL_ARENA_NEW(&arena, sl__slot, slots);
    sl__policy_entry *entries = SL_ARENA_NEW(&arena, sl__policy_entry, slots);
    sl__ticket_item *items = SL_ARENA_NEW(&arena, sl__ticket_item, plan->expert_max);
    uint32_t *ready = SL_ARENA_NEW(&arena, uint32_t, plan->expert_max);
    uint32_t *waiting = SL_ARENA_NEW(&arena, uint32_t, plan->expert_max);
    bool *seen = SL_ARENA_NEW(&arena, bool, plan->expert_max);
    if (!cache || !first || !index || !slot_table || !entries || !items || !ready || !waiting ||
        !seen) {
        sl__arena_free(&arena);
        return NULL;
    }
    assert(arena.used_bytes == bytes);
    cache->arena = arena;
    cache->plan = *plan;
    cache->slot_count = slots;
    cache->first = first;
    cache->index = index;
    cache->slots = slot_table;
    sl__policy_init(&cache->policy, entries);
    cache->ticket.items = items;
    cache->ticket.ready = ready;
    cache->ticket.waiting = waiting;
    cache->ticket.seen = seen;
    return cache;
}

static void tables_fill(sl__cache *cache)
{
    for (uint32_t l = 0; l < cache->plan.layer_count; l++) {
        const sl__expert_layout *layout = sl__store_expert_layout(cache->store, l);
        cache->first[l + 1] = cache->first[l] + (layout ? layout->expert_count : 0);
    }
    assert(cache->first[cache->plan.layer_count] == cache->plan.record_count);
    for (uint32_t i = 0; i < cache->plan.record_count; i++)
        cache->index[i] = SL_SLOT_NONE;
    cache->free_head = cache->submit_head = cache->submit_tail = SL_SLOT_NONE;
    for (uint32_t s = cache->slot_count; s-- > 0;) { /* slot 0 becomes the first to be used */
        cache->slots[s].item = SL_ITEM_NONE;
        cache->slots[s].next = cache->free_head;
        cache->free_head = s;
    }
}

sl_status sl__cache_create(sl__cache **out, sl__store *store, sl__io *io,
                           const sl__cache_options *opt, sl_error *err)
{
    sl__cache_plan plan;
    *out = NULL;
    if (!sl__cache_plan_make(&plan, store, opt->layer_count)) {
        return SL_FAIL(err, SL_EINVAL, "the experts of %u layers are too many for a cache",
                       opt->layer_count);
    }
    uint64_t least = sl__cache_plan_bytes(&plan, plan.slot_min);
    if (opt->budget_bytes < least) {
        return SL_FAIL(err, SL_EBUDGET,
                       "the expert cache needs at least %llu bytes (two experts of %llu bytes and "
                       "its tables), the budget is %llu",
                       (unsigned long long)least, (unsigned long long)plan.slot_bytes,
                       (unsigned long long)opt->budget_bytes);
    }
    uint32_t slots = slots_within(&plan, opt->budget_bytes);
    sl__cache *cache = tables_alloc(&plan, slots);
    if (cache == NULL) return SL_FAIL_NOMEM(err, "cache tables");
    cache->slab_bytes = sl__cache_plan_slab_bytes(&plan, slots);
    if (cache->slab_bytes <= SIZE_MAX) cache->slab = sl__pages_alloc((size_t)cache->slab_bytes);
    if (cache->slab == NULL) {
        sl__arena arena = cache->arena;
        sl__arena_free(&arena);
        return SL_FAIL_NOMEM(err, "expert cache");
    }
    cache->store = store;
    cache->io = io;
    cache->verify = opt->verify;
    tables_fill(cache);
    *out = cache;
    return SL_OK;
}

void sl__cache_destroy(sl__cache *cache)
{
    if (cache == NULL) return;
    sl__loads_abort(cache);
    sl__pages_free(cache->slab, (size_t)cache->slab_bytes);
    sl__arena arena = cache->arena; /* it holds the cache itself */
    sl__arena_free(&arena);
}

uint32_t sl__cache_slots(const sl__cache *cache)
{
    return cache->slot_count;
}

void sl__cache_stats_get(const sl__cache *cache, sl__cache_stats *stats)
{
    *stats = cache->stats;
}

static bool has_loose_loads(const sl__cache *cache)
{
    for (uint32_t s = 0; s < cache->slot_count; s++) {
        const sl__slot *slot = &cache->slots[s];
        if (slot->state == SL_SLOT_LOADING && slot->item == SL_ITEM_NONE) return true;
    }
    return false;
}

void sl__cache_drop(sl__cache *cache)
{
    /* Loads that nobody waits for would appear as ready later; let them come in first. */
    while (has_loose_loads(cache)) {
        sl__loads_submit(cache);
        sl__loads_collect(cache, true);
    }
    for (uint32_t s = 0; s < cache->slot_count; s++) {
        const sl__slot *slot = &cache->slots[s];
        if (slot->state != SL_SLOT_READY || slot->item != SL_ITEM_NONE) continue;
        sl__policy_remove(&cache->policy, s);
        sl__slot_forget(cache, s);
    }
}
