/* src/kern/body_attention.h with AVX2: the same sums in the same order, twice as wide. */
#define SL_VW 8
#include "kern/body_attention.h"

void sl__kern_avx2_attention(sl__kern *kern)
{
    fill_attention(kern);
}
