/* Makes the manifest of a plan. Its checksums are 0 at first and are set as files are finished;
 * pack_manifest.c describes the members. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "base/hash.h"
#include "store/pack_layout.h"
#include "store/pack_manifest.h"

static json_t *hash_json(uint64_t hash)
{
    char text[SL_HASH_TEXT];
    sl__hash_format(hash, text);
    return json_string(text);
}

static json_t *int_json(uint64_t value) { return json_integer((json_int_t)value); }

/* A member is added in the order of the calls; a NULL value (memory is out) counts as failed. */
static bool put(json_t *obj, const char *key, json_t *value)
{
    return json_object_set_new(obj, key, value) == 0;
}

/* Adds a value of the caller's by reference; it is never changed. */
static bool share(json_t *obj, const char *key, const json_t *value)
{
    return json_object_set(obj, key, (json_t *)value) == 0;
}

/* Appends to the array; takes over value in any case. */
static bool push(json_t *array, json_t *value)
{
    return json_array_append_new(array, value) == 0;
}

/* Returns obj, or, where ok is false, frees it and returns NULL. */
static json_t *whole(json_t *obj, bool ok)
{
    if (ok) return obj;
    json_decref(obj);
    return NULL;
}

static json_t *scaling_json(const sl__scaling *scaling)
{
    json_t *obj = json_object();
    bool ok = obj && put(obj, "dtype", json_string(sl__dtype_name(scaling->type))) &&
              put(obj, "group", int_json(scaling->group)) &&
              put(obj, "group_rows", int_json(scaling->group_rows)) &&
              put(obj, "biases", json_boolean(scaling->biases));
    return whole(obj, ok);
}

static json_t *tensor_json(const sl__pack_tensor_plan *t, uint64_t offset, uint64_t bytes)
{
    json_t *obj = json_object(), *shape = json_array();
    bool ok = obj && shape;
    for (uint32_t d = 0; ok && d < t->dims; d++) ok = push(shape, int_json(t->shape[d]));
    ok = ok && put(obj, "name", json_string(t->name));
    ok = ok && put(obj, "dtype", json_string(sl__dtype_name(t->dtype)));
    if (t->panels) ok = ok && put(obj, "layout", json_string(SL_PACK_PANELS));
    if (sl__has_planes(&t->scaling)) ok = ok && put(obj, "scaling", scaling_json(&t->scaling));
    ok = ok && json_object_set(obj, "shape", shape) == 0;
    json_decref(shape);
    ok = ok && put(obj, "offset", int_json(offset)) && put(obj, "bytes", int_json(bytes)) &&
         put(obj, "xxh3", hash_json(0));
    return whole(obj, ok);
}

static json_t *part_json(const sl__matrix_layout *part, const char *role)
{
    json_t *obj = json_object();
    bool ok = obj && put(obj, "role", json_string(role)) &&
              put(obj, "dtype", json_string(sl__dtype_name(part->dtype))) &&
              put(obj, "rows", int_json(part->rows)) && put(obj, "cols", int_json(part->cols)) &&
              put(obj, "offset", int_json(part->offset)) &&
              put(obj, "row_bytes", int_json(part->row_bytes));
    if (part->panels) ok = ok && put(obj, "layout", json_string(SL_PACK_PANELS));
    const sl__scaling own = sl__dtype_scaling(part->dtype);
    if (part->rows > 0 && !sl__scaling_equal(&part->scaling, &own)) {
        ok = ok && put(obj, "scaling", scaling_json(&part->scaling));
    }
    if (part->scale_row_bytes > 0) {
        ok = ok && put(obj, "scales_offset", int_json(part->scales_offset)) &&
             put(obj, "scale_row_bytes", int_json(part->scale_row_bytes));
    }
    if (part->scaling.biases) ok = ok && put(obj, "biases_offset", int_json(part->biases_offset));
    return whole(obj, ok);
}

static json_t *sums_json(const uint64_t *checksums, uint32_t count)
{
    char *digits = sl__pack_sums_format(checksums, count);
    json_t *text = digits ? json_string(digits) : NULL;
    free(digits);
    return text;
}

static json_t *layer_json(uint32_t layer, const sl__expert_layout *layout)
{
    char name[SL_PACK_LAYER_NAME];
    sl__pack_layer_name(layer, name);
    json_t *obj = json_object(), *parts = json_array();
    bool ok = obj && parts;
    for (int p = 0; ok && p < SL_PART_COUNT; p++) {
        ok = push(parts, part_json(&layout->part[p], sl__part_name[p]));
    }
    ok = ok && put(obj, "layer", int_json(layer)) && put(obj, "file", json_string(name)) &&
         put(obj, "experts", int_json(layout->expert_count)) &&
         put(obj, "record_bytes", int_json(layout->record_bytes)) &&
         put(obj, "stride", int_json(sl__pack_stride(layout)));
    ok = ok && json_object_set(obj, "parts", parts) == 0;
    json_decref(parts);
    uint64_t *zeros = calloc(layout->expert_count, sizeof *zeros);
    ok = ok && zeros && put(obj, "xxh3", sums_json(zeros, layout->expert_count));
    free(zeros);
    return whole(obj, ok);
}

static json_t *file_json(const char *name, uint64_t bytes)
{
    json_t *obj = json_object();
    bool ok = obj && put(obj, "name", json_string(name)) && put(obj, "bytes", int_json(bytes));
    return whole(obj, ok);
}

/* Inserts entry where it belongs by its name, in place of one of the same name. */
static bool put_file(json_t *files, json_t *entry)
{
    const char *name = json_string_value(json_object_get(entry, "name"));
    size_t i = 0, count = json_array_size(files);
    for (; name && i < count; i++) {
        const json_t *other = json_array_get(files, i);
        int order = strcmp(json_string_value(json_object_get(other, "name")), name);
        if (order == 0) return json_array_set_new(files, i, entry) == 0;
        if (order > 0) break;
    }
    return json_array_insert_new(files, i, entry) == 0;
}

static sl_status compose_tensors(const sl__pack_plan *plan, const char *path, json_t *tensors,
                                 json_t *files, sl_error *err)
{
    uint64_t end = 0;
    for (size_t i = 0; i < plan->tensor_count; i++) {
        const sl__pack_tensor_plan *t = &plan->tensors[i];
        uint64_t bytes, offset;
        if (!sl__tensor_bytes(t->dtype, t->panels, t->dims, t->shape, &bytes) ||
            !sl__pack_place(&end, bytes, &offset)) {
            return SL_FAIL(err, SL_EINVAL, "%s: tensor %s: empty, or larger than any file", path,
                           t->name);
        }
        if (!push(tensors, tensor_json(t, offset, bytes))) return SL_FAIL_NOMEM(err, path);
    }
    json_t *entry = file_json(SL_PACK_RESIDENT, sl__pack_resident_bytes(end));
    return put_file(files, entry) ? SL_OK : SL_FAIL_NOMEM(err, path);
}

static sl_status compose_layers(const sl__pack_plan *plan, const char *path, json_t *layers,
                                json_t *files, sl_error *err)
{
    for (size_t i = 0; i < plan->layer_count; i++) {
        const sl__pack_layer_plan *l = &plan->layers[i];
        sl__expert_layout layout;
        char where[512], name[SL_PACK_LAYER_NAME];
        snprintf(where, sizeof where, "%s: layer %u", path, l->layer);
        if (i > 0 && plan->layers[i - 1].layer >= l->layer) {
            return SL_FAIL(err, SL_EINVAL, "%s: twice, or out of order", where);
        }
        SL_TRY(sl__expert_layout_init(&layout, l->expert_count, l->dtype, l->rows, l->cols,
                                      l->panels, l->planes, where, err));
        sl__pack_layer_name(l->layer, name);
        if (!push(layers, layer_json(l->layer, &layout)) ||
            !put_file(files, file_json(name, sl__pack_layer_bytes(&layout)))) {
            return SL_FAIL_NOMEM(err, path);
        }
    }
    return SL_OK;
}

static json_t *compose_head(const sl__pack_plan *plan)
{
    json_t *root = json_object();
    bool ok = root && put(root, "format", json_string(SL_PACK_FORMAT)) &&
              put(root, "version", json_integer(SL_PACK_VERSION)) &&
              put(root, "source", json_string(plan->source));
    if (plan->provenance) {
        ok = ok && share(root, "provenance", plan->provenance);
    }
    ok = ok && share(root, "config", plan->config);
    if (plan->generation) {
        ok = ok && share(root, "generation_config", plan->generation);
    }
    ok = ok && put(root, "files", json_array()) && put(root, "tensors", json_array()) &&
         put(root, "layers", json_array());
    return whole(root, ok);
}

/* JSON holds nothing else; a folder's name, on which `source` may rest, can be any bytes. */
static sl_status check_utf8(const char *text, const char *what, const char *path, sl_error *err)
{
    const utf8proc_uint8_t *p = (const utf8proc_uint8_t *)text;
    while (*p) {
        utf8proc_int32_t c;
        utf8proc_ssize_t n = utf8proc_iterate(p, -1, &c);
        if (n <= 0) {
            return SL_FAIL(err, SL_EINVAL, "%s: %s: \"%.200s\" is not UTF-8", path, what, text);
        }
        p += n;
    }
    return SL_OK;
}

sl_status sl__pack_compose(const sl__pack_plan *plan, const char *path, json_t **out, sl_error *err)
{
    SL_TRY(check_utf8(plan->source, "source", path, err));
    SL_TRY(check_utf8(plan->fingerprint, "fingerprint", path, err));
    for (size_t i = 0; i < plan->tensor_count; i++) {
        SL_TRY(check_utf8(plan->tensors[i].name, "tensor", path, err));
    }
    json_t *root = compose_head(plan);
    if (!root) return SL_FAIL_NOMEM(err, path);
    json_t *files = json_object_get(root, "files");
    sl_status status =
        compose_tensors(plan, path, json_object_get(root, "tensors"), files, err);
    if (status == SL_OK) {
        status = compose_layers(plan, path, json_object_get(root, "layers"), files, err);
    }
    if (status != SL_OK) {
        json_decref(root);
        return status;
    }
    *out = root;
    return SL_OK;
}

sl_status sl__pack_compose_tensor(json_t *root, size_t index, uint64_t checksum, sl_error *err)
{
    json_t *entry = json_array_get(json_object_get(root, "tensors"), index);
    assert(entry);
    return put(entry, "xxh3", hash_json(checksum)) ? SL_OK : SL_FAIL_NOMEM(err, "checksum");
}

sl_status sl__pack_compose_layer(json_t *root, size_t index, const uint64_t *checksums,
                                 sl_error *err)
{
    json_t *entry = json_array_get(json_object_get(root, "layers"), index);
    assert(entry);
    uint32_t count = (uint32_t)json_integer_value(json_object_get(entry, "experts"));
    return put(entry, "xxh3", sums_json(checksums, count)) ? SL_OK
                                                           : SL_FAIL_NOMEM(err, "checksums");
}

sl_status sl__pack_compose_file(json_t *root, const char *name, uint64_t bytes, uint64_t checksum,
                                sl_error *err)
{
    json_t *entry = file_json(name, bytes);
    entry = whole(entry, entry && put(entry, "xxh3", hash_json(checksum)));
    return put_file(json_object_get(root, "files"), entry) ? SL_OK : SL_FAIL_NOMEM(err, name);
}

sl_status sl__pack_compose_text(json_t *root, const char *path, char **text, size_t *size,
                                sl_error *err)
{
    uint64_t self;
    SL_TRY(sl__pack_manifest_self(root, path, &self, err));
    if (!put(root, "self", hash_json(self))) return SL_FAIL_NOMEM(err, path);
    return sl__pack_dump(root, JSON_INDENT(1), text, size, err);
}
