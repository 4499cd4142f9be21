/* The shard index of a checkpoint (model.safetensors.index.json): which file holds which tensor.
 * Private to this room. */
#ifndef SL_FORMAT_SAFETENSORS_INDEX_H
#define SL_FORMAT_SAFETENSORS_INDEX_H

#include <stddef.h>
#include <stdint.h>

#include "base/json.h"
#include "format/safetensors.h"

/* The longest header and the longest index that are read: what the reference reader takes. */
#define SL_ST_HEADER_MAX 100000000u

typedef struct sl__st_index_entry {
    const char *tensor; /* both borrowed from the index's root */
    const char *file;   /* as the index writes it */
    uint32_t file_index;
} sl__st_index_entry;

typedef struct sl__st_index {
    const char *path; /* borrowed, for messages */
    json_t *root;     /* owned */
    sl__st_index_entry *entries; /* owned; sorted by file, so that each file's entries are a run */
    size_t count;
    uint32_t file_count; /* distinct files; file_index runs below it, in the order of their names */
} sl__st_index;

/* path must outlive the index. On failure *out is empty. */
sl_status sl__st_index_load(sl__st_index *out, const char *path, sl_error *err);
void sl__st_index_free(sl__st_index *index);

/* Every tensor of the index is in the file that it names. set is sorted by name. */
sl_status sl__st_index_check(const sl__st_index *index, const sl__st_set *set, sl_error *err);

#endif
