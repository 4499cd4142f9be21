/* GGUF, versions 2 and 3, little-endian: one file, or the parts of a split one. Only headers are
 * read here.
 *
 *     "GGUF" · u32 version · u64 tensors · u64 keys
 *     keys     name · u32 type · value              a string is u64 bytes and those bytes
 *     tensors  name · u32 n · u64 dims[n] · u32 type · u64 offset
 *     zeros to general.alignment · data             offsets count from the start of the data
 */
#ifndef SL_FORMAT_GGUF_H
#define SL_FORMAT_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/dtype.h"
#include "base/problems.h"
#include "sluice.h"

#define SL_GGUF_DIMS_MAX   4u
#define SL_GGUF_HEADER_MAX (1u << 30) /* bytes */

/* The types of values, as the file numbers them. */
typedef enum sl__gguf_type {
    SL_GGUF_U8 = 0,
    SL_GGUF_I8,
    SL_GGUF_U16,
    SL_GGUF_I16,
    SL_GGUF_U32,
    SL_GGUF_I32,
    SL_GGUF_F32,
    SL_GGUF_BOOL,
    SL_GGUF_STRING,
    SL_GGUF_ARRAY,
    SL_GGUF_U64,
    SL_GGUF_I64,
    SL_GGUF_F64,
    SL_GGUF_TYPE_COUNT
} sl__gguf_type;

/* Bytes in the set's header; no NUL behind them. */
typedef struct sl__gguf_text {
    uint32_t offset, size;
} sl__gguf_text;

/* A key and its value, which is one element or an array of them. */
typedef struct sl__gguf_key {
    const char *name;   /* owned by the set */
    sl__gguf_type type; /* of the elements; never SL_GGUF_ARRAY */
    bool array;
    uint64_t count;               /* elements; 1 where it is no array */
    uint32_t offset;              /* numbers: where they begin in the header */
    const sl__gguf_text *strings; /* [count]; owned by the set; NULL for numbers */
} sl__gguf_key;

/* One tensor as a file holds it: C-order, little-endian, shape[dims - 1] consecutive (the file
 * names that one first). */
typedef struct sl__gguf_tensor {
    const char *name; /* owned by the set */
    uint32_t type;    /* the file's number for it; sl__gguf_tensor_dtype says what it is */
    uint32_t dims;    /* at least 1 */
    uint64_t shape[SL_GGUF_DIMS_MAX];
    uint32_t file;   /* index into the set's files */
    uint64_t offset; /* from the start of the file */
    uint64_t bytes;  /* 0 where the type is not known */
} sl__gguf_tensor;

typedef struct sl__gguf_file {
    char *path;
    uint64_t size;
    bool absent; /* not read, as the list of problems says */
} sl__gguf_file;

/* A model's headers; the files are closed again after reading. */
typedef struct sl__gguf_set {
    sl__gguf_tensor *tensors; /* of all files, sorted by name (strcmp) */
    size_t tensor_count;
    sl__gguf_key *keys; /* of the first file, sorted by name */
    size_t key_count;
    sl__gguf_file *files;
    uint32_t file_count;
    char *header;            /* of the first file, owned: its keys' values lie there */
    struct sl__arena *arena; /* what everything else lives in */
    sl__problems *problems;  /* borrowed while opening; NULL: the first failure ends it */
} sl__gguf_set;

/* Whether a path ends in ".gguf", in any case, and is no folder; or leads to a file that begins as
 * one does. */
bool sl__gguf_is(const char *path);

/* Opens a file; of a split one, NAME-00001-of-0000N.gguf, any part stands for all, which lie beside
 * it. Checks of each header: magic, version, lengths and counts within the file and
 * SL_GGUF_HEADER_MAX; names not empty, without NUL, none twice; known types of values, no array in
 * an array; alignment a power of two; 1 to 4 dimensions; offsets aligned; where the type of a
 * tensor is known, rows of whole blocks and data inside the file. Of parts: split.no, split.count
 * and split.tensors.count. */
sl_status sl__gguf_open(sl__gguf_set *out, const char *path, sl_error *err);
/* The same of a model that may be incomplete: parts that are not there, cut short or none are noted
 * and left out, all but the first; of one that is cut short in its data all tensors are in the set.
 */
sl_status sl__gguf_survey(sl__gguf_set *out, const char *path, sl__problems *problems,
                          sl_error *err);
void sl__gguf_close(sl__gguf_set *set); /* a zeroed set is allowed */

/* ---- tensors --------------------------------------------------------------------------------- */

const sl__gguf_tensor *sl__gguf_find(const sl__gguf_set *set, const char *name); /* NULL: none */

/* What the number of a type of tensors stands for; false where it is not known or never read. */
bool sl__gguf_dtype(uint32_t type, sl__dtype *out);
/* The same of a tensor that is wanted: SL_EUNSUPPORTED names it and its type. */
sl_status sl__gguf_tensor_dtype(const sl__gguf_set *set, const sl__gguf_tensor *tensor,
                                sl__dtype *out, sl_error *err);

/* ---- keys ------------------------------------------------------------------------------------ */

const sl__gguf_key *sl__gguf_find_key(const sl__gguf_set *set, const char *name); /* NULL: none */

/* Element `index` < count. False where it is not of this kind: integers of any width and sign (and
 * below 2^63), numbers of any type, booleans, strings (borrowed from the set, no NUL behind). */
bool sl__gguf_int_at(const sl__gguf_set *set, const sl__gguf_key *key, uint64_t index,
                     int64_t *out);
bool sl__gguf_number_at(const sl__gguf_set *set, const sl__gguf_key *key, uint64_t index,
                        double *out);
bool sl__gguf_bool_at(const sl__gguf_set *set, const sl__gguf_key *key, uint64_t index,
                      bool *out);
bool sl__gguf_string_at(const sl__gguf_set *set, const sl__gguf_key *key, uint64_t index,
                        const char **text, size_t *size);

/* The value of a key that must be there and not an array. SL_EFORMAT names file and key. */
sl_status sl__gguf_int(const sl__gguf_set *set, const char *name, int64_t min, int64_t max,
                       int64_t *out, sl_error *err);
sl_status sl__gguf_number(const sl__gguf_set *set, const char *name, double *out, sl_error *err);
sl_status sl__gguf_bool(const sl__gguf_set *set, const char *name, bool *out, sl_error *err);
sl_status sl__gguf_string(const sl__gguf_set *set, const char *name, const char **text,
                          size_t *size, sl_error *err);

/* ---- inside ---------------------------------------------------------------------------------- */

/* Reads the header of files[file], whose path and size are set, from fd, or, where fd is -1, from
 * bytes[have] alone: the part of sl__gguf_open that meets foreign bytes; the fuzz target calls it.
 * Appends tensors, unsorted; the keys become those of this file, sorted. The set's arena must be
 * there. */
sl_status sl__gguf_read_header(sl__gguf_set *set, uint32_t file, int fd, const void *bytes,
                               size_t have, sl_error *err);
/* Sorts the tensors of all files by name, as sl__gguf_find needs them; none may occur twice. */
sl_status sl__gguf_sort_tensors(sl__gguf_set *set, sl_error *err);

#endif
