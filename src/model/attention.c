/* Gated grouped-query attention with partial rotary positions, over a float32 KV cache.
 *
 *     q_proj ─ [query | gate] a head ─ q norm ─ rope ─┐
 *     k_proj ─ k norm ─ rope ─> cache k[position]     ├─ softmax(q·k·scale)·v ─┐
 *     v_proj ─────────────────> cache v[position]  ───┘                        │
 *                                          o_proj ── × sigmoid(gate) ──────────┘
 */
#include "model/run.h"

#include <math.h>
#include <string.h>

struct job {
    sl__run *run;
    const sl__attention_desc *a;
    const sl__weight *w;
    sl__layer_state *state;
    uint32_t position;
    size_t q_stride; /* floats of a token in q: with the gate, two parts a head */
};

/* As the reference does: frequency, angle and its sine in float32. */
static void fill_angles(const sl__run *run, const sl__attention_desc *a, uint32_t position,
                        uint32_t tokens)
{
    uint32_t half = a->rotary_dim / 2;
    for (uint32_t i = 0; i < half; i++) {
        float exponent = (float)(2 * i) / (float)a->rotary_dim;
        float frequency = 1.0f / powf(a->rope_theta, exponent);
        for (uint32_t t = 0; t < tokens; t++) {
            float angle = (float)(position + t) * frequency;
            run->scratch.attention.cos[(size_t)t * half + i] = cosf(angle);
            run->scratch.attention.sin[(size_t)t * half + i] = sinf(angle);
        }
    }
}

/* Norms and rotates the queries and the key of one token and puts key and value into the cache. */
static void prepare_token(void *ctx, uint32_t t, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    const sl__attention_desc *a = job->a;
    const sl__scratch *s = &job->run->scratch;
    const sl__kern *kern = &job->run->kern;
    uint32_t dim = a->head_dim, half = a->rotary_dim / 2;
    const float *cos = s->attention.cos + (size_t)t * half;
    const float *sin = s->attention.sin + (size_t)t * half;
    float eps = job->run->desc->eps;
    size_t head_stride = a->output_gate ? 2 * dim : dim;
    for (uint32_t h = 0; h < a->heads; h++) {
        float *q = s->attention.q + t * job->q_stride + h * head_stride;
        kern->rms_norm(q, q, job->w[SL_ROLE_Q_NORM].data, dim, eps);
        kern->rope(q, cos, sin, half);
    }
    size_t kv = (size_t)a->kv_heads * dim;
    float *k = job->state->k + (job->position + t) * kv;
    for (uint32_t h = 0; h < a->kv_heads; h++) {
        kern->rms_norm(k + h * dim, s->attention.k + t * kv + h * dim,
                       job->w[SL_ROLE_K_NORM].data, dim, eps);
        kern->rope(k + h * dim, cos, sin, half);
    }
    memcpy(job->state->v + (job->position + t) * kv, s->attention.v + t * kv, kv * sizeof(float));
}

/* One query head of one token: index = t · heads + h. */
static void attend_head(void *ctx, uint32_t index, uint32_t worker)
{
    const struct job *job = ctx;
    const sl__attention_desc *a = job->a;
    const sl__scratch *s = &job->run->scratch;
    const sl__kern *kern = &job->run->kern;
    uint32_t t = index / a->heads, h = index % a->heads, dim = a->head_dim;
    size_t kv = (size_t)a->kv_heads * dim, kv_at = (size_t)(h / (a->heads / a->kv_heads)) * dim;
    size_t head_stride = a->output_gate ? 2 * dim : dim;
    float *q = s->attention.q + t * job->q_stride + h * head_stride;
    float *out = s->attention.out + ((size_t)t * a->heads + h) * dim;
    kern->attend(q, job->state->k + kv_at, kv, job->state->v + kv_at, kv, job->position + t + 1,
                 dim, dim, a->scale, out, sl__worker_scratch(job->run, worker));
    if (!a->output_gate) return;
    float *gate = q + dim;
    kern->sigmoid(gate, dim);
    for (uint32_t i = 0; i < dim; i++)
        out[i] *= gate[i];
}

void sl__attention_block(sl__run *run, uint32_t layer, sl__layer_state *state, uint32_t position,
                         uint32_t tokens)
{
    const sl__attention_desc *a = &run->desc->layers[layer].attention;
    const sl__weight *w = run->layers[layer];
    sl__scratch *s = &run->scratch;
    const sl__product in[] = {
        sl__product_of(&w[SL_ROLE_Q], s->normed, s->attention.q, tokens),
        sl__product_of(&w[SL_ROLE_K], s->normed, s->attention.k, tokens),
        sl__product_of(&w[SL_ROLE_V], s->normed, s->attention.v, tokens),
    };
    sl__products(run, in, 3);
    fill_angles(run, a, position, tokens);
    struct job job = {run, a, w, state, position, w[SL_ROLE_Q].rows};
    uint64_t width = (uint64_t)a->heads * a->head_dim;
    sl__run_parallel(run, prepare_token, &job, tokens, tokens * width * 8);
    sl__run_parallel(run, attend_head, &job, tokens * a->heads,
                     tokens * width * 2 * (position + tokens));
    const sl__product out =
        sl__product_of(&w[SL_ROLE_O], s->attention.out, s->mixed, tokens);
    sl__products(run, &out, 1);
}
