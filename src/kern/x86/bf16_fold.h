/* What the levels with AVX-512 share in products of bf16. */
#ifndef SL_KERN_X86_BF16_FOLD_H
#define SL_KERN_X86_BF16_FOLD_H

#include <immintrin.h>

#include "kern/lanes.h"

/* Four sums of sixteen lanes, each folded in the same order. */
SL_INLINE void bf16_fold(const vec s[4], float out[4])
{
    const __m512 a = (__m512)s[0], b = (__m512)s[1], c = (__m512)s[2], d = (__m512)s[3];
    const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    const __m512d p = _mm512_castps_pd(ab), q = _mm512_castps_pd(cd);
    const __m512 abcd = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(p, q)),
                                      _mm512_castpd_ps(_mm512_unpackhi_pd(p, q)));
    const __m256 two = _mm256_add_ps(_mm512_castps512_ps256(abcd), _mm512_extractf32x8_ps(abcd, 1));
    _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(two), _mm256_extractf128_ps(two, 1)));
}

#endif
