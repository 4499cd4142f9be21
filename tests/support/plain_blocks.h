/* GGUF's blocks once more, a weight at a time and by the formulas of the format alone: what the
 * kernels are held to. The grids are the library's; test_gguf_blocks.c checks those. */
#ifndef SL_TEST_PLAIN_BLOCKS_H
#define SL_TEST_PLAIN_BLOCKS_H

#include <stdint.h>

#include "base/dtype.h"

float plain_half(uint16_t h);
/* Weight c of a row of a block type. */
float plain_block_weight(sl__dtype type, const unsigned char *row, uint32_t c);
/* Makes the scales of one block of random bytes finite, so that weights are about 1 in size. */
void tame_block(sl__dtype type, unsigned char *block);
/* Byte offsets of a block's halves (scale, then minimum), −1 for what the type has not. */
void block_halves(sl__dtype type, int at[2]);

#endif
