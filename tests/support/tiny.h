/* The tiny checkpoints of all families with every mixer between them, made to run further than they
 * were written for, so that what changes at some position can be tried around it. */
#ifndef SL_TEST_TINY_H
#define SL_TEST_TINY_H

#include <stddef.h>
#include <stdint.h>

#include "sluice.h"

/* DeltaNet with attention, attention with windows and sinks, plain attention, MLA. */
#define TINY_MODELS 4u
extern const char *const tiny_models[TINY_MODELS]; /* folders, seen from tests/ */

#define TINY_CONTEXT 2048u
#define TINY_VOCAB 512u

/* Makes dir a copy of a tiny model that knows TINY_CONTEXT positions. */
void tiny_copy(const char *model, const char *dir);
/* The same as a pack of q4 experts and q8 for the rest. */
void tiny_pack(const char *model, const char *dir);

/* ids[count] of a random text; the same for the same seed. */
void tiny_ids(uint64_t seed, int32_t *ids, size_t count);

#endif
