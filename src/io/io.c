/* What every I/O engine shares. */
#include "io/io.h"

#include <stddef.h>

uint64_t sl__io_bytes(sl__io *io)
{
    /* Engines add to it atomically, so that no engine has to offer its lock for a counter. */
    return __atomic_load_n(&io->bytes_read, __ATOMIC_RELAXED);
}

void sl__io_destroy(sl__io *io)
{
    if (io != NULL) io->ops->destroy(io);
}
