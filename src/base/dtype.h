/* How numbers lie in memory and on the disk.
 *
 * A matrix is W[rows, cols], row-major, y = W·x; a row is `sl__dtype_row_bytes(type, cols)` bytes.
 * The grouped types hold 64 consecutive weights of a row (along the input dimension) in a block:
 *
 *     block:  scale (bf16) · minimum (bf16) · codes            weight = scale * code + minimum
 *     q8      64 bytes: code i is byte i                                          68 bytes, 8.5 bit
 *     q4      32 bytes: byte i holds code i (low nibble) and code i+32 (high)     36 bytes, 4.5 bit
 *     q3      16 bytes as q2's, then 8 bytes: bit i%8 of byte i/8 is code i's bit 2   28 b, 3.5 bit
 *     q2      16 bytes: byte i holds codes i, i+16, i+32, i+48 from the low bits up   20 b, 2.5 bit
 *
 * Where cols is not a multiple of 64 the last block of a row is whole, its spare codes 0 and never
 * used. Weight arithmetic is float32: the scale times the code, rounded, plus the minimum, rounded.
 *
 * mxfp4 (the OCP microscaling format) has two planes, a matrix of codes and one of scales, a row of
 * each for every row of weights. A block is 32 weights:
 *
 *     codes   16 bytes: byte i holds codes 2i (low nibble) and 2i+1 (high); the high bit of a code
 *             is its sign, the others stand for 0, 0.5, 1, 1.5, 2, 3, 4, 6            4.25 bit
 *     scales  a byte s: 2^(s−127); 255 is NaN                weight = value of the code * scale
 *
 * affine2 … affine8 (MLX, and compressed-tensors without biases) are rows of codes of so many bits,
 * one after the other from the lowest bit up; their scales, and biases where there are any, lie in
 * planes (base/rows.h). f8_e4m3 as a weight has a plane of scales too, one for a square of 128.
 *
 * The block types from q4_0 to nvfp4 are GGUF's, byte for byte: a block holds its own scales, some
 * minimums too, and 32, 64 or 256 weights of a row; kern/block_codes.h says how each lies. Their
 * arithmetic is float32: the block's scale times the sub-block's, times the code, plus or minus
 * the minimum. No product of these has more than 24 digits, so each is exact, and a weight is
 * rounded once at most, by the sum. mxfp4_block is MXFP4 as GGUF has it, scale and codes together:
 * its low halves are weights 0 … 15, its scale 255 is 2^128, and its code of minus zero is 0.
 */
#ifndef SL_BASE_DTYPE_H
#define SL_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum sl__dtype {
    SL_F32 = 0,
    SL_F16,
    SL_BF16,
    SL_Q8,
    SL_Q4,
    SL_Q3,
    SL_Q2,
    SL_MXFP4,
    SL_Q4_0, /* the first of GGUF's blocks */
    SL_Q4_1,
    SL_Q5_0,
    SL_Q5_1,
    SL_Q8_0,
    SL_IQ4_NL,
    SL_MXFP4_BLOCK,
    SL_NVFP4,
    SL_Q2_K,
    SL_Q3_K,
    SL_Q4_K,
    SL_Q5_K,
    SL_Q6_K,
    SL_IQ4_XS,
    SL_IQ2_XXS,
    SL_IQ2_XS,
    SL_IQ2_S,
    SL_IQ3_XXS,
    SL_IQ3_S, /* the last of them */
    SL_AFFINE2, /* with planes of scales */
    SL_AFFINE3,
    SL_AFFINE4,
    SL_AFFINE5,
    SL_AFFINE6,
    SL_AFFINE8,
    SL_F8_E4M3,
    SL_DTYPE_COUNT, /* the types above can be weights */
    /* Known to readers, never computed with: */
    SL_I8 = SL_DTYPE_COUNT,
    SL_U8,
    SL_I16,
    SL_U16,
    SL_I32,
    SL_U32,
    SL_I64,
    SL_U64,
    SL_F64,
    SL_BOOL,
    SL_F8_E5M2,
    SL_F8_E8M0,
    SL_DTYPE_ALL
} sl__dtype;

#define SL_GROUP    64u /* weights a block of the grouped types */
#define SL_MX_GROUP 32u /* weights a block of mxfp4 */

const char *sl__dtype_name(sl__dtype type);                /* "bf16"; static */
bool sl__dtype_parse(const char *name, sl__dtype *out);    /* names as above, lower case */
uint32_t sl__dtype_block_weights(sl__dtype type);          /* 1, 32, 64 or 256 */
uint32_t sl__dtype_block_bytes(sl__dtype type);
/* Bytes of a row of cols weights (without scales that lie apart); false on overflow. */
bool sl__dtype_row_bytes(sl__dtype type, uint64_t cols, uint64_t *bytes);
/* Whether a matrix of the type has its scales in planes of their own. */
static inline bool sl__dtype_has_planes(sl__dtype type)
{
    return type == SL_MXFP4 || (type >= SL_AFFINE2 && type <= SL_F8_E4M3);
}
/* The bits of a code of an affine type; 0 for others. */
static inline uint32_t sl__dtype_affine_bits(sl__dtype type)
{
    if (type < SL_AFFINE2 || type > SL_AFFINE8) return 0;
    return type == SL_AFFINE8 ? 8 : 2 + (uint32_t)(type - SL_AFFINE2);
}

/* Whether a row of the type is made of GGUF's blocks. */
static inline bool sl__dtype_is_block(sl__dtype type)
{
    return type >= SL_Q4_0 && type <= SL_IQ3_S;
}

/* Whether weights of the type are codes of 8 bits at most with scales, which products with inputs
 * of 8 bits take in rows (kern.h, matmul_q8). */
static inline bool sl__dtype_has_q8_rows(sl__dtype type)
{
    return type >= SL_Q8 && type <= SL_AFFINE8;
}

/* Whether rows can be encoded in the type (quant/quant.h). */
static inline bool sl__dtype_has_encoder(sl__dtype type)
{
    return type <= SL_IQ4_NL || type == SL_MXFP4_BLOCK || (type >= SL_Q2_K && type <= SL_IQ4_XS);
}

/* Adds a type's name to a list such as "q4, q8", unless it is in it or does not fit. */
void sl__dtype_list_add(char *list, size_t list_size, sl__dtype type);

static inline float sl__bf16_to_f32(uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Round to nearest, ties to even; NaN stays NaN. */
static inline uint16_t sl__f32_to_bf16(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)((u >> 16) | 0x40u);
    return (uint16_t)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

/* A scale of mxfp4: a power of two, the lowest of them subnormal; 255: NaN. */
static inline float sl__e8m0_to_f32(uint8_t s)
{
    uint32_t u = s == 255 ? 0x7fc00000u : s == 0 ? 0x400000u : (uint32_t)s << 23;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float sl__f16_to_f32(uint16_t h); /* IEEE half, subnormals, infinities and NaN included */

#endif
