/* The probe's reads: one run at a point, on places of the files taken one after the other.
 *
 *     files     [ place | place | … | rest ][ place | … ]      a place is one request, page-aligned
 *     place     [ piece | piece | … ]                          an expert as the engine would cut it
 *     buffers   [ slot 0 | slot 1 | … ]                        one piece in flight a slot
 *
 * Places are gone through in steps of the golden section (sl__probe_place) from a start that is
 * different every time: what a disk, or a host below it, has just read is not asked for again.
 * Where the files are too small for all runs, the round begins again, a few times.
 *
 * A run hands the engine the pieces of one request after the other, half as many again as the
 * depth says, so that it never lacks any. When the time of the run is over, pieces that have not
 * begun are cancelled and the others waited for; the time is counted until the last one came.
 */
#include "io/probe.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/pages.h"
#include "io/probe_search.h"
#include "io/probe_system.h"

#define PAGE        4096u
#define RUN_MAX     512u /* requests of a run */
#define SLOTS_MAX   (SL_PROBE_DEPTH + SL_PROBE_DEPTH / 2)
#define ROUNDS      8u /* through all places */
#define BUFFER_MAX  (UINT64_C(64) << 20)

typedef struct place {
    uint32_t file;
    uint64_t offset;
} place;

typedef struct reader {
    const sl__probe_file *files;
    uint32_t file_count;
    char *buffer;
    size_t buffer_bytes;
    uint64_t start;         /* of the walk through the places */
    uint64_t request_bytes; /* of a place */
    uint64_t places, taken; /* taken: over all rounds */
    place run[RUN_MAX];
    uint32_t run_count;
    sl_error error; /* the first */
} reader;

/* A run under way. */
typedef struct run {
    reader *r;
    const sl_probe_point *point;
    sl__io *io;
    uint64_t piece_bytes; /* of every piece of a request but the last */
    uint64_t at;          /* of the next piece, in its request */
    uint32_t next;        /* the request that it is of */
    uint32_t in_flight;
    uint64_t bytes;
    bool failed;
} run;

/* ---- places ---------------------------------------------------------------------------------- */

static uint64_t stride_of(uint64_t request_bytes)
{
    return (request_bytes + PAGE - 1) / PAGE * PAGE;
}

static uint64_t count_places(const reader *r)
{
    uint64_t places = 0;
    for (uint32_t i = 0; i < r->file_count; i++)
        if (r->files[i].bytes >= r->request_bytes)
            places += 1 + (r->files[i].bytes - r->request_bytes) / stride_of(r->request_bytes);
    return places < SL_PROBE_PLACES ? places : SL_PROBE_PLACES;
}

static place place_at(const reader *r, uint64_t index)
{
    uint64_t stride = stride_of(r->request_bytes);
    for (uint32_t i = 0;; i++) {
        assert(i < r->file_count);
        if (r->files[i].bytes < r->request_bytes) continue;
        uint64_t here = 1 + (r->files[i].bytes - r->request_bytes) / stride;
        if (index < here) return (place){i, index * stride};
        index -= here;
    }
}

/* Chooses the places of a run, and takes them out of the page cache where they will be read through
 * it; those that stay there are left out. Small files are shared among all runs. */
static void choose_places(reader *r, uint64_t in_flight_bytes, bool direct)
{
    uint64_t most = r->places / 10, least = 2 * in_flight_bytes / r->request_bytes + 1;
    if (most < least) most = least;
    if (most > r->places) most = r->places;
    if (most > RUN_MAX) most = RUN_MAX;
    r->run_count = 0;
    for (uint64_t i = 0; i < most && r->taken + i < ROUNDS * r->places; i++) {
        uint64_t at = (r->taken + i) % r->places;
        place p = place_at(r, sl__probe_place(at, r->places, r->start));
        if (!direct && !sl__probe_uncache(r->files[p.file].fd, p.offset, r->request_bytes))
            continue;
        r->run[r->run_count++] = p;
    }
    /* Too few of them would not say much: the page cache has the files. */
    if (r->run_count < most / 2) r->run_count = 0;
}

/* ---- a run ----------------------------------------------------------------------------------- */

static bool submit_next(run *u, uint32_t slot)
{
    const reader *r = u->r;
    if (u->next == r->run_count) return false;
    const place *p = &r->run[u->next];
    const sl__probe_file *file = &r->files[p->file];
    uint64_t rest = r->request_bytes - u->at;
    const sl__io_read read = {
        .fd = u->point->direct ? file->direct_fd : file->fd,
        .offset = p->offset + u->at,
        .bytes = rest < u->piece_bytes ? rest : u->piece_bytes,
        .dst = u->r->buffer + slot * u->piece_bytes,
        .tag = slot,
        .priority = SL_IO_DEMAND,
        .direct = u->point->direct,
    };
    if (sl__io_submit(u->io, &read, 1, &u->r->error) != SL_OK) {
        u->failed = true;
        return false;
    }
    u->in_flight++;
    u->at += read.bytes;
    if (u->at == r->request_bytes) {
        u->at = 0;
        u->next++;
    }
    return true;
}

static void note(run *u, const sl__io_done *done)
{
    if (done->status == SL_OK) u->bytes += done->bytes;
    if (done->status == SL_OK || done->status == SL_ECANCELLED) return;
    u->failed = true;
    /* Which of the files it was is not worth a table: the first stands for the model. */
    (void)SL_FAIL(&u->r->error, done->status, "%s: reading at random places: %s",
                  u->r->files[0].path,
                  done->status == SL_EFORMAT ? "the file ends early" : strerror(done->sys_errno));
}

/* Until `ns` have passed, the places are used up, or a read failed. */
static uint64_t read_places(run *u, uint32_t slots, uint64_t ns)
{
    sl__io_done done[SLOTS_MAX];
    uint64_t begin = sl__now_ns();
    bool cancelled = false;
    for (uint32_t slot = 0; slot < slots; slot++)
        if (!submit_next(u, slot)) break;
    while (u->in_flight > 0) {
        uint32_t count = sl__io_reap(u->io, done, SLOTS_MAX, true);
        bool over = u->failed || sl__now_ns() - begin >= ns;
        for (uint32_t i = 0; i < count; i++) {
            u->in_flight--;
            note(u, &done[i]);
            over = over || u->failed;
            if (!over) (void)submit_next(u, (uint32_t)done[i].tag);
        }
        if (!over || cancelled) continue;
        cancelled = true;
        for (uint32_t slot = 0; slot < slots; slot++)
            (void)sl__io_cancel(u->io, slot);
    }
    return sl__now_ns() - begin;
}

static uint32_t slots_of(uint32_t depth) { return depth + (depth + 1) / 2; }

/* Equal pieces of whole pages, as the engines cut a read. */
static uint64_t piece_of(uint64_t request_bytes, uint64_t split_bytes)
{
    uint64_t pieces = (request_bytes + split_bytes - 1) / split_bytes;
    return stride_of((request_bytes + pieces - 1) / pieces);
}

static sl__probe_sample read_point(void *ctx, const sl_probe_point *point, uint64_t ns)
{
    reader *r = ctx;
    run u = {.r = r, .point = point,
             .piece_bytes = piece_of(r->request_bytes, point->read_bytes)};
    sl__probe_sample sample = {0};
    uint32_t slots = slots_of(point->depth);
    assert(slots * u.piece_bytes <= r->buffer_bytes);
    choose_places(r, point->depth * u.piece_bytes, point->direct);
    if (r->run_count == 0) return sample;
    const sl__io_options options = {
        .depth = point->depth, .max_reads = slots, .split_bytes = point->read_bytes};
    if (sl__io_create(&u.io, point->io, &options, &r->error) != SL_OK) return sample;
    sample.ns = read_places(&u, slots, ns);
    sample.bytes = u.failed ? 0 : u.bytes;
    sl__io_destroy(u.io);
    uint32_t begun = u.next + (u.at > 0);
    r->taken += begun;
    /* What nobody asked for does not stay in memory. */
    for (uint32_t i = 0; i < begun && !point->direct; i++)
        (void)sl__probe_uncache(r->files[r->run[i].file].fd, r->run[i].offset, r->request_bytes);
    return sample;
}

/* ---- the probe ------------------------------------------------------------------------------- */

static uint64_t now_ns(void *ctx)
{
    (void)ctx;
    return sl__now_ns();
}

/* Memory for the most that any point has in flight. */
static bool take_buffer(reader *r)
{
    uint64_t sizes[SL_PROBE_SIZES], most = 0;
    uint32_t size_count = sl__probe_sizes(sizes, r->request_bytes);
    for (uint32_t i = 0; i < size_count; i++) {
        uint32_t depth = SL_PROBE_DEPTH;
        while (depth * sizes[i] > SL_PROBE_IN_FLIGHT)
            depth /= 2;
        uint64_t bytes = slots_of(depth) * sizes[i];
        if (bytes > most) most = bytes;
    }
    assert(most <= BUFFER_MAX);
    r->buffer = sl__pages_alloc((size_t)most);
    r->buffer_bytes = (size_t)most;
    if (!r->buffer) return false;
    memset(r->buffer, 0, r->buffer_bytes); /* the first reads are not to pay for page faults */
    return true;
}

static uint64_t largest_of(const sl__probe_file *files, uint32_t count)
{
    uint64_t largest = 0;
    for (uint32_t i = 0; i < count; i++)
        if (files[i].bytes > largest) largest = files[i].bytes;
    return largest;
}

static bool all_direct(const sl__probe_file *files, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (files[i].direct_fd < 0) return false;
    return count > 0;
}

sl_status sl__probe_run(sl_probe_result *result, const sl__probe_file *files, uint32_t count,
                        uint64_t expert_bytes, uint64_t time_ns, sl_error *err)
{
    assert(expert_bytes > 0);
    uint64_t begin = sl__now_ns(), largest = largest_of(files, count);
    memset(result, 0, sizeof *result);
    if (count > 0) sl__probe_device(result->device, files[0].fd);
    reader *r = calloc(1, sizeof *r);
    if (!r) return SL_FAIL_NOMEM(err, "probe");
    r->files = files;
    r->file_count = count;
    r->start = begin;
    if (largest > 0 && expert_bytes > largest) expert_bytes = largest;
    const sl__probe_space space = {.uring = sl__io_has_uring(),
                                   .direct = all_direct(files, count),
                                   .expert_bytes = expert_bytes};
    r->request_bytes = expert_bytes;
    r->places = count_places(r);
    if (!take_buffer(r)) {
        free(r);
        return SL_FAIL_NOMEM(err, "buffers of the probe");
    }
    /* A part of the time is for giving back what was taken. */
    const sl__probe_reader reads = {.ctx = r, .now_ns = now_ns, .read = read_point};
    sl__probe_search(result, &space, &reads, begin + time_ns - time_ns / 32);
    sl__pages_free(r->buffer, r->buffer_bytes);
    sl_status status = SL_OK;
    if (!(result->bytes_per_s > 0.0) && r->error.status != SL_OK)
        status = SL_FAIL(err, r->error.status, "%s", r->error.message);
    free(r);
    result->took_ns = sl__now_ns() - begin;
    return status;
}

void sl__probe_device(char out[64], int fd)
{
    struct utsname name;
    char disk[64];
    sl__probe_disk(disk, sizeof disk, fd);
    out[0] = '\0';
    if (disk[0] == '\0') return;
    /* A long model must not hide the release. */
    if (uname(&name) == 0)
        snprintf(out, 64, "%.36s %.26s", disk, name.release);
    else
        snprintf(out, 64, "%.63s", disk);
    size_t end = 0;
    for (size_t i = 0; out[i]; i++) {
        char c = out[i] >= ' ' && out[i] <= '~' ? out[i] : '?';
        if (c == ' ' && (end == 0 || out[end - 1] == ' ')) continue; /* padded names */
        out[end++] = c;
    }
    out[end] = '\0';
}
