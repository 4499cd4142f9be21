/* Opening a file past the page cache on macOS: F_NOCACHE, which asks for no alignment. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

int sl__file_open_direct(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && fcntl(fd, F_NOCACHE, 1) == 0) return fd;
    close(fd);
    return -1;
}
