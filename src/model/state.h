/* What a session keeps for each layer: the only place that knows its shapes.
 *
 *     attention           k, v    [context, kv_heads·D]
 *     with a window       k, v    [rows, kv_heads·D], positions base … base + rows − 1:
 *
 *         base                position    base + rows
 *         | … | window − 1 before |  free  |        full: the window − 1 rows before `position`
 *         +-----------------------+--------+        move to the front and base moves up
 *
 *     MLA                 latent  [context, kv_rank + rope.dim]
 *     Gated DeltaNet      delta   [value_heads][key_dim][value_dim],
 *                         conv    [conv_width − 1, conv width], oldest first
 *
 * Rows of a windowed cache never wrap around, so that attention reads adjacent rows. There is room
 * for two chunks, so that rows move once in a chunk of tokens at most, however they come.
 */
#ifndef SL_MODEL_STATE_H
#define SL_MODEL_STATE_H

#include "model/model.h"

typedef struct sl__layer_state {
    float *k, *v;
    float *latent;
    float *delta, *conv;
    uint32_t rows; /* of k and v, or of latent */
    uint32_t base; /* the position of row 0; 0 without a window */
} sl__layer_state;

/* Lays the state of desc->layer_count layers out from memory on, for calls of up to `chunk` tokens
 * at positions below `context`, and fills layers, whose contents are then as sl__state_reset leaves
 * them where memory is zero. memory NULL only measures; layers may be NULL then. Returns the bytes
 * it takes, UINT64_MAX where they overflow. */
uint64_t sl__state_layout(sl__layer_state *layers, const sl__model_desc *desc, uint32_t context,
                          uint32_t chunk, void *memory);

/* Back to position 0. */
void sl__state_reset(sl__layer_state *layers, const sl__model_desc *desc);

/* The row of k and v for `position`, with room for `tokens` rows from there on. A token sees itself
 * and the window - 1 before it (window 0: all): those rows are there. width: floats a row. */
uint32_t sl__state_row(sl__layer_state *state, uint32_t window, size_t width, uint32_t position,
                       uint32_t tokens);

/* Bytes that a layer's state grows by with each token of context; a windowed cache does not. */
uint64_t sl__state_token_bytes(const sl__layer_desc *layer);

#endif
