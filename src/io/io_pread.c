/* Reads by a pool of threads that call pread.
 *
 * A table of max_reads entries is taken at creation. An entry is in exactly one place:
 *
 *     free ──submit──> demand or prefetch queue ──last piece taken──> in the hands of threads
 *       ^                  │         │                                          │
 *       │               cancel     a piece failed                    last piece came back
 *       │                  v         v                                          v
 *       └─────reap────── done ring <──(once no thread works for the entry)──────┘
 *
 * Threads take pieces from the head of the demand queue, then of the prefetch queue. A piece is at
 * most split_bytes; an entry stays at the head until all its pieces are taken, so one large read
 * spreads over all threads, and a prefetch read that has begun still lets demand overtake between
 * its pieces. A piece that fails drops the pieces not yet taken; the entry is done when those
 * already taken have come back, so nothing writes to dst after the completion.
 *
 * Pieces are taken in the order of their offsets, hence every piece below a failed one has been
 * taken too: of several failures the one at the lowest offset is reported, whichever came first.
 *
 * One lock guards everything; it is never held during a pread.
 */
#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fail.h"
#include "io/io.h"
#include "io/io_thread.h"

#define NONE UINT32_MAX

#define DEFAULT_THREADS     8u
#define DEFAULT_MAX_READS   4096u
#define DEFAULT_SPLIT_BYTES (UINT64_C(1) << 20)
#define MAX_THREADS         1024u
#define MAX_SPLIT_BYTES     (UINT64_C(1) << 30) /* below what one pread transfers on any system */
#define STACK_BYTES         ((size_t)256 << 10)
#define STACK_TOUCHED_BYTES (UINT64_C(16) << 10) /* resident part of such a stack, TLS included */

/* EAGAIN is tried again so many times in a row; the first tries only yield, the others sleep. */
#define EAGAIN_TRIES    100u
#define EAGAIN_YIELDS   4u
#define EAGAIN_SLEEP_NS 1000000L

/* One read in flight. Guarded by the engine's lock; `read` does not change while threads work. */
typedef struct entry {
    sl__io_read read;
    uint64_t piece_bytes; /* of every piece but the last */
    uint64_t taken_bytes; /* the pieces below this offset have been given to threads */
    uint64_t got_bytes;   /* delivered so far */
    uint64_t error_at;    /* offset of the failed piece; where status is not SL_OK */
    sl_status status;
    int sys_errno;
    uint32_t busy;       /* threads that work on a piece of it */
    bool queued;         /* has pieces that are still to be taken */
    uint32_t prev, next; /* in the one list that it is in, if any */
} entry;

typedef struct entry_list {
    uint32_t head, tail;
} entry_list;

typedef struct pread_io {
    sl__io base; /* first; bytes_read is written under the lock */

    /* Fixed at creation. */
    sl__io_pread_fn pread_fn;
    void *pread_ctx;
    uint64_t split_bytes;
    uint32_t thread_count;
    pthread_t *threads;

    pthread_mutex_t lock;
    pthread_cond_t work; /* signalled when a queue got pieces, or at the end */
    pthread_cond_t done; /* signalled when `finished` got an entry, or nothing is in flight */

    /* Guarded by lock. */
    entry *entries;      /* [base.max_reads] */
    entry_list spare;    /* entries that hold no read */
    entry_list queue[2]; /* by sl__io_priority */
    entry_list finished; /* the done ring */
    uint32_t in_flight;  /* entries that are not spare */
    uint32_t idle;       /* threads that wait on `work` */
    uint32_t reapers;    /* callers that wait on `done` */
    bool stopping;
} pread_io;

typedef struct piece {
    uint32_t index; /* of the entry */
    int fd;
    uint64_t begin; /* in the read */
    uint64_t bytes;
    uint64_t offset; /* in the file */
    unsigned char *dst;
} piece;

typedef struct piece_result {
    uint64_t bytes;
    sl_status status;
    int sys_errno;
} piece_result;

/* ---- lists ----------------------------------------------------------------------------------- */

static void list_append(pread_io *io, entry_list *list, uint32_t i)
{
    entry *e = &io->entries[i];
    e->next = NONE;
    e->prev = list->tail;
    if (list->tail != NONE)
        io->entries[list->tail].next = i;
    else
        list->head = i;
    list->tail = i;
}

static void list_remove(pread_io *io, entry_list *list, uint32_t i)
{
    entry *e = &io->entries[i];
    if (e->prev != NONE)
        io->entries[e->prev].next = e->next;
    else
        list->head = e->next;
    if (e->next != NONE)
        io->entries[e->next].prev = e->prev;
    else
        list->tail = e->prev;
    e->prev = e->next = NONE;
}

/* ---- the life of an entry; the lock is held -------------------------------------------------- */

static void entry_finish(pread_io *io, uint32_t i)
{
    assert(!io->entries[i].queued && io->entries[i].busy == 0);
    list_append(io, &io->finished, i);
    if (io->reapers > 0) pthread_cond_signal(&io->done);
}

static void entry_unqueue(pread_io *io, uint32_t i)
{
    entry *e = &io->entries[i];
    assert(e->queued);
    list_remove(io, &io->queue[e->read.priority], i);
    e->queued = false;
}

/* Equal pieces, so that no thread is left with a small rest; whole pages where that fits. */
static uint64_t piece_size(uint64_t bytes, uint64_t split_bytes)
{
    uint64_t pieces = bytes / split_bytes + (bytes % split_bytes != 0);
    uint64_t size = bytes / pieces + (bytes % pieces != 0);
    uint64_t whole = (size + 4095) & ~UINT64_C(4095);
    return whole <= split_bytes ? whole : size;
}

static void entry_begin(pread_io *io, const sl__io_read *read)
{
    uint32_t i = io->spare.tail; /* the last one used is in the processor's caches */
    assert(i != NONE);
    list_remove(io, &io->spare, i);
    io->in_flight++;
    entry *e = &io->entries[i];
    *e = (entry){.read = *read, .status = SL_OK, .prev = NONE, .next = NONE};
    if (read->bytes == 0) {
        entry_finish(io, i);
        return;
    }
    e->piece_bytes = piece_size(read->bytes, io->split_bytes);
    e->queued = true;
    list_append(io, &io->queue[read->priority], i);
}

static bool piece_take(pread_io *io, piece *p)
{
    uint32_t i = io->queue[SL_IO_DEMAND].head;
    if (i == NONE) i = io->queue[SL_IO_PREFETCH].head;
    if (i == NONE) return false;

    entry *e = &io->entries[i];
    uint64_t rest = e->read.bytes - e->taken_bytes;
    p->index = i;
    p->fd = e->read.fd;
    p->begin = e->taken_bytes;
    p->bytes = rest < e->piece_bytes ? rest : e->piece_bytes;
    p->offset = e->read.offset + p->begin;
    p->dst = (unsigned char *)e->read.dst + p->begin;
    e->taken_bytes += p->bytes;
    e->busy++;
    if (e->taken_bytes == e->read.bytes) entry_unqueue(io, i);
    return true;
}

static void piece_return(pread_io *io, const piece *p, const piece_result *r)
{
    entry *e = &io->entries[p->index];
    assert(e->busy > 0);
    e->busy--;
    e->got_bytes += r->bytes;
    __atomic_fetch_add(&io->base.bytes_read, r->bytes, __ATOMIC_RELAXED);
    if (r->status != SL_OK) {
        if (e->status == SL_OK || p->begin < e->error_at) {
            e->status = r->status;
            e->sys_errno = r->sys_errno;
            e->error_at = p->begin;
        }
        if (e->queued) entry_unqueue(io, p->index);
    }
    if (e->busy == 0 && !e->queued) entry_finish(io, p->index);
}

/* ---- threads --------------------------------------------------------------------------------- */

static ssize_t system_pread(void *ctx, int fd, void *dst, size_t bytes, off_t offset)
{
    (void)ctx;
    return pread(fd, dst, bytes, offset);
}

static void eagain_pause(uint32_t tries)
{
    if (tries <= EAGAIN_YIELDS) {
        sched_yield();
        return;
    }
    struct timespec pause = {.tv_sec = 0, .tv_nsec = EAGAIN_SLEEP_NS};
    nanosleep(&pause, NULL);
}

static piece_result piece_read(const pread_io *io, const piece *p)
{
    piece_result r = {.status = SL_OK};
    uint32_t tries = 0;
    while (r.bytes < p->bytes) {
        uint64_t rest = p->bytes - r.bytes;
        ssize_t n = io->pread_fn(io->pread_ctx, p->fd, p->dst + r.bytes, (size_t)rest,
                                 (off_t)(p->offset + r.bytes));
        if (n > 0) {
            assert((uint64_t)n <= rest);
            r.bytes += (uint64_t)n;
            tries = 0;
            continue;
        }
        if (n == 0) {
            r.status = SL_EFORMAT;
            break;
        }
        int cause = errno;
        if (cause == EINTR) continue;
        if (cause == EAGAIN && ++tries < EAGAIN_TRIES) {
            eagain_pause(tries);
            continue;
        }
        r.status = SL_EIO;
        r.sys_errno = cause;
        break;
    }
    return r;
}

static void *thread_main(void *arg)
{
    pread_io *io = arg;
    sl__io_thread_name("sluice-io");
    pthread_mutex_lock(&io->lock);
    while (!io->stopping) {
        piece p;
        if (!piece_take(io, &p)) {
            io->idle++;
            pthread_cond_wait(&io->work, &io->lock);
            io->idle--;
            continue;
        }
        pthread_mutex_unlock(&io->lock);
        piece_result r = piece_read(io, &p);
        pthread_mutex_lock(&io->lock);
        piece_return(io, &p, &r);
    }
    pthread_mutex_unlock(&io->lock);
    return NULL;
}

/* ---- the vtable ------------------------------------------------------------------------------ */

static sl_status check_reads(const pread_io *io, const sl__io_read *reads, uint32_t n,
                             uint64_t *pieces, sl_error *err)
{
    *pieces = 0;
    for (uint32_t i = 0; i < n; i++) {
        const sl__io_read *r = &reads[i];
        uint64_t end;
        assert(r->dst != NULL || r->bytes == 0);
        assert(r->priority == SL_IO_DEMAND || r->priority == SL_IO_PREFETCH);
        if (!sl__add_u64(&end, r->offset, r->bytes) || end > (uint64_t)INT64_MAX ||
            r->bytes > SIZE_MAX) {
            return SL_FAIL(err, SL_EINVAL, "a read of %llu bytes at offset %llu is out of range",
                           (unsigned long long)r->bytes, (unsigned long long)r->offset);
        }
        *pieces += r->bytes / io->split_bytes + 1;
    }
    return SL_OK;
}

static sl_status pread_submit(sl__io *base, const sl__io_read *reads, uint32_t n, sl_error *err)
{
    pread_io *io = (pread_io *)base;
    uint64_t pieces;
    SL_TRY(check_reads(io, reads, n, &pieces, err));
    pthread_mutex_lock(&io->lock);
    if (n > base->max_reads - io->in_flight) {
        uint32_t in_flight = io->in_flight;
        pthread_mutex_unlock(&io->lock);
        return SL_FAIL(err, SL_EINVAL, "%u reads more than the %u in flight: at most %u", n,
                       in_flight, base->max_reads);
    }
    for (uint32_t i = 0; i < n; i++)
        entry_begin(io, &reads[i]);
    uint32_t wake = pieces < io->idle ? (uint32_t)pieces : io->idle;
    while (wake-- > 0)
        pthread_cond_signal(&io->work);
    pthread_mutex_unlock(&io->lock);
    return SL_OK;
}

static uint32_t pread_reap(sl__io *base, sl__io_done *done, uint32_t max, bool wait)
{
    pread_io *io = (pread_io *)base;
    uint32_t count = 0;
    if (max == 0) return 0;
    pthread_mutex_lock(&io->lock);
    while (wait && io->finished.head == NONE && io->in_flight > 0) {
        io->reapers++;
        pthread_cond_wait(&io->done, &io->lock);
        io->reapers--;
    }
    while (count < max && io->finished.head != NONE) {
        uint32_t i = io->finished.head;
        const entry *e = &io->entries[i];
        done[count++] = (sl__io_done){.tag = e->read.tag,
                                      .status = e->status,
                                      .sys_errno = e->sys_errno,
                                      .bytes = e->got_bytes};
        list_remove(io, &io->finished, i);
        list_append(io, &io->spare, i);
        io->in_flight--;
    }
    /* Another caller may be waiting for what this one took. */
    if (io->in_flight == 0 && io->reapers > 0) pthread_cond_broadcast(&io->done);
    pthread_mutex_unlock(&io->lock);
    return count;
}

static uint32_t pread_cancel(sl__io *base, uint64_t tag)
{
    pread_io *io = (pread_io *)base;
    uint32_t count = 0;
    pthread_mutex_lock(&io->lock);
    for (int q = SL_IO_DEMAND; q <= SL_IO_PREFETCH; q++) {
        for (uint32_t i = io->queue[q].head, next; i != NONE; i = next) {
            entry *e = &io->entries[i];
            next = e->next;
            if (e->read.tag != tag || e->taken_bytes > 0) continue;
            entry_unqueue(io, i);
            e->status = SL_ECANCELLED;
            entry_finish(io, i);
            count++;
        }
    }
    pthread_mutex_unlock(&io->lock);
    return count;
}

/* Nobody can reap any more: pieces that no thread has taken are dropped, the others are waited
 * for, so that no dst is written after the return. */
static void pread_destroy(sl__io *base)
{
    pread_io *io = (pread_io *)base;
    pthread_mutex_lock(&io->lock);
    assert(io->reapers == 0);
    io->stopping = true;
    pthread_cond_broadcast(&io->work);
    pthread_mutex_unlock(&io->lock);
    for (uint32_t i = 0; i < io->thread_count; i++)
        pthread_join(io->threads[i], NULL);
    pthread_cond_destroy(&io->done);
    pthread_cond_destroy(&io->work);
    pthread_mutex_destroy(&io->lock);
    free(io->threads);
    free(io->entries);
    free(io);
}

static const sl__io_ops pread_ops = {
    .name = "pread",
    .submit = pread_submit,
    .reap = pread_reap,
    .cancel = pread_cancel,
    .destroy = pread_destroy,
};

/* ---- creation -------------------------------------------------------------------------------- */

static sl__io_options resolve(const sl__io_options *opt)
{
    sl__io_options r = opt != NULL ? *opt : (sl__io_options){0};
    if (r.threads == 0) r.threads = DEFAULT_THREADS;
    if (r.max_reads == 0) r.max_reads = DEFAULT_MAX_READS;
    if (r.split_bytes == 0) r.split_bytes = DEFAULT_SPLIT_BYTES;
    if (r.split_bytes > MAX_SPLIT_BYTES) r.split_bytes = MAX_SPLIT_BYTES;
    if (r.pread_fn == NULL) {
        r.pread_fn = system_pread;
        r.pread_ctx = NULL;
    }
    return r;
}

uint64_t sl__io_footprint(const sl__io_options *opt)
{
    sl__io_options r = resolve(opt);
    return sizeof(pread_io) + (uint64_t)r.max_reads * sizeof(entry) +
           (uint64_t)r.threads * (sizeof(pthread_t) + STACK_TOUCHED_BYTES);
}

static bool locks_init(pread_io *io)
{
    if (pthread_mutex_init(&io->lock, NULL) != 0) return false;
    if (pthread_cond_init(&io->work, NULL) == 0) {
        if (pthread_cond_init(&io->done, NULL) == 0) return true;
        pthread_cond_destroy(&io->work);
    }
    pthread_mutex_destroy(&io->lock);
    return false;
}

static size_t stack_size(void)
{
    size_t least = (size_t)PTHREAD_STACK_MIN; /* a call of sysconf on newer systems */
    return least > STACK_BYTES ? least : STACK_BYTES;
}

/* Starts the threads with all signals blocked: a handler of the program must not run on a small
 * stack, nor interrupt reads. Returns an errno; io->thread_count says how many run. */
static int threads_start(pread_io *io, uint32_t count)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int rc = pthread_attr_init(&attr);
    if (rc != 0) return rc;
    /* A refused size leaves the default one, which is only larger. */
    (void)pthread_attr_setstacksize(&attr, stack_size());
    sigfillset(&all);
    rc = pthread_sigmask(SIG_SETMASK, &all, &old);
    if (rc == 0) {
        while (rc == 0 && io->thread_count < count) {
            rc = pthread_create(&io->threads[io->thread_count], &attr, thread_main, io);
            if (rc == 0) io->thread_count++;
        }
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    pthread_attr_destroy(&attr);
    return rc;
}

sl_status sl__io_create_pread(sl__io **out, const sl__io_options *opt, sl_error *err)
{
    sl__io_options r = resolve(opt);
    *out = NULL;
    if (r.threads > MAX_THREADS || r.max_reads == NONE) {
        return SL_FAIL(err, SL_EINVAL, "%u I/O threads, %u reads in flight: too many", r.threads,
                       r.max_reads);
    }
    pread_io *io = calloc(1, sizeof *io);
    if (io == NULL) return SL_FAIL_NOMEM(err, "I/O engine");
    io->threads = calloc(r.threads, sizeof *io->threads);
    io->entries = calloc(r.max_reads, sizeof *io->entries);
    if (io->threads == NULL || io->entries == NULL || !locks_init(io)) {
        free(io->threads);
        free(io->entries);
        free(io);
        return SL_FAIL_NOMEM(err, "I/O engine");
    }
    io->base.ops = &pread_ops;
    io->base.max_reads = r.max_reads;
    io->pread_fn = r.pread_fn;
    io->pread_ctx = r.pread_ctx;
    io->split_bytes = r.split_bytes;
    io->spare = io->finished = io->queue[0] = io->queue[1] = (entry_list){NONE, NONE};
    for (uint32_t i = 0; i < r.max_reads; i++)
        list_append(io, &io->spare, i);

    int rc = threads_start(io, r.threads);
    if (rc != 0) {
        pread_destroy(&io->base);
        return SL_FAIL(err, SL_ENOMEM, "cannot start an I/O thread: %s", strerror(rc));
    }
    *out = &io->base;
    return SL_OK;
}
