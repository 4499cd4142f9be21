/* Who is evicted: the one place that decides it.
 *
 * The policy knows the slots that may be evicted, and nothing else: the cache adds a slot when
 * nobody holds it any more, and takes it out when it is held again or forgotten. So a victim needs
 * no search past pinned or loading slots.
 */
#ifndef SL_CACHE_CACHE_POLICY_H
#define SL_CACHE_CACHE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#define SL_SLOT_NONE UINT32_MAX

typedef struct sl__policy_entry {
    uint32_t colder, hotter; /* neighbours in the order of recency; SL_SLOT_NONE at the ends */
    uint32_t uses;           /* requests since the record came into the slot, aged */
} sl__policy_entry;

typedef struct sl__policy {
    sl__policy_entry *entries; /* [slots], the caller's */
    uint32_t coldest, hottest;
} sl__policy;

void sl__policy_init(sl__policy *policy, sl__policy_entry *entries);
void sl__policy_load(sl__policy *policy, uint32_t slot);   /* a new record comes into the slot */
void sl__policy_touch(sl__policy *policy, uint32_t slot);  /* its record was asked for */
void sl__policy_add(sl__policy *policy, uint32_t slot);    /* evictable from now, just used */
void sl__policy_remove(sl__policy *policy, uint32_t slot); /* not evictable any more */
/* Takes out the slot to evict; SL_SLOT_NONE where there is none. */
uint32_t sl__policy_victim(sl__policy *policy);

#endif
