/* Packing in every type that can be asked for: what the pack holds, how near its answers are, which
 * types stand in for others, what is said before anything is written, and packs that are killed.
 *
 * The model is a synthetic one: rows of 256 and, in experts' down matrices, of 64, so that types of
 * GGUF with blocks of 256 fit the ones and not the others. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "golden.h"
#include "test_env.h"

#define TOKENS 70u

static char temp[512];
static float *truth; /* [TOKENS, vocab] of the model in bf16 */
static size_t logit_count;

/* ---- a small disk, where a test asks for one ------------------------------------------------- */

static uint64_t free_bytes; /* 0: the true figure */

sl_status __real_sl__file_free_bytes(const char *path, uint64_t *out, sl_error *err);
sl_status __wrap_sl__file_free_bytes(const char *path, uint64_t *out, sl_error *err);

sl_status __wrap_sl__file_free_bytes(const char *path, uint64_t *out, sl_error *err)
{
    sl_status status = __real_sl__file_free_bytes(path, out, err);
    if (status == SL_OK && free_bytes > 0) *out = free_bytes;
    return status;
}

/* ---- the model ------------------------------------------------------------------------------- */

static const char *at(const char *name)
{
    static char paths[8][1024];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, 1024, "%s/%s", temp, name);
    return path;
}

static float *logits_of(const char *path)
{
    int32_t ids[TOKENS];
    uint32_t vocab;
    for (unsigned i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(i * 37 % 4000);
    float *logits = golden_run_with(path, NULL, ids, TOKENS, &vocab);
    logit_count = (size_t)TOKENS * vocab;
    return logits;
}

static int make_model(void **state)
{
    (void)state;
    sl_error err = {0};
    const sl_synth_options opt = {.like = "tiny-qwen3", .layers = 2, .experts = "bf16",
                                  .resident = "bf16", .seed = 3};
    test_temp_dir(temp, sizeof temp);
    if (sl_synth(at("model"), &opt, &err) != SL_OK) fail_msg("%s", err.message);
    truth = logits_of(at("model"));
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    free(truth);
    test_remove_tree(temp);
    return 0;
}

static void pack(const char *dst, const sl_pack_options *opt)
{
    sl_error err = {0};
    if (sl_pack(at("model"), at(dst), opt, &err) != SL_OK) fail_msg("%s", err.message);
}

/* ---- types ----------------------------------------------------------------------------------- */

/* error: of the logits, against those in bf16. wide: what matrices of 64 columns get. */
static const struct target {
    const char *name, *wide;
    double error;
} targets[] = {
    {"f32", "f32", 0},       {"f16", "f16", 1e-6},     {"bf16", "bf16", 0},
    {"q8", "q8", 0.01},      {"q4", "q4", 0.18},       {"q3", "q3", 0.3},
    {"q2", "q2", 0.5},       {"q8_0", "q8_0", 0.009},  {"q5_1", "q5_1", 0.1},
    {"q5_0", "q5_0", 0.12},  {"q4_1", "q4_1", 0.17},   {"q4_0", "q4_0", 0.2},
    {"q6_k", "q8", 0.05},    {"q5_k", "q8", 0.1},      {"q4_k", "q4", 0.17},
    {"q3_k", "q3", 0.3},     {"q2_k", "q2", 0.48},     {"iq4_nl", "iq4_nl", 0.2},
    {"iq4_xs", "q4", 0.2},   {"mxfp4", "mxfp4_block", 0.3},
};
#define TARGETS (sizeof targets / sizeof targets[0])

static bool stands_in(const struct target *t)
{
    return strcmp(t->name, t->wide) != 0 && strcmp(t->name, "mxfp4") != 0;
}

static void check_report(const struct target *t, const sl_pack_report *report)
{
    bool exact = strcmp(t->name, "f32") == 0 || strcmp(t->name, "bf16") == 0;
    assert_int_equal(report->lossy, !exact);
    assert_int_equal(report->substitute_count, stands_in(t) ? 1 : 0);
    assert_string_equal(report->parts[0].name, "experts");
    assert_string_equal(report->parts[0].from, "bf16");
    assert_non_null(strstr(report->parts[0].to, t->wide));
    if (!stands_in(t)) return;
    assert_string_equal(report->substitutes[0].wanted, t->name);
    assert_string_equal(report->substitutes[0].taken, t->wide);
    assert_int_equal(report->substitutes[0].matrices, 2); /* a layer */
    assert_string_equal(report->substitutes[0].first, "layer 0, down of its experts");
}

static void every_type(void **state)
{
    (void)state;
    for (size_t i = 0; i < TARGETS; i++) {
        const struct target *t = &targets[i];
        if (test_fast() && i % 7 != 2) continue;
        sl_pack_report report;
        const sl_pack_options opt = {.experts = t->name, .resident = t->name, .verify = true,
                                     .report = &report, .threads = 1 + (uint32_t)(i % 3)};
        pack("typed", &opt);
        check_report(t, &report);
        float *got = logits_of(at("typed"));
        double error = golden_relative(got, truth, logit_count);
        printf("%s: off by %.2g\n", t->name, error);
        assert_true(error <= t->error);
        free(got);
        sl_model_info info;
        sl_error err = {0};
        assert_int_equal(sl_model_inspect(at("typed"), &info, &err), SL_OK);
        assert_non_null(strstr(info.expert_types, t->wide));
        assert_true(report.parts[1].to_bytes == info.embedding_bytes);
        test_remove_tree(at("typed"));
    }
}

static void parts_of_experts_may_differ(void **state)
{
    (void)state;
    sl_pack_report report;
    const sl_pack_options opt = {.experts = "down=q8,gate=q4_k", .report = &report};
    pack("parts", &opt);
    assert_string_equal(report.parts[0].to, "q4_k, bf16, q8");
    assert_true(report.parts[0].lossy && !report.parts[2].lossy && report.lossy);
    float *got = logits_of(at("parts"));
    assert_true(golden_relative(got, truth, logit_count) <= 0.17);
    free(got);
    test_remove_tree(at("parts"));
}

/* The threads decide nothing. */
static void threads_change_no_byte(void **state)
{
    (void)state;
    char command[2200];
    sl_pack_options opt = {.experts = "q4_k", .resident = "q6_k", .threads = 1};
    pack("one", &opt);
    opt.threads = 5;
    pack("five", &opt);
    snprintf(command, sizeof command, "diff -r '%s' '%s'", at("one"), at("five"));
    assert_int_equal(system(command), 0);
    test_remove_tree(at("five"));
}

/* Nor does it matter how many buffers there are. */
static void memory_changes_no_byte(void **state)
{
    (void)state;
    char command[2200];
    const sl_pack_options opt = {.experts = "q4_k", .resident = "q6_k", .memory_bytes = 1};
    pack("tight", &opt);
    snprintf(command, sizeof command, "diff -r '%s' '%s'", at("one"), at("tight"));
    assert_int_equal(system(command), 0);
    test_remove_tree(at("tight"));
}

static void wrong_types_are_told(void **state)
{
    (void)state;
    static const struct {
        const char *experts, *resident, *says;
    } rows[] = {
        {"q5", NULL, "experts: q5 is not one of keep, f32, f16, bf16, q8, q4, q3, q2, q4_0"},
        {"iq2_xs", NULL, "experts: iq2_xs is not one of keep"},
        {"", NULL, "experts:  is not one of keep"},
        {"keep", "i8", "resident: i8 is not one of keep"},
        {"keep", "gate=q4", "resident: gate=q4 is not one of keep"},
        {"gate=q4,q8", NULL, "experts: \"q8\" names none of gate=, up=, down="},
        {"gate=q4,side=q8", NULL, "\"side=q8\" names none of"},
        {"gate=", NULL, "experts:  is not one of keep"},
        {"a type that is much longer than any name of one could be", NULL, "experts: a type"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        sl_error err = {0};
        const sl_pack_options opt = {.experts = rows[i].experts, .resident = rows[i].resident};
        assert_int_equal(sl_pack(at("model"), at("never"), &opt, &err), SL_EINVAL);
        if (!strstr(err.message, rows[i].says)) fail_msg("%s", err.message);
        assert_int_not_equal(access(at("never.partial"), F_OK), 0);
    }
}

/* ---- before anything is written -------------------------------------------------------------- */

static unsigned entries_of(const char *path)
{
    DIR *dir = opendir(path);
    unsigned count = 0;
    assert_non_null(dir);
    while (readdir(dir)) count++;
    closedir(dir);
    return count;
}

static void a_dry_run_touches_nothing(void **state)
{
    (void)state;
    sl_pack_report dry, wet;
    sl_pack_options opt = {.experts = "q4_k", .resident = "q8", .dry_run = true, .report = &dry};
    unsigned before = entries_of(temp), inside = entries_of(at("model"));
    pack("dry", &opt);
    assert_int_equal(entries_of(temp), before);
    assert_int_equal(entries_of(at("model")), inside);
    opt.dry_run = false;
    opt.report = &wet;
    pack("wet", &opt);
    assert_int_equal(dry.disk_bytes, wet.disk_bytes);
    for (size_t i = 0; i < SL_PACK_PARTS; i++) {
        assert_int_equal(dry.parts[i].from_bytes, wet.parts[i].from_bytes);
        assert_int_equal(dry.parts[i].to_bytes, wet.parts[i].to_bytes);
        assert_string_equal(dry.parts[i].to, wet.parts[i].to);
    }
    assert_true(dry.seconds > 0 && dry.convert_bytes_per_s > 0 && dry.free_bytes > 0);
    assert_int_equal(dry.from_expert_reads, 1); /* the source is a pack itself */
    assert_true(dry.read_bytes == wet.read_bytes);
    test_remove_tree(at("wet"));
}

static void too_little_room_is_told_first(void **state)
{
    (void)state;
    sl_error err = {0};
    sl_pack_options opt = {.experts = "q4"};
    free_bytes = 100000;
    sl_status status = sl_pack(at("model"), at("small"), &opt, &err);
    free_bytes = 0;
    assert_int_equal(status, SL_EIO);
    assert_non_null(strstr(err.message, "small: 0.0"));
    assert_non_null(strstr(err.message, "GiB are to be written, and its file system has 0.00 GiB"));
    assert_int_not_equal(access(at("small.partial"), F_OK), 0);
    pack("small", &opt);
    test_remove_tree(at("small"));
}

static sl_status count_item(void *ctx, const sl_pack_progress *progress)
{
    (void)progress;
    ++*(unsigned *)ctx;
    return SL_OK;
}

/* What cannot be packed is told before hours are spent on what can. */
static void a_bad_tokenizer_is_told_first(void **state)
{
    (void)state;
    unsigned items = 0;
    sl_pack_options opt = {.progress = count_item, .progress_ctx = &items};
    test_write_file(at("model/tokenizer.json"), "{}", 2);
    for (int dry = 0; dry < 2; dry++) {
        sl_error err = {0};
        opt.dry_run = dry;
        assert_int_not_equal(sl_pack(at("model"), at("bad"), &opt, &err), SL_OK);
        assert_non_null(strstr(err.message, "tokenizer.json"));
        assert_int_equal(items, 0);
        assert_int_not_equal(access(at("bad.partial"), F_OK), 0);
    }
    assert_int_equal(unlink(at("model/tokenizer.json")), 0);
}

/* ---- killed ---------------------------------------------------------------------------------- */

static sl_status die_at(void *ctx, const sl_pack_progress *progress)
{
    unsigned *left = ctx;
    (void)progress;
    if ((*left)-- == 0) raise(SIGKILL);
    return SL_OK;
}

/* Killed at random items again and again, a pack still comes out as in one go. */
static void killed_and_resumed(void **state)
{
    (void)state;
    test_rng rng = {11};
    char command[2200];
    for (unsigned round = 0; round < (test_fast() ? 1u : 3u); round++) {
        unsigned kills = 0;
        for (bool done = false; !done;) {
            pid_t child = fork();
            assert_true(child >= 0);
            if (child == 0) {
                unsigned left = 5 + test_rng_below(&rng, 100) + 40 * kills;
                const sl_pack_options opt = {.experts = "q4_k", .resident = "q6_k", .threads = 2,
                                             .progress = die_at, .progress_ctx = &left};
                _exit(sl_pack(at("model"), at("killed"), &opt, NULL) == SL_OK ? 0 : 1);
            }
            int how;
            assert_true(waitpid(child, &how, 0) == child);
            done = WIFEXITED(how);
            if (done) assert_int_equal(WEXITSTATUS(how), 0);
            kills += !done;
            (void)test_rng_next(&rng);
        }
        printf("killed %u times\n", kills);
        assert_true(kills > 0);
        snprintf(command, sizeof command, "diff -r '%s' '%s'", at("one"), at("killed"));
        assert_int_equal(system(command), 0);
        test_remove_tree(at("killed"));
    }
}

/* Other options are another pack. */
static void a_resume_needs_the_same_types(void **state)
{
    (void)state;
    unsigned left = 100; /* of some 140 items: a layer is done */
    sl_error err = {0};
    pid_t child = fork();
    sl_pack_options opt = {.experts = "q4_k", .resident = "q6_k", .progress = die_at,
                           .progress_ctx = &left};
    assert_true(child >= 0);
    if (child == 0) _exit(sl_pack(at("model"), at("half"), &opt, NULL) == SL_OK ? 0 : 1);
    int how;
    assert_true(waitpid(child, &how, 0) == child && WIFSIGNALED(how));
    opt.progress = NULL;
    opt.experts = "gate=q4_k,up=q4_k,down=q5_k"; /* down would be q8, where it is q4 now */
    assert_int_equal(sl_pack(at("model"), at("half"), &opt, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "another source or other options"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_type),
        cmocka_unit_test(parts_of_experts_may_differ),
        cmocka_unit_test(threads_change_no_byte),
        cmocka_unit_test(memory_changes_no_byte),
        cmocka_unit_test(wrong_types_are_told),
        cmocka_unit_test(a_dry_run_touches_nothing),
        cmocka_unit_test(too_little_room_is_told_first),
        cmocka_unit_test(a_bad_tokenizer_is_told_first),
        cmocka_unit_test(killed_and_resumed),
        cmocka_unit_test(a_resume_needs_the_same_types),
    };
    return cmocka_run_group_tests(tests, make_model, remove_model);
}
