/* sluice probe: how a disk is read best, and how fast memory is. */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/fail.h"
#include "base/file.h"
#include "cli/cli.h"

#define MEMORY_NS UINT64_C(200000000)

static const char *way_of(bool direct)
{
    return direct ? "direct" : "cached";
}

static const char *rate(char out[CLI_FIGURE], double bytes_per_s)
{
    char size[CLI_FIGURE];
    if (!(bytes_per_s > 0.0)) snprintf(out, CLI_FIGURE, "not measured");
    else snprintf(out, CLI_FIGURE, "%.20s/s", cli_size(size, (uint64_t)bytes_per_s));
    return out;
}

static int slower(const void *a, const void *b)
{
    double x = ((const sl_probe_point *)a)->bytes_per_s;
    double y = ((const sl_probe_point *)b)->bytes_per_s;
    return (x < y) - (x > y);
}

static bool is_choice(const sl_probe_result *r, const sl_probe_point *p)
{
    return p->io == r->io && p->direct == r->direct && p->read_bytes == r->split_bytes &&
           p->depth == r->depth;
}

static void print_points(const sl_probe_result *r)
{
    sl_probe_point points[sizeof r->points / sizeof r->points[0]];
    char size[CLI_FIGURE], speed[CLI_FIGURE];
    memcpy(points, r->points, sizeof points);
    qsort(points, r->point_count, sizeof points[0], slower);
    if (r->point_count > 0)
        printf("\n  %-7s %-7s %10s %10s %14s\n", "engine", "way", "piece", "in flight", "rate");
    for (uint32_t i = 0; i < r->point_count; i++) {
        const sl_probe_point *p = &points[i];
        printf("  %-7s %-7s %10s %10" PRIu32 " %14s%s\n", sl_io_kind_name(p->io),
               way_of(p->direct), cli_size(size, p->read_bytes), p->depth,
               rate(speed, p->bytes_per_s), is_choice(r, p) ? "  chosen" : "");
    }
    putchar('\n');
}

static void print_table(const char *path, const sl_probe_result *r, const char *file,
                        double memory, uint32_t threads)
{
    char a[CLI_FIGURE], b[CLI_FIGURE];
    printf("%s\n", path);
    cli_row(stdout, "disk", "%s", r->device[0] ? r->device : "unknown");
    print_points(r);
    cli_row(stdout, "choice", "%s, %s, pieces of %s, %" PRIu32 " in flight",
            sl_io_kind_name(r->io), r->direct ? "past the page cache" : "through the page cache",
            cli_size(a, r->split_bytes), r->depth);
    if (r->bytes_per_s > 0.0)
        cli_row(stdout, "reads", "%s with the choice, %s at best", rate(a, r->bytes_per_s),
                rate(b, r->best_bytes_per_s));
    else
        cli_row(stdout, "reads", "not measured: the files are in memory, or there are none");
    cli_row(stdout, "memory", "%s, %" PRIu32 " thread%s", rate(a, memory), threads,
            threads == 1 ? "" : "s");
    if (r->remembered)
        cli_row(stdout, "from", "%s (--again measures anew)", file);
    else
        cli_row(stdout, "measured", "in %.2f s", (double)r->took_ns * 1e-9);
}

static sl_status print_json(const sl_probe_result *r, double memory, uint32_t threads,
                            sl_error *err)
{
    json_t *root = json_pack(
        "{s:s, s:s, s:b, s:I, s:i, s:f, s:f, s:b, s:f, s:f, s:i, s:[]}", "device", r->device, "io",
        sl_io_kind_name(r->io), "direct", (int)r->direct, "split_bytes",
        (json_int_t)r->split_bytes, "depth", (int)r->depth, "bytes_per_s", r->bytes_per_s,
        "best_bytes_per_s", r->best_bytes_per_s, "remembered", (int)r->remembered, "took_s",
        (double)r->took_ns * 1e-9, "memory_bytes_per_s", memory, "memory_threads", (int)threads,
        "points");
    bool ok = root != NULL;
    for (uint32_t i = 0; ok && i < r->point_count; i++) {
        const sl_probe_point *p = &r->points[i];
        json_t *point = json_pack("{s:s, s:b, s:I, s:i, s:f}", "io", sl_io_kind_name(p->io),
                                  "direct", (int)p->direct, "read_bytes",
                                  (json_int_t)p->read_bytes, "depth", (int)p->depth,
                                  "bytes_per_s", p->bytes_per_s);
        ok = json_array_append_new(json_object_get(root, "points"), point) == 0;
    }
    if (ok) {
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(root);
    return ok ? SL_OK : SL_FAIL_NOMEM(err, "JSON");
}

static int run_command(const cli_call *call)
{
    const char *path;
    bool json = false, again = false;
    float seconds = 0.0f;
    sl_probe_options opt = {0};
    const cli_option options[] = {
        {0, "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "every figure, as JSON", NULL},
        {0, "again", NULL, CLI_FLAG, &again, 0, 0, NULL,
         "measure, though the disk is remembered", NULL},
        {0, "time", "SECONDS", CLI_F32, &seconds, 0.01, 60, "a number from 0.01 to 60",
         "measure so long at most (default: 0.5)", NULL},
        {0, "expert", "SIZE", CLI_SIZE, &opt.expert_bytes, 0, 0, NULL,
         "the size of the reads (default: an expert of the model; else 4 MiB)", NULL},
    };
    const cli_group groups[] = {{NULL, options, sizeof options / sizeof options[0]}};
    char file[SL_PATH_MAX], demo[SL_PATH_MAX];
    int code;
    if (!cli_parse(call, groups, 1, &path, &code)) return code;

    sl_error err = {0};
    sl_status status = SL_OK;
    if (!path) {
        status = cli_demo_path(demo, sizeof demo, call->program, &err);
        path = demo;
    }
    sl_probe_result result;
    opt.again = again;
    opt.time_ns = (uint64_t)((double)seconds * 1e9);
    if (cli_probe_file(file)) opt.probe_file = file;
    if (status == SL_OK) status = sl_probe(path, &opt, &result, &err);
    if (status != SL_OK) return cli_fail_error(&err);

    uint32_t threads = sl__core_count();
    double memory = sl_probe_memory(threads, MEMORY_NS);
    if (!json) print_table(path, &result, file, memory, threads);
    else status = print_json(&result, memory, threads, &err);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_probe = {
    .name = "probe",
    .args = "[PATH] [--again] [--time SECONDS] [--json]",
    .summary = "Measure how the disk is read best, and memory's speed",
    .details =
        "PATH is a model or any large file on the disk in question; without it the demo is read.\n"
        "What is found is remembered for the disk and the size of an expert; commands that run a\n"
        "model use it, or measure themselves, once. Reads only.\n",
    .args_max = 1,
    .run = run_command,
};
