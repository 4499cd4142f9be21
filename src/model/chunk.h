/* What goes through the forward pass at once: tokens of one sequence, or of several.
 *
 *     rows       | 0 … 63 | 64 … 70 | 71 | 72 |    norms, products, routers, experts: all rows at
 *     stretch         0        1      2    3       once; what a session keeps: stretch by stretch
 *
 * A stretch is adjacent tokens of one sequence. A row's results do not depend on the other rows, so
 * that a sequence cannot see what it shares a chunk with.
 */
#ifndef SL_MODEL_CHUNK_H
#define SL_MODEL_CHUNK_H

#include <stdbool.h>
#include <stdint.h>

#include "model/state.h"

#define SL_STRETCHES_MAX 64u /* of a chunk */

typedef struct sl__stretch {
    sl__layer_state *layers; /* the sequence's, of all layers; borrowed */
    uint32_t position;       /* of its first token in the sequence */
    uint32_t first, tokens;  /* rows [first, first + tokens) of the chunk; at least one */
    bool failed;             /* its rows hold numbers of no use, which others do not see */
} sl__stretch;

typedef struct sl__chunk {
    sl__stretch *stretches; /* in order of their rows, which leave no gap; no sequence twice */
    uint32_t count;         /* 1 … SL_STRETCHES_MAX */
    uint32_t tokens;        /* of all */
} sl__chunk;

/* The tasks of all stretches as one loop: end[i] are those of stretch i and of those before it. */
typedef struct sl__spread {
    uint32_t end[SL_STRETCHES_MAX];
} sl__spread;

/* The stretch that a task of the loop belongs to; *index becomes its number there. */
static inline uint32_t sl__spread_find(const sl__spread *spread, uint32_t *index)
{
    uint32_t i = 0;
    while (*index >= spread->end[i])
        i++;
    if (i > 0) *index -= spread->end[i - 1];
    return i;
}

#endif
