/* What the probe found, remembered in a small file of JSON.
 *
 *     {"version": 1,
 *      "disks": {DEVICE: {SIZE: {"io": "uring", "direct": true, "split_bytes": …, "depth": …,
 *                                "bytes_per_s": …, "best_bytes_per_s": …,
 *                                "points": [["uring", true, read_bytes, depth, bytes_per_s], …]}}}}
 *
 * DEVICE is what sl__probe_device says, SIZE the power of two at or below the expert's size.
 *
 * The file is a help and nothing else: whatever is wrong with it, nothing is remembered, and the
 * next save begins anew. Hence no function here tells why it could not read.
 */
#include "io/probe.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/json.h"
#include "io/probe_search.h"

#define VERSION      1
#define FILE_MAX     (UINT64_C(1) << 20)
#define DEVICES_MAX  32u
#define SPLIT_MAX    (UINT64_C(1) << 30)
#define DEPTH_MAX    1024u
#define RATE_MAX     1e15

static void size_name(char out[24], uint64_t expert_bytes)
{
    uint64_t size = 1;
    while (size <= expert_bytes / 2)
        size *= 2;
    snprintf(out, 24, "%" PRIu64, size);
}

/* ---- reading --------------------------------------------------------------------------------- */

static bool kind_of(sl_io_kind *kind, const char *name)
{
    *kind = SL_IO_KIND_URING;
    if (strcmp(name, sl_io_kind_name(*kind)) == 0) return true;
    *kind = SL_IO_KIND_PREAD;
    return strcmp(name, sl_io_kind_name(*kind)) == 0;
}

static bool read_point(sl_probe_point *point, const json_t *value)
{
    const json_t *io = json_array_get(value, 0), *direct = json_array_get(value, 1);
    json_int_t bytes = json_integer_value(json_array_get(value, 2));
    json_int_t depth = json_integer_value(json_array_get(value, 3));
    double rate = json_number_value(json_array_get(value, 4));
    if (!json_is_string(io) || !json_is_boolean(direct)) return false;
    if (!kind_of(&point->io, json_string_value(io))) return false;
    if (bytes < 1 || (uint64_t)bytes > SPLIT_MAX || depth < 1 || depth > (json_int_t)DEPTH_MAX ||
        !(rate >= 0.0 && rate <= RATE_MAX))
        return false;
    point->direct = json_is_true(direct);
    point->read_bytes = (uint64_t)bytes;
    point->depth = (uint32_t)depth;
    point->bytes_per_s = rate;
    return true;
}

static bool read_points(sl_probe_result *result, const json_t *points)
{
    size_t count = json_array_size(points);
    if (!json_is_array(points) || count > SL_PROBE_POINTS) return false;
    for (size_t i = 0; i < count; i++)
        if (!read_point(&result->points[i], json_array_get(points, i))) return false;
    result->point_count = (uint32_t)count;
    return true;
}

static sl_status read_choice(sl_probe_result *result, const json_t *entry)
{
    const char *io;
    SL_TRY(sl__json_str(entry, "io", "", &io, NULL));
    if (!kind_of(&result->io, io)) return SL_EFORMAT;
    SL_TRY(sl__json_bool(entry, "direct", "", &result->direct, NULL));
    SL_TRY(sl__json_u64(entry, "split_bytes", "", 1, SPLIT_MAX, &result->split_bytes, NULL));
    SL_TRY(sl__json_u32(entry, "depth", "", 1, DEPTH_MAX, &result->depth, NULL));
    SL_TRY(sl__json_f64(entry, "bytes_per_s", "", 1.0, RATE_MAX, &result->bytes_per_s, NULL));
    SL_TRY(sl__json_f64(entry, "best_bytes_per_s", "", 1.0, RATE_MAX, &result->best_bytes_per_s,
                        NULL));
    return read_points(result, json_object_get(entry, "points")) ? SL_OK : SL_EFORMAT;
}

/* The whole of such a file, or NULL. */
static json_t *parse_root(const char *text, size_t size)
{
    json_t *root;
    uint32_t version;
    if (size > FILE_MAX || sl__json_parse(text, size, "", &root, NULL) != SL_OK) return NULL;
    if (sl__json_u32(root, "version", "", VERSION, VERSION, &version, NULL) == SL_OK &&
        json_is_object(json_object_get(root, "disks")))
        return root;
    json_decref(root);
    return NULL;
}

bool sl__probe_parse(sl_probe_result *result, const char *text, size_t size, uint64_t expert_bytes)
{
    char name[24];
    sl_probe_result *found = calloc(1, sizeof *found);
    json_t *root = found ? parse_root(text, size) : NULL;
    size_name(name, expert_bytes);
    const json_t *disk = json_object_get(json_object_get(root, "disks"), result->device);
    bool ok = root && read_choice(found, json_object_get(disk, name)) == SL_OK;
    if (ok) {
        memcpy(found->device, result->device, sizeof found->device);
        found->remembered = true;
        *result = *found;
    }
    json_decref(root);
    free(found);
    return ok;
}

bool sl__probe_recall(sl_probe_result *result, const char *path, uint64_t expert_bytes)
{
    char *text;
    size_t size;
    sl_probe_result *found = malloc(sizeof *found);
    if (!found) return false;
    memcpy(found->device, result->device, sizeof found->device);
    bool ok = result->device[0] && sl__file_read(path, FILE_MAX, &text, &size, NULL) == SL_OK;
    if (ok) {
        ok = sl__probe_parse(found, text, size, expert_bytes);
        free(text);
    }
    /* The same home may be seen from a container in which io_uring is forbidden. */
    ok = ok && (found->io != SL_IO_KIND_URING || sl__io_has_uring());
    if (ok) *result = *found;
    free(found);
    return ok;
}

/* ---- writing --------------------------------------------------------------------------------- */

static json_t *entry_of(const sl_probe_result *result)
{
    json_t *entry = json_pack("{s:s, s:b, s:I, s:i, s:f, s:f, s:[]}", "io",
                              sl_io_kind_name(result->io), "direct", (int)result->direct,
                              "split_bytes", (json_int_t)result->split_bytes, "depth",
                              (int)result->depth, "bytes_per_s", result->bytes_per_s,
                              "best_bytes_per_s", result->best_bytes_per_s, "points");
    json_t *points = json_object_get(entry, "points");
    for (uint32_t i = 0; entry && i < result->point_count; i++) {
        const sl_probe_point *p = &result->points[i];
        json_t *point = json_pack("[s, b, I, i, f]", sl_io_kind_name(p->io), (int)p->direct,
                                  (json_int_t)p->read_bytes, (int)p->depth, p->bytes_per_s);
        if (json_array_append_new(points, point) != 0) {
            json_decref(entry);
            return NULL;
        }
    }
    return entry;
}

/* What is in the file now, or the beginning of one. */
static json_t *root_of(const char *path)
{
    char *text;
    size_t size;
    json_t *root = NULL;
    if (sl__file_read(path, FILE_MAX, &text, &size, NULL) == SL_OK) {
        root = parse_root(text, size);
        free(text);
    }
    return root ? root : json_pack("{s:i, s:{}}", "version", VERSION, "disks");
}

/* Puts an entry in its place; the device that was added first makes room. Takes the entry. */
static bool put_entry(json_t *root, const char *device, const char *size, json_t *entry)
{
    json_t *disks = json_object_get(root, "disks");
    json_t *disk = json_object_get(disks, device);
    if (!json_is_object(disk)) {
        while (json_object_size(disks) >= DEVICES_MAX)
            json_object_del(disks, json_object_iter_key(json_object_iter(disks)));
        if (json_object_set_new(disks, device, json_object()) != 0) {
            json_decref(entry);
            return false;
        }
        disk = json_object_get(disks, device);
    }
    return json_object_set_new(disk, size, entry) == 0;
}

sl_status sl__probe_save(const sl_probe_result *result, const char *path, uint64_t expert_bytes,
                         sl_error *err)
{
    char name[24];
    if (!(result->bytes_per_s > 0.0) || result->device[0] == '\0') return SL_OK;
    size_name(name, expert_bytes);
    json_t *root = root_of(path);
    json_t *entry = root ? entry_of(result) : NULL;
    char *text = NULL;
    if (entry && put_entry(root, result->device, name, entry))
        text = json_dumps(root, JSON_INDENT(1));
    json_decref(root);
    if (!text) return SL_FAIL_NOMEM(err, "findings of the probe");
    sl_status status = sl__file_write_atomic(path, text, strlen(text), err);
    free(text);
    return status;
}
