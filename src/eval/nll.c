/* Negative log-likelihood of a text: what every measure of quality here is made of.
 *
 *     row of token t:  logits[V]  →  log(sum exp logits) - logits[ids[t + 1]]  =  nll[t]
 *
 * Rows come a chunk at a time and are not kept. The sum is taken in double, over exp(logit - the
 * highest), so that neither the size of the vocabulary nor that of the logits costs precision.
 */
#include <math.h>

#include "base/fail.h"

typedef struct nll_task {
    const char *path; /* of the model, for messages */
    const int32_t *ids;
    size_t count;
    uint32_t vocab_size;
    float *nll; /* [count - 1] */
    sl_error *err;
} nll_task;

/* Not finite where a logit is not. */
static double row_nll(const float *logits, uint32_t vocab_size, int32_t target)
{
    double top = (double)logits[0];
    for (uint32_t i = 1; i < vocab_size; i++)
        if ((double)logits[i] > top) top = (double)logits[i];
    double sum = 0.0;
    for (uint32_t i = 0; i < vocab_size; i++)
        sum += exp((double)logits[i] - top);
    return log(sum) - ((double)logits[target] - top);
}

static sl_status take_rows(void *ctx, size_t first, size_t count, const float *logits)
{
    const nll_task *task = ctx;
    assert(first <= task->count && count <= task->count - first);
    for (size_t i = 0; i < count && first + i + 1 < task->count; i++) {
        size_t at = first + i;
        double nll = row_nll(logits + i * task->vocab_size, task->vocab_size, task->ids[at + 1]);
        if (!isfinite(nll))
            return SL_FAIL(task->err, SL_ENUMERIC, "%s: a logit of token %zu is not finite",
                           task->path, at);
        task->nll[at] = (float)nll;
    }
    return SL_OK;
}

sl_status sl_eval_nll(sl_session *session, const int32_t *ids, size_t count, float *nll,
                      sl_error *err)
{
    if (count < 2)
        return SL_FAIL(err, SL_EINVAL, "evaluation: %zu token%s; at least two are needed", count,
                       count == 1 ? "" : "s");
    sl_engine_info info;
    sl_engine_info_get(sl_session_engine(session), &info);
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= info.vocab_size)
            return SL_FAIL(err, SL_EINVAL,
                           "evaluation: id %d at position %zu is outside the vocabulary of %u",
                           ids[i], i, info.vocab_size);

    sl_session_reset(session);
    nll_task task = {.path = info.path,
                     .ids = ids,
                     .count = count,
                     .vocab_size = info.vocab_size,
                     .nll = nll,
                     .err = err};
    return sl_session_eval(session, ids, count, NULL, take_rows, &task, err);
}
