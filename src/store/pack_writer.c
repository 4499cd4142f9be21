/* Writes a pack: one file after the other into DST.partial, each synced and entered in the journal
 * when it is whole, then the manifest, then one rename. A file that fails half-way is removed, so
 * that at any moment the folder holds what a resume can use and nothing else.
 *
 *     open ─┬─ resident_begin · tensor … · resident_end ─┬─ commit ─ close
 *           ├─ layer_begin · record … · layer_end, any ──┤
 *           └─ file … ───────────────────────────────────┘
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/hash.h"
#include "store/pack_layout.h"
#include "store/pack_manifest.h"
#include "store/pack_writer.h"

#define BEHIND_BYTES ((uint64_t)8 << 20) /* what the system is asked to write at a time */

bool sl__pack_writer_find(const sl__pack_writer *w, uint32_t layer, size_t *index)
{
    for (size_t i = 0; i < w->plan.layer_count; i++) {
        if (w->plan.layers[i].layer != layer) continue;
        *index = i;
        return true;
    }
    return false;
}

uint64_t sl__pack_plan_bytes(const sl__pack_plan *plan)
{
    uint64_t total = 0, bytes;
    for (size_t i = 0; i < plan->tensor_count; i++) {
        const sl__pack_tensor_plan *t = &plan->tensors[i];
        if (!sl__tensor_bytes(t->dtype, t->panels, t->dims, t->shape, &bytes) ||
            !sl__add_u64(&total, total, bytes)) {
            return UINT64_MAX; /* opening a writer says what is wrong */
        }
    }
    for (size_t i = 0; i < plan->layer_count; i++) {
        const sl__pack_layer_plan *l = &plan->layers[i];
        sl__expert_layout layout;
        if (sl__expert_layout_init(&layout, l->expert_count, l->dtype, l->rows, l->cols,
                                   l->panels, l->planes, "plan", NULL) != SL_OK ||
            !sl__add_u64(&total, total, layout.record_bytes * layout.expert_count)) {
            return UINT64_MAX;
        }
    }
    return total;
}

uint64_t sl__pack_plan_disk_bytes(const sl__pack_plan *plan)
{
    uint64_t total = 0, end = 0, bytes, offset;
    for (size_t i = 0; i < plan->tensor_count; i++) {
        const sl__pack_tensor_plan *t = &plan->tensors[i];
        if (!sl__tensor_bytes(t->dtype, t->panels, t->dims, t->shape, &bytes) ||
            !sl__pack_place(&end, bytes, &offset)) {
            return UINT64_MAX;
        }
    }
    total = sl__pack_resident_bytes(end);
    for (size_t i = 0; i < plan->layer_count; i++) {
        const sl__pack_layer_plan *l = &plan->layers[i];
        sl__expert_layout layout;
        if (sl__expert_layout_init(&layout, l->expert_count, l->dtype, l->rows, l->cols,
                                   l->panels, l->planes, "plan", NULL) != SL_OK ||
            !sl__add_u64(&total, total, sl__pack_layer_bytes(&layout))) {
            return UINT64_MAX;
        }
    }
    return total;
}

/* A checksum of a record takes 17 bytes of the manifest, a tensor some hundred. */
uint64_t sl__pack_spare_bytes(uint64_t disk_bytes)
{
    return disk_bytes / 500 + ((uint64_t)4 << 20);
}

/* ---- opening --------------------------------------------------------------------------------- */

static sl_status set_paths(sl__pack_writer *w, const char *dst, sl_error *err)
{
    size_t n = strlen(dst);
    while (n > 1 && dst[n - 1] == '/') n--;
    if (n == 0 || n + sizeof ".partial" > sizeof w->partial) {
        return SL_FAIL(err, SL_EINVAL, "%.200s: no path for a pack", dst);
    }
    memcpy(w->dst, dst, n);
    memcpy(w->partial, dst, n);
    memcpy(w->partial + n, ".partial", sizeof ".partial");
    struct stat st;
    if (lstat(w->dst, &st) == 0) {
        return SL_FAIL(err, SL_EINVAL, "%s: is already there", w->dst);
    }
    return SL_OK;
}

static int by_offset(const void *a, const void *b)
{
    const sl__tensor *x = a, *y = b;
    return (x->extent.offset > y->extent.offset) - (x->extent.offset < y->extent.offset);
}

/* Composes the manifest and reads it back, which checks the whole plan before a byte is written. */
static sl_status set_plan(sl__pack_writer *w, const sl__pack_plan *plan, sl_error *err)
{
    SL_TRY(sl__pack_compose(plan, w->dst, &w->root, err));
    char *text;
    size_t size;
    SL_TRY(sl__pack_compose_text(w->root, w->dst, &text, &size, err));
    sl_status status = sl__pack_manifest_parse(&w->plan, text, size, w->dst, err);
    free(text);
    if (status != SL_OK) return status;
    size_t count = w->plan.tensor_count;
    w->tensors = malloc((count + 1) * sizeof *w->tensors);
    w->tensor_sums = calloc(count + 1, sizeof *w->tensor_sums);
    w->layer_done = calloc(w->plan.layer_count + 1, sizeof *w->layer_done);
    w->hash = sl__hasher_create();
    if (!w->tensors || !w->tensor_sums || !w->layer_done || !w->hash) {
        return SL_FAIL_NOMEM(err, "pack writer");
    }
    if (count) memcpy(w->tensors, w->plan.tensors, count * sizeof *w->tensors);
    if (count > 1) qsort(w->tensors, count, sizeof *w->tensors, by_offset);
    return SL_OK;
}

sl_status sl__pack_writer_open(sl__pack_writer **out, const char *dst, const sl__pack_plan *plan,
                               sl_error *err)
{
    sl__pack_writer *w = calloc(1, sizeof *w);
    if (!w) return SL_FAIL_NOMEM(err, "pack writer");
    w->fd = -1;
    w->journal.fd = -1;
    sl_status status = set_paths(w, dst, err);
    if (status == SL_OK) status = set_plan(w, plan, err);
    if (status == SL_OK) status = sl__pack_resume(w, plan->fingerprint, err);
    if (status != SL_OK) {
        sl__pack_writer_close(w);
        return status;
    }
    w->opened = true;
    *out = w;
    return SL_OK;
}

bool sl__pack_writer_has_resident(const sl__pack_writer *w) { return w->resident_done; }

bool sl__pack_writer_has_layer(const sl__pack_writer *w, uint32_t layer)
{
    size_t i;
    return sl__pack_writer_find(w, layer, &i) && w->layer_done[i];
}

const sl__expert_layout *sl__pack_writer_layout(const sl__pack_writer *w, uint32_t layer)
{
    size_t i;
    return sl__pack_writer_find(w, layer, &i) ? &w->plan.layers[i].layout : NULL;
}

sl_status sl__pack_writer_check_room(const sl__pack_writer *w, sl_error *err)
{
    uint64_t bytes = 0, free_bytes;
    uint32_t file;
    bool resident = sl__pack_manifest_find_file(&w->plan, SL_PACK_RESIDENT, &file);
    if (resident && !w->resident_done) bytes += w->plan.files[file].bytes;
    for (size_t i = 0; i < w->plan.layer_count; i++) {
        if (!w->layer_done[i]) bytes += sl__pack_layer_bytes(&w->plan.layers[i].layout);
    }
    bytes += sl__pack_spare_bytes(bytes);
    SL_TRY(sl__file_free_bytes(w->partial, &free_bytes, err));
    if (bytes <= free_bytes) return SL_OK;
    return SL_FAIL(err, SL_EIO, "%s: %.2f GiB are to be written, and its file system has %.2f GiB "
                   "free", w->dst, (double)bytes / 0x1p30, (double)free_bytes / 0x1p30);
}

/* ---- the file that is being written ---------------------------------------------------------- */

/* A failure leaves no half-written file. Returns status. */
static sl_status abandon(sl__pack_writer *w, sl_status status)
{
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->file_path);
    }
    w->fd = -1;
    w->open = SL_PACK_OPEN_NONE;
    return status;
}

static sl_status begin_file(sl__pack_writer *w, sl__pack_open what, const char *name, sl_error *err)
{
    SL_TRY(sl__path_join(w->file_path, sizeof w->file_path, w->partial, name, err));
    w->fd = open(w->file_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (w->fd < 0) return SL_FAIL(err, SL_EIO, "%s: %s", w->file_path, strerror(errno));
    w->open = what;
    w->next = 0;
    w->tensor_bytes = 0;
    w->begun = 0;
    return SL_OK;
}

/* The disk is kept busy all the while: a sync at the end of a large file would find nothing begun
 * but what the system's own patience had run out for. */
static void write_behind(sl__pack_writer *w, uint64_t end)
{
    if (end - w->begun < BEHIND_BYTES) return;
    sl__file_write_behind(w->fd, w->begun, end - w->begun);
    w->begun = end;
}

/* Gives the file its size, makes it durable and enters it in the journal. */
static sl_status end_file(sl__pack_writer *w, uint32_t file, const uint64_t *sums, size_t count,
                          sl_error *err)
{
    uint64_t bytes = w->plan.files[file].bytes;
    if (ftruncate(w->fd, (off_t)bytes) != 0 || sl__file_sync(w->fd) != 0) {
        return abandon(w, SL_FAIL(err, SL_EIO, "%s: %s", w->file_path, strerror(errno)));
    }
    int bad = close(w->fd);
    w->fd = -1;
    w->open = SL_PACK_OPEN_NONE;
    sl_status status = bad ? SL_FAIL(err, SL_EIO, "%s: %s", w->file_path, strerror(errno)) : SL_OK;
    if (status == SL_OK) status = sl__file_sync_dir(w->partial, err);
    if (status == SL_OK) {
        status = sl__pack_journal_add(&w->journal, w->plan.files[file].name, bytes, sums, count,
                                      err);
    }
    if (status != SL_OK) unlink(w->file_path);
    return status;
}

static sl_status out_of_turn(const sl__pack_writer *w, const char *what, sl_error *err)
{
    return SL_FAIL(err, SL_EINVAL, "%s: %s does not come now", w->partial, what);
}

/* ---- resident.bin ---------------------------------------------------------------------------- */

sl_status sl__pack_writer_resident_begin(sl__pack_writer *w, sl_error *err)
{
    if (w->open != SL_PACK_OPEN_NONE || w->resident_done) {
        return out_of_turn(w, SL_PACK_RESIDENT, err);
    }
    return begin_file(w, SL_PACK_OPEN_RESIDENT, SL_PACK_RESIDENT, err);
}

sl_status sl__pack_writer_tensor(sl__pack_writer *w, size_t index, const void *data, uint64_t bytes,
                                 sl_error *err)
{
    if (w->open != SL_PACK_OPEN_RESIDENT || index != w->next || index >= w->plan.tensor_count ||
        bytes > w->tensors[index].extent.bytes - w->tensor_bytes || bytes > SIZE_MAX) {
        return abandon(w, out_of_turn(w, "this part of a tensor", err));
    }
    const sl__extent *x = &w->tensors[index].extent;
    sl_status status = sl__file_pwrite_all(w->fd, w->file_path, data, bytes,
                                           x->offset + w->tensor_bytes, err);
    if (status != SL_OK) return abandon(w, status);
    write_behind(w, x->offset + w->tensor_bytes + bytes);
    if (w->tensor_bytes == 0) sl__hasher_reset(w->hash);
    sl__hasher_update(w->hash, data, (size_t)bytes);
    w->tensor_bytes += bytes;
    if (w->tensor_bytes == x->bytes) {
        w->tensor_sums[index] = sl__hasher_digest(w->hash);
        w->tensor_bytes = 0;
        w->next++;
    }
    return SL_OK;
}

sl_status sl__pack_writer_resident_end(sl__pack_writer *w, sl_error *err)
{
    uint32_t file;
    if (w->open != SL_PACK_OPEN_RESIDENT || w->next != w->plan.tensor_count ||
        !sl__pack_manifest_find_file(&w->plan, SL_PACK_RESIDENT, &file)) {
        return abandon(w, out_of_turn(w, "the end of " SL_PACK_RESIDENT, err));
    }
    SL_TRY(end_file(w, file, w->tensor_sums, w->plan.tensor_count, err));
    w->resident_done = true;
    return SL_OK;
}

/* ---- experts --------------------------------------------------------------------------------- */

sl_status sl__pack_writer_layer_begin(sl__pack_writer *w, uint32_t layer, sl_error *err)
{
    size_t i;
    if (w->open != SL_PACK_OPEN_NONE || !sl__pack_writer_find(w, layer, &i) || w->layer_done[i]) {
        return out_of_turn(w, "this layer", err);
    }
    w->layer = i;
    return begin_file(w, SL_PACK_OPEN_LAYER, w->plan.files[w->plan.layers[i].file].name, err);
}

static bool all_zero(const unsigned char *record, uint64_t from, uint64_t to)
{
    unsigned char sum = 0;
    for (uint64_t i = from; i < to; i++) sum |= record[i];
    return sum == 0;
}

/* Whether the bytes between the parts are 0, so that a pack is the same whoever writes it. */
static bool pads_are_zero(const sl__expert_layout *layout, const unsigned char *record)
{
    uint64_t end = 0; /* of what is used so far */
    bool zero = true;
    for (int p = 0; p < SL_PART_COUNT; p++) {
        const sl__matrix_layout *part = &layout->part[p];
        zero = zero && all_zero(record, end, part->offset);
        end = part->offset + sl__part_bytes(part);
        if (part->scale_row_bytes == 0) continue;
        zero = zero && all_zero(record, end, part->scales_offset);
        end = part->scales_offset + sl__part_scale_bytes(part);
        if (!part->scaling.biases) continue;
        zero = zero && all_zero(record, end, part->biases_offset);
        end = part->biases_offset + sl__part_scale_bytes(part);
    }
    return zero && all_zero(record, end, layout->record_bytes);
}

sl_status sl__pack_writer_record(sl__pack_writer *w, uint32_t layer, uint32_t expert,
                                 const void *record, sl_error *err)
{
    size_t i;
    if (w->open != SL_PACK_OPEN_LAYER || !sl__pack_writer_find(w, layer, &i) || i != w->layer ||
        expert != w->next || expert >= w->plan.layers[i].layout.expert_count) {
        return abandon(w, out_of_turn(w, "this record", err));
    }
    const sl__expert_layout *layout = &w->plan.layers[i].layout;
    assert(pads_are_zero(layout, record));
    sl_status status = sl__file_pwrite_all(w->fd, w->file_path, record, layout->record_bytes,
                                           expert * sl__pack_stride(layout), err);
    if (status != SL_OK) return abandon(w, status);
    write_behind(w, (expert + UINT64_C(1)) * sl__pack_stride(layout));
    w->plan.layers[i].checksums[expert] = sl__hash64(record, (size_t)layout->record_bytes);
    w->next++;
    return SL_OK;
}

sl_status sl__pack_writer_layer_end(sl__pack_writer *w, uint32_t layer, sl_error *err)
{
    size_t i;
    if (w->open != SL_PACK_OPEN_LAYER || !sl__pack_writer_find(w, layer, &i) || i != w->layer ||
        w->next != w->plan.layers[i].layout.expert_count) {
        return abandon(w, out_of_turn(w, "the end of this layer", err));
    }
    SL_TRY(end_file(w, w->plan.layers[i].file, w->plan.layers[i].checksums, w->next, err));
    w->layer_done[i] = true;
    return SL_OK;
}

/* ---- the rest -------------------------------------------------------------------------------- */

sl_status sl__pack_writer_file(sl__pack_writer *w, const char *name, const void *data, size_t size,
                               sl_error *err)
{
    char path[SL_PATH_MAX];
    uint32_t planned;
    if (!sl__pack_file_name_ok(name) || sl__pack_manifest_find_file(&w->plan, name, &planned)) {
        return SL_FAIL(err, SL_EINVAL, "%s: \"%s\" is no name for a file of a pack", w->partial,
                       name);
    }
    SL_TRY(sl__path_join(path, sizeof path, w->partial, name, err));
    SL_TRY(sl__file_write_atomic(path, data, size, err));
    return sl__pack_compose_file(w->root, name, size, sl__hash64(data, size), err);
}

static sl_status check_complete(const sl__pack_writer *w, sl_error *err)
{
    if (w->open != SL_PACK_OPEN_NONE || !w->resident_done) {
        return SL_FAIL(err, SL_EINVAL, "%s: " SL_PACK_RESIDENT " is not written yet", w->partial);
    }
    for (size_t i = 0; i < w->plan.layer_count; i++) {
        if (!w->layer_done[i]) {
            return SL_FAIL(err, SL_EINVAL, "%s: layer %u is not written yet", w->partial,
                           w->plan.layers[i].layer);
        }
    }
    return SL_OK;
}

static sl_status write_manifest(sl__pack_writer *w, sl_error *err)
{
    char path[SL_PATH_MAX], *text;
    size_t size;
    for (size_t i = 0; i < w->plan.tensor_count; i++) {
        SL_TRY(sl__pack_compose_tensor(w->root, i, w->tensor_sums[i], err));
    }
    for (size_t i = 0; i < w->plan.layer_count; i++) {
        SL_TRY(sl__pack_compose_layer(w->root, i, w->plan.layers[i].checksums, err));
    }
    SL_TRY(sl__path_join(path, sizeof path, w->partial, SL_PACK_MANIFEST, err));
    SL_TRY(sl__pack_compose_text(w->root, path, &text, &size, err));
    sl__pack_manifest check;
    sl_status status = sl__pack_manifest_parse(&check, text, size, path, err);
    if (status == SL_OK) {
        sl__pack_manifest_free(&check);
        status = sl__file_write_atomic(path, text, size, err);
    }
    free(text);
    return status;
}

/* The folder that holds dst. */
static void parent_of(const char *dst, char out[SL_PATH_MAX])
{
    const char *slash = strrchr(dst, '/');
    size_t n = slash == dst ? 1 : slash ? (size_t)(slash - dst) : 0;
    memcpy(out, n ? dst : ".", n ? n : 1);
    out[n ? n : 1] = '\0';
}

sl_status sl__pack_writer_commit(sl__pack_writer *w, sl_error *err)
{
    char path[SL_PATH_MAX];
    struct stat st;
    SL_TRY(check_complete(w, err));
    SL_TRY(write_manifest(w, err));
    if (lstat(w->dst, &st) == 0) return SL_FAIL(err, SL_EINVAL, "%s: is already there", w->dst);
    if (rename(w->partial, w->dst) != 0) {
        return SL_FAIL(err, SL_EIO, "%s: %s", w->dst, strerror(errno));
    }
    w->committed = true;
    /* From here on the pack is there. The journal goes last: without it a folder that was not
     * renamed could not be resumed. */
    SL_TRY(sl__path_join(path, sizeof path, w->dst, SL_PACK_JOURNAL, err));
    unlink(path);
    parent_of(w->dst, path);
    return sl__file_sync_dir(path, err);
}

/* Where nothing was finished nothing needs to stay. */
static void remove_empty(sl__pack_writer *w)
{
    bool any = w->resident_done;
    for (size_t i = 0; i < w->plan.layer_count; i++) any = any || w->layer_done[i];
    if (any || sl__pack_remove_strays(w, NULL) != SL_OK) return;
    unlink(w->journal.path);
    rmdir(w->partial);
}

void sl__pack_writer_close(sl__pack_writer *w)
{
    if (!w) return;
    (void)abandon(w, SL_OK);
    if (w->opened && !w->committed) remove_empty(w);
    sl__pack_journal_close(&w->journal);
    json_decref(w->root);
    sl__pack_manifest_free(&w->plan);
    free(w->tensors);
    free(w->tensor_sums);
    free(w->layer_done);
    sl__hasher_destroy(w->hash);
    free(w);
}
