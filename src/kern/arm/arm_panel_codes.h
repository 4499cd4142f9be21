/* What a block of a panel (base/panels.h) holds, in registers of sixteen bytes: see
 * body_arm_panels.h for units, quads and vectors. Private to the files of this folder. */
#ifndef SL_KERN_ARM_ARM_PANEL_CODES_H
#define SL_KERN_ARM_ARM_PANEL_CODES_H

#include <arm_neon.h>
#include <assert.h>
#include <string.h>

#include "kern/levels.h"

#define SL_INLINE  static inline __attribute__((always_inline))
#define PANEL_HEAD (2 * SL_PANEL_ROWS * sizeof(uint16_t)) /* scales and minima of a block */

SL_INLINE size_t panel_block_bytes(sl__dtype type)
{
    switch (type) {
    case SL_Q8: return 1088;
    case SL_Q4: return 576;
    case SL_Q3: return 448;
    default: return 320;
    }
}

/* Of the four rows of quad k. */
SL_INLINE float32x4_t panel_bf16(const unsigned char *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(p)), 16));
}

SL_INLINE float32x4_t panel_scale(const unsigned char *block, unsigned k)
{
    return panel_bf16(block + 8 * k);
}

SL_INLINE float32x4_t panel_minimum(const unsigned char *block, unsigned k)
{
    return panel_bf16(block + PANEL_HEAD / 2 + 8 * k);
}

/* Every byte for itself. The compilers' own vectors can be shifted by what is a constant only after
 * this was put in line; the intrinsics want a literal. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));

SL_INLINE uint8x16_t shift_right(uint8x16_t v, unsigned bits)
{
    return (uint8x16_t)((bytes16)v >> (uint8_t)bits);
}

/* Codes of columns 16u + 4i … 16u + 4i + 3 of quad k; p: the codes of a block. flip: xor'ed to
 * q8's. All but p are constants at every call. */
SL_INLINE uint8x16_t panel_codes(sl__dtype type, const unsigned char *p, unsigned u, unsigned k,
                                 unsigned i, uint8_t flip)
{
    const unsigned at = 64 * i + 16 * k;
    if (type == SL_Q8) {
        uint8x16_t codes = vld1q_u8(p + 256 * u + at);
        return flip ? veorq_u8(codes, vdupq_n_u8(flip)) : codes;
    }
    if (type == SL_Q4) {
        uint8x16_t both = vld1q_u8(p + 256 * (u % 2) + at);
        return u < 2 ? vandq_u8(both, vdupq_n_u8(15)) : shift_right(both, 4);
    }
    uint8x16_t low = shift_right(vld1q_u8(p + at), 2 * u);
    if (type == SL_Q2) return u < 3 ? vandq_u8(low, vdupq_n_u8(3)) : low;
    uint8x16_t high = shift_right(vld1q_u8(p + 256 + 64 * (i / 2) + 16 * k), 4 * (i % 2) + u);
    return vandq_u8(vsliq_n_u8(low, high, 2), vdupq_n_u8(7));
}

#endif
