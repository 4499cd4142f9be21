/* The files of a model, one after the other: a folder is listed, not descended into. */
#include "cli/bench_cold.h"

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <unistd.h>

#include "base/file.h"

typedef void (*file_fn)(void *ctx, int fd, uint64_t size);

static void visit_file(const char *path, file_fn fn, void *ctx)
{
    int fd;
    uint64_t size;
    if (sl__file_open(path, &fd, &size, NULL) != SL_OK) return;
    fn(ctx, fd, size);
    close(fd);
}

static void visit(const char *path, file_fn fn, void *ctx)
{
    DIR *folder = opendir(path);
    if (!folder) {
        visit_file(path, fn, ctx);
        return;
    }
    const struct dirent *entry;
    while ((entry = readdir(folder)) != NULL) {
        char file[SL_PATH_MAX];
        if (sl__path_join(file, sizeof file, path, entry->d_name, NULL) == SL_OK)
            visit_file(file, fn, ctx);
    }
    closedir(folder);
}

static void drop(void *ctx, int fd, uint64_t size)
{
    (void)ctx;
    bench_file_drop(fd, size);
}

static void look(void *ctx, int fd, uint64_t size)
{
    bench_pages *pages = ctx;
    uint64_t bytes = 0;
    pages->known = bench_file_cached(fd, size, &bytes) && pages->known;
    pages->file_bytes += size;
    pages->cached_bytes += bytes;
}

void bench_cold_drop(const char *path)
{
    visit(path, drop, NULL);
}

void bench_cold_look(const char *path, bench_pages *pages)
{
    *pages = (bench_pages){.known = true};
    visit(path, look, pages);
}
