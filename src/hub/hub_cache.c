#include "hub/hub_cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"

/* Parts of a path into out[SL_PATH_MAX]; the parts end with NULL. */
static sl_status join(char out[SL_PATH_MAX], sl_error *err, const char *const *parts)
{
    size_t used = 0;
    out[0] = '\0';
    for (; *parts; parts++) {
        size_t size = strlen(*parts);
        if (size >= SL_PATH_MAX - used)
            return SL_FAIL(err, SL_EINVAL, "%.200s…: the path is too long", out);
        memcpy(out + used, *parts, size + 1);
        used += size;
    }
    return SL_OK;
}

#define JOIN(out, err, ...) join((out), (err), (const char *const[]){__VA_ARGS__, NULL})

sl_status sl__hub_cache_at(sl__hub_cache *out, const char *hub, const char *repo, sl_error *err)
{
    const char *slash = strchr(repo, '/');
    assert(slash);
    char org[SL_HUB_REPO_MAX];
    snprintf(org, sizeof org, "%.*s", (int)(slash - repo), repo);
    SL_TRY(JOIN(out->hub, err, hub));
    SL_TRY(JOIN(out->folder, err, hub, "/models--", org, "--", slash + 1));
    return JOIN(out->locks, err, hub, "/.locks/models--", org, "--", slash + 1);
}

sl_status sl__hub_blob_path(char out[SL_PATH_MAX], const sl__hub_cache *cache, const char *digest,
                            const char *suffix, sl_error *err)
{
    return JOIN(out, err, cache->folder, "/blobs/", digest, suffix);
}

sl_status sl__hub_snapshot_path(char out[SL_PATH_MAX], const sl__hub_cache *cache,
                                const char *commit, const char *path, sl_error *err)
{
    return JOIN(out, err, cache->folder, "/snapshots/", commit, path ? "/" : "", path ? path : "");
}

/* A regular file of so many bytes, links followed. */
static bool is_file_of(const char *path, uint64_t size)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

bool sl__hub_cache_has(const sl__hub_cache *cache, const char *commit, const sl__hub_file *file)
{
    char path[SL_PATH_MAX];
    if (sl__hub_blob_path(path, cache, file->digest, "", NULL) == SL_OK &&
        is_file_of(path, file->size))
        return true;
    return sl__hub_snapshot_path(path, cache, commit, file->path, NULL) == SL_OK &&
           is_file_of(path, file->size);
}

/* ---- making ---------------------------------------------------------------------------------- */

/* Makes a folder and those above it. */
static sl_status make_folders(const char *path, sl_error *err)
{
    char part[SL_PATH_MAX];
    SL_TRY(JOIN(part, err, path));
    for (char *at = part + 1;; at++) {
        if (*at != '/' && *at != '\0') continue;
        char end = *at;
        *at = '\0';
        if (mkdir(part, 0777) != 0 && !sl__file_is_dir(part)) {
            int saved = errno;
            return SL_FAIL(err, SL_EIO, "%s: %s", part, strerror(saved));
        }
        *at = end;
        if (!end) return SL_OK;
    }
}

sl_status sl__hub_cache_create(const sl__hub_cache *cache, sl_error *err)
{
    static const char *const names[] = {"/blobs", "/snapshots", "/refs"};
    char path[SL_PATH_MAX];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        SL_TRY(JOIN(path, err, cache->folder, names[i]));
        SL_TRY(make_folders(path, err));
    }
    return make_folders(cache->locks, err);
}

/* "../../blobs/DIGEST", and "../" more for each folder that path lies in. */
static sl_status link_target(char out[SL_PATH_MAX], const sl__hub_file *file, sl_error *err)
{
    char up[3 * SL_HUB_PATH_MAX + 1] = "";
    size_t used = 0;
    for (const char *c = file->path; *c; c++)
        if (*c == '/') used += (size_t)snprintf(up + used, sizeof up - used, "../");
    return JOIN(out, err, up, "../../blobs/", file->digest);
}

sl_status sl__hub_cache_link(const sl__hub_cache *cache, const char *commit,
                             const sl__hub_file *file, sl_error *err)
{
    char path[SL_PATH_MAX], parent[SL_PATH_MAX], target[SL_PATH_MAX], made[SL_PATH_MAX];
    SL_TRY(sl__hub_snapshot_path(path, cache, commit, file->path, err));
    if (is_file_of(path, file->size)) return SL_OK;
    sl__path_parent(parent, path);
    SL_TRY(make_folders(parent, err));
    SL_TRY(link_target(target, file, err));
    SL_TRY(JOIN(made, err, cache->folder, "/blobs/", file->digest, ".sluice-link"));
    unlink(made);
    if (symlink(target, made) == 0 && rename(made, path) == 0) return SL_OK;
    int saved = errno;
    unlink(made);
    return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(saved));
}

/* ---- refs and locks -------------------------------------------------------------------------- */

bool sl__hub_ref_read(const sl__hub_cache *cache, const char *revision,
                      char commit[SL_HUB_COMMIT_TEXT])
{
    char path[SL_PATH_MAX];
    char *text;
    size_t size;
    bool is_commit = sl__hub_is_hex(revision, SL_HUB_COMMIT_TEXT - 1);
    if (is_commit) {
        memcpy(commit, revision, SL_HUB_COMMIT_TEXT);
        return sl__hub_snapshot_path(path, cache, commit, NULL, NULL) == SL_OK &&
               sl__file_is_dir(path);
    }
    if (JOIN(path, NULL, cache->folder, "/refs/", revision) != SL_OK ||
        sl__file_read(path, 256, &text, &size, NULL) != SL_OK)
        return false;
    text[strcspn(text, " \r\n")] = '\0';
    bool ok = sl__hub_is_hex(text, SL_HUB_COMMIT_TEXT - 1);
    if (ok) memcpy(commit, text, SL_HUB_COMMIT_TEXT);
    free(text);
    return ok;
}

sl_status sl__hub_ref_write(const sl__hub_cache *cache, const char *revision, const char *commit,
                            sl_error *err)
{
    char path[SL_PATH_MAX], parent[SL_PATH_MAX], now[SL_HUB_COMMIT_TEXT];
    if (sl__hub_ref_read(cache, revision, now) && strcmp(now, commit) == 0) return SL_OK;
    SL_TRY(JOIN(path, err, cache->folder, "/refs/", revision));
    sl__path_parent(parent, path);
    SL_TRY(make_folders(parent, err));
    return sl__file_write_atomic(path, commit, strlen(commit), err);
}

sl_status sl__hub_lock(const sl__hub_cache *cache, const char *name, int *fd, sl_error *err)
{
    char path[SL_PATH_MAX];
    SL_TRY(JOIN(path, err, cache->locks, "/", name, ".lock"));
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (*fd < 0) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    if (flock(*fd, LOCK_EX | LOCK_NB) == 0) return SL_OK;
    int saved = errno;
    close(*fd);
    *fd = -1;
    if (saved == EWOULDBLOCK) return SL_OK;
    return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(saved));
}

/* ---- looking --------------------------------------------------------------------------------- */

typedef struct walk {
    sl__hub_list *out;
    size_t room;
    sl__arena *arena;
    char root[SL_PATH_MAX];
} walk;

enum { WALK_DEPTH_MAX = 8 };

static sl_status walk_add(walk *w, const char *name, uint64_t size, sl_error *err)
{
    sl__hub_list *out = w->out;
    if (out->count == w->room) {
        size_t room = w->room ? 2 * w->room : 64;
        sl__hub_file *files = SL_ARENA_NEW(w->arena, sl__hub_file, room);
        if (!files) return SL_FAIL_NOMEM(err, "list of files");
        if (out->count) memcpy(files, out->files, out->count * sizeof *files);
        out->files = files;
        w->room = room;
    }
    const char *path = sl__arena_strdup(w->arena, name);
    if (!path) return SL_FAIL_NOMEM(err, "list of files");
    out->files[out->count++] = (sl__hub_file){.path = path, .size = size};
    return SL_OK;
}

static sl_status walk_folder(walk *w, const char *below, int depth, sl_error *err);

/* A file is added, a folder gone through; what leads nowhere is as good as not there. */
static sl_status walk_entry(walk *w, const char *below, const char *name, int depth, sl_error *err)
{
    char inner[SL_PATH_MAX], path[SL_PATH_MAX];
    struct stat st;
    if (name[0] == '.' || w->out->count == SL_HUB_FILES_MAX) return SL_OK;
    SL_TRY(JOIN(inner, err, below, below[0] ? "/" : "", name));
    SL_TRY(JOIN(path, err, w->root, "/", inner));
    if (stat(path, &st) != 0) return SL_OK;
    if (S_ISREG(st.st_mode)) return walk_add(w, inner, (uint64_t)st.st_size, err);
    if (!S_ISDIR(st.st_mode) || depth == WALK_DEPTH_MAX) return SL_OK;
    return walk_folder(w, inner, depth + 1, err);
}

static sl_status walk_folder(walk *w, const char *below, int depth, sl_error *err)
{
    char path[SL_PATH_MAX];
    SL_TRY(JOIN(path, err, w->root, "/", below));
    DIR *dir = opendir(path);
    if (!dir) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    sl_status status = SL_OK;
    const struct dirent *entry;
    while (status == SL_OK && (entry = readdir(dir)) != NULL)
        status = walk_entry(w, below, entry->d_name, depth, err);
    closedir(dir);
    return status;
}

sl_status sl__hub_snapshot_list(sl__hub_list *out, const sl__hub_cache *cache, const char *commit,
                                sl__arena *arena, sl_error *err)
{
    *out = (sl__hub_list){0};
    walk w = {.out = out, .arena = arena};
    SL_TRY(sl__hub_snapshot_path(w.root, cache, commit, NULL, err));
    memcpy(out->commit, commit, SL_HUB_COMMIT_TEXT);
    SL_TRY(walk_folder(&w, "", 0, err));
    return sl__hub_list_sort(out, w.root, err);
}
