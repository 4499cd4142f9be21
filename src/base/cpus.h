/* Physical cores, and threads bound to them. A core is one or more CPUs (hardware threads) that
 * share its units: for arithmetic it counts once. */
#ifndef SL_BASE_CPUS_H
#define SL_BASE_CPUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Cores that this process may use, as sl__cpu_count counts CPUs; from 1 to sl__cpu_count(). */
uint32_t sl__core_count(void);

/* A CPU and the least numbered CPU of its core. */
typedef struct sl__cpu {
    uint32_t number, core;
} sl__cpu;

#define SL_CPUS_MAX 1024u

/* The CPUs that the calling thread may run on, in increasing order; returns their number, 0 where
 * that cannot be had. root: a folder that stands for "/" where cores are looked up, "" for the real
 * one. */
uint32_t sl__cpu_list(sl__cpu list[SL_CPUS_MAX], const char *root);

/* Binds each thread to a core of its own, to all of its CPUs, and leaves the core alone on which
 * the caller runs just now. The caller itself is not bound: threads that it starts would be, too.
 * False, and nothing is bound, where there are not count + 1 cores, or the system has no such
 * thing. */
bool sl__cpu_bind(const pthread_t threads[], uint32_t count);

#endif
