/* Weights in rows as codes of 8 bits with a sign, what products with activations of 8 bits
 * multiply: any type of sl__dtype_has_q8_rows, a group of 64 at a time.
 *
 *     weight i of a group = scale[i / 16] · code[i] + addend[i / 16]
 *
 *     q8, affine8        codes of 0 … 255 less 128; addend = 128 · scale, rounded, + minimum or
 * bias, rounded; affine8 without biases has no addend q4, q3, q2         as they are; addend =
 * minimum affine2 … affine6  as they are, addend = bias; without biases less half their range, no
 * addend mxfp4              twice the value, half the scale GGUF's blocks      as block_codes.h
 * opens them
 *
 * The file that includes this has defined what block_codes.h wants of a level. */
#ifndef SL_KERN_BODY_ROW_CODES_H
#define SL_KERN_BODY_ROW_CODES_H

#include "base/rows.h"
#include "kern/block_codes.h"
#include "kern/body_planes.h"

/* Whether the weights of a type without planes have addends; where there are none, nothing is
 * added.
 */
SL_INLINE bool has_addends(sl__dtype type)
{
    switch (type) {
    case SL_Q8:
    case SL_Q4:
    case SL_Q3:
    case SL_Q2:
    case SL_Q4_1:
    case SL_Q5_1:
    case SL_Q2_K:
    case SL_Q4_K:
    case SL_Q5_K:
        return true;
    default:
        return false;
    }
}

SL_INLINE bool rows_have_addends(const sl__rows *w)
{
    return has_addends(w->dtype) || w->biases;
}

/* A group of q8, q4, q3 or q2. */
SL_PERHAPS void open_grouped(sl__dtype type, const unsigned char *p, block_codes *o)
{
    const unsigned char *codes = p + 4;
    uint16_t head[2];
    memcpy(head, p, sizeof head);
    float scale = sl__bf16_to_f32(head[0]), minimum = sl__bf16_to_f32(head[1]);
    set_scales(o, 0, 4, scale, type == SL_Q8 ? 128 * scale + minimum : minimum);
    for (unsigned k = 0; k < 4; k++) {
        codes16 b = codes_load(codes + (type == SL_Q8 ? 16 * k : type == SL_Q4 ? k % 2 * 16 : 0));
        switch (type) {
        case SL_Q8:
            b ^= 0x80;
            break;
        case SL_Q4:
            b = bits_from(b, k / 2 * 4, 15);
            break;
        case SL_Q3:
            b = bits_from(b, 2 * k, 3);
            b |= spread_bits(codes[16 + 2 * k] | (unsigned)codes[17 + 2 * k] << 8) & 4;
            break;
        default:
            b = bits_from(b, 2 * k, 3);
        }
        codes_store(o->code + 16 * k, b);
    }
}

/* `count` weights of a group of mxfp4, from its planes. */
SL_PERHAPS void open_mxfp4_group(const unsigned char *p, const unsigned char *scales,
                                 uint32_t count, block_codes *o)
{
    unsigned char last[SL_GROUP / 2] = {0};
    memcpy(last, p, count == SL_GROUP ? SL_GROUP / 2 : (count + 1) / 2);
    for (unsigned k = 0; k < 4 && 16 * k < count; k++) {
        unsigned char code[16];
        for (unsigned i = 0; i < 16; i++)
            code[i] = (unsigned char)(last[8 * k + i / 2] >> i % 2 * 4 & 15);
        set_scales(o, k, 1, sl__e8m0_to_f32(scales[k / 2]) * 0.5f, -0.0f);
        store_values(o->code + 16 * k, fp4_doubled, codes_load(code));
    }
}

/* The same of an affine type; r: the row, c: the group's first column. */
SL_PERHAPS void open_affine_group(const sl__rows *w, uint32_t r, uint32_t c, uint32_t count,
                                  block_codes *o)
{
    const unsigned bits = sl__dtype_affine_bits(w->dtype);
    const unsigned char *row = (const unsigned char *)w->data + r * w->row_bytes;
    const unsigned char *scales = plane_row(w, w->scales, r);
    const int offset = bits == 8 || !w->biases ? 1 << (bits - 1) : 0;
    for (unsigned k = 0; k < 4 && 16 * k < count; k++) {
        int32_t code[PLANE_SPAN];
        const size_t at = (c + 16 * k) / w->scaling.group;
        float scale = plane_value(w->scaling.type, scales, at), addend = -0.0f;
        if (w->biases) {
            addend = plane_value(w->scaling.type, plane_row(w, w->biases, r), at);
            if (bits == 8) addend = 128 * scale + addend;
        }
        set_scales(o, k, 1, scale, addend);
        affine_codes(bits, row, c + 16 * k, count - 16 * k < 16 ? count - 16 * k : 16, code);
        for (unsigned i = 0; i < 16; i++)
            o->code[16 * k + i] = (int8_t)(code[i] - offset);
    }
}

/* Opens a group of row r, whose weights are `cols`. Of runs that begin behind the last of these all
 * is 0. */
static __attribute__((noinline)) void open_row_group(const sl__rows *w, uint32_t r, uint32_t cols,
                                                     size_t group, block_codes *o)
{
    const sl__dtype type = w->dtype;
    const size_t bytes = sl__dtype_block_bytes(type);
    const unsigned char *row = (const unsigned char *)w->data + r * w->row_bytes;
    const uint32_t c = (uint32_t)group * SL_GROUP,
                   count = cols - c < SL_GROUP ? cols - c : SL_GROUP;
    if (type <= SL_Q2)
        open_grouped(type, row + group * bytes, o);
    else if (type == SL_MXFP4)
        open_mxfp4_group(row + group * (SL_GROUP / 2),
                         plane_row(w, w->scales, r) + group * (SL_GROUP / SL_MX_GROUP), count, o);
    else if (sl__dtype_is_block(type))
        open_codes(type, bytes, row, group, count, o);
    else
        open_affine_group(w, r, c, count, o);
    for (unsigned k = (count + 15) / 16; k < 4; k++) {
        set_scales(o, k, 1, 0, 0);
        memset(o->code + 16 * k, 0, 16);
    }
}

#endif
