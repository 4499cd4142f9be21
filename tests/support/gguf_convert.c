#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gguf_convert.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/dtype.h"
#include "damage.h"
#include "golden.h"
#include "plain_blocks.h"
#include "st_writer.h"
#include "test_env.h"
#include "tokenizer_text.h"

/* What becomes of a tensor besides its name. */
enum change {
    KEEP,      /* a matrix */
    VECTOR,    /* float32 */
    NORM,      /* float32, 1 + w where norms are zero-centred */
    DECAY,     /* −exp(w), tiled */
    TILE_ONE,  /* float32, an element a value head */
    TILE_ROWS, /* a matrix, a row a value head */
    TILE_WIDE, /* a matrix, value_dim rows a value head */
    TILE_TAIL, /* a matrix: the same behind the rows of q and k */
    TILE_CONV, /* the same in float32 */
    TILE_COLS, /* a matrix, value_dim columns a value head */
};

struct rule {
    const char *gguf, *published;
    enum change change;
};

/* Written apart from the library's table: what one of them has wrong shows. */
static const struct rule outer[] = {
    {"token_embd.weight", "model.embed_tokens.weight", KEEP},
    {"output_norm.weight", "model.norm.weight", NORM},
    {"output.weight", "lm_head.weight", KEEP},
};
static const struct rule inner[] = {
    {"attn_norm.weight", "input_layernorm.weight", NORM},
    {"attn_q.weight", "self_attn.q_proj.weight", KEEP},
    {"attn_k.weight", "self_attn.k_proj.weight", KEEP},
    {"attn_v.weight", "self_attn.v_proj.weight", KEEP},
    {"attn_output.weight", "self_attn.o_proj.weight", KEEP},
    {"attn_q_norm.weight", "self_attn.q_norm.weight", NORM},
    {"attn_k_norm.weight", "self_attn.k_norm.weight", NORM},
    {"attn_qkv.weight", "linear_attn.in_proj_qkv.weight", TILE_TAIL},
    {"attn_gate.weight", "linear_attn.in_proj_z.weight", TILE_WIDE},
    {"ssm_conv1d.weight", "linear_attn.conv1d.weight", TILE_CONV},
    {"ssm_a", "linear_attn.A_log", DECAY},
    {"ssm_dt.bias", "linear_attn.dt_bias", TILE_ONE},
    {"ssm_beta.weight", "linear_attn.in_proj_b.weight", TILE_ROWS},
    {"ssm_alpha.weight", "linear_attn.in_proj_a.weight", TILE_ROWS},
    {"ssm_norm.weight", "linear_attn.norm.weight", VECTOR},
    {"ssm_out.weight", "linear_attn.out_proj.weight", TILE_COLS},
    {"ffn_gate_inp.weight", "mlp.gate.weight", VECTOR},
    {"ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight", VECTOR},
    {"ffn_gate_shexp.weight", "mlp.shared_expert.gate_proj.weight", KEEP},
    {"ffn_up_shexp.weight", "mlp.shared_expert.up_proj.weight", KEEP},
    {"ffn_down_shexp.weight", "mlp.shared_expert.down_proj.weight", KEEP},
};
static const struct rule draft[] = {
    {"nextn.eh_proj.weight", "mtp.fc.weight", KEEP},
    {"nextn.enorm.weight", "mtp.pre_fc_norm_embedding.weight", NORM},
    {"nextn.hnorm.weight", "mtp.pre_fc_norm_hidden.weight", NORM},
    {"nextn.shared_head_norm.weight", "mtp.norm.weight", NORM},
};

#define PARTS_MAX 8u

struct convert {
    const gguf_recipe *recipe;
    damage_model model;
    json_t *config;
    bool hybrid;
    unsigned layers, drafts, experts;
    unsigned key_heads, value_heads, key_dim, value_dim;
    gguf_writer *writers[PARTS_MAX];
    unsigned parts, written;
    st_writer *plain;
};

static unsigned setting(const struct convert *c, const char *name)
{
    return (unsigned)json_integer_value(json_object_get(c->config, name));
}

static const damage_tensor *find(const struct convert *c, const char *name)
{
    for (size_t i = 0; i < c->model.count; i++)
        if (strcmp(c->model.tensors[i].name, name) == 0) return &c->model.tensors[i];
    return NULL;
}

static void *must(void *memory)
{
    if (memory) return memory;
    fprintf(stderr, "gguf_convert: out of memory\n");
    abort();
}

static bool skipped(const struct convert *c, const char *name)
{
    return c->recipe->skip && strcmp(c->recipe->skip, name) == 0;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static float *floats_of(const damage_tensor *t, size_t *count)
{
    *count = t->bytes / 2;
    float *x = must(malloc(*count * sizeof *x + 1));
    for (size_t i = 0; i < *count; i++) {
        uint16_t half;
        memcpy(&half, t->data + 2 * i, 2);
        x[i] = sl__bf16_to_f32(half);
    }
    return x;
}

/* Moves value heads of `width` runs of `run` numbers each: into tiled order, or back. */
static void tile(const struct convert *c, float *x, size_t width, bool back)
{
    size_t head = width, ratio = c->value_heads / c->key_heads;
    float *copy = must(malloc(c->value_heads * head * sizeof *copy));
    memcpy(copy, x, c->value_heads * head * sizeof *copy);
    for (size_t i = 0; i < c->value_heads; i++) {
        size_t published = i % c->key_heads * ratio + i / c->key_heads;
        size_t from = back ? i : published, to = back ? published : i;
        memcpy(x + to * head, copy + from * head, head * sizeof *copy);
    }
    free(copy);
}

static void move_heads(const struct convert *c, float *x, size_t rows, size_t cols,
                       enum change change, bool back)
{
    size_t keys = 2 * (size_t)c->key_heads * c->key_dim;
    switch (change) {
    case DECAY:
    case TILE_ONE: tile(c, x, 1, back); break;
    case TILE_ROWS: tile(c, x, cols, back); break;
    case TILE_WIDE: tile(c, x, c->value_dim * cols, back); break;
    case TILE_CONV:
    case TILE_TAIL: tile(c, x + keys * cols, c->value_dim * cols, back); break;
    case TILE_COLS:
        for (size_t r = 0; r < rows; r++)
            tile(c, x + r * cols, c->value_dim, back);
        break;
    default: break;
    }
}

/* Codes of one block of 32; the scale is a power of two, which a half holds exactly. */
static void encode_block(const float *x, uint32_t type, uint8_t *out)
{
    float most = 0;
    int exponent, limit = type == GGUF_Q8_0 ? 127 : 7;
    for (int i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(x[i]));
    frexpf(most / (float)limit, &exponent); /* 2^exponent >= it */
    if (exponent < -14) exponent = -14;
    uint16_t half = (uint16_t)((exponent + 15) << 10);
    memcpy(out, &half, 2);
    for (int i = 0; i < 32; i++) {
        int q = (int)lrintf(ldexpf(x[i], -exponent));
        if (type == GGUF_Q8_0) out[2 + i] = (uint8_t)(int8_t)q;
        else if (i < 16) out[2 + i] = (uint8_t)(q + 8);
        else out[2 + i - 16] |= (uint8_t)((q + 8) << 4);
    }
}

/* Encodes rows; x becomes what they decode to. malloc'd. */
static uint8_t *encode(float *x, size_t count, size_t cols, uint32_t type, size_t *bytes)
{
    sl__dtype dtype = SL_F32;
    uint64_t row_bytes;
    assert_true(sl__gguf_dtype(type, &dtype));
    assert_true(sl__dtype_row_bytes(dtype, cols, &row_bytes));
    *bytes = count / cols * (size_t)row_bytes;
    uint8_t *out = must(calloc(*bytes + 1, 1));
    if (type == GGUF_F32) memcpy(out, x, *bytes);
    for (size_t i = 0; type == GGUF_BF16 && i < count; i++) {
        uint16_t half = sl__f32_to_bf16(x[i]);
        memcpy(out + 2 * i, &half, 2);
    }
    if (!sl__dtype_is_block(dtype)) return out;
    assert_int_equal(cols % 32, 0);
    for (size_t i = 0; i < count; i += 32)
        encode_block(x + i, type, out + i / 32 * sl__dtype_block_bytes(dtype));
    for (size_t i = 0; i < count; i++)
        x[i] = plain_block_weight(dtype, out + i / cols * row_bytes, (uint32_t)(i % cols));
    return out;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static void put_tensor(struct convert *c, const char *name, uint32_t type, uint32_t dims,
                       const uint64_t *shape, const void *data, size_t bytes)
{
    if (skipped(c, name)) return;
    gguf_writer_tensor(c->writers[c->written % c->parts], name, type, dims, shape, data, bytes);
    c->written++;
}

static bool is_vector(enum change change)
{
    return change == VECTOR || change == NORM || change == DECAY || change == TILE_ONE ||
           change == TILE_CONV;
}

static void put_rule(struct convert *c, const struct rule *rule, const char *block,
                     const char *source)
{
    char name[200], published[200];
    size_t count, bytes;
    snprintf(name, sizeof name, "%s%s", block, rule->gguf);
    snprintf(published, sizeof published, "%s%s", source, rule->published);
    const damage_tensor *t = find(c, published);
    if (!t) return; /* of another kind of layer */
    float *x = floats_of(t, &count);
    uint64_t shape[4];
    uint32_t dims = 0;
    for (uint32_t d = 0; d < t->dims; d++)
        if (t->shape[d] != 1 || t->dims == 1) shape[dims++] = t->shape[d]; /* squeezed */
    size_t cols = (size_t)shape[dims - 1], rows = count / cols;
    move_heads(c, x, rows, cols, rule->change, false);
    for (size_t i = 0; i < count && rule->change == NORM && c->hybrid; i++)
        x[i] += 1;
    for (size_t i = 0; i < count && rule->change == DECAY; i++)
        x[i] = -expf(x[i]);
    uint32_t type = is_vector(rule->change) ? GGUF_F32 : c->recipe->matrices;
    uint8_t *data = encode(x, count, cols, type, &bytes);
    put_tensor(c, name, type, dims, shape, data, bytes);
    if (c->plain && is_vector(rule->change)) {
        float *same = floats_of(t, &count);
        st_writer_add_f32(c->plain, published, t->dims, t->shape, same);
        free(same);
    } else if (c->plain) {
        move_heads(c, x, rows, cols, rule->change, true);
        st_writer_add_f32(c->plain, published, t->dims, t->shape, x);
    }
    free(data);
    free(x);
}

static void put_stack(struct convert *c, unsigned layer, unsigned part, const char *block,
                      const char *source)
{
    static const char *const parts[] = {"gate", "up", "down"};
    uint32_t type = c->recipe->experts[(part + layer) % 3];
    uint64_t shape[3] = {c->experts};
    uint8_t *all = NULL;
    char name[200];
    size_t bytes = 0, count;
    for (unsigned e = 0; e < c->experts; e++) {
        snprintf(name, sizeof name, "%smlp.experts.%u.%s_proj.weight", source, e, parts[part]);
        const damage_tensor *t = find(c, name);
        assert_non_null(t);
        float *x = floats_of(t, &count);
        uint8_t *data = encode(x, count, (size_t)t->shape[1], type, &bytes);
        if (c->plain) st_writer_add_f32(c->plain, name, 2, t->shape, x);
        shape[1] = t->shape[0];
        shape[2] = t->shape[1];
        if (!all) all = must(malloc(bytes * c->experts));
        memcpy(all + e * bytes, data, bytes);
        free(data);
        free(x);
    }
    snprintf(name, sizeof name, "%sffn_%s_exps.weight", block, parts[part]);
    put_tensor(c, name, type, 3, shape, all, bytes * c->experts);
    free(all);
}

static void put_block(struct convert *c, unsigned layer)
{
    char block[32], source[64];
    snprintf(block, sizeof block, "blk.%u.", layer);
    snprintf(source, sizeof source, "model.layers.%u.", layer);
    if (layer >= c->layers) snprintf(source, sizeof source, "mtp.layers.%u.", layer - c->layers);
    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++)
        put_rule(c, &inner[i], block, source);
    const struct rule second = {c->hybrid ? "post_attention_norm.weight" : "ffn_norm.weight",
                                "post_attention_layernorm.weight", NORM};
    put_rule(c, &second, block, source);
    for (unsigned part = 0; part < 3; part++)
        put_stack(c, layer, part, block, source);
    for (size_t i = 0; layer >= c->layers && i < sizeof draft / sizeof draft[0]; i++)
        put_rule(c, &draft[i], block, "");
}

/* ---- keys ------------------------------------------------------------------------------------ */

static const char *key_of(const struct convert *c, const char *key)
{
    static char name[100];
    snprintf(name, sizeof name, "%s.%s", c->hybrid ? "qwen35moe" : "qwen3moe", key);
    return name;
}

static void put_int(struct convert *c, const char *key, unsigned value)
{
    const char *name = key_of(c, key);
    if (!skipped(c, name)) gguf_writer_int(c->writers[0], name, SL_GGUF_U32, value);
}

static void put_float(struct convert *c, const char *key, const json_t *value)
{
    const char *name = key_of(c, key);
    if (!skipped(c, name)) gguf_writer_f32(c->writers[0], name, (float)json_number_value(value));
}

static void put_keys(struct convert *c)
{
    const json_t *rope = json_object_get(c->config, "rope_parameters");
    if (!skipped(c, "general.architecture")) {
        gguf_writer_string(c->writers[0], "general.architecture",
                           c->hybrid ? "qwen35moe" : "qwen3moe");
    }
    put_int(c, "block_count", c->layers + c->drafts);
    put_int(c, "context_length", setting(c, "max_position_embeddings"));
    put_int(c, "embedding_length", setting(c, "hidden_size"));
    put_int(c, "attention.head_count", setting(c, "num_attention_heads"));
    put_int(c, "attention.head_count_kv", setting(c, "num_key_value_heads"));
    put_int(c, "attention.key_length", setting(c, "head_dim"));
    put_int(c, "attention.value_length", setting(c, "head_dim"));
    put_float(c, "attention.layer_norm_rms_epsilon", json_object_get(c->config, "rms_norm_eps"));
    put_float(c, "rope.freq_base", json_object_get(rope, "rope_theta"));
    put_int(c, "rope.dimension_count", setting(c, "head_dim") / (c->hybrid ? 4 : 1));
    put_int(c, "expert_count", c->experts);
    put_int(c, "expert_used_count", setting(c, "num_experts_per_tok"));
    put_int(c, "expert_feed_forward_length", setting(c, "moe_intermediate_size"));
    if (!c->hybrid) return;
    put_int(c, "expert_shared_feed_forward_length", setting(c, "shared_expert_intermediate_size"));
    put_int(c, "ssm.conv_kernel", setting(c, "linear_conv_kernel_dim"));
    put_int(c, "ssm.state_size", c->key_dim);
    put_int(c, "ssm.group_count", c->key_heads);
    put_int(c, "ssm.time_step_rank", c->value_heads);
    put_int(c, "ssm.inner_size", c->value_heads * c->value_dim);
    if (c->drafts) put_int(c, "nextn_predict_layers", c->drafts);
}

static void put_vocabulary(struct convert *c)
{
    unsigned count = setting(c, "vocab_size");
    gguf_writer *w = c->writers[0];
    const char **tokens = must(malloc(count * sizeof *tokens));
    char (*texts)[16] = must(malloc(count * sizeof *texts));
    int64_t *types = must(malloc(count * sizeof *types));
    assert_true(count >= 258);
    for (unsigned i = 0; i < count; i++) {
        const char byte = (char)i;
        tokens[i] = texts[i];
        types[i] = i < 256 ? 1 : i < 258 ? 3 : 5;
        if (i < 256) snprintf(texts[i], sizeof texts[i], "%s", tokenizer_spell(&byte, 1));
        else if (i < 258) snprintf(texts[i], 16, "%s", i == 256 ? "<|im_end|>" : "<|endoftext|>");
        else snprintf(texts[i], sizeof texts[i], "[PAD%u]", i);
    }
    gguf_writer_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(w, "tokenizer.ggml.pre", "qwen2");
    gguf_writer_strings(w, "tokenizer.ggml.tokens", tokens, count);
    gguf_writer_ints(w, "tokenizer.ggml.token_type", SL_GGUF_I32, types, count);
    gguf_writer_strings(w, "tokenizer.ggml.merges", NULL, 0);
    gguf_writer_int(w, "tokenizer.ggml.eos_token_id", SL_GGUF_U32, 256);
    if (!skipped(c, "tokenizer.chat_template")) {
        gguf_writer_string(w, "tokenizer.chat_template", "{{ messages[0].content }}!");
    }
    free(types);
    free(texts);
    free(tokens);
}

/* ---- files ----------------------------------------------------------------------------------- */

static void save_parts(struct convert *c, const char *path)
{
    if (c->recipe->parts == 0) {
        gguf_writer_save(c->writers[0], path);
        return;
    }
    for (unsigned i = 0; i < c->parts; i++) {
        char name[512];
        gguf_writer_int(c->writers[i], "split.no", SL_GGUF_U16, i);
        gguf_writer_int(c->writers[i], "split.count", SL_GGUF_U16, c->parts);
        gguf_writer_int(c->writers[i], "split.tensors.count", SL_GGUF_I32, c->written);
        size_t stem = strlen(path) - strlen("-00001-of-00001.gguf");
        snprintf(name, sizeof name, "%.*s-%05u-of-%05u.gguf", (int)stem, path, i + 1, c->parts);
        gguf_writer_save(c->writers[i], name);
    }
}

static void begin(struct convert *c, const char *model)
{
    char path[512];
    damage_model_load(&c->model, model);
    snprintf(path, sizeof path, "%s/config.json", model);
    c->config = golden_json(path);
    const char *type = json_string_value(json_object_get(c->config, "model_type"));
    c->hybrid = strcmp(type, "qwen3_5_moe_text") == 0;
    c->layers = setting(c, "num_hidden_layers");
    c->drafts = find(c, "mtp.fc.weight") ? 1 : 0;
    c->experts = setting(c, c->hybrid ? "num_experts" : "num_local_experts");
    c->key_heads = setting(c, "linear_num_key_heads");
    c->value_heads = setting(c, "linear_num_value_heads");
    c->key_dim = setting(c, "linear_key_head_dim");
    c->value_dim = setting(c, "linear_value_head_dim");
    c->parts = c->recipe->parts ? c->recipe->parts : 1;
    assert_true(c->parts <= PARTS_MAX);
    for (unsigned i = 0; i < c->parts; i++)
        c->writers[i] = gguf_writer_create();
    c->plain = c->recipe->plain ? st_writer_create() : NULL;
}

static void save_plain(struct convert *c)
{
    char path[512];
    if (!c->plain) return;
    snprintf(path, sizeof path, "%s/model.safetensors", c->recipe->plain);
    st_writer_save(c->plain, path);
    snprintf(path, sizeof path, "%s/config.json", c->recipe->plain);
    assert_int_equal(json_dump_file(c->config, path, 0), 0);
    st_writer_destroy(c->plain);
}

void gguf_convert(const char *model, const char *path, const gguf_recipe *recipe)
{
    struct convert c = {.recipe = recipe};
    begin(&c, model);
    put_keys(&c);
    if (recipe->vocabulary) put_vocabulary(&c);
    for (size_t i = 0; i < sizeof outer / sizeof outer[0]; i++)
        put_rule(&c, &outer[i], "", "");
    for (unsigned i = 0; i < c.layers + c.drafts; i++)
        put_block(&c, i);
    if (recipe->add) recipe->add(c.writers[0], recipe->ctx);
    save_parts(&c, path);
    save_plain(&c);
    for (unsigned i = 0; i < c.parts; i++)
        gguf_writer_destroy(c.writers[i]);
    json_decref(c.config);
    damage_model_free(&c.model);
}

/* ---- a checkpoint ---------------------------------------------------------------------------- */

static const char random_config[] =
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
} linear_shapes[] = {
    {"linear_attn.in_proj_qkv.weight", 160, 64}, {"linear_attn.in_proj_z.weight", 96, 64},
    {"linear_attn.in_proj_a.weight", 6, 64},     {"linear_attn.in_proj_b.weight", 6, 64},
    {"linear_attn.conv1d.weight", 160, 4},       {"linear_attn.A_log", 0, 6},
    {"linear_attn.dt_bias", 0, 6},               {"linear_attn.norm.weight", 0, 16},
    {"linear_attn.out_proj.weight", 64, 96},
}, full_shapes[] = {
    {"self_attn.q_proj.weight", 128, 64}, {"self_attn.k_proj.weight", 32, 64},
    {"self_attn.v_proj.weight", 32, 64},  {"self_attn.o_proj.weight", 64, 64},
    {"self_attn.q_norm.weight", 0, 32},   {"self_attn.k_norm.weight", 0, 32},
}, common_shapes[] = {
    {"input_layernorm.weight", 0, 64},
    {"post_attention_layernorm.weight", 0, 64},
    {"mlp.gate.weight", 4, 64},
    {"mlp.shared_expert_gate.weight", 1, 64},
    {"mlp.shared_expert.gate_proj.weight", 32, 64},
    {"mlp.shared_expert.up_proj.weight", 32, 64},
    {"mlp.shared_expert.down_proj.weight", 64, 32},
}, expert_shapes[] = {
    {"gate_proj.weight", 32, 64}, {"up_proj.weight", 32, 64}, {"down_proj.weight", 64, 32},
}, outer_shapes[] = {
    {"model.embed_tokens.weight", 320, 64}, {"model.norm.weight", 0, 64},
    {"lm_head.weight", 320, 64},
}, draft_shapes[] = {
    {"mtp.fc.weight", 64, 128},                 {"mtp.pre_fc_norm_embedding.weight", 0, 64},
    {"mtp.pre_fc_norm_hidden.weight", 0, 64},   {"mtp.norm.weight", 0, 64},
};

static void add_random(st_writer *w, const char *prefix, const struct shape *list, size_t count,
                       test_rng *rng)
{
    for (size_t i = 0; i < count; i++) {
        char name[200];
        uint64_t shape[3] = {list[i].rows, list[i].cols};
        uint32_t dims = list[i].rows ? 2 : 1;
        size_t n = (size_t)list[i].cols * (list[i].rows ? list[i].rows : 1);
        float *x = must(malloc(n * sizeof *x));
        for (size_t k = 0; k < n; k++)
            x[k] = test_rng_normal(rng) * (list[i].rows ? 0.15f : 0.4f);
        if (dims == 1) shape[0] = list[i].cols;
        if (list[i].cols == 4) { /* the convolution has a dimension of 1 in the middle */
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

static void add_random_layer(st_writer *w, const char *prefix, bool linear, test_rng *rng)
{
    if (linear) ADD(w, prefix, linear_shapes, rng);
    else ADD(w, prefix, full_shapes, rng);
    ADD(w, prefix, common_shapes, rng);
    for (unsigned e = 0; e < 4; e++) {
        char name[100];
        snprintf(name, sizeof name, "%smlp.experts.%u.", prefix, e);
        ADD(w, name, expert_shapes, rng);
    }
}

void gguf_random_checkpoint(const char *dir)
{
    char path[512];
    test_rng rng = {20};
    st_writer *w = st_writer_create();
    ADD(w, "", outer_shapes, &rng);
    add_random_layer(w, "model.layers.0.", true, &rng);
    add_random_layer(w, "model.layers.1.", false, &rng);
    add_random_layer(w, "mtp.layers.0.", false, &rng);
    ADD(w, "", draft_shapes, &rng);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    st_writer_save(w, path);
    st_writer_destroy(w);
    snprintf(path, sizeof path, "%s/config.json", dir);
    test_write_file(path, random_config, sizeof random_config - 1);
}
