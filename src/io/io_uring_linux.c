/* Reads through io_uring. One thread owns the ring: it takes pieces off the queue into slots, hands
 * them to the system in one call that also waits, and returns those that are complete.
 *
 *     submit ──> queue (io_queue.h) ──take──> slots[depth] ──one io_uring_enter──> system
 *         │            ^                                                             │
 *         │            └──────────return─────── completions <────────────────────────┤
 *         └──eventfd, where the thread sleeps and there is a piece to take ──read────┘
 *
 * The eventfd is read through the ring as well, so that the thread sleeps in one place only. All of
 * the ring is touched by this thread alone, its creation included: the system can then leave out
 * locks and finish work in the thread itself instead of interrupting it.
 *
 * Descriptors and buffers are not registered with the ring. Registered descriptors would be held
 * open behind their owner's back, and a number that is used again would read the old file; what
 * both save is small beside pieces of hundreds of kilobytes (docs/internals/io.md has the figures).
 */
#include <assert.h>
#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/pages.h"
#include "io/io_engine.h"
#include "io/io_queue.h"
#include "io/io_thread.h"

#define NONE      UINT32_MAX
#define WAKE_DATA UINT64_MAX /* user data of the eventfd's read; of others, their slot */

/* A place for a piece that the system works on. Its address does not change: the piece's iov is
 * read by the system. */
typedef struct ring_slot {
    sl__io_piece piece;
    unsigned char *bounce; /* NULL: none */
    uint32_t next;         /* in the list of free slots, or of pieces to be returned */
} ring_slot;

typedef enum ring_state { RING_STARTING, RING_OPEN, RING_FAILED } ring_state;

typedef struct uring_io {
    sl__io_queue queue; /* first */

    /* Fixed at creation. */
    pthread_t thread;
    int wake_fd;
    ring_slot *slots;      /* [depth] */
    unsigned char *bounce; /* of all slots; NULL: none */
    size_t bounce_bytes;

    atomic_bool woken; /* the eventfd has been written since the thread last took pieces */

    /* Guarded by queue.lock; `done` is signalled when they are set. */
    ring_state state;
    int ring_errno; /* why it failed */

    /* The thread's own. */
    struct io_uring ring;
    uint64_t wake_count;  /* where the eventfd's read goes */
    bool wake_armed;      /* that read is under way */
    uint32_t free_slots;  /* list */
    uint32_t ended_slots; /* list: pieces to be returned */
    uint32_t in_ring;     /* slots that hold a piece */
} uring_io;

/* ---- the ring -------------------------------------------------------------------------------- */

static unsigned ring_entries(uint32_t depth)
{
    unsigned entries = 2;
    while (entries < depth + 1u) /* one for the eventfd */
        entries *= 2;
    return entries;
}

/* The calling thread becomes the ring's owner. Returns an errno. */
static int ring_open(struct io_uring *ring, unsigned entries)
{
    /* Newer systems first; one that does not know a flag refuses all of them. */
    static const unsigned flags[] = {
        IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
        IORING_SETUP_COOP_TASKRUN,
        0,
    };
    int rc = -EINVAL;
    for (size_t i = 0; rc == -EINVAL && i < sizeof flags / sizeof flags[0]; i++) {
        struct io_uring_params params = {.flags = flags[i]};
        rc = io_uring_queue_init_params(entries, ring, &params);
    }
    if (rc < 0) return -rc;
    /* Linux 5.7: reads without a vector, and waiting for an eventfd without a thread of the
     * kernel's that blocks on it. */
    if ((ring->features & IORING_FEAT_FAST_POLL) == 0) {
        io_uring_queue_exit(ring);
        return ENOSYS;
    }
    return 0;
}

static struct io_uring_sqe *get_sqe(uring_io *io)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&io->ring);
    assert(sqe != NULL); /* there is an entry for every slot and for the eventfd */
    return sqe;
}

static void slot_ask(uring_io *io, uint32_t s)
{
    const sl__io_piece *p = &io->slots[s].piece;
    const struct iovec *v = &p->iov[p->next];
    struct io_uring_sqe *sqe = get_sqe(io);
    uint32_t count = p->iov_count - p->next;
    if (count == 1)
        io_uring_prep_read(sqe, p->fd, v->iov_base, (unsigned)v->iov_len, p->offset + p->at);
    else
        io_uring_prep_readv(sqe, p->fd, v, count, p->offset + p->at);
    io_uring_sqe_set_data64(sqe, s);
}

static void wake_arm(uring_io *io)
{
    struct io_uring_sqe *sqe = get_sqe(io);
    io_uring_prep_read(sqe, io->wake_fd, &io->wake_count, sizeof io->wake_count, 0);
    io_uring_sqe_set_data64(sqe, WAKE_DATA);
    io->wake_armed = true;
}

static void slot_came(uring_io *io, uint32_t s, int64_t answer)
{
    ring_slot *slot = &io->slots[s];
    sl__io_step step = sl__io_piece_came(&slot->piece, answer);
    if (step == SL_IO_STEP_DONE) {
        sl__io_piece_unload(&slot->piece);
        slot->next = io->ended_slots;
        io->ended_slots = s;
        return;
    }
    if (step == SL_IO_STEP_LATER) sl__io_piece_pause(&slot->piece);
    slot_ask(io, s);
}

/* Hands over what is prepared and waits for a completion. What the system does not take now stays
 * in the ring and goes with the next call. */
static void ring_wait(uring_io *io)
{
    int rc = io_uring_submit_and_wait(&io->ring, 1);
    if (rc == -EAGAIN || rc == -EBUSY)
        sched_yield(); /* memory is short, or completions have to be taken first */
    else
        assert(rc >= 0 || rc == -EINTR);
}

static void ring_collect(uring_io *io)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&io->ring, &cqe) == 0) {
        uint64_t data = io_uring_cqe_get_data64(cqe);
        int answer = cqe->res;
        io_uring_cqe_seen(&io->ring, cqe);
        if (data == WAKE_DATA)
            io->wake_armed = false;
        else
            slot_came(io, (uint32_t)data, answer);
    }
}

/* ---- the thread ------------------------------------------------------------------------------ */

/* The lock is held. */
static void take_pieces(uring_io *io)
{
    while (io->free_slots != NONE) {
        uint32_t s = io->free_slots;
        ring_slot *slot = &io->slots[s];
        if (!sl__io_queue_take(&io->queue, &slot->piece, slot->bounce)) break;
        io->free_slots = slot->next;
        io->in_ring++;
        slot_ask(io, s);
    }
}

/* The lock is held. */
static void return_pieces(uring_io *io)
{
    while (io->ended_slots != NONE) {
        uint32_t s = io->ended_slots;
        ring_slot *slot = &io->slots[s];
        io->ended_slots = slot->next;
        sl__io_queue_return(&io->queue, &slot->piece);
        slot->next = io->free_slots;
        io->free_slots = s;
        io->in_ring--;
    }
}

/* The lock is held, and held again at the return. Ends when the engine stops: then nothing is in
 * the ring, and the eventfd's read, which destroy satisfies, is not under way. */
static void serve(uring_io *io)
{
    sl__io_queue *q = &io->queue;
    for (;;) {
        take_pieces(io);
        bool stopping = q->stopping;
        if (stopping && io->in_ring == 0 && !io->wake_armed) return;
        q->sleepers = 1;
        pthread_mutex_unlock(&q->lock);
        if (!stopping && !io->wake_armed) wake_arm(io);
        ring_wait(io);
        ring_collect(io);
        pthread_mutex_lock(&q->lock);
        q->sleepers = 0;
        atomic_store(&io->woken, false);
        return_pieces(io);
    }
}

static void *thread_main(void *arg)
{
    uring_io *io = arg;
    sl__io_queue *q = &io->queue;
    sl__io_thread_name("sluice-uring");
    int cause = ring_open(&io->ring, ring_entries(q->depth));
    pthread_mutex_lock(&q->lock);
    io->state = cause == 0 ? RING_OPEN : RING_FAILED;
    io->ring_errno = cause;
    pthread_cond_signal(&q->done);
    if (cause == 0) serve(io);
    pthread_mutex_unlock(&q->lock);
    if (cause == 0) io_uring_queue_exit(&io->ring);
    return NULL;
}

static void write_wake(const uring_io *io)
{
    static const uint64_t one = 1;
    while (write(io->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        continue;
}

static void uring_wake(sl__io_queue *q, uint32_t count)
{
    uring_io *io = (uring_io *)q;
    (void)count;
    /* Of several submits while the thread is on its way, one wakes it. */
    if (!atomic_exchange(&io->woken, true)) write_wake(io);
}

/* ---- the vtable's own ------------------------------------------------------------------------ */

static uint64_t uring_cpu_ns(sl__io *base)
{
    return sl__io_thread_cpu_ns(((const uring_io *)base)->thread);
}

static void free_all(uring_io *io)
{
    if (io->bounce != NULL) sl__pages_free(io->bounce, io->bounce_bytes);
    if (io->wake_fd >= 0) close(io->wake_fd);
    free(io->slots);
    free(io);
}

/* Pieces that are not in the ring are dropped; the others are waited for. */
static void uring_destroy(sl__io *base)
{
    uring_io *io = (uring_io *)base;
    pthread_mutex_lock(&io->queue.lock);
    io->queue.stopping = true;
    pthread_mutex_unlock(&io->queue.lock);
    write_wake(io);
    pthread_join(io->thread, NULL);
    sl__io_queue_free(&io->queue);
    free_all(io);
}

static const sl__io_ops uring_ops = {
    .name = "uring",
    .submit = sl__io_queue_submit,
    .reap = sl__io_queue_reap,
    .cancel = sl__io_queue_cancel,
    .promote = sl__io_queue_promote,
    .cpu_ns = uring_cpu_ns,
    .destroy = uring_destroy,
};

/* ---- creation -------------------------------------------------------------------------------- */

uint64_t sl__io_uring_footprint(const sl__io_options *opt)
{
    /* Twice as many completions as submissions, and an index of these. */
    uint64_t entry = sizeof(struct io_uring_sqe) + 2 * sizeof(struct io_uring_cqe) + sizeof(__u32);
    uint64_t place = sizeof(ring_slot);
    if (opt->bounce) place += sl__io_queue_bounce_bytes(opt);
    return sizeof(uring_io) + sl__io_queue_footprint(opt) + SL_IO_STACK_TOUCHED_BYTES +
           ring_entries(opt->depth) * entry + opt->depth * place;
}

bool sl__io_uring_works(void)
{
    struct io_uring ring;
    if (ring_open(&ring, 2) != 0) return false;
    io_uring_queue_exit(&ring);
    return true;
}

static uring_io *io_alloc(const sl__io_options *opt)
{
    uring_io *io = calloc(1, sizeof *io);
    if (io == NULL) return NULL;
    io->wake_fd = -1;
    io->slots = calloc(opt->depth, sizeof *io->slots);
    uint64_t bounce_bytes = sl__io_queue_bounce_bytes(opt);
    if (opt->bounce) {
        io->bounce_bytes = (size_t)(bounce_bytes * opt->depth);
        io->bounce = sl__pages_alloc_huge(io->bounce_bytes);
    }
    if (io->slots == NULL || (opt->bounce && io->bounce == NULL)) {
        free_all(io);
        return NULL;
    }
    for (uint32_t s = 0; s < opt->depth; s++) {
        io->slots[s].next = s + 1 < opt->depth ? s + 1 : NONE;
        if (io->bounce != NULL) io->slots[s].bounce = io->bounce + s * bounce_bytes;
    }
    io->ended_slots = NONE;
    return io;
}

/* Starts the thread and waits until it has its ring. Nothing runs where it fails. */
static sl_status start(uring_io *io, sl_error *err)
{
    sl__io_queue *q = &io->queue;
    int rc = sl__io_thread_start(&io->thread, thread_main, io);
    if (rc != 0) {
        return SL_FAIL(err, SL_ENOMEM, "cannot start an I/O thread: %s", strerror(rc));
    }
    pthread_mutex_lock(&q->lock);
    while (io->state == RING_STARTING)
        pthread_cond_wait(&q->done, &q->lock);
    bool failed = io->state == RING_FAILED;
    pthread_mutex_unlock(&q->lock);
    if (!failed) return SL_OK;
    pthread_join(io->thread, NULL);
    return SL_FAIL(err, SL_EUNSUPPORTED, "io_uring cannot be had: %s", strerror(io->ring_errno));
}

sl_status sl__io_uring_create(sl__io **out, const sl__io_options *opt, sl_error *err)
{
    uring_io *io = io_alloc(opt);
    if (io == NULL) return SL_FAIL_NOMEM(err, "I/O engine");
    sl_status status = sl__io_queue_init(&io->queue, &uring_ops, opt, err);
    if (status != SL_OK) {
        free_all(io);
        return status;
    }
    io->queue.wake = uring_wake;
    io->wake_fd = eventfd(0, EFD_CLOEXEC);
    if (io->wake_fd < 0)
        status = SL_FAIL(err, SL_EIO, "eventfd: %s", strerror(errno));
    else
        status = start(io, err);
    if (status != SL_OK) {
        sl__io_queue_free(&io->queue);
        free_all(io);
        return status;
    }
    *out = &io->queue.base;
    return SL_OK;
}
