/* Scales and minimums of groups of weights, sixteen groups at a time: the search that all encoders
 * share. Private to quant.
 *
 *     x ─ starts ─ codes ─ least squares ─ the best ─ rounded ─ codes ─ least squares ─ … ─ the
 * best by estimate                                  by its cost
 *
 * A lane is a group; what it comes to depends on its own values alone. The costly part, codes and
 * their sums, is kern's; what is here works on one number a lane.
 */
#ifndef SL_QUANT_FIT_H
#define SL_QUANT_FIT_H

#include "kern/kern.h"

#define SL_FIT_MOST 64u /* values of a group */

/* How a scale and a minimum are stored. */
typedef enum sl__fit_form {
    SL_FIT_ANY, /* as they are: they are rounded later */
    SL_FIT_BF16,
    SL_FIT_F16, /* to ±65504 at most */
} sl__fit_form;

/* One number a lane. */
typedef struct sl__lanes {
    float of[SL_FIT_LANES];
} sl__lanes;

/* Groups to be fitted; fit.x is x. */
typedef struct sl__fit_groups {
    const sl__kern *kern;
    sl__fit fit;
    sl__fit_form form;
    sl__lanes lowest, highest; /* of the values */
    float x[SL_FIT_MOST * SL_FIT_LANES];
} sl__fit_groups;

/* A pair a lane, what it costs, Σ (x − decoded)², and what kern's fit_measure says of it. */
typedef struct sl__fitted {
    sl__lanes scale, minimum, error;
    sl__fit_next next;
    sl__fit_sums sums;
} sl__fitted;

/* The nearest that can be stored. x is finite; above F16's range it becomes its end. */
float sl__fit_round(sl__fit_form form, float x);
void sl__fit_round_lanes(sl__fit_form form, sl__lanes *v);

/* Lays out `lanes` <= SL_FIT_LANES groups of n values that follow one another; lanes beyond repeat
 * the first. */
void sl__fit_load(sl__fit_groups *g, const float *x, uint32_t n, uint32_t lanes);

void sl__fit_measure(const sl__fit_groups *g, const sl__lanes *scale, const sl__lanes *minimum,
                     sl__fitted *out);

/* Lanes of `from` that cost less replace those of best. */
void sl__fit_keep(sl__fitted *best, const sl__fitted *from);

/* scale · code + minimum where g->fit.has_minimum (its codes are 0 … high), else scale · code with
 * a scale of either sign. Searches; what is in best is kept where it is no worse (an error of
 * INFINITY stands for nothing). */
void sl__fit_search(const sl__fit_groups *g, sl__fitted *best);

#endif
