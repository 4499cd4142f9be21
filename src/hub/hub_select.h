/* Which files of a repository are the model. Private to this room.
 *
 *     no selector   safetensors: config.json and the other JSON, tokenizer, templates, the weights
 *                   a pack: all of it
 *                   GGUF: the one that there is; of several the user has to choose
 *     Q4_K_M        the GGUF file of that quantisation, all parts of it
 *     a/b.gguf      that file, and the other parts of it
 */
#ifndef SL_HUB_HUB_SELECT_H
#define SL_HUB_HUB_SELECT_H

#include "hub/hub_list.h"

#define SL_HUB_INDEX_NAME "model.safetensors.index.json"

typedef struct sl__hub_selection {
    const char *main_path;   /* what is opened: the first part of a GGUF file; NULL: the folder */
    bool has_index;          /* the weights chosen are those of SL_HUB_INDEX_NAME, not yet read */
    sl_pull_choice *choices; /* GGUF models, where none was or could be chosen; in the arena */
    size_t choice_count;
} sl__hub_selection;

/* Sets `chosen` of the list's files. selector may be NULL. SL_EINVAL where it fits no file or
 * several; of several, out->choices are all that there are (with at least two of them). */
sl_status sl__hub_select(sl__hub_list *list, const char *repo, const char *selector,
                         sl__arena *arena, sl__hub_selection *out, sl_error *err);

/* Of the safetensors files, leaves those chosen that the index (its text) names. */
sl_status sl__hub_select_indexed(sl__hub_list *list, const char *repo, const char *index,
                                 size_t size, sl_error *err);

/* "Q4_K_M", "UD-IQ2_XXS", "BF16": how the weights of a GGUF file are stored, as its name says; ""
 * where it does not. name is a path without ".gguf". */
#define SL_HUB_QUANT_MAX 32u
void sl__hub_quant_of(char out[SL_HUB_QUANT_MAX], const char *name, size_t size);

#endif
