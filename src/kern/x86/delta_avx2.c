/* src/kern/body_delta.h with AVX2: the same sums in the same order, twice as wide. */
#define SL_VW 8
#include "kern/body_delta.h"

void sl__kern_avx2_delta(sl__kern *kern)
{
    fill_delta(kern);
}
