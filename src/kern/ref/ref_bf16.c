/* Activations rounded to bf16, and their products with weights in bf16: the definition. */
#define SL_VW                 4
#define SL_BF16_TOKENS        2u
#define SL_BF16_MADD(a, b, c) ((a) * (b) + (c))

#include "kern/bf16_floats.h"
#include "kern/levels.h"

SL_INLINE void bf16_fold(const vec s[4], float out[4])
{
    for (unsigned i = 0; i < 4; i++)
        out[i] = (s[i][0] + s[i][2]) + (s[i][1] + s[i][3]);
}

#include "kern/body_bf16.h"

void sl__kern_ref_bf16(sl__kern *kern)
{
    kern->round_bf16 = round_rows;
    kern->matmul_bf16 = matmul_bf16;
    kern->bf16_tokens = 1;
}
