/* A store of synthetic experts for the tests of the cache: it defines those functions of
 * store/store.h that the cache calls, and is linked into test programs in the real store's place.
 *
 * Each layer has its own number of experts, record size and number of extents; a record's extents
 * lie in two files a layer, out of order, with gaps between them in the record.
 */
#ifndef SL_TEST_FAKE_STORE_H
#define SL_TEST_FAKE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

typedef struct fake_layer {
    uint32_t experts; /* 0: a layer without experts */
    uint32_t extents;
    uint32_t extent_bytes; /* of each; a record has 64-aligned room for every extent */
} fake_layer;

/* Writes the files into dir, which must exist and outlive the store. */
sl__store *fake_store_open(const char *dir, const fake_layer *layers, uint32_t layer_count);
void fake_store_close(sl__store *store);

/* Whether the record holds what was written for this expert. */
bool fake_store_matches(const sl__store *store, uint32_t layer, uint32_t expert,
                        const void *record);
uint64_t fake_store_disk_bytes(const sl__store *store, uint32_t layer);
/* Flips a bit of an expert in its file, or flips it back. */
void fake_store_damage(sl__store *store, uint32_t layer, uint32_t expert);
uint64_t fake_store_verify_calls(const sl__store *store);

#endif
