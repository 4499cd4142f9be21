/* cpu.h on arm64 macOS. */
#include <stddef.h>
#include <sys/sysctl.h>

#include "kern/cpu.h"

static const struct {
    sl__cpu_feature feature;
    const char *name;
} all[] = {
    {SL_CPU_NEON, "hw.optional.AdvSIMD"},
    {SL_CPU_FP16, "hw.optional.arm.FEAT_FP16"},
    {SL_CPU_DOTPROD, "hw.optional.arm.FEAT_DotProd"},
    {SL_CPU_I8MM, "hw.optional.arm.FEAT_I8MM"},
    {SL_CPU_BF16, "hw.optional.arm.FEAT_BF16"},
};

uint64_t sl__cpu_features(void)
{
    uint64_t features = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        int there = 0;
        size_t size = sizeof there;
        if (sysctlbyname(all[i].name, &there, &size, NULL, 0) == 0 && there)
            features |= SL_CPU_BIT(all[i].feature);
    }
    return features;
}

void sl__cpu_brand(char out[64])
{
    size_t size = 64;
    if (sysctlbyname("machdep.cpu.brand_string", out, &size, NULL, 0) != 0) size = 1;
    out[size - 1] = '\0';
    if (size == 1) out[0] = '\0';
}
