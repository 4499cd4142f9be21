/* Traces of routing: recording one while a model runs, and what can be said of one afterwards. */
#include <string.h>

#include "base/fail.h"
#include "cache/simulate.h"
#include "cache/trace.h"
#include "engine/engine.h"
#include "model/ranking.h"

/* ---- recording ------------------------------------------------------------------------------- */

sl_status sl_engine_trace_begin(sl_engine *engine, const char *path, sl_error *err)
{
    const sl__model_desc *desc = &engine->desc;
    const char *model = sl__store_path(engine->store);
    sl__trace_shape shape = {.layers = desc->layer_count};
    if (engine->run.trace) {
        return SL_FAIL(err, SL_EINVAL, "%s: a trace is being written already", path);
    }
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__moe_desc *moe = &desc->layers[i].moe;
        if (moe->experts > shape.experts) shape.experts = moe->experts;
        if (moe->experts > 0) shape.k = moe->top_k;
    }
    if (shape.experts == 0) {
        return SL_FAIL(err, SL_EINVAL, "%s: has no routed experts, so nothing to trace", model);
    }
    shape.depth = sl__rank_depth(shape.experts, shape.k);
    return sl__trace_create(&engine->run.trace, path, &shape, err);
}

sl_status sl_engine_trace_end(sl_engine *engine, sl_error *err)
{
    sl__trace_writer *writer = engine->run.trace;
    if (!writer) return SL_FAIL(err, SL_EINVAL, "no trace is being written");
    engine->run.trace = NULL;
    return sl__trace_finish(writer, err);
}

/* ---- afterwards ------------------------------------------------------------------------------ */

sl_status sl_trace_inspect(const char *path, sl_trace_info *info, sl_error *err)
{
    sl__trace trace;
    SL_TRY(sl__trace_read(&trace, path, err));
    *info = (sl_trace_info){
        .layers = trace.layers,
        .experts = trace.experts,
        .experts_per_token = trace.k,
        .tokens = trace.tokens,
        .overlap = sl__trace_overlap(&trace),
        .predictable = sl__trace_predictable(&trace),
    };
    sl__trace_free(&trace);
    return SL_OK;
}

static const char *const policies[] = {"lru", "sluice", "belady", NULL};
enum { LRU, SLUICE, BELADY, POLICIES };

const char *const *sl_trace_policies(void) { return policies; }

sl_status sl_trace_simulate(const char *path, const char *policy, uint64_t slots,
                            sl_trace_result *result, sl_error *err)
{
    int which = 0;
    while (which < POLICIES && strcmp(policies[which], policy) != 0)
        which++;
    if (which == POLICIES) {
        return SL_FAIL(err, SL_EINVAL, "%s: no such policy; there are lru, sluice and belady",
                       policy);
    }
    sl__trace trace;
    sl__hits hits;
    SL_TRY(sl__trace_read(&trace, path, err));
    uint32_t n = slots < UINT32_MAX ? (uint32_t)slots : UINT32_MAX;
    sl_status status =
        which == BELADY
            ? sl__simulate_best(&trace, n, &hits, err)
            : sl__simulate_policy(&trace, which == LRU ? SL_POLICY_LRU : SL_POLICY_DEFAULT, n,
                                  &hits, err);
    sl__trace_free(&trace);
    if (status != SL_OK) return status;
    *result = (sl_trace_result){.slots = slots, .requests = hits.requests, .hits = hits.hits};
    memcpy(result->policy, policies[which], strlen(policies[which]) + 1);
    return SL_OK;
}
