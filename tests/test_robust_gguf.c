/* GGUF files as a hostile or unlucky user has them: keys and tensors that are missing or lie, cut
 * short, damaged, parts lost. Each is opened and run as a program would; it ends with one line that
 * names the file and the thing, never with a crash. Headers by themselves: test_gguf.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "damage.h"
#include "gguf_convert.h"
#include "test_env.h"

static const sl_engine_options small = {.threads = 1, .context_tokens = 64, .io_depth = 1};
static const int32_t probe[] = {3, 1, 4, 1, 5, 9, 2, 6};
static char dir[256], model[300];

static const gguf_recipe sound = {.matrices = GGUF_Q8_0,
                                  .experts = {GGUF_Q4_0, GGUF_Q8_0, GGUF_BF16},
                                  .vocabulary = true};

static const char *at(const char *name) { return damage_path(dir, name); }

/* A file of a checkpoint, without `skip`, with what add puts in. */
static void expect_of(const char *checkpoint, const gguf_recipe *like, const char *skip,
                      void (*add)(gguf_writer *w, const void *ctx), const void *ctx,
                      sl_status status, const char *thing)
{
    gguf_recipe recipe = *like;
    recipe.skip = skip;
    recipe.add = add;
    recipe.ctx = ctx;
    gguf_convert(checkpoint, at("lie.gguf"), &recipe);
    damage_expect(at("lie.gguf"), &small, status, "lie.gguf", thing);
}

static void expect(const char *skip, void (*add)(gguf_writer *w, const void *ctx), const void *ctx,
                   sl_status status, const char *thing)
{
    expect_of(model, &sound, skip, add, ctx, status, thing);
}

/* ---- keys ------------------------------------------------------------------------------------ */

static void missing_keys(void **state)
{
    (void)state;
    static const char *const keys[] = {
        "general.architecture",
        "qwen35moe.attention.head_count",
        "qwen35moe.attention.head_count_kv",
        "qwen35moe.attention.key_length",
        "qwen35moe.attention.layer_norm_rms_epsilon",
        "qwen35moe.block_count",
        "qwen35moe.context_length",
        "qwen35moe.embedding_length",
        "qwen35moe.expert_count",
        "qwen35moe.expert_feed_forward_length",
        "qwen35moe.expert_shared_feed_forward_length",
        "qwen35moe.expert_used_count",
        "qwen35moe.rope.dimension_count",
        "qwen35moe.rope.freq_base",
        "qwen35moe.ssm.conv_kernel",
        "qwen35moe.ssm.group_count",
        "qwen35moe.ssm.inner_size",
        "qwen35moe.ssm.state_size",
        "qwen35moe.ssm.time_step_rank",
    };
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char thing[100];
        snprintf(thing, sizeof thing, "%s: is missing", keys[i]);
        expect(keys[i], NULL, NULL, SL_EFORMAT, thing);
    }
}

/* A key in place of the sound one. */
struct other {
    const char *key;
    enum { INT, FLOAT, TEXT, LIST } kind;
    double number;
    const char *text;
};

static void add_other(gguf_writer *w, const void *ctx)
{
    const struct other *o = ctx;
    const int64_t list[] = {(int64_t)o->number, 2, 3};
    if (o->kind == INT) gguf_writer_int(w, o->key, SL_GGUF_I64, (int64_t)o->number);
    else if (o->kind == FLOAT) gguf_writer_f32(w, o->key, (float)o->number);
    else if (o->kind == TEXT) gguf_writer_string(w, o->key, o->text);
    else gguf_writer_ints(w, o->key, SL_GGUF_I32, list, 3);
}

#define ARCH "qwen35moe."
static const struct lie {
    struct other other;
    sl_status status;
    const char *thing;
} lies[] = {
    {{"general.architecture", INT, 3, NULL}, SL_EFORMAT,
     "general.architecture: is not a string"},
    {{"general.architecture", TEXT, 0, "mamba"}, SL_EUNSUPPORTED,
     "general.architecture: mamba is not one of qwen3moe, qwen35moe, qwen3next, deepseek2, "
     "glm4moe, gpt-oss, llama, olmoe, minimax-m2"},
    {{"general.architecture", TEXT, 0, "llama"}, SL_EUNSUPPORTED,
     "llama.expert_count: none: of this architecture only models with experts"},
    {{"general.architecture", TEXT, 0, ""}, SL_EUNSUPPORTED, "general.architecture:"},
    {{ARCH "block_count", TEXT, 0, "3"}, SL_EFORMAT, "block_count: is not an integer"},
    {{ARCH "block_count", INT, 0, NULL}, SL_EFORMAT, "block_count: 0 is not from 1"},
    {{ARCH "block_count", INT, 1e9, NULL}, SL_EFORMAT, "block_count: 1000000000 is not"},
    {{ARCH "block_count", INT, 2, NULL}, SL_EUNSUPPORTED, "tensor blk."},
    {{ARCH "block_count", INT, 4, NULL}, SL_EUNSUPPORTED, "tensor blk.2."},
    {{ARCH "nextn_predict_layers", INT, 3, NULL}, SL_EFORMAT, "nextn_predict_layers: 3"},
    {{ARCH "nextn_predict_layers", INT, -1, NULL}, SL_EFORMAT, "nextn_predict_layers: -1"},
    {{ARCH "embedding_length", FLOAT, 64, NULL}, SL_EFORMAT,
     "embedding_length: is not an integer"},
    {{ARCH "embedding_length", INT, -1, NULL}, SL_EFORMAT, "embedding_length: -1"},
    {{ARCH "embedding_length", INT, 128, NULL}, SL_EFORMAT,
     "tensor blk.0.ffn_gate_exps.weight: shape [4, 32, 64], but the configuration asks for "
     "[4, 32, 128]"},
    {{ARCH "attention.head_count", LIST, 1, NULL}, SL_EUNSUPPORTED,
     "head_count: 1 and 2 in one model"},
    {{ARCH "attention.head_count", INT, 0, NULL}, SL_EFORMAT, "num_attention_heads"},
    {{ARCH "attention.key_length", INT, 16, NULL}, SL_EUNSUPPORTED,
     "attention.value_length: 32, but keys have 16"},
    {{ARCH "attention.layer_norm_rms_epsilon", TEXT, 0, "x"}, SL_EFORMAT,
     "epsilon: is not a number"},
    {{ARCH "rope.freq_base", FLOAT, NAN, NULL}, SL_EFORMAT, "freq_base: is not a finite"},
    {{ARCH "rope.freq_base", FLOAT, HUGE_VAL, NULL}, SL_EFORMAT, "freq_base: is not a finite"},
    {{ARCH "rope.dimension_count", INT, 7, NULL}, SL_EFORMAT, "rotary_dim 7"},
    {{ARCH "rope.scaling.type", TEXT, 0, "longrope"}, SL_EUNSUPPORTED,
     "rope.scaling.type: longrope is not supported"},
    {{ARCH "rope.scaling.type", TEXT, 0, "yarn"}, SL_EFORMAT,
     "rope.scaling.factor: is missing"},
    {{ARCH "rope.scaling.factor", FLOAT, 2, NULL}, SL_EUNSUPPORTED, "linear is not supported"},
    {{ARCH "expert_count", INT, 5, NULL}, SL_EFORMAT,
     "tensor blk.0.ffn_gate_exps.weight: shape [4, 32, 64], but the configuration asks for "
     "[5, 32, 64]"},
    {{ARCH "expert_used_count", INT, 5, NULL}, SL_EFORMAT, "num_experts_per_tok"},
    {{ARCH "expert_feed_forward_length", INT, 64, NULL}, SL_EFORMAT,
     "tensor blk.0.ffn_gate_exps.weight: shape [4, 32, 64], but the configuration asks for "
     "[4, 64, 64]"},
    {{ARCH "expert_gating_func", INT, 2, NULL}, SL_EUNSUPPORTED,
     "expert_gating_func: 2 is not supported"},
    {{ARCH "expert_weights_scale", FLOAT, 2.5, NULL}, SL_EUNSUPPORTED, "expert_weights_scale"},
    {{ARCH "rope.scale_linear", FLOAT, 4, NULL}, SL_EUNSUPPORTED, "scale_linear: 4 is not"},
    {{ARCH "rope.scaling.yarn_log_multiplier", FLOAT, 0.25, NULL}, SL_EUNSUPPORTED,
     "yarn_log_multiplier: 0.25 is not"},
    {{ARCH "expert_group_count", INT, 8, NULL}, SL_EUNSUPPORTED, "expert_group_count: 8"},
    {{ARCH "final_logit_softcapping", FLOAT, 30, NULL}, SL_EUNSUPPORTED, "softcapping: 30"},
    {{ARCH "expert_weights_norm", INT, 1, NULL}, SL_EFORMAT, "norm: is not a boolean"},
    {{ARCH "ssm.inner_size", INT, 97, NULL}, SL_EFORMAT,
     "ssm.inner_size: 97 is not a multiple of the 6 heads"},
    {{ARCH "ssm.time_step_rank", INT, 0, NULL}, SL_EFORMAT, "time_step_rank: 0"},
    {{ARCH "ssm.group_count", INT, 4, NULL}, SL_EFORMAT, "linear_num_value_heads 6"},
    {{"tokenizer.ggml.eot_token_id", INT, -1, NULL}, SL_EFORMAT, "eot_token_id: -1"},
    {{"general.sampling.temp", TEXT, 0, "hot"}, SL_EFORMAT, "temp: is not a number"},
    {{"general.sampling.top_p", FLOAT, 2, NULL}, SL_EFORMAT, "top_p"},
    {{"tokenizer.chat_template", INT, 1, NULL}, SL_EFORMAT,
     "tokenizer.chat_template: is not a string"},
};
#define LIES (sizeof lies / sizeof lies[0])

static void keys_that_lie(void **state)
{
    (void)state;
    for (size_t i = 0; i < LIES; i++)
        expect(lies[i].other.key, add_other, &lies[i].other, lies[i].status, lies[i].thing);
}

/* ---- other families -------------------------------------------------------------------------- */

#define FAMILY(name) "data/families/" name
#define KEYS_MAX     12u

static const gguf_recipe older = {.matrices = GGUF_BF16, .older = true};

/* What each cannot do without, besides the keys of all. */
static const struct needs {
    const char *checkpoint, *arch;
    const gguf_recipe *like;
    const char *keys[KEYS_MAX], *tensors[KEYS_MAX];
} needs[] = {
    {FAMILY("qwen3_next"), "qwen3next", &sound,
     {"attention.key_length", "expert_feed_forward_length", "ssm.inner_size",
      "expert_shared_feed_forward_length", "rope.dimension_count", "ssm.group_count"},
     {"0.attn_qkv.weight", "0.attn_gate.weight", "1.ssm_ba.weight", "2.ssm_norm.weight"}},
    {FAMILY("qwen3_next"), "qwen3next", &older, {NULL}, {"1.ssm_in.weight"}},
    {FAMILY("deepseek_v3"), "deepseek2", &sound,
     {"attention.kv_lora_rank", "rope.dimension_count", "attention.value_length_mla",
      "leading_dense_block_count", "expert_shared_count", "expert_feed_forward_length",
      "expert_weights_norm", "expert_group_count", "expert_group_used_count",
      "rope.scaling.factor", "feed_forward_length"},
     {"0.attn_k_b.weight", "1.attn_v_b.weight", "2.attn_q_a.weight", "0.attn_q_a_norm.weight",
      "3.attn_kv_a_mqa.weight", "1.exp_probs_b.bias", "1.ffn_gate_inp.weight",
      "1.ffn_up_shexp.weight", "0.ffn_up.weight", "2.ffn_norm.weight", "1.ffn_up_exps.weight"}},
    {FAMILY("deepseek_v3"), "deepseek2", &older,
     {"attention.key_length", "attention.value_length"}, {"1.attn_kv_b.weight"}},
    {FAMILY("glm4_moe"), "glm4moe", &sound,
     {"attention.key_length", "rope.dimension_count", "leading_dense_block_count",
      "expert_shared_count", "expert_feed_forward_length", "expert_weights_norm",
      "feed_forward_length"},
     {"1.attn_q_norm.weight", "2.attn_q.bias", "0.attn_v.bias", "1.exp_probs_b.bias",
      "0.post_attention_norm.weight", "3.ffn_down_shexp.weight"}},
    {FAMILY("gpt_oss"), "gpt-oss", &sound,
     {"attention.key_length", "attention.sliding_window", "feed_forward_length",
      "rope.scaling.factor", "rope.scaling.original_context_length"},
     {"0.attn_sinks.weight", "1.attn_output.bias", "2.ffn_gate_inp.bias", "0.ffn_gate_exps.bias",
      "1.ffn_up_exps.bias", "2.ffn_down_exps.bias", "3.ffn_gate_exps.weight"}},
    {FAMILY("mixtral"), "llama", &sound, {"feed_forward_length"},
     {"0.ffn_gate_inp.weight", "1.ffn_up_exps.weight", "2.ffn_norm.weight"}},
    {FAMILY("mixtral"), "llama", &older, {NULL}, {"0.ffn_gate.3.weight", "3.ffn_down.7.weight"}},
    {FAMILY("olmoe"), "olmoe", &sound, {"feed_forward_length", "expert_count"},
     {"0.attn_q_norm.weight", "1.attn_k_norm.weight", "2.ffn_gate_inp.weight"}},
    {FAMILY("minimax_m2"), "minimax-m2", &sound,
     {"attention.key_length", "rope.dimension_count", "feed_forward_length", "expert_count"},
     {"0.exp_probs_b.bias", "1.attn_q_norm.weight"}},
};

static void expect_missing(const struct needs *n, const char *key)
{
    char name[100], thing[120];
    snprintf(name, sizeof name, "%s.%s", n->arch, key);
    snprintf(thing, sizeof thing, "%s: is missing", name);
    expect_of(n->checkpoint, n->like, name, NULL, NULL, SL_EFORMAT, thing);
}

static void what_families_need(void **state)
{
    (void)state;
    static const char *const all[] = {"context_length", "embedding_length", "attention.head_count",
                                      "attention.layer_norm_rms_epsilon", "rope.freq_base",
                                      "expert_used_count", "block_count"};
    for (const struct needs *n = needs; n < needs + sizeof needs / sizeof needs[0]; n++) {
        for (size_t i = 0; i < sizeof all / sizeof all[0] && n->keys[0]; i++)
            expect_missing(n, all[i]);
        for (size_t i = 0; i < KEYS_MAX && n->keys[i]; i++)
            expect_missing(n, n->keys[i]);
        for (size_t i = 0; i < KEYS_MAX && n->tensors[i]; i++) {
            char name[100], thing[120];
            snprintf(name, sizeof name, "blk.%s", n->tensors[i]);
            snprintf(thing, sizeof thing, "tensor %s is missing", name);
            expect_of(n->checkpoint, n->like, name, NULL, NULL, SL_EFORMAT, thing);
        }
    }
}

static const gguf_recipe drafting = {.matrices = GGUF_BF16, .drafts = 1};

/* A name of a tensor stands for its absence. */
static const struct family_lie {
    const char *checkpoint;
    const gguf_recipe *like;
    struct other other;
    sl_status status;
    const char *thing;
} family_lies[] = {
    {FAMILY("qwen3_next"), &sound, {"qwen3next.ssm.group_count", INT, 3, NULL}, SL_EFORMAT,
     "linear_num_key_heads 3"},
    {FAMILY("qwen3_next"), &sound, {"qwen3next.ssm.state_size", INT, 32, NULL}, SL_EFORMAT,
     "tensor blk.0.attn_qkv.weight: shape [128, 128]"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.expert_gating_func", INT, 1, NULL},
     SL_EUNSUPPORTED, "deepseek2.expert_gating_func: 1 is not supported"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.attention.key_length_mla", INT, 16, NULL},
     SL_EFORMAT, "key_length_mla: 16 leaves nothing beside the 16 channels"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.attention.key_length_mla", INT, 40, NULL},
     SL_EFORMAT, "tensor blk.0.attn_q_b.weight: shape [128, 48]"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.attention.value_length_mla", INT, 25, NULL},
     SL_EFORMAT, "tensor blk.0.attn_v_b.weight: shape [4, 24, 32]"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.attention.kv_lora_rank", INT, 16, NULL},
     SL_EFORMAT, "tensor blk.0.attn_kv_a_mqa.weight: shape [48, 128]"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.attention.q_lora_rank", INT, 0, NULL},
     SL_EFORMAT, "tensor blk.0.attn_q.weight is missing"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.leading_dense_block_count", INT, 2, NULL},
     SL_EFORMAT, "tensor blk.1.ffn_gate.weight is missing"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.leading_dense_block_count", INT, 9, NULL},
     SL_EFORMAT, "first_k_dense_replace"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.expert_group_count", INT, 3, NULL}, SL_EFORMAT,
     "n_group 3"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.expert_group_used_count", INT, 5, NULL},
     SL_EFORMAT, "expert_group_used_count: 5 is not from 1 to 4"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.expert_weights_norm", INT, 1, NULL}, SL_EFORMAT,
     "expert_weights_norm: is not a boolean"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.expert_weights_scale", FLOAT, -1, NULL},
     SL_EFORMAT, "routed_scaling_factor"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.rope.scaling.yarn_log_multiplier", FLOAT, 7,
     NULL}, SL_EFORMAT, "yarn_log_multiplier: 7 is not from 0 to 1"},
    {FAMILY("deepseek_v3"), &sound, {"deepseek2.nextn_predict_layers", INT, 1, NULL},
     SL_EFORMAT, "nextn_predict_layers: 1, but tensor blk.3.nextn.eh_proj.weight is missing"},
    {FAMILY("glm4_moe"), &drafting, {"blk.4.nextn.eh_proj.weight", INT, 0, NULL}, SL_EFORMAT,
     "nextn_predict_layers: 1, but tensor blk.4.nextn.eh_proj.weight is missing"},
    {FAMILY("glm4_moe"), &drafting, {"glm4moe.nextn_predict_layers", INT, 0, NULL},
     SL_EUNSUPPORTED, "tensor blk.4.nextn.eh_proj.weight is none of those of glm4moe"},
    {FAMILY("glm4_moe"), &sound, {"glm4moe.rope.dimension_count", INT, 33, NULL}, SL_EFORMAT,
     "rotary_dim"},
    {FAMILY("gpt_oss"), &sound, {"gpt-oss.expert_gating_func", INT, 2, NULL}, SL_EUNSUPPORTED,
     "gpt-oss.expert_gating_func: 2 is not supported"},
    {FAMILY("gpt_oss"), &sound, {"gpt-oss.attention.sliding_window_pattern", INT, 6, NULL},
     SL_EFORMAT, "sliding_window_pattern: 6 is not from 2 to 2"},
    {FAMILY("gpt_oss"), &sound, {"gpt-oss.attention.sliding_window_pattern", LIST, 1, NULL},
     SL_EFORMAT, "sliding_window_pattern: is not a list of booleans, one a block"},
    {FAMILY("gpt_oss"), &sound, {"gpt-oss.rope.scaling.type", TEXT, 0, "linear"},
     SL_EUNSUPPORTED, "rope.scaling.type: linear is not supported"},
    {FAMILY("gpt_oss"), &sound, {"gpt-oss.rope.scaling.yarn_ext_factor", FLOAT, 0, NULL},
     SL_EUNSUPPORTED, "gpt-oss.rope.scaling.yarn_ext_factor: 0 is not supported"},
    {FAMILY("gpt_oss"), &sound, {"gpt-oss.rope.freq_base_swa", FLOAT, 10000, NULL},
     SL_EUNSUPPORTED, "gpt-oss.rope.freq_base_swa: 10000, and 150000 elsewhere, is not supported"},
    {FAMILY("mixtral"), &sound, {"llama.expert_count", INT, 0, NULL}, SL_EUNSUPPORTED,
     "llama.expert_count: none"},
    {FAMILY("mixtral"), &sound, {"llama.expert_weights_norm", TEXT, 0, "no"}, SL_EFORMAT,
     "llama.expert_weights_norm: is not a boolean"},
    {FAMILY("mixtral"), &sound, {"llama.attention.value_length", INT, 16, NULL},
     SL_EUNSUPPORTED, "llama.attention.value_length: 16, but keys have 32"},
    {FAMILY("mixtral"), &older, {"llama.feed_forward_length", INT, 32, NULL}, SL_EFORMAT,
     "tensor blk.0.ffn_gate.0.weight: shape [64, 128]"},
    {FAMILY("olmoe"), &sound, {"olmoe.attention.clamp_kqv", FLOAT, -2, NULL}, SL_EFORMAT,
     "clip_qkv"},
    {FAMILY("minimax_m2"), &sound, {"minimax-m2.expert_weights_scale", FLOAT, 2, NULL},
     SL_EUNSUPPORTED, "expert_weights_scale: 2 is not supported"},
};
#define FAMILY_LIES (sizeof family_lies / sizeof family_lies[0])

static void families_that_lie(void **state)
{
    (void)state;
    for (size_t i = 0; i < FAMILY_LIES; i++) {
        const struct family_lie *lie = &family_lies[i];
        bool tensor = strncmp(lie->other.key, "blk.", 4) == 0;
        expect_of(lie->checkpoint, lie->like, lie->other.key, tensor ? NULL : add_other,
                  &lie->other, lie->status, lie->thing);
    }
}

/* ---- tensors --------------------------------------------------------------------------------- */

static void missing_tensors(void **state)
{
    (void)state;
    static const char *const names[] = {
        "token_embd.weight",
        "output_norm.weight",
        "blk.0.attn_norm.weight",
        "blk.0.post_attention_norm.weight",
        "blk.0.attn_qkv.weight",
        "blk.0.attn_gate.weight",
        "blk.0.ssm_conv1d.weight",
        "blk.0.ssm_dt.bias",
        "blk.0.ssm_alpha.weight",
        "blk.0.ssm_beta.weight",
        "blk.0.ssm_norm.weight",
        "blk.0.ssm_out.weight",
        "blk.0.ffn_gate_inp.weight",
        "blk.0.ffn_gate_inp_shexp.weight",
        "blk.0.ffn_up_shexp.weight",
        "blk.0.ffn_gate_exps.weight",
        "blk.0.ffn_up_exps.weight",
        "blk.1.ffn_down_exps.weight",
        "blk.1.attn_k.weight",
        "blk.1.attn_output.weight",
        "blk.1.attn_q_norm.weight",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char thing[100];
        snprintf(thing, sizeof thing, "tensor %s is missing", names[i]);
        expect(names[i], NULL, NULL, SL_EFORMAT, thing);
    }
    /* What kind of layer it is hangs on these. */
    expect("blk.0.ssm_a", NULL, NULL, SL_EFORMAT, "blk.0: holds neither");
    expect("blk.1.attn_q.weight", NULL, NULL, SL_EFORMAT, "blk.1: holds neither");
}

/* A tensor in place of the sound one, of zeros. */
struct tensor {
    const char *name;
    uint32_t type, dims;
    uint64_t shape[3];
    size_t bytes;
    float value; /* of an F32 tensor */
};

static void add_tensor(gguf_writer *w, const void *ctx)
{
    const struct tensor *t = ctx;
    float *data = calloc(t->bytes + 4, 1);
    assert_non_null(data);
    for (size_t i = 0; t->type == GGUF_F32 && i < t->bytes / 4; i++)
        data[i] = t->value;
    gguf_writer_tensor(w, t->name, t->type, t->dims, t->shape, data, t->bytes);
    free(data);
}

static void tensors_that_lie(void **state)
{
    (void)state;
    struct {
        struct tensor tensor;
        sl_status status;
        const char *thing;
    } cases[] = {
        {{"blk.0.attn_q.bias", 0, 1, {128}, 512, 0}, SL_EUNSUPPORTED,
         "tensor blk.0.attn_q.bias is none of those of qwen35moe"},
        {{"blk.00.attn_q.weight", 0, 2, {128, 64}, 32768, 0}, SL_EUNSUPPORTED, "tensor blk.00."},
        {{"blk.99999999999.ssm_a", 0, 1, {6}, 24, 0}, SL_EUNSUPPORTED, "tensor blk.9999"},
        {{"model.norm.weight", 0, 1, {64}, 256, 0}, SL_EUNSUPPORTED, "tensor model.norm.weight"},
        {{"blk.0.ffn_down_exps.scale", 0, 1, {4}, 16, 0}, SL_EUNSUPPORTED, "_exps.scale"},
        {{"blk.0.attn_gate.weight", 137, 2, {96, 64}, 4000, 0}, SL_EUNSUPPORTED,
         "tensor blk.0.attn_gate.weight is of type 137, which is not known"},
        {{"blk.1.ffn_up_exps.weight", 19, 3, {4, 32, 256}, 6400, 0}, SL_EUNSUPPORTED,
         "tensor blk.1.ffn_up_exps.weight is of type IQ1_S (19), which is not supported"},
        {{"blk.1.ffn_up_exps.weight", 24, 3, {4, 32, 64}, 8192, 0}, SL_EUNSUPPORTED,
         "tensor blk.1.ffn_up_exps.weight: i8 is no type of expert weights"},
        {{"output_norm.weight", 24, 1, {64}, 64, 0}, SL_EUNSUPPORTED,
         "tensor output_norm.weight: type i8 is not supported"},
        {{"output_norm.weight", 0, 1, {65}, 260, 0}, SL_EFORMAT,
         "tensor output_norm.weight: shape [65]"},
        {{"token_embd.weight", 0, 1, {64}, 256, 0}, SL_EFORMAT,
         "tensor token_embd.weight is no matrix"},
        {{"blk.1.ffn_up_exps.weight", 0, 2, {128, 64}, 32768, 0}, SL_EFORMAT,
         "tensor blk.1.ffn_up_exps.weight: shape [128, 64]"},
        {{"blk.1.ffn_down_exps.weight", 0, 3, {4, 32, 64}, 32768, 0}, SL_EFORMAT,
         "tensor blk.1.ffn_down_exps.weight: shape [4, 32, 64]"},
        {{"blk.0.ssm_a", 0, 1, {6}, 24, 0.5f}, SL_EFORMAT,
         "tensor blk.0.ssm_a: element 0 is 0.5; decays are negative"},
        {{"blk.0.ssm_a", 0, 1, {6}, 24, NAN}, SL_EFORMAT, "decays are negative"},
        {{"blk.1.ssm_a", 0, 1, {6}, 24, -1}, SL_EFORMAT, "blk.1: holds both"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect(cases[i].tensor.name, add_tensor, &cases[i].tensor, cases[i].status,
               cases[i].thing);
    }
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* What the file has behind its last whole tensor is padding. */
static void every_truncation(void **state)
{
    (void)state;
    gguf_convert(model, at("cut.gguf"), &sound);
    size_t size;
    char *bytes = test_read_file(at("cut.gguf"), &size);
    test_rng rng = {7};
    unsigned rounds = test_fast() ? 40 : 300;
    for (unsigned i = 0; i < rounds; i++) {
        /* Half of them in the header, which is dense. */
        size_t end = test_rng_below(&rng, (unsigned)(i % 2 ? size - 32 : size / 8));
        test_write_file(at("cut.gguf"), bytes, end);
        damage_expect(at("cut.gguf"), &small, SL_EFORMAT, "cut.gguf", "");
    }
    free(bytes);
}

/* No checksum guards a GGUF file, so that a change may be a model of its own; but what comes back
 * is numbers or an error. */
static void flipped_bits(void **state)
{
    (void)state;
    gguf_convert(model, at("flip.gguf"), &sound);
    test_rng rng = {11};
    uint64_t size = damage_size(at("flip.gguf"));
    unsigned rounds = test_fast() ? 60 : 600, refused = 0;
    for (unsigned i = 0; i < rounds; i++) {
        sl_error err = {0};
        uint64_t where = test_rng_below(&rng, (unsigned)(i % 4 ? size / 10 : size));
        uint8_t bit = (uint8_t)(1u << test_rng_below(&rng, 8));
        damage_flip(at("flip.gguf"), where, bit);
        const sl_engine_options opt = {.threads = 1, .context_tokens = 16, .io_depth = 1,
                                       .memory_bytes = (uint64_t)1 << 30};
        sl_status status = damage_try(at("flip.gguf"), &opt, probe, 8, NULL, &err);
        if (status != SL_OK) {
            /* A file that is sound but asks for too much is refused by the plan. */
            damage_check("a flipped bit", status, &err, status, "", "");
            refused++;
        }
        damage_flip(at("flip.gguf"), where, bit);
    }
    printf("%u of %u flips are refused\n", refused, rounds);
    assert_true(refused > 0 && refused < rounds);
}

static void lost_parts(void **state)
{
    (void)state;
    gguf_recipe recipe = sound;
    recipe.parts = 3;
    gguf_convert(model, at("s-00001-of-00003.gguf"), &recipe);
    assert_int_equal(damage_try(at("s-00002-of-00003.gguf"), &small, probe, 8, NULL, NULL), SL_OK);
    assert_int_equal(unlink(at("s-00003-of-00003.gguf")), 0);
    for (unsigned i = 1; i <= 2; i++) {
        char name[40];
        snprintf(name, sizeof name, "s-0000%u-of-00003.gguf", i);
        damage_expect(at(name), &small, SL_EIO, "s-00003-of-00003.gguf", "is missing");
    }
    /* One of another model in its place. */
    recipe.matrices = GGUF_BF16;
    gguf_convert(model, at("t-00001-of-00003.gguf"), &recipe);
    assert_int_equal(rename(at("t-00002-of-00003.gguf"), at("s-00003-of-00003.gguf")), 0);
    damage_expect(at("s-00001-of-00003.gguf"), &small, SL_EFORMAT, "s-00003-of-00003.gguf",
                  "split.no");
}

static void paths_that_are_none(void **state)
{
    (void)state;
    damage_expect(at("none.gguf"), &small, SL_EIO, "none.gguf", "No such file");
    assert_int_equal(mkdir(at("folder.gguf"), 0777), 0);
    damage_expect(at("folder.gguf"), &small, SL_EFORMAT, "folder.gguf", "no model here");
    test_write_file(at("empty.gguf"), "", 0);
    damage_expect(at("empty.gguf"), &small, SL_EFORMAT, "empty.gguf", "");
    /* The vocabulary alone, as tests of tokenizers have it. */
    damage_expect("data/gguf/vocab.gguf", &small, SL_EUNSUPPORTED, "vocab.gguf",
                  "llama.expert_count: none");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_keys),        cmocka_unit_test(keys_that_lie),
        cmocka_unit_test(missing_tensors),     cmocka_unit_test(tensors_that_lie),
        cmocka_unit_test(what_families_need),  cmocka_unit_test(families_that_lie),
        cmocka_unit_test(every_truncation),    cmocka_unit_test(flipped_bits),
        cmocka_unit_test(lost_parts),          cmocka_unit_test(paths_that_are_none),
    };
    test_temp_dir(dir, sizeof dir);
    snprintf(model, sizeof model, "%s/checkpoint", dir);
    mkdir(model, 0777);
    gguf_random_checkpoint(model);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_tree(dir);
    return failed;
}
