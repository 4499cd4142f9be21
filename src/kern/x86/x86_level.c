/* The levels of x86-64 above the baseline. */
#include "kern/levels.h"

void sl__kern_avx2(sl__kern *kern)
{
    sl__kern_avx2_matmul(kern);
    sl__kern_avx2_elementwise(kern);
    sl__kern_avx2_attention(kern);
    sl__kern_avx2_delta(kern);
    sl__kern_avx2_fit(kern);
    sl__kern_avx2_panels(kern);
    sl__kern_avx2_rows(kern);
    sl__kern_avx2_bf16(kern);
}

void sl__kern_avxvnni(sl__kern *kern)
{
    sl__kern_avxvnni_panels(kern);
    sl__kern_avxvnni_rows(kern);
}

void sl__kern_avx512(sl__kern *kern)
{
    sl__kern_avx512_matmul(kern);
    sl__kern_avx512_attention(kern);
    sl__kern_avx512_elementwise(kern);
    sl__kern_avx512_delta(kern);
    sl__kern_avx512_fit(kern);
    sl__kern_avx512_panels(kern);
    sl__kern_avx512_rows(kern);
    sl__kern_avx512_bf16(kern);
}

void sl__kern_avx512vnni(sl__kern *kern)
{
    sl__kern_avx512vnni_panels(kern);
    sl__kern_avx512vnni_rows(kern);
}

void sl__kern_avx512bf16(sl__kern *kern)
{
    sl__kern_avx512bf16_bf16(kern);
}

void sl__kern_amx(sl__kern *kern)
{
    sl__kern_amx_panels(kern);
    sl__kern_amx_bf16(kern);
}
