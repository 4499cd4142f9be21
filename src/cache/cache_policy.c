/* Eviction led by recency, frequency as a tie-break.
 *
 *     coldest <-> . <-> . <-> . <-> …                      … <-> hottest
 *     └──────── window ───────┘                                  └── add
 *
 * The order is an exact list of last use. The victim is the least used of the few coldest; among
 * equals the coldest. A slot that is colder than the victim and was spared for its uses pays one of
 * them, so what was popular once leaves in the end.
 */
#include "cache/cache_policy.h"

#include <assert.h>

#define WINDOW   4u /* how far from the cold end a victim may lie */
#define USES_MAX 8u /* so that a spared slot outstays at most as many victims */

void sl__policy_init(sl__policy *policy, sl__policy_entry *entries)
{
    policy->entries = entries;
    policy->coldest = policy->hottest = SL_SLOT_NONE;
}

void sl__policy_load(sl__policy *policy, uint32_t slot)
{
    policy->entries[slot].uses = 1;
}

void sl__policy_touch(sl__policy *policy, uint32_t slot)
{
    sl__policy_entry *e = &policy->entries[slot];
    if (e->uses < USES_MAX) e->uses++;
}

void sl__policy_add(sl__policy *policy, uint32_t slot)
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

void sl__policy_remove(sl__policy *policy, uint32_t slot)
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

uint32_t sl__policy_victim(sl__policy *policy)
{
    uint32_t victim = policy->coldest;
    if (victim == SL_SLOT_NONE) return SL_SLOT_NONE;

    uint32_t i = victim;
    for (uint32_t n = 0; n < WINDOW && i != SL_SLOT_NONE; n++) {
        if (policy->entries[i].uses < policy->entries[victim].uses) victim = i;
        i = policy->entries[i].hotter;
    }
    for (i = policy->coldest; i != victim; i = policy->entries[i].hotter) {
        policy->entries[i].uses--; /* more than the victim's, so at least 1 */
    }
    sl__policy_remove(policy, victim);
    return victim;
}
