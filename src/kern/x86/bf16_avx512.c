/* src/kern/body_bf16.h with AVX-512: products as fused multiply-adds of sixteen floats. */
#include <immintrin.h>

#define SL_VW                 16
#define SL_BF16_TOKENS        4u
#define SL_BF16_MADD(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))

#include "kern/bf16_floats.h"
#include "kern/levels.h"
#include "kern/x86/bf16_fold.h"

#include "kern/body_bf16.h"

void sl__kern_avx512_bf16(sl__kern *kern)
{
    kern->round_bf16 = round_rows;
    kern->matmul_bf16 = matmul_bf16;
}
