/* Panels with AVX2. What adds up bytes here takes unsigned times signed ones, and sums of two
 * products of 16 bits, which saturate:
 *
 *     q4, q3, q2   15 · 127 · 2 = 3810: eight sums fit into 16 bits before they are widened
 *     q8           a code less 128 has a magnitude of at most 128, and 128 · 127 · 2 = 32512: the
 *                  magnitude is multiplied with the activation that has taken the sign, and
 *                  128 · Σ activations is where the sum starts */
#define SL_VW 8
#include "kern/x86/panel_codes.h"

#define SL_DOT_QUADS    8u
#define SL_DOT_IN_PLACE 0
#define SL_DOT_ONE_KIND 0

SL_INLINE __m256i add_pairs(__m256i s)
{
    return _mm256_madd_epi16(s, _mm256_set1_epi16(1));
}

SL_INLINE ivec dot_add(sl__dtype type, ivec s, ivec codes, ivec x)
{
    __m256i w = (__m256i)codes, sum = (__m256i)s;
    if (type != SL_Q8) return (ivec)_mm256_add_epi16(sum, _mm256_maddubs_epi16(w, (__m256i)x));
    w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8((__m256i)x, w));
    return (ivec)_mm256_add_epi32(sum, add_pairs(pairs));
}

SL_INLINE ivec dot_sum(sl__dtype type, ivec s)
{
    return type == SL_Q8 ? s : (ivec)add_pairs((__m256i)s);
}

SL_INLINE ivec dot_start(sl__dtype type, const sl__q8_group *group)
{
    const int16_t *sums = group->sums;
    return ivec_set1(type == SL_Q8 ? 128 * (sums[0] + sums[1] + sums[2] + sums[3]) : 0);
}

#include "kern/x86/body_panels.h"
#include "kern/x86/body_panels_f32.h"

void sl__kern_avx2_panels(sl__kern *kern)
{
    kern->panel_matmul = panel_matmul;
    kern->quantise_rows = quantise_rows;
    kern->panel_matmul_q8 = panel_matmul_q8;
}
