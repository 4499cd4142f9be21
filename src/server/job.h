/* A job: one answer that a client waits for. An API fills it in and hands it to the scheduler; the
 * scheduler runs it on the engine's thread, and tells the job's sink how it goes.
 *
 *     made ── submitted ── running: prompt, then a token a pass ── done
 *                 └───────────────── cancelled: the client has left ──┘
 *
 * Two hold it, the connection and the scheduler; the last to release it frees it.
 */
#ifndef SL_SERVER_JOB_H
#define SL_SERVER_JOB_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "sluice.h"

typedef struct job job;

/* What a job did, for answers and figures. */
typedef struct job_usage {
    uint32_t prompt_tokens, cached_tokens, answer_tokens;
    uint64_t queued_ns, prompt_ns, answer_ns;
} job_usage;

/* Called on the engine's thread, none after done. */
typedef struct job_sink {
    sl_status (*event)(void *ctx, const sl_event *event);
    /* Nothing to say, but it goes on; about once a second while a prompt is read. False: the client
     * has left. */
    bool (*alive)(void *ctx);
    /* err NULL: it ended as `finish` says, by the stop of that number (-1: by none); else it
     * failed. */
    void (*done)(void *ctx, sl_finish finish, int stop, const job_usage *usage,
                 const sl_error *err);
    void (*release)(void *ctx); /* when the job is freed; on either thread */
} job_sink;

struct job {
    atomic_uint holders;
    atomic_bool cancelled;
    int32_t *ids; /* [count]: the prompt; owned (malloc) */
    size_t count;
    size_t *turns;     /* [turn_count] increasing: where a longer prompt may begin like this one; */
    size_t turn_count; /* owned (malloc) */
    sl_generation_options options; /* event and ctx are the scheduler's, which also lowers
                                    * max_tokens to what the context holds */
    char **stops;                  /* what options.stops points at; owned, ended by NULL */
    char *tools;                   /* what options.tools points at; owned (malloc) */
    sl_grammar *grammar;           /* what options.grammar points at; owned; NULL: none */
    const job_sink *sink;
    void *sink_ctx;
    /* the scheduler's */
    job *next;
    sl_session *session;
    sl_generation *generation;
    float *logits;
    int32_t token;  /* the next one to evaluate, once the prompt is through */
    size_t at;      /* of the prompt: what was evaluated */
    size_t keep_at; /* where the session is worth keeping; 0: nowhere */
    uint64_t queued_at, began_at, answering_at;
    job_usage usage;
};

job *job_create(const job_sink *sink, void *sink_ctx); /* held once; NULL: no memory */
void job_hold(job *j);
void job_release(job *j);

#endif
