/* src/kern/body_delta.h with fused multiply-add. */
#include <arm_neon.h>

#define SL_VW            4
#define SL_VFMA(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#include "kern/body_delta.h"

void sl__kern_neon_delta(sl__kern *kern)
{
    fill_delta(kern);
}
