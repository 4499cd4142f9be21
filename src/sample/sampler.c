/* The sampler: from a row of logits to the next token.
 *
 *     logits ─ penalties ─ temperature ─ min-p ─ top-k ─ top-p ─ draw ─ id
 *              (a copy, only    (a factor    └──── candidates ────┘
 *              where asked for)  of weights)
 *
 * A candidate is a token that is still in the running: {logit, id, weight}. "Better" is a total
 * order, higher logit first and lower id among equals, so every filter keeps the same tokens on
 * every machine. Top-k keeps a heap whose root is the worst of the k best so far: one pass over the
 * vocabulary, nearly every token settled by one comparison with the root. Top-p turns the
 * candidates into a heap with the best at the root and takes from it until enough probability is
 * gathered: nothing is ever sorted whole.
 *
 * Weights are exp((logit - best) / temperature) in double: at most 1, never overflowing. Everything
 * is allocated when the sampler is created.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "base/fail.h"

typedef struct candidate {
    float logit; /* after penalties, before temperature */
    int32_t id;
    double weight;
} candidate;

enum { SEEN = 1, GENERATED = 2 };

struct sl_sampler {
    sl_sampler_options opt;
    uint32_t vocab_size;
    uint64_t random_state;
    uint8_t *seen;         /* [vocab_size] of SEEN and GENERATED; NULL where no penalty is on */
    float *penalised;      /* [vocab_size]; NULL likewise */
    uint32_t *counts;      /* [vocab_size] of generated tokens; NULL: no frequency penalty */
    candidate *candidates; /* [candidate_room]; NULL when greedy */
    uint32_t candidate_room;
};

void sl_sampler_options_default(sl_sampler_options *opt)
{
    *opt = (sl_sampler_options){.top_p = 1.0f, .repetition_penalty = 1.0f};
}

/* ---- randomness ------------------------------------------------------------------------------ */

/* SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014): a
 * Weyl sequence, each term scrambled. Any seed is a good seed, 0 too. */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* In [0, 1), all 53 bits of a double's precision. */
static double random_unit(uint64_t *state)
{
    return (double)(random_next(state) >> 11) * 0x1p-53;
}

/* ---- creating -------------------------------------------------------------------------------- */

static sl_status check_options(uint32_t vocab_size, const sl_sampler_options *opt, sl_error *err)
{
    if (vocab_size == 0 || vocab_size > INT32_MAX)
        return SL_FAIL(err, SL_EINVAL, "sampler: a vocabulary of %u tokens", vocab_size);
    if (!isfinite(opt->temperature) || opt->temperature < 0.0f)
        return SL_FAIL(err, SL_EINVAL, "sampler: temperature %g is not a number of at least 0",
                       (double)opt->temperature);
    if (!(opt->top_p > 0.0f && opt->top_p <= 1.0f))
        return SL_FAIL(err, SL_EINVAL, "sampler: top_p %g is not above 0 and at most 1",
                       (double)opt->top_p);
    if (!(opt->min_p >= 0.0f && opt->min_p <= 1.0f))
        return SL_FAIL(err, SL_EINVAL, "sampler: min_p %g is not between 0 and 1",
                       (double)opt->min_p);
    if (!isfinite(opt->repetition_penalty) || opt->repetition_penalty <= 0.0f)
        return SL_FAIL(err, SL_EINVAL, "sampler: repetition_penalty %g is not a number above 0",
                       (double)opt->repetition_penalty);
    if (!isfinite(opt->presence_penalty))
        return SL_FAIL(err, SL_EINVAL, "sampler: presence_penalty %g is not finite",
                       (double)opt->presence_penalty);
    if (!isfinite(opt->frequency_penalty))
        return SL_FAIL(err, SL_EINVAL, "sampler: frequency_penalty %g is not finite",
                       (double)opt->frequency_penalty);
    return SL_OK;
}

sl_status sl_sampler_create(sl_sampler **out, uint32_t vocab_size, const sl_sampler_options *opt,
                            sl_error *err)
{
    *out = NULL;
    SL_TRY(check_options(vocab_size, opt, err));

    sl_sampler *s = calloc(1, sizeof *s);
    if (!s) return SL_FAIL_NOMEM(err, "sampler");
    s->opt = *opt;
    s->vocab_size = vocab_size;
    s->random_state = opt->seed;

    bool ok = true;
    bool frequency = opt->frequency_penalty != 0.0f;
    if (opt->repetition_penalty != 1.0f || opt->presence_penalty != 0.0f || frequency) {
        s->seen = calloc(vocab_size, sizeof *s->seen);
        s->penalised = calloc(vocab_size, sizeof *s->penalised);
        if (frequency) s->counts = calloc(vocab_size, sizeof *s->counts);
        ok = s->seen && s->penalised && (s->counts || !frequency);
    }
    if (opt->temperature > 0.0f) {
        s->candidate_room = vocab_size;
        if (opt->top_k > 0 && opt->top_k < vocab_size) s->candidate_room = opt->top_k;
        s->candidates = calloc(s->candidate_room, sizeof *s->candidates);
        ok = ok && s->candidates;
    }
    if (!ok) {
        sl_sampler_destroy(s);
        return SL_FAIL_NOMEM(err, "sampler");
    }
    *out = s;
    return SL_OK;
}

void sl_sampler_destroy(sl_sampler *s)
{
    if (!s) return;
    free(s->seen);
    free(s->penalised);
    free(s->counts);
    free(s->candidates);
    free(s);
}

/* An id that the model has no logit for can never be chosen: there is nothing to penalise. */
static void mark(sl_sampler *s, int32_t id, uint8_t marks)
{
    if (!s->seen || id < 0 || (uint32_t)id >= s->vocab_size) return;
    s->seen[id] |= marks;
    if (s->counts && marks & GENERATED) s->counts[id]++;
}

void sl_sampler_accept_prompt(sl_sampler *s, int32_t id)
{
    mark(s, id, SEEN);
}

void sl_sampler_accept(sl_sampler *s, int32_t id)
{
    mark(s, id, SEEN | GENERATED);
}

/* ---- penalties and the best token ------------------------------------------------------------ */

static float clamp_to_float(double x)
{
    if (x > (double)FLT_MAX) return FLT_MAX;
    if (x < -(double)FLT_MAX) return -FLT_MAX;
    return (float)x;
}

/* A masked token stays masked; a penalty never turns a finite logit into an infinite one. */
static float penalise(const sl_sampler_options *opt, float logit, uint8_t marks, uint32_t count)
{
    if (!isfinite(logit)) return logit;
    double x = (double)logit;
    if (marks & SEEN) {
        double penalty = (double)opt->repetition_penalty;
        x = (double)clamp_to_float(x > 0.0 ? x / penalty : x * penalty);
    }
    if (marks & GENERATED) x -= (double)opt->presence_penalty;
    if (count > 0) x -= (double)opt->frequency_penalty * (double)count;
    return clamp_to_float(x);
}

static const float *apply_penalties(sl_sampler *s, const float *logits)
{
    if (!s->seen) return logits;
    for (uint32_t i = 0; i < s->vocab_size; i++)
        s->penalised[i] = s->seen[i] ? penalise(&s->opt, logits[i], s->seen[i],
                                                s->counts ? s->counts[i] : 0)
                                     : logits[i];
    return s->penalised;
}

/* The first of the highest logits; fails on what a model cannot have put there. */
static sl_status find_best(const sl_sampler *s, const float *logits, uint32_t *best, sl_error *err)
{
    uint32_t at = 0;
    float top = -INFINITY;
    bool odd = false;
    for (uint32_t i = 0; i < s->vocab_size; i++) {
        float x = logits[i];
        odd |= !(x <= FLT_MAX); /* NaN or +infinity */
        if (x > top) {
            top = x;
            at = i;
        }
    }
    if (odd) {
        uint32_t i = 0;
        while (logits[i] <= FLT_MAX)
            i++;
        return SL_FAIL(err, SL_ENUMERIC, "sampler: the logit of token %u is %s", i,
                       isnan(logits[i]) ? "NaN" : "infinite");
    }
    if (top == -INFINITY)
        return SL_FAIL(err, SL_ENUMERIC, "sampler: no token of %u has a finite logit",
                       s->vocab_size);
    *best = at;
    return SL_OK;
}

/* ---- heaps of candidates --------------------------------------------------------------------- */

static bool better(const candidate *a, const candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/* Sinks heap[at] until neither child belongs above it. best_first: the best at the root; otherwise
 * the worst. */
static void sink(candidate *heap, uint32_t count, uint32_t at, bool best_first)
{
    candidate moving = heap[at];
    for (;;) {
        uint64_t child = 2 * (uint64_t)at + 1;
        if (child >= count) break;
        if (child + 1 < count && better(&heap[child + 1], &heap[child]) == best_first) child++;
        if (better(&moving, &heap[child]) == best_first) break;
        heap[at] = heap[child];
        at = (uint32_t)child;
    }
    heap[at] = moving;
}

static void heapify(candidate *heap, uint32_t count, bool best_first)
{
    for (uint32_t i = count / 2; i-- > 0;)
        sink(heap, count, i, best_first);
}

/* ---- filters --------------------------------------------------------------------------------- */

/* Collects the tokens that min-p and top-k leave, in no particular order but always the same. */
static uint32_t collect(sl_sampler *s, const float *logits, float top)
{
    double floor = (double)-FLT_MAX;
    if (s->opt.min_p > 0.0f) {
        double cut = (double)top + (double)s->opt.temperature * log((double)s->opt.min_p);
        if (cut > floor) floor = cut;
    }

    candidate *heap = s->candidates;
    uint32_t count = 0;
    uint32_t i = 0;
    for (; i < s->vocab_size && count < s->candidate_room; i++)
        if ((double)logits[i] >= floor)
            heap[count++] = (candidate){.logit = logits[i], .id = (int32_t)i};
    if (i == s->vocab_size) return count;

    /* Ids ascend, so a later token of equal logit is never better than the root. */
    heapify(heap, count, false);
    for (; i < s->vocab_size; i++) {
        if (logits[i] > heap[0].logit && (double)logits[i] >= floor) {
            heap[0] = (candidate){.logit = logits[i], .id = (int32_t)i};
            sink(heap, count, 0, false);
        }
    }
    return count;
}

static double weigh(sl_sampler *s, uint32_t count, float top)
{
    double total = 0.0;
    double temperature = (double)s->opt.temperature;
    for (uint32_t i = 0; i < count; i++) {
        candidate *c = &s->candidates[i];
        c->weight = exp(((double)c->logit - (double)top) / temperature);
        total += c->weight;
    }
    return total;
}

/* Keeps the fewest best candidates that hold top_p of the total weight, one at least; they end up
 * at the end of the array, the best last. Returns how many and their weight. */
static uint32_t keep_top_p(sl_sampler *s, uint32_t count, double *total)
{
    candidate *heap = s->candidates;
    double wanted = *total * (double)s->opt.top_p;
    double held = 0.0;
    uint32_t left = count;
    heapify(heap, count, true);
    while (left > 0 && held < wanted) { /* wanted is above 0 */
        candidate best = heap[0];
        held += best.weight;
        heap[0] = heap[--left];
        sink(heap, left, 0, true);
        heap[left] = best;
    }
    *total = held;
    return count - left;
}

/* Walks the candidates until their weights pass a random share of the total. */
static int32_t draw(sl_sampler *s, const candidate *from, uint32_t count, double total)
{
    double target = random_unit(&s->random_state) * total;
    double passed = 0.0;
    int32_t id = -1;
    for (uint32_t i = 0; i < count; i++) {
        if (from[i].weight <= 0.0) continue;
        id = from[i].id; /* the last one takes what rounding leaves */
        passed += from[i].weight;
        if (passed > target) break;
    }
    assert(id >= 0);
    return id;
}

sl_status sl_sampler_draw(sl_sampler *s, const float *logits, int32_t *id, sl_error *err)
{
    const float *row = apply_penalties(s, logits);
    uint32_t best = 0;
    SL_TRY(find_best(s, row, &best, err));

    *id = (int32_t)best;
    if (s->opt.temperature > 0.0f) {
        uint32_t count = collect(s, row, row[best]);
        double total = weigh(s, count, row[best]);
        uint32_t kept = count;
        if (s->opt.top_p < 1.0f) kept = keep_top_p(s, count, &total);
        *id = draw(s, s->candidates + (count - kept), kept, total);
    }
    return SL_OK;
}

sl_status sl_sampler_sample(sl_sampler *s, const float *logits, int32_t *id, sl_error *err)
{
    SL_TRY(sl_sampler_draw(s, logits, id, err));
    sl_sampler_accept(s, *id);
    return SL_OK;
}
