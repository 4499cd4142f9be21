/* Who is evicted: the one place that decides it. It knows numbers of slots, layers and experts,
 * nothing else, so a recorded trace can be replayed against it without a model (simulate.h).
 *
 * The default policy keeps what is expected soonest. A record is asked for only when its layer is
 * at work, so how soon that can be is known; how likely it then is, reuse.h learns from the notes:
 *
 *     expected tokens = (layers until its layer is at work again ÷ layers) ÷ chance
 *
 * The victim is the record whose quotient is largest: a slot is best spent where it buys most
 * chance of a hit for the time that it is taken. Within a layer the order is that of the chances
 * alone, so each layer remembers its least likely record, and a victim is the worst of as many as
 * there are layers. Records that are equally likely go by recency; before the first note, all do.
 *
 * The policy knows the slots that may be evicted: the cache adds a slot when nobody holds it any
 * more, and takes it out when it is held again or forgotten. So a victim needs no search past
 * pinned or loading slots.
 */
#ifndef SL_CACHE_CACHE_POLICY_H
#define SL_CACHE_CACHE_POLICY_H

#include <stdbool.h>
#include <stdint.h>

#include "cache/reuse.h"

#define SL_SLOT_NONE UINT32_MAX

typedef enum sl__policy_kind {
    SL_POLICY_DEFAULT = 0,
    SL_POLICY_LRU, /* for comparison */
} sl__policy_kind;

typedef struct sl__policy_shape {
    uint32_t slots, layers;
    uint32_t records;      /* experts of all layers */
    const uint32_t *first; /* [layers + 1]: record of a layer's expert 0; borrowed, and not looked
                            * at before the first note or load */
} sl__policy_shape;

typedef struct sl__policy_entry {
    uint32_t colder, hotter; /* neighbours in the order of recency; SL_SLOT_NONE at the ends */
    uint32_t layer, expert;  /* what is in the slot */
    uint32_t used;           /* when its record was last asked for, in requests; wraps */
} sl__policy_entry;

typedef struct sl__policy {
    sl__policy_kind kind;
    sl__policy_shape shape;
    sl__policy_entry *entries; /* [slots] */
    uint32_t coldest, hottest;
    uint32_t clock; /* of `used` */
    /* Of the default policy only. */
    bool noted;           /* there was a note */
    sl__reuse reuse;
    uint32_t *slot;       /* [records]: where it can be evicted from; SL_SLOT_NONE: it cannot */
    uint32_t *least;      /* [layers]: slot of the least likely record; SL_SLOT_NONE: none */
    bool *stale;          /* [layers]: least is to be looked for again */
} sl__policy;

/* Bytes of the tables, a multiple of SL_ARENA_ALIGN; UINT64_MAX: too many. */
uint64_t sl__policy_bytes(sl__policy_kind kind, const sl__policy_shape *shape);
/* memory: sl__policy_bytes, zeroed, aligned as an arena's block; the caller's. */
void sl__policy_init(sl__policy *policy, sl__policy_kind kind, const sl__policy_shape *shape,
                     void *memory);

/* As sl__cache_note. */
void sl__policy_note(sl__policy *policy, uint32_t layer, const uint32_t *ranked, uint32_t n,
                     uint32_t chosen);
/* A record comes into the slot. */
void sl__policy_load(sl__policy *policy, uint32_t slot, uint32_t layer, uint32_t expert);
void sl__policy_touch(sl__policy *policy, uint32_t slot);  /* its record was asked for */
void sl__policy_add(sl__policy *policy, uint32_t slot);    /* evictable from now, just used */
void sl__policy_remove(sl__policy *policy, uint32_t slot); /* not evictable any more */
/* The slot that would be evicted while `layer` is at work, and how soon its record is expected to
 * be asked for again, in tokens; SL_SLOT_NONE where there is none. It stays where it is. Where
 * nothing is known (LRU, or no note of the record's layer yet) that is 1 token. */
uint32_t sl__policy_coldest(sl__policy *policy, uint32_t layer, float *expected_tokens);
/* The same for any record, in a slot or not. */
float sl__policy_expected(const sl__policy *policy, uint32_t layer_at_work, uint32_t layer,
                          uint32_t expert);
/* Takes out the slot to evict while `layer` is at work; SL_SLOT_NONE where there is none. */
uint32_t sl__policy_victim(sl__policy *policy, uint32_t layer);

#endif
