/* What memory there is, and what this process holds. */
#ifndef SL_BASE_SYSMEM_H
#define SL_BASE_SYSMEM_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes that this process could still take without swapping: the system's available memory, and
 * where a cgroup (v1 or v2, any ancestor) limits the process, what that leaves, page cache counted
 * as free. Falls back to half of the physical memory where nothing can be read. */
uint64_t sl__mem_available(void);

/* The same with what it was reckoned from. Allocates nothing. */
typedef struct sl__mem_state {
    uint64_t available_bytes; /* as sl__mem_available */
    uint64_t limit_bytes;     /* the least of physical memory and the limits that apply */
    uint64_t stall_us;        /* since boot, some task here waited for memory; never falls */
    bool stall_known;
    bool pressed;             /* the system itself says that memory is short; macOS */
} sl__mem_state;
/* root: a folder that stands for "/" where the system's files are read, "" for the real one; only
 * on Linux. */
void sl__mem_state_read(sl__mem_state *state, const char *root);

/* Gives what the heap holds and nobody uses back to the system, where that is possible. */
void sl__mem_trim(void);

uint64_t sl__mem_rss(void); /* resident bytes of this process now; 0 where unknown */

/* The most that were resident at a time, since the process began or since the last reset; 0 where
 * unknown. The reset is false where the system has no such thing. */
uint64_t sl__mem_rss_peak(void);
bool sl__mem_rss_peak_reset(void);

/* Cores that this process may use, affinity and cgroup quota honoured; of two kinds, on macOS, the
 * fast ones. At least 1. */
uint32_t sl__cpu_count(void);

/* Bytes a parse such as "512M", "1.5G", "4096", "2GiB" stands for (powers of 1024). */
bool sl__parse_size(const char *text, uint64_t *bytes);

#endif
