/* gpt-oss 20b and 120b: attention with biases, sinks and, in every other layer, a sliding window;
 * the four best experts by a softmax over those four; clamped activation, biases in the experts,
 * gate and up rows interleaved, or apart (GGUF). Experts come in MXFP4, or in bf16 as [experts, in,
 * out]. */
#include "model/family_parts.h"

#include <string.h>

#include "base/fail.h"

/* layer_types names the windowed layers; where it is absent, every other one from the first on. */
static sl_status read_windows(sl__model_desc *desc, const sl__config *c, sl_error *err)
{
    uint32_t window;
    const json_t *types = sl__config_find(c, "layer_types");
    SL_TRY(sl__config_u32_or(c, "sliding_window", 1, 1u << 30, 0, &window, err));
    if (types && (!json_is_array(types) || json_array_size(types) != desc->layer_count)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: layer_types: expected %u names, one a layer", c->path,
                       desc->layer_count);
    }
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const char *type = i % 2 == 0 ? "sliding_attention" : "full_attention";
        if (types) type = json_string_value(json_array_get(types, i));
        if (type && strcmp(type, "sliding_attention") == 0) {
            desc->layers[i].attention.window = window;
        } else if (!type || strcmp(type, "full_attention") != 0) {
            return SL_FAIL(err, SL_EFORMAT, "%s: layer_types[%u]: %s is not full_attention or "
                           "sliding_attention", c->path, i, type ? type : "not a string");
        }
    }
    return SL_OK;
}

static sl_status describe(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                          sl__arena *arena, sl_error *err)
{
    static const char *const expert_keys[] = {"num_local_experts", "num_experts", NULL};
    sl__layer_desc layer = {.attention = {.sinks = true}};
    sl__moe_desc *m = &layer.moe;
    bool split;
    (void)has_mtp;
    SL_TRY(sl__read_model(desc, c, err));
    SL_TRY(sl__read_attention(&layer.attention, c, desc->hidden, 1.0f, err));
    SL_TRY(sl__config_bool_or(c, "attention_bias", true, &layer.attention.bias, err));
    layer.attention.output_bias = layer.attention.bias;
    SL_TRY(sl__read_experts(m, c, expert_keys, "intermediate_size", err));
    m->routing.score = SL_SCORE_TOP_SOFTMAX;
    m->routing.bias = true;
    m->activation = SL_ACTIVATION_CLAMPED;
    SL_TRY(sl__config_bool_or(c, "sluice_dialect.split_gate_up", false, &split, err));
    m->interleaved = !split;
    m->expert_bias = true;
    SL_TRY(sl__config_f32_or(c, "swiglu_limit", 1e-3f, 1e6f, 7.0f, &m->limit, err));
    SL_TRY(sl__config_f32_or(c, "swiglu_alpha", 1e-3f, 1e6f, 1.702f, &m->alpha, err));
    SL_TRY(sl__take_layers(desc, desc->layer_count, &layer, arena, err));
    return read_windows(desc, c, err);
}

static size_t layer_tensors(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX])
{
    const sl__layer_desc *l = &desc->layers[layer];
    const sl__moe_desc *m = &l->moe;
    char prefix[128];
    sl__spec_list list;
    sl__begin_layer(&list, desc, layer, 0, specs, prefix);
    sl__specs_attention(&list, &l->attention, desc->hidden);
    sl__spec_precise(&list, SL_ROLE_ROUTER, "mlp.router.weight", m->experts, desc->hidden);
    sl__spec_vector(&list, SL_ROLE_ROUTER_BIAS, "mlp.router.bias", m->experts);
    if (m->interleaved) {
        sl__spec_precise(&list, SL_ROLE_EXPERT_IN_BIAS, "mlp.experts.gate_up_proj_bias",
                         m->experts, 2 * m->intermediate);
    } else {
        sl__spec_precise(&list, SL_ROLE_EXPERT_IN_BIAS, "mlp.experts.gate_proj_bias", m->experts,
                         m->intermediate);
        sl__spec_precise(&list, SL_ROLE_EXPERT_UP_BIAS, "mlp.experts.up_proj_bias", m->experts,
                         m->intermediate);
    }
    sl__spec_precise(&list, SL_ROLE_EXPERT_OUT_BIAS, "mlp.experts.down_proj_bias", m->experts,
                     desc->hidden);
    return list.count;
}

static const char *const model_types[] = {"gpt_oss", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const char *const unread[] = {NULL};

const sl__family sl__family_gpt_oss = {
    .name = "gpt_oss",
    .model_types = model_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = {.fused_gate_up = "mlp.experts.gate_up_proj",
                .fused_down = "mlp.experts.down_proj",
                .fused_transposed = true},
    .describe = describe,
    .model_tensors = sl__plain_model_tensors,
    .layer_tensors = layer_tensors,
    .layer_prefix = sl__layer_prefix,
};
