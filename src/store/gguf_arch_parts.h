/* Rows that the tables of several architectures share (gguf_arch.h). */
#ifndef SL_STORE_GGUF_ARCH_PARTS_H
#define SL_STORE_GGUF_ARCH_PARTS_H

#include "store/gguf_arch.h"

/* ---- tensors --------------------------------------------------------------------------------- */

#define SL_GGUF_ATTENTION                                                                          \
    {"attn_norm.weight", "input_layernorm.weight"},                                                \
    {"attn_q.weight", "self_attn.q_proj.weight"},                                                  \
    {"attn_k.weight", "self_attn.k_proj.weight"},                                                  \
    {"attn_v.weight", "self_attn.v_proj.weight"},                                                  \
    {"attn_output.weight", "self_attn.o_proj.weight"}

#define SL_GGUF_QK_NORM                                                                            \
    {"attn_q_norm.weight", "self_attn.q_norm.weight"},                                             \
    {"attn_k_norm.weight", "self_attn.k_norm.weight"}

#define SL_GGUF_QKV_BIAS                                                                           \
    {"attn_q.bias", "self_attn.q_proj.bias"},                                                      \
    {"attn_k.bias", "self_attn.k_proj.bias"},                                                      \
    {"attn_v.bias", "self_attn.v_proj.bias"}

/* The norm before the feed-forward part has either name. */
#define SL_GGUF_FFN_NORM  {"ffn_norm.weight", "post_attention_layernorm.weight"}
#define SL_GGUF_POST_NORM {"post_attention_norm.weight", "post_attention_layernorm.weight"}

#define SL_GGUF_GATE_UP                                                                            \
    {"ffn_gate_exps.weight", "mlp.experts.gate_proj"},                                             \
    {"ffn_up_exps.weight", "mlp.experts.up_proj"}
#define SL_GGUF_GATE_AND_UP {"ffn_gate_up_exps.weight", "mlp.experts.gate_up_proj"}
#define SL_GGUF_DOWN        {"ffn_down_exps.weight", "mlp.experts.down_proj"}
#define SL_GGUF_EXPERTS     SL_GGUF_GATE_UP, SL_GGUF_GATE_AND_UP, SL_GGUF_DOWN

#define SL_GGUF_ROUTER {"ffn_gate_inp.weight", "mlp.gate.weight"}

#define SL_GGUF_DENSE                                                                              \
    {"ffn_gate.weight", "mlp.gate_proj.weight"},                                                   \
    {"ffn_up.weight", "mlp.up_proj.weight"},                                                       \
    {"ffn_down.weight", "mlp.down_proj.weight"}

/* Shared experts: published under `name`. */
#define SL_GGUF_SHARED(name)                                                                       \
    {"ffn_gate_shexp.weight", name ".gate_proj.weight"},                                           \
    {"ffn_up_shexp.weight", name ".up_proj.weight"},                                               \
    {"ffn_down_shexp.weight", name ".down_proj.weight"}

#define SL_GGUF_END_OF_TENSORS {NULL, NULL}

/* ---- settings -------------------------------------------------------------------------------- */

#define SL_GGUF_INT(key, member)       {key, member, SL_GGUF_KIND_INT, false}
#define SL_GGUF_INT_OR(key, member)    {key, member, SL_GGUF_KIND_INT, true}
#define SL_GGUF_TRUTH(key, member)     {key, member, SL_GGUF_KIND_BOOL, false}
#define SL_GGUF_NUMBER(key, member)    {key, member, SL_GGUF_KIND_NUMBER, false}
#define SL_GGUF_NUMBER_OR(key, member) {key, member, SL_GGUF_KIND_NUMBER, true}

#define SL_GGUF_MODEL                                                                              \
    SL_GGUF_INT("context_length", "max_position_embeddings"),                                      \
    SL_GGUF_INT("embedding_length", "hidden_size"),                                                \
    SL_GGUF_INT("attention.head_count", "num_attention_heads"),                                    \
    SL_GGUF_NUMBER("attention.layer_norm_rms_epsilon", "rms_norm_eps"),                            \
    SL_GGUF_NUMBER("rope.freq_base", "rope_theta"),                                                \
    SL_GGUF_INT("expert_used_count", "num_experts_per_tok")

#define SL_GGUF_KV_HEADS      SL_GGUF_INT("attention.head_count_kv", "num_key_value_heads")
#define SL_GGUF_HEAD_DIM      SL_GGUF_INT("attention.key_length", "head_dim")
#define SL_GGUF_EXPERTS_WIDTH SL_GGUF_INT("expert_feed_forward_length", "moe_intermediate_size")

#define SL_GGUF_END_OF_SETTINGS {NULL, NULL, SL_GGUF_KIND_INT, false}

#endif
