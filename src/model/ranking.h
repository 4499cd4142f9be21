/* The order of a token's experts behind those that were chosen: what the cache is told (notes),
 * what is read ahead (predictions), what a trace holds. */
#ifndef SL_MODEL_RANKING_H
#define SL_MODEL_RANKING_H

#include <stdint.h>

/* How many of a token's experts are ranked: an expert beyond four times as many as are chosen is
 * no likelier to come next than the last one. */
static inline uint32_t sl__rank_depth(uint32_t experts, uint32_t top_k)
{
    return experts / 4 < top_k ? experts : 4 * top_k;
}

/* The n best of `experts` by score into ids[n], best first, ties to the lower index. The first
 * `chosen` are as the router chose them, chosen_ids[chosen] in their order, whatever their scores
 * (a router's groups and corrections may have their say); with chosen 0, by score alone.
 * chosen <= n <= experts. A NaN is worse than any number. Takes experts · log2(n) steps at worst,
 * far fewer where most scores are not among the best. */
void sl__rank_experts(const float *scores, uint32_t experts, const uint32_t *chosen_ids,
                      uint32_t chosen, uint32_t n, uint32_t *ids);

#endif
