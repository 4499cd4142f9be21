/* Monotonic time. */
#ifndef SL_BASE_CLOCK_H
#define SL_BASE_CLOCK_H

#include <stdint.h>

uint64_t sl__now_ns(void);

#endif
