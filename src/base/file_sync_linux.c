/* sl__file_sync on Linux. */
#include <unistd.h>

#include "base/file.h"

int sl__file_sync(int fd)
{
    return fsync(fd);
}
