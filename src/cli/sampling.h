/* The options of sampling, of the commands that write text. */
#ifndef SL_CLI_SAMPLING_H
#define SL_CLI_SAMPLING_H

#include <jansson.h>

#include "cli/cli.h"

enum { CLI_SAMPLING_OPTIONS = 9 };
#define CLI_SAMPLING_TITLE "sampling (where not given: as the model's generation_config.json says)"

typedef struct cli_sampling {
    sl_sampler_options values;
    /* given: */
    bool temperature, top_k, top_p, min_p, repetition, presence, frequency, seed, greedy;
} cli_sampling;

/* The table for cli_parse; what is read goes into *s. */
void cli_sampling_table(cli_option table[CLI_SAMPLING_OPTIONS], cli_sampling *s);

/* What generation_config.json asks for, overridden by what the command line asks for. */
sl_sampler_options cli_sampling_resolve(const sl_sampler_options *defaults, const cli_sampling *s);

/* What was given, as a JSON object by the options' names ("top-k"). New reference; NULL: no
 * memory. */
json_t *cli_sampling_save(const cli_sampling *s);
/* Takes what such an object holds and was not given already. path is for messages. On failure *s is
 * as it was. */
sl_status cli_sampling_load(cli_sampling *s, const json_t *object, const char *path, sl_error *err);

#endif
