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

/* What becomes of a tensor besides its name; what only some families change is KEEP or VECTOR in
 * others. */
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
    PAIRS,     /* a matrix: rows of a head moved so that adjacent ones are a pair */
    PICK_QKV,  /* a matrix: q, k and v of all key heads, from the interleaved one */
    PICK_Z,    /* and z */
    PICK_K,    /* a matrix: keys of kv_b, transposed a head at a time */
    PICK_V,    /* and values */
    PICK_GATE, /* experts [e, in, 2·out]: gate, turned */
    PICK_UP,
    PICK_DOWN, /* experts [e, in, out], turned */
    EVEN,
    ODD, /* float32: every other element */
};

enum when { ALWAYS, NEWER, OLDER };

struct rule {
    const char *gguf, *published;
    enum change change;
    enum when when;
};

/* Written apart from the library's tables: what one of them has wrong shows. Which of the published
 * names a checkpoint has says which rules are meant. */
static const struct rule outer[] = {
    {"token_embd.weight", "model.embed_tokens.weight", KEEP, ALWAYS},
    {"output_norm.weight", "model.norm.weight", NORM, ALWAYS},
    {"output.weight", "lm_head.weight", KEEP, ALWAYS},
};
static const struct rule inner[] = {
    {"attn_norm.weight", "input_layernorm.weight", NORM, ALWAYS},
    {"attn_q.weight", "self_attn.q_proj.weight", PAIRS, ALWAYS},
    {"attn_k.weight", "self_attn.k_proj.weight", PAIRS, ALWAYS},
    {"attn_v.weight", "self_attn.v_proj.weight", KEEP, ALWAYS},
    {"attn_q.bias", "self_attn.q_proj.bias", VECTOR, ALWAYS},
    {"attn_k.bias", "self_attn.k_proj.bias", VECTOR, ALWAYS},
    {"attn_v.bias", "self_attn.v_proj.bias", VECTOR, ALWAYS},
    {"attn_output.weight", "self_attn.o_proj.weight", KEEP, ALWAYS},
    {"attn_output.bias", "self_attn.o_proj.bias", VECTOR, ALWAYS},
    {"attn_q_norm.weight", "self_attn.q_norm.weight", NORM, ALWAYS},
    {"attn_k_norm.weight", "self_attn.k_norm.weight", NORM, ALWAYS},
    {"attn_sinks.weight", "self_attn.sinks", VECTOR, ALWAYS},
    {"attn_q_a.weight", "self_attn.q_a_proj.weight", KEEP, ALWAYS},
    {"attn_q_a_norm.weight", "self_attn.q_a_layernorm.weight", NORM, ALWAYS},
    {"attn_q_b.weight", "self_attn.q_b_proj.weight", KEEP, ALWAYS},
    {"attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight", KEEP, ALWAYS},
    {"attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight", NORM, ALWAYS},
    {"attn_kv_b.weight", "self_attn.kv_b_proj.weight", KEEP, OLDER},
    {"attn_k_b.weight", "self_attn.kv_b_proj.weight", PICK_K, NEWER},
    {"attn_v_b.weight", "self_attn.kv_b_proj.weight", PICK_V, NEWER},
    {"attn_qkv.weight", "linear_attn.in_proj_qkv.weight", TILE_TAIL, ALWAYS},
    {"attn_gate.weight", "linear_attn.in_proj_z.weight", TILE_WIDE, ALWAYS},
    {"ssm_in.weight", "linear_attn.in_proj_qkvz.weight", KEEP, OLDER},
    {"attn_qkv.weight", "linear_attn.in_proj_qkvz.weight", PICK_QKV, NEWER},
    {"attn_gate.weight", "linear_attn.in_proj_qkvz.weight", PICK_Z, NEWER},
    {"ssm_ba.weight", "linear_attn.in_proj_ba.weight", KEEP, ALWAYS},
    {"ssm_conv1d.weight", "linear_attn.conv1d.weight", TILE_CONV, ALWAYS},
    {"ssm_a", "linear_attn.A_log", DECAY, ALWAYS},
    {"ssm_dt.bias", "linear_attn.dt_bias", TILE_ONE, ALWAYS},
    {"ssm_beta.weight", "linear_attn.in_proj_b.weight", TILE_ROWS, ALWAYS},
    {"ssm_alpha.weight", "linear_attn.in_proj_a.weight", TILE_ROWS, ALWAYS},
    {"ssm_norm.weight", "linear_attn.norm.weight", VECTOR, ALWAYS},
    {"ssm_out.weight", "linear_attn.out_proj.weight", TILE_COLS, ALWAYS},
    {"ffn_gate_inp.weight", "mlp.gate.weight", VECTOR, ALWAYS},
    {"ffn_gate_inp.weight", "mlp.router.weight", VECTOR, ALWAYS},
    {"ffn_gate_inp.weight", "block_sparse_moe.gate.weight", VECTOR, ALWAYS},
    {"ffn_gate_inp.bias", "mlp.router.bias", VECTOR, ALWAYS},
    {"exp_probs_b.bias", "mlp.gate.e_score_correction_bias", VECTOR, ALWAYS},
    {"exp_probs_b.bias", "block_sparse_moe.e_score_correction_bias", VECTOR, ALWAYS},
    {"ffn_gate_inp_shexp.weight", "mlp.shared_expert_gate.weight", VECTOR, ALWAYS},
    {"ffn_gate_shexp.weight", "mlp.shared_expert.gate_proj.weight", KEEP, ALWAYS},
    {"ffn_up_shexp.weight", "mlp.shared_expert.up_proj.weight", KEEP, ALWAYS},
    {"ffn_down_shexp.weight", "mlp.shared_expert.down_proj.weight", KEEP, ALWAYS},
    {"ffn_gate_shexp.weight", "mlp.shared_experts.gate_proj.weight", KEEP, ALWAYS},
    {"ffn_up_shexp.weight", "mlp.shared_experts.up_proj.weight", KEEP, ALWAYS},
    {"ffn_down_shexp.weight", "mlp.shared_experts.down_proj.weight", KEEP, ALWAYS},
    {"ffn_gate.weight", "mlp.gate_proj.weight", KEEP, ALWAYS},
    {"ffn_up.weight", "mlp.up_proj.weight", KEEP, ALWAYS},
    {"ffn_down.weight", "mlp.down_proj.weight", KEEP, ALWAYS},
    {"ffn_gate_exps.weight", "mlp.experts.gate_up_proj", PICK_GATE, ALWAYS},
    {"ffn_up_exps.weight", "mlp.experts.gate_up_proj", PICK_UP, ALWAYS},
    {"ffn_down_exps.weight", "mlp.experts.down_proj", PICK_DOWN, ALWAYS},
    {"ffn_gate_exps.bias", "mlp.experts.gate_up_proj_bias", EVEN, ALWAYS},
    {"ffn_up_exps.bias", "mlp.experts.gate_up_proj_bias", ODD, ALWAYS},
    {"ffn_down_exps.bias", "mlp.experts.down_proj_bias", VECTOR, ALWAYS},
};
static const struct rule draft[] = {
    {"nextn.eh_proj.weight", "mtp.fc.weight", KEEP, ALWAYS},
    {"nextn.enorm.weight", "mtp.pre_fc_norm_embedding.weight", NORM, ALWAYS},
    {"nextn.hnorm.weight", "mtp.pre_fc_norm_hidden.weight", NORM, ALWAYS},
    {"nextn.shared_head_norm.weight", "mtp.norm.weight", NORM, ALWAYS},
};

/* The families, as bits. */
enum {
    QWEN3 = 1,
    QWEN3_5 = 2,
    NEXT = 4,
    DEEPSEEK = 8,
    GLM = 16,
    OSS = 32,
    MIXTRAL = 64,
    OLMOE = 128,
    MINIMAX = 256,
    HYBRID = QWEN3_5 | NEXT,
    CORRECTED = DEEPSEEK | GLM,
    ALL = 511,
};

static const struct family {
    const char *model_type, *arch;
    unsigned bit;
} families[] = {
    {"qwen3_moe", "qwen3moe", QWEN3},      {"qwen3_5_moe_text", "qwen35moe", QWEN3_5},
    {"qwen3_next", "qwen3next", NEXT},     {"deepseek_v3", "deepseek2", DEEPSEEK},
    {"glm4_moe", "glm4moe", GLM},          {"gpt_oss", "gpt-oss", OSS},
    {"mixtral", "llama", MIXTRAL},         {"olmoe", "olmoe", OLMOE},
    {"minimax_m2", "minimax-m2", MINIMAX},
};

#define PARTS_MAX 8u
#define HALVES    4u

/* A published tensor of which only some parts have been seen. */
struct half {
    char name[200];
    float *x;
    size_t count, seen;
};

struct convert {
    const gguf_recipe *recipe;
    const struct family *family;
    damage_model model;
    json_t *config;
    unsigned layers, drafts, experts;
    unsigned key_heads, value_heads, key_dim, value_dim; /* of DeltaNet */
    unsigned heads, head_dim, nope, value, kv_rank;
    gguf_writer *writers[PARTS_MAX];
    unsigned parts, written;
    st_writer *plain;
    struct half halves[HALVES];
};

static const json_t *member(const struct convert *c, const char *name)
{
    const json_t *value = json_object_get(c->config, name);
    return value ? value : json_object_get(json_object_get(c->config, "rope_parameters"), name);
}

static unsigned setting(const struct convert *c, const char *name)
{
    return (unsigned)json_integer_value(member(c, name));
}

static bool is(const struct convert *c, unsigned bits)
{
    return (c->family->bit & bits) != 0;
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

/* Value heads of `width` numbers each: where number i of the tiled ones was published. */
static size_t tiled(const struct convert *c, size_t i, size_t width)
{
    size_t head = i / width, ratio = c->value_heads / c->key_heads;
    if (!is(c, QWEN3_5)) return i;
    return (head % c->key_heads * ratio + head / c->key_heads) * width + i % width;
}

/* The row of in_proj_qkvz from which row r of [q | k | v] comes, or of z. */
static size_t from_qkvz(const struct convert *c, size_t r, bool z)
{
    size_t key = c->key_dim, keys = key * c->key_heads;
    size_t value = (size_t)c->value_heads / c->key_heads * c->value_dim;
    size_t block = 2 * key + 2 * value;
    if (z) return r / value * block + 2 * key + value + r % value;
    if (r < keys) return r / key * block + r % key;
    if (r < 2 * keys) return (r - keys) / key * block + key + r % key;
    return (r - 2 * keys) / value * block + 2 * key + (r - 2 * keys) % value;
}

/* Element i of a tensor in the file is this one of the published tensor, of whose dimensions the
 * last two are rows and cols. */
static size_t place(const struct convert *c, enum change change, size_t rows, size_t cols, size_t i)
{
    size_t keys = 2 * (size_t)c->key_heads * c->key_dim * cols, d = c->head_dim;
    size_t r = i / cols, in = i % cols, width = (size_t)c->nope + c->value;
    switch (change) {
    case DECAY:
    case TILE_ONE:
        return tiled(c, i, 1);
    case TILE_ROWS:
        return tiled(c, i, cols);
    case TILE_WIDE:
        return tiled(c, i, c->value_dim * cols);
    case TILE_CONV:
    case TILE_TAIL:
        return i < keys ? i : keys + tiled(c, i - keys, c->value_dim * cols);
    case TILE_COLS:
        return r * cols + tiled(c, in, c->value_dim);
    case PAIRS:
        if (!is(c, MIXTRAL)) return i;
        return (r / d * d + r % 2 * (d / 2) + r % d / 2) * cols + in;
    case PICK_QKV:
        return from_qkvz(c, r, false) * cols + in;
    case PICK_Z:
        return from_qkvz(c, r, true) * cols + in;
    case PICK_K: {
        size_t row = i / c->nope;
        return (row / c->kv_rank * width + i % c->nope) * cols + row % c->kv_rank;
    }
    case PICK_V:
        return (r / c->value * width + c->nope + r % c->value) * cols + in;
    case PICK_GATE:
    case PICK_UP: {
        size_t half = cols / 2, e = i / (half * rows), out = i / rows % half;
        return (e * rows + i % rows) * cols + 2 * out + (change == PICK_UP);
    }
    case PICK_DOWN:
        return i / (rows * cols) * rows * cols + i % rows * cols + i / rows % cols;
    case EVEN:
        return 2 * i;
    case ODD:
        return 2 * i + 1;
    default:
        return i;
    }
}

/* The shape in the file; returns the dimensions. */
static uint32_t reshape(const struct convert *c, enum change change, const damage_tensor *t,
                        uint64_t shape[4])
{
    uint32_t dims = 0;
    uint64_t value_width = (uint64_t)c->value_heads * c->value_dim;
    for (uint32_t d = 0; d < t->dims; d++)
        if (t->shape[d] != 1 || t->dims == 1) shape[dims++] = t->shape[d]; /* squeezed */
    if (change == PICK_Z) shape[0] = value_width;
    if (change == PICK_QKV) shape[0] -= value_width;
    if (change == EVEN || change == ODD) shape[1] /= 2;
    if (change == PICK_V || change == PICK_K) {
        shape[0] = c->heads;
        shape[1] = change == PICK_V ? c->value : c->kv_rank;
        shape[2] = change == PICK_V ? c->kv_rank : c->nope;
        return 3;
    }
    if (change >= PICK_GATE && change <= PICK_DOWN) {
        shape[1] = t->shape[2] / (change == PICK_DOWN ? 1 : 2);
        shape[2] = t->shape[1];
    }
    return dims;
}

/* A power of two >= x, as its exponent. */
static int exponent_of(float x)
{
    int exponent;
    frexpf(x, &exponent);
    return exponent < -14 ? -14 : exponent;
}

static void encode_mxfp4(const float *x, float most, uint8_t *out)
{
    static const float values[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    int exponent = exponent_of(most / 6);
    out[0] = (uint8_t)(exponent + 127);
    for (int i = 0; i < 32; i++) {
        float want = fabsf(ldexpf(x[i], -exponent));
        uint8_t code = 0;
        for (uint8_t k = 1; k < 8; k++)
            if (fabsf(values[k] - want) < fabsf(values[code] - want)) code = k;
        if (x[i] < 0 && code > 0) code |= 8;
        if (i < 16)
            out[1 + i] = code;
        else
            out[1 + i - 16] |= (uint8_t)(code << 4);
    }
}

/* Codes of one block of 32; the scale is a power of two, which a half holds exactly. */
static void encode_block(const float *x, uint32_t type, uint8_t *out)
{
    float most = 0;
    int limit = type == GGUF_Q8_0 ? 127 : 7;
    for (int i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(x[i]));
    if (type == GGUF_MXFP4) {
        encode_mxfp4(x, most, out);
        return;
    }
    int exponent = exponent_of(most / (float)limit);
    uint16_t half = (uint16_t)((exponent + 15) << 10);
    memcpy(out, &half, 2);
    for (int i = 0; i < 32; i++) {
        int q = (int)lrintf(ldexpf(x[i], -exponent));
        if (type == GGUF_Q8_0)
            out[2 + i] = (uint8_t)(int8_t)q;
        else if (i < 16)
            out[2 + i] = (uint8_t)(q + 8);
        else
            out[2 + i - 16] |= (uint8_t)((q + 8) << 4);
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

/* The type asked for, or one that rows of so many can have. */
static uint32_t fit(uint32_t type, uint64_t cols)
{
    return type != GGUF_F32 && cols % 32 != 0 ? GGUF_BF16 : type;
}

static bool is_vector(enum change change)
{
    return change == VECTOR || change == NORM || change == DECAY || change == TILE_ONE ||
           change == TILE_CONV || change == EVEN || change == ODD;
}

static uint32_t type_of(const struct convert *c, enum change change, unsigned layer)
{
    if (is_vector(change)) return GGUF_F32;
    if (change < PICK_GATE) return c->recipe->matrices;
    return c->recipe->experts[((unsigned)change - PICK_GATE + layer) % 3];
}

/* Elements of a published tensor, for the plain checkpoint, which gets it once all are there. */
static void put_plain(struct convert *c, const damage_tensor *t, const float *x, const size_t *from,
                      size_t count)
{
    struct half *h = c->halves;
    if (!c->plain) return;
    while (h->x && strcmp(h->name, t->name) != 0) {
        h++;
        assert_true(h < c->halves + HALVES);
    }
    if (!h->x) {
        *h = (struct half){.count = t->bytes / 2};
        snprintf(h->name, sizeof h->name, "%s", t->name);
        h->x = must(malloc(h->count * sizeof *h->x));
    }
    for (size_t i = 0; i < count; i++)
        h->x[from[i]] = x[i];
    h->seen += count;
    if (h->seen < h->count) return;
    assert_int_equal(h->seen, h->count);
    st_writer_add_f32(c->plain, t->name, t->dims, t->shape, h->x);
    free(h->x);
    *h = (struct half){0};
}

static void put_rule(struct convert *c, const struct rule *rule, unsigned layer, const char *block,
                     const char *source)
{
    char name[200], published[200];
    size_t all, bytes, count = 1;
    uint64_t shape[4];
    if (rule->when == (c->recipe->older ? NEWER : OLDER)) return;
    snprintf(name, sizeof name, "%s%s", block, rule->gguf);
    snprintf(published, sizeof published, "%s%s", source, rule->published);
    const damage_tensor *t = find(c, published);
    if (!t) return; /* of another kind of layer, or another family */
    uint32_t dims = reshape(c, rule->change, t, shape);
    for (uint32_t d = 0; d < dims; d++)
        count *= (size_t)shape[d];
    size_t cols = (size_t)t->shape[t->dims - 1],
           rows = t->dims > 1 ? (size_t)t->shape[t->dims - 2] : 1;
    float *raw = floats_of(t, &all), *x = must(malloc(count * sizeof *x + 1));
    float *same = must(malloc(count * sizeof *same + 1));
    size_t *from = must(malloc(count * sizeof *from + 1));
    for (size_t i = 0; i < count; i++) {
        from[i] = place(c, rule->change, rows, cols, i);
        assert_true(from[i] < all);
        x[i] = same[i] = raw[from[i]];
        if (rule->change == NORM && is(c, HYBRID)) x[i] += 1;
        if (rule->change == DECAY) x[i] = -expf(x[i]);
    }
    uint32_t type = fit(type_of(c, rule->change, layer), shape[dims - 1]);
    uint8_t *data = encode(x, count, (size_t)shape[dims - 1], type, &bytes);
    put_tensor(c, name, type, dims, shape, data, bytes);
    put_plain(c, t, is_vector(rule->change) ? same : x, from, count);
    free(data);
    free(from);
    free(same);
    free(x);
    free(raw);
}

/* One part of one expert, encoded; malloc'd. */
static uint8_t *encode_expert(struct convert *c, const char *source, unsigned expert, unsigned part,
                              uint32_t type, uint64_t shape[2], size_t *bytes)
{
    static const char *const parts[][3] = {{"gate_proj", "up_proj", "down_proj"},
                                           {"w1", "w3", "w2"}};
    bool block = is(c, MIXTRAL | MINIMAX);
    char name[200];
    size_t count;
    snprintf(name, sizeof name, "%s%s.experts.%u.%s.weight", source,
             block ? "block_sparse_moe" : "mlp", expert, parts[block][part]);
    const damage_tensor *t = find(c, name);
    if (!t) return NULL; /* a dense layer, or stacked when published */
    float *x = floats_of(t, &count);
    uint8_t *data = encode(x, count, (size_t)t->shape[1], type, bytes);
    if (c->plain) st_writer_add_f32(c->plain, name, 2, t->shape, x);
    memcpy(shape, t->shape, 2 * sizeof *shape);
    free(x);
    return data;
}

/* Parts [first, last] of every expert behind each other: one, or gate and up. */
static void put_stack(struct convert *c, unsigned layer, unsigned first, unsigned last,
                      const char *block, const char *source)
{
    static const char *const names[] = {"gate", "up", "down"};
    uint32_t type = c->recipe->experts[(first + layer) % 3];
    uint64_t shape[3] = {c->experts};
    uint8_t *all = NULL;
    char name[200];
    size_t bytes = 0, used = 0;
    bool single = c->recipe->older && is(c, MIXTRAL);
    for (unsigned e = 0; e < c->experts; e++) {
        for (unsigned part = first; part <= last; part++) {
            uint8_t *data = encode_expert(c, source, e, part, type, shape + 1, &bytes);
            if (!data) return;
            all = must(realloc(all, used + bytes));
            memcpy(all + used, data, bytes);
            used += bytes;
            free(data);
            if (!single) continue;
            snprintf(name, sizeof name, "%sffn_%s.%u.weight", block, names[part], e);
            put_tensor(c, name, type, 2, shape + 1, all, bytes);
            used = 0;
        }
    }
    shape[1] *= last - first + 1;
    snprintf(name, sizeof name, "%sffn_%s_exps.weight", block,
             last > first ? "gate_up" : names[first]);
    if (!single) put_tensor(c, name, type, 3, shape, all, used);
    free(all);
}

/* A block that drafts and of which nothing is read: zeros. */
static void put_unread(struct convert *c, const char *block)
{
    static const char *const names[] = {"attn_norm.weight", "nextn.eh_proj.weight",
                                        "nextn.embed_tokens.weight", "ffn_gate_exps.weight"};
    const uint64_t shape[] = {2, 3};
    const float zeros[6] = {0};
    char name[200];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(name, sizeof name, "%s%s", block, names[i]);
        put_tensor(c, name, GGUF_F32, 2, shape, zeros, sizeof zeros);
    }
}

static void put_block(struct convert *c, unsigned layer)
{
    char block[32], source[64];
    snprintf(block, sizeof block, "blk.%u.", layer);
    snprintf(source, sizeof source, "model.layers.%u.", layer);
    if (layer >= c->layers) snprintf(source, sizeof source, "mtp.layers.%u.", layer - c->layers);
    if (layer >= c->layers && is(c, CORRECTED)) {
        put_unread(c, block);
        return;
    }
    for (size_t i = 0; i < sizeof inner / sizeof inner[0]; i++)
        put_rule(c, &inner[i], layer, block, source);
    const struct rule second = {is(c, HYBRID | GLM | OSS) ? "post_attention_norm.weight"
                                                          : "ffn_norm.weight",
                                "post_attention_layernorm.weight", NORM, ALWAYS};
    put_rule(c, &second, layer, block, source);
    for (unsigned part = 0; part < 3; part++) {
        unsigned last = part == 0 && c->recipe->fused ? 1 : part;
        put_stack(c, layer, part, last, block, source);
        part = last;
    }
    for (size_t i = 0; layer >= c->layers && i < sizeof draft / sizeof draft[0]; i++)
        put_rule(c, &draft[i], layer, block, "");
}

/* ---- keys ------------------------------------------------------------------------------------ */

static const char *key_of(const struct convert *c, const char *key)
{
    static char name[100];
    snprintf(name, sizeof name, "%s.%s", c->family->arch, key);
    return name;
}

static void put_int(struct convert *c, const char *key, unsigned value)
{
    const char *name = key_of(c, key);
    if (!skipped(c, name)) gguf_writer_int(c->writers[0], name, SL_GGUF_U32, value);
}

static void put_float(struct convert *c, const char *key, double value)
{
    const char *name = key_of(c, key);
    if (!skipped(c, name)) gguf_writer_f32(c->writers[0], name, (float)value);
}

static void put_text(struct convert *c, const char *key, const char *value)
{
    const char *name = key_of(c, key);
    if (!skipped(c, name)) gguf_writer_string(c->writers[0], name, value);
}

/* What a member of the configuration becomes, in these families. */
static const struct key {
    const char *key, *member;
    unsigned families;
} whole[] =
    {
        {"context_length", "max_position_embeddings", ALL},
        {"embedding_length", "hidden_size", ALL},
        {"attention.head_count", "num_attention_heads", ALL},
        {"attention.head_count_kv", "num_key_value_heads", ALL},
        {"attention.key_length", "head_dim", ALL & ~(DEEPSEEK | MIXTRAL | OLMOE)},
        {"attention.value_length", "head_dim", ALL & ~(DEEPSEEK | MIXTRAL | OLMOE)},
        {"attention.sliding_window", "sliding_window", OSS},
        {"attention.q_lora_rank", "q_lora_rank", DEEPSEEK},
        {"attention.kv_lora_rank", "kv_lora_rank", DEEPSEEK},
        {"feed_forward_length", "intermediate_size", ALL & ~(QWEN3 | HYBRID)},
        {"leading_dense_block_count", "first_k_dense_replace", CORRECTED},
        {"expert_used_count", "num_experts_per_tok", ALL},
        {"expert_feed_forward_length", "moe_intermediate_size", QWEN3 | HYBRID | CORRECTED},
        {"expert_shared_feed_forward_length", "shared_expert_intermediate_size", HYBRID},
        {"expert_shared_count", "n_shared_experts", CORRECTED},
        {"expert_group_count", "n_group", CORRECTED},
        {"expert_group_used_count", "topk_group", CORRECTED},
        {"ssm.conv_kernel", "linear_conv_kernel_dim", HYBRID},
        {"ssm.state_size", "linear_key_head_dim", HYBRID},
        {"ssm.group_count", "linear_num_key_heads", HYBRID},
        {"ssm.time_step_rank", "linear_num_value_heads", HYBRID},
},
  fractions[] = {
      {"attention.layer_norm_rms_epsilon", "rms_norm_eps", ALL},
      {"rope.freq_base", "rope_theta", ALL},
      {"expert_weights_scale", "routed_scaling_factor", CORRECTED},
      {"rope.scaling.factor", "factor", DEEPSEEK | OSS}, /* where there is one */
};

static void put_deepseek_keys(struct convert *c)
{
    unsigned rope = setting(c, "qk_rope_head_dim");
    put_int(c, "attention.key_length", c->recipe->older ? c->nope + rope : c->kv_rank + rope);
    put_int(c, "attention.value_length", c->recipe->older ? c->value : c->kv_rank);
    if (!c->recipe->older) {
        put_int(c, "attention.key_length_mla", c->nope + rope);
        put_int(c, "attention.value_length_mla", c->value);
    }
    put_float(c, "rope.scaling.yarn_log_multiplier",
              0.1 * json_number_value(member(c, "mscale_all_dim")));
}

static void put_rope_keys(struct convert *c)
{
    double part = is(c, HYBRID) ? 0.25 : is(c, GLM | MINIMAX) ? 0.5 : 1;
    unsigned dim = is(c, DEEPSEEK) ? setting(c, "qk_rope_head_dim") : c->head_dim;
    put_int(c, "rope.dimension_count", (unsigned)(dim * part));
    if (!member(c, "factor")) return;
    put_text(c, "rope.scaling.type", "yarn");
    put_int(c, "rope.scaling.original_context_length",
            setting(c, "original_max_position_embeddings"));
}

static void put_keys(struct convert *c)
{
    if (!skipped(c, "general.architecture")) {
        gguf_writer_string(c->writers[0], "general.architecture", c->family->arch);
    }
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        if (is(c, whole[i].families)) put_int(c, whole[i].key, setting(c, whole[i].member));
    for (size_t i = 0; i < sizeof fractions / sizeof fractions[0]; i++) {
        if (!is(c, fractions[i].families) || !member(c, fractions[i].member)) continue;
        put_float(c, fractions[i].key, json_number_value(member(c, fractions[i].member)));
    }
    put_int(c, "block_count", c->layers + c->drafts);
    put_int(c, "expert_count", c->experts);
    put_rope_keys(c);
    if (is(c, DEEPSEEK)) put_deepseek_keys(c);
    if (is(c, HYBRID)) put_int(c, "ssm.inner_size", c->value_heads * c->value_dim);
    if (is(c, CORRECTED | MINIMAX)) put_int(c, "expert_gating_func", 2);
    if (is(c, CORRECTED) && !skipped(c, key_of(c, "expert_weights_norm"))) {
        gguf_writer_int(c->writers[0], key_of(c, "expert_weights_norm"), SL_GGUF_BOOL, 1);
    }
    if (c->drafts) put_int(c, "nextn_predict_layers", c->drafts);
}

static void put_vocabulary(struct convert *c)
{
    unsigned count = setting(c, "vocab_size");
    gguf_writer *w = c->writers[0];
    const char **tokens = must(malloc(count * sizeof *tokens));
    char(*texts)[16] = must(malloc(count * sizeof *texts));
    int64_t *types = must(malloc(count * sizeof *types));
    assert_true(count >= 258);
    for (unsigned i = 0; i < count; i++) {
        const char byte = (char)i;
        tokens[i] = texts[i];
        types[i] = i < 256 ? 1 : i < 258 ? 3 : 5;
        if (i < 256)
            snprintf(texts[i], sizeof texts[i], "%s", tokenizer_spell(&byte, 1));
        else if (i < 258)
            snprintf(texts[i], 16, "%s", i == 256 ? "<|im_end|>" : "<|endoftext|>");
        else
            snprintf(texts[i], sizeof texts[i], "[PAD%u]", i);
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

static unsigned count_experts(const struct convert *c)
{
    static const char *const names[] = {"num_experts", "num_local_experts", "n_routed_experts"};
    unsigned i = 0;
    while (i < 2 && !member(c, names[i]))
        i++;
    return setting(c, names[i]);
}

static void begin(struct convert *c, const char *model)
{
    char path[512];
    damage_model_load(&c->model, model);
    snprintf(path, sizeof path, "%s/config.json", model);
    c->config = golden_json(path);
    const char *type = json_string_value(json_object_get(c->config, "model_type"));
    c->family = families;
    while (strcmp(c->family->model_type, type) != 0) {
        c->family++;
        assert_true(c->family < families + sizeof families / sizeof families[0]);
    }
    c->layers = setting(c, "num_hidden_layers");
    c->drafts = find(c, "mtp.fc.weight") ? 1 : c->recipe->drafts;
    c->experts = count_experts(c);
    c->key_heads = setting(c, "linear_num_key_heads");
    c->value_heads = setting(c, "linear_num_value_heads");
    c->key_dim = setting(c, "linear_key_head_dim");
    c->value_dim = setting(c, "linear_value_head_dim");
    c->heads = setting(c, "num_attention_heads");
    c->head_dim = setting(c, "head_dim");
    if (c->head_dim == 0) c->head_dim = setting(c, "hidden_size") / c->heads;
    c->nope = setting(c, "qk_nope_head_dim");
    c->value = setting(c, "v_head_dim");
    c->kv_rank = setting(c, "kv_lora_rank");
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
        put_rule(&c, &outer[i], 0, "", "");
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
