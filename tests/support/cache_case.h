/* A test of the cache over a real pack: the fixture's, in a folder of its own, read through the
 * shim. Its layers 0, 2 and 5 have experts. */
#ifndef SL_TEST_CACHE_CASE_H
#define SL_TEST_CACHE_CASE_H

#include "cache/cache.h"
#include "io_shim.h"
#include "pack_fixture.h"

#define CACHE_CASE_LAYERS 6u

typedef struct cache_case {
    char dir[256], path[300]; /* path: the pack */
    pack_fixture fix;
    sl__store *store;
    io_shim shim;
    sl__io *io;
    sl__cache *cache; /* two slots; verifies at every read */
    sl_error err;
} cache_case;

/* cmocka's set-up and tear-down; *state is the case. */
int cache_case_begin(void **state);
int cache_case_end(void **state);

/* Another cache over the same pack, in the place of the case's. */
sl_status cache_case_create(cache_case *c, const sl__cache_options *opt);

/* Uses one expert: what comes is compared with what was packed. */
sl_status cache_case_use(cache_case *c, uint32_t layer, uint32_t expert);
/* Uses every expert of a layer; the first failure ends it. */
sl_status cache_case_use_layer(cache_case *c, uint32_t layer);

/* Where an expert lies: the file, and its one extent. */
const char *cache_case_file(const cache_case *c, uint32_t layer, uint32_t expert, sl__extent *x);
/* Flips a bit of an expert in its file, or flips it back. */
void cache_case_damage(cache_case *c, uint32_t layer, uint32_t expert);
/* The last failure says so, and names file, layer and expert. */
void cache_case_says(const cache_case *c, sl_status status, uint32_t layer, uint32_t expert,
                     const char *what);

sl__cache_stats cache_case_stats(const cache_case *c);

#endif
