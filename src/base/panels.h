/* Panels: the same weights laid out for wide vectors, 16 rows of a matrix side by side.
 *
 * A matrix W[rows, cols] of q8, q4, q3 or q2 is ceil(rows / 16) panels, one after the other; the
 * spare rows of the last are zeros. A panel takes the bytes of 16 rows (base/dtype.h) and is a
 * block for each group of 64 columns, whose bytes are those of the 16 rows' blocks, regrouped:
 *
 *     block   scales bf16[16] · minima bf16[16] · codes, in vectors of 64 bytes
 *
 *     a vector     row 0        row 1        …   row 15          byte 4r + i: row r, column 4j + i
 *                  c0 c1 c2 c3  c0 c1 c2 c3  …   c0 c1 c2 c3
 *
 *     q8   16 vectors: vector j holds columns 4j … 4j + 3                          1088 bytes
 *     q4    8 vectors: vector j columns 4j … in the low halves, 32 + 4j … high      576 bytes
 *     q2    4 vectors: vector j columns 4j, 16 + 4j, 32 + 4j, 48 + 4j … from the
 *           low bits up                                                             320 bytes
 *     q3    as q2, then 2 vectors of the codes' bits 2: those of columns 16p + 4j … are bit
 *           4·(j mod 2) + p of vector j / 2                                         448 bytes
 *
 * Every block is a multiple of 64 bytes. Four bytes of a row lie together because that is what the
 * dot products of bytes add up, and 16 rows because that many sums fill the widest vector.
 */
#ifndef SL_BASE_PANELS_H
#define SL_BASE_PANELS_H

#include "base/dtype.h"

#define SL_PANEL_ROWS 16u

/* Whether matrices of the type can lie in panels. */
static inline bool sl__dtype_has_panels(sl__dtype type)
{
    return type >= SL_Q8 && type <= SL_Q2;
}

/* The rows that a matrix takes room for. */
static inline uint64_t sl__panels_rows(uint64_t rows)
{
    return (rows + SL_PANEL_ROWS - 1) / SL_PANEL_ROWS * SL_PANEL_ROWS;
}

/* The same where it lies in panels or in rows. */
static inline uint64_t sl__stored_rows(bool panels, uint64_t rows)
{
    return panels ? sl__panels_rows(rows) : rows;
}

/* Puts a row, as base/dtype.h has it, into a panel as its row r, and takes it out again. The
 * panel's other rows are left as they are. */
void sl__panel_put_row(sl__dtype type, const void *row, uint32_t cols, void *panel, uint32_t r);
void sl__panel_get_row(sl__dtype type, const void *panel, uint32_t r, uint32_t cols, void *row);

#endif
