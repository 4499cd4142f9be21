/* sluice synth: a model of random weights in the shapes of a real one. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "cli/cli.h"

typedef struct synth_call {
    const char *dst;
    sl_synth_options opt;
    float overlap, predictable;
    bool dry_run, no_measure;
    uint32_t tokens;
    cli_progress progress;
} synth_call;

static sl_status on_progress(void *ctx, const sl_pack_progress *at)
{
    synth_call *s = ctx;
    if (cli_interrupted() || s->dry_run) return SL_ECANCELLED;
    cli_progress_show(&s->progress, at);
    return SL_OK;
}

/* The number that was typed, which a float may miss by its last digits. */
static double as_typed(float x) { return nearbyint((double)x * 1e6) / 1e6; }

/* "qwen3.5-397b, …", with `after` behind every third name. */
static const char *list_shapes(char out[256], const char *after)
{
    const char *const *names = sl_synth_shapes();
    out[0] = '\0';
    for (size_t i = 0; names[i]; i++) {
        size_t used = strlen(out);
        const char *between = i == 0 ? "" : i % 3 == 0 ? after : " ";
        snprintf(out + used, 256 - used, "%s%s%s", between, names[i], names[i + 1] ? "," : "");
    }
    return out;
}

static bool is_shape(const char *name)
{
    const char *const *names = sl_synth_shapes();
    while (*names && strcmp(*names, name) != 0)
        names++;
    return *names != NULL;
}

static sl_status write_model(synth_call *s, sl_error *err)
{
    char size[CLI_FIGURE], time[CLI_FIGURE];
    uint64_t bytes = sl_synth_bytes(&s->opt), start_ns = sl__now_ns();
    if (s->dry_run && bytes > 0) {
        printf("%s: %s would be written\n", s->dst, cli_size(size, bytes));
        return SL_OK;
    }
    cli_interrupt_catch();
    sl_status status = sl_synth(s->dst, &s->opt, err);
    cli_progress_end(&s->progress);
    if (status == SL_ECANCELLED && cli_interrupted()) {
        sl_error_clear(err);
        return SL_FAIL(err, status, "stopped; run the same command again to resume");
    }
    if (status != SL_OK) return status;
    printf("%s: %s in %s; SYNTHETIC: random weights\n", s->dst, cli_size(size, bytes),
           cli_duration(time, (double)(sl__now_ns() - start_ns) / 1e9));
    return SL_OK;
}

static bool parse(const cli_call *call, synth_call *s, int *code)
{
    char shapes[256], help[256];
    list_shapes(help, "\n                              "); /* where the help of options begins */
    const cli_option model_options[] = {
        {0, "like", "NAME", CLI_TEXT, &s->opt.like, 0, 0, NULL, help, NULL},
        {0, "layers", "N", CLI_U32, &s->opt.layers, 1, 0, "a whole number above 0",
         "only so many layers (default: all)", NULL},
        {0, "experts", "bf16|q8|q4|q3|q2", CLI_CHOICE, &s->opt.experts, 0, 0, NULL,
         "how routed experts are stored (default: q4)", NULL},
        {0, "resident", "bf16|q8|q4|q3|q2", CLI_CHOICE, &s->opt.resident, 0, 0, NULL,
         "how everything else is (default: q8)", NULL},
        {0, "seed", "S", CLI_U64, &s->opt.seed, 0, 0, NULL,
         "another seed gives other weights (default: 0)", NULL},
    };
    const cli_option routing_options[] = {
        {0, "overlap", "X", CLI_F32, &s->overlap, 1e-6, 1, "a number above 0, at most 1",
         "of a token's experts, those of the token before (default: 0.25)", NULL},
        {0, "predictable", "X", CLI_F32, &s->predictable, 1e-6, 1, "a number above 0, at most 1",
         "of the next layer's experts, those foretold (default: 0.7)", NULL},
        {0, "uniform", NULL, CLI_FLAG, &s->opt.uniform, 0, 0, NULL,
         "instead of --overlap: every token chooses anew", NULL},
    };
    const cli_option other_options[] = {
        {0, "dry-run", NULL, CLI_FLAG, &s->dry_run, 0, 0, NULL, "only say how large it would be",
         NULL},
        {0, "no-measure", NULL, CLI_FLAG, &s->no_measure, 0, 0, NULL,
         "do not run it afterwards to measure its routing", NULL},
        {0, "tokens", "N", CLI_U32, &s->tokens, 2, 0, "a whole number above 1",
         "tokens to measure over (default: 64)", NULL},
    };
    const cli_group groups[] = {
        {"the model", model_options, sizeof model_options / sizeof model_options[0]},
        {"routing", routing_options, sizeof routing_options / sizeof routing_options[0]},
        {NULL, other_options, sizeof other_options / sizeof other_options[0]},
    };
    if (!cli_parse(call, groups, sizeof groups / sizeof groups[0], &s->dst, code)) return false;
    *code = CLI_USAGE;
    list_shapes(shapes, " ");
    if (!s->opt.like) {
        cli_usage(call->command, "--like NAME is missing; NAME is one of %s", shapes);
    } else if (!is_shape(s->opt.like)) {
        cli_usage(call->command, "--like takes one of %s, not '%s'", shapes, s->opt.like);
    } else if (s->opt.uniform && s->overlap > 0) {
        cli_usage(call->command, "give one of --overlap X and --uniform");
    } else {
        *code = CLI_OK;
    }
    return *code == CLI_OK;
}

static int run_command(const cli_call *call)
{
    synth_call s = {.tokens = 64};
    int code;
    if (!parse(call, &s, &code)) return code;
    s.opt.overlap = as_typed(s.overlap);
    s.opt.predictable = as_typed(s.predictable);
    s.opt.progress = on_progress;
    s.opt.progress_ctx = &s;
    sl_error err = {0};
    sl_status status = write_model(&s, &err);
    if (status == SL_OK && !s.dry_run && !s.no_measure && !cli_interrupted())
        status = cli_measure_routing(s.dst, s.tokens, &err);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_synth = {
    .name = "synth",
    .args = "DST --like NAME [options]",
    .summary = "Write a model of random weights in the shapes of a real one",
    .details = "For trying the engine at the size of a model without having it. What it writes is\n"
               "noise, and it has no tokenizer. DST is a folder that appears when it is complete;\n"
               "until then it grows as DST.partial, and after Ctrl-C the same command goes on\n"
               "where it stopped. The routers are made such that consecutive tokens share\n"
               "experts, and a layer's experts can be foretold, as in real models.\n",
    .args_min = 1,
    .args_max = 1,
    .run = run_command,
};
