/* Experts: where the parts of a record lie, and whether a record is what was written. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"
#include "base/hash.h"
#include "store/pack_layout.h"
#include "store/store_private.h"

sl_status sl__store_layer_slot(sl__store *store, uint32_t layer, sl__store_layer **out,
                               sl_error *err)
{
    if (layer >= SL_PACK_LAYERS_MAX) {
        return SL_FAIL(err, SL_EINVAL, "%s: layer %u is beyond the limit of %u", store->path, layer,
                       SL_PACK_LAYERS_MAX);
    }
    if (layer >= store->layer_count) {
        uint32_t count = layer + 1;
        sl__store_layer *grown = realloc(store->layers, count * sizeof *grown);
        if (!grown) return SL_FAIL_NOMEM(err, "layer table");
        memset(grown + store->layer_count, 0, (count - store->layer_count) * sizeof *grown);
        store->layers = grown;
        store->layer_count = count;
    }
    *out = &store->layers[layer];
    return SL_OK;
}

/* NULL: nothing is bound. */
static const sl__store_layer *bound(const sl__store *store, uint32_t layer)
{
    if (layer >= store->layer_count) return NULL;
    return store->layers[layer].layout.expert_count ? &store->layers[layer] : NULL;
}

/* ---- binding --------------------------------------------------------------------------------- */

/* In a pack: what the model expects is what the manifest holds. */
static sl_status check_bound(const sl__store *s, uint32_t layer, uint32_t expert_count,
                             const uint32_t rows[SL_PART_COUNT], const uint32_t cols[SL_PART_COUNT],
                             sl_error *err)
{
    const sl__store_layer *l = bound(s, layer);
    if (!l) return SL_FAIL(err, SL_EFORMAT, "%s: layer %u: holds no experts", s->path, layer);
    if (l->layout.expert_count != expert_count) {
        return SL_FAIL(err, SL_EFORMAT, "%s: layer %u: %u experts; the configuration asks for %u",
                       s->path, layer, l->layout.expert_count, expert_count);
    }
    for (int p = 0; p < SL_PART_COUNT; p++) {
        const sl__matrix_layout *part = &l->layout.part[p];
        if (part->rows == rows[p] && part->cols == cols[p]) continue;
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: layer %u: %s is %u x %u; the configuration asks for %u x %u", s->path,
                       layer, sl__part_name[p], part->rows, part->cols, rows[p], cols[p]);
    }
    return SL_OK;
}

/* Rows [first_row, first_row + rows) must lie inside a tensor whose last dimension is a row of
 * row_bytes. */
static sl_status check_rows(const sl__store *s, const sl__tensor *t, uint64_t first_row,
                            uint32_t rows, uint64_t row_bytes, sl_error *err)
{
    const char *path = sl__store_file_path(s, t->extent.file);
    uint64_t total = 1, end;
    for (uint32_t d = 0; d + 1 < t->dims; d++) {
        if (!sl__mul_u64(&total, total, t->shape[d])) total = 0; /* the reader refused such */
    }
    if (!sl__add_u64(&end, first_row, rows) || end > total) {
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: tensor %s: %llu rows; an expert would be at rows %llu to %llu", path,
                       t->name, (unsigned long long)total, (unsigned long long)first_row,
                       (unsigned long long)(first_row + rows));
    }
    if (row_bytes == 0 || end > t->extent.bytes / row_bytes) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: too short for its shape", path, t->name);
    }
    return SL_OK;
}

static sl_status check_last(const sl__store *s, const sl__tensor *t, uint32_t least_dims,
                            uint64_t last, sl_error *err)
{
    uint64_t actual = t->dims ? t->shape[t->dims - 1] : 0;
    if (t->dims >= least_dims && actual == last) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: the last of %u dimensions is %llu; expected "
                   "%llu", sl__store_file_path(s, t->extent.file), t->name, t->dims,
                   (unsigned long long)actual, (unsigned long long)last);
}

/* The planes of a piece: they were compared with their tensor. All experts begin in the same row of
 * a group of rows. */
static sl_status check_planes(const sl__store *s, const sl__expert_piece *piece,
                              const sl__matrix_layout *part, sl_error *err)
{
    const sl__tensor *t = piece->tensor;
    uint32_t first;
    (void)sl__tensor_plane_row(t, piece->first_row, &first);
    if (sl__scaling_equal(&t->scaling, &part->scaling) && first == part->first) return SL_OK;
    char shown[SL_STORE_NAME_MAX];
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: its scales lie otherwise than other experts'",
                   sl__store_file_path(s, t->extent.file),
                   sl__store_name_in_file(s, t->name, shown));
}

/* A piece must lie inside its tensor, and be of the type of its fellows. part: rows, cols and dtype
 * as they lie, and the bytes of a row. */
static sl_status check_piece(const sl__store *s, const sl__expert_piece *piece,
                             const sl__matrix_layout *part, sl_error *err)
{
    const sl__tensor *t = piece->tensor;
    const char *path = sl__store_file_path(s, t->extent.file);
    char shown[SL_STORE_NAME_MAX];
    sl__dtype dtype = t->dtype;
    assert(piece->transposed == part->transposed && !(t->scales && piece->transposed));
    if (dtype >= SL_DTYPE_COUNT || (sl__dtype_has_planes(dtype) && !t->scales)) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: %s is no type of expert weights", path,
                       sl__store_name_in_file(s, t->name, shown), sl__dtype_name(dtype));
    }
    if (dtype != part->dtype) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: %s where other experts have %s", path,
                       sl__store_name_in_file(s, t->name, shown), sl__dtype_name(dtype),
                       sl__dtype_name(part->dtype));
    }
    SL_TRY(check_last(s, t, 2, part->cols, err));
    SL_TRY(check_rows(s, t, piece->first_row, part->rows, part->row_bytes, err));
    return t->scales ? check_planes(s, piece, part, err) : SL_OK;
}

static sl_status check_pieces(const sl__store *s, const sl__expert_layout *layout,
                              const sl__expert_piece *pieces, sl_error *err)
{
    for (uint32_t e = 0; e < layout->expert_count; e++) {
        for (int p = 0; p < SL_PART_COUNT; p++) {
            if (layout->part[p].rows == 0) continue;
            SL_TRY(check_piece(s, &pieces[(size_t)e * SL_PART_COUNT + (size_t)p], &layout->part[p],
                               err));
        }
    }
    return SL_OK;
}

/* The layout of the parts as they lie: a transposed one has the model's rows as its columns. */
static sl_status make_layout(const sl__store *s, sl__expert_layout *layout, uint32_t layer,
                             uint32_t expert_count, const uint32_t rows[SL_PART_COUNT],
                             const uint32_t cols[SL_PART_COUNT], const sl__expert_piece *pieces,
                             sl_error *err)
{
    sl__dtype dtype[SL_PART_COUNT];
    uint32_t lying_rows[SL_PART_COUNT], lying_cols[SL_PART_COUNT];
    sl__part_planes planes[SL_PART_COUNT];
    char where[512];
    snprintf(where, sizeof where, "%.400s: layer %u", s->path, layer);
    if (expert_count == 0) return SL_FAIL(err, SL_EINVAL, "%s: no experts", where);
    for (int p = 0; p < SL_PART_COUNT; p++) {
        bool absent = rows[p] == 0 && cols[p] == 0;
        bool transposed = !absent && pieces[p].transposed;
        dtype[p] = absent ? dtype[SL_PART_GATE] : pieces[p].tensor->dtype;
        planes[p] = (sl__part_planes){.first = 0};
        lying_rows[p] = transposed ? cols[p] : rows[p];
        lying_cols[p] = transposed ? rows[p] : cols[p];
        if (absent) continue;
        /* Before the layout is made, so that the message names the tensor. */
        sl__matrix_layout part = {.dtype = dtype[p], .rows = lying_rows[p], .cols = lying_cols[p],
                                  .transposed = transposed};
        if (!sl__dtype_row_bytes(dtype[p], part.cols, &part.row_bytes)) part.row_bytes = 0;
        if (pieces[p].tensor->scales) {
            planes[p].scaling = part.scaling = pieces[p].tensor->scaling;
            (void)sl__tensor_plane_row(pieces[p].tensor, pieces[p].first_row, &part.first);
            planes[p].first = part.first;
        }
        SL_TRY(check_piece(s, &pieces[p], &part, err));
    }
    SL_TRY(sl__expert_layout_init(layout, expert_count, dtype, lying_rows, lying_cols, NULL, planes,
                                  where, err));
    for (int p = 0; p < SL_PART_COUNT; p++)
        layout->part[p].transposed = layout->part[p].rows > 0 && pieces[p].transposed;
    return SL_OK;
}

sl_status sl__store_bind_experts(sl__store *store, uint32_t layer, uint32_t expert_count,
                                 const uint32_t rows[SL_PART_COUNT],
                                 const uint32_t cols[SL_PART_COUNT],
                                 const sl__expert_piece *pieces, sl_error *err)
{
    if (sl__store_is_pack(store)) return check_bound(store, layer, expert_count, rows, cols, err);
    sl__expert_layout layout;
    SL_TRY(make_layout(store, &layout, layer, expert_count, rows, cols, pieces, err));
    SL_TRY(check_pieces(store, &layout, pieces, err));
    sl__store_layer *slot;
    SL_TRY(sl__store_layer_slot(store, layer, &slot, err));
    size_t bytes = (size_t)expert_count * SL_PART_COUNT * sizeof *pieces;
    sl__expert_piece *copy = malloc(bytes);
    if (!copy) return SL_FAIL_NOMEM(err, "expert table");
    memcpy(copy, pieces, bytes);
    free(slot->pieces);
    *slot = (sl__store_layer){.layout = layout, .pieces = copy};
    return SL_OK;
}

/* ---- reading --------------------------------------------------------------------------------- */

const sl__expert_layout *sl__store_expert_layout(const sl__store *store, uint32_t layer)
{
    const sl__store_layer *l = bound(store, layer);
    return l ? &l->layout : NULL;
}

/* Whether b continues a on the disk and in the record, so that one read does for both. */
static bool adjoins(const sl__extent *a, const sl__extent *b)
{
    return a->file == b->file && a->offset + a->bytes == b->offset && a->dst + a->bytes == b->dst;
}

/* Adds the read of some rows of a tensor; returns the new count. */
static uint32_t add_rows(sl__extent *out, uint32_t count, const sl__tensor *tensor,
                         uint64_t first_row, uint32_t rows, uint64_t row_bytes, uint64_t dst)
{
    const sl__extent *whole = &tensor->extent;
    sl__extent x = {.file = whole->file, .offset = whole->offset + first_row * row_bytes,
                    .bytes = rows * row_bytes, .dst = dst};
    if (count > 0 && adjoins(&out[count - 1], &x)) {
        out[count - 1].bytes += x.bytes;
        return count;
    }
    out[count] = x;
    return count + 1;
}

static uint32_t add_planes(sl__extent *out, uint32_t count, const sl__expert_piece *piece,
                           const sl__matrix_layout *part)
{
    uint32_t first, rows = (uint32_t)(sl__part_scale_bytes(part) / part->scale_row_bytes);
    uint64_t row = sl__tensor_plane_row(piece->tensor, piece->first_row, &first);
    count = add_rows(out, count, piece->tensor->scales, row, rows, part->scale_row_bytes,
                     part->scales_offset);
    if (!part->scaling.biases) return count;
    return add_rows(out, count, piece->tensor->biases, row, rows, part->scale_row_bytes,
                    part->biases_offset);
}

uint32_t sl__store_expert_extents(const sl__store *store, uint32_t layer, uint32_t expert,
                                  sl__extent out[SL_EXPERT_EXTENTS_MAX])
{
    const sl__store_layer *l = bound(store, layer);
    if (!l || expert >= l->layout.expert_count) return 0;
    if (sl__store_is_pack(store)) {
        out[0] = (sl__extent){
            .file = l->file, .offset = expert * l->stride, .bytes = l->layout.record_bytes};
        return 1;
    }
    uint32_t count = 0;
    for (uint32_t p = 0; p < SL_PART_COUNT; p++) {
        const sl__matrix_layout *part = &l->layout.part[p];
        const sl__expert_piece *piece = &l->pieces[(size_t)expert * SL_PART_COUNT + p];
        if (part->rows == 0) continue;
        count = add_rows(out, count, piece->tensor, piece->first_row, part->rows, part->row_bytes,
                         part->offset);
        if (sl__has_planes(&part->scaling)) count = add_planes(out, count, piece, part);
    }
    return count;
}

/* Whether a number of a plane is none. */
static bool has_nan(sl__dtype type, const void *plane, uint64_t bytes)
{
    const unsigned char *p = plane;
    uint16_t half;
    uint32_t word;
    switch (type) {
    case SL_F8_E8M0: return memchr(p, 255, (size_t)bytes) != NULL;
    case SL_F32:
        for (uint64_t i = 0; i < bytes; i += sizeof word) {
            memcpy(&word, p + i, sizeof word);
            if ((word & 0x7fffffffu) > 0x7f800000u) return true;
        }
        return false;
    default:
        assert(type == SL_BF16 || type == SL_F16);
        for (uint64_t i = 0; i < bytes; i += sizeof half) {
            memcpy(&half, p + i, sizeof half);
            if ((half & 0x7fffu) > (type == SL_BF16 ? 0x7f80u : 0x7c00u)) return true;
        }
        return false;
    }
}

/* A scale or a bias that is NaN would make a NaN of every sum that it is in. */
static sl_status check_scales(const sl__store *store, uint32_t layer, uint32_t expert,
                              const void *record, sl_error *err)
{
    const sl__store_layer *l = bound(store, layer);
    for (uint32_t p = 0; p < SL_PART_COUNT; p++) {
        const sl__matrix_layout *part = &l->layout.part[p];
        if (part->rows == 0 || !sl__has_planes(&part->scaling)) continue;
        uint64_t bytes = sl__part_scale_bytes(part);
        const char *at = record, *what = "scale";
        bool bad = has_nan(part->scaling.type, at + part->scales_offset, bytes);
        if (!bad && part->scaling.biases) {
            bad = has_nan(part->scaling.type, at + part->biases_offset, bytes);
            what = "bias";
        }
        if (!bad) continue;
        uint32_t file = l->file;
        if (!sl__store_is_pack(store)) {
            file = l->pieces[(size_t)expert * SL_PART_COUNT + p].tensor->scales->extent.file;
        }
        return SL_FAIL(err, SL_ENUMERIC, "%s: layer %u, expert %u: a %s of %s is NaN",
                       sl__store_file_path(store, file), layer, expert, what, sl__part_name[p]);
    }
    return SL_OK;
}

sl_status sl__store_verify_record(sl__store *store, uint32_t layer, uint32_t expert,
                                  const void *record, sl_verify_rule verify, sl_error *err)
{
    const sl__store_layer *l = bound(store, layer);
    assert(l && expert < l->layout.expert_count);
    if (verify == SL_VERIFY_NONE) return SL_OK;
    if (!l->checksums) return check_scales(store, layer, expert, record, err);
    /* The mark says nothing about other memory, so no ordering is needed. */
    _Atomic uint64_t *word = &l->verified[expert / 64u];
    uint64_t bit = (uint64_t)1 << (expert % 64u);
    if (verify == SL_VERIFY_FIRST &&
        (atomic_load_explicit(word, memory_order_relaxed) & bit) != 0) {
        return SL_OK;
    }
    if (sl__hash64(record, (size_t)l->layout.record_bytes) != l->checksums[expert]) {
        return SL_FAIL(err, SL_ECORRUPT,
                       "%s: layer %u, expert %u: the bytes differ from their checksum",
                       sl__store_file_path(store, l->file), layer, expert);
    }
    SL_TRY(check_scales(store, layer, expert, record, err));
    atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
    return SL_OK;
}
