#include "io/io_queue.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/clock.h"
#include "base/fail.h"

#define NONE       UINT32_MAX
#define ALIGN_MASK ((uint64_t)SL_IO_ALIGN - 1)

/* Below this part of split_bytes a read is merged with its neighbours: what is larger fills the
 * depth better on its own. */
#define MERGE_PART 4u

/* One read in flight. Guarded by the queue's lock; `read` but for its priority does not change
 * while pieces are in hand.
 *
 *     file  ···[ head | the read            | rounding ]···    span: what is read, cut into pieces
 */
struct sl__io_entry {
    sl__io_read read;
    uint64_t span_bytes;  /* of a direct read a multiple of SL_IO_ALIGN, from the block's begin */
    uint64_t piece_bytes; /* of every piece but the last */
    uint64_t taken_bytes; /* of the span; the pieces below have been taken */
    uint64_t got_bytes;   /* of the read, delivered so far */
    uint64_t error_at;    /* begin of the failed piece; where status is not SL_OK */
    sl__io_list *list;    /* the one that it is in */
    sl_status status;
    int sys_errno;
    uint32_t head_bytes;
    uint32_t pieces;     /* in hand */
    uint32_t mate;       /* the next read of the same merged piece, while that is in hand */
    uint32_t prev, next; /* in its list */
    bool bounce;         /* direct and not aligned */
    bool alone;          /* not to be merged (again) */
};

/* ---- lists; the lock is held from here on ---------------------------------------------------- */

static void list_append(sl__io_queue *q, sl__io_list *list, uint32_t i)
{
    sl__io_entry *e = &q->entries[i];
    e->list = list;
    e->next = NONE;
    e->prev = list->tail;
    if (list->tail != NONE)
        q->entries[list->tail].next = i;
    else
        list->head = i;
    list->tail = i;
}

static void list_move(sl__io_queue *q, sl__io_list *to, uint32_t i)
{
    sl__io_entry *e = &q->entries[i];
    if (e->prev != NONE)
        q->entries[e->prev].next = e->next;
    else
        e->list->head = e->next;
    if (e->next != NONE)
        q->entries[e->next].prev = e->prev;
    else
        e->list->tail = e->prev;
    list_append(q, to, i);
}

/* ---- the life of an entry -------------------------------------------------------------------- */

static void entry_finish(sl__io_queue *q, uint32_t i)
{
    assert(q->entries[i].pieces == 0);
    list_move(q, &q->finished, i);
    if (q->reapers > 0) pthread_cond_signal(&q->done);
}

static bool is_waiting(const sl__io_queue *q, const sl__io_entry *e)
{
    return e->list == &q->waiting[SL_IO_DEMAND] || e->list == &q->waiting[SL_IO_PREFETCH];
}

/* Equal pieces, so that no thread is left with a small rest; whole blocks where that fits, of
 * direct reads always. */
static uint64_t piece_size(uint64_t bytes, uint64_t split_bytes, bool direct)
{
    if (direct) {
        split_bytes &= ~ALIGN_MASK;
        if (split_bytes == 0) split_bytes = SL_IO_ALIGN;
    }
    uint64_t pieces = bytes / split_bytes + (bytes % split_bytes != 0);
    uint64_t size = bytes / pieces + (bytes % pieces != 0);
    uint64_t whole = (size + ALIGN_MASK) & ~ALIGN_MASK;
    return whole <= split_bytes ? whole : size;
}

static bool is_aligned(const sl__io_read *read)
{
    return ((read->offset | (uintptr_t)read->dst) & ALIGN_MASK) == 0;
}

/* Whether b can be made in the same piece as a, which comes directly before it in a list. */
static bool adjoins(const sl__io_queue *q, const sl__io_entry *a, const sl__io_entry *b)
{
    uint64_t small = q->split_bytes / MERGE_PART;
    if (a->alone || b->alone || a->bounce || b->bounce) return false;
    if (a->span_bytes > small || b->span_bytes > small) return false;
    if (a->read.fd != b->read.fd || a->read.direct != b->read.direct) return false;
    /* The rounding behind a direct read would lie over the next one. */
    return a->read.offset + a->span_bytes == b->read.offset && a->span_bytes == a->read.bytes;
}

/* Returns how many pieces it brings, as far as can be said before they are taken. */
static uint64_t entry_begin(sl__io_queue *q, const sl__io_read *read)
{
    uint32_t i = q->spare.tail; /* the last one used is in the processor's caches */
    assert(i != NONE);
    sl__io_entry *e = &q->entries[i];
    sl__io_list *list = &q->waiting[read->priority];
    q->in_flight++;
    list_move(q, read->bytes > 0 ? list : &q->finished, i);
    *e = (sl__io_entry){.read = *read,
                        .span_bytes = read->bytes,
                        .list = e->list,
                        .status = SL_OK,
                        .mate = NONE,
                        .prev = e->prev,
                        .next = e->next};
    if (read->bytes == 0) {
        if (q->reapers > 0) pthread_cond_signal(&q->done);
        return 0;
    }
    if (read->direct) {
        e->bounce = !is_aligned(read);
        e->head_bytes = (uint32_t)(read->offset & ALIGN_MASK);
        e->span_bytes = (e->head_bytes + read->bytes + ALIGN_MASK) & ~ALIGN_MASK;
    }
    e->piece_bytes = piece_size(e->span_bytes, q->split_bytes, read->direct);
    if (e->prev != NONE && adjoins(q, &q->entries[e->prev], e)) return 0;
    return (e->span_bytes - 1) / e->piece_bytes + 1;
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static uint32_t next_entry(const sl__io_queue *q)
{
    uint32_t in_hand = q->in_hand[SL_IO_DEMAND] + q->in_hand[SL_IO_PREFETCH];
    if (q->stopping || in_hand >= q->depth) return NONE;
    if (q->waiting[SL_IO_DEMAND].head != NONE) return q->waiting[SL_IO_DEMAND].head;
    if (q->in_hand[SL_IO_PREFETCH] >= q->prefetch_depth) return NONE;
    return q->waiting[SL_IO_PREFETCH].head;
}

bool sl__io_queue_ready(const sl__io_queue *q)
{
    return next_entry(q) != NONE;
}

static void piece_cut(sl__io_piece *p, const sl__io_entry *e, unsigned char *bounce)
{
    uint64_t begin = e->taken_bytes, left = e->span_bytes - begin;
    uint64_t bytes = left < e->piece_bytes ? left : e->piece_bytes;
    /* The read's part of the piece; both ends as offsets in the span. */
    uint64_t from = begin > e->head_bytes ? begin : e->head_bytes;
    uint64_t read_end = e->head_bytes + e->read.bytes;
    uint64_t to = begin + bytes < read_end ? begin + bytes : read_end;
    p->fd = e->read.fd;
    p->direct = e->read.direct;
    p->offset = e->read.offset - e->head_bytes + begin;
    p->ask_bytes = bytes;
    p->skip = from - begin;
    p->need_bytes = to - begin;
    p->dst = (unsigned char *)e->read.dst + (from - e->head_bytes);
    p->bounce = e->bounce ? bounce : NULL;
    assert(!e->bounce || bounce != NULL);
    p->iov[0].iov_base = e->bounce ? bounce : p->dst;
    p->iov[0].iov_len = (size_t)bytes;
    p->iov_count = 1;
    p->begin = begin;
}

/* Adds the reads that wait behind entry i and adjoin. */
static void piece_merge(sl__io_queue *q, sl__io_piece *p, uint32_t i)
{
    sl__io_entry *e = &q->entries[i];
    while (e->next != NONE && p->iov_count < SL_IO_MERGE_MAX) {
        sl__io_entry *next = &q->entries[e->next];
        if (!adjoins(q, e, next) || p->ask_bytes + next->span_bytes > q->split_bytes) break;
        p->iov[p->iov_count++] =
            (struct iovec){.iov_base = next->read.dst, .iov_len = (size_t)next->span_bytes};
        p->need_bytes = p->ask_bytes + next->read.bytes;
        p->ask_bytes += next->span_bytes;
        next->taken_bytes = next->span_bytes;
        next->pieces = 1;
        e->mate = e->next;
        e = next;
    }
    /* Only now: the walk above needs the list. */
    for (uint32_t m = q->entries[i].mate; m != NONE; m = q->entries[m].mate)
        list_move(q, &q->taken, m);
}

bool sl__io_queue_take(sl__io_queue *q, sl__io_piece *p, unsigned char *bounce)
{
    uint32_t i = next_entry(q);
    if (i == NONE) return false;
    sl__io_entry *e = &q->entries[i];
    p->entry = i;
    p->priority = e->read.priority;
    p->at = p->got_bytes = 0;
    p->next = p->tries = 0;
    p->status = SL_OK;
    p->sys_errno = 0;
    piece_cut(p, e, bounce);
    e->taken_bytes += p->ask_bytes;
    e->pieces++;
    if (e->taken_bytes == e->span_bytes) {
        if (p->begin == 0) piece_merge(q, p, i);
        list_move(q, &q->taken, i);
    }
    if (q->in_hand[SL_IO_DEMAND] + q->in_hand[SL_IO_PREFETCH] == 0) q->busy_since = sl__now_ns();
    q->in_hand[p->priority]++;
    return true;
}

static void count_bytes(sl__io_queue *q, uint64_t bytes)
{
    __atomic_fetch_add(&q->base.bytes_read, bytes, __ATOMIC_RELAXED);
}

static void return_merged(sl__io_queue *q, const sl__io_piece *p)
{
    uint64_t left = p->got_bytes;
    bool whole = true;
    for (uint32_t i = p->entry, next; i != NONE; i = next) {
        sl__io_entry *e = &q->entries[i];
        next = e->mate;
        e->mate = NONE;
        e->pieces = 0;
        whole = whole && left >= e->read.bytes;
        if (whole) {
            e->got_bytes = e->read.bytes;
            left -= e->read.bytes;
            count_bytes(q, e->read.bytes);
            entry_finish(q, i);
        } else {
            e->alone = true;
            e->taken_bytes = 0;
            list_move(q, &q->waiting[e->read.priority], i);
        }
    }
}

static void return_single(sl__io_queue *q, const sl__io_piece *p)
{
    sl__io_entry *e = &q->entries[p->entry];
    uint64_t bytes = sl__io_piece_delivered(p);
    assert(e->pieces > 0);
    e->pieces--;
    e->got_bytes += bytes;
    count_bytes(q, bytes);
    if (p->status != SL_OK) {
        if (e->status == SL_OK || p->begin < e->error_at) {
            e->status = p->status;
            e->sys_errno = p->sys_errno;
            e->error_at = p->begin;
        }
        if (is_waiting(q, e)) list_move(q, &q->taken, p->entry); /* the rest is not read */
    }
    if (e->pieces == 0 && !is_waiting(q, e)) entry_finish(q, p->entry);
}

void sl__io_queue_return(sl__io_queue *q, const sl__io_piece *p)
{
    uint64_t now = sl__now_ns();
    __atomic_fetch_add(&q->base.busy_ns, now - q->busy_since, __ATOMIC_RELAXED);
    q->busy_since = now;
    assert(q->in_hand[p->priority] > 0);
    q->in_hand[p->priority]--;
    if (q->entries[p->entry].mate != NONE)
        return_merged(q, p);
    else
        return_single(q, p);
}

/* ---- the vtable's; they take the lock -------------------------------------------------------- */

static sl_status check_reads(const sl__io_queue *q, const sl__io_read *reads, uint32_t n,
                             sl_error *err)
{
    for (uint32_t i = 0; i < n; i++) {
        const sl__io_read *r = &reads[i];
        uint64_t end;
        assert(r->dst != NULL || r->bytes == 0);
        assert(r->priority == SL_IO_DEMAND || r->priority == SL_IO_PREFETCH);
        if (!sl__add_u64(&end, r->offset, r->bytes) || !sl__align_u64(&end, end, SL_IO_ALIGN) ||
            end > (uint64_t)INT64_MAX || r->bytes > SIZE_MAX) {
            return SL_FAIL(err, SL_EINVAL, "a read of %llu bytes at offset %llu is out of range",
                           (unsigned long long)r->bytes, (unsigned long long)r->offset);
        }
        if (r->direct && r->bytes > 0 && !q->bounce && !is_aligned(r)) {
            return SL_FAIL(err, SL_EINVAL,
                           "a direct read at offset %llu is not aligned, and there is no bounce "
                           "buffer",
                           (unsigned long long)r->offset);
        }
    }
    return SL_OK;
}

/* How many sleeping threads are to be woken for so many new pieces. */
static uint32_t wanted(const sl__io_queue *q, uint64_t pieces)
{
    if (!sl__io_queue_ready(q)) return 0;
    return pieces < q->sleepers ? (uint32_t)pieces : q->sleepers;
}

sl_status sl__io_queue_submit(sl__io *io, const sl__io_read *reads, uint32_t n, sl_error *err)
{
    sl__io_queue *q = (sl__io_queue *)io;
    SL_TRY(check_reads(q, reads, n, err));
    pthread_mutex_lock(&q->lock);
    if (n > io->max_reads - q->in_flight) {
        uint32_t in_flight = q->in_flight;
        pthread_mutex_unlock(&q->lock);
        return SL_FAIL(err, SL_EINVAL, "%u reads more than the %u in flight: at most %u", n,
                       in_flight, io->max_reads);
    }
    uint64_t pieces = 0;
    for (uint32_t i = 0; i < n; i++)
        pieces += entry_begin(q, &reads[i]);
    uint32_t wake = wanted(q, pieces);
    pthread_mutex_unlock(&q->lock);
    if (wake > 0) q->wake(q, wake);
    return SL_OK;
}

uint32_t sl__io_queue_reap(sl__io *io, sl__io_done *done, uint32_t max, bool wait)
{
    sl__io_queue *q = (sl__io_queue *)io;
    uint32_t count = 0;
    if (max == 0) return 0;
    pthread_mutex_lock(&q->lock);
    while (wait && q->finished.head == NONE && q->in_flight > 0) {
        q->reapers++;
        pthread_cond_wait(&q->done, &q->lock);
        q->reapers--;
    }
    while (count < max && q->finished.head != NONE) {
        uint32_t i = q->finished.head;
        const sl__io_entry *e = &q->entries[i];
        done[count++] = (sl__io_done){.tag = e->read.tag,
                                      .status = e->status,
                                      .sys_errno = e->sys_errno,
                                      .bytes = e->got_bytes};
        list_move(q, &q->spare, i);
        q->in_flight--;
    }
    /* Another caller may be waiting for what this one took. */
    if (q->in_flight == 0 && q->reapers > 0) pthread_cond_broadcast(&q->done);
    pthread_mutex_unlock(&q->lock);
    return count;
}

uint32_t sl__io_queue_cancel(sl__io *io, uint64_t tag)
{
    sl__io_queue *q = (sl__io_queue *)io;
    uint32_t count = 0;
    pthread_mutex_lock(&q->lock);
    for (int w = SL_IO_DEMAND; w <= SL_IO_PREFETCH; w++) {
        for (uint32_t i = q->waiting[w].head, next; i != NONE; i = next) {
            sl__io_entry *e = &q->entries[i];
            next = e->next;
            if (e->read.tag != tag || e->taken_bytes > 0) continue;
            e->status = SL_ECANCELLED;
            entry_finish(q, i);
            count++;
        }
    }
    pthread_mutex_unlock(&q->lock);
    return count;
}

uint32_t sl__io_queue_promote(sl__io *io, uint64_t tag)
{
    sl__io_queue *q = (sl__io_queue *)io;
    uint32_t count = 0;
    uint64_t pieces = 0;
    pthread_mutex_lock(&q->lock);
    for (uint32_t i = q->waiting[SL_IO_PREFETCH].head, next; i != NONE; i = next) {
        sl__io_entry *e = &q->entries[i];
        next = e->next;
        if (e->read.tag != tag) continue;
        e->read.priority = SL_IO_DEMAND;
        list_move(q, &q->waiting[SL_IO_DEMAND], i);
        pieces += (e->span_bytes - e->taken_bytes - 1) / e->piece_bytes + 1;
        count++;
    }
    for (uint32_t i = q->taken.head; i != NONE; i = q->entries[i].next) {
        sl__io_entry *e = &q->entries[i];
        if (e->read.tag != tag || e->read.priority != SL_IO_PREFETCH) continue;
        e->read.priority = SL_IO_DEMAND;
        count++;
    }
    /* They may have waited only because prefetch fills no more of the depth. */
    uint32_t wake = wanted(q, pieces);
    pthread_mutex_unlock(&q->lock);
    if (wake > 0) q->wake(q, wake);
    return count;
}

/* ---- creation -------------------------------------------------------------------------------- */

uint64_t sl__io_queue_bounce_bytes(const sl__io_options *opt)
{
    uint64_t bytes = opt->split_bytes & ~ALIGN_MASK; /* as piece_size has it */
    return bytes > 0 ? bytes : SL_IO_ALIGN;
}

uint64_t sl__io_queue_footprint(const sl__io_options *opt)
{
    return (uint64_t)opt->max_reads * sizeof(sl__io_entry);
}

static bool locks_init(sl__io_queue *q)
{
    if (pthread_mutex_init(&q->lock, NULL) != 0) return false;
    if (pthread_cond_init(&q->done, NULL) == 0) return true;
    pthread_mutex_destroy(&q->lock);
    return false;
}

sl_status sl__io_queue_init(sl__io_queue *q, const sl__io_ops *ops, const sl__io_options *opt,
                            sl_error *err)
{
    memset(q, 0, sizeof *q);
    q->entries = calloc(opt->max_reads, sizeof *q->entries);
    if (q->entries == NULL || !locks_init(q)) {
        free(q->entries);
        return SL_FAIL_NOMEM(err, "I/O engine");
    }
    q->base.ops = ops;
    q->base.max_reads = opt->max_reads;
    q->split_bytes = opt->split_bytes;
    q->depth = opt->depth;
    q->prefetch_depth = opt->depth >= 4 ? opt->depth - opt->depth / 4 : opt->depth;
    q->bounce = opt->bounce;
    q->spare = q->taken = q->finished = (sl__io_list){NONE, NONE};
    q->waiting[0] = q->waiting[1] = (sl__io_list){NONE, NONE};
    for (uint32_t i = 0; i < opt->max_reads; i++)
        list_append(q, &q->spare, i);
    return SL_OK;
}

void sl__io_queue_free(sl__io_queue *q)
{
    assert(q->reapers == 0);
    pthread_cond_destroy(&q->done);
    pthread_mutex_destroy(&q->lock);
    free(q->entries);
}
