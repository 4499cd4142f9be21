/* config.json, flat or with the text model's part nested:
 *
 *     {"model_type": …, "text_config": {"num_experts": 512, "rope_theta": …}, "eos_token_id": …}
 *      └─ looked at second ─────────────┴─ looked at first ────────────────┘
 *
 * A dotted key is one path: all of it is looked for below text_config, then all of it at the top.
 */
#include "format/config.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/fail.h"

/* Per-module quantisation lists make some configurations large, but never this large. */
#define CONFIG_BYTES_MAX ((uint64_t)64 << 20)
#define KEY_MAX 128u

/* Where a key was found: leaf inside object. Where it is nowhere, object is NULL, leaf the key. */
typedef struct place {
    const json_t *object;
    const char *leaf;
    char within[sizeof(((sl__config *)0)->path) + KEY_MAX + 2]; /* "PATH: a", for the message */
} place;

sl_status sl__config_take(sl__config *out, json_t *root, const char *path, sl_error *err)
{
    *out = (sl__config){0};
    if (!json_is_object(root)) {
        json_decref(root);
        return SL_FAIL(err, SL_EFORMAT, "%s: expected an object", path);
    }
    /* A path that does not fit is cut: it serves messages only. */
    int n = snprintf(out->path, sizeof out->path, "%s", path);
    if (n < 0) out->path[0] = '\0';
    const json_t *text = json_object_get(root, "text_config");
    out->text = json_is_object(text) ? text : NULL;
    out->root = root;
    return SL_OK;
}

sl_status sl__config_load(sl__config *out, const char *path, sl_error *err)
{
    json_t *root;
    *out = (sl__config){0};
    SL_TRY(sl__json_load(path, CONFIG_BYTES_MAX, &root, err));
    return sl__config_take(out, root, path, err);
}

sl_status sl__config_parse(sl__config *out, const char *text, size_t size, const char *path,
                           sl_error *err)
{
    json_t *root;
    *out = (sl__config){0};
    SL_TRY(sl__json_parse(text, size, path, &root, err));
    return sl__config_take(out, root, path, err);
}

void sl__config_free(sl__config *config)
{
    json_decref(config->root);
    *config = (sl__config){0};
}

/* The object that key's last part is looked for in, and that part; NULL where there is
 * none. *stop receives the length of the part of key that names something which is not an object,
 * else 0. */
static const json_t *descend(const json_t *from, const char *key, const char **leaf, size_t *stop)
{
    const char *part = key;
    *stop = 0;
    for (const char *dot; (dot = strchr(part, '.')); part = dot + 1) {
        char name[KEY_MAX];
        size_t size = (size_t)(dot - part);
        assert(size < sizeof name);
        memcpy(name, part, size);
        name[size] = '\0';
        if (!sl__json_has(from, name)) return NULL;
        from = json_object_get(from, name);
        if (!json_is_object(from)) {
            *stop = (size_t)(dot - key);
            return NULL;
        }
    }
    *leaf = part;
    return from;
}

const json_t *sl__config_find(const sl__config *config, const char *key)
{
    const json_t *roots[] = {config->text, config->root};
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        const char *leaf;
        size_t stop;
        const json_t *object = descend(roots[i], key, &leaf, &stop);
        if (object && sl__json_has(object, leaf)) return json_object_get(object, leaf);
    }
    return NULL;
}

/* As sl__config_find, for a value whose absence or kind will be told. */
static sl_status locate(const sl__config *config, const char *key, place *out, sl_error *err)
{
    const json_t *roots[] = {config->text, config->root};
    for (size_t i = 0; i < sizeof roots / sizeof roots[0]; i++) {
        size_t stop;
        const json_t *object = descend(roots[i], key, &out->leaf, &stop);
        if (stop)
            return SL_FAIL(err, SL_EFORMAT, "%s: %.*s: expected an object", config->path,
                           (int)stop, key);
        if (!object || !sl__json_has(object, out->leaf)) continue;
        out->object = object;
        int outer = (int)(out->leaf - key); /* with the dot */
        if (outer > 0)
            snprintf(out->within, sizeof out->within, "%s: %.*s", config->path, outer - 1, key);
        else
            snprintf(out->within, sizeof out->within, "%s", config->path);
        return SL_OK;
    }
    /* Nowhere: the message gives the whole key. */
    out->object = NULL;
    out->leaf = key;
    snprintf(out->within, sizeof out->within, "%s", config->path);
    return SL_OK;
}

sl_status sl__config_u32(const sl__config *config, const char *key, uint32_t min, uint32_t max,
                         uint32_t *out, sl_error *err)
{
    place at;
    SL_TRY(locate(config, key, &at, err));
    return sl__json_u32(at.object, at.leaf, at.within, min, max, out, err);
}

/* Rounding to float keeps the order, so the result is within [min, max] too. */
static sl_status read_f32(const place *at, float min, float max, float *out, sl_error *err)
{
    double wide;
    SL_TRY(sl__json_f64(at->object, at->leaf, at->within, (double)min, (double)max, &wide, err));
    *out = (float)wide;
    return SL_OK;
}

sl_status sl__config_f32(const sl__config *config, const char *key, float min, float max,
                         float *out, sl_error *err)
{
    place at;
    SL_TRY(locate(config, key, &at, err));
    return read_f32(&at, min, max, out, err);
}

sl_status sl__config_str(const sl__config *config, const char *key, const char **out, sl_error *err)
{
    place at;
    SL_TRY(locate(config, key, &at, err));
    return sl__json_str(at.object, at.leaf, at.within, out, err);
}

sl_status sl__config_u32_or(const sl__config *config, const char *key, uint32_t min, uint32_t max,
                            uint32_t fallback, uint32_t *out, sl_error *err)
{
    place at;
    SL_TRY(locate(config, key, &at, err));
    if (at.object) return sl__json_u32(at.object, at.leaf, at.within, min, max, out, err);
    *out = fallback;
    return SL_OK;
}

sl_status sl__config_f32_or(const sl__config *config, const char *key, float min, float max,
                            float fallback, float *out, sl_error *err)
{
    place at;
    SL_TRY(locate(config, key, &at, err));
    if (at.object) return read_f32(&at, min, max, out, err);
    *out = fallback;
    return SL_OK;
}

sl_status sl__config_bool_or(const sl__config *config, const char *key, bool fallback, bool *out,
                             sl_error *err)
{
    place at;
    SL_TRY(locate(config, key, &at, err));
    if (at.object) return sl__json_bool(at.object, at.leaf, at.within, out, err);
    *out = fallback;
    return SL_OK;
}
