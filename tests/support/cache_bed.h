/* An expert cache over a fake store and an engine whose reads go through the shim, for the tests of
 * the cache. A program that uses it includes fake_store.h too.
 */
#ifndef SL_TEST_CACHE_BED_H
#define SL_TEST_CACHE_BED_H

#include "cache/cache_private.h"
#include "fake_store.h"
#include "io_shim.h"

typedef struct cache_bed {
    char dir[256];
    const fake_layer *layers;
    uint32_t layer_count;
    sl__store *store;
    io_shim shim;
    sl__io *io;
    sl__cache *cache;
    sl_error err;
} cache_bed;

typedef struct cache_bed_options {
    uint32_t slots, threads, max_reads; /* 0 threads: 3 */
    sl_switch prefetch;
    bool measure;
    const io_shim_rules *rules;
} cache_bed_options;

/* The files; layers are borrowed. Any number of caches may be opened over them in turn. */
void cache_bed_make(cache_bed *bed, const fake_layer *layers, uint32_t layer_count);
void cache_bed_remove(cache_bed *bed);
void cache_bed_open(cache_bed *bed, const cache_bed_options *opt);
void cache_bed_close(cache_bed *bed);

/* The counters; what always holds between them is asserted. */
sl__cache_stats cache_bed_stats(const cache_bed *bed);
/* Waits for every load; then also what holds once all has settled, but for those still unasked. */
void cache_bed_quiet(cache_bed *bed);
/* Drops everything; every read ahead has become useful, late or wasted. */
sl__cache_stats cache_bed_settle(cache_bed *bed);

sl__ticket *cache_bed_request(cache_bed *bed, uint32_t layer, const uint32_t *ids, uint32_t n,
                              bool scan);
/* The next expert, which must come, and hold what its file holds. */
sl__expert_ref cache_bed_take(cache_bed *bed, sl__ticket *ticket, uint32_t layer);
/* A whole request, each expert released before the next is taken. */
void cache_bed_use(cache_bed *bed, uint32_t layer, const uint32_t *ids, uint32_t n, bool scan);
/* Whether the record is in memory or on its way. */
bool cache_bed_has(const cache_bed *bed, uint32_t layer, uint32_t expert);

#endif
