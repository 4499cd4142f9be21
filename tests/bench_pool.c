/* What handing out a loop costs, and how fast memory streams through the pool.
 *
 *     bench_pool [THREADS [SECONDS]]
 *
 * Fork-join: runs of as many empty indices as there are threads, back to back, and with the caller
 * busy for a while between two runs, as it is in a model. Streaming: tasks of 16 KiB of one buffer,
 * beside what sl_probe_memory reads in blocks of 4 MiB.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/pages.h"
#include "base/pool.h"
#include "base/sysmem.h"
#include "sluice.h"

#define RUNS        2000
#define TASK_BYTES  ((size_t)16 << 10)
#define TOTAL_BYTES ((size_t)256 << 20)

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void busy(uint64_t ns)
{
    for (uint64_t begin = sl__now_ns(); sl__now_ns() - begin < ns;) {}
}

static void nothing(void *ctx, uint32_t index, uint32_t worker)
{
    (void)ctx;
    (void)index;
    (void)worker;
}

/* Work of so many nanoseconds, cut into tasks of two microseconds. */
static void some_work(void *ctx, uint32_t index, uint32_t worker)
{
    (void)ctx;
    (void)index;
    (void)worker;
    busy(2000);
}

static void fork_join(sl__pool *pool, sl__pool_fn fn, uint32_t count, uint64_t gap_ns,
                      const char *what)
{
    static uint64_t took[RUNS];
    for (int i = 0; i < RUNS; i++) {
        if (gap_ns) busy(gap_ns);
        uint64_t begin = sl__now_ns();
        sl__pool_run(pool, fn, NULL, count);
        took[i] = sl__now_ns() - begin;
    }
    qsort(took, RUNS, sizeof took[0], by_value);
    printf("  %-28s gap %4llu us: median %8.2f us, 10%% %8.2f, 90%% %8.2f\n", what,
           (unsigned long long)(gap_ns / 1000), (double)took[RUNS / 2] * 1e-3,
           (double)took[RUNS / 10] * 1e-3, (double)took[RUNS * 9 / 10] * 1e-3);
}

struct stream {
    const uint64_t *data;
    uint64_t sums[SL_POOL_THREADS_MAX][8];
};

static void sum_task(void *ctx, uint32_t index, uint32_t worker)
{
    struct stream *s = ctx;
    const uint64_t *at = s->data + index * (TASK_BYTES / sizeof *at);
    uint64_t lanes[16] = {0}, sum = 0;
    for (size_t i = 0; i < TASK_BYTES / sizeof *at; i += 16)
        for (size_t lane = 0; lane < 16; lane++)
            lanes[lane] += at[i + lane];
    for (size_t lane = 0; lane < 16; lane++)
        sum += lanes[lane];
    s->sums[worker][0] += sum;
}

/* One call for all of the buffer, then calls of 4 MiB: matrices. */
static void streaming(sl__pool *pool, size_t run_bytes, double seconds)
{
    struct stream *s = calloc(1, sizeof *s);
    char *buffer = sl__pages_alloc_huge(TOTAL_BYTES);
    double best = 0.0;
    if (!s || !buffer) exit(1);
    memset(buffer, 1, TOTAL_BYTES);
    uint64_t begin = sl__now_ns();
    while ((double)(sl__now_ns() - begin) < seconds * 1e9) {
        uint64_t before = sl__now_ns();
        for (size_t at = 0; at < TOTAL_BYTES; at += run_bytes) {
            s->data = (const uint64_t *)(const void *)(buffer + at);
            sl__pool_run(pool, sum_task, s, (uint32_t)(run_bytes / TASK_BYTES));
        }
        double rate = (double)TOTAL_BYTES / (double)(sl__now_ns() - before);
        if (rate > best) best = rate;
    }
    printf("  %6zu KiB a run: %.2f GB/s\n", run_bytes >> 10, best);
    sl__pages_free(buffer, TOTAL_BYTES);
    free(s);
}

int main(int argc, char **argv)
{
    uint32_t threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : sl__core_count();
    double seconds = argc > 2 ? strtod(argv[2], NULL) : 1.0;
    sl__pool *pool;
    if (sl__pool_create(&pool, threads, NULL) != SL_OK) return 1;
    printf("%u threads, %u CPUs usable\nfork-join\n", threads, sl__cpu_count());
    fork_join(pool, nothing, threads, 0, "empty");
    fork_join(pool, nothing, threads, 10000, "empty");
    fork_join(pool, nothing, threads, 200000, "empty");
    fork_join(pool, some_work, threads * 10, 0, "20 us a thread");
    fork_join(pool, some_work, threads * 10, 10000, "20 us a thread");
    fork_join(pool, some_work, threads * 10, 200000, "20 us a thread");
    printf("memory through the pool, tasks of %zu KiB\n", TASK_BYTES >> 10);
    streaming(pool, TOTAL_BYTES, seconds);
    streaming(pool, (size_t)4 << 20, seconds);
    streaming(pool, (size_t)1 << 20, seconds);
    streaming(pool, (size_t)256 << 10, seconds);
    sl__pool_destroy(pool);
    printf("sl_probe_memory: %.2f GB/s\n",
           sl_probe_memory(threads, (uint64_t)(seconds * 1e9)) * 1e-9);
    return 0;
}
