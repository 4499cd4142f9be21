/* sl__file_sync on macOS, where fsync leaves what was written in the drive's own cache. Not every
 * file system can do more. */
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

int sl__file_sync(int fd)
{
    return fcntl(fd, F_FULLFSYNC) == 0 ? 0 : fsync(fd);
}

/* Nothing of the kind: the system begins by itself. */
void sl__file_write_behind(int fd, uint64_t offset, uint64_t bytes)
{
    (void)fd;
    (void)offset;
    (void)bytes;
}
