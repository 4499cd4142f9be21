#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "plane_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"
#include "test_env.h"

#define TOKENS 40u

static char folder[256];

void plane_case_begin(void)
{
    test_temp_dir(folder, sizeof folder);
}

void plane_case_end(void)
{
    test_remove_tree(folder);
}

const char *plane_case_path(const char *name)
{
    static char paths[8][400];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static float *run(const char *path, const sl_engine_options *opt, size_t *count)
{
    int32_t ids[TOKENS];
    uint32_t vocab;
    for (unsigned i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(i * i * 7 % 251);
    float *logits = golden_run_with(path, opt, ids, TOKENS, &vocab);
    *count = (size_t)TOKENS * vocab;
    return logits;
}

static void say(const char *model, const plane_recipe *r, double error)
{
    static const char *const formats[] = {"mlx", "fp8", "packed"};
    const char *name = strrchr(model, '/');
    printf("%-18s %-6s %u bits, groups of %3u, %-4s%s%s%s  %.1e\n", name ? name + 1 : model,
           formats[r->format], r->bits, r->group, r->scales ? r->scales : "BF16",
           r->mxfp4 ? " mxfp4" : "", r->routers ? " routers" : "", r->fused ? " fused" : "",
           error);
}

void plane_case_expect_same(const char *model, const plane_recipe *recipe)
{
    plane_recipe r = *recipe;
    size_t n, m;
    r.plain = plane_case_path("plain");
    const char *made = plane_case_path("made");
    plane_convert(model, made, &r);
    float *x = run(made, NULL, &n), *y = run(r.plain, NULL, &m);
    assert_int_equal(n, m);
    double error = golden_relative(x, y, n);
    say(model, recipe, error);
    assert_true(error < 1e-5);
    free(x);
    free(y);
    test_remove_tree(made);
    test_remove_tree(r.plain);
}

void plane_case_expect_pack(const char *model, const plane_recipe *recipe,
                            const sl_pack_options *opt, bool exact)
{
    const char *made = plane_case_path("made"), *pack = plane_case_path("pack");
    const char *again = plane_case_path("again");
    const sl_engine_options few = {.cache_bytes = 300000, .threads = 2, .chunk_tokens = 64};
    const sl_pack_options verify = {.verify = true};
    sl_error err = {0};
    size_t n, m;
    plane_convert(model, made, recipe);
    if (sl_pack(made, pack, opt ? opt : &verify, &err) != SL_OK) fail_msg("%s", err.message);
    if (sl_pack(pack, again, NULL, &err) != SL_OK) fail_msg("%s", err.message);
    float *want = run(made, NULL, &n);
    const char *const others[] = {made, pack, again};
    for (size_t i = 0; i < 3; i++) {
        float *got = run(others[i], &few, &m);
        assert_int_equal(n, m);
        double error = golden_relative(got, want, n);
        if (i > 0) say(model, recipe, error);
        if (i == 0 || exact) assert_memory_equal(got, want, n * sizeof *got);
        assert_true(error < 1e-5);
        free(got);
    }
    free(want);
    test_remove_tree(made);
    test_remove_tree(pack);
    test_remove_tree(again);
}

sl_model_info plane_case_inspect(const char *model, const plane_recipe *recipe)
{
    const char *made = plane_case_path("made");
    sl_model_info info;
    sl_error err = {0};
    plane_convert(model, made, recipe);
    if (sl_model_inspect(made, &info, &err) != SL_OK) fail_msg("%s", err.message);
    test_remove_tree(made);
    return info;
}
