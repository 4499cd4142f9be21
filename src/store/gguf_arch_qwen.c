/* Qwen's architectures: qwen3moe (Qwen3-MoE), qwen35moe (Qwen3.5-MoE) and qwen3next (Qwen3-Next).
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
 *
 * In qwen3next norms and ssm_a are changed likewise, but value heads stay in order. attn_qkv and
 * attn_gate have been made of the rows of in_proj_qkvz; older files have that one as it was, as
 * ssm_in. in_proj_ba is left interleaved, as ssm_ba.
 */
#include <inttypes.h>

#include "base/fail.h"
#include "store/gguf_arch_parts.h"

#define SETTINGS                                                                                   \
    SL_GGUF_MODEL, SL_GGUF_KV_HEADS, SL_GGUF_HEAD_DIM, SL_GGUF_EXPERTS_WIDTH,                      \
        SL_GGUF_INT("expert_count", "num_experts")

static const char *const stops[] = {"<|im_end|>", "<|endoftext|>", NULL};

/* ---- qwen3moe -------------------------------------------------------------------------------- */

static const sl__gguf_pair qwen3moe_tensors[] = {
    SL_GGUF_ATTENTION, SL_GGUF_QK_NORM,  SL_GGUF_ROUTER,         SL_GGUF_EXPERTS,
    SL_GGUF_DENSE,     SL_GGUF_FFN_NORM, SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_setting qwen3moe_settings[] = {
    SETTINGS,
    SL_GGUF_INT_OR("rope.dimension_count", "rotary_dim"),
    SL_GGUF_END_OF_SETTINGS,
};

const sl__gguf_arch sl__gguf_qwen3moe = {
    .name = "qwen3moe",
    .model_type = "qwen3_moe",
    .layer_tensors = qwen3moe_tensors,
    .settings = qwen3moe_settings,
    .stops = stops,
};

/* ---- qwen35moe, qwen3next -------------------------------------------------------------------- */

#define HYBRID                                                                                     \
    SL_GGUF_ATTENTION, SL_GGUF_QK_NORM, SL_GGUF_ROUTER, SL_GGUF_EXPERTS, SL_GGUF_DENSE,            \
        SL_GGUF_POST_NORM, SL_GGUF_SHARED("mlp.shared_expert"),                                    \
        {"ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight"},                            \
        {"attn_qkv.weight", "linear_attn.in_proj_qkv.weight"},                                     \
        {"attn_gate.weight", "linear_attn.in_proj_z.weight"},                                      \
        {"ssm_conv1d.weight", "linear_attn.conv1d.weight"},                                        \
        {"ssm_a", "linear_attn.A_log"},                                                            \
        {"ssm_dt.bias", "linear_attn.dt_bias"},                                                    \
        {"ssm_norm.weight", "linear_attn.norm.weight"},                                            \
        {"ssm_out.weight", "linear_attn.out_proj.weight"}

static const sl__gguf_pair qwen35moe_tensors[] = {
    HYBRID,
    {"ssm_alpha.weight", "linear_attn.in_proj_a.weight"},
    {"ssm_beta.weight", "linear_attn.in_proj_b.weight"},
    SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_pair qwen3next_tensors[] = {
    HYBRID,
    {"ssm_ba.weight", "linear_attn.in_proj_ba.weight"},
    {"ssm_in.weight", "linear_attn.in_proj_qkvz.weight"}, /* older files: as it was published */
    SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_pair draft_tensors[] = {
    {"nextn.eh_proj.weight", "mtp.fc.weight"},
    {"nextn.enorm.weight", "mtp.pre_fc_norm_embedding.weight"},
    {"nextn.hnorm.weight", "mtp.pre_fc_norm_hidden.weight"},
    {"nextn.shared_head_norm.weight", "mtp.norm.weight"},
    SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_setting hybrid_settings[] = {
    SETTINGS,
    SL_GGUF_INT("rope.dimension_count", "rotary_dim"),
    SL_GGUF_INT("expert_shared_feed_forward_length", "shared_expert_intermediate_size"),
    SL_GGUF_INT("ssm.conv_kernel", "linear_conv_kernel_dim"),
    SL_GGUF_INT("ssm.state_size", "linear_key_head_dim"),
    SL_GGUF_INT("ssm.group_count", "linear_num_key_heads"),
    SL_GGUF_INT("ssm.time_step_rank", "linear_num_value_heads"),
    SL_GGUF_END_OF_SETTINGS,
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

static sl_status finish_hybrid(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    SL_TRY(put_layer_types(m, config, err));
    SL_TRY(put_value_dim(m, config, err));
    SL_TRY(sl__gguf_put(config, "mtp_num_hidden_layers", json_integer(m->drafts), err));
    SL_TRY(sl__gguf_put_dialect(config, "shifted_norms", err));
    return sl__gguf_put_dialect(config, "negative_decay", err);
}

static sl_status finish_qwen35moe(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    SL_TRY(finish_hybrid(m, config, err));
    return sl__gguf_put_dialect(config, "tiled_heads", err);
}

/* The first linear layer speaks for all. */
static sl_status finish_qwen3next(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    uint32_t i = 0;
    SL_TRY(finish_hybrid(m, config, err));
    while (i < m->layers && !sl__gguf_layer_tensor(m, i, "ssm_a"))
        i++;
    if (sl__gguf_layer_tensor(m, i, "ssm_in.weight")) return SL_OK;
    return sl__gguf_put_dialect(config, "split_qkvz", err);
}

const sl__gguf_arch sl__gguf_qwen35moe = {
    .name = "qwen35moe",
    .model_type = "qwen3_5_moe_text",
    .layer_tensors = qwen35moe_tensors,
    .draft_tensors = draft_tensors,
    .settings = hybrid_settings,
    .stops = stops,
    .finish = finish_qwen35moe,
};

const sl__gguf_arch sl__gguf_qwen3next = {
    .name = "qwen3next",
    .model_type = "qwen3_next",
    .layer_tensors = qwen3next_tensors,
    .draft_tensors = draft_tensors,
    .settings = hybrid_settings,
    .stops = stops,
    .finish = finish_qwen3next,
};
