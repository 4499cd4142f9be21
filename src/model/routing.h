/* Which experts a token goes to, and with what weights: a function of one token's router outputs,
 * in float32. */
#ifndef SL_MODEL_ROUTING_H
#define SL_MODEL_ROUTING_H

#include "kern/kern.h"
#include "model/model.h"

#define SL_ROUTING_GROUPS_MAX 256u

/* Floats of scratch that routing a token takes. */
static inline size_t sl__route_tmp(uint32_t experts)
{
    return (size_t)experts * 2;
}

/* Chooses top_k of `experts` by the rule and weighs them.
 *
 *   outputs     [experts]: the router's product; the bias, where the rule has one, is added to it
 *   bias, correction  [experts]; not looked at where the rule has none
 *   tmp         sl__route_tmp(experts) floats
 *   ids         [top_k]: best first, ties to the lower index
 *   weights     [top_k]
 *
 * False where an output (or a score with its correction) is a NaN or an infinity. The rule's groups
 * divide experts, hold two or more each, are at most SL_ROUTING_GROUPS_MAX, and the top_groups of
 * them hold top_k experts. */
bool sl__route_token(const sl__routing_desc *rule, const sl__kern *kern, uint32_t experts,
                     uint32_t top_k, float *outputs, const float *bias, const float *correction,
                     float *tmp, uint32_t *ids, float *weights);

/* What a ranking of experts goes by: scores[experts] in the order in which the rule, groups aside,
 * would choose. outputs: the bias added. */
void sl__route_scores(const sl__routing_desc *rule, const sl__kern *kern, uint32_t experts,
                      const float *outputs, const float *correction, float *scores);

#endif
