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

/* A piece must lie inside its tensor, and be of the type of its fellows. */
static sl_status check_piece(const sl__store *s, const sl__expert_piece *piece, sl__dtype dtype,
                             uint32_t rows, uint32_t cols, sl_error *err)
{
    const sl__tensor *t = piece->tensor;
    const char *path = sl__store_file_path(s, t->extent.file);
    uint64_t last = t->dims ? t->shape[t->dims - 1] : 0, total = 1, end;
    if (t->dtype != SL_F32 && t->dtype != SL_F16 && t->dtype != SL_BF16) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: %s is no type of expert weights", path,
                       t->name, sl__dtype_name(t->dtype));
    }
    if (t->dtype != dtype) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: %s where other experts have %s", path,
                       t->name, sl__dtype_name(t->dtype), sl__dtype_name(dtype));
    }
    if (t->dims < 2 || last != cols) {
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: tensor %s: the last of %u dimensions is %llu; expected %u", path,
                       t->name, t->dims, (unsigned long long)last, cols);
    }
    for (uint32_t d = 0; d + 1 < t->dims; d++) {
        if (!sl__mul_u64(&total, total, t->shape[d])) total = 0; /* the reader refused such */
    }
    if (!sl__add_u64(&end, piece->first_row, rows) || end > total) {
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: tensor %s: %llu rows; an expert would be at rows %llu to %llu", path,
                       t->name, (unsigned long long)total, (unsigned long long)piece->first_row,
                       (unsigned long long)(piece->first_row + rows));
    }
    uint64_t row_bytes;
    if (!sl__dtype_row_bytes(dtype, cols, &row_bytes) || row_bytes == 0 ||
        end > t->extent.bytes / row_bytes) {
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: too short for its shape", path, t->name);
    }
    return SL_OK;
}

static sl_status check_pieces(const sl__store *s, const sl__expert_layout *layout,
                              const sl__expert_piece *pieces, sl_error *err)
{
    for (uint32_t e = 0; e < layout->expert_count; e++) {
        for (int p = 0; p < SL_PART_COUNT; p++) {
            const sl__matrix_layout *part = &layout->part[p];
            SL_TRY(check_piece(s, &pieces[(size_t)e * SL_PART_COUNT + (size_t)p], part->dtype,
                               part->rows, part->cols, err));
        }
    }
    return SL_OK;
}

sl_status sl__store_bind_experts(sl__store *store, uint32_t layer, uint32_t expert_count,
                                 const uint32_t rows[SL_PART_COUNT],
                                 const uint32_t cols[SL_PART_COUNT],
                                 const sl__expert_piece *pieces, sl_error *err)
{
    if (store->is_pack) return check_bound(store, layer, expert_count, rows, cols, err);
    char where[512];
    snprintf(where, sizeof where, "%.400s: layer %u", store->path, layer);
    if (expert_count == 0) return SL_FAIL(err, SL_EINVAL, "%s: no experts", where);
    sl__dtype dtype[SL_PART_COUNT];
    for (int p = 0; p < SL_PART_COUNT; p++) {
        dtype[p] = pieces[p].tensor->dtype;
        /* Before the layout is made, so that the message names the tensor. */
        SL_TRY(check_piece(store, &pieces[p], dtype[p], rows[p], cols[p], err));
    }
    sl__expert_layout layout;
    SL_TRY(sl__expert_layout_init(&layout, expert_count, dtype, rows, cols, where, err));
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

uint32_t sl__store_expert_extents(const sl__store *store, uint32_t layer, uint32_t expert,
                                  sl__extent out[SL_EXPERT_EXTENTS_MAX])
{
    const sl__store_layer *l = bound(store, layer);
    if (!l || expert >= l->layout.expert_count) return 0;
    if (store->is_pack) {
        out[0] = (sl__extent){
            .file = l->file, .offset = expert * l->stride, .bytes = l->layout.record_bytes};
        return 1;
    }
    uint32_t count = 0;
    for (uint32_t p = 0; p < SL_PART_COUNT; p++) {
        const sl__matrix_layout *part = &l->layout.part[p];
        const sl__expert_piece *piece = &l->pieces[(size_t)expert * SL_PART_COUNT + p];
        const sl__extent *whole = &piece->tensor->extent;
        sl__extent x = {.file = whole->file,
                        .offset = whole->offset + piece->first_row * part->row_bytes,
                        .bytes = sl__part_bytes(part),
                        .dst = part->offset};
        if (count > 0 && adjoins(&out[count - 1], &x)) out[count - 1].bytes += x.bytes;
        else out[count++] = x;
    }
    return count;
}

sl_status sl__store_verify_record(sl__store *store, uint32_t layer, uint32_t expert,
                                  const void *record, sl_verify_rule verify, sl_error *err)
{
    const sl__store_layer *l = bound(store, layer);
    assert(l && expert < l->layout.expert_count);
    if (!l->checksums || verify == SL_VERIFY_NONE) return SL_OK;
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
    atomic_fetch_or_explicit(word, bit, memory_order_relaxed);
    return SL_OK;
}
