/* The resident part: every tensor that all tokens need, read once into one block. Matrices stay in
 * the type they are stored in, with their planes behind them (base/rows.h); vectors become float32,
 * with the "1 +" of zero-centred norms added and what a converter did to them undone.
 *
 *     block:   codes | pad | scales | pad | biases | pad | the next tensor …     64-aligned
 */
#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/pages.h"
#include "base/panels.h"

#define ALIGN 64u

/* Called for every tensor that is loaded: the model's (layer -1), then each layer's. */
typedef sl_status (*visit_fn)(void *ctx, int64_t layer, const sl__tensor_spec *spec,
                              const sl__tensor *tensor, sl_error *err);

static sl_status visit_specs(const sl__store *store, const sl__tensor_spec *specs, size_t count,
                             int64_t layer, visit_fn fn, void *ctx, sl_error *err)
{
    for (size_t i = 0; i < count; i++) {
        const sl__tensor *tensor;
        if (specs[i].klass == SL_CLASS_UNREAD) continue;
        SL_TRY(sl__model_find(&tensor, store, &specs[i], err));
        SL_TRY(fn(ctx, layer, &specs[i], tensor, err));
    }
    return SL_OK;
}

static sl_status visit_all(const sl__store *store, const sl__family *family,
                           const sl__model_desc *desc, visit_fn fn, void *ctx, sl_error *err)
{
    sl__tensor_spec specs[SL_SPECS_MAX];
    size_t count = family->model_tensors(desc, specs);
    SL_TRY(visit_specs(store, specs, count, -1, fn, ctx, err));
    for (uint32_t i = 0; i < desc->layer_count; i++) {
        count = family->layer_tensors(desc, i, specs);
        SL_TRY(visit_specs(store, specs, count, i, fn, ctx, err));
    }
    return SL_OK;
}

static uint64_t align(uint64_t bytes)
{
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

/* Bytes of a row of each plane of a matrix; 0: it has none. */
static uint64_t plane_row_bytes(const sl__tensor_spec *spec, const sl__tensor *tensor)
{
    return tensor->scales ? sl__scaling_row_bytes(&tensor->scaling, spec->cols) : 0;
}

/* Where a tensor's planes begin behind its codes, and where it ends: aligned. */
struct places {
    uint64_t scales, biases, end;
};

/* A role that is put together from interleaved rows is taken as a whole with its first piece; each
 * of its rows has its own row of scales then, wherever groups of rows began. */
static struct places places_of(const sl__tensor_spec *spec, const sl__tensor *tensor)
{
    uint64_t codes = tensor->extent.bytes;
    uint64_t planes = tensor->scales ? tensor->scales->extent.bytes : 0;
    if (spec->klass == SL_CLASS_VECTOR) codes = (uint64_t)spec->cols * sizeof(float);
    if (spec->picks.groups > 0) {
        codes /= sl__stored_rows(tensor->panels, spec->rows);
        codes *= spec->first_row == 0 ? sl__stored_rows(tensor->panels, spec->role_rows) : 0;
        planes = spec->first_row == 0 ? spec->role_rows * plane_row_bytes(spec, tensor) : 0;
    }
    struct places p = {.scales = align(codes)};
    p.biases = p.scales + align(planes);
    p.end = p.biases + (tensor->biases ? align(planes) : 0);
    return p;
}

/* Bytes that a tensor adds in memory, rounded so that the next one is aligned. */
static uint64_t memory_bytes(const sl__tensor_spec *spec, const sl__tensor *tensor)
{
    return places_of(spec, tensor).end;
}

static bool is_embedding(int64_t layer, const sl__tensor_spec *spec)
{
    return layer < 0 && spec->role == SL_ROLE_EMBED;
}

struct sizes {
    uint64_t all, embedding;
};

static sl_status add_size(void *ctx, int64_t layer, const sl__tensor_spec *spec,
                          const sl__tensor *tensor, sl_error *err)
{
    struct sizes *sizes = ctx;
    uint64_t bytes = memory_bytes(spec, tensor);
    if (is_embedding(layer, spec)) sizes->embedding = bytes;
    if (sl__add_u64(&sizes->all, sizes->all, bytes)) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "tensor %s: the sizes of the tensors overflow", tensor->name);
}

sl_status sl__resident_bytes(const sl__store *store, const sl__family *family,
                             const sl__model_desc *desc, uint64_t *bytes, uint64_t *embedding,
                             sl_error *err)
{
    struct sizes sizes = {0, 0};
    SL_TRY(visit_all(store, family, desc, add_size, &sizes, err));
    *bytes = sizes.all;
    *embedding = sizes.embedding;
    return SL_OK;
}

struct loader {
    sl_engine *engine;
    sl_verify_rule verify;
    size_t used;
    char *picked; /* where the role that is being put together from picked rows begins */
};

/* x ← log(−x). What grows is no decay: such a file was made with other rules. */
static sl_status undo_minus_exp(const struct loader *l, const sl__tensor_spec *spec, float *x,
                                sl_error *err)
{
    char name[SL_STORE_NAME_MAX];
    const sl__store *store = l->engine->store;
    for (uint32_t i = 0; i < spec->cols; i++) {
        if (!(x[i] <= 0)) {
            return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: element %u is %g; decays are negative",
                           sl__store_path(store), sl__store_name_in_file(store, spec->name, name),
                           i, (double)x[i]);
        }
        x[i] = logf(-x[i]);
    }
    return SL_OK;
}

/* A few numbers of any weight type → float32. The staging memory is freed again. */
static sl_status load_vector(const struct loader *l, const sl__tensor_spec *spec,
                             const sl__tensor *tensor, float *out, sl_error *err)
{
    void *raw = malloc(tensor->extent.bytes ? (size_t)tensor->extent.bytes : 1);
    if (!raw) return SL_FAIL_NOMEM(err, tensor->name);
    sl_status status = sl__store_read_tensor(l->engine->store, tensor, raw, err);
    if (status == SL_OK) {
        const sl__rows rows = {.dtype = tensor->dtype, .data = raw};
        l->engine->run.kern.dequant_row(&rows, 0, out, spec->cols);
        for (uint32_t i = 0; i < spec->cols; i++)
            out[i] += spec->add;
        if (spec->minus_exp) status = undo_minus_exp(l, spec, out, err);
    }
    free(raw);
    return status;
}

/* A tensor that is not read whole is still compared with its checksum, once, in pieces. */
static sl_status check_tensor(const struct loader *l, const sl__tensor *tensor, sl_error *err)
{
    if (l->verify == SL_VERIFY_NONE || !tensor->has_checksum) return SL_OK;
    const sl_engine *e = l->engine;
    return sl__store_check_tensor(e->store, tensor, e->logits,
                                  (size_t)e->plan.logits_rows * e->desc.vocab * sizeof(float),
                                 err);
}

static sl_status check_whole(const struct loader *l, const sl__tensor *tensor, sl_error *err)
{
    SL_TRY(check_tensor(l, tensor, err));
    if (tensor->scales) SL_TRY(check_tensor(l, tensor->scales, err));
    return tensor->biases ? check_tensor(l, tensor->biases, err) : SL_OK;
}

/* Of a tensor in panels a row is picked out of one panel and put into another. */
static sl_status load_panel_picks(const struct loader *l, const sl__tensor_spec *spec,
                                  const sl__tensor *tensor, size_t row_bytes, sl_error *err)
{
    const sl__row_picks *p = &spec->picks;
    const sl__extent *extent = &tensor->extent;
    const size_t bytes = SL_PANEL_ROWS * row_bytes;
    char *panel = malloc(bytes + row_bytes), *row = panel + bytes;
    uint64_t held = UINT64_MAX; /* the panel in memory */
    sl_status status = panel ? SL_OK : SL_FAIL_NOMEM(err, tensor->name);
    for (uint32_t i = 0; i < p->groups * p->count && status == SL_OK; i++) {
        uint64_t from = (uint64_t)(i / p->count) * p->stride + p->offset + i % p->count;
        uint64_t to = (uint64_t)spec->first_row + i;
        if (from / SL_PANEL_ROWS != held) {
            held = from / SL_PANEL_ROWS;
            status = sl__file_pread_all(sl__store_fd(l->engine->store, extent->file),
                                        sl__store_file_path(l->engine->store, extent->file), panel,
                                        bytes, extent->offset + held * bytes, err);
        }
        if (status != SL_OK) break;
        sl__panel_get_row(tensor->dtype, panel, (uint32_t)(from % SL_PANEL_ROWS), spec->cols, row);
        sl__panel_put_row(tensor->dtype, row, spec->cols, l->picked + to / SL_PANEL_ROWS * bytes,
                          (uint32_t)(to % SL_PANEL_ROWS));
    }
    free(panel);
    return status;
}

/* The rows of a plane that belong to the picked rows: one for each. */
static sl_status pick_plane(const struct loader *l, const sl__tensor_spec *spec,
                            const sl__tensor *tensor, const sl__tensor *plane, char *to,
                            sl_error *err)
{
    const sl__row_picks *p = &spec->picks;
    const sl__extent *extent = &plane->extent;
    const size_t row_bytes = (size_t)plane_row_bytes(spec, tensor);
    char *rows = malloc((size_t)extent->bytes);
    if (!rows) return SL_FAIL_NOMEM(err, tensor->name);
    sl_status status = sl__store_read_tensor(l->engine->store, plane, rows, err);
    to += (size_t)spec->first_row * row_bytes;
    for (uint32_t i = 0; i < p->groups * p->count && status == SL_OK; i++) {
        uint32_t unused;
        uint64_t from = (uint64_t)(i / p->count) * p->stride + p->offset + i % p->count;
        from = sl__tensor_plane_row(tensor, from, &unused);
        memcpy(to + i * row_bytes, rows + from * row_bytes, row_bytes);
    }
    free(rows);
    return status;
}

/* The picked rows of a tensor go to their place in the role. */
static sl_status load_picks(const struct loader *l, const sl__tensor_spec *spec,
                            const sl__tensor *tensor, const sl__weight *role, sl_error *err)
{
    const sl__row_picks *p = &spec->picks;
    const sl__extent *extent = &tensor->extent;
    const sl__store *store = l->engine->store;
    const size_t row_bytes = role->row_bytes;
    char *to = l->picked + (size_t)spec->first_row * row_bytes;
    if (!sl__spec_repeats(spec)) SL_TRY(check_tensor(l, tensor, err));
    if (tensor->panels) return load_panel_picks(l, spec, tensor, row_bytes, err);
    if (tensor->scales)
        SL_TRY(pick_plane(l, spec, tensor, tensor->scales, (char *)role->scales, err));
    if (tensor->biases)
        SL_TRY(pick_plane(l, spec, tensor, tensor->biases, (char *)role->biases, err));
    for (uint32_t g = 0; g < p->groups; g++) {
        uint64_t from = ((uint64_t)g * p->stride + p->offset) * row_bytes;
        uint64_t bytes = (uint64_t)p->count * row_bytes;
        SL_TRY(sl__file_pread_all(sl__store_fd(store, extent->file),
                                  sl__store_file_path(store, extent->file), to, bytes,
                                  extent->offset + from, err));
        to += bytes;
    }
    return SL_OK;
}

/* The planes of a weight lie behind its codes at `to`. */
static void place_planes(const sl__tensor_spec *spec, const sl__tensor *tensor, char *to,
                         sl__weight *w)
{
    const struct places places = places_of(spec, tensor);
    w->scaling = tensor->scaling;
    w->scale_row_bytes = (size_t)plane_row_bytes(spec, tensor);
    if (spec->picks.groups > 0) w->scaling.group_rows = 1;
    if (!to) return;
    w->scales = to + places.scales;
    if (tensor->biases) w->biases = to + places.biases;
}

static sl_status load_tensor(void *ctx, int64_t layer, const sl__tensor_spec *spec,
                             const sl__tensor *tensor, sl_error *err)
{
    struct loader *l = ctx;
    sl_engine *e = l->engine;
    sl__weight *weight = layer < 0 ? &e->run.model[spec->role] : &e->run.layers[layer][spec->role];
    sl__weight w = {.dtype = tensor->dtype, .rows = spec->rows, .cols = spec->cols,
                    .panels = tensor->panels, .precise = spec->klass == SL_CLASS_PRECISE};
    uint64_t row_bytes;
    if (!sl__dtype_row_bytes(tensor->dtype, spec->cols, &row_bytes)) {
        return SL_FAIL(err, SL_EFORMAT, "tensor %s: its rows are too long", tensor->name);
    }
    w.row_bytes = (size_t)row_bytes;
    if (is_embedding(layer, spec)) {
        e->embedding = tensor;
        if (!e->plan.embedding_resident) {
            if (tensor->scales) place_planes(spec, tensor, NULL, &w);
            *weight = w;
            return check_whole(l, tensor, err);
        }
    }
    char *to = e->weights + l->used;
    l->used += memory_bytes(spec, tensor);
    assert(l->used <= e->weights_bytes);
    w.data = to;
    if (tensor->scales) place_planes(spec, tensor, to, &w);
    if (spec->picks.groups > 0) {
        w.rows = spec->role_rows;
        if (spec->first_row == 0) {
            *weight = w;
            l->picked = to;
        }
        return load_picks(l, spec, tensor, weight, err);
    }
    if (spec->klass == SL_CLASS_VECTOR) {
        w.dtype = SL_F32;
        w.row_bytes = spec->cols * sizeof(float);
        *weight = w;
        return load_vector(l, spec, tensor, (float *)(void *)to, err);
    }
    *weight = w;
    SL_TRY(sl__store_read_tensor(e->store, tensor, to, err));
    if (w.scales) SL_TRY(sl__store_read_tensor(e->store, tensor->scales, (char *)w.scales, err));
    if (!w.biases) return SL_OK;
    return sl__store_read_tensor(e->store, tensor->biases, (char *)w.biases, err);
}

sl_status sl__load_weights(sl_engine *engine, sl_verify_rule verify, sl_error *err)
{
    engine->weights_bytes = (size_t)engine->plan.resident;
    engine->weights = sl__pages_alloc_huge(engine->weights_bytes);
    engine->run.layers = sl__arena_alloc(&engine->arena, engine->desc.layer_count,
                                         sizeof *engine->run.layers);
    if (!engine->weights || !engine->run.layers) return SL_FAIL_NOMEM(err, "resident weights");
    struct loader loader = {.engine = engine, .verify = verify};
    SL_TRY(visit_all(engine->store, engine->family, &engine->desc, load_tensor, &loader, err));
    if (engine->desc.tied_embedding) {
        engine->run.model[SL_ROLE_HEAD] = engine->run.model[SL_ROLE_EMBED];
    }
    return SL_OK;
}
