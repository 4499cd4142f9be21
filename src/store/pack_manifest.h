/* What the writer and the store need of a manifest beyond pack.h. */
#ifndef SL_STORE_PACK_MANIFEST_H
#define SL_STORE_PACK_MANIFEST_H

#include "base/json.h"
#include "store/pack.h"

#define SL_PACK_FORMAT "sluice-pack"
#define SL_PACK_MANIFEST_BYTES_MAX ((uint64_t)256 << 20)

/* XXH3 of the canonical text (keys sorted, compact) of root without its member "self", which is
 * removed. (A copy would do, but jansson's copies lose members silently when memory runs out.) */
sl_status sl__pack_manifest_self(json_t *root, const char *path, uint64_t *hash, sl_error *err);

/* json_dumps, whose own buffer loses text silently when memory runs out. *text is malloc'd. */
sl_status sl__pack_dump(const json_t *root, size_t flags, char **text, size_t *size, sl_error *err);

bool sl__pack_manifest_find_file(const sl__pack_manifest *m, const char *name, uint32_t *index);

/* The manifest of what the plan describes, all checksums 0, without small files and "self". New
 * reference in *out. path is for messages. Sizes that no file could have are errors; everything
 * else is left to sl__pack_manifest_parse. */
sl_status sl__pack_compose(const sl__pack_plan *plan, const char *path, json_t **out,
                           sl_error *err);

/* Sets the checksum of tensor `index` (order of the plan), or the records' checksums of entry
 * `index` of "layers". */
sl_status sl__pack_compose_tensor(json_t *root, size_t index, uint64_t checksum, sl_error *err);
sl_status sl__pack_compose_layer(json_t *root, size_t index, const uint64_t *checksums,
                                 sl_error *err);
/* Adds a small file, or replaces its entry; the list stays sorted. */
sl_status sl__pack_compose_file(json_t *root, const char *name, uint64_t bytes, uint64_t checksum,
                                sl_error *err);
/* Adds "self" (replacing what was there) and gives the readable text, malloc'd. */
sl_status sl__pack_compose_text(json_t *root, const char *path, char **text, size_t *size,
                                sl_error *err);

#endif
