/* What a session keeps for each layer: the only place that knows its shapes.
 *
 *     attention           k, v    [kv_heads][rows / 32] blocks of 32 positions (kern/kv_blocks.h)
 *     with a window       the same, of positions base … base + rows − 1:
 *
 *         base                position    base + rows
 *         | … | window − 1 before |  free  |        full: the blocks with the window − 1 positions
 *         +-----------------------+--------+        before move to the front, and base moves up
 *
 *     MLA                 k       [rows / 32] blocks of keys [latent kv_rank | key rope.dim], whose
 *                                 first kv_rank channels are also the values
 *     Gated DeltaNet      delta   [value_heads][key_dim][value_dim],
 *                         conv    [conv_width − 1, conv width], oldest first
 *
 * A windowed cache never wraps around, so that attention reads adjacent blocks. There is room for
 * two chunks, so that blocks move once in a chunk of tokens at most, however they come. A block's
 * first position is always a multiple of 32.
 */
#ifndef SL_MODEL_STATE_H
#define SL_MODEL_STATE_H

#include "kern/kv_blocks.h"
#include "model/model.h"

typedef struct sl__layer_state {
    char *k, *v;         /* blocks; v NULL: MLA */
    size_t k_head_bytes; /* from one KV head's blocks to the next's */
    size_t v_head_bytes;
    sl_kv_type kv;
    float *delta, *conv;
    uint32_t rows; /* positions that there is room for, a multiple of 32 */
    uint32_t base; /* the position of the first; 0 without a window */
} sl__layer_state;

/* Lays the state of desc->layer_count layers out from memory on, for calls of up to `chunk` tokens
 * at positions below `context`, and fills layers, whose contents are then as sl__state_reset leaves
 * them where memory is zero. memory NULL only measures; layers may be NULL then. Returns the bytes
 * it takes, UINT64_MAX where they overflow. */
uint64_t sl__state_layout(sl__layer_state *layers, const sl__model_desc *desc, sl_kv_type kv,
                          uint32_t context, uint32_t chunk, void *memory);

/* Back to position 0. */
void sl__state_reset(sl__layer_state *layers, const sl__model_desc *desc);

/* Makes room for `tokens` positions from `position` on. Those that a token there sees stay: itself
 * and the window - 1 before it (window 0: all). */
void sl__state_make_room(sl__layer_state *state, const sl__layer_desc *layer, uint32_t position,
                         uint32_t tokens);

/* Stores the keys and values of `tokens` tokens from `position` on, for which there is room: row t
 * of k at k + t·k_stride and of v at v + t·v_stride, in floats, heads side by side; v is not looked
 * at where there is none. Only KV head `head` and block `block` of those that the tokens are in,
 * so that calls for different ones can run at once. */
void sl__state_store(const sl__layer_state *state, const sl__layer_desc *layer, uint32_t head,
                     uint32_t block, uint32_t position, uint32_t tokens, const float *k,
                     size_t k_stride, const float *v, size_t v_stride);
/* The blocks that the tokens are in. */
uint32_t sl__state_blocks(uint32_t position, uint32_t tokens);

/* ---- taking it apart ------------------------------------------------------------------------- */

/* What is needed of a layer to go on at `position`, in parts that each lie together: of every KV
 * head the blocks of keys that are still seen, then the same of values; or delta, then conv. */
typedef struct sl__state_part {
    char *data;
    uint64_t bytes;
} sl__state_part;
uint32_t sl__state_part_count(const sl__layer_desc *layer);
/* Bytes of each part at `position`, whose layer's state is not looked at. */
uint64_t sl__state_part_bytes(const sl__layer_desc *layer, sl_kv_type kv, uint32_t index,
                              uint32_t position);
/* Part `index` of a state that is at `position`. */
sl__state_part sl__state_part_of(const sl__layer_state *state, const sl__layer_desc *layer,
                                 uint32_t index, uint32_t position);
/* Makes the state one at `position` whose parts hold anything, to be filled. */
void sl__state_place(sl__layer_state *state, const sl__layer_desc *layer, uint32_t position);
/* Zeroes the places of the last block behind `position`, which hold what was there before. zeros:
 * sl__state_width floats. */
void sl__state_blank(const sl__layer_state *state, const sl__layer_desc *layer, uint32_t position,
                     const float *zeros);
uint32_t sl__state_width(const sl__layer_desc *layer);

/* Bytes that a layer's state grows by with each token of context; a windowed cache does not. */
uint64_t sl__state_token_bytes(const sl__layer_desc *layer, sl_kv_type kv);

#endif
