/* Lines, read plainly: from a pipe, or a terminal that cannot do more. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/line.h"

#define READ_BYTES 4096

struct line_reader {
    line_edit *edit; /* NULL: plain */
    bool terminal;
    char ahead[READ_BYTES]; /* read, and not given out: [ahead_at, ahead_size) */
    size_t ahead_at, ahead_size;
};

static bool can_edit(void)
{
    const char *term = getenv("TERM");
    return term && *term && strcmp(term, "dumb") != 0;
}

line_reader *line_open(bool terminal, const char *history_file)
{
    line_reader *reader = calloc(1, sizeof *reader);
    if (!reader) return NULL;
    reader->terminal = terminal;
    if (terminal && can_edit()) reader->edit = line_edit_open(history_file);
    return reader;
}

void line_close(line_reader *reader)
{
    if (reader && reader->edit) line_edit_close(reader->edit);
    free(reader);
}

/* LINE_TEXT: there is something ahead. */
static line_end fill(line_reader *reader)
{
    for (;;) {
        if (!cli_wait_input(STDIN_FILENO)) return LINE_INTERRUPTED;
        ssize_t got = read(STDIN_FILENO, reader->ahead, sizeof reader->ahead);
        if (got < 0 && (errno == EINTR || errno == EAGAIN)) continue;
        if (got <= 0) return got < 0 ? LINE_FAILED : LINE_OVER;
        reader->ahead_at = 0;
        reader->ahead_size = (size_t)got;
        return LINE_TEXT;
    }
}

static line_end read_plain(line_reader *reader, sl__buffer *line)
{
    for (;;) {
        if (reader->ahead_at == reader->ahead_size) {
            line_end end = fill(reader);
            /* The last line may lack its end. */
            if (end == LINE_OVER && line->size > 0) return LINE_TEXT;
            if (end != LINE_TEXT) return end;
        }
        const char *from = reader->ahead + reader->ahead_at;
        size_t size = reader->ahead_size - reader->ahead_at;
        const char *end = memchr(from, '\n', size);
        if (end) size = (size_t)(end - from);
        reader->ahead_at += size + (end != NULL);
        if (!sl__buffer_append(line, from, size)) {
            errno = ENOMEM;
            return LINE_FAILED;
        }
        if (!end) continue;
        if (line->size > 0 && line->data[line->size - 1] == '\r') line->data[--line->size] = '\0';
        return LINE_TEXT;
    }
}

line_end line_read(line_reader *reader, const char *prompt, sl__buffer *line)
{
    sl__buffer_clear(line);
    if (!sl__buffer_reserve(line, 1)) {
        errno = ENOMEM;
        return LINE_FAILED;
    }
    line->data[0] = '\0';
    if (reader->edit) return line_edit_read(reader->edit, prompt, line);
    if (reader->terminal) {
        fputs(prompt, stdout);
        fflush(stdout);
    }
    return read_plain(reader, line);
}

void line_remember(line_reader *reader, const char *line)
{
    if (reader->edit && line[0] && line[0] != ' ') line_edit_remember(reader->edit, line);
}
