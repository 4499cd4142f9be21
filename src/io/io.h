/* Asynchronous reads: one vtable {submit, reap, cancel, promote}. Engines: io_uring, and a pool of
 * threads that call pread. Short reads, EINTR, EAGAIN and EIO are the engine's business.
 *
 *     submit ──> queue (demand before prefetch) ──> pieces of at most split_bytes ──> at most depth
 *     reap   <── done ring <── a read is done when its last piece is                  in flight
 *
 * Both engines share the queue (io_queue.h): what is handed to the system is bounded by depth, and
 * prefetch may fill only three quarters of it, so that demand finds a place at once.
 */
#ifndef SL_IO_IO_H
#define SL_IO_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "sluice.h"

typedef enum sl__io_priority {
    SL_IO_DEMAND = 0, /* somebody waits for it */
    SL_IO_PREFETCH = 1,
} sl__io_priority;

/* One contiguous read. dst is borrowed until the read is reaped. */
typedef struct sl__io_read {
    int fd;
    uint64_t offset;
    uint64_t bytes;
    void *dst;
    uint64_t tag; /* the caller's; returned in the completion */
    sl__io_priority priority;
    bool direct; /* fd goes past the page cache: the engine rounds out to SL_IO_ALIGN, straight into
                  * dst where the read is aligned (dst, offset; the length may end in a part block,
                  * then dst has room up to its end), through a bounce buffer where it is not. A
                  * device whose blocks are larger answers SL_EIO with EINVAL */
} sl__io_read;

#define SL_IO_ALIGN 4096u

/* status: SL_OK, SL_EIO (sys_errno says why), SL_EFORMAT (the file ended early), SL_ECANCELLED.
 * bytes: how many came. On anything but SL_OK the content of dst is undefined. */
typedef struct sl__io_done {
    uint64_t tag;
    sl_status status;
    int sys_errno;
    uint64_t bytes;
} sl__io_done;

typedef struct sl__io sl__io;

typedef struct sl__io_ops {
    const char *name; /* "pread" */
    /* Queues all n reads or none. SL_EINVAL where more would be in flight than max_reads, where one
     * is out of range, or direct and not aligned in an engine without bounce buffers. */
    sl_status (*submit)(sl__io *io, const sl__io_read *reads, uint32_t n, sl_error *err);
    /* Takes up to max completions; with wait, blocks until there is one, unless nothing is in
     * flight. Returns how many. */
    uint32_t (*reap)(sl__io *io, sl__io_done *done, uint32_t max, bool wait);
    /* Drops the reads with this tag whose first piece has not begun; they are reaped as
     * SL_ECANCELLED. Returns how many. */
    uint32_t (*cancel)(sl__io *io, uint64_t tag);
    /* Makes demand of the prefetch reads with this tag, ahead of other prefetch and behind demand
     * that waits already. Returns how many were still to be begun or are under way. */
    uint32_t (*promote)(sl__io *io, uint64_t tag);
    uint64_t (*cpu_ns)(sl__io *io); /* of the engine's threads since they started */
    /* Waits for what is in flight. */
    void (*destroy)(sl__io *io);
} sl__io_ops;

struct sl__io {
    const sl__io_ops *ops;
    uint32_t max_reads; /* in flight (submitted, not yet reaped) at most; never changes */
    /* Since creation; written by the engine atomically, read through sl__io_stats_get. */
    uint64_t bytes_read, busy_ns;
};

typedef struct sl__io_stats {
    uint64_t bytes_read; /* delivered into memory */
    uint64_t busy_ns;    /* at least one piece was in flight */
    uint64_t cpu_ns;     /* of the engine's threads */
} sl__io_stats;

/* Reads that adjoin in the file are made as one where they are small (a quarter of split_bytes at
 * most) and wait in the queue one behind the other; each still has its own completion. */

/* pread(2) or a stand-in: the fault-injecting shim of the tests. Called from several threads. */
typedef ssize_t (*sl__io_pread_fn)(void *ctx, int fd, void *dst, size_t bytes, off_t offset);

typedef struct sl__io_options {
    uint32_t depth;       /* pieces in flight; 0: 8. The pread engine has as many threads */
    uint32_t max_reads;   /* in flight at most; 0: 4096; memory is taken at creation, never later */
    uint64_t split_bytes; /* 0: 1 MiB */
    bool bounce;          /* direct reads that are not aligned will come: buffers are taken */
    sl__io_pread_fn pread_fn; /* NULL: pread */
    void *pread_ctx;
} sl__io_options;

/* kind: URING or PREAD, anything else is SL_EINVAL. SL_EUNSUPPORTED where this build or this kernel
 * has no io_uring. With a pread_fn only PREAD will do. */
sl_status sl__io_create(sl__io **out, sl_io_kind kind, const sl__io_options *opt, sl_error *err);
/* Whether sl__io_create of URING would work, found out by trying once (about 100 µs each call). */
bool sl__io_has_uring(void);

static inline sl_status sl__io_submit(sl__io *io, const sl__io_read *reads, uint32_t n,
                                      sl_error *err)
{
    return io->ops->submit(io, reads, n, err);
}
static inline uint32_t sl__io_reap(sl__io *io, sl__io_done *done, uint32_t max, bool wait)
{
    return io->ops->reap(io, done, max, wait);
}
static inline uint32_t sl__io_cancel(sl__io *io, uint64_t tag) { return io->ops->cancel(io, tag); }
static inline uint32_t sl__io_promote(sl__io *io, uint64_t tag)
{
    return io->ops->promote(io, tag);
}
void sl__io_stats_get(sl__io *io, sl__io_stats *stats);
void sl__io_destroy(sl__io *io); /* NULL is allowed; nobody else may be inside */

/* What an engine will hold with these options, for the memory plan: tables, rings, stacks as
 * touched, and bounce buffers where `bounce` or opt->bounce says that they are taken. */
uint64_t sl__io_footprint(sl_io_kind kind, const sl__io_options *opt, bool bounce);

#endif
