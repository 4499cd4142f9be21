/* Rows in and out of panels, a code at a time: it is done when a pack is written and for single
 * rows, never for a product. */
#include "base/panels.h"

#include <assert.h>

#define HEAD (2 * SL_PANEL_ROWS * sizeof(uint16_t)) /* scales and minima of a block */

/* ---- codes in a block of a row --------------------------------------------------------------- */

static unsigned get_code(sl__dtype type, const unsigned char *codes, unsigned c)
{
    switch (type) {
    case SL_Q8: return codes[c];
    case SL_Q4: return codes[c % 32] >> (c / 32 * 4) & 15u;
    case SL_Q3:
        return (codes[c % 16] >> (c / 16 * 2) & 3u) | (codes[16 + c / 8] >> c % 8 & 1u) << 2;
    default: return codes[c % 16] >> (c / 16 * 2) & 3u;
    }
}

static void set_bits(unsigned char *byte, unsigned shift, unsigned mask, unsigned value)
{
    *byte = (unsigned char)((*byte & ~(mask << shift)) | value << shift);
}

static void set_code(sl__dtype type, unsigned char *codes, unsigned c, unsigned code)
{
    switch (type) {
    case SL_Q8: codes[c] = (unsigned char)code; return;
    case SL_Q4: set_bits(&codes[c % 32], c / 32 * 4, 15, code); return;
    case SL_Q3:
        set_bits(&codes[16 + c / 8], c % 8, 1, code >> 2);
        set_bits(&codes[c % 16], c / 16 * 2, 3, code & 3u);
        return;
    default: set_bits(&codes[c % 16], c / 16 * 2, 3, code);
    }
}

/* ---- codes in a block of a panel ------------------------------------------------------------- */

/* The byte of a column's code, among the vectors of its kind that hold `columns` columns. */
static size_t place(unsigned c, unsigned columns, uint32_t r)
{
    unsigned within = c % columns;
    return (size_t)within / 4 * 64 + 4 * r + within % 4;
}

/* Of q3's high bits, behind the four vectors of low ones. */
static size_t high_place(unsigned c, uint32_t r)
{
    return 4 * 64 + (size_t)(c % 16 / 8) * 64 + 4 * r + c % 4;
}

static unsigned high_shift(unsigned c) { return c % 16 / 4 % 2 * 4 + c / 16; }

static unsigned get_panel_code(sl__dtype type, const unsigned char *codes, unsigned c, uint32_t r)
{
    switch (type) {
    case SL_Q8: return codes[place(c, 64, r)];
    case SL_Q4: return codes[place(c, 32, r)] >> (c / 32 * 4) & 15u;
    case SL_Q3:
        return (codes[place(c, 16, r)] >> (c / 16 * 2) & 3u) |
               (codes[high_place(c, r)] >> high_shift(c) & 1u) << 2;
    default: return codes[place(c, 16, r)] >> (c / 16 * 2) & 3u;
    }
}

static void set_panel_code(sl__dtype type, unsigned char *codes, unsigned c, uint32_t r,
                           unsigned code)
{
    switch (type) {
    case SL_Q8: codes[place(c, 64, r)] = (unsigned char)code; return;
    case SL_Q4: set_bits(&codes[place(c, 32, r)], c / 32 * 4, 15, code); return;
    case SL_Q3:
        set_bits(&codes[high_place(c, r)], high_shift(c), 1, code >> 2);
        set_bits(&codes[place(c, 16, r)], c / 16 * 2, 3, code & 3u);
        return;
    default: set_bits(&codes[place(c, 16, r)], c / 16 * 2, 3, code);
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

void sl__panel_put_row(sl__dtype type, const void *row, uint32_t cols, void *panel, uint32_t r)
{
    const unsigned char *from = row;
    unsigned char *to = panel;
    const size_t bytes = sl__dtype_block_bytes(type);
    assert(sl__dtype_has_panels(type) && r < SL_PANEL_ROWS);
    for (uint32_t c = 0; c < cols; c += SL_GROUP) {
        memcpy(to + 2 * r, from, 2);
        memcpy(to + HEAD / 2 + 2 * r, from + 2, 2);
        for (unsigned i = 0; i < SL_GROUP; i++)
            set_panel_code(type, to + HEAD, i, r, get_code(type, from + 4, i));
        from += bytes;
        to += SL_PANEL_ROWS * bytes;
    }
}

void sl__panel_get_row(sl__dtype type, const void *panel, uint32_t r, uint32_t cols, void *row)
{
    const unsigned char *from = panel;
    unsigned char *to = row;
    const size_t bytes = sl__dtype_block_bytes(type);
    assert(sl__dtype_has_panels(type) && r < SL_PANEL_ROWS);
    for (uint32_t c = 0; c < cols; c += SL_GROUP) {
        memcpy(to, from + 2 * r, 2);
        memcpy(to + 2, from + HEAD / 2 + 2 * r, 2);
        memset(to + 4, 0, bytes - 4);
        for (unsigned i = 0; i < SL_GROUP; i++)
            set_code(type, to + 4, i, get_panel_code(type, from + HEAD, i, r));
        from += SL_PANEL_ROWS * bytes;
        to += bytes;
    }
}
