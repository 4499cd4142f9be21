/* cpu.h on x86-64. */
#include "kern/x86/cpu_x86.h"

#include <cpuid.h>
#include <stddef.h>
#include <string.h>

#include "kern/cpu.h"

/* XCR0, as Intel's manual (volume 1, chapter 13) numbers it. */
#define XCR0_AVX    UINT64_C(0x6)     /* lower and upper halves of the 256-bit registers */
#define XCR0_AVX512 UINT64_C(0xe6)    /* and masks, 512 bits, sixteen registers more */
#define XCR0_TILES  UINT64_C(0x60000) /* their shapes and their data */

#define LEAF1_ECX_OSXSAVE (1u << 27)

/* "AuthenticAMD", and what was made after its plans. */
#define LEAF0_EBX_AMD   0x68747541u
#define LEAF0_EBX_HYGON 0x6f677948u

void sl__x86_leaves_read(sl__x86_leaves *leaves)
{
    unsigned a, b, c, d;
    memset(leaves, 0, sizeof *leaves);
    if (__get_cpuid(0, &a, &b, &c, &d)) leaves->leaf0_ebx = b;
    if (__get_cpuid(1, &a, &b, &c, &d)) leaves->leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        leaves->leaf7_ebx = b;
        leaves->leaf7_ecx = c;
        leaves->leaf7_edx = d;
        if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) leaves->leaf7_1_eax = a;
    }
    if (leaves->leaf1_ecx & LEAF1_ECX_OSXSAVE) {
        uint32_t low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        leaves->xcr0 = (uint64_t)high << 32 | low;
    }
}

/* A feature, the register and bit that announce it, and what the system must keep for it. */
typedef struct announced {
    sl__cpu_feature feature;
    size_t at; /* of the register in sl__x86_leaves */
    unsigned bit;
    uint64_t xcr0;
} announced;

#define AT(field) offsetof(sl__x86_leaves, field)
static const announced all[] = {
    {SL_CPU_AVX2, AT(leaf7_ebx), 5, XCR0_AVX},
    {SL_CPU_FMA, AT(leaf1_ecx), 12, XCR0_AVX},
    {SL_CPU_F16C, AT(leaf1_ecx), 29, XCR0_AVX},
    {SL_CPU_AVXVNNI, AT(leaf7_1_eax), 4, XCR0_AVX},
    {SL_CPU_AVX512F, AT(leaf7_ebx), 16, XCR0_AVX512},
    {SL_CPU_AVX512BW, AT(leaf7_ebx), 30, XCR0_AVX512},
    {SL_CPU_AVX512VL, AT(leaf7_ebx), 31, XCR0_AVX512},
    {SL_CPU_AVX512DQ, AT(leaf7_ebx), 17, XCR0_AVX512},
    {SL_CPU_AVX512VNNI, AT(leaf7_ecx), 11, XCR0_AVX512},
    {SL_CPU_AVX512VBMI, AT(leaf7_ecx), 1, XCR0_AVX512},
    {SL_CPU_AVX512BF16, AT(leaf7_1_eax), 5, XCR0_AVX512},
    {SL_CPU_AVX512FP16, AT(leaf7_edx), 23, XCR0_AVX512},
    {SL_CPU_AMX_TILE, AT(leaf7_edx), 24, XCR0_TILES},
    {SL_CPU_AMX_INT8, AT(leaf7_edx), 25, XCR0_TILES},
    {SL_CPU_AMX_BF16, AT(leaf7_edx), 22, XCR0_TILES},
};

uint64_t sl__x86_features(const sl__x86_leaves *leaves, bool granted)
{
    uint64_t features = 0;
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        uint32_t value;
        memcpy(&value, (const char *)leaves + all[i].at, sizeof value);
        bool kept = (leaves->xcr0 & all[i].xcr0) == all[i].xcr0;
        bool usable = all[i].xcr0 != XCR0_TILES || granted;
        if ((value >> all[i].bit & 1) && kept && usable) features |= SL_CPU_BIT(all[i].feature);
    }
    /* Intel's take four times as long for such a product as for a multiply-add of floats, of which
     * it replaces two: slower than making floats of the pairs. AMD's take as long as for one. */
    const bool amd = leaves->leaf0_ebx == LEAF0_EBX_AMD || leaves->leaf0_ebx == LEAF0_EBX_HYGON;
    if (amd && (features & SL_CPU_BIT(SL_CPU_AVX512BF16))) {
        features |= SL_CPU_BIT(SL_CPU_FAST_BF16);
    }
    return features;
}

uint64_t sl__cpu_features(void)
{
    sl__x86_leaves leaves;
    sl__x86_leaves_read(&leaves);
    bool tiles = (sl__x86_features(&leaves, true) & SL_CPU_BIT(SL_CPU_AMX_TILE)) != 0;
    return sl__x86_features(&leaves, tiles && sl__amx_request());
}

void sl__cpu_brand(char out[64])
{
    unsigned words[12] = {0};
    out[0] = '\0';
    for (unsigned i = 0; i < 3; i++) {
        unsigned *w = words + 4 * (size_t)i;
        if (!__get_cpuid(0x80000002u + i, &w[0], &w[1], &w[2], &w[3])) return;
    }
    char text[sizeof words + 1] = {0};
    memcpy(text, words, sizeof words);
    const char *first = text + strspn(text, " "); /* some are aligned to the right */
    size_t size = strlen(first);
    while (size > 0 && first[size - 1] == ' ')
        size--;
    memcpy(out, first, size);
    out[size] = '\0';
}
