/* What the platforms do differently about probing a disk. */
#ifndef SL_IO_PROBE_SYSTEM_H
#define SL_IO_PROBE_SYSTEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Takes a part of a file out of the page cache. False where most of it is known to be there still:
 * it was just written, or somebody has it mapped, or the file system lives in memory. */
bool sl__probe_uncache(int fd, uint64_t offset, uint64_t bytes);

/* "259:0 MODEL" of the disk that a file lies on, as the system writes it; "" where unknown. */
void sl__probe_disk(char *out, size_t out_size, int fd);

#endif
