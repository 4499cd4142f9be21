/* The MoE block's inside, shared by moe.c and experts.c. */
#ifndef SL_MODEL_MOE_H
#define SL_MODEL_MOE_H

#include "model/run.h"

/* One layer's block over one chunk. */
typedef struct sl__moe {
    sl__run *run;
    const sl__moe_desc *m;
    const sl__expert_layout *layout; /* NULL: a dense layer */
    uint32_t layer, tokens;
    uint32_t unique_count; /* experts that the chunk's tokens go to */
} sl__moe;

/* The feed-forward networks of count (1 to SL_EXPERT_BATCH_MAX) experts, each over its own rows:
 * gathers the tokens into scratch.moe.rows and leaves the outputs there. */
void sl__experts_run(const sl__moe *moe, const sl__expert_ref *refs, uint32_t count);

/* The shared expert over all tokens: scratch.moe.shared_out, and shared_scale where it is gated. */
void sl__shared_run(const sl__moe *moe);

#endif
