/* Lines from whoever types or pipes them. */
#ifndef SL_CLI_LINE_H
#define SL_CLI_LINE_H

#include <stdbool.h>

#include "base/buffer.h"

typedef enum line_end {
    LINE_TEXT = 0,
    LINE_OVER,        /* the end of the input, or Ctrl-D */
    LINE_INTERRUPTED, /* Ctrl-C, or SIGTERM */
    LINE_FAILED,      /* memory, or a read failed; errno */
} line_end;

typedef struct line_reader line_reader;

/* terminal: with prompts, and where that can be had with editing and a history, which is kept in
 * history_file (NULL: nowhere). NULL: no memory. */
line_reader *line_open(bool terminal, const char *history_file);
void line_close(line_reader *reader); /* NULL is allowed */
/* The next line, without its end, replaces what is in *line. */
line_end line_read(line_reader *reader, const char *prompt, sl__buffer *line);
/* Puts a line into the history. Those that begin with a space are not kept. */
void line_remember(line_reader *reader, const char *line);

/* ---- editing: line_edit_libedit.c, or line_edit_none.c, which has none ----------------------- */

typedef struct line_edit line_edit;

line_edit *line_edit_open(const char *history_file); /* NULL: there is none here */
void line_edit_close(line_edit *edit);
line_end line_edit_read(line_edit *edit, const char *prompt, sl__buffer *line);
void line_edit_remember(line_edit *edit, const char *line);

#endif
