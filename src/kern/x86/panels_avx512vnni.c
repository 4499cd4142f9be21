/* Panels and activations of 8 bits with AVX-512 VNNI: an instruction multiplies the 64 bytes of a
 * vector and adds four products to each of 16 rows, exactly. */
#define SL_VW 16
#include "kern/x86/panel_codes.h"

#define SL_DOT_QUADS    QUADS
#define SL_DOT_IN_PLACE 1
#define SL_DOT_ONE_KIND 1

SL_INLINE ivec dot_add(sl__dtype type, ivec s, ivec codes, ivec x)
{
    (void)type;
    return (ivec)_mm512_dpbusd_epi32((__m512i)s, (__m512i)codes, (__m512i)x);
}

SL_INLINE ivec dot_sum(sl__dtype type, ivec s)
{
    (void)type;
    return s;
}

SL_INLINE ivec dot_start(sl__dtype type, const sl__q8_group *group)
{
    (void)type;
    (void)group;
    return ivec_set1(0);
}

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
