/* A fixed pool of threads that runs one indexed loop at a time.
 *
 *     caller ── run(fn, count) ──┐            each begins with its share of the indices, neighbours
 *       worker 0 = the caller    ├─ indices   in increasing order, then helps others with theirs;
 *       worker 1 … n-1           ┘            the caller returns when every index is done.
 *
 * Which thread takes an index is left to chance, so fn(index) must write only what belongs to that
 * index, and must compute it the same way whoever runs it: then results do not depend on the number
 * of threads.
 *
 * Workers spin for some tens of microseconds before they sleep, where the process has a CPU for
 * each thread and the runs follow each other that closely.
 */
#ifndef SL_BASE_POOL_H
#define SL_BASE_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "sluice.h"

typedef struct sl__pool sl__pool;

#define SL_POOL_THREADS_MAX 1024u

/* threads from 1 to SL_POOL_THREADS_MAX, the caller included. */
sl_status sl__pool_create(sl__pool **out, uint32_t threads, sl_error *err);
void sl__pool_destroy(sl__pool *pool); /* NULL is allowed */
uint32_t sl__pool_threads(const sl__pool *pool);

/* Binds the workers to cores of their own where that cannot hurt: a thread for each core that the
 * process may use, eight at least, and no limit on its share of time. The caller's own thread stays
 * as it is; the core that it runs on is left to it. Returns whether they are bound. */
bool sl__pool_bind(sl__pool *pool);

/* Calls fn(ctx, index, worker) for each index in [0, count), worker in [0, threads); no two calls
 * at a time have the same worker. Returns when all have finished. Not to be called from fn, and by
 * one caller at a time. Allocates nothing. */
typedef void (*sl__pool_fn)(void *ctx, uint32_t index, uint32_t worker);
void sl__pool_run(sl__pool *pool, sl__pool_fn fn, void *ctx, uint32_t count);

#endif
