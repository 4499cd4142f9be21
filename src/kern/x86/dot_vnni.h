/* Dot products of bytes by VNNI, for body_panels.h: an instruction multiplies the bytes of a vector
 * and adds the four products of each row to its sum, exactly, so that nothing is left to do. */
#ifndef SL_KERN_X86_DOT_VNNI_H
#define SL_KERN_X86_DOT_VNNI_H

#include "kern/x86/panel_codes.h"

#define SL_DOT_QUADS    QUADS
#define SL_DOT_IN_PLACE 1
#define SL_DOT_ONE_KIND 1

SL_INLINE ivec dot_add(sl__dtype type, ivec s, ivec codes, ivec x)
{
    (void)type;
#if SL_VW == 16
    return (ivec)_mm512_dpbusd_epi32((__m512i)s, (__m512i)codes, (__m512i)x);
#else
    return (ivec)_mm256_dpbusd_avx_epi32((__m256i)s, (__m256i)codes, (__m256i)x);
#endif
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

#endif
