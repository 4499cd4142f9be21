/* The queue without an engine: the test takes the pieces, reads them from memory and returns them,
 * so every interleaving is the same in every run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io/io_queue.h"
#include "test_env.h"

#define SPLIT   (64u << 10)
#define CONTENT (4u << 20)

typedef struct bed {
    sl__io_queue q;
    uint32_t woken; /* threads that wake was called for */
    unsigned char *content, *memory;
} bed;

static void wake(sl__io_queue *q, uint32_t threads)
{
    ((bed *)q)->woken += threads;
}

static void bed_open(bed *b, uint32_t depth, bool bounce)
{
    const sl__io_options opt = {
        .depth = depth, .max_reads = 256, .split_bytes = SPLIT, .bounce = bounce};
    test_rng rng = {3};
    memset(b, 0, sizeof *b);
    assert_int_equal(sl__io_queue_init(&b->q, NULL, &opt, NULL), SL_OK);
    b->q.wake = wake;
    b->q.sleepers = depth;
    b->content = malloc(CONTENT);
    for (unsigned i = 0; i < CONTENT; i++)
        b->content[i] = (unsigned char)test_rng_next(&rng);
    b->memory = aligned_alloc(SL_IO_ALIGN, CONTENT + SL_IO_ALIGN);
    memset(b->memory, 0, CONTENT + SL_IO_ALIGN);
}

static void bed_close(bed *b)
{
    sl__io_queue_free(&b->q);
    free(b->content);
    free(b->memory);
}

/* A read lands in memory where it lies in the file, moved by shift. */
static sl__io_read read_at(const bed *b, uint64_t offset, uint64_t bytes, uint64_t tag)
{
    return (sl__io_read){.fd = 3,
                         .offset = offset,
                         .bytes = bytes,
                         .dst = b->memory + offset,
                         .tag = tag,
                         .priority = SL_IO_DEMAND};
}

static void submit(bed *b, const sl__io_read *reads, uint32_t n)
{
    assert_int_equal(sl__io_queue_submit(&b->q.base, reads, n, NULL), SL_OK);
}

static sl__io_piece take(bed *b)
{
    sl__io_piece p;
    assert_true(sl__io_queue_ready(&b->q));
    assert_true(sl__io_queue_take(&b->q, &p, NULL));
    return p;
}

static void take_nothing(bed *b)
{
    sl__io_piece p;
    assert_false(sl__io_queue_ready(&b->q));
    assert_false(sl__io_queue_take(&b->q, &p, NULL));
}

/* The first `bytes` of a piece come; fewer than all are followed by an error. */
static void give(bed *b, sl__io_piece *p, uint64_t bytes)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < p->iov_count && at < bytes; i++) {
        uint64_t part = p->iov[i].iov_len < bytes - at ? p->iov[i].iov_len : bytes - at;
        memcpy(p->iov[i].iov_base, b->content + p->offset + at, (size_t)part);
        at += part;
    }
    if (at > 0 && sl__io_piece_came(p, (int64_t)at) != SL_IO_STEP_DONE) {
        assert_int_equal(sl__io_piece_came(p, -5), SL_IO_STEP_DONE);
    } else if (at == 0) {
        assert_int_equal(sl__io_piece_came(p, -5), SL_IO_STEP_DONE);
    }
    sl__io_piece_unload(p);
    sl__io_queue_return(&b->q, p);
}

static void expect_done(bed *b, uint64_t tag, sl_status status)
{
    sl__io_done done = {0};
    assert_int_equal(sl__io_queue_reap(&b->q.base, &done, 1, false), 1);
    assert_int_equal(done.tag, tag);
    assert_int_equal(done.status, status);
}

/* ---- prefetch leaves room -------------------------------------------------------------------- */

static void test_prefetch_leaves_room(void **state)
{
    (void)state;
    static const uint32_t depths[] = {1, 2, 3, 4, 5, 8, 9, 64}, most[] = {1, 2, 3, 3, 4, 6, 7, 48};
    for (unsigned d = 0; d < 8; d++) {
        bed b;
        sl__io_read reads[64];
        sl__io_piece p[64], demand;
        bed_open(&b, depths[d], false);
        for (uint32_t i = 0; i < 64; i++) {
            reads[i] = read_at(&b, i * 60000, 100, i);
            reads[i].priority = SL_IO_PREFETCH;
        }
        submit(&b, reads, 64);
        for (uint32_t i = 0; i < most[d]; i++)
            p[i] = take(&b);
        take_nothing(&b);
        if (most[d] < depths[d]) {
            reads[0] = read_at(&b, 30000, 1, 99);
            submit(&b, reads, 1);
            demand = take(&b); /* at once */
            take_nothing(&b);
            /* A promoted read finds room too, and its place is no place of prefetch. */
            assert_int_equal(sl__io_queue_promote(&b.q.base, 63), 1);
            if (most[d] + 1 < depths[d]) {
                sl__io_piece promoted = take(&b);
                assert_int_equal(promoted.offset, 63 * 60000);
                give(&b, &promoted, 100);
                expect_done(&b, 63, SL_OK);
            }
            give(&b, &demand, 1);
            expect_done(&b, 99, SL_OK);
        }
        for (uint32_t i = 0; i < most[d]; i++)
            give(&b, &p[i], 100);
        bed_close(&b);
    }
}

/* Nobody is woken for what cannot be taken, and no more than there are pieces. */
static void test_waking(void **state)
{
    (void)state;
    bed b;
    bed_open(&b, 4, false);
    sl__io_read reads[40];
    for (uint32_t i = 0; i < 40; i++)
        reads[i] = read_at(&b, i * 100, 100, i); /* all adjoin: one piece, but for its bound */
    submit(&b, reads, 1);
    assert_int_equal(b.woken, 1);
    b.woken = 0;
    submit(&b, reads + 1, 30);
    assert_int_equal(b.woken, 0); /* they go with the first */
    sl__io_read large = read_at(&b, 1 << 20, 3 * SPLIT, 50);
    submit(&b, &large, 1);
    assert_int_equal(b.woken, 3);
    for (int i = 0; i < 4; i++)
        (void)take(&b);
    b.woken = 0;
    large.offset += 1 << 20;
    submit(&b, &large, 1);
    assert_int_equal(b.woken, 0); /* the depth is in use */
    bed_close(&b);
}

/* ---- merging --------------------------------------------------------------------------------- */

static void test_merging(void **state)
{
    (void)state;
    bed b;
    bed_open(&b, 8, false);
    sl__io_read reads[8];
    uint64_t at = 0;
    for (uint32_t i = 0; i < 8; i++) {
        reads[i] = read_at(&b, at, 1000 + i, i);
        at += reads[i].bytes;
    }
    submit(&b, reads, 8);
    sl__io_piece p = take(&b);
    take_nothing(&b);
    assert_int_equal(p.iov_count, 8);
    assert_int_equal(p.ask_bytes, at);
    assert_int_equal(p.need_bytes, at);
    assert_int_equal(sl__io_queue_cancel(&b.q.base, 3), 0); /* has begun */
    give(&b, &p, at);
    for (uint32_t i = 0; i < 8; i++)
        expect_done(&b, i, SL_OK);
    assert_memory_equal(b.memory, b.content, at);
    assert_int_equal(b.q.base.bytes_read, at);
    bed_close(&b);
}

/* What keeps neighbours apart. */
static void test_not_merged(void **state)
{
    (void)state;
    bed b;
    bed_open(&b, 8, false);
    for (int why = 0; why < 7; why++) {
        sl__io_read r[2] = {read_at(&b, 8192, 4096, 0), read_at(&b, 12288, 4096, 1)};
        r[0].direct = r[1].direct = why == 3 || why == 6;
        switch (why) {
        case 0:
            r[1].fd = 4;
            break;
        case 1:
            r[1].offset++;
            break;
        case 2:
            r[1].priority = SL_IO_PREFETCH;
            break;
        case 3:
            r[0].bytes = 4000;
            break; /* its rounding lies over the next one */
        case 4:
            r[1].bytes = SPLIT / 4 + 1;
            break;
        case 5:
            r[1].direct = true;
            break;
        default:
            break; /* the last: nothing */
        }
        submit(&b, r, 2);
        sl__io_piece p = take(&b);
        assert_int_equal(p.iov_count, why == 6 ? 2 : 1);
        give(&b, &p, p.ask_bytes);
        if (why < 6) {
            p = take(&b);
            assert_int_equal(p.iov_count, 1);
            give(&b, &p, p.ask_bytes);
        }
        expect_done(&b, 0, SL_OK);
        expect_done(&b, 1, SL_OK);
    }
    bed_close(&b);
}

static void test_merged_bounds(void **state)
{
    (void)state;
    bed b;
    bed_open(&b, 8, false);
    sl__io_read reads[100];
    for (uint32_t i = 0; i < 100; i++)
        reads[i] = read_at(&b, i * 512, 512, i);
    submit(&b, reads, 100);
    for (uint32_t left = 100; left > 0;) { /* in number */
        sl__io_piece p = take(&b);
        assert_int_equal(p.iov_count, left < SL_IO_MERGE_MAX ? left : SL_IO_MERGE_MAX);
        left -= p.iov_count;
        give(&b, &p, p.ask_bytes);
    }
    for (uint32_t i = 0; i < 100; i++)
        expect_done(&b, i, SL_OK);
    for (uint32_t i = 0; i < 9; i++)
        reads[i] = read_at(&b, i * (SPLIT / 4), SPLIT / 4, i);
    submit(&b, reads, 9);
    for (uint32_t left = 9; left > 0;) { /* and in bytes */
        sl__io_piece p = take(&b);
        assert_int_equal(p.iov_count, left < 4 ? left : 4);
        left -= p.iov_count;
        give(&b, &p, p.ask_bytes);
    }
    bed_close(&b);
}

/* Whole reads before the failure are done; the others wait again, each alone. */
static void test_merged_failure(void **state)
{
    (void)state;
    for (uint64_t came = 0; came < 1000; came += 99) {
        bed b;
        bed_open(&b, 1, false);
        sl__io_read reads[10];
        for (uint32_t i = 0; i < 10; i++)
            reads[i] = read_at(&b, i * 100, 100, i);
        submit(&b, reads, 10);
        sl__io_piece p = take(&b);
        assert_int_equal(p.iov_count, 10);
        give(&b, &p, came);
        uint32_t whole = (uint32_t)(came / 100);
        for (uint32_t i = 0; i < whole; i++)
            expect_done(&b, i, SL_OK);
        assert_int_equal(b.q.base.bytes_read, whole * 100);
        assert_int_equal(sl__io_queue_cancel(&b.q.base, 9), 1);
        expect_done(&b, 9, SL_ECANCELLED);
        for (uint32_t i = whole; i + 1 < 10; i++) {
            p = take(&b);
            assert_int_equal(p.iov_count, 1);
            assert_int_equal(p.offset, i * 100);
            give(&b, &p, i % 2 ? 100 : 50);
            expect_done(&b, i, i % 2 ? SL_OK : SL_EIO);
        }
        take_nothing(&b);
        bed_close(&b);
    }
}

/* ---- random interleavings -------------------------------------------------------------------- */

#define HANDS 6u

typedef struct play {
    bed b;
    test_rng rng;
    sl__io_piece hand[HANDS];
    bool holds[HANDS];
    unsigned char *bounce[HANDS];
    uint64_t offset[256], bytes[256]; /* by tag */
    bool live[256];
    unsigned in_flight;
    uint64_t next_offset;
} play;

static void play_submit(play *g)
{
    sl__io_read reads[8];
    uint32_t n = 1 + test_rng_below(&g->rng, 8), made = 0;
    for (uint32_t tag = 0; tag < 256 && made < n; tag++) {
        if (g->live[tag]) continue;
        uint64_t bytes = test_rng_below(&g->rng, test_rng_below(&g->rng, 4) ? 9000 : 150000);
        if (test_rng_below(&g->rng, 2)) bytes &= ~UINT64_C(4095);
        uint64_t offset = g->next_offset;
        if (offset + bytes + 2 * SL_IO_ALIGN > CONTENT) break;
        if (test_rng_below(&g->rng, 4) == 0) offset += test_rng_below(&g->rng, 4096);
        reads[made] = read_at(&g->b, offset, bytes, tag);
        reads[made].direct = test_rng_below(&g->rng, 3) > 0;
        reads[made].priority = test_rng_below(&g->rng, 2) ? SL_IO_DEMAND : SL_IO_PREFETCH;
        /* No two lie over each other, nor over the rounding behind one. */
        g->next_offset = offset + bytes;
        if (reads[made].direct) g->next_offset = (offset + bytes + 4095) & ~UINT64_C(4095);
        g->offset[tag] = offset;
        g->bytes[tag] = bytes;
        g->live[tag] = true;
        g->in_flight++;
        made++;
    }
    submit(&g->b, reads, made);
}

static void play_return(play *g, unsigned h)
{
    sl__io_piece *p = &g->hand[h];
    g->holds[h] = false;
    give(&g->b, p,
         test_rng_below(&g->rng, 8) ? p->ask_bytes
                                    : test_rng_below(&g->rng, (unsigned)p->ask_bytes));
}

static void play_reap(play *g)
{
    sl__io_done done[5];
    uint32_t n = sl__io_queue_reap(&g->b.q.base, done, 5, false);
    for (uint32_t i = 0; i < n; i++) {
        uint64_t tag = done[i].tag;
        assert_true(g->live[tag]);
        g->live[tag] = false;
        g->in_flight--;
        if (done[i].status != SL_OK) continue;
        assert_int_equal(done[i].bytes, g->bytes[tag]);
        assert_memory_equal(g->b.memory + g->offset[tag], g->b.content + g->offset[tag],
                            g->bytes[tag]);
    }
}

static void play_step(play *g)
{
    unsigned h = test_rng_below(&g->rng, HANDS);
    uint64_t tag = test_rng_below(&g->rng, 256);
    switch (test_rng_below(&g->rng, 12)) {
    case 0:
        play_submit(g);
        break;
    case 1:
        sl__io_queue_cancel(&g->b.q.base, tag);
        break;
    case 2:
        sl__io_queue_promote(&g->b.q.base, tag);
        break;
    case 3:
    case 4:
        play_reap(g);
        break;
    default:
        if (g->holds[h])
            play_return(g, h);
        else
            g->holds[h] = sl__io_queue_take(&g->b.q, &g->hand[h], g->bounce[h]);
        break;
    }
}

static void test_random_interleavings(void **state)
{
    (void)state;
    for (unsigned round = 0; round < (test_fast() ? 20 : 200); round++) {
        play *g = calloc(1, sizeof *g);
        bed_open(&g->b, 1 + round % HANDS, true);
        g->rng.state = round;
        for (unsigned h = 0; h < HANDS; h++)
            g->bounce[h] = malloc(SPLIT);
        for (unsigned i = 0; i < 1500; i++)
            play_step(g);
        while (g->in_flight > 0) { /* then all of it ends */
            for (unsigned h = 0; h < HANDS; h++) {
                if (g->holds[h]) play_return(g, h);
                g->holds[h] = sl__io_queue_take(&g->b.q, &g->hand[h], g->bounce[h]);
            }
            play_reap(g);
        }
        assert_int_equal(g->b.q.in_flight, 0);
        assert_int_equal(g->b.q.in_hand[0] + g->b.q.in_hand[1], 0);
        for (unsigned h = 0; h < HANDS; h++)
            free(g->bounce[h]);
        bed_close(&g->b);
        free(g);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prefetch_leaves_room),
        cmocka_unit_test(test_waking),
        cmocka_unit_test(test_merging),
        cmocka_unit_test(test_not_merged),
        cmocka_unit_test(test_merged_bounds),
        cmocka_unit_test(test_merged_failure),
        cmocka_unit_test(test_random_interleavings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
