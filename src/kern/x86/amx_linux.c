/* Tiles on Linux: a process asks for them once, and its signal frames grow by 8 KiB. */
#include <sys/syscall.h>
#include <unistd.h>

#include "kern/x86/cpu_x86.h"

/* Of asm/prctl.h, which older headers have without them (Linux 5.16). */
#define REQUEST_PERMISSION 0x1023L
#define TILE_DATA          18L

bool sl__amx_request(void)
{
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
}
