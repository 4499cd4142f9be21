/* A stand-in for pread that misbehaves on request, from a fixed seed.
 *
 * Set the rules before the engine starts, or through io_shim_change while nothing is in flight.
 */
#ifndef SL_TEST_IO_SHIM_H
#define SL_TEST_IO_SHIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "test_env.h"

#define IO_SHIM_LOG 4096u

typedef struct io_shim_rules {
    /* Chances in 1000, tried in this order at each call. */
    unsigned eintr, eagain, eio, delay, cut; /* cut: a short read of at least one byte */
    unsigned flip;     /* one bit of what was read is wrong */
    unsigned delay_us; /* under a second */
    uint64_t eio_at_call; /* the call of this number (from 1) fails with EIO; 0: none */
    bool eagain_for_ever;
    int bad_fd;                /* every read of this descriptor fails with EIO; 0: none */
    uint64_t bad_from, bad_to; /* reads that touch [from, to) fail with EIO; equal: none */
    uint64_t end_at;           /* files end here; 0: where they end */
} io_shim_rules;

typedef struct io_shim {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Guarded by lock. */
    test_rng rng;
    io_shim_rules rules;
    uint64_t calls;
    bool gate_closed; /* calls stop at the gate until it opens */
    unsigned at_gate;
    unsigned inside, inside_max;      /* calls under way */
    uint64_t log_offset[IO_SHIM_LOG]; /* of the first calls, in order */
    uint64_t log_bytes[IO_SHIM_LOG];
} io_shim;

void io_shim_init(io_shim *shim, uint64_t seed, const io_shim_rules *rules); /* NULL: no faults */
void io_shim_free(io_shim *shim);
void io_shim_change(io_shim *shim, const io_shim_rules *rules); /* calls start again at 0 */
uint64_t io_shim_calls(io_shim *shim);

void io_shim_close_gate(io_shim *shim);
void io_shim_open_gate(io_shim *shim);
void io_shim_await_gate(io_shim *shim, unsigned calls); /* until so many have stopped there */

/* sl__io_pread_fn; ctx is the shim. */
ssize_t io_shim_pread(void *ctx, int fd, void *dst, size_t bytes, off_t offset);

#endif
