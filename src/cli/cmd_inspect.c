/* sluice inspect: what a model is, and whether it will run here. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "base/fail.h"
#include "cli/cli.h"

static bool fits(const sl_model_info *info)
{
    return info->problem_count == 0 && info->free_memory_bytes >= info->minimum_memory_bytes;
}

/* "3 linear, 1 full attention; the first 2 dense": only what there is. */
static void print_layers(const sl_model_info *info)
{
    const struct {
        uint32_t count;
        const char *what;
    } kinds[] = {
        {info->linear_layers, "linear attention"},
        {info->full_layers, "full attention"},
        {info->latent_layers, "latent attention"},
        {info->window_layers, "windowed attention"},
    };
    char text[256] = "";
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        size_t used = strlen(text);
        if (kinds[i].count)
            snprintf(text + used, sizeof text - used, "%s%" PRIu32 " %s", used ? ", " : "",
                     kinds[i].count, kinds[i].what);
    }
    size_t used = strlen(text);
    if (info->dense_layers)
        snprintf(text + used, sizeof text - used, "; %" PRIu32 " without experts",
                 info->dense_layers);
    cli_row(stdout, "layers", "%" PRIu32 ": %s", info->layers, text);
    if (info->mtp_layers)
        cli_row(stdout, "drafting layers", "%" PRIu32 " (MTP), not used", info->mtp_layers);
}

static void print_architecture(const char *path, const sl_model_info *info)
{
    char all[CLI_FIGURE], active[CLI_FIGURE];
    printf("%s\n", path);
    if (info->synthetic) cli_row(stdout, "weights", "SYNTHETIC: random weights");
    cli_row(stdout, "model", "%s, %s", info->family, info->format);
    cli_row(stdout, "parameters", "%s, %s of them a token", cli_quantity(all, info->parameters),
            cli_quantity(active, info->active_parameters));
    print_layers(info);
    cli_row(stdout, "hidden size", "%" PRIu32, info->hidden_size);
    cli_row(stdout, "experts", "%" PRIu32 " a layer, %" PRIu32 " a token", info->experts,
            info->experts_per_token);
    cli_row(stdout, "expert width", "%" PRIu32, info->expert_intermediate_size);
    if (info->shared_intermediate_size)
        cli_row(stdout, "shared expert", "%" PRIu32 " wide", info->shared_intermediate_size);
    cli_row(stdout, "vocabulary", "%" PRIu32 " tokens", info->vocab_size);
    cli_row(stdout, "context", "%" PRIu32 " tokens at most", info->max_context);
    cli_row(stdout, "tokenizer", "%s; chat template: %s", info->has_tokenizer ? "yes" : "no",
            info->has_chat_template ? "yes" : "no");
}

/* What each kind of weights takes, and in which types. */
static void print_parts(const sl_model_info *info)
{
    char size[CLI_FIGURE];
    printf("\nweights\n");
    for (uint32_t i = 0; i < SL_MODEL_PARTS; i++) {
        const sl_model_part *part = &info->parts[i];
        if (part->weights == 0) continue;
        cli_row(stdout, part->name, "%s, %.2f bits a weight: %s", cli_size(size, part->bytes),
                (double)part->bytes * 8.0 / (double)part->weights, part->types);
    }
}

/* All that is wrong, as far as there is room for it. */
static void print_problems(const sl_model_info *info)
{
    printf("\nproblems\n");
    for (uint32_t i = 0; i < info->problem_count && i < SL_MODEL_PROBLEMS; i++)
        printf("  %s\n", info->problems[i]);
    if (info->problem_count > SL_MODEL_PROBLEMS)
        printf("  and %" PRIu32 " more\n", info->problem_count - SL_MODEL_PROBLEMS);
}

static void print_reads(const sl_model_info *info)
{
    char a[CLI_FIGURE], b[CLI_FIGURE], c[CLI_FIGURE];
    if (info->reads_per_token == 0) return;
    if (info->read_min_bytes == info->read_max_bytes) {
        cli_row(stdout, "reads", "%" PRIu32 " a token, of %s", info->reads_per_token,
                cli_size(a, info->read_min_bytes));
        return;
    }
    cli_row(stdout, "reads", "%" PRIu32 " a token, of %s to %s, %s on average",
            info->reads_per_token, cli_size(a, info->read_min_bytes),
            cli_size(b, info->read_max_bytes),
            cli_size(c, info->bytes_per_token / info->reads_per_token));
}

static void print_sizes(const sl_model_info *info)
{
    char a[CLI_FIGURE], b[CLI_FIGURE], c[CLI_FIGURE], d[CLI_FIGURE];
    printf("\nsizes\n");
    cli_row(stdout, "resident", "%s (%s)", cli_size(a, info->resident_bytes), info->resident_types);
    cli_row(stdout, "embedding", "%s of that", cli_size(a, info->embedding_bytes));
    cli_row(stdout, "experts", "%s (%s, %.2f bits a weight)", cli_size(a, info->experts_bytes),
            info->expert_types, cli_expert_bits(info));
    if (info->mtp_bytes) cli_row(stdout, "MTP", "%s, not used", cli_size(a, info->mtp_bytes));
    if (info->ignored_tensors)
        cli_row(stdout, "ignored", "%s in %" PRIu32 " tensors", cli_size(a, info->ignored_bytes),
                info->ignored_tensors);
    cli_row(stdout, "one expert", "%s in %" PRIu32 " read%s", cli_size(a, info->expert_bytes),
            info->expert_extents, info->expert_extents == 1 ? "" : "s");
    cli_row(stdout, "a token needs", "%s of experts", cli_size(a, info->bytes_per_token));
    print_reads(info);
    cli_row(stdout, "a session holds", "%s, and %s a token (f32; %s in f16, %s in q8)",
            cli_size(a, info->state_bytes), cli_size(b, info->kv_bytes_per_token),
            cli_size(c, info->kv_f16_bytes_per_token), cli_size(d, info->kv_q8_bytes_per_token));
}

static void print_fit(const sl_model_info *info)
{
    char a[CLI_FIGURE];
    printf("\nmemory\n");
    cli_row(stdout, "smallest budget", "%s (at a context of %" PRIu32 " tokens)",
            cli_size(a, info->minimum_memory_bytes), info->minimum_context);
    cli_row(stdout, "free here", "%s", cli_size(a, info->free_memory_bytes));
    if (!fits(info)) {
        cli_row(stdout, "will it fit", "no: %s more would be needed",
                cli_size(a, info->minimum_memory_bytes - info->free_memory_bytes));
        return;
    }
    uint64_t left = info->free_memory_bytes - info->minimum_memory_bytes;
    if (left >= info->experts_bytes) {
        cli_row(stdout, "will it fit", "yes, with every expert in memory");
        return;
    }
    double share = 100.0 * (double)left / (double)info->experts_bytes;
    cli_row(stdout, "will it fit", "yes: the %s to spare hold %.0f %% of the experts",
            cli_size(a, left), share);
}

/* {"attention": {"types": "bf16", "weights": 1, "bytes": 2}, …}; only what there is. */
static json_t *parts_json(const sl_model_info *info)
{
    static const char *const keys[SL_MODEL_PARTS] = {
        "attention", "shared_experts", "routers",      "embedding",  "head",
        "vectors",   "experts_gate",   "experts_up", "experts_down"};
    json_t *all = json_object();
    for (uint32_t i = 0; all && i < SL_MODEL_PARTS; i++) {
        const sl_model_part *part = &info->parts[i];
        if (part->weights == 0) continue;
        json_t *one = json_pack("{s:s, s:I, s:I}", "types", part->types, "weights",
                                (json_int_t)part->weights, "bytes", (json_int_t)part->bytes);
        if (one && json_object_set_new(all, keys[i], one) == 0) continue;
        json_decref(all);
        return NULL;
    }
    return all;
}

/* Paths in messages need not be UTF-8, as JSON must be: what is none is shown as '?'. */
static json_t *problems_json(const sl_model_info *info)
{
    json_t *all = json_array();
    for (uint32_t i = 0; all && i < info->problem_count && i < SL_MODEL_PROBLEMS; i++) {
        char text[sizeof info->problems[0]];
        snprintf(text, sizeof text, "%s", info->problems[i]);
        json_t *one = json_string(text);
        for (char *at = text; !one && *at; at++) {
            if ((unsigned char)*at >= 0x80) *at = '?';
        }
        if (!one) one = json_string(text);
        if (one && json_array_append_new(all, one) == 0) continue;
        json_decref(all);
        return NULL;
    }
    return all;
}

static sl_status print_json(const sl_model_info *info, sl_error *err)
{
    const struct {
        const char *key;
        uint64_t value;
    } numbers[] = {
        {"layers", info->layers},
        {"linear_layers", info->linear_layers},
        {"full_layers", info->full_layers},
        {"latent_layers", info->latent_layers},
        {"window_layers", info->window_layers},
        {"dense_layers", info->dense_layers},
        {"mtp_layers", info->mtp_layers},
        {"hidden_size", info->hidden_size},
        {"vocab_size", info->vocab_size},
        {"max_context", info->max_context},
        {"experts", info->experts},
        {"experts_per_token", info->experts_per_token},
        {"expert_intermediate_size", info->expert_intermediate_size},
        {"shared_intermediate_size", info->shared_intermediate_size},
        {"parameters", info->parameters},
        {"active_parameters", info->active_parameters},
        {"resident_bytes", info->resident_bytes},
        {"embedding_bytes", info->embedding_bytes},
        {"experts_bytes", info->experts_bytes},
        {"mtp_bytes", info->mtp_bytes},
        {"ignored_bytes", info->ignored_bytes},
        {"ignored_tensors", info->ignored_tensors},
        {"expert_bytes", info->expert_bytes},
        {"expert_extents", info->expert_extents},
        {"bytes_per_token", info->bytes_per_token},
        {"reads_per_token", info->reads_per_token},
        {"read_min_bytes", info->read_min_bytes},
        {"read_max_bytes", info->read_max_bytes},
        {"problem_count", info->problem_count},
        {"kv_bytes_per_token", info->kv_bytes_per_token},
        {"kv_f16_bytes_per_token", info->kv_f16_bytes_per_token},
        {"kv_q8_bytes_per_token", info->kv_q8_bytes_per_token},
        {"state_bytes", info->state_bytes},
        {"minimum_memory_bytes", info->minimum_memory_bytes},
        {"minimum_context", info->minimum_context},
        {"free_memory_bytes", info->free_memory_bytes},
    };
    /* The path is left out: it need not be UTF-8, and the caller knows it. */
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:s, s:b, s:b, s:b, s:b}", "family", info->family, "format",
                  info->format, "expert_types", info->expert_types, "resident_types",
                  info->resident_types, "has_tokenizer", (int)info->has_tokenizer,
                  "has_chat_template", (int)info->has_chat_template, "fits", (int)fits(info),
                  "synthetic", (int)info->synthetic);
    bool ok = root != NULL;
    for (size_t i = 0; ok && i < sizeof numbers / sizeof numbers[0]; i++)
        ok = json_object_set_new(root, numbers[i].key,
                                 json_integer((json_int_t)numbers[i].value)) == 0;
    ok = ok && json_object_set_new(root, "expert_bits", json_real(cli_expert_bits(info))) == 0 &&
         json_object_set_new(root, "parts", parts_json(info)) == 0 &&
         json_object_set_new(root, "problems", problems_json(info)) == 0;
    if (ok) {
        json_dumpf(root, stdout, JSON_INDENT(2));
        putchar('\n');
    }
    json_decref(root);
    return ok ? SL_OK : SL_FAIL_NOMEM(err, "JSON");
}

static int run_command(const cli_call *call)
{
    const char *model;
    bool json = false, routing = false, tokens_given = false;
    uint32_t tokens = 64;
    const cli_option options[] = {
        {0, "json", NULL, CLI_FLAG, &json, 0, 0, NULL, "every figure, as JSON", NULL},
        {0, "routing", NULL, CLI_FLAG, &routing, 0, 0, NULL,
         "run the model and measure how it routes", NULL},
        {0, "tokens", "N", CLI_U32, &tokens, 2, 0, "a whole number above 1",
         "tokens to measure over (default: 64)", &tokens_given},
    };
    const cli_group groups[] = {{NULL, options, sizeof options / sizeof options[0]}};
    int code;
    if (!cli_parse(call, groups, 1, &model, &code)) return code;
    if (tokens_given && !routing) return cli_usage(call->command, "--tokens goes with --routing");
    if (json && routing) return cli_usage(call->command, "give one of --json and --routing");

    sl_error err = {0};
    sl_model_info info;
    sl_status status = sl_model_inspect(model, &info, &err);
    bool known = status == SL_OK || info.layers > 0 || info.problem_count > 1;
    if (known && json) {
        sl_status printed = print_json(&info, status == SL_OK ? &err : NULL);
        if (status == SL_OK) status = printed;
    } else if (known) {
        if (info.layers > 0) {
            print_architecture(model, &info);
            print_sizes(&info);
            print_parts(&info);
        }
        if (status == SL_OK) print_fit(&info);
        else print_problems(&info);
    }
    if (status == SL_OK && routing) status = cli_measure_routing(model, tokens, &err);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_inspect = {
    .name = "inspect",
    .args = "MODEL [--json | --routing]",
    .summary = "Say what a model is, and whether it will fit here",
    .details = "Reads the headers alone, no weights. Of an incomplete model it says what is\n"
               "known, lists what is missing or cut short, and exits with 1. --routing opens the\n"
               "model and lets it write some tokens of its own: how many of a token's experts the\n"
               "token before had chosen too, and how many the layer's router foretold a layer\n"
               "earlier.\n",
    .args_min = 1,
    .args_max = 1,
    .run = run_command,
};
