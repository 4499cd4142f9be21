/* What memory there is, and what this process holds. */
#ifndef SL_BASE_SYSMEM_H
#define SL_BASE_SYSMEM_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes that this process could still take without swapping: the system's available memory, and
 * where a cgroup (v1 or v2, any ancestor) limits the process, what that leaves, page cache counted
 * as free. Falls back to half of the physical memory where nothing can be read. */
uint64_t sl__mem_available(void);

uint64_t sl__mem_rss(void); /* resident bytes of this process now; 0 where unknown */

uint32_t sl__cpu_count(void); /* usable by this process, affinity and cgroup quota honoured; >= 1 */

/* Bytes a parse such as "512M", "1.5G", "4096", "2GiB" stands for (powers of 1024). */
bool sl__parse_size(const char *text, uint64_t *bytes);

#endif
