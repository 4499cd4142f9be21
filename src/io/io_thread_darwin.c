/* Threads on macOS, where a thread can name only itself. */
#include "io/io_thread.h"

#include <mach/mach.h>

void sl__io_thread_name(const char *name)
{
    (void)pthread_setname_np(name);
}

static uint64_t time_ns(time_value_t t)
{
    return (uint64_t)t.seconds * 1000000000u + (uint64_t)t.microseconds * 1000u;
}

uint64_t sl__io_thread_cpu_ns(pthread_t thread)
{
    thread_basic_info_data_t info;
    mach_msg_type_number_t count = THREAD_BASIC_INFO_COUNT;
    if (thread_info(pthread_mach_thread_np(thread), THREAD_BASIC_INFO, (thread_info_t)&info,
                    &count) != KERN_SUCCESS) {
        return 0;
    }
    return time_ns(info.user_time) + time_ns(info.system_time);
}
