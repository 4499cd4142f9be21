/* Panels with AVX-512: as with AVX2 (panels_avx2.c), twice as wide. */
#define SL_VW 16
#include "kern/x86/panel_codes.h"

#define SL_DOT_QUADS    8u
#define SL_DOT_IN_PLACE 0
#define SL_DOT_ONE_KIND 0

SL_INLINE __m512i add_pairs(__m512i s)
{
    return _mm512_madd_epi16(s, _mm512_set1_epi16(1));
}

SL_INLINE ivec dot_add(sl__dtype type, ivec s, ivec codes, ivec x)
{
    __m512i w = (__m512i)codes, xv = (__m512i)x, sum = (__m512i)s;
    if (type != SL_Q8) return (ivec)_mm512_add_epi16(sum, _mm512_maddubs_epi16(w, xv));
    w = _mm512_xor_si512(w, _mm512_set1_epi8(-128));
    xv = _mm512_mask_sub_epi8(xv, _mm512_movepi8_mask(w), _mm512_setzero_si512(), xv);
    __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), xv);
    return (ivec)_mm512_add_epi32(sum, add_pairs(pairs));
}

SL_INLINE ivec dot_sum(sl__dtype type, ivec s)
{
    return type == SL_Q8 ? s : (ivec)add_pairs((__m512i)s);
}

SL_INLINE ivec dot_start(sl__dtype type, const sl__q8_group *group)
{
    const int16_t *sums = group->sums;
    return ivec_set1(type == SL_Q8 ? 128 * (sums[0] + sums[1] + sums[2] + sums[3]) : 0);
}

#include "kern/x86/body_panels.h"
#include "kern/x86/body_panels_f32.h"

void sl__kern_avx512_panels(sl__kern *kern)
{
    kern->panel_matmul = panel_matmul;
    kern->quantise_rows = quantise_rows;
    kern->panel_matmul_q8 = panel_matmul_q8;
}
