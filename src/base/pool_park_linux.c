/* pool_park.h on Linux: futexes, so that those who wake do not queue for a lock. */
#include "base/pool_park.h"

#include <limits.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

void sl__park_init(sl__park *park) { (void)park; }
void sl__park_destroy(sl__park *park) { (void)park; }

void sl__park_wait(sl__park *park, atomic_uint *word, uint32_t value)
{
    (void)park;
    (void)syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

void sl__park_wake(sl__park *park, atomic_uint *word, uint32_t count)
{
    (void)park;
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count < INT_MAX ? (int)count : INT_MAX,
                  NULL, NULL, 0);
}

void sl__park_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory"); /* yield is no pause on cores of one thread */
#endif
}
