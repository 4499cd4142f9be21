/* Products with panels by USDOT, which takes weights as they are, and by USMMLA: two rows by two
 * tokens, eight columns at a time. For that a quad's four vectors are opened as pairs of rows:
 *
 *     vectors 0, 1    r0 c0 … c3 | r1 … | r2 … | r3 …      r0 c4 … c7 | r1 … | r2 … | r3 …
 *     opened 0, 1     r0 c0 … c7 | r1 c0 … c7              r2 c0 … c7 | r3 c0 … c7
 *     opened 2, 3     the same of c8 … c15
 */
#define TILE 4u
#define FLIP 0u
#include "kern/arm/body_arm_panels.h"

SL_INLINE void store_opened(uint8_t out[64], const uint8x16_t four[4])
{
    for (unsigned i = 0; i < 4; i += 2) {
        uint32x4_t a = vreinterpretq_u32_u8(four[i]), b = vreinterpretq_u32_u8(four[i + 1]);
        vst1q_u8(out + 16 * i, vreinterpretq_u8_u32(vzip1q_u32(a, b)));
        vst1q_u8(out + 16 * i + 16, vreinterpretq_u8_u32(vzip2q_u32(a, b)));
    }
}

/* Of one quad; two sums, so that one waits for itself half as often. */
SL_INLINE int32x4_t quad_dot(sl__dtype type, const unsigned char *p, const int8_t *x, unsigned k)
{
    int32x4_t sum[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    for (unsigned u = 0; u < 4; u++) {
        const int8x16_t xs = vld1q_s8(x + 16 * u);
        int32x4_t s = sum[u / 2];
        s = vusdotq_laneq_s32(s, panel_codes(type, p, u, k, 0, FLIP), xs, 0);
        s = vusdotq_laneq_s32(s, panel_codes(type, p, u, k, 1, FLIP), xs, 1);
        s = vusdotq_laneq_s32(s, panel_codes(type, p, u, k, 2, FLIP), xs, 2);
        s = vusdotq_laneq_s32(s, panel_codes(type, p, u, k, 3, FLIP), xs, 3);
        sum[u / 2] = s;
    }
    return vaddq_s32(sum[0], sum[1]);
}

SL_INLINE void group_dots(sl__dtype type, const unsigned char *p, const int8_t *x, int total,
                          int32x4_t dot[4])
{
    (void)total;
    for (unsigned k = 0; k < 4; k++)
        dot[k] = quad_dot(type, p, x, k);
}

/* The low (high) halves of two tokens' 16 codes, side by side. */
SL_INLINE int8x16_t low_halves(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s64(vzip1q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

SL_INLINE int8x16_t high_halves(int8x16_t a, int8x16_t b)
{
    return vreinterpretq_s8_s64(vzip2q_s64(vreinterpretq_s64_s8(a), vreinterpretq_s64_s8(b)));
}

SL_INLINE void tile_dots(sl__dtype type, const uint8_t *codes, const int8_t *const x[TILE],
                         const int total[TILE], int32x4_t dot[TILE][4])
{
    int32x4_t sum[8][TILE / 2]; /* of rows 2j, 2j + 1 by tokens 2t, 2t + 1, row by row */
    (void)type;
    (void)total;
    for (unsigned i = 0; i < 4 * TILE; i++)
        sum[i % 8][i / 8] = vdupq_n_s32(0);
#pragma GCC unroll 1 /* all four together need more registers than there are */
    for (unsigned u = 0; u < 4; u++, codes += 256) {
        int8x16_t low[TILE / 2], high[TILE / 2];
        for (unsigned t = 0; t < TILE; t += 2) {
            const int8x16_t a = vld1q_s8(x[t] + 16 * u), b = vld1q_s8(x[t + 1] + 16 * u);
            low[t / 2] = low_halves(a, b);
            high[t / 2] = high_halves(a, b);
        }
        for (unsigned j = 0; j < 8; j++) {
            const uint8_t *rows = codes + 64 * (j / 2) + 16 * (j % 2);
            const uint8x16_t first = vld1q_u8(rows), second = vld1q_u8(rows + 32);
            for (unsigned t = 0; t < TILE / 2; t++) {
                sum[j][t] = vusmmlaq_s32(sum[j][t], first, low[t]);
                sum[j][t] = vusmmlaq_s32(sum[j][t], second, high[t]);
            }
        }
    }
    for (unsigned t = 0; t < TILE; t += 2) {
        for (unsigned k = 0; k < 4; k++) {
            dot[t][k] = vuzp1q_s32(sum[2 * k][t / 2], sum[2 * k + 1][t / 2]);
            dot[t + 1][k] = vuzp2q_s32(sum[2 * k][t / 2], sum[2 * k + 1][t / 2]);
        }
    }
}

void sl__kern_i8mm_panels(sl__kern *kern)
{
    kern->panel_matmul_q8 = panel_matmul_q8;
}
