/* sluice trace: record what routers choose, say what is in a trace, replay it against policies.
 *
 *     record    ids ─ model ─> FILE            simulate   FILE × slots × policies ─> hit rates
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "cli/cli.h"

/* ---- record ---------------------------------------------------------------------------------- */

typedef struct record {
    const char *model, *out, *ids_path, *prompt;
    uint32_t limit; /* of generated tokens */
    uint64_t seed;
    cli_engine_options options;
    cli_ids ids; /* of --ids */
    sl_engine *engine;
    sl_session *session;
    sl_sampler *sampler;
    int32_t *prompt_ids;
    float *logits;
    uint64_t tokens;
} record;

/* In pieces, so that Ctrl-C comes through. */
static sl_status record_ids(record *r, const int32_t *ids, size_t count, sl_error *err)
{
    sl_engine_info info;
    sl_engine_info_get(r->engine, &info);
    for (size_t at = 0; at < count && !cli_interrupted();) {
        size_t n = count - at < info.chunk_tokens ? count - at : info.chunk_tokens;
        cli_status_line("trace: %" PRIu64 " tokens", r->tokens);
        SL_TRY(sl_session_eval(r->session, ids + at, n, at + n == count ? r->logits : NULL, NULL,
                               NULL, err));
        at += n;
        r->tokens += n;
    }
    return SL_OK;
}

static sl_status record_lines(record *r, sl_error *err)
{
    for (size_t line = 0, start = 0; line < r->ids.lines && !cli_interrupted(); line++) {
        sl_session_reset(r->session);
        SL_TRY(record_ids(r, r->ids.ids + start, r->ids.ends[line] - start, err));
        start = r->ids.ends[line];
    }
    return SL_OK;
}

/* Continues the prompt as `run` does, but never stops at an end token. */
static sl_status record_text(record *r, sl_error *err)
{
    size_t count;
    const sl_tokenizer *tok = sl_engine_tokenizer(r->engine);
    if (!tok) return SL_FAIL(err, SL_EUNSUPPORTED, "%s: has no tokenizer; give --ids", r->model);
    SL_TRY(sl_tokenizer_encode(tok, r->prompt, strlen(r->prompt),
                               SL_ENCODE_ADDED | SL_ENCODE_BOS, &r->prompt_ids, &count, err));
    if (count == 0) return SL_FAIL(err, SL_EINVAL, "the prompt is empty");
    sl_generation_defaults defaults;
    sl_engine_generation_defaults(r->engine, &defaults);
    defaults.sampler.seed = r->seed;
    uint32_t vocab = sl_tokenizer_vocab_size(tok);
    sl_engine_info info;
    sl_engine_info_get(r->engine, &info);
    if (vocab < info.vocab_size) vocab = info.vocab_size;
    SL_TRY(sl_sampler_create(&r->sampler, vocab, &defaults.sampler, err));
    r->logits = calloc(vocab, sizeof *r->logits);
    if (!r->logits) return SL_FAIL_NOMEM(err, "logits");
    SL_TRY(record_ids(r, r->prompt_ids, count, err));
    for (uint32_t i = 0; i < r->limit && !cli_interrupted(); i++) {
        int32_t id;
        SL_TRY(sl_sampler_sample(r->sampler, r->logits, &id, err));
        SL_TRY(record_ids(r, &id, 1, err));
    }
    return SL_OK;
}

static sl_status record_to(record *r, sl_error *err)
{
    sl_engine_info info;
    sl_engine_info_get(r->engine, &info);
    if (r->ids_path) SL_TRY(cli_ids_check(&r->ids, info.vocab_size, err));
    SL_TRY(sl_engine_trace_begin(r->engine, r->out, err));
    cli_interrupt_catch();
    sl_status status = r->ids_path ? record_lines(r, err) : record_text(r, err);
    cli_status_clear();
    sl_status ended = sl_engine_trace_end(r->engine, err);
    if (status != SL_OK && ended == SL_OK) unlink(r->out); /* no trace of a model that failed */
    return status != SL_OK ? status : ended;
}

static sl_status record_all(record *r, sl_error *err)
{
    if (r->ids_path) {
        size_t longest = 0, start = 0;
        SL_TRY(cli_ids_read_lines(&r->ids, r->ids_path, err));
        for (size_t line = 0; line < r->ids.lines; line++) {
            size_t count = r->ids.ends[line] - start;
            if (count == 0)
                return SL_FAIL(err, SL_EINVAL, "%s: line %zu holds no token id", r->ids.name,
                               line + 1);
            if (count > longest) longest = count;
            start = r->ids.ends[line];
        }
        if (longest > UINT32_MAX) return SL_FAIL(err, SL_EINVAL, "%s: too long", r->ids.name);
        r->options.engine.expected_tokens = (uint32_t)longest;
    } else {
        /* A token is a byte at least, but for what the tokenizer puts around. */
        uint64_t longest = strlen(r->prompt) + 16 + (uint64_t)r->limit;
        r->options.engine.expected_tokens = longest < UINT32_MAX ? (uint32_t)longest : UINT32_MAX;
    }
    SL_TRY(cli_engine_open(&r->engine, &r->session, r->model, &r->options, err));
    return record_to(r, err);
}

static int run_record(const cli_call *call)
{
    record r = {.limit = 256};
    const cli_option options[] = {
        {0, "out", "FILE", CLI_TEXT, &r.out, 0, 0, NULL, "the trace; must not exist", NULL},
        {0, "ids", "FILE", CLI_TEXT, &r.ids_path, 0, 0, NULL,
         "token ids, a text a line ('-': standard input)", NULL},
        {'p', NULL, "TEXT", CLI_TEXT, &r.prompt, 0, 0, NULL, "a prompt that the model continues",
         NULL},
        {'n', "tokens", "N", CLI_U32, &r.limit, 0, 0, NULL,
         "how far it does (default: 256 tokens)", NULL},
        {0, "seed", "N", CLI_U64, &r.seed, 0, 0, NULL, "of the sampling (default: 0)", NULL},
    };
    cli_option engine_options[CLI_ENGINE_OPTIONS];
    cli_engine_table(engine_options, &r.options);
    const cli_group groups[] = {{NULL, options, sizeof options / sizeof options[0]},
                                {"the model", engine_options, CLI_ENGINE_OPTIONS}};
    int code;
    if (!cli_parse(call, groups, 2, &r.model, &code)) return code;
    if (!r.out) return cli_usage(call->command, "--out FILE is missing");
    if (!r.ids_path == !r.prompt) return cli_usage(call->command, "give one of --ids and -p TEXT");

    sl_error err = {0};
    cli_ids_init(&r.ids);
    sl_status status = record_all(&r, &err);
    if (status == SL_OK) fprintf(stderr, "%s: %" PRIu64 " tokens\n", r.out, r.tokens);
    cli_ids_free(&r.ids);
    free(r.logits);
    free(r.prompt_ids);
    sl_sampler_destroy(r.sampler);
    sl_session_destroy(r.session);
    sl_engine_close(r.engine);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_trace_record = {
    .name = "trace record",
    .args = "MODEL --out FILE (--ids FILE | -p TEXT) [options]",
    .summary = "Record which experts a model chooses",
    .details = "Either of given texts, or of one that the model writes. Ctrl-C ends the trace\n"
               "early.\n",
    .args_min = 1,
    .args_max = 1,
    .run = run_record,
};

/* ---- inspect --------------------------------------------------------------------------------- */

static void print_share(const char *label, double share, const char *of)
{
    if (isnan(share)) cli_row(stdout, label, "not known");
    else cli_row(stdout, label, "%.1f %% of %s", 100.0 * share, of);
}

static int run_inspect(const cli_call *call)
{
    const char *path;
    bool json = false;
    const cli_option options[] = {
        {0, "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "the figures, as JSON", NULL},
    };
    const cli_group groups[] = {{NULL, options, 1}};
    int code;
    if (!cli_parse(call, groups, 1, &path, &code)) return code;
    sl_error err = {0};
    sl_trace_info info;
    if (sl_trace_inspect(path, &info, &err) != SL_OK) return cli_fail_error(&err);
    if (json) {
        char overlap[CLI_FIGURE] = "null", predictable[CLI_FIGURE] = "null";
        if (!isnan(info.overlap)) cli_exact(overlap, info.overlap);
        if (!isnan(info.predictable)) cli_exact(predictable, info.predictable);
        printf("{\"tokens\":%" PRIu64 ",\"layers\":%" PRIu32 ",\"experts\":%" PRIu32
               ",\"experts_per_token\":%" PRIu32 ",\"overlap\":%s,\"predictable\":%s}\n",
               info.tokens, info.layers, info.experts, info.experts_per_token, overlap,
               predictable);
        return CLI_OK;
    }
    cli_row(stdout, "tokens", "%" PRIu64, info.tokens);
    cli_row(stdout, "layers", "%" PRIu32 " with experts", info.layers);
    cli_row(stdout, "experts", "%" PRIu32 " a layer, %" PRIu32 " a token", info.experts,
            info.experts_per_token);
    print_share("overlap", info.overlap, "a token's experts are those of the token before");
    print_share("predictable", info.predictable, "the experts predicted a layer ahead were right");
    return CLI_OK;
}

const cli_command cli_cmd_trace_inspect = {
    .name = "trace inspect",
    .args = "FILE [--json]",
    .summary = "Say what is in a trace of routing",
    .args_min = 1,
    .args_max = 1,
    .run = run_inspect,
};

/* ---- simulate -------------------------------------------------------------------------------- */

enum { SLOTS_MAX = 32, POLICIES_MAX = 8 };

typedef struct simulation {
    const char *path;
    sl_trace_info info;
    uint64_t slots[SLOTS_MAX];
    size_t slot_count;
    const char *policies[POLICIES_MAX]; /* of sl_trace_policies */
    size_t policy_count;
    sl_trace_result results[SLOTS_MAX][POLICIES_MAX];
} simulation;

/* "64" or "12.5%", of what all layers hold; 0: neither. */
static uint64_t parse_slots(const char *word, size_t size, uint64_t all)
{
    char text[32], *end;
    if (size == 0 || size >= sizeof text) return 0;
    memcpy(text, word, size);
    text[size] = '\0';
    bool share = text[size - 1] == '%';
    if (share) text[size - 1] = '\0';
    if (text[0] == '\0' || text[strspn(text, share ? "0123456789." : "0123456789")]) return 0;
    double value = strtod(text, &end);
    if (*end || !(value <= (share ? 100.0 : 1e9))) return 0;
    return (uint64_t)(share ? value / 100.0 * (double)all + 0.5 : value);
}

/* The words of a list, apart by commas; calls take for each, which says whether it is good. */
static bool each_word(simulation *s, const char *list,
                      bool (*take)(simulation *s, const char *word, size_t size))
{
    for (const char *word = list;; word++) {
        size_t size = strcspn(word, ",");
        if (!take(s, word, size)) return false;
        word += size;
        if (!*word) return true;
    }
}

static bool take_slots(simulation *s, const char *word, size_t size)
{
    uint64_t all = (uint64_t)s->info.layers * s->info.experts;
    uint64_t slots = parse_slots(word, size, all);
    if (slots == 0 || s->slot_count == SLOTS_MAX) return false;
    s->slots[s->slot_count++] = slots;
    return true;
}

static bool take_policy(simulation *s, const char *word, size_t size)
{
    for (const char *const *name = sl_trace_policies(); *name; name++) {
        if (strlen(*name) != size || memcmp(*name, word, size) != 0) continue;
        if (s->policy_count == POLICIES_MAX) return false;
        s->policies[s->policy_count++] = *name;
        return true;
    }
    return false;
}

static double rate(const sl_trace_result *r)
{
    return r->requests ? (double)r->hits / (double)r->requests : 0.0;
}

static const sl_trace_result *result_of(const simulation *s, size_t i, const char *policy)
{
    for (size_t p = 0; p < s->policy_count; p++)
        if (strcmp(s->policies[p], policy) == 0) return &s->results[i][p];
    return NULL;
}

/* How much of the way from LRU to the best possible. */
static void print_closed(const simulation *s, size_t i)
{
    const sl_trace_result *lru = result_of(s, i, "lru"), *ours = result_of(s, i, "sluice"),
                          *best = result_of(s, i, "belady");
    if (!lru || !ours || !best) return;
    if (best->hits == lru->hits) printf("  %9s", "-");
    else printf("  %7.0f %%", 100.0 * ((double)ours->hits - (double)lru->hits) /
                                  ((double)best->hits - (double)lru->hits));
}

static void print_table(const simulation *s)
{
    uint64_t all = (uint64_t)s->info.layers * s->info.experts;
    printf("%s: %" PRIu64 " tokens, %" PRIu64 " experts; hits in %% of requests\n\n", s->path,
           s->info.tokens, all);
    printf("%10s %9s", "slots", "of all");
    for (size_t p = 0; p < s->policy_count; p++)
        printf("  %8s", s->policies[p]);
    if (result_of(s, 0, "lru") && result_of(s, 0, "sluice") && result_of(s, 0, "belady"))
        printf("  %9s", "gap gone");
    putchar('\n');
    for (size_t i = 0; i < s->slot_count; i++) {
        printf("%10" PRIu64 " %7.1f %%", s->slots[i], 100.0 * (double)s->slots[i] / (double)all);
        for (size_t p = 0; p < s->policy_count; p++)
            printf("  %8.2f", 100.0 * rate(&s->results[i][p]));
        print_closed(s, i);
        putchar('\n');
    }
}

static void print_json(const simulation *s)
{
    printf("{\"tokens\":%" PRIu64 ",\"layers\":%" PRIu32 ",\"experts\":%" PRIu32
           ",\"experts_per_token\":%" PRIu32 ",\"results\":[",
           s->info.tokens, s->info.layers, s->info.experts, s->info.experts_per_token);
    for (size_t i = 0; i < s->slot_count; i++) {
        for (size_t p = 0; p < s->policy_count; p++) {
            const sl_trace_result *r = &s->results[i][p];
            printf("%s{\"slots\":%" PRIu64 ",\"policy\":\"%s\",\"requests\":%" PRIu64
                   ",\"hits\":%" PRIu64 "}", i || p ? "," : "", r->slots, r->policy, r->requests,
                   r->hits);
        }
    }
    printf("]}\n");
}

static sl_status simulate(simulation *s, sl_error *err)
{
    for (size_t i = 0; i < s->slot_count; i++) {
        for (size_t p = 0; p < s->policy_count; p++) {
            cli_status_line("simulate: %" PRIu64 " slots, %s", s->slots[i], s->policies[p]);
            sl_status status = sl_trace_simulate(s->path, s->policies[p], s->slots[i],
                                                 &s->results[i][p], err);
            cli_status_clear();
            if (status != SL_OK) return status;
        }
    }
    return SL_OK;
}

static int run_simulate(const cli_call *call)
{
    simulation *s = calloc(1, sizeof *s);
    const char *slots = "10%,20%,30%,40%,50%,60%", *policies = NULL;
    bool json = false;
    const cli_option options[] = {
        {0, "slots", "LIST", CLI_TEXT, &slots, 0, 0, NULL,
         "experts in memory, such as 64,128 or 10%,50% (default: 10% to 60%)", NULL},
        {0, "policy", "LIST", CLI_TEXT, &policies, 0, 0, NULL,
         "some of lru,sluice,belady (default: all)", NULL},
        {0, "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "the counts, as JSON", NULL},
    };
    const cli_group groups[] = {{NULL, options, 3}};
    int code;
    if (!s) return cli_fail("out of memory");
    if (!cli_parse(call, groups, 1, &s->path, &code)) {
        free(s);
        return code;
    }
    sl_error err = {0};
    for (const char *const *name = sl_trace_policies(); !policies && *name; name++)
        s->policies[s->policy_count++] = *name;
    if (policies && !each_word(s, policies, take_policy))
        code = cli_usage(call->command, "--policy takes some of lru,sluice,belady, not '%s'",
                         policies);
    else if (sl_trace_inspect(s->path, &s->info, &err) != SL_OK)
        code = cli_fail_error(&err);
    else if (!each_word(s, slots, take_slots))
        code = cli_usage(call->command, "--slots takes numbers or percentages, such as 64,128 or "
                         "10%%,50%%, not '%s'", slots);
    else if (simulate(s, &err) != SL_OK)
        code = cli_fail_error(&err);
    else
        code = CLI_OK;
    if (code == CLI_OK && json) print_json(s);
    else if (code == CLI_OK) print_table(s);
    free(s);
    return code;
}

const cli_command cli_cmd_trace_simulate = {
    .name = "trace simulate",
    .args = "FILE [--slots LIST] [--policy LIST] [--json]",
    .summary = "Replay a trace against policies of eviction",
    .details = "lru goes by recency, sluice is what the cache does, belady knows the future:\n"
               "nothing can hit more. The gap is the one between lru and belady. The cache is\n"
               "empty at first.\n",
    .args_min = 1,
    .args_max = 1,
    .run = run_simulate,
};
