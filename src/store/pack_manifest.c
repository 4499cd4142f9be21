/* Reads a manifest: foreign bytes. Nothing in it is believed: every offset, size and stride is
 * computed again by the writer's own rules (pack_layout.h) and compared, so that a manifest that
 * passes describes files without overlaps, holes or reads past an end.
 *
 *     {"format", "version", "source", "config", "generation_config", "provenance",
 *      "files":   [{"name", "bytes", "xxh3"}]               sorted by name; xxh3: small files only
 *      "tensors": [{"name", "dtype", "layout", "scaling", "shape", "offset",           by offset
 *                   "bytes", "xxh3"}]
 *      "layers":  [{"layer", "file", "experts", "record_bytes", "stride",      in order of layer
 *                   "parts": [{"role", "dtype", "layout", "scaling", "rows", "cols", "offset",
 *                              "row_bytes", "scales_offset", "scale_row_bytes",
 *                              "biases_offset"}],                the last three: where needed
 *                   "xxh3": 16 digits a record}]
 *      "self"}
 *
 * "layout" is "panels", or not there: rows. "scaling", of types with planes that do not say it
 * themselves, is {"dtype", "group", "group_rows", "biases"}; the planes of a tensor are the tensors
 * NAME#scales and NAME#biases. Members that are not named here are ignored (but
 * covered by "self").
 */
#include "store/pack_manifest.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/fail.h"
#include "base/hash.h"
#include "base/panels.h"
#include "store/pack_layout.h"

#define WHERE_BYTES 512u

static int hash_more(const char *text, size_t size, void *hash)
{
    sl__hasher_update(hash, text, size);
    return 0;
}

sl_status sl__pack_manifest_self(json_t *root, const char *path, uint64_t *hash, sl_error *err)
{
    sl__hasher *state = sl__hasher_create();
    if (!state) return SL_FAIL_NOMEM(err, path);
    (void)json_object_del(root, "self");
    int bad = json_dump_callback(root, hash_more, state, JSON_SORT_KEYS | JSON_COMPACT);
    *hash = sl__hasher_digest(state);
    sl__hasher_destroy(state);
    return bad ? SL_FAIL_NOMEM(err, path) : SL_OK;
}

static int append_more(const char *text, size_t size, void *buf)
{
    return sl__buffer_append(buf, text, size) ? 0 : -1;
}

sl_status sl__pack_dump(const json_t *root, size_t flags, char **text, size_t *size, sl_error *err)
{
    sl__buffer buf;
    sl__buffer_init(&buf, SL_PACK_MANIFEST_BYTES_MAX);
    int bad = json_dump_callback(root, append_more, &buf, flags);
    if (bad || buf.failed || buf.size == 0) {
        sl__buffer_free(&buf);
        return SL_FAIL_NOMEM(err, "JSON text");
    }
    *text = buf.data;
    *size = buf.size;
    return SL_OK;
}

/* root[key], an array of at least min and at most max objects. */
static sl_status get_array(const json_t *obj, const char *key, const char *where, size_t min,
                           size_t max, const json_t **out, sl_error *err)
{
    const json_t *array = json_object_get(obj, key);
    if (!json_is_array(array)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: expected an array", where, key);
    }
    size_t n = json_array_size(array);
    if (n < min || n > max) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: %zu entries; expected %zu to %zu", where, key, n,
                       min, max);
    }
    *out = array;
    return SL_OK;
}

static sl_status get_hash(const json_t *obj, const char *where, uint64_t *hash, sl_error *err)
{
    const char *text;
    SL_TRY(sl__json_str(obj, "xxh3", where, &text, err));
    if (!sl__hash_parse(text, hash)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: xxh3: expected 16 hexadecimal digits", where);
    }
    return SL_OK;
}

static sl_status get_dtype(const json_t *obj, const char *where, sl__dtype *dtype, sl_error *err)
{
    const char *text;
    SL_TRY(sl__json_str(obj, "dtype", where, &text, err));
    if (!sl__dtype_parse(text, dtype)) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: dtype: \"%.32s\" is not known", where, text);
    }
    return SL_OK;
}

/* A number that follows from others must be what the rules make of them. */
static sl_status expect(const json_t *obj, const char *key, const char *where, uint64_t expected,
                        sl_error *err)
{
    uint64_t got;
    SL_TRY(sl__json_u64(obj, key, where, 0, INT64_MAX, &got, err));
    if (got != expected) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: %llu where the layout gives %llu", where, key,
                       (unsigned long long)got, (unsigned long long)expected);
    }
    return SL_OK;
}

static sl_status parse_files(sl__pack_manifest *m, const char *path, sl_error *err)
{
    const json_t *array = NULL;
    SL_TRY(get_array(m->root, "files", path, 1, SL_PACK_FILES_MAX, &array, err));
    size_t count = json_array_size(array);
    m->files = sl__arena_alloc(m->arena, count, sizeof *m->files);
    if (!m->files) return SL_FAIL_NOMEM(err, "file table");
    for (size_t i = 0; i < count; i++) {
        const json_t *entry = json_array_get(array, i);
        char where[WHERE_BYTES];
        const char *name;
        snprintf(where, sizeof where, "%s: file %zu", path, i);
        SL_TRY(sl__json_str(entry, "name", where, &name, err));
        if (!sl__pack_file_name_ok(name)) {
            return SL_FAIL(err, SL_EFORMAT, "%s: \"%.200s\" is no name for a file of a pack", where,
                           name);
        }
        snprintf(where, sizeof where, "%s: file %.200s", path, name);
        if (i > 0 && strcmp(m->files[i - 1].name, name) >= 0) {
            return SL_FAIL(err, SL_EFORMAT, "%s: twice, or out of order", where);
        }
        SL_TRY(sl__json_u64(entry, "bytes", where, 0, SL_PACK_BYTES_MAX, &m->files[i].bytes, err));
        m->files[i].has_checksum = sl__json_has(entry, "xxh3");
        if (m->files[i].has_checksum) {
            SL_TRY(get_hash(entry, where, &m->files[i].checksum, err));
        }
        m->files[i].name = sl__arena_strdup(m->arena, name);
        if (!m->files[i].name) return SL_FAIL_NOMEM(err, "file table");
        m->file_count = (uint32_t)i + 1;
    }
    return SL_OK;
}

bool sl__pack_manifest_find_file(const sl__pack_manifest *m, const char *name, uint32_t *index)
{
    uint32_t low = 0, high = m->file_count;
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        int order = strcmp(m->files[mid].name, name);
        if (order == 0) {
            *index = mid;
            return true;
        }
        if (order < 0) low = mid + 1;
        else high = mid;
    }
    return false;
}

/* A file whose parts have checksums of their own: listed, of exactly this size. */
static sl_status check_data_file(const sl__pack_manifest *m, const char *name, uint64_t bytes,
                                 const char *where, uint32_t *index, sl_error *err)
{
    if (!sl__pack_manifest_find_file(m, name, index)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: file %s is not listed", where, name);
    }
    if (m->files[*index].bytes != bytes) {
        return SL_FAIL(err, SL_EFORMAT, "%s: file %s: %llu bytes where the layout gives %llu",
                       where, name, (unsigned long long)m->files[*index].bytes,
                       (unsigned long long)bytes);
    }
    if (m->files[*index].has_checksum) {
        return SL_FAIL(err, SL_EFORMAT, "%s: file %s: checksums belong to its parts", where, name);
    }
    return SL_OK;
}

static sl_status get_layout(const json_t *entry, const char *where, bool *panels, sl_error *err)
{
    const char *layout;
    *panels = sl__json_has(entry, "layout");
    if (!*panels) return SL_OK;
    SL_TRY(sl__json_str(entry, "layout", where, &layout, err));
    if (strcmp(layout, SL_PACK_PANELS) == 0) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: layout: %.40s is not \"" SL_PACK_PANELS "\"", where,
                   layout);
}

/* How the planes of a matrix lie: what "scaling" says, or where it is not there, the type. */
static sl_status get_scaling(const json_t *entry, const char *where, sl__dtype dtype,
                             sl__scaling *out, sl_error *err)
{
    *out = sl__dtype_scaling(dtype);
    if (sl__json_has(entry, "scaling")) {
        const json_t *scaling = json_object_get(entry, "scaling");
        SL_TRY(get_dtype(scaling, where, &out->type, err));
        SL_TRY(sl__json_u32(scaling, "group", where, 1, UINT32_MAX, &out->group, err));
        SL_TRY(sl__json_u32(scaling, "group_rows", where, 1, UINT32_MAX, &out->group_rows, err));
        SL_TRY(sl__json_bool(scaling, "biases", where, &out->biases, err));
    }
    if (sl__scaling_fits(dtype, out)) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: scaling: %s has no such scales", where,
                   sl__dtype_name(dtype));
}

static sl_status parse_shape(sl__tensor *t, const json_t *entry, const char *where, sl_error *err)
{
    const json_t *shape = NULL;
    SL_TRY(get_array(entry, "shape", where, 0, SL_STORE_DIMS_MAX, &shape, err));
    t->dims = (uint32_t)json_array_size(shape);
    for (uint32_t d = 0; d < t->dims; d++) {
        const json_t *size = json_array_get(shape, d);
        if (!json_is_integer(size) || json_integer_value(size) < 1) {
            return SL_FAIL(err, SL_EFORMAT, "%s: shape: expected whole numbers above 0", where);
        }
        t->shape[d] = (uint64_t)json_integer_value(size);
    }
    return SL_OK;
}

/* end: of the tensors before this one. */
static sl_status parse_tensor(sl__pack_manifest *m, const json_t *entry, const char *path,
                              uint64_t *end, sl_error *err)
{
    sl__tensor *t = &m->tensors[m->tensor_count];
    char where[WHERE_BYTES];
    const char *name;
    snprintf(where, sizeof where, "%s: tensor %zu", path, m->tensor_count);
    SL_TRY(sl__json_str(entry, "name", where, &name, err));
    if (name[0] == '\0') return SL_FAIL(err, SL_EFORMAT, "%s: the name is empty", where);
    snprintf(where, sizeof where, "%s: tensor %.300s", path, name);
    SL_TRY(get_dtype(entry, where, &t->dtype, err));
    SL_TRY(parse_shape(t, entry, where, err));
    SL_TRY(get_layout(entry, where, &t->panels, err));
    SL_TRY(get_scaling(entry, where, t->dtype, &t->scaling, err));
    if (t->panels && (t->dims != 2 || !sl__dtype_has_panels(t->dtype))) {
        return SL_FAIL(err, SL_EFORMAT, "%s: layout: there are no panels of this type and shape",
                       where);
    }
    if (!sl__tensor_bytes(t->dtype, t->panels, t->dims, t->shape, &t->extent.bytes) ||
        !sl__pack_place(end, t->extent.bytes, &t->extent.offset)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: shape: larger than any file", where);
    }
    SL_TRY(expect(entry, "bytes", where, t->extent.bytes, err));
    SL_TRY(expect(entry, "offset", where, t->extent.offset, err));
    SL_TRY(get_hash(entry, where, &t->checksum, err));
    t->has_checksum = true;
    t->name = sl__arena_strdup(m->arena, name);
    if (!t->name) return SL_FAIL_NOMEM(err, "tensor table");
    m->tensor_count++;
    return SL_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const sl__tensor *)a)->name, ((const sl__tensor *)b)->name);
}

static sl_status parse_tensors(sl__pack_manifest *m, const char *path, sl_error *err)
{
    const json_t *array = NULL;
    SL_TRY(get_array(m->root, "tensors", path, 0, SL_PACK_TENSORS_MAX, &array, err));
    size_t count = json_array_size(array);
    m->tensors = SL_ARENA_NEW(m->arena, sl__tensor, count);
    if (!m->tensors) return SL_FAIL_NOMEM(err, "tensor table");
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        SL_TRY(parse_tensor(m, json_array_get(array, i), path, &end, err));
    }
    uint32_t file = 0;
    SL_TRY(check_data_file(m, SL_PACK_RESIDENT, sl__pack_resident_bytes(end), path, &file, err));
    if (count > 1) qsort(m->tensors, count, sizeof *m->tensors, by_name);
    for (size_t i = 0; i < count; i++) {
        m->tensors[i].extent.file = file;
        if (i > 0 && strcmp(m->tensors[i - 1].name, m->tensors[i].name) == 0) {
            return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: twice", path, m->tensors[i].name);
        }
    }
    return SL_OK;
}

static sl_status parse_parts(const json_t *entry, uint32_t experts, const char *where,
                             sl__expert_layout *layout, sl_error *err)
{
    const json_t *parts = NULL;
    sl__dtype dtype[SL_PART_COUNT];
    uint32_t rows[SL_PART_COUNT], cols[SL_PART_COUNT];
    bool panels[SL_PART_COUNT];
    sl__part_planes planes[SL_PART_COUNT] = {0};
    SL_TRY(get_array(entry, "parts", where, SL_PART_COUNT, SL_PART_COUNT, &parts, err));
    for (size_t p = 0; p < SL_PART_COUNT; p++) {
        const json_t *part = json_array_get(parts, p);
        const char *role;
        SL_TRY(sl__json_str(part, "role", where, &role, err));
        if (strcmp(role, sl__part_name[p]) != 0) {
            return SL_FAIL(err, SL_EFORMAT, "%s: part %zu: expected role \"%s\"", where, p,
                           sl__part_name[p]);
        }
        SL_TRY(get_dtype(part, where, &dtype[p], err));
        SL_TRY(get_layout(part, where, &panels[p], err));
        uint32_t least = p == SL_PART_UP ? 0 : 1;
        SL_TRY(sl__json_u32(part, "rows", where, least, UINT32_MAX, &rows[p], err));
        SL_TRY(sl__json_u32(part, "cols", where, least, UINT32_MAX, &cols[p], err));
        if (rows[p] == 0) continue; /* absent */
        SL_TRY(get_scaling(part, where, dtype[p], &planes[p].scaling, err));
    }
    SL_TRY(sl__expert_layout_init(layout, experts, dtype, rows, cols, panels, planes, where,
                                  err));
    for (size_t p = 0; p < SL_PART_COUNT; p++) {
        const json_t *part = json_array_get(parts, p);
        SL_TRY(expect(part, "offset", where, layout->part[p].offset, err));
        SL_TRY(expect(part, "row_bytes", where, layout->part[p].row_bytes, err));
        if (layout->part[p].scale_row_bytes == 0) continue;
        SL_TRY(expect(part, "scales_offset", where, layout->part[p].scales_offset, err));
        SL_TRY(expect(part, "scale_row_bytes", where, layout->part[p].scale_row_bytes, err));
        if (!layout->part[p].scaling.biases) continue;
        SL_TRY(expect(part, "biases_offset", where, layout->part[p].biases_offset, err));
    }
    SL_TRY(expect(entry, "record_bytes", where, layout->record_bytes, err));
    return expect(entry, "stride", where, sl__pack_stride(layout), err);
}

static sl_status parse_checksums(sl__pack_manifest *m, const json_t *entry, uint32_t experts,
                                 const char *where, uint64_t **out, sl_error *err)
{
    const char *digits;
    SL_TRY(sl__json_str(entry, "xxh3", where, &digits, err));
    uint64_t *sums = SL_ARENA_NEW(m->arena, uint64_t, experts);
    if (!sums) return SL_FAIL_NOMEM(err, "record checksums");
    if (strlen(digits) != (size_t)experts * SL_PACK_SUM_DIGITS ||
        !sl__pack_sums_parse(digits, sums, experts)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: xxh3: expected 16 hexadecimal digits for each of %u",
                       where, experts);
    }
    *out = sums;
    return SL_OK;
}

static sl_status parse_layer(sl__pack_manifest *m, const json_t *entry, const char *path,
                             sl_error *err)
{
    size_t i = m->layer_count;
    char where[WHERE_BYTES], expected[SL_PACK_LAYER_NAME];
    const char *file;
    uint32_t experts;
    snprintf(where, sizeof where, "%s: entry %zu of layers", path, i);
    uint32_t *layer = &m->layers[i].layer;
    SL_TRY(sl__json_u32(entry, "layer", where, 0, SL_PACK_LAYERS_MAX - 1, layer, err));
    snprintf(where, sizeof where, "%s: layer %u", path, m->layers[i].layer);
    if (i > 0 && m->layers[i - 1].layer >= m->layers[i].layer) {
        return SL_FAIL(err, SL_EFORMAT, "%s: twice, or out of order", where);
    }
    SL_TRY(sl__json_u32(entry, "experts", where, 1, SL_PACK_EXPERTS_MAX, &experts, err));
    SL_TRY(parse_parts(entry, experts, where, &m->layers[i].layout, err));
    SL_TRY(sl__json_str(entry, "file", where, &file, err));
    sl__pack_layer_name(m->layers[i].layer, expected);
    if (strcmp(file, expected) != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: file: expected \"%s\"", where, expected);
    }
    SL_TRY(check_data_file(m, file, sl__pack_layer_bytes(&m->layers[i].layout), where,
                           &m->layers[i].file, err));
    SL_TRY(parse_checksums(m, entry, experts, where, &m->layers[i].checksums, err));
    m->layer_count++;
    return SL_OK;
}

static sl_status parse_layers(sl__pack_manifest *m, const char *path, sl_error *err)
{
    const json_t *array = NULL;
    SL_TRY(get_array(m->root, "layers", path, 0, SL_PACK_LAYERS_MAX, &array, err));
    size_t count = json_array_size(array);
    m->layers = sl__arena_alloc(m->arena, count, sizeof *m->layers);
    if (!m->layers) return SL_FAIL_NOMEM(err, "layer table");
    for (size_t i = 0; i < count; i++) {
        SL_TRY(parse_layer(m, json_array_get(array, i), path, err));
    }
    return SL_OK;
}

/* Whatever is not covered by checksums of tensors and records has one of its own. */
static sl_status check_small_files(const sl__pack_manifest *m, const char *path, sl_error *err)
{
    size_t without = 0;
    for (uint32_t f = 0; f < m->file_count; f++) without += !m->files[f].has_checksum;
    if (without != m->layer_count + 1) {
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: files: %zu without a checksum; expected resident.bin and one a layer",
                       path, without);
    }
    return SL_OK;
}

static sl_status check_self(const sl__pack_manifest *m, const char *path, sl_error *err)
{
    const char *text;
    uint64_t stated, actual;
    SL_TRY(sl__json_str(m->root, "self", path, &text, err));
    if (!sl__hash_parse(text, &stated)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: self: expected 16 hexadecimal digits", path);
    }
    SL_TRY(sl__pack_manifest_self(m->root, path, &actual, err));
    if (stated != actual) {
        return SL_FAIL(err, SL_ECORRUPT, "%s: the manifest differs from its own checksum", path);
    }
    return SL_OK;
}

static sl_status parse_head(const sl__pack_manifest *m, const char *path, sl_error *err)
{
    const char *format, *source;
    uint32_t version;
    if (!json_is_object(m->root)) return SL_FAIL(err, SL_EFORMAT, "%s: not an object", path);
    SL_TRY(sl__json_str(m->root, "format", path, &format, err));
    if (strcmp(format, SL_PACK_FORMAT) != 0) {
        return SL_FAIL(err, SL_EFORMAT, "%s: format: expected \"" SL_PACK_FORMAT "\"", path);
    }
    SL_TRY(sl__json_u32(m->root, "version", path, 1, UINT32_MAX, &version, err));
    if (version > SL_PACK_VERSION) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: pack version %u; %d is the last that can be read",
                       path, version, SL_PACK_VERSION);
    }
    SL_TRY(sl__json_str(m->root, "source", path, &source, err));
    if (!json_is_object(json_object_get(m->root, "config"))) {
        return SL_FAIL(err, SL_EFORMAT, "%s: config: expected an object", path);
    }
    if (sl__json_has(m->root, "generation_config") &&
        !json_is_object(json_object_get(m->root, "generation_config"))) {
        return SL_FAIL(err, SL_EFORMAT, "%s: generation_config: expected an object", path);
    }
    return SL_OK;
}

static sl_status parse_all(sl__pack_manifest *m, const char *path, sl_error *err)
{
    SL_TRY(parse_head(m, path, err));
    SL_TRY(parse_files(m, path, err));
    SL_TRY(parse_tensors(m, path, err));
    SL_TRY(parse_layers(m, path, err));
    SL_TRY(check_small_files(m, path, err));
    /* Last, so that the checks above are met by damaged manifests too and stay tested. */
    return check_self(m, path, err);
}

sl_status sl__pack_manifest_parse(sl__pack_manifest *out, const char *text, size_t size,
                                  const char *path, sl_error *err)
{
    memset(out, 0, sizeof *out);
    out->arena = malloc(sizeof *out->arena);
    if (!out->arena) return SL_FAIL_NOMEM(err, path);
    sl__arena_init(out->arena, 0);
    sl_status status = sl__json_parse(text, size, path, &out->root, err);
    if (status == SL_OK) status = parse_all(out, path, err);
    if (status != SL_OK) sl__pack_manifest_free(out);
    return status;
}

void sl__pack_manifest_free(sl__pack_manifest *manifest)
{
    json_decref(manifest->root);
    if (manifest->arena) sl__arena_free(manifest->arena);
    free(manifest->arena);
    memset(manifest, 0, sizeof *manifest);
}
