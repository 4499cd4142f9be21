/* What both engines share: which reads are in flight, and in which pieces they are made.
 *
 * A table of max_reads entries is taken at creation. An entry is in exactly one list:
 *
 *     spare ──submit──> waiting[demand or prefetch] ──last piece taken──> taken
 *       ^                   │      │        ^                              │  │
 *       │                cancel  a piece    └── out of a merged piece ─────┘  │ last piece
 *       │                   v    failed v       that failed                   v came back
 *       └──────reap─────  finished  <───(once no piece is in hand)────────────┘
 *
 * An engine's threads take pieces from the head of the demand list, then of the prefetch list, ask
 * the system for them, and return them. A piece is at most split_bytes; an entry stays at the head
 * until all its pieces are taken, so one large read spreads over the whole depth, and a prefetch
 * read that has begun still lets demand overtake between its pieces. Small reads that adjoin in the
 * file and in the list are taken as one piece.
 *
 * A piece that fails drops those not yet taken; the entry is done when those already taken have
 * come back, so nothing writes to dst after the completion. Pieces are taken in the order of their
 * offsets, hence every piece below a failed one has been taken too: of several failures the one at
 * the lowest offset is reported, whichever came first. A merged piece that fails does not say which
 * read is to blame: those that it did not complete are made again, each alone.
 *
 * One lock guards everything; it is never held during I/O.
 */
#ifndef SL_IO_IO_QUEUE_H
#define SL_IO_IO_QUEUE_H

#include <pthread.h>

#include "io/io.h"
#include "io/io_piece.h"

typedef struct sl__io_entry sl__io_entry;

typedef struct sl__io_list {
    uint32_t head, tail;
} sl__io_list;

typedef struct sl__io_queue {
    sl__io base; /* first; its counters are written under the lock */

    /* Fixed at creation. */
    void (*wake)(struct sl__io_queue *q, uint32_t count); /* so many sleepers; without the lock */
    uint64_t split_bytes;
    uint32_t depth, prefetch_depth; /* pieces in hand at most; of them, of prefetch */
    bool bounce;

    pthread_mutex_t lock;
    pthread_cond_t done; /* signalled when `finished` got an entry, or nothing is in flight */

    /* Guarded by lock. */
    sl__io_entry *entries;  /* [base.max_reads] */
    sl__io_list spare;      /* hold no read */
    sl__io_list waiting[2]; /* by sl__io_priority: have pieces to be taken */
    sl__io_list taken;      /* all their pieces are in hand */
    sl__io_list finished;   /* the done ring */
    uint32_t in_flight;     /* entries that are not spare */
    uint32_t in_hand[2];    /* pieces, by the priority that they were taken with */
    uint64_t busy_since;    /* what comes after is not in busy_ns yet; where pieces are in hand */
    uint32_t sleepers;      /* threads to be woken when there are pieces; the engine counts them */
    uint32_t reapers;       /* callers that wait on `done` */
    bool stopping;          /* no piece is given out any more */
} sl__io_queue;

/* opt holds no zeros that stand for defaults. On failure there is nothing to free. */
sl_status sl__io_queue_init(sl__io_queue *q, const sl__io_ops *ops, const sl__io_options *opt,
                            sl_error *err);
void sl__io_queue_free(sl__io_queue *q);
uint64_t sl__io_queue_footprint(const sl__io_options *opt);

/* Bytes of the bounce buffer of a piece in hand. */
uint64_t sl__io_queue_bounce_bytes(const sl__io_options *opt);

/* For the vtables; io is the queue's base. */
sl_status sl__io_queue_submit(sl__io *io, const sl__io_read *reads, uint32_t n, sl_error *err);
uint32_t sl__io_queue_reap(sl__io *io, sl__io_done *done, uint32_t max, bool wait);
uint32_t sl__io_queue_cancel(sl__io *io, uint64_t tag);
uint32_t sl__io_queue_promote(sl__io *io, uint64_t tag);

/* For the engines' threads, with the lock held. Take is false where no piece is to be had now;
 * bounce is the thread's buffer, NULL where the engine has none. Every piece taken is returned. */
bool sl__io_queue_take(sl__io_queue *q, sl__io_piece *p, unsigned char *bounce);
bool sl__io_queue_ready(const sl__io_queue *q); /* whether take would give a piece */
void sl__io_queue_return(sl__io_queue *q, const sl__io_piece *p);

#endif
