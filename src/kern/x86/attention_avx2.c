/* src/kern/body_attention.h with AVX2, FMA and F16C. */
#include <immintrin.h>

#define SL_VW 8
#include "kern/lanes.h"

SL_INLINE vec attention_fma(vec a, vec b, vec c)
{
    return (vec)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}

SL_INLINE vec attention_halves(const uint16_t *p)
{
    return (vec)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}

SL_INLINE vec attention_codes(const int8_t *p)
{
    return (vec)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)));
}

#include "kern/body_attention.h"

void sl__kern_avx2_attention(sl__kern *kern)
{
    fill_attention(kern);
}
