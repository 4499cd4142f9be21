/* Opening a checkpoint: the headers of all its files become one table of tensors.
 *
 *     folder ── model.safetensors.index.json ── distinct files ──┐
 *          └─── model.safetensors ───────────────────────────────┼─ header of each ─ append ─┐
 *     one .safetensors file ─────────────────────────────────────┘                           │
 *                                           set->tensors, sorted by name ── look-ups by bisection
 *
 * The work is that of reading the headers plus two sorts, whatever the checkpoint's size: with one
 * tensor an expert there are 100,000 of them. No data is read, no file is left open.
 */
#include "format/safetensors.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/fail.h"
#include "base/file.h"
#include "format/safetensors_index.h"

#define INDEX_NAME "model.safetensors.index.json"
#define SINGLE_NAME "model.safetensors"

/* Reads the header's text of an open file into *text (malloc'd). */
static sl_status read_header(int fd, const sl__st_file *file, char **text, size_t *text_size,
                             sl_error *err)
{
    uint8_t le[8];
    if (file->size < sizeof le)
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: %" PRIu64 " bytes are too few for a safetensors file: truncated?",
                       file->path, file->size);
    SL_TRY(sl__file_pread_all(fd, file->path, le, sizeof le, 0, err));
    uint64_t length = 0;
    for (unsigned i = 0; i < sizeof le; i++) length |= (uint64_t)le[i] << (8 * i);

    if (length > SL_ST_HEADER_MAX)
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: header of %" PRIu64 " bytes: more than %u; not a safetensors file?",
                       file->path, length, SL_ST_HEADER_MAX);
    if (length > file->size - sizeof le)
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: header of %" PRIu64 " bytes ends past the end of the file (%" PRIu64
                       " bytes): truncated?",
                       file->path, length, file->size);

    char *bytes = malloc((size_t)length + 1);
    if (!bytes) return SL_FAIL_NOMEM(err, "safetensors header");
    sl_status status = sl__file_pread_all(fd, file->path, bytes, length, sizeof le, err);
    if (status != SL_OK) {
        free(bytes);
        return status;
    }
    bytes[length] = '\0';
    *text = bytes;
    *text_size = (size_t)length;
    return SL_OK;
}

/* Opens set->files[index], whose path is set, and appends its tensors. */
static sl_status read_file(sl__st_set *set, uint32_t index, sl_error *err)
{
    sl__st_file *file = &set->files[index];
    int fd;
    SL_TRY(sl__file_open(file->path, &fd, &file->size, err));
    char *text = NULL;
    size_t text_size = 0;
    sl_status status = read_header(fd, file, &text, &text_size, err);
    close(fd);
    if (status == SL_OK)
        status = sl__st_parse_header(set, index, text, text_size, file->size, err);
    free(text);
    return status;
}

static int compare_by_name(const void *a, const void *b)
{
    const sl__st_tensor *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->file > y->file) - (x->file < y->file);
}

static sl_status sort_tensors(sl__st_set *set, sl_error *err)
{
    if (set->tensor_count == 0) return SL_OK;
    qsort(set->tensors, set->tensor_count, sizeof *set->tensors, compare_by_name);
    for (size_t i = 1; i < set->tensor_count; i++) {
        const sl__st_tensor *a = &set->tensors[i - 1], *b = &set->tensors[i];
        if (strcmp(a->name, b->name) == 0)
            return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s occurs in %s as well",
                           set->files[a->file].path, a->name, set->files[b->file].path);
    }
    return SL_OK;
}

static sl_status alloc_files(sl__st_set *set, uint32_t count, sl_error *err)
{
    set->files = SL_ARENA_NEW(set->arena, sl__st_file, count);
    if (!set->files) return SL_FAIL_NOMEM(err, "file table");
    set->file_count = count;
    return SL_OK;
}

static sl_status open_single(sl__st_set *set, const char *path, sl_error *err)
{
    SL_TRY(alloc_files(set, 1, err));
    set->files[0].path = sl__arena_strdup(set->arena, path);
    if (!set->files[0].path) return SL_FAIL_NOMEM(err, "file table");
    SL_TRY(read_file(set, 0, err));
    return sort_tensors(set, err);
}

/* The path of a shard, which must lie in the checkpoint's folder. */
static sl_status name_shard(sl__st_set *set, const char *dir, const sl__st_index *index,
                            const sl__st_index_entry *entry, sl_error *err)
{
    char path[SL_PATH_MAX];
    if (sl__path_join(path, sizeof path, dir, entry->file, NULL) != SL_OK)
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: tensor %s: file name %s is too long or leads out of the folder",
                       index->path, entry->tensor, entry->file);
    char *copy = sl__arena_strdup(set->arena, path);
    if (!copy) return SL_FAIL_NOMEM(err, "file table");
    set->files[entry->file_index].path = copy;
    if (sl__file_exists(path)) return SL_OK;
    set->files[entry->file_index].absent = true;
    sl_error why = {0};
    (void)SL_FAIL(&why, SL_EIO, "%s: is missing; %s names it", path, index->path);
    return sl__problems_pass(set->problems, &why, err);
}

static sl_status read_shards(sl__st_set *set, const char *dir, const sl__st_index *index,
                             sl_error *err)
{
    SL_TRY(alloc_files(set, index->file_count, err));
    /* All names first: a shard that is missing is told before any is read. */
    for (size_t i = 0; i < index->count; i++) {
        const sl__st_index_entry *e = &index->entries[i];
        if (!set->files[e->file_index].path) SL_TRY(name_shard(set, dir, index, e, err));
    }
    for (uint32_t f = 0; f < set->file_count; f++) {
        sl_error why = {0};
        if (set->files[f].absent) continue;
        set->files[f].absent = read_file(set, f, &why) != SL_OK;
        SL_TRY(sl__problems_pass(set->problems, &why, err));
    }
    SL_TRY(sort_tensors(set, err));
    /* With shards left out much of the index is not there: whoever needs a tensor will say so. */
    if (set->problems && set->problems->count > 0) return SL_OK;
    return sl__st_index_check(index, set, err);
}

static sl_status open_sharded(sl__st_set *set, const char *dir, const char *index_path,
                              sl_error *err)
{
    sl__st_index index;
    SL_TRY(sl__st_index_load(&index, index_path, err));
    sl_status status = read_shards(set, dir, &index, err);
    sl__st_index_free(&index);
    return status;
}

static sl_status open_any(sl__st_set *set, const char *path, sl_error *err)
{
    char inner[SL_PATH_MAX];
    if (!sl__file_is_dir(path)) return open_single(set, path, err);
    SL_TRY(sl__path_join(inner, sizeof inner, path, INDEX_NAME, err));
    if (sl__file_exists(inner)) return open_sharded(set, path, inner, err);
    SL_TRY(sl__path_join(inner, sizeof inner, path, SINGLE_NAME, err));
    if (sl__file_exists(inner)) return open_single(set, inner, err);
    return SL_FAIL(err, SL_EIO, "%s: holds neither " INDEX_NAME " nor " SINGLE_NAME, path);
}

sl_status sl__st_open(sl__st_set *out, const char *path, sl_error *err)
{
    return sl__st_survey(out, path, NULL, err);
}

sl_status sl__st_survey(sl__st_set *out, const char *path, sl__problems *problems, sl_error *err)
{
    *out = (sl__st_set){0};
    sl__st_set set = {.problems = problems};
    set.arena = malloc(sizeof *set.arena);
    if (!set.arena) return SL_FAIL_NOMEM(err, "tensor table");
    sl__arena_init(set.arena, 0);
    sl_status status = open_any(&set, path, err);
    if (status != SL_OK)
        sl__st_close(&set);
    else
        *out = set;
    return status;
}

void sl__st_close(sl__st_set *set)
{
    if (set->arena) sl__arena_free(set->arena);
    free(set->arena);
    *set = (sl__st_set){0};
}

static int compare_with_name(const void *name, const void *tensor)
{
    return strcmp(name, ((const sl__st_tensor *)tensor)->name);
}

const sl__st_tensor *sl__st_find(const sl__st_set *set, const char *name)
{
    if (set->tensor_count == 0) return NULL;
    return bsearch(name, set->tensors, set->tensor_count, sizeof *set->tensors, compare_with_name);
}
