/* Figures for people: binary units, durations, tables. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

#include "cli/cli.h"

const char *cli_size(char out[CLI_FIGURE], uint64_t bytes)
{
    static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) {
        snprintf(out, CLI_FIGURE, "%" PRIu64 " B", bytes);
        return out;
    }
    double value = (double)bytes / 1024.0;
    size_t unit = 0;
    while (value >= 1023.95 && unit + 1 < sizeof units / sizeof units[0]) {
        value /= 1024.0;
        unit++;
    }
    snprintf(out, CLI_FIGURE, "%.1f %s", value, units[unit]);
    return out;
}

const char *cli_duration(char out[CLI_FIGURE], double seconds)
{
    if (!(seconds >= 0.0)) seconds = 0.0;
    if (seconds > 359999.0) seconds = 359999.0; /* 99:59:59 */
    unsigned whole = (unsigned)(seconds + 0.5);
    unsigned h = whole / 3600, m = whole / 60 % 60, s = whole % 60;
    if (h)
        snprintf(out, CLI_FIGURE, "%u:%02u:%02u", h, m, s);
    else
        snprintf(out, CLI_FIGURE, "%u:%02u", m, s);
    return out;
}

const char *cli_quantity(char out[CLI_FIGURE], uint64_t count)
{
    double value = (double)count;
    if (value >= 999.95e6)
        snprintf(out, CLI_FIGURE, "%.1f billion", value / 1e9);
    else if (value >= 999.95e3)
        snprintf(out, CLI_FIGURE, "%.1f million", value / 1e6);
    else
        snprintf(out, CLI_FIGURE, "%" PRIu64, count);
    return out;
}

const char *cli_exact(char out[CLI_FIGURE], double x)
{
    for (int digits = 6; digits <= 17; digits++) {
        snprintf(out, CLI_FIGURE, "%.*g", digits, x);
        if (strtod(out, NULL) == x) break;
    }
    return out;
}

void cli_row(FILE *to, const char *label, const char *fmt, ...)
{
    fprintf(to, "  %-18s ", label);
    va_list args;
    va_start(args, fmt);
    vfprintf(to, fmt, args);
    va_end(args);
    putc('\n', to);
}

double cli_expert_bits(const sl_model_info *info)
{
    double weights = 3.0 * (double)info->hidden_size * (double)info->expert_intermediate_size;
    return weights > 0.0 ? (double)info->expert_bytes * 8.0 / weights : 0.0;
}

const char *cli_lossy(char out[128], const sl_engine_info *info)
{
    out[0] = '\0';
    if (info->experts_per_token < info->trained_experts_per_token)
        snprintf(out, 128, "LOSSY: %u of %u experts a token, cost in quality not measured",
                 info->experts_per_token, info->trained_experts_per_token);
    return out;
}
