/* One piece in hand: what to ask the system for, and what its answers mean. Knows nothing of
 * queues or of how the system is asked, so both engines go through it.
 *
 *            offset                                       offset + ask_bytes
 *              |                                                  |
 *     file  ···[ skip |  wanted, up to need_bytes  | rounding     ]···      direct: both ends are
 *              |<------ got_bytes ----->|                                    multiples of 4096
 *
 * Asking goes on at got_bytes, of a direct piece at the block in which that lies.
 */
#ifndef SL_IO_IO_PIECE_H
#define SL_IO_IO_PIECE_H

#include <sys/uio.h>

#include "io/io.h"

#define SL_IO_MERGE_MAX 32u /* reads in one piece at most */

typedef struct sl__io_piece {
    int fd;
    bool direct;
    uint64_t offset;     /* in the file */
    uint64_t ask_bytes;  /* what iov holds */
    uint64_t skip;       /* before what is wanted; 0 without a bounce buffer */
    uint64_t need_bytes; /* from offset; the piece is complete when got_bytes is there */

    /* Where bytes go. Those before `next` are done with; iov[next] begins at `at`. */
    struct iovec iov[SL_IO_MERGE_MAX];
    uint32_t iov_count, next;
    uint64_t at;

    const unsigned char *bounce; /* NULL: iov names the destination itself */
    unsigned char *dst;          /* of what is wanted, where there is a bounce buffer */

    uint64_t got_bytes;
    uint32_t tries; /* answers in a row that brought nothing */
    sl_status status;
    int sys_errno;

    /* The queue's. */
    uint32_t entry; /* the read, or the first of those that were merged */
    uint64_t begin; /* offset of the piece in the read's span */
    sl__io_priority priority;
} sl__io_piece;

typedef enum sl__io_step {
    SL_IO_STEP_DONE,  /* complete or failed: status says */
    SL_IO_STEP_AGAIN, /* ask for iov[next..] at offset + at */
    SL_IO_STEP_LATER, /* the same, after sl__io_piece_pause */
} sl__io_step;

/* Takes the system's answer in: bytes, or -errno. */
sl__io_step sl__io_piece_came(sl__io_piece *p, int64_t answer);
void sl__io_piece_pause(const sl__io_piece *p);

/* How many of the wanted bytes have come. */
uint64_t sl__io_piece_delivered(const sl__io_piece *p);
/* Copies them out of the bounce buffer, where there is one. Never under the queue's lock. */
void sl__io_piece_unload(const sl__io_piece *p);

#endif
