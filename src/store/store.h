/* Where every weight lies. A tensor is {dtype, shape, extent}; an expert is a short list of extents
 * and a memory image ("record") into which they are read. Above the store nobody knows the format.
 *
 *     resident tensors   found by their published names, read whole or by rows
 *     experts            asked for by (layer, expert): record layout, extents, checksum
 *
 *     record in memory:  [ gate rows | pad | up rows | pad | down rows | pad ]   parts 64-aligned
 *     extents on disk:   1 in a pack, 2 in a fused checkpoint (gate and up adjoin), 3 when apart
 *                        and in a GGUF file, 9 in an MLX folder
 *
 * A part of a type with planes (base/rows.h) is [ codes | pad | scales | pad | biases | pad ], and
 * an extent for each. Where gate and up are one matrix it is the part GATE, and UP is absent: 0 x
 * 0.
 *
 * A store is immutable after opening and binding, except for its "verified" marks and direct
 * descriptors, which are atomic.
 */
#ifndef SL_STORE_STORE_H
#define SL_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/problems.h"
#include "base/rows.h"
#include "format/config.h"
#include "sluice.h"

#define SL_STORE_DIMS_MAX 8u
#define SL_EXPERT_EXTENTS_MAX 12u

typedef struct sl__extent {
    uint32_t file;   /* index for sl__store_fd, sl__store_file_path */
    uint64_t offset; /* in the file */
    uint64_t bytes;
    uint64_t dst;    /* offset in the record; 0 for a tensor */
} sl__extent;

/* A matrix with planes is one tensor under its published name, whose shape counts weights; its
 * planes are tensors of their own as well, called NAME#scales and NAME#biases whatever the file
 * calls them. Where only the model knows how many weights a row of packed codes holds (MLX,
 * compressed-tensors) dtype is the words' (u32, i32) until sl__store_settle. */
typedef struct sl__tensor {
    const char *name;
    const char *stored; /* in the file; NULL: the same */
    sl__dtype dtype;
    uint32_t dims;
    uint64_t shape[SL_STORE_DIMS_MAX];
    sl__scaling scaling;                    /* of types with planes; [.., rows, cols] of shape */
    const struct sl__tensor *scales, *biases; /* NULL: none */
    bool panels;       /* lies in panels (base/panels.h); only in packs */
    sl__extent extent; /* of the codes alone */
    bool has_checksum; /* packs */
    uint64_t checksum; /* of the whole extent */
} sl__tensor;

typedef enum sl__expert_part {
    SL_PART_GATE = 0,
    SL_PART_UP,
    SL_PART_DOWN,
    SL_PART_COUNT
} sl__expert_part;

typedef struct sl__matrix_layout {
    sl__dtype dtype;
    uint32_t rows, cols; /* as they lie; 0 x 0: absent */
    uint64_t offset;     /* in the record */
    uint64_t row_bytes;
    sl__scaling scaling;      /* of types with planes */
    uint64_t scales_offset;   /* in the record, of types with planes; else 0 */
    uint64_t biases_offset;   /* likewise, where there are any */
    uint64_t scale_row_bytes; /* 0: no such plane */
    uint32_t first;           /* the first row's number in its group of rows; 0 in packs */
    bool transposed;          /* lies as [in, out]; only in checkpoints */
    bool panels;              /* lies in panels (base/panels.h); only in packs */
} sl__matrix_layout;

/* The experts of one layer; all have the same layout. */
typedef struct sl__expert_layout {
    uint32_t expert_count;
    uint64_t record_bytes; /* in memory, a multiple of 64 */
    sl__matrix_layout part[SL_PART_COUNT];
} sl__expert_layout;

/* One matrix of one expert in a checkpoint: rows [first_row, first_row + rows) of a tensor seen as
 * [product of the leading dimensions, last dimension]. */
typedef struct sl__expert_piece {
    const sl__tensor *tensor;
    uint64_t first_row;
    bool transposed; /* lies as [in, out]: its rows are the matrix's columns; none with planes is */
} sl__expert_piece;

typedef struct sl__store sl__store;

/* Opens a pack (manifest.json), a checkpoint folder, one .safetensors file, or a GGUF file (any
 * part of a split one). Reads headers only; keeps one descriptor a file. */
sl_status sl__store_open(sl__store **out, const char *path, sl_error *err);
/* The same of a model that may be incomplete, to say what is known of it: files that are not there,
 * cut short or none are noted, and the store has what the others say. Nothing of its weights may be
 * read then. problems is borrowed for the call. */
sl_status sl__store_survey(sl__store **out, const char *path, sl__problems *problems,
                           sl_error *err);
void sl__store_close(sl__store *store); /* NULL is allowed */

bool sl__store_is_pack(const sl__store *store);
/* "pack", "safetensors", "mlx", "fp8", "mxfp4", "compressed-tensors", "gguf" */
const char *sl__store_format(const sl__store *store);
const char *sl__store_path(const sl__store *store); /* as given to open */
const char *sl__store_folder(const sl__store *store); /* where config.json and its neighbours lie */

/* The configuration (config.json; in a pack, a member of the manifest; of a GGUF file, what its
 * keys say). Borrowed. */
const sl__config *sl__store_config(const sl__store *store);
/* generation_config.json as parsed JSON, or what stands for it, or NULL. Borrowed. path for
 * messages in *path_out. */
const json_t *sl__store_generation_config(const sl__store *store, const char **path_out);
/* What sl_tokenizer_open opens: "tokenizer.bin", "tokenizer.json" or "tiktoken.model" in the
 * folder, or the GGUF file itself; false where there is none. */
bool sl__store_tokenizer_path(const sl__store *store, char *out, size_t out_size);
/* About what the tokenizer takes in memory; 0 where there is none. */
uint64_t sl__store_tokenizer_bytes(const sl__store *store);
/* The chat template that the file of the weights holds (GGUF): borrowed, NUL-terminated; NULL where
 * that holds none, or it would lie in the folder. */
const char *sl__store_template(const sl__store *store);
bool sl__store_has_template(const sl__store *store); /* of either kind */

size_t sl__store_tensor_count(const sl__store *store);
const sl__tensor *sl__store_tensor_at(const sl__store *store, size_t i); /* sorted by name */
const sl__tensor *sl__store_find(const sl__store *store, const char *name); /* NULL: none */

/* Says how many weights a row of a tensor of packed codes holds, from which its type and its groups
 * follow; they are checked against each other and against what the configuration says. Does nothing
 * for one that needs no saying, or is not there. Errors name the file and the tensor. */
sl_status sl__store_settle(sl__store *store, const char *name, uint64_t cols, sl_error *err);

/* "[2, 3]", for messages; out. */
const char *sl__tensor_show_shape(const sl__tensor *tensor, char *out, size_t size);
/* Bytes of a tensor with its planes. */
uint64_t sl__tensor_all_bytes(const sl__tensor *tensor);
/* The row of the planes that has the scales of row `row` of a tensor, seen as [product of the
 * leading dimensions, last dimension]; *first: its number in that group of rows. */
uint64_t sl__tensor_plane_row(const sl__tensor *tensor, uint64_t row, uint32_t *first);

/* How the file itself calls the tensor of a published name, for messages: name, or out. */
#define SL_STORE_NAME_MAX 192u
const char *sl__store_name_in_file(const sl__store *store, const char *name,
                                   char out[SL_STORE_NAME_MAX]);

/* Reads a whole tensor into dst (extent.bytes bytes) and, in a pack, compares its checksum. */
sl_status sl__store_read_tensor(const sl__store *store, const sl__tensor *tensor, void *dst,
                                sl_error *err);

/* Compares a tensor on the disk with its checksum, reading it in pieces through buffer; SL_OK where
 * it has none. */
sl_status sl__store_check_tensor(const sl__store *store, const sl__tensor *tensor, void *buffer,
                                 size_t buffer_bytes, sl_error *err);

int sl__store_fd(const sl__store *store, uint32_t file);
/* The same file past the page cache, opened at the first call; -1 where that cannot be had, or
 * where the path leads to another file by now. Owned by the store. Thread-safe. */
int sl__store_direct_fd(sl__store *store, uint32_t file);
uint64_t sl__store_file_bytes(const sl__store *store, uint32_t file);
/* The whole file mapped for reading, at the first call; NULL with an error where that fails. Owned
 * by the store until it is closed. For the mmap baseline alone: a read error under a mapping, or a
 * file that somebody cuts short, is no status but a signal (SIGBUS) that ends the process. */
const void *sl__store_map(sl__store *store, uint32_t file, sl_error *err);
/* What the system should expect of a range of a mapped file. A hint. */
typedef enum sl__map_advice {
    SL_MAP_NORMAL = 0,
    SL_MAP_RANDOM,   /* no reading ahead */
    SL_MAP_WILLNEED, /* begin to read it */
    SL_MAP_DONTNEED, /* drop the pages from the mapping; the page cache keeps them */
} sl__map_advice;
void sl__store_map_advise(sl__store *store, uint32_t file, uint64_t offset, uint64_t bytes,
                          sl__map_advice advice);
const char *sl__store_file_path(const sl__store *store, uint32_t file);
uint32_t sl__store_file_count(const sl__store *store);

/* Describes the experts of a layer of a checkpoint: pieces[expert_count][SL_PART_COUNT], copied.
 * rows and cols are what the model expects of each part (UP may be absent: 0 and 0, its pieces are
 * not looked at); a tensor of another shape or of a dtype that differs between experts is an error
 * naming it. All pieces of a part lie the same way, transposed or not. In a pack the layers come
 * bound from the manifest, and this call checks that their shapes are the expected ones; pieces may
 * be NULL there. */
sl_status sl__store_bind_experts(sl__store *store, uint32_t layer, uint32_t expert_count,
                                 const uint32_t rows[SL_PART_COUNT],
                                 const uint32_t cols[SL_PART_COUNT],
                                 const sl__expert_piece *pieces, sl_error *err);

/* NULL where the layer has no experts bound. */
const sl__expert_layout *sl__store_expert_layout(const sl__store *store, uint32_t layer);

/* The reads that fill one record, neighbours merged. Returns their number (0: out of range). */
uint32_t sl__store_expert_extents(const sl__store *store, uint32_t layer, uint32_t expert,
                                  sl__extent out[SL_EXPERT_EXTENTS_MAX]);

/* Compares a record, just read, with its checksum, where there is one and the rule asks for it:
 * SL_ECORRUPT names file, layer and expert. A scale that is NaN is SL_ENUMERIC by the same rule, in
 * a checkpoint too. Thread-safe. */
sl_status sl__store_verify_record(sl__store *store, uint32_t layer, uint32_t expert,
                                  const void *record, sl_verify_rule verify, sl_error *err);

/* Bytes of heap that the store holds, for the memory plan. */
uint64_t sl__store_footprint(const sl__store *store);

#endif
