#include "hub/hub_partial.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"

enum { HEAD_MAX = 80 };
#define PARTIAL_SUFFIX ".sluice"
#define MAP_SUFFIX     ".sluice-pieces"
#define THEIR_SUFFIX   ".incomplete"

static size_t write_head(char out[HEAD_MAX], uint64_t size)
{
    return (size_t)snprintf(out, HEAD_MAX, "sluice pull 1 %" PRIu64 " %u\n", size,
                            SL_HUB_PIECE_BYTES);
}

static uint64_t count_pieces(uint64_t size)
{
    return size / SL_HUB_PIECE_BYTES + (size % SL_HUB_PIECE_BYTES != 0);
}

uint64_t sl__hub_piece_end(const sl__hub_partial *partial, uint32_t piece)
{
    uint64_t end = ((uint64_t)piece + 1) * SL_HUB_PIECE_BYTES;
    return end < partial->size ? end : partial->size;
}

static uint64_t piece_bytes(uint64_t size, uint64_t piece)
{
    uint64_t first = piece * SL_HUB_PIECE_BYTES;
    return size - first < SL_HUB_PIECE_BYTES ? size - first : SL_HUB_PIECE_BYTES;
}

/* ---- reading the marks ----------------------------------------------------------------------- */

/* The marks of a map that belongs to a file of this size, whose bytes are there at full length;
 * *text is malloc'd, and what follows its head is a byte a piece. False: there is none. */
static bool read_map(const char *map_path, const char *path, uint64_t size, char **text,
                     const char **marks)
{
    char head[HEAD_MAX];
    size_t head_size = write_head(head, size), map_size;
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != size) return false;
    if (sl__file_read(map_path, HEAD_MAX + count_pieces(size), text, &map_size, NULL) != SL_OK)
        return false;
    *marks = *text + head_size;
    if (map_size == head_size + count_pieces(size) && memcmp(*text, head, head_size) == 0)
        return true;
    free(*text);
    return false;
}

/* The size of a front part that huggingface_hub left, or 0. */
static uint64_t their_bytes(const char *path, uint64_t size)
{
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size <= 0) return 0;
    return (uint64_t)st.st_size <= size ? (uint64_t)st.st_size : 0;
}

/* Whole pieces alone are kept. */
static uint64_t whole_pieces(uint64_t bytes, uint64_t size)
{
    return bytes == size ? count_pieces(size) : bytes / SL_HUB_PIECE_BYTES;
}

uint64_t sl__hub_partial_there(const sl__hub_cache *cache, const sl__hub_file *file)
{
    char path[SL_PATH_MAX], map_path[SL_PATH_MAX], theirs[SL_PATH_MAX];
    char *text;
    const char *marks;
    uint64_t there = 0;
    if (sl__hub_blob_path(path, cache, file->digest, PARTIAL_SUFFIX, NULL) != SL_OK ||
        sl__hub_blob_path(map_path, cache, file->digest, MAP_SUFFIX, NULL) != SL_OK ||
        sl__hub_blob_path(theirs, cache, file->digest, THEIR_SUFFIX, NULL) != SL_OK)
        return 0;
    if (read_map(map_path, path, file->size, &text, &marks)) {
        for (uint64_t i = 0; i < count_pieces(file->size); i++)
            if (marks[i] == '#') there += piece_bytes(file->size, i);
        free(text);
        return there;
    }
    uint64_t pieces = whole_pieces(their_bytes(theirs, file->size), file->size);
    return pieces == count_pieces(file->size) ? file->size : pieces * SL_HUB_PIECE_BYTES;
}

/* ---- opening --------------------------------------------------------------------------------- */

static sl_status system_fail(const char *path, sl_error *err)
{
    return SL_FAIL(err, SL_EIO, "%s: %s", path, strerror(errno));
}

/* Writes the map from the pieces that are marked in memory. */
static sl_status write_map(sl__hub_partial *p, sl_error *err)
{
    char head[HEAD_MAX];
    p->map_head = write_head(head, p->size);
    char *marks = malloc(p->piece_count + (size_t)1);
    if (!marks) return SL_FAIL_NOMEM(err, "pieces");
    for (uint32_t i = 0; i < p->piece_count; i++)
        marks[i] = p->pieces[i] == SL_PIECE_THERE ? '#' : '.';
    /* The head goes last: a map without it is none. */
    sl_status status = ftruncate(p->map_fd, 0) == 0 ? SL_OK : system_fail(p->map_path, err);
    if (status == SL_OK)
        status =
            sl__file_pwrite_all(p->map_fd, p->map_path, marks, p->piece_count, p->map_head, err);
    if (status == SL_OK)
        status = sl__file_pwrite_all(p->map_fd, p->map_path, head, p->map_head, 0, err);
    free(marks);
    return status;
}

static void take_marks(sl__hub_partial *p, const char *marks)
{
    for (uint32_t i = 0; i < p->piece_count; i++) {
        if (marks[i] != '#') continue;
        p->pieces[i] = SL_PIECE_THERE;
        p->there_bytes += piece_bytes(p->size, i);
    }
}

/* Takes over the front part that huggingface_hub left; nothing where there is none. */
static sl_status adopt(sl__hub_partial *p, const char *theirs, sl_error *err)
{
    uint64_t pieces = whole_pieces(their_bytes(theirs, p->size), p->size);
    if (pieces == 0) return SL_OK;
    if (rename(theirs, p->path) != 0) return system_fail(theirs, err);
    for (uint64_t i = 0; i < pieces; i++) {
        p->pieces[i] = SL_PIECE_THERE;
        p->there_bytes += piece_bytes(p->size, i);
    }
    return SL_OK;
}

static sl_status open_files(sl__hub_partial *p, sl_error *err)
{
    p->fd = open(p->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (p->fd < 0) return system_fail(p->path, err);
    p->map_fd = open(p->map_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (p->map_fd < 0) return system_fail(p->map_path, err);
    return SL_OK;
}

static sl_status begin(sl__hub_partial *p, const char *theirs, sl_error *err)
{
    /* A map that does not fit what is there must not be found beside it later. */
    unlink(p->map_path);
    unlink(p->path);
    SL_TRY(adopt(p, theirs, err));
    SL_TRY(open_files(p, err));
    if (ftruncate(p->fd, (off_t)p->size) != 0) return system_fail(p->path, err);
    return write_map(p, err);
}

sl_status sl__hub_partial_open(sl__hub_partial *p, const sl__hub_cache *cache,
                               const sl__hub_file *file, sl_error *err)
{
    char theirs[SL_PATH_MAX];
    char *text;
    const char *marks;
    uint64_t pieces = count_pieces(file->size);
    *p = (sl__hub_partial){.fd = -1, .map_fd = -1, .size = file->size};
    if (pieces >= UINT32_MAX)
        return SL_FAIL(err, SL_EFORMAT, "%s: no file is that large", file->path);
    p->piece_count = (uint32_t)pieces;
    SL_TRY(sl__hub_blob_path(p->blob_path, cache, file->digest, "", err));
    SL_TRY(sl__hub_blob_path(p->path, cache, file->digest, PARTIAL_SUFFIX, err));
    SL_TRY(sl__hub_blob_path(p->map_path, cache, file->digest, MAP_SUFFIX, err));
    SL_TRY(sl__hub_blob_path(theirs, cache, file->digest, THEIR_SUFFIX, err));
    p->pieces = calloc(p->piece_count + (size_t)1, 1);
    if (!p->pieces) return SL_FAIL_NOMEM(err, "pieces");

    sl_status status;
    if (read_map(p->map_path, p->path, p->size, &text, &marks)) {
        take_marks(p, marks);
        free(text);
        status = open_files(p, err);
        char head[HEAD_MAX];
        p->map_head = write_head(head, p->size);
    } else {
        status = begin(p, theirs, err);
    }
    if (status != SL_OK) sl__hub_partial_close(p);
    return status;
}

void sl__hub_partial_close(sl__hub_partial *p)
{
    if (!p->pieces) return;
    if (p->fd >= 0) close(p->fd);
    if (p->map_fd >= 0) close(p->map_fd);
    free(p->pieces);
    p->pieces = NULL;
}

/* ---- going on -------------------------------------------------------------------------------- */

sl_status sl__hub_partial_mark(sl__hub_partial *p, uint32_t piece, sl_error *err)
{
    assert(piece < p->piece_count);
    if (p->pieces[piece] == SL_PIECE_THERE) return SL_OK;
    SL_TRY(sl__file_pwrite_all(p->map_fd, p->map_path, "#", 1, p->map_head + piece, err));
    p->pieces[piece] = SL_PIECE_THERE;
    p->there_bytes += piece_bytes(p->size, piece);
    return SL_OK;
}

sl_status sl__hub_partial_reset(sl__hub_partial *p, sl_error *err)
{
    memset(p->pieces, SL_PIECE_MISSING, p->piece_count);
    p->there_bytes = 0;
    return write_map(p, err);
}

sl_status sl__hub_partial_finish(sl__hub_partial *p, sl_error *err)
{
    sl_status status = SL_OK;
    if (sl__file_sync(p->fd) != 0 || rename(p->path, p->blob_path) != 0)
        status = system_fail(p->path, err);
    if (status == SL_OK) unlink(p->map_path);
    sl__hub_partial_close(p);
    return status;
}

void sl__hub_partial_discard(sl__hub_partial *p)
{
    unlink(p->map_path);
    unlink(p->path);
    sl__hub_partial_close(p);
}
