/* The weight types as floats with AVX2 and F16C, and the matrix product over eight-wide lanes.
 * Weights are opened 64 at a time, whatever the type, and become floats eight at a time; the
 * arithmetic of each is ref's. */
#include <immintrin.h>

#define SL_VW 8
#include "kern/x86/block_ops.h"

/* 64 weights of a row, opened: value i of it is weights 8i … 8i+7. What a type does not use is
 * never computed. */
typedef struct opened {
    const unsigned char *p;
    __m256 scale, minimum;
    __m256 table;     /* q3, q2: the value of every code; mxfp4: without its sign, first half */
    __m256 second;    /* mxfp4: of weights 32 … 63 */
    __m256i codes[4]; /* q4: bytes 8i … 8i+7 as numbers; q3, q2: the first two, q3's third bits */
} opened;

SL_INLINE __m256 weigh(__m256 scale, __m256i code, __m256 minimum)
{
    return _mm256_add_ps(_mm256_mul_ps(scale, _mm256_cvtepi32_ps(code)), minimum);
}

SL_INLINE __m128i load_16(const unsigned char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

SL_INLINE __m256i load_codes(const unsigned char *p) /* 8 bytes as 32-bit numbers */
{
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

/* s: the group's scales, where they lie apart. */
SL_INLINE opened open_group(sl__dtype type, const unsigned char *p, const unsigned char *s)
{
    opened o;
    o.p = p;
    if (type <= SL_BF16) return o;
    if (type == SL_MXFP4) {
        const __m256 values = _mm256_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6);
        o.table = values * _mm256_set1_ps(sl__e8m0_to_f32(s[0]));
        o.second = values * _mm256_set1_ps(sl__e8m0_to_f32(s[1]));
        return o;
    }
    uint16_t half[2];
    memcpy(half, p, sizeof half);
    o.scale = _mm256_set1_ps(sl__bf16_to_f32(half[0]));
    o.minimum = _mm256_set1_ps(sl__bf16_to_f32(half[1]));
    o.p = p + 4;
    if (type == SL_Q8) return o;
    for (unsigned i = 0; i < (type == SL_Q4 ? 4u : 2u); i++)
        o.codes[i] = load_codes(o.p + 8 * i);
    if (type == SL_Q4) return o;
    for (unsigned i = 0; i < 2 && type == SL_Q3; i++) {
        int bits;
        memcpy(&bits, o.p + 16 + 4 * i, sizeof bits);
        o.codes[2 + i] = _mm256_set1_epi32(bits);
    }
    o.table = weigh(o.scale, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), o.minimum);
    if (type == SL_Q2) o.table = _mm256_permute2f128_ps(o.table, o.table, 0); /* 0 … 3, twice */
    return o;
}

/* The third bits of q3's codes 8i … 8i+7, where the lookup wants them: bit 8(i%4) + lane of the
 * 32-bit half comes to bit 2. */
SL_INLINE __m256i third_bits(const opened *o, unsigned i)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    int at = (int)(i % 4 * 8);
    __m256i half = o->codes[2 + i / 4]; /* as it is, for the last byte, or two bits up */
    __m256i shift = _mm256_add_epi32(lane, _mm256_set1_epi32(at == 24 ? at - 2 : at));
    if (at != 24) half = _mm256_slli_epi32(half, 2);
    return _mm256_and_si256(_mm256_srlv_epi32(half, shift), _mm256_set1_epi32(4));
}

/* Eight codes in four bytes, the low nibble of a byte first: bits 0 … 2 look the magnitude up, bit
 * 3 is the sign. */
SL_INLINE __m256 mxfp4_value(__m256 table, const unsigned char *p)
{
    int bits;
    memcpy(&bits, p, sizeof bits);
    const __m256i at = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    __m256i code = _mm256_srlv_epi32(_mm256_set1_epi32(bits), at);
    __m256i sign = _mm256_and_si256(_mm256_slli_epi32(code, 28), _mm256_set1_epi32(INT32_MIN));
    return _mm256_xor_ps(_mm256_permutevar8x32_ps(table, code), _mm256_castsi256_ps(sign));
}

/* i is a constant at every call. */
SL_INLINE __m256 group_value(sl__dtype type, const opened *o, unsigned i)
{
    __m256i code;
    switch (type) {
    case SL_F32: return vec_load(o->p + 32 * i);
    case SL_F16: return _mm256_cvtph_ps(load_16(o->p + 16 * i));
    case SL_BF16:
        code = _mm256_slli_epi32(_mm256_cvtepu16_epi32(load_16(o->p + 16 * i)), 16);
        return _mm256_castsi256_ps(code);
    case SL_Q8: return weigh(o->scale, load_codes(o->p + 8 * i), o->minimum);
    case SL_Q4:
        code = i < 4 ? _mm256_and_si256(o->codes[i % 4], _mm256_set1_epi32(15))
                     : _mm256_srli_epi32(o->codes[i % 4], 4);
        return weigh(o->scale, code, o->minimum);
    case SL_Q3:
        code = _mm256_srli_epi32(o->codes[i % 2], (int)(i / 2 * 2));
        code = _mm256_and_si256(code, _mm256_set1_epi32(3));
        code = _mm256_or_si256(code, third_bits(o, i));
        return _mm256_permutevar8x32_ps(o->table, code);
    case SL_MXFP4: return mxfp4_value(i < 4 ? o->table : o->second, o->p + 4 * i);
    default: /* q2: the lookup takes the two lowest bits of a number */
        code = _mm256_srli_epi32(o->codes[i % 2], (int)(i / 2 * 2));
        return _mm256_permutevar_ps(o->table, code);
    }
}

SL_INLINE __m256 code_value(const block_codes *o, unsigned i)
{
    __m128i codes = _mm_loadl_epi64((const __m128i *)(const void *)(o->code + 8 * i));
    return weigh(_mm256_set1_ps(o->scale[i / 2]), _mm256_cvtepi8_epi32(codes),
                 _mm256_set1_ps(o->addend[i / 2]));
}

#include "kern/body_groups.h"

void sl__kern_avx2_matmul(sl__kern *kern)
{
    fill_matmul(kern);
}
