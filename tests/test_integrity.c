/* Disks, cables and people that damage what the cache reads, over a real pack: it goes on with the
 * right bytes, or ends with an error that names file, layer and expert. Wrong bytes never come out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/cache_private.h"
#include "cache_case.h"

static const uint32_t served[] = {0, 2, 5};

static void use_everything(cache_case *c)
{
    for (size_t i = 0; i < sizeof served / sizeof *served; i++) {
        if (cache_case_use_layer(c, served[i]) != SL_OK) fail_msg("%s", c->err.message);
    }
}

static void faults(cache_case *c, io_shim_rules rules)
{
    io_shim_change(&c->shim, &rules);
}

/* ---- wrong bits ------------------------------------------------------------------------------ */

static void test_a_wrong_bit_that_heals(void **state)
{
    cache_case *c = *state;
    faults(c, (io_shim_rules){.flip = 1000});
    for (size_t i = 0; i < sizeof served / sizeof *served; i++) {
        assert_int_equal(cache_case_use(c, served[i], 0), SL_OK);
        assert_int_equal(cache_case_stats(c).rereads, i + 1);
    }
    assert_true(cache_case_stats(c).verify_ns > 0);
}

static void test_a_wrong_bit_that_stays(void **state)
{
    cache_case *c = *state;
    cache_case_damage(c, 2, 1);
    assert_int_equal(cache_case_use_layer(c, 2), SL_ECORRUPT);
    cache_case_says(c, SL_ECORRUPT, 2, 1, "differ from their checksum, read twice");
    assert_int_equal(cache_case_use_layer(c, 2), SL_ECORRUPT); /* and so at every request */
    assert_int_equal(cache_case_use(c, 2, 0), SL_OK);          /* the others are sound */
    assert_int_equal(cache_case_use_layer(c, 5), SL_OK);
    assert_int_equal(cache_case_stats(c).rereads, 0);
    cache_case_damage(c, 2, 1); /* mended */
    use_everything(c);
}

/* By the rule "first" a record is compared until it was right once; by "none" never. */
static void test_rules(void **state)
{
    cache_case *c = *state;
    sl__cache_options opt = {.budget_bytes = sl__cache_minimum(c->store, CACHE_CASE_LAYERS),
                             .verify = SL_VERIFY_FIRST,
                             .layer_count = CACHE_CASE_LAYERS};
    cache_case_damage(c, 0, 2);
    assert_int_equal(cache_case_create(c, &opt), SL_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(cache_case_use_layer(c, 0), SL_ECORRUPT);
        cache_case_says(c, SL_ECORRUPT, 0, 2, "twice");
    }
    cache_case_damage(c, 0, 2);
    use_everything(c);
    assert_true(cache_case_stats(c).verify_ns > 0);
    opt.verify = SL_VERIFY_NONE;
    assert_int_equal(cache_case_create(c, &opt), SL_OK);
    use_everything(c);
    assert_int_equal(cache_case_stats(c).rereads, 0);
}

/* A bit is wrong, and by the time of the second read the file has become shorter. */
static void test_the_second_read_fails(void **state)
{
    cache_case *c = *state;
    sl__extent x;
    const char *path = cache_case_file(c, 5, 0, &x);
    sl__ticket *ticket;
    sl__expert_ref ref;
    bool got;
    faults(c, (io_shim_rules){.flip = 1000});
    assert_int_equal(sl__cache_request(c->cache, &ticket, 5, (uint32_t[]){0}, 1, false, &c->err),
                     SL_OK);
    while (c->cache->reads_in_flight > 0) /* in, and not yet looked at */
        sl__loads_collect(c->cache, true);
    assert_int_equal(truncate(path, 100), 0);
    sl_status status = sl__cache_next(c->cache, ticket, true, &ref, &got, &c->err);
    assert_false(got);
    assert_int_equal(status, SL_ECORRUPT);
    cache_case_says(c, SL_ECORRUPT, 5, 0, "reading it again failed");
    cache_case_says(c, SL_ECORRUPT, 5, 0, "the file ends early");
    sl__cache_end(c->cache, ticket);
    assert_int_equal(cache_case_use_layer(c, 0), SL_OK);
}

/* ---- reads that fail ------------------------------------------------------------------------- */

/* EIO is not tried again behind the caller's back; the next request reads anew. */
static void test_a_read_error_that_passes(void **state)
{
    cache_case *c = *state;
    faults(c, (io_shim_rules){.eio_at_call = 1});
    assert_int_equal(cache_case_use(c, 2, 1), SL_EIO);
    cache_case_says(c, SL_EIO, 2, 1, "read failed: ");
    cache_case_says(c, SL_EIO, 2, 1, strerror(EIO));
    assert_int_equal(io_shim_calls(&c->shim), 1);
    use_everything(c);
}

static void test_a_read_error_that_stays(void **state)
{
    cache_case *c = *state;
    sl__extent x;
    (void)cache_case_file(c, 2, 0, &x);
    faults(c, (io_shim_rules){.bad_fd = sl__store_fd(c->store, x.file)});
    for (int i = 0; i < 3; i++) {
        assert_int_equal(cache_case_use(c, 2, 0), SL_EIO);
        cache_case_says(c, SL_EIO, 2, 0, "read failed");
    }
    assert_int_equal(cache_case_use_layer(c, 0), SL_OK);
}

/* What says nothing of the disk is the engine's to repeat. */
static void test_interruptions_are_repeated(void **state)
{
    cache_case *c = *state;
    faults(c, (io_shim_rules){.eintr = 400, .eagain = 200, .cut = 300});
    for (int i = 0; i < 20; i++)
        use_everything(c);
    assert_int_equal(cache_case_stats(c).rereads, 0);
}

static void test_a_file_cut_short(void **state)
{
    cache_case *c = *state;
    sl__extent x;
    const char *path = cache_case_file(c, 0, 2, &x);
    use_everything(c);
    sl__cache_drop(c->cache);
    assert_int_equal(truncate(path, (off_t)(x.offset + x.bytes - 1)), 0);
    assert_int_equal(cache_case_use(c, 0, 2), SL_EFORMAT);
    cache_case_says(c, SL_EFORMAT, 0, 2, "the file ends early");
    assert_int_equal(cache_case_use(c, 0, 1), SL_OK);
    /* Longer again, with zeros where the record was. */
    assert_int_equal(truncate(path, (off_t)x.offset), 0);
    assert_int_equal(truncate(path, (off_t)(x.offset + x.bytes)), 0);
    assert_int_equal(cache_case_use(c, 0, 2), SL_ECORRUPT);
    cache_case_says(c, SL_ECORRUPT, 0, 2, "twice");
}

/* The open file goes on, whatever has its name now: a second read past the page cache too. */
static void test_a_file_replaced_or_removed(void **state)
{
    cache_case *c = *state;
    sl__extent x;
    char other[300];
    const char *path = cache_case_file(c, 2, 1, &x);
    snprintf(other, sizeof other, "%s/other", c->dir);
    test_write_file(other, "not an expert", 13);
    assert_int_equal(truncate(other, (off_t)(x.offset + x.bytes)), 0); /* as long as it was */
    assert_int_equal(rename(other, path), 0);
    assert_int_equal(unlink(cache_case_file(c, 0, 0, &x)), 0);
    use_everything(c);
    sl__cache_drop(c->cache);
    faults(c, (io_shim_rules){.flip = 1000});
    assert_int_equal(cache_case_use(c, 2, 1), SL_OK);
    assert_int_equal(cache_case_use(c, 0, 1), SL_OK);
    assert_int_equal(cache_case_stats(c).rereads, 2);
}

static void test_a_disk_that_stalls(void **state)
{
    cache_case *c = *state;
    faults(c, (io_shim_rules){.delay = 1000, .delay_us = test_fast() ? 100000 : 900000});
    assert_int_equal(cache_case_use(c, 5, 0), SL_OK);
    assert_true(cache_case_stats(c).wait_ns > 0);
    faults(c, (io_shim_rules){.delay = 100, .delay_us = 20000, .flip = 300});
    for (int i = 0; i < 5; i++)
        use_everything(c);
}

/* ---- everything at once ---------------------------------------------------------------------- */

/* Every record that comes out is the one that was packed (cache_case_use compares), every failure
 * names its place, and a disk that is well again serves everything. */
static void test_any_mixture_of_faults(void **state)
{
    cache_case *c = *state;
    test_rng rng = {31};
    unsigned rounds = test_fast() ? 200 : 2000, failures = 0;
    faults(c, (io_shim_rules){.eintr = 50, .eagain = 20, .eio = 50, .cut = 100, .flip = 200,
                              .delay = 5, .delay_us = 300});
    for (unsigned i = 0; i < rounds; i++) {
        uint32_t layer = served[test_rng_below(&rng, 3)];
        uint32_t expert = test_rng_below(&rng, layer == 0 ? 3 : layer == 2 ? 2 : 1);
        sl_status status = cache_case_use(c, layer, expert);
        if (status == SL_OK) continue;
        cache_case_says(c, SL_EIO, layer, expert, "read failed");
        failures++;
    }
    assert_true(failures > rounds / 100 && failures < rounds / 4);
    assert_true(cache_case_stats(c).rereads > rounds / 50);
    io_shim_change(&c->shim, NULL);
    use_everything(c);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, cache_case_begin, cache_case_end)
    const struct CMUnitTest tests[] = {
        CASE(test_a_wrong_bit_that_heals),
        CASE(test_a_wrong_bit_that_stays),
        CASE(test_rules),
        CASE(test_the_second_read_fails),
        CASE(test_a_read_error_that_passes),
        CASE(test_a_read_error_that_stays),
        CASE(test_interruptions_are_repeated),
        CASE(test_a_file_cut_short),
        CASE(test_a_file_replaced_or_removed),
        CASE(test_a_disk_that_stalls),
        CASE(test_any_mixture_of_faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
