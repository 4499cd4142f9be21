/* Threads on macOS, where a thread can name only itself. */
#include "io/io_thread.h"

#include <pthread.h>

void sl__io_thread_name(const char *name)
{
    (void)pthread_setname_np(name);
}
