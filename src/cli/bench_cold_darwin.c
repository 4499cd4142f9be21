/* bench_cold.h on macOS: msync of a mapping drops, mincore of a mapping tells. */
#include "cli/bench_cold.h"

#include <sys/mman.h>
#include <unistd.h>

#define WINDOW_BYTES ((uint64_t)256 << 20) /* mapped in one go */

void bench_file_drop(int fd, uint64_t size)
{
    for (uint64_t at = 0; at < size; at += WINDOW_BYTES) {
        uint64_t part = size - at < WINDOW_BYTES ? size - at : WINDOW_BYTES;
        void *map = mmap(NULL, part, PROT_READ, MAP_SHARED, fd, (off_t)at);
        if (map == MAP_FAILED) return;
        msync(map, part, MS_INVALIDATE);
        munmap(map, part);
    }
}

bool bench_file_cached(int fd, uint64_t size, uint64_t *bytes)
{
    static const uint64_t pages_max = WINDOW_BYTES / 4096;
    char state[WINDOW_BYTES / 4096]; /* 64 KiB, a byte a page */
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages = 0;
    *bytes = 0;
    for (uint64_t at = 0; at < size; at += WINDOW_BYTES) {
        uint64_t part = size - at < WINDOW_BYTES ? size - at : WINDOW_BYTES;
        uint64_t count = (part + page - 1) / page;
        if (count > pages_max) return false;
        void *map = mmap(NULL, part, PROT_READ, MAP_SHARED, fd, (off_t)at);
        if (map == MAP_FAILED) return false;
        bool ok = mincore(map, part, state) == 0;
        munmap(map, part);
        if (!ok) return false;
        for (uint64_t i = 0; i < count; i++)
            pages += (state[i] & MINCORE_INCORE) != 0;
    }
    *bytes = pages * page < size ? pages * page : size;
    return true;
}
