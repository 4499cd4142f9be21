/* How much memory a cache may go on holding: less at once where others need it, more again slowly.
 *
 *     what is free     0 ........ reserve ........ 2 reserve ........................ limit
 *                      shrink: give back     keep            calm; after 10 s take a
 *                      what is missing to                    sixteenth of the plan, and
 *                      2 reserve                             again after 10 s
 *
 * Free is what sysmem.h says: the system's available memory or what the tightest cgroup leaves,
 * page cache counting as free. While less than an eighth of the limit is free, tasks that stall for
 * memory (PSI) or a system that says it is pressed make the cache give back too, once a second at
 * most. With more free, stalls come of the page cache being turned over, and giving back memory
 * would only make more of it.
 */
#ifndef SL_BASE_MEMPRESSURE_H
#define SL_BASE_MEMPRESSURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/sysmem.h"
#include "sluice.h"

typedef struct sl__mempressure sl__mempressure;

/* least_bytes: the target never falls below (a cache's minimum). root: as for sl__mem_state_read,
 * copied; NULL: "". */
sl_status sl__mempressure_create(sl__mempressure **out, uint64_t least_bytes, const char *root,
                                 sl_error *err);
void sl__mempressure_destroy(sl__mempressure *pressure); /* NULL is allowed */

/* What the cache may hold from now, given that it may hold now_bytes and was planned to hold
 * plan_bytes; in [least_bytes, plan_bytes]. To be called often, once a token: the system is asked
 * every 100 ms at most, in between the answer is now_bytes. now_ns: sl__now_ns. Allocates nothing.
 */
uint64_t sl__mempressure_target(sl__mempressure *pressure, uint64_t plan_bytes,
                                uint64_t now_bytes, uint64_t now_ns);

/* ---- the decision, for tests ----------------------------------------------------------------- */

/* What is remembered from one look at the system to the next. All zero at first. */
typedef struct sl__mempressure_memory {
    bool begun;
    uint64_t looked_ns;
    uint64_t stall_us;
    uint64_t calm_ns;      /* calm since then, or since the last growth */
    uint64_t stalled_ns;   /* when stalls last made the target smaller; 0: never */
    uint64_t target_bytes; /* of the last change: a cache may hold less, it has whole slots */
} sl__mempressure_memory;

uint64_t sl__mempressure_decide(sl__mempressure_memory *memory, const sl__mem_state *state,
                                uint64_t least_bytes, uint64_t plan_bytes, uint64_t now_bytes,
                                uint64_t now_ns);

#endif
