/* src/kern/body_bf16.h with AVX2: products as fused multiply-adds of eight floats. */
#include <immintrin.h>

#define SL_VW                 8
#define SL_BF16_TOKENS        2u
#define SL_BF16_MADD(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))

#include "kern/bf16_floats.h"
#include "kern/levels.h"

SL_INLINE void bf16_fold(const vec s[4], float out[4])
{
    const __m256 two = _mm256_hadd_ps((__m256)s[0], (__m256)s[1]);
    const __m256 four = _mm256_hadd_ps(two, _mm256_hadd_ps((__m256)s[2], (__m256)s[3]));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(four), _mm256_extractf128_ps(four, 1)));
}

#include "kern/body_bf16.h"

void sl__kern_avx2_bf16(sl__kern *kern)
{
    kern->round_bf16 = round_rows;
    kern->matmul_bf16 = matmul_bf16;
}
