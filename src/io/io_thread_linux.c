/* Threads on Linux. */
#include "io/io_thread.h"

#include <pthread.h>

void sl__io_thread_name(const char *name)
{
    (void)pthread_setname_np(pthread_self(), name);
}
