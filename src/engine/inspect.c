/* What a model is, from its headers alone; and what is wrong with one that is incomplete, as far as
 * the rest of it can be made out.
 */
#include "engine/engine.h"

#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/sysmem.h"
#include "engine/synth.h"

/* Places in sl_model_info.parts. */
enum part {
    PART_ATTENTION,
    PART_SHARED,
    PART_ROUTERS,
    PART_EMBEDDING,
    PART_HEAD,
    PART_VECTORS,
    PART_GATE,
    PART_UP,
    PART_DOWN,
};
_Static_assert(PART_DOWN + 1 == SL_MODEL_PARTS, "as many as the public header says");

static const char *const part_names[SL_MODEL_PARTS] = {
    "attention", "shared experts", "routers", "embedding", "head", "norms, biases",
    "experts' gate", "experts' up", "experts' down"};

struct inspector {
    sl__store *store;
    const sl__family *family;
    sl__model_desc desc;
    sl__arena arena;
    sl__problems problems;
    uint32_t matrices[SL_MODEL_PARTS][SL_DTYPE_COUNT];
    sl_model_info *info;
};

/* ---- parts ----------------------------------------------------------------------------------- */

static enum part part_of(const sl__tensor_spec *spec, bool in_layer)
{
    int role = spec->role;
    if (!in_layer) {
        return role == SL_ROLE_EMBED  ? PART_EMBEDDING
               : role == SL_ROLE_HEAD ? PART_HEAD
                                      : PART_VECTORS;
    }
    if (role == SL_ROLE_ROUTER) return PART_ROUTERS;
    if (spec->klass == SL_CLASS_VECTOR || role >= SL_ROLE_LAYER_COUNT) return PART_VECTORS;
    if (role >= SL_ROLE_SHARED_GATE_PROJ) return PART_SHARED;
    return role >= SL_ROLE_ROUTER ? PART_VECTORS : PART_ATTENTION;
}

static void count_part(struct inspector *in, enum part part, sl__dtype type, uint64_t weights,
                       uint64_t bytes)
{
    in->info->parts[part].weights += weights;
    in->info->parts[part].bytes += bytes;
    if ((unsigned)type < SL_DTYPE_COUNT) in->matrices[part][type]++;
}

static void list_types(struct inspector *in)
{
    for (unsigned part = 0; part < SL_MODEL_PARTS; part++) {
        sl_model_part *p = &in->info->parts[part];
        unsigned kinds = 0;
        p->name = part_names[part];
        for (unsigned t = 0; t < SL_DTYPE_COUNT; t++)
            kinds += in->matrices[part][t] > 0;
        for (unsigned t = 0; t < SL_DTYPE_COUNT; t++) {
            size_t used = strlen(p->types);
            if (in->matrices[part][t] == 0) continue;
            used += (size_t)snprintf(p->types + used, sizeof p->types - used, "%s%s",
                                     used ? ", " : "", sl__dtype_name((sl__dtype)t));
            if (kinds > 1 && used < sizeof p->types)
                snprintf(p->types + used, sizeof p->types - used, " (%u)", in->matrices[part][t]);
        }
    }
}

/* ---- the resident part ----------------------------------------------------------------------- */

static sl_status count_tensor(struct inspector *in, const sl__tensor_spec *spec, uint32_t layer,
                              sl_error *err)
{
    const sl__tensor *tensor;
    sl_model_info *info = in->info;
    sl_error why = {0};
    if (sl__spec_repeats(spec)) return SL_OK;
    if (sl__model_find(&tensor, in->store, spec, &why) != SL_OK)
        return sl__problems_pass(&in->problems, &why, err);
    uint64_t bytes = sl__tensor_all_bytes(tensor);
    if ((layer != UINT32_MAX && layer >= in->desc.layer_count) || spec->klass == SL_CLASS_UNREAD) {
        info->mtp_bytes += bytes;
        return SL_OK;
    }
    uint64_t elements = (uint64_t)spec->rows * spec->cols;
    enum part part = part_of(spec, layer != UINT32_MAX);
    count_part(in, part, tensor->dtype, elements, bytes);
    info->parameters += elements;
    info->resident_bytes += bytes;
    if (part == PART_EMBEDDING) info->embedding_bytes = bytes;
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
        SL_TRY(count_tensor(in, &specs[i], UINT32_MAX, err));
    uint32_t all = in->desc.layer_count + in->desc.mtp_layer_count;
    for (uint32_t layer = 0; layer < all; layer++) {
        count = in->family->layer_tensors(&in->desc, layer, specs);
        for (size_t i = 0; i < count; i++)
            SL_TRY(count_tensor(in, &specs[i], layer, err));
    }
    return SL_OK;
}

/* ---- experts --------------------------------------------------------------------------------- */

/* Of an expert, its codes and planes: what is read, spaces of a pack's record included. */
static uint64_t part_bytes(const sl__matrix_layout *m)
{
    uint64_t bytes = sl__stored_rows(m->panels, m->rows) * m->row_bytes;
    if (m->scale_row_bytes == 0) return bytes;
    uint64_t plane = sl__scaling_rows(&m->scaling, m->rows) * m->scale_row_bytes;
    return bytes + plane * (m->scaling.biases ? 2 : 1);
}

static void count_reads(sl_model_info *info, const sl__extent *extents, uint32_t count,
                        uint32_t experts)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t bytes = extents[i].bytes;
        if (info->read_min_bytes == 0 || bytes < info->read_min_bytes) info->read_min_bytes = bytes;
        if (bytes > info->read_max_bytes) info->read_max_bytes = bytes;
    }
    info->reads_per_token += count * experts;
}

static void count_layer(struct inspector *in, uint32_t layer)
{
    sl_model_info *info = in->info;
    const sl__moe_desc *moe = &in->desc.layers[layer].moe;
    const sl__expert_layout *layout = sl__store_expert_layout(in->store, layer);
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t extent_count = sl__store_expert_extents(in->store, layer, 0, extents);
    uint64_t bytes = 0, elements = 0;
    for (uint32_t i = 0; i < extent_count; i++)
        bytes += extents[i].bytes;
    if (layer >= in->desc.layer_count) {
        info->mtp_bytes += bytes * layout->expert_count;
        return;
    }
    for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
        const sl__matrix_layout *m = &layout->part[part];
        uint64_t weights = (uint64_t)m->rows * m->cols;
        if (m->rows == 0) continue;
        elements += weights;
        count_part(in, (enum part)(PART_GATE + part), m->dtype, weights * layout->expert_count,
                   part_bytes(m) * layout->expert_count);
        sl__dtype_list_add(info->expert_types, sizeof info->expert_types, m->dtype);
    }
    info->parameters += elements * layout->expert_count;
    info->active_parameters += elements * moe->top_k;
    info->experts_bytes += bytes * layout->expert_count;
    info->bytes_per_token += bytes * moe->top_k;
    info->expert_bytes = bytes;
    info->expert_extents = extent_count;
    count_reads(info, extents, extent_count, moe->top_k);
}

static sl_status count_experts(struct inspector *in, sl_error *err)
{
    uint32_t all = in->desc.layer_count + in->desc.mtp_layer_count;
    for (uint32_t layer = 0; layer < all; layer++) {
        sl_error why = {0};
        if (sl__model_bind_experts(in->store, in->family, &in->desc, layer, &why) != SL_OK) {
            SL_TRY(sl__problems_pass(&in->problems, &why, err));
        } else if (in->desc.layers[layer].moe.experts > 0) {
            count_layer(in, layer);
        }
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

/* ---- the configuration ----------------------------------------------------------------------- */

static void describe(struct inspector *in)
{
    const sl__model_desc *desc = &in->desc;
    sl_model_info *info = in->info;
    snprintf(info->family, sizeof info->family, "%s", desc->family);
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

static void plan_minimum(struct inspector *in, const char *path)
{
    sl_model_info *info = in->info;
    const sl__reads reads = {.kind = SL_IO_KIND_PREAD};
    const sl__plan_input plan = {.reads = &reads, .desc = &in->desc, .family = in->family,
                                 .store = in->store, .path = path,
                                 .process_bytes = sl__mem_rss() +
                                                  sl__store_tokenizer_bytes(in->store),
                                 .free_bytes = info->free_memory_bytes};
    sl_engine_options opt = {.context_tokens = 4096};
    if (opt.context_tokens > in->desc.max_context) opt.context_tokens = in->desc.max_context;
    info->minimum_context = opt.context_tokens;
    info->minimum_memory_bytes = sl__plan_minimum(&plan, &opt);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static sl_status inspect(struct inspector *in, const char *path, sl_error *err)
{
    sl_model_info *info = in->info;
    info->free_memory_bytes = sl__mem_available();
    SL_TRY(sl__store_survey(&in->store, path, &in->problems, err));
    snprintf(info->format, sizeof info->format, "%s", sl__store_format(in->store));
    info->has_tokenizer = sl__store_tokenizer_bytes(in->store) > 0;
    info->has_chat_template = sl__store_has_template(in->store);
    SL_TRY(sl__model_describe(&in->desc, &in->family, in->store, &in->arena, err));
    describe(in);
    SL_TRY(count_resident(in, err));
    SL_TRY(count_experts(in, err));
    count_ignored(in);
    if (in->problems.count == 0) plan_minimum(in, path);
    return SL_OK;
}

/* The list, with what ended the inspection behind it; the first of all is the one that is told. */
static sl_status tell(struct inspector *in, sl_status status, const sl_error *last, sl_error *err)
{
    sl__problems *all = &in->problems;
    if (status == SL_ENOMEM) return SL_FAIL(err, status, "%s", last->message);
    (void)sl__problems_pass(all, last, NULL);
    in->info->problem_count = all->count;
    for (uint32_t i = 0; i < all->count && i < SL_MODEL_PROBLEMS; i++) {
        snprintf(in->info->problems[i], sizeof in->info->problems[i], "%.255s",
                 all->found[i].message);
    }
    if (all->count == 0) return SL_OK;
    return SL_FAIL(err, all->found[0].status, "%s", all->found[0].message);
}

sl_status sl_model_inspect(const char *path, sl_model_info *info, sl_error *err)
{
    struct inspector in = {.info = info};
    sl_error last = {0};
    memset(info, 0, sizeof *info);
    sl__arena_init(&in.arena, 0);
    sl_status status = tell(&in, inspect(&in, path, &last), &last, err);
    list_types(&in);
    sl__store_close(in.store);
    sl__arena_free(&in.arena);
    return status;
}
