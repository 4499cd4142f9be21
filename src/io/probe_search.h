/* Which points are measured, for how long, and which is chosen: the probe without its reads, so
 * that tests can put a made-up disk and a made-up clock behind it. */
#ifndef SL_IO_PROBE_SEARCH_H
#define SL_IO_PROBE_SEARCH_H

#include "sluice.h"

#define SL_PROBE_POINTS     64u                  /* of a result */
#define SL_PROBE_SIZES      6u                   /* of pieces, at most */
#define SL_PROBE_IN_FLIGHT  (UINT64_C(32) << 20) /* bytes, at most */
#define SL_PROBE_DEPTH      32u
#define SL_PROBE_PLACES     (UINT64_C(1) << 31)

typedef struct sl__probe_space {
    bool uring, direct; /* whether there is such a thing; pread and the page cache always are */
    uint64_t expert_bytes;
} sl__probe_space;

typedef struct sl__probe_sample {
    uint64_t bytes, ns; /* bytes 0: nothing could be read at this point */
} sl__probe_sample;

typedef struct sl__probe_reader {
    void *ctx;
    uint64_t (*now_ns)(void *ctx);
    /* Reads at a point for about `ns`, one piece at least, begins no piece after that, and returns
     * when those under way have come. */
    sl__probe_sample (*read)(void *ctx, const sl_probe_point *point, uint64_t ns);
} sl__probe_reader;

/* Fills result->points and the choice. Ends before end_ns of the reader's clock, as long as the
 * disk does not fall to half its speed from one run to the next. */
void sl__probe_search(sl_probe_result *result, const sl__probe_space *space,
                      const sl__probe_reader *reader, uint64_t end_ns);

/* The sizes of pieces for an expert, growing; returns their number, at least 1. */
uint32_t sl__probe_sizes(uint64_t sizes[SL_PROBE_SIZES], uint64_t expert_bytes);

/* The cheapest of the points within 5 % of the best: fewest pieces in flight, then the largest
 * pieces, then past the page cache (no copy), then io_uring (no threads), then the fastest. Points
 * of 0 bytes a second are none; returns `count` where there is no other. */
uint32_t sl__probe_choose(const sl_probe_point *points, uint32_t count);

/* Of `count` > 0 numbers, which are sorted; the mean of the middle two where they are even. */
double sl__probe_median(double *values, uint32_t count);

/* Which of `places` (at most SL_PROBE_PLACES) is taken i-th, i < places: each once, neighbours in i
 * far apart. start: any number, where to begin. */
uint64_t sl__probe_place(uint64_t i, uint64_t places, uint64_t start);

#endif
