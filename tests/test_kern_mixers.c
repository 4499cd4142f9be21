/* The kernel checker for what mixes tokens: convolution and Gated DeltaNet (attention has
 * test_attend.c). Each against double arithmetic, against ref's bits, and against itself in other
 * portions (see test_kern.c). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kern/kern.h"
#include "kern_check.h"

/* ---- convolution ----------------------------------------------------------------------------- */

typedef struct conv_case {
    uint32_t tokens, channels, width;
    float *in, *state, *w, *y;
} conv_case;

static conv_case random_conv(uint32_t tokens, uint32_t channels, uint32_t width)
{
    conv_case c = {tokens, channels, width, NULL, NULL, NULL, NULL};
    c.in = random_floats((size_t)tokens * channels);
    c.state = random_floats((size_t)(width - 1) * channels);
    c.w = random_floats((size_t)width * channels);
    c.y = floats((size_t)tokens * channels);
    return c;
}

/* In double; then the state as it should be afterwards, in c->state. */
static double *exact_conv(conv_case *c)
{
    size_t n = c->channels;
    uint32_t past = c->width - 1;
    double *y = guarded(c->tokens * n * sizeof(double), 0);
    float *all = floats((past + c->tokens) * n);
    memcpy(all, c->state, past * n * sizeof(float));
    memcpy(all + past * n, c->in, c->tokens * n * sizeof(float));
    for (uint32_t t = 0; t < c->tokens; t++) {
        for (size_t i = 0; i < n; i++) {
            double sum = 0;
            for (uint32_t j = 0; j < c->width; j++)
                sum += (double)c->w[i * c->width + j] * (double)all[(t + j) * n + i];
            y[t * n + i] = exact_silu(sum);
        }
    }
    memcpy(c->state, all + c->tokens * n, past * n * sizeof(float));
    return y;
}

static void check_conv(const sl__kern *kern, uint32_t tokens, uint32_t channels, uint32_t width)
{
    conv_case c = random_conv(tokens, channels, width);
    size_t n = (size_t)tokens * channels, past = (size_t)(width - 1) * channels;
    float *state = copy_of(c.state, past), *split = copy_of(c.state, past);
    float *single = copy_of(c.state, past), *ref_state = copy_of(c.state, past);
    double *want = exact_conv(&c);
    kern->causal_conv_silu(c.y, c.in, state, c.w, tokens, channels, width, 0, channels);
    assert_near(c.y, want, n, 1e-6, "conv");
    assert_bits(state, c.state, past, "conv state");

    float *y = floats(n);
    levels[0].causal_conv_silu(y, c.in, ref_state, c.w, tokens, channels, width, 0, channels);
    assert_bits(y, c.y, n, "conv against ref");

    /* Ranges of channels on their own; nothing else is touched. */
    uint32_t c0 = random_u32() % channels, c1 = c0 + random_u32() % (channels - c0 + 1);
    float *part = floats(n);
    kern->causal_conv_silu(part, c.in, split, c.w, tokens, channels, width, c0, c1);
    for (size_t i = 0; i < n; i++) {
        if (i % channels >= c0 && i % channels < c1)
            assert_bits(&part[i], &c.y[i], 1, "conv of a range");
        else
            assert_true(isnan(part[i]));
    }
    kern->causal_conv_silu(part, c.in, split, c.w, tokens, channels, width, 0, c0);
    kern->causal_conv_silu(part, c.in, split, c.w, tokens, channels, width, c1, channels);
    assert_bits(part, c.y, n, "conv in ranges");
    assert_bits(split, c.state, past, "state in ranges");

    for (uint32_t t = 0; t < tokens; t++) /* a token at a time */
        kern->causal_conv_silu(y + (size_t)t * channels, c.in + (size_t)t * channels, single, c.w,
                               1, channels, width, 0, channels);
    assert_bits(y, c.y, n, "conv a token at a time");
    assert_bits(single, c.state, past, "state a token at a time");
    check_buffers();
}

static void test_conv(void **state)
{
    (void)state;
    check_seed(10);
    static const uint32_t some_tokens[] = {1, 2, 3, 4, 5, 17, 64, 70};
    static const uint32_t some_channels[] = {1, 3, 16, 63, 65, 256, 300};
    for EACH_LEVEL(kern) {
        for (unsigned i = 0; i < 8; i++) {
            for (unsigned j = 0; j < 7; j++)
                check_conv(kern, some_tokens[i], some_channels[j], 1 + (i + j) % 9);
        }
    }
}

/* ---- Gated DeltaNet -------------------------------------------------------------------------- */

/* A chunk of value heads that share a key head. The numbers between rows are NaN. */
typedef struct delta_case {
    sl__delta_chunk c;
    size_t state_size, out_size;
} delta_case;

static delta_case random_delta(uint32_t tokens, uint32_t heads, uint32_t dk, uint32_t dv,
                               float strongest)
{
    size_t width = (size_t)heads * dv, size = width * dk;
    sl__delta_chunk c = {.tokens = tokens, .heads = heads, .dk = dk, .dv = dv};
    c.qk_stride = dk + random_u32() % 7;
    c.v_stride = width + random_u32() % 7;
    c.gate_stride = heads + random_u32() % 3;
    c.out_stride = width + random_u32() % 7;
    float *q = floats(tokens * c.qk_stride), *k = floats(tokens * c.qk_stride);
    float *v = floats(tokens * c.v_stride);
    float *g = floats(tokens * c.gate_stride), *beta = floats(tokens * c.gate_stride);
    c.state = random_floats(size);
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t i = 0; i < dk; i++) {
            q[t * c.qk_stride + i] = random_float(-1, 1);
            k[t * c.qk_stride + i] = random_float(-1, 1);
        }
        for (size_t i = 0; i < width; i++)
            v[t * c.v_stride + i] = random_float(-1, 1);
        levels[0].l2_norm(q + t * c.qk_stride, dk, 1e-6f, 1 / sqrtf((float)dk));
        levels[0].l2_norm(k + t * c.qk_stride, dk, 1e-6f, 1);
        for (uint32_t h = 0; h < heads; h++) {
            float x = random_float(0, 1);
            uint32_t kind = random_u32() % 8; /* the ends of beta too */
            g[t * c.gate_stride + h] = -strongest * x * x;
            beta[t * c.gate_stride + h] = kind < 2 ? (float)kind : random_float(0, 1);
        }
    }
    c.q = q;
    c.k = k;
    c.v = v;
    c.g = g;
    c.beta = beta;
    return (delta_case){c, size, tokens * c.out_stride};
}

/* Token by token in double: outputs [heads][tokens][dv], then the state. */
static double *exact_delta(const delta_case *x)
{
    const sl__delta_chunk *c = &x->c;
    uint32_t dk = c->dk, dv = c->dv;
    size_t outputs = (size_t)c->heads * c->tokens * dv;
    double *all = guarded((outputs + x->state_size) * sizeof(double), 0);
    for (size_t i = 0; i < x->state_size; i++)
        all[outputs + i] = (double)c->state[i];
    for (uint32_t i = 0; i < c->heads * c->tokens; i++) {
        uint32_t h = i / c->tokens, t = i % c->tokens;
        const float *k = c->k + t * c->qk_stride, *q = c->q + t * c->qk_stride;
        double decay = exp((double)c->g[t * c->gate_stride + h]);
        double *s = all + outputs + (size_t)h * dk * dv;
        for (uint32_t j = 0; j < dv; j++) {
            double r = 0, o = 0;
            for (uint32_t n = 0; n < dk; n++)
                r += (s[n * dv + j] *= decay) * (double)k[n];
            double d = (double)c->beta[t * c->gate_stride + h] *
                       ((double)c->v[t * c->v_stride + h * dv + j] - r);
            for (uint32_t n = 0; n < dk; n++)
                o += (s[n * dv + j] += (double)k[n] * d) * (double)q[n];
            all[(size_t)i * dv + j] = o;
        }
    }
    return all;
}

/* Token t of head h, columns [c0, c1), on the chunk's state. */
static void step(const sl__kern *kern, const sl__delta_chunk *c, uint32_t h, uint32_t t,
                 uint32_t c0, uint32_t c1)
{
    kern->delta_step(c->state + (size_t)h * c->dk * c->dv, c->q + t * c->qk_stride,
                     c->k + t * c->qk_stride, c->v + t * c->v_stride + h * c->dv,
                     c->g[t * c->gate_stride + h], c->beta[t * c->gate_stride + h], c->dk, c->dv,
                     c0, c1, c->out + t * c->out_stride + h * c->dv);
}

/* The outputs of one head, dense. */
static float *outputs_of(const sl__delta_chunk *c, uint32_t h)
{
    float *dense = floats((size_t)c->tokens * c->dv);
    for (uint32_t t = 0; t < c->tokens; t++)
        memcpy(dense + (size_t)t * c->dv, c->out + t * c->out_stride + h * c->dv,
               c->dv * sizeof(float));
    return dense;
}

/* The case with a state and outputs of its own. */
static sl__delta_chunk fresh(const delta_case *x)
{
    sl__delta_chunk c = x->c;
    c.state = copy_of(c.state, x->state_size);
    c.out = floats(x->out_size);
    return c;
}

static float *delta_room(const sl__delta_chunk *c)
{
    return floats(sl__kern_delta_tmp(c->dk, c->dv));
}

/* ‖got − want‖ against the size of what is wanted, or of what is summed where that cancels: values
 * are up to 1, and a twentieth of that is left of them in most sums. */
static void assert_close(const float *got, const double *want, size_t n, double bound,
                         const char *what)
{
    double difference = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        size += want[i] * want[i];
    }
    size = fmax(size, 0.0025 * (double)n);
    if (sqrt(difference) <= bound * sqrt(size)) return;
    print_error("%s: off by %g of %g\n", what, sqrt(difference), sqrt(size));
    fail();
}

/* Each head's outputs and state; and nothing else was written. */
static void assert_delta(const delta_case *x, const sl__delta_chunk *got, const double *want,
                         double bound, const char *what)
{
    size_t each = (size_t)got->tokens * got->dv, state = (size_t)got->dk * got->dv;
    for (uint32_t h = 0; h < got->heads; h++) {
        assert_close(outputs_of(got, h), want + h * each, each, bound, what);
        assert_close(got->state + h * state, want + got->heads * each + h * state, state, bound,
                     what);
    }
    for (size_t i = 0; i < x->out_size; i++) {
        if (i % got->out_stride >= (size_t)got->heads * got->dv) assert_true(isnan(got->out[i]));
    }
}

/* The chunk against the same level's steps: the outputs and the state. */
static void assert_agree(const sl__delta_chunk *a, const sl__delta_chunk *b)
{
    size_t n = (size_t)a->tokens * a->dv, size = (size_t)a->dk * a->dv;
    double *want = guarded((n + size) * sizeof(double), 0);
    for (uint32_t h = 0; h < a->heads; h++) {
        const float *outputs = outputs_of(b, h), *state = b->state + h * size;
        for (size_t i = 0; i < n + size; i++)
            want[i] = (double)(i < n ? outputs[i] : state[i - n]);
        assert_close(outputs_of(a, h), want, n, 1e-5, "chunk against step");
        assert_close(a->state + h * size, want + n, size, 1e-5, "chunk's state against step's");
    }
}

/* What a head gets does not depend on the others of the call, nor what a token gets on later ones:
 * to the bit. */
static void check_portions(const sl__kern *kern, const delta_case *x, const sl__delta_chunk *whole)
{
    sl__delta_chunk c = fresh(x);
    uint32_t h = random_u32() % c.heads;
    size_t size = (size_t)c.dk * c.dv;
    c.heads = 1;
    c.state += h * size;
    c.v += h * c.dv;
    c.g += h;
    c.beta += h;
    c.out += h * c.dv;
    kern->delta_chunk(&c, delta_room(&c));
    assert_bits(outputs_of(&c, 0), outputs_of(whole, h), (size_t)c.tokens * c.dv, "a head alone");
    assert_bits(c.state, whole->state + h * size, size, "a head's state alone");

    c.tokens = 1 + random_u32() % c.tokens;
    memcpy(c.state, x->c.state + h * size, size * sizeof(float));
    kern->delta_chunk(&c, delta_room(&c));
    assert_bits(outputs_of(&c, 0), outputs_of(whole, h), (size_t)c.tokens * c.dv, "causality");
}

/* Columns in three ranges give the whole's bits. */
static void check_columns(const sl__kern *kern, const delta_case *x, const sl__delta_chunk *whole)
{
    sl__delta_chunk c = fresh(x);
    uint32_t a = random_u32() % (c.dv + 1), b = a + random_u32() % (c.dv - a + 1);
    for (uint32_t h = 0; h < c.heads; h++) {
        for (uint32_t t = 0; t < c.tokens; t++) {
            step(kern, &c, h, t, a, b);
            step(kern, &c, h, t, b, c.dv);
            step(kern, &c, h, t, 0, a);
        }
    }
    assert_bits(c.out, whole->out, x->out_size, "columns in ranges");
    assert_bits(c.state, whole->state, x->state_size, "state in ranges");
}

static void check_delta(const delta_case *x, double bound)
{
    const double *want = exact_delta(x);
    for EACH_LEVEL(kern) {
        sl__delta_chunk stepped = fresh(x), chunk = fresh(x);
        for (uint32_t i = 0; i < stepped.heads * stepped.tokens; i++)
            step(kern, &stepped, i / stepped.tokens, i % stepped.tokens, 0, stepped.dv);
        kern->delta_chunk(&chunk, delta_room(&chunk));
        assert_delta(x, &stepped, want, bound, "delta_step");
        assert_delta(x, &chunk, want, bound, "delta_chunk");
        assert_agree(&chunk, &stepped);
        check_portions(kern, x, &chunk);
        check_columns(kern, x, &stepped);
    }
    check_buffers();
}

static void check_random_delta(uint32_t tokens, uint32_t dk, uint32_t dv, float strongest)
{
    const delta_case x = random_delta(tokens, 1 + random_u32() % 3, dk, dv, strongest);
    check_delta(&x, 5e-6);
}

static void test_delta(void **state)
{
    (void)state;
    check_seed(12);
    static const uint32_t dims[][2] = {{2, 2},  {16, 16}, {20, 33}, {128, 128},
                                       {64, 7}, {5, 80},  {1, 1},   {72, 160}};
    for (uint32_t tokens = 1; tokens <= SL_DELTA_CHUNK; tokens++) {
        check_random_delta(tokens, dims[tokens % 8][0], dims[tokens % 8][1], 0.3f);
        check_random_delta(tokens, 1 + random_u32() % 70, 1 + random_u32() % 70, 0.1f);
    }
    for (unsigned i = 0; i < 8; i++) {
        check_random_delta(64, dims[i][0], dims[i][1], 2);
        check_random_delta(33, dims[i][0], dims[i][1], 0.01f);
    }
    check_random_delta(64, 128, 128, 80);
    check_random_delta(63, 128, 128, 5);
    check_random_delta(64, 16, 20, 0); /* no decay at all */
}

/* Nothing written, and everything overwritten. */
static void test_delta_beta_ends(void **state)
{
    (void)state;
    check_seed(18);
    for (unsigned end = 0; end < 2; end++) {
        delta_case x = random_delta(64, 2, 40, 48, 0.2f);
        float *beta = floats(64 * x.c.gate_stride);
        for (size_t i = 0; i < 64 * x.c.gate_stride; i++)
            beta[i] = (float)end;
        x.c.beta = beta;
        check_delta(&x, 5e-6);
    }
}

/* Decays so strong that nothing of before is left; what follows them keeps its digits. */
static void test_delta_strong_decay(void **state)
{
    (void)state;
    check_seed(13);
    delta_case x = random_delta(64, 1, 16, 24, 0.01f);
    float *g = copy_of(x.c.g, 64 * x.c.gate_stride);
    for (uint32_t t = 0; t < 64; t += 9)
        g[t * x.c.gate_stride] = t % 2 == 0 ? -80 : -1e30f;
    x.c.g = g;
    const double *want = exact_delta(&x);
    for EACH_LEVEL(kern) {
        sl__delta_chunk c = fresh(&x);
        kern->delta_chunk(&c, delta_room(&c));
        for (uint32_t t = 0; t < c.tokens; t++)
            assert_near(c.out + t * c.out_stride, want + t * c.dv, c.dv, 1e-5,
                        "after a strong decay");
        assert_delta(&x, &c, want, 1e-5, "strong decays");
    }
    check_buffers();
}

/* A NaN of one token or head stays with those that it reaches. */
static void test_delta_nan(void **state)
{
    (void)state;
    check_seed(19);
    for EACH_LEVEL(kern) {
        delta_case x = random_delta(21, 2, 24, 33, 0.2f);
        sl__delta_chunk good = fresh(&x), bad = fresh(&x);
        float *v = copy_of(x.c.v, 21 * x.c.v_stride);
        v[11 * x.c.v_stride + 33 + 5] = NAN; /* of the second head */
        bad.v = v;
        kern->delta_chunk(&good, delta_room(&good));
        kern->delta_chunk(&bad, delta_room(&bad));
        assert_bits(outputs_of(&bad, 0), outputs_of(&good, 0), 21 * 33, "the other head");
        assert_bits(outputs_of(&bad, 1), outputs_of(&good, 1), 11 * 33, "the tokens before");
        assert_true(isnan(bad.out[11 * bad.out_stride + 33 + 5]));
        check_buffers();
    }
}

/* The decay of a head: a sum that cancels nowhere, from one end of the range to the other. */
static void test_delta_gate(void **state)
{
    (void)state;
    check_seed(20);
    for (uint32_t n = 1; n < 140; n += 1 + n / 3) {
        for EACH_LEVEL(kern) {
            float *a = random_floats(n), *a_log = random_floats(n), *bias = random_floats(n);
            for (uint32_t i = 0; i < n; i++) {
                a[i] *= i % 3 == 0 ? 60 : 8;
                a_log[i] *= 4;
            }
            float *in = copy_of(a, n);
            kern->delta_gate(a, a_log, bias, n);
            for (uint32_t i = 0; i < n; i++) {
                double x = (double)(in[i] + bias[i]);
                double want = -exp((double)a_log[i]) * (fmax(x, 0) + log1p(exp(-fabs(x))));
                assert_near(&a[i], &want, 1, 1e-6, "delta_gate");
            }
            check_buffers();
        }
    }
}

/* Two heads of two channels over two tokens, worked out by hand elsewhere. */
static void test_delta_known(void **state)
{
    (void)state;
    static const float q[2][2] = {{1, 2}, {0.5f, -1}}, k[2][2] = {{3, 4}, {-1, 1}};
    static const float v[2][2][2] = {{{1, 2}, {0.5f, 0.25f}}, {{3, -1}, {-2, 1}}};
    static const float g[2][2] = {{-1.03748795f, -0.7981388694f}, {-1.108710489f, -1.28879332f}};
    static const float beta[2][2] = {{0.5f, 0.2689414214f}, {0.7310585786f, 0.880797078f}};
    static const double out[2][4] = {{0.3478505009, 0.6957010018, -0.1556403335, -0.1759722124},
                                     {1.525794556, -0.5085981855, 1.041077266, -0.5439778413}};
    static const double final[2][4] = {{0.04601808156, 0.2346638546, 0.269098114, 0.3955685366},
                                       {1.661541947, -0.7614531261, -0.8153173746, 0.4793782685}};
    for EACH_LEVEL(kern) {
        for (unsigned h = 0; h < 2; h++) {
            float qn[4], kn[4], s[4] = {0}, s2[4] = {0}, o[4], o2[4];
            float *tmp = floats(sl__kern_delta_tmp(2, 2));
            memcpy(qn, q, sizeof qn);
            memcpy(kn, k, sizeof kn);
            for (unsigned t = 0; t < 2; t++) {
                kern->l2_norm(qn + 2 * t, 2, 1e-6f, 1 / sqrtf(2));
                kern->l2_norm(kn + 2 * t, 2, 1e-6f, 1);
                kern->delta_step(s, qn + 2 * t, kn + 2 * t, v[h][t], g[h][t], beta[h][t], 2, 2, 0,
                                 2, o + 2 * t);
            }
            assert_near(o, out[h], 4, 1e-6, "delta_step");
            assert_near(s, final[h], 4, 1e-6, "delta_step state");
            const sl__delta_chunk chunk = {
                .state = s2, .q = qn, .k = kn, .qk_stride = 2, .v = v[h][0], .v_stride = 2,
                .g = g[h], .beta = beta[h], .gate_stride = 1, .out = o2, .out_stride = 2,
                .tokens = 2, .heads = 1, .dk = 2, .dv = 2,
            };
            kern->delta_chunk(&chunk, tmp);
            assert_near(o2, out[h], 4, 1e-6, "delta_chunk");
            assert_near(s2, final[h], 4, 1e-6, "delta_chunk state");
            check_buffers();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_delta),
        cmocka_unit_test(test_delta_beta_ends),
        cmocka_unit_test(test_delta_strong_decay),
        cmocka_unit_test(test_delta_nan),
        cmocka_unit_test(test_delta_gate),
        cmocka_unit_test(test_delta_known),
    };
    return cmocka_run_group_tests(tests, find_levels, NULL);
}
