/* Messages, and the end of stdout. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "base/fail.h"
#include "cli/cli.h"

static void print_line(const char *fmt, va_list args, const char *before, const char *after)
{
    char text[1024];
    if (vsnprintf(text, sizeof text, fmt, args) < 0) text[0] = '\0';
    sl_error line = {0};
    sl__fail(&line, SL_EINVAL, "%s%s", before, text); /* for its way with control characters */
    fflush(stdout);
    cli_status_clear();
    fprintf(stderr, "sluice: %s%s\n", line.message, after);
}

int cli_fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    print_line(fmt, args, "", "");
    va_end(args);
    return CLI_FAILED;
}

int cli_fail_error(const sl_error *err)
{
    if (err->message[0]) return cli_fail("%s", err->message);
    return cli_fail("%s", sl_status_name(err->status));
}

int cli_usage(const cli_command *command, const char *fmt, ...)
{
    char before[64], after[64];
    const char *name = command ? command->name : "";
    snprintf(before, sizeof before, "%s%s", name, command ? ": " : "");
    snprintf(after, sizeof after, " (see 'sluice %s%s--help')", name, command ? " " : "");
    va_list args;
    va_start(args, fmt);
    print_line(fmt, args, before, after);
    va_end(args);
    return CLI_USAGE;
}

static bool reader_is_gone(void)
{
    struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&out, 1, 0) > 0 && (out.revents & (POLLERR | POLLHUP));
}

int cli_finish_stdout(int code)
{
    errno = 0;
    bool bad = fflush(stdout) != 0;
    int saved = errno;
    if (!bad && !ferror(stdout)) return code;
    if (saved == EPIPE || reader_is_gone()) return code;
    int failed = cli_fail("standard output: %s", saved ? strerror(saved) : "a write failed");
    return code == CLI_OK ? failed : code;
}
