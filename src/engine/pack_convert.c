/* Rows of one form into rows of another, on all threads: out of a panel, to floats, to codes, into
 * a panel, as far as the two differ. What comes out depends on the row alone.
 */
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "engine/packer.h"
#include "quant/quant.h"

#define TASK_WEIGHTS 16384u /* about, that a thread takes at a time */

struct conversion {
    sl__packer *p;
    sl__rows in; /* in panels where from says so */
    sl__pack_form from, to;
    bool regroups; /* codes and scales go over as they are */
    uint32_t cols;
    char *out;
    uint32_t rows, rows_a_task;
    sl_error *errors; /* [threads] */
};

sl__pack_form sl__pack_form_of(sl__dtype type, bool panels, uint32_t cols)
{
    uint64_t row_bytes = 0;
    bool fits = sl__dtype_row_bytes(type, cols, &row_bytes);
    assert(fits);
    (void)fits;
    return (sl__pack_form){type, panels, (size_t)row_bytes};
}

uint64_t sl__pack_form_bytes(const sl__pack_form *form, uint64_t rows)
{
    return sl__stored_rows(form->panels, rows) * form->row_bytes;
}

/* Row r, or the panel that it is in. */
static size_t row_place(const sl__pack_form *form, uint32_t r)
{
    return (form->panels ? r / SL_PANEL_ROWS * SL_PANEL_ROWS : r) * form->row_bytes;
}

/* tmp: the row as floats where it changes its type; behind them, as it comes out of a panel and as
 * it goes into one. */
static sl_status convert_row(const struct conversion *c, uint32_t r, float *tmp, sl_error *err)
{
    const sl__kern *kern = &c->p->kern;
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
            kern->dequant_row(c->from.panels ? &alone : &c->in, c->from.panels ? 0 : r, tmp,
                              c->cols);
            SL_TRY(sl__quant_row(kern, c->to.type, tmp, c->cols, coded, NULL, err));
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

sl_status sl__pack_convert(sl__packer *p, const sl__pack_form *from, const sl__rows *in,
                           const sl__pack_form *to, void *out, uint32_t rows, uint32_t cols,
                           const char *what, sl_error *err)
{
    sl_error errors[SL_PACK_THREADS_MAX];
    sl__dtype same = SL_DTYPE_ALL;
    struct conversion c = {.p = p, .from = *from, .to = *to, .cols = cols, .in = *in, .out = out,
                           .rows = rows, .errors = errors};
    c.regroups = sl__regroup_type(from->type, &in->scaling, &same) && same == to->type;
    size_t bytes = (size_t)sl__pack_form_bytes(to, rows);
    if (from->type == to->type && from->panels == to->panels) {
        memcpy(out, in->data, bytes);
        return SL_OK;
    }
    if (to->panels) memset(out, 0, bytes); /* rows that fill up the last panel */
    uint32_t threads = sl__pool_threads(p->pool);
    for (uint32_t i = 0; i < threads; i++)
        errors[i].status = SL_OK;
    c.rows_a_task = TASK_WEIGHTS / cols + 1;
    sl__pool_run(p->pool, convert_task, &c, (rows + c.rows_a_task - 1) / c.rows_a_task);
    for (uint32_t i = 0; i < threads; i++) {
        if (errors[i].status == SL_OK) continue;
        return SL_FAIL(err, errors[i].status, "%s: %s: %s", sl__store_path(p->store), what,
                       errors[i].message);
    }
    return SL_OK;
}

/* ---- records --------------------------------------------------------------------------------- */

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

/* A plane of a part, where rows of weights may share fewer of its rows than here. */
static void copy_plane(const char *in, const sl__matrix_layout *from, uint64_t from_offset,
                       char *out, const sl__matrix_layout *to, uint64_t to_offset)
{
    const size_t bytes = (size_t)to->scale_row_bytes;
    const uint64_t rows = sl__scaling_rows(&to->scaling, to->rows);
    for (uint64_t r = 0; r < rows; r++) {
        uint64_t source = (from->first + r * to->scaling.group_rows) / from->scaling.group_rows;
        memcpy(out + to_offset + r * bytes, in + from_offset + source * bytes, bytes);
    }
}

static sl_status convert_part(sl__packer *p, const char *in, const sl__matrix_layout *from,
                              const sl__matrix_layout *to, char *out, const char *what,
                              sl_error *err)
{
    const sl__pack_form was = sl__pack_form_of(from->dtype, from->panels, to->cols);
    const sl__pack_form is = sl__pack_form_of(to->dtype, to->panels, to->cols);
    sl__rows rows = {.dtype = from->dtype, .data = in + from->offset, .row_bytes = was.row_bytes,
                     .scaling = from->scaling, .first = from->first,
                     .scale_row_bytes = (size_t)from->scale_row_bytes};
    if (from->transposed) {
        struct turning job = {.m = from, .in = rows.data, .out = p->turned};
        assert(sl__dtype_block_weights(from->dtype) == 1);
        sl__pool_run(p->pool, turn_task, &job, (from->cols + TURN - 1) / TURN);
        rows.data = p->turned;
    }
    if (sl__has_planes(&from->scaling)) rows.scales = in + from->scales_offset;
    if (from->scaling.biases) rows.biases = in + from->biases_offset;
    if (sl__has_planes(&to->scaling)) {
        copy_plane(in, from, from->scales_offset, out, to, to->scales_offset);
        if (to->scaling.biases)
            copy_plane(in, from, from->biases_offset, out, to, to->biases_offset);
    }
    return sl__pack_convert(p, &was, &rows, &is, out + to->offset, to->rows, to->cols, what, err);
}

sl_status sl__pack_convert_record(sl__packer *p, const char *in, const sl__expert_layout *from,
                                  const sl__expert_layout *to, char *out, const char *what,
                                  sl_error *err)
{
    static const char *const names[SL_PART_COUNT] = {"gate", "up", "down"};
    char where[96];
    memset(out, 0, (size_t)to->record_bytes);
    for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
        if (from->part[part].rows == 0) continue;
        snprintf(where, sizeof where, "%s %s", what, names[part]);
        SL_TRY(convert_part(p, in, &from->part[part], &to->part[part], out, where, err));
    }
    return SL_OK;
}
