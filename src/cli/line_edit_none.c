/* Built without libedit: lines are read plainly. */
#include "cli/line.h"

line_edit *line_edit_open(const char *history_file)
{
    (void)history_file;
    return NULL;
}

void line_edit_close(line_edit *edit)
{
    (void)edit;
}

line_end line_edit_read(line_edit *edit, const char *prompt, sl__buffer *line)
{
    (void)edit;
    (void)prompt;
    (void)line;
    return LINE_FAILED;
}

void line_edit_remember(line_edit *edit, const char *line)
{
    (void)edit;
    (void)line;
}
