/* sluice render: messages to the text of a prompt. */
#include <stdlib.h>

#include "base/fail.h"
#include "cli/cli.h"

static sl_status render(const char *path, char **text, size_t *size, sl_error *err)
{
    sl_template *tmpl;
    sl__buffer input;
    SL_TRY(sl_template_open(&tmpl, path, err));
    sl_status status = cli_read("-", &input, err);
    if (status == SL_OK) {
        status = sl_template_render(tmpl, input.data, input.size, text, size, err);
        sl__buffer_free(&input);
    }
    sl_template_close(tmpl);
    return status;
}

static int run_command(const cli_call *call)
{
    const char *model, *file = NULL;
    bool json = false;
    const cli_option options[] = {
        {0, "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "read a JSON object, as always", NULL},
        {0, "template", "FILE", CLI_TEXT, &file, 0, 0, NULL, "this template instead of a model's",
         NULL},
    };
    const cli_group groups[] = {{NULL, options, 2}};
    int code;
    if (!cli_parse(call, groups, 1, &model, &code)) return code;
    if (!model == !file) return cli_usage(call->command, "give one of MODEL and --template FILE");

    sl_error err = {0};
    char *text;
    size_t size;
    sl_status status = render(file ? file : model, &text, &size, &err);
    if (status != SL_OK) return cli_fail_error(&err);
    fwrite(text, 1, size, stdout);
    free(text);
    return CLI_OK;
}

const cli_command cli_cmd_render = {
    .name = "render",
    .args = "MODEL|--template FILE [--json]",
    .summary = "Turn messages into a prompt with the model's chat template",
    .details = "Reads a JSON object from standard input: messages, tools, bos_token, eos_token,\n"
               "add_generation_prompt and whatever else the template asks for; \"now\", such as\n"
               "\"2026-01-02T03:04:05\", is the time that it sees. Writes the text and nothing "
               "else.\n",
    .args_min = 0,
    .args_max = 1,
    .run = run_command,
};
