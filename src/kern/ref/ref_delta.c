/* The level that every machine has: src/kern/body_delta.h at the compiler's baseline. */
#define SL_VW 4
#include "kern/body_delta.h"

void sl__kern_ref_delta(sl__kern *kern)
{
    fill_delta(kern);
}
