/* Checksums in a build without downloads: there is nothing to sum. */
#include "base/fail.h"
#include "hub/hub_digest.h"

sl_status sl__hub_digest_create(sl__hub_digest **out, const char *expected, uint64_t size,
                                sl_error *err)
{
    (void)expected;
    (void)size;
    *out = NULL;
    return SL_FAIL(err, SL_EUNSUPPORTED, "this build has no checksums of downloads");
}

void sl__hub_digest_update(sl__hub_digest *digest, const void *data, size_t size)
{
    (void)digest;
    (void)data;
    (void)size;
}

bool sl__hub_digest_matches(sl__hub_digest *digest)
{
    (void)digest;
    return false;
}

void sl__hub_digest_destroy(sl__hub_digest *digest)
{
    (void)digest;
}
