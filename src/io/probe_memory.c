/* How fast memory is read: threads add up buffers that no cache holds.
 *
 *     buffer of all threads, cut into blocks; a pass adds up every block once, whoever is free
 *
 * The best pass counts: whatever else runs on the machine can only make one slower.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpus.h"
#include "base/pages.h"
#include "base/pool.h"
#include "base/sysmem.h"
#include "sluice.h"

#define BLOCK_BYTES  ((uint64_t)4 << 20)
#define THREAD_BYTES ((uint64_t)64 << 20)  /* a thread at least */
#define TOTAL_BYTES  ((uint64_t)256 << 20) /* in all at least: a last-level cache is shared */
#define LANES        16u /* sums that do not wait for each other */

typedef struct summing {
    uint64_t *buffer;
    uint64_t *sums; /* of the blocks: what is added up must go somewhere */
} summing;

static void touch_block(void *ctx, uint32_t index, uint32_t worker)
{
    const summing *s = ctx;
    (void)worker;
    memset((char *)s->buffer + index * BLOCK_BYTES, (int)(index & 0xff), BLOCK_BYTES);
}

static void sum_block(void *ctx, uint32_t index, uint32_t worker)
{
    const summing *s = ctx;
    const uint64_t *block = s->buffer + index * (BLOCK_BYTES / sizeof *s->buffer);
    uint64_t lanes[LANES] = {0}, sum = 0;
    (void)worker;
    for (size_t i = 0; i < BLOCK_BYTES / sizeof *block; i += LANES)
        for (size_t lane = 0; lane < LANES; lane++)
            lanes[lane] += block[i + lane];
    for (size_t lane = 0; lane < LANES; lane++)
        sum += lanes[lane];
    s->sums[index] += sum;
}

static double measure(sl__pool *pool, summing *s, uint32_t blocks, uint64_t time_ns)
{
    double best = 0.0;
    sl__pool_run(pool, touch_block, s, blocks);
    uint64_t begin = sl__now_ns(), before = begin, now;
    do {
        sl__pool_run(pool, sum_block, s, blocks);
        now = sl__now_ns();
        double rate = (double)(blocks * BLOCK_BYTES) * 1e9 / (double)(now > before ? now - before
                                                                                   : 1);
        if (rate > best) best = rate;
        before = now;
    } while (now - begin < time_ns);
    return best;
}

/* Blocks, so that half of what is free stays free. 0: there is too little. */
static uint32_t count_blocks(uint32_t threads)
{
    uint64_t bytes = threads * THREAD_BYTES, room = sl__mem_available() / 2;
    if (bytes < TOTAL_BYTES) bytes = TOTAL_BYTES;
    if (bytes > room) bytes = room;
    return (uint32_t)(bytes / BLOCK_BYTES);
}

double sl_probe_memory(uint32_t threads, uint64_t time_ns)
{
    sl__pool *pool;
    if (threads == 0) threads = sl__core_count();
    if (threads > SL_POOL_THREADS_MAX) threads = SL_POOL_THREADS_MAX;
    uint32_t blocks = count_blocks(threads);
    if (blocks < threads || sl__pool_create(&pool, threads, NULL) != SL_OK) return 0.0;
    summing s = {.buffer = sl__pages_alloc(blocks * BLOCK_BYTES),
                 .sums = calloc(blocks, sizeof *s.sums)};
    double rate = s.buffer && s.sums ? measure(pool, &s, blocks, time_ns) : 0.0;
    sl__pages_free(s.buffer, blocks * BLOCK_BYTES);
    free(s.sums);
    sl__pool_destroy(pool);
    return rate;
}
