/* The values of a GGUF file's keys. Writers do not agree on the width and sign of integers: any is
 * taken. */
#include <inttypes.h>
#include <string.h>

#include "base/fail.h"
#include "format/gguf.h"

const sl__gguf_key *sl__gguf_find_key(const sl__gguf_set *set, const char *name)
{
    size_t low = 0, high = set->key_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(name, set->keys[middle].name);
        if (order == 0) return &set->keys[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

/* The bytes of element `index`, zero-extended; its width is the type's. */
static uint64_t load(const sl__gguf_set *set, const sl__gguf_key *key, uint64_t index,
                     unsigned width)
{
    const unsigned char *at =
        (const unsigned char *)set->header + key->offset + (size_t)index * width;
    uint64_t value = 0;
    assert(index < key->count);
    for (unsigned i = 0; i < width; i++)
        value |= (uint64_t)at[i] << (8 * i);
    return value;
}

bool sl__gguf_int_at(const sl__gguf_set *set, const sl__gguf_key *key, uint64_t index, int64_t *out)
{
    uint64_t big;
    switch (key->type) {
    case SL_GGUF_U8:
        *out = (int64_t)load(set, key, index, 1);
        return true;
    case SL_GGUF_I8:
        *out = (int8_t)load(set, key, index, 1);
        return true;
    case SL_GGUF_U16:
        *out = (int64_t)load(set, key, index, 2);
        return true;
    case SL_GGUF_I16:
        *out = (int16_t)load(set, key, index, 2);
        return true;
    case SL_GGUF_U32:
        *out = (int64_t)load(set, key, index, 4);
        return true;
    case SL_GGUF_I32:
        *out = (int32_t)load(set, key, index, 4);
        return true;
    case SL_GGUF_U64:
        big = load(set, key, index, 8);
        if (big > INT64_MAX) return false;
        *out = (int64_t)big;
        return true;
    case SL_GGUF_I64:
        *out = (int64_t)load(set, key, index, 8);
        return true;
    default:
        return false;
    }
}

bool sl__gguf_number_at(const sl__gguf_set *set, const sl__gguf_key *key, uint64_t index,
                        double *out)
{
    int64_t whole;
    if (key->type == SL_GGUF_F32) {
        uint32_t bits = (uint32_t)load(set, key, index, 4);
        float value;
        memcpy(&value, &bits, sizeof value);
        *out = (double)value;
        return true;
    }
    if (key->type == SL_GGUF_F64) {
        uint64_t bits = load(set, key, index, 8);
        memcpy(out, &bits, sizeof *out);
        return true;
    }
    if (!sl__gguf_int_at(set, key, index, &whole)) return false;
    *out = (double)whole;
    return true;
}

bool sl__gguf_bool_at(const sl__gguf_set *set, const sl__gguf_key *key, uint64_t index, bool *out)
{
    if (key->type != SL_GGUF_BOOL) return false;
    *out = load(set, key, index, 1) != 0;
    return true;
}

bool sl__gguf_string_at(const sl__gguf_set *set, const sl__gguf_key *key, uint64_t index,
                        const char **text, size_t *size)
{
    if (key->type != SL_GGUF_STRING) return false;
    assert(index < key->count);
    *text = set->header + key->strings[index].offset;
    *size = key->strings[index].size;
    return true;
}

/* ---- keys that must be there ----------------------------------------------------------------- */

static sl_status one(const sl__gguf_set *set, const char *name, const sl__gguf_key **out,
                     sl_error *err)
{
    *out = sl__gguf_find_key(set, name);
    if (*out && !(*out)->array) return SL_OK;
    return SL_FAIL(err, SL_EFORMAT, "%s: %s: %s", set->files[0].path, name,
                   *out ? "is an array" : "is missing");
}

static sl_status not_a(const sl__gguf_set *set, const char *name, const char *what, sl_error *err)
{
    return SL_FAIL(err, SL_EFORMAT, "%s: %s: is not %s", set->files[0].path, name, what);
}

sl_status sl__gguf_int(const sl__gguf_set *set, const char *name, int64_t min, int64_t max,
                       int64_t *out, sl_error *err)
{
    const sl__gguf_key *key;
    int64_t value = 0;
    SL_TRY(one(set, name, &key, err));
    if (!sl__gguf_int_at(set, key, 0, &value)) return not_a(set, name, "an integer", err);
    if (value < min || value > max) {
        return SL_FAIL(err, SL_EFORMAT,
                       "%s: %s: %" PRId64 " is not from %" PRId64 " to %" PRId64,
                       set->files[0].path, name, value, min, max);
    }
    *out = value;
    return SL_OK;
}

sl_status sl__gguf_number(const sl__gguf_set *set, const char *name, double *out, sl_error *err)
{
    const sl__gguf_key *key;
    SL_TRY(one(set, name, &key, err));
    return sl__gguf_number_at(set, key, 0, out) ? SL_OK : not_a(set, name, "a number", err);
}

sl_status sl__gguf_bool(const sl__gguf_set *set, const char *name, bool *out, sl_error *err)
{
    const sl__gguf_key *key;
    SL_TRY(one(set, name, &key, err));
    return sl__gguf_bool_at(set, key, 0, out) ? SL_OK : not_a(set, name, "a boolean", err);
}

sl_status sl__gguf_string(const sl__gguf_set *set, const char *name, const char **text,
                          size_t *size, sl_error *err)
{
    const sl__gguf_key *key;
    SL_TRY(one(set, name, &key, err));
    return sl__gguf_string_at(set, key, 0, text, size) ? SL_OK
                                                       : not_a(set, name, "a string", err);
}
