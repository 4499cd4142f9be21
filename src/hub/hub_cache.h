/* The cache on the disk, laid out as huggingface_hub does, so that both programs find what the
 * other has fetched. Private to this room.
 *
 *     HUB/.locks/models--ORG--NAME/sluice.lock      held while a model is pulled
 *                                  DIGEST.lock      held while a file is fetched, by both programs
 *     HUB/models--ORG--NAME/refs/main               the commit, 40 hex digits
 *                           blobs/DIGEST            contents, each once
 *                           blobs/DIGEST.sluice*    unfinished ones (hub_partial.h)
 *                           snapshots/COMMIT/PATH   links: ../../blobs/DIGEST
 *
 * Under blobs/DIGEST there are only whole, verified files, and so are under snapshots/. refs/ is
 * written last: a name in it means that what was asked for is there.
 */
#ifndef SL_HUB_HUB_CACHE_H
#define SL_HUB_HUB_CACHE_H

#include "base/file.h"
#include "hub/hub_list.h"

typedef struct sl__hub_cache {
    char hub[SL_PATH_MAX];
    char folder[SL_PATH_MAX]; /* of the model */
    char locks[SL_PATH_MAX];
} sl__hub_cache;

/* Only names; nothing is looked at or made. repo: "ORG/NAME", as sl__hub_name_parse gives it. */
sl_status sl__hub_cache_at(sl__hub_cache *out, const char *hub, const char *repo, sl_error *err);

/* HUB/models--…/blobs/DIGEST and what is appended to it. */
sl_status sl__hub_blob_path(char out[SL_PATH_MAX], const sl__hub_cache *cache, const char *digest,
                            const char *suffix, sl_error *err);
/* HUB/models--…/snapshots/COMMIT[/path]; path may be NULL. */
sl_status sl__hub_snapshot_path(char out[SL_PATH_MAX], const sl__hub_cache *cache,
                                const char *commit, const char *path, sl_error *err);

/* Whether the file's bytes are there: as a blob, or under its name in the snapshot. */
bool sl__hub_cache_has(const sl__hub_cache *cache, const char *commit, const sl__hub_file *file);

/* Makes the folders that pulling needs. */
sl_status sl__hub_cache_create(const sl__hub_cache *cache, sl_error *err);

/* Gives a blob that is there its name in the snapshot, unless that name leads to it already. */
sl_status sl__hub_cache_link(const sl__hub_cache *cache, const char *commit,
                             const sl__hub_file *file, sl_error *err);

/* The commit that a revision had when it was pulled; a commit's own name stands for itself. False:
 * not in the cache. */
bool sl__hub_ref_read(const sl__hub_cache *cache, const char *revision,
                      char commit[SL_HUB_COMMIT_TEXT]);
sl_status sl__hub_ref_write(const sl__hub_cache *cache, const char *revision, const char *commit,
                            sl_error *err);

/* Takes the lock NAME.lock; *fd is -1 where another program has it. Closing it gives it back. */
sl_status sl__hub_lock(const sl__hub_cache *cache, const char *name, int *fd, sl_error *err);

/* The files of a snapshot, as a list without digests. SL_EIO where there is no such folder. */
sl_status sl__hub_snapshot_list(sl__hub_list *out, const sl__hub_cache *cache, const char *commit,
                                sl__arena *arena, sl_error *err);

/* The path into out[out_size]; SL_EINVAL where it does not fit. */
sl_status sl__hub_path_copy(char *out, size_t out_size, const char *path, sl_error *err);

#endif
