/* Weights in rows, opened into registers, a span at a time: 256 columns of a row, four groups of
 * 64, sixteen runs with a scale each. Codes are bytes in the order of columns; scales and addends
 * are in the order of the lanes that they go to (kern.h), lane 4k + g being run k of group g:
 *
 *     codes      group 0 | group 1 | group 2 | group 3        one vector each; two where SL_VW is 8
 *     scales     run 0 of groups 0 1 2 3 | run 1 of … | run 2 | run 3
 *
 * What multiplies bytes takes unsigned codes, so that they are kept `offset` too large, and the sum
 * of a run is off by offset · Σ x. A level that would rather have codes of -128 … 127 with their
 * sign has defined SL_SIGNED 1: it gets these of the types whose codes need all bits. Private to
 * the files that define SL_VW and SL_SIGNED. */
#ifndef SL_KERN_X86_ROW_CODES_H
#define SL_KERN_X86_ROW_CODES_H

#include <immintrin.h>

#include "kern/body_row_codes.h"
#include "kern/levels.h"
#include "kern/x86/block_ops.h"

#define SPAN     (4 * SL_GROUP)         /* columns */
#define NV       (SL_LANES / SL_VW)     /* vectors of a group's codes, and of sixteen lanes */
#define FLIP     (SL_SIGNED ? 0 : 0x80) /* what a signed code becomes by */
#define BYTES(b) ((int32_t)((b)*0x01010101u))

typedef int32_t ivec __attribute__((vector_size(SL_VW * 4)));

typedef struct codes64 {
    ivec v[NV];
} codes64;

typedef struct lanes16 {
    vec v[NV];
} lanes16;

typedef struct span {
    codes64 code[4];
    lanes16 scale, addend;
} span;

/* How large codes can be as they are kept: below 32, below 64, or of all eight bits. */
typedef enum code_kind { CODES_5, CODES_6, CODES_8 } code_kind;

SL_INLINE code_kind kind_of(sl__dtype type)
{
    switch (type) {
    case SL_Q4_0:
    case SL_Q4_1:
    case SL_Q5_0:
    case SL_Q5_1:
    case SL_MXFP4_BLOCK:
    case SL_MXFP4:
    case SL_Q2_K:
    case SL_Q3_K:
    case SL_Q4_K:
    case SL_Q5_K:
    case SL_AFFINE2:
    case SL_AFFINE4:
        return CODES_5;
    case SL_Q6_K:
        return CODES_6;
    default:
        return CODES_8;
    }
}

/* How much too large they are: 0 or a power of two. */
SL_INLINE unsigned offset_of(const sl__rows *w)
{
    switch (w->dtype) {
    case SL_Q4_0:
        return 8;
    case SL_Q5_0:
    case SL_MXFP4_BLOCK:
    case SL_MXFP4:
        return 16;
    case SL_Q3_K:
        return 4;
    case SL_Q6_K:
        return 32;
    case SL_AFFINE2:
        return w->biases ? 0 : 2;
    case SL_AFFINE4:
        return w->biases ? 0 : 8;
    default:
        return kind_of(w->dtype) == CODES_8 ? FLIP : 0;
    }
}

/* ---- sixty-four bytes ------------------------------------------------------------------------ */

SL_INLINE __m128i load_16(const unsigned char *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

SL_INLINE __m256i load_32(const unsigned char *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

#if SL_VW == 16
SL_INLINE ivec set_bytes(unsigned b)
{
    return (ivec)_mm512_set1_epi32(BYTES(b));
}

SL_INLINE codes64 load_64(const unsigned char *p)
{
    return (codes64){{(ivec)_mm512_loadu_si512(p)}};
}

SL_INLINE codes64 two_32(const unsigned char *p, const unsigned char *q)
{
    return (codes64){{(ivec)_mm512_inserti64x4(_mm512_castsi256_si512(load_32(p)), load_32(q), 1)}};
}

/* 32 bytes, and once more `shift` bits to the right, where bits of neighbours come in. */
SL_INLINE codes64 halves_32(const unsigned char *p, unsigned shift)
{
    const __m512i both = _mm512_broadcast_i64x4(load_32(p));
    return (codes64){{(ivec)_mm512_mask_srli_epi32(both, 0xff00, both, shift)}};
}

/* The same of 16 bytes, then of another 16. */
SL_INLINE codes64 halves_16(const unsigned char *p, const unsigned char *q, unsigned shift)
{
    __m512i all =
        _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_broadcastsi128_si256(load_16(p))),
                           _mm256_broadcastsi128_si256(load_16(q)), 1);
    return (codes64){{(ivec)_mm512_mask_srli_epi32(all, 0xf0f0, all, shift)}};
}

/* 32 bytes as the low halves of 32 words. */
SL_INLINE codes64 words_32(const unsigned char *p)
{
    return (codes64){{(ivec)_mm512_cvtepu8_epi16(load_32(p))}};
}

/* 16 bytes as numbers. */
SL_INLINE codes64 longs_16(const unsigned char *p)
{
    return (codes64){{(ivec)_mm512_cvtepu8_epi32(load_16(p))}};
}

SL_INLINE codes64 look_up(const int8_t table[16], codes64 at)
{
    const __m512i t = _mm512_broadcast_i32x4(load_16((const unsigned char *)table));
    return (codes64){{(ivec)_mm512_shuffle_epi8(t, (__m512i)at.v[0])}};
}

/* 16 where a bit is set. */
SL_INLINE codes64 fifth_bits(uint64_t bits)
{
    return (codes64){{(ivec)_mm512_maskz_set1_epi8(bits, 16)}};
}
#else
SL_INLINE ivec set_bytes(unsigned b)
{
    return (ivec)_mm256_set1_epi32(BYTES(b));
}

SL_INLINE codes64 two_32(const unsigned char *p, const unsigned char *q)
{
    return (codes64){{(ivec)load_32(p), (ivec)load_32(q)}};
}

SL_INLINE codes64 load_64(const unsigned char *p)
{
    return two_32(p, p + 32);
}

SL_INLINE codes64 halves_32(const unsigned char *p, unsigned shift)
{
    const __m256i b = load_32(p);
    return (codes64){{(ivec)b, (ivec)_mm256_srli_epi32(b, (int)shift)}};
}

SL_INLINE ivec half_16(const unsigned char *p, unsigned shift)
{
    const int s = (int)shift;
    const __m256i by = _mm256_setr_epi32(0, 0, 0, 0, s, s, s, s);
    return (ivec)_mm256_srlv_epi32(_mm256_broadcastsi128_si256(load_16(p)), by);
}

SL_INLINE codes64 halves_16(const unsigned char *p, const unsigned char *q, unsigned shift)
{
    return (codes64){{half_16(p, shift), half_16(q, shift)}};
}

SL_INLINE codes64 words_32(const unsigned char *p)
{
    return (codes64){
        {(ivec)_mm256_cvtepu8_epi16(load_16(p)), (ivec)_mm256_cvtepu8_epi16(load_16(p + 16))}};
}

SL_INLINE codes64 longs_16(const unsigned char *p)
{
    const __m128i b = load_16(p);
    return (codes64){
        {(ivec)_mm256_cvtepu8_epi32(b), (ivec)_mm256_cvtepu8_epi32(_mm_srli_si128(b, 8))}};
}

SL_INLINE codes64 look_up(const int8_t table[16], codes64 at)
{
    const __m256i t = _mm256_broadcastsi128_si256(load_16((const unsigned char *)table));
    return (codes64){{(ivec)_mm256_shuffle_epi8(t, (__m256i)at.v[0]),
                      (ivec)_mm256_shuffle_epi8(t, (__m256i)at.v[1])}};
}

SL_INLINE ivec fifth_32(uint32_t bits)
{
    const __m256i bit = _mm256_set1_epi64x((long long)UINT64_C(0x8040201008040201));
    const __m256i byte = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2,
                                          2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    __m256i all = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte), bit);
    return (ivec)_mm256_and_si256(_mm256_cmpeq_epi8(all, bit), _mm256_set1_epi8(16));
}

SL_INLINE codes64 fifth_bits(uint64_t bits)
{
    return (codes64){{fifth_32((uint32_t)bits), fifth_32((uint32_t)(bits >> 32))}};
}
#endif

/* (c >> shift) & mask in every byte, or << where shift is negative. */
SL_INLINE codes64 bits_of(codes64 c, int shift, unsigned mask)
{
    for (unsigned i = 0; i < NV; i++)
        c.v[i] = (shift >= 0 ? c.v[i] >> shift : c.v[i] << -shift) & set_bytes(mask);
    return c;
}

SL_INLINE codes64 both_of(codes64 a, codes64 b) /* a | b */
{
    for (unsigned i = 0; i < NV; i++)
        a.v[i] |= b.v[i];
    return a;
}

SL_INLINE codes64 flip(codes64 c, unsigned mask)
{
    for (unsigned i = 0; mask && i < NV; i++)
        c.v[i] ^= set_bytes(mask);
    return c;
}

/* ---- scales of sixteen lanes ----------------------------------------------------------------- */

/* Numbers of columns 0 …, 64 …, 128 …, 192 …: of whole groups. */
SL_INLINE lanes16 of_groups(__m128 f)
{
#if SL_VW == 16
    return (lanes16){{_mm512_broadcast_f32x4(f)}};
#else
    const __m256 two = _mm256_set_m128(f, f);
    return (lanes16){{two, two}};
#endif
}

/* Of half groups: the first halves of the four groups, then the second ones. */
SL_INLINE lanes16 of_halves(__m256 f)
{
#if SL_VW == 16
    const __m512 z = _mm512_castps256_ps512(f);
    return (lanes16){{_mm512_shuffle_f32x4(z, z, 0x50)}};
#else
    return (lanes16){{_mm256_permute2f128_ps(f, f, 0x00), _mm256_permute2f128_ps(f, f, 0x11)}};
#endif
}

/* Of runs: sixteen bytes, signed or not, as they lie in a block: run k of group g at 4g + k. */
SL_INLINE lanes16 of_bytes(__m128i b, bool sign)
{
    const __m128i order = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    b = _mm_shuffle_epi8(b, order);
#if SL_VW == 16
    return (lanes16){
        {_mm512_cvtepi32_ps(sign ? _mm512_cvtepi8_epi32(b) : _mm512_cvtepu8_epi32(b))}};
#else
    const __m128i c = _mm_srli_si128(b, 8);
    return (lanes16){
        {_mm256_cvtepi32_ps(sign ? _mm256_cvtepi8_epi32(b) : _mm256_cvtepu8_epi32(b)),
         _mm256_cvtepi32_ps(sign ? _mm256_cvtepi8_epi32(c) : _mm256_cvtepu8_epi32(c))}};
#endif
}

/* Four halves as floats, and one of four everywhere. Two halves alone would take longer to load. */
SL_INLINE __m128 four_halves(const unsigned char *p)
{
    return _mm_cvtph_ps(_mm_loadl_epi64((const __m128i *)(const void *)p));
}

SL_INLINE vec one_of(__m128 f, unsigned i)
{
    const __m128 one = i == 0   ? f
                       : i == 1 ? _mm_movehdup_ps(f)
                       : i == 2 ? _mm_movehl_ps(f, f)
                                : _mm_shuffle_ps(f, f, 0xff);
#if SL_VW == 16
    return (vec)_mm512_broadcastss_ps(one);
#else
    return (vec)_mm256_broadcastss_ps(one);
#endif
}

SL_INLINE __m128 negative(__m128 f)
{
    return _mm_xor_ps(f, _mm_set1_ps(-0.0f));
}

SL_INLINE lanes16 times(lanes16 a, vec f)
{
    for (unsigned i = 0; i < NV; i++)
        a.v[i] *= f;
    return a;
}

SL_INLINE short half_bits(const unsigned char *p)
{
    short h;
    memcpy(&h, p, sizeof h);
    return h;
}

/* Halves of eight blocks, `bytes` apart. */
SL_INLINE lanes16 of_block_halves(const unsigned char *p, size_t bytes)
{
    return of_halves(_mm256_cvtph_ps(
        _mm_setr_epi16(half_bits(p), half_bits(p + 2 * bytes), half_bits(p + 4 * bytes),
                       half_bits(p + 6 * bytes), half_bits(p + bytes), half_bits(p + 3 * bytes),
                       half_bits(p + 5 * bytes), half_bits(p + 7 * bytes))));
}

/* Half of eight powers of two (body_row_codes.h, block_codes.h); nan: 255 is one. */
SL_INLINE __m256 half_powers(__m256i s, bool nan)
{
    const __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x200000), s);
    const __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(s, _mm256_set1_epi32(1)), 23);
    const __m256i low = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), s);
    __m256i u = _mm256_blendv_epi8(normal, tiny, low);
    if (nan) {
        const __m256i none = _mm256_cmpeq_epi32(s, _mm256_set1_epi32(255));
        u = _mm256_blendv_epi8(u, _mm256_set1_epi32(0x7fc00000), none);
    }
    return (__m256)u;
}

/* ---- scales of the types --------------------------------------------------------------------- */

/* The twelve bytes of q4_k's and q5_k's scales and minima (block_codes.h), of lane 4k + g those of
 * sub-block i = 2g + k / 2: the byte with the low bits, and behind it the one whose two top bits
 * are the high ones of the last four; of a block's first 16 bytes. */
#define NO (-128) /* a zero */
static const int8_t q4_k_scale[64] = {
    4, NO, NO, NO, 6, NO, NO, NO, 12, 4, NO, NO, 14, 6, NO, NO, /* k = 0: i = 0 2 4 6 */
    4, NO, NO, NO, 6, NO, NO, NO, 12, 4, NO, NO, 14, 6, NO, NO,
    5, NO, NO, NO, 7, NO, NO, NO, 13, 5, NO, NO, 15, 7, NO, NO, /* k = 2: i = 1 3 5 7 */
    5, NO, NO, NO, 7, NO, NO, NO, 13, 5, NO, NO, 15, 7, NO, NO};
static const int8_t q4_k_minimum[64] = {
    8,  NO, NO, NO, 10, NO, NO, NO, 12, 8,  NO, NO, 14, 10, NO, NO, 8,  NO, NO, NO, 10, NO,
    NO, NO, 12, 8,  NO, NO, 14, 10, NO, NO, 9,  NO, NO, NO, 11, NO, NO, NO, 13, 9,  NO, NO,
    15, 11, NO, NO, 9,  NO, NO, NO, 11, NO, NO, NO, 13, 9,  NO, NO, 15, 11, NO, NO};
static const int32_t q4_k_mask[16] = {63, 63, 15, 15, 63, 63, 15, 15,
                                      63, 63, 15, 15, 63, 63, 15, 15};
static const int32_t q4_k_shift[16] = {0, 0, 4, 4, 0, 0, 4, 4, 0, 0, 4, 4, 0, 0, 4, 4};

/* One of them: numbers below 64. low: where in its byte a number begins, by lane; NULL: at 0. */
SL_INLINE lanes16 of_packed(const unsigned char *p, const int8_t order[64], const int32_t *low)
{
    lanes16 o;
    for (unsigned i = 0; i < NV; i++) {
        const unsigned at = SL_VW * i;
#if SL_VW == 16
        const __m512i head = _mm512_broadcast_i32x4(load_16(p));
        const ivec v = (ivec)_mm512_shuffle_epi8(head, _mm512_loadu_si512(order));
        ivec from = v;
        if (low) from = (ivec)_mm512_srlv_epi32((__m512i)v, _mm512_loadu_si512(low));
#else
        const __m256i head = _mm256_broadcastsi128_si256(load_16(p));
        const ivec v =
            (ivec)_mm256_shuffle_epi8(head, load_32((const unsigned char *)order + 4 * at));
        ivec from = v;
        if (low)
            from = (ivec)_mm256_srlv_epi32((__m256i)v, load_32((const unsigned char *)(low + at)));
#endif
        ivec mask;
        memcpy(&mask, q4_k_mask + at, sizeof mask);
        o.v[i] = __builtin_convertvector((from & mask) | (v >> 10 & 0x30), vec);
    }
    return o;
}

SL_INLINE void scales_q4_k(const unsigned char *p, span *o)
{
    const __m128 d = four_halves(p);
    o->scale = times(of_packed(p, q4_k_scale, NULL), one_of(d, 0));
    o->addend = times(of_packed(p, q4_k_minimum, q4_k_shift), one_of(negative(d), 1));
}

SL_INLINE void scales_q2_k(const unsigned char *p, span *o)
{
    const __m128i b = load_16(p), low = _mm_set1_epi8(15);
    const __m128 d = four_halves(p + 76);
    o->scale = times(of_bytes(_mm_and_si128(b, low), false), one_of(d, 2));
    o->addend =
        times(of_bytes(_mm_and_si128(_mm_srli_epi16(b, 4), low), false), one_of(negative(d), 3));
}

SL_INLINE void scales_q3_k(const unsigned char *p, span *o)
{
    const __m128i twice = _mm_loadl_epi64((const __m128i *)(const void *)(p + 96));
    const __m128i high =
        _mm_srlv_epi32(_mm_set1_epi32((int)word_at(p + 104)), _mm_setr_epi32(0, 2, 4, 6));
    __m128i s = _mm_unpacklo_epi64(twice, _mm_srli_epi16(twice, 4));
    s = _mm_and_si128(s, _mm_set1_epi8(15));
    s = _mm_or_si128(s, _mm_slli_epi16(_mm_and_si128(high, _mm_set1_epi8(3)), 4));
    s = _mm_sub_epi8(s, _mm_set1_epi8(32));
    o->scale = times(of_bytes(s, true), one_of(four_halves(p + 102), 3));
}

SL_INLINE void scales_iq4_xs(const unsigned char *p, span *o)
{
    /* Blocks in the order that of_halves wants. */
    const __m256i at = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    __m256i low =
        _mm256_srlv_epi32(_mm256_set1_epi32((int)word_at(p + 4)), _mm256_slli_epi32(at, 2));
    __m256i high = _mm256_srlv_epi32(_mm256_set1_epi32((unsigned short)half_bits(p + 2)),
                                     _mm256_slli_epi32(at, 1));
    low = _mm256_and_si256(low, _mm256_set1_epi32(15));
    high = _mm256_slli_epi32(_mm256_and_si256(high, _mm256_set1_epi32(3)), 4);
    low = _mm256_sub_epi32(_mm256_or_si256(low, high), _mm256_set1_epi32(32));
    o->scale = times(of_halves(_mm256_cvtepi32_ps(low)), one_of(four_halves(p), 0));
}

SL_INLINE void scales_mxfp4_block(const unsigned char *p, span *o)
{
    const __m256i s = _mm256_setr_epi32(p[0], p[34], p[68], p[102], p[17], p[51], p[85], p[119]);
    o->scale = of_halves(half_powers(s, false));
}

/* A plane's numbers of the span that begins with column c; those of groups of 32 and more that are
 * halves at once. */
SL_INLINE lanes16 of_plane(const sl__scaling *scaling, const unsigned char *row, uint32_t c)
{
    const bool bf16 = scaling->type == SL_BF16;
    if ((bf16 || scaling->type == SL_F16) && scaling->group >= 32 && scaling->group <= 128) {
        const unsigned char *p = row + 2 * (size_t)(c / scaling->group);
        __m128i h;
        if (scaling->group == 32)
            h = _mm_shuffle_epi8(
                load_16(p), _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15));
        else if (scaling->group == 64)
            h = _mm_loadl_epi64((const __m128i *)(const void *)p);
        else
            h = _mm_shufflelo_epi16(_mm_cvtsi32_si128((int)word_at(p)), 0x50);
        const __m256i wide = _mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16);
        const __m256 f = bf16 ? (__m256)wide : _mm256_cvtph_ps(h);
        if (scaling->group == 32) return of_halves(f);
        return of_groups(_mm256_castps256_ps128(f));
    }
    float lane[SL_LANES];
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned g = 0; g < 4; g++)
            lane[4 * k + g] =
                plane_value(scaling->type, row, (c + SL_GROUP * g + 16 * k) / scaling->group);
    }
    lanes16 o;
    memcpy(&o, lane, sizeof o);
    return o;
}

SL_INLINE void scales_affine(sl__dtype type, const sl__rows *w, uint32_t r, uint32_t c, span *o)
{
    o->scale = of_plane(&w->scaling, plane_row(w, w->scales, r), c);
    o->addend = (lanes16){{{0}}};
    if (!w->biases) return;
    o->addend = of_plane(&w->scaling, plane_row(w, w->biases, r), c);
    for (unsigned i = 0; type == SL_AFFINE8 && i < NV; i++)
        o->addend.v[i] = vec_set1(128) * o->scale.v[i] + o->addend.v[i];
}

SL_INLINE void scales_mxfp4(const sl__rows *w, uint32_t r, uint32_t c, span *o)
{
    const unsigned char *p = plane_row(w, w->scales, r) + c / SL_MX_GROUP;
    const __m128i order = _mm_setr_epi8(0, 2, 4, 6, 1, 3, 5, 7, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m128i b = _mm_shuffle_epi8(_mm_loadl_epi64((const __m128i *)(const void *)p), order);
    o->scale = of_halves(half_powers(_mm256_cvtepu8_epi32(b), true));
}

/* ---- codes of the types ---------------------------------------------------------------------- */

/* iq4's values and the doubled ones of fp4, as codes are kept. */
#define IQ4(v) (int8_t)((unsigned char)(v) ^ FLIP)
static const int8_t iq4_kept[16] = {IQ4(-127), IQ4(-104), IQ4(-83), IQ4(-65), IQ4(-49), IQ4(-35),
                                    IQ4(-22),  IQ4(-10),  IQ4(1),   IQ4(13),  IQ4(25),  IQ4(38),
                                    IQ4(53),   IQ4(69),   IQ4(89),  IQ4(113)};
static const int8_t fp4_kept[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};

/* Group g of a span of blocks of 32, at p, `bytes` apart; `skip`: before a block's codes. */
SL_INLINE codes64 codes_32(sl__dtype type, const unsigned char *p, size_t bytes, size_t skip,
                           unsigned g)
{
    const unsigned char *a = p + 2 * g * bytes + skip, *b = a + bytes;
    if (type == SL_Q8_0) return flip(two_32(a, b), FLIP);
    codes64 c = bits_of(halves_16(a, b, 4), 0, 15);
    if (type == SL_IQ4_NL || type == SL_IQ4_XS) return look_up(iq4_kept, c);
    if (type == SL_MXFP4_BLOCK) return look_up(fp4_kept, c);
    if (type == SL_Q5_0 || type == SL_Q5_1)
        c = both_of(c, fifth_bits(word_at(a - 4) | (uint64_t)word_at(b - 4) << 32));
    return c;
}

/* Quarter g of a block of 256. */
SL_INLINE codes64 codes_256(sl__dtype type, const unsigned char *p, unsigned g)
{
    const int even = g % 2 ? 4 : 0, two = 2 * (int)g;
    codes64 c;
    switch (type) {
    case SL_Q2_K:
        return bits_of(halves_32(p + 16 + g / 2 * 32, 2), even, 3);
    case SL_Q3_K:
        c = bits_of(halves_32(p + 32 + g / 2 * 32, 2), even, 3);
        return both_of(c, bits_of(halves_32(p, 1), two - 2, 4));
    case SL_Q4_K:
        return bits_of(halves_32(p + 16 + 32 * g, 4), 0, 15);
    case SL_Q5_K:
        c = bits_of(halves_32(p + 48 + 32 * g, 4), 0, 15);
        return both_of(c, bits_of(halves_32(p + 16, 1), two - 4, 16));
    default: /* q6_k */
        c = bits_of(load_64(p + g / 2 * 64), even, 15);
        return both_of(c, bits_of(halves_32(p + 128 + g / 2 * 32, 2), even - 4, 48));
    }
}

SL_INLINE codes64 codes_affine(sl__dtype type, const unsigned char *p)
{
    codes64 c;
    if (type == SL_AFFINE8) return flip(load_64(p), 0x80 ^ FLIP);
    if (type == SL_AFFINE2) {
        c = longs_16(p);
        for (unsigned i = 0; i < NV; i++) {
            c.v[i] |= c.v[i] << 6;
            c.v[i] |= c.v[i] << 12;
        }
        return bits_of(c, 0, 3);
    }
    c = words_32(p);
    for (unsigned i = 0; i < NV; i++)
        c.v[i] |= c.v[i] << 4;
    c = bits_of(c, 0, 15);
    return type == SL_MXFP4 ? look_up(fp4_kept, c) : c;
}

/* ---- spans ----------------------------------------------------------------------------------- */

/* Any span of any type, also the last one of a row, by way of memory. */
SL_PERHAPS void open_any_span(const sl__rows *w, uint32_t r, uint32_t cols, uint32_t c,
                              block_codes o[4], float lanes[2][SL_LANES])
{
    const bool keep = kind_of(w->dtype) == CODES_8;
    const uint8_t offset = (uint8_t)offset_of(w);
    for (unsigned g = 0; g < 4; g++) {
        o[g] = (block_codes){.scale = {0}};
        if (c + SL_GROUP * g < cols) open_row_group(w, r, cols, c / SL_GROUP + g, &o[g]);
        for (unsigned k = 0; k < 4; k++) {
            codes16 b = codes_load(o[g].code + 16 * k);
            codes_store(o[g].code + 16 * k, keep ? b ^ (uint8_t)FLIP : b + offset);
            lanes[0][4 * k + g] = o[g].scale[k];
            lanes[1][4 * k + g] = o[g].addend[k];
        }
    }
}

static __attribute__((noinline)) void load_any_span(const sl__rows *w, uint32_t r, uint32_t cols,
                                                    uint32_t c, span *out)
{
    block_codes o[4];
    float lanes[2][SL_LANES];
    open_any_span(w, r, cols, c, o, lanes);
    for (unsigned g = 0; g < 4; g++)
        memcpy(&out->code[g], o[g].code, sizeof out->code[g]);
    memcpy(&out->scale, lanes[0], sizeof out->scale);
    memcpy(&out->addend, lanes[1], sizeof out->addend);
}

SL_INLINE bool opens_in_line(sl__dtype type)
{
    switch (type) {
    case SL_Q4_0:
    case SL_Q4_1:
    case SL_Q5_0:
    case SL_Q5_1:
    case SL_Q8_0:
    case SL_IQ4_NL:
    case SL_MXFP4_BLOCK:
    case SL_Q2_K:
    case SL_Q3_K:
    case SL_Q4_K:
    case SL_Q5_K:
    case SL_Q6_K:
    case SL_IQ4_XS:
    case SL_AFFINE2:
    case SL_AFFINE4:
    case SL_AFFINE8:
    case SL_MXFP4:
        return true;
    default:
        return false;
    }
}

SL_INLINE unsigned span_bytes(sl__dtype type) /* of the types that are opened in line */
{
    switch (type) {
    case SL_Q4_0:
    case SL_IQ4_NL:
    case SL_Q4_K:
        return 144;
    case SL_Q4_1:
        return 160;
    case SL_Q5_0:
    case SL_Q5_K:
        return 176;
    case SL_Q5_1:
        return 192;
    case SL_Q8_0:
        return 272;
    case SL_MXFP4_BLOCK:
    case SL_IQ4_XS:
        return 136;
    case SL_Q2_K:
        return 84;
    case SL_Q3_K:
        return 110;
    case SL_Q6_K:
        return 210;
    case SL_AFFINE2:
        return 64;
    case SL_AFFINE8:
        return 256;
    default:
        return 128;
    }
}

/* The scales of GGUF's blocks. */
SL_INLINE void open_scales(sl__dtype type, const unsigned char *p, span *o)
{
    const size_t bytes = span_bytes(type) / 8;
    switch (type) {
    case SL_Q2_K:
        scales_q2_k(p, o);
        break;
    case SL_Q3_K:
        scales_q3_k(p, o);
        break;
    case SL_Q4_K:
    case SL_Q5_K:
        scales_q4_k(p, o);
        break;
    case SL_Q6_K:
        o->scale = times(of_bytes(load_16(p + 192), true), one_of(four_halves(p + 202), 3));
        break;
    case SL_IQ4_XS:
        scales_iq4_xs(p, o);
        break;
    case SL_MXFP4_BLOCK:
        scales_mxfp4_block(p, o);
        break;
    default:
        o->scale = of_block_halves(p, bytes);
        if (has_addends(type)) o->addend = of_block_halves(p + 2, bytes);
    }
}

SL_INLINE void open_codes_of(sl__dtype type, const unsigned char *p, span *o)
{
    const size_t bytes = span_bytes(type) / 8, quarter = span_bytes(type) / 4;
    for (unsigned g = 0; g < 4; g++) {
        switch (type) {
        case SL_Q2_K:
        case SL_Q3_K:
        case SL_Q4_K:
        case SL_Q5_K:
        case SL_Q6_K:
            o->code[g] = codes_256(type, p, g);
            break;
        case SL_IQ4_XS:
            o->code[g] = codes_32(type, p + 8, 16, 0, g);
            break;
        case SL_AFFINE2:
        case SL_AFFINE4:
        case SL_AFFINE8:
        case SL_MXFP4:
            o->code[g] = codes_affine(type, p + g * quarter);
            break;
        default:
            o->code[g] = codes_32(type, p, bytes, bytes - (type == SL_Q8_0 ? 32 : 16), g);
        }
    }
}

/* Opens the span of row r that begins with column c, all of it there. Small where type is a
 * constant. */
SL_INLINE void open_span(sl__dtype type, const sl__rows *w, uint32_t r, uint32_t cols, uint32_t c,
                         span *o)
{
    const unsigned char *p =
        (const unsigned char *)w->data + r * w->row_bytes + (size_t)(c / SPAN) * span_bytes(type);
    if (!opens_in_line(type)) {
        load_any_span(w, r, cols, c, o);
        return;
    }
    if (type == SL_MXFP4)
        scales_mxfp4(w, r, c, o);
    else if (sl__dtype_is_block(type))
        open_scales(type, p, o);
    else
        scales_affine(type, w, r, c, o);
    open_codes_of(type, p, o);
}

/* Scales of the runs that begin behind `left` columns become 0. */
SL_INLINE void cut_lanes(lanes16 *o, uint32_t left)
{
    static const int32_t begin[SL_LANES] = {0,  64, 128, 192, 16, 80,  144, 208,
                                            32, 96, 160, 224, 48, 112, 176, 240};
    for (unsigned i = 0; i < NV; i++) {
        ivec at;
        memcpy(&at, begin + SL_VW * i, sizeof at);
        o->v[i] = (vec)((ivec)o->v[i] & (at < (int32_t)left));
    }
}

/* Numbers of a plane for the last columns, from column c on. */
SL_INLINE lanes16 of_plane_end(const sl__scaling *scaling, const unsigned char *row, uint32_t cols,
                               uint32_t c)
{
    float lane[SL_LANES] = {0};
    for (uint32_t i = 0; i < SL_LANES && c + 16 * i < cols; i++)
        lane[i % 4 * 4 + i / 4] = plane_value(scaling->type, row, (c + 16 * i) / scaling->group);
    lanes16 o;
    memcpy(&o, lane, sizeof o);
    return o;
}

/* The last span of row r, which is not whole: what follows the row is read with it, and multiplied
 * with zeros, where that is before `end`, the end of the last row. */
SL_INLINE void open_last_span(sl__dtype type, const sl__rows *w, uint32_t r, uint32_t cols,
                              uint32_t c, const unsigned char *end, span *o)
{
    unsigned char copy[SPAN + 64];
    sl__rows at = *w;
    if (!opens_in_line(type)) {
        load_any_span(w, r, cols, c, o);
        return;
    }
    const size_t from = r * w->row_bytes + (size_t)(c / SPAN) * span_bytes(type);
    const size_t there = (size_t)(end - ((const unsigned char *)w->data + from));
    at.data = (const unsigned char *)w->data + from;
    if (there < span_bytes(type)) {
        memset(copy, 0, sizeof copy);
        memcpy(copy, at.data, there);
        at.data = copy;
    }
    const bool planes = !sl__dtype_is_block(type), affine = planes && type != SL_MXFP4;
    open_codes_of(type, at.data, o);
    if (!planes) open_scales(type, at.data, o);
    if (planes) o->scale = of_plane_end(&w->scaling, plane_row(w, w->scales, r), cols, c);
    if (type == SL_MXFP4) o->scale = times(o->scale, vec_set1(0.5f));
    if (affine && w->biases)
        o->addend = of_plane_end(&w->scaling, plane_row(w, w->biases, r), cols, c);
    else if (affine)
        o->addend = (lanes16){{{0}}};
    for (unsigned i = 0; affine && w->biases && type == SL_AFFINE8 && i < NV; i++)
        o->addend.v[i] = vec_set1(128) * o->scale.v[i] + o->addend.v[i];
    cut_lanes(&o->scale, cols - c);
    if (has_addends(type)) cut_lanes(&o->addend, cols - c);
}

#endif
