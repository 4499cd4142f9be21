/* What the tensors of a checkpoint are called, and how its packed weights are to be read, by whose
 * conventions it was written. The store's inside.
 *
 *     in the file                                     in the store
 *     P.weight u32, P.scales, P.biases            ->  P.weight, P.weight#scales, P.weight#biases
 *     X.weight f8_e4m3, X.weight_scale_inv        ->  X.weight, X.weight#scales
 *     X.weight f8_e4m3, X.weight_scale            ->  likewise (compressed-tensors)
 *     X.weight_packed i32, X.weight_scale         ->  X.weight, X.weight#scales
 *     X_blocks u8, X_scales u8                    ->  X, X#scales
 *     A.mlp.switch_mlp.gate_proj.weight (MLX)     ->  A.mlp.experts.gate_proj
 */
#ifndef SL_STORE_STORE_NAMES_H
#define SL_STORE_STORE_NAMES_H

#include "format/safetensors.h"
#include "store/store_private.h"

#define SL_PLANE_SCALES "#scales"
#define SL_PLANE_BIASES "#biases"
#define SL_MLX_PREFIX "language_model."

/* Room for a name while it is put together. */
#define SL_NAME_MAX 512u

/* Whether text ends with tail; *stem: the characters before it. */
bool sl__name_ends(const char *text, const char *tail, size_t *stem);

/* The tensor called "STEM" + tail, STEM being the first `stem` characters of text; NULL: none. */
const sl__tensor *sl__name_sibling(const sl__store *store, const char *text, size_t stem,
                                   const char *tail);

/* What is behind the name of a tensor of floats of 8 bits in that of its scales. */
const char *sl__f8_tail(const sl__store *store);

/* Copies the tensors of a set, sorted by name, into the store's table. */
sl_status sl__store_take_tensors(sl__store *store, const sl__st_set *set, sl_error *err);

/* The names of a checkpoint just copied, tensors sorted by what the file calls them: finds out the
 * flavour, renames, sorts again. SL_EUNSUPPORTED for conventions that are not known. */
sl_status sl__store_take_names(sl__store *store, sl_error *err);

/* ---- MLX ------------------------------------------------------------------------------------- */

bool sl__mlx_is(const sl__store *store);
/* Says in the configuration what its numbers differ in (sluice_dialect), and checks what that says
 * about quantisation. */
sl_status sl__mlx_take_config(sl__store *store, sl_error *err);
/* The published name of a tensor, without a plane's mark; false: as it is. */
bool sl__mlx_name(const sl__store *store, const char *name, char out[SL_NAME_MAX]);
/* Compares what was found with what the configuration says of this tensor. */
sl_status sl__mlx_check_config(const sl__store *store, const sl__tensor *tensor, uint32_t bits,
                               uint64_t group, sl_error *err);

/* ---- compressed-tensors ---------------------------------------------------------------------- */

sl_status sl__compressed_check(const sl__store *store, sl_error *err);

#endif
