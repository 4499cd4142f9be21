/* GLM-4.5, 4.6, 4.7: attention with biases and (in the large ones) a norm of query and key heads,
 * half of each head rotated; experts routed as in DeepSeek-V3. The layer after the last one is a
 * drafting layer that is not read. */
#include "model/family_parts.h"

#include "base/fail.h"

static sl_status describe(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                          sl__arena *arena, sl_error *err)
{
    sl__layer_desc layer = {.mixer = SL_MIXER_ATTENTION};
    uint32_t dense, width;
    bool qk_norm;
    (void)has_mtp;
    SL_TRY(sl__read_model(desc, c, err));
    SL_TRY(sl__read_attention(&layer.attention, c, desc->hidden, 0.5f, err));
    SL_TRY(sl__config_bool_or(c, "use_qk_norm", false, &qk_norm, err));
    layer.attention.qk_norm = qk_norm ? SL_QK_NORM_HEAD : SL_QK_NORM_NONE;
    SL_TRY(sl__config_bool_or(c, "attention_bias", false, &layer.attention.bias, err));
    SL_TRY(sl__read_corrected_routing(&layer.moe, c, err));
    SL_TRY(sl__config_u32_or(c, "first_k_dense_replace", 0, desc->layer_count, 0, &dense, err));
    SL_TRY(sl__config_u32_or(c, "intermediate_size", 1, SL_WIDTH_MAX, 1, &width, err));
    SL_TRY(sl__take_layers(desc, desc->layer_count, &layer, arena, err));
    sl__first_layers_dense(desc, dense, width);
    return SL_OK;
}

static size_t model_tensors(const sl__model_desc *desc, sl__tensor_spec specs[SL_SPECS_MAX])
{
    return sl__model_specs(desc, 0, specs);
}

static size_t layer_tensors(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX])
{
    const sl__layer_desc *l = &desc->layers[layer];
    char prefix[128];
    sl__layer_prefix(desc, layer, prefix);
    sl__spec_list list = {.specs = specs, .prefix = prefix};
    sl__specs_layer_norms(&list, desc->hidden);
    sl__specs_attention(&list, &l->attention, desc->hidden);
    sl__specs_corrected_moe(&list, &l->moe, desc->hidden);
    return list.count;
}

static const char *const model_types[] = {"glm4_moe", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const char *const unread[] = {NULL};

const sl__family sl__family_glm4_moe = {
    .name = "glm4_moe",
    .model_types = model_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = {.single = {"mlp.experts.%u.gate_proj.weight", "mlp.experts.%u.up_proj.weight",
                           "mlp.experts.%u.down_proj.weight"}},
    .describe = describe,
    .model_tensors = model_tensors,
    .layer_tensors = layer_tensors,
    .layer_prefix = sl__layer_prefix,
};
