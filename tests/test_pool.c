/* The pool of threads: every index once, whatever the counts, the threads and their timing; and
 * what it does to the thread that owns it, which is nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/cpus.h"
#include "base/file.h"
#include "base/pool.h"
#include "base/sysmem.h"
#include "test_env.h"

#define INDICES 5000u

static void sleep_us(long us)
{
    nanosleep(&(struct timespec){.tv_nsec = us * 1000}, NULL);
}

/* Plain numbers on purpose: ThreadSanitizer sees an index that two threads take, and a caller that
 * goes on before they have ended. */
struct tally {
    uint32_t hits[INDICES];
    uint32_t of_worker[SL_POOL_THREADS_MAX];
    uint32_t threads;
    uint32_t slow_index; /* takes its time; UINT32_MAX: none does */
};

static void count_index(void *ctx, uint32_t index, uint32_t worker)
{
    struct tally *t = ctx;
    if (index == t->slow_index) sleep_us(2000);
    t->hits[index]++;
    if (worker < t->threads) t->of_worker[worker]++;
}

static sl__pool *make_pool(uint32_t threads)
{
    sl__pool *pool = NULL;
    sl_error err = {0};
    if (sl__pool_create(&pool, threads, &err) != SL_OK) fail_msg("%s", err.message);
    assert_int_equal(sl__pool_threads(pool), threads);
    return pool;
}

static struct tally *make_tally(uint32_t threads)
{
    struct tally *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->threads = threads;
    t->slow_index = UINT32_MAX;
    return t;
}

/* One run: each of the indices once more, by a worker that there is. */
static void run_and_check(sl__pool *pool, struct tally *t, uint32_t count)
{
    uint32_t sum = 0;
    memset(t->hits, 0, sizeof t->hits);
    memset(t->of_worker, 0, t->threads * sizeof t->of_worker[0]);
    sl__pool_run(pool, count_index, t, count);
    for (uint32_t i = 0; i < count; i++)
        assert_int_equal(t->hits[i], 1);
    for (uint32_t i = count; i < INDICES; i++)
        assert_int_equal(t->hits[i], 0);
    for (uint32_t i = 0; i < t->threads; i++)
        sum += t->of_worker[i];
    assert_int_equal(sum, count);
}

static void runs_of_all_sizes(void **state)
{
    static const uint32_t threads[] = {1, 2, 3, 5, 8, 33};
    test_rng rng = {7};
    (void)state;
    for (size_t i = 0; i < sizeof threads / sizeof threads[0]; i++) {
        sl__pool *pool = make_pool(threads[i]);
        struct tally *t = make_tally(threads[i]);
        for (uint32_t count = 0; count < 70; count++)
            run_and_check(pool, t, count);
        for (int round = 0; round < 400; round++) {
            static const uint32_t most[] = {8, 200, INDICES};
            run_and_check(pool, t, test_rng_below(&rng, most[test_rng_below(&rng, 3)] + 1));
            /* Long enough for workers to fall asleep, now and then. */
            if (test_rng_below(&rng, 32) == 0) sleep_us((long)test_rng_below(&rng, 300));
        }
        free(t);
        sl__pool_destroy(pool);
    }
}

/* Nothing between the runs: workers leave one while the next begins, or come too late for it. */
static void add_index(void *ctx, uint32_t index, uint32_t worker)
{
    uint64_t *sums = ctx;
    (void)worker;
    sums[index] += index + 1;
}

static void thousands_of_short_runs(void **state)
{
    (void)state;
    for (uint32_t threads = 2; threads <= 6; threads += 2) {
        uint64_t sums[16] = {0};
        sl__pool *pool = make_pool(threads);
        for (uint32_t run = 0; run < 8000; run++)
            sl__pool_run(pool, add_index, sums, run % 17);
        for (uint32_t i = 0; i < 16; i++) {
            uint32_t runs = 0;
            for (uint32_t run = 0; run < 8000; run++)
                runs += run % 17 > i;
            assert_int_equal(sums[i], (uint64_t)runs * (i + 1));
        }
        sl__pool_destroy(pool);
    }
}

/* Whoever holds an index that takes long, the others take what lies behind it; the caller, which
 * has nothing else to do by then, sleeps until it is done. */
static void one_index_takes_long(void **state)
{
    (void)state;
    for (uint32_t threads = 2; threads <= 4; threads++) {
        sl__pool *pool = make_pool(threads);
        struct tally *t = make_tally(threads);
        for (uint32_t slow = 0; slow < 100; slow += 9) {
            t->slow_index = slow;
            run_and_check(pool, t, 100);
        }
        free(t);
        sl__pool_destroy(pool);
    }
}

/* An index waits until another thread has come to another one: so sleeping threads are woken. */
static void meet(void *ctx, uint32_t index, uint32_t worker)
{
    atomic_uint *here = ctx;
    (void)index;
    (void)worker;
    atomic_fetch_add(here, 1);
    while (atomic_load(here) < 4)
        sleep_us(50);
}

static void sleeping_threads_are_woken(void **state)
{
    sl__pool *pool = make_pool(4);
    (void)state;
    for (int round = 0; round < 20; round++) {
        atomic_uint here = 0;
        sleep_us(round % 4 * 300);
        sl__pool_run(pool, meet, &here, 4);
        assert_int_equal(atomic_load(&here), 4);
    }
    sl__pool_destroy(pool);
}

static void pools_come_and_go(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        uint32_t threads = 1 + (uint32_t)round % 7;
        struct tally *t = make_tally(threads);
        sl__pool *pool = make_pool(threads);
        if (round % 3 == 1) run_and_check(pool, t, 20);
        if (round % 3 == 2) sleep_us(200); /* all of them sleep */
        sl__pool_destroy(pool);
        free(t);
    }
    sl__pool_destroy(NULL);
}

static void more_threads_than_processors(void **state)
{
    uint32_t threads = sl__cpu_count() * 4 + 3;
    (void)state;
    if (threads > 200) threads = 200;
    sl__pool *pool = make_pool(threads);
    struct tally *t = make_tally(threads);
    for (uint32_t count = 0; count < 300; count++)
        run_and_check(pool, t, count);
    free(t);
    sl__pool_destroy(pool);
}

static void other_numbers_of_threads_are_refused(void **state)
{
    static const uint32_t bad[] = {0, SL_POOL_THREADS_MAX + 1};
    (void)state;
    for (int i = 0; i < 2; i++) {
        sl__pool *pool = NULL;
        sl_error err = {0};
        char wanted[100];
        snprintf(wanted, sizeof wanted, "threads: %u is not from 1 to 1024", bad[i]);
        assert_int_equal(sl__pool_create(&pool, bad[i], &err), SL_EINVAL);
        assert_string_equal(err.message, wanted);
        assert_null(pool);
    }
}

struct nest {
    sl__pool *pool;
    uint32_t count;
};

static void run_within(void *ctx, uint32_t index, uint32_t worker)
{
    struct nest *nest = ctx;
    (void)index;
    (void)worker;
    sl__pool_run(nest->pool, count_index, NULL, 0);
}

/* A run within a run is a bug that is seen, also where the outer one is a mere loop. */
static void runs_do_not_nest(void **state)
{
    static const uint32_t threads[] = {1, 3, 3}, counts[] = {5, 1, 50};
    (void)state;
    for (int i = 0; i < 3; i++) {
        int status = 0;
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct nest nest = {.count = counts[i]};
            int nowhere = open("/dev/null", O_WRONLY);
            dup2(nowhere, STDERR_FILENO);
            signal(SIGABRT, SIG_DFL);
            if (sl__pool_create(&nest.pool, threads[i], NULL) != SL_OK) _exit(3);
            sl__pool_run(nest.pool, run_within, &nest, nest.count);
            _exit(2);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGABRT);
    }
}

/* Signals of the process are the main thread's. */
static void note_mask(void *ctx, uint32_t index, uint32_t worker)
{
    sigset_t *masks = ctx;
    (void)index;
    pthread_sigmask(SIG_SETMASK, NULL, &masks[worker]);
    sleep_us(100);
}

static void workers_take_no_signals(void **state)
{
    sigset_t before, after, masks[4];
    (void)state;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    for (int i = 0; i < 4; i++)
        sigfillset(&masks[i]);
    sl__pool *pool = make_pool(4);
    for (int round = 0; round < 10; round++)
        sl__pool_run(pool, note_mask, masks, 16);
    sl__pool_destroy(pool);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&before, SIGINT), sigismember(&after, SIGINT));
    for (int i = 1; i < 4; i++) {
        assert_int_equal(sigismember(&masks[i], SIGINT), 1);
        assert_int_equal(sigismember(&masks[i], SIGTERM), 1);
    }
}

/* ---- cores ----------------------------------------------------------------------------------- */

static void write_siblings(const char *root, uint32_t cpu, const char *text)
{
    char path[SL_PATH_MAX], command[SL_PATH_MAX + 20];
    snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%u/topology", root, cpu);
    snprintf(command, sizeof command, "mkdir -p '%s'", path);
    assert_int_equal(system(command), 0);
    snprintf(path + strlen(path), sizeof path - strlen(path), "/thread_siblings_list");
    test_write_file(path, text, strlen(text));
}

/* Hardware threads of a core have the same core, whichever of them the process may use. */
static void cpus_have_cores(void **state)
{
    sl__cpu list[SL_CPUS_MAX];
    uint32_t count = sl__cpu_list(list, "/nowhere");
    (void)state;
    assert_in_range(sl__core_count(), 1, sl__cpu_count());
    if (count == 0) skip(); /* not on this system */
    assert_true(count >= sl__cpu_count());
    for (uint32_t i = 0; i < count; i++) {
        assert_int_equal(list[i].core, list[i].number);
        assert_true(i == 0 || list[i].number > list[i - 1].number);
    }
    char root[1000], text[40];
    test_temp_dir(root, sizeof root);
    uint32_t first = list[0].number, last = list[count - 1].number;
    snprintf(text, sizeof text, "%u-%u\n", first, last);
    write_siblings(root, first, text);
    snprintf(text, sizeof text, "%u,%u\n", first, last);
    write_siblings(root, last, text);
    assert_int_equal(sl__cpu_list(list, root), count);
    assert_int_equal(list[0].core, first);
    assert_int_equal(list[count - 1].core, first);
    write_siblings(root, last, "nonsense\n");
    sl__cpu_list(list, root);
    assert_int_equal(list[count - 1].core, last);
    test_remove_tree(root);
}

struct seen {
    atomic_uint go;
    uint32_t count;
    sl__cpu list[SL_CPUS_MAX];
};

static void *see_cpus(void *arg)
{
    struct seen *seen = arg;
    while (!atomic_load(&seen->go))
        sleep_us(100);
    seen->count = sl__cpu_list(seen->list, "");
    return NULL;
}

static void threads_are_bound_to_cores(void **state)
{
    static sl__cpu before[SL_CPUS_MAX], after[SL_CPUS_MAX];
    static struct seen seen;
    pthread_t thread;
    (void)state;
    uint32_t count = sl__cpu_list(before, ""), cores = 0;
    for (uint32_t i = 0; i < count; i++)
        cores += before[i].core == before[i].number;
    if (cores < 2) skip();
    assert_int_equal(pthread_create(&thread, NULL, see_cpus, &seen), 0);
    bool bound = sl__cpu_bind(&thread, 1);
    atomic_store(&seen.go, 1);
    pthread_join(thread, NULL);
    assert_true(bound);
    assert_in_range(seen.count, 1, count - 1);
    for (uint32_t i = 0; i < seen.count; i++)
        assert_int_equal(seen.list[i].core, seen.list[0].core);
    assert_int_equal(sl__cpu_list(after, ""), count);
    assert_memory_equal(before, after, count * sizeof before[0]);
}

/* Bound or not, runs are as they were, and so is the caller. */
static void bound_pools_run(void **state)
{
    static sl__cpu before[SL_CPUS_MAX], after[SL_CPUS_MAX];
    uint32_t count = sl__cpu_list(before, ""), cores = sl__core_count();
    (void)state;
    for (uint32_t threads = 1; threads <= cores && threads <= 64; threads++) {
        sl__pool *pool = make_pool(threads);
        struct tally *t = make_tally(threads);
        bool bound = sl__pool_bind(pool);
        assert_true(!bound || threads == cores);
        for (uint32_t n = 0; n < 50; n++)
            run_and_check(pool, t, n);
        free(t);
        sl__pool_destroy(pool);
    }
    assert_int_equal(sl__cpu_list(after, ""), count);
    assert_memory_equal(before, after, count * sizeof before[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(runs_do_not_nest), /* forks: before there were threads */
        cmocka_unit_test(runs_of_all_sizes),
        cmocka_unit_test(thousands_of_short_runs),
        cmocka_unit_test(one_index_takes_long),
        cmocka_unit_test(sleeping_threads_are_woken),
        cmocka_unit_test(pools_come_and_go),
        cmocka_unit_test(more_threads_than_processors),
        cmocka_unit_test(other_numbers_of_threads_are_refused),
        cmocka_unit_test(workers_take_no_signals),
        cmocka_unit_test(cpus_have_cores),
        cmocka_unit_test(threads_are_bound_to_cores),
        cmocka_unit_test(bound_pools_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
