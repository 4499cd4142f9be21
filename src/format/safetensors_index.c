/* The shard index:
 *
 *     {"metadata": {…}, "weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors", …}}
 *
 * It is believed only as far as naming the files that belong to the checkpoint: what lies in them
 * is read from their own headers, and then every line of the index is held against that. The
 * entries are sorted by file name once, so that the distinct files are found in one pass however
 * many tensors there are.
 */
#include "format/safetensors_index.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

static int compare_by_file(const void *a, const void *b)
{
    const sl__st_index_entry *x = a, *y = b;
    int order = strcmp(x->file, y->file);
    return order ? order : strcmp(x->tensor, y->tensor);
}

static void number_files(sl__st_index *index)
{
    uint32_t file = 0;
    for (size_t i = 0; i < index->count; i++) {
        if (i > 0 && strcmp(index->entries[i].file, index->entries[i - 1].file) != 0) file++;
        index->entries[i].file_index = file;
    }
    index->file_count = file + 1;
}

static sl_status read_weight_map(sl__st_index *index, sl_error *err)
{
    json_t *map = json_object_get(index->root, "weight_map");
    if (!json_is_object(map))
        return SL_FAIL(err, SL_EFORMAT, "%s: weight_map: expected an object of tensor names",
                       index->path);
    size_t count = json_object_size(map);
    if (count == 0)
        return SL_FAIL(err, SL_EFORMAT, "%s: weight_map: names no tensor", index->path);
    index->entries = malloc(count * sizeof *index->entries);
    if (!index->entries) return SL_FAIL_NOMEM(err, "shard index");

    const char *name;
    json_t *file;
    json_object_foreach(map, name, file) {
        const char *text = json_string_value(file);
        if (!text || text[0] == '\0' || strlen(text) != json_string_length(file))
            return SL_FAIL(err, SL_EFORMAT, "%s: weight_map: tensor %s: expected a file name",
                           index->path, name);
        index->entries[index->count++] =
            (sl__st_index_entry){.tensor = name, .file = text};
    }
    qsort(index->entries, index->count, sizeof *index->entries, compare_by_file);
    number_files(index);
    return SL_OK;
}

sl_status sl__st_index_load(sl__st_index *out, const char *path, sl_error *err)
{
    *out = (sl__st_index){.path = path};
    SL_TRY(sl__json_load(path, SL_ST_HEADER_MAX, &out->root, err));
    sl_status status = read_weight_map(out, err);
    if (status != SL_OK) sl__st_index_free(out);
    return status;
}

void sl__st_index_free(sl__st_index *index)
{
    free(index->entries);
    json_decref(index->root);
    *index = (sl__st_index){0};
}

sl_status sl__st_index_check(const sl__st_index *index, const sl__st_set *set, sl_error *err)
{
    for (size_t i = 0; i < index->count; i++) {
        const sl__st_index_entry *e = &index->entries[i];
        const sl__st_tensor *t = sl__st_find(set, e->tensor);
        if (!t)
            return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s is not in %s, nor in any other file",
                           index->path, e->tensor, e->file);
        if (t->file != e->file_index)
            return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s is not in %s but in %s", index->path,
                           e->tensor, e->file, set->files[t->file].path);
    }
    return SL_OK;
}
