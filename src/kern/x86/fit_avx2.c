/* src/kern/body_fit.h with AVX2: eight groups a vector. */
#define SL_VW 8
#include <immintrin.h>

#include "kern/lanes.h"

SL_INLINE vec fit_most(vec a, vec b)
{
    return (vec)_mm256_max_ps((__m256)a, (__m256)b);
}

SL_INLINE vec fit_least(vec a, vec b)
{
    return (vec)_mm256_min_ps((__m256)a, (__m256)b);
}

SL_INLINE vec fit_step(vec s, vec a, vec b, vec step)
{
    __m256 above = _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ);
    return s + (vec)_mm256_and_ps(above, (__m256)step);
}

SL_INLINE vec fit_choose(vec a, vec b, vec c, vec d)
{
    __m256 above = _mm256_cmp_ps((__m256)a, (__m256)b, _CMP_GT_OQ);
    return (vec)_mm256_blendv_ps((__m256)d, (__m256)c, above);
}

#include "kern/body_fit.h"

void sl__kern_avx2_fit(sl__kern *kern)
{
    fill_fit(kern);
}
