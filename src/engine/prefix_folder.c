/* A prefix cache's folder: a file an entry, named so that models can share it.
 *
 *     SETTINGS-IDS-POSITION.snapshot       16 hex digits, 16 hex digits, decimal
 *     SETTINGS-….snapshot.partial          being written; one that is there at opening is nobody's
 *     SETTINGS.lock                        locked by the process whose cache it is
 *
 * SETTINGS is a hash of the model's fingerprint and of what else decides answers. A file's time of
 * change is when it was last used.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/hash.h"
#include "engine/prefix.h"

/* False where it does not fit. */
static bool path_of(const sl_prefix_cache *cache, const char *name, char out[SL_PATH_MAX])
{
    int n = snprintf(out, SL_PATH_MAX, "%s/%s", cache->folder, name);
    return n > 0 && n < (int)SL_PATH_MAX;
}

static bool entry_path(const sl_prefix_cache *cache, const sl__prefix_entry *entry,
                       char out[SL_PATH_MAX])
{
    char name[80];
    snprintf(name, sizeof name, "%s-%016" PRIx64 "-%u.snapshot", cache->tag, entry->hash,
             entry->position);
    return path_of(cache, name, out);
}

sl_status sl__prefix_folder_get(const sl_prefix_cache *cache, const sl__prefix_entry *entry,
                                char path[SL_PATH_MAX], sl__snapshot_place *place, sl_error *err)
{
    if (!entry_path(cache, entry, path)) {
        return SL_FAIL(err, SL_EINVAL, "%.200s: the path is too long", cache->folder);
    }
    *place = (sl__snapshot_place){.name = path};
    return sl__file_open(path, &place->fd, &place->bytes, err);
}

sl_status sl__prefix_folder_put(sl_prefix_cache *cache, sl__prefix_entry *entry,
                                const sl_session *session, sl_error *err)
{
    char path[SL_PATH_MAX];
    if (!entry_path(cache, entry, path)) {
        return SL_FAIL(err, SL_EINVAL, "%.200s: the path is too long", cache->folder);
    }
    /* What a loss of power leaves of it is found by its checksums. */
    SL_TRY(sl__snapshot_save(session, path, false, err));
    entry->on_disk = true;
    cache->stats.disk_entries++;
    cache->stats.disk_bytes += entry->bytes;
    return SL_OK;
}

void sl__prefix_folder_touch(const sl_prefix_cache *cache, const sl__prefix_entry *entry)
{
    char path[SL_PATH_MAX];
    if (entry->on_disk && entry_path(cache, entry, path)) utimensat(AT_FDCWD, path, NULL, 0);
}

void sl__prefix_folder_remove(const sl_prefix_cache *cache, const sl__prefix_entry *entry)
{
    char path[SL_PATH_MAX];
    if (entry_path(cache, entry, path)) unlink(path);
}

/* ---- opening --------------------------------------------------------------------------------- */

static sl_status lock(sl_prefix_cache *cache, sl_error *err)
{
    char name[32], path[SL_PATH_MAX];
    snprintf(name, sizeof name, "%s.lock", cache->tag);
    if (!path_of(cache, name, path)) {
        return SL_FAIL(err, SL_EINVAL, "%.200s: the path is too long", cache->folder);
    }
    cache->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (cache->lock < 0) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    if (flock(cache->lock, LOCK_EX | LOCK_NB) == 0) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%s: another cache of this model has the folder",
                   cache->folder);
}

/* Reads what an entry is made from, and enters it. */
static sl_status enter(sl_prefix_cache *cache, const sl__snapshot_place *place, time_t used,
                       sl_error *err)
{
    sl__snapshot_header h;
    int32_t *ids;
    SL_TRY(sl__snapshot_read_header(&h, place, err));
    SL_TRY(sl__snapshot_check(&h.settings, &cache->settings, place->name, err));
    SL_TRY(sl__snapshot_read_ids(place, &h, &ids, err));
    char path[SL_PATH_MAX];
    const sl__prefix_entry named = {.hash = sl__prefix_hash(ids, h.position),
                                    .position = h.position};
    sl__prefix_entry *entry = NULL;
    bool right = entry_path(cache, &named, path) && strcmp(path, place->name) == 0;
    bool usable = sl__prefix_usable(cache, h.position, h.cut); /* else an approximate cache's */
    if (right && usable) entry = sl__prefix_insert(cache, ids, h.position, h.bytes);
    free(ids);
    if (!right) return SL_FAIL(err, SL_EFORMAT, "%s: the file's name is another's", place->name);
    if (!usable) return SL_OK;
    if (!entry) return SL_FAIL_NOMEM(err, "prefix cache");
    entry->on_disk = true;
    entry->used = used > 0 ? (uint64_t)used : 0;
    cache->stats.disk_entries++;
    cache->stats.disk_bytes += entry->bytes;
    return SL_OK;
}

/* One file of the folder that is named as ours are. */
static void look_at(sl_prefix_cache *cache, const char *path, bool whole)
{
    sl__snapshot_place place = {.name = path};
    struct stat st;
    sl_error err = {0};
    if (!whole) {
        unlink(path);
        return;
    }
    if (sl__file_open(path, &place.fd, &place.bytes, &err) != SL_OK) {
        sl__prefix_tell(cache, err.message);
        return;
    }
    time_t used = fstat(place.fd, &st) == 0 ? st.st_mtime : 0;
    sl_status status = enter(cache, &place, used, &err);
    close(place.fd);
    if (status == SL_OK || status == SL_ENOMEM) return;
    sl__prefix_tell(cache, err.message);
    cache->stats.damaged++;
    unlink(path);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* Times become the order of uses; those that come now are later. */
static void order(sl_prefix_cache *cache)
{
    for (size_t i = 0; i < cache->count; i++) {
        if (cache->entries[i].used >= cache->tick) cache->tick = cache->entries[i].used + 1;
    }
}

static sl_status scan(sl_prefix_cache *cache, sl_error *err)
{
    DIR *dir = opendir(cache->folder);
    if (!dir) return SL_FAIL(err, SL_EIO, "%s: %s", cache->folder, strerror(errno));
    for (struct dirent *e; (e = readdir(dir));) {
        char path[SL_PATH_MAX];
        bool whole = ends_with(e->d_name, ".snapshot");
        if (strncmp(e->d_name, cache->tag, SL_PREFIX_TAG - 1) != 0) continue;
        if (!whole && !ends_with(e->d_name, ".snapshot.partial")) continue;
        if (path_of(cache, e->d_name, path)) look_at(cache, path, whole);
    }
    closedir(dir);
    order(cache);
    return SL_OK;
}

sl_status sl__prefix_folder_open(sl_prefix_cache *cache, const char *folder, sl_error *err)
{
    int n = snprintf(cache->folder, sizeof cache->folder, "%s", folder);
    if (n <= 0 || n >= (int)sizeof cache->folder) {
        cache->folder[0] = '\0';
        return SL_FAIL(err, SL_EINVAL, "%.200s: no path of a folder", folder);
    }
    if (mkdir(folder, 0700) != 0 && errno != EEXIST) {
        return SL_FAIL(err, SL_EIO, "%s: %s", folder, strerror(errno));
    }
    SL_TRY(lock(cache, err));
    return scan(cache, err);
}

void sl__prefix_folder_close(sl_prefix_cache *cache)
{
    if (cache->lock >= 0) close(cache->lock);
    cache->lock = -1;
}
