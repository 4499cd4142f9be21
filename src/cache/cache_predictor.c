/* The arithmetic of cache_predictor.h: decaying counters and one slow control loop. */
#include "cache/cache_predictor.h"

#include <stddef.h>

#include "cache/cache.h"

/* A rank's counters forget with every observation, the windows of bytes with every request. */
#define RANK_MEMORY   (1.0f - 1.0f / 128)
#define WINDOW_MEMORY (1.0 - 1.0 / 1024)

/* Before anything was seen: the first ranks are trusted mildly, later ones less. */
#define PRIOR_FIRST   0.70f
#define PRIOR_STEP    0.02f
#define PRIOR_LAST    0.30f
#define PRIOR_SCAN    0.80f
#define PRIOR_WEIGHT  8.0f

/* Bytes astray, as a part of those missing: what the threshold aims at, and what is never passed
 * knowingly. */
#define ASTRAY_AIM    0.08
#define ASTRAY_MOST   0.10

/* Below the floor a read ahead is as likely a wrong one; to come back takes a little more. */
#define FLOOR         0.50
#define FLOOR_AGAIN   0.55
#define THRESHOLD_UP   0.002
#define THRESHOLD_DOWN 0.001

/* While off, one request in so many is predicted. */
#define SHADOW_PERIOD 8u

static void kind_init(sl__predictor_kind *kind, uint32_t rank_count)
{
    *kind = (sl__predictor_kind){.rank_count = rank_count, .threshold = FLOOR, .on = true};
    for (uint32_t r = 0; r < rank_count; r++) {
        float prior = PRIOR_FIRST - PRIOR_STEP * (float)r;
        if (prior < PRIOR_LAST) prior = PRIOR_LAST;
        if (rank_count == 1) prior = PRIOR_SCAN;
        kind->ranks[r] = (sl__predictor_rank){prior * PRIOR_WEIGHT, PRIOR_WEIGHT};
    }
}

void sl__predictor_init(sl__predictor *p, sl_switch mode, bool measure)
{
    *p = (sl__predictor){.mode = mode, .measure = measure};
    kind_init(&p->kinds[SL_GUESS_AHEAD], SL_PREDICTOR_RANKS);
    kind_init(&p->kinds[SL_GUESS_SCAN], 1);
    kind_init(&p->kinds[SL_GUESS_NEAR], SL_PREDICTOR_RANKS);
}

bool sl__predictor_on(const sl__predictor *p)
{
    return p->mode == SL_ON || (p->mode == SL_AUTO && p->kinds[p->scanning].on);
}

/* One visit in SHADOW_PERIOD, at no fixed distance: layers follow each other in a fixed order, and
 * a fixed distance could ask about the same ones for ever. */
static bool is_sample(uint32_t visit)
{
    uint32_t x = visit * UINT32_C(2654435769);
    x ^= x >> 15;
    x *= UINT32_C(2246822519);
    return (x >> 16) % SHADOW_PERIOD == 0;
}

bool sl__predictor_wants(const sl__predictor *p)
{
    if (p->measure || sl__predictor_on(p)) return true;
    return p->mode == SL_AUTO && is_sample(p->visits);
}

bool sl__predictor_idles(const sl__predictor *p, uint64_t bytes)
{
    /* The window is about a thousand requests long. */
    bool little = p->kinds[p->scanning].missing < 16.0 * (double)bytes;
    return p->mode == SL_AUTO && !p->measure && little && !is_sample(p->visits);
}

static uint32_t bucket_of(const sl__predictor_kind *kind, uint32_t rank)
{
    return rank < kind->rank_count ? rank : kind->rank_count - 1;
}

double sl__predictor_precision(const sl__predictor *p, unsigned guess, uint32_t rank)
{
    const sl__predictor_kind *kind = &p->kinds[guess];
    const sl__predictor_rank *r = &kind->ranks[bucket_of(kind, rank)];
    return (double)(r->right / r->seen);
}

bool sl__predictor_bet(sl__predictor *p, unsigned guess, uint32_t rank, uint32_t chosen,
                       uint64_t bytes)
{
    if (p->mode == SL_OFF) return false;
    if (p->mode == SL_ON) return guess == SL_GUESS_SCAN || rank < chosen;
    sl__predictor_kind *kind = &p->kinds[guess == SL_GUESS_SCAN]; /* whose budget it is */
    double right = sl__predictor_precision(p, guess, rank);
    double stake = (1 - right) * (double)bytes;
    if (!kind->on || right < kind->threshold) return false;
    if (kind->astray + kind->staked + stake > ASTRAY_MOST * kind->missing) return false;
    kind->staked += stake;
    return true;
}

void sl__predictor_learn(sl__predictor *p, unsigned guess, uint32_t rank, bool right)
{
    sl__predictor_kind *kind = &p->kinds[guess];
    uint32_t bucket = bucket_of(kind, rank);
    sl__predictor_rank *r = &kind->ranks[bucket];
    if (kind->ranks_seen <= bucket) kind->ranks_seen = bucket + 1;
    r->right = r->right * RANK_MEMORY + (right ? 1.0f : 0.0f);
    r->seen = r->seen * RANK_MEMORY + 1.0f;
}

void sl__predictor_missing(sl__predictor *p, bool scan, uint64_t bytes)
{
    p->kinds[scan].missing += (double)bytes;
}

void sl__predictor_astray(sl__predictor *p, bool scan, uint64_t bytes)
{
    p->kinds[scan].astray += (double)bytes;
}

void sl__predictor_redeem(sl__predictor *p, bool scan, uint64_t bytes)
{
    sl__predictor_kind *kind = &p->kinds[scan];
    kind->astray -= (double)bytes;
    if (kind->astray < 0) kind->astray = 0; /* it had grown lighter since */
}

/* The best probability of any rank that was predicted; `best` where none was. */
static double best_rank(const sl__predictor *p, unsigned guess, double best)
{
    for (uint32_t r = 0; r < p->kinds[guess].ranks_seen; r++) {
        double right = sl__predictor_precision(p, guess, r);
        if (right > best) best = right;
    }
    return best;
}

void sl__predictor_visit(sl__predictor *p, bool scan)
{
    sl__predictor_kind *kind = &p->kinds[scan];
    /* Ranks that are never predicted would keep their first trust for ever. */
    double best = best_rank(p, scan, kind->ranks_seen == 0 ? 1 : 0);
    if (!scan) best = best_rank(p, SL_GUESS_NEAR, best);
    p->scanning = scan;
    p->visits++;
    kind->staked = 0;
    kind->missing *= WINDOW_MEMORY;
    kind->astray *= WINDOW_MEMORY;
    kind->threshold += kind->astray > ASTRAY_AIM * kind->missing ? THRESHOLD_UP : -THRESHOLD_DOWN;
    /* The best rank may always bet, as far as the budget goes. */
    if (kind->threshold > best) kind->threshold = best;
    if (kind->threshold < FLOOR) kind->threshold = FLOOR;
    kind->on = best >= (kind->on ? FLOOR : FLOOR_AGAIN);
}
