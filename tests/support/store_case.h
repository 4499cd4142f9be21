/* A test of the store: a folder of its own, a tiny pack's content, and how results are checked. */
#ifndef SL_TEST_STORE_CASE_H
#define SL_TEST_STORE_CASE_H

#include "pack_fixture.h"
#include "sluice.h"

extern char case_temp[1024];  /* the folder of the running test */
extern pack_fixture case_fix; /* its content to pack */

/* cmocka's set-up and tear-down. */
int case_begin(void **state);
int case_end(void **state);

/* case_temp/name; the result lives until the eighth call after. */
const char *case_path(const char *name);

/* Fails with the error's message unless the status is SL_OK. */
void case_must(sl_status status, const sl_error *err);

/* The status, and texts that the message must hold (NULL ends them). */
void case_expect(sl_status got, const sl_error *err, sl_status status, ...);
#define case_expect_clear(got, err, ...)                                                           \
    (case_expect((got), (err), __VA_ARGS__), sl_error_clear(err))

#endif
