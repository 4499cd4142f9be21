/* sluice chat: a conversation, in a terminal or through a pipe.
 *
 *     terminal: prompt ─ line ─ answer ─ figures ─ prompt …, until Ctrl-D
 *     pipe:     a message a line, answers on stdout, until the end of the input
 *     -p TEXT:  one message, one answer
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "cli/chat.h"

#define MESSAGE_BYTES_MAX ((size_t)64 << 20)

typedef struct options {
    const char *model, *message, *system, *thinking, *tools;
    bool resume;
} options;

/* ---- messages -------------------------------------------------------------------------------- */

/* What a failure leaves is a conversation that can go on. False: it cannot. */
static bool take_message(chat *c, const char *text, size_t size)
{
    sl_error why = {0};
    sl_status status = chat_turn(c, text, size, &why);
    if (status == SL_OK) {
        chat_file_remember(c);
        if (cli_interrupted()) chat_screen_note(&c->screen, "stopped");
        if (c->report.stop == RUN_STOP_CONTEXT)
            chat_screen_note(&c->screen, "the context is full (--ctx takes more)");
        if (c->screen.talks) chat_screen_figures(&c->screen, &c->report, c->model.seen_count);
    } else if (cli_interrupted() && status == SL_ECANCELLED) {
        chat_screen_note(&c->screen, "stopped before the answer; the message is taken back");
    } else {
        (void)cli_fail_error(&why);
        c->failed = true;
    }
    return c->model.engine && !c->screen.reader_gone;
}

/* In a terminal a message may have several lines: after a backslash, or between two of """. */
static line_end read_more(const chat *c, sl__buffer *message, bool block)
{
    sl__buffer line;
    sl__buffer_init(&line, MESSAGE_BYTES_MAX);
    line_end end = LINE_TEXT;
    if (block) sl__buffer_clear(message);
    for (;;) {
        bool goes_on = message->size > 0 && message->data[message->size - 1] == '\\';
        if (!block && !goes_on) break;
        if (!block) message->data[message->size - 1] = '\n';
        end = line_read(c->lines, ". ", &line);
        if (end != LINE_TEXT || (block && strcmp(line.data, "\"\"\"") == 0)) break;
        sl__buffer_append(message, line.data, line.size);
        if (block) sl__buffer_append(message, "\n", 1);
    }
    sl__buffer_free(&line);
    return message->failed ? LINE_FAILED : end;
}

/* What one line, or a block of them, asks for; false: the chat is over. */
static bool take_line(chat *c, const sl__buffer *line, bool block)
{
    const char *text = line->data;
    if (!text[strspn(text, " \t\n")]) return true;
    if (!block && text[0] == '/' && text[1] != '/') return chat_command(c, text);
    size_t skip = !block && text[0] == '/' ? 1 : 0;
    return take_message(c, text + skip, line->size - skip);
}

/* Ctrl-C twice in a row leaves; once, it empties the line. */
static bool take_interrupt(const chat *c, unsigned *count)
{
    if (!c->screen.talks || cli_ending() || ++*count == 2) return false;
    fputc('\n', stdout);
    chat_screen_note(&c->screen, "Ctrl-C once more, or Ctrl-D, leaves");
    return true;
}

static sl_status talk(chat *c, sl_error *err)
{
    sl__buffer line;
    sl__buffer_init(&line, MESSAGE_BYTES_MAX);
    unsigned interrupts = 0;
    bool on = true;
    sl_status status = SL_OK;
    while (on) {
        if (c->screen.talks) cli_interrupt_forget();
        bool block = false;
        line_end end = line_read(c->lines, "> ", &line);
        if (end == LINE_TEXT && c->screen.talks) {
            line_remember(c->lines, line.data);
            block = strcmp(line.data, "\"\"\"") == 0;
            end = read_more(c, &line, block);
        }
        if (end == LINE_TEXT) {
            interrupts = 0;
            on = take_line(c, &line, block);
        } else if (end == LINE_INTERRUPTED) {
            on = take_interrupt(c, &interrupts);
        } else {
            if (end == LINE_FAILED)
                status = SL_FAIL(err, SL_EIO, "standard input: %s", strerror(errno));
            else if (c->screen.talks)
                fputc('\n', stdout);
            on = false;
        }
    }
    sl__buffer_free(&line);
    return status;
}

/* ---- the command ----------------------------------------------------------------------------- */

static sl_status resume(chat *c, sl_error *err)
{
    char path[SL_PATH_MAX];
    if (!chat_file_last(c, path) || !sl__file_exists(path))
        return SL_FAIL(err, SL_EIO, "%s: no conversation with this model is remembered",
                       c->model.path);
    SL_TRY(chat_file_load(c, path, err));
    chat_screen_note(&c->screen, "goes on after %zu messages", json_array_size(c->messages));
    return SL_OK;
}

static void greet(const chat *c)
{
    char lossy[128];
    const sl_engine_info *info = &c->model.info;
    if (cli_lossy(lossy, info)[0]) fprintf(stderr, "%s\n", lossy);
    if (info->synthetic) fprintf(stderr, "SYNTHETIC: random weights\n");
    if (c->screen.talks)
        chat_screen_note(&c->screen, "%s, a context of %" PRIu32 " tokens; /help lists commands",
                         c->model.path, info->context_tokens);
}

static sl_status prepare(chat *c, const options *o, sl_error *err)
{
    c->messages = json_array();
    if (!c->messages) return SL_FAIL_NOMEM(err, "messages");
    if (o->thinking) (void)chat_thinking_find(o->thinking, &c->screen.thinking);
    c->thinking_fixed = o->thinking != NULL;
    if (o->tools) SL_TRY(chat_take_tools(c, o->tools, err));
    c->tools_fixed = o->tools != NULL;
    if (o->resume) SL_TRY(resume(c, err));
    if (o->system) { /* also that of what is resumed is another then */
        json_t *text = chat_json_text(o->system, strlen(o->system));
        free(c->system);
        c->system = text ? strdup(json_string_value(text)) : NULL;
        json_decref(text);
        if (!c->system) return SL_FAIL_NOMEM(err, "system");
    }
    SL_TRY(chat_model_open(&c->model, err));
    char history[SL_PATH_MAX];
    bool keeps = !c->forgets && c->screen.talks && cli_state_file(history, "chat_history");
    c->lines = line_open(c->screen.asks, keeps ? history : NULL);
    return c->lines ? SL_OK : SL_FAIL_NOMEM(err, "lines");
}

static sl_status run_chat(chat *c, const options *o, sl_error *err)
{
    SL_TRY(prepare(c, o, err));
    greet(c);
    cli_interrupt_catch_each();
    if (!o->message) return talk(c, err);
    (void)take_message(c, o->message, strlen(o->message));
    return SL_OK;
}

static void close_chat(chat *c)
{
    line_close(c->lines);
    chat_model_close(&c->model);
    chat_tools_free(&c->tools);
    free(c->tools_path);
    json_decref(c->messages);
    free(c->system);
}

static bool parse(const cli_call *call, chat *c, options *o, int *code)
{
    const cli_option chat_options[] = {
        {'p', NULL, "TEXT", CLI_TEXT, &o->message, 0, 0, NULL, "one message; ends after the answer",
         NULL},
        {0, "system", "TEXT", CLI_TEXT, &o->system, 0, 0, NULL,
         "what the model is told before all else", NULL},
        {0, "resume", NULL, CLI_FLAG, &o->resume, 0, 0, NULL,
         "go on with the last conversation with this model", NULL},
        {0, "forget", NULL, CLI_FLAG, &c->forgets, 0, 0, NULL,
         "keep neither the conversation nor what is typed", NULL},
        {0, "thinking", "show|dim|hide|off", CLI_CHOICE, &o->thinking, 0, 0, NULL,
         "what the model thinks (default: dim; in a pipe hide); off: none", NULL},
        {'n', NULL, "N", CLI_U32, &c->given_limit, 1, 0, "a whole number above 0",
         "tokens of an answer at most (default: what the context holds)", NULL},
        {0, "tools", "FILE", CLI_TEXT, &o->tools, 0, 0, NULL,
         "programs that the model may ask for (JSON)", NULL},
        {0, "tool-seconds", "N", CLI_U32, &c->tool_seconds, 1, 86400, "a number from 1 to 86400",
         "how long one of them may run (default: 60)", NULL},
        {0, "yes-run-tools", NULL, CLI_FLAG, &c->yes_run_tools, 0, 0, NULL,
         "run them without asking; in a pipe they never run otherwise", NULL},
    };
    cli_option sampling_options[CLI_SAMPLING_OPTIONS], engine_options[CLI_ENGINE_OPTIONS];
    cli_sampling_table(sampling_options, &c->given_sampling);
    cli_engine_table(engine_options, &c->model.options);
    const cli_group groups[] = {
        {"the chat", chat_options, sizeof chat_options / sizeof chat_options[0]},
        {CLI_SAMPLING_TITLE, sampling_options, CLI_SAMPLING_OPTIONS},
        {"the model", engine_options, CLI_ENGINE_OPTIONS},
    };
    if (!cli_parse(call, groups, sizeof groups / sizeof groups[0], &o->model, code)) return false;
    c->sampling = c->given_sampling;
    c->limit = c->given_limit;
    return true;
}

static int run_command(const cli_call *call)
{
    chat c = {.tool_seconds = 60, .model.options = {.activations = "q8", .kv = "f16"}};
    options o = {.model = NULL};
    int code;
    if (!parse(call, &c, &o, &code)) return code;

    sl_error err = {0};
    char demo[SL_PATH_MAX];
    sl_status status = SL_OK;
    c.model.path = o.model;
    if (!o.model) {
        status = cli_demo_path(demo, sizeof demo, call->program, &err);
        c.model.path = demo;
    }
    chat_screen_open(&c.screen, o.message != NULL);
    if (status == SL_OK) status = run_chat(&c, &o, &err);
    bool failed = c.failed && !c.screen.talks;
    close_chat(&c);
    if (status != SL_OK) return cli_fail_error(&err);
    return failed ? CLI_FAILED : CLI_OK;
}

const cli_command cli_cmd_chat = {
    .name = "chat",
    .args = "[MODEL] [options]",
    .summary = "Talk with a model",
    .details =
        "MODEL is as for run. In a terminal, /help lists what can be typed besides\n"
        "messages; Ctrl-C stops an answer, Ctrl-D leaves. From a pipe every line is a\n"
        "message, and standard output holds the answers alone.\n"
        "--tools: a JSON array of {\"name\", \"description\", \"parameters\" (a JSON\n"
        "schema), \"command\": [\"prog\", \"--flag\", \"{argument}\"]}. A command is shown,\n"
        "and runs after y alone; no shell reads it.\n",
    .args_max = 1,
    .run = run_command,
};
