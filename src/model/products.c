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

/* ---- inputs rounded to 8 bits ---------------------------------------------------------------- */

struct quantising {
    const sl__run *run;
    const float *x;
    size_t x_stride;
    uint32_t cols;
    char *out;
};

static void quantise_row(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct quantising *job = ctx;
    job->run->kern.quantise_rows(job->x + index * job->x_stride, job->x_stride, 0, job->cols,
                                 job->cols, 1, job->out + index * sl__q8_row_bytes(job->cols));
}

void sl__quantise(const sl__run *run, const float *x, size_t x_stride, uint32_t cols, uint32_t rows,
                  void *out)
{
    struct quantising job = {run, x, x_stride, cols, out};
    sl__run_parallel(run, quantise_row, &job, rows, (uint64_t)rows * cols * 4);
}

/* What the batch's products share is rounded once. */
static void quantise_inputs(const sl__run *run, const sl__product *in, uint32_t count,
                            const void **q8)
{
    size_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const sl__product *p = &in[i];
        q8[i] = p->q8;
        if (q8[i] || !sl__takes_q8(run, &p->w)) continue;
        for (uint32_t j = 0; j < i && !q8[i]; j++) {
            bool same = in[j].x == p->x && in[j].tokens == p->tokens && in[j].w.cols == p->w.cols;
            if (same) q8[i] = q8[j];
        }
        if (q8[i]) continue;
        char *to = run->scratch.q8 + used;
        used += p->tokens * sl__q8_row_bytes(p->w.cols);
        assert(used <= run->scratch.q8_bytes);
        sl__quantise(run, p->x, p->x_stride, p->w.cols, p->tokens, to);
        q8[i] = to;
    }
}

/* ---- tasks ----------------------------------------------------------------------------------- */

struct batch {
    const sl__run *run;
    const sl__product *products;
    const void *const *q8; /* [count] */
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
    uint32_t outputs = outputs_of(w);
    uint32_t group = w->transposed                       ? TASK_COLUMNS
                     : w->panels                         ? TASK_PANEL_ROWS
                     : sl__dtype_has_q8_rows(w->dtype)   ? TASK_Q8_ROWS
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
static void run_outputs(const sl__run *run, const sl__product *p, const void *q8, uint32_t first,
                        uint32_t count, float *tmp)
{
    const sl__weight *w = &p->w;
    if (q8 && sl__takes_q8(run, w)) { /* it may be there for another product */
        sl__multiply_q8(&run->kern, w, first, count, q8, p->tokens, p->y + first, p->y_stride, tmp);
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
    run_outputs(batch->run, p, batch->q8[at], first, n < rest ? n : rest,
                sl__worker_scratch(batch->run, worker));
}

void sl__products(const sl__run *run, const sl__product *products, uint32_t count)
{
    const void *q8[SL_PRODUCTS_MAX];
    struct batch batch = {.run = run, .products = products, .q8 = q8, .count = count};
    uint32_t tasks = 0;
    uint64_t work = 0;
    assert(count <= SL_PRODUCTS_MAX);
    quantise_inputs(run, products, count, q8);
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
