/* sluice serve: the model behind an HTTP endpoint, until Ctrl-C. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/fail.h"
#include "cli/cli.h"
#include "cli/net.h"
#include "server/server.h"

#define SESSIONS 4u
#define CONTEXT  16384u /* where nothing is said and memory allows it */
/* What prompts are kept in, where nothing is said. */
#define PREFIX_MEMORY      ((uint64_t)256 << 20)
#define PREFIX_MEMORY_PART 16u /* of --memory, where that is less */
#define PREFIX_DISK        ((uint64_t)4 << 30)

typedef struct serve {
    const char *model;
    cli_engine_options engine_options;
    sl__server_options options;
    uint32_t port;
    bool no_prefixes;
    char folder[SL_PATH_MAX]; /* of prompts that are kept */
    sl_tokenizer *tok;
    sl_vocabulary *words;
    sl_engine *engine;
    sl_template *tmpl;
    sl_error no_template; /* why there is none, where there is none */
    sl__server *server;
} serve;

/* The last part of a path's first *size bytes, which become those before it. */
static const char *cut_part(const char *path, size_t *size, size_t *part_size)
{
    size_t end = *size;
    while (end > 1 && path[end - 1] == '/')
        end--;
    *size = end;
    while (*size > 0 && path[*size - 1] != '/')
        --*size;
    *part_size = end - *size;
    return path + *size;
}

/* What clients call the model: its file or folder, or what it was pulled by, which the hub's cache
 * has as ".../models--ORG--NAME/snapshots/COMMIT". */
static const char *name_of(const char *path, char *out, size_t out_size)
{
    static const char front[] = "models--", between[] = "snapshots";
    const size_t front_size = sizeof front - 1;
    size_t left = strlen(path), size, above_size, repo_size;
    const char *name = cut_part(path, &left, &size);
    const char *above = cut_part(path, &left, &above_size);
    const char *repo = cut_part(path, &left, &repo_size);
    bool pulled = above_size == sizeof between - 1 && memcmp(above, between, above_size) == 0 &&
                  repo_size > front_size && memcmp(repo, front, front_size) == 0;
    if (!pulled) {
        snprintf(out, out_size, "%.*s", (int)size, name);
        return out;
    }
    snprintf(out, out_size, "%.*s", (int)(repo_size - front_size), repo + front_size);
    char *dashes = strstr(out, "--");
    if (dashes) {
        *dashes = '/';
        memmove(dashes + 1, dashes + 2, strlen(dashes + 2) + 1);
    }
    return out;
}

/* Where the path's last part is no name ("." and the like), that of the folder that it is. */
static const char *find_name(const char *path, char *out, size_t out_size)
{
    (void)name_of(path, out, out_size);
    char *whole = out[strspn(out, "./")] == '\0' ? realpath(path, NULL) : NULL;
    if (whole) (void)name_of(whole, out, out_size);
    free(whole);
    return out;
}

/* No template: completions of text alone. */
static sl_status open_template(serve *s, sl_error *err)
{
    sl_status status = sl_template_open(&s->tmpl, s->model, &s->no_template);
    if (status == SL_OK || status == SL_EIO) return SL_OK;
    return SL_FAIL(err, status, "%s", s->no_template.message);
}

static void say_where(const serve *s)
{
    sl_engine_info info;
    sl_engine_info_get(s->engine, &info);
    if (!s->tmpl) {
        fprintf(stderr, "no chat template: /v1/completions alone will answer (%s)\n",
                s->no_template.message);
    }
    bool v6 = s->options.host && strchr(s->options.host, ':');
    fprintf(stderr,
            "%s: http://%s%s%s:%u/\n"
            "  %" PRIu32 " at once, a context of %" PRIu32 " tokens each; OpenAI's API is at /v1, "
            "Ctrl-C ends it\n",
            s->options.model, v6 ? "[" : "", s->options.host ? s->options.host : "127.0.0.1",
            v6 ? "]" : "", sl__server_port(s->server), info.sessions, info.context_tokens);
    if (info.experts_per_token < info.trained_experts_per_token) {
        fprintf(stderr, "  LOSSY: %" PRIu32 " experts a token instead of %" PRIu32 "\n",
                info.experts_per_token, info.trained_experts_per_token);
    }
}

/* Prompts that were read are kept for conversations that go on. */
static void choose_prefixes(serve *s)
{
    sl__server_options *o = &s->options;
    const uint64_t memory = s->engine_options.engine.memory_bytes,
                   part = memory / PREFIX_MEMORY_PART;
    if (s->no_prefixes) {
        o->prefixes = NULL;
        o->prefix_memory_bytes = o->prefix_disk_bytes = 0;
        return;
    }
    if (!o->prefix_memory_bytes) {
        o->prefix_memory_bytes = memory && part < PREFIX_MEMORY ? part : PREFIX_MEMORY;
    }
    if (!o->prefix_disk_bytes) o->prefix_disk_bytes = PREFIX_DISK;
    o->prefixes_asked = o->prefixes != NULL;
    if (!o->prefixes && cli_cache_folder(s->folder, "prompts")) o->prefixes = s->folder;
    s->engine_options.engine.prefix_bytes = o->prefix_memory_bytes;
}

/* Grammars need the tokens of the tokenizer, which count as the process's memory when the engine
 * plans. A tokenizer of another kind has none, and what needs them is refused when it is asked. */
static sl_status open_tokenizer(serve *s, sl_error *err)
{
    sl_error ignored = {0};
    SL_TRY(sl_tokenizer_open(&s->tok, s->model, err));
    if (sl_vocabulary_create(&s->words, s->tok, &ignored) != SL_OK) s->words = NULL;
    s->options.words = s->words;
    s->engine_options.engine.tokenizer = s->tok;
    return SL_OK;
}

static void say(void *ctx, const char *line)
{
    (void)ctx;
    fprintf(stderr, "sluice: %s\n", line);
}

static sl_status run_server(serve *s, sl_error *err)
{
    sl_engine_options *opt = &s->engine_options.engine;
    opt->expected_tokens = CONTEXT;
    s->options.log = say;
    choose_prefixes(s);
    SL_TRY(open_template(s, err));
    SL_TRY(open_tokenizer(s, err));
    SL_TRY(cli_engine_open(&s->engine, NULL, s->model, &s->engine_options, err));
    cli_interrupt_catch();
    SL_TRY(sl__server_start(&s->server, &s->options, s->engine, s->tmpl, err));
    say_where(s);
    while (!cli_interrupted())
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    return SL_OK;
}

static bool parse(const cli_call *call, serve *s, int *code)
{
    sl__server_options *o = &s->options;
    const cli_option server_options[] = {
        {0, "host", "ADDRESS", CLI_TEXT, &o->host, 0, 0, NULL,
         "where to listen (default: 127.0.0.1; others need --api-key)", NULL},
        {0, "port", "N", CLI_U32, &s->port, 0, 65535, "a number from 0 to 65535",
         "default: 8080; 0: any free one", NULL},
        {0, "api-key", "KEY", CLI_TEXT, &o->api_key, 0, 0, NULL,
         "what clients must send (or SLUICE_API_KEY in the environment)", NULL},
        {0, "parallel", "N", CLI_U32, &s->engine_options.engine.sessions, 1, 1024,
         "a number from 1 to 1024", "answers at once (default: 4); each takes memory", NULL},
        {0, "queue", "N", CLI_U32, &o->queue, 1, 100000, "a number from 1 to 100000",
         "requests that may wait (default: 64)", NULL},
        {0, "max-tokens", "N", CLI_U32, &o->max_tokens, 1, 0, "a whole number above 0",
         "of an answer, where a request says nothing", NULL},
        {0, "name", "NAME", CLI_TEXT, &o->model, 0, 0, NULL,
         "the model's name in answers (default: its file's)", NULL},
        {0, "cors", "ORIGIN", CLI_TEXT, &o->cors, 0, 0, NULL,
         "a site whose pages may use the server ('*': any)", NULL},
        {0, "prefix-memory", "SIZE", CLI_SIZE, &o->prefix_memory_bytes, 0, 0, NULL,
         "prompts kept in memory (default: 256M, less of a small budget)", NULL},
        {0, "prefix-disk", "SIZE", CLI_SIZE, &o->prefix_disk_bytes, 0, 0, NULL,
         "prompts kept on the disk, for the next start too (default: 4G)", NULL},
        {0, "prefix-folder", "FOLDER", CLI_TEXT, &o->prefixes, 0, 0, NULL,
         "where (default: prompts, in the user's cache folder)", NULL},
        {0, "no-prefixes", NULL, CLI_FLAG, &s->no_prefixes, 0, 0, NULL,
         "keep none: every prompt is read from its beginning", NULL},
    };
    cli_option engine_options[CLI_ENGINE_OPTIONS];
    cli_engine_table(engine_options, &s->engine_options);
    const cli_group groups[] = {
        {"the server", server_options, sizeof server_options / sizeof server_options[0]},
        {"the model", engine_options, CLI_ENGINE_OPTIONS},
    };
    if (!cli_parse(call, groups, sizeof groups / sizeof groups[0], &s->model, code)) return false;
    if (!o->api_key) o->api_key = getenv("SLUICE_API_KEY");
    if (o->api_key && !o->api_key[0]) {
        *code = cli_usage(call->command, "the API key is empty");
        return false;
    }
    if (o->model && !o->model[0]) {
        *code = cli_usage(call->command, "the model's name is empty");
        return false;
    }
    o->port = (uint16_t)s->port;
    return true;
}

static int run_command(const cli_call *call)
{
    serve s = {.port = 8080, .engine_options = {.activations = "q8", .kv = "f16"}};
    int code;
    s.engine_options.engine.sessions = SESSIONS;
    if (!parse(call, &s, &code)) return code;

    sl_error err = {0};
    char demo[SL_PATH_MAX], name[256];
    sl_status status = SL_OK;
    if (!s.model) {
        status = cli_demo_path(demo, sizeof demo, call->program, &err);
        s.model = demo;
    }
    if (!s.options.model) s.options.model = find_name(s.model, name, sizeof name);
    if (status == SL_OK) status = run_server(&s, &err);
    sl__server_stop(s.server);
    sl_engine_close(s.engine);
    sl_template_close(s.tmpl);
    sl_vocabulary_destroy(s.words);
    sl_tokenizer_close(s.tok);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_serve = {
    .name = "serve",
    .args = "[MODEL] [options]",
    .summary = CLI_SERVE_SUMMARY,
    .details = "MODEL is as for run. Answers OpenAI's /v1/chat/completions, /v1/completions and\n"
               "/v1/models, Anthropic's /v1/messages, and /tokenize, /detokenize, /health and\n"
               "/metrics; several requests at once.\n"
               "There is no TLS: a proxy in front can add it.\n",
    .args_max = 1,
    .run = run_command,
};
