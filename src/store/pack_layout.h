/* The rules by which bytes lie in a record and in a pack. The writer lays out by them and the
 * reader checks by them: the same functions on both sides of the disk.
 *
 *     record       [ gate rows | pad | up rows | pad | down rows | pad ]  parts 64-aligned, pads 0
 *                  (of a type with planes a part is [ codes | pad | scales | pad | biases | pad ])
 *     experts file record · spare · record · spare …                      stride 4096-aligned
 *     resident.bin tensor · pad · tensor · pad …                         64-aligned, no other holes
 */
#ifndef SL_STORE_PACK_LAYOUT_H
#define SL_STORE_PACK_LAYOUT_H

#include "store/pack.h"

/* More than any model has; what a file claims beyond this is refused before memory is taken. */
#define SL_PACK_LAYERS_MAX 4096u
#define SL_PACK_EXPERTS_MAX 65536u
#define SL_PACK_TENSORS_MAX (1u << 20)
#define SL_PACK_FILES_MAX (SL_PACK_LAYERS_MAX + 64u)
#define SL_PACK_BYTES_MAX ((uint64_t)1 << 50) /* of one file */

#define SL_PACK_MANIFEST "manifest.json"
#define SL_PACK_JOURNAL "journal.jsonl"
#define SL_PACK_PANELS "panels" /* what "layout" says, where it is not rows */
#define SL_PACK_RESIDENT "resident.bin"
#define SL_PACK_LAYER_NAME 32u /* room for the name of a layer's file */

extern const char *const sl__part_name[SL_PART_COUNT]; /* "gate", "up", "down" */

/* Bytes of a C-order tensor (dims 0: one element), or of one in panels. False where they do not
 * fit, where a dimension is 0 or there are too many, and where such a tensor has no panels. */
bool sl__tensor_bytes(sl__dtype dtype, bool panels, uint32_t dims, const uint64_t *shape,
                      uint64_t *bytes);

/* Whether matrices of the type can have such planes; with none for a type without. */
bool sl__scaling_fits(sl__dtype dtype, const sl__scaling *scaling);

/* Lays out a record of straight matrices; UP may be absent (0 x 0). panels: which lie in panels;
 * NULL: none; planes: NULL: as the types say. `where` opens the message ("PATH: layer 3"). Types
 * that are no weights, or have no panels or planes and shall have, and sizes that are 0 or beyond
 * all bounds, are errors. */
sl_status sl__expert_layout_init(sl__expert_layout *out, uint32_t expert_count,
                                 const sl__dtype dtype[SL_PART_COUNT],
                                 const uint32_t rows[SL_PART_COUNT],
                                 const uint32_t cols[SL_PART_COUNT],
                                 const bool panels[SL_PART_COUNT],
                                 const sl__part_planes planes[SL_PART_COUNT], const char *where,
                                 sl_error *err);

/* Used bytes of a part's rows, and of each of its planes; the layout was made by
 * sl__expert_layout_init, nothing overflows. */
uint64_t sl__part_bytes(const sl__matrix_layout *part);
uint64_t sl__part_scale_bytes(const sl__matrix_layout *part);

/* From one record to the next on disk. */
uint64_t sl__pack_stride(const sl__expert_layout *layout);
uint64_t sl__pack_layer_bytes(const sl__expert_layout *layout);
void sl__pack_layer_name(uint32_t layer, char out[SL_PACK_LAYER_NAME]);

/* Places the next tensor of resident.bin after those that end at *end, and moves *end. */
bool sl__pack_place(uint64_t *end, uint64_t bytes, uint64_t *offset);
uint64_t sl__pack_resident_bytes(uint64_t end); /* the file's size */

/* The checksums of a layer's records as text: 16 hexadecimal digits each, one after the other. (A
 * list of strings costs a reader ten times as much.) parse: digits holds count * 16 characters at
 * least; false where they are none. format: malloc'd; NULL when memory is out. */
#define SL_PACK_SUM_DIGITS 16u
bool sl__pack_sums_parse(const char *digits, uint64_t *sums, size_t count);
char *sl__pack_sums_format(const uint64_t *sums, size_t count);

/* A name that stays in the folder: no slash, no dot in front, nothing that a terminal acts on, and
 * not a name that the pack itself uses for something else. */
bool sl__pack_file_name_ok(const char *name);

#endif
