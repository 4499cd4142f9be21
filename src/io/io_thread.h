/* The threads of an engine: small stacks, no signals, a name, and the time that they used. */
#ifndef SL_IO_IO_THREAD_H
#define SL_IO_IO_THREAD_H

#include <pthread.h>
#include <stdint.h>

#define SL_IO_STACK_TOUCHED_BYTES (UINT64_C(16) << 10) /* resident part of a stack, with TLS */

/* Starts a thread with all signals blocked: a handler of the program must not run on a small stack,
 * nor interrupt reads. Returns an errno. */
int sl__io_thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

/* What the platforms do differently. */

/* Names the calling thread for debuggers and `top`; at most 15 characters. Never fails. */
void sl__io_thread_name(const char *name);
/* Processor time of a thread that has not been joined; 0 where that cannot be had. */
uint64_t sl__io_thread_cpu_ns(pthread_t thread);

#endif
