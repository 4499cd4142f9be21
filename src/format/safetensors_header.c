/* One header of a safetensors file:
 *
 *     0        8                          8 + N                                      file_size
 *     | N: u64 | JSON, N bytes, spaces …  | tensor | tensor |  …  | tensor           |
 *                                         ^ data_offsets count from here
 *
 *     {"__metadata__": {…}, "NAME": {"dtype":"BF16", "shape":[R,C], "data_offsets":[B,E]}, …}
 *
 * The tensors fill the data region exactly: sorted by offset, each begins where the one before it
 * ended, and the last ends with the file. That one pass finds overlaps, holes and files that are
 * longer than they say; what ends past the end of the file is found before, tensor by tensor.
 *
 * set->tensors grows by doubling inside the arena. Its capacity is a function of its count (the
 * next power of two), so the set carries none, and what growth leaves behind in the arena is less
 * than the table itself.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/fail.h"
#include "base/json.h"
#include "format/safetensors.h"
#include "format/safetensors_index.h"

#define METADATA_KEY "__metadata__"

/* What a check of one file needs to name in its messages. */
typedef struct header_view {
    const char *path;
    uint32_t file;
    uint64_t data_begin, file_size;
    uint64_t *past; /* bytes that the file lacks at its end; NULL: it may lack none */
} header_view;

/* The format's names of types. */
typedef struct dtype_info {
    const char *name;
    sl__dtype dtype;
    uint32_t bytes; /* an element */
} dtype_info;

static const dtype_info DTYPES[] = {
    {"BF16", SL_BF16, 2},       {"F16", SL_F16, 2},         {"F32", SL_F32, 4},
    {"F64", SL_F64, 8},         {"F8_E4M3", SL_F8_E4M3, 1}, {"F8_E5M2", SL_F8_E5M2, 1},
    {"F8_E8M0", SL_F8_E8M0, 1}, {"I8", SL_I8, 1},           {"I16", SL_I16, 2},
    {"I32", SL_I32, 4},         {"I64", SL_I64, 8},         {"U8", SL_U8, 1},
    {"U16", SL_U16, 2},         {"U32", SL_U32, 4},         {"U64", SL_U64, 8},
    {"BOOL", SL_BOOL, 1},
};

static const dtype_info *find_dtype(const char *name)
{
    for (size_t i = 0; i < sizeof DTYPES / sizeof DTYPES[0]; i++) {
        if (strcmp(name, DTYPES[i].name) == 0) return &DTYPES[i];
    }
    return NULL;
}

static size_t capacity_for(size_t count)
{
    size_t capacity = 64;
    if (count == 0) return 0;
    while (capacity < count) capacity *= 2;
    return capacity;
}

/* Makes room for `more` tensors after those that are there. */
static sl_status reserve_tensors(sl__st_set *set, size_t more, sl_error *err)
{
    size_t old = capacity_for(set->tensor_count);
    size_t wanted = capacity_for(set->tensor_count + more);
    if (wanted == old) return SL_OK;
    sl__st_tensor *grown = SL_ARENA_NEW(set->arena, sl__st_tensor, wanted);
    if (!grown) return SL_FAIL_NOMEM(err, "tensor table");
    if (set->tensor_count) memcpy(grown, set->tensors, set->tensor_count * sizeof *grown);
    set->tensors = grown;
    return SL_OK;
}

/* An element of shape or data_offsets; index is for the message. */
static sl_status read_u64(const header_view *h, const char *name, const json_t *array,
                          const char *key, size_t index, uint64_t *out, sl_error *err)
{
    const json_t *value = json_array_get(array, index);
    if (!json_is_integer(value))
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: %s[%zu]: expected a whole number", h->path,
                       name, key, index);
    json_int_t number = json_integer_value(value);
    if (number < 0)
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: tensor %s: %s[%zu]: expected a whole number from 0, got %lld", h->path,
                       name, key, index, (long long)number);
    *out = (uint64_t)number;
    return SL_OK;
}

/* Sets dtype, and bytes to those of one element. */
static sl_status read_dtype(const header_view *h, const json_t *info, sl__st_tensor *t,
                            sl_error *err)
{
    const json_t *value = json_object_get(info, "dtype");
    const char *text = json_string_value(value);
    if (!text || strlen(text) != json_string_length(value))
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: dtype: expected a string", h->path,
                       t->name);
    const dtype_info *found = find_dtype(text);
    if (!found)
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: dtype %s is not known", h->path,
                       t->name, text);
    t->dtype = found->dtype;
    t->bytes = found->bytes;
    return SL_OK;
}

/* Sets dims and shape; multiplies bytes up to those of the tensor. */
static sl_status read_shape(const header_view *h, const json_t *info, sl__st_tensor *t,
                            sl_error *err)
{
    const json_t *shape = json_object_get(info, "shape");
    if (!json_is_array(shape))
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: shape: expected an array", h->path,
                       t->name);
    if (json_array_size(shape) > SL_TENSOR_DIMS_MAX)
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: %zu dimensions, more than %u",
                       h->path, t->name, json_array_size(shape), SL_TENSOR_DIMS_MAX);
    t->dims = (uint32_t)json_array_size(shape);
    for (uint32_t d = 0; d < t->dims; d++) {
        SL_TRY(read_u64(h, t->name, shape, "shape", d, &t->shape[d], err));
        if (!sl__mul_u64(&t->bytes, t->bytes, t->shape[d]))
            return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: its shape is too large", h->path,
                           t->name);
    }
    return SL_OK;
}

/* Sets offset; the bytes between the offsets must be those of the shape, and in the file. */
static sl_status read_offsets(const header_view *h, const json_t *info, sl__st_tensor *t,
                              sl_error *err)
{
    const json_t *offsets = json_object_get(info, "data_offsets");
    if (!json_is_array(offsets) || json_array_size(offsets) != 2)
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: data_offsets: expected two numbers",
                       h->path, t->name);
    uint64_t begin, end;
    SL_TRY(read_u64(h, t->name, offsets, "data_offsets", 0, &begin, err));
    SL_TRY(read_u64(h, t->name, offsets, "data_offsets", 1, &end, err));
    if (begin > end)
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: tensor %s: begins at %" PRIu64 ", after its end at %" PRIu64, h->path,
                       t->name, begin, end);
    if (end - begin != t->bytes)
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: tensor %s: its shape takes %" PRIu64 " bytes, its offsets %" PRIu64,
                       h->path, t->name, t->bytes, end - begin);
    if (end > h->file_size - h->data_begin) {
        uint64_t past = end - (h->file_size - h->data_begin);
        if (!h->past)
            return SL_FAIL(err, SL_EFORMAT,
                           "%s: tensor %s ends %" PRIu64
                           " bytes past the end of the file: truncated?",
                           h->path, t->name, past);
        if (past > *h->past) *h->past = past;
    }
    t->offset = h->data_begin + begin;
    t->file = h->file;
    return SL_OK;
}

static sl_status read_tensor(const header_view *h, const json_t *info, sl__st_tensor *t,
                             sl_error *err)
{
    if (!json_is_object(info))
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: expected an object", h->path, t->name);
    SL_TRY(read_dtype(h, info, t, err));
    SL_TRY(read_shape(h, info, t, err));
    return read_offsets(h, info, t, err);
}

static int compare_by_offset(const void *a, const void *b)
{
    const sl__st_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    /* An empty tensor lies before the one that begins at the same byte. */
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* The tensors of this file, in any order, fill its data region exactly. */
static sl_status check_layout(const header_view *h, sl__st_tensor *tensors, size_t count,
                              sl_error *err)
{
    if (count) qsort(tensors, count, sizeof *tensors, compare_by_offset);
    uint64_t cursor = h->data_begin;
    for (size_t i = 0; i < count; i++) {
        const sl__st_tensor *t = &tensors[i];
        if (t->offset < cursor)
            return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s overlaps tensor %s", h->path, t->name,
                           tensors[i - 1].name);
        if (t->offset > cursor)
            return SL_FAIL(err, SL_EFORMAT,
                           "%s: a hole of %" PRIu64 " bytes lies before tensor %s", h->path,
                           t->offset - cursor, t->name);
        cursor += t->bytes;
    }
    if (cursor < h->file_size)
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: %" PRIu64 " bytes lie after the last tensor: the file is longer than "
                       "its header says",
                       h->path, h->file_size - cursor);
    return SL_OK;
}

/* Copies all tensor names, one after the other, into one piece of the arena. */
static sl_status alloc_names(sl__st_set *set, json_t *root, char **out, sl_error *err)
{
    size_t bytes = 0;
    const char *name;
    json_t *info;
    json_object_foreach(root, name, info) bytes += strlen(name) + 1;
    *out = sl__arena_alloc(set->arena, bytes, 1);
    if (!*out) return SL_FAIL_NOMEM(err, "tensor names");
    return SL_OK;
}

/* Appends all tensors, unless one is wrong: then the set keeps what it had. */
static sl_status append_tensors(sl__st_set *set, const header_view *h, json_t *root, sl_error *err)
{
    char *names;
    SL_TRY(reserve_tensors(set, json_object_size(root), err));
    SL_TRY(alloc_names(set, root, &names, err));
    sl__st_tensor *tensors = set->tensors ? set->tensors + set->tensor_count : NULL;
    size_t count = 0;
    const char *name;
    json_t *info;
    json_object_foreach(root, name, info) {
        if (strcmp(name, METADATA_KEY) == 0) {
            if (!json_is_object(info))
                return SL_FAIL(err, SL_EFORMAT, "%s: " METADATA_KEY ": expected an object",
                               h->path);
            continue;
        }
        size_t size = strlen(name) + 1;
        sl__st_tensor *t = &tensors[count++];
        *t = (sl__st_tensor){.name = memcpy(names, name, size)};
        names += size;
        SL_TRY(read_tensor(h, info, t, err));
    }
    SL_TRY(check_layout(h, tensors, count, err));
    set->tensor_count += count;
    return SL_OK;
}

sl_status sl__st_parse_header(sl__st_set *set, uint32_t file, const char *json, size_t json_size,
                              uint64_t file_size, sl_error *err)
{
    uint64_t past = 0;
    header_view h = {
        .path = set->files[file].path,
        .file = file,
        .file_size = file_size,
        .past = set->problems ? &past : NULL,
    };
    if (json_size > SL_ST_HEADER_MAX || !sl__add_u64(&h.data_begin, json_size, 8) ||
        h.data_begin > file_size)
        return SL_FAIL(err, SL_EFORMAT, "%s: header of %zu bytes does not fit the file", h.path,
                       json_size);
    if (json_size == 0 || json[0] != '{')
        return SL_FAIL(err, SL_EFORMAT, "%s: header does not begin with '{': not a safetensors "
                       "file?", h.path);
    json_t *root;
    SL_TRY(sl__json_parse(json, json_size, h.path, &root, err));
    sl_status status = append_tensors(set, &h, root, err);
    json_decref(root);
    if (status != SL_OK || past == 0) return status;
    sl_error why = {0};
    (void)SL_FAIL(&why, SL_EFORMAT, "%s: %" PRIu64 " bytes are missing at its end: truncated?",
                  h.path, past);
    return sl__problems_pass(set->problems, &why, err);
}
