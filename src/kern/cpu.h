/* What the processor has, as far as kernels ask for it.
 *
 *     x86/cpu_x86.c   CPUID, XGETBV ─┐
 *     arm/cpu_arm_*.c HWCAP, sysctl ─┼─ sl__cpu_features ── SL_NEEDS_… ── the levels in kern.c
 *     cpu_other.c     nothing       ─┘
 *
 * A feature counts only where the system, too, keeps its registers: what the processor offers and
 * the system does not save would be lost whenever another process runs.
 */
#ifndef SL_KERN_CPU_H
#define SL_KERN_CPU_H

#include <stdbool.h>
#include <stdint.h>

typedef enum sl__cpu_feature {
    SL_CPU_AVX2,
    SL_CPU_FMA,
    SL_CPU_F16C,
    SL_CPU_AVXVNNI, /* VNNI on 256 bits without AVX-512 */
    SL_CPU_AVX512F,
    SL_CPU_AVX512BW,
    SL_CPU_AVX512VL,
    SL_CPU_AVX512DQ,
    SL_CPU_AVX512VNNI,
    SL_CPU_AVX512VBMI,
    SL_CPU_AVX512BF16,
    SL_CPU_AVX512FP16,
    SL_CPU_AMX_TILE, /* the three of AMX: only where the process was granted tiles */
    SL_CPU_AMX_INT8,
    SL_CPU_AMX_BF16,
    SL_CPU_FAST_BF16, /* AVX512BF16, and faster than the multiply-adds that it replaces */
    SL_CPU_NEON,
    SL_CPU_FP16,
    SL_CPU_DOTPROD,
    SL_CPU_I8MM,
    SL_CPU_BF16,
    SL_CPU_SVE,
    SL_CPU_FEATURES,
} sl__cpu_feature;

#define SL_CPU_BIT(feature) (UINT64_C(1) << (feature))

/* What a level's own instructions need; what the levels below it need comes on top. */
#define SL_NEEDS_AVX2 \
    (SL_CPU_BIT(SL_CPU_AVX2) | SL_CPU_BIT(SL_CPU_FMA) | SL_CPU_BIT(SL_CPU_F16C))
#define SL_NEEDS_AVXVNNI SL_CPU_BIT(SL_CPU_AVXVNNI)
#define SL_NEEDS_AVX512 \
    (SL_CPU_BIT(SL_CPU_AVX512F) | SL_CPU_BIT(SL_CPU_AVX512BW) | SL_CPU_BIT(SL_CPU_AVX512VL) | \
     SL_CPU_BIT(SL_CPU_AVX512DQ))
#define SL_NEEDS_AVX512VNNI SL_CPU_BIT(SL_CPU_AVX512VNNI)
#define SL_NEEDS_AVX512BF16 SL_CPU_BIT(SL_CPU_AVX512BF16)
#define SL_NEEDS_AMX \
    (SL_CPU_BIT(SL_CPU_AMX_TILE) | SL_CPU_BIT(SL_CPU_AMX_INT8) | SL_CPU_BIT(SL_CPU_AMX_BF16) | \
     SL_CPU_BIT(SL_CPU_AVX512BF16))
#define SL_NEEDS_NEON    SL_CPU_BIT(SL_CPU_NEON)
#define SL_NEEDS_DOTPROD SL_CPU_BIT(SL_CPU_DOTPROD)
#define SL_NEEDS_I8MM    SL_CPU_BIT(SL_CPU_I8MM)

/* SL_CPU_BITs, or'ed. Asks for the permission to use AMX where there is AMX. */
uint64_t sl__cpu_features(void);

const char *sl__cpu_feature_name(sl__cpu_feature feature); /* "avx512bw"; static string */

/* The processor's own name, "" where it says none. */
void sl__cpu_brand(char out[64]);

/* Bytes of the first core's caches; 0 where unknown. */
typedef struct sl__cpu_caches {
    uint64_t l1_data, l2, l3;
} sl__cpu_caches;
void sl__cpu_caches_get(sl__cpu_caches *caches);

#endif
