/* The grids of GGUF's iq2 and iq3 blocks: an entry is the magnitudes of eight weights, or of four,
 * as bytes, the first in the lowest. */
#ifndef SL_KERN_BLOCK_GRIDS_H
#define SL_KERN_BLOCK_GRIDS_H

#include <stdint.h>

extern const uint64_t sl__grid2xxs[256], sl__grid2xs[512], sl__grid2s[1024];
extern const uint32_t sl__grid3xxs[256], sl__grid3s[512];

#endif
