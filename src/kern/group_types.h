/* Bytes of a group of 64 weights, by type; what all levels above ref open. */
#ifndef SL_KERN_GROUP_TYPES_H
#define SL_KERN_GROUP_TYPES_H

#include "kern/body_blocks.h"

SL_INLINE uint32_t group_bytes(sl__dtype type) /* of 64 weights */
{
    switch (type) {
    case SL_F32: return 256;
    case SL_F16:
    case SL_BF16: return 128;
    case SL_Q8: return 68;
    case SL_Q4: return 36;
    case SL_Q3: return 28;
    case SL_MXFP4: return 32;
    default: return 20;
    }
}

SL_INLINE uint32_t block_bytes(sl__dtype type) /* of the block types that are opened in line */
{
    switch (type) {
    case SL_Q4_0: return 18;
    case SL_Q8_0: return 34;
    case SL_Q4_K: return 144;
    case SL_Q5_K: return 176;
    default: return 210; /* q6_k */
    }
}

/* The scales `groups` groups on; NULL where the type has none apart. */
SL_INLINE const unsigned char *scales_at(sl__dtype type, const unsigned char *s, size_t groups)
{
    return type == SL_MXFP4 ? s + groups * (SL_GROUP / SL_MX_GROUP) : NULL;
}

#endif
