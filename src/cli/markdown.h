/* Markdown as it streams: which attributes each piece of the text is to be shown with.
 *
 * No renderer: the text comes out as it came in, every byte and in order, so that what is copied
 * from the screen is the Markdown. Markers are shown with what they mark.
 */
#ifndef SL_CLI_MARKDOWN_H
#define SL_CLI_MARKDOWN_H

#include <stdbool.h>
#include <stddef.h>

typedef enum markdown_style {
    MARKDOWN_PLAIN = 0,
    MARKDOWN_BOLD = 1,
    MARKDOWN_ITALIC = 2,
    MARKDOWN_CODE = 4,   /* inline */
    MARKDOWN_BLOCK = 8,  /* lines of a code block */
    MARKDOWN_FENCE = 16, /* the lines around one */
    MARKDOWN_HEADING = 32,
} markdown_style;

/* Receives text and its styles, or'ed; size > 0. Borrowed for the call. */
typedef void (*markdown_fn)(void *ctx, unsigned styles, const char *text, size_t size);

/* Where in the text the stream is. What may be a marker waits (at most a run of the same character)
 * until the next one shows what it is. */
typedef struct markdown {
    markdown_fn fn;
    void *ctx;
    bool indent; /* nothing but spaces in this line so far */
    bool heading;
    bool fence_line; /* in a line that opens or closes a code block */
    bool closing;    /* of those: it closes */
    bool bold, italic;
    char italic_mark;
    size_t ticks; /* of the inline code that is open; 0: none */
    char fence;   /* '`' or '~': in a code block; 0: not */
    size_t fence_size;
    char run; /* the character that waits; 0: none */
    size_t run_size;
    unsigned char before; /* the character before the one at hand */
} markdown;

void markdown_begin(markdown *m, markdown_fn fn, void *ctx);
void markdown_push(markdown *m, const char *text, size_t size);
void markdown_end(markdown *m); /* what waits comes out; the stream is as it was at its beginning */

#endif
