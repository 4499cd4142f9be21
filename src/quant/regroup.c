/* Rows of affine codes as rows of a grouped type, where they are the same numbers: codes of 2, 3, 4
 * or 8 bits whose groups are whole blocks, with scales in bf16.
 *
 *     affine   scale[g] · code + bias[g], or scale[g] · (code − 2^(b−1))
 *     block    scale · code + minimum, the minimum being the bias, or −2^(b−1) · scale
 *
 * Products of 8 bits of a scale and 8 of a code, and that sum of them, are exact in float32. (Where
 * there are no biases and a scale is negative, a weight of 0 has the other sign.)
 */
#include <assert.h>
#include <string.h>

#include "quant/quant.h"

bool sl__regroup_type(sl__dtype type, const sl__scaling *scaling, sl__dtype *out)
{
    if (scaling->type != SL_BF16 || scaling->group < SL_GROUP || scaling->group_rows != 1) {
        return false;
    }
    switch (type) {
    case SL_AFFINE2: *out = SL_Q2; return true;
    case SL_AFFINE3: *out = SL_Q3; return true;
    case SL_AFFINE4: *out = SL_Q4; return true;
    case SL_AFFINE8: *out = SL_Q8; return true;
    default: return false;
    }
}

/* Code c of a row; it may lie in two bytes. */
static unsigned code_at(const unsigned char *row, unsigned bits, size_t c)
{
    size_t at = c * bits;
    unsigned word = row[at / 8], shift = (unsigned)(at % 8);
    if (shift + bits > 8) word |= (unsigned)row[at / 8 + 1] << 8;
    return word >> shift & ((1u << bits) - 1u);
}

/* The codes of a block, as base/dtype.h has them. */
static void put_codes(unsigned bits, const unsigned char code[SL_GROUP], unsigned char *out)
{
    for (unsigned i = 0; i < SL_GROUP; i++) {
        switch (bits) {
        case 8: out[i] = code[i]; break;
        case 4: out[i % 32] |= (unsigned char)(code[i] << (i / 32 * 4)); break;
        default:
            out[i % 16] |= (unsigned char)((code[i] & 3u) << (i / 16 * 2));
            if (bits == 3) out[16 + i / 8] |= (unsigned char)((code[i] >> 2) << (i % 8));
        }
    }
}

static uint16_t half_at(const void *plane, size_t i)
{
    uint16_t half;
    memcpy(&half, (const char *)plane + 2 * i, sizeof half);
    return half;
}

void sl__regroup_row(const sl__rows *w, uint32_t r, uint32_t cols, void *row)
{
    sl__dtype to = SL_Q8;
    bool can = sl__regroup_type(w->dtype, &w->scaling, &to);
    assert(can);
    (void)can;
    unsigned bits = sl__dtype_affine_bits(w->dtype);
    const unsigned char *codes = (const unsigned char *)w->data + r * w->row_bytes;
    size_t plane = r * w->scale_row_bytes, block_bytes = sl__dtype_block_bytes(to);
    unsigned char *out = row;
    for (uint32_t c = 0; c < cols; c += SL_GROUP, out += block_bytes) {
        unsigned char code[SL_GROUP] = {0};
        uint32_t n = cols - c < SL_GROUP ? cols - c : SL_GROUP;
        size_t group = c / w->scaling.group;
        uint16_t scale = half_at((const char *)w->scales + plane, group);
        float least = -(float)(1u << (bits - 1)) * sl__bf16_to_f32(scale);
        uint16_t minimum = w->biases ? half_at((const char *)w->biases + plane, group)
                                     : sl__f32_to_bf16(least);
        for (uint32_t i = 0; i < n; i++)
            code[i] = (unsigned char)code_at(codes, bits, (size_t)c + i);
        memset(out, 0, block_bytes);
        memcpy(out, &scale, sizeof scale);
        memcpy(out + 2, &minimum, sizeof minimum);
        put_codes(bits, code, out + 4);
    }
}
