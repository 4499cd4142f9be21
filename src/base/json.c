#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"

sl_status sl__json_parse(const char *text, size_t size, const char *path, json_t **out,
                         sl_error *err)
{
    json_error_t where;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &where);
    if (!root) {
        /* Out of memory before it began to read, the library leaves the text empty. */
        if (json_error_code(&where) == json_error_out_of_memory || where.text[0] == '\0') {
            return SL_FAIL_NOMEM(err, path);
        }
        return SL_FAIL(err, SL_EFORMAT, "%s: line %d, column %d: %s", path, where.line,
                       where.column, where.text);
    }
    *out = root;
    return SL_OK;
}

sl_status sl__json_load(const char *path, uint64_t max_bytes, json_t **out, sl_error *err)
{
    char *text;
    size_t size;
    SL_TRY(sl__file_read(path, max_bytes, &text, &size, err));
    sl_status status = sl__json_parse(text, size, path, out, err);
    free(text);
    return status;
}

bool sl__json_has(const json_t *obj, const char *key)
{
    const json_t *value = json_object_get(obj, key);
    return value && !json_is_null(value);
}

/* A value in a message, short. */
static const char *show(const json_t *value, char *out, size_t size)
{
    if (!value) return "nothing";
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII);
    if (!text) return "something else";
    if (strlen(text) >= size) {
        memcpy(out, text, size - 4);
        memcpy(out + size - 4, "...", 4);
    } else {
        memcpy(out, text, strlen(text) + 1);
    }
    free(text);
    return out;
}

/* A whole number, also where it is written as a real. */
static bool whole_number(const json_t *value, json_int_t *out)
{
    if (json_is_integer(value)) {
        *out = json_integer_value(value);
        return true;
    }
    if (!json_is_real(value)) return false;
    double d = json_real_value(value);
    if (!(d >= -9007199254740992.0 && d <= 9007199254740992.0) || d != floor(d)) return false;
    *out = (json_int_t)d;
    return true;
}

sl_status sl__json_u64(const json_t *obj, const char *key, const char *path, uint64_t min,
                       uint64_t max, uint64_t *out, sl_error *err)
{
    const json_t *value = json_object_get(obj, key);
    json_int_t number;
    char text[48];
    if (!whole_number(value, &number) || number < 0 || (uint64_t)number < min ||
        (uint64_t)number > max) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: expected a whole number from %llu to %llu, got %s",
                       path, key, (unsigned long long)min, (unsigned long long)max,
                       show(value, text, sizeof text));
    }
    *out = (uint64_t)number;
    return SL_OK;
}

sl_status sl__json_u32(const json_t *obj, const char *key, const char *path, uint32_t min,
                       uint32_t max, uint32_t *out, sl_error *err)
{
    uint64_t wide;
    SL_TRY(sl__json_u64(obj, key, path, min, max, &wide, err));
    *out = (uint32_t)wide;
    return SL_OK;
}

sl_status sl__json_f64(const json_t *obj, const char *key, const char *path, double min, double max,
                       double *out, sl_error *err)
{
    const json_t *value = json_object_get(obj, key);
    char text[48];
    double number = json_is_number(value) ? json_number_value(value) : NAN;
    if (!(number >= min && number <= max)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: expected a number from %g to %g, got %s", path,
                       key, min, max, show(value, text, sizeof text));
    }
    *out = number;
    return SL_OK;
}

sl_status sl__json_bool(const json_t *obj, const char *key, const char *path, bool *out,
                        sl_error *err)
{
    const json_t *value = json_object_get(obj, key);
    char text[48];
    if (!json_is_boolean(value)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: expected true or false, got %s", path, key,
                       show(value, text, sizeof text));
    }
    *out = json_is_true(value);
    return SL_OK;
}

sl_status sl__json_str(const json_t *obj, const char *key, const char *path, const char **out,
                       sl_error *err)
{
    const json_t *value = json_object_get(obj, key);
    char text[48];
    if (!json_is_string(value) ||
        strlen(json_string_value(value)) != json_string_length(value)) {
        return SL_FAIL(err, SL_EFORMAT, "%s: %s: expected a string, got %s", path, key,
                       show(value, text, sizeof text));
    }
    *out = json_string_value(value);
    return SL_OK;
}
