/* cpus.h on macOS, where threads cannot be bound. Cores of all kinds count. */
#include "base/cpus.h"

#include <stddef.h>
#include <sys/sysctl.h>

#include "base/sysmem.h"

uint32_t sl__cpu_list(sl__cpu list[SL_CPUS_MAX], const char *root)
{
    (void)list;
    (void)root;
    return 0;
}

uint32_t sl__core_count(void)
{
    uint32_t cpus = sl__cpu_count();
    int cores = 0;
    size_t size = sizeof cores;
    if (sysctlbyname("hw.physicalcpu", &cores, &size, NULL, 0) != 0 || cores < 1) return cpus;
    return (uint32_t)cores < cpus ? (uint32_t)cores : cpus;
}

bool sl__cpu_bind(const pthread_t threads[], uint32_t count)
{
    (void)threads;
    return count == 0;
}
