/* Everything that the interface of the cache allows, at random: tokens go through the layers, most
 * with a prediction before, in or after the request of the layer before, some as chunks; tickets
 * are ended early, records dropped, reads fail. Every record given out is compared with its file,
 * every identity of the counters is checked.
 */
#ifndef SL_TEST_CACHE_STORM_H
#define SL_TEST_CACHE_STORM_H

#include "cache_bed.h"

typedef struct cache_storm_options {
    uint64_t seed;
    uint64_t requests; /* of experts, at least */
    bool faults;       /* reads may fail; tickets may be ended early */
    unsigned scans;    /* of 1000 requests */
    unsigned right;    /* of 1000 predicted experts, about */
} cache_storm_options;

typedef struct cache_storm_tally {
    uint64_t requests, tickets, scans, errors, early, predictions;
} cache_storm_tally;

/* On an open bed, which stays open and settled. */
cache_storm_tally cache_storm_run(cache_bed *bed, const cache_storm_options *opt);

#endif
