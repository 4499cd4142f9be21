/* A call of a tool, from the question whether it may run to the text that the model gets. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <utf8proc.h>

#include "base/fail.h"
#include "cli/chat.h"
#include "cli/tool_process.h"

#define OUTPUT_BYTES_MAX ((size_t)64 << 10)
#define SHOWN_BYTES_MAX  ((size_t)16 << 20)

json_t *chat_json_text(const char *bytes, size_t size)
{
    sl__buffer text;
    sl__buffer_init(&text, SIZE_MAX / 2);
    while (size > 0) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)bytes, (utf8proc_ssize_t)size, &code);
        if (n > 0 && code != 0)
            sl__buffer_append(&text, bytes, (size_t)n);
        else
            sl__buffer_append_str(&text, "\xef\xbf\xbd");
        bytes += n > 0 ? n : 1;
        size -= n > 0 ? (size_t)n : 1;
    }
    json_t *value = text.failed ? NULL : json_stringn(text.data ? text.data : "", text.size);
    sl__buffer_free(&text);
    return value;
}

/* Shows the command, all of it, and asks where somebody is there. */
static bool may_run(const chat *c, const char *name, char *const *argv)
{
    sl__buffer line;
    sl__buffer_init(&line, SHOWN_BYTES_MAX);
    bool shown = chat_tools_show(&line, argv);
    if (shown) {
        fflush(stdout);
        fprintf(stderr, "%s: %s\n", name, line.data);
    }
    sl__buffer_free(&line);
    if (!shown) return false;
    if (c->yes_run_tools) return true;
    if (!c->screen.asks) {
        chat_screen_note(&c->screen, "not run: nobody can be asked; --yes-run-tools runs tools");
        return false;
    }
    sl__buffer answer;
    sl__buffer_init(&answer, SHOWN_BYTES_MAX);
    bool yes = line_read(c->lines, "run it? [y/N] ", &answer) == LINE_TEXT &&
               (strcasecmp(answer.data, "y") == 0 || strcasecmp(answer.data, "yes") == 0);
    sl__buffer_free(&answer);
    return yes;
}

static void describe_end(const tool_result *result, uint32_t seconds, char out[128])
{
    switch (result->end) {
    case TOOL_EXITED:
        snprintf(out, 128, "exit status %d", result->code);
        break;
    case TOOL_KILLED:
        snprintf(out, 128, "ended by signal %d", result->code);
        break;
    case TOOL_TOO_LONG:
        snprintf(out, 128, "ended: it took longer than %u seconds", (unsigned)seconds);
        break;
    case TOOL_STOPPED:
        snprintf(out, 128, "ended by the user");
        break;
    case TOOL_NOT_BEGUN:
        snprintf(out, 128, "could not be run: %s", strerror(result->code));
        break;
    }
}

static json_t *run_command(const chat *c, const char *name, char *const *argv)
{
    sl__buffer output;
    sl__buffer_init(&output, OUTPUT_BYTES_MAX + 256);
    const tool_limits limits = {.time_ns = (uint64_t)c->tool_seconds * 1000000000u,
                                .output_bytes = OUTPUT_BYTES_MAX,
                                .stop = cli_interrupted};
    tool_result result = tool_process_run(argv, &limits, &output);
    char end[128], size[CLI_FIGURE];
    describe_end(&result, c->tool_seconds, end);
    chat_screen_note(&c->screen, "%s: %s, %s of output%s", name, end, cli_size(size, output.size),
                     result.cut ? ", cut there" : "");
    if (result.cut) {
        sl__buffer_printf(&output, "\n(cut after %zu bytes)", OUTPUT_BYTES_MAX);
    }
    if (result.end != TOOL_EXITED || result.code != 0) {
        sl__buffer_printf(&output, "%s(%s)", output.size ? "\n" : "", end);
    }
    json_t *text = chat_json_text(output.data ? output.data : "", output.size);
    sl__buffer_free(&output);
    return text;
}

json_t *chat_call_run(const chat *c, const char *name, const json_t *arguments)
{
    char **argv;
    sl_error why = {0};
    if (cli_interrupted()) return json_string("error: the user stopped before this was run");
    if (chat_tools_command(&c->tools, name, arguments, &argv, &why) != SL_OK) {
        chat_screen_note(&c->screen, "%s: not run: %s", name, why.message);
        return json_sprintf("error: %s", why.message);
    }
    json_t *text = may_run(c, name, argv)
                       ? run_command(c, name, argv)
                       : json_string("error: the user did not allow this to be run");
    free(argv);
    return text;
}
