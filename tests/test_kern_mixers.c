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
    static const uint32_t some_channels[] = {1, 3, 16, 63, 64, 65, 130};
    for EACH_LEVEL(kern) {
        for (unsigned i = 0; i < 8; i++) {
            for (unsigned j = 0; j < 7; j++)
                check_conv(kern, some_tokens[i], some_channels[j], 1 + (i + j) % 5);
        }
    }
}

/* ---- Gated DeltaNet -------------------------------------------------------------------------- */

typedef struct delta_case {
    uint32_t tokens, dk, dv;
    size_t qk_stride, v_stride, gate_stride, out_stride;
    float *state, *q, *k, *v, *g, *beta;
} delta_case;

static delta_case random_delta(uint32_t tokens, uint32_t dk, uint32_t dv, float strongest)
{
    delta_case c = {tokens, dk, dv, dk + random_u32() % 7, dv + random_u32() % 7,
                    1 + random_u32() % 3, dv + random_u32() % 7, NULL, NULL, NULL, NULL, NULL,
                    NULL};
    c.state = random_floats((size_t)dk * dv);
    c.q = random_floats(tokens * c.qk_stride);
    c.k = random_floats(tokens * c.qk_stride);
    c.v = random_floats(tokens * c.v_stride);
    c.g = floats(tokens * c.gate_stride);
    c.beta = floats(tokens * c.gate_stride);
    for (uint32_t t = 0; t < tokens; t++) {
        levels[0].l2_norm(c.q + t * c.qk_stride, dk, 1e-6f, 1 / sqrtf((float)dk));
        levels[0].l2_norm(c.k + t * c.qk_stride, dk, 1e-6f, 1);
        float g = random_float(0, 1);
        c.g[t * c.gate_stride] = -strongest * g * g;
        c.beta[t * c.gate_stride] = random_float(0, 1);
    }
    return c;
}

/* Token by token in double: outputs [tokens][dv], then the state [dk][dv]. */
static double *exact_delta(const delta_case *c)
{
    uint32_t dk = c->dk, dv = c->dv;
    double *out = guarded(((size_t)c->tokens * dv + (size_t)dk * dv) * sizeof(double), 0);
    double *s = out + (size_t)c->tokens * dv;
    for (size_t i = 0; i < (size_t)dk * dv; i++)
        s[i] = (double)c->state[i];
    for (uint32_t t = 0; t < c->tokens; t++) {
        const float *k = c->k + t * c->qk_stride, *q = c->q + t * c->qk_stride;
        double decay = exp((double)c->g[t * c->gate_stride]);
        for (uint32_t j = 0; j < dv; j++) {
            double r = 0, o = 0;
            for (uint32_t i = 0; i < dk; i++)
                r += (s[i * dv + j] *= decay) * (double)k[i];
            double d = (double)c->beta[t * c->gate_stride] *
                       ((double)c->v[t * c->v_stride + j] - r);
            for (uint32_t i = 0; i < dk; i++)
                o += (s[i * dv + j] += (double)k[i] * d) * (double)q[i];
            out[t * dv + j] = o;
        }
    }
    return out;
}

static void check_delta(uint32_t tokens, uint32_t dk, uint32_t dv, float strongest)
{
    delta_case c = random_delta(tokens, dk, dv, strongest);
    size_t size = (size_t)dk * dv;
    double *want = exact_delta(&c), *want_state = want + (size_t)tokens * dv;
    float *ref_out = floats(tokens * c.out_stride), *ref_state = copy_of(c.state, size);
    float *ref_tmp = floats(sl__kern_delta_tmp(dk, dv));
    levels[0].delta_chunk(ref_state, c.q, c.k, c.qk_stride, c.v, c.v_stride, c.g, c.beta,
                          c.gate_stride, tokens, dk, dv, ref_out, c.out_stride, ref_tmp);
    for EACH_LEVEL(kern) {
        float *s = copy_of(c.state, size), *o = floats((size_t)tokens * dv);
        for (uint32_t t = 0; t < tokens; t++)
            kern->delta_step(s, c.q + t * c.qk_stride, c.k + t * c.qk_stride, c.v + t * c.v_stride,
                             c.g[t * c.gate_stride], c.beta[t * c.gate_stride], dk, dv,
                             o + (size_t)t * dv);
        assert_near(o, want, (size_t)tokens * dv, 5e-6, "delta_step");
        assert_near(s, want_state, size, 5e-6, "delta_step state");

        float *chunk_s = copy_of(c.state, size), *chunk_o = floats(tokens * c.out_stride);
        float *tmp = floats(sl__kern_delta_tmp(dk, dv)), *dense = floats((size_t)tokens * dv);
        kern->delta_chunk(chunk_s, c.q, c.k, c.qk_stride, c.v, c.v_stride, c.g, c.beta,
                          c.gate_stride, tokens, dk, dv, chunk_o, c.out_stride, tmp);
        for (uint32_t t = 0; t < tokens; t++)
            memcpy(dense + (size_t)t * dv, chunk_o + t * c.out_stride, dv * sizeof(float));
        assert_near(dense, want, (size_t)tokens * dv, 5e-6, "delta_chunk");
        assert_near(chunk_s, want_state, size, 5e-6, "delta_chunk state");
        assert_bits(chunk_o, ref_out, tokens * c.out_stride, "delta_chunk against ref");
        assert_bits(chunk_s, ref_state, size, "delta_chunk state against ref");

        /* Later tokens do not reach back: a shorter chunk gives the same outputs. */
        uint32_t fewer = 1 + random_u32() % tokens;
        memcpy(chunk_s, c.state, size * sizeof(float));
        kern->delta_chunk(chunk_s, c.q, c.k, c.qk_stride, c.v, c.v_stride, c.g, c.beta,
                          c.gate_stride, fewer, dk, dv, chunk_o, c.out_stride, tmp);
        for (uint32_t t = 0; t < fewer; t++)
            assert_bits(chunk_o + t * c.out_stride, ref_out + t * c.out_stride, dv, "causality");
    }
    check_buffers();
}

static void test_delta(void **state)
{
    (void)state;
    check_seed(12);
    static const uint32_t dims[][2] = {{2, 2}, {16, 16}, {20, 33}, {128, 128}, {64, 7}, {5, 80}};
    for (uint32_t tokens = 1; tokens <= SL_DELTA_CHUNK; tokens += tokens < 12 ? 1 : 4) {
        for (unsigned i = 0; i < 6; i++)
            check_delta(tokens, dims[i][0], dims[i][1], 0.3f);
    }
    check_delta(64, 128, 128, 80);
    check_delta(63, 128, 128, 5);
    check_delta(64, 16, 20, 0); /* no decay at all */
}

/* One decay so strong that nothing of before is left; what follows it keeps its digits. */
static void test_delta_strong_decay(void **state)
{
    (void)state;
    check_seed(13);
    for EACH_LEVEL(kern) {
        const uint32_t n = 64, dk = 16, dv = 24;
        delta_case c = random_delta(n, dk, dv, 0.01f);
        for (uint32_t t = 0; t < n; t += 9)
            c.g[t * c.gate_stride] = t % 2 == 0 ? -80 : -1e30f;
        double *want = exact_delta(&c);
        float *s = copy_of(c.state, dk * dv), *out = floats(n * c.out_stride);
        float *tmp = floats(sl__kern_delta_tmp(dk, dv)), *dense = floats(n * dv);
        kern->delta_chunk(s, c.q, c.k, c.qk_stride, c.v, c.v_stride, c.g, c.beta, c.gate_stride, n,
                          dk, dv, out, c.out_stride, tmp);
        for (uint32_t t = 0; t < n; t++)
            memcpy(dense + (size_t)t * dv, out + t * c.out_stride, dv * sizeof(float));
        for (uint32_t t = 0; t < n; t++)
            assert_near(dense + t * dv, want + t * dv, dv, 1e-5, "after a strong decay");
        assert_near(s, want + n * dv, dk * dv, 1e-5, "state after strong decays");
        check_buffers();
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
                kern->delta_step(s, qn + 2 * t, kn + 2 * t, v[h][t], g[h][t], beta[h][t], 2, 2,
                                 o + 2 * t);
            }
            assert_near(o, out[h], 4, 1e-6, "delta_step");
            assert_near(s, final[h], 4, 1e-6, "delta_step state");
            kern->delta_chunk(s2, qn, kn, 2, v[h][0], 2, g[h], beta[h], 1, 2, 2, 2, o2, 2, tmp);
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
        cmocka_unit_test(test_delta_strong_decay),
        cmocka_unit_test(test_delta_known),
    };
    return cmocka_run_group_tests(tests, find_levels, NULL);
}
