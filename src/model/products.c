/* Products cut into tasks for the pool, and the loops that blocks share. */
#include "model/run.h"

#include <assert.h>

/* Below this many multiply-adds a loop is done sooner than other threads are awake. */
#define PARALLEL_WORK_MIN ((uint64_t)1 << 18)

/* A task is so many bytes of the weights of consecutive rows, about: enough to pay for handing it
 * out and for memory's stream to begin anew, few enough that the last ones to finish do not keep
 * the others waiting. In whole groups of rows, which kernels take together. */
#define TASK_BYTES ((size_t)16 << 10)
#define TASK_ROWS  8u

/* Where rows are multiplied with inputs of 8 bits, so many are turned round together. */
#define TASK_Q8_ROWS 16u

/* Of a matrix in bf16 that meets rounded inputs: two tiles of AMX. */
#define TASK_BF16_ROWS 32u

/* Of a matrix in panels a task is rows in multiples of this: two panels side by side. */
#define TASK_PANEL_ROWS (2 * SL_PANEL_ROWS)

/* Of a transposed matrix a task is columns, in multiples of this: a few cache lines of each row. */
#define TASK_COLUMNS (2 * SL_GROUP)

void sl__run_parallel(const sl__run *run, sl__pool_fn fn, void *ctx, uint32_t count, uint64_t work)
{
    if (work >= PARALLEL_WORK_MIN) {
        sl__pool_run(run->pool, fn, ctx, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        fn(ctx, i, 0);
}

static uint32_t inputs_of(const sl__weight *w) { return w->transposed ? w->rows : w->cols; }
static uint32_t outputs_of(const sl__weight *w) { return w->transposed ? w->cols : w->rows; }

sl__product sl__product_of(const sl__weight *w, const float *x, float *y, uint32_t tokens)
{
    return (sl__product){.w = *w, .x = x, .x_stride = inputs_of(w), .y = y,
                         .y_stride = outputs_of(w), .tokens = tokens};
}

/* ---- inputs that are rounded ----------------------------------------------------------------- */

struct rounding {
    const sl__run *run;
    const float *x;
    size_t x_stride;
    uint32_t cols, rows;
    uint32_t step; /* rows of a task */
    sl__rounding to;
    char *out;
};

static void round_some(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct rounding *job = ctx;
    const sl__kern *kern = &job->run->kern;
    const uint32_t first = index * job->step, left = job->rows - first;
    const uint32_t n = left < job->step ? left : job->step;
    const float *x = job->x + first * job->x_stride;
    char *out = job->out + sl__rounded_bytes(job->to, job->cols, first);
    if (job->to == SL_ROUND_BF16) kern->round_bf16(x, job->x_stride, job->cols, n, out);
    else kern->quantise_rows(x, job->x_stride, 0, job->cols, job->cols, n, out);
}

void sl__round(const sl__run *run, sl__rounding to, const float *x, size_t x_stride, uint32_t cols,
               uint32_t rows, void *out)
{
    struct rounding job = {run, x, x_stride, cols, rows, 1, to, out};
    assert(to != SL_ROUND_NONE);
    if (to == SL_ROUND_BF16) job.step = (uint32_t)run->kern.bf16_tokens;
    sl__run_parallel(run, round_some, &job, (rows + job.step - 1) / job.step,
                     (uint64_t)rows * cols * 4);
}

/* What the batch's products share is rounded once. */
static void round_inputs(const sl__run *run, const sl__product *in, uint32_t count,
                         const void **rounded)
{
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const sl__product *p = &in[i];
        const sl__rounding to = sl__rounding_of(run, &p->w);
        rounded[i] = to == SL_ROUND_NONE ? NULL : p->rounded;
        if (rounded[i] || to == SL_ROUND_NONE) continue;
        for (uint32_t j = 0; j < i && !rounded[i]; j++) {
            bool same = in[j].x == p->x && in[j].tokens == p->tokens && in[j].w.cols == p->w.cols;
            if (same && sl__rounding_of(run, &in[j].w) == to) rounded[i] = rounded[j];
        }
        if (rounded[i]) continue;
        char *out = run->scratch.rounded + used;
        used += sl__rounded_bytes(to, p->w.cols, p->tokens);
        assert(used <= run->scratch.rounded_bytes);
        sl__round(run, to, p->x, p->x_stride, p->w.cols, p->tokens, out);
        rounded[i] = out;
    }
}

/* ---- tasks ----------------------------------------------------------------------------------- */

struct batch {
    const sl__run *run;
    const sl__product *products;
    const void *const *rounded; /* [count]: NULL: as floats */
    uint32_t count;
    uint32_t end[SL_PRODUCTS_MAX]; /* the tasks of this product and of those before it */
};

/* Outputs of a task. The cut depends on the shape alone, never on the number of threads. */
static uint32_t task_outputs(const sl__product *p)
{
    const sl__weight *w = &p->w;
    size_t row = w->row_bytes;
    if (sl__has_planes(&w->scaling)) {
        row += w->scale_row_bytes * (w->biases ? 2 : 1) / w->scaling.group_rows;
    }
    size_t output = w->transposed ? row * w->rows / w->cols + 1 : row;
    bool tiles = w->dtype == SL_BF16 && !w->precise;
    bool q8 = sl__dtype_has_q8_rows(w->dtype);
    uint32_t outputs = outputs_of(w), group = w->transposed ? TASK_COLUMNS
                                              : w->panels   ? TASK_PANEL_ROWS
                                              : tiles       ? TASK_BF16_ROWS
                                              : q8          ? TASK_Q8_ROWS
                                                            : TASK_ROWS;
    size_t n = (TASK_BYTES / output + group - 1) / group * group;
    if (n < group) n = group;
    return n < outputs ? (uint32_t)n : outputs;
}

static uint32_t task_count(const sl__product *p)
{
    uint32_t n = task_outputs(p);
    return (outputs_of(&p->w) + n - 1) / n;
}

void sl__multiply_q8(const sl__kern *kern, const sl__weight *w, uint32_t first, uint32_t count,
                     const void *x, uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    if (w->panels) {
        kern->panel_matmul_q8(w->dtype, (const char *)w->data + (size_t)first * w->row_bytes,
                              w->row_bytes, count, w->cols, x, tokens, y, y_stride, tmp);
        return;
    }
    const sl__rows rows = sl__weight_rows(w, first);
    kern->matmul_q8(&rows, count, w->cols, x, tokens, y, y_stride, tmp);
}

/* Outputs [first, first + count) of a product. */
static void run_outputs(const sl__run *run, const sl__product *p, const void *rounded,
                        uint32_t first, uint32_t count, float *tmp)
{
    const sl__weight *w = &p->w;
    if (rounded && sl__rounding_of(run, w) == SL_ROUND_Q8) {
        sl__multiply_q8(&run->kern, w, first, count, rounded, p->tokens, p->y + first, p->y_stride,
                        tmp);
        return;
    }
    if (w->panels) {
        const char *data = (const char *)w->data + (size_t)first * w->row_bytes;
        run->kern.panel_matmul(w->dtype, data, w->row_bytes, count, w->cols, p->x, p->x_stride,
                               p->tokens, p->y + first, p->y_stride, tmp);
        return;
    }
    if (w->transposed) {
        const sl__rows rows = sl__weight_rows(w, 0);
        run->kern.matmul_t(&rows, w->rows, first, first + count, p->x, p->x_stride, p->tokens,
                           p->y + first, p->y_stride, tmp);
        return;
    }
    const sl__rows rows = sl__weight_rows(w, first);
    if (rounded) {
        run->kern.matmul_bf16(rows.data, w->row_bytes, count, w->cols, rounded, p->tokens,
                              p->y + first, p->y_stride);
        return;
    }
    run->kern.matmul(&rows, count, w->cols, p->x, p->x_stride, p->tokens, p->y + first,
                     p->y_stride, tmp);
}

static void run_task(void *ctx, uint32_t index, uint32_t worker)
{
    const struct batch *batch = ctx;
    uint32_t at = 0;
    while (index >= batch->end[at])
        at++;
    const sl__product *p = &batch->products[at];
    if (at > 0) index -= batch->end[at - 1];
    uint32_t n = task_outputs(p), first = index * n, rest = outputs_of(&p->w) - first;
    run_outputs(batch->run, p, batch->rounded[at], first, n < rest ? n : rest,
                sl__worker_scratch(batch->run, worker));
}

void sl__products(const sl__run *run, const sl__product *products, uint32_t count)
{
    const void *rounded[SL_PRODUCTS_MAX];
    struct batch batch = {.run = run, .products = products, .rounded = rounded, .count = count};
    uint32_t tasks = 0;
    uint64_t work = 0;
    assert(count <= SL_PRODUCTS_MAX);
    round_inputs(run, products, count, rounded);
    for (uint32_t i = 0; i < count; i++) {
        assert(products[i].tokens > 0);
        batch.end[i] = tasks += task_count(&products[i]);
        work += (uint64_t)products[i].w.rows * products[i].w.cols * products[i].tokens;
    }
    sl__run_parallel(run, run_task, &batch, tasks, work);
}

struct norm_rows {
    const sl__run *run;
    float *y;
    const float *x, *w;
    uint32_t n;
};

static void norm_row(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct norm_rows *job = ctx;
    size_t at = (size_t)index * job->n;
    job->run->kern.rms_norm(job->y + at, job->x + at, job->w, job->n, job->run->desc->eps);
}

void sl__norm_rows(const sl__run *run, float *y, const float *x, const sl__weight *w,
                   uint32_t tokens, uint32_t n)
{
    struct norm_rows job = {run, y, x, w->data, n};
    sl__run_parallel(run, norm_row, &job, tokens, (uint64_t)tokens * n * 4);
}
