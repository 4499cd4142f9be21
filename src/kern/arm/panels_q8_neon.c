/* Products with panels by what every arm64 processor has: bytes by bytes into 16 bits, SMLAL.
 *
 * Codes of q4, q3 and q2 are below 16 and x's at most 127: sixteen such products stay within 16
 * bits, which is a whole group. q8's, made signed, are at most 128: two products, then 32 bits. */
#define TILE 2u
#define FLIP 0x80u
#include "kern/arm/body_arm_panels.h"

/* Sums of a quad by one token: of the pairs of columns of rows 0 and 1, of rows 2 and 3. */
typedef struct quad_sum {
    int16x8_t narrow[2]; /* of columns 4j + i, as they lie */
    int32x4_t wide[2];   /* q8: of columns 4j + i and the one beside it */
} quad_sum;

SL_INLINE void store_opened(uint8_t out[64], const uint8x16_t four[4])
{
    for (unsigned i = 0; i < 4; i++)
        vst1q_u8(out + 16 * i, four[i]);
}

SL_INLINE quad_sum no_sum(void)
{
    return (quad_sum){{vdupq_n_s16(0), vdupq_n_s16(0)}, {vdupq_n_s32(0), vdupq_n_s32(0)}};
}

/* Four codes of x, for each of four rows. */
SL_INLINE int8x16_t four_codes(const int8_t *x)
{
    int32_t four;
    memcpy(&four, x, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

/* Adds two vectors of a quad. */
SL_INLINE void add_pair(sl__dtype type, quad_sum *s, const uint8x16_t codes[2],
                        const int8x16_t x[2])
{
    const int8x16_t a = vreinterpretq_s8_u8(codes[0]), b = vreinterpretq_s8_u8(codes[1]);
    if (type == SL_Q8) {
        int16x8_t low = vmull_s8(vget_low_s8(a), vget_low_s8(x[0])), high = vmull_high_s8(a, x[0]);
        low = vmlal_s8(low, vget_low_s8(b), vget_low_s8(x[1]));
        high = vmlal_high_s8(high, b, x[1]);
        s->wide[0] = vpadalq_s16(s->wide[0], low);
        s->wide[1] = vpadalq_s16(s->wide[1], high);
    } else {
        s->narrow[0] = vmlal_s8(s->narrow[0], vget_low_s8(a), vget_low_s8(x[0]));
        s->narrow[1] = vmlal_high_s8(s->narrow[1], a, x[0]);
        s->narrow[0] = vmlal_s8(s->narrow[0], vget_low_s8(b), vget_low_s8(x[1]));
        s->narrow[1] = vmlal_high_s8(s->narrow[1], b, x[1]);
    }
}

SL_INLINE int32x4_t whole_sum(sl__dtype type, const quad_sum *s, int total)
{
    if (type == SL_Q8)
        return vaddq_s32(vpaddq_s32(s->wide[0], s->wide[1]), vdupq_n_s32(128 * total));
    return vpaddq_s32(vpaddlq_s16(s->narrow[0]), vpaddlq_s16(s->narrow[1]));
}

/* Vectors i and i + 1 of unit u. */
SL_INLINE void add_vectors(sl__dtype type, const unsigned char *p, const int8_t *x, unsigned u,
                           unsigned i, quad_sum s[4])
{
    const int8x16_t xs[2] = {four_codes(x + 16 * u + 4 * i), four_codes(x + 16 * u + 4 * i + 4)};
    for (unsigned k = 0; k < 4; k++) {
        const uint8x16_t w[2] = {panel_codes(type, p, u, k, i, FLIP),
                                 panel_codes(type, p, u, k, i + 1, FLIP)};
        add_pair(type, &s[k], w, xs);
    }
}

SL_INLINE void group_dots(sl__dtype type, const unsigned char *p, const int8_t *x, int total,
                          int32x4_t dot[4])
{
    quad_sum s[4] = {no_sum(), no_sum(), no_sum(), no_sum()};
    for (unsigned i = 0; i < 4; i += 2) {
        add_vectors(type, p, x, 0, i, s);
        add_vectors(type, p, x, 1, i, s);
        add_vectors(type, p, x, 2, i, s);
        add_vectors(type, p, x, 3, i, s);
    }
    for (unsigned k = 0; k < 4; k++)
        dot[k] = whole_sum(type, &s[k], total);
}

SL_INLINE void tile_dots(sl__dtype type, const uint8_t *codes, const int8_t *const x[TILE],
                         const int total[TILE], int32x4_t dot[TILE][4])
{
    quad_sum s[TILE][4];
    for (unsigned j = 0; j < 4 * TILE; j++)
        s[j / 4][j % 4] = no_sum();
    for (unsigned j = 0; j < 16; j += 2) { /* vectors j and j + 1 of the group */
        int8x16_t xs[TILE][2];
        for (unsigned t = 0; t < TILE; t++) {
            xs[t][0] = four_codes(x[t] + 4 * j);
            xs[t][1] = four_codes(x[t] + 4 * j + 4);
        }
        for (unsigned k = 0; k < 4; k++) {
            const uint8_t *at = codes + j / 4 * 256 + 64 * k + j % 4 * 16;
            const uint8x16_t w[2] = {vld1q_u8(at), vld1q_u8(at + 16)};
            for (unsigned t = 0; t < TILE; t++)
                add_pair(type, &s[t][k], w, xs[t]);
        }
    }
    for (unsigned t = 0; t < TILE; t++) {
        for (unsigned k = 0; k < 4; k++)
            dot[t][k] = whole_sum(type, &s[t][k], total[t]);
    }
}

void sl__kern_neon_panels_q8(sl__kern *kern)
{
    kern->panel_matmul_q8 = panel_matmul_q8;
}
