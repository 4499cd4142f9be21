/* GGUF's block types as floats, by way of their codes (block_codes.h). The file that includes this
 * is a level's, and defines what the level does in a way of its own. */
#ifndef SL_KERN_BODY_BLOCKS_H
#define SL_KERN_BODY_BLOCKS_H

#include "kern/block_codes.h"
#include "kern/body_matmul.h"

/* What the level defines: out = a group's weights. */
SL_INLINE void store_weights(const block_codes *o, float out[SL_GROUP]);

/* open_codes for any type, not in line: its code would be most of what calls it. */
static __attribute__((noinline)) void open_any(sl__dtype type, size_t bytes,
                                               const unsigned char *row, size_t group,
                                               uint32_t count, block_codes *o)
{
    open_codes(type, bytes, row, group, count, o);
}

/* out = weights [first, first + count) of a row; first % SL_GROUP == 0. */
static void dequant_blocks(sl__dtype type, const unsigned char *row, uint32_t first, uint32_t count,
                           float *out)
{
    const size_t bytes = sl__dtype_block_bytes(type);
    block_codes o;
    float last[SL_GROUP];
    for (uint32_t c = 0; c < count; c += SL_GROUP) {
        uint32_t n = count - c < SL_GROUP ? count - c : SL_GROUP;
        open_any(type, bytes, row, (first + c) / SL_GROUP, n, &o);
        store_weights(&o, n == SL_GROUP ? out + c : last);
        if (n < SL_GROUP) memcpy(out + c, last, n * sizeof *out);
    }
}

#endif
