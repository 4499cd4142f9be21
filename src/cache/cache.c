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
static sl__cache *tables_alloc(const sl__cache_plan *plan, uint32_t slots,
                               sl__policy_kind kind)
{
    uint64_t bytes = sl__cache_plan_table_bytes(plan, slots);
    sl__arena arena;
    if (bytes > SIZE_MAX) return NULL;
    sl__arena_init(&arena, (size_t)bytes); /* so that it is one block */
    sl__cache *cache = SL_ARENA_NEW(&arena, sl__cache, 1);
    uint32_t *first = SL_ARENA_NEW(&arena, uint32_t, (size_t)plan->layer_count + 1);
    uint32_t *index = SL_ARENA_NEW(&arena, uint32_t, plan->record_count);
    uint64_t *asked = SL_ARENA_NEW(&arena, uint64_t, plan->record_count);
    sl__slot *slot_table = SL_ARENA_NEW(&arena, sl__slot, slots);
    const sl__policy_shape shape = {.slots = slots,
                                    .layers = plan->layer_count,
                                    .records = plan->record_count,
                                    .first = first};
    uint64_t policy_bytes = sl__policy_bytes(SL_POLICY_DEFAULT, &shape);
    void *policy = SL_ARENA_NEW(&arena, char, (size_t)policy_bytes);
    sl__ticket_item *items = SL_ARENA_NEW(&arena, sl__ticket_item, plan->expert_max);
    uint32_t *ready = SL_ARENA_NEW(&arena, uint32_t, plan->expert_max);
    uint32_t *waiting = SL_ARENA_NEW(&arena, uint32_t, plan->expert_max);
    bool *seen = SL_ARENA_NEW(&arena, bool, plan->expert_max);
    uint32_t *predicted = SL_ARENA_NEW(&arena, uint32_t, plan->expert_max);
    uint8_t *fate = SL_ARENA_NEW(&arena, uint8_t, plan->expert_max);
    uint32_t *earlier = SL_ARENA_NEW(&arena, uint32_t, plan->expert_max);
    uint8_t *earlier_fate = SL_ARENA_NEW(&arena, uint8_t, plan->expert_max);
    if (!cache || !first || !index || !asked || !slot_table || !policy || !items || !ready ||
        !waiting || !seen || !predicted || !fate || !earlier || !earlier_fate) {
        sl__arena_free(&arena);
        return NULL;
    }
    assert(arena.used_bytes == bytes);
    cache->arena = arena;
    cache->plan = *plan;
    cache->slot_count = cache->usable_count = cache->target_count = slots;
    cache->first = first;
    cache->index = index;
    cache->asked = asked;
    cache->slots = slot_table;
    sl__policy_init(&cache->policy, kind, &shape, policy);
    cache->ticket.items = items;
    cache->ticket.ready = ready;
    cache->ticket.waiting = waiting;
    cache->ticket.seen = seen;
    cache->prediction.ids = predicted;
    cache->prediction.fate = fate;
    cache->earlier.ids = earlier;
    cache->earlier.fate = earlier_fate;
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
    cache->free_head = cache->retired_head = SL_SLOT_NONE;
    cache->submit_head = cache->submit_tail = SL_SLOT_NONE;
    cache->ring_oldest = cache->ring_newest = SL_SLOT_NONE;
    for (uint32_t s = cache->slot_count; s-- > 0;) { /* slot 0 becomes the first to be used */
        cache->slots[s].item = SL_ITEM_NONE;
        cache->slots[s].next = cache->free_head;
        cache->free_head = s;
    }
}

static sl_status budget_too_small(const sl__cache_plan *plan, uint64_t budget_bytes, sl_error *err)
{
    return SL_FAIL(err, SL_EBUDGET,
                   "the expert cache needs at least %llu bytes (two experts of %llu bytes and "
                   "its tables), the budget is %llu",
                   (unsigned long long)sl__cache_plan_bytes(plan, plan->slot_min),
                   (unsigned long long)plan->slot_bytes, (unsigned long long)budget_bytes);
}

/* Slots, or mapped files in their place. */
static sl_status take_slots(sl__cache *cache, const sl__cache_options *opt, sl_error *err)
{
    if (opt->mapped) return sl__mapped_open(cache, opt, err);
    cache->slab_bytes = sl__cache_plan_slab_bytes(&cache->plan, cache->slot_count);
    if (cache->slab_bytes <= SIZE_MAX)
        cache->slab = sl__pages_alloc_huge((size_t)cache->slab_bytes);
    if (cache->slab == NULL) return SL_FAIL_NOMEM(err, "expert cache");
    cache->stats.budget_bytes = sl__cache_held_bytes(cache);
    return SL_OK;
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
    if (!opt->mapped && opt->budget_bytes < sl__cache_plan_bytes(&plan, plan.slot_min))
        return budget_too_small(&plan, opt->budget_bytes, err);
    uint32_t slots = opt->mapped ? 0 : slots_within(&plan, opt->budget_bytes);
    sl__cache *cache = tables_alloc(&plan, slots, opt->policy);
    if (cache == NULL) return SL_FAIL_NOMEM(err, "cache tables");
    cache->store = store;
    cache->io = io;
    cache->verify = opt->verify;
    cache->direct = opt->direct;
    cache->pool = opt->pool;
    sl__predictor_init(&cache->predictor, opt->prefetch, opt->measure);
    tables_fill(cache);
    sl_status status = take_slots(cache, opt, err);
    if (status != SL_OK) {
        sl__arena arena = cache->arena;
        sl__arena_free(&arena);
        return status;
    }
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

void sl__cache_note(sl__cache *cache, uint32_t layer, const uint32_t *ranked, uint32_t n,
                    uint32_t chosen)
{
    if (!cache->mapped) sl__policy_note(&cache->policy, layer, ranked, n, chosen);
}

void sl__cache_stats_get(const sl__cache *cache, sl__cache_stats *stats)
{
    *stats = cache->stats;
    stats->prefetch_on = sl__prefetch_share(cache) > 0 && sl__predictor_on(&cache->predictor);
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
    if (cache->mapped) sl__mapped_drop(cache);
    sl__prefetch_forget(cache);
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
