#include "plane_convert.h"

#include <jansson.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dtype.h"
#include "damage.h"
#include "test_env.h"

#define F8_SIDE 128u

struct convert {
    const plane_recipe *recipe;
    damage_model model;
    json_t *config;
    unsigned layers;
    bool zero_centred;
    st_writer *out, *plain;
};

/* A matrix, or one a expert, coded. */
struct coded {
    size_t rows, cols;
    unsigned bits;
    size_t row_bytes, scale_rows, plane_row_bytes;
    uint8_t *codes, *scales, *biases;
};

static void *must(void *memory)
{
    if (memory) return memory;
    fprintf(stderr, "plane_convert: out of memory\n");
    abort();
}

static bool ends(const char *text, const char *tail)
{
    size_t n = strlen(text), m = strlen(tail);
    return n >= m && strcmp(text + n - m, tail) == 0;
}

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

/* ---- numbers --------------------------------------------------------------------------------- */

static const char *scale_type(const struct convert *c)
{
    return c->recipe->scales ? c->recipe->scales : "BF16";
}

/* To nearest, normal numbers and zero only. */
static uint16_t f16_of(float x)
{
    int exponent;
    float part = frexpf(fabsf(x), &exponent); /* [0.5, 1) */
    if (x == 0 || exponent < -13) return 0;
    unsigned digits = (unsigned)lrintf(ldexpf(part, 11)); /* 1024 … 2048 */
    return (uint16_t)((x < 0 ? 0x8000u : 0u) | (((unsigned)(exponent + 13) << 10) + digits));
}

/* Writes a number of a plane and returns what it is then. */
static float put_number(const struct convert *c, float x, uint8_t *plane, size_t i)
{
    const char *type = scale_type(c);
    uint16_t half = 0;
    if (strcmp(type, "F32") == 0) {
        memcpy(plane + 4 * i, &x, 4);
        return x;
    }
    half = strcmp(type, "F16") == 0 ? f16_of(x) : sl__f32_to_bf16(x);
    memcpy(plane + 2 * i, &half, 2);
    return strcmp(type, "F16") == 0 ? sl__f16_to_f32(half) : sl__bf16_to_f32(half);
}

static size_t number_bytes(const struct convert *c)
{
    return strcmp(scale_type(c), "F32") == 0 ? 4 : 2;
}

static void put_bits(uint8_t *row, unsigned bits, size_t i, unsigned code)
{
    for (unsigned b = 0; b < bits; b++) {
        size_t at = i * bits + b;
        row[at / 8] |= (uint8_t)((code >> b & 1u) << (at % 8));
    }
}

/* x becomes what it is in the file. packed: symmetric, without biases. */
static void code_group(const struct convert *c, struct coded *m, size_t r, size_t g, size_t group,
                       bool packed, float *x)
{
    size_t first = g * group, n = m->cols - first < group ? m->cols - first : group;
    size_t at = r * (m->plane_row_bytes / number_bytes(c)) + g;
    float low = x[first], high = x[first], top = (float)((1u << m->bits) - 1u);
    for (size_t i = first; i < first + n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    float offset = (float)(1u << (m->bits - 1));
    float step = packed ? fmaxf(-low, high) / (offset - 1) : (high - low) / top;
    float scale = put_number(c, step > 0 ? step : 1, m->scales, at);
    float bias = packed ? 0 : put_number(c, low, m->biases, at);
    for (size_t i = first; i < first + n; i++) {
        float q = roundf((x[i] - bias) / scale) + (packed ? offset : 0);
        q = fminf(fmaxf(q, 0), top);
        put_bits(m->codes + r * m->row_bytes, m->bits, i, (unsigned)q);
        x[i] = packed ? (q - offset) * scale : scale * q + bias;
    }
}

static void code_mxfp4(struct coded *m, size_t r, size_t g, float *x)
{
    static const float value[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    float most = 0;
    int exponent;
    for (size_t i = 0; i < 32; i++)
        most = fmaxf(most, fabsf(x[32 * g + i]));
    frexpf(most / 6, &exponent);
    m->scales[r * m->plane_row_bytes + g] = (uint8_t)(127 + exponent);
    for (size_t i = 32 * g; i < 32 * g + 32; i++) {
        unsigned best = 0;
        float wanted = ldexpf(fabsf(x[i]), -exponent);
        for (unsigned k = 1; k < 8; k++)
            if (fabsf(value[k] - wanted) < fabsf(value[best] - wanted)) best = k;
        put_bits(m->codes + r * m->row_bytes, 4, i, best | (x[i] < 0 ? 8u : 0u));
        x[i] = ldexpf(x[i] < 0 ? -value[best] : value[best], exponent);
    }
}

static struct coded take(size_t rows, size_t cols, unsigned bits, size_t scale_rows,
                         size_t plane_row_bytes)
{
    struct coded m = {.rows = rows, .cols = cols, .bits = bits, .row_bytes = cols * bits / 8,
                      .scale_rows = scale_rows, .plane_row_bytes = plane_row_bytes};
    m.codes = must(calloc(rows * m.row_bytes + 1, 1));
    m.scales = must(calloc(scale_rows * plane_row_bytes + 1, 1));
    m.biases = must(calloc(scale_rows * plane_row_bytes + 1, 1));
    return m;
}

static void drop(struct coded *m)
{
    free(m->codes);
    free(m->scales);
    free(m->biases);
}

static struct coded code_affine(const struct convert *c, float *x, size_t rows, size_t cols,
                                unsigned bits, size_t group)
{
    bool packed = c->recipe->format == PLANE_PACKED, mx = c->recipe->mxfp4;
    size_t groups = group ? cols / group : 1;
    struct coded m = take(rows, cols, bits, rows, groups * (mx ? 1 : number_bytes(c)));
    for (size_t r = 0; r < rows; r++)
        for (size_t g = 0; g < groups; g++) {
            if (mx) code_mxfp4(&m, r, g, x + r * cols);
            else code_group(c, &m, r, g, group ? group : cols, packed, x + r * cols);
        }
    return m;
}

static float f8_value(unsigned code)
{
    int exponent = (int)(code >> 3 & 15u);
    float digits = (float)(code & 7u);
    float v = exponent ? ldexpf(8 + digits, exponent - 10) : ldexpf(digits, -9);
    return code & 0x80u ? -v : v;
}

static uint8_t f8_of(float x)
{
    unsigned low = 0, high = 0x7e; /* 448; values grow with their codes */
    float wanted = fabsf(x);
    while (high - low > 1) {
        unsigned mid = (low + high) / 2;
        if (f8_value(mid) <= wanted) low = mid;
        else high = mid;
    }
    unsigned best = wanted - f8_value(low) <= f8_value(high) - wanted ? low : high;
    return (uint8_t)(best | (x < 0 ? 0x80u : 0u));
}

/* rows of each of count matrices. */
static struct coded code_f8(const struct convert *c, float *x, size_t count, size_t rows,
                            size_t cols)
{
    bool a_row = c->recipe->compressed && c->recipe->group == 0;
    size_t width = a_row ? cols : F8_SIDE, height = a_row ? 1 : F8_SIDE;
    size_t across = (cols + width - 1) / width, down = (rows + height - 1) / height;
    struct coded m = take(count * rows, cols, 8, count * down, across * number_bytes(c));
    for (size_t b = 0; b < count * down * across; b++) {
        size_t matrix = b / (down * across), r0 = b / across % down * height;
        size_t c0 = b % across * width, r1 = r0 + height, c1 = c0 + width;
        float most = 0;
        for (size_t r = r0; r < r1 && r < rows; r++)
            for (size_t k = c0; k < c1 && k < cols; k++)
                most = fmaxf(most, fabsf(x[(matrix * rows + r) * cols + k]));
        float scale = put_number(c, most > 0 ? most / 448 : 1, m.scales, b);
        for (size_t r = r0; r < r1 && r < rows; r++)
            for (size_t k = c0; k < c1 && k < cols; k++) {
                size_t at = (matrix * rows + r) * cols + k;
                m.codes[at] = f8_of(x[at] / scale);
                x[at] = scale * f8_value(m.codes[at]);
            }
    }
    return m;
}

/* ---- tensors --------------------------------------------------------------------------------- */

static void put(struct convert *c, const char *name, const char *dtype, uint32_t dims,
                const uint64_t *shape, const void *data, size_t bytes)
{
    char text[300];
    bool prefix = c->recipe->format == PLANE_MLX && c->recipe->prefix;
    snprintf(text, sizeof text, "%s%s", prefix ? "language_model." : "", name);
    if (c->recipe->skip && strcmp(c->recipe->skip, text) == 0) return;
    st_writer_add(c->out, text, dtype, dims, shape, data, bytes);
}

/* shape: of the weights. stem: the name without ".weight". */
static void put_coded(struct convert *c, const char *stem, uint32_t dims, const uint64_t *shape,
                      const struct coded *m)
{
    static const char *const tails[][3] = {
        [PLANE_MLX] = {".weight", ".scales", ".biases"},
        [PLANE_FP8] = {".weight", ".weight_scale_inv"},
        [PLANE_PACKED] = {".weight_packed", ".weight_scale"}};
    static const char *const types[] = {"U32", "F8_E4M3", "I32"};
    plane_format format = c->recipe->format;
    const char *tail = c->recipe->compressed ? ".weight_scale" : tails[format][1];
    uint64_t codes[4], planes[4];
    char name[256];
    memcpy(codes, shape, sizeof codes);
    memcpy(planes, shape, sizeof planes);
    codes[dims - 1] = m->row_bytes / (format == PLANE_FP8 ? 1 : 4);
    planes[dims - 1] = m->plane_row_bytes / (c->recipe->mxfp4 ? 1 : number_bytes(c));
    if (format == PLANE_FP8) planes[dims - 2] = m->scale_rows / (dims == 3 ? shape[0] : 1);
    bool bare = format == PLANE_FP8 && dims == 3; /* fused ones have no ".weight" */
    snprintf(name, sizeof name, "%s%s", stem, bare ? "" : tails[format][0]);
    put(c, name, types[format], dims, codes, m->codes, m->rows * m->row_bytes);
    snprintf(name, sizeof name, "%s%s", stem, bare ? "_scale_inv" : tail);
    put(c, name, c->recipe->mxfp4 ? "U8" : scale_type(c), dims, planes, m->scales,
        m->scale_rows * m->plane_row_bytes);
    if (format == PLANE_MLX && !c->recipe->mxfp4) {
        snprintf(name, sizeof name, "%s%s", stem, tails[format][2]);
        put(c, name, scale_type(c), dims, planes, m->biases, m->scale_rows * m->plane_row_bytes);
    }
    if (format == PLANE_PACKED) {
        snprintf(name, sizeof name, "%s.weight_shape", stem);
        put(c, name, "I64", 1, (uint64_t[]){2}, shape, 16);
    }
}

static bool is_router(const char *name)
{
    return ends(name, ".mlp.gate.weight") || ends(name, "shared_expert_gate.weight") ||
           ends(name, ".block_sparse_moe.gate.weight") || ends(name, ".mlp.router.weight");
}

/* To how many bits a matrix is coded; 0: it is not. */
static unsigned bits_of(const struct convert *c, const char *name, size_t cols)
{
    const plane_recipe *r = c->recipe;
    if (r->format == PLANE_MLX) {
        if (r->bits == 0 || cols % r->group != 0) return 0;
        /* Of these two families routers are bare arrays. */
        const char *type = json_string_value(json_object_get(c->config, "model_type"));
        bool bare = strcmp(type, "deepseek_v3") == 0 || strcmp(type, "glm4_moe") == 0;
        if (is_router(name)) return r->routers && !bare && !r->mxfp4 ? 8 : 0;
        return r->bits;
    }
    if (is_router(name) || ends(name, "embed_tokens.weight") || ends(name, "lm_head.weight") ||
        strstr(name, "in_proj_a.") || strstr(name, "in_proj_b.") || strstr(name, "in_proj_ba.")) {
        return 0;
    }
    if (r->format == PLANE_FP8) return 8;
    return cols % 8 == 0 && (r->group == 0 || cols % r->group == 0) ? r->bits : 0;
}

static void put_plain(struct convert *c, const char *name, uint32_t dims, const uint64_t *shape,
                      const float *x)
{
    if (c->plain) st_writer_add_f32(c->plain, name, dims, shape, x);
}

/* count matrices of rows x cols, coded or as float32; x becomes what they are. stem: without
 * ".weight"; name: for the choice of bits. */
static void put_matrices(struct convert *c, const char *name, const char *stem, uint32_t dims,
                         const uint64_t *shape, float *x)
{
    size_t count = dims == 3 ? (size_t)shape[0] : 1;
    size_t rows = (size_t)shape[dims - 2], cols = (size_t)shape[dims - 1];
    unsigned bits = bits_of(c, name, cols);
    if (bits == 0) {
        char text[256];
        snprintf(text, sizeof text, "%s.weight", stem);
        put(c, text, "F32", dims, shape, x, count * rows * cols * sizeof *x);
        return;
    }
    struct coded m = c->recipe->format == PLANE_FP8
                         ? code_f8(c, x, count, rows, cols)
                         : code_affine(c, x, count * rows, cols, bits, c->recipe->group);
    put_coded(c, stem, dims, shape, &m);
    drop(&m);
}

static void put_matrix(struct convert *c, const damage_tensor *t)
{
    char stem[200];
    size_t count;
    float *x = floats_of(t, &count);
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(t->name) - strlen(".weight")), t->name);
    put_matrices(c, t->name, stem, 2, t->shape, x);
    put_plain(c, t->name, 2, t->shape, x);
    free(x);
}

static bool is_shifted_norm(const struct convert *c, const char *name)
{
    return c->zero_centred &&
           (ends(name, ".input_layernorm.weight") || ends(name, "model.norm.weight") ||
            ends(name, ".post_attention_layernorm.weight") || ends(name, ".q_norm.weight") ||
            ends(name, ".k_norm.weight"));
}

static void put_vector(struct convert *c, const damage_tensor *t)
{
    size_t count;
    float *x = floats_of(t, &count);
    uint64_t shape[4];
    memcpy(shape, t->shape, sizeof shape);
    put_plain(c, t->name, t->dims, t->shape, x);
    if (c->recipe->format == PLANE_MLX && t->dims == 3) { /* the convolution */
        shape[1] = t->shape[2];
        shape[2] = t->shape[1];
    }
    for (size_t i = 0; c->recipe->format == PLANE_MLX && i < count; i++)
        if (is_shifted_norm(c, t->name)) x[i] += 1;
    put(c, t->name, "F32", t->dims, shape, x, count * sizeof *x);
    free(x);
}

/* ---- experts --------------------------------------------------------------------------------- */

/* gate, up or down of "A.experts.7.gate_proj.weight", and "A"; false: no expert's. */
static bool split_expert(const char *name, char where[200], unsigned *expert, unsigned *part)
{
    static const char *const names[][3] = {{"gate_proj", "up_proj", "down_proj"},
                                           {"w1", "w3", "w2"}};
    const char *at = strstr(name, ".experts.");
    char kind[32];
    if (!at || sscanf(at, ".experts.%u.%31[^.].weight", expert, kind) != 2) return false;
    snprintf(where, 200, "%.*s", (int)(at - name), name);
    for (unsigned k = 0; k < 6; k++) {
        *part = k % 3;
        if (strcmp(names[k / 3][k % 3], kind) == 0) return true;
    }
    return false;
}

/* All experts' matrices of a part, one after the other, as the tensors are found; up behind gate of
 * each where it is fused. */
static float *gather(const struct convert *c, const char *where, unsigned part, bool fused,
                     uint64_t shape[3])
{
    float *all = NULL;
    shape[0] = 0;
    for (size_t i = 0; i < c->model.count; i++) {
        char other[200];
        unsigned expert, its;
        size_t count;
        const damage_tensor *t = &c->model.tensors[i];
        if (!split_expert(t->name, other, &expert, &its) || strcmp(where, other) != 0) continue;
        bool up = fused && part == 0 && its == 1;
        if (its != part && !up) continue;
        float *x = floats_of(t, &count);
        size_t step = fused && part == 0 ? 2 * count : count;
        if (!all) all = must(calloc(64 * step, sizeof *all));
        memcpy(all + expert * step + (up ? count : 0), x, count * sizeof *x);
        free(x);
        if (!up) shape[0]++;
        shape[1] = step / t->shape[1];
        shape[2] = t->shape[1];
    }
    return all;
}

/* The same tensors again, as they are now. */
static void plain_experts(struct convert *c, const char *where, unsigned part, bool fused,
                          const uint64_t shape[3], const float *all)
{
    for (size_t i = 0; i < c->model.count; i++) {
        char other[200];
        unsigned expert, its;
        const damage_tensor *t = &c->model.tensors[i];
        if (!split_expert(t->name, other, &expert, &its) || strcmp(where, other) != 0) continue;
        bool up = fused && part == 0 && its == 1;
        if (its != part && !up) continue;
        size_t at = expert * (size_t)(shape[1] * shape[2]);
        if (up) at += (size_t)(shape[1] * shape[2] / 2);
        put_plain(c, t->name, 2, t->shape, all + at);
    }
}

static void put_stack(struct convert *c, const char *where, unsigned part)
{
    static const char *const parts[] = {"gate_proj", "up_proj", "down_proj"};
    static const char *const fused[] = {"gate_up_proj", "up_proj", "down_proj"};
    bool f = c->recipe->format == PLANE_FP8;
    char stem[256];
    uint64_t shape[4] = {0};
    if (f && part == 1) return;
    float *all = gather(c, where, part, f, shape);
    snprintf(stem, sizeof stem, "%s.%s.%s", where, f ? "experts" : "switch_mlp",
             f ? fused[part] : parts[part]);
    put_matrices(c, stem, stem, 3, shape, all);
    plain_experts(c, where, part, f, shape, all);
    free(all);
}

/* ---- what mlx-lm takes apart ----------------------------------------------------------------- */

/* [cols, rows] of [rows, cols]. */
static float *turned(const float *in, size_t rows, size_t cols)
{
    float *out = must(malloc(rows * cols * sizeof *out));
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[c * rows + r] = in[r * cols + c];
    return out;
}

/* gpt-oss: [experts, in, out], and of gate_up_proj every other column is up. */
static void put_turned(struct convert *c, const damage_tensor *t)
{
    static const char *const parts[] = {"gate_proj", "up_proj"};
    size_t count, e, experts = (size_t)t->shape[0], in = (size_t)t->shape[1];
    size_t both = ends(t->name, "gate_up_proj") ? 2 : 1, rows = (size_t)t->shape[2] / both;
    float *x = floats_of(t, &count), *part = must(malloc(count * sizeof *part));
    for (size_t p = 0; p < both; p++) {
        char stem[200];
        const uint64_t shape[4] = {experts, rows, in};
        snprintf(stem, sizeof stem, "%.*s%s", (int)(strrchr(t->name, '.') + 1 - t->name), t->name,
                 both == 2 ? parts[p] : "down_proj");
        for (e = 0; e < experts; e++) {
            float *all = turned(x + e * in * rows * both, in, rows * both); /* [out, in] */
            for (size_t r = 0; r < rows; r++)
                memcpy(part + (e * rows + r) * in, all + (r * both + p) * in, in * sizeof *part);
            free(all);
        }
        put_matrices(c, stem, stem, 3, shape, part);
        for (size_t i = 0; i < experts * rows * in; i++) {
            e = i / (rows * in);
            x[(e * in + i % in) * rows * both + i / in % rows * both + p] = part[i];
        }
    }
    put_plain(c, t->name, 3, t->shape, x);
    free(part);
    free(x);
}

/* Its biases [experts, out]. */
static void put_expert_bias(struct convert *c, const damage_tensor *t)
{
    static const char *const parts[] = {"gate_proj", "up_proj"};
    size_t count, both = ends(t->name, "gate_up_proj_bias") ? 2 : 1;
    float *x = floats_of(t, &count), *part = must(malloc(count * sizeof *part));
    const uint64_t shape[2] = {t->shape[0], t->shape[1] / both};
    put_plain(c, t->name, 2, t->shape, x);
    for (size_t p = 0; p < both; p++) {
        char name[200];
        snprintf(name, sizeof name, "%.*s%s.bias", (int)(strrchr(t->name, '.') + 1 - t->name),
                 t->name, both == 2 ? parts[p] : "down_proj");
        for (size_t i = 0; i < count / both; i++)
            part[i] = x[i * both + p];
        put(c, name, "F32", 2, shape, part, count / both * sizeof *part);
    }
    free(part);
    free(x);
}

/* kv_b_proj [heads · (keys + values), rank]: embed_q [heads, rank, keys], unembed_out [heads,
 * values, rank]. */
static void put_split_kv(struct convert *c, const damage_tensor *t)
{
    size_t count, rank = (size_t)t->shape[1];
    size_t heads = (size_t)json_integer_value(json_object_get(c->config, "num_attention_heads"));
    size_t keys = (size_t)json_integer_value(json_object_get(c->config, "qk_nope_head_dim"));
    size_t values = (size_t)json_integer_value(json_object_get(c->config, "v_head_dim"));
    size_t head = (keys + values) * rank;
    float *x = floats_of(t, &count), *k = must(malloc(count * sizeof *k)),
          *v = must(malloc(count * sizeof *v));
    const uint64_t k_shape[4] = {heads, rank, keys}, v_shape[4] = {heads, values, rank};
    char stem[200];
    int size = (int)(strstr(t->name, "kv_b_proj") - t->name);
    for (size_t h = 0; h < heads; h++) {
        float *lying = turned(x + h * head, keys, rank);
        memcpy(k + h * keys * rank, lying, keys * rank * sizeof *k);
        memcpy(v + h * values * rank, x + h * head + keys * rank, values * rank * sizeof *v);
        free(lying);
    }
    snprintf(stem, sizeof stem, "%.*sembed_q", size, t->name);
    put_matrices(c, stem, stem, 3, k_shape, k);
    snprintf(stem, sizeof stem, "%.*sunembed_out", size, t->name);
    put_matrices(c, stem, stem, 3, v_shape, v);
    for (size_t h = 0; h < heads; h++) {
        float *lying = turned(k + h * keys * rank, rank, keys);
        memcpy(x + h * head, lying, keys * rank * sizeof *x);
        memcpy(x + h * head + keys * rank, v + h * values * rank, values * rank * sizeof *x);
        free(lying);
    }
    put_plain(c, t->name, 2, t->shape, x);
    free(k);
    free(v);
    free(x);
}

/* ---- all ------------------------------------------------------------------------------------- */

static bool is_drafting(const struct convert *c, const char *name)
{
    unsigned layer;
    if (strncmp(name, "mtp.", 4) == 0) return true;
    return sscanf(name, "model.layers.%u.", &layer) == 1 && layer >= c->layers;
}

static void put_tensor(struct convert *c, const damage_tensor *t)
{
    char where[200];
    unsigned expert, part;
    bool stacks = c->recipe->format == PLANE_MLX || c->recipe->fused;
    if (is_drafting(c, t->name)) return;
    bool mlx = c->recipe->format == PLANE_MLX;
    if (mlx && t->dims == 3 && strstr(t->name, ".mlp.experts.")) {
        put_turned(c, t);
        return;
    }
    if (mlx && strstr(t->name, ".mlp.experts.") && ends(t->name, "_bias")) {
        put_expert_bias(c, t);
        return;
    }
    if (c->recipe->split_kv && ends(t->name, ".kv_b_proj.weight")) {
        put_split_kv(c, t);
        return;
    }
    if (split_expert(t->name, where, &expert, &part) && stacks) {
        if (expert == 0) put_stack(c, where, part);
    } else if (t->dims == 2 && ends(t->name, ".weight")) {
        put_matrix(c, t);
    } else {
        put_vector(c, t);
    }
}

static json_t *quantisation(const struct convert *c)
{
    const plane_recipe *r = c->recipe;
    if (r->compressed)
        return json_pack("{s:s, s:s, s:{s:{s:{s:i, s:s, s:s, s:b, s:o}}}}", "quant_method",
                         "compressed-tensors", "format", "float-quantized", "config_groups",
                         "group_0", "weights", "num_bits", 8, "type", "float", "strategy",
                         r->group ? "block" : "channel", "symmetric", 1, "block_structure",
                         r->group ? json_pack("[i,i]", (int)F8_SIDE, (int)F8_SIDE) : json_null());
    if (r->format == PLANE_FP8)
        return json_pack("{s:s, s:s, s:[i,i]}", "quant_method", "fp8", "fmt", "e4m3",
                         "weight_block_size", (int)F8_SIDE, (int)F8_SIDE);
    if (r->format == PLANE_MLX)
        return json_pack("{s:i, s:i, s:s}", "group_size", (int)r->group, "bits", (int)r->bits,
                         "mode", r->mxfp4 ? "mxfp4" : "affine");
    return json_pack("{s:s, s:s, s:{s:{s:[s], s:{s:i, s:s, s:s, s:b}}}, s:[s]}", "quant_method",
                     "compressed-tensors", "format", "pack-quantized", "config_groups", "group_0",
                     "targets", "Linear", "weights", "num_bits", (int)r->bits, "type", "int",
                     "strategy", r->group ? "group" : "channel", "symmetric", 1, "ignore",
                     "lm_head");
}

static void save(struct convert *c, const char *dir, st_writer *w, const json_t *config)
{
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    st_writer_save(w, path);
    snprintf(path, sizeof path, "%s/config.json", dir);
    if (json_dump_file(config, path, JSON_INDENT(1)) != 0) abort();
    st_writer_destroy(w);
    (void)c;
}

static void save_config(struct convert *c, const char *dir)
{
    const plane_recipe *r = c->recipe;
    if (c->plain) save(c, r->plain, c->plain, c->config);
    if (r->format != PLANE_MLX || r->bits > 0) {
        json_object_set_new(c->config, r->format == PLANE_MLX ? "quantization"
                                                              : "quantization_config",
                            must(quantisation(c)));
    }
    if (r->config) {
        json_t *more = must(json_loads(r->config, 0, NULL));
        json_object_update(c->config, more);
        json_decref(more);
    }
    save(c, dir, c->out, c->config);
}

void plane_convert(const char *model, const char *dir, const plane_recipe *recipe)
{
    struct convert c = {.recipe = recipe, .out = st_writer_create()};
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", model);
    c.config = must(json_load_file(path, 0, NULL));
    c.layers = (unsigned)json_integer_value(json_object_get(c.config, "num_hidden_layers"));
    const char *type = json_string_value(json_object_get(c.config, "model_type"));
    c.zero_centred = strcmp(type, "qwen3_next") == 0 || strncmp(type, "qwen3_5", 7) == 0;
    damage_model_load(&c.model, model);
    mkdir(dir, 0777);
    if (recipe->plain) {
        mkdir(recipe->plain, 0777);
        c.plain = st_writer_create();
    }
    for (size_t i = 0; i < c.model.count; i++)
        put_tensor(&c, &c.model.tensors[i]);
    if (recipe->add) recipe->add(c.out, recipe->ctx);
    save_config(&c, dir);
    damage_model_free(&c.model);
    json_decref(c.config);
}
