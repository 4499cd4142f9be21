/* What a model is, from its headers alone. */
#include "engine/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/sysmem.h"
#include "engine/synth.h"

struct inspector {
    sl__store *store;
    const sl__family *family;
    sl__model_desc desc;
    sl__arena arena;
    sl_model_info *info;
};

static sl_status count_tensor(struct inspector *in, const sl__tensor_spec *spec, bool mtp,
                              sl_error *err)
{
    const sl__tensor *tensor;
    sl_model_info *info = in->info;
    SL_TRY(sl__model_find(&tensor, in->store, spec, err));
    if (sl__spec_repeats(spec)) return SL_OK;
    if (mtp || spec->klass == SL_CLASS_UNREAD) {
        info->mtp_bytes += sl__tensor_all_bytes(tensor);
        return SL_OK;
    }
    uint64_t elements = (uint64_t)spec->rows * spec->cols;
    info->parameters += elements;
    info->resident_bytes += sl__tensor_all_bytes(tensor);
    bool embedding = strstr(spec->name, "embed_tokens.weight") != NULL;
    if (embedding) info->embedding_bytes = sl__tensor_all_bytes(tensor);
    else info->active_parameters += elements; /* a token needs one row of the embedding */
    if (spec->klass == SL_CLASS_MATRIX) {
        sl__dtype_list_add(info->resident_types, sizeof info->resident_types, tensor->dtype);
    }
    return SL_OK;
}

static sl_status count_resident(struct inspector *in, sl_error *err)
{
    sl__tensor_spec specs[SL_SPECS_MAX];
    size_t count = in->family->model_tensors(&in->desc, specs);
    for (size_t i = 0; i < count; i++)
        SL_TRY(count_tensor(in, &specs[i], false, err));
    uint32_t all = in->desc.layer_count + in->desc.mtp_layer_count;
    for (uint32_t layer = 0; layer < all; layer++) {
        count = in->family->layer_tensors(&in->desc, layer, specs);
        for (size_t i = 0; i < count; i++)
            SL_TRY(count_tensor(in, &specs[i], layer >= in->desc.layer_count, err));
    }
    return SL_OK;
}

static sl_status count_experts(struct inspector *in, sl_error *err)
{
    sl_model_info *info = in->info;
    uint32_t all = in->desc.layer_count + in->desc.mtp_layer_count;
    for (uint32_t layer = 0; layer < all; layer++) {
        SL_TRY(sl__model_bind_experts(in->store, in->family, &in->desc, layer, err));
        if (in->desc.layers[layer].moe.experts == 0) continue;
        const sl__moe_desc *moe = &in->desc.layers[layer].moe;
        const sl__expert_layout *layout = sl__store_expert_layout(in->store, layer);
        sl__extent extents[SL_EXPERT_EXTENTS_MAX];
        uint32_t extent_count = sl__store_expert_extents(in->store, layer, 0, extents);
        uint64_t bytes = 0, elements = 0;
        for (uint32_t i = 0; i < extent_count; i++)
            bytes += extents[i].bytes;
        for (uint32_t part = 0; part < SL_PART_COUNT; part++)
            elements += (uint64_t)layout->part[part].rows * layout->part[part].cols;
        if (layer >= in->desc.layer_count) {
            info->mtp_bytes += bytes * layout->expert_count;
            continue;
        }
        for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
            if (layout->part[part].rows == 0) continue;
            sl__dtype_list_add(info->expert_types, sizeof info->expert_types,
                               layout->part[part].dtype);
        }
        info->parameters += elements * layout->expert_count;
        info->active_parameters += elements * moe->top_k;
        info->experts_bytes += bytes * layout->expert_count;
        info->bytes_per_token += bytes * moe->top_k;
        info->expert_bytes = bytes;
        info->expert_extents = extent_count;
    }
    return SL_OK;
}

static void count_ignored(struct inspector *in)
{
    uint64_t bytes = 0, read;
    size_t count = sl__store_tensor_count(in->store);
    for (size_t i = 0; i < count; i++) {
        const sl__tensor *tensor = sl__store_tensor_at(in->store, i);
        bytes += tensor->extent.bytes;
        if (!sl__family_leaves_unread(in->family, &in->desc, tensor->name)) continue;
        if (strncmp(tensor->name, "mtp.", 4) != 0) in->info->ignored_tensors++;
    }
    read = in->info->resident_bytes + in->info->mtp_bytes;
    if (!sl__store_is_pack(in->store)) read += in->info->experts_bytes;
    in->info->ignored_bytes = bytes > read ? bytes - read : 0;
}

static void describe(struct inspector *in)
{
    const sl__model_desc *desc = &in->desc;
    sl_model_info *info = in->info;
    snprintf(info->family, sizeof info->family, "%s", desc->family);
    snprintf(info->format, sizeof info->format, "%s", sl__store_format(in->store));
    sl__synth_mark mark;
    info->synthetic = sl__synth_read_mark(sl__store_config(in->store), &mark);
    info->synthetic_uniform = mark.uniform;
    info->synthetic_overlap = mark.overlap;
    info->synthetic_predictable = mark.predictable;
    info->layers = desc->layer_count;
    info->mtp_layers = desc->mtp_layer_count;
    info->hidden_size = desc->hidden;
    info->vocab_size = desc->vocab;
    info->max_context = desc->max_context;
    const sl__moe_desc *moe = &desc->layers[sl__model_moe_layer(desc)].moe;
    info->experts = moe->experts;
    info->experts_per_token = desc->trained_top_k;
    info->expert_intermediate_size = moe->intermediate;
    info->shared_intermediate_size = moe->shared_intermediate;
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const sl__layer_desc *l = &desc->layers[i];
        if (l->mixer == SL_MIXER_DELTA) info->linear_layers++;
        else if (l->mixer == SL_MIXER_MLA) info->latent_layers++;
        else if (l->attention.window > 0) info->window_layers++;
        else info->full_layers++;
        if (l->moe.experts == 0) info->dense_layers++;
        info->kv_bytes_per_token += sl__state_token_bytes(l, SL_KV_F32);
        info->kv_f16_bytes_per_token += sl__state_token_bytes(l, SL_KV_F16);
        info->kv_q8_bytes_per_token += sl__state_token_bytes(l, SL_KV_Q8);
    }
    /* What does not grow with the context, windows included; what does comes in whole blocks. */
    uint32_t last = desc->max_context % SL_KV_BLOCK, spare = last ? SL_KV_BLOCK - last : 0;
    uint64_t all = sl__state_bytes(desc, SL_KV_F32, desc->max_context, SL_DELTA_CHUNK), growing;
    bool fits = sl__mul_u64(&growing, info->kv_bytes_per_token,
                            (uint64_t)desc->max_context + spare);
    info->state_bytes = fits && growing < all ? all - growing : 0;
}

static sl_status inspect(struct inspector *in, const char *path, sl_error *err)
{
    sl_model_info *info = in->info;
    SL_TRY(sl__store_open(&in->store, path, err));
    SL_TRY(sl__model_describe(&in->desc, &in->family, in->store, &in->arena, err));
    describe(in);
    SL_TRY(count_resident(in, err));
    SL_TRY(count_experts(in, err));
    count_ignored(in);
    uint64_t tokenizer_bytes = sl__store_tokenizer_bytes(in->store);
    info->has_tokenizer = tokenizer_bytes > 0;
    info->has_chat_template = sl__store_has_template(in->store);
    info->free_memory_bytes = sl__mem_available();
    const sl__reads reads = {.kind = SL_IO_KIND_PREAD};
    const sl__plan_input plan = {.reads = &reads, .desc = &in->desc, .family = in->family,
                                 .store = in->store, .path = path,
                                 .process_bytes = sl__mem_rss() + tokenizer_bytes,
                                 .free_bytes = info->free_memory_bytes};
    sl_engine_options opt = {.context_tokens = 4096};
    if (opt.context_tokens > in->desc.max_context) opt.context_tokens = in->desc.max_context;
    info->minimum_context = opt.context_tokens;
    info->minimum_memory_bytes = sl__plan_minimum(&plan, &opt);
    return SL_OK;
}

sl_status sl_model_inspect(const char *path, sl_model_info *info, sl_error *err)
{
    struct inspector in = {.info = info};
    memset(info, 0, sizeof *info);
    sl__arena_init(&in.arena, 0);
    sl_status status = inspect(&in, path, err);
    sl__store_close(in.store);
    sl__arena_free(&in.arena);
    return status;
}
