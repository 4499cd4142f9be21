/* What goes through time: causal_conv_silu, and Gated DeltaNet's delta_gate, delta_step and
 * delta_chunk. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "checkkern.h"

/* ---- causal_conv_silu ------------------------------------------------------------------------ */

typedef struct conv {
    uint32_t tokens, channels, width;
    size_t count, past; /* numbers of a result, of a state */
    float *in, *state, *w;
} conv;

/* Tokens [t, t + count), channels [c0, c1). */
static void convolve(const sl__kern *kern, const conv *c, uint32_t t, uint32_t count, uint32_t c0,
                     uint32_t c1, float *state, float *y)
{
    kern->causal_conv_silu(y + (size_t)t * c->channels, c->in + (size_t)t * c->channels, state,
                           c->w, count, c->channels, c->width, c0, c1);
}

/* In double; then the state as it should be afterwards. */
static void exact_conv(ck *k, const conv *c, double *y, float *after)
{
    const size_t n = c->channels;
    float *all = ck_floats(k, c->past + c->count);
    memcpy(all, c->state, c->past * sizeof(float));
    memcpy(all + c->past, c->in, c->count * sizeof(float));
    for (size_t i = 0; i < c->count; i++) {
        double sum = 0;
        for (uint32_t j = 0; j < c->width; j++)
            sum += (double)c->w[i % n * c->width + j] * (double)all[(i / n + j) * n + i % n];
        y[i] = ck_silu(sum);
    }
    memcpy(after, all + c->count, c->past * sizeof(float));
}

/* Ranges of channels on their own, then tokens on their own; nothing else is touched. */
static void check_conv_parts(ck *k, const conv *c, const float *whole, const float *after)
{
    float *part = ck_floats(k, c->count), *state = ck_copy(k, c->state, c->past);
    uint32_t c0 = ck_below(k, c->channels), c1 = c0 + ck_below(k, c->channels - c0 + 1);
    convolve(k->kern, c, 0, c->tokens, c0, c1, state, part);
    for (size_t i = 0; i < c->count; i++) {
        const bool in_range = i % c->channels >= c0 && i % c->channels < c1;
        if (!in_range && !ck_is_poison(part[i])) ck_fail(k, "beyond the range of channels");
    }
    convolve(k->kern, c, 0, c->tokens, 0, c0, state, part);
    convolve(k->kern, c, 0, c->tokens, c1, c->channels, state, part);
    ck_same(k, "channels apart", part, whole, c->count);
    ck_same(k, "state of channels apart", state, after, c->past);

    float *single = ck_floats(k, c->count), *moved = ck_copy(k, c->state, c->past);
    for (uint32_t t = 0; t < c->tokens;) {
        uint32_t count = 1 + ck_below(k, 2);
        if (count > c->tokens - t) count = c->tokens - t;
        convolve(k->kern, c, t, count, 0, c->channels, moved, single);
        t += count;
    }
    ck_same(k, "tokens apart", single, whole, c->count);
    ck_same(k, "state of tokens apart", moved, after, c->past);
}

static void check_conv_case(ck *k, uint32_t tokens, uint32_t channels, uint32_t width)
{
    ck_case(k, "%u tokens of %u channels, width %u", tokens, channels, width);
    conv c = {.tokens = tokens, .channels = channels, .width = width};
    c.count = (size_t)tokens * channels;
    c.past = (size_t)(width - 1) * channels;
    c.in = ck_random(k, c.count, -1, 1);
    c.state = ck_random(k, c.past, -1, 1);
    c.w = ck_random(k, (size_t)width * channels, -1, 1);
    float *got = ck_floats(k, c.count), *state = ck_copy(k, c.state, c.past);
    float *ref = ck_floats(k, c.count), *after = ck_copy(k, c.state, c.past);
    ck_seal(k);
    convolve(k->kern, &c, 0, tokens, 0, channels, state, got);
    if (k->is_ref) {
        double *exact = ck_doubles(k, c.count);
        exact_conv(k, &c, exact, after);
        ck_near_exact(k, "the result", got, exact, c.count, 1e-6);
    } else {
        convolve(k->ref, &c, 0, tokens, 0, channels, after, ref);
        ck_near(k, "the result", got, ref, c.count, 1e-6);
    }
    ck_same(k, "the state", state, after, c.past);
    check_conv_parts(k, &c, got, after);
}

static void check_conv(ck *k)
{
    static const uint32_t some_tokens[] = {1, 2, 3, 4, 5, 17, 64, 70};
    static const uint32_t some_channels[] = {1, 3, 16, 63, 64, 65, 256, 300};
    for (unsigned i = 0; i < 8; i++) {
        for (unsigned j = 0; j < 8; j++) {
            if (!k->fast || (i + j) % 3 == 0)
                check_conv_case(k, some_tokens[i], some_channels[j], 1 + (i + j) % 9);
        }
    }
}

/* ---- the decay ------------------------------------------------------------------------------- */

/* A sum that cancels nowhere, from one end of the range to the other: each number is right. */
static void check_gate(ck *k)
{
    for (uint32_t n = 1; n < 200; n += k->fast ? 17 : 1) {
        ck_case(k, "%u heads", n);
        float *a_log = ck_random(k, n, -4, 4), *bias = ck_random(k, n, -1, 1);
        float *got = ck_floats(k, n);
        for (uint32_t i = 0; i < n; i++)
            got[i] = ck_float(k, -1, 1) * (i % 3 == 0 ? 60 : 8);
        float *ref = ck_copy(k, got, n), *in = ck_copy(k, got, n);
        ck_seal(k);
        k->ref->delta_gate(ref, a_log, bias, n);
        k->kern->delta_gate(got, a_log, bias, n);
        ck_near(k, "the decays", got, ref, n, 1e-6);
        for (uint32_t i = 0; i < n; i++) {
            const double x = (double)(in[i] + bias[i]);
            const double want = -exp((double)a_log[i]) * (fmax(x, 0) + log1p(exp(-fabs(x))));
            ck_near_exact(k, "a decay", &got[i], &want, 1, 1e-6);
        }
    }
}

/* ---- chunks ---------------------------------------------------------------------------------- */

#define BOUND 1e-5

/* A chunk of value heads that share a key head. The numbers between rows are poison. */
typedef struct scene {
    sl__delta_chunk c; /* its state is the one before; out is nowhere */
    float *v, *g, *beta;
    size_t state_size, out_size;
} scene;

static scene make_scene(ck *k, uint32_t tokens, uint32_t heads, uint32_t dk, uint32_t dv,
                        float strongest)
{
    const size_t width = (size_t)heads * dv, last = tokens - 1;
    sl__delta_chunk c = {.tokens = tokens, .heads = heads, .dk = dk, .dv = dv};
    c.qk_stride = dk + ck_below(k, 7);
    c.v_stride = width + ck_below(k, 7);
    c.gate_stride = heads + ck_below(k, 3);
    c.out_stride = width + ck_below(k, 7);
    float *q = ck_input(k, (last * c.qk_stride + dk) * sizeof(float), sizeof(float));
    float *key = ck_input(k, (last * c.qk_stride + dk) * sizeof(float), sizeof(float));
    scene s = {.state_size = width * dk, .out_size = last * c.out_stride + width};
    s.v = ck_input(k, (last * c.v_stride + width) * sizeof(float), sizeof(float));
    s.g = ck_input(k, (last * c.gate_stride + heads) * sizeof(float), sizeof(float));
    s.beta = ck_input(k, (last * c.gate_stride + heads) * sizeof(float), sizeof(float));
    c.state = ck_random(k, s.state_size, -1, 1);
    for (uint32_t t = 0; t < tokens; t++) {
        for (uint32_t i = 0; i < dk; i++) {
            q[t * c.qk_stride + i] = ck_float(k, -1, 1);
            key[t * c.qk_stride + i] = ck_float(k, -1, 1);
        }
        for (size_t i = 0; i < width; i++)
            s.v[t * c.v_stride + i] = ck_float(k, -1, 1);
        k->ref->l2_norm(q + t * c.qk_stride, dk, 1e-6f, 1 / sqrtf((float)dk));
        k->ref->l2_norm(key + t * c.qk_stride, dk, 1e-6f, 1);
        for (uint32_t h = 0; h < heads; h++) {
            const float x = ck_float(k, 0, 1);
            const uint32_t kind = ck_below(k, 8); /* the ends of beta too */
            s.g[t * c.gate_stride + h] = -strongest * x * x;
            s.beta[t * c.gate_stride + h] = kind < 2 ? (float)kind : ck_float(k, 0, 1);
        }
    }
    c.q = q;
    c.k = key;
    c.v = s.v;
    c.g = s.g;
    c.beta = s.beta;
    s.c = c;
    return s;
}

/* Token by token in double. What lies between the rows of out is NaN. */
static void exact_delta(const scene *x, double *out, double *state)
{
    const sl__delta_chunk *c = &x->c;
    const uint32_t dk = c->dk, dv = c->dv;
    for (size_t i = 0; i < x->out_size; i++)
        out[i] = (double)NAN;
    for (size_t i = 0; i < x->state_size; i++)
        state[i] = (double)c->state[i];
    for (uint32_t i = 0; i < c->heads * c->tokens; i++) {
        const uint32_t h = i / c->tokens, t = i % c->tokens;
        const float *k = c->k + t * c->qk_stride, *q = c->q + t * c->qk_stride;
        const double decay = exp((double)c->g[t * c->gate_stride + h]);
        double *s = state + (size_t)h * dk * dv;
        for (uint32_t j = 0; j < dv; j++) {
            double r = 0, o = 0;
            for (uint32_t n = 0; n < dk; n++)
                r += (s[n * dv + j] *= decay) * (double)k[n];
            const double d = (double)c->beta[t * c->gate_stride + h] *
                             ((double)c->v[t * c->v_stride + h * dv + j] - r);
            for (uint32_t n = 0; n < dk; n++)
                o += (s[n * dv + j] += (double)k[n] * d) * (double)q[n];
            out[t * c->out_stride + h * dv + j] = o;
        }
    }
}

/* The scene with a state and outputs of its own. */
static sl__delta_chunk fresh(ck *k, const scene *x)
{
    sl__delta_chunk c = x->c;
    c.state = ck_copy(k, x->c.state, x->state_size);
    c.out = ck_floats(k, x->out_size);
    return c;
}

/* Token t of head h, columns [c0, c1), on the chunk's state. */
static void step(const sl__kern *kern, const sl__delta_chunk *c, uint32_t h, uint32_t t,
                 uint32_t c0, uint32_t c1)
{
    kern->delta_step(c->state + (size_t)h * c->dk * c->dv, c->q + t * c->qk_stride,
                     c->k + t * c->qk_stride, c->v + t * c->v_stride + h * c->dv,
                     c->g[t * c->gate_stride + h], c->beta[t * c->gate_stride + h], c->dk, c->dv,
                     c0, c1, c->out + t * c->out_stride + h * c->dv);
}

static void run_steps(const sl__kern *kern, const sl__delta_chunk *c)
{
    for (uint32_t i = 0; i < c->heads * c->tokens; i++)
        step(kern, c, i / c->tokens, i % c->tokens, 0, c->dv);
}

static void run_chunk(ck *k, const sl__kern *kern, const sl__delta_chunk *c)
{
    kern->delta_chunk(c, ck_floats(k, sl__kern_delta_tmp(c->dk, c->dv)));
}

/* The size of what is wanted, or of what is summed where that cancels: values are up to 1, and a
 * twentieth of that is left of them in most sums. */
static double size_of(const double *want, size_t n)
{
    double size = 0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(want[i])) continue;
        size += want[i] * want[i];
        count++;
    }
    return sqrt(fmax(size, 0.0025 * (double)count));
}

static void check_close(ck *k, const char *what, const float *got, const double *want, size_t n)
{
    ck_within(k, what, got, want, n, BOUND, size_of(want, n));
}

/* ‖got − other‖ by the same measure. */
static void check_alike(ck *k, const char *what, const float *got, const float *other, size_t n)
{
    double *want = ck_doubles(k, n);
    for (size_t i = 0; i < n; i++)
        want[i] = ck_is_poison(other[i]) ? (double)NAN : (double)other[i];
    check_close(k, what, got, want, n);
}

static void check_numbers(ck *k, const scene *x, const sl__delta_chunk *got)
{
    double *want = ck_doubles(k, x->out_size), *state = ck_doubles(k, x->state_size);
    exact_delta(x, want, state);
    check_close(k, "the outputs", got->out, want, x->out_size);
    check_close(k, "the state", got->state, state, x->state_size);
}

/* ---- delta_step ------------------------------------------------------------------------------ */

/* Columns in ranges, in any order, are the columns of all: to the bit. */
static void check_columns(ck *k, const scene *x, const sl__delta_chunk *whole)
{
    const sl__delta_chunk c = fresh(k, x);
    const uint32_t a = ck_below(k, c.dv + 1), b = a + ck_below(k, c.dv - a + 1);
    for (uint32_t i = 0; i < c.heads * c.tokens; i++) {
        const uint32_t h = i / c.tokens, t = i % c.tokens;
        step(k->kern, &c, h, t, a, b);
        step(k->kern, &c, h, t, b, c.dv);
        step(k->kern, &c, h, t, 0, a);
    }
    ck_same(k, "columns in ranges", c.out, whole->out, x->out_size);
    ck_same(k, "state in ranges", c.state, whole->state, x->state_size);
}

static void check_steps(ck *k, const scene *x)
{
    const sl__delta_chunk got = fresh(k, x), ref = fresh(k, x);
    ck_seal(k);
    run_steps(k->kern, &got);
    run_steps(k->ref, &ref);
    check_numbers(k, x, &got);
    check_alike(k, "the outputs against ref", got.out, ref.out, x->out_size);
    check_alike(k, "the state against ref", got.state, ref.state, x->state_size);
    check_columns(k, x, &got);
}

/* ---- delta_chunk ----------------------------------------------------------------------------- */

/* What a head gets does not depend on the others of the call, nor what a token gets on later ones:
 * to the bit. */
static void check_portions(ck *k, const scene *x, const sl__delta_chunk *whole)
{
    const uint32_t h = ck_below(k, x->c.heads), fewer = 1 + ck_below(k, x->c.tokens);
    const size_t size = (size_t)x->c.dk * x->c.dv;
    sl__delta_chunk alone = fresh(k, x), less = fresh(k, x);
    alone.heads = 1;
    alone.state += h * size;
    alone.v += h * alone.dv;
    alone.g += h;
    alone.beta += h;
    alone.out += h * alone.dv;
    run_chunk(k, k->kern, &alone);
    for (uint32_t t = 0; t < alone.tokens; t++)
        ck_same(k, "a head alone", alone.out + t * alone.out_stride,
                whole->out + t * alone.out_stride + h * alone.dv, alone.dv);
    ck_same(k, "a head's state alone", alone.state, whole->state + h * size, size);
    less.tokens = fewer;
    run_chunk(k, k->kern, &less);
    ck_same(k, "a shorter chunk", less.out, whole->out,
            (fewer - 1) * less.out_stride + (size_t)less.heads * less.dv);
}

static void check_chunk(ck *k, const scene *x)
{
    const sl__delta_chunk got = fresh(k, x), ref = fresh(k, x), stepped = fresh(k, x);
    ck_seal(k);
    run_chunk(k, k->kern, &got);
    run_chunk(k, k->ref, &ref);
    run_steps(k->kern, &stepped);
    check_numbers(k, x, &got);
    check_alike(k, "the outputs against ref", got.out, ref.out, x->out_size);
    check_alike(k, "the state against ref", got.state, ref.state, x->state_size);
    check_alike(k, "the outputs against steps", got.out, stepped.out, x->out_size);
    check_alike(k, "the state against steps", got.state, stepped.state, x->state_size);
    check_portions(k, x, &got);
}

/* A NaN of one token and head stays with those that it reaches. */
static void check_nan(ck *k)
{
    ck_case(k, "NaN in a token of one head");
    const scene x = make_scene(k, 21, 2, 24, 33, 0.2f);
    const sl__delta_chunk good = fresh(k, &x);
    sl__delta_chunk bad = fresh(k, &x);
    float *v = ck_copy(k, x.v, 20 * x.c.v_stride + 66);
    v[11 * x.c.v_stride + 33 + 5] = NAN; /* of the second head */
    bad.v = v;
    ck_seal(k);
    run_chunk(k, k->kern, &good);
    run_chunk(k, k->kern, &bad);
    for (uint32_t t = 0; t < 21; t++)
        ck_same(k, t < 11 ? "the tokens before" : "the other head", bad.out + t * bad.out_stride,
                good.out + t * bad.out_stride, t < 11 ? 66 : 33);
    const float reached = bad.out[11 * bad.out_stride + 33 + 5];
    if (!isnan(reached) || ck_is_poison(reached)) ck_fail(k, "NaN is lost");
}

/* ---- cases of both --------------------------------------------------------------------------- */

typedef void (*check_fn)(ck *k, const scene *x);

static void check_random(ck *k, check_fn check, uint32_t tokens, uint32_t dk, uint32_t dv,
                         float strongest)
{
    const uint32_t heads = 1 + ck_below(k, 3);
    ck_case(k, "%u tokens of %u heads of %u and %u, decays to %g", tokens, heads, dk, dv,
            (double)strongest);
    const scene x = make_scene(k, tokens, heads, dk, dv, strongest);
    check(k, &x);
}

/* Nothing written, and everything overwritten; decays so strong that nothing of before is left. */
static void check_ends(ck *k, check_fn check)
{
    for (unsigned end = 0; end < 3; end++) {
        ck_case(k, "ends, %u", end);
        const scene x = make_scene(k, 64, 2, 40, 48, end == 2 ? 0.01f : 0.2f);
        for (uint32_t i = 0; i < 128; i++) {
            const size_t at = i / 2 * x.c.gate_stride + i % 2;
            if (end < 2) x.beta[at] = (float)end;
            else if (i % 18 < 2) x.g[at] = i % 4 < 2 ? -80 : -1e30f;
        }
        check(k, &x);
    }
}

/* Two heads of two channels over two tokens, worked out by hand elsewhere. */
static void check_known(ck *k, bool steps)
{
    static const float q[4] = {1, 2, 0.5f, -1}, keys[4] = {3, 4, -1, 1};
    static const float v[2][4] = {{1, 2, 0.5f, 0.25f}, {3, -1, -2, 1}};
    static const float g[2][2] = {{-1.03748795f, -0.7981388694f}, {-1.108710489f, -1.28879332f}};
    static const float beta[2][2] = {{0.5f, 0.2689414214f}, {0.7310585786f, 0.880797078f}};
    static const double out[2][4] = {{0.3478505009, 0.6957010018, -0.1556403335, -0.1759722124},
                                     {1.525794556, -0.5085981855, 1.041077266, -0.5439778413}};
    static const double after[2][4] = {{0.04601808156, 0.2346638546, 0.269098114, 0.3955685366},
                                       {1.661541947, -0.7614531261, -0.8153173746, 0.4793782685}};
    for (unsigned h = 0; h < 2; h++) {
        ck_case(k, "worked out by hand, head %u", h);
        float *qn = ck_copy(k, q, 4), *kn = ck_copy(k, keys, 4), *state = ck_floats(k, 4);
        for (unsigned t = 0; t < 2; t++) {
            k->ref->l2_norm(qn + 2 * (size_t)t, 2, 1e-6f, 1 / sqrtf(2));
            k->ref->l2_norm(kn + 2 * (size_t)t, 2, 1e-6f, 1);
        }
        memset(state, 0, 4 * sizeof *state);
        const sl__delta_chunk c = {.state = state, .q = qn, .k = kn, .qk_stride = 2, .v = v[h],
                                   .v_stride = 2, .g = g[h], .beta = beta[h], .gate_stride = 1,
                                   .out = ck_floats(k, 4), .out_stride = 2, .tokens = 2,
                                   .heads = 1, .dk = 2, .dv = 2};
        if (steps) run_steps(k->kern, &c);
        else run_chunk(k, k->kern, &c);
        ck_near_exact(k, "the outputs", c.out, out[h], 4, 1e-6);
        ck_near_exact(k, "the state", state, after[h], 4, 1e-6);
    }
}

static const uint32_t dims[][2] = {{2, 2},  {16, 16}, {20, 33}, {128, 128},
                                   {64, 7}, {5, 80},  {1, 1},   {72, 160}};

static void check_shapes(ck *k, check_fn check)
{
    for (uint32_t tokens = 1; tokens <= SL_DELTA_CHUNK; tokens += k->fast ? 9 : 1) {
        check_random(k, check, tokens, dims[tokens % 8][0], dims[tokens % 8][1], 0.3f);
        check_random(k, check, tokens, 1 + ck_below(k, 70), 1 + ck_below(k, 70), 0.1f);
    }
    for (unsigned i = 0; i < (k->fast ? 3 : 8); i++) {
        check_random(k, check, 64, dims[i][0], dims[i][1], 2);
        check_random(k, check, 33, dims[i][0], dims[i][1], 0.01f);
    }
    check_random(k, check, 64, 128, 128, 80);
    check_random(k, check, 63, 128, 128, 5);
    check_random(k, check, 64, 16, 20, 0); /* no decay at all */
    check_ends(k, check);
}

static void check_delta_step(ck *k)
{
    check_shapes(k, check_steps);
    check_known(k, true);
}

static void check_delta_chunk(ck *k)
{
    check_shapes(k, check_chunk);
    check_nan(k);
    check_known(k, false);
}

/* ---- bench ----------------------------------------------------------------------------------- */

typedef struct bench_case {
    sl__delta_chunk c;
    float *tmp;
} bench_case;

static void bench_step_run(const sl__kern *kern, void *ctx)
{
    const bench_case *b = ctx;
    run_steps(kern, &b->c);
}

static void bench_chunk_run(const sl__kern *kern, void *ctx)
{
    const bench_case *b = ctx;
    kern->delta_chunk(&b->c, b->tmp);
}

static bench_case make_bench(uint32_t tokens)
{
    enum { DIM = 128 };
    const size_t n = (size_t)tokens * DIM;
    float *q = ck_bench_floats(n), *keys = ck_bench_floats(n), *g = ck_bench_floats(tokens);
    float *beta = ck_bench_floats(tokens);
    for (uint32_t i = 0; i < tokens; i++) {
        ck_levels[0].l2_norm(q + (size_t)i * DIM, DIM, 1e-6f, 0.1f);
        ck_levels[0].l2_norm(keys + (size_t)i * DIM, DIM, 1e-6f, 1);
        g[i] = -0.02f * fabsf(g[i]);
        beta[i] = fabsf(beta[i]);
    }
    return (bench_case){.c = {.state = ck_bench_floats(DIM * DIM), .q = q, .k = keys,
                              .qk_stride = DIM, .v = ck_bench_floats(n), .v_stride = DIM, .g = g,
                              .beta = beta, .gate_stride = 1, .out = ck_bench_floats(n),
                              .out_stride = DIM, .tokens = tokens, .heads = 1, .dk = DIM,
                              .dv = DIM},
                        .tmp = ck_bench_floats(sl__kern_delta_tmp(DIM, DIM))};
}

static void bench_step(void)
{
    bench_case b = make_bench(1);
    ck_time("delta_step", "128 by 128", CK_L2, (double)b.c.dk * b.c.dv * sizeof(float),
            bench_step_run, &b);
}

/* Counted as the products that the chunked form is made of: K·S, Q·S and Kᵀ·D of the state, and
 * half of K·Kᵀ, Q·Kᵀ and of what is done with each. */
static void bench_chunk(void)
{
    bench_case b = make_bench(SL_DELTA_CHUNK);
    const double t = SL_DELTA_CHUNK, d = b.c.dk;
    ck_time("delta_chunk", "64 tokens of 128 by 128", CK_FLOAT, 3 * t * d * d + 4 * t * t * d / 2,
            bench_chunk_run, &b);
}

const ck_kernel ck_delta[] = {
    CK_KERNEL(causal_conv_silu, check_conv, NULL),
    CK_KERNEL(delta_gate, check_gate, NULL),
    CK_KERNEL(delta_step, check_delta_step, bench_step),
    CK_KERNEL(delta_chunk, check_delta_chunk, bench_chunk),
    {NULL, 0, NULL, NULL},
};
