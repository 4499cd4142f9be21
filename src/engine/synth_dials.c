/* What the dials mean in numbers: correlations of router outputs, and from these the standard
 * deviation of every matrix. synth.h describes the model.
 *
 * Everything follows from variances, since every block reads the stream after a norm. With `rest`
 * dims of variance v and `topic` dims of variance 1,
 *
 *     rms² = (topic + rest·v) / hidden                what the norm divides by
 *     V[l] = V[0] / kept^l                            the rest where layer l's router sees it
 *     V[l+1] − V[l]                                   added in between: MIXER_SHARE of it by the
 *                                                     mixer of l + 1, the others by experts of l
 *
 * A matrix that reads the normed stream gets the standard deviation at which its outputs have a
 * variance of 1; one that writes to it, that at which its part of the growth comes out.
 */
#include "engine/synth.h"

#include <assert.h>
#include <math.h>

#include "base/fail.h"

/* Choices. What mixers add is alike in consecutive tokens (they average over the past), and so is
 * kept small; what experts add is not. */
#define MIXER_SHARE     0.05
#define SHARED_SHARE    0.20 /* of what experts add, by the shared one */
#define STAY            0.90 /* chance that a sampled token has the topic of the one before */
#define TOPICS_MAX      64u
#define TOPIC_IDS_MIN   64u
#define HEAD_STD        0.5  /* of the logits of one topic */
#define SHARED_GATE_STD 0.5
#define PICKED          0.5  /* Σ w² of attention's weights, about, with SL_SYNTH_QK_GAIN */
#define DELTA_GAIN      8.0  /* of q, k and v: their norms' epsilon is then nothing beside them */
#define ROUTER_STD      1.0
#define KEPT_MAX        0.998
#define SHARED_MAX      0.98
#define GROWTH_MAX      1e30 /* of the rest's variance, whose sum over hidden must stay a float */

/* ---- normal distributions -------------------------------------------------------------------- */

static double density(double x) { return exp(-0.5 * x * x) * 0.3989422804014327; }

static double tail(double x) { return 0.5 * erfc(x * 0.7071067811865476); }

/* t with P(X > t) = share */
static double quantile(double share)
{
    double low = -10, high = 10;
    for (unsigned i = 0; i < 80; i++) {
        double t = 0.5 * (low + high);
        if (tail(t) > share) low = t;
        else high = t;
    }
    return 0.5 * (low + high);
}

#define STEPS 512u /* even */

/* Simpson's weight of step i, times 3. */
static double simpson(unsigned i) { return i == 0 || i == STEPS ? 1 : i % 2 ? 4 : 2; }

double sl__synth_agreement(double correlation, double share)
{
    double t = quantile(share), step = 8.0 / STEPS, sum = 0;
    double rest = sqrt(1 - correlation * correlation);
    for (unsigned i = 0; i <= STEPS; i++) {
        double x = t + i * step;
        sum += simpson(i) * density(x) * tail((t - correlation * x) / rest);
    }
    return sum * step / 3 / share;
}

double sl__synth_correlation(double agreement, double share)
{
    double low = 0, high = 0.9999;
    for (unsigned i = 0; i < 50; i++) {
        double c = 0.5 * (low + high);
        if (sl__synth_agreement(c, share) < agreement) low = c;
        else high = c;
    }
    return 0.5 * (low + high);
}

static double sigmoid(double x) { return 1 / (1 + exp(-x)); }

static double silu(double x) { return x * sigmoid(x); }

/* E[f(std·X)²] of a standard normal X. */
static double mean_square(double (*f)(double), double std)
{
    double step = 16.0 / STEPS, sum = 0;
    for (unsigned i = 0; i <= STEPS; i++) {
        double x = -8 + i * step, y = f(std * x);
        sum += simpson(i) * density(x) * y * y;
    }
    return sum * step / 3;
}

/* ---- the dials ------------------------------------------------------------------------------- */

static double share_of(const sl__model_desc *desc)
{
    const sl__moe_desc *moe = &desc->layers[sl__model_moe_layer(desc)].moe;
    return (double)moe->top_k / moe->experts;
}

/* Overlap of consecutive tokens: most of them share their topic. */
static double overlap_of(double shared, double share)
{
    return STAY * sl__synth_agreement(shared, share) + (1 - STAY) * share;
}

static double predicted_correlation(double shared, double kept)
{
    return sqrt(shared + (1 - shared) * kept);
}

static sl_status solve_overlap(sl__synth_dials *d, double share, sl_error *err)
{
    double most = overlap_of(SHARED_MAX, share);
    if (d->uniform) {
        d->overlap = share;
        return SL_OK;
    }
    if (!(d->overlap > share && d->overlap <= most)) {
        return SL_FAIL(err, SL_EINVAL, "overlap %g: it can be from above %.3f (tokens that choose "
                       "anew) to %.3f", d->overlap, share, most);
    }
    d->shared = sl__synth_correlation((d->overlap - (1 - STAY) * share) / STAY, share);
    return SL_OK;
}

static sl_status solve_predictable(sl__synth_dials *d, uint32_t layers, double share, sl_error *err)
{
    /* The more changes from layer to layer the more the stream grows, and floats end. */
    double least_kept = exp(-log(GROWTH_MAX) / layers);
    double least = sl__synth_agreement(predicted_correlation(d->shared, least_kept), share);
    double most = sl__synth_agreement(predicted_correlation(d->shared, KEPT_MAX), share);
    if (!(d->predictable >= least && d->predictable <= most)) {
        return SL_FAIL(err, SL_EINVAL, "predictable %g: with %u layers and an overlap of %g it can "
                       "be from %.3f to %.3f", d->predictable, layers, d->overlap, least, most);
    }
    double c = sl__synth_correlation(d->predictable, share);
    d->kept = (c * c - d->shared) / (1 - d->shared);
    if (d->kept < least_kept) d->kept = least_kept;
    if (d->kept > KEPT_MAX) d->kept = KEPT_MAX;
    return SL_OK;
}

/* The mean logit of the present topic's ids at which sampling stays with chance STAY. Another
 * topic's ids have logits of variance gain²/dims, which lets out more. The topics' own gains vary
 * by 0.8 of that (the square of a uniform number has a variance of 0.8 of its squared mean), and
 * those that are left late make up most of a text, which lets out less. */
static double solve_head(uint32_t topics, uint32_t dims)
{
    double base = log((topics - 1) * STAY / (1 - STAY)), gain = base;
    for (unsigned i = 0; i < 50; i++)
        gain = base + gain * gain * 0.5 * (1 - 0.8) / dims;
    return gain;
}

sl_status sl__synth_dials_make(sl__synth_dials *out, const sl_synth_options *opt,
                               const sl__model_desc *desc, sl_error *err)
{
    sl__synth_dials d = {.overlap = opt->overlap != 0 ? opt->overlap : 0.25,
                         .predictable = opt->predictable != 0 ? opt->predictable : 0.70,
                         .uniform = opt->uniform};
    double share = share_of(desc);
    SL_TRY(solve_overlap(&d, share, err));
    SL_TRY(solve_predictable(&d, desc->layer_count, share, err));
    d.topic_dims = desc->hidden / 4 / SL_GROUP * SL_GROUP;
    d.topics = desc->vocab / TOPIC_IDS_MIN;
    if (d.topics > TOPICS_MAX) d.topics = TOPICS_MAX;
    assert(d.topic_dims > 0 && d.topics > 1);
    d.topic_ids = desc->vocab / d.topics;
    d.head_gain = d.uniform ? 0 : solve_head(d.topics, d.topic_dims);
    *out = d;
    return SL_OK;
}

/* ---- the stream ------------------------------------------------------------------------------ */

static double rest_dims(const sl__synth_dials *d, const sl__model_desc *desc)
{
    return desc->hidden - d->topic_dims;
}

static double rms(const sl__synth_dials *d, const sl__model_desc *desc, double v)
{
    return sqrt((d->topic_dims + rest_dims(d, desc) * v) / desc->hidden);
}

static double growth(const sl__synth_dials *d) { return 1 / d->kept - 1; }

/* The rest's variance where the router of a layer sees it. */
static double at_router(const sl__synth_dials *d, uint32_t layer)
{
    return (1 + MIXER_SHARE * growth(d)) * pow(1 / d->kept, layer);
}

/* And at the layer's beginning; layer_count: at the end. */
static double at_layer(const sl__synth_dials *d, uint32_t layer)
{
    if (layer == 0) return 1;
    return at_router(d, layer - 1) * (1 + (1 - MIXER_SHARE) * growth(d));
}

/* The standard deviation at which a product with the normed rest has a variance of 1. */
static double reading_std(const sl__synth_dials *d, const sl__model_desc *desc, double v)
{
    return rms(d, desc, v) / sqrt(rest_dims(d, desc) * v);
}

static sl__synth_fill reading(const sl__synth_dials *d, const sl__model_desc *desc, double v,
                              double gain)
{
    return (sl__synth_fill){.std = gain * reading_std(d, desc, v), .topic_cols = d->topic_dims};
}

/* Of a matrix that adds `variance` to the rest, given `inputs` numbers of mean square `square`. */
static sl__synth_fill writing(const sl__synth_dials *d, double variance, double inputs,
                              double square)
{
    return (sl__synth_fill){.std = sqrt(variance / (inputs * square)), .zero_rows = d->topic_dims};
}

static double mixer_variance(const sl__synth_dials *d, uint32_t layer)
{
    return at_router(d, layer) - at_layer(d, layer);
}

/* What the shared expert adds, or the routed ones together. */
static double expert_variance(const sl__synth_dials *d, const sl__moe_desc *m, uint32_t layer,
                              bool shared)
{
    double all = at_layer(d, layer + 1) - at_router(d, layer);
    if (m->shared_intermediate == 0) return all;
    return all * (shared ? SHARED_SHARE : 1 - SHARED_SHARE);
}

/* Σ w² of the weights of the k chosen: the softmax of the k largest of E normal numbers, each taken
 * at its expected place. */
static double weights_square(const sl__moe_desc *m)
{
    double sum = 0, squares = 0;
    for (uint32_t i = 0; i < m->top_k; i++) {
        double w = exp(ROUTER_STD * quantile((i + 0.625) / (m->experts + 0.25)));
        sum += w;
        squares += w * w;
    }
    return squares / (sum * sum);
}

/* ---- matrices -------------------------------------------------------------------------------- */

sl__synth_fill sl__synth_model_matrix(const sl__synth_dials *d, const sl__model_desc *desc,
                                      int role)
{
    sl__synth_fill fill = {.std = 1, .topic_cols = d->topic_dims, .topic_std = 1, .by_topic = true};
    if (role == SL_ROLE_EMBED) return fill;
    assert(role == SL_ROLE_HEAD);
    double v = at_layer(d, desc->layer_count);
    fill.std = HEAD_STD * reading_std(d, desc, v);
    fill.topic_std = d->head_gain * rms(d, desc, v) / d->topic_dims;
    return fill;
}

static sl__synth_fill router(const sl__synth_dials *d, const sl__model_desc *desc, double v)
{
    sl__synth_fill fill = reading(d, desc, v, ROUTER_STD * sqrt(1 - d->shared));
    fill.topic_std = ROUTER_STD * sqrt(d->shared / d->topic_dims) * rms(d, desc, v);
    return fill;
}

static sl__synth_fill attention_output(const sl__synth_dials *d, const sl__attention_desc *a,
                                       uint32_t layer)
{
    double gate = a->output_gate ? mean_square(sigmoid, 1) : 1;
    return writing(d, mixer_variance(d, layer), (double)a->heads * a->head_dim, PICKED * gate);
}

sl__synth_fill sl__synth_layer_matrix(const sl__synth_dials *d, const sl__model_desc *desc,
                                      uint32_t layer, int role)
{
    const sl__layer_desc *l = &desc->layers[layer];
    double mixed = at_router(d, layer);
    switch (role) {
    case SL_ROLE_ROUTER: return router(d, desc, mixed);
    case SL_ROLE_SHARED_GATE: return reading(d, desc, mixed, SHARED_GATE_STD);
    case SL_ROLE_SHARED_GATE_PROJ:
    case SL_ROLE_SHARED_UP_PROJ: return reading(d, desc, mixed, 1);
    case SL_ROLE_SHARED_DOWN_PROJ:
        return writing(d, expert_variance(d, &l->moe, layer, true), l->moe.shared_intermediate,
                       mean_square(silu, 1) *
                           (l->moe.shared_gate ? mean_square(sigmoid, SHARED_GATE_STD) : 1));
    case SL_ROLE_O: return attention_output(d, &l->attention, layer);
    case SL_ROLE_DELTA_OUT:
        return writing(d, mixer_variance(d, layer), sl__delta_value_width(&l->delta),
                       mean_square(silu, 1));
    case SL_ROLE_DELTA_QKV: return reading(d, desc, at_layer(d, layer), DELTA_GAIN);
    default: return reading(d, desc, at_layer(d, layer), 1);
    }
}

sl__synth_fill sl__synth_expert_part(const sl__synth_dials *d, const sl__model_desc *desc,
                                     uint32_t layer, sl__expert_part part)
{
    const sl__moe_desc *m = &desc->layers[layer].moe;
    if (part != SL_PART_DOWN) return reading(d, desc, at_router(d, layer), 1);
    return writing(d, expert_variance(d, m, layer, false), m->intermediate,
                   mean_square(silu, 1) * weights_square(m));
}
