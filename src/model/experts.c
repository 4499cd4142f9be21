/* Feed-forward networks: a batch of experts, each over its tokens' rows, and the shared expert.
 *
 *     rows [n, hidden] ── gate, up ──> inner ── activation ──> inner ── down ──> rows
 *
 *     inner of an expert with n rows, 2·n·I floats:
 *       apart         gate [n, I], then up [n, I]; the activation's result is in gate's place
 *       interleaved   [n, 2I], a row being g0 u0 g1 u1 …; the result is the first I of each row
 *
 * Biases are few numbers beside the matrices: a row of them is made floats where it is added.
 */
#include "model/moe.h"

#include <assert.h>
#include <string.h>

/* ---- activation ------------------------------------------------------------------------------ */

struct activation {
    const sl__run *run;
    const sl__moe_desc *m;
    float *gate, *up;
    size_t row_stride, stride; /* in floats: from row to row, from element to element */
    uint32_t rows, width;
    const sl__weight *bias; /* NULL: none; of both where they are interleaved, else of gate, */
    const sl__weight *up_bias; /* and of up */
    uint32_t bias_row;
};

static const float *bias_row(const sl__run *run, const sl__weight *bias, uint32_t row, float *tmp)
{
    const sl__rows rows = sl__weight_rows(bias, 0);
    run->kern.dequant_row(&rows, row, tmp, bias->cols);
    return tmp;
}

/* silu(g)·u of an interleaved row. */
static void interleaved_swiglu(const struct activation *job, float *row, float *tmp)
{
    for (uint32_t i = 0; i < job->width; i++) {
        tmp[i] = row[2 * i];
        tmp[job->width + i] = row[2 * i + 1];
    }
    job->run->kern.swiglu(row, tmp, tmp + job->width, job->width);
}

static void activate_row(void *ctx, uint32_t index, uint32_t worker)
{
    const struct activation *job = ctx;
    const sl__kern *kern = &job->run->kern;
    float *gate = job->gate + index * job->row_stride, *up = job->up + index * job->row_stride;
    float *tmp = sl__worker_scratch(job->run, worker);
    if (job->bias) {
        const float *bias = bias_row(job->run, job->bias, job->bias_row, tmp);
        bool both = job->stride == 2; /* a row of biases is as the row of outputs */
        kern->axpy(gate, 1.0f, bias, both ? 2 * job->width : job->width);
        if (!both) {
            bias = bias_row(job->run, job->up_bias, job->bias_row, tmp);
            kern->axpy(up, 1.0f, bias, job->width);
        }
    }
    if (job->m->activation == SL_ACTIVATION_CLAMPED) {
        kern->swiglu_clamped(gate, gate, up, job->stride, job->width, job->m->alpha, job->m->limit);
    } else if (job->stride == 2) {
        interleaved_swiglu(job, gate, tmp);
    } else {
        kern->swiglu(gate, gate, up, job->width);
    }
}

static void activate(struct activation *job)
{
    uint64_t work = (uint64_t)job->rows * job->width * 16;
    sl__run_parallel(job->run, activate_row, job, job->rows, work);
}

/* ---- experts --------------------------------------------------------------------------------- */

static sl__weight part_of(const sl__moe *moe, const sl__expert_ref *ref, sl__expert_part part)
{
    const sl__matrix_layout *p = &moe->layout->part[part];
    const char *record = ref->record;
    return (sl__weight){.dtype = p->dtype, .rows = p->rows, .cols = p->cols,
                        .row_bytes = (size_t)p->row_bytes, .data = record + p->offset,
                        .scaling = p->scaling,
                        .scales = p->scale_row_bytes ? record + p->scales_offset : NULL,
                        .biases = p->scaling.biases ? record + p->biases_offset : NULL,
                        .first_row = p->first, .scale_row_bytes = (size_t)p->scale_row_bytes,
                        .transposed = p->transposed, .panels = p->panels};
}

sl__rounding sl__part_rounding(const sl__expert_layout *layout, sl__expert_part part,
                               sl_activations activations)
{
    const sl__matrix_layout *p = &layout->part[part];
    if (p->rows == 0) return SL_ROUND_NONE;
    return sl__rounding_for(activations, p->dtype, p->panels, p->transposed);
}

static sl__rounding rounding_of(const sl__moe *moe, sl__expert_part part)
{
    return sl__part_rounding(moe->layout, part, moe->run->activations);
}

/* Whether gate or up take their input so. */
static bool first_takes(const sl__moe *moe, sl__rounding to)
{
    return rounding_of(moe, SL_PART_GATE) == to || rounding_of(moe, SL_PART_UP) == to;
}

bool sl__experts_take_q8(const sl__moe *moe)
{
    return moe->layout && first_takes(moe, SL_ROUND_Q8);
}

bool sl__first_takes_bf16(const sl__expert_layout *layout, sl_activations activations,
                          uint32_t hidden)
{
    const sl__rounding gate = sl__part_rounding(layout, SL_PART_GATE, activations);
    const sl__rounding up = sl__part_rounding(layout, SL_PART_UP, activations);
    bool absent = layout->part[SL_PART_UP].rows == 0;
    return gate == SL_ROUND_BF16 && (absent || up == SL_ROUND_BF16) &&
           sl__bf16_bytes(hidden, 1) <= hidden * sizeof(float);
}

bool sl__experts_fused(const sl__moe_desc *m, const sl__expert_layout *layout,
                       sl_activations activations)
{
    bool q8 = true;
    for (uint32_t p = 0; p < SL_PART_COUNT; p++)
        q8 &= sl__part_rounding(layout, (sl__expert_part)p, activations) == SL_ROUND_Q8;
    return q8 && m->activation == SL_ACTIVATION_SILU && !m->interleaved && !m->expert_bias;
}

static bool is_fused(const sl__moe *moe)
{
    return sl__experts_fused(moe->m, moe->layout, moe->run->activations);
}

/* The rows of an expert, and what is computed from them. */
struct job {
    float *rows, *inner;
    const char *q8; /* rows, rounded, where a first product takes them so */
    char *bf16;     /* likewise; they are rounded once they are gathered */
    char *inner_rounded; /* inner, as the second product takes it; NULL: as it is */
    uint32_t n;
};

/* The rows as a first product takes them. */
static const void *rounded_rows(const sl__moe *moe, const struct job *job, sl__expert_part part)
{
    const sl__rounding to = rounding_of(moe, part);
    return to == SL_ROUND_Q8 ? job->q8 : to == SL_ROUND_BF16 ? job->bf16 : NULL;
}

/* A token's rows are its own where it is alone. */
static const char *gather_q8(const sl__moe *moe, uint32_t first, uint32_t n)
{
    const sl__scratch *s = &moe->run->scratch;
    size_t bytes = sl__q8_row_bytes(moe->run->desc->hidden);
    char *rows = s->moe.q8_rows + first * bytes;
    if (moe->tokens == 1) return s->moe.q8_tokens;
    for (uint32_t r = 0; r < n; r++)
        memcpy(rows + r * bytes, s->moe.q8_tokens + s->moe.token[first + r] * bytes, bytes);
    return rows;
}

static struct job gather(const sl__moe *moe, uint32_t expert)
{
    const sl__scratch *s = &moe->run->scratch;
    uint32_t hidden = moe->run->desc->hidden, first = s->moe.first[expert];
    struct job job = {.n = s->moe.first[expert + 1] - first,
                      .rows = s->moe.rows + (size_t)first * hidden,
                      .inner = s->moe.inner + (size_t)first * 2 * moe->m->intermediate};
    if (sl__experts_take_q8(moe)) job.q8 = gather_q8(moe, first, job.n);
    const bool alone = sl__first_takes_bf16(moe->layout, moe->run->activations, hidden);
    if (alone) { /* the floats are needed by nobody until the second products put some there */
        job.bf16 = (char *)job.rows;
    } else if (first_takes(moe, SL_ROUND_BF16)) {
        job.bf16 = s->moe.bf16_rows + sl__rounded_bytes(SL_ROUND_BF16, hidden, first);
    }
    const sl__rounding down = rounding_of(moe, SL_PART_DOWN);
    if (down == SL_ROUND_BF16 && sl__bf16_inner_fits(moe->m)) { /* nobody needs up any more then */
        job.inner_rounded = (char *)(job.inner + (size_t)job.n * moe->m->intermediate);
    } else if (down != SL_ROUND_NONE) {
        char *inner = down == SL_ROUND_Q8 ? s->moe.q8_inner : s->moe.bf16_inner;
        job.inner_rounded = inner + sl__rounded_bytes(down, moe->m->intermediate, first);
    }
    for (uint32_t r = 0; r < job.n && !is_fused(moe) && !alone; r++) {
        memcpy(job.rows + (size_t)r * hidden,
               s->normed + (size_t)s->moe.token[first + r] * hidden, hidden * sizeof(float));
    }
    return job;
}

/* The products of an expert's rows with gate and up; returns their number. */
static uint32_t first_products(const sl__moe *moe, const sl__expert_ref *ref,
                               const struct job *job, sl__product *out)
{
    const sl__weight gate = part_of(moe, ref, SL_PART_GATE);
    out[0] = sl__product_of(&gate, job->rows, job->inner, job->n);
    out[0].rounded = rounded_rows(moe, job, SL_PART_GATE);
    if (moe->m->interleaved) return 1;
    const sl__weight up = part_of(moe, ref, SL_PART_UP);
    float *to = job->inner + (size_t)job->n * moe->m->intermediate;
    out[1] = sl__product_of(&up, job->rows, to, job->n);
    out[1].rounded = rounded_rows(moe, job, SL_PART_UP);
    return 2;
}

static void activate_expert(const sl__moe *moe, uint32_t expert, const struct job *job)
{
    const sl__moe_desc *m = moe->m;
    uint32_t width = m->intermediate;
    struct activation a = {.run = moe->run, .m = m, .gate = job->inner, .rows = job->n,
                           .width = width, .stride = 1, .row_stride = width,
                           .up = job->inner + (size_t)job->n * width, .bias_row = expert};
    if (m->interleaved) {
        a.up = job->inner + 1;
        a.stride = 2;
        a.row_stride = 2 * (size_t)width;
    }
    if (m->expert_bias) {
        a.bias = &moe->run->layers[moe->layer][SL_ROLE_EXPERT_IN_BIAS];
        a.up_bias = &moe->run->layers[moe->layer][SL_ROLE_EXPERT_UP_BIAS];
    }
    activate(&a);
}

struct out_bias {
    const sl__moe *moe;
    float *rows;
    uint32_t expert;
};

static void add_out_bias(void *ctx, uint32_t index, uint32_t worker)
{
    const struct out_bias *job = ctx;
    const sl__run *run = job->moe->run;
    uint32_t hidden = run->desc->hidden;
    const float *bias = bias_row(run, &run->layers[job->moe->layer][SL_ROLE_EXPERT_OUT_BIAS],
                                 job->expert, sl__worker_scratch(run, worker));
    run->kern.axpy(job->rows + (size_t)index * hidden, 1.0f, bias, hidden);
}

struct gathering {
    const sl__moe *moe;
    const struct job *job;
    const uint32_t *token; /* of each row */
};

/* The rows of a block, gathered and rounded. */
static void gather_bf16(void *ctx, uint32_t index, uint32_t worker)
{
    const struct gathering *g = ctx;
    const sl__run *run = g->moe->run;
    const uint32_t hidden = run->desc->hidden, step = (uint32_t)run->kern.bf16_tokens;
    const uint32_t first = index * step, left = g->job->n - first, n = left < step ? left : step;
    float *rows = sl__worker_scratch(run, worker);
    for (uint32_t r = 0; r < n; r++) {
        memcpy(rows + (size_t)r * hidden,
               run->scratch.normed + (size_t)g->token[first + r] * hidden, hidden * sizeof *rows);
    }
    run->kern.round_bf16(rows, hidden, hidden, n,
                         g->job->bf16 + sl__rounded_bytes(SL_ROUND_BF16, hidden, first));
}

/* The rows of an expert as bf16. */
static void round_rows(const sl__moe *moe, const struct job *job, uint32_t expert)
{
    const sl__run *run = moe->run;
    const uint32_t hidden = run->desc->hidden, step = (uint32_t)run->kern.bf16_tokens;
    struct gathering g = {moe, job, run->scratch.moe.token + run->scratch.moe.first[expert]};
    if (job->bf16 != (char *)job->rows) {
        sl__round(run, SL_ROUND_BF16, job->rows, hidden, hidden, job->n, job->bf16);
        return;
    }
    sl__run_parallel(run, gather_bf16, &g, (job->n + step - 1) / step,
                     (uint64_t)job->n * hidden * 4);
}

/* From the tokens to what the second products are of. */
static void run_first(const sl__moe *moe, const sl__expert_ref *refs, const struct job *jobs,
                      uint32_t count)
{
    sl__product in[2 * SL_EXPERT_BATCH_MAX];
    uint32_t in_count = 0, width = moe->m->intermediate;
    for (uint32_t i = 0; i < count; i++) {
        if (jobs[i].bf16) round_rows(moe, &jobs[i], refs[i].expert);
        in_count += first_products(moe, &refs[i], &jobs[i], in + in_count);
    }
    sl__products(moe->run, in, in_count);
    for (uint32_t i = 0; i < count; i++) {
        activate_expert(moe, refs[i].expert, &jobs[i]);
        if (!jobs[i].inner_rounded) continue;
        sl__round(moe->run, rounding_of(moe, SL_PART_DOWN), jobs[i].inner,
                  moe->m->interleaved ? 2 * (size_t)width : width, width, jobs[i].n,
                  jobs[i].inner_rounded);
    }
}

static void run_first_fused(const sl__moe *moe, const sl__expert_ref *refs, const struct job *jobs,
                            uint32_t count)
{
    sl__fused fused[SL_EXPERT_BATCH_MAX];
    for (uint32_t i = 0; i < count; i++) {
        fused[i] = (sl__fused){.gate = part_of(moe, &refs[i], SL_PART_GATE),
                               .up = part_of(moe, &refs[i], SL_PART_UP), .x = jobs[i].q8,
                               .inner = jobs[i].inner_rounded, .tokens = jobs[i].n};
    }
    sl__fused_run(moe->run, fused, count);
}

void sl__experts_run(const sl__moe *moe, const sl__expert_ref *refs, uint32_t count)
{
    sl__product out[SL_EXPERT_BATCH_MAX];
    struct job jobs[SL_EXPERT_BATCH_MAX];
    uint32_t hidden = moe->run->desc->hidden;
    assert(count > 0 && count <= SL_EXPERT_BATCH_MAX);
    for (uint32_t i = 0; i < count; i++) {
        jobs[i] = gather(moe, refs[i].expert);
        const sl__weight down = part_of(moe, &refs[i], SL_PART_DOWN);
        /* The inputs are no longer needed then. */
        out[i] = sl__product_of(&down, jobs[i].inner, jobs[i].rows, jobs[i].n);
        if (moe->m->interleaved) out[i].x_stride = 2 * (size_t)moe->m->intermediate;
        out[i].rounded = jobs[i].inner_rounded;
    }
    if (is_fused(moe)) run_first_fused(moe, refs, jobs, count);
    else run_first(moe, refs, jobs, count);
    sl__products(moe->run, out, count);
    for (uint32_t i = 0; i < count && moe->m->expert_bias; i++) {
        struct out_bias job = {moe, jobs[i].rows, refs[i].expert};
        uint64_t work = (uint64_t)jobs[i].n * hidden * 2;
        sl__run_parallel(moe->run, add_out_bias, &job, jobs[i].n, work);
    }
}

/* ---- shared expert --------------------------------------------------------------------------- */

static bool takes_q8(const sl__run *run, const sl__weight *w)
{
    return sl__rounding_of(run, w) == SL_ROUND_Q8;
}

bool sl__shared_takes_q8(const sl__moe *moe)
{
    const sl__weight *w = moe->run->layers[moe->layer];
    return moe->m->shared_intermediate > 0 &&
           (takes_q8(moe->run, &w[SL_ROLE_SHARED_GATE_PROJ]) ||
            takes_q8(moe->run, &w[SL_ROLE_SHARED_UP_PROJ]));
}

static bool shared_is_fused(const sl__moe *moe)
{
    const sl__weight *w = moe->run->layers[moe->layer];
    return moe->m->activation == SL_ACTIVATION_SILU &&
           takes_q8(moe->run, &w[SL_ROLE_SHARED_GATE_PROJ]) &&
           takes_q8(moe->run, &w[SL_ROLE_SHARED_UP_PROJ]) &&
           takes_q8(moe->run, &w[SL_ROLE_SHARED_DOWN_PROJ]);
}

static void run_shared_first(const sl__moe *moe)
{
    sl__run *run = moe->run;
    sl__scratch *s = &run->scratch;
    const sl__weight *w = run->layers[moe->layer];
    uint32_t n = moe->tokens, width = moe->m->shared_intermediate;
    sl__product in[2] = {
        sl__product_of(&w[SL_ROLE_SHARED_GATE_PROJ], s->normed, s->moe.shared_gate, n),
        sl__product_of(&w[SL_ROLE_SHARED_UP_PROJ], s->normed, s->moe.shared_up, n),
    };
    for (uint32_t i = 0; i < 2; i++) { /* to 8 bits they have been rounded for experts, too */
        if (takes_q8(run, &in[i].w)) in[i].rounded = s->moe.q8_tokens;
    }
    sl__products(run, in, 2);
    struct activation a = {.run = run, .m = moe->m, .gate = s->moe.shared_gate,
                           .up = s->moe.shared_up, .rows = n, .width = width, .stride = 1,
                           .row_stride = width};
    activate(&a);
}

void sl__shared_run(const sl__moe *moe)
{
    sl__run *run = moe->run;
    sl__scratch *s = &run->scratch;
    const sl__weight *w = run->layers[moe->layer];
    uint32_t n = moe->tokens;
    sl__product out =
        sl__product_of(&w[SL_ROLE_SHARED_DOWN_PROJ], s->moe.shared_gate, s->moe.shared_out, n);
    if (shared_is_fused(moe)) {
        const sl__fused fused = {.gate = w[SL_ROLE_SHARED_GATE_PROJ],
                                 .up = w[SL_ROLE_SHARED_UP_PROJ], .x = s->moe.q8_tokens,
                                 .inner = s->moe.q8_shared, .tokens = n};
        out.rounded = s->moe.q8_shared;
        sl__fused_run(run, &fused, 1);
    } else {
        run_shared_first(moe);
    }
    sl__products(run, &out, 1);
    if (moe->m->shared_gate) {
        const sl__product scale =
            sl__product_of(&w[SL_ROLE_SHARED_GATE], s->normed, s->moe.shared_scale, n);
        sl__products(run, &scale, 1);
    }
    if (moe->m->shared_gate) run->kern.sigmoid(s->moe.shared_scale, n);
}
