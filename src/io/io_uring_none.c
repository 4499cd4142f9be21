/* In the place of io_uring_linux.c where the system or the build has no liburing. */
#include "base/fail.h"
#include "io/io_engine.h"

sl_status sl__io_uring_create(sl__io **out, const sl__io_options *opt, sl_error *err)
{
    (void)out;
    (void)opt;
    return SL_FAIL(err, SL_EUNSUPPORTED, "this build has no io_uring");
}

uint64_t sl__io_uring_footprint(const sl__io_options *opt)
{
    (void)opt;
    return 0;
}

bool sl__io_uring_works(void)
{
    return false;
}
