/* The encoders of the families of types, for quant.c. Private to quant. Values are finite; where
 * the scales are halves, none is beyond what they reach. */
#ifndef SL_QUANT_ENCODERS_H
#define SL_QUANT_ENCODERS_H

#include "kern/kern.h"

/* To nearest, ties to even; infinity where |x| rounds above 65504. x is finite. */
uint16_t sl__f32_to_f16(float x);

/* q8, q4, q3, q2. False where the decoder would leave the range of float; *at is the column. */
bool sl__encode_grouped(const sl__kern *kern, sl__dtype type, const float *x, uint32_t cols,
                        uint8_t *row, uint32_t *at);

/* count blocks of 32 weights: q4_0 to mxfp4_block, and mxfp4, whose scales lie apart. */
void sl__encode_blocks(const sl__kern *kern, sl__dtype type, const float *x, uint32_t count,
                       uint8_t *row, uint8_t *scales);

/* count blocks of 256 weights: q2_k to iq4_xs. */
void sl__encode_super_blocks(const sl__kern *kern, sl__dtype type, const float *x, uint32_t count,
                             uint8_t *row);

/* The values of iq4's codes, and 16 bytes of codes for 32 of them. */
extern const float sl__iq4_values[SL_FIT_VALUES];
void sl__put_iq4_codes(const int8_t *value, uint8_t *p);
void sl__put_half(uint8_t *p, float x);

#endif
