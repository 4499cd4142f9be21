/* The terminal: Ctrl-C, a line that is written over, the progress bar. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli.h"

#define DRAW_EVERY_NS 100000000u

/* Set by a signal handler, which can reach nothing but a global. */
static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

void cli_interrupt_catch(void)
{
    struct sigaction action = {.sa_handler = on_interrupt};
    /* Once: the handler of a second one is the system's own again, which ends the process. */
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void)
{
    return interrupted;
}

static volatile sig_atomic_t ending, unnoticed;

static void on_each(int signal_number)
{
    interrupted = 1;
    if (signal_number == SIGTERM) ending = 1;
    if (++unnoticed < 3) return;
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void cli_interrupt_catch_each(void)
{
    struct sigaction action = {.sa_handler = on_each, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

void cli_interrupt_forget(void)
{
    unnoticed = 0;
    interrupted = ending;
}

bool cli_ending(void)
{
    return ending;
}

bool cli_wait_input(int fd)
{
    /* A signal just before the call is seen when its time is over. */
    for (;;) {
        struct pollfd in = {.fd = fd, .events = POLLIN};
        if (interrupted) return false;
        int ready = poll(&in, 1, 200);
        if (ready > 0 || (ready < 0 && errno != EINTR)) return true;
    }
}

bool cli_stderr_is_terminal(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && (!term || strcmp(term, "dumb") != 0);
}

size_t cli_terminal_width(void)
{
    struct winsize size = {0};
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 80;
    return size.ws_col;
}

static void draw_line(const char *line)
{
    int room = (int)cli_terminal_width() - 1; /* the last column would wrap */
    fprintf(stderr, "\r%.*s\033[K", room, line);
    fflush(stderr);
}

void cli_status_line(const char *fmt, ...)
{
    if (!cli_stderr_is_terminal()) return;
    char line[256];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    draw_line(line);
}

void cli_status_clear(void)
{
    if (cli_stderr_is_terminal()) fputs("\r\033[K", stderr);
}

bool cli_write_text(FILE *to, const char *text, size_t size, bool terminal)
{
    if (!terminal) return fwrite(text, 1, size, to) == size;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        bool control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
        /* U+0080 to U+009F, two bytes each, are control characters too. */
        if (c == 0xc2 && i + 1 < size && (unsigned char)text[i + 1] < 0xa0) {
            control = true;
            i++;
        }
        if (putc(control ? '?' : c, to) == EOF) return false;
    }
    return true;
}

/* ---- progress -------------------------------------------------------------------------------- */

enum { BAR = 24 };

/* share of it filled, from 0 to 1. */
static const char *fill_bar(char bar[BAR + 1], double share)
{
    size_t filled = (size_t)(share * (double)BAR);
    for (size_t i = 0; i < BAR; i++)
        bar[i] = i < filled ? '#' : '.';
    bar[BAR] = '\0';
    return bar;
}

static void draw_bar(const cli_progress *progress, const sl_pack_progress *at, uint64_t now_ns)
{
    double share = 0.0;
    if (at->total_bytes) share = (double)at->done_bytes / (double)at->total_bytes;
    if (share > 1.0) share = 1.0;
    char bar[BAR + 1];
    char done[CLI_FIGURE], total[CLI_FIGURE], rate[CLI_FIGURE], left[CLI_FIGURE];
    char pace[3 * CLI_FIGURE] = "";
    double seconds = (double)(now_ns - progress->start_ns) / 1e9;
    double bytes = (double)(at->done_bytes - progress->start_bytes);
    if (seconds > 0.5 && bytes > 0 && at->total_bytes >= at->done_bytes) {
        double a_second = bytes / seconds;
        snprintf(pace, sizeof pace, "  %s/s  %s left", cli_size(rate, (uint64_t)a_second),
                 cli_duration(left, (double)(at->total_bytes - at->done_bytes) / a_second));
    }
    cli_status_line("%-10s [%s] %3.0f %%  %s of %s%s", progress->what, fill_bar(bar, share),
                    share * 100.0, cli_size(done, at->done_bytes),
                    cli_size(total, at->total_bytes), pace);
}

void cli_progress_show(cli_progress *progress, const sl_pack_progress *at)
{
    uint64_t now_ns = sl__now_ns();
    if (progress->start_ns == 0) {
        progress->terminal = cli_stderr_is_terminal();
        progress->start_ns = now_ns;
        progress->start_bytes = at->done_bytes;
    }
    const char *what = at->what ? at->what : "";
    bool changed = strncmp(progress->what, what, sizeof progress->what - 1) != 0;
    if (changed) snprintf(progress->what, sizeof progress->what, "%s", what);
    if (progress->terminal) {
        if (!changed && now_ns - progress->drawn_ns < DRAW_EVERY_NS) return;
        progress->drawn_ns = now_ns;
        draw_bar(progress, at, now_ns);
    } else if (changed) {
        char done[CLI_FIGURE], total[CLI_FIGURE];
        fprintf(stderr, "%s: %s of %s\n", progress->what, cli_size(done, at->done_bytes),
                cli_size(total, at->total_bytes));
    }
}

void cli_progress_end(cli_progress *progress)
{
    if (progress->terminal) cli_status_clear();
}

void cli_token_progress_show(cli_token_progress *progress, const char *what, double done,
                             size_t count)
{
    uint64_t now_ns = sl__now_ns();
    if (progress->start_ns == 0) progress->start_ns = now_ns;
    double seconds = (double)(now_ns - progress->start_ns) / 1e9;
    if (seconds < 1.0 || done <= 0 || now_ns - progress->drawn_ns < DRAW_EVERY_NS) return;
    progress->drawn_ns = now_ns;
    char bar[BAR + 1], left[CLI_FIGURE];
    double rate = done / seconds, total = (double)count;
    cli_status_line("%s [%s] %.0f of %zu tokens  %.*f tokens/s  %s left", what,
                    fill_bar(bar, done < total ? done / total : 1), done, count,
                    rate < 10 ? 2 : 0, rate, cli_duration(left, (total - done) / rate));
}

void cli_token_progress_end(cli_token_progress *progress)
{
    if (progress->drawn_ns > 0) cli_status_clear();
}
