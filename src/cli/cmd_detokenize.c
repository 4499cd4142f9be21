/* sluice detokenize: token ids to text. */
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/json.h"
#include "cli/cli.h"

static sl_status write_plain(const sl_tokenizer *tok, const cli_ids *ids, bool skip_special,
                             sl_error *err)
{
    char *text;
    size_t size;
    SL_TRY(sl_tokenizer_decode(tok, ids->ids, ids->count, skip_special, &text, &size, err));
    bool terminal = isatty(STDOUT_FILENO);
    cli_write_text(stdout, text, size, terminal);
    if (terminal && (size == 0 || text[size - 1] != '\n')) putchar('\n');
    free(text);
    return SL_OK;
}

static sl_status write_json(const sl_tokenizer *tok, const cli_ids *ids, bool skip_special,
                            sl_error *err)
{
    json_t *texts = json_array();
    sl_status status = texts ? SL_OK : SL_FAIL_NOMEM(err, "texts");
    size_t start = 0;
    for (size_t line = 0; status == SL_OK && line < ids->lines; line++) {
        char *text;
        size_t size;
        status = sl_tokenizer_decode(tok, ids->count ? ids->ids + start : NULL,
                                     ids->ends[line] - start, skip_special, &text, &size, err);
        start = ids->ends[line];
        if (status != SL_OK) break;
        if (json_array_append_new(texts, json_stringn(text, size)) != 0)
            status = SL_FAIL_NOMEM(err, "texts");
        free(text);
    }
    if (status == SL_OK) {
        json_dumpf(texts, stdout, JSON_COMPACT);
        putchar('\n');
    }
    json_decref(texts);
    return status;
}

static sl_status detokenize(const char *model, bool json, bool skip_special, cli_ids *ids,
                            sl_error *err)
{
    sl_tokenizer *tok;
    SL_TRY(sl_tokenizer_open(&tok, model, err));
    sl_status status =
        json ? cli_ids_read_nested(ids, "-", err) : cli_ids_read_plain(ids, "-", err);
    if (status == SL_OK) status = cli_ids_check(ids, sl_tokenizer_vocab_size(tok), err);
    if (status == SL_OK)
        status = json ? write_json(tok, ids, skip_special, err)
                      : write_plain(tok, ids, skip_special, err);
    sl_tokenizer_close(tok);
    return status;
}

static int run_command(const cli_call *call)
{
    const char *model;
    bool json = false, skip_special = false;
    const cli_option options[] = {
        {0, "json", NULL, CLI_FLAG, &json, 0, 0, NULL,
         "a JSON array of arrays of ids in, one of strings out", NULL},
        {0, "skip-special", NULL, CLI_FLAG, &skip_special, 0, 0, NULL,
         "leave out \"<|im_start|>\" and the like", NULL},
    };
    const cli_group groups[] = {{NULL, options, 2}};
    int code;
    if (!cli_parse(call, groups, 1, &model, &code)) return code;

    sl_error err = {0};
    cli_ids ids;
    cli_ids_init(&ids);
    sl_status status = detokenize(model, json, skip_special, &ids, &err);
    cli_ids_free(&ids);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_detokenize = {
    .name = "detokenize",
    .args = "MODEL [--json] [--skip-special]",
    .summary = "Turn token ids into text",
    .details = "Reads standard input and writes standard output. Without --json all of the input\n"
               "is one list of ids apart by white space, and its text comes out as it is.\n",
    .args_min = 1,
    .args_max = 1,
    .run = run_command,
};
