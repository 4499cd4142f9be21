#include "io_fixture.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"

#define CANARY       0xa5
#define CANARY_BYTES 64u

io_fixture *io_fixture_create(sl_io_kind kind)
{
    io_fixture *f = calloc(1, sizeof *f);
    test_rng rng = {7};
    test_temp_dir(f->dir, sizeof f->dir);
    f->content = malloc(IO_FILE_BYTES);
    for (unsigned i = 0; i < IO_FILE_BYTES; i++)
        f->content[i] = (unsigned char)test_rng_next(&rng);
    snprintf(f->path, sizeof f->path, "%s/data", f->dir);
    test_write_file(f->path, f->content, IO_FILE_BYTES);
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC);
    assert_true(f->fd >= 0);
    f->direct_fd = sl__file_open_direct(f->path);
    f->kind = kind;
    return f;
}

void io_fixture_destroy(io_fixture *f)
{
    close(f->fd);
    if (f->direct_fd >= 0) close(f->direct_fd);
    free(f->content);
    test_remove_tree(f->dir);
    free(f);
}

int io_setup_pread(void **state)
{
    *state = io_fixture_create(SL_IO_KIND_PREAD);
    return 0;
}

int io_setup_uring(void **state)
{
    *state = io_fixture_create(SL_IO_KIND_URING);
    return 0;
}

int io_teardown(void **state)
{
    io_fixture_destroy(*state);
    return 0;
}

bool io_test_uring(void)
{
    if (sl__io_has_uring()) return true;
    printf("no io_uring here: its engine is not tested\n");
    return false;
}

sl__io *io_make_with(sl_io_kind kind, const sl__io_options *opt)
{
    sl__io *io = NULL;
    sl_error err = {0};
    if (sl__io_create(&io, kind, opt, &err) != SL_OK) fail_msg("%s", err.message);
    assert_non_null(io);
    return io;
}

sl__io *io_make(const io_fixture *f, uint32_t depth, uint32_t max_reads, uint64_t split)
{
    const sl__io_options opt = {.depth = depth, .max_reads = max_reads, .split_bytes = split};
    return io_make_with(f->kind, &opt);
}

sl__io_read io_read_of(const io_fixture *f, uint64_t offset, uint64_t bytes, void *dst,
                       uint64_t tag)
{
    return (sl__io_read){.fd = f->fd, .offset = offset, .bytes = bytes, .dst = dst, .tag = tag};
}

sl__io_done io_reap_one(sl__io *io)
{
    sl__io_done done = {0};
    assert_int_equal(sl__io_reap(io, &done, 1, true), 1);
    return done;
}

void io_submit_ok(sl__io *io, const sl__io_read *reads, uint32_t n)
{
    sl_error err = {0};
    if (sl__io_submit(io, reads, n, &err) != SL_OK) fail_msg("%s", err.message);
}

/* ---- batches --------------------------------------------------------------------------------- */

static uint64_t round_up(uint64_t n)
{
    return (n + SL_IO_ALIGN - 1) & ~(uint64_t)(SL_IO_ALIGN - 1);
}

static void place(io_batch *b, unsigned i, test_rng *rng, const io_batch_rules *rules)
{
    sl__io_read *r = &b->reads[i];
    uint64_t bytes = rules->aligned ? round_up(r->bytes) : r->bytes;
    size_t room = (size_t)(2 * SL_IO_ALIGN + bytes + 2 * CANARY_BYTES);
    b->room[i] = malloc(room);
    memset(b->room[i], CANARY, room);
    uintptr_t at = round_up((uintptr_t)b->room[i] + CANARY_BYTES);
    if (!rules->aligned) at += test_rng_below(rng, SL_IO_ALIGN);
    r->dst = (void *)at;
}

void io_batch_make(io_batch *b, const io_fixture *f, test_rng *rng, const io_batch_rules *rules)
{
    memset(b, 0, sizeof *b);
    for (unsigned i = 0; i < IO_BATCH; i++) {
        uint64_t bytes = test_rng_below(rng, rules->largest + 1);
        uint64_t offset = test_rng_below(rng, (unsigned)(IO_FILE_BYTES - bytes + 1));
        if (rules->chains && i > 0 && test_rng_below(rng, 4) > 0) {
            offset = b->reads[i - 1].offset + b->reads[i - 1].bytes;
            if (test_rng_below(rng, 3) > 0) bytes = round_up(bytes);
        }
        if (rules->aligned) offset &= ~(uint64_t)(SL_IO_ALIGN - 1);
        if (offset + bytes > IO_FILE_BYTES) bytes = IO_FILE_BYTES - offset;
        b->reads[i] = (sl__io_read){.fd = rules->direct && f->direct_fd >= 0 ? f->direct_fd : f->fd,
                                    .offset = offset,
                                    .bytes = bytes,
                                    .tag = i,
                                    .direct = rules->direct};
        b->reads[i].priority = test_rng_below(rng, 4) ? SL_IO_DEMAND : SL_IO_PREFETCH;
        place(b, i, rng, rules);
    }
}

static void check_one(const io_batch *b, unsigned i, const io_fixture *f, const sl__io_done *done)
{
    const sl__io_read *r = &b->reads[i];
    const unsigned char *dst = r->dst;
    assert_int_equal(done->status, SL_OK);
    assert_int_equal(done->bytes, r->bytes);
    assert_memory_equal(dst, f->content + r->offset, r->bytes);
    /* Only an aligned direct read may write behind its end, up to the end of the block. */
    uint64_t end = r->bytes;
    if (r->direct && ((r->offset | (uintptr_t)dst) & (SL_IO_ALIGN - 1)) == 0) end = round_up(end);
    for (unsigned k = 0; k < CANARY_BYTES; k++) {
        assert_int_equal(dst[-1 - (int)k], CANARY);
        assert_int_equal(dst[end + k], CANARY);
    }
}

uint64_t io_batch_check(io_batch *b, const io_fixture *f, sl__io *io, test_rng *rng)
{
    uint64_t bytes = 0;
    for (unsigned got = 0; got < IO_BATCH;) {
        sl__io_done done[IO_BATCH];
        uint32_t n = sl__io_reap(io, done, 1 + test_rng_below(rng, IO_BATCH), true);
        assert_true(n > 0);
        for (uint32_t i = 0; i < n; i++) {
            assert_true(done[i].tag < IO_BATCH);
            assert_false(b->seen[done[i].tag]);
            b->seen[done[i].tag] = true;
            check_one(b, (unsigned)done[i].tag, f, &done[i]);
            bytes += done[i].bytes;
        }
        got += n;
    }
    for (unsigned i = 0; i < IO_BATCH; i++)
        free(b->room[i]);
    return bytes;
}
