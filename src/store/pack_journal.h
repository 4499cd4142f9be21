/* The journal of a pack that is being written: what is finished, and who is writing.
 *
 *     {"journal":"sluice-pack","version":1,"fingerprint":"…","plan":"…"}
 *     {"file":"resident.bin","bytes":8192,"xxh3":"16 digits a tensor, one after the other"}
 *     {"file":"experts-000.bin","bytes":…,"xxh3":"16 digits a record"}
 *
 * A line is written after its file was synced, and is synced itself. Lines from the first torn or
 * strange one on are cut off. The file also carries the lock: two processes cannot write the same
 * pack.
 */
#ifndef SL_STORE_PACK_JOURNAL_H
#define SL_STORE_PACK_JOURNAL_H

#include "base/file.h"

typedef struct sl__pack_journal {
    int fd;       /* -1: closed */
    uint64_t end; /* of the last whole line */
    char path[SL_PATH_MAX];
} sl__pack_journal;

/* Gets each line after the first, in order. sums is borrowed for the call. */
typedef sl_status (*sl__pack_journal_fn)(void *ctx, const char *name, uint64_t bytes,
                                         const uint64_t *sums, size_t count, sl_error *err);

/* Opens folder's journal, or begins it, and locks it. A journal of another fingerprint or plan is
 * an error, unless nothing was finished under it: then it is begun anew. On failure nothing is
 * left open. */
sl_status sl__pack_journal_open(sl__pack_journal *journal, const char *folder,
                                const char *fingerprint, uint64_t plan, sl__pack_journal_fn fn,
                                void *ctx, sl_error *err);

/* On failure the journal is as it was. */
sl_status sl__pack_journal_add(sl__pack_journal *journal, const char *name, uint64_t bytes,
                               const uint64_t *sums, size_t count, sl_error *err);

void sl__pack_journal_close(sl__pack_journal *journal); /* gives the lock back; twice is allowed */

#endif
