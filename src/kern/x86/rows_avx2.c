/* Weights in rows and activations of 8 bits with AVX2. */
#define SL_VW 8
#include "kern/x86/rows_pairs.h"

void sl__kern_avx2_rows(sl__kern *kern)
{
    kern->matmul_q8 = matmul_q8;
}
