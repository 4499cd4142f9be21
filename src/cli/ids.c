/* Token ids from text, in three notations: plain, lines (JSON or plain), nested JSON.
 *
 *     ids_buffer   7 12 5 | 9 | 3 3          ends_buffer   3 4 6
 */
#include <ctype.h>
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/fail.h"
#include "base/json.h"
#include "cli/cli.h"

void cli_ids_init(cli_ids *ids)
{
    memset(ids, 0, sizeof *ids);
    sl__buffer_init(&ids->ids_buffer, SIZE_MAX / 2);
    sl__buffer_init(&ids->ends_buffer, SIZE_MAX / 2);
}

void cli_ids_free(cli_ids *ids)
{
    sl__buffer_free(&ids->ids_buffer);
    sl__buffer_free(&ids->ends_buffer);
}

static sl_status add_id(cli_ids *ids, int32_t id, sl_error *err)
{
    if (!sl__buffer_append(&ids->ids_buffer, &id, sizeof id)) return SL_FAIL_NOMEM(err, "ids");
    ids->ids = (const int32_t *)(const void *)ids->ids_buffer.data;
    ids->count++;
    return SL_OK;
}

static sl_status end_line(cli_ids *ids, sl_error *err)
{
    if (!sl__buffer_append(&ids->ends_buffer, &ids->count, sizeof ids->count))
        return SL_FAIL_NOMEM(err, "ids");
    ids->ends = (const size_t *)(const void *)ids->ends_buffer.data;
    ids->lines++;
    return SL_OK;
}

/* What a message adds to the name of the input: "" or ": line 3". */
static const char *place(const cli_ids *ids, size_t line, char out[64])
{
    out[0] = '\0';
    if (ids->line_word) snprintf(out, 64, ": %s %zu", ids->line_word, line + ids->first_line);
    return out;
}

/* ---- plain ----------------------------------------------------------------------------------- */

static sl_status parse_plain(cli_ids *ids, const char *text, size_t size, sl_error *err)
{
    size_t at = 0, first = ids->count;
    for (;;) {
        while (at < size && isspace((unsigned char)text[at]))
            at++;
        if (at == size) return end_line(ids, err);
        size_t start = at;
        int64_t value = 0;
        bool good = true;
        for (; at < size && !isspace((unsigned char)text[at]); at++) {
            good = good && text[at] >= '0' && text[at] <= '9';
            if (good) value = value * 10 + (text[at] - '0');
            good = good && value <= INT32_MAX;
        }
        if (!good) {
            char where[64];
            return SL_FAIL(err, SL_EFORMAT,
                           "%s%s: position %zu (counted from 0): '%.*s' is not a token id",
                           ids->name, place(ids, ids->lines, where), ids->count - first,
                           (int)(at - start < 24 ? at - start : 24), text + start);
        }
        SL_TRY(add_id(ids, (int32_t)value, err));
    }
}

sl_status cli_ids_read_plain(cli_ids *ids, const char *path, sl_error *err)
{
    sl__buffer text;
    ids->name = cli_input_name(path);
    SL_TRY(cli_read(path, &text, err));
    sl_status status = parse_plain(ids, text.data, text.size, err);
    sl__buffer_free(&text);
    return status;
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static sl_status add_array(cli_ids *ids, const json_t *array, sl_error *err)
{
    char where[64];
    place(ids, ids->lines, where);
    if (!json_is_array(array))
        return SL_FAIL(err, SL_EFORMAT, "%s%s: not an array of token ids", ids->name, where);
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *value = json_array_get(array, i);
        json_int_t id = json_integer_value(value);
        if (!json_is_integer(value) || id < 0 || id > INT32_MAX)
            return SL_FAIL(err, SL_EFORMAT, "%s%s: position %zu (counted from 0) is no token id",
                           ids->name, where, i);
        SL_TRY(add_id(ids, (int32_t)id, err));
    }
    return end_line(ids, err);
}

/* A JSON array; or, where it begins with a digit, plain: what tokenize prints. */
static sl_status parse_line(cli_ids *ids, const char *text, size_t size, sl_error *err)
{
    json_error_t error;
    if (size > 0 && isdigit((unsigned char)text[0])) return parse_plain(ids, text, size, err);
    json_t *array = json_loadb(text, size, 0, &error);
    if (!array) {
        char where[64];
        return SL_FAIL(err, SL_EFORMAT, "%s%s, column %d: %s", ids->name,
                       place(ids, ids->lines, where), error.column, error.text);
    }
    sl_status status = add_array(ids, array, err);
    json_decref(array);
    return status;
}

sl_status cli_ids_read_lines(cli_ids *ids, const char *path, sl_error *err)
{
    sl__buffer text;
    ids->name = cli_input_name(path);
    ids->line_word = "line";
    ids->first_line = 1;
    SL_TRY(cli_read(path, &text, err));
    size_t size = text.size;
    while (size > 0 && isspace((unsigned char)text.data[size - 1]))
        size--;
    sl_status status = SL_OK;
    if (size == 0) status = SL_FAIL(err, SL_EFORMAT, "%s: no line of token ids", ids->name);
    for (size_t at = 0; status == SL_OK && at < size;) {
        const char *end = memchr(text.data + at, '\n', size - at);
        size_t length = end ? (size_t)(end - text.data) - at : size - at;
        status = parse_line(ids, text.data + at, length, err);
        at += length + 1;
    }
    sl__buffer_free(&text);
    return status;
}

sl_status cli_ids_read_nested(cli_ids *ids, const char *path, sl_error *err)
{
    sl__buffer text;
    ids->name = cli_input_name(path);
    ids->line_word = "element";
    SL_TRY(cli_read(path, &text, err));
    json_t *root = NULL;
    sl_status status = sl__json_parse(text.data, text.size, ids->name, &root, err);
    sl__buffer_free(&text);
    if (status == SL_OK && !json_is_array(root))
        status = SL_FAIL(err, SL_EFORMAT, "%s: not an array of arrays of token ids", ids->name);
    for (size_t i = 0; status == SL_OK && i < json_array_size(root); i++)
        status = add_array(ids, json_array_get(root, i), err);
    json_decref(root);
    return status;
}

/* ---- checking -------------------------------------------------------------------------------- */

sl_status cli_ids_check(const cli_ids *ids, uint32_t vocab_size, sl_error *err)
{
    size_t line = 0, start = 0;
    for (size_t i = 0; i < ids->count; i++) {
        while (i >= ids->ends[line])
            start = ids->ends[line++];
        if ((uint32_t)ids->ids[i] < vocab_size) continue;
        char where[64];
        return SL_FAIL(err, SL_EINVAL,
                       "%s%s: id %" PRId32 " at position %zu (counted from 0) is outside the "
                       "vocabulary of %" PRIu32,
                       ids->name, place(ids, line, where), ids->ids[i], i - start, vocab_size);
    }
    return SL_OK;
}
