/* Rounding to bf16 by AVX512-BF16, whose rule is round_bf16's: to the nearest, ties to even, NaN
 * made quiet, below the normal numbers 0 with its sign; the control register has no say in it. */
#ifndef SL_KERN_X86_BF16_ROUND_H
#define SL_KERN_X86_BF16_ROUND_H

#include <immintrin.h>

#include "kern/lanes.h"

/* `count` numbers, 32 at most, in order; the others are 0. */
SL_INLINE __m512i round_step(const float *x, uint32_t count)
{
    __m512 low, high;
    if (count >= 32) {
        low = _mm512_loadu_ps(x);
        high = _mm512_loadu_ps(x + 16);
    } else {
        const uint32_t there = (UINT32_C(1) << count) - 1;
        low = _mm512_maskz_loadu_ps((__mmask16)there, x);
        high = _mm512_maskz_loadu_ps((__mmask16)(there >> 16), x + 16);
    }
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

#endif
