/* Qwen3-Next: as Qwen3.5-MoE, but the input projections of DeltaNet are fused and interleaved by
 * key head, and experts are published one tensor each.
 *
 *     in_proj_qkvz   for each key head: q [key_dim], k [key_dim], v [R·value_dim], z [R·value_dim]
 *     in_proj_ba     for each key head: b [R], a [R]            R = value heads a key head
 *
 * Value head R·h + r belongs to key head h, so taking the v rows of all key heads in order gives
 * the value heads in order. In GGUF files q, k, v and z have been taken apart so, b and a have not.
 */
#include "model/family_qwen.h"

/* One piece of a fused projection: `count` rows from `offset` on of every key head's block. */
static void add_piece(sl__spec_list *list, int role, const char *name, uint32_t rows, uint32_t cols,
                      sl__tensor_class klass, sl__row_picks picks, uint32_t first_row,
                      uint32_t role_rows)
{
    sl__tensor_spec *spec = sl__spec_add(list, role, name, rows, cols, klass);
    spec->picks = picks;
    spec->first_row = first_row;
    spec->role_rows = role_rows;
}

static void add_qkvz(sl__spec_list *list, const sl__delta_desc *d, uint32_t hidden)
{
    static const char qkvz[] = "linear_attn.in_proj_qkvz.weight";
    uint32_t heads = d->key_heads, key = d->key_dim, value = d->value_heads / heads * d->value_dim;
    uint32_t block = 2 * key + 2 * value, rows = heads * block;
    uint32_t conv = sl__delta_conv_width(d), key_width = sl__delta_key_width(d);
    if (d->split_qkvz) {
        sl__spec_matrix(list, SL_ROLE_DELTA_QKV, "linear_attn.in_proj_qkv.weight", conv, hidden);
        sl__spec_matrix(list, SL_ROLE_DELTA_Z, "linear_attn.in_proj_z.weight", heads * value,
                        hidden);
        return;
    }
    add_piece(list, SL_ROLE_DELTA_QKV, qkvz, rows, hidden, SL_CLASS_MATRIX,
              (sl__row_picks){heads, block, 0, key}, 0, conv);
    add_piece(list, SL_ROLE_DELTA_QKV, qkvz, rows, hidden, SL_CLASS_MATRIX,
              (sl__row_picks){heads, block, key, key}, key_width, conv);
    add_piece(list, SL_ROLE_DELTA_QKV, qkvz, rows, hidden, SL_CLASS_MATRIX,
              (sl__row_picks){heads, block, 2 * key, value}, 2 * key_width, conv);
    add_piece(list, SL_ROLE_DELTA_Z, qkvz, rows, hidden, SL_CLASS_MATRIX,
              (sl__row_picks){heads, block, 2 * key + value, value}, 0, heads * value);
}

static void add_ba(sl__spec_list *list, const sl__delta_desc *d, uint32_t hidden)
{
    static const char ba[] = "linear_attn.in_proj_ba.weight";
    uint32_t heads = d->key_heads, ratio = d->value_heads / heads;
    add_piece(list, SL_ROLE_DELTA_B, ba, heads * 2 * ratio, hidden, SL_CLASS_PRECISE,
              (sl__row_picks){heads, 2 * ratio, 0, ratio}, 0, d->value_heads);
    add_piece(list, SL_ROLE_DELTA_A, ba, heads * 2 * ratio, hidden, SL_CLASS_PRECISE,
              (sl__row_picks){heads, 2 * ratio, ratio, ratio}, 0, d->value_heads);
}

static size_t layer_tensors(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX])
{
    const sl__layer_desc *l = &desc->layers[layer];
    char prefix[128];
    sl__spec_list list;
    sl__begin_layer(&list, desc, layer, 1, specs, prefix);
    if (l->mixer == SL_MIXER_ATTENTION) {
        sl__specs_attention(&list, &l->attention, desc->hidden);
    } else {
        add_qkvz(&list, &l->delta, desc->hidden);
        add_ba(&list, &l->delta, desc->hidden);
        sl__specs_delta(&list, &l->delta, desc->hidden);
    }
    sl__qwen_specs_moe(&list, &l->moe, desc->hidden);
    return list.count;
}

static const char *const model_types[] = {"qwen3_next", NULL};
static const char *const prefixes[] = {"model.", NULL};
static const char *const unread[] = {"mtp.", NULL};

const sl__family sl__family_qwen3_next = {
    .name = "qwen3_next",
    .model_types = model_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = {.single = SL_SINGLE_MLP_EXPERTS},
    .describe = sl__qwen_describe,
    .model_tensors = sl__qwen_model_tensors,
    .layer_tensors = layer_tensors,
    .layer_prefix = sl__layer_prefix,
};
