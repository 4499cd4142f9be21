/* sluice pack: writes a model in the layout that is fastest to read. */
#include <inttypes.h>
#include <string.h>

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

static double bits(uint64_t bytes, uint64_t weights)
{
    return weights > 0 ? (double)bytes * 8.0 / (double)weights : 0.0;
}

/* "experts            11.2 MiB bf16 -> 3.2 MiB q4, 4.50 bits a weight" */
static void print_parts(const sl_pack_report *report)
{
    char from[CLI_FIGURE], to[CLI_FIGURE];
    uint64_t before = 0, after = 0;
    for (uint32_t i = 0; i < SL_PACK_PARTS; i++) {
        const sl_pack_part *part = &report->parts[i];
        if (part->weights == 0) continue;
        before += part->from_bytes;
        after += part->to_bytes;
        cli_row(stdout, part->name, "%s %s -> %s %s, %.2f bits a weight",
                cli_size(from, part->from_bytes), part->from, cli_size(to, part->to_bytes),
                part->to, bits(part->to_bytes, part->weights));
    }
    cli_row(stdout, "together", "%s -> %s", cli_size(from, before), cli_size(to, after));
    if (report->from_expert_bytes > 0) {
        cli_row(stdout, "one expert", "%s in %" PRIu32 " read%s -> %s in 1",
                cli_size(from, report->from_expert_bytes), report->from_expert_reads,
                report->from_expert_reads == 1 ? "" : "s", cli_size(to, report->to_expert_bytes));
    }
}

/* What was asked for and could not be is never passed over in silence. */
static void print_substitutes(const sl_pack_report *report)
{
    for (uint32_t i = 0; i < report->substitute_count; i++) {
        const sl_pack_substitute *s = &report->substitutes[i];
        printf("%s instead of %s: %" PRIu32 " matri%s with rows that are no whole number of its "
               "blocks, first %s\n", s->taken, s->wanted, s->matrices,
               s->matrices == 1 ? "x" : "ces", s->first);
    }
}

static const char *stored(const sl_pack_part *part)
{
    return part->lossy ? part->to : "kept";
}

/* Nor are fewer bits. */
static void print_loss(const sl_pack_report *report)
{
    const sl_pack_part *experts = &report->parts[0], *embedding = &report->parts[1],
                       *rest = &report->parts[2];
    if (!report->lossy) return;
    printf("LOSSY: experts %s, ", stored(experts));
    if (strcmp(stored(embedding), stored(rest)) != 0) printf("embedding %s, ", stored(embedding));
    printf("the rest %s; 'sluice eval nll' measures what that costs\n", stored(rest));
}

static void print_rate(char out[CLI_FIGURE], double bytes_per_s)
{
    snprintf(out, CLI_FIGURE, "%.0f MB/s", bytes_per_s / 1e6);
}

/* What would be written, and whether it can be. */
static int print_plan(const char *dst, const sl_pack_report *report)
{
    char a[CLI_FIGURE], b[CLI_FIGURE];
    bool fits = report->disk_bytes <= report->free_bytes;
    printf("%s: nothing is written\n", dst);
    print_parts(report);
    cli_row(stdout, "on the disk", "%s, and %s are free there%s", cli_size(a, report->disk_bytes),
            cli_size(b, report->free_bytes), fits ? "" : ": it does not fit");
    if (report->convert_bytes_per_s > 0) {
        print_rate(a, report->convert_bytes_per_s);
        cli_row(stdout, "converting", "%s of experts here", a);
    }
    if (report->disk_bytes_per_s > 0) {
        print_rate(a, report->disk_bytes_per_s);
        cli_row(stdout, "reading", "%s here", a);
    }
    if (report->seconds > 0) {
        cli_row(stdout, "time", "about %s, if the disk takes it", cli_duration(a, report->seconds));
    }
    print_substitutes(report);
    print_loss(report);
    return fits ? CLI_OK : CLI_FAILED;
}

static void print_summary(const char *dst, const sl_pack_options *opt, const pack_watch *watch)
{
    const sl_pack_report *report = opt->report;
    char size[CLI_FIGURE], time[CLI_FIGURE], rate[CLI_FIGURE];
    print_rate(rate, report->seconds > 0 ? (double)report->read_bytes / report->seconds : 0);
    printf("%s: %s in %s, %s of the source%s\n", dst, cli_size(size, watch->total_bytes),
           cli_duration(time, report->seconds), rate, opt->verify ? ", verified" : "");
    print_parts(report);
    print_substitutes(report);
    print_loss(report);
}

static int run_command(const cli_call *call)
{
    const char *paths[2];
    pack_watch watch = {0};
    sl_pack_report report;
    sl_pack_options opt = {.report = &report, .progress = on_progress, .progress_ctx = &watch};
    const cli_option options[] = {
        {0, "experts", "TYPE", CLI_TEXT, &opt.experts, 0, 0, NULL,
         "how routed experts are stored (default: keep, as they are)", NULL},
        {0, "resident", "TYPE", CLI_TEXT, &opt.resident, 0, 0, NULL,
         "how everything else is (default: keep)", NULL},
        {0, "threads", "N", CLI_U32, &opt.threads, 1, 1024, "a number from 1 to 1024",
         "compute threads (default: one a core)", NULL},
        {0, "verify", NULL, CLI_FLAG, &opt.verify, 0, 0, NULL,
         "read everything back and compare checksums", NULL},
        {0, "dry-run", NULL, CLI_FLAG, &opt.dry_run, 0, 0, NULL,
         "write nothing: sizes, room on the disk, time", NULL},
    };
    const cli_group groups[] = {{NULL, options, sizeof options / sizeof options[0]}};
    int code;
    if (!cli_parse(call, groups, 1, paths, &code)) return code;

    sl_error err = {0};
    cli_interrupt_catch();
    sl_status status = sl_pack(paths[0], paths[1], &opt, &err);
    cli_progress_end(&watch.progress);
    if (status == SL_ECANCELLED && cli_interrupted())
        return cli_fail("stopped; run the same command again to resume");
    if (status != SL_OK) return cli_fail_error(&err);
    if (opt.dry_run) return print_plan(paths[1], &report);
    print_summary(paths[1], &opt, &watch);
    return CLI_OK;
}

const cli_command cli_cmd_pack = {
    .name = "pack",
    .args = "MODEL DST [options]",
    .summary = "Write a model in the layout that is fastest to read",
    .details = "MODEL is a checkpoint folder, a GGUF file or a pack. DST is a folder that appears\n"
               "when it is complete; until then it grows as DST.partial, and after Ctrl-C the\n"
               "same command goes on where it stopped. Fewer bits are LOSSY: smaller and faster\n"
               "to read, and further from the original answers.\n"
               "\n"
               "TYPE is keep, bf16, f16 or f32; q8, q4, q3 or q2, which run fastest; a type of\n"
               "GGUF: q8_0, q6_k, q5_k, q4_k, q3_k, q2_k, q5_1, q5_0, q4_1, q4_0, iq4_nl, iq4_xs;\n"
               "or mxfp4. Experts may differ by parts: --experts gate=q4,up=q4,down=q8. Rows that\n"
               "are no whole number of a type's blocks get the one of q8 ... q2 with as many\n"
               "bits, or the next above; the summary says where.\n",
    .args_min = 2,
    .args_max = 2,
    .run = run_command,
};
