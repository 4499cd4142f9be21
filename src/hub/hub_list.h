/* What a repository holds, as the hub's API says it (or as a folder of the cache shows it): a list
 * of files, sorted by path. Private to this room.
 *
 *     {"sha": "<commit>", "siblings": [
 *        {"rfilename": "config.json", "size": 727, "blobId": "<SHA-1 of git>"},
 *        {"rfilename": "model.safetensors", "size": 8, "blobId": "…",
 *         "lfs": {"sha256": "<SHA-256>", "size": 8, "pointerSize": 130}}]}
 */
#ifndef SL_HUB_HUB_LIST_H
#define SL_HUB_HUB_LIST_H

#include "base/arena.h"
#include "hub/hub_names.h"
#include "sluice.h"

#define SL_HUB_SHA256_DIGITS  64u
#define SL_HUB_FILES_MAX      100000u
#define SL_HUB_LIST_BYTES_MAX (64u << 20) /* an answer of the API */

typedef struct sl__hub_file {
    const char *path; /* in the repository; fit for the disk (sl__hub_path_ok) */
    uint64_t size;
    /* Of the content: 64 hex digits of SHA-256, or 40 of the SHA-1 that git would give it. The
     * cache's name for it too. "" where the hub did not say size and sum. */
    char digest[SL_HUB_SHA256_DIGITS + 1];
    bool chosen;
} sl__hub_file;

typedef struct sl__hub_list {
    char commit[SL_HUB_COMMIT_TEXT];
    sl__hub_file *files; /* in the arena; sorted by path, each path once */
    size_t count;
} sl__hub_list;

/* Reads an answer of /api/models/ORG/NAME/revision/REVISION?blobs=true. repo is for messages.
 * SL_EFORMAT where it is not of that form, or a file's name would lead out of its folder. */
sl_status sl__hub_list_parse(sl__hub_list *out, const char *text, size_t size, const char *repo,
                             sl__arena *arena, sl_error *err);

/* Sorts the list, and refuses a path that is there twice. */
sl_status sl__hub_list_sort(sl__hub_list *list, const char *repo, sl_error *err);

sl__hub_file *sl__hub_list_find(const sl__hub_list *list, const char *path); /* NULL: not there */

#endif
