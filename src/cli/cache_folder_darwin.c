/* Where programs keep what they could find out again, on macOS. */
#include <stdlib.h>

#include "cli/cli.h"

bool cli_cache_home(char *out, size_t out_size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = -1;
    if (cache && cache[0] == '/') n = snprintf(out, out_size, "%s", cache);
    else if (home && home[0] == '/') n = snprintf(out, out_size, "%s/Library/Caches", home);
    return n > 0 && (size_t)n < out_size;
}
