/* gpt-oss, llama (Mixtral), olmoe and minimax-m2: attention and routed experts in every block.
 *
 * gpt-oss      gate and up of experts, interleaved when published, are apart, with biases apart
 * llama        rows of q and k are moved, a head at a time, so that adjacent channels are a pair:
 *              row 2i is the published row i, row 2i + 1 the published row i + half a head. The
 *              same name stands for dense models. Older files have one tensor an expert
 * olmoe, minimax-m2   renamed
 */
#include <string.h>

#include "base/fail.h"
#include "store/gguf_arch_parts.h"

static const char *const no_stops[] = {NULL};

/* The width of experts has one of two keys. */
static sl_status finish_plain(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    return sl__gguf_put_expert_width(m, config, "intermediate_size", err);
}

/* ---- gpt-oss --------------------------------------------------------------------------------- */

static const sl__gguf_pair gpt_oss_tensors[] = {
    SL_GGUF_ATTENTION,
    SL_GGUF_QKV_BIAS,
    {"attn_output.bias", "self_attn.o_proj.bias"},
    {"attn_sinks.weight", "self_attn.sinks"},
    SL_GGUF_POST_NORM,
    {"ffn_gate_inp.weight", "mlp.router.weight"},
    {"ffn_gate_inp.bias", "mlp.router.bias"},
    SL_GGUF_GATE_UP,
    SL_GGUF_DOWN,
    {"ffn_gate_exps.bias", "mlp.experts.gate_proj_bias"},
    {"ffn_up_exps.bias", "mlp.experts.up_proj_bias"},
    {"ffn_down_exps.bias", "mlp.experts.down_proj_bias"},
    SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_setting gpt_oss_settings[] = {
    SL_GGUF_MODEL,
    SL_GGUF_KV_HEADS,
    SL_GGUF_HEAD_DIM,
    SL_GGUF_INT("expert_count", "num_local_experts"),
    SL_GGUF_INT("attention.sliding_window", "sliding_window"),
    SL_GGUF_INT_OR("rope.dimension_count", "rotary_dim"),
    SL_GGUF_END_OF_SETTINGS,
};

/* Which blocks look back through the window: every other one from the first on, unless the file has
 * a list. A number would be how many blocks are a round, of which the last sees everything. */
static sl_status put_windows(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    static const char name[] = "gpt-oss.attention.sliding_window_pattern";
    const sl__gguf_key *list = sl__gguf_find_key(m->set, name);
    json_t *types = json_array();
    SL_TRY(sl__gguf_put(config, "layer_types", types, err));
    if (list && !list->array) {
        int64_t round;
        SL_TRY(sl__gguf_int(m->set, name, 2, 2, &round, err));
        list = NULL;
    }
    for (uint32_t i = 0; i < m->layers; i++) {
        bool window = i % 2 == 0;
        if (list && (i >= list->count || !sl__gguf_bool_at(m->set, list, i, &window))) {
            return SL_FAIL(err, SL_EFORMAT, "%s: %s: is not a list of booleans, one a block",
                           m->set->files[0].path, name);
        }
        json_t *type = json_string(window ? "sliding_attention" : "full_attention");
        if (json_array_append_new(types, type) != 0) return SL_FAIL_NOMEM(err, "layer_types");
    }
    return SL_OK;
}

/* Blocks with a window are like the others but for that. */
static sl_status check_windowed(const sl__gguf_model *m, sl_error *err)
{
    static const struct {
        const char *windowed, *usual;
    } same[] = {
        {"rope.freq_base_swa", "rope.freq_base"},
        {"rope.dimension_count_swa", "rope.dimension_count"},
        {"attention.key_length_swa", "attention.key_length"},
        {"attention.value_length_swa", "attention.value_length"},
    };
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        double windowed, usual;
        if (!sl__gguf_has(m, same[i].windowed)) continue;
        SL_TRY(sl__gguf_get_number(m, same[i].windowed, &windowed, err));
        SL_TRY(sl__gguf_get_number(m, same[i].usual, &usual, err));
        if (windowed == usual) continue;
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s.%s: %g, and %g elsewhere, is not supported",
                       m->set->files[0].path, m->arch->name, same[i].windowed, windowed, usual);
    }
    return SL_OK;
}

static sl_status finish_gpt_oss(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    json_t *scaling = json_object_get(config, "rope_scaling");
    SL_TRY(finish_plain(m, config, err));
    SL_TRY(check_windowed(m, err));
    SL_TRY(put_windows(m, config, err));
    /* No key says so; the model was trained with it. */
    if (scaling) SL_TRY(sl__gguf_put(scaling, "truncate", json_false(), err));
    return sl__gguf_put_dialect(config, "split_gate_up", err);
}

static const char *const gpt_oss_stops[] = {"<|return|>", "<|call|>", "<|endoftext|>", NULL};

const sl__gguf_arch sl__gguf_gpt_oss = {
    .name = "gpt-oss",
    .model_type = "gpt_oss",
    .layer_tensors = gpt_oss_tensors,
    .settings = gpt_oss_settings,
    .stops = gpt_oss_stops,
    .gating = 3, /* softmax over the chosen */
    .finish = finish_gpt_oss,
};

/* ---- llama ----------------------------------------------------------------------------------- */

static const sl__gguf_pair llama_tensors[] = {
    SL_GGUF_ATTENTION,
    SL_GGUF_FFN_NORM,
    {"ffn_gate_inp.weight", "block_sparse_moe.gate.weight"},
    SL_GGUF_EXPERTS,
    {"ffn_gate.%u.weight", "block_sparse_moe.experts.%u.w1.weight"},
    {"ffn_up.%u.weight", "block_sparse_moe.experts.%u.w3.weight"},
    {"ffn_down.%u.weight", "block_sparse_moe.experts.%u.w2.weight"},
    SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_setting llama_settings[] = {
    SL_GGUF_MODEL,
    SL_GGUF_KV_HEADS,
    SL_GGUF_INT_OR("attention.key_length", "head_dim"),
    SL_GGUF_INT_OR("rope.dimension_count", "rotary_dim"),
    SL_GGUF_INT("expert_count", "num_local_experts"),
    SL_GGUF_END_OF_SETTINGS,
};

static sl_status refuse_dense(const sl__gguf_model *m, sl_error *err)
{
    int64_t experts = 0;
    if (sl__gguf_has(m, "expert_count")) {
        SL_TRY(sl__gguf_get_int(m, "expert_count", 0, UINT32_MAX, &experts, err));
    }
    if (experts > 0) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED,
                   "%s: llama.expert_count: none: of this architecture only models with experts "
                   "(Mixtral) are supported",
                   m->set->files[0].path);
}

static sl_status finish_llama(const sl__gguf_model *m, json_t *config, sl_error *err)
{
    SL_TRY(finish_plain(m, config, err));
    return sl__gguf_put_dialect(config, "adjacent_rope", err);
}

const sl__gguf_arch sl__gguf_llama = {
    .name = "llama",
    .model_type = "mixtral",
    .layer_tensors = llama_tensors,
    .settings = llama_settings,
    .stops = no_stops,
    .check = refuse_dense,
    .finish = finish_llama,
};

/* ---- olmoe ----------------------------------------------------------------------------------- */

static const sl__gguf_pair olmoe_tensors[] = {
    SL_GGUF_ATTENTION, SL_GGUF_QK_NORM, SL_GGUF_FFN_NORM,
    SL_GGUF_ROUTER,    SL_GGUF_EXPERTS, SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_setting olmoe_settings[] = {
    SL_GGUF_MODEL,
    SL_GGUF_KV_HEADS,
    SL_GGUF_INT_OR("attention.key_length", "head_dim"),
    SL_GGUF_INT_OR("rope.dimension_count", "rotary_dim"),
    SL_GGUF_INT("expert_count", "num_experts"),
    SL_GGUF_NUMBER_OR("attention.clamp_kqv", "clip_qkv"),
    SL_GGUF_END_OF_SETTINGS,
};

const sl__gguf_arch sl__gguf_olmoe = {
    .name = "olmoe",
    .model_type = "olmoe",
    .layer_tensors = olmoe_tensors,
    .settings = olmoe_settings,
    .stops = no_stops,
    .plain_weights = true,
    .finish = finish_plain,
};

/* ---- minimax-m2 ------------------------------------------------------------------------------ */

static const sl__gguf_pair minimax_m2_tensors[] = {
    SL_GGUF_ATTENTION,
    SL_GGUF_QK_NORM,
    SL_GGUF_FFN_NORM,
    {"ffn_gate_inp.weight", "block_sparse_moe.gate.weight"},
    {"exp_probs_b.bias", "block_sparse_moe.e_score_correction_bias"},
    SL_GGUF_EXPERTS,
    SL_GGUF_END_OF_TENSORS,
};

static const sl__gguf_setting minimax_m2_settings[] = {
    SL_GGUF_MODEL,
    SL_GGUF_KV_HEADS,
    SL_GGUF_HEAD_DIM,
    SL_GGUF_INT("rope.dimension_count", "rotary_dim"),
    SL_GGUF_INT("expert_count", "num_local_experts"),
    SL_GGUF_END_OF_SETTINGS,
};

const sl__gguf_arch sl__gguf_minimax_m2 = {
    .name = "minimax-m2",
    .model_type = "minimax_m2",
    .layer_tensors = minimax_m2_tensors,
    .settings = minimax_m2_settings,
    .stops = no_stops,
    .gating = 2, /* sigmoid */
    .finish = finish_plain,
};
