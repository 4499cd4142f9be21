/* The level that every machine has: src/kern/body_elementwise.h at the compiler's baseline. */
#define SL_VW 4
#include "kern/body_elementwise.h"

void sl__kern_ref_elementwise(sl__kern *kern)
{
    fill_elementwise(kern);
}
