/* Whether checkkern sees what it is there to see: kernels that do one thing wrong each, of which
 * every one must be found. A read beyond a page ends the process, so each runs in one of its own.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "checkkern.h"

#define WRONG 12u

static sl__kern good; /* what the wrong kernels begin with */

static void one_bit(float *y, float a, const float *x, uint32_t n)
{
    good.axpy(y, a, x, n);
    uint32_t bits;
    if (n != 70) return;
    memcpy(&bits, &y[69], sizeof bits);
    bits ^= 1;
    memcpy(&y[69], &bits, sizeof bits);
}

static void write_after(float *y, float a, const float *x, uint32_t n)
{
    good.axpy(y, a, x, n);
    y[n] = 0;
}

static void write_before(float *y, float a, const float *x, uint32_t n)
{
    good.axpy(y, a, x, n);
    y[-1] = 0;
}

static void read_after(float *y, float a, const float *x, uint32_t n)
{
    volatile float beyond = x[n];
    (void)beyond;
    good.axpy(y, a, x, n);
}

static void change_input(float *y, float a, const float *x, uint32_t n)
{
    float *w = (float *)(uintptr_t)x;
    good.axpy(y, a, x, n);
    if (n > 3) w[3] += 1;
}

static void leave_out(float *y, const float *x, const float *w, uint32_t n, float eps)
{
    good.rms_norm(y, x, w, n > 40 ? n - 1 : n, eps);
}

static void not_in_place(float *y, const float *x, const float *w, uint32_t n, float eps)
{
    if (y == x)
        memset(y, 0, n * sizeof *y);
    else
        good.rms_norm(y, x, w, n, eps);
}

static void too_far_off(float *x, uint32_t n)
{
    good.silu(x, n);
    for (uint32_t i = 0; i < n; i++)
        x[i] *= 1 + 2e-6f;
}

/* A token's result depends on how many there are. */
static void varying(const sl__rows *w, uint32_t rows, uint32_t cols, const float *x,
                    size_t x_stride, uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    good.matmul(w, rows, cols, x, x_stride, tokens, y, y_stride, tmp);
    if (tokens == 8) y[0] = nextafterf(y[0], INFINITY);
}

static void between_rows(const sl__rows *w, uint32_t rows, uint32_t cols, const float *x,
                         size_t x_stride, uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    good.matmul(w, rows, cols, x, x_stride, tokens, y, y_stride, tmp);
    if (tokens > 1 && y_stride > rows) y[rows] = NAN;
}

/* One token's lanes are added up in another order than those of several. */
static void other_order(const sl__rows *w, uint32_t rows, uint32_t cols, const void *x,
                        uint32_t tokens, float *y, size_t y_stride, float *tmp)
{
    good.matmul_q8(w, rows, cols, x, tokens, y, y_stride, tmp);
    if (tokens == 1) y[rows - 1] = nextafterf(y[rows - 1], INFINITY);
}

/* The last column counts only where columns come in whole steps. */
static void without_tail(const void *w, size_t row_bytes, uint32_t rows, uint32_t cols,
                         const void *x, uint32_t tokens, float *y, size_t y_stride)
{
    const size_t row = sl__bf16_row(cols);
    uint16_t cut[4096];
    for (uint32_t t = 0; t < tokens; t++) {
        memcpy(cut, (const uint16_t *)x + t * row, row * sizeof *cut);
        if (cols % 32) cut[cols - 1] = 0;
        good.matmul_bf16(w, row_bytes, rows, cols, cut, 1, y + t * y_stride, y_stride);
    }
}

static const ck_kernel *find(const ck_kernel *family, const char *name)
{
    while (family->name && strcmp(family->name, name) != 0)
        family++;
    return family;
}

/* Whether a check of `kern` fails, in a process of its own that says nothing. */
static bool is_found(const ck_kernel *kernel, const sl__kern *kern)
{
    int status;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        ck k = {.ref = &good,
                .kern = kern,
                .fast = true,
                .quiet = true,
                .name = kernel->name,
                .random = 1};
        kernel->check(&k);
        ck_end(&k);
        _exit(k.failures > 0 ? 1 : 0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 1;
}

unsigned ck_self(void)
{
    good = ck_levels[0];
    sl__kern wrong[WRONG];
    for (unsigned i = 0; i < WRONG; i++) {
        wrong[i] = good;
        wrong[i].level = "wrong";
    }
    wrong[0].axpy = one_bit;
    wrong[1].axpy = write_after;
    wrong[2].axpy = write_before;
    wrong[3].axpy = read_after;
    wrong[4].axpy = change_input;
    wrong[5].rms_norm = leave_out;
    wrong[6].rms_norm = not_in_place;
    wrong[7].silu = too_far_off;
    wrong[8].matmul = varying;
    wrong[9].matmul = between_rows;
    wrong[10].matmul_bf16 = without_tail;
    wrong[11].matmul_q8 = other_order;
    unsigned missed = 0;
    for (unsigned i = 0; i < WRONG; i++) {
        const ck_kernel *kernel = i < 5    ? find(ck_vectors, "axpy")
                                  : i < 7  ? find(ck_vectors, "rms_norm")
                                  : i < 8  ? find(ck_activations, "silu")
                                  : i < 10 ? find(ck_weights, "matmul")
                                  : i < 11 ? find(ck_bf16, "matmul_bf16")
                                           : find(ck_rows_q8, "matmul_q8");
        if (is_found(kernel, &wrong[i])) continue;
        printf("FAILED  wrong kernel %u (%s) was not found\n", i, kernel->name);
        missed++;
    }
    printf("%u of %u wrong kernels are found\n", WRONG - missed, WRONG);
    return missed;
}
