/* Opening and closing a model. */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/pages.h"
#include "base/sysmem.h"
#include "engine/synth.h"
#include "model/moe.h"

/* A lossy choice: only downwards from what was trained, and only when asked for. */
static sl_status set_top_k(sl__model_desc *desc, const char *path, uint32_t asked, sl_error *err)
{
    if (asked == 0) return SL_OK;
    if (asked > desc->trained_top_k) {
        return SL_FAIL(err, SL_EINVAL, "%s: %u experts a token were asked for, the model was "
                       "trained with %u", path, asked, desc->trained_top_k);
    }
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        if (desc->layers[i].moe.experts > 0) desc->layers[i].moe.top_k = asked;
    }
    return SL_OK;
}

static sl_status open_tokenizer(sl_engine *engine, const sl_engine_options *opt, sl_error *err)
{
    char path[SL_PATH_MAX];
    if (opt->tokenizer) {
        engine->tokenizer = opt->tokenizer;
    } else if (sl__store_tokenizer_path(engine->store, path, sizeof path)) {
        SL_TRY(sl_tokenizer_open(&engine->own_tokenizer, path, err));
        engine->tokenizer = engine->own_tokenizer;
    }
    if (engine->tokenizer && sl_tokenizer_vocab_size(engine->tokenizer) > engine->desc.vocab) {
        return SL_FAIL(err, SL_EFORMAT, "%s: the tokenizer has %u tokens, the model %u",
                       sl__store_path(engine->store), sl_tokenizer_vocab_size(engine->tokenizer),
                       engine->desc.vocab);
    }
    return SL_OK;
}

/* Headers: what the model is, and where its experts lie. */
static sl_status describe(sl_engine *engine, const char *path, const sl_engine_options *opt,
                          sl_error *err)
{
    SL_TRY(sl__store_open(&engine->store, path, err));
    SL_TRY(sl__model_describe(&engine->desc, &engine->family, engine->store, &engine->arena, err));
    SL_TRY(set_top_k(&engine->desc, path, opt->experts_per_token, err));
    for (uint32_t i = 0; i < engine->desc.layer_count; i++) {
        SL_TRY(sl__model_bind_experts(engine->store, engine->family, &engine->desc, i, err));
    }
    const char *generation_path;
    const json_t *generation = sl__store_generation_config(engine->store, &generation_path);
    SL_TRY(sl__generation_config_read(generation, generation_path,
                                      sl__store_config(engine->store), &engine->defaults, err));
    return open_tokenizer(engine, opt, err);
}

static sl_status make_plan(sl_engine *engine, const char *path, const sl_engine_options *opt,
                           sl_error *err)
{
    sl__mem_trim(); /* of the headers only tables are left */
    const sl__plan_input in = {
        .desc = &engine->desc,
        .family = engine->family,
        .store = engine->store,
        .path = path,
        .process_bytes = sl__mem_rss(),
        .free_bytes = sl__mem_available(),
        .reads = &engine->reads,
    };
    uint64_t memory = opt->memory_bytes ? opt->memory_bytes : in.process_bytes + in.free_bytes;
    SL_TRY(sl__reads_choose(&engine->reads, engine->store, engine->desc.layer_count, memory, opt,
                            err));
    return sl__plan_make(&engine->plan, &in, opt, err);
}

static sl_status take_scratch(sl_engine *engine, sl_error *err)
{
    const sl__plan *plan = &engine->plan;
    sl__scratch *scratch = &engine->run.scratch;
    const sl__scratch_needs needs =
        sl__scratch_needs_of(&engine->desc, engine->store, plan->activations, plan->chunk_tokens,
                             plan->context_tokens, plan->threads);
    size_t forward = sl__scratch_layout(scratch, &engine->desc, &needs, NULL);
    size_t logits = (size_t)plan->logits_rows * engine->desc.vocab * sizeof(float);
    engine->scratch_bytes = forward + logits + sl__embedding_row_bytes(&engine->desc);
    engine->scratch = sl__pages_alloc(engine->scratch_bytes);
    if (!engine->scratch) return SL_FAIL_NOMEM(err, "scratch");
    sl__scratch_layout(scratch, &engine->desc, &needs, engine->scratch);
    engine->logits = (float *)(void *)(engine->scratch + forward);
    engine->embedding_row = engine->scratch + forward + logits;
    return SL_OK;
}

static sl__map_advice map_advice_of(sl_map_advice advice)
{
    switch (advice) {
    case SL_MAP_ADVICE_RANDOM: return SL_MAP_RANDOM;
    case SL_MAP_ADVICE_WILLNEED: return SL_MAP_WILLNEED;
    default: return SL_MAP_NORMAL;
    }
}

static sl_status open_cache(sl_engine *engine, const sl_engine_options *opt, sl_error *err)
{
    const sl__reads *reads = &engine->reads;
    const sl__io_options io = sl__reads_io(reads);
    const sl__cache_options cache = {.budget_bytes = engine->plan.cache,
                                     .verify = opt->verify,
                                     .layer_count = engine->desc.layer_count,
                                     .direct = reads->direct,
                                     .mapped = reads->kind == SL_IO_KIND_MMAP,
                                     .map_advice = map_advice_of(opt->map_advice),
                                     .prefetch = opt->prefetch,
                                     .pool = engine->run.pool};
    if (!cache.mapped) SL_TRY(sl__io_create(&engine->io, reads->kind, &io, err));
    SL_TRY(sl__cache_create(&engine->run.cache, engine->store, engine->io, &cache, err));
    if (opt->follow_memory == SL_OFF || cache.mapped) return SL_OK;
    uint64_t least = sl__cache_minimum(engine->store, engine->desc.layer_count);
    return sl__mempressure_create(&engine->pressure, least, NULL, err);
}

/* Says what would have done, where the level that was asked for does not run. */
static sl_status choose_kernels(sl__kern *kern, const char *asked, sl_error *err)
{
    if (sl__kern_init(kern, asked)) return SL_OK;
    sl_cpu_info cpu;
    char here[128] = "";
    bool known = false;
    sl_cpu_info_get(&cpu);
    for (uint32_t i = 0; sl_cpu_level_name(i); i++) {
        const char *name = sl_cpu_level_name(i);
        size_t used = strlen(here);
        known = known || strcmp(name, asked) == 0;
        if (cpu.levels >> i & 1)
            snprintf(here + used, sizeof here - used, "%s%s", used ? ", " : "", name);
    }
    return SL_FAIL(err, SL_EINVAL, "cpu level %.40s: %s; here there are %s", asked,
                   known ? "this processor does not have it" : "there is none of that name", here);
}

static sl_status open_parts(sl_engine *engine, const char *path, const sl_engine_options *opt,
                            sl_error *err)
{
    SL_TRY(choose_kernels(&engine->run.kern, opt->cpu_level, err));
    SL_TRY(describe(engine, path, opt, err));
    SL_TRY(make_plan(engine, path, opt, err));
    SL_TRY(take_scratch(engine, err));
    SL_TRY(sl__load_weights(engine, opt->verify, err));
    SL_TRY(sl__pool_create(&engine->run.pool, engine->plan.threads, err));
    (void)sl__pool_bind(engine->run.pool);
    engine->run.activations = engine->plan.activations;
    SL_TRY(open_cache(engine, opt, err));
    engine->run.desc = &engine->desc;
    engine->run.store = engine->store;
    engine->run.predicted_layer = UINT32_MAX;
    return SL_OK;
}

sl_status sl_engine_open(sl_engine **out, const char *path, const sl_engine_options *opt,
                         sl_error *err)
{
    const sl_engine_options defaults = {0};
    sl_engine *engine = calloc(1, sizeof *engine);
    if (!engine) return SL_FAIL_NOMEM(err, "engine");
    sl__arena_init(&engine->arena, 0);
    sl_status status = open_parts(engine, path, opt ? opt : &defaults, err);
    if (status != SL_OK) {
        sl_engine_close(engine);
        return status;
    }
    *out = engine;
    return SL_OK;
}

void sl_engine_close(sl_engine *engine)
{
    if (!engine) return;
    sl__pool_destroy(engine->run.pool);
    if (engine->run.trace) sl_engine_trace_end(engine, NULL);
    if (engine->run.cache) sl__cache_destroy(engine->run.cache);
    sl__mempressure_destroy(engine->pressure);
    sl__io_destroy(engine->io);
    sl__pages_free(engine->scratch, engine->scratch_bytes);
    sl__pages_free(engine->weights, engine->weights_bytes);
    sl_tokenizer_close(engine->own_tokenizer);
    sl__store_close(engine->store);
    sl__arena_free(&engine->arena);
    free(engine);
}

const sl_tokenizer *sl_engine_tokenizer(const sl_engine *engine) { return engine->tokenizer; }

void sl_engine_generation_defaults(const sl_engine *engine, sl_generation_defaults *defaults)
{
    *defaults = engine->defaults;
}

/* What the experts of all layers take, and how they are stored. */
static void add_experts(const sl_engine *engine, sl_engine_info *info)
{
    uint64_t weights = 0;
    for (uint32_t i = 0; i < engine->desc.layer_count; i++) {
        const sl__expert_layout *layout = sl__store_expert_layout(engine->store, i);
        if (!layout) continue;
        info->experts_bytes += layout->record_bytes * layout->expert_count;
        for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
            const sl__matrix_layout *m = &layout->part[part];
            if (m->rows == 0) continue;
            weights += (uint64_t)m->rows * m->cols * layout->expert_count;
            sl__dtype_list_add(info->expert_types, sizeof info->expert_types, m->dtype);
        }
        if (info->expert_bytes == 0) info->expert_bytes = layout->record_bytes;
    }
    info->expert_bits = weights ? (double)info->experts_bytes * 8 / (double)weights : 0;
}

static void add_rounding(sl_engine_info *info, sl__rounding to)
{
    if (to == SL_ROUND_NONE) return;
    info->activations = SL_ACTIVATIONS_Q8;
    sl__dtype_list_add(info->rounded_to, sizeof info->rounded_to,
                       to == SL_ROUND_Q8 ? SL_Q8 : SL_BF16);
}

/* What products round their inputs to. */
static void add_roundings(const sl_engine *engine, sl_engine_info *info)
{
    const sl__run *run = &engine->run;
    add_rounding(info, sl__rounding_of(run, &run->model[SL_ROLE_HEAD]));
    for (uint32_t i = 0; i < engine->desc.layer_count; i++) {
        const sl__expert_layout *layout = sl__store_expert_layout(engine->store, i);
        for (uint32_t p = 0; layout && p < SL_PART_COUNT; p++)
            add_rounding(info, sl__part_rounding(layout, (sl__expert_part)p, run->activations));
        for (uint32_t r = 0; r < SL_ROLE_LAYER_COUNT; r++) {
            /* No products of sl__products: biases, and what latent attention opens a head of. */
            bool other = r == SL_ROLE_EXPERT_IN_BIAS || r == SL_ROLE_EXPERT_OUT_BIAS ||
                         r == SL_ROLE_MLA_KV_UP;
            if (!other) add_rounding(info, sl__rounding_of(run, &run->layers[i][r]));
        }
    }
}

void sl_engine_info_get(const sl_engine *engine, sl_engine_info *info)
{
    const sl__model_desc *desc = &engine->desc;
    const sl__moe_desc *moe = &desc->layers[sl__model_moe_layer(desc)].moe;
    const sl__plan *plan = &engine->plan;
    *info = (sl_engine_info){
        .family = desc->family,
        .path = sl__store_path(engine->store),
        .layers = desc->layer_count,
        .hidden_size = desc->hidden,
        .vocab_size = desc->vocab,
        .experts = moe->experts,
        .experts_per_token = moe->top_k,
        .trained_experts_per_token = desc->trained_top_k,
        .context_tokens = plan->context_tokens,
        .chunk_tokens = plan->chunk_tokens,
        .sessions = plan->sessions,
        .threads = plan->threads,
        .kv = plan->kv,
        .cpu_level = engine->run.kern.level,
        .memory_bytes = plan->budget,
        .resident_bytes = plan->resident,
        .state_bytes = plan->state,
        .scratch_bytes = plan->scratch,
        .cache_bytes = plan->cache,
        .process_bytes = plan->process,
        .embedding_resident = plan->embedding_resident,
        .io = engine->reads.kind,
        .direct = engine->reads.direct,
        .io_depth = engine->reads.depth,
        .io_split_bytes = engine->reads.split_bytes,
        .disk_bytes_per_s = engine->reads.bytes_per_s,
    };
    sl__synth_mark mark;
    info->synthetic = sl__synth_read_mark(sl__store_config(engine->store), &mark);
    add_experts(engine, info);
    add_roundings(engine, info);
}

void sl_engine_experts_get(const sl_engine *engine, sl_expert_map *map)
{
    sl__cache_map(engine->run.cache, map);
}

void sl_engine_stats_get(const sl_engine *engine, sl_stats *stats)
{
    sl__cache_stats cache;
    sl__io_stats io = {0};
    sl__cache_stats_get(engine->run.cache, &cache);
    if (engine->io) sl__io_stats_get(engine->io, &io);
    *stats = (sl_stats){
        .tokens = engine->tokens,
        .expert_requests = cache.requests,
        .expert_hits = cache.hits,
        .expert_joins = cache.joins,
        .expert_misses = cache.misses,
        .expert_evictions = cache.evictions,
        .bytes_needed = cache.bytes_needed,
        .bytes_missing = cache.bytes_missing,
        .bytes_read = cache.bytes_read + engine->embedding_bytes_read,
        .wait_ns = cache.wait_ns,
        .verify_ns = cache.verify_ns,
        .forward_ns = engine->forward_ns,
        .read_ns = io.busy_ns,
        .io_cpu_ns = io.cpu_ns,
        .prefetch_reads = cache.prefetch_reads,
        .prefetch_useful = cache.prefetch_useful,
        .prefetch_late = cache.prefetch_late,
        .prefetch_wasted = cache.prefetch_wasted,
        .prefetch_cancelled = cache.prefetch_cancelled,
        .prefetch_bytes = cache.prefetch_bytes,
        .prefetch_wasted_bytes = cache.prefetch_wasted_bytes,
        .prefetch_on = cache.prefetch_on,
        .predicted = cache.predicted,
        .predicted_right = cache.predicted_right,
        .cache_bytes = cache.budget_bytes,
        .cache_resizes = cache.resizes,
    };
}
