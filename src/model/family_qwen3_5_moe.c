/* Qwen3.5-MoE: three Gated DeltaNet layers, then one of gated attention, and so on; every layer has
 * routed experts and a gated shared expert. Norms of the residual stream and of q and k are stored
 * zero-centred (the weight is 1 + w); the norm inside DeltaNet is not. */
#include "model/family_qwen.h"

static size_t layer_tensors(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX])
{
    const sl__layer_desc *l = &desc->layers[layer];
    const sl__delta_desc *d = &l->delta;
    uint32_t hidden = desc->hidden;
    char prefix[128];
    sl__spec_list list;
    sl__begin_layer(&list, desc, layer, 1, specs, prefix);
    if (l->mixer == SL_MIXER_ATTENTION) {
        sl__specs_attention(&list, &l->attention, hidden);
    } else {
        sl__spec_matrix(&list, SL_ROLE_DELTA_QKV, "linear_attn.in_proj_qkv.weight",
                        sl__delta_conv_width(d), hidden);
        sl__spec_matrix(&list, SL_ROLE_DELTA_Z, "linear_attn.in_proj_z.weight",
                        sl__delta_value_width(d), hidden);
        sl__spec_precise(&list, SL_ROLE_DELTA_A, "linear_attn.in_proj_a.weight", d->value_heads,
                         hidden);
        sl__spec_precise(&list, SL_ROLE_DELTA_B, "linear_attn.in_proj_b.weight", d->value_heads,
                         hidden);
        sl__specs_delta(&list, d, hidden);
    }
    sl__qwen_specs_moe(&list, &l->moe, hidden);
    return list.count;
}

static const char *const model_types[] = {"qwen3_5_moe", "qwen3_5_moe_text", NULL};
static const char *const prefixes[] = {"model.language_model.", "model.", NULL};
static const char *const unread[] = {"model.visual.", "visual.", "vision_tower.", "mtp.", NULL};

const sl__family sl__family_qwen3_5_moe = {
    .name = "qwen3_5_moe",
    .model_types = model_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = {.fused_gate_up = "mlp.experts.gate_up_proj",
                .fused_down = "mlp.experts.down_proj",
                .single = SL_SINGLE_MLP_EXPERTS},
    .describe = sl__qwen_describe,
    .model_tensors = sl__qwen_model_tensors,
    .layer_tensors = layer_tensors,
    .layer_prefix = sl__layer_prefix,
};
