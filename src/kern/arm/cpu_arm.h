/* What Linux says of an arm64 processor, apart from what it means (cf. x86/cpu_x86.h). */
#ifndef SL_KERN_ARM_CPU_ARM_H
#define SL_KERN_ARM_CPU_ARM_H

#include <stdint.h>

/* As sl__cpu_features, from the words under AT_HWCAP and AT_HWCAP2 in the auxiliary vector. */
uint64_t sl__arm_features(uint64_t hwcap, uint64_t hwcap2);

/* As sl__cpu_brand, from the register MIDR_EL1, which says maker and model as numbers. */
void sl__arm_brand(char out[64], uint64_t midr);

#endif
