/* The table after a run: speed, and beside it everything that the speed depends on. */
#include <inttypes.h>

#include "base/sysmem.h"
#include "cli/cmd_run.h"

/* The highest resident size of the process so far. */
static uint64_t peak_rss(uint64_t seen_bytes)
{
    uint64_t peak = sl__mem_rss_peak();
    return peak > seen_bytes ? peak : seen_bytes;
}

static const char *plural(size_t count)
{
    return count == 1 ? "" : "s";
}

static double rate(double count, uint64_t ns)
{
    return ns ? count * 1e9 / (double)ns : 0.0;
}

static void print_speed(const run_report *r, FILE *to)
{
    char lossy[128], mark[132] = "";
    if (cli_lossy(lossy, &r->info)[0]) snprintf(mark, sizeof mark, "  %s", lossy);
    double prompt = (double)r->prompt_tokens;
    cli_row(to, "prefill", "%.2f tok/s (%zu token%s)%s", rate(prompt, r->prefill_ns),
            r->prompt_tokens, plural(r->prompt_tokens), mark);
    if (r->decoded_tokens)
        cli_row(to, "decode", "%.2f tok/s (%" PRIu32 " token%s)%s",
                rate((double)r->decoded_tokens, r->decode_ns), r->decoded_tokens,
                plural(r->decoded_tokens), mark);
    if (r->first_token_ns)
        cli_row(to, "first token", "after %.3f s (opening took %.3f s)",
                (double)r->first_token_ns / 1e9, (double)r->load_ns / 1e9);
}

static void print_experts(const run_report *r, FILE *to)
{
    const sl_engine_info *info = &r->info;
    cli_row(to, "experts", "%" PRIu32 " of %" PRIu32 " a token%s; stored as %s, %.2f bits a weight",
            info->experts_per_token, info->experts,
            info->experts_per_token == info->trained_experts_per_token ? ", as trained" : "",
            info->expert_types, info->expert_bits);
}

/* Of decoding where there was any: that is where the cache shows. */
static void print_disk(const run_report *r, FILE *to)
{
    bool decoded = r->decoded_tokens > 0;
    const sl_stats *from = decoded ? &r->at_prefilled : &r->at_start;
    uint64_t tokens = decoded ? r->decoded_tokens : r->prompt_tokens;
    uint64_t bytes = r->at_end.bytes_read - from->bytes_read;
    uint64_t requests = r->at_end.expert_requests - from->expert_requests;
    uint64_t hits = r->at_end.expert_hits - from->expert_hits;
    const char *when = decoded ? "decode" : "prefill";
    char each[CLI_FIGURE], whole[CLI_FIGURE];
    if (tokens)
        cli_row(to, "read from disk", "%s a token (%s), %s in all", cli_size(each, bytes / tokens),
                when, cli_size(whole, r->at_end.bytes_read - r->at_start.bytes_read));
    if (requests)
        cli_row(to, "cache hits", "%.1f %% of %" PRIu64 " (%s)",
                100.0 * (double)hits / (double)requests, requests, when);
}

static void print_reads(const run_report *r, FILE *to)
{
    const sl_stats *a = &r->at_start, *b = &r->at_end;
    const char *way = r->info.io == SL_IO_KIND_MMAP ? "page faults"
                      : r->info.direct              ? "past the page cache"
                                                    : "through the page cache";
    uint64_t ahead = b->prefetch_reads - a->prefetch_reads;
    if (ahead == 0) {
        cli_row(to, "reads", "%s, %s", sl_io_kind_name(r->info.io), way);
        return;
    }
    cli_row(to, "reads", "%s, %s; %" PRIu64 " experts ahead, %.0f %% of them in vain",
            sl_io_kind_name(r->info.io), way, ahead,
            100.0 * (double)(b->prefetch_wasted - a->prefetch_wasted) / (double)ahead);
}

static void print_memory(const run_report *r, FILE *to)
{
    char now[CLI_FIGURE], peak[CLI_FIGURE], budget[CLI_FIGURE], cache[CLI_FIGURE];
    cli_row(to, "resident memory", "%s now, %s at most", cli_size(now, sl__mem_rss()),
            cli_size(peak, peak_rss(r->rss_seen_bytes)));
    cli_row(to, "budget", "%s, of it %s for the expert cache",
            cli_size(budget, r->info.memory_bytes), cli_size(cache, r->info.cache_bytes));
}

/* What was rounded on the way, by default or because it was asked for. */
static void print_rounding(const run_report *r, FILE *to)
{
    bool activations = r->info.rounded_to[0] != '\0', kv = r->info.kv != SL_KV_F32;
    char kept[64] = "";
    if (kv) snprintf(kept, sizeof kept, "keys and values to %s", sl_kv_type_name(r->info.kv));
    if (activations || kv)
        cli_row(to, "rounded", "%s%s%s%s (--exact: nothing)", activations ? "activations to " : "",
                r->info.rounded_to, activations && kv ? ", " : "", kept);
}

static void print_sampling(const run_report *r, FILE *to)
{
    const sl_sampler_options *s = &r->sampling;
    sl__buffer text;
    sl__buffer_init(&text, 512);
    if (s->temperature > 0.0f) {
        sl__buffer_printf(&text, "temperature %g", (double)s->temperature);
        if (s->top_k) sl__buffer_printf(&text, ", top-k %" PRIu32, s->top_k);
        if (s->top_p < 1.0f) sl__buffer_printf(&text, ", top-p %g", (double)s->top_p);
        if (s->min_p > 0.0f) sl__buffer_printf(&text, ", min-p %g", (double)s->min_p);
        sl__buffer_printf(&text, ", seed %" PRIu64, s->seed);
    } else {
        sl__buffer_append_str(&text, "greedy");
    }
    if (s->repetition_penalty != 1.0f)
        sl__buffer_printf(&text, ", repetition penalty %g", (double)s->repetition_penalty);
    if (s->presence_penalty != 0.0f)
        sl__buffer_printf(&text, ", presence penalty %g", (double)s->presence_penalty);
    if (s->frequency_penalty != 0.0f)
        sl__buffer_printf(&text, ", frequency penalty %g", (double)s->frequency_penalty);
    cli_row(to, "sampling", "%s", text.data ? text.data : "");
    sl__buffer_free(&text);
}

void run_report_print(const run_report *r, FILE *to)
{
    static const char *const stops[] = {
        [RUN_STOP_LIMIT] = "as many as asked for",
        [RUN_STOP_END] = "ended by an end token",
        [RUN_STOP_CONTEXT] = "ended by the context being full (--ctx takes more)",
        [RUN_STOP_COMPLETE] = "ended where the JSON is complete",
        [RUN_STOP_INTERRUPTED] = "ended by Ctrl-C",
    };
    const char *stop = stops[r->stop];
    if (r->shortened && r->stop == RUN_STOP_COMPLETE)
        stop = "ended where the JSON is complete: shortened to fit (-n, --ctx)";
    fprintf(to, "\n");
    cli_row(to, "model", "%s (%s)", r->model, r->info.family);
    if (r->info.synthetic) cli_row(to, "weights", "SYNTHETIC: random weights");
    cli_row(to, "generated", "%" PRIu32 " token%s, %s%s", r->generated_tokens,
            plural(r->generated_tokens), stop, r->cut ? "; the JSON is not whole" : "");
    print_speed(r, to);
    print_experts(r, to);
    print_disk(r, to);
    print_reads(r, to);
    print_memory(r, to);
    print_rounding(r, to);
    print_sampling(r, to);
    if (r->constrained && r->generated_tokens)
        cli_row(to, "held to JSON", "%.1f us a token",
                (double)r->constrain_ns / 1e3 / (double)r->generated_tokens);
}
