/* The settings of a bench, from lists on the command line.
 *
 *     --compare "io=pread;io=pread,direct=off;prefetch=off"
 *                ───┬────                     a setting: options of the model as the command line
 *                   └ "--io pread"            has them, laid over what else was asked for
 */
#include <stdlib.h>
#include <string.h>

#include "base/sysmem.h"
#include "cli/bench_report.h"

enum { SETTINGS_MAX = 32, WORDS_MAX = 16 };

static bool refuse_memory(void)
{
    cli_fail("out of memory (settings)");
    return false;
}

/* Adds a setting; the list grows one by one, for it is short. */
static bench_setting *add(bench *b, const char *name, size_t name_size,
                          const cli_engine_options *options)
{
    bench_setting *grown = realloc(b->settings, (b->setting_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    b->settings = grown;
    bench_setting *setting = &grown[b->setting_count];
    *setting = (bench_setting){.name = strndup(name, name_size), .options = *options};
    if (!setting->name) return NULL;
    b->setting_count++;
    return setting;
}

bool bench_settings_one(bench *b, const cli_engine_options *base)
{
    static const char name[] = "as asked for";
    return add(b, name, sizeof name - 1, base) || refuse_memory();
}

void bench_settings_free(bench *b)
{
    for (size_t i = 0; i < b->setting_count; i++) {
        free(b->settings[i].name);
        free(b->settings[i].words);
    }
    free(b->settings);
}

/* ---- compare --------------------------------------------------------------------------------- */

/* "io=pread,direct=off" as arguments, "--io=pread" and "--direct=off", one after the other in
 * `words`, which has room for two characters more a word. False: a message was printed. */
static bool split_words(const cli_call *call, const char *text, size_t size, char *words,
                        char *argv[WORDS_MAX], int *argc)
{
    const char *end = text + size;
    for (const char *at = text; at <= end;) {
        size_t length = strcspn(at, ",;");
        const char *equals = memchr(at, '=', length);
        if (*argc == WORDS_MAX) {
            cli_usage(call->command, "--compare: more than %d options in a setting", WORDS_MAX);
            return false;
        }
        if (!equals || equals == at || at[0] == '-') {
            cli_usage(call->command,
                      "--compare takes settings such as io=pread,direct=off; '%.*s' is not "
                      "NAME=VALUE",
                      (int)(length < 60 ? length : 60), at);
            return false;
        }
        argv[(*argc)++] = words;
        words += sprintf(words, "--%.*s", (int)length, at) + 1;
        at += length + 1;
    }
    return true;
}

static bool same_text(const char *a, const char *b)
{
    return (!a && !b) || (a && b && strcmp(a, b) == 0);
}

static bool same_arithmetic(const cli_engine_options *a, const cli_engine_options *b)
{
    return same_text(a->kv, b->kv) && same_text(a->activations, b->activations) &&
           a->exact == b->exact && same_text(a->engine.cpu_level, b->engine.cpu_level);
}

/* Lays the options that the words name over the setting's. */
static bool read_options(const cli_call *call, bench_setting *setting, int argc, char **argv)
{
    cli_option table[CLI_ENGINE_OPTIONS];
    const cli_engine_options base = setting->options;
    cli_engine_table(table, &setting->options);
    const cli_group group = {NULL, table, CLI_ENGINE_OPTIONS};
    cli_call own = {.command = call->command, .program = call->program, .argc = argc, .argv = argv};
    const char *args[1];
    int code;
    if (!cli_parse(&own, &group, 1, args, &code)) return false;
    setting->other_arithmetic = !same_arithmetic(&base, &setting->options);
    if (setting->options.engine.experts_per_token == base.engine.experts_per_token) return true;
    cli_usage(call->command, "--compare: experts-per-token makes another model of it; it can only "
                             "be given to the whole bench");
    return false;
}

static bool add_compared(bench *b, const cli_call *call, const cli_engine_options *base,
                         const char *text, size_t size)
{
    char *argv[WORDS_MAX];
    int argc = 0;
    bench_setting *setting = add(b, text, size, base);
    if (setting) setting->words = malloc(size + 2 * WORDS_MAX + 2);
    if (!setting || !setting->words) return refuse_memory();
    return split_words(call, text, size, setting->words, argv, &argc) &&
           read_options(call, setting, argc, argv);
}

bool bench_settings_compare(bench *b, const cli_call *call, const cli_engine_options *base,
                            const char *list)
{
    if (!bench_settings_one(b, base)) return false;
    for (const char *at = list;;) {
        size_t size = strcspn(at, ";");
        if (size == 0) {
            cli_usage(call->command, "--compare takes settings with ';' between them, none empty");
            return false;
        }
        if (b->setting_count == SETTINGS_MAX) {
            cli_usage(call->command, "--compare takes at most %d settings", SETTINGS_MAX - 1);
            return false;
        }
        if (!add_compared(b, call, base, at, size)) return false;
        if (at[size] == '\0') return true;
        at += size + 1;
    }
}

/* ---- sweep ----------------------------------------------------------------------------------- */

static int larger_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

static bool read_sizes(const cli_call *call, const char *list, uint64_t sizes[SETTINGS_MAX],
                       size_t *count)
{
    for (const char *at = list;;) {
        char word[32] = "";
        size_t size = strcspn(at, ",");
        if (size < sizeof word) memcpy(word, at, size);
        if (*count == SETTINGS_MAX || !sl__parse_size(word, &sizes[*count]) ||
            sizes[*count] == 0) {
            if (*count == SETTINGS_MAX)
                cli_usage(call->command, "--sweep-memory takes at most %d sizes", SETTINGS_MAX);
            else
                cli_usage(call->command, "--sweep-memory takes sizes such as 4G,6G,8G, not '%.*s'",
                          (int)(size < 40 ? size : 40), at);
            return false;
        }
        (*count)++;
        if (at[size] == '\0') return true;
        at += size + 1;
    }
}

bool bench_settings_sweep(bench *b, const cli_call *call, const cli_engine_options *base,
                          const char *list)
{
    uint64_t sizes[SETTINGS_MAX];
    size_t count = 0;
    if (!read_sizes(call, list, sizes, &count)) return false;
    /* The largest cache takes the longest to fill, and the first run decides how long that may
     * take. */
    qsort(sizes, count, sizeof sizes[0], larger_first);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && sizes[i] == sizes[i - 1]) continue;
        char name[CLI_FIGURE];
        cli_engine_options options = *base;
        options.engine.memory_bytes = sizes[i];
        cli_size(name, sizes[i]);
        if (!add(b, name, strlen(name), &options)) return refuse_memory();
    }
    return true;
}
