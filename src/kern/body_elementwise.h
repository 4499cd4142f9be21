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

/* dot(x, x, n) */
static float sum_of_squares(const float *x, uint32_t n)
{
    vec s[SL_VN];
    float acc[SL_LANES];
    uint32_t whole = n & ~(SL_LANES - 1u);
    for (uint32_t i = 0; i < SL_VN; i++)
        s[i] = vec_set1(0);
    for (uint32_t c = 0; c < whole; c += SL_LANES) {
        for (uint32_t i = 0; i < SL_VN; i++) {
            vec v = vec_load(x + c + i * SL_VW);
            s[i] += v * v;
        }
    }
    memcpy(acc, s, sizeof acc);
    for (uint32_t c = whole; c < n; c++)
        acc[c - whole] += x[c] * x[c];
    return lanes_fold(acc);
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

SL_INLINE void take_strided(float *to, const float *from, size_t stride, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        to[i] = from[i * stride];
}

/* In blocks through small arrays, all read before any is written: y may be gate, and what is read
 * later lies behind what is written, whatever the stride. */
static void swiglu_clamped(float *y, const float *gate, const float *up, size_t stride, uint32_t n,
                           float alpha, float limit)
{
    for (uint32_t from = 0; from < n; from += CLAMPED_BLOCK) {
        uint32_t count = n - from < CLAMPED_BLOCK ? n - from : CLAMPED_BLOCK;
        float g[CLAMPED_BLOCK], u[CLAMPED_BLOCK];
        if (stride == 2 && count == CLAMPED_BLOCK) { /* constants, which become vectors */
            take_strided(g, gate + from * 2, 2, CLAMPED_BLOCK);
            take_strided(u, up + from * 2, 2, CLAMPED_BLOCK);
        } else {
            take_strided(g, gate + from * stride, stride, count);
            take_strided(u, up + from * stride, stride, count);
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

#define CONV_CHANNELS 256u /* channels of a block: enough of a row for the CPU to fetch ahead */
#define CONV_TAPS     4u   /* taps that are added at a time */

/* Taps [j0, j0 + taps) of one token: y begins with the first one where j0 is 0. rows[j]: the
 * channels that tap j0 + j is for. j0 and taps are constants where they can be. */
SL_INLINE void conv_taps(float *restrict y, float (*restrict tap)[CONV_CHANNELS],
                         const float *const *rows, uint32_t j0, uint32_t taps, uint32_t n)
{
    for (uint32_t c = 0; c < n; c++) {
        float sum = j0 == 0 ? tap[0][c] * rows[0][c] : y[c] + tap[0][c] * rows[0][c];
        for (uint32_t j = 1; j < taps; j++)
            sum += tap[j][c] * rows[j][c];
        y[c] = sum;
    }
}

/* tap[j][c] = weight j0 + j of channel c; width and taps are constants where they can be. */
SL_INLINE void take_taps(float (*restrict tap)[CONV_CHANNELS], const float *restrict w,
                         uint32_t width, uint32_t taps, uint32_t n)
{
    for (uint32_t c = 0; c < n; c++) {
        for (uint32_t j = 0; j < taps; j++)
            tap[j][c] = w[(size_t)c * width + j];
    }
}

/* Channels [c0, c0 + n) of all tokens, n <= CONV_CHANNELS. A row is read where it lies, near the
 * other rows of its token: rows lie so far apart that few stay in L1 together. */
static void conv_block(float *y, const float *in, const float *state, const float *w,
                       uint32_t tokens, uint32_t channels, uint32_t width, uint32_t c0, uint32_t n)
{
    float tap[CONV_TAPS][CONV_CHANNELS];
    for (uint32_t j0 = 0; j0 < width; j0 += CONV_TAPS) {
        uint32_t taps = width - j0 < CONV_TAPS ? width - j0 : CONV_TAPS;
        const float *from = w + (size_t)c0 * width + j0;
        if (width == CONV_TAPS) take_taps(tap, from, CONV_TAPS, CONV_TAPS, n);
        else take_taps(tap, from, width, taps, n);
        for (uint32_t t = 0; t < tokens; t++) {
            const float *rows[CONV_TAPS];
            float *to = y + (size_t)t * channels + c0;
            for (uint32_t j = 0; j < taps; j++) {
                uint32_t row = t + j0 + j; /* of (state, in) */
                rows[j] = row < width - 1 ? state + (size_t)row * channels + c0
                                          : in + (size_t)(row - (width - 1)) * channels + c0;
            }
            if (width == CONV_TAPS) conv_taps(to, tap, rows, 0, CONV_TAPS, n);
            else conv_taps(to, tap, rows, j0, taps, n);
            if (j0 + taps == width) silu(to, n);
        }
    }
}

static void causal_conv_silu(float *y, const float *in, float *state, const float *w,
                             uint32_t tokens, uint32_t channels, uint32_t width, uint32_t c0,
                             uint32_t c1)
{
    for (uint32_t c = c0; c < c1; c += CONV_CHANNELS) {
        uint32_t n = c1 - c < CONV_CHANNELS ? c1 - c : CONV_CHANNELS;
        conv_block(y, in, state, w, tokens, channels, width, c, n);
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
