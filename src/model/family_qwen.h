/* What the hybrid Qwen families (Qwen3-Next, Qwen3.5) share. */
#ifndef SL_MODEL_FAMILY_QWEN_H
#define SL_MODEL_FAMILY_QWEN_H

#include "model/family_parts.h"

/* Everything but the prefix: gated attention and DeltaNet by layer_types, experts with a gated
 * shared expert, dense layers, drafting layers. */
sl_status sl__qwen_describe(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                            sl__arena *arena, sl_error *err);

/* Zero-centred norms; the drafting head's own tensors. */
size_t sl__qwen_model_tensors(const sl__model_desc *desc, sl__tensor_spec specs[SL_SPECS_MAX]);

/* Router, shared expert and its gate; or the network of a dense layer. */
void sl__qwen_specs_moe(sl__spec_list *list, const sl__moe_desc *m, uint32_t hidden);

#endif
