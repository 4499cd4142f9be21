/* What block_codes.h leaves to a level, with NEON. */
#ifndef SL_KERN_ARM_ARM_BLOCK_OPS_H
#define SL_KERN_ARM_ARM_BLOCK_OPS_H

#include <arm_neon.h>

#include "kern/block_codes.h"

SL_INLINE void store_values(int8_t *code, const int8_t table[16], codes16 index)
{
    vst1q_s8(code, vqtbl1q_s8(vld1q_s8(table), (uint8x16_t)index));
}

SL_INLINE codes16 spread_bits(unsigned bits)
{
    const uint8x8_t bit = vcreate_u8(UINT64_C(0x8040201008040201));
    const uint8x16_t both = vcombine_u8(vdup_n_u8((uint8_t)bits), vdup_n_u8((uint8_t)(bits >> 8)));
    return (codes16)vtstq_u8(both, vcombine_u8(bit, bit));
}

SL_INLINE float half_value(uint16_t h)
{
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(h))), 0);
}

#endif
