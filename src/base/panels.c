/* Rows in and out of panels. Four bytes of a row's codes go to a vector as they are; only the bits
 * that q3 has behind them are put elsewhere. */
#include "base/panels.h"

#include <assert.h>

#define HEAD   ((size_t)2 * SL_PANEL_ROWS * sizeof(uint16_t)) /* scales and minima of a block */
#define VECTOR ((size_t)4 * SL_PANEL_ROWS)

/* Bytes of a row's block that move in fours. */
static size_t plain_bytes(sl__dtype type)
{
    return type == SL_Q8 ? 64 : type == SL_Q4 ? 32 : 16;
}

/* Where the bit 2 of a column's code is: in a row's block, and in a panel's. */
static unsigned char *row_bit(unsigned char *codes, unsigned c, unsigned *shift)
{
    *shift = c % 8;
    return codes + 16 + c / 8;
}

static unsigned char *panel_bit(unsigned char *codes, unsigned c, uint32_t r, unsigned *shift)
{
    const unsigned vector = c % 16 / 4; /* of the four with the low bits */
    *shift = vector % 2 * 4 + c / 16;
    return codes + (4 + vector / 2) * VECTOR + 4 * r + c % 4;
}

static void move_bit(const unsigned char *from, unsigned from_shift, unsigned char *to,
                     unsigned to_shift)
{
    unsigned bit = (unsigned)*from >> from_shift & 1u;
    *to = (unsigned char)((*to & ~(1u << to_shift)) | bit << to_shift);
}

void sl__panel_put_row(sl__dtype type, const void *row, uint32_t cols, void *panel, uint32_t r)
{
    const unsigned char *from = row;
    unsigned char *to = panel;
    const size_t bytes = sl__dtype_block_bytes(type), plain = plain_bytes(type);
    assert(sl__dtype_has_panels(type) && r < SL_PANEL_ROWS);
    for (uint32_t c = 0; c < cols; c += SL_GROUP) {
        memcpy(to + 2 * r, from, 2);
        memcpy(to + HEAD / 2 + 2 * r, from + 2, 2);
        for (size_t i = 0; i < plain; i += 4)
            memcpy(to + HEAD + i / 4 * VECTOR + 4 * r, from + 4 + i, 4);
        for (unsigned i = 0; type == SL_Q3 && i < SL_GROUP; i++) {
            unsigned in, out;
            const unsigned char *bit = row_bit((unsigned char *)from + 4, i, &in);
            unsigned char *place = panel_bit(to + HEAD, i, r, &out);
            move_bit(bit, in, place, out);
        }
        from += bytes;
        to += SL_PANEL_ROWS * bytes;
    }
}

void sl__panel_get_row(sl__dtype type, const void *panel, uint32_t r, uint32_t cols, void *row)
{
    const unsigned char *from = panel;
    unsigned char *to = row;
    const size_t bytes = sl__dtype_block_bytes(type), plain = plain_bytes(type);
    assert(sl__dtype_has_panels(type) && r < SL_PANEL_ROWS);
    for (uint32_t c = 0; c < cols; c += SL_GROUP) {
        memcpy(to, from + 2 * r, 2);
        memcpy(to + 2, from + HEAD / 2 + 2 * r, 2);
        for (size_t i = 0; i < plain; i += 4)
            memcpy(to + 4 + i, from + HEAD + i / 4 * VECTOR + 4 * r, 4);
        for (unsigned i = 0; type == SL_Q3 && i < SL_GROUP; i++) {
            unsigned in, out;
            const unsigned char *bit = panel_bit((unsigned char *)from + HEAD, i, r, &in);
            unsigned char *place = row_bit(to + 4, i, &out);
            move_bit(bit, in, place, out);
        }
        from += SL_PANEL_ROWS * bytes;
        to += bytes;
    }
}
