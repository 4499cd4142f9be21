/* Opening a file past the page cache on Linux: O_DIRECT. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define BLOCK_BYTES 4096u

/* Some file systems take the flag and refuse the reads, some devices want larger blocks: both say
 * EINVAL at the first block. What else a read may say is for whoever reads. */
static bool reads_blocks(int fd)
{
    unsigned char room[2 * BLOCK_BYTES];
    uintptr_t at = ((uintptr_t)room + BLOCK_BYTES - 1) & ~(uintptr_t)(BLOCK_BYTES - 1);
    return pread(fd, (void *)at, BLOCK_BYTES, 0) >= 0 || errno != EINVAL;
}

int sl__file_open_direct(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | O_DIRECT);
    if (fd < 0) return -1;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && reads_blocks(fd)) return fd;
    close(fd);
    return -1;
}
