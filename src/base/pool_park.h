/* Waiting for a word of memory to change, with the processor given back; and the pause of a loop
 * that watches one without giving it back. */
#ifndef SL_BASE_POOL_PARK_H
#define SL_BASE_POOL_PARK_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* What a platform without a system call for it waits on. */
typedef struct sl__park {
    pthread_mutex_t lock;
    pthread_cond_t changed;
} sl__park;

void sl__park_init(sl__park *park);
void sl__park_destroy(sl__park *park);

/* Sleeps while *word == value, until woken; may also return for no reason. */
void sl__park_wait(sl__park *park, atomic_uint *word, uint32_t value);

/* Wakes at least so many of those that wait on the word, all where there are fewer. The word was
 * changed before. */
void sl__park_wake(sl__park *park, atomic_uint *word, uint32_t count);

/* Some tens of nanoseconds in which the other thread of a core has its units to itself. */
void sl__park_pause(void);

#endif
