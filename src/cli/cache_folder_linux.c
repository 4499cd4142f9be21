/* Where programs keep what they could find out again, and what they remember: the XDG base
 * directories. */
#include <stdlib.h>

#include "cli/cli.h"

static bool find_home(char *out, size_t out_size, const char *variable, const char *otherwise)
{
    const char *named = getenv(variable), *home = getenv("HOME");
    int n = -1;
    /* A relative path is to be ignored. */
    if (named && named[0] == '/') n = snprintf(out, out_size, "%s", named);
    else if (home && home[0] == '/') n = snprintf(out, out_size, "%s/%s", home, otherwise);
    return n > 0 && (size_t)n < out_size;
}

bool cli_cache_home(char *out, size_t out_size)
{
    return find_home(out, out_size, "XDG_CACHE_HOME", ".cache");
}

bool cli_state_home(char *out, size_t out_size)
{
    return find_home(out, out_size, "XDG_STATE_HOME", ".local/state");
}
