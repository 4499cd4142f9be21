/* Small files read whole, and files written so that they are whole or not there. */
#ifndef SL_BASE_FILE_H
#define SL_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "sluice.h"

#define SL_PATH_MAX 4096u

/* Reads a regular file of at most max_bytes. *data is allocated with malloc, NUL-terminated, owned
 * by the caller. */
sl_status sl__file_read(const char *path, uint64_t max_bytes, char **data, size_t *size,
                        sl_error *err);

/* Writes path ".tmp", syncs and renames over path, then syncs the folder; on failure path is as
 * it was and the temporary file is gone. */
sl_status sl__file_write_atomic(const char *path, const void *data, size_t size, sl_error *err);

/* Opens a regular file for reading (O_CLOEXEC); *size is its size. The caller closes *fd. */
sl_status sl__file_open(const char *path, int *fd, uint64_t *size, sl_error *err);

/* The same past the page cache (O_DIRECT; F_NOCACHE on macOS); -1 where the file system has no such
 * thing, or the file cannot be opened. The caller closes it. */
int sl__file_open_direct(const char *path);

/* Asks the system to forget what it has in memory of the file's pages in a range, so that a read
 * goes to the disk. A hint: what is mapped or not yet written stays. */
void sl__file_forget(int fd, uint64_t offset, uint64_t bytes);

/* pread until size bytes came; a file that ends early is SL_EFORMAT. path is for the message. */
sl_status sl__file_pread_all(int fd, const char *path, void *dst, uint64_t size, uint64_t offset,
                             sl_error *err);
/* pwrite until size bytes went. */
sl_status sl__file_pwrite_all(int fd, const char *path, const void *src, uint64_t size,
                              uint64_t offset, sl_error *err);

/* Waits until what was written to an open file would outlive a loss of power; -1 and errno where it
 * would not. */
int sl__file_sync(int fd);
sl_status sl__file_sync_dir(const char *path, sl_error *err); /* the same of a folder's names */
/* Asks the system to begin writing a range of an open file to the disk, so that less is left to do
 * when it is synced. A hint: it may wait where much is being written already. */
void sl__file_write_behind(int fd, uint64_t offset, uint64_t bytes);

/* Bytes that may still be written to the file system of path, or of the nearest folder above it
 * that is there. */
sl_status sl__file_free_bytes(const char *path, uint64_t *out, sl_error *err);

/* False only where nothing has this name. What is there but cannot be followed or looked at (a link
 * to nowhere or to itself) exists: whoever opens it gets the system's reason, and a file that was
 * meant to be read is not taken for one that was left out. */
bool sl__file_exists(const char *path);
bool sl__file_is_dir(const char *path);

/* The folder that holds path: "." where path names none. */
void sl__path_parent(char out[SL_PATH_MAX], const char *path);

/* "dir/name" into out[out_size]; SL_EINVAL where it does not fit, or where name is absolute or
 * holds a ".." component or a NUL: names in files must not lead out of the folder. */
sl_status sl__path_join(char *out, size_t out_size, const char *dir, const char *name,
                        sl_error *err);

#endif
