/* The expert cache: tickets, eviction, failures, budget; against models and at random. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache/cache_private.h"
#include "fake_store.h"
#include "io_shim.h"
#include "test_env.h"

/* Layer 2 has no experts; layer 3 has the largest record: 12 extents of 200 bytes, 256 apart. */
static const fake_layer layers[] = {
    {.experts = 64, .extents = 1, .extent_bytes = 512},
    {.experts = 16, .extents = 3, .extent_bytes = 129},
    {.experts = 0, .extents = 0, .extent_bytes = 0},
    {.experts = 24, .extents = 12, .extent_bytes = 200},
    {.experts = 32, .extents = 2, .extent_bytes = 700},
};
#define LAYERS  5u
#define RECORDS (64u + 16 + 24 + 32)
#define SLOT    3072u

typedef struct bed {
    char dir[256];
    sl__store *store;
    io_shim shim;
    sl__io *io;
    sl__cache *cache;
    sl_error err;
} bed;

static int setup(void **state)
{
    bed *b = calloc(1, sizeof *b);
    test_temp_dir(b->dir, sizeof b->dir);
    b->store = fake_store_open(b->dir, layers, LAYERS);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    bed *b = *state;
    fake_store_close(b->store);
    test_remove_tree(b->dir);
    free(b);
    return 0;
}

static uint64_t budget_of(const bed *b, uint32_t slots)
{
    sl__cache_plan plan;
    assert_true(sl__cache_plan_make(&plan, b->store, LAYERS));
    return sl__cache_plan_bytes(&plan, slots);
}

static void bed_open_io(bed *b, uint32_t slots, const io_shim_rules *rules, uint32_t threads,
                        uint32_t max_reads)
{
    sl__io_options io_opt = {.depth = threads,
                             .max_reads = max_reads,
                             .split_bytes = 300,
                             .pread_fn = io_shim_pread,
                             .pread_ctx = &b->shim};
    sl__cache_options opt = {
        .budget_bytes = budget_of(b, slots), .verify = SL_VERIFY_ALL, .layer_count = LAYERS};
    sl_error_clear(&b->err);
    io_shim_init(&b->shim, 3, rules);
    assert_int_equal(sl__io_create(&b->io, SL_IO_KIND_PREAD, &io_opt, &b->err), SL_OK);
    assert_int_equal(sl__cache_create(&b->cache, b->store, b->io, &opt, &b->err), SL_OK);
    assert_int_equal(sl__cache_slots(b->cache), slots);
}

static void bed_open(bed *b, uint32_t slots)
{
    bed_open_io(b, slots, NULL, 3, 0);
}

static void bed_close(bed *b)
{
    sl__cache_destroy(b->cache);
    sl__io_destroy(b->io);
    io_shim_free(&b->shim);
}

static sl__cache_stats stats_of(const bed *b)
{
    sl__cache_stats s;
    sl__cache_stats_get(b->cache, &s);
    assert_int_equal(s.requests, s.hits + s.joins + s.misses);
    return s;
}

static sl__ticket *request(bed *b, uint32_t layer, const uint32_t *ids, uint32_t n)
{
    sl__ticket *t = NULL;
    assert_int_equal(sl__cache_request(b->cache, &t, layer, ids, n, false, &b->err), SL_OK);
    assert_non_null(t);
    return t;
}

/* Takes the next expert, which must come. */
static sl__expert_ref take(bed *b, sl__ticket *t, uint32_t layer)
{
    sl__expert_ref ref;
    bool got = false;
    sl_status status = sl__cache_next(b->cache, t, true, &ref, &got, &b->err);
    if (status != SL_OK) print_message("%s\n", b->err.message);
    assert_int_equal(status, SL_OK);
    assert_true(got);
    assert_int_equal((uintptr_t)ref.record % 64, 0);
    assert_true(fake_store_matches(b->store, layer, ref.expert, ref.record));
    return ref;
}

static void assert_drained(bed *b, sl__ticket *t)
{
    sl__expert_ref ref;
    bool got = true;
    assert_int_equal(sl__cache_next(b->cache, t, true, &ref, &got, &b->err), SL_OK);
    assert_false(got);
}

/* A whole request, each expert released before the next is taken. */
static void use(bed *b, uint32_t layer, const uint32_t *ids, uint32_t n)
{
    sl__ticket *t = request(b, layer, ids, n);
    for (uint32_t i = 0; i < n; i++) {
        sl__expert_ref ref = take(b, t, layer);
        assert_int_equal(ref.expert, ids[ref.index]);
        sl__cache_release(b->cache, t, &ref);
    }
    assert_drained(b, t);
    sl__cache_end(b->cache, t);
}

static void use_one(bed *b, uint32_t layer, uint32_t id)
{
    use(b, layer, &id, 1);
}

static bool is_hit(bed *b, uint32_t layer, uint32_t id)
{
    uint64_t before = stats_of(b).hits;
    use_one(b, layer, id);
    return stats_of(b).hits > before;
}

static sl_status next_error(bed *b, sl__ticket *t)
{
    sl__expert_ref ref;
    bool got = true;
    sl_status status = SL_OK;
    sl_error_clear(&b->err);
    while (got && status == SL_OK) {
        status = sl__cache_next(b->cache, t, true, &ref, &got, &b->err);
        if (status == SL_OK && got) sl__cache_release(b->cache, t, &ref);
    }
    assert_false(got);
    return status;
}

static void all_ids(uint32_t *ids, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        ids[i] = i;
}

/* ---- budget ---------------------------------------------------------------------------------- */

static sl_status create_within(bed *b, uint64_t budget, uint32_t layer_count, uint32_t *slots)
{
    sl__cache_options opt = {.budget_bytes = budget, .layer_count = layer_count};
    sl_error_clear(&b->err);
    sl_status status = sl__cache_create(&b->cache, b->store, b->io, &opt, &b->err);
    if (status != SL_OK) {
        assert_null(b->cache);
        return status;
    }
    const sl__cache *c = b->cache;
    uint64_t slab_pages = (c->slab_bytes + 4095) / 4096 * 4096;
    assert_true((uint64_t)c->slot_count * c->plan.slot_bytes <= c->slab_bytes);
    assert_true(c->arena.block_bytes == c->arena.used_bytes); /* one block, full */
    assert_true(c->arena.block_bytes + slab_pages <= budget);
    *slots = sl__cache_slots(c);
    sl__cache_destroy(b->cache);
    return SL_OK;
}

static void test_budget(void **state)
{
    bed *b = *state;
    uint32_t slots = 0;
    uint64_t least = sl__cache_minimum(b->store, LAYERS);
    uint64_t most = sl__cache_maximum(b->store, LAYERS);
    assert_true(least >= 2 * SLOT && least < most && most >= (uint64_t)RECORDS * SLOT);
    assert_int_equal(create_within(b, least - 1, LAYERS, &slots), SL_EBUDGET);
    char text[200];
    snprintf(text, sizeof text,
             "the expert cache needs at least %llu bytes (two experts of 3072 bytes and its "
             "tables), the budget is %llu",
             (unsigned long long)least, (unsigned long long)least - 1);
    assert_string_equal(b->err.message, text);
    assert_int_equal(create_within(b, 0, LAYERS, &slots), SL_EBUDGET);

    assert_int_equal(create_within(b, least, LAYERS, &slots), SL_OK);
    assert_int_equal(slots, 2);
    uint32_t last = 2;
    for (uint64_t budget = least; budget < most; budget += 1000) {
        assert_int_equal(create_within(b, budget, LAYERS, &slots), SL_OK);
        assert_true(slots >= last && slots <= RECORDS);
        assert_true(budget_of(b, slots) <= budget && budget_of(b, slots + 1) > budget);
        last = slots;
    }
    assert_int_equal(create_within(b, most - 1, LAYERS, &slots), SL_OK);
    assert_int_equal(slots, RECORDS - 1);
    assert_int_equal(create_within(b, most, LAYERS, &slots), SL_OK);
    assert_int_equal(slots, RECORDS);
    assert_int_equal(create_within(b, UINT64_MAX, LAYERS, &slots), SL_OK);
    assert_int_equal(slots, RECORDS);
    /* Only the layers served count. */
    assert_true(sl__cache_maximum(b->store, 1) < (uint64_t)65 * 512 + 20480);
    sl__cache_destroy(NULL);
}

static void test_large_records_are_page_aligned(void **state)
{
    (void)state;
    static const fake_layer large[] = {{.experts = 5, .extents = 3, .extent_bytes = 5000}};
    char dir[256];
    test_temp_dir(dir, sizeof dir);
    bed b = {0};
    b.store = fake_store_open(dir, large, 1);
    sl__io_options io_opt = {.depth = 2};
    assert_int_equal(sl__io_create(&b.io, SL_IO_KIND_PREAD, &io_opt, NULL), SL_OK);
    sl__cache_options opt = {.budget_bytes = sl__cache_maximum(b.store, 1), .layer_count = 1};
    assert_int_equal(sl__cache_create(&b.cache, b.store, b.io, &opt, NULL), SL_OK);
    uint32_t ids[] = {4, 3, 2, 1, 0};
    sl__ticket *t = request(&b, 0, ids, 5);
    for (uint32_t i = 0; i < 5; i++) {
        sl__expert_ref ref = take(&b, t, 0);
        assert_int_equal((uintptr_t)ref.record % 4096, 0);
    }
    sl__cache_end(b.cache, t);
    assert_int_equal(b.cache->plan.slot_bytes, 16384);
    sl__cache_destroy(b.cache);
    sl__io_destroy(b.io);
    fake_store_close(b.store);
    test_remove_tree(dir);
}

static void test_no_experts_at_all(void **state)
{
    bed *b = *state;
    static const fake_layer dense[] = {{0, 0, 0}, {0, 0, 0}};
    sl__store *kept = b->store;
    uint32_t slots = 9;
    b->store = fake_store_open(b->dir, dense, 2);
    assert_int_equal(sl__cache_minimum(b->store, 2), sl__cache_maximum(b->store, 2));
    assert_int_equal(create_within(b, sl__cache_minimum(b->store, 2), 2, &slots), SL_OK);
    assert_int_equal(slots, 0);
    fake_store_close(b->store);
    b->store = fake_store_open(b->dir, layers, LAYERS);
    fake_store_close(kept);
}

/* ---- tickets --------------------------------------------------------------------------------- */

static void test_hits_come_first(void **state)
{
    bed *b = *state;
    bed_open(b, 20);
    use(b, 0, (uint32_t[]){3, 9, 5}, 3);
    sl__cache_stats s = stats_of(b);
    assert_int_equal(s.misses, 3);
    assert_int_equal(s.bytes_read, 3 * 512);

    uint32_t ids[] = {1, 5, 2, 3, 9, 40};
    sl__ticket *t = request(b, 0, ids, 6);
    static const uint32_t order[] = {5, 3, 9};
    bool seen[6] = {false};
    sl__expert_ref refs[6];
    for (uint32_t i = 0; i < 6; i++) {
        refs[i] = take(b, t, 0);
        if (i < 3) assert_int_equal(refs[i].expert, order[i]);
        assert_int_equal(ids[refs[i].index], refs[i].expert);
        assert_false(seen[refs[i].index]);
        seen[refs[i].index] = true;
    }
    assert_drained(b, t);
    for (uint32_t i = 0; i < 6; i++)
        sl__cache_release(b->cache, t, &refs[i]);
    assert_drained(b, t);
    sl__cache_end(b->cache, t);
    s = stats_of(b);
    assert_int_equal(s.requests, 9);
    assert_int_equal(s.hits, 3);
    assert_int_equal(s.misses, 6);
    assert_int_equal(s.evictions, 0);
    assert_int_equal(s.bytes_needed, 9 * 512);
    assert_int_equal(s.bytes_read, 6 * 512);
    assert_int_equal(s.bytes_read, b->io->bytes_read);
    bed_close(b);
}

static void test_two_slots_serve_all_experts(void **state)
{
    bed *b = *state;
    uint32_t ids[64];
    all_ids(ids, 64);
    bed_open(b, 2);
    for (unsigned round = 0; round < 3; round++)
        use(b, 0, ids, 64);
    use(b, 3, ids, 24); /* twelve reads an expert */
    sl__cache_stats s = stats_of(b);
    assert_int_equal(s.requests, 3 * 64 + 24);
    assert_int_equal(s.bytes_needed, 3 * 64 * 512 + 24 * 2400);
    assert_int_equal(s.bytes_read, (s.misses - 24) * 512 + 24 * 2400);
    assert_int_equal(s.evictions, s.misses - 2);
    bed_close(b);
}

/* Hits fill every slot: the misses of the same request wait until hits are given back, and evict
 * none that has not been given out. */
static void test_hits_are_not_evicted_by_their_own_ticket(void **state)
{
    bed *b = *state;
    bed_open(b, 4);
    use(b, 0, (uint32_t[]){0, 1, 2, 3}, 4);
    uint32_t ids[] = {10, 11, 12, 0, 1, 2, 3, 13, 14};
    sl__ticket *t = request(b, 0, ids, 9);
    sl__cache_stats s = stats_of(b);
    assert_int_equal(s.hits, 4);
    assert_int_equal(s.evictions, 0);
    for (uint32_t i = 0; i < 9; i++) {
        sl__expert_ref ref = take(b, t, 0);
        if (i < 4) assert_int_equal(ref.expert, i);
        sl__cache_release(b->cache, t, &ref);
    }
    assert_drained(b, t);
    sl__cache_end(b->cache, t);
    bed_close(b);
}

static void test_all_slots_in_the_callers_hands(void **state)
{
    bed *b = *state;
    bed_open(b, 3);
    uint32_t ids[] = {0, 1, 2, 3, 4};
    sl__ticket *t = request(b, 1, ids, 5);
    sl__expert_ref refs[3], ref;
    bool got = true;
    for (uint32_t i = 0; i < 3; i++)
        refs[i] = take(b, t, 1);
    assert_int_equal(sl__cache_next(b->cache, t, false, &ref, &got, &b->err), SL_OK);
    assert_false(got);
    assert_int_equal(sl__cache_next(b->cache, t, true, &ref, &got, &b->err), SL_EINVAL);
    assert_string_equal(b->err.message,
                        "layer 1: all 3 slots of the expert cache are in use by the caller");
    assert_false(got);
    sl_error_clear(&b->err);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(fake_store_matches(b->store, 1, refs[i].expert, refs[i].record));
    }
    sl__cache_release(b->cache, t, &refs[1]); /* no harm done: it goes on */
    ref = take(b, t, 1);
    sl__cache_release(b->cache, t, &ref);
    ref = take(b, t, 1);
    assert_drained(b, t);
    sl__cache_end(b->cache, t); /* with refs 0, 2 and the last still out */
    assert_true(is_hit(b, 1, refs[0].expert));
    bed_close(b);
}

static void test_next_without_wait(void **state)
{
    bed *b = *state;
    bed_open(b, 8);
    use_one(b, 4, 7);
    io_shim_close_gate(&b->shim);
    sl__ticket *t = request(b, 4, (uint32_t[]){3, 7, 4}, 3);
    sl__expert_ref ref;
    bool got = false;
    assert_int_equal(sl__cache_next(b->cache, t, false, &ref, &got, &b->err), SL_OK);
    assert_true(got);
    assert_int_equal(ref.expert, 7);
    assert_int_equal(sl__cache_next(b->cache, t, false, &ref, &got, &b->err), SL_OK);
    assert_false(got);
    io_shim_open_gate(&b->shim);
    for (unsigned n = 0; n < 2;) { /* polling alone brings the completions in */
        assert_int_equal(sl__cache_next(b->cache, t, false, &ref, &got, &b->err), SL_OK);
        if (!got) continue;
        assert_true(fake_store_matches(b->store, 4, ref.expert, ref.record));
        n++;
    }
    assert_int_equal(sl__cache_next(b->cache, t, false, &ref, &got, &b->err), SL_OK);
    assert_false(got);
    sl__cache_end(b->cache, t);
    uint64_t waited = stats_of(b).wait_ns;
    assert_true(is_hit(b, 4, 3));
    assert_int_equal(stats_of(b).wait_ns, waited); /* a hit is not waited for */
    bed_close(b);
}

static void test_request_is_checked(void **state)
{
    bed *b = *state;
    bed_open(b, 4);
    static const struct {
        uint32_t layer, n;
        uint32_t ids[3];
        const char *message;
    } bad[] = {
        {5, 1, {0}, "layer 5 of 5"},
        {1, 2, {0, 16}, "layer 1: expert 16 of 16"},
        {1, 3, {7, 2, 7}, "layer 1: expert 7 is asked for twice"},
        {1, 17, {0}, "layer 1: 17 experts asked for, there are 16"},
        {2, 1, {0}, "layer 2: 1 experts asked for, there are 0"},
    };
    sl__ticket *t;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sl_error_clear(&b->err);
        assert_int_equal(
            sl__cache_request(b->cache, &t, bad[i].layer, bad[i].ids, bad[i].n, false, &b->err),
            SL_EINVAL);
        assert_string_equal(b->err.message, bad[i].message);
        assert_null(t);
    }
    assert_int_equal(stats_of(b).requests, 0);
    use(b, 1, (uint32_t[]){7, 2}, 2); /* the refused ones left nothing behind */
    use(b, 2, NULL, 0);
    use(b, 0, NULL, 0);
    t = request(b, 0, (uint32_t[]){1}, 1);
    sl__ticket *second;
    sl_error_clear(&b->err);
    assert_int_equal(sl__cache_request(b->cache, &second, 0, bad[0].ids, 1, false, &b->err),
                     SL_EINVAL);
    assert_string_equal(b->err.message, "layer 0: the last request for experts has not ended");
    sl__cache_end(b->cache, t);
    bed_close(b);
}

static void test_ended_ticket_goes_on_loading(void **state)
{
    bed *b = *state;
    bed_open(b, 8);
    io_shim_close_gate(&b->shim);
    sl__ticket *t = request(b, 1, (uint32_t[]){0, 1, 2}, 3);
    sl__cache_end(b->cache, t);
    t = request(b, 1, (uint32_t[]){2, 5, 1}, 3);
    sl__cache_stats s = stats_of(b);
    assert_int_equal(s.joins, 2);
    assert_int_equal(s.misses, 4);
    io_shim_open_gate(&b->shim);
    for (uint32_t i = 0; i < 3; i++)
        take(b, t, 1);
    sl__cache_end(b->cache, t);
    while (b->cache->reads_in_flight > 0)
        sl__loads_collect(b->cache, true);
    assert_true(is_hit(b, 1, 0));
    s = stats_of(b);
    assert_int_equal(s.bytes_read, 4 * fake_store_disk_bytes(b->store, 1));
    bed_close(b);
}

/* A byte an expert, a row a layer that has any. */
static const uint8_t *map_of(const bed *b, uint8_t *state)
{
    sl_expert_map map = {.state = NULL};
    sl__cache_map(b->cache, &map);
    assert_int_equal(map.layers, LAYERS - 1);
    assert_int_equal(map.experts, 64);
    map.state = state;
    sl__cache_map(b->cache, &map);
    return state;
}

static void test_map(void **state)
{
    bed *b = *state;
    uint8_t map[(LAYERS - 1) * 64 + 1];
    const uint32_t rows[] = {0, 1, 3, 4};
    bed_open(b, 10);
    memset(map, 0x55, sizeof map);
    map_of(b, map);
    for (unsigned i = 0; i + 1 < sizeof map; i++)
        assert_int_equal(map[i], SL_EXPERT_PASSES); /* absent and never used, or no expert at all */
    assert_int_equal(map[sizeof map - 1], 0x55);
    for (uint32_t pass = 0; pass < 200; pass++) {
        for (uint32_t r = 0; r < 4; r++) {
            const uint32_t ids[] = {0, 5 + pass % 3};
            use(b, rows[r], ids, pass == 0 ? 2 : r == 3 ? 0 : 1);
        }
        map_of(b, map);
        assert_int_equal(map[0], SL_EXPERT_HELD);
        assert_int_equal(map[2 * 64], SL_EXPERT_HELD);
        assert_int_equal(map[2 * 64 + 24], SL_EXPERT_PASSES);
        uint8_t age = (uint8_t)(pass < SL_EXPERT_PASSES ? pass : SL_EXPERT_PASSES);
        assert_int_equal(map[5], SL_EXPERT_HELD | age);
        assert_int_equal(map[3 * 64], SL_EXPERT_HELD | age);
    }
    sl__cache_drop(b->cache);
    map_of(b, map);
    assert_int_equal(map[0], 0); /* used by the last pass, and gone */
    bed_close(b);
}

static void test_map_in_the_middle(void **state)
{
    bed *b = *state;
    uint8_t map[(LAYERS - 1) * 64];
    bed_open(b, 10);
    use_one(b, 0, 7);
    use_one(b, 1, 3);
    use_one(b, 0, 8); /* the pass before was broken off after two layers */
    use_one(b, 1, 3);
    use_one(b, 3, 3);
    map_of(b, map);
    assert_int_equal(map[8], SL_EXPERT_HELD);
    assert_int_equal(map[64 + 3], SL_EXPERT_HELD);
    assert_int_equal(map[7], SL_EXPERT_HELD | 1);
    use_one(b, 4, 30);
    const uint32_t many[] = {0, 1, 2, 4, 5, 6, 9, 10, 11, 12, 13};
    use(b, 0, many, 11); /* more than there are slots */
    map_of(b, map);
    assert_int_equal(map[3 * 64 + 30], 0);
    unsigned held = 0;
    for (unsigned i = 0; i < sizeof map; i++)
        held += map[i] >> 7;
    assert_int_equal(held, 10);
    bed_close(b);
}

static void test_drop(void **state)
{
    bed *b = *state;
    bed_open(b, 8);
    use(b, 0, (uint32_t[]){0, 1, 2}, 3);
    sl__ticket *t = request(b, 0, (uint32_t[]){2, 3, 4, 5}, 4);
    sl__expert_ref held = take(b, t, 0);
    assert_int_equal(held.expert, 2);
    sl__cache_drop(b->cache);
    assert_true(fake_store_matches(b->store, 0, 2, held.record));
    for (unsigned i = 0; i < 3; i++)
        take(b, t, 0);
    sl__cache_end(b->cache, t);
    assert_false(is_hit(b, 0, 0));
    assert_true(is_hit(b, 0, 2));

    t = request(b, 0, (uint32_t[]){20, 21, 22}, 3);
    sl__cache_end(b->cache, t);
    sl__cache_drop(b->cache); /* with loads that nobody waits for */
    assert_int_equal(b->cache->reads_in_flight, 0);
    for (uint32_t i = 20; i < 23; i++)
        assert_false(is_hit(b, 0, i));
    bed_close(b);
}

static void test_destroy_at_any_time(void **state)
{
    bed *b = *state;
    uint32_t ids[24];
    all_ids(ids, 24);
    io_shim_rules rules = {.delay = 500, .delay_us = 300};
    for (uint32_t round = 0; round < 12; round++) {
        /* A bound of 7 reads cuts the queue of an expert's 12 in two. */
        bed_open_io(b, 2 + round * 2, &rules, 2, round % 2 ? 7 : 0);
        sl__ticket *t = request(b, 3, ids, 24);
        for (uint32_t i = 0; i < round % 3; i++)
            take(b, t, 3);
        if (round % 4 == 0) sl__cache_end(b->cache, t);
        bed_close(b);
    }
}

/* ---- eviction -------------------------------------------------------------------------------- */

static void test_least_recently_used_goes(void **state)
{
    bed *b = *state;
    bed_open(b, 6);
    for (uint32_t i = 0; i < 6; i++)
        use_one(b, 0, i);
    use_one(b, 0, 10); /* 0 goes */
    use_one(b, 0, 11); /* 1 goes */
    assert_int_equal(stats_of(b).evictions, 2);
    for (uint32_t i = 2; i < 6; i++)
        assert_true(is_hit(b, 0, i));
    assert_false(is_hit(b, 0, 0)); /* in the place of 10, the coldest now */
    assert_true(is_hit(b, 0, 11));
    bed_close(b);
}

/* The policy before it was told of any ranking, in the plainest way: key[0] is the coldest. */
typedef struct plain_policy {
    uint32_t key[RECORDS], count;
} plain_policy;

static void plain_remove(plain_policy *p, uint32_t at)
{
    p->count--;
    for (uint32_t i = at; i < p->count; i++)
        p->key[i] = p->key[i + 1];
}

static void plain_evict(plain_policy *p) { plain_remove(p, 0); }

static uint32_t plain_find(const plain_policy *p, uint32_t key)
{
    uint32_t i = 0;
    while (i < p->count && p->key[i] != key)
        i++;
    return i;
}

static uint32_t pick(test_rng *rng, uint32_t layer, uint32_t *ids, uint32_t most)
{
    uint32_t all = layers[layer].experts, perm[64];
    uint32_t n = 1 + test_rng_below(rng, most < all ? most : all);
    all_ids(perm, all);
    for (uint32_t i = 0; i < n; i++) {
        /* Low ids are popular. */
        uint32_t a = test_rng_below(rng, all - i), c = test_rng_below(rng, all - i);
        uint32_t at = i + (a < c ? a : c);
        ids[i] = perm[at];
        perm[at] = perm[i];
    }
    return n;
}

/* Requests that fit the slots, used to the end: hits, misses and evictions are all determined. */
static void test_counts_equal_a_plain_model(void **state)
{
    bed *b = *state;
    static const uint32_t served[] = {0, 1, 3, 4}, base[] = {0, 64, 0, 80, 104};
    test_rng rng = {11};
    for (uint32_t slots = 2; slots <= RECORDS; slots += slots / 2) {
        plain_policy p = {.count = 0};
        uint64_t hits = 0, misses = 0, evictions = 0, needed = 0, bytes = 0;
        bed_open(b, slots);
        for (unsigned round = 0; round < 400; round++) {
            uint32_t layer = served[test_rng_below(&rng, 4)], ids[64];
            uint32_t n = pick(&rng, layer, ids, slots < 12 ? slots : 12), missing = 0;
            for (uint32_t i = 0; i < n; i++) {
                uint32_t at = plain_find(&p, base[layer] + ids[i]);
                bool hit = at < p.count;
                if (hit)
                    plain_remove(&p, at), hits++;
                else
                    missing++;
            }
            uint32_t held = n - missing;
            for (uint32_t i = 0; i < missing; i++) {
                if (p.count + held == slots) plain_evict(&p), evictions++;
                held++;
            }
            misses += missing;
            needed += n * fake_store_disk_bytes(b->store, layer);
            bytes += missing * fake_store_disk_bytes(b->store, layer);

            sl__ticket *t = request(b, layer, ids, n);
            sl__expert_ref refs[64];
            for (uint32_t i = 0; i < n; i++)
                refs[i] = take(b, t, layer);
            for (uint32_t left = n; left > 0; left--) { /* released in any order */
                uint32_t at = test_rng_below(&rng, left);
                sl__cache_release(b->cache, t, &refs[at]);
                p.key[p.count++] = base[layer] + refs[at].expert;
                refs[at] = refs[left - 1];
            }
            sl__cache_end(b->cache, t);
            sl__cache_stats s = stats_of(b);
            assert_int_equal(s.hits, hits);
            assert_int_equal(s.misses, misses);
            assert_int_equal(s.evictions, evictions);
            assert_int_equal(s.bytes_needed, needed);
            assert_int_equal(s.bytes_read, bytes);
        }
        assert_true(slots > 2 || hits > 0);
        bed_close(b);
    }
}

static void test_everything_fits(void **state)
{
    bed *b = *state;
    uint32_t ids[64];
    all_ids(ids, 64);
    bed_open(b, RECORDS);
    for (unsigned round = 0; round < 3; round++) {
        for (uint32_t l = 0; l < LAYERS; l++)
            use(b, l, ids, layers[l].experts);
    }
    sl__cache_stats s = stats_of(b);
    assert_int_equal(s.misses, RECORDS);
    assert_int_equal(s.hits, 2 * RECORDS);
    assert_int_equal(s.evictions, 0);
    bed_close(b);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void assert_failure(bed *b, const char *file, const char *rest)
{
    char text[700];
    snprintf(text, sizeof text, "%s/%s: %s", b->dir, file, rest);
    assert_string_equal(b->err.message, text);
}

static void test_read_error(void **state)
{
    bed *b = *state;
    bed_open_io(b, 30, NULL, 1, 0);
    use(b, 3, (uint32_t[]){1, 2}, 2);
    /* One extent of twelve fails, in the layer's second file. */
    sl__extent x[SL_EXPERT_EXTENTS_MAX];
    sl__store_expert_extents(b->store, 3, 17, x);
    io_shim_rules rules = {.bad_from = x[5].offset, .bad_to = x[5].offset + 1};
    rules.bad_fd = 0;
    io_shim_change(&b->shim, &rules);
    sl__ticket *t = request(b, 3, (uint32_t[]){17, 1, 9}, 3);
    assert_int_equal(next_error(b, t), SL_EIO);
    assert_failure(b, "layer-3-1.bin", "layer 3 expert 17: read failed: Input/output error");
    assert_int_equal(next_error(b, t), SL_EIO); /* until the ticket ends */
    assert_failure(b, "layer-3-1.bin", "layer 3 expert 17: read failed: Input/output error");
    sl__cache_end(b->cache, t);

    io_shim_change(&b->shim, NULL);
    sl_error_clear(&b->err);
    use(b, 3, (uint32_t[]){17, 1, 9, 2}, 4);
    bed_close(b);
}

static void test_file_ends_early(void **state)
{
    bed *b = *state;
    io_shim_rules rules = {.end_at = 1000};
    bed_open_io(b, 30, &rules, 2, 0);
    use_one(b, 0, 63); /* the files are filled backwards */
    sl__ticket *t = request(b, 0, (uint32_t[]){63, 4}, 2);
    assert_int_equal(next_error(b, t), SL_EFORMAT);
    assert_failure(b, "layer-0-0.bin", "layer 0 expert 4: the file ends early");
    sl__cache_end(b->cache, t);
    io_shim_change(&b->shim, NULL);
    assert_false(is_hit(b, 0, 4));
    bed_close(b);
}

static void test_wrong_checksum(void **state)
{
    bed *b = *state;
    bed_open(b, 8);
    fake_store_damage(b->store, 4, 6);
    sl__ticket *t = request(b, 4, (uint32_t[]){5, 6}, 2);
    assert_int_equal(next_error(b, t), SL_ECORRUPT);
    assert_failure(b, "layer-4-0.bin", "layer 4 expert 6: differs from its checksum, read twice");
    assert_int_equal(next_error(b, t), SL_ECORRUPT);
    sl__cache_end(b->cache, t);
    fake_store_damage(b->store, 4, 6); /* mended */
    sl_error_clear(&b->err);
    uint64_t calls = fake_store_verify_calls(b->store);
    assert_false(is_hit(b, 4, 6));
    assert_true(is_hit(b, 4, 6));
    assert_int_equal(fake_store_verify_calls(b->store), calls + 1); /* at the read, not at a hit */

    /* A record that came in for an ended ticket is checked before it is first given out. */
    fake_store_damage(b->store, 4, 9);
    t = request(b, 4, (uint32_t[]){9}, 1);
    sl__cache_end(b->cache, t);
    while (b->cache->reads_in_flight > 0)
        sl__loads_collect(b->cache, true);
    t = request(b, 4, (uint32_t[]){9}, 1);
    assert_int_equal(stats_of(b).hits, 2);
    assert_int_equal(next_error(b, t), SL_ECORRUPT);
    sl__cache_end(b->cache, t);
    fake_store_damage(b->store, 4, 9);
    bed_close(b);
}

/* A load that fails when nobody waits for it is simply absent. */
static void test_failure_after_the_end(void **state)
{
    bed *b = *state;
    io_shim_rules rules = {.eio = 1000};
    bed_open_io(b, 4, &rules, 2, 5);
    for (unsigned i = 0; i < 3; i++) {
        sl__ticket *t = request(b, 3, (uint32_t[]){0, 1, 2, 3, 4, 5}, 6);
        sl__cache_end(b->cache, t);
    }
    sl__cache_drop(b->cache);
    io_shim_change(&b->shim, NULL);
    uint64_t joins = stats_of(b).joins;
    use(b, 3, (uint32_t[]){0, 1, 2, 3, 4, 5}, 6);
    assert_int_equal(stats_of(b).joins, joins);
    assert_int_equal(stats_of(b).hits, 0);
    bed_close(b);
}

/* An engine that refuses to take reads is an error of the load, not a hang. */
static sl_status refuse(sl__io *io, const sl__io_read *reads, uint32_t n, sl_error *err)
{
    (void)io, (void)reads, (void)n, (void)err;
    return SL_ENOMEM;
}

static void test_refused_submit(void **state)
{
    bed *b = *state;
    bed_open(b, 4);
    const sl__io_ops *real = b->io->ops;
    sl__io_ops refusing = *real;
    refusing.submit = refuse;
    b->io->ops = &refusing;
    sl__ticket *t = request(b, 1, (uint32_t[]){8, 3}, 2);
    assert_int_equal(next_error(b, t), SL_ENOMEM);
    assert_failure(b, "layer-1-0.bin", "layer 1 expert 8: the read was given up (SL_ENOMEM)");
    sl__cache_end(b->cache, t);
    b->io->ops = real;
    sl_error_clear(&b->err);
    use(b, 1, (uint32_t[]){8, 3}, 2);
    bed_close(b);
}

/* ---- at random ------------------------------------------------------------------------------- */

typedef struct stress {
    bed *b;
    test_rng rng;
    bool faults;
    uint64_t asked, needed, errors, ended, drained;
    sl__expert_ref held[64];
    uint32_t held_count;
} stress;

static void stress_release(stress *s, sl__ticket *t, uint32_t layer)
{
    uint32_t at = test_rng_below(&s->rng, s->held_count);
    /* What is pinned does not change under the caller. */
    assert_true(fake_store_matches(s->b->store, layer, s->held[at].expert, s->held[at].record));
    sl__cache_release(s->b->cache, t, &s->held[at]);
    s->held[at] = s->held[--s->held_count];
}

static void stress_hold(stress *s, const sl__expert_ref *ref, uint32_t layer, const uint32_t *ids,
                        bool *given)
{
    assert_int_equal(ref->expert, ids[ref->index]);
    assert_false(given[ref->index]);
    given[ref->index] = true;
    assert_true(fake_store_matches(s->b->store, layer, ref->expert, ref->record));
    for (uint32_t i = 0; i < s->held_count; i++) {
        assert_int_not_equal(s->held[i].slot, ref->slot);
        assert_ptr_not_equal(s->held[i].record, ref->record);
    }
    s->held[s->held_count++] = *ref;
}

/* One request, used in any manner that the interface allows. */
static void stress_ticket(stress *s, uint32_t layer, const uint32_t *ids, uint32_t n)
{
    bed *b = s->b;
    bool given[64] = {false}, early = test_rng_below(&s->rng, 8) == 0;
    uint32_t hands = 1 + test_rng_below(&s->rng, 12), out = 0;
    sl__ticket *t = request(b, layer, ids, n);
    s->held_count = 0;
    s->asked += n;
    s->needed += n * fake_store_disk_bytes(b->store, layer);
    for (;;) {
        if (early && test_rng_below(&s->rng, 4) == 0) break;
        while (s->held_count >= hands)
            stress_release(s, t, layer);
        bool wait = test_rng_below(&s->rng, 3) > 0, got;
        sl__expert_ref ref;
        sl_error_clear(&b->err);
        sl_status status = sl__cache_next(b->cache, t, wait, &ref, &got, &b->err);
        if (status == SL_EINVAL) { /* all slots in our hands: give one back */
            assert_int_equal(s->held_count, sl__cache_slots(b->cache));
            stress_release(s, t, layer);
            continue;
        }
        if (status != SL_OK) {
            assert_true(s->faults && status == SL_EIO);
            assert_non_null(strstr(b->err.message, "read failed: Input/output error"));
            s->errors++;
            break;
        }
        if (got) {
            out++;
            stress_hold(s, &ref, layer, ids, given);
        } else if (wait) {
            assert_int_equal(out, n);
            s->drained++;
            break;
        }
        if (s->held_count > 0 && test_rng_below(&s->rng, 2)) stress_release(s, t, layer);
    }
    s->ended++;
    while (s->held_count > 0 && test_rng_below(&s->rng, 3))
        stress_release(s, t, layer);
    sl__cache_end(b->cache, t);
}

/* Returns how many tickets failed. */
static uint64_t stress_run(bed *b, uint32_t slots, uint32_t max_reads, bool faults,
                           unsigned tickets)
{
    static const uint32_t served[] = {0, 0, 0, 1, 1, 3, 4, 4};
    io_shim_rules rules = {.cut = 50, .eintr = 30, .delay = 5, .delay_us = 100};
    if (faults) rules.eio = 5, rules.eagain = 5;
    stress s = {.b = b, .rng = {slots * 1000 + max_reads}, .faults = faults};
    bed_open_io(b, slots, &rules, 3, max_reads);
    for (unsigned i = 0; i < tickets; i++) {
        uint32_t layer = served[test_rng_below(&s.rng, 8)], ids[64];
        /* Mostly a token's few experts, at times a prefill's many. */
        uint32_t n = pick(&s.rng, layer, ids, test_rng_below(&s.rng, 10) ? 8 : 64);
        stress_ticket(&s, layer, ids, n);
        if (test_rng_below(&s.rng, 300) == 0) sl__cache_drop(b->cache);
        sl__cache_stats st = stats_of(b);
        assert_int_equal(st.requests, s.asked);
        assert_int_equal(st.bytes_needed, s.needed);
        assert_true(st.evictions <= st.misses);
    }
    assert_int_equal(s.ended, tickets);
    assert_true(s.drained > tickets / 4);

    /* The disk is well again: everything can be had, and what was read adds up. */
    io_shim_change(&b->shim, NULL);
    sl__cache_drop(b->cache);
    sl_error_clear(&b->err);
    uint32_t ids[64];
    all_ids(ids, 64);
    for (uint32_t l = 0; l < LAYERS; l++)
        use(b, l, ids, layers[l].experts);
    assert_int_equal(b->cache->reads_in_flight, 0);
    assert_int_equal(stats_of(b).bytes_read, b->io->bytes_read);
    bed_close(b);
    return s.errors;
}

static void test_stress(void **state)
{
    bed *b = *state;
    static const uint32_t slots[] = {2, 3, 5, 16, 40, 100, RECORDS};
    static const uint32_t max_reads[] = {1, 5, 12, 0};
    unsigned tickets = test_fast() ? 100 : 600;
    uint64_t errors = 0;
    for (size_t i = 0; i < sizeof slots / sizeof *slots; i++) {
        for (size_t j = 0; j < sizeof max_reads / sizeof *max_reads; j++) {
            errors += stress_run(b, slots[i], max_reads[j], (i + j) % 2, tickets);
        }
    }
    assert_true(errors > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_large_records_are_page_aligned),
        cmocka_unit_test(test_no_experts_at_all),
        cmocka_unit_test(test_hits_come_first),
        cmocka_unit_test(test_two_slots_serve_all_experts),
        cmocka_unit_test(test_hits_are_not_evicted_by_their_own_ticket),
        cmocka_unit_test(test_all_slots_in_the_callers_hands),
        cmocka_unit_test(test_next_without_wait),
        cmocka_unit_test(test_request_is_checked),
        cmocka_unit_test(test_ended_ticket_goes_on_loading),
        cmocka_unit_test(test_map),
        cmocka_unit_test(test_map_in_the_middle),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_destroy_at_any_time),
        cmocka_unit_test(test_least_recently_used_goes),
        cmocka_unit_test(test_counts_equal_a_plain_model),
        cmocka_unit_test(test_everything_fits),
        cmocka_unit_test(test_read_error),
        cmocka_unit_test(test_file_ends_early),
        cmocka_unit_test(test_wrong_checksum),
        cmocka_unit_test(test_failure_after_the_end),
        cmocka_unit_test(test_refused_submit),
        cmocka_unit_test(test_stress),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
