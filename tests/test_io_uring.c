/* Systems that have less of io_uring, or none: rings are refused as those would. */
#include <errno.h>
#include <linux/io_uring.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "io_fixture.h"
#include "io_shim.h"

struct io_uring;
int __wrap_io_uring_queue_init_params(unsigned n, struct io_uring *r, struct io_uring_params *p);
/* Weak: there is none in a build without liburing. */
__attribute__((weak)) int __real_io_uring_queue_init_params(unsigned n, struct io_uring *r,
                                                            struct io_uring_params *p);

static struct {
    int refuse;           /* -errno of every ring; 0: none is refused */
    unsigned known_flags; /* others are refused as an older system does */
    unsigned flags;       /* of the ring that was made last */
} kernel = {.known_flags = ~0u};

int __wrap_io_uring_queue_init_params(unsigned n, struct io_uring *r, struct io_uring_params *p)
{
    if (kernel.refuse != 0) return kernel.refuse;
    if ((p->flags & ~kernel.known_flags) != 0) return -EINVAL;
    kernel.flags = p->flags;
    return __real_io_uring_queue_init_params(n, r, p);
}

static void test_older_systems(void **state)
{
    io_fixture *f = *state;
    if (!io_test_uring()) skip();
    static const unsigned known[] = {~0u, IORING_SETUP_COOP_TASKRUN, 0};
    unsigned char *dst = malloc(IO_FILE_BYTES);
    for (unsigned i = 0; i < 3; i++) {
        kernel.known_flags = known[i];
        assert_true(sl__io_has_uring());
        sl__io *io = io_make_with(SL_IO_KIND_URING, NULL);
        assert_int_equal(kernel.flags & ~known[i], 0);
        assert_int_equal(kernel.flags != 0, known[i] != 0);
        sl__io_read r = io_read_of(f, 0, IO_FILE_BYTES, dst, i);
        memset(dst, 0, IO_FILE_BYTES);
        io_submit_ok(io, &r, 1);
        assert_int_equal(io_reap_one(io).status, SL_OK);
        assert_memory_equal(dst, f->content, IO_FILE_BYTES);
        sl__io_destroy(io);
    }
    kernel.known_flags = ~0u;
    free(dst);
}

static void test_no_uring(void **state)
{
    (void)state;
    bool is_built = __real_io_uring_queue_init_params != NULL;
    sl__io *io = NULL;
    sl_error err = {0};
    kernel.refuse = -ENOSYS;
    assert_false(sl__io_has_uring());
    assert_int_equal(sl__io_create(&io, SL_IO_KIND_URING, NULL, &err), SL_EUNSUPPORTED);
    assert_null(io);
    assert_string_equal(err.message, is_built ? "io_uring cannot be had: Function not implemented"
                                              : "this build has no io_uring");
    kernel.refuse = 0;

    io_shim shim;
    io_shim_init(&shim, 1, NULL);
    const sl__io_options opt = {.pread_fn = io_shim_pread, .pread_ctx = &shim};
    sl_error_clear(&err);
    assert_int_equal(sl__io_create(&io, SL_IO_KIND_URING, &opt, &err), SL_EINVAL);
    assert_string_equal(err.message, "no engine of reads: uring with a pread of the caller's");
    io_shim_free(&shim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_older_systems),
        cmocka_unit_test(test_no_uring),
    };
    return cmocka_run_group_tests(tests, io_setup_uring, io_teardown);
}
