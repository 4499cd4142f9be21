/* Everything that is wrong with a model, for whoever wants to know more than the first thing.
 *
 * Code that reads a model stops at the first failure. Where it is handed a list as well, it notes
 * what it can do without (a shard that is not there, a tensor) and goes on. */
#ifndef SL_BASE_PROBLEMS_H
#define SL_BASE_PROBLEMS_H

#include "sluice.h"

#define SL_PROBLEMS_MAX 20u

typedef struct sl__problems {
    uint32_t count;                  /* of all */
    sl_error found[SL_PROBLEMS_MAX]; /* the first of them */
} sl__problems;

/* What follows from a failure, why: SL_OK where there is none or it is noted in the list (NULL:
 * nobody keeps one), else its status, err being filled. Memory that is out is never noted. */
sl_status sl__problems_pass(sl__problems *list, const sl_error *why, sl_error *err);

#endif
