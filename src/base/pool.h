/* A fixed pool of threads that runs one indexed loop at a time.
 *
 *     caller ── run(fn, count) ──┐            workers sleep on `wake`;
 *       worker 0 = the caller    ├─ indices   each takes the next index until none is left;
 *       worker 1 … n-1           ┘            the caller returns when the last one has finished.
 *
 * Which thread takes an index is left to chance, so fn(index) must write only what belongs to that
 * index, and must compute it the same way whoever runs it: then results do not depend on the number
 * of threads.
 */
#ifndef SL_BASE_POOL_H
#define SL_BASE_POOL_H

#include <stdint.h>

#include "sluice.h"

typedef struct sl__pool sl__pool;

#define SL_POOL_THREADS_MAX 1024u

/* threads from 1 to SL_POOL_THREADS_MAX, the caller included. */
sl_status sl__pool_create(sl__pool **out, uint32_t threads, sl_error *err);
void sl__pool_destroy(sl__pool *pool); /* NULL is allowed */
uint32_t sl__pool_threads(const sl__pool *pool);

/* Calls fn(ctx, index, worker) for each index in [0, count), worker in [0, threads). Returns when
 * all have finished. Not reentrant; one caller at a time. Allocates nothing. */
typedef void (*sl__pool_fn)(void *ctx, uint32_t index, uint32_t worker);
void sl__pool_run(sl__pool *pool, sl__pool_fn fn, void *ctx, uint32_t count);

#endif
