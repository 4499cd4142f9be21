/* Asynchronous reads: one vtable {submit, reap, cancel}. Engines: a pool of threads that call pread
 * (here), others beside it later. Short reads, EINTR, EAGAIN and EIO are the engine's business.
 *
 *     submit ──> queue (demand before prefetch) ──> pieces of at most split_bytes ──> pread
 *     reap   <── done ring <── a read is done when its last piece is
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
} sl__io_read;

/* status: SL_OK, SL_EIO (sys_errno says why), SL_EFORMAT (the file ended early), SL_ECANCELLED.
 * On anything but SL_OK the content of dst is undefined. */
typedef struct sl__io_done {
    uint64_t tag;
    sl_status status;
    int sys_errno;
    uint64_t bytes;
} sl__io_done;

typedef struct sl__io sl__io;

typedef struct sl__io_ops {
    const char *name; /* "pread" */
    /* Queues all n reads or none. SL_EINVAL where more would be in flight than max_reads. */
    sl_status (*submit)(sl__io *io, const sl__io_read *reads, uint32_t n, sl_error *err);
    /* Takes up to max completions; with wait, blocks until there is one, unless nothing is in
     * flight. Returns how many. */
    uint32_t (*reap)(sl__io *io, sl__io_done *done, uint32_t max, bool wait);
    /* Drops the reads with this tag whose first piece has not begun; they are reaped as
     * SL_ECANCELLED. Returns how many. */
    uint32_t (*cancel)(sl__io *io, uint64_t tag);
    /* Waits for what is in flight. */
    void (*destroy)(sl__io *io);
} sl__io_ops;

struct sl__io {
    const sl__io_ops *ops;
    uint32_t max_reads; /* in flight (submitted, not yet reaped) at most; never changes */
    /* Since creation; written under the engine's own lock, read through sl__io_bytes. */
    uint64_t bytes_read;
};

/* pread(2) or a stand-in: the fault-injecting shim of the tests. Called from several threads. */
typedef ssize_t (*sl__io_pread_fn)(void *ctx, int fd, void *dst, size_t bytes, off_t offset);

typedef struct sl__io_options {
    uint32_t threads;     /* 0: 8 */
    uint32_t max_reads;   /* in flight at most; 0: 4096; memory is taken at creation, never later */
    uint64_t split_bytes; /* 0: 1 MiB */
    sl__io_pread_fn pread_fn; /* NULL: pread */
    void *pread_ctx;
} sl__io_options;

sl_status sl__io_create_pread(sl__io **out, const sl__io_options *opt, sl_error *err);

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
uint64_t sl__io_bytes(sl__io *io);   /* delivered into memory since creation */
void sl__io_destroy(sl__io *io);     /* NULL is allowed */

/* What create_pread will hold with these options, for the memory plan (stacks as touched). */
uint64_t sl__io_footprint(const sl__io_options *opt);

#endif
