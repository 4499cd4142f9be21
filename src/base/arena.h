/* An arena: memory of one lifetime (load, session), freed at once.
 *
 * Blocks are linked; each allocation is zeroed and 64-byte aligned (a cache line, and the widest
 * vector). Nothing is freed singly. Not thread-safe.
 */
#ifndef SL_BASE_ARENA_H
#define SL_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#define SL_ARENA_ALIGN 64u

typedef struct sl__arena {
    struct sl__arena_block *blocks; /* newest first */
    size_t block_bytes;             /* of the next block */
    uint64_t used_bytes;            /* given out, rounding included */
} sl__arena;

/* No allocation happens before the first sl__arena_alloc. block_bytes 0: 64 KiB. */
void sl__arena_init(sl__arena *arena, size_t block_bytes);
void sl__arena_free(sl__arena *arena); /* leaves it empty and usable */

/* count * size bytes, zeroed, aligned; NULL when memory is out or the product overflows.
 * A product of 0 gives a valid pointer that must not be read. */
void *sl__arena_alloc(sl__arena *arena, size_t count, size_t size);
char *sl__arena_strdup(sl__arena *arena, const char *text);
char *sl__arena_strndup(sl__arena *arena, const char *text, size_t size);

#define SL_ARENA_NEW(arena, type, count) ((type *)sl__arena_alloc((arena), (count), sizeof(type)))

#endif
