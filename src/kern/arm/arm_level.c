/* The levels of arm64, each on top of the one before. */
#include "kern/levels.h"

/* The other kernels are ref's own: four floats are its vector, too. */
void sl__kern_neon(sl__kern *kern)
{
    sl__kern_neon_matmul(kern);
    sl__kern_neon_bf16(kern);
    sl__kern_neon_panels(kern);
    sl__kern_neon_rows(kern);
    sl__kern_neon_panels_q8(kern);
    sl__kern_neon_attention(kern);
    sl__kern_neon_delta(kern);
}

void sl__kern_dotprod(sl__kern *kern)
{
    sl__kern_dotprod_panels(kern);
    sl__kern_dotprod_rows(kern);
}

void sl__kern_i8mm(sl__kern *kern)
{
    sl__kern_i8mm_panels(kern);
}
