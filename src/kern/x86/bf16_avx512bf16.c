/* src/kern/body_bf16.h with AVX512-BF16: one instruction multiplies 32 numbers and adds the two
 * products of each pair to its lane. Numbers below the normal ones are 0 to it. */
#include <immintrin.h>

#define SL_VW          16
#define SL_BF16_TOKENS 4u

#include "kern/bf16_pairs.h"
#include "kern/levels.h"
#include "kern/x86/bf16_fold.h"
#include "kern/x86/bf16_round.h"

typedef __m512bh opened;

SL_INLINE opened bf16_open(pairs p)
{
    return (__m512bh)p;
}

SL_INLINE vec bf16_add(vec s, opened w, opened x)
{
    return (vec)_mm512_dpbf16_ps((__m512)s, w, x);
}

#include "kern/body_bf16.h"

static void round_bf16(const float *x, size_t x_stride, uint32_t cols, uint32_t tokens, void *out)
{
    char *to = out;
    for (uint32_t t = 0; t < tokens; t++, x += x_stride) {
        for (uint32_t c = 0; c < cols; c += 32, to += 64)
            _mm512_storeu_si512(to, round_step(x + c, cols - c));
    }
}

void sl__kern_avx512bf16_bf16(sl__kern *kern)
{
    kern->round_bf16 = round_bf16;
    kern->matmul_bf16 = matmul_bf16;
}
