/* What the files of the cache share.
 *
 *     index[first[layer] + expert] ──> slot ──> slab + slot * slot_bytes
 *
 *     tables (one arena block)                               slab (pages, resident once touched)
 *     ┌───────┬───────┬───────┬───────┬───────┬────────┐     ┌────────┬────────┬───┬────────┐
 *     │ cache │ first │ index │ asked │ slots │ ticket │     │ slot 0 │ slot 1 │ … │        │
 *     └───────┴───────┴───────┴───────┴───────┴────────┘     └────────┴────────┴───┴────────┘
 *
 * A slot is in at most one list:
 *
 *     FREE     the free list
 *     LOADING  the submit queue, while some of its extents are still to be handed to the io engine;
 *              `ahead`, where it is read ahead and nobody has asked for it
 *     READY    the policy's, unless an item of the ticket holds it; if the slot belongs to the ring
 *              of the scans, the list of the ring's slots at rest too
 *     RETIRED  the retired list: its pages are the system's until the budget grows again
 *
 * One thread drives a cache, so there is no lock.
 */
#ifndef SL_CACHE_CACHE_PRIVATE_H
#define SL_CACHE_CACHE_PRIVATE_H

#include "base/arena.h"
#include "base/pool.h"
#include "cache/cache.h"
#include "cache/cache_policy.h"
#include "cache/cache_predictor.h"

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

typedef enum sl__slot_state {
    SL_SLOT_FREE = 0,
    SL_SLOT_LOADING,
    SL_SLOT_READY,
    SL_SLOT_RETIRED,
} sl__slot_state;

typedef struct sl__slot {
    uint32_t layer, expert; /* unless FREE or RETIRED */
    uint32_t item;          /* of the ticket that holds it; SL_ITEM_NONE: nobody does */
    uint32_t next, prev;    /* free list, retired list, submit queue (next alone), or the ring */
    uint32_t generation;    /* of the load, part of its reads' tags */
    uint64_t got_bytes;     /* of the load */
    sl_status status;       /* LOADING: the failure at the lowest extent, and its errno */
    int sys_errno;
    sl__slot_state state;
    uint8_t extent_count;  /* of the record */
    uint8_t submitted;     /* extents handed to the io engine */
    uint8_t completed;     /* of those */
    uint8_t failed_extent; /* where status is not SL_OK */
    bool unverified;       /* READY: the checksum is still to be compared */
    bool early;            /* LOADING: begun by a prediction */
    bool ahead;            /* read ahead, and nobody has asked for it yet */
    bool ahead_scan;       /* by the prediction of a scan */
    bool astray;           /* ahead: its layer was asked for without it */
    bool doomed;           /* LOADING: given up, not in the index, free when its reads are back */
    bool ringed;           /* belongs to the ring of the scans (cache_scan.c) */
    bool ring_linked;      /* ringed: at rest there */
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
    bool scan;
    uint32_t layer; /* the layer at work: of the last ticket, where none is active */
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

/* ---- reading ahead --------------------------------------------------------------------------- */

#define SL_AHEAD_MAX 256u /* records, on their way ahead at most; the scans' ring has no more */

typedef enum sl__fate {
    SL_FATE_PRESENT = 0, /* was in memory, or is being read because somebody asked for it */
    SL_FATE_SHADOW,      /* absent and left alone: only watched, to learn whether it would pay */
    SL_FATE_QUEUED,      /* absent, to be read ahead */
} sl__fate;

/* The last one. Entries take a slot when their reads begin: those QUEUED before `cursor` did. */
typedef struct sl__prediction {
    bool open; /* its layer has not been asked for since */
    sl__guess guess;
    uint32_t layer, count, chosen;
    uint32_t cursor;
    uint32_t *ids; /* [expert_max] */
    uint8_t *fate; /* [expert_max]: sl__fate */
} sl__prediction;

struct sl__cache {
    sl__arena arena; /* holds everything but the slab, this struct too */
    sl__store *store;
    sl__io *io;
    sl_verify_rule verify;
    bool direct;
    sl__pool *pool; /* NULL: one thread compares checksums */
    sl__cache_plan plan;
    bool mapped; /* no slots, no slab, no io */
    sl__map_advice map_advice;

    uint32_t slot_count;   /* of the slab, retired ones too */
    uint32_t usable_count; /* not retired */
    uint32_t target_count; /* as many may be usable; more are while they are held or loading */
    unsigned char *slab;
    uint64_t slab_bytes;

    uint32_t *first; /* [layer_count + 1]: index of a layer's expert 0 */
    uint32_t *index; /* [record_count]: slot, or SL_SLOT_NONE */
    uint64_t requests; /* tickets so far */
    uint64_t *asked;   /* [record_count]: the last that asked for it, from 1; 0: none did */
    sl__slot *slots; /* [slot_count] */
    uint32_t free_head, retired_head;
    uint32_t submit_head, submit_tail;
    sl__policy policy;

    uint32_t reads_in_flight; /* submitted and not reaped, at most io->max_reads */
    sl__ticket ticket;        /* the only one */

    sl__predictor predictor;
    sl__prediction prediction;
    sl__prediction earlier; /* of the same layer, a layer ahead: nothing of it is begun any more */
    uint32_t ahead[SL_AHEAD_MAX]; /* slots LOADING and `ahead`, in no order; doomed ones left out */
    uint32_t ahead_count, doomed_count;
    uint32_t early_reads_in_flight; /* of reads_in_flight, of slots that are `early` */
    uint32_t ring_count;            /* slots of the ring, in any state */
    uint32_t ring_oldest, ring_newest; /* those at rest */
    sl__cache_stats stats;
};

/* ---- loads: absent -> LOADING -> READY, and back (cache_load.c) ------------------------------ */

static inline uint32_t *sl__cache_index_at(sl__cache *cache, uint32_t layer, uint32_t expert)
{
    return &cache->index[cache->first[layer] + expert];
}

/* A slot for a new record, the victim of the policy where none is free; SL_SLOT_NONE: all are held
 * or loading. Reads ahead that have not begun give theirs up. */
uint32_t sl__slot_acquire(sl__cache *cache);
/* The first FREE slot, taken off its list; SL_SLOT_NONE: there is none. */
uint32_t sl__slot_take_free(sl__cache *cache);
/* Evicts a slot that the policy holds and takes it. */
uint32_t sl__slot_evict(sl__cache *cache, uint32_t slot);
/* Puts the policy's victim into the free list; false where it has none. */
bool sl__slot_evict_coldest(sl__cache *cache);
/* A READY slot that nobody holds any more: the policy's, and at rest in the ring if it is of it. */
void sl__slot_rest(sl__cache *cache, uint32_t slot);
/* Makes a slot FREE that the policy does not hold; what was read ahead in vain is counted. */
void sl__slot_forget(sl__cache *cache, uint32_t slot);

uint64_t sl__record_disk_bytes(const sl__cache *cache, uint32_t layer, uint32_t expert);
/* Read ahead for a request that is still to come. */
static inline bool sl__slot_is_promised(const sl__slot *slot)
{
    return slot->ahead && !slot->astray;
}
/* The tag of the read of an extent. */
uint64_t sl__read_tag(const sl__cache *cache, uint32_t slot, uint32_t extent);

/* Queues the reads of a record into an acquired slot, held by an item. */
void sl__load_start(sl__cache *cache, uint32_t slot, uint32_t layer, uint32_t expert,
                    uint32_t item);
/* Hands all reads of a record to the io engine, below demand; the caller has seen to it that there
 * is room. Where the engine refuses them the slot is FREE again. */
void sl__load_ahead(sl__cache *cache, uint32_t slot, uint32_t layer, uint32_t expert, bool scan);
/* Hands queued reads of demand to the io engine, as many as it takes. */
void sl__loads_submit(sl__cache *cache);
/* Takes in what has been read; with wait, blocks until something has, unless nothing is in flight.
 */
void sl__loads_collect(sl__cache *cache, bool wait);
/* Drops what is queued, cancels what can be cancelled, waits for the rest. */
void sl__loads_abort(sl__cache *cache);

/* ---- reading ahead (cache_prefetch.c) -------------------------------------------------------- */

/* Records that may be on their way ahead at one time: a quarter of the slots, at most SL_AHEAD_MAX.
 */
uint32_t sl__prefetch_share(const sl__cache *cache);
/* Begins reads ahead, where demand has all that it wants. */
void sl__prefetch_pump(sl__cache *cache);
/* A slot read ahead is asked for. */
void sl__prefetch_asked(sl__cache *cache, uint32_t slot);
/* `layer` was asked for, ids[n], all of them added to the ticket: learns from it, and gives up what
 * was predicted for this layer and has not begun. */
void sl__prefetch_settle(sl__cache *cache, uint32_t layer, const uint32_t *ids, uint32_t n,
                         bool scan);
/* Gives up all that has not begun; whether there was anything. */
bool sl__prefetch_yield(sl__cache *cache);
/* Gives up the prediction too. */
void sl__prefetch_forget(sl__cache *cache);
/* Called by the loads: a slot's `early` load has ended, well or not; its record is dropped while
 * nobody had asked for it. */
void sl__prefetch_load_ended(sl__cache *cache, uint32_t slot);
void sl__prefetch_dropped(sl__cache *cache, uint32_t slot);

/* ---- the ring of the scans (cache_scan.c) ---------------------------------------------------- */

/* Slots that scans load into, beyond those that were free. */
uint32_t sl__ring_size(const sl__cache *cache);
/* A slot for the next record of the scan; SL_SLOT_NONE: the scan has what it may have, or there is
 * none. *join: it is to be the ring's; sl__ring_join tells the ring once the load has begun. */
uint32_t sl__ring_acquire(sl__cache *cache, bool *join);
/* The ring's slot that rests longest, past those promised to a prediction; SL_SLOT_NONE: none. */
uint32_t sl__ring_spent(const sl__cache *cache);
void sl__ring_join(sl__cache *cache, uint32_t slot);
void sl__ring_leave(sl__cache *cache, uint32_t slot);
/* A slot that nobody holds joins the ring, where there is room. */
void sl__ring_take_in(sl__cache *cache, uint32_t slot);
/* A slot of the ring comes to rest, is held again. */
void sl__ring_link(sl__cache *cache, uint32_t slot);
void sl__ring_unlink(sl__cache *cache, uint32_t slot);

/* ---- fewer slots, and more again (cache_resize.c) -------------------------------------------- */

/* Retires slots until as many are usable as may be, or the others are held or loading. */
void sl__slots_shrink(sl__cache *cache);
/* Tables and usable slots, with overheads: at most this is resident. */
uint64_t sl__cache_held_bytes(const sl__cache *cache);

/* ---- mapped files in the place of slots (cache_mapped.c) ------------------------------------- */

/* Maps the files of every layer. */
sl_status sl__mapped_open(sl__cache *cache, const sl__cache_options *opt, sl_error *err);
/* An expert is about to be used. */
void sl__mapped_want(sl__cache *cache, uint32_t layer, uint32_t expert);
/* Where a record lies, compared with its checksum by the cache's rule. */
sl_status sl__mapped_record(sl__cache *cache, uint32_t layer, uint32_t expert, const void **record,
                            sl_error *err);
void sl__mapped_drop(sl__cache *cache);

/* ---- records as they are first given out (cache_verify.c) ------------------------------------ */

/* Compares a READY slot's record with its checksum, by the cache's rule; where it differs, reads it
 * once more, past the page cache. */
sl_status sl__slot_verify(sl__cache *cache, uint32_t slot, sl_error *err);

/* ---- called by the loads (cache_ticket.c) ---------------------------------------------------- */

void sl__ticket_item_ready(sl__cache *cache, uint32_t item);
/* The item's slot is given up by the caller; the failure itself is put in ticket.failure. */
void sl__ticket_item_gone(sl__cache *cache, uint32_t item);

#endif
