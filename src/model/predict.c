/* Reading ahead: the next layer's router on the stream as it is now.
 *
 *     residual ── that layer's norm ── its router ── scores ── ranked, best first
 *
 *     one token     its ranking
 *     a few         rank by rank: every token's first, every token's second, …
 *     a scan        all that any token chose, in file order
 *
 * A layer is guessed at twice: while the layer before asks for its experts, from a stream that
 * lacks those and the layer's own mixer; and just before that mixer. Both are hints, the second a
 * better and a later one: the expert cache learns which ranks of which to believe.
 */
#include "model/run.h"

#include <string.h>

#include "model/ranking.h"
#include "model/routing.h"

uint32_t sl__next_moe_layer(const sl__run *run, uint32_t layer)
{
    while (layer < run->desc->layer_count && run->desc->layers[layer].moe.experts == 0)
        layer++;
    return layer;
}

/* Adds an expert to the prediction where it is not in it yet. */
static uint32_t list_expert(sl__scratch *s, uint32_t count, uint32_t expert)
{
    if (s->moe.listed[expert]) return count;
    s->moe.listed[expert] = true;
    s->moe.predicted[count] = expert;
    return count + 1;
}

/* Rank by rank through all tokens; *chosen is how many the first k ranks gave. */
static uint32_t list_by_rank(sl__scratch *s, const sl__moe_desc *m, uint32_t tokens,
                             uint32_t *chosen)
{
    uint32_t depth = sl__rank_depth(m->experts, m->top_k), count = 0;
    memset(s->moe.listed, 0, m->experts * sizeof *s->moe.listed);
    for (uint32_t rank = 0; rank < depth; rank++) {
        for (uint32_t t = 0; t < tokens; t++)
            count = list_expert(s, count, s->moe.ranked[(size_t)t * depth + rank]);
        if (rank + 1 == m->top_k) *chosen = count;
    }
    return count;
}

/* What the tokens choose, in file order. */
static uint32_t list_scan(sl__scratch *s, const sl__moe_desc *m, uint32_t tokens)
{
    uint32_t depth = sl__rank_depth(m->experts, m->top_k), count = 0;
    memset(s->moe.listed, 0, m->experts * sizeof *s->moe.listed);
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t rank = 0; rank < m->top_k; rank++)
            s->moe.listed[s->moe.ranked[(size_t)t * depth + rank]] = true;
    }
    for (uint32_t e = 0; e < m->experts; e++) {
        if (s->moe.listed[e]) s->moe.predicted[count++] = e;
    }
    return count;
}

/* The rankings of `tokens` tokens of the chunk from `first` on. */
static void rank_tokens(sl__run *run, uint32_t layer, uint32_t first, uint32_t tokens)
{
    sl__scratch *s = &run->scratch;
    const sl__moe_desc *m = &run->desc->layers[layer].moe;
    const sl__weight *w = run->layers[layer];
    uint32_t hidden = run->desc->hidden, depth = sl__rank_depth(m->experts, m->top_k);
    const float *bias = w[SL_ROLE_ROUTER_BIAS].data;
    sl__norm_rows(run, s->moe.predict_normed, s->residual + (size_t)first * hidden,
                  &w[SL_ROLE_FFN_NORM], tokens, hidden);
    const sl__product router = sl__product_of(&w[SL_ROLE_ROUTER], s->moe.predict_normed,
                                              s->moe.predict_router, tokens);
    sl__products(run, &router, 1);
    for (uint32_t t = 0; t < tokens; t++) {
        float *outputs = s->moe.predict_router + (size_t)t * m->experts;
        if (m->routing.bias) run->kern.axpy(outputs, 1.0f, bias, m->experts);
        sl__route_scores(&m->routing, &run->kern, m->experts, outputs,
                         w[SL_ROLE_ROUTER_CORRECTION].data, s->moe.scores);
        sl__rank_experts(s->moe.scores, m->experts, NULL, 0, depth,
                         s->moe.ranked + (size_t)t * depth);
    }
}

void sl__predict_experts(sl__run *run, uint32_t layer, uint32_t tokens, bool near)
{
    const sl__moe_desc *m = &run->desc->layers[layer].moe;
    uint32_t n = tokens < SL_PREDICT_TOKENS ? tokens : SL_PREDICT_TOKENS, count, chosen = 0;
    bool scan = tokens >= SL_SCAN_TOKENS;
    if (m->experts == 0) return;
    if (!run->trace && !sl__cache_wants_prediction(run->cache)) return;
    rank_tokens(run, layer, tokens - n, n);
    if (!near) { /* what a trace tells of */
        run->predicted_layer = layer;
        memcpy(run->scratch.predicted_first, run->scratch.moe.ranked,
               m->top_k * sizeof(uint32_t));
    }
    if (scan)
        count = chosen = list_scan(&run->scratch, m, n);
    else
        count = list_by_rank(&run->scratch, m, n, &chosen);
    sl__guess guess = scan ? SL_GUESS_SCAN : near ? SL_GUESS_NEAR : SL_GUESS_AHEAD;
    sl__cache_predict(run->cache, layer, run->scratch.moe.predicted, count, chosen, guess);
}
