/* Tiles on macOS: no Mac has had a processor with them. */
#include "kern/x86/cpu_x86.h"

bool sl__amx_request(void)
{
    return false;
}
