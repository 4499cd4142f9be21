/* A heap of the best so far, its worst on top:
 *
 *     ids   chosen … │ worst of the best, …       then sorted: best … worst
 *
 * The heap lies where the result will; what was chosen is passed over.
 */
#include "model/ranking.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

/* Whether a is the better one: a total order. */
static bool better(const float *scores, uint32_t a, uint32_t b)
{
    if (isnan(scores[a]) || isnan(scores[b])) {
        if (isnan(scores[a]) != isnan(scores[b])) return isnan(scores[b]);
        return a < b;
    }
    if (scores[a] > scores[b] || scores[a] < scores[b]) return scores[a] > scores[b];
    return a < b;
}

static void sift_down(const float *scores, uint32_t *heap, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t child = 2 * i + 1;
        if (child >= n) return;
        if (child + 1 < n && better(scores, heap[child], heap[child + 1])) child++;
        if (!better(scores, heap[i], heap[child])) return;
        uint32_t id = heap[i];
        heap[i] = heap[child];
        heap[child] = id;
        i = child;
    }
}

static bool holds(const uint32_t *ids, uint32_t n, uint32_t id)
{
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] == id) return true;
    return false;
}

void sl__rank_experts(const float *scores, uint32_t experts, const uint32_t *chosen_ids,
                      uint32_t chosen, uint32_t n, uint32_t *ids)
{
    assert(chosen <= n && n <= experts);
    if (chosen > 0) memcpy(ids, chosen_ids, chosen * sizeof *ids);
    uint32_t *heap = ids + chosen, room = n - chosen, count = 0;
    if (room == 0) return;
    for (uint32_t e = 0; e < experts; e++) {
        if (count == room && !better(scores, e, heap[0])) continue;
        if (holds(ids, chosen, e)) continue;
        if (count < room) {
            heap[count++] = e;
            if (count < room) continue;
            for (uint32_t i = count / 2; i-- > 0;)
                sift_down(scores, heap, count, i);
        } else {
            heap[0] = e;
            sift_down(scores, heap, count, 0);
        }
    }
    assert(count == room); /* what was chosen holds no id twice */
    for (uint32_t end = count; end-- > 1;) { /* the worst goes to the end */
        uint32_t id = heap[0];
        heap[0] = heap[end];
        heap[end] = id;
        sift_down(scores, heap, end, 0);
    }
}
