/* sluice bench: how fast a model runs here, from a cold start, beside what disk and processor would
 * each need alone.
 *
 *     probe ─┬─ run ─ run ─ run … (settings in turn, round by round) ─┬─ probe ─ report
 *            └─ one engine open at a time, the same ids in all ───────┘
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cpus.h"
#include "base/fail.h"
#include "base/file.h"
#include "cli/bench_report.h"

#define MEMORY_PROBE_NS 300000000u

typedef struct ask {
    cli_engine_options engine;
    uint32_t repeat, warmup;
    bool repeat_given, warmup_given;
    const char *ids, *sweep, *compare, *json, *plot;
} ask;

/* ---- probes ---------------------------------------------------------------------------------- */

/* Where the first probe's findings are kept for the runs, so that all read alike. */
typedef struct findings {
    char folder[512];
    char file[528]; /* "": there is no such place, and every engine probes for itself */
} findings;

static void findings_create(findings *f)
{
    *f = (findings){0};
    const char *tmp = getenv("TMPDIR");
    int n = snprintf(f->folder, sizeof f->folder, "%s/sluice-bench.XXXXXX",
                     tmp && *tmp ? tmp : "/tmp");
    if (n < 0 || (size_t)n >= sizeof f->folder || !mkdtemp(f->folder)) return;
    snprintf(f->file, sizeof f->file, "%s/probe.json", f->folder);
}

static void findings_remove(const findings *f)
{
    if (!f->file[0]) return;
    unlink(f->file);
    rmdir(f->folder);
}

/* A disk that cannot be measured is no failure of the bench. */
static void probe_disk(bench *b, const char *file, sl_probe_result *result)
{
    const sl_probe_options options = {.probe_file = file, .again = true};
    cli_status_line("measuring the disk");
    if (sl_probe(b->work.model, &options, result, &b->disk_error) != SL_OK)
        memset(result, 0, sizeof *result);
    cli_status_clear();
}

static void probe_memory(bench *b, uint32_t threads)
{
    b->memory_threads = threads ? threads : sl__core_count();
    cli_status_line("measuring memory");
    b->memory_bytes_per_s = sl_probe_memory(b->memory_threads, MEMORY_PROBE_NS);
    cli_status_clear();
}

/* ---- running --------------------------------------------------------------------------------- */

/* Round by round, so that a busy machine disturbs all settings alike. */
static sl_status run_all(bench *b, sl_error *err)
{
    size_t all = b->setting_count * b->rounds;
    b->results = calloc(all, sizeof *b->results);
    if (!b->results) return SL_FAIL_NOMEM(err, "results");
    for (uint32_t round = 0; round < b->rounds; round++) {
        for (size_t s = 0; s < b->setting_count && !cli_interrupted(); s++) {
            char label[96];
            snprintf(label, sizeof label, "run %zu of %zu (%.60s)", b->result_count + 1, all,
                     b->settings[s].name);
            bench_result *r = &b->results[b->result_count++];
            sl_status status = bench_run(r, &b->work, &b->settings[s], label, err);
            r->round = round;
            SL_TRY(status);
        }
    }
    return SL_OK;
}

static sl_status read_prompt(bench *b, const char *path, sl_error *err)
{
    cli_ids ids;
    cli_ids_init(&ids);
    sl_status status = cli_ids_read_plain(&ids, path, err);
    if (status == SL_OK && (ids.count == 0 || ids.count > UINT32_MAX))
        status = SL_FAIL(err, SL_EFORMAT, "%s: holds no token id, or too many", ids.name);
    if (status == SL_OK) status = cli_ids_check(&ids, b->model.vocab_size, err);
    if (status == SL_OK) {
        b->work.prompt = calloc(ids.count, sizeof *b->work.prompt);
        if (!b->work.prompt) status = SL_FAIL_NOMEM(err, "prompt");
    }
    if (status == SL_OK) {
        memcpy(b->work.prompt, ids.ids, ids.count * sizeof *b->work.prompt);
        b->work.prompt_tokens = (uint32_t)ids.count;
        b->work.prompt_given = true;
    }
    cli_ids_free(&ids);
    return status;
}

/* All that were refused: the bench has nothing to show, and the first reason is why. */
static sl_status check_opened(const bench *b, sl_error *err)
{
    for (size_t i = 0; i < b->result_count; i++)
        if (!b->results[i].refused[0]) return SL_OK;
    if (b->result_count == 0) return SL_FAIL(err, SL_ECANCELLED, "stopped; nothing was measured");
    return SL_FAIL(err, SL_EBUDGET, "%s", b->results[0].refused);
}

static sl_status measure(bench *b, const ask *a, sl_error *err)
{
    SL_TRY(sl_model_inspect(b->work.model, &b->model, err));
    b->work.vocab_size = b->model.vocab_size;
    if (a->ids) SL_TRY(read_prompt(b, a->ids, err));
    SL_TRY(bench_work_prepare(&b->work, err));
    cli_interrupt_catch();

    findings kept;
    findings_create(&kept);
    const char *file = kept.file[0] ? kept.file : NULL;
    bench_cold_drop(b->work.model);
    probe_disk(b, file, &b->disk_before);
    probe_memory(b, a->engine.engine.threads);
    for (size_t i = 0; i < b->setting_count; i++)
        b->settings[i].options.engine.probe_file = file;
    sl_status status = run_all(b, err);
    findings_remove(&kept);
    SL_TRY(status);
    SL_TRY(check_opened(b, err));
    b->interrupted = cli_interrupted();
    if (!b->interrupted) probe_disk(b, NULL, &b->disk_after);
    return SL_OK;
}

/* What differs between runs is a defect, and no figure beside it is worth anything. */
static sl_status check_agreement(const bench *b, sl_error *err)
{
    bench_agreement a = bench_agree(b);
    if (!a.differs) return SL_OK;
    const bench_result *r = a.differs;
    int64_t at = r->ids_differ_at >= 0 ? r->ids_differ_at : r->logits_differ_at;
    return SL_FAIL(err, SL_ENUMERIC,
                   "%s: the %s of '%s' differ from the first run's, first at token %" PRId64
                   " after the prompt", b->work.model, r->ids_differ_at >= 0 ? "ids" : "logits",
                   r->setting->name, at);
}

static sl_status report(const bench *b, const ask *a, sl_error *err)
{
    if (!a->json || strcmp(a->json, "-") != 0) bench_print(b, stdout);
    if (a->json) SL_TRY(bench_write_json(b, a->json, err));
    if (a->plot) SL_TRY(bench_write_plot(b, a->plot, err));
    SL_TRY(check_agreement(b, err));
    if (b->interrupted)
        return SL_FAIL(err, SL_ECANCELLED, "stopped; this is what was measured until then");
    return SL_OK;
}

/* ---- the command line ------------------------------------------------------------------------ */

/* A long bench should not fail at its end because a folder is not there. */
static sl_status check_output(const char *path, sl_error *err)
{
    char folder[SL_PATH_MAX];
    if (!path || strcmp(path, "-") == 0) return SL_OK;
    if (sl__file_is_dir(path)) return SL_FAIL(err, SL_EINVAL, "%s: is a folder", path);
    sl__path_parent(folder, path);
    if (!sl__file_is_dir(folder) || access(folder, W_OK) != 0)
        return SL_FAIL(err, SL_EIO, "%s: the folder cannot be written to", path);
    return SL_OK;
}

static bool make_settings(bench *b, const cli_call *call, const ask *a)
{
    if (a->sweep && a->compare) {
        cli_usage(call->command, "--compare and --sweep-memory exclude each other");
    } else if (a->plot && !a->sweep) {
        cli_usage(call->command, "--plot draws a sweep: --sweep-memory is missing");
    } else if (a->sweep && a->engine.engine.memory_bytes) {
        cli_usage(call->command, "--memory and --sweep-memory exclude each other");
    } else if (a->sweep) {
        b->kind = BENCH_SWEEP;
        return bench_settings_sweep(b, call, &a->engine, a->sweep);
    } else if (a->compare) {
        b->kind = BENCH_COMPARE;
        return bench_settings_compare(b, call, &a->engine, a->compare);
    } else {
        return bench_settings_one(b, &a->engine);
    }
    return false;
}

static bool parse(const cli_call *call, bench *b, ask *a, int *code)
{
    bench_work *w = &b->work;
    const char *above_0 = "a number from 1 to 1000000";
    const cli_option work_options[] = {
        {0, "tokens", "N", CLI_U32, &w->tokens, 1, 1000000, above_0,
         "tokens that are decoded and counted (default: 64)", NULL},
        {0, "prompt", "N", CLI_U32, &w->prompt_tokens, 1, 1000000, above_0,
         "tokens of the prompt, ids at random (default: 128)", NULL},
        {0, "ids", "FILE", CLI_TEXT, &a->ids, 0, 0, NULL,
         "the prompt's ids instead, as tokenize prints them", NULL},
        {0, "warmup", "N", CLI_U32, &a->warmup, 0, 1000000, "a number from 0 to 1000000",
         "tokens before those counted (default: until the cache is full)", &a->warmup_given},
        {0, "seed", "S", CLI_U64, &w->seed, 0, 0, NULL, "of the ids (default: 0)", NULL},
        {0, "repeat", "R", CLI_U32, &a->repeat, 1, 1000, "a number from 1 to 1000",
         "runs of each setting (default: 1; 3 with --compare)", &a->repeat_given},
    };
    const cli_option result_options[] = {
        {0, "compare", "LIST", CLI_TEXT, &a->compare, 0, 0, NULL,
         "settings to hold against this one: \"io=mmap;io=pread,direct=off\"", NULL},
        {0, "sweep-memory", "LIST", CLI_TEXT, &a->sweep, 0, 0, NULL,
         "budgets to run with: 4G,6G,8G", NULL},
        {0, "json", "FILE", CLI_TEXT, &a->json, 0, 0, NULL,
         "everything that was measured ('-': standard output, no table)", NULL},
        {0, "plot", "FILE", CLI_TEXT, &a->plot, 0, 0, NULL,
         "speed against memory, as SVG; with --sweep-memory", NULL},
    };
    cli_option engine_options[CLI_ENGINE_OPTIONS];
    cli_engine_table(engine_options, &a->engine);
    const cli_group groups[] = {
        {"the work", work_options, sizeof work_options / sizeof work_options[0]},
        {"settings and results", result_options, sizeof result_options / sizeof result_options[0]},
        {"the model", engine_options, CLI_ENGINE_OPTIONS},
    };
    if (!cli_parse(call, groups, sizeof groups / sizeof groups[0], &w->model, code)) return false;
    *code = CLI_USAGE;
    return make_settings(b, call, a);
}

static void free_bench(bench *b)
{
    for (size_t i = 0; i < b->result_count; i++)
        bench_result_free(&b->results[i]);
    free(b->results);
    bench_settings_free(b);
    bench_work_free(&b->work);
}

static int run_command(const cli_call *call)
{
    ask a = {.engine = {.activations = "q8", .kv = "f16"}};
    bench b = {.work = {.tokens = 64, .prompt_tokens = 128}};
    int code;
    if (!parse(call, &b, &a, &code)) {
        free_bench(&b);
        return code;
    }
    b.rounds = a.repeat_given ? a.repeat : b.kind == BENCH_COMPARE ? 3 : 1;
    b.work.warmup_fixed = a.warmup_given;
    b.work.warmup_tokens = a.warmup_given ? a.warmup : BENCH_WARMUP_MOST;

    sl_error err = {0};
    char demo[SL_PATH_MAX];
    sl_status status = SL_OK;
    if (!b.work.model) {
        status = cli_demo_path(demo, sizeof demo, call->program, &err);
        b.work.model = demo;
    }
    if (status == SL_OK) status = check_output(a.json, &err);
    if (status == SL_OK) status = check_output(a.plot, &err);
    if (status == SL_OK) status = measure(&b, &a, &err);
    if (status == SL_OK) status = report(&b, &a, &err);
    free_bench(&b);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_bench = {
    .name = "bench",
    .args = "[MODEL] [options]",
    .summary = "Measure speed from a cold start, beside what would bound it",
    .details = "MODEL is a pack, a checkpoint's folder or file, or a GGUF file; without it the\n"
               "demo runs.\n"
               "Every run opens the model cold, prefills a prompt, warms up, and times tokens\n"
               "whose ids are the same in all runs. Ctrl-C ends with what was measured so far.\n",
    .args_max = 1,
    .run = run_command,
};
