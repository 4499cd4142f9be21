/* deepseek2 (DeepSeek-V3, R1, Kimi-K2) and glm4moe (GLM-4.5 to 4.7): experts chosen by sigmoids and
 * a correction bias, shared experts, leading dense blocks, drafting blocks that are not read.
 *
 * What makes keys and values of the latent is in one of two forms:
 *
 *     attn_kv_b                [heads·(nope + value), kv rank], as published (older files)
 *     attn_k_b, attn_v_b       [heads, kv rank, nope] and [heads, value, kv rank]
 *
 * A file with both is read by the first. Widths of heads changed with that: key_length is nope +
 * rope in older files; in newer ones it is the latent's and rope's, and key_length_mla is what it
 * was.
 *
 * Rows are in the order in which they were published, so that both rotate as the checkpoints do.
 */
#include <inttypes.h>

#include "base/fail.h"
#include "store/gguf_arch_parts.h"

#define CORRECTION                                                                                 \
    {                                                                                              \
        "exp_probs_b.bias", "mlp.gate.e_score_correction_bias"                                     \
    }

#define SETTINGS                                                                                   \
    SL_GGUF_MODEL, SL_GGUF_EXPERTS_WIDTH, SL_GGUF_INT("expert_count", "n_routed_experts"),         \
        SL_GGUF_INT("expert_shared_count", "n_shared_experts"),                                    \
        SL_GGUF_INT("leading_dense_block_count", "first_k_dense_replace"),                         \
        SL_GGUF_NUMBER_OR("expert_weights_scale", "routed_scaling_factor"),                        \
        SL_GGUF_TRUTH("expert_weights_norm", "norm_topk_prob")

#define SIGMOID 2u /* of expert_gating_func */

/* Both counts, or neither: experts are in one group then, but for DeepSeek-V3's 256 of older files,
 * which are in 8, of which 4 are taken. */
static sl_status put_groups(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    int64_t experts, groups = 1, taken = 1;
    SL_TRY(sl__gguf_get_int(m, "expert_count", 0, UINT32_MAX, &experts, err));
    if (sl__gguf_has(m, "expert_group_count") || sl__gguf_has(m, "expert_group_used_count")) {
        SL_TRY(sl__gguf_get_int(m, "expert_group_count", 1, UINT32_MAX, &groups, err));
        SL_TRY(sl__gguf_get_int(m, "expert_group_used_count", 1, groups, &taken, err));
    } else if (experts == 256) {
        groups = 8;
        taken = 4;
    }
    SL_TRY(sl__gguf_put(config, "n_group", json_integer(groups), err));
    return sl__gguf_put(config, "topk_group", json_integer(taken), err);
}

/* ---- deepseek2 ------------------------------------------------------------------------------- */

static const sl__gguf_pair deepseek2_tensors[] = {
    {"attn_norm.weight", "input_layernorm.weight"},
    SL_GGUF_FFN_NORM,
    {"attn_q.weight", "self_attn.q_proj.weight"},
    {"attn_q_a.weight", "self_attn.q_a_proj.weight"},
    {"attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight"},
    {"attn_q_b.weight", "self_attn.q_b_proj.weight"},
    {"attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight"},
    {"attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight"},
    {"attn_kv_b.weight", "self_attn.kv_b_proj.weight"},
    {"attn_k_b.weight", "self_attn.k_b_proj.weight"},
    {"attn_v_b.weight", "self_attn.v_b_proj.weight"},
    {"attn_output.weight", "self_attn.o_proj.weight"},
    SL_GGUF_ROUTER,
    CORRECTION,
    SL_GGUF_EXPERTS,
    SL_GGUF_DENSE,
    SL_GGUF_SHARED("mlp.shared_experts"),
    SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_setting deepseek2_settings[] = {
    SETTINGS,
    SL_GGUF_INT_OR("attention.q_lora_rank", "q_lora_rank"),
    SL_GGUF_INT("attention.kv_lora_rank", "kv_lora_rank"),
    SL_GGUF_INT("rope.dimension_count", "qk_rope_head_dim"),
    SL_GGUF_END_OF_SETTINGS,
};

static const char *const deepseek2_keys[] = {"expert_group_count",
                                             "rope.scaling.yarn_log_multiplier", NULL};

static sl_status put_head_widths(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    bool mla = sl__gguf_has(m, "attention.key_length_mla");
    const char *key = mla ? "attention.key_length_mla" : "attention.key_length";
    const char *value = mla ? "attention.value_length_mla" : "attention.value_length";
    int64_t both, values, rope;
    SL_TRY(sl__gguf_get_int(m, key, 1, UINT32_MAX, &both, err));
    SL_TRY(sl__gguf_get_int(m, value, 1, UINT32_MAX, &values, err));
    SL_TRY(sl__gguf_get_int(m, "rope.dimension_count", 0, UINT32_MAX, &rope, err));
    if (both <= rope) {
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: %s.%s: %" PRId64 " leaves nothing beside the %" PRId64
                       " channels that are rotated",
                       m->set->files[0].path, m->arch->name, key, both, rope);
    }
    SL_TRY(sl__gguf_put(config, "qk_nope_head_dim", json_integer(both - rope), err));
    return sl__gguf_put(config, "v_head_dim", json_integer(values), err);
}

/* The key is a tenth of mscale_all_dim, by which the scale of scores grows; cos and sin are as they
 * are, mscale being the same in all of these models. */
static sl_status add_to_yarn(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    static const char key[] = "rope.scaling.yarn_log_multiplier";
    double multiplier;
    json_t *scaling = json_object_get(config, "rope_scaling");
    if (!scaling) return SL_OK;
    SL_TRY(sl__gguf_put(scaling, "attention_factor", json_real(1), err));
    if (!sl__gguf_has(m, key)) return SL_OK;
    SL_TRY(sl__gguf_get_number(m, key, &multiplier, err));
    if (multiplier >= 0 && multiplier <= 1) {
        return sl__gguf_put(scaling, "mscale_all_dim", json_real(10 * multiplier), err);
    }
    return SL_FAIL(err, SL_EFORMAT, "%s: %s.%s: %g is not from 0 to 1", m->set->files[0].path,
                   m->arch->name, key, multiplier);
}

static sl_status finish_deepseek2(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    SL_TRY(put_groups(m, config, err));
    SL_TRY(put_head_widths(m, config, err));
    SL_TRY(add_to_yarn(m, config, err));
    if (sl__gguf_layer_tensor(m, 0, "attn_kv_b.weight")) return SL_OK;
    return sl__gguf_put_dialect(config, "split_kv_b", err);
}

/* Kimi-K2's; the file names DeepSeek's. */
static const char *const deepseek2_stops[] = {"<|im_end|>", "[EOS]", NULL};

const sl__gguf_arch sl__gguf_deepseek2 = {
    .name = "deepseek2",
    .model_type = "deepseek_v3",
    .layer_tensors = deepseek2_tensors,
    .drafts_follow = true,
    .settings = deepseek2_settings,
    .own_keys = deepseek2_keys,
    .stops = deepseek2_stops,
    .gating = SIGMOID,
    .finish = finish_deepseek2,
};

/* ---- glm4moe --------------------------------------------------------------------------------- */

static const sl__gguf_pair glm4moe_tensors[] = {
    SL_GGUF_ATTENTION,      SL_GGUF_QK_NORM, SL_GGUF_QKV_BIAS,
    SL_GGUF_POST_NORM,      SL_GGUF_ROUTER,  CORRECTION,
    SL_GGUF_EXPERTS,        SL_GGUF_DENSE,   SL_GGUF_SHARED("mlp.shared_experts"),
    SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_setting glm4moe_settings[] = {
    SETTINGS,
    SL_GGUF_KV_HEADS,
    SL_GGUF_HEAD_DIM,
    SL_GGUF_INT("rope.dimension_count", "rotary_dim"),
    SL_GGUF_END_OF_SETTINGS,
};

static const char *const glm4moe_keys[] = {"expert_group_count", NULL};

static sl_status finish_glm4moe(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    bool norm = sl__gguf_layer_tensor(m, 0, "attn_q_norm.weight") != NULL;
    bool bias = sl__gguf_layer_tensor(m, 0, "attn_q.bias") != NULL;
    SL_TRY(put_groups(m, config, err));
    SL_TRY(sl__gguf_put(config, "use_qk_norm", json_boolean(norm), err));
    return sl__gguf_put(config, "attention_bias", json_boolean(bias), err);
}

static const char *const glm4moe_stops[] = {"<|endoftext|>", "<|user|>", "<|observation|>", NULL};

const sl__gguf_arch sl__gguf_glm4moe = {
    .name = "glm4moe",
    .model_type = "glm4_moe",
    .layer_tensors = glm4moe_tensors,
    .drafts_follow = true,
    .settings = glm4moe_settings,
    .own_keys = glm4moe_keys,
    .stops = glm4moe_stops,
    .gating = SIGMOID,
    .finish = finish_glm4moe,
};
