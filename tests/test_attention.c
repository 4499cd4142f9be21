/* The mixers that look back: grouped-query attention with every option, and latent attention. Each
 * against the same written naively in double, with weights as stored; then against itself: a token
 * at a time, in chunks, on several threads and with a cache that keeps only the window, all of
 * which must give the same bits. Scratch and caches are poisoned with NaN, between canaries. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "kern_check.h"
#include "model/run.h"
#include "quant/quant.h"
#include "test_env.h"

#define HIDDEN 48u
#define TOKENS_MAX 260u
#define TOKENS_LONG 1400u /* in three spans */

/* One layer, its weights as the blocks see them and as numbers. */
struct mixer {
    sl__model_desc desc;
    sl__layer_desc layer;
    sl__weight weights[1][SL_ROLE_LAYER_COUNT];
    const float *value[SL_ROLE_LAYER_COUNT]; /* [rows, cols] */
    sl__run run;
    sl_kv_type kv;
    sl__layer_state state;
    float *x; /* [TOKENS_LONG, HIDDEN] */
};

static uint32_t any(uint32_t least, uint32_t most)
{
    return least + random_u32() % (most - least + 1);
}

static void begin(struct mixer *m, sl__mixer kind)
{
    memset(m, 0, sizeof *m);
    m->desc = (sl__model_desc){.layer_count = 1, .hidden = HIDDEN, .eps = 1e-5f,
                               .layers = &m->layer};
    m->layer.mixer = kind;
    m->run.desc = &m->desc;
    m->run.kern = levels[random_u32() % level_count];
    m->run.layers = m->weights;
    m->x = random_floats(TOKENS_LONG * HIDDEN);
}

static void add_matrix(struct mixer *m, sl__role role, sl__dtype type, uint32_t rows, uint32_t cols)
{
    uint64_t bytes;
    sl_error err = {0};
    assert_true(sl__dtype_row_bytes(type, cols, &bytes));
    unsigned char *data = guarded((size_t)bytes * rows, random_u32() % 8);
    float *value = random_floats((size_t)rows * cols);
    for (uint32_t r = 0; r < rows; r++) {
        float *row = value + (size_t)r * cols;
        for (uint32_t c = 0; c < cols; c++)
            row[c] *= 2 / sqrtf((float)cols);
        assert_int_equal(
            sl__quant_row(&levels[0], type, row, cols, data + r * bytes, NULL, &err), SL_OK);
        levels[0].dequant_row(&(sl__rows){.dtype = type, .data = data + r * bytes}, 0, row, cols);
    }
    m->weights[0][role] = (sl__weight){.dtype = type, .rows = rows, .cols = cols,
                                       .row_bytes = (size_t)bytes, .data = data};
    m->value[role] = value;
}

static void add_vector(struct mixer *m, sl__role role, uint32_t n, float lowest, float highest)
{
    float *value = floats(n);
    for (uint32_t i = 0; i < n; i++)
        value[i] = random_float(lowest, highest);
    m->weights[0][role] = (sl__weight){.dtype = SL_F32, .rows = 1, .cols = n,
                                       .row_bytes = n * sizeof(float), .data = value};
    m->value[role] = value;
}

/* The block over `tokens` tokens of x in the portions given (0-terminated, then repeated), with
 * memory laid out for chunks of `chunk`: [tokens, HIDDEN]. */
static float *run_mixer(struct mixer *m, uint32_t tokens, uint32_t context, uint32_t chunk,
                        const uint32_t *portions, uint32_t threads)
{
    sl_error err = {0};
    float *out = floats((size_t)tokens * HIDDEN);
    const sl__scratch_needs needs = {.tokens = chunk, .context = context, .threads = threads};
    size_t scratch = sl__scratch_layout(&m->run.scratch, &m->desc, &needs, NULL);
    sl__scratch_layout(&m->run.scratch, &m->desc, &needs, floats(scratch / sizeof(float)));
    uint64_t state = sl__state_layout(NULL, &m->desc, m->kv, context, chunk, NULL);
    sl__state_layout(&m->state, &m->desc, m->kv, context, chunk,
                     floats((size_t)state / sizeof(float)));
    assert_int_equal(sl__pool_create(&m->run.pool, threads, &err), SL_OK);
    const uint32_t *portion = portions;
    for (uint32_t t = 0; t < tokens;) {
        uint32_t n = *portion < tokens - t ? *portion : tokens - t;
        assert_true(n > 0 && n <= chunk);
        memcpy(m->run.scratch.normed, m->x + (size_t)t * HIDDEN, n * HIDDEN * sizeof(float));
        sl__stretch stretch = {.layers = &m->state, .position = t, .tokens = n};
        const sl__chunk chunk_of_one = {&stretch, 1, n};
        if (m->layer.mixer == SL_MIXER_MLA) sl__mla_block(&m->run, 0, &chunk_of_one);
        else sl__attention_block(&m->run, 0, &chunk_of_one);
        memcpy(out + (size_t)t * HIDDEN, m->run.scratch.mixed, n * HIDDEN * sizeof(float));
        t += n;
        if (*++portion == 0) portion = portions;
    }
    sl__pool_destroy(m->run.pool);
    return out;
}

static const uint32_t one[] = {1, 0}, mixed[] = {7, 1, 1, 17, 2, 3, 0}, large[] = {40, 33, 0};

/* Of f32, f16 and q8: what rounding keys and values leaves of an output, which may cancel. */
static const double bounds[] = {1e-5, 2e-3, 5e-2};

static void check_against(struct mixer *m, const double *want, uint32_t tokens)
{
    float *got = run_mixer(m, tokens, tokens, 17, mixed, 1);
    for (uint32_t t = 0; t < tokens; t++)
        assert_near(got + (size_t)t * HIDDEN, want + (size_t)t * HIDDEN, HIDDEN, bounds[m->kv],
                    "a token");
    float *other = run_mixer(m, tokens, tokens, 1, one, 1);
    assert_bits(other, got, (size_t)tokens * HIDDEN, "a token at a time");
    other = run_mixer(m, tokens, tokens + 9, 40, large, 2);
    assert_bits(other, got, (size_t)tokens * HIDDEN, "large chunks");
}

/* ---- in double ------------------------------------------------------------------------------- */

static double *doubles(size_t n) { return guarded(n * sizeof(double), 0); }

/* y[rows] = W·x + bias */
static void exact_product(const struct mixer *m, sl__role role, const double *x, int bias,
                          double *y)
{
    const sl__weight *w = &m->weights[0][role];
    for (uint32_t r = 0; r < w->rows; r++) {
        y[r] = bias >= 0 ? (double)m->value[bias][r] : 0;
        for (uint32_t c = 0; c < w->cols; c++)
            y[r] += (double)m->value[role][(size_t)r * w->cols + c] * x[c];
    }
}

static void exact_norm(const struct mixer *m, sl__role role, double *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += x[i] * x[i];
    for (uint32_t i = 0; i < n; i++)
        x[i] *= (double)m->value[role][i] / sqrt(sum / n + (double)m->desc.eps);
}

static void exact_rope(const sl__rope_desc *rope, uint32_t position, double *x)
{
    float frequency[64];
    uint32_t half = rope->dim / 2;
    sl__rope_frequencies(rope, frequency);
    for (uint32_t i = 0; i < half; i++) {
        uint32_t first = rope->adjacent ? 2 * i : i, second = rope->adjacent ? 2 * i + 1 : i + half;
        double angle = (double)((float)position * frequency[i]), a = x[first], b = x[second];
        x[first] = (a * cos(angle) - b * sin(angle)) * (double)rope->amplitude;
        x[second] = (b * cos(angle) + a * sin(angle)) * (double)rope->amplitude;
    }
}

/* out[dim] = Σ softmax(q·k) v over rows [first, last]; k and v of one head, strides in doubles. */
static void exact_attend(const double *q, uint32_t q_dim, const double *k, size_t k_stride,
                         const double *v, size_t v_stride, uint32_t dim, uint32_t first,
                         uint32_t last, double scale, const float *sink, double *out)
{
    double p[TOKENS_LONG], largest = sink ? (double)*sink : -1e300, sum = 0;
    for (uint32_t t = first; t <= last; t++) {
        p[t] = 0;
        for (uint32_t i = 0; i < q_dim; i++)
            p[t] += q[i] * k[t * k_stride + i];
        p[t] *= scale;
        largest = fmax(largest, p[t]);
    }
    for (uint32_t t = first; t <= last; t++)
        sum += p[t] = exp(p[t] - largest);
    if (sink) sum += exp((double)*sink - largest);
    memset(out, 0, dim * sizeof *out);
    for (uint32_t t = first; t <= last; t++) {
        for (uint32_t i = 0; i < dim; i++)
            out[i] += p[t] / sum * v[t * v_stride + i];
    }
}

static void to_double(const float *x, uint32_t n, double *out)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = (double)x[i];
}

/* ---- grouped-query attention ----------------------------------------------------------------- */

static void exact_heads(const struct mixer *m, double *x, uint32_t heads, size_t stride,
                        uint32_t position, bool is_value, sl__role norm)
{
    const sl__attention_desc *a = &m->layer.attention;
    if (!is_value && a->qk_norm == SL_QK_NORM_WHOLE) exact_norm(m, norm, x, heads * a->head_dim);
    for (uint32_t h = 0; h < heads; h++) {
        double *head = x + h * stride;
        if (!is_value && a->qk_norm == SL_QK_NORM_HEAD) exact_norm(m, norm, head, a->head_dim);
        for (uint32_t i = 0; a->clip > 0 && i < a->head_dim; i++)
            head[i] = fmax(fmin(head[i], (double)a->clip), -(double)a->clip);
        if (!is_value) exact_rope(&a->rope, position, head);
    }
}

static double *exact_attention(const struct mixer *m, uint32_t tokens)
{
    const sl__attention_desc *a = &m->layer.attention;
    uint32_t dim = a->head_dim, stride = a->output_gate ? 2 * dim : dim;
    size_t kv = (size_t)a->kv_heads * dim;
    double x[HIDDEN], *q = doubles((size_t)a->heads * stride), *all = doubles(tokens * HIDDEN);
    double *k = doubles(tokens * kv), *v = doubles(tokens * kv);
    double *o = doubles((size_t)a->heads * dim);
    for (uint32_t t = 0; t < tokens; t++) {
        to_double(m->x + (size_t)t * HIDDEN, HIDDEN, x);
        exact_product(m, SL_ROLE_Q, x, a->bias ? SL_ROLE_Q_BIAS : -1, q);
        exact_product(m, SL_ROLE_K, x, a->bias ? SL_ROLE_K_BIAS : -1, k + t * kv);
        exact_product(m, SL_ROLE_V, x, a->bias ? SL_ROLE_V_BIAS : -1, v + t * kv);
        exact_heads(m, q, a->heads, stride, t, false, SL_ROLE_Q_NORM);
        exact_heads(m, k + t * kv, a->kv_heads, dim, t, false, SL_ROLE_K_NORM);
        exact_heads(m, v + t * kv, a->kv_heads, dim, t, true, SL_ROLE_V);
        uint32_t first = a->window > 0 && t + 1 > a->window ? t + 1 - a->window : 0;
        for (uint32_t h = 0; h < a->heads; h++) {
            size_t at = (size_t)(h / (a->heads / a->kv_heads)) * dim;
            const float *sink = a->sinks ? m->value[SL_ROLE_SINKS] + h : NULL;
            exact_attend(q + (size_t)h * stride, dim, k + at, kv, v + at, kv, dim, first, t,
                         (double)a->scale, sink, o + (size_t)h * dim);
            for (uint32_t i = 0; a->output_gate && i < dim; i++)
                o[(size_t)h * dim + i] /= 1 + exp(-q[(size_t)h * stride + dim + i]);
        }
        exact_product(m, SL_ROLE_O, o, a->output_bias ? SL_ROLE_O_BIAS : -1, all + t * HIDDEN);
    }
    return all;
}

static sl__rope_desc random_rope(uint32_t most)
{
    sl__rope_desc rope = {.dim = any(0, most / 2) * 2, .adjacent = any(0, 1) == 1, .theta = 1e4f,
                          .amplitude = 1};
    if (any(0, 1) == 1) {
        rope.factor = 4;
        rope.original_context = 16;
        rope.beta_fast = 8;
        rope.beta_slow = 1;
        rope.truncate = any(0, 1) == 1;
        rope.amplitude = 1.25f;
    }
    return rope;
}

static void add_attention_weights(struct mixer *m, sl__dtype type)
{
    const sl__attention_desc *a = &m->layer.attention;
    uint32_t q = a->heads * a->head_dim, kv = a->kv_heads * a->head_dim;
    uint32_t q_rows = a->output_gate ? 2 * q : q;
    bool whole = a->qk_norm == SL_QK_NORM_WHOLE;
    add_matrix(m, SL_ROLE_Q, type, q_rows, HIDDEN);
    add_matrix(m, SL_ROLE_K, type, kv, HIDDEN);
    add_matrix(m, SL_ROLE_V, type, kv, HIDDEN);
    add_matrix(m, SL_ROLE_O, type, HIDDEN, q);
    if (a->qk_norm != SL_QK_NORM_NONE) {
        add_vector(m, SL_ROLE_Q_NORM, whole ? q : a->head_dim, 0.5f, 1.5f);
        add_vector(m, SL_ROLE_K_NORM, whole ? kv : a->head_dim, 0.5f, 1.5f);
    }
    if (a->bias) {
        add_vector(m, SL_ROLE_Q_BIAS, q_rows, -1, 1);
        add_vector(m, SL_ROLE_K_BIAS, kv, -1, 1);
        add_vector(m, SL_ROLE_V_BIAS, kv, -1, 1);
    }
    if (a->output_bias) add_vector(m, SL_ROLE_O_BIAS, HIDDEN, -1, 1);
    if (a->sinks) add_vector(m, SL_ROLE_SINKS, a->heads, -2, 2);
}

/* Options by the bits of `options`, so that every one meets every other. */
static void random_attention(struct mixer *m, uint32_t options, sl__dtype type)
{
    static const uint32_t windows[] = {1, 2, 5, 8, 23};
    begin(m, SL_MIXER_ATTENTION);
    sl__attention_desc *a = &m->layer.attention;
    a->kv_heads = any(1, 3);
    a->heads = a->kv_heads * any(1, 3);
    a->head_dim = any(2, 40);
    a->rope = random_rope(a->head_dim);
    a->scale = 1 / sqrtf((float)a->head_dim);
    a->bias = options & 1;
    a->output_bias = options & 2;
    a->sinks = options & 4;
    a->window = options & 8 ? windows[random_u32() % 5] : 0;
    a->clip = options & 16 ? 0.7f : 0;
    a->output_gate = options & 32;
    a->qk_norm = (sl__qk_norm)(options / 64 % 3);
    if (a->output_gate && a->qk_norm == SL_QK_NORM_WHOLE) a->output_gate = false;
    add_attention_weights(m, type);
}

static void test_attention(void **state)
{
    (void)state;
    check_seed(21);
    for (uint32_t options = 0; options < 64 * 3; options += test_fast() ? 5 : 1) {
        struct mixer m;
        random_attention(&m, options, options % 2 == 0 ? SL_F32 : SL_Q8);
        m.kv = (sl_kv_type)any(0, 2);
        uint32_t tokens = any(1, 45);
        check_against(&m, exact_attention(&m, tokens), tokens);
        check_buffers();
    }
}

/* A cache of the window alone against one that keeps every position. */
static void test_window_cache(void **state)
{
    (void)state;
    check_seed(22);
    static const uint32_t windows[] = {1, 2, 7, 16, 40}, chunks[] = {1, 4, 17};
    static const uint32_t fours[] = {4, 1, 3, 4, 4, 2, 0};
    for (unsigned i = 0; i < 15; i++) {
        struct mixer m;
        random_attention(&m, 8 | 4 | 64, SL_F32);
        uint32_t window = m.layer.attention.window = windows[i % 5], chunk = chunks[i / 5];
        m.kv = (sl_kv_type)(i % 3);
        const uint32_t *portions = chunk == 1 ? one : chunk == 4 ? fours : mixed;
        float *got = run_mixer(&m, TOKENS_MAX, TOKENS_MAX, chunk, portions, 1);
        assert_int_equal(m.state.rows, (window - 1 + 31 + 2 * chunk + 31) / 32 * 32);
        assert_true(m.state.base + m.state.rows >= TOKENS_MAX);
        assert_true(m.state.base > 0);
        float *want = run_mixer(&m, TOKENS_MAX, TOKENS_MAX, TOKENS_MAX, large, 1);
        assert_int_equal(m.state.rows, (TOKENS_MAX + 31) / 32 * 32);
        assert_int_equal(m.state.base, 0);
        assert_bits(got, want, TOKENS_MAX * HIDDEN, "a cache of the window");
        double *exact = exact_attention(&m, TOKENS_MAX);
        for (uint32_t t = 0; t < TOKENS_MAX; t++)
            assert_near(got + (size_t)t * HIDDEN, exact + (size_t)t * HIDDEN, HIDDEN,
                        bounds[m.kv], "a token");
        check_buffers();
    }
}

/* Enough work for threads to take part. */
static void test_threads(void **state)
{
    (void)state;
    check_seed(23);
    static const uint32_t portions[] = {130, 1, 129, 0};
    struct mixer m;
    begin(&m, SL_MIXER_ATTENTION);
    m.layer.attention = (sl__attention_desc){
        .heads = 8, .kv_heads = 2, .head_dim = 64, .scale = 0.125f, .bias = true,
        .output_bias = true, .sinks = true, .window = 100,
        .rope = {.dim = 64, .theta = 1e4f, .amplitude = 1}};
    add_attention_weights(&m, SL_Q8);
    float *want = run_mixer(&m, TOKENS_MAX, TOKENS_MAX, 130, portions, 1);
    float *got = run_mixer(&m, TOKENS_MAX, TOKENS_MAX, 130, portions, 3);
    assert_bits(got, want, TOKENS_MAX * HIDDEN, "three threads");
    check_buffers();
}

/* ---- latent attention ------------------------------------------------------------------------ */

/* Keys and values of every head made from the latents, as the definition has it. */
static double *exact_mla(const struct mixer *m, uint32_t tokens)
{
    const sl__mla_desc *d = &m->layer.mla;
    uint32_t rope = d->rope.dim, q_dim = d->nope_dim + rope, head = d->nope_dim + d->value_dim;
    size_t up = (size_t)d->heads * head, keys = (size_t)d->heads * q_dim;
    double x[HIDDEN], *down = doubles(d->q_rank), *q = doubles(keys);
    double *kv = doubles(d->kv_rank + rope), *opened = doubles(tokens * up);
    double *k = doubles(tokens * keys), *o = doubles((size_t)d->heads * d->value_dim);
    double *all = doubles(tokens * HIDDEN);
    for (uint32_t t = 0; t < tokens; t++) {
        to_double(m->x + (size_t)t * HIDDEN, HIDDEN, x);
        if (d->q_rank > 0) {
            exact_product(m, SL_ROLE_MLA_Q_DOWN, x, -1, down);
            exact_norm(m, SL_ROLE_MLA_Q_NORM, down, d->q_rank);
            exact_product(m, SL_ROLE_MLA_Q_UP, down, -1, q);
        } else {
            exact_product(m, SL_ROLE_Q, x, -1, q);
        }
        exact_product(m, SL_ROLE_MLA_KV_DOWN, x, -1, kv);
        exact_norm(m, SL_ROLE_MLA_KV_NORM, kv, d->kv_rank);
        exact_rope(&d->rope, t, kv + d->kv_rank);
        exact_product(m, SL_ROLE_MLA_KV_UP, kv, -1, opened + t * up);
        for (uint32_t h = 0; h < d->heads; h++) {
            double *key = k + t * keys + (size_t)h * q_dim;
            memcpy(key, opened + t * up + (size_t)h * head, d->nope_dim * sizeof *key);
            memcpy(key + d->nope_dim, kv + d->kv_rank, rope * sizeof *key);
            exact_rope(&d->rope, t, q + (size_t)h * q_dim + d->nope_dim);
            exact_attend(q + (size_t)h * q_dim, q_dim, k + (size_t)h * q_dim, keys,
                         opened + (size_t)h * head + d->nope_dim, up, d->value_dim, 0, t,
                         (double)d->scale, NULL, o + (size_t)h * d->value_dim);
        }
        exact_product(m, SL_ROLE_O, o, -1, all + t * HIDDEN);
    }
    return all;
}

static void add_mla_weights(struct mixer *m, sl__dtype type)
{
    const sl__mla_desc *d = &m->layer.mla;
    uint32_t q = d->heads * (d->nope_dim + d->rope.dim);
    if (d->q_rank > 0) {
        add_matrix(m, SL_ROLE_MLA_Q_DOWN, type, d->q_rank, HIDDEN);
        add_vector(m, SL_ROLE_MLA_Q_NORM, d->q_rank, 0.5f, 1.5f);
        add_matrix(m, SL_ROLE_MLA_Q_UP, type, q, d->q_rank);
    } else {
        add_matrix(m, SL_ROLE_Q, type, q, HIDDEN);
    }
    add_matrix(m, SL_ROLE_MLA_KV_DOWN, type, d->kv_rank + d->rope.dim, HIDDEN);
    add_vector(m, SL_ROLE_MLA_KV_NORM, d->kv_rank, 0.5f, 1.5f);
    add_matrix(m, SL_ROLE_MLA_KV_UP, type, d->heads * (d->nope_dim + d->value_dim), d->kv_rank);
    add_matrix(m, SL_ROLE_O, type, HIDDEN, d->heads * d->value_dim);
}

static void test_mla(void **state)
{
    (void)state;
    check_seed(24);
    static const uint32_t ranks[] = {4, 32, 64, 100, 130, 192};
    static const sl__dtype types[] = {SL_F32, SL_Q8, SL_BF16};
    for (uint32_t i = 0; i < 60; i++) {
        struct mixer m;
        begin(&m, SL_MIXER_MLA);
        m.kv = (sl_kv_type)any(0, 2);
        sl__mla_desc *d = &m.layer.mla;
        d->heads = any(1, 5);
        d->q_rank = i % 2 == 0 ? any(1, 70) : 0;
        d->kv_rank = ranks[i % 6];
        d->nope_dim = any(1, 40);
        d->value_dim = any(1, 40);
        d->rope = random_rope(24);
        d->scale = 1 / sqrtf((float)(d->nope_dim + d->rope.dim));
        add_mla_weights(&m, types[i / 2 % 3]);
        uint32_t tokens = any(1, 60);
        check_against(&m, exact_mla(&m, tokens), tokens);
        check_buffers();
    }
}

static void test_mla_threads(void **state)
{
    (void)state;
    check_seed(25);
    static const uint32_t portions[] = {130, 1, 129, 0};
    struct mixer m;
    begin(&m, SL_MIXER_MLA);
    m.layer.mla = (sl__mla_desc){.heads = 6, .q_rank = 40, .kv_rank = 64, .nope_dim = 32,
                                 .value_dim = 24, .scale = 0.15f,
                                 .rope = {.dim = 16, .adjacent = true, .theta = 1e4f,
                                          .amplitude = 1}};
    add_mla_weights(&m, SL_Q8);
    float *want = run_mixer(&m, TOKENS_MAX, TOKENS_MAX, 130, portions, 1);
    float *got = run_mixer(&m, TOKENS_MAX, TOKENS_MAX, 130, portions, 3);
    assert_bits(got, want, TOKENS_MAX * HIDDEN, "three threads");
    double *exact = exact_mla(&m, TOKENS_MAX);
    for (uint32_t t = 0; t < TOKENS_MAX; t++)
        assert_near(got + (size_t)t * HIDDEN, exact + (size_t)t * HIDDEN, HIDDEN, 1e-5, "a token");
    check_buffers();
}

/* ---- several spans --------------------------------------------------------------------------- */

/* The last tokens of a long sequence one by one, which are split along the context, and a few at a
 * time, which are split in waves; on any number of threads; against all in two large chunks. */
static void check_long(struct mixer *m)
{
    const uint32_t least = test_fast() ? 3 : 1;
    static const uint32_t few[] = {700, 683, 1, 1, 3, 2, 3, 1, 3, 3, 0};
    static const uint32_t whole[] = {700, 700, 0};
    float *want = run_mixer(m, TOKENS_LONG, TOKENS_LONG, 700, whole, 1);
    for (uint32_t threads = least; threads <= 3; threads++) {
        float *got = run_mixer(m, TOKENS_LONG, 2600, 700, few, threads);
        assert_bits(got, want, TOKENS_LONG * HIDDEN, "the last tokens apart");
    }
    if (test_fast()) { /* in double it is billions of sums */
        check_buffers();
        return;
    }
    double *exact = m->layer.mixer == SL_MIXER_MLA ? exact_mla(m, TOKENS_LONG)
                                                   : exact_attention(m, TOKENS_LONG);
    for (uint32_t t = 0; t < TOKENS_LONG; t++)
        assert_near(want + (size_t)t * HIDDEN, exact + (size_t)t * HIDDEN, HIDDEN, bounds[m->kv],
                    "a token");
    check_buffers();
}

static void test_long(void **state)
{
    (void)state;
    check_seed(27);
    for (unsigned i = test_fast() ? 1 : 0; i < 6; i += test_fast() ? 2 : 1) {
        struct mixer m;
        begin(&m, i < 4 ? SL_MIXER_ATTENTION : SL_MIXER_MLA);
        m.kv = (sl_kv_type)(i % 3);
        m.layer.attention = (sl__attention_desc){
            .heads = 8, .kv_heads = 2, .head_dim = 48, .scale = 0.15f, .sinks = i % 2 == 1,
            .output_gate = i % 2 == 0, .window = i == 3 ? 900 : 0,
            .rope = {.dim = 32, .theta = 1e4f, .amplitude = 1}};
        m.layer.mla = (sl__mla_desc){.heads = i == 4 ? 6 : 70, .kv_rank = 64, .nope_dim = 8,
                                     .value_dim = 8, .scale = 0.2f,
                                     .rope = {.dim = 16, .theta = 1e4f, .amplitude = 1}};
        if (i < 4) add_attention_weights(&m, SL_Q8);
        else add_mla_weights(&m, SL_Q8);
        check_long(&m);
    }
}

/* ---- state ----------------------------------------------------------------------------------- */

/* Layers lie one after the other and do not overlap; only what should grow does. */
static void test_state_layout(void **state)
{
    (void)state;
    sl__layer_desc layers[] = {
        {.mixer = SL_MIXER_ATTENTION, .attention = {.kv_heads = 2, .head_dim = 8}},
        {.mixer = SL_MIXER_ATTENTION, .attention = {.kv_heads = 3, .head_dim = 5, .window = 10}},
        {.mixer = SL_MIXER_MLA, .mla = {.kv_rank = 24, .rope = {.dim = 6}}},
        {.mixer = SL_MIXER_DELTA, .delta = {.key_heads = 1, .value_heads = 2, .key_dim = 4,
                                            .value_dim = 3, .conv_width = 4}},
    };
    const sl__model_desc desc = {.layer_count = 4, .layers = layers};
    sl__layer_state s[4];
    uint64_t bytes = sl__state_layout(NULL, &desc, SL_KV_F32, 100, 8, NULL);
    /* In blocks of 32 positions, four of them, and two for the window of 9 + 31 + 16; values in
     * panels of 32 channels; 24 and 42 floats, each rounded up to 64 bytes. */
    uint64_t block = 32 * 4;
    assert_int_equal(bytes, 2 * 4 * (8 + 32) * block + 3 * 2 * (5 + 32) * block +
                                4 * 30 * block + 128 + 192);
    float *memory = floats((size_t)bytes / 4);
    assert_int_equal(sl__state_layout(s, &desc, SL_KV_F32, 100, 8, memory), bytes);
    assert_ptr_equal(s[0].k, memory);
    assert_int_equal(s[0].rows, 128);
    assert_int_equal(s[1].rows, 64);
    assert_int_equal(s[2].rows, 128);
    assert_int_equal(s[0].k_head_bytes, 4 * 8 * block);
    assert_int_equal(s[0].v_head_bytes, 4 * 32 * block);
    assert_ptr_equal(s[0].v, s[0].k + 2 * s[0].k_head_bytes);
    assert_ptr_equal(s[1].k, s[0].v + 2 * s[0].v_head_bytes);
    assert_ptr_equal(s[1].v, s[1].k + 3 * s[1].k_head_bytes);
    assert_ptr_equal(s[2].k, s[1].v + 3 * s[1].v_head_bytes);
    assert_null(s[2].v);
    assert_ptr_equal(s[3].delta, s[2].k + s[2].k_head_bytes);
    assert_true(s[3].conv >= s[3].delta + 24 && s[3].conv + 42 <= memory + bytes / 4);
    s[1].base = 64;
    sl__state_reset(s, &desc);
    assert_int_equal(s[1].base, 0);
    for (unsigned i = 0; i < 24; i++)
        assert_true(s[3].delta[i] == 0);
    for (unsigned i = 0; i < 42; i++)
        assert_true(s[3].conv[i] == 0);
    assert_true(isnan(memory[0]));

    /* Twice the context: twice what grows, and no more of the others. Heads of 8 channels have
     * values of 32; q8 has a scale a position for every 64 channels. */
    static const uint64_t tokens[] = {2 * (8 + 32) * 4 + 30 * 4, 2 * (8 + 32) * 2 + 30 * 2,
                                      2 * (8 + 4 + 32 + 4) + 30 + 4};
    for (unsigned kv = 0; kv < 3; kv++) {
        uint64_t growing = 0;
        for (unsigned i = 0; i < 4; i++)
            growing += sl__state_token_bytes(&layers[i], (sl_kv_type)kv);
        assert_int_equal(growing, tokens[kv]);
        assert_int_equal(sl__state_layout(NULL, &desc, (sl_kv_type)kv, 6400, 8, NULL) -
                             sl__state_layout(NULL, &desc, (sl_kv_type)kv, 3200, 8, NULL),
                         3200 * growing);
    }
    layers[0].attention.kv_heads = layers[0].attention.head_dim = UINT32_MAX;
    for (unsigned kv = 0; kv < 3; kv++)
        assert_true(sl__state_layout(NULL, &desc, (sl_kv_type)kv, UINT32_MAX, 8, NULL) ==
                    UINT64_MAX);
    check_buffers();
}

/* The numbers of a position in a cache of f32, head `head`: 2 of the key, 3 of the value. */
static void read_back(const sl__layer_state *s, uint32_t head, uint32_t position, float out[5])
{
    size_t row = position - s->base, block = row / 32, slot = row % 32;
    const char *k = s->k + head * s->k_head_bytes, *v = s->v + head * s->v_head_bytes;
    for (unsigned i = 0; i < 2; i++)
        memcpy(&out[i], k + (block * 2 * 32 + i * 32 + slot) * sizeof(float), sizeof(float));
    for (unsigned i = 0; i < 2; i++)
        memcpy(&out[2 + i], v + (block * 32 * 32 + slot * 32 + i) * sizeof(float), sizeof(float));
    memcpy(&out[4], v + (block * 32 * 32 + slot * 32 + 31) * sizeof(float), sizeof(float));
}

/* A windowed cache through a long sequence: the positions that a token sees are always there. */
static void test_state_rows(void **state)
{
    (void)state;
    check_seed(26);
    for (uint32_t window = 1; window < 120; window += 1 + window / 3) {
        sl__layer_desc layer = {.mixer = SL_MIXER_ATTENTION,
                                .attention = {.kv_heads = 2, .head_dim = 2, .window = window}};
        const sl__model_desc desc = {.layer_count = 1, .layers = &layer};
        const uint32_t chunk = 1 + window % 6 * 13, context = 900;
        sl__layer_state s;
        uint64_t bytes = sl__state_layout(NULL, &desc, SL_KV_F32, context, chunk, NULL);
        sl__state_layout(&s, &desc, SL_KV_F32, context, chunk, floats((size_t)bytes / 4));
        float *k = floats(chunk * 4), *v = floats(chunk * 5);
        for (uint32_t position = 0; position < context;) {
            uint32_t n = any(1, chunk);
            if (n > context - position) n = context - position;
            sl__state_make_room(&s, &layer, position, n);
            assert_int_equal(s.base % 32, 0);
            assert_true(s.base <= position && position + n - s.base <= s.rows);
            for (uint32_t i = 0; i < n * 4; i++) {
                k[i] = (float)((position + i / 4) * 4 + i % 4);
                v[i / 4 * 5 + i % 4] = -k[i];
            }
            for (uint32_t i = 0; i < sl__state_blocks(position, n) * 2; i++)
                sl__state_store(&s, &layer, i % 2, i / 2, position, n, k, 4, v, 5);
            uint32_t seen = position + 1 < window ? position + 1 : window;
            for (uint32_t i = 0; i < 2 * (seen + n - 1); i++) {
                uint32_t at = position + 1 - seen + i / 2;
                float got[5], want = (float)(at * 4 + i % 2 * 2);
                read_back(&s, i % 2, at, got);
                assert_true(got[0] == want && got[1] == want + 1);
                assert_true(got[2] == -want && got[3] == -want - 1 && got[4] == 0);
            }
            position += n;
        }
        check_buffers();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_window_cache),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_mla),
        cmocka_unit_test(test_mla_threads),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_state_layout),
        cmocka_unit_test(test_state_rows),
    };
    return cmocka_run_group_tests(tests, find_levels, NULL);
}
