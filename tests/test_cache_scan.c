/* Chunks on the cache: in order, through a ring of slots, leaving what tokens keep where it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cache_bed.h"
#include "cache_storm.h"
#include "fake_store.h"
#include "test_env.h"

#define EACH   64u
#define LAYERS 4u

static const fake_layer layers[LAYERS] = {
    {.experts = EACH, .extents = 1, .extent_bytes = 128},
    {.experts = EACH, .extents = 1, .extent_bytes = 128},
    {.experts = EACH, .extents = 2, .extent_bytes = 64},
    {.experts = EACH, .extents = 1, .extent_bytes = 128},
};

static uint32_t every[EACH];

static int setup(void **state)
{
    cache_bed *b = calloc(1, sizeof *b);
    cache_bed_make(b, layers, LAYERS);
    for (uint32_t i = 0; i < EACH; i++)
        every[i] = i;
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    cache_bed_remove(*state);
    free(*state);
    return 0;
}

static void open_on(cache_bed *b, uint32_t slots, sl_switch prefetch)
{
    const cache_bed_options opt = {.slots = slots, .prefetch = prefetch};
    cache_bed_open(b, &opt);
}

static uint32_t in_memory(const cache_bed *b, uint32_t layer)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < EACH; i++)
        n += cache_bed_has(b, layer, i);
    return n;
}

/* Fills all slots with what tokens ask for: the first experts of layer 3. */
static void fill(cache_bed *b, uint32_t slots)
{
    for (uint32_t i = 0; i < slots; i++)
        cache_bed_use(b, 3, &i, 1, false);
}

/* Chunk after chunk over the other layers: at most the ring is lost of what was there before. */
static void test_keeps_what_tokens_keep(void **state)
{
    cache_bed *b = *state;
    for (unsigned scan = 0; scan < 2; scan++) {
        open_on(b, 60, SL_OFF);
        fill(b, 60);
        for (unsigned round = 0; round < 3; round++) {
            for (uint32_t l = 0; l < 3; l++)
                cache_bed_use(b, l, every, EACH, scan);
        }
        assert_int_equal(sl__ring_size(b->cache), 15);
        assert_int_equal(in_memory(b, 3), scan ? 45 : 0);
        cache_bed_quiet(b);
        cache_bed_settle(b);
        cache_bed_close(b);
    }
}

/* An empty cache is filled first: what fits stays, and only the rest goes through the ring. */
static void test_free_slots_first(void **state)
{
    cache_bed *b = *state;
    open_on(b, 100, SL_OFF);
    for (uint32_t l = 0; l < LAYERS; l++)
        cache_bed_use(b, l, every, EACH, true);
    assert_int_equal(b->cache->ring_count, 25);
    assert_int_equal(in_memory(b, 3), 25);
    sl__cache_stats s = cache_bed_stats(b);
    assert_int_equal(s.misses, LAYERS * EACH);
    uint64_t hits = s.hits;
    for (uint32_t l = 0; l < LAYERS; l++)
        cache_bed_use(b, l, every, EACH, true);
    s = cache_bed_stats(b);
    assert_true(s.hits - hits >= 75); /* recency alone would have none of them */
    cache_bed_quiet(b);
    cache_bed_settle(b);
    cache_bed_close(b);
}

static void test_hits_first_then_in_order(void **state)
{
    cache_bed *b = *state;
    const cache_bed_options opt = {.slots = 40, .threads = 1, .prefetch = SL_OFF};
    cache_bed_open(b, &opt);
    for (uint32_t i = 10; i < 14; i++)
        cache_bed_use(b, 0, &i, 1, false);
    for (uint32_t i = 0; i < 36; i++)
        cache_bed_use(b, 3, &i, 1, false);
    sl__ticket *t = cache_bed_request(b, 0, every, 32, true);
    for (uint32_t i = 0; i < 32; i++) {
        static const uint32_t first[] = {10, 11, 12, 13};
        sl__expert_ref ref = cache_bed_take(b, t, 0);
        assert_int_equal(ref.expert, i < 4 ? first[i] : i < 14 ? i - 4 : i);
        sl__cache_release(b->cache, t, &ref);
    }
    sl__cache_end(b->cache, t);
    cache_bed_settle(b);
    cache_bed_close(b);
}

/* The caller may hold all that there is, far beyond the ring; only that is refused. */
static void test_a_caller_that_holds_on(void **state)
{
    cache_bed *b = *state;
    sl__expert_ref refs[40], ref;
    for (uint32_t slots = 2; slots <= 40; slots += 19) {
        bool got;
        open_on(b, slots, SL_ON);
        fill(b, slots);
        sl__ticket *t = cache_bed_request(b, 0, every, EACH, true);
        for (uint32_t i = 0; i < slots; i++)
            refs[i] = cache_bed_take(b, t, 0);
        assert_int_equal(sl__cache_next(b->cache, t, true, &ref, &got, &b->err), SL_EINVAL);
        sl_error_clear(&b->err);
        for (uint32_t i = 0; i < slots; i++)
            sl__cache_release(b->cache, t, &refs[i]);
        for (uint32_t i = slots; i < EACH; i++) {
            ref = cache_bed_take(b, t, 0);
            sl__cache_release(b->cache, t, &ref);
        }
        sl__cache_end(b->cache, t);
        assert_true(b->cache->ring_count <= sl__ring_size(b->cache));
        cache_bed_quiet(b);
        cache_bed_settle(b);
        cache_bed_close(b);
    }
}

/* What a token asks for is no longer the ring's. */
static void test_a_token_takes_from_the_ring(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, SL_OFF);
    fill(b, 40);
    cache_bed_use(b, 0, every, EACH, true);
    assert_int_equal(b->cache->ring_count, 10);
    for (uint32_t i = 0; i < EACH; i++) {
        if (cache_bed_has(b, 0, i)) cache_bed_use(b, 0, &i, 1, false);
    }
    assert_int_equal(b->cache->ring_count, 0);
    cache_bed_use(b, 1, every, EACH, true);
    assert_int_equal(in_memory(b, 0), 10);
    assert_int_equal(in_memory(b, 3), 20);
    cache_bed_quiet(b);
    cache_bed_settle(b);
    cache_bed_close(b);
}

/* The next layer of a chunk is read ahead, into the ring and no further. */
static void test_reads_ahead_into_the_ring(void **state)
{
    cache_bed *b = *state;
    open_on(b, 60, SL_ON);
    fill(b, 60);
    for (unsigned round = 0; round < 4; round++) {
        for (uint32_t l = 0; l < 3; l++) {
            sl__ticket *t = cache_bed_request(b, l, every, EACH, true);
            sl__cache_predict(b->cache, (l + 1) % 3, every, EACH, EACH, SL_GUESS_SCAN);
            for (uint32_t i = 0; i < EACH; i++) {
                sl__expert_ref ref = cache_bed_take(b, t, l);
                sl__cache_release(b->cache, t, &ref);
            }
            sl__cache_end(b->cache, t);
            cache_bed_quiet(b);
            assert_int_equal(in_memory(b, 3), 45);
            assert_true(cache_bed_has(b, (l + 1) % 3, 0) && cache_bed_has(b, (l + 1) % 3, 7));
        }
    }
    sl__cache_stats s = cache_bed_stats(b);
    assert_true(s.prefetch_useful > 100);
    assert_int_equal(s.prefetch_wasted, 0);
    assert_int_equal(s.predicted, 0); /* counts tokens' predictions only */
    s = cache_bed_settle(b);
    assert_int_equal(s.bytes_read, s.bytes_missing + s.prefetch_wasted_bytes);
    cache_bed_close(b);
}

static void test_ended_early(void **state)
{
    cache_bed *b = *state;
    open_on(b, 32, SL_ON);
    fill(b, 32);
    for (uint32_t i = 0; i < 200; i++) {
        sl__ticket *t = cache_bed_request(b, i % 3, every, EACH, true);
        for (uint32_t k = 0; k < i % 7; k++)
            cache_bed_take(b, t, i % 3);
        sl__cache_predict(b->cache, (i + 1) % 3, every, EACH, EACH, SL_GUESS_SCAN);
        sl__cache_end(b->cache, t);
        assert_true(b->cache->ring_count <= sl__ring_size(b->cache) + 7);
    }
    cache_bed_quiet(b);
    assert_true(in_memory(b, 3) >= 16);
    cache_bed_settle(b);
    cache_bed_close(b);
}

static void test_storm_of_scans(void **state)
{
    cache_bed *b = *state;
    static const uint32_t slots[] = {2, 3, 4, 7, 30, 100, EACH * LAYERS};
    static const io_shim_rules rough = {.cut = 50, .eintr = 30, .delay = 5, .delay_us = 100},
                               broken = {.cut = 50, .eio = 5, .eagain = 5, .delay = 5,
                                         .delay_us = 100};
    for (uint32_t i = 0; i < 7 * 3; i++) {
        bool faults = i % 2;
        const cache_bed_options opt = {.slots = slots[i / 3],
                                       .max_reads = i % 3 == 1 ? 20 : 0,
                                       .prefetch = i % 3 ? SL_ON : SL_AUTO,
                                       .rules = faults ? &broken : &rough};
        const cache_storm_options storm = {.seed = 100 + i,
                                           .requests = test_fast() ? 1500 : 8000,
                                           .faults = faults,
                                           .scans = 700,
                                           .right = 950};
        cache_bed_open(b, &opt);
        cache_storm_tally tally = cache_storm_run(b, &storm);
        assert_true(tally.scans > 0);
        cache_bed_close(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_what_tokens_keep),
        cmocka_unit_test(test_free_slots_first),
        cmocka_unit_test(test_hits_first_then_in_order),
        cmocka_unit_test(test_a_caller_that_holds_on),
        cmocka_unit_test(test_a_token_takes_from_the_ring),
        cmocka_unit_test(test_reads_ahead_into_the_ring),
        cmocka_unit_test(test_ended_early),
        cmocka_unit_test(test_storm_of_scans),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
