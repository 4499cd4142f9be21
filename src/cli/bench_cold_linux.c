/* bench_cold.h on Linux: posix_fadvise drops, mincore of a mapping tells. */
#include "cli/bench_cold.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define WINDOW_BYTES ((uint64_t)256 << 20) /* looked at in one go */

void bench_file_drop(int fd, uint64_t size)
{
    (void)size;
    fdatasync(fd); /* what was just written would stay */
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

bool bench_file_cached(int fd, uint64_t size, uint64_t *bytes)
{
    static const uint64_t pages_max = WINDOW_BYTES / 4096;
    unsigned char in_cache[WINDOW_BYTES / 4096]; /* 64 KiB, a byte a page */
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages = 0;
    *bytes = 0;
    for (uint64_t at = 0; at < size; at += WINDOW_BYTES) {
        uint64_t part = size - at < WINDOW_BYTES ? size - at : WINDOW_BYTES;
        uint64_t count = (part + page - 1) / page;
        if (count > pages_max) return false;
        void *map = mmap(NULL, part, PROT_READ, MAP_SHARED, fd, (off_t)at);
        if (map == MAP_FAILED) return false;
        bool ok = mincore(map, part, in_cache) == 0;
        munmap(map, part);
        if (!ok) return false;
        for (uint64_t i = 0; i < count; i++)
            pages += in_cache[i] & 1u;
    }
    *bytes = pages * page < size ? pages * page : size;
    return true;
}
