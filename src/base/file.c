#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fail.h"

/* One system call moves at most this much: some systems refuse more than INT_MAX. */
#define CALL_BYTES_MAX ((uint64_t)1 << 30)

sl_status sl__file_open(const char *path, int *fd, uint64_t *size, sl_error *err)
{
    if (path[0] == '\0') return SL_FAIL(err, SL_EINVAL, "\"\" is no path of a file");
    /* Without O_NONBLOCK a pipe would wait here for someone to write to it. */
    int f = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f < 0) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    struct stat st;
    if (fstat(f, &st) != 0) {
        int saved = errno;
        close(f);
        return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(saved));
    }
    if (!S_ISREG(st.st_mode)) {
        close(f);
        return SL_FAIL(err, SL_EIO, "%s: not a regular file", path);
    }
    *fd = f;
    *size = (uint64_t)st.st_size;
    return SL_OK;
}

sl_status sl__file_pread_all(int fd, const char *path, void *dst, uint64_t size, uint64_t offset,
                             sl_error *err)
{
    char *to = dst;
    if (offset > INT64_MAX || size > (uint64_t)INT64_MAX - offset) {
        return SL_FAIL(err, SL_EFORMAT, "%s: an offset is beyond any file", path);
    }
    while (size > 0) {
        size_t part = (size_t)(size < CALL_BYTES_MAX ? size : CALL_BYTES_MAX);
        ssize_t got = pread(fd, to, part, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
        if (got == 0) return SL_FAIL(err, SL_EFORMAT, "%s: the file ends early", path);
        to += got;
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return SL_OK;
}

sl_status sl__file_pwrite_all(int fd, const char *path, const void *src, uint64_t size,
                              uint64_t offset, sl_error *err)
{
    const char *from = src;
    while (size > 0) {
        size_t part = (size_t)(size < CALL_BYTES_MAX ? size : CALL_BYTES_MAX);
        ssize_t put = pwrite(fd, from, part, (off_t)offset);
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(put ? errno : ENOSPC));
        from += put;
        offset += (uint64_t)put;
        size -= (uint64_t)put;
    }
    return SL_OK;
}

sl_status sl__file_read(const char *path, uint64_t max_bytes, char **data, size_t *size,
                        sl_error *err)
{
    int fd;
    uint64_t bytes;
    SL_TRY(sl__file_open(path, &fd, &bytes, err));
    if (bytes > max_bytes || bytes >= SIZE_MAX) {
        close(fd);
        return SL_FAIL(err, SL_EFORMAT, "%s: %llu bytes; at most %llu are expected", path,
                       (unsigned long long)bytes, (unsigned long long)max_bytes);
    }
    char *text = malloc((size_t)bytes + 1);
    sl_status status = text ? sl__file_pread_all(fd, path, text, bytes, 0, err)
                            : SL_FAIL_NOMEM(err, path);
    close(fd);
    if (status != SL_OK) {
        free(text);
        return status;
    }
    text[bytes] = '\0';
    *data = text;
    *size = (size_t)bytes;
    return SL_OK;
}

void sl__path_parent(char out[SL_PATH_MAX], const char *path)
{
    const char *slash = strrchr(path, '/');
    size_t n = slash ? (size_t)(slash - path) : 0;
    if (!slash) snprintf(out, SL_PATH_MAX, ".");
    else if (n == 0) snprintf(out, SL_PATH_MAX, "/");
    else snprintf(out, SL_PATH_MAX, "%.*s", (int)n, path);
}

sl_status sl__file_sync_dir(const char *path, sl_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY);
    if (fd < 0) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    int bad = sl__file_sync(fd);
    int saved = errno;
    close(fd);
    /* Some file systems cannot sync a folder and say so with EINVAL: nothing more can be done. */
    if (bad && saved != EINVAL) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(saved));
    return SL_OK;
}

static sl_status write_synced(const char *path, const void *data, size_t size, sl_error *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    sl_status status = sl__file_pwrite_all(fd, path, data, size, 0, err);
    if (status == SL_OK && sl__file_sync(fd) != 0) {
        status = SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    }
    if (close(fd) != 0 && status == SL_OK) {
        status = SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    }
    return status;
}

sl_status sl__file_write_atomic(const char *path, const void *data, size_t size, sl_error *err)
{
    char tmp[SL_PATH_MAX], parent[SL_PATH_MAX];
    int n = snprintf(tmp, sizeof tmp, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof tmp) {
        return SL_FAIL(err, SL_EINVAL, "%s: the path is too long", path);
    }
    sl_status status = write_synced(tmp, data, size, err);
    if (status == SL_OK && rename(tmp, path) != 0) {
        status = SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
    }
    if (status != SL_OK) {
        unlink(tmp);
        return status;
    }
    sl__path_parent(parent, path);
    return sl__file_sync_dir(parent, err);
}

bool sl__file_exists(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 || lstat(path, &st) == 0 || (errno != ENOENT && errno != ENOTDIR);
}

bool sl__file_is_dir(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool leads_out(const char *name)
{
    if (name[0] == '\0' || name[0] == '/') return true;
    for (const char *p = name; *p;) {
        const char *end = strchr(p, '/');
        size_t n = end ? (size_t)(end - p) : strlen(p);
        if (n == 2 && p[0] == '.' && p[1] == '.') return true;
        p += n + (end ? 1 : 0);
    }
    return false;
}

sl_status sl__path_join(char *out, size_t out_size, const char *dir, const char *name,
                        sl_error *err)
{
    if (leads_out(name)) {
        return SL_FAIL(err, SL_EINVAL, "%s: the file name \"%s\" leads out of the folder", dir,
                       name);
    }
    size_t n = strlen(dir);
    const char *slash = n > 0 && dir[n - 1] == '/' ? "" : "/";
    int written = snprintf(out, out_size, "%s%s%s", dir, slash, name);
    if (written < 0 || (size_t)written >= out_size) {
        return SL_FAIL(err, SL_EINVAL, "%s/%s: the path is too long", dir, name);
    }
    return SL_OK;
}

sl_status sl__file_free_bytes(const char *path, uint64_t *out, sl_error *err)
{
    char at[SL_PATH_MAX], parent[SL_PATH_MAX];
    struct statvfs disk;
    if (snprintf(at, sizeof at, "%s", path) >= (int)sizeof at) {
        return SL_FAIL(err, SL_EINVAL, "%.200s: too long for a path", path);
    }
    while (statvfs(at, &disk) != 0) {
        int saved = errno;
        sl__path_parent(parent, at);
        if (saved != ENOENT || strcmp(parent, at) == 0) {
            return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(saved));
        }
        memcpy(at, parent, sizeof at);
    }
    if (!sl__mul_u64(out, disk.f_bavail, disk.f_frsize)) *out = UINT64_MAX;
    return SL_OK;
}
