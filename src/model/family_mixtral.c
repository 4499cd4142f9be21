/* Mixtral, OLMoE and MiniMax-M2: plain grouped-query attention and routed experts, told apart by
 * how queries and keys are normed, how experts are weighted, and names. */
#include "model/family_parts.h"

#include "base/fail.h"

static sl_status describe_mixtral(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                                  sl__arena *arena, sl_error *err)
{
    static const char *const expert_keys[] = {"num_local_experts", "num_experts", NULL};
    sl__layer_desc layer = {.mixer = SL_MIXER_ATTENTION};
    (void)has_mtp;
    SL_TRY(sl__read_model(desc, c, err));
    SL_TRY(sl__read_attention(&layer.attention, c, desc->hidden, 1.0f, err));
    SL_TRY(sl__config_u32_or(c, "sliding_window", 1, 1u << 30, 0, &layer.attention.window, err));
    SL_TRY(sl__read_experts(&layer.moe, c, expert_keys, "intermediate_size", err));
    SL_TRY(sl__refuse_unless(c, "norm_topk_prob", true, err));
    layer.moe.routing.score = SL_SCORE_SOFTMAX;
    layer.moe.routing.renormalise = true;
    return sl__take_layers(desc, desc->layer_count, &layer, arena, err);
}

static sl_status describe_olmoe(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                                sl__arena *arena, sl_error *err)
{
    static const char *const expert_keys[] = {"num_experts", NULL};
    sl__layer_desc layer = {.attention = {.qk_norm = SL_QK_NORM_WHOLE}};
    (void)has_mtp;
    SL_TRY(sl__read_model(desc, c, err));
    SL_TRY(sl__read_attention(&layer.attention, c, desc->hidden, 1.0f, err));
    SL_TRY(sl__config_f32_or(c, "clip_qkv", 1e-6f, 1e6f, 0.0f, &layer.attention.clip, err));
    SL_TRY(sl__refuse_unless(c, "attention_bias", false, err));
    SL_TRY(sl__read_experts(&layer.moe, c, expert_keys, "intermediate_size", err));
    layer.moe.routing.score = SL_SCORE_SOFTMAX;
    SL_TRY(sl__config_bool_or(c, "norm_topk_prob", false, &layer.moe.routing.renormalise, err));
    return sl__take_layers(desc, desc->layer_count, &layer, arena, err);
}

static sl_status describe_minimax(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                                  sl__arena *arena, sl_error *err)
{
    static const char *const expert_keys[] = {"num_local_experts", "num_experts", NULL};
    sl__layer_desc layer = {.mixer = SL_MIXER_ATTENTION};
    bool qk_norm;
    (void)has_mtp;
    SL_TRY(sl__read_model(desc, c, err));
    SL_TRY(sl__read_attention(&layer.attention, c, desc->hidden, 1.0f, err));
    SL_TRY(sl__refuse_other(c, "qk_norm_type", "per_layer", err));
    SL_TRY(sl__refuse_other(c, "scoring_func", "sigmoid", err));
    SL_TRY(sl__config_bool_or(c, "use_qk_norm", true, &qk_norm, err));
    layer.attention.qk_norm = qk_norm ? SL_QK_NORM_WHOLE : SL_QK_NORM_NONE;
    SL_TRY(sl__read_experts(&layer.moe, c, expert_keys, "intermediate_size", err));
    SL_TRY(sl__refuse_unless(c, "norm_topk_prob", true, err));
    layer.moe.routing.score = SL_SCORE_SIGMOID;
    layer.moe.routing.correction = true;
    layer.moe.routing.renormalise = true;
    return sl__take_layers(desc, desc->layer_count, &layer, arena, err);
}

static void begin(sl__spec_list *list, const sl__model_desc *desc, uint32_t layer,
                  sl__tensor_spec specs[SL_SPECS_MAX], char prefix[128])
{
    sl__begin_layer(list, desc, layer, 0, specs, prefix);
    sl__specs_attention(list, &desc->layers[layer].attention, desc->hidden);
}

/* OLMoE's names. */
static size_t mlp_tensors(const sl__model_desc *desc, uint32_t layer,
                          sl__tensor_spec specs[SL_SPECS_MAX])
{
    char prefix[128];
    sl__spec_list list;
    begin(&list, desc, layer, specs, prefix);
    sl__spec_precise(&list, SL_ROLE_ROUTER, "mlp.gate.weight", desc->layers[layer].moe.experts,
                     desc->hidden);
    return list.count;
}

/* Mixtral's and MiniMax's names. */
static size_t block_tensors(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX])
{
    const sl__moe_desc *m = &desc->layers[layer].moe;
    char prefix[128];
    sl__spec_list list;
    begin(&list, desc, layer, specs, prefix);
    sl__spec_precise(&list, SL_ROLE_ROUTER, "block_sparse_moe.gate.weight", m->experts,
                     desc->hidden);
    if (m->routing.correction) {
        sl__spec_vector(&list, SL_ROLE_ROUTER_CORRECTION,
                        "block_sparse_moe.e_score_correction_bias", m->experts);
    }
    return list.count;
}

#define BLOCK_EXPERTS                                                                              \
    {.single = {"block_sparse_moe.experts.%u.w1.weight", "block_sparse_moe.experts.%u.w3.weight",  \
                "block_sparse_moe.experts.%u.w2.weight"}}

static const char *const mixtral_types[] = {"mixtral", NULL};
static const char *const olmoe_types[] = {"olmoe", NULL};
static const char *const minimax_types[] = {"minimax_m2", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const char *const unread[] = {"mtp.", NULL};

const sl__family sl__family_mixtral = {
    .name = "mixtral",
    .model_types = mixtral_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = BLOCK_EXPERTS,
    .describe = describe_mixtral,
    .model_tensors = sl__plain_model_tensors,
    .layer_tensors = block_tensors,
    .layer_prefix = sl__layer_prefix,
};

const sl__family sl__family_minimax = {
    .name = "minimax_m2",
    .model_types = minimax_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = BLOCK_EXPERTS,
    .describe = describe_minimax,
    .model_tensors = sl__plain_model_tensors,
    .layer_tensors = block_tensors,
    .layer_prefix = sl__layer_prefix,
};

const sl__family sl__family_olmoe = {
    .name = "olmoe",
    .model_types = olmoe_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = {.single = SL_SINGLE_MLP_EXPERTS},
    .describe = describe_olmoe,
    .model_tensors = sl__plain_model_tensors,
    .layer_tensors = mlp_tensors,
    .layer_prefix = sl__layer_prefix,
};
