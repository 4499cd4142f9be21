/* What bends numbers: swiglu, swiglu_clamped, silu, sigmoid, softmax. All near(1e-6). */
#include <math.h>
#include <string.h>

#include "checkkern.h"

#define BOUND 1e-6

static uint32_t next_length(const ck *k, uint32_t n)
{
    return n < 130 ? n + (k->fast ? 5 : 1) : n + n / (k->fast ? 2 : 5);
}
#define EACH_LENGTH(k, n) (uint32_t n = 1; n < 3000; n = next_length(k, n))

/* got is near ref's, and where it is ref's, ref's near what is exact. */
static void check_near(ck *k, const char *what, const float *got, const float *ref,
                       const double *exact, uint32_t n)
{
    if (k->is_ref) ck_near_exact(k, what, got, exact, n, BOUND);
    else ck_near(k, what, got, ref, n, BOUND);
}

/* ---- gates ----------------------------------------------------------------------------------- */

static void check_swiglu(ck *k)
{
    for EACH_LENGTH(k, n) {
        ck_case(k, "%u numbers", n);
        float *gate = ck_random(k, n, -20, 20), *up = ck_random(k, n, -1, 1);
        float *got = ck_floats(k, n), *ref = ck_floats(k, n);
        float *in_gate = ck_copy(k, gate, n), *in_up = ck_copy(k, up, n);
        double *exact = ck_doubles(k, n);
        ck_seal(k);
        for (uint32_t i = 0; i < n; i++)
            exact[i] = ck_silu((double)gate[i]) * (double)up[i];
        k->ref->swiglu(ref, gate, up, n);
        k->kern->swiglu(got, gate, up, n);
        check_near(k, "the product", got, ref, exact, n);
        k->kern->swiglu(in_gate, in_gate, up, n);
        ck_same(k, "in place of the gate", in_gate, got, n);
        k->kern->swiglu(in_up, gate, in_up, n);
        ck_same(k, "in place of the other", in_up, got, n);
    }
}

/* As gpt-oss has it: alpha 1.702, limit 7; apart and interleaved, in place, and with values that
 * the limits cut. */
static void check_swiglu_clamped(ck *k)
{
    const float alpha = 1.702f, limit = 7;
    for EACH_LENGTH(k, n) {
        ck_case(k, "%u numbers", n);
        float *gate = ck_random(k, n, -12, 12), *up = ck_random(k, n, -12, 12);
        float *both = ck_floats(k, 2 * (size_t)n), *got = ck_floats(k, n), *ref = ck_floats(k, n);
        float *in_gate = ck_copy(k, gate, n), *wide = ck_floats(k, n);
        double *exact = ck_doubles(k, n);
        for (uint32_t i = 0; i < n; i++) {
            both[2 * i] = gate[i];
            both[2 * i + 1] = up[i];
            double g = fmin((double)gate[i], 7), u = fmax(-7, fmin((double)up[i], 7));
            exact[i] = g / (1 + exp(-(double)alpha * g)) * (u + 1);
        }
        ck_seal(k);
        k->ref->swiglu_clamped(ref, gate, up, 1, n, alpha, limit);
        k->kern->swiglu_clamped(got, gate, up, 1, n, alpha, limit);
        check_near(k, "the product", got, ref, exact, n);
        k->kern->swiglu_clamped(wide, both, both + 1, 2, n, alpha, limit);
        ck_same(k, "interleaved", wide, got, n);
        k->kern->swiglu_clamped(both, both, both + 1, 2, n, alpha, limit);
        ck_same(k, "interleaved, in place", both, got, n);
        k->kern->swiglu_clamped(in_gate, in_gate, up, 1, n, alpha, limit);
        ck_same(k, "in place", in_gate, got, n);
    }
    ck_case(k, "NaN and infinities");
    const float odd[] = {NAN, 0, 0, NAN, INFINITY, -INFINITY, -INFINITY, INFINITY};
    float y[4];
    k->kern->swiglu_clamped(y, odd, odd + 1, 2, 4, 1, 7);
    if (!isnan(y[0]) || !isnan(y[1]) || !isfinite(y[2])) ck_fail(k, "%g %g %g", (double)y[0],
                                                                (double)y[1], (double)y[2]);
}

/* ---- one number at a time -------------------------------------------------------------------- */

typedef void (*map_fn)(float *x, uint32_t n);

static double exact_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static void check_map(ck *k, map_fn map, map_fn ref_map, double (*exact_map)(double x))
{
    for EACH_LENGTH(k, n) {
        ck_case(k, "%u numbers", n);
        float *x = ck_random(k, n, -20, 20), *got = ck_copy(k, x, n), *ref = ck_copy(k, x, n);
        double *exact = ck_doubles(k, n);
        ck_seal(k);
        for (uint32_t i = 0; i < n; i++)
            exact[i] = exact_map((double)x[i]);
        ref_map(ref, n);
        map(got, n);
        check_near(k, "the numbers", got, ref, exact, n);
    }
}

/* Where a number stands in a call does not change what becomes of it. */
static void check_places(ck *k, map_fn map)
{
    ck_case(k, "each number alone");
    const uint32_t n = 77;
    float *x = ck_random(k, n, -20, 20), *all = ck_copy(k, x, n), *one = ck_copy(k, x, n);
    map(all, n);
    for (uint32_t i = 0; i < n; i++)
        map(one + i, 1);
    ck_same(k, "alone", one, all, n);
}

/* Over the whole range each value is right on its own. */
static void check_range(ck *k)
{
    const uint32_t n = 4000;
    ck_case(k, "each of %u numbers from -110 to 110", n);
    float *x = ck_random(k, n, -110, 110), *got = ck_copy(k, x, n), *wide = ck_copy(k, x, n);
    k->kern->sigmoid(got, n);
    k->kern->silu(wide, n);
    for (uint32_t i = 0; i < n; i++) {
        double exact = exact_sigmoid((double)x[i]);
        if (exact > 0x1p-126 && fabs((double)got[i] - exact) > 4e-7 * exact)
            ck_fail(k, "sigmoid of %a is %a", (double)x[i], (double)got[i]);
        if (!isfinite(wide[i])) ck_fail(k, "silu of %a is %a", (double)x[i], (double)wide[i]);
    }
}

static void check_ends(ck *k, map_fn map, const float *want)
{
    static const float ends[] = {-1e30f, 1e30f, NAN, -0.0f, -200, 200};
    ck_case(k, "ends");
    for (uint32_t place = 0; place < 16; place++) {
        float x[22] = {0};
        memcpy(x + place, ends, sizeof ends);
        map(x, 22);
        for (unsigned i = 0; i < 6; i++) { /* a zero may have either sign */
            const float value = x[place + i];
            if (isnan(want[i]) ? !isnan(value) : value != want[i])
                ck_fail(k, "of %g comes %g", (double)ends[i], (double)value);
        }
    }
}

static void check_silu(ck *k)
{
    static const float ends[] = {0, 1e30f, NAN, -0.0f, 0, 200};
    check_map(k, k->kern->silu, k->ref->silu, ck_silu);
    check_places(k, k->kern->silu);
    check_ends(k, k->kern->silu, ends);
}

static void check_sigmoid(ck *k)
{
    static const float ends[] = {0, 1, NAN, 0.5f, 0, 1};
    check_map(k, k->kern->sigmoid, k->ref->sigmoid, exact_sigmoid);
    check_places(k, k->kern->sigmoid);
    check_range(k);
    check_ends(k, k->kern->sigmoid, ends);
    ck_case(k, "infinities");
    float x[2] = {-INFINITY, INFINITY}, want[2] = {0, 1};
    k->kern->sigmoid(x, 2);
    ck_same(k, "infinities", x, want, 2);
}

/* ---- softmax --------------------------------------------------------------------------------- */

static void check_softmax(ck *k)
{
    for EACH_LENGTH(k, n) {
        const float offset = n % 3 == 0 ? 5000 : n % 3 == 1 ? -5000 : 0;
        ck_case(k, "%u numbers about %g", n, (double)offset);
        float *x = ck_random(k, n, offset - 10, offset + 10);
        for (uint32_t i = 5; i < n; i += 13)
            x[i] = -INFINITY; /* masked */
        float *got = ck_copy(k, x, n), *ref = ck_copy(k, x, n);
        double *exact = ck_doubles(k, n), sum = 0, largest = -1e300;
        ck_seal(k);
        for (uint32_t i = 0; i < n; i++)
            largest = fmax(largest, (double)x[i]);
        for (uint32_t i = 0; i < n; i++)
            sum += exact[i] = exp((double)x[i] - largest);
        for (uint32_t i = 0; i < n; i++)
            exact[i] /= sum;
        k->ref->softmax(ref, n);
        k->kern->softmax(got, n);
        check_near(k, "the shares", got, ref, exact, n);
    }
}

/* ---- bench ----------------------------------------------------------------------------------- */

#define BENCH_N 32768u /* more than a first cache, less than a second */

typedef struct bench_case {
    float *x, *w, *y;
} bench_case;

static void run_swiglu(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    kern->swiglu(b->y, b->x, b->w, BENCH_N);
}

static void run_softmax(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    memcpy(b->y, b->x, BENCH_N * sizeof(float));
    kern->softmax(b->y, BENCH_N);
}

static void bench_activation(const char *kernel, const char *what, double reads,
                             void (*run)(const sl__kern *kern, void *ctx))
{
    bench_case b = {ck_bench_floats(BENCH_N), ck_bench_floats(BENCH_N), ck_bench_floats(BENCH_N)};
    ck_time(kernel, what, CK_L2, reads * BENCH_N * sizeof(float), run, &b);
}

static void bench_swiglu(void)
{
    bench_activation("swiglu", "32768 numbers, read twice", 2, run_swiglu);
}

static void bench_softmax(void)
{
    bench_activation("softmax", "32768 numbers, copied first", 1, run_softmax);
}

const ck_kernel ck_activations[] = {
    CK_KERNEL(swiglu, check_swiglu, bench_swiglu),
    CK_KERNEL(swiglu_clamped, check_swiglu_clamped, NULL),
    CK_KERNEL(silu, check_silu, NULL),
    CK_KERNEL(sigmoid, check_sigmoid, NULL),
    CK_KERNEL(softmax, check_softmax, bench_softmax),
    {NULL, 0, NULL, NULL},
};
