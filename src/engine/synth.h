/* Inside sl_synth: random models in the shapes of real ones, whose routing follows two dials.
 *
 *     synth_shapes.c   a name → config.json as published
 *     synth_dials.c    overlap and predictability → standard deviations of every matrix
 *     synth_fill.c     a standard deviation → rows of random bytes, in the encoded domain
 *     synth.c          plans a pack of it and writes it
 *
 * The stream of the model is in two parts. The topic of a token is written into the first by the
 * embedding and never changed; the rest is each token's own, and every block adds to it:
 *
 *     x = [ topic | rest ]     topic  the same for all ids of a topic; no block reads or writes it
 *                              rest   random for each id; at layer l its variance is V·(1/kept)^l
 *
 * A router reads both, weighed so that `shared` of its outputs' variance comes from the topic in
 * every layer, however much the rest has grown. Two tokens of a topic then have router outputs of
 * correlation `shared`, and the next layer's router, applied a layer early, gives outputs that
 * correlate with its true ones by sqrt(shared + (1 − shared)·kept). The head prefers ids of the
 * present topic, so that sampled text stays in one for a while.
 */
#ifndef SL_ENGINE_SYNTH_H
#define SL_ENGINE_SYNTH_H

#include <jansson.h>

#include "model/family.h"

/* Raised whenever the same options give other bytes. */
#define SL_SYNTH_VERSION 2u

/* What config.json of a synthetic model says about it. */
typedef struct sl__synth_mark {
    double overlap, predictable;
    bool uniform;
} sl__synth_mark;
/* False where the model is no synthetic one. */
bool sl__synth_read_mark(const sl__config *config, sl__synth_mark *out);

/* ---- shapes ---------------------------------------------------------------------------------- */

typedef struct sl__synth_shape sl__synth_shape;

const sl__synth_shape *sl__synth_shape_find(const char *name); /* NULL: none */
uint32_t sl__synth_shape_layers(const sl__synth_shape *shape); /* as published */
/* config.json with `layers` layers, no drafting head and no vision; NULL: memory is out. Owned. */
json_t *sl__synth_shape_config(const sl__synth_shape *shape, uint32_t layers);

/* ---- the dials ------------------------------------------------------------------------------- */

/* P(Y > t | X > t) of standard normals X and Y with this correlation in [0, 1), t such that
 * P(X > t) = share, in (0, 1): what part of the k best of k / share agrees between two rankings. */
double sl__synth_agreement(double correlation, double share);
/* The correlation that gives an agreement in [share, 1). */
double sl__synth_correlation(double agreement, double share);

typedef struct sl__synth_dials {
    double overlap, predictable; /* as asked for; overlap k / E where uniform */
    bool uniform;
    uint32_t topics, topic_ids; /* id i has topic i / topic_ids, at most the last */
    uint32_t topic_dims;        /* of the stream */
    double shared, kept;        /* see above */
    double head_gain;           /* a logit's mean for ids of the present topic */
} sl__synth_dials;

/* Solves for what opt asks; the error says what a dial can be. */
sl_status sl__synth_dials_make(sl__synth_dials *out, const sl_synth_options *opt,
                               const sl__model_desc *desc, sl_error *err);

/* What the norms of queries and keys multiply by: attention that picks a few positions. */
#define SL_SYNTH_QK_GAIN 2.5

/* How a matrix is filled. */
typedef struct sl__synth_fill {
    double std;          /* of the weights */
    uint32_t zero_rows;  /* the first rows are 0 */
    uint32_t topic_cols; /* the first columns (a multiple of SL_GROUP) have topic_std */
    double topic_std;
    bool by_topic;       /* and there every row has its topic's random numbers */
} sl__synth_fill;

/* Of a matrix outside the layers, of one of a layer, of a part of a layer's experts. */
sl__synth_fill sl__synth_model_matrix(const sl__synth_dials *dials, const sl__model_desc *desc,
                                      int role);
sl__synth_fill sl__synth_layer_matrix(const sl__synth_dials *dials, const sl__model_desc *desc,
                                      uint32_t layer, int role);
sl__synth_fill sl__synth_expert_part(const sl__synth_dials *dials, const sl__model_desc *desc,
                                     uint32_t layer, sl__expert_part part);

/* ---- filling --------------------------------------------------------------------------------- */

/* Sixteen xoshiro128++ generators side by side: vectors of any width take some of them at a time,
 * with the same result. */
#define SL_SYNTH_LANES 16u
typedef struct sl__synth_rng {
    uint32_t s[4][SL_SYNTH_LANES];
} sl__synth_rng;

/* `what` tells the streams of one model apart. */
void sl__synth_rng_seed(sl__synth_rng *rng, uint64_t seed, uint64_t what);
void sl__synth_rng_bytes(sl__synth_rng *rng, void *out, size_t bytes);
double sl__synth_rng_unit(sl__synth_rng *rng); /* [0, 1); wasteful, for few numbers */

/* Whether matrices of the type can be filled. */
bool sl__synth_can_fill(sl__dtype type);

/* Fills rows of cols weights, all of them random with this standard deviation and a mean of 0: a
 * grouped type gets uniform codes under one scale, others uniform numbers. cols % SL_GROUP == 0. */
void sl__synth_fill_rows(sl__synth_rng *rng, sl__dtype type, void *out, uint64_t rows,
                         uint32_t cols, double std);

/* Fills rows [first, first + rows) of a matrix. rng goes on from one call to the next;
 * topic_seed is for by_topic. */
void sl__synth_fill_matrix(sl__synth_rng *rng, const sl__synth_fill *fill,
                           const sl__synth_dials *dials, uint64_t topic_seed, sl__dtype type,
                           void *out, uint64_t first, uint64_t rows, uint32_t cols);

#endif
