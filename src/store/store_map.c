/* Files mapped into memory, whole, for the baseline that reads by page faults. A mapping stays
 * until the store is closed. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fail.h"
#include "store/store_private.h"

const void *sl__store_map(sl__store *store, uint32_t file, sl_error *err)
{
    assert(file < store->file_count);
    sl__store_file *f = &store->files[file];
    struct stat st;
    if (f->map) return f->map;
    if (f->bytes == 0 || f->bytes > SIZE_MAX) {
        (void)SL_FAIL(err, SL_EUNSUPPORTED, "%s: a file of %llu bytes cannot be mapped", f->path,
                      (unsigned long long)f->bytes);
        return NULL;
    }
    /* Touching a page behind a file's end kills the process. */
    if (fstat(f->fd, &st) == 0 && (uint64_t)st.st_size < f->bytes) {
        (void)SL_FAIL(err, SL_EFORMAT, "%s: the file ends early", f->path);
        return NULL;
    }
    void *map = mmap(NULL, (size_t)f->bytes, PROT_READ, MAP_SHARED, f->fd, 0);
    if (map == MAP_FAILED) {
        (void)SL_FAIL(err, errno == ENOMEM ? SL_ENOMEM : SL_EIO, "%s: it cannot be mapped: %s",
                      f->path, strerror(errno));
        return NULL;
    }
    f->map = map;
    return map;
}

void sl__store_map_advise(sl__store *store, uint32_t file, uint64_t offset, uint64_t bytes,
                          sl__map_advice advice)
{
    static const int advices[] = {[SL_MAP_NORMAL] = MADV_NORMAL,
                                  [SL_MAP_RANDOM] = MADV_RANDOM,
                                  [SL_MAP_WILLNEED] = MADV_WILLNEED,
                                  [SL_MAP_DONTNEED] = MADV_DONTNEED};
    assert(file < store->file_count);
    sl__store_file *f = &store->files[file];
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), begin = offset / page * page;
    assert(f->map && offset <= f->bytes && bytes <= f->bytes - offset);
    (void)madvise((char *)f->map + begin, (size_t)(offset + bytes - begin), advices[advice]);
}

void sl__store_unmap(sl__store *store)
{
    for (uint32_t i = 0; store->files && i < store->file_count; i++) {
        if (store->files[i].map) munmap(store->files[i].map, (size_t)store->files[i].bytes);
        store->files[i].map = NULL;
    }
}
