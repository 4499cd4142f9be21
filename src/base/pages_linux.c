/* pages.h on Linux: huge pages (2 MiB wherever this runs) and pages given back, by madvise. */
#include "base/pages.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_BYTES  ((size_t)2 << 20)
#define LARGE_BYTES ((size_t)8 << 20)

/* The mapping is made longer by a huge page, and what is before its first one and behind the block
 * is given up: the block then ends where its own pages end, so none reaches past it. */
void *sl__pages_alloc_huge(size_t bytes)
{
    if (bytes < LARGE_BYTES || bytes > SIZE_MAX - 2 * HUGE_BYTES) return sl__pages_alloc(bytes);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t size = (bytes + page - 1) / page * page, reserved = size + HUGE_BYTES;
    char *all = sl__pages_alloc(reserved);
    if (all == NULL) return NULL;
    size_t before = (HUGE_BYTES - (uintptr_t)all % HUGE_BYTES) % HUGE_BYTES;
    char *block = all + before;
    if (before > 0) munmap(all, before);
    if (reserved - before - size > 0) munmap(block + size, reserved - before - size);
    sl__pages_set_huge(block, bytes, true);
    return block;
}

void sl__pages_set_huge(void *pages, size_t bytes, bool huge)
{
    /* Refused where the kernel has none: then there is nothing to allow. */
    if (bytes >= LARGE_BYTES) (void)madvise(pages, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void sl__pages_release(void *pages, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)pages + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)pages + bytes) / page * page;
    if (begin >= end) return;
    char *first = (char *)pages + (begin - (uintptr_t)pages);
    /* A huge page that is given back in part stays whole, and is charged, until memory is short.
     * This advice splits it at once; where the kernel does not know it, the other still holds. */
    (void)madvise(first, end - begin, MADV_FREE);
    (void)madvise(first, end - begin, MADV_DONTNEED);
}

void sl__pages_retake(void *pages, size_t bytes)
{
    (void)pages;
    (void)bytes;
}
