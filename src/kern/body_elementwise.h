/* Norms, activations and the convolution: loops that the compiler turns into vectors of the level
 * that it compiles for. No sum here depends on the width of a vector. */
#ifndef SL_KERN_BODY_ELEMENTWISE_H
#define SL_KERN_BODY_ELEMENTWISE_H

#include <math.h>

#include "kern/expf.h"
#include "kern/lanes.h"
#include "kern/levels.h"

static void axpy(float *restrict y, float a, const float *restrict x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] += a * x[i];
}

static float sum_of_squares(const float *x, uint32_t n)
{
    float sum;
    dot_rows(x, 0, 1, n, x, &sum);
    return sum;
}

static void rms_norm(float *y, const float *x, const float *w, uint32_t n, float eps)
{
    float inverse = 1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps);
    for (uint32_t i = 0; i < n; i++)
        y[i] = x[i] * inverse * w[i];
}

static void l2_norm(float *x, uint32_t n, float eps, float scale)
{
    float inverse = 1.0f / sqrtf(sum_of_squares(x, n) + eps);
    for (uint32_t i = 0; i < n; i++)
        x[i] = x[i] * inverse * scale;
}

static void swiglu(float *y, const float *gate, const float *up, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        y[i] = kern_silu(gate[i]) * up[i];
}

#define CLAMPED_BLOCK 64u

/* In blocks through small arrays, all read before any is written: y may be gate, and what is read
 * later lies behind what is written, whatever the stride. */
static void swiglu_clamped(float *y, const float *gate, const float *up, size_t stride, uint32_t n,
                           float alpha, float limit)
{
    for (uint32_t from = 0; from < n; from += CLAMPED_BLOCK) {
        uint32_t count = n - from < CLAMPED_BLOCK ? n - from : CLAMPED_BLOCK;
        float g[CLAMPED_BLOCK], u[CLAMPED_BLOCK];
        for (uint32_t i = 0; i < count; i++) {
            g[i] = gate[(from + i) * stride];
            u[i] = up[(from + i) * stride];
        }
        for (uint32_t i = 0; i < count; i++) {
            /* Comparisons that are false for a NaN keep it. */
            float a = g[i] > limit ? limit : g[i];
            float b = u[i] > limit ? limit : u[i];
            b = b < -limit ? -limit : b;
            g[i] = a * kern_sigmoid(alpha * a) * (b + 1.0f);
        }
        memcpy(y + from, g, count * sizeof *g);
    }
}

static void silu(float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = kern_silu(x[i]);
}

static void sigmoid(float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = kern_sigmoid(x[i]);
}

static void softmax(float *x, uint32_t n)
{
    if (n > 0) kern_softmax(x, n, NULL);
}

static void rope(float *x, const float *restrict cosine, const float *restrict sine, uint32_t half)
{
    float *restrict first = x, *restrict second = x + half;
    for (uint32_t i = 0; i < half; i++) {
        float a = first[i], b = second[i];
        first[i] = a * cosine[i] - b * sine[i];
        second[i] = b * cosine[i] + a * sine[i];
    }
}

static void rope_adjacent(float *restrict x, const float *restrict cosine,
                          const float *restrict sine, uint32_t half)
{
    for (uint32_t i = 0; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = b * cosine[i] + a * sine[i];
    }
}

/* ln(1 + e) for 0 <= e <= 1, as 2 atanh(e / (2 + e)), whose argument is at most 1/3: every digit is
 * kept where e is small. The series is cut where a term is below 1e-8 of the first. */
static inline float log_1_plus(float e)
{
    float s = e / (2.0f + e), z = s * s;
    float p = 2.0f / 15;
    p = p * z + 2.0f / 13;
    p = p * z + 2.0f / 11;
    p = p * z + 2.0f / 9;
    p = p * z + 2.0f / 7;
    p = p * z + 2.0f / 5;
    p = p * z + 2.0f / 3;
    return 2.0f * s + p * z * s;
}

static void delta_gate(float *restrict a, const float *restrict a_log,
                       const float *restrict dt_bias, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        float x = a[i] + dt_bias[i], size = x < 0 ? -x : x;
        float softplus = (x > 0 ? x : 0) + log_1_plus(kern_exp(-size));
        a[i] = -kern_exp(a_log[i]) * softplus;
    }
}

#define CONV_CHANNELS 64u /* channels and tokens of a block: its y stays in L1 */
#define CONV_TOKENS   64u

/* y[t][c] of tokens [t0, t1) and channels [c0, c0 + n), n <= CONV_CHANNELS. */
static void conv_block(float *restrict y, const float *restrict in, const float *restrict state,
                       const float *restrict w, uint32_t t0, uint32_t t1, uint32_t channels,
                       uint32_t width, uint32_t c0, uint32_t n)
{
    float tap[CONV_CHANNELS];
    for (uint32_t j = 0; j < width; j++) {
        for (uint32_t c = 0; c < n; c++)
            tap[c] = w[(size_t)(c0 + c) * width + j];
        for (uint32_t t = t0; t < t1; t++) {
            uint32_t row = t + j; /* of (state, in) */
            const float *from = row < width - 1 ? state + (size_t)row * channels + c0
                                                : in + (size_t)(row - (width - 1)) * channels + c0;
            float *to = y + (size_t)t * channels + c0;
            if (j == 0) {
                for (uint32_t c = 0; c < n; c++)
                    to[c] = tap[c] * from[c];
            } else {
                for (uint32_t c = 0; c < n; c++)
                    to[c] += tap[c] * from[c];
            }
        }
    }
    for (uint32_t t = t0; t < t1; t++)
        silu(y + (size_t)t * channels + c0, n);
}

static void causal_conv_silu(float *y, const float *in, float *state, const float *w,
                             uint32_t tokens, uint32_t channels, uint32_t width, uint32_t c0,
                             uint32_t c1)
{
    for (uint32_t c = c0; c < c1; c += CONV_CHANNELS) {
        uint32_t n = c1 - c < CONV_CHANNELS ? c1 - c : CONV_CHANNELS;
        for (uint32_t t = 0; t < tokens; t += CONV_TOKENS) {
            uint32_t t1 = tokens - t < CONV_TOKENS ? tokens : t + CONV_TOKENS;
            conv_block(y, in, state, w, t, t1, channels, width, c, n);
        }
    }
    if (c1 <= c0) return;
    /* The last width - 1 rows of (state, in): oldest first, so that no row is needed after it was
     * overwritten. */
    for (uint32_t i = 0; i + 1 < width; i++) {
        uint32_t row = tokens + i;
        const float *from = row < width - 1 ? state + (size_t)row * channels
                                            : in + (size_t)(row - (width - 1)) * channels;
        if (tokens > 0)
            memcpy(state + (size_t)i * channels + c0, from + c0, (c1 - c0) * sizeof(float));
    }
}

static void fill_elementwise(sl__kern *kern)
{
    kern->axpy = axpy;
    kern->rms_norm = rms_norm;
    kern->l2_norm = l2_norm;
    kern->swiglu = swiglu;
    kern->swiglu_clamped = swiglu_clamped;
    kern->silu = silu;
    kern->sigmoid = sigmoid;
    kern->softmax = softmax;
    kern->rope = rope;
    kern->rope_adjacent = rope_adjacent;
    kern->delta_gate = delta_gate;
    kern->causal_conv_silu = causal_conv_silu;
}

#endif
