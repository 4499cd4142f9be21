/* One run of a bench: a model opened cold under one setting, filled, warmed, and timed.
 *
 *     drop ─ open ─ prefill ─ warm-up ─ counted tokens ─ the same token again, experts in memory
 *                   at_start  at_filled at_warm          at_end
 *
 * All runs of a bench do the same work: the first one samples the ids from its logits (temperature
 * 1, fixed seed), the others must sample the same, and their logits must be the same bit for bit.
 * A setting with other arithmetic is given the first one's ids and not held against it.
 */
#ifndef SL_CLI_BENCH_RUN_H
#define SL_CLI_BENCH_RUN_H

#include "cli/bench_cold.h"
#include "cli/cli.h"

enum { BENCH_WARMUP_LEAST = 8, BENCH_WARMUP_MOST = 64 }; /* where --warmup is not given */

/* What every run of a bench does. */
typedef struct bench_work {
    const char *model;
    uint32_t tokens;        /* counted */
    uint32_t warmup_tokens; /* before them; where not fixed: at most, until the first run knows */
    bool warmup_fixed;
    uint32_t prompt_tokens;
    uint32_t longest;       /* sequence, the same for all runs; set by prepare */
    bool prompt_given;      /* else drawn by seed, or sampled by a synthetic model */
    bool prompt_sampled;
    uint64_t seed;
    uint32_t vocab_size;
    int32_t *prompt;        /* [prompt_tokens] */
    int32_t *ids;           /* [warmup_tokens + tokens], sampled by the first run */
    uint64_t *hashes;       /* the same shape, of the logits that each was sampled from */
    uint32_t recorded;      /* how many of them there are */
    float *logits;          /* [vocab_size] */
} bench_work;

/* Allocates what the counts and vocab_size of work ask for; the prompt is filled by seed unless it
 * was given, in which case work->prompt is taken over. bench_work_free after a failure too. */
sl_status bench_work_prepare(bench_work *work, sl_error *err);
void bench_work_free(bench_work *work);

typedef struct bench_setting {
    char *name;  /* "as asked for", "io=mmap,direct=off", "4.0 GiB"; owned */
    char *words; /* what the choices of options may point into; owned, may be NULL */
    cli_engine_options options;
    bool other_arithmetic; /* than the first setting's: kv, activations or the CPU's level */
} bench_setting;

typedef struct bench_result {
    const bench_setting *setting; /* borrowed */
    uint32_t round;
    char refused[1024];           /* why it does not open; "": it does */
    bool complete;                /* false: Ctrl-C came; what is below is as far as it got */
    sl_engine_info info;          /* its strings point into this struct or are NULL */
    char family[64];
    sl_stats at_start, at_filled, at_warm, at_end;
    uint64_t open_ns, prefill_ns;
    uint32_t prompt_tokens, warmup_tokens, tokens; /* that went through */
    uint64_t *token_ns;           /* [tokens], of the counted ones; owned */
    uint64_t user_ns, system_ns;  /* processor time of the process during those */
    uint64_t compute_ns;          /* a token with all its experts in memory; 0: not measured */
    uint64_t prefill_again_ns;    /* the prompt again, all its experts in memory; 0: likewise */
    uint64_t rss_peak_bytes;
    bool rss_peak_whole;          /* false: the peak is of samples, one a token */
    bench_pages pages_cold, pages_end; /* before opening; after the counted tokens */
    int64_t ids_differ_at, logits_differ_at; /* from the first run's; -1: nowhere */
} bench_result;

/* Runs one setting; label is for the status line. A model that does not fit into the setting's
 * budget is no failure, but `refused`; neither is Ctrl-C. result is freed with bench_result_free
 * after a failure too. */
sl_status bench_run(bench_result *result, bench_work *work, const bench_setting *setting,
                    const char *label, sl_error *err);
void bench_result_free(bench_result *result);

#endif
