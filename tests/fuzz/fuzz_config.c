/* A configuration: parsed, asked for values of every kind, and then read as the generation
 * configuration that lies beside it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "format/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int truth)
{
    if (!truth) abort();
}

/* A failure is told, and begins with the file. */
static bool succeeded(sl_status status, sl_error *err)
{
    require(err->status == status);
    require(status == SL_OK || strncmp(err->message, "fuzz", 4) == 0);
    sl_error_clear(err);
    return status == SL_OK;
}

static void ask(const sl__config *c, const char *key)
{
    sl_error err = {0};
    uint32_t u = 0;
    float f = 0;
    bool b = false;
    const char *s = NULL;
    const json_t *found = sl__config_find(c, key);
    require(!found || !json_is_null(found));
    if (succeeded(sl__config_u32(c, key, 1, 65536, &u, &err), &err))
        require(found && u >= 1 && u <= 65536);
    if (succeeded(sl__config_u32_or(c, key, 0, UINT32_MAX, 7, &u, &err), &err))
        require(found || u == 7);
    if (succeeded(sl__config_f32(c, key, -1.0f, 1e7f, &f, &err), &err))
        require(found && f >= -1.0f && f <= 1e7f);
    if (succeeded(sl__config_f32_or(c, key, 0.0f, 1.0f, 0.5f, &f, &err), &err))
        require(f >= 0.0f && f <= 1.0f);
    if (succeeded(sl__config_bool_or(c, key, true, &b, &err), &err)) require(found || b);
    if (succeeded(sl__config_str(c, key, &s, &err), &err)) require(found && strlen(s) < SIZE_MAX);
}

static void check_generation(const sl_generation_defaults *d)
{
    const sl_sampler_options *o = &d->sampler;
    require(d->eos_count <= 16);
    for (uint32_t i = 0; i < d->eos_count; i++) require(d->eos_ids[i] >= 0);
    require(o->temperature >= 0.0f && o->temperature <= 100.0f);
    require(o->top_p > 0.0f && o->top_p <= 1.0f);
    require(o->min_p >= 0.0f && o->min_p <= 1.0f);
    require(o->repetition_penalty > 0.0f && o->repetition_penalty <= 100.0f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const keys[] = {
        "model_type",       "hidden_size",          "num_experts",
        "rms_norm_eps",     "tie_word_embeddings",  "rope_parameters.rope_theta",
        "layer_types",      "rope_scaling.factor",  "quantization_config.weight_block_size",
        "a.b.c",            "eos_token_id",         "",
    };
    sl__config c;
    sl_error err = {0};
    if (!succeeded(sl__config_parse(&c, (const char *)data, size, "fuzz", &err), &err)) {
        require(c.root == NULL);
        return 0;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) ask(&c, keys[i]);
    sl_generation_defaults d;
    if (succeeded(sl__generation_config_read(c.root, "fuzz", &c, &d, &err), &err))
        check_generation(&d);
    if (succeeded(sl__generation_config_read(NULL, "fuzz", &c, &d, &err), &err))
        check_generation(&d);
    sl__config_free(&c);
    return 0;
}
