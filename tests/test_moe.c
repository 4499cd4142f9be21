/* The feed-forward block over checkpoints made here: one set of weights in every layout that
 * experts are published in, read through the store and the cache, against the plainest way to
 * compute it.
 *
 * The weights are MXFP4 numbers, so that every layout holds exactly the same ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/pages.h"
#include "model/family.h"
#include "model/run.h"
#include "st_writer.h"
#include "test_env.h"

#define HIDDEN  96u
#define INNER   160u /* 320 rows of gate and up: more than one task, the last not whole */
#define EXPERTS 6u
#define TOP_K   3u
#define SHARED  40u
#define TOKENS  7u

static char temp[1024];
static test_rng rng;

/* ---- weights --------------------------------------------------------------------------------- */

typedef struct plane {
    uint32_t rows, cols;
    uint8_t *codes, *scales; /* [EXPERTS·rows, cols/32, 16], [EXPERTS·rows, cols/32] */
    float *values;           /* [EXPERTS·rows, cols] */
} plane;

/* Gate and up interleaved; down; and what is resident. */
static plane both, down;
static float router[EXPERTS * HIDDEN], router_bias[EXPERTS], correction[EXPERTS];
static float in_bias[EXPERTS * 2 * INNER], out_bias[EXPERTS * HIDDEN];
static float shared_in[2 * SHARED * HIDDEN], shared_down[HIDDEN * SHARED], shared_gate[HIDDEN];
static float input[TOKENS * HIDDEN];

static void *room(size_t size)
{
    void *p = calloc(1, size);
    assert_non_null(p);
    return p;
}

static plane make_plane(uint32_t rows, uint32_t cols)
{
    static const float value[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    size_t blocks = (size_t)EXPERTS * rows * cols / 32;
    plane p = {rows, cols, room(blocks * 16), room(blocks), room(blocks * 32 * sizeof(float))};
    for (size_t b = 0; b < blocks; b++) {
        p.scales[b] = (uint8_t)(121 + test_rng_below(&rng, 4));
        for (unsigned i = 0; i < 32; i++) {
            unsigned code = test_rng_below(&rng, 16);
            float f = ldexpf(value[code & 7], p.scales[b] - 127);
            p.codes[b * 16 + i / 2] |= (uint8_t)(code << (i % 2 * 4));
            p.values[b * 32 + i] = code & 8 ? -f : f;
        }
    }
    return p;
}

static void fill(float *x, size_t n, float size)
{
    for (size_t i = 0; i < n; i++)
        x[i] = size * sl__bf16_to_f32(sl__f32_to_bf16(test_rng_normal(&rng)));
}

static int make_weights(void **state)
{
    (void)state;
    test_temp_dir(temp, sizeof temp);
    rng.state = 77;
    both = make_plane(2 * INNER, HIDDEN);
    down = make_plane(HIDDEN, INNER);
    fill(router, EXPERTS * HIDDEN, 0.25f);
    fill(router_bias, EXPERTS, 0.5f);
    fill(correction, EXPERTS, 0.5f);
    fill(in_bias, EXPERTS * 2 * INNER, 0.5f);
    fill(out_bias, EXPERTS * HIDDEN, 0.5f);
    fill(shared_in, sizeof shared_in / sizeof(float), 0.125f);
    fill(shared_down, sizeof shared_down / sizeof(float), 0.125f);
    fill(shared_gate, HIDDEN, 0.125f);
    fill(input, TOKENS * HIDDEN, 1);
    return 0;
}

static int drop_weights(void **state)
{
    (void)state;
    test_remove_tree(temp);
    const plane planes[] = {both, down};
    for (unsigned i = 0; i < 2; i++) {
        free(planes[i].codes);
        free(planes[i].scales);
        free(planes[i].values);
    }
    return 0;
}

/* Row r of gate then up, or of up and gate interleaved, in the interleaved numbering. */
static uint32_t row_in_both(bool interleaved, uint32_t r)
{
    if (interleaved) return r;
    return r < INNER ? 2 * r : 2 * (r - INNER) + 1;
}

/* ---- checkpoints ----------------------------------------------------------------------------- */

typedef enum layout { FUSED, SINGLE, INTERLEAVED, TRANSPOSED, BLOCKS, BLOCKS_INTERLEAVED } layout;

static bool is_interleaved(layout l)
{
    return l == INTERLEAVED || l == TRANSPOSED || l == BLOCKS_INTERLEAVED;
}

/* Rows of `size` bytes put into the order of the layout; malloc'd. */
static void *reordered(const void *rows, size_t size, bool interleaved)
{
    char *out = room((size_t)EXPERTS * 2 * INNER * size);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        for (uint32_t r = 0; r < 2 * INNER; r++) {
            size_t from = (size_t)e * 2 * INNER + row_in_both(interleaved, r);
            memcpy(out + ((size_t)e * 2 * INNER + r) * size, (const char *)rows + from * size,
                   size);
        }
    }
    return out;
}

static float *turned(const float *w, uint32_t rows, uint32_t cols)
{
    float *out = room((size_t)EXPERTS * rows * cols * sizeof *out);
    for (uint32_t e = 0; e < EXPERTS; e++) {
        for (uint32_t i = 0; i < rows * cols; i++)
            out[(size_t)e * rows * cols + i % cols * rows + i / cols] =
                w[(size_t)e * rows * cols + i];
    }
    return out;
}

static void add_blocks(st_writer *w, const char *name, const plane *p, const uint8_t *codes,
                       const uint8_t *scales)
{
    char text[64];
    size_t n = (size_t)EXPERTS * p->rows * p->cols / 32;
    snprintf(text, sizeof text, "L0.%s_blocks", name);
    st_writer_add(w, text, "U8", 4, (uint64_t[]){EXPERTS, p->rows, p->cols / 32, 16}, codes,
                  n * 16);
    snprintf(text, sizeof text, "L0.%s_scales", name);
    st_writer_add(w, text, "U8", 3, (uint64_t[]){EXPERTS, p->rows, p->cols / 32}, scales, n);
}

static void add_single(st_writer *w, const float *gate_up)
{
    static const char *const parts[] = {"gate", "up", "down"};
    for (uint32_t i = 0; i < EXPERTS * 3; i++) {
        char name[64];
        uint32_t e = i / 3, part = i % 3;
        const float *data = part == 2 ? down.values + (size_t)e * HIDDEN * INNER
                                      : gate_up + ((size_t)e * 2 + part) * INNER * HIDDEN;
        snprintf(name, sizeof name, "L0.e%u.%s", e, parts[part]);
        const uint64_t shape[] = {part == 2 ? HIDDEN : INNER, part == 2 ? INNER : HIDDEN};
        st_writer_add_bf16(w, name, 2, shape, data);
    }
}

static void write_checkpoint(layout l, bool f32)
{
    char path[1200];
    st_writer *w = st_writer_create();
    bool inter = is_interleaved(l);
    float *gate_up = reordered(both.values, HIDDEN * sizeof(float), inter);
    void (*add)(st_writer *, const char *, uint32_t, const uint64_t *, const float *) =
        f32 ? st_writer_add_f32 : st_writer_add_bf16;
    if (l == BLOCKS || l == BLOCKS_INTERLEAVED) {
        uint8_t *codes = reordered(both.codes, HIDDEN / 2, inter);
        uint8_t *scales = reordered(both.scales, HIDDEN / 32, inter);
        add_blocks(w, "gate_up", &both, codes, scales);
        add_blocks(w, "down", &down, down.codes, down.scales);
        free(codes);
        free(scales);
    } else if (l == SINGLE) {
        add_single(w, gate_up);
    } else if (l == TRANSPOSED) {
        float *a = turned(gate_up, 2 * INNER, HIDDEN), *b = turned(down.values, HIDDEN, INNER);
        add(w, "L0.gate_up", 3, (uint64_t[]){EXPERTS, HIDDEN, 2 * INNER}, a);
        add(w, "L0.down", 3, (uint64_t[]){EXPERTS, INNER, HIDDEN}, b);
        free(a);
        free(b);
    } else {
        add(w, "L0.gate_up", 3, (uint64_t[]){EXPERTS, 2 * INNER, HIDDEN}, gate_up);
        add(w, "L0.down", 3, (uint64_t[]){EXPERTS, HIDDEN, INNER}, down.values);
    }
    snprintf(path, sizeof path, "%s/model.safetensors", temp);
    st_writer_save(w, path);
    snprintf(path, sizeof path, "%s/config.json", temp);
    test_write_file(path, "{}", 2);
    st_writer_destroy(w);
    free(gate_up);
}

static void layer_prefix(const sl__model_desc *desc, uint32_t layer, char out[128])
{
    (void)desc;
    snprintf(out, 128, "L%u.", layer);
}

static sl__family family_of(layout l)
{
    return (sl__family){.name = "test", .layer_prefix = layer_prefix,
                        .experts = {.fused_gate_up = "gate_up", .fused_down = "down",
                                    .fused_transposed = l == TRANSPOSED,
                                    .single = {"e%u.gate", "e%u.up", "e%u.down"}}};
}

/* ---- a block --------------------------------------------------------------------------------- */

typedef struct block {
    sl__layer_desc layer;
    sl__model_desc desc;
    sl__weight weights[1][SL_ROLE_LAYER_COUNT];
    sl__run run;
    sl__io *io;
    void *scratch;
    size_t scratch_bytes;
    float *ordered_bias;
    sl_error err;
} block;

static sl__weight weight(const void *data, uint32_t rows, uint32_t cols)
{
    return (sl__weight){.dtype = SL_F32, .rows = rows, .cols = cols,
                        .row_bytes = cols * sizeof(float), .data = data};
}

static void set_weights(block *b)
{
    sl__weight *w = b->weights[0];
    b->ordered_bias = reordered(in_bias, sizeof(float), b->layer.moe.interleaved);
    w[SL_ROLE_ROUTER] = weight(router, EXPERTS, HIDDEN);
    w[SL_ROLE_ROUTER_BIAS] = weight(router_bias, 1, EXPERTS);
    w[SL_ROLE_ROUTER_CORRECTION] = weight(correction, 1, EXPERTS);
    w[SL_ROLE_EXPERT_IN_BIAS] = weight(b->ordered_bias, EXPERTS, 2 * INNER);
    if (!b->layer.moe.interleaved) { /* apart, but here in the same rows */
        sl__weight *gate = &w[SL_ROLE_EXPERT_IN_BIAS], *up = &w[SL_ROLE_EXPERT_UP_BIAS];
        gate->cols = INNER;
        *up = *gate;
        up->data = b->ordered_bias + INNER;
    }
    w[SL_ROLE_EXPERT_OUT_BIAS] = weight(out_bias, EXPERTS, HIDDEN);
    w[SL_ROLE_SHARED_GATE_PROJ] = weight(shared_in, SHARED, HIDDEN);
    w[SL_ROLE_SHARED_UP_PROJ] = weight(shared_in + SHARED * HIDDEN, SHARED, HIDDEN);
    w[SL_ROLE_SHARED_DOWN_PROJ] = weight(shared_down, HIDDEN, SHARED);
    w[SL_ROLE_SHARED_GATE] = weight(shared_gate, 1, HIDDEN);
}

static void must(sl_status status, const sl_error *err)
{
    if (status != SL_OK) fail_msg("%s: %s", sl_status_name(status), err->message);
}

static void open_block(block *b, const sl__moe_desc *moe, layout l, uint32_t threads)
{
    sl__family family = family_of(l);
    memset(b, 0, sizeof *b);
    b->layer.moe = *moe;
    b->layer.moe.interleaved = is_interleaved(l);
    b->desc = (sl__model_desc){.layer_count = 1, .hidden = HIDDEN, .layers = &b->layer};
    b->run = (sl__run){.desc = &b->desc, .layers = b->weights};
    sl__kern_init(&b->run.kern, NULL);
    set_weights(b);
    must(sl__store_open(&b->run.store, temp, &b->err), &b->err);
    must(sl__model_bind_experts(b->run.store, &family, &b->desc, 0, &b->err), &b->err);
    must(sl__io_create(&b->io, SL_IO_KIND_PREAD, &(sl__io_options){.depth = 2}, &b->err), &b->err);
    must(sl__pool_create(&b->run.pool, threads, &b->err), &b->err);
    const sl__cache_options cache = {.budget_bytes = sl__cache_minimum(b->run.store, 1),
                                     .verify = SL_VERIFY_FIRST, .layer_count = 1};
    must(sl__cache_create(&b->run.cache, b->run.store, b->io, &cache, &b->err), &b->err);
    const sl__scratch_needs needs = {.tokens = TOKENS, .context = 1, .threads = threads,
                                     .plain_experts = true};
    b->scratch_bytes = sl__scratch_layout(&b->run.scratch, &b->desc, &needs, NULL);
    b->scratch = sl__pages_alloc(b->scratch_bytes);
    assert_non_null(b->scratch);
    memset(b->scratch, 0xff, b->scratch_bytes); /* NaN everywhere */
    sl__scratch_layout(&b->run.scratch, &b->desc, &needs, b->scratch);
}

static void close_block(block *b)
{
    sl__cache_destroy(b->run.cache);
    sl__pool_destroy(b->run.pool);
    sl__io_destroy(b->io);
    sl__store_close(b->run.store);
    sl__pages_free(b->scratch, b->scratch_bytes);
    free(b->ordered_bias);
}

static sl_status run_block(block *b, uint32_t first, uint32_t tokens, float *out,
                           const float **router_out)
{
    memcpy(b->run.scratch.normed, input + (size_t)first * HIDDEN, tokens * HIDDEN * sizeof(float));
    sl__stretch stretch = {.tokens = tokens};
    sl__chunk chunk = {&stretch, 1, tokens};
    SL_TRY(sl__moe_block(&b->run, 0, &chunk, router_out, &b->err));
    memcpy(out, b->run.scratch.mixed, tokens * HIDDEN * sizeof(float));
    return SL_OK;
}

/* All tokens in one chunk, malloc'd; they are the same one by one. */
static float *outputs(const sl__moe_desc *moe, layout l, uint32_t threads)
{
    block b;
    float *out = room(TOKENS * HIDDEN * sizeof *out), alone[HIDDEN];
    const float *router_out = NULL;
    open_block(&b, moe, l, threads);
    must(run_block(&b, 0, TOKENS, out, &router_out), &b.err);
    assert_true((router_out == NULL) == (moe->experts == 0));
    for (uint32_t t = 0; t < TOKENS; t++) {
        must(run_block(&b, t, 1, alone, NULL), &b.err);
        assert_memory_equal(alone, out + (size_t)t * HIDDEN, sizeof alone);
    }
    close_block(&b);
    return out;
}

/* ---- the same, plainly ----------------------------------------------------------------------- */

static double dot(const float *w, const double *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)w[i] * x[i];
    return sum;
}

static double activated(const sl__moe_desc *m, double g, double u)
{
    if (m->activation == SL_ACTIVATION_SILU) return g / (1 + exp(-g)) * u;
    double limit = (double)m->limit;
    g = fmin(g, limit);
    u = fmax(-limit, fmin(u, limit));
    return g / (1 + exp(-(double)m->alpha * g)) * (u + 1);
}

static void add_expert(const sl__moe_desc *m, uint32_t e, const double *x, double scale,
                       double *out)
{
    double inner[INNER];
    for (uint32_t i = 0; i < INNER; i++) {
        size_t row = (size_t)e * 2 * INNER + 2 * i;
        double g = dot(both.values + row * HIDDEN, x, HIDDEN);
        double u = dot(both.values + (row + 1) * HIDDEN, x, HIDDEN);
        if (m->expert_bias) {
            g += (double)in_bias[row];
            u += (double)in_bias[row + 1];
        }
        inner[i] = activated(m, g, u);
    }
    for (uint32_t i = 0; i < HIDDEN; i++) {
        double y = dot(down.values + ((size_t)e * HIDDEN + i) * INNER, inner, INNER);
        if (m->expert_bias) y += (double)out_bias[e * HIDDEN + i];
        out[i] += scale * y;
    }
}

static void add_shared(const sl__moe_desc *m, const double *x, double *out)
{
    double inner[SHARED];
    double scale = m->shared_gate ? 1 / (1 + exp(-dot(shared_gate, x, HIDDEN))) : 1;
    for (uint32_t i = 0; i < SHARED; i++) {
        double g = dot(shared_in + (size_t)i * HIDDEN, x, HIDDEN);
        inner[i] = activated(m, g, dot(shared_in + ((size_t)SHARED + i) * HIDDEN, x, HIDDEN));
    }
    for (uint32_t i = 0; i < HIDDEN; i++)
        out[i] += scale * dot(shared_down + (size_t)i * SHARED, inner, SHARED);
}

/* Softmax over the k largest of the outputs: with renormalised weights the same as over all. */
static void add_routed(const sl__moe_desc *m, const double *x, double *out)
{
    double l[EXPERTS], sum = 0;
    bool chosen[EXPERTS] = {false};
    for (uint32_t e = 0; e < m->experts; e++) {
        l[e] = dot(router + (size_t)e * HIDDEN, x, HIDDEN);
        if (m->routing.bias) l[e] += (double)router_bias[e];
    }
    for (uint32_t j = 0; j < m->top_k; j++) {
        uint32_t best = EXPERTS;
        for (uint32_t e = 0; e < EXPERTS; e++) {
            if (!chosen[e] && (best == EXPERTS || l[e] > l[best])) best = e;
        }
        chosen[best] = true;
        sum += exp(l[best]);
    }
    for (uint32_t e = 0; e < EXPERTS; e++) {
        if (chosen[e]) add_expert(m, e, x, exp(l[e]) / sum, out);
    }
}

static void check_outputs(const sl__moe_desc *m, const float *got)
{
    for (uint32_t t = 0; t < TOKENS; t++) {
        double x[HIDDEN], want[HIDDEN] = {0}, difference = 0, norm = 0;
        for (uint32_t i = 0; i < HIDDEN; i++)
            x[i] = (double)input[t * HIDDEN + i];
        if (m->experts > 0) add_routed(m, x, want);
        if (m->shared_intermediate > 0) add_shared(m, x, want);
        for (uint32_t i = 0; i < HIDDEN; i++) {
            double d = (double)got[t * HIDDEN + i] - want[i];
            difference += d * d;
            norm += want[i] * want[i];
        }
        if (!(sqrt(difference) <= 2e-6 * sqrt(norm)))
            fail_msg("token %u is off by %g of %g", t, sqrt(difference), sqrt(norm));
    }
}

static double relative(const float *a, const float *b)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < TOKENS * HIDDEN; i++) {
        difference += pow((double)a[i] - (double)b[i], 2);
        norm += pow((double)b[i], 2);
    }
    return sqrt(difference / norm);
}

/* ---- tests ----------------------------------------------------------------------------------- */

static sl__moe_desc plain_moe(void)
{
    return (sl__moe_desc){.experts = EXPERTS, .top_k = TOP_K, .intermediate = INNER,
                          .routing = {.score = SL_SCORE_TOP_SOFTMAX, .scale = 1}};
}

static void same_outputs(const float *a, const float *b)
{
    assert_memory_equal(a, b, TOKENS * HIDDEN * sizeof(float));
}

/* One answer, whatever the layout: to the bit where the order of sums is one. */
static void every_layout_gives_one_answer(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        sl__moe_desc m = plain_moe();
        m.expert_bias = variant % 2;
        m.routing.bias = variant % 2;
        if (variant / 2) {
            m.activation = SL_ACTIVATION_CLAMPED;
            m.alpha = 1.702f;
            m.limit = 1.5f;
        }
        write_checkpoint(FUSED, false);
        float *want = outputs(&m, FUSED, 1);
        check_outputs(&m, want);
        for (int l = FUSED; l <= BLOCKS_INTERLEAVED; l++) {
            for (unsigned f32 = 0; f32 < 2; f32++) {
                write_checkpoint((layout)l, f32);
                float *got = outputs(&m, (layout)l, 1), *parallel = outputs(&m, (layout)l, 3);
                same_outputs(got, parallel);
                if (l == TRANSPOSED) assert_true(relative(got, want) < 1e-6);
                else same_outputs(got, want);
                free(got);
                free(parallel);
            }
        }
        free(want);
    }
}

static void shared_experts_and_dense_layers(void **state)
{
    (void)state;
    for (unsigned variant = 0; variant < 4; variant++) {
        sl__moe_desc m = plain_moe();
        m.shared_intermediate = SHARED;
        m.shared_gate = variant % 2;
        if (variant / 2) m.experts = 0;
        write_checkpoint(FUSED, false);
        float *one = outputs(&m, FUSED, 1), *two = outputs(&m, FUSED, 2);
        check_outputs(&m, one);
        same_outputs(one, two);
        free(one);
        free(two);
    }
}

/* A dense layer asks the cache for nothing: its layout is not there. */
static void dense_layers_bind_nothing(void **state)
{
    (void)state;
    sl__moe_desc m = {.shared_intermediate = SHARED};
    block b;
    float out[HIDDEN];
    const float *router_out = input;
    open_block(&b, &m, FUSED, 1);
    assert_null(sl__store_expert_layout(b.run.store, 0));
    must(run_block(&b, 0, 1, out, &router_out), &b.err);
    assert_null(router_out);
    sl__cache_stats stats;
    sl__cache_stats_get(b.run.cache, &stats);
    assert_int_equal(stats.requests, 0);
    close_block(&b);
}

static void layouts_of_the_store(void **state)
{
    (void)state;
    static const struct {
        layout l;
        uint32_t extents, rows, cols;
        bool transposed;
    } rows[] = {{FUSED, 2, INNER, HIDDEN, false},
                {SINGLE, 1, INNER, HIDDEN, false}, /* they follow each other */
                {INTERLEAVED, 2, 2 * INNER, HIDDEN, false},
                {TRANSPOSED, 2, HIDDEN, 2 * INNER, true},
                {BLOCKS, 6, INNER, HIDDEN, false},
                {BLOCKS_INTERLEAVED, 4, 2 * INNER, HIDDEN, false}};
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sl__moe_desc m = plain_moe();
        block b;
        sl__extent extents[SL_EXPERT_EXTENTS_MAX];
        write_checkpoint(rows[i].l, false);
        open_block(&b, &m, rows[i].l, 1);
        const sl__expert_layout *l = sl__store_expert_layout(b.run.store, 0);
        const sl__matrix_layout *gate = &l->part[SL_PART_GATE], *up = &l->part[SL_PART_UP];
        assert_true(gate->rows == rows[i].rows && gate->cols == rows[i].cols);
        assert_int_equal(gate->transposed, rows[i].transposed);
        assert_int_equal(up->rows, is_interleaved(rows[i].l) ? 0 : INNER);
        bool blocks = rows[i].l >= BLOCKS;
        assert_int_equal(gate->dtype, blocks ? SL_MXFP4 : SL_BF16);
        assert_int_equal(gate->scale_row_bytes, blocks ? HIDDEN / 32 : 0);
        uint32_t n = sl__store_expert_extents(b.run.store, 0, EXPERTS - 1, extents);
        uint64_t bytes = 0;
        for (uint32_t x = 0; x < n; x++)
            bytes += extents[x].bytes;
        assert_int_equal(n, rows[i].extents);
        assert_int_equal(bytes, 3 * INNER * HIDDEN / 32 * (blocks ? 17 : 64));
        close_block(&b);
    }
}

static void expect_refusal(const sl__moe_desc *m, layout l, bool interleaved, sl_status status,
                           const char *text)
{
    sl__layer_desc layer = {.moe = *m};
    layer.moe.interleaved = interleaved;
    const sl__model_desc desc = {.layer_count = 1, .hidden = HIDDEN, .layers = &layer};
    sl__family family = family_of(l);
    sl__store *store = NULL;
    sl_error err = {0};
    sl_status got = sl__store_open(&store, temp, &err);
    if (got == SL_OK) got = sl__model_bind_experts(store, &family, &desc, 0, &err);
    assert_int_equal(got, status);
    if (!strstr(err.message, text)) fail_msg("'%s' is not in: %s", text, err.message);
    sl__store_close(store);
}

static void save_writer(st_writer *w)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/model.safetensors", temp);
    st_writer_save(w, path);
    st_writer_destroy(w);
}

static void what_does_not_fit_is_refused(void **state)
{
    (void)state;
    sl__moe_desc m = plain_moe();
    write_checkpoint(TRANSPOSED, false);
    expect_refusal(&m, TRANSPOSED, false, SL_EUNSUPPORTED, "L0.gate_up: transposed, with gate");
    expect_refusal(&m, INTERLEAVED, true, SL_EFORMAT,
                   "L0.gate_up: shape [6, 96, 320], but the configuration asks for [6, 320, 96]");
    write_checkpoint(INTERLEAVED, false);
    expect_refusal(&m, TRANSPOSED, true, SL_EFORMAT, "asks for [6, 96, 320]");
    write_checkpoint(BLOCKS, false);
    m.intermediate = INNER - 32;
    expect_refusal(&m, BLOCKS, false, SL_EFORMAT,
                   "L0.gate_up_blocks: shape [6, 320, 96], but the configuration asks for "
                   "[6, 256, 96]");
    m.intermediate = INNER;
    m.experts = EXPERTS - 1;
    expect_refusal(&m, BLOCKS, false, SL_EFORMAT, "asks for [5, 320, 96]");
    m.experts = EXPERTS;
    const uint64_t shape[] = {EXPERTS, 2 * INNER, HIDDEN / 32, 16};
    st_writer *w = st_writer_create();
    st_writer_add(w, "L0.gate_up_blocks", "U8", 4, shape, both.codes, 6 * 320 * 48);
    save_writer(w);
    expect_refusal(&m, BLOCKS, false, SL_EFORMAT, "tensor L0.gate_up_scales is missing");
    w = st_writer_create();
    st_writer_add(w, "L0.gate_up_blocks", "I8", 4, shape, both.codes, 6 * 320 * 48);
    st_writer_add(w, "L0.gate_up_scales", "U8", 3, shape, both.scales, 6 * 320 * 3);
    add_blocks(w, "down", &down, down.codes, down.scales);
    save_writer(w);
    expect_refusal(&m, BLOCKS, false, SL_EUNSUPPORTED, "L0.gate_up_blocks: i8 where mxfp4 has u8");
    w = st_writer_create();
    st_writer_add(w, "none", "U8", 4, shape, both.codes, 6 * 320 * 48);
    save_writer(w);
    expect_refusal(&m, BLOCKS, false, SL_EFORMAT, "tensor L0.e0.gate is missing");
}

static void a_scale_that_is_nan_is_refused(void **state)
{
    (void)state;
    sl__moe_desc m = plain_moe();
    m.top_k = EXPERTS; /* every expert is read */
    size_t at = (size_t)4 * down.rows * down.cols / 32 + 11; /* of expert 4 */
    uint8_t kept = down.scales[at];
    down.scales[at] = 255;
    write_checkpoint(BLOCKS_INTERLEAVED, false);
    down.scales[at] = kept;
    block b;
    float out[TOKENS * HIDDEN];
    open_block(&b, &m, BLOCKS_INTERLEAVED, 1);
    assert_int_equal(run_block(&b, 0, TOKENS, out, NULL), SL_ENUMERIC);
    assert_non_null(strstr(b.err.message,
                           "model.safetensors: layer 0, expert 4: a scale of down is NaN"));
    close_block(&b);
}

static void a_router_that_is_not_finite_names_the_layer(void **state)
{
    (void)state;
    sl__moe_desc m = plain_moe();
    block b;
    float out[TOKENS * HIDDEN], kept = input[HIDDEN + 3];
    write_checkpoint(FUSED, false);
    open_block(&b, &m, FUSED, 1);
    input[HIDDEN + 3] = INFINITY;
    assert_int_equal(run_block(&b, 0, TOKENS, out, NULL), SL_ENUMERIC);
    input[HIDDEN + 3] = kept;
    assert_non_null(strstr(b.err.message, "layer 0: the router's output is not finite"));
    must(run_block(&b, 0, TOKENS, out, NULL), &b.err); /* and it goes on */
    close_block(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_layout_gives_one_answer),
        cmocka_unit_test(shared_experts_and_dense_layers),
        cmocka_unit_test(dense_layers_bind_nothing),
        cmocka_unit_test(layouts_of_the_store),
        cmocka_unit_test(what_does_not_fit_is_refused),
        cmocka_unit_test(a_scale_that_is_nan_is_refused),
        cmocka_unit_test(a_router_that_is_not_finite_names_the_layer),
    };
    return cmocka_run_group_tests(tests, make_weights, drop_weights);
}
