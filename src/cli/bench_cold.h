/* A cold start: a model's files out of the system's page cache, and how far that went. */
#ifndef SL_CLI_BENCH_COLD_H
#define SL_CLI_BENCH_COLD_H

#include <stdbool.h>
#include <stdint.h>

typedef struct bench_pages {
    uint64_t file_bytes;   /* of all files of the model */
    uint64_t cached_bytes; /* of these, what the page cache holds */
    bool known;            /* false: cached_bytes could not be found out */
} bench_pages;

/* path: a model's folder (its regular files, links followed) or one file. Files that cannot be
 * opened are passed over: the engine is who complains. */
void bench_cold_drop(const char *path);
void bench_cold_look(const char *path, bench_pages *pages);

/* ---- one file; a platform's own -------------------------------------------------------------- */

void bench_file_drop(int fd, uint64_t size);
bool bench_file_cached(int fd, uint64_t size, uint64_t *bytes);

#endif
