/* The model of a command: its options, opening it, and where the demo lies. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "base/file.h"
#include "cli/cli.h"

void cli_engine_table(cli_option table[CLI_ENGINE_OPTIONS], cli_engine_options *opt)
{
    sl_engine_options *e = &opt->engine;
    const cli_option options[] = {
        {0, "memory", "SIZE", CLI_SIZE, &e->memory_bytes, 0, 0, NULL,
         "resident bytes of the whole process at most (default: what is free)", NULL},
        {0, "cache", "SIZE", CLI_SIZE, &e->cache_bytes, 0, 0, NULL,
         "the expert cache alone (default: what --memory leaves)", NULL},
        {0, "threads", "N", CLI_U32, &e->threads, 1, 1024, "a number from 1 to 1024",
         "compute threads (default: one a core)", NULL},
        {0, "cpu-mask", "LEVEL", CLI_TEXT, &e->cpu_level, 0, 0, NULL,
         "the level of kernels, of 'sluice cpu' (default: the highest here)", NULL},
        {0, "io", "auto|uring|pread|mmap", CLI_CHOICE, &opt->io, 0, 0, NULL,
         "how experts are read (default: auto, as the disk was measured)", NULL},
        {0, "direct", "auto|on|off", CLI_CHOICE, &opt->direct, 0, 0, NULL,
         "read past the system's page cache (default: auto)", NULL},
        {0, "io-depth", "N", CLI_U32, &e->io_depth, 1, 1024, "a number from 1 to 1024",
         "pieces read at a time (default: as the disk was measured)", NULL},
        {0, "map-advice", "normal|random|willneed", CLI_CHOICE, &opt->map_advice, 0, 0, NULL,
         "what the system is told of mapped files, with --io mmap", NULL},
        {0, "prefetch", "auto|on|off", CLI_CHOICE, &opt->prefetch, 0, 0, NULL,
         "read the next layer's likely experts ahead (default: auto)", NULL},
        {0, "ctx", "N", CLI_U32, &e->context_tokens, 1, 0, "a whole number above 0",
         "the longest sequence in tokens (default: what the call needs, or 4096)", NULL},
        {0, "chunk", "N", CLI_U32, &e->chunk_tokens, 1, 0, "a whole number above 0",
         "tokens a forward pass at most; multiples of 64 keep every bit", NULL},
        {0, "kv", "f32|f16|q8", CLI_CHOICE, &opt->kv, 0, 0, NULL,
         "how keys and values are kept (default: f16 to run, f32 to evaluate)", NULL},
        {0, "experts-per-token", "K", CLI_U32, &e->experts_per_token, 1, 0,
         "a whole number above 0", "fewer experts than trained: faster, and LOSSY", NULL},
        {0, "activations", "q8|f32", CLI_CHOICE, &opt->activations, 0, 0, NULL,
         "q8: what weights meet is rounded (default: q8 to run, f32 to judge)",
         NULL},
        {0, "exact", NULL, CLI_FLAG, &opt->exact, 0, 0, NULL,
         "nothing is rounded: --activations f32 --kv f32", NULL},
        {0, "verify-reads", "all|first|none", CLI_CHOICE, &opt->verify, 0, 0, NULL,
         "check what is read from a pack: always, once (default), never", NULL},
    };
    _Static_assert(sizeof options == CLI_ENGINE_OPTIONS * sizeof options[0], "table size");
    memcpy(table, options, sizeof options);
}

static sl_io_kind io_kind_of(const char *word)
{
    sl_io_kind kind = SL_IO_KIND_AUTO;
    while (word && kind <= SL_IO_KIND_MMAP && strcmp(word, sl_io_kind_name(kind)) != 0)
        kind++;
    return kind;
}

static sl_map_advice map_advice_of(const char *word)
{
    if (word && strcmp(word, "random") == 0) return SL_MAP_ADVICE_RANDOM;
    if (word && strcmp(word, "willneed") == 0) return SL_MAP_ADVICE_WILLNEED;
    return SL_MAP_ADVICE_NORMAL;
}

static sl_kv_type kv_of(const char *word)
{
    if (word && strcmp(word, "f16") == 0) return SL_KV_F16;
    if (word && strcmp(word, "q8") == 0) return SL_KV_Q8;
    return SL_KV_F32;
}

static sl_switch switch_of(const char *word)
{
    if (word && strcmp(word, "on") == 0) return SL_ON;
    if (word && strcmp(word, "off") == 0) return SL_OFF;
    return SL_AUTO;
}

sl_status cli_engine_open(sl_engine **engine, sl_session **session, const char *path,
                          const cli_engine_options *opt, sl_error *err)
{
    sl_engine_options options = opt->engine;
    char probe_file[SL_PATH_MAX];
    if (cli_probe_file(probe_file)) options.probe_file = probe_file;
    options.verify = SL_VERIFY_FIRST;
    if (opt->verify && strcmp(opt->verify, "all") == 0) options.verify = SL_VERIFY_ALL;
    if (opt->verify && strcmp(opt->verify, "none") == 0) options.verify = SL_VERIFY_NONE;
    options.io = io_kind_of(opt->io);
    options.direct = switch_of(opt->direct);
    options.prefetch = switch_of(opt->prefetch);
    options.map_advice = map_advice_of(opt->map_advice);
    bool rounded = opt->activations && strcmp(opt->activations, "q8") == 0 && !opt->exact;
    options.activations = rounded ? SL_ACTIVATIONS_Q8 : SL_ACTIVATIONS_F32;
    options.kv = opt->exact ? SL_KV_F32 : kv_of(opt->kv);
    SL_TRY(sl_engine_open(engine, path, &options, err));
    if (!session) return SL_OK;
    sl_status status = sl_session_create(session, *engine, err);
    if (status != SL_OK) {
        sl_engine_close(*engine);
        *engine = NULL;
    }
    return status;
}

sl_status cli_model_find(const char **model, char room[SL_PATH_MAX], sl_error *err)
{
    if (!sl_hub_is_name(*model) || sl__file_exists(*model)) return SL_OK;
    SL_TRY(sl_hub_find(*model, room, SL_PATH_MAX, err));
    *model = room;
    return SL_OK;
}

/* ---- the probe's memory ---------------------------------------------------------------------- */

static bool make_folder(const char *path)
{
    return mkdir(path, 0700) == 0 || sl__file_is_dir(path);
}

/* home/sluice/name; the folders are made. */
static bool own_file(char out[SL_PATH_MAX], const char *home, const char *name)
{
    char folder[SL_PATH_MAX], above[SL_PATH_MAX];
    sl__path_parent(above, home); /* "~/.local" of "~/.local/state" */
    return sl__path_join(folder, sizeof folder, home, "sluice", NULL) == SL_OK &&
           (make_folder(home) || (make_folder(above) && make_folder(home))) &&
           make_folder(folder) && sl__path_join(out, SL_PATH_MAX, folder, name, NULL) == SL_OK;
}

bool cli_cache_folder(char out[SL_PATH_MAX], const char *name)
{
    char home[SL_PATH_MAX];
    return cli_cache_home(home, sizeof home) && own_file(out, home, name);
}

bool cli_probe_file(char out[SL_PATH_MAX])
{
    return cli_cache_folder(out, "disks.json");
}

bool cli_state_file(char out[SL_PATH_MAX], const char *name)
{
    char home[SL_PATH_MAX];
    return cli_state_home(home, sizeof home) && own_file(out, home, name);
}

/* ---- the demo -------------------------------------------------------------------------------- */

/* A folder that holds a model: a checkpoint or a pack. */
static bool holds_model(const char *folder)
{
    char path[SL_PATH_MAX];
    if (sl__path_join(path, sizeof path, folder, "config.json", NULL) == SL_OK &&
        sl__file_exists(path))
        return true;
    return sl__path_join(path, sizeof path, folder, "manifest.json", NULL) == SL_OK &&
           sl__file_exists(path);
}

/* The program's own file, links resolved: argv[0], looked up in $PATH as the shell did. */
static char *program_file(const char *program)
{
    if (strchr(program, '/')) return realpath(program, NULL);
    const char *dirs = getenv("PATH");
    while (dirs && *dirs) {
        char path[SL_PATH_MAX];
        size_t size = strcspn(dirs, ":");
        int n = snprintf(path, sizeof path, "%.*s/%s", (int)size, size ? dirs : ".", program);
        if (size == 0) n = snprintf(path, sizeof path, "./%s", program);
        if (n > 0 && (size_t)n < sizeof path && access(path, X_OK) == 0)
            return realpath(path, NULL);
        dirs += size;
        if (*dirs == ':') dirs++;
    }
    return NULL;
}

/* <folder of the program>/../share/sluice/demo */
static bool installed_demo(char *out, size_t out_size, const char *program)
{
    char *file = program_file(program);
    if (!file) return false;
    char *slash = strrchr(file, '/');
    int n = -1;
    if (slash) {
        *slash = '\0';
        n = snprintf(out, out_size, "%s/../share/sluice/demo", file);
    }
    free(file);
    return n > 0 && (size_t)n < out_size && holds_model(out);
}

static bool take_path(char *out, size_t out_size, const char *path)
{
    int n = snprintf(out, out_size, "%s", path);
    return n >= 0 && (size_t)n < out_size;
}

sl_status cli_demo_path(char *out, size_t out_size, const char *program, sl_error *err)
{
    static const char *const places[] = {"models/demo", SLUICE_DEMO_SOURCE_DIR};
    const char *named = getenv("SLUICE_DEMO");
    if (named && *named) {
        if (take_path(out, out_size, named)) return SL_OK;
        return SL_FAIL(err, SL_EINVAL, "SLUICE_DEMO: the path is too long");
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if (holds_model(places[i]) && take_path(out, out_size, places[i])) return SL_OK;
    if (installed_demo(out, out_size, program)) return SL_OK;
    return SL_FAIL(err, SL_EIO,
                   "no MODEL was named, and the demo model is not in ./models/demo "
                   "(SLUICE_DEMO says where else)");
}
