/* Replaying a trace.
 *
 * Best possible: how far ahead each record is asked for again is worked out backwards through the
 * trace; the records in memory lie in a heap whose top is asked for last.
 *
 *     next[token, layer, j]   request number, counted over tokens and layers; NEVER: not again
 *     heap[count]             records; at[record] is its place, key[record] its next request
 */
#include "cache/simulate.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/checked.h"
#include "base/fail.h"

#define NEVER UINT64_MAX

static sl_status check_slots(const sl__trace *trace, uint32_t slots, sl_error *err)
{
    if (slots >= trace->k) return SL_OK;
    return SL_FAIL(err, SL_EINVAL, "%u slots are too few: a token's %u experts of a layer are in "
                   "memory together", slots, trace->k);
}

static uint64_t record_count(const sl__trace *trace)
{
    return (uint64_t)trace->layers * trace->experts; /* <= SL_TRACE_RECORDS_MAX */
}

/* ---- a policy -------------------------------------------------------------------------------- */

typedef struct replay {
    const sl__trace *trace;
    sl__arena arena;
    sl__policy policy;
    uint32_t *first; /* [layers + 1] */
    uint32_t *slot;  /* [records]: where it is; SL_SLOT_NONE: not in memory */
    uint32_t *in;    /* [slots]: the record */
    uint32_t *ids;   /* [depth]: of one token */
    uint32_t *held;  /* [k]: its slots */
    uint32_t slots, used;
    sl__hits hits;
} replay;

static bool replay_open(replay *r, sl__policy_kind kind)
{
    uint32_t layers = r->trace->layers, records = (uint32_t)record_count(r->trace);
    r->first = SL_ARENA_NEW(&r->arena, uint32_t, (size_t)layers + 1);
    r->slot = SL_ARENA_NEW(&r->arena, uint32_t, records);
    r->in = SL_ARENA_NEW(&r->arena, uint32_t, r->slots);
    r->ids = SL_ARENA_NEW(&r->arena, uint32_t, r->trace->depth);
    r->held = SL_ARENA_NEW(&r->arena, uint32_t, r->trace->k);
    if (!r->first || !r->slot || !r->in || !r->ids || !r->held) return false;
    for (uint32_t l = 0; l <= layers; l++)
        r->first[l] = l * r->trace->experts;
    for (uint32_t i = 0; i < records; i++)
        r->slot[i] = SL_SLOT_NONE;
    const sl__policy_shape shape = {
        .slots = r->slots, .layers = layers, .records = records, .first = r->first};
    uint64_t bytes = sl__policy_bytes(kind, &shape);
    if (bytes > SIZE_MAX) return false;
    void *memory = sl__arena_alloc(&r->arena, (size_t)bytes, 1);
    if (!memory) return false;
    sl__policy_init(&r->policy, kind, &shape, memory);
    return true;
}

static uint32_t load(replay *r, uint32_t layer, uint32_t expert)
{
    uint32_t slot = r->used;
    if (r->used < r->slots) {
        r->used++;
    } else {
        slot = sl__policy_victim(&r->policy, layer);
        assert(slot != SL_SLOT_NONE);
        r->slot[r->in[slot]] = SL_SLOT_NONE;
    }
    sl__policy_load(&r->policy, slot, layer, expert);
    r->in[slot] = r->first[layer] + expert;
    r->slot[r->in[slot]] = slot;
    return slot;
}

/* Hits are held before anything is loaded, as a ticket does. */
static void replay_request(replay *r, uint32_t token, uint32_t layer)
{
    const uint16_t *ranked = sl__trace_ranked(r->trace, token, layer);
    uint32_t k = r->trace->k, n = 0;
    for (; n < r->trace->depth && ranked[n] != SL_TRACE_NONE; n++)
        r->ids[n] = ranked[n];
    sl__policy_note(&r->policy, layer, r->ids, n, k);
    for (uint32_t j = 0; j < k; j++) {
        r->held[j] = r->slot[r->first[layer] + r->ids[j]];
        if (r->held[j] == SL_SLOT_NONE) continue;
        sl__policy_touch(&r->policy, r->held[j]);
        sl__policy_remove(&r->policy, r->held[j]);
        r->hits.hits++;
    }
    for (uint32_t j = 0; j < k; j++)
        if (r->held[j] == SL_SLOT_NONE) r->held[j] = load(r, layer, r->ids[j]);
    for (uint32_t j = 0; j < k; j++)
        sl__policy_add(&r->policy, r->held[j]);
    r->hits.requests += k;
}

sl_status sl__simulate_policy(const sl__trace *trace, sl__policy_kind kind, uint32_t slots,
                              sl__hits *result, sl_error *err)
{
    SL_TRY(check_slots(trace, slots, err));
    replay r = {.trace = trace, .slots = slots};
    if (slots > record_count(trace)) r.slots = (uint32_t)record_count(trace);
    sl__arena_init(&r.arena, 0);
    bool opened = replay_open(&r, kind);
    for (uint32_t t = 0; opened && t < trace->tokens; t++) {
        for (uint32_t l = 0; l < trace->layers; l++)
            replay_request(&r, t, l);
    }
    sl__arena_free(&r.arena);
    *result = r.hits;
    return opened ? SL_OK : SL_FAIL_NOMEM(err, "simulation");
}

/* ---- the best -------------------------------------------------------------------------------- */

typedef struct heap {
    uint32_t *items; /* [slots] */
    uint32_t *at;    /* [records]; SL_SLOT_NONE: not in it */
    uint64_t *key;   /* [records] */
    uint32_t count;
} heap;

static void place(heap *h, uint32_t i, uint32_t record)
{
    h->items[i] = record;
    h->at[record] = i;
}

/* Puts the record at the free place i, or where it belongs above or below. */
static void settle(heap *h, uint32_t i, uint32_t record)
{
    for (; i > 0 && h->key[h->items[(i - 1) / 2]] < h->key[record]; i = (i - 1) / 2)
        place(h, i, h->items[(i - 1) / 2]);
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= h->count) break;
        if (child + 1 < h->count && h->key[h->items[child + 1]] > h->key[h->items[child]]) child++;
        if (h->key[h->items[child]] <= h->key[record]) break;
        place(h, i, h->items[child]);
        i = child;
    }
    place(h, i, record);
}

static void heap_take(heap *h, uint32_t record)
{
    uint32_t i = h->at[record], last = h->items[--h->count];
    h->at[record] = SL_SLOT_NONE;
    if (last != record) settle(h, i, last);
}

static void heap_put(heap *h, uint32_t record)
{
    h->count++;
    settle(h, h->count - 1, record);
}

/* next[i]: when the i-th asked-for record is asked for again. last: [records]. */
static void look_ahead(const sl__trace *trace, uint64_t *next, uint64_t *last)
{
    uint64_t records = record_count(trace);
    for (uint64_t r = 0; r < records; r++)
        last[r] = NEVER;
    for (uint32_t t = trace->tokens; t-- > 0;) {
        for (uint32_t l = trace->layers; l-- > 0;) {
            const uint16_t *ids = sl__trace_ranked(trace, t, l);
            uint64_t request = (uint64_t)t * trace->layers + l;
            for (uint32_t j = 0; j < trace->k; j++) {
                uint64_t *seen = &last[(uint64_t)l * trace->experts + ids[j]];
                next[request * trace->k + j] = *seen;
                *seen = request;
            }
        }
    }
}

static void best_request(heap *h, const sl__trace *trace, uint64_t request, const uint64_t *next,
                         uint32_t slots, sl__hits *result)
{
    uint32_t layer = (uint32_t)(request % trace->layers), k = trace->k, missing = 0;
    const uint16_t *ids = sl__trace_ranked(trace, (uint32_t)(request / trace->layers), layer);
    for (uint32_t j = 0; j < k; j++) {
        uint32_t record = layer * trace->experts + ids[j];
        if (h->at[record] == SL_SLOT_NONE) missing++;
        else heap_take(h, record);
    }
    while (h->count + k > slots)
        heap_take(h, h->items[0]);
    for (uint32_t j = 0; j < k; j++) {
        uint32_t record = layer * trace->experts + ids[j];
        h->key[record] = next[request * k + j];
        heap_put(h, record);
    }
    result->requests += k;
    result->hits += k - missing;
}

sl_status sl__simulate_best(const sl__trace *trace, uint32_t slots, sl__hits *result,
                            sl_error *err)
{
    SL_TRY(check_slots(trace, slots, err));
    uint64_t records = record_count(trace), requests = (uint64_t)trace->tokens * trace->layers;
    if (slots > records) slots = (uint32_t)records;
    uint64_t *next = calloc(requests * trace->k, sizeof *next);
    heap h = {.items = calloc(slots, sizeof *h.items),
              .at = malloc(records * sizeof *h.at),
              .key = malloc(records * sizeof *h.key)};
    bool fits = next && h.items && h.at && h.key;
    *result = (sl__hits){0};
    if (fits) {
        look_ahead(trace, next, h.key);
        memset(h.at, 0xff, records * sizeof *h.at); /* SL_SLOT_NONE */
        for (uint64_t r = 0; r < requests; r++)
            best_request(&h, trace, r, next, slots, result);
    }
    free(next);
    free(h.items);
    free(h.at);
    free(h.key);
    return fits ? SL_OK : SL_FAIL_NOMEM(err, "simulation");
}

/* ---- without a cache ------------------------------------------------------------------------- */

static uint32_t common(const uint16_t *a, const uint16_t *b, uint32_t n)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++)
            count += a[i] == b[j];
    return count;
}

double sl__trace_overlap(const sl__trace *trace)
{
    uint64_t same = 0;
    for (uint32_t t = 1; t < trace->tokens; t++) {
        for (uint32_t l = 0; l < trace->layers; l++)
            same += common(sl__trace_ranked(trace, t - 1, l), sl__trace_ranked(trace, t, l),
                           trace->k);
    }
    uint64_t all = (uint64_t)(trace->tokens - 1) * trace->layers * trace->k;
    return all ? (double)same / (double)all : (double)NAN;
}

double sl__trace_predictable(const sl__trace *trace)
{
    uint64_t right = 0, all = 0;
    for (uint32_t t = 0; t < trace->tokens; t++) {
        for (uint32_t l = 0; l < trace->layers; l++) {
            const uint16_t *predicted = sl__trace_predicted(trace, t, l);
            if (predicted[0] == SL_TRACE_NONE) continue;
            right += common(predicted, sl__trace_ranked(trace, t, l), trace->k);
            all += trace->k;
        }
    }
    return all ? (double)right / (double)all : (double)NAN;
}
