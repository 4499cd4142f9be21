/* The weight types as floats with AVX-512, and the matrix product with all sixteen lanes in one
 * vector. The codes of a group look their values up in a table of at most sixteen, made once a
 * group by ref's arithmetic; q8 has too many codes and is weighed one by one. */
#include <immintrin.h>

#define SL_VW 16
#include "kern/x86/block_ops.h"

/* 64 weights of a row, opened: value i of it is weights 16i … 16i+15. What a type does not use is
 * never computed. */
typedef struct opened {
    const unsigned char *p;
    __m512 scale, minimum; /* q8 */
    __m512 table;          /* the value of every code; mxfp4: of weights 0 … 31 */
    __m512 second;         /* mxfp4: of weights 32 … 63 */
    __m512i codes[2];      /* q4: bytes 16i … 16i+15 as numbers; q3, q2: the first */
    uint64_t third;        /* q3: the third bit of every code */
} opened;

SL_INLINE __m512 weigh(__m512 scale, __m512i code, __m512 minimum)
{
    return _mm512_add_ps(_mm512_mul_ps(scale, _mm512_cvtepi32_ps(code)), minimum);
}

SL_INLINE __m512i load_codes(const unsigned char *p) /* 16 bytes as 32-bit numbers */
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* s: the group's scales, where they lie apart. */
SL_INLINE opened open_group(sl__dtype type, const unsigned char *p, const unsigned char *s)
{
    opened o;
    o.p = p;
    if (type <= SL_BF16) return o;
    if (type == SL_MXFP4) {
        const __m512 values = _mm512_setr_ps(0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f,
                                             -2, -3, -4, -6);
        o.table = values * _mm512_set1_ps(sl__e8m0_to_f32(s[0]));
        o.second = values * _mm512_set1_ps(sl__e8m0_to_f32(s[1]));
        return o;
    }
    uint16_t half[2];
    memcpy(half, p, sizeof half);
    o.scale = _mm512_set1_ps(sl__bf16_to_f32(half[0]));
    o.minimum = _mm512_set1_ps(sl__bf16_to_f32(half[1]));
    o.p = p + 4;
    if (type == SL_Q8) return o;
    o.codes[0] = load_codes(o.p);
    if (type == SL_Q4) o.codes[1] = load_codes(o.p + 16);
    if (type == SL_Q3) memcpy(&o.third, o.p + 16, sizeof o.third);
    const __m512i every = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    o.table = weigh(o.scale, every, o.minimum);
    return o;
}

/* Sixteen codes in eight bytes, the low nibble of a byte first. The lookup takes the four lowest
 * bits of a number. */
SL_INLINE __m512 mxfp4_value(__m512 table, const unsigned char *p)
{
    int bits[2];
    memcpy(bits, p, sizeof bits);
    const __m512i at = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    __m512i both = _mm512_inserti64x4(_mm512_set1_epi32(bits[0]), _mm256_set1_epi32(bits[1]), 1);
    return _mm512_permutexvar_ps(_mm512_srlv_epi32(both, at), table);
}

/* i is a constant at every call. */
SL_INLINE __m512 group_value(sl__dtype type, const opened *o, unsigned i)
{
    const unsigned char *p = o->p;
    __m512i code;
    switch (type) {
    case SL_F32: return vec_load(p + 64 * i);
    case SL_F16:
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * i)));
    case SL_BF16:
        code = _mm512_cvtepu16_epi32(
            _mm256_loadu_si256((const __m256i *)(const void *)(p + 32 * i)));
        return _mm512_castsi512_ps(_mm512_slli_epi32(code, 16));
    case SL_Q8: return weigh(o->scale, load_codes(p + 16 * i), o->minimum);
    case SL_Q4: /* the lookup takes the four lowest bits */
        code = i < 2 ? o->codes[i % 2] : _mm512_srli_epi32(o->codes[i % 2], 4);
        return _mm512_permutexvar_ps(code, o->table);
    case SL_Q3:
        code = _mm512_and_si512(_mm512_srli_epi32(o->codes[0], i * 2), _mm512_set1_epi32(3));
        code = _mm512_mask_or_epi32(code, (__mmask16)(o->third >> 16 * i), code,
                                    _mm512_set1_epi32(4));
        return _mm512_permutexvar_ps(code, o->table);
    case SL_MXFP4: return mxfp4_value(i < 2 ? o->table : o->second, p + 8 * i);
    default: /* q2 */
        code = _mm512_and_si512(_mm512_srli_epi32(o->codes[0], i * 2), _mm512_set1_epi32(3));
        return _mm512_permutexvar_ps(code, o->table);
    }
}

SL_INLINE __m512 code_value(const block_codes *o, unsigned i)
{
    __m128i codes = _mm_loadu_si128((const __m128i *)(const void *)(o->code + 16 * i));
    return weigh(_mm512_set1_ps(o->scale[i]), _mm512_cvtepi8_epi32(codes),
                 _mm512_set1_ps(o->addend[i]));
}

#include "kern/body_groups.h"

void sl__kern_avx512_matmul(sl__kern *kern)
{
    fill_matmul(kern);
}
