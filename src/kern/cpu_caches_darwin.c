/* Sizes of caches on macOS, of the fast cores where there are two kinds. */
#include <stddef.h>
#include <sys/sysctl.h>

#include "kern/cpu.h"

static uint64_t size_of(const char *fast, const char *any)
{
    uint64_t bytes = 0;
    size_t size = sizeof bytes;
    if (sysctlbyname(fast, &bytes, &size, NULL, 0) == 0) return bytes;
    bytes = 0; /* a name may be of 32 bits: what it leaves is 0 */
    size = sizeof bytes;
    return sysctlbyname(any, &bytes, &size, NULL, 0) == 0 ? bytes : 0;
}

void sl__cpu_caches_get(sl__cpu_caches *caches)
{
    *caches = (sl__cpu_caches){
        .l1_data = size_of("hw.perflevel0.l1dcachesize", "hw.l1dcachesize"),
        .l2 = size_of("hw.perflevel0.l2cachesize", "hw.l2cachesize"),
        .l3 = size_of("hw.perflevel0.l3cachesize", "hw.l3cachesize"),
    };
}
