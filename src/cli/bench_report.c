/* The tables of a bench: what was done, then one run in detail, or a line a setting. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/cpus.h"
#include "cli/bench_report.h"

/* ---- figures, or "not measured" -------------------------------------------------------------- */

static const char unknown[] = "not measured";

/* fmt is of what value becomes in the text, such as a share in per cent. */
__attribute__((format(printf, 3, 4))) static const char *
figure(char out[CLI_FIGURE], double value, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (isfinite(value))
        vsnprintf(out, CLI_FIGURE, fmt, args);
    else
        snprintf(out, CLI_FIGURE, "%s", unknown);
    va_end(args);
    return out;
}

/* A row; "not measured" where its figure is not known. */
__attribute__((format(printf, 4, 5))) static void row(FILE *to, const char *label, double known,
                                                      const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    cli_row(to, label, "%s", isfinite(known) ? text : unknown);
}

static const char *percent(char out[CLI_FIGURE], double share)
{
    return figure(out, share, "%.1f %%", share * 100.0);
}

static const char *time_text(char out[CLI_FIGURE], double ns)
{
    if (ns >= 1e9) return figure(out, ns, "%.3f s", ns / 1e9);
    return figure(out, ns, ns >= 1e8 ? "%.0f ms" : ns >= 1e6 ? "%.2f ms" : "%.3f ms", ns / 1e6);
}

static const char *rate_text(char out[CLI_FIGURE], double bytes_per_s)
{
    if (!(bytes_per_s > 0.0)) return strcpy(out, unknown);
    if (bytes_per_s < 1e9) return figure(out, bytes_per_s, "%.0f MB/s", bytes_per_s / 1e6);
    return figure(out, bytes_per_s, "%.2f GB/s", bytes_per_s / 1e9);
}

static const char *size_text(char out[CLI_FIGURE], double bytes)
{
    if (!isfinite(bytes)) return strcpy(out, unknown);
    return cli_size(out, (uint64_t)(bytes + 0.5));
}

/* ---- what was done --------------------------------------------------------------------------- */

static void print_disk(const bench *b, FILE *to)
{
    const sl_probe_result *p = &b->disk_before;
    char best[CLI_FIGURE], chosen[CLI_FIGURE], split[CLI_FIGURE], after[CLI_FIGURE];
    if (!(p->bytes_per_s > 0.0)) {
        cli_row(to, "disk", "%s%s%s", unknown, b->disk_error.message[0] ? ": " : "",
                b->disk_error.message);
        return;
    }
    cli_row(to, "disk", "%s at best before, %s after; %s", rate_text(best, p->best_bytes_per_s),
            rate_text(after, b->disk_after.best_bytes_per_s), p->device);
    cli_row(to, "chosen", "%s, %s, %" PRIu32 " pieces of %s at a time: %s",
            sl_io_kind_name(p->io), p->direct ? "direct" : "page cache", p->depth,
            cli_size(split, p->split_bytes), rate_text(chosen, p->bytes_per_s));
}

static void print_cold(const bench_result *r, FILE *to)
{
    char left[CLI_FIGURE], all[CLI_FIGURE], end[CLI_FIGURE];
    cli_size(all, r->pages_cold.file_bytes);
    if (!r->pages_cold.known) {
        cli_row(to, "cold by", "%s", r->info.direct ? "direct reads, past the page cache"
                                                    : "page cache dropped, how far is not known");
        return;
    }
    cli_row(to, "cold by", "%spage cache dropped: %s of %s stayed in it",
            r->info.direct ? "direct reads; " : "", cli_size(left, r->pages_cold.cached_bytes),
            all);
    if (r->pages_end.known && r->tokens)
        cli_row(to, "page cache", "%s of the files at the end%s",
                cli_size(end, r->pages_end.cached_bytes),
                r->info.direct ? "" : ", beside the budget: reads of these reach no disk");
}

static void print_work(const bench *b, const bench_result *r, FILE *to)
{
    char speed[CLI_FIGURE];
    struct utsname name;
    cli_row(to, "model", "%s (%s)", b->work.model, r->info.family);
    cli_row(to, "experts", "%" PRIu32 " of %" PRIu32 " a token%s; stored as %s, %.2f bits a weight",
            r->info.experts_per_token, r->info.experts,
            r->info.experts_per_token == r->info.trained_experts_per_token ? ", as trained" : "",
            r->info.expert_types, r->info.expert_bits);
    cli_row(to, "arithmetic", "activations in %s, keys and values in %s",
            r->info.rounded_to[0] ? r->info.rounded_to : "f32", sl_kv_type_name(r->info.kv));
    char lossy[128];
    if (cli_lossy(lossy, &r->info)[0]) fprintf(to, "  %s\n", lossy);
    if (r->info.synthetic)
        fprintf(to, "  SYNTHETIC: random weights; speed means something, text does not\n");
    if (uname(&name) == 0)
        cli_row(to, "machine", "%s %s %s, %" PRIu32 " cores usable, compute threads: %" PRIu32
                ", kernels: %s", name.sysname, name.release, name.machine, sl__core_count(),
                r->info.threads, r->info.cpu_level);
    print_disk(b, to);
    row(to, "memory", b->memory_bytes_per_s > 0.0 ? 1.0 : (double)NAN,
        "%s (threads that read it: %" PRIu32 ")", rate_text(speed, b->memory_bytes_per_s),
        b->memory_threads);
    print_cold(r, to);
    cli_row(to, "work", "a prompt of %" PRIu32 " tokens (%s), %" PRIu32 " to warm up, %" PRIu32
            " counted; seed %" PRIu64,
            b->work.prompt_tokens,
            b->work.prompt_given     ? "as given"
            : b->work.prompt_sampled ? "written by the model"
                                     : "random ids",
            b->work.warmup_tokens, b->work.tokens, b->work.seed);
}

static void print_agreement(const bench *b, FILE *to)
{
    bench_agreement a = bench_agree(b);
    fprintf(to, "  same ids in all runs: %s; same logits: %s (%zu run%s)\n",
            a.ids ? "yes" : "NO", a.logits ? "yes, bit for bit" : "NO", a.runs,
            a.runs == 1 ? "" : "s");
    if (a.others > 0)
        fprintf(to, "  runs with other arithmetic, which were given the same ids: %zu\n", a.others);
}

/* ---- one run --------------------------------------------------------------------------------- */

static void print_speed(const bench_result *r, const bench_figures *f, FILE *to)
{
    char a[CLI_FIGURE], b[CLI_FIGURE], c[CLI_FIGURE], d[CLI_FIGURE];
    char lossy[128];
    const char *mark = cli_lossy(lossy, &r->info)[0] ? "  LOSSY" : "";
    if (!r->complete)
        fprintf(to, "  STOPPED: what follows is as far as this run got\n");
    cli_row(to, "opening", "%s", time_text(a, (double)r->open_ns));
    cli_row(to, "prefill", "%s tok/s (%" PRIu32 " tokens in %s), %s read, waiting %s%s",
            figure(a, f->prefill_tok_s, "%.2f", f->prefill_tok_s), r->prompt_tokens,
            time_text(b, (double)r->prefill_ns), size_text(c, f->prefill_read_bytes),
            percent(d, f->prefill_wait_share), mark);
    row(to, "", f->prefill_grade, "%.3f times the larger of reading and computing",
        f->prefill_grade);
    row(to, "prefill again", f->prefill_again_tok_s,
        "%s tok/s with all experts in memory, %s times as fast as decode",
        figure(a, f->prefill_again_tok_s, "%.2f", f->prefill_again_tok_s),
        figure(b, f->prefill_gain, "%.1f", f->prefill_gain));
    cli_row(to, "decode", "%s tok/s (%" PRIu32 " tokens)%s",
            figure(a, f->decode_tok_s, "%.2f", f->decode_tok_s), r->tokens, mark);
    cli_row(to, "a token takes", "%s in the mean; median %s, p10 %s, p90 %s",
            time_text(a, f->token_ns), time_text(b, f->p50_ns), time_text(c, f->p10_ns),
            time_text(d, f->p90_ns));
}

static void print_experts(const bench_result *r, const bench_figures *f, FILE *to)
{
    char a[CLI_FIGURE], b[CLI_FIGURE], c[CLI_FIGURE];
    const sl_stats *from = &r->at_warm, *end = &r->at_end;
    row(to, "bytes a token", f->read_bytes, "%s needed, %s read, of which read ahead in vain: %s",
        size_text(a, f->needed_bytes), size_text(b, f->read_bytes), size_text(c, f->wasted_bytes));
    row(to, "missing", f->missing_bytes, "%s a token; amplification (read over missing): %s",
        size_text(a, f->missing_bytes), figure(b, f->amplification, "%.3f", f->amplification));
    row(to, "cache hits", f->hit_rate, "%s of %" PRIu64 ", %s more were on their way; full: %s",
        percent(a, f->hit_rate), end->expert_requests - from->expert_requests,
        percent(b, f->join_rate), end->expert_evictions > 0 ? "yes" : "no");
    uint64_t reads = end->prefetch_reads - from->prefetch_reads;
    cli_row(to, "read ahead",
            "%s; %" PRIu64 " reads: %" PRIu64 " useful, %" PRIu64 " late, %" PRIu64 " wasted; "
            "%" PRIu64 " cancelled before they began",
            end->prefetch_on ? "on" : "off", reads, end->prefetch_useful - from->prefetch_useful,
            end->prefetch_late - from->prefetch_late,
            end->prefetch_wasted - from->prefetch_wasted,
            end->prefetch_cancelled - from->prefetch_cancelled);
    row(to, "predictable", f->predictability, "%s of the next layer's experts",
        percent(a, f->predictability));
}

static void print_bounds(const bench_figures *f, FILE *to)
{
    char a[CLI_FIGURE], b[CLI_FIGURE];
    double share = f->reading_bytes_per_s / f->disk_bytes_per_s;
    row(to, "while reading", f->reading_bytes_per_s, "%s, of the disk's best: %s",
        rate_text(a, f->reading_bytes_per_s), percent(b, share));
    row(to, "disk alone", f->disk_ns, "%s a token (what is missing, at the disk's best)",
        time_text(a, f->disk_ns));
    row(to, "compute alone", f->compute_ns,
        "%s a token (without waiting: its experts in memory, position 0)%s",
        time_text(a, f->compute_ns), f->compute_own ? "" : ", in another run");
    row(to, "while streaming", f->streaming_ns,
        "%s a token of computing (forward passes less %s of waiting)",
        time_text(a, f->streaming_ns), percent(b, f->wait_share));
    row(to, "memory alone", f->memory_ns,
        "%s a token (its weights once, at memory's full speed); computing alone reaches %s of it",
        time_text(a, f->memory_ns), percent(b, f->memory_share));
    row(to, "grade", f->grade, "%.3f times %s alone, which is the larger (1 is the best there is)",
        f->grade, f->bound);
}

static void print_costs(const bench_result *r, const bench_figures *f, FILE *to)
{
    char a[CLI_FIGURE], b[CLI_FIGURE], c[CLI_FIGURE], d[CLI_FIGURE];
    cli_row(to, "processor", "user %s of a core, system %s", percent(a, f->user_share),
            percent(b, f->system_share));
    cli_row(to, "for I/O", "%s of a core at most: all system time, and I/O threads (%s)",
            percent(a, f->io_most_share), percent(b, f->io_share));
    cli_row(to, "checksums", "%s of the forward passes", percent(a, f->verify_share));
    cli_row(to, "resident memory", "%s at most%s, %s of the budget of %s (expert cache %s)",
            cli_size(a, r->rss_peak_bytes), r->rss_peak_whole ? "" : " (as sampled)",
            percent(b, f->budget_share), cli_size(c, r->info.memory_bytes),
            cli_size(d, r->info.cache_bytes));
    uint64_t resizes = r->at_end.cache_resizes - r->at_warm.cache_resizes;
    if (resizes)
        cli_row(to, "cache resized", "%" PRIu64 " times meanwhile, to %s: memory was short",
                resizes, cli_size(a, r->at_end.cache_bytes));
}

static void print_run(const bench *b, const bench_result *r, FILE *to)
{
    bench_figures f;
    bench_figures_of(b, r, &f);
    print_speed(r, &f, to);
    if (r->tokens == 0) return;
    print_experts(r, &f, to);
    print_bounds(&f, to);
    print_costs(r, &f, to);
    bench_spread s = bench_figure_spread(b, 0, offsetof(bench_figures, decode_tok_s));
    if (s.count > 1)
        cli_row(to, "of all runs", "decode %.2f tok/s (%.2f to %.2f, %zu runs); above is the one "
                "in the middle", s.median, s.least, s.most, s.count);
}

/* ---- a line a setting ------------------------------------------------------------------------ */

static const char *or_dash(const char *text)
{
    return strcmp(text, unknown) == 0 ? "-" : text;
}

/* "12.34 (11.90-12.50)"; the spread only where there is one. */
static const char *spread_text(char out[64], bench_spread s, const char *suffix)
{
    if (s.count == 0)
        snprintf(out, 64, "-");
    else if (s.count == 1)
        snprintf(out, 64, "%.2f%s", s.median, suffix);
    else
        snprintf(out, 64, "%.2f%s (%.2f-%.2f)", s.median, suffix, s.least, s.most);
    return out;
}

static void print_compared(const bench *b, FILE *to)
{
    static const char heads[] = "  %-28s %-26s %-22s %9s %8s %10s %10s %10s\n";
    fprintf(to, "\n");
    fprintf(to, heads, "setting", "decode tok/s", "to the first", "prefill", "hits", "read",
            "resident", "page cache");
    fprintf(to, heads, "", "", "", "tok/s", "", "a token", "at most", "at the end");
    for (size_t i = 0; i < b->setting_count; i++) {
        const bench_result *r = bench_typical(b, i);
        if (!r) continue;
        fprintf(to, "  %-28s ", b->settings[i].name);
        if (r->refused[0]) {
            fprintf(to, "does not open: %s\n", r->refused);
            continue;
        }
        bench_figures f;
        bench_figures_of(b, r, &f);
        char decode[64], ratio[64], t[5][CLI_FIGURE];
        size_t speed = offsetof(bench_figures, decode_tok_s);
        size_t again = offsetof(bench_figures, prefill_again_tok_s);
        double fill = bench_figure_spread(b, i, again).median;
        if (isnan(fill))
            fill = bench_figure_spread(b, i, offsetof(bench_figures, prefill_tok_s)).median;
        spread_text(decode, bench_figure_spread(b, i, speed), "");
        spread_text(ratio, bench_ratio_spread(b, i, speed), "x");
        fprintf(to, "%-26s %-22s %9s %8s %10s %10s %10s\n", decode, ratio,
                or_dash(figure(t[0], fill, "%.2f", fill)), or_dash(percent(t[1], f.hit_rate)),
                or_dash(size_text(t[2], f.read_bytes)), cli_size(t[3], r->rss_peak_bytes),
                r->pages_end.known ? cli_size(t[4], r->pages_end.cached_bytes) : "-");
    }
    fprintf(to, "\n  Settings ran in turn, %" PRIu32 " round%s, cold each time: medians, least to "
            "most; ratios are of runs of one round.\n", b->rounds, b->rounds == 1 ? "" : "s");
}

static void print_swept(const bench *b, FILE *to)
{
    fprintf(to, "\n  %9s %9s %10s %10s %8s %9s %9s %10s %10s %10s %6s\n", "budget", "resident",
            "prefill", "decode", "hits", "missing", "read", "token", "disk", "compute", "grade");
    fprintf(to, "  %9s %9s %10s %10s %8s %9s %9s %10s %10s %10s %6s\n", "", "at most", "tok/s",
            "tok/s", "", "a token", "a token", "takes", "alone", "alone", "");
    for (size_t i = b->setting_count; i-- > 0;) {
        const bench_result *r = bench_typical(b, i);
        if (!r) continue;
        fprintf(to, "  %9s ", b->settings[i].name);
        if (r->refused[0]) {
            fprintf(to, "does not open: %s\n", r->refused);
            continue;
        }
        bench_figures f;
        bench_figures_of(b, r, &f);
        char t[9][CLI_FIGURE];
        fprintf(to, "%9s %10s %10s %8s %9s %9s %10s %10s %10s %6s\n",
                cli_size(t[0], r->rss_peak_bytes),
                or_dash(figure(t[1], f.prefill_tok_s, "%.2f", f.prefill_tok_s)),
                or_dash(figure(t[2], f.decode_tok_s, "%.2f", f.decode_tok_s)),
                or_dash(percent(t[3], f.hit_rate)), or_dash(size_text(t[4], f.missing_bytes)),
                or_dash(size_text(t[5], f.read_bytes)), or_dash(time_text(t[6], f.token_ns)),
                or_dash(time_text(t[7], f.disk_ns)), or_dash(time_text(t[8], f.compute_ns)),
                isnan(f.grade) ? "-" : figure((char[CLI_FIGURE]){0}, f.grade, "%.2f", f.grade));
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

void bench_print(const bench *b, FILE *to)
{
    const bench_result *first = NULL; /* that opened, of the first setting that did */
    for (size_t i = 0; i < b->setting_count && !first; i++) {
        const bench_result *r = bench_typical(b, i);
        if (r && !r->refused[0]) first = r;
    }
    if (first) print_work(b, first, to);
    if (first && b->kind == BENCH_ONE) print_run(b, first, to);
    if (b->kind == BENCH_COMPARE) print_compared(b, to);
    if (b->kind == BENCH_SWEEP) print_swept(b, to);
    print_agreement(b, to);
}
