/* Options: one table a command, from which both the parsing and the --help come.
 *
 *     --name VALUE   --name=VALUE   -n VALUE   -nVALUE   --flag   --   (what follows is no option)
 */
#include <assert.h>
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sysmem.h"
#include "cli/cli.h"

/* ---- help ------------------------------------------------------------------------------------ */

static void print_option(const cli_option *option)
{
    char letter[4] = "  ", left[64];
    if (option->letter) snprintf(letter, sizeof letter, "-%c", option->letter);
    const char *between = !option->name ? "" : option->letter ? ", --" : "  --";
    snprintf(left, sizeof left, "%s%s%s%s%s", letter, between, option->name ? option->name : "",
             option->value ? " " : "", option->value ? option->value : "");
    /* A long left side has the line to itself. */
    if (strlen(left) > 27)
        printf("  %s\n  %-27s %s\n", left, "", option->help);
    else
        printf("  %-27s %s\n", left, option->help);
}

static void print_help(const cli_call *call, const cli_group *groups, size_t group_count)
{
    const cli_command *command = call->command;
    printf("usage: sluice %s %s\n\n%s\n", command->name, command->args, command->summary);
    if (command->details) printf("\n%s", command->details);
    for (size_t g = 0; g < group_count; g++) {
        printf("\n%s:\n", groups[g].title ? groups[g].title : "options");
        for (size_t i = 0; i < groups[g].count; i++)
            print_option(&groups[g].options[i]);
    }
    if (group_count == 0) printf("\noptions:\n");
    printf("  %-27s %s\n", "-h, --help", "this text");
}

/* ---- values ---------------------------------------------------------------------------------- */

static bool parse_u64(const char *text, uint64_t max, uint64_t *out)
{
    if (text[0] == '\0' || text[strspn(text, "0123456789")]) return false;
    errno = 0;
    unsigned long long value = strtoull(text, NULL, 10);
    if (errno || value > max) return false;
    *out = value;
    return true;
}

static bool parse_f32(const char *text, float *out)
{
    if (text[0] == '\0' || text[strspn(text, "+-.0123456789eE")]) return false;
    char *end;
    double value = strtod(text, &end);
    if (*end || !(fabs(value) <= (double)FLT_MAX)) return false;
    *out = (float)value;
    return true;
}

/* Whether text is one of the words of "all|first|none". */
static bool is_choice(const char *words, const char *text)
{
    size_t size = strlen(text);
    for (const char *word = words; *word;) {
        size_t length = strcspn(word, "|");
        if (length == size && memcmp(word, text, size) == 0) return true;
        word += length + (word[length] == '|');
    }
    return false;
}

static bool take_number(const cli_option *option, const char *text)
{
    uint64_t whole;
    float real;
    switch (option->kind) {
    case CLI_U32:
        if (!parse_u64(text, UINT32_MAX, &whole) || (double)whole < option->min ||
            (option->max > 0 && (double)whole > option->max))
            return false;
        *(uint32_t *)option->target = (uint32_t)whole;
        return true;
    case CLI_U64:
        return parse_u64(text, UINT64_MAX, option->target);
    case CLI_F32:
        if (!parse_f32(text, &real) || (double)real < option->min ||
            (option->max > 0 && (double)real > option->max))
            return false;
        *(float *)option->target = real;
        return true;
    default:
        assert(option->kind == CLI_SIZE);
        if (!sl__parse_size(text, &whole) || whole == 0) return false;
        *(uint64_t *)option->target = whole;
        return true;
    }
}

static const char *kind_takes(cli_kind kind)
{
    switch (kind) {
    case CLI_U32:
    case CLI_U64:
        return "a whole number";
    case CLI_F32:
        return "a number";
    default:
        return "a size such as 512M or 1.5GiB";
    }
}

static bool take_value(const cli_call *call, const cli_option *option, const char *shown,
                       const char *text)
{
    if (option->kind == CLI_TEXT) {
        *(const char **)option->target = text;
        return true;
    }
    if (option->kind == CLI_CHOICE) {
        if (is_choice(option->value, text)) {
            *(const char **)option->target = text;
            return true;
        }
        cli_usage(call->command, "%s takes one of %s, not '%s'", shown, option->value, text);
        return false;
    }
    if (take_number(option, text)) return true;
    cli_usage(call->command, "%s takes %s, not '%s'", shown,
              option->takes ? option->takes : kind_takes(option->kind), text);
    return false;
}

/* ---- arguments ------------------------------------------------------------------------------- */

static const cli_option *find(const cli_group *groups, size_t group_count, char letter,
                              const char *name, size_t name_size)
{
    for (size_t g = 0; g < group_count; g++) {
        for (size_t i = 0; i < groups[g].count; i++) {
            const cli_option *option = &groups[g].options[i];
            if (letter && option->letter == letter) return option;
            if (!letter && option->name && strlen(option->name) == name_size &&
                memcmp(option->name, name, name_size) == 0)
                return option;
        }
    }
    return NULL;
}

/* Reads the option at argv[*at] and its value; leaves *at on the last argument taken. */
static bool take_option(const cli_call *call, const cli_group *groups, size_t group_count, int *at)
{
    const char *arg = call->argv[*at];
    bool is_long = arg[1] == '-';
    const char *equals = is_long ? strchr(arg, '=') : NULL;
    size_t size = equals ? (size_t)(equals - arg) : is_long ? strlen(arg) : 2;
    const char *value = equals ? equals + 1 : !is_long && arg[2] ? arg + 2 : NULL;

    const cli_option *option = is_long ? find(groups, group_count, 0, arg + 2, size - 2)
                                       : find(groups, group_count, arg[1], NULL, 0);
    char shown[64];
    snprintf(shown, sizeof shown, "%.*s", (int)(size < 60 ? size : 60), arg);
    if (!option) {
        cli_usage(call->command, "unknown option %s", shown);
        return false;
    }
    if (option->given) *option->given = true;
    if (option->kind == CLI_FLAG) {
        if (value)
            cli_usage(call->command, "%s takes no value", shown);
        else
            *(bool *)option->target = true;
        return !value;
    }
    if (!value && *at + 1 < call->argc) value = call->argv[++*at];
    if (!value) {
        cli_usage(call->command, "%s needs a value (%s)", shown, option->value);
        return false;
    }
    return take_value(call, option, shown, value);
}

/* The first argument, where the usage line calls it MODEL. */
static bool find_model(const cli_call *call, const char **args)
{
    const char *first = call->command->args;
    bool wanted = strncmp(first, "MODEL", 5) == 0 || strncmp(first, "[MODEL]", 7) == 0;
    sl_error err = {0};
    if (!wanted || !call->model || !args[0]) return true;
    if (cli_model_find(&args[0], call->model, &err) == SL_OK) return true;
    cli_fail_error(&err);
    return false;
}

bool cli_parse(const cli_call *call, const cli_group *groups, size_t group_count, const char **args,
               int *code)
{
    const cli_command *command = call->command;
    size_t count = 0;
    bool options_over = false;
    for (size_t i = 0; i < command->args_max; i++)
        args[i] = NULL;
    *code = CLI_USAGE;
    for (int i = 0; i < call->argc; i++) {
        const char *arg = call->argv[i];
        bool is_option = !options_over && arg[0] == '-' && arg[1];
        if (is_option && (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0)) {
            print_help(call, groups, group_count);
            *code = CLI_OK;
            return false;
        }
        if (is_option && strcmp(arg, "--") == 0) {
            options_over = true;
        } else if (is_option) {
            if (!take_option(call, groups, group_count, &i)) return false;
        } else if (count == command->args_max) {
            cli_usage(command, "superfluous argument '%s'", arg);
            return false;
        } else {
            args[count++] = arg;
        }
    }
    if (count < command->args_min) {
        cli_usage(command, "too few arguments; usage: sluice %s %s", command->name, command->args);
        return false;
    }
    *code = CLI_FAILED;
    if (!find_model(call, args)) return false;
    *code = CLI_OK;
    return true;
}
