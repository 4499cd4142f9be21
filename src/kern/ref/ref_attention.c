/* The level that every machine has: src/kern/body_attention.h at the compiler's baseline. */
#define SL_VW 4
#include "kern/body_attention.h"

void sl__kern_ref_attention(sl__kern *kern)
{
    fill_attention(kern);
}
