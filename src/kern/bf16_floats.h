/* Products of pairs of bf16 numbers as multiply-adds of floats, for body_bf16.h: the low half of a
 * pair first. A file that includes this defines SL_BF16_MADD(a, b, c): a·b + c, fused or not. */
#ifndef SL_KERN_BF16_FLOATS_H
#define SL_KERN_BF16_FLOATS_H

#include "kern/bf16_pairs.h"

typedef struct opened {
    vec low, high;
} opened;

SL_INLINE opened bf16_open(pairs p)
{
    return (opened){(vec)(p << 16), (vec)(p & 0xffff0000u)};
}

SL_INLINE vec bf16_add(vec s, opened w, opened x)
{
    return SL_BF16_MADD(w.high, x.high, SL_BF16_MADD(w.low, x.low, s));
}

#endif
