/* Failing with context: the first cause is kept, in one line that names the file and the thing. */
#ifndef SL_BASE_FAIL_H
#define SL_BASE_FAIL_H

#include <assert.h>

#include "sluice.h"

/* Records status and message in err (may be NULL), unless err already holds an earlier failure.
 * Control characters in the formatted text are shown as '?', so that a name from a file cannot
 * break the line. Returns status. Use through SL_FAIL. */
sl_status sl__fail(sl_error *err, sl_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* return SL_FAIL(err, SL_EFORMAT, "%s: tensor %s ends past the end of the file", path, name);
 * The value is `status` itself (evaluated twice), so that a compiler sees that it is not SL_OK. */
#define SL_FAIL(err, status, ...) ((void)sl__fail((err), (status), __VA_ARGS__), (status))

/* For a failed allocation; what says of what, such as "tensor table". */
#define SL_FAIL_NOMEM(err, what) SL_FAIL((err), SL_ENOMEM, "out of memory (%s)", (what))

/* if (...) return of a failing call:  SL_TRY(read_header(f, err)); */
#define SL_TRY(call)                                                                               \
    do {                                                                                           \
        sl_status sl_try_status_ = (call);                                                         \
        if (sl_try_status_ != SL_OK) return sl_try_status_;                                        \
    } while (0)

#endif
