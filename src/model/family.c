#include "model/family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"

static bool listed(const char *const *list, const char *text)
{
    for (; *list; list++) {
        if (strcmp(*list, text) == 0) return true;
    }
    return false;
}

sl_status sl__family_find(const sl__family **out, const sl__config *config, sl_error *err)
{
    const char *type;
    SL_TRY(sl__config_str(config, "model_type", &type, err));
    for (const sl__family *const *f = sl__families; *f; f++) {
        if (listed((*f)->model_types, type)) {
            *out = *f;
            return SL_OK;
        }
    }
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: model_type %s is not supported", config->path, type);
}

bool sl__family_leaves_unread(const sl__family *family, const sl__model_desc *desc,
                              const char *name)
{
    char layers[80];
    snprintf(layers, sizeof layers, "%slayers.", desc->prefix);
    size_t size = strlen(layers);
    if (strncmp(name, layers, size) == 0) {
        return strtoul(name + size, NULL, 10) >= desc->layer_count;
    }
    for (const char *const *p = family->unread; *p; p++) {
        if (strncmp(name, *p, strlen(*p)) == 0) return true;
    }
    return false;
}

static sl_status find_prefix(sl__model_desc *desc, const sl__family *family,
                             const sl__store *store, sl_error *err)
{
    for (const char *const *p = family->prefixes; *p; p++) {
        char name[160];
        snprintf(name, sizeof name, "%sembed_tokens.weight", *p);
        if (!sl__store_find(store, name)) continue;
        snprintf(desc->prefix, sizeof desc->prefix, "%s", *p);
        return SL_OK;
    }
    /* Of an incomplete model the layers may say it, so that the rest of it can be looked at. */
    for (const char *const *p = family->prefixes; *p; p++) {
        char layers[160];
        int size = snprintf(layers, sizeof layers, "%slayers.", *p);
        for (size_t i = 0; i < sl__store_tensor_count(store); i++) {
            if (strncmp(sl__store_tensor_at(store, i)->name, layers, (size_t)size) != 0) continue;
            snprintf(desc->prefix, sizeof desc->prefix, "%s", *p);
            return SL_OK;
        }
    }
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %sembed_tokens.weight is missing",
                   sl__store_path(store), family->prefixes[0]);
}

/* Codes of which only the model knows how many make a row. */
static sl_status settle(sl__store *store, const sl__tensor_spec *specs, size_t count, sl_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (specs[i].klass == SL_CLASS_VECTOR) continue;
        SL_TRY(sl__store_settle(store, specs[i].name, specs[i].cols, err));
    }
    return SL_OK;
}

static sl_status settle_all(sl__store *store, const sl__family *family,
                            const sl__model_desc *desc, sl_error *err)
{
    sl__tensor_spec specs[SL_SPECS_MAX];
    if (sl__store_is_pack(store)) return SL_OK;
    SL_TRY(settle(store, specs, family->model_tensors(desc, specs), err));
    for (uint32_t i = 0; i < desc->layer_count + desc->mtp_layer_count; i++)
        SL_TRY(settle(store, specs, family->layer_tensors(desc, i, specs), err));
    return SL_OK;
}

sl_status sl__model_describe(sl__model_desc *desc, const sl__family **family, sl__store *store,
                             sl__arena *arena, sl_error *err)
{
    memset(desc, 0, sizeof *desc);
    const sl__config *config = sl__store_config(store);
    SL_TRY(sl__family_find(family, config, err));
    desc->family = (*family)->name;
    bool has_mtp = sl__store_find(store, "mtp.fc.weight") != NULL;
    SL_TRY((*family)->describe(desc, config, has_mtp, arena, err));
    SL_TRY(find_prefix(desc, *family, store, err));
    return settle_all(store, *family, desc, err);
}

/* Vectors are few numbers, and never have planes. */
static bool is_weight_type(const sl__tensor *tensor, sl__tensor_class klass)
{
    if (!sl__dtype_has_planes(tensor->dtype)) return tensor->dtype < SL_DTYPE_COUNT;
    return tensor->scales && klass != SL_CLASS_VECTOR;
}

static bool shape_fits(const sl__tensor *tensor, const sl__tensor_spec *spec)
{
    uint64_t count = 1;
    for (uint32_t i = 0; i < tensor->dims; i++) {
        if (!sl__mul_u64(&count, count, tensor->shape[i])) return false;
    }
    if (count != (uint64_t)spec->rows * spec->cols) return false;
    if (spec->klass == SL_CLASS_VECTOR) return true;
    return tensor->dims > 0 && tensor->shape[tensor->dims - 1] == spec->cols;
}

sl_status sl__model_find(const sl__tensor **out, const sl__store *store,
                         const sl__tensor_spec *spec, sl_error *err)
{
    const char *path = sl__store_path(store);
    const sl__tensor *tensor = sl__store_find(store, spec->name);
    char shown[SL_STORE_NAME_MAX];
    const char *name = sl__store_name_in_file(store, spec->name, shown);
    if (!tensor) return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s is missing", path, name);
    if (!is_weight_type(tensor, spec->klass)) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: type %s is not supported", path, name,
                       sl__dtype_name(tensor->dtype));
    }
    if (!shape_fits(tensor, spec)) {
        char shape[128];
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: shape %s, but the configuration asks for "
                       "[%u, %u]", path, name,
                       sl__tensor_show_shape(tensor, shape, sizeof shape), spec->rows, spec->cols);
    }
    *out = tensor;
    return SL_OK;
}

/* ---- experts --------------------------------------------------------------------------------- */

/* The experts of one layer, as they are looked for. */
struct binding {
    sl__store *store;
    sl__expert_names names; /* the family's; of fused tensors, where it has none, GGUF's */
    const sl__moe_desc *moe;
    char prefix[128];
    uint32_t rows[SL_PART_COUNT], cols[SL_PART_COUNT]; /* as the model has them */
    sl__expert_piece *pieces;                          /* [experts][SL_PART_COUNT] */
};

static void expert_name(const struct binding *b, const char *pattern, uint32_t expert,
                        char out[256])
{
    const char *number = strstr(pattern, "%u");
    if (number) {
        snprintf(out, 256, "%s%.*s%u%s", b->prefix, (int)(number - pattern), pattern, expert,
                 number + 2);
    } else {
        snprintf(out, 256, "%s%s", b->prefix, pattern);
    }
}

static sl_status missing(const struct binding *b, const char *name, sl_error *err)
{
    char shown[SL_STORE_NAME_MAX];
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s is missing", sl__store_path(b->store),
                   sl__store_name_in_file(b->store, name, shown));
}

/* cols: weights a row. */
static sl_status find_expert_tensor(const sl__tensor **out, const struct binding *b,
                                    const char *pattern, uint32_t expert, uint32_t cols,
                                    sl_error *err)
{
    char name[256];
    expert_name(b, pattern, expert, name);
    SL_TRY(sl__store_settle(b->store, name, cols, err));
    *out = sl__store_find(b->store, name);
    return *out ? SL_OK : missing(b, name, err);
}

static bool has(const struct binding *b, const char *pattern)
{
    char name[256];
    if (!pattern) return false;
    expert_name(b, pattern, 0, name);
    return sl__store_find(b->store, name) != NULL;
}

/* A fused tensor must have exactly the shape that the configuration asks for. */
static sl_status check_stack(const struct binding *b, const sl__tensor *tensor,
                             const uint32_t want[3], sl_error *err)
{
    char shape[128], name[SL_STORE_NAME_MAX];
    bool same = tensor->dims == 3;
    for (uint32_t i = 0; i < 3; i++)
        same = same && tensor->shape[i] == want[i];
    if (same) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: shape %s, but the configuration asks for "
                   "[%u, %u, %u]", sl__store_path(b->store),
                   sl__store_name_in_file(b->store, tensor->name, name),
                   sl__tensor_show_shape(tensor, shape, sizeof shape), want[0], want[1], want[2]);
}

/* Finds one fused tensor of `rows` x `cols` matrices, as a piece of expert 0. */
static sl_status find_stack(const struct binding *b, const char *name, uint32_t rows, uint32_t cols,
                            sl__expert_piece *out, sl_error *err)
{
    *out = (sl__expert_piece){.first_row = 0};
    SL_TRY(find_expert_tensor(&out->tensor, b, name, 0, cols, err));
    out->transposed = !out->tensor->scales && b->names.fused_transposed;
    const uint32_t want[] = {b->moe->experts, out->transposed ? cols : rows,
                             out->transposed ? rows : cols};
    return check_stack(b, out->tensor, want, err);
}

static sl_status fused_pieces(const struct binding *b, sl_error *err)
{
    sl__expert_piece both, down;
    uint32_t inner = b->moe->intermediate, hidden = b->cols[SL_PART_GATE];
    SL_TRY(find_stack(b, b->names.fused_gate_up, 2 * inner, hidden, &both, err));
    SL_TRY(find_stack(b, b->names.fused_down, hidden, inner, &down, err));
    if (both.transposed && !b->moe->interleaved) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: transposed, with gate and up side by "
                       "side, is not supported", sl__store_path(b->store), both.tensor->name);
    }
    uint32_t both_rows = both.transposed ? hidden : 2 * inner;
    uint32_t down_rows = down.transposed ? inner : hidden;
    for (uint32_t e = 0; e < b->moe->experts; e++) {
        sl__expert_piece *piece = b->pieces + (size_t)e * SL_PART_COUNT;
        both.first_row = (uint64_t)e * both_rows;
        down.first_row = (uint64_t)e * down_rows;
        piece[SL_PART_GATE] = both;
        piece[SL_PART_DOWN] = down;
        piece[SL_PART_UP] = both; /* not looked at where it is absent */
        piece[SL_PART_UP].first_row += inner;
    }
    return SL_OK;
}

/* One tensor a part, [experts, rows, cols], named so in every family. */
static const char *const stacks[SL_PART_COUNT] = {
    "mlp.experts.gate_proj", "mlp.experts.up_proj", "mlp.experts.down_proj"};
static const char fused_stack[] = "mlp.experts.gate_up_proj";

static bool has_stacks(const struct binding *b)
{
    return has(b, stacks[SL_PART_GATE]) || has(b, stacks[SL_PART_UP]);
}

static sl_status stacked_pieces(const struct binding *b, sl_error *err)
{
    for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
        const sl__tensor *tensor;
        const uint32_t want[] = {b->moe->experts, b->rows[part], b->cols[part]};
        SL_TRY(find_expert_tensor(&tensor, b, stacks[part], 0, b->cols[part], err));
        SL_TRY(check_stack(b, tensor, want, err));
        for (uint32_t e = 0; e < b->moe->experts; e++) {
            b->pieces[(size_t)e * SL_PART_COUNT + part] = (sl__expert_piece){
                .tensor = tensor, .first_row = (uint64_t)e * b->rows[part]};
        }
    }
    return SL_OK;
}

/* A tensor of one part of one expert holds that and no more: rows too many would be a sign of a
 * configuration that belongs to other weights. */
static sl_status check_single(const struct binding *b, const sl__tensor *tensor, uint32_t part,
                              sl_error *err)
{
    if (tensor->dims == 2 && tensor->shape[0] == b->rows[part] &&
        tensor->shape[1] == b->cols[part]) {
        return SL_OK;
    }
    char shape[128], name[SL_STORE_NAME_MAX];
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: shape %s, but the configuration asks for "
                   "[%u, %u]", sl__store_path(b->store),
                   sl__store_name_in_file(b->store, tensor->name, name),
                   sl__tensor_show_shape(tensor, shape, sizeof shape), b->rows[part],
                   b->cols[part]);
}

static sl_status single_pieces(const struct binding *b, sl_error *err)
{
    const sl__tensor *tensor;
    if (!b->names.single[SL_PART_GATE]) {
        return find_expert_tensor(&tensor, b, b->names.fused_gate_up, 0, 0, err);
    }
    for (uint32_t e = 0; e < b->moe->experts; e++) {
        for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
            if (b->rows[part] == 0) continue;
            SL_TRY(find_expert_tensor(&tensor, b, b->names.single[part], e, b->cols[part], err));
            SL_TRY(check_single(b, tensor, part, err));
            b->pieces[(size_t)e * SL_PART_COUNT + part] = (sl__expert_piece){.tensor = tensor};
        }
    }
    return SL_OK;
}

sl_status sl__model_bind_experts(sl__store *store, const sl__family *family,
                                 const sl__model_desc *desc, uint32_t layer, sl_error *err)
{
    const sl__moe_desc *moe = &desc->layers[layer].moe;
    uint32_t inner = moe->intermediate, hidden = desc->hidden;
    if (moe->experts == 0) {
        if (!sl__store_expert_layout(store, layer)) return SL_OK;
        return SL_FAIL(err, SL_EFORMAT, "%s: layer %u: holds experts, and is a dense one by the "
                       "configuration", sl__store_path(store), layer);
    }
    struct binding b = {.store = store, .names = family->experts, .moe = moe,
                        .rows = {inner, inner, hidden}, .cols = {hidden, hidden, inner}};
    if (!b.names.fused_gate_up) {
        b.names.fused_gate_up = fused_stack;
        b.names.fused_down = stacks[SL_PART_DOWN];
    }
    if (moe->interleaved) {
        b.rows[SL_PART_GATE] = 2 * inner;
        b.rows[SL_PART_UP] = b.cols[SL_PART_UP] = 0;
    }
    if (sl__store_is_pack(store)) {
        return sl__store_bind_experts(store, layer, moe->experts, b.rows, b.cols, NULL, err);
    }
    family->layer_prefix(desc, layer, b.prefix);
    b.pieces = calloc((size_t)moe->experts * SL_PART_COUNT, sizeof *b.pieces);
    if (!b.pieces) return SL_FAIL_NOMEM(err, "expert table");
    const char *fused = b.names.fused_gate_up;
    sl_status status = has(&b, fused)   ? fused_pieces(&b, err)
                       : has_stacks(&b) ? stacked_pieces(&b, err)
                                        : single_pieces(&b, err);
    if (status == SL_OK) {
        status = sl__store_bind_experts(store, layer, moe->experts, b.rows, b.cols, b.pieces, err);
    }
    free(b.pieces);
    return status;
}
