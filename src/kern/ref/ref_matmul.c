/* The weight types as floats, and the matrix product: the definition. */
#define SL_VW 4
#include "kern/body_blocks.h"
#include "kern/ref/ref_block_ops.h"

SL_INLINE void store_weights(const block_codes *o, float out[SL_GROUP])
{
    for (unsigned k = 0; k < 4; k++) {
        for (unsigned i = 0; i < 16; i++)
            out[16 * k + i] = o->scale[k] * (float)o->code[16 * k + i] + o->addend[k];
    }
}

static void unpack_q4(const unsigned char *p, unsigned char code[SL_GROUP])
{
    for (unsigned i = 0; i < 32; i += 16) {
        codes16 b = codes_load(p + i);
        codes_store(code + i, b & 15);
        codes_store(code + i + 32, b >> 4);
    }
}

static void unpack_q2(const unsigned char *p, unsigned char code[SL_GROUP])
{
    codes16 b = codes_load(p);
    codes_store(code, b & 3);
    codes_store(code + 16, (b >> 2) & 3);
    codes_store(code + 32, (b >> 4) & 3);
    codes_store(code + 48, b >> 6);
}

static void unpack_q3(const unsigned char *p, unsigned char code[SL_GROUP])
{
    unpack_q2(p, code);
    for (unsigned k = 0; k < 4; k++) {
        codes16 third = spread_bits(p[16 + 2 * k] | (unsigned)p[17 + 2 * k] << 8) & 4;
        codes_store(code + 16 * k, codes_load(code + 16 * k) | third);
    }
}

SL_INLINE void dequant_halves(sl__dtype type, const unsigned char *p, float *out, uint32_t count)
{
    uint16_t h[SL_GROUP];
    memcpy(h, p, count * sizeof h[0]);
    if (type == SL_BF16) {
        for (uint32_t i = 0; i < count; i++)
            out[i] = sl__bf16_to_f32(h[i]);
    } else {
        for (uint32_t i = 0; i < count; i++)
            out[i] = half_value(h[i]);
    }
}

/* out[count] of one block, count <= SL_GROUP. */
static void dequant_block(sl__dtype type, const unsigned char *p, float *out, uint32_t count)
{
    unsigned char code[SL_GROUP];
    float value[SL_GROUP];
    uint16_t half[2];
    memcpy(half, p, sizeof half);
    float scale = sl__bf16_to_f32(half[0]), minimum = sl__bf16_to_f32(half[1]);
    if (type == SL_Q8)
        memcpy(code, p + 4, sizeof code);
    else if (type == SL_Q4)
        unpack_q4(p + 4, code);
    else if (type == SL_Q3)
        unpack_q3(p + 4, code);
    else
        unpack_q2(p + 4, code);
    float *to = count == SL_GROUP ? out : value;
    for (unsigned i = 0; i < SL_GROUP; i++)
        to[i] = scale * (float)code[i] + minimum;
    if (to != out) memcpy(out, value, count * sizeof(float));
}

/* No table: operations on bytes, then on numbers, all of which become vectors. */
static void dequant_mxfp4_block(const unsigned char *codes, unsigned char scale, float *out)
{
    /* Of twice the value, a whole number: 0, 1, 2, 3, 4, 6, 8, 12. Halving is exact. */
    unsigned char twice[2][16], negative[2][16];
    float half = sl__e8m0_to_f32(scale) * 0.5f;
    codes16 b = codes_load(codes);
    for (unsigned k = 0; k < 2; k++) {
        codes16 code = k == 0 ? b & 15 : b >> 4, c = code & 7;
        c += ((codes16)(c > 4) & (c - 4)) + ((codes16)(c > 6) & 2);
        codes_store(twice[k], c);
        codes_store(negative[k], code >> 3);
    }
    for (unsigned i = 0; i < SL_MX_GROUP / 2; i++) {
        /* A zero keeps its sign, too. */
        out[2 * i] = (float)twice[0][i] * ((float)(1 - 2 * negative[0][i]) * half);
        out[2 * i + 1] = (float)twice[1][i] * ((float)(1 - 2 * negative[1][i]) * half);
    }
}

/* codes and scales: of the first of `count` weights, which begin a block. */
static void dequant_mxfp4(const unsigned char *codes, const unsigned char *scales, float *out,
                          uint32_t count)
{
    float last[SL_MX_GROUP];
    for (uint32_t i = 0; i < count; i += SL_MX_GROUP, codes += SL_MX_GROUP / 2, scales++) {
        bool whole = count - i >= SL_MX_GROUP;
        dequant_mxfp4_block(codes, *scales, whole ? out + i : last);
        if (!whole) memcpy(out + i, last, (count - i) * sizeof *out);
    }
}

static void dequant_span(const sl__rows *w, uint32_t r, uint32_t first, uint32_t count, float *out)
{
    const unsigned char *row = row_at(w, r);
    const sl__dtype type = w->dtype;
    if (type == SL_MXFP4) {
        dequant_mxfp4(row + first / 2,
                      scale_row(w->scales, w->scale_row_bytes, r) + first / SL_MX_GROUP, out,
                      count);
        return;
    }
    if (sl__has_planes(&w->scaling)) {
        dequant_planes(w, r, first, count, out);
        return;
    }
    if (type == SL_F32) {
        memcpy(out, row + (size_t)first * 4, (size_t)count * 4);
        return;
    }
    if (type == SL_BF16 || type == SL_F16) {
        const unsigned char *p = row + (size_t)first * 2;
        uint32_t i = 0;
        for (; count - i >= SL_GROUP; i += SL_GROUP)
            dequant_halves(type, p + (size_t)i * 2, out + i, SL_GROUP);
        dequant_halves(type, p + (size_t)i * 2, out + i, count - i);
        return;
    }
    if (sl__dtype_is_block(type)) {
        dequant_blocks(type, row, first, count, out);
        return;
    }
    assert(type > SL_BF16 && type <= SL_Q2);
    uint32_t bytes = sl__dtype_block_bytes(type);
    const unsigned char *p = row + (size_t)(first / SL_GROUP) * bytes;
    for (uint32_t i = 0; i < count; i += SL_GROUP, p += bytes)
        dequant_block(type, p, out + i, count - i < SL_GROUP ? count - i : SL_GROUP);
}

void sl__kern_ref_matmul(sl__kern *kern)
{
    kern->dequant_row = dequant_row;
    kern->matmul = matmul;
    kern->matmul_t = matmul_t;
    kern->dot = dot;
}
