/* Packing a model: every tensor that the family knows, re-encoded where that was asked for, a file
 * at a time, with little memory whatever the model's size.
 *
 *     resident   piece by piece (whole rows, about PIECE_BYTES): read, convert, write
 *     experts    record by record, drafting layers after the others; transposed ones are turned
 */
#include "engine/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cpus.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/panels.h"
#include "quant/quant.h"
#include "store/pack.h"
#include "text/tokenizer.h"

#define PIECE_BYTES ((uint64_t)8 << 20)
#define PACK_THREADS_MAX 256u

struct packer {
    sl__store *store;
    const sl__family *family;
    sl__model_desc desc;
    sl__arena arena;
    sl__kern kern;
    sl__pool *pool;
    const sl_pack_options *opt;
    sl__dtype experts, resident; /* SL_DTYPE_ALL: keep */
    sl__pack_tensor_plan *tensors;
    const sl__tensor **sources; /* of tensors[] */
    size_t tensor_count;
    sl__pack_layer_plan *layers;
    size_t layer_count;
    sl__pack_writer *writer;
    char *in, *out;          /* buffers of buffer_bytes */
    char *turned;            /* another, where experts are transposed */
    uint64_t buffer_bytes;
    float *rows;             /* [threads][row_floats] */
    size_t row_floats;       /* the widest row as floats, and as two of the types with panels */
    uint32_t widest;
    bool turns;              /* experts are transposed */
    sl_pack_progress progress;
};

/* ---- converting ------------------------------------------------------------------------------ */

/* How a matrix lies. */
struct form {
    sl__dtype type;
    bool panels;
    size_t row_bytes;
};

struct conversion {
    struct packer *p;
    sl__rows in; /* in panels where from says so */
    struct form from, to;
    bool regroups; /* codes and scales go over as they are */
    uint32_t cols;
    char *out;
    uint32_t rows, rows_a_task;
    sl_error *errors; /* [threads] */
};

/* Row r, or the panel that it is in. */
static size_t row_place(const struct form *form, uint32_t r)
{
    return (form->panels ? r / SL_PANEL_ROWS * SL_PANEL_ROWS : r) * form->row_bytes;
}

/* tmp: the row as floats where it changes its type; behind them, as it comes out of a panel and as
 * it goes into one. */
static sl_status convert_row(const struct conversion *c, uint32_t r, float *tmp, sl_error *err)
{
    char *from_panel = (char *)(tmp + c->cols);
    char *to_panel = from_panel + (c->from.panels ? c->from.row_bytes : 0);
    const char *in = (const char *)c->in.data + row_place(&c->from, r);
    char *out = c->out + row_place(&c->to, r);
    if (c->from.panels) {
        sl__panel_get_row(c->from.type, in, r % SL_PANEL_ROWS, c->cols, from_panel);
        in = from_panel;
    }
    if (c->from.type != c->to.type) {
        char *coded = c->to.panels ? to_panel : out;
        const sl__rows alone = {.dtype = c->from.type, .data = in};
        if (c->regroups) {
            sl__regroup_row(&c->in, r, c->cols, coded);
        } else {
            c->p->kern.dequant_row(c->from.panels ? &alone : &c->in, c->from.panels ? 0 : r, tmp,
                                   c->cols);
            SL_TRY(sl__quant_row(&c->p->kern, c->to.type, tmp, c->cols, coded, NULL,
                                 err));
        }
        in = coded;
    }
    if (c->to.panels) sl__panel_put_row(c->to.type, in, c->cols, out, r % SL_PANEL_ROWS);
    else if (in != out) memcpy(out, in, c->to.row_bytes);
    return SL_OK;
}

static void convert_task(void *ctx, uint32_t index, uint32_t worker)
{
    const struct conversion *c = ctx;
    float *tmp = c->p->rows + (size_t)worker * c->p->row_floats;
    sl_error *err = &c->errors[worker];
    uint32_t first = index * c->rows_a_task, end = first + c->rows_a_task;
    if (end > c->rows) end = c->rows;
    for (uint32_t r = first; r < end && err->status == SL_OK; r++) {
        sl_error why = {0};
        sl_status status = convert_row(c, r, tmp, &why);
        if (status != SL_OK) sl__fail(err, status, "row %u: %s", r, why.message);
    }
}

static struct form form_of(sl__dtype type, bool panels, uint32_t cols)
{
    uint64_t row_bytes = 0;
    bool fits = sl__dtype_row_bytes(type, cols, &row_bytes);
    assert(fits);
    (void)fits;
    return (struct form){type, panels, (size_t)row_bytes};
}

static uint64_t form_bytes(const struct form *form, uint64_t rows)
{
    return sl__stored_rows(form->panels, rows) * form->row_bytes;
}

/* rows rows of one form, in, into another. Planes are not copied. what: "tensor NAME" for
 * messages. */
static sl_status convert(struct packer *p, const struct form *from, const sl__rows *in,
                         const struct form *to, void *out, uint32_t rows, uint32_t cols,
                         const char *what, sl_error *err)
{
    sl_error errors[PACK_THREADS_MAX];
    sl__dtype same = SL_DTYPE_ALL;
    struct conversion c = {.p = p, .from = *from, .to = *to, .cols = cols, .in = *in, .out = out,
                           .rows = rows, .errors = errors};
    c.regroups = sl__regroup_type(from->type, &in->scaling, &same) && same == to->type;
    size_t bytes = (size_t)form_bytes(to, rows);
    if (from->type == to->type && from->panels == to->panels) {
        memcpy(out, in->data, bytes);
        return SL_OK;
    }
    if (to->panels) memset(out, 0, bytes); /* rows that fill up the last panel */
    uint32_t threads = sl__pool_threads(p->pool);
    memset(errors, 0, threads * sizeof errors[0]);
    c.rows_a_task = 16384 / cols + 1;
    sl__pool_run(p->pool, convert_task, &c, (rows + c.rows_a_task - 1) / c.rows_a_task);
    for (uint32_t i = 0; i < threads; i++) {
        if (errors[i].status == SL_OK) continue;
        return SL_FAIL(err, errors[i].status, "%s: %s: %s", sl__store_path(p->store), what,
                       errors[i].message);
    }
    return SL_OK;
}

static sl_status report(struct packer *p, const char *what, uint64_t bytes, sl_error *err)
{
    p->progress.what = what;
    p->progress.done_bytes += bytes;
    if (!p->opt->progress) return SL_OK;
    if (p->opt->progress(p->opt->progress_ctx, &p->progress) == SL_OK) return SL_OK;
    return SL_FAIL(err, SL_ECANCELLED, "packing was stopped");
}

/* ---- resident part --------------------------------------------------------------------------- */

/* Rows and columns of a tensor of the plan: the last dimension, and all before it. */
static void matrix_of(const sl__pack_tensor_plan *t, uint64_t *rows, uint32_t *cols)
{
    *rows = 1;
    *cols = t->dims ? (uint32_t)t->shape[t->dims - 1] : 1;
    for (uint32_t i = 0; i + 1 < t->dims; i++)
        *rows *= t->shape[i];
}

/* Reads rows [first, first + count) of a tensor to p->in, and what they need of its planes behind
 * them. */
static sl_status read_rows(struct packer *p, const sl__tensor *t, const struct form *form,
                           uint64_t first, uint64_t count, uint32_t cols, sl__rows *out,
                           sl_error *err)
{
    const sl__tensor *const planes[] = {t->scales, t->biases};
    uint64_t bytes = form_bytes(form, count);
    char *to = p->in;
    SL_TRY(sl__file_pread_all(sl__store_fd(p->store, t->extent.file),
                              sl__store_file_path(p->store, t->extent.file), to, bytes,
                              t->extent.offset + first * form->row_bytes, err));
    *out = (sl__rows){.dtype = t->dtype, .data = to, .row_bytes = form->row_bytes};
    if (!t->scales) return SL_OK;
    out->scaling = t->scaling;
    out->scale_row_bytes = (size_t)sl__scaling_row_bytes(&t->scaling, cols);
    uint64_t row = sl__tensor_plane_row(t, first, &out->first);
    uint64_t rows = sl__scaling_rows(&t->scaling, out->first + count);
    for (int i = 0; i < 2 && planes[i]; i++) {
        const sl__extent *x = &planes[i]->extent;
        to += bytes;
        bytes = rows * out->scale_row_bytes;
        SL_TRY(sl__file_pread_all(sl__store_fd(p->store, x->file),
                                  sl__store_file_path(p->store, x->file), to, bytes,
                                  x->offset + row * out->scale_row_bytes, err));
        if (i == 0) out->scales = to;
        else out->biases = to;
    }
    return SL_OK;
}

/* Rows that fit into the buffers, panels whole. */
static uint64_t rows_a_piece(const struct packer *p, const sl__tensor *source,
                             const struct form *from, const struct form *to, uint32_t cols)
{
    uint64_t wider = from->row_bytes > to->row_bytes ? from->row_bytes : to->row_bytes;
    uint64_t planes = source->scales ? 2 * sl__scaling_row_bytes(&source->scaling, cols) : 0;
    uint64_t rows = (p->buffer_bytes - planes) / (wider + planes);
    return from->panels || to->panels ? rows / SL_PANEL_ROWS * SL_PANEL_ROWS : rows;
}

static sl_status check_source(struct packer *p, const sl__tensor *source, sl_error *err)
{
    const sl__tensor *const all[] = {source, source->scales, source->biases};
    for (size_t i = 0; i < 3; i++) {
        if (!all[i]) continue;
        SL_TRY(sl__store_check_tensor(p->store, all[i], p->in, (size_t)p->buffer_bytes, err));
    }
    return SL_OK;
}

static sl_status pack_tensor(struct packer *p, size_t index, sl_error *err)
{
    const sl__pack_tensor_plan *t = &p->tensors[index];
    const sl__tensor *source = p->sources[index];
    char what[200];
    uint64_t rows;
    uint32_t cols;
    snprintf(what, sizeof what, "tensor %s", t->name);
    matrix_of(t, &rows, &cols);
    const struct form from = form_of(source->dtype, source->panels, cols);
    const struct form to = form_of(t->dtype, t->panels, cols);
    SL_TRY(check_source(p, source, err));
    uint64_t piece = rows_a_piece(p, source, &from, &to, cols);
    for (uint64_t done = 0; done < rows;) {
        sl__rows in;
        uint64_t n = rows - done < piece ? rows - done : piece, bytes = form_bytes(&to, n);
        SL_TRY(read_rows(p, source, &from, done, n, cols, &in, err));
        SL_TRY(convert(p, &from, &in, &to, p->out, (uint32_t)n, cols, what, err));
        SL_TRY(sl__pack_writer_tensor(p->writer, index, p->out, bytes, err));
        SL_TRY(report(p, "resident part", bytes, err));
        done += n;
    }
    return SL_OK;
}

static uint64_t tensor_bytes(const sl__pack_tensor_plan *t)
{
    uint64_t rows, row_bytes = 0;
    uint32_t cols;
    matrix_of(t, &rows, &cols);
    if (!sl__dtype_row_bytes(t->dtype, cols, &row_bytes)) return 0;
    return sl__stored_rows(t->panels, rows) * row_bytes;
}

static sl_status pack_resident(struct packer *p, sl_error *err)
{
    if (sl__pack_writer_has_resident(p->writer)) {
        uint64_t bytes = 0;
        for (size_t i = 0; i < p->tensor_count; i++)
            bytes += tensor_bytes(&p->tensors[i]);
        return report(p, "resident part", bytes, err);
    }
    SL_TRY(sl__pack_writer_resident_begin(p->writer, err));
    for (size_t i = 0; i < p->tensor_count; i++)
        SL_TRY(pack_tensor(p, i, err));
    return sl__pack_writer_resident_end(p->writer, err);
}

/* ---- experts --------------------------------------------------------------------------------- */

static sl_status read_record(struct packer *p, uint32_t layer, uint32_t expert, sl_error *err)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    uint32_t count = sl__store_expert_extents(p->store, layer, expert, extents);
    for (uint32_t i = 0; i < count; i++) {
        SL_TRY(sl__file_pread_all(sl__store_fd(p->store, extents[i].file),
                                  sl__store_file_path(p->store, extents[i].file),
                                  p->in + extents[i].dst, extents[i].bytes, extents[i].offset,
                                  err));
    }
    return sl__store_verify_record(p->store, layer, expert, p->in, SL_VERIFY_ALL, err);
}

#define TURN 64u /* rows and columns of a block that is turned at once */

struct turning {
    const sl__matrix_layout *m;
    const char *in;
    char *out;
};

/* Columns [index·TURN, …) of a matrix become rows. */
static void turn_task(void *ctx, uint32_t index, uint32_t worker)
{
    (void)worker;
    const struct turning *job = ctx;
    size_t rows = job->m->rows, cols = job->m->cols, size = sl__dtype_block_bytes(job->m->dtype);
    size_t c0 = (size_t)index * TURN, c1 = c0 + TURN < cols ? c0 + TURN : cols;
    for (size_t r0 = 0; r0 < rows; r0 += TURN) {
        size_t r1 = r0 + TURN < rows ? r0 + TURN : rows;
        for (size_t c = c0; c < c1; c++) {
            for (size_t r = r0; r < r1; r++) {
                char *to = job->out + (c * rows + r) * size;
                const char *from = job->in + (r * cols + c) * size;
                if (size == 2) memcpy(to, from, 2);
                else memcpy(to, from, 4);
            }
        }
    }
}

/* A plane of a part into the record in p->out, where rows of weights may share fewer of its rows
 * than here. */
static void pack_plane(struct packer *p, const sl__matrix_layout *from, uint64_t from_offset,
                       const sl__matrix_layout *to, uint64_t to_offset)
{
    const size_t bytes = (size_t)to->scale_row_bytes;
    const uint64_t rows = sl__scaling_rows(&to->scaling, to->rows);
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t source = (from->first + r * to->scaling.group_rows) / from->scaling.group_rows;
        memcpy(p->out + to_offset + r * bytes, p->in + from_offset + source * bytes, bytes);
    }
}

/* One matrix of the record in p->in into the one in p->out. */
static sl_status pack_part(struct packer *p, const sl__matrix_layout *from,
                           const sl__matrix_layout *to, const char *what, sl_error *err)
{
    const struct form was = form_of(from->dtype, from->panels, to->cols);
    const struct form is = form_of(to->dtype, to->panels, to->cols);
    sl__rows in = {.dtype = from->dtype, .data = p->in + from->offset, .row_bytes = was.row_bytes,
                   .scaling = from->scaling, .first = from->first,
                   .scale_row_bytes = (size_t)from->scale_row_bytes};
    if (from->rows == 0) return SL_OK;
    if (from->transposed) {
        struct turning job = {.m = from, .in = in.data, .out = p->turned};
        assert(sl__dtype_block_weights(from->dtype) == 1);
        sl__pool_run(p->pool, turn_task, &job, (from->cols + TURN - 1) / TURN);
        in.data = p->turned;
    }
    if (sl__has_planes(&from->scaling)) in.scales = p->in + from->scales_offset;
    if (from->scaling.biases) in.biases = p->in + from->biases_offset;
    if (sl__has_planes(&to->scaling)) {
        pack_plane(p, from, from->scales_offset, to, to->scales_offset);
        if (to->scaling.biases) pack_plane(p, from, from->biases_offset, to, to->biases_offset);
    }
    return convert(p, &was, &in, &is, p->out + to->offset, to->rows, to->cols, what, err);
}

static sl_status pack_expert(struct packer *p, uint32_t layer, uint32_t expert, sl_error *err)
{
    static const char *const names[SL_PART_COUNT] = {"gate", "up", "down"};
    const sl__expert_layout *from = sl__store_expert_layout(p->store, layer);
    const sl__expert_layout *to = sl__pack_writer_layout(p->writer, layer);
    char what[64];
    SL_TRY(read_record(p, layer, expert, err));
    memset(p->out, 0, (size_t)to->record_bytes);
    for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
        snprintf(what, sizeof what, "layer %u expert %u %s", layer, expert, names[part]);
        SL_TRY(pack_part(p, &from->part[part], &to->part[part], what, err));
    }
    return sl__pack_writer_record(p->writer, layer, expert, p->out, err);
}

static sl_status pack_layer(struct packer *p, uint32_t layer, sl_error *err)
{
    const sl__expert_layout *layout = sl__pack_writer_layout(p->writer, layer);
    char what[32];
    snprintf(what, sizeof what, "layer %u", layer);
    if (sl__pack_writer_has_layer(p->writer, layer)) {
        return report(p, what, layout->record_bytes * layout->expert_count, err);
    }
    SL_TRY(sl__pack_writer_layer_begin(p->writer, layer, err));
    for (uint32_t e = 0; e < layout->expert_count; e++) {
        SL_TRY(pack_expert(p, layer, e, err));
        SL_TRY(report(p, what, layout->record_bytes, err));
    }
    return sl__pack_writer_layer_end(p->writer, layer, err);
}

/* ---- small files ----------------------------------------------------------------------------- */

static sl_status pack_tokenizer(struct packer *p, sl_error *err)
{
    char path[SL_PATH_MAX];
    sl_tokenizer *tok;
    void *data;
    size_t size;
    if (!sl__store_tokenizer_path(p->store, path, sizeof path)) return SL_OK;
    SL_TRY(sl_tokenizer_open(&tok, path, err));
    sl_status status = sl__tokenizer_compile(tok, &data, &size, err);
    sl_tokenizer_close(tok);
    if (status != SL_OK) return status;
    status = sl__pack_writer_file(p->writer, "tokenizer.bin", data, size, err);
    free(data);
    return status;
}

static sl_status copy_file(struct packer *p, const char *name, sl_error *err)
{
    char path[SL_PATH_MAX], *data;
    size_t size;
    SL_TRY(sl__path_join(path, sizeof path, sl__store_folder(p->store), name, err));
    if (!sl__file_exists(path)) return SL_OK;
    SL_TRY(sl__file_read(path, (uint64_t)16 << 20, &data, &size, err));
    sl_status status = sl__pack_writer_file(p->writer, name, data, size, err);
    free(data);
    return status;
}

/* A template that the file of the weights holds becomes a file of its own. */
static sl_status pack_template(struct packer *p, sl_error *err)
{
    static const char name[] = "chat_template.jinja";
    const char *text = sl__store_template(p->store);
    if (!text) return copy_file(p, name, err);
    return sl__pack_writer_file(p->writer, name, text, strlen(text), err);
}

/* ---- planning -------------------------------------------------------------------------------- */

/* Nothing is lost unless it was asked for by name. */
static sl_status parse_type(const char *name, const char *option, sl__dtype *out, sl_error *err)
{
    const char *text = name ? name : "keep";
    if (strcmp(text, "keep") == 0) {
        *out = SL_DTYPE_ALL;
        return SL_OK;
    }
    if (sl__dtype_parse(text, out) && *out <= SL_Q2) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%s: %s is not one of keep, f32, f16, bf16, q8, q4, q3, q2",
                   option, text);
}

/* What is kept as it is may change its form: codes with planes become a type in panels where that
 * has the same numbers, bit for bit. */
static sl__dtype encode_as(sl__dtype wanted, sl__dtype source, const sl__scaling *scaling)
{
    sl__dtype same;
    if (wanted != SL_DTYPE_ALL) return wanted;
    return sl__regroup_type(source, scaling, &same) ? same : source;
}

/* What a tensor keeps of planes are tensors of the pack, too. */
static void plan_planes(struct packer *p, sl__pack_tensor_plan *t, const sl__tensor *source)
{
    const sl__tensor *const planes[] = {source->scales, source->biases};
    t->scaling = source->scaling;
    for (int i = 0; i < 2 && planes[i]; i++) {
        sl__pack_tensor_plan *plane = &p->tensors[p->tensor_count];
        p->sources[p->tensor_count++] = planes[i];
        *plane = (sl__pack_tensor_plan){.name = planes[i]->name, .dtype = planes[i]->dtype,
                                        .dims = planes[i]->dims};
        memcpy(plane->shape, planes[i]->shape, sizeof plane->shape);
    }
}

static sl_status plan_tensors(struct packer *p, const sl__tensor_spec *specs, size_t count,
                              sl_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const sl__tensor *source;
        SL_TRY(sl__model_find(&source, p->store, &specs[i], err));
        if (sl__spec_repeats(&specs[i])) continue;
        sl__pack_tensor_plan *t = &p->tensors[p->tensor_count];
        p->sources[p->tensor_count++] = source;
        bool encode = specs[i].klass == SL_CLASS_MATRIX ||
                      (specs[i].klass == SL_CLASS_UNREAD && specs[i].rows > 1);
        t->name = source->name;
        t->dtype = encode ? encode_as(p->resident, source->dtype, &source->scaling)
                          : source->dtype;
        t->dims = source->dims;
        memcpy(t->shape, source->shape, sizeof t->shape);
        t->panels = specs[i].klass == SL_CLASS_MATRIX && !specs[i].by_rows && t->dims == 2 &&
                    sl__dtype_has_panels(t->dtype);
        if (sl__dtype_has_planes(t->dtype)) plan_planes(p, t, source);
        if (specs[i].cols > p->widest) p->widest = specs[i].cols;
    }
    return SL_OK;
}

static sl_status plan_layer(struct packer *p, uint32_t layer, sl_error *err)
{
    SL_TRY(sl__model_bind_experts(p->store, p->family, &p->desc, layer, err));
    const sl__expert_layout *layout = sl__store_expert_layout(p->store, layer);
    if (!layout) return SL_OK; /* a dense layer */
    sl__pack_layer_plan *plan = &p->layers[p->layer_count++];
    plan->layer = layer;
    plan->expert_count = layout->expert_count;
    for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
        const sl__matrix_layout *m = &layout->part[part];
        plan->dtype[part] = encode_as(p->experts, m->dtype, &m->scaling);
        if (sl__dtype_has_planes(plan->dtype[part])) plan->planes[part].scaling = m->scaling;
        if (m->first > 0) plan->planes[part].scaling.group_rows = 1; /* a group begins earlier */
        plan->rows[part] = m->transposed ? m->cols : m->rows;
        plan->cols[part] = m->transposed ? m->rows : m->cols;
        plan->panels[part] = sl__dtype_has_panels(plan->dtype[part]) && plan->rows[part] > 0;
        p->turns = p->turns || m->transposed;
        if (plan->cols[part] > p->widest) p->widest = plan->cols[part];
    }
    return SL_OK;
}

static sl_status plan_all(struct packer *p, sl_error *err)
{
    sl__tensor_spec specs[SL_SPECS_MAX];
    uint32_t all = p->desc.layer_count + p->desc.mtp_layer_count;
    size_t most = (size_t)(all + 1) * SL_SPECS_MAX * 3; /* with planes */
    p->tensors = SL_ARENA_NEW(&p->arena, sl__pack_tensor_plan, most);
    p->sources = SL_ARENA_NEW(&p->arena, const sl__tensor *, most);
    p->layers = SL_ARENA_NEW(&p->arena, sl__pack_layer_plan, all);
    if (!p->tensors || !p->sources || !p->layers) return SL_FAIL_NOMEM(err, "pack plan");
    SL_TRY(plan_tensors(p, specs, p->family->model_tensors(&p->desc, specs), err));
    for (uint32_t i = 0; i < all; i++) {
        SL_TRY(plan_tensors(p, specs, p->family->layer_tensors(&p->desc, i, specs), err));
        SL_TRY(plan_layer(p, i, err));
    }
    return SL_OK;
}

/* What a resume must find unchanged: the source's files and headers, and the options. */
static sl_status fingerprint(const struct packer *p, char out[SL_HASH_TEXT], sl_error *err)
{
    uint64_t hash = 0;
    for (uint32_t i = 0; i < sl__store_file_count(p->store); i++) {
        struct stat st;
        const char *path = sl__store_file_path(p->store, i);
        if (stat(path, &st) != 0) return SL_FAIL(err, SL_EIO, "%s: cannot be read", path);
        const uint64_t facts[] = {hash, (uint64_t)st.st_size, (uint64_t)st.st_mtime};
        hash = sl__hash64(facts, sizeof facts);
    }
    for (size_t i = 0; i < p->tensor_count; i++) {
        const sl__extent *e = &p->sources[i]->extent;
        const uint64_t facts[] = {hash, sl__hash64(p->tensors[i].name, strlen(p->tensors[i].name)),
                                  (uint64_t)p->tensors[i].dtype, e->file, e->offset, e->bytes};
        hash = sl__hash64(facts, sizeof facts);
    }
    const uint64_t facts[] = {hash, (uint64_t)p->experts, (uint64_t)p->resident, SL_PACK_VERSION};
    sl__hash_format(sl__hash64(facts, sizeof facts), out);
    return SL_OK;
}

static const char *base_name(const char *path, char *out, size_t size)
{
    snprintf(out, size, "%s", path);
    for (size_t n = strlen(out); n > 1 && out[n - 1] == '/'; n--)
        out[n - 1] = '\0';
    const char *slash = strrchr(out, '/');
    return slash && slash[1] ? slash + 1 : out;
}

static sl_status open_writer(struct packer *p, const char *src, const char *dst, sl_error *err)
{
    char print[SL_HASH_TEXT], name[SL_PATH_MAX];
    SL_TRY(fingerprint(p, print, err));
    json_t *provenance = json_pack("{s:s, s:s, s:s}", "tool_version", sl_version(), "experts",
                                   p->opt->experts ? p->opt->experts : "keep", "resident",
                                   p->opt->resident ? p->opt->resident : "keep");
    if (!provenance) return SL_FAIL_NOMEM(err, "provenance");
    const char *generation_path;
    const sl__pack_plan plan = {
        .config = sl__store_config(p->store)->root,
        .generation = sl__store_generation_config(p->store, &generation_path),
        .source = base_name(src, name, sizeof name),
        .fingerprint = print,
        .provenance = provenance,
        .tensors = p->tensors,
        .tensor_count = p->tensor_count,
        .layers = p->layers,
        .layer_count = p->layer_count,
    };
    p->progress.total_bytes = sl__pack_plan_bytes(&plan);
    sl_status status = sl__pack_writer_open(&p->writer, dst, &plan, err);
    json_decref(provenance);
    return status;
}

/* Buffers hold a piece of rows, or a record. */
static sl_status take_buffers(struct packer *p, sl_error *err)
{
    p->buffer_bytes = PIECE_BYTES;
    uint64_t widest_row = SL_PANEL_ROWS * (uint64_t)p->widest * sizeof(double);
    if (widest_row > p->buffer_bytes) p->buffer_bytes = widest_row;
    for (size_t i = 0; i < p->layer_count; i++) {
        uint32_t layer = p->layers[i].layer;
        uint64_t in = sl__store_expert_layout(p->store, layer)->record_bytes;
        uint64_t out = sl__pack_writer_layout(p->writer, layer)->record_bytes;
        if (in > p->buffer_bytes) p->buffer_bytes = in;
        if (out > p->buffer_bytes) p->buffer_bytes = out;
    }
    uint32_t threads = p->opt->threads ? p->opt->threads : sl__core_count();
    if (threads > PACK_THREADS_MAX) threads = PACK_THREADS_MAX;
    p->in = sl__arena_alloc(&p->arena, (size_t)p->buffer_bytes, 1);
    p->out = sl__arena_alloc(&p->arena, (size_t)p->buffer_bytes, 1);
    p->row_floats = 2 * ((size_t)p->widest + SL_GROUP); /* a panel's row has 8.5 bits at most */
    p->rows = sl__arena_alloc(&p->arena, threads * p->row_floats, sizeof *p->rows);
    if (p->turns) p->turned = sl__arena_alloc(&p->arena, (size_t)p->buffer_bytes, 1);
    if (!p->in || !p->out || !p->rows || (p->turns && !p->turned)) {
        return SL_FAIL_NOMEM(err, "pack buffers");
    }
    return sl__pool_create(&p->pool, threads, err);
}

/* Reads a finished pack back: every tensor and record against its checksum. */
static sl_status verify_pack(struct packer *p, const char *dst, sl_error *err)
{
    sl__store_close(p->store);
    p->store = NULL;
    SL_TRY(sl__store_open(&p->store, dst, err));
    for (size_t i = 0; i < sl__store_tensor_count(p->store); i++) {
        SL_TRY(sl__store_check_tensor(p->store, sl__store_tensor_at(p->store, i), p->in,
                                      (size_t)p->buffer_bytes, err));
    }
    for (size_t i = 0; i < p->layer_count; i++) {
        for (uint32_t e = 0; e < p->layers[i].expert_count; e++)
            SL_TRY(read_record(p, p->layers[i].layer, e, err));
    }
    return SL_OK;
}

static sl_status pack(struct packer *p, const char *src, const char *dst, sl_error *err)
{
    SL_TRY(parse_type(p->opt->experts, "experts", &p->experts, err));
    SL_TRY(parse_type(p->opt->resident, "resident", &p->resident, err));
    SL_TRY(sl__store_open(&p->store, src, err));
    SL_TRY(sl__model_describe(&p->desc, &p->family, p->store, &p->arena, err));
    SL_TRY(plan_all(p, err));
    SL_TRY(open_writer(p, src, dst, err));
    SL_TRY(take_buffers(p, err));
    SL_TRY(pack_resident(p, err));
    for (size_t i = 0; i < p->layer_count; i++)
        SL_TRY(pack_layer(p, p->layers[i].layer, err));
    SL_TRY(pack_tokenizer(p, err));
    SL_TRY(pack_template(p, err));
    SL_TRY(sl__pack_writer_commit(p->writer, err));
    return p->opt->verify ? verify_pack(p, dst, err) : SL_OK;
}

sl_status sl_pack(const char *src, const char *dst, const sl_pack_options *opt, sl_error *err)
{
    const sl_pack_options defaults = {0};
    struct packer p = {.opt = opt ? opt : &defaults};
    sl__arena_init(&p.arena, 0);
    sl__kern_init(&p.kern, NULL);
    sl_status status = pack(&p, src, dst, err);
    sl__pack_writer_close(p.writer);
    sl__pool_destroy(p.pool);
    sl__store_close(p.store);
    sl__arena_free(&p.arena);
    return status;
}
