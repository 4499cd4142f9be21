/* sl__file_forget on Linux. */
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

void sl__file_forget(int fd, uint64_t offset, uint64_t bytes)
{
    /* Pages that lie in the range in part would be kept. */
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t begin = offset / page * page, end = (offset + bytes + page - 1) / page * page;
    (void)posix_fadvise(fd, (off_t)begin, (off_t)(end - begin), POSIX_FADV_DONTNEED);
}
