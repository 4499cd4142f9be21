/* The sampler: each filter on distributions small enough to do by hand, then frequencies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sluice.h"
#include "test_env.h"

/* ---- counting and failing allocations -------------------------------------------------------- */

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#if defined(__GLIBC__) && !defined(SANITIZED)
#define COUNTS_ALLOCATIONS 1

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static unsigned allocations;
static unsigned allocations_left = UINT32_MAX; /* then they fail */

static bool may_allocate(void)
{
    allocations++;
    if (allocations_left == 0) return false;
    if (allocations_left != UINT32_MAX) allocations_left--;
    return true;
}

void *malloc(size_t size)
{
    return may_allocate() ? __libc_malloc(size) : NULL;
}

void *calloc(size_t count, size_t size)
{
    return may_allocate() ? __libc_calloc(count, size) : NULL;
}

void *realloc(void *old, size_t size)
{
    return may_allocate() ? __libc_realloc(old, size) : NULL;
}
#endif

/* ---- helpers --------------------------------------------------------------------------------- */

static sl_sampler_options options(float temperature)
{
    sl_sampler_options opt;
    sl_sampler_options_default(&opt);
    opt.temperature = temperature;
    return opt;
}

static sl_sampler *create(uint32_t vocab, const sl_sampler_options *opt)
{
    sl_error err = {0};
    sl_sampler *s;
    if (sl_sampler_create(&s, vocab, opt, &err) != SL_OK) fail_msg("%s", err.message);
    return s;
}

static int32_t sample(sl_sampler *s, const float *logits)
{
    sl_error err = {0};
    int32_t id = -1;
    if (sl_sampler_sample(s, logits, &id, &err) != SL_OK) fail_msg("%s", err.message);
    return id;
}

/* How often each of `vocab` tokens comes out of `draws` draws. */
static void frequencies(const sl_sampler_options *opt, uint32_t vocab, const float *logits,
                        uint32_t draws, uint32_t *counts)
{
    memset(counts, 0, vocab * sizeof *counts);
    sl_sampler *s = create(vocab, opt);
    for (uint32_t i = 0; i < draws; i++)
        counts[sample(s, logits)]++;
    sl_sampler_destroy(s);
}

static void logs(float *out, const double *probabilities, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = (float)log(probabilities[i]);
}

/* Exactly the tokens whose bit is set in `which` come out, given enough draws. */
static void assert_drawn(const sl_sampler_options *opt, uint32_t vocab, const float *logits,
                         uint32_t which)
{
    uint32_t counts[32];
    frequencies(opt, vocab, logits, 4000, counts);
    for (uint32_t i = 0; i < vocab; i++) {
        if (!!counts[i] != ((which >> i) & 1))
            fail_msg("token %u was drawn %u times; the mask is %#x", i, counts[i], which);
    }
}

/* ---- tests ----------------------------------------------------------------------------------- */

static void greedy_takes_the_lowest_id_of_the_best(void **state)
{
    (void)state;
    sl_sampler_options opt = options(0.0f);
    opt.top_k = 3; /* filters say nothing about the best token */
    opt.top_p = 0.5f;
    sl_sampler *s = create(5, &opt);
    assert_int_equal(sample(s, (float[]){1, 4, 2, 4, 4}), 1);
    assert_int_equal(sample(s, (float[]){-5, -5, -5, -5, -5}), 0);
    assert_int_equal(sample(s, (float[]){-INFINITY, -INFINITY, -9, -8, -INFINITY}), 3);
    assert_int_equal(sample(s, (float[]){-FLT_MAX, -INFINITY, -FLT_MAX, 0, FLT_MAX}), 4);
    sl_sampler_destroy(s);
}

static void logits_are_not_changed(void **state)
{
    (void)state;
    sl_sampler_options opt = options(0.7f);
    opt.top_k = 2;
    opt.top_p = 0.9f;
    opt.repetition_penalty = 1.5f;
    opt.presence_penalty = 1.0f;
    sl_sampler *s = create(4, &opt);
    float logits[] = {1, 2, 3, 4}, before[4];
    memcpy(before, logits, sizeof logits);
    for (int i = 0; i < 10; i++)
        sample(s, logits);
    assert_memory_equal(logits, before, sizeof logits);
    sl_sampler_destroy(s);
}

static void top_k_keeps_the_best_k(void **state)
{
    (void)state;
    float logits[] = {0.1f, 0.5f, 0.3f, 0.5f, -1.0f, 0.5f};
    sl_sampler_options opt = options(1.0f);
    opt.top_k = 1;
    assert_drawn(&opt, 6, logits, 1u << 1);
    opt.top_k = 2; /* equals: the lower ids stay */
    assert_drawn(&opt, 6, logits, 1u << 1 | 1u << 3);
    opt.top_k = 4;
    assert_drawn(&opt, 6, logits, 1u << 1 | 1u << 2 | 1u << 3 | 1u << 5);
    opt.top_k = 6;
    assert_drawn(&opt, 6, logits, 0x3f);
    opt.top_k = 1000000;
    assert_drawn(&opt, 6, logits, 0x3f);
    /* Ascending logits: every token displaces the worst one kept. */
    opt.top_k = 3;
    assert_drawn(&opt, 6, (float[]){1, 2, 3, 4, 5, 6}, 0x38);
    assert_drawn(&opt, 6, (float[]){6, 5, 4, 3, 2, 1}, 0x07);
    assert_drawn(&opt, 6, (float[]){2, 2, 2, 2, 2, 2}, 0x07);
}

static void top_p_keeps_the_fewest_that_reach_it(void **state)
{
    (void)state;
    float logits[5];
    logs(logits, (double[]){0.1, 0.4, 0.05, 0.3, 0.15}, 5);
    sl_sampler_options opt = options(1.0f);
    opt.top_p = 1e-6f; /* one stays, however small */
    assert_drawn(&opt, 5, logits, 1u << 1);
    opt.top_p = 0.39f;
    assert_drawn(&opt, 5, logits, 1u << 1);
    opt.top_p = 0.41f;
    assert_drawn(&opt, 5, logits, 1u << 1 | 1u << 3);
    opt.top_p = 0.69f;
    assert_drawn(&opt, 5, logits, 1u << 1 | 1u << 3);
    opt.top_p = 0.71f;
    assert_drawn(&opt, 5, logits, 1u << 1 | 1u << 3 | 1u << 4);
    opt.top_p = 0.94f;
    assert_drawn(&opt, 5, logits, 0x1b);
    opt.top_p = 0.96f;
    assert_drawn(&opt, 5, logits, 0x1f);
    /* Exactly half is reached by two of four equals, the lower ids. */
    opt.top_p = 0.5f;
    assert_drawn(&opt, 4, (float[]){3, 3, 3, 3}, 0x3);
    /* After top-k the rest counts as the whole: 0.4 of 0.7 is 0.571. */
    opt.top_k = 2;
    opt.top_p = 0.57f;
    assert_drawn(&opt, 5, logits, 1u << 1);
    opt.top_p = 0.58f;
    assert_drawn(&opt, 5, logits, 1u << 1 | 1u << 3);
}

static void min_p_is_relative_to_the_best(void **state)
{
    (void)state;
    float logits[5];
    logs(logits, (double[]){0.1, 0.4, 0.05, 0.3, 0.15}, 5);
    sl_sampler_options opt = options(1.0f);
    opt.min_p = 1.0f;
    assert_drawn(&opt, 5, logits, 1u << 1);
    assert_drawn(&opt, 5, (float[]){1, 2, 2, 1, 2}, 1u << 1 | 1u << 2 | 1u << 4);
    opt.min_p = 0.74f; /* 0.3 / 0.4 is 0.75 */
    assert_drawn(&opt, 5, logits, 1u << 1 | 1u << 3);
    opt.min_p = 0.76f;
    assert_drawn(&opt, 5, logits, 1u << 1);
    opt.min_p = 0.26f;
    assert_drawn(&opt, 5, logits, 1u << 1 | 1u << 3 | 1u << 4);
    opt.min_p = 0.01f;
    assert_drawn(&opt, 5, logits, 0x1f);
    /* It sees probabilities after the temperature: at 0.5 they are squared, 0.75 becomes 0.5625. */
    opt.temperature = 0.5f;
    opt.min_p = 0.57f;
    assert_drawn(&opt, 5, logits, 1u << 1);
    opt.min_p = 0.55f;
    assert_drawn(&opt, 5, logits, 1u << 1 | 1u << 3);
    /* And before top-p: of {0.4, 0.3} top-p 0.58 keeps both, of all five 0.39 keeps one. */
    opt = options(1.0f);
    opt.min_p = 0.7f;
    opt.top_p = 0.58f;
    assert_drawn(&opt, 5, logits, 1u << 1 | 1u << 3);
    opt.min_p = 0.0f;
    opt.top_p = 0.39f;
    assert_drawn(&opt, 5, logits, 1u << 1);
}

static void masked_tokens_are_never_drawn(void **state)
{
    (void)state;
    sl_sampler_options opt = options(5.0f);
    assert_drawn(&opt, 4, (float[]){-INFINITY, 1, -INFINITY, 0}, 0xa);
    opt.top_k = 3;
    assert_drawn(&opt, 4, (float[]){-INFINITY, 1, -INFINITY, 0}, 0xa);
    opt.top_p = 0.999f;
    assert_drawn(&opt, 4, (float[]){-INFINITY, 1, -INFINITY, 0}, 0xa);
    opt.repetition_penalty = 0.5f; /* a penalty does not lift the mask */
    opt.presence_penalty = -2.0f;
    assert_drawn(&opt, 4, (float[]){-INFINITY, 1, -INFINITY, 0}, 0xa);
}

static void the_seed_decides(void **state)
{
    (void)state;
    float logits[64];
    test_rng rng = {5};
    for (int i = 0; i < 64; i++)
        logits[i] = test_rng_normal(&rng);
    int32_t first[40], other[40];
    unsigned same = 0;
    for (int round = 0; round < 2; round++) {
        sl_sampler_options opt = options(1.0f);
        opt.top_p = 0.95f;
        opt.seed = 42;
        sl_sampler *s = create(64, &opt);
        for (int i = 0; i < 40; i++) {
            int32_t id = sample(s, logits);
            if (round) assert_int_equal(id, first[i]);
            first[i] = id;
        }
        sl_sampler_destroy(s);
    }
    sl_sampler_options opt = options(1.0f);
    opt.top_p = 0.95f;
    opt.seed = 43;
    sl_sampler *s = create(64, &opt);
    for (int i = 0; i < 40; i++) {
        other[i] = sample(s, logits);
        same += other[i] == first[i];
    }
    sl_sampler_destroy(s);
    assert_true(same < 20);
}

/* Chi-squared against the stated distribution; 99.9 % of fair samplers stay below the bound. */
static void assert_fair(const sl_sampler_options *opt, uint32_t vocab, const float *logits,
                        const double *expected, double bound)
{
    enum { DRAWS = 60000 };
    uint32_t counts[32];
    double chi = 0.0;
    frequencies(opt, vocab, logits, DRAWS, counts);
    for (uint32_t i = 0; i < vocab; i++) {
        double want = expected[i] * (double)DRAWS;
        if (want == 0.0) {
            assert_int_equal(counts[i], 0);
            continue;
        }
        chi += ((double)counts[i] - want) * ((double)counts[i] - want) / want;
    }
    if (!(chi < bound)) fail_msg("chi-squared is %g, the bound %g", chi, bound);
}

static void frequencies_follow_the_distribution(void **state)
{
    (void)state;
    float logits[5];
    const double p[] = {0.1, 0.4, 0.05, 0.3, 0.15};
    logs(logits, p, 5);
    for (uint64_t seed = 0; seed < 4; seed++) {
        sl_sampler_options opt = options(1.0f);
        opt.seed = seed;
        assert_fair(&opt, 5, logits, p, 18.47);

        opt.temperature = 2.0f; /* square roots */
        double roots[5], sum = 0.0;
        for (int i = 0; i < 5; i++)
            sum += roots[i] = sqrt(p[i]);
        for (int i = 0; i < 5; i++)
            roots[i] /= sum;
        assert_fair(&opt, 5, logits, roots, 18.47);

        opt.temperature = 1.0f;
        opt.top_k = 3;
        assert_fair(&opt, 5, logits, (double[]){0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85}, 13.82);
        opt.top_k = 0;
        opt.top_p = 0.8f;
        assert_fair(&opt, 5, logits, (double[]){0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85}, 13.82);
        opt.top_p = 1.0f;
        opt.min_p = 0.3f;
        assert_fair(&opt, 5, logits, (double[]){0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85}, 13.82);
    }
}

static void extreme_logits_and_temperatures(void **state)
{
    (void)state;
    sl_sampler_options opt = options(1e-45f); /* the smallest float: greedy in effect */
    assert_drawn(&opt, 3, (float[]){1, 1.0001f, 0}, 1u << 1);
    opt = options(FLT_MAX); /* flat */
    assert_drawn(&opt, 3, (float[]){-FLT_MAX / 4, 0, FLT_MAX / 4}, 0x7);
    opt = options(1.0f);
    assert_drawn(&opt, 3, (float[]){-FLT_MAX, FLT_MAX, 0}, 1u << 1);
    assert_drawn(&opt, 1, (float[]){-3}, 1);
    opt.top_p = 0.5f;
    assert_drawn(&opt, 1, (float[]){-3}, 1);
}

/* Greedy under penalties shows the penalised logits: the order in which tokens are chosen. */
static void repetition_penalty_divides_and_multiplies(void **state)
{
    (void)state;
    sl_sampler_options opt = options(0.0f);
    opt.repetition_penalty = 2.0f;
    sl_sampler *s = create(4, &opt);
    sl_sampler_accept_prompt(s, 0);
    sl_sampler_accept_prompt(s, 0); /* once a distinct token: 4 becomes 2, not 1 */
    assert_int_equal(sample(s, (float[]){4, 1.9f, -1, -2}), 0);
    sl_sampler_destroy(s);

    s = create(4, &opt);
    sl_sampler_accept_prompt(s, 0);
    assert_int_equal(sample(s, (float[]){4, 2.1f, -1, -2}), 1);    /* 0 counts as 2 */
    assert_int_equal(sample(s, (float[]){4, 4.1f, 2.06f, -2}), 2); /* 0: 2; 1: 2.05 */
    sl_sampler_destroy(s);

    s = create(2, &opt);
    sl_sampler_accept_prompt(s, 0);
    assert_int_equal(sample(s, (float[]){-1, -1.9f}), 1); /* -1 becomes -2 */
    sl_sampler_destroy(s);

    opt.repetition_penalty = 0.5f; /* below 1: a preference for what was there */
    s = create(2, &opt);
    sl_sampler_accept_prompt(s, 1);
    assert_int_equal(sample(s, (float[]){1.5f, 1}), 1);
    sl_sampler_destroy(s);
}

static void presence_penalty_is_for_generated_tokens(void **state)
{
    (void)state;
    sl_sampler_options opt = options(0.0f);
    opt.presence_penalty = 1.0f;
    sl_sampler *s = create(3, &opt);
    sl_sampler_accept_prompt(s, 0); /* of the prompt: not penalised */
    float logits[] = {3, 2.5f, 1.9f};
    assert_int_equal(sample(s, logits), 0);
    assert_int_equal(sample(s, logits), 1); /* 0 counts as 2 */
    assert_int_equal(sample(s, logits), 0); /* 2, 1.5, 1.9 */
    assert_int_equal(sample(s, logits), 0); /* once a distinct token: still 2 */
    sl_sampler_destroy(s);

    /* Repetition first, then presence: 4 / 2 - 1 = 1, not (4 - 1) / 2 = 1.5. */
    opt.repetition_penalty = 2.0f;
    s = create(3, &opt);
    assert_int_equal(sample(s, (float[]){4, 0, 0}), 0);
    assert_int_equal(sample(s, (float[]){4, 1.2f, 0}), 1);
    sl_sampler_destroy(s);
}

static void frequency_penalty_counts(void **state)
{
    (void)state;
    sl_sampler_options opt = options(0.0f);
    opt.frequency_penalty = 0.5f;
    sl_sampler *s = create(2, &opt);
    sl_sampler_accept_prompt(s, 0); /* of the prompt: not counted */
    static const int32_t expected[] = {0, 0, 0, 1, 0, 1, 0}; /* 3, 2.5, 2, then 1.5 and 1.75 */
    for (unsigned i = 0; i < sizeof expected / sizeof expected[0]; i++)
        assert_int_equal(sample(s, (float[]){3, 1.75f}), expected[i]);
    sl_sampler_destroy(s);
}

static void what_is_only_drawn_is_not_generated(void **state)
{
    (void)state;
    sl_sampler_options opt = options(0.0f);
    opt.frequency_penalty = 1.0f;
    sl_sampler *s = create(2, &opt);
    const float logits[] = {3, 2.5f};
    int32_t id;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(sl_sampler_draw(s, logits, &id, NULL), SL_OK);
        assert_int_equal(id, 0);
    }
    sl_sampler_accept(s, 0);
    assert_int_equal(sample(s, logits), 1);
    sl_sampler_destroy(s);
}

static void penalties_never_make_infinities(void **state)
{
    (void)state;
    sl_sampler_options opt = options(0.0f);
    opt.repetition_penalty = 1e-30f;
    opt.presence_penalty = -FLT_MAX;
    sl_sampler *s = create(3, &opt);
    sl_sampler_accept_prompt(s, 2);
    assert_int_equal(sample(s, (float[]){FLT_MAX / 2, -INFINITY, FLT_MAX / 2}), 2);
    assert_int_equal(sample(s, (float[]){-FLT_MAX, -INFINITY, -FLT_MAX}), 2);
    sl_sampler_destroy(s);
}

static void ids_outside_the_vocabulary_are_ignored(void **state)
{
    (void)state;
    sl_sampler_options opt = options(0.0f);
    opt.repetition_penalty = 2.0f;
    sl_sampler *s = create(2, &opt);
    sl_sampler_accept_prompt(s, -1);
    sl_sampler_accept_prompt(s, 2);
    sl_sampler_accept_prompt(s, INT32_MAX);
    sl_sampler_accept_prompt(s, INT32_MIN);
    assert_int_equal(sample(s, (float[]){1, 1.5f}), 1);
    sl_sampler_destroy(s);
}

static void assert_refused(sl_sampler *s, const float *logits, const char *message)
{
    sl_error err = {0};
    int32_t id = 7;
    assert_int_equal(sl_sampler_sample(s, logits, &id, &err), SL_ENUMERIC);
    assert_int_equal(err.status, SL_ENUMERIC);
    assert_string_equal(err.message, message);
    assert_int_equal(id, 7);
    assert_int_equal(sl_sampler_sample(s, logits, &id, NULL), SL_ENUMERIC);
}

static void bad_logits_are_refused(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        sl_sampler_options opt = options(round ? 1.0f : 0.0f);
        if (round == 2) opt.presence_penalty = 1.0f;
        if (round == 3) opt.repetition_penalty = 1.1f; /* does not make them better */
        sl_sampler *s = create(3, &opt);
        for (int32_t id = 0; id < 3; id++)
            sl_sampler_accept_prompt(s, id);
        assert_refused(s, (float[]){1, NAN, 2}, "sampler: the logit of token 1 is NaN");
        assert_refused(s, (float[]){NAN, NAN, NAN}, "sampler: the logit of token 0 is NaN");
        assert_refused(s, (float[]){1, 2, -NAN}, "sampler: the logit of token 2 is NaN");
        assert_refused(s, (float[]){1, -INFINITY, INFINITY},
                       "sampler: the logit of token 2 is infinite");
        assert_refused(s, (float[]){-INFINITY, -INFINITY, -INFINITY},
                       "sampler: no token of 3 has a finite logit");
        assert_int_equal(sample(s, (float[]){-INFINITY, 0, -INFINITY}), 1); /* still usable */
        sl_sampler_destroy(s);
    }
}

static void options_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct {
        float temperature, top_p, min_p, repetition, presence, frequency;
        const char *message;
    } cases[] = {
        {-0.1f, 1, 0, 1, 0, 0, "sampler: temperature -0.1 is not a number of at least 0"},
        {NAN, 1, 0, 1, 0, 0, "sampler: temperature nan is not a number of at least 0"},
        {INFINITY, 1, 0, 1, 0, 0, "sampler: temperature inf is not a number of at least 0"},
        {1, 0, 0, 1, 0, 0, "sampler: top_p 0 is not above 0 and at most 1"},
        {1, 1.01f, 0, 1, 0, 0, "sampler: top_p 1.01 is not above 0 and at most 1"},
        {1, NAN, 0, 1, 0, 0, "sampler: top_p nan is not above 0 and at most 1"},
        {1, 1, -0.5f, 1, 0, 0, "sampler: min_p -0.5 is not between 0 and 1"},
        {1, 1, 1.5f, 1, 0, 0, "sampler: min_p 1.5 is not between 0 and 1"},
        {1, 1, NAN, 1, 0, 0, "sampler: min_p nan is not between 0 and 1"},
        {1, 1, 0, 0, 0, 0, "sampler: repetition_penalty 0 is not a number above 0"},
        {1, 1, 0, -1, 0, 0, "sampler: repetition_penalty -1 is not a number above 0"},
        {1, 1, 0, INFINITY, 0, 0, "sampler: repetition_penalty inf is not a number above 0"},
        {1, 1, 0, 1, NAN, 0, "sampler: presence_penalty nan is not finite"},
        {1, 1, 0, 1, -INFINITY, 0, "sampler: presence_penalty -inf is not finite"},
        {1, 1, 0, 1, 0, INFINITY, "sampler: frequency_penalty inf is not finite"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        sl_sampler_options opt = {.temperature = cases[i].temperature,
                                  .top_p = cases[i].top_p,
                                  .min_p = cases[i].min_p,
                                  .repetition_penalty = cases[i].repetition,
                                  .presence_penalty = cases[i].presence,
                                  .frequency_penalty = cases[i].frequency};
        sl_error err = {0};
        sl_sampler *s = (sl_sampler *)&err;
        assert_int_equal(sl_sampler_create(&s, 10, &opt, &err), SL_EINVAL);
        assert_string_equal(err.message, cases[i].message);
        assert_null(s);
    }
    sl_sampler_options opt = options(1.0f);
    sl_error err = {0};
    sl_sampler *s;
    assert_int_equal(sl_sampler_create(&s, 0, &opt, &err), SL_EINVAL);
    assert_string_equal(err.message, "sampler: a vocabulary of 0 tokens");
    assert_int_equal(sl_sampler_create(&s, 1u << 31, &opt, NULL), SL_EINVAL);
    sl_sampler_destroy(NULL);
}

static void defaults_are_greedy(void **state)
{
    (void)state;
    sl_sampler_options opt;
    memset(&opt, 0xff, sizeof opt);
    sl_sampler_options_default(&opt);
    assert_true(opt.temperature == 0.0f && opt.top_k == 0 && opt.top_p == 1.0f);
    assert_true(opt.min_p == 0.0f && opt.repetition_penalty == 1.0f);
    assert_true(opt.presence_penalty == 0.0f && opt.seed == 0);
}

/* The filters on random rows against a plain statement of them: sort, cut, cut, cut. */
typedef struct ranked {
    float logit;
    uint32_t id;
} ranked;

static int by_rank(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static uint32_t plain_filters(const sl_sampler_options *opt, uint32_t vocab, const float *logits)
{
    ranked order[32];
    double weights[32], total = 0.0, held = 0.0;
    for (uint32_t i = 0; i < vocab; i++)
        order[i] = (ranked){logits[i], i};
    qsort(order, vocab, sizeof order[0], by_rank);
    uint32_t count = opt->top_k > 0 && opt->top_k < vocab ? opt->top_k : vocab;
    for (uint32_t i = 0; i < count; i++) {
        weights[i] =
            exp(((double)order[i].logit - (double)order[0].logit) / (double)opt->temperature);
        if (weights[i] < (double)opt->min_p)
            count = i;
        else
            total += weights[i];
    }
    uint32_t mask = 0;
    for (uint32_t i = 0; i < count && (i == 0 || held < (double)opt->top_p * total); i++) {
        held += weights[i];
        mask |= 1u << order[i].id;
    }
    return mask;
}

static void filters_agree_with_sorting(void **state)
{
    (void)state;
    test_rng rng = {99};
    for (int round = 0; round < 200; round++) {
        uint32_t vocab = 1 + test_rng_below(&rng, 12);
        float logits[32];
        for (uint32_t i = 0; i < vocab; i++) /* coarse: equal logits are common */
            logits[i] = (float)test_rng_below(&rng, 6) * 0.25f;
        sl_sampler_options opt = options(0.5f + 0.25f * (float)test_rng_below(&rng, 6));
        opt.top_k = test_rng_below(&rng, 14);
        opt.seed = (uint64_t)round;
        if (test_rng_below(&rng, 2)) opt.top_p = (1.03f + (float)test_rng_below(&rng, 7)) / 8.1f;
        if (test_rng_below(&rng, 2)) opt.min_p = 0.013f + 0.1f * (float)test_rng_below(&rng, 8);
        assert_drawn(&opt, vocab, logits, plain_filters(&opt, vocab, logits));
    }
}

static void sampling_allocates_nothing(void **state)
{
    (void)state;
#ifdef COUNTS_ALLOCATIONS
    enum { VOCAB = 5000 };
    float *logits = malloc(VOCAB * sizeof *logits);
    assert_non_null(logits);
    test_rng rng = {1};
    for (int i = 0; i < VOCAB; i++)
        logits[i] = test_rng_normal(&rng);
    for (int round = 0; round < 8; round++) {
        sl_sampler_options opt = options(round == 7 ? 0.0f : 1.0f);
        if (round & 1) opt.top_k = 40;
        if (round & 2) opt.top_p = 0.9f;
        if (round & 4) opt.repetition_penalty = 1.1f;
        sl_sampler *s = create(VOCAB, &opt);
        unsigned before = allocations;
        sl_sampler_accept_prompt(s, 3);
        int32_t id, bad = 0;
        for (int i = 0; i < 20; i++)
            bad |= sl_sampler_sample(s, logits, &id, NULL);
        unsigned after = allocations;
        assert_int_equal(bad, SL_OK);
        assert_int_equal(after, before);
        sl_sampler_destroy(s);
    }
    free(logits);
#else
    print_message("sampling_allocates_nothing: skipped, allocations cannot be counted here\n");
    skip();
#endif
}

static void creating_survives_every_failed_allocation(void **state)
{
    (void)state;
#ifdef COUNTS_ALLOCATIONS
    sl_sampler_options opt = options(1.0f);
    opt.repetition_penalty = 1.1f;
    unsigned failures = 0;
    for (unsigned left = 0;; left++) {
        sl_error err = {0};
        sl_sampler *s = (sl_sampler *)&err;
        allocations_left = left;
        sl_status status = sl_sampler_create(&s, 100, &opt, &err);
        allocations_left = UINT32_MAX;
        if (status == SL_OK) {
            sl_sampler_destroy(s);
            break;
        }
        assert_int_equal(status, SL_ENOMEM);
        assert_string_equal(err.message, "out of memory (sampler)");
        assert_null(s);
        failures++;
    }
    assert_int_equal(failures, 4);
#else
    print_message("creating_survives_every_failed_allocation: skipped, cannot fail them here\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_takes_the_lowest_id_of_the_best),
        cmocka_unit_test(logits_are_not_changed),
        cmocka_unit_test(top_k_keeps_the_best_k),
        cmocka_unit_test(top_p_keeps_the_fewest_that_reach_it),
        cmocka_unit_test(min_p_is_relative_to_the_best),
        cmocka_unit_test(masked_tokens_are_never_drawn),
        cmocka_unit_test(the_seed_decides),
        cmocka_unit_test(frequencies_follow_the_distribution),
        cmocka_unit_test(extreme_logits_and_temperatures),
        cmocka_unit_test(repetition_penalty_divides_and_multiplies),
        cmocka_unit_test(presence_penalty_is_for_generated_tokens),
        cmocka_unit_test(frequency_penalty_counts),
        cmocka_unit_test(what_is_only_drawn_is_not_generated),
        cmocka_unit_test(penalties_never_make_infinities),
        cmocka_unit_test(ids_outside_the_vocabulary_are_ignored),
        cmocka_unit_test(bad_logits_are_refused),
        cmocka_unit_test(options_out_of_range_are_refused),
        cmocka_unit_test(defaults_are_greedy),
        cmocka_unit_test(filters_agree_with_sorting),
        cmocka_unit_test(sampling_allocates_nothing),
        cmocka_unit_test(creating_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
