/* Sizes of caches on Linux: a folder a cache under sysfs, each with `level`, `type` and `size`. */
#include <stdio.h>
#include <string.h>

#include "base/sysmem.h"
#include "kern/cpu.h"

#define CACHES 8 /* more than any processor has */

/* The first word of a file of cache `index`; false where it is not there. */
static bool read_word(char word[32], int index, const char *name)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index%d/%s", index, name);
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool read = fscanf(f, "%31s", word) == 1;
    fclose(f);
    return read;
}

void sl__cpu_caches_get(sl__cpu_caches *caches)
{
    char level[32], type[32], size[32];
    memset(caches, 0, sizeof *caches);
    for (int i = 0; i < CACHES; i++) {
        uint64_t bytes;
        if (!read_word(level, i, "level") || !read_word(type, i, "type") ||
            !read_word(size, i, "size") || !sl__parse_size(size, &bytes)) {
            continue;
        }
        if (strcmp(type, "Instruction") == 0) continue;
        if (level[0] == '1') caches->l1_data = bytes;
        if (level[0] == '2') caches->l2 = bytes;
        if (level[0] == '3') caches->l3 = bytes;
    }
}
