/* The memory plan: one budget for the whole process, split before anything large is taken.
 *
 *     budget = process so far | resident weights | sessions | kept prompts | scratch | io | expert
 *              cache
 *
 * What is left for the cache is what the rest does not need. Where that is too little the plan
 * first takes smaller chunks, then leaves the embedding on the disk (a token needs one row of it),
 * then makes logits a token at a time, then, where no context was asked for, takes a shorter one.
 * No choice made here can be seen in a result: chunks are multiples of SL_DELTA_CHUNK.
 */
#include "engine/engine.h"

#include <stdio.h>

#include "base/checked.h"
#include "base/cpus.h"
#include "base/fail.h"

#define CONTEXT_DEFAULT 4096u
#define CONTEXT_LEAST 256u
#define CHUNK_DEFAULT 512u
#define CHUNK_MAX 65536u
#define CHUNK_STREAMED_MAX 4096u
#define CHUNK_MEMORY_PART 8u
#define READING_LONG_S 0.5
#define DISK_BYTES_PER_S 2e9 /* where it was not measured */
/* Descriptions, first pages of stacks, kernels that are first called later, and the like. */
#define MISC_BYTES ((uint64_t)192 << 10)
#define BATCH_BYTES ((uint64_t)832 << 10) /* more of the like, where there are several sessions */
#define STACK_TOUCHED_BYTES ((uint64_t)32 << 10) /* of a compute thread */

/* Beyond this no machine has room, and sums of a few such sizes do not overflow. */
#define STATE_BYTES_MAX (UINT64_MAX / 4)

uint64_t sl__state_bytes(const sl__model_desc *desc, sl_kv_type kv, uint32_t context_tokens,
                         uint32_t chunk_tokens)
{
    uint64_t bytes = sl__state_layout(NULL, desc, kv, context_tokens, chunk_tokens, NULL);
    return bytes < STATE_BYTES_MAX ? bytes + sl__state_table_bytes(desc) : STATE_BYTES_MAX;
}

/* One session, its token ids included; so that all sessions' sum does not overflow. */
static uint64_t session_bytes(const sl__plan_input *in, const sl__plan *plan, uint32_t chunk)
{
    uint64_t bytes = sl__state_bytes(in->desc, plan->kv, plan->context_tokens, chunk);
    uint64_t most = STATE_BYTES_MAX / plan->sessions;
    bytes += sl__session_ids_bytes(plan->context_tokens);
    return bytes < most ? bytes : most;
}

static uint64_t scratch_bytes(const sl__plan_input *in, const sl__plan *plan, uint32_t chunk)
{
    sl__scratch unused;
    const sl__scratch_needs needs =
        sl__scratch_needs_of(in->desc, in->store, plan->activations, chunk, plan->context_tokens,
                             plan->threads);
    uint64_t bytes = sl__scratch_layout(&unused, in->desc, &needs, NULL);
    bytes += (uint64_t)plan->logits_rows * in->desc->vocab * sizeof(float);
    return bytes + sl__embedding_row_bytes(in->desc);
}

static uint64_t io_bytes(const sl__reads *reads)
{
    const sl__io_options io = sl__reads_io(reads);
    return reads->kind == SL_IO_KIND_MMAP ? 0 : sl__io_footprint(reads->kind, &io, reads->bounce);
}

struct needs {
    uint64_t weights, embedding; /* weights include the embedding */
    uint64_t cache_minimum, cache_maximum;
};

static sl_status gather_needs(struct needs *needs, const sl__plan_input *in, sl_error *err)
{
    SL_TRY(sl__resident_bytes(in->store, in->family, in->desc, &needs->weights, &needs->embedding,
                              err));
    if (in->reads->kind == SL_IO_KIND_MMAP) { /* the page cache is not ours */
        needs->cache_minimum = needs->cache_maximum =
            sl__cache_mapped_bytes(in->store, in->desc->layer_count);
        return SL_OK;
    }
    needs->cache_minimum = sl__cache_minimum(in->store, in->desc->layer_count);
    needs->cache_maximum = sl__cache_maximum(in->store, in->desc->layer_count);
    return SL_OK;
}

static sl_status resolve(sl__plan *plan, const sl__plan_input *in, const sl_engine_options *opt,
                         sl_error *err)
{
    uint32_t most = in->desc->max_context;
    if (opt->context_tokens > most) {
        return SL_FAIL(err, SL_EINVAL, "%s: a context of %u tokens is beyond the model's %u",
                       in->path, opt->context_tokens, most);
    }
    if (opt->chunk_tokens > CHUNK_MAX) {
        return SL_FAIL(err, SL_EINVAL, "%s: chunks of %u tokens are more than %u", in->path,
                       opt->chunk_tokens, CHUNK_MAX);
    }
    if (opt->threads > SL_POOL_THREADS_MAX) {
        return SL_FAIL(err, SL_EINVAL, "%s: threads: %u is not from 1 to %u", in->path,
                       opt->threads, SL_POOL_THREADS_MAX);
    }
    if (opt->sessions > SL_SESSIONS_MAX) {
        return SL_FAIL(err, SL_EINVAL, "%s: sessions: %u is not from 1 to %u", in->path,
                       opt->sessions, SL_SESSIONS_MAX);
    }
    plan->sessions = opt->sessions ? opt->sessions : 1;
    plan->prefix = opt->prefix_bytes < STATE_BYTES_MAX ? opt->prefix_bytes : STATE_BYTES_MAX;
    plan->activations = opt->activations;
    plan->logits_rows = SL_LOGITS_ROWS;
    if (opt->kv != SL_KV_F32 && opt->kv != SL_KV_F16 && opt->kv != SL_KV_Q8) {
        return SL_FAIL(err, SL_EINVAL, "%s: there is no type %d of keys and values", in->path,
                       (int)opt->kv);
    }
    plan->kv = opt->kv;
    plan->threads = opt->threads ? opt->threads : sl__core_count();
    if (plan->threads > SL_POOL_THREADS_MAX) plan->threads = SL_POOL_THREADS_MAX;
    plan->context_tokens = opt->context_tokens    ? opt->context_tokens
                           : opt->expected_tokens ? opt->expected_tokens
                                                  : CONTEXT_DEFAULT;
    if (plan->context_tokens > most) plan->context_tokens = most;
    plan->process = in->process_bytes + MISC_BYTES + plan->threads * STACK_TOUCHED_BYTES;
    if (plan->sessions > 1) plan->process += BATCH_BYTES;
    plan->io = io_bytes(in->reads);
    plan->budget = opt->memory_bytes;
    if (plan->budget == 0) {
        uint64_t margin = in->free_bytes / 16;
        plan->budget = in->process_bytes + in->free_bytes - margin;
    }
    return SL_OK;
}

/* Whether reading all experts once takes long enough that fewer, larger chunks are worth memory: in
 * a chunk of some hundred tokens nearly every expert is read, once. */
static bool reading_is_long(const sl__plan *plan, const sl__plan_input *in,
                            const struct needs *needs)
{
    uint64_t need;
    bool all_fit = sl__add_u64(&need, sl__plan_used(plan), needs->cache_maximum) &&
                   need <= plan->budget;
    double rate = in->reads->bytes_per_s > 0 ? in->reads->bytes_per_s : DISK_BYTES_PER_S;
    return !all_fit && (double)needs->cache_maximum / rate > READING_LONG_S;
}

/* The largest chunk worth having: a multiple of SL_DELTA_CHUNK, or as asked. Where experts are read
 * from a disk it may grow beyond the usual until its scratch takes a part of what the experts could
 * have, or it holds the whole context. The plan has all but scratch and cache. */
static uint32_t largest_chunk(const sl__plan *plan, const sl__plan_input *in,
                              const sl_engine_options *opt, const struct needs *needs)
{
    if (opt->chunk_tokens) return opt->chunk_tokens;
    uint32_t chunk = CHUNK_DEFAULT;
    while (chunk > SL_DELTA_CHUNK && chunk / 2 >= plan->context_tokens)
        chunk /= 2;
    if (!reading_is_long(plan, in, needs)) return chunk;
    uint64_t used = sl__plan_used(plan);
    uint64_t part = (plan->budget > used ? plan->budget - used : 0) / CHUNK_MEMORY_PART;
    while (chunk < CHUNK_STREAMED_MAX && chunk < plan->context_tokens &&
           scratch_bytes(in, plan, 2 * chunk) <= part)
        chunk *= 2;
    return chunk;
}

/* Whether the plan leaves the cache `least` bytes. */
static bool leaves(const sl__plan *plan, uint64_t least)
{
    uint64_t need;
    return sl__add_u64(&need, sl__plan_used(plan), least) && need <= plan->budget;
}

/* A cache that holds half of what one token touches is worth more than larger chunks. */
static uint64_t comfortable_cache(const sl__plan_input *in, const struct needs *needs)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < in->desc->layer_count; i++) {
        const sl__expert_layout *layout = sl__store_expert_layout(in->store, i);
        if (layout) bytes += layout->record_bytes * in->desc->layers[i].moe.top_k / 2;
    }
    return bytes > needs->cache_minimum ? bytes : needs->cache_minimum;
}

/* Smaller chunks until the cache has `target` bytes; false where the smallest leave less. Scratch
 * grows with the chunk, and so do the caches of layers with a window. */
static bool choose_chunk(sl__plan *plan, const sl__plan_input *in, const sl_engine_options *opt,
                         const struct needs *needs, uint64_t target)
{
    plan->scratch = 0;
    plan->state = session_bytes(in, plan, SL_DELTA_CHUNK);
    plan->chunk_tokens = largest_chunk(plan, in, opt, needs);
    for (;;) {
        plan->scratch = scratch_bytes(in, plan, plan->chunk_tokens);
        plan->state = session_bytes(in, plan, plan->chunk_tokens);
        if (leaves(plan, target)) return true;
        if (opt->chunk_tokens || plan->chunk_tokens <= SL_DELTA_CHUNK) return false;
        plan->chunk_tokens /= 2;
    }
}

/* What was asked for the expert cache, no more than it can use; 0: nothing was. */
static uint64_t asked_cache(const sl_engine_options *opt, const struct needs *needs)
{
    return opt->cache_bytes < needs->cache_maximum ? opt->cache_bytes : needs->cache_maximum;
}

static void choose(sl__plan *plan, const sl__plan_input *in, const sl_engine_options *opt,
                   const struct needs *needs)
{
    uint64_t asked = asked_cache(opt, needs);
    uint64_t target = asked ? asked : comfortable_cache(in, needs);
    plan->embedding_resident = true;
    plan->resident = needs->weights;
    if (choose_chunk(plan, in, opt, needs, target)) return;
    /* A tied head is the embedding, and is needed whole. */
    if (!in->desc->tied_embedding) {
        plan->embedding_resident = false;
        plan->resident = needs->weights - needs->embedding;
        if (leaves(plan, target)) return;
    }
    plan->logits_rows = 1;
    if (choose_chunk(plan, in, opt, needs, target)) return;
    uint64_t least = asked ? asked : needs->cache_minimum;
    bool may_shorten = !opt->context_tokens && !opt->expected_tokens;
    while (may_shorten && plan->context_tokens / 2 >= CONTEXT_LEAST && !leaves(plan, least)) {
        plan->context_tokens /= 2;
        choose_chunk(plan, in, opt, needs, target);
    }
}

static sl_status too_small(const sl__plan *plan, const sl__plan_input *in, uint64_t cache,
                           sl_error *err)
{
    const double mib = 1048576.0;
    char prefix[48] = "";
    if (plan->prefix > 0) {
        snprintf(prefix, sizeof prefix, ", kept prompts %.1f", (double)plan->prefix / mib);
    }
    return SL_FAIL(err, SL_EBUDGET,
                   "%s: %.1f MiB of memory are not enough: %.1f MiB are needed (process %.1f, "
                   "resident weights %.1f, session%s %.1f%s, scratch %.1f, reads %.1f, experts "
                   "%.1f); a shorter context, %sa pack with fewer resident bits or more memory "
                   "would do",
                   in->path, (double)plan->budget / mib,
                   (double)(sl__plan_used(plan) + cache) / mib, (double)plan->process / mib,
                   (double)plan->resident / mib, plan->sessions > 1 ? "s" : "",
                   (double)(plan->sessions * plan->state) / mib, prefix,
                   (double)plan->scratch / mib,
                   (double)plan->io / mib, (double)cache / mib,
                   plan->sessions > 1 ? "fewer sessions, " : "");
}

sl_status sl__plan_make(sl__plan *plan, const sl__plan_input *in, const sl_engine_options *opt,
                        sl_error *err)
{
    struct needs needs = {0};
    *plan = (sl__plan){0};
    SL_TRY(gather_needs(&needs, in, err));
    SL_TRY(resolve(plan, in, opt, err));
    choose(plan, in, opt, &needs);
    uint64_t asked = asked_cache(opt, &needs), least = asked ? asked : needs.cache_minimum;
    if (least < needs.cache_minimum) {
        return SL_FAIL(err, SL_EBUDGET, "%s: an expert cache of %llu bytes is too small: %llu are "
                       "needed", in->path, (unsigned long long)least,
                       (unsigned long long)needs.cache_minimum);
    }
    if (!leaves(plan, least)) return too_small(plan, in, least, err);
    plan->cache = asked ? asked : plan->budget - sl__plan_used(plan);
    if (plan->cache > needs.cache_maximum) plan->cache = needs.cache_maximum;
    return SL_OK;
}

uint64_t sl__plan_minimum(const sl__plan_input *in, const sl_engine_options *opt)
{
    struct needs needs = {0};
    sl__plan plan = {0};
    if (gather_needs(&needs, in, NULL) != SL_OK || resolve(&plan, in, opt, NULL) != SL_OK) {
        return UINT64_MAX;
    }
    plan.budget = 0;
    choose(&plan, in, opt, &needs);
    uint64_t asked = asked_cache(opt, &needs);
    return sl__plan_used(&plan) + (asked ? asked : needs.cache_minimum);
}
