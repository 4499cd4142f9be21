/* sysmem.h on macOS: the counts that the kernel keeps of all pages, and of this task's. */
#include "base/sysmem.h"

#include <mach/mach.h>
#include <malloc/malloc.h>
#include <sys/sysctl.h>
#include <unistd.h>

static uint64_t physical_bytes(void)
{
    uint64_t bytes = 0;
    size_t size = sizeof bytes;
    if (sysctlbyname("hw.memsize", &bytes, &size, NULL, 0) != 0) return 0;
    return bytes;
}

/* Free pages, those that only hold what is in a file, and those whose owner can do without them.
 * What was read ahead is counted as free and as a file's. Inactive pages are no measure: most hold
 * what would have to be compressed. */
uint64_t sl__mem_available(void)
{
    vm_statistics64_data_t vm;
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    vm_size_t page;
    mach_port_t host = mach_host_self();
    bool known =
        host_page_size(host, &page) == KERN_SUCCESS &&
        host_statistics64(host, HOST_VM_INFO64, (host_info64_t)&vm, &count) == KERN_SUCCESS;
    /* Each call has made one more reference, and this is asked for again and again. */
    (void)mach_port_deallocate(mach_task_self(), host);
    if (!known) return physical_bytes() / 2;
    uint64_t free_count = vm.free_count;
    free_count -= vm.speculative_count < free_count ? vm.speculative_count : free_count;
    return (free_count + vm.external_page_count + vm.purgeable_count) * (uint64_t)page;
}

void sl__mem_state_read(sl__mem_state *state, const char *root)
{
    int level = 1; /* 1: normal, 2: warning, 4: critical */
    size_t size = sizeof level;
    (void)root;
    (void)sysctlbyname("kern.memorystatus_vm_pressure_level", &level, &size, NULL, 0);
    *state = (sl__mem_state){.available_bytes = sl__mem_available(),
                             .limit_bytes = physical_bytes(),
                             .pressed = level > 1};
}

/* All zero where the kernel does not tell. */
static task_vm_info_data_t task_memory(void)
{
    task_vm_info_data_t info = {0};
    mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
    (void)task_info(mach_task_self(), TASK_VM_INFO, (task_info_t)&info, &count);
    return info;
}

/* Pages that were given back (pages.h) count as resident until somebody takes them. */
uint64_t sl__mem_rss(void)
{
    task_vm_info_data_t info = task_memory();
    return info.reusable < info.resident_size ? info.resident_size - info.reusable : 0;
}

uint64_t sl__mem_rss_peak(void)
{
    return task_memory().resident_size_peak;
}

bool sl__mem_rss_peak_reset(void)
{
    return false;
}

/* Of cores of two kinds the fast ones: a loop ends when its slowest thread does. */
uint32_t sl__cpu_count(void)
{
    int fast = 0;
    size_t size = sizeof fast;
    if (sysctlbyname("hw.perflevel0.logicalcpu", &fast, &size, NULL, 0) == 0 && fast > 0)
        return (uint32_t)fast;
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

void sl__mem_trim(void)
{
    malloc_zone_pressure_relief(NULL, 0);
}
