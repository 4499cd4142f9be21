/* The engines, as sl__io_create sees them. opt holds no zeros that stand for defaults. */
#ifndef SL_IO_IO_ENGINE_H
#define SL_IO_IO_ENGINE_H

#include "io/io.h"

sl_status sl__io_pread_create(sl__io **out, const sl__io_options *opt, sl_error *err);
uint64_t sl__io_pread_footprint(const sl__io_options *opt);

/* io_uring_linux.c; io_uring_none.c where the build has no liburing. */
sl_status sl__io_uring_create(sl__io **out, const sl__io_options *opt, sl_error *err);
uint64_t sl__io_uring_footprint(const sl__io_options *opt);
bool sl__io_uring_works(void);

#endif
