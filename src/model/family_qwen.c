#include "model/family_qwen.h"

#include "base/fail.h"

sl_status sl__qwen_describe(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                            sl__arena *arena, sl_error *err)
{
    static const char *const expert_keys[] = {"num_experts", NULL};
    sl__layer_desc layer = {.attention = {.qk_norm = SL_QK_NORM_HEAD, .output_gate = true}};
    SL_TRY(sl__read_model(desc, c, err));
    SL_TRY(sl__read_attention(&layer.attention, c, desc->hidden, 0.25f, err));
    SL_TRY(sl__read_delta(&layer.delta, c, err));
    SL_TRY(sl__read_experts(&layer.moe, c, expert_keys, "moe_intermediate_size", err));
    /* Required: without it the shared expert would be left out in silence. */
    SL_TRY(sl__config_u32(c, "shared_expert_intermediate_size", 0, SL_WIDTH_MAX,
                          &layer.moe.shared_intermediate, err));
    layer.moe.shared_gate = layer.moe.shared_intermediate > 0;
    layer.moe.routing.score = SL_SCORE_SOFTMAX;
    SL_TRY(sl__config_bool_or(c, "norm_topk_prob", true, &layer.moe.routing.renormalise, err));
    SL_TRY(sl__refuse_unless(c, "attention_bias", false, err));
    SL_TRY(sl__refuse_unless(c, "attn_output_gate", true, err));
    if (has_mtp) {
        SL_TRY(sl__config_u32_or(c, "mtp_num_hidden_layers", 0, 8, 1, &desc->mtp_layer_count,
                                 err));
    }
    uint32_t all = desc->layer_count + desc->mtp_layer_count;
    SL_TRY(sl__take_layers(desc, all, &layer, arena, err));
    for (uint32_t i = desc->layer_count; i < all; i++)
        desc->layers[i].mixer = SL_MIXER_ATTENTION;
    SL_TRY(sl__read_dense_layers(desc, c, err));
    return sl__read_mixers(desc, c, err);
}

size_t sl__qwen_model_tensors(const sl__model_desc *desc, sl__tensor_spec specs[SL_SPECS_MAX])
{
    sl__spec_list list = {.specs = specs, .prefix = ""};
    uint32_t hidden = desc->hidden;
    list.count = sl__model_specs(desc, 1, specs);
    if (desc->mtp_layer_count == 0) return list.count;
    sl__spec_add(&list, -1, "mtp.fc.weight", hidden, 2 * hidden, SL_CLASS_UNREAD);
    sl__spec_add(&list, -1, "mtp.pre_fc_norm_embedding.weight", 1, hidden, SL_CLASS_UNREAD);
    sl__spec_add(&list, -1, "mtp.pre_fc_norm_hidden.weight", 1, hidden, SL_CLASS_UNREAD);
    sl__spec_add(&list, -1, "mtp.norm.weight", 1, hidden, SL_CLASS_UNREAD);
    return list.count;
}

void sl__qwen_specs_moe(sl__spec_list *list, const sl__moe_desc *m, uint32_t hidden)
{
    if (m->experts == 0) {
        sl__specs_shared(list, "mlp.", m, hidden);
        return;
    }
    sl__spec_precise(list, SL_ROLE_ROUTER, "mlp.gate.weight", m->experts, hidden);
    sl__specs_shared(list, "mlp.shared_expert.", m, hidden);
    if (m->shared_gate) {
        sl__spec_precise(list, SL_ROLE_SHARED_GATE, "mlp.shared_expert_gate.weight", 1, hidden);
    }
}
