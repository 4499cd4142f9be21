/* The dot products of bytes of AVX-512 VNNI, and body_panels.h over them: for the level of that
 * name, and for AMX, which leaves few tokens to it. */
#ifndef SL_KERN_X86_DOT_AVX512VNNI_H
#define SL_KERN_X86_DOT_AVX512VNNI_H

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

#endif
