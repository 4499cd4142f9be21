#include "cache_bed.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "test_env.h"

void cache_bed_make(cache_bed *b, const fake_layer *layers, uint32_t layer_count)
{
    *b = (cache_bed){.layers = layers, .layer_count = layer_count};
    test_temp_dir(b->dir, sizeof b->dir);
    b->store = fake_store_open(b->dir, layers, layer_count);
}

void cache_bed_remove(cache_bed *b)
{
    fake_store_close(b->store);
    test_remove_tree(b->dir);
}

void cache_bed_open(cache_bed *b, const cache_bed_options *opt)
{
    sl__cache_plan plan;
    assert_true(sl__cache_plan_make(&plan, b->store, b->layer_count));
    const sl__io_options io_opt = {.depth = opt->threads ? opt->threads : 3,
                                   .max_reads = opt->max_reads,
                                   .split_bytes = 300,
                                   .pread_fn = io_shim_pread,
                                   .pread_ctx = &b->shim};
    const sl__cache_options cache_opt = {.budget_bytes = sl__cache_plan_bytes(&plan, opt->slots),
                                         .verify = SL_VERIFY_ALL,
                                         .layer_count = b->layer_count,
                                         .prefetch = opt->prefetch,
                                         .measure = opt->measure};
    sl_error_clear(&b->err);
    io_shim_init(&b->shim, 3, opt->rules);
    assert_int_equal(sl__io_create(&b->io, SL_IO_KIND_PREAD, &io_opt, &b->err), SL_OK);
    assert_int_equal(sl__cache_create(&b->cache, b->store, b->io, &cache_opt, &b->err), SL_OK);
    assert_int_equal(sl__cache_slots(b->cache), opt->slots);
}

void cache_bed_close(cache_bed *b)
{
    sl__cache_destroy(b->cache);
    sl__io_destroy(b->io);
    io_shim_free(&b->shim);
}

sl__cache_stats cache_bed_stats(const cache_bed *b)
{
    sl__cache_stats s;
    sl__cache_stats_get(b->cache, &s);
    assert_int_equal(s.requests, s.hits + s.joins + s.misses);
    assert_true(s.prefetch_useful <= s.hits && s.prefetch_late <= s.joins);
    assert_true(s.bytes_missing <= s.bytes_needed);
    assert_true(s.prefetch_wasted_bytes <= s.prefetch_bytes && s.prefetch_bytes <= s.bytes_read);
    assert_true(s.predicted_right <= s.predicted);
    assert_true(b->cache->ahead_count <= sl__prefetch_share(b->cache));
    return s;
}

void cache_bed_quiet(cache_bed *b)
{
    while (b->cache->reads_in_flight > 0 || b->cache->submit_head != SL_SLOT_NONE) {
        sl__loads_submit(b->cache);
        sl__loads_collect(b->cache, true);
        sl__prefetch_pump(b->cache);
    }
    uint64_t unasked = 0, ringed = 0;
    for (uint32_t i = 0; i < b->cache->slot_count; i++) {
        const sl__slot *slot = &b->cache->slots[i];
        unasked += slot->state == SL_SLOT_READY && slot->ahead;
        ringed += slot->state != SL_SLOT_FREE && slot->ringed;
        assert_true(slot->state != SL_SLOT_LOADING && !slot->doomed && !slot->early);
    }
    sl__cache_stats s = cache_bed_stats(b);
    assert_int_equal(s.prefetch_reads,
                     s.prefetch_useful + s.prefetch_late + s.prefetch_wasted + unasked);
    assert_int_equal(s.bytes_read, b->io->bytes_read);
    assert_int_equal(b->cache->ahead_count + b->cache->doomed_count, 0);
    assert_int_equal(b->cache->early_reads_in_flight, 0);
    assert_int_equal(b->cache->ring_count, ringed);
}

sl__cache_stats cache_bed_settle(cache_bed *b)
{
    assert_false(b->cache->ticket.active);
    sl__cache_drop(b->cache);
    cache_bed_quiet(b);
    sl__cache_stats s = cache_bed_stats(b);
    assert_int_equal(s.prefetch_reads, s.prefetch_useful + s.prefetch_late + s.prefetch_wasted);
    assert_int_equal(b->cache->ring_count, 0);
    return s;
}

sl__ticket *cache_bed_request(cache_bed *b, uint32_t layer, const uint32_t *ids, uint32_t n,
                              bool scan)
{
    sl__ticket *t = NULL;
    assert_int_equal(sl__cache_request(b->cache, &t, layer, ids, n, scan, &b->err), SL_OK);
    assert_non_null(t);
    return t;
}

sl__expert_ref cache_bed_take(cache_bed *b, sl__ticket *t, uint32_t layer)
{
    sl__expert_ref ref;
    bool got = false;
    sl_status status = sl__cache_next(b->cache, t, true, &ref, &got, &b->err);
    if (status != SL_OK) print_message("%s\n", b->err.message);
    assert_int_equal(status, SL_OK);
    assert_true(got);
    assert_true(fake_store_matches(b->store, layer, ref.expert, ref.record));
    return ref;
}

void cache_bed_use(cache_bed *b, uint32_t layer, const uint32_t *ids, uint32_t n, bool scan)
{
    sl__ticket *t = cache_bed_request(b, layer, ids, n, scan);
    for (uint32_t i = 0; i < n; i++) {
        sl__expert_ref ref = cache_bed_take(b, t, layer);
        assert_int_equal(ref.expert, ids[ref.index]);
        sl__cache_release(b->cache, t, &ref);
    }
    sl__cache_end(b->cache, t);
}

bool cache_bed_has(const cache_bed *b, uint32_t layer, uint32_t expert)
{
    return *sl__cache_index_at(b->cache, layer, expert) != SL_SLOT_NONE;
}
