/* Attention over a layer's cache, cut into work for the pool. What attention.c and mla.c have in
 * common: the queries of a chunk, the blocks that state.h describes, and outputs.
 *
 *     tile     the queries of some tokens and of heads that share a KV head: one call of a kernel
 *     span     SL_ATTEND_SPAN positions counted from 0
 *
 *     many tiles (prefill)    a task is a tile: all spans, one after the other
 *     few tiles (decode)      a task is a span of a tile; then rows are folded, span by span
 *
 * Where several sequences look back, the tiles of all count: what would keep a thread busy for long
 * after the others is cut into spans, by itself, and all else is one loop over tiles.
 *
 *         slots   | span s | s + 1 | … |   partial results of all tiles, a wave of spans at a time;
 *                 +--------+-------+---+   after a wave the first slot holds all that came before
 *
 * Both fold the same partial results in the same order, so neither the cut nor the number of
 * threads nor the other tokens of a chunk can be seen in a result.
 */
#ifndef SL_MODEL_LOOKBACK_H
#define SL_MODEL_LOOKBACK_H

#include "model/model.h"
#include "model/state.h"

struct sl__run;

typedef struct sl__lookback {
    const sl__layer_state *state;
    uint32_t heads, kv_heads, qk_dim, v_dim;
    /* Queries: of token t, head h at q + t·q_token + h·q_head, in floats. gate > 0: so far behind
     * a query are v_dim numbers, with whose sigmoid the output is multiplied; they are overwritten.
     */
    float *q;
    size_t q_token, q_head, gate;
    uint32_t position, tokens, window; /* window 0: all */
    float scale;
    const float *sinks; /* [heads]; NULL: none */
    float *out;         /* [tokens][heads][v_dim] */
} sl__lookback;

/* One of every sequence of a chunk: count is 1 to SL_STRETCHES_MAX; of one layer. */
void sl__look_back(const struct sl__run *run, const sl__lookback *looks, uint32_t count);

/* Floats of worker scratch for it, and of scratch.partials (0 for one thread). */
size_t sl__look_back_worker_floats(uint32_t heads, uint32_t kv_heads, uint32_t qk_dim,
                                   uint32_t v_dim, uint32_t tokens);
size_t sl__look_back_partials(uint32_t heads, uint32_t v_dim, uint32_t context, uint32_t threads);

#endif
