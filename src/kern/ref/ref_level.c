/* The level below all others: every entry. */
#include "kern/levels.h"

void sl__kern_ref(sl__kern *kern)
{
    sl__kern_ref_matmul(kern);
    sl__kern_ref_panels(kern);
    sl__kern_ref_rows(kern);
    sl__kern_ref_bf16(kern);
    sl__kern_ref_elementwise(kern);
    sl__kern_ref_attention(kern);
    sl__kern_ref_delta(kern);
    sl__kern_ref_fit(kern);
}
