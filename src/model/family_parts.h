/* What family files share: reading the parts of a configuration that many families have, and
 * listing the tensors of blocks whose names are the same everywhere. */
#ifndef SL_MODEL_FAMILY_PARTS_H
#define SL_MODEL_FAMILY_PARTS_H

#include "model/family.h"

#define SL_WIDTH_MAX (1u << 20) /* of any dimension but the vocabulary */

/* ---- reading --------------------------------------------------------------------------------- */

/* vocab_size, hidden_size, num_hidden_layers, max_position_embeddings, rms_norm_eps,
 * tie_word_embeddings; hidden_act must be silu. Fills the scalars of desc. */
sl_status sl__read_model(sl__model_desc *desc, const sl__config *c, sl_error *err);

/* Takes `count` layers from arena, each a copy of layer. */
sl_status sl__take_layers(sl__model_desc *desc, uint32_t count, const sl__layer_desc *layer,
                          sl__arena *arena, sl_error *err);

/* Rotary positions of heads head_dim wide: rope_parameters, or rope_theta, rope_scaling and
 * partial_rotary_factor (default_part where absent) at the top; rotary_dim goes before a part.
 * Types default and yarn; any other is SL_EUNSUPPORTED by name. */
sl_status sl__read_rope(sl__rope_desc *rope, const sl__config *c, uint32_t head_dim,
                        float default_part, sl_error *err);

/* num_attention_heads, num_key_value_heads, head_dim (default hidden_size / heads), rope and the
 * scale 1/sqrt(head_dim). The other options are left alone. */
sl_status sl__read_attention(sl__attention_desc *a, const sl__config *c, uint32_t hidden,
                             float default_part, sl_error *err);

/* linear_*: the dimensions of Gated DeltaNet. */
sl_status sl__read_delta(sl__delta_desc *d, const sl__config *c, sl_error *err);

/* layer_types: "full_attention" and "linear_attention" a layer; where it is absent, one
 * full-attention layer in full_attention_interval (default 4). */
sl_status sl__read_mixers(sl__model_desc *desc, const sl__config *c, sl_error *err);

/* The number of experts under the first of `keys` (NULL-terminated) that is there,
 * num_experts_per_tok, and the experts' width under width_key. */
sl_status sl__read_experts(sl__moe_desc *m, const sl__config *c, const char *const *keys,
                           const char *width_key, sl_error *err);

/* As DeepSeek-V3 routes: n_routed_experts, sigmoid scores with a correction for choosing, n_group
 * and topk_group, norm_topk_prob, routed_scaling_factor; n_shared_experts as one ungated shared
 * expert of their joint width. */
sl_status sl__read_corrected_routing(sl__moe_desc *m, const sl__config *c, sl_error *err);

/* Takes the layers, of which the first first_k_dense_replace are dense ones intermediate_size
 * wide. */
sl_status sl__take_layers_after_dense(sl__model_desc *desc, const sl__config *c,
                                      const sl__layer_desc *layer, sl__arena *arena,
                                      sl_error *err);

/* Layers of mlp_only_layers, and those that decoder_sparse_step leaves out, become dense ones
 * intermediate_size wide. */
sl_status sl__read_dense_layers(sl__model_desc *desc, const sl__config *c, sl_error *err);

/* SL_EUNSUPPORTED where the string key is there and is not `normal`. */
sl_status sl__refuse_other(const sl__config *c, const char *key, const char *normal, sl_error *err);

/* SL_EUNSUPPORTED where the boolean key (default `normal`) is not `normal`. */
sl_status sl__refuse_unless(const sl__config *c, const char *key, bool normal, sl_error *err);

/* ---- listing --------------------------------------------------------------------------------- */

/* A list of specs under a name prefix. */
typedef struct sl__spec_list {
    sl__tensor_spec *specs;
    size_t count;
    const char *prefix;
    float norm_add; /* 1 where norms of the stream, of q and of k are stored zero-centred */
} sl__spec_list;

sl__tensor_spec *sl__spec_add(sl__spec_list *list, int role, const char *name, uint32_t rows,
                              uint32_t cols, sl__tensor_class klass);
void sl__spec_matrix(sl__spec_list *list, int role, const char *name, uint32_t rows,
                     uint32_t cols);
void sl__spec_precise(sl__spec_list *list, int role, const char *name, uint32_t rows,
                      uint32_t cols);
void sl__spec_vector(sl__spec_list *list, int role, const char *name, uint32_t size);
void sl__spec_norm(sl__spec_list *list, int role, const char *name, uint32_t size);

/* embed_tokens, norm, and lm_head unless the embedding is tied. */
size_t sl__model_specs(const sl__model_desc *desc, float norm_add,
                       sl__tensor_spec specs[SL_SPECS_MAX]);
/* The same with norms as they are stored: many a family's model_tensors. */
size_t sl__plain_model_tensors(const sl__model_desc *desc, sl__tensor_spec specs[SL_SPECS_MAX]);

/* Begins the list of a layer, with input_layernorm and post_attention_layernorm. prefix is filled
 * and must outlive the list. */
void sl__begin_layer(sl__spec_list *list, const sl__model_desc *desc, uint32_t layer,
                     float norm_add, sl__tensor_spec specs[SL_SPECS_MAX], char prefix[128]);
/* self_attn.{q,k,v,o}_proj, {q,k}_norm, biases and sinks, as the description has them. */
void sl__specs_attention(sl__spec_list *list, const sl__attention_desc *a, uint32_t hidden);
/* self_attn.* of MLA. */
void sl__specs_mla(sl__spec_list *list, const sl__mla_desc *m, uint32_t hidden);
/* linear_attn.{conv1d, A_log, dt_bias, norm, out_proj}: all but the input projections. */
void sl__specs_delta(sl__spec_list *list, const sl__delta_desc *d, uint32_t hidden);
/* "{prefix}{gate,up,down}_proj.weight" as the shared expert, or the dense network. */
void sl__specs_shared(sl__spec_list *list, const char *prefix, const sl__moe_desc *m,
                      uint32_t hidden);

/* The tensors of sl__read_corrected_routing's experts, or of a dense layer, under "mlp.". */
void sl__specs_corrected_moe(sl__spec_list *list, const sl__moe_desc *m, uint32_t hidden);

/* Experts of one tensor each under "mlp.experts.". */
#define SL_SINGLE_MLP_EXPERTS                                                                      \
    {"mlp.experts.%u.gate_proj.weight", "mlp.experts.%u.up_proj.weight",                           \
     "mlp.experts.%u.down_proj.weight"}

/* "model.layers.3.", or "mtp.layers.0." for drafting layers. */
void sl__layer_prefix(const sl__model_desc *desc, uint32_t layer, char out[128]);

#endif
