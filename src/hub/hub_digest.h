/* The checksums by which the hub names contents: SHA-256 of a large file, and of a small one the
 * SHA-1 that git computes, over "blob SIZE", a NUL and the bytes. Private to this room. */
#ifndef SL_HUB_HUB_DIGEST_H
#define SL_HUB_HUB_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sluice.h"

typedef struct sl__hub_digest sl__hub_digest;

/* Begins the sum of a file of `size` bytes, of the kind that `expected` is by its digits: 64 or 40.
 * SL_EUNSUPPORTED in a build without downloads. */
sl_status sl__hub_digest_create(sl__hub_digest **out, const char *expected, uint64_t size,
                                sl_error *err);
void sl__hub_digest_update(sl__hub_digest *digest, const void *data, size_t size);
/* Ends the sum: whether it is the one that was expected. Nothing but destroy may follow. */
bool sl__hub_digest_matches(sl__hub_digest *digest);
void sl__hub_digest_destroy(sl__hub_digest *digest); /* NULL is allowed */

#endif
