/* DeepSeek-V3, R1, V3.1 and Kimi-K2: multi-head latent attention with adjacent-pair rotation and
 * YaRN, sigmoid routing with a correction bias and groups, ungated shared experts, leading dense
 * layers. The layer after the last one is a drafting layer that is not read.
 *
 * With YaRN the scale of q·k grows by the square of 0.1·mscale_all_dim·ln(factor) + 1.
 */
#include "model/family_parts.h"

#include <math.h>

#include "base/fail.h"

static sl_status read_scale(sl__mla_desc *m, const sl__config *c, sl_error *err)
{
    float all;
    m->scale = 1.0f / sqrtf((float)(m->nope_dim + m->rope.dim));
    if (m->rope.factor <= 0) return SL_OK;
    const char *key = sl__config_find(c, "rope_parameters.mscale_all_dim")
                          ? "rope_parameters.mscale_all_dim" : "rope_scaling.mscale_all_dim";
    SL_TRY(sl__config_f32_or(c, key, 0.0f, 100.0f, 0.0f, &all, err));
    if (all > 0 && m->rope.factor > 1) {
        float grown = 0.1f * all * logf(m->rope.factor) + 1.0f;
        m->scale *= grown * grown;
    }
    return SL_OK;
}

static sl_status read_mla(sl__mla_desc *m, const sl__config *c, sl_error *err)
{
    uint32_t rope_dim;
    SL_TRY(sl__config_u32(c, "num_attention_heads", 1, 4096, &m->heads, err));
    SL_TRY(sl__config_u32_or(c, "q_lora_rank", 1, SL_WIDTH_MAX, 0, &m->q_rank, err));
    SL_TRY(sl__config_u32(c, "kv_lora_rank", 1, SL_WIDTH_MAX, &m->kv_rank, err));
    SL_TRY(sl__config_u32(c, "qk_nope_head_dim", 1, 4096, &m->nope_dim, err));
    SL_TRY(sl__config_u32(c, "qk_rope_head_dim", 2, 4096, &rope_dim, err));
    SL_TRY(sl__config_u32(c, "v_head_dim", 1, 4096, &m->value_dim, err));
    SL_TRY(sl__read_rope(&m->rope, c, rope_dim, 1.0f, err));
    SL_TRY(sl__config_bool_or(c, "rope_interleave", true, &m->rope.adjacent, err));
    SL_TRY(sl__config_bool_or(c, "sluice_dialect.split_kv_b", false, &m->split_up, err));
    return read_scale(m, c, err);
}

static sl_status describe(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                          sl__arena *arena, sl_error *err)
{
    sl__layer_desc layer = {.mixer = SL_MIXER_MLA};
    uint32_t step;
    (void)has_mtp;
    SL_TRY(sl__read_model(desc, c, err));
    SL_TRY(read_mla(&layer.mla, c, err));
    SL_TRY(sl__read_corrected_routing(&layer.moe, c, err));
    SL_TRY(sl__refuse_unless(c, "attention_bias", false, err));
    SL_TRY(sl__config_u32_or(c, "moe_layer_freq", 1, SL_LAYERS_MAX, 1, &step, err));
    if (step != 1) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: moe_layer_freq %u is not supported", c->path,
                       step);
    }
    return sl__take_layers_after_dense(desc, c, &layer, arena, err);
}

static size_t layer_tensors(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX])
{
    const sl__layer_desc *l = &desc->layers[layer];
    char prefix[128];
    sl__spec_list list;
    sl__begin_layer(&list, desc, layer, 0, specs, prefix);
    sl__specs_mla(&list, &l->mla, desc->hidden);
    sl__specs_corrected_moe(&list, &l->moe, desc->hidden);
    return list.count;
}

static const char *const model_types[] = {"deepseek_v3", "kimi_k2", NULL};
static const char *const prefixes[] = {"model.", "language_model.model.", NULL};
static const char *const unread[] = {"vision_tower.", "mm_projector.", NULL};

const sl__family sl__family_deepseek = {
    .name = "deepseek_v3",
    .model_types = model_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = {.single = SL_SINGLE_MLP_EXPERTS},
    .describe = describe,
    .model_tensors = sl__plain_model_tensors,
    .layer_tensors = layer_tensors,
    .layer_prefix = sl__layer_prefix,
};
