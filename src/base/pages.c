#include "base/pages.h"

#include <sys/mman.h>

void *sl__pages_alloc(size_t bytes)
{
    if (bytes == 0) bytes = 1;
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void sl__pages_free(void *pages, size_t bytes)
{
    if (pages) munmap(pages, bytes ? bytes : 1);
}
