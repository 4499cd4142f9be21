/* Dot products of bytes by VNNI, for body_rows.h: an instruction multiplies the bytes of a vector
 * and adds four products to each element, exactly. */
#ifndef SL_KERN_X86_ROWS_VNNI_H
#define SL_KERN_X86_ROWS_VNNI_H

#define SL_SIGNED 0
#include "kern/x86/row_codes.h"

SL_INLINE ivec set_long(int32_t a)
{
#if SL_VW == 16
    return (ivec)_mm512_set1_epi32(a);
#else
    return (ivec)_mm256_set1_epi32(a);
#endif
}

SL_INLINE ivec add_quads(ivec s, ivec codes, ivec x)
{
#if SL_VW == 16
    return (ivec)_mm512_dpbusd_epi32((__m512i)s, (__m512i)codes, (__m512i)x);
#else
    return (ivec)_mm256_dpbusd_avx_epi32((__m256i)s, (__m256i)codes, (__m256i)x);
#endif
}

SL_INLINE ivec quad_dots(code_kind kind, ivec codes, ivec x)
{
    (void)kind;
    return add_quads(set_long(0), codes, x);
}

SL_INLINE ivec run_dots(code_kind kind, ivec s, const ivec w[4], const unsigned char *x)
{
    (void)kind;
    for (unsigned i = 0; i < 4; i++) {
        int32_t quad;
        memcpy(&quad, x + 4 * i, sizeof quad);
        s = add_quads(s, w[i], set_long(quad));
    }
    return s;
}

#include "kern/x86/body_rows.h"

#endif
