/* What block_codes.h leaves to a level, in plain C. */
#ifndef SL_KERN_REF_REF_BLOCK_OPS_H
#define SL_KERN_REF_REF_BLOCK_OPS_H

#include "kern/block_codes.h"

SL_INLINE void store_values(int8_t *code, const int8_t table[16], codes16 index)
{
    unsigned char at[16];
    codes_store(at, index);
    for (unsigned i = 0; i < 16; i++)
        code[i] = table[at[i]];
}

/* sl__f16_to_f32 without a branch, for loops that become vectors: the exponent is put right by a
 * multiplication, which is exact and normalises subnormals too. */
SL_INLINE float half_value(uint16_t h)
{
    uint32_t bits = (uint32_t)(h & 0x7fffu) << 13;
    float magnitude;
    memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude *= 0x1p+112f;
    uint32_t finite;
    memcpy(&finite, &magnitude, sizeof finite);
    uint32_t special = bits | 0x7f800000u | ((h & 0x3ffu) != 0 ? 0x400000u : 0u);
    uint32_t u = (h & 0x7c00u) == 0x7c00u ? special : finite;
    u |= (uint32_t)(h & 0x8000u) << 16;
    memcpy(&magnitude, &u, sizeof magnitude);
    return magnitude;
}

SL_INLINE codes16 spread_bits(unsigned bits)
{
    const codes16 bit = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    /* Each of the two bytes eight times, so that every code finds its bit in a byte of its own. */
    longs2 eight = {(bits & 255u) * UINT64_C(0x0101010101010101),
                    (bits >> 8) * UINT64_C(0x0101010101010101)};
    return (codes16)(((codes16)eight & bit) == bit);
}

#endif
