#include "text/guard.h"

#include <string.h>

#include "base/fail.h"
#include "text/utf8.h"

#define MARK      "\xef\xb7\x90"
#define MARK_SIZE (sizeof MARK - 1)

static bool mark_at(const char *text, size_t size)
{
    return size >= MARK_SIZE && memcmp(text, MARK, MARK_SIZE) == 0;
}

bool sl__guard_marked(const char *text, size_t size)
{
    for (size_t at = 0; at < size; at++) {
        const char *next = memchr(text + at, MARK[0], size - at);
        if (!next) return false;
        at = (size_t)(next - text);
        if (mark_at(next, size - at)) return true;
    }
    return false;
}

bool sl__guard_take_out(const char *text, size_t size, sl__buffer *out)
{
    size_t from = 0;
    for (size_t at = 0; at < size; at++) {
        if (!mark_at(text + at, size - at)) continue;
        if (!sl__buffer_append(out, text + from, at - from)) return false;
        from = at + MARK_SIZE;
        at = from - 1;
        if (!mark_at(text + from, size - from)) continue;
        at += MARK_SIZE; /* doubled: one stays, as the beginning of what follows */
    }
    return sl__buffer_append(out, text + from, size - from);
}

/* text is valid UTF-8. */
static bool guard_text(const sl_tokenizer *tok, const char *text, size_t size, sl__buffer *out)
{
    bool done = true;
    for (size_t at = 0; at < size && done;) {
        uint32_t cp;
        int step = sl__utf8_step((const unsigned char *)text + at, size - at, &cp);
        size_t n = step > 0 ? (size_t)step : 1;
        bool mark =
            mark_at(text + at, size - at) || sl__added_special_at(tok, text + at, size - at);
        done = sl__buffer_append(out, text + at, n) && (!mark || sl__buffer_append_str(out, MARK));
        at += n;
    }
    return done;
}

static sl_status guard_string(const sl_tokenizer *tok, const char *text, size_t size,
                              sl__buffer *out, sl_error *err)
{
    sl__buffer_init(out, SIZE_MAX / 2);
    if (guard_text(tok, text, size, out) && sl__buffer_append(out, "", 1)) return SL_OK;
    sl__buffer_free(out);
    return SL_FAIL_NOMEM(err, "messages");
}

static sl_status guard_array(const sl_tokenizer *tok, json_t *value, json_t *to, sl_error *err)
{
    for (size_t i = 0; i < json_array_size(value); i++) {
        json_t *item;
        SL_TRY(sl__guard_json(tok, json_array_get(value, i), &item, err));
        if (json_array_append_new(to, item) != 0) return SL_FAIL_NOMEM(err, "messages");
    }
    return SL_OK;
}

static sl_status guard_object(const sl_tokenizer *tok, json_t *value, json_t *to, sl_error *err)
{
    const char *key;
    json_t *member;
    json_object_foreach(value, key, member)
    {
        sl__buffer name;
        json_t *item;
        SL_TRY(sl__guard_json(tok, member, &item, err));
        sl_status status = guard_string(tok, key, strlen(key), &name, err);
        if (status != SL_OK) {
            json_decref(item);
            return status;
        }
        int bad = json_object_set_new(to, name.data, item);
        sl__buffer_free(&name);
        if (bad) return SL_FAIL_NOMEM(err, "messages");
    }
    return SL_OK;
}

sl_status sl__guard_json(const sl_tokenizer *tok, json_t *value, json_t **out, sl_error *err)
{
    sl_status status = SL_OK;
    sl__buffer text;
    switch (json_typeof(value)) {
    case JSON_STRING:
        *out = NULL;
        SL_TRY(guard_string(tok, json_string_value(value), json_string_length(value), &text, err));
        *out = json_stringn(text.data, text.size - 1);
        sl__buffer_free(&text);
        break;
    case JSON_ARRAY:
        *out = json_array();
        if (*out) status = guard_array(tok, value, *out, err);
        break;
    case JSON_OBJECT:
        *out = json_object();
        if (*out) status = guard_object(tok, value, *out, err);
        break;
    default:
        *out = json_incref(value);
    }
    if (!*out) return SL_FAIL_NOMEM(err, "messages");
    if (status != SL_OK) {
        json_decref(*out);
        *out = NULL;
    }
    return status;
}
