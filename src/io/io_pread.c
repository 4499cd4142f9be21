/* Reads by a pool of threads that call pread: as many as the depth, each with one piece in hand.
 *
 *     submit ──> queue (io_queue.h) ──take──> thread: preadv, again until the piece is complete
 *                      ^                            │ with a bounce buffer: memcpy
 *                      └──────────return────────────┘
 *
 * The lock is the queue's; it is never held during a read. Each thread sleeps on a condition of its
 * own: with several sleepers on one, the C library of Linux can lose a signal (glibc's bug 25847),
 * and then everybody would wait for ever.
 */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/pages.h"
#include "io/io_engine.h"
#include "io/io_queue.h"
#include "io/io_thread.h"

typedef struct pread_io pread_io;

typedef struct pread_thread {
    pread_io *io;
    unsigned char *bounce; /* NULL: none */
    pthread_t id;
    pthread_cond_t called; /* there are pieces to take, or it is the end */
    bool asleep;                     /* guarded by the queue's lock */
    struct pread_thread *next_asleep; /* guarded by the queue's lock */
} pread_thread;

struct pread_io {
    sl__io_queue queue; /* first */

    /* Fixed at creation. */
    sl__io_pread_fn pread_fn; /* NULL: the system's */
    void *pread_ctx;
    pread_thread *threads;
    uint32_t thread_count; /* that run */
    unsigned char *bounce; /* of all threads; NULL: none */
    size_t bounce_bytes;

    pread_thread *asleep; /* guarded by the queue's lock; queue.sleepers is their number */
};

/* ---- threads --------------------------------------------------------------------------------- */

/* A stand-in takes one buffer a call; what is behind it comes as after any short read. */
static ssize_t ask(const pread_io *io, const sl__io_piece *p)
{
    const struct iovec *v = &p->iov[p->next];
    off_t offset = (off_t)(p->offset + p->at);
    int count = (int)(p->iov_count - p->next);
    if (io->pread_fn != NULL) {
        return io->pread_fn(io->pread_ctx, p->fd, v->iov_base, v->iov_len, offset);
    }
    if (count == 1) return pread(p->fd, v->iov_base, v->iov_len, offset);
    return preadv(p->fd, v, count, offset);
}

static void piece_read(const pread_io *io, sl__io_piece *p)
{
    sl__io_step step;
    do {
        ssize_t n = ask(io, p);
        step = sl__io_piece_came(p, n >= 0 ? (int64_t)n : -(int64_t)errno);
        if (step == SL_IO_STEP_LATER) sl__io_piece_pause(p);
    } while (step != SL_IO_STEP_DONE);
    sl__io_piece_unload(p);
}

/* The lock is held. */
static void call_sleepers(pread_io *io, uint32_t count)
{
    for (; count > 0 && io->asleep != NULL; count--) {
        pread_thread *t = io->asleep;
        io->asleep = t->next_asleep;
        io->queue.sleepers--;
        t->asleep = false;
        pthread_cond_signal(&t->called);
    }
}

/* The lock is held. */
static void sleep_until_called(pread_thread *self)
{
    pread_io *io = self->io;
    self->asleep = true;
    self->next_asleep = io->asleep;
    io->asleep = self;
    io->queue.sleepers++;
    while (self->asleep)
        pthread_cond_wait(&self->called, &io->queue.lock);
}

static void *thread_main(void *arg)
{
    pread_thread *self = arg;
    pread_io *io = self->io;
    sl__io_queue *q = &io->queue;
    sl__io_thread_name("sluice-io");
    pthread_mutex_lock(&q->lock);
    while (!q->stopping) {
        sl__io_piece p;
        if (!sl__io_queue_take(q, &p, self->bounce)) {
            sleep_until_called(self);
            continue;
        }
        /* Pieces that came in no submit: of a promoted read, or of a merged one that failed. */
        if (sl__io_queue_ready(q)) call_sleepers(io, 1);
        pthread_mutex_unlock(&q->lock);
        piece_read(io, &p);
        pthread_mutex_lock(&q->lock);
        sl__io_queue_return(q, &p);
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

static void pread_wake(sl__io_queue *q, uint32_t count)
{
    pthread_mutex_lock(&q->lock);
    call_sleepers((pread_io *)q, count);
    pthread_mutex_unlock(&q->lock);
}

/* ---- the vtable's own ------------------------------------------------------------------------ */

static uint64_t pread_cpu_ns(sl__io *base)
{
    const pread_io *io = (const pread_io *)base;
    uint64_t ns = 0;
    for (uint32_t i = 0; i < io->thread_count; i++)
        ns += sl__io_thread_cpu_ns(io->threads[i].id);
    return ns;
}

static void free_all(pread_io *io)
{
    if (io->bounce != NULL) sl__pages_free(io->bounce, io->bounce_bytes);
    free(io->threads);
    free(io);
}

/* Nobody can reap any more: pieces that no thread has taken are dropped, the others are waited
 * for, so that no dst is written after the return. */
static void pread_destroy(sl__io *base)
{
    pread_io *io = (pread_io *)base;
    pthread_mutex_lock(&io->queue.lock);
    io->queue.stopping = true;
    call_sleepers(io, io->thread_count);
    pthread_mutex_unlock(&io->queue.lock);
    for (uint32_t i = 0; i < io->thread_count; i++) {
        pthread_join(io->threads[i].id, NULL);
        pthread_cond_destroy(&io->threads[i].called);
    }
    sl__io_queue_free(&io->queue);
    free_all(io);
}

static const sl__io_ops pread_ops = {
    .name = "pread",
    .submit = sl__io_queue_submit,
    .reap = sl__io_queue_reap,
    .cancel = sl__io_queue_cancel,
    .promote = sl__io_queue_promote,
    .cpu_ns = pread_cpu_ns,
    .destroy = pread_destroy,
};

/* ---- creation -------------------------------------------------------------------------------- */

uint64_t sl__io_pread_footprint(const sl__io_options *opt)
{
    uint64_t thread = sizeof(pread_thread) + SL_IO_STACK_TOUCHED_BYTES;
    if (opt->bounce) thread += sl__io_queue_bounce_bytes(opt);
    return sizeof(pread_io) + sl__io_queue_footprint(opt) + opt->depth * thread;
}

static pread_io *io_alloc(const sl__io_options *opt)
{
    pread_io *io = calloc(1, sizeof *io);
    if (io == NULL) return NULL;
    io->pread_fn = opt->pread_fn;
    io->pread_ctx = opt->pread_ctx;
    io->threads = calloc(opt->depth, sizeof *io->threads);
    if (opt->bounce) {
        io->bounce_bytes = (size_t)(sl__io_queue_bounce_bytes(opt) * opt->depth);
        io->bounce = sl__pages_alloc_huge(io->bounce_bytes);
    }
    if (io->threads == NULL || (opt->bounce && io->bounce == NULL)) {
        free_all(io);
        return NULL;
    }
    return io;
}

sl_status sl__io_pread_create(sl__io **out, const sl__io_options *opt, sl_error *err)
{
    pread_io *io = io_alloc(opt);
    if (io == NULL) return SL_FAIL_NOMEM(err, "I/O engine");
    sl_status status = sl__io_queue_init(&io->queue, &pread_ops, opt, err);
    if (status != SL_OK) {
        free_all(io);
        return status;
    }
    io->queue.wake = pread_wake;
    while (io->thread_count < opt->depth) {
        pread_thread *t = &io->threads[io->thread_count];
        t->io = io;
        if (io->bounce != NULL) {
            t->bounce = io->bounce + io->thread_count * sl__io_queue_bounce_bytes(opt);
        }
        int rc = pthread_cond_init(&t->called, NULL);
        if (rc == 0 && (rc = sl__io_thread_start(&t->id, thread_main, t)) != 0) {
            pthread_cond_destroy(&t->called);
        }
        if (rc != 0) {
            pread_destroy(&io->queue.base);
            return SL_FAIL(err, SL_ENOMEM, "cannot start an I/O thread: %s", strerror(rc));
        }
        io->thread_count++;
    }
    *out = &io->queue.base;
    return SL_OK;
}
