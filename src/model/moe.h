/* The MoE block's inside, shared by moe.c and experts.c. */
#ifndef SL_MODEL_MOE_H
#define SL_MODEL_MOE_H

#include "model/run.h"

/* One layer's block over one chunk. */
typedef struct sl__moe {
    sl__run *run;
    const sl__moe_desc *m;
    const sl__expert_layout *layout; /* NULL: a dense layer */
    sl__chunk *chunk;
    uint32_t layer, tokens; /* tokens: of the chunk */
    uint32_t unique_count; /* experts that the chunk's tokens go to */
} sl__moe;

/* The first half of a network whose matrices all take their input rounded to 8 bits:
 * inner = silu(gate·x) · up·x, rounded. */
typedef struct sl__fused {
    sl__weight gate, up; /* of one shape, in all jobs of a call */
    const void *x;       /* [tokens] of sl__q8_row_bytes(gate.cols) */
    void *inner;         /* [tokens] of sl__q8_row_bytes(gate.rows) */
    uint32_t tokens;
} sl__fused;
void sl__fused_run(const sl__run *run, const sl__fused *jobs, uint32_t count);

/* The feed-forward networks of count (1 to SL_EXPERT_BATCH_MAX) experts, each over its own rows:
 * gathers the tokens and leaves the outputs in scratch.moe.rows. */
void sl__experts_run(const sl__moe *moe, const sl__expert_ref *refs, uint32_t count);

/* Whether a layer's experts go the short way, with nothing but rounded numbers between their
 * products (experts_q8.c). */
bool sl__experts_fused(const sl__moe_desc *m, const sl__expert_layout *layout,
                       sl_activations activations);

/* What the product with that part of every expert rounds its input to. */
sl__rounding sl__part_rounding(const sl__expert_layout *layout, sl__expert_part part,
                               sl_activations activations);

/* Whether the layer's experts, or its shared expert, take what goes into their first products
 * rounded to 8 bits. */
bool sl__experts_take_q8(const sl__moe *moe);
bool sl__shared_takes_q8(const sl__moe *moe);

/* The shared expert over all tokens: scratch.moe.shared_out, and shared_scale where it is gated. */
void sl__shared_run(const sl__moe *moe);

#endif
