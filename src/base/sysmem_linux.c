/* sysmem.h on Linux: /proc/meminfo, and the limits of every cgroup from the process's own up to the
 * root, version 2 (memory.max, memory.current) and version 1 (memory.limit_in_bytes, …). Page cache
 * that a cgroup is charged for counts as free: the kernel takes it back before it kills. */
#include "base/sysmem.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A number from a one-line file; false for "max" and where the file is not there. */
static bool read_number(const char *path, uint64_t *out)
{
    FILE *f = fopen(path, "re");
    if (!f) return false;
    unsigned long long value;
    bool ok = fscanf(f, "%llu", &value) == 1;
    fclose(f);
    if (ok) *out = value;
    return ok;
}

/* The value of a "name value" line. */
static bool read_field(const char *path, const char *name, uint64_t *out)
{
    FILE *f = fopen(path, "re");
    if (!f) return false;
    char line[256];
    size_t n = strlen(name);
    bool found = false;
    while (!found && fgets(line, sizeof line, f)) {
        if (strncmp(line, name, n) != 0) continue;
        char *end;
        *out = strtoull(line + n, &end, 10);
        found = end != line + n;
    }
    fclose(f);
    return found;
}

struct cgroup_files {
    const char *limit, *usage, *cache_field;
};
static const struct cgroup_files version1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                             "total_cache "};
static const struct cgroup_files version2 = {"memory.max", "memory.current", "file "};

/* What one cgroup folder leaves, lowered into *free_bytes. */
static void apply_limit(const char *folder, const struct cgroup_files *files, uint64_t *free_bytes)
{
    char path[1200];
    uint64_t limit, usage, cache = 0;
    snprintf(path, sizeof path, "%s/%s", folder, files->limit);
    if (!read_number(path, &limit) || limit >= (uint64_t)1 << 60) return;
    snprintf(path, sizeof path, "%s/%s", folder, files->usage);
    if (!read_number(path, &usage)) return;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    read_field(path, files->cache_field, &cache);
    uint64_t held = usage > cache ? usage - cache : 0;
    uint64_t left = limit > held ? limit - held : 0;
    if (left < *free_bytes) *free_bytes = left;
}

/* Every folder from mount/path up to mount. */
static void apply_ancestors(const char *mount, const char *path, const struct cgroup_files *files,
                            uint64_t *free_bytes)
{
    char folder[1100];
    int n = snprintf(folder, sizeof folder, "%s%s", mount, strcmp(path, "/") == 0 ? "" : path);
    if (n < 0 || (size_t)n >= sizeof folder) return;
    for (;;) {
        apply_limit(folder, files, free_bytes);
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < strlen(mount)) return;
        *slash = '\0';
    }
}

/* Lines of /proc/self/cgroup: "ID:controllers:path"; version 2 has ID 0 and no controllers. */
static void apply_cgroups(uint64_t *free_bytes)
{
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) return;
    char line[1024];
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':');
        char *path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path) continue;
        *controllers++ = '\0';
        *path++ = '\0';
        if (controllers[0] == '\0') {
            apply_ancestors("/sys/fs/cgroup", path, &version2, free_bytes);
            apply_ancestors("/sys/fs/cgroup/unified", path, &version2, free_bytes);
        } else if (strstr(controllers, "memory")) {
            apply_ancestors("/sys/fs/cgroup/memory", path, &version1, free_bytes);
        }
    }
    fclose(f);
}

uint64_t sl__mem_available(void)
{
    uint64_t kib = 0, free_bytes;
    if (read_field("/proc/meminfo", "MemAvailable:", &kib)) {
        free_bytes = kib * 1024;
    } else {
        long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
        free_bytes = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 2 : 0;
    }
    apply_cgroups(&free_bytes);
    return free_bytes;
}

uint64_t sl__mem_rss(void)
{
    uint64_t kib = 0;
    return read_field("/proc/self/status", "VmRSS:", &kib) ? kib * 1024 : 0;
}

/* Cores that a cgroup's CPU quota pays for; 0 where there is no quota. */
static uint32_t quota_cores(void)
{
    uint64_t quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f) {
        unsigned long long q, p;
        if (fscanf(f, "%llu %llu", &q, &p) == 2) {
            quota = q;
            period = p;
        }
        fclose(f);
    } else if (!read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota) ||
               !read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period)) {
        return 0;
    }
    if (quota == 0 || period == 0 || quota > (uint64_t)1 << 40) return 0;
    return (uint32_t)((quota + period - 1) / period);
}

uint32_t sl__cpu_count(void)
{
    cpu_set_t set;
    uint32_t count = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0) count = (uint32_t)CPU_COUNT(&set);
    if (count == 0) {
        long n = sysconf(_SC_NPROCESSORS_ONLN);
        count = n > 0 ? (uint32_t)n : 1;
    }
    uint32_t quota = quota_cores();
    return quota > 0 && quota < count ? quota : count;
}
