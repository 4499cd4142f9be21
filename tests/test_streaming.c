/* Where a weight lies decides speed, never the answer: the demo pack runs with every I/O engine,
 * with direct reads and without, reading ahead or not, with a cache that holds everything or few
 * experts, on one thread or several, and every logit is the same to the bit: token by token and in
 * chunks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "io/io.h"
#include "test_env.h"

#define TOKENS 200u
#define STEPS 24u /* of those, one at a time at the end */

static char model[1024];
static int32_t ids[TOKENS];

/* The logits of the chunk's tokens and of the single ones, [TOKENS, vocab]; malloc'd. */
struct rows {
    float *logits;
    size_t vocab;
};

static sl_status keep(void *ctx, size_t first, size_t count, const float *logits)
{
    struct rows *rows = ctx;
    memcpy(rows->logits + first * rows->vocab, logits, count * rows->vocab * sizeof *logits);
    return SL_OK;
}

static float *run_session(sl_session *session, size_t vocab)
{
    sl_error err = {0};
    struct rows rows = {malloc(TOKENS * vocab * sizeof(float)), vocab};
    assert_non_null(rows.logits);
    sl_session_reset(session);
    sl_status status = sl_session_eval(session, ids, TOKENS - STEPS, NULL, keep, &rows, &err);
    for (size_t t = TOKENS - STEPS; t < TOKENS && status == SL_OK; t++) {
        status = sl_session_eval(session, &ids[t], 1, rows.logits + t * vocab, NULL, NULL, &err);
    }
    if (status != SL_OK) fail_msg("%s", err.message);
    return rows.logits;
}

static size_t vocab_of(const sl_engine *engine)
{
    sl_engine_info info;
    sl_engine_info_get(engine, &info);
    return info.vocab_size;
}

/* Twice, cold and warm, against `want` (NULL: nothing yet); returns the logits of the second. */
static float *run_with(const sl_engine_options *opt, const float *want, sl_stats *stats)
{
    sl_engine *engine = golden_open(model, opt);
    sl_session *session = golden_session(engine);
    size_t bytes = TOKENS * vocab_of(engine) * sizeof(float);
    float *cold = run_session(session, vocab_of(engine));
    float *warm = run_session(session, vocab_of(engine));
    assert_memory_equal(cold, warm, bytes);
    if (want) assert_memory_equal(warm, want, bytes);
    sl_engine_stats_get(engine, stats);
    free(cold);
    sl_session_destroy(session);
    sl_engine_close(engine);
    return warm;
}

static void print_outcome(const sl_engine_options *opt, const sl_stats *s)
{
    printf("%-5s direct %d prefetch %d threads %u cache %7llu: hits %6llu of %llu, ahead %llu "
           "useful %llu late %llu wasted\n", sl_io_kind_name(opt->io), (int)opt->direct,
           (int)opt->prefetch, opt->threads, (unsigned long long)opt->cache_bytes,
           (unsigned long long)s->expert_hits, (unsigned long long)s->expert_requests,
           (unsigned long long)s->prefetch_useful, (unsigned long long)s->prefetch_late,
           (unsigned long long)s->prefetch_wasted);
}

/* Whether a way of reading is to be had here; says so where it is not. */
static bool possible(const sl_engine_options *opt)
{
    sl_engine *engine;
    sl_error err = {0};
    sl_status status = sl_engine_open(&engine, model, opt, &err);
    if (status == SL_OK) {
        sl_engine_close(engine);
        return true;
    }
    if (status != SL_EUNSUPPORTED) fail_msg("%s", err.message);
    printf("left out: %s\n", err.message);
    return false;
}

static void no_setting_changes_a_bit(void **state)
{
    (void)state;
    static const sl_io_kind kinds[] = {SL_IO_KIND_PREAD, SL_IO_KIND_URING, SL_IO_KIND_MMAP};
    static const uint64_t caches[] = {0, 300000, 2u << 20};
    static const sl_switch switches[] = {SL_ON, SL_OFF, SL_AUTO};
    sl_stats stats;
    const sl_engine_options plain = {.io = SL_IO_KIND_PREAD, .direct = SL_OFF,
                                     .prefetch = SL_OFF, .threads = 1, .context_tokens = 256};
    float *want = run_with(&plain, NULL, &stats);
    for (unsigned i = 0; i < 3 * 3 * 3; i++) {
        sl_engine_options opt = plain;
        opt.io = kinds[i / 9];
        opt.cache_bytes = caches[i % 3];
        opt.prefetch = switches[i / 3 % 3];
        opt.direct = i % 2 ? SL_ON : SL_OFF;
        opt.threads = 1 + i % 3;
        opt.chunk_tokens = 64u << i % 2;
        if (opt.io == SL_IO_KIND_MMAP) opt.direct = SL_OFF;
        if (test_fast() && i % 4 != 1) continue;
        if (!possible(&opt)) continue;
        free(run_with(&opt, want, &stats));
        print_outcome(&opt, &stats);
    }
    free(want);
}

/* When all is settled, what was read ahead was useful, late or wasted. */
static void what_was_read_ahead_is_accounted_for(void **state)
{
    (void)state;
    sl_stats s;
    const sl_engine_options opt = {.io = SL_IO_KIND_PREAD, .direct = SL_OFF, .prefetch = SL_ON,
                                   .cache_bytes = 2u << 20, .context_tokens = 256};
    free(run_with(&opt, NULL, &s));
    assert_true(s.prefetch_reads > 0 && s.predicted > 0 && s.predicted_right <= s.predicted);
    uint64_t settled = s.prefetch_useful + s.prefetch_late + s.prefetch_wasted;
    assert_true(settled <= s.prefetch_reads);
    assert_true(s.bytes_missing <= s.bytes_needed);
    assert_true(s.bytes_read >= s.bytes_missing);
    printf("%llu of %llu predictions right\n", (unsigned long long)s.predicted_right,
           (unsigned long long)s.predicted);
}

int main(void)
{
    if (!golden_demo_pack(model, sizeof model)) return TEST_SKIPPED;
    for (uint32_t i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)((i * 2654435761u >> 8) % 8000 + 20);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_setting_changes_a_bit),
        cmocka_unit_test(what_was_read_ahead_is_accounted_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
