/* The short way through a feed-forward network whose three matrices all take their input rounded to
 * 8 bits. A task is a group of 64 rows of gate and up, of all tokens; what it leaves
 * is that group of the second product's input, rounded again, and nothing else goes through memory:
 *
 *     rows (8 bits) ─┬─ gate, 64 rows ─┐
 *                    └─ up,   64 rows ─┴─ silu·  ─ rounded ─> a group of inner (8 bits)
 */
#include "model/moe.h"

#include <assert.h>

struct batch {
    const sl__run *run;
    const sl__fused *jobs;
    uint32_t groups; /* of each job */
};

static void run_group(void *ctx, uint32_t index, uint32_t worker)
{
    const struct batch *batch = ctx;
    const sl__fused *job = &batch->jobs[index / batch->groups];
    const sl__kern *kern = &batch->run->kern;
    const sl__weight *gate = &job->gate, *up = &job->up;
    const size_t row = sl__q8_row_bytes(gate->cols), inner = sl__q8_row_bytes(gate->rows);
    uint32_t first = index % batch->groups * SL_GROUP, rest = gate->rows - first;
    uint32_t rows = rest < SL_GROUP ? rest : SL_GROUP;
    float *g = sl__worker_scratch(batch->run, worker), *u = g + SL_FUSED_TOKENS * SL_GROUP;
    float *tmp = g + SL_FUSED_FLOATS;
    for (uint32_t t = 0; t < job->tokens; t += SL_FUSED_TOKENS) {
        uint32_t n = job->tokens - t < SL_FUSED_TOKENS ? job->tokens - t : SL_FUSED_TOKENS;
        const char *x = (const char *)job->x + t * row;
        sl__multiply_q8(kern, gate, first, rows, x, n, g, SL_GROUP, tmp);
        sl__multiply_q8(kern, up, first, rows, x, n, u, SL_GROUP, tmp);
        for (uint32_t i = 0; i < n; i++)
            kern->swiglu(g + i * SL_GROUP, g + i * SL_GROUP, u + i * SL_GROUP, rows);
        kern->quantise_rows(g, SL_GROUP, first, first + rows, gate->rows, n,
                            (char *)job->inner + t * inner);
    }
}

void sl__fused_run(const sl__run *run, const sl__fused *jobs, uint32_t count)
{
    uint32_t rows = jobs[0].gate.rows;
    struct batch batch = {run, jobs, (rows + SL_GROUP - 1) / SL_GROUP};
    uint64_t work = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert(jobs[i].gate.rows == rows && jobs[i].up.rows == rows && jobs[i].tokens > 0);
        work += (uint64_t)jobs[i].tokens * 2 * rows * jobs[i].gate.cols;
    }
    sl__run_parallel(run, run_group, &batch, count * batch.groups, work);
}
