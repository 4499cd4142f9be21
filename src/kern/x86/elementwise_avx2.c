/* src/kern/body_elementwise.h with AVX2: the same sums in the same order, twice as wide. */
#define SL_VW 8
#include "kern/body_elementwise.h"

void sl__kern_avx2_elementwise(sl__kern *kern)
{
    fill_elementwise(kern);
}
