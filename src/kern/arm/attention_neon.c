/* src/kern/body_attention.h with fused multiply-add and conversion of halves. */
#include <arm_neon.h>

#define SL_VW 4
#include "kern/lanes.h"

SL_INLINE vec attention_fma(vec a, vec b, vec c)
{
    return (vec)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
}

SL_INLINE vec attention_halves(const uint16_t *p)
{
    return (vec)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

SL_INLINE vec attention_codes(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    int8x8_t codes = vreinterpret_s8_s32(vdup_n_s32(four));
    return (vec)vcvtq_f32_s32(vmovl_s16(vget_low_s16(vmovl_s8(codes))));
}

#include "kern/body_attention.h"

void sl__kern_neon_attention(sl__kern *kern)
{
    fill_attention(kern);
}
