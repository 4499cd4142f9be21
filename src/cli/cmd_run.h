/* What a run measured, and how it is shown. */
#ifndef SL_CLI_CMD_RUN_H
#define SL_CLI_CMD_RUN_H

#include "cli/cli.h"

typedef enum run_stop {
    RUN_STOP_LIMIT = 0, /* as many tokens as were asked for */
    RUN_STOP_END,       /* an end token */
    RUN_STOP_CONTEXT,
    RUN_STOP_COMPLETE, /* --json, --json-schema: nothing can follow */
    RUN_STOP_INTERRUPTED,
} run_stop;

typedef struct run_report {
    const char *model;
    sl_engine_info info;
    sl_sampler_options sampling;
    sl_stats at_start, at_prefilled, at_end;
    size_t prompt_tokens; /* that went through */
    uint32_t generated_tokens;
    uint32_t decoded_tokens; /* forward passes of one token: one less than generated */
    uint64_t load_ns, prefill_ns, decode_ns, first_token_ns; /* first token 0: there was none */
    uint64_t rss_seen_bytes;                                 /* the highest that was looked at */
    run_stop stop;
    bool constrained;        /* by --json or --json-schema */
    bool shortened;          /* the JSON, to come to its end within the limit or the context */
    bool cut;                /* the JSON is not whole */
    uint64_t constrain_ns;   /* choosing and noting which tokens may come */
} run_report;

void run_report_print(const run_report *report, FILE *to);

#endif
