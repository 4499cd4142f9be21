/* The weights' way into a pack. An item is a piece of a tensor (whole rows, as many as the buffers
 * hold) or the record of one expert; items come in the order of the pack. Three of them are under
 * way at a time:
 *
 *     item k + 1   ── reads ──> in[(k+1) % 2]                       the I/O engine's threads
 *     item k                    in[k % 2] ── convert ──> out[k % 2]   the pool
 *     item k − 1                     out[(k−1) % 2] ── checksum, write ──>   the writing thread
 *
 * The writing thread also begins and ends files: while the disk syncs a layer, the next one is
 * read and converted. It alone uses the pack writer meanwhile. Memory is four buffers, whatever the
 * size of the model. Where an expert is so large that they would be too much, two do: item k + 1 is
 * read after item k is converted, while that is written.
 */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "base/sysmem.h"
#include "engine/packer.h"
#include "io/io.h"

#define READS_MAX (SL_EXPERT_EXTENTS_MAX > 3u ? SL_EXPERT_EXTENTS_MAX : 3u)

struct item {
    bool is_record;
    bool begins, ends; /* its file */
    size_t tensor;     /* of the plan; rows [first, first + rows) */
    uint64_t first, rows;
    size_t layer;      /* index of the plan */
    uint32_t expert;
    uint64_t bytes;    /* of output */
};

/* Where the enumeration stands. */
struct place {
    size_t tensor, layer;
    uint64_t row;
    uint32_t expert;
};

/* What lies in in[i]. */
struct reading {
    struct item item;
    sl__extent extents[READS_MAX]; /* dst: in the buffer */
    uint32_t count, left;          /* reads, and those still under way */
    sl__rows rows;                 /* of a piece of a tensor */
    sl_status status;              /* of the first that failed */
    int sys_errno;
    uint32_t bad;
};

struct stream {
    sl__packer *p;
    sl__io *io;
    bool forgets; /* the page cache need not keep what was read */
    struct place place;
    struct reading reading[2];

    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    struct item writing[2];
    bool full[2]; /* out[i] waits to be written, or is */
    bool over;    /* nothing more comes */
    sl_error failed;
};

static unsigned next_slot(const struct stream *s, unsigned slot)
{
    return (slot + 1) % s->p->slots;
}

/* ---- items ----------------------------------------------------------------------------------- */

/* Rows that fit into the buffers, panels whole. */
static uint64_t rows_a_piece(const sl__packer *p, size_t tensor)
{
    const sl__tensor *source = p->sources[tensor];
    const sl__pack_tensor_plan *t = &p->tensors[tensor];
    uint64_t rows;
    uint32_t cols;
    sl__pack_matrix_of(t, &rows, &cols);
    const sl__pack_form from = sl__pack_form_of(source->dtype, source->panels, cols);
    const sl__pack_form to = sl__pack_form_of(t->dtype, t->panels, cols);
    uint64_t planes = source->scales ? 2 * sl__scaling_row_bytes(&source->scaling, cols) : 0;
    uint64_t in = (p->in_bytes - planes) / (from.row_bytes + planes);
    uint64_t out = p->out_bytes / to.row_bytes, piece = in < out ? in : out;
    if (from.panels || to.panels) piece = piece / SL_PANEL_ROWS * SL_PANEL_ROWS;
    return piece;
}

static bool next_piece(struct stream *s, struct item *item)
{
    sl__packer *p = s->p;
    struct place *at = &s->place;
    uint64_t rows;
    uint32_t cols;
    if (at->tensor == p->tensor_count) return false;
    const sl__pack_tensor_plan *t = &p->tensors[at->tensor];
    sl__pack_matrix_of(t, &rows, &cols);
    const sl__pack_form to = sl__pack_form_of(t->dtype, t->panels, cols);
    uint64_t piece = rows_a_piece(p, at->tensor), left = rows - at->row;
    *item = (struct item){.tensor = at->tensor, .first = at->row,
                          .rows = left < piece ? left : piece,
                          .begins = at->tensor == 0 && at->row == 0};
    item->bytes = sl__pack_form_bytes(&to, item->rows);
    at->row += item->rows;
    if (at->row == rows) {
        at->row = 0;
        at->tensor++;
    }
    item->ends = at->tensor == p->tensor_count;
    return true;
}

static bool next_record(struct stream *s, struct item *item)
{
    sl__packer *p = s->p;
    struct place *at = &s->place;
    while (at->layer < p->layer_count && at->expert == 0 &&
           sl__pack_writer_has_layer(p->writer, p->layers[at->layer].layer))
        at->layer++;
    if (at->layer == p->layer_count) return false;
    const sl__pack_layer_plan *plan = &p->layers[at->layer];
    *item = (struct item){.is_record = true, .layer = at->layer, .expert = at->expert,
                          .begins = at->expert == 0, .ends = at->expert + 1 == plan->expert_count};
    item->bytes = sl__pack_writer_layout(p->writer, plan->layer)->record_bytes;
    at->expert++;
    if (item->ends) {
        at->expert = 0;
        at->layer++;
    }
    return true;
}

/* What an earlier run has finished counts as done. */
static void skip_finished(struct stream *s)
{
    sl__packer *p = s->p;
    uint64_t left = 0;
    struct place begin = {0};
    struct item item;
    if (sl__pack_writer_has_resident(p->writer)) begin.tensor = p->tensor_count;
    s->place = begin;
    while (next_piece(s, &item) || next_record(s, &item)) left += item.bytes;
    s->place = begin;
    p->progress.done_bytes = p->progress.total_bytes - left;
}

/* ---- reading --------------------------------------------------------------------------------- */

/* Rows of a tensor, and behind them what they need of its planes. */
static void place_piece(const sl__packer *p, char *in, struct reading *r)
{
    const sl__tensor *t = p->sources[r->item.tensor];
    const sl__tensor *const planes[] = {t->scales, t->biases};
    uint64_t rows;
    uint32_t cols;
    sl__pack_matrix_of(&p->tensors[r->item.tensor], &rows, &cols);
    const sl__pack_form form = sl__pack_form_of(t->dtype, t->panels, cols);
    uint64_t bytes = sl__pack_form_bytes(&form, r->item.rows), at = bytes;
    r->extents[0] = (sl__extent){.file = t->extent.file, .bytes = bytes,
                                 .offset = t->extent.offset + r->item.first * form.row_bytes};
    r->count = 1;
    r->rows = (sl__rows){.dtype = t->dtype, .data = in, .row_bytes = form.row_bytes};
    if (!t->scales) return;
    r->rows.scaling = t->scaling;
    r->rows.scale_row_bytes = (size_t)sl__scaling_row_bytes(&t->scaling, cols);
    uint64_t row = sl__tensor_plane_row(t, r->item.first, &r->rows.first);
    bytes = sl__scaling_rows(&t->scaling, r->rows.first + r->item.rows) * r->rows.scale_row_bytes;
    for (int i = 0; i < 2 && planes[i]; i++) {
        const sl__extent *x = &planes[i]->extent;
        r->extents[r->count++] = (sl__extent){.file = x->file, .bytes = bytes, .dst = at,
                                              .offset = x->offset + row * r->rows.scale_row_bytes};
        if (i == 0) r->rows.scales = in + at;
        else r->rows.biases = in + at;
        at += bytes;
    }
    assert(at <= p->in_bytes);
}

/* Asks for the next item into in[slot]. False: there is none, or it failed. */
static bool read_ahead(struct stream *s, unsigned slot, sl_status *status, sl_error *err)
{
    sl__packer *p = s->p;
    struct reading *r = &s->reading[slot];
    sl__io_read reads[READS_MAX];
    *status = SL_OK;
    *r = (struct reading){.status = SL_OK};
    if (!next_piece(s, &r->item) && !next_record(s, &r->item)) return false;
    if (r->item.is_record) {
        r->count = sl__store_expert_extents(p->store, p->layers[r->item.layer].layer,
                                            r->item.expert, r->extents);
    } else {
        place_piece(p, p->in[slot], r);
    }
    for (uint32_t i = 0; i < r->count; i++) {
        const sl__extent *x = &r->extents[i];
        reads[i] = (sl__io_read){.fd = sl__store_fd(p->store, x->file), .offset = x->offset,
                                 .bytes = x->bytes, .dst = p->in[slot] + x->dst,
                                 .tag = slot * READS_MAX + i};
    }
    *status = sl__io_submit(s->io, reads, r->count, err);
    r->left = *status == SL_OK ? r->count : 0;
    return *status == SL_OK;
}

static sl_status read_failed(const sl__packer *p, const struct reading *r, sl_error *err)
{
    const char *path = sl__store_file_path(p->store, r->extents[r->bad].file);
    if (r->status == SL_EFORMAT) return SL_FAIL(err, r->status, "%s: the file ends early", path);
    return SL_FAIL(err, r->status, "%s: read failed: %s", path, strerror(r->sys_errno));
}

/* Waits for all of in[slot]. */
static sl_status finish_reading(struct stream *s, unsigned slot, sl_error *err)
{
    struct reading *r = &s->reading[slot];
    while (r->left > 0) {
        sl__io_done done;
        if (sl__io_reap(s->io, &done, 1, true) == 0) break;
        struct reading *of = &s->reading[done.tag / READS_MAX];
        of->left--;
        if (done.status == SL_OK || of->status != SL_OK) continue;
        of->status = done.status;
        of->sys_errno = done.sys_errno;
        of->bad = (uint32_t)(done.tag % READS_MAX);
    }
    if (r->status != SL_OK) return read_failed(s->p, r, err);
    for (uint32_t i = 0; s->forgets && i < r->count; i++) {
        const sl__extent *x = &r->extents[i];
        sl__file_forget(sl__store_fd(s->p->store, x->file), x->offset, x->bytes);
    }
    return SL_OK;
}

sl_status sl__pack_read_record(const sl__packer *p, uint32_t layer, uint32_t expert, char *in,
                               sl_error *err)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t count = sl__store_expert_extents(p->store, layer, expert, extents);
    for (uint32_t i = 0; i < count; i++) {
        SL_TRY(sl__file_pread_all(sl__store_fd(p->store, extents[i].file),
                                  sl__store_file_path(p->store, extents[i].file),
                                  in + extents[i].dst, extents[i].bytes, extents[i].offset, err));
    }
    return sl__store_verify_record(p->store, layer, expert, in, SL_VERIFY_ALL, err);
}

/* ---- converting ------------------------------------------------------------------------------ */

static sl_status convert_piece(sl__packer *p, const struct reading *r, char *out, sl_error *err)
{
    const sl__tensor *source = p->sources[r->item.tensor];
    const sl__tensor *const all[] = {source, source->scales, source->biases};
    const sl__pack_tensor_plan *t = &p->tensors[r->item.tensor];
    char what[256];
    uint64_t rows;
    uint32_t cols;
    for (size_t i = 0; r->item.first == 0 && i < 3; i++) {
        if (!all[i]) continue;
        SL_TRY(sl__store_check_tensor(p->store, all[i], p->check, SL_PACK_CHECK_BYTES, err));
    }
    snprintf(what, sizeof what, "tensor %s", t->name);
    sl__pack_matrix_of(t, &rows, &cols);
    const sl__pack_form from = sl__pack_form_of(source->dtype, source->panels, cols);
    const sl__pack_form to = sl__pack_form_of(t->dtype, t->panels, cols);
    return sl__pack_convert(p, &from, &r->rows, &to, out, (uint32_t)r->item.rows, cols, what, err);
}

static sl_status convert_item(sl__packer *p, const struct reading *r, const char *in, char *out,
                              sl_error *err)
{
    char what[64];
    if (!r->item.is_record) return convert_piece(p, r, out, err);
    uint32_t layer = p->layers[r->item.layer].layer;
    SL_TRY(sl__store_verify_record(p->store, layer, r->item.expert, in, SL_VERIFY_ALL, err));
    snprintf(what, sizeof what, "layer %u expert %u", layer, r->item.expert);
    return sl__pack_convert_record(p, in, sl__store_expert_layout(p->store, layer),
                                   sl__pack_writer_layout(p->writer, layer), out, what, err);
}

/* ---- writing --------------------------------------------------------------------------------- */

static sl_status write_item(sl__packer *p, const struct item *item, const char *out, sl_error *err)
{
    sl__pack_writer *w = p->writer;
    if (!item->is_record) {
        if (item->begins) SL_TRY(sl__pack_writer_resident_begin(w, err));
        SL_TRY(sl__pack_writer_tensor(w, item->tensor, out, item->bytes, err));
        return item->ends ? sl__pack_writer_resident_end(w, err) : SL_OK;
    }
    uint32_t layer = p->layers[item->layer].layer;
    if (item->begins) SL_TRY(sl__pack_writer_layer_begin(w, layer, err));
    SL_TRY(sl__pack_writer_record(w, layer, item->expert, out, err));
    return item->ends ? sl__pack_writer_layer_end(w, layer, err) : SL_OK;
}

/* Takes out[0], out[1], out[0], … until nothing more comes. */
static void *write_all(void *ctx)
{
    struct stream *s = ctx;
    pthread_mutex_lock(&s->lock);
    for (unsigned slot = 0;; slot = next_slot(s, slot)) {
        while (!s->full[slot] && !s->over) pthread_cond_wait(&s->changed, &s->lock);
        if (!s->full[slot]) break;
        const struct item item = s->writing[slot];
        bool failed = s->failed.status != SL_OK;
        pthread_mutex_unlock(&s->lock);
        sl_error why = {0};
        if (!failed) (void)write_item(s->p, &item, s->p->out[slot], &why);
        pthread_mutex_lock(&s->lock);
        if (why.status != SL_OK) s->failed = why;
        s->full[slot] = false;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

/* Waits until out[slot] may be filled. */
static sl_status await_room(struct stream *s, unsigned slot, sl_error *err)
{
    pthread_mutex_lock(&s->lock);
    while (s->full[slot] && s->failed.status == SL_OK) pthread_cond_wait(&s->changed, &s->lock);
    const sl_error failed = s->failed;
    pthread_mutex_unlock(&s->lock);
    return failed.status == SL_OK ? SL_OK : SL_FAIL(err, failed.status, "%s", failed.message);
}

static void hand_over(struct stream *s, unsigned slot)
{
    pthread_mutex_lock(&s->lock);
    s->writing[slot] = s->reading[slot].item;
    s->full[slot] = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static sl_status report(sl__packer *p, const struct item *item, sl_error *err)
{
    char what[32];
    snprintf(what, sizeof what, "layer %u", item->is_record ? p->layers[item->layer].layer : 0);
    p->progress.what = item->is_record ? what : "resident part";
    p->progress.done_bytes += item->bytes;
    if (!p->opt->progress) return SL_OK;
    if (p->opt->progress(p->opt->progress_ctx, &p->progress) == SL_OK) return SL_OK;
    return SL_FAIL(err, SL_ECANCELLED, "packing was stopped");
}

/* ---- all of it ------------------------------------------------------------------------------- */

/* With one slot the next item is read when this one was converted. */
static sl_status pass_all(struct stream *s, sl_error *err)
{
    sl__packer *p = s->p;
    const bool alone = p->slots == 1;
    sl_status status;
    bool more = read_ahead(s, 0, &status, err);
    for (unsigned slot = 0; more; slot = next_slot(s, slot)) {
        SL_TRY(finish_reading(s, slot, err));
        const struct reading *r = &s->reading[slot];
        const struct item item = r->item;
        for (uint32_t i = 0; i < r->count; i++)
            p->report->read_bytes += r->extents[i].bytes;
        if (!alone) more = read_ahead(s, next_slot(s, slot), &status, err);
        if (status != SL_OK) return status;
        SL_TRY(await_room(s, slot, err));
        SL_TRY(convert_item(p, r, p->in[slot], p->out[slot], err));
        hand_over(s, slot);
        if (alone) more = read_ahead(s, slot, &status, err);
        SL_TRY(report(p, &item, err));
    }
    return status;
}

/* Ends the writing thread, after what was handed over. */
static sl_status end_writing(struct stream *s, sl_status status, sl_error *err)
{
    pthread_mutex_lock(&s->lock);
    s->over = true;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    if (status != SL_OK || s->failed.status == SL_OK) return status;
    return SL_FAIL(err, s->failed.status, "%s", s->failed.message);
}

/* Signals belong to the program's own thread. */
static sl_status start_writing(struct stream *s, sl_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int bad = pthread_create(&s->thread, NULL, write_all, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return bad == 0 ? SL_OK : SL_FAIL(err, SL_ENOMEM, "a thread: %s", strerror(bad));
}

/* What is larger than memory would only push other things out of the page cache. */
static bool should_forget(const sl__packer *p)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < sl__store_file_count(p->store); i++)
        bytes += sl__store_file_bytes(p->store, i);
    return bytes > sl__mem_available() / 2;
}

sl_status sl__pack_stream(sl__packer *p, sl_error *err)
{
    struct stream s = {.p = p, .forgets = should_forget(p)};
    const sl__io_options io = {.max_reads = 2 * READS_MAX};
    skip_finished(&s);
    if (p->progress.done_bytes == p->progress.total_bytes) return SL_OK;
    SL_TRY(sl__io_create(&s.io, SL_IO_KIND_PREAD, &io, err));
    pthread_mutex_init(&s.lock, NULL);
    pthread_cond_init(&s.changed, NULL);
    sl_status status = start_writing(&s, err);
    if (status == SL_OK) status = end_writing(&s, pass_all(&s, err), err);
    sl__io_destroy(s.io); /* waits for reads that nobody wants any more */
    pthread_cond_destroy(&s.changed);
    pthread_mutex_destroy(&s.lock);
    return status;
}
