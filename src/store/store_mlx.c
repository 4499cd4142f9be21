/* MLX folders: a checkpoint as mlx-lm writes it. Which weights are quantised, to how many bits and
 * in what groups, is seen from the tensors; what config.json says about it is compared.
 *
 * What differs from the published checkpoints, besides the planes:
 *
 *     names     "language_model." before all of some models; experts as stacks under switch_mlp
 *     norms     zero-centred ones hold 1 + w; seen by the convolution, which is [channels, 4, 1]
 *               where a published one is [channels, 1, 4]
 *     gpt-oss   gate and up apart, with a bias each
 *     MLA       kv_b_proj as two tensors, [heads, rank, keys] and [heads, values, rank]
 */
#include <stdio.h>
#include <string.h>

#include "base/fail.h"
#include "store/store_names.h"

static const char *const projections[] = {"gate_proj", "up_proj", "down_proj"};

static bool is_shifted_conv(const sl__tensor *t)
{
    size_t stem;
    return t->dims == 3 && t->shape[2] == 1 && t->shape[1] > 1 &&
           sl__name_ends(t->name, ".linear_attn.conv1d.weight", &stem);
}

/* "A" + before + PROJECTION + tail becomes "A.mlp.experts.PROJECTION" + after. */
static bool rename_stack(const char *name, const char *before, const char *tail, const char *after,
                         char out[SL_NAME_MAX])
{
    for (size_t i = 0; i < sizeof projections / sizeof projections[0]; i++) {
        char end[96];
        size_t stem;
        snprintf(end, sizeof end, "%s%s%s", before, projections[i], tail);
        if (!sl__name_ends(name, end, &stem)) continue;
        snprintf(out, SL_NAME_MAX, "%.*s.mlp.experts.%s%s", (int)stem, name, projections[i], after);
        return true;
    }
    return false;
}

static bool is_stack(const char *name)
{
    char out[SL_NAME_MAX];
    return rename_stack(name, ".mlp.switch_mlp.", ".weight", "", out) ||
           rename_stack(name, ".block_sparse_moe.switch_mlp.", ".weight", "", out) ||
           rename_stack(name, ".mlp.experts.", ".weight", "", out);
}

static const sl__tensor *find_ending(const sl__store *s, const char *tail)
{
    size_t stem;
    for (size_t i = 0; i < s->tensor_count; i++) {
        if (sl__name_ends(s->tensors[i].name, tail, &stem)) return &s->tensors[i];
    }
    return NULL;
}

bool sl__mlx_is(const sl__store *store)
{
    if (json_is_object(sl__config_find(&store->config, "quantization"))) return true;
    for (size_t i = 0; i < store->tensor_count; i++) {
        if (is_stack(store->tensors[i].name) || is_shifted_conv(&store->tensors[i])) return true;
    }
    return false;
}

/* ---- names ----------------------------------------------------------------------------------- */

static bool rename_end(const char *name, const char *tail, const char *instead,
                       char out[SL_NAME_MAX])
{
    size_t stem;
    if (!sl__name_ends(name, tail, &stem)) return false;
    snprintf(out, SL_NAME_MAX, "%.*s%s", (int)stem, name, instead);
    return true;
}

bool sl__mlx_name(const sl__store *store, const char *name, char out[SL_NAME_MAX])
{
    size_t skip = strlen(SL_MLX_PREFIX);
    bool strip = store->stripped && strncmp(name, SL_MLX_PREFIX, skip) == 0;
    if (strip) name += skip;
    if (rename_stack(name, ".mlp.switch_mlp.", ".weight", "", out) ||
        rename_stack(name, ".block_sparse_moe.switch_mlp.", ".weight", "", out) ||
        rename_stack(name, ".mlp.experts.", ".weight", "", out) ||
        rename_stack(name, ".mlp.experts.", ".bias", "_bias", out) ||
        rename_end(name, ".self_attn.embed_q.weight", ".self_attn.k_b_proj.weight", out) ||
        rename_end(name, ".self_attn.unembed_out.weight", ".self_attn.v_b_proj.weight", out)) {
        return true;
    }
    snprintf(out, SL_NAME_MAX, "%s", name);
    return strip;
}

/* ---- configuration --------------------------------------------------------------------------- */

/* path: of a module; NULL: of all. */
static sl_status check_mode(const sl__store *s, const json_t *entry, const char *path,
                            sl_error *err)
{
    const json_t *mode = json_object_get(entry, "mode");
    const char *text = json_string_value(mode);
    if (!mode || (text && (strcmp(text, "affine") == 0 || strcmp(text, "mxfp4") == 0))) {
        return SL_OK;
    }
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: quantization%s%.300s: mode %.40s is not supported",
                   s->config.path, path ? "." : "", path ? path : "",
                   text ? text : "that is no string");
}

static sl_status check_modes(const sl__store *s, sl_error *err)
{
    const json_t *all = sl__config_find(&s->config, "quantization");
    const char *path;
    json_t *entry;
    SL_TRY(check_mode(s, all, NULL, err));
    json_object_foreach((json_t *)all, path, entry)
    {
        if (json_is_object(entry)) SL_TRY(check_mode(s, entry, path, err));
    }
    return SL_OK;
}

sl_status sl__mlx_take_config(sl__store *store, sl_error *err)
{
    static const char first[] = SL_MLX_PREFIX "model.embed_tokens.weight";
    store->stripped = sl__store_find(store, first) != NULL;
    for (size_t i = 0; i < store->tensor_count; i++) {
        if (!is_shifted_conv(&store->tensors[i])) continue;
        SL_TRY(sl__gguf_put_dialect(store->config.root, "shifted_norms", err));
        break;
    }
    if (find_ending(store, ".mlp.experts.gate_proj.weight"))
        SL_TRY(sl__gguf_put_dialect(store->config.root, "split_gate_up", err));
    if (find_ending(store, ".self_attn.embed_q.weight"))
        SL_TRY(sl__gguf_put_dialect(store->config.root, "split_kv_b", err));
    return check_modes(store, err);
}

static bool says(const json_t *entry, const char *key, uint64_t value)
{
    const json_t *member = json_object_get(entry, key);
    return !member || (json_is_integer(member) && json_integer_value(member) > 0 &&
                       (uint64_t)json_integer_value(member) == value);
}

sl_status sl__mlx_check_config(const sl__store *store, const sl__tensor *tensor, uint32_t bits,
                               uint64_t group, sl_error *err)
{
    const char *stored = tensor->stored ? tensor->stored : tensor->name;
    char path[SL_NAME_MAX] = "";
    size_t stem;
    if (!sl__name_ends(stored, ".weight", &stem) || stem >= sizeof path) return SL_OK;
    memcpy(path, stored, stem);
    const json_t *entry =
        json_object_get(sl__config_find(&store->config, "quantization"), path);
    if (!entry || json_is_true(entry)) return SL_OK;
    if (json_is_object(entry) && says(entry, "bits", bits) && says(entry, "group_size", group)) {
        return SL_OK;
    }
    return SL_FAIL(err, SL_EFORMAT,
                   "%s: quantization.%s says otherwise than the tensor in %s, which has %u bits in "
                   "groups of %llu", store->config.path, path,
                   sl__store_file_path(store, tensor->extent.file), bits,
                   (unsigned long long)group);
}
