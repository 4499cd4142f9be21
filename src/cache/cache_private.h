/* What the files of the cache share.
 *
 *     index[first[layer] + expert] ──> slot ──> slab + slot * slot_bytes
 *
 *     tables (one arena block)                       slab (pages, resident once touched)
 *     ┌───────┬───────┬───────┬───────┬────────┐     ┌────────┬────────┬───┬────────┐
 *     │ cache │ first │ index │ slots │ ticket │     │ slot 0 │ slot 1 │ … │        │
 *     └───────┴───────┴───────┴───────┴────────┘     └────────┴────────┴───┴────────┘
 *
 * A slot is in at most one list:
 *
 *     FREE     the free list
 *     LOADING  the submit queue, while some of its extents are still to be handed to the io engine
 *     READY    the policy's, unless an item of the ticket holds it
 *
 * One thread drives a cache, so there is no lock.
 */
#ifndef SL_CACHE_CACHE_PRIVATE_H
#define SL_CACHE_CACHE_PRIVATE_H

#include "base/arena.h"
#include "cache/cache.h"
#include "cache/cache_policy.h"

#define SL_ITEM_NONE UINT32_MAX

/* ---- sizes ----------------------------------------------------------------------------------- */

typedef struct sl__cache_plan {
    uint32_t layer_count;
    uint32_t record_count; /* experts of all layers */
    uint32_t expert_max;   /* experts of the layer that has most */
    uint32_t slot_min;     /* 2; 0 where there are no experts */
    uint32_t slot_max;     /* more would never be used */
    uint64_t slot_bytes;   /* the largest record, rounded up */
} sl__cache_plan;

/* False where the numbers of the store do not fit. */
bool sl__cache_plan_make(sl__cache_plan *plan, const sl__store *store, uint32_t layer_count);
/* What the tables for that many slots take, what the slab does, and all together with overheads;
 * UINT64_MAX: too much. */
uint64_t sl__cache_plan_table_bytes(const sl__cache_plan *plan, uint32_t slots);
uint64_t sl__cache_plan_slab_bytes(const sl__cache_plan *plan, uint32_t slots);
uint64_t sl__cache_plan_bytes(const sl__cache_plan *plan, uint32_t slots);

/* ---- slots ----------------------------------------------------------------------------------- */

typedef enum sl__slot_state { SL_SLOT_FREE = 0, SL_SLOT_LOADING, SL_SLOT_READY } sl__slot_state;

typedef struct sl__slot {
    uint32_t layer, expert; /* unless FREE */
    uint32_t item;          /* of the ticket that holds it; SL_ITEM_NONE: nobody does */
    uint32_t next;          /* in the free list or the submit queue */
    uint32_t generation;    /* of the load, part of its reads' tags */
    sl_status status;       /* LOADING: the failure at the lowest extent, and its errno */
    int sys_errno;
    sl__slot_state state;
    uint8_t extent_count;  /* of the record */
    uint8_t submitted;     /* extents handed to the io engine */
    uint8_t completed;     /* of those */
    uint8_t failed_extent; /* where status is not SL_OK */
    bool unverified;       /* READY: the checksum is still to be compared */
} sl__slot;

/* ---- the ticket ------------------------------------------------------------------------------ */

/* WAITING ──slot──> LOADING ──> READY ──next──> GIVEN ──release──> GONE; a failure leads to GONE.
 */
typedef enum sl__item_state {
    SL_ITEM_WAITING = 0, /* for a slot */
    SL_ITEM_LOADING,
    SL_ITEM_READY,
    SL_ITEM_GIVEN,
    SL_ITEM_GONE,
} sl__item_state;

typedef struct sl__ticket_item {
    uint32_t expert;
    uint32_t slot; /* held; SL_SLOT_NONE while WAITING and when GONE */
    sl__item_state state;
} sl__ticket_item;

/* The queues hold each item at most once, so they never wrap. */
struct sl__ticket {
    bool active;
    uint32_t layer;
    uint32_t count;
    uint32_t given;         /* items that were given out, released since or not */
    sl__ticket_item *items; /* [expert_max] */
    uint32_t *ready;        /* [expert_max]: hits in request order, then as reads finish */
    uint32_t ready_head, ready_tail;
    uint32_t *waiting; /* [expert_max]: in request order */
    uint32_t waiting_head, waiting_tail;
    bool *seen;       /* [expert_max]: all false between calls */
    sl_error failure; /* the first; sticky until the ticket ends */
};

struct sl__cache {
    sl__arena arena; /* holds everything but the slab, this struct too */
    sl__store *store;
    sl__io *io;
    sl_verify_rule verify;
    sl__cache_plan plan;

    uint32_t slot_count;
    unsigned char *slab;
    uint64_t slab_bytes;

    uint32_t *first; /* [layer_count + 1]: index of a layer's expert 0 */
    uint32_t *index; /* [record_count]: slot, or SL_SLOT_NONE */
    sl__slot *slots; /* [slot_count] */
    uint32_t free_head;
    uint32_t submit_head, submit_tail;
    sl__policy policy;

    uint32_t reads_in_flight; /* submitted and not reaped, at most io->max_reads */
    sl__ticket ticket;        /* the only one */
    sl__cache_stats stats;
};

/* ---- loads: absent -> LOADING -> READY, and back (cache_load.c) ------------------------------ */

static inline uint32_t *sl__cache_index_at(sl__cache *cache, uint32_t layer, uint32_t expert)
{
    return &cache->index[cache->first[layer] + expert];
}

/* A slot for a new record, the victim of the policy where none is free; SL_SLOT_NONE: all are held
 * or loading. */
uint32_t sl__slot_acquire(sl__cache *cache);
/* Makes a slot that no list holds FREE. */
void sl__slot_forget(sl__cache *cache, uint32_t slot);

/* Queues the reads of a record into an acquired slot, held by an item. */
void sl__load_start(sl__cache *cache, uint32_t slot, uint32_t layer, uint32_t expert,
                    uint32_t item);
/* Hands queued reads to the io engine, as many as it takes. */
void sl__loads_submit(sl__cache *cache);
/* Takes in what has been read; with wait, blocks until something has, unless nothing is in flight.
 */
void sl__loads_collect(sl__cache *cache, bool wait);
/* Drops what is queued, cancels what can be cancelled, waits for the rest. */
void sl__loads_abort(sl__cache *cache);

/* ---- called by the loads (cache_ticket.c) ---------------------------------------------------- */

void sl__ticket_item_ready(sl__cache *cache, uint32_t item);
/* The item's slot is given up by the caller; the failure itself is put in ticket.failure. */
void sl__ticket_item_gone(sl__cache *cache, uint32_t item);

#endif
