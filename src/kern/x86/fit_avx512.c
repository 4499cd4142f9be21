/* src/kern/body_fit.h with AVX-512: all sixteen groups in one vector. */
#define SL_VW 16
#include <immintrin.h>

#include "kern/lanes.h"

SL_INLINE vec fit_most(vec a, vec b)
{
    return (vec)_mm512_max_ps((__m512)a, (__m512)b);
}

SL_INLINE vec fit_least(vec a, vec b)
{
    return (vec)_mm512_min_ps((__m512)a, (__m512)b);
}

SL_INLINE vec fit_step(vec s, vec a, vec b, vec step)
{
    __mmask16 above = _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
    return (vec)_mm512_mask_add_ps((__m512)s, above, (__m512)s, (__m512)step);
}

SL_INLINE vec fit_choose(vec a, vec b, vec c, vec d)
{
    __mmask16 above = _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_GT_OQ);
    return (vec)_mm512_mask_blend_ps(above, (__m512)d, (__m512)c);
}

#include "kern/body_fit.h"

void sl__kern_avx512_fit(sl__kern *kern)
{
    fill_fit(kern);
}
