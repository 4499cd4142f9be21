/* The pread engine: content under faults, priorities, cancelling, splitting, bounds. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io/io.h"
#include "io_shim.h"
#include "test_env.h"

#define FILE_BYTES 3000001u

typedef struct fixture {
    char dir[256];
    unsigned char *content;
    int fd;
} fixture;

static int setup(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    char path[300];
    test_rng rng = {7};
    test_temp_dir(f->dir, sizeof f->dir);
    f->content = malloc(FILE_BYTES);
    for (unsigned i = 0; i < FILE_BYTES; i++)
        f->content[i] = (unsigned char)test_rng_next(&rng);
    snprintf(path, sizeof path, "%s/data", f->dir);
    test_write_file(path, f->content, FILE_BYTES);
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(f->fd >= 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    fixture *f = *state;
    close(f->fd);
    free(f->content);
    test_remove_tree(f->dir);
    free(f);
    return 0;
}

static sl__io *make(io_shim *shim, uint32_t threads, uint32_t max_reads, uint64_t split)
{
    sl__io *io = NULL;
    sl_error err = {0};
    sl__io_options opt = {.threads = threads,
                          .max_reads = max_reads,
                          .split_bytes = split,
                          .pread_fn = shim ? io_shim_pread : NULL,
                          .pread_ctx = shim};
    assert_int_equal(sl__io_create_pread(&io, &opt, &err), SL_OK);
    assert_non_null(io);
    return io;
}

static sl__io_read read_of(const fixture *f, uint64_t offset, uint64_t bytes, void *dst,
                           uint64_t tag)
{
    return (sl__io_read){.fd = f->fd, .offset = offset, .bytes = bytes, .dst = dst, .tag = tag};
}

static sl__io_done reap_one(sl__io *io)
{
    sl__io_done done = {0};
    assert_int_equal(sl__io_reap(io, &done, 1, true), 1);
    return done;
}

static void submit_ok(sl__io *io, const sl__io_read *reads, uint32_t n)
{
    sl_error err = {0};
    assert_int_equal(sl__io_submit(io, reads, n, &err), SL_OK);
}

/* ---- content --------------------------------------------------------------------------------- */

static void test_defaults(void **state)
{
    fixture *f = *state;
    sl__io *io = NULL;
    assert_int_equal(sl__io_create_pread(&io, NULL, NULL), SL_OK);
    assert_string_equal(io->ops->name, "pread");
    assert_int_equal(io->max_reads, 4096);
    sl__io_options zero = {0};
    assert_true(sl__io_footprint(NULL) > 0);
    assert_int_equal(sl__io_footprint(NULL), sl__io_footprint(&zero));
    zero.max_reads = 4097;
    assert_true(sl__io_footprint(&zero) > sl__io_footprint(NULL));

    unsigned char *dst = malloc(FILE_BYTES);
    sl__io_read r = read_of(f, 0, FILE_BYTES, dst, 42);
    submit_ok(io, &r, 1);
    sl__io_done done = reap_one(io);
    assert_int_equal(done.tag, 42);
    assert_int_equal(done.status, SL_OK);
    assert_int_equal(done.bytes, FILE_BYTES);
    assert_memory_equal(dst, f->content, FILE_BYTES);
    assert_int_equal(sl__io_bytes(io), FILE_BYTES);
    free(dst);
    sl__io_destroy(io);
    sl__io_destroy(NULL);
}

static void test_nothing_in_flight(void **state)
{
    fixture *f = *state;
    sl__io *io = make(NULL, 2, 4, 0);
    sl__io_done done;
    unsigned char byte;
    assert_int_equal(sl__io_reap(io, &done, 1, true), 0);
    assert_int_equal(sl__io_reap(io, &done, 1, false), 0);
    submit_ok(io, NULL, 0);
    assert_int_equal(sl__io_reap(io, &done, 1, true), 0);
    sl__io_read r = read_of(f, 0, 1, &byte, 0);
    submit_ok(io, &r, 1);
    assert_int_equal(sl__io_reap(io, &done, 0, true), 0);
    reap_one(io);
    assert_int_equal(sl__io_reap(io, &done, 1, true), 0);
    assert_int_equal(sl__io_cancel(io, 0), 0);
    sl__io_destroy(io);
}

/* Completes at once: no thread is needed for it, even where the descriptor is no good. */
static void test_no_bytes(void **state)
{
    fixture *f = *state;
    io_shim shim;
    io_shim_init(&shim, 1, NULL);
    sl__io *io = make(&shim, 1, 4, 0);
    sl__io_read r = read_of(f, 5, 0, NULL, 9);
    r.fd = -1;
    submit_ok(io, &r, 1);
    sl__io_done done = {.status = SL_EIO};
    assert_int_equal(sl__io_reap(io, &done, 1, false), 1);
    assert_int_equal(done.tag, 9);
    assert_int_equal(done.status, SL_OK);
    assert_int_equal(done.bytes, 0);
    sl__io_destroy(io);
    assert_int_equal(io_shim_calls(&shim), 0);
    io_shim_free(&shim);
}

#define BATCH 24u

typedef struct batch {
    sl__io_read reads[BATCH];
    unsigned char *dst[BATCH];
    bool seen[BATCH];
} batch;

static void batch_make(batch *b, const fixture *f, test_rng *rng, unsigned largest)
{
    memset(b, 0, sizeof *b);
    for (unsigned i = 0; i < BATCH; i++) {
        unsigned bytes = test_rng_below(rng, largest + 1);
        unsigned offset = test_rng_below(rng, FILE_BYTES - bytes + 1);
        b->dst[i] = malloc(bytes + 1);
        b->dst[i][bytes] = 0xa5; /* a canary behind the read */
        b->reads[i] = read_of(f, offset, bytes, b->dst[i], i);
        b->reads[i].priority = test_rng_below(rng, 2) ? SL_IO_DEMAND : SL_IO_PREFETCH;
    }
}

static uint64_t batch_check(batch *b, const fixture *f, sl__io *io, test_rng *rng)
{
    uint64_t bytes = 0;
    for (unsigned got = 0; got < BATCH;) {
        sl__io_done done[BATCH];
        uint32_t n = sl__io_reap(io, done, 1 + test_rng_below(rng, BATCH), true);
        assert_true(n > 0);
        for (uint32_t i = 0; i < n; i++) {
            const sl__io_read *r = &b->reads[done[i].tag];
            assert_false(b->seen[done[i].tag]);
            b->seen[done[i].tag] = true;
            assert_int_equal(done[i].status, SL_OK);
            assert_int_equal(done[i].bytes, r->bytes);
            assert_memory_equal(r->dst, f->content + r->offset, r->bytes);
            assert_int_equal(b->dst[done[i].tag][r->bytes], 0xa5);
            bytes += r->bytes;
        }
        got += n;
    }
    for (unsigned i = 0; i < BATCH; i++)
        free(b->dst[i]);
    return bytes;
}

static void test_content_under_faults(void **state)
{
    fixture *f = *state;
    static const uint64_t splits[] = {1, 777, 4096, 65536, 0};
    static const unsigned largest[] = {50, 20000, 60000, 300000, 2500000};
    io_shim_rules rules = {.eintr = 100, .eagain = 20, .cut = 300, .delay = 20, .delay_us = 200};
    for (unsigned round = 0; round < 10; round++) {
        test_rng rng = {round};
        io_shim shim;
        io_shim_init(&shim, round, &rules);
        unsigned kind = round % 5;
        sl__io *io = make(&shim, 1 + test_rng_below(&rng, 6), BATCH, splits[kind]);
        uint64_t bytes = 0;
        for (unsigned i = 0; i < 3; i++) {
            batch b;
            batch_make(&b, f, &rng, largest[kind]);
            submit_ok(io, b.reads, BATCH);
            bytes += batch_check(&b, f, io, &rng);
            assert_int_equal(sl__io_bytes(io), bytes);
        }
        sl__io_destroy(io);
        io_shim_free(&shim);
    }
}

/* ---- failures -------------------------------------------------------------------------------- */

static void test_eio(void **state)
{
    fixture *f = *state;
    io_shim shim;
    io_shim_rules rules = {.eio_at_call = 2};
    io_shim_init(&shim, 1, &rules);
    sl__io *io = make(&shim, 1, 8, 0);
    unsigned char dst[3][100];
    for (uint64_t i = 0; i < 3; i++) {
        sl__io_read r = read_of(f, i * 100, 100, dst[i], i);
        submit_ok(io, &r, 1);
    }
    for (uint64_t i = 0; i < 3; i++) {
        sl__io_done done = reap_one(io);
        assert_int_equal(done.tag, i);
        assert_int_equal(done.status, i == 1 ? SL_EIO : SL_OK);
        assert_int_equal(done.sys_errno, i == 1 ? EIO : 0);
        if (i != 1) assert_memory_equal(dst[i], f->content + i * 100, 100);
    }
    sl__io_read again = read_of(f, 100, 100, dst[1], 1);
    submit_ok(io, &again, 1);
    assert_int_equal(reap_one(io).status, SL_OK);
    assert_memory_equal(dst[1], f->content + 100, 100);
    again.fd = -1;
    submit_ok(io, &again, 1);
    sl__io_done done = reap_one(io);
    assert_int_equal(done.status, SL_EIO);
    assert_int_equal(done.sys_errno, EBADF);
    sl__io_destroy(io);
    io_shim_free(&shim);
}

static void test_file_ends_early(void **state)
{
    fixture *f = *state;
    sl__io *io = make(NULL, 3, 8, 4096);
    unsigned char *dst = malloc(100000);
    sl__io_read r = read_of(f, FILE_BYTES - 50000, 50001, dst, 1);
    submit_ok(io, &r, 1);
    sl__io_done done = reap_one(io);
    assert_int_equal(done.status, SL_EFORMAT);
    assert_int_equal(done.bytes, 50000);
    r = read_of(f, FILE_BYTES + 5000u, 1, dst, 2);
    submit_ok(io, &r, 1);
    done = reap_one(io);
    assert_int_equal(done.status, SL_EFORMAT);
    assert_int_equal(done.bytes, 0);
    r = read_of(f, FILE_BYTES - 50000, 50000, dst, 3);
    submit_ok(io, &r, 1);
    assert_int_equal(reap_one(io).status, SL_OK);
    assert_memory_equal(dst, f->content + FILE_BYTES - 50000, 50000);
    free(dst);
    sl__io_destroy(io);
}

static void test_eagain_is_bounded(void **state)
{
    fixture *f = *state;
    io_shim shim;
    io_shim_rules rules = {.eagain_for_ever = true};
    io_shim_init(&shim, 1, &rules);
    sl__io *io = make(&shim, 1, 8, 0);
    unsigned char byte;
    sl__io_read r = read_of(f, 0, 1, &byte, 1);
    submit_ok(io, &r, 1);
    sl__io_done done = reap_one(io);
    assert_int_equal(done.status, SL_EIO);
    assert_int_equal(done.sys_errno, EAGAIN);
    assert_int_equal(io_shim_calls(&shim), 100);
    sl__io_destroy(io);
    io_shim_free(&shim);
}

/* Two pieces fail in two ways; what is reported does not depend on which comes back first. */
static void test_lowest_failure_is_reported(void **state)
{
    fixture *f = *state;
    unsigned char *dst = malloc(16 * 4096);
    for (unsigned round = 0; round < 60; round++) {
        bool end_first = round % 2; /* else a bad block comes first, and the end after it */
        io_shim_rules rules = {.delay = 500, .delay_us = 300};
        rules.end_at = end_first ? 3 * 4096 : 7 * 4096;
        rules.bad_from = 5 * 4096 + 10;
        rules.bad_to = rules.bad_from + 1;
        io_shim shim;
        io_shim_init(&shim, round, &rules);
        sl__io *io = make(&shim, 4, 8, 4096);
        sl__io_read r = read_of(f, 0, 16 * 4096, dst, round);
        submit_ok(io, &r, 1);
        sl__io_done done = reap_one(io);
        assert_int_equal(done.status, end_first ? SL_EFORMAT : SL_EIO);
        sl__io_destroy(io);
        io_shim_free(&shim);
    }
    free(dst);
}

/* A failed read completes once, and only when no thread can write to dst any more. */
static void test_failed_read_leaves_dst_alone(void **state)
{
    fixture *f = *state;
    for (unsigned round = 0; round < 20; round++) {
        io_shim_rules rules = {.eio_at_call = 1 + round % 5, .delay = 700, .delay_us = 1500};
        io_shim shim;
        io_shim_init(&shim, round, &rules);
        sl__io *io = make(&shim, 4, 8, 4096);
        unsigned char *dst = malloc(12 * 4096);
        sl__io_read r = read_of(f, 0, 12 * 4096, dst, 1);
        submit_ok(io, &r, 1);
        assert_int_equal(reap_one(io).status, SL_EIO);
        pthread_mutex_lock(&shim.lock);
        assert_int_equal(shim.inside, 0);
        pthread_mutex_unlock(&shim.lock);
        free(dst); /* a late write is found by the address sanitizer */
        sl__io_done done;
        assert_int_equal(sl__io_reap(io, &done, 1, true), 0);
        sl__io_destroy(io);
        io_shim_free(&shim);
    }
}

/* What no thread has begun when a piece fails is not read any more. */
static void test_failed_read_drops_its_rest(void **state)
{
    fixture *f = *state;
    io_shim_rules rules = {.eio_at_call = 3};
    io_shim shim;
    io_shim_init(&shim, 1, &rules);
    sl__io *io = make(&shim, 1, 8, 4096);
    unsigned char *dst = malloc(12 * 4096);
    sl__io_read r = read_of(f, 0, 12 * 4096, dst, 1);
    submit_ok(io, &r, 1);
    sl__io_done done = reap_one(io);
    assert_int_equal(done.status, SL_EIO);
    assert_int_equal(done.bytes, 2 * 4096);
    assert_int_equal(io_shim_calls(&shim), 3);
    free(dst);
    sl__io_destroy(io);
    io_shim_free(&shim);
}

static void test_bad_arguments(void **state)
{
    fixture *f = *state;
    sl__io *io = make(NULL, 1, 8, 0);
    unsigned char byte;
    sl_error err = {0};
    sl__io_done done;
    sl__io_read r[2] = {read_of(f, 0, 1, &byte, 1), read_of(f, (uint64_t)INT64_MAX, 1, &byte, 2)};
    assert_int_equal(sl__io_submit(io, r, 2, &err), SL_EINVAL);
    assert_string_equal(err.message,
                        "a read of 1 bytes at offset 9223372036854775807 is out of range");
    r[1] = read_of(f, UINT64_MAX, 2, &byte, 2);
    assert_int_equal(sl__io_submit(io, r, 2, NULL), SL_EINVAL);
    assert_int_equal(sl__io_reap(io, &done, 1, true), 0); /* all or none */
    sl__io_destroy(io);

    sl__io_options opt = {.threads = 100000};
    sl_error_clear(&err);
    assert_int_equal(sl__io_create_pread(&io, &opt, &err), SL_EINVAL);
    assert_null(io);
    assert_string_equal(err.message, "100000 I/O threads, 4096 reads in flight: too many");
}

static void test_max_reads(void **state)
{
    fixture *f = *state;
    sl__io *io = make(NULL, 2, 4, 0);
    unsigned char dst[5][64];
    sl__io_read reads[5];
    sl__io_done done[5];
    sl_error err = {0};
    for (uint64_t i = 0; i < 5; i++)
        reads[i] = read_of(f, i * 64, 64, dst[i], i);
    assert_int_equal(sl__io_submit(io, reads, 5, &err), SL_EINVAL);
    assert_string_equal(err.message, "5 reads more than the 0 in flight: at most 4");
    assert_int_equal(sl__io_reap(io, done, 5, true), 0);
    submit_ok(io, reads, 3);
    submit_ok(io, reads + 3, 1);
    assert_int_equal(sl__io_submit(io, reads + 4, 1, NULL), SL_EINVAL);
    /* A read that is done but not reaped still counts. */
    uint32_t got = sl__io_reap(io, done, 1, true);
    submit_ok(io, reads + 4, got);
    assert_int_equal(sl__io_submit(io, reads, 1, NULL), SL_EINVAL);
    for (got = 0; got < 4;)
        got += sl__io_reap(io, done, 5, true);
    assert_int_equal(got, 4);
    for (unsigned i = 0; i < 5; i++)
        assert_memory_equal(dst[i], f->content + i * 64, 64);
    sl__io_destroy(io);
}

/* ---- order ----------------------------------------------------------------------------------- */

static void test_demand_overtakes_prefetch(void **state)
{
    fixture *f = *state;
    io_shim shim;
    io_shim_init(&shim, 1, NULL);
    io_shim_close_gate(&shim);
    sl__io *io = make(&shim, 1, 16, 4096);
    unsigned char *dst = malloc(8 * 4096);
    sl__io_read reads[5];
    for (uint64_t i = 0; i < 5; i++) {
        /* 0: prefetch of three pieces, begun before the others come */
        reads[i] =
            read_of(f, i * 100000, i == 0 ? 3 * 4096 : 64, dst + (i + 3) * 4096 * (i > 0), i);
        reads[i].priority = i < 3 ? SL_IO_PREFETCH : SL_IO_DEMAND;
    }
    submit_ok(io, reads, 1);
    io_shim_await_gate(&shim, 1);
    submit_ok(io, reads + 1, 4);
    io_shim_open_gate(&shim);
    static const uint64_t order[] = {3, 4, 0, 1, 2};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(reap_one(io).tag, order[i]);
    static const uint64_t offsets[] = {0, 300000, 400000, 4096, 8192, 100000, 200000};
    sl__io_destroy(io);
    assert_int_equal(shim.calls, 7);
    for (unsigned i = 0; i < 7; i++)
        assert_int_equal(shim.log_offset[i], offsets[i]);
    free(dst);
    io_shim_free(&shim);
}

static void test_cancel(void **state)
{
    fixture *f = *state;
    io_shim shim;
    io_shim_init(&shim, 1, NULL);
    io_shim_close_gate(&shim);
    sl__io *io = make(&shim, 1, 16, 4096);
    unsigned char begun[2 * 4096], dst[4][64];
    memset(dst, 0x5a, sizeof dst);
    sl__io_read first = read_of(f, 0, sizeof begun, begun, 1);
    submit_ok(io, &first, 1);
    io_shim_await_gate(&shim, 1);
    sl__io_read reads[4];
    for (uint64_t i = 0; i < 4; i++) {
        reads[i] = read_of(f, 5000 + i * 64, 64, dst[i], i == 3 ? 8 : 7);
        reads[i].priority = i == 1 ? SL_IO_PREFETCH : SL_IO_DEMAND;
    }
    submit_ok(io, reads, 4);
    assert_int_equal(sl__io_cancel(io, 1), 0); /* its first piece has begun */
    assert_int_equal(sl__io_cancel(io, 99), 0);
    assert_int_equal(sl__io_cancel(io, 7), 3);
    assert_int_equal(sl__io_cancel(io, 7), 0);
    for (unsigned i = 0; i < 3; i++) { /* at once, though the only thread is busy */
        sl__io_done done = reap_one(io);
        assert_int_equal(done.tag, 7);
        assert_int_equal(done.status, SL_ECANCELLED);
        assert_int_equal(done.bytes, 0);
    }
    io_shim_open_gate(&shim);
    for (unsigned i = 0; i < 2; i++) {
        sl__io_done done = reap_one(io);
        assert_int_equal(done.status, SL_OK);
        assert_int_equal(done.tag, i == 0 ? 1 : 8);
    }
    assert_memory_equal(begun, f->content, sizeof begun);
    assert_memory_equal(dst[3], f->content + 5000 + 3 * 64, 64);
    for (unsigned i = 0; i < 3 * 64; i++)
        assert_int_equal(dst[i / 64][i % 64], 0x5a);
    sl__io_destroy(io);
    io_shim_free(&shim);
}

static void test_one_read_uses_all_threads(void **state)
{
    fixture *f = *state;
    io_shim shim;
    io_shim_init(&shim, 1, NULL);
    io_shim_close_gate(&shim);
    sl__io *io = make(&shim, 4, 16, 64 * 1024);
    uint64_t bytes = 9 * 64 * 1024 + 1;
    unsigned char *dst = malloc(bytes);
    sl__io_read r = read_of(f, 11, bytes, dst, 1);
    submit_ok(io, &r, 1);
    io_shim_await_gate(&shim, 4);
    io_shim_open_gate(&shim);
    sl__io_done done = reap_one(io);
    assert_int_equal(done.status, SL_OK);
    assert_memory_equal(dst, f->content + 11, bytes);
    sl__io_destroy(io);
    /* Ten pieces, none over the bound, none a small rest. */
    assert_int_equal(shim.calls, 10);
    for (unsigned i = 0; i < shim.calls; i++) {
        assert_true(shim.log_bytes[i] <= 64 * 1024);
        assert_true(shim.log_bytes[i] > 32 * 1024);
    }
    free(dst);
    io_shim_free(&shim);
}

static void test_destroy_with_reads_in_flight(void **state)
{
    fixture *f = *state;
    for (unsigned round = 0; round < 10; round++) {
        io_shim_rules rules = {.delay = 500, .delay_us = 500, .cut = 500};
        io_shim shim;
        io_shim_init(&shim, round, &rules);
        sl__io *io = make(&shim, 3, 64, 4096);
        unsigned char *dst = malloc(64 * 10000);
        for (uint64_t i = 0; i < 64; i++) {
            sl__io_read r = read_of(f, i * 7, 10000, dst + i * 10000, i);
            submit_ok(io, &r, 1);
        }
        sl__io_done done[3];
        if (round % 2) sl__io_reap(io, done, 3, true);
        sl__io_destroy(io);
        free(dst); /* a late write is found by the address sanitizer */
        assert_int_equal(shim.inside, 0);
        io_shim_free(&shim);
    }
}

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct client {
    const fixture *f;
    sl__io *io;
    pthread_mutex_t *lock;
    unsigned *reaped; /* guarded by lock; over all clients */
    unsigned char dst[200][256];
    uint64_t seed;
} client;

/* Completions go to whoever reaps; nobody may be left waiting when the last one is taken. */
static void *client_main(void *arg)
{
    client *c = arg;
    test_rng rng = {c->seed};
    unsigned mine = 0;
    for (unsigned i = 0; i < 200; i++) {
        sl__io_read r = read_of(c->f, test_rng_below(&rng, FILE_BYTES - 256), 256, c->dst[i], i);
        if (sl__io_submit(c->io, &r, 1, NULL) != SL_OK) abort();
        sl__io_done done[4];
        if (i % 3 == 0) mine += sl__io_reap(c->io, done, 4, i % 2);
    }
    for (;;) {
        sl__io_done done[4];
        uint32_t n = sl__io_reap(c->io, done, 4, true);
        if (n == 0) break;
        mine += n;
    }
    pthread_mutex_lock(c->lock);
    *c->reaped += mine;
    pthread_mutex_unlock(c->lock);
    return NULL;
}

static void test_several_callers(void **state)
{
    fixture *f = *state;
    io_shim shim;
    io_shim_rules rules = {.delay = 50, .delay_us = 100};
    io_shim_init(&shim, 1, &rules);
    sl__io *io = make(&shim, 3, 1024, 128);
    pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    unsigned reaped = 0;
    pthread_t threads[4];
    client *clients = calloc(4, sizeof *clients);
    for (unsigned i = 0; i < 4; i++) {
        clients[i].f = f;
        clients[i].io = io;
        clients[i].lock = &lock;
        clients[i].reaped = &reaped;
        clients[i].seed = i;
        assert_int_equal(pthread_create(&threads[i], NULL, client_main, &clients[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(reaped, 800);
    assert_int_equal(sl__io_bytes(io), 800 * 256);
    free(clients);
    sl__io_destroy(io);
    io_shim_free(&shim);
}

static ssize_t pread_with_signals_blocked(void *ctx, int fd, void *dst, size_t bytes, off_t offset)
{
    sigset_t now;
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    if (sigismember(&now, SIGINT) != 1 || sigismember(&now, SIGUSR1) != 1 ||
        sigismember(&now, SIGALRM) != 1) {
        errno = EPERM;
        return -1;
    }
    /* The small stack still has room for what a pread_fn may need. */
    volatile unsigned char page[32768];
    page[0] = 1;
    page[sizeof page - 1] = page[0];
    (void)ctx;
    return pread(fd, dst, bytes, offset);
}

static void test_signals_are_blocked(void **state)
{
    fixture *f = *state;
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    sl__io *io = NULL;
    sl__io_options opt = {.threads = 2, .pread_fn = pread_with_signals_blocked};
    assert_int_equal(sl__io_create_pread(&io, &opt, NULL), SL_OK);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_int_equal(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
    assert_int_equal(sigismember(&after, SIGUSR1), 0);
    unsigned char byte;
    sl__io_read r = read_of(f, 0, 1, &byte, 1);
    submit_ok(io, &r, 1);
    assert_int_equal(reap_one(io).status, SL_OK);
    sl__io_destroy(io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_nothing_in_flight),
        cmocka_unit_test(test_no_bytes),
        cmocka_unit_test(test_content_under_faults),
        cmocka_unit_test(test_eio),
        cmocka_unit_test(test_file_ends_early),
        cmocka_unit_test(test_eagain_is_bounded),
        cmocka_unit_test(test_lowest_failure_is_reported),
        cmocka_unit_test(test_failed_read_leaves_dst_alone),
        cmocka_unit_test(test_failed_read_drops_its_rest),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_max_reads),
        cmocka_unit_test(test_demand_overtakes_prefetch),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_one_read_uses_all_threads),
        cmocka_unit_test(test_destroy_with_reads_in_flight),
        cmocka_unit_test(test_several_callers),
        cmocka_unit_test(test_signals_are_blocked),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
