/* The cache over a real pack: every record comes out as it was packed, and damage to the files is
 * an error that names file, layer and expert. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cache/cache.h"
#include "pack_fixture.h"
#include "test_env.h"

static const uint32_t served[] = {0, 2, 5}; /* the fixture's; the layers between have no experts */
#define LAYERS 6u

typedef struct bed {
    char dir[256], path[300];
    pack_fixture fix;
    sl__store *store;
    sl__io *io;
    sl__cache *cache;
    sl_error err;
} bed;

static int setup(void **state)
{
    bed *b = calloc(1, sizeof *b);
    assert_non_null(b);
    test_temp_dir(b->dir, sizeof b->dir);
    snprintf(b->path, sizeof b->path, "%s/pack", b->dir);
    pack_fixture_init(&b->fix);
    pack_fixture_build(&b->fix, b->path);
    assert_int_equal(sl__store_open(&b->store, b->path, &b->err), SL_OK);
    assert_int_equal(sl__io_create(&b->io, SL_IO_KIND_PREAD, NULL, &b->err), SL_OK);
    const sl__cache_options opt = {.budget_bytes = sl__cache_minimum(b->store, LAYERS),
                                   .verify = SL_VERIFY_ALL,
                                   .layer_count = LAYERS};
    assert_int_equal(sl__cache_create(&b->cache, b->store, b->io, &opt, &b->err), SL_OK);
    assert_int_equal(sl__cache_slots(b->cache), 2);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    bed *b = *state;
    sl__cache_destroy(b->cache);
    sl__io_destroy(b->io);
    sl__store_close(b->store);
    pack_fixture_free(&b->fix);
    test_remove_tree(b->dir);
    free(b);
    return 0;
}

/* Uses every expert of a layer; the first failure ends it. */
static sl_status use_layer(bed *b, uint32_t layer)
{
    const sl__expert_layout *layout = sl__store_expert_layout(b->store, layer);
    uint32_t ids[64], count = 0;
    assert_true(layout && layout->expert_count <= 64);
    for (uint32_t i = 0; i < layout->expert_count; i++)
        ids[i] = layout->expert_count - 1 - i;
    sl__ticket *ticket;
    sl_error_clear(&b->err);
    sl_status status =
        sl__cache_request(b->cache, &ticket, layer, ids, layout->expert_count, false, &b->err);
    assert_int_equal(status, SL_OK);
    for (;;) {
        sl__expert_ref ref;
        bool got;
        status = sl__cache_next(b->cache, ticket, true, &ref, &got, &b->err);
        if (status != SL_OK || !got) break;
        uint8_t *expected = pack_fixture_record(layout, layer, ref.expert);
        assert_memory_equal(ref.record, expected, layout->record_bytes);
        free(expected);
        sl__cache_release(b->cache, ticket, &ref);
        count++;
    }
    if (status == SL_OK) assert_int_equal(count, layout->expert_count);
    sl__cache_end(b->cache, ticket);
    return status;
}

static sl__extent extent_of(const bed *b, uint32_t layer, uint32_t expert)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    assert_int_equal(sl__store_expert_extents(b->store, layer, expert, extents), 1);
    return extents[0];
}

static void test_records_come_as_packed(void **state)
{
    bed *b = *state;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 3; i++)
            assert_int_equal(use_layer(b, served[i]), SL_OK);
    }
}

static void test_damaged_record(void **state)
{
    bed *b = *state;
    sl__extent x = extent_of(b, 2, 1);
    const char *path = sl__store_file_path(b->store, x.file);
    unsigned char byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, (off_t)x.offset), 1);
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)x.offset), 1);
    assert_int_equal(use_layer(b, 2), SL_ECORRUPT);
    assert_non_null(strstr(b->err.message, path));
    assert_non_null(strstr(b->err.message, "layer 2"));
    assert_non_null(strstr(b->err.message, "expert 1"));
    assert_int_equal(use_layer(b, 5), SL_OK); /* the others are as good as before */
    byte ^= 1;
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)x.offset), 1);
    assert_int_equal(use_layer(b, 2), SL_OK);
    close(fd);
}

/* Cut after it was opened, under the engine's feet. */
static void test_file_cut_short(void **state)
{
    bed *b = *state;
    const sl__expert_layout *layout = sl__store_expert_layout(b->store, 5);
    uint32_t last = layout->expert_count - 1;
    sl__extent x = extent_of(b, 5, last);
    const char *path = sl__store_file_path(b->store, x.file);
    char text[700];
    assert_int_equal(truncate(path, (off_t)(x.offset + x.bytes - 1)), 0);
    assert_int_equal(use_layer(b, 5), SL_EFORMAT);
    snprintf(text, sizeof text, "%s: layer 5 expert %u: the file ends early", path, last);
    assert_string_equal(b->err.message, text);
    assert_int_equal(use_layer(b, 0), SL_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_records_come_as_packed, setup, teardown),
        cmocka_unit_test_setup_teardown(test_damaged_record, setup, teardown),
        cmocka_unit_test_setup_teardown(test_file_cut_short, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
