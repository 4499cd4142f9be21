/* Panels and activations of 8 bits with AVX-VNNI: an instruction multiplies the 32 bytes of a
 * vector and adds four products to each of 8 rows, exactly. */
#define SL_VW 8
#include "kern/x86/dot_vnni.h"

#include "kern/x86/body_panels.h"

void sl__kern_avxvnni_panels(sl__kern *kern)
{
    kern->panel_matmul_q8 = panel_matmul_q8;
}
