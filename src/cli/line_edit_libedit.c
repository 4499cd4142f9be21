/* Lines edited and remembered by libedit.
 *
 * The library is opened where a chat begins on a terminal, and not linked: with what comes along it
 * would be half a MiB of every command's memory, which is counted and promised. Where it is not
 * there by then, lines are read plainly.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <histedit.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wchar.h>

#include "cli/cli.h"
#include "cli/line.h"

#define HISTORY_LINES 1000

#define LIBEDIT_FUNCTIONS(X)                                                                       \
    X(el_init) X(el_end) X(el_set) X(el_gets) X(el_source) X(history_init) X(history_end) X(history)

typedef struct libedit {
#define LIBEDIT_FIELD(name) __typeof__(name) *name;
    LIBEDIT_FUNCTIONS(LIBEDIT_FIELD)
#undef LIBEDIT_FIELD
} libedit;

struct line_edit {
    libedit lib;
    EditLine *el;
    History *history;
    const char *prompt; /* of the present line */
    bool interrupted;
    char *file; /* of the history; NULL: none */
};

/* It stays open until the process ends: it keeps what it has read of the terminal. */
static bool open_library(libedit *lib)
{
    /* Of Debian, of others, of macOS. */
    static const char *const names[] = {"libedit.so.2", "libedit.so.0", "libedit.3.dylib"};
    void *handle = NULL;
    for (size_t i = 0; !handle && i < sizeof names / sizeof names[0]; i++)
        handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!handle) return false;
    bool all = true;
    void *found;
#define LIBEDIT_FIND(name)                                                                         \
    found = dlsym(handle, #name);                                                                  \
    memcpy(&lib->name, &found, sizeof found);                                                      \
    all = all && found;
    LIBEDIT_FUNCTIONS(LIBEDIT_FIND)
#undef LIBEDIT_FIND
    return all;
}

/* The one that reads a line now. What libedit calls back gets nothing that leads to it but through
 * the library's own functions, which only it knows. */
static line_edit *reading;

static char *prompt_of(EditLine *el)
{
    (void)el;
    return (char *)reading->prompt; /* libedit's type, which it does not write to */
}

/* One byte; 0: the end, -1: Ctrl-C. */
static int read_byte(unsigned char *byte)
{
    for (;;) {
        if (!cli_wait_input(STDIN_FILENO)) return -1;
        ssize_t got = read(STDIN_FILENO, byte, 1);
        if (got >= 0) return (int)got;
        if (errno != EINTR && errno != EAGAIN) return 0;
    }
}

/* A character of UTF-8. libedit's own reading would go on after Ctrl-C. */
static int read_char(EditLine *el, wchar_t *out)
{
    (void)el;
    unsigned char byte;
    int got = read_byte(&byte);
    if (got <= 0) {
        reading->interrupted = got < 0;
        return got;
    }
    size_t more = byte >= 0xf0 ? 3 : byte >= 0xe0 ? 2 : byte >= 0xc2 ? 1 : 0;
    unsigned long code = more ? byte & (0x3fu >> more) : byte;
    if (!more && byte >= 0x80) code = 0xfffd;
    for (; more > 0 && (got = read_byte(&byte)) > 0; more--)
        code = (byte & 0xc0) == 0x80 && code != 0xfffd ? code << 6 | (byte & 0x3fu) : 0xfffd;
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) code = 0xfffd;
    *out = (wchar_t)code;
    return 1;
}

/* libedit turns characters into bytes as the locale says: it has to say UTF-8. */
static bool set_utf8(void)
{
    static const char *const locales[] = {"", "C.UTF-8", "en_US.UTF-8", "UTF-8"};
    for (size_t i = 0; i < sizeof locales / sizeof locales[0]; i++) {
        wchar_t wide;
        if (setlocale(LC_CTYPE, locales[i]) && mbtowc(&wide, "\xe2\x82\xac", 3) == 3) return true;
    }
    return false;
}

/* What was typed is for its owner's eyes. */
static bool make_private(const char *file)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return false;
    bool made = fchmod(fd, 0600) == 0;
    close(fd);
    return made;
}

static bool begin(line_edit *edit, const char *history_file)
{
    HistEvent event;
    const libedit *lib = &edit->lib;
    edit->el = lib->el_init("sluice", stdin, stdout, stderr);
    edit->history = lib->history_init();
    if (!edit->el || !edit->history) return false;
    lib->history(edit->history, &event, H_SETSIZE, HISTORY_LINES);
    lib->history(edit->history, &event, H_SETUNIQUE, 1);
    if (history_file && make_private(history_file)) {
        edit->file = strdup(history_file);
        if (edit->file) lib->history(edit->history, &event, H_LOAD, edit->file);
    }
    return lib->el_set(edit->el, EL_PROMPT, prompt_of) == 0 &&
           lib->el_set(edit->el, EL_EDITOR, "emacs") == 0 &&
           lib->el_set(edit->el, EL_SIGNAL, 1) == 0 &&
           lib->el_set(edit->el, EL_HIST, lib->history, edit->history) == 0 &&
           lib->el_set(edit->el, EL_GETCFN, read_char) == 0;
}

line_edit *line_edit_open(const char *history_file)
{
    line_edit *edit = set_utf8() ? calloc(1, sizeof *edit) : NULL;
    if (!edit) return NULL;
    if (open_library(&edit->lib) && begin(edit, history_file)) {
        edit->lib.el_source(edit->el, NULL); /* the user's own keys, of ~/.editrc */
        return edit;
    }
    line_edit_close(edit);
    return NULL;
}

void line_edit_close(line_edit *edit)
{
    if (edit->history) edit->lib.history_end(edit->history);
    if (edit->el) edit->lib.el_end(edit->el);
    free(edit->file);
    free(edit);
}

line_end line_edit_read(line_edit *edit, const char *prompt, sl__buffer *line)
{
    int count = 0;
    edit->prompt = prompt;
    edit->interrupted = false;
    reading = edit;
    const char *text = edit->lib.el_gets(edit->el, &count);
    if (edit->interrupted) return LINE_INTERRUPTED;
    if (!text || count <= 0) return LINE_OVER;
    size_t size = (size_t)count;
    while (size > 0 && (text[size - 1] == '\n' || text[size - 1] == '\r'))
        size--;
    if (sl__buffer_append(line, text, size)) return LINE_TEXT;
    errno = ENOMEM;
    return LINE_FAILED;
}

void line_edit_remember(line_edit *edit, const char *line)
{
    HistEvent event;
    edit->lib.history(edit->history, &event, H_ENTER, line);
    /* At once: a process may end in many ways. */
    if (edit->file) edit->lib.history(edit->history, &event, H_SAVE, edit->file);
}
