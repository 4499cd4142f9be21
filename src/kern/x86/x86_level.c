/* The levels of x86-64 above the baseline. */
#include "kern/levels.h"

void sl__kern_avx2(sl__kern *kern)
{
    sl__kern_avx2_matmul(kern);
    sl__kern_avx2_elementwise(kern);
    sl__kern_avx2_attention(kern);
    sl__kern_avx2_delta(kern);
}

void sl__kern_avx512(sl__kern *kern)
{
    sl__kern_avx512_matmul(kern);
    sl__kern_avx512_attention(kern);
    sl__kern_avx512_elementwise(kern);
    sl__kern_avx512_delta(kern);
}
