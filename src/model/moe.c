/* Mixture of experts over a chunk: route every token, group the tokens by expert, read each expert
 * once, multiply it with all its tokens, and sum a token's outputs in router order.
 *
 *     tokens      t0: e7 e2        rows (grouped by expert, increasing):
 *                 t1: e2 e5            e2: t0 t1 | e5: t1 | e7: t0
 *     row[t][j] says where the output for the j-th choice of token t lies.
 *
 * Experts become ready in any order; each writes its own rows, and the sum is taken afterwards in
 * the order of the choices, so the order of arrival cannot be seen in the result.
 */
#include "model/run.h"

#include <math.h>
#include <string.h>

#include "base/fail.h"

struct moe {
    sl__run *run;
    const sl__moe_desc *m;
    const sl__expert_layout *layout;
    uint32_t layer, tokens;
    uint32_t unique_count;
};

/* ---- routing --------------------------------------------------------------------------------- */

/* Softmax over all experts, the k largest, renormalised. False where an output is not finite. */
static bool route_token(const struct moe *moe, uint32_t t)
{
    const sl__scratch *s = &moe->run->scratch;
    uint32_t experts = moe->m->experts, k = moe->m->top_k;
    const float *router = s->moe.router + (size_t)t * experts;
    float *probs = s->moe.probs + (size_t)t * experts;
    uint32_t *ids = s->moe.ids + (size_t)t * k;
    float *weights = s->moe.weights + (size_t)t * k;
    if (!sl__top_k(router, experts, k, ids)) return false;
    memcpy(probs, router, experts * sizeof *probs);
    moe->run->kern.softmax(probs, experts);
    float sum = 0;
    for (uint32_t j = 0; j < k; j++)
        sum += probs[ids[j]];
    for (uint32_t j = 0; j < k; j++)
        weights[j] = probs[ids[j]] / sum;
    return true;
}

static sl_status route(struct moe *moe, sl_error *err)
{
    sl__scratch *s = &moe->run->scratch;
    const sl__product router = sl__product_of(&moe->run->layers[moe->layer][SL_ROLE_ROUTER],
                                              s->normed, s->moe.router, moe->tokens);
    sl__products(moe->run, &router, 1);
    for (uint32_t t = 0; t < moe->tokens; t++) {
        if (!route_token(moe, t)) {
            return SL_FAIL(err, SL_ENUMERIC, "%s: layer %u: the router's output is not finite",
                           sl__store_path(moe->run->store), moe->layer);
        }
    }
    return SL_OK;
}

/* Counting sort of (token, choice) by expert. */
static void group(struct moe *moe)
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

static sl__weight part_of(const struct moe *moe, const sl__expert_ref *ref, sl__expert_part part)
{
    const sl__matrix_layout *p = &moe->layout->part[part];
    return (sl__weight){p->dtype, p->rows, p->cols, (size_t)p->row_bytes,
                        (const char *)ref->record + p->offset};
}

struct activation {
    const sl__run *run;
    float *gate;
    const float *up;
    uint32_t width;
};

static void activate_row(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct activation *job = ctx;
    size_t at = (size_t)index * job->width;
    job->run->kern.swiglu(job->gate + at, job->gate + at, job->up + at, job->width);
}

static void activate(const sl__run *run, float *gate, const float *up, uint32_t rows,
                     uint32_t width)
{
    struct activation job = {run, gate, up, width};
    sl__run_parallel(run, activate_row, &job, rows, (uint64_t)rows * width * 16);
}

/* The feed-forward networks of a batch of experts, each over its own rows. */
static void run_experts(const struct moe *moe, const sl__expert_ref *refs, uint32_t count)
{
    sl__scratch *s = &moe->run->scratch;
    uint32_t hidden = moe->run->desc->hidden, inner = moe->m->intermediate;
    sl__product in[2 * SL_EXPERT_BATCH_MAX], out[SL_EXPERT_BATCH_MAX];
    for (uint32_t i = 0; i < count; i++) {
        uint32_t first = s->moe.first[refs[i].expert], end = s->moe.first[refs[i].expert + 1];
        uint32_t n = end - first;
        float *rows = s->moe.rows + (size_t)first * hidden;
        float *gate = s->moe.gate + (size_t)first * inner, *up = s->moe.up + (size_t)first * inner;
        for (uint32_t r = first; r < end; r++) {
            memcpy(s->moe.rows + (size_t)r * hidden,
                   s->normed + (size_t)s->moe.token[r] * hidden, hidden * sizeof(float));
        }
        const sl__weight wg = part_of(moe, &refs[i], SL_PART_GATE);
        const sl__weight wu = part_of(moe, &refs[i], SL_PART_UP);
        const sl__weight wd = part_of(moe, &refs[i], SL_PART_DOWN);
        in[2 * i] = sl__product_of(&wg, rows, gate, n);
        in[2 * i + 1] = sl__product_of(&wu, rows, up, n);
        out[i] = sl__product_of(&wd, gate, rows, n); /* the inputs are no longer needed then */
    }
    sl__products(moe->run, in, 2 * count);
    for (uint32_t i = 0; i < count; i++)
        activate(moe->run, in[2 * i].y, in[2 * i + 1].y, in[2 * i].tokens, inner);
    sl__products(moe->run, out, count);
}

/* Takes experts as they become ready, a batch at a time, until all of the ticket are done. */
static sl_status run_ticket(const struct moe *moe, sl__ticket *ticket, sl_error *err)
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
        if (status == SL_OK && count > 0) run_experts(moe, refs, count);
        for (uint32_t i = 0; i < count; i++)
            sl__cache_release(cache, ticket, &refs[i]);
        if (status != SL_OK || count == 0) return status;
    }
}

/* ---- shared expert and sum ------------------------------------------------------------------- */

static void run_shared(const struct moe *moe)
{
    sl__run *run = moe->run;
    sl__scratch *s = &run->scratch;
    const sl__weight *w = run->layers[moe->layer];
    uint32_t n = moe->tokens;
    const sl__product in[] = {
        sl__product_of(&w[SL_ROLE_SHARED_GATE_PROJ], s->normed, s->moe.shared_gate, n),
        sl__product_of(&w[SL_ROLE_SHARED_UP_PROJ], s->normed, s->moe.shared_up, n),
        sl__product_of(&w[SL_ROLE_SHARED_GATE], s->normed, s->moe.shared_scale, n),
    };
    sl__products(run, in, 3);
    activate(run, s->moe.shared_gate, s->moe.shared_up, n, moe->m->shared_intermediate);
    const sl__product out =
        sl__product_of(&w[SL_ROLE_SHARED_DOWN_PROJ], s->moe.shared_gate, s->moe.shared_out, n);
    sl__products(run, &out, 1);
    run->kern.sigmoid(s->moe.shared_scale, n);
}

/* mixed[t] = Σ_j weight[t][j] · rows[row[t][j]] in router order, then the shared expert. */
static void sum_token(void *ctx, uint32_t t, uint32_t worker)
{
    (void)worker;
    const struct moe *moe = ctx;
    const sl__scratch *s = &moe->run->scratch;
    uint32_t hidden = moe->run->desc->hidden, k = moe->m->top_k;
    float *out = s->mixed + (size_t)t * hidden;
    memset(out, 0, hidden * sizeof *out);
    for (uint32_t j = 0; j < k; j++) {
        size_t slot = (size_t)t * k + j;
        moe->run->kern.axpy(out, s->moe.weights[slot],
                            s->moe.rows + (size_t)s->moe.row[slot] * hidden, hidden);
    }
    if (moe->m->shared_intermediate == 0) return;
    moe->run->kern.axpy(out, s->moe.shared_scale[t], s->moe.shared_out + (size_t)t * hidden,
                        hidden);
}

sl_status sl__moe_block(sl__run *run, uint32_t layer, uint32_t tokens, const float **router_out,
                        sl_error *err)
{
    struct moe moe = {.run = run, .m = &run->desc->layers[layer].moe, .layer = layer,
                      .layout = sl__store_expert_layout(run->store, layer), .tokens = tokens};
    assert(moe.layout);
    SL_TRY(route(&moe, err));
    group(&moe);
    sl__ticket *ticket;
    SL_TRY(sl__cache_request(run->cache, &ticket, layer, run->scratch.moe.unique,
                             moe.unique_count, err));
    /* The shared expert is computed while missing experts load. */
    if (moe.m->shared_intermediate > 0) run_shared(&moe);
    sl_status status = run_ticket(&moe, ticket, err);
    sl__cache_end(run->cache, ticket);
    if (status != SL_OK) return status;
    sl__run_parallel(run, sum_token, &moe, tokens,
                     (uint64_t)tokens * run->desc->hidden * (moe.m->top_k + 1));
    if (router_out) *router_out = run->scratch.moe.router;
    return SL_OK;
}
