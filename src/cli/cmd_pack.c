/* sluice pack: writes a model in the layout that is fastest to read. */
#include <string.h>

#include "base/clock.h"
#include "base/fail.h"
#include "cli/cli.h"

typedef struct pack_watch {
    cli_progress progress;
    uint64_t total_bytes;
} pack_watch;

static sl_status on_progress(void *ctx, const sl_pack_progress *at)
{
    pack_watch *watch = ctx;
    watch->total_bytes = at->total_bytes;
    if (cli_interrupted()) return SL_ECANCELLED;
    cli_progress_show(&watch->progress, at);
    return SL_OK;
}

/* Whether storing weights of these types as `type` loses nothing. */
static bool keeps(const char *type, const char *source_types)
{
    return strcmp(type, "keep") == 0 || strcmp(type, source_types) == 0;
}

/* Fewer bits are never passed over in silence. */
static void print_loss(const sl_pack_options *opt, const sl_model_info *source)
{
    const char *experts = opt->experts ? opt->experts : "keep";
    const char *resident = opt->resident ? opt->resident : "keep";
    if (keeps(experts, source->expert_types) && keeps(resident, source->resident_types)) return;
    printf("LOSSY: experts %s, the rest %s; 'sluice eval nll' measures what that costs\n",
           strcmp(experts, "keep") == 0 ? "kept" : experts,
           strcmp(resident, "keep") == 0 ? "kept" : resident);
}

static int run_command(const cli_call *call)
{
    const char *paths[2];
    pack_watch watch = {0};
    sl_pack_options opt = {.progress = on_progress, .progress_ctx = &watch};
    const cli_option options[] = {
        {0, "experts", "keep|bf16|q8|q4|q3|q2", CLI_CHOICE, &opt.experts, 0, 0, NULL,
         "how routed experts are stored (default: keep, as they are)", NULL},
        {0, "resident", "keep|bf16|q8|q4|q3|q2", CLI_CHOICE, &opt.resident, 0, 0, NULL,
         "how everything else is (default: keep)", NULL},
        {0, "threads", "N", CLI_U32, &opt.threads, 1, 1024, "a number from 1 to 1024",
         "compute threads (default: one a core)", NULL},
        {0, "verify", NULL, CLI_FLAG, &opt.verify, 0, 0, NULL,
         "read everything back and compare checksums", NULL},
    };
    const cli_group groups[] = {{NULL, options, sizeof options / sizeof options[0]}};
    int code;
    if (!cli_parse(call, groups, 1, paths, &code)) return code;

    sl_error err = {0};
    sl_model_info source;
    if (sl_model_inspect(paths[0], &source, &err) != SL_OK) return cli_fail_error(&err);
    cli_interrupt_catch();
    uint64_t start_ns = sl__now_ns();
    sl_status status = sl_pack(paths[0], paths[1], &opt, &err);
    cli_progress_end(&watch.progress);
    if (status == SL_ECANCELLED && cli_interrupted())
        return cli_fail("stopped; run the same command again to resume");
    if (status != SL_OK) return cli_fail_error(&err);

    char size[CLI_FIGURE], time[CLI_FIGURE];
    printf("%s: %s in %s%s\n", paths[1], cli_size(size, watch.total_bytes),
           cli_duration(time, (double)(sl__now_ns() - start_ns) / 1e9),
           opt.verify ? ", verified" : "");
    print_loss(&opt, &source);
    return CLI_OK;
}

const cli_command cli_cmd_pack = {
    .name = "pack",
    .args = "MODEL DST [options]",
    .summary = "Write a model in the layout that is fastest to read",
    .details = "MODEL is a checkpoint folder, a GGUF file or a pack. DST is a folder that appears\n"
               "when it is complete; until then it grows as DST.partial, and after Ctrl-C the\n"
               "same command goes on where it stopped. Fewer bits are LOSSY: smaller and faster\n"
               "to read, and further from the original answers.\n",
    .args_min = 2,
    .args_max = 2,
    .run = run_command,
};
