/* generation_config.json: how the model's makers sample, and at which tokens generation stops.
 *
 * Values that are there are checked even where do_sample is false and nothing uses them, and they
 * are kept then: temperature 0 alone makes it greedy, so that a caller who raises the temperature
 * gets the makers' other settings.
 */
#include <stdlib.h>

#include "base/fail.h"
#include "base/file.h"
#include "format/config.h"

#define GENERATION_BYTES_MAX ((uint64_t)16 << 20)
#define EOS_KEY "eos_token_id"
#define EOS_IDS_MAX (sizeof(((sl_generation_defaults *)0)->eos_ids) / sizeof(int32_t))
#define TOP_K_WHEN_UNSET 50u /* Hugging Face's default for sampling */

/* The sampler's own ranges, with ends where it has none. */
#define TEMPERATURE_MAX 100.0
#define TOP_P_MIN 1e-6
#define PENALTY_MIN 0.01
#define PENALTY_MAX 100.0

/* Reads root[key] where it is there; *out keeps its value otherwise. */
static sl_status read_optional(const json_t *root, const char *key, const char *path, double min,
                               double max, float *out, sl_error *err)
{
    double wide;
    if (!sl__json_has(root, key)) return SL_OK;
    SL_TRY(sl__json_f64(root, key, path, min, max, &wide, err));
    *out = (float)wide;
    return SL_OK;
}

static sl_status read_sampler(const json_t *root, const char *path, sl_sampler_options *out,
                              sl_error *err)
{
    bool sample = false;
    if (sl__json_has(root, "do_sample"))
        SL_TRY(sl__json_bool(root, "do_sample", path, &sample, err));
    out->temperature = 1.0f;
    SL_TRY(read_optional(root, "temperature", path, 0.0, TEMPERATURE_MAX, &out->temperature, err));
    SL_TRY(read_optional(root, "top_p", path, TOP_P_MIN, 1.0, &out->top_p, err));
    SL_TRY(read_optional(root, "min_p", path, 0.0, 1.0, &out->min_p, err));
    SL_TRY(read_optional(root, "repetition_penalty", path, PENALTY_MIN, PENALTY_MAX,
                         &out->repetition_penalty, err));
    if (sl__json_has(root, "top_k"))
        SL_TRY(sl__json_u32(root, "top_k", path, 0, INT32_MAX, &out->top_k, err));
    else if (sample)
        out->top_k = TOP_K_WHEN_UNSET;
    if (!sample) out->temperature = 0.0f;
    return SL_OK;
}

/* Adds one id, once. */
static sl_status add_eos(const json_t *value, const char *path, sl_generation_defaults *out,
                         sl_error *err)
{
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value))
        return SL_FAIL(err, SL_EFORMAT, "%s: " EOS_KEY ": expected token ids from 0 to %d", path,
                       INT32_MAX);
    if (id < 0 || id > INT32_MAX)
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: " EOS_KEY ": expected token ids from 0 to %d, got %lld", path,
                       INT32_MAX, (long long)id);
    for (uint32_t i = 0; i < out->eos_count; i++) {
        if (out->eos_ids[i] == (int32_t)id) return SL_OK;
    }
    if (out->eos_count == EOS_IDS_MAX)
        return SL_FAIL(err, SL_EFORMAT, "%s: " EOS_KEY ": more than %zu ids", path, EOS_IDS_MAX);
    out->eos_ids[out->eos_count++] = (int32_t)id;
    return SL_OK;
}

/* A number or an array of numbers; NULL adds nothing. */
static sl_status read_eos(const json_t *value, const char *path, sl_generation_defaults *out,
                          sl_error *err)
{
    if (!value || json_is_null(value)) return SL_OK;
    if (!json_is_array(value)) return add_eos(value, path, out, err);
    for (size_t i = 0; i < json_array_size(value); i++)
        SL_TRY(add_eos(json_array_get(value, i), path, out, err));
    return SL_OK;
}

sl_status sl__generation_config_read(const json_t *root, const char *path,
                                     const sl__config *config, sl_generation_defaults *out,
                                     sl_error *err)
{
    sl_generation_defaults read = {.sampler = {.top_p = 1.0f, .repetition_penalty = 1.0f}};
    if (root && !json_is_object(root))
        return SL_FAIL(err, SL_EFORMAT, "%s: expected an object", path);
    SL_TRY(read_sampler(root, path, &read.sampler, err));
    SL_TRY(read_eos(json_object_get(root, EOS_KEY), path, &read, err));
    if (read.eos_count == 0 && config)
        SL_TRY(read_eos(sl__config_find(config, EOS_KEY), config->path, &read, err));
    *out = read;
    return SL_OK;
}

sl_status sl__generation_config_load(const char *path, const sl__config *config,
                                     sl_generation_defaults *out, sl_error *err)
{
    json_t *root = NULL;
    if (sl__file_exists(path)) SL_TRY(sl__json_load(path, GENERATION_BYTES_MAX, &root, err));
    sl_status status = sl__generation_config_read(root, path, config, out, err);
    json_decref(root);
    return status;
}
