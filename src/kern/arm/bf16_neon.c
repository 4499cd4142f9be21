/* src/kern/body_bf16.h with NEON: products as fused multiply-adds of four floats. */
#include <arm_neon.h>

#define SL_VW                 4
#define SL_BF16_TOKENS        4u
#define SL_BF16_MADD(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))

#include "kern/bf16_floats.h"
#include "kern/levels.h"

SL_INLINE void bf16_fold(const vec s[4], float out[4])
{
    const float32x4_t two = vpaddq_f32((float32x4_t)s[0], (float32x4_t)s[1]);
    vst1q_f32(out, vpaddq_f32(two, vpaddq_f32((float32x4_t)s[2], (float32x4_t)s[3])));
}

#include "kern/body_bf16.h"

void sl__kern_neon_bf16(sl__kern *kern)
{
    kern->round_bf16 = round_rows;
    kern->matmul_bf16 = matmul_bf16;
}
