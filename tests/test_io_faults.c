/* The pread engine over a pread that misbehaves: what is asked for, in which order, and how each
 * failure ends. test_io.c has what holds for both engines. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "io_fixture.h"
#include "io_shim.h"

static sl__io *make(io_shim *shim, uint32_t threads, uint32_t max_reads, uint64_t split)
{
    const sl__io_options opt = {.depth = threads,
                                .max_reads = max_reads,
                                .split_bytes = split,
                                .pread_fn = io_shim_pread,
                                .pread_ctx = shim};
    return io_make_with(SL_IO_KIND_PREAD, &opt);
}

static void test_content_under_faults(void **state)
{
    io_fixture *f = *state;
    static const uint64_t splits[] = {1, 777, 4096, 65536, 0};
    static const unsigned largest[] = {50, 20000, 60000, 300000, 2500000};
    io_shim_rules rules = {.eintr = 100, .eagain = 20, .cut = 300, .delay = 20, .delay_us = 200};
    for (unsigned round = 0; round < 10; round++) {
        test_rng rng = {round};
        io_shim shim;
        io_shim_init(&shim, round, &rules);
        unsigned kind = round % 5;
        sl__io *io = make(&shim, 1 + test_rng_below(&rng, 6), IO_BATCH, splits[kind]);
        uint64_t bytes = 0;
        for (unsigned i = 0; i < 3; i++) {
            io_batch b;
            const io_batch_rules made = {.largest = largest[kind], .chains = i % 2};
            io_batch_make(&b, f, &rng, &made);
            io_submit_ok(io, b.reads, IO_BATCH);
            bytes += io_batch_check(&b, f, io, &rng);
            assert_int_equal(io->bytes_read, bytes);
        }
        sl__io_destroy(io);
        io_shim_free(&shim);
    }
}

static void test_eio(void **state)
{
    io_fixture *f = *state;
    io_shim shim;
    io_shim_rules rules = {.eio_at_call = 2};
    io_shim_init(&shim, 1, &rules);
    sl__io *io = make(&shim, 1, 8, 0);
    unsigned char dst[3][100];
    for (uint64_t i = 0; i < 3; i++) { /* apart, so that each is a call */
        sl__io_read r = io_read_of(f, i * 300, 100, dst[i], i);
        io_submit_ok(io, &r, 1);
    }
    for (uint64_t i = 0; i < 3; i++) {
        sl__io_done done = io_reap_one(io);
        assert_int_equal(done.tag, i);
        assert_int_equal(done.status, i == 1 ? SL_EIO : SL_OK);
        assert_int_equal(done.sys_errno, i == 1 ? EIO : 0);
        if (i != 1) assert_memory_equal(dst[i], f->content + i * 300, 100);
    }
    sl__io_read again = io_read_of(f, 300, 100, dst[1], 1);
    io_submit_ok(io, &again, 1);
    assert_int_equal(io_reap_one(io).status, SL_OK);
    assert_memory_equal(dst[1], f->content + 300, 100);
    again.fd = -1;
    io_submit_ok(io, &again, 1);
    sl__io_done done = io_reap_one(io);
    assert_int_equal(done.status, SL_EIO);
    assert_int_equal(done.sys_errno, EBADF);
    sl__io_destroy(io);
    io_shim_free(&shim);
}

static void test_eagain_is_bounded(void **state)
{
    io_fixture *f = *state;
    io_shim shim;
    io_shim_rules rules = {.eagain_for_ever = true};
    io_shim_init(&shim, 1, &rules);
    sl__io *io = make(&shim, 1, 8, 0);
    unsigned char byte;
    sl__io_read r = io_read_of(f, 0, 1, &byte, 1);
    io_submit_ok(io, &r, 1);
    sl__io_done done = io_reap_one(io);
    assert_int_equal(done.status, SL_EIO);
    assert_int_equal(done.sys_errno, EAGAIN);
    assert_int_equal(io_shim_calls(&shim), 100);
    sl__io_destroy(io);
    io_shim_free(&shim);
}

/* Two pieces fail in two ways; what is reported does not depend on which comes back first. */
static void test_lowest_failure_is_reported(void **state)
{
    io_fixture *f = *state;
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
        sl__io_read r = io_read_of(f, 0, 16 * 4096, dst, round);
        io_submit_ok(io, &r, 1);
        sl__io_done done = io_reap_one(io);
        assert_int_equal(done.status, end_first ? SL_EFORMAT : SL_EIO);
        sl__io_destroy(io);
        io_shim_free(&shim);
    }
    free(dst);
}

/* A failed read completes once, and only when no thread can write to dst any more. */
static void test_failed_read_leaves_dst_alone(void **state)
{
    io_fixture *f = *state;
    for (unsigned round = 0; round < 20; round++) {
        io_shim_rules rules = {.eio_at_call = 1 + round % 5, .delay = 700, .delay_us = 1500};
        io_shim shim;
        io_shim_init(&shim, round, &rules);
        sl__io *io = make(&shim, 4, 8, 4096);
        unsigned char *dst = malloc(12 * 4096);
        sl__io_read r = io_read_of(f, 0, 12 * 4096, dst, 1);
        io_submit_ok(io, &r, 1);
        assert_int_equal(io_reap_one(io).status, SL_EIO);
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
    io_fixture *f = *state;
    io_shim_rules rules = {.eio_at_call = 3};
    io_shim shim;
    io_shim_init(&shim, 1, &rules);
    sl__io *io = make(&shim, 1, 8, 4096);
    unsigned char *dst = malloc(12 * 4096);
    sl__io_read r = io_read_of(f, 0, 12 * 4096, dst, 1);
    io_submit_ok(io, &r, 1);
    sl__io_done done = io_reap_one(io);
    assert_int_equal(done.status, SL_EIO);
    assert_int_equal(done.bytes, 2 * 4096);
    assert_int_equal(io_shim_calls(&shim), 3);
    free(dst);
    sl__io_destroy(io);
    io_shim_free(&shim);
}

/* ---- order ----------------------------------------------------------------------------------- */

static void test_demand_overtakes_prefetch(void **state)
{
    io_fixture *f = *state;
    io_shim shim;
    io_shim_init(&shim, 1, NULL);
    io_shim_close_gate(&shim);
    sl__io *io = make(&shim, 1, 16, 4096);
    unsigned char *dst = malloc(8 * 4096);
    sl__io_read reads[5];
    for (uint64_t i = 0; i < 5; i++) {
        /* 0: prefetch of three pieces, begun before the others come */
        reads[i] =
            io_read_of(f, i * 100000, i == 0 ? 3 * 4096 : 64, dst + (i + 3) * 4096 * (i > 0), i);
        reads[i].priority = i < 3 ? SL_IO_PREFETCH : SL_IO_DEMAND;
    }
    io_submit_ok(io, reads, 1);
    io_shim_await_gate(&shim, 1);
    io_submit_ok(io, reads + 1, 4);
    io_shim_open_gate(&shim);
    static const uint64_t order[] = {3, 4, 0, 1, 2};
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(io_reap_one(io).tag, order[i]);
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
    io_fixture *f = *state;
    io_shim shim;
    io_shim_init(&shim, 1, NULL);
    io_shim_close_gate(&shim);
    sl__io *io = make(&shim, 1, 16, 4096);
    unsigned char begun[2 * 4096], dst[4][64];
    memset(dst, 0x5a, sizeof dst);
    sl__io_read first = io_read_of(f, 0, sizeof begun, begun, 1);
    io_submit_ok(io, &first, 1);
    io_shim_await_gate(&shim, 1);
    sl__io_read reads[4];
    for (uint64_t i = 0; i < 4; i++) {
        reads[i] = io_read_of(f, 5000 + i * 64, 64, dst[i], i == 3 ? 8 : 7);
        reads[i].priority = i == 1 ? SL_IO_PREFETCH : SL_IO_DEMAND;
    }
    io_submit_ok(io, reads, 4);
    assert_int_equal(sl__io_cancel(io, 1), 0); /* its first piece has begun */
    assert_int_equal(sl__io_cancel(io, 99), 0);
    assert_int_equal(sl__io_cancel(io, 7), 3);
    assert_int_equal(sl__io_cancel(io, 7), 0);
    for (unsigned i = 0; i < 3; i++) { /* at once, though the only thread is busy */
        sl__io_done done = io_reap_one(io);
        assert_int_equal(done.tag, 7);
        assert_int_equal(done.status, SL_ECANCELLED);
        assert_int_equal(done.bytes, 0);
    }
    io_shim_open_gate(&shim);
    for (unsigned i = 0; i < 2; i++) {
        sl__io_done done = io_reap_one(io);
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
    io_fixture *f = *state;
    io_shim shim;
    io_shim_init(&shim, 1, NULL);
    io_shim_close_gate(&shim);
    sl__io *io = make(&shim, 4, 16, 64 * 1024);
    uint64_t bytes = 9 * 64 * 1024 + 1;
    unsigned char *dst = malloc(bytes);
    sl__io_read r = io_read_of(f, 11, bytes, dst, 1);
    io_submit_ok(io, &r, 1);
    io_shim_await_gate(&shim, 4);
    io_shim_open_gate(&shim);
    sl__io_done done = io_reap_one(io);
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
    io_fixture *f = *state;
    for (unsigned round = 0; round < 10; round++) {
        io_shim_rules rules = {.delay = 500, .delay_us = 500, .cut = 500};
        io_shim shim;
        io_shim_init(&shim, round, &rules);
        sl__io *io = make(&shim, 3, 64, 4096);
        unsigned char *dst = malloc(64 * 10000);
        for (uint64_t i = 0; i < 64; i++) {
            sl__io_read r = io_read_of(f, i * 7, 10000, dst + i * 10000, i);
            io_submit_ok(io, &r, 1);
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
    const io_fixture *f;
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
        sl__io_read r =
            io_read_of(c->f, test_rng_below(&rng, IO_FILE_BYTES - 256), 256, c->dst[i], i);
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
    io_fixture *f = *state;
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
    assert_int_equal(io->bytes_read, 800 * 256);
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
    io_fixture *f = *state;
    sigset_t before, after;
    pthread_sigmask(SIG_BLOCK, NULL, &before);
    sl__io *io = NULL;
    sl__io_options opt = {.depth = 2, .pread_fn = pread_with_signals_blocked};
    assert_int_equal(sl__io_create(&io, SL_IO_KIND_PREAD, &opt, NULL), SL_OK);
    pthread_sigmask(SIG_BLOCK, NULL, &after);
    assert_int_equal(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
    assert_int_equal(sigismember(&after, SIGUSR1), 0);
    unsigned char byte;
    sl__io_read r = io_read_of(f, 0, 1, &byte, 1);
    io_submit_ok(io, &r, 1);
    assert_int_equal(io_reap_one(io).status, SL_OK);
    sl__io_destroy(io);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content_under_faults),
        cmocka_unit_test(test_eio),
        cmocka_unit_test(test_eagain_is_bounded),
        cmocka_unit_test(test_lowest_failure_is_reported),
        cmocka_unit_test(test_failed_read_leaves_dst_alone),
        cmocka_unit_test(test_failed_read_drops_its_rest),
        cmocka_unit_test(test_demand_overtakes_prefetch),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_one_read_uses_all_threads),
        cmocka_unit_test(test_destroy_with_reads_in_flight),
        cmocka_unit_test(test_several_callers),
        cmocka_unit_test(test_signals_are_blocked),
    };
    return cmocka_run_group_tests(tests, io_setup_pread, io_teardown);
}
