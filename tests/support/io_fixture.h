/* What the tests of the I/O engines share: a file of random bytes, engines of both kinds on it, and
 * batches of random reads that are checked byte by byte. */
#ifndef SL_TEST_IO_FIXTURE_H
#define SL_TEST_IO_FIXTURE_H

#include "io/io.h"
#include "test_env.h"

#define IO_FILE_BYTES 3000001u

typedef struct io_fixture {
    char dir[256], path[300];
    unsigned char *content; /* IO_FILE_BYTES */
    int fd;
    int direct_fd; /* -1: the file system has no such thing */
    sl_io_kind kind;
} io_fixture;

io_fixture *io_fixture_create(sl_io_kind kind);
void io_fixture_destroy(io_fixture *f);

/* cmocka's setup and teardown of a group, for either engine. */
int io_setup_pread(void **state);
int io_setup_uring(void **state);
int io_teardown(void **state);

/* False, with a line on stdout, where there is no io_uring. */
bool io_test_uring(void);

sl__io *io_make(const io_fixture *f, uint32_t depth, uint32_t max_reads, uint64_t split);
sl__io *io_make_with(sl_io_kind kind, const sl__io_options *opt);
sl__io_read io_read_of(const io_fixture *f, uint64_t offset, uint64_t bytes, void *dst,
                       uint64_t tag);
sl__io_done io_reap_one(sl__io *io); /* waits */
void io_submit_ok(sl__io *io, const sl__io_read *reads, uint32_t n);

#define IO_BATCH 24u

/* Reads of random places, each with canaries around its destination. */
typedef struct io_batch {
    sl__io_read reads[IO_BATCH];
    unsigned char *room[IO_BATCH]; /* allocated */
    bool seen[IO_BATCH];
} io_batch;

typedef struct io_batch_rules {
    unsigned largest;
    bool direct, aligned; /* aligned: offset and dst are, the length may be anything */
    bool chains;          /* many reads adjoin the one before */
} io_batch_rules;

void io_batch_make(io_batch *b, const io_fixture *f, test_rng *rng, const io_batch_rules *rules);
/* Reaps all of it in portions of random size and compares; returns the bytes read. */
uint64_t io_batch_check(io_batch *b, const io_fixture *f, sl__io *io, test_rng *rng);

#endif
