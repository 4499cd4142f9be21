/* Figures from counters: differences of two sl_stats, a token, a share, a bound. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench_report.h"

/* NaN where there is nothing to divide by. */
static double over(double a, double b)
{
    return b > 0.0 ? a / b : (double)NAN;
}

/* 0 stands for "not measured". */
static double measured(double value)
{
    return value > 0.0 ? value : (double)NAN;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The value below which a share of sorted values lies, between neighbours in proportion. */
static double quantile(const double *sorted, size_t count, double share)
{
    if (count == 0) return (double)NAN;
    double at = share * (double)(count - 1);
    size_t low = (size_t)at;
    size_t high = low + 1 < count ? low + 1 : low;
    return sorted[low] + (at - (double)low) * (sorted[high] - sorted[low]);
}

bench_spread bench_spread_of(double *values, size_t count)
{
    size_t known = 0;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i])) values[known++] = values[i];
    const double none = (double)NAN;
    if (known == 0) return (bench_spread){none, none, none, 0};
    qsort(values, known, sizeof *values, by_value);
    return (bench_spread){quantile(values, known, 0.5), values[0], values[known - 1], known};
}

/* ---- of one run ------------------------------------------------------------------------------ */

static void figure_times(const bench_result *r, bench_figures *f)
{
    f->decode_tok_s = f->token_ns = f->p10_ns = f->p50_ns = f->p90_ns = (double)NAN;
    double *times = malloc((r->tokens ? r->tokens : 1) * sizeof *times);
    if (!times || r->tokens == 0) {
        free(times);
        return;
    }
    double sum = 0.0;
    for (uint32_t i = 0; i < r->tokens; i++) {
        times[i] = (double)r->token_ns[i];
        sum += times[i];
    }
    qsort(times, r->tokens, sizeof *times, by_value);
    f->token_ns = sum / r->tokens;
    f->decode_tok_s = over(1e9, f->token_ns);
    f->p10_ns = quantile(times, r->tokens, 0.1);
    f->p50_ns = quantile(times, r->tokens, 0.5);
    f->p90_ns = quantile(times, r->tokens, 0.9);
    free(times);
}

#define SINCE(field) ((double)(r->at_end.field - r->at_warm.field))

static void figure_reads(const bench_result *r, bench_figures *f)
{
    double tokens = r->tokens, requests = SINCE(expert_requests), read = SINCE(bytes_read);
    f->needed_bytes = over(SINCE(bytes_needed), tokens);
    f->read_bytes = over(read, tokens);
    f->wasted_bytes = over(SINCE(prefetch_wasted_bytes), tokens);
    /* Without a cache nothing is counted as missing, though much is read. */
    bool counted = SINCE(bytes_missing) > 0.0 || (requests > 0.0 && SINCE(expert_misses) == 0.0);
    f->missing_bytes = counted ? over(SINCE(bytes_missing), tokens) : (double)NAN;
    f->amplification = over(read, SINCE(bytes_missing));
    f->hit_rate = over(SINCE(expert_hits), requests);
    f->join_rate = over(SINCE(expert_joins), requests);
    f->predictability = over(SINCE(predicted_right), SINCE(predicted));
    f->reading_bytes_per_s = over(read * 1e9, SINCE(read_ns));
}

/* What a token takes from memory: the resident weights once, of the embedding but a row; its
 * experts. */
static double bytes_from_memory(const bench *b, const bench_result *r, const bench_figures *f)
{
    double resident = (double)r->info.resident_bytes;
    if (r->info.embedding_resident) resident -= (double)b->model.embedding_bytes;
    return (resident > 0.0 ? resident : 0.0) + f->needed_bytes;
}

/* The same token is computed alike in all runs of as many threads and the same kernels (page faults
 * apart), so that the middle of their times stands for each: also for one whose cache has no room
 * for the token's experts. 0: no run measured it. */
static double compute_alone(const bench *b, const bench_result *r)
{
    double times[256];
    size_t count = 0;
    for (size_t i = 0; i < b->result_count && count < sizeof times / sizeof times[0]; i++) {
        const bench_result *other = &b->results[i];
        bool faults = other->info.io == SL_IO_KIND_MMAP;
        if (other->compute_ns && other->info.threads == r->info.threads &&
            other->info.cpu_level == r->info.cpu_level && /* static strings */
            faults == (r->info.io == SL_IO_KIND_MMAP))
            times[count++] = (double)other->compute_ns;
    }
    return count ? bench_spread_of(times, count).median : 0.0;
}

static void figure_bounds(const bench *b, const bench_result *r, bench_figures *f)
{
    f->disk_bytes_per_s = measured(bench_disk_best(b));
    f->disk_ns = over(f->missing_bytes * 1e9, f->disk_bytes_per_s);
    f->compute_ns = measured(compute_alone(b, r));
    f->compute_own = r->compute_ns > 0;
    f->streaming_ns = over(SINCE(forward_ns) - SINCE(wait_ns), r->tokens);
    f->memory_ns = over(bytes_from_memory(b, r, f) * 1e9, b->memory_bytes_per_s);
    /* Where no run had room for a token's experts, what there is of compute alone is the time that
     * was not spent waiting. */
    double compute = isnan(f->compute_ns) ? f->streaming_ns : f->compute_ns;
    bool disk = !isnan(f->disk_ns) && (isnan(compute) || f->disk_ns > compute);
    f->bound_ns = disk ? f->disk_ns : compute;
    f->bound = disk ? "the disk" : isnan(f->compute_ns) ? "computing while streaming" : "compute";
    f->grade = over(f->token_ns, f->bound_ns);
}

static void figure_shares(const bench_result *r, bench_figures *f)
{
    double all_ns = f->token_ns * r->tokens;
    f->system_share = over((double)r->system_ns, all_ns);
    f->user_share = over((double)r->user_ns, all_ns);
    f->io_share = SINCE(io_cpu_ns) > 0.0 ? over(SINCE(io_cpu_ns), all_ns) : (double)NAN;
    f->io_most_share = f->system_share + (isnan(f->io_share) ? 0.0 : f->io_share);
    f->wait_share = over(SINCE(wait_ns), SINCE(forward_ns));
    f->verify_share = over(SINCE(verify_ns), SINCE(forward_ns));
    f->budget_share = over((double)r->rss_peak_bytes, (double)r->info.memory_bytes);
}

/* Against the larger of reading what was read at the disk's best and computing without waiting. */
static void figure_prefill(const bench *b, const bench_result *r, bench_figures *f)
{
    double compute = (double)r->prefill_ns * (1.0 - f->prefill_wait_share);
    double disk = over(f->prefill_read_bytes * 1e9, bench_disk_best(b));
    f->prefill_grade = over((double)r->prefill_ns, disk > compute ? disk : compute);
    f->prefill_again_tok_s = over(r->prompt_tokens * 1e9, measured((double)r->prefill_again_ns));
    f->prefill_gain = f->compute_ns * f->prefill_again_tok_s / 1e9;
    f->memory_share = over(f->memory_ns, f->compute_ns);
}

void bench_figures_of(const bench *b, const bench_result *r, bench_figures *f)
{
    memset(f, 0, sizeof *f);
    f->prefill_tok_s = over(r->prompt_tokens * 1e9, (double)r->prefill_ns);
    f->prefill_read_bytes = (double)(r->at_filled.bytes_read - r->at_start.bytes_read);
    f->prefill_wait_share = over((double)(r->at_filled.wait_ns - r->at_start.wait_ns),
                                 (double)(r->at_filled.forward_ns - r->at_start.forward_ns));
    figure_times(r, f);
    figure_reads(r, f);
    figure_bounds(b, r, f);
    figure_prefill(b, r, f);
    figure_shares(r, f);
}

/* ---- of several runs ------------------------------------------------------------------------- */

static double figure_at(const bench *b, const bench_result *r, size_t offset)
{
    bench_figures f;
    double value;
    bench_figures_of(b, r, &f);
    memcpy(&value, (const char *)&f + offset, sizeof value);
    return value;
}

/* The run of a setting in a round; NULL where it was not made or not brought to its end. */
static const bench_result *result_of(const bench *b, size_t setting, uint32_t round)
{
    for (size_t i = 0; i < b->result_count; i++) {
        const bench_result *r = &b->results[i];
        if (r->setting == &b->settings[setting] && r->round == round)
            return r->complete ? r : NULL;
    }
    return NULL;
}

static bench_spread spread(const bench *b, size_t setting, size_t offset, bool as_ratio)
{
    double *values = calloc(b->rounds, sizeof *values);
    size_t count = 0;
    for (uint32_t round = 0; values && round < b->rounds; round++) {
        const bench_result *r = result_of(b, setting, round), *first = result_of(b, 0, round);
        if (!r || (as_ratio && !first)) continue;
        double value = figure_at(b, r, offset);
        values[count++] = as_ratio ? over(value, figure_at(b, first, offset)) : value;
    }
    bench_spread s = bench_spread_of(values, count);
    free(values);
    return s;
}

bench_spread bench_figure_spread(const bench *b, size_t setting, size_t figure_offset)
{
    return spread(b, setting, figure_offset, false);
}

bench_spread bench_ratio_spread(const bench *b, size_t setting, size_t figure_offset)
{
    return spread(b, setting, figure_offset, true);
}

const bench_result *bench_typical(const bench *b, size_t setting)
{
    double median =
        bench_figure_spread(b, setting, offsetof(bench_figures, decode_tok_s)).median;
    double nearest = INFINITY;
    const bench_result *best = NULL;
    for (size_t i = 0; i < b->result_count; i++) {
        const bench_result *r = &b->results[i];
        if (r->setting != &b->settings[setting]) continue;
        if (nearest == (double)INFINITY && (!best || !r->refused[0])) best = r;
        if (isnan(median) || !r->complete) continue;
        double away = fabs(figure_at(b, r, offsetof(bench_figures, decode_tok_s)) - median);
        if (away >= nearest) continue;
        nearest = away;
        best = r;
    }
    return best;
}

double bench_disk_best(const bench *b)
{
    double before = b->disk_before.best_bytes_per_s, after = b->disk_after.best_bytes_per_s;
    return before > after ? before : after;
}

bench_agreement bench_agree(const bench *b)
{
    bench_agreement a = {.ids = true, .logits = true};
    for (size_t i = 0; i < b->result_count; i++) {
        const bench_result *r = &b->results[i];
        if (r->refused[0]) continue;
        if (r->setting->other_arithmetic) {
            a.others++;
            continue;
        }
        a.runs++;
        a.ids = a.ids && r->ids_differ_at < 0;
        a.logits = a.logits && r->logits_differ_at < 0;
        if (!a.differs && (r->ids_differ_at >= 0 || r->logits_differ_at >= 0)) a.differs = r;
    }
    return a;
}
