#include "model/family_parts.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "model/routing.h"

/* ---- reading --------------------------------------------------------------------------------- */

sl_status sl__read_model(sl__model_desc *desc, const sl__config *c, sl_error *err)
{
    SL_TRY(sl__config_u32(c, "vocab_size", 1, 1u << 24, &desc->vocab, err));
    SL_TRY(sl__config_u32(c, "hidden_size", 1, SL_WIDTH_MAX, &desc->hidden, err));
    SL_TRY(sl__config_u32(c, "num_hidden_layers", 1, SL_LAYERS_MAX, &desc->layer_count, err));
    SL_TRY(sl__config_u32_or(c, "max_position_embeddings", 1, 1u << 30, 32768, &desc->max_context,
                             err));
    SL_TRY(sl__config_f32(c, "rms_norm_eps", 0.0f, 1.0f, &desc->eps, err));
    SL_TRY(sl__config_bool_or(c, "tie_word_embeddings", false, &desc->tied_embedding, err));
    SL_TRY(sl__config_bool_or(c, "sluice_dialect.shifted_norms", false, &desc->shifted_norms, err));
    return sl__refuse_other(c, "hidden_act", "silu", err);
}

sl_status sl__take_layers(sl__model_desc *desc, uint32_t count, const sl__layer_desc *layer,
                          sl__arena *arena, sl_error *err)
{
    desc->trained_top_k = layer->moe.top_k;
    desc->layers = SL_ARENA_NEW(arena, sl__layer_desc, count);
    if (!desc->layers) return SL_FAIL_NOMEM(err, "layer descriptions");
    for (uint32_t i = 0; i < count; i++)
        desc->layers[i] = *layer;
    return SL_OK;
}

/* The key of a rope setting: newer files have all of them in rope_parameters, older ones some at
 * the top and the rest in rope_scaling. */
static const char *rope_key(const sl__config *c, const char *name, char out[64])
{
    static const char *const places[] = {"rope_parameters.", "rope_scaling.", ""};
    for (size_t i = 0; i < 3; i++) {
        snprintf(out, 64, "%s%s", places[i], name);
        if (sl__config_find(c, out)) return out;
    }
    snprintf(out, 64, "%s", name);
    return out;
}

static float yarn_mscale(float factor, float mscale)
{
    return factor <= 1.0f ? 1.0f : 0.1f * mscale * logf(factor) + 1.0f;
}

/* cos and sin are multiplied by attention_factor where it is given, by the ratio of the two mscales
 * where both are, else by 0.1·ln(factor) + 1. */
static sl_status read_amplitude(sl__rope_desc *rope, const sl__config *c, sl_error *err)
{
    char key[64];
    float mscale, all;
    SL_TRY(sl__config_f32_or(c, rope_key(c, "mscale", key), 0.0f, 100.0f, 0.0f, &mscale, err));
    SL_TRY(sl__config_f32_or(c, rope_key(c, "mscale_all_dim", key), 0.0f, 100.0f, 0.0f, &all,
                             err));
    float standard = mscale > 0 && all > 0
                         ? yarn_mscale(rope->factor, mscale) / yarn_mscale(rope->factor, all)
                         : yarn_mscale(rope->factor, 1.0f);
    return sl__config_f32_or(c, rope_key(c, "attention_factor", key), 1e-6f, 1e6f, standard,
                             &rope->amplitude, err);
}

static sl_status read_yarn(sl__rope_desc *rope, const sl__config *c, sl_error *err)
{
    char key[64];
    uint32_t context;
    SL_TRY(sl__config_u32_or(c, "max_position_embeddings", 1, 1u << 30, 4096, &context, err));
    SL_TRY(sl__config_f32(c, rope_key(c, "factor", key), 1.0f, 1e6f, &rope->factor, err));
    SL_TRY(sl__config_f32_or(c, rope_key(c, "original_max_position_embeddings", key), 1.0f, 1e9f,
                             (float)context, &rope->original_context, err));
    SL_TRY(sl__config_f32_or(c, rope_key(c, "beta_fast", key), 1e-3f, 1e6f, 32.0f,
                             &rope->beta_fast, err));
    SL_TRY(sl__config_f32_or(c, rope_key(c, "beta_slow", key), 1e-3f, 1e6f, 1.0f,
                             &rope->beta_slow, err));
    SL_TRY(sl__config_bool_or(c, rope_key(c, "truncate", key), true, &rope->truncate, err));
    return read_amplitude(rope, c, err);
}

/* How many channels of a head are rotated. */
static sl_status read_rotary_dim(sl__rope_desc *rope, const sl__config *c, uint32_t head_dim,
                                 float default_part, sl_error *err)
{
    char key[64];
    float part;
    if (sl__config_find(c, "rotary_dim")) {
        SL_TRY(sl__config_u32(c, "rotary_dim", 0, head_dim, &rope->dim, err));
        if (rope->dim % 2 == 0) return SL_OK;
        return SL_FAIL(err, SL_EFORMAT, "%s: rotary_dim %u is not an even number of channels",
                       c->path, rope->dim);
    }
    rope_key(c, "partial_rotary_factor", key);
    SL_TRY(sl__config_f32_or(c, key, 0.0f, 1.0f, default_part, &part, err));
    rope->dim = (uint32_t)((float)head_dim * part);
    if (rope->dim % 2 == 0) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: %s: %g of head_dim %u is not an even number of channels",
                   c->path, key, (double)part, head_dim);
}

/* Every place that may hold the type is looked at: a scaling must not be passed over because
 * another place speaks of none. */
static sl_status read_rope_type(bool *yarn, const sl__config *c, sl_error *err)
{
    static const char *const keys[] = {"rope_parameters.rope_type", "rope_parameters.type",
                                       "rope_scaling.rope_type", "rope_scaling.type"};
    *yarn = false;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        const char *type;
        if (!sl__config_find(c, keys[i])) continue;
        SL_TRY(sl__config_str(c, keys[i], &type, err));
        if (strcmp(type, "yarn") == 0) {
            *yarn = true;
        } else if (strcmp(type, "default") != 0) {
            return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s %s is not supported", c->path, keys[i],
                           type);
        }
    }
    return SL_OK;
}

sl_status sl__read_rope(sl__rope_desc *rope, const sl__config *c, uint32_t head_dim,
                        float default_part, sl_error *err)
{
    char key[64];
    bool yarn;
    *rope = (sl__rope_desc){.amplitude = 1.0f};
    SL_TRY(sl__config_f32(c, rope_key(c, "rope_theta", key), 1.0f, 1e12f, &rope->theta, err));
    SL_TRY(sl__config_bool_or(c, "sluice_dialect.adjacent_rope", false, &rope->adjacent, err));
    SL_TRY(read_rotary_dim(rope, c, head_dim, default_part, err));
    SL_TRY(read_rope_type(&yarn, c, err));
    return yarn ? read_yarn(rope, c, err) : SL_OK;
}

sl_status sl__read_attention(sl__attention_desc *a, const sl__config *c, uint32_t hidden,
                             float default_part, sl_error *err)
{
    SL_TRY(sl__config_u32(c, "num_attention_heads", 1, 4096, &a->heads, err));
    SL_TRY(sl__config_u32(c, "num_key_value_heads", 1, 4096, &a->kv_heads, err));
    if (a->heads % a->kv_heads != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: num_attention_heads %u is not a multiple of "
                       "num_key_value_heads %u", c->path, a->heads, a->kv_heads);
    }
    uint32_t usual = hidden / a->heads;
    SL_TRY(sl__config_u32_or(c, "head_dim", 2, 4096, usual, &a->head_dim, err));
    if (a->head_dim < 2) {
        return SL_FAIL(err, SL_EFORMAT, "%s: num_attention_heads %u: hidden_size %u leaves no "
                       "head_dim", c->path, a->heads, hidden);
    }
    a->scale = 1.0f / sqrtf((float)a->head_dim);
    return sl__read_rope(&a->rope, c, a->head_dim, default_part, err);
}

sl_status sl__read_delta(sl__delta_desc *d, const sl__config *c, sl_error *err)
{
    SL_TRY(sl__config_u32(c, "linear_num_key_heads", 1, 4096, &d->key_heads, err));
    SL_TRY(sl__config_u32(c, "linear_num_value_heads", 1, 4096, &d->value_heads, err));
    SL_TRY(sl__config_u32(c, "linear_key_head_dim", 1, 1024, &d->key_dim, err));
    SL_TRY(sl__config_u32(c, "linear_value_head_dim", 1, 1024, &d->value_dim, err));
    SL_TRY(sl__config_u32(c, "linear_conv_kernel_dim", 2, 16, &d->conv_width, err));
    SL_TRY(sl__config_bool_or(c, "sluice_dialect.tiled_heads", false, &d->tiled, err));
    SL_TRY(sl__config_bool_or(c, "sluice_dialect.negative_decay", false, &d->negative_decay, err));
    SL_TRY(sl__config_bool_or(c, "sluice_dialect.split_qkvz", false, &d->split_qkvz, err));
    if (d->value_heads % d->key_heads == 0) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: linear_num_value_heads %u is not a multiple of "
                   "linear_num_key_heads %u", c->path, d->value_heads, d->key_heads);
}

sl_status sl__read_mixers(sl__model_desc *desc, const sl__config *c, sl_error *err)
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

sl_status sl__read_experts(sl__moe_desc *m, const sl__config *c, const char *const *keys,
                           const char *width_key, sl_error *err)
{
    while (keys[1] && !sl__config_find(c, keys[0]))
        keys++;
    SL_TRY(sl__config_u32(c, keys[0], 1, 65535, &m->experts, err));
    SL_TRY(sl__config_u32(c, "num_experts_per_tok", 1, m->experts, &m->top_k, err));
    SL_TRY(sl__config_u32(c, width_key, 1, SL_WIDTH_MAX, &m->intermediate, err));
    m->routing.scale = 1.0f;
    return SL_OK;
}

sl_status sl__refuse_other(const sl__config *c, const char *key, const char *normal, sl_error *err)
{
    const char *value;
    if (!sl__config_find(c, key)) return SL_OK;
    SL_TRY(sl__config_str(c, key, &value, err));
    if (strcmp(value, normal) == 0) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s %s is not supported", c->path, key, value);
}

sl_status sl__read_corrected_routing(sl__moe_desc *m, const sl__config *c, sl_error *err)
{
    static const char *const expert_keys[] = {"n_routed_experts", "num_experts", NULL};
    uint32_t shared;
    sl__routing_desc *r = &m->routing;
    SL_TRY(sl__read_experts(m, c, expert_keys, "moe_intermediate_size", err));
    SL_TRY(sl__config_u32_or(c, "n_shared_experts", 0, 64, 0, &shared, err));
    m->shared_intermediate = shared * m->intermediate;
    SL_TRY(sl__refuse_other(c, "scoring_func", "sigmoid", err));
    SL_TRY(sl__refuse_other(c, "topk_method", "noaux_tc", err));
    r->score = SL_SCORE_SIGMOID;
    r->correction = true;
    SL_TRY(sl__config_u32_or(c, "n_group", 1, SL_ROUTING_GROUPS_MAX, 1, &r->groups, err));
    SL_TRY(sl__config_u32_or(c, "topk_group", 1, r->groups, r->groups, &r->top_groups, err));
    if (m->experts % r->groups != 0 || (r->groups > 1 && m->experts / r->groups < 2) ||
        m->top_k > m->experts / r->groups * r->top_groups) {
        return SL_FAIL(err, SL_EFORMAT, "%s: n_group %u and topk_group %u do not fit %u experts "
                       "and %u a token", c->path, r->groups, r->top_groups, m->experts, m->top_k);
    }
    SL_TRY(sl__config_bool_or(c, "norm_topk_prob", true, &r->renormalise, err));
    return sl__config_f32_or(c, "routed_scaling_factor", 1e-6f, 1e6f, 1.0f, &r->scale, err);
}

/* The width of dense layers has no default: it is required as soon as there is one. */
static sl_status make_dense(sl__moe_desc *m, const sl__config *c, sl_error *err)
{
    *m = (sl__moe_desc){0};
    return sl__config_u32(c, "intermediate_size", 1, SL_WIDTH_MAX, &m->shared_intermediate, err);
}

sl_status sl__take_layers_after_dense(sl__model_desc *desc, const sl__config *c,
                                      const sl__layer_desc *layer, sl__arena *arena,
                                      sl_error *err)
{
    uint32_t dense;
    SL_TRY(sl__config_u32_or(c, "first_k_dense_replace", 0, desc->layer_count, 0, &dense, err));
    SL_TRY(sl__take_layers(desc, desc->layer_count, layer, arena, err));
    for (uint32_t i = 0; i < dense; i++)
        SL_TRY(make_dense(&desc->layers[i].moe, c, err));
    return SL_OK;
}

sl_status sl__read_dense_layers(sl__model_desc *desc, const sl__config *c, sl_error *err)
{
    uint32_t step;
    SL_TRY(sl__config_u32_or(c, "decoder_sparse_step", 1, SL_LAYERS_MAX, 1, &step, err));
    const json_t *only = sl__config_find(c, "mlp_only_layers");
    if (only && !json_is_array(only)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: mlp_only_layers: expected a list", c->path);
    }
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        bool dense = (i + 1) % step != 0;
        for (size_t j = 0; j < json_array_size(only); j++) {
            const json_t *number = json_array_get(only, j);
            if (!json_is_integer(number) || json_integer_value(number) < 0 ||
                json_integer_value(number) >= desc->layer_count) {
                return SL_FAIL(err, SL_EFORMAT, "%s: mlp_only_layers[%zu]: expected a layer's "
                               "number", c->path, j);
            }
            dense |= json_integer_value(number) == (json_int_t)i;
        }
        if (dense) SL_TRY(make_dense(&desc->layers[i].moe, c, err));
    }
    return SL_OK;
}

sl_status sl__refuse_unless(const sl__config *c, const char *key, bool normal, sl_error *err)
{
    bool value;
    SL_TRY(sl__config_bool_or(c, key, normal, &value, err));
    if (value == normal) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: %s %s is not supported", c->path, key,
                   value ? "true" : "false");
}

/* ---- listing --------------------------------------------------------------------------------- */

sl__tensor_spec *sl__spec_add(sl__spec_list *list, int role, const char *name, uint32_t rows,
                              uint32_t cols, sl__tensor_class klass)
{
    assert(list->count < SL_SPECS_MAX);
    sl__tensor_spec *spec = &list->specs[list->count++];
    *spec = (sl__tensor_spec){.role = role, .rows = rows, .cols = cols, .klass = klass};
    snprintf(spec->name, sizeof spec->name, "%s%s", list->prefix, name);
    return spec;
}

void sl__spec_matrix(sl__spec_list *list, int role, const char *name, uint32_t rows,
                     uint32_t cols)
{
    sl__spec_add(list, role, name, rows, cols, SL_CLASS_MATRIX);
}

void sl__spec_precise(sl__spec_list *list, int role, const char *name, uint32_t rows,
                      uint32_t cols)
{
    sl__spec_add(list, role, name, rows, cols, SL_CLASS_PRECISE);
}

void sl__spec_vector(sl__spec_list *list, int role, const char *name, uint32_t size)
{
    sl__spec_add(list, role, name, 1, size, SL_CLASS_VECTOR);
}

void sl__spec_norm(sl__spec_list *list, int role, const char *name, uint32_t size)
{
    sl__spec_add(list, role, name, 1, size, SL_CLASS_VECTOR)->add = list->norm_add;
}

size_t sl__model_specs(const sl__model_desc *desc, float norm_add,
                       sl__tensor_spec specs[SL_SPECS_MAX])
{
    sl__spec_list list = {.specs = specs, .prefix = desc->prefix,
                          .norm_add = desc->shifted_norms ? 0 : norm_add};
    sl__spec_matrix(&list, SL_ROLE_EMBED, "embed_tokens.weight", desc->vocab, desc->hidden);
    sl__spec_norm(&list, SL_ROLE_FINAL_NORM, "norm.weight", desc->hidden);
    if (desc->tied_embedding) return list.count;
    /* "language_model.model." has its head at "language_model."; the others at the root. */
    char head[64] = "";
    size_t size = strlen(desc->prefix), tail = strlen("model.");
    if (size > tail && strcmp(desc->prefix + size - tail, "model.") == 0 &&
        desc->prefix[size - tail - 1] == '.') {
        snprintf(head, sizeof head, "%.*s", (int)(size - tail), desc->prefix);
    }
    list.prefix = head;
    sl__spec_matrix(&list, SL_ROLE_HEAD, "lm_head.weight", desc->vocab, desc->hidden);
    return list.count;
}

size_t sl__plain_model_tensors(const sl__model_desc *desc, sl__tensor_spec specs[SL_SPECS_MAX])
{
    return sl__model_specs(desc, 0, specs);
}

void sl__begin_layer(sl__spec_list *list, const sl__model_desc *desc, uint32_t layer,
                     float norm_add, sl__tensor_spec specs[SL_SPECS_MAX], char prefix[128])
{
    sl__layer_prefix(desc, layer, prefix);
    *list = (sl__spec_list){.specs = specs, .prefix = prefix,
                            .norm_add = desc->shifted_norms ? 0 : norm_add};
    sl__spec_norm(list, SL_ROLE_MIXER_NORM, "input_layernorm.weight", desc->hidden);
    sl__spec_norm(list, SL_ROLE_FFN_NORM, "post_attention_layernorm.weight", desc->hidden);
}

static void specs_attention_extras(sl__spec_list *list, const sl__attention_desc *a,
                                   uint32_t hidden)
{
    uint32_t q_width = a->heads * a->head_dim, kv_width = a->kv_heads * a->head_dim;
    if (a->qk_norm != SL_QK_NORM_NONE) {
        bool whole = a->qk_norm == SL_QK_NORM_WHOLE;
        sl__spec_norm(list, SL_ROLE_Q_NORM, "self_attn.q_norm.weight",
                      whole ? q_width : a->head_dim);
        sl__spec_norm(list, SL_ROLE_K_NORM, "self_attn.k_norm.weight",
                      whole ? kv_width : a->head_dim);
    }
    if (a->bias) {
        sl__spec_vector(list, SL_ROLE_Q_BIAS, "self_attn.q_proj.bias",
                        a->output_gate ? 2 * q_width : q_width);
        sl__spec_vector(list, SL_ROLE_K_BIAS, "self_attn.k_proj.bias", kv_width);
        sl__spec_vector(list, SL_ROLE_V_BIAS, "self_attn.v_proj.bias", kv_width);
    }
    if (a->output_bias) sl__spec_vector(list, SL_ROLE_O_BIAS, "self_attn.o_proj.bias", hidden);
    if (a->sinks) sl__spec_vector(list, SL_ROLE_SINKS, "self_attn.sinks", a->heads);
}

void sl__specs_attention(sl__spec_list *list, const sl__attention_desc *a, uint32_t hidden)
{
    uint32_t q_width = a->heads * a->head_dim, kv_width = a->kv_heads * a->head_dim;
    sl__spec_matrix(list, SL_ROLE_Q, "self_attn.q_proj.weight",
                    a->output_gate ? 2 * q_width : q_width, hidden);
    sl__spec_matrix(list, SL_ROLE_K, "self_attn.k_proj.weight", kv_width, hidden);
    sl__spec_matrix(list, SL_ROLE_V, "self_attn.v_proj.weight", kv_width, hidden);
    sl__spec_matrix(list, SL_ROLE_O, "self_attn.o_proj.weight", hidden, q_width);
    specs_attention_extras(list, a, hidden);
}

/* Cut a head at a time, so never in panels. */
static void specs_mla_up(sl__spec_list *list, const sl__mla_desc *m)
{
    const sl__tensor_class klass = SL_CLASS_MATRIX;
    if (!m->split_up) {
        sl__spec_add(list, SL_ROLE_MLA_KV_UP, "self_attn.kv_b_proj.weight",
                     m->heads * (m->nope_dim + m->value_dim), m->kv_rank, klass)->by_rows = true;
        return;
    }
    sl__spec_add(list, SL_ROLE_MLA_K_UP, "self_attn.k_b_proj.weight", m->heads * m->kv_rank,
                 m->nope_dim, klass)->by_rows = true;
    sl__spec_add(list, SL_ROLE_MLA_V_UP, "self_attn.v_b_proj.weight", m->heads * m->value_dim,
                 m->kv_rank, klass)->by_rows = true;
}

void sl__specs_mla(sl__spec_list *list, const sl__mla_desc *m, uint32_t hidden)
{
    uint32_t query = m->heads * (m->nope_dim + m->rope.dim);
    if (m->q_rank == 0) {
        sl__spec_matrix(list, SL_ROLE_Q, "self_attn.q_proj.weight", query, hidden);
    } else {
        sl__spec_matrix(list, SL_ROLE_MLA_Q_DOWN, "self_attn.q_a_proj.weight", m->q_rank, hidden);
        sl__spec_norm(list, SL_ROLE_MLA_Q_NORM, "self_attn.q_a_layernorm.weight", m->q_rank);
        sl__spec_matrix(list, SL_ROLE_MLA_Q_UP, "self_attn.q_b_proj.weight", query, m->q_rank);
    }
    sl__spec_matrix(list, SL_ROLE_MLA_KV_DOWN, "self_attn.kv_a_proj_with_mqa.weight",
                    m->kv_rank + m->rope.dim, hidden);
    sl__spec_norm(list, SL_ROLE_MLA_KV_NORM, "self_attn.kv_a_layernorm.weight", m->kv_rank);
    specs_mla_up(list, m);
    sl__spec_matrix(list, SL_ROLE_O, "self_attn.o_proj.weight", hidden, m->heads * m->value_dim);
}

void sl__specs_delta(sl__spec_list *list, const sl__delta_desc *d, uint32_t hidden)
{
    uint32_t conv = sl__delta_conv_width(d), value = sl__delta_value_width(d);
    sl__spec_vector(list, SL_ROLE_DELTA_CONV, "linear_attn.conv1d.weight", conv * d->conv_width);
    sl__spec_add(list, SL_ROLE_DELTA_A_LOG, "linear_attn.A_log", 1, d->value_heads,
                 SL_CLASS_VECTOR)->minus_exp = d->negative_decay;
    sl__spec_vector(list, SL_ROLE_DELTA_DT_BIAS, "linear_attn.dt_bias", d->value_heads);
    sl__spec_vector(list, SL_ROLE_DELTA_NORM, "linear_attn.norm.weight", d->value_dim);
    sl__spec_matrix(list, SL_ROLE_DELTA_OUT, "linear_attn.out_proj.weight", hidden, value);
}

void sl__specs_shared(sl__spec_list *list, const char *prefix, const sl__moe_desc *m,
                      uint32_t hidden)
{
    char name[128];
    uint32_t width = m->shared_intermediate;
    if (width == 0) return;
    snprintf(name, sizeof name, "%sgate_proj.weight", prefix);
    sl__spec_matrix(list, SL_ROLE_SHARED_GATE_PROJ, name, width, hidden);
    snprintf(name, sizeof name, "%sup_proj.weight", prefix);
    sl__spec_matrix(list, SL_ROLE_SHARED_UP_PROJ, name, width, hidden);
    snprintf(name, sizeof name, "%sdown_proj.weight", prefix);
    sl__spec_matrix(list, SL_ROLE_SHARED_DOWN_PROJ, name, hidden, width);
}

void sl__specs_corrected_moe(sl__spec_list *list, const sl__moe_desc *m, uint32_t hidden)
{
    if (m->experts == 0) {
        sl__specs_shared(list, "mlp.", m, hidden);
        return;
    }
    sl__spec_precise(list, SL_ROLE_ROUTER, "mlp.gate.weight", m->experts, hidden);
    sl__spec_vector(list, SL_ROLE_ROUTER_CORRECTION, "mlp.gate.e_score_correction_bias",
                    m->experts);
    sl__specs_shared(list, "mlp.shared_experts.", m, hidden);
}

void sl__layer_prefix(const sl__model_desc *desc, uint32_t layer, char out[128])
{
    if (layer < desc->layer_count) snprintf(out, 128, "%slayers.%u.", desc->prefix, layer);
    else snprintf(out, 128, "mtp.layers.%u.", layer - desc->layer_count);
}
