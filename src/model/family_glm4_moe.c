/* GLM-4.5, 4.6, 4.7: attention with biases and (in the large ones) a norm of query and key heads,
 * half of each head rotated; experts routed as in DeepSeek-V3. The layer after the last one is a
 * drafting layer that is not read. */
#include "model/family_parts.h"

#include "base/fail.h"

static sl_status describe(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                          sl__arena *arena, sl_error *err)
{
    sl__layer_desc layer = {.mixer = SL_MIXER_ATTENTION};
    bool qk_norm;
    (void)has_mtp;
    SL_TRY(sl__read_model(desc, c, err));
    SL_TRY(sl__read_attention(&layer.attention, c, desc->hidden, 0.5f, err));
    SL_TRY(sl__config_bool_or(c, "use_qk_norm", false, &qk_norm, err));
    layer.attention.qk_norm = qk_norm ? SL_QK_NORM_HEAD : SL_QK_NORM_NONE;
    SL_TRY(sl__config_bool_or(c, "attention_bias", false, &layer.attention.bias, err));
    SL_TRY(sl__read_corrected_routing(&layer.moe, c, err));
    return sl__take_layers_after_dense(desc, c, &layer, arena, err);
}

static size_t layer_tensors(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX])
{
    const sl__layer_desc *l = &desc->layers[layer];
    char prefix[128];
    sl__spec_list list;
    sl__begin_layer(&list, desc, layer, 0, specs, prefix);
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
    .experts = {.single = SL_SINGLE_MLP_EXPERTS},
    .describe = describe,
    .model_tensors = sl__plain_model_tensors,
    .layer_tensors = layer_tensors,
    .layer_prefix = sl__layer_prefix,
};
