/* One word says whether a run is open; every thread has lines of its own for the rest, so that
 * nothing is fought for while indices last.
 *
 *     round     odd: a run is open; even: none is. Each run adds 2.
 *     worker    span    what is left of its share: [begin, end) in one 64-bit word
 *               inside  whether it takes part
 *
 *     caller:  shares the indices out; round odd; wakes; works; round even; waits for who is inside
 *     worker:  waits for an odd round; inside = 1; is it still odd? works; inside = 0
 *
 * A worker begins with its own share, a range of neighbours, and then takes the latter half of what
 * somebody else has left. Nobody has to come: the share of a worker that wakes too late is taken by
 * the others, and the caller waits only for those inside.
 *
 * The caller closes and then looks at `inside`, a worker sets `inside` and then looks at the round,
 * both sequentially consistent: so either the worker sees that it is too late, or the caller sees
 * the worker. The stores of such pairs are exchanges (`announce`). What a run is (fn, ctx, spans)
 * is written while no run is open and nobody inside.
 *
 * A thread that waits spins first, where that pays, and then sleeps on the word that it watches.
 * It pays when the next run follows shortly: the caller keeps count of how often it did. And it
 * needs a processor for every thread: a clock that jumps while a thread spins says that somebody
 * else wanted this one, and then nobody spins for a while.
 */
#include "base/pool.h"

#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/fail.h"
#include "base/pool_park.h"
#include "base/sysmem.h"

#define STACK_BYTES ((size_t)512 << 10)

#define LINE 128u /* two cache lines: they are fetched in pairs */

/* To be woken takes some tens of microseconds, so that much may be spent on not having to be. */
#define SPIN_NS         UINT64_C(50000)
#define SPIN_PAUSES     16u                /* between two looks at the clock */
#define SPIN_JUMP_NS    UINT64_C(500000)   /* the thread did not run in between */
#define SPIN_RETREAT_NS UINT64_C(20000000) /* then nobody spins for so long */

/* The share of pauses between runs that a spin would have bridged, a decaying mean. */
#define BRIDGED_ALL   4096u
#define BRIDGED_DECAY 16u

struct worker {
    alignas(LINE) _Atomic uint64_t span; /* begin in the low half, end in the high one */
    atomic_uint inside;
    sl__pool *pool;
    pthread_t thread;
    uint32_t number;
};

struct sl__pool {
    /* Written by the caller, once or twice a run. */
    alignas(LINE) atomic_uint round;
    atomic_bool stop, spin;
    sl__pool_fn fn;
    void *ctx;
    uint32_t threads; /* the caller included */
    /* Written by those that go to sleep or see that they should. */
    alignas(LINE) atomic_uint parked; /* workers that sleep on round, or are about to */
    _Atomic uint64_t retreat_ns;      /* nobody spins before this time */
    /* Written by the caller that sleeps, and for it. */
    alignas(LINE) atomic_uint left; /* counts workers that left while the caller was waiting */
    atomic_uint waiting;
    sl__park park;
    /* The caller's own. */
    atomic_bool running; /* a run within a run is a bug */
    bool may_spin;
    uint32_t started; /* workers to join */
    uint32_t bridged;
    uint64_t end_ns; /* of the last run */
    struct worker workers[];
};

/* A store that no later load of this thread overtakes. C11 promises that of every sequentially
 * consistent store, and x86 makes both of the same instruction; but qemu 7 lets arm64's stlr wait
 * behind the ldar that follows it, and then two threads miss each other. */
static void announce(atomic_uint *word, uint32_t value)
{
    (void)atomic_exchange(word, value);
}

/* ---- spans ----------------------------------------------------------------------------------- */

static uint64_t span_of(uint32_t begin, uint32_t end) { return (uint64_t)end << 32 | begin; }
static uint32_t span_begin(uint64_t span) { return (uint32_t)span; }
static uint32_t span_end(uint64_t span) { return (uint32_t)(span >> 32); }

static bool take_own(struct worker *self, uint32_t *index)
{
    uint64_t span = atomic_load_explicit(&self->span, memory_order_relaxed);
    while (span_begin(span) < span_end(span)) {
        if (atomic_compare_exchange_weak_explicit(&self->span, &span, span + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            *index = span_begin(span);
            return true;
        }
    }
    return false;
}

/* The latter half of what somebody has left becomes this worker's own span. That was empty, and an
 * empty span is changed by nobody else. */
static bool steal(struct worker *self)
{
    sl__pool *pool = self->pool;
    for (uint32_t i = 1; i < pool->threads; i++) {
        uint32_t other = (self->number + i) % pool->threads;
        struct worker *victim = &pool->workers[other];
        uint64_t span = atomic_load_explicit(&victim->span, memory_order_relaxed);
        while (span_begin(span) < span_end(span)) {
            uint32_t begin = span_begin(span), end = span_end(span);
            uint32_t middle = begin + (end - begin) / 2;
            if (atomic_compare_exchange_weak_explicit(&victim->span, &span, span_of(begin, middle),
                                                      memory_order_relaxed,
                                                      memory_order_relaxed)) {
                atomic_store_explicit(&self->span, span_of(middle, end), memory_order_relaxed);
                return true;
            }
        }
    }
    return false;
}

static void work(struct worker *self)
{
    const sl__pool *pool = self->pool;
    uint32_t index;
    do {
        while (take_own(self, &index))
            pool->fn(pool->ctx, index, self->number);
    } while (steal(self));
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* A spin that began and the last look at the clock. */
struct spin {
    uint64_t begin_ns, last_ns;
    uint32_t pauses;
};

/* One pause; false when it is time to sleep. */
static bool spin_on(sl__pool *pool, struct spin *spin)
{
    sl__park_pause();
    if (++spin->pauses % SPIN_PAUSES) return true;
    uint64_t now = sl__now_ns();
    if (spin->last_ns && now - spin->last_ns > SPIN_JUMP_NS) {
        atomic_store_explicit(&pool->retreat_ns, now + SPIN_RETREAT_NS, memory_order_relaxed);
        return false;
    }
    if (!spin->begin_ns) spin->begin_ns = now;
    spin->last_ns = now;
    return now - spin->begin_ns < SPIN_NS;
}

static bool spin_pays(const sl__pool *pool)
{
    return atomic_load_explicit(&pool->spin, memory_order_relaxed);
}

/* Waits for an open run other than `seen`; false when the pool ends. */
static bool await_run(sl__pool *pool, uint32_t seen)
{
    struct spin spin = {0};
    bool spins = spin_pays(pool);
    for (;;) {
        uint32_t round = atomic_load(&pool->round);
        if (atomic_load(&pool->stop)) return false;
        if ((round & 1) && round != seen) return true;
        if (spins) {
            spins = spin_on(pool, &spin);
            continue;
        }
        atomic_fetch_add(&pool->parked, 1);
        sl__park_wait(&pool->park, &pool->round, round);
        atomic_fetch_sub(&pool->parked, 1);
        spins = spin_pays(pool); /* woken, but perhaps too late: the next run may be near */
        spin = (struct spin){0};
    }
}

static void *worker_main(void *arg)
{
    struct worker *self = arg;
    sl__pool *pool = self->pool;
    uint32_t seen = 0;
    while (await_run(pool, seen)) {
        announce(&self->inside, 1);
        uint32_t round = atomic_load(&pool->round);
        if (round & 1) {
            seen = round;
            work(self);
        }
        announce(&self->inside, 0);
        if (atomic_load(&pool->waiting)) {
            atomic_fetch_add(&pool->left, 1);
            sl__park_wake(&pool->park, &pool->left, 1);
        }
    }
    return NULL;
}

/* The caller sleeps until the worker has left. */
static void sleep_until_left(sl__pool *pool, struct worker *worker)
{
    announce(&pool->waiting, 1);
    for (;;) {
        uint32_t left = atomic_load(&pool->left);
        if (!atomic_load(&worker->inside)) break;
        sl__park_wait(&pool->park, &pool->left, left);
    }
    announce(&pool->waiting, 0);
}

static void await_workers(sl__pool *pool)
{
    for (uint32_t i = 1; i < pool->threads; i++) {
        struct worker *worker = &pool->workers[i];
        struct spin spin = {0};
        bool spins = pool->may_spin;
        while (atomic_load(&worker->inside)) {
            if (spins) spins = spin_on(pool, &spin);
            else sleep_until_left(pool, worker);
        }
    }
}

/* ---- runs ------------------------------------------------------------------------------------ */

static void share_out(sl__pool *pool, uint32_t count)
{
    uint32_t begin = 0;
    for (uint32_t i = 0; i < pool->threads; i++) {
        uint32_t end = (uint32_t)((uint64_t)count * (i + 1) / pool->threads);
        atomic_store_explicit(&pool->workers[i].span, span_of(begin, end), memory_order_relaxed);
        begin = end;
    }
}

/* Whether to spin before the run after this one, from how the last ones followed each other. */
static void note_gap(sl__pool *pool)
{
    uint64_t now = sl__now_ns();
    bool bridged = now - pool->end_ns < SPIN_NS;
    pool->bridged += (bridged ? BRIDGED_ALL : 0) / BRIDGED_DECAY;
    pool->bridged -= pool->bridged / BRIDGED_DECAY;
    bool spin = pool->may_spin && pool->bridged >= BRIDGED_ALL / 2 &&
                now >= atomic_load_explicit(&pool->retreat_ns, memory_order_relaxed);
    if (spin != spin_pays(pool)) atomic_store_explicit(&pool->spin, spin, memory_order_relaxed);
}

static void run(sl__pool *pool, sl__pool_fn fn, void *ctx, uint32_t count)
{
    uint32_t round = atomic_load_explicit(&pool->round, memory_order_relaxed);
    if (pool->may_spin) note_gap(pool);
    pool->fn = fn;
    pool->ctx = ctx;
    share_out(pool, count);
    announce(&pool->round, round + 1);
    uint32_t parked = atomic_load(&pool->parked);
    if (parked > 0) {
        sl__park_wake(&pool->park, &pool->round, parked < count - 1 ? parked : count - 1);
    }
    work(&pool->workers[0]);
    announce(&pool->round, round + 2);
    await_workers(pool);
    if (pool->may_spin) pool->end_ns = sl__now_ns();
}

void sl__pool_run(sl__pool *pool, sl__pool_fn fn, void *ctx, uint32_t count)
{
    bool within = atomic_exchange_explicit(&pool->running, true, memory_order_acquire);
    assert(!within);
    (void)within;
    if (count > 1 && pool->threads > 1) {
        run(pool, fn, ctx, count);
    } else {
        for (uint32_t i = 0; i < count; i++)
            fn(ctx, i, 0);
    }
    atomic_store_explicit(&pool->running, false, memory_order_release);
}

/* ---- creation -------------------------------------------------------------------------------- */

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

static bool start_workers(sl__pool *pool)
{
    pthread_attr_t attr;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    int bad = 0;
    for (uint32_t i = 1; i < pool->threads && !bad; i++) {
        bad = start_worker(&pool->workers[i], &attr);
        if (!bad) pool->started++;
    }
    pthread_attr_destroy(&attr);
    return !bad;
}

sl_status sl__pool_create(sl__pool **out, uint32_t threads, sl_error *err)
{
    if (threads < 1 || threads > SL_POOL_THREADS_MAX) {
        return SL_FAIL(err, SL_EINVAL, "threads: %u is not from 1 to %u", threads,
                       SL_POOL_THREADS_MAX);
    }
    void *memory;
    size_t bytes = sizeof(sl__pool) + threads * sizeof(struct worker);
    if (posix_memalign(&memory, LINE, bytes) != 0) return SL_FAIL_NOMEM(err, "thread pool");
    sl__pool *pool = memset(memory, 0, bytes);
    sl__park_init(&pool->park);
    pool->threads = threads;
    pool->may_spin = threads <= sl__cpu_count();
    for (uint32_t i = 0; i < threads; i++) {
        pool->workers[i].pool = pool;
        pool->workers[i].number = i;
    }
    if (!start_workers(pool)) {
        sl__pool_destroy(pool);
        return SL_FAIL(err, SL_ENOMEM, "thread pool: a thread could not be started");
    }
    *out = pool;
    return SL_OK;
}

/* Below so many threads the scheduler does it as well, and the machine is somebody's desk. */
#define BIND_THREADS_MIN 8u

bool sl__pool_bind(sl__pool *pool)
{
    pthread_t threads[SL_CPUS_MAX];
    sl__cpu list[SL_CPUS_MAX];
    if (pool->threads < BIND_THREADS_MIN || pool->threads != sl__core_count()) return false;
    if (sl__cpu_list(list, "") != sl__cpu_count()) return false; /* a quota */
    for (uint32_t i = 1; i < pool->threads; i++)
        threads[i - 1] = pool->workers[i].thread;
    return sl__cpu_bind(threads, pool->threads - 1);
}

void sl__pool_destroy(sl__pool *pool)
{
    if (!pool) return;
    atomic_store(&pool->stop, true);
    atomic_fetch_add(&pool->round, 2);
    sl__park_wake(&pool->park, &pool->round, pool->threads);
    for (uint32_t i = 1; i <= pool->started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    sl__park_destroy(&pool->park);
    free(pool);
}

uint32_t sl__pool_threads(const sl__pool *pool) { return pool->threads; }
