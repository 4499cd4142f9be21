/* Direct reads: rounding out, in place and through bounce buffers, the end of a file, merging. The
 * rounding is tested on any descriptor; where the file system has reads past the page cache, those
 * are made. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "fake_answers.h"
#include "io_fixture.h"

sl__io_step __wrap_sl__io_piece_came(sl__io_piece *p, int64_t answer);

static sl__io *make_bouncing(const io_fixture *f, uint32_t depth, uint64_t split)
{
    const sl__io_options opt = {
        .depth = depth, .max_reads = IO_BATCH, .split_bytes = split, .bounce = true};
    return io_make_with(f->kind, &opt);
}

static void read_batches(io_fixture *f, bool aligned, const fake_answers_rules *faults)
{
    static const uint64_t splits[] = {1, 4096, 10000, 65536, 0};
    static const unsigned largest[] = {9000, 20000, 60000, 300000, 2500000};
    for (unsigned round = 0; round < (test_fast() ? 5 : 20); round++) {
        unsigned size = round % 5;
        test_rng rng = {round};
        fake_answers_set(round, faults);
        uint32_t depth = 1 + test_rng_below(&rng, 6);
        sl__io *io = aligned ? io_make(f, depth, IO_BATCH, splits[size])
                             : make_bouncing(f, depth, splits[size]);
        uint64_t bytes = 0;
        for (unsigned i = 0; i < 4; i++) {
            io_batch b;
            const io_batch_rules rules = {
                .largest = largest[size], .direct = true, .aligned = aligned, .chains = i % 2};
            io_batch_make(&b, f, &rng, &rules);
            io_submit_ok(io, b.reads, IO_BATCH);
            bytes += io_batch_check(&b, f, io, &rng);
            sl__io_stats stats;
            sl__io_stats_get(io, &stats);
            assert_int_equal(stats.bytes_read, bytes); /* what was wanted, not what was rounded */
        }
        sl__io_destroy(io);
    }
    fake_answers_set(0, NULL);
}

static void test_aligned(void **state)
{
    read_batches(*state, true, NULL);
}
static void test_unaligned(void **state)
{
    read_batches(*state, false, NULL);
}

static void test_faults(void **state)
{
    const fake_answers_rules rules = {.eintr = 100, .eagain = 20, .cut = 300};
    read_batches(*state, true, &rules);
    read_batches(*state, false, &rules);
}

/* Every way to lie around blocks, pieces and the end of the file. */
static void test_awkward_places(void **state)
{
    io_fixture *f = *state;
    static const uint64_t sizes[] = {1,     511,   512,   4095,  4096,  4097, 8192,
                                     20479, 20480, 20481, 65535, 65536, 65537};
    unsigned char *room = malloc(65537 + 3 * SL_IO_ALIGN);
    unsigned char *dst = room + (SL_IO_ALIGN - (uintptr_t)room % SL_IO_ALIGN) % SL_IO_ALIGN;
    sl__io *io = make_bouncing(f, 3, 20480);
    for (unsigned i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (unsigned k = 0; k < 12; k++) {
            uint64_t bytes = sizes[i], offset = k % 3 == 0 ? 0 : k % 3 == 1 ? 4096 : 4095;
            if (k >= 6) offset = (IO_FILE_BYTES - bytes - k % 3) & (k < 9 ? ~UINT64_C(4095) : ~0u);
            if (offset + bytes > IO_FILE_BYTES) continue;
            sl__io_read r = io_read_of(f, offset, bytes, dst + k % 2, i);
            if (f->direct_fd >= 0) r.fd = f->direct_fd;
            r.direct = true;
            memset(room, 0, 65537 + 3 * SL_IO_ALIGN);
            io_submit_ok(io, &r, 1);
            sl__io_done done = io_reap_one(io);
            assert_int_equal(done.status, SL_OK);
            assert_int_equal(done.bytes, bytes);
            assert_memory_equal(r.dst, f->content + offset, bytes);
        }
    }
    sl__io_destroy(io);
    free(room);
}

static void test_file_ends_early(void **state)
{
    io_fixture *f = *state;
    unsigned char *room = malloc(100000 + 3 * SL_IO_ALIGN);
    unsigned char *aligned = room + (SL_IO_ALIGN - (uintptr_t)room % SL_IO_ALIGN) % SL_IO_ALIGN;
    uint64_t last = IO_FILE_BYTES & ~UINT64_C(4095);
    sl__io *io = make_bouncing(f, 2, 8192);
    for (unsigned shift = 0; shift < 2; shift++) {
        const struct {
            uint64_t offset, bytes, come;
        } cases[] = {
            {last, IO_FILE_BYTES - last, IO_FILE_BYTES - last},
            {last, IO_FILE_BYTES - last + 1, IO_FILE_BYTES - last},
            {last - 40960, 40960 + 4096, IO_FILE_BYTES - last + 40960},
            {last + 4096, 1, 0},
            {last + 409600, 4096, 0},
        };
        for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            sl__io_read r = io_read_of(f, cases[i].offset, cases[i].bytes, aligned + shift, i);
            if (f->direct_fd >= 0) r.fd = f->direct_fd;
            r.direct = true;
            io_submit_ok(io, &r, 1);
            sl__io_done done = io_reap_one(io);
            assert_int_equal(done.status, i == 0 ? SL_OK : SL_EFORMAT);
            assert_int_equal(done.sys_errno, 0);
            assert_int_equal(done.bytes, cases[i].come);
        }
    }
    sl__io_destroy(io);
    free(room);
}

/* What a device with larger blocks says is passed on. */
static void test_larger_blocks(void **state)
{
    io_fixture *f = *state;
    if (f->direct_fd < 0) skip();
    unsigned char *room = malloc(3 * SL_IO_ALIGN);
    unsigned char *dst = room + (SL_IO_ALIGN - (uintptr_t)room % SL_IO_ALIGN) % SL_IO_ALIGN;
    sl__io *io = io_make(f, 1, 4, 0);
    sl__io_read r = io_read_of(f, 1, 4095, dst + 1, 1); /* not said to be direct: not rounded */
    r.fd = f->direct_fd;
    io_submit_ok(io, &r, 1);
    sl__io_done done = io_reap_one(io);
    if (done.status == SL_OK) {
        assert_memory_equal(dst + 1, f->content + 1, 4095); /* this file system reads any place */
    } else {
        assert_int_equal(done.status, SL_EIO);
        assert_int_equal(done.sys_errno, EINVAL);
    }
    sl__io_destroy(io);
    free(room);
}

static void test_open_direct(void **state)
{
    io_fixture *f = *state;
    char path[320];
    assert_int_equal(sl__file_open_direct("/nowhere/at/all"), -1);
    assert_int_equal(sl__file_open_direct(f->dir), -1);
    snprintf(path, sizeof path, "%s/pipe", f->dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(sl__file_open_direct(path), -1);
    snprintf(path, sizeof path, "%s/empty", f->dir);
    test_write_file(path, "", 0);
    int fd = sl__file_open_direct(path);
    assert_true(f->direct_fd < 0 || fd >= 0);
    if (fd >= 0) close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_aligned),         cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_faults),          cmocka_unit_test(test_awkward_places),
        cmocka_unit_test(test_file_ends_early), cmocka_unit_test(test_larger_blocks),
        cmocka_unit_test(test_open_direct),
    };
    io_fixture *f = io_fixture_create(SL_IO_KIND_PREAD);
    if (f->direct_fd < 0) {
        printf("no direct reads under %s: they go through the page cache here\n", f->dir);
    }
    io_fixture_destroy(f);
    int bad = cmocka_run_group_tests_name("pread", tests, io_setup_pread, io_teardown);
    if (io_test_uring()) {
        bad += cmocka_run_group_tests_name("uring", tests, io_setup_uring, io_teardown);
    }
    return bad;
}
