#include "model/family.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/fail.h"

const sl__family *const sl__families[] = {&sl__family_qwen3_5_moe, NULL};

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

bool sl__family_leaves_unread(const sl__family *family, const char *name)
{
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
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %sembed_tokens.weight is missing",
                   sl__store_path(store), family->prefixes[0]);
}

sl_status sl__model_describe(sl__model_desc *desc, const sl__family **family,
                             const sl__store *store, sl__arena *arena, sl_error *err)
{
    memset(desc, 0, sizeof *desc);
    const sl__config *config = sl__store_config(store);
    SL_TRY(sl__family_find(family, config, err));
    desc->family = (*family)->name;
    bool has_mtp = sl__store_find(store, "mtp.fc.weight") != NULL;
    SL_TRY((*family)->describe(desc, config, has_mtp, arena, err));
    return find_prefix(desc, *family, store, err);
}

static bool is_weight_type(sl__dtype type) { return type < SL_DTYPE_COUNT; }

/* "[2, 3]" of a tensor, for messages. */
static const char *show_shape(const sl__tensor *tensor, char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "[");
    for (uint32_t i = 0; i < tensor->dims && n < size; i++) {
        n += (size_t)snprintf(out + n, size - n, "%s%llu", i ? ", " : "",
                              (unsigned long long)tensor->shape[i]);
    }
    if (n < size) snprintf(out + n, size - n, "]");
    return out;
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
    if (!tensor) return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s is missing", path, spec->name);
    if (!is_weight_type(tensor->dtype)) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: type %s is not supported", path,
                       spec->name, sl__dtype_name(tensor->dtype));
    }
    if (!shape_fits(tensor, spec)) {
        char shape[128];
        return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: shape %s, but the configuration asks for "
                       "[%u, %u]", path, spec->name, show_shape(tensor, shape, sizeof shape),
                       spec->rows, spec->cols);
    }
    *out = tensor;
    return SL_OK;
}

/* ---- experts --------------------------------------------------------------------------------- */

static sl_status find_expert_tensor(const sl__tensor **out, const sl__store *store,
                                    const char *prefix, const char *pattern, uint32_t expert,
                                    sl_error *err)
{
    char name[256];
    const char *number = strstr(pattern, "%u");
    if (number) {
        snprintf(name, sizeof name, "%s%.*s%u%s", prefix, (int)(number - pattern), pattern, expert,
                 number + 2);
    } else {
        snprintf(name, sizeof name, "%s%s", prefix, pattern);
    }
    *out = sl__store_find(store, name);
    if (*out) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s is missing", sl__store_path(store), name);
}

/* A fused tensor must hold exactly `experts` stacks of `rows` rows. */
static sl_status check_stack(const sl__store *store, const sl__tensor *tensor, uint32_t experts,
                             uint32_t rows, uint32_t cols, sl_error *err)
{
    if (tensor->dims == 3 && tensor->shape[0] == experts && tensor->shape[1] == rows &&
        tensor->shape[2] == cols) {
        return SL_OK;
    }
    char shape[128];
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: shape %s, but the configuration asks for "
                   "[%u, %u, %u]", sl__store_path(store), tensor->name,
                   show_shape(tensor, shape, sizeof shape), experts, rows, cols);
}

static sl_status fused_pieces(sl__expert_piece *pieces, const sl__store *store,
                              const sl__expert_names *names, const char *prefix,
                              const sl__moe_desc *moe, uint32_t hidden, sl_error *err)
{
    const sl__tensor *gate_up, *down;
    uint32_t inner = moe->intermediate;
    SL_TRY(find_expert_tensor(&gate_up, store, prefix, names->fused_gate_up, 0, err));
    SL_TRY(find_expert_tensor(&down, store, prefix, names->fused_down, 0, err));
    SL_TRY(check_stack(store, gate_up, moe->experts, 2 * inner, hidden, err));
    SL_TRY(check_stack(store, down, moe->experts, hidden, inner, err));
    for (uint32_t e = 0; e < moe->experts; e++) {
        sl__expert_piece *piece = pieces + (size_t)e * SL_PART_COUNT;
        piece[SL_PART_GATE] = (sl__expert_piece){gate_up, (uint64_t)e * 2 * inner};
        piece[SL_PART_UP] = (sl__expert_piece){gate_up, (uint64_t)e * 2 * inner + inner};
        piece[SL_PART_DOWN] = (sl__expert_piece){down, (uint64_t)e * hidden};
    }
    return SL_OK;
}

/* A tensor of one part of one expert holds that and no more: rows too many would be a sign of a
 * configuration that belongs to other weights. */
static sl_status check_single(const sl__store *store, const sl__tensor *tensor, uint32_t rows,
                              uint32_t cols, sl_error *err)
{
    if (tensor->dims == 2 && tensor->shape[0] == rows && tensor->shape[1] == cols) return SL_OK;
    char shape[128];
    return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s: shape %s, but the configuration asks for "
                   "[%u, %u]", sl__store_path(store), tensor->name,
                   show_shape(tensor, shape, sizeof shape), rows, cols);
}

static sl_status single_pieces(sl__expert_piece *pieces, const sl__store *store,
                               const sl__expert_names *names, const char *prefix,
                               const sl__moe_desc *moe, uint32_t hidden, sl_error *err)
{
    const uint32_t rows[SL_PART_COUNT] = {moe->intermediate, moe->intermediate, hidden};
    const uint32_t cols[SL_PART_COUNT] = {hidden, hidden, moe->intermediate};
    for (uint32_t e = 0; e < moe->experts; e++) {
        for (uint32_t part = 0; part < SL_PART_COUNT; part++) {
            const sl__tensor *tensor;
            SL_TRY(find_expert_tensor(&tensor, store, prefix, names->single[part], e, err));
            SL_TRY(check_single(store, tensor, rows[part], cols[part], err));
            pieces[(size_t)e * SL_PART_COUNT + part] = (sl__expert_piece){tensor, 0};
        }
    }
    return SL_OK;
}

sl_status sl__model_bind_experts(sl__store *store, const sl__family *family,
                                 const sl__model_desc *desc, uint32_t layer, sl_error *err)
{
    const sl__moe_desc *moe = &desc->layers[layer].moe;
    const uint32_t rows[SL_PART_COUNT] = {moe->intermediate, moe->intermediate, desc->hidden};
    const uint32_t cols[SL_PART_COUNT] = {desc->hidden, desc->hidden, moe->intermediate};
    if (sl__store_is_pack(store)) {
        return sl__store_bind_experts(store, layer, moe->experts, rows, cols, NULL, err);
    }
    char prefix[128], fused[256] = "";
    family->layer_prefix(desc, layer, prefix);
    const sl__expert_names *names = &family->experts;
    if (names->fused_gate_up) snprintf(fused, sizeof fused, "%s%s", prefix, names->fused_gate_up);
    sl__expert_piece *pieces = calloc((size_t)moe->experts * SL_PART_COUNT, sizeof *pieces);
    if (!pieces) return SL_FAIL_NOMEM(err, "expert table");
    sl_status status = fused[0] && sl__store_find(store, fused)
                           ? fused_pieces(pieces, store, names, prefix, moe, desc->hidden, err)
                           : single_pieces(pieces, store, names, prefix, moe, desc->hidden, err);
    if (status == SL_OK) {
        status = sl__store_bind_experts(store, layer, moe->experts, rows, cols, pieces, err);
    }
    free(pieces);
    return status;
}
