/* Experts read ahead: what becomes of each, what it may take from demand, what may fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cache_bed.h"
#include "cache_storm.h"
#include "fake_store.h"
#include "test_env.h"

/* Layer 2 has no experts. */
static const fake_layer layers[] = {
    {.experts = 64, .extents = 1, .extent_bytes = 512},
    {.experts = 16, .extents = 3, .extent_bytes = 129},
    {.experts = 0, .extents = 0, .extent_bytes = 0},
    {.experts = 24, .extents = 12, .extent_bytes = 200},
    {.experts = 32, .extents = 2, .extent_bytes = 300},
};
#define LAYERS 5u
#define ALL    (64u + 16 + 24 + 32)

#define IDS(...) (const uint32_t[]){__VA_ARGS__}

static int setup(void **state)
{
    cache_bed *b = calloc(1, sizeof *b);
    cache_bed_make(b, layers, LAYERS);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    cache_bed_remove(*state);
    free(*state);
    return 0;
}

static void open_on(cache_bed *b, uint32_t slots, uint32_t threads)
{
    const cache_bed_options opt = {.slots = slots, .threads = threads, .prefetch = SL_ON};
    cache_bed_open(b, &opt);
}

static void predict(cache_bed *b, uint32_t layer, const uint32_t *ids, uint32_t n)
{
    sl__cache_predict(b->cache, layer, ids, n, n, SL_GUESS_AHEAD);
}

static sl_status next_error(cache_bed *b, sl__ticket *t)
{
    sl__expert_ref ref;
    bool got = true;
    sl_status status = SL_OK;
    sl_error_clear(&b->err);
    while (got && status == SL_OK)
        status = sl__cache_next(b->cache, t, true, &ref, &got, &b->err);
    return status;
}

/* ---- what becomes of a read ahead ------------------------------------------------------------ */

static void test_useful(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, 0);
    predict(b, 1, IDS(3, 5, 7, 9), 4);
    cache_bed_quiet(b);
    assert_int_equal(cache_bed_stats(b).prefetch_reads, 4);
    assert_int_equal(cache_bed_stats(b).bytes_missing, 0); /* nobody has asked */
    cache_bed_use(b, 1, IDS(7, 3, 9, 11), 4, false);
    sl__cache_stats s = cache_bed_stats(b);
    assert_int_equal(s.hits, 3);
    assert_int_equal(s.misses, 1);
    assert_int_equal(s.prefetch_useful, 3);
    assert_int_equal(s.bytes_missing, 4 * 387);
    assert_int_equal(s.predicted, 4);
    assert_int_equal(s.predicted_right, 3);
    cache_bed_use(b, 1, IDS(7, 3, 5), 3, false); /* 5 after all, the others are nobody's news */
    s = cache_bed_stats(b);
    assert_int_equal(s.prefetch_useful, 4);
    assert_int_equal(s.bytes_missing, 5 * 387);
    s = cache_bed_settle(b);
    assert_int_equal(s.prefetch_wasted, 0);
    assert_int_equal(s.prefetch_bytes, 4 * 387);
    assert_int_equal(s.bytes_read, 5 * 387);
    assert_true(s.prefetch_on);
    cache_bed_close(b);
}

static uint64_t promoted[64];
static uint32_t promoted_count;

static uint32_t promote_spy(sl__io *io, uint64_t tag)
{
    (void)io;
    promoted[promoted_count++] = tag;
    return 1;
}

static void test_late(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, 1);
    const sl__io_ops *real = b->io->ops;
    sl__io_ops spied = *real;
    spied.promote = promote_spy;
    b->io->ops = &spied;
    promoted_count = 0;
    io_shim_close_gate(&b->shim);
    predict(b, 1, IDS(3, 5), 2);
    sl__ticket *t = cache_bed_request(b, 1, IDS(5, 3, 8), 3, false);
    assert_int_equal(promoted_count, 6); /* every extent of both */
    for (uint32_t i = 0; i < 6; i++) {
        for (uint32_t k = 0; k < i; k++)
            assert_true(promoted[i] != promoted[k]);
    }
    sl__cache_stats s = cache_bed_stats(b);
    assert_int_equal(s.joins, 2);
    assert_int_equal(s.prefetch_late, 2);
    assert_int_equal(s.bytes_missing, 3 * 387);
    io_shim_open_gate(&b->shim);
    for (uint32_t i = 0; i < 3; i++)
        cache_bed_take(b, t, 1);
    sl__cache_end(b->cache, t);
    s = cache_bed_settle(b);
    assert_int_equal(s.prefetch_reads, 2);
    assert_int_equal(s.prefetch_bytes, 2 * 387);
    assert_int_equal(s.prefetch_cancelled + s.prefetch_wasted, 0);
    b->io->ops = real;
    cache_bed_close(b);
}

/* With one thread at the gate one read has begun; the others are given up when their layer is asked
 * for without them, and their slots come back. */
static void test_cancelled_by_its_request(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, 1);
    io_shim_close_gate(&b->shim);
    predict(b, 0, IDS(1, 2, 3, 4), 4);
    io_shim_await_gate(&b->shim, 1);
    sl__ticket *t = cache_bed_request(b, 0, IDS(3, 9), 2, false);
    assert_true(cache_bed_has(b, 0, 1) && cache_bed_has(b, 0, 3));
    assert_false(cache_bed_has(b, 0, 2) || cache_bed_has(b, 0, 4));
    io_shim_open_gate(&b->shim);
    cache_bed_take(b, t, 0);
    cache_bed_take(b, t, 0);
    sl__cache_end(b->cache, t);
    sl__cache_stats s = cache_bed_settle(b);
    assert_int_equal(s.prefetch_cancelled, 2);
    assert_int_equal(s.prefetch_reads, 2);
    assert_int_equal(s.prefetch_late, 1);
    assert_int_equal(s.prefetch_wasted, 1);
    assert_int_equal(s.prefetch_wasted_bytes, 512);
    assert_int_equal(s.bytes_read, 3 * 512);
    cache_bed_close(b);
}

static void test_cancelled_by_the_next_prediction(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, 1);
    io_shim_close_gate(&b->shim);
    predict(b, 1, IDS(1, 2, 3), 3);
    io_shim_await_gate(&b->shim, 1);
    predict(b, 4, IDS(1, 2, 3), 3);
    assert_true(cache_bed_has(b, 1, 1));
    assert_false(cache_bed_has(b, 1, 2) || cache_bed_has(b, 1, 3));
    assert_int_equal(cache_bed_stats(b).prefetch_cancelled, 2);
    /* What was given up is absent: a request reads it anew. */
    sl__ticket *t = cache_bed_request(b, 1, IDS(1, 2), 2, false);
    io_shim_open_gate(&b->shim);
    cache_bed_take(b, t, 1);
    cache_bed_take(b, t, 1);
    sl__cache_end(b->cache, t);
    cache_bed_quiet(b);
    sl__cache_stats s = cache_bed_stats(b);
    assert_int_equal(s.prefetch_late, 1);
    assert_int_equal(s.misses, 1);
    assert_int_equal(s.prefetch_reads, 4);
    assert_int_equal(s.predicted, 0); /* of layer 1 the second prediction took the first's place */
    cache_bed_settle(b);
    cache_bed_close(b);
}

/* The same request is guessed at again: what has not begun of the first guess gives way to the
 * second, what has begun is joined, and both are learnt from. */
static void test_a_nearer_guess(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, 1);
    io_shim_close_gate(&b->shim);
    predict(b, 1, IDS(3, 5, 7), 3); /* 3 has begun, and waits at the gate */
    io_shim_await_gate(&b->shim, 1);
    sl__cache_predict(b->cache, 1, IDS(3, 8, 9), 3, 3, SL_GUESS_NEAR);
    assert_true(cache_bed_has(b, 1, 3) && cache_bed_has(b, 1, 8) && cache_bed_has(b, 1, 9));
    assert_false(cache_bed_has(b, 1, 5) || cache_bed_has(b, 1, 7));
    io_shim_open_gate(&b->shim);
    cache_bed_quiet(b);
    assert_int_equal(cache_bed_stats(b).prefetch_cancelled, 2);
    double ahead = sl__predictor_precision(&b->cache->predictor, SL_GUESS_AHEAD, 1);
    double near = sl__predictor_precision(&b->cache->predictor, SL_GUESS_NEAR, 1);
    cache_bed_use(b, 1, IDS(3, 8, 9), 3, false);
    assert_true(sl__predictor_precision(&b->cache->predictor, SL_GUESS_AHEAD, 1) < ahead);
    assert_true(sl__predictor_precision(&b->cache->predictor, SL_GUESS_NEAR, 1) > near);
    sl__cache_stats s = cache_bed_settle(b);
    assert_int_equal(s.prefetch_useful, 3);
    assert_int_equal(s.prefetch_wasted, 0);
    assert_int_equal(s.predicted, 3); /* of the guess a layer ahead */
    assert_int_equal(s.predicted_right, 1);
    cache_bed_close(b);
}

static void test_wasted_by_eviction(void **state)
{
    cache_bed *b = *state;
    uint32_t ids[16];
    open_on(b, 16, 0);
    for (uint32_t i = 0; i < 16; i++)
        ids[i] = i;
    predict(b, 4, IDS(1, 2), 2);
    cache_bed_quiet(b);
    cache_bed_use(b, 4, IDS(5), 1, false);
    cache_bed_use(b, 0, ids, 16, false);
    sl__cache_stats s = cache_bed_stats(b);
    assert_int_equal(s.prefetch_wasted, 2);
    assert_int_equal(s.prefetch_wasted_bytes, 2 * 600);
    cache_bed_settle(b);
    cache_bed_close(b);
}

/* ---- failures -------------------------------------------------------------------------------- */

static void test_failed_read_ahead_fails_nothing(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, 1);
    sl__extent x[SL_EXPERT_EXTENTS_MAX];
    sl__store_expert_extents(b->store, 1, 6, x);
    io_shim_rules rules = {.bad_from = x[1].offset, .bad_to = x[1].offset + 1};
    io_shim_change(&b->shim, &rules);
    predict(b, 1, IDS(6, 9), 2);
    cache_bed_quiet(b);
    sl__cache_stats s = cache_bed_stats(b);
    assert_int_equal(s.prefetch_reads, 2);
    assert_int_equal(s.prefetch_wasted, 1);
    assert_false(cache_bed_has(b, 1, 6));
    /* Who asks for it learns of it. */
    sl__ticket *t = cache_bed_request(b, 1, IDS(9, 6), 2, false);
    assert_int_equal(next_error(b, t), SL_EIO);
    assert_non_null(strstr(b->err.message, "layer 1 expert 6: read failed: Input/output error"));
    sl__cache_end(b->cache, t);
    io_shim_change(&b->shim, NULL);
    sl_error_clear(&b->err);
    cache_bed_use(b, 1, IDS(9, 6), 2, false);
    cache_bed_settle(b);
    cache_bed_close(b);
}

static sl_status refuse(sl__io *io, const sl__io_read *reads, uint32_t n, sl_error *err)
{
    (void)io, (void)reads, (void)n, (void)err;
    return SL_ENOMEM;
}

static void test_refused_submit(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, 1);
    const sl__io_ops *real = b->io->ops;
    sl__io_ops refusing = *real;
    refusing.submit = refuse;
    b->io->ops = &refusing;
    predict(b, 3, IDS(6, 9), 2);
    sl__cache_predict(b->cache, 0, IDS(3, 4), 2, 2, SL_GUESS_SCAN);
    assert_int_equal(cache_bed_stats(b).prefetch_cancelled, 4);
    b->io->ops = real;
    cache_bed_use(b, 3, IDS(6, 9), 2, false);
    assert_int_equal(cache_bed_settle(b).prefetch_reads, 0);
    cache_bed_close(b);
}

static void test_wrong_checksum(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, 1);
    fake_store_damage(b->store, 4, 6);
    predict(b, 4, IDS(6), 1);
    cache_bed_quiet(b);
    sl__ticket *t = cache_bed_request(b, 4, IDS(6), 1, false);
    assert_int_equal(next_error(b, t), SL_ECORRUPT);
    sl__cache_end(b->cache, t);
    fake_store_damage(b->store, 4, 6); /* mended */
    cache_bed_settle(b);
    cache_bed_close(b);
}

/* ---- what it may take ------------------------------------------------------------------------ */

static void test_small_caches_read_nothing_ahead(void **state)
{
    cache_bed *b = *state;
    for (uint32_t slots = 2; slots < 4; slots++) {
        open_on(b, slots, 0);
        assert_false(sl__cache_wants_prediction(b->cache));
        predict(b, 0, IDS(1, 2, 3), 3);
        sl__cache_predict(b->cache, 0, IDS(1, 2, 3), 3, 3, SL_GUESS_SCAN);
        assert_int_equal(b->cache->reads_in_flight, 0);
        cache_bed_use(b, 0, IDS(2, 3, 4), 3, false);
        sl__cache_stats s = cache_bed_settle(b);
        assert_int_equal(s.prefetch_reads + s.prefetch_cancelled, 0);
        assert_false(s.prefetch_on);
        cache_bed_close(b);
    }
}

static void test_a_quarter_at_most(void **state)
{
    cache_bed *b = *state;
    uint32_t ids[64];
    for (uint32_t i = 0; i < 64; i++)
        ids[i] = i;
    static const struct {
        uint32_t slots, max_reads, layer, expected; /* reads in flight */
    } cases[] = {{16, 0, 0, 4}, {19, 0, 0, 4}, {100, 0, 0, 25}, {100, 40, 0, 10}, {4, 0, 0, 1},
                 {100, 3, 0, 0}, {100, 40, 3, 0}, {100, 48, 3, 12}, {16, 24, 1, 6}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const cache_bed_options opt = {.slots = cases[i].slots,
                                       .max_reads = cases[i].max_reads,
                                       .threads = 2,
                                       .prefetch = SL_ON};
        cache_bed_open(b, &opt);
        io_shim_close_gate(&b->shim);
        predict(b, cases[i].layer, ids, layers[cases[i].layer].experts);
        assert_int_equal(b->cache->reads_in_flight, cases[i].expected);
        io_shim_open_gate(&b->shim);
        cache_bed_quiet(b);
        cache_bed_settle(b);
        cache_bed_close(b);
    }
}

/* Demand that needs every slot gets them: what has not begun gives its slot up, what has is waited
 * for and then evicted. */
static void test_demand_finds_its_slots(void **state)
{
    cache_bed *b = *state;
    uint32_t ids[16];
    for (uint32_t i = 0; i < 16; i++)
        ids[i] = i;
    open_on(b, 16, 1);
    io_shim_close_gate(&b->shim);
    predict(b, 1, IDS(1, 2, 3, 4), 4);
    io_shim_await_gate(&b->shim, 1);
    sl__ticket *t = cache_bed_request(b, 0, ids, 16, false);
    assert_int_equal(cache_bed_stats(b).prefetch_cancelled, 3);
    sl__expert_ref refs[16];
    io_shim_open_gate(&b->shim);
    for (uint32_t i = 0; i < 16; i++)
        refs[i] = cache_bed_take(b, t, 0); /* all of them held at once */
    for (uint32_t i = 0; i < 16; i++)
        sl__cache_release(b->cache, t, &refs[i]);
    sl__cache_end(b->cache, t);
    assert_int_equal(cache_bed_settle(b).prefetch_wasted, 1);
    cache_bed_close(b);
}

/* One thread waits at the gate with a read; of what is queued behind it demand comes first. */
static void test_demand_is_read_first(void **state)
{
    cache_bed *b = *state;
    for (unsigned predict_first = 0; predict_first < 2; predict_first++) {
        open_on(b, 40, 1);
        io_shim_close_gate(&b->shim);
        sl__ticket *t = cache_bed_request(b, 4, IDS(0), 1, false);
        io_shim_await_gate(&b->shim, 1);
        sl__cache_end(b->cache, t);
        if (predict_first) predict(b, 0, IDS(10, 11, 12), 3);
        t = cache_bed_request(b, 4, IDS(1, 2), 2, false);
        if (!predict_first) predict(b, 0, IDS(10, 11, 12), 3);
        io_shim_open_gate(&b->shim);
        cache_bed_take(b, t, 4);
        cache_bed_take(b, t, 4);
        sl__cache_end(b->cache, t);
        cache_bed_quiet(b);
        /* Reads of layer 4 are of 300 bytes, those of layer 0 are pieces of 512. */
        for (uint32_t i = 0; i < 6; i++)
            assert_int_equal(b->shim.log_bytes[i], 300);
        assert_true(b->shim.log_bytes[6] < 300);
        cache_bed_settle(b);
        cache_bed_close(b);
    }
}

/* Reads ahead wait for the demand of a request that wants more than there are slots. */
static void test_waits_for_demand_that_waits(void **state)
{
    cache_bed *b = *state;
    uint32_t ids[32];
    for (uint32_t i = 0; i < 32; i++)
        ids[i] = i;
    open_on(b, 16, 1);
    sl__ticket *t = cache_bed_request(b, 0, ids, 32, false);
    predict(b, 4, IDS(1, 2), 2);
    for (uint32_t i = 0; i < 32; i++) {
        assert_true(i >= 16 || !cache_bed_has(b, 4, 1)); /* demand still waits for slots */
        sl__expert_ref ref = cache_bed_take(b, t, 0);
        sl__cache_release(b->cache, t, &ref);
    }
    sl__cache_end(b->cache, t);
    cache_bed_use(b, 1, NULL, 0, false); /* layer 1 is at work now */
    /* The second one stays out where the first is in memory already and is the coldest. */
    assert_true(cache_bed_has(b, 4, 1));
    cache_bed_settle(b);
    cache_bed_close(b);
}

static void test_off(void **state)
{
    cache_bed *b = *state;
    for (unsigned measure = 0; measure < 2; measure++) {
        const cache_bed_options opt = {.slots = 40, .prefetch = SL_OFF, .measure = measure};
        cache_bed_open(b, &opt);
        assert_int_equal(sl__cache_wants_prediction(b->cache), measure);
        sl__cache_predict(b->cache, 0, IDS(1, 2, 3), 3, 2, SL_GUESS_AHEAD);
        assert_int_equal(b->cache->reads_in_flight, 0);
        cache_bed_use(b, 0, IDS(2, 3), 2, false);
        sl__cache_stats s = cache_bed_settle(b);
        assert_int_equal(s.prefetch_reads + s.prefetch_cancelled, 0);
        assert_int_equal(s.predicted, measure ? 2 : 0); /* 3 is beyond the first two */
        assert_int_equal(s.predicted_right, measure ? 1 : 0);
        assert_false(s.prefetch_on);
        cache_bed_close(b);
    }
}

/* A prediction is a hint: nothing that it holds can do harm. */
static void test_odd_predictions(void **state)
{
    cache_bed *b = *state;
    open_on(b, 40, 0);
    predict(b, 5, IDS(1), 1);
    predict(b, UINT32_MAX, IDS(1), 1);
    predict(b, 2, IDS(0), 1);
    predict(b, 0, NULL, 0);
    predict(b, 1, IDS(3, 3, 3), 3);
    cache_bed_quiet(b);
    predict(b, 1, IDS(4, 16, 5), 3); /* from the one out of range on it is cut */
    cache_bed_quiet(b);
    assert_true(cache_bed_has(b, 1, 3) && cache_bed_has(b, 1, 4));
    assert_false(cache_bed_has(b, 1, 5));
    uint32_t many[100];
    for (uint32_t i = 0; i < 100; i++)
        many[i] = i % 16;
    sl__cache_predict(b->cache, 1, many, 100, 100, SL_GUESS_AHEAD);
    sl__cache_predict(b->cache, 1, many, 100, 200, SL_GUESS_SCAN);
    cache_bed_use(b, 1, IDS(1, 2), 2, false);
    cache_bed_settle(b);
    cache_bed_close(b);
}

/* AUTO on a cache: predictions that are right go on, wrong ones stop, and are looked at again. */
static void test_auto(void **state)
{
    cache_bed *b = *state;
    const cache_bed_options opt = {.slots = 8, .threads = 1};
    test_rng rng = {5};
    cache_bed_open(b, &opt);
    for (unsigned phase = 0; phase < 3; phase++) {
        unsigned wanted = 0, rounds = 4000;
        for (unsigned i = 0; i < rounds; i++) {
            uint32_t layer = i % 2, id = test_rng_below(&rng, 16), wrong = (id + 7) % 16;
            if (sl__cache_wants_prediction(b->cache)) {
                wanted++;
                sl__cache_predict(b->cache, layer, phase == 1 ? &wrong : &id, 1, 1, SL_GUESS_AHEAD);
                cache_bed_quiet(b);
            }
            cache_bed_use(b, layer, &id, 1, false);
        }
        sl__cache_stats s = cache_bed_stats(b);
        assert_int_equal(s.prefetch_on, phase != 1);
        assert_true(phase == 1 ? wanted < rounds / 2 : wanted > rounds / 2);
        assert_true(s.bytes_read <= s.bytes_missing + s.bytes_missing * 15 / 100);
        assert_true(s.prefetch_useful > 100);
    }
    cache_bed_settle(b);
    cache_bed_close(b);
}

/* ---- on something like a model --------------------------------------------------------------- */

#define MODEL_LAYERS  8u
#define MODEL_EXPERTS 128u
#define CHOSEN        8u
#define RANKED        12u

/* A token's experts of a layer: a quarter are the last token's, low numbers are popular. */
static void next_choice(test_rng *rng, uint32_t *chosen, bool *in)
{
    uint32_t n = 0;
    for (uint32_t k = 0; k < CHOSEN; k++) {
        if (test_rng_below(rng, 4) > 0) continue;
        in[chosen[k]] = true;
        chosen[n++] = chosen[k];
    }
    while (n < CHOSEN) {
        uint32_t a = test_rng_below(rng, MODEL_EXPERTS), c = test_rng_below(rng, MODEL_EXPERTS);
        uint32_t id = in[a < c ? a : c] ? a : a < c ? a : c;
        if (in[id]) continue;
        in[id] = true;
        chosen[n++] = id;
    }
}

/* The best by a noisy score; about 70 % of the first CHOSEN are right. */
static void rank(test_rng *rng, const bool *in, uint32_t *ranked)
{
    float score[MODEL_EXPERTS];
    for (uint32_t e = 0; e < MODEL_EXPERTS; e++)
        score[e] = test_rng_normal(rng) + (in[e] ? 2.6f : 0);
    for (uint32_t r = 0; r < RANKED; r++) {
        uint32_t best = 0;
        for (uint32_t e = 1; e < MODEL_EXPERTS; e++)
            best = score[e] > score[best] ? e : best;
        ranked[r] = best;
        score[best] = -1000;
    }
}

/* Every read ahead has the time to finish, so that nothing can be cancelled. */
static sl__cache_stats decode(cache_bed *b, sl_switch prefetch, unsigned tokens)
{
    const cache_bed_options opt = {.slots = 300, .prefetch = prefetch, .measure = true};
    uint32_t chosen[MODEL_LAYERS][CHOSEN], ranked[RANKED];
    test_rng rng = {9};
    cache_bed_open(b, &opt);
    for (uint32_t i = 0; i < MODEL_LAYERS * CHOSEN; i++)
        chosen[i / CHOSEN][i % CHOSEN] = i % CHOSEN;
    for (unsigned i = 0; i < tokens * MODEL_LAYERS; i++) {
        uint32_t layer = i % MODEL_LAYERS;
        bool in[MODEL_EXPERTS] = {false};
        next_choice(&rng, chosen[layer], in);
        rank(&rng, in, ranked);
        assert_true(sl__cache_wants_prediction(b->cache));
        sl__cache_predict(b->cache, layer, ranked, RANKED, CHOSEN, SL_GUESS_AHEAD);
        cache_bed_quiet(b);
        cache_bed_use(b, layer, chosen[layer], CHOSEN, false);
    }
    sl__cache_stats s = cache_bed_settle(b);
    cache_bed_close(b);
    return s;
}

/* A third of what is missing is read ahead; what went astray costs a tenth more of reading, and
 * drives nothing out that would have been asked for. */
static void test_auto_on_a_model(void **state)
{
    (void)state;
    fake_layer model[MODEL_LAYERS];
    cache_bed b;
    unsigned tokens = test_fast() ? 150 : 400;
    for (uint32_t l = 0; l < MODEL_LAYERS; l++)
        model[l] = (fake_layer){.experts = MODEL_EXPERTS, .extents = 1, .extent_bytes = 64};
    cache_bed_make(&b, model, MODEL_LAYERS);
    sl__cache_stats off = decode(&b, SL_OFF, tokens), s = decode(&b, SL_AUTO, tokens);
    cache_bed_remove(&b);
    double recall = (double)s.predicted_right / (double)s.predicted;
    double ahead = (double)(s.prefetch_useful + s.prefetch_late) * 64;
    assert_true(recall > 0.65 && recall < 0.75);
    assert_int_equal(off.predicted_right, s.predicted_right);
    assert_true(ahead > 0.25 * (double)s.bytes_missing);
    assert_true((double)s.bytes_read < 1.12 * (double)s.bytes_missing);
    assert_true((double)s.bytes_missing < 1.01 * (double)off.bytes_missing);
    assert_true(s.prefetch_on);
}

/* ---- at random ------------------------------------------------------------------------------- */

static void test_destroy_at_any_time(void **state)
{
    cache_bed *b = *state;
    io_shim_rules rules = {.delay = 500, .delay_us = 300};
    for (uint32_t round = 0; round < 12; round++) {
        const cache_bed_options opt = {.slots = 8 + 8 * round,
                                       .threads = 2,
                                       .max_reads = round % 2 ? 50 : 0,
                                       .prefetch = SL_ON,
                                       .rules = &rules};
        cache_bed_open(b, &opt);
        predict(b, 3, IDS(1, 2, 3, 4, 5, 6), 6);
        if (round % 3 == 0) cache_bed_request(b, 3, IDS(6, 5, 9, 10), 4, round % 2);
        if (round % 4 == 0) predict(b, 4, IDS(1, 2, 3, 4, 5, 6), 6);
        cache_bed_close(b);
    }
}

static void test_storm(void **state)
{
    cache_bed *b = *state;
    static const uint32_t slots[] = {2, 3, 5, 16, 40, 100, ALL};
    static const uint32_t max_reads[] = {1, 5, 50, 0};
    static const io_shim_rules rough = {.cut = 50, .eintr = 30, .delay = 5, .delay_us = 100},
                               broken = {.cut = 50, .eio = 5, .eagain = 5, .delay = 5,
                                         .delay_us = 100};
    cache_storm_tally sum = {0};
    uint64_t late = 0, useful = 0, wasted = 0, cancelled = 0;
    for (uint32_t i = 0; i < 7 * 4; i++) {
        bool faults = (i + i / 4) % 2;
        const cache_bed_options opt = {.slots = slots[i / 4],
                                       .max_reads = max_reads[i % 4],
                                       .prefetch = i % 3 ? SL_ON : SL_AUTO,
                                       .rules = faults ? &broken : &rough};
        const cache_storm_options storm = {.seed = i + 1,
                                           .requests = test_fast() ? 1000 : 5000,
                                           .faults = faults,
                                           .scans = i % 5 ? 50 : 500,
                                           .right = 800};
        cache_bed_open(b, &opt);
        cache_storm_tally tally = cache_storm_run(b, &storm);
        sl__cache_stats s = cache_bed_stats(b);
        sum.errors += tally.errors;
        sum.early += tally.early;
        late += s.prefetch_late;
        useful += s.prefetch_useful;
        wasted += s.prefetch_wasted;
        cancelled += s.prefetch_cancelled;
        cache_bed_close(b);
    }
    assert_true(sum.errors > 0 && sum.early > 0);
    assert_true(late > 0 && useful > 0 && wasted > 0 && cancelled > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_useful),
        cmocka_unit_test(test_late),
        cmocka_unit_test(test_cancelled_by_its_request),
        cmocka_unit_test(test_cancelled_by_the_next_prediction),
        cmocka_unit_test(test_a_nearer_guess),
        cmocka_unit_test(test_wasted_by_eviction),
        cmocka_unit_test(test_failed_read_ahead_fails_nothing),
        cmocka_unit_test(test_refused_submit),
        cmocka_unit_test(test_wrong_checksum),
        cmocka_unit_test(test_small_caches_read_nothing_ahead),
        cmocka_unit_test(test_a_quarter_at_most),
        cmocka_unit_test(test_demand_finds_its_slots),
        cmocka_unit_test(test_demand_is_read_first),
        cmocka_unit_test(test_waits_for_demand_that_waits),
        cmocka_unit_test(test_off),
        cmocka_unit_test(test_odd_predictions),
        cmocka_unit_test(test_auto),
        cmocka_unit_test(test_auto_on_a_model),
        cmocka_unit_test(test_destroy_at_any_time),
        cmocka_unit_test(test_storm),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
