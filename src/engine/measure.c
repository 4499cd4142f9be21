/* How a model routes: what the dials of a synthetic model set, measured on any model with experts.
 *
 *     token t, layer l:   mixer ─ + ─ stream ─┬─ norm and router of l ──────► chosen[l]
 *                                             └─ norm and router of l + 1 ──► foretold[l + 1]
 *
 *     overlap      of chosen[l], those that token t − 1 chose in l too
 *     predictable  of chosen[l], those in foretold[l]
 */
#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "model/routing.h"

struct watch {
    sl__run *run;
    sl__arena arena;
    uint32_t k;              /* the most of a layer */
    bool second;             /* there was a token before */
    uint32_t *before;        /* [layers][k]: what the last token chose */
    uint32_t *foretold[2];   /* [k]: for layers of even and of odd number */
    float *normed;           /* [hidden] */
    float *router;           /* [experts] */
    float *route_tmp, *weights;
    float *logits;           /* [vocab] */
    uint64_t overlapping, overlap_of, foretold_right, foretold_of;
};

static uint32_t count_common(const uint32_t *a, const uint32_t *b, uint32_t k)
{
    uint32_t common = 0;
    for (uint32_t i = 0; i < k; i++) {
        for (uint32_t j = 0; j < k; j++)
            common += a[i] == b[j];
    }
    return common;
}

/* Asks the router of `layer` about a state that it will see only later. A router whose output is
 * not finite here foretells nothing; where it counts the forward pass fails by itself. */
static void foretell(struct watch *w, uint32_t layer, const float *stream)
{
    const sl__model_desc *desc = w->run->desc;
    if (layer >= desc->layer_count || desc->layers[layer].moe.experts == 0) return;
    const sl__moe_desc *m = &desc->layers[layer].moe;
    const sl__weight *weights = w->run->layers[layer];
    uint32_t *ids = w->foretold[layer % 2];
    sl__norm_rows(w->run, w->normed, stream, &weights[SL_ROLE_FFN_NORM], 1, desc->hidden);
    const sl__product router =
        sl__product_of(&weights[SL_ROLE_ROUTER], w->normed, w->router, 1);
    sl__products(w->run, &router, 1);
    if (sl__route_token(&m->routing, &w->run->kern, m->experts, m->top_k, w->router,
                        weights[SL_ROLE_ROUTER_BIAS].data,
                        weights[SL_ROLE_ROUTER_CORRECTION].data, w->route_tmp, ids, w->weights)) {
        return;
    }
    for (uint32_t i = 0; i < m->top_k; i++)
        ids[i] = m->experts;
}

/* What a layer has chosen for the one token of the chunk. */
static void compare(struct watch *w, uint32_t layer)
{
    uint32_t k = w->run->desc->layers[layer].moe.top_k;
    const uint32_t *chosen = w->run->scratch.moe.ids;
    uint32_t *before = w->before + (size_t)layer * w->k;
    if (w->second) {
        w->overlapping += count_common(chosen, before, k);
        w->overlap_of += k;
    }
    memcpy(before, chosen, k * sizeof *before);
    if (layer == 0) return;
    w->foretold_right += count_common(chosen, w->foretold[layer % 2], k);
    w->foretold_of += k;
}

static void watch(void *ctx, sl__observed what, uint32_t layer, uint32_t first, uint32_t count,
                  uint32_t width, const float *data)
{
    (void)first;
    (void)width;
    assert(count == 1);
    (void)count;
    if (what == SL_OBSERVED_MIXED) foretell(ctx, layer + 1, data);
    if (what == SL_OBSERVED_ROUTER) compare(ctx, layer);
}

static sl_status take_memory(struct watch *w, sl_error *err)
{
    const sl__model_desc *desc = w->run->desc;
    uint32_t experts = 0;
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__moe_desc *m = &desc->layers[i].moe;
        if (m->experts > experts) experts = m->experts;
        if (m->experts > 0 && m->top_k > w->k) w->k = m->top_k;
    }
    w->before = SL_ARENA_NEW(&w->arena, uint32_t, (size_t)desc->layer_count * w->k);
    w->foretold[0] = SL_ARENA_NEW(&w->arena, uint32_t, w->k);
    w->foretold[1] = SL_ARENA_NEW(&w->arena, uint32_t, w->k);
    w->normed = SL_ARENA_NEW(&w->arena, float, desc->hidden);
    w->router = SL_ARENA_NEW(&w->arena, float, experts);
    w->route_tmp = SL_ARENA_NEW(&w->arena, float, sl__route_tmp(experts));
    w->weights = SL_ARENA_NEW(&w->arena, float, w->k);
    w->logits = SL_ARENA_NEW(&w->arena, float, desc->vocab);
    return w->before && w->foretold[0] && w->foretold[1] && w->normed && w->router &&
                   w->route_tmp && w->weights && w->logits
               ? SL_OK
               : SL_FAIL_NOMEM(err, "routing measurement");
}

/* The model's own text, from the id in the middle of its vocabulary on. */
static sl_status run_tokens(struct watch *w, sl_session *session, uint32_t tokens,
                            sl_sampler *sampler, sl_error *err)
{
    int32_t id = (int32_t)(w->run->desc->vocab / 2);
    for (uint32_t i = 0; i < tokens; i++) {
        if (i > 0) SL_TRY(sl_sampler_sample(sampler, w->logits, &id, err));
        SL_TRY(sl_session_eval(session, &id, 1, w->logits, NULL, NULL, err));
        w->second = true;
    }
    return SL_OK;
}

static sl_status measure(struct watch *w, sl_session *session, uint32_t tokens, sl_error *err)
{
    sl_sampler *sampler;
    sl_sampler_options sampling;
    sl_sampler_options_default(&sampling);
    sampling.temperature = 1;
    SL_TRY(take_memory(w, err));
    SL_TRY(sl_sampler_create(&sampler, w->run->desc->vocab, &sampling, err));
    sl_session_reset(session);
    sl__observer_fn observer = session->observer;
    void *observer_ctx = session->observer_ctx;
    sl__session_observe(session, watch, w);
    sl_status status = run_tokens(w, session, tokens, sampler, err);
    sl__session_observe(session, observer, observer_ctx);
    sl_sampler_destroy(sampler);
    return status;
}

static double fraction(uint64_t part, uint64_t of)
{
    return of > 0 ? (double)part / (double)of : (double)NAN;
}

sl_status sl_measure_routing(sl_session *session, uint32_t tokens, sl_routing_measured *out,
                             sl_error *err)
{
    sl_engine *engine = session->engine;
    const char *path = sl__store_path(engine->store);
    const sl__model_desc *desc = &engine->desc;
    if (desc->layers[sl__model_moe_layer(desc)].moe.experts == 0) {
        return SL_FAIL(err, SL_EINVAL, "%s: the model has no routed experts to measure", path);
    }
    if (tokens < 2 || tokens > engine->plan.context_tokens) {
        return SL_FAIL(err, SL_EINVAL, "%s: routing is measured over 2 to %u tokens (the context), "
                       "not %u", path, engine->plan.context_tokens, tokens);
    }
    struct watch w = {.run = &engine->run};
    sl__arena_init(&w.arena, 0);
    sl_status status = measure(&w, session, tokens, err);
    sl__arena_free(&w.arena);
    if (status != SL_OK) return status;
    *out = (sl_routing_measured){.tokens = tokens,
                                 .overlap = fraction(w.overlapping, w.overlap_of),
                                 .predictable = fraction(w.foretold_right, w.foretold_of)};
    return SL_OK;
}
