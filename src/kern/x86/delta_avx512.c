/* src/kern/body_delta.h with AVX-512 and fused multiply-add. */
#include <immintrin.h>

#define SL_VW 16
#define SL_VFMA(a, b, c) _mm512_fmadd_ps(a, b, c)
#include "kern/body_delta.h"

void sl__kern_avx512_delta(sl__kern *kern)
{
    fill_delta(kern);
}
