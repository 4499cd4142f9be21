/* Blocks of a panel (base/panels.h) in vectors of SL_VW rows: 16 with AVX-512, 8 with AVX2, where
 * two vectors, the parts of a panel, make its 16 rows. Private to the files that define SL_VW and
 * include it.
 *
 *     a vector of the layout, 64 bytes      row 0 | row 1 | … | row 7 | row 8 | … | row 15
 *     SL_VW 16                              part 0
 *     SL_VW 8                               part 0                    | part 1
 *
 * A quad is what an element of a vector holds: the codes of four columns of a row, a byte each.
 */
#ifndef SL_KERN_X86_PANEL_CODES_H
#define SL_KERN_X86_PANEL_CODES_H

#include <immintrin.h>

#include "kern/lanes.h"
#include "kern/levels.h"

#define ROWS       SL_PANEL_ROWS
#define PARTS      (ROWS / SL_VW) /* of a panel */
#define QUADS      (SL_GROUP / 4) /* of a row's group */
#define HEAD_BYTES (2 * ROWS * sizeof(uint16_t))

typedef int32_t ivec __attribute__((vector_size(SL_VW * 4)));

SL_INLINE ivec ivec_load(const void *p) /* no alignment needed */
{
    ivec v;
    memcpy(&v, p, sizeof v);
    return v;
}

SL_INLINE ivec ivec_set1(int32_t a)
{
#if SL_VW == 16
    return (ivec)_mm512_set1_epi32(a);
#else
    return (ivec)_mm256_set1_epi32(a);
#endif
}

/* The table's bytes at the low four bits of every byte of `at`; the high bits of `at` are 0. */
SL_INLINE ivec look_up(const int8_t table[16], ivec at)
{
    __m128i t;
    memcpy(&t, table, sizeof t);
#if SL_VW == 16
    return (ivec)_mm512_shuffle_epi8(_mm512_broadcast_i32x4(t), (__m512i)at);
#else
    return (ivec)_mm256_shuffle_epi8(_mm256_broadcastsi128_si256(t), (__m256i)at);
#endif
}

/* Numbers of bf16 as floats. */
SL_INLINE vec load_bf16(const unsigned char *p)
{
#if SL_VW == 16
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16);
#else
    __m128i half = _mm_loadu_si128((const __m128i *)(const void *)p);
    return (vec)_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16);
#endif
}

SL_INLINE size_t panel_block_bytes(sl__dtype type)
{
    return type == SL_Q8 ? 1088 : type == SL_Q4 ? 576 : type == SL_Q3 ? 448 : 320;
}

SL_INLINE vec block_scale(const unsigned char *block, unsigned part)
{
    return load_bf16(block + 2 * SL_VW * part);
}

SL_INLINE vec block_minimum(const unsigned char *block, unsigned part)
{
    return load_bf16(block + HEAD_BYTES / 2 + 2 * SL_VW * part);
}

/* A part's share of the block's code vector i. */
SL_INLINE ivec block_vector(const unsigned char *block, unsigned part, unsigned i)
{
    return ivec_load(block + HEAD_BYTES + i * 64 + 4 * SL_VW * part);
}

/* How many codes a byte holds (of q3, without their bits 2), and the bits of one. */
SL_INLINE unsigned codes_per_byte(sl__dtype type)
{
    return type == SL_Q8 ? 1 : type == SL_Q4 ? 2 : 4;
}

SL_INLINE unsigned code_bits(sl__dtype type)
{
    return 8 / codes_per_byte(type);
}

/* What there is to add to q3's low bits: bit f of each four bits of `nibbles` comes to bit 2. */
SL_INLINE ivec third_bit(ivec nibbles, unsigned f)
{
    static const int8_t bit_2_if[4][16] = {
        {0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4, 0, 4},
        {0, 0, 4, 4, 0, 0, 4, 4, 0, 0, 4, 4, 0, 0, 4, 4},
        {0, 0, 0, 0, 4, 4, 4, 4, 0, 0, 0, 0, 4, 4, 4, 4},
        {0, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4},
    };
    return look_up(bit_2_if[f], nibbles);
}

/* Of q3's vector i: the bits 2 of its codes, in the low four bits of every byte. */
SL_INLINE ivec third_bits(const unsigned char *block, unsigned part, unsigned i)
{
    return block_vector(block, part, 4 + i / 2) >> (int)(i % 2 * 4) & ivec_set1(0x0f0f0f0f);
}

/* Field f of a code vector's bytes as codes: the quads of columns f · 64 / codes_per_byte on. */
SL_INLINE ivec field(sl__dtype type, ivec v, ivec thirds, unsigned f)
{
    static const int32_t masks[] = {0, 0, 0x03030303, 0, 0x0f0f0f0f};
    const unsigned bits = code_bits(type);
    if (type == SL_Q8) return v;
    ivec low = v >> (int)(f * bits) & ivec_set1(masks[bits]);
    return type == SL_Q3 ? low | third_bit(thirds, f) : low;
}

#endif
