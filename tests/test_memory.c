/* --memory is a promise: the program is run as a user would, and what the kernel counted as its
 * peak resident size is compared with the budget it was given; the text must be the same at every
 * budget. Sessions of a batch keep it too. Where a memory cgroup can be made, the program is also
 * run inside one without --memory, and must stay within it by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sysmem.h"
#include "golden.h"
#include "test_env.h"

#define PROMPT "It was a bright cold morning, and the old sailor"
#define TOKENS "48"
#define EXPERTS_BF16_BYTES (8ull * 64 * 3 * 64 * 256 * 2) /* layers, experts, matrices, shape */

static char dir[256], demo_pack[1024], checkpoint[1024];
static bool have_pack, have_checkpoint;
static char said_path[300]; /* the file that a child says in why it could not open */

struct outcome {
    int exit_code;
    uint64_t peak_bytes;
    char text[8192], errors[8192];
};

static void read_back(const char *path, char *out, size_t size)
{
    size_t n;
    char *data = test_read_file(path, &n);
    if (n >= size) n = size - 1;
    memcpy(out, data, n);
    out[n] = '\0';
    free(data);
}

/* Runs `sluice run` in a child; cgroup (may be NULL) is a folder whose tasks it joins first. */
static void run_program(struct outcome *o, const char *model, const char *memory,
                        const char *cgroup)
{
    char out[300], errors[300];
    snprintf(out, sizeof out, "%s/out", dir);
    snprintf(errors, sizeof errors, "%s/errors", dir);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        if (cgroup) {
            char tasks[400];
            snprintf(tasks, sizeof tasks, "%s/cgroup.procs", cgroup);
            FILE *f = fopen(tasks, "w");
            if (!f || fprintf(f, "%d\n", (int)getpid()) < 0 || fclose(f) != 0) _exit(99);
        }
        int a = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        int b = open(errors, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (dup2(a, 1) < 0 || dup2(b, 2) < 0) _exit(98);
        execl(SL_TEST_PROGRAM, SL_TEST_PROGRAM, "run", model, "-p", PROMPT, "-n", TOKENS, "--temp",
              "0", memory ? "--memory" : NULL, memory, NULL);
        _exit(97);
    }
    int status;
    struct rusage usage;
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    o->exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    o->peak_bytes = (uint64_t)usage.ru_maxrss;
#if !defined(__APPLE__)
    o->peak_bytes *= 1024;
#endif
    read_back(out, o->text, sizeof o->text);
    read_back(errors, o->errors, sizeof o->errors);
}

static void run_within(const char *model, uint64_t budget, const char *want)
{
    struct outcome o;
    char memory[32];
    snprintf(memory, sizeof memory, "%llu", (unsigned long long)budget);
    run_program(&o, model, memory, NULL);
    if (o.exit_code != 0) fail_msg("--memory %s: %s", memory, o.errors);
    printf("--memory %s: peak %llu, %.1f %%\n", memory, (unsigned long long)o.peak_bytes,
           100.0 * (double)o.peak_bytes / (double)budget);
    assert_true(o.peak_bytes <= budget);
    assert_string_equal(o.text, want);
}

/* The least budget that the program says it needs, from its own message, and what the process
 * itself varies by from run to run. */
static uint64_t least_budget(const char *model)
{
    struct outcome o;
    run_program(&o, model, "1M", NULL);
    assert_int_equal(o.exit_code, 1);
    const char *figure = strstr(o.errors, "are not enough: ");
    if (!figure) fail_msg("%s", o.errors);
    return (uint64_t)(strtod(figure + strlen("are not enough: "), NULL) * 1048576.0) + 400000;
}

static void the_demo_within_budgets(void **state)
{
    (void)state;
    if (!have_pack) {
        skip();
        return;
    }
    struct outcome whole;
    run_program(&whole, demo_pack, NULL, NULL);
    assert_int_equal(whole.exit_code, 0);
    uint64_t least = least_budget(demo_pack);
    const uint64_t more[] = {0, 500000, 2000000, 6000000};
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        run_within(demo_pack, least + more[i], whole.text);
}

/* A quarter of the experts' size, for the demo with its experts kept in bf16. */
static void a_quarter_of_the_experts(void **state)
{
    (void)state;
    if (!have_checkpoint) {
        skip();
        return;
    }
    char pack[512];
    sl_error err = {0};
    const sl_pack_options opt = {.experts = "bf16", .resident = "q8"};
    snprintf(pack, sizeof pack, "%s/bf16-q8", dir);
    if (sl_pack(checkpoint, pack, &opt, &err) != SL_OK) fail_msg("%s", err.message);
    struct outcome whole;
    run_program(&whole, pack, NULL, NULL);
    assert_int_equal(whole.exit_code, 0);
    run_within(pack, EXPERTS_BF16_BYTES / 4, whole.text);
}

/* What a child does: four sessions to the end of their context, as a batch, within a budget. */
static int four_sessions(uint64_t budget, uint32_t context)
{
    const sl_engine_options opt = {.memory_bytes = budget, .sessions = 4,
                                   .context_tokens = context, .threads = 2};
    sl_engine *engine;
    sl_session *s[4];
    sl_batch_item items[4];
    sl_error err = {0};
    if (sl_engine_open(&engine, demo_pack, &opt, &err) != SL_OK) {
        test_write_file(said_path, err.message, strlen(err.message));
        return 2;
    }
    int32_t *ids = calloc(context, sizeof *ids);
    for (uint32_t i = 0; i < context; i++)
        ids[i] = (int32_t)(i * 2654435761u >> 8) % 8000 + 20;
    for (int i = 0; i < 4; i++) {
        if (sl_session_create(&s[i], engine, &err) != SL_OK) return 3;
        items[i] = (sl_batch_item){.session = s[i], .ids = ids, .count = context - 20};
    }
    for (uint32_t step = 0; step <= 20; step++) {
        if (sl_engine_eval_batch(engine, items, 4, &err) != SL_OK) return 4;
        for (int i = 0; i < 4; i++) {
            if (items[i].status != SL_OK) return 5;
            items[i].ids = ids + step;
            items[i].count = 1;
        }
    }
    for (int i = 0; i < 4; i++)
        sl_session_destroy(s[i]);
    sl_engine_close(engine);
    free(ids);
    return 0;
}

static int run_sessions(uint64_t budget, uint32_t context, uint64_t *peak)
{
    int status;
    struct rusage usage;
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(four_sessions(budget, context));
    assert_int_equal(wait4(child, &status, 0, &usage), child);
    assert_true(WIFEXITED(status));
    *peak = (uint64_t)usage.ru_maxrss;
#if !defined(__APPLE__)
    *peak *= 1024;
#endif
    return WEXITSTATUS(status);
}

static void a_batch_within_its_budget(void **state)
{
    (void)state;
    if (!have_pack) {
        skip();
        return;
    }
    uint64_t peak;
    char said[2048];
    snprintf(said_path, sizeof said_path, "%s/said", dir);
    const uint32_t contexts[] = {256, 1500};
    for (size_t c = 0; c < 2; c++) {
        assert_int_equal(run_sessions(1 << 20, contexts[c], &peak), 2);
        read_back(said_path, said, sizeof said);
        const char *figure = strstr(said, "are not enough: ");
        if (!figure) fail_msg("%s", said);
        double mib = strtod(figure + strlen("are not enough: "), NULL);
        uint64_t budget = (uint64_t)(mib * 1048576.0) + 400000;
        for (uint64_t more = 0; more <= 4000000; more += 2000000) {
            assert_int_equal(run_sessions(budget + more, contexts[c], &peak), 0);
            printf("4 sessions of %u: peak %llu, %.1f %% of the budget\n", contexts[c],
                   (unsigned long long)peak, 100.0 * (double)peak / (double)(budget + more));
            assert_true(peak <= budget + more);
        }
    }
}

static bool make_cgroup(char *out, size_t size, const char *limit)
{
    char file[400];
    snprintf(out, size, "/sys/fs/cgroup/memory/sluice-test-%d", (int)getpid());
    if (mkdir(out, 0755) != 0) return false;
    snprintf(file, sizeof file, "%s/memory.limit_in_bytes", out);
    FILE *f = fopen(file, "w");
    if (!f || fprintf(f, "%s\n", limit) < 0 || fclose(f) != 0) {
        rmdir(out);
        return false;
    }
    return true;
}

static void inside_a_cgroup(void **state)
{
    (void)state;
    char cgroup[300];
    if (!have_pack) {
        skip();
        return;
    }
    if (!make_cgroup(cgroup, sizeof cgroup, "24M")) {
        printf("skipped: no memory cgroup (version 1) can be made here\n");
        skip();
        return;
    }
    struct outcome whole, held;
    run_program(&whole, demo_pack, NULL, NULL);
    run_program(&held, demo_pack, NULL, cgroup);
    usleep(100000);
    rmdir(cgroup);
    if (held.exit_code != 0) fail_msg("exit %d: %s", held.exit_code, held.errors);
    printf("in 24 MiB: peak %llu\n", (unsigned long long)held.peak_bytes);
    assert_string_equal(held.text, whole.text);
    assert_true(held.peak_bytes <= 24u << 20);
}

int main(void)
{
    if (SL_TEST_SANITIZED) {
        printf("skipped: a sanitizer's own memory would be measured\n");
        return TEST_SKIPPED;
    }
    test_temp_dir(dir, sizeof dir);
    setenv("XDG_CACHE_HOME", dir, 1); /* the program remembers nothing elsewhere */
    have_pack = golden_demo_pack(demo_pack, sizeof demo_pack);
    have_checkpoint = golden_demo_checkpoint(checkpoint, sizeof checkpoint);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_demo_within_budgets),
        cmocka_unit_test(a_quarter_of_the_experts),
        cmocka_unit_test(a_batch_within_its_budget),
        cmocka_unit_test(inside_a_cgroup),
    };
    int bad = cmocka_run_group_tests(tests, NULL, NULL);
    test_remove_tree(dir);
    return bad;
}
