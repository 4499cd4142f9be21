/* Gated DeltaNet: linear attention whose memory is one matrix a head.
 *
 *     in_proj_qkv ─ causal conv ─ silu ─ [q | k | v] ─ l2 norms ─┐
 *     in_proj_a ─ g = −exp(A_log)·softplus(a + dt_bias)          ├─ delta rule ─ norm ─┐
 *     in_proj_b ─ β = sigmoid(b) ────────────────────────────────┘                     │
 *     in_proj_z ─ silu ───────────────────────────────────── × ────────────────────────┘
 *                                          out_proj ─────────┘
 *
 * A chunk is cut into inner chunks of SL_DELTA_CHUNK tokens from its first token on; an inner chunk
 * of one token takes the recurrent form. As long as callers cut a sequence at multiples of
 * SL_DELTA_CHUNK the inner chunks are the same however they cut it, and so is every bit.
 */
#include "model/run.h"

#include <math.h>

struct job {
    sl__run *run;
    const sl__delta_desc *d;
    const sl__weight *w;
    sl__layer_state *state;
    uint32_t tokens;
};

#define CONV_RANGE 256u /* channels a task */

static void convolve(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    const sl__scratch *s = &job->run->scratch;
    uint32_t channels = sl__delta_conv_width(job->d), c0 = index * CONV_RANGE;
    uint32_t c1 = channels - c0 < CONV_RANGE ? channels : c0 + CONV_RANGE;
    job->run->kern.causal_conv_silu(s->delta.conv, s->delta.qkv, job->state->conv,
                                    job->w[SL_ROLE_DELTA_CONV].data, job->tokens, channels,
                                    job->d->conv_width, c0, c1);
}

/* Norms q and k of one token, and turns a and b into g and beta. */
static void prepare_token(void *ctx, uint32_t t, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    const sl__delta_desc *d = job->d;
    const sl__scratch *s = &job->run->scratch;
    const sl__kern *kern = &job->run->kern;
    float *q = s->delta.conv + (size_t)t * sl__delta_conv_width(d);
    float *k = q + sl__delta_key_width(d);
    float q_scale = 1.0f / sqrtf((float)d->key_dim);
    for (uint32_t h = 0; h < d->key_heads; h++) {
        kern->l2_norm(q + h * d->key_dim, d->key_dim, 1e-6f, q_scale);
        kern->l2_norm(k + h * d->key_dim, d->key_dim, 1e-6f, 1.0f);
    }
    const float *a_log = job->w[SL_ROLE_DELTA_A_LOG].data;
    const float *dt_bias = job->w[SL_ROLE_DELTA_DT_BIAS].data;
    float *a = s->delta.a + (size_t)t * d->value_heads;
    for (uint32_t h = 0; h < d->value_heads; h++) {
        float x = a[h] + dt_bias[h];
        float softplus = fmaxf(x, 0.0f) + log1pf(expf(-fabsf(x)));
        a[h] = -expf(a_log[h]) * softplus;
    }
    kern->sigmoid(s->delta.b + (size_t)t * d->value_heads, d->value_heads);
}

/* All tokens of one value head through the delta rule. */
static void run_head(void *ctx, uint32_t h, uint32_t worker)
{
    const struct job *job = ctx;
    const sl__delta_desc *d = job->d;
    const sl__scratch *s = &job->run->scratch;
    const sl__kern *kern = &job->run->kern;
    size_t in_stride = sl__delta_conv_width(d), out_stride = sl__delta_value_width(d);
    uint32_t key_width = sl__delta_key_width(d);
    uint32_t key_head = h / (d->value_heads / d->key_heads);
    float *state = job->state->delta + (size_t)h * d->key_dim * d->value_dim;
    for (uint32_t t = 0; t < job->tokens; t += SL_DELTA_CHUNK) {
        uint32_t n = job->tokens - t < SL_DELTA_CHUNK ? job->tokens - t : SL_DELTA_CHUNK;
        const float *q = s->delta.conv + t * in_stride + (size_t)key_head * d->key_dim;
        const float *k = q + key_width;
        const float *v = s->delta.conv + t * in_stride + 2 * key_width + (size_t)h * d->value_dim;
        const float *g = s->delta.a + (size_t)t * d->value_heads + h;
        const float *beta = s->delta.b + (size_t)t * d->value_heads + h;
        float *out = s->delta.out + t * out_stride + (size_t)h * d->value_dim;
        if (n == 1) {
            kern->delta_step(state, q, k, v, *g, *beta, d->key_dim, d->value_dim, out);
        } else {
            kern->delta_chunk(state, q, k, in_stride, v, in_stride, g, beta, d->value_heads, n,
                              d->key_dim, d->value_dim, out, out_stride,
                              sl__worker_scratch(job->run, worker));
        }
    }
}

/* out ← rms(out)·w·silu(z), a head at a time. */
static void gate_token(void *ctx, uint32_t t, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    const sl__delta_desc *d = job->d;
    const sl__scratch *s = &job->run->scratch;
    const sl__kern *kern = &job->run->kern;
    uint32_t width = sl__delta_value_width(d);
    float *out = s->delta.out + (size_t)t * width, *z = s->delta.z + (size_t)t * width;
    for (uint32_t h = 0; h < d->value_heads; h++) {
        kern->rms_norm(out + h * d->value_dim, out + h * d->value_dim,
                       job->w[SL_ROLE_DELTA_NORM].data, d->value_dim, job->run->desc->eps);
    }
    kern->swiglu(out, z, out, width);
}

void sl__delta_block(sl__run *run, uint32_t layer, sl__layer_state *state, uint32_t tokens)
{
    const sl__delta_desc *d = &run->desc->layers[layer].delta;
    const sl__weight *w = run->layers[layer];
    sl__scratch *s = &run->scratch;
    const sl__product in[] = {
        sl__product_of(&w[SL_ROLE_DELTA_QKV], s->normed, s->delta.qkv, tokens),
        sl__product_of(&w[SL_ROLE_DELTA_Z], s->normed, s->delta.z, tokens),
        sl__product_of(&w[SL_ROLE_DELTA_A], s->normed, s->delta.a, tokens),
        sl__product_of(&w[SL_ROLE_DELTA_B], s->normed, s->delta.b, tokens),
    };
    sl__products(run, in, 4);
    struct job job = {run, d, w, state, tokens};
    uint32_t channels = sl__delta_conv_width(d), width = sl__delta_value_width(d);
    uint64_t rows = tokens;
    sl__run_parallel(run, convolve, &job, (channels + CONV_RANGE - 1) / CONV_RANGE,
                     rows * channels * 16);
    sl__run_parallel(run, prepare_token, &job, tokens, rows * channels * 4);
    sl__run_parallel(run, run_head, &job, d->value_heads, rows * width * d->key_dim * 4);
    sl__run_parallel(run, gate_token, &job, tokens, rows * width * 16);
    const sl__product out =
        sl__product_of(&w[SL_ROLE_DELTA_OUT], s->delta.out, s->mixed, tokens);
    sl__products(run, &out, 1);
}
