/* What a model writes back, taken apart as it comes: reasoning, answer, tool calls.
 *
 *     <think>\n REASONING \n</think>\n\n CONTENT \n\n<tool_call>…</tool_call>\n<tool_call>…
 *
 * A call comes in one of two forms, which may be mixed:
 *
 *     <tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n</function>\n</tool_call>
 *     <tool_call>\n{"name": "NAME", "arguments": {…}}\n</tool_call>
 *
 * Its name is told first, its arguments follow as pieces of one JSON object while they are written.
 * What does not begin like a call is text. Line breaks beside a tag belong to the tag.
 *
 * Nothing is lost: every event says which bytes of the input it stands for, and all of them in turn
 * are the input. How the input was cut into pieces changes nothing but how text is.
 */
#ifndef SL_TEXT_CHAT_PARSE_H
#define SL_TEXT_CHAT_PARSE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "sluice.h"

typedef enum sl__chat_kind {
    SL_CHAT_CONTENT,
    SL_CHAT_REASONING,
    SL_CHAT_CALL,      /* a call begins; text is its name */
    SL_CHAT_ARGUMENTS, /* the next piece of its arguments, JSON */
    /* complete: as it should be. Else it broke off; the JSON was made whole where it was put
     * together from parameters. */
    SL_CHAT_CALL_END,
    SL_CHAT_SYNTAX, /* tags and what lies between: no text */
} sl__chat_kind;

typedef struct sl__chat_event {
    sl__chat_kind kind;
    bool complete;          /* CALL_END */
    const char *text, *raw; /* what it says, and the input that said so; not NUL-terminated */
    size_t text_size, raw_size;
} sl__chat_event;

/* Anything but SL_OK stops, and is what feeding returns. The event is borrowed for the call. */
typedef sl_status (*sl__chat_fn)(void *ctx, const sl__chat_event *event);

typedef struct sl__chat_parser sl__chat_parser;

/* tools: an array as in a request (kept alive by the parser; NULL: any name is a tool's, and values
 * are strings). A value is a string where its schema's type says so or there is no schema;
 * otherwise it is JSON, True, False and None among it, and a string where it is neither, or JSON of
 * a kind that its type, enum, const, anyOf and oneOf do not allow where they allow a string.
 * thinking: the prompt ended with <think>. */
sl_status sl__chat_parser_create(sl__chat_parser **out, json_t *tools, bool thinking,
                                 sl__chat_fn fn, void *ctx, sl_error *err);
void sl__chat_parser_destroy(sl__chat_parser *parser); /* NULL is allowed */

sl_status sl__chat_feed(sl__chat_parser *parser, const char *text, size_t size, sl_error *err);
/* Tells what is held back; nothing is fed after it. */
sl_status sl__chat_finish(sl__chat_parser *parser, sl_error *err);

#endif
