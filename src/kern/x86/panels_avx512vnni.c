/* Panels and activations of 8 bits with AVX-512 VNNI: an instruction multiplies the 64 bytes of a
 * vector and adds four products to each of 16 rows, exactly. */
#include "kern/x86/dot_avx512vnni.h"

void sl__kern_avx512vnni_panels(sl__kern *kern)
{
    kern->panel_matmul_q8 = panel_matmul_q8;
}
