/* The weight types as floats, and the matrix product over lanes of four, with what plain C has no
 * word for: lookups in a table of bytes, which also spread codes to the numbers that become floats,
 * and halves. The arithmetic of each weight is ref's. */
#define SL_VW 4
#include "kern/arm/arm_block_ops.h"
#include "kern/group_types.h"

/* ---- a group --------------------------------------------------------------------------------- */

/* 64 weights of a row, opened: value i of it is weights 4i … 4i+3. What a type does not use is
 * never computed. */
typedef struct opened {
    const unsigned char *p;
    float32x4_t scale, minimum; /* mxfp4: the scales of weights 0 … 31 and of the others */
    uint8x16_t codes[4];        /* a byte each, in order */
    uint16x8_t halves[8];       /* mxfp4: values without scale, as the upper halves of floats */
} opened;

SL_INLINE float32x4_t weigh(float32x4_t scale, float32x4_t code, float32x4_t minimum)
{
    return vaddq_f32(vmulq_f32(scale, code), minimum);
}

/* Bytes 4i … 4i + 3 as four numbers. An index beyond the end gives 0. */
SL_INLINE float32x4_t four_codes(uint8x16_t codes, unsigned i)
{
    const codes16 first = {0, 255, 255, 255, 1, 255, 255, 255, 2, 255, 255, 255, 3, 255, 255, 255};
    const uint8x16_t at = (uint8x16_t)(first | (uint8_t)(4 * i));
    return vcvtq_f32_u32(vreinterpretq_u32_u8(vqtbl1q_u8(codes, at)));
}

/* The same of signed bytes, which become the numbers' top. */
SL_INLINE float32x4_t four_signed_codes(uint8x16_t codes, unsigned i)
{
    const codes16 first = {255, 255, 255, 0, 255, 255, 255, 1, 255, 255, 255, 2, 255, 255, 255, 3};
    const uint8x16_t at = (uint8x16_t)(first | (uint8_t)(4 * i));
    return vcvtq_n_f32_s32(vreinterpretq_s32_u8(vqtbl1q_u8(codes, at)), 24);
}

/* Sixteen codes of fp4 in order, as the upper halves of floats; out: two registers. */
SL_INLINE void fp4_values(uint8x16_t codes, uint16x8_t out[2])
{
    const uint8x16_t upper = (uint8x16_t)(codes16){0x00, 0x3f, 0x3f, 0x3f, 0x40, 0x40, 0x40, 0x40,
                                                   0x80, 0xbf, 0xbf, 0xbf, 0xc0, 0xc0, 0xc0, 0xc0};
    const uint8x16_t lower = (uint8x16_t)(codes16){0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0,
                                                   0x00, 0x00, 0x80, 0xc0, 0x00, 0x40, 0x80, 0xc0};
    const uint8x16_t high = vqtbl1q_u8(upper, codes), low = vqtbl1q_u8(lower, codes);
    out[0] = vreinterpretq_u16_u8(vzip1q_u8(low, high));
    out[1] = vreinterpretq_u16_u8(vzip2q_u8(low, high));
}

/* s: the group's two scales. */
SL_INLINE void open_mxfp4(opened *o, const unsigned char *s)
{
    o->scale = vdupq_n_f32(sl__e8m0_to_f32(s[0]));
    o->minimum = vdupq_n_f32(sl__e8m0_to_f32(s[1]));
    for (unsigned i = 0; i < 2; i++) { /* the low nibble of a byte comes first */
        const uint8x16_t both = vld1q_u8(o->p + 16 * i), high = vshrq_n_u8(both, 4);
        const uint8x16_t low = vandq_u8(both, vdupq_n_u8(15));
        fp4_values(vzip1q_u8(low, high), o->halves + 4 * i);
        fp4_values(vzip2q_u8(low, high), o->halves + 4 * i + 2);
    }
}

/* Sixteen times bit 2 of q3's codes, from two bytes. */
SL_INLINE uint8x16_t third_bits(const unsigned char *p)
{
    const codes16 spread = spread_bits(p[0] | (unsigned)p[1] << 8);
    return vandq_u8((uint8x16_t)spread, vdupq_n_u8(4));
}

SL_INLINE void open_codes_q(sl__dtype type, const unsigned char *p, uint8x16_t codes[4])
{
    const uint8x16_t both = vld1q_u8(p), three = vdupq_n_u8(3);
    if (type == SL_Q8) {
        for (unsigned i = 0; i < 4; i++)
            codes[i] = vld1q_u8(p + 16 * i);
        return;
    }
    if (type == SL_Q4) {
        for (unsigned i = 0; i < 2; i++) {
            codes[i] = vandq_u8(vld1q_u8(p + 16 * i), vdupq_n_u8(15));
            codes[i + 2] = vshrq_n_u8(vld1q_u8(p + 16 * i), 4);
        }
        return;
    }
    codes[0] = vandq_u8(both, three);
    codes[1] = vandq_u8(vshrq_n_u8(both, 2), three);
    codes[2] = vandq_u8(vshrq_n_u8(both, 4), three);
    codes[3] = vshrq_n_u8(both, 6);
    for (unsigned i = 0; i < 4 && type == SL_Q3; i++)
        codes[i] = vorrq_u8(codes[i], third_bits(p + 16 + 2 * i));
}

/* s: the group's scales, where they lie apart. */
SL_INLINE opened open_group(sl__dtype type, const unsigned char *p, const unsigned char *s)
{
    opened o;
    o.p = p;
    if (type <= SL_BF16) return o;
    if (type == SL_MXFP4) {
        open_mxfp4(&o, s);
        return o;
    }
    uint16_t half[2];
    memcpy(half, p, sizeof half);
    o.scale = vdupq_n_f32(sl__bf16_to_f32(half[0]));
    o.minimum = vdupq_n_f32(sl__bf16_to_f32(half[1]));
    open_codes_q(type, p + 4, o.codes);
    return o;
}

SL_INLINE uint16x4_t four_halves(const unsigned char *p)
{
    return vreinterpret_u16_u8(vld1_u8(p));
}

/* i is a constant at every call. */
SL_INLINE vec group_value(sl__dtype type, const opened *o, unsigned i)
{
    uint16x8_t eight;
    switch (type) {
    case SL_F32: return vec_load(o->p + 16 * i);
    case SL_F16: return (vec)vcvt_f32_f16(vreinterpret_f16_u16(four_halves(o->p + 8 * i)));
    case SL_BF16: return (vec)vshll_n_u16(four_halves(o->p + 8 * i), 16);
    case SL_MXFP4:
        eight = o->halves[i / 2];
        return (vec)vmulq_f32(
            vreinterpretq_f32_u32(i % 2 == 0 ? vshll_n_u16(vget_low_u16(eight), 16)
                                             : vshll_high_n_u16(eight, 16)),
            i < 8 ? o->scale : o->minimum);
    default: return (vec)weigh(o->scale, four_codes(o->codes[i / 4], i % 4), o->minimum);
    }
}

SL_INLINE vec code_value(const block_codes *o, unsigned i)
{
    const uint8x16_t codes = (uint8x16_t)codes_load(o->code + i / 4 * 16);
    return (vec)weigh(vdupq_n_f32(o->scale[i / 4]), four_signed_codes(codes, i % 4),
                      vdupq_n_f32(o->addend[i / 4]));
}

#include "kern/body_groups.h"

void sl__kern_neon_matmul(sl__kern *kern)
{
    fill_matmul(kern);
}
