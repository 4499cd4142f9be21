/* Encoders: rows of floats → rows of a weight type (base/dtype.h describes the bytes). */
#ifndef SL_QUANT_QUANT_H
#define SL_QUANT_QUANT_H

#include <stdint.h>

#include "base/dtype.h"
#include "sluice.h"

/* Encodes one row: x[cols] → row, sl__dtype_row_bytes(type, cols) bytes, fully written.
 * F32, F16, BF16: rounded to nearest, ties to even. Grouped types: per block of 64, scale and
 * minimum are stored as bf16 and the codes are chosen against the stored values, so the rounding of
 * scale and minimum costs no accuracy of its own; q8's error is at most 0.51 of a step at any
 * weight (plus float's own rounding, which shows where a block's values differ in their last digits
 * only), and narrower types search scale and minimum for the least squared error.
 * A NaN or an infinity, or a value beyond the type's range (for grouped types: a block that
 * scale * code + minimum would cover only by leaving float), is SL_ENUMERIC (err says at which
 * column); a type without an encoder (sl__dtype_has_encoder) is SL_EUNSUPPORTED. The result depends
 * on the input alone. Allocates nothing. */
sl_status sl__quant_row(sl__dtype type, const float *x, uint32_t cols, void *row, sl_error *err);

#endif
