/* Attention over cached blocks: attend, attend_fold, attend_end. Against the same sums in double
 * over what is stored; a query alone, beside others, and span by span has the same bits. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkkern.h"
#include "plain_kv.h"

#define BOUND 1e-5

static const sl_kv_type types[] = {SL_KV_F32, SL_KV_F16, SL_KV_Q8};

/* One KV head's cache, as stored and as numbers, and what is asked of it. */
typedef struct scene {
    sl__attend a;
    uint32_t count; /* positions a.base … a.base + count − 1 are stored */
    double *k, *v;  /* [count][dim] */
    double *p;      /* [count]; of one query */
    bool latent;    /* the values are the keys' first channels */
} scene;

/* Slots beyond the last position hold what is NaN in every type. */
static void make_cache(ck *k, scene *s)
{
    sl__attend *a = &s->a;
    const size_t blocks = (s->count + SL_KV_BLOCK - 1) / SL_KV_BLOCK;
    const size_t k_bytes = (size_t)sl__kv_key_bytes(a->type, a->qk_dim);
    const size_t v_bytes = (size_t)sl__kv_value_bytes(a->type, a->v_dim);
    unsigned char *keys = ck_input(k, blocks * k_bytes, sizeof(float));
    unsigned char *values = ck_input(k, blocks * v_bytes, sizeof(float));
    float *row = ck_floats(k, a->qk_dim > a->v_dim ? a->qk_dim : a->v_dim);
    s->k = ck_doubles(k, (size_t)s->count * a->qk_dim);
    s->v = ck_doubles(k, (size_t)s->count * a->v_dim);
    s->p = ck_doubles(k, s->count);
    for (uint32_t t = 0; t < s->count; t++) {
        unsigned char *key = keys + t / SL_KV_BLOCK * k_bytes;
        unsigned char *value = values + t / SL_KV_BLOCK * v_bytes;
        double *exact_k = s->k + (size_t)t * a->qk_dim, *exact_v = s->v + (size_t)t * a->v_dim;
        for (uint32_t i = 0; i < a->qk_dim; i++)
            row[i] = ck_float(k, -1, 1);
        sl__kv_store_key(a->type, key, t % SL_KV_BLOCK, row, a->qk_dim);
        for (uint32_t i = 0; i < a->qk_dim; i++)
            exact_k[i] = (double)plain_kv(a->type, key, t % SL_KV_BLOCK, i, false);
        for (uint32_t i = 0; i < a->v_dim && !s->latent; i++)
            row[i] = ck_float(k, -1, 1);
        sl__kv_store_value(a->type, value, t % SL_KV_BLOCK, row, a->v_dim);
        for (uint32_t i = 0; i < a->v_dim; i++)
            exact_v[i] = s->latent
                             ? exact_k[i]
                             : (double)plain_kv(a->type, value, t % SL_KV_BLOCK, i, true);
    }
    a->k = keys;
    a->v = s->latent ? NULL : values;
}

/* The queries, at the end of `count` positions from a.base on; a's shape is the caller's. */
static scene make_scene(ck *k, sl__attend a, uint32_t count)
{
    scene s = {.a = a, .count = count, .latent = a.v_dim < a.qk_dim && count % 2 == 0};
    s.a.q_head = a.qk_dim + ck_below(k, 5);
    s.a.q_token = a.heads * s.a.q_head + ck_below(k, 5);
    s.a.position = a.base + count - a.tokens;
    s.a.q = ck_random(k, a.tokens * s.a.q_token, -1, 1);
    make_cache(k, &s);
    return s;
}

static uint32_t first_seen(const sl__attend *a, uint32_t t)
{
    const uint32_t end = a->position + t + 1;
    return a->window > 0 && end > a->window ? end - a->window : 0;
}

static uint32_t first_span(const sl__attend *a)
{
    return first_seen(a, 0) / SL_ATTEND_SPAN;
}

static uint32_t last_span(const sl__attend *a)
{
    return (a->position + a->tokens - 1) / SL_ATTEND_SPAN + 1;
}

/* Of query t, h: the exact result, and the size of what is summed, which may cancel. */
static double exact(const scene *s, uint32_t t, uint32_t h, const float *sink, double *want)
{
    const sl__attend *a = &s->a;
    const float *q = a->q + t * a->q_token + h * a->q_head;
    const uint32_t first = first_seen(a, t) - a->base, last = a->position + t - a->base;
    double sum = 0, size = 0, most = sink ? (double)*sink : -1e300;
    for (uint32_t i = first; i <= last; i++) {
        s->p[i] = 0;
        for (uint32_t c = 0; c < a->qk_dim; c++)
            s->p[i] += (double)q[c] * s->k[(size_t)i * a->qk_dim + c];
        s->p[i] *= (double)a->scale;
        most = fmax(most, s->p[i]);
    }
    for (uint32_t i = first; i <= last; i++)
        sum += s->p[i] = exp(s->p[i] - most);
    if (sink) sum += exp((double)*sink - most);
    for (uint32_t c = 0; c < a->v_dim; c++) {
        double magnitude = 0;
        want[c] = 0;
        for (uint32_t i = first; i <= last; i++) {
            const double term = s->p[i] / sum * s->v[(size_t)i * a->v_dim + c];
            want[c] += term;
            magnitude += fabs(term);
        }
        size += magnitude * magnitude;
    }
    return sqrt(size);
}

/* ---- answers --------------------------------------------------------------------------------- */

static float *partial_rows(ck *k, const sl__attend *a)
{
    return ck_floats(k, a->tokens * a->heads * sl__attend_row(a->v_dim));
}

static float *scratch(ck *k, const sl__attend *a)
{
    return ck_floats(k, sl__attend_tmp(a->tokens * a->heads, a->qk_dim, a->v_dim));
}

static void end_rows(const sl__kern *kern, const sl__attend *a, const float *partial,
                     const float *sink, float *out)
{
    for (uint32_t r = 0; r < a->tokens * a->heads; r++)
        kern->attend_end(partial + r * sl__attend_row(a->v_dim), sink,
                         out + (size_t)r * a->v_dim, a->v_dim);
}

/* All queries: [tokens · heads][v_dim]. */
static float *answer(ck *k, const sl__kern *kern, const sl__attend *a, const float *sink)
{
    float *partial = partial_rows(k, a);
    float *out = ck_floats(k, (size_t)a->tokens * a->heads * a->v_dim);
    kern->attend(a, first_span(a), last_span(a), partial, scratch(k, a));
    end_rows(kern, a, partial, sink, out);
    return out;
}

/* A span at a time, folded. */
static float *answer_in_spans(ck *k, const sl__attend *a, const float *sink)
{
    const size_t row = sl__attend_row(a->v_dim);
    float *all = partial_rows(k, a), *next = partial_rows(k, a), *tmp = scratch(k, a);
    float *out = ck_floats(k, (size_t)a->tokens * a->heads * a->v_dim);
    for (uint32_t span = first_span(a); span < last_span(a); span++) {
        const bool is_first = span == first_span(a);
        k->kern->attend(a, span, span + 1, is_first ? all : next, tmp);
        for (uint32_t r = 0; r < a->tokens * a->heads && !is_first; r++)
            k->kern->attend_fold(all + r * row, next + r * row, a->v_dim);
    }
    end_rows(k->kern, a, all, sink, out);
    return out;
}

/* ---- cases ----------------------------------------------------------------------------------- */

/* Some rows against what is exact and against ref. */
static void check_numbers(ck *k, const scene *s, const float *sink, const float *got)
{
    const sl__attend *a = &s->a;
    const float *ref = k->is_ref ? got : answer(k, k->ref, a, sink);
    double *want = ck_doubles(k, a->v_dim), *apart = ck_doubles(k, a->v_dim);
    for (uint32_t r = 0; r < a->tokens * a->heads; r += 1 + ck_below(k, 5)) {
        const size_t at = (size_t)r * a->v_dim;
        const double size = exact(s, r / a->heads, r % a->heads, sink, want);
        for (uint32_t c = 0; c < a->v_dim; c++)
            apart[c] = (double)ref[at + c];
        ck_within(k, "against exact numbers", got + at, want, a->v_dim, BOUND, size);
        ck_within(k, "against ref", got + at, apart, a->v_dim, BOUND, size);
    }
}

static void check_scene(ck *k, const scene *s, const float *sink)
{
    const sl__attend *a = &s->a;
    ck_seal(k);
    const float *got = answer(k, k->kern, a, sink);
    check_numbers(k, s, sink, got);
    ck_same(k, "in spans", answer_in_spans(k, a, sink), got,
            (size_t)a->tokens * a->heads * a->v_dim);
    const uint32_t t = ck_below(k, a->tokens), h = ck_below(k, a->heads);
    sl__attend alone = *a;
    alone.q += t * a->q_token + h * a->q_head;
    alone.position += t;
    alone.tokens = alone.heads = 1;
    ck_same(k, "a query alone", answer(k, k->kern, &alone, sink),
            got + ((size_t)t * a->heads + h) * a->v_dim, a->v_dim);
}

static void check_shapes(ck *k, unsigned cases)
{
    static const uint32_t dims[] = {1, 8, 20, 40, 64, 100, 128, 256};
    static const uint32_t windows[] = {0, 0, 1, 2, 31, 33, 100, 600};
    for (unsigned i = 0; i < cases; i++) {
        const uint32_t heads = 1 + ck_below(k, 17), window = windows[i % 8];
        const uint32_t tokens = 1 + ck_below(k, SL_ATTEND_ROWS / heads);
        uint32_t count = tokens + ck_below(k, i % 4 == 0 ? 1600 : 60);
        if (window > 0 && count < tokens + window + 32) count = tokens + window + 32;
        sl__attend shape = {.type = types[ck_below(k, 3)],
                            .base = window > 0 ? ck_below(k, 50) * SL_KV_BLOCK : 0,
                            .qk_dim = dims[ck_below(k, 8)], .v_dim = dims[ck_below(k, 8)],
                            .tokens = tokens, .heads = heads, .window = window};
        /* What a score is rounded by is an error of its weight; so large scores have no bound. */
        shape.scale = (i % 5 == 0 ? 12.0f : 1.0f) / sqrtf((float)shape.qk_dim);
        const float sink = ck_float(k, -4, 4);
        ck_case(k, "type %d, %u positions of %u and %u, %u tokens of %u heads, window %u",
                (int)shape.type, count, shape.qk_dim, shape.v_dim, tokens, heads, window);
        const scene s = make_scene(k, shape, count);
        check_scene(k, &s, i % 3 == 0 ? &sink : NULL);
    }
}

/* A chunk of 64 tokens by one, by two, by eight, as many at once as there may be: the same bits. */
static void check_batches(ck *k)
{
    enum { TOKENS = 64 };
    static const uint32_t batches[] = {2, 8, 16, 64};
    for (unsigned i = 0; i < (k->fast ? 3 : 9); i++) {
        const uint32_t heads = i % 2 == 0 ? 1 : 4;
        const sl__attend shape = {.type = types[i % 3], .qk_dim = i / 3 == 1 ? 160 : 96,
                                  .v_dim = 96, .tokens = 1, .heads = heads,
                                  .window = i % 2 == 0 ? 0 : 530, .scale = 0.1f};
        ck_case(k, "type %d, tokens in batches", (int)shape.type);
        scene s = make_scene(k, shape, 1060);
        s.a.q = ck_random(k, TOKENS * s.a.q_token, -1, 1);
        s.a.position = 1060 - TOKENS;
        const size_t out = (size_t)heads * s.a.v_dim;
        float *got = ck_floats(k, TOKENS * out), *want = ck_floats(k, TOKENS * out);
        sl__attend most = s.a;
        most.tokens = SL_ATTEND_ROWS / heads;
        float *partial = partial_rows(k, &most), *tmp = scratch(k, &most);
        ck_seal(k);
        for (unsigned b = 0; b < 5; b++) {
            const uint32_t batch = b == 0 ? 1 : batches[b - 1];
            if (batch * heads > SL_ATTEND_ROWS) break;
            for (uint32_t t = 0; t < TOKENS; t += batch) {
                sl__attend a = s.a;
                a.q += t * a.q_token;
                a.position += t;
                a.tokens = batch;
                k->kern->attend(&a, 0, 3, partial, tmp);
                end_rows(k->kern, &a, partial, NULL, (b == 0 ? want : got) + t * out);
            }
            if (b > 0) ck_same(k, "a batch", got, want, TOKENS * out);
        }
    }
}

/* What is not finite is not lost, wherever a query sees it. */
static void check_not_finite(ck *k)
{
    for (unsigned i = 0; i < 12; i++) {
        const sl__attend shape = {.type = types[i / 4], .qk_dim = 24, .v_dim = 40, .tokens = 1,
                                  .heads = 3, .scale = 1};
        ck_case(k, "type %d, not finite in place %u", (int)shape.type, i % 4);
        const scene s = make_scene(k, shape, 700);
        float bad[40];
        for (uint32_t c = 0; c < 40; c++)
            bad[c] = NAN;
        if (i % 4 == 0) {
            ((float *)(uintptr_t)s.a.q)[s.a.q_head + 5] = NAN;
        } else { /* a span before the last one too */
            const size_t block = 100 * (size_t)(i % 4) / SL_KV_BLOCK;
            sl__kv_store_value(s.a.type, (char *)(uintptr_t)s.a.v +
                               block * sl__kv_value_bytes(s.a.type, 40), 7, bad, 40);
        }
        ck_seal(k);
        const float *out = answer(k, k->kern, &s.a, NULL) + s.a.v_dim;
        if (!isnan(out[0]) || !isnan(out[39])) ck_fail(k, "NaN is lost");
    }
}

static void check_attend(ck *k)
{
    check_shapes(k, k->fast ? 24 : 160);
    check_batches(k);
    check_not_finite(k);
}

/* ---- partial results ------------------------------------------------------------------------- */

/* A row as attend leaves it: the sum, the largest score, the sum of weights. Of an empty one only
 * that last number may be read. */
static float *random_row(ck *k, uint32_t v_dim, bool is_empty)
{
    const size_t row = sl__attend_row(v_dim), panels = row - 16;
    float *p = ck_floats(k, row);
    p[panels + 1] = 0;
    if (is_empty) return p;
    for (size_t i = 0; i < panels; i++)
        p[i] = i < v_dim ? ck_float(k, -3, 3) : 0;
    p[panels] = ck_float(k, -20, 20);
    p[panels + 1] = ck_float(k, 1, 100);
    return p;
}

static void check_fold(ck *k)
{
    for (uint32_t v_dim = 1; v_dim < 300; v_dim += k->fast ? 23 : 3) {
        const uint32_t empty = ck_below(k, 6); /* one of the two, or neither */
        ck_case(k, "%u channels, %s", v_dim, empty == 0 ? "nothing before"
                                             : empty == 1 ? "nothing new" : "both");
        float *into = random_row(k, v_dim, empty == 0), *next = random_row(k, v_dim, empty == 1);
        const size_t panels = sl__attend_row(v_dim) - 16;
        float *ref = ck_copy(k, into, panels + 16), *got = ck_copy(k, into, panels + 16);
        double *want = ck_doubles(k, v_dim);
        const double most = fmax((double)into[panels], (double)next[panels]);
        double a = exp((double)into[panels] - most), b = exp((double)next[panels] - most);
        if (empty < 2) {
            a = empty == 1;
            b = empty == 0;
        }
        for (uint32_t i = 0; i < v_dim; i++)
            want[i] = (a > 0 ? a * (double)into[i] : 0) + (b > 0 ? b * (double)next[i] : 0);
        k->ref->attend_fold(ref, next, v_dim);
        k->kern->attend_fold(got, next, v_dim);
        if (k->is_ref) ck_near_exact(k, "the sum", got, want, v_dim, 1e-6);
        else ck_near(k, "the sum", got, ref, v_dim, 1e-6);
        ck_near(k, "the sum of weights", got + panels + 1, ref + panels + 1, 1, 1e-6);
        ck_same(k, "the largest", got + panels, ref + panels, 1);
    }
}

static void check_end(ck *k)
{
    static const float ends[] = {1e4f, -1e4f, -INFINITY};
    for (uint32_t v_dim = 1; v_dim < 300; v_dim += k->fast ? 23 : 3) {
        const float near_sink = ck_float(k, -20, 20);
        const unsigned kind = ck_below(k, 5); /* no sink, one that counts, ends */
        const float *sink = kind == 0 ? NULL : kind == 1 ? &near_sink : &ends[kind - 2];
        ck_case(k, "%u channels, sink %g", v_dim, sink ? (double)*sink : (double)NAN);
        const float *row = random_row(k, v_dim, false);
        const size_t panels = sl__attend_row(v_dim) - 16;
        float *got = ck_floats(k, v_dim), *ref = ck_floats(k, v_dim), *plain = ck_floats(k, v_dim);
        double *want = ck_doubles(k, v_dim), score = (double)row[panels];
        const double most = sink ? fmax(score, (double)*sink) : score;
        const double sum = (double)row[panels + 1] * exp(score - most) +
                           (sink ? exp((double)*sink - most) : 0);
        for (uint32_t i = 0; i < v_dim; i++)
            want[i] = (double)row[i] * exp(score - most) / sum;
        k->ref->attend_end(row, sink, ref, v_dim);
        k->kern->attend_end(row, sink, got, v_dim);
        k->kern->attend_end(row, NULL, plain, v_dim);
        if (k->is_ref) ck_near_exact(k, "the mean", got, want, v_dim, 1e-6);
        else ck_near(k, "the mean", got, ref, v_dim, 1e-6);
        if (kind >= 3) ck_same(k, "a low sink", got, plain, v_dim);
        for (uint32_t i = 0; kind == 2 && i < v_dim; i++)
            if (got[i] != 0) ck_fail(k, "a high sink leaves something");
    }
}

/* ---- bench ----------------------------------------------------------------------------------- */

typedef struct bench_case {
    sl__attend a;
    float *partial, *tmp;
} bench_case;

static void run_attend(const sl__kern *kern, void *ctx)
{
    bench_case *b = ctx;
    kern->attend(&b->a, 0, last_span(&b->a), b->partial, b->tmp);
}

/* Four heads that share a KV head: one token, whose bytes count, and sixteen. */
static void bench_attend(void)
{
    enum { COUNT = 1024, DIM = 128, HEADS = 4, TOKENS = 16 };
    static const char *const names[] = {"f32", "f16", "q8"};
    for (unsigned i = 0; i < 3; i++) {
        const size_t k_bytes = COUNT / SL_KV_BLOCK * (size_t)sl__kv_key_bytes(types[i], DIM);
        const size_t v_bytes = COUNT / SL_KV_BLOCK * (size_t)sl__kv_value_bytes(types[i], DIM);
        unsigned char *keys = ck_bench_memory(k_bytes), *values = ck_bench_memory(v_bytes);
        const float *row = ck_bench_floats(COUNT + DIM);
        for (uint32_t t = 0; t < COUNT; t++) {
            sl__kv_store_key(types[i], keys + t / 32 * (k_bytes / (COUNT / 32)), t % 32, row + t,
                             DIM);
            sl__kv_store_value(types[i], values + t / 32 * (v_bytes / (COUNT / 32)), t % 32,
                               row + t, DIM);
        }
        bench_case b = {.a = {.type = types[i], .k = keys, .v = values, .qk_dim = DIM,
                              .v_dim = DIM, .q = ck_bench_floats(TOKENS * HEADS * DIM),
                              .q_token = HEADS * DIM, .q_head = DIM, .tokens = 1, .heads = HEADS,
                              .position = COUNT - 1, .scale = 0.1f},
                        .partial = ck_bench_floats(TOKENS * HEADS * sl__attend_row(DIM)),
                        .tmp = ck_bench_floats(sl__attend_tmp(TOKENS * HEADS, DIM, DIM))};
        char what[48];
        snprintf(what, sizeof what, "%s, 1024 positions, 1 token", names[i]);
        ck_time("attend", what, CK_L2, (double)(k_bytes + v_bytes), run_attend, &b);
        b.a.tokens = TOKENS;
        b.a.position = COUNT - TOKENS;
        snprintf(what, sizeof what, "%s, 1024 positions, 16 tokens", names[i]);
        ck_time("attend", what, CK_FLOAT, (double)(2 * COUNT * DIM * HEADS * TOKENS), run_attend,
                &b);
    }
}

const ck_kernel ck_attention[] = {
    CK_KERNEL(attend, check_attend, bench_attend),
    CK_KERNEL(attend_fold, check_fold, NULL),
    CK_KERNEL(attend_end, check_end, NULL),
    {NULL, 0, NULL, NULL},
};
