/* Checksums, by OpenSSL's libcrypto. */
#include <openssl/evp.h>

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fail.h"
#include "hub/hub_digest.h"
#include "hub/hub_list.h"

struct sl__hub_digest {
    EVP_MD_CTX *md;
    bool failed; /* the library refused; the sum matches nothing */
    char expected[SL_HUB_SHA256_DIGITS + 1];
};

sl_status sl__hub_digest_create(sl__hub_digest **out, const char *expected, uint64_t size,
                                sl_error *err)
{
    size_t digits = strlen(expected);
    bool large = digits == SL_HUB_SHA256_DIGITS;
    assert(large || digits == SL_HUB_COMMIT_TEXT - 1);
    sl__hub_digest *digest = calloc(1, sizeof *digest);
    if (!digest) return SL_FAIL_NOMEM(err, "checksum");
    memcpy(digest->expected, expected, digits + 1);
    digest->md = EVP_MD_CTX_new();
    if (!digest->md ||
        EVP_DigestInit_ex(digest->md, large ? EVP_sha256() : EVP_sha1(), NULL) != 1) {
        sl__hub_digest_destroy(digest);
        return SL_FAIL_NOMEM(err, "checksum");
    }
    char head[32];
    int n = snprintf(head, sizeof head, "blob %" PRIu64, size);
    if (!large) sl__hub_digest_update(digest, head, (size_t)n + 1);
    *out = digest;
    return SL_OK;
}

void sl__hub_digest_update(sl__hub_digest *digest, const void *data, size_t size)
{
    if (EVP_DigestUpdate(digest->md, data, size) != 1) digest->failed = true;
}

bool sl__hub_digest_matches(sl__hub_digest *digest)
{
    unsigned char sum[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    char text[2 * EVP_MAX_MD_SIZE + 1];
    if (digest->failed || EVP_DigestFinal_ex(digest->md, sum, &size) != 1) return false;
    for (unsigned i = 0; i < size; i++)
        snprintf(text + 2 * (size_t)i, 3, "%02x", sum[i]);
    return strcmp(text, digest->expected) == 0;
}

void sl__hub_digest_destroy(sl__hub_digest *digest)
{
    if (!digest) return;
    EVP_MD_CTX_free(digest->md);
    free(digest);
}
