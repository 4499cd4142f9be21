/* Rotary frequencies against the published configurations' numbers, and the tables made of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>

#include "kern_check.h"
#include "model/rope.h"

struct known {
    const char *name;
    sl__rope_desc rope;
    struct {
        uint32_t index;
        double value;
    } at[8]; /* ends with value 0 */
};

static const struct known known[] = {
    {"qwen3_5", {.dim = 64, .theta = 1e7f, .amplitude = 1},
     {{0, 1}, {1, 0.60429639}, {2, 0.365174127}, {16, 3.16227766e-4}, {31, 1.6548171e-7}}},
    {"deepseek_v3", {.dim = 64, .adjacent = true, .theta = 1e4f, .factor = 40,
                     .original_context = 4096, .beta_fast = 32, .beta_slow = 1, .truncate = true,
                     .amplitude = 1},
     {{0, 1}, {1, 0.749894209}, {10, 0.0562341325}, {15, 0.00833450895}, {20, 7.90569415e-4},
      {23, 3.33380358e-5}, {31, 3.33380358e-6}}},
    {"gpt_oss", {.dim = 64, .theta = 150000, .factor = 32, .original_context = 4096,
                 .beta_fast = 32, .beta_slow = 1, .amplitude = 1.34657359f},
     {{1, 0.689044306}, {8, 0.0508132748}, {12, 0.00679495949}, {16, 4.56483919e-4},
      {20, 1.81883367e-5}, {31, 3.02351143e-7}}},
    {"kimi_k2", {.dim = 64, .theta = 5e4f, .factor = 32, .original_context = 4096, .beta_fast = 1,
                 .beta_slow = 1, .truncate = true, .amplitude = 1},
     {{1, 0.713111085}, {19, 0.00162175991}, {20, 3.61404677e-5}, {31, 8.76441291e-7}}},
    {"kimi_k2_5", {.dim = 64, .theta = 5e4f, .factor = 64, .original_context = 4096,
                   .beta_fast = 32, .beta_slow = 1, .truncate = true, .amplitude = 1},
     {{15, 0.00267020339}, {20, 1.80702339e-5}}},
};
#define KNOWN (sizeof known / sizeof known[0])

static void test_frequencies(void **state)
{
    (void)state;
    for (unsigned i = 0; i < KNOWN; i++) {
        float f[32];
        sl__rope_frequencies(&known[i].rope, f);
        for (unsigned j = 0; j < 8 && known[i].at[j].value > 0; j++) {
            double want = known[i].at[j].value, got = (double)f[known[i].at[j].index];
            if (fabs(got - want) > 3e-7 * want) /* the numbers have nine digits, float has seven */
                fail_msg("%s: [%u] is %.9g, not %.9g", known[i].name, known[i].at[j].index, got,
                         want);
        }
        for (unsigned j = 1; j < 32; j++)
            assert_true(f[j] < f[j - 1]);
    }
}

/* Channels outside the ramp keep their frequency, or have all of it divided. */
static void test_ramp_ends(void **state)
{
    (void)state;
    sl__rope_desc rope = known[1].rope, plain = rope;
    float f[32], whole[32];
    plain.factor = 0;
    sl__rope_frequencies(&rope, f);
    sl__rope_frequencies(&plain, whole);
    for (unsigned i = 0; i < 32; i++) {
        double ratio = (double)(whole[i] / f[i]);
        if (i <= 10) assert_true(f[i] == whole[i]);
        else if (i < 23) assert_true(ratio > 1.01 && ratio < 39.9);
        else assert_true(fabs(ratio - 40) < 1e-5);
    }
    /* Both bounds on one channel, or at the ends: a step, and nothing that is not finite. */
    rope.beta_fast = rope.beta_slow = 4096 / 6.28f;
    sl__rope_frequencies(&rope, f);
    for (unsigned i = 0; i < 32; i++)
        assert_true(f[i] > 0 && f[i] <= 1);
    rope.original_context = 16;
    rope.dim = 16;
    sl__rope_frequencies(&rope, f);
    for (unsigned i = 0; i < 8; i++)
        assert_true(f[i] > 0 && f[i] <= 1);
}

static void test_tables(void **state)
{
    (void)state;
    const uint32_t tokens = 5, position = 3000;
    for (unsigned i = 0; i < KNOWN; i++) {
        float frequency[32], cosine[5 * 32], sine[5 * 32], one_cos[32], one_sin[32];
        const sl__rope_table table = {frequency, cosine, sine};
        const sl__rope_table one = {frequency, one_cos, one_sin};
        const sl__rope_desc *rope = &known[i].rope;
        sl__rope_fill(rope, &table, position, tokens);
        for (uint32_t t = 0; t < tokens; t++) {
            for (unsigned j = 0; j < 32; j++) {
                double angle = (double)((float)(position + t) * frequency[j]);
                double a = (double)rope->amplitude;
                assert_true(fabs((double)cosine[t * 32 + j] - a * cos(angle)) < 3e-7);
                assert_true(fabs((double)sine[t * 32 + j] - a * sin(angle)) < 3e-7);
            }
            sl__rope_fill(rope, &one, position + t, 1); /* a token at a time */
            assert_bits(one_cos, cosine + (size_t)t * 32, 32, "cos");
            assert_bits(one_sin, sine + (size_t)t * 32, 32, "sin");
        }
        /* The pairs are those of the description; the length stays, but for the amplitude. */
        float x[66] = {0};
        uint32_t first = 7, second = rope->adjacent ? 15 : 39;
        if (rope->adjacent) first = 14;
        x[first] = 2;
        x[64] = x[65] = 3;
        sl__rope_rotate(&levels[0], rope, &table, 2, x);
        for (unsigned j = 0; j < 64; j++)
            assert_true(j == first || j == second || x[j] == 0);
        assert_true(x[first] == 2 * cosine[2 * 32 + 7] && x[second] == 2 * sine[2 * 32 + 7]);
        assert_true(x[64] == 3 && x[65] == 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frequencies),
        cmocka_unit_test(test_ramp_ends),
        cmocka_unit_test(test_tables),
    };
    return cmocka_run_group_tests(tests, find_levels, NULL);
}
