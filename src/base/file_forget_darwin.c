/* sl__file_forget on macOS, which knows no such advice for a range; invalidating a mapping of it is
 * the documented way. */
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"

void sl__file_forget(int fd, uint64_t offset, uint64_t bytes)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t begin = offset / page * page, end = (offset + bytes + page - 1) / page * page;
    size_t size = (size_t)(end - begin);
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)begin);
    if (map == MAP_FAILED) return;
    (void)msync(map, size, MS_INVALIDATE);
    munmap(map, size);
}
