/* Probing a disk on macOS. */
#include "io/probe_system.h"

#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOOKED_AT 1024u /* pages at a time */

/* Resident pages of a mapping. */
static size_t count_resident(char *map, size_t bytes, size_t page)
{
    char marks[LOOKED_AT];
    size_t count = 0;
    for (size_t at = 0; at < bytes; at += LOOKED_AT * page) {
        size_t rest = bytes - at, part = rest < LOOKED_AT * page ? rest : LOOKED_AT * page;
        if (mincore(map + at, part, marks) != 0) return 0;
        for (size_t i = 0; i < (part + page - 1) / page; i++)
            count += (marks[i] & MINCORE_INCORE) != 0;
    }
    return count;
}

/* There is no advice for it: invalidating a mapping of the place drops its clean pages. */
bool sl__probe_uncache(int fd, uint64_t offset, uint64_t bytes)
{
    size_t page = (size_t)getpagesize();
    uint64_t begin = offset / page * page;
    size_t size = (size_t)(offset + bytes - begin);
    char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)begin);
    if (map == MAP_FAILED) return true;
    (void)msync(map, size, MS_INVALIDATE);
    size_t resident = count_resident(map, size, page);
    munmap(map, size);
    return resident * page <= size / 8;
}

void sl__probe_disk(char *out, size_t out_size, int fd)
{
    struct stat st;
    out[0] = '\0';
    if (fstat(fd, &st) == 0) snprintf(out, out_size, "%lld", (long long)st.st_dev);
}
