/* src/kern/body_attention.h with AVX-512: a row of a panel is two vectors, and eight queries of it
 * fit into the registers. */
#include <immintrin.h>

#define SL_VW 16
#include "kern/lanes.h"

SL_INLINE vec attention_fma(vec a, vec b, vec c)
{
    return (vec)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}

SL_INLINE vec attention_halves(const uint16_t *p)
{
    return (vec)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

SL_INLINE vec attention_codes(const int8_t *p)
{
    return (vec)_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)));
}

#include "kern/body_attention.h"

void sl__kern_avx512_attention(sl__kern *kern)
{
    fill_attention(kern);
}
