/* A token's way through the rule:
 *
 *     outputs (+ bias) ── scores ─┬─ + correction ── groups ── top k ──> ids
 *                                 └──────────────────────────── of ids, ÷ sum, × scale ──> weights
 *
 * With groups, the experts of the chosen groups are moved together and the k best are looked for
 * among them alone: an expert outside can never be chosen, whatever the signs of the scores.
 */
#include "model/routing.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* The sum of a group's two best. */
static float group_score(const float *x, uint32_t size)
{
    float best = fmaxf(x[0], x[1]), second = fminf(x[0], x[1]);
    for (uint32_t i = 2; i < size; i++) {
        if (x[i] > best) {
            second = best;
            best = x[i];
        } else if (x[i] > second) {
            second = x[i];
        }
    }
    return best + second;
}

/* The k best among the experts of the best groups; choice[experts] is reordered. */
static bool choose_in_groups(const sl__routing_desc *rule, uint32_t experts, uint32_t top_k,
                             float *choice, uint32_t *ids)
{
    float scores[SL_ROUTING_GROUPS_MAX];
    uint32_t best[SL_ROUTING_GROUPS_MAX], kept[SL_ROUTING_GROUPS_MAX], count = 0;
    bool taken[SL_ROUTING_GROUPS_MAX] = {false};
    uint32_t size = experts / rule->groups;
    assert(rule->groups <= SL_ROUTING_GROUPS_MAX && experts % rule->groups == 0 && size >= 2);
    assert(rule->top_groups <= rule->groups && top_k <= rule->top_groups * size);
    for (uint32_t g = 0; g < rule->groups; g++)
        scores[g] = group_score(choice + (size_t)g * size, size);
    if (!sl__top_k(scores, rule->groups, rule->top_groups, best)) return false;
    for (uint32_t i = 0; i < rule->top_groups; i++)
        taken[best[i]] = true;
    for (uint32_t g = 0; g < rule->groups; g++) { /* in order, so that ties stay what they are */
        if (!taken[g]) continue;
        memmove(choice + (size_t)count * size, choice + (size_t)g * size, size * sizeof *choice);
        kept[count++] = g;
    }
    if (!sl__top_k(choice, count * size, top_k, ids)) return false;
    for (uint32_t j = 0; j < top_k; j++)
        ids[j] = kept[ids[j] / size] * size + ids[j] % size;
    return true;
}

static bool all_finite(const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return false;
    }
    return true;
}

/* choice is scratch. */
static bool choose(const sl__routing_desc *rule, uint32_t experts, uint32_t top_k,
                   const float *scores, const float *correction, float *choice, uint32_t *ids)
{
    if (!rule->correction && rule->groups <= 1) return sl__top_k(scores, experts, top_k, ids);
    for (uint32_t e = 0; e < experts; e++)
        choice[e] = rule->correction ? scores[e] + correction[e] : scores[e];
    if (!all_finite(choice, experts)) return false;
    if (rule->groups > 1) return choose_in_groups(rule, experts, top_k, choice, ids);
    return sl__top_k(choice, experts, top_k, ids);
}

static void weigh(const sl__routing_desc *rule, uint32_t top_k, const float *scores,
                  const uint32_t *ids, float *weights)
{
    float sum = 0;
    for (uint32_t j = 0; j < top_k; j++)
        sum += weights[j] = scores[ids[j]];
    /* Sigmoids can all be 0. */
    if (rule->score == SL_SCORE_SIGMOID) sum += 1e-20f;
    for (uint32_t j = 0; j < top_k; j++) {
        if (rule->renormalise) weights[j] /= sum;
        weights[j] *= rule->scale;
    }
}

bool sl__route_token(const sl__routing_desc *rule, const sl__kern *kern, uint32_t experts,
                     uint32_t top_k, float *outputs, const float *bias, const float *correction,
                     float *tmp, uint32_t *ids, float *weights)
{
    float *scores = tmp, *choice = tmp + experts;
    for (uint32_t e = 0; rule->bias && e < experts; e++)
        outputs[e] += bias[e];
    if (!all_finite(outputs, experts)) return false;
    memcpy(scores, outputs, experts * sizeof *scores);
    if (rule->score == SL_SCORE_SIGMOID) kern->sigmoid(scores, experts);
    if (rule->score == SL_SCORE_SOFTMAX) kern->softmax(scores, experts);
    /* Softmax keeps the order, and before it no two outputs have been rounded to one. */
    bool by_output = rule->score == SL_SCORE_SOFTMAX && !rule->correction && rule->groups <= 1;
    if (!choose(rule, experts, top_k, by_output ? outputs : scores, correction, choice, ids)) {
        return false;
    }
    if (rule->score == SL_SCORE_TOP_SOFTMAX) {
        /* The scores were the outputs; now they are softmax over the chosen. */
        for (uint32_t j = 0; j < top_k; j++)
            choice[j] = scores[ids[j]];
        kern->softmax(choice, top_k);
        for (uint32_t j = 0; j < top_k; j++)
            scores[ids[j]] = choice[j];
    }
    weigh(rule, top_k, scores, ids, weights);
    return true;
}

void sl__route_scores(const sl__routing_desc *rule, const sl__kern *kern, uint32_t experts,
                      const float *outputs, const float *correction, float *scores)
{
    memcpy(scores, outputs, experts * sizeof *scores);
    if (!rule->correction) return; /* every score keeps the order of the outputs */
    if (rule->score == SL_SCORE_SIGMOID) kern->sigmoid(scores, experts);
    if (rule->score == SL_SCORE_SOFTMAX) kern->softmax(scores, experts);
    for (uint32_t e = 0; e < experts; e++)
        scores[e] += correction[e];
}
