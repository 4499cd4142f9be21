/* How fast rows are encoded, on every level of kernels, and how far off they come: megabytes of
 * bf16 input a second of one core, and the relative error on normal numbers.
 *
 *     bench_quant [TYPE …]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "quant/quant.h"
#include "sluice.h"
#include "test_env.h"

#define COLS 2048u
#define ROWS 64u

static double thread_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void encode_all(const sl__kern *kern, sl__dtype type, const float *x, float *back,
                       double *seconds)
{
    static unsigned char row[COLS * 4], scales[COLS];
    double begin = thread_seconds();
    for (uint32_t r = 0; r < ROWS; r++) {
        sl_error err = {0};
        if (sl__quant_row(kern, type, x + r * COLS, COLS, row, scales, &err) != SL_OK) {
            printf("%s\n", err.message);
            exit(1);
        }
        const sl__rows rows = {.dtype = type, .data = row, .scales = scales,
                               .scaling = sl__dtype_scaling(type)};
        if (back) kern->dequant_row(&rows, 0, back + r * COLS, COLS);
    }
    *seconds = thread_seconds() - begin;
}

static void bench(sl__dtype type, const float *x, float *back)
{
    printf("%-12s", sl__dtype_name(type));
    for (uint32_t i = 0; sl_cpu_level_name(i); i++) {
        sl__kern kern;
        double least = 1e9, seconds, error = 0, size = 0;
        if (!sl__kern_init(&kern, sl_cpu_level_name(i))) continue;
        encode_all(&kern, type, x, back, &seconds);
        for (unsigned round = 0; round < 5; round++) {
            encode_all(&kern, type, x, NULL, &seconds);
            least = seconds < least ? seconds : least;
        }
        for (uint32_t k = 0; k < ROWS * COLS && i == 0; k++) {
            error += pow((double)x[k] - (double)back[k], 2);
            size += pow((double)x[k], 2);
        }
        if (i == 0) printf(" %8.4f %%", 100 * sqrt(error / size));
        printf("  %s %.0f", kern.level, ROWS * COLS * 2 / least / 1e6);
    }
    printf(" MB/s\n");
}

int main(int argc, char **argv)
{
    static float x[ROWS * COLS], back[ROWS * COLS];
    test_rng rng = {1};
    for (uint32_t i = 0; i < ROWS * COLS; i++)
        x[i] = 0.02f * test_rng_normal(&rng);
    for (int i = 1; i < argc; i++) {
        sl__dtype type;
        if (sl__dtype_parse(argv[i], &type)) bench(type, x, back);
        else printf("%s is no type\n", argv[i]);
    }
    for (unsigned type = SL_Q8; type < (unsigned)SL_DTYPE_COUNT && argc == 1; type++) {
        if (sl__dtype_has_encoder((sl__dtype)type)) bench((sl__dtype)type, x, back);
    }
    return 0;
}
