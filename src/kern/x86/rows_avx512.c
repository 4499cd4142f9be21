/* Weights in rows and activations of 8 bits with AVX-512. */
#define SL_VW 16
#include "kern/x86/rows_pairs.h"

void sl__kern_avx512_rows(sl__kern *kern)
{
    kern->matmul_q8 = matmul_q8;
}
