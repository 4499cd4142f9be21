/* exp, and what follows from it, in plain float arithmetic that a compiler turns into vectors: no
 * call, no branch, no table. The same bits on every level and every platform.
 *
 *     exp(x) = 2^n · exp(r),  n = round(x / ln 2),  r = x − n ln 2,  |r| ≤ 0.347
 *
 * Relative error below 2e-7 where the result is normal. Above 89 it is +infinity, below −104 it is
 * zero; a NaN stays one.
 */
#ifndef SL_KERN_EXPF_H
#define SL_KERN_EXPF_H

#include <stdint.h>
#include <string.h>

static inline float kern_pow2(int32_t n) /* −126 <= n <= 127 */
{
    uint32_t u = ((uint32_t)n + 127u) << 23;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static inline float kern_exp(float x)
{
    x = x < -104.0f ? -104.0f : x;
    x = x > 89.0f ? 89.0f : x;
    /* Adding 1.5·2^23 leaves the rounded number in the low bits. */
    float shifted = x * 0x1.715476p+0f + 0x1.8p+23f;
    float n = shifted - 0x1.8p+23f;
    /* ln 2 in two parts; the first has 10 bits, so that its product with n is exact. */
    float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = (p * (r * r) + r) + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    int32_t whole = (int32_t)(bits - 0x4b400000u);
    int32_t half = whole >> 1; /* two factors, for results at the ends of the range */
    return p * kern_pow2(half) * kern_pow2(whole - half);
}

static inline float kern_sigmoid(float x)
{
    return 1.0f / (1.0f + kern_exp(-x));
}

static inline float kern_silu(float x)
{
    return x / (1.0f + kern_exp(-x));
}

/* x ← softmax(x); the sum runs over sixteen lanes that are folded like the dot product's, and then
 * takes in the sink, where there is one: a score that has a share and no place in x. */
static inline void kern_softmax(float *x, uint32_t n, const float *sink)
{
    float lane[16], largest = x[0];
    uint32_t whole = n & ~15u;
    for (unsigned i = 0; i < 16; i++)
        lane[i] = x[0];
    for (uint32_t c = 0; c < whole; c += 16) {
        for (unsigned i = 0; i < 16; i++)
            lane[i] = x[c + i] > lane[i] ? x[c + i] : lane[i];
    }
    for (unsigned i = 0; i < 16; i++)
        largest = lane[i] > largest ? lane[i] : largest;
    for (uint32_t c = whole; c < n; c++)
        largest = x[c] > largest ? x[c] : largest;
    if (sink) largest = *sink > largest ? *sink : largest;
    for (uint32_t c = 0; c < n; c++)
        x[c] = kern_exp(x[c] - largest);
    memset(lane, 0, sizeof lane);
    for (uint32_t c = 0; c < whole; c += 16) {
        for (unsigned i = 0; i < 16; i++)
            lane[i] += x[c + i];
    }
    for (uint32_t c = whole; c < n; c++)
        lane[c - whole] += x[c];
    for (unsigned k = 8; k > 0; k /= 2) {
        for (unsigned i = 0; i < k; i++)
            lane[i] += lane[i + k];
    }
    if (sink) lane[0] += kern_exp(*sink - largest);
    float inverse = 1.0f / lane[0];
    for (uint32_t c = 0; c < n; c++)
        x[c] *= inverse;
}

#endif
