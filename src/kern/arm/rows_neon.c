/* Weights in rows and activations of 8 bits by what every arm64 processor has: bytes by bytes into
 * 16 bits, where two products of any two codes fit. */
#include "kern/arm/body_arm_rows.h"

SL_INLINE int32x4_t run_quads(int8x16_t w, int8x16_t x)
{
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
    return vpaddlq_s16(vpaddq_s16(low, high));
}

void sl__kern_neon_rows(sl__kern *kern)
{
    kern->matmul_q8 = matmul_q8;
}
