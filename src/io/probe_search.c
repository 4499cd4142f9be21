/* The search for the best way to read.
 *
 *     gauge    one small piece, then a few: what the disk is about, so that a slow one is asked
 *              for little
 *     coarse   a few points of every way {engine, direct or not}, ways taking turns
 *     fine     neighbours in piece size and depth of the three best points so far, again and again
 *     finals   the best and the cheapest of the good, taking turns, up to five times; medians
 *
 * A point is one short run. Most of the time goes into few points: a coarse pass may be wrong about
 * a point by far, but not about which are worth another look. What a run will take is foretold from
 * the rate so far, twice over, and a run that would not end in time is not begun.
 */
#include "io/probe_search.h"

#include <assert.h>
#include <string.h>

#include "base/checked.h"

#define WAYS          4u
#define FINALISTS     6u
#define ROUNDS        5u
#define SMALLEST      (UINT64_C(64) << 10)
#define LARGEST       (UINT64_C(4) << 20)
#define PAGE          4096u

typedef struct search {
    sl_probe_result *result;
    const sl__probe_reader *reader;
    uint64_t pass_ns; /* of one run */
    uint64_t sizes[SL_PROBE_SIZES];
    uint32_t size_count;
    /* Of a way, [uring][direct]. */
    double rate[2][2]; /* bytes a ns, of its latest run of several pieces or of the gauge */
    bool dead[2][2];   /* nothing can be read this way, or not any more */
} search;

/* ---- figures --------------------------------------------------------------------------------- */

uint32_t sl__probe_sizes(uint64_t sizes[SL_PROBE_SIZES], uint64_t expert_bytes)
{
    uint32_t count = 0;
    uint64_t whole = (expert_bytes + PAGE - 1) / PAGE * PAGE;
    uint64_t size = expert_bytes < 32 * SMALLEST ? SMALLEST : 4 * SMALLEST;
    for (; size <= expert_bytes && size <= LARGEST; size *= 2)
        sizes[count++] = size;
    /* An expert in one piece, where it is no power of two. */
    if (whole < LARGEST && (count == 0 || sizes[count - 1] < whole)) sizes[count++] = whole;
    return count;
}

static bool cheaper(const sl_probe_point *a, const sl_probe_point *b)
{
    if (a->depth != b->depth) return a->depth < b->depth;
    if (a->read_bytes != b->read_bytes) return a->read_bytes > b->read_bytes;
    if (a->direct != b->direct) return a->direct;
    if (a->io != b->io) return a->io == SL_IO_KIND_URING;
    return a->bytes_per_s > b->bytes_per_s;
}

static double best_of(const sl_probe_point *points, uint32_t count)
{
    double best = 0.0;
    for (uint32_t i = 0; i < count; i++)
        if (points[i].bytes_per_s > best) best = points[i].bytes_per_s;
    return best;
}

/* The cheapest point of at least `share` of the best. */
static uint32_t cheapest(const sl_probe_point *points, uint32_t count, double share)
{
    double least = share * best_of(points, count);
    uint32_t found = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!(points[i].bytes_per_s > 0.0) || points[i].bytes_per_s < least) continue;
        if (found == count || cheaper(&points[i], &points[found])) found = i;
    }
    return found;
}

uint32_t sl__probe_choose(const sl_probe_point *points, uint32_t count)
{
    return cheapest(points, count, 0.95);
}

double sl__probe_median(double *values, uint32_t count)
{
    assert(count > 0);
    for (uint32_t i = 1; i < count; i++) {
        double value = values[i];
        uint32_t j = i;
        for (; j > 0 && values[j - 1] > value; j--)
            values[j] = values[j - 1];
        values[j] = value;
    }
    double high = values[count / 2];
    return count % 2 ? high : (values[count / 2 - 1] + high) / 2.0;
}

uint64_t sl__probe_place(uint64_t i, uint64_t places, uint64_t start)
{
    assert(i < places && places <= SL_PROBE_PLACES);
    /* Steps of the golden section of the whole: what follows lies far off, and a step without a
     * common divisor meets every place once. */
    uint64_t step = (uint64_t)((double)places * 0.6180339887498949);
    if (step == 0) step = 1;
    for (;; step++) {
        uint64_t a = places, b = step;
        while (b != 0) {
            uint64_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) break;
    }
    return (start % places + i * step) % places;
}

/* ---- one run --------------------------------------------------------------------------------- */

static bool *dead_of(search *s, const sl_probe_point *point)
{
    return &s->dead[point->io == SL_IO_KIND_URING][point->direct];
}

static double *rate_of(search *s, const sl_probe_point *point)
{
    return &s->rate[point->io == SL_IO_KIND_URING][point->direct];
}

static uint64_t in_flight_of(const sl_probe_point *point)
{
    return point->depth * point->read_bytes;
}

/* Whether a run would be over by `end_ns`, the pieces under way at its end included: twice what
 * they would take at the rate of this way, or of this point where that is lower. */
static bool fits(search *s, const sl_probe_point *point, uint64_t end_ns)
{
    uint64_t now = s->reader->now_ns(s->reader->ctx);
    if (now >= end_ns) return false;
    double rate = *rate_of(s, point), own = point->bytes_per_s * 1e-9;
    if (own > 0.0 && own < rate) rate = own;
    double needed = rate > 0.0 ? 2.0 * (double)in_flight_of(point) / rate : 0.0;
    return (double)s->pass_ns + needed <= (double)(end_ns - now);
}

/* Bytes a second; 0 where the way turned out to be none. */
static double run_point(search *s, const sl_probe_point *point, uint64_t pass_ns)
{
    sl__probe_sample sample = s->reader->read(s->reader->ctx, point, pass_ns);
    if (sample.bytes == 0) {
        *dead_of(s, point) = true;
        return 0.0;
    }
    double rate = (double)sample.bytes / (double)(sample.ns > 0 ? sample.ns : 1);
    if (point->depth > 1) *rate_of(s, point) = rate;
    return rate * 1e9;
}

static bool measured(const search *s, const sl_probe_point *point)
{
    const sl_probe_result *r = s->result;
    for (uint32_t i = 0; i < r->point_count; i++) {
        const sl_probe_point *p = &r->points[i];
        if (p->io == point->io && p->direct == point->direct && p->depth == point->depth &&
            p->read_bytes == point->read_bytes)
            return true;
    }
    return false;
}

/* Measures a point, unless it was already, is none, or there is no time. */
static void try_point(search *s, sl_probe_point point, uint64_t end_ns)
{
    sl_probe_result *r = s->result;
    if (r->point_count == SL_PROBE_POINTS || *dead_of(s, &point) || measured(s, &point)) return;
    if (in_flight_of(&point) > SL_PROBE_IN_FLIGHT) return;
    if (!fits(s, &point, end_ns)) return;
    point.bytes_per_s = run_point(s, &point, s->pass_ns);
    r->points[r->point_count++] = point;
}

/* ---- stages ---------------------------------------------------------------------------------- */

static uint32_t ways_of(const sl__probe_space *space, sl_probe_point ways[WAYS])
{
    uint32_t count = 0;
    for (int uring = 1; uring >= 0; uring--) {
        for (int direct = 1; direct >= 0; direct--) {
            if ((uring && !space->uring) || (direct && !space->direct)) continue;
            ways[count++] = (sl_probe_point){
                .io = uring ? SL_IO_KIND_URING : SL_IO_KIND_PREAD, .direct = direct != 0};
        }
    }
    return count;
}

/* What the disk is about, from one small piece; returns the point that told. Then four pieces at a
 * time, so that no disk is asked for much before it has shown what it can do. */
static sl_probe_point gauge(search *s, const sl_probe_point *ways, uint32_t way_count,
                            uint64_t end_ns)
{
    sl_probe_point point = {0};
    for (uint32_t w = 0; w < way_count && !(point.bytes_per_s > 0.0); w++) {
        point = ways[w];
        point.depth = 1;
        point.read_bytes = s->sizes[0];
        point.bytes_per_s = run_point(s, &point, 0);
    }
    sl_probe_point four = point;
    four.depth = 4;
    four.bytes_per_s = 0.0;
    *rate_of(s, &point) = point.bytes_per_s * 1e-9;
    if (point.bytes_per_s > 0.0) try_point(s, four, end_ns);
    double rate = *rate_of(s, &point);
    for (uint32_t w = 0; w < way_count; w++)
        *rate_of(s, &ways[w]) = rate;
    return point;
}

static void coarse(search *s, const sl_probe_point *ways, uint32_t way_count, uint64_t end_ns)
{
    uint32_t last = s->size_count - 1, middle = s->size_count / 2;
    const struct {
        uint32_t size, depth;
    } points[] = {{middle, 8}, {0, 32}, {middle, 1}, {last, 4}, {middle, 32}};
    for (uint32_t i = 0; i < sizeof points / sizeof points[0]; i++) {
        for (uint32_t w = 0; w < way_count; w++) {
            sl_probe_point point = ways[w];
            point.read_bytes = s->sizes[points[i].size];
            point.depth = points[i].depth;
            try_point(s, point, end_ns);
        }
    }
}

/* On a disk so slow that no run of the coarse pass would have ended in time: what does, and else
 * what the gauge said. */
static void make_do(search *s, sl_probe_point gauged, uint64_t end_ns)
{
    sl_probe_result *r = s->result;
    for (uint32_t depth = 8; depth > 0; depth /= 2) {
        sl_probe_point point = gauged;
        point.depth = depth;
        point.bytes_per_s = 0.0;
        if (best_of(r->points, r->point_count) > 0.0) return;
        try_point(s, point, end_ns);
    }
    if (best_of(r->points, r->point_count) > 0.0 || measured(s, &gauged)) return;
    r->points[r->point_count++] = gauged;
}

/* Indices of the points, the fastest first; those of 0 are left out. Returns how many. */
static uint32_t rank(const sl_probe_result *r, uint32_t order[SL_PROBE_POINTS])
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < r->point_count; i++) {
        if (!(r->points[i].bytes_per_s > 0.0)) continue;
        uint32_t j = count++;
        for (; j > 0 && r->points[order[j - 1]].bytes_per_s < r->points[i].bytes_per_s; j--)
            order[j] = order[j - 1];
        order[j] = i;
    }
    return count;
}

static void try_neighbours(search *s, sl_probe_point point, uint64_t end_ns)
{
    uint32_t at = 0;
    while (at + 1 < s->size_count && s->sizes[at] != point.read_bytes)
        at++;
    sl_probe_point next = point;
    next.bytes_per_s = 0.0;
    next.depth = point.depth / 2;
    if (next.depth > 0) try_point(s, next, end_ns);
    next.depth = point.depth * 2;
    if (next.depth <= SL_PROBE_DEPTH) try_point(s, next, end_ns);
    next.depth = point.depth;
    if (at > 0) {
        next.read_bytes = s->sizes[at - 1];
        try_point(s, next, end_ns);
    }
    if (at + 1 < s->size_count) {
        next.read_bytes = s->sizes[at + 1];
        try_point(s, next, end_ns);
    }
}

static void fine(search *s, uint64_t end_ns)
{
    uint32_t order[SL_PROBE_POINTS], before;
    do {
        before = s->result->point_count;
        uint32_t count = rank(s->result, order);
        for (uint32_t i = 0; i < count && i < 3; i++)
            try_neighbours(s, s->result->points[order[i]], end_ns);
    } while (s->result->point_count > before);
}

/* The best three, then the cheapest within 15 % of the best. */
static uint32_t pick_finalists(const sl_probe_result *r, uint32_t picked[FINALISTS])
{
    uint32_t order[SL_PROBE_POINTS];
    uint32_t ranked = rank(r, order), count = 0;
    sl_probe_point rest[SL_PROBE_POINTS];
    memcpy(rest, r->points, r->point_count * sizeof rest[0]);
    double least = 0.85 * best_of(r->points, r->point_count);
    for (uint32_t i = 0; i < ranked && i < FINALISTS / 2; i++) {
        picked[count++] = order[i];
        rest[order[i]].bytes_per_s = 0.0;
    }
    while (count < FINALISTS && best_of(rest, r->point_count) >= least) {
        for (uint32_t i = 0; i < r->point_count; i++)
            if (rest[i].bytes_per_s < least) rest[i].bytes_per_s = 0.0;
        uint32_t next = cheapest(rest, r->point_count, 0.0);
        if (next == r->point_count) break;
        picked[count++] = next;
        rest[next].bytes_per_s = 0.0;
    }
    return count;
}

static void finals(search *s, uint64_t end_ns)
{
    sl_probe_result *r = s->result;
    uint32_t picked[FINALISTS], runs[FINALISTS] = {0};
    double rates[FINALISTS][ROUNDS];
    uint32_t count = pick_finalists(r, picked);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < count; i++) {
            const sl_probe_point *point = &r->points[picked[i]];
            if (*dead_of(s, point) || !fits(s, point, end_ns)) continue;
            double rate = run_point(s, point, s->pass_ns);
            if (rate > 0.0) rates[i][runs[i]++] = rate;
        }
    }
    sl_probe_point finalists[FINALISTS];
    uint32_t again = 0;
    for (uint32_t i = 0; i < count; i++) {
        sl_probe_point *point = &r->points[picked[i]];
        if (runs[i] > 0) point->bytes_per_s = sl__probe_median(rates[i], runs[i]);
        finalists[i] = *point;
        again += runs[i] > 0;
    }
    /* One lucky run does not win against what was measured again. */
    for (uint32_t i = 0; i < count && again > 0; i++)
        if (runs[i] == 0) finalists[i].bytes_per_s = 0.0;
    uint32_t chosen = sl__probe_choose(finalists, count);
    if (chosen == count) return;
    r->io = finalists[chosen].io;
    r->direct = finalists[chosen].direct;
    r->split_bytes = finalists[chosen].read_bytes;
    r->depth = finalists[chosen].depth;
    r->bytes_per_s = finalists[chosen].bytes_per_s;
    r->best_bytes_per_s = best_of(finalists, count);
}

void sl__probe_search(sl_probe_result *result, const sl__probe_space *space,
                      const sl__probe_reader *reader, uint64_t end_ns)
{
    assert(space->expert_bytes > 0);
    uint64_t begin_ns = reader->now_ns(reader->ctx);
    search s = {.result = result, .reader = reader};
    sl_probe_point ways[WAYS];
    uint32_t way_count = ways_of(space, ways);
    s.size_count = sl__probe_sizes(s.sizes, space->expert_bytes);
    /* A guess, where nothing can be measured. */
    result->io = SL_IO_KIND_PREAD;
    result->direct = false;
    result->split_bytes = s.sizes[s.size_count / 2];
    result->depth = 8;
    result->bytes_per_s = result->best_bytes_per_s = 0.0;
    result->point_count = 0;
    if (begin_ns >= end_ns) return;

    uint64_t time_ns = end_ns - begin_ns, coarse_ns = begin_ns + time_ns * 2 / 5;
    s.pass_ns = time_ns / 100;
    const sl_probe_point gauged = gauge(&s, ways, way_count, coarse_ns);
    if (!(gauged.bytes_per_s > 0.0)) return;
    coarse(&s, ways, way_count, coarse_ns);
    if (!(best_of(result->points, result->point_count) > 0.0)) make_do(&s, gauged, end_ns);
    fine(&s, begin_ns + time_ns * 13 / 20);
    finals(&s, end_ns);
}
