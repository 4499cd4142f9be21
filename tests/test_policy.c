/* Who is evicted: properties of the policy under calls in any order, and of what it learns. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "cache/cache_policy.h"
#include "test_env.h"

enum { LAYERS_MAX = 5, EXPERTS_MAX = 40, RECORDS_MAX = LAYERS_MAX * EXPERTS_MAX };

typedef struct bench {
    uint32_t layers, slots, records;
    uint32_t first[LAYERS_MAX + 1];
    sl__arena arena;
    void *memory;
    sl__policy policy;
} bench;

static void begin(bench *b, sl__policy_kind kind, uint32_t slots, uint32_t layers,
                  const uint32_t *experts)
{
    memset(b, 0, sizeof *b);
    b->layers = layers;
    b->slots = slots;
    for (uint32_t l = 0; l < layers; l++)
        b->first[l + 1] = b->first[l] + experts[l];
    b->records = b->first[layers];
    const sl__policy_shape shape = {
        .slots = slots, .layers = layers, .records = b->records, .first = b->first};
    uint64_t bytes = sl__policy_bytes(kind, &shape);
    assert_int_equal(bytes % SL_ARENA_ALIGN, 0);
    b->memory = sl__arena_alloc(&b->arena, (size_t)bytes, 1);
    assert_non_null(b->memory);
    sl__policy_init(&b->policy, kind, &shape, b->memory);
}

static void end(bench *b) { sl__arena_free(&b->arena); }

static void put(bench *b, uint32_t slot, uint32_t layer, uint32_t expert)
{
    sl__policy_load(&b->policy, slot, layer, expert);
    sl__policy_add(&b->policy, slot);
}

/* ids[n]: n different experts, in any order. */
static void shuffle(test_rng *rng, uint32_t *ids, uint32_t experts, uint32_t n)
{
    for (uint32_t e = 0; e < experts; e++)
        ids[e] = e;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t j = i + test_rng_below(rng, experts - i), id = ids[j];
        ids[j] = ids[i];
        ids[i] = id;
    }
}

/* ---- order ----------------------------------------------------------------------------------- */

static void goes_by_recency(sl__policy_kind kind)
{
    bench b;
    begin(&b, kind, 4, 2, (uint32_t[]){8, 8});
    float expected = 0;
    assert_int_equal(sl__policy_coldest(&b.policy, 0, &expected), SL_SLOT_NONE);
    assert_int_equal(sl__policy_victim(&b.policy, 0), SL_SLOT_NONE);
    for (uint32_t s = 0; s < 4; s++)
        put(&b, s, s % 2, s);
    sl__policy_remove(&b.policy, 1);
    sl__policy_touch(&b.policy, 1);
    sl__policy_add(&b.policy, 1);
    assert_int_equal(sl__policy_coldest(&b.policy, 1, &expected), 0);
    assert_true(expected == 1.0f);
    const uint32_t order[] = {0, 2, 3, 1};
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(sl__policy_victim(&b.policy, i % 2), order[i]);
    assert_int_equal(sl__policy_victim(&b.policy, 0), SL_SLOT_NONE);
    end(&b);
}

static void test_lru_goes_by_recency(void **state)
{
    (void)state;
    goes_by_recency(SL_POLICY_LRU);
}

static void test_default_goes_by_recency_before_a_note(void **state)
{
    (void)state;
    goes_by_recency(SL_POLICY_DEFAULT);
}

/* Equally likely records of a layer go by recency; the layer that comes last goes first. */
static void test_ties_and_distance(void **state)
{
    (void)state;
    bench b;
    begin(&b, SL_POLICY_DEFAULT, 6, 2, (uint32_t[]){8, 8});
    const uint32_t ranked[] = {7, 6};
    sl__policy_note(&b.policy, 0, ranked, 2, 2);
    sl__policy_note(&b.policy, 1, ranked, 2, 2);
    for (uint32_t s = 0; s < 6; s++)
        put(&b, s, s / 3, s % 3);
    sl__policy_remove(&b.policy, 0);
    sl__policy_touch(&b.policy, 0);
    sl__policy_add(&b.policy, 0);
    const uint32_t order[] = {1, 2, 0, 3, 4, 5}; /* layer 0 is at work: layer 1 comes next */
    for (uint32_t i = 0; i < 6; i++)
        assert_int_equal(sl__policy_victim(&b.policy, 0), order[i]);
    float near = sl__policy_expected(&b.policy, 0, 1, 7);
    float far = sl__policy_expected(&b.policy, 0, 0, 7);
    assert_true(fabsf(far - 2 * near) < 1e-4f * far);
    end(&b);
}

/* ---- any order of calls ---------------------------------------------------------------------- */

/* What the policy should choose, looked for among all slots. */
static uint32_t plain_victim(const bench *b, const bool *in, const uint32_t *layer,
                             const uint32_t *expert, const uint32_t *used, uint32_t at_work)
{
    uint32_t victim = SL_SLOT_NONE;
    for (uint32_t l = 0; l < b->layers; l++) {
        uint32_t least = SL_SLOT_NONE;
        for (uint32_t s = 0; s < b->slots; s++) {
            if (!in[s] || layer[s] != l) continue;
            if (least == SL_SLOT_NONE) {
                least = s;
                continue;
            }
            float a = b->policy.reuse.chance[b->first[l] + expert[s]];
            float c = b->policy.reuse.chance[b->first[l] + expert[least]];
            if (a < c || (!(a > c) && used[s] < used[least])) least = s;
        }
        if (least == SL_SLOT_NONE) continue;
        if (victim == SL_SLOT_NONE ||
            sl__policy_expected(&b->policy, at_work, l, expert[least]) >
                sl__policy_expected(&b->policy, at_work, layer[victim], expert[victim])) {
            victim = least;
        }
    }
    return victim;
}

static void check_chances(const bench *b)
{
    for (uint32_t l = 0; l < b->layers; l++) {
        for (uint32_t e = 0; e < b->first[l + 1] - b->first[l]; e++) {
            float x = sl__policy_expected(&b->policy, 0, l, e);
            assert_true(isfinite(x) && x > 0);
        }
    }
    for (uint32_t t = 0; t <= SL_REUSE_TERMS; t++)
        assert_true(isfinite(b->policy.reuse.weight[t]));
}

/* Slots hold different records; loads, uses, notes and evictions come at random. */
static void random_calls(unsigned seed)
{
    bench b;
    test_rng rng = {seed};
    uint32_t experts[LAYERS_MAX], layers = 1 + test_rng_below(&rng, LAYERS_MAX);
    for (uint32_t l = 0; l < layers; l++) /* some layers have no experts */
        experts[l] = l && test_rng_below(&rng, 4) == 0 ? 0 : 1 + test_rng_below(&rng, EXPERTS_MAX);
    begin(&b, SL_POLICY_DEFAULT, 1 + test_rng_below(&rng, 50), layers, experts);
    bool in[50] = {false}, held[RECORDS_MAX] = {false};
    uint32_t layer[50] = {0}, expert[50] = {0}, used[50] = {0}, clock = 0, ids[EXPERTS_MAX];
    uint32_t first_note = test_rng_below(&rng, 200);
    for (uint32_t step = 0; step < 1500; step++) {
        uint32_t s = test_rng_below(&rng, b.slots), l = test_rng_below(&rng, layers);
        switch (test_rng_below(&rng, 4)) {
        case 0: { /* a load into a free slot */
            uint32_t e = experts[l] ? test_rng_below(&rng, experts[l]) : 0;
            if (in[s] || experts[l] == 0 || held[b.first[l] + e]) break;
            put(&b, s, l, e);
            in[s] = held[b.first[l] + e] = true;
            layer[s] = l;
            expert[s] = e;
            used[s] = ++clock;
            break;
        }
        case 1: /* a use */
            if (!in[s]) break;
            sl__policy_touch(&b.policy, s);
            sl__policy_remove(&b.policy, s);
            sl__policy_add(&b.policy, s);
            used[s] = ++clock;
            break;
        case 2: { /* a note */
            if (step < first_note || experts[l] == 0) break;
            uint32_t n = 1 + test_rng_below(&rng, experts[l]);
            shuffle(&rng, ids, experts[l], n);
            sl__policy_note(&b.policy, l, ids, n, test_rng_below(&rng, n + 1));
            break;
        }
        default: {
            uint32_t want = plain_victim(&b, in, layer, expert, used, l);
            if (b.policy.noted) {
                float unused;
                assert_int_equal(sl__policy_coldest(&b.policy, l, &unused), want);
            }
            uint32_t got = sl__policy_victim(&b.policy, l);
            assert_true((got == SL_SLOT_NONE) == (want == SL_SLOT_NONE));
            if (got == SL_SLOT_NONE) break;
            if (b.policy.noted) assert_int_equal(got, want);
            assert_true(in[got]);
            in[got] = held[b.first[layer[got]] + expert[got]] = false;
        }
        }
    }
    check_chances(&b);
    end(&b);
}

static void test_random_calls(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= (test_fast() ? 30u : 300u); seed++)
        random_calls(seed);
}

/* ---- learning -------------------------------------------------------------------------------- */

/* An expert that is ranked just below the chosen ones comes next; one that is never ranked does
 * not. The chances say so, and add up to about as many as are chosen. */
static void test_near_misses_are_kept(void **state)
{
    (void)state;
    enum { EXPERTS = 32, K = 4 };
    bench b;
    test_rng rng = {3};
    begin(&b, SL_POLICY_DEFAULT, EXPERTS, 1, (uint32_t[]){EXPERTS});
    uint32_t ranked[2 * K], order[EXPERTS / 2];
    shuffle(&rng, order, EXPERTS / 2, 2 * K);
    memcpy(ranked, order, sizeof ranked);
    for (uint32_t t = 0; t < 400; t++) { /* last token's near misses are chosen; 16.. never */
        uint32_t next[2 * K];
        memcpy(next, ranked + K, K * sizeof *next);
        shuffle(&rng, order, EXPERTS / 2, EXPERTS / 2);
        uint32_t n = K;
        for (uint32_t i = 0; n < 2 * K; i++) {
            bool taken = false;
            for (uint32_t j = 0; j < n; j++)
                taken = taken || next[j] == order[i];
            if (!taken) next[n++] = order[i];
        }
        memcpy(ranked, next, sizeof ranked);
        sl__policy_note(&b.policy, 0, ranked, 2 * K, K);
    }
    float sum = 0, least_near = 1, most_never = 0, most_used = 0;
    for (uint32_t e = 0; e < EXPERTS; e++) {
        float c = b.policy.reuse.chance[e];
        sum += c;
        if (e >= EXPERTS / 2 && c > most_never) most_never = c;
    }
    for (uint32_t j = 0; j < K; j++) {
        least_near = fminf(least_near, b.policy.reuse.chance[ranked[K + j]]);
        most_used = fmaxf(most_used, b.policy.reuse.chance[ranked[j]]);
    }
    assert_true(least_near > 0.5f && most_never < 0.02f && least_near > most_used);
    assert_true(sum > 0.7f * (float)K && sum < 1.5f * (float)K);
    end(&b);
}

static void test_the_same_every_time(void **state)
{
    (void)state;
    float chances[2][EXPERTS_MAX];
    for (int run = 0; run < 2; run++) {
        bench b;
        test_rng rng = {9};
        uint32_t ids[EXPERTS_MAX];
        begin(&b, SL_POLICY_DEFAULT, 4, 1, (uint32_t[]){EXPERTS_MAX});
        for (int t = 0; t < 500; t++) {
            shuffle(&rng, ids, EXPERTS_MAX, 20);
            sl__policy_note(&b.policy, 0, ids, 20, 5);
        }
        memcpy(chances[run], b.policy.reuse.chance, sizeof chances[run]);
        end(&b);
    }
    assert_memory_equal(chances[0], chances[1], sizeof chances[0]);
}

static void test_bytes(void **state)
{
    (void)state;
    const sl__policy_shape huge = {
        .slots = UINT32_MAX, .layers = UINT32_MAX, .records = UINT32_MAX};
    const sl__policy_shape small = {.slots = 10, .layers = 2, .records = 20};
    assert_true(sl__policy_bytes(SL_POLICY_DEFAULT, &huge) > UINT32_MAX);
    assert_true(sl__policy_bytes(SL_POLICY_LRU, &small) <
                sl__policy_bytes(SL_POLICY_DEFAULT, &small));
    const sl__policy_shape none = {.slots = 0, .layers = 3, .records = 0};
    assert_true(sl__policy_bytes(SL_POLICY_DEFAULT, &none) < 4096);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lru_goes_by_recency),
        cmocka_unit_test(test_default_goes_by_recency_before_a_note),
        cmocka_unit_test(test_ties_and_distance),
        cmocka_unit_test(test_random_calls),
        cmocka_unit_test(test_near_misses_are_kept),
        cmocka_unit_test(test_the_same_every_time),
        cmocka_unit_test(test_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
