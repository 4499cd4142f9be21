/* What a cache would have hit: a trace replayed, a token after another, against a policy. */
#ifndef SL_CACHE_SIMULATE_H
#define SL_CACHE_SIMULATE_H

#include "cache/cache_policy.h"
#include "cache/trace.h"

typedef struct sl__hits {
    uint64_t requests, hits;
} sl__hits;

/* A token's experts at a layer are one request, as the cache's ticket: all of them are in memory
 * together, so none makes room for another, and slots >= k. The cache is empty at first.
 * SL_EINVAL where slots are too few. */

/* Through the calls that the cache makes of cache_policy.h. */
sl_status sl__simulate_policy(const sl__trace *trace, sl__policy_kind kind, uint32_t slots,
                              sl__hits *result, sl_error *err);
/* The most hits that any policy could have, had it known the trace beforehand: the victim is the
 * record that is asked for last (Belady). */
sl_status sl__simulate_best(const sl__trace *trace, uint32_t slots, sl__hits *result,
                            sl_error *err);

/* The mean share of a token's experts that the token before had. NaN where there is one token. */
double sl__trace_overlap(const sl__trace *trace);
/* The share of predicted experts that were chosen. NaN where nothing was predicted. */
double sl__trace_predictable(const sl__trace *trace);

#endif
