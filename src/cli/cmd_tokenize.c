/* sluice tokenize: text to token ids. */
#include <inttypes.h>
#include <stdlib.h>

#include "base/fail.h"
#include "base/json.h"
#include "cli/cli.h"

/* The ids of a text, apart by `between`, into out. */
static sl_status put_ids(const sl_tokenizer *tok, const char *text, size_t size, unsigned flags,
                         const char *between, sl__buffer *out, sl_error *err)
{
    int32_t *ids;
    size_t count;
    SL_TRY(sl_tokenizer_encode(tok, text, size, flags, &ids, &count, err));
    for (size_t i = 0; i < count; i++)
        sl__buffer_printf(out, "%s%" PRId32, i ? between : "", ids[i]);
    free(ids);
    return SL_OK;
}

static sl_status put_json(const sl_tokenizer *tok, const sl__buffer *input, unsigned flags,
                          sl__buffer *out, sl_error *err)
{
    json_t *texts;
    SL_TRY(sl__json_parse(input->data, input->size, "standard input", &texts, err));
    sl_status status = SL_OK;
    if (!json_is_array(texts))
        status = SL_FAIL(err, SL_EFORMAT, "standard input: not a JSON array of strings");
    sl__buffer_append_str(out, "[");
    for (size_t i = 0; status == SL_OK && i < json_array_size(texts); i++) {
        const json_t *text = json_array_get(texts, i);
        if (!json_is_string(text)) {
            status = SL_FAIL(err, SL_EFORMAT,
                             "standard input: element %zu (counted from 0) is not a string", i);
            break;
        }
        sl__buffer_append_str(out, i ? ",[" : "[");
        status =
            put_ids(tok, json_string_value(text), json_string_length(text), flags, ",", out, err);
        sl__buffer_append_str(out, "]");
    }
    sl__buffer_append_str(out, "]");
    json_decref(texts);
    return status;
}

static sl_status tokenize(const char *model, bool json, unsigned flags, sl__buffer *out,
                          sl_error *err)
{
    sl_tokenizer *tok;
    sl__buffer input;
    SL_TRY(sl_tokenizer_open(&tok, model, err));
    sl_status status = cli_read("-", &input, err);
    if (status == SL_OK) {
        status = json ? put_json(tok, &input, flags, out, err)
                      : put_ids(tok, input.data, input.size, flags, " ", out, err);
        sl__buffer_append_str(out, "\n");
        sl__buffer_free(&input);
    }
    sl_tokenizer_close(tok);
    if (status == SL_OK && out->failed) status = SL_FAIL_NOMEM(err, "token ids");
    return status;
}

static int run_command(const cli_call *call)
{
    const char *model;
    bool json = false, no_special = false, no_bos = false;
    const cli_option options[] = {
        {0, "json", NULL, CLI_FLAG, &json, 0, 0, NULL,
         "a JSON array of strings in, one of arrays of ids out", NULL},
        {0, "no-special", NULL, CLI_FLAG, &no_special, 0, 0, NULL,
         "\"<|im_start|>\" and the like are plain text", NULL},
        {0, "no-bos", NULL, CLI_FLAG, &no_bos, 0, 0, NULL,
         "nothing is put around a text, such as a BOS", NULL},
    };
    const cli_group groups[] = {{NULL, options, 3}};
    int code;
    if (!cli_parse(call, groups, 1, &model, &code)) return code;

    sl_error err = {0};
    sl__buffer out;
    sl__buffer_init(&out, SIZE_MAX / 2);
    unsigned flags = (no_special ? 0u : SL_ENCODE_ADDED) | (no_bos ? 0u : SL_ENCODE_BOS);
    sl_status status = tokenize(model, json, flags, &out, &err);
    if (status == SL_OK) fwrite(out.data, 1, out.size, stdout);
    sl__buffer_free(&out);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_tokenize = {
    .name = "tokenize",
    .args = "MODEL [--json] [--no-special] [--no-bos]",
    .summary = "Turn text into token ids",
    .details = "Reads standard input and writes standard output. Without --json all of the input\n"
               "is one text (a last newline too), and its ids come out on one line.\n",
    .args_min = 1,
    .args_max = 1,
    .run = run_command,
};
