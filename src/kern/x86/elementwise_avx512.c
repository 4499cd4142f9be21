/* src/kern/body_elementwise.h with AVX-512: the same sums in the same order, all sixteen lanes in
 * one vector. */
#define SL_VW 16
#include "kern/body_elementwise.h"

void sl__kern_avx512_elementwise(sl__kern *kern)
{
    fill_elementwise(kern);
}
