/* How a model routes, for people: beside the dials where it is a synthetic one. */
#include <inttypes.h>
#include <math.h>

#include "cli/cli.h"

/* "25.3 %  (dial: 25.0 %)" */
static void print_fraction(const char *label, double value, bool dial, double asked)
{
    if (isnan(value)) cli_row(stdout, label, "-");
    else if (dial) cli_row(stdout, label, "%.1f %% (dial: %.1f %%)", 100 * value, 100 * asked);
    else cli_row(stdout, label, "%.1f %%", 100 * value);
}

sl_status cli_measure_routing(const char *path, uint32_t tokens, sl_error *err)
{
    cli_engine_options opt = {.engine = {.expected_tokens = tokens}};
    sl_model_info info;
    sl_engine *engine = NULL;
    sl_session *session = NULL;
    sl_routing_measured measured;
    sl_status status = sl_model_inspect(path, &info, err);
    if (status == SL_OK) status = cli_engine_open(&engine, &session, path, &opt, err);
    cli_status_line("measuring over %" PRIu32 " tokens", tokens);
    if (status == SL_OK) status = sl_measure_routing(session, tokens, &measured, err);
    cli_status_clear();
    if (status == SL_OK) {
        bool dials = info.synthetic;
        printf("\nrouting, over %" PRIu64 " tokens\n", measured.tokens);
        print_fraction("as a token before", measured.overlap, dials, info.synthetic_overlap);
        print_fraction("foretold", measured.predictable, dials, info.synthetic_predictable);
    }
    sl_session_destroy(session);
    sl_engine_close(engine);
    return status;
}
