/* Speed of products with panels: gigabytes of weights a second for one token beside what plain
 * loads of the same memory reach, and billions of products a second for more tokens.
 *
 *     bench_panels [seconds a figure] [megabytes of the large buffer]
 *
 * The levels take turns within every round, and a figure is the median of the rounds, of the
 * threads' own time: what else the machine does disturbs all of them alike. */
#include <immintrin.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/panels.h"
#include "kern/kern.h"

enum { ROUNDS = 9, MOST_LEVELS = 8, MOST_THREADS = 2, MOST_TOKENS = 512 };

static const sl__dtype types[] = {SL_Q8, SL_Q4, SL_Q3, SL_Q2};

/* A matrix of a type in the buffer, and what is multiplied with it. */
struct work {
    const sl__kern *kern; /* NULL: plain loads */
    sl__dtype type;
    uint32_t rows, cols, tokens, threads;
    size_t row_bytes;
    const unsigned char *w;
    const void *x;
    const float *xf;
    bool as_float, by_rows; /* panel_matmul; matmul */
    float *y;
};

struct share {
    const struct work *work;
    uint32_t first, count; /* rows */
    float *tmp;
};

/* Of the thread alone: what else the machine does does not count. */
static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

__attribute__((target("avx512f"))) static void load_512(const unsigned char *p, size_t bytes)
{
    __m512i s[4] = {_mm512_setzero_si512()};
    s[1] = s[2] = s[3] = s[0];
    for (size_t i = 0; i + 256 <= bytes; i += 256) {
        for (size_t k = 0; k < 4; k++)
            s[k] = _mm512_or_si512(s[k], _mm512_loadu_si512(p + i + 64 * k));
    }
    volatile int sink = _mm512_reduce_or_epi32(s[0] | s[1] | s[2] | s[3]);
    (void)sink;
}

static void run_share(const struct share *s)
{
    const struct work *k = s->work;
    const unsigned char *w = k->w + s->first * k->row_bytes;
    const sl__rows rows = {.dtype = k->type, .data = w, .row_bytes = k->row_bytes};
    if (!k->kern)
        load_512(w, s->count * k->row_bytes);
    else if (k->by_rows)
        k->kern->matmul(&rows, s->count, k->cols, k->xf, k->cols, k->tokens, k->y + s->first,
                        k->rows, s->tmp);
    else if (k->as_float)
        k->kern->panel_matmul(k->type, w, k->row_bytes, s->count, k->cols, k->xf, k->cols,
                              k->tokens, k->y + s->first, k->rows, s->tmp);
    else
        k->kern->panel_matmul_q8(k->type, w, k->row_bytes, s->count, k->cols, k->x, k->tokens,
                                 k->y + s->first, k->rows, s->tmp);
}

struct loop {
    struct share share;
    uint32_t times;
    double seconds; /* out */
};

static void *run_times(void *arg)
{
    struct loop *l = arg;
    double start = now();
    for (uint32_t i = 0; i < l->times; i++)
        run_share(&l->share);
    l->seconds = now() - start;
    return NULL;
}

/* Seconds of one pass: those of the slowest thread. */
static double time_work(const struct work *k, uint32_t times, float *const tmp[])
{
    struct loop loops[MOST_THREADS];
    pthread_t threads[MOST_THREADS];
    const uint32_t panels = k->rows / SL_PANEL_ROWS;
    double most = 0;
    for (uint32_t i = 0; i < k->threads; i++) {
        uint32_t from = panels * i / k->threads, to = panels * (i + 1) / k->threads;
        loops[i] = (struct loop){{k, from * SL_PANEL_ROWS, (to - from) * SL_PANEL_ROWS, tmp[i]},
                                 times, 0};
        if (i > 0) pthread_create(&threads[i], NULL, run_times, &loops[i]);
    }
    run_times(&loops[0]);
    for (uint32_t i = 1; i < k->threads; i++)
        pthread_join(threads[i], NULL);
    for (uint32_t i = 0; i < k->threads; i++)
        most = loops[i].seconds > most ? loops[i].seconds : most;
    return most / times;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median seconds of every variant, which take turns. */
static void measure(const struct work *works, uint32_t count, double seconds, float *const tmp[],
                    double *out)
{
    double all[MOST_LEVELS * 2][ROUNDS];
    uint32_t times[MOST_LEVELS * 2];
    for (uint32_t i = 0; i < count; i++) {
        double once = time_work(&works[i], 1, tmp);
        once = time_work(&works[i], 1, tmp);
        times[i] = (uint32_t)(seconds / ROUNDS / once) + 1;
    }
    for (uint32_t r = 0; r < ROUNDS; r++) {
        for (uint32_t i = 0; i < count; i++)
            all[i][r] = time_work(&works[i], times[i], tmp);
    }
    for (uint32_t i = 0; i < count; i++) {
        qsort(all[i], ROUNDS, sizeof all[i][0], by_size);
        out[i] = all[i][ROUNDS / 2];
    }
}

struct bench {
    sl__kern kerns[MOST_LEVELS];
    uint32_t levels;
    unsigned char *w, *x;
    float *xf, *y, *tmp[MOST_THREADS];
    size_t large;
    double seconds;
};

static uint32_t rows_of(size_t bytes, size_t row_bytes)
{
    return (uint32_t)(bytes / row_bytes / SL_PANEL_ROWS * SL_PANEL_ROWS);
}

static struct work work_of(const struct bench *b, sl__dtype type, uint32_t rows, uint32_t cols,
                           uint32_t tokens, uint32_t threads)
{
    uint64_t row_bytes = 0;
    sl__dtype_row_bytes(type, cols, &row_bytes);
    return (struct work){.type = type, .rows = rows, .cols = cols, .tokens = tokens,
                         .threads = threads, .row_bytes = (size_t)row_bytes, .w = b->w, .x = b->x,
                         .xf = b->xf, .y = b->y};
}

static void one_token(const struct bench *b, size_t bytes, uint32_t threads)
{
    const uint32_t cols = 2048;
    printf("one token, %zu KiB, %u thread%s: GB/s\n%-4s %10s", bytes >> 10, threads,
           threads > 1 ? "s" : "", "", "loads");
    for (uint32_t l = 0; l < b->levels; l++)
        printf(" %10s", b->kerns[l].level);
    printf("\n");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct work works[MOST_LEVELS + 1];
        double s[MOST_LEVELS + 1];
        works[0] = work_of(b, types[i], 16, cols, 1, threads);
        works[0].rows = rows_of(bytes, works[0].row_bytes);
        for (uint32_t l = 0; l < b->levels; l++) {
            works[l + 1] = works[0];
            works[l + 1].kern = &b->kerns[l];
        }
        measure(works, b->levels + 1, b->seconds, b->tmp, s);
        printf("%-4s", sl__dtype_name(types[i]));
        for (uint32_t l = 0; l <= b->levels; l++)
            printf(" %10.1f", (double)works[0].rows * (double)works[0].row_bytes / s[l] / 1e9);
        printf("\n");
        fflush(stdout);
    }
}

static void many_tokens(const struct bench *b, uint32_t rows, uint32_t cols, uint32_t tokens)
{
    printf("%u tokens, %u rows, %u columns, 1 thread: GMAC/s\n%-4s", tokens, rows, cols, "");
    for (uint32_t l = 0; l < b->levels; l++)
        printf(" %10s", b->kerns[l].level);
    printf(" %10s %10s\n", "float", "row-major");
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct work works[MOST_LEVELS + 2];
        double s[MOST_LEVELS + 2];
        for (uint32_t l = 0; l < b->levels + 2; l++) {
            works[l] = work_of(b, types[i], rows, cols, tokens, 1);
            works[l].kern = &b->kerns[l < b->levels ? l : b->levels - 1];
            works[l].as_float = l == b->levels;
            works[l].by_rows = l > b->levels;
        }
        measure(works, b->levels + 2, b->seconds, b->tmp, s);
        printf("%-4s", sl__dtype_name(types[i]));
        for (uint32_t l = 0; l < b->levels + 2; l++)
            printf(" %10.1f", (double)rows * cols * tokens / s[l] / 1e9);
        printf("\n");
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"avx2", "avxvnni", "avx512", "avx512vnni", "amx"};
    static const uint32_t counts[] = {2, 8, 10, 64, 512};
    static struct bench b;
    b.seconds = argc > 1 ? atof(argv[1]) : 0.5;
    b.large = (size_t)(argc > 2 ? atoi(argv[2]) : 512) << 20;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        sl__kern_init(&b.kerns[b.levels], names[i]);
        b.levels += strcmp(b.kerns[b.levels].level, names[i]) == 0;
    }
    if (!__builtin_cpu_supports("avx512f")) return 77;
    b.w = aligned_alloc(64, b.large);
    b.x = aligned_alloc(64, MOST_TOKENS * sl__q8_row_bytes(2048));
    b.xf = malloc(MOST_TOKENS * 2048 * sizeof(float));
    b.y = aligned_alloc(64, (b.large / 640 + 4096u * MOST_TOKENS) * sizeof(float));
    for (uint32_t i = 0; i < MOST_THREADS; i++)
        b.tmp[i] = malloc((sl__kern_matmul_tmp(2048, MOST_TOKENS) +
                           sl__kern_q8_tmp(2048, MOST_TOKENS)) * sizeof(float));
    for (size_t i = 0; i < b.large; i++) /* small numbers, as scales too */
        b.w[i] = (unsigned char)(i % 2 ? 0x3c : i * 37 % 251);
    for (uint32_t i = 0; i < MOST_TOKENS * 2048; i++)
        b.xf[i] = (float)(i % 61) - 30;
    b.kerns[0].quantise_rows(b.xf, 2048, 0, 2048, 2048, MOST_TOKENS, b.x);
    one_token(&b, 512u << 10, 1);
    one_token(&b, b.large, 1);
    one_token(&b, 1024u << 10, 2);
    one_token(&b, b.large, 2);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        many_tokens(&b, 1024, 2048, counts[i]);
    printf("an expert from memory:\n");
    many_tokens(&b, 65536, 2048, 10);
    return 0;
}
