/* The files of a model, one after the other: a folder is listed, not descended into, and a part of
 * a split GGUF file, NAME-00001-of-00003.gguf, stands for all. */
#include "cli/bench_cold.h"

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
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

static void visit_parts(const char *path, file_fn fn, void *ctx)
{
    const size_t tail = sizeof "-00001-of-00001.gguf" - 1;
    char part[SL_PATH_MAX];
    size_t size = strlen(path), at = size > tail ? size - tail : 0;
    unsigned number, count = 0;
    if (sscanf(path + at, "-%5u-of-%5u.gguf", &number, &count) != 2 || size >= sizeof part) {
        visit_file(path, fn, ctx);
        return;
    }
    for (unsigned i = 1; i <= count; i++) {
        snprintf(part, sizeof part, "%.*s-%05u%s", (int)at, path, i, path + at + 6);
        visit_file(part, fn, ctx);
    }
}

static void visit(const char *path, file_fn fn, void *ctx)
{
    DIR *folder = opendir(path);
    if (!folder) {
        visit_parts(path, fn, ctx);
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
