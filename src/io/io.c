/* What every I/O engine shares: its options, its counters, and the choice between engines. */
#include "io/io.h"

#include <stddef.h>

#include "base/fail.h"
#include "io/io_engine.h"

#define DEFAULT_DEPTH       8u
#define DEFAULT_MAX_READS   4096u
#define DEFAULT_SPLIT_BYTES (UINT64_C(1) << 20)
#define MAX_DEPTH           1024u
#define MAX_SPLIT_BYTES     (UINT64_C(1) << 30) /* below what one read transfers on any system */

const char *sl_io_kind_name(sl_io_kind kind)
{
    switch (kind) {
    case SL_IO_KIND_AUTO: return "auto";
    case SL_IO_KIND_URING: return "uring";
    case SL_IO_KIND_PREAD: return "pread";
    case SL_IO_KIND_MMAP: return "mmap";
    }
    return "unknown";
}

static sl__io_options resolve(const sl__io_options *opt)
{
    sl__io_options r = opt != NULL ? *opt : (sl__io_options){0};
    if (r.depth == 0) r.depth = DEFAULT_DEPTH;
    if (r.max_reads == 0) r.max_reads = DEFAULT_MAX_READS;
    if (r.split_bytes == 0) r.split_bytes = DEFAULT_SPLIT_BYTES;
    if (r.split_bytes > MAX_SPLIT_BYTES) r.split_bytes = MAX_SPLIT_BYTES;
    return r;
}

uint64_t sl__io_footprint(sl_io_kind kind, const sl__io_options *opt, bool bounce)
{
    sl__io_options r = resolve(opt);
    r.bounce = r.bounce || bounce;
    return kind == SL_IO_KIND_URING ? sl__io_uring_footprint(&r) : sl__io_pread_footprint(&r);
}

sl_status sl__io_create(sl__io **out, sl_io_kind kind, const sl__io_options *opt, sl_error *err)
{
    sl__io_options r = resolve(opt);
    *out = NULL;
    if (r.depth > MAX_DEPTH || r.max_reads == UINT32_MAX) {
        return SL_FAIL(err, SL_EINVAL, "%u pieces, %u reads in flight: too many", r.depth,
                       r.max_reads);
    }
    if (kind == SL_IO_KIND_PREAD) return sl__io_pread_create(out, &r, err);
    if (kind != SL_IO_KIND_URING || r.pread_fn != NULL) {
        return SL_FAIL(err, SL_EINVAL, "no engine of reads: %s%s", sl_io_kind_name(kind),
                       r.pread_fn != NULL ? " with a pread of the caller's" : "");
    }
    return sl__io_uring_create(out, &r, err);
}

bool sl__io_has_uring(void)
{
    return sl__io_uring_works();
}

void sl__io_stats_get(sl__io *io, sl__io_stats *stats)
{
    /* The counters are atomic, so that nobody has to offer a lock for them. */
    *stats = (sl__io_stats){
        .bytes_read = __atomic_load_n(&io->bytes_read, __ATOMIC_RELAXED),
        .busy_ns = __atomic_load_n(&io->busy_ns, __ATOMIC_RELAXED),
        .cpu_ns = io->ops->cpu_ns(io),
    };
}

void sl__io_destroy(sl__io *io)
{
    if (io != NULL) io->ops->destroy(io);
}
