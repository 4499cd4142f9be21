/* What the platforms do differently about threads. */
#ifndef SL_IO_IO_THREAD_H
#define SL_IO_IO_THREAD_H

/* Names the calling thread for debuggers and `top`; at most 15 characters. Never fails. */
void sl__io_thread_name(const char *name);

#endif
