#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache_case.h"

int cache_case_begin(void **state)
{
    cache_case *c = calloc(1, sizeof *c);
    assert_non_null(c);
    test_temp_dir(c->dir, sizeof c->dir);
    snprintf(c->path, sizeof c->path, "%s/pack", c->dir);
    pack_fixture_init(&c->fix);
    pack_fixture_build(&c->fix, c->path);
    assert_int_equal(sl__store_open(&c->store, c->path, &c->err), SL_OK);
    io_shim_init(&c->shim, 9, NULL);
    const sl__io_options io = {.depth = 2, .pread_fn = io_shim_pread, .pread_ctx = &c->shim};
    assert_int_equal(sl__io_create(&c->io, SL_IO_KIND_PREAD, &io, &c->err), SL_OK);
    const sl__cache_options opt = {
        .budget_bytes = sl__cache_minimum(c->store, CACHE_CASE_LAYERS),
        .verify = SL_VERIFY_ALL,
        .layer_count = CACHE_CASE_LAYERS};
    assert_int_equal(cache_case_create(c, &opt), SL_OK);
    *state = c;
    return 0;
}

int cache_case_end(void **state)
{
    cache_case *c = *state;
    sl__cache_destroy(c->cache);
    sl__io_destroy(c->io);
    io_shim_free(&c->shim);
    sl__store_close(c->store);
    pack_fixture_free(&c->fix);
    test_remove_tree(c->dir);
    free(c);
    return 0;
}

sl_status cache_case_create(cache_case *c, const sl__cache_options *opt)
{
    sl__cache_destroy(c->cache);
    c->cache = NULL;
    sl_error_clear(&c->err);
    return sl__cache_create(&c->cache, c->store, c->io, opt, &c->err);
}

static sl_status use(cache_case *c, uint32_t layer, const uint32_t *ids, uint32_t n)
{
    const sl__expert_layout *layout = sl__store_expert_layout(c->store, layer);
    sl__ticket *ticket;
    uint32_t count = 0;
    sl_error_clear(&c->err);
    sl_status status = sl__cache_request(c->cache, &ticket, layer, ids, n, false, &c->err);
    assert_int_equal(status, SL_OK);
    for (;;) {
        sl__expert_ref ref;
        bool got;
        status = sl__cache_next(c->cache, ticket, true, &ref, &got, &c->err);
        if (status != SL_OK || !got) break;
        assert_int_equal((uintptr_t)ref.record % 64, 0);
        assert_int_equal(ref.expert, ids[ref.index]);
        uint8_t *expected = pack_fixture_record(layout, layer, ref.expert);
        assert_memory_equal(ref.record, expected, layout->record_bytes);
        free(expected);
        sl__cache_release(c->cache, ticket, &ref);
        count++;
    }
    if (status == SL_OK) assert_int_equal(count, n);
    sl__cache_end(c->cache, ticket);
    return status;
}

sl_status cache_case_use(cache_case *c, uint32_t layer, uint32_t expert)
{
    return use(c, layer, &expert, 1);
}

sl_status cache_case_use_layer(cache_case *c, uint32_t layer)
{
    const sl__expert_layout *layout = sl__store_expert_layout(c->store, layer);
    uint32_t ids[64];
    assert_true(layout && layout->expert_count <= 64);
    for (uint32_t i = 0; i < layout->expert_count; i++)
        ids[i] = layout->expert_count - 1 - i;
    return use(c, layer, ids, layout->expert_count);
}

const char *cache_case_file(const cache_case *c, uint32_t layer, uint32_t expert, sl__extent *x)
{
    sl__extent extents[SL_EXPERT_EXTENTS_MAX];
    assert_int_equal(sl__store_expert_extents(c->store, layer, expert, extents), 1);
    *x = extents[0];
    return sl__store_file_path(c->store, x->file);
}

void cache_case_damage(cache_case *c, uint32_t layer, uint32_t expert)
{
    sl__extent x;
    unsigned char byte;
    int fd = open(cache_case_file(c, layer, expert, &x), O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    off_t at = (off_t)(x.offset + x.bytes / 2);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

void cache_case_says(const cache_case *c, sl_status status, uint32_t layer, uint32_t expert,
                     const char *what)
{
    sl__extent x;
    char layer_text[32], expert_text[32];
    snprintf(layer_text, sizeof layer_text, "layer %u", layer);
    snprintf(expert_text, sizeof expert_text, "expert %u", expert);
    const char *texts[] = {cache_case_file(c, layer, expert, &x), layer_text, expert_text, what};
    assert_int_equal(c->err.status, status);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (!strstr(c->err.message, texts[i]))
            fail_msg("'%s' is not in: %s", texts[i], c->err.message);
    }
}

sl__cache_stats cache_case_stats(const cache_case *c)
{
    sl__cache_stats s;
    sl__cache_stats_get(c->cache, &s);
    assert_int_equal(s.requests, s.hits + s.joins + s.misses);
    return s;
}
