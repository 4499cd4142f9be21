/* Choosing a victim.
 *
 *     by recency                    by expectation, the default
 *     coldest ── … ── hottest       layer 0   least ──> slot     the victim is the worst of these,
 *     (a list of the slots that     layer 1   least ──> slot     each at its layer's distance
 *     may be evicted)               …
 *
 * The list is kept by both policies: the default falls back to it until it knows something. What a
 * layer's `least` is changes with a note of that layer and with what is added and removed; it is
 * looked for again only when it is wanted, among the layer's records alone.
 */
#include "cache/cache_policy.h"

#include <assert.h>
#include <math.h>

#include "base/arena.h"
#include "base/checked.h"

/* ---- tables ---------------------------------------------------------------------------------- */

typedef struct tables {
    uint64_t entries, slot, least, stale, reuse, end; /* offsets */
} tables;

static bool add_table(uint64_t *at, uint64_t count, uint64_t size)
{
    uint64_t bytes;
    return sl__mul_u64(&bytes, count, size) && sl__align_u64(&bytes, bytes, SL_ARENA_ALIGN) &&
           sl__add_u64(at, *at, bytes);
}

static bool lay_tables(tables *t, sl__policy_kind kind, const sl__policy_shape *shape)
{
    uint64_t at = 0;
    *t = (tables){0};
    bool fits = add_table(&at, shape->slots, sizeof(sl__policy_entry));
    if (kind == SL_POLICY_DEFAULT) {
        t->slot = at;
        fits = fits && add_table(&at, shape->records, sizeof(uint32_t));
        t->least = at;
        fits = fits && add_table(&at, shape->layers, sizeof(uint32_t));
        t->stale = at;
        fits = fits && add_table(&at, shape->layers, sizeof(bool));
        t->reuse = at;
        fits = fits && add_table(&at, sl__reuse_bytes(shape->layers, shape->records), 1);
    }
    t->end = at;
    return fits;
}

uint64_t sl__policy_bytes(sl__policy_kind kind, const sl__policy_shape *shape)
{
    tables t;
    return lay_tables(&t, kind, shape) ? t.end : UINT64_MAX;
}

void sl__policy_init(sl__policy *policy, sl__policy_kind kind, const sl__policy_shape *shape,
                     void *memory)
{
    tables t;
    bool fits = lay_tables(&t, kind, shape);
    assert(fits);
    char *base = memory;
    *policy = (sl__policy){.kind = kind,
                           .shape = *shape,
                           .entries = (sl__policy_entry *)(void *)base,
                           .coldest = SL_SLOT_NONE,
                           .hottest = SL_SLOT_NONE};
    if (kind != SL_POLICY_DEFAULT) return;
    policy->slot = (uint32_t *)(void *)(base + t.slot);
    policy->least = (uint32_t *)(void *)(base + t.least);
    policy->stale = (bool *)(base + t.stale);
    for (uint32_t r = 0; r < shape->records; r++)
        policy->slot[r] = SL_SLOT_NONE;
    for (uint32_t l = 0; l < shape->layers; l++)
        policy->least[l] = SL_SLOT_NONE;
    sl__reuse_init(&policy->reuse, shape->layers, shape->records, shape->first, base + t.reuse);
}

static uint32_t record_of(const sl__policy *policy, uint32_t layer, uint32_t expert)
{
    assert(layer < policy->shape.layers);
    uint32_t record = policy->shape.first[layer] + expert;
    assert(record < policy->shape.first[layer + 1]);
    return record;
}

static uint32_t record_in(const sl__policy *policy, uint32_t slot)
{
    const sl__policy_entry *e = &policy->entries[slot];
    return record_of(policy, e->layer, e->expert);
}

/* ---- what happens to records ----------------------------------------------------------------- */

void sl__policy_note(sl__policy *policy, uint32_t layer, const uint32_t *ranked, uint32_t n,
                     uint32_t chosen)
{
    if (policy->kind != SL_POLICY_DEFAULT || chosen == 0) return;
    sl__reuse_note(&policy->reuse, layer, ranked, n, chosen);
    policy->noted = true;
    policy->stale[layer] = true;
}

void sl__policy_load(sl__policy *policy, uint32_t slot, uint32_t layer, uint32_t expert)
{
    assert(slot < policy->shape.slots);
    policy->entries[slot].layer = layer;
    policy->entries[slot].expert = expert;
    sl__policy_touch(policy, slot);
}

void sl__policy_touch(sl__policy *policy, uint32_t slot)
{
    policy->entries[slot].used = policy->clock++;
}

static bool older(const sl__policy *policy, uint32_t a, uint32_t b)
{
    return (int32_t)(policy->entries[a].used - policy->entries[b].used) < 0;
}

/* Whether the record in slot a goes before the one in slot b of the same layer. */
static bool goes_before(const sl__policy *policy, uint32_t a, uint32_t b)
{
    float chance_a = policy->reuse.chance[record_in(policy, a)];
    float chance_b = policy->reuse.chance[record_in(policy, b)];
    if (chance_a < chance_b || chance_a > chance_b) return chance_a < chance_b;
    return older(policy, a, b);
}

static void list_add(sl__policy *policy, uint32_t slot)
{
    sl__policy_entry *e = &policy->entries[slot];
    assert(policy->hottest != slot);
    e->hotter = SL_SLOT_NONE;
    e->colder = policy->hottest;
    if (policy->hottest != SL_SLOT_NONE)
        policy->entries[policy->hottest].hotter = slot;
    else
        policy->coldest = slot;
    policy->hottest = slot;
}

static void list_remove(sl__policy *policy, uint32_t slot)
{
    sl__policy_entry *e = &policy->entries[slot];
    if (e->colder != SL_SLOT_NONE)
        policy->entries[e->colder].hotter = e->hotter;
    else
        policy->coldest = e->hotter;
    if (e->hotter != SL_SLOT_NONE)
        policy->entries[e->hotter].colder = e->colder;
    else
        policy->hottest = e->colder;
}

void sl__policy_add(sl__policy *policy, uint32_t slot)
{
    assert(slot < policy->shape.slots);
    list_add(policy, slot);
    if (policy->kind != SL_POLICY_DEFAULT) return;
    uint32_t layer = policy->entries[slot].layer, record = record_in(policy, slot);
    assert(policy->slot[record] == SL_SLOT_NONE);
    policy->slot[record] = slot;
    if (policy->stale[layer]) return;
    uint32_t *least = &policy->least[layer];
    if (*least == SL_SLOT_NONE || goes_before(policy, slot, *least)) *least = slot;
}

void sl__policy_remove(sl__policy *policy, uint32_t slot)
{
    list_remove(policy, slot);
    if (policy->kind != SL_POLICY_DEFAULT) return;
    uint32_t layer = policy->entries[slot].layer, record = record_in(policy, slot);
    assert(policy->slot[record] == slot);
    policy->slot[record] = SL_SLOT_NONE;
    if (policy->least[layer] == slot) policy->stale[layer] = true;
}

/* ---- choosing -------------------------------------------------------------------------------- */

static uint32_t least_of(sl__policy *policy, uint32_t layer)
{
    if (!policy->stale[layer]) return policy->least[layer];
    const float *chance = policy->reuse.chance;
    float best = INFINITY;
    uint32_t least = SL_SLOT_NONE, end = policy->shape.first[layer + 1];
    for (uint32_t r = policy->shape.first[layer]; r < end; r++) {
        uint32_t slot = policy->slot[r];
        if (slot == SL_SLOT_NONE || chance[r] > best) continue;
        if (chance[r] < best || older(policy, slot, least)) least = slot;
        best = chance[r];
    }
    policy->least[layer] = least;
    policy->stale[layer] = false;
    return least;
}

float sl__policy_expected(const sl__policy *policy, uint32_t layer_at_work, uint32_t layer,
                          uint32_t expert)
{
    uint32_t layers = policy->shape.layers, record = record_of(policy, layer, expert);
    assert(layer_at_work < layers);
    if (!policy->noted || !policy->reuse.known[layer]) return 1.0f;
    uint32_t ahead = layer > layer_at_work ? layer - layer_at_work : layer + layers - layer_at_work;
    return (float)ahead / (float)layers / policy->reuse.chance[record];
}

static uint32_t latest(sl__policy *policy, uint32_t layer_at_work, float *expected_tokens)
{
    uint32_t victim = SL_SLOT_NONE;
    float worst = 0;
    for (uint32_t l = 0; l < policy->shape.layers; l++) {
        uint32_t slot = least_of(policy, l);
        if (slot == SL_SLOT_NONE) continue;
        float expected = sl__policy_expected(policy, layer_at_work, l,
                                             policy->entries[slot].expert);
        if (victim != SL_SLOT_NONE && expected <= worst) continue;
        victim = slot;
        worst = expected;
    }
    *expected_tokens = worst;
    return victim;
}

uint32_t sl__policy_coldest(sl__policy *policy, uint32_t layer, float *expected_tokens)
{
    if (policy->noted) return latest(policy, layer, expected_tokens);
    *expected_tokens = 1.0f;
    return policy->coldest;
}

uint32_t sl__policy_victim(sl__policy *policy, uint32_t layer)
{
    float unused;
    uint32_t victim = sl__policy_coldest(policy, layer, &unused);
    if (victim != SL_SLOT_NONE) sl__policy_remove(policy, victim);
    return victim;
}
