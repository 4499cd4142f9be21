/* Weights in rows and activations of 8 bits with AVX-VNNI. */
#define SL_VW 8
#include "kern/x86/rows_vnni.h"

void sl__kern_avxvnni_rows(sl__kern *kern)
{
    kern->matmul_q8 = matmul_q8;
}
