/* One mutex and two condition variables guard a generation counter; the indices of a run are taken
 * with an atomic counter, so the lock is touched twice a run and thread, not once an index.
 *
 *     run: job set, generation++ , wake ──> workers: take indices … finished++ ──> idle
 */
#include "base/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/fail.h"

#define STACK_BYTES ((size_t)512 << 10)

struct worker {
    pthread_t thread;
    sl__pool *pool;
    uint32_t number;
};

struct sl__pool {
    pthread_mutex_t lock;
    pthread_cond_t wake; /* a new generation, or stop */
    pthread_cond_t idle; /* busy fell to 0 */
    uint64_t generation; /* guarded by lock */
    uint32_t busy;       /* workers still in this generation; guarded by lock */
    bool stop;           /* guarded by lock */
    sl__pool_fn fn;      /* the job: written under lock before the generation moves on */
    void *ctx;
    uint32_t count;
    atomic_uint next;    /* the next index to take */
    uint32_t threads;    /* the caller included */
    uint32_t started;    /* workers to join */
    struct worker workers[];
};

static void take_indices(sl__pool *pool, uint32_t worker)
{
    for (;;) {
        uint32_t index = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        if (index >= pool->count) return;
        pool->fn(pool->ctx, index, worker);
    }
}

static void *worker_main(void *arg)
{
    struct worker *self = arg;
    sl__pool *pool = self->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->generation == seen && !pool->stop)
            pthread_cond_wait(&pool->wake, &pool->lock);
        if (pool->stop) break;
        seen = pool->generation;
        pthread_mutex_unlock(&pool->lock);
        take_indices(pool, self->number);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0) pthread_cond_signal(&pool->idle);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Signals belong to the program's own thread. */
static int start_worker(struct worker *worker, const pthread_attr_t *attr)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int bad = pthread_create(&worker->thread, attr, worker_main, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return bad;
}

sl_status sl__pool_create(sl__pool **out, uint32_t threads, sl_error *err)
{
    if (threads < 1 || threads > SL_POOL_THREADS_MAX) {
        return SL_FAIL(err, SL_EINVAL, "threads: %u is not from 1 to %u", threads,
                       SL_POOL_THREADS_MAX);
    }
    sl__pool *pool = calloc(1, sizeof *pool + threads * sizeof(struct worker));
    if (!pool) return SL_FAIL_NOMEM(err, "thread pool");
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->idle, NULL);
    pool->threads = threads;
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int bad = 0;
    for (uint32_t i = 1; i < threads && !bad; i++) {
        pool->workers[i] = (struct worker){.pool = pool, .number = i};
        bad = start_worker(&pool->workers[i], &attr);
        if (!bad) pool->started++;
    }
    pthread_attr_destroy(&attr);
    if (bad) {
        sl__pool_destroy(pool);
        return SL_FAIL(err, SL_ENOMEM, "thread pool: a thread could not be started");
    }
    *out = pool;
    return SL_OK;
}

void sl__pool_destroy(sl__pool *pool)
{
    if (!pool) return;
    pthread_mutex_lock(&pool->lock);
    pool->stop = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 1; i <= pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->idle);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
}

uint32_t sl__pool_threads(const sl__pool *pool) { return pool->threads; }

void sl__pool_run(sl__pool *pool, sl__pool_fn fn, void *ctx, uint32_t count)
{
    if (count == 0) return;
    if (count == 1 || pool->threads == 1) {
        for (uint32_t i = 0; i < count; i++)
            fn(ctx, i, 0);
        return;
    }
    /* `next` runs past count by the number of threads. */
    assert(count <= UINT32_MAX - SL_POOL_THREADS_MAX);
    pthread_mutex_lock(&pool->lock);
    pool->fn = fn;
    pool->ctx = ctx;
    pool->count = count;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    pool->busy = pool->started;
    pool->generation++;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    take_indices(pool, 0);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0)
        pthread_cond_wait(&pool->idle, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}
