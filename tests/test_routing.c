/* Routing: every rule against the plainest way to say it, ties, groups with negative scores, and
 * numbers that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "model/routing.h"
#include "test_env.h"

#define EXPERTS_MAX 64u

static sl__kern kern;

static int find_kernels(void **state)
{
    (void)state;
    sl__kern_init(&kern, NULL);
    return 0;
}

typedef struct token {
    uint32_t experts, k;
    float outputs[EXPERTS_MAX], bias[EXPERTS_MAX], correction[EXPERTS_MAX];
    uint32_t ids[EXPERTS_MAX];
    float weights[EXPERTS_MAX];
} token;

static bool route(const sl__routing_desc *rule, token *t)
{
    float tmp[2 * EXPERTS_MAX];
    assert_true(sl__route_tmp(t->experts) <= 2 * EXPERTS_MAX);
    memset(t->ids, 0xff, sizeof t->ids);
    for (uint32_t i = 0; i < EXPERTS_MAX; i++)
        t->weights[i] = NAN;
    bool good = sl__route_token(rule, &kern, t->experts, t->k, t->outputs,
                                rule->bias ? t->bias : NULL,
                                rule->correction ? t->correction : NULL, tmp, t->ids, t->weights);
    for (uint32_t i = t->k; i < EXPERTS_MAX; i++)
        assert_true(t->ids[i] == UINT32_MAX && isnan(t->weights[i]));
    return good;
}

/* ---- the rule, plainly ----------------------------------------------------------------------- */

static double exact_score(const sl__routing_desc *rule, const token *t, const bool *chosen,
                          uint32_t e)
{
    double largest = -INFINITY, sum = 0;
    if (rule->score == SL_SCORE_SIGMOID) return 1 / (1 + exp(-(double)t->outputs[e]));
    for (uint32_t i = 0; i < t->experts; i++) {
        bool counts = rule->score == SL_SCORE_SOFTMAX || chosen[i];
        if (counts) largest = fmax(largest, (double)t->outputs[i]);
    }
    for (uint32_t i = 0; i < t->experts; i++) {
        bool counts = rule->score == SL_SCORE_SOFTMAX || chosen[i];
        if (counts) sum += exp((double)t->outputs[i] - largest);
    }
    return exp((double)t->outputs[e] - largest) / sum;
}

/* What is compared for choosing, in the float32 that the rule is in. */
static void comparisons(const sl__routing_desc *rule, const token *t, float *choice)
{
    memcpy(choice, t->outputs, t->experts * sizeof *choice);
    bool scores = rule->correction || rule->groups > 1;
    if (rule->score == SL_SCORE_SIGMOID) kern.sigmoid(choice, t->experts);
    if (rule->score == SL_SCORE_SOFTMAX && scores) kern.softmax(choice, t->experts);
    for (uint32_t e = 0; rule->correction && e < t->experts; e++)
        choice[e] += t->correction[e];
}

static uint32_t best_of(const float *x, uint32_t n, const bool *out)
{
    uint32_t best = n;
    for (uint32_t i = 0; i < n; i++) {
        if (!out[i] && (best == n || x[i] > x[best])) best = i;
    }
    return best;
}

static void exclude_groups(const sl__routing_desc *rule, const token *t, const float *choice,
                           bool *out)
{
    uint32_t size = t->experts / rule->groups;
    float score[EXPERTS_MAX];
    bool kept[EXPERTS_MAX] = {false};
    for (uint32_t g = 0; g < rule->groups; g++) {
        bool used[EXPERTS_MAX] = {false};
        uint32_t first = best_of(choice + g * size, size, used);
        used[first] = true;
        uint32_t second = best_of(choice + g * size, size, used);
        score[g] = choice[g * size + first] + choice[g * size + second];
    }
    for (uint32_t i = 0; i < rule->top_groups; i++)
        kept[best_of(score, rule->groups, kept)] = true;
    for (uint32_t e = 0; e < t->experts; e++)
        out[e] = !kept[e / size];
}

/* t->outputs as they are after routing: with the bias. */
static void check_routed(const sl__routing_desc *rule, const token *t)
{
    float choice[EXPERTS_MAX];
    bool out[EXPERTS_MAX] = {false}, chosen[EXPERTS_MAX] = {false};
    comparisons(rule, t, choice);
    if (rule->groups > 1) exclude_groups(rule, t, choice, out);
    for (uint32_t j = 0; j < t->k; j++) {
        uint32_t best = best_of(choice, t->experts, out);
        assert_int_equal(t->ids[j], best);
        out[best] = chosen[best] = true;
    }
    double want[EXPERTS_MAX], sum = rule->score == SL_SCORE_SIGMOID ? 1e-20 : 0;
    for (uint32_t j = 0; j < t->k; j++)
        sum += want[j] = exact_score(rule, t, chosen, t->ids[j]);
    for (uint32_t j = 0; j < t->k; j++) {
        if (rule->renormalise) want[j] /= sum;
        want[j] *= (double)rule->scale;
        if (fabs((double)t->weights[j] - want[j]) > 2e-6 * want[j] + 1e-30)
            fail_msg("weight %u is %g, not %g", j, (double)t->weights[j], want[j]);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void fill(token *t, test_rng *rng, bool ties)
{
    for (uint32_t e = 0; e < t->experts; e++) {
        t->outputs[e] = ties ? (float)(int)test_rng_below(rng, 4) - 2 : 3 * test_rng_normal(rng);
        t->bias[e] = ties ? (float)(int)test_rng_below(rng, 2) : test_rng_normal(rng);
        t->correction[e] = ties ? -1.0f : test_rng_normal(rng) - 0.5f; /* sums of both signs */
    }
}

static void every_rule_is_what_it_says(void **state)
{
    (void)state;
    static const uint32_t groups[] = {0, 1, 2, 4, 8};
    test_rng rng = {21};
    for (unsigned round = 0; round < 4000; round++) {
        sl__routing_desc rule = {.score = (sl__score)(round % 3), .bias = round / 3 % 2,
                                 .correction = round / 6 % 2, .renormalise = round / 12 % 2,
                                 .scale = round % 5 ? 1.0f : 2.5f,
                                 .groups = groups[round / 24 % 5]};
        uint32_t count = rule.groups ? rule.groups : 1;
        token t = {.experts = count * (2 + test_rng_below(&rng, EXPERTS_MAX / count - 1))};
        uint32_t eligible = t.experts;
        if (count > 1) {
            rule.top_groups = 1 + test_rng_below(&rng, count);
            eligible = t.experts / count * rule.top_groups;
        }
        t.k = 1 + test_rng_below(&rng, eligible);
        fill(&t, &rng, round % 7 == 0);
        float before[EXPERTS_MAX];
        memcpy(before, t.outputs, sizeof before);
        assert_true(route(&rule, &t));
        for (uint32_t e = 0; e < t.experts; e++) {
            float want = rule.bias ? before[e] + t.bias[e] : before[e];
            assert_memory_equal(&want, &t.outputs[e], sizeof want);
        }
        check_routed(&rule, &t);
    }
}

static void equal_scores_go_to_the_lower_index(void **state)
{
    (void)state;
    for (int score = 0; score < 3; score++) {
        token t = {.experts = 8, .k = 3, .outputs = {1, 2, 2, 1, 2, 2, 1, 2}};
        const sl__routing_desc rule = {.score = (sl__score)score, .renormalise = true, .scale = 1};
        assert_true(route(&rule, &t));
        assert_true(t.ids[0] == 1 && t.ids[1] == 2 && t.ids[2] == 4);
        for (unsigned j = 0; j < 3; j++)
            assert_true(fabsf(t.weights[j] - 1.0f / 3) < 1e-6f);
        const sl__routing_desc grouped = {.score = SL_SCORE_SIGMOID, .correction = true,
                                          .groups = 4, .top_groups = 2, .scale = 1};
        assert_true(route(&grouped, &t)); /* groups score 3, 3, 4, 3 before the sigmoid */
        assert_true(t.ids[0] == 1 && t.ids[1] == 4 && t.ids[2] == 5);
    }
}

/* Sigmoid outputs differ while sigmoids are one: the choice is by the scores. */
static void saturated_sigmoids_are_ties(void **state)
{
    (void)state;
    token t = {.experts = 4, .k = 2, .outputs = {0, 40, 60, 50}};
    const sl__routing_desc rule = {.score = SL_SCORE_SIGMOID, .scale = 1};
    assert_true(route(&rule, &t));
    assert_true(t.ids[0] == 1 && t.ids[1] == 2);
    /* Softmax is by the outputs: what rounds to one probability stays apart. */
    token close = {.experts = 3, .k = 1, .outputs = {-90, -80, 30}, .correction = {0}};
    const sl__routing_desc soft = {.score = SL_SCORE_SOFTMAX, .scale = 1};
    close.k = 2;
    assert_true(route(&soft, &close));
    assert_true(close.ids[0] == 2 && close.ids[1] == 1);
}

/* An expert outside the best groups is not chosen even where all inside are negative. */
static void excluded_groups_stay_out(void **state)
{
    (void)state;
    token t = {.experts = 4, .k = 2, .outputs = {0, 0, 0, 0},
               .correction = {-0.6f, -9, -0.7f, -0.8f}};
    const sl__routing_desc rule = {.score = SL_SCORE_SIGMOID, .correction = true, .groups = 2,
                                   .top_groups = 1, .renormalise = true, .scale = 2.5f};
    assert_true(route(&rule, &t));
    assert_true(t.ids[0] == 2 && t.ids[1] == 3);
    assert_true(t.weights[0] == 1.25f && t.weights[1] == 1.25f); /* without the correction */
}

static void sigmoids_that_are_all_zero_are_divided_by_more(void **state)
{
    (void)state;
    token t = {.experts = 3, .k = 2, .outputs = {-200, -200, -200}};
    const sl__routing_desc rule = {.score = SL_SCORE_SIGMOID, .renormalise = true, .scale = 1};
    assert_true(route(&rule, &t));
    assert_true(t.weights[0] == 0 && t.weights[1] == 0);
}

static void what_is_not_finite_is_refused(void **state)
{
    (void)state;
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    test_rng rng = {5};
    for (unsigned i = 0; i < 3 * 3 * 2; i++) {
        token t = {.experts = 16, .k = 4};
        sl__routing_desc rule = {.score = (sl__score)(i % 3), .scale = 1,
                                 .groups = i % 2 ? 4 : 1, .top_groups = i % 2 ? 2 : 1};
        fill(&t, &rng, false);
        t.outputs[test_rng_below(&rng, 16)] = bad[i / 6];
        assert_false(route(&rule, &t));
        fill(&t, &rng, false);
        rule.bias = true;
        t.bias[test_rng_below(&rng, 16)] = bad[i / 6];
        assert_false(route(&rule, &t));
        fill(&t, &rng, false);
        rule.bias = false;
        rule.correction = true;
        t.correction[test_rng_below(&rng, 16)] = bad[i / 6];
        assert_false(route(&rule, &t));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_is_what_it_says),
        cmocka_unit_test(equal_scores_go_to_the_lower_index),
        cmocka_unit_test(saturated_sigmoids_are_ties),
        cmocka_unit_test(excluded_groups_stay_out),
        cmocka_unit_test(sigmoids_that_are_all_zero_are_divided_by_more),
        cmocka_unit_test(what_is_not_finite_is_refused),
    };
    return cmocka_run_group_tests(tests, find_kernels, NULL);
}
