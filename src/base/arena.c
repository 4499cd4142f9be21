#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

/*  [ header, padded to 64 | data … room ]  ->  older block  */
struct sl__arena_block {
    struct sl__arena_block *older;
    size_t used, room;
};

#define HEADER_BYTES SL_ARENA_ALIGN
#define DEFAULT_BLOCK_BYTES ((size_t)64 << 10)

static char *block_data(struct sl__arena_block *block) { return (char *)block + HEADER_BYTES; }

void sl__arena_init(sl__arena *arena, size_t block_bytes)
{
    memset(arena, 0, sizeof *arena);
    arena->block_bytes = block_bytes ? block_bytes : DEFAULT_BLOCK_BYTES;
}

void sl__arena_free(sl__arena *arena)
{
    struct sl__arena_block *block = arena->blocks;
    while (block) {
        struct sl__arena_block *older = block->older;
        free(block);
        block = older;
    }
    arena->blocks = NULL;
    arena->used_bytes = 0;
}

static struct sl__arena_block *add_block(sl__arena *arena, size_t need)
{
    size_t room = arena->block_bytes > need ? arena->block_bytes : need;
    void *memory = NULL;
    if (room > SIZE_MAX - HEADER_BYTES ||
        posix_memalign(&memory, SL_ARENA_ALIGN, room + HEADER_BYTES) != 0) {
        return NULL;
    }
    struct sl__arena_block *block = memory;
    block->used = 0;
    block->room = room;
    /* A block made for one large request is full at once: keep the newest with room in front. */
    if (need == room && arena->blocks) {
        block->older = arena->blocks->older;
        arena->blocks->older = block;
    } else {
        block->older = arena->blocks;
        arena->blocks = block;
    }
    return block;
}

void *sl__arena_alloc(sl__arena *arena, size_t count, size_t size)
{
    uint64_t bytes;
    if (!sl__mul_u64(&bytes, count, size) || !sl__align_u64(&bytes, bytes, SL_ARENA_ALIGN) ||
        bytes > SIZE_MAX) {
        return NULL;
    }
    if (bytes == 0) bytes = SL_ARENA_ALIGN;
    struct sl__arena_block *block = arena->blocks;
    if (!block || block->room - block->used < bytes) block = add_block(arena, (size_t)bytes);
    if (!block) return NULL;
    void *out = block_data(block) + block->used;
    block->used += (size_t)bytes;
    arena->used_bytes += bytes;
    return memset(out, 0, (size_t)bytes);
}

char *sl__arena_strndup(sl__arena *arena, const char *text, size_t size)
{
    if (size == SIZE_MAX) return NULL;
    char *out = sl__arena_alloc(arena, size + 1, 1);
    if (out) memcpy(out, text, size);
    return out;
}

char *sl__arena_strdup(sl__arena *arena, const char *text)
{
    return sl__arena_strndup(arena, text, strlen(text));
}
