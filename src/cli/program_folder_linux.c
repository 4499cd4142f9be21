/* Where this program lies: Linux. */
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

bool cli_program_folder(char out[SL_PATH_MAX])
{
    char path[SL_PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    if (size <= 0) return false;
    path[size] = '\0';
    sl__path_parent(out, path);
    return true;
}
