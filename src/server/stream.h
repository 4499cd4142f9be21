/* Bytes on their way to a client: written on the engine's thread, taken by the thread of the
 * connection, which sleeps (is suspended) while there is nothing to take.
 *
 *     opened ── written, flushed … ── ended
 *
 * What waits may be as much as a client that reads nothing lets lie there, up to a limit; beyond it
 * the stream is broken, and so is one whose client has left.
 */
#ifndef SL_SERVER_STREAM_H
#define SL_SERVER_STREAM_H

#include <microhttpd.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct stream stream;

stream *stream_create(size_t limit); /* held once; NULL: no memory */
void stream_hold(stream *s);
void stream_release(stream *s); /* NULL is allowed */

/* ---- the writing side ------------------------------------------------------------------------ */

/* Adds bytes, which the client sees at once. Nothing where the stream is broken. */
void stream_write(stream *s, const void *bytes, size_t size);
/* Sets the status of the answer and its type of content (static), before its first byte; later
 * there is no way to change them. False: it is too late. */
bool stream_set_head(stream *s, unsigned status, const char *type);
/* With a whole answer: it begins only when it has ended. */
void stream_end(stream *s);
/* Whether a client is still there. Looks at its socket, too. */
bool stream_is_read(stream *s);

/* ---- the side of the connection -------------------------------------------------------------- */

/* Waits (suspends the connection) until the stream has bytes or has ended; false: it had to, and
 * the handler is called again. whole: only the end counts. */
bool stream_wait(stream *s, struct MHD_Connection *connection, bool whole);
/* An answer out of the stream, for this connection. The response holds the stream. whole: all of it
 * is there. NULL: no memory. */
struct MHD_Response *stream_respond(stream *s, struct MHD_Connection *connection, bool whole);
void stream_head(stream *s, unsigned *status, const char **type);
/* The connection is gone: nothing is written any more. */
void stream_break(stream *s);

#endif
