/* sl__file_sync on macOS, where fsync leaves what was written in the drive's own cache. Not every
 * file system can do more. */
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"

int sl__file_sync(int fd)
{
    return fcntl(fd, F_FULLFSYNC) == 0 ? 0 : fsync(fd);
}
