/* What is in memory, drawn: a byte an expert.
 *
 *     requests of layers   … 7 8 9 │ 10 11 12 │ 13 14 15      three layers, so three a pass
 *     an expert asked for      *   │          │               by request 8: two passes ago
 *
 * Every request has a number, and each record keeps that of the last one that asked for it. A pass
 * asks once a layer, so the numbers tell passes without anybody counting them, also where one was
 * broken off.
 */
#include "cache/cache_private.h"

static uint8_t state_of(const sl__cache *cache, uint32_t record, uint64_t layers)
{
    uint32_t slot = cache->index[record];
    bool held = slot != SL_SLOT_NONE && cache->slots[slot].state == SL_SLOT_READY;
    uint64_t asked = cache->asked[record], passes = SL_EXPERT_PASSES;
    if (asked > 0) passes = (cache->requests - asked) / layers;
    if (passes > SL_EXPERT_PASSES) passes = SL_EXPERT_PASSES;
    return (uint8_t)(passes | (held ? SL_EXPERT_HELD : 0u));
}

void sl__cache_map(const sl__cache *cache, sl_expert_map *map)
{
    const uint32_t *first = cache->first;
    map->layers = 0;
    map->experts = cache->plan.expert_max;
    for (uint32_t l = 0; l < cache->plan.layer_count; l++)
        map->layers += first[l + 1] > first[l];
    uint8_t *at = map->state;
    for (uint32_t l = 0; at && l < cache->plan.layer_count; l++) {
        uint32_t count = first[l + 1] - first[l];
        for (uint32_t e = 0; count > 0 && e < map->experts; e++)
            *at++ = e < count ? state_of(cache, first[l] + e, map->layers) : SL_EXPERT_PASSES;
    }
}
