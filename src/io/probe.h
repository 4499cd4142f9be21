/* How a device is read best: a short measurement on the files themselves, and remembering it.
 *
 * Points: {uring, pread} × {direct, page cache} × piece sizes × depths, each read at places all
 * over the files and not in the page cache. A coarse pass finds the best engine and way, a fine
 * pass piece size and depth; the choice is the cheapest point (fewer pieces in flight, larger
 * pieces) within a few per cent of the best.
 */
#ifndef SL_IO_PROBE_H
#define SL_IO_PROBE_H

#include "io/io.h"

#define SL_PROBE_TIME_NS UINT64_C(500000000) /* unless asked otherwise */

typedef struct sl__probe_file {
    const char *path; /* for messages */
    int fd;           /* through the page cache */
    int direct_fd;    /* past it; -1: the file system has no such thing */
    uint64_t bytes;
} sl__probe_file;

/* expert_bytes: the size of the reads that will be made, from which pieces are cut; above 0.
 * Ends within time_ns: what the present rate says would end later is not begun. Where nothing could
 * be measured (no files, or none of them out of the page cache) the choice is a guess and its
 * bytes_per_s 0; where every way of reading failed that is SL_EIO or SL_EFORMAT, naming the file.
 * Holds at most 64 MiB meanwhile. */
sl_status sl__probe_run(sl_probe_result *result, const sl__probe_file *files, uint32_t count,
                        uint64_t expert_bytes, uint64_t time_ns, sl_error *err);

/* What the findings for a file are remembered under: its device, the system's release. Printable
 * ASCII; "" where the file says nothing. */
void sl__probe_device(char out[64], int fd);

/* The remembered choice for result->device and a size of experts (sizes from a power of two up to
 * the next share one). False leaves the result alone. A file that cannot be read or understood
 * remembers nothing and is no failure; it is replaced, whole or not at all, by the next save. Nor
 * is a choice remembered that this system could not follow. */
bool sl__probe_recall(sl_probe_result *result, const char *path, uint64_t expert_bytes);
/* Leaves the findings for other devices and sizes as they were. Of several writers at a time one
 * may undo the other's entry, no more. */
sl_status sl__probe_save(const sl_probe_result *result, const char *path, uint64_t expert_bytes,
                         sl_error *err);

/* sl__probe_recall on the content of such a file. */
bool sl__probe_parse(sl_probe_result *result, const char *text, size_t size, uint64_t expert_bytes);

#endif
