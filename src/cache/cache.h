/* Which experts are in memory: one byte budget over all layers.
 *
 *     absent ──request──> loading ──reads done, checksum right──> ready ──next──> pinned
 *       ^                                                           ^               │
 *       └────────────── evicted (never while pinned or loading) ────┴── release ────┘
 *
 * A ticket is one request for a set of experts of a layer. Hits come out first, then the rest in
 * the order in which reads finish. A ticket may ask for more experts than there are slots: the rest
 * is loaded into slots that the caller gives back, so the caller must release what it has used
 * before it can have the last ones. Nothing is allocated after creation.
 *
 * Threads: one thread drives a cache (the engine's); io threads never enter it.
 */
#ifndef SL_CACHE_CACHE_H
#define SL_CACHE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/pool.h"
#include "cache/cache_policy.h"
#include "io/io.h"
#include "store/store.h"

typedef struct sl__cache sl__cache;
typedef struct sl__ticket sl__ticket; /* owned by the cache; lives from request to end */

typedef struct sl__cache_options {
    uint64_t budget_bytes; /* slots, and the tables that grow with their number */
    sl_verify_rule verify;
    uint32_t layer_count;  /* layers [0, layer_count) of the store are served */
    bool direct;           /* reads go past the page cache, where a file can be read so */
    bool mapped;           /* no slots: records lie in mapped files; a pack, no io, no budget */
    sl__map_advice map_advice; /* NORMAL; RANDOM for the files; WILLNEED for what is asked for */
    sl_switch prefetch;
    bool measure; /* predictions are wanted for the counters alone too, also with prefetch OFF */
    sl__policy_kind policy;
    sl__pool *pool; /* compares checksums of several records at once; borrowed; may be NULL */
} sl__cache_options;

typedef struct sl__cache_stats {
    uint64_t requests, hits, joins, misses, evictions;
    uint64_t bytes_needed, bytes_missing, bytes_read;
    uint64_t wait_ns;   /* in sl__cache_next, waiting for a read */
    uint64_t verify_ns;
    uint64_t rereads;   /* records whose checksum was wrong at first and right when read again */
    /* As in sl_stats. */
    uint64_t prefetch_reads, prefetch_useful, prefetch_late, prefetch_wasted, prefetch_cancelled;
    uint64_t prefetch_bytes, prefetch_wasted_bytes;
    bool prefetch_on;
    uint64_t predicted, predicted_right;
    uint64_t budget_bytes; /* tables and slots that may be used, at most the budget; 0: mapped */
    uint64_t resizes;      /* that changed the number of slots */
} sl__cache_stats;

/* A mapped cache is the baseline that an operating system alone would be: pages of the files come
 * by page faults, while computing, and go as the system likes. Every request is a hit, what was
 * read is not known, the memory promise does not hold, and where a file is cut short or cannot be
 * read the process dies of SIGBUS. It is there to be measured against.
 *
 * store and io are borrowed until destroy. SL_EBUDGET where not even sl__cache_minimum fits; the
 * message says what is needed. */
sl_status sl__cache_create(sl__cache **out, sl__store *store, sl__io *io /* NULL: mapped */,
                           const sl__cache_options *opt, sl_error *err);
void sl__cache_destroy(sl__cache *cache); /* cancels and waits for what is in flight */

/* The smallest budget that works: two slots of the largest record, and the tables. */
uint64_t sl__cache_minimum(const sl__store *store, uint32_t layer_count);
/* The budget at which every expert of every layer stays. */
uint64_t sl__cache_maximum(const sl__store *store, uint32_t layer_count);

/* What a mapped cache takes. */
uint64_t sl__cache_mapped_bytes(const sl__store *store, uint32_t layer_count);

/* Slots that may be used, after a resize too; of a mapped cache, all records. */
uint32_t sl__cache_slots(const sl__cache *cache);

/* What a router said of one token: ranked[n], best first, the first `chosen` of them chosen. Comes
 * before the request that it belongs to; of a chunk the last tokens' are enough. Feeds the eviction
 * policy; changes no result. */
void sl__cache_note(sl__cache *cache, uint32_t layer, const uint32_t *ranked, uint32_t n,
                    uint32_t chosen);

/* Asks for ids[n], n <= the layer's experts, no id twice. One demand ticket at a time. Reads of the
 * missing ones are submitted before this returns, as far as there are slots.
 * scan: a chunk that touches far more than a token does (ids increasing, in file order): its misses
 * stream through a ring of slots and leave what the policy holds dear where it is. */
sl_status sl__cache_request(sl__cache *cache, sl__ticket **out, uint32_t layer,
                            const uint32_t *ids, uint32_t n, bool scan, sl_error *err);

/* How a prediction was made: how much of it is right differs, and is learnt apart. */
typedef enum sl__guess {
    SL_GUESS_AHEAD = 0, /* a layer ahead of a token's request */
    SL_GUESS_SCAN,      /* of a chunk's request */
    SL_GUESS_NEAR,      /* of a token's, when nothing but that layer's mixer was still to come */
} sl__guess;

/* A prediction for the next request of `layer`: ids[n], best first (of a scan: increasing), the
 * first `chosen` being as many as will be chosen. Those of them that are not in memory, and that by
 * the counters so far pay, are read below demand. What is left unbegun of an earlier prediction is
 * cancelled. Never fails: a prediction is a hint. */
void sl__cache_predict(sl__cache *cache, uint32_t layer, const uint32_t *ids, uint32_t n,
                       uint32_t chosen, sl__guess guess);
/* Whether a prediction would be put to any use now: to read, or to see whether it would pay. */
bool sl__cache_wants_prediction(const sl__cache *cache);

/* Another budget, at most the one at creation (more is cut down to it; less than two slots beside
 * the tables, which keep their size, is cut up to that): evicts and gives pages back to the system
 * at once, slots that are held or loading when they come back. Between tickets. A mapped cache has
 * nothing to give. */
void sl__cache_resize(sl__cache *cache, uint64_t budget_bytes);

typedef struct sl__expert_ref {
    uint32_t index;      /* into the ids of the request */
    uint32_t expert;
    const void *record;  /* layout: sl__store_expert_layout; borrowed until release */
    uint32_t slot;       /* the cache's */
} sl__expert_ref;

/* Gives out one ready expert, pinned. With wait, blocks until there is one; *got is false when all
 * of the ticket were given out, or (without wait) when none is ready now. Waiting while the caller
 * holds every slot of the cache pinned is SL_EINVAL, never a deadlock. A read error, or a
 * checksum that is wrong twice (cache_verify.c), is an error that names file, layer and expert;
 * then the ticket must be ended. A later request of the same expert reads anew. */
sl_status sl__cache_next(sl__cache *cache, sl__ticket *ticket, bool wait, sl__expert_ref *ref,
                         bool *got, sl_error *err);
void sl__cache_release(sl__cache *cache, sl__ticket *ticket, const sl__expert_ref *ref);
/* Ends a ticket, finished or not; what is still loading for it goes on as an ordinary load. */
void sl__cache_end(sl__cache *cache, sl__ticket *ticket);

void sl__cache_stats_get(const sl__cache *cache, sl__cache_stats *stats);
/* As sl_engine_experts_get; between tickets. */
void sl__cache_map(const sl__cache *cache, sl_expert_map *map);
/* Forgets every expert that is not pinned, as after a cold start; for tests and benches. */
void sl__cache_drop(sl__cache *cache);

#endif
