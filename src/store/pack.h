/* The pack: a folder that a model runs from best.
 *
 *     manifest.json     what is in it; names, shapes, types, offsets, checksums; ends with its own
 *                       checksum ("self": XXH3 of the manifest without that member, keys sorted,
 *                       compact)
 *     resident.bin      every other tensor, each 64-aligned
 *     experts-NNN.bin   a layer each: records of equal size at multiples of it, 4096-aligned,
 *                       gate · up · down adjacent (each 64-aligned)
 *     tokenizer.bin     compiled vocabulary;  chat_template.jinja as it came
 *
 * Writing goes to the folder DST.partial, which is fsynced and renamed to DST when complete. It can
 * be resumed: DST.partial/journal.jsonl has a line for each finished file (name, bytes, checksums).
 */
#ifndef SL_STORE_PACK_H
#define SL_STORE_PACK_H

#include "store/store.h"

#define SL_PACK_VERSION 2 /* 1 had no panels, and can be read */
#define SL_PACK_ALIGN 4096u      /* of records */
#define SL_PACK_PART_ALIGN 64u   /* of matrices in a record, of tensors in resident.bin */

typedef struct sl__pack_writer sl__pack_writer;

/* What a pack will hold; strings and arrays are copied, JSON values kept by reference. */
typedef struct sl__pack_tensor_plan {
    const char *name;
    sl__dtype dtype; /* as stored */
    uint32_t dims;
    uint64_t shape[SL_STORE_DIMS_MAX];
    bool panels; /* in panels (base/panels.h): two dimensions, sl__dtype_has_panels */
    /* Of types with planes, which are tensors of the plan too: NAME#scales, NAME#biases. */
    sl__scaling scaling;
} sl__pack_tensor_plan;

/* How the planes of a part lie; a zeroed one: as the type alone says. */
typedef struct sl__part_planes {
    sl__scaling scaling;
    uint32_t first; /* the first row's number in its group of rows; 0 in packs */
} sl__part_planes;

typedef struct sl__pack_layer_plan {
    uint32_t layer;        /* MTP layers follow the others */
    uint32_t expert_count;
    sl__dtype dtype[SL_PART_COUNT];
    uint32_t rows[SL_PART_COUNT], cols[SL_PART_COUNT];
    bool panels[SL_PART_COUNT];
    sl__part_planes planes[SL_PART_COUNT]; /* zeroed: as the types say */
} sl__pack_layer_plan;

typedef struct sl__pack_plan {
    const json_t *config;      /* the model's config.json, kept whole */
    const json_t *generation;  /* may be NULL */
    const char *source;        /* provenance: what the pack was made of (a name, no path) */
    const char *fingerprint;   /* of source and options: a resume needs the same */
    const json_t *provenance;  /* may be NULL: anything to keep (tool version, options) */
    const sl__pack_tensor_plan *tensors;
    size_t tensor_count;
    const sl__pack_layer_plan *layers;
    size_t layer_count;
} sl__pack_plan;

/* Begins DST.partial, or takes up one with the same fingerprint (another one is an error that says
 * to remove it). A dst that exists is an error. */
sl_status sl__pack_writer_open(sl__pack_writer **out, const char *dst, const sl__pack_plan *plan,
                               sl_error *err);

/* Whether resident.bin, or a layer's file, is already complete from an earlier run (its size and
 * checksums were compared with the journal). */
bool sl__pack_writer_has_resident(const sl__pack_writer *w);
bool sl__pack_writer_has_layer(const sl__pack_writer *w, uint32_t layer);

/* Fails where the file system has less room than what is still to be written. */
sl_status sl__pack_writer_check_room(const sl__pack_writer *w, sl_error *err);

/* Tensors come in the order of the plan, each in one call or in parts of whole rows (or panels)
 * that adjoin. */
sl_status sl__pack_writer_resident_begin(sl__pack_writer *w, sl_error *err);
sl_status sl__pack_writer_tensor(sl__pack_writer *w, size_t index, const void *data, uint64_t bytes,
                                 sl_error *err);
sl_status sl__pack_writer_resident_end(sl__pack_writer *w, sl_error *err); /* fsync, journal */

/* record: layout->record_bytes bytes with parts at the layout's offsets, spare bytes 0; experts in
 * increasing order. */
sl_status sl__pack_writer_layer_begin(sl__pack_writer *w, uint32_t layer, sl_error *err);
const sl__expert_layout *sl__pack_writer_layout(const sl__pack_writer *w, uint32_t layer);
sl_status sl__pack_writer_record(sl__pack_writer *w, uint32_t layer, uint32_t expert,
                                 const void *record, sl_error *err);
sl_status sl__pack_writer_layer_end(sl__pack_writer *w, uint32_t layer, sl_error *err);

/* A small file beside the others (tokenizer.bin, chat_template.jinja); its checksum goes into the
 * manifest. */
sl_status sl__pack_writer_file(sl__pack_writer *w, const char *name, const void *data, size_t size,
                               sl_error *err);

/* Writes the manifest, fsyncs, renames DST.partial to DST. */
sl_status sl__pack_writer_commit(sl__pack_writer *w, sl_error *err);

/* Ends without committing; what is finished stays for a resume. NULL is allowed. */
void sl__pack_writer_close(sl__pack_writer *w);

/* The bytes of all tensors and records that the plan will write, for the progress bar: what the
 * calls above are given, without the space between. UINT64_MAX for a plan that opening refuses. */
uint64_t sl__pack_plan_bytes(const sl__pack_plan *plan);
/* The same with all spaces, as a disk sees it. */
uint64_t sl__pack_plan_disk_bytes(const sl__pack_plan *plan);
/* What a manifest and the small files beside it take at most, about, in a pack of such a size. */
uint64_t sl__pack_spare_bytes(uint64_t disk_bytes);

/* ---- reading --------------------------------------------------------------------------------- */

/* A manifest, parsed and checked by the same rules that the writer obeys. */
typedef struct sl__pack_manifest {
    json_t *root; /* owned: config and generation config are members */
    struct sl__arena *arena;
    struct { const char *name; uint64_t bytes; bool has_checksum; uint64_t checksum; } *files;
    uint32_t file_count;
    sl__tensor *tensors; /* sorted by name */
    size_t tensor_count;
    struct {
        uint32_t layer, file;
        sl__expert_layout layout;
        uint64_t *checksums; /* [expert_count] */
    } *layers; /* sorted by layer */
    size_t layer_count;
} sl__pack_manifest;

/* Parses text; path is for messages. Foreign bytes meet this function alone; the fuzz target calls
 * it. */
sl_status sl__pack_manifest_parse(sl__pack_manifest *out, const char *text, size_t size,
                                  const char *path, sl_error *err);
void sl__pack_manifest_free(sl__pack_manifest *manifest);

#endif
