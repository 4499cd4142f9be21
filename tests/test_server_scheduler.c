/* The scheduler with a real engine and no HTTP: what a job says does not depend on its company;
 * jobs end exactly once, however they end; the queue has an order and an end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/scheduler.h"
#include "test_env.h"

#define DEMO    SL_TEST_SOURCE_DIR "/../models/demo"
#define CONTEXT 2048u
#define CROWD   12u

/* What a test sees of a job. All that changes is guarded by lock, which all watched jobs share. */
struct watched {
    job *j;
    char text[4096];
    size_t size;
    unsigned events, done, released, order;
    sl_finish finish;
    sl_status status; /* of the failure */
    job_usage usage;
    bool hold;          /* the first event waits until this is taken back */
    bool holding;       /* it does */
    unsigned cancel_at; /* cancels itself at its event of this number; 0: never */
    sl_status answer;   /* to its third event */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static unsigned ended; /* jobs, ever */

static sl_status on_event(void *ctx, const sl_event *event)
{
    struct watched *w = ctx;
    sl_status status = SL_OK;
    pthread_mutex_lock(&lock);
    assert_int_equal(w->done, 0);
    w->events++;
    if (event->kind == SL_EVENT_TEXT && w->size + event->size < sizeof w->text) {
        memcpy(w->text + w->size, event->text, event->size);
        w->size += event->size;
    }
    if (w->events == w->cancel_at) atomic_store(&w->j->cancelled, true);
    if (w->events == 3) status = w->answer;
    w->holding = w->hold;
    pthread_cond_broadcast(&changed);
    while (w->hold)
        pthread_cond_wait(&changed, &lock);
    w->holding = false;
    pthread_mutex_unlock(&lock);
    return status;
}

static bool on_alive(void *ctx)
{
    (void)ctx;
    return true;
}

static void on_done(void *ctx, sl_finish finish, int stop, const job_usage *usage,
                    const sl_error *err)
{
    struct watched *w = ctx;
    (void)stop;
    pthread_mutex_lock(&lock);
    w->done++;
    w->order = ended++;
    w->finish = finish;
    w->usage = *usage;
    w->status = err ? err->status : SL_OK;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void on_release(void *ctx)
{
    struct watched *w = ctx;
    pthread_mutex_lock(&lock);
    w->released++;
    pthread_mutex_unlock(&lock);
}

static const job_sink sink = {on_event, on_alive, on_done, on_release};

static sl_engine *engine_of(uint32_t sessions, uint32_t chunk)
{
    sl_error err = {0};
    sl_engine *engine;
    sl_engine_options opt = {.context_tokens = CONTEXT,
                             .sessions = sessions,
                             .chunk_tokens = chunk,
                             .threads = 2,
                             .memory_bytes = (uint64_t)512 << 20};
    if (sl_engine_open(&engine, DEMO, &opt, &err) != SL_OK) fail_msg("%s", err.message);
    return engine;
}

static scheduler *start(sl_engine *engine, uint32_t queue)
{
    sl_error err = {0};
    scheduler *s;
    if (scheduler_create(&s, engine, NULL, queue, &err) != SL_OK) fail_msg("%s", err.message);
    return s;
}

/* A prompt of `count` tokens that depend on the number. */
static void fill(struct watched *w, unsigned number, size_t count, uint32_t max_tokens)
{
    test_rng rng = {number};
    memset(w, 0, sizeof *w);
    w->j = job_create(&sink, w);
    assert_non_null(w->j);
    w->j->ids = malloc((count + 1) * sizeof *w->j->ids);
    assert_non_null(w->j->ids);
    for (size_t i = 0; i < count; i++)
        w->j->ids[i] = (int32_t)(300 + test_rng_below(&rng, 7000));
    w->j->count = count;
    w->j->options.max_tokens = max_tokens;
    w->j->options.sampler.temperature = number % 2 ? 0.8f : 0.0f;
    w->j->options.sampler.seed = number;
}

static void wait_until(const unsigned *count, unsigned least)
{
    pthread_mutex_lock(&lock);
    while (*count < least)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void wait_for_hold(struct watched *w)
{
    pthread_mutex_lock(&lock);
    while (!w->holding)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void let_go(struct watched *w)
{
    pthread_mutex_lock(&lock);
    w->hold = false;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void submit(scheduler *s, struct watched *w)
{
    assert_int_equal(scheduler_submit(s, w->j), SCHEDULER_TAKEN);
}

/* Lets go of jobs that have ended, each once. The scheduler, which may hold them a moment longer,
 * is destroyed by then. */
static void check_released(struct watched *w, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        assert_int_equal(w[i].done, 1);
        job_release(w[i].j);
        assert_int_equal(w[i].released, 1);
    }
}

static void fill_crowd(struct watched *w)
{
    static const size_t sizes[] = {1, 3, 64, 65, 130, 700, 7, 63, 200, 5, 129, 300};
    for (unsigned i = 0; i < CROWD; i++)
        fill(&w[i], i, sizes[i], 6 + 3 * i);
}

/* One after the other, then all at once, however little room there is in a pass. */
static void company_changes_nothing(void **state)
{
    static struct watched alone[CROWD], together[CROWD];
    static const uint32_t chunks[] = {0, 64, 32, 128}, parallel[] = {4, 6, 3, 8};
    (void)state;
    for (unsigned round = 0; round < (test_fast() ? 2 : 4); round++) {
        sl_engine *engine = engine_of(parallel[round], chunks[round]);
        scheduler *s = start(engine, CROWD);
        fill_crowd(alone);
        for (unsigned i = 0; i < CROWD; i++) {
            submit(s, &alone[i]);
            wait_until(&alone[i].done, 1);
            assert_int_equal(alone[i].status, SL_OK);
            assert_int_equal(alone[i].usage.prompt_tokens, alone[i].j->count);
        }
        fill_crowd(together);
        for (unsigned i = 0; i < CROWD; i++)
            submit(s, &together[i]);
        for (unsigned i = 0; i < CROWD; i++) {
            wait_until(&together[i].done, 1);
            assert_int_equal(together[i].finish, alone[i].finish);
            assert_int_equal(together[i].events, alone[i].events);
            assert_int_equal(together[i].size, alone[i].size);
            assert_memory_equal(together[i].text, alone[i].text, alone[i].size);
            assert_int_equal(together[i].usage.answer_tokens, alone[i].usage.answer_tokens);
        }
        scheduler_destroy(s);
        check_released(alone, CROWD);
        check_released(together, CROWD);
        sl_engine_close(engine);
    }
}

static void the_queue_has_an_order_and_an_end(void **state)
{
    static struct watched w[6];
    scheduler_figures f;
    sl_engine *engine = engine_of(1, 0);
    scheduler *s = start(engine, 3);
    (void)state;
    for (unsigned i = 0; i < 6; i++)
        fill(&w[i], 2 * i, 10, 5);
    w[0].hold = true;
    submit(s, &w[0]);
    wait_for_hold(&w[0]);
    for (unsigned i = 1; i < 4; i++)
        submit(s, &w[i]);
    assert_int_equal(scheduler_submit(s, w[4].j), SCHEDULER_FULL);
    scheduler_figures_get(s, &f);
    assert_int_equal(f.waiting, 3);
    assert_int_equal(f.jobs_refused, 1);
    atomic_store(&w[2].j->cancelled, true); /* gives up its place, as soon as the engine looks */
    let_go(&w[0]);
    wait_until(&w[2].done, 1);
    submit(s, &w[5]);
    wait_until(&w[5].done, 1);
    assert_int_equal(w[2].finish, SL_FINISH_NONE);
    assert_int_equal(w[2].events, 0);
    assert_true(w[0].order < w[1].order && w[1].order < w[3].order && w[3].order < w[5].order);
    scheduler_stop(s);
    scheduler_figures_get(s, &f);
    assert_int_equal(f.jobs_done, 4);
    assert_int_equal(f.jobs_cancelled, 1);
    assert_int_equal(f.waiting, 0);
    assert_int_equal(scheduler_submit(s, w[4].j), SCHEDULER_STOPPING);
    scheduler_destroy(s);
    w[4].done = 1; /* was never taken */
    check_released(w, 6);
    sl_engine_close(engine);
}

/* While waiting, at once, in the middle of a prompt, in the middle of an answer: ended once, and
 * what runs beside it says what it says alone. */
static void cancelled_in_every_state(void **state)
{
    static struct watched alone, all[10][8];
    sl_engine *engine = engine_of(3, 64);
    scheduler *s = start(engine, 16);
    const unsigned rounds = test_fast() ? 3 : 10;
    (void)state;
    fill(&alone, 1, 90, 40);
    submit(s, &alone);
    wait_until(&alone.done, 1);
    for (unsigned round = 0; round < rounds; round++) {
        struct watched *w = all[round];
        fill(&w[0], 1, 90, 40);
        for (unsigned i = 1; i < 8; i++)
            fill(&w[i], 3 + i, i % 2 ? 1500 : 20, 2000);
        w[2].cancel_at = 1;
        w[4].cancel_at = 5;
        w[6].cancel_at = 2 + round;
        atomic_store(&w[7].j->cancelled, true);
        for (unsigned i = 0; i < 8; i++)
            submit(s, &w[i]);
        wait_until(&w[0].events, 1 + round);
        for (unsigned i = 1; i < 8; i++)
            atomic_store(&w[i].j->cancelled, true);
        for (unsigned i = 0; i < 8; i++)
            wait_until(&w[i].done, 1);
        assert_int_equal(w[0].size, alone.size);
        assert_memory_equal(w[0].text, alone.text, alone.size);
        for (unsigned i = 1; i < 8; i++) {
            assert_int_equal(w[i].finish, SL_FINISH_NONE);
            assert_int_equal(w[i].status, SL_OK);
        }
    }
    scheduler_destroy(s);
    for (unsigned round = 0; round < rounds; round++)
        check_released(all[round], 8);
    check_released(&alone, 1);
    sl_engine_close(engine);
}

static void wrong_jobs_fail_alone(void **state)
{
    static struct watched w[4];
    sl_engine *engine = engine_of(2, 0);
    scheduler *s = start(engine, 8);
    (void)state;
    fill(&w[0], 0, 0, 5);
    fill(&w[1], 0, CONTEXT, 5);
    fill(&w[2], 0, 10, 20);
    w[2].answer = SL_ENOMEM; /* what is told cannot be kept */
    fill(&w[3], 0, CONTEXT - 3, 0);
    for (unsigned i = 0; i < 4; i++)
        submit(s, &w[i]);
    for (unsigned i = 0; i < 4; i++)
        wait_until(&w[i].done, 1);
    assert_int_equal(w[0].status, SL_EINVAL);
    assert_int_equal(w[1].status, SL_EINVAL);
    assert_int_equal(w[2].status, SL_ENOMEM);
    assert_int_equal(w[3].status, SL_OK); /* until the context is full */
    assert_true(w[3].finish == SL_FINISH_LENGTH || w[3].finish == SL_FINISH_STOP);
    assert_true(w[3].usage.answer_tokens <= 4);
    scheduler_destroy(s);
    check_released(w, 4);
    sl_engine_close(engine);
}

struct stopper {
    scheduler *s;
};

static void *stop(void *arg)
{
    struct stopper *stopper = arg;
    scheduler_stop(stopper->s);
    return NULL;
}

/* With an answer in the middle of an event, one in its prompt, and others waiting. */
static void stopped_in_the_middle(void **state)
{
    static struct watched w[6];
    pthread_t thread;
    sl_engine *engine = engine_of(2, 64);
    struct stopper stopper = {.s = start(engine, 8)};
    (void)state;
    for (unsigned i = 0; i < 6; i++)
        fill(&w[i], 2 * i, i == 1 ? 1900 : 20, 2000);
    w[0].hold = true;
    for (unsigned i = 0; i < 6; i++)
        submit(stopper.s, &w[i]);
    wait_for_hold(&w[0]);
    assert_int_equal(pthread_create(&thread, NULL, stop, &stopper), 0);
    let_go(&w[0]);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(w[i].done, 1);
        assert_int_equal(w[i].finish, SL_FINISH_NONE);
    }
    scheduler_destroy(stopper.s);
    check_released(w, 6);
    sl_engine_close(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(company_changes_nothing),
        cmocka_unit_test(the_queue_has_an_order_and_an_end),
        cmocka_unit_test(cancelled_in_every_state),
        cmocka_unit_test(wrong_jobs_fail_alone),
        cmocka_unit_test(stopped_in_the_middle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
