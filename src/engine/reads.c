/* How experts will be read: what was asked for, and for the rest what the disk was found to like.
 *
 *     asked for ──┐
 *     remembered ─┼─> engine, direct or not, depth, piece
 *     measured ───┘   only where experts will be streamed: a model that fits needs no probe
 */
#include "engine/engine.h"

#include <string.h>

#include "base/fail.h"

/* Below this the disk is not asked: reading all of it takes no longer than asking. */
#define PROBE_LEAST_BYTES ((uint64_t)2 << 30)

/* Several pieces, also where one at a time is as fast: demand overtakes between pieces. */
/* Where memory is that short, the stacks of threads that read count. */
#define LITTLE_BYTES ((uint64_t)32 << 20)
#define LITTLE_DEPTH 2u
#define DEPTH_LEAST 4u

/* Bytes of all experts, and of the largest. */
static uint64_t experts_bytes(const sl__store *store, uint32_t layers, uint64_t *largest)
{
    uint64_t sum = 0;
    *largest = 0;
    for (uint32_t i = 0; i < layers; i++) {
        const sl__expert_layout *layout = sl__store_expert_layout(store, i);
        if (!layout) continue;
        sum += layout->record_bytes * layout->expert_count;
        if (layout->record_bytes > *largest) *largest = layout->record_bytes;
    }
    return sum;
}

/* Whether reads can go straight into their slot: an expert is one extent, on the disk's grid. */
static bool all_aligned(const sl__store *store, uint32_t layers)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    for (uint32_t i = 0; i < layers; i++) {
        const sl__expert_layout *layout = sl__store_expert_layout(store, i);
        if (!layout) continue;
        if (layout->record_bytes < SL_IO_ALIGN) return false;
        for (uint32_t e = 0; e < layout->expert_count && e < 2; e++) {
            uint32_t n = sl__store_expert_extents(store, i, e, extents);
            if (n != 1 || extents[0].offset % SL_IO_ALIGN != 0) return false;
        }
    }
    return true;
}

#define READS_LEAST 256u
#define READS_MOST 4096u

/* All that one layer may ask for. */
static uint32_t most_reads(const sl__store *store, uint32_t layers)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint64_t most = READS_LEAST;
    for (uint32_t i = 0; i < layers; i++) {
        const sl__expert_layout *layout = sl__store_expert_layout(store, i);
        if (!layout) continue;
        uint64_t n = sl__store_expert_extents(store, i, 0, extents);
        if (n * layout->expert_count > most) most = n * layout->expert_count;
    }
    return most < READS_MOST ? (uint32_t)most : READS_MOST;
}

/* Where one file of experts can be read past the page cache, all can. */
static bool direct_works(sl__store *store, uint32_t layers)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    for (uint32_t i = 0; i < layers; i++) {
        if (sl__store_expert_extents(store, i, 0, extents) > 0) {
            return sl__store_direct_fd(store, extents[0].file) >= 0;
        }
    }
    return false;
}

static sl_status check(const sl__reads *reads, sl__store *store, uint32_t layers,
                       const sl_engine_options *opt, sl_error *err)
{
    const char *path = sl__store_path(store);
    if (reads->kind == SL_IO_KIND_MMAP && !sl__store_is_pack(store)) {
        return SL_FAIL(err, SL_EINVAL, "%s: only a pack can be run from mapped files", path);
    }
    if (reads->kind == SL_IO_KIND_URING && !sl__io_has_uring()) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: io_uring is not to be had here; pread is", path);
    }
    if (opt->direct == SL_ON && reads->kind != SL_IO_KIND_MMAP && !direct_works(store, layers)) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: the file system has no direct reads", path);
    }
    return SL_OK;
}

static bool wants_probe(const sl_engine_options *opt)
{
    return opt->io != SL_IO_KIND_MMAP &&
           (opt->io == SL_IO_KIND_AUTO || opt->direct == SL_AUTO || opt->io_depth == 0 ||
            opt->io_split_bytes == 0);
}

sl_status sl__reads_choose(sl__reads *reads, sl__store *store, uint32_t layers,
                           uint64_t memory_bytes, const sl_engine_options *opt, sl_error *err)
{
    uint64_t largest, all = experts_bytes(store, layers, &largest);
    sl_probe_result probe = {0};
    *reads = (sl__reads){.kind = opt->io, .depth = opt->io_depth,
                         .split_bytes = opt->io_split_bytes, .direct = opt->direct == SL_ON};
    reads->max_reads = most_reads(store, layers);
    SL_TRY(check(reads, store, layers, opt, err));
    if (wants_probe(opt) && all >= PROBE_LEAST_BYTES && all > memory_bytes) {
        SL_TRY(sl__engine_probe(&probe, store, largest, opt->probe_file, err));
        if (reads->kind == SL_IO_KIND_AUTO) reads->kind = probe.io;
        if (opt->direct == SL_AUTO) reads->direct = probe.direct;
        if (reads->depth == 0) reads->depth = probe.depth > DEPTH_LEAST ? probe.depth : DEPTH_LEAST;
        if (reads->split_bytes == 0) reads->split_bytes = probe.split_bytes;
        reads->bytes_per_s = probe.bytes_per_s;
    }
    if (reads->kind == SL_IO_KIND_AUTO) reads->kind = SL_IO_KIND_PREAD;
    if (reads->depth == 0 && memory_bytes < LITTLE_BYTES) reads->depth = LITTLE_DEPTH;
    if (reads->kind == SL_IO_KIND_MMAP) reads->direct = false;
    reads->bounce = reads->direct && !all_aligned(store, layers);
    return SL_OK;
}
