/* Vectors of floats: dot, axpy, rms_norm, l2_norm, rope, rope_adjacent. All exact. */
#include <math.h>
#include <string.h>

#include "checkkern.h"

/* Lengths with every rest of a division by 64, and some that are large. */
static uint32_t next_length(const ck *k, uint32_t n)
{
    return n < 130 ? n + (k->fast ? 5 : 1) : n + n / (k->fast ? 2 : 5);
}
#define EACH_LENGTH(k, n, first) (uint32_t n = (first); n < 3000; n = next_length(k, n))

static void check_dot(ck *k)
{
    for EACH_LENGTH(k, n, 0) {
        ck_case(k, "%u numbers", n);
        float *a = ck_random(k, n, -1, 1), *b = ck_random(k, n, -1, 1);
        if (n % 16 == 15) a[ck_below(k, n)] = INFINITY;
        ck_seal(k);
        float want = k->is_ref ? ck_plain_dot(a, b, n) : k->ref->dot(a, b, n);
        float got = k->kern->dot(a, b, n);
        ck_same(k, "the product", &got, &want, 1);
    }
}

static void check_axpy(ck *k)
{
    for EACH_LENGTH(k, n, 0) {
        ck_case(k, "%u numbers", n);
        const float a = n % 9 == 8 ? INFINITY : ck_float(k, -2, 2);
        float *x = ck_random(k, n, -1, 1), *got = ck_floats(k, n);
        for (uint32_t i = 0; i < n; i++)
            got[i] = ck_float(k, -1, 1);
        float *want = ck_copy(k, got, n);
        ck_seal(k);
        for (uint32_t i = 0; i < n; i++) {
            float product = a * x[i];
            want[i] = want[i] + product;
        }
        k->kern->axpy(got, a, x, n);
        ck_same(k, "the sum", got, want, n);
    }
}

/* ---- norms ----------------------------------------------------------------------------------- */

static double sum_of_squares(const float *x, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)x[i];
    return sum;
}

static void check_rms_norm(ck *k)
{
    for EACH_LENGTH(k, n, 1) {
        const float size = n % 5 == 0 ? 1e-4f : n % 5 == 1 ? 1e4f : 1;
        ck_case(k, "%u numbers of %g", n, (double)size);
        float *x = ck_random(k, n, -size, size), *w = ck_random(k, n, -1, 1);
        float *got = ck_floats(k, n), *want = ck_floats(k, n), *same = ck_copy(k, x, n);
        ck_seal(k);
        k->ref->rms_norm(want, x, w, n, 1e-6f);
        if (k->is_ref) {
            double *exact = ck_doubles(k, n), mean = sum_of_squares(x, n) / n;
            for (uint32_t i = 0; i < n; i++)
                exact[i] = (double)x[i] / sqrt(mean + 1e-6) * (double)w[i];
            ck_near_exact(k, "the norm", want, exact, n, 1e-6);
        }
        k->kern->rms_norm(got, x, w, n, 1e-6f);
        ck_same(k, "the norm", got, want, n);
        k->kern->rms_norm(same, same, w, n, 1e-6f);
        ck_same(k, "in place", same, want, n);
    }
}

static void check_l2_norm(ck *k)
{
    for EACH_LENGTH(k, n, 1) {
        const float size = n % 7 == 0 ? 0 : 1;
        ck_case(k, "%u numbers of %g", n, (double)size);
        float *x = ck_random(k, n, -size, size);
        float *got = ck_copy(k, x, n), *want = ck_copy(k, x, n);
        ck_seal(k);
        k->ref->l2_norm(want, n, 1e-6f, 0.25f);
        if (k->is_ref) {
            double *exact = ck_doubles(k, n), sum = sum_of_squares(x, n);
            for (uint32_t i = 0; i < n; i++)
                exact[i] = (double)x[i] / sqrt(sum + 1e-6) * 0.25;
            ck_near_exact(k, "the norm", want, exact, n, 1e-6);
        }
        k->kern->l2_norm(got, n, 1e-6f, 0.25f);
        ck_same(k, "the norm", got, want, n);
    }
}

/* ---- positions ------------------------------------------------------------------------------- */

typedef void (*rope_fn)(float *x, const float *cosine, const float *sine, uint32_t half);

static void check_rotation(ck *k, rope_fn rotate, bool adjacent)
{
    for (uint32_t half = 0; half < (k->fast ? 70 : 200); half++) {
        ck_case(k, "%u pairs", half);
        float *cosine = ck_random(k, half, -1, 1), *sine = ck_random(k, half, -1, 1);
        float *got = ck_floats(k, 2 * (size_t)half), *want = ck_floats(k, 2 * (size_t)half);
        for (uint32_t i = 0; i < 2 * half; i++)
            got[i] = ck_float(k, -3, 3);
        ck_seal(k);
        for (uint32_t i = 0; i < half; i++) {
            const uint32_t at = adjacent ? 2 * i : i, other = adjacent ? 2 * i + 1 : i + half;
            float ac = got[at] * cosine[i], bs = got[other] * sine[i];
            float bc = got[other] * cosine[i], as = got[at] * sine[i];
            want[at] = ac - bs;
            want[other] = bc + as;
        }
        rotate(got, cosine, sine, half);
        ck_same(k, "the rotation", got, want, 2 * (size_t)half);
    }
}

static void check_rope(ck *k)
{
    check_rotation(k, k->kern->rope, false);
}

static void check_rope_adjacent(ck *k)
{
    check_rotation(k, k->kern->rope_adjacent, true);
}

/* ---- bench ----------------------------------------------------------------------------------- */

#define BENCH_N 32768u /* more than a first cache, less than a second */

typedef struct bench_case {
    float *x, *w, *y;
    volatile float result;
} bench_case;

static void run_dot(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    b->result = kern->dot(b->x, b->w, BENCH_N);
}

static void run_axpy(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    kern->axpy(b->y, 1e-9f, b->x, BENCH_N);
}

static void run_rms_norm(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    kern->rms_norm(b->y, b->x, b->w, BENCH_N, 1e-6f);
}

static void bench_vector(const char *kernel, void (*run)(const sl__kern *kern, void *ctx))
{
    bench_case b = {ck_bench_floats(BENCH_N), ck_bench_floats(BENCH_N), ck_bench_floats(BENCH_N),
                    0};
    ck_time(kernel, "32768 numbers, read twice", CK_L2, 2.0 * BENCH_N * sizeof(float), run, &b);
}

static void bench_dot(void)
{
    bench_vector("dot", run_dot);
}

static void bench_axpy(void)
{
    bench_vector("axpy", run_axpy);
}

static void bench_rms_norm(void)
{
    bench_vector("rms_norm", run_rms_norm);
}

const ck_kernel ck_vectors[] = {
    CK_KERNEL(dot, check_dot, bench_dot),
    CK_KERNEL(axpy, check_axpy, bench_axpy),
    CK_KERNEL(rms_norm, check_rms_norm, bench_rms_norm),
    CK_KERNEL(l2_norm, check_l2_norm, NULL),
    CK_KERNEL(rope, check_rope, NULL),
    CK_KERNEL(rope_adjacent, check_rope_adjacent, NULL),
    {NULL, 0, NULL, NULL},
};
