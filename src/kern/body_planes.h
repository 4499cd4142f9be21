/* Weights whose scales lie in planes, as floats: affine codes, which are a stream of bits, and
 * floats of eight bits. (mxfp4 has kernels of its own.)
 *
 *     affine b    code c is bits b·c … b·c + b − 1 of its row, the lowest first; without biases
 *                 2^(b−1) is taken off, so that codes have a sign
 *     f8_e4m3     sign, four bits of exponent, three of fraction
 *
 * Loops over constants that become vectors at each level. */
#ifndef SL_KERN_BODY_PLANES_H
#define SL_KERN_BODY_PLANES_H

#include <assert.h>
#include <string.h>

#include "base/rows.h"
#include "kern/lanes.h"

#define PLANE_SPAN 16u /* columns that are opened at a time; they share a scale */

/* Number i of a row of a plane. */
SL_INLINE float plane_value(sl__dtype type, const unsigned char *row, size_t i)
{
    uint16_t half;
    float value;
    switch (type) {
    case SL_F32:
        memcpy(&value, row + 4 * i, sizeof value);
        return value;
    case SL_F8_E8M0:
        return sl__e8m0_to_f32(row[i]);
    case SL_BF16:
        memcpy(&half, row + 2 * i, sizeof half);
        return sl__bf16_to_f32(half);
    default:
        assert(type == SL_F16);
        memcpy(&half, row + 2 * i, sizeof half);
        return sl__f16_to_f32(half);
    }
}

/* Row r of a plane. */
SL_INLINE const unsigned char *plane_row(const sl__rows *w, const void *plane, uint32_t r)
{
    size_t at = (w->first + r) / w->scaling.group_rows;
    return (const unsigned char *)plane + at * w->scale_row_bytes;
}

/* Codes [first, first + count) of a row and zeros after them; first is a multiple of PLANE_SPAN.
 * Sixteen codes of b bits are 2·b whole bytes. */
SL_INLINE void affine_codes(unsigned bits, const unsigned char *row, uint32_t first, uint32_t count,
                            int32_t code[PLANE_SPAN])
{
    unsigned char bytes[24] = {0}; /* as many as eight loads of eight bytes may touch */
    row += (size_t)first / 8 * bits;
    if (count == PLANE_SPAN)
        memcpy(bytes, row, 2 * bits);
    else
        memcpy(bytes, row, (count * bits + 7) / 8);
    for (unsigned i = 0; i < PLANE_SPAN; i += 8) {
        uint64_t eight;
        memcpy(&eight, bytes + i / 8 * bits, sizeof eight);
        for (unsigned k = 0; k < 8; k++)
            code[i + k] = (int32_t)(eight >> (k * bits) & ((1u << bits) - 1u));
    }
}

SL_INLINE void affine_span(unsigned bits, const sl__rows *w, const unsigned char *row, uint32_t c,
                           uint32_t count, float scale, float bias, float out[PLANE_SPAN])
{
    int32_t code[PLANE_SPAN], offset = w->biases ? 0 : 1 << (bits - 1);
    affine_codes(bits, row, c, count, code);
    for (unsigned i = 0; i < PLANE_SPAN; i++)
        out[i] = scale * (float)(code[i] - offset) + bias;
}

/* The exponent is put right by a multiplication, which normalises subnormals too. */
SL_INLINE float f8_value(unsigned char b)
{
    uint32_t bits = (uint32_t)(b & 0x7fu) << 20;
    float magnitude;
    memcpy(&magnitude, &bits, sizeof magnitude);
    magnitude *= 0x1p+120f;
    memcpy(&bits, &magnitude, sizeof bits);
    bits = (b & 0x7fu) == 0x7fu ? 0x7fc00000u : bits;
    bits |= (uint32_t)(b & 0x80u) << 24;
    memcpy(&magnitude, &bits, sizeof magnitude);
    return magnitude;
}

SL_INLINE void f8_span(const unsigned char *row, uint32_t c, uint32_t count, float scale,
                       float out[PLANE_SPAN])
{
    unsigned char bytes[PLANE_SPAN] = {0};
    memcpy(bytes, row + c, count);
    for (unsigned i = 0; i < PLANE_SPAN; i++)
        out[i] = scale * f8_value(bytes[i]);
}

/* out = weights [first, first + count) of row r; first is a multiple of SL_GROUP. */
SL_PERHAPS void dequant_planes(const sl__rows *w, uint32_t r, uint32_t first, uint32_t count,
                           float *out)
{
    const unsigned char *row = (const unsigned char *)w->data + r * w->row_bytes;
    const unsigned char *scales = plane_row(w, w->scales, r);
    const unsigned char *biases = w->biases ? plane_row(w, w->biases, r) : NULL;
    const sl__dtype plane = w->scaling.type;
    for (uint32_t i = 0; i < count; i += PLANE_SPAN) {
        uint32_t n = count - i < PLANE_SPAN ? count - i : PLANE_SPAN, c = first + i;
        size_t at = c / w->scaling.group;
        float scale = plane_value(plane, scales, at), last[PLANE_SPAN];
        float bias = biases ? plane_value(plane, biases, at) : -0.0f; /* which changes nothing */
        float *to = n == PLANE_SPAN ? out + i : last;
        switch (w->dtype) {
        case SL_AFFINE2:
            affine_span(2, w, row, c, n, scale, bias, to);
            break;
        case SL_AFFINE3:
            affine_span(3, w, row, c, n, scale, bias, to);
            break;
        case SL_AFFINE4:
            affine_span(4, w, row, c, n, scale, bias, to);
            break;
        case SL_AFFINE5:
            affine_span(5, w, row, c, n, scale, bias, to);
            break;
        case SL_AFFINE6:
            affine_span(6, w, row, c, n, scale, bias, to);
            break;
        case SL_AFFINE8:
            affine_span(8, w, row, c, n, scale, bias, to);
            break;
        default:
            assert(w->dtype == SL_F8_E4M3);
            f8_span(row, c, n, scale, to);
        }
        if (to == last) memcpy(out + i, last, n * sizeof *out);
    }
}

#endif
