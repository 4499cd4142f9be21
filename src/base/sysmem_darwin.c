/* sysmem.h on macOS. */
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

uint64_t sl__mem_available(void)
{
    vm_statistics64_data_t vm;
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    vm_size_t page;
    if (host_page_size(mach_host_self(), &page) != KERN_SUCCESS ||
        host_statistics64(mach_host_self(), HOST_VM_INFO64, (host_info64_t)&vm, &count) !=
            KERN_SUCCESS) {
        return physical_bytes() / 2;
    }
    uint64_t pages = (uint64_t)vm.free_count + vm.inactive_count + vm.purgeable_count;
    return pages * (uint64_t)page;
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

uint64_t sl__mem_rss(void)
{
    mach_task_basic_info_data_t info;
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) !=
        KERN_SUCCESS) {
        return 0;
    }
    return info.resident_size;
}

uint64_t sl__mem_rss_peak(void)
{
    mach_task_basic_info_data_t info;
    mach_msg_type_number_t count = MACH_TASK_BASIC_INFO_COUNT;
    if (task_info(mach_task_self(), MACH_TASK_BASIC_INFO, (task_info_t)&info, &count) !=
        KERN_SUCCESS) {
        return 0;
    }
    return info.resident_size_max;
}

bool sl__mem_rss_peak_reset(void)
{
    return false;
}

uint32_t sl__cpu_count(void)
{
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

void sl__mem_trim(void)
{
    malloc_zone_pressure_relief(NULL, 0);
}
