/* Grouped-query attention. What a model has of this is in its description:
 *
 *     q_proj ─ bias ─ norm ─ clip ─ rope ─┐
 *     k_proj ─ bias ─ norm ─ clip ─ rope ─┼─> cache k[position]
 *     v_proj ─ bias ─ clip ───────────────┼─> cache v[position]
 *                                         └─ softmax(q·k·scale, sink)·v ─ × sigmoid(gate) ─┐
 *                                                                          bias ─ o_proj ──┘
 *
 * With an output gate q_proj gives [query | gate] a head. With a window a token reads the last
 * `window` positions of the cache. state.h says how the cache lies, lookback.h how it is read.
 */
#include "model/run.h"

#include <assert.h>

#include "model/lookback.h"

struct job {
    sl__run *run;
    const sl__layer_desc *layer;
    const sl__attention_desc *a;
    const sl__weight *w;
    uint32_t index; /* of the layer */
    const sl__chunk *chunk;
    sl__spread blocks; /* of the cache, that the tokens are put into */
};

/* Floats from one head's query to the next, and of a token in q. */
static size_t head_stride(const sl__attention_desc *a)
{
    return a->output_gate ? 2 * (size_t)a->head_dim : a->head_dim;
}

static size_t q_stride(const sl__attention_desc *a) { return a->heads * head_stride(a); }

static size_t kv_stride(const sl__attention_desc *a) { return (size_t)a->kv_heads * a->head_dim; }

static void clip(float *x, float limit, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (x[i] > limit) x[i] = limit;
        if (x[i] < -limit) x[i] = -limit;
    }
}

static void add_bias(const struct job *job, float *x, size_t width, sl__role bias)
{
    if (job->a->bias) job->run->kern.axpy(x, 1.0f, job->w[bias].data, (uint32_t)width);
}

/* Norms, clips and rotates the heads of token t. */
static void finish_heads(const struct job *job, uint32_t t, float *x, uint32_t heads,
                            size_t stride, sl__role norm)
{
    const sl__attention_desc *a = job->a;
    const sl__kern *kern = &job->run->kern;
    const float *w = job->w[norm].data;
    float eps = job->run->desc->eps;
    if (a->qk_norm == SL_QK_NORM_WHOLE) {
        assert(stride == a->head_dim); /* the heads are adjacent */
        kern->rms_norm(x, x, w, heads * a->head_dim, eps);
    }
    for (uint32_t h = 0; h < heads; h++) {
        float *head = x + h * stride;
        if (a->qk_norm == SL_QK_NORM_HEAD) kern->rms_norm(head, head, w, a->head_dim, eps);
        if (a->clip > 0) clip(head, a->clip, a->head_dim);
        sl__rope_rotate(kern, &a->rope, &job->run->scratch.attention.rope, t, head);
    }
}

/* Makes the queries, key and value of one token ready. */
static void prepare_token(void *ctx, uint32_t t, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    const sl__attention_desc *a = job->a;
    const sl__scratch *s = &job->run->scratch;
    size_t kv = kv_stride(a);
    float *q = s->attention.q + t * q_stride(a);
    float *k = s->attention.k + t * kv, *v = s->attention.v + t * kv;
    add_bias(job, q, q_stride(a), SL_ROLE_Q_BIAS);
    add_bias(job, k, kv, SL_ROLE_K_BIAS);
    add_bias(job, v, kv, SL_ROLE_V_BIAS);
    finish_heads(job, t, q, a->heads, head_stride(a), SL_ROLE_Q_NORM);
    finish_heads(job, t, k, a->kv_heads, a->head_dim, SL_ROLE_K_NORM);
    if (a->clip > 0) clip(v, a->clip, (uint32_t)kv);
}

/* Puts keys and values of one head into one block of a stretch's cache:
 * index = block · kv_heads + head. */
static void store_block(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    const sl__scratch *s = &job->run->scratch;
    size_t kv = kv_stride(job->a);
    const sl__stretch *p = &job->chunk->stretches[sl__spread_find(&job->blocks, &index)];
    sl__state_store(&p->layers[job->index], job->layer, index % job->a->kv_heads,
                    index / job->a->kv_heads, p->position, p->tokens,
                    s->attention.k + p->first * kv, kv, s->attention.v + p->first * kv, kv);
}

/* Angles and room for all tokens; returns the number of store_block's tasks. */
static uint32_t make_ready(struct job *job)
{
    const sl__rope_table *rope = &job->run->scratch.attention.rope;
    uint32_t tasks = 0;
    sl__rope_frequencies(&job->a->rope, rope->frequency);
    for (uint32_t i = 0; i < job->chunk->count; i++) {
        const sl__stretch *p = &job->chunk->stretches[i];
        sl__rope_fill_from(&job->a->rope, rope, p->first, p->position, p->tokens);
        sl__state_make_room(&p->layers[job->index], job->layer, p->position, p->tokens);
        job->blocks.end[i] = tasks += sl__state_blocks(p->position, p->tokens) * job->a->kv_heads;
    }
    return tasks;
}

static void look_back(const struct job *job)
{
    const sl__attention_desc *a = job->a;
    const sl__scratch *s = &job->run->scratch;
    sl__lookback looks[SL_STRETCHES_MAX];
    for (uint32_t i = 0; i < job->chunk->count; i++) {
        const sl__stretch *p = &job->chunk->stretches[i];
        looks[i] = (sl__lookback){
            .state = &p->layers[job->index], .heads = a->heads, .kv_heads = a->kv_heads,
            .qk_dim = a->head_dim, .v_dim = a->head_dim,
            .q = s->attention.q + p->first * q_stride(a), .q_token = q_stride(a),
            .q_head = head_stride(a), .gate = a->output_gate ? a->head_dim : 0,
            .position = p->position, .tokens = p->tokens, .window = a->window, .scale = a->scale,
            .sinks = a->sinks ? job->w[SL_ROLE_SINKS].data : NULL,
            .out = s->attention.out + (size_t)p->first * a->heads * a->head_dim};
    }
    sl__look_back(job->run, looks, job->chunk->count);
}

static void add_output_bias(void *ctx, uint32_t t, uint32_t worker)
{
    (void)worker;
    const struct job *job = ctx;
    uint32_t hidden = job->run->desc->hidden;
    job->run->kern.axpy(job->run->scratch.mixed + (size_t)t * hidden, 1.0f,
                        job->w[SL_ROLE_O_BIAS].data, hidden);
}

void sl__attention_block(sl__run *run, uint32_t layer_index, const sl__chunk *chunk)
{
    const sl__layer_desc *layer = &run->desc->layers[layer_index];
    const sl__attention_desc *a = &layer->attention;
    const sl__weight *w = run->layers[layer_index];
    sl__scratch *s = &run->scratch;
    const uint32_t tokens = chunk->tokens;
    const sl__product in[] = {
        sl__product_of(&w[SL_ROLE_Q], s->normed, s->attention.q, tokens),
        sl__product_of(&w[SL_ROLE_K], s->normed, s->attention.k, tokens),
        sl__product_of(&w[SL_ROLE_V], s->normed, s->attention.v, tokens),
    };
    sl__products(run, in, 3);
    struct job job = {.run = run, .layer = layer, .a = a, .w = w, .index = layer_index,
                      .chunk = chunk};
    uint32_t blocks = make_ready(&job);
    sl__run_parallel(run, prepare_token, &job, tokens, (uint64_t)tokens * q_stride(a) * 8);
    sl__run_parallel(run, store_block, &job, blocks, (uint64_t)tokens * kv_stride(a) * 16);
    look_back(&job);
    const sl__product out =
        sl__product_of(&w[SL_ROLE_O], s->attention.out, s->mixed, tokens);
    sl__products(run, &out, 1);
    if (!a->output_bias) return;
    sl__run_parallel(run, add_output_bias, &job, tokens, (uint64_t)tokens * run->desc->hidden);
}
