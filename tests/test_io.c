/* What both engines promise: content, order, bounds, failures, cancelling, promoting. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "fake_answers.h"
#include "io_fixture.h"

sl__io_step __wrap_sl__io_piece_came(sl__io_piece *p, int64_t answer);

/* ---- creation -------------------------------------------------------------------------------- */

static void test_defaults(void **state)
{
    io_fixture *f = *state;
    sl__io *io = NULL;
    assert_int_equal(sl__io_create(&io, f->kind, NULL, NULL), SL_OK);
    assert_string_equal(io->ops->name, sl_io_kind_name(f->kind));
    assert_int_equal(io->max_reads, 4096);

    unsigned char *dst = malloc(IO_FILE_BYTES);
    sl__io_read r = io_read_of(f, 0, IO_FILE_BYTES, dst, 42);
    io_submit_ok(io, &r, 1);
    sl__io_done done = io_reap_one(io);
    assert_int_equal(done.tag, 42);
    assert_int_equal(done.status, SL_OK);
    assert_int_equal(done.bytes, IO_FILE_BYTES);
    assert_memory_equal(dst, f->content, IO_FILE_BYTES);
    sl__io_stats stats;
    sl__io_stats_get(io, &stats);
    assert_int_equal(stats.bytes_read, IO_FILE_BYTES);
    assert_true(stats.busy_ns > 0);
    assert_true(stats.cpu_ns > 0);
    free(dst);
    sl__io_destroy(io);
    sl__io_destroy(NULL);
}

static void test_footprint(void **state)
{
    io_fixture *f = *state;
    sl__io_options opt = {0};
    uint64_t least = sl__io_footprint(f->kind, NULL, false);
    assert_true(least > 0);
    assert_int_equal(least, sl__io_footprint(f->kind, &opt, false));
    opt.max_reads = 4097;
    assert_true(sl__io_footprint(f->kind, &opt, false) > least);
    opt = (sl__io_options){.depth = 9};
    assert_true(sl__io_footprint(f->kind, &opt, false) > least);
    opt = (sl__io_options){.split_bytes = 8192 + 5};
    least = sl__io_footprint(f->kind, &opt, false);
    assert_int_equal(sl__io_footprint(f->kind, &opt, true), least + 8 * 8192);
    opt.bounce = true;
    assert_int_equal(sl__io_footprint(f->kind, &opt, false), least + 8 * 8192);
}

static void test_bad_arguments(void **state)
{
    io_fixture *f = *state;
    sl__io *io = io_make(f, 1, 8, 0);
    unsigned char byte;
    sl_error err = {0};
    sl__io_done done;
    sl__io_read r[2] = {io_read_of(f, 0, 1, &byte, 1),
                        io_read_of(f, (uint64_t)INT64_MAX, 1, &byte, 2)};
    assert_int_equal(sl__io_submit(io, r, 2, &err), SL_EINVAL);
    assert_string_equal(err.message,
                        "a read of 1 bytes at offset 9223372036854775807 is out of range");
    r[1] = io_read_of(f, UINT64_MAX, 2, &byte, 2);
    assert_int_equal(sl__io_submit(io, r, 2, NULL), SL_EINVAL);
    r[1] = io_read_of(f, 4096, 1, &byte, 2);
    r[1].dst = &byte + ((uintptr_t)&byte % 2 == 0);
    r[1].direct = true;
    sl_error_clear(&err);
    assert_int_equal(sl__io_submit(io, r, 2, &err), SL_EINVAL);
    assert_string_equal(err.message, "a direct read at offset 4096 is not aligned, and there is no "
                                     "bounce buffer");
    assert_int_equal(sl__io_reap(io, &done, 1, true), 0); /* all or none */
    sl__io_destroy(io);

    const sl__io_options deep = {.depth = 100000};
    sl_error_clear(&err);
    assert_int_equal(sl__io_create(&io, f->kind, &deep, &err), SL_EINVAL);
    assert_null(io);
    assert_string_equal(err.message, "100000 pieces, 4096 reads in flight: too many");
    sl_error_clear(&err);
    assert_int_equal(sl__io_create(&io, SL_IO_KIND_MMAP, NULL, &err), SL_EINVAL);
    assert_string_equal(err.message, "no engine of reads: mmap");
}

static void test_nothing_in_flight(void **state)
{
    io_fixture *f = *state;
    sl__io *io = io_make(f, 2, 4, 0);
    sl__io_done done;
    unsigned char byte;
    assert_int_equal(sl__io_reap(io, &done, 1, true), 0);
    assert_int_equal(sl__io_reap(io, &done, 1, false), 0);
    io_submit_ok(io, NULL, 0);
    assert_int_equal(sl__io_reap(io, &done, 1, true), 0);
    sl__io_read r = io_read_of(f, 0, 1, &byte, 0);
    io_submit_ok(io, &r, 1);
    assert_int_equal(sl__io_reap(io, &done, 0, true), 0);
    io_reap_one(io);
    assert_int_equal(sl__io_reap(io, &done, 1, true), 0);
    assert_int_equal(sl__io_cancel(io, 0), 0);
    assert_int_equal(sl__io_promote(io, 0), 0);
    sl__io_destroy(io);
}

/* Completes at once: the system is not asked, even where the descriptor is no good. */
static void test_no_bytes(void **state)
{
    io_fixture *f = *state;
    fake_answers_set(1, NULL);
    sl__io *io = io_make(f, 1, 4, 0);
    sl__io_read r = io_read_of(f, 5, 0, NULL, 9);
    r.fd = -1;
    r.direct = true;
    io_submit_ok(io, &r, 1);
    sl__io_done done = {.status = SL_EIO};
    assert_int_equal(sl__io_reap(io, &done, 1, false), 1);
    assert_int_equal(done.tag, 9);
    assert_int_equal(done.status, SL_OK);
    assert_int_equal(done.bytes, 0);
    sl__io_destroy(io);
    assert_int_equal(fake_answers_calls(), 0);
}

/* ---- content --------------------------------------------------------------------------------- */

static void read_batches(io_fixture *f, const fake_answers_rules *faults, unsigned rounds)
{
    static const uint64_t splits[] = {1, 777, 4096, 65536, 0};
    static const unsigned largest[] = {50, 20000, 60000, 300000, 2500000};
    for (unsigned round = 0; round < rounds; round++) {
        unsigned size = round % 5;
        test_rng rng = {round};
        fake_answers_set(round, faults);
        sl__io *io = io_make(f, 1 + test_rng_below(&rng, 6), IO_BATCH, splits[size]);
        uint64_t bytes = 0;
        for (unsigned i = 0; i < 4; i++) {
            io_batch b;
            const io_batch_rules rules = {.largest = largest[size], .chains = i % 2};
            io_batch_make(&b, f, &rng, &rules);
            io_submit_ok(io, b.reads, IO_BATCH);
            bytes += io_batch_check(&b, f, io, &rng);
            sl__io_stats stats;
            sl__io_stats_get(io, &stats);
            assert_int_equal(stats.bytes_read, bytes);
        }
        sl__io_destroy(io);
    }
    fake_answers_set(0, NULL);
}

static void test_content(void **state)
{
    read_batches(*state, NULL, test_fast() ? 5 : 20);
}

static void test_content_under_faults(void **state)
{
    const fake_answers_rules rules = {.eintr = 100, .eagain = 20, .cut = 300};
    read_batches(*state, &rules, test_fast() ? 5 : 20);
}

static void test_sizes_around_the_split(void **state)
{
    io_fixture *f = *state;
    static const uint64_t around[] = {1,     4095,  4096,  4097,   8191,   8192,  8193,
                                      65535, 65536, 65537, 131071, 131072, 131073};
    unsigned char *dst = malloc(131073);
    sl__io *io = io_make(f, 3, 4, 65536);
    for (unsigned i = 0; i < sizeof around / sizeof around[0]; i++) {
        for (unsigned k = 0; k < sizeof around / sizeof around[0]; k++) {
            sl__io_read r = io_read_of(f, around[k], around[i], dst, i);
            memset(dst, 0, (size_t)r.bytes);
            io_submit_ok(io, &r, 1);
            sl__io_done done = io_reap_one(io);
            assert_int_equal(done.status, SL_OK);
            assert_int_equal(done.bytes, r.bytes);
            assert_memory_equal(dst, f->content + r.offset, r.bytes);
        }
    }
    sl__io_destroy(io);
    free(dst);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void test_file_ends_early(void **state)
{
    io_fixture *f = *state;
    sl__io *io = io_make(f, 3, 8, 4096);
    unsigned char *dst = malloc(100000);
    sl__io_read r = io_read_of(f, IO_FILE_BYTES - 50000, 50001, dst, 1);
    io_submit_ok(io, &r, 1);
    sl__io_done done = io_reap_one(io);
    assert_int_equal(done.status, SL_EFORMAT);
    assert_int_equal(done.bytes, 50000);
    r = io_read_of(f, IO_FILE_BYTES + 5000u, 1, dst, 2);
    io_submit_ok(io, &r, 1);
    done = io_reap_one(io);
    assert_int_equal(done.status, SL_EFORMAT);
    assert_int_equal(done.bytes, 0);
    r = io_read_of(f, IO_FILE_BYTES - 50000, 50000, dst, 3);
    io_submit_ok(io, &r, 1);
    assert_int_equal(io_reap_one(io).status, SL_OK);
    assert_memory_equal(dst, f->content + IO_FILE_BYTES - 50000, 50000);
    free(dst);
    sl__io_destroy(io);
}

/* Neighbours that are made as one read: what lies before the end is there, the others are not. */
static void test_file_is_truncated_under_neighbours(void **state)
{
    io_fixture *f = *state;
    char path[320];
    unsigned char dst[16][1000];
    sl__io_read reads[16];
    snprintf(path, sizeof path, "%s/short", f->dir);
    test_write_file(path, f->content, 16000);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (unsigned cut = 0; cut <= 16000; cut += 1700) {
        assert_int_equal(ftruncate(fd, (off_t)(16000 - cut)), 0);
        sl__io *io = io_make(f, 2, 16, 0);
        for (unsigned i = 0; i < 16; i++) {
            reads[i] = io_read_of(f, i * 1000, 1000, dst[i], i);
            reads[i].fd = fd;
        }
        io_submit_ok(io, reads, 16);
        for (unsigned i = 0; i < 16; i++) {
            sl__io_done done = io_reap_one(io);
            uint64_t end = (done.tag + 1) * 1000;
            assert_int_equal(done.status, end <= 16000 - cut ? SL_OK : SL_EFORMAT);
            if (done.status != SL_OK) continue;
            assert_int_equal(done.bytes, 1000);
            assert_memory_equal(dst[done.tag], f->content + end - 1000, 1000);
        }
        sl__io_destroy(io);
    }
    close(fd);
}

static void test_bad_descriptors(void **state)
{
    io_fixture *f = *state;
    sl__io *io = io_make(f, 2, 8, 0);
    unsigned char byte;
    int folder = open(f->dir, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    int closed = open(f->path, O_RDONLY | O_CLOEXEC);
    close(closed);
    const int fds[] = {-1, closed, folder}, causes[] = {EBADF, EBADF, EISDIR};
    for (unsigned i = 0; i < 3; i++) {
        sl__io_read r = io_read_of(f, 0, 1, &byte, i);
        r.fd = fds[i];
        io_submit_ok(io, &r, 1);
        sl__io_done done = io_reap_one(io);
        assert_int_equal(done.status, SL_EIO);
        assert_int_equal(done.sys_errno, causes[i]);
    }
    close(folder);
    /* The number of a descriptor that was read from before may be another file now. */
    char path[320];
    snprintf(path, sizeof path, "%s/other", f->dir);
    test_write_file(path, "!", 1);
    int first = open(f->path, O_RDONLY | O_CLOEXEC);
    for (unsigned i = 0; i < 2; i++) {
        sl__io_read r = io_read_of(f, 0, 1, &byte, i);
        r.fd = first;
        io_submit_ok(io, &r, 1);
        assert_int_equal(io_reap_one(io).status, SL_OK);
        assert_int_equal(byte, i == 0 ? f->content[0] : '!');
        close(first);
        assert_int_equal(open(path, O_RDONLY | O_CLOEXEC), first);
    }
    close(first);
    sl__io_destroy(io);
}

/* A failed read completes once, with the rest of its pieces dropped, and others go on. */
static void test_eio(void **state)
{
    io_fixture *f = *state;
    unsigned char *dst = malloc(3 * 12 * 4096);
    for (unsigned call = 1; call <= 36; call++) {
        const fake_answers_rules rules = {.eio_at_call = call};
        fake_answers_set(call, &rules);
        sl__io *io = io_make(f, 1 + call % 4, 8, 4096);
        unsigned failed = 0;
        for (uint64_t i = 0; i < 3; i++) {
            sl__io_read r = io_read_of(f, i * 100000, 12 * 4096, dst + i * 12 * 4096, i);
            io_submit_ok(io, &r, 1);
        }
        for (uint64_t i = 0; i < 3; i++) {
            sl__io_done done = io_reap_one(io);
            if (done.status == SL_OK) {
                assert_memory_equal(dst + done.tag * 12 * 4096, f->content + done.tag * 100000,
                                    12 * 4096);
                continue;
            }
            failed++;
            assert_int_equal(done.status, SL_EIO);
            assert_int_equal(done.sys_errno, EIO);
            assert_true(done.bytes <= 11 * 4096);
        }
        sl__io_done done;
        assert_int_equal(failed, 1);
        assert_int_equal(sl__io_reap(io, &done, 1, true), 0);
        sl__io_destroy(io);
    }
    fake_answers_set(0, NULL);
    free(dst);
}

/* A merged read that fails is made again in its parts, so a passing error harms none of them. */
static void test_merged_reads_fail_apart(void **state)
{
    io_fixture *f = *state;
    unsigned char dst[12][100];
    sl__io_read reads[12];
    const fake_answers_rules rules = {.eio_at_call = 2};
    fake_answers_set(1, NULL);
    sl__io *io = io_make(f, 1, 16, 0);
    unsigned char first;
    sl__io_read r = io_read_of(f, 5, 1, &first, 99);
    fake_answers_set(1, &rules);
    fake_answers_close_gate();
    io_submit_ok(io, &r, 1);
    fake_answers_await_gate(1); /* the others now wait, and are taken together */
    for (unsigned i = 0; i < 12; i++)
        reads[i] = io_read_of(f, 1000 + i * 100, 100, dst[i], i);
    io_submit_ok(io, reads, 12);
    fake_answers_open_gate();
    for (unsigned i = 0; i < 13; i++) {
        sl__io_done done = io_reap_one(io);
        assert_int_equal(done.status, SL_OK);
        if (done.tag < 12) {
            assert_memory_equal(dst[done.tag], f->content + 1000 + done.tag * 100, 100);
        }
    }
    assert_int_equal(fake_answers_calls(), 1 + 1 + 12);
    sl__io_destroy(io);
    fake_answers_set(0, NULL);
}

static void test_eagain_is_bounded(void **state)
{
    io_fixture *f = *state;
    const fake_answers_rules rules = {.eagain_for_ever = true};
    fake_answers_set(1, &rules);
    sl__io *io = io_make(f, 1, 8, 0);
    unsigned char byte;
    sl__io_read r = io_read_of(f, 0, 1, &byte, 1);
    io_submit_ok(io, &r, 1);
    sl__io_done done = io_reap_one(io);
    assert_int_equal(done.status, SL_EIO);
    assert_int_equal(done.sys_errno, EAGAIN);
    assert_int_equal(fake_answers_calls(), 100);
    sl__io_destroy(io);
    fake_answers_set(0, NULL);
}

static void test_max_reads(void **state)
{
    io_fixture *f = *state;
    sl__io *io = io_make(f, 2, 4, 0);
    unsigned char dst[5][64];
    sl__io_read reads[5];
    sl__io_done done[5];
    sl_error err = {0};
    for (uint64_t i = 0; i < 5; i++)
        reads[i] = io_read_of(f, i * 64, 64, dst[i], i);
    assert_int_equal(sl__io_submit(io, reads, 5, &err), SL_EINVAL);
    assert_string_equal(err.message, "5 reads more than the 0 in flight: at most 4");
    assert_int_equal(sl__io_reap(io, done, 5, true), 0);
    io_submit_ok(io, reads, 3);
    io_submit_ok(io, reads + 3, 1);
    assert_int_equal(sl__io_submit(io, reads + 4, 1, NULL), SL_EINVAL);
    /* A read that is done but not reaped still counts. */
    uint32_t got = sl__io_reap(io, done, 1, true);
    io_submit_ok(io, reads + 4, got);
    assert_int_equal(sl__io_submit(io, reads, 1, NULL), SL_EINVAL);
    for (got = 0; got < 4;)
        got += sl__io_reap(io, done, 5, true);
    assert_int_equal(got, 4);
    for (unsigned i = 0; i < 5; i++)
        assert_memory_equal(dst[i], f->content + i * 64, 64);
    sl__io_destroy(io);
}

/* ---- order: depth 1, and the only place taken while the gate is closed ----------------------- */

typedef struct line {
    sl__io *io;
    unsigned char *dst;
} line;

/* Read 0 is in hand at the gate. */
static line line_open(const io_fixture *f, uint64_t bytes, sl__io_priority priority)
{
    line l = {.io = io_make(f, 1, 16, 4096), .dst = malloc(16 * 16384)};
    sl__io_read r = io_read_of(f, 0, bytes, l.dst, 0);
    r.priority = priority;
    fake_answers_set(1, NULL);
    fake_answers_close_gate();
    io_submit_ok(l.io, &r, 1);
    fake_answers_await_gate(1);
    return l;
}

/* Reads `tag` of 64 bytes, apart from all others. */
static void line_add(const line *l, const io_fixture *f, uint64_t tag, sl__io_priority priority)
{
    sl__io_read r = io_read_of(f, tag * 100000, 64, l->dst + tag * 16384, tag);
    r.priority = priority;
    io_submit_ok(l->io, &r, 1);
}

static void line_check(line *l, const uint64_t *tags, unsigned n)
{
    fake_answers_open_gate();
    for (unsigned i = 0; i < n; i++) {
        sl__io_done done = io_reap_one(l->io);
        assert_int_equal(done.status, SL_OK);
        assert_int_equal(done.tag, tags[i]);
    }
    sl__io_destroy(l->io);
    free(l->dst);
}

static void test_demand_overtakes_prefetch(void **state)
{
    io_fixture *f = *state;
    line l = line_open(f, 3 * 4096, SL_IO_PREFETCH); /* three pieces */
    line_add(&l, f, 1, SL_IO_PREFETCH);
    line_add(&l, f, 2, SL_IO_PREFETCH);
    line_add(&l, f, 3, SL_IO_DEMAND);
    line_add(&l, f, 4, SL_IO_DEMAND);
    line_check(&l, (const uint64_t[]){3, 4, 0, 1, 2}, 5);
}

static void test_promote(void **state)
{
    io_fixture *f = *state;
    line l = line_open(f, 100, SL_IO_DEMAND);
    for (uint64_t tag = 1; tag <= 4; tag++)
        line_add(&l, f, tag, SL_IO_PREFETCH);
    line_add(&l, f, 5, SL_IO_DEMAND);
    assert_int_equal(sl__io_promote(l.io, 3), 1);
    assert_int_equal(sl__io_promote(l.io, 3), 0); /* is demand by now */
    assert_int_equal(sl__io_promote(l.io, 5), 0);
    assert_int_equal(sl__io_promote(l.io, 99), 0);
    line_add(&l, f, 6, SL_IO_DEMAND);
    line_check(&l, (const uint64_t[]){0, 5, 3, 6, 1, 2, 4}, 7);

    l = line_open(f, 3 * 4096, SL_IO_PREFETCH); /* one that has begun goes on as demand */
    line_add(&l, f, 1, SL_IO_PREFETCH);
    line_add(&l, f, 2, SL_IO_DEMAND);
    assert_int_equal(sl__io_promote(l.io, 0), 1);
    line_add(&l, f, 3, SL_IO_DEMAND);
    line_check(&l, (const uint64_t[]){2, 0, 3, 1}, 4);

    l = line_open(f, 4096, SL_IO_PREFETCH); /* all of it is in hand: still under way */
    assert_int_equal(sl__io_promote(l.io, 0), 1);
    line_check(&l, (const uint64_t[]){0}, 1);
}

static void test_cancel(void **state)
{
    io_fixture *f = *state;
    line l = line_open(f, 2 * 4096, SL_IO_DEMAND);
    unsigned char dst[4][64];
    sl__io_read reads[4];
    memset(dst, 0x5a, sizeof dst);
    for (uint64_t i = 0; i < 4; i++) {
        reads[i] = io_read_of(f, 5000 + i * 64, 64, dst[i], i == 3 ? 8 : 7);
        reads[i].priority = i == 1 ? SL_IO_PREFETCH : SL_IO_DEMAND;
    }
    io_submit_ok(l.io, reads, 4);
    assert_int_equal(sl__io_cancel(l.io, 0), 0); /* its first piece has begun */
    assert_int_equal(sl__io_cancel(l.io, 99), 0);
    assert_int_equal(sl__io_cancel(l.io, 7), 3);
    assert_int_equal(sl__io_cancel(l.io, 7), 0);
    assert_int_equal(sl__io_promote(l.io, 7), 0);
    for (unsigned i = 0; i < 3; i++) { /* at once, though the only place is taken */
        sl__io_done done = io_reap_one(l.io);
        assert_int_equal(done.tag, 7);
        assert_int_equal(done.status, SL_ECANCELLED);
        assert_int_equal(done.bytes, 0);
    }
    line_check(&l, (const uint64_t[]){0, 8}, 2);
    assert_memory_equal(dst[3], f->content + 5000 + 3 * 64, 64);
    for (unsigned i = 0; i < 3 * 64; i++)
        assert_int_equal(dst[i / 64][i % 64], 0x5a);
}

static void test_destroy_with_reads_in_flight(void **state)
{
    io_fixture *f = *state;
    const fake_answers_rules rules = {.cut = 500, .eagain = 100};
    for (unsigned round = 0; round < 10; round++) {
        fake_answers_set(round, &rules);
        sl__io *io = io_make(f, 3, 64, 4096);
        unsigned char *dst = malloc(64 * 10000);
        for (uint64_t i = 0; i < 64; i++) {
            sl__io_read r = io_read_of(f, i * 7, 10000, dst + i * 10000, i);
            io_submit_ok(io, &r, 1);
        }
        sl__io_done done[3];
        if (round % 2) sl__io_reap(io, done, 3, true);
        sl__io_destroy(io);
        free(dst); /* a late write is found by the address sanitizer */
    }
    fake_answers_set(0, NULL);
}

/* ---- several callers ------------------------------------------------------------------------- */

#define CLIENTS      4u
#define CLIENT_READS 400u

typedef struct client {
    const io_fixture *f;
    sl__io *io;
    unsigned id;
    unsigned reaped, cancelled;
    unsigned char dst[CLIENT_READS][1500];
} client;

static void count(client *c, const sl__io_done *done, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (done[i].status != SL_OK && done[i].status != SL_ECANCELLED) abort();
        c->cancelled += done[i].status == SL_ECANCELLED;
    }
    c->reaped += n;
}

/* Completions go to whoever reaps; nobody may be left waiting when the last one is taken. */
static void *client_main(void *arg)
{
    client *c = arg;
    test_rng rng = {c->id};
    sl__io_done done[4];
    for (unsigned i = 0; i < CLIENT_READS; i++) {
        uint64_t bytes = 1 + test_rng_below(&rng, 1500), tag = c->id * CLIENT_READS + i;
        sl__io_read r =
            io_read_of(c->f, test_rng_below(&rng, IO_FILE_BYTES - 1500), bytes, c->dst[i], tag);
        r.priority = i % 3 ? SL_IO_PREFETCH : SL_IO_DEMAND;
        if (sl__io_submit(c->io, &r, 1, NULL) != SL_OK) abort();
        if (i % 5 == 0) sl__io_promote(c->io, tag - test_rng_below(&rng, 3));
        if (i % 7 == 0) sl__io_cancel(c->io, tag - test_rng_below(&rng, 3));
        if (i % 3 == 0) count(c, done, sl__io_reap(c->io, done, 4, i % 2));
    }
    for (uint32_t n = 1; n > 0;) {
        n = sl__io_reap(c->io, done, 4, true);
        count(c, done, n);
    }
    return NULL;
}

static void test_several_callers(void **state)
{
    io_fixture *f = *state;
    sl__io *io = io_make(f, 4, CLIENTS * CLIENT_READS, 512);
    pthread_t threads[CLIENTS];
    client *clients = calloc(CLIENTS, sizeof *clients);
    unsigned reaped = 0, cancelled = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        clients[i].f = f;
        clients[i].io = io;
        clients[i].id = i;
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (unsigned i = 0; i < CLIENTS; i++) {
        pthread_join(threads[i], NULL);
        reaped += clients[i].reaped;
        cancelled += clients[i].cancelled;
    }
    assert_int_equal(reaped, CLIENTS * CLIENT_READS);
    assert_true(cancelled < reaped);
    free(clients);
    sl__io_destroy(io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_footprint),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_nothing_in_flight),
        cmocka_unit_test(test_no_bytes),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_content_under_faults),
        cmocka_unit_test(test_sizes_around_the_split),
        cmocka_unit_test(test_file_ends_early),
        cmocka_unit_test(test_file_is_truncated_under_neighbours),
        cmocka_unit_test(test_bad_descriptors),
        cmocka_unit_test(test_eio),
        cmocka_unit_test(test_merged_reads_fail_apart),
        cmocka_unit_test(test_eagain_is_bounded),
        cmocka_unit_test(test_max_reads),
        cmocka_unit_test(test_demand_overtakes_prefetch),
        cmocka_unit_test(test_promote),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_destroy_with_reads_in_flight),
        cmocka_unit_test(test_several_callers),
    };
    int bad = cmocka_run_group_tests_name("pread", tests, io_setup_pread, io_teardown);
    if (io_test_uring()) {
        bad += cmocka_run_group_tests_name("uring", tests, io_setup_uring, io_teardown);
    }
    return bad;
}
