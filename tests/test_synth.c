/* Synthetic models: the maths of the dials against brute force, rows in the encoded domain, whole
 * packs that open, route as the dials say, and come out the same however they are interrupted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/synth.h"
#include "golden.h"
#include "kern/kern.h"
#include "test_env.h"

static char dir[256];

/* dir/name; the result lives until the fourth call after. */
static const char *in_dir(const char *name)
{
    static char paths[4][512];
    static unsigned next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void must(sl_status status, const sl_error *err)
{
    if (status != SL_OK) fail_msg("%s: %s", sl_status_name(status), err->message);
}

static void write_synth(const char *name, const sl_synth_options *opt)
{
    sl_error err = {0};
    must(sl_synth(in_dir(name), opt, &err), &err);
}

/* ---- the maths of the dials ------------------------------------------------------------------ */

/* The k best of x, as flags. */
static void best(const double *x, unsigned count, unsigned k, bool *flags)
{
    memset(flags, 0, count * sizeof *flags);
    for (unsigned j = 0; j < k; j++) {
        unsigned at = count;
        for (unsigned i = 0; i < count; i++) {
            if (!flags[i] && (at == count || x[i] > x[at])) at = i;
        }
        flags[at] = true;
    }
}

/* How many of the k best agree between two rankings, by trying. */
static double tried_agreement(test_rng *rng, unsigned count, unsigned k, double c, unsigned tries)
{
    double x[256], y[256];
    bool a[256], b[256];
    unsigned right = 0;
    for (unsigned n = 0; n < tries; n++) {
        for (unsigned i = 0; i < count; i++) {
            x[i] = (double)test_rng_normal(rng);
            y[i] = c * x[i] + sqrt(1 - c * c) * (double)test_rng_normal(rng);
        }
        best(x, count, k, a);
        best(y, count, k, b);
        for (unsigned i = 0; i < count; i++)
            right += a[i] && b[i];
    }
    return (double)right / k / tries;
}

/* The formula takes a fixed threshold where there is a fixed number: about a point too much. */
static void agreement_is_what_trying_gives(void **state)
{
    (void)state;
    static const struct {
        unsigned count, k;
    } sizes[] = {{64, 4}, {128, 8}, {256, 8}};
    static const double correlations[] = {0, 0.3, 0.6, 0.8, 0.95};
    test_rng rng = {20};
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 5; j++) {
            unsigned count = sizes[i].count, k = sizes[i].k;
            double tried = tried_agreement(&rng, count, k, correlations[j], 1500);
            double got = sl__synth_agreement(correlations[j], (double)k / count);
            if (fabs(got - tried) > 0.035) {
                fail_msg("%u of %u at %g: %g, trying gives %g", k, count, correlations[j], got,
                         tried);
            }
        }
    }
}

static void correlation_inverts_agreement(void **state)
{
    (void)state;
    static const double shares[] = {10.0 / 512, 8.0 / 256, 1.0 / 16, 0.5};
    for (size_t i = 0; i < 4; i++) {
        assert_true(fabs(sl__synth_agreement(0, shares[i]) - shares[i]) < 1e-6);
        double last = shares[i];
        for (double c = 0.05; c < 0.99; c += 0.05) {
            double agreement = sl__synth_agreement(c, shares[i]);
            assert_true(agreement > last);
            last = agreement;
            assert_true(fabs(sl__synth_correlation(agreement, shares[i]) - c) < 1e-4);
        }
    }
}

/* ---- rows ------------------------------------------------------------------------------------ */

static const sl__dtype types[] = {SL_Q8, SL_Q4, SL_Q3, SL_Q2, SL_BF16, SL_F32};
#define TYPES (sizeof types / sizeof types[0])

static float *decode(sl__dtype type, const char *rows, uint32_t count, uint32_t cols)
{
    sl__kern kern;
    sl__kern_init(&kern, NULL);
    uint64_t row_bytes;
    assert_true(sl__dtype_row_bytes(type, cols, &row_bytes));
    float *out = malloc((size_t)count * cols * sizeof *out);
    assert_non_null(out);
    const sl__rows all = {.dtype = type, .data = rows, .row_bytes = (size_t)row_bytes};
    for (uint32_t r = 0; r < count; r++)
        kern.dequant_row(&all, r, out + (size_t)r * cols, cols);
    return out;
}

/* Mean and standard deviation of columns [from, to) of rows [first, last). */
static void check_part(sl__dtype type, const float *x, uint32_t cols, uint32_t first, uint32_t last,
                       uint32_t from, uint32_t to, double std)
{
    double sum = 0, squares = 0, n = (double)(last - first) * (to - from);
    for (uint32_t r = first; r < last; r++) {
        for (uint32_t c = from; c < to; c++) {
            double v = (double)x[(size_t)r * cols + c];
            sum += v;
            squares += v * v;
        }
    }
    double got = sqrt(squares / n);
    if (fabs(got - std) > 0.02 * std || fabs(sum / n) > 0.02 * std) {
        fail_msg("%s: std %g, mean %g; wanted %g", sl__dtype_name(type), got, sum / n, std);
    }
}

static void rows_have_their_spread(void **state)
{
    (void)state;
    enum { ROWS = 200, COLS = 192, TOPIC = 64 };
    const sl__synth_fill fill = {.std = 0.37, .zero_rows = 40, .topic_cols = TOPIC,
                                 .topic_std = 2.5e7};
    const sl__synth_dials dials = {.topics = 3, .topic_ids = 50};
    static char rows[ROWS * COLS * 4];
    for (size_t i = 0; i < TYPES; i++) {
        sl__synth_rng rng;
        sl__synth_rng_seed(&rng, 1, i);
        sl__synth_fill_matrix(&rng, &fill, &dials, 0, types[i], rows, 0, ROWS, COLS);
        float *x = decode(types[i], rows, ROWS, COLS);
        check_part(types[i], x, COLS, 0, 40, 0, COLS, 0);
        check_part(types[i], x, COLS, 40, ROWS, 0, TOPIC, 2.5e7);
        check_part(types[i], x, COLS, 40, ROWS, TOPIC, COLS, 0.37);
        free(x);
    }
}

/* Rows of one topic share their first columns, whatever the pieces they are written in. */
static void topics_are_shared_and_pieces_do_not_show(void **state)
{
    (void)state;
    enum { ROWS = 170, COLS = 128, TOPIC = 64 };
    const sl__synth_fill fill = {.std = 1, .topic_cols = TOPIC, .topic_std = 1, .by_topic = true};
    const sl__synth_dials dials = {.topics = 3, .topic_ids = 50};
    static char whole[ROWS * COLS * 4], parts[ROWS * COLS * 4];
    for (size_t i = 0; i < TYPES; i++) {
        uint64_t row_bytes, topic_bytes;
        assert_true(sl__dtype_row_bytes(types[i], COLS, &row_bytes));
        assert_true(sl__dtype_row_bytes(types[i], TOPIC, &topic_bytes));
        sl__synth_rng rng;
        sl__synth_rng_seed(&rng, 7, 7);
        sl__synth_fill_matrix(&rng, &fill, &dials, 9, types[i], whole, 0, ROWS, COLS);
        sl__synth_rng_seed(&rng, 7, 7);
        for (uint64_t r = 0; r < ROWS; r += 17)
            sl__synth_fill_matrix(&rng, &fill, &dials, 9, types[i], parts + r * row_bytes, r, 17,
                                  COLS);
        assert_memory_equal(whole, parts, ROWS * row_bytes);
        for (uint64_t r = 1; r < ROWS; r++) {
            const char *row = whole + r * row_bytes, *before = row - row_bytes;
            bool same = memcmp(row, before, topic_bytes) == 0;
            assert_int_equal(same, r != 50 && r != 100); /* 150 and on: still the last topic */
            assert_memory_not_equal(row + topic_bytes, before + topic_bytes, topic_bytes);
        }
    }
}

static void streams_differ(void **state)
{
    (void)state;
    char a[512], b[512];
    for (unsigned bit = 0; bit < 64; bit++) {
        sl__synth_rng x, y;
        sl__synth_rng_seed(&x, 0, 0);
        sl__synth_rng_seed(&y, bit % 2 ? 1ull << bit : 0, bit % 2 ? 0 : 1ull << bit);
        sl__synth_rng_bytes(&x, a, sizeof a);
        sl__synth_rng_bytes(&y, b, sizeof b);
        for (size_t i = 0; i < sizeof a; i += 8)
            assert_memory_not_equal(a + i, b + i, 8);
    }
}

/* ---- packs ----------------------------------------------------------------------------------- */

static void assert_same_file(const char *a, const char *b, const char *name, bool same)
{
    char path[2][600];
    size_t size[2];
    snprintf(path[0], sizeof path[0], "%s/%s", in_dir(a), name);
    snprintf(path[1], sizeof path[1], "%s/%s", in_dir(b), name);
    char *x = test_read_file(path[0], &size[0]), *y = test_read_file(path[1], &size[1]);
    bool equal = size[0] == size[1] && memcmp(x, y, size[0]) == 0;
    if (equal != same) fail_msg("%s of %s and %s: equal %d", name, a, b, (int)equal);
    free(x);
    free(y);
}

static const char *const pack_files[] = {"manifest.json", "resident.bin", "experts-000.bin",
                                         "experts-003.bin"};

static void remove_pack(const char *name) { test_remove_tree(in_dir(name)); }

static void same_options_same_bytes(void **state)
{
    (void)state;
    const sl_synth_options opt = {.like = "tiny"}, other = {.like = "tiny", .seed = 1};
    write_synth("a", &opt);
    write_synth("b", &opt);
    write_synth("c", &other);
    for (size_t i = 0; i < 4; i++) {
        assert_same_file("a", "b", pack_files[i], true);
        assert_same_file("a", "c", pack_files[i], false);
    }
    assert_same_file("a", "c", "experts-001.bin", false);
    remove_pack("b");
    remove_pack("c");
    remove_pack("a");
}

/* No two pages of a layer are alike: nothing that stores a block once can make it smaller. */
static void every_page_differs(void **state)
{
    (void)state;
    const sl_synth_options opt = {.like = "tiny", .layers = 1, .experts = "q2"};
    write_synth("a", &opt);
    char path[600];
    size_t size;
    snprintf(path, sizeof path, "%s/experts-000.bin", in_dir("a"));
    char *data = test_read_file(path, &size);
    for (size_t i = 0; i + 4096 <= size; i += 4096) {
        for (size_t j = 0; j < i; j += 4096)
            assert_memory_not_equal(data + i, data + j, 4096);
    }
    free(data);
    remove_pack("a");
}

struct stopping {
    unsigned calls, stop_at;
    sl_pack_progress last;
};

static sl_status stop_there(void *ctx, const sl_pack_progress *progress)
{
    struct stopping *s = ctx;
    s->last = *progress;
    return ++s->calls == s->stop_at ? SL_ECANCELLED : SL_OK;
}

static void stopped_anywhere_it_resumes(void **state)
{
    (void)state;
    struct stopping stop = {0};
    sl_synth_options opt = {.like = "tiny-qwen3", .layers = 2, .progress = stop_there,
                            .progress_ctx = &stop};
    write_synth("whole", &opt);
    unsigned all = stop.calls;
    assert_true(all > 100);
    assert_true(stop.last.done_bytes <= stop.last.total_bytes);
    assert_int_equal(stop.last.total_bytes, sl_synth_bytes(&opt));
    for (unsigned at = 1; at <= all; at += test_fast() ? 61 : 17) {
        sl_error err = {0};
        stop = (struct stopping){.stop_at = at};
        assert_int_equal(sl_synth(in_dir("part"), &opt, &err), SL_ECANCELLED);
        assert_non_null(strstr(err.message, "stopped"));
        assert_int_not_equal(access(in_dir("part"), F_OK), 0);
        stop.stop_at = 0;
        write_synth("part", &opt);
        for (size_t i = 0; i < 3; i++)
            assert_same_file("whole", "part", pack_files[i], true);
        assert_int_not_equal(access(in_dir("part.partial"), F_OK), 0);
        remove_pack("part");
    }
    remove_pack("whole");
}

static void a_resume_needs_the_same_options(void **state)
{
    (void)state;
    sl_error err = {0};
    struct stopping stop = {.stop_at = 100};
    sl_synth_options opt = {.like = "tiny", .progress = stop_there, .progress_ctx = &stop};
    assert_int_equal(sl_synth(in_dir("part"), &opt, &err), SL_ECANCELLED);
    sl_error_clear(&err);
    opt.overlap = 0.3;
    assert_int_equal(sl_synth(in_dir("part"), &opt, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "part.partial"));
    remove_pack("part.partial");
}

/* ---- running --------------------------------------------------------------------------------- */

static void every_type_opens_and_runs(void **state)
{
    (void)state;
    static const char *const names[] = {"bf16", "q8", "q4", "q3", "q2"};
    for (size_t i = 0; i < 5; i++) {
        const sl_synth_options opt = {.like = i % 2 ? "tiny" : "tiny-qwen3", .experts = names[i],
                                      .resident = names[4 - i]};
        write_synth("a", &opt);
        sl_engine *engine = golden_open(in_dir("a"), NULL);
        sl_session *session = golden_session(engine);
        sl_engine_info info;
        sl_engine_info_get(engine, &info);
        assert_true(info.synthetic);
        assert_string_equal(info.expert_types, names[i]);
        assert_null(sl_engine_tokenizer(engine));
        int32_t ids[100];
        for (int32_t t = 0; t < 100; t++)
            ids[t] = t * 37 % 4096;
        float *logits = golden_run(session, ids, 100);
        for (size_t j = 0; j < (size_t)100 * info.vocab_size; j++)
            assert_true(isfinite(logits[j]));
        free(logits);
        sl_session_destroy(session);
        sl_engine_close(engine);
        remove_pack("a");
    }
}

static sl_routing_measured measure(const char *path, uint32_t tokens)
{
    sl_error err = {0};
    const sl_engine_options opt = {.context_tokens = tokens};
    sl_engine *engine = golden_open(path, &opt);
    sl_session *session = golden_session(engine);
    sl_routing_measured got, again;
    must(sl_measure_routing(session, tokens, &got, &err), &err);
    assert_int_equal(sl_session_position(session), tokens);
    if (!test_fast()) { /* what was measured before leaves no trace */
        must(sl_measure_routing(session, tokens, &again, &err), &err);
        assert_memory_equal(&got, &again, sizeof got);
    }
    sl_session_destroy(session);
    sl_engine_close(engine);
    return got;
}

static void check_dials(const sl_synth_options *opt, double overlap, double predictable)
{
    uint32_t tokens = test_fast() ? 200 : 500;
    write_synth("a", opt);
    sl_routing_measured got = measure(in_dir("a"), tokens);
    printf("%s: overlap %.3f (%.3f), predictable %.3f (%.3f)\n", opt->like, got.overlap, overlap,
           got.predictable, predictable);
    assert_int_equal(got.tokens, tokens);
    assert_true(fabs(got.overlap - overlap) < 0.08);
    assert_true(fabs(got.predictable - predictable) < 0.08);
    remove_pack("a");
}

static void dials_are_what_is_measured(void **state)
{
    (void)state;
    static const double settings[][2] = {{0.10, 0.55}, {0.25, 0.70}, {0.41, 0.84}};
    static const char *const shapes[] = {"tiny", "tiny-qwen3"};
    for (size_t i = 0; i < 6; i++) {
        const double *dial = settings[i / 2];
        const sl_synth_options opt = {.like = shapes[i % 2], .overlap = dial[0],
                                      .predictable = dial[1], .seed = 5};
        check_dials(&opt, dial[0], dial[1]);
    }
}

static void uniform_tokens_choose_anew(void **state)
{
    (void)state;
    sl_model_info info;
    sl_error err = {0};
    const sl_synth_options opt = {.like = "tiny", .uniform = true, .overlap = 17};
    check_dials(&opt, 4.0 / 64, 0.70);
    write_synth("a", &opt);
    must(sl_model_inspect(in_dir("a"), &info, &err), &err);
    assert_true(info.synthetic && info.synthetic_uniform);
    assert_true(fabs(info.synthetic_overlap - 4.0 / 64) < 1e-9);
    assert_true(fabs(info.synthetic_predictable - 0.70) < 1e-9);
    remove_pack("a");
    must(sl_model_inspect("data/qwen3_5_moe_text", &info, &err), &err);
    assert_false(info.synthetic);
}

/* The stream grows to the bound that holds for the deepest models. */
static void a_stream_that_grows_stays_finite(void **state)
{
    (void)state;
    const sl_synth_options opt = {.like = "tiny", .overlap = 0.20, .predictable = 0.37};
    check_dials(&opt, 0.20, 0.37);
}

/* ---- what goes wrong ------------------------------------------------------------------------- */

static void expect(const sl_synth_options *opt, const char *message)
{
    sl_error err = {0};
    assert_int_equal(sl_synth(in_dir("bad"), opt, &err), SL_EINVAL);
    if (!strstr(err.message, message)) fail_msg("'%s', not '%s'", err.message, message);
    assert_int_equal(sl_synth_bytes(opt), 0);
    assert_int_not_equal(access(in_dir("bad"), F_OK), 0);
    assert_int_not_equal(access(in_dir("bad.partial"), F_OK), 0);
}

static void bad_options_say_what_is_possible(void **state)
{
    (void)state;
    expect(&(sl_synth_options){0}, "like: nothing is not one of qwen3.5-397b, ");
    expect(&(sl_synth_options){.like = "tinny"}, "like: tinny is not one of qwen3.5-397b, ");
    expect(&(sl_synth_options){.like = "tiny", .layers = 5}, "layers: 5, and tiny has 4");
    expect(&(sl_synth_options){.like = "tiny", .experts = "f32"}, "experts: f32 is not one of ");
    expect(&(sl_synth_options){.like = "tiny", .resident = "x"}, "resident: x is not one of bf16");
    static const double overlaps[] = {-0.1, 0.05, 0.9, 1, 17, (double)NAN, (double)INFINITY};
    for (size_t i = 0; i < 7; i++)
        expect(&(sl_synth_options){.like = "tiny", .overlap = overlaps[i]},
               ": it can be from above 0.062 (tokens that choose anew) to 0.");
    static const double predictions[] = {-0.1, 0.2, 1, 17, (double)NAN, -(double)INFINITY};
    for (size_t i = 0; i < 6; i++)
        expect(&(sl_synth_options){.like = "tiny", .predictable = predictions[i]},
               ": with 4 layers and an overlap of 0.25 it can be from 0.");
}

static void places_that_cannot_be_written(void **state)
{
    (void)state;
    sl_error err = {0};
    const sl_synth_options opt = {.like = "tiny"};
    assert_int_equal(sl_synth(dir, &opt, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "is already there"));
    sl_error_clear(&err);
    assert_int_equal(sl_synth(in_dir("none/a"), &opt, &err), SL_EIO);
    assert_non_null(strstr(err.message, "none/a"));
}

static void every_shape_has_a_size(void **state)
{
    (void)state;
    uint64_t largest = 0;
    for (const char *const *name = sl_synth_shapes(); *name; name++) {
        sl_synth_options opt = {.like = *name};
        uint64_t whole = sl_synth_bytes(&opt);
        opt.layers = 1;
        uint64_t one = sl_synth_bytes(&opt);
        assert_true(one > 0 && one < whole);
        if (whole > largest) largest = whole;
    }
    /* 397 billion parameters: 386.5 of them in experts at 4.5 bits, the rest at 8.5 and 16. */
    assert_true(largest > (uint64_t)226 * 1000000000 && largest < (uint64_t)230 * 1000000000);
}

static void measuring_needs_tokens_and_experts(void **state)
{
    (void)state;
    sl_error err = {0};
    sl_routing_measured got;
    const sl_engine_options opt = {.context_tokens = 64};
    sl_engine *engine = golden_open("data/qwen3_5_moe_text", &opt);
    sl_session *session = golden_session(engine);
    static const uint32_t counts[] = {0, 1, 65};
    for (size_t i = 0; i < 3; i++) {
        sl_error_clear(&err);
        assert_int_equal(sl_measure_routing(session, counts[i], &got, &err), SL_EINVAL);
        assert_non_null(strstr(err.message, "2 to 64 tokens"));
    }
    sl_error_clear(&err);
    must(sl_measure_routing(session, 64, &got, &err), &err);
    assert_true(got.overlap > 0 && got.overlap <= 1);
    assert_true(got.predictable > 0 && got.predictable <= 1);
    sl_session_destroy(session);
    sl_engine_close(engine);

    const sl_synth_options one = {.like = "tiny", .layers = 1};
    write_synth("a", &one);
    assert_true(isnan(measure(in_dir("a"), 8).predictable));
    remove_pack("a");
}

static int make_dir(void **state)
{
    (void)state;
    test_temp_dir(dir, sizeof dir);
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    test_remove_tree(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agreement_is_what_trying_gives),
        cmocka_unit_test(correlation_inverts_agreement),
        cmocka_unit_test(rows_have_their_spread),
        cmocka_unit_test(topics_are_shared_and_pieces_do_not_show),
        cmocka_unit_test(streams_differ),
        cmocka_unit_test(same_options_same_bytes),
        cmocka_unit_test(every_page_differs),
        cmocka_unit_test(stopped_anywhere_it_resumes),
        cmocka_unit_test(a_resume_needs_the_same_options),
        cmocka_unit_test(every_type_opens_and_runs),
        cmocka_unit_test(dials_are_what_is_measured),
        cmocka_unit_test(uniform_tokens_choose_anew),
        cmocka_unit_test(a_stream_that_grows_stays_finite),
        cmocka_unit_test(bad_options_say_what_is_possible),
        cmocka_unit_test(places_that_cannot_be_written),
        cmocka_unit_test(every_shape_has_a_size),
        cmocka_unit_test(measuring_needs_tokens_and_experts),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
