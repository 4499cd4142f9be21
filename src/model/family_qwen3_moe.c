/* Qwen3-MoE (235B, 30B, Coder): attention with a norm of every query and key head, routed experts,
 * no shared one; single layers may be dense. */
#include "model/family_parts.h"

#include "base/fail.h"

static sl_status describe(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                          sl__arena *arena, sl_error *err)
{
    static const char *const expert_keys[] = {"num_experts", "num_local_experts", NULL};
    sl__layer_desc layer = {.attention = {.qk_norm = SL_QK_NORM_HEAD}};
    (void)has_mtp;
    SL_TRY(sl__read_model(desc, c, err));
    SL_TRY(sl__read_attention(&layer.attention, c, desc->hidden, 1.0f, err));
    SL_TRY(sl__read_experts(&layer.moe, c, expert_keys, "moe_intermediate_size", err));
    layer.moe.routing.score = SL_SCORE_SOFTMAX;
    SL_TRY(sl__config_bool_or(c, "norm_topk_prob", false, &layer.moe.routing.renormalise, err));
    SL_TRY(sl__refuse_unless(c, "attention_bias", false, err));
    SL_TRY(sl__refuse_unless(c, "use_sliding_window", false, err));
    SL_TRY(sl__take_layers(desc, desc->layer_count, &layer, arena, err));
    return sl__read_dense_layers(desc, c, err);
}

static size_t layer_tensors(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX])
{
    const sl__layer_desc *l = &desc->layers[layer];
    char prefix[128];
    sl__spec_list list;
    sl__begin_layer(&list, desc, layer, 0, specs, prefix);
    sl__specs_attention(&list, &l->attention, desc->hidden);
    if (l->moe.experts > 0) {
        sl__spec_precise(&list, SL_ROLE_ROUTER, "mlp.gate.weight", l->moe.experts, desc->hidden);
    } else {
        sl__specs_shared(&list, "mlp.", &l->moe, desc->hidden);
    }
    return list.count;
}

static const char *const model_types[] = {"qwen3_moe", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const char *const unread[] = {NULL};

const sl__family sl__family_qwen3_moe = {
    .name = "qwen3_moe",
    .model_types = model_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = {.single = SL_SINGLE_MLP_EXPERTS},
    .describe = describe,
    .model_tensors = sl__plain_model_tensors,
    .layer_tensors = layer_tensors,
    .layer_prefix = sl__layer_prefix,
};
