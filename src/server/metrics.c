/* Figures, each with its name, kind and meaning in one table. */
#include "server/metrics.h"

#include <inttypes.h>

#include "base/sysmem.h"

typedef struct figure {
    const char *name, *kind, *help;
    double value;
} figure;

#define FIGURES_MAX 40u

static double seconds(uint64_t ns)
{
    return (double)ns / 1e9;
}

static unsigned gather(const scheduler_figures *f, figure out[FIGURES_MAX])
{
    const sl_stats *e = &f->engine;
    const figure all[] = {
        {"requests_waiting", "gauge", "Requests in the queue", f->waiting},
        {"requests_active", "gauge", "Requests that are answered", f->active},
        {"requests_done_total", "counter", "Requests answered", (double)f->jobs_done},
        {"requests_failed_total", "counter", "Requests that failed", (double)f->jobs_failed},
        {"requests_cancelled_total", "counter", "Requests whose client left",
         (double)f->jobs_cancelled},
        {"requests_refused_total", "counter", "Requests refused as the queue was full",
         (double)f->jobs_refused},
        {"prompt_tokens_total", "counter", "Tokens of prompts that were evaluated",
         (double)f->prompt_tokens},
        {"cached_tokens_total", "counter", "Tokens of prompts that were kept from before",
         (double)f->cached_tokens},
        {"answer_tokens_total", "counter", "Tokens generated", (double)f->answer_tokens},
        {"answer_tokens_per_second", "gauge", "Tokens generated a second, lately",
         f->answer_tokens_per_s},
        {"prompt_seconds_total", "counter", "Time in prompts", seconds(f->prompt_ns)},
        {"answer_seconds_total", "counter", "Time in answers", seconds(f->answer_ns)},
        {"passes_total", "counter", "Passes through the model", (double)f->passes},
        {"expert_requests_total", "counter", "Experts asked of the cache",
         (double)e->expert_requests},
        {"expert_hits_total", "counter", "Experts that were in memory", (double)e->expert_hits},
        {"expert_misses_total", "counter", "Experts that had to be read", (double)e->expert_misses},
        {"read_bytes_total", "counter", "Bytes read from files", (double)e->bytes_read},
        {"read_seconds_total", "counter", "Time in which something was read", seconds(e->read_ns)},
        {"wait_seconds_total", "counter", "Time in which computing waited for reads",
         seconds(e->wait_ns)},
        {"cache_bytes", "gauge", "What the expert cache may hold", (double)e->cache_bytes},
        {"memory_budget_bytes", "gauge", "The memory budget", (double)f->info.memory_bytes},
        {"memory_resident_bytes", "gauge", "What the process holds", (double)sl__mem_rss()},
    };
    const unsigned count = sizeof all / sizeof all[0];
    _Static_assert(sizeof all / sizeof all[0] <= FIGURES_MAX, "all fit");
    for (unsigned i = 0; i < count; i++)
        out[i] = all[i];
    return count;
}

void metrics_write(sl__buffer *out, const scheduler_figures *figures)
{
    figure all[FIGURES_MAX];
    unsigned count = gather(figures, all);
    for (unsigned i = 0; i < count; i++) {
        const figure *f = &all[i];
        sl__buffer_printf(out, "# HELP sluice_%s %s.\n# TYPE sluice_%s %s\nsluice_%s %.17g\n",
                          f->name, f->help, f->name, f->kind, f->name, f->value);
    }
}

json_t *metrics_json(const scheduler_figures *figures)
{
    figure all[FIGURES_MAX];
    unsigned count = gather(figures, all);
    json_t *out = json_object();
    const sl_engine_info *info = &figures->info;
    for (unsigned i = 0; i < count; i++)
        json_object_set_new(out, all[i].name, json_real(all[i].value));
    json_object_set_new(out, "parallel", json_integer(figures->parallel));
    json_object_set_new(out, "context_tokens", json_integer(info->context_tokens));
    json_object_set_new(out, "experts", json_integer(info->experts));
    json_object_set_new(out, "experts_per_token", json_integer(info->experts_per_token));
    return out;
}
