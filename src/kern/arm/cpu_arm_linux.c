/* cpu.h on arm64 Linux. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/auxv.h>

#include "kern/arm/cpu_arm.h"
#include "kern/cpu.h"

/* Bits of the two words (Linux: arch/arm64/include/uapi/asm/hwcap.h), which older headers lack. */
static const struct {
    sl__cpu_feature feature;
    unsigned word, bit;
} all[] = {
    {SL_CPU_NEON, 0, 1},  {SL_CPU_FP16, 0, 10}, {SL_CPU_DOTPROD, 0, 20},
    {SL_CPU_I8MM, 1, 13}, {SL_CPU_BF16, 1, 14}, {SL_CPU_SVE, 0, 22},
};

uint64_t sl__arm_features(uint64_t hwcap, uint64_t hwcap2)
{
    const uint64_t words[2] = {hwcap, hwcap2};
    uint64_t features = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        if (words[all[i].word] >> all[i].bit & 1) features |= SL_CPU_BIT(all[i].feature);
    }
    return features;
}

uint64_t sl__cpu_features(void)
{
    return sl__arm_features(getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
}

void sl__arm_brand(char out[64], uint64_t midr)
{
    static const struct {
        unsigned maker;
        const char *name;
    } makers[] = {{0x41, "Arm"},     {0x42, "Broadcom"}, {0x46, "Fujitsu"}, {0x48, "HiSilicon"},
                  {0x4e, "NVIDIA"},  {0x51, "Qualcomm"}, {0x61, "Apple"},   {0x6d, "Microsoft"},
                  {0xc0, "Ampere"}};
    const unsigned maker = midr >> 24 & 0xff, model = midr >> 4 & 0xfff;
    const char *name = NULL;
    for (size_t i = 0; i < sizeof makers / sizeof makers[0]; i++) {
        if (makers[i].maker == maker) name = makers[i].name;
    }
    if (name)
        snprintf(out, 64, "%s, part 0x%03x", name, model);
    else
        snprintf(out, 64, "maker 0x%02x, part 0x%03x", maker, model);
}

void sl__cpu_brand(char out[64])
{
    uint64_t midr;
    out[0] = '\0';
    FILE *f = fopen("/sys/devices/system/cpu/cpu0/regs/identification/midr_el1", "re");
    if (!f) return;
    if (fscanf(f, "%" SCNx64, &midr) == 1) sl__arm_brand(out, midr);
    fclose(f);
}
