/* Where this program lies: macOS. */
#include <limits.h>
#include <mach-o/dyld.h>
#include <stdlib.h>

#include "cli/cli.h"

bool cli_program_folder(char out[SL_PATH_MAX])
{
    char path[SL_PATH_MAX], real[PATH_MAX];
    uint32_t size = sizeof path;
    if (_NSGetExecutablePath(path, &size) != 0 || !realpath(path, real)) return false;
    sl__path_parent(out, real);
    return true;
}
