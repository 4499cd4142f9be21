/* Probing a disk on Linux. */
#include "io/probe_system.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The same number on every architecture; since Linux 6.5. */
#define CACHESTAT_CALL 451

#define PAGE        4096u
#define FOLIO_BYTES ((uint64_t)2 << 20)

struct cachestat_range {
    uint64_t offset, bytes;
};

struct cachestat_counts {
    uint64_t cached, dirty, writeback, evicted, recently_evicted; /* pages */
};

bool sl__probe_uncache(int fd, uint64_t offset, uint64_t bytes)
{
    /* The cache holds a file in folios of up to so much, and a folio that reaches out of the range
     * stays. */
    uint64_t begin = offset > FOLIO_BYTES ? offset - FOLIO_BYTES : 0;
    uint64_t size = offset - begin + bytes + FOLIO_BYTES;
    (void)posix_fadvise(fd, (off_t)begin, (off_t)size, POSIX_FADV_DONTNEED);
    struct cachestat_range range = {offset, bytes};
    struct cachestat_counts counts = {0};
    /* An older system cannot tell: then the advice is taken to have worked. */
    if (syscall(CACHESTAT_CALL, fd, &range, &counts, 0u) != 0) return true;
    return counts.cached * PAGE <= bytes / 8;
}

/* The first line of /sys/dev/block/M:m/NAME. */
static bool read_line(char *out, size_t out_size, const char *device, const char *name)
{
    char path[160];
    int n = snprintf(path, sizeof path, "/sys/dev/block/%s/%s", device, name);
    if (n < 0 || (size_t)n >= sizeof path) return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t got = read(fd, out, out_size - 1);
    close(fd);
    if (got <= 0) return false;
    out[got] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return out[0] != '\0';
}

void sl__probe_disk(char *out, size_t out_size, int fd)
{
    /* Of a whole disk, of a partition, of what the device mapper makes. */
    static const char *const names[] = {"device/model", "../device/model", "dm/name"};
    struct stat st;
    char device[32], model[64] = "";
    out[0] = '\0';
    if (fstat(fd, &st) != 0) return;
    snprintf(device, sizeof device, "%u:%u", major(st.st_dev), minor(st.st_dev));
    for (size_t i = 0; i < sizeof names / sizeof names[0] && model[0] == '\0'; i++)
        if (!read_line(model, sizeof model, device, names[i])) model[0] = '\0';
    snprintf(out, out_size, "%s%s%s", device, model[0] ? " " : "", model);
}
