/* The baseline without slots: records are used where they lie in mapped files.
 *
 *     request ──> every item is ready     next ──> map of the layer's file + offset of the record
 *
 * The system reads pages when they are touched, so no time of waiting and no bytes read are known;
 * comparing a checksum touches a record as a whole. In a pack a record is one extent at a multiple
 * of 4096, so its parts are aligned as in a slot.
 */
#include <assert.h>

#include "base/clock.h"
#include "base/fail.h"
#include "cache/cache_private.h"

static sl__extent extent_of(const sl__cache *cache, uint32_t layer, uint32_t expert)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t n = sl__store_expert_extents(cache->store, layer, expert, extents);
    assert(n == 1 && extents[0].dst == 0);
    return extents[0];
}

/* Gives a range of every mapped file an advice: all records of each layer. */
static void advise_layers(sl__cache *cache, sl__map_advice advice)
{
    for (uint32_t l = 0; l < cache->plan.layer_count; l++) {
        uint32_t experts = cache->first[l + 1] - cache->first[l];
        if (experts == 0) continue;
        sl__extent x = extent_of(cache, l, 0), last = extent_of(cache, l, experts - 1);
        sl__store_map_advise(cache->store, x.file, x.offset, last.offset + last.bytes - x.offset,
                             advice);
    }
}

sl_status sl__mapped_open(sl__cache *cache, const sl__cache_options *opt, sl_error *err)
{
    if (!sl__store_is_pack(cache->store)) {
        return SL_FAIL(err, SL_EINVAL,
                       "%s: only a pack can be mapped: a record must lie in one piece",
                       sl__store_path(cache->store));
    }
    cache->mapped = true;
    cache->map_advice = opt->map_advice;
    for (uint32_t l = 0; l < cache->plan.layer_count; l++) {
        if (cache->first[l + 1] == cache->first[l]) continue;
        sl_error failure = {0};
        if (!sl__store_map(cache->store, extent_of(cache, l, 0).file, &failure))
            return SL_FAIL(err, failure.status, "%s", failure.message);
    }
    if (opt->map_advice == SL_MAP_RANDOM) advise_layers(cache, SL_MAP_RANDOM);
    return SL_OK;
}

void sl__mapped_want(sl__cache *cache, uint32_t layer, uint32_t expert)
{
    if (cache->map_advice != SL_MAP_WILLNEED) return;
    sl__extent x = extent_of(cache, layer, expert);
    sl__store_map_advise(cache->store, x.file, x.offset, x.bytes, SL_MAP_WILLNEED);
}

sl_status sl__mapped_record(sl__cache *cache, uint32_t layer, uint32_t expert, const void **record,
                            sl_error *err)
{
    sl__extent x = extent_of(cache, layer, expert);
    const unsigned char *map = sl__store_map(cache->store, x.file, NULL);
    assert(map != NULL); /* it has been mapped at creation */
    *record = map + x.offset;
    uint64_t begin = sl__now_ns();
    sl_status status = sl__store_verify_record(cache->store, layer, expert, *record, cache->verify,
                                               err);
    cache->stats.verify_ns += sl__now_ns() - begin;
    return status;
}

void sl__mapped_drop(sl__cache *cache)
{
    advise_layers(cache, SL_MAP_DONTNEED);
}
