/* A million requests for experts: tokens, chunks, predictions, dropped caches and a disk that
 * misbehaves, with tiny records. Every record given out is compared with its file, every identity
 * of the counters is checked after every ticket.
 *
 * SLUICE_TEST_FAST takes a smaller sample, SLUICE_TEST_LONG all of it in spite of that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "cache_storm.h"
#include "fake_store.h"
#include "test_env.h"

static const fake_layer layers[] = {
    {.experts = 48, .extents = 1, .extent_bytes = 64},
    {.experts = 64, .extents = 2, .extent_bytes = 40},
    {.experts = 32, .extents = 3, .extent_bytes = 24},
    {.experts = 96, .extents = 1, .extent_bytes = 100},
    {.experts = 64, .extents = 1, .extent_bytes = 64},
};
#define LAYERS 5u
#define ALL    (48u + 64 + 32 + 96 + 64)

static void test_soak(void **state)
{
    (void)state;
    static const struct {
        uint32_t slots, max_reads, parts; /* of 20 of all requests */
        sl_switch prefetch;
        bool faults;
    } runs[] = {
        {80, 0, 6, SL_AUTO, true},  {80, 0, 4, SL_ON, true},   {150, 64, 3, SL_ON, false},
        {ALL, 0, 2, SL_AUTO, true}, {24, 16, 2, SL_ON, true},  {8, 6, 1, SL_ON, true},
        {2, 0, 1, SL_AUTO, true},   {40, 0, 1, SL_OFF, false},
    };
    static const io_shim_rules rough = {.cut = 20, .eintr = 20, .delay = 2, .delay_us = 50},
                               broken = {.cut = 20, .eintr = 20, .eagain = 5, .eio = 2,
                                         .delay = 2, .delay_us = 50};
    bool all = !test_fast() || getenv("SLUICE_TEST_LONG") != NULL;
    uint64_t total = all ? 1000000 : 40000, done = 0, errors = 0, scans = 0, read_ahead = 0;
    cache_bed b;
    cache_bed_make(&b, layers, LAYERS);
    for (uint32_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        const cache_bed_options opt = {.slots = runs[i].slots,
                                       .max_reads = runs[i].max_reads,
                                       .prefetch = runs[i].prefetch,
                                       .measure = i % 2,
                                       .rules = runs[i].faults ? &broken : &rough};
        const cache_storm_options storm = {.seed = 77 + i,
                                           .requests = total / 20 * runs[i].parts,
                                           .faults = runs[i].faults,
                                           .scans = 100,
                                           .right = 850};
        cache_bed_open(&b, &opt);
        cache_storm_tally tally = cache_storm_run(&b, &storm);
        sl__cache_stats s = cache_bed_stats(&b);
        done += tally.requests;
        errors += tally.errors;
        scans += tally.scans;
        read_ahead += s.prefetch_reads;
        cache_bed_close(&b);
    }
    cache_bed_remove(&b);
    assert_true(done >= total && errors > 0 && scans > 0 && read_ahead > total / 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_soak)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
