/* Which kernels run where: what processors announce, what the system must keep for it, and the
 * levels that follow; and what sluice.h tells of the processor that is here. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "kern/cpu.h"
#include "kern/kern.h"
#include "kern/levels.h"
#include "sluice.h"
#if defined(__x86_64__)
#include "kern/x86/cpu_x86.h"
#elif defined(__aarch64__) && defined(__linux__)
#include "kern/arm/cpu_arm.h"
#endif

static bool has(uint64_t features, uint64_t needs)
{
    return (features & needs) == needs;
}

#if defined(__x86_64__) || (defined(__aarch64__) && defined(__linux__))

/* The level that is the default with these features. */
static const char *highest(uint64_t features)
{
    const uint32_t i = sl__kern_best_level(features);
    assert_true(sl__kern_level_runs(i, features));
    return sl_cpu_level_name(i);
}

#endif

#if defined(__x86_64__)

/* Leaves 1 and 7 as processors have them, bits that nobody asks for left out; 0x18000000 of leaf 1
 * is AVX and OSXSAVE. */
#define INTEL 0x756e6547u /* of leaf 0 */
#define AMD   0x68747541u
static const sl__x86_leaves haswell = {0x38001000u, 0x20u, 0, 0, 0, 0x7, INTEL};
static const sl__x86_leaves skylake_server = {0x38001000u, 0xc0030020u, 0, 0, 0, 0xe7, INTEL};
static const sl__x86_leaves alder_lake = {0x38001000u, 0x20u, 0, 0, 0x10u, 0x7, INTEL};
static const sl__x86_leaves zen4 = {0x38001000u, 0xc0030020u, 0x802u, 0, 0x20u, 0xe7, AMD};
static const sl__x86_leaves sapphire_rapids = {
    0x38001000u, 0xc0030020u, 0x802u, 0x03c00000u, 0x30u, 0x600e7, INTEL};

static void test_x86_processors(void **state)
{
    (void)state;
    const sl__x86_leaves none = {0};
    assert_true(sl__x86_features(&none, true) == 0);
    assert_true(sl__x86_features(&haswell, false) == SL_NEEDS_AVX2);
    assert_true(sl__x86_features(&skylake_server, false) == (SL_NEEDS_AVX2 | SL_NEEDS_AVX512));
    assert_true(sl__x86_features(&alder_lake, false) == (SL_NEEDS_AVX2 | SL_NEEDS_AVXVNNI));
    uint64_t z = sl__x86_features(&zen4, true);
    assert_true(has(z, SL_NEEDS_AVX2 | SL_NEEDS_AVX512 | SL_NEEDS_AVX512VNNI));
    assert_true(has(z, SL_CPU_BIT(SL_CPU_AVX512VBMI) | SL_CPU_BIT(SL_CPU_AVX512BF16)));
    assert_false(has(z, SL_NEEDS_AVXVNNI) || has(z, SL_CPU_BIT(SL_CPU_AMX_TILE)));
    uint64_t s = sl__x86_features(&sapphire_rapids, true);
    assert_true(s == SL_CPU_BIT(SL_CPU_FAST_BF16) - 1); /* all others of x86 */

    assert_string_equal(highest(0), "ref");
    assert_string_equal(highest(sl__x86_features(&haswell, false)), "avx2");
    assert_string_equal(highest(sl__x86_features(&skylake_server, false)), "avx512");
    assert_string_equal(highest(s), "amx");
    /* Products of bf16 have a level of their own, which is the default where it is faster. */
    assert_true(z & SL_CPU_BIT(SL_CPU_FAST_BF16));
    assert_string_equal(highest(z), "avx512bf16");
    assert_string_equal(highest(sl__x86_features(&sapphire_rapids, false)), "avx512vnni");
}

#define TILES \
    (SL_CPU_BIT(SL_CPU_AMX_TILE) | SL_CPU_BIT(SL_CPU_AMX_INT8) | SL_CPU_BIT(SL_CPU_AMX_BF16))

/* What the system does not keep is not there, whatever the processor announces. */
static void test_x86_system(void **state)
{
    (void)state;
    sl__x86_leaves leaves = sapphire_rapids;
    assert_false(sl__x86_features(&leaves, false) & TILES);
    leaves.xcr0 = 0x400e7; /* the tiles' data without their shapes */
    assert_false(sl__x86_features(&leaves, true) & TILES);
    leaves.xcr0 = 0x67; /* without the upper sixteen registers */
    uint64_t features = sl__x86_features(&leaves, true);
    assert_false(features & (SL_NEEDS_AVX512 | SL_NEEDS_AVX512VNNI));
    assert_true(has(features, SL_NEEDS_AVX2 | SL_NEEDS_AVXVNNI));
    leaves.xcr0 = 0x3; /* as with SSE alone */
    assert_true(sl__x86_features(&leaves, true) == 0);
    leaves = haswell;
    leaves.leaf1_ecx &= ~(1u << 29); /* no F16C */
    assert_string_equal(highest(sl__x86_features(&leaves, false)), "ref");
    /* A level needs all that it builds on. */
    leaves = skylake_server;
    leaves.leaf1_ecx &= ~(1u << 12); /* no FMA */
    assert_string_equal(highest(sl__x86_features(&leaves, false)), "ref");
}

/* The compiler's own detection, where it has one, agrees. */
static void test_x86_here(void **state)
{
    (void)state;
    uint64_t features = sl__cpu_features();
    __builtin_cpu_init();
    assert_int_equal(has(features, SL_CPU_BIT(SL_CPU_AVX2)), __builtin_cpu_supports("avx2") != 0);
    assert_int_equal(has(features, SL_CPU_BIT(SL_CPU_FMA)), __builtin_cpu_supports("fma") != 0);
    assert_int_equal(has(features, SL_CPU_BIT(SL_CPU_AVX512F)),
                     __builtin_cpu_supports("avx512f") != 0);
    assert_int_equal(has(features, SL_CPU_BIT(SL_CPU_AVX512BW)),
                     __builtin_cpu_supports("avx512bw") != 0);
    assert_int_equal(has(features, SL_CPU_BIT(SL_CPU_AVX512VNNI)),
                     __builtin_cpu_supports("avx512vnni") != 0);
    assert_true(features == sl__cpu_features()); /* asking again changes nothing */
}

#elif defined(__aarch64__) && defined(__linux__)

static void test_arm_processors(void **state)
{
    (void)state;
    assert_true(sl__arm_features(0, 0) == 0);
    /* Words of /proc/self/auxv: Cortex-A72, Neoverse N1, Neoverse V1. */
    assert_true(sl__arm_features(0x8ff, 0) == SL_NEEDS_NEON);
    uint64_t n1 = sl__arm_features(0x119fff, 0);
    assert_true(has(n1, SL_NEEDS_NEON | SL_NEEDS_DOTPROD) && !(n1 & SL_NEEDS_I8MM));
    uint64_t v1 = sl__arm_features(0xffffffff, 0x1afdf3);
    assert_true(has(v1, SL_NEEDS_NEON | SL_NEEDS_DOTPROD | SL_NEEDS_I8MM));
    assert_false(sl__arm_features(0, UINT64_MAX) & (SL_NEEDS_NEON | SL_NEEDS_DOTPROD));
    assert_string_equal(highest(0), "ref");
}

static void test_arm_brand(void **state)
{
    (void)state;
    char text[64];
    sl__arm_brand(text, 0x413fd0c1);
    assert_string_equal(text, "Arm, part 0xd0c");
    sl__arm_brand(text, 0x00000000ff123450);
    assert_string_equal(text, "maker 0xff, part 0x345");
}

#endif

static void test_levels(void **state)
{
    (void)state;
    sl_cpu_info cpu;
    sl_cpu_info_get(&cpu);
    uint32_t count = 0;
    for (; sl_cpu_level_name(count); count++) {
        const char *name = sl_cpu_level_name(count);
        sl__kern kern;
        bool runs = cpu.levels >> count & 1;
        assert_true(count < 32 && name[0]);
        assert_int_equal(sl__kern_init(&kern, name), runs);
        assert_string_equal(kern.level, runs ? name : "ref");
        for (uint32_t other = 0; other < count; other++)
            assert_string_not_equal(sl_cpu_level_name(other), name);
        if (strcmp(name, cpu.level) == 0) assert_true(runs);
    }
    assert_null(sl_cpu_level_name(count + 1));
    assert_null(sl_cpu_level_name(UINT32_MAX));
    assert_true(cpu.levels & 1);
    assert_string_equal(sl_cpu_level_name(0), "ref");

    sl__kern kern;
    static const char *const wrong[] = {"", "no such level", "Ref", "ref "};
    for (unsigned i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(sl__kern_init(&kern, wrong[i]));
        assert_string_equal(kern.level, "ref");
    }
    assert_true(sl__kern_init(&kern, NULL));
    assert_string_equal(kern.level, cpu.level);
}

static void test_info(void **state)
{
    (void)state;
    sl_cpu_info cpu;
    memset(&cpu, 0xff, sizeof cpu);
    sl_cpu_info_get(&cpu);
    assert_true(cpu.cores >= 1);
    assert_non_null(memchr(cpu.brand, '\0', sizeof cpu.brand));
    size_t size = strlen(cpu.features);
    assert_true(size == 0 || (cpu.features[0] != ' ' && cpu.features[size - 1] != ' '));
    for (unsigned i = 0; i < SL_CPU_FEATURES; i++) {
        char word[40], all[sizeof cpu.features + 2];
        assert_non_null(sl__cpu_feature_name(i));
        snprintf(word, sizeof word, " %s ", sl__cpu_feature_name(i));
        snprintf(all, sizeof all, " %s ", cpu.features);
        assert_int_equal(strstr(all, word) != NULL, has(sl__cpu_features(), SL_CPU_BIT(i)));
    }
    if (cpu.l1_data_bytes && cpu.l2_bytes) assert_true(cpu.l1_data_bytes <= cpu.l2_bytes);
    /* Names of all features fit. */
    size = 0;
    for (unsigned i = 0; i < SL_CPU_FEATURES; i++)
        size += strlen(sl__cpu_feature_name(i)) + 1;
    assert_true(size <= sizeof cpu.features);
}

/* ---- an engine ------------------------------------------------------------------------------- */

#define MODEL "data/qwen3_5_moe_text"

static sl_engine_options small_options(const char *level)
{
    return (sl_engine_options){
        .threads = 1, .context_tokens = 16, .io_depth = 1, .cpu_level = level};
}

static void test_engine_level(void **state)
{
    (void)state;
    sl_cpu_info cpu;
    sl_cpu_info_get(&cpu);
    for (uint32_t i = 0; i == 0 || sl_cpu_level_name(i - 1); i++) {
        const char *level = sl_cpu_level_name(i); /* the last one: the default */
        if (level && !(cpu.levels >> i & 1)) continue;
        const sl_engine_options opt = small_options(level);
        sl_engine *engine;
        sl_engine_info info;
        sl_error err = {0};
        assert_int_equal(sl_engine_open(&engine, MODEL, &opt, &err), SL_OK);
        sl_engine_info_get(engine, &info);
        assert_string_equal(info.cpu_level, level ? level : cpu.level);
        sl_engine_close(engine);
    }
}

static void test_engine_refuses(void **state)
{
    (void)state;
    sl_cpu_info cpu;
    sl_cpu_info_get(&cpu);
    sl_engine *engine = NULL;
    sl_error err = {0};
    sl_engine_options opt = small_options("avx3");
    assert_int_equal(sl_engine_open(&engine, MODEL, &opt, &err), SL_EINVAL);
    assert_non_null(strstr(err.message, "cpu level avx3: there is none of that name; here there "
                                        "are ref"));
    for (uint32_t i = 0; sl_cpu_level_name(i); i++)
        assert_int_equal(strstr(err.message, sl_cpu_level_name(i)) != NULL, cpu.levels >> i & 1);
    for (uint32_t i = 0; sl_cpu_level_name(i); i++) {
        if (cpu.levels >> i & 1) continue;
        opt.cpu_level = sl_cpu_level_name(i);
        sl_error_clear(&err);
        assert_int_equal(sl_engine_open(&engine, MODEL, &opt, &err), SL_EINVAL);
        assert_non_null(strstr(err.message, "this processor does not have it; here there are ref"));
    }
    assert_null(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#if defined(__x86_64__)
        cmocka_unit_test(test_x86_processors),
        cmocka_unit_test(test_x86_system),
        cmocka_unit_test(test_x86_here),
#elif defined(__aarch64__) && defined(__linux__)
        cmocka_unit_test(test_arm_processors),
        cmocka_unit_test(test_arm_brand),
#endif
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_info),
        cmocka_unit_test(test_engine_level),
        cmocka_unit_test(test_engine_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
