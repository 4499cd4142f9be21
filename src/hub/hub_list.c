#include "hub/hub_list.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"

static int compare_paths(const void *a, const void *b)
{
    return strcmp(((const sl__hub_file *)a)->path, ((const sl__hub_file *)b)->path);
}

sl_status sl__hub_list_sort(sl__hub_list *list, const char *repo, sl_error *err)
{
    if (list->count == 0) return SL_OK;
    qsort(list->files, list->count, sizeof *list->files, compare_paths);
    for (size_t i = 1; i < list->count; i++)
        if (strcmp(list->files[i - 1].path, list->files[i].path) == 0)
            return SL_FAIL(err, SL_EFORMAT, "%s: the hub lists the file %s twice", repo,
                           list->files[i].path);
    return SL_OK;
}

sl__hub_file *sl__hub_list_find(const sl__hub_list *list, const char *path)
{
    sl__hub_file key = {.path = path};
    if (list->count == 0) return NULL;
    return bsearch(&key, list->files, list->count, sizeof key, compare_paths);
}

/* Size and checksum: those of what the pointer points to, where the file is a large one. */
static sl_status take_content(sl__hub_file *file, const json_t *entry, const char *repo,
                              sl_error *err)
{
    const json_t *lfs = json_object_get(entry, "lfs");
    bool large = lfs && !json_is_null(lfs);
    const json_t *from = large ? lfs : entry;
    const char *key = large ? "sha256" : "blobId", *digest;
    size_t digits = large ? SL_HUB_SHA256_DIGITS : SL_HUB_COMMIT_TEXT - 1;
    if (large && !json_is_object(lfs))
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: \"lfs\" is not an object", repo, file->path);
    if (!sl__json_has(from, "size") || !sl__json_has(from, key)) return SL_OK;
    SL_TRY(sl__json_u64(from, "size", repo, 0, INT64_MAX, &file->size, err));
    SL_TRY(sl__json_str(from, key, repo, &digest, err));
    if (!sl__hub_is_hex(digest, digits))
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: \"%s\" is not of %zu hex digits", repo, file->path,
                       key, digits);
    memcpy(file->digest, digest, digits + 1);
    return SL_OK;
}

static sl_status take_entry(sl__hub_file *file, const json_t *entry, const char *repo,
                            sl__arena *arena, sl_error *err)
{
    const char *path;
    if (!json_is_object(entry))
        return SL_FAIL(err, SL_EFORMAT, "%s: an entry of \"siblings\" is not an object", repo);
    SL_TRY(sl__json_str(entry, "rfilename", repo, &path, err));
    if (!sl__hub_path_ok(path))
        return SL_FAIL(err, SL_EFORMAT, "%s: the hub lists a file name that is refused: \"%.200s\"",
                       repo, path);
    file->path = sl__arena_strdup(arena, path);
    if (!file->path) return SL_FAIL_NOMEM(err, "list of files");
    return take_content(file, entry, repo, err);
}

static sl_status take_root(sl__hub_list *out, const json_t *root, const char *repo,
                           sl__arena *arena, sl_error *err)
{
    const char *commit;
    if (!json_is_object(root))
        return SL_FAIL(err, SL_EFORMAT, "%s: the hub's answer is not an object", repo);
    SL_TRY(sl__json_str(root, "sha", repo, &commit, err));
    if (!sl__hub_is_hex(commit, SL_HUB_COMMIT_TEXT - 1))
        return SL_FAIL(err, SL_EFORMAT, "%s: \"sha\" is not of 40 hex digits", repo);
    memcpy(out->commit, commit, SL_HUB_COMMIT_TEXT);

    const json_t *entries = json_object_get(root, "siblings");
    if (!json_is_array(entries))
        return SL_FAIL(err, SL_EFORMAT, "%s: the hub's answer lists no files (\"siblings\")", repo);
    size_t count = json_array_size(entries);
    if (count > SL_HUB_FILES_MAX)
        return SL_FAIL(err, SL_EFORMAT, "%s: the hub lists %zu files; at most %u are read", repo,
                       count, SL_HUB_FILES_MAX);
    out->files = SL_ARENA_NEW(arena, sl__hub_file, count);
    if (!out->files) return SL_FAIL_NOMEM(err, "list of files");
    for (size_t i = 0; i < count; i++)
        SL_TRY(take_entry(&out->files[i], json_array_get(entries, i), repo, arena, err));
    out->count = count;
    return sl__hub_list_sort(out, repo, err);
}

sl_status sl__hub_list_parse(sl__hub_list *out, const char *text, size_t size, const char *repo,
                             sl__arena *arena, sl_error *err)
{
    *out = (sl__hub_list){0};
    json_t *root;
    SL_TRY(sl__json_parse(text, size, repo, &root, err));
    sl_status status = take_root(out, root, repo, arena, err);
    json_decref(root);
    if (status != SL_OK) *out = (sl__hub_list){0};
    return status;
}
