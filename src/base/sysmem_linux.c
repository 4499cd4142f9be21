/* sysmem.h on Linux: /proc/meminfo, and the limits of every cgroup from the process's own up to the
 * root, version 2 (memory.max, memory.high, memory.current) and version 1 (memory.limit_in_bytes,
 * …). Page cache that a cgroup is charged for counts as free: the kernel takes it back before it
 * kills. Stalls are the pressure files' (PSI): the cgroup's own where there is one, else the
 * system's.
 *
 * All of this is read again and again while tokens are made: no streams, nothing allocated.
 */
#include "base/sysmem.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TEXT_BYTES 8192u /* more than any of these files has before what is looked for */
#define PATH_BYTES 1400u
#define KIB_MAX    ((uint64_t)1 << 50)

/* The path of a folder's file; "", which is no file, where it is too long. */
static const char *file_in(char path[PATH_BYTES], const char *folder, const char *name)
{
    int n = snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    if (n < 0 || (size_t)n >= PATH_BYTES) path[0] = '\0';
    return path;
}

/* The beginning of a small file; false where it cannot be read. */
static bool read_text(const char *path, char text[TEXT_BYTES])
{
    size_t size = 0;
    ssize_t got = 1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    while (got > 0 && size < TEXT_BYTES - 1) {
        got = read(fd, text + size, TEXT_BYTES - 1 - size);
        if (got > 0) size += (size_t)got;
    }
    close(fd);
    text[size] = '\0';
    return got >= 0;
}

static bool parse_number(const char *text, uint64_t *out)
{
    char *end;
    while (*text == ' ' || *text == '\t')
        text++;
    if (*text < '0' || *text > '9') return false;
    *out = strtoull(text, &end, 10);
    return true;
}

/* A number from a one-line file; false for "max" and where the file is not there. */
static bool read_number(const char *path, uint64_t *out)
{
    char text[TEXT_BYTES];
    return read_text(path, text) && parse_number(text, out);
}

/* The value of a "name value" line. */
static bool find_field(const char *text, const char *name, uint64_t *out)
{
    size_t n = strlen(name);
    for (const char *line = text; line && *line;) {
        if (strncmp(line, name, n) == 0) return parse_number(line + n, out);
        line = strchr(line, '\n');
        if (line) line++;
    }
    return false;
}

static bool read_field(const char *path, const char *name, uint64_t *out)
{
    char text[TEXT_BYTES];
    return read_text(path, text) && find_field(text, name, out);
}

/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=1234" */
static bool read_stall(const char *path, uint64_t *out)
{
    char text[TEXT_BYTES];
    if (!read_text(path, text) || strncmp(text, "some ", 5) != 0) return false;
    text[strcspn(text, "\n")] = '\0';
    const char *total = strstr(text, " total=");
    return total && parse_number(total + strlen(" total="), out);
}

/* ---- cgroups --------------------------------------------------------------------------------- */

struct cgroup_files {
    const char *limits[2], *usage, *cache_field, *shared_field, *pressure;
};
static const struct cgroup_files version1 = {
    {"memory.limit_in_bytes", NULL}, "memory.usage_in_bytes", "total_cache ", "total_shmem ", NULL};
/* Beyond memory.high nobody is killed, but everybody is slowed down: as good as a limit. */
static const struct cgroup_files version2 = {
    {"memory.max", "memory.high"}, "memory.current", "file ", "shmem ", "memory.pressure"};

/* What one cgroup folder leaves, lowered into *state. */
static void apply_limit(const char *folder, const struct cgroup_files *files, sl__mem_state *state)
{
    char path[PATH_BYTES], text[TEXT_BYTES];
    uint64_t limit = UINT64_MAX, usage, cache = 0, shared = 0, value;
    for (int i = 0; i < 2 && files->limits[i]; i++) {
        if (read_number(file_in(path, folder, files->limits[i]), &value) && value < limit)
            limit = value;
    }
    if (limit >= (uint64_t)1 << 60) return;
    if (limit < state->limit_bytes) state->limit_bytes = limit;
    if (!read_number(file_in(path, folder, files->usage), &usage)) return;
    if (read_text(file_in(path, folder, "memory.stat"), text)) {
        find_field(text, files->cache_field, &cache);
        find_field(text, files->shared_field, &shared); /* files in memory: not to be had back */
    }
    cache = cache > shared ? cache - shared : 0;
    uint64_t held = usage > cache ? usage - cache : 0;
    uint64_t left = limit > held ? limit - held : 0;
    if (left < state->available_bytes) state->available_bytes = left;
}

/* Every folder from mount/path up to mount; the pressure is that of the first that has one. */
static void apply_ancestors(const char *root, const char *mount, const char *path,
                            const struct cgroup_files *files, sl__mem_state *state)
{
    char folder[PATH_BYTES], file[PATH_BYTES];
    size_t mount_length = strlen(root) + strlen(mount);
    bool stall_found = files->pressure == NULL;
    int n = snprintf(folder, sizeof folder, "%s%s%s", root, mount,
                     strcmp(path, "/") == 0 ? "" : path);
    if (n < 0 || (size_t)n >= sizeof folder) return;
    for (;;) {
        apply_limit(folder, files, state);
        if (!stall_found && read_stall(file_in(file, folder, files->pressure), &state->stall_us))
            stall_found = state->stall_known = true;
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < mount_length) return;
        *slash = '\0';
    }
}

/* A line of /proc/self/cgroup: "ID:controllers:path"; version 2 has ID 0 and no controllers. */
static void apply_cgroup(const char *root, char *line, sl__mem_state *state)
{
    char *controllers = strchr(line, ':');
    char *path = controllers ? strchr(controllers + 1, ':') : NULL;
    if (!path) return;
    *controllers++ = '\0';
    *path++ = '\0';
    if (controllers[0] == '\0') {
        apply_ancestors(root, "/sys/fs/cgroup", path, &version2, state);
        apply_ancestors(root, "/sys/fs/cgroup/unified", path, &version2, state);
    } else if (strstr(controllers, "memory")) {
        apply_ancestors(root, "/sys/fs/cgroup/memory", path, &version1, state);
    }
}

static void apply_cgroups(const char *root, sl__mem_state *state)
{
    char path[PATH_BYTES], text[TEXT_BYTES];
    if (!read_text(file_in(path, root, "proc/self/cgroup"), text)) return;
    for (char *line = text; *line;) {
        size_t length = strcspn(line, "\n");
        char *next = line + length + (line[length] != '\0');
        line[length] = '\0';
        apply_cgroup(root, line, state);
        line = next;
    }
}

/* ---- the system ------------------------------------------------------------------------------ */

void sl__mem_state_read(sl__mem_state *state, const char *root)
{
    char path[PATH_BYTES], text[TEXT_BYTES];
    uint64_t kib;
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    *state = (sl__mem_state){0};
    if (pages > 0 && page > 0) state->limit_bytes = (uint64_t)pages * (uint64_t)page;
    state->available_bytes = state->limit_bytes / 2;
    if (read_text(file_in(path, root, "proc/meminfo"), text)) {
        if (find_field(text, "MemTotal:", &kib) && kib <= KIB_MAX) state->limit_bytes = kib * 1024;
        if (find_field(text, "MemAvailable:", &kib) && kib <= KIB_MAX)
            state->available_bytes = kib * 1024;
    }
    state->stall_known = read_stall(file_in(path, root, "proc/pressure/memory"), &state->stall_us);
    apply_cgroups(root, state);
}

uint64_t sl__mem_available(void)
{
    sl__mem_state state;
    sl__mem_state_read(&state, "");
    return state.available_bytes;
}

uint64_t sl__mem_rss(void)
{
    uint64_t kib = 0;
    return read_field("/proc/self/status", "VmRSS:", &kib) ? kib * 1024 : 0;
}

uint64_t sl__mem_rss_peak(void)
{
    uint64_t kib = 0;
    return read_field("/proc/self/status", "VmHWM:", &kib) ? kib * 1024 : 0;
}

bool sl__mem_rss_peak_reset(void)
{
    int fd = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (fd < 0) return false;
    bool ok = write(fd, "5", 1) == 1; /* 5: the peak alone */
    close(fd);
    return ok;
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

void sl__mem_trim(void)
{
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}
