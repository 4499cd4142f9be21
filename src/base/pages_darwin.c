/* pages.h on macOS. There are no huge pages to ask for; a page is given back by marking it as
 * reusable, which takes it off the process's footprint, and is marked again before it is used. */
#include "base/pages.h"

#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

void *sl__pages_alloc_huge(size_t bytes)
{
    return sl__pages_alloc(bytes);
}

void sl__pages_set_huge(void *pages, size_t bytes, bool huge)
{
    (void)pages;
    (void)bytes;
    (void)huge;
}

static void advise_whole_pages(void *pages, size_t bytes, int advice)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t begin = ((uintptr_t)pages + page - 1) / page * page;
    uintptr_t end = ((uintptr_t)pages + bytes) / page * page;
    if (begin < end) (void)madvise((char *)pages + (begin - (uintptr_t)pages), end - begin, advice);
}

void sl__pages_release(void *pages, size_t bytes)
{
    advise_whole_pages(pages, bytes, MADV_FREE_REUSABLE);
}

void sl__pages_retake(void *pages, size_t bytes)
{
    advise_whole_pages(pages, bytes, MADV_FREE_REUSE);
}
