/* The kernel checker for attention over cached blocks: stored numbers against what was put in, then
 * every level against the same sums in double over what is stored, and against itself: a query
 * alone, beside others, and span by span must have the same bits. What is not stored is NaN. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/dtype.h"
#include "kern/kern.h"
#include "kern_check.h"

static const sl_kv_type types[] = {SL_KV_F32, SL_KV_F16, SL_KV_Q8};

/* ---- what is stored -------------------------------------------------------------------------- */

static void test_halves(void **state)
{
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float x = sl__f16_to_f32((uint16_t)h);
        if (isnan(x)) {
            assert_true(isnan(sl__f16_to_f32(sl__kv_half(x))));
            continue;
        }
        assert_int_equal(sl__kv_half(x), isinf(x) ? h - 1 : h);
        if ((h & 0x7fff) >= 0x7bff) continue;
        /* Halfway to the next, which is exact in float: to the even one. */
        float next = sl__f16_to_f32((uint16_t)(h + 1)), middle = x + (next - x) / 2;
        assert_int_equal(sl__kv_half(middle), h % 2 == 0 ? h : h + 1);
        assert_int_equal(sl__kv_half(nextafterf(middle, x)), h);
        assert_int_equal(sl__kv_half(nextafterf(middle, next)), h + 1);
    }
    assert_int_equal(sl__kv_half(1e30f), 0x7bff);
    assert_int_equal(sl__kv_half(-65519.0f), 0xfbff);
}

/* Number i of slot `slot` as the format says, written a second time. */
static float stored(sl_kv_type type, const unsigned char *block, uint32_t slot, uint32_t i,
                    bool value)
{
    size_t in_panels = value ? ((size_t)i / 32 * 32 + slot) * 32 + i % 32 : (size_t)i * 32 + slot;
    uint16_t half;
    float x;
    switch (type) {
    case SL_KV_F16:
        memcpy(&half, block + in_panels * 2, 2);
        return sl__f16_to_f32(half);
    case SL_KV_Q8:
        memcpy(&x, block + (size_t)(i / 64) * (64 * 32 + 128) + slot * 4, 4);
        return x * (float)(int8_t)block[in_panels + ((size_t)i / 64 + 1) * 128];
    default:
        memcpy(&x, block + in_panels * 4, 4);
        return x;
    }
}

static double error_allowed(sl_kv_type type, const float *x, uint32_t n, uint32_t i)
{
    double most = 0;
    for (uint32_t j = i / 64 * 64; j < n && j < i / 64 * 64 + 64; j++)
        most = fmax(most, fabs((double)x[j]));
    if (type == SL_KV_F32) return 0;
    if (type == SL_KV_F16) return fabs((double)x[i]) * 0x1p-11 + 0x1p-25;
    return most / 254 * 1.0001 + 1e-30;
}

/* Slots in any order; those that are not stored to keep their bytes. */
static void test_store(void **state)
{
    (void)state;
    check_seed(31);
    static const uint32_t dims[] = {1, 5, 31, 32, 33, 64, 65, 100, 128, 576};
    for (unsigned i = 0; i < 60; i++) {
        sl_kv_type type = types[i % 3];
        uint32_t dim = dims[i % 10];
        bool value = i / 3 % 2 == 1;
        size_t bytes = (size_t)(value ? sl__kv_value_bytes(type, dim)
                                      : sl__kv_key_bytes(type, dim));
        unsigned char *block = guarded(bytes, 0), *before = guarded(bytes, 0);
        memset(block, 0x5a, bytes);
        float *x = random_floats(32 * (size_t)dim);
        x[0] = 0;
        for (uint32_t j = 0; j < 32; j += 1 + i % 3) {
            uint32_t slot = (j * 7 + i) % 32;
            float *row = x + (size_t)slot * dim, scale = j % 4 == 1 ? 1e-5f : 8;
            for (uint32_t c = 0; c < dim; c++)
                row[c] *= scale;
            memcpy(before, block, bytes);
            if (value) sl__kv_store_value(type, block, slot, row, dim);
            else sl__kv_store_key(type, block, slot, row, dim);
            for (uint32_t c = 0; c < dim; c++) {
                double off = (double)stored(type, block, slot, c, value) - (double)row[c];
                assert_true(fabs(off) <= error_allowed(type, row, dim, c));
                uint32_t other = (slot + 1 + c % 31) % 32;
                float a = stored(type, block, other, c, value);
                float b = stored(type, before, other, c, value);
                assert_memory_equal(&a, &b, sizeof a);
            }
            for (uint32_t c = dim; value && c % 32 > 0; c++)
                assert_true(stored(type, block, slot, c, true) == 0);
        }
        check_buffers();
    }
}

/* A group of zeros, of numbers too small for a scale, and what is not finite. */
static void test_store_ends(void **state)
{
    (void)state;
    unsigned char *block = guarded((size_t)sl__kv_key_bytes(SL_KV_Q8, 2), 0);
    static const float small[][2] = {{0, -0.0f}, {1e-38f, -1e-40f}, {3, -3}};
    static const float wrong[][2] = {{NAN, 1}, {1, INFINITY}, {-INFINITY, 0}};
    for (unsigned i = 0; i < 3; i++) {
        sl__kv_store_key(SL_KV_Q8, block, 5, small[i], 2);
        assert_true(fabsf(stored(SL_KV_Q8, block, 5, 0, false) - small[i][0]) <= 1e-30f);
        assert_true(fabsf(stored(SL_KV_Q8, block, 5, 1, false) - small[i][1]) <= 1e-30f);
        sl__kv_store_key(SL_KV_Q8, block, 5, wrong[i], 2);
        assert_true(isnan(stored(SL_KV_Q8, block, 5, 0, false)));
    }
    check_buffers();
}

/* ---- attention ------------------------------------------------------------------------------- */

/* One KV head's cache, as stored and as numbers, and what is asked of it. */
struct scene {
    sl__attend a;
    uint32_t count;      /* positions a.base … a.base + count − 1 are stored */
    double *k, *v;       /* [count][dim] */
    double *p;           /* [count] */
    bool latent;
};

static float *q_of(const struct scene *s)
{
    return (float *)(uintptr_t)s->a.q;
}

static void make_cache(struct scene *s)
{
    sl__attend *a = &s->a;
    size_t blocks = (s->count + 31) / 32, k_bytes = (size_t)sl__kv_key_bytes(a->type, a->qk_dim);
    size_t v_bytes = (size_t)sl__kv_value_bytes(a->type, a->v_dim);
    unsigned char *k = guarded(blocks * k_bytes, 0), *v = guarded(blocks * v_bytes, 0);
    memset(k, 0xff, blocks * k_bytes); /* NaN as floats and as halves */
    memset(v, 0xff, blocks * v_bytes);
    s->k = guarded(s->count * a->qk_dim * sizeof(double), 0);
    s->v = guarded(s->count * a->v_dim * sizeof(double), 0);
    s->p = guarded(s->count * sizeof(double), 0);
    float *row = floats(a->qk_dim > a->v_dim ? a->qk_dim : a->v_dim);
    for (uint32_t t = 0; t < s->count; t++) {
        for (uint32_t i = 0; i < a->qk_dim; i++)
            row[i] = random_float(-1, 1);
        sl__kv_store_key(a->type, k + t / 32 * k_bytes, t % 32, row, a->qk_dim);
        for (uint32_t i = 0; i < a->qk_dim; i++)
            s->k[(size_t)t * a->qk_dim + i] =
                (double)stored(a->type, k + t / 32 * k_bytes, t % 32, i, false);
        for (uint32_t i = 0; i < a->v_dim && !s->latent; i++)
            row[i] = random_float(-1, 1);
        sl__kv_store_value(a->type, v + t / 32 * v_bytes, t % 32, row, a->v_dim);
        for (uint32_t i = 0; i < a->v_dim; i++)
            s->v[(size_t)t * a->v_dim + i] =
                s->latent ? s->k[(size_t)t * a->qk_dim + i]
                          : (double)stored(a->type, v + t / 32 * v_bytes, t % 32, i, true);
    }
    a->k = k;
    a->v = s->latent ? NULL : v;
}

/* tokens · heads queries at the end of `count` positions from `base` on. */
static struct scene make_scene(sl_kv_type type, uint32_t base, uint32_t count, uint32_t tokens,
                               uint32_t heads, uint32_t window, uint32_t qk_dim, uint32_t v_dim,
                               float scale)
{
    struct scene s = {.count = count, .latent = v_dim < qk_dim && count % 2 == 0};
    s.a = (sl__attend){.type = type, .base = base, .qk_dim = qk_dim, .v_dim = v_dim,
                       .q_head = qk_dim + random_u32() % 5, .tokens = tokens, .heads = heads,
                       .position = base + count - tokens, .window = window, .scale = scale};
    s.a.q_token = heads * s.a.q_head + random_u32() % 5;
    s.a.q = random_floats(tokens * s.a.q_token);
    make_cache(&s);
    return s;
}

static uint32_t first_seen(const sl__attend *a, uint32_t t)
{
    uint32_t end = a->position + t + 1;
    return a->window > 0 && end > a->window ? end - a->window : 0;
}

/* Of query t, h: the exact result, and the size of what is summed, which may cancel; *terms: of what
 * a score is summed from, at most. */
static double exact(const struct scene *s, uint32_t t, uint32_t h, const float *sink, double *want,
                    double *terms)
{
    const sl__attend *a = &s->a;
    const float *q = a->q + t * a->q_token + h * a->q_head;
    uint32_t first = first_seen(a, t) - a->base, last = a->position + t - a->base;
    double *p = s->p, sum = 0, size = 0;
    double most = sink ? (double)*sink : -1e300;
    *terms = 0;
    for (uint32_t i = first; i <= last; i++) {
        double in_all = p[i] = 0;
        for (uint32_t c = 0; c < a->qk_dim; c++) {
            double term = (double)q[c] * s->k[(size_t)i * a->qk_dim + c] * (double)a->scale;
            p[i] += term;
            in_all += fabs(term);
        }
        *terms = fmax(*terms, in_all);
        most = fmax(most, p[i]);
    }
    for (uint32_t i = first; i <= last; i++)
        sum += p[i] = exp(p[i] - most);
    if (sink) sum += exp((double)*sink - most);
    for (uint32_t c = 0; c < a->v_dim; c++) {
        double magnitude = 0;
        want[c] = 0;
        for (uint32_t i = first; i <= last; i++) {
            double v = s->v[(size_t)i * a->v_dim + c];
            want[c] += p[i] / sum * v;
            magnitude += p[i] / sum * fabs(v);
        }
        size += magnitude * magnitude;
    }
    return sqrt(size);
}

/* All queries: [tokens · heads][v_dim]. */
static float *answer(const sl__kern *kern, const sl__attend *a, const float *sink)
{
    uint32_t rows = a->tokens * a->heads;
    size_t row = sl__attend_row(a->v_dim);
    float *partial = floats(rows * row), *out = floats((size_t)rows * a->v_dim);
    float *tmp = floats(sl__attend_tmp(rows, a->qk_dim, a->v_dim));
    uint32_t last = (a->position + a->tokens - 1) / SL_ATTEND_SPAN + 1;
    kern->attend(a, first_seen(a, 0) / SL_ATTEND_SPAN, last, partial, tmp);
    for (uint32_t r = 0; r < rows; r++)
        kern->attend_end(partial + r * row, sink, out + (size_t)r * a->v_dim, a->v_dim);
    return out;
}

/* A span at a time, folded. */
static float *answer_in_spans(const sl__kern *kern, const sl__attend *a, const float *sink)
{
    uint32_t rows = a->tokens * a->heads;
    size_t row = sl__attend_row(a->v_dim);
    float *all = floats(rows * row), *next = floats(rows * row);
    float *out = floats((size_t)rows * a->v_dim);
    float *tmp = floats(sl__attend_tmp(rows, a->qk_dim, a->v_dim));
    uint32_t first = first_seen(a, 0) / SL_ATTEND_SPAN;
    uint32_t last = (a->position + a->tokens - 1) / SL_ATTEND_SPAN + 1;
    for (uint32_t span = first; span < last; span++) {
        kern->attend(a, span, span + 1, span == first ? all : next, tmp);
        for (uint32_t r = 0; r < rows && span > first; r++)
            kern->attend_fold(all + r * row, next + r * row, a->v_dim);
    }
    for (uint32_t r = 0; r < rows; r++)
        kern->attend_end(all + r * row, sink, out + (size_t)r * a->v_dim, a->v_dim);
    return out;
}

/* kern.h has the bound. Where a sink takes nearly all, what is left is below the normal numbers. */
static void check_row(double off, double size, double terms)
{
    double bound = terms <= 100 ? 1e-5 : 1e-5 + 0x1p-24 * terms;
    if (size < 1e-30) return;
    if (!(off <= bound * size)) fail_msg("off by %g of %g, terms of %g", off, size, terms);
}

static void check_scene(const struct scene *s, const float *sink)
{
    const sl__attend *a = &s->a;
    uint32_t rows = a->tokens * a->heads;
    float *ref = answer(&levels[0], a, sink);
    double *want = guarded(a->v_dim * sizeof(double), 0), terms;
    uint32_t t = random_u32() % a->tokens, h = random_u32() % a->heads, step = 1 + random_u32() % 5;
    for EACH_LEVEL(kern) {
        float *got = answer(kern, a, sink);
        for (uint32_t r = 0; r < rows; r += step) {
            double size = exact(s, r / a->heads, r % a->heads, sink, want, &terms);
            double off = 0, apart = 0;
            for (uint32_t c = 0; c < a->v_dim; c++) {
                double x = (double)got[(size_t)r * a->v_dim + c];
                off += (x - want[c]) * (x - want[c]);
                x -= (double)ref[(size_t)r * a->v_dim + c];
                apart += x * x;
            }
            check_row(sqrt(off), size, terms);
            check_row(sqrt(apart), size, terms);
        }
        assert_bits(answer_in_spans(kern, a, sink), got, (size_t)rows * a->v_dim, "in spans");
        sl__attend alone = *a;
        alone.q += t * a->q_token + h * a->q_head;
        alone.position += t;
        alone.tokens = alone.heads = 1;
        assert_bits(answer(kern, &alone, sink), got + ((size_t)t * a->heads + h) * a->v_dim,
                    a->v_dim, "a query alone");
    }
    check_buffers();
}

static void test_attend(void **state)
{
    (void)state;
    check_seed(9);
    static const uint32_t dims[] = {1, 8, 20, 40, 64, 100, 128, 256};
    static const uint32_t windows[] = {0, 0, 1, 2, 31, 33, 100, 600};
    for (unsigned i = 0; i < 160; i++) {
        uint32_t base = random_u32() % 50 * 32, heads = 1 + random_u32() % 17;
        uint32_t window = windows[i % 8], tokens = 1 + random_u32() % (SL_ATTEND_ROWS / heads);
        uint32_t count = tokens + random_u32() % (i % 4 == 0 ? 1600 : 60);
        if (window == 0) base = 0;
        if (window > 0 && count < tokens + window + 32) count = tokens + window + 32;
        struct scene s = make_scene(types[random_u32() % 3], base, count, tokens, heads, window,
                                    dims[random_u32() % 8], dims[random_u32() % 8],
                                    i % 5 == 0 ? 10.0f : 0.2f);
        const float sink = random_float(-4, 4);
        check_scene(&s, i % 3 == 0 ? &sink : NULL);
    }
}

/* A chunk of 64 tokens by one, by two, by eight, as many at once as there may be: the same bits. */
static void test_attend_batches(void **state)
{
    (void)state;
    check_seed(10);
    enum { TOKENS = 64 };
    for (unsigned i = 0; i < 9; i++) {
        uint32_t heads = i % 2 == 0 ? 1 : 4;
        bool latent = i / 3 == 1;
        struct scene s = make_scene(types[i % 3], 0, 1060, 1, heads, i % 2 == 0 ? 0 : 530,
                                    latent ? 160 : 96, 96, 0.1f);
        s.a.q = random_floats(TOKENS * s.a.q_token);
        s.a.position = 1060 - TOKENS;
        size_t row = sl__attend_row(s.a.v_dim), out = (size_t)heads * s.a.v_dim;
        float *tmp = floats(sl__attend_tmp(SL_ATTEND_ROWS, s.a.qk_dim, s.a.v_dim));
        float *partial = floats(SL_ATTEND_ROWS * row);
        float *got = floats(TOKENS * out), *want = floats(TOKENS * out);
        for EACH_LEVEL(kern) {
            for (uint32_t batch = 1; batch * heads <= SL_ATTEND_ROWS; batch = batch == 2 ? 8
                                                                              : batch * 2) {
                for (uint32_t t = 0; t < TOKENS; t += batch) {
                    sl__attend a = s.a;
                    a.q += t * a.q_token;
                    a.position += t;
                    a.tokens = batch;
                    kern->attend(&a, 0, 3, partial, tmp);
                    for (uint32_t r = 0; r < batch * heads; r++)
                        kern->attend_end(partial + r * row, NULL,
                                         (batch == 1 ? want : got) + t * out + r * s.a.v_dim,
                                         s.a.v_dim);
                }
                if (batch > 1) assert_bits(got, want, TOKENS * out, "a batch");
            }
        }
        check_buffers();
    }
}

/* A sink far above all scores takes everything, one far below nothing, to the bit. */
static void test_attend_sink_ends(void **state)
{
    (void)state;
    check_seed(17);
    static const float high = 1e4f, low = -1e4f, none = -INFINITY;
    for EACH_LEVEL(kern) {
        struct scene s = make_scene(SL_KV_F32, 0, 37, 1, 1, 0, 24, 16, 1);
        float *plain = answer(kern, &s.a, NULL), *out = answer(kern, &s.a, &high);
        assert_bits(answer(kern, &s.a, &low), plain, s.a.v_dim, "a low sink");
        assert_bits(answer(kern, &s.a, &none), plain, s.a.v_dim, "a sink of -infinity");
        for (uint32_t i = 0; i < s.a.v_dim; i++)
            assert_true(out[i] == 0);
        check_buffers();
    }
}

/* What is not finite is not lost, wherever a query sees it. */
static void test_attend_not_finite(void **state)
{
    (void)state;
    check_seed(18);
    for (unsigned i = 0; i < 12; i++) {
        const sl__kern *kern = &levels[i % level_count];
        struct scene s = make_scene(types[i / 4], 0, 700, 1, 3, 0, 24, 40, 1);
        if (i % 4 == 0) q_of(&s)[s.a.q_head + 5] = NAN;
        float bad[40];
        for (uint32_t c = 0; c < 40; c++)
            bad[c] = NAN;
        size_t block = 100 * (i % 4) / 32; /* a span before the last one too */
        if (i % 4 != 0)
            sl__kv_store_value(s.a.type, (char *)(uintptr_t)s.a.v +
                               block * sl__kv_value_bytes(s.a.type, 40), 7, bad, 40);
        float *out = answer(kern, &s.a, NULL) + s.a.v_dim;
        assert_true(isnan(out[0]) && isnan(out[39]));
        check_buffers();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_store_ends),
        cmocka_unit_test(test_attend),
        cmocka_unit_test(test_attend_batches),
        cmocka_unit_test(test_attend_sink_ends),
        cmocka_unit_test(test_attend_not_finite),
    };
    return cmocka_run_group_tests(tests, find_levels, NULL);
}
