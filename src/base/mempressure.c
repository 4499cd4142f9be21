/* The rule of mempressure.h, and when to look at the system. */
#include "base/mempressure.h"

#include <stdlib.h>
#include <string.h>

#include "base/fail.h"

#define MS_NS ((uint64_t)1000000)

#define LOOK_NS  (100 * MS_NS)
#define CALM_NS  (10000 * MS_NS) /* before it grows, and between two steps */
#define STALL_NS (1000 * MS_NS)  /* between two times that stalls make it smaller */

#define STEPS            16u /* a step of growth is the plan's so manieth part */
#define RESERVE_PART     32u /* of the plan, and at most of the limit */
#define RESERVE_LEAST    ((uint64_t)4 << 20)
#define RESERVE_MOST     ((uint64_t)512 << 20)
#define TIGHT_PART       8u  /* stalls count while less of the limit than that is free */
#define STALL_PERMILLE   100u
#define PRESSED_PERMILLE 500u /* what a system that says it is pressed is taken for */

struct sl__mempressure {
    uint64_t least_bytes;
    sl__mempressure_memory memory;
    char root[512];
};

static uint64_t least_of(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* What should stay free. The plan's part is less than what a plan leaves free by itself. */
static uint64_t reserve_of(uint64_t plan_bytes, uint64_t limit_bytes)
{
    uint64_t reserve = plan_bytes / RESERVE_PART;
    if (reserve < RESERVE_LEAST) reserve = RESERVE_LEAST;
    return least_of(least_of(reserve, RESERVE_MOST), limit_bytes / RESERVE_PART);
}

/* Of the time since the last look, how much some task stalled for memory. */
static uint32_t stalled_permille(const sl__mempressure_memory *memory, const sl__mem_state *state,
                                 uint64_t now_ns)
{
    uint64_t us = (now_ns - memory->looked_ns) / 1000;
    if (state->pressed) return PRESSED_PERMILLE;
    if (!state->stall_known || us == 0 || state->stall_us <= memory->stall_us) return 0;
    uint64_t stalled = state->stall_us - memory->stall_us;
    return stalled < us ? (uint32_t)(stalled * 1000 / us) : 1000u;
}

uint64_t sl__mempressure_decide(sl__mempressure_memory *memory, const sl__mem_state *state,
                                uint64_t least_bytes, uint64_t plan_bytes, uint64_t now_bytes,
                                uint64_t now_ns)
{
    uint64_t reserve = reserve_of(plan_bytes, state->limit_bytes), give = 0, take = 0;
    uint64_t available = state->available_bytes, step = plan_bytes / STEPS;
    uint32_t stalled = memory->begun ? stalled_permille(memory, state, now_ns) : 0;
    bool tight = available < state->limit_bytes / TIGHT_PART && stalled >= STALL_PERMILLE;
    if (!memory->begun) memory->calm_ns = now_ns;
    memory->begun = true;
    memory->looked_ns = now_ns;
    memory->stall_us = state->stall_us;

    if (available < reserve) give = 2 * reserve - available;
    if (tight && (memory->stalled_ns == 0 || now_ns - memory->stalled_ns >= STALL_NS)) {
        uint64_t part = now_bytes / 4000 * stalled; /* a quarter where every task stalls */
        if (part > give) give = part;
        memory->stalled_ns = now_ns;
    }
    if (tight || available < 2 * reserve) {
        memory->calm_ns = now_ns;
    } else if (now_ns - memory->calm_ns >= CALM_NS && now_bytes < plan_bytes) {
        take = least_of(step, available - 2 * reserve);
        memory->calm_ns = now_ns;
        /* From the last answer on, or steps smaller than a slot would lead nowhere. */
        if (memory->target_bytes > now_bytes) now_bytes = memory->target_bytes;
    }
    uint64_t target = now_bytes > give ? now_bytes - give + take : 0;
    if (target < least_bytes) target = least_bytes;
    target = least_of(target, plan_bytes);
    if (give > 0 || take > 0) memory->target_bytes = target;
    return target;
}

sl_status sl__mempressure_create(sl__mempressure **out, uint64_t least_bytes, const char *root,
                                 sl_error *err)
{
    *out = NULL;
    if (root && strlen(root) >= sizeof (*out)->root) {
        return SL_FAIL(err, SL_EINVAL, "\"%.200s\": the path is too long", root);
    }
    sl__mempressure *p = calloc(1, sizeof *p);
    if (!p) return SL_FAIL_NOMEM(err, "memory pressure");
    p->least_bytes = least_bytes;
    if (root) memcpy(p->root, root, strlen(root) + 1);
    *out = p;
    return SL_OK;
}

void sl__mempressure_destroy(sl__mempressure *pressure)
{
    free(pressure);
}

uint64_t sl__mempressure_target(sl__mempressure *pressure, uint64_t plan_bytes,
                                uint64_t now_bytes, uint64_t now_ns)
{
    sl__mempressure_memory *memory = &pressure->memory;
    sl__mem_state state;
    if (memory->begun && now_ns - memory->looked_ns < LOOK_NS)
        return least_of(now_bytes, plan_bytes);
    sl__mem_state_read(&state, pressure->root);
    return sl__mempressure_decide(memory, &state, pressure->least_bytes, plan_bytes, now_bytes,
                                  now_ns);
}
