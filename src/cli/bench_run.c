/* One run of a bench; bench_run.h has the picture. */
#include "cli/bench_run.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/hash.h"
#include "base/sysmem.h"

enum { COMPUTE_LOADS = 2, COMPUTE_ROUNDS = 9 };

typedef struct run {
    bench_result *result;
    bench_work *work;
    const bench_setting *setting;
    const char *label;
    sl_engine *engine;
    sl_session *session;
    sl_sampler *sampler;
    uint32_t sampled; /* ids so far */
    int32_t id;       /* the last one */
} run;

/* ---- the work -------------------------------------------------------------------------------- */

/* A number below `bound`, the same for the same seed and index. */
static uint32_t draw(uint64_t seed, uint64_t index, uint32_t bound)
{
    const uint64_t both[2] = {seed, index};
    return (uint32_t)(sl__hash64(both, sizeof both) % bound);
}

sl_status bench_work_prepare(bench_work *work, sl_error *err)
{
    size_t ids = (size_t)work->warmup_tokens + work->tokens;
    uint64_t longest = (uint64_t)work->prompt_tokens + ids;
    work->longest = longest < UINT32_MAX ? (uint32_t)longest : UINT32_MAX;
    if (!work->prompt_given) {
        work->prompt = calloc(work->prompt_tokens, sizeof *work->prompt);
        if (!work->prompt) return SL_FAIL_NOMEM(err, "prompt");
        for (uint32_t i = 0; i < work->prompt_tokens; i++)
            work->prompt[i] = (int32_t)draw(work->seed, i, work->vocab_size);
    }
    work->ids = calloc(ids, sizeof *work->ids);
    work->hashes = calloc(ids, sizeof *work->hashes);
    work->logits = calloc(work->vocab_size, sizeof *work->logits);
    if (!work->ids || !work->hashes || !work->logits) return SL_FAIL_NOMEM(err, "ids");
    /* Resident before an engine is opened, whose budget counts what is there. */
    memset(work->ids, 0xff, ids * sizeof *work->ids);
    memset(work->hashes, 0xff, ids * sizeof *work->hashes);
    memset(work->logits, 0xff, work->vocab_size * sizeof *work->logits);
    return SL_OK;
}

void bench_work_free(bench_work *work)
{
    free(work->prompt);
    free(work->ids);
    free(work->hashes);
    free(work->logits);
}

void bench_result_free(bench_result *result)
{
    free(result->token_ns);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void close_engine(run *r)
{
    sl_sampler_destroy(r->sampler);
    sl_session_destroy(r->session);
    sl_engine_close(r->engine);
    r->sampler = NULL;
    r->session = NULL;
    r->engine = NULL;
}

static sl_status open_engine(run *r, sl_error *err)
{
    bench_result *result = r->result;
    cli_engine_options options = r->setting->options;
    options.engine.expected_tokens = r->work->longest;
    cli_status_line("%s: opening", r->label);
    bench_cold_drop(r->work->model);
    bench_cold_look(r->work->model, &result->pages_cold);
    bool reset = sl__mem_rss_peak_reset();
    uint64_t begin_ns = sl__now_ns();
    SL_TRY(cli_engine_open(&r->engine, &r->session, r->work->model, &options, err));
    result->open_ns = sl__now_ns() - begin_ns;
    result->rss_peak_whole = reset;
    sl_engine_info_get(r->engine, &result->info);
    if (result->info.vocab_size != r->work->vocab_size)
        return SL_FAIL(err, SL_EFORMAT, "%s: changed since the bench began", r->work->model);
    snprintf(result->family, sizeof result->family, "%s", result->info.family);
    result->info.family = result->family;
    result->info.path = NULL;
    if (result->info.context_tokens < r->work->longest)
        return SL_FAIL(err, SL_EINVAL,
                       "%s: the bench runs %" PRIu32 " tokens, the context is %" PRIu32
                       " (--prompt, --warmup and --tokens ask for fewer, --ctx for a longer one)",
                       r->work->model, r->work->longest, result->info.context_tokens);
    sl_sampler_options sampling;
    sl_sampler_options_default(&sampling);
    sampling.temperature = 1.0f;
    sampling.seed = r->work->seed;
    return sl_sampler_create(&r->sampler, r->work->vocab_size, &sampling, err);
}

/* ---- running tokens -------------------------------------------------------------------------- */

static void note_memory(bench_result *result)
{
    uint64_t rss = result->rss_peak_whole ? sl__mem_rss_peak() : sl__mem_rss();
    if (rss > result->rss_peak_bytes) result->rss_peak_bytes = rss;
}

/* Samples the next id from the last logits, and holds both against what the first run had. */
static sl_status sample(run *r, sl_error *err)
{
    bench_work *work = r->work;
    bench_result *result = r->result;
    sl_error why = {0};
    sl_status status = sl_sampler_sample(r->sampler, work->logits, &r->id, &why);
    if (status != SL_OK) return SL_FAIL(err, status, "%s: %s", work->model, why.message);
    uint64_t hash = sl__hash64(work->logits, work->vocab_size * sizeof *work->logits);
    uint32_t at = r->sampled++;
    if (at == work->recorded) {
        work->ids[at] = r->id;
        work->hashes[at] = hash;
        work->recorded++;
    }
    if (r->setting->other_arithmetic) {
        r->id = work->ids[at];
        return SL_OK;
    }
    if (result->ids_differ_at < 0 && work->ids[at] != r->id) result->ids_differ_at = at;
    if (result->logits_differ_at < 0 && work->hashes[at] != hash) result->logits_differ_at = at;
    return SL_OK;
}

/* In pieces of the engine's own chunk, which changes no result and lets Ctrl-C through. */
static sl_status prefill(run *r, sl_error *err)
{
    bench_result *result = r->result;
    const bench_work *work = r->work;
    uint32_t chunk = result->info.chunk_tokens ? result->info.chunk_tokens : work->prompt_tokens;
    sl_engine_stats_get(r->engine, &result->at_start);
    while (result->prompt_tokens < work->prompt_tokens && !cli_interrupted()) {
        uint32_t at = result->prompt_tokens, left = work->prompt_tokens - at;
        uint32_t n = left < chunk ? left : chunk;
        cli_status_line("%s: prefill, %" PRIu32 " of %" PRIu32 " tokens", r->label, at,
                        work->prompt_tokens);
        uint64_t begin_ns = sl__now_ns();
        SL_TRY(sl_session_eval(r->session, work->prompt + at, n, n == left ? work->logits : NULL,
                               NULL, NULL, err));
        result->prefill_ns += sl__now_ns() - begin_ns;
        result->prompt_tokens += n;
        note_memory(result);
    }
    sl_engine_stats_get(r->engine, &result->at_filled);
    result->at_warm = result->at_end = result->at_filled;
    return SL_OK;
}

static bool cache_is_full(const run *r)
{
    sl_stats now;
    sl_engine_stats_get(r->engine, &now);
    return now.expert_evictions > 0;
}

/* How long it takes is found out once: later runs must count the same tokens. */
static sl_status warm_up(run *r, sl_error *err)
{
    bench_result *result = r->result;
    bench_work *work = r->work;
    while (result->warmup_tokens < work->warmup_tokens && !cli_interrupted()) {
        if (!work->warmup_fixed && result->warmup_tokens >= BENCH_WARMUP_LEAST && cache_is_full(r))
            break;
        cli_status_line("%s: warm-up, %" PRIu32 " tokens", r->label, result->warmup_tokens);
        SL_TRY(sample(r, err));
        SL_TRY(sl_session_eval(r->session, &r->id, 1, work->logits, NULL, NULL, err));
        result->warmup_tokens++;
    }
    if (cli_interrupted()) return SL_OK;
    work->warmup_tokens = result->warmup_tokens;
    work->warmup_fixed = true;
    return SL_OK;
}

static uint64_t time_ns(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_usec * 1000u;
}

/* Only the forward passes are timed; sampling and looking at memory lie between them. */
static sl_status count_tokens(run *r, sl_error *err)
{
    bench_result *result = r->result;
    const bench_work *work = r->work;
    uint64_t sum_ns = 0;
    sl_engine_stats_get(r->engine, &result->at_warm);
    result->at_end = result->at_warm;
    while (result->tokens < work->tokens && !cli_interrupted()) {
        SL_TRY(sample(r, err));
        cli_status_line("%s: decode, %" PRIu32 " of %" PRIu32 " tokens, %.2f tok/s", r->label,
                        result->tokens, work->tokens,
                        sum_ns ? result->tokens * 1e9 / (double)sum_ns : 0.0);
        struct rusage before, after;
        getrusage(RUSAGE_SELF, &before);
        uint64_t begin_ns = sl__now_ns();
        SL_TRY(sl_session_eval(r->session, &r->id, 1, work->logits, NULL, NULL, err));
        uint64_t took_ns = sl__now_ns() - begin_ns;
        getrusage(RUSAGE_SELF, &after);
        result->token_ns[result->tokens++] = took_ns;
        result->user_ns += time_ns(after.ru_utime) - time_ns(before.ru_utime);
        result->system_ns += time_ns(after.ru_stime) - time_ns(before.ru_stime);
        sum_ns += took_ns;
        note_memory(result);
        sl_engine_stats_get(r->engine, &result->at_end);
    }
    return SL_OK;
}

/* ---- without waiting ------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* The last token as the first of a sequence, again and again: after the first times its experts are
 * in memory, where the cache has room for one token's. Only times in which nothing was read and
 * nothing was waited for count. */
static sl_status compute_alone(run *r, sl_error *err)
{
    uint64_t times[COMPUTE_ROUNDS];
    size_t count = 0;
    cli_status_line("%s: without waiting", r->label);
    for (int i = 0; i < COMPUTE_LOADS + COMPUTE_ROUNDS && !cli_interrupted(); i++) {
        sl_stats before, after;
        sl_session_reset(r->session);
        sl_engine_stats_get(r->engine, &before);
        uint64_t begin_ns = sl__now_ns();
        SL_TRY(sl_session_eval(r->session, &r->id, 1, r->work->logits, NULL, NULL, err));
        uint64_t took_ns = sl__now_ns() - begin_ns;
        sl_engine_stats_get(r->engine, &after);
        bool all_there = after.expert_misses == before.expert_misses &&
                         after.expert_joins == before.expert_joins &&
                         after.bytes_missing == before.bytes_missing;
        if (i >= COMPUTE_LOADS && all_there) times[count++] = took_ns;
    }
    if (count <= COMPUTE_ROUNDS / 2) return SL_OK;
    qsort(times, count, sizeof times[0], by_value);
    r->result->compute_ns = times[count / 2];
    return SL_OK;
}

/* The prompt a second time, where the cache never had to give anything up: no reads, and no memory
 * that is touched for the first time. */
static sl_status prefill_again(run *r, sl_error *err)
{
    const bench_work *work = r->work;
    sl_stats before, after;
    sl_engine_stats_get(r->engine, &before);
    if (before.expert_evictions > 0 || work->prompt_tokens < 2) return SL_OK;
    cli_status_line("%s: the prompt again", r->label);
    sl_session_reset(r->session);
    uint64_t begin_ns = sl__now_ns();
    SL_TRY(sl_session_eval(r->session, work->prompt, work->prompt_tokens, work->logits, NULL, NULL,
                           err));
    uint64_t took_ns = sl__now_ns() - begin_ns;
    sl_engine_stats_get(r->engine, &after);
    if (after.bytes_missing == before.bytes_missing) r->result->prefill_again_ns = took_ns;
    return SL_OK;
}

/* ---- a run ----------------------------------------------------------------------------------- */

/* A synthetic model's routing goes from token to token as its dials say; ids drawn at random would
 * not meet it as a text does. So it writes its own prompt, once, and is opened anew. */
static sl_status sample_prompt(run *r, sl_error *err)
{
    bench_work *work = r->work;
    for (uint32_t i = 1; i < work->prompt_tokens && !cli_interrupted(); i++) {
        cli_status_line("%s: the model writes the prompt, %" PRIu32 " of %" PRIu32 " tokens",
                        r->label, i, work->prompt_tokens);
        SL_TRY(sl_session_eval(r->session, work->prompt + i - 1, 1, work->logits, NULL, NULL,
                               err));
        SL_TRY(sl_sampler_sample(r->sampler, work->logits, &work->prompt[i], err));
    }
    work->prompt_sampled = true;
    close_engine(r);
    return open_engine(r, err);
}

static sl_status run_phases(run *r, sl_error *err)
{
    bench_result *result = r->result;
    SL_TRY(open_engine(r, err));
    if (result->info.synthetic && !r->work->prompt_given && !r->work->prompt_sampled)
        SL_TRY(sample_prompt(r, err));
    SL_TRY(prefill(r, err));
    if (result->prompt_tokens < r->work->prompt_tokens) return SL_OK;
    SL_TRY(warm_up(r, err));
    SL_TRY(count_tokens(r, err));
    bench_cold_look(r->work->model, &result->pages_end);
    if (!cli_interrupted()) SL_TRY(compute_alone(r, err));
    if (!cli_interrupted()) SL_TRY(prefill_again(r, err));
    result->complete = !cli_interrupted();
    return SL_OK;
}

sl_status bench_run(bench_result *result, bench_work *work, const bench_setting *setting,
                    const char *label, sl_error *err)
{
    *result = (bench_result){.setting = setting, .ids_differ_at = -1, .logits_differ_at = -1};
    result->token_ns = calloc(work->tokens, sizeof *result->token_ns);
    if (!result->token_ns) return SL_FAIL_NOMEM(err, "times");
    run r = {.result = result, .work = work, .setting = setting, .label = label};
    sl_error why = {0};
    sl_status status = run_phases(&r, &why);
    close_engine(&r);
    cli_status_clear();
    if (status == SL_EBUDGET) {
        snprintf(result->refused, sizeof result->refused, "%s", why.message);
        return SL_OK;
    }
    return status == SL_OK ? SL_OK : SL_FAIL(err, status, "%s", why.message);
}
