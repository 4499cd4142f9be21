#include "io/io_thread.h"

#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)256 << 10)

static size_t stack_size(void)
{
    size_t least = (size_t)PTHREAD_STACK_MIN; /* a call of sysconf on newer systems */
    return least > STACK_BYTES ? least : STACK_BYTES;
}

int sl__io_thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    pthread_attr_t attr;
    sigset_t all, old;
    int rc = pthread_attr_init(&attr);
    if (rc != 0) return rc;
    /* A refused size leaves the default one, which is only larger. */
    (void)pthread_attr_setstacksize(&attr, stack_size());
    sigfillset(&all);
    rc = pthread_sigmask(SIG_SETMASK, &all, &old);
    if (rc == 0) {
        rc = pthread_create(thread, &attr, run, arg);
        pthread_sigmask(SIG_SETMASK, &old, NULL);
    }
    pthread_attr_destroy(&attr);
    return rc;
}
