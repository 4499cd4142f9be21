/* A growable byte buffer with an upper bound, for text that comes from outside. */
#ifndef SL_BASE_BUFFER_H
#define SL_BASE_BUFFER_H

#include <stdbool.h>
#include <stddef.h>

typedef struct sl__buffer {
    char *data; /* NUL-terminated when not NULL */
    size_t size, room, limit;
    bool failed; /* an append ran out of memory or over the limit; sticky */
} sl__buffer;

void sl__buffer_init(sl__buffer *buf, size_t limit); /* limit in bytes; allocates nothing */
void sl__buffer_free(sl__buffer *buf);
void sl__buffer_clear(sl__buffer *buf); /* keeps the memory */

/* Each returns false, and sets failed, where the bytes do not fit; the content stays as it was. */
bool sl__buffer_reserve(sl__buffer *buf, size_t more);
bool sl__buffer_append(sl__buffer *buf, const void *bytes, size_t size);
bool sl__buffer_append_str(sl__buffer *buf, const char *text);
bool sl__buffer_printf(sl__buffer *buf, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
