/* Whether reading ahead pays: the controller against predictions of known quality. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "cache/cache_predictor.h"
#include "test_env.h"

#define BYTES 1000u
#define RANKS 10u

/* What happened in a run of requests of k experts each, RANKS of them predicted. */
typedef struct outcome {
    uint32_t requests, wanted, predicted;
    double missing, read, wasted;
    uint32_t read_at[RANKS];
} outcome;

/* A request: a third of the experts are in memory; an absent one at rank r is right with a chance
 * of right[r]; what was wrong is asked for later with a chance of `redeemed`. */
static void play_one(sl__predictor *p, test_rng *rng, const double *right, double redeemed,
                     bool scan, outcome *o)
{
    bool wanted = sl__predictor_wants(p);
    o->requests++;
    o->wanted += wanted;
    for (uint32_t r = 0; r < RANKS; r++) {
        if (test_rng_below(rng, 3) == 0) continue; /* in memory */
        bool is_right = test_rng_below(rng, 10000) < right[r] * 10000;
        if (wanted) {
            bool read = sl__predictor_bet(p, scan, r, RANKS, BYTES);
            o->predicted++;
            o->read += read ? BYTES : 0;
            o->read_at[r] += read;
            if (read && !is_right) {
                sl__predictor_astray(p, scan, BYTES);
                if (test_rng_below(rng, 10000) < redeemed * 10000)
                    sl__predictor_redeem(p, scan, BYTES);
                else
                    o->wasted += BYTES;
            }
            sl__predictor_learn(p, scan, r, is_right);
        }
        /* As many are missing as were predicted, right or in another's place. */
        sl__predictor_missing(p, scan, BYTES);
        o->missing += BYTES;
    }
    sl__predictor_visit(p, scan);
}

static outcome play(sl__predictor *p, test_rng *rng, const double *right, uint32_t requests)
{
    outcome o = {0};
    for (uint32_t i = 0; i < requests; i++)
        play_one(p, rng, right, 0, false, &o);
    return o;
}

static void falling(double *right, double first, double step)
{
    for (uint32_t r = 0; r < RANKS; r++) {
        right[r] = first - step * r;
        if (right[r] < 0) right[r] = 0;
    }
}

/* Whatever the predictions are worth, no more than a tenth of the missing bytes goes astray. */
static void test_waste_stays_within_its_budget(void **state)
{
    (void)state;
    for (unsigned quality = 0; quality <= 20; quality++) {
        for (unsigned slope = 0; slope < 3; slope++) {
            double right[RANKS];
            sl__predictor p;
            test_rng rng = {quality * 3 + slope + 1};
            falling(right, quality / 20.0, slope * 0.03);
            sl__predictor_init(&p, SL_AUTO, false);
            outcome o = play(&p, &rng, right, 6000);
            assert_true(o.wasted <= 0.12 * o.missing);
            o = play(&p, &rng, right, 20000);
            assert_true(o.wasted <= 0.105 * o.missing);
        }
    }
}

static void test_good_predictions_are_read(void **state)
{
    (void)state;
    double right[RANKS];
    sl__predictor p;
    test_rng rng = {1};
    falling(right, 0.95, 0);
    sl__predictor_init(&p, SL_AUTO, false);
    assert_true(sl__predictor_on(&p));
    play(&p, &rng, right, 3000);
    outcome o = play(&p, &rng, right, 10000);
    assert_int_equal(o.wanted, o.requests);
    assert_true(o.read > 0.9 * o.missing); /* there is room for nearly all */
    for (uint32_t r = 0; r < RANKS; r++) {
        double precision = sl__predictor_precision(&p, false, r);
        assert_true(precision > 0.85 && precision <= 1);
    }
}

/* Where the budget does not do for all, the better ranks get it, and most of it is used. */
static void test_the_budget_goes_to_the_best_ranks(void **state)
{
    (void)state;
    double right[RANKS];
    sl__predictor p;
    test_rng rng = {2};
    falling(right, 0.92, 0.05);
    sl__predictor_init(&p, SL_AUTO, false);
    play(&p, &rng, right, 5000);
    outcome o = play(&p, &rng, right, 20000);
    assert_true(o.read_at[0] > 2 * o.read_at[5]);
    assert_true(o.read_at[1] > 2 * o.read_at[6]);
    assert_true(o.read_at[9] < o.read_at[0] / 20); /* below the floor: 0.47 */
    assert_true(o.wasted > 0.05 * o.missing);
    assert_true(o.read > 0.35 * o.missing);
}

/* Nothing is missing, as where all experts are in memory: a look now and then is enough. */
static void test_idle_where_nothing_is_missing(void **state)
{
    (void)state;
    sl__predictor p;
    unsigned looked = 0;
    sl__predictor_init(&p, SL_AUTO, false);
    for (unsigned i = 0; i < 800; i++) {
        looked += !sl__predictor_idles(&p, BYTES);
        sl__predictor_visit(&p, false);
    }
    assert_true(looked > 50 && looked < 200);
    for (unsigned i = 0; i < 17; i++)
        sl__predictor_missing(&p, false, BYTES);
    assert_false(sl__predictor_idles(&p, BYTES));
    sl__predictor_init(&p, SL_ON, false);
    assert_false(sl__predictor_idles(&p, BYTES));
    sl__predictor_init(&p, SL_AUTO, true);
    assert_false(sl__predictor_idles(&p, BYTES));
}

static void test_off_and_on_again(void **state)
{
    (void)state;
    double good[RANKS], bad[RANKS];
    sl__predictor p;
    test_rng rng = {3};
    falling(good, 0.8, 0.02);
    falling(bad, 0.3, 0.02);
    sl__predictor_init(&p, SL_AUTO, false);
    for (unsigned round = 0; round < 3; round++) {
        play(&p, &rng, good, 4000);
        assert_true(sl__predictor_on(&p));
        play(&p, &rng, bad, 2000);
        assert_false(sl__predictor_on(&p));
        outcome o = play(&p, &rng, bad, 8000);
        assert_true(o.read == 0);
        assert_true(o.wanted > o.requests / 10 && o.wanted < o.requests / 6); /* one in eight */
    }
}

/* While it is off every layer is looked at, however many there are. */
static void test_samples_reach_every_layer(void **state)
{
    (void)state;
    double bad[RANKS];
    test_rng rng = {4};
    falling(bad, 0.1, 0);
    for (uint32_t layer_count = 1; layer_count <= 64; layer_count++) {
        uint32_t seen[64] = {0};
        sl__predictor p;
        outcome o = {0};
        sl__predictor_init(&p, SL_AUTO, false);
        play(&p, &rng, bad, 300);
        assert_false(sl__predictor_on(&p));
        for (uint32_t i = 0; i < 400 * layer_count; i++) {
            seen[i % layer_count] += sl__predictor_wants(&p);
            play_one(&p, &rng, bad, 0, false, &o);
        }
        for (uint32_t l = 0; l < layer_count; l++)
            assert_true(seen[l] > 10);
    }
}

/* Ranks that are never predicted keep nothing on. */
static void test_unseen_ranks_do_not_count(void **state)
{
    (void)state;
    sl__predictor p;
    sl__predictor_init(&p, SL_AUTO, false);
    for (unsigned i = 0; i < 200; i++) {
        sl__predictor_learn(&p, false, 0, false);
        sl__predictor_visit(&p, false);
    }
    assert_false(sl__predictor_on(&p));
    /* Far ranks share counters, and none is out of range. */
    sl__predictor_learn(&p, false, UINT32_MAX, true);
    assert_true(sl__predictor_precision(&p, false, 1000) ==
                sl__predictor_precision(&p, false, SL_PREDICTOR_RANKS - 1));
}

/* What went astray and is asked for later gives room back. */
static void test_redeemed(void **state)
{
    (void)state;
    double right[RANKS];
    outcome strict = {0}, lenient = {0};
    sl__predictor a, b;
    test_rng rng = {6};
    falling(right, 0.7, 0);
    sl__predictor_init(&a, SL_AUTO, false);
    sl__predictor_init(&b, SL_AUTO, false);
    for (unsigned i = 0; i < 20000; i++) {
        play_one(&a, &rng, right, 0, false, &strict);
        play_one(&b, &rng, right, 0.5, false, &lenient);
    }
    assert_true(lenient.read > 1.5 * strict.read);
    assert_true(lenient.wasted <= 0.11 * lenient.missing);
    sl__predictor_redeem(&a, false, UINT64_MAX); /* never below nothing */
    assert_true(a.kinds[false].astray == 0);
}

static void test_switches(void **state)
{
    (void)state;
    double bad[RANKS];
    test_rng rng = {7};
    falling(bad, 0, 0);
    for (unsigned measure = 0; measure < 2; measure++) {
        sl__predictor p;
        sl__predictor_init(&p, SL_ON, measure);
        outcome o = play(&p, &rng, bad, 1000);
        assert_true(sl__predictor_on(&p) && sl__predictor_wants(&p));
        assert_int_equal(o.read, (double)o.predicted * BYTES);
        assert_true(sl__predictor_bet(&p, false, 3, 4, BYTES));
        assert_false(sl__predictor_bet(&p, false, 4, 4, BYTES)); /* the first `chosen` */
        assert_true(sl__predictor_bet(&p, true, 4, 4, BYTES));   /* of a scan all */

        sl__predictor_init(&p, SL_OFF, measure);
        o = play(&p, &rng, bad, 1000);
        assert_false(sl__predictor_on(&p));
        assert_true(o.read == 0);
        assert_int_equal(o.wanted, measure ? o.requests : 0);

        sl__predictor_init(&p, SL_AUTO, measure);
        o = play(&p, &rng, bad, 1000);
        assert_false(sl__predictor_on(&p));
        assert_true(measure ? o.wanted == o.requests : o.wanted < o.requests / 4);
    }
}

/* Scans are learnt apart: neither kind spends the other's budget or its good name. */
static void test_scans_apart(void **state)
{
    (void)state;
    double good[RANKS], bad[RANKS];
    test_rng rng = {8};
    falling(good, 0.97, 0);
    falling(bad, 0.2, 0);
    sl__predictor p;
    sl__predictor_init(&p, SL_AUTO, false);
    outcome scans = {0}, tokens = {0};
    for (unsigned i = 0; i < 8000; i++) { /* a chunk, some tokens, a chunk, … */
        bool scan = i / 50 % 2 == 0;
        play_one(&p, &rng, scan ? good : bad, 0, scan, scan ? &scans : &tokens);
        if (scan) assert_true(sl__predictor_on(&p));
    }
    assert_false(sl__predictor_on(&p));
    assert_true(scans.read > 0.7 * scans.missing);
    assert_true(tokens.read < 0.05 * tokens.missing);
    assert_true(sl__predictor_precision(&p, true, 0) > 0.9);
    assert_true(sl__predictor_precision(&p, true, 9) > 0.9);
    assert_true(sl__predictor_precision(&p, false, 0) < 0.4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waste_stays_within_its_budget),
        cmocka_unit_test(test_good_predictions_are_read),
        cmocka_unit_test(test_the_budget_goes_to_the_best_ranks),
        cmocka_unit_test(test_idle_where_nothing_is_missing),
        cmocka_unit_test(test_off_and_on_again),
        cmocka_unit_test(test_samples_reach_every_layer),
        cmocka_unit_test(test_unseen_ranks_do_not_count),
        cmocka_unit_test(test_redeemed),
        cmocka_unit_test(test_switches),
        cmocka_unit_test(test_scans_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
