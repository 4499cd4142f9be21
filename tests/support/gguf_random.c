/* Small checkpoints of random weights, the same in every run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gguf_convert.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "st_writer.h"
#include "test_env.h"

/* Qwen3.5 with 2 key heads and 6 value heads, a linear layer, a full one, and one that drafts. */
static const char hybrid_config[] =
    "{\"model_type\": \"qwen3_5_moe_text\", \"hidden_size\": 64, \"num_hidden_layers\": 2,"
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 32,"
    "\"linear_conv_kernel_dim\": 4, \"linear_num_key_heads\": 2, \"linear_num_value_heads\": 6,"
    "\"linear_key_head_dim\": 16, \"linear_value_head_dim\": 16, \"num_experts\": 4,"
    "\"num_experts_per_tok\": 2, \"moe_intermediate_size\": 32, \"mtp_num_hidden_layers\": 1,"
    "\"shared_expert_intermediate_size\": 32, \"vocab_size\": 320, \"rms_norm_eps\": 1e-6,"
    "\"max_position_embeddings\": 256, \"layer_types\": [\"linear_attention\","
    "\"full_attention\"], \"rope_parameters\": {\"rope_theta\": 10000.0, \"rope_type\":"
    "\"default\", \"partial_rotary_factor\": 0.25}}";

/* rows 0: a vector. */
static const struct shape {
    const char *name;
    uint32_t rows, cols;
} linear_shapes[] =
    {
        {"linear_attn.in_proj_qkv.weight", 160, 64},
        {"linear_attn.in_proj_z.weight", 96, 64},
        {"linear_attn.in_proj_a.weight", 6, 64},
        {"linear_attn.in_proj_b.weight", 6, 64},
        {"linear_attn.conv1d.weight", 160, 4},
        {"linear_attn.A_log", 0, 6},
        {"linear_attn.dt_bias", 0, 6},
        {"linear_attn.norm.weight", 0, 16},
        {"linear_attn.out_proj.weight", 64, 96},
},
  full_shapes[] =
      {
          {"self_attn.q_proj.weight", 128, 64}, {"self_attn.k_proj.weight", 32, 64},
          {"self_attn.v_proj.weight", 32, 64},  {"self_attn.o_proj.weight", 64, 64},
          {"self_attn.q_norm.weight", 0, 32},   {"self_attn.k_norm.weight", 0, 32},
},
  common_shapes[] =
      {
          {"input_layernorm.weight", 0, 64},
          {"post_attention_layernorm.weight", 0, 64},
          {"mlp.gate.weight", 4, 64},
          {"mlp.shared_expert_gate.weight", 1, 64},
          {"mlp.shared_expert.gate_proj.weight", 32, 64},
          {"mlp.shared_expert.up_proj.weight", 32, 64},
          {"mlp.shared_expert.down_proj.weight", 64, 32},
},
  expert_shapes[] =
      {
          {"gate_proj.weight", 32, 64},
          {"up_proj.weight", 32, 64},
          {"down_proj.weight", 64, 32},
},
  outer_shapes[] =
      {
          {"model.embed_tokens.weight", 320, 64},
          {"model.norm.weight", 0, 64},
          {"lm_head.weight", 320, 64},
},
  draft_shapes[] = {
      {"mtp.fc.weight", 64, 128},
      {"mtp.pre_fc_norm_embedding.weight", 0, 64},
      {"mtp.pre_fc_norm_hidden.weight", 0, 64},
      {"mtp.norm.weight", 0, 64},
};

/* DeepSeek with widths that blocks of 32 fit. */
static const char latent_config[] =
    "{\"model_type\": \"deepseek_v3\", \"hidden_size\": 64, \"num_hidden_layers\": 2,"
    "\"num_attention_heads\": 2, \"num_key_value_heads\": 2, \"kv_lora_rank\": 32,"
    "\"qk_nope_head_dim\": 32, \"qk_rope_head_dim\": 16, \"v_head_dim\": 32,"
    "\"n_routed_experts\": 4, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 32,"
    "\"n_shared_experts\": 1, \"intermediate_size\": 96, \"first_k_dense_replace\": 1,"
    "\"n_group\": 1, \"topk_group\": 1, \"routed_scaling_factor\": 1.5, \"vocab_size\": 320,"
    "\"rms_norm_eps\": 1e-6, \"max_position_embeddings\": 256, \"rope_parameters\":"
    "{\"rope_theta\": 10000.0, \"rope_type\": \"default\"}}";

static const struct shape latent_shapes[] =
    {
        {"input_layernorm.weight", 0, 64},          {"post_attention_layernorm.weight", 0, 64},
        {"self_attn.q_proj.weight", 96, 64},        {"self_attn.kv_a_proj_with_mqa.weight", 48, 64},
        {"self_attn.kv_a_layernorm.weight", 0, 32}, {"self_attn.kv_b_proj.weight", 128, 32},
        {"self_attn.o_proj.weight", 64, 64},
},
                          dense_shapes[] =
                              {
                                  {"mlp.gate_proj.weight", 96, 64},
                                  {"mlp.up_proj.weight", 96, 64},
                                  {"mlp.down_proj.weight", 64, 96},
},
                          corrected_shapes[] = {
                              {"mlp.gate.weight", 4, 64},
                              {"mlp.gate.e_score_correction_bias", 0, 4},
                              {"mlp.shared_experts.gate_proj.weight", 32, 64},
                              {"mlp.shared_experts.up_proj.weight", 32, 64},
                              {"mlp.shared_experts.down_proj.weight", 64, 32},
};

static void add_random(st_writer *w, const char *prefix, const struct shape *list, size_t count,
                       test_rng *rng)
{
    for (size_t i = 0; i < count; i++) {
        char name[200];
        uint64_t shape[3] = {list[i].rows, list[i].cols};
        uint32_t dims = list[i].rows ? 2 : 1;
        size_t n = (size_t)list[i].cols * (list[i].rows ? list[i].rows : 1);
        float *x = malloc(n * sizeof *x);
        assert_non_null(x);
        for (size_t k = 0; k < n; k++)
            x[k] = test_rng_normal(rng) * (list[i].rows ? 0.15f : 0.4f);
        if (dims == 1) shape[0] = list[i].cols;
        if (list[i].rows &&
            list[i].cols == 4) { /* the convolution has a dimension of 1 in the middle */
            shape[2] = 4;
            shape[1] = 1;
            dims = 3;
        }
        snprintf(name, sizeof name, "%s%s", prefix, list[i].name);
        st_writer_add_bf16(w, name, dims, shape, x);
        free(x);
    }
}

#define ADD(w, prefix, list, rng) add_random(w, prefix, list, sizeof list / sizeof list[0], rng)

static void add_experts(st_writer *w, const char *prefix, test_rng *rng)
{
    for (unsigned e = 0; e < 4; e++) {
        char name[100];
        snprintf(name, sizeof name, "%smlp.experts.%u.", prefix, e);
        ADD(w, name, expert_shapes, rng);
    }
}

static void add_hybrid_layer(st_writer *w, const char *prefix, bool linear, test_rng *rng)
{
    if (linear)
        ADD(w, prefix, linear_shapes, rng);
    else
        ADD(w, prefix, full_shapes, rng);
    ADD(w, prefix, common_shapes, rng);
    add_experts(w, prefix, rng);
}

static void save(st_writer *w, const char *dir, const char *config)
{
    char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    st_writer_save(w, path);
    st_writer_destroy(w);
    snprintf(path, sizeof path, "%s/config.json", dir);
    test_write_file(path, config, strlen(config));
}

void gguf_random_checkpoint(const char *dir)
{
    test_rng rng = {20};
    st_writer *w = st_writer_create();
    ADD(w, "", outer_shapes, &rng);
    add_hybrid_layer(w, "model.layers.0.", true, &rng);
    add_hybrid_layer(w, "model.layers.1.", false, &rng);
    add_hybrid_layer(w, "mtp.layers.0.", false, &rng);
    ADD(w, "", draft_shapes, &rng);
    save(w, dir, hybrid_config);
}

void gguf_random_latent(const char *dir)
{
    test_rng rng = {21};
    st_writer *w = st_writer_create();
    ADD(w, "", outer_shapes, &rng);
    ADD(w, "model.layers.0.", latent_shapes, &rng);
    ADD(w, "model.layers.0.", dense_shapes, &rng);
    ADD(w, "model.layers.1.", latent_shapes, &rng);
    ADD(w, "model.layers.1.", corrected_shapes, &rng);
    add_experts(w, "model.layers.1.", &rng);
    save(w, dir, latent_config);
}
