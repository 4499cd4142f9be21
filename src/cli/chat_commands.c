/* Commands of a chat: lines that begin with '/'. What they say goes to stderr, so that stdout holds
 * answers and nothing else. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "cli/chat.h"

typedef struct command {
    const char *name, *args, *help;
    bool needs;                                                /* its argument cannot be left out */
    sl_status (*run)(chat *c, const char *arg, sl_error *err); /* arg: "" where there is none */
} command;

static sl_status help(chat *c, const char *arg, sl_error *err);

static sl_status clear(chat *c, const char *arg, sl_error *err)
{
    (void)arg;
    (void)err;
    json_array_clear(c->messages);
    chat_screen_note(&c->screen, "a new conversation%s",
                     c->system ? "; the system text stays" : "");
    return SL_OK;
}

/* "~/x" is in the user's home; everything else is as it is. */
static sl_status file_name(const char *arg, char out[SL_PATH_MAX], sl_error *err)
{
    const char *home = getenv("HOME");
    bool at_home = arg[0] == '~' && arg[1] == '/' && home;
    int n = snprintf(out, SL_PATH_MAX, "%s%s", at_home ? home : "", at_home ? arg + 1 : arg);
    if (n > 0 && (size_t)n < SL_PATH_MAX) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "the path is too long");
}

static sl_status save(chat *c, const char *arg, sl_error *err)
{
    char path[SL_PATH_MAX];
    SL_TRY(file_name(arg, path, err));
    SL_TRY(chat_file_save(c, path, err));
    chat_screen_note(&c->screen, "%zu messages in %s", json_array_size(c->messages), path);
    return SL_OK;
}

static sl_status load(chat *c, const char *arg, sl_error *err)
{
    char path[SL_PATH_MAX];
    SL_TRY(file_name(arg, path, err));
    SL_TRY(chat_file_load(c, path, err));
    chat_screen_note(&c->screen, "%zu messages of %s", json_array_size(c->messages), path);
    return SL_OK;
}

static sl_status set_system(chat *c, const char *arg, sl_error *err)
{
    if (!*arg) {
        if (c->system)
            chat_screen_note(&c->screen, "system: %s", c->system);
        else
            chat_screen_note(&c->screen, "there is no system text");
        return SL_OK;
    }
    char *text = NULL;
    if (strcmp(arg, "-") != 0) {
        json_t *value = chat_json_text(arg, strlen(arg));
        text = value ? strdup(json_string_value(value)) : NULL;
        json_decref(value);
        if (!text) return SL_FAIL_NOMEM(err, "system");
    }
    free(c->system);
    c->system = text;
    chat_screen_note(&c->screen, text ? "the system text is set" : "no system text any more");
    return SL_OK;
}

static sl_status stats(chat *c, const char *arg, sl_error *err)
{
    (void)arg;
    (void)err;
    if (c->report.model)
        run_report_print(&c->report, stderr);
    else
        chat_screen_note(&c->screen, "nothing was answered yet");
    return SL_OK;
}

static sl_status tools(chat *c, const char *arg, sl_error *err)
{
    char path[SL_PATH_MAX];
    if (*arg) {
        bool none = strcmp(arg, "-") == 0;
        SL_TRY(file_name(arg, path, err));
        SL_TRY(chat_take_tools(c, none ? NULL : path, err));
        c->tools_fixed = true;
    }
    if (!c->tools.file) {
        chat_screen_note(&c->screen, "no tools");
        return SL_OK;
    }
    for (size_t i = 0; i < json_array_size(c->tools.file); i++) {
        const json_t *tool = json_array_get(c->tools.file, i);
        chat_screen_note(&c->screen, "%s: %s", json_string_value(json_object_get(tool, "name")),
                         json_string_value(json_object_get(tool, "description")));
    }
    return SL_OK;
}

static sl_status experts(chat *c, const char *arg, sl_error *err)
{
    chat_model *m = &c->model;
    char lossy[128];
    if (*arg) {
        char *end;
        errno = 0;
        unsigned long n = strtoul(arg, &end, 10);
        if (errno || *end || arg[strspn(arg, "0123456789")] || n > UINT32_MAX)
            return SL_FAIL(err, SL_EINVAL, "/experts takes a whole number, not '%.40s'", arg);
        if (n != m->info.experts_per_token) SL_TRY(chat_model_experts(m, (uint32_t)n, err));
    }
    if (cli_lossy(lossy, &m->info)[0]) {
        fprintf(stderr, "%s\n", lossy);
    } else {
        chat_screen_note(&c->screen, "%" PRIu32 " of %" PRIu32 " experts a token, as trained",
                         m->info.experts_per_token, m->info.experts);
    }
    return SL_OK;
}

static sl_status thinking(chat *c, const char *arg, sl_error *err)
{
    if (*arg && !chat_thinking_find(arg, &c->screen.thinking))
        return SL_FAIL(err, SL_EINVAL, "/thinking takes show, dim, hide or off, not '%.40s'", arg);
    chat_screen_note(&c->screen, "thinking: %s", chat_thinking_name(c->screen.thinking));
    return SL_OK;
}

static const command commands[] = {
    {"help", "", "this list", false, help},
    {"clear", "", "begins a new conversation", false, clear},
    {"save", "FILE", "writes the conversation, as JSON", true, save},
    {"load", "FILE", "goes on with a conversation that was saved", true, load},
    {"system", "[TEXT]", "what the model is told before all else; '-': nothing", false, set_system},
    {"thinking", "[HOW]", "show, dim or hide what the model thinks; off: it is asked for none",
     false, thinking},
    {"stats", "", "the figures of the last answer", false, stats},
    {"tools", "[FILE]", "the tools; with FILE, those of another file; '-': none", false, tools},
    {"experts", "[N]", "experts a token; fewer than trained: faster, and LOSSY", false, experts},
    {"quit", "", "leaves, as Ctrl-D does", false, NULL},
};

static sl_status help(chat *c, const char *arg, sl_error *err)
{
    (void)c;
    (void)arg;
    (void)err;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        char left[32];
        snprintf(left, sizeof left, "/%s %s", commands[i].name, commands[i].args);
        fprintf(stderr, "  %-18s %s\n", left, commands[i].help);
    }
    fprintf(stderr, "A line that ends with '\\' goes on; so do lines between two of \"\"\".\n"
                    "'//' begins a message that begins with '/'. Ctrl-C stops an answer.\n");
    return SL_OK;
}

static const command *find(const char *name, size_t size)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strlen(commands[i].name) == size && memcmp(commands[i].name, name, size) == 0)
            return &commands[i];
    }
    return NULL;
}

static void complain(chat *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void complain(chat *c, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    (void)cli_fail("%s", text);
    c->failed = true;
}

bool chat_command(chat *c, const char *line)
{
    size_t size = strcspn(line + 1, " \t");
    const char *arg = line + 1 + size + strspn(line + 1 + size, " \t");
    const command *found = find(line + 1, size);
    sl_error why = {0};
    if (!found) {
        complain(c, "there is no command /%.*s (/help lists them)", (int)(size < 40 ? size : 40),
                 line + 1);
        return true;
    }
    if (found->needs && !*arg)
        complain(c, "/%s needs a %s", found->name, found->args);
    else if (!found->args[0] && *arg)
        complain(c, "/%s takes nothing", found->name);
    else if (!found->run)
        return false;
    else if (found->run(c, arg, &why) != SL_OK)
        complain(c, "%s", why.message);
    return c->model.engine != NULL;
}
