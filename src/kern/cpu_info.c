/* The processor as sluice.h tells of it. */
#include <stdio.h>
#include <string.h>

#include "base/cpus.h"
#include "kern/cpu.h"
#include "kern/levels.h"
#include "sluice.h"

const char *sl__cpu_feature_name(sl__cpu_feature feature)
{
    static const char *const names[SL_CPU_FEATURES] = {
        [SL_CPU_AVX2] = "avx2",
        [SL_CPU_FMA] = "fma",
        [SL_CPU_F16C] = "f16c",
        [SL_CPU_AVXVNNI] = "avxvnni",
        [SL_CPU_AVX512F] = "avx512f",
        [SL_CPU_AVX512BW] = "avx512bw",
        [SL_CPU_AVX512VL] = "avx512vl",
        [SL_CPU_AVX512DQ] = "avx512dq",
        [SL_CPU_AVX512VNNI] = "avx512vnni",
        [SL_CPU_AVX512VBMI] = "avx512vbmi",
        [SL_CPU_AVX512BF16] = "avx512bf16",
        [SL_CPU_AVX512FP16] = "avx512fp16",
        [SL_CPU_AMX_TILE] = "amx_tile",
        [SL_CPU_AMX_INT8] = "amx_int8",
        [SL_CPU_AMX_BF16] = "amx_bf16",
        [SL_CPU_FAST_BF16] = "fast_bf16",
        [SL_CPU_NEON] = "neon",
        [SL_CPU_FP16] = "fp16",
        [SL_CPU_DOTPROD] = "dotprod",
        [SL_CPU_I8MM] = "i8mm",
        [SL_CPU_BF16] = "bf16",
        [SL_CPU_SVE] = "sve",
    };
    return names[feature];
}

static void add_word(char *text, size_t size, const char *word)
{
    size_t used = strlen(text);
    snprintf(text + used, size - used, "%s%s", used ? " " : "", word);
}

void sl_cpu_info_get(sl_cpu_info *info)
{
    const uint64_t features = sl__cpu_features();
    sl__cpu_caches caches;
    memset(info, 0, sizeof *info);
    sl__cpu_brand(info->brand);
    sl__cpu_caches_get(&caches);
    info->cores = sl__core_count();
    info->l1_data_bytes = caches.l1_data;
    info->l2_bytes = caches.l2;
    info->l3_bytes = caches.l3;
    for (unsigned i = 0; i < SL_CPU_FEATURES; i++) {
        if (features & SL_CPU_BIT(i))
            add_word(info->features, sizeof info->features, sl__cpu_feature_name(i));
    }
    for (uint32_t i = 0; sl_cpu_level_name(i); i++) {
        if (!sl__kern_level_runs(i, features)) continue;
        info->levels |= UINT32_C(1) << i;
    }
    info->level = sl_cpu_level_name(sl__kern_best_level(features));
}
