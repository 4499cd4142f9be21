/* sluice run: continues a text, and says afterwards how fast and at what cost.
 *
 *     prompt ─ ids ─ prefill, a chunk at a time ─┬─ sample ─ text ─┐
 *                                                └── decode one ◄──┘
 *
 * until an end token comes, -n tokens are there, the context is full, or Ctrl-C is pressed.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "base/file.h"
#include "base/sysmem.h"
#include "cli/cmd_run.h"
#include "cli/sampling.h"

typedef struct run {
    const char *model, *prompt, *prompt_file, *schema_file;
    bool json; /* an object of any kind */
    uint32_t limit; /* of generated tokens */
    cli_engine_options engine_options;
    cli_sampling sampling;

    sl_tokenizer *tok;
    sl_engine *engine;
    sl_session *session;
    sl_sampler *sampler;
    sl_detokenizer *detok;
    sl_grammar *grammar; /* NULL, with the next two: the text is free */
    sl_vocabulary *vocabulary;
    sl_constraint *constraint;
    sl_generation_defaults defaults;
    float *logits; /* [vocab_size], of the last token */
    int32_t *ids;
    size_t count;
    bool terminal; /* stdout is one */
    bool mid_line; /* the text ends without a newline */
    bool reader_gone;
    run_report report;
    cli_token_progress prefill;
} run;

static sl_status encode_prompt(run *r, sl_error *err)
{
    const unsigned flags = SL_ENCODE_ADDED | SL_ENCODE_BOS;
    if (r->prompt)
        return sl_tokenizer_encode(r->tok, r->prompt, strlen(r->prompt), flags, &r->ids, &r->count,
                                   err);
    sl__buffer text;
    SL_TRY(cli_read(r->prompt_file, &text, err));
    sl_status status =
        sl_tokenizer_encode(r->tok, text.data, text.size, flags, &r->ids, &r->count, err);
    sl__buffer_free(&text);
    return status;
}

static sl_status read_grammar(run *r, sl_error *err)
{
    if (r->json) return sl_grammar_json(&r->grammar, err);
    if (!r->schema_file) return SL_OK;
    sl__buffer text;
    sl_error why = {0};
    SL_TRY(cli_read(r->schema_file, &text, err));
    sl_status status = sl_grammar_json_schema(&r->grammar, text.data, text.size, &why);
    sl__buffer_free(&text);
    if (status == SL_OK) return SL_OK;
    return SL_FAIL(err, status, "%s: %s", cli_input_name(r->schema_file), why.message);
}

static sl_status prepare_constraint(run *r, sl_error *err)
{
    if (!r->grammar) return SL_OK;
    r->report.constrained = true;
    SL_TRY(sl_constraint_create(&r->constraint, r->grammar, r->vocabulary,
                                r->report.info.vocab_size, r->defaults.eos_ids,
                                r->defaults.eos_count, err));
    return sl_constraint_watch(r->constraint, err);
}

/* Opens everything; what was opened before a failure is closed by the caller. */
static sl_status prepare(run *r, sl_error *err)
{
    SL_TRY(read_grammar(r, err));
    /* The prompt first: how long the sequence can become decides what a session takes. */
    SL_TRY(sl_tokenizer_open(&r->tok, r->model, err));
    if (r->grammar) SL_TRY(sl_vocabulary_create(&r->vocabulary, r->tok, err));
    SL_TRY(encode_prompt(r, err));
    if (r->count == 0) return SL_FAIL(err, SL_EINVAL, "the prompt is empty");
    uint64_t longest = (uint64_t)r->count + r->limit;
    sl_engine_options *opt = &r->engine_options.engine;
    opt->tokenizer = r->tok;
    opt->expected_tokens = longest < UINT32_MAX ? (uint32_t)longest : UINT32_MAX;
    SL_TRY(cli_engine_open(&r->engine, &r->session, r->model, &r->engine_options, err));
    sl_engine_info_get(r->engine, &r->report.info);
    uint32_t vocab = r->report.info.vocab_size;
    if (r->count > r->report.info.context_tokens)
        return SL_FAIL(err, SL_EINVAL,
                       "the prompt has %zu tokens, the context %" PRIu32 " (--ctx takes more)",
                       r->count, r->report.info.context_tokens);

    sl_engine_generation_defaults(r->engine, &r->defaults);
    r->report.sampling = cli_sampling_resolve(&r->defaults.sampler, &r->sampling);
    SL_TRY(sl_sampler_create(&r->sampler, vocab, &r->report.sampling, err));
    for (size_t i = 0; i < r->count; i++)
        sl_sampler_accept_prompt(r->sampler, r->ids[i]);
    SL_TRY(prepare_constraint(r, err));
    SL_TRY(sl_detokenizer_create(&r->detok, r->tok, true, err));
    /* What comes continues the prompt: its first space is one. */
    size_t size;
    for (size_t i = 0; i < r->count; i++)
        sl_detokenizer_push(r->detok, r->ids[i], &size);
    sl_detokenizer_finish(r->detok, &size);
    r->logits = calloc(vocab, sizeof *r->logits);
    return r->logits ? SL_OK : SL_FAIL_NOMEM(err, "logits");
}

static void note_memory(run_report *report)
{
    uint64_t rss = sl__mem_rss();
    if (rss > report->rss_seen_bytes) report->rss_seen_bytes = rss;
}

static sl_status on_prefill(void *ctx, double done, size_t count)
{
    run *r = ctx;
    r->report.prompt_tokens = (size_t)done;
    note_memory(&r->report);
    cli_token_progress_show(&r->prefill, "prompt", done, count);
    return cli_interrupted() ? SL_ECANCELLED : SL_OK;
}

/* Ctrl-C is no failure: what there is by then is reported. */
static sl_status prefill(run *r, sl_error *err)
{
    uint64_t start_ns = sl__now_ns();
    sl_error why = {0};
    cli_token_progress_show(&r->prefill, "prompt", 0, r->count);
    sl_session_set_progress(r->session, on_prefill, r);
    sl_status status =
        sl_session_eval(r->session, r->ids, r->count, r->logits, NULL, NULL, &why);
    cli_token_progress_end(&r->prefill);
    if (status == SL_OK) r->report.prompt_tokens = r->count;
    else if (!cli_interrupted()) return SL_FAIL(err, status, "%s", why.message);
    r->report.prefill_ns = sl__now_ns() - start_ns;
    return SL_OK;
}

static void put_text(run *r, const char *text, size_t size)
{
    if (size == 0) return;
    r->mid_line = text[size - 1] != '\n';
    if (!cli_write_text(stdout, text, size, r->terminal) || fflush(stdout) != 0)
        r->reader_gone = true;
}

static bool ends_text(const run *r, int32_t id)
{
    for (uint32_t i = 0; i < r->defaults.eos_count; i++)
        if (r->defaults.eos_ids[i] == id) return true;
    return false;
}

/* The tokens that may still come, the next one among them. The last one is not evaluated. */
static uint32_t tokens_left(const run *r)
{
    uint32_t asked = r->limit - r->report.generated_tokens;
    uint64_t room = (uint64_t)r->report.info.context_tokens + 1 - sl_session_position(r->session);
    return asked < room ? asked : (uint32_t)room;
}

/* The next token: the logits are this program's own, and change where the text is held to JSON. A
 * choice after which the JSON could not come to its end any more is made again. */
static sl_status choose(run *r, int32_t *id, sl_error *err)
{
    if (!r->constraint) return sl_sampler_sample(r->sampler, r->logits, id, err);
    uint64_t start_ns = sl__now_ns(), drawn_ns = 0;
    uint32_t left = tokens_left(r);
    SL_TRY(sl_constraint_mask(r->constraint, r->logits, err));
    for (bool again = false;; again = true) {
        uint64_t draw_ns = sl__now_ns();
        SL_TRY(sl_sampler_draw(r->sampler, r->logits, id, err));
        drawn_ns += sl__now_ns() - draw_ns;
        if (again || sl_constraint_fits(r->constraint, *id, left)) break;
        r->report.shortened = true;
        SL_TRY(sl_constraint_mask_within(r->constraint, left, r->logits, err));
    }
    sl_sampler_accept(r->sampler, *id);
    SL_TRY(sl_constraint_accept(r->constraint, *id, err));
    r->report.constrain_ns += sl__now_ns() - start_ns - drawn_ns;
    return SL_OK;
}

static sl_status generate(run *r, uint64_t start_ns, sl_error *err)
{
    run_report *report = &r->report;
    uint64_t decode_ns = 0;
    while (report->generated_tokens < r->limit) {
        if (cli_interrupted()) break;
        int32_t id;
        sl_error why = {0};
        sl_status status = choose(r, &id, &why);
        if (status != SL_OK) return SL_FAIL(err, status, "%s: %s", r->model, why.message);
        if (report->first_token_ns == 0) {
            report->first_token_ns = sl__now_ns() - start_ns;
            decode_ns = sl__now_ns();
        }
        if (ends_text(r, id)) {
            report->stop = RUN_STOP_END;
            break;
        }
        report->generated_tokens++;
        size_t size;
        const char *text = sl_detokenizer_push(r->detok, id, &size);
        put_text(r, text, size);
        if (r->constraint && sl_constraint_done(r->constraint)) {
            report->stop = RUN_STOP_COMPLETE;
            break;
        }
        if (r->reader_gone || report->generated_tokens == r->limit) break;
        if (sl_session_position(r->session) >= report->info.context_tokens) {
            report->stop = RUN_STOP_CONTEXT;
            break;
        }
        SL_TRY(sl_session_eval(r->session, &id, 1, r->logits, NULL, NULL, err));
        report->decoded_tokens++;
        report->decode_ns = sl__now_ns() - decode_ns;
        note_memory(report);
    }
    return SL_OK;
}

static void finish_text(run *r)
{
    size_t size;
    const char *text = sl_detokenizer_finish(r->detok, &size);
    put_text(r, text, size);
    if (r->terminal && r->mid_line) put_text(r, "\n", 1);
}

static sl_status run_model(run *r, sl_error *err)
{
    uint64_t open_ns = sl__now_ns();
    SL_TRY(prepare(r, err));
    r->report.model = r->model;
    r->report.load_ns = sl__now_ns() - open_ns;
    note_memory(&r->report);

    cli_interrupt_catch();
    uint64_t start_ns = sl__now_ns();
    sl_engine_stats_get(r->engine, &r->report.at_start);
    SL_TRY(prefill(r, err));
    sl_engine_stats_get(r->engine, &r->report.at_prefilled);
    sl_status status = generate(r, start_ns, err);
    r->report.cut = r->constraint && sl_constraint_needs(r->constraint) > 0;
    finish_text(r); /* also after a failure: the message stands on a line of its own */
    sl_engine_stats_get(r->engine, &r->report.at_end);
    if (cli_interrupted()) r->report.stop = RUN_STOP_INTERRUPTED;
    return status;
}

static void close_run(run *r)
{
    free(r->ids);
    free(r->logits);
    sl_constraint_destroy(r->constraint);
    sl_vocabulary_destroy(r->vocabulary);
    sl_grammar_close(r->grammar);
    sl_detokenizer_destroy(r->detok);
    sl_sampler_destroy(r->sampler);
    sl_session_destroy(r->session);
    sl_engine_close(r->engine);
    sl_tokenizer_close(r->tok);
}

static bool parse(const cli_call *call, run *r, int *code)
{
    const cli_option text_options[] = {
        {'p', NULL, "TEXT", CLI_TEXT, &r->prompt, 0, 0, NULL, "the text to continue", NULL},
        {'f', NULL, "FILE", CLI_TEXT, &r->prompt_file, 0, 0, NULL,
         "a file that holds it ('-': standard input)", NULL},
        {'n', NULL, "N", CLI_U32, &r->limit, 0, 0, NULL,
         "tokens to generate at most (default: 256)", NULL},
        {0, "json", NULL, CLI_FLAG, &r->json, 0, 0, NULL, "a JSON object, and nothing else", NULL},
        {0, "json-schema", "FILE", CLI_TEXT, &r->schema_file, 0, 0, NULL,
         "JSON that this schema allows, and nothing else", NULL},
    };
    cli_option sampling_options[CLI_SAMPLING_OPTIONS];
    cli_sampling_table(sampling_options, &r->sampling);
    cli_option engine_options[CLI_ENGINE_OPTIONS];
    cli_engine_table(engine_options, &r->engine_options);
    const cli_group groups[] = {
        {"text", text_options, sizeof text_options / sizeof text_options[0]},
        {CLI_SAMPLING_TITLE, sampling_options, CLI_SAMPLING_OPTIONS},
        {"the model", engine_options, CLI_ENGINE_OPTIONS},
    };
    if (!cli_parse(call, groups, sizeof groups / sizeof groups[0], &r->model, code)) return false;
    if (r->json && r->schema_file) {
        *code = cli_usage(call->command, "give one of --json and --json-schema");
        return false;
    }
    if (!r->prompt == !r->prompt_file) {
        *code = cli_usage(call->command, "give one of -p TEXT and -f FILE");
        return false;
    }
    return true;
}

static int run_command(const cli_call *call)
{
    run r = {.limit = 256, .terminal = isatty(STDOUT_FILENO),
             .engine_options = {.activations = "q8", .kv = "f16"}};
    int code;
    if (!parse(call, &r, &code)) return code;

    sl_error err = {0};
    char demo[SL_PATH_MAX];
    sl_status status = SL_OK;
    if (!r.model) {
        status = cli_demo_path(demo, sizeof demo, call->program, &err);
        r.model = demo;
    }
    if (status == SL_OK) status = run_model(&r, &err);
    if (status == SL_OK && !r.reader_gone) run_report_print(&r.report, stderr);
    close_run(&r);
    return status == SL_OK ? CLI_OK : cli_fail_error(&err);
}

const cli_command cli_cmd_run = {
    .name = "run",
    .args = "[MODEL] -p TEXT [options]",
    .summary = "Continue a text, and say how fast",
    .details = "MODEL is a pack, a checkpoint's folder or file, or a GGUF file; without it the\n"
               "demo runs.\n"
               "The text goes to standard output as it comes, a table of figures to standard\n"
               "error.\n"
               "With --json or --json-schema nothing is chosen that the text could not go on\n"
               "with; schemas: docs/internals/constrain.md.\n"
               "Ctrl-C ends the text; a second one ends the program.\n",
    .args_max = 1,
    .run = run_command,
};
