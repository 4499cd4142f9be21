/* The cache without slots, over mapped files: the same records, the same errors of checksums; only
 * what a mapping cannot know is missing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "cache_case.h"
#include "damage.h"

static const sl__map_advice advices[] = {SL_MAP_NORMAL, SL_MAP_RANDOM, SL_MAP_WILLNEED};

static sl_status open_mapped(cache_case *c, sl__map_advice advice, sl_verify_rule verify)
{
    const sl__cache_options opt = {.mapped = true,
                                   .map_advice = advice,
                                   .verify = verify,
                                   .layer_count = CACHE_CASE_LAYERS};
    sl__cache_destroy(c->cache);
    c->cache = NULL;
    sl_error_clear(&c->err);
    return sl__cache_create(&c->cache, c->store, NULL, &opt, &c->err);
}

static void test_records_come_as_packed(void **state)
{
    cache_case *c = *state;
    for (size_t i = 0; i < sizeof advices / sizeof *advices; i++) {
        assert_int_equal(open_mapped(c, advices[i], SL_VERIFY_ALL), SL_OK);
        assert_int_equal(sl__cache_slots(c->cache), 6);
        for (int round = 0; round < 3; round++) {
            assert_int_equal(cache_case_use_layer(c, 0), SL_OK);
            assert_int_equal(cache_case_use_layer(c, 2), SL_OK);
            assert_int_equal(cache_case_use_layer(c, 5), SL_OK);
            if (round == 1) sl__cache_drop(c->cache);
        }
        uint64_t bytes = 0;
        static const uint32_t served[] = {0, 2, 5};
        for (int l = 0; l < 3; l++) {
            const sl__expert_layout *layout = sl__store_expert_layout(c->store, served[l]);
            bytes += layout->expert_count * layout->record_bytes;
        }
        sl__cache_stats s = cache_case_stats(c);
        assert_int_equal(s.requests, 18);
        assert_int_equal(s.hits, 18);
        assert_int_equal(s.bytes_needed, 3 * bytes);
        assert_int_equal(s.bytes_read, 0);
        assert_int_equal(s.evictions, 0);
        assert_int_equal(s.budget_bytes, 0);
        assert_true(s.verify_ns > 0);
    }
    assert_int_equal(io_shim_calls(&c->shim), 0);
}

/* A ticket is the same one: all may be held, any may be left, a new one needs the old one's end. */
static void test_tickets(void **state)
{
    cache_case *c = *state;
    sl__ticket *t, *other;
    sl__expert_ref refs[3];
    bool got;
    assert_int_equal(open_mapped(c, SL_MAP_NORMAL, SL_VERIFY_FIRST), SL_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(
            sl__cache_request(c->cache, &t, 0, (uint32_t[]){2, 0, 1}, 3, false, &c->err), SL_OK);
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(sl__cache_next(c->cache, t, i % 2, &refs[i], &got, &c->err), SL_OK);
            assert_true(got);
            assert_int_equal(refs[i].index, i);
        }
        assert_int_equal(sl__cache_next(c->cache, t, true, &refs[0], &got, &c->err), SL_OK);
        assert_false(got);
        sl__cache_release(c->cache, t, &refs[1]);
        sl__cache_note(c->cache, 0, (uint32_t[]){2, 0, 1}, 3, 2);
        assert_int_equal(
            sl__cache_request(c->cache, &other, 0, (uint32_t[]){0}, 1, false, &c->err), SL_EINVAL);
        sl_error_clear(&c->err);
        sl__cache_end(c->cache, t);
    }
    sl__cache_resize(c->cache, 0); /* nothing to give */
    sl__cache_resize(c->cache, UINT64_MAX);
    assert_int_equal(cache_case_stats(c).resizes, 0);
    assert_int_equal(cache_case_use_layer(c, 2), SL_OK);
}

static void test_checksums(void **state)
{
    cache_case *c = *state;
    assert_int_equal(open_mapped(c, SL_MAP_NORMAL, SL_VERIFY_ALL), SL_OK);
    cache_case_damage(c, 2, 1);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cache_case_use_layer(c, 2), SL_ECORRUPT);
        cache_case_says(c, SL_ECORRUPT, 2, 1, "differ from their checksum");
    }
    assert_int_equal(cache_case_use(c, 2, 0), SL_OK);
    assert_int_equal(cache_case_use_layer(c, 0), SL_OK);
    cache_case_damage(c, 2, 1);
    assert_int_equal(cache_case_use_layer(c, 2), SL_OK);
}

static void test_only_packs(void **state)
{
    (void)state;
    sl__store *store;
    sl__cache *cache;
    sl_error err = {0};
    const sl__cache_options opt = {.mapped = true, .layer_count = 0};
    assert_int_equal(
        sl__store_open(&store, SL_TEST_SOURCE_DIR "/data/qwen3_5_moe_text", &err), SL_OK);
    assert_int_equal(sl__cache_create(&cache, store, NULL, &opt, &err), SL_EINVAL);
    assert_null(cache);
    assert_non_null(strstr(err.message, "qwen3_5_moe_text: only a pack can be mapped"));
    sl__store_close(store);
}

/* A file that has become shorter since the store was opened is an error, not a signal. */
static void test_a_file_cut_short_before(void **state)
{
    cache_case *c = *state;
    sl__extent x;
    const char *path = cache_case_file(c, 5, 0, &x);
    damage_truncate(path, 64);
    assert_int_equal(open_mapped(c, SL_MAP_NORMAL, SL_VERIFY_ALL), SL_EFORMAT);
    assert_non_null(strstr(c->err.message, path));
    assert_non_null(strstr(c->err.message, "the file ends early"));
    assert_null(c->cache);
}

/* A mapping is made once, belongs to the store, and is what the file holds. */
static void test_maps_of_the_store(void **state)
{
    cache_case *c = *state;
    for (uint32_t f = 0; f < sl__store_file_count(c->store); f++) {
        size_t size;
        char *want = test_read_file(sl__store_file_path(c->store, f), &size);
        const void *map = sl__store_map(c->store, f, &c->err);
        assert_non_null(map);
        assert_memory_equal(map, want, size);
        assert_ptr_equal(sl__store_map(c->store, f, &c->err), map);
        sl__store_map_advise(c->store, f, size / 2, size - size / 2, SL_MAP_DONTNEED);
        assert_memory_equal(map, want, size);
        free(want);
    }
}

static void test_bytes(void **state)
{
    cache_case *c = *state;
    uint64_t bytes = sl__cache_mapped_bytes(c->store, CACHE_CASE_LAYERS);
    assert_true(bytes > 0 && bytes < sl__cache_minimum(c->store, CACHE_CASE_LAYERS));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, cache_case_begin, cache_case_end)
    const struct CMUnitTest tests[] = {
        CASE(test_records_come_as_packed),
        CASE(test_tickets),
        CASE(test_checksums),
        cmocka_unit_test(test_only_packs),
        CASE(test_a_file_cut_short_before),
        CASE(test_maps_of_the_store),
        CASE(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
