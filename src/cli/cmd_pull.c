/* sluice pull: downloads a model from the Hugging Face hub. */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "cli/cli.h"
#include "cli/net.h"

typedef struct pull_call {
    sl_pull_options opt;
    cli_progress progress;
    bool listed;            /* the choices were */
    uint64_t missing_bytes; /* of the plan */
} pull_call;

/* Names come from the hub: what a terminal could take for a command is not shown. */
static void print_name(FILE *to, const char *name)
{
    cli_write_text(to, name, strlen(name), true);
}

static void list_choices(const sl_pull_plan *plan)
{
    char size[CLI_FIGURE];
    for (size_t i = 0; i < plan->choice_count; i++) {
        const sl_pull_choice *choice = &plan->choices[i];
        printf("%12s  %s:", cli_size(size, choice->bytes), plan->name);
        print_name(stdout, choice->selector);
        if (choice->files > 1) printf("  (%u files)", choice->files);
        putchar('\n');
    }
}

static void list_files(const sl_pull_plan *plan)
{
    char size[CLI_FIGURE], there[CLI_FIGURE];
    for (size_t i = 0; i < plan->file_count; i++) {
        const sl_pull_file *file = &plan->files[i];
        printf("%12s  ", cli_size(size, file->bytes));
        print_name(stdout, file->path);
        if (file->there_bytes == file->bytes)
            printf("  (there)");
        else if (file->there_bytes > 0)
            printf("  (%s of it there)", cli_size(there, file->there_bytes));
        putchar('\n');
    }
}

static sl_status on_plan(void *ctx, const sl_pull_plan *plan)
{
    pull_call *p = ctx;
    char total[CLI_FIGURE], there[CLI_FIGURE], room[CLI_FIGURE];
    if (plan->choice_count) {
        p->listed = p->opt.dry_run;
        if (p->listed) list_choices(plan);
        return SL_OK;
    }
    p->missing_bytes = plan->total_bytes - plan->there_bytes;
    if (p->opt.dry_run) list_files(plan);
    fflush(stdout);
    fprintf(stderr, "%s (%s, commit %.8s): %zu files, %s, of it %s there; %s free on the disk\n",
            plan->name, plan->revision, plan->commit, plan->file_count,
            cli_size(total, plan->total_bytes), cli_size(there, plan->there_bytes),
            cli_size(room, plan->free_bytes));
    return SL_OK;
}

static sl_status on_progress(void *ctx, const sl_pull_progress *at)
{
    pull_call *p = ctx;
    if (cli_interrupted()) return SL_ECANCELLED;
    if (at->note) {
        cli_status_clear();
        print_name(stderr, at->note);
        putc('\n', stderr);
    }
    if (at->total_files == 0 || p->missing_bytes == 0) return SL_OK;
    char what[64];
    snprintf(what, sizeof what, "%u/%u files", at->done_files, at->total_files);
    sl_pack_progress shown = {
        .what = what, .done_bytes = at->done_bytes, .total_bytes = at->total_bytes};
    cli_progress_show(&p->progress, &shown);
    return SL_OK;
}

static int run_command(const cli_call *call)
{
    pull_call p = {.opt = {.plan = on_plan, .progress = on_progress}};
    const char *name;
    bool dry_run = false;
    const cli_option options[] = {
        {0, "revision", "REV", CLI_TEXT, &p.opt.revision, 0, 0, NULL,
         "a branch, a tag or a commit (default: main)", NULL},
        {0, "list", NULL, CLI_FLAG, &p.opt.dry_run, 0, 0, NULL,
         "only list what would be fetched, with sizes", NULL},
        {0, "dry-run", NULL, CLI_FLAG, &dry_run, 0, 0, NULL, "the same as --list", NULL},
        {0, "connections", "N", CLI_U32, &p.opt.connections, 1, 64, "a number from 1 to 64",
         "requests at a time (default: 8)", NULL},
        {0, "tries", "N", CLI_U32, &p.opt.tries, 1, 100, "a number from 1 to 100",
         "of a request that comes no further (default: 6)", NULL},
    };
    const cli_group groups[] = {{NULL, options, sizeof options / sizeof options[0]}};
    int code;
    if (!cli_parse(call, groups, 1, &name, &code)) return code;
    if (!sl_hub_is_name(name))
        return cli_usage(call->command, "'%s' is no name of the form ORG/NAME[:QUANT or :FILE]",
                         name);
    p.opt.dry_run = p.opt.dry_run || dry_run;
    p.opt.ctx = &p;

    sl_error err = {0};
    char path[SL_PATH_MAX], size[CLI_FIGURE], time[CLI_FIGURE];
    cli_interrupt_catch();
    uint64_t start_ns = sl__now_ns();
    sl_status status = sl_pull(name, &p.opt, path, sizeof path, &err);
    cli_progress_end(&p.progress);
    if (p.listed && status == SL_EINVAL) return CLI_OK;
    if (status == SL_ECANCELLED && cli_interrupted())
        return cli_fail("stopped; run the same command again to resume");
    if (status != SL_OK) return cli_fail_error(&err);
    if (p.opt.dry_run) return CLI_OK;
    if (p.missing_bytes > 0)
        fprintf(stderr, "fetched %s in %s, verified\n", cli_size(size, p.missing_bytes),
                cli_duration(time, (double)(sl__now_ns() - start_ns) / 1e9));
    printf("%s\n", path);
    return CLI_OK;
}

const cli_command cli_cmd_pull = {
    .name = "pull",
    .args = "ORG/NAME[:QUANT or :FILE] [options]",
    .summary = CLI_PULL_SUMMARY,
    .details =
        "ORG/NAME is a repository of the hub, such as Qwen/Qwen3-30B-A3B. Of a repository of GGUF\n"
        "files :Q4_K_M names a quantisation, :FILE.gguf a file; --list shows which there are.\n"
        "What comes is verified by its checksum and lands in the cache that huggingface_hub uses;\n"
        "what is there already is not fetched again. Other commands then take ORG/NAME for a\n"
        "MODEL, which is its branch main; what --revision fetched, they take by its path.\n"
        "The path is the one line on standard output:  sluice run \"$(sluice pull X)\" -p "
        "…\n"
        "After Ctrl-C, or a loss of the net, the same command goes on where it stopped.\n"
        "\n"
        "HF_TOKEN (or ~/.cache/huggingface/token) is sent to the hub for models that need it.\n"
        "HF_HUB_CACHE and HF_HOME move the cache, HF_ENDPOINT names another hub.\n",
    .args_min = 1,
    .args_max = 1,
    .run = run_command,
};
