/* Weights in rows and activations of 8 bits by SDOT. */
#include "kern/arm/body_arm_rows.h"

SL_INLINE int32x4_t run_quads(int8x16_t w, int8x16_t x)
{
    return vdotq_s32(vdupq_n_s32(0), w, x);
}

void sl__kern_dotprod_rows(sl__kern *kern)
{
    kern->matmul_q8 = matmul_q8;
}
