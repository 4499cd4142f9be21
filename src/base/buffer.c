#include "base/buffer.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void sl__buffer_init(sl__buffer *buf, size_t limit)
{
    assert(limit < SIZE_MAX);
    memset(buf, 0, sizeof *buf);
    buf->limit = limit;
}

void sl__buffer_free(sl__buffer *buf)
{
    free(buf->data);
    sl__buffer_init(buf, buf->limit);
}

void sl__buffer_clear(sl__buffer *buf)
{
    buf->size = 0;
    buf->failed = false;
    if (buf->data) buf->data[0] = '\0';
}

bool sl__buffer_reserve(sl__buffer *buf, size_t more)
{
    if (buf->failed) return false;
    if (more > buf->limit || buf->size > buf->limit - more) {
        buf->failed = true;
        return false;
    }
    size_t need = buf->size + more + 1; /* cannot wrap: limit < SIZE_MAX */
    if (need <= buf->room) return true;
    size_t room = buf->room < 64 ? 64 : buf->room;
    while (room < need)
        room = room > SIZE_MAX / 2 ? need : room * 2;
    char *grown = realloc(buf->data, room);
    if (!grown) {
        buf->failed = true;
        return false;
    }
    buf->data = grown;
    buf->room = room;
    buf->data[buf->size] = '\0';
    return true;
}

bool sl__buffer_append(sl__buffer *buf, const void *bytes, size_t size)
{
    if (!sl__buffer_reserve(buf, size)) return false;
    if (size) memcpy(buf->data + buf->size, bytes, size);
    buf->size += size;
    buf->data[buf->size] = '\0';
    return true;
}

bool sl__buffer_append_str(sl__buffer *buf, const char *text)
{
    return sl__buffer_append(buf, text, strlen(text));
}

bool sl__buffer_printf(sl__buffer *buf, const char *fmt, ...)
{
    va_list args, again;
    va_start(args, fmt);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    bool ok = n >= 0 && sl__buffer_reserve(buf, (size_t)n);
    if (ok) {
        vsnprintf(buf->data + buf->size, (size_t)n + 1, fmt, again);
        buf->size += (size_t)n;
    }
    va_end(again);
    return ok;
}
