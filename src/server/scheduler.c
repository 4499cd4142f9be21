/* The scheduler's thread: the only one that calls the engine. */
#include "server/scheduler.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "server/experts_map.h"

/* Pieces of a prompt end where they would if it were alone: at multiples of this, or of the
 * engine's chunk where that is smaller. */
#define PIECE_TOKENS 64u
/* While jobs answer, passes of single tokens between two pieces of a prompt. */
#define PASSES_BETWEEN 8u
#define TICK_NS        ((uint64_t)1000000000)
#define SPEED_NS       ((uint64_t)2000000000)

struct scheduler {
    sl_engine *engine;
    sl_prefix_cache *prefixes; /* NULL: none */
    sl_engine_info info;
    experts_map *experts; /* has a lock of its own */
    pthread_t thread;
    pthread_mutex_t lock; /* of what follows, to `figures` */
    pthread_cond_t wake;
    atomic_bool stopping; /* changed under the lock */
    job *first, *last;    /* waiting */
    uint32_t waiting, queue;
    bool watched; /* somebody asks how the engine is, and it may be at rest */
    scheduler_figures figures;
    /* the thread's own */
    uint32_t parallel, active_count, turn, passes_since, spare_count;
    job **active;         /* [parallel] */
    sl_session **spare;   /* [parallel]: sessions of nobody */
    sl_session **all;     /* [parallel] */
    sl_batch_item *items; /* [parallel] */
    job **of_item;        /* [parallel] */
    float *logits;        /* [parallel][vocab] */
    float **spare_logits; /* [parallel] */
    uint64_t ticked_at, speed_at, speed_tokens, answer_tokens;
};

/* ---- figures --------------------------------------------------------------------------------- */

static void measure_speed(scheduler *s, uint64_t now)
{
    uint64_t past = now - s->speed_at;
    if (past < SPEED_NS && s->active_count > 0) return;
    double speed = past > 0 ? (double)(s->answer_tokens - s->speed_tokens) * 1e9 / (double)past : 0;
    s->figures.answer_tokens_per_s = s->active_count > 0 ? speed : 0;
    s->speed_at = now;
    s->speed_tokens = s->answer_tokens;
}

static void publish(scheduler *s)
{
    experts_map_update(s->experts);
    pthread_mutex_lock(&s->lock);
    s->figures.active = s->active_count;
    s->figures.answer_tokens = s->answer_tokens;
    sl_engine_stats_get(s->engine, &s->figures.engine);
    measure_speed(s, sl__now_ns());
    s->watched = false;
    pthread_mutex_unlock(&s->lock);
}

json_t *scheduler_experts_json(scheduler *s)
{
    json_t *value = experts_map_json(s->experts);
    pthread_mutex_lock(&s->lock);
    s->watched = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    return value;
}

void scheduler_figures_get(scheduler *s, scheduler_figures *out)
{
    pthread_mutex_lock(&s->lock);
    *out = s->figures;
    out->waiting = s->waiting;
    out->queue = s->queue;
    out->parallel = s->parallel;
    out->info = s->info;
    pthread_mutex_unlock(&s->lock);
}

/* ---- jobs ------------------------------------------------------------------------------------ */

static sl_status on_event(void *ctx, const sl_event *event)
{
    job *j = ctx;
    return j->sink->event(j->sink_ctx, event);
}

/* Once a second everybody hears that it goes on, and says whether somebody is still there. */
static void tick(scheduler *s)
{
    uint64_t now = sl__now_ns();
    if (now - s->ticked_at < TICK_NS) return;
    s->ticked_at = now;
    for (uint32_t i = 0; i < s->active_count; i++) {
        job *j = s->active[i];
        if (!j->sink->alive(j->sink_ctx)) atomic_store(&j->cancelled, true);
    }
    pthread_mutex_lock(&s->lock);
    for (job *j = s->first; j; j = j->next) {
        if (!j->sink->alive(j->sink_ctx)) atomic_store(&j->cancelled, true);
    }
    pthread_mutex_unlock(&s->lock);
}

struct progress {
    scheduler *s;
    job *j;
};

static sl_status on_progress(void *ctx, double done, size_t count)
{
    const struct progress *p = ctx;
    (void)done;
    (void)count;
    tick(p->s);
    publish(p->s); /* a long prompt shows too */
    bool over = atomic_load(&p->j->cancelled) || atomic_load(&p->s->stopping);
    return over ? SL_ECANCELLED : SL_OK;
}

/* A job has ended, before it had a session or after; err NULL: well. */
static void conclude(scheduler *s, job *j, const sl_error *err)
{
    const uint64_t now = sl__now_ns();
    bool cancelled = atomic_load(&j->cancelled) || atomic_load(&s->stopping);
    if (j->generation) j->usage.answer_tokens = sl_generation_tokens(j->generation);
    if (j->answering_at) j->usage.answer_ns = now - j->answering_at;
    pthread_mutex_lock(&s->lock);
    scheduler_figures *f = &s->figures;
    *(cancelled ? &f->jobs_cancelled : err ? &f->jobs_failed : &f->jobs_done) += 1;
    f->prompt_ns += j->usage.prompt_ns;
    f->answer_ns += j->usage.answer_ns;
    pthread_mutex_unlock(&s->lock);
    sl_finish finish = j->generation ? sl_generation_finish(j->generation) : SL_FINISH_NONE;
    int stop = j->generation ? sl_generation_stop(j->generation) : -1;
    j->sink->done(j->sink_ctx, finish, stop, &j->usage, err);
    sl_generation_destroy(j->generation);
    j->generation = NULL;
    job_release(j);
}

/* Takes an active job out. */
static void end_job(scheduler *s, uint32_t index, const sl_error *err)
{
    job *j = s->active[index];
    sl_session_set_progress(j->session, NULL, NULL);
    s->spare[s->spare_count] = j->session;
    s->spare_logits[s->spare_count++] = j->logits;
    s->active[index] = s->active[--s->active_count];
    conclude(s, j, err);
}

static sl_status begin(scheduler *s, job *j, sl_error *err)
{
    if (j->count == 0) return SL_FAIL(err, SL_EINVAL, "the prompt is empty");
    if (j->count >= s->info.context_tokens) {
        return SL_FAIL(err, SL_EINVAL, "the prompt has %zu tokens, and the context %u", j->count,
                       s->info.context_tokens);
    }
    /* The last token of an answer is not evaluated: it need not fit into the context. */
    uint32_t room = s->info.context_tokens - (uint32_t)j->count + 1;
    if (j->options.max_tokens == 0 || j->options.max_tokens > room) j->options.max_tokens = room;
    j->options.event = on_event;
    j->options.ctx = j;
    j->usage.prompt_tokens = (uint32_t)j->count;
    j->began_at = sl__now_ns();
    j->usage.queued_ns = j->began_at - j->queued_at;
    return sl_generation_create(&j->generation, sl_engine_tokenizer(s->engine), s->info.vocab_size,
                                &j->options, j->ids, j->count, err);
}

/* As much of the prompt as is known from before need not be read again; and where the conversation
 * ends, before the answer's own opening, is what a next turn begins with. */
static void begin_prompt(scheduler *s, job *j)
{
    sl_error ignored = {0};
    size_t reused = 0, end = j->turn_count ? j->turns[j->turn_count - 1] : j->count - 1;
    if (!s->prefixes || sl_prefix_cache_find(s->prefixes, j->session, j->ids, j->count, &reused,
                                             &ignored) != SL_OK) {
        sl_session_reset(j->session);
        reused = 0;
    }
    j->at = reused;
    j->keep_at = s->prefixes ? sl_prefix_cache_boundary(s->prefixes, end) : 0;
    j->usage.cached_tokens = (uint32_t)reused;
    pthread_mutex_lock(&s->lock);
    s->figures.cached_tokens += reused;
    pthread_mutex_unlock(&s->lock);
}

/* Gives waiting jobs sessions, in their order. */
static void admit(scheduler *s)
{
    while (s->spare_count > 0) {
        pthread_mutex_lock(&s->lock);
        job *j = s->first;
        if (j) {
            s->first = j->next;
            if (!s->first) s->last = NULL;
            s->waiting--;
        }
        pthread_mutex_unlock(&s->lock);
        if (!j) return;
        sl_error err = {0};
        j->next = NULL;
        if (atomic_load(&j->cancelled) || begin(s, j, &err) != SL_OK) {
            conclude(s, j, err.status ? &err : NULL);
            continue;
        }
        j->session = s->spare[--s->spare_count];
        j->logits = s->spare_logits[s->spare_count];
        begin_prompt(s, j);
        s->active[s->active_count++] = j;
    }
}

/* Takes the waiting jobs whose clients have left out of the queue, in which they hold places. */
static job *unlink_cancelled(scheduler *s)
{
    job *gone = NULL;
    pthread_mutex_lock(&s->lock);
    s->last = NULL;
    for (job **at = &s->first; *at;) {
        job *j = *at;
        if (!atomic_load(&j->cancelled)) {
            s->last = j;
            at = &j->next;
            continue;
        }
        *at = j->next;
        j->next = gone;
        gone = j;
        s->waiting--;
    }
    pthread_mutex_unlock(&s->lock);
    return gone;
}

static void drop_cancelled(scheduler *s)
{
    for (uint32_t i = s->active_count; i-- > 0;) {
        if (atomic_load(&s->active[i]->cancelled)) end_job(s, i, NULL);
    }
    for (job *j = unlink_cancelled(s), *next; j; j = next) {
        next = j->next;
        conclude(s, j, NULL);
    }
}

/* ---- passes ---------------------------------------------------------------------------------- */

static bool answers(const job *j)
{
    return j->at == j->count;
}

/* The one whose turn it is to read on in its prompt; NULL: none, or not now. */
static job *next_reader(scheduler *s)
{
    uint32_t answering = 0;
    for (uint32_t i = 0; i < s->active_count; i++)
        answering += answers(s->active[i]);
    if (answering > 0 && s->passes_since < PASSES_BETWEEN) return NULL;
    for (uint32_t i = 0; i < s->active_count; i++) {
        job *j = s->active[(s->turn + i) % s->active_count];
        if (answers(j)) continue;
        s->turn = (s->turn + i + 1) % s->active_count;
        return j;
    }
    return NULL;
}

/* How far a reader goes in a pass with room for so many tokens. Where that is less than a piece,
 * the engine makes two passes of it. */
static size_t piece_of(const scheduler *s, const job *j, uint32_t room)
{
    const uint32_t chunk = s->info.chunk_tokens;
    const uint32_t piece = chunk < PIECE_TOKENS ? chunk : PIECE_TOKENS;
    size_t left = j->count - j->at, n = room / piece * piece;
    if (n == 0) n = piece;
    if (left <= room || left < n) n = left;
    bool passes = j->keep_at > j->at && j->keep_at < j->at + n;
    return passes ? j->keep_at - j->at : n;
}

/* The next token of a job whose logits are there; false: it has ended, well or not. */
static bool take(scheduler *s, job *j, sl_error *err)
{
    sl_status status = sl_generation_take(j->generation, j->logits, &j->token, err);
    s->answer_tokens++;
    if (status == SL_ECANCELLED) atomic_store(&j->cancelled, true);
    if (status != SL_OK && err->status == SL_OK) { /* an event could not be told */
        (void)SL_FAIL(err, status, "the answer could not be written: %s", sl_status_name(status));
    }
    return status == SL_OK && sl_generation_finish(j->generation) == SL_FINISH_NONE;
}

static uint32_t index_of(const scheduler *s, const job *j)
{
    uint32_t i = 0;
    while (s->active[i] != j)
        i++;
    return i;
}

/* What an item of a pass brought. */
static void settle(scheduler *s, const sl_batch_item *item, job *j)
{
    sl_error err = item->error;
    if (item->status != SL_OK) {
        end_job(s, index_of(s, j), item->status == SL_ECANCELLED ? NULL : &err);
        return;
    }
    if (!answers(j)) {
        j->at += item->count;
        pthread_mutex_lock(&s->lock);
        s->figures.prompt_tokens += item->count;
        pthread_mutex_unlock(&s->lock);
        sl_error ignored = {0};
        if (s->prefixes && j->at == j->keep_at) {
            sl_prefix_cache_keep(s->prefixes, j->session, &ignored);
        }
        if (!answers(j)) return;
        j->answering_at = sl__now_ns();
        j->usage.prompt_ns = j->answering_at - j->began_at;
    }
    if (take(s, j, &err)) return;
    bool failed = err.status != SL_OK && err.status != SL_ECANCELLED;
    end_job(s, index_of(s, j), failed ? &err : NULL);
}

static void pass(scheduler *s)
{
    uint32_t count = 0;
    job *reader = next_reader(s);
    struct progress progress = {s, reader};
    for (uint32_t i = 0; i < s->active_count; i++) {
        job *j = s->active[i];
        if (!answers(j)) continue;
        s->of_item[count] = j;
        s->items[count++] = (sl_batch_item){
            .session = j->session, .ids = &j->token, .count = 1, .logits = j->logits};
    }
    s->passes_since = reader ? 0 : s->passes_since + 1;
    if (reader) {
        uint32_t room = s->info.chunk_tokens > count ? s->info.chunk_tokens - count : 1;
        size_t n = piece_of(s, reader, room);
        bool last = reader->at + n == reader->count;
        sl_session_set_progress(reader->session, on_progress, &progress);
        s->of_item[count] = reader;
        s->items[count++] = (sl_batch_item){.session = reader->session,
                                            .ids = reader->ids + reader->at,
                                            .count = n,
                                            .logits = last ? reader->logits : NULL};
    }
    sl_error err = {0};
    sl_status status = sl_engine_eval_batch(s->engine, s->items, count, &err);
    if (reader) sl_session_set_progress(reader->session, NULL, NULL);
    for (uint32_t i = 0; i < count; i++) {
        if (status != SL_OK) { /* the call itself was wrong */
            s->items[i].status = status;
            s->items[i].error = err;
        }
        settle(s, &s->items[i], s->of_item[i]);
    }
    pthread_mutex_lock(&s->lock);
    s->figures.passes++;
    pthread_mutex_unlock(&s->lock);
}

/* Waits for work; false: it is time to end. */
static bool wait_for_work(scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->stopping && !s->first && !s->watched && s->active_count == 0)
        pthread_cond_wait(&s->wake, &s->lock);
    bool stopping = s->stopping;
    pthread_mutex_unlock(&s->lock);
    return !stopping;
}

static void *run(void *arg)
{
    scheduler *s = arg;
    while (wait_for_work(s)) {
        drop_cancelled(s);
        admit(s);
        if (s->active_count > 0) pass(s);
        tick(s);
        publish(s);
    }
    while (s->active_count > 0) {
        atomic_store(&s->active[0]->cancelled, true);
        end_job(s, 0, NULL);
    }
    for (job *j = s->first; j; j = j->next)
        atomic_store(&j->cancelled, true);
    drop_cancelled(s);
    publish(s);
    return NULL;
}

/* ---- from other threads ---------------------------------------------------------------------- */

scheduler_answer scheduler_submit(scheduler *s, job *j)
{
    pthread_mutex_lock(&s->lock);
    scheduler_answer answer = s->stopping              ? SCHEDULER_STOPPING
                              : s->waiting == s->queue ? SCHEDULER_FULL
                                                       : SCHEDULER_TAKEN;
    if (answer == SCHEDULER_TAKEN) {
        job_hold(j);
        j->queued_at = sl__now_ns();
        *(s->last ? &s->last->next : &s->first) = j;
        s->last = j;
        s->waiting++;
        pthread_cond_signal(&s->wake);
    } else {
        s->figures.jobs_refused++;
    }
    pthread_mutex_unlock(&s->lock);
    return answer;
}

static sl_status take_memory(scheduler *s, sl_error *err)
{
    const size_t n = s->parallel;
    s->active = calloc(n, sizeof *s->active);
    s->spare = calloc(n, sizeof *s->spare);
    s->all = calloc(n, sizeof *s->all);
    s->items = calloc(n, sizeof *s->items);
    s->of_item = calloc(n, sizeof *s->of_item);
    s->spare_logits = calloc(n, sizeof *s->spare_logits);
    s->logits = calloc(n * s->info.vocab_size, sizeof *s->logits);
    if (!s->active || !s->spare || !s->all || !s->items || !s->of_item || !s->spare_logits ||
        !s->logits) {
        return SL_FAIL_NOMEM(err, "scheduler");
    }
    SL_TRY(experts_map_create(&s->experts, s->engine, err));
    for (uint32_t i = 0; i < n; i++) {
        SL_TRY(sl_session_create(&s->all[i], s->engine, err));
        s->spare[i] = s->all[i];
        s->spare_logits[i] = s->logits + (size_t)i * s->info.vocab_size;
        s->spare_count++;
    }
    return SL_OK;
}

static void free_scheduler(scheduler *s)
{
    for (uint32_t i = 0; s->all && i < s->parallel; i++)
        sl_session_destroy(s->all[i]);
    experts_map_destroy(s->experts);
    free(s->active);
    free(s->spare);
    free(s->all);
    free(s->items);
    free(s->of_item);
    free(s->spare_logits);
    free(s->logits);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->wake);
    free(s);
}

sl_status scheduler_create(scheduler **out, sl_engine *engine, sl_prefix_cache *prefixes,
                           uint32_t queue, sl_error *err)
{
    *out = NULL;
    scheduler *s = calloc(1, sizeof *s);
    if (!s) return SL_FAIL_NOMEM(err, "scheduler");
    s->engine = engine;
    s->prefixes = prefixes;
    s->queue = queue;
    sl_engine_info_get(engine, &s->info);
    s->parallel = s->info.sessions;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    s->speed_at = sl__now_ns();
    sl_status status = take_memory(s, err);
    if (status == SL_OK && pthread_create(&s->thread, NULL, run, s) != 0) {
        status = SL_FAIL(err, SL_EIO, "the engine's thread cannot be started");
    }
    if (status != SL_OK) {
        free_scheduler(s);
        return status;
    }
    *out = s;
    return SL_OK;
}

void scheduler_stop(scheduler *s)
{
    if (!s) return;
    pthread_mutex_lock(&s->lock);
    bool first = !s->stopping;
    s->stopping = true;
    pthread_cond_signal(&s->wake);
    pthread_mutex_unlock(&s->lock);
    if (first) pthread_join(s->thread, NULL);
}

void scheduler_destroy(scheduler *s)
{
    if (!s) return;
    scheduler_stop(s);
    free_scheduler(s);
}
