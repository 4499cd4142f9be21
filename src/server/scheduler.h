/* The scheduler: which jobs run, and one pass of the engine after the other for all of them.
 *
 *     submit ─▶ waiting, in order ─▶ active, at most one a session ─▶ done
 *
 *     a pass:   one token of every job that answers
 *             + a piece of the prompt of one that does not yet, each in its turn
 *
 * While some answer, pieces of prompts take turns with passes of single tokens, so that neither
 * waits long for the other.
 */
#ifndef SL_SERVER_SCHEDULER_H
#define SL_SERVER_SCHEDULER_H

#include "server/job.h"

typedef struct scheduler scheduler;

/* Figures of all that ran so far; those of the engine are as of the last pass. */
typedef struct scheduler_figures {
    uint32_t waiting, active, queue, parallel;
    uint64_t jobs_done, jobs_failed, jobs_cancelled, jobs_refused;
    uint64_t prompt_tokens, cached_tokens, answer_tokens, passes;
    uint64_t prompt_ns, answer_ns;
    double answer_tokens_per_s; /* over about the last two seconds; 0: nobody answers */
    sl_stats engine;
    sl_engine_info info; /* strings are the engine's */
} scheduler_figures;

/* The engine is the scheduler's until it is destroyed; borrowed. queue: jobs that may wait. */
sl_status scheduler_create(scheduler **out, sl_engine *engine, uint32_t queue, sl_error *err);
/* Cancels what is there and waits for its end; nothing is taken any more. NULL is allowed. */
void scheduler_stop(scheduler *s);
void scheduler_destroy(scheduler *s); /* stops it first; NULL is allowed */

/* The scheduler holds the job from now on. False: too many wait (or it is being destroyed), and it
 * was not taken. */
bool scheduler_submit(scheduler *s, job *j);

void scheduler_figures_get(scheduler *s, scheduler_figures *out);

#endif
