/* How cached keys and values lie in memory: blocks of 32 positions, so that attention never sums
 * across a vector and reads memory from one end to the other. One KV head:
 *
 *     keys      a block is rows, one a channel, of 32 positions
 *
 *               block 0: positions 0 … 31              block 1: 32 … 63
 *               channel 0   | p0  p1  p2  …  p31 |     | p32 p33 …  p63 |
 *               channel 1   | p0  p1  p2  …  p31 |     | p32 p33 …  p63 |   scores of 32 positions
 *               …                                                          += q[channel] · a row
 *               channel D-1 | p0  p1  p2  …  p31 |     …
 *
 *     values    a block is panels, one every 32 channels, of rows, one a position
 *
 *               block 0, panel 0: channels 0 … 31      panel 1: channels 32 … 63
 *               position 0  | c0  c1  c2  …  c31 |     | c32 c33 …  c63 |
 *               position 1  | c0  c1  c2  …  c31 |     | c32 c33 …  c63 |   32 channels of the sum
 *               …                                                          += p[position] · a row
 *               position 31 | c0  c1  c2  …  c31 |     …
 *
 * Both are products with panels of rows of 32 numbers. The last panel of values is as wide as the
 * others; what lies behind the last channel is zero. Numbers are f32, f16 (IEEE halves, cut to the
 * largest finite one) or q8: then every 64 channels of a block begin with a scale for each of its
 * positions, and a number is scale · code:
 *
 *     q8        [scales f32 × 32 | 64 channels of codes, laid out as above] [scales | codes] …
 *
 * A NaN or an infinity comes back as something that is not finite, of q8 in its whole group; but an
 * infinity in f16 comes back as the largest half.
 */
#ifndef SL_KERN_KV_BLOCKS_H
#define SL_KERN_KV_BLOCKS_H

#include <stddef.h>
#include <stdint.h>

#include "sluice.h"

#define SL_KV_BLOCK 32u /* positions of a block, and channels of a panel of values */
#define SL_KV_GROUP 64u /* channels that share a position's scale, q8 */

/* Bytes of one block of a KV head with `dim` channels. No overflow for any dim. */
uint64_t sl__kv_key_bytes(sl_kv_type type, uint32_t dim);
uint64_t sl__kv_value_bytes(sl_kv_type type, uint32_t dim);

/* Puts x[dim] at place `slot` < SL_KV_BLOCK of a block; the other places keep what they hold.
 * Different slots must not be stored at once. The same bytes on every level. */
void sl__kv_store_key(sl_kv_type type, void *block, uint32_t slot, const float *x, uint32_t dim);
void sl__kv_store_value(sl_kv_type type, void *block, uint32_t slot, const float *x, uint32_t dim);

/* ---- halves ---------------------------------------------------------------------------------- */

uint16_t sl__kv_half(float x); /* the nearest, ties to even; beyond ±65504 that */

#endif
