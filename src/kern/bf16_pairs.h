/* Rounding activations to bf16 as rows, and vectors of pairs of such numbers. Private to the files
 * under kern/ that multiply them; each defines SL_VW first. */
#ifndef SL_KERN_BF16_PAIRS_H
#define SL_KERN_BF16_PAIRS_H

#include "kern/kern.h"
#include "kern/lanes.h"

typedef uint32_t pairs __attribute__((vector_size(SL_VW * 4)));

/* As sl__f32_to_bf16, but for what is below the normal numbers; without a branch. */
SL_INLINE uint16_t round_number(const float *x)
{
    uint32_t u;
    memcpy(&u, x, sizeof u);
    const uint32_t size = u & 0x7fffffffu;
    const uint32_t nearest = (u + 0x7fffu + (u >> 16 & 1u)) >> 16, nan = u >> 16 | 0x40u;
    const uint32_t number = size > 0x7f800000u ? nan : nearest;
    return (uint16_t)(size < 0x00800000u ? u >> 16 & 0x8000u : number);
}

SL_PERHAPS void round_rows(const float *x, size_t x_stride, uint32_t cols, uint32_t tokens,
                           void *out)
{
    const size_t row = sl__bf16_row(cols);
    uint16_t *to = out;
    for (uint32_t t = 0; t < tokens; t++, x += x_stride, to += row) {
        for (uint32_t c = 0; c < cols; c++)
            to[c] = round_number(x + c);
        memset(to + cols, 0, (row - cols) * sizeof *to);
    }
}

#endif
