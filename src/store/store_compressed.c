/* compressed-tensors, of which two formats are read; the others under the same name are told apart
 * here.
 *
 *     pack-quantized    integers of 4 or 8 bits, 32 bits to a word, with a scale for each group of
 *                       a row or for the row, and no zero points
 *     float-quantized   floats of 8 bits (E4M3), with a scale for the row or for 128 x 128
 *     mixed-precision   each group of modules says its own
 */
#include <string.h>

#include "base/fail.h"
#include "store/store_names.h"

static sl_status refuse(const sl__store *s, const char *where, const char *key, const char *value,
                        sl_error *err)
{
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: quantization_config%s%.100s: %s %.60s is not "
                   "supported", s->config.path, where[0] ? ".config_groups." : "", where, key,
                   value);
}

static sl_status check_text(const sl__store *s, const json_t *obj, const char *where,
                            const char *key, const char *const *allowed, sl_error *err)
{
    const json_t *value = json_object_get(obj, key);
    const char *text = json_string_value(value);
    if (!value || json_is_null(value)) return SL_OK;
    for (; text && *allowed; allowed++) {
        if (strcmp(text, *allowed) == 0) return SL_OK;
    }
    return refuse(s, where, key, text ? text : "that is no string", err);
}

static const char *const formats[] = {"pack-quantized", "float-quantized", "dense", NULL};

static bool holds_floats(const json_t *group, const json_t *config)
{
    const char *format = json_string_value(json_object_get(group, "format"));
    if (!format) format = json_string_value(json_object_get(config, "format"));
    return format && strcmp(format, "float-quantized") == 0;
}

static bool is_side(const json_t *structure, size_t i)
{
    return json_integer_value(json_array_get(structure, i)) == 128;
}

static sl_status check_bits(const sl__store *s, const json_t *weights, const char *where,
                            bool floats, sl_error *err)
{
    const json_t *bits = json_object_get(weights, "num_bits");
    const json_t *blocks = json_object_get(weights, "block_structure");
    long long n = bits ? (long long)json_integer_value(bits) : 8;
    if (n != 8 && (n != 4 || floats)) {
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: quantization_config.config_groups.%.100s: "
                       "num_bits %lld is %s", s->config.path, where, n,
                       floats ? "not 8" : "neither 4 nor 8");
    }
    if (!blocks || json_is_null(blocks) || (is_side(blocks, 0) && is_side(blocks, 1))) {
        return SL_OK;
    }
    return refuse(s, where, "block_structure", "that is not [128, 128]", err);
}

static sl_status check_group(const sl__store *s, const json_t *config, const json_t *group,
                             const char *where, sl_error *err)
{
    static const char *const types[][2] = {{"int", NULL}, {"float", NULL}};
    static const char *const strategies[][3] = {{"group", "channel", NULL},
                                                {"block", "channel", NULL}};
    const json_t *weights = json_object_get(group, "weights");
    bool floats = holds_floats(group, config);
    SL_TRY(check_text(s, group, where, "format", formats, err));
    if (!json_is_object(weights)) return SL_OK;
    SL_TRY(check_text(s, weights, where, "type", types[floats], err));
    SL_TRY(check_text(s, weights, where, "strategy", strategies[floats], err));
    if (json_is_false(json_object_get(weights, "symmetric"))) {
        return refuse(s, where, "symmetric", "false", err);
    }
    return check_bits(s, weights, where, floats, err);
}

/* Zeros that are left out, which names of tensors would only show as missing weights. */
static sl_status check_sparsity(const sl__store *s, const json_t *config, sl_error *err)
{
    const json_t *format = json_object_get(json_object_get(config, "sparsity_config"), "format");
    const char *text = json_string_value(format);
    if (!format || json_is_null(format) || (text && strcmp(text, "dense") == 0)) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: quantization_config.sparsity_config: format %.60s is "
                   "not supported", s->config.path, text ? text : "that is no string");
}

/* Weights that were turned: where activations are to be turned as well, the model is not what its
 * weights alone say. */
static sl_status check_turns(const sl__store *s, const char *name, const json_t *turns,
                             sl_error *err)
{
    size_t i;
    const json_t *turn;
    json_array_foreach(turns, i, turn)
    {
        const char *at = json_string_value(json_object_get(turn, "location"));
        if (at && strncmp(at, "weight_", sizeof "weight_" - 1) == 0) continue;
        return SL_FAIL(err, SL_EUNSUPPORTED, "%s: quantization_config.transform_config."
                       "config_groups.%.100s: location %.60s is not supported", s->config.path,
                       name, at ? at : "that is no string");
    }
    return SL_OK;
}

static sl_status check_transforms(const sl__store *s, const json_t *config, sl_error *err)
{
    const json_t *transforms = json_object_get(config, "transform_config");
    const char *name;
    json_t *group;
    json_object_foreach(json_object_get(transforms, "config_groups"), name, group)
    {
        SL_TRY(check_turns(s, name, json_object_get(group, "apply"), err));
    }
    return SL_OK;
}

/* An order of columns is there for some: −1 all over stands for none. */
static sl_status check_order(const sl__store *s, const sl__tensor *t, sl_error *err)
{
    int32_t first = 0;
    const char *path = sl__store_file_path(s, t->extent.file);
    if (t->dtype == SL_I32 && t->extent.bytes >= sizeof first) {
        SL_TRY(sl__file_pread_all(sl__store_fd(s, t->extent.file), path, &first, sizeof first,
                                  t->extent.offset, err));
    }
    if (first == -1) return SL_OK;
    return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: columns in another order are not "
                   "supported", path, t->name);
}

static sl_status check_tensors(const sl__store *s, sl_error *err)
{
    static const char *const refused[] = {".weight_zero_point", ".weight_global_scale"};
    size_t stem;
    for (size_t i = 0; i < s->tensor_count; i++) {
        const sl__tensor *t = &s->tensors[i];
        if (sl__name_ends(t->name, ".weight_g_idx", &stem)) SL_TRY(check_order(s, t, err));
        for (size_t k = 0; k < sizeof refused / sizeof refused[0]; k++) {
            if (!sl__name_ends(t->name, refused[k], &stem)) continue;
            return SL_FAIL(err, SL_EUNSUPPORTED, "%s: tensor %s: its kind of quantisation is not "
                           "supported", sl__store_file_path(s, t->extent.file), t->name);
        }
    }
    return SL_OK;
}

sl_status sl__compressed_check(const sl__store *store, sl_error *err)
{
    const json_t *config = sl__config_find(&store->config, "quantization_config");
    static const char *const all[] = {"pack-quantized", "float-quantized", "mixed-precision",
                                      "dense", NULL};
    const char *name;
    json_t *group;
    SL_TRY(check_text(store, config, "", "format", all, err));
    json_object_foreach(json_object_get(config, "config_groups"), name, group)
    {
        SL_TRY(check_group(store, config, group, name, err));
    }
    SL_TRY(check_sparsity(store, config, err));
    SL_TRY(check_transforms(store, config, err));
    return check_tensors(store, err);
}
