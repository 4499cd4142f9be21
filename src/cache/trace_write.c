/* Writing a trace: records gather in a buffer, which goes to the file when it is full; the header
 * comes last, because it says how many there are. The first failure is kept and told at the end, so
 * that a full disk stops the trace and not the model. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "cache/trace.h"
#include "cache/trace_format.h"

enum { BUFFER_BYTES = 1 << 18 }; /* more than the largest record */

struct sl__trace_writer {
    char path[SL_PATH_MAX], tmp[SL_PATH_MAX];
    sl__trace_shape shape;
    int fd;
    uint64_t records;
    uint64_t offset; /* in the file, of the buffer */
    size_t used;     /* of the buffer */
    sl_error failure;
    unsigned char buffer[BUFFER_BYTES];
};

static_assert(BUFFER_BYTES >= 2 + 2 * 2 * SL_TRACE_EXPERTS_MAX, "a record fits into the buffer");

static sl_status open_new(sl__trace_writer *w, const char *path, sl_error *err)
{
    int n = snprintf(w->path, sizeof w->path, "%s", path);
    int m = snprintf(w->tmp, sizeof w->tmp, "%s.tmp", path);
    if (n < 0 || m < 0 || (size_t)n >= sizeof w->path || (size_t)m >= sizeof w->tmp) {
        return SL_FAIL(err, SL_EINVAL, "%s: the path is too long", path);
    }
    if (sl__file_exists(path)) {
        return SL_FAIL(err, SL_EINVAL, "%s: already exists; a trace overwrites nothing", path);
    }
    w->fd = open(w->tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (w->fd < 0) return SL_FAIL(err, SL_EIO, "%s: %s", w->tmp, strerror(errno));
    return SL_OK;
}

sl_status sl__trace_create(sl__trace_writer **out, const char *path, const sl__trace_shape *shape,
                           sl_error *err)
{
    *out = NULL;
    if (!sl__trace_shape_good(shape)) {
        return SL_FAIL(err, SL_EINVAL, "%s: no trace of %u layers, %u experts, %u of them a token, "
                       "%u ranks", path, shape->layers, shape->experts, shape->k, shape->depth);
    }
    sl__trace_writer *w = calloc(1, sizeof *w);
    if (!w) return SL_FAIL_NOMEM(err, "trace");
    w->shape = *shape;
    w->offset = SL_TRACE_HEADER_BYTES;
    sl_status status = open_new(w, path, err);
    if (status != SL_OK) {
        free(w);
        return status;
    }
    *out = w;
    return SL_OK;
}

static void flush(sl__trace_writer *w)
{
    if (w->failure.status == SL_OK && w->used > 0) {
        sl__file_pwrite_all(w->fd, w->tmp, w->buffer, w->used, w->offset, &w->failure);
    }
    w->offset += w->used;
    w->used = 0;
}

static unsigned char *put_ids(unsigned char *at, const uint32_t *ids, uint32_t n, uint32_t room,
                              const sl__trace_shape *shape)
{
    size_t bytes = sl__trace_id_bytes(shape);
    for (uint32_t i = 0; i < room; i++, at += bytes) {
        assert(i >= n || ids[i] < shape->experts);
        sl__trace_put(at, i < n ? ids[i] : SL_TRACE_NONE, bytes);
    }
    return at;
}

void sl__trace_token(sl__trace_writer *writer, uint32_t layer, const uint32_t *ranked, uint32_t n,
                     uint32_t chosen, const uint32_t *predicted, uint32_t predicted_n)
{
    const sl__trace_shape *shape = &writer->shape;
    assert(layer < shape->layers && chosen == shape->k && chosen <= n);
    if (writer->failure.status != SL_OK) return;
    uint32_t flag = predicted_n >= shape->k ? SL_TRACE_PREDICTED : 0;
    size_t most = 2 + sl__trace_id_bytes(shape) * ((size_t)shape->depth + shape->k);
    if (writer->used + most > BUFFER_BYTES) flush(writer);
    unsigned char *at = writer->buffer + writer->used;
    sl__trace_put(at, layer | flag, 2);
    at = put_ids(at + 2, ranked, n < shape->depth ? n : shape->depth, shape->depth, shape);
    if (flag) at = put_ids(at, predicted, shape->k, shape->k, shape);
    writer->used = (size_t)(at - writer->buffer);
    writer->records++;
}

static sl_status complete(sl__trace_writer *w, sl_error *err)
{
    unsigned char header[SL_TRACE_HEADER_BYTES] = {0};
    memcpy(header, SL_TRACE_MAGIC, SL_TRACE_AT_VERSION);
    sl__trace_put(header + SL_TRACE_AT_VERSION, SL_TRACE_VERSION, 4);
    sl__trace_put(header + SL_TRACE_AT_LAYERS, w->shape.layers, 4);
    sl__trace_put(header + SL_TRACE_AT_EXPERTS, w->shape.experts, 4);
    sl__trace_put(header + SL_TRACE_AT_K, w->shape.k, 4);
    sl__trace_put(header + SL_TRACE_AT_DEPTH, w->shape.depth, 4);
    sl__trace_put(header + SL_TRACE_AT_RECORDS, w->records, 8);
    flush(w);
    if (w->failure.status != SL_OK) {
        return SL_FAIL(err, w->failure.status, "%s", w->failure.message);
    }
    SL_TRY(sl__file_pwrite_all(w->fd, w->tmp, header, sizeof header, 0, err));
    if (sl__file_sync(w->fd) != 0) return SL_FAIL(err, SL_EIO, "%s: %s", w->tmp, strerror(errno));
    int fd = w->fd;
    w->fd = -1;
    if (close(fd) != 0) return SL_FAIL(err, SL_EIO, "%s: %s", w->tmp, strerror(errno));
    /* A link fails where the name has come into use meanwhile; a rename would replace it. */
    if (link(w->tmp, w->path) != 0) {
        if (errno == EEXIST || sl__file_exists(w->path)) {
            return SL_FAIL(err, SL_EINVAL, "%s: already exists; a trace overwrites nothing",
                           w->path);
        }
        if (rename(w->tmp, w->path) != 0) { /* a file system without links */
            return SL_FAIL(err, SL_EIO, "%s: %s", w->path, strerror(errno));
        }
    }
    char parent[SL_PATH_MAX];
    sl__path_parent(parent, w->path);
    return sl__file_sync_dir(parent, err);
}

sl_status sl__trace_finish(sl__trace_writer *writer, sl_error *err)
{
    sl_status status = complete(writer, err);
    sl__trace_discard(writer); /* of a complete one the other name alone */
    return status;
}

void sl__trace_discard(sl__trace_writer *writer)
{
    if (!writer) return;
    if (writer->fd >= 0) close(writer->fd);
    unlink(writer->tmp);
    free(writer);
}
