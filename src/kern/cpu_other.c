/* cpu.h for architectures that have no kernels of their own. */
#include "kern/cpu.h"

uint64_t sl__cpu_features(void)
{
    return 0;
}

void sl__cpu_brand(char out[64])
{
    out[0] = '\0';
}
