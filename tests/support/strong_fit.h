/* What a block of a type could cost at the least: a search that is slow and thorough, against which
 * the encoders are held. It knows types by their formulas alone, and nothing of the library's
 * search; sums are in double. */
#ifndef SL_TEST_STRONG_FIT_H
#define SL_TEST_STRONG_FIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dtype.h"

/* weight = (d·scale)·code + minimum, minimum = −dmin·min, or a half of its own. */
typedef struct strong_shape {
    sl__dtype type;
    uint32_t n, groups;                  /* weights of a group, groups of a block */
    int low, high;                       /* codes, */
    const float *values;                 /* or sixteen values */
    int scale_low, scale_high, min_high; /* integers of the groups; 1, 1, 0 where groups == 1 */
    bool has_minimum;
} strong_shape;

/* NULL: none of those. */
const strong_shape *strong_shape_of(sl__dtype type);

/* The least Σ (x − decoded)² that was found for a block. effort: 1 or more; time grows with its
 * square. */
double strong_error(const strong_shape *shape, const float *x, uint32_t effort);

#endif
