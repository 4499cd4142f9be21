/* safetensors: u64 header length · JSON header · data. One file, or shards under an index. Only
 * headers are read here. */
#ifndef SL_FORMAT_SAFETENSORS_H
#define SL_FORMAT_SAFETENSORS_H

#include <stdint.h>

#include "base/dtype.h"
#include "base/problems.h"
#include "sluice.h"

#define SL_TENSOR_DIMS_MAX 8u

/* One tensor as a file holds it: C-order, little-endian, no alignment promised. */
typedef struct sl__st_tensor {
    const char *name;  /* owned by the set */
    sl__dtype dtype;
    uint32_t dims;
    uint64_t shape[SL_TENSOR_DIMS_MAX];
    uint32_t file;     /* index into the set's files */
    uint64_t offset;   /* from the start of the file */
    uint64_t bytes;
} sl__st_tensor;

typedef struct sl__st_file {
    char *path;
    uint64_t size;
    bool absent; /* not read, as the list of problems says */
} sl__st_file;

/* All tensors of a checkpoint, sorted by name (strcmp); files closed again after reading. */
typedef struct sl__st_set {
    sl__st_tensor *tensors;
    size_t tensor_count;
    sl__st_file *files;
    uint32_t file_count;
    struct sl__arena *arena; /* what everything above lives in */
    sl__problems *problems;  /* borrowed while opening; NULL: the first failure ends it */
} sl__st_set;

/* Opens a folder (model.safetensors.index.json, else model.safetensors) or one .safetensors file.
 * Checks of each header: length within the file and 100 MB; known dtypes; shape × width = bytes;
 * offsets inside the file; no overlap and no hole; no name twice; every tensor of the index in the
 * file that it names (tensors of a shard that the index leaves out are taken too). */
sl_status sl__st_open(sl__st_set *out, const char *path, sl_error *err);
/* The same of a checkpoint that may be incomplete: shards that are not there, cut short or none are
 * noted and left out; of one that is cut short in its data all tensors are in the set. */
sl_status sl__st_survey(sl__st_set *out, const char *path, sl__problems *problems, sl_error *err);
void sl__st_close(sl__st_set *set); /* a zeroed set is allowed */

/* NULL where there is none. */
const sl__st_tensor *sl__st_find(const sl__st_set *set, const char *name);

/* Parses one header (the JSON, without its length) of a file of file_size bytes: the part of
 * sl__st_open that meets foreign bytes; the fuzz target calls it. Tensors are appended to set,
 * whose arena must be there. */
sl_status sl__st_parse_header(sl__st_set *set, uint32_t file, const char *json, size_t json_size,
                              uint64_t file_size, sl_error *err);

#endif
