/* Products with panels by SDOT: four bytes by four bytes, added to each of four sums at once. Codes
 * of weights have to be signed: q8's lose 128, which 128 times the sum of x's codes brings back. */
#define TILE 4u
#define FLIP 0x80u
#include "kern/arm/body_arm_panels.h"

SL_INLINE void store_opened(uint8_t out[64], const uint8x16_t four[4])
{
    for (unsigned i = 0; i < 4; i++)
        vst1q_u8(out + 16 * i, four[i]);
}

SL_INLINE int32x4_t first_sum(sl__dtype type, int total)
{
    return vdupq_n_s32(type == SL_Q8 ? 128 * total : 0);
}

/* Four vectors of a quad with the 16 codes of their columns. */
SL_INLINE int32x4_t unit_dot(int32x4_t sum, const uint8x16_t w[4], int8x16_t x)
{
    sum = vdotq_laneq_s32(sum, vreinterpretq_s8_u8(w[0]), x, 0);
    sum = vdotq_laneq_s32(sum, vreinterpretq_s8_u8(w[1]), x, 1);
    sum = vdotq_laneq_s32(sum, vreinterpretq_s8_u8(w[2]), x, 2);
    return vdotq_laneq_s32(sum, vreinterpretq_s8_u8(w[3]), x, 3);
}

/* Of one quad; two sums, so that one waits for itself half as often. */
SL_INLINE int32x4_t quad_dot(sl__dtype type, const unsigned char *p, const int8_t *x, int total,
                             unsigned k)
{
    int32x4_t sum[2] = {first_sum(type, total), vdupq_n_s32(0)};
    for (unsigned u = 0; u < 4; u++) {
        uint8x16_t w[4];
        for (unsigned i = 0; i < 4; i++)
            w[i] = panel_codes(type, p, u, k, i, FLIP);
        sum[u / 2] = unit_dot(sum[u / 2], w, vld1q_s8(x + 16 * u));
    }
    return vaddq_s32(sum[0], sum[1]);
}

SL_INLINE void group_dots(sl__dtype type, const unsigned char *p, const int8_t *x, int total,
                          int32x4_t dot[4])
{
    for (unsigned k = 0; k < 4; k++)
        dot[k] = quad_dot(type, p, x, total, k);
}

SL_INLINE void tile_dots(sl__dtype type, const uint8_t *codes, const int8_t *const x[TILE],
                         const int total[TILE], int32x4_t dot[TILE][4])
{
    for (unsigned i = 0; i < 4 * TILE; i++)
        dot[i / 4][i % 4] = first_sum(type, total[i / 4]);
    for (unsigned u = 0; u < 4; u++, codes += 256) {
        int8x16_t xs[TILE];
        for (unsigned t = 0; t < TILE; t++)
            xs[t] = vld1q_s8(x[t] + 16 * u);
        for (unsigned k = 0; k < 4; k++) {
            uint8x16_t w[4];
            for (unsigned i = 0; i < 4; i++)
                w[i] = vld1q_u8(codes + 64 * k + 16 * i);
            for (unsigned t = 0; t < TILE; t++)
                dot[t][k] = unit_dot(dot[t][k], w, xs[t]);
        }
    }
}

void sl__kern_dotprod_panels(sl__kern *kern)
{
    kern->panel_matmul_q8 = panel_matmul_q8;
}
