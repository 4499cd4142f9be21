/* Jobs: made, held and freed. */
#include "server/job.h"

#include <stdlib.h>

job *job_create(const job_sink *sink, void *sink_ctx)
{
    job *j = calloc(1, sizeof *j);
    if (!j) return NULL;
    atomic_init(&j->holders, 1);
    atomic_init(&j->cancelled, false);
    sl_generation_options_default(&j->options);
    j->sink = sink;
    j->sink_ctx = sink_ctx;
    return j;
}

void job_hold(job *j)
{
    atomic_fetch_add_explicit(&j->holders, 1, memory_order_relaxed);
}

void job_release(job *j)
{
    if (!j || atomic_fetch_sub_explicit(&j->holders, 1, memory_order_acq_rel) != 1) return;
    if (j->sink) j->sink->release(j->sink_ctx);
    for (char **stop = j->stops; stop && *stop; stop++)
        free(*stop);
    free(j->stops);
    free(j->tools);
    free(j->ids);
    free(j->turns);
    free(j);
}
