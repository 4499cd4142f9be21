/* Whether reading ahead pays: learnt from what became of every prediction. Numbers alone; no io.
 *
 *     prediction:   ranked ids ──> those absent: bet? ──> read ahead, or only watched (shadow)
 *     request:      right or wrong, by rank ──────────> P(right | rank, absent)
 *     read, wrong:  bytes astray ─────────────────────> the budget, beside the bytes missing
 *
 * A rank is bet on while its probability is at least a threshold and the bytes gone astray, of the
 * last thousand requests or so, stay within a tenth of the bytes that were missing. The threshold
 * rises while more than its aim goes astray and falls while there is room, so that a small budget
 * goes to the ranks that deserve it. Only where no rank at all is good enough reading ahead is off;
 * then a prediction is asked for now and then, to see whether they have become better.
 *
 * Scans are learnt apart, with a budget of their own: there every expert has the same rank. Near
 * guesses are learnt apart too, and paid from the budget of the others. `guess` is an sl__guess.
 */
#ifndef SL_CACHE_CACHE_PREDICTOR_H
#define SL_CACHE_CACHE_PREDICTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "sluice.h"

#define SL_PREDICTOR_RANKS 24u /* ranks beyond share the last one's counters */

/* Observations, the older the lighter. */
typedef struct sl__predictor_rank {
    float right, seen;
} sl__predictor_rank;

/* What is kept of predictions of one kind. */
typedef struct sl__predictor_kind {
    sl__predictor_rank ranks[SL_PREDICTOR_RANKS];
    uint32_t rank_count;    /* that are told apart */
    uint32_t ranks_seen;    /* of those, up to the last one that was ever predicted */
    double missing, astray; /* bytes, the older the lighter */
    double staked;          /* what is expected to go astray of the present prediction */
    double threshold;
    bool on;
} sl__predictor_kind;

typedef struct sl__predictor {
    sl_switch mode;
    bool measure;
    bool scanning;                /* the last request was a scan's */
    uint32_t visits;              /* requests so far */
    sl__predictor_kind kinds[3];  /* [sl__guess]; a near guess has ranks of its own, and shares the
                                   * budget and the threshold of those a layer ahead */
} sl__predictor;

void sl__predictor_init(sl__predictor *predictor, sl_switch mode, bool measure);

/* Whether anything would be read ahead of requests as the last one was. */
bool sl__predictor_on(const sl__predictor *predictor);
/* Whether a prediction is of any use for the next request: to read, or to learn. */
bool sl__predictor_wants(const sl__predictor *predictor);
/* Whether so little is missing, of late, that the next request is worth no prediction but now and
 * then: less than `bytes` in some sixty requests. */
bool sl__predictor_idles(const sl__predictor *predictor, uint64_t bytes);
/* Of an absent expert at this rank (from 0), right or not. */
double sl__predictor_precision(const sl__predictor *predictor, unsigned guess, uint32_t rank);
/* Whether to read an absent expert ahead, `bytes` of it, the rank-th of a prediction of which the
 * first `chosen` are wanted. What is said yes to is staked until the next visit. */
bool sl__predictor_bet(sl__predictor *predictor, unsigned guess, uint32_t rank, uint32_t chosen,
                       uint64_t bytes);

/* What became of an absent expert that was predicted, read ahead or not. */
void sl__predictor_learn(sl__predictor *predictor, unsigned guess, uint32_t rank, bool right);
/* Bytes of an expert that was asked for and had to be read, ahead or not. */
void sl__predictor_missing(sl__predictor *predictor, bool scan, uint64_t bytes);
/* Read ahead and not asked for; and asked for later all the same. */
void sl__predictor_astray(sl__predictor *predictor, bool scan, uint64_t bytes);
void sl__predictor_redeem(sl__predictor *predictor, bool scan, uint64_t bytes);
/* A request has come: the past grows lighter, the thresholds move. */
void sl__predictor_visit(sl__predictor *predictor, bool scan);

#endif
