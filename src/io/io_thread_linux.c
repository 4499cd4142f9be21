/* Threads on Linux. */
#include "io/io_thread.h"

#include <time.h>

void sl__io_thread_name(const char *name)
{
    (void)pthread_setname_np(pthread_self(), name);
}

uint64_t sl__io_thread_cpu_ns(pthread_t thread)
{
    clockid_t clock;
    struct timespec t;
    if (pthread_getcpuclockid(thread, &clock) != 0 || clock_gettime(clock, &t) != 0) return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
