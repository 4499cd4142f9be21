/* What a bench measured, and how it is shown: tables, JSON, a plot. */
#ifndef SL_CLI_BENCH_REPORT_H
#define SL_CLI_BENCH_REPORT_H

#include "cli/bench_run.h"

typedef enum bench_kind { BENCH_ONE = 0, BENCH_COMPARE, BENCH_SWEEP } bench_kind;

typedef struct bench {
    bench_kind kind;
    bench_work work;
    sl_model_info model;
    bench_setting *settings;  /* [setting_count], owned */
    size_t setting_count;
    uint32_t rounds;
    bench_result *results;    /* [result_count], in the order of running, owned */
    size_t result_count;
    sl_probe_result disk_before, disk_after; /* bytes_per_s 0: not measured */
    sl_error disk_error;      /* why not */
    double memory_bytes_per_s; /* 0: not measured */
    uint32_t memory_threads;
    bool interrupted;
} bench;

/* ---- figures --------------------------------------------------------------------------------- */

/* Of one run. NaN: not measured. "A token" is one of the counted ones. */
typedef struct bench_figures {
    double prefill_tok_s, prefill_read_bytes, prefill_wait_share;
    double prefill_grade;   /* over the larger of reading and computing alone */
    double prefill_again_tok_s; /* all experts in memory; NaN: the cache had no room */
    double prefill_gain;    /* the same over decode, both without waiting */
    double memory_share;    /* of memory's speed, computing alone */
    double decode_tok_s;                /* tokens over the time of all of them */
    double token_ns, p10_ns, p50_ns, p90_ns; /* token_ns: the mean */
    double needed_bytes, missing_bytes, read_bytes, wasted_bytes; /* a token */
    double amplification;               /* read over missing */
    double hit_rate, join_rate;
    double predictability;
    double reading_bytes_per_s;         /* while at least one read was in flight */
    double disk_bytes_per_s;            /* the best that the probes saw */
    double disk_ns;                     /* a token, the disk alone at its best */
    double compute_ns;                  /* a token, nothing to wait for; of all runs like this */
    bool compute_own;                   /* false: this run's cache had no room to measure it */
    double streaming_ns;                /* a token, the forward pass less its waiting */
    double memory_ns;                   /* a token, its weights once from memory at full speed */
    double bound_ns;                    /* the larger of disk and compute alone */
    const char *bound;                  /* which that is */
    double grade;                       /* token_ns over bound_ns */
    double system_share, user_share, io_share; /* processor time over time; 1: one core */
    double io_most_share;               /* system and io, which overlap: at most this */
    double wait_share, verify_share;    /* of the forward passes */
    double budget_share;                /* the most that was resident over the budget */
} bench_figures;

void bench_figures_of(const bench *b, const bench_result *r, bench_figures *f);

/* Of a figure over rounds. count 0: NaN all. */
typedef struct bench_spread {
    double median, least, most;
    size_t count;
} bench_spread;

bench_spread bench_spread_of(double *values, size_t count); /* sorts values; passes over NaN */

/* Of a setting's complete rounds: a figure that is chosen by its offset in bench_figures, and its
 * ratio to the first setting's of the same round. */
bench_spread bench_figure_spread(const bench *b, size_t setting, size_t figure_offset);
bench_spread bench_ratio_spread(const bench *b, size_t setting, size_t figure_offset);

/* The run of a setting that stands for it: the one in the middle of decode's speeds, else the last
 * that opened, else the last; NULL where none was made. */
const bench_result *bench_typical(const bench *b, size_t setting);

double bench_disk_best(const bench *b); /* bytes a second; 0: not measured */

/* Where all runs agree. */
typedef struct bench_agreement {
    bool ids, logits;
    size_t runs;                /* that were compared */
    size_t others; /* with other arithmetic */
    const bench_result *differs; /* the first that does; NULL: none */
} bench_agreement;
bench_agreement bench_agree(const bench *b);

/* ---- showing --------------------------------------------------------------------------------- */

void bench_print(const bench *b, FILE *to);
sl_status bench_write_json(const bench *b, const char *path, sl_error *err); /* "-": stdout */
sl_status bench_write_plot(const bench *b, const char *path, sl_error *err); /* of a sweep */

/* ---- settings (bench_settings.c) ------------------------------------------------------------- */

/* "io=mmap;prefetch=off;io=pread,direct=off": the settings to compare with `base`, which comes
 * first. False: a message was printed. */
bool bench_settings_compare(bench *b, const cli_call *call, const cli_engine_options *base,
                            const char *list);
/* "4G,6G,8G": budgets, largest first. */
bool bench_settings_sweep(bench *b, const cli_call *call, const cli_engine_options *base,
                          const char *list);
bool bench_settings_one(bench *b, const cli_engine_options *base);
void bench_settings_free(bench *b);

#endif
