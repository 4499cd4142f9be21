/* Mixture of experts over a chunk: route every token, group the tokens by expert, read each expert
 * once, multiply it with all its tokens, and sum a token's outputs in router order.
 *
 *     tokens      t0: e7 e2        rows (grouped by expert, increasing):
 *                 t1: e2 e5            e2: t0 t1 | e5: t1 | e7: t0
 *     row[t][j] says where the output for the j-th choice of token t lies.
 *
 * Experts become ready in any order; each writes its own rows, and the sum is taken afterwards in
 * the order of the choices, so the order of arrival cannot be seen in the result. A dense layer is
 * the shared expert alone.
 */
#include "model/moe.h"

#include <string.h>

#include "base/fail.h"
#include "cache/trace.h"
#include "model/ranking.h"
#include "model/routing.h"

/* Of a chunk the cache hears of the last tokens: the others are forgotten by the time it ends. */
#define NOTED_TOKENS 16u

/* ---- routing --------------------------------------------------------------------------------- */

/* Tells the cache, and a trace, what the router said of token t, just routed: what it thinks of all
 * experts, not only of those it chose. */
static void tell(const sl__moe *moe, uint32_t t)
{
    sl__run *run = moe->run;
    sl__scratch *s = &run->scratch;
    const sl__moe_desc *m = moe->m;
    uint32_t k = m->top_k, n = sl__rank_depth(m->experts, k), *ranked = s->moe.ranked;
    bool noted = t + NOTED_TOKENS >= moe->tokens;
    if (!noted && !run->trace) return;
    sl__route_scores(&m->routing, &run->kern, m->experts, s->moe.router + (size_t)t * m->experts,
                     run->layers[moe->layer][SL_ROLE_ROUTER_CORRECTION].data, s->moe.scores);
    sl__rank_experts(s->moe.scores, m->experts, s->moe.ids + (size_t)t * k, k, n, ranked);
    if (noted) sl__cache_note(run->cache, moe->layer, ranked, n, k);
    if (!run->trace) return;
    bool guessed = moe->tokens == 1 && run->predicted_layer == moe->layer;
    sl__trace_token(run->trace, moe->layer, ranked, n, k, guessed ? s->predicted_first : NULL,
                    guessed ? k : 0);
}

static bool route_row(sl__moe *moe, uint32_t t)
{
    sl__run *run = moe->run;
    sl__scratch *s = &run->scratch;
    const sl__weight *w = run->layers[moe->layer];
    uint32_t experts = moe->m->experts, k = moe->m->top_k;
    return sl__route_token(&moe->m->routing, &run->kern, experts, k,
                           s->moe.router + (size_t)t * experts, w[SL_ROLE_ROUTER_BIAS].data,
                           w[SL_ROLE_ROUTER_CORRECTION].data, s->moe.route_tmp,
                           s->moe.ids + (size_t)t * k, s->moe.weights + (size_t)t * k);
}

/* Rows of a stretch that has failed take any experts, so that those of others need not know. */
static void route_stretch(sl__moe *moe, sl__stretch *p)
{
    sl__scratch *s = &moe->run->scratch;
    uint32_t k = moe->m->top_k;
    for (uint32_t t = p->first; t < p->first + p->tokens; t++) {
        if (!p->failed && route_row(moe, t)) {
            tell(moe, t);
            continue;
        }
        p->failed = true;
        for (uint32_t j = 0; j < k; j++) {
            s->moe.ids[(size_t)t * k + j] = j;
            s->moe.weights[(size_t)t * k + j] = 0;
        }
    }
}

static sl_status route(sl__moe *moe, sl_error *err)
{
    sl__run *run = moe->run;
    sl__scratch *s = &run->scratch;
    const sl__weight *w = run->layers[moe->layer];
    const sl__product router =
        sl__product_of(&w[SL_ROLE_ROUTER], s->normed, s->moe.router, moe->tokens);
    sl__products(run, &router, 1);
    uint32_t sound = 0;
    for (uint32_t i = 0; i < moe->chunk->count; i++) {
        route_stretch(moe, &moe->chunk->stretches[i]);
        if (!moe->chunk->stretches[i].failed) sound++;
    }
    if (sound > 0) return SL_OK;
    return SL_FAIL(err, SL_ENUMERIC, "%s: layer %u: the router's output is not finite",
                   sl__store_path(run->store), moe->layer);
}

/* Counting sort of (token, choice) by expert. */
static void group(sl__moe *moe)
{
    sl__scratch *s = &moe->run->scratch;
    uint32_t experts = moe->m->experts, k = moe->m->top_k, slots = moe->tokens * k;
    uint32_t *first = s->moe.first;
    memset(first, 0, ((size_t)experts + 1) * sizeof *first);
    for (uint32_t i = 0; i < slots; i++)
        first[s->moe.ids[i] + 1]++;
    moe->unique_count = 0;
    for (uint32_t e = 0; e < experts; e++) {
        if (first[e + 1] > 0) s->moe.unique[moe->unique_count++] = e;
        first[e + 1] += first[e];
    }
    for (uint32_t i = 0; i < slots; i++) {
        uint32_t row = first[s->moe.ids[i]]++;
        s->moe.row[i] = row;
        s->moe.token[row] = i / k;
    }
    /* Each first[e] has moved to its end, which is where e + 1 begins: move them back. */
    memmove(first + 1, first, experts * sizeof *first);
    first[0] = 0;
}

/* ---- experts --------------------------------------------------------------------------------- */

/* Takes experts as they become ready, a batch at a time, until all of the ticket are done. */
static sl_status run_ticket(const sl__moe *moe, sl__ticket *ticket, sl_error *err)
{
    sl__cache *cache = moe->run->cache;
    uint32_t most = sl__cache_slots(cache) / 2; /* the other half goes on loading */
    if (most < 1) most = 1;
    if (most > SL_EXPERT_BATCH_MAX) most = SL_EXPERT_BATCH_MAX;
    for (;;) {
        sl__expert_ref refs[SL_EXPERT_BATCH_MAX];
        uint32_t count = 0;
        bool got = true;
        sl_status status = SL_OK;
        while (status == SL_OK && got && count < most) {
            status = sl__cache_next(cache, ticket, count == 0, &refs[count], &got, err);
            if (status == SL_OK && got) count++;
        }
        if (status == SL_OK && count > 0) sl__experts_run(moe, refs, count);
        for (uint32_t i = 0; i < count; i++)
            sl__cache_release(cache, ticket, &refs[i]);
        if (status != SL_OK || count == 0) return status;
    }
}

static sl_status run_routed(sl__moe *moe, sl_error *err)
{
    sl__ticket *ticket;
    sl__cache *cache = moe->run->cache;
    SL_TRY(route(moe, err));
    group(moe);
    SL_TRY(sl__cache_request(cache, &ticket, moe->layer, moe->run->scratch.moe.unique,
                             moe->unique_count, moe->tokens >= SL_SCAN_TOKENS, err));
    /* Missing experts load while the next layer's are predicted, to be read after them, and while
     * the shared expert is computed. */
    uint32_t next = sl__next_moe_layer(moe->run, moe->layer + 1);
    if (next < moe->run->desc->layer_count) sl__predict_experts(moe->run, next, moe->tokens, false);
    if (moe->m->shared_intermediate > 0) sl__shared_run(moe);
    sl_status status = run_ticket(moe, ticket, err);
    sl__cache_end(cache, ticket);
    return status;
}

/* mixed[t] = Σ_j weight[t][j] · rows[row[t][j]] in router order, then the shared expert. */
static void sum_token(void *ctx, uint32_t t, uint32_t worker)
{
    (void)worker;
    const sl__moe *moe = ctx;
    const sl__scratch *s = &moe->run->scratch;
    uint32_t hidden = moe->run->desc->hidden, k = moe->m->experts ? moe->m->top_k : 0;
    float *out = s->mixed + (size_t)t * hidden;
    memset(out, 0, hidden * sizeof *out);
    for (uint32_t j = 0; j < k; j++) {
        size_t slot = (size_t)t * k + j;
        moe->run->kern.axpy(out, s->moe.weights[slot],
                            s->moe.rows + (size_t)s->moe.row[slot] * hidden, hidden);
    }
    if (moe->m->shared_intermediate == 0) return;
    float scale = moe->m->shared_gate ? s->moe.shared_scale[t] : 1.0f;
    moe->run->kern.axpy(out, scale, s->moe.shared_out + (size_t)t * hidden, hidden);
}

sl_status sl__moe_block(sl__run *run, uint32_t layer, sl__chunk *chunk, const float **router_out,
                        sl_error *err)
{
    const uint32_t tokens = chunk->tokens;
    sl__moe moe = {.run = run, .m = &run->desc->layers[layer].moe, .layer = layer, .chunk = chunk,
                   .layout = sl__store_expert_layout(run->store, layer), .tokens = tokens};
    assert((moe.layout != NULL) == (moe.m->experts > 0));
    if (sl__experts_take_q8(&moe) || sl__shared_takes_q8(&moe)) {
        sl__round(run, SL_ROUND_Q8, run->scratch.normed, run->desc->hidden, run->desc->hidden,
                  tokens, run->scratch.moe.q8_tokens);
    }
    if (moe.m->experts > 0) SL_TRY(run_routed(&moe, err));
    else sl__shared_run(&moe);
    sl__run_parallel(run, sum_token, &moe, tokens,
                     (uint64_t)tokens * run->desc->hidden * (moe.m->top_k + 1));
    if (router_out) *router_out = moe.m->experts > 0 ? run->scratch.moe.router : NULL;
    return SL_OK;
}
