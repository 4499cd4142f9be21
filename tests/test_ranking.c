/* Ranking experts: against a plain search, with ties, NaN, and chosen ids that score low. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "model/ranking.h"
#include "test_env.h"

#define MOST 70u

static bool plainly_better(const float *scores, uint32_t a, uint32_t b)
{
    if (isnan(scores[b]) && !isnan(scores[a])) return true;
    if (isnan(scores[a]) && !isnan(scores[b])) return false;
    if (scores[a] > scores[b]) return true;
    if (scores[a] < scores[b]) return false;
    return a < b;
}

/* The best that is not among the first `have`, again and again. */
static void plain_rank(const float *scores, uint32_t experts, uint32_t have, uint32_t n,
                       uint32_t *ids)
{
    for (; have < n; have++) {
        uint32_t best = UINT32_MAX;
        for (uint32_t e = 0; e < experts; e++) {
            bool taken = false;
            for (uint32_t i = 0; i < have; i++)
                taken = taken || ids[i] == e;
            if (!taken && (best == UINT32_MAX || plainly_better(scores, e, best))) best = e;
        }
        ids[have] = best;
    }
}

static void test_against_plain(void **state)
{
    (void)state;
    test_rng rng = {7};
    for (unsigned round = 0; round < 3000; round++) {
        float scores[MOST];
        uint32_t experts = 1 + test_rng_below(&rng, MOST), n = test_rng_below(&rng, experts + 1);
        uint32_t chosen = test_rng_below(&rng, n + 1), ids[MOST + 1], want[MOST], order[MOST];
        for (uint32_t e = 0; e < experts; e++) {
            scores[e] = round % 2 ? test_rng_normal(&rng) : (float)test_rng_below(&rng, 4);
            if (test_rng_below(&rng, 20) == 0) scores[e] = round % 3 ? NAN : INFINITY;
            order[e] = e;
        }
        for (uint32_t i = 0; i < chosen; i++) { /* any, whatever their scores */
            uint32_t j = i + test_rng_below(&rng, experts - i), id = order[j];
            order[j] = order[i];
            want[i] = order[i] = id;
        }
        plain_rank(scores, experts, chosen, n, want);
        memset(ids, 0xff, sizeof ids);
        sl__rank_experts(scores, experts, order, chosen, n, ids);
        assert_memory_equal(ids, want, n * sizeof *ids);
        assert_int_equal(ids[n], UINT32_MAX);
    }
}

static void test_depth(void **state)
{
    (void)state;
    assert_int_equal(sl__rank_depth(512, 10), 40);
    assert_int_equal(sl__rank_depth(64, 8), 32);
    assert_int_equal(sl__rank_depth(32, 8), 32);
    assert_int_equal(sl__rank_depth(35, 8), 32);
    assert_int_equal(sl__rank_depth(31, 8), 31);
    assert_int_equal(sl__rank_depth(1, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_plain),
        cmocka_unit_test(test_depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
