#include "io/io_piece.h"

#include <assert.h>
#include <errno.h>
#include <sched.h>
#include <string.h>
#include <time.h>

/* EAGAIN is tried again so many times in a row; the first tries only yield, the others sleep. */
#define EAGAIN_TRIES    100u
#define EAGAIN_YIELDS   4u
#define EAGAIN_SLEEP_NS 1000000L

/* A direct read can be asked only for whole blocks, hence not for what lies behind the end of a
 * file that ends inside of one: that the same end comes so often in a row says that it is there. */
#define END_TRIES 8u

/* Moves the front of iov up to `at`. */
static void advance(sl__io_piece *p, uint64_t at)
{
    uint64_t bytes = at - p->at;
    p->at = at;
    while (bytes > 0) {
        struct iovec *v = &p->iov[p->next];
        uint64_t part = bytes < v->iov_len ? bytes : v->iov_len;
        v->iov_base = (unsigned char *)v->iov_base + part;
        v->iov_len -= (size_t)part;
        bytes -= part;
        if (v->iov_len == 0) p->next++;
    }
}

static sl__io_step fail(sl__io_piece *p, sl_status status, int cause)
{
    p->status = status;
    p->sys_errno = cause;
    return SL_IO_STEP_DONE;
}

sl__io_step sl__io_piece_came(sl__io_piece *p, int64_t answer)
{
    if (answer < 0) {
        int cause = (int)-answer;
        if (cause == EINTR) return SL_IO_STEP_AGAIN;
        if (cause == EAGAIN && ++p->tries < EAGAIN_TRIES) return SL_IO_STEP_LATER;
        return fail(p, SL_EIO, cause);
    }
    uint64_t end = p->at + (uint64_t)answer;
    assert(end <= p->ask_bytes);
    if (end <= p->got_bytes) {
        if (answer == 0 || ++p->tries >= END_TRIES) return fail(p, SL_EFORMAT, 0);
        return SL_IO_STEP_AGAIN;
    }
    p->got_bytes = end;
    p->tries = 0;
    if (end >= p->need_bytes) return SL_IO_STEP_DONE;
    advance(p, p->direct ? end & ~(uint64_t)(SL_IO_ALIGN - 1) : end);
    return SL_IO_STEP_AGAIN;
}

void sl__io_piece_pause(const sl__io_piece *p)
{
    if (p->tries <= EAGAIN_YIELDS) {
        sched_yield();
        return;
    }
    struct timespec pause = {.tv_sec = 0, .tv_nsec = EAGAIN_SLEEP_NS};
    nanosleep(&pause, NULL);
}

uint64_t sl__io_piece_delivered(const sl__io_piece *p)
{
    uint64_t end = p->got_bytes < p->need_bytes ? p->got_bytes : p->need_bytes;
    return end > p->skip ? end - p->skip : 0;
}

void sl__io_piece_unload(const sl__io_piece *p)
{
    if (p->bounce == NULL) return;
    memcpy(p->dst, p->bounce + p->skip, (size_t)sl__io_piece_delivered(p));
}
