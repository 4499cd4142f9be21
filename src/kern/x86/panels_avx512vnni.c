/* Panels and activations of 8 bits with AVX-512 VNNI: an instruction multiplies the 64 bytes of a
 * vector and adds four products to each of 16 rows, exactly. */
#define SL_VW 16
#include "kern/x86/dot_vnni.h"

#include "kern/x86/body_panels.h"

void sl__avx512vnni_panel_matmul_q8(sl__dtype type, const void *w, size_t row_bytes, uint32_t rows,
                                    uint32_t cols, const void *x, uint32_t tokens, float *y,
                                    size_t y_stride, float *tmp)
{
    panel_matmul_q8(type, w, row_bytes, rows, cols, x, tokens, y, y_stride, tmp);
}

void sl__kern_avx512vnni_panels(sl__kern *kern)
{
    kern->panel_matmul_q8 = sl__avx512vnni_panel_matmul_q8;
}
