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
 * A task is one head of some tokens, so that its matrices are opened once for all of them:
 *
 *     worker scratch:  scores [context] | q̃ [TOKENS, kv_rank + rope] | ô [TOKENS, kv_rank] | tmp
 */
#include "model/run.h"

#include <assert.h>
#include <string.h>

#define TOKENS 16u /* of a task */

struct job {
    sl__run *run;
    const sl__mla_desc *m;
    const sl__weight *w;
    sl__layer_state *state;
    uint32_t position, tokens;
};

static uint32_t row_width(const sl__mla_desc *m) { return m->kv_rank + m->rope.dim; }

static uint32_t q_width(const sl__mla_desc *m) { return m->nope_dim + m->rope.dim; }

size_t sl__mla_worker_floats(const sl__mla_desc *m, uint32_t context)
{
    return context + (size_t)TOKENS * (row_width(m) + m->kv_rank) +
           sl__kern_matmul_tmp(m->kv_rank, TOKENS);
}

/* Rotates the queries of one token and puts its row into the cache. */
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
    const float *kv = s->mla.kv + (size_t)t * row_width(m);
    float *row = job->state->latent + ((size_t)job->position + t) * row_width(m);
    kern->rms_norm(row, kv, job->w[SL_ROLE_MLA_KV_NORM].data, m->kv_rank, job->run->desc->eps);
    memcpy(row + m->kv_rank, kv + m->kv_rank, m->rope.dim * sizeof(float));
    sl__rope_rotate(kern, &m->rope, &s->mla.rope, t, row + m->kv_rank);
}

/* Head h of TOKENS tokens: index = block · heads + h. */
static void attend_head(void *ctx, uint32_t index, uint32_t worker)
{
    const struct job *job = ctx;
    const sl__mla_desc *m = job->m;
    const sl__scratch *s = &job->run->scratch;
    const sl__kern *kern = &job->run->kern;
    uint32_t h = index % m->heads, first = index / m->heads * TOKENS, rank = m->kv_rank;
    uint32_t n = job->tokens - first < TOKENS ? job->tokens - first : TOKENS;
    size_t width = row_width(m), q_stride = (size_t)m->heads * q_width(m);
    float *scores = sl__worker_scratch(job->run, worker), *asked = scores + s->context;
    float *found = asked + TOKENS * width, *tmp = found + (size_t)TOKENS * rank;
    const sl__weight *up = &job->w[SL_ROLE_MLA_KV_UP];
    const char *keys = (const char *)up->data +
                       (size_t)h * (m->nope_dim + m->value_dim) * up->row_bytes;
    const char *values = keys + m->nope_dim * up->row_bytes;
    assert(!up->panels);
    const float *q = s->mla.q + first * q_stride + (size_t)h * q_width(m);
    kern->matmul_t(up->dtype, keys, up->row_bytes, NULL, 0, m->nope_dim, 0, rank, q, q_stride, n,
                   asked, width, tmp);
    for (uint32_t t = 0; t < n; t++) {
        float *one = asked + t * width;
        memcpy(one + rank, q + t * q_stride + m->nope_dim, m->rope.dim * sizeof(float));
        kern->attend(one, job->state->latent, width, job->state->latent, width,
                     job->position + first + t + 1, (uint32_t)width, rank, m->scale, NULL,
                     found + (size_t)t * rank, scores);
    }
    size_t out_stride = (size_t)m->heads * m->value_dim;
    kern->matmul(up->dtype, values, up->row_bytes, NULL, 0, m->value_dim, rank, found, rank, n,
                 s->mla.out + first * out_stride + (size_t)h * m->value_dim, out_stride, tmp);
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

void sl__mla_block(sl__run *run, uint32_t layer, sl__layer_state *state, uint32_t position,
                   uint32_t tokens)
{
    const sl__mla_desc *m = &run->desc->layers[layer].mla;
    const sl__weight *w = run->layers[layer];
    sl__scratch *s = &run->scratch;
    assert(position + tokens <= state->rows);
    assert(!w[SL_ROLE_MLA_KV_UP].scales && !w[SL_ROLE_MLA_KV_UP].transposed);
    project(run, m, w, tokens);
    sl__rope_fill(&m->rope, &s->mla.rope, position, tokens);
    struct job job = {run, m, w, state, position, tokens};
    uint64_t rows = tokens, head = (uint64_t)m->kv_rank * (m->nope_dim + m->value_dim) +
                                   2 * (uint64_t)row_width(m) * (position + tokens);
    sl__run_parallel(run, prepare_token, &job, tokens, rows * m->heads * q_width(m) * 8);
    sl__run_parallel(run, attend_head, &job, (tokens + TOKENS - 1) / TOKENS * m->heads,
                     rows * m->heads * head);
    const sl__product out = sl__product_of(&w[SL_ROLE_O], s->mla.out, s->mixed, tokens);
    sl__products(run, &out, 1);
}
