/* HTTP in a build without libcurl and libcrypto. */
#include <assert.h>

#include "base/fail.h"
#include "hub/hub_http.h"

sl_status sl__http_create(sl__http **out, uint32_t connections, sl_error *err)
{
    (void)connections;
    *out = NULL;
    return SL_FAIL(err, SL_EUNSUPPORTED,
                   "this build has no downloads: libcurl or libcrypto was not there");
}

void sl__http_destroy(sl__http *http)
{
    assert(!http);
}

sl_status sl__http_begin(sl__http *http, sl__http_transfer *transfer, sl_error *err)
{
    (void)http;
    (void)transfer;
    return SL_FAIL(err, SL_EUNSUPPORTED, "this build has no downloads");
}

sl__http_transfer *sl__http_next(sl__http *http, uint32_t wait_ms)
{
    (void)http;
    (void)wait_ms;
    return NULL;
}

void sl__http_cancel(sl__http *http, sl__http_transfer *transfer)
{
    (void)http;
    (void)transfer;
}
