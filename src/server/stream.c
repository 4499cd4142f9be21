/* Streams between two threads. A connection is suspended under the stream's lock, so that a writer
 * either sees it suspended and wakes it, or has written before the connection looked. */
#include "server/stream.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buffer.h"

#define BLOCK_BYTES 16384u

struct stream {
    atomic_uint holders;
    pthread_mutex_t lock;
    sl__buffer bytes;
    size_t at; /* what the client has */
    unsigned status;
    const char *type;
    bool written; /* something was */
    bool ended, broken, whole;
    struct MHD_Connection *suspended;  /* NULL: it is not */
    struct MHD_Connection *connection; /* NULL: none yet, or gone */
};

stream *stream_create(size_t limit)
{
    stream *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    atomic_init(&s->holders, 1);
    pthread_mutex_init(&s->lock, NULL);
    sl__buffer_init(&s->bytes, limit);
    s->status = MHD_HTTP_OK;
    s->type = "application/json";
    return s;
}

void stream_hold(stream *s)
{
    atomic_fetch_add_explicit(&s->holders, 1, memory_order_relaxed);
}

void stream_release(stream *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->holders, 1, memory_order_acq_rel) != 1) return;
    sl__buffer_free(&s->bytes);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- the writing side ------------------------------------------------------------------------ */

/* Under the lock. */
static void wake(stream *s)
{
    if (!s->suspended || (s->whole && !s->ended && !s->broken)) return;
    struct MHD_Connection *connection = s->suspended;
    s->suspended = NULL;
    MHD_resume_connection(connection);
}

/* What the client has is dropped before the bytes are moved into more memory. */
static void drop_taken(stream *s)
{
    if (s->at == 0 || s->at < s->bytes.size / 2) return;
    memmove(s->bytes.data, s->bytes.data + s->at, s->bytes.size - s->at);
    s->bytes.size -= s->at;
    s->at = 0;
}

void stream_write(stream *s, const void *bytes, size_t size)
{
    pthread_mutex_lock(&s->lock);
    if (!s->broken && !s->ended) {
        drop_taken(s);
        s->written = true;
        if (!sl__buffer_append(&s->bytes, bytes, size)) s->broken = true;
        wake(s);
    }
    pthread_mutex_unlock(&s->lock);
}

bool stream_set_head(stream *s, unsigned status, const char *type)
{
    pthread_mutex_lock(&s->lock);
    bool early = !s->written;
    if (early) {
        s->status = status;
        s->type = type;
    }
    pthread_mutex_unlock(&s->lock);
    return early;
}

void stream_end(stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->ended = true;
    wake(s);
    pthread_mutex_unlock(&s->lock);
}

/* A suspended connection is not looked at by the HTTP library, so this looks whether its client has
 * closed. */
static bool has_left(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    char byte;
    if (!info) return false;
    ssize_t n = recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

bool stream_is_read(stream *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->suspended && has_left(s->suspended)) {
        s->broken = true;
        wake(s);
    }
    bool read = !s->broken;
    pthread_mutex_unlock(&s->lock);
    return read;
}

/* ---- the side of the connection -------------------------------------------------------------- */

bool stream_wait(stream *s, struct MHD_Connection *connection, bool whole)
{
    pthread_mutex_lock(&s->lock);
    s->whole = whole;
    bool ready = s->ended || s->broken || (!whole && s->at < s->bytes.size);
    if (!ready) {
        s->suspended = connection;
        MHD_suspend_connection(connection);
    }
    pthread_mutex_unlock(&s->lock);
    return ready;
}

void stream_head(stream *s, unsigned *status, const char **type)
{
    pthread_mutex_lock(&s->lock);
    *status = s->status;
    *type = s->type;
    pthread_mutex_unlock(&s->lock);
}

void stream_break(stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->broken = true;
    s->suspended = s->connection = NULL;
    pthread_mutex_unlock(&s->lock);
}

/* The HTTP library takes bytes; 0 is only said where the connection was suspended. */
static ssize_t take(void *ctx, uint64_t position, char *out, size_t room)
{
    stream *s = ctx;
    (void)position;
    pthread_mutex_lock(&s->lock);
    size_t left = s->bytes.size - s->at, n = left < room ? left : room;
    ssize_t result = (ssize_t)n;
    if (n > 0) {
        memcpy(out, s->bytes.data + s->at, n);
        s->at += n;
    } else if (s->ended) {
        result = MHD_CONTENT_READER_END_OF_STREAM;
    } else if (s->broken) {
        result = MHD_CONTENT_READER_END_WITH_ERROR;
    } else {
        s->suspended = s->connection;
        MHD_suspend_connection(s->connection);
    }
    pthread_mutex_unlock(&s->lock);
    return result;
}

static void let_go(void *ctx)
{
    stream_release(ctx);
}

struct MHD_Response *stream_respond(stream *s, struct MHD_Connection *connection, bool whole)
{
    struct MHD_Response *response;
    stream_hold(s);
    pthread_mutex_lock(&s->lock);
    s->whole = false;
    s->connection = connection;
    uint64_t size = whole ? s->bytes.size : MHD_SIZE_UNKNOWN;
    pthread_mutex_unlock(&s->lock);
    response = MHD_create_response_from_callback(size, BLOCK_BYTES, take, s, let_go);
    if (!response) stream_release(s);
    return response;
}
