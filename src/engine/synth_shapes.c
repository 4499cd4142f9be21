/* The shapes of real models, as their config.json publishes them. The tiny ones are no real models:
 * a few megabytes of the same architectures, for tests. */
#include "engine/synth.h"

#include <string.h>

struct sl__synth_shape {
    const char *name;
    bool hybrid; /* Qwen3.5 (DeltaNet, gated attention, a shared expert); else Qwen3 MoE */
    uint32_t hidden, layers, heads, kv_heads, head_dim;
    uint32_t experts, top_k, width; /* width: of an expert, and of the shared one */
    uint32_t dense_width;           /* intermediate_size of Qwen3 MoE, which no layer uses */
    uint32_t key_heads, value_heads, delta_dim;
    uint32_t vocab, context;
    json_int_t theta;
};

static const sl__synth_shape shapes[] = {
    {"qwen3.5-397b", true, 4096, 60, 32, 2, 256, 512, 10, 1024, 0, 16, 64, 128, 248320, 262144,
     10000000},
    {"qwen3.5-122b", true, 3072, 48, 32, 2, 256, 256, 8, 1024, 0, 16, 64, 128, 248320, 262144,
     10000000},
    {"qwen3.5-35b", true, 2048, 40, 16, 2, 256, 256, 8, 512, 0, 16, 32, 128, 248320, 262144,
     10000000},
    {"qwen3-235b-a22b", false, 4096, 94, 64, 4, 128, 128, 8, 1536, 12288, 0, 0, 0, 151936, 40960,
     1000000},
    {"qwen3-30b-a3b", false, 2048, 48, 32, 4, 128, 128, 8, 768, 6144, 0, 0, 0, 151936, 40960,
     1000000},
    {"tiny", true, 256, 4, 4, 2, 64, 64, 4, 64, 0, 2, 4, 64, 4096, 8192, 10000000},
    {"tiny-qwen3", false, 256, 4, 4, 2, 64, 64, 4, 64, 512, 0, 0, 0, 4096, 8192, 1000000},
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

/* In the order of the table. */
static const char *const names[SHAPES + 1] = {
    "qwen3.5-397b", "qwen3.5-122b", "qwen3.5-35b", "qwen3-235b-a22b",
    "qwen3-30b-a3b", "tiny", "tiny-qwen3", NULL,
};

const char *const *sl_synth_shapes(void) { return names; }

const sl__synth_shape *sl__synth_shape_find(const char *name)
{
    for (size_t i = 0; i < SHAPES; i++) {
        if (strcmp(shapes[i].name, name) == 0) return &shapes[i];
    }
    return NULL;
}

uint32_t sl__synth_shape_layers(const sl__synth_shape *shape) { return shape->layers; }

/* Adds the members of `more` to obj and releases it; NULL, obj released, where either is none. */
static json_t *with(json_t *obj, json_t *more)
{
    bool ok = obj && more && json_object_update(obj, more) == 0;
    json_decref(more);
    if (ok) return obj;
    json_decref(obj);
    return NULL;
}

static json_t *common(const sl__synth_shape *s, uint32_t layers)
{
    return json_pack(
        "{s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:f, s:b, s:b, s:i}",
        "hidden_size", (int)s->hidden, "num_hidden_layers", (int)layers, "num_attention_heads",
        (int)s->heads, "num_key_value_heads", (int)s->kv_heads, "head_dim", (int)s->head_dim,
        "num_experts", (int)s->experts, "num_experts_per_tok", (int)s->top_k,
        "moe_intermediate_size", (int)s->width, "vocab_size", (int)s->vocab,
        "max_position_embeddings", (int)s->context, "hidden_act", "silu", "rms_norm_eps", 1e-6,
        "tie_word_embeddings", 0, "attention_bias", 0, "mtp_num_hidden_layers", 0);
}

static json_t *layer_types(uint32_t layers)
{
    json_t *list = json_array();
    bool ok = list != NULL;
    for (uint32_t i = 0; ok && i < layers; i++) {
        ok = json_array_append_new(list, json_string(i % 4 == 3 ? "full_attention"
                                                                : "linear_attention")) == 0;
    }
    if (ok) return list;
    json_decref(list);
    return NULL;
}

static json_t *hybrid_config(const sl__synth_shape *s, uint32_t layers)
{
    json_t *more = json_pack(
        "{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:b, s:i, s:o, s:{s:s, s:I, s:f}}", "model_type",
        "qwen3_5_moe_text", "shared_expert_intermediate_size", (int)s->width,
        "linear_num_key_heads", (int)s->key_heads, "linear_num_value_heads", (int)s->value_heads,
        "linear_key_head_dim", (int)s->delta_dim, "linear_value_head_dim", (int)s->delta_dim,
        "linear_conv_kernel_dim", 4, "attn_output_gate", 1, "full_attention_interval", 4,
        "layer_types", layer_types(layers), "rope_parameters", "rope_type", "default", "rope_theta",
        s->theta, "partial_rotary_factor", 0.25);
    json_t *text = with(common(s, layers), more);
    return json_pack("{s:[s], s:s, s:b, s:o}", "architectures",
                     "Qwen3_5MoeForConditionalGeneration", "model_type", "qwen3_5_moe",
                     "tie_word_embeddings", 0, "text_config", text);
}

static json_t *plain_config(const sl__synth_shape *s, uint32_t layers)
{
    json_t *more = json_pack("{s:[s], s:s, s:i, s:I, s:b, s:i, s:[]}", "architectures",
                             "Qwen3MoeForCausalLM", "model_type", "qwen3_moe", "intermediate_size",
                             (int)s->dense_width, "rope_theta", s->theta, "norm_topk_prob", 1,
                             "decoder_sparse_step", 1, "mlp_only_layers");
    return with(common(s, layers), more);
}

json_t *sl__synth_shape_config(const sl__synth_shape *shape, uint32_t layers)
{
    return shape->hybrid ? hybrid_config(shape, layers) : plain_config(shape, layers);
}
