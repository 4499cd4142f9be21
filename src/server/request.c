/* Members of requests, whatever the API. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/fail.h"
#include "server/api.h"

#define STOPS_MAX      16u
#define STOP_BYTES_MAX 4096u
#define TEXT_MAX       ((size_t)256 << 20)

void api_request_free(api_request *r)
{
    json_decref(r->messages);
    json_decref(r->tools);
    json_decref(r->kwargs);
    json_decref(r->prompt);
    for (char **stop = r->stops; stop && *stop; stop++)
        free(*stop);
    free(r->stops);
    json_decref(r->schema);
    free(r->call_name);
    *r = (api_request){0};
}

json_t *api_member(const json_t *body, const char *key)
{
    json_t *value = json_object_get(body, key);
    return value && !json_is_null(value) ? value : NULL;
}

sl_status api_number(const json_t *body, const char *key, double min, double max, float *out,
                     sl_error *err)
{
    const json_t *value = api_member(body, key);
    if (!value) return SL_OK;
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number >= min && number <= max)) {
        return SL_FAIL(err, SL_EINVAL, "%s: expected a number from %g to %g", key, min, max);
    }
    *out = (float)number;
    return SL_OK;
}

sl_status api_whole(const json_t *body, const char *key, uint64_t min, uint64_t max, uint64_t *out,
                    bool *given, sl_error *err)
{
    const json_t *value = api_member(body, key);
    if (given) *given = value != NULL;
    if (!value) return SL_OK;
    double number = json_number_value(value);
    bool whole = json_is_number(value) && number == floor(number) && number >= (double)min &&
                 number <= (double)max;
    if (!whole) {
        return SL_FAIL(err, SL_EINVAL, "%s: expected a whole number from %llu to %llu", key,
                       (unsigned long long)min, (unsigned long long)max);
    }
    *out = json_is_integer(value) ? (uint64_t)json_integer_value(value) : (uint64_t)number;
    return SL_OK;
}

sl_status api_flag(const json_t *body, const char *key, bool *out, sl_error *err)
{
    const json_t *value = api_member(body, key);
    if (!value) return SL_OK;
    if (!json_is_boolean(value)) return SL_FAIL(err, SL_EINVAL, "%s: expected true or false", key);
    *out = json_is_true(value);
    return SL_OK;
}

sl_status api_string(const json_t *body, const char *key, const char **out, sl_error *err)
{
    const json_t *value = api_member(body, key);
    if (value && !json_is_string(value))
        return SL_FAIL(err, SL_EINVAL, "%s: expected a string", key);
    if (value) *out = json_string_value(value);
    return SL_OK;
}

sl_status api_refuse(const json_t *body, const char *const *keys, sl_error *err)
{
    for (; *keys; keys++) {
        const json_t *value = api_member(body, *keys);
        bool empty = !value || json_is_false(value) ||
                     (json_is_array(value) && json_array_size(value) == 0) ||
                     (json_is_object(value) && json_object_size(value) == 0) ||
                     (json_is_string(value) && json_string_length(value) == 0);
        if (!empty) return SL_FAIL(err, SL_EINVAL, "%s: is not supported", *keys);
    }
    return SL_OK;
}

sl_status api_kwarg(api_request *r, const char *name, json_t *value, sl_error *err)
{
    if (!r->kwargs) r->kwargs = json_object();
    return json_object_set_new(r->kwargs, name, value) == 0 ? SL_OK : SL_FAIL_NOMEM(err, name);
}

json_t *api_line(const char *line)
{
    json_t *value = json_string(line);
    char *copy = value ? NULL : strdup(line);
    if (value || !copy) return value;
    for (char *c = copy; *c; c++) {
        if (*c & 0x80) *c = '?';
    }
    value = json_string(copy);
    free(copy);
    return value;
}

static sl_status add_stop(api_request *r, const json_t *value, const char *key, sl_error *err)
{
    if (!json_is_string(value) || json_string_length(value) == 0 ||
        strlen(json_string_value(value)) != json_string_length(value)) {
        return SL_FAIL(err, SL_EINVAL, "%s: expected text, or an array of texts, none empty", key);
    }
    if (json_string_length(value) > STOP_BYTES_MAX) {
        return SL_FAIL(err, SL_EINVAL, "%s: a text has %zu bytes; at most %u", key,
                       json_string_length(value), STOP_BYTES_MAX);
    }
    char *text = strdup(json_string_value(value));
    if (!text) return SL_FAIL_NOMEM(err, key);
    r->stops[r->options.stop_count++] = text;
    return SL_OK;
}

sl_status api_stops(const json_t *body, const char *key, api_request *r, sl_error *err)
{
    const json_t *value = api_member(body, key);
    if (!value) return SL_OK;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    if (count > STOPS_MAX) {
        return SL_FAIL(err, SL_EINVAL, "%s: %zu texts; at most %u", key, count, STOPS_MAX);
    }
    r->stops = calloc(count + 1, sizeof *r->stops);
    if (!r->stops) return SL_FAIL_NOMEM(err, key);
    if (!json_is_array(value)) return add_stop(r, value, key, err);
    for (size_t i = 0; i < count; i++)
        SL_TRY(add_stop(r, json_array_get(value, i), key, err));
    return SL_OK;
}

/* Any whole number; the same one gives the same answer. Without one, answers differ. */
static sl_status parse_seed(const json_t *body, uint64_t *out, sl_error *err)
{
    const json_t *value = api_member(body, "seed");
    if (value && !json_is_integer(value))
        return SL_FAIL(err, SL_EINVAL, "seed: expected a whole number");
    if (value) {
        *out = (uint64_t)json_integer_value(value);
    } else if (getentropy(out, sizeof *out) != 0) {
        return SL_FAIL(err, SL_EIO, "the system has no random numbers");
    }
    return SL_OK;
}

sl_status api_sampling(const json_t *body, sl_sampler_options *out, sl_error *err)
{
    uint64_t top_k = out->top_k;
    SL_TRY(api_number(body, "temperature", 0, 100, &out->temperature, err));
    SL_TRY(api_number(body, "top_p", 0, 1, &out->top_p, err));
    SL_TRY(api_number(body, "min_p", 0, 1, &out->min_p, err));
    SL_TRY(api_number(body, "presence_penalty", -100, 100, &out->presence_penalty, err));
    SL_TRY(api_number(body, "frequency_penalty", -100, 100, &out->frequency_penalty, err));
    SL_TRY(api_number(body, "repetition_penalty", 0.01, 100, &out->repetition_penalty, err));
    SL_TRY(api_whole(body, "top_k", 0, UINT32_MAX, &top_k, NULL, err));
    SL_TRY(parse_seed(body, &out->seed, err));
    out->top_k = (uint32_t)top_k;
    if (out->top_p == 0) { /* the fewest tokens that there are: one */
        out->top_p = 1;
        out->top_k = 1;
    }
    return SL_OK;
}

/* Appends what one part of a content says: {"type": "text", "text": …}, or a "refusal" likewise. */
static sl_status add_part(sl__buffer *text, const json_t *part, const char *where, size_t index,
                          sl_error *err)
{
    const json_t *type = json_object_get(part, "type");
    if (!json_is_string(type)) {
        return SL_FAIL(err, SL_EINVAL, "%s[%zu].type: expected a string", where, index);
    }
    const char *key = json_string_value(type);
    const json_t *said = json_object_get(part, key);
    if (strcmp(key, "text") != 0 && strcmp(key, "refusal") != 0) {
        return SL_FAIL(err, SL_EINVAL,
                       "%s[%zu]: parts of type %.40s are not supported: this model "
                       "reads text",
                       where, index, key);
    }
    if (!json_is_string(said)) {
        return SL_FAIL(err, SL_EINVAL, "%s[%zu].%s: expected a string", where, index, key);
    }
    if (!sl__buffer_append(text, json_string_value(said), json_string_length(said))) {
        return SL_FAIL_NOMEM(err, where);
    }
    return SL_OK;
}

sl_status api_text(const json_t *content, const char *where, json_t **out, sl_error *err)
{
    sl__buffer text;
    sl_status status = SL_OK;
    *out = NULL;
    if (!content || json_is_null(content) || json_is_string(content)) {
        const char *said = content ? json_string_value(content) : NULL;
        *out = said ? json_stringn(said, json_string_length(content)) : json_string("");
        return *out ? SL_OK : SL_FAIL_NOMEM(err, where);
    }
    if (!json_is_array(content)) {
        return SL_FAIL(err, SL_EINVAL, "%s: expected text, or an array of parts", where);
    }
    sl__buffer_init(&text, TEXT_MAX);
    for (size_t i = 0; i < json_array_size(content) && status == SL_OK; i++)
        status = add_part(&text, json_array_get(content, i), where, i, err);
    if (status == SL_OK) *out = json_stringn(text.data ? text.data : "", text.size);
    if (status == SL_OK && !*out) status = SL_FAIL_NOMEM(err, where);
    sl__buffer_free(&text);
    return status;
}
