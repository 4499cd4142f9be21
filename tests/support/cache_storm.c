#include "cache_storm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define IDS_MAX 128u

typedef struct storm {
    cache_bed *b;
    const cache_storm_options *opt;
    test_rng rng;
    cache_storm_tally tally;
    uint64_t asked, needed;
    /* The request to come. */
    uint32_t layer, n, ids[IDS_MAX];
    bool scan;
    sl__expert_ref held[IDS_MAX];
    uint32_t held_count;
} storm;

static bool chance(storm *s, unsigned of_1000)
{
    return test_rng_below(&s->rng, 1000) < of_1000;
}

/* n of `all`, increasing where it is a scan; low ids are popular. */
static void choose(storm *s, uint32_t all)
{
    bool taken[IDS_MAX] = {false};
    uint32_t most = s->scan ? all : all < 8 ? all : 8;
    s->n = 1 + test_rng_below(&s->rng, most);
    for (uint32_t i = 0; i < s->n;) {
        uint32_t a = test_rng_below(&s->rng, all), c = test_rng_below(&s->rng, all);
        uint32_t id = a < c ? a : c;
        if (taken[id]) id = a;
        if (taken[id]) continue;
        taken[id] = true;
        s->ids[i++] = id;
    }
    uint32_t n = 0;
    for (uint32_t id = 0; id < all && s->scan; id++) {
        if (taken[id]) s->ids[n++] = id;
    }
}

static void foresee(storm *s)
{
    do {
        s->layer = chance(s, 950) ? (s->layer + 1) % s->b->layer_count
                                  : test_rng_below(&s->rng, s->b->layer_count);
    } while (s->b->layers[s->layer].experts == 0);
    s->scan = chance(s, s->opt->scans);
    choose(s, s->b->layers[s->layer].experts);
}

/* A prediction of the request to come, partly wrong, at times of another kind or out of range. */
static sl__guess guess_of(storm *s, bool scan)
{
    if (scan) return SL_GUESS_SCAN;
    return chance(s, 500) ? SL_GUESS_NEAR : SL_GUESS_AHEAD;
}

static void predict(storm *s)
{
    uint32_t ids[IDS_MAX], all = s->b->layers[s->layer].experts;
    for (uint32_t i = 0; i < s->n; i++)
        ids[i] = chance(s, s->opt->right) ? s->ids[i] : test_rng_below(&s->rng, all);
    if (chance(s, 10)) ids[s->n - 1] = all;
    s->tally.predictions++;
    sl__cache_predict(s->b->cache, s->layer, ids, s->n, 1 + test_rng_below(&s->rng, s->n),
                      guess_of(s, chance(s, 990) ? s->scan : !s->scan));
}

static void give_back(storm *s, sl__ticket *t, uint32_t layer)
{
    uint32_t at = test_rng_below(&s->rng, s->held_count);
    /* What is pinned does not change under the caller. */
    assert_true(fake_store_matches(s->b->store, layer, s->held[at].expert, s->held[at].record));
    sl__cache_release(s->b->cache, t, &s->held[at]);
    s->held[at] = s->held[--s->held_count];
}

/* Whether the ticket goes on. */
static bool step(storm *s, sl__ticket *t, uint32_t layer, const uint32_t *ids, bool *given,
                 uint32_t *out)
{
    cache_bed *b = s->b;
    sl__expert_ref ref;
    bool wait = chance(s, 700), got;
    sl_error_clear(&b->err);
    sl_status status = sl__cache_next(b->cache, t, wait, &ref, &got, &b->err);
    if (status == SL_EINVAL) { /* all slots in our hands: give one back */
        assert_int_equal(s->held_count, sl__cache_slots(b->cache));
        give_back(s, t, layer);
        return true;
    }
    if (status != SL_OK) {
        assert_true(s->opt->faults && status == SL_EIO);
        assert_non_null(strstr(b->err.message, "read failed: Input/output error"));
        s->tally.errors++;
        return false;
    }
    if (!got && !wait) return true;
    if (!got) {
        assert_int_equal(*out, t->count);
        return false;
    }
    assert_int_equal(ref.expert, ids[ref.index]);
    assert_false(given[ref.index]);
    assert_true(fake_store_matches(b->store, layer, ref.expert, ref.record));
    for (uint32_t i = 0; i < s->held_count; i++)
        assert_int_not_equal(s->held[i].slot, ref.slot);
    given[ref.index] = true;
    s->held[s->held_count++] = ref;
    (*out)++;
    return true;
}

static void request(storm *s)
{
    bool given[IDS_MAX] = {false}, early = s->opt->faults && chance(s, 100), scan = s->scan;
    uint32_t layer = s->layer, n = s->n, ids[IDS_MAX], out = 0;
    uint32_t hands = 1 + test_rng_below(&s->rng, 12);
    unsigned when = test_rng_below(&s->rng, 5); /* the next layer is predicted */
    memcpy(ids, s->ids, sizeof ids);
    foresee(s);
    if (when == 0) predict(s);
    sl__ticket *t = cache_bed_request(s->b, layer, ids, n, scan);
    if (when == 1) predict(s);
    s->asked += n;
    s->needed += n * fake_store_disk_bytes(s->b->store, layer);
    s->tally.scans += scan;
    s->held_count = 0;
    do {
        if (early && chance(s, 250)) {
            s->tally.early++;
            break;
        }
        while (s->held_count >= hands)
            give_back(s, t, layer);
        if (when == 2 && chance(s, 200)) predict(s);
        if (s->held_count > 0 && chance(s, 500)) give_back(s, t, layer);
    } while (step(s, t, layer, ids, given, &out));
    while (s->held_count > 0 && chance(s, 700))
        give_back(s, t, layer);
    sl__cache_end(s->b->cache, t);
    if (when == 3) predict(s);
}

static void check(storm *s)
{
    sl__cache_stats st = cache_bed_stats(s->b);
    assert_int_equal(st.requests, s->asked);
    assert_int_equal(st.bytes_needed, s->needed);
}

cache_storm_tally cache_storm_run(cache_bed *b, const cache_storm_options *opt)
{
    storm s = {.b = b, .opt = opt, .rng = {opt->seed}};
    foresee(&s);
    while (s.asked < opt->requests) {
        request(&s);
        s.tally.tickets++;
        check(&s);
        if (chance(&s, 20)) cache_bed_quiet(b);
        if (chance(&s, 2)) cache_bed_settle(b);
    }
    sl__cache_stats st = cache_bed_settle(b);
    /* Where nothing fails and nothing is given up, every byte is accounted for. */
    if (!opt->faults) assert_int_equal(st.bytes_read, st.bytes_missing + st.prefetch_wasted_bytes);
    s.tally.requests = s.asked;
    return s.tally;
}
