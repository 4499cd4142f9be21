/* What block_codes.h leaves to a level and both wide ones do alike. */
#ifndef SL_KERN_X86_BLOCK_OPS_H
#define SL_KERN_X86_BLOCK_OPS_H

#include <immintrin.h>

#include "kern/block_codes.h"

SL_INLINE void store_values(int8_t *code, const int8_t table[16], codes16 index)
{
    codes_store(code, (codes16)_mm_shuffle_epi8((__m128i)codes_load(table), (__m128i)index));
}

SL_INLINE codes16 spread_bits(unsigned bits)
{
    const __m128i bit = _mm_set1_epi64x((long long)UINT64_C(0x8040201008040201));
    __m128i both = _mm_shuffle_epi8(_mm_cvtsi32_si128((int)bits),
                                    _mm_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1));
    return (codes16)_mm_cmpeq_epi8(_mm_and_si128(both, bit), bit);
}

SL_INLINE float half_value(uint16_t h)
{
    return _cvtsh_ss(h);
}

#endif
