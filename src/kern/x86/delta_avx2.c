/* src/kern/body_delta.h with AVX2 and fused multiply-add. */
#include <immintrin.h>

#define SL_VW 8
#define SL_VFMA(a, b, c) _mm256_fmadd_ps(a, b, c)
#include "kern/body_delta.h"

void sl__kern_avx2_delta(sl__kern *kern)
{
    fill_delta(kern);
}
