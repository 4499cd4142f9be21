#include "io_shim.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void io_shim_init(io_shim *shim, uint64_t seed, const io_shim_rules *rules)
{
    memset(shim, 0, sizeof *shim);
    pthread_mutex_init(&shim->lock, NULL);
    pthread_cond_init(&shim->changed, NULL);
    shim->rng.state = seed;
    if (rules) shim->rules = *rules;
}

void io_shim_free(io_shim *shim)
{
    pthread_cond_destroy(&shim->changed);
    pthread_mutex_destroy(&shim->lock);
}

void io_shim_change(io_shim *shim, const io_shim_rules *rules)
{
    pthread_mutex_lock(&shim->lock);
    if (rules)
        shim->rules = *rules;
    else
        memset(&shim->rules, 0, sizeof shim->rules);
    shim->calls = 0;
    pthread_mutex_unlock(&shim->lock);
}

uint64_t io_shim_calls(io_shim *shim)
{
    pthread_mutex_lock(&shim->lock);
    uint64_t calls = shim->calls;
    pthread_mutex_unlock(&shim->lock);
    return calls;
}

void io_shim_close_gate(io_shim *shim)
{
    pthread_mutex_lock(&shim->lock);
    shim->gate_closed = true;
    pthread_mutex_unlock(&shim->lock);
}

void io_shim_open_gate(io_shim *shim)
{
    pthread_mutex_lock(&shim->lock);
    shim->gate_closed = false;
    pthread_cond_broadcast(&shim->changed);
    pthread_mutex_unlock(&shim->lock);
}

void io_shim_await_gate(io_shim *shim, unsigned calls)
{
    pthread_mutex_lock(&shim->lock);
    while (shim->at_gate < calls)
        pthread_cond_wait(&shim->changed, &shim->lock);
    pthread_mutex_unlock(&shim->lock);
}

static bool chance(io_shim *shim, unsigned of_1000)
{
    return of_1000 > 0 && test_rng_below(&shim->rng, 1000) < of_1000;
}

/* Decides the fate of a call: the errno to fail with, or 0; may lower *bytes and set the rest. */
static int decide(io_shim *shim, int fd, size_t *bytes, uint64_t offset, unsigned *delay,
                  uint64_t *flip)
{
    const io_shim_rules *r = &shim->rules;
    if (r->eagain_for_ever) return EAGAIN;
    if (r->eio_at_call != 0 && shim->calls == r->eio_at_call) return EIO;
    if (r->bad_fd != 0 && fd == r->bad_fd) return EIO;
    if (r->bad_from < r->bad_to && offset < r->bad_to && offset + *bytes > r->bad_from) return EIO;
    if (chance(shim, r->eintr)) return EINTR;
    if (chance(shim, r->eagain)) return EAGAIN;
    if (chance(shim, r->eio)) return EIO;
    if (chance(shim, r->delay)) *delay = r->delay_us;
    if (chance(shim, r->flip)) *flip = 1 + test_rng_next(&shim->rng) / 2;
    if (*bytes > 1 && chance(shim, r->cut)) {
        unsigned most = *bytes - 1 > 1u << 20 ? 1u << 20 : (unsigned)(*bytes - 1);
        *bytes = 1 + test_rng_below(&shim->rng, most);
    }
    if (r->end_at != 0) {
        uint64_t left = offset < r->end_at ? r->end_at - offset : 0;
        if (*bytes > left) *bytes = (size_t)left;
    }
    return 0;
}

ssize_t io_shim_pread(void *ctx, int fd, void *dst, size_t bytes, off_t offset)
{
    io_shim *shim = ctx;
    unsigned delay = 0;
    uint64_t flip = 0; /* 1 + which bit; 0: none */
    pthread_mutex_lock(&shim->lock);
    if (shim->calls < IO_SHIM_LOG) {
        shim->log_offset[shim->calls] = (uint64_t)offset;
        shim->log_bytes[shim->calls] = bytes;
    }
    shim->calls++;
    if (++shim->inside > shim->inside_max) shim->inside_max = shim->inside;
    int fault = decide(shim, fd, &bytes, (uint64_t)offset, &delay, &flip);
    if (shim->gate_closed) {
        shim->at_gate++;
        pthread_cond_broadcast(&shim->changed);
        while (shim->gate_closed)
            pthread_cond_wait(&shim->changed, &shim->lock);
        shim->at_gate--;
    }
    pthread_mutex_unlock(&shim->lock);

    if (delay > 0) {
        struct timespec pause = {.tv_sec = 0, .tv_nsec = (long)delay * 1000};
        nanosleep(&pause, NULL);
    }
    ssize_t n = -1;
    if (fault == 0) n = bytes > 0 ? pread(fd, dst, bytes, offset) : 0;
    if (n > 0 && flip > 0) {
        uint64_t bit = (flip - 1) % ((uint64_t)n * 8);
        ((unsigned char *)dst)[bit / 8] ^= (unsigned char)(1u << bit % 8);
    }
    int cause = fault != 0 ? fault : errno;
    pthread_mutex_lock(&shim->lock);
    shim->inside--;
    pthread_mutex_unlock(&shim->lock);
    errno = cause;
    return n;
}
