/* A budget that changes while the cache lives: slots are retired and taken up, what is held never
 * exceeds the budget, the pages really are the system's, and no record is ever wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/pages.h"
#include "base/sysmem.h"
#include "cache/cache_private.h"
#include "fake_store.h"
#include "io_shim.h"
#include "test_env.h"

/* Slots of whole pages; the slab of all of them is larger than what is made of huge pages. */
#define BIG ((uint32_t)60000)
static const fake_layer big[] = {
    {.experts = 128, .extents = 1, .extent_bytes = BIG},
    {.experts = 96, .extents = 3, .extent_bytes = 20000},
};
/* Several slots a page. */
static const fake_layer small[] = {
    {.experts = 64, .extents = 1, .extent_bytes = 512},
    {.experts = 40, .extents = 3, .extent_bytes = 300},
};
#define LAYERS 2u

typedef struct bed {
    char dir[256];
    const fake_layer *layers;
    sl__store *store;
    io_shim shim;
    sl__io *io;
    sl__cache *cache;
    uint32_t records;
    sl_error err;
} bed;

static void bed_open(bed *b, const fake_layer *layers, uint32_t slots, const io_shim_rules *rules)
{
    sl__cache_plan plan;
    test_temp_dir(b->dir, sizeof b->dir);
    b->layers = layers;
    b->records = layers[0].experts + layers[1].experts;
    b->store = fake_store_open(b->dir, layers, LAYERS);
    io_shim_init(&b->shim, 5, rules);
    const sl__io_options io = {.depth = 3, .pread_fn = io_shim_pread, .pread_ctx = &b->shim};
    assert_int_equal(sl__io_create(&b->io, SL_IO_KIND_PREAD, &io, &b->err), SL_OK);
    assert_true(sl__cache_plan_make(&plan, b->store, LAYERS));
    const sl__cache_options opt = {.budget_bytes = sl__cache_plan_bytes(&plan, slots),
                                   .verify = SL_VERIFY_ALL,
                                   .layer_count = LAYERS};
    assert_int_equal(sl__cache_create(&b->cache, b->store, b->io, &opt, &b->err), SL_OK);
    assert_int_equal(sl__cache_slots(b->cache), slots);
}

static void bed_close(bed *b)
{
    sl__cache_destroy(b->cache);
    sl__io_destroy(b->io);
    io_shim_free(&b->shim);
    fake_store_close(b->store);
    test_remove_tree(b->dir);
}

static sl__cache_stats stats_of(const bed *b)
{
    sl__cache_stats s;
    sl__cache_stats_get(b->cache, &s);
    return s;
}

/* Bytes of the slab that are in memory. */
static uint64_t resident(const sl__cache *c)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (c->slab_bytes + page - 1) / page;
    unsigned char *in = malloc(pages);
    assert_non_null(in);
    assert_int_equal(mincore(c->slab, c->slab_bytes, (void *)in), 0);
    uint64_t sum = 0;
    for (size_t i = 0; i < pages; i++)
        sum += (in[i] & 1) ? page : 0;
    free(in);
    return sum;
}

/* A budget of so many slots beside the tables. */
static uint64_t budget_of(const bed *b, uint32_t slots)
{
    const sl__cache *c = b->cache;
    return sl__cache_plan_bytes(&c->plan, c->slot_count) -
           (uint64_t)(c->slot_count - slots) * c->plan.slot_bytes;
}

/* What must hold whenever nobody is inside. */
static void check_state(const bed *b)
{
    const sl__cache *c = b->cache;
    uint32_t retired = 0, listed = 0, free_slots = 0, held = 0;
    for (uint32_t s = 0; s < c->slot_count; s++) {
        const sl__slot *slot = &c->slots[s];
        retired += slot->state == SL_SLOT_RETIRED;
        held += slot->state == SL_SLOT_LOADING || slot->item != SL_ITEM_NONE;
        if (slot->state == SL_SLOT_READY)
            assert_int_equal(c->index[c->first[slot->layer] + slot->expert], s);
    }
    for (uint32_t s = c->retired_head; s != SL_SLOT_NONE; s = c->slots[s].next, listed++)
        assert_int_equal(c->slots[s].state, SL_SLOT_RETIRED);
    for (uint32_t s = c->free_head; s != SL_SLOT_NONE; s = c->slots[s].next, free_slots++)
        assert_int_equal(c->slots[s].state, SL_SLOT_FREE);
    assert_int_equal(listed, retired);
    assert_int_equal(c->usable_count, c->slot_count - retired);
    assert_true(free_slots <= c->usable_count);
    assert_true(c->target_count >= c->plan.slot_min);
    /* More than may be used are, only while they are held or loading. */
    if (!c->ticket.active) assert_true(c->usable_count <= c->target_count || held > 0);
    uint64_t tables = sl__cache_plan_table_bytes(&c->plan, c->slot_count);
    uint64_t overhead = sl__cache_plan_bytes(&c->plan, 0) - sl__cache_plan_table_bytes(&c->plan, 0);
    assert_int_equal(sl__cache_held_bytes(c),
                     tables + overhead + c->usable_count * c->plan.slot_bytes);
    assert_int_equal(stats_of(b).budget_bytes, budget_of(b, c->target_count));
}

static void use(bed *b, uint32_t layer, const uint32_t *ids, uint32_t n)
{
    sl__ticket *t;
    assert_int_equal(sl__cache_request(b->cache, &t, layer, ids, n, false, &b->err), SL_OK);
    for (uint32_t i = 0; i < n; i++) {
        sl__expert_ref ref;
        bool got;
        sl_status status = sl__cache_next(b->cache, t, true, &ref, &got, &b->err);
        if (status != SL_OK) fail_msg("%s", b->err.message);
        assert_true(got);
        assert_true(fake_store_matches(b->store, layer, ref.expert, ref.record));
        sl__cache_release(b->cache, t, &ref);
    }
    sl__cache_end(b->cache, t);
}

static void use_all(bed *b)
{
    uint32_t ids[128];
    for (uint32_t i = 0; i < 128; i++)
        ids[i] = i;
    for (uint32_t l = 0; l < LAYERS; l++)
        use(b, l, ids, b->layers[l].experts);
}

/* ---- what is held ---------------------------------------------------------------------------- */

static void test_memory_really_falls(void **state)
{
    (void)state;
    bed b = {0};
    bed_open(&b, big, 224, NULL);
    uint64_t slot = b.cache->plan.slot_bytes, before = sl__mem_rss();
    assert_int_equal(slot % 4096, 0);
    use_all(&b);
    uint64_t full = sl__mem_rss();
    assert_true(resident(b.cache) >= 220 * slot && resident(b.cache) <= 224 * slot);
    static const uint32_t counts[] = {100, 150, 7, 2, 224, 30};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        sl__cache_resize(b.cache, budget_of(&b, counts[i]));
        check_state(&b);
        assert_int_equal(sl__cache_slots(b.cache), counts[i]);
        assert_true(resident(b.cache) <= counts[i] * slot);
        use_all(&b); /* and stays so when all that may be used is */
        check_state(&b);
        assert_true(resident(b.cache) <= counts[i] * slot);
    }
    if (!test_fast()) { /* sanitizers keep memory of their own */
        assert_true(full >= before + 190 * slot);
        assert_true(sl__mem_rss() + 150 * slot <= full);
    }
    assert_int_equal(stats_of(&b).resizes, 6);
    bed_close(&b);
}

static void test_budgets_are_cut(void **state)
{
    (void)state;
    bed b = {0};
    bed_open(&b, small, 50, NULL);
    uint64_t whole = stats_of(&b).budget_bytes;
    assert_int_equal(whole, budget_of(&b, 50));
    sl__cache_resize(b.cache, UINT64_MAX);
    sl__cache_resize(b.cache, whole);
    sl__cache_resize(b.cache, whole + 100000);
    assert_int_equal(stats_of(&b).resizes, 0);
    sl__cache_resize(b.cache, 0);
    assert_int_equal(sl__cache_slots(b.cache), 2);
    sl__cache_resize(b.cache, sl__cache_minimum(b.store, LAYERS) - 1);
    assert_int_equal(stats_of(&b).resizes, 1);
    use_all(&b);
    /* Never a byte over: one less than a slot needs gives one slot less. */
    for (uint32_t slots = 3; slots <= 50; slots++) {
        sl__cache_resize(b.cache, budget_of(&b, slots) - 1);
        assert_int_equal(sl__cache_slots(b.cache), slots - 1);
        assert_true(sl__cache_held_bytes(b.cache) <= budget_of(&b, slots) - 1);
        sl__cache_resize(b.cache, budget_of(&b, slots));
        assert_int_equal(sl__cache_slots(b.cache), slots);
        assert_true(sl__cache_held_bytes(b.cache) <= budget_of(&b, slots));
        check_state(&b);
    }
    bed_close(&b);
}

/* Slots smaller than a page: a page goes when all of its slots have. */
static void test_small_slots_share_pages(void **state)
{
    (void)state;
    bed b = {0};
    bed_open(&b, small, 104, NULL);
    use_all(&b);
    assert_true(resident(b.cache) > 0);
    sl__cache_resize(b.cache, 0);
    check_state(&b);
    assert_true(resident(b.cache) <= 4 * (uint64_t)sysconf(_SC_PAGESIZE)); /* of two slots */
    sl__cache_resize(b.cache, UINT64_MAX);
    use_all(&b);
    bed_close(&b);
}

/* ---- what goes, and what stays --------------------------------------------------------------- */

static void test_free_slots_go_first(void **state)
{
    (void)state;
    bed b = {0};
    bed_open(&b, small, 20, NULL);
    use(&b, 0, (uint32_t[]){5, 6, 7, 8}, 4);
    sl__cache_resize(b.cache, budget_of(&b, 4));
    assert_int_equal(stats_of(&b).evictions, 0);
    use(&b, 0, (uint32_t[]){5, 6, 7, 8}, 4);
    assert_int_equal(stats_of(&b).hits, 4);
    sl__cache_resize(b.cache, budget_of(&b, 3)); /* then the policy's victim */
    assert_int_equal(stats_of(&b).evictions, 1);
    use(&b, 0, (uint32_t[]){8, 7}, 2);
    assert_int_equal(stats_of(&b).hits, 6);
    sl__cache_resize(b.cache, budget_of(&b, 20));
    use(&b, 0, (uint32_t[]){8, 7, 1, 2, 3, 4}, 6);
    assert_int_equal(stats_of(&b).hits, 8);
    assert_int_equal(stats_of(&b).evictions, 1);
    check_state(&b);
    bed_close(&b);
}

static void test_loading_slots_go_when_they_come_back(void **state)
{
    (void)state;
    bed b = {0};
    bed_open(&b, small, 12, NULL);
    sl__ticket *t;
    io_shim_close_gate(&b.shim);
    uint32_t ids[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    assert_int_equal(sl__cache_request(b.cache, &t, 0, ids, 8, false, &b.err), SL_OK);
    sl__cache_end(b.cache, t);
    sl__cache_resize(b.cache, 0);
    check_state(&b);
    assert_int_equal(b.cache->usable_count, 8);
    assert_int_equal(sl__cache_slots(b.cache), 2);
    sl__cache_resize(b.cache, budget_of(&b, 5)); /* more than before, fewer than there are */
    assert_int_equal(b.cache->usable_count, 8);
    io_shim_open_gate(&b.shim);
    use(&b, 0, (uint32_t[]){1, 2, 20, 21}, 4);
    while (b.cache->reads_in_flight > 0)
        sl__loads_collect(b.cache, true);
    use(&b, 0, (uint32_t[]){22}, 1);
    assert_int_equal(b.cache->usable_count, 5);
    check_state(&b);
    bed_close(&b);
}

/* It is meant to be called between tickets; amid one nothing is taken from the caller. */
static void test_pinned_slots_go_when_they_are_released(void **state)
{
    (void)state;
    bed b = {0};
    bed_open(&b, small, 12, NULL);
    uint32_t ids[9] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    sl__ticket *t;
    sl__expert_ref refs[6], ref;
    bool got;
    assert_int_equal(sl__cache_request(b.cache, &t, 1, ids, 9, false, &b.err), SL_OK);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(sl__cache_next(b.cache, t, true, &refs[i], &got, &b.err), SL_OK);
        assert_true(got);
    }
    sl__cache_resize(b.cache, 0);
    for (unsigned i = 0; i < 6; i++)
        assert_true(fake_store_matches(b.store, 1, refs[i].expert, refs[i].record));
    for (unsigned i = 0; i < 6; i++)
        sl__cache_release(b.cache, t, &refs[i]);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(sl__cache_next(b.cache, t, true, &ref, &got, &b.err), SL_OK);
        assert_true(got && fake_store_matches(b.store, 1, ref.expert, ref.record));
        sl__cache_release(b.cache, t, &ref);
    }
    sl__cache_end(b.cache, t);
    assert_int_equal(b.cache->usable_count, 2);
    check_state(&b);
    use_all(&b);
    bed_close(&b);
}

static void test_without_experts(void **state)
{
    (void)state;
    static const fake_layer dense[] = {{0, 0, 0}, {0, 0, 0}};
    bed b = {0};
    bed_open(&b, dense, 0, NULL);
    sl__cache_resize(b.cache, 0);
    sl__cache_resize(b.cache, UINT64_MAX);
    assert_int_equal(stats_of(&b).resizes, 0);
    assert_int_equal(sl__cache_slots(b.cache), 0);
    bed_close(&b);
}

/* ---- at random ------------------------------------------------------------------------------- */

static void random_ticket(bed *b, test_rng *rng)
{
    uint32_t layer = test_rng_below(rng, LAYERS), all = b->layers[layer].experts, ids[128];
    uint32_t n = 1 + test_rng_below(rng, test_rng_below(rng, 8) ? 8 : all), taken = 0;
    for (uint32_t i = 0; i < all; i++)
        ids[i] = i;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i + test_rng_below(rng, all - i), id = ids[at];
        ids[at] = ids[i];
        ids[i] = id;
    }
    sl__ticket *t;
    bool scan = n > 8;
    assert_int_equal(sl__cache_request(b->cache, &t, layer, ids, n, scan, &b->err), SL_OK);
    if (test_rng_below(rng, 2)) /* the next request, or what is taken for it */
        sl__cache_predict(b->cache, test_rng_below(rng, LAYERS), ids, 8, 4, SL_GUESS_AHEAD);
    uint32_t some = test_rng_below(rng, 4) ? n : test_rng_below(rng, n);
    while (taken < some) {
        sl__expert_ref ref;
        bool got;
        sl_status status = sl__cache_next(b->cache, t, true, &ref, &got, &b->err);
        if (status != SL_OK) fail_msg("%s", b->err.message);
        assert_true(got && fake_store_matches(b->store, layer, ref.expert, ref.record));
        sl__cache_release(b->cache, t, &ref);
        taken++;
    }
    sl__cache_end(b->cache, t); /* what is left goes on loading */
}

static void run_random(const fake_layer *layers, uint32_t slots, unsigned rounds)
{
    bed b = {0};
    io_shim_rules rules = {.cut = 20, .eintr = 20, .delay = 5, .delay_us = 200};
    test_rng rng = {slots};
    bed_open(&b, layers, slots, &rules);
    for (unsigned i = 0; i < rounds; i++) {
        if (test_rng_below(&rng, 3) == 0) {
            uint32_t want = test_rng_below(&rng, b.cache->slot_count + 10);
            uint64_t budget = want > slots ? UINT64_MAX : budget_of(&b, want);
            sl__cache_resize(b.cache, budget);
            check_state(&b);
            uint32_t least = want < 2 ? 2 : want > slots ? slots : want;
            assert_int_equal(sl__cache_slots(b.cache), least);
        }
        random_ticket(&b, &rng);
        check_state(&b);
        if (test_rng_below(&rng, 50) == 0) sl__cache_drop(b.cache);
        if (b.cache->plan.slot_bytes % 4096 == 0)
            assert_true(resident(b.cache) <= b.cache->usable_count * b.cache->plan.slot_bytes);
    }
    sl__cache_stats s = stats_of(&b);
    assert_int_equal(s.requests, s.hits + s.joins + s.misses);
    assert_true(s.evictions <= s.misses + s.prefetch_reads && s.resizes > 0);
    bed_close(&b);
}

static void test_random(void **state)
{
    (void)state;
    unsigned rounds = test_fast() ? 60 : 400;
    run_random(small, 104, rounds);
    run_random(small, 11, rounds);
    run_random(small, 2 + 1, rounds);
    run_random(big, 220, rounds);
    run_random(big, 150, rounds / 2);
}

/* ---- pages ----------------------------------------------------------------------------------- */

static void test_pages(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 4096, 100000, (8u << 20) - 1, 8u << 20, (21u << 20) + 5};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t n = sizes[i], page = (size_t)sysconf(_SC_PAGESIZE);
        unsigned char *p = sl__pages_alloc_huge(n);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 4096, 0);
        for (size_t at = 0; at < n; at += 1000)
            assert_int_equal(p[at], 0);
        memset(p, 7, n);
        sl__pages_set_huge(p, n, false);
        sl__pages_release(p + 1, n - 1); /* whole pages only: what lies before and behind stays */
        assert_int_equal(p[0], 7);
        assert_int_equal(p[n / page * page < n ? n - 1 : 0], 7);
        sl__pages_retake(p + 1, n - 1);
        memset(p, 9, n);
        assert_int_equal(p[n / 2], 9);
        sl__pages_set_huge(p, n, true);
        sl__pages_free(p, n);
    }
    assert_null(sl__pages_alloc_huge(SIZE_MAX - 5));
    sl__pages_free(NULL, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory_really_falls),
        cmocka_unit_test(test_budgets_are_cut),
        cmocka_unit_test(test_small_slots_share_pages),
        cmocka_unit_test(test_free_slots_go_first),
        cmocka_unit_test(test_loading_slots_go_when_they_come_back),
        cmocka_unit_test(test_pinned_slots_go_when_they_are_released),
        cmocka_unit_test(test_without_experts),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
