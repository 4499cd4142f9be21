/* Tools of a chat: programs that a model may ask for.
 *
 * A tools file is a JSON array of
 *
 *     {"name": "weather", "description": "…", "parameters": {a JSON schema of an object},
 *      "command": ["weather", "--city", "{city}"]}
 *
 * "{city}" stands for the argument of that name, inside of longer text too; "{{" and "}}" are
 * braces. Text is put in as it is, everything else as JSON. What stands for an argument that was
 * not given is left out, with all of its word. The program itself cannot be filled in. There is no
 * shell.
 */
#ifndef SL_CLI_CHAT_TOOLS_H
#define SL_CLI_CHAT_TOOLS_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "sluice.h"

typedef struct chat_tools {
    json_t *file;      /* as it was read */
    json_t *templates; /* what chat templates take: [{"type": "function", "function": {…}}] */
} chat_tools;

/* Zero-initialised tools are none. path is for messages, which name the tool and the member.
 * *tools is filled on success alone; free with chat_tools_free. */
sl_status chat_tools_parse(chat_tools *tools, const char *text, size_t size, const char *path,
                           sl_error *err);
sl_status chat_tools_load(chat_tools *tools, const char *path, sl_error *err);
void chat_tools_free(chat_tools *tools);

/* The words of the command for a call, ended by NULL; *argv is one allocation, owned by the caller
 * (free). arguments: an object. SL_EINVAL, with a message meant for the model, where there is no
 * such tool, or an argument that the schema requires is missing or cannot be a word. */
sl_status chat_tools_command(const chat_tools *tools, const char *name, const json_t *arguments,
                             char ***argv, sl_error *err);

/* The words as one line for a reader: those that are not plain in quotes, and every character that
 * a terminal would not show as itself (controls, marks that turn the direction of text, blanks of
 * no width) as its number. False: no memory. */
bool chat_tools_show(sl__buffer *line, char *const *argv);

#endif
