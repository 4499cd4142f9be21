/* Timing: rounds over all levels, each with the machine's own limit measured beside it, so that
 * whatever else runs on the machine disturbs all alike; medians. What counts is the time that the
 * thread had a core for itself. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "checkkern.h"

#define ROUNDS     9u
#define CALL_NS    UINT64_C(8000000) /* a measurement, about */
#define LEVELS_MAX 8u
#define LIMIT_BYTES_L2  ((size_t)256 << 10) /* fits, with room for what else is there */
#define LIMIT_BYTES_ALL ((size_t)256 << 20)

void *ck_bench_memory(size_t bytes)
{
    uint64_t state = 88172645463325252u;
    uint64_t *p = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!p) abort();
    for (size_t i = 0; i < bytes / sizeof *p; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        p[i] = state ^= state << 17;
    }
    return p;
}

float *ck_bench_floats(size_t n)
{
    ck k = {.random = n};
    float *p = ck_bench_memory(n * sizeof *p);
    for (size_t i = 0; i < n; i++)
        p[i] = ck_float(&k, -1, 1);
    return p;
}

uint64_t ck_now_ns(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) abort();
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double values[ROUNDS])
{
    qsort(values, ROUNDS, sizeof values[0], by_value);
    return values[ROUNDS / 2];
}

/* Seconds of one call, over `calls` of them. */
static double seconds_of(const sl__kern *kern, uint64_t calls,
                         void (*run)(const sl__kern *kern, void *ctx), void *ctx)
{
    uint64_t begin = ck_now_ns();
    for (uint64_t i = 0; i < calls; i++)
        run(kern, ctx);
    return (double)(ck_now_ns() - begin) * 1e-9 / (double)calls;
}

/* So many calls take about CALL_NS. */
static uint64_t calls_of(const sl__kern *kern, void (*run)(const sl__kern *kern, void *ctx),
                         void *ctx)
{
    uint64_t calls = 1;
    run(kern, ctx);
    while (calls < UINT64_C(1) << 30) {
        double seconds = seconds_of(kern, calls, run, ctx) * (double)calls;
        if (seconds * 4e9 > (double)CALL_NS)
            return (uint64_t)((double)calls * (double)CALL_NS / (seconds * 1e9)) + 1;
        calls *= 4;
    }
    return calls;
}

void ck_time(const char *kernel, const char *what, ck_bound bound, double amount,
             void (*run)(const sl__kern *kern, void *ctx), void *ctx)
{
    static const char *const units[] = {"GB/s of memory", "GB/s of L2", "GMAC/s of floats",
                                        "GMAC/s of bytes"};
    static unsigned char *buffer; /* kept: filling it takes longer than a measurement */
    double rate[LEVELS_MAX][ROUNDS], limit[LEVELS_MAX][ROUNDS];
    uint64_t calls[LEVELS_MAX];
    if (!buffer) buffer = ck_bench_memory(LIMIT_BYTES_ALL);
    const size_t bytes = bound == CK_MEMORY ? LIMIT_BYTES_ALL : LIMIT_BYTES_L2;
    for (unsigned i = 0; i < ck_level_count; i++)
        calls[i] = calls_of(&ck_levels[i], run, ctx);
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned i = 0; i < ck_level_count; i++) {
            const sl__kern *kern = &ck_levels[i];
            rate[i][round] = amount / seconds_of(kern, calls[i], run, ctx);
            limit[i][round] = ck_limit(kern->level, bound, buffer, bytes);
        }
    }
    for (unsigned i = 0; i < ck_level_count; i++) {
        double got = median(rate[i]), most = median(limit[i]);
        printf("%-16s %-28s %-11s %9.2f of %9.2f %s, %5.1f %%\n", kernel, what, ck_levels[i].level,
               got * 1e-9, most * 1e-9, units[bound], 100 * got / most);
    }
    fflush(stdout);
}
