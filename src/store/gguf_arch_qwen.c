/* Qwen's architectures: qwen3moe (Qwen3-MoE) and qwen35moe (Qwen3.5-MoE).
 *
 * qwen3moe is renamed and nothing else. Of qwen35moe the converter changes numbers, too:
 *
 *     norms of the stream, of q and of k    1 + w (that of DeltaNet is as published)
 *     ssm_a                                 −exp(A_log)
 *     value heads of DeltaNet               head i is the published (i % nk)·R + i / nk, where R is
 *                                           nv / nk, in every tensor that has them: the v rows of
 *                                           attn_qkv, attn_gate, ssm_alpha, ssm_beta, ssm_a,
 *                                           ssm_dt, the v channels of ssm_conv1d, the columns of
 *                                           ssm_out
 *
 * The heads stay in that order, in all tensors alike: they are as good as any other, as long as
 * head i reads key head i % nk. To turn the columns of ssm_out back would cut through quantised
 * blocks, which are wider than a head.
 */
#include <inttypes.h>

#include "base/fail.h"
#include "store/gguf_arch.h"

#define EXPERTS                                                                                    \
    {"ffn_gate_inp.weight", "mlp.gate.weight"},                                                    \
    {"ffn_gate_exps.weight", "mlp.experts.gate_proj"},                                             \
    {"ffn_up_exps.weight", "mlp.experts.up_proj"},                                                 \
    {"ffn_gate_up_exps.weight", "mlp.experts.gate_up_proj"},                                       \
    {"ffn_down_exps.weight", "mlp.experts.down_proj"}

#define DENSE                                                                                      \
    {"ffn_gate.weight", "mlp.gate_proj.weight"},                                                   \
    {"ffn_up.weight", "mlp.up_proj.weight"},                                                       \
    {"ffn_down.weight", "mlp.down_proj.weight"}

#define ATTENTION                                                                                  \
    {"attn_norm.weight", "input_layernorm.weight"},                                                \
    {"attn_q.weight", "self_attn.q_proj.weight"},                                                  \
    {"attn_k.weight", "self_attn.k_proj.weight"},                                                  \
    {"attn_v.weight", "self_attn.v_proj.weight"},                                                  \
    {"attn_output.weight", "self_attn.o_proj.weight"},                                             \
    {"attn_q_norm.weight", "self_attn.q_norm.weight"},                                             \
    {"attn_k_norm.weight", "self_attn.k_norm.weight"}

#define SETTINGS                                                                                   \
    {"context_length", "max_position_embeddings", SL_GGUF_KIND_INT, false},                        \
    {"embedding_length", "hidden_size", SL_GGUF_KIND_INT, false},                                  \
    {"attention.head_count", "num_attention_heads", SL_GGUF_KIND_INT, false},                      \
    {"attention.head_count_kv", "num_key_value_heads", SL_GGUF_KIND_INT, false},                   \
    {"attention.key_length", "head_dim", SL_GGUF_KIND_INT, false},                                 \
    {"attention.layer_norm_rms_epsilon", "rms_norm_eps", SL_GGUF_KIND_NUMBER, false},              \
    {"rope.freq_base", "rope_theta", SL_GGUF_KIND_NUMBER, false},                                  \
    {"expert_count", "num_experts", SL_GGUF_KIND_INT, false},                                      \
    {"expert_used_count", "num_experts_per_tok", SL_GGUF_KIND_INT, false},                         \
    {"expert_feed_forward_length", "moe_intermediate_size", SL_GGUF_KIND_INT, false}

static const char *const stops[] = {"<|im_end|>", "<|endoftext|>", NULL};

/* ---- qwen3moe -------------------------------------------------------------------------------- */

static const sl__gguf_pair qwen3moe_tensors[] = {
    ATTENTION, EXPERTS, DENSE, {"ffn_norm.weight", "post_attention_layernorm.weight"},
    {NULL, NULL},
};

static const sl__gguf_setting qwen3moe_settings[] = {
    SETTINGS,
    {"rope.dimension_count", "rotary_dim", SL_GGUF_KIND_INT, true},
    {NULL, NULL, SL_GGUF_KIND_INT, false},
};

const sl__gguf_arch sl__gguf_qwen3moe = {
    .name = "qwen3moe",
    .model_type = "qwen3_moe",
    .layer_tensors = qwen3moe_tensors,
    .settings = qwen3moe_settings,
    .stops = stops,
};

/* ---- qwen35moe ------------------------------------------------------------------------------- */

static const sl__gguf_pair qwen35moe_tensors[] = {
    ATTENTION,
    EXPERTS,
    DENSE,
    {"post_attention_norm.weight", "post_attention_layernorm.weight"},
    {"attn_qkv.weight", "linear_attn.in_proj_qkv.weight"},
    {"attn_gate.weight", "linear_attn.in_proj_z.weight"},
    {"ssm_alpha.weight", "linear_attn.in_proj_a.weight"},
    {"ssm_beta.weight", "linear_attn.in_proj_b.weight"},
    {"ssm_conv1d.weight", "linear_attn.conv1d.weight"},
    {"ssm_a", "linear_attn.A_log"},
    {"ssm_dt.bias", "linear_attn.dt_bias"},
    {"ssm_norm.weight", "linear_attn.norm.weight"},
    {"ssm_out.weight", "linear_attn.out_proj.weight"},
    {"ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight"},
    {"ffn_gate_shexp.weight", "mlp.shared_expert.gate_proj.weight"},
    {"ffn_up_shexp.weight", "mlp.shared_expert.up_proj.weight"},
    {"ffn_down_shexp.weight", "mlp.shared_expert.down_proj.weight"},
    {NULL, NULL},
};

static const sl__gguf_pair qwen35moe_draft_tensors[] = {
    {"nextn.eh_proj.weight", "mtp.fc.weight"},
    {"nextn.enorm.weight", "mtp.pre_fc_norm_embedding.weight"},
    {"nextn.hnorm.weight", "mtp.pre_fc_norm_hidden.weight"},
    {"nextn.shared_head_norm.weight", "mtp.norm.weight"},
    {NULL, NULL},
};

static const sl__gguf_setting qwen35moe_settings[] = {
    SETTINGS,
    {"rope.dimension_count", "rotary_dim", SL_GGUF_KIND_INT, false},
    {"expert_shared_feed_forward_length", "shared_expert_intermediate_size", SL_GGUF_KIND_INT,
     false},
    {"ssm.conv_kernel", "linear_conv_kernel_dim", SL_GGUF_KIND_INT, false},
    {"ssm.state_size", "linear_key_head_dim", SL_GGUF_KIND_INT, false},
    {"ssm.group_count", "linear_num_key_heads", SL_GGUF_KIND_INT, false},
    {"ssm.time_step_rank", "linear_num_value_heads", SL_GGUF_KIND_INT, false},
    {NULL, NULL, SL_GGUF_KIND_INT, false},
};

/* Which tensors a layer has says what it is; the interval among the keys is not needed. */
static sl_status put_layer_types(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    json_t *types = json_array();
    SL_TRY(sl__gguf_put(config, "layer_types", types, err));
    for (uint32_t i = 0; i < m->layers; i++) {
        bool linear = sl__gguf_layer_tensor(m, i, "ssm_a") != NULL;
        bool full = sl__gguf_layer_tensor(m, i, "attn_q.weight") != NULL;
        if (linear == full) {
            return SL_FAIL(err, SL_EFORMAT,
                           "%s: blk.%" PRIu32 ": holds %s attn_q.weight %s ssm_a, and would have "
                           "one of them",
                           m->set->files[0].path, i, full ? "both" : "neither",
                           full ? "and" : "nor");
        }
        json_t *type = json_string(linear ? "linear_attention" : "full_attention");
        if (json_array_append_new(types, type) != 0) return SL_FAIL_NOMEM(err, "layer_types");
    }
    return SL_OK;
}

/* ssm.inner_size is the width of all value heads. */
static sl_status put_value_dim(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    int64_t inner, heads;
    SL_TRY(sl__gguf_get_int(m, "ssm.time_step_rank", 1, UINT32_MAX, &heads, err));
    SL_TRY(sl__gguf_get_int(m, "ssm.inner_size", 1, UINT32_MAX, &inner, err));
    if (inner % heads == 0) {
        return sl__gguf_put(config, "linear_value_head_dim", json_integer(inner / heads), err);
    }
    return SL_FAIL(err, SL_EFORMAT,
                   "%s: %s.ssm.inner_size: %" PRId64 " is not a multiple of the %" PRId64 " heads",
                   m->set->files[0].path, m->arch->name, inner, heads);
}

static sl_status finish_qwen35moe(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    SL_TRY(put_layer_types(m, config, err));
    SL_TRY(put_value_dim(m, config, err));
    SL_TRY(sl__gguf_put(config, "mtp_num_hidden_layers", json_integer(m->drafts), err));
    SL_TRY(sl__gguf_put_dialect(config, "shifted_norms", err));
    SL_TRY(sl__gguf_put_dialect(config, "negative_decay", err));
    return sl__gguf_put_dialect(config, "tiled_heads", err);
}

const sl__gguf_arch sl__gguf_qwen35moe = {
    .name = "qwen35moe",
    .model_type = "qwen3_5_moe_text",
    .layer_tensors = qwen35moe_tensors,
    .draft_tensors = qwen35moe_draft_tensors,
    .settings = qwen35moe_settings,
    .stops = stops,
    .finish = finish_qwen35moe,
};
