/* GGUF's block types as codes and scales, 64 weights at a time whatever the block: a group is two
 * blocks of 32, a block of 64, or a quarter of a block of 256.
 *
 *     weight i of a group = scale[i / 16] * code[i] + addend[i / 16]      the product is exact
 *
 * A block's bytes, without padding; d, m, dmin are halves, the rest bytes if not said otherwise:
 *
 *     q4_0         d, codes[16]                  iq4_nl too; mxfp4_block, a byte for d
 *     q4_1         d, m, codes[16]
 *     q5_0         d, fifth bits[4], codes[16]   the fifth bit of code i is bit i
 *     q5_1         d, m, fifth bits[4], codes[16]
 *     q8_0         d, codes[32]
 *     nvfp4        scales[4], codes[4][8]        64 weights; those above: 32
 *     q2_k         scales[16], codes[64], d, dmin   from here on 256 weights
 *     q3_k         third bits[32], codes[64], scales[12], d
 *     q4_k         d, dmin, scales[12], codes[128]
 *     q5_k         d, dmin, scales[12], fifth bits[32], codes[128]
 *     q6_k         low codes[128], high codes[64], scales[16], d
 *     iq4_xs       d, scales[2] high, scales[4] low, codes[128]
 *     iq2_xxs      d, 8 × (entries[4], signs and scale: 32 bits)
 *     iq2_xs       d, 32 × (entry 9 bits, signs 7 bits), scales[8]
 *     iq2_s        d, entries[32], signs[32], high entries[8], scales[8]
 *     iq3_xxs      d, entries[64], 8 × (signs and scale: 32 bits)
 *     iq3_s        d, entries[64], high entries[8], signs[32], scales[4]
 *
 * The file that includes this is a level's, and defines what the level does in a way of its own.
 */
#ifndef SL_KERN_BLOCK_CODES_H
#define SL_KERN_BLOCK_CODES_H

#include <assert.h>

#include "base/dtype.h"
#include "kern/block_grids.h"
#include "kern/lanes.h"

/* Sixteen codes; each operation is on every byte for itself. The others are the same bytes as wider
 * numbers. */
typedef uint8_t codes16 __attribute__((vector_size(16)));
typedef uint16_t words8 __attribute__((vector_size(16)));
typedef uint64_t longs2 __attribute__((vector_size(16)));

SL_INLINE codes16 codes_load(const void *p)
{
    codes16 v;
    memcpy(&v, p, sizeof v);
    return v;
}

SL_INLINE void codes_store(void *p, codes16 v)
{
    memcpy(p, &v, sizeof v);
}

/* 64 weights, opened. addend is −0 where a type has none, which as an addend changes nothing. */
typedef struct block_codes {
    int8_t code[SL_GROUP];
    float scale[4], addend[4];
} block_codes;

/* What the level defines: code[i] = table[index[i]] for sixteen indices below 16; 255 where one of
 * sixteen bits is set, 0 elsewhere, the lowest first; sl__f16_to_f32, fast. */
SL_INLINE void store_values(int8_t *code, const int8_t table[16], codes16 index);
SL_INLINE codes16 spread_bits(unsigned bits);
SL_INLINE float half_value(uint16_t h);

/* The bits of every byte from bit `from` up that are in mask; there are no more than 8 - from. */
SL_INLINE codes16 bits_from(codes16 b, unsigned from, uint8_t mask)
{
    return (codes16)((words8)b >> (uint16_t)from) & mask; /* bytes alone cannot be shifted fast */
}

SL_INLINE float half_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return half_value(h);
}

SL_INLINE uint32_t word_at(const unsigned char *p)
{
    uint32_t word;
    memcpy(&word, p, sizeof word);
    return word;
}

SL_INLINE void set_scales(block_codes *o, unsigned first, unsigned count, float scale, float addend)
{
    for (unsigned i = first; i < first + count; i++) {
        o->scale[i] = scale;
        o->addend[i] = addend;
    }
}

/* ---- blocks of 32 and of 64 ------------------------------------------------------------------ */

/* Values of four-bit codes: of iq4, and twice those of fp4 (sign, two exponent bits, fraction). */
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
static const int8_t fp4_doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

/* Half of 2^(s − 127), which the doubled codes want; exact from the smallest to the largest. */
SL_INLINE float e8m0_half(uint8_t s)
{
    uint32_t u = s < 2 ? 0x200000u << s : (uint32_t)(s - 1) << 23;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Half of an eight-bit float of four exponent bits. Its sign does not count; 0x7f is 0. */
SL_INLINE float e4m3_half(uint8_t s)
{
    uint32_t exponent = s >> 3 & 15u, fraction = s & 7u;
    uint32_t u = (exponent + 119) << 23 | fraction << 20;
    float normal;
    memcpy(&normal, &u, sizeof normal);
    if (s == 0x7f) return 0;
    return exponent == 0 ? (float)fraction * 0x1p-10f : normal;
}

/* Block `at` of a group's two. */
SL_INLINE void open_32(sl__dtype type, const unsigned char *p, unsigned at, block_codes *o)
{
    int8_t *code = o->code + 32 * at;
    bool has_minimum = type == SL_Q4_1 || type == SL_Q5_1;
    bool fifth = type == SL_Q5_0 || type == SL_Q5_1;
    float scale = type == SL_MXFP4_BLOCK ? e8m0_half(p[0]) : half_at(p);
    set_scales(o, 2 * at, 2, scale, has_minimum ? half_at(p + 2) : -0.0f);
    p += type == SL_MXFP4_BLOCK ? 1 : has_minimum ? 4 : 2;
    if (type == SL_Q8_0) {
        memcpy(code, p, 32);
        return;
    }
    codes16 b = codes_load(fifth ? p + 4 : p), low = b & 15, high = b >> 4;
    if (fifth) {
        low |= spread_bits(word_at(p) & 65535u) & 16;
        high |= spread_bits(word_at(p) >> 16) & 16;
    }
    if (type == SL_IQ4_NL || type == SL_MXFP4_BLOCK) {
        const int8_t *values = type == SL_IQ4_NL ? iq4_values : fp4_doubled;
        store_values(code, values, low);
        store_values(code + 16, values, high);
        return;
    }
    if (!has_minimum) {
        const uint8_t middle = fifth ? 16 : 8;
        low -= middle;
        high -= middle;
    }
    codes_store(code, low);
    codes_store(code + 16, high);
}

SL_INLINE void open_nvfp4(const unsigned char *p, block_codes *o)
{
    for (unsigned k = 0; k < 4; k++)
        set_scales(o, k, 1, e4m3_half(p[k]), -0.0f);
    for (unsigned k = 0; k < 4; k++) { /* eight bytes make sixteen weights, low halves first */
        uint64_t b;
        memcpy(&b, p + 4 + 8 * k, sizeof b);
        longs2 halves = {b & UINT64_C(0x0f0f0f0f0f0f0f0f), b >> 4 & UINT64_C(0x0f0f0f0f0f0f0f0f)};
        store_values(o->code + 16 * k, fp4_doubled, (codes16)halves);
    }
}

/* ---- blocks of 256: q2_k to q6_k ------------------------------------------------------------- */

/* The two low bits of weights 16k … 16k+15 of a quarter, as q2_k, q3_k and (its high two) q6_k
 * have them. */
SL_INLINE codes16 two_bits(const unsigned char *p, unsigned quarter, unsigned k)
{
    codes16 b = codes_load(p + quarter / 2 * 32 + k % 2 * 16);
    return bits_from(b, quarter % 2 * 4 + k / 2 * 2, 3);
}

SL_INLINE void open_q2_k(const unsigned char *p, unsigned quarter, block_codes *o)
{
    float d = half_at(p + 80), dmin = half_at(p + 82);
    for (unsigned k = 0; k < 4; k++) {
        unsigned s = p[4 * quarter + k];
        set_scales(o, k, 1, d * (float)(int)(s & 15u), -(dmin * (float)(int)(s >> 4)));
        codes_store(o->code + 16 * k, two_bits(p + 16, quarter, k));
    }
}

SL_INLINE void open_q3_k(const unsigned char *p, unsigned quarter, block_codes *o)
{
    float d = half_at(p + 108);
    const unsigned char *scales = p + 96;
    for (unsigned k = 0; k < 4; k++) {
        unsigned at = 4 * quarter + k;
        int low = scales[at % 8] >> (at < 8 ? 0 : 4) & 15, high = scales[8 + k] >> 2 * quarter & 3;
        set_scales(o, k, 1, d * (float)((low | high << 4) - 32), -0.0f);
        codes16 third = bits_from(codes_load(p + k % 2 * 16), quarter * 2 + k / 2, 1);
        codes_store(o->code + 16 * k, (two_bits(p + 32, quarter, k) | third << 2) - 4);
    }
}

/* Scale and minimum of sub-block i < 8, six bits each in twelve bytes: those of the first four in
 * the low bits of bytes 0 … 3 and 4 … 7; of the others the low halves in bytes 8 … 11, and the
 * high pairs in the top of the first eight. */
SL_INLINE void packed_scales(const unsigned char *p, unsigned i, int *scale, int *minimum)
{
    if (i < 4) {
        *scale = p[i] & 63;
        *minimum = p[i + 4] & 63;
    } else {
        *scale = (p[i + 4] & 15) | p[i - 4] >> 6 << 4;
        *minimum = p[i + 4] >> 4 | p[i] >> 6 << 4;
    }
}

SL_INLINE void open_q4_k(sl__dtype type, const unsigned char *p, unsigned quarter, block_codes *o)
{
    float d = half_at(p), dmin = half_at(p + 2);
    const unsigned char *fifth = p + 16,
                        *codes = (type == SL_Q5_K ? p + 48 : p + 16) + 32 * quarter;
    for (unsigned i = 0; i < 2; i++) {
        int scale, minimum;
        packed_scales(p + 4, 2 * quarter + i, &scale, &minimum);
        set_scales(o, 2 * i, 2, d * (float)scale, -(dmin * (float)minimum));
        codes16 b = codes_load(codes + 16 * i), low = b & 15, high = b >> 4;
        if (type == SL_Q5_K) {
            codes16 bits = bits_from(codes_load(fifth + 16 * i), 2 * quarter, 3);
            low |= (bits & 1) << 4;
            high |= (bits & 2) << 3;
        }
        codes_store(o->code + 16 * i, low);
        codes_store(o->code + 32 + 16 * i, high);
    }
}

SL_INLINE void open_q6_k(const unsigned char *p, unsigned quarter, block_codes *o)
{
    float d = half_at(p + 208);
    for (unsigned k = 0; k < 4; k++) {
        int scale = (int8_t)p[192 + 4 * quarter + k];
        set_scales(o, k, 1, d * (float)scale, -0.0f);
        codes16 b = codes_load(p + quarter / 2 * 64 + 16 * k);
        codes16 low = bits_from(b, quarter % 2 * 4, 15);
        codes_store(o->code + 16 * k, (low | two_bits(p + 128, quarter, k) << 4) - 32);
    }
}

/* ---- blocks of 256: iq ----------------------------------------------------------------------- */

SL_INLINE void open_iq4_xs(const unsigned char *p, unsigned quarter, block_codes *o)
{
    float d = half_at(p);
    for (unsigned i = 0; i < 2; i++) {
        unsigned at = 2 * quarter + i;
        int low = p[4 + quarter] >> 4 * i & 15, high = p[2 + at / 4] >> at % 4 * 2 & 3;
        set_scales(o, 2 * i, 2, d * (float)((low | high << 4) - 32), -0.0f);
        codes16 b = codes_load(p + 8 + 16 * at);
        store_values(o->code + 32 * i, iq4_values, b & 15);
        store_values(o->code + 32 * i + 16, iq4_values, b >> 4);
    }
}

/* Seven signs stand for eight: the number of minuses is even. */
SL_INLINE unsigned eight_signs(uint32_t seven)
{
    return seven | (unsigned)__builtin_parity(seven) << 7;
}

SL_INLINE unsigned fourteen_signs(uint32_t bits) /* for sixteen */
{
    return eight_signs(bits & 127u) | eight_signs(bits >> 7 & 127u) << 8;
}

/* Sixteen codes: two entries of a grid, negated where a bit is set. One store: the loads that
 * follow are as wide. */
SL_INLINE void put_signed(int8_t *code, uint64_t first, uint64_t second, unsigned signs)
{
    codes16 magnitudes = (codes16)(longs2){first, second}, negative = spread_bits(signs);
    codes_store(code, (magnitudes ^ negative) - negative);
}

SL_INLINE void open_iq2_xxs(const unsigned char *p, unsigned quarter, block_codes *o)
{
    float d = half_at(p);
    for (unsigned i = 0; i < 2; i++) {
        const unsigned char *entry = p + 2 + 8 * (2 * quarter + i);
        uint32_t signs = word_at(entry + 4);
        set_scales(o, 2 * i, 2, d * (0.5f + (float)(int)(signs >> 28)) * 0.25f, -0.0f);
        for (unsigned l = 0; l < 4; l += 2)
            put_signed(o->code + 32 * i + 8 * l, sl__grid2xxs[entry[l]], sl__grid2xxs[entry[l + 1]],
                       fourteen_signs(signs >> 7 * l));
    }
}

/* iq2_xs, iq2_s: scales of sixteen weights, two in a byte. */
SL_INLINE void set_iq2_scales(const unsigned char *scales, unsigned quarter, float d,
                              block_codes *o)
{
    for (unsigned k = 0; k < 4; k++) {
        int s = scales[2 * quarter + k / 2] >> k % 2 * 4 & 15;
        set_scales(o, k, 1, d * (0.5f + (float)s) * 0.25f, -0.0f);
    }
}

SL_INLINE void open_iq2_xs(const unsigned char *p, unsigned quarter, block_codes *o)
{
    set_iq2_scales(p + 66, quarter, half_at(p), o);
    for (unsigned k = 0; k < 4; k++) {
        uint32_t two = word_at(p + 2 + 16 * quarter + 4 * k), first = two & 65535u;
        put_signed(o->code + 16 * k, sl__grid2xs[first & 511u], sl__grid2xs[two >> 16 & 511u],
                   eight_signs(first >> 9) | eight_signs(two >> 25) << 8);
    }
}

SL_INLINE void open_iq2_s(const unsigned char *p, unsigned quarter, block_codes *o)
{
    set_iq2_scales(p + 74, quarter, half_at(p), o);
    for (unsigned k = 0; k < 4; k++) {
        unsigned at = 8 * quarter + 2 * k, high = (unsigned)p[66 + at / 4] >> at % 4 * 2;
        unsigned first = p[2 + at] | (high & 3u) << 8, second = p[3 + at] | (high & 12u) << 6;
        put_signed(o->code + 16 * k, sl__grid2s[first], sl__grid2s[second],
                   p[34 + at] | (unsigned)p[35 + at] << 8);
    }
}

SL_INLINE uint64_t two_entries(uint32_t first, uint32_t second)
{
    return first | (uint64_t)second << 32;
}

SL_INLINE void open_iq3_xxs(const unsigned char *p, unsigned quarter, block_codes *o)
{
    float d = half_at(p);
    for (unsigned i = 0; i < 2; i++) {
        unsigned at = 2 * quarter + i;
        const unsigned char *entry = p + 2 + 8 * at;
        uint32_t signs = word_at(p + 66 + 4 * at);
        set_scales(o, 2 * i, 2, d * (0.5f + (float)(int)(signs >> 28)) * 0.5f, -0.0f);
        for (unsigned l = 0; l < 4; l += 2) {
            const unsigned char *four = entry + 2 * l;
            put_signed(o->code + 32 * i + 8 * l,
                       two_entries(sl__grid3xxs[four[0]], sl__grid3xxs[four[1]]),
                       two_entries(sl__grid3xxs[four[2]], sl__grid3xxs[four[3]]),
                       fourteen_signs(signs >> 7 * l));
        }
    }
}

/* Two entries of iq3_s; the two low bits of `high` are their ninth. */
SL_INLINE uint64_t iq3_s_entries(const unsigned char *p, unsigned high)
{
    return two_entries(sl__grid3s[p[0] | (high & 1u) << 8], sl__grid3s[p[1] | (high & 2u) << 7]);
}

SL_INLINE void open_iq3_s(const unsigned char *p, unsigned quarter, block_codes *o)
{
    float d = half_at(p);
    for (unsigned i = 0; i < 2; i++) {
        unsigned at = 2 * quarter + i, high = p[66 + at];
        const unsigned char *entry = p + 2 + 8 * at, *signs = p + 74 + 4 * at;
        int s = p[106 + quarter] >> 4 * i & 15;
        set_scales(o, 2 * i, 2, d * (float)(1 + 2 * s), -0.0f);
        for (unsigned l = 0; l < 4; l += 2)
            put_signed(o->code + 32 * i + 8 * l, iq3_s_entries(entry + 2 * l, high >> 2 * l),
                       iq3_s_entries(entry + 2 * l + 2, high >> (2 * l + 2)),
                       signs[l] | (unsigned)signs[l + 1] << 8);
    }
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* Opens a group of a row, whose blocks have `bytes` bytes; `count` weights of it are there: where
 * that is at most one block, the rest comes out as zeros. Small where type is a constant. */
SL_INLINE void open_codes(sl__dtype type, size_t bytes, const unsigned char *row, size_t group,
                          uint32_t count, block_codes *o)
{
    const unsigned char *p = row + group / 4 * bytes; /* of 256 weights */
    const unsigned quarter = group % 4;
    switch (type) {
    case SL_NVFP4: open_nvfp4(row + group * bytes, o); break;
    case SL_Q2_K: open_q2_k(p, quarter, o); break;
    case SL_Q3_K: open_q3_k(p, quarter, o); break;
    case SL_Q4_K:
    case SL_Q5_K: open_q4_k(type, p, quarter, o); break;
    case SL_Q6_K: open_q6_k(p, quarter, o); break;
    case SL_IQ4_XS: open_iq4_xs(p, quarter, o); break;
    case SL_IQ2_XXS: open_iq2_xxs(p, quarter, o); break;
    case SL_IQ2_XS: open_iq2_xs(p, quarter, o); break;
    case SL_IQ2_S: open_iq2_s(p, quarter, o); break;
    case SL_IQ3_XXS: open_iq3_xxs(p, quarter, o); break;
    case SL_IQ3_S: open_iq3_s(p, quarter, o); break;
    default:
        assert(type >= SL_Q4_0 && type <= SL_MXFP4_BLOCK);
        if (count <= 32) *o = (block_codes){.scale = {0}};
        open_32(type, row + 2 * group * bytes, 0, o);
        if (count > 32) open_32(type, row + (2 * group + 1) * bytes, 1, o);
    }
}

#endif
