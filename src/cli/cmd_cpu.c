/* sluice cpu: what the processor has, and which kernels run on it. */
#include <inttypes.h>
#include <string.h>

#include "cli/cli.h"

#define MEMORY_NS UINT64_C(300000000)

static const char *cache_size(char out[CLI_FIGURE], uint64_t bytes)
{
    return bytes ? cli_size(out, bytes) : "unknown";
}

static void print_levels(const sl_cpu_info *cpu)
{
    putchar('\n');
    for (uint32_t i = 0; sl_cpu_level_name(i); i++) {
        const char *name = sl_cpu_level_name(i);
        bool runs = cpu->levels >> i & 1;
        cli_row(stdout, i == 0 ? "levels" : "", "%-12s %s", name,
                !runs ? "not here" : strcmp(name, cpu->level) == 0 ? "chosen" : "runs here");
    }
}

static void print_memory(uint32_t threads)
{
    char size[CLI_FIGURE];
    cli_status_line("measuring memory");
    double bytes_per_s = sl_probe_memory(threads, MEMORY_NS);
    cli_status_clear();
    cli_row(stdout, "memory", "%s%s, %" PRIu32 " thread%s",
            bytes_per_s > 0.0 ? cli_size(size, (uint64_t)bytes_per_s) : "not measured",
            bytes_per_s > 0.0 ? "/s" : "", threads, threads == 1 ? "" : "s");
}

static int run_command(const cli_call *call)
{
    bool bench = false;
    const cli_option options[] = {
        {0, "bench", NULL, CLI_FLAG, &bench, 0, 0, NULL,
         "measure how fast memory is read, by one thread and by all", NULL},
    };
    const cli_group groups[] = {{NULL, options, sizeof options / sizeof options[0]}};
    int code;
    if (!cli_parse(call, groups, 1, NULL, &code)) return code;

    sl_cpu_info cpu;
    char l1[CLI_FIGURE], l2[CLI_FIGURE], l3[CLI_FIGURE];
    sl_cpu_info_get(&cpu);
    printf("%s\n", cpu.brand[0] ? cpu.brand : "a processor without a name");
    cli_row(stdout, "cores", "%" PRIu32 " usable", cpu.cores);
    cli_row(stdout, "caches", "L1 %s of data, L2 %s, L3 %s", cache_size(l1, cpu.l1_data_bytes),
            cache_size(l2, cpu.l2_bytes), cache_size(l3, cpu.l3_bytes));
    cli_row(stdout, "features", "%s", cpu.features[0] ? cpu.features : "none that kernels use");
    print_levels(&cpu);
    if (!bench) return CLI_OK;
    putchar('\n');
    print_memory(1);
    if (cpu.cores > 1) print_memory(cpu.cores);
    return CLI_OK;
}

const cli_command cli_cmd_cpu = {
    .name = "cpu",
    .args = "[--bench]",
    .summary = "Say what the processor has, and which kernels run on it",
    .details = "A level is a set of kernels; the highest that runs and is no slower than the one\n"
               "below is chosen. --cpu-mask LEVEL, of the commands that run a model, pins one.\n",
    .run = run_command,
};
