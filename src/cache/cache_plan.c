/* How large a cache is: one function of the number of slots, used to create it and to say what
 * would be needed. */
#include <assert.h>

#include "base/checked.h"
#include "cache/cache_private.h"

#define PAGE_BYTES 4096u
/* The headers of the arena and the allocator, and the unused end of the slab's last page. */
#define OVERHEAD_BYTES (256u + PAGE_BYTES)

bool sl__cache_plan_make(sl__cache_plan *plan, const sl__store *store, uint32_t layer_count)
{
    uint64_t records = 0, largest = 0;
    *plan = (sl__cache_plan){.layer_count = layer_count};
    for (uint32_t l = 0; l < layer_count; l++) {
        const sl__expert_layout *layout = sl__store_expert_layout(store, l);
        if (layout == NULL) continue; /* a layer without experts */
        records += layout->expert_count;
        if (layout->record_bytes > largest) largest = layout->record_bytes;
        if (layout->expert_count > plan->expert_max) plan->expert_max = layout->expert_count;
        if (records >= UINT32_MAX) return false;
    }
    plan->record_count = (uint32_t)records;
    if (records == 0) return true;
    /* Whole pages let direct reads go straight into a slot. */
    uint64_t align = largest >= PAGE_BYTES ? PAGE_BYTES : SL_ARENA_ALIGN;
    if (!sl__align_u64(&plan->slot_bytes, largest, align) || plan->slot_bytes == 0) return false;
    plan->slot_min = 2;
    plan->slot_max = plan->record_count > 2 ? plan->record_count : 2;
    return true;
}

/* Adds count * size bytes as the arena counts them. */
static bool add_table(uint64_t *sum, uint64_t count, uint64_t size)
{
    uint64_t bytes;
    if (count == 0) count = 1;
    return sl__mul_u64(&bytes, count, size) && sl__align_u64(&bytes, bytes, SL_ARENA_ALIGN) &&
           sl__add_u64(sum, *sum, bytes);
}

/* In step with tables_alloc in cache.c, which asserts it. */
uint64_t sl__cache_plan_table_bytes(const sl__cache_plan *plan, uint32_t slots)
{
    const sl__policy_shape shape = {
        .slots = slots, .layers = plan->layer_count, .records = plan->record_count};
    uint64_t sum = 0;
    bool fits = add_table(&sum, 1, sizeof(sl__cache)) &&
                add_table(&sum, (uint64_t)plan->layer_count + 1, sizeof(uint32_t)) &&
                add_table(&sum, plan->record_count, sizeof(uint32_t)) &&
                add_table(&sum, plan->record_count, sizeof(uint64_t)) &&
                add_table(&sum, slots, sizeof(sl__slot)) &&
                add_table(&sum, sl__policy_bytes(SL_POLICY_DEFAULT, &shape), 1) &&
                add_table(&sum, plan->expert_max, sizeof(sl__ticket_item)) &&
                add_table(&sum, plan->expert_max, sizeof(uint32_t)) &&
                add_table(&sum, plan->expert_max, sizeof(uint32_t)) &&
                add_table(&sum, plan->expert_max, sizeof(bool)) &&
                add_table(&sum, plan->expert_max, sizeof(uint32_t)) &&
                add_table(&sum, plan->expert_max, sizeof(uint8_t)) &&
                add_table(&sum, plan->expert_max, sizeof(uint32_t)) &&
                add_table(&sum, plan->expert_max, sizeof(uint8_t));
    return fits ? sum : UINT64_MAX;
}

uint64_t sl__cache_plan_slab_bytes(const sl__cache_plan *plan, uint32_t slots)
{
    uint64_t bytes;
    return sl__mul_u64(&bytes, slots, plan->slot_bytes) ? bytes : UINT64_MAX;
}

uint64_t sl__cache_plan_bytes(const sl__cache_plan *plan, uint32_t slots)
{
    uint64_t sum;
    uint64_t tables = sl__cache_plan_table_bytes(plan, slots);
    bool fits = sl__add_u64(&sum, tables, sl__cache_plan_slab_bytes(plan, slots)) &&
                sl__add_u64(&sum, sum, OVERHEAD_BYTES);
    return fits ? sum : UINT64_MAX;
}

uint64_t sl__cache_minimum(const sl__store *store, uint32_t layer_count)
{
    sl__cache_plan plan;
    if (!sl__cache_plan_make(&plan, store, layer_count)) return UINT64_MAX;
    return sl__cache_plan_bytes(&plan, plan.slot_min);
}

uint64_t sl__cache_maximum(const sl__store *store, uint32_t layer_count)
{
    sl__cache_plan plan;
    if (!sl__cache_plan_make(&plan, store, layer_count)) return UINT64_MAX;
    return sl__cache_plan_bytes(&plan, plan.slot_max);
}

uint64_t sl__cache_mapped_bytes(const sl__store *store, uint32_t layer_count)
{
    sl__cache_plan plan;
    if (!sl__cache_plan_make(&plan, store, layer_count)) return UINT64_MAX;
    return sl__cache_plan_bytes(&plan, 0);
}
