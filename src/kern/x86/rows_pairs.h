/* Dot products of bytes where what adds them up takes unsigned times signed ones, and saturates
 * sums of two products at 16 bits, for body_rows.h:
 *
 *     codes below 32   31 · 127 · 2 = 7874: four such sums fit into 16 bits before they are widened
 *     codes below 64   63 · 127 · 2 = 16002: two do
 *     signed codes     a magnitude is at most 128, and 128 · 127 · 2 = 32512: it is multiplied with
 *                      the activation that has taken the sign
 */
#ifndef SL_KERN_X86_ROWS_PAIRS_H
#define SL_KERN_X86_ROWS_PAIRS_H

#define SL_SIGNED 1
#include "kern/x86/row_codes.h"

#if SL_VW == 16
SL_INLINE ivec set_long(int32_t a)
{
    return (ivec)_mm512_set1_epi32(a);
}

SL_INLINE ivec pairs_of(ivec codes, ivec x)
{
    return (ivec)_mm512_maddubs_epi16((__m512i)codes, (__m512i)x);
}

SL_INLINE ivec add_words(ivec a, ivec b)
{
    return (ivec)_mm512_add_epi16((__m512i)a, (__m512i)b);
}

SL_INLINE ivec quads_of(ivec pairs)
{
    return (ivec)_mm512_madd_epi16((__m512i)pairs, _mm512_set1_epi16(1));
}

SL_INLINE ivec signed_pairs(ivec codes, ivec x)
{
    const __m512i w = (__m512i)codes, xv = (__m512i)x;
    return (ivec)_mm512_maddubs_epi16(
        _mm512_abs_epi8(w),
        _mm512_mask_sub_epi8(xv, _mm512_movepi8_mask(w), _mm512_setzero_si512(), xv));
}
#else
SL_INLINE ivec set_long(int32_t a)
{
    return (ivec)_mm256_set1_epi32(a);
}

SL_INLINE ivec pairs_of(ivec codes, ivec x)
{
    return (ivec)_mm256_maddubs_epi16((__m256i)codes, (__m256i)x);
}

SL_INLINE ivec add_words(ivec a, ivec b)
{
    return (ivec)_mm256_add_epi16((__m256i)a, (__m256i)b);
}

SL_INLINE ivec quads_of(ivec pairs)
{
    return (ivec)_mm256_madd_epi16((__m256i)pairs, _mm256_set1_epi16(1));
}

SL_INLINE ivec signed_pairs(ivec codes, ivec x)
{
    const __m256i w = (__m256i)codes;
    return (ivec)_mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8((__m256i)x, w));
}
#endif

SL_INLINE ivec quad_dots(code_kind kind, ivec codes, ivec x)
{
    return quads_of(kind == CODES_8 ? signed_pairs(codes, x) : pairs_of(codes, x));
}

SL_INLINE ivec run_dots(code_kind kind, ivec s, const ivec w[4], const unsigned char *x)
{
    ivec pairs[4];
    for (unsigned i = 0; i < 4; i++) {
        int32_t quad;
        memcpy(&quad, x + 4 * i, sizeof quad);
        pairs[i] =
            kind == CODES_8 ? signed_pairs(w[i], set_long(quad)) : pairs_of(w[i], set_long(quad));
    }
    if (kind == CODES_8)
        return s + ((quads_of(pairs[0]) + quads_of(pairs[1])) +
                    (quads_of(pairs[2]) + quads_of(pairs[3])));
    const ivec a = add_words(pairs[0], pairs[1]), b = add_words(pairs[2], pairs[3]);
    return s + (kind == CODES_5 ? quads_of(add_words(a, b)) : quads_of(a) + quads_of(b));
}

#include "kern/x86/body_rows.h"

#endif
