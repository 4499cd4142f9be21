/* The level that every machine has: src/kern/body_attention.h at the compiler's baseline, without
 * fused multiply-adds. */
#define SL_VW 4
#include "kern/lanes.h"

SL_INLINE vec attention_fma(vec a, vec b, vec c)
{
    return a * b + c;
}

/* A half's exponent and digits, moved into place, are 2^112 too small; that product is exact, of
 * subnormal halves too. */
SL_INLINE vec attention_halves(const uint16_t *p)
{
    float out[SL_VW];
    for (uint32_t i = 0; i < SL_VW; i++) {
        uint32_t bits = (p[i] & 0x7fffu) << 13, sign = (uint32_t)(p[i] & 0x8000u) << 16;
        float size;
        memcpy(&size, &bits, sizeof size);
        size *= 0x1p112f;
        memcpy(&bits, &size, sizeof bits);
        bits |= (p[i] & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0; /* infinities and NaN */
        bits |= sign;
        memcpy(&out[i], &bits, sizeof bits);
    }
    return vec_load(out);
}

SL_INLINE vec attention_codes(const int8_t *p)
{
    vec v;
    for (uint32_t i = 0; i < SL_VW; i++)
        v[i] = (float)p[i];
    return v;
}

#include "kern/body_attention.h"

void sl__kern_ref_attention(sl__kern *kern)
{
    fill_attention(kern);
}
