/* Encoders: rows of floats → rows of a weight type (base/dtype.h describes the bytes). */
#ifndef SL_QUANT_QUANT_H
#define SL_QUANT_QUANT_H

#include <stdint.h>

#include "base/rows.h"
#include "kern/kern.h"
#include "sluice.h"

/* Encodes one row: x[cols] → row, sl__dtype_row_bytes(type, cols) bytes, fully written; scales: for
 * mxfp4 its row of the plane of scales (cols / SL_MX_GROUP bytes), else not looked at. kern: any
 * level of kernels, not needed for F32, F16 and BF16.
 *
 * F32, F16, BF16: rounded to nearest, ties to even. All others: scales and minimums are rounded
 * first, and codes are chosen against them as stored, so that rounding them costs no accuracy of
 * its own. q8's error is at most 0.51 of a step at any weight (plus float's own rounding, which
 * shows where a block's values differ in their last digits only); all others search for the least
 * squared error, unweighted: docs/internals/quant.md has what they reach.
 *
 * SL_ENUMERIC (err says at which column): a NaN, an infinity, or a value beyond the type's range:
 * for grouped types a block that scale * code + minimum would cover only by leaving float; for
 * those with halves as scales what their largest does not reach on both sides of zero. What is
 * too small for a half as scale becomes 0, or the smallest weight there is.
 * SL_EUNSUPPORTED: a type without an encoder (sl__dtype_has_encoder); cols that are no multiple of
 * the block of mxfp4 or of one of GGUF's types.
 * The result depends on the input alone: not on the level of kern. Allocates nothing. */
sl_status sl__quant_row(const sl__kern *kern, sl__dtype type, const float *x, uint32_t cols,
                        void *row, void *scales, sl_error *err);

/* Whether rows of a type with such planes are, number for number, rows of a grouped type: of which.
 */
bool sl__regroup_type(sl__dtype type, const sl__scaling *scaling, sl__dtype *out);
/* Row r of such a matrix as a row of that type, fully written. */
void sl__regroup_row(const sl__rows *w, uint32_t r, uint32_t cols, void *row);

#endif
