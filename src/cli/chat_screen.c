/* The screen of a chat: answers as they stream, and remarks beside them.
 *
 *     thoughts ─ dim ───────┐
 *     answer ─ markdown ────┴─ styles ─ "\033[…m" where they change ─ cli_write_text ─ stdout
 *     notes, figures ─────────────────────────────────────────────────────────────── stderr
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fail.h"
#include "cli/chat.h"

#define STYLE_DIM     64u
#define DRAW_EVERY_NS 100000000u

static const char *const thinking_names[] = {"show", "dim", "hide", "off"};

const char *chat_thinking_name(unsigned i)
{
    return i < sizeof thinking_names / sizeof thinking_names[0] ? thinking_names[i] : NULL;
}

bool chat_thinking_find(const char *name, chat_thinking *out)
{
    for (unsigned i = 0; chat_thinking_name(i); i++) {
        if (strcmp(chat_thinking_name(i), name) != 0) continue;
        *out = (chat_thinking)i;
        return true;
    }
    return false;
}

/* NO_COLOR: https://no-color.org; whoever sets it wants no attributes either. */
static bool wants_attributes(void)
{
    const char *term = getenv("TERM"), *none = getenv("NO_COLOR");
    return !(none && *none) && term && *term && strcmp(term, "dumb") != 0;
}

/* ---- text ------------------------------------------------------------------------------------ */

static void set_styles(chat_screen *s, unsigned styles)
{
    if (!s->attributes || styles == s->styles) return;
    fputs("\033[0", stdout);
    if (styles & (MARKDOWN_BOLD | MARKDOWN_HEADING)) fputs(";1", stdout);
    if (styles & (STYLE_DIM | MARKDOWN_FENCE)) fputs(";2", stdout);
    if (styles & MARKDOWN_ITALIC) fputs(";3", stdout);
    if (styles & (MARKDOWN_CODE | MARKDOWN_BLOCK)) fputs(";36", stdout);
    if (styles & MARKDOWN_HEADING) fputs(";35", stdout);
    fputc('m', stdout);
    s->styles = styles;
}

static void put(chat_screen *s, unsigned styles, const char *text, size_t size)
{
    if (size == 0 || s->reader_gone) return;
    set_styles(s, styles);
    s->mid_line = text[size - 1] != '\n';
    if (!cli_write_text(stdout, text, size, s->terminal)) s->reader_gone = true;
}

static void put_markdown(void *ctx, unsigned styles, const char *text, size_t size)
{
    put(ctx, styles, text, size);
}

static void put_mark(chat_screen *s, const char *mark)
{
    if (!s->attributes) put(s, 0, mark, strlen(mark));
}

static void flush(chat_screen *s)
{
    if (fflush(stdout) != 0) s->reader_gone = true;
}

void chat_screen_open(chat_screen *s, bool one_message)
{
    s->terminal = isatty(STDOUT_FILENO);
    s->asks = s->terminal && isatty(STDIN_FILENO);
    s->talks = s->asks && !one_message;
    s->attributes = s->terminal && wants_attributes();
    s->thinking = s->terminal ? CHAT_THINKING_DIM : CHAT_THINKING_HIDE;
}

void chat_screen_begin(chat_screen *s)
{
    s->part = CHAT_NOTHING;
    s->mid_line = false;
    s->thoughts = 0;
    s->drawn_ns = 0;
    markdown_begin(&s->markdown, put_markdown, s);
}

static void count_thoughts(chat_screen *s)
{
    uint64_t now_ns = sl__now_ns();
    s->thoughts++;
    if (!s->talks || now_ns - s->drawn_ns < DRAW_EVERY_NS) return;
    s->drawn_ns = now_ns;
    cli_status_line("thinking... (%" PRIu32 " tokens)", s->thoughts);
}

void chat_screen_thought(chat_screen *s, const char *text, size_t size)
{
    if (s->thinking >= CHAT_THINKING_HIDE) {
        count_thoughts(s);
        return;
    }
    if (s->part == CHAT_NOTHING) put_mark(s, "<think>\n");
    s->part = CHAT_THOUGHT;
    put(s, s->thinking == CHAT_THINKING_DIM ? STYLE_DIM : 0, text, size);
    flush(s);
}

static void end_thought(chat_screen *s)
{
    if (s->drawn_ns) cli_status_clear();
    s->drawn_ns = 0;
    if (s->part != CHAT_THOUGHT) return;
    if (s->mid_line) put(s, 0, "\n", 1);
    put_mark(s, "</think>\n");
    put(s, 0, "\n", 1);
}

void chat_screen_text(chat_screen *s, const char *text, size_t size)
{
    if (s->part != CHAT_ANSWER) end_thought(s);
    s->part = CHAT_ANSWER;
    markdown_push(&s->markdown, text, size);
    flush(s);
}

void chat_screen_end(chat_screen *s)
{
    markdown_end(&s->markdown);
    if (s->part != CHAT_ANSWER) end_thought(s);
    set_styles(s, 0);
    if (s->mid_line) put(s, 0, "\n", 1);
    flush(s);
}

/* ---- remarks --------------------------------------------------------------------------------- */

void chat_screen_note(const chat_screen *s, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    if (vsnprintf(text, sizeof text, fmt, args) < 0) text[0] = '\0';
    va_end(args);
    sl_error line = {0};
    sl__fail(&line, SL_EINVAL, "%s", text); /* for its way with control characters */
    fflush(stdout);
    bool dim = s->attributes && cli_stderr_is_terminal();
    fprintf(stderr, "%s(%s)%s\n", dim ? "\033[2m" : "", line.message, dim ? "\033[0m" : "");
}

static double share(double part, double whole)
{
    return whole > 0 ? part / whole : 0.0;
}

/* Appends "; figure" where the line has room for it: what comes first matters most. */
static void append_figure(char line[256], size_t width, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void append_figure(char line[256], size_t width, const char *fmt, ...)
{
    char figure[128];
    va_list args;
    va_start(args, fmt);
    vsnprintf(figure, sizeof figure, fmt, args);
    va_end(args);
    size_t used = strlen(line), size = strlen(figure) + (used ? 2 : 0);
    if (used + size + 3 > width || used + size >= 256) return; /* "()", and the last column */
    snprintf(line + used, 256 - used, "%s%s", used ? ", " : "", figure);
}

void chat_screen_figures(const chat_screen *s, const run_report *r, size_t position)
{
    const sl_stats *from = &r->at_prefilled, *to = &r->at_end;
    double seconds = (double)r->decode_ns / 1e9;
    double hits = (double)(to->expert_hits - from->expert_hits);
    double asked = (double)(to->expert_requests - from->expert_requests);
    double bytes = (double)(to->bytes_read - from->bytes_read);
    char line[256] = "", lossy[128];
    size_t width = cli_terminal_width();
    append_figure(line, width, "%.2f tok/s", share(r->decoded_tokens, seconds));
    if (cli_lossy(lossy, &r->info)[0]) append_figure(line, width, "LOSSY");
    append_figure(line, width, "%.0f %% hits", 100.0 * share(hits, asked));
    append_figure(line, width, "%.2f GB/s read", share(bytes, seconds) / 1e9);
    append_figure(line, width, "%" PRIu32 " tokens", r->generated_tokens);
    append_figure(line, width, "%zu of %" PRIu32 " in context", position, r->info.context_tokens);
    chat_screen_note(s, "%s", line);
}
