/* sluice eval nll: how likely a model finds given texts. */
#include <stdlib.h>

#include "base/fail.h"
#include "cli/cli.h"

typedef struct nll_result {
    float *nll;    /* of all lines, one after the other */
    size_t tokens; /* predicted ones: a line of n ids gives n - 1 */
} nll_result;

static sl_status check_lines(const cli_ids *ids, size_t *longest, sl_error *err)
{
    size_t start = 0;
    *longest = 0;
    for (size_t line = 0; line < ids->lines; line++) {
        size_t count = ids->ends[line] - start;
        if (count < 2)
            return SL_FAIL(err, SL_EINVAL, "%s: line %zu: %zu token%s; at least two are needed",
                           ids->name, line + 1, count, count == 1 ? "" : "s");
        if (count > *longest) *longest = count;
        start = ids->ends[line];
    }
    if (*longest > UINT32_MAX)
        return SL_FAIL(err, SL_EINVAL, "%s: too many tokens in a line", ids->name);
    return SL_OK;
}

static sl_status eval_lines(sl_session *session, const cli_ids *ids, nll_result *result,
                            sl_error *err)
{
    result->nll = calloc(ids->count, sizeof *result->nll);
    if (!result->nll) return SL_FAIL_NOMEM(err, "results");
    size_t start = 0;
    for (size_t line = 0; line < ids->lines; line++) {
        size_t count = ids->ends[line] - start;
        cli_status_line("line %zu of %zu", line + 1, ids->lines);
        SL_TRY(sl_eval_nll(session, ids->ids + start, count, result->nll + result->tokens, err));
        result->tokens += count - 1;
        start = ids->ends[line];
    }
    cli_status_clear();
    return SL_OK;
}

static sl_status evaluate(const char *model, const char *path, cli_engine_options *opt,
                          cli_ids *ids, nll_result *result, sl_error *err)
{
    size_t longest;
    SL_TRY(cli_ids_read_lines(ids, path, err));
    SL_TRY(check_lines(ids, &longest, err));
    if (opt->engine.context_tokens == 0) opt->engine.context_tokens = (uint32_t)longest;

    sl_engine *engine;
    sl_session *session;
    SL_TRY(cli_engine_open(&engine, &session, model, opt, err));
    sl_engine_info info;
    sl_engine_info_get(engine, &info);
    char lossy[128];
    if (cli_lossy(lossy, &info)[0]) fprintf(stderr, "%s\n", lossy);
    sl_status status = cli_ids_check(ids, info.vocab_size, err);
    if (status == SL_OK) status = eval_lines(session, ids, result, err);
    sl_session_destroy(session);
    sl_engine_close(engine);
    return status;
}

static double mean_of(const nll_result *result)
{
    double sum = 0.0;
    for (size_t i = 0; i < result->tokens; i++)
        sum += (double)result->nll[i];
    return sum / (double)result->tokens;
}

/* Nine digits bring every float back exactly. */
static void print_json(const cli_ids *ids, const nll_result *result, double mean)
{
    size_t at = 0, start = 0;
    char text[CLI_FIGURE];
    printf("{\"lines\":[");
    for (size_t line = 0; line < ids->lines; line++) {
        size_t count = ids->ends[line] - start - 1;
        printf("%s{\"nll\":[", line ? "," : "");
        for (size_t i = 0; i < count; i++)
            printf("%s%.9g", i ? "," : "", (double)result->nll[at++]);
        printf("]}");
        start = ids->ends[line];
    }
    printf("],\"mean\":%s,\"tokens\":%zu}\n", cli_exact(text, mean), result->tokens);
}

static int run_command(const cli_call *call)
{
    const char *model, *path = NULL;
    bool json = false;
    cli_engine_options opt = {0};
    const cli_option options[] = {
        {0, "ids", "FILE", CLI_TEXT, &path, 0, 0, NULL,
         "token ids, one sequence a line ('-': standard input)", NULL},
        {0, "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "every token's value, as JSON", NULL},
    };
    cli_option engine_options[CLI_ENGINE_OPTIONS];
    cli_engine_table(engine_options, &opt);
    const cli_group groups[] = {{NULL, options, 2},
                                {"the model", engine_options, CLI_ENGINE_OPTIONS}};
    int code;
    if (!cli_parse(call, groups, 2, &model, &code)) return code;
    if (!path) return cli_usage(call->command, "--ids FILE is missing");

    sl_error err = {0};
    cli_ids ids;
    nll_result result = {0};
    cli_ids_init(&ids);
    sl_status status = evaluate(model, path, &opt, &ids, &result, &err);
    if (status == SL_OK) {
        char text[CLI_FIGURE];
        double mean = mean_of(&result);
        if (json)
            print_json(&ids, &result, mean);
        else
            printf("%s\n", cli_exact(text, mean));
    }
    free(result.nll);
    cli_ids_free(&ids);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_eval_nll = {
    .name = "eval nll",
    .args = "MODEL --ids FILE [--json] [options]",
    .summary = "Measure how likely a model finds given tokens",
    .details = "Prints the mean negative log-likelihood, in nats a token, of all tokens but the\n"
               "first of each line. With --json:\n"
               "  {\"lines\":[{\"nll\":[...]},...],\"mean\":x,\"tokens\":n}\n"
               "A line is ids apart by white space, as tokenize prints them, or a JSON array.\n"
               "The context is as long as the longest line where --ctx is not given.\n",
    .args_min = 1,
    .args_max = 1,
    .run = run_command,
};
