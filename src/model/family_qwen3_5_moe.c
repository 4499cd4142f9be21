/* Qwen3.5-MoE: three Gated DeltaNet layers, then one of gated attention, and so on; every layer has
 * routed experts and a gated shared expert. Norms of the residual stream and of q and k are stored
 * zero-centred (the weight is 1 + w); the norm inside DeltaNet is not. */
#include "model/family.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"

#define WIDTH_MAX (1u << 20) /* of any dimension but the vocabulary */

static sl_status read_attention(sl__attention_desc *a, const sl__config *c, sl_error *err)
{
    float theta, part;
    SL_TRY(sl__config_u32(c, "num_attention_heads", 1, 4096, &a->heads, err));
    SL_TRY(sl__config_u32(c, "num_key_value_heads", 1, 4096, &a->kv_heads, err));
    SL_TRY(sl__config_u32(c, "head_dim", 2, 4096, &a->head_dim, err));
    if (a->heads % a->kv_heads != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: num_attention_heads %u is not a multiple of "
                       "num_key_value_heads %u", c->path, a->heads, a->kv_heads);
    }
    const char *theta_key = sl__config_find(c, "rope_parameters.rope_theta")
                                ? "rope_parameters.rope_theta" : "rope_theta";
    SL_TRY(sl__config_f32(c, theta_key, 1.0f, 1e12f, &theta, err));
    const char *part_key = sl__config_find(c, "rope_parameters.partial_rotary_factor")
                               ? "rope_parameters.partial_rotary_factor" : "partial_rotary_factor";
    SL_TRY(sl__config_f32_or(c, part_key, 0.0f, 1.0f, 0.25f, &part, err));
    a->rope_theta = theta;
    a->rotary_dim = (uint32_t)((float)a->head_dim * part);
    if (a->rotary_dim % 2 != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: %g of head_dim %u is not an even number of "
                       "channels", c->path, part_key, (double)part, a->head_dim);
    }
    a->scale = 1.0f / sqrtf((float)a->head_dim);
    a->output_gate = true;
    return SL_OK;
}

static sl_status read_delta(sl__delta_desc *d, const sl__config *c, sl_error *err)
{
    SL_TRY(sl__config_u32(c, "linear_num_key_heads", 1, 4096, &d->key_heads, err));
    SL_TRY(sl__config_u32(c, "linear_num_value_heads", 1, 4096, &d->value_heads, err));
    SL_TRY(sl__config_u32(c, "linear_key_head_dim", 1, 1024, &d->key_dim, err));
    SL_TRY(sl__config_u32(c, "linear_value_head_dim", 1, 1024, &d->value_dim, err));
    SL_TRY(sl__config_u32(c, "linear_conv_kernel_dim", 2, 16, &d->conv_width, err));
    if (d->value_heads % d->key_heads != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: linear_num_value_heads %u is not a multiple of "
                       "linear_num_key_heads %u", c->path, d->value_heads, d->key_heads);
    }
    return SL_OK;
}

static sl_status read_moe(sl__moe_desc *m, const sl__config *c, sl_error *err)
{
    SL_TRY(sl__config_u32(c, "num_experts", 1, 65535, &m->experts, err));
    SL_TRY(sl__config_u32(c, "num_experts_per_tok", 1, m->experts, &m->top_k, err));
    SL_TRY(sl__config_u32(c, "moe_intermediate_size", 1, WIDTH_MAX, &m->intermediate, err));
    /* No default: 0 would leave out a shared expert that the weights hold. */
    return sl__config_u32(c, "shared_expert_intermediate_size", 0, WIDTH_MAX,
                          &m->shared_intermediate, err);
}

/* Options of the format that this family does not have: named, not ignored. */
static sl_status refuse_others(const sl__config *c, sl_error *err)
{
    bool flag;
    SL_TRY(sl__config_bool_or(c, "attention_bias", false, &flag, err));
    if (flag) return SL_FAIL(err, SL_EUNSUPPORTED, "%s: attention_bias is not supported", c->path);
    SL_TRY(sl__config_bool_or(c, "attn_output_gate", true, &flag, err));
    if (!flag) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: attn_output_gate false is not supported",
                       c->path);
    }
    static const char *const type_keys[] = {"rope_parameters.rope_type", "rope_scaling.rope_type",
                                            "rope_scaling.type"};
    for (size_t i = 0; i < sizeof type_keys / sizeof type_keys[0]; i++) {
        const char *type;
        if (!sl__config_find(c, type_keys[i])) continue;
        SL_TRY(sl__config_str(c, type_keys[i], &type, err));
        if (strcmp(type, "default") != 0) {
            return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s %s is not supported", c->path,
                           type_keys[i], type);
        }
    }
    const char *act = "silu";
    if (sl__config_find(c, "hidden_act")) SL_TRY(sl__config_str(c, "hidden_act", &act, err));
    if (strcmp(act, "silu") != 0) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: hidden_act %s is not supported", c->path, act);
    }
    return SL_OK;
}

/* Which mixer each layer has: layer_types where given, else one in full_attention_interval. */
static sl_status read_mixers(sl__model_desc *desc, const sl__config *c, sl_error *err)
{
    const json_t *types = sl__config_find(c, "layer_types");
    uint32_t interval;
    if (!types) {
        SL_TRY(sl__config_u32_or(c, "full_attention_interval", 1, SL_LAYERS_MAX, 4, &interval,
                                 err));
        for (uint32_t i = 0; i < desc->layer_count; i++) {
            desc->layers[i].mixer = (i + 1) % interval == 0 ? SL_MIXER_ATTENTION : SL_MIXER_DELTA;
        }
        return SL_OK;
    }
    if (!json_is_array(types) || json_array_size(types) != desc->layer_count) {
        return SL_FAIL(err, SL_EFORMAT, "%s: layer_types: expected %u names, one a layer", c->path,
                       desc->layer_count);
    }
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type && strcmp(type, "full_attention") == 0) {
            desc->layers[i].mixer = SL_MIXER_ATTENTION;
        } else if (type && strcmp(type, "linear_attention") == 0) {
            desc->layers[i].mixer = SL_MIXER_DELTA;
        } else {
            return SL_FAIL(err, SL_EFORMAT, "%s: layer_types[%u]: %s is not full_attention or "
                           "linear_attention", c->path, i, type ? type : "not a string");
        }
    }
    return SL_OK;
}

static sl_status describe(sl__model_desc *desc, const sl__config *c, bool has_mtp,
                          sl__arena *arena, sl_error *err)
{
    sl__layer_desc layer = {0};
    SL_TRY(sl__config_u32(c, "vocab_size", 1, 1u << 24, &desc->vocab, err));
    SL_TRY(sl__config_u32(c, "hidden_size", 1, WIDTH_MAX, &desc->hidden, err));
    SL_TRY(sl__config_u32(c, "num_hidden_layers", 1, SL_LAYERS_MAX, &desc->layer_count, err));
    SL_TRY(sl__config_u32_or(c, "max_position_embeddings", 1, 1u << 30, 32768, &desc->max_context,
                             err));
    SL_TRY(sl__config_f32(c, "rms_norm_eps", 0.0f, 1.0f, &desc->eps, err));
    SL_TRY(sl__config_bool_or(c, "tie_word_embeddings", false, &desc->tied_embedding, err));
    SL_TRY(read_attention(&layer.attention, c, err));
    SL_TRY(read_delta(&layer.delta, c, err));
    SL_TRY(read_moe(&layer.moe, c, err));
    SL_TRY(refuse_others(c, err));
    desc->trained_top_k = layer.moe.top_k;
    if (has_mtp) {
        SL_TRY(sl__config_u32_or(c, "mtp_num_hidden_layers", 0, 8, 1, &desc->mtp_layer_count,
                                 err));
    }
    uint32_t all = desc->layer_count + desc->mtp_layer_count;
    desc->layers = SL_ARENA_NEW(arena, sl__layer_desc, all);
    if (!desc->layers) return SL_FAIL_NOMEM(err, "layer descriptions");
    for (uint32_t i = 0; i < all; i++)
        desc->layers[i] = layer;
    for (uint32_t i = desc->layer_count; i < all; i++)
        desc->layers[i].mixer = SL_MIXER_ATTENTION;
    return read_mixers(desc, c, err);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void layer_prefix(const sl__model_desc *desc, uint32_t layer, char out[128])
{
    if (layer < desc->layer_count) snprintf(out, 128, "%slayers.%u.", desc->prefix, layer);
    else snprintf(out, 128, "mtp.layers.%u.", layer - desc->layer_count);
}

struct list {
    sl__tensor_spec *specs;
    size_t count;
    const char *prefix;
};

static void add(struct list *list, int role, const char *name, uint32_t rows, uint32_t cols,
                sl__tensor_class klass, float add_to)
{
    assert(list->count < SL_SPECS_MAX);
    sl__tensor_spec *spec = &list->specs[list->count++];
    *spec = (sl__tensor_spec){.role = role, .rows = rows, .cols = cols, .klass = klass,
                              .add = add_to};
    snprintf(spec->name, sizeof spec->name, "%s%s", list->prefix, name);
}

static void add_matrix(struct list *list, int role, const char *name, uint32_t rows, uint32_t cols)
{
    add(list, role, name, rows, cols, SL_CLASS_MATRIX, 0);
}

/* A zero-centred norm. */
static void add_norm(struct list *list, int role, const char *name, uint32_t size)
{
    add(list, role, name, 1, size, SL_CLASS_VECTOR, 1);
}

static size_t model_tensors(const sl__model_desc *desc, sl__tensor_spec specs[SL_SPECS_MAX])
{
    struct list list = {specs, 0, desc->prefix};
    uint32_t hidden = desc->hidden;
    add_matrix(&list, SL_ROLE_EMBED, "embed_tokens.weight", desc->vocab, hidden);
    add_norm(&list, SL_ROLE_FINAL_NORM, "norm.weight", hidden);
    list.prefix = "";
    if (!desc->tied_embedding) {
        add_matrix(&list, SL_ROLE_HEAD, "lm_head.weight", desc->vocab, hidden);
    }
    if (desc->mtp_layer_count > 0) {
        add(&list, -1, "mtp.fc.weight", hidden, 2 * hidden, SL_CLASS_UNREAD, 0);
        add(&list, -1, "mtp.pre_fc_norm_embedding.weight", 1, hidden, SL_CLASS_UNREAD, 0);
        add(&list, -1, "mtp.pre_fc_norm_hidden.weight", 1, hidden, SL_CLASS_UNREAD, 0);
        add(&list, -1, "mtp.norm.weight", 1, hidden, SL_CLASS_UNREAD, 0);
    }
    return list.count;
}

static void add_attention(struct list *list, const sl__attention_desc *a, uint32_t hidden)
{
    uint32_t q_width = a->heads * a->head_dim, kv_width = a->kv_heads * a->head_dim;
    add_matrix(list, SL_ROLE_Q, "self_attn.q_proj.weight", 2 * q_width, hidden);
    add_matrix(list, SL_ROLE_K, "self_attn.k_proj.weight", kv_width, hidden);
    add_matrix(list, SL_ROLE_V, "self_attn.v_proj.weight", kv_width, hidden);
    add_matrix(list, SL_ROLE_O, "self_attn.o_proj.weight", hidden, q_width);
    add_norm(list, SL_ROLE_Q_NORM, "self_attn.q_norm.weight", a->head_dim);
    add_norm(list, SL_ROLE_K_NORM, "self_attn.k_norm.weight", a->head_dim);
}

static void add_delta(struct list *list, const sl__delta_desc *d, uint32_t hidden)
{
    uint32_t conv = sl__delta_conv_width(d), value = sl__delta_value_width(d);
    add_matrix(list, SL_ROLE_DELTA_QKV, "linear_attn.in_proj_qkv.weight", conv, hidden);
    add_matrix(list, SL_ROLE_DELTA_Z, "linear_attn.in_proj_z.weight", value, hidden);
    add(list, SL_ROLE_DELTA_A, "linear_attn.in_proj_a.weight", d->value_heads, hidden,
        SL_CLASS_PRECISE, 0);
    add(list, SL_ROLE_DELTA_B, "linear_attn.in_proj_b.weight", d->value_heads, hidden,
        SL_CLASS_PRECISE, 0);
    add(list, SL_ROLE_DELTA_CONV, "linear_attn.conv1d.weight", 1, conv * d->conv_width,
        SL_CLASS_VECTOR, 0);
    add(list, SL_ROLE_DELTA_A_LOG, "linear_attn.A_log", 1, d->value_heads, SL_CLASS_VECTOR, 0);
    add(list, SL_ROLE_DELTA_DT_BIAS, "linear_attn.dt_bias", 1, d->value_heads, SL_CLASS_VECTOR,
        0);
    add(list, SL_ROLE_DELTA_NORM, "linear_attn.norm.weight", 1, d->value_dim, SL_CLASS_VECTOR, 0);
    add_matrix(list, SL_ROLE_DELTA_OUT, "linear_attn.out_proj.weight", hidden, value);
}

static void add_moe(struct list *list, const sl__moe_desc *m, uint32_t hidden)
{
    uint32_t shared = m->shared_intermediate;
    add(list, SL_ROLE_ROUTER, "mlp.gate.weight", m->experts, hidden, SL_CLASS_PRECISE, 0);
    if (shared == 0) return;
    add_matrix(list, SL_ROLE_SHARED_GATE_PROJ, "mlp.shared_expert.gate_proj.weight", shared,
               hidden);
    add_matrix(list, SL_ROLE_SHARED_UP_PROJ, "mlp.shared_expert.up_proj.weight", shared, hidden);
    add_matrix(list, SL_ROLE_SHARED_DOWN_PROJ, "mlp.shared_expert.down_proj.weight", hidden,
               shared);
    add(list, SL_ROLE_SHARED_GATE, "mlp.shared_expert_gate.weight", 1, hidden, SL_CLASS_PRECISE,
        0);
}

static size_t layer_tensors(const sl__model_desc *desc, uint32_t layer,
                            sl__tensor_spec specs[SL_SPECS_MAX])
{
    char prefix[128];
    layer_prefix(desc, layer, prefix);
    struct list list = {specs, 0, prefix};
    const sl__layer_desc *l = &desc->layers[layer];
    add_norm(&list, SL_ROLE_MIXER_NORM, "input_layernorm.weight", desc->hidden);
    add_norm(&list, SL_ROLE_FFN_NORM, "post_attention_layernorm.weight", desc->hidden);
    if (l->mixer == SL_MIXER_ATTENTION) add_attention(&list, &l->attention, desc->hidden);
    else add_delta(&list, &l->delta, desc->hidden);
    add_moe(&list, &l->moe, desc->hidden);
    return list.count;
}

static const char *const model_types[] = {"qwen3_5_moe", "qwen3_5_moe_text", NULL};
static const char *const prefixes[] = {"model.language_model.", "model.", NULL};
static const char *const unread[] = {"model.visual.", "visual.", "vision_tower.", "mtp.", NULL};

const sl__family sl__family_qwen3_5_moe = {
    .name = "qwen3_5_moe",
    .model_types = model_types,
    .prefixes = prefixes,
    .unread = unread,
    .experts = {.fused_gate_up = "mlp.experts.gate_up_proj",
                .fused_down = "mlp.experts.down_proj",
                .single = {"mlp.experts.%u.gate_proj.weight", "mlp.experts.%u.up_proj.weight",
                           "mlp.experts.%u.down_proj.weight"}},
    .describe = describe,
    .model_tensors = model_tensors,
    .layer_tensors = layer_tensors,
    .layer_prefix = layer_prefix,
};
