/* What CPUID and XGETBV say, apart from what it means: so that tests can ask about processors that
 * are not here. */
#ifndef SL_KERN_X86_CPU_X86_H
#define SL_KERN_X86_CPU_X86_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sl__x86_leaves {
    uint32_t leaf1_ecx;
    uint32_t leaf7_ebx, leaf7_ecx, leaf7_edx; /* 0 where there is no leaf 7, likewise below */
    uint32_t leaf7_1_eax;
    uint64_t xcr0; /* the registers that the system keeps; 0 where it says nothing */
    uint32_t leaf0_ebx; /* the first four letters of who made it */
} sl__x86_leaves;

void sl__x86_leaves_read(sl__x86_leaves *leaves);

/* As sl__cpu_features. granted: the process may use AMX's tiles. */
uint64_t sl__x86_features(const sl__x86_leaves *leaves, bool granted);

/* Asks the system for the permission to use AMX's tiles: true where it is given. Only of use where
 * the processor has them. */
bool sl__amx_request(void);

#endif
