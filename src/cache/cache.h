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

#include "io/io.h"
#include "store/store.h"

typedef struct sl__cache sl__cache;
typedef struct sl__ticket sl__ticket; /* owned by the cache; lives from request to end */

typedef struct sl__cache_options {
    uint64_t budget_bytes; /* slots, and the tables that grow with their number */
    sl_verify_rule verify;
    uint32_t layer_count;  /* layers [0, layer_count) of the store are served */
} sl__cache_options;

typedef struct sl__cache_stats {
    uint64_t requests, hits, joins, misses, evictions;
    uint64_t bytes_needed, bytes_read;
    uint64_t wait_ns; /* in sl__cache_next, waiting for a read */
} sl__cache_stats;

/* store and io are borrowed until destroy. SL_EBUDGET where not even sl__cache_minimum fits; the
 * message says what is needed. */
sl_status sl__cache_create(sl__cache **out, sl__store *store, sl__io *io,
                           const sl__cache_options *opt, sl_error *err);
void sl__cache_destroy(sl__cache *cache); /* cancels and waits for what is in flight */

/* The smallest budget that works: two slots of the largest record, and the tables. */
uint64_t sl__cache_minimum(const sl__store *store, uint32_t layer_count);
/* The budget at which every expert of every layer stays. */
uint64_t sl__cache_maximum(const sl__store *store, uint32_t layer_count);

uint32_t sl__cache_slots(const sl__cache *cache);

/* Asks for ids[n], n <= the layer's experts, no id twice. One demand ticket at a time. Reads of the
 * missing ones are submitted before this returns, as far as there are slots. */
sl_status sl__cache_request(sl__cache *cache, sl__ticket **out, uint32_t layer,
                            const uint32_t *ids, uint32_t n, sl_error *err);

typedef struct sl__expert_ref {
    uint32_t index;      /* into the ids of the request */
    uint32_t expert;
    const void *record;  /* layout: sl__store_expert_layout; borrowed until release */
    uint32_t slot;       /* the cache's */
} sl__expert_ref;

/* Gives out one ready expert, pinned. With wait, blocks until there is one; *got is false when all
 * of the ticket were given out, or (without wait) when none is ready now. Waiting while the caller
 * holds every slot of the cache pinned is SL_EINVAL, never a deadlock. A read error or a wrong
 * checksum is an error that names file, layer and expert; then the ticket must be ended. */
sl_status sl__cache_next(sl__cache *cache, sl__ticket *ticket, bool wait, sl__expert_ref *ref,
                         bool *got, sl_error *err);
void sl__cache_release(sl__cache *cache, sl__ticket *ticket, const sl__expert_ref *ref);
/* Ends a ticket, finished or not; what is still loading for it goes on as an ordinary load. */
void sl__cache_end(sl__cache *cache, sl__ticket *ticket);

void sl__cache_stats_get(const sl__cache *cache, sl__cache_stats *stats);
/* Forgets every expert that is not pinned, as after a cold start; for tests and benches. */
void sl__cache_drop(sl__cache *cache);

#endif
