/* Everything that a bench measured, as JSON. What was not measured is null. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "base/file.h"
#include "cli/bench_report.h"

/* Adds a value, which it takes over. Where memory ran out for either, nothing is added, and the
 * whole is seen to have failed in the end. */
static void put(json_t *object, const char *key, json_t *value, bool *failed)
{
    if (!value || json_object_set_new(object, key, value) != 0) *failed = true;
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *whole(uint64_t value)
{
    return value <= INT64_MAX ? json_integer((json_int_t)value) : json_real((double)value);
}

/* A message may hold a path, which need not be UTF-8. */
static json_t *message(const char *text)
{
    json_t *value = json_string(text);
    return value ? value : json_string("not UTF-8");
}

typedef struct real_field {
    const char *key;
    double value;
} real_field;

typedef struct whole_field {
    const char *key;
    uint64_t value;
} whole_field;

#define PUT_REALS(object, fields, failed)                                                          \
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields)[0]; i++)                                \
    put(object, (fields)[i].key, number((fields)[i].value), failed)
#define PUT_WHOLES(object, fields, failed)                                                         \
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields)[0]; i++)                                \
    put(object, (fields)[i].key, whole((fields)[i].value), failed)

/* ---- parts ----------------------------------------------------------------------------------- */

static json_t *disk_json(const sl_probe_result *probe, bool *failed)
{
    if (!(probe->bytes_per_s > 0.0)) return json_null();
    json_t *o = json_object(), *points = json_array();
    put(o, "io", json_string(sl_io_kind_name(probe->io)), failed);
    put(o, "direct", json_boolean(probe->direct), failed);
    put(o, "split_bytes", whole(probe->split_bytes), failed);
    put(o, "depth", whole(probe->depth), failed);
    put(o, "bytes_per_s", number(probe->bytes_per_s), failed);
    put(o, "best_bytes_per_s", number(probe->best_bytes_per_s), failed);
    put(o, "took_ns", whole(probe->took_ns), failed);
    for (uint32_t i = 0; i < probe->point_count && i < 64; i++) {
        const sl_probe_point *p = &probe->points[i];
        json_t *point = json_pack("{s:s, s:b, s:I, s:I, s:f}", "io", sl_io_kind_name(p->io),
                                  "direct", (int)p->direct, "read_bytes",
                                  (json_int_t)p->read_bytes, "depth", (json_int_t)p->depth,
                                  "bytes_per_s", p->bytes_per_s);
        if (!point || json_array_append_new(points, point) != 0) *failed = true;
    }
    put(o, "points", points, failed);
    return o;
}

static json_t *info_json(const sl_engine_info *info, bool *failed)
{
    json_t *o = json_object();
    const whole_field wholes[] = {
        {"layers", info->layers},
        {"hidden_size", info->hidden_size},
        {"vocab_size", info->vocab_size},
        {"experts", info->experts},
        {"experts_per_token", info->experts_per_token},
        {"trained_experts_per_token", info->trained_experts_per_token},
        {"context_tokens", info->context_tokens},
        {"chunk_tokens", info->chunk_tokens},
        {"threads", info->threads},
        {"memory_bytes", info->memory_bytes},
        {"resident_bytes", info->resident_bytes},
        {"state_bytes", info->state_bytes},
        {"scratch_bytes", info->scratch_bytes},
        {"cache_bytes", info->cache_bytes},
        {"process_bytes", info->process_bytes},
        {"expert_bytes", info->expert_bytes},
        {"experts_bytes", info->experts_bytes},
        {"io_depth", info->io_depth},
        {"io_split_bytes", info->io_split_bytes},
    };
    PUT_WHOLES(o, wholes, failed);
    put(o, "family", json_string(info->family), failed);
    put(o, "cpu_level", json_string(info->cpu_level), failed);
    put(o, "io", json_string(sl_io_kind_name(info->io)), failed);
    put(o, "kv", json_string(sl_kv_type_name(info->kv)), failed);
    put(o, "activations", json_string(info->rounded_to[0] ? info->rounded_to : "f32"), failed);
    put(o, "direct", json_boolean(info->direct), failed);
    put(o, "synthetic", json_boolean(info->synthetic), failed);
    put(o, "expert_types", json_string(info->expert_types), failed);
    put(o, "expert_bits", number(info->expert_bits), failed);
    return o;
}

static json_t *figures_json(const bench_figures *f, bool *failed)
{
    json_t *o = json_object();
    const real_field reals[] = {
        {"prefill_tok_s", f->prefill_tok_s},
        {"prefill_grade", f->prefill_grade},
        {"prefill_again_tok_s", f->prefill_again_tok_s},
        {"prefill_gain", f->prefill_gain},
        {"memory_share", f->memory_share},
        {"prefill_read_bytes", f->prefill_read_bytes},
        {"prefill_wait_share", f->prefill_wait_share},
        {"decode_tok_s", f->decode_tok_s},
        {"token_ns", f->token_ns},
        {"token_p10_ns", f->p10_ns},
        {"token_p50_ns", f->p50_ns},
        {"token_p90_ns", f->p90_ns},
        {"bytes_needed_per_token", f->needed_bytes},
        {"bytes_missing_per_token", f->missing_bytes},
        {"bytes_read_per_token", f->read_bytes},
        {"bytes_wasted_per_token", f->wasted_bytes},
        {"amplification", f->amplification},
        {"hit_rate", f->hit_rate},
        {"join_rate", f->join_rate},
        {"predictability", f->predictability},
        {"reading_bytes_per_s", f->reading_bytes_per_s},
        {"disk_bytes_per_s", f->disk_bytes_per_s},
        {"disk_alone_ns", f->disk_ns},
        {"compute_alone_ns", f->compute_ns},
        {"compute_streaming_ns", f->streaming_ns},
        {"memory_alone_ns", f->memory_ns},
        {"bound_ns", f->bound_ns},
        {"grade", f->grade},
        {"system_share", f->system_share},
        {"user_share", f->user_share},
        {"io_cpu_share", f->io_share},
        {"io_cpu_most_share", f->io_most_share},
        {"wait_share", f->wait_share},
        {"verify_share", f->verify_share},
        {"rss_share_of_budget", f->budget_share},
    };
    PUT_REALS(o, reals, failed);
    put(o, "compute_alone_own", json_boolean(f->compute_own), failed);
    put(o, "bound", isnan(f->bound_ns) ? json_null() : json_string(f->bound), failed);
    return o;
}

/* The counted tokens' differences, as the engine counts. */
static json_t *counters_json(const bench_result *r, bool *failed)
{
    json_t *o = json_object();
    const sl_stats *a = &r->at_warm, *b = &r->at_end;
#define COUNTER(name) {#name, b->name - a->name}
    const whole_field counters[] = {
        COUNTER(tokens),           COUNTER(expert_requests),    COUNTER(expert_hits),
        COUNTER(expert_joins),     COUNTER(expert_misses),      COUNTER(expert_evictions),
        COUNTER(bytes_needed),     COUNTER(bytes_missing),      COUNTER(bytes_read),
        COUNTER(wait_ns),          COUNTER(verify_ns),          COUNTER(forward_ns),
        COUNTER(read_ns),          COUNTER(io_cpu_ns),          COUNTER(prefetch_reads),
        COUNTER(prefetch_useful),  COUNTER(prefetch_late),      COUNTER(prefetch_wasted),
        COUNTER(prefetch_cancelled), COUNTER(prefetch_bytes),   COUNTER(prefetch_wasted_bytes),
        COUNTER(predicted),        COUNTER(predicted_right),    COUNTER(cache_resizes),
    };
#undef COUNTER
    PUT_WHOLES(o, counters, failed);
    put(o, "prefetch_on", json_boolean(b->prefetch_on), failed);
    put(o, "cache_bytes", whole(b->cache_bytes), failed);
    return o;
}

static json_t *pages_json(const bench_pages *pages)
{
    return pages->known ? whole(pages->cached_bytes) : json_null();
}

static json_t *run_json(const bench *b, const bench_result *r, bool *failed)
{
    json_t *o = json_object();
    put(o, "setting", json_string(r->setting->name), failed);
    put(o, "round", whole(r->round), failed);
    put(o, "memory_asked_bytes", whole(r->setting->options.engine.memory_bytes), failed);
    put(o, "complete", json_boolean(r->complete), failed);
    put(o, "refused", r->refused[0] ? message(r->refused) : json_null(), failed);
    if (r->refused[0]) return o;
    const whole_field wholes[] = {
        {"prompt_tokens", r->prompt_tokens}, {"warmup_tokens", r->warmup_tokens},
        {"tokens", r->tokens},               {"open_ns", r->open_ns},
        {"prefill_ns", r->prefill_ns},       {"user_ns", r->user_ns},
        {"system_ns", r->system_ns},         {"rss_peak_bytes", r->rss_peak_bytes},
        {"file_bytes", r->pages_cold.file_bytes},
    };
    PUT_WHOLES(o, wholes, failed);
    put(o, "page_cache_bytes_cold", pages_json(&r->pages_cold), failed);
    put(o, "page_cache_bytes_end", pages_json(&r->pages_end), failed);
    put(o, "cache_filled", json_boolean(r->at_warm.expert_evictions > 0), failed);
    bench_figures f;
    bench_figures_of(b, r, &f);
    put(o, "figures", figures_json(&f, failed), failed);
    put(o, "counters", counters_json(r, failed), failed);
    put(o, "engine", info_json(&r->info, failed), failed);
    json_t *times = json_array();
    for (uint32_t i = 0; i < r->tokens; i++)
        if (json_array_append_new(times, whole(r->token_ns[i])) != 0) *failed = true;
    put(o, "token_ns", times, failed);
    return o;
}

static json_t *spread_json(bench_spread s, bool *failed)
{
    json_t *o = json_object();
    const real_field reals[] = {{"median", s.median}, {"least", s.least}, {"most", s.most}};
    PUT_REALS(o, reals, failed);
    return o;
}

static json_t *summary_json(const bench *b, size_t setting, bool *failed)
{
    json_t *o = json_object();
    const struct {
        const char *key;
        size_t offset;
    } figures[] = {
        {"decode_tok_s", offsetof(bench_figures, decode_tok_s)},
        {"prefill_tok_s", offsetof(bench_figures, prefill_tok_s)},
        {"bytes_read_per_token", offsetof(bench_figures, read_bytes)},
        {"hit_rate", offsetof(bench_figures, hit_rate)},
        {"grade", offsetof(bench_figures, grade)},
    };
    put(o, "setting", json_string(b->settings[setting].name), failed);
    for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++)
        put(o, figures[i].key,
            spread_json(bench_figure_spread(b, setting, figures[i].offset), failed), failed);
    put(o, "decode_ratio",
        spread_json(bench_ratio_spread(b, setting, offsetof(bench_figures, decode_tok_s)), failed),
        failed);
    put(o, "prefill_ratio",
        spread_json(bench_ratio_spread(b, setting, offsetof(bench_figures, prefill_tok_s)), failed),
        failed);
    return o;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* The model's path is left out: it need not be UTF-8, and the caller knows it. */
static json_t *bench_json(const bench *b, bool *failed)
{
    static const char *const kinds[] = {"one", "compare", "sweep"};
    const bench_agreement agreement = bench_agree(b);
    json_t *o = json_object(), *runs = json_array(), *summary = json_array();
    put(o, "version", json_string(sl_version()), failed);
    put(o, "kind", json_string(kinds[b->kind]), failed);
    put(o, "interrupted", json_boolean(b->interrupted), failed);
    put(o, "seed", whole(b->work.seed), failed);
    put(o, "rounds", whole(b->rounds), failed);
    put(o, "prompt_tokens", whole(b->work.prompt_tokens), failed);
    put(o, "warmup_tokens", whole(b->work.warmup_tokens), failed);
    put(o, "tokens", whole(b->work.tokens), failed);
    put(o, "disk_before", disk_json(&b->disk_before, failed), failed);
    put(o, "disk_after", disk_json(&b->disk_after, failed), failed);
    put(o, "memory_bytes_per_s",
        b->memory_bytes_per_s > 0.0 ? number(b->memory_bytes_per_s) : json_null(), failed);
    put(o, "same_ids", json_boolean(agreement.ids), failed);
    put(o, "same_logits", json_boolean(agreement.logits), failed);
    for (size_t i = 0; i < b->result_count; i++)
        if (json_array_append_new(runs, run_json(b, &b->results[i], failed)) != 0) *failed = true;
    for (size_t i = 0; i < b->setting_count; i++)
        if (json_array_append_new(summary, summary_json(b, i, failed)) != 0) *failed = true;
    put(o, "summary", summary, failed);
    put(o, "runs", runs, failed);
    return o;
}

sl_status bench_write_json(const bench *b, const char *path, sl_error *err)
{
    bool failed = false;
    json_t *root = bench_json(b, &failed);
    char *text = failed ? NULL : json_dumps(root, JSON_INDENT(1) | JSON_REAL_PRECISION(9));
    json_decref(root);
    if (!text) return SL_FAIL_NOMEM(err, "JSON");
    sl_status status = SL_OK;
    if (strcmp(path, "-") == 0)
        puts(text);
    else
        status = sl__file_write_atomic(path, text, strlen(text), err);
    free(text);
    return status;
}
