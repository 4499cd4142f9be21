/* clock.h on macOS, whose CLOCK_MONOTONIC counts whole microseconds of the time of day. This one is
 * the processor's counter, which stands still while the machine sleeps, as Linux's does. */
#include "base/clock.h"

#include <time.h>

uint64_t sl__now_ns(void)
{
    return clock_gettime_nsec_np(CLOCK_UPTIME_RAW);
}
