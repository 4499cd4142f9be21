/* Takes up an interrupted pack. The journal says what is finished; it is believed after the bytes
 * were read back and compared. The rest is removed and written again.
 *
 *     DST.partial   not there     made
 *                   empty         taken
 *                   a journal     same fingerprint and layout: resumed; another: an error
 *                   else          an error: it is not ours to write into
 */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/hash.h"
#include "store/pack_layout.h"
#include "store/pack_manifest.h"
#include "store/pack_writer.h"

#define CHUNK_BYTES ((size_t)1 << 20)

static bool is_dot(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

/* Whether the folder holds nothing at all. */
static sl_status check_empty(const char *folder, sl_error *err)
{
    DIR *dir = opendir(folder);
    if (!dir) return SL_FAIL(err, SL_EIO, "%s: %s", folder, strerror(errno));
    bool empty = true;
    for (struct dirent *e; empty && (e = readdir(dir));) empty = is_dot(e->d_name);
    closedir(dir);
    if (empty) return SL_OK;
    return SL_FAIL(err, SL_EINVAL,
                   "%s: is there, but is no interrupted pack (it has no " SL_PACK_JOURNAL
                   "); remove it",
                   folder);
}

static sl_status make_folder(const sl__pack_writer *w, sl_error *err)
{
    if (mkdir(w->partial, 0777) == 0) return SL_OK;
    if (errno != EEXIST) return SL_FAIL(err, SL_EIO, "%s: %s", w->partial, strerror(errno));
    if (!sl__file_is_dir(w->partial)) {
        return SL_FAIL(err, SL_EINVAL, "%s: is there, but is no folder", w->partial);
    }
    char journal[SL_PATH_MAX];
    SL_TRY(sl__path_join(journal, sizeof journal, w->partial, SL_PACK_JOURNAL, err));
    return sl__file_exists(journal) ? SL_OK : check_empty(w->partial, err);
}

/* A line of the journal; the last one of a file counts. Whether it is true is looked at later. */
static sl_status take_line(void *ctx, const char *name, uint64_t bytes, const uint64_t *sums,
                           size_t count, sl_error *err)
{
    sl__pack_writer *w = ctx;
    (void)err;
    uint32_t file;
    if (!sl__pack_manifest_find_file(&w->plan, name, &file) || w->plan.files[file].bytes != bytes) {
        return SL_OK;
    }
    if (strcmp(name, SL_PACK_RESIDENT) == 0) {
        if (count != w->plan.tensor_count) return SL_OK;
        if (count) memcpy(w->tensor_sums, sums, count * sizeof *sums);
        w->resident_done = true;
        return SL_OK;
    }
    for (size_t i = 0; i < w->plan.layer_count; i++) {
        if (w->plan.layers[i].file != file || w->plan.layers[i].layout.expert_count != count) {
            continue;
        }
        memcpy(w->plan.layers[i].checksums, sums, count * sizeof *sums);
        w->layer_done[i] = true;
    }
    return SL_OK;
}

/* Whether [offset, offset + bytes) of the file has this checksum; buf has CHUNK_BYTES. */
static sl_status range_matches(const sl__pack_writer *w, int fd, const char *path, uint64_t offset,
                               uint64_t bytes, uint64_t checksum, void *buf, bool *matches,
                               sl_error *err)
{
    sl__hasher_reset(w->hash);
    while (bytes > 0) {
        size_t part = bytes < CHUNK_BYTES ? (size_t)bytes : CHUNK_BYTES;
        SL_TRY(sl__file_pread_all(fd, path, buf, part, offset, err));
        sl__hasher_update(w->hash, buf, part);
        offset += part;
        bytes -= part;
    }
    *matches = sl__hasher_digest(w->hash) == checksum;
    return SL_OK;
}

static sl_status resident_matches(const sl__pack_writer *w, int fd, const char *path, void *buf,
                                  bool *matches, sl_error *err)
{
    *matches = true;
    for (size_t i = 0; *matches && i < w->plan.tensor_count; i++) {
        const sl__extent *x = &w->tensors[i].extent;
        SL_TRY(range_matches(w, fd, path, x->offset, x->bytes, w->tensor_sums[i], buf, matches,
                             err));
    }
    return SL_OK;
}

static sl_status layer_matches(const sl__pack_writer *w, size_t layer, int fd, const char *path,
                               void *buf, bool *matches, sl_error *err)
{
    const sl__expert_layout *layout = &w->plan.layers[layer].layout;
    uint64_t stride = sl__pack_stride(layout);
    *matches = true;
    for (uint32_t e = 0; *matches && e < layout->expert_count; e++) {
        SL_TRY(range_matches(w, fd, path, e * stride, layout->record_bytes,
                             w->plan.layers[layer].checksums[e], buf, matches, err));
    }
    return SL_OK;
}

/* Whether one file is as the journal says. One that is missing, short or damaged is none, which is
 * no error: it will be written again. layer: an index, or SIZE_MAX for resident.bin. */
static sl_status file_matches(const sl__pack_writer *w, uint32_t file, size_t layer, void *buf,
                              bool *matches, sl_error *err)
{
    char path[SL_PATH_MAX];
    int fd;
    uint64_t size;
    *matches = false;
    SL_TRY(sl__path_join(path, sizeof path, w->partial, w->plan.files[file].name, err));
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) return SL_OK;
    SL_TRY(sl__file_open(path, &fd, &size, err));
    sl_status status = SL_OK;
    if (size == w->plan.files[file].bytes) {
        status = layer == SIZE_MAX ? resident_matches(w, fd, path, buf, matches, err)
                                   : layer_matches(w, layer, fd, path, buf, matches, err);
    }
    close(fd);
    return status;
}

static sl_status verify_finished(sl__pack_writer *w, sl_error *err)
{
    void *buf = malloc(CHUNK_BYTES);
    if (!buf) return SL_FAIL_NOMEM(err, "read buffer");
    sl_status status = SL_OK;
    uint32_t file;
    if (w->resident_done && sl__pack_manifest_find_file(&w->plan, SL_PACK_RESIDENT, &file)) {
        status = file_matches(w, file, SIZE_MAX, buf, &w->resident_done, err);
    }
    for (size_t i = 0; status == SL_OK && i < w->plan.layer_count; i++) {
        if (!w->layer_done[i]) continue;
        status = file_matches(w, w->plan.layers[i].file, i, buf, &w->layer_done[i], err);
    }
    free(buf);
    return status;
}

static bool is_finished(const sl__pack_writer *w, const char *name)
{
    if (strcmp(name, SL_PACK_RESIDENT) == 0) return w->resident_done;
    for (size_t i = 0; i < w->plan.layer_count; i++) {
        if (strcmp(name, w->plan.files[w->plan.layers[i].file].name) == 0) return w->layer_done[i];
    }
    return false;
}

sl_status sl__pack_remove_strays(sl__pack_writer *w, sl_error *err)
{
    DIR *dir = opendir(w->partial);
    if (!dir) return SL_FAIL(err, SL_EIO, "%s: %s", w->partial, strerror(errno));
    sl_status status = SL_OK;
    for (struct dirent *e; status == SL_OK && (e = readdir(dir));) {
        char path[SL_PATH_MAX];
        if (is_dot(e->d_name) || strcmp(e->d_name, SL_PACK_JOURNAL) == 0 ||
            is_finished(w, e->d_name)) {
            continue;
        }
        status = sl__path_join(path, sizeof path, w->partial, e->d_name, err);
        if (status == SL_OK && unlink(path) != 0) {
            status = SL_FAIL(err, SL_EIO, "%s: cannot be removed: %s", path, strerror(errno));
        }
    }
    closedir(dir);
    return status;
}

/* What must be equal for finished files to be of use: the layout, with all checksums still 0. What
 * the bytes were made of is the fingerprint's matter. */
static sl_status layout_hash(const sl__pack_writer *w, uint64_t *hash, sl_error *err)
{
    json_t *part = json_pack("{s:O, s:O, s:O}", "files", json_object_get(w->root, "files"),
                             "tensors", json_object_get(w->root, "tensors"), "layers",
                             json_object_get(w->root, "layers"));
    if (!part) return SL_FAIL_NOMEM(err, "journal");
    sl_status status = sl__pack_manifest_self(part, w->partial, hash, err);
    json_decref(part);
    return status;
}

sl_status sl__pack_resume(sl__pack_writer *w, const char *fingerprint, sl_error *err)
{
    uint64_t layout;
    SL_TRY(layout_hash(w, &layout, err));
    SL_TRY(make_folder(w, err));
    SL_TRY(sl__pack_journal_open(&w->journal, w->partial, fingerprint, layout, take_line, w, err));
    SL_TRY(verify_finished(w, err));
    return sl__pack_remove_strays(w, err);
}
