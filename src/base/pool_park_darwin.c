/* pool_park.h on macOS, and wherever POSIX threads are all there is. */
#include "base/pool_park.h"

void sl__park_init(sl__park *park)
{
    pthread_mutex_init(&park->lock, NULL);
    pthread_cond_init(&park->changed, NULL);
}

void sl__park_destroy(sl__park *park)
{
    pthread_cond_destroy(&park->changed);
    pthread_mutex_destroy(&park->lock);
}

void sl__park_wait(sl__park *park, atomic_uint *word, uint32_t value)
{
    pthread_mutex_lock(&park->lock);
    if (atomic_load(word) == value) pthread_cond_wait(&park->changed, &park->lock);
    pthread_mutex_unlock(&park->lock);
}

/* All words share a condition: nobody can be singled out. */
void sl__park_wake(sl__park *park, atomic_uint *word, uint32_t count)
{
    (void)word;
    (void)count;
    pthread_mutex_lock(&park->lock);
    pthread_cond_broadcast(&park->changed);
    pthread_mutex_unlock(&park->lock);
}

void sl__park_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("isb" ::: "memory");
#endif
}
