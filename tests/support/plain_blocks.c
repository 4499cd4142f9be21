#include "plain_blocks.h"

#include <math.h>
#include <stdlib.h>

#include "kern/block_grids.h"

float plain_half(uint16_t h)
{
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double value = exponent == 31  ? (fraction != 0 ? (double)NAN : (double)INFINITY)
                   : exponent != 0 ? ldexp(1024 + fraction, exponent - 25)
                                   : ldexp(fraction, -24);
    return (float)((h & 0x8000) != 0 ? -value : value);
}

void block_halves(sl__dtype type, int at[2])
{
    at[0] = 0;
    at[1] = -1;
    switch (type) {
    case SL_MXFP4_BLOCK:
    case SL_NVFP4:
        at[0] = -1;
        break;
    case SL_Q4_1:
    case SL_Q5_1:
    case SL_Q4_K:
    case SL_Q5_K:
        at[1] = 2;
        break;
    case SL_Q2_K:
        at[0] = 80;
        at[1] = 82;
        break;
    case SL_Q3_K:
        at[0] = 108;
        break;
    case SL_Q6_K:
        at[0] = 208;
        break;
    default:
        break;
    }
}

void tame_block(sl__dtype type, unsigned char *block)
{
    int at[2];
    block_halves(type, at);
    for (unsigned i = 0; i < 2; i++) { /* an exponent of 4 … 11: 2^−11 … 2^−4, either sign */
        if (at[i] < 0) continue;
        unsigned char *high = block + at[i] + 1;
        *high = (unsigned char)((*high & 0x83u) | (4u + (*high >> 2 & 7u)) << 2);
    }
    if (type == SL_MXFP4_BLOCK) block[0] = (unsigned char)(120 + block[0] % 8);
}

static float half_in(const unsigned char *p)
{
    return plain_half((uint16_t)(p[0] | p[1] << 8));
}

static const int iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                            1,    13,   25,  38,  53,  69,  89,  113};
static const float fp4[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6};

/* The code of element e of sixteen bytes of halves, the low ones first. */
static int nibble(const unsigned char *p, uint32_t e)
{
    return e < 16 ? p[e] & 15 : p[e - 16] >> 4;
}

static float plain_32(sl__dtype type, const unsigned char *p, uint32_t e)
{
    float d = type == SL_MXFP4_BLOCK ? 0 : half_in(p);
    int fifth = 0;
    if (type == SL_Q5_0) fifth = p[2 + e / 8] >> e % 8 & 1;
    if (type == SL_Q5_1) fifth = p[4 + e / 8] >> e % 8 & 1;
    switch (type) {
    case SL_Q4_0:
        return d * (float)(nibble(p + 2, e) - 8);
    case SL_Q4_1: {
        float product = d * (float)nibble(p + 4, e);
        return product + half_in(p + 2);
    }
    case SL_Q5_0:
        return d * (float)(nibble(p + 6, e) + 16 * fifth - 16);
    case SL_Q5_1: {
        float product = d * (float)(nibble(p + 8, e) + 16 * fifth);
        return product + half_in(p + 2);
    }
    case SL_Q8_0:
        return d * (float)(int8_t)p[2 + e];
    case SL_IQ4_NL:
        return d * (float)iq4[nibble(p + 2, e)];
    default:
        return (float)ldexp((double)fp4[nibble(p + 1, e)], p[0] - 127);
    }
}

static float plain_nvfp4(const unsigned char *p, uint32_t e)
{
    uint32_t s = e / 16, r = e % 16;
    int code = r < 8 ? p[4 + 8 * s + r] & 15 : p[4 + 8 * s + r - 8] >> 4, scale = p[s];
    int exponent = scale >> 3 & 15, fraction = scale & 7;
    double value = exponent ? ldexp(8 + fraction, exponent - 10) : ldexp(fraction, -9);
    /* Twice the value first, a whole number, whose zero has no sign. */
    return (float)(scale == 0x7f ? 0 : value / 2) * (float)(int)(2 * fp4[code]);
}

static float plain_k(sl__dtype type, const unsigned char *p, uint32_t e)
{
    uint32_t n = e / 128, j = e % 128 / 32, l = e % 32, k = e / 16;
    if (type == SL_Q2_K) {
        int q = p[16 + 32 * n + l] >> 2 * j & 3;
        float scaled = half_in(p + 80) * (float)(p[k] & 15) * (float)q;
        float minimum = half_in(p + 82) * (float)(p[k] >> 4);
        return scaled - minimum;
    }
    if (type == SL_Q3_K) {
        const unsigned char *scales = p + 96;
        int low = p[32 + 32 * n + l] >> 2 * j & 3, third = p[l] >> (4 * n + j) & 1;
        int a = k < 8 ? scales[k] & 15 : scales[k - 8] >> 4,
            b = scales[8 + k % 4] >> 2 * (k / 4) & 3;
        return half_in(p + 108) * (float)((a | b << 4) - 32) * (float)(low - (third ? 0 : 4));
    }
    if (type == SL_Q6_K) {
        int x = p[64 * n + l + 32 * (j & 1)];
        int q = (j >= 2 ? x >> 4 : x & 15) | (p[128 + 32 * n + l] >> 2 * j & 3) << 4;
        return half_in(p + 208) * (float)(int8_t)p[192 + k] * (float)(q - 32);
    }
    const unsigned char *s = p + 4, *codes = type == SL_Q5_K ? p + 48 : p + 16;
    uint32_t i = e / 32;
    int q = codes[32 * (e / 64) + l] >> 4 * (i % 2) & 15;
    if (type == SL_Q5_K) q += 16 * (p[16 + l] >> i & 1);
    int sc = i < 4 ? s[i] & 63 : (s[i + 4] & 15) | s[i - 4] >> 6 << 4;
    int mn = i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | s[i] >> 6 << 4;
    float scaled = half_in(p) * (float)sc * (float)q, minimum = half_in(p + 2) * (float)mn;
    return scaled - minimum;
}

/* Eight signs of seven: an even number of minuses. */
static int even_sign(uint32_t seven, uint32_t j)
{
    uint32_t sum = 0;
    if (j < 7) return (seven >> j & 1) != 0;
    for (unsigned i = 0; i < 7; i++)
        sum += seven >> i & 1;
    return sum % 2 != 0;
}

static uint32_t word_in(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static float signed_value(float scale, uint64_t entry, uint32_t j, int negative)
{
    float value = (float)(int)(entry >> 8 * j & 255);
    return scale * (negative ? -value : value);
}

static float plain_iq2(sl__dtype type, const unsigned char *p, uint32_t e)
{
    uint32_t ib = e / 32, l = e % 32 / 8, j = e % 8;
    float d = half_in(p);
    if (type == SL_IQ2_XXS) {
        const unsigned char *group = p + 2 + 8 * ib;
        uint32_t a = word_in(group + 4);
        return signed_value(d * (0.5f + (float)(int)(a >> 28)) / 4, sl__grid2xxs[group[l]], j,
                            even_sign(a >> 7 * l & 127, j));
    }
    int scale = p[(type == SL_IQ2_XS ? 66 : 74) + ib] >> 4 * (l / 2) & 15;
    float db = d * (0.5f + (float)scale) / 4;
    if (type == SL_IQ2_XS) {
        uint32_t w = p[2 + 2 * (4 * ib + l)] | (uint32_t)p[3 + 2 * (4 * ib + l)] << 8;
        return signed_value(db, sl__grid2xs[w & 511], j, even_sign(w >> 9, j));
    }
    uint32_t index = p[2 + 4 * ib + l] | (p[66 + ib] >> 2 * l & 3u) << 8;
    return signed_value(db, sl__grid2s[index], j, p[34 + 4 * ib + l] >> j & 1);
}

static float plain_iq3(sl__dtype type, const unsigned char *p, uint32_t e)
{
    uint32_t ib = e / 32, l = e % 32 / 8, j = e % 8, k = 2 * l + (j >> 2);
    float d = half_in(p);
    if (type == SL_IQ3_XXS) {
        uint32_t a = word_in(p + 66 + 4 * ib);
        return signed_value(d * (0.5f + (float)(int)(a >> 28)) / 2, sl__grid3xxs[p[2 + 8 * ib + k]],
                            j & 3, even_sign(a >> 7 * l & 127, j));
    }
    uint32_t index = p[2 + 8 * ib + k] | (p[66 + ib] >> k & 1u) << 8;
    int scale = p[106 + ib / 2] >> 4 * (ib % 2) & 15;
    return signed_value(d * (float)(1 + 2 * scale), sl__grid3s[index], j & 3,
                        p[74 + 4 * ib + l] >> j & 1);
}

static float plain_iq4_xs(const unsigned char *p, uint32_t e)
{
    uint32_t ib = e / 32, high = p[2] | (uint32_t)p[3] << 8;
    int ls = (p[4 + ib / 2] >> 4 * (ib % 2) & 15) | (int)(high >> 2 * ib & 3) << 4;
    return half_in(p) * (float)(ls - 32) * (float)iq4[nibble(p + 8 + 16 * ib, e % 32)];
}

float plain_block_weight(sl__dtype type, const unsigned char *row, uint32_t c)
{
    uint32_t weights = sl__dtype_block_weights(type), e = c % weights;
    const unsigned char *p = row + (size_t)(c / weights) * sl__dtype_block_bytes(type);
    switch (type) {
    case SL_NVFP4:
        return plain_nvfp4(p, e);
    case SL_Q2_K:
    case SL_Q3_K:
    case SL_Q4_K:
    case SL_Q5_K:
    case SL_Q6_K:
        return plain_k(type, p, e);
    case SL_IQ4_XS:
        return plain_iq4_xs(p, e);
    case SL_IQ2_XXS:
    case SL_IQ2_XS:
    case SL_IQ2_S:
        return plain_iq2(type, p, e);
    case SL_IQ3_XXS:
    case SL_IQ3_S:
        return plain_iq3(type, p, e);
    default:
        return plain_32(type, p, e);
    }
}
