/* Gated DeltaNet: linear attention whose memory is one matrix a head.
 *
 *     in_proj_qkv ─ causal conv ─ silu ─ [q | k | v] ─ l2 norms ─┐
 *     in_proj_a ─ g = −exp(A_log)·softplus(a + dt_bias)          ├─ delta rule ─ norm ─┐
 *     in_proj_b ─ β = sigmoid(b) ────────────────────────────────┘                     │
 *     in_proj_z ─ silu ───────────────────────────────────── × ────────────────────────┘
 *                                          out_proj ─────────┘
 *
 * The delta rule takes a sequence in inner chunks, which end at multiples of sl__delta_grid() of
 * its positions and where a call ends; one of a single token takes the recurrent form. A call that
 * begins at such a multiple cuts nothing, so that a sequence gives the same bits in one call and in
 * several that end there, whatever else goes through the pass.
 *
 * Value heads that share a key head share its products of keys and queries, and a task, where that
 * leaves tasks enough for the threads; one token's heads are cut into halves where there are more
 * threads than heads. Neither changes a bit.
 */
#include "model/run.h"

#include <math.h>

struct job {
    sl__run *run;
    const sl__delta_desc *d;
    const sl__weight *w;
    uint32_t layer;
    const sl__chunk *chunk;
    uint32_t ranges; /* of channels */
    sl__spread cuts; /* tasks of the delta rule */
};

/* How the delta rule of a stretch is cut into tasks. */
struct cut {
    uint32_t heads; /* value heads a task: all of one key head */
    uint32_t parts; /* of a head's columns, for one token */
};

#define CONV_RANGE 256u /* channels a task */

static void convolve(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    const sl__scratch *s = &job->run->scratch;
    const sl__stretch *p = &job->chunk->stretches[index / job->ranges];
    uint32_t channels = sl__delta_conv_width(job->d), c0 = index % job->ranges * CONV_RANGE;
    uint32_t c1 = channels - c0 < CONV_RANGE ? channels : c0 + CONV_RANGE;
    size_t at = (size_t)p->first * channels;
    job->run->kern.causal_conv_silu(s->delta.conv + at, s->delta.qkv + at,
                                    p->layers[job->layer].conv, job->w[SL_ROLE_DELTA_CONV].data,
                                    p->tokens, channels, job->d->conv_width, c0, c1);
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
    kern->delta_gate(s->delta.a + (size_t)t * d->value_heads, a_log, dt_bias, d->value_heads);
    kern->sigmoid(s->delta.b + (size_t)t * d->value_heads, d->value_heads);
}

/* Rows [t, t + n) of `heads` value heads from h on. */
static sl__delta_chunk inner_chunk(const struct job *job, float *state, uint32_t h, uint32_t heads,
                                   uint32_t t, uint32_t n)
{
    const sl__delta_desc *d = job->d;
    const sl__scratch *s = &job->run->scratch;
    size_t in_stride = sl__delta_conv_width(d), out_stride = sl__delta_value_width(d);
    uint32_t key_width = sl__delta_key_width(d);
    uint32_t key_head = sl__delta_key_head(d, h);
    const float *row = s->delta.conv + t * in_stride, *q = row + (size_t)key_head * d->key_dim;
    return (sl__delta_chunk){
        .state = state + (size_t)h * d->key_dim * d->value_dim,
        .q = q,
        .k = q + key_width,
        .qk_stride = in_stride,
        .v = row + 2 * key_width + (size_t)h * d->value_dim,
        .v_stride = in_stride,
        .g = s->delta.a + (size_t)t * d->value_heads + h,
        .beta = s->delta.b + (size_t)t * d->value_heads + h,
        .gate_stride = d->value_heads,
        .out = s->delta.out + t * out_stride + (size_t)h * d->value_dim,
        .out_stride = out_stride,
        .tokens = n,
        .heads = heads,
        .dk = d->key_dim,
        .dv = d->value_dim,
    };
}

/* The first token of one head of a chunk, columns [c0, c1). */
static void step(const sl__kern *kern, const sl__delta_chunk *c, uint32_t h, uint32_t c0,
                 uint32_t c1)
{
    size_t at = (size_t)h * c->dv;
    kern->delta_step(c->state + at * c->dk, c->q, c->k, c->v + at, c->g[h], c->beta[h], c->dk,
                     c->dv, c0, c1, c->out + at);
}

/* At least two tasks a thread, if that can be. The cut cannot be seen in a result. */
static struct cut cut_of(const struct job *job, const sl__stretch *p)
{
    const sl__delta_desc *d = job->d;
    uint32_t wanted = 2 * sl__pool_threads(job->run->pool);
    if (p->tokens == 1) {
        bool halves = d->value_heads < wanted && d->value_dim % 2 == 0;
        return (struct cut){.heads = 1, .parts = halves ? 2 : 1};
    }
    /* Heads of a task lie together and share a key head; tiled, neighbours share none. */
    uint32_t share = d->tiled ? 1 : d->value_heads / d->key_heads, heads = share;
    while (heads > 1 && (share % heads != 0 || d->value_heads / heads < wanted))
        heads--;
    return (struct cut){.heads = heads, .parts = 1};
}

/* All tokens of a stretch through the delta rule, a task's heads of them. */
static void run_heads(const struct job *job, const sl__stretch *p, uint32_t head, uint32_t heads,
                      float *tmp)
{
    const sl__kern *kern = &job->run->kern;
    const uint32_t grid = sl__delta_grid(job->run);
    for (uint32_t t = 0, n; t < p->tokens; t += n) {
        n = grid - (p->position + t) % grid;
        if (n > p->tokens - t) n = p->tokens - t;
        const sl__delta_chunk c =
            inner_chunk(job, p->layers[job->layer].delta, head, heads, p->first + t, n);
        if (n > 1) kern->delta_chunk(&c, tmp);
        for (uint32_t h = 0; n == 1 && h < c.heads; h++)
            step(kern, &c, h, 0, c.dv);
    }
}

/* One token through a part of a head. */
static void run_part(const struct job *job, const sl__stretch *p, uint32_t head, uint32_t part,
                     uint32_t parts)
{
    const sl__delta_chunk c =
        inner_chunk(job, p->layers[job->layer].delta, head, 1, p->first, 1);
    uint32_t width = (c.dv + parts - 1) / parts, c0 = part * width;
    uint32_t c1 = c.dv - c0 < width ? c.dv : c0 + width;
    step(&job->run->kern, &c, 0, c0, c1);
}

static void run_cut(void *ctx, uint32_t index, uint32_t worker)
{
    const struct job *job = ctx;
    const sl__stretch *p = &job->chunk->stretches[sl__spread_find(&job->cuts, &index)];
    const struct cut cut = cut_of(job, p);
    if (p->tokens == 1) {
        run_part(job, p, index / cut.parts, index % cut.parts, cut.parts);
    } else {
        run_heads(job, p, index * cut.heads, cut.heads, sl__worker_scratch(job->run, worker));
    }
}

static void run_delta(struct job *job)
{
    const sl__delta_desc *d = job->d;
    uint32_t tasks = 0;
    for (uint32_t i = 0; i < job->chunk->count; i++) {
        const struct cut cut = cut_of(job, &job->chunk->stretches[i]);
        job->cuts.end[i] = tasks += d->value_heads / cut.heads * cut.parts;
    }
    uint64_t work = (uint64_t)job->chunk->tokens * sl__delta_value_width(d) * d->key_dim * 4;
    sl__run_parallel(job->run, run_cut, job, tasks, work);
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

void sl__delta_block(sl__run *run, uint32_t layer, const sl__chunk *chunk)
{
    const sl__delta_desc *d = &run->desc->layers[layer].delta;
    const sl__weight *w = run->layers[layer];
    sl__scratch *s = &run->scratch;
    const uint32_t tokens = chunk->tokens;
    const sl__product in[] = {
        sl__product_of(&w[SL_ROLE_DELTA_QKV], s->normed, s->delta.qkv, tokens),
        sl__product_of(&w[SL_ROLE_DELTA_Z], s->normed, s->delta.z, tokens),
        sl__product_of(&w[SL_ROLE_DELTA_A], s->normed, s->delta.a, tokens),
        sl__product_of(&w[SL_ROLE_DELTA_B], s->normed, s->delta.b, tokens),
    };
    sl__products(run, in, 4);
    uint32_t channels = sl__delta_conv_width(d), width = sl__delta_value_width(d);
    uint64_t rows = tokens;
    struct job job = {.run = run, .d = d, .w = w, .layer = layer, .chunk = chunk,
                      .ranges = (channels + CONV_RANGE - 1) / CONV_RANGE};
    sl__run_parallel(run, convolve, &job, chunk->count * job.ranges, rows * channels * 16);
    sl__run_parallel(run, prepare_token, &job, tokens, rows * channels * 4);
    run_delta(&job);
    sl__run_parallel(run, gate_token, &job, tokens, rows * width * 16);
    const sl__product out =
        sl__product_of(&w[SL_ROLE_DELTA_OUT], s->delta.out, s->mixed, tokens);
    sl__products(run, &out, 1);
}
