/* sl__file_sync and sl__file_write_behind on Linux. */
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

int sl__file_sync(int fd)
{
    return fsync(fd);
}

void sl__file_write_behind(int fd, uint64_t offset, uint64_t bytes)
{
    (void)sync_file_range(fd, (off64_t)offset, (off64_t)bytes, SYNC_FILE_RANGE_WRITE);
}
