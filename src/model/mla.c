/* Multi-head latent attention: all heads share one latent and one rotated key a position, and that
 * is what the cache holds.
 *
 *     q_down ─ norm ─ q_up ─ [nope | rope] a head       (q_rank 0: one product)
 *     kv_down ─ [latent ─ norm | key ─ rope] ─> cache row c = [latent | key]
 *
 * A head's keys and values are products of the latent, K_h·c and V_h·c, and are never made. Since
 * q·(K_h·c) = (K_hᵀ·q)·c and Σ p·(V_h·c) = V_h·(Σ p·c), a head asks the latents themselves:
 *
 *     q̃ = [K_hᵀ·nope | rope]      ô = Σ softmax(q̃·c·scale) c      out_h = V_h·ô
 *
 * K_h lies in rows of kv_rank, and is multiplied with transposed; or it comes already transposed,
 * in rows of nope_dim (split_up).
 *
 * So all heads are queries of one KV head, whose values are the first kv_rank channels of its keys.
 * Tokens go through this TOKENS at a time; the products with K_h and V_h are a task a head, whose
 * matrices are opened once for those tokens:
 *
 *     mla.asked   q̃ [TOKENS][heads][kv_rank + rope]       mla.found   ô [TOKENS][heads][kv_rank]
 */
#include "model/run.h"

#include <assert.h>
#include <string.h>

#include "model/lookback.h"

#define TOKENS SL_MLA_TOKENS

struct job {
    sl__run *run;
    const sl__layer_desc *layer;
    const sl__mla_desc *m;
    const sl__weight *w;
    uint32_t index; /* of the layer */
    const sl__chunk *chunk;
    sl__spread blocks;     /* of the cache, that the tokens are put into */
    uint32_t first, count; /* the rows of the chunk that go through at a time */
};

static uint32_t row_width(const sl__mla_desc *m) { return m->kv_rank + m->rope.dim; }

static uint32_t q_width(const sl__mla_desc *m) { return m->nope_dim + m->rope.dim; }

/* Rotates the queries of one token and makes its row of the cache. */
static void prepare_token(void *ctx, uint32_t t, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    const sl__mla_desc *m = job->m;
    const sl__scratch *s = &job->run->scratch;
    const sl__kern *kern = &job->run->kern;
    float *q = s->mla.q + (size_t)t * m->heads * q_width(m) + m->nope_dim;
    for (uint32_t h = 0; h < m->heads; h++)
        sl__rope_rotate(kern, &m->rope, &s->mla.rope, t, q + (size_t)h * q_width(m));
    float *row = s->mla.kv + (size_t)t * row_width(m);
    kern->rms_norm(row, row, job->w[SL_ROLE_MLA_KV_NORM].data, m->kv_rank, job->run->desc->eps);
    sl__rope_rotate(kern, &m->rope, &s->mla.rope, t, row + m->kv_rank);
}

/* Puts the rows of one block into a stretch's cache. */
static void store_block(void *ctx, uint32_t block, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    size_t width = row_width(job->m);
    const sl__stretch *p = &job->chunk->stretches[sl__spread_find(&job->blocks, &block)];
    sl__state_store(&p->layers[job->index], job->layer, 0, block, p->position, p->tokens,
                    job->run->scratch.mla.kv + p->first * width, width, NULL, 0);
}

/* Angles and room for all tokens; returns the number of store_block's tasks. */
static uint32_t make_ready(struct job *job)
{
    const sl__rope_table *rope = &job->run->scratch.mla.rope;
    uint32_t tasks = 0;
    sl__rope_frequencies(&job->m->rope, rope->frequency);
    for (uint32_t i = 0; i < job->chunk->count; i++) {
        const sl__stretch *p = &job->chunk->stretches[i];
        sl__rope_fill_from(&job->m->rope, rope, p->first, p->position, p->tokens);
        sl__state_make_room(&p->layers[job->index], job->layer, p->position, p->tokens);
        job->blocks.end[i] = tasks += sl__state_blocks(p->position, p->tokens);
    }
    return tasks;
}

/* The rows from which head h's keys are made, or its values. */
static sl__rows key_rows(const struct job *job, uint32_t h)
{
    const sl__mla_desc *m = job->m;
    if (m->split_up) return sl__weight_rows(&job->w[SL_ROLE_MLA_K_UP], h * m->kv_rank);
    return sl__weight_rows(&job->w[SL_ROLE_MLA_KV_UP], h * (m->nope_dim + m->value_dim));
}

static sl__rows value_rows(const struct job *job, uint32_t h)
{
    const sl__mla_desc *m = job->m;
    if (m->split_up) return sl__weight_rows(&job->w[SL_ROLE_MLA_V_UP], h * m->value_dim);
    return sl__weight_rows(&job->w[SL_ROLE_MLA_KV_UP],
                           h * (m->nope_dim + m->value_dim) + m->nope_dim);
}

/* What head h asks the latents. */
static void ask(void *ctx, uint32_t h, uint32_t worker)
{
    const struct job *job = ctx;
    const sl__mla_desc *m = job->m;
    const sl__scratch *s = &job->run->scratch;
    const sl__rows keys = key_rows(job, h);
    size_t width = row_width(m), stride = m->heads * width;
    size_t q_stride = (size_t)m->heads * q_width(m);
    const float *q = s->mla.q + job->first * q_stride + (size_t)h * q_width(m);
    float *asked = s->mla.asked + h * width;
    float *tmp = sl__worker_scratch(job->run, worker);
    if (m->split_up) {
        job->run->kern.matmul(&keys, m->kv_rank, m->nope_dim, q, q_stride, job->count, asked,
                              stride, tmp);
    } else {
        job->run->kern.matmul_t(&keys, m->nope_dim, 0, m->kv_rank, q, q_stride, job->count, asked,
                                stride, tmp);
    }
    for (uint32_t t = 0; t < job->count; t++)
        memcpy(asked + t * stride + m->kv_rank, q + t * q_stride + m->nope_dim,
               m->rope.dim * sizeof(float));
}

/* Head h's outputs from the latents that it found. */
static void answer(void *ctx, uint32_t h, uint32_t worker)
{
    const struct job *job = ctx;
    const sl__mla_desc *m = job->m;
    const sl__scratch *s = &job->run->scratch;
    const sl__rows values = value_rows(job, h);
    size_t stride = (size_t)m->heads * m->kv_rank, out_stride = (size_t)m->heads * m->value_dim;
    job->run->kern.matmul(&values, m->value_dim, m->kv_rank,
                          s->mla.found + (size_t)h * m->kv_rank, stride, job->count,
                          s->mla.out + job->first * out_stride + (size_t)h * m->value_dim,
                          out_stride, sl__worker_scratch(job->run, worker));
}

/* Row `row` of the chunk and those after it of the same stretch, as far as they go through now. */
static sl__lookback ask_stretch(const struct job *job, const sl__stretch *p, uint32_t row)
{
    const sl__mla_desc *m = job->m;
    const sl__scratch *s = &job->run->scratch;
    size_t at = row - job->first, heads = m->heads;
    uint32_t width = row_width(m), end = p->first + p->tokens;
    if (end > job->first + job->count) end = job->first + job->count;
    return (sl__lookback){
        .state = &p->layers[job->index], .heads = m->heads, .kv_heads = 1, .qk_dim = width,
        .v_dim = m->kv_rank, .q = s->mla.asked + at * heads * width, .q_token = heads * width,
        .q_head = width, .position = p->position + (row - p->first), .tokens = end - row,
        .scale = m->scale, .out = s->mla.found + at * heads * m->kv_rank};
}

/* Up to TOKENS rows of the chunk; *stretch is the one that the first of them is in, and becomes
 * that of the first row after them. */
static void look_back(struct job *job, uint32_t *stretch)
{
    const sl__mla_desc *m = job->m;
    sl__lookback looks[TOKENS];
    uint32_t count = 0, row = job->first, end = job->first + job->count;
    while (row < end) {
        const sl__stretch *p = &job->chunk->stretches[*stretch];
        looks[count] = ask_stretch(job, p, row);
        row += looks[count++].tokens;
        if (row == p->first + p->tokens) ++*stretch;
    }
    uint64_t work = (uint64_t)job->count * m->heads * m->kv_rank;
    sl__run_parallel(job->run, ask, job, m->heads, work * m->nope_dim);
    sl__look_back(job->run, looks, count);
    sl__run_parallel(job->run, answer, job, m->heads, work * m->value_dim);
}

/* The products from the stream: queries in mla.q, latents and keys in mla.kv. */
static void project(sl__run *run, const sl__mla_desc *m, const sl__weight *w, uint32_t tokens)
{
    sl__scratch *s = &run->scratch;
    const sl__product in[] = {
        sl__product_of(&w[SL_ROLE_MLA_KV_DOWN], s->normed, s->mla.kv, tokens),
        m->q_rank > 0
            ? sl__product_of(&w[SL_ROLE_MLA_Q_DOWN], s->normed, s->mla.q_down, tokens)
            : sl__product_of(&w[SL_ROLE_Q], s->normed, s->mla.q, tokens),
    };
    sl__products(run, in, 2);
    if (m->q_rank == 0) return;
    sl__norm_rows(run, s->mla.q_down, s->mla.q_down, &w[SL_ROLE_MLA_Q_NORM], tokens, m->q_rank);
    const sl__product up =
        sl__product_of(&w[SL_ROLE_MLA_Q_UP], s->mla.q_down, s->mla.q, tokens);
    sl__products(run, &up, 1);
}

void sl__mla_block(sl__run *run, uint32_t layer_index, const sl__chunk *chunk)
{
    const sl__layer_desc *layer = &run->desc->layers[layer_index];
    const sl__mla_desc *m = &layer->mla;
    const sl__weight *w = run->layers[layer_index];
    sl__scratch *s = &run->scratch;
    const uint32_t tokens = chunk->tokens;
    for (sl__role role = SL_ROLE_MLA_KV_UP; role <= SL_ROLE_MLA_V_UP; role++)
        assert(!w[role].transposed && !w[role].panels);
    project(run, m, w, tokens);
    struct job job = {.run = run, .layer = layer, .m = m, .w = w, .index = layer_index,
                      .chunk = chunk};
    uint32_t blocks = make_ready(&job), stretch = 0;
    uint64_t rows = tokens;
    sl__run_parallel(run, prepare_token, &job, tokens, rows * m->heads * q_width(m) * 8);
    sl__run_parallel(run, store_block, &job, blocks, rows * row_width(m) * 16);
    for (; job.first < tokens; job.first += job.count) {
        job.count = tokens - job.first < TOKENS ? tokens - job.first : TOKENS;
        look_back(&job, &stretch);
    }
    const sl__product out = sl__product_of(&w[SL_ROLE_O], s->mla.out, s->mixed, tokens);
    sl__products(run, &out, 1);
}
